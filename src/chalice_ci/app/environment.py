"""The environments that children run in: one for the app (zone 2), one for the deployer (zone 3).

The app's environment holds Chalice, boto3 (as Lambda does) and what requirements.txt names. It is
there to import the app, not to be shipped: where the app's pins contradict Chalice or each other,
or have no wheel for this Python, another version is taken, and a finding says so. What is shipped
is resolved separately, with the true pins (`chalice_ci.package`).

It is made of two layers. The lower one, Chalice and boto3 by version and hash from files in this
package, is the same for all apps; the image brings it. The upper one holds only what an app needs
besides, so most of what is slow is done once, and for an app without dependencies nothing is.

The deployer's environment holds Chalice and its dependencies by version and hash, from files in
this package. Nothing of the app decides what is in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from packaging.requirements import Requirement

from chalice_ci.app.interpreter import (
    keep_reachable,
    kept_reachable,
    reachable_interpreter,
    runs_for_others,
)
from chalice_ci.app.loader import install_loader, loader_digest
from chalice_ci.app.python_downloads import download_python, downloaded_python, may_download
from chalice_ci.app.pythons import Interpreter, describe, find_python
from chalice_ci.app.resolution import (
    CHALICE_NEEDS,
    NO_WHEEL,
    Resolution,
    contents,
    resolve,
    without,
)
from chalice_ci.app.versions import SUPPORTED, Versions, applies
from chalice_ci.app.virtualenv import (
    BROUGHT,
    FORMAT,
    digest,
    forget_environment,
    make_environment,
    open_folder,
    site_packages,
)
from chalice_ci.errors import PackageError
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.package.index import with_index
from chalice_ci.package.requirements import Requirements
from chalice_ci.package.unsolved import opt_in
from chalice_ci.uv import Uv, find_uv

RULE = "load-dependency"

_MAX_REASON = 500
# With what these need: nobody asks for it by name.
_BASE = ("chalice", *CHALICE_NEEDS, "boto3", "s3transfer", "python-dateutil", "urllib3")


@dataclass(frozen=True, kw_only=True)
class AppPython:
    """The Python that loads an app, with everything that it imports.

    `version` is Lambda's form ("3.12"), `key` names what went into the environment, `lock` (uv's)
    is what the app asked for beyond what is always there. `findings` are warnings about
    dependencies that are missing or have another version than the pinned one.
    """

    executable: Path
    version: str
    chalice: str
    lock: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def key(self) -> str:
        """Names what went into the environment."""
        return self.executable.parent.parent.name


def chalice_dir(python: Path) -> Path:
    """The chalice package in an environment: of the deployer's, the genuine one for the zip."""
    return site_packages(python) / "chalice"


def make_app_environment(
    versions: Versions,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time.time,
    brought: Path = BROUGHT,
    wheels: tuple[Path, ...] = (),
) -> AppPython:
    """Make, or use again, the environment that loads an app.

    `brought` is where environments are that need not be made, `wheels` are folders with wheels that
    no index has. Raises PackageError when the index
    cannot be reached or Chalice itself cannot be had.
    """
    interpreter = reachable(versions.interpreter, cache_dir, brought=brought)
    there = dict(_pins(_base_lock(versions.chalice), versions.python))
    with ThreadPoolExecutor(max_workers=1) as pool:
        making = pool.submit(
            make_base_environment,
            versions.chalice,
            cache_dir=cache_dir,
            environ=environ,
            interpreter=interpreter,
            brought=brought,
        )
        uv = find_uv(environ, cache_dir=cache_dir / "uv", index=True)
        uv = replace(uv, environ=with_index(uv.environ, versions.requirements, wheels))
        resolution = resolve(versions, interpreter, uv, cache_dir, clock, base=there)
        executable = making.result()
    rest = without(resolution.lock, there)
    if contents(rest):
        executable = make_environment(
            digest(str(FORMAT), executable.parent.parent.name, json.dumps(contents(rest))),
            interpreter,
            uv,
            cache_dir,
            fill=lambda python, folder: _install_lock(uv, python, rest, folder),
            stands_on=executable,
            brought=brought,
        )
    asked = {entry.name for entry in versions.requirements.entries}
    return AppPython(
        executable=executable,
        version=versions.python,
        chalice=versions.chalice,
        lock=without(resolution.lock, {one: there[one] for one in there if one not in asked}),
        findings=tuple(_told(resolution, versions)),
    )


def make_base_environment(
    chalice_version: str,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    interpreter: Interpreter,
    brought: Path = BROUGHT,
) -> Path:
    """Make, or use again, what the environments of all apps stand on: its Python executable.

    Raises PackageError for anything whose hash is not the expected one.
    """
    return _locked_environment(
        *("app", chalice_version, _base_lock(chalice_version), interpreter),
        cache_dir=cache_dir,
        environ=environ,
        brought=brought,
        loads=True,
    )


def _base_lock(chalice_version: str) -> str:
    """What every app's environment has, with hashes: no tools, but boto3, as Lambda."""
    boto3 = resources.files("chalice_ci") / "locks" / "boto3.txt"
    whole = deployer_lock(chalice_version) + boto3.read_text(encoding="utf-8")
    return _lines_of(whole, *_BASE)


def _pins(lock: str, python: str) -> Iterator[tuple[str, str]]:
    """Names and versions of what a lock installs on a Python, "3.12"."""
    for line in lock.splitlines():
        if not line.startswith(" "):
            requirement = Requirement(line.rstrip("\\"))
            if applies(requirement, python):
                (pin,) = requirement.specifier
                yield requirement.name, pin.version


def genuine_chalice(
    chalice_version: str,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    interpreter: Interpreter,
    brought: Path = BROUGHT,
) -> Path:
    """The chalice package of a version as its wheel has it, verified by hash, without dependencies.

    Its runtime goes into the package: in the app's environment a dependency could have changed it.
    What was damaged since it was kept is made anew; raises PackageError when that does not help.
    """
    lines = _lines_of(deployer_lock(chalice_version), "chalice")
    for last in (False, True):
        python = _locked_environment(
            *("chalice", chalice_version, lines, interpreter),
            cache_dir=cache_dir,
            environ=environ,
            brought=brought,
            # It is packaged, not imported.
            compiled=False,
        )
        found = chalice_dir(python)
        if _is_as_installed(found, chalice_version):
            return found
        if not last:
            forget_environment(python)
    raise PackageError(
        f"what is kept of Chalice {chalice_version} is damaged.",
        where=str(found),
        fix="Remove the cache folder (--cache-dir) and run again.",
    )


def _is_as_installed(package: Path, chalice_version: str) -> bool:
    """Whether Chalice's runtime is what the RECORD of its wheel says (PyPA, recording installed
    projects: path, hash, size).
    """
    record = package.parent / f"chalice-{chalice_version}.dist-info" / "RECORD"
    try:
        said = set(record.read_text(encoding="utf-8").splitlines())
        for name in ("__init__.py", "app.py"):
            data = (package / name).read_bytes()
            digest_of = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            if f"chalice/{name},sha256={digest_of},{len(data)}" not in said:
                return False
    except (OSError, UnicodeDecodeError):
        return False
    return True


def _lines_of(lock: str, *names: str) -> str:
    """The lines of some distributions in a lock, with their hashes."""
    taken: list[str] = []
    inside = False
    for line in lock.splitlines():
        if not line.startswith(" "):
            inside = line.partition("==")[0] in names
        if inside:
            taken.append(line)
    return "\n".join(taken) + "\n"


def make_deployer_environment(
    chalice_version: str,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    interpreter: Interpreter | None = None,
    running: Path | None = None,
    brought: Path = BROUGHT,
) -> Path:
    """Make, or use again, the environment that deploys: its Python executable.

    Without `interpreter`, the running Python is taken if that Chalice supports it, else the newest
    supported one on this machine. Raises PackageError for an unsupported version, a missing Python,
    or anything whose hash is not the expected one.
    """
    lock = deployer_lock(chalice_version)
    if interpreter is None:
        interpreter = _any_python(chalice_version, environ, running, cache_dir)
    return _locked_environment(
        *("deployer", chalice_version, lock, interpreter),
        cache_dir=cache_dir,
        environ=environ,
        brought=brought,
    )


def make_packager_environment(
    chalice_version: str,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    interpreter: Interpreter,
) -> Path:
    """Make, or use again, the environment that runs Chalice's own packager: its Python executable.

    It holds what the deployer's does, pip included, on a Python that a process without rights can
    run. Raises PackageError as `make_deployer_environment`.
    """
    return make_deployer_environment(
        chalice_version,
        cache_dir=cache_dir,
        environ=environ,
        interpreter=reachable(interpreter, cache_dir),
    )


def _locked_environment(
    kind: str,
    chalice_version: str,
    lock: str,
    interpreter: Interpreter,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    brought: Path,
    compiled: bool = True,
    loads: bool = False,
) -> Path:
    """The Python of an environment that holds exactly what a lock of this package names; of one
    that `loads` apps, the loader too.
    """
    # A cache of its own: nothing that an app's index ever served is near it.
    uv = find_uv(environ, cache_dir=cache_dir / "uv-deployer", index=False)
    key = digest(
        *(str(FORMAT), kind, chalice_version, interpreter.identity, lock),
        loader_digest() if loads else "",
    )

    def fill(python: Path, folder: Path) -> None:
        source = folder / "requirements.txt"
        source.write_text(lock, encoding="utf-8")
        uv.run(
            [
                *("pip", "install", "--quiet", "--python", str(python)),
                *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
                *("--requirement", str(source)),
            ],
            cwd=folder,
        )
        if loads:
            install_loader(python.parent.parent)

    return make_environment(
        key, interpreter, uv, cache_dir, fill=fill, compiled=compiled, brought=brought
    )


def deployer_lock(chalice_version: str) -> str:
    """The hash-locked requirements of one Chalice: names, versions and hashes."""
    lock = resources.files("chalice_ci") / "locks" / f"chalice-{chalice_version}.txt"
    if chalice_version not in SUPPORTED or not lock.is_file():
        raise PackageError(
            f"there is no deployer for Chalice {chalice_version}.",
            fix=f"Use one of {', '.join(SUPPORTED)}.",
        )
    return lock.read_text(encoding="utf-8")


def _any_python(
    chalice_version: str, environ: Mapping[str, str], running: Path | None, cache_dir: Path
) -> Interpreter:
    pythons = SUPPORTED[chalice_version]
    own = describe(running) if running is not None else None
    if own is not None and own.minor in pythons:
        return own
    for minor in reversed(pythons):
        found = find_python(minor, environ=environ)
        found = found or downloaded_python(minor, cache_dir=cache_dir)
        if found is not None:
            return found
    if may_download(environ):
        found = download_python(pythons[-1], cache_dir=cache_dir, environ=environ)
        if found is not None:
            return found
    raise PackageError(
        f"no Python that Chalice {chalice_version} supports ({', '.join(pythons)}) is on this "
        "machine.",
        fix=f"Install Python {pythons[-1]}.",
    )


def reachable(interpreter: Interpreter, cache_dir: Path, *, brought: Path = BROUGHT) -> Interpreter:
    """The interpreter where a process without rights can run it; the same one when it can't be.

    Whether one can is found out by running it, once for each cache folder.
    """
    if os.geteuid() != 0:
        return interpreter
    note = Path("interpreters", f"{interpreter.identity}.json")
    known = kept_reachable(brought / note) or kept_reachable(cache_dir / note)
    if known is None:
        open_folder(cache_dir)
        known = reachable_interpreter(interpreter.executable, cache_dir=cache_dir)
        if known != interpreter.executable or runs_for_others(known):
            open_folder(cache_dir / note.parent)
            keep_reachable(cache_dir / note, known)
    if known == interpreter.executable:
        return interpreter
    return replace(
        interpreter, executable=known, identity=digest(interpreter.identity, str(known))[:16]
    )


def _install_lock(uv: Uv, python: Path, lock: str, folder: Path) -> None:
    source = folder / "pylock.toml"
    source.write_text(lock, encoding="utf-8")
    uv.run(
        [
            *("pip", "install", "--quiet", "--preview-features", "pylock", "--no-deps"),
            *("--only-binary", ":all:", "--python", str(python), "--requirement", str(source)),
        ],
        cwd=folder,
    )


# --- what was found on the way --------------------------------------------------------------------


def _told(resolution: Resolution, versions: Versions) -> Iterator[Finding]:
    """Say what is missing (a warning) and what has another version (a notice).

    Another version is not what is packaged, and makes no difference to most imports.
    """
    requirements = versions.requirements
    loaded = dict(resolution.versions)
    where = f"Python {versions.python} and Chalice {versions.chalice}"
    for name, reason in resolution.left_out:
        yield Finding(
            rule=RULE,
            severity=Severity.WARNING,
            what=f"{_asked(requirements, name)} is missing while the app is loaded: "
            f"nothing of it can be installed for {where}.",
            detail=_why(reason),
            fix=f"Pin a version that has a wheel, or {opt_in([name])}.",
            subject=name,
            at=_at(requirements, name),
        )
    for name, reason in resolution.relaxed:
        instead = f"version {loaded[name]}" if name in loaded else "another version"
        yield Finding(
            rule=RULE,
            severity=Severity.NOTICE,
            what=f"{_asked(requirements, name)} cannot be installed for {where}: "
            f"the app is loaded with {instead} instead. The package keeps to requirements.txt.",
            detail=_why(reason),
            fix="Update the pin.",
            subject=name,
            at=_at(requirements, name),
        )
    for problem in requirements.problems:
        # For packaging they are errors; loading goes on without them and says so.
        yield replace(
            problem,
            rule=RULE,
            severity=Severity.WARNING,
            what=f"{problem.what} The app is loaded without it.",
        )


def _asked(requirements: Requirements, name: str) -> str:
    entries = requirements.named(name)
    return f"`{entries[0].text if entries else name}`"


def _why(reason: str) -> str:
    """What uv says, short: its proof of a contradiction can be longer than any report."""
    if NO_WHEEL.search(reason):
        return "It has no wheel for this Python."
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}…"


def _at(requirements: Requirements, name: str) -> Place | None:
    entries = requirements.named(name)
    return entries[0].at if entries else None
