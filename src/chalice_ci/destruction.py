"""What a deployment takes away that holds an address or data.

Three sources: the operations that Chalice plans against what is recorded, which need no snapshot;
the addresses in that record, which end in the API's stage; and the difference from what is
deployed, which knows what else becomes of a resource that stays (an endpoint type). `consent` says
who has to let it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from chalice_ci.difference.changes import BaselineKind, Changes, Kind, Risk
from chalice_ci.plan import Action, Operation, actions
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
    changes: Changes,
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
    if changes.baseline.kind is BaselineKind.DEPLOYED:
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
