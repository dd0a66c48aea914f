"""SIGTERM and SIGINT at any moment of a deploy: it ends soon, and what exists is recorded.

The command line with a sealed plan, against a slow AWS, so that most moments are in the middle of a
call or of a wait; then another deploy of the app, for the plan was bound to the state before. 4
moments; 200 with CRASH_DEPTH=all, each in a command that is started as a user starts it
(else a fork spares the start of Python).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from chalice_ci.local import EmbeddedAWS, Endpoint, LocalMode
from crash.counts import Count
from crash.lab import App, Ended, Lab, Running, Stage, app_of
from crash.story import ALL
from support.chalicecli import kept_folder
from support.commandline import command, commit, environ, git
from support.shapes import BY_NAME, copy_shape

MOMENTS = 200 if ALL else 4
AT_ONCE = 4
SLOW = LocalMode(pend=0.3, upd=0.3, role=1.0, lat=0.03, strict=True)
CACHE = f"--cache-dir={kept_folder()}/cache"
APPLY = ["deploy", "--plan=chalice-ci-out/shape-rest-dev.plan", CACHE]
# GitHub kills after 7.5 s, on machines that do nothing else.
LONGEST_SECONDS = 7.0 if ALL else 30.0
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}
STATE = "chalice-state:.chalice/deployed/dev.json"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository with a plan of its stage, and the AWS that the plan was made for."""

    aws: Endpoint
    folder: Path
    lab: Lab
    app: App

    @property
    def environ(self) -> dict[str, str]:
        return environ(**self.aws.environ)

    def copy(self, number: object) -> Repository:
        folder = self.folder.with_name(f"copy-{number}")
        shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, aws=self.aws.copy(), folder=folder)

    def apply(self) -> Running:
        """Start the plan's deploy in a fork."""
        request = {
            "argv": APPLY,
            "environ": self.environ,
            "work": str(self.folder),
            "log": str(self.log),
        }
        return self.lab.workers.start_deploy(request).begin()

    def deploy(self) -> Ended:
        """Deploy the app as it is now."""
        stage = Stage(app=self.app, aws=self.aws, lab=self.lab, folder=self.folder)
        request = {**stage.request("create"), "store": str(self.folder), "log": str(self.log)}
        return self.lab.workers.start_deploy(request).begin().end()

    def interrupted(self, number: signal.Signals, seconds: float) -> tuple[int, float]:
        """Apply, send the signal after so many seconds; the exit code, and how long it took."""
        if ALL:
            return self._command_interrupted(number, seconds)
        running = self.apply()
        time.sleep(seconds)
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        ended = running.end()
        return ended.status if ended.code is None else ended.code, time.monotonic() - began

    def _command_interrupted(self, number: signal.Signals, seconds: float) -> tuple[int, float]:
        with (
            self.log.open("ab") as log,
            subprocess.Popen(
                command(*APPLY),
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            # What comes before our first line is Python's business.
            while process.poll() is None and not _listens(process.pid):
                time.sleep(0.005)
            time.sleep(seconds)
            began = time.monotonic()
            process.send_signal(number)
            code = process.wait(120)
            # A shell says the same of a process that the signal itself ended: Python does that to
            # itself when a KeyboardInterrupt came through its `exec`.
            return 128 - code if code < 0 else code, time.monotonic() - began

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def unrecorded(self) -> set[str]:
        """What is there and not in the state."""
        state = ""
        if git(self.folder, "branch", "--list", "chalice-state"):
            files = git(self.folder, "ls-tree", "-r", "--name-only", "chalice-state")
            if STATE.partition(":")[2] in files.splitlines():
                state = git(self.folder, "show", STATE)
        return {one for one in self.lab.identifiers(self.aws) if one not in state}


@pytest.fixture(scope="module")
def planned(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A plan to create everything, made by the command itself."""
    shape, work = BY_NAME["rest"], tmp_path_factory.mktemp("interruptions")
    folder = work / "repository"
    copy_shape(shape, folder)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    with EmbeddedAWS.start(SLOW, gateway=False) as aws:
        lab.listing(aws)
        app = app_of(shape, aws, work / "app")
        repository = Repository(aws=aws, folder=folder, lab=lab, app=app)
        plan = command("plan", "--stage=dev", CACHE)
        subprocess.run(plan, cwd=folder, env=repository.environ, check=True)
        yield repository


def _listens(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.fixture
def heard() -> Iterator[None]:
    """What is started here hears SIGINT, also if these tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_it_ends_soon_and_what_exists_is_recorded(planned: Repository, count: Count) -> None:
    undisturbed = planned.copy("undisturbed")
    began = time.monotonic()
    assert undisturbed.apply().end().code == 0, undisturbed.log.read_text()
    takes = time.monotonic() - began
    assert not undisturbed.unrecorded()
    assert undisturbed.deploy().done
    wanted = planned.lab.listing(undisturbed.aws)
    chance = random.Random(5)
    # Few moments are all in the first half: of more it does not matter if some come too late.
    latest = takes if ALL else takes / 2
    moments = [
        (number, chance.choice(list(SIGNALS)), chance.uniform(0, latest))
        for number in range(MOMENTS)
    ]
    wrong, interrupted = [], 0
    for begin in range(0, MOMENTS, AT_ONCE):
        batch = moments[begin : begin + AT_ONCE]
        copies = [planned.copy(number) for number, _, _ in batch]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ended = list(
                pool.map(lambda copy, moment: copy.interrupted(*moment[1:]), copies, batch)
            )
            unrecorded = [copy.unrecorded() for copy in copies]
            again = list(pool.map(Repository.deploy, copies))
        for moment, copy, (code, lasted), left, last in zip(
            batch, copies, ended, unrecorded, again, strict=True
        ):
            interrupted += code == SIGNALS[moment[1]]
            # Too late a signal finds a deploy that is done.
            good = code in (0, SIGNALS[moment[1]]) and lasted < LONGEST_SECONDS and not left
            if not (good and last.done and planned.lab.listing(copy.aws) == wanted):
                wrong.append((moment, code, lasted, left, last, copy.log.read_text()[-3000:]))
            copy.aws.stop()
            shutil.rmtree(copy.folder)
    undisturbed.aws.stop()
    count("signals", MOMENTS)
    count("signals before the end", interrupted)
    assert not wrong, "\n".join(map(str, wrong))
    assert interrupted >= MOMENTS // (2 if ALL else 4)
