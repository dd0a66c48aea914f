"""What a deployment takes away that holds an address or data, and who let it.

Two sources: the operations that Chalice plans against what is recorded, which need no snapshot, and
the difference from what is deployed, which knows what becomes of a resource that stays (an endpoint
type, an address). Nothing of it is done unless the input `allow-destructive` or the pull request's
label says so. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from chalice_ci import rules
from chalice_ci.difference.changes import BaselineKind, Changes, Kind, Risk
from chalice_ci.errors import PlanRefused
from chalice_ci.findings import Finding
from chalice_ci.plan import Action, Operation, actions
from chalice_ci.route import Job

HOLDING: Mapping[str, str] = {
    "rest_api": "the REST API",
    "websocket_api": "the WebSocket API",
    "domain_name": "the domain",
    "iam_role": "the role",
    "lambda_function": "the function",
}
"""Resource types of Chalice's state that others may know by address or ARN."""


def destructions(
    operations: Iterable[Operation], recorded: Mapping[str, str], changes: Changes | None
) -> tuple[str, ...]:
    """What is lost, in clauses and in a stable order.

    `recorded` maps the name of each recorded resource to its type.
    """
    found = [
        f"{HOLDING[recorded[name]]} `{name}` is {'deleted' if gone else 'replaced'}"
        for name, action in actions(operations)
        if (gone := action is Action.DELETE) or action is Action.REPLACE
        if recorded.get(name) in HOLDING
    ]
    if changes is not None and changes.baseline.kind is BaselineKind.DEPLOYED:
        # What is removed is among the operations.
        found += [
            one.why.rstrip(".")
            for item in changes.destructive
            if item.kind is Kind.CHANGED
            for one in item.risks
            if one.risk is Risk.DESTRUCTIVE
        ]
    return tuple(dict.fromkeys(found))


def label(stage: str) -> str:
    """The pull request's label that lets a stage lose something."""
    return f"allow-delete:{stage}"


def is_allowed(job: Job, *, asked: bool, labels: Iterable[str]) -> bool:
    """Whether a deployment may take things away: a preview always, others when somebody said so."""
    return job.like is not None or asked or label(job.stage) in labels


def finding(job: Job, lost: tuple[str, ...]) -> Finding:
    """What a plan says about a deployment that will be refused."""
    return rules.finding(
        "destructive-change",
        what=f"{'; '.join(lost)}.",
        fix=_fix(job.stage),
        subject=job.stage,
        app=job.app.name,
        stage=job.stage,
    )


def refuse(job: Job, lost: tuple[str, ...]) -> NoReturn:
    """Raise PlanRefused for a deployment that nobody let take these things away."""
    raise PlanRefused(
        f"the deployment would take away what holds an address or data: {'; '.join(lost)}.",
        where=job.name,
        fix=_fix(job.stage),
    )


def _fix(stage: str) -> str:
    return (
        f"Keep it, or let it go: give the pull request the label `{label(stage)}`, or set the "
        "input `allow-destructive: true` (--allow-destructive)."
    )
