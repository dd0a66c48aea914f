"""What a deployment lets an app's functions do in AWS that they could not do before.

The difference from what is deployed says it of each role, and of each function that gets another
one. Where what is deployed was not recorded in detail, the planned operations still tell which
roles get another policy: whether that permits more can't be told then, so it counts. What a stage
permits when it is first deployed widens nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from chalice_ci.difference.changes import BaselineKind, Change, Changes, Risk
from chalice_ci.plan import Operation

_GRANTING = frozenset({"create_role", "put_role_policy"})


def widenings(
    operations: Iterable[Operation],
    resources: Collection[Mapping[str, object]],
    changes: Changes,
) -> tuple[str, ...]:
    """What is permitted more, in clauses and in a stable order: which role or function, what
    action on which resource, and what was permitted before.

    `resources` are those of Chalice's record, `changes` is what is different from it.
    """
    if not any(one["resource_type"] == "lambda_function" for one in resources):
        return ()
    if changes.known and changes.baseline.kind is BaselineKind.DEPLOYED:
        return tuple(_clause(item) for item in changes.widened_iam)
    return tuple(dict.fromkeys(_unknown(operations)))


def _clause(item: Change) -> str:
    # What is new with a `*` is among what is permitted more, but where nothing was known before.
    said = {one.risk: one.why.rstrip(".") for one in item.risks}
    return f"`{item.subject}`: {said.get(Risk.WIDENED) or said[Risk.WILDCARD]}"


def _unknown(operations: Iterable[Operation]) -> Iterator[str]:
    for operation in operations:
        if operation.method in _GRANTING:
            yield (
                f"`{operation.resource}` gets another policy, and what it permits now was not "
                "recorded in detail, so whether that is more can't be told"
            )
