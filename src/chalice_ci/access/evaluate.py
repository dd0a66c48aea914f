"""Whether policies allow a request, as IAM decides it within one account. Pure.

As in "Policy evaluation logic" of IAM's user guide: an explicit denial wins, then something has to
allow, the permissions boundary too. Not decided here: resource policies, session policies, service
control policies, and policy variables (`${aws:username}`), which match nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from chalice_ci.access.document import Condition, Document, Statement
from chalice_ci.access.patterns import covers


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody wants to do: an action on a resource, with the keys that conditions test."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


class Decision(StrEnum):
    """What the policies say."""

    ALLOWED = "allowed"
    NOT_ALLOWED = "no identity-based policy allows it"
    BOUNDED = "no permissions boundary allows it"
    DENIED = "an identity-based policy denies it"


def decide(
    policies: Sequence[Document], request: Request, *, boundary: Document | None = None
) -> Decision:
    """Whether the policies of one identity, within its boundary, allow a request."""
    bounds = () if boundary is None else (boundary,)
    for document in (*policies, *bounds):
        if any(_applies(s, request) for s in document.statements if not s.allows):
            return Decision.DENIED
    if not _allowed(policies, request):
        return Decision.NOT_ALLOWED
    if boundary is not None and not _allowed(bounds, request):
        return Decision.BOUNDED
    return Decision.ALLOWED


def _allowed(policies: Iterable[Document], request: Request) -> bool:
    return any(
        _applies(statement, request)
        for document in policies
        for statement in document.statements
        if statement.allows
    )


def _applies(statement: Statement, request: Request) -> bool:
    action = request.action.lower()
    named = any(covers(pattern.lower(), action) for pattern in statement.actions)
    placed = any(covers(pattern, request.resource) for pattern in statement.resources)
    return (
        named is not statement.not_actions
        and placed is not statement.not_resources
        and all(_holds(one, request.context, statement.allows) for one in statement.conditions)
    )


def _holds(condition: Condition, context: Mapping[str, str], allows: bool) -> bool:
    operator = condition.operator.rpartition(":")[2]
    optional = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    # The names of keys have no case.
    found = {name.lower(): value for name, value in context.items()}
    value = found.get(condition.key.lower())
    if operator == "Null":
        return (value is None) is (condition.values == ("true",))
    test = _OPERATORS.get(operator)
    if test is None:
        # What can't be judged allows nothing, and denies.
        return not allows
    negated, compare = test
    if value is None:
        return optional or negated
    matched = any(compare(wanted, value) for wanted in condition.values)
    return matched is not negated


def _equal(wanted: str, value: str, *, fold: bool = False) -> bool:
    return wanted.lower() == value.lower() if fold else wanted == value


def _arn_like(wanted: str, value: str) -> bool:
    """Each of the six parts of an ARN is compared by itself."""
    patterns, texts = wanted.split(":", 5), value.split(":", 5)
    return len(patterns) == len(texts) and all(
        covers(pattern, text) for pattern, text in zip(patterns, texts, strict=True)
    )


_OPERATORS: Mapping[str, tuple[bool, Callable[[str, str], bool]]] = {
    "StringEquals": (False, _equal),
    "StringNotEquals": (True, _equal),
    "StringEqualsIgnoreCase": (False, partial(_equal, fold=True)),
    "StringNotEqualsIgnoreCase": (True, partial(_equal, fold=True)),
    "StringLike": (False, covers),
    "StringNotLike": (True, covers),
    "ArnEquals": (False, _arn_like),
    "ArnLike": (False, _arn_like),
    "ArnNotEquals": (True, _arn_like),
    "ArnNotLike": (True, _arn_like),
    "Bool": (False, partial(_equal, fold=True)),
}
"""Operator -> whether it is negated, and what it compares; the value after the pattern."""
