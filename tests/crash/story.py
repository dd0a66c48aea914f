"""Where disturbed deploys begin, and where they have to end: as if nobody had disturbed them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash.lab import OPERATIONS, Lab, Stage, app_of, difference
from support.shapes import BY_NAME

ALL = os.environ.get("CRASH_DEPTH") == "all"
"""Whether everything is tried (`make test-deep`), or a sample."""

KINDS: Mapping[str, dict[str, Any]] = {
    "killed before": {"when": "before", "action": "kill"},
    "killed after": {"when": "after", "action": "kill"},
    "answer lost": {"when": "after", "action": "drop"},
}

Stories = Callable[[str, str], "Story"]
"""The story of a shape and a store."""


def at(fault: Mapping[str, Any], nth: int) -> Callable[[int], Sequence[Mapping[str, Any]]]:
    """The order of a fault for a deploy's process."""
    return lambda pid: [{**fault, "nth": nth, "pid": pid}]


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A stage before an operation, and what the operation comes to when nobody disturbs it."""

    stage: Stage
    operation: str
    calls: int
    """How many of its calls change something; `all_calls` are those that read, too."""
    all_calls: int
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
            calls = undisturbed.aws.calls()
            return Beginning(
                stage=stage,
                operation=operation,
                calls=sum(1 for call in calls if call["mutating"]),
                all_calls=len(calls),
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
