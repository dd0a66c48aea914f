"""What an app's environment holds besides what is always there: Chalice, boto3 and what they need.

As pinned if that works; where the app's pins contradict Chalice or each other, or have no wheel for
this Python, another version is taken and the difference has a reason. What is always there is
preferred: an app that asks for nothing else needs no resolution, and no index.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalice_ci.app.versions import applies
from chalice_ci.app.virtualenv import FORMAT, digest, open_folder
from chalice_ci.cache import sealed, unsealed
from chalice_ci.uv import Unreachable, Uv, UvFailed

if TYPE_CHECKING:
    from chalice_ci.app.pythons import Interpreter
    from chalice_ci.app.versions import Versions
    from chalice_ci.package.requirements import Entry

# A resolution is made anew after a day: requirements that are not pinned move on.
_RESOLUTION_SECONDS = 24 * 3600
_COMPILE_SECONDS = 120
_MAX_TRIED = 300
_FIRST_SECONDS = 60
# Older ones do not import on Python 3.12, and without a floor a pin of urllib3 leads to them.
_BOTOCORE = "botocore>=1.31.62"
_AWS = ("boto3", "botocore", "s3transfer")
NO_WHEEL = re.compile(r" has no (?:usable )?wheels")

CHALICE_NEEDS: Mapping[str, str] = {
    "click": ">=7,<9.0",
    "botocore": ">=1.31.62,<2.0.0",
    "jmespath": ">=0.9.3,<2.0.0",
    "pyyaml": ">=5.3.1,<7.0.0",
    "six": ">=1.10.0,<2.0.0",
    "typing-extensions": ">=4.0.0,<5.0.0",
}
"""What the supported Chalices need to be imported, with their bounds: without the tools (pip,
inquirer, setuptools, wheel) that only their command line and packager start."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What is installed: uv's lock; what was changed or left out, by name with a reason.

    An empty lock: what is always there is enough.
    """

    lock: str
    relaxed: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def versions(self) -> Iterator[tuple[str, str]]:
        """Names and versions of everything in the lock."""
        return _versions(self.lock)

    def to_json(self) -> str:
        """The form in which it is kept."""
        return json.dumps(
            {"lock": self.lock, "relaxed": self.relaxed, "left_out": self.left_out}, sort_keys=True
        )

    @classmethod
    def from_json(cls, text: str) -> Resolution:
        """Read what `to_json` wrote; ValueError, KeyError or TypeError for anything else."""
        said = json.loads(text)
        return cls(
            lock=str(said["lock"]),
            relaxed=tuple((str(n), str(r)) for n, r in said["relaxed"]),
            left_out=tuple((str(n), str(r)) for n, r in said["left_out"]),
        )


def resolve(
    versions: Versions,
    interpreter: Interpreter,
    uv: Uv,
    cache_dir: Path,
    clock: Callable[[], float],
    *,
    base: Mapping[str, str],
) -> Resolution:
    """What an app's environment holds; `base` is what is always there, with its versions.

    Raises PackageError when the index cannot be reached or Chalice itself cannot be had.
    """
    requirements = versions.requirements
    entries = [
        entry
        for entry in requirements.entries
        if entry.name != "chalice" and applies(entry.requirement, versions.python)
    ]
    bounds = [entry for entry in requirements.constraints if entry.name != "chalice"]
    if all(_has(base, entry.requirement) for entry in entries) and all(
        _has(base, bound.requirement)
        for bound in bounds
        if bound.name in base and applies(bound.requirement, versions.python)
    ):
        return Resolution(lock="")
    constraints = [bound.text for bound in bounds]
    key = digest(
        str(FORMAT),
        versions.chalice,
        interpreter.identity,
        json.dumps([entry.text for entry in entries]),
        json.dumps(constraints),
        json.dumps([requirements.pre, sorted(uv.environ.items()), sorted(base.items())]),
    )
    folder = cache_dir / "resolutions"
    open_folder(folder, mode=0o700)
    path = folder / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if 0 <= clock() - path.stat().st_mtime < _RESOLUTION_SECONDS:
            return Resolution.from_json(unsealed(path.read_text(encoding="utf-8"), key))
    with tempfile.TemporaryDirectory(prefix="resolve-", dir=folder) as work:
        resolver = _Resolver(
            uv=uv,
            python=interpreter.executable,
            folder=Path(work),
            constraints=tuple(constraints),
            pre=requirements.pre,
            chalice=versions.chalice,
            base=base,
        )
        resolution = resolver.resolve(entries[:_MAX_TRIED])
    draft = folder / f".{key}.{secrets.token_hex(4)}"
    draft.write_text(sealed(resolution.to_json(), key), encoding="utf-8")
    draft.replace(path)
    return resolution


def _has(base: Mapping[str, str], requirement: Requirement) -> bool:
    """Whether what is always there is what a line asks for."""
    version = base.get(canonicalize_name(requirement.name))
    plain = version is not None and not requirement.extras and not requirement.url
    return plain and requirement.specifier.contains(version or "", prereleases=True)


def without(lock: str, base: Mapping[str, str]) -> str:
    """A lock of uv without the packages that are there already, in these versions."""
    head, *packages = lock.split("\n[[packages]]\n")
    return "\n[[packages]]\n".join((head, *(text for text in packages if not _is_in(base, text))))


def contents(lock: str) -> list[list[object]]:
    """What a lock of uv installs, without where it comes from."""
    return [
        [
            package.get("name"),
            package.get("version"),
            sorted(
                json.dumps(one.get("hashes"))
                for one in (*package.get("wheels", ()), package.get("archive", {}))
                if one
            ),
        ]
        for package in tomllib.loads(lock).get("packages", ())
    ]


def _is_in(base: Mapping[str, str], package: str) -> bool:
    said = tomllib.loads(package)
    return base.get(said["name"]) == said.get("version")


@dataclass(frozen=True, kw_only=True)
class _Resolver:
    uv: Uv
    python: Path
    folder: Path
    constraints: tuple[str, ...]
    pre: bool
    chalice: str
    base: Mapping[str, str]

    def resolve(self, entries: Sequence[Entry]) -> Resolution:
        """As pinned if that works; else what works, with a reason for every difference."""
        base = [f"chalice=={self.chalice}", "boto3", _BOTOCORE]
        try:
            lines = [*base, *(entry.text for entry in entries)]
            return Resolution(lock=self.lock(lines, seconds=_FIRST_SECONDS))
        except Unreachable:
            raise
        except UvFailed:
            pass
        relaxed: dict[str, str] = {}
        left_out: dict[str, str] = {}
        kept = list(self._with_wheels(entries, relaxed, left_out))
        try:
            if left_out or relaxed:
                lock = self.lock([*base, *kept], seconds=_FIRST_SECONDS)
                return Resolution(
                    lock=lock, relaxed=tuple(relaxed.items()), left_out=tuple(left_out.items())
                )
        except Unreachable:
            raise
        except UvFailed:
            pass
        # One after the other. What AWS's libraries are is settled first and stands still then, so
        # that a contradiction is found at once and not by trying hundreds of their old versions.
        # Here an error is not the app's any more.
        lock, accepted = self.lock(base, constrained=False), base
        ordered = sorted(kept, key=lambda line: _name(line) not in _AWS)
        settled = False
        for line in ordered:
            name = _name(line)
            if name not in _AWS and not settled:
                settled = True
                known = dict(_versions(lock))
                accepted = [*accepted, *(f"{one}=={known[one]}" for one in _AWS if one in known)]
            reasons: list[str] = []
            for text in dict.fromkeys((line, _unpinned(Requirement(line)))):
                try:
                    lock = self.lock([*accepted, text], constrained=False, seconds=_FIRST_SECONDS)
                except Unreachable:
                    raise
                except UvFailed as error:
                    reasons.append(error.what)
                    continue
                accepted = [*accepted, text]
                if reasons:
                    relaxed.setdefault(name, reasons[0])
                break
            else:
                relaxed.pop(name, None)
                left_out[name] = reasons[-1]
        return Resolution(
            lock=lock, relaxed=tuple(relaxed.items()), left_out=tuple(left_out.items())
        )

    def _with_wheels(
        self, entries: Sequence[Entry], relaxed: dict[str, str], left_out: dict[str, str]
    ) -> Iterator[str]:
        """The requirements that can be had each on its own, without a version where it must be."""

        def alone(entry: Entry) -> tuple[str | None, str]:
            reason = ""
            for text in dict.fromkeys((entry.text, _unpinned(entry.requirement))):
                folder = Path(tempfile.mkdtemp(prefix="alone-", dir=self.folder))
                try:
                    replace(self, folder=folder).lock(
                        [text], "--no-deps", constrained=False, seconds=_FIRST_SECONDS
                    )
                except Unreachable:
                    raise
                except UvFailed as error:
                    reason = reason or error.what
                    continue
                return text, reason
            return None, reason

        with ThreadPoolExecutor(max_workers=4) as pool:
            for entry, (text, reason) in zip(entries, pool.map(alone, entries), strict=True):
                if text is None:
                    left_out[entry.name] = reason
                else:
                    if text != entry.text:
                        relaxed[entry.name] = reason
                    yield text

    def lock(
        self,
        lines: Sequence[str],
        *options: str,
        constrained: bool = True,
        seconds: float = _COMPILE_SECONDS,
    ) -> str:
        source = self.folder / "requirements.txt"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        arguments = [
            *("pip", "compile", "--quiet", str(source), "--python", str(self.python)),
            *("--only-binary", ":all:", "--no-header", "--format", "pylock.toml"),
            *options,
        ]
        if self.pre:
            arguments += ["--prerelease", "allow"]
        if self.constraints and constrained:
            bounds = self.folder / "constraints.txt"
            bounds.write_text("".join(f"{line}\n" for line in self.constraints), encoding="utf-8")
            arguments += ["--constraint", str(bounds)]
        # uv reads an older output as preferences: what is there already need not be fetched.
        answer = self.folder / "pylock.toml"
        answer.write_text(self._preferences, encoding="utf-8")
        settings = self.folder / "uv.toml"
        settings.write_text(self._settings, encoding="utf-8")
        self.uv.run(
            [*arguments, "--output-file", str(answer)],
            cwd=self.folder,
            seconds=seconds,
            settings=settings,
        )
        return answer.read_text(encoding="utf-8")

    @property
    def _preferences(self) -> str:
        packages = (
            f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
            for name, version in self.base.items()
        )
        return "\n".join(('lock-version = "1.0"\ncreated-by = "chalice-ci"\n', *packages))

    @property
    def _settings(self) -> str:
        """Chalice without its tools, as it is in the environment that the app's one stands on."""
        needs = [f"{name}{bounds}" for name, bounds in CHALICE_NEEDS.items() if name in self.base]
        return (
            f'[[dependency-metadata]]\nname = "chalice"\nversion = "{self.chalice}"\n'
            f"requires-dist = {json.dumps(needs)}\n"
        )


def _name(line: str) -> str:
    return str(canonicalize_name(Requirement(line).name))


def _unpinned(requirement: Requirement) -> str:
    """The requirement for any version: most of the time another one imports too."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}"


def _versions(lock: str) -> Iterator[tuple[str, str]]:
    for package in tomllib.loads(lock).get("packages", ()):
        if "version" in package:
            yield str(package["name"]), str(package["version"])
