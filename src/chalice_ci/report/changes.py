"""A readable difference as blocks of Markdown: what the page folds beneath its table.

Each function gives whole blocks, so that a page may show as many as it has room for. Risks come
first and are seen without a click; then one table per area, in pieces of `ROWS` rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from chalice_ci.difference.changes import (
    Area,
    Baseline,
    BaselineKind,
    Change,
    Changes,
    DependencyChange,
    Detail,
    Kind,
    PackageChanges,
    Risk,
)
from chalice_ci.report import markdown as md
from chalice_ci.report.sizes import human_delta, human_size

T = TypeVar("T")

ROWS = 25
"""Rows of a table that is one block."""
MAX_DETAILS = 12
AREAS = {
    Area.API: "APIs",
    Area.DOMAIN: "Domains",
    Area.ROUTE: "Routes",
    Area.AUTHORIZER: "Authorizers",
    Area.FUNCTION: "Functions",
    Area.TRIGGER: "Triggers",
    Area.ROLE: "IAM",
    Area.LAYER: "Layers",
    Area.FEATURE: "Experimental features",
    Area.RUNTIME: "Runtime",
}
SIGNS = {Kind.ADDED: "+", Kind.CHANGED: "~", Kind.REMOVED: "−"}
RISKS = {
    Risk.DESTRUCTIVE: "💥 lost or replaced",
    Risk.WILDCARD: "🌐 `*` permitted",
    Risk.WIDENED: "🔓 more permitted",
    Risk.WEAKENED: "🔓 callers checked less",
}


def counts(changes: Changes) -> str:
    """The cell `+2 ~1 −0`; what is lost is bold. Empty when there was nothing to compare with."""
    if not changes.known:
        return ""
    added, changed, removed = (
        changes.count(kind) for kind in (Kind.ADDED, Kind.CHANGED, Kind.REMOVED)
    )
    return f"+{added} ~{changed} {f'**−{removed}**' if removed else '−0'}"


def headline(changes: Changes) -> str:
    """What changed where, in a few words: "Routes +2 · Functions ~1"; plain text."""
    told = []
    for area, name in AREAS.items():
        items = changes.of_area(area)
        parts = [
            f"{SIGNS[kind]}{count}"
            for kind in Kind
            if (count := sum(item.kind is kind for item in items))
        ]
        if parts:
            told.append(f"{name} {' '.join(parts)}")
    return " · ".join(told)


def compared_with(baseline: Baseline) -> str:
    """What a stage was compared with, as Markdown; a sentence without its end."""
    at = f" {md.code(baseline.commit[:7])}" if baseline.commit else ""
    match baseline.kind:
        case BaselineKind.DEPLOYED:
            return f"what is deployed{at}"
        case BaselineKind.BASE:
            return f"the pull request's base{at}"
        case BaselineKind.COMMIT:
            return f"commit{at}"
        case BaselineKind.NONE:
            return "nothing: it is new"


# -- risks -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Told:
    """A risk of some stages: `name` is Markdown."""

    name: str
    change: Change
    risk: Risk
    why: str


def risks(name: str, changes: Changes) -> Iterator[Told]:
    """The risks of a stage's changes, worst first."""
    for risk in Risk:
        for item in changes.items:
            for one in item.risks:
                # A wildcard is told as one, and not again as what it widens.
                told_worse = risk is Risk.WIDENED and item.has(Risk.WILDCARD)
                if one.risk is risk and not told_worse:
                    yield Told(name=name, change=item, risk=risk, why=one.why)


def risk_alerts(told: Sequence[Told]) -> Iterator[str]:
    """One alert per kind of risk: what is lost is a WARNING, what is widened is IMPORTANT."""
    for risk in Risk:
        found = list(dict.fromkeys(one for one in told if one.risk is risk))
        for some in _pieces(found, 10):
            lines = [
                f"- {one.name} {md.code(one.change.subject, 100)}: {md.prose(one.why, 300)}"
                for one in some
            ]
            kind = "WARNING" if risk is Risk.DESTRUCTIVE else "IMPORTANT"
            yield md.alert(kind, "\n".join([f"**{RISKS[risk]}**", *lines]))


# -- what changed ----------------------------------------------------------------------------------


def item_blocks(changes: Changes) -> Iterator[str]:
    """A table per area, in pieces."""
    for area, name in AREAS.items():
        items = changes.of_area(area)
        for number, some in enumerate(_pieces(items, ROWS)):
            rows = tuple(_row(item) for item in some)
            more = " (continued)" if number else ""
            yield f"**{name}**{more}\n\n{md.table(('', name, 'Details'), rows)}"


def _row(item: Change) -> tuple[str, ...]:
    subject = md.code(item.subject, 140)
    if item.function and item.function != item.subject:
        subject += f" → {md.code(item.function, 80)}"
    signs = "".join(
        sign for risk, sign in ((Risk.DESTRUCTIVE, " 💥"), (Risk.WILDCARD, " 🌐")) if item.has(risk)
    )
    if not signs and item.risks:
        signs = " 🔓"
    sign = SIGNS[item.kind]
    return (
        f"**{sign}**{signs}" if item.kind is not Kind.CHANGED else f"{sign}{signs}",
        f"~~{subject}~~" if item.kind is Kind.REMOVED else subject,
        _details(item.details),
    )


def _details(details: tuple[Detail, ...]) -> str:
    told = [_detail(detail) for detail in details[:MAX_DETAILS]]
    if len(details) > MAX_DETAILS:
        told.append(f"and {len(details) - MAX_DETAILS} more")
    return "<br>".join(told)


def _detail(detail: Detail) -> str:
    name = md.text(detail.name, 80)
    before = None if detail.before is None else md.code(detail.before, 120)
    after = None if detail.after is None else md.code(detail.after, 120)
    if before is None and after is None:
        return f"{name}: changed"
    if before is None:
        return f"{name}: {after}"
    if after is None:
        return f"{name}: ~~{before}~~"
    return f"{name}: {before} → {after}"


# -- the package -----------------------------------------------------------------------------------


def package_headline(package: PackageChanges) -> str:
    """What changed in the package, in a few words; plain text."""
    files = package.own_files
    parts = [
        human_delta(package.delta) if package.delta else "",
        f"{files} own {'file' if files == 1 else 'files'}" if files else "",
        _dependencies_told(package.dependencies),
    ]
    return ", ".join(part for part in parts if part)


def _dependencies_told(dependencies: tuple[DependencyChange, ...]) -> str:
    if not dependencies:
        return ""
    if len(dependencies) == 1:
        return f"1 dependency ({_versions(dependencies[0])})"
    return f"{len(dependencies)} dependencies"


def _versions(one: DependencyChange) -> str:
    match one.kind:
        case Kind.ADDED:
            return f"{one.name} {one.after} added"
        case Kind.REMOVED:
            return f"{one.name} {one.before} removed"
        case Kind.CHANGED if one.before == one.after:
            return f"{one.name} {one.after} rebuilt"
        case Kind.CHANGED:
            return f"{one.name} {one.before} → {one.after}"


def package_blocks(package: PackageChanges) -> Iterator[str]:
    """Sizes, distributions, what grew most, and the project's own files."""
    yield (
        f"Zip {human_size(package.size_before)} → {human_size(package.size_after)} "
        f"({human_delta(package.delta)}), unpacked {human_size(package.unpacked_before)} → "
        f"{human_size(package.unpacked_after)} · files +{package.files_added} "
        f"~{package.files_changed} −{package.files_removed}"
    )
    for some in _pieces(package.dependencies, ROWS):
        rows = tuple(_dependency_row(one) for one in some)
        yield md.table(("", "Dependency", "Before", "After", "Zip", ""), rows)
    if package.growth:
        grown = ", ".join(
            f"{md.code(one.name, 100)} {human_delta(one.delta)}" for one in package.growth[:10]
        )
        yield f"Grew most, unpacked: {grown}"
    for files in _pieces(package.files, ROWS):
        yield md.table(
            ("", "File", "Size"),
            tuple(
                (
                    SIGNS[file.kind],
                    md.code(file.path, 160) + (" (layer)" if file.slot == "layer" else ""),
                    human_size(file.size_before)
                    if file.kind is Kind.REMOVED
                    else f"{human_size(file.size_after)} ({human_delta(file.delta)})",
                )
                for file in files
            ),
        )
    if package.own_files > len(package.files):
        left = package.own_files - len(package.files)
        yield f"… and {left} more of the project's own files, in `report.json` by their counts."


def _dependency_row(one: DependencyChange) -> tuple[str, ...]:
    return (
        SIGNS[one.kind],
        md.strong(one.name, 80) if one.direct else md.text(one.name, 80),
        md.text(one.before, 40),
        md.text(one.after, 40),
        human_delta(one.delta),
        "direct" if one.direct else "",
    )


def _pieces(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """`itertools.batched`, which Python 3.11 does not have."""
    left = iter(items)
    while piece := tuple(islice(left, size)):
        yield piece
