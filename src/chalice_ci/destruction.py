"""What a deployment takes away that holds an address or data, and who let it.

Three sources: the operations that Chalice plans against what is recorded, which need no snapshot;
the addresses in that record, which end in the API's stage; and the difference from what is
deployed, which knows what else becomes of a resource that stays (an endpoint type). Nothing of it
is done unless the input `allow-destructive` or the pull request's label says so. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn
from urllib.parse import urlsplit

from chalice_ci import rules
from chalice_ci.difference.changes import BaselineKind, Changes, Kind, Risk
from chalice_ci.errors import PlanRefused
from chalice_ci.findings import Finding
from chalice_ci.plan import Action, Operation, actions
from chalice_ci.route import Job
from chalice_ci.snapshot import Api

HOLDING: Mapping[str, str] = {
    "rest_api": "the REST API",
    "websocket_api": "the WebSocket API",
    "domain_name": "the domain",
    "iam_role": "the role",
    "lambda_function": "the function",
}
"""Resource types of Chalice's state that others may know by address or ARN."""


_ADDRESSES = {"rest": "rest_api_url", "websocket": "websocket_api_url"}


def destructions(
    operations: Iterable[Operation],
    resources: Iterable[Mapping[str, object]],
    changes: Changes | None,
    apis: Iterable[Api] = (),
) -> tuple[str, ...]:
    """What is lost, in clauses and in a stable order.

    `resources` are those of Chalice's record, `apis` those that will be.
    """
    resources = tuple(resources)
    recorded = {str(one["name"]): str(one["resource_type"]) for one in resources}
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
    return tuple(dict.fromkeys((*found, *_moved(resources, apis))))


def _moved(resources: Iterable[Mapping[str, object]], apis: Iterable[Api]) -> Iterator[str]:
    """APIs whose stage is another one than in their recorded address."""
    found = {
        kind: urlsplit(str(resource[field])).path.strip("/")
        for resource in resources
        for kind, field in _ADDRESSES.items()
        if resource.get(field)
    }
    for api in apis:
        before = found.get(api.kind)
        if before and before != api.stage:
            yield f"The address ends in /{api.stage} and no longer in /{before}"


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
