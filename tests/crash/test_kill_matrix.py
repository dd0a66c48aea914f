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
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pytest

from crash.counts import Count
from crash.lab import OPERATIONS
from crash.story import ALL, Beginning, Stories, Story, at

DEEP = (
    "rest sqs automatic_layer schedule sns s3_event kinesis dynamodb websockets authorizers "
    "functions"
)
# One app with all of it has a hundred calls: too many for every point.
SHAPES = os.environ.get("CRASH_SHAPES", DEEP if ALL else f"{DEEP} everything").split()
STORES = ("local", "git")
KINDS: Mapping[str, dict[str, Any]] = {
    "killed before": {"when": "before", "action": "kill"},
    "killed after": {"when": "after", "action": "kill"},
    "answer lost": {"when": "after", "action": "drop"},
}


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
    stories: Stories,
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
