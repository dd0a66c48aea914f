"""How a policy that exists differs from the one that is needed. Pure.

Compared is pattern by pattern: what is needed counts as granted when one statement grants all of
it, under no condition or under the same. So several statements that only together grant something
are told as missing it: rather that than a deployment that is refused halfway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chalice_ci.access.document import Condition, Document, Statement
from chalice_ci.access.patterns import covers, overlap


@dataclass(frozen=True, kw_only=True, order=True)
class Grant:
    """An action on a resource, both patterns, under conditions."""

    action: str
    resource: str
    conditions: tuple[Condition, ...] = ()
    excluded: bool = False
    """The statement grants all but this (`NotAction`, `NotResource`)."""

    def __str__(self) -> str:
        tests = [f"{c.key} {c.operator} {' or '.join(c.values)}" for c in self.conditions]
        given = f" if {' and '.join(tests)}" if tests else ""
        return f"{self.action} on {self.resource}{given}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What is needed and not granted, needed and denied, granted and not needed."""

    missing: tuple[Grant, ...]
    denied: tuple[Grant, ...]
    unneeded: tuple[Grant, ...]


def compare(needed: Sequence[Document], existing: Sequence[Document]) -> Difference:
    """Compare all documents of one side with all of the other."""
    wanted, given = sorted(set(_grants(needed))), sorted(set(_grants(existing)))
    denials = sorted(set(_grants(existing, allows=False)))
    return Difference(
        missing=tuple(one for one in wanted if not any(_includes(g, one) for g in given)),
        denied=tuple(one for one in wanted if any(_may_deny(d, one) for d in denials)),
        unneeded=tuple(one for one in given if not any(_includes(w, one) for w in wanted)),
    )


def _grants(documents: Sequence[Document], *, allows: bool = True) -> Iterator[Grant]:
    for document in documents:
        for statement in document.statements:
            if statement.allows is allows:
                yield from _single(statement)


def _single(statement: Statement) -> Iterator[Grant]:
    excluded = statement.not_actions or statement.not_resources
    for action in statement.actions:
        for resource in statement.resources:
            yield Grant(
                action=f"NotAction {action}" if statement.not_actions else action,
                resource=f"NotResource {resource}" if statement.not_resources else resource,
                conditions=statement.conditions,
                excluded=excluded,
            )


def _includes(wide: Grant, narrow: Grant) -> bool:
    if wide.excluded or narrow.excluded:
        # All but something is never what a deploy needs, and never shown to be enough.
        return False
    return (
        covers(wide.action.lower(), narrow.action.lower())
        and covers(wide.resource, narrow.resource)
        and set(wide.conditions) <= set(narrow.conditions)
    )


def _may_deny(denial: Grant, wanted: Grant) -> bool:
    """Whether a denial may concern what is wanted; what its conditions test is not known here."""
    if denial.excluded:
        return True
    return overlap(denial.action.lower(), wanted.action.lower()) and overlap(
        denial.resource, wanted.resource
    )
