"""What changed in the package: distributions, files, and what made it grow."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest

from chalice_ci.difference.changes import (
    MAX_FILES,
    DependencyChange,
    FileChange,
    Growth,
    Kind,
    PackageChanges,
)
from chalice_ci.difference.delta import Delta
from chalice_ci.snapshot import Dependency, File, Snapshot

GROWTHS = 10
"""How many files and how many distributions are named that grew most."""


def package_changes(delta: Delta, before: Snapshot, after: Snapshot) -> PackageChanges:
    """What differs in the archives."""
    files = tuple(_files(delta))
    own = [file for file in files if not file.dependency]
    told = nlargest(MAX_FILES, own, key=lambda file: (abs(file.delta), file.path))
    dependencies = tuple(_dependencies(delta))
    section = delta.section("files")
    return PackageChanges(
        size_before=before.size,
        size_after=after.size,
        unpacked_before=before.unpacked_size,
        unpacked_after=after.unpacked_size,
        dependencies=dependencies,
        files=tuple(sorted(told, key=lambda file: (file.path, file.slot))),
        files_added=len(section.added),
        files_changed=len(section.changed),
        files_removed=len(section.removed),
        own_files=len(own),
        growth=(
            *_largest(
                Growth(kind="dependency", name=d.name, before=d.size_before, after=d.size_after)
                for d in dependencies
            ),
            *_largest(
                Growth(kind="file", name=f.path, before=f.size_before, after=f.size_after)
                for f in files
            ),
        ),
    )


def _largest(growths: Iterator[Growth]) -> list[Growth]:
    grown = (growth for growth in growths if growth.delta > 0)
    # Of two that grew alike the first by name is told.
    ordered = sorted(grown, key=lambda growth: growth.name)
    return nlargest(GROWTHS, ordered, key=lambda growth: growth.delta)


def _files(delta: Delta) -> Iterator[FileChange]:
    section = delta.section("files")
    for file in section.added:
        yield _file(None, file)
    for file in section.removed:
        yield _file(file, None)
    for before, after in section.changed:
        # The same bytes from another distribution are no change that anybody can see.
        if before.sha256 != after.sha256:
            yield _file(before, after)


def _file(before: File | None, after: File | None) -> FileChange:
    one = after or before
    assert one is not None
    return FileChange(
        path=one.path,
        slot=one.slot,
        kind=_kind(before, after),
        dependency=one.dependency,
        size_before=0 if before is None else before.size,
        size_after=0 if after is None else after.size,
    )


def _kind(before: object, after: object) -> Kind:
    return Kind.ADDED if before is None else Kind.REMOVED if after is None else Kind.CHANGED


def _dependencies(delta: Delta) -> Iterator[DependencyChange]:
    section = delta.section("dependencies")
    found = [
        *((None, one) for one in section.added),
        *((one, None) for one in section.removed),
        *(pair for pair in section.changed if _differs(*pair)),
    ]
    yield from sorted((_dependency(*pair) for pair in found), key=lambda change: change.name)


def _differs(before: Dependency, after: Dependency) -> bool:
    """Whether something else is packaged; whether a project names it is no difference by itself."""
    return (before.version, before.sha256, before.size) != (after.version, after.sha256, after.size)


def _dependency(before: Dependency | None, after: Dependency | None) -> DependencyChange:
    one = after or before
    assert one is not None
    return DependencyChange(
        name=one.name,
        kind=_kind(before, after),
        before="" if before is None else before.version,
        after="" if after is None else after.version,
        direct=one.direct,
        size_before=0 if before is None else before.size,
        size_after=0 if after is None else after.size,
        packed_before=0 if before is None else before.packed,
        packed_after=0 if after is None else after.packed,
    )
