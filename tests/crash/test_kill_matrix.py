"""A deploy that is killed at any point loses nothing: the next one ends where it would have ended.

Real processes with the real lease, journal, recovery and store. SIGKILL hits the deploy before a
mutating call, after the call took effect, or the call's answer is lost; then the next deploy must
leave exactly the resources of a deploy that nobody disturbed, and record exactly those. In a double
crash the deploy that recovers is killed too, at any of its calls, also those that only read.

Each shape is created, updated and deleted, with both kinds of store. With the local one the next
deploy has the log on this machine's disk; with git it is on another machine, and has none.
By default a sample: a point of each operation of some shapes; all of them with CRASH_DEPTH=all
(`make test-deep`), which prints how many there were.
CRASH_SHAPES names other shapes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from crash.counts import Count
from crash.lab import OPERATIONS, Ended, Stage
from crash.story import ALL, KINDS, Beginning, Stories, Story, at

DEEP = (
    "rest sqs automatic_layer schedule sns s3_event kinesis dynamodb websockets authorizers "
    "functions custom_domain"
)
# Functions, schedules, queues and APIs are those of the stateful machine as well.
SAMPLE = "rest automatic_layer sns s3_event websockets functions"
SHAPES = os.environ.get("CRASH_SHAPES", DEEP if ALL else SAMPLE).split()
STORES = ("local", "git")
DOUBLE = "killed twice"


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
    # There are as many operations as kinds: each operation shall have each of them.
    turn = case + case // len(OPERATIONS)
    yield kinds[turn % len(kinds)], 1 + int(place * calls)


@pytest.mark.parametrize(("shape", "store", "operation"), [*cases()])
def test_the_next_deploy_ends_where_an_undisturbed_one_ends(
    shape: str,
    store: str,
    operation: str,
    stories: Stories,
    count: Count,
) -> None:
    story = stories(shape, store)
    beginning = story.beginning(operation)
    case = SHAPES.index(shape) * len(OPERATIONS) + OPERATIONS.index(operation)
    wrong: list[object] = []
    for kind, point in points(case, beginning.calls):
        crash = Crash(story=story, beginning=beginning, kind=kind, point=point, case=case)
        for column, tried, found in crash.found():
            count.cell(f"{shape} {operation}", f"{store}: {column}", tried=tried, wrong=len(found))
            count("double crashes" if column == DOUBLE else "points", tried)
            wrong += found
    assert not wrong, "\n".join(map(str, wrong))


@dataclass(frozen=True, kw_only=True)
class Crash:
    """One point of the matrix."""

    story: Story
    beginning: Beginning
    kind: str
    point: int
    case: int

    def found(self) -> Iterator[tuple[str, int, list[object]]]:
        """Of the crash, and of a double one: its kind, whether it was tried, what went wrong."""
        operation = self.beginning.operation
        with ExitStack() as stack:
            stage = stack.enter_context(self.beginning.stage.copy(self.story.new_folder()))
            # Who copies an AWS waits until nobody calls it.
            doubled = self.kind == "killed after"
            ended = stage.run(operation, at(KINDS[self.kind], self.point), wholly=doubled)
            twice = stack.enter_context(stage.copy(self.story.new_folder())) if doubled else None
            before = len(stage.aws.calls())
            self._move(stage)
            again = stage.run(operation)
            calls = len(stage.aws.calls()) - before
            wrong = self.beginning.wrong(stage, ended, again)
            if self.kind != "answer lost" and not ended.killed:
                wrong = f"was not killed: {ended}"
            yield self.kind, 1, self._named(wrong)
            if twice is not None:
                yield self._again(twice, ended, calls)

    def _again(self, stage: Stage, first: Ended, calls: int) -> tuple[str, int, list[object]]:
        """The deploy that recovers is killed too: at some call, one that reads or changes."""
        operation = self.beginning.operation
        nth = random.Random(f"{self.case} {self.point}").randint(1, calls)
        self._move(stage)
        second = stage.run(operation, at({**KINDS[self.kind], "reads": True}, nth))
        self._move(stage)
        found = self.beginning.wrong(stage, (first, second), stage.run(operation))
        # Waits are shorter at times: then there are fewer calls, and the last ones can't be met.
        return DOUBLE, int(second.killed), self._named(found, f"then at call {nth} of {calls}")

    def _move(self, stage: Stage) -> None:
        """To another machine, as each run in CI is on one."""
        if self.story.store == "git":
            stage.forget_log()

    def _named(self, found: object, *more: str) -> list[object]:
        return [] if found is None else [(self.kind, self.point, *more, found)]


def test_the_worker_can_be_killed(stories: Stories) -> None:
    """Else all points would be undisturbed deploys."""
    story = stories("rest", "local")
    with story.beginning("create").stage.copy(story.new_folder()) as stage:
        ended = stage.run("create", at(KINDS["killed before"], 2))
        assert ended.killed
        assert ended.code is None
        # The deployer outlives its parent for a moment, in which it may repeat that call.
        made = {call["operation"] for call in stage.aws.calls() if call["mutating"]}
        assert made == {"CreateRole", "PutRolePolicy"}
        assert stage.journal() is not None
