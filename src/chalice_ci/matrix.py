"""What an event wants, cut into parts for the jobs of a CI matrix. Pure.

A part is one app in one stage. Stages that need each other stay together, in order: two jobs of a
matrix run at once, and the later stage would be refused. GitHub starts at most 256 jobs of a matrix
(docs.github.com, "Running variations of jobs in a workflow"), so of more parts those that want the
same of their stages share a job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chalice_ci.errors import UsageError
from chalice_ci.route import Task

LIMIT = 256
_SHARE = re.compile(r"([0-9]{1,5})/([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One job of the matrix: every stage named, of every app named."""

    apps: tuple[str, ...]
    stages: tuple[str, ...]
    intents: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the job may be called."""
        several = f" and {len(self.apps) - 1} more" if len(self.apps) > 1 else ""
        return f"{self.apps[0]}{several} · {', '.join(self.stages)}"

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each app with each stage."""
        return tuple((app, stage) for app in self.apps for stage in self.stages)


def parts(tasks: Sequence[Task], *, by_app: bool = False, limit: int = LIMIT) -> tuple[Part, ...]:
    """The tasks as parts, in their order; `by_app` keeps all stages of an app together."""
    groups: dict[tuple[str, object], list[Task]] = {}
    for task in tasks:
        chain = None if by_app else _chain(task, tasks)
        groups.setdefault((task.job.app.name, chain), []).append(task)
    single = [
        Part(
            apps=(app,),
            stages=tuple(task.job.stage for task in group),
            intents=tuple(task.intent.value for task in group),
        )
        for (app, _), group in groups.items()
    ]
    return tuple(single) if len(single) <= limit else _shared(single, limit)


def shared(
    tasks: Sequence[Task], share: tuple[int, int], *, by_app: bool = False
) -> tuple[Task, ...]:
    """The tasks of every n-th part from the k-th on, `share` being (k, n), in their order.

    Each of n equal jobs works out the same parts, and together they do every task once.
    """
    first, every = share
    chosen = {
        pair for part in parts(tasks, by_app=by_app)[first - 1 :: every] for pair in part.pairs()
    }
    return tuple(task for task in tasks if (task.job.app.name, task.job.stage) in chosen)


def read_share(text: str, *, where: str) -> tuple[int, int] | None:
    """(k, n) of "k/n", 1 <= k <= n; None for an empty text. Raises UsageError for any other."""
    if not text:
        return None
    match = _SHARE.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(
            f"{text[:40]!r} is no share of the jobs.",
            where=where,
            fix="Write which of how many jobs this is, counted from 1: 2/4.",
        )
    return int(match[1]), int(match[2])


def _chain(task: Task, tasks: Iterable[Task]) -> str:
    """The first stage of those of the same app and intent that need each other."""
    policies = {
        other.job.stage: other.job.policy
        for other in tasks
        if other.job.app.name == task.job.app.name and other.intent is task.intent
    }
    stage = task.job.stage
    while (policy := policies.get(stage)) is not None and policy.needs in policies:
        stage = policy.needs or stage
    return f"{task.intent.value} {stage}"


def _shared(single: Sequence[Part], limit: int) -> tuple[Part, ...]:
    """At most `limit` parts: apps that want the same are dealt out evenly."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for part in single:
        alike.setdefault((part.stages, part.intents), []).extend(part.apps)
    size = 1
    while sum(-(-len(apps) // size) for apps in alike.values()) > max(limit, len(alike)):
        size += 1
    return tuple(
        Part(apps=tuple(bundle), stages=stages, intents=intents)
        for (stages, intents), apps in alike.items()
        for bundle in _batches(apps, size)
    )


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def render(found: Sequence[Part]) -> str:
    """The JSON for `strategy: {matrix: …}`, in one line; a job has id, name, app, stage, intent.

    Several apps or stages stand in one text, one a line, as the inputs read them.
    """
    include = [
        {
            "id": f"{number}",
            "name": part.name,
            "app": "\n".join(part.apps),
            "stage": "\n".join(part.stages),
            "intent": "\n".join(part.intents),
        }
        for number, part in enumerate(found, 1)
    ]
    return json.dumps({"include": include}, ensure_ascii=True)
