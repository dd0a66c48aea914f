"""`report.html`: the whole report as one file that needs nothing else and runs nothing.

No script, no font, no picture from elsewhere; a policy in the page forbids them, so that a hostile
name that got through would still do nothing. Light and dark follow the reader's system.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chalice_ci.difference.changes import Baseline, Change, Changes, Kind, PackageChanges, Risk
from chalice_ci.findings import Finding, Severity
from chalice_ci.report import html_style, upgrades
from chalice_ci.report.changes import SIGNS, risks
from chalice_ci.report.drawing import drawing
from chalice_ci.report.markup import Content, Markup, clipped, element, joined
from chalice_ci.report.report import (
    Effect,
    Failure,
    Outcome,
    Report,
    Result,
    Upgrade,
    Verdict,
    owned,
)
from chalice_ci.report.sizes import human_delta, human_size
from chalice_ci.report.treemap import treemap

ITEMS = 1_000
"""Rows of a table: a page of more is read by nobody, and opens in no browser."""
_VERDICTS = {
    Verdict.OK: "✅ ok",
    Verdict.FINDINGS: "❌ findings",
    Verdict.FAILED: "❌ failed",
    Verdict.SKIPPED: "⏭️ skipped",
}
_SEVERITIES = {Severity.ERROR: "❌", Severity.WARNING: "⚠️", Severity.NOTICE: "💡"}
_OUTCOMES = {
    Outcome.PLANNED: "📝 planned",
    Outcome.DONE: "✅ done",
    Outcome.FAILED: "❌ failed",
    Outcome.NOT_REACHED: "⏸️ not reached",
}
_RISKS = {
    Risk.DESTRUCTIVE: "lost or replaced",
    Risk.WILDCARD: "* permitted",
    Risk.WIDENED: "more permitted",
    Risk.WEAKENED: "callers checked less",
}


def html(report: Report) -> str:
    """The text of `report.html`."""
    title = f"chalice-ci {report.verb}: {report.verdict.value}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=html_style.POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(html_style.CSS)),
    )
    body = element("body", element("main", *_page(report)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _page(report: Report) -> Iterator[Markup]:
    about = (
        report.commit[:12],
        report.started,
        "" if report.seconds is None else f"{report.seconds:.1f} s",
        f"chalice-ci {report.tool}",
    )
    yield element(
        "header",
        element("h1", f"Chalice · {_VERDICTS[report.verdict]}", class_=report.verdict.value),
        element("p", " · ".join((report.verb, *(part for part in about if part))), class_="dim"),
    )
    if report.failure is not None:
        yield _failure("The run stopped", report.failure)
    if report.results:
        yield _overview(report.results)
    yield from (element("p", note, class_="note") for note in report.notes)
    yield from _findings("Configuration", report.findings)
    for result in report.results:
        yield element(
            "section",
            element("h2", f"{result.app} / {result.stage}", id=_anchor(result)),
            *_result(result),
        )


def _anchor(result: Result) -> str:
    return "-".join(("stage", result.app, result.stage)).replace(" ", "-")


def _overview(results: tuple[Result, ...]) -> Markup:
    rows = []
    for result in results:
        urls: list[Content] = []
        for url in result.urls:
            urls += [element("code", url.address), " "]
        counts: Content = ""
        if result.plan is not None or result.operations:
            counts = _steps(result)
        elif result.changes is not None and result.changes.known:
            counts = " ".join(f"{SIGNS[kind]}{result.changes.count(kind)}" for kind in Kind)
        size = "" if result.package is None else human_size(result.package.size)
        if size and result.changes is not None and result.changes.package is not None:
            size += f" ({human_delta(result.changes.package.delta)})"
        rows.append(
            (
                result.app,
                element("a", result.stage, href=f"#{_anchor(result)}"),
                _VERDICTS[result.verdict],
                counts,
                size,
                joined(*urls),
            )
        )
    return _table(("App", "Stage", "Result", "Changes", "Package", "URL"), rows)


def _steps(result: Result) -> Markup:
    """What the operations do, counted by resource as in the comment; what is lost is bold."""
    counted = [
        (sign, result.count(effect))
        for sign, effect in (
            ("+", Effect.CREATE),
            ("~", Effect.UPDATE),
            ("±", Effect.REPLACE),
            ("−", Effect.DELETE),
        )
    ]
    parts: list[Content] = []
    for sign, count in counted:
        lost = sign in "±−" and count
        if count or sign != "±":
            parts += [element("strong", f"{sign}{count}") if lost else f"{sign}{count}", " "]
    return joined(*parts[:-1])


def _result(result: Result) -> Iterator[Markup]:
    isolation = result.isolation
    about = (
        result.intent.value,
        f"Chalice {result.chalice}" if result.chalice else "",
        f"Python {result.python}" if result.python else "",
        result.region,
        f"account {result.account}" if result.account else "",
        f"isolation {isolation.level}" if isolation else "",
        f"experimental: {', '.join(result.features)}" if result.features else "",
    )
    yield element("p", " · ".join(part for part in about if part), class_="dim")
    if result.note:
        yield element("p", result.note, class_="note")
    if result.failure is not None:
        yield _failure("Failed", result.failure)
    yield from _findings("Findings", owned(result))
    if result.changes is not None:
        yield from _changes(result.changes)
    if result.upgrade is not None:
        yield from _upgrade(result.upgrade)
    if result.diagram is not None and result.diagram.nodes:
        yield element("h3", "Graph")
        yield drawing(result.diagram)
        yield _legend()
    yield from _package(result)
    yield from _operations(result)
    yield from _smoke(result)
    yield from _record(result)


def _legend() -> Markup:
    keys = (
        element("span", f"{SIGNS[kind]} {kind.value}", class_=f"key {kind.value}") for kind in Kind
    )
    return element("p", *keys, class_="dim")


# -- what is wrong -----------------------------------------------------------------------------


def _failure(head: str, failure: Failure) -> Markup:
    return element(
        "div",
        element("strong", f"{head}: {failure.exit_code.reason}"),
        element("p", failure.where, class_="dim") if failure.where else None,
        *_told(failure.what),
        *_fix(failure.fix),
        class_="alert error",
    )


def _findings(title: str, findings: tuple[Finding, ...]) -> Iterator[Markup]:
    if not findings:
        return
    yield element("h3", f"{title} ({len(findings)})")
    for finding in findings[:ITEMS]:
        where = " · ".join(part for part in (str(finding.at or ""), finding.stage) if part)
        yield element(
            "div",
            element("strong", f"{_SEVERITIES[finding.severity]} {finding.rule} "),
            element("span", where, class_="dim"),
            *_told(finding.what),
            *_fix(finding.fix),
            element("p", _prose(finding.detail), class_="dim") if finding.detail else None,
            class_=f"alert {finding.severity.value}",
        )
    yield from _more(len(findings))


def _fix(fix: str) -> Iterator[Markup]:
    return _told(fix, head=joined(element("strong", "Fix:"), " ")) if fix else iter(())


def _told(text: str, head: Content = None) -> Iterator[Markup]:
    """A sentence, and what stands below it - code to copy, a list - as it is."""
    first, _, rest = text.partition("\n")
    yield element("p", head, _prose(first))
    if rest.strip():
        yield element("pre", rest)


def _prose(text: str) -> Content:
    """Text in which what stands between single backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0 or "" in parts[1::2]:
        return text
    return joined(
        *(element("code", part) if number % 2 else part for number, part in enumerate(parts))
    )


# -- what changed ----------------------------------------------------------------------------------


def _changes(changes: Changes) -> Iterator[Markup]:
    yield element("h3", "Changes")
    yield element("p", _prose(_compared(changes.baseline)), class_="dim")
    if not changes.known:
        return
    if not changes.items:
        yield element("p", "Routes, functions, triggers and permissions are as they were.")
    risky = tuple(risks("", changes))
    for one in risky[:ITEMS]:
        kind = "error" if one.risk is Risk.DESTRUCTIVE else "warning"
        yield element(
            "div",
            element("strong", f"{_RISKS[one.risk]}: "),
            element("code", one.change.subject),
            element("p", _prose(one.why)),
            class_=f"alert {kind}",
        )
    yield from _more(len(risky))
    if changes.items:
        rows = ((_sign(item.kind), item.area.value, _subject(item), _details(item))
                for item in changes.items[:ITEMS])  # fmt: skip
        yield _table(("", "What", "Name", "Before and after"), rows)
        yield from _more(len(changes.items))
    if changes.package is not None:
        yield from _package_changes(changes.package)


def _compared(baseline: Baseline) -> str:
    at = f" at {baseline.commit[:12]}" if baseline.commit else ""
    if baseline.problem:
        return f"Not compared: {baseline.problem} {baseline.fix}"
    return f"Compared with: {baseline.kind.value}{at}"


def _subject(item: Change) -> Markup:
    runs = f" → {item.function}" if item.function not in ("", item.subject) else ""
    return joined(element("code", item.subject), runs)


def _details(item: Change) -> Markup:
    lines = []
    for detail in item.details:
        before = None if detail.before is None else element("del", detail.before)
        after = None if detail.after is None else element("ins", detail.after)
        arrow = " → " if before and after else None
        told = joined(before, arrow, after) if before or after else Markup("changed")
        lines.append(element("div", f"{detail.name}: ", told))
    return joined(*lines)


def _sign(kind: Kind) -> Markup:
    return element("span", SIGNS[kind], class_=f"key {kind.value}")


def _package_changes(package: PackageChanges) -> Iterator[Markup]:
    yield element("h4", f"Package {human_delta(package.delta)}")
    yield element(
        "p",
        f"Zip {human_size(package.size_before)} → {human_size(package.size_after)}, unpacked "
        f"{human_size(package.unpacked_before)} → {human_size(package.unpacked_after)}; files "
        f"+{package.files_added} ~{package.files_changed} −{package.files_removed}",
    )
    if package.dependencies:
        rows = (
            (_sign(d.kind), d.name, "direct" if d.direct else "", d.before, d.after,
             human_delta(d.delta))
            for d in package.dependencies[:ITEMS]
        )  # fmt: skip
        yield _table(("", "Dependency", "", "Before", "After", "Zip"), rows)
        yield from _more(len(package.dependencies))
    if package.files:
        own = (
            (_sign(file.kind), element("code", file.path), human_delta(file.delta))
            for file in package.files
        )
        yield _table(("", "Own file", "Size"), own)
        if package.own_files > len(package.files):
            yield element("p", f"… {package.own_files} own files changed", class_="dim")


def _more(count: int) -> Iterator[Markup]:
    if count > ITEMS:
        yield element("p", f"… and {count - ITEMS} more, in report.json", class_="dim")


def _upgrade(upgrade: Upgrade) -> Iterator[Markup]:
    yield element("h3", upgrades.headline(upgrade))
    if upgrade.unknown:
        yield element("p", upgrade.unknown, class_="note")
    for note in upgrade.notes[:ITEMS]:
        where = ", ".join(str(at) for at in note.at[:20])
        yield element(
            "div",
            element("strong", note.topic),
            element("span", " · ".join(("", f"since {note.version}", where)), class_="dim"),
            element("p", _prose(note.what)),
            element("p", _prose(f"{note.why} {note.link}".strip()), class_="dim"),
            class_=f"alert {'error' if note.impact == 'breaks' else 'warning'}",
        )
    yield from _more(len(upgrade.notes))
    if upgrade.template_problem:
        yield element("p", upgrade.template_problem, class_="note")
    if upgrade.template:
        yield _table(
            ("Template", "Resources", "Before", "After"),
            tuple(upgrades.template_cells(change) for change in upgrade.template[:ITEMS]),
        )
        yield from _more(len(upgrade.template))


# -- what was made -------------------------------------------------------------------------------


def _package(result: Result) -> Iterator[Markup]:
    package = result.package
    if package is None:
        return
    yield element("h3", f"Package: {human_size(package.size)}")
    rows = (
        (
            one.slot,
            human_size(one.size),
            "" if one.unpacked_size is None else human_size(one.unpacked_size),
            "" if one.entries is None else str(one.entries),
            element("code", one.sha256),
        )
        for one in package.archives
    )
    yield _table(("Archive", "Zip", "Unpacked", "Files", "SHA-256"), rows)
    if result.contents:
        yield treemap(result.contents)
    if package.dependencies:
        known = sorted(package.dependencies, key=lambda d: (not d.direct, d.name))
        told = ", ".join(f"{d.name} {d.version}" for d in known[:ITEMS])
        yield element("p", f"{len(known)} dependencies: {told}")


def _operations(result: Result) -> Iterator[Markup]:
    if not result.operations:
        return
    yield element("h3", f"Operations ({len(result.operations)})")
    rows = (
        (
            _OUTCOMES[one.outcome],
            element("strong", one.effect.value)
            if one.effect in (Effect.DELETE, Effect.REPLACE)
            else one.effect.value,
            element("code", one.resource),
            element("code", one.method),
            one.message,
            "" if one.seconds is None else f"{one.seconds:.1f} s",
        )
        for one in result.operations[:ITEMS]
    )
    yield _table(("Outcome", "Effect", "Resource", "Step", "Note", ""), rows)
    yield from _more(len(result.operations))


def _smoke(result: Result) -> Iterator[Markup]:
    if result.smoke:
        yield element("h3", "Smoke checks")
        rows = (
            (
                "✅" if one.passed else "❌",
                element("code", one.path),
                "" if one.status is None else str(one.status),
                one.message,
            )
            for one in result.smoke
        )
        yield _table(("", "Path", "Status", ""), rows)


def _record(result: Result) -> Iterator[Markup]:
    told = []
    if result.plan is not None:
        told.append(f"plan {result.plan.digest}")
    if result.state is not None:
        told.append(f"state {result.state.store} {result.state.commit}".rstrip())
    told += [f"{timing.step} {timing.seconds:.1f} s" for timing in result.timings]
    if told:
        yield element("p", clipped(" · ".join(told), 2_000), class_="dim")


def _table(head: tuple[str, ...], rows: Iterable[tuple[Content, ...]]) -> Markup:
    """A table; columns with nothing in them are left out."""
    made = [tuple(cell or "" for cell in row) for row in rows]
    filled = [n for n in range(len(head)) if any(row[n] for row in made)]
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *(element("th", head[n]) for n in filled))),
            element(
                "tbody",
                *(element("tr", *(element("td", row[n]) for n in filled)) for row in made),
            ),
        ),
        class_="wide",
    )
