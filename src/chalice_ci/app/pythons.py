"""Finding the Python that an app asks for on this machine.

Every candidate is run before it is believed. pyenv's shims are never taken: they are scripts that
start whatever the current folder asks for.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECONDS = 30
_DESCRIBE = """
import json, os, sys, sysconfig
import ctypes, hashlib, select, ssl, zlib  # _NEEDED
base = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps({
    "executable": os.path.realpath(base),
    "version": "%d.%d.%d" % sys.version_info[:3],
    "full": sys.version,
    "implementation": sys.implementation.name,
    "final": sys.version_info[3] == "final",
    "gil": not sysconfig.get_config_var("Py_GIL_DISABLED"),
}))
"""
_NEEDED = ("ctypes", "hashlib", "select", "ssl", "zlib")
_MINOR = re.compile(r"3\.\d{1,2}")


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that was run: its base executable (never a virtual environment's), its version."""

    executable: Path
    version: str
    identity: str
    """Changes when the interpreter does: its path, version, build, size and time."""

    @property
    def minor(self) -> str:
        """The version that Lambda's runtimes have: "3.12"."""
        return ".".join(self.version.split(".")[:2])


def describe(python: Path) -> Interpreter | None:
    """Run `python`; None when it cannot run, is not CPython, or lacks what Chalice needs.

    Each file is run once: the apps and stages of a run share the answer. The Python that runs us
    need not be started to be known.
    """
    if str(python) == sys.executable:
        return _here()
    try:
        status = python.stat()
    except OSError:
        return None
    return _described(python, (status.st_ino, status.st_size, status.st_mtime_ns))


def _here() -> Interpreter | None:
    base = getattr(sys, "_base_executable", None) or sys.executable
    if not all(importlib.util.find_spec(name) for name in _NEEDED):
        return None
    return _made(
        {
            "executable": os.path.realpath(base),
            "version": ".".join(str(part) for part in sys.version_info[:3]),
            "full": sys.version,
            "implementation": sys.implementation.name,
            "final": sys.version_info[3] == "final",
            "gil": not sysconfig.get_config_var("Py_GIL_DISABLED"),
        }
    )


@functools.lru_cache
def _described(python: Path, _status: tuple[int, int, int]) -> Interpreter | None:
    try:
        done = subprocess.run(
            [str(python), "-I", "-S", "-c", _DESCRIBE],
            env={"PATH": os.defpath},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=True,
        )
        return _made(json.loads(done.stdout))
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None


def _made(said: Mapping[str, Any]) -> Interpreter | None:
    if said["implementation"] != "cpython" or not said["final"] or not said["gil"]:
        return None
    executable = Path(said["executable"])
    status = executable.stat()
    # Whole seconds: a layer of an image keeps no more.
    identity = f"{executable}\n{said['full']}\n{status.st_size}\n{int(status.st_mtime)}"
    return Interpreter(
        executable=executable,
        version=str(said["version"]),
        identity=hashlib.sha256(identity.encode()).hexdigest()[:16],
    )


def find_python(
    wanted: str, *, environ: Mapping[str, str], running: Path | None = None
) -> Interpreter | None:
    """The interpreter for `wanted` ("3.12", or "3.12.1" of which the last part is a preference).

    Looked at, in this order: the running interpreter, PATH, pyenv's versions, the tool cache of
    hosted runners, /usr/local and /usr/bin, uv's own.
    """
    minor = ".".join(wanted.split(".")[:2])
    second: Interpreter | None = None
    for candidate in candidates(minor, environ=environ, running=running):
        found = describe(candidate)
        if found is None or found.minor != minor:
            continue
        if wanted in (found.minor, found.version):
            return found
        second = second or found
    return second


def candidates(
    minor: str, *, environ: Mapping[str, str], running: Path | None = None
) -> Iterator[Path]:
    """Where a Python of the version `minor` could be, each place once; nothing is run."""
    seen: set[Path] = set()
    for candidate in _places(minor, environ, running):
        if "shims" in candidate.parts or candidate in seen or not candidate.exists():
            continue
        seen.add(candidate)
        yield candidate


def _places(minor: str, environ: Mapping[str, str], running: Path | None) -> Iterator[Path]:
    if not _MINOR.fullmatch(minor):
        return
    name = f"python{minor}"
    if running is not None:
        yield running
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        if folder.startswith("/"):
            yield Path(folder, name)
    home = Path(environ.get("HOME") or "/nonexistent")
    pyenv = Path(environ["PYENV_ROOT"]) if environ.get("PYENV_ROOT") else home / ".pyenv"
    yield from _newest(pyenv / "versions", f"{minor}.*", f"bin/{name}")
    tools = Path(environ.get("RUNNER_TOOL_CACHE") or "/opt/hostedtoolcache")
    yield from _newest(tools / "Python", f"{minor}.*", f"*/bin/{name}")
    for prefix in ("/usr/local", "/usr", "/opt/homebrew"):
        yield Path(prefix, "bin", name)
    data = Path(environ["XDG_DATA_HOME"]) if environ.get("XDG_DATA_HOME") else home / ".local/share"
    managed = environ.get("UV_PYTHON_INSTALL_DIR")
    own = Path(managed) if managed else data / "uv" / "python"
    yield from _newest(own, f"cpython-{minor}.*", f"bin/{name}")


def _newest(folder: Path, pattern: str, inside: str) -> Iterator[Path]:
    def by_version(path: Path) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", path.name)[:3])

    try:
        for version in sorted(folder.glob(pattern), key=by_version, reverse=True):
            yield from sorted(version.glob(inside))
    except OSError:
        return
