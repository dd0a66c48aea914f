"""From requirements to exact wheels for Lambda: name, version, address and hash of each.

uv resolves; which wheel of a version is taken is decided here by the standard's tags, for the
glibc that Lambda's runtime has. Every locked package must have a wheel: uv alone leaves a package
out with a warning when its platform is a little older than the wheel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from chalice_ci.cache import sealed, unsealed
from chalice_ci.errors import PackageError
from chalice_ci.package.index import with_index
from chalice_ci.package.target import Target
from chalice_ci.package.unsolved import Hopeless, NeedsSource, explained, lacks_wheel
from chalice_ci.uv import NoSolution, Uv, UvFailed

if TYPE_CHECKING:
    from chalice_ci.package.requirements import Requirements

_FORMAT = 1
# As long as the public index tells its clients to keep what it said.
_LOCK_SECONDS = 600
_COMPILE_SECONDS = 180
_MAX_ALONE = 100


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A locked wheel, or source distribution. `direct` when requirements.txt names it.

    `path` is set for what was built here or is in the project; `url` is empty then.
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    direct: bool = False
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Locking:
    """What locking needs besides the requirements: where uv and its answers are, and the time.

    `local` are wheels on this machine that uv may choose, too. `meanwhile` is called in a thread
    of its own when uv is asked: an index takes its time.
    """

    target: Target
    python: Path
    uv: Uv
    cache_dir: Path
    local: tuple[Wheel, ...] = ()
    clock: Callable[[], float] = time.time
    meanwhile: Callable[[], None] | None = None


def lock_wheels(requirements: Requirements, locking: Locking) -> tuple[Wheel, ...]:
    """Lock an app's requirements for Lambda, sorted by name.

    Raises PackageError for requirements that cannot be packaged or a contradiction, NeedsSource
    where a wheel is missing.
    """
    requirements.check()
    if not requirements.entries:
        return ()
    refused: PackageError | None = None
    for question in _questions(requirements, locking):
        locked = question.answer(requirements, locking)
        try:
            return _chosen(locked, requirements, locking)
        except PackageError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def lock_sources(
    requirements: Requirements, locking: Locking, names: Collection[str]
) -> tuple[Wheel, ...]:
    """The source distributions that stand for `names`, which have no wheel.

    Nothing of them is looked at: uv is told that they need nothing, and would have to build them
    to know more. What they need is known once they are wheels.
    """
    question = next(_questions(requirements, locking))
    try:
        text = question.sources(frozenset(names), locking.cache_dir)
    except NoSolution:
        return ()
    return tuple(_sdists(text, frozenset(names)))


def expected_wheels(lock: str, target: Target) -> tuple[Wheel, ...]:
    """What of an environment's lock a package for `target` would take.

    Only a guess at what is worth fetching early: what is packaged, `lock_wheels` says.
    """
    ranks = {tag: rank for rank, tag in enumerate(target.tags())}
    found = (_best(package, ranks) for package in tomllib.loads(lock).get("packages", ()))
    return tuple(wheel for wheel in found if wheel and urlsplit(wheel.url).scheme != "file")


def question_key(requirements: Requirements, locking: Locking) -> str:
    """Names what is asked, the local wheels aside."""
    return next(_questions(requirements, replace(locking, local=()))).key


def _questions(requirements: Requirements, locking: Locking) -> Iterator[_Question]:
    for platform in locking.target.uv_platforms:
        yield _Question(
            lines=tuple(entry.text for entry in requirements.entries),
            bounds=tuple(entry.text for entry in requirements.constraints),
            pre=requirements.pre,
            no_index=requirements.no_index,
            local=locking.local,
            target=locking.target,
            platform=platform,
            python=locking.python,
            uv=replace(locking.uv, environ=with_index(locking.uv.environ, requirements)),
        )


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What uv is asked; the same question within some minutes has the same answer."""

    lines: tuple[str, ...]
    bounds: tuple[str, ...]
    pre: bool
    no_index: bool
    local: tuple[Wheel, ...]
    target: Target
    platform: str
    python: Path
    uv: Uv

    @property
    def key(self) -> str:
        """Names the question; a hash, because the environment may hold a password."""
        told = [_FORMAT, self.lines, self.bounds, self.pre, self.platform, self.target.python]
        local = [[wheel.filename, wheel.sha256] for wheel in self.local]
        environ = sorted(self.uv.environ.items())
        said = json.dumps([told, self.no_index, local, environ])
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def answer(self, requirements: Requirements, locking: Locking) -> str:
        """The text of the lock."""
        folder = locking.cache_dir / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = self.key
        path = folder / f"{key}.toml"
        with contextlib.suppress(OSError, ValueError):
            if 0 <= locking.clock() - path.stat().st_mtime < _LOCK_SECONDS:
                # A lock that was cut off may be a shorter lock: an empty file names no package.
                return unsealed(path.read_text(encoding="utf-8"), key)
        if locking.meanwhile is not None:
            threading.Thread(target=locking.meanwhile, daemon=True).start()
        with tempfile.TemporaryDirectory(prefix=".lock-", dir=folder) as work:
            try:
                text = self._asked(Path(work))
            except NoSolution as error:
                hopeless = self._hopeless(Path(work))
                raise explained(error, self.target, hopeless, requirements) from error
        draft = folder / f".{key}.{secrets.token_hex(4)}"
        draft.write_text(sealed(text, key), encoding="utf-8")
        draft.replace(path)
        return text

    def _hopeless(self, folder: Path) -> tuple[Hopeless, ...]:
        """The lines that cannot be had even alone.

        uv stops at the first one; whoever mends a file wants to know all of them.
        """

        def alone(line: str) -> Hopeless | None:
            own = Path(tempfile.mkdtemp(dir=folder))
            try:
                replace(self, lines=(line,), bounds=())._asked(own, "--no-deps")
            except NoSolution as error:
                later = self._next_version(line, own) if lacks_wheel(error.what) else ""
                return Hopeless(line=line, said=error.what, later=later)
            except UvFailed:
                return None
            return None

        with ThreadPoolExecutor(max_workers=4) as pool:
            return tuple(one for one in pool.map(alone, self.lines[:_MAX_ALONE]) if one)

    def _next_version(self, line: str, folder: Path) -> str:
        """The version after a pinned one that can be had, or nothing."""
        requirement = Requirement(line)
        pinned = [one.version for one in requirement.specifier if one.operator == "=="]
        if not pinned or pinned[0].endswith(".*"):
            return ""
        later = f"{requirement.name}>{pinned[0]}"
        try:
            lock = replace(self, lines=(later,), bounds=())._asked(
                folder, "--no-deps", "--resolution", "lowest"
            )
        except UvFailed:
            return ""
        versions = (str(one.get("version", "")) for one in tomllib.loads(lock).get("packages", ()))
        return next(versions, "")

    def sources(self, names: frozenset[str], cache_dir: Path) -> str:
        """The text of a lock in which `names` are source distributions that need nothing."""
        folder = cache_dir / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lock-", dir=folder) as work:
            settings = Path(work) / "uv.toml"
            settings.write_text(
                "".join(
                    f"[[dependency-metadata]]\nname = {json.dumps(name)}\nrequires-dist = []\n"
                    for name in sorted(names)
                ),
                encoding="utf-8",
            )
            options = [word for name in sorted(names) for word in ("--no-binary", name)]
            others = tuple(wheel for wheel in self.local if wheel.name not in names)
            return replace(self, local=others)._asked(Path(work), *options, settings=settings)

    def _asked(self, folder: Path, *options: str, settings: Path | None = None) -> str:
        source, answer = folder / "requirements.in", folder / "pylock.toml"
        source.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
        arguments = [
            *("pip", "compile", "--quiet", str(source), "--python", str(self.python)),
            *("--python-version", self.target.python, "--python-platform", self.platform),
            *("--only-binary", ":all:", "--no-header"),
            *("--format", "pylock.toml", "--output-file", str(answer)),
            *options,
        ]
        for parent in dict.fromkeys(w.path.parent for w in self.local if w.path is not None):
            arguments += ["--find-links", str(parent)]
        if self.no_index:
            arguments.append("--no-index")
        if self.pre:
            arguments += ["--prerelease", "allow"]
        if self.bounds:
            constraints = folder / "constraints.txt"
            constraints.write_text("".join(f"{b}\n" for b in self.bounds), encoding="utf-8")
            arguments += ["--constraint", str(constraints)]
        self.uv.run(arguments, cwd=folder, seconds=_COMPILE_SECONDS, settings=settings)
        return answer.read_text(encoding="utf-8")


def _chosen(text: str, requirements: Requirements, locking: Locking) -> tuple[Wheel, ...]:
    target = locking.target
    ranks = {tag: rank for rank, tag in enumerate(target.tags())}
    local = {wheel.sha256: wheel for wheel in locking.local}
    wheels: list[Wheel] = []
    missing: list[str] = []
    names: list[str] = []
    for package in tomllib.loads(text).get("packages", ()):
        name, version = str(package.get("name", "")), str(package.get("version", ""))
        entries = requirements.named(name)
        own = next((local[one] for one in _local_hashes(package) if one in local), None)
        if own is not None:
            # Its hash, where one was asked for, was compared when it was made.
            wheels.append(replace(own, direct=bool(entries)))
            continue
        allowed = {value for entry in entries for kind, value in entry.hashes if kind == "sha256"}
        if requirements.require_hashes and not allowed:
            others = any(entry.hashes for entry in entries)
            raise PackageError(
                f"`{name}=={version}` has no hash of the kind that counts, sha256."
                if others
                else f"`{name}=={version}` is needed and has no hash, while others have one.",
                where=requirements.file,
                fix="Write every package with `--hash=sha256:…`, transitive ones too "
                "(`uv pip compile --generate-hashes` or `pip-compile --generate-hashes`).",
            )
        wheel = _best(package, ranks, allowed if requirements.require_hashes else None)
        if wheel is None:
            missing.append(f"{name}=={version}")
            names.append(str(canonicalize_name(name)))
        else:
            wheels.append(replace(wheel, direct=bool(entries)))
    if missing:
        glibc = ".".join(str(part) for part in target.glibc)
        hashes = " with one of the hashes given" if requirements.require_hashes else ""
        raise NeedsSource(
            f"no wheel for Lambda (Python {target.python}, {target.architecture}, glibc {glibc})"
            f"{hashes}: {', '.join(missing)}.",
            where=requirements.file,
            fix="Pin a version that has one, or put what you built into `vendor/`.",
            names=tuple(names),
        )
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def _local_hashes(package: Mapping[str, object]) -> Iterator[str]:
    """The hashes of what uv found on this machine."""
    archive, listed = package.get("archive"), package.get("wheels")
    for one in (archive, *(listed if isinstance(listed, list) else ())):
        if isinstance(one, dict) and ("path" in one or str(one.get("url", "")).startswith("file:")):
            yield str((one.get("hashes") or {}).get("sha256", ""))


def _sdists(text: str, names: frozenset[str]) -> Iterator[Wheel]:
    for package in tomllib.loads(text).get("packages", ()):
        name = str(canonicalize_name(str(package.get("name", ""))))
        sdist = package.get("sdist")
        if name not in names or not isinstance(sdist, dict):
            continue
        url = str(sdist.get("url", ""))
        sha256 = str((sdist.get("hashes") or {}).get("sha256", ""))
        if url and re.fullmatch(r"[0-9a-f]{64}", sha256):
            yield Wheel(
                name=name,
                version=str(package.get("version", "")),
                filename=str(sdist.get("name") or unquote(urlsplit(url).path.rpartition("/")[2])),
                url=url,
                sha256=sha256,
            )


def _best(
    package: Mapping[str, object], ranks: Mapping[Tag, int], allowed: Collection[str] | None = None
) -> Wheel | None:
    """The wheel of a locked package that suits best; its hash is one of `allowed`, if given."""
    listed = package.get("wheels")
    best: tuple[tuple[int, int, str, str], Wheel] | None = None
    for one in listed if isinstance(listed, list) else ():
        url = str(one.get("url", ""))
        filename = str(one.get("name") or unquote(urlsplit(url).path.rpartition("/")[2]))
        sha256 = str((one.get("hashes") or {}).get("sha256", ""))
        if not url or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            continue
        if allowed is not None and sha256 not in allowed:
            continue
        try:
            _, _, build, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            continue
        fitting = [ranks[tag] for tag in tags if tag in ranks]
        if not fitting:
            continue
        # Of two builds of the same wheel the later one counts.
        number, suffix = build or (0, "")
        rank = min(fitting), -number, suffix, filename
        if best is None or rank < best[0]:
            wheel = Wheel(
                name=str(package.get("name", "")),
                version=str(package.get("version", "")),
                filename=filename,
                url=url,
                sha256=sha256,
            )
            best = rank, wheel
    return best and best[1]
