"""The environments that children run in: one for the app (zone 2), one for the deployer (zone 3).

The app's environment holds Chalice, boto3 (as Lambda does) and what requirements.txt names. It is
there to import the app, not to be shipped: where the app's pins contradict Chalice or each other,
or have no wheel for this Python, another version is taken, and a finding says so. What is shipped
is resolved separately, with the true pins (`chalice_ci.package`).

The deployer's environment holds Chalice and its dependencies by version and hash, from files in
this package. Nothing of the app decides what is in it.

Nothing of what is installed runs here: no sdist is built, and once an environment is filled no
Python is started in it, because a `.pth` file of a dependency would run too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalice_ci.app.interpreter import reachable_interpreter
from chalice_ci.app.python_downloads import download_python, downloaded_python, may_download
from chalice_ci.app.pythons import Interpreter, describe, find_python
from chalice_ci.app.versions import SUPPORTED, Versions, applies
from chalice_ci.errors import PackageError
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.package.lock import with_index
from chalice_ci.package.requirements import Entry, Requirements
from chalice_ci.uv import Unreachable, Uv, UvFailed, find_uv

RULE = "load-dependency"

_FORMAT = 2
_RECORD = "chalice-ci.json"
# A resolution is made anew after a day: requirements that are not pinned move on.
_RESOLUTION_SECONDS = 24 * 3600
_COMPILE_SECONDS = 120
_MAX_TRIED = 300
_MASK = 0o022
_MAX_REASON = 500
_NO_WHEEL = re.compile(r" has no (?:usable )?wheels")
_FIRST_SECONDS = 60
# Older ones do not import on Python 3.12, and without a floor a pin of urllib3 leads to them.
_BOTOCORE = "botocore>=1.31.62"
_AWS = ("boto3", "botocore", "s3transfer")


@dataclass(frozen=True, kw_only=True)
class AppPython:
    """The Python that loads an app, with everything that it imports.

    `version` is Lambda's form ("3.12"), `key` names what went into the environment. `findings` are
    warnings about dependencies that are missing or have another version than the pinned one.
    """

    executable: Path
    version: str
    chalice: str
    key: str
    findings: tuple[Finding, ...] = ()

    @property
    def site_packages(self) -> Path:
        """Where the packages are."""
        return site_packages(self.executable)


@dataclass(frozen=True, kw_only=True)
class _Resolution:
    """What is installed: uv's lock; what was changed or left out, by name with a reason."""

    lock: str
    relaxed: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> str:
        return json.dumps(
            {"lock": self.lock, "relaxed": self.relaxed, "left_out": self.left_out}, sort_keys=True
        )

    @classmethod
    def from_json(cls, text: str) -> _Resolution:
        said = json.loads(text)
        return cls(
            lock=str(said["lock"]),
            relaxed=tuple((str(n), str(r)) for n, r in said["relaxed"]),
            left_out=tuple((str(n), str(r)) for n, r in said["left_out"]),
        )


def site_packages(python: Path) -> Path:
    """The packages of a virtual environment, given its interpreter; nothing is run.

    Raises PackageError when that is no environment.
    """
    library = python.parent.parent / "lib"
    found = sorted(library.glob("python3.*/site-packages"))
    if not found:
        raise PackageError("this is not the interpreter of an environment.", where=str(python))
    return found[0]


def chalice_dir(python: Path) -> Path:
    """The chalice package in an environment: of the deployer's, the genuine one for the zip."""
    return site_packages(python) / "chalice"


def make_app_environment(
    versions: Versions,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time.time,
) -> AppPython:
    """Make, or use again, the environment that loads an app.

    Raises PackageError when the index cannot be reached or Chalice itself cannot be had.
    """
    interpreter = _reachable(versions.interpreter, cache_dir)
    uv = find_uv(environ, cache_dir=cache_dir / "uv", index=True)
    uv = replace(uv, environ=with_index(uv.environ, versions.requirements))
    resolution = _resolution(versions, interpreter, uv, cache_dir, clock)
    key = _digest(str(_FORMAT), versions.chalice, interpreter.identity, _content(resolution.lock))
    executable = _environment(
        key,
        interpreter,
        uv,
        cache_dir,
        fill=lambda python, folder: _install_lock(uv, python, resolution.lock, folder),
    )
    return AppPython(
        executable=executable,
        version=versions.python,
        chalice=versions.chalice,
        key=key,
        findings=tuple(_told(resolution, versions)),
    )


def genuine_chalice(
    chalice_version: str,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
    interpreter: Interpreter,
) -> Path:
    """The chalice package of a version as its wheel has it, verified by hash, without dependencies.

    Its runtime goes into the package: in the app's environment a dependency could have changed it.
    """
    lines = _lines_of(deployer_lock(chalice_version), "chalice")
    python = _locked_environment(
        "chalice", chalice_version, lines, interpreter, cache_dir=cache_dir, environ=environ
    )
    return chalice_dir(python)


def _lines_of(lock: str, name: str) -> str:
    """The lines of one distribution in a lock, with its hashes."""
    taken: list[str] = []
    inside = False
    for line in lock.splitlines():
        if not line.startswith(" "):
            inside = line.startswith(f"{name}==")
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
        "deployer", chalice_version, lock, interpreter, cache_dir=cache_dir, environ=environ
    )


def _locked_environment(
    kind: str,
    chalice_version: str,
    lock: str,
    interpreter: Interpreter,
    *,
    cache_dir: Path,
    environ: Mapping[str, str],
) -> Path:
    """The Python of an environment that holds exactly what a lock of this package names."""
    # A cache of its own: nothing that an app's index ever served is near it.
    uv = find_uv(environ, cache_dir=cache_dir / "uv-deployer", index=False)
    key = _digest(str(_FORMAT), kind, chalice_version, interpreter.identity, lock)

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

    return _environment(key, interpreter, uv, cache_dir, fill=fill)


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


def _reachable(interpreter: Interpreter, cache_dir: Path) -> Interpreter:
    """The interpreter where a process without rights can run it; the same one when it can't be."""
    _open_folder(cache_dir)
    executable = reachable_interpreter(interpreter.executable, cache_dir=cache_dir)
    if executable == interpreter.executable:
        return interpreter
    return describe(executable) or interpreter


# --- what to install ------------------------------------------------------------------------------


def _resolution(
    versions: Versions,
    interpreter: Interpreter,
    uv: Uv,
    cache_dir: Path,
    clock: Callable[[], float],
) -> _Resolution:
    requirements = versions.requirements
    entries = [
        entry
        for entry in requirements.entries
        if entry.name != "chalice" and applies(entry.requirement, versions.python)
    ]
    constraints = [e.text for e in requirements.constraints if e.name != "chalice"]
    key = _digest(
        str(_FORMAT),
        versions.chalice,
        interpreter.identity,
        json.dumps([entry.text for entry in entries]),
        json.dumps(constraints),
        json.dumps([requirements.pre, sorted(uv.environ.items())]),
    )
    folder = cache_dir / "resolutions"
    _open_folder(folder, mode=0o700)
    path = folder / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if 0 <= clock() - path.stat().st_mtime < _RESOLUTION_SECONDS:
            return _Resolution.from_json(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="resolve-", dir=folder) as work:
        resolver = _Resolver(
            uv=uv,
            python=interpreter.executable,
            folder=Path(work),
            constraints=tuple(constraints),
            pre=requirements.pre,
        )
        resolution = resolver.resolve(versions.chalice, entries[:_MAX_TRIED])
    draft = folder / f".{key}.{secrets.token_hex(4)}"
    draft.write_text(resolution.to_json(), encoding="utf-8")
    draft.replace(path)
    return resolution


@dataclass(frozen=True, kw_only=True)
class _Resolver:
    uv: Uv
    python: Path
    folder: Path
    constraints: tuple[str, ...]
    pre: bool

    def resolve(self, chalice: str, entries: Sequence[Entry]) -> _Resolution:
        """As pinned if that works; else what works, with a reason for every difference."""
        base = [f"chalice=={chalice}", "boto3", _BOTOCORE]
        try:
            lines = [*base, *(entry.text for entry in entries)]
            return _Resolution(lock=self.lock(lines, seconds=_FIRST_SECONDS))
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
                return _Resolution(
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
        return _Resolution(
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
        # An older output would be read as preferences.
        answer = self.folder / "pylock.toml"
        answer.unlink(missing_ok=True)
        self.uv.run([*arguments, "--output-file", str(answer)], cwd=self.folder, seconds=seconds)
        return answer.read_text(encoding="utf-8")


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


def _told(resolution: _Resolution, versions: Versions) -> Iterator[Finding]:
    """Say what is missing (a warning) and what has another version (a notice).

    Another version is not what is packaged, and makes no difference to most imports.
    """
    requirements = versions.requirements
    loaded = dict(_versions(resolution.lock))
    where = f"Python {versions.python} and Chalice {versions.chalice}"
    for name, reason in resolution.left_out:
        yield Finding(
            rule=RULE,
            severity=Severity.WARNING,
            what=f"{_asked(requirements, name)} is missing while the app is loaded: "
            f"nothing of it can be installed for {where}.",
            detail=_why(reason),
            fix="Pin a version that has a wheel: "
            "dependencies are not built from source, because building runs their code.",
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
    if _NO_WHEEL.search(reason):
        return "It has no wheel for this Python."
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}…"


def _at(requirements: Requirements, name: str) -> Place | None:
    entries = requirements.named(name)
    return entries[0].at if entries else None


# --- making one -----------------------------------------------------------------------------------


def _environment(
    key: str,
    interpreter: Interpreter,
    uv: Uv,
    cache_dir: Path,
    *,
    fill: Callable[[Path, Path], None],
) -> Path:
    """The interpreter of the environment `key`: made once, whole or not at all."""
    folder = cache_dir / "environments"
    _open_folder(cache_dir)
    _open_folder(folder)
    target = folder / key
    executable = target / "bin" / "python"
    if _is_whole(target, key):
        return executable
    with _locked(folder / f".{key}.lock"):
        # Another process may have made it meanwhile.
        if _is_whole(target, key):
            return executable
        draft = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=folder))
        try:
            made = draft / "environment"
            uv.run(
                [
                    *("venv", "--quiet", "--no-project", "--python"),
                    *(str(interpreter.executable), str(made)),
                ],
                cwd=draft,
            )
            fill(made / "bin" / "python", draft)
            _finish(made, target, interpreter, key)
            if target.exists():
                target.rename(draft / "broken")
            made.rename(target)
        except OSError as error:
            raise PackageError(
                f"an environment could not be made: {error.strerror or error}.",
                where=str(folder),
                fix="Look at the free space and the rights of the cache folder (--cache-dir).",
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return executable


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


def _finish(made: Path, target: Path, interpreter: Interpreter, key: str) -> None:
    """Take out what is never used, compile, and write the record that makes it whole."""
    for script in (made / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()
    # uv's lock is writable by everybody.
    (made / ".lock").unlink(missing_ok=True)
    packages = site_packages(made / "bin" / "python")
    _compile(packages, packages.relative_to(made), target, interpreter.executable)
    record = {"format": _FORMAT, "key": key, "python": interpreter.version}
    (made / _RECORD).write_text(json.dumps(record), encoding="utf-8")
    (made / _RECORD).chmod(0o644)
    made.chmod(0o755)


# Chalice depends on them and imports none of them while it loads an app: two thirds of all text.
_NOT_IMPORTED = (
    r"/site-packages/(pip|setuptools|_distutils_hack|wheel|inquirer|blessed|jinxed|wcwidth)/"
)


def _compile(packages: Path, inside: Path, target: Path, python: Path) -> None:
    """Compile what was installed, so that loads are fast: who loads may not write here.

    With the base interpreter and `-S`, so that no `.pth` file of the environment is obeyed. Files
    that do not compile (other syntaxes are shipped at times) stay as they are.
    """
    command = [
        *(str(python), "-I", "-S", "-m", "compileall", "-qq", "-j", "2", "-x", _NOT_IMPORTED),
        *("-s", str(packages), "-p", str(target / inside), str(packages)),
    ]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            command,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            cwd=packages,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_COMPILE_SECONDS,
            umask=_MASK,
            check=False,
        )


def _is_whole(target: Path, key: str) -> bool:
    try:
        record = json.loads((target / _RECORD).read_text(encoding="utf-8"))
        return record["key"] == key and (target / "bin" / "python").exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open_folder(folder: Path, mode: int = 0o755) -> None:
    """Make a folder with exactly these rights, whatever the umask is; an existing one stays."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _content(lock: str) -> str:
    """What a lock installs, without where it comes from."""
    said = tomllib.loads(lock)
    return json.dumps(
        [
            [
                package.get("name"),
                package.get("version"),
                sorted(json.dumps(wheel.get("hashes")) for wheel in package.get("wheels", ())),
            ]
            for package in said.get("packages", ())
        ]
    )


def _digest(*parts: str) -> str:
    joined = "\0".join(re.sub("\0", "", part) for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:32]
