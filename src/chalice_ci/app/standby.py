"""Where an app is loaded, and the loader that stands by before it is known what it will load.

Importing Chalice is most of what a load costs, and which app and stage it is for makes no
difference to it. So the loader is started first of all, in the environment that this project needed
last time, and imports while the configuration is read here. It gets the app, as a copy, and its
request when both are known. When another environment is needed after all, it is ended unused.

It is confined as every load is, and before its request nothing of the app's code is within its
reach. It never has the network, and never runs where nothing would shut it in: an app that may do
without is loaded afresh.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chalice_ci.app.loader import FILES, SOURCE, installed_loader
from chalice_ci.app.sandbox import Limits, Owner, Program, Running, sandbox_folder, started
from chalice_ci.app.virtualenv import BROUGHT, layers
from chalice_ci.cache import mark_used
from chalice_ci.scratch import scratch_folder

CANNOT_START = 97
"""The exit code of a loader that cannot be imported."""

# The folder is on sys.path only until the loader is imported: an app's own codec.py stays its own.
_START = f"""
import os, sys
folder = sys.argv[1]
sys.path.insert(0, folder)
try:
    from chalice_ci_child import load
except BaseException:
    import traceback
    traceback.print_exc()
    sys.stderr.flush()
    os._exit({CANNOT_START})
sys.path.remove(folder)
del os, sys, folder
load.main()
"""
# The supervisor gives it a minute to be asked; then it may be gone.
_SECONDS = 20.0
_MAX_NOTE = 4096


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one app is loaded: the folder of its copy, and the loader's own."""

    owner: Owner
    project: Path
    own: Path
    child: Path
    executable: Path

    def program(self, *, network: bool, confined: bool) -> Program:
        """The loader, as it is started here."""
        return Program(
            argv=(str(self.executable), "-I", "-B", "-c", _START, str(self.child)),
            environ=_environment(self.own),
            cwd=self.project,
            folder=self.own,
            readable=(self.project, self.child, *_interpreter_paths(self.executable)),
            network=network,
            confined=confined,
        )


@contextlib.contextmanager
def loading_place(executable: Path, work_dir: Path) -> Iterator[Place]:
    """A fresh place below `work_dir`, gone at the end; the copy's folder is there and empty."""
    owner = Owner()
    with sandbox_folder(work_dir, owner) as folder:
        place = Place(
            owner=owner,
            project=folder / "project",
            own=folder / "own",
            child=installed_loader(executable) or folder / "child",
            executable=executable,
        )
        place.project.mkdir(mode=0o700)
        owner.give_folder(place.project)
        if not place.child.is_dir():
            _copy_child(place.child, owner)
        owner.make_own(place.own)
        yield place


def _environment(own: Path) -> dict[str, str]:
    """Everything the app sees of its surroundings; the region and the stage's variables come in the
    request.
    """
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(own),
        "TMPDIR": str(own),
        "USER": "app",
        "LOGNAME": "app",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_CHALICE_CLI_MODE": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _interpreter_paths(executable: Path) -> tuple[Path, ...]:
    """What is needed of an environment, those that it stands on and its base: never a whole prefix,
    it may be HOME.
    """
    own = (executable.parent.parent, executable.resolve().parent.parent)
    prefixes = dict.fromkeys((*own, *layers(executable)))
    parts = ("bin", "lib", "lib64", "pyvenv.cfg")
    return tuple(prefix / part for prefix in prefixes for part in parts)


def _copy_child(target: Path, owner: Owner) -> None:
    package = target / SOURCE.name
    package.mkdir(mode=0o700, parents=True)
    for name in FILES:
        with (package / name).open("xb") as copy:
            copy.write((SOURCE / name).read_bytes())
            owner.give(copy.fileno(), executable=False)
    owner.give_folder(package)
    owner.give_folder(target)


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    place: Place
    running: Running
    since: float


@dataclass(kw_only=True)
class Standby:
    """At most one loader that waits, and the note of the environment that was needed last."""

    note: Path
    _waiting: _Waiting | None = field(default=None)

    def taken(self, executable: Path, *, network: bool) -> tuple[Place, Running] | None:
        """The loader that waits, if it is one in that environment; whoever has it uses it up.

        Notes the environment for the next run.
        """
        self._remember(executable)
        waiting, self._waiting = self._waiting, None
        if waiting is None or network or waiting.place.executable != executable:
            return None
        if time.monotonic() - waiting.since > _SECONDS:
            return None
        return waiting.place, waiting.running

    def _remember(self, executable: Path) -> None:
        if _noted(self.note) == executable:
            mark_used(self.note)
            return
        with contextlib.suppress(OSError):
            self.note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self.note.with_name(f".{self.note.name}.{secrets.token_hex(4)}")
            draft.write_text(str(executable), encoding="utf-8")
            draft.replace(self.note)


@contextlib.contextmanager
def standing_by(cache_dir: Path, *project: str | Sequence[str]) -> Iterator[Standby]:
    """Start a loader for the next load of a project, named by its folder and what is asked for.

    Whatever keeps it from starting will be told when the app is loaded.
    """
    name = hashlib.sha256(repr((str(SOURCE), *project)).encode()).hexdigest()[:32]
    standby = Standby(note=cache_dir / "loaders" / name)
    executable = _noted(standby.note)
    folders = (cache_dir / "environments", BROUGHT / "environments")
    with contextlib.ExitStack() as stack:
        if (
            executable is not None
            and executable.parent.parent.parent in folders
            and installed_loader(executable) is not None
        ):
            with contextlib.suppress(OSError):
                work_dir = stack.enter_context(scratch_folder("load-"))
                place = stack.enter_context(loading_place(executable, work_dir))
                program = place.program(network=False, confined=True)
                running = stack.enter_context(started(program, owner=place.owner, limits=Limits()))
                standby._waiting = _Waiting(place=place, running=running, since=time.monotonic())
        yield standby


def _noted(note: Path) -> Path | None:
    try:
        descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            return Path(file.read(_MAX_NOTE))
    except (OSError, ValueError):
        return None
