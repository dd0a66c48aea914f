"""What is in a package: its dependencies, its files and the digests of its archives."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

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


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of an archive: `path` inside the zip, `dependency` the distribution that it is from,
    empty for the project's own and Chalice's files.
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

    def to_json(self) -> str:
        """The text of manifest.json."""
        document = {
            "format": FORMAT,
            "python": self.python,
            "architecture": self.architecture,
            "chalice": self.chalice,
            "archives": dict(self.digests),
            "dependencies": [asdict(dependency) for dependency in self.dependencies],
            "files": [asdict(file) for file in self.files],
        }
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
