"""A Python that a process without rights can run.

An app is loaded under a uid that owns nothing. When chalice-ci runs as root, the Python that was
asked for is often below root's home (pyenv, uv), which nobody else may enter: the child could not
even start. `reachable_interpreter` clones such an interpreter, by hard links where it can, to the
cache folder. An environment for an app is then made on top of the clone.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.privilege import acts_for_others

# Uids that are given to loads; checked to be unused. Below 2^31: some file systems stop there.
UID_RANGE = range(200_000, 60_000_000)

_DESCRIBE = """
import json, os, sys
base = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps({
    "executable": os.path.realpath(base),
    "prefix": os.path.realpath(sys.base_prefix),
    "version": "%d.%d" % sys.version_info[:2],
    "full": sys.version,
}))
"""
# What chalice and botocore need of the interpreter's own libraries.
_PROBE = "import ctypes, encodings.idna, hashlib, json, select, socket, ssl, zlib, logging"
_PROBE_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class _Interpreter:
    executable: Path
    prefix: Path
    version: str
    full: str


def reachable_interpreter(python: Path, *, cache_dir: Path) -> Path:
    """The same Python, at a place where a process without rights can run it.

    `python` comes back unchanged when any user can run it, when this process is not root (it then
    cannot give rights away) or when no clone worked: the sandbox probes again and reports a lower
    level. Otherwise the answer is the base interpreter inside a clone below `cache_dir`, which
    must itself be open to others; a virtual environment is resolved to its base, so make the
    app's environment on top of the answer.
    """
    if os.geteuid() != 0 or runs_for_others(python):
        return python
    described = _describe(python)
    if described is None:
        return python
    clone = _clone(described, cache_dir)
    return clone if clone is not None and runs_for_others(clone) else python


def keep_reachable(path: Path, python: Path) -> None:
    """Note in a file that `python` was seen to run for others."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.write_text(json.dumps({"executable": str(python), "status": _status(python)}), "utf-8")
    draft.chmod(0o644)
    draft.replace(path)


def kept_reachable(path: Path) -> Path | None:
    """The Python that was noted, if it is the same file and the way to it is still open to others.

    The sandbox asks again, with the user that it takes, and reports a lower level if it must.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        python = Path(said["executable"])
        open_way = all(folder.stat().st_mode & 0o001 for folder in python.parents)
        return python if open_way and said["status"] == _status(python) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _status(python: Path) -> list[int]:
    status = python.stat()
    # Whole seconds: a layer of an image keeps no more.
    return [status.st_size, int(status.st_mtime), status.st_mode]


def runs_for_others(python: Path) -> bool:
    """Whether a fresh uid without groups can start `python` and import what Chalice needs.

    Only root can ask this; for anybody else the answer is False.
    """
    if os.geteuid() != 0:
        return False
    uid = fresh_uid()
    if uid is None:
        return False
    try:
        done = subprocess.run(
            [str(python), "-I", "-S", "-c", _PROBE],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def fresh_uid() -> int | None:
    """A uid that no process and no account of this machine has, or None where there is none.

    In a user namespace (rootless containers) only the mapped uids exist. A process that may not
    act for others has none to give.
    """
    if not acts_for_others():
        return None
    taken = _uids_in_use()
    for candidates in _uid_ranges():
        for _ in range(1000):
            uid = candidates.start + secrets.randbelow(len(candidates))
            if uid not in taken:
                return uid
    return None


def _uid_ranges() -> Iterator[range]:
    """The mapped parts of UID_RANGE; if there are none, what is mapped above system accounts."""
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        mapped = [(int(line.split()[0]), int(line.split()[2])) for line in lines]
    except (OSError, ValueError, IndexError):
        mapped = [(0, 2**32 - 2)]
    for wanted in (UID_RANGE, range(20_000, 60_000)):
        for start, length in mapped:
            part = range(max(start, wanted.start), min(start + length, wanted.stop))
            if len(part) > 0:
                yield part


def _uids_in_use() -> set[int]:
    taken: set[int] = set()
    try:
        lines = Path("/etc/passwd").read_text(encoding="utf-8", errors="replace").splitlines()
        taken.update(int(line.split(":")[2]) for line in lines if line.count(":") >= 6)
    except (OSError, ValueError):
        pass
    try:
        entries = list(os.scandir("/proc"))
    except OSError:
        return taken
    for entry in entries:
        if entry.name.isdigit():
            try:
                taken.add(entry.stat().st_uid)
            except OSError:
                continue
    return taken


def _describe(python: Path) -> _Interpreter | None:
    try:
        done = subprocess.run(
            [str(python), "-I", "-S", "-c", _DESCRIBE],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        said = json.loads(done.stdout)
        return _Interpreter(
            executable=Path(said["executable"]),
            prefix=Path(said["prefix"]),
            version=str(said["version"]),
            full=str(said["full"]),
        )
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None


def _clone(python: _Interpreter, cache_dir: Path) -> Path | None:
    if not python.executable.is_relative_to(python.prefix):
        return None
    status = python.executable.stat()
    identity = f"{python.prefix}\n{python.full}\n{status.st_mtime_ns}\n{status.st_size}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = cache_dir / "interpreters" / f"{python.version}-{key}"
    executable = target / python.executable.relative_to(python.prefix)
    if executable.exists():
        return executable
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        for folder in (cache_dir, target.parent, draft):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.parent.chmod(0o755)
        _fill(python, draft)
        draft.rename(target)
    except OSError:
        # Another process may have been faster; else there is no clone.
        return executable if executable.exists() else None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return executable


def _fill(python: _Interpreter, draft: Path) -> None:
    """Put what runs a program into `draft`: no packages, no tests, no static library."""
    library = f"python{python.version}"
    left_out = {
        Path("lib", library, name) for name in ("site-packages", "test", "idlelib", "turtledemo")
    }
    draft.chmod(0o755)
    for top in ("bin", "lib", "include"):
        root = python.prefix / top
        for folder, folders, files in os.walk(root):
            here = Path(folder)
            relative = here.relative_to(python.prefix)
            kept = [name for name in folders if relative / name not in left_out]
            if relative == Path("lib"):
                kept = [name for name in kept if name == library]
            folders[:] = [name for name in kept if not (here / name).is_symlink()]
            (draft / relative).mkdir(mode=0o755)
            (draft / relative).chmod(0o755)
            for name in files:
                if relative == Path("bin") and not name.startswith("python"):
                    continue
                if not name.endswith(".a"):
                    _place(here / name, draft / relative / name, python.prefix)
    (draft / "lib" / library / "site-packages").mkdir(mode=0o755)
    executable = draft / python.executable.relative_to(python.prefix)
    _relocate(executable, python.prefix)


def _place(source: Path, target: Path, prefix: Path) -> None:
    if source.is_symlink():
        real = source.resolve()
        if real.is_relative_to(prefix):
            at = source.parent.resolve()
            target.symlink_to(os.path.relpath(real, at))
        elif real.is_file():
            _copy(real, target)
        return
    if not source.is_file():
        return
    if source.stat().st_mode & 0o004:
        try:
            os.link(source, target)
        except OSError:
            _copy(source, target)
    else:
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _relocate(executable: Path, prefix: Path) -> None:
    """Let an executable find its libpython beside itself, not below the prefix it was built for.

    A Python built with a shared library names its folder absolutely (RUNPATH), and the loader
    would look there, where others may not go. The string is replaced in a copy of the file by a
    shorter one, so nothing moves; whether it worked is for the probe to say.
    """
    data = executable.read_bytes()
    built_for = os.fsencode(prefix / "lib") + b"\0"
    beside = b"$ORIGIN/../lib\0"
    if built_for in data and len(beside) <= len(built_for):
        patched = data.replace(built_for, beside.ljust(len(built_for), b"\0"))
        executable.unlink()
        executable.write_bytes(patched)
        executable.chmod(0o755)
