"""A disk that fails: the n-th operation that changes something below a folder raises an error.

`python disk.py RULES -- ARGUMENTS` runs `chalice-ci` on such a disk; RULES is JSON:
`{"roots": [...], "nth": 3, "errno": 28, "lasting": true, "log": FILE}`, and `only` for files whose
path has that part. `failing` does the same to the process that it is used in.

Python's own files are written in C, past `os.write`. So `open` is replaced by Python's io in
Python (`_pyio`), and every write, sync, rename, mkdir and so on goes through a function of `os`.
"""

from __future__ import annotations

import _io
import _pyio  # type: ignore[import-not-found]
import builtins
import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
BY_DESCRIPTOR = ("write", "pwrite", "fsync", "fdatasync", "ftruncate", "fchmod")
BY_PATH = ("mkdir", "unlink", "remove", "rmdir", "truncate", "chmod", "utime")
BY_TWO_PATHS = ("rename", "replace", "link", "symlink")


@dataclass(kw_only=True)
class Disk:
    """What fails: the `nth` operation below one of the `roots`, and all after it when `lasting`.

    `seen` are the operations so far: the function and the file.
    """

    roots: tuple[str, ...]
    nth: int = 0
    code: int = errno.ENOSPC
    lasting: bool = False
    only: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether anything failed so far."""
        return 0 < self.nth <= len(self.seen)

    def step(self, operation: str, path: str) -> bool:
        """Count an operation; whether it fails."""
        beneath = any(path == root or path.startswith(f"{root}/") for root in self.roots)
        if not beneath or self.only not in path:
            return False
        self.seen.append((operation, path))
        if self.lasting:
            # A full disk lets files be removed; a read-only one does not.
            frees = self.code == errno.ENOSPC and operation in ("unlink", "remove", "rmdir")
            return 0 < self.nth <= len(self.seen) and not frees
        return self.nth == len(self.seen)

    def error(self, path: str | None) -> OSError:
        """What the system would raise."""
        words = os.strerror(self.code)
        return OSError(self.code, words) if path is None else OSError(self.code, words, path)


@contextlib.contextmanager
def failing(disk: Disk) -> Iterator[Disk]:
    """Put the disk below this process."""
    plain = {name: getattr(os, name) for name in (*BY_DESCRIPTOR, *BY_PATH, *BY_TWO_PATHS, "open")}
    opens = (builtins.open, io.open, _io.open)

    def by_descriptor(name: str) -> Callable[..., Any]:
        def call(descriptor: int, *rest: Any) -> Any:
            path = _path_of(descriptor)
            if disk.step(name, path):
                if name == "write" and len(rest[0]) > 1:
                    # As on a full disk: a part of it is there.
                    plain["write"](descriptor, bytes(rest[0])[: len(rest[0]) // 2])
                raise disk.error(None)
            return plain[name](descriptor, *rest)

        return call

    def by_path(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            known = isinstance(path, int) or more.get("dir_fd") is not None
            shown = "" if known else os.path.abspath(os.fsdecode(path))
            # What is not there is not there on any disk.
            missing = name in ("unlink", "remove", "rmdir") and not os.path.lexists(shown)
            if not missing and disk.step(name, shown):
                raise disk.error(os.fsdecode(path))
            return plain[name](path, *rest, **more)

        return call

    def by_two_paths(name: str) -> Callable[..., Any]:
        def call(source: Any, target: Any, **more: Any) -> Any:
            if disk.step(name, os.path.abspath(os.fsdecode(target))):
                raise disk.error(os.fsdecode(source))
            return plain[name](source, target, **more)

        return call

    def opening(path: Any, flags: int, *rest: Any, **more: Any) -> Any:
        if flags & WRITING and more.get("dir_fd") is None:
            shown = os.path.abspath(os.fsdecode(path))
            if disk.step("open", shown):
                raise disk.error(os.fsdecode(path))
        return plain["open"](path, flags, *rest, **more)

    for name in BY_DESCRIPTOR:
        setattr(os, name, by_descriptor(name))
    for name in BY_PATH:
        setattr(os, name, by_path(name))
    for name in BY_TWO_PATHS:
        setattr(os, name, by_two_paths(name))
    os.open = opening  # type: ignore[assignment]
    builtins.open = io.open = _io.open = _pyio.open
    try:
        yield disk
    finally:
        builtins.open, io.open, _io.open = opens
        for name, function in plain.items():
            setattr(os, name, function)


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def command(rules: dict[str, Any], arguments: Sequence[object]) -> list[str]:
    """The command line of `chalice-ci` on a failing disk."""
    return [sys.executable, "-P", __file__, json.dumps(rules), "--", *map(str, arguments)]


def main() -> None:
    """Run the command; afterwards `log` holds the operations that were seen."""
    rules = json.loads(sys.argv[1])
    disk = Disk(
        roots=tuple(rules["roots"]),
        nth=rules["nth"],
        code=rules["errno"],
        lasting=rules["lasting"],
        only=rules.get("only", ""),
    )
    sys.argv[1:] = sys.argv[3:]
    from chalice_ci.__main__ import main as chalice_ci

    try:
        with failing(disk):
            chalice_ci()
    finally:
        Path(rules["log"]).write_text(json.dumps(disk.seen), encoding="utf-8")


if __name__ == "__main__":
    main()
