"""SIGTERM and SIGINT at any moment of a deploy: it ends soon, and what exists is recorded.

The command line with a sealed plan, against a slow AWS, so that most moments are in the middle of a
call or of a wait; then a deploy of the same commit without the plan, which was bound to the state
before. 21 moments; 200 with CRASH_DEPTH=all, each in a command that is started as a user starts it
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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.local import EmbeddedAWS, Endpoint, LocalMode
from crash.counts import Count
from crash.lab import Lab
from support.chalicecli import kept_folder
from support.commandline import command, commit, environ, git
from support.shapes import BY_NAME, copy_shape

ALL = os.environ.get("CRASH_DEPTH") == "all"
MOMENTS = 200 if ALL else 21
AT_ONCE = 3
SLOW = LocalMode(pend=0.3, upd=0.3, role=1.0, lat=0.03, strict=True)
CACHE = f"--cache-dir={kept_folder()}/cache"
APPLY = ["deploy", "--plan=chalice-ci-out/shape-rest-dev.plan", CACHE]
AGAIN = ["deploy", "--stage=dev", CACHE]
LONGEST_SECONDS = 7.0
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}
STATE = "chalice-state:.chalice/deployed/dev.json"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository with a plan of its stage, and the AWS that the plan was made for."""

    aws: Endpoint
    folder: Path
    lab: Lab

    @property
    def environ(self) -> dict[str, str]:
        return environ(**self.aws.environ)

    def copy(self, number: object) -> Repository:
        folder = self.folder.with_name(f"copy-{number}")
        shutil.copytree(self.folder, folder, symlinks=True)
        return Repository(aws=self.aws.copy(), folder=folder, lab=self.lab)

    def deploy(self) -> int:
        """Run it to its end in a fork; the exit code."""
        running = self.lab.workers.start_deploy(self._request(AGAIN))
        return running.begin().end().code

    def interrupted(self, number: signal.Signals, seconds: float) -> tuple[int, float]:
        """Run it, send the signal after so many seconds; the exit code, and how long it took."""
        if ALL:
            return self._command_interrupted(number, seconds)
        running = self.lab.workers.start_deploy(self._request(APPLY))
        running.begin()
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
            time.sleep(seconds)
            began = time.monotonic()
            process.send_signal(number)
            return process.wait(120), time.monotonic() - began

    def _request(self, argv: list[str]) -> Mapping[str, Any]:
        return {
            "argv": argv,
            "environ": self.environ,
            "work": str(self.folder),
            "log": str(self.log),
        }

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def recorded(self) -> str:
        """The state's text, empty when there is none."""
        if not git(self.folder, "branch", "--list", "chalice-state"):
            return ""
        return git(self.folder, "show", STATE) if self._has_state() else ""

    def _has_state(self) -> bool:
        files = git(self.folder, "ls-tree", "-r", "--name-only", "chalice-state")
        return STATE.partition(":")[2] in files.splitlines()


@pytest.fixture(scope="module")
def planned(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A plan to create everything, made by the command itself."""
    folder = tmp_path_factory.mktemp("interruptions") / "repository"
    copy_shape(BY_NAME["rest"], folder)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    with EmbeddedAWS.start(SLOW, gateway=False) as aws:
        lab.listing(aws)
        repository = Repository(aws=aws, folder=folder, lab=lab)
        subprocess.run(
            command("plan", "--stage=dev", CACHE), cwd=folder, env=repository.environ, check=True
        )
        yield repository


def test_it_ends_soon_and_what_exists_is_recorded(planned: Repository, count: Count) -> None:
    undisturbed = planned.copy("undisturbed")
    began = time.monotonic()
    assert undisturbed.deploy() == 0, undisturbed.log.read_text()
    takes = time.monotonic() - began
    wanted = planned.lab.listing(undisturbed.aws)
    chance = random.Random(5)
    moments = [
        (number, chance.choice(list(SIGNALS)), chance.uniform(0, takes))
        for number in range(MOMENTS)
    ]

    def attempt(moment: tuple[int, signal.Signals, float]) -> tuple[Repository, int, float]:
        number, kind, seconds = moment
        repository = copies[number]
        code, lasted = repository.interrupted(kind, seconds)
        return repository, code, lasted

    wrong, interrupted = [], 0
    for begin in range(0, MOMENTS, AT_ONCE):
        batch = moments[begin : begin + AT_ONCE]
        copies = {number: planned.copy(number) for number, _, _ in batch}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ended = list(pool.map(attempt, batch))
            unrecorded = [_unrecorded(repository) for repository, _, _ in ended]
            again = list(pool.map(lambda repository: repository.deploy(), copies.values()))
        for moment, (repository, code, lasted), left, last in zip(
            batch, ended, unrecorded, again, strict=True
        ):
            interrupted += code == SIGNALS[moment[1]]
            standing = planned.lab.listing(repository.aws)
            # Too late a signal finds a deploy that is done.
            if (
                code not in (0, SIGNALS[moment[1]])
                or lasted >= LONGEST_SECONDS
                or left
                or last != 0
                or standing != wanted
            ):
                wrong.append((moment, code, lasted, left, last, repository.log.read_text()[-3000:]))
            repository.aws.stop()
            shutil.rmtree(repository.folder)
    undisturbed.aws.stop()
    count("signals", MOMENTS)
    count("signals before the end", interrupted)
    assert not wrong, "\n".join(map(str, wrong))
    assert interrupted > MOMENTS * 0.6


def _unrecorded(repository: Repository) -> set[str]:
    """What is there and not in the state."""
    state = repository.recorded()
    return {one for one in repository.lab.identifiers(repository.aws) if one not in state}
