"""A deploy that is killed at any point loses nothing: the next one ends where it would have ended.

Real processes with the real lease, journal, recovery and store. SIGKILL hits the deploy before a
mutating call, after the call took effect, or the call's answer is lost; then the next deploy must
leave exactly the resources of a deploy that nobody disturbed, and record exactly those. In a double
crash the deploy that recovers is killed too, at any of its calls, also those that only read.

Each shape is created, updated and deleted, with both kinds of store. By default a sample: a point
of each; all of them with CRASH_DEPTH=all (`make test-deep`), which prints how many there were.
CRASH_SHAPES names other shapes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from crash.counts import Count
from crash.lab import OPERATIONS, Lab, Stage, app_of, difference
from support.shapes import BY_NAME

ALL = os.environ.get("CRASH_DEPTH") == "all"
SHAPES = os.environ.get(
    "CRASH_SHAPES",
    "rest sqs automatic_layer schedule sns s3_event kinesis dynamodb websockets authorizers "
    "functions everything",
).split()
STORES = ("local", "git")
KINDS: Mapping[str, dict[str, Any]] = {
    "killed before": {"when": "before", "action": "kill"},
    "killed after": {"when": "after", "action": "kill"},
    "answer lost": {"when": "after", "action": "drop"},
}


def at(fault: Mapping[str, Any], nth: int) -> Callable[[int], Sequence[Mapping[str, Any]]]:
    """The order of a fault for a deploy's process."""
    return lambda pid: [{**fault, "nth": nth, "pid": pid}]


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A stage before an operation, and what the operation comes to when nobody disturbs it."""

    stage: Stage
    operation: str
    calls: int
    standing: Mapping[str, Any]
    recorded: Sequence[tuple[str, str]]

    def wrong(self, stage: Stage, ended: object, again: Any) -> object:
        """What is not as it should be after the last deploy of a point; None when all is."""
        if not again.done:
            return (ended, again, stage.log[-4000:])
        standing, recorded = stage.standing(), stage.recorded()
        if standing != self.standing:
            return (ended, difference(self.standing, standing))
        return None if recorded == self.recorded else (ended, recorded)


@dataclass
class Story:
    """One shape with one kind of store, from nothing to what each operation leaves."""

    lab: Lab
    shape: str
    store: str
    folder: Path
    stack: ExitStack
    stages: dict[str, Stage] = field(default_factory=dict)
    number: int = 0

    def beginning(self, operation: str) -> Beginning:
        stage = self._before(operation)
        with stage.copy(self.new_folder()) as undisturbed:
            undisturbed.must(operation)
            return Beginning(
                stage=stage,
                operation=operation,
                calls=undisturbed.mutations,
                standing=undisturbed.standing(),
                recorded=undisturbed.recorded(),
            )

    def new_folder(self) -> Path:
        self.number += 1
        return self.folder / str(self.number)

    def _before(self, operation: str) -> Stage:
        if operation not in self.stages:
            self.stages[operation] = self._made(operation)
        return self.stages[operation]

    def _made(self, operation: str) -> Stage:
        if operation == OPERATIONS[0]:
            aws = self.stack.enter_context(self.lab.aws.copy())
            app = app_of(BY_NAME[self.shape], aws, self.folder / "app")
            return Stage.new(self.lab, app, aws, self.new_folder(), store=self.store)
        before = OPERATIONS[OPERATIONS.index(operation) - 1]
        stage = self._before(before)
        after = self.stack.enter_context(stage.copy(self.new_folder()))
        after.must(before)
        return after


@pytest.fixture(scope="module")
def stories(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Story]]:
    """The story of a shape and a store; one at a time is kept."""
    kept: dict[tuple[str, str], Story] = {}

    def told(shape: str, store: str) -> Story:
        if (shape, store) not in kept:
            for story in kept.values():
                story.stack.close()
            kept.clear()
            folder = tmp_path_factory.mktemp(f"{shape}-{store}")
            kept[shape, store] = Story(lab, shape, store, folder, ExitStack())
        return kept[shape, store]

    yield told
    for story in kept.values():
        story.stack.close()


def cases() -> Iterator[Any]:
    """Shape, store and operation of each test; a sample takes the stores in turns."""
    for number, shape in enumerate(SHAPES):
        stores = STORES if ALL else (STORES[number % len(STORES)],)
        for store, operation in product(stores, OPERATIONS):
            yield pytest.param(shape, store, operation, id=f"{shape}-{store}-{operation}")


def points(case: int, calls: int) -> Iterator[tuple[str, int]]:
    """What is done to which call, counted from 1; a sample takes one of each kind in turns."""
    if ALL:
        yield from ((kind, point) for kind in KINDS for point in range(1, calls + 1))
        return
    kinds = list(KINDS)
    place = random.Random(case).random()
    yield kinds[case % len(kinds)], 1 + int(place * calls)


@pytest.mark.parametrize(("shape", "store", "operation"), [*cases()])
def test_the_next_deploy_ends_where_an_undisturbed_one_ends(
    shape: str,
    store: str,
    operation: str,
    stories: Callable[[str, str], Story],
    count: Count,
) -> None:
    story = stories(shape, store)
    beginning = story.beginning(operation)
    case = SHAPES.index(shape) * len(OPERATIONS) + OPERATIONS.index(operation)
    single = double = 0
    wrong: list[object] = []
    for kind, point in points(case, beginning.calls):
        found, more = _crashed(story, beginning, kind, point, case)
        wrong += found
        single, double = single + 1, double + more
    count("points", single)
    count("double crashes", double)
    assert not wrong, "\n".join(map(str, wrong))


def _crashed(
    story: Story, beginning: Beginning, kind: str, point: int, case: int
) -> tuple[list[object], int]:
    """What went wrong at a point, and how many double crashes were tried there.

    The second crash comes after the first one that left most: at some call of the deploy that
    recovers, one that reads or one that changes something.
    """
    operation, wrong = beginning.operation, list[object]()
    with beginning.stage.copy(story.new_folder()) as stage:
        ended = stage.run(operation, at(KINDS[kind], point))
        before = len(stage.aws.calls())
        again = stage.run(operation)
        calls = len(stage.aws.calls()) - before
        found = beginning.wrong(stage, ended, again)
    if kind != "answer lost" and not ended.killed:
        found = f"was not killed: {ended}"
    if found is not None:
        wrong.append((kind, point, found))
    if kind != "killed after":
        return wrong, 0
    nth = random.Random(f"{case} {point}").randint(1, calls)
    with beginning.stage.copy(story.new_folder()) as stage:
        first = stage.run(operation, at(KINDS[kind], point))
        second = stage.run(operation, at({**KINDS[kind], "reads": True}, nth))
        found = beginning.wrong(stage, (first, second), stage.run(operation))
    if found is not None:
        wrong.append((kind, point, f"then at call {nth} of {calls}", found))
    # Waits are shorter at times: then there are fewer calls, and the last ones can't be met.
    return wrong, int(first.killed and second.killed)


def test_the_worker_can_be_killed(stories: Callable[[str, str], Story]) -> None:
    """Else all points would be undisturbed deploys."""
    story = stories("rest", "local")
    with story.beginning("create").stage.copy(story.new_folder()) as stage:
        ended = stage.run("create", at(KINDS["killed before"], 2))
        assert ended.killed
        assert ended.code is None
        # The deployer outlives its parent for a moment, in which it may repeat that call.
        made = {call["operation"] for call in stage.aws.calls() if call["mutating"]}
        assert made == {"CreateRole", "PutRolePolicy"}
        assert stage.has_open_journal()
