"""What is in a package: its dependencies, its files and the digests of its archives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """A distribution in the package. `size` is unpacked, `packed` in the zip, both in bytes.

    `direct` when requirements.txt names it; `wheel` and `sha256` are the file it came from.
    """

    name: str
    version: str
    direct: bool
    size: int
    packed: int
    wheel: str
    sha256: str


class FileEntry(NamedTuple):
    """A file of an archive: `path` inside the zip, `dependency` the distribution that it is from,
    empty for the project's own and Chalice's files. A tuple, for there are thousands.
    """

    slot: str
    path: str
    size: int
    sha256: str
    dependency: str


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A zip that goes to Lambda: `slot` is "app" or "layer", sizes in bytes."""

    slot: str
    path: Path
    sha256: str
    size: int
    unpacked_size: int
    entries: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that was packaged, sorted; the same inputs give the same text."""

    python: str
    architecture: str
    chalice: str
    dependencies: tuple[Dependency, ...]
    files: tuple[FileEntry, ...]
    digests: tuple[tuple[str, str], ...]
    """(slot, sha256 of the zip) pairs."""

    @cached_property
    def text(self) -> str:
        """The text of manifest.json: a dependency or a file each on a line of its own."""
        fields = {
            "format": _encoded(FORMAT),
            "python": _encoded(self.python),
            "architecture": _encoded(self.architecture),
            "chalice": _encoded(self.chalice),
            "archives": _encoded(dict(self.digests)),
            "dependencies": _listed(_encoded(vars(one)) for one in self.dependencies),
            "files": _listed(map(_row, self.files)),
        }
        lines = ",\n".join(f' "{name}": {text}' for name, text in sorted(fields.items()))
        return f"{{\n{lines}\n}}\n"


# One for all: there may be tens of thousands of files, and a text alone is encoded in no time.
_encoded = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def _row(entry: FileEntry) -> str:
    """As the encoder has it, in a fifth of its time."""
    dependency, path, slot = map(_encoded, (entry.dependency, entry.path, entry.slot))
    sha256, size = _encoded(entry.sha256), entry.size
    return (
        f'{{"dependency": {dependency}, "path": {path}, "sha256": {sha256}, "size": {size}, '
        f'"slot": {slot}}}'
    )


def _listed(encoded: Iterable[str]) -> str:
    rows = ",\n".join(f"  {row}" for row in encoded)
    return f"[\n{rows}\n ]" if rows else "[]"
