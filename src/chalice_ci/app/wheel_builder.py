"""Builds wheels where the code that does it can steal nothing: in the sandbox, offline.

    build requirements ──► wheels, fetched here ──► an environment ──┐
    the archive ─────────────────────────────────────────────────────┴─► sandbox ──► a wheel

What a build needs is fetched before, as wheels, by this process, which runs none of it; the build
itself has no network and no credential. When the backend asks for more (PEP 517's
`get_requires_for_build_wheel`), that is fetched and the build begins anew. The wheel that comes out
is copied and looked into by `chalice_ci.package.source`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalice_ci.app.environment import reachable
from chalice_ci.app.pythons import Interpreter
from chalice_ci.app.sandbox import (
    Ended,
    Limits,
    Owner,
    Program,
    SandboxError,
    run_confined,
    sandbox_folder,
)
from chalice_ci.errors import PackageError
from chalice_ci.neutral import neutralise
from chalice_ci.package.source import BuildSystem, Source, plain_requirements
from chalice_ci.uv import Uv, UvFailed

_CHILD = Path(__file__).parent.parent / "child" / "chalice_ci_child" / "build.py"
_START = "import sys; sys.path.insert(0, sys.argv[1]); import build; del sys.path[0]; build.main()"
_MAX_WHEEL = 300 * 1024 * 1024
_ROUNDS = 3
_LAST_LINES = 8

LIMITS = Limits(
    wall_seconds=600,
    cpu_seconds=900,
    processes=256,
    file_bytes=512 * 1024**2,
    written_bytes=2 * 1024**3,
    written_files=60_000,
    answer_bytes=1024**2,
)
"""What one build may use: a compiler writes more than an app that is loaded."""


@dataclass(frozen=True, kw_only=True)
class SandboxedBuilder:
    """A `chalice_ci.package.source.Builder`.

    `uv` fetches the build requirements from the app's own indexes; `work_dir` is a folder of this
    run that other users may traverse; `confined` refuses to build where nothing shuts it in.
    """

    interpreter: Interpreter
    uv: Uv
    cache_dir: Path
    work_dir: Path
    confined: bool
    log: Callable[[str], None]
    limits: Limits = LIMITS

    def __call__(self, source: Source, system: BuildSystem, folder: Path) -> Path:
        """Build a source; the wheel is copied to `folder`."""
        self.log(f"building {source.shown}")
        owner = Owner()
        python = reachable(self.interpreter, self.cache_dir).executable
        requires = system.requires
        with sandbox_folder(self.work_dir, owner) as home:
            archive, child, environment = home / "archive", home / "child", home / "environment"
            child.mkdir()
            for place, copy in ((_CHILD, child / "build.py"), (source.archive, archive)):
                with place.open("rb") as original, copy.open("xb") as file:
                    shutil.copyfileobj(original, file)
                    owner.give(file.fileno(), executable=False)
            owner.give_folder(child)
            self._install(requires, python, environment, source)
            for attempt in range(_ROUNDS):
                own = home / f"own{attempt}"
                owner.make_own(own)
                request = {
                    "archive": str(archive),
                    "folder": str(own),
                    "subdirectory": source.subdirectory,
                    "backend": system.backend,
                    "backend_path": system.backend_path,
                    "complete": attempt + 1 == _ROUNDS,
                }
                said = self._run(request, source, (home, own, environment, python), owner)
                if "wheel" in said:
                    return _taken(own / "wheel", str(said["wheel"]), folder, source)
                more = said.get("requires")
                if not isinstance(more, list):
                    raise _failed(source, "the build ended without a result")
                wanted = plain_requirements(tuple(str(one) for one in more), source)
                requires = (*requires, *wanted)
                self._install(requires, python, environment, source)
        raise _failed(source, "it asks for something else each time")

    def _install(
        self, requires: tuple[str, ...], python: Path, environment: Path, source: Source
    ) -> None:
        """Make the environment anew; only wheels go into it, and none of it is run here."""
        listed = environment.with_suffix(".txt")
        listed.write_text("".join(f"{line}\n" for line in requires), encoding="utf-8")
        try:
            self.uv.run(
                [
                    *("venv", "--quiet", "--no-project", "--clear"),
                    *("--python", str(python), str(environment)),
                ],
                cwd=environment.parent,
            )
            self.uv.run(
                [
                    # Copies: a build that runs as our own user must not reach uv's cache.
                    *("pip", "install", "--quiet", "--link-mode", "copy"),
                    *("--python", str(environment / "bin" / "python")),
                    *("--only-binary", ":all:", "--requirement", str(listed)),
                ],
                cwd=environment.parent,
            )
        except UvFailed as error:
            raise PackageError(
                f"what {source.shown} needs to be built cannot be had: {error.what}",
                where=source.where,
                fix="Pin a version that has a wheel, or put what you built into `vendor/`.",
            ) from error

    def _run(
        self,
        request: Mapping[str, object],
        source: Source,
        places: tuple[Path, Path, Path, Path],
        owner: Owner,
    ) -> dict[str, Any]:
        home, own, environment, python = places
        nonce = secrets.token_hex(16)
        executable = environment / "bin" / "python"
        base = python.resolve().parent.parent
        program = Program(
            argv=(str(executable), "-I", "-B", "-c", _START, str(home / "child")),
            environ={
                "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
                "HOME": str(own),
                "TMPDIR": str(own),
                "LANG": "C.UTF-8",
                "TZ": "UTC",
                # The same source gives the same wheel, as far as its backend cares.
                "SOURCE_DATE_EPOCH": "315532800",
                "PYTHONHASHSEED": "0",
            },
            cwd=own,
            folder=own,
            readable=(
                home,
                *(base / part for part in ("bin", "lib", "lib64", "include", "pyvenv.cfg")),
            ),
            confined=self.confined,
        )
        try:
            ended = run_confined(
                program,
                json.dumps({**request, "nonce": nonce}).encode(),
                owner=owner,
                limits=self.limits,
            )
        except SandboxError as error:
            raise PackageError(
                f"{source.shown} was not built: nothing shuts it in here.",
                where=source.where,
                fix=error.fix,
            ) from error
        output = neutralise(ended.output.decode("utf-8", "replace").replace(f"{own}/", ""))
        for line in output.splitlines():
            self.log(f"build| {line}")
        said = answer_of(ended, nonce)
        if said is None or "error" in said:
            raise _failed(source, why_it_failed(ended, said, self.limits), output)
        return said


def answer_of(ended: Ended, nonce: str) -> dict[str, Any] | None:
    """What a program said that was told `nonce`; None when it is not its answer."""
    first, _, document = ended.answer.partition(b"\n")
    if ended.reason or not secrets.compare_digest(first, nonce.encode()):
        return None
    try:
        said = json.loads(document)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def why_it_failed(ended: Ended, said: Mapping[str, Any] | None, limits: Limits) -> str:
    """Why there is no result, in words; `said` may hold an error of the program's own."""
    match ended.reason:
        case "timeout":
            return f"it did not finish within {limits.wall_seconds:g} s"
        case "memory":
            return f"it used more than {limits.memory_bytes // 1024**2} MiB of memory"
        case "disk":
            return f"it wrote more than {limits.written_bytes // 1024**2} MiB"
        case "":
            if said is not None:
                return " ".join(neutralise(str(said["error"])).split())[:500]
            return f"the build ended itself with code {ended.status}"
    return "the build left processes behind, or answered too much"


def _failed(source: Source, why: str, output: str = "") -> PackageError:
    last = [line for line in output.splitlines() if line.strip()][-_LAST_LINES:]
    told = "".join(f"\n  {line[:300]}" for line in last)
    return PackageError(
        f"{source.shown} could not be built: {why}.{told}",
        where=source.where,
        fix="Builds have no network: what one needs has to stand in its `[build-system]`. "
        "Else pin a version that has a wheel, or put what you built into `vendor/`.",
    )


def _taken(wheels: Path, name: str, folder: Path, source: Source) -> Path:
    if not name.endswith(".whl"):
        raise _failed(source, f"its backend answered with {name[:80]!r} instead of a wheel")
    return take_file(wheels, name, folder, lambda why: _failed(source, f"its wheel {why}"))


def take_file(
    folder: Path, name: str, target: Path, refused: Callable[[str], PackageError]
) -> Path:
    """Copy a file out of a program's folder, which may hold anything, to `target`."""
    if "/" in name or len(name) > 250:
        raise refused(f"is called {name[:80]!r} instead of a wheel's name")
    opened = None
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened)
        with os.fdopen(found, "rb") as original:
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_WHEEL:
                raise refused("is not a file of a sensible size")
            with (target / name).open("xb") as copy:
                shutil.copyfileobj(original, copy, 1024 * 1024)
            (target / name).chmod(0o644)
    except OSError as error:
        raise refused(f"cannot be read ({error.strerror})") from error
    finally:
        if opened is not None:
            os.close(opened)
    return target / name
