"""The table that every page begins with: one row per app and stage, in a few words.

It always survives: when it is too long itself, it loses columns, then the rows that say the least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from chalice_ci.findings import Severity
from chalice_ci.report import changes
from chalice_ci.report import markdown as md
from chalice_ci.report.details import number_of
from chalice_ci.report.origin import Waiting
from chalice_ci.report.report import Effect, Intent, Outcome, Report, Result
from chalice_ci.report.section import Measure
from chalice_ci.report.sizes import human_delta, human_size

RUNNING = "⏳"
DECISIONS = frozenset({"experimental-feature", "experimental-not-allowed"})
"""The rules that ask a person to decide something, rather than to mend it."""


def verdict_table(
    report: Report, waiting: Sequence[Waiting], *, room: int, measure: Measure, rest: str
) -> str:
    """One row per app and stage, at most `room` long; `rest` says where the others are."""
    rows = _rows(report.results, waiting)
    if not rows:
        return ""
    names = ("App", "Stage", "Result", "Changes", "Package", "URL")
    filled = [n for n in range(6) if n < 3 or any(cells[n] for _, cells in rows)]
    for columns in (filled, [n for n in filled if n in (0, 1, 2, 5)], [0, 1, 2]):
        head = tuple(names[n] for n in columns)
        made = [tuple(cells[n] for n in columns) for _, cells in rows]
        table = md.table(head, tuple(made))
        if measure(table) <= room:
            return table
    return _shortened(rows, head, made, room=room, measure=measure, rest=rest)


def _shortened(
    rows: Sequence[tuple[int, tuple[str, ...]]],
    head: tuple[str, ...],
    made: Sequence[tuple[str, ...]],
    *,
    room: int,
    measure: Measure,
    rest: str,
) -> str:
    """The rows that say the most, in their order, and a line about the others."""
    room -= measure(md.table(head, ())) + 200
    kept: set[int] = set()
    for index in sorted(range(len(rows)), key=lambda index: rows[index][0]):
        room -= measure(md.row(made[index])) + 1
        if room < 0:
            break
        kept.add(index)
    left: dict[str, int] = {}
    for index, cells in enumerate(made):
        if index not in kept:
            sign = cells[2].partition(" ")[0]
            left[sign] = left.get(sign, 0) + 1
    counted = ", ".join(f"{count} {sign}" for sign, count in left.items())
    table = md.table(head, tuple(made[index] for index in sorted(kept)))
    return f"{table}\n\n… and {sum(left.values())} more rows ({counted}): {rest}."


def _rows(
    results: Sequence[Result], waiting: Sequence[Waiting]
) -> list[tuple[int, tuple[str, ...]]]:
    """Weight (0: shown first when there is too little room) and cells of each row."""
    rows: list[tuple[int, tuple[str, ...]]] = []
    seen: dict[tuple[str, str], str] = {}
    for result in results:
        words = _result_words(result)
        weight = 0 if words.startswith("❌") else 1 if "⚠️" in words or "📝" in words else 2
        cells = (
            md.text(result.app, 64),
            md.text(result.stage, 64),
            words + _next_step(result),
            _changes(result),
            _package(result, seen),
            " ".join(_address(url.address) for url in result.urls[:3]),
        )
        rows.append((weight, cells))
    for wait in waiting:
        names = (md.text(wait.app, 64), md.text(wait.stage, 64))
        rows.append((1, (*names, f"{RUNNING} {md.text(wait.doing, 60)}", "", "", "")))
    return rows


def _result_words(result: Result) -> str:
    """The result in an emoji and a few words."""
    errors = [f for f in result.findings if f.severity is Severity.ERROR]
    warnings = sum(f.severity is Severity.WARNING for f in result.findings)
    smoke = ""
    if result.smoke:
        passed = sum(smoke.passed for smoke in result.smoke)
        smoke = f", smoke {passed}/{len(result.smoke)}"
    if result.failure is not None:
        done = sum(o.outcome is Outcome.DONE for o in result.operations)
        begun = done or any(o.outcome is Outcome.FAILED for o in result.operations)
        steps = f", {done} of {len(result.operations)} steps done" if begun else ""
        return f"❌ failed: {result.failure.exit_code.reason}{steps}{smoke}"
    note = f": {md.prose(result.note, 120)}" if result.note else ""
    if errors:
        decides = all(finding.rule in DECISIONS for finding in errors)
        said = "decision needed" if decides else number_of(len(errors), "error")
        return f"❌ {said}{note}"
    words = _good_words(result) + smoke + note
    return f"{words}, ⚠️ {number_of(warnings, 'warning')}" if warnings else words


def _next_step(result: Result) -> str:
    return f"<br><sub>Next: {md.prose(result.next_step, 160)}</sub>" if result.next_step else ""


def _good_words(result: Result) -> str:
    if result.skipped:
        return "⏭️ skipped"
    match result.intent:
        case Intent.CHECK if result.changes and result.changes.known and result.changes.empty:
            return "✅ unchanged"
        case Intent.CHECK:
            return "✅ fit to deploy"
        case Intent.REHEARSE:
            return "✅ fit to deploy, rehearsed"
        case Intent.PACKAGE:
            return "📦 packaged"
        case Intent.PLAN:
            return "📝 planned" if result.plan is not None else "⏭️ not planned"
        case Intent.DEPLOY if result.changed is None:
            return "⏭️ not deployed"
        case Intent.DEPLOY:
            return "✅ deployed" if result.changed else "✅ deployed, nothing to change"
        case Intent.REMOVE:
            return "🗑️ removed" if result.changed else "⏭️ nothing to remove"
        case Intent.READ:
            return "📄 as recorded"
        case Intent.RECORD:
            return "📄 recorded"
        case _:
            assert_never(result.intent)


def _changes(result: Result) -> str:
    if result.plan is None and not result.operations:
        return "" if result.changes is None else changes.counts(result.changes)
    created, updated, replaced, deleted = (
        result.count(effect)
        for effect in (Effect.CREATE, Effect.UPDATE, Effect.REPLACE, Effect.DELETE)
    )
    lost = f"**−{deleted}**" if deleted else "−0"
    again = f" **±{replaced}**" if replaced else ""
    return f"+{created} ~{updated}{again} {lost}"


def _package(result: Result, seen: dict[tuple[str, str], str]) -> str:
    """The size; "same" when an earlier row of the app has this very package."""
    package = result.package
    if package is None:
        return ""
    name = (result.app, package.digest)
    if package.digest and name in seen:
        return f"same as {seen[name]}"
    seen[name] = md.text(result.stage, 64)
    delta = ""
    if result.changes is not None and result.changes.package is not None:
        delta = f" ({human_delta(result.changes.package.delta)})"
    return f"{human_size(package.size)}{delta} {md.code(package.digest[:8])}".rstrip()


def _address(address: str) -> str:
    return md.link(address) if len(address) <= 300 else md.code(address, 100)
