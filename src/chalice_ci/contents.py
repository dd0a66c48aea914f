"""What fills a package: its files as a tree of two levels, small ones together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from operator import attrgetter

from chalice_ci.snapshot import File, Snapshot

GROUPS = 40
"""How many distributions are told apart."""
FILES = 24
"""How many files of each are."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file or several together; `size` unpacked bytes, `files` how many it stands for."""

    name: str
    size: int
    files: int = 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """What a distribution brings; `name` is "" for the project's own files. Largest part first."""

    name: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return sum(part.size for part in self.parts)

    @property
    def files(self) -> int:
        """How many files it has."""
        return sum(part.files for part in self.parts)


def contents_of(snapshot: Snapshot) -> tuple[Group, ...]:
    """The groups of a package, largest first; at most `GROUPS` and one more for the rest."""
    owned: dict[str, list[File]] = {}
    for file in snapshot.files:
        owned.setdefault(file.dependency, []).append(file)
    groups = sorted(
        (Group(name=name, parts=tuple(_parts(files))) for name, files in owned.items()),
        key=lambda group: (-group.size, group.name),
    )
    few, rest = groups[:GROUPS], groups[GROUPS:]
    if rest:
        parts = sorted(
            (Part(name=one.name or "own files", size=one.size, files=one.files) for one in rest),
            key=lambda part: (-part.size, part.name),
        )
        few.append(Group(name=f"{len(rest)} smaller dependencies", parts=tuple(_few(parts))))
    return tuple(few)


def _parts(files: list[File]) -> Iterator[Part]:
    files.sort(key=attrgetter("path", "slot"))
    largest = nlargest(FILES + 1, files, key=attrgetter("size"))
    if len(files) <= FILES + 1:
        yield from (Part(name=file.path, size=file.size) for file in largest)
        return
    kept = largest[:FILES]
    yield from (Part(name=file.path, size=file.size) for file in kept)
    rest = sum(file.size for file in files) - sum(file.size for file in kept)
    count = len(files) - len(kept)
    yield Part(name=f"{count} smaller files", size=rest, files=count)


def _few(parts: Iterable[Part]) -> Iterator[Part]:
    parts = tuple(parts)
    yield from parts[:FILES]
    if rest := parts[FILES:]:
        yield Part(
            name=f"{len(rest)} more",
            size=sum(part.size for part in rest),
            files=sum(part.files for part in rest),
        )
