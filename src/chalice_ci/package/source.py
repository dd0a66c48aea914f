"""Wheels from source: what is built, by what, and whether the result may be packaged.

Building runs foreign code, so it happens elsewhere (`chalice_ci.app.wheel_builder`, in the
sandbox) and only where the configuration allows it. Here the source is described without running
or unpacking it, and what came back, which is hostile, is looked into: the name, the version, the
tags against Lambda's platform, and what its libraries need of the system. A wheel is kept under
the hash of its source, the Python and the architecture, and hashed whenever it is used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from chalice_ci.cache import mark_used
from chalice_ci.errors import PackageError
from chalice_ci.package import elf
from chalice_ci.package.lock import Wheel
from chalice_ci.package.target import Target
from chalice_ci.package.wheels import WheelRefused, file_sha256, inspect_wheel

_FORMAT = 1
_PROJECT_FILE = "pyproject.toml"
_MAX_PROJECT_FILE = 1024 * 1024
_MAX_ENTRIES = 50_000
_MAX_REQUIRES = 100

# What stands in for the missing `[build-system]`: PEP 517 names setuptools' own shim. Projects
# without one are old; pkg_resources, `setup.py test` and `use_2to3` are gone from new versions.
_LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
_LEGACY_REQUIRES = ("setuptools>=40.8,<72", "wheel")
_PLAIN_REQUIRES = ("setuptools>=40.8",)

# What manylinux takes for given on every Linux (PEP 599), without the desktop's part of it.
_IN_LAMBDA = re.compile(
    r"(?:libc|libm|libdl|librt|libpthread|libresolv|libutil|libgcc_s|libstdc\+\+|libz)\.so\.\d+"
    r"|ld-linux-(?:x86-64|aarch64)\.so\.\d"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source distribution: an archive with one folder in it, or a repository's or folder's files.

    `name` and `version` are what the result has to be called, None where only it can tell. `shown`
    is for messages, `where` the line that wants it.
    """

    archive: Path
    sha256: str
    shown: str
    where: str
    name: str | None = None
    version: str | None = None
    subdirectory: str = ""


@dataclass(frozen=True, kw_only=True)
class BuildSystem:
    """How a source wants to be built (PEP 518): requirements, the backend and where it lies."""

    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...] = ()


class Builder(Protocol):
    """Builds a source into a folder: the path of the wheel, of which nothing is known yet."""

    def __call__(self, source: Source, system: BuildSystem, folder: Path) -> Path:
        """Raise PackageError when it cannot be built."""


def built_wheel(source: Source, target: Target, *, build: Builder, cache_dir: Path) -> Wheel:
    """The wheel of a source for Lambda: as kept, else built and checked.

    Raises PackageError when it cannot be built, or would not run in Lambda.
    """
    told = [_FORMAT, source.sha256, source.subdirectory, target.python, target.architecture]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
    folder = cache_dir / "built"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / f".{key}.lock").open("w") as lock:
        # Two runs that want the same one build it once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _kept(folder / key)
        if kept is not None:
            mark_used(folder / key)
            return _named(kept, source)
        draft = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=folder))
        try:
            path = build(source, build_system(source), draft)
            wheel = check_wheel(path, target, shown=source.shown, where=source.where)
            _named(wheel, source)
            record = {"filename": wheel.filename, "sha256": wheel.sha256}
            (draft / "built.json").write_text(json.dumps(record), encoding="utf-8")
            draft.chmod(0o755)
            shutil.rmtree(folder / key, ignore_errors=True)
            draft.rename(folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    kept = _kept(folder / key)
    if kept is None:
        raise PackageError(
            f"the wheel of {source.shown} did not stay in the cache.",
            where=str(folder),
            fix="Look at the free space of the cache folder (--cache-dir), and run again.",
        )
    return kept


def _kept(folder: Path) -> Wheel | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, InvalidWheelFilename):
        record = json.loads((folder / "built.json").read_text(encoding="utf-8"))
        filename = str(record["filename"])
        path = folder / filename
        if "/" not in filename and file_sha256(path) == record["sha256"]:
            name, version, _, _ = parse_wheel_filename(filename)
            return Wheel(
                name=str(name),
                version=str(version),
                filename=filename,
                url="",
                sha256=str(record["sha256"]),
                path=path,
            )
    return None


def _named(wheel: Wheel, source: Source) -> Wheel:
    if source.name not in (None, wheel.name) or source.version not in (None, wheel.version):
        raise PackageError(
            f"{source.shown} calls itself {wheel.name} {wheel.version} once it is built.",
            where=source.where,
            fix="Name the distribution as its own metadata does.",
        )
    return wheel


# --- how a source wants to be built ---------------------------------------------------------------


def build_system(source: Source) -> BuildSystem:
    """What the source's pyproject.toml says; the standard's defaults without one.

    Raises PackageError for an archive that cannot be read, and for requirements that are not plain
    names with versions.
    """
    try:
        text = _project_file(source)
        said = tomllib.loads(text) if text is not None else {}
    except (OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _unusable(source, f"its archive cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(source, "its pyproject.toml cannot be read") from error
    system = said.get("build-system")
    if not isinstance(system, dict):
        requires = _LEGACY_REQUIRES if text is None else _PLAIN_REQUIRES
        return BuildSystem(requires=requires, backend=_LEGACY_BACKEND)
    wanted = tuple(_texts(system.get("requires")))
    backend = str(system.get("build-backend") or _LEGACY_BACKEND)
    paths = tuple(_texts(system.get("backend-path")))
    if any(PurePosixPath(path).is_absolute() or ".." in path for path in paths):
        raise _unusable(source, "its `backend-path` leads out of it")
    return BuildSystem(
        requires=plain_requirements(wanted, source), backend=backend, backend_path=paths
    )


def _texts(value: object) -> Iterator[str]:
    for one in value if isinstance(value, list) else ():
        yield str(one)


def plain_requirements(lines: tuple[str, ...], source: Source) -> tuple[str, ...]:
    """Build requirements that are names with versions: what they say is not ours to believe."""
    if len(lines) > _MAX_REQUIRES:
        raise _unusable(source, f"it needs more than {_MAX_REQUIRES} packages to be built")
    plain = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise _unusable(source, f"{line[:80]!r} is no build requirement") from error
        if requirement.url:
            raise _unusable(source, f"it wants {requirement.name} from an address to be built")
        plain.append(str(requirement))
    return tuple(plain)


def _unusable(source: Source, why: str) -> PackageError:
    return PackageError(
        f"{source.shown} cannot be built: {why}.",
        where=source.where,
        fix="Pin a version that has a wheel, or put what you built into `vendor/`.",
    )


def _project_file(source: Source) -> str | None:
    """The text of its pyproject.toml: of the archive, nothing else is opened here."""
    found: dict[int, bytes] = {}
    wanted = PurePosixPath(source.subdirectory) / _PROJECT_FILE
    for parts, read in _entries(source.archive):
        for depth in (0, 1):
            if PurePosixPath(*parts[depth:]) == wanted:
                found[depth] = read()
    # A folder around everything is the rule; without one the files lie at the top.
    data = found.get(1, found.get(0))
    return None if data is None else data.decode("utf-8")


def _entries(archive: Path) -> Iterator[tuple[tuple[str, ...], Callable[[], bytes]]]:
    def reads(opened: IO[bytes] | None) -> Callable[[], bytes]:
        def read() -> bytes:
            with opened or io.BytesIO() as stream:
                return stream.read(_MAX_PROJECT_FILE)

        return read

    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            infos = packed.infolist()
            if len(infos) > _MAX_ENTRIES:
                raise zipfile.BadZipFile("too many entries")
            for info in infos:
                if info.filename.endswith(_PROJECT_FILE):
                    yield PurePosixPath(info.filename).parts, reads(packed.open(info))
        return
    with tarfile.open(archive) as packed_tar:
        for count, member in enumerate(packed_tar):
            if count > _MAX_ENTRIES:
                raise tarfile.ReadError("too many entries")
            if member.isfile() and member.name.endswith(_PROJECT_FILE):
                yield PurePosixPath(member.name).parts, reads(packed_tar.extractfile(member))


# --- what came of it ------------------------------------------------------------------------------


class OtherPlatform(PackageError):
    """A wheel in good order that does not run in Lambda."""


def check_wheel(path: Path, target: Target, *, shown: str, where: str) -> Wheel:
    """Look into a wheel that was built or brought; it is none of an index.

    Raises PackageError when it is not fit to be packaged, OtherPlatform when it is for one.
    """

    def refused(why: str, fix: str, kind: type[PackageError] = PackageError) -> PackageError:
        return kind(f"{shown} is not usable: {why}.", where=where, fix=fix)

    again = "Pin another version, or put what you built for Lambda into `vendor/`."
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise refused(f"{path.name[:120]!r} is no name of a wheel", again) from error
    if not any(tag in tags for tag in target.tags()):
        platforms = ", ".join(sorted({str(tag) for tag in tags}))
        raise refused(
            f"the wheel is for {platforms[:200]}, and Lambda needs one for Python "
            f"{target.python} on {target.architecture}",
            "Build it on a machine of Lambda's architecture, or put what you built there into "
            "`vendor/`.",
            OtherPlatform,
        )
    try:
        members = inspect_wheel(path)
        with zipfile.ZipFile(path) as archive:
            told = metadata_of(archive, {member.name for member in members})
            problem = next(unfit_libraries(archive, target), "")
    except (WheelRefused, zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
        raise refused(str(error), again) from error
    if problem:
        raise refused(
            problem,
            "Build it in an image of Lambda's runtime, and put the result into `vendor/`.",
            OtherPlatform,
        )
    if told != (name, str(version)):
        raise refused("its metadata name another distribution than its file", again)
    return Wheel(
        name=str(name),
        version=str(version),
        filename=path.name,
        url="",
        sha256=file_sha256(path),
        path=path,
    )


def metadata_of(archive: zipfile.ZipFile, names: set[str]) -> tuple[str, str]:
    """The normalised name and the version in the only METADATA among `names`.

    Raises WheelRefused without one, InvalidWheelFilename for a version that is none.
    """
    found = [n for n in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)]
    if len(found) != 1:
        raise WheelRefused("it has no METADATA")
    head = archive.read(found[0])[:_MAX_PROJECT_FILE].decode("utf-8", "replace")
    fields: dict[str, str] = {}
    for line in head.partition("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon and key in ("Name", "Version"):
            fields.setdefault(key, value.strip())
    _, version, _, _ = parse_wheel_filename(f"x-{fields.get('Version', '')}-py3-none-any.whl")
    return str(canonicalize_name(fields.get("Name", ""))), str(version)


def unfit_libraries(archive: zipfile.ZipFile, target: Target) -> Iterator[str]:
    """Why its libraries do not run in Lambda: a tag such as `linux_x86_64` does not tell."""
    own = {PurePosixPath(name).name for name in archive.namelist()}
    for info in archive.infolist():
        with archive.open(info) as file:
            data = file.read(len(elf.MAGIC))
            if data != elf.MAGIC:
                continue
            data += file.read()
        shown = info.filename[:120]
        try:
            found = elf.read_object(data)
        except ValueError as error:
            yield f"{shown} is no library of Linux: {error}"
            continue
        if found.machine != target.machine:
            yield f"{shown} is for {found.machine}, not for {target.architecture}"
        if found.glibc > target.glibc:
            has, needs = (".".join(map(str, one)) for one in (target.glibc, found.glibc))
            yield f"{shown} needs glibc {needs}, and Lambda has {has}"
        for name in found.needed:
            if name not in own and not _IN_LAMBDA.fullmatch(name):
                yield f"{shown} needs {name[:80]}, which Lambda does not have"
