"""What the policy that a custom authorizer returns says about a request: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any


class Verdict(Enum):
    """The outcome of a policy."""

    ALLOWED = "allowed"
    NOT_ALLOWED = "not allowed"
    DENIED = "explicitly denied"


def judge(policy: object, method_arn: str) -> Verdict:
    """Whether the policy lets the method be invoked; raises ValueError for a malformed policy."""
    if not isinstance(policy, Mapping):
        raise ValueError("the policy is not an object")
    statements = policy.get("Statement", [])
    allowed = False
    for statement in statements if isinstance(statements, list) else [statements]:
        if not isinstance(statement, Mapping):
            raise ValueError("a statement is not an object")
        if not _any(statement.get("Action"), "execute-api:Invoke", fold=True):
            continue
        if not _any(statement.get("Resource"), method_arn, fold=False):
            continue
        if statement.get("Effect") == "Deny":
            return Verdict.DENIED
        allowed = allowed or statement.get("Effect") == "Allow"
    return Verdict.ALLOWED if allowed else Verdict.NOT_ALLOWED


def _any(patterns: Any, value: str, *, fold: bool) -> bool:
    several = patterns if isinstance(patterns, list) else [patterns]
    return any(_like(str(pattern), value, fold=fold) for pattern in several)


def _like(pattern: str, value: str, *, fold: bool) -> bool:
    expression = "".join(
        ".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern
    )
    return re.fullmatch(expression, value, re.IGNORECASE if fold else 0) is not None
