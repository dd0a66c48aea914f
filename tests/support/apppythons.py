"""Pythons that can load an app: a version of Python with a version of Chalice, made once.

They are kept in the machine's temporary folder, one per user, so a second run starts at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from uv import find_uv_bin

from chalice_ci.app.interpreter import reachable_interpreter
from chalice_ci.app.pythons import find_python

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
LATEST = "1.34.0"
PAIRS = (
    *(("1.29.0", "3.10"), ("1.31.4", "3.11"), ("1.33.0", "3.12"), ("1.34.0", "3.13")),
    ("1.34.0", "3.14"),
)


@dataclass(frozen=True, kw_only=True)
class Python:
    executable: Path
    version: str
    chalice: str


@cache
def app_python(chalice: str = LATEST, version: str = RUNNING) -> Python:
    """An environment with Chalice and boto3; skips the test where this Python is not installed."""
    base = find_python(version, environ=os.environ, running=Path(sys.executable))
    if base is None:
        pytest.skip(f"Python {version} is not on this machine")
    cache_dir = Path(tempfile.gettempdir()) / f"chalice-ci-tests-{os.getuid()}"
    mask = os.umask(0o022)
    try:
        cache_dir.mkdir(mode=0o755, exist_ok=True)
        interpreter = reachable_interpreter(base.executable, cache_dir=cache_dir)
        key = f"{chalice}-{version}-{base.identity}"
        with (cache_dir / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = cache_dir / key
            if not (folder / "ready").exists():
                shutil.rmtree(folder, ignore_errors=True)
                _fill(folder, interpreter, chalice)
                (folder / "ready").touch()
    finally:
        os.umask(mask)
    return Python(executable=folder / "bin" / "python", version=version, chalice=chalice)


def _fill(folder: Path, interpreter: Path, chalice: str) -> None:
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--python", interpreter, folder], check=True, timeout=60)
    python = folder / "bin" / "python"
    wanted = [f"chalice=={chalice}", "boto3"]
    command = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, *wanted]
    subprocess.run(command, check=True, timeout=600)
