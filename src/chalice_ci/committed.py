"""The files of a commit, out of git's objects into a folder.

No work tree, no index, no filter: what is in the tree is written as it is, so nothing of a hostile
`.git/config` or `.gitattributes` gets to run. A tree is hostile as well: names that lead out of the
folder are refused, and links are made last, so that no file is written through one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.state.git_repository import GitFailed, Objects

_SUBMODULE = "160000"
MAX_FILES = 200_000
MAX_BYTES = 2 * 1024 * 1024 * 1024
_AT_ONCE = 32 * 1024 * 1024
"""Bytes that are read in one call of git."""


class TreeRefused(Exception):
    """A tree that is not written; the message goes on after "the commit"."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    mode: str
    oid: str
    size: int
    path: str


def write_tree(objects: Objects, commit: str, into: Path) -> tuple[str, ...]:
    """Write the files of a commit into an empty folder; the answer are the submodules, left out.

    Raises TreeRefused for what a checkout would not have, and GitFailed.
    """
    listed = tuple(_entries(objects, commit))
    entries = tuple(entry for entry in listed if entry.mode != _SUBMODULE)
    if len(entries) > MAX_FILES or sum(entry.size for entry in entries) > MAX_BYTES:
        raise TreeRefused(f"has more than {MAX_FILES} files or {MAX_BYTES} bytes")
    links: list[tuple[Path, bytes]] = []
    for batch in _batches(entries):
        for entry, content in zip(batch, _contents(objects, batch), strict=True):
            target = into / entry.path
            if entry.mode == "120000":
                links.append((target, content))
            else:
                _write(target, content, executable=entry.mode == "100755")
    for target, content in links:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.fsdecode(content))
        except (OSError, ValueError) as error:
            raise TreeRefused(f"has a link that cannot be made: {error}") from error
    return tuple(entry.path for entry in listed if entry.mode == _SUBMODULE)


def _entries(objects: Objects, commit: str) -> Iterator[_Entry]:
    listing = objects.ask("ls-tree", "-r", "-l", "-z", "--full-tree", commit)
    for line in listing.split(b"\0"):
        if not line:
            continue
        head, _, name = line.partition(b"\t")
        mode, kind, oid, size = head.decode("ascii").split()
        path = os.fsdecode(name)
        _check(path)
        if mode == _SUBMODULE:
            yield _Entry(mode=mode, oid=oid, size=0, path=path)
            continue
        if kind != "blob":
            continue
        if not size.isdigit():
            raise GitFailed("ls-tree", f"the object of {path!r} is missing")
        yield _Entry(mode=mode, oid=oid, size=int(size), path=path)


def _check(path: str) -> None:
    for part in path.split("/"):
        if part in ("", ".", "..") or part.lower() in (".git", "git~1"):
            raise TreeRefused(f"has a file named {path[:200]!r}")


def _batches(entries: Iterable[_Entry]) -> Iterator[tuple[_Entry, ...]]:
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        if batch and size + entry.size > _AT_ONCE:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield tuple(batch)


def _contents(objects: Objects, batch: tuple[_Entry, ...]) -> Iterator[bytes]:
    """What each blob holds: `cat-file --batch` answers "<oid> blob <size>", a line, the bytes."""
    asked = "".join(f"{entry.oid}\n" for entry in batch).encode("ascii")
    answer = objects.ask("cat-file", "--batch", data=asked)
    at = 0
    for entry in batch:
        end = answer.index(b"\n", at)
        oid, kind, size = (*answer[at:end].decode("ascii").split(), "", "")[:3]
        if (oid, kind) != (entry.oid, "blob") or int(size) != entry.size:
            raise GitFailed("cat-file", f"the object of {entry.path!r} is missing")
        yield answer[end + 1 : end + 1 + entry.size]
        at = end + 1 + entry.size + 1


def _write(target: Path, content: bytes, *, executable: bool) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(target, flags, 0o755 if executable else 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except (FileExistsError, NotADirectoryError, ValueError) as error:
        raise TreeRefused(f"has two files in the place of {target.name!r}") from error
