"""AWS refuses: three calls of ten as too many, or every call from one on for expired credentials.

Throttled deploys come through without an error. Those whose credentials expire stop with the exit
code of the table, and what exists is recorded; with fresh ones the next deploy ends where an
undisturbed one ends. 100 throttled deploys and every call of each shape with CRASH_DEPTH=all, else
a sample.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from chalice_ci.errors import ExitCode
from crash.counts import Count
from crash.lab import OPERATIONS
from crash.story import ALL, Stories

THROTTLED = ("rest", "sqs", "websockets", "functions", "schedule") if ALL else ("rest",)
RUNS = 20 if ALL else 3
"""Throttled deploys of each shape and operation, in turns."""
EXPIRING = ("rest", "sqs", "s3_event", "websockets", "functions") if ALL else ("sns",)
REFUSALS = ("SlowDown", "ThrottlingException", "TooManyRequestsException")
CODES = ("ExpiredToken", "ExpiredTokenException")
"""How the services with XML and those with JSON say it."""


@pytest.mark.parametrize("shape", THROTTLED)
def test_throttled_deploys_come_through(shape: str, stories: Stories, count: Count) -> None:
    story, wrong, refused = stories(shape, "local"), list[object](), 0
    beginnings = [story.beginning(operation) for operation in OPERATIONS]
    with ExitStack() as stack, ThreadPoolExecutor(RUNS) as pool:
        runs = [(seed, beginnings[seed % len(beginnings)]) for seed in range(RUNS)]
        stages = [
            stack.enter_context(
                beginning.stage.copy(story.new_folder(), throttle=0.3, seed=1 + seed)
            )
            for seed, beginning in runs
        ]
        ended = pool.map(lambda stage, run: stage.run(run[1].operation), stages, runs)
        for stage, (seed, beginning), end in zip(stages, runs, ended, strict=True):
            refused += sum(1 for call in stage.aws.calls() if call["error"] in REFUSALS)
            # The copy refuses nothing.
            with stage.copy(story.new_folder()) as calm:
                found = beginning.wrong(calm, seed, end)
            if found is not None:
                wrong.append((seed, beginning.operation, found))
    count("throttled deploys", len(runs))
    count("refused calls", refused)
    assert not wrong, "\n".join(map(str, wrong))
    assert refused > len(runs)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", EXPIRING)
def test_a_deploy_whose_credentials_expire_is_recorded_and_taken_up(
    shape: str, operation: str, stories: Stories, count: Count
) -> None:
    story, wrong = stories(shape, "local"), list[object]()
    beginning = story.beginning(operation)
    calls = beginning.all_calls
    tried = range(1, calls + 1) if ALL else (1 + calls // 3, 1 + 2 * calls // 3)
    for nth in tried:
        expired = {"nth": nth, "times": 10**6, "reads": True, "status": 403}
        with beginning.stage.copy(story.new_folder()) as stage:
            ended = stage.run(
                operation,
                lambda _pid: [{**expired, "code": CODES[nth % len(CODES)]}],  # noqa: B023
            )
            left = stage.unrecorded() - beginning.stage.unrecorded()
            found = beginning.wrong(stage, ended, stage.run(operation))
            # What a deletion leaves on purpose: log groups.
            left -= stage.unrecorded()
            # Concurrent deploys need not make as many calls twice.
            if not ended.done and ended.code != ExitCode.AWS_FAILED:
                found = ("exit code", ended, found)
            if left or found is not None:
                wrong.append((nth, left, found))
    count("expiries", len(tried))
    assert not wrong, "\n".join(map(str, wrong))
