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
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from chalice_ci.errors import PackageError
from chalice_ci.uv import NoSolution, Uv, UvFailed

if TYPE_CHECKING:
    from chalice_ci.package.requirements import Requirements

_FORMAT = 1
# As long as the public index tells its clients to keep what it said.
_LOCK_SECONDS = 600
_COMPILE_SECONDS = 180
_MAX_ALONE = 100

# glibc of Lambda's runtimes: Amazon Linux 2, then Amazon Linux 2023; as Chalice's packager has it.
_GLIBC = {"3.10": (2, 26), "3.11": (2, 26)}
_NEWER_GLIBC = (2, 34)
_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
_LEGACY = {
    "x86_64": {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"},
    "aarch64": {17: "manylinux2014"},
}
_OLDEST = {"x86_64": 5, "aarch64": 17}

_NO_WHEEL = re.compile(r"\b([A-Za-z0-9][\w.-]*)(==[^\s,]+)? has no (?:usable )?wheels")
_NOT_FOUND = re.compile(r"\b([A-Za-z0-9][\w.-]*) was not found in the package registry")
_NO_VERSION = re.compile(r"there (?:is|are) no versions? of ([A-Za-z0-9][\w.-]*?)(==[^\s,]+)?\b")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the package runs: `python` is "3.12", `architecture` "x86_64" or "arm64"."""

    python: str
    architecture: str = "x86_64"

    @property
    def machine(self) -> str:
        """The architecture's name in wheel tags."""
        return _MACHINES[self.architecture]

    @property
    def glibc(self) -> tuple[int, int]:
        """The C library of Lambda's runtime."""
        return _GLIBC.get(self.python, _NEWER_GLIBC)

    @property
    def uv_platforms(self) -> tuple[str, ...]:
        """What uv is told, best first: it knows some C libraries only.

        Where the exact one is unknown, the next newer one is tried first, as it may name the newest
        version; when that has no wheel for the true one, the next older.
        """
        if self.glibc == (2, 34):
            return (f"{self.machine}-manylinux_2_34",)
        return (f"{self.machine}-manylinux_2_28", f"{self.machine}-manylinux_2_17")

    def tags(self) -> Iterator[Tag]:
        """The tags of wheels that run there, best first."""
        platforms: list[str] = []
        for minor in range(self.glibc[1], _OLDEST[self.machine] - 1, -1):
            platforms.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY[self.machine]:
                platforms.append(f"{_LEGACY[self.machine][minor]}_{self.machine}")
        platforms.append(f"linux_{self.machine}")
        major, minor = (int(part) for part in self.python.split("."))
        interpreter = f"cp{major}{minor}"
        yield from cpython_tags((major, minor), [interpreter], platforms)
        yield from compatible_tags((major, minor), interpreter, platforms)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A locked wheel. `direct` when requirements.txt names it."""

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    direct: bool = False


@dataclass(frozen=True, kw_only=True)
class Origins:
    """The indexes in use: where plain HTTP is allowed, and who gets which credentials.

    Keys are ("https", "host:port") pairs. Never shown: `repr` leaves the credentials out.
    """

    insecure: frozenset[str]
    credentials: Mapping[tuple[str, str], tuple[str, str]]

    def __repr__(self) -> str:
        return f"Origins({len(self.credentials)} with credentials)"


def with_index(environ: Mapping[str, str], requirements: Requirements) -> dict[str, str]:
    """The environment of uv with the indexes that requirements.txt names.

    They are not options: a command line can be read by every process of the machine.
    """
    merged = dict(environ)
    if requirements.index_url:
        merged.pop("UV_INDEX_URL", None)
        merged["UV_DEFAULT_INDEX"] = requirements.index_url
    if requirements.extra_index_urls:
        own = merged.pop("UV_EXTRA_INDEX_URL", "")
        extra = (*requirements.extra_index_urls, own, merged.get("UV_INDEX", ""))
        merged["UV_INDEX"] = " ".join(part for part in extra if part)
    return merged


def lock_wheels(
    requirements: Requirements,
    target: Target,
    *,
    python: Path,
    uv: Uv,
    cache_dir: Path,
    clock: Callable[[], float] = time.time,
) -> tuple[Wheel, ...]:
    """Lock an app's requirements for Lambda, sorted by name.

    Raises PackageError for requirements that cannot be packaged, a contradiction, or a missing
    wheel.
    """
    requirements.check()
    lines = tuple(entry.text for entry in requirements.entries)
    if not lines:
        return ()
    bounds = tuple(entry.text for entry in requirements.constraints)
    uv = replace(uv, environ=with_index(uv.environ, requirements))
    refused: PackageError | None = None
    for platform in target.uv_platforms:
        question = _Question(
            lines=lines,
            bounds=bounds,
            pre=requirements.pre,
            target=target,
            platform=platform,
            python=python,
            uv=uv,
        )
        locked = question.answer(requirements, cache_dir, clock)
        try:
            return _chosen(locked, requirements, target)
        except PackageError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def origins(uv: Uv) -> Origins:
    """Who the indexes of this environment are."""
    insecure: set[str] = set()
    credentials: dict[tuple[str, str], tuple[str, str]] = {}
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        for word in uv.environ.get(name, "").split():
            label, equals, address = word.partition("=")
            if not equals or "/" in label:
                label, address = "", word
            with contextlib.suppress(ValueError):
                parts = urlsplit(address)
                host = parts.netloc.rpartition("@")[2]
                if parts.scheme == "http":
                    insecure.add(host)
                user, password = parts.username, parts.password
                if label:
                    key = re.sub(r"[^A-Z0-9]", "_", label.upper())
                    user = uv.environ.get(f"UV_INDEX_{key}_USERNAME", user)
                    password = uv.environ.get(f"UV_INDEX_{key}_PASSWORD", password)
                if user or password:
                    credentials[(parts.scheme, host)] = unquote(user or ""), unquote(password or "")
    return Origins(insecure=frozenset(insecure), credentials={**_netrc(uv.environ), **credentials})


def _netrc(environ: Mapping[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    """What the operator's netrc file, which uv uses too, knows; never without TLS."""
    if not environ.get("NETRC"):
        return {}
    try:
        hosts = netrc(environ["NETRC"]).hosts
    except (OSError, UnicodeDecodeError, NetrcParseError):
        return {}
    return {
        ("https", host): (login, password or "")
        for host, (login, _, password) in hosts.items()
        if host != "default"
    }


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What uv is asked; the same question within some minutes has the same answer."""

    lines: tuple[str, ...]
    bounds: tuple[str, ...]
    pre: bool
    target: Target
    platform: str
    python: Path
    uv: Uv

    def answer(
        self, requirements: Requirements, cache_dir: Path, clock: Callable[[], float]
    ) -> str:
        """The text of the lock."""
        folder = cache_dir / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = [_FORMAT, self.lines, self.bounds, self.pre, self.platform, self.target.python]
        environ = sorted(self.uv.environ.items())
        key = hashlib.sha256(json.dumps([told, environ]).encode()).hexdigest()[:32]
        path = folder / f"{key}.toml"
        with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            if 0 <= clock() - path.stat().st_mtime < _LOCK_SECONDS:
                text = path.read_text(encoding="utf-8")
                tomllib.loads(text)
                return text
        with tempfile.TemporaryDirectory(prefix="lock-", dir=folder) as work:
            try:
                text = self._asked(Path(work))
            except NoSolution as error:
                hopeless = self._hopeless(Path(work))
                raise _explained(error, self.target, hopeless, requirements) from error
        draft = folder / f".{key}.{secrets.token_hex(4)}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
        return text

    def _hopeless(self, folder: Path) -> tuple[_Hopeless, ...]:
        """The lines that cannot be had even alone.

        uv stops at the first one; whoever mends a file wants to know all of them.
        """

        def alone(line: str) -> _Hopeless | None:
            own = Path(tempfile.mkdtemp(dir=folder))
            try:
                replace(self, lines=(line,), bounds=())._asked(own, "--no-deps")
            except NoSolution as error:
                later = self._next_version(line, own) if _NO_WHEEL.search(error.what) else ""
                return _Hopeless(line=line, said=error.what, later=later)
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

    def _asked(self, folder: Path, *options: str) -> str:
        source, answer = folder / "requirements.in", folder / "pylock.toml"
        source.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
        arguments = [
            *("pip", "compile", "--quiet", str(source), "--python", str(self.python)),
            *("--python-version", self.target.python, "--python-platform", self.platform),
            *("--only-binary", ":all:", "--no-header"),
            *("--format", "pylock.toml", "--output-file", str(answer)),
            *options,
        ]
        if self.pre:
            arguments += ["--prerelease", "allow"]
        if self.bounds:
            constraints = folder / "constraints.txt"
            constraints.write_text("".join(f"{b}\n" for b in self.bounds), encoding="utf-8")
            arguments += ["--constraint", str(constraints)]
        self.uv.run(arguments, cwd=folder, seconds=_COMPILE_SECONDS)
        return answer.read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class _Hopeless:
    """A line that cannot be had, what uv says about it, and the next version that has a wheel."""

    line: str
    said: str
    later: str = ""

    @property
    def has_no_wheel(self) -> bool:
        return _NO_WHEEL.search(self.said) is not None


def _explained(
    error: NoSolution, target: Target, hopeless: tuple[_Hopeless, ...], requirements: Requirements
) -> PackageError:
    where = f"Python {target.python} on {target.architecture}"
    file = _file(requirements)
    if not hopeless:
        # A dependency of a dependency, or a contradiction: uv tells who wants what.
        what = _reason(error.what, where) or f"the requirements contradict each other for {where}"
        return PackageError(
            f"{what}. {error.what}",
            where=file,
            fix="Loosen or update one of the pins that are named, or put what you built into "
            "`vendor/`.",
        )
    told = []
    without = [one for one in hopeless if one.has_no_wheel]
    if without:
        listed = ", ".join(_listed(one, requirements) for one in without)
        told.append(f"no wheel for Lambda ({where}): {listed}")
    told += [
        _reason(one.said, where) or f"`{one.line}` cannot be had for {where}: {one.said}"
        for one in hopeless
        if not one.has_no_wheel
    ]
    fixes = []
    if without:
        fixes.append(
            "Pin a version that has a wheel, or put what you built into `vendor/`: nothing is "
            "built from source, because building runs the dependency's code."
        )
    if len(without) < len(hopeless):
        fixes.append(
            "Look at the spelling and the version, or name the index that has it with "
            "`--extra-index-url`."
        )
    return PackageError("; ".join(told) + ".", where=file, fix=" ".join(fixes))


def _file(requirements: Requirements) -> str:
    return requirements.files[0] if requirements.files else "requirements.txt"


def _listed(one: _Hopeless, requirements: Requirements) -> str:
    at = next((entry.at for entry in requirements.entries if entry.text == one.line), None)
    about = [f"{at}"] if at else []
    about += [f"{one.later} has one"] if one.later else []
    return f"`{one.line}`" + (f" ({', '.join(about)})" if about else "")


def _reason(said: str, where: str) -> str:
    if match := _NOT_FOUND.search(said):
        return f"`{match.group(1)}` is not in the package index"
    if match := _NO_WHEEL.search(said):
        return f"`{match.group(1)}{match.group(2) or ''}` has no wheel for Lambda ({where})"
    if match := _NO_VERSION.search(said):
        version = match.group(2) or ""
        return f"there is no such version of `{match.group(1)}{version}` for {where}"
    return ""


def _chosen(text: str, requirements: Requirements, target: Target) -> tuple[Wheel, ...]:
    ranks = {tag: rank for rank, tag in enumerate(target.tags())}
    wheels: list[Wheel] = []
    missing: list[str] = []
    for package in tomllib.loads(text).get("packages", ()):
        name, version = str(package.get("name", "")), str(package.get("version", ""))
        entries = requirements.named(name)
        allowed = {value for entry in entries for kind, value in entry.hashes if kind == "sha256"}
        if requirements.require_hashes and not allowed:
            raise PackageError(
                f"`{name}=={version}` is needed and has no hash, while others have one.",
                where=_file(requirements),
                fix="Write every package with `--hash=sha256:…`, transitive ones too "
                "(`uv pip compile --generate-hashes` or `pip-compile --generate-hashes`).",
            )
        candidates = list(_ranked(package, ranks, requirements.require_hashes, allowed))
        if not candidates:
            missing.append(f"{name}=={version}")
            continue
        _, _, filename, url, sha256 = min(candidates, key=lambda c: (c[0], c[1], c[2]))
        wheels.append(
            Wheel(
                name=name,
                version=version,
                filename=filename,
                url=url,
                sha256=sha256,
                direct=bool(entries),
            )
        )
    if missing:
        glibc = ".".join(str(part) for part in target.glibc)
        hashes = " with one of the hashes given" if requirements.require_hashes else ""
        raise PackageError(
            f"no wheel for Lambda (Python {target.python}, {target.architecture}, glibc {glibc})"
            f"{hashes}: {', '.join(missing)}.",
            where=_file(requirements),
            fix="Pin a version that has one, or put what you built into `vendor/`.",
        )
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def _ranked(
    package: Mapping[str, object], ranks: Mapping[Tag, int], hashed: bool, allowed: set[str]
) -> Iterator[tuple[int, tuple[int, str], str, str, str]]:
    listed = package.get("wheels")
    for wheel in listed if isinstance(listed, list) else ():
        url = str(wheel.get("url", ""))
        filename = str(wheel.get("name") or unquote(urlsplit(url).path.rpartition("/")[2]))
        sha256 = str((wheel.get("hashes") or {}).get("sha256", ""))
        if not url or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            continue
        if hashed and sha256 not in allowed:
            continue
        try:
            _, _, build, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            continue
        fitting = [ranks[tag] for tag in tags if tag in ranks]
        if fitting:
            # Of two builds of the same wheel the later one counts.
            number, suffix = build or (0, "")
            yield min(fitting), (-number, suffix), filename, url, sha256
