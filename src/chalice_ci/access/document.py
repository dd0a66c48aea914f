"""Policy documents: statements, their JSON, and IAM's bound on their size. Pure.

The grammar is AWS's ("Grammar of the IAM JSON policy language"); the bound on a managed policy is
6,144 characters without white space ("IAM and AWS STS quotas").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chalice_ci.errors import UsageError

LIMIT = 6144
VERSION = "2012-10-17"


@dataclass(frozen=True, kw_only=True, order=True)
class Condition:
    """One test of one key: any of the values has to match, as the operator has it."""

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement. `not_actions` and `not_resources` say that the patterns are excluded."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    sid: str = ""
    allows: bool = True
    not_actions: bool = False
    not_resources: bool = False


@dataclass(frozen=True, kw_only=True)
class Document:
    """A policy document."""

    statements: tuple[Statement, ...]

    def to_json(self) -> dict[str, Any]:
        """The document as IAM takes it."""
        return {"Version": VERSION, "Statement": [_rendered(one) for one in self.statements]}

    @property
    def size(self) -> int:
        """Its characters, as IAM counts them."""
        return len(json.dumps(self.to_json(), separators=(",", ":")))


def _rendered(statement: Statement) -> dict[str, Any]:
    found: dict[str, Any] = {"Sid": statement.sid} if statement.sid else {}
    found["Effect"] = "Allow" if statement.allows else "Deny"
    found["NotAction" if statement.not_actions else "Action"] = _one_or_more(statement.actions)
    key = "NotResource" if statement.not_resources else "Resource"
    found[key] = _one_or_more(statement.resources)
    conditions: dict[str, dict[str, Any]] = {}
    for condition in statement.conditions:
        of = conditions.setdefault(condition.operator, {})
        of[condition.key] = _one_or_more(condition.values)
    if conditions:
        found["Condition"] = conditions
    return found


def _one_or_more(texts: tuple[str, ...]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)


def parts(statements: Sequence[Statement], *, limit: int = LIMIT) -> tuple[Document, ...]:
    """The statements in as few documents as keep the bound without reordering anything.

    Raises UsageError for a statement that is too large by itself.
    """
    found: list[Document] = []
    current: tuple[Statement, ...] = ()
    for statement in statements:
        grown = Document(statements=(*current, statement))
        if grown.size <= limit:
            current = grown.statements
            continue
        alone = Document(statements=(statement,))
        if alone.size > limit:
            raise UsageError(
                f"the statement {statement.sid} alone has {alone.size} characters, IAM takes "
                f"{limit} in a managed policy.",
                where="policy",
                fix="Split the app: that many triggers of one kind do not fit into a policy.",
            )
        found.append(Document(statements=current))
        current = alone.statements
    return (*found, Document(statements=current))


def parse(text: str | bytes, *, where: str) -> Document:
    """Read a policy document; raises UsageError with its place for what is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"it is no JSON: {error}", where) from error
    return read(document, where=where)


def read(document: Any, *, where: str) -> Document:
    """The document of parsed JSON; raises UsageError for what is none.

    What wraps one in AWS's answers (`PolicyDocument`, `Document`) is taken off.
    """
    for wrapper in ("PolicyVersion", "PolicyDocument", "Document"):
        if isinstance(document, Mapping) and wrapper in document and "Statement" not in document:
            document = document[wrapper]
    if not isinstance(document, Mapping) or "Statement" not in document:
        raise _malformed("it has no `Statement`", where)
    listed = document["Statement"]
    statements = listed if isinstance(listed, list) else [listed]
    return Document(
        statements=tuple(
            _statement(one, f"{where}: Statement {n}") for n, one in enumerate(statements, 1)
        )
    )


def _statement(value: Any, where: str) -> Statement:
    if not isinstance(value, Mapping):
        raise _malformed("it is no object", where)
    effect = value.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise _malformed(f"`Effect` is Allow or Deny, not {effect!r}", where)
    negated = "NotAction" in value
    elsewhere = "NotResource" in value
    return Statement(
        sid=str(value.get("Sid", "")),
        allows=effect == "Allow",
        actions=_texts(value, "NotAction" if negated else "Action", where),
        not_actions=negated,
        resources=_texts(value, "NotResource" if elsewhere else "Resource", where),
        not_resources=elsewhere,
        conditions=tuple(sorted(_conditions(value.get("Condition"), where))),
    )


def _texts(value: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = value.get(key)
    listed = found if isinstance(found, list) else [found]
    if not listed or not all(isinstance(one, str) and one for one in listed):
        raise _malformed(f"`{key}` is a text or a list of texts", where)
    return tuple(listed)


def _conditions(value: Any, where: str) -> Iterator[Condition]:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise _malformed("`Condition` is no object", where)
    for operator, keys in value.items():
        if not isinstance(keys, Mapping):
            raise _malformed(f"`Condition.{operator}` is no object", where)
        for key, values in keys.items():
            listed: Iterable[Any] = values if isinstance(values, list) else [values]
            texts = tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in listed)
            yield Condition(operator=str(operator), key=str(key), values=texts)


def _malformed(what: str, where: str) -> UsageError:
    return UsageError(
        f"this is no policy that can be read: {what}.",
        where=where,
        fix="Give an IAM policy document: the JSON with `Version` and `Statement`.",
    )
