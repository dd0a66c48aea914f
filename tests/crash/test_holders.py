"""One deploy of a stage at a time: many at once, and one that wakes after its lease ran out.

Twelve at once, and one that is paused while it updates; fifty, and in each operation, with
CRASH_DEPTH=all.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from chalice_ci.errors import ExitCode
from chalice_ci.state.lease import LEASE_SECONDS, SKEW_SECONDS
from crash.counts import Count
from crash.lab import Stage
from crash.story import ALL, Stories

DEPLOYS = 50 if ALL else 12
PAUSED = (("create", 2), ("update", 1), ("delete", 1)) if ALL else (("update", 1),)


def test_of_many_deploys_at_once_one_is_the_holder(stories: Stories, count: Count) -> None:
    story = stories("rest", "local")
    beginning = story.beginning("create")
    with beginning.stage.copy(story.new_folder()) as stage:
        # Whoever is the first holds the stage until all others have been told so.
        stage.aws.order_faults([{"action": "hang"}])
        deploys = [stage.start("create", lease_wait=0) for _ in range(DEPLOYS)]
        for deploy in deploys:
            deploy.begin()
        _until(lambda: stage.aws.faults()[0]["holding"])
        _until(lambda: sum(not deploy.runs() for deploy in deploys) == DEPLOYS - 1, 300)
        stage.aws.release_faults()
        ended = [deploy.end() for deploy in deploys]
        others = [one for one in ended if one.code != ExitCode.LEASE_HELD]
        assert len(others) == 1, others
        assert beginning.wrong(stage, "at once", others[0]) is None
        asked = Counter(call["operation"] for call in stage.aws.calls() if call["mutating"])
        # What hung was tried again, by the same deploy.
        assert asked.pop("CreateRole") == 2
        assert set(asked.values()) == {1}
    count("simultaneous deploys", DEPLOYS)


@pytest.mark.parametrize(("operation", "nth"), PAUSED)
def test_a_paused_holder_changes_nothing_when_it_wakes(
    operation: str, nth: int, stories: Stories, count: Count
) -> None:
    story = stories("sqs", "local")
    beginning = story.beginning(operation)
    with beginning.stage.copy(story.new_folder()) as stage:
        paused = stage.start(operation)
        stage.aws.order_faults([{"nth": nth, "when": "after", "action": "hang"}])
        paused.begin()
        _until(lambda: stage.aws.faults()[0]["holding"])
        os.kill(paused.pid, signal.SIGSTOP)
        # The call in flight completes: its connection is closed, so it is tried again.
        before = len(stage.aws.calls())
        stage.aws.release_faults()
        _until(lambda: len(stage.aws.calls()) >= before + 2)
        _until_nobody_calls(stage)
        # As if the machine had slept, for every process of this stage.
        (stage.folder / "clock").write_text(str(LEASE_SECONDS + SKEW_SECONDS + 1), "ascii")
        other = stage.run(operation)
        assert beginning.wrong(stage, "paused", other) is None
        stage.aws.forget_calls()
        os.kill(paused.pid, signal.SIGCONT)
        woken = paused.end()
        assert woken.code in (ExitCode.LEASE_HELD, ExitCode.STATE_NOT_RECORDED), woken
        assert not [call for call in stage.aws.calls() if call["mutating"]]
        assert beginning.wrong(stage, woken, other) is None
    count("paused holders", 1)


def _until_nobody_calls(stage: Stage) -> None:
    calls, since = -1, time.monotonic()
    while time.monotonic() < since + 0.5:
        now = len(stage.aws.calls())
        if now != calls:
            calls, since = now, time.monotonic()
        time.sleep(0.05)


def _until(true: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
