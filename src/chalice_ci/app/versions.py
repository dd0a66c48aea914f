"""Which Python and which Chalice an app asks for, and whether the two are supported."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from chalice_ci.app.python_downloads import download_python, downloaded_python, may_download
from chalice_ci.app.pythons import Interpreter, describe, find_python
from chalice_ci.config import AppConfig
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.package.index import addresses
from chalice_ci.package.project_file import export_requirements, hidden_dependencies
from chalice_ci.package.requirements import Requirements, read_requirements
from chalice_ci.package.target import Target
from chalice_ci.package.variables import NO_VARIABLES, Variables
from chalice_ci.uv import UvFailed, clean_environ, find_uv

DEFAULT_CHALICE = "1.34.0"

SUPPORTED: dict[str, tuple[str, ...]] = {
    # 1.29.0 always asks Lambda for python3.10, 1.30.0 knows nothing after 3.11, and so on.
    "1.29.0": ("3.10",),
    "1.30.0": ("3.10", "3.11"),
    "1.31.0": ("3.10", "3.11", "3.12"),
    "1.31.1": ("3.10", "3.11", "3.12"),
    "1.31.2": ("3.10", "3.11", "3.12"),
    "1.31.3": ("3.10", "3.11", "3.12"),
    "1.31.4": ("3.10", "3.11", "3.12"),
    "1.32.0": ("3.10", "3.11", "3.12", "3.13"),
    "1.33.0": ("3.10", "3.11", "3.12", "3.13", "3.14"),
    "1.34.0": ("3.10", "3.11", "3.12", "3.13", "3.14"),
}
"""Every supported Chalice with the Pythons that are supported for it."""

PYTHONS = SUPPORTED[DEFAULT_CHALICE]

CHALICE_RULE = "chalice-version"
PYTHON_RULE = "python-version"

_MAX_VERSION_FILE = 4096
_PYTHON_VERSION = re.compile(r"(?:cpython-|python-?)?(3\.\d{1,2}(?:\.\d{1,3})?)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The Python and the Chalice of an app, and how they were chosen.

    `python` is Lambda's form ("3.12"); the sources are words for people. `findings` are warnings;
    `requirements` is what was read on the way.
    """

    interpreter: Interpreter
    python: str
    python_source: str
    chalice: str
    chalice_source: str
    requirements: Requirements
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Asked:
    version: str
    source: str
    at: Place | None = None


def support_table() -> str:
    """The supported pairs, as the documentation's table."""
    rows = ["| Chalice | Python |", "| --- | --- |"]
    rows += [f"| {chalice} | {', '.join(pythons)} |" for chalice, pythons in SUPPORTED.items()]
    return "\n".join(rows) + "\n"


def applies(requirement: Requirement, python: str) -> bool:
    """Whether a requirement's marker is true in Lambda."""
    if requirement.marker is None:
        return True
    return requirement.marker.evaluate(Target(python=python).marker_environment())


def resolve_app_versions(
    app_dir: Path,
    *,
    app: AppConfig,
    repo_root: Path,
    python_path: Path | None,
    running: Path,
    environ: Mapping[str, str],
    cache_dir: Path,
    log: Callable[[str], None],
    variables: Variables = NO_VARIABLES,
) -> Versions | tuple[Finding, ...]:
    """Choose an app's Python and Chalice, or say in findings why there is no choice.

    Python: `python_path` (an interpreter), chalice-ci.yml, `.python-version` beside the app or at
    the root, else the `running` interpreter. Chalice: chalice-ci.yml, else what requirements.txt
    asks for, else the default. A Python that is not here is fetched to `cache_dir` where the
    environment allows it. `variables` are those that requirements.txt may name.
    """
    requirements = read_requirements(
        app_dir,
        repo_root=repo_root,
        build=app.build,
        variables=variables,
        export=lambda: export_requirements(
            app_dir,
            repo_root=repo_root,
            uv=find_uv(environ, cache_dir=cache_dir / "uv", index=False),
            python=running,
            indexes=addresses(clean_environ(environ, home=cache_dir, index=True)),
        ),
    )
    warnings: list[Finding] = list(_hidden(app, app_dir, repo_root, requirements))
    asked, interpreter, refused = _python(
        app,
        (app_dir, repo_root),
        python_path,
        warnings,
        find=lambda version: find_python(version, environ=environ, running=running),
        running=running,
    )
    if refused is not None:
        return (refused,)
    chalice = _chalice(app, requirements, asked)
    if isinstance(chalice, Finding):
        return (chalice,)
    problem = ""
    if interpreter is None and asked.version:
        interpreter, problem = _fetched(asked.version, cache_dir, environ, log)
    if interpreter is None:
        return (_not_found(app, asked, problem),)
    return Versions(
        interpreter=interpreter,
        python=interpreter.minor,
        python_source=asked.source,
        chalice=chalice.version,
        chalice_source=chalice.source,
        requirements=requirements,
        findings=tuple(warnings),
    )


def _python(
    app: AppConfig,
    folders: tuple[Path, Path],
    python_path: Path | None,
    warnings: list[Finding],
    *,
    find: Callable[[str], Interpreter | None],
    running: Path,
) -> tuple[_Asked, Interpreter | None, Finding | None]:
    if python_path is not None:
        found = describe(python_path)
        if found is None:
            unusable = _finding(
                PYTHON_RULE,
                app,
                f"{python_path} is not a CPython that runs here.",
                "Let `python-path` name an interpreter such as /usr/bin/python3.12.",
            )
            return _Asked(version="", source="python-path"), None, unusable
        asked = _Asked(version=found.minor, source="python-path")
        return asked, found, _unsupported_python(app, asked)
    wanted = _configured(app) or _version_file(app, *folders, warnings)
    if wanted is None:
        found = describe(running)
        version = "" if found is None else found.minor
        wanted = _Asked(version=version, source="the Python that runs chalice-ci")
        return wanted, found, _unsupported_python(app, wanted)
    refused = _unsupported_python(app, wanted)
    if refused is not None:
        return wanted, None, refused
    return wanted, find(wanted.version), None


def _hidden(
    app: AppConfig, app_dir: Path, repo_root: Path, requirements: Requirements
) -> Iterator[Finding]:
    """A warning about an empty requirements.txt beside a project that has dependencies."""
    named = (*requirements.entries, *requirements.references, *requirements.problems)
    if named or not (app_dir / "requirements.txt").exists():
        return
    file, count = hidden_dependencies(app_dir, repo_root=repo_root)
    if file:
        yield _finding(
            "requirements-ignored",
            app,
            f"requirements.txt is empty and comes before {file}: the {count} "
            f"{'dependency' if count == 1 else 'dependencies'} of the project "
            f"{'is' if count == 1 else 'are'} not packaged.",
            "Remove requirements.txt, or fill it: "
            "`uv export --no-dev --no-emit-project --output-file requirements.txt`.",
            at=Place(file=requirements.file),
            severity=Severity.WARNING,
        )


def _fetched(
    version: str, cache_dir: Path, environ: Mapping[str, str], log: Callable[[str], None]
) -> tuple[Interpreter | None, str]:
    """A Python from elsewhere, or the reason why there is none."""
    found = downloaded_python(version, cache_dir=cache_dir)
    if found is not None or not may_download(environ):
        return found, ""
    log(f"fetching Python {version}")
    try:
        found = download_python(version, cache_dir=cache_dir, environ=environ)
    except UvFailed as error:
        return None, error.what
    return found, "" if found is not None else "what was fetched does not run here."


def _configured(app: AppConfig) -> _Asked | None:
    return None if app.python is None else _Asked(version=app.python, source="chalice-ci.yml")


def _version_file(
    app: AppConfig, app_dir: Path, repo_root: Path, warnings: list[Finding]
) -> _Asked | None:
    for folder in dict.fromkeys((app_dir.resolve(), repo_root.resolve())):
        path = folder / ".python-version"
        text = _small_text(path)
        if text is None:
            continue
        place = Place(file=path.relative_to(repo_root.resolve()).as_posix(), line=1)
        lines = [line.strip() for line in text.splitlines()]
        versions = [line for line in lines if line and not line.startswith("#")]
        match = _PYTHON_VERSION.fullmatch(versions[0]) if versions else None
        if match is not None:
            return _Asked(version=match.group(1), source=place.file, at=place)
        if versions:
            warnings.append(
                _finding(
                    PYTHON_RULE,
                    app,
                    f"`{versions[0][:40]}` does not say which Python 3 the app wants; "
                    "it is not taken into account.",
                    f'Write a version, or `python: "{PYTHONS[-1]}"` for the app in chalice-ci.yml.',
                    at=place,
                    severity=Severity.WARNING,
                )
            )
    return None


def _small_text(path: Path) -> str | None:
    try:
        # A link or a pipe of that name is not followed or waited for.
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as file:
            return file.read(_MAX_VERSION_FILE).decode("utf-8", "replace")
    except OSError:
        return None


DROPPED = {"2.7": "1.24.0", "3.6": "1.31.0", "3.7": "1.31.0", "3.8": "1.32.0", "3.9": "1.33.0"}
"""Pythons that Chalice supported once, with the release that dropped each."""


def _unsupported_python(app: AppConfig, asked: _Asked) -> Finding | None:
    minor = ".".join(asked.version.split(".")[:2])
    if minor in PYTHONS:
        return None
    gone = f" Chalice dropped {minor} in {DROPPED[minor]}." if minor in DROPPED else ""
    return _finding(
        PYTHON_RULE,
        app,
        f"Python {asked.version or '?'} (from {asked.source}) is not supported: "
        f"Chalice {DEFAULT_CHALICE} runs on {', '.join(PYTHONS)} here.{gone}",
        f"Ask for one of them, in chalice-ci.yml:\n{_override(app, 'python', PYTHONS[-1])}",
        at=asked.at,
        subject=asked.version,
    )


def _not_found(app: AppConfig, asked: _Asked, problem: str) -> Finding:
    fetched = f", and it could not be fetched: {problem}" if problem else "."
    mirror = " Or let this machine reach it (UV_PYTHON_INSTALL_MIRROR)." if problem else ""
    return _finding(
        PYTHON_RULE,
        app,
        f"Python {asked.version or '?'} (from {asked.source}) is not on this machine{fetched}",
        f"Install it (`actions/setup-python` with `python-version: '{asked.version}'`, pyenv, uv), "
        f"or name an interpreter with `python-path`.{mirror}",
        at=asked.at,
        subject=asked.version,
    )


def _chalice(app: AppConfig, requirements: Requirements, python: _Asked) -> _Asked | Finding:
    minor = ".".join(python.version.split(".")[:2])
    if app.chalice is not None:
        asked = _Asked(version=app.chalice, source="chalice-ci.yml")
        return _checked(app, asked, minor)
    for problem in requirements.problems:
        if problem.subject == "chalice":
            return _finding(
                CHALICE_RULE,
                app,
                "Chalice is asked for by an address; only its releases are driven.",
                f"Write `chalice=={DEFAULT_CHALICE}`, or in chalice-ci.yml:\n"
                f"{_override(app, 'chalice', DEFAULT_CHALICE)}",
                at=problem.at,
                subject="chalice",
            )
    named = [e for e in requirements.named("chalice") if applies(e.requirement, minor)]
    bounds = [
        e for e in requirements.constraints if e.name == "chalice" and applies(e.requirement, minor)
    ]
    if not named:
        return _checked(app, _Asked(version=DEFAULT_CHALICE, source="the default"), minor)
    entry = named[0]
    wanted = SpecifierSet()
    for each in (*named, *bounds):
        wanted &= each.requirement.specifier
    fitting = [version for version in SUPPORTED if wanted.contains(version, prereleases=False)]
    if not fitting:
        return _unsupported_chalice(app, str(wanted), minor, entry.at)
    runs = [version for version in fitting if minor in SUPPORTED[version]]
    # With none that runs on this Python, the newest says what it would run on.
    chosen = max(runs or fitting, key=Version)
    return _checked(app, _Asked(version=chosen, source=str(entry.at), at=entry.at), minor)


def _checked(app: AppConfig, asked: _Asked, python: str) -> _Asked | Finding:
    try:
        version = next(v for v in SUPPORTED if Version(v) == Version(asked.version))
    except (StopIteration, InvalidVersion):
        return _unsupported_chalice(app, f"=={asked.version}", python, asked.at)
    if python not in SUPPORTED[version]:
        pythons = SUPPORTED[version]
        return _finding(
            CHALICE_RULE,
            app,
            f"Chalice {version} runs on Python {', '.join(pythons)}, not on {python or '?'}.",
            f"Upgrade to chalice=={DEFAULT_CHALICE} in requirements.txt, or in chalice-ci.yml "
            f"override it:\n{_override(app, 'chalice', DEFAULT_CHALICE)}\n"
            f"or ask for a Python that it runs on:\n{_override(app, 'python', pythons[-1])}",
            at=asked.at,
            subject=version,
        )
    return _Asked(version=version, source=asked.source, at=asked.at)


def _unsupported_chalice(app: AppConfig, wanted: str, python: str, at: Place | None) -> Finding:
    return _finding(
        CHALICE_RULE,
        app,
        f"Chalice {wanted.removeprefix('==')} is not supported: "
        f"{', '.join(v for v, pythons in SUPPORTED.items() if python in pythons)} are, "
        f"on Python {python}.",
        f"Upgrade to chalice=={DEFAULT_CHALICE} in requirements.txt, or leave it as it is and "
        f"override it in chalice-ci.yml:\n{_override(app, 'chalice', DEFAULT_CHALICE)}",
        at=at,
        subject=wanted.removeprefix("=="),
    )


def _override(app: AppConfig, key: str, version: str) -> str:
    return f'apps:\n  {app.name}: {{path: {app.path}, {key}: "{version}"}}'


def _finding(
    rule: str,
    app: AppConfig,
    what: str,
    fix: str,
    *,
    at: Place | None = None,
    subject: str = "",
    severity: Severity = Severity.ERROR,
) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        what=what,
        fix=fix,
        subject=subject,
        app=app.name,
        at=at,
    )
