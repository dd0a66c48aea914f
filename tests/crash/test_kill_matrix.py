"""A deploy that is killed at any point loses nothing: the next one ends where it would have ended.

Real processes with the real lease, journal, recovery and store. SIGKILL hits the deploy before a
mutating call, after the call took effect, or the call's answer is lost; then the next deploy must
leave exactly the resources of a deploy that nobody disturbed, and record exactly those.

Each shape is created, updated and deleted. By default a sample of the points of a few shapes; all
of them with CRASH_POINTS=all (`make test-deep`), which prints how many there were. CRASH_SHAPES
names other shapes, CRASH_STORE=git keeps the states on a branch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalice_ci.local import EmbeddedAWS
from chalice_ci.state.local import LocalStore
from chalice_ci.state.store import StateKey
from support.awslisting import list_account
from support.commandline import git
from support.deployments import target
from support.shapes import BY_NAME, REGION, Clients, apply_change, copy_shape, prepare

ALL = os.environ.get("CRASH_POINTS") == "all"
SAMPLE = "rest sqs automatic_layer"
DEEP = (
    f"{SAMPLE} schedule sns s3_event kinesis dynamodb websockets authorizers functions everything"
)
SHAPES = os.environ.get("CRASH_SHAPES", DEEP if ALL else SAMPLE).split()
KEY = StateKey(app_path=".", stage="dev")
WORKER = Path(__file__).with_name("worker.py")
OPERATIONS = ("create", "update", "delete")
KINDS: Mapping[str, dict[str, Any]] = {
    "killed before": {"when": "before", "action": "kill"},
    "killed after": {"when": "after", "action": "kill"},
    "answer lost": {"when": "after", "action": "drop", "times": 1},
}


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as server:
        yield server


@dataclass
class Workers:
    """The process whose forks deploy."""

    process: subprocess.Popen[str]

    def deploy(self, request: Mapping[str, Any], prepare: Any = lambda _pid: None) -> str:
        """Run one deploy; `prepare` gets its pid before it begins. How it ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        prepare(json.loads(self.process.stdout.readline()))
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return str(json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-P", str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": tests},
    ) as process:
        yield Workers(process)
        assert process.stdin
        process.stdin.close()


@dataclass
class Story:
    """One shape in an AWS of its own, from nothing to what each operation leaves."""

    name: str
    aws: EmbeddedAWS
    workers: Workers
    folder: Path
    store: str = "local"
    requests: dict[str, Any] = field(default_factory=dict)
    states: Path = Path()
    names: Mapping[str, str] = field(default_factory=dict)
    number: int = 0

    def begin(self) -> None:
        """AWS with what the shape needs alone, an empty store, the request of each operation."""
        self.aws.reset()
        self.aws.order_faults([])
        self.number += 1
        here = self.folder / str(self.number)
        here.mkdir()
        shape = BY_NAME[self.name]
        project = copy_shape(shape, here / self.name)
        self.names = prepare([shape], here, self.clients)
        self.states = here / "states"
        self.states.mkdir()
        if self.store == "git":
            git(self.states, "init", "-q", "-b", "main")
        self.requests = {}
        for operation in ("create", "update"):
            if operation == "update":
                apply_change(shape, project)
            what = target(project, here / operation)
            self.requests[operation] = {
                "app_name": what.app_name,
                "graph": what.graph,
                "packages": {s: [str(p.path), p.sha256] for s, p in what.packages.items()},
            }
        self.requests["delete"] = {
            "app_name": self.requests["create"]["app_name"],
            "graph": None,
            "packages": {},
        }
        for request in self.requests.values():
            request |= {
                "work": str(here),
                "store": str(self.states),
                "region": REGION,
                "environ": dict(self.aws.environ),
            }

    @property
    def clients(self) -> Clients:
        session = boto3.Session("embedded", "embedded", region_name=REGION)
        return lambda service: session.client(service, endpoint_url=self.aws.endpoint_url)

    def up_to(self, operation: str) -> None:
        """Do what comes before an operation."""
        self.begin()
        for before in OPERATIONS[: OPERATIONS.index(operation)]:
            assert self.workers.deploy(self.requests[before]) == "done"
        self.aws.forget_calls()

    def mutations(self) -> int:
        return sum(1 for call in self.aws.calls() if call["mutating"])

    def standing(self) -> Any:
        """All resources, with the names that AWS gave out replaced by those of the shape."""
        text = json.dumps(list_account(self.clients).resources, default=str)
        for named, stands in self.names.items():
            text = text.replace(named, stands)
        return json.loads(text)

    def recorded(self) -> list[tuple[str, str]]:
        if self.store == "git":
            text = git(self.states, "show", f"chalice-state:{KEY.file}")
            resources = json.loads(text)["resources"]
            left = git(self.states, "ls-tree", "-r", "--name-only", "chalice-state")
            assert "journal" not in left
        else:
            stored = LocalStore(self.states).read(KEY)
            assert stored.journal.raw is None
            assert stored.state is not None
            resources = stored.state.resources
        return sorted((str(r["resource_type"]), str(r["name"])) for r in resources)


def points(calls: int) -> Iterator[tuple[str, int]]:
    """What is done to which call, counted from 1; a sample has one point of each kind."""
    for place, kind in enumerate(KINDS, start=1):
        if ALL:
            yield from ((kind, point) for point in range(1, calls + 1))
        else:
            yield kind, max(1, round(calls * place / len(KINDS)))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_next_deploy_ends_where_an_undisturbed_one_ends(
    shape: str,
    operation: str,
    aws: EmbeddedAWS,
    workers: Workers,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    story = Story(shape, aws, workers, tmp_path, store=os.environ.get("CRASH_STORE", "local"))
    story.up_to(operation)
    assert workers.deploy(story.requests[operation]) == "done"
    calls, wanted, recorded = story.mutations(), story.standing(), story.recorded()
    tried, wrong = 0, []
    for kind, point in points(calls):
        story.up_to(operation)
        fault = {**KINDS[kind], "nth": point}
        ended = workers.deploy(
            story.requests[operation],
            lambda pid, fault=fault: aws.order_faults([{**fault, "pid": pid}]),
        )
        aws.order_faults([])
        again = workers.deploy(story.requests[operation])
        tried += 1
        if again != "done" or story.standing() != wanted or story.recorded() != recorded:
            wrong.append((point, kind, ended, again, _difference(wanted, story.standing())))
    with capsys.disabled():
        print(f"\n{shape} {operation}: {tried - len(wrong)} of {tried} points of {calls} calls")
    assert not wrong, "\n".join(map(str, wrong))


def _difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: (wanted.get(name), found.get(name))
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    }


def test_the_worker_can_be_killed(aws: EmbeddedAWS, workers: Workers, tmp_path: Path) -> None:
    """Else all points would be undisturbed deploys."""
    story = Story("rest", aws, workers, tmp_path)
    story.up_to("create")
    began = time.monotonic()
    fault = {"when": "before", "action": "kill", "nth": 2}
    ended = workers.deploy(
        story.requests["create"], lambda pid: aws.order_faults([{**fault, "pid": pid}])
    )
    assert ended == "killed by 9"
    assert story.mutations() == 2
    assert LocalStore(story.states).read(KEY).journal.raw is not None
    assert time.monotonic() - began < 60
