"""Dependencies that somebody else collected: Chalice's own packager, in the sandbox.

What came back is hostile. It is looked into like a wheel, and read as the distributions that its
`*.dist-info` folders name, so that the rest - the splicing, the manifest, the limits - is the same.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from packaging.utils import InvalidWheelFilename

from chalice_ci.errors import PackageError
from chalice_ci.package.lock import Wheel
from chalice_ci.package.requirements import Requirements
from chalice_ci.package.source import metadata_of, unfit_libraries
from chalice_ci.package.target import Target
from chalice_ci.package.wheels import Fetched, Member, WheelRefused, file_sha256, inspect_wheel

_RECORD = re.compile(r"([^/]+\.dist-info)/RECORD")
_METADATA = re.compile(r"([^/]+\.dist-info)/METADATA")
_MAX_RECORD = 16 * 1024 * 1024
_REST = "unnamed"


class Packager(Protocol):
    """Collects dependencies into a zip in a folder."""

    @property
    def network(self) -> bool:
        """Whether it resolves by itself instead of with wheels that it gets."""

    def __call__(
        self,
        lines: Sequence[str],
        bounds: Sequence[str],
        wheels: Sequence[Fetched],
        *,
        target: Target,
        folder: Path,
    ) -> Path:
        """Collect what `lines` ask for within `bounds` (constraints), from `wheels` where it has no
        network. Raise PackageError when it cannot.
        """


def pack(
    packager: Packager,
    lines: Sequence[str],
    bounds: Sequence[str],
    wheels: Sequence[Fetched],
    *,
    target: Target,
    requirements: Requirements,
    cache_dir: Path,
) -> tuple[Fetched, ...]:
    """What the packager collected, distribution by distribution, sorted by name.

    Raises PackageError for what is not fit to be packaged.
    """
    folder = cache_dir / "built"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=folder) as work:
        path = packager(lines, bounds, wheels, target=target, folder=Path(work))
        sha256 = file_sha256(path)
        kept = folder / f"collected-{sha256[:32]}.zip"
        path.replace(kept)
    try:
        members = inspect_wheel(kept)
        with zipfile.ZipFile(kept) as archive:
            problem = next(unfit_libraries(archive, target), "")
            found = dict(_distributions(archive, members))
    except (WheelRefused, InvalidWheelFilename, *_UNFIT) as error:
        raise _refused(str(error)) from error
    if problem:
        raise _refused(problem)
    return tuple(
        Fetched(
            wheel=Wheel(
                name=name,
                version=version,
                filename=f"{name}-{version or '0'}-collected.zip",
                url="",
                sha256=sha256,
                direct=bool(requirements.named(name)),
                path=kept,
            ),
            path=kept,
            members=parts,
        )
        for (name, version), parts in sorted(found.items())
    )


_UNFIT = (zipfile.BadZipFile, zlib.error, OSError, ValueError)


def _refused(why: str) -> PackageError:
    return PackageError(
        f"what Chalice's packager collected is not usable: {why}.",
        where="package.builder",
        fix="Take `builder: uv`, or put what you built for Lambda into `vendor/`.",
    )


def _distributions(
    archive: zipfile.ZipFile, members: Sequence[Member]
) -> Iterator[tuple[tuple[str, str], tuple[Member, ...]]]:
    """Name, version and files of each distribution, as their records have it."""
    names = {member.name for member in members}
    owners: dict[str, str] = {}
    for name in sorted(names):
        match = _RECORD.fullmatch(name)
        if match is None:
            continue
        with archive.open(name) as file:
            text = file.read(_MAX_RECORD).decode("utf-8", "replace")
        for row in csv.reader(io.StringIO(text)):
            if row and row[0] in names:
                owners.setdefault(row[0], match.group(1))
    folders = {m.group(1) for name in names if (m := _METADATA.fullmatch(name))}
    parts: dict[str, list[Member]] = {folder: [] for folder in sorted(folders)}
    for member in members:
        top = member.name.partition("/")[0]
        owner = top if top in folders else owners.get(member.name, "")
        parts.setdefault(owner if owner in folders else "", []).append(member)
    told: Mapping[str, tuple[str, str]] = {
        folder: metadata_of(archive, {f"{folder}/METADATA"}) for folder in folders
    }
    for folder, listed in parts.items():
        if listed:
            yield told.get(folder, (_REST, "")), tuple(listed)
