"""A shape's stage in the embedded AWS, deployed by real deployers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chalice_ci.app.deployer import GRACE_SECONDS, Deployer, Gates, Outcome, Target
from chalice_ci.app.deployers import Deployers
from chalice_ci.local import EmbeddedAWS, LocalMode
from support.awsclients import clients_of
from support.deployments import Recorder, deletion, target
from support.shapes import BY_NAME, REGION, copy_shape, prepare

PYTHON = Path(sys.executable)


class Stage:
    """A copy of a shape and its stage `dev` in the embedded AWS."""

    def __init__(self, name: str, aws: EmbeddedAWS, tmp_path: Path, deployers: Deployers) -> None:
        self.shape = BY_NAME[name]
        self.aws = aws
        self.deployers = deployers
        self.work = tmp_path / "work"
        self.project = copy_shape(self.shape, tmp_path / name)
        prepare([self.shape], tmp_path, clients_of(aws))
        self.resources: tuple[Mapping[str, object], ...] = ()
        self.recorder = Recorder()
        self.app_name = ""
        self.python = PYTHON
        self.bucket: str | None = None
        aws.forget_calls()

    def start(self, *, grace_seconds: float = GRACE_SECONDS) -> Deployer:
        return Deployer.start(
            self.python,
            environ=self.aws.environ,
            work_dir=self.work,
            poll_seconds=0.2,
            grace_seconds=grace_seconds,
        )

    def target(self) -> Target:
        found = target(self.project, self.work, resources=self.resources, python=self.python)
        self.app_name = found.app_name
        return replace(found, package_bucket=self.bucket)

    def deploy(self, gate: Any = None, progress: Any = None) -> Outcome:
        return self._apply(self.target(), gate, progress)

    def delete(self, gate: Any = None) -> Outcome:
        return self._apply(deletion(self.app_name, self.resources), gate, None)

    def _apply(self, what: Target, gate: Any, progress: Any) -> Outcome:
        self.recorder = Recorder()
        with self.deployers.lent(self.python, REGION) as deployer:
            expected = deployer.plan(what)
            gates = Gates(self.recorder, *([gate] if gate else []))
            outcome = deployer.apply(what, expected, gate=gates, progress=progress or self.recorder)
        self.resources = outcome.resources
        return outcome

    def mutations(self) -> list[str]:
        return [f"{c['service']}:{c['operation']}" for c in self.aws.calls() if c["mutating"]]

    def names(self) -> list[str]:
        return sorted(str(resource["name"]) for resource in self.resources)


@contextlib.contextmanager
def stage_on(mode: LocalMode, name: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage on an AWS of its own."""
    with (
        EmbeddedAWS.start(mode, gateway=False) as aws,
        Deployers(aws.environ, tmp_path / "run", poll_seconds=0.2) as deployers,
    ):
        yield Stage(name, aws, tmp_path, deployers)
