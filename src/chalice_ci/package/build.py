"""From requirements to a deterministic deployment package and its manifest.

The package holds what Chalice's own packager puts into it, byte for byte; docs/packaging.md lists
the differences. Nothing of the app or its dependencies runs here.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.errors import PackageError
from chalice_ci.package.archive import Written, write_archive
from chalice_ci.package.index import origins, with_index
from chalice_ci.package.limits import check_size
from chalice_ci.package.lock import Locking, Wheel, expected_wheels
from chalice_ci.package.manifest import Archive, Dependency, FileEntry, Manifest
from chalice_ci.package.project import app_sources, vendor_sources
from chalice_ci.package.requirements import Entry, Requirements
from chalice_ci.package.resolve import Making, Resolved, resolve
from chalice_ci.package.target import Target
from chalice_ci.package.wheels import Fetched, Fetcher
from chalice_ci.uv import Uv, find_uv

if TYPE_CHECKING:
    from chalice_ci.app.pythons import Interpreter
    from chalice_ci.package.foreign import Packager
    from chalice_ci.package.source import Builder

__all__ = ["Archive", "Manifest", "Package", "PackageRequest", "build_package"]

_VERSION = re.compile(r"^__version__\s*(?::\s*str\s*)?=\s*['\"]([0-9][0-9a-z.]*)['\"]", re.M)


@dataclass(frozen=True, kw_only=True)
class PackageRequest:
    """What to package, and for which runtime.

    `python` is "3.12", `interpreter` any Python for uv to look at. `chalice_dir` is an installed
    chalice package: its runtime files go into the zip, so take it from the deployer's environment,
    where a dependency of the app cannot have changed it. `max_size` bounds each zip, in bytes;
    `through_bucket` says that Lambda takes it from S3.
    `environment_lock` is the lock of what loads the app, as soon as it is known; empty if nothing
    is worth fetching before the package's own lock is there.
    `allowed` names what may be built from source, by `build`; `packager` collects the dependencies
    instead of what splices them here.
    """

    app_dir: Path
    repo_root: Path
    requirements: Requirements
    python: str
    interpreter: Interpreter
    chalice_dir: Path
    architecture: str = "x86_64"
    automatic_layer: bool = False
    max_size: int | None = None
    through_bucket: bool = False
    environment_lock: Future[str] | None = None
    allowed: tuple[str, ...] = ()
    build: Builder | None = None
    packager: Packager | None = None


@dataclass(frozen=True, kw_only=True)
class Package:
    """The built archives; `layer` is None without automatic_layer, or when it would be empty.

    `resolved` are the wheels in it.
    """

    app: Archive
    layer: Archive | None
    manifest: Manifest
    resolved: Resolved

    @property
    def archives(self) -> tuple[Archive, ...]:
        """All of them, the app's first."""
        return (self.app,) if self.layer is None else (self.app, self.layer)


def build_package(
    request: PackageRequest, *, cache_dir: Path, out_dir: Path, environ: Mapping[str, str]
) -> Package:
    """Lock, fetch and splice an app's package into `out_dir`.

    Raises PackageError with the name, the reason and what to do, for everything that stands against
    a whole package: what cannot be resolved, has no wheel for Lambda, leaves the project, or is
    larger than Lambda takes.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    uv = find_uv(environ, cache_dir=cache_dir / "uv", index=True)
    uv = replace(uv, environ=with_index(uv.environ, request.requirements))
    with Fetcher(cache_dir=cache_dir, environ=environ, origins=origins(uv)) as fetcher:
        return _built(request, uv, fetcher, environ, cache_dir=cache_dir, out_dir=out_dir)


def _built(
    request: PackageRequest,
    uv: Uv,
    fetcher: Fetcher,
    environ: Mapping[str, str],
    *,
    cache_dir: Path,
    out_dir: Path,
) -> Package:
    chalice = _chalice_version(request.chalice_dir)
    own = app_sources(request.app_dir, repo_root=request.repo_root, chalice_dir=request.chalice_dir)
    prefix = f"python/lib/python{request.python}/site-packages/" if request.automatic_layer else ""
    vendored = vendor_sources(request.app_dir, repo_root=request.repo_root, prefix=prefix)
    fetching: Callable[[Sequence[Wheel]], Sequence[Fetched]] = fetcher
    if request.packager is not None and request.packager.network:
        # It resolves by itself.
        resolved = Resolved(wheels=(), requirements=request.requirements)
    else:
        resolved = _resolved(request, uv, fetcher, cache_dir, environ)
    wheels = resolved.wheels
    if request.packager is not None:
        collected = _collected(request, request.packager, resolved, fetching, cache_dir)
        wheels = tuple(one.wheel for one in collected)
        fetching = _Collected(fetched=collected)
    places = {"cache_dir": cache_dir, "out_dir": out_dir}
    if request.automatic_layer:
        app = write_archive("app", wheels=(), fetch=fetching, prefix="", layers=[own], **places)
        layer = write_archive(
            "layer", wheels=wheels, fetch=fetching, prefix=prefix, layers=[vendored], **places
        )
        # As Chalice: Lambda refuses a layer whose files are all empty.
        written = [app, layer] if layer.archive.unpacked_size else [app]
        if not layer.archive.unpacked_size:
            layer.archive.path.unlink(missing_ok=True)
    else:
        both = [own, vendored]
        written = [
            write_archive("app", wheels=wheels, fetch=fetching, prefix="", layers=both, **places)
        ]
    manifest = _manifest(request, chalice, wheels, written)
    try:
        check_size(written, manifest, request.max_size, through_bucket=request.through_bucket)
    except PackageError:
        for one in written:
            one.archive.path.unlink(missing_ok=True)
        raise
    return Package(
        app=written[0].archive,
        layer=written[1].archive if len(written) > 1 else None,
        manifest=manifest,
        resolved=resolved,
    )


def _resolved(
    request: PackageRequest, uv: Uv, fetcher: Fetcher, cache_dir: Path, environ: Mapping[str, str]
) -> Resolved:
    target = Target(python=request.python, architecture=request.architecture)

    def meanwhile() -> None:
        # What fetches wheels takes a tenth of a second to import.
        importlib.import_module("urllib3")
        if request.environment_lock is not None:
            # What the app is loaded with is most of what is packaged.
            fetcher.expect(expected_wheels(request.environment_lock.result(), target))

    return resolve(
        request.requirements,
        Locking(
            target=target,
            meanwhile=meanwhile,
            python=request.interpreter.executable,
            uv=uv,
            cache_dir=cache_dir,
        ),
        Making(
            repo_root=request.repo_root,
            allowed=request.allowed,
            build=request.build,
            environ=environ,
            origins=origins(uv),
        ),
    )


def _collected(
    request: PackageRequest,
    packager: Packager,
    resolved: Resolved,
    fetch: Callable[[Sequence[Wheel]], Sequence[Fetched]],
    cache_dir: Path,
) -> tuple[Fetched, ...]:
    """What a packager of somebody else collects: of the locked wheels, or of what it finds."""
    from chalice_ci.package.foreign import pack

    requirements = request.requirements
    requirements.check()
    lines = tuple(f"{wheel.name}=={wheel.version}" for wheel in resolved.wheels)
    if packager.network:
        if requirements.references:
            raise PackageError(
                f"`builder: chalice` takes names and versions, not "
                f"{requirements.references[0].shown!r}.",
                where=str(requirements.references[0].at),
                fix="Take `builder: uv`, or name a version that the package index has.",
            )
        lines = tuple(_with_hashes(entry) for entry in requirements.entries)
    return pack(
        packager,
        lines,
        tuple(entry.text for entry in requirements.constraints),
        fetch(resolved.wheels),
        target=Target(python=request.python, architecture=request.architecture),
        requirements=requirements,
        cache_dir=cache_dir,
    )


def _with_hashes(entry: Entry) -> str:
    return " ".join((entry.text, *(f"--hash={kind}:{value}" for kind, value in entry.hashes)))


@dataclass(frozen=True, kw_only=True)
class _Collected:
    """Answers with what was collected already."""

    fetched: tuple[Fetched, ...]

    def __call__(self, wheels: Sequence[Wheel]) -> tuple[Fetched, ...]:
        wanted = {wheel.name for wheel in wheels}
        return tuple(one for one in self.fetched if one.wheel.name in wanted)


def _chalice_version(chalice_dir: Path) -> str:
    try:
        match = _VERSION.search((chalice_dir / "app.py").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        match = None
    if match is None:
        raise PackageError(
            "Chalice is not there.",
            where=str(chalice_dir),
            fix="Remove the cache folder (--cache-dir) and run again.",
        )
    return match.group(1)


def _manifest(
    request: PackageRequest,
    chalice: str,
    wheels: tuple[Wheel, ...],
    written: list[Written],
) -> Manifest:
    sizes: dict[str, int] = {}
    packed: dict[str, int] = {}
    files: list[FileEntry] = []
    for one in written:
        for member, dependency in one.members:
            sizes[dependency] = sizes.get(dependency, 0) + member.size
            packed[dependency] = packed.get(dependency, 0) + member.packed
            files.append(
                FileEntry(
                    slot=one.archive.slot,
                    path=member.name,
                    size=member.size,
                    sha256=member.sha256,
                    dependency=dependency,
                )
            )
    return Manifest(
        python=request.python,
        architecture=request.architecture,
        chalice=chalice,
        dependencies=tuple(
            Dependency(
                name=wheel.name,
                version=wheel.version,
                direct=wheel.direct,
                size=sizes.get(wheel.name, 0),
                packed=packed.get(wheel.name, 0),
                wheel=wheel.filename,
                sha256=wheel.sha256,
            )
            for wheel in wheels
        ),
        files=tuple(files),
        digests=tuple((one.archive.slot, one.archive.sha256) for one in written),
    )
