"""Keeps what is kept between runs within bounds: what was not used for longest goes first.

Everything in the cache can be made or fetched again and is verified when it is read, so it may go
at any time; what was used a moment ago stays, because another process may be using it still.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.errors import UsageError

FOLDERS = (
    *("environments", "resolutions", "locks", "wheels", "archives", "built", "sources"),
    *("snapshots", "loaders", "uv", "uv-deployer", "uv-pythons"),
)
"""The folders that are trimmed; each entry of one goes or stays as a whole."""

_WHOLE = ("uv", "uv-deployer", "uv-pythons")
_UNITS = {"MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_GRACE = 3600.0
_EVERY = 3600.0
# Drafts and locks of processes that were killed.
_LEFTOVER = 86_400.0


@dataclass(frozen=True, kw_only=True)
class _Entry:
    path: Path
    size: int
    used: float


def read_size(text: str) -> int:
    """Bytes of a size such as "5GB". Raises UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,6}) ?(MB|GB|TB)", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(
            f"{text[:40]!r} is not a size.", where="cache-size", fix="Write it as `5GB` or `500MB`."
        )
    return int(match[1]) * _UNITS[match[2].upper()]


def sealed(text: str, key: str) -> str:
    """A text to keep, below a line that says whose it is, and that it is whole."""
    return f"# {hashlib.sha256(f'{key} {text}'.encode()).hexdigest()}\n{text}"


def unsealed(kept: str, key: str) -> str:
    """The text that was kept; raises ValueError when it is another's or was damaged."""
    text = kept.partition("\n")[2]
    if kept != sealed(text, key):
        raise ValueError("what is kept is damaged")
    return text


def mark_used(*paths: Path) -> None:
    """Note that entries of the cache are in use, so that they go last."""
    for path in paths:
        # A cache that cannot be written is not trimmed either.
        with contextlib.suppress(OSError):
            os.utime(path)


def trim(cache_dir: Path, *, limit: int, clock: Callable[[], float] = time.time) -> int:
    """Remove what was not used for longest until `limit` bytes are left; the bytes that went.

    Looks once an hour at most, and in one process at a time; never waits, never fails.
    """
    mark = cache_dir / ".trimmed"
    with contextlib.suppress(OSError), mark.open("a") as lock:
        status = os.fstat(lock.fileno())
        fresh = status.st_size > 0 and 0 <= clock() - status.st_mtime < _EVERY
        if fresh:
            return 0
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write("trimmed\n")
        return _trimmed(cache_dir, limit, clock())
    return 0


def _trimmed(cache_dir: Path, limit: int, now: float) -> int:
    entries = [entry for name in FOLDERS for entry in _entries(cache_dir / name, now)]
    total, gone = sum(entry.size for entry in entries), 0
    for entry in sorted(entries, key=lambda one: (one.used, one.path)):
        if total - gone <= limit or now - entry.used < _GRACE:
            break
        if _removed(entry.path):
            gone += entry.size
    return gone


def _entries(folder: Path, now: float) -> Iterator[_Entry]:
    if folder.name in _WHOLE:
        if folder.is_dir():
            newest = max(_mtime(path) for path in (folder, *folder.glob("*")))
            yield _Entry(path=folder, size=_size(folder), used=newest)
        return
    with contextlib.suppress(FileNotFoundError):
        for found in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path, used = Path(found.path), _mtime(Path(found.path))
            if not found.name.startswith("."):
                yield _Entry(path=path, size=_size(path), used=used)
            elif now - used > _LEFTOVER:
                _removed(path)


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """The bytes of a file, or of all files below a folder."""
    total, pending = 0, [path]
    while pending:
        with contextlib.suppress(OSError):
            current = pending.pop()
            if current.is_dir() and not current.is_symlink():
                for entry in os.scandir(current):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
            else:
                total += current.lstat().st_size
    return total


def _removed(path: Path) -> bool:
    """Take an entry away at once, then its files: nobody sees half of it."""
    away = path.with_name(f".gone.{os.getpid()}.{path.name}")
    try:
        path.rename(away)
    except OSError:
        return False
    if away.is_dir() and not away.is_symlink():
        shutil.rmtree(away, ignore_errors=True)
    else:
        away.unlink(missing_ok=True)
    return True
