"""From requirements to the wheels of a package, those that are built on the way included.

    references ──► wheels ─┐
    wheels of the project ─┴─► lock ──► what has no wheel? ──► build it, where that is allowed ─┐
                                 ▲                                                             │
                                 └─────────────────────────────────────────────────────────────┘

What a source distribution needs is only known once it is built, so locking and building take turns
until everything has a wheel. uv is told that a source distribution needs nothing meanwhile: to ask
one for its dependencies would run it, here, beside the credentials.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalice_ci.cache import mark_used
from chalice_ci.errors import PackageError
from chalice_ci.package.index import Origins
from chalice_ci.package.lock import Locking, Wheel, lock_sources, lock_wheels, question_key
from chalice_ci.package.references import Kind, Reference, may_be_built
from chalice_ci.package.requirements import Entry, Requirements
from chalice_ci.package.unsolved import NeedsSource
from chalice_ci.package.wheels import fetch_archive, file_sha256

if TYPE_CHECKING:
    from chalice_ci.package.source import Builder, Source

_FORMAT = 1
_ROUNDS = 30
_MAX_FILES = 20_000
_MAX_BYTES = 512 * 1024 * 1024
_NO_PART = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", ".tox"})


@dataclass(frozen=True, kw_only=True)
class Making:
    """How wheels are made of what is none: what may be built, by what, and who may be asked."""

    repo_root: Path
    allowed: Collection[str]
    build: Builder | None
    environ: Mapping[str, str]
    origins: Origins

    def may_build(self, name: str) -> bool:
        """Whether a distribution may be built; `name` is normalised."""
        return may_be_built(name, {*self.allowed, *map(canonicalize_name, self.allowed)})


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The wheels of a package, sorted by name; `requirements` with each reference as a wheel.

    `made` are those of the wheels that no index has.
    """

    wheels: tuple[Wheel, ...]
    requirements: Requirements
    made: tuple[Wheel, ...] = ()


def resolve(requirements: Requirements, locking: Locking, making: Making) -> Resolved:
    """Lock, and build what has no wheel.

    Raises PackageError for what cannot be had, cannot be built, or may not be.
    """
    requirements.check()
    settled, own = _settled(requirements, locking, making)
    brought = tuple(_brought(requirements, locking, making))
    locking = replace(locking, local=(*own, *brought))
    sources = list(_remembered(settled, locking))
    forced = [name for name in requirements.from_source if settled.named(name)]
    if forced and not {one.name for one in sources} >= set(forced):
        sources += lock_sources(settled, locking, forced)
    for _ in range(_ROUNDS):
        built = tuple(_built(sdist, requirements, locking, making) for sdist in sources)
        now = replace(locking, local=(*own, *brought, *built))
        try:
            wheels = lock_wheels(settled, now)
        except NeedsSource as error:
            more = _next(error, settled, now, making, {one.sha256 for one in sources})
            sources += more
            continue
        if sources:
            _remember(settled, locking, sources)
        local = {wheel.sha256 for wheel in now.local}
        made = tuple(wheel for wheel in wheels if wheel.sha256 in local)
        return Resolved(wheels=wheels, requirements=settled, made=made)
    raise PackageError(
        f"after {_ROUNDS} rounds there is still something to build.",
        where=requirements.file,
        fix="Pin the versions of what is built.",
    )


def _next(
    error: NeedsSource,
    requirements: Requirements,
    locking: Locking,
    making: Making,
    known: set[str],
) -> list[Wheel]:
    """The source distributions to build next; the error itself when there are none."""
    names = [name for name in error.names if making.may_build(name)]
    if not names or making.build is None:
        raise error
    found = lock_sources(requirements, locking, names)
    new = [sdist for sdist in found if sdist.sha256 not in known]
    refused = [name for name in error.names if name not in names]
    if not new or (refused and not names):
        raise error
    return new


def _built(sdist: Wheel, requirements: Requirements, locking: Locking, making: Making) -> Wheel:
    from chalice_ci.package.source import Source

    entries = requirements.named(sdist.name)
    hashes = {value for entry in entries for kind, value in entry.hashes if kind == "sha256"}
    where = str(entries[0].at) if entries else requirements.file
    if requirements.require_hashes and sdist.sha256 not in hashes:
        raise PackageError(
            f"the source of {sdist.name} {sdist.version} has none of the hashes given.",
            where=where,
            fix=f"Add `--hash=sha256:{sdist.sha256}` if that is the one you trust.",
        )
    archive, sha256 = fetch_archive(
        sdist, cache_dir=locking.cache_dir, environ=making.environ, origins=making.origins
    )
    source = Source(
        archive=archive,
        sha256=sha256,
        shown=f"{sdist.name} {sdist.version}",
        where=where,
        name=sdist.name,
        version=sdist.version,
    )
    return _wheel_of(source, locking, making)


def _wheel_of(source: Source, locking: Locking, making: Making) -> Wheel:
    from chalice_ci.package.source import built_wheel

    if making.build is None:
        raise PackageError(
            f"{source.shown} has to be built, and nothing builds here.", where=source.where
        )
    return built_wheel(source, locking.target, build=making.build, cache_dir=locking.cache_dir)


# --- what the project brings ----------------------------------------------------------------------


def _settled(
    requirements: Requirements, locking: Locking, making: Making
) -> tuple[Requirements, tuple[Wheel, ...]]:
    """The requirements with each reference as one to a wheel on disk, and those wheels."""
    entries, wheels = [], []
    for reference in requirements.references:
        if reference.marker and not _holds(reference.marker, locking):
            continue
        # What is in the repository is what the commit says.
        if requirements.require_hashes and not reference.sha256 and not reference.is_local:
            raise PackageError(
                f"{reference.shown} has no hash, while others have one.",
                where=str(reference.at),
                fix="Write `#sha256=…` behind its address.",
            )
        wheel = _made(reference, locking, making)
        if wheel.path is None:
            raise AssertionError(wheel)
        extras = f"[{','.join(reference.extras)}]" if reference.extras else ""
        requirement = Requirement(f"{wheel.name}{extras} @ {wheel.path.absolute().as_uri()}")
        hashes = (("sha256", wheel.sha256),) if requirements.require_hashes else ()
        entries.append(Entry(requirement=requirement, at=reference.at, hashes=hashes))
        wheels.append(wheel)
    settled = replace(requirements, entries=(*requirements.entries, *entries), references=())
    return settled, tuple(wheels)


def _holds(marker: str, locking: Locking) -> bool:
    requirement = Requirement(f"x ; {marker}")
    return requirement.marker is None or requirement.marker.evaluate(
        locking.target.marker_environment()
    )


def _made(reference: Reference, locking: Locking, making: Making) -> Wheel:
    """The wheel of one reference."""
    from chalice_ci.package.repository import fetch_repository
    from chalice_ci.package.source import Source, check_wheel

    path: Path
    if reference.kind is Kind.REPOSITORY:
        path, sha256, _ = fetch_repository(
            reference,
            cache_dir=locking.cache_dir,
            environ=making.environ,
            origins=making.origins,
        )
    elif not reference.is_local:
        filename = reference.address.partition("?")[0].rpartition("/")[2]
        wanted = Wheel(
            name=reference.shown,
            version="",
            filename=filename,
            url=reference.address,
            sha256=reference.sha256,
        )
        path, sha256 = fetch_archive(
            wanted,
            cache_dir=locking.cache_dir,
            environ=making.environ,
            origins=making.origins,
        )
        if reference.kind is Kind.WHEEL:
            path = _under_its_name(path, filename, sha256, locking.cache_dir)
    else:
        path = making.repo_root / reference.address
        if reference.kind is Kind.PATH:
            path, sha256 = _packed(path, making.repo_root, locking.cache_dir, str(reference.at))
        else:
            sha256 = file_sha256(path)
        if reference.kind is Kind.WHEEL:
            path = _under_its_name(path, path.name, sha256, locking.cache_dir)
    if reference.sha256 and sha256 != reference.sha256:
        raise PackageError(
            f"{reference.shown} has another hash than the one given.",
            where=str(reference.at),
            fix="Look at what changed; the hash is of the file itself (sha256).",
        )
    shown, where = reference.shown, str(reference.at)
    if reference.kind is Kind.WHEEL:
        wheel = check_wheel(path, locking.target, shown=shown, where=where)
        if reference.name not in (None, wheel.name):
            raise PackageError(
                f"{shown} is called {wheel.name} by its own metadata.",
                where=where,
                fix="Name the distribution as its own metadata does.",
            )
        return wheel
    source = Source(
        archive=path,
        sha256=sha256,
        shown=shown,
        where=where,
        name=reference.name,
        subdirectory=reference.subdirectory,
    )
    return _wheel_of(source, locking, making)


def _brought(requirements: Requirements, locking: Locking, making: Making) -> Iterator[Wheel]:
    """The wheels in the project's own folders (`--find-links`) that run in Lambda."""
    if not requirements.link_folders:
        return
    from chalice_ci.package.source import OtherPlatform, check_wheel

    for folder in requirements.link_folders:
        for path in sorted((making.repo_root / folder).glob("*.whl")):
            real = Path(os.path.realpath(path))
            inside = real.is_relative_to(making.repo_root.resolve())
            if not inside or not real.is_file():
                raise PackageError(
                    "this leaves the project, leads nowhere, or is no file.",
                    where=f"{folder}/{ascii(path.name)[1:-1]}",
                    fix="Put a copy of the wheel there.",
                )
            sha256 = file_sha256(real)
            named = _under_its_name(real, path.name, sha256, locking.cache_dir)
            with contextlib.suppress(OtherPlatform):
                # It lies beside the one that is wanted.
                yield check_wheel(named, locking.target, shown=path.name, where=folder)


def _under_its_name(path: Path, filename: str, sha256: str, cache_dir: Path) -> Path:
    """A copy in the cache that is called as a wheel has to be, in a folder of its own."""
    folder = cache_dir / "built" / f"wheel-{sha256[:32]}"
    target = folder / Path(filename).name
    with contextlib.suppress(FileNotFoundError):
        if file_sha256(target) == sha256:
            mark_used(folder)
            return target
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = folder / f".{secrets.token_hex(4)}"
    shutil.copyfile(path, draft)
    draft.chmod(0o644)
    draft.replace(target)
    return target


def _packed(folder: Path, root: Path, cache_dir: Path, where: str) -> tuple[Path, str]:
    """A folder of the project as an archive: the same files give the same bytes."""
    import tarfile

    sources = cache_dir / "sources"
    sources.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = sources / f".{secrets.token_hex(8)}"
    try:
        with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as archive:
            count = size = 0
            for path, name in _files(folder, root, where):
                info = tarfile.TarInfo(f"source/{name}")
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with os.fdopen(descriptor, "rb") as file:
                    data = file.read(_MAX_BYTES + 1)
                    executable = os.fstat(descriptor).st_mode & stat.S_IXUSR
                count, size = count + 1, size + len(data)
                if count > _MAX_FILES or size > _MAX_BYTES:
                    raise PackageError(
                        f"there are more than {_MAX_FILES} files or "
                        f"{_MAX_BYTES // 1024 // 1024} MiB in {folder.name}.",
                        where=where,
                        fix="Name the folder of the package alone.",
                    )
                info.size, info.mode = len(data), 0o755 if executable else 0o644
                archive.addfile(info, io.BytesIO(data))
        sha256 = file_sha256(draft)
        draft.replace(sources / sha256)
    finally:
        draft.unlink(missing_ok=True)
    return sources / sha256, sha256


def _files(folder: Path, root: Path, where: str) -> Iterator[tuple[Path, str]]:
    pending = [folder]
    while pending:
        current = pending.pop()
        with os.scandir(current) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = Path(entry.path)
            if entry.name in _NO_PART or entry.name.endswith(".egg-info"):
                continue
            real = Path(os.path.realpath(path))
            if entry.is_symlink() and not real.is_relative_to(folder.resolve()):
                raise PackageError(
                    "this link leaves the package that is built: what it points to would be "
                    "published.",
                    where=path.relative_to(root).as_posix(),
                    fix=f"Put a copy of the file there ({where} builds this folder).",
                )
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif path.is_file():
                yield real, path.relative_to(folder).as_posix()


# --- what was built before ------------------------------------------------------------------------


def _remembered(requirements: Requirements, locking: Locking) -> Iterator[Wheel]:
    """The source distributions that the same question led to some minutes ago.

    Only a way to ask less: what is named here is fetched and verified as ever.
    """
    if not requirements.entries:
        return
    path = _memory(requirements, locking)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if 0 <= locking.clock() - path.stat().st_mtime < 86_400:
            for name, version, filename, url, sha256 in json.loads(path.read_text("utf-8")):
                yield Wheel(
                    name=str(name),
                    version=str(version),
                    filename=str(filename),
                    url=str(url),
                    sha256=str(sha256),
                )


def _remember(requirements: Requirements, locking: Locking, sources: list[Wheel]) -> None:
    path = _memory(requirements, locking)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    rows = [[one.name, one.version, one.filename, one.url, one.sha256] for one in sources]
    draft.write_text(json.dumps(rows), encoding="utf-8")
    draft.replace(path)


def _memory(requirements: Requirements, locking: Locking) -> Path:
    key = question_key(requirements, locking)
    local = json.dumps([_FORMAT, [wheel.sha256 for wheel in locking.local]])
    digest = hashlib.sha256(f"{key}{local}".encode()).hexdigest()[:32]
    folder = locking.cache_dir / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{digest}.sources.json"
