"""The report as text for people, on a terminal or in a log.

Everything that came from outside is made harmless first: the only control characters in the output
are line breaks and, with `color`, the colours written here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from chalice_ci.difference.changes import Changes, Detail, Kind, PackageChanges, Risk
from chalice_ci.findings import Finding, Place, Severity, in_order
from chalice_ci.neutral import neutralise, without_commands
from chalice_ci.report.report import (
    Effect,
    Failure,
    Intent,
    Outcome,
    Report,
    Result,
    Upgrade,
    Verdict,
    owned,
)
from chalice_ci.report.sizes import human_delta, human_size
from chalice_ci.report.upgrades import template_cells

Excerpt = Callable[[Place], "str | None"]

_RESET = "\x1b[0m"
_STYLES = {
    "error": "\x1b[1;31m",
    "warning": "\x1b[1;33m",
    "notice": "\x1b[1;36m",
    "ok": "\x1b[1;32m",
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
}
_VERDICTS = {
    Verdict.OK: "ok",
    Verdict.FINDINGS: "error",
    Verdict.FAILED: "error",
    Verdict.SKIPPED: "dim",
}
_MARKS = {
    Outcome.PLANNED: " ",
    Outcome.DONE: "✓",
    Outcome.FAILED: "✗",
    Outcome.NOT_REACHED: "-",
}


_SIGNS = {Kind.ADDED: "+", Kind.CHANGED: "~", Kind.REMOVED: "-"}
MAX_CHANGES = 60
"""More are not read on a terminal."""


def _no_excerpt(_at: Place) -> str | None:
    return None


def render(
    report: Report, *, color: bool = False, width: int = 100, excerpt: Excerpt = _no_excerpt
) -> str:
    """The text of a report, ending in one line that sums it up.

    `color` is the caller's answer to "is it a terminal", `width` the columns to wrap at, `excerpt`
    gives the source line of a place (`source.excerpts`).
    """
    page = _Page(color=color, width=max(width, 40), excerpt=excerpt)
    lines: list[str] = []
    if report.findings:
        lines += [page.style("bold", "repository"), *page.findings(in_order(report.findings)), ""]
    for result in report.results:
        lines += [*page.result(result), ""]
    if report.failure is not None:
        lines += [*page.failure(report.failure), ""]
    if report.notes:
        lines += [*page.notes(report.notes), ""]
    lines.append(page.summary(report))
    return "\n".join(lines) + "\n"


class _Page:
    def __init__(self, *, color: bool, width: int, excerpt: Excerpt) -> None:
        self._color = color
        self._width = width
        self._excerpt = excerpt

    def notes(self, notes: tuple[str, ...]) -> Iterator[str]:
        for note in notes:
            yield from self._wrapped(note, "")

    def style(self, name: str, text: str) -> str:
        return f"{_STYLES[name]}{text}{_RESET}" if self._color else text

    def result(self, result: Result) -> Iterator[str]:
        name = _word(f"{result.app}/{result.stage}")
        verdict = result.verdict
        about = [
            self.style(_VERDICTS[verdict], verdict.value),
            f"Chalice {_word(result.chalice)}" if result.chalice else "",
            f"Python {_word(result.python)}" if result.python else "",
            f"isolation {_word(result.isolation.level)}" if result.isolation else "",
            _word(result.region),
        ]
        yield f"{self.style('bold', name)}  " + " · ".join(part for part in about if part)
        if result.note:
            yield from self._wrapped(result.note, "  ")
        yield from self.findings(owned(result))
        yield from self._parts(result)
        if result.failure is not None:
            yield from self.failure(result.failure)

    def _parts(self, result: Result) -> Iterator[str]:
        if result.isolation is not None:
            for reason in result.isolation.reasons:
                yield from self._wrapped(f"isolation: {reason}", "  ")
        if result.package is not None:
            package = result.package
            count = len(package.dependencies)
            dependencies = f"{count} {'dependency' if count == 1 else 'dependencies'}"
            yield f"  package     {human_size(package.size)}, {dependencies}"
            for archive in package.archives:
                slot = _word(archive.slot)
                yield f"              {slot} sha256 {_word(archive.sha256)} {_word(archive.path)}"
        if result.changes is not None:
            yield from self._changes(result.changes)
        if result.upgrade is not None:
            yield from self._upgrade(result.upgrade)
        if result.plan is not None:
            yield f"  plan        sha256 {_word(result.plan.digest)} {_word(result.plan.path)}"
        if result.operations:
            counts = [(result.count(effect), effect) for effect in Effect]
            told = [f"{n} to {effect.value}" for n, effect in counts if n]
            yield f"  operations  {len(result.operations)} steps; resources: {', '.join(told)}"
        for operation in result.operations:
            mark = _MARKS[operation.outcome]
            seconds = f" ({operation.seconds:.1f} s)" if operation.seconds is not None else ""
            text = f"{operation.method} {operation.resource}{seconds} {operation.message}"
            yield from self._wrapped(text.strip(), f"    {mark} ")
        if result.changed is not None and result.intent is Intent.REMOVE:
            yield f"  removed     {'everything' if result.changed else 'nothing to remove'}"
        elif result.changed is not None:
            yield f"  deployed    {'changed' if result.changed else 'nothing to change'}"
        for resource in result.resources:
            text = f"{resource.type} {resource.name}  {resource.identity}"
            yield from self._wrapped(text.rstrip(), "  ")
        for url in result.urls:
            yield f"  {_word(url.kind):<11} {_word(url.address)}"
        for smoke in result.smoke:
            passed = "passed" if smoke.passed else "failed"
            text = f"smoke       {smoke.path} {passed} {smoke.status or ''} {smoke.message}"
            yield from self._wrapped(text.rstrip(), "  ")
        if result.state is not None:
            state = result.state
            name = _word(f"{state.store} {state.commit or state.version}".strip())
            changed = "recorded: " if state.changed else "unchanged: "
            yield f"  state       {'' if result.intent is Intent.READ else changed}{name}"
        if result.timings:
            total = sum(timing.seconds for timing in result.timings)
            steps = ", ".join(f"{_word(t.step)} {t.seconds:.1f} s" for t in result.timings)
            yield f"  time        {total:.1f} s ({steps})"

    def _changes(self, changes: Changes) -> Iterator[str]:
        baseline = changes.baseline
        if not changes.known:
            yield from self._wrapped(f"changes     unknown: {baseline.problem}", "  ")
            yield from self._wrapped(baseline.fix, "    ")
            return
        counts = " ".join(f"{_SIGNS[kind]}{changes.count(kind)}" for kind in Kind)
        at = f" {_word(baseline.commit[:7])}" if baseline.commit else ""
        yield f"  changes     {counts} against {baseline.kind.value}{at}"
        for item in changes.items[:MAX_CHANGES]:
            runs = f" -> {item.function}" if item.function not in ("", item.subject) else ""
            told = f"{item.area.value} {item.subject}{runs}"
            yield from self._wrapped(told, f"    {_SIGNS[item.kind]} ")
            for detail in item.details:
                yield from self._wrapped(_detail(detail), "        ")
            for risky in item.risks:
                style = "error" if risky.risk is Risk.DESTRUCTIVE else "warning"
                yield from self._wrapped(
                    f"{risky.risk.value}: {risky.why}", "      ! ", style=style
                )
        if len(changes.items) > MAX_CHANGES:
            yield f"    … and {len(changes.items) - MAX_CHANGES} more, in report.json"
        if changes.package is not None:
            yield from self._package_changes(changes.package)

    def _package_changes(self, package: PackageChanges) -> Iterator[str]:
        files = f"+{package.files_added} ~{package.files_changed} -{package.files_removed}"
        before, after = human_size(package.size_before), human_size(package.size_after)
        delta = human_delta(package.delta)
        yield f"    package {before} -> {after} ({delta}), files {files}"
        for one in package.dependencies[:MAX_CHANGES]:
            versions = " -> ".join(part for part in (one.before, one.after) if part)
            direct = ", direct" if one.direct else ""
            told = f"{one.name} {versions} ({human_delta(one.delta)}{direct})"
            yield from self._wrapped(told, f"    {_SIGNS[one.kind]} ")
        if len(package.dependencies) > MAX_CHANGES:
            yield f"    … and {len(package.dependencies) - MAX_CHANGES} more, in report.json"

    def _upgrade(self, upgrade: Upgrade) -> Iterator[str]:
        yield f"  Chalice     {_word(upgrade.before)} -> {_word(upgrade.after)}"
        if upgrade.unknown:
            yield from self._wrapped(upgrade.unknown, "    ")
        for note in upgrade.notes:
            where = ", ".join(str(at) for at in note.at[:3])
            told = f"{note.version} {note.topic}: {note.what} {where}"
            yield from self._wrapped(told.rstrip(), "    - ")
        if upgrade.template_problem:
            yield from self._wrapped(upgrade.template_problem, "    ")
        for change in upgrade.template:
            what, names, before, after = template_cells(change)
            told = f"template: {what}: {before or '(nothing)'} -> {after or '(nothing)'} ({names})"
            if not before and not after:
                told = f"template: {what} ({names})"
            yield from self._wrapped(told, "    ~ ")

    def findings(self, findings: tuple[Finding, ...]) -> Iterator[str]:
        for finding in findings:
            severity = finding.severity.value
            place = f"  {_word(str(finding.at))}" if finding.at else ""
            yield f"  {self.style(severity, severity)} {_word(finding.rule)}{place}"
            yield from self._wrapped(finding.what, "    ")
            yield from self._source(finding)
            if finding.fix:
                yield from self._fix(finding.fix)
            if finding.detail:
                yield from self._wrapped(finding.detail, "    ", style="dim")
            if finding.link:
                yield f"    {_word(finding.link)}"

    def failure(self, failure: Failure) -> Iterator[str]:
        reason = failure.exit_code.reason
        where = f"  {_word(failure.where)}" if failure.where else ""
        yield f"  {self.style('error', 'failed')} {reason}{where}"
        yield from self._wrapped(failure.what, "    ")
        if failure.fix:
            yield from self._fix(failure.fix)

    def summary(self, report: Report) -> str:
        found = report.all_findings
        counts = [(s, sum(1 for f in found if f.severity is s)) for s in Severity]
        words = [f"{n} {s.value}{'' if n == 1 else 's'}" for s, n in counts if n]
        words += [f"failed: {failure.exit_code.reason}" for failure in report.failures[:3]]
        stages = f"{len(report.results)} stage{'' if len(report.results) == 1 else 's'}"
        verdict = self.style(_VERDICTS[report.verdict], report.verdict.value)
        return f"{_word(report.verb)} · {verdict} · {stages} · {', '.join(words) or 'no findings'}"

    def _source(self, finding: Finding) -> Iterator[str]:
        if finding.at is None or finding.at.line is None:
            return
        line = self._excerpt(finding.at)
        if line is None:
            return
        text = _word(line.rstrip())
        number = str(finding.at.line)
        stripped = text.lstrip()
        column = len(text) - len(stripped)
        if finding.at.column is not None and 0 < finding.at.column <= len(text):
            column = finding.at.column - 1
        room = self._width - len(number) - 9
        yield f"    {number} | {text[:room]}"
        if column < room:
            yield f"    {' ' * len(number)} | {' ' * column}{self.style('error', '^')}"

    def _fix(self, fix: str) -> Iterator[str]:
        first, *rest = neutralise(fix).expandtabs(4).split("\n")
        yield from self._wrapped(f"Fix: {first}", "    ")
        for line in rest:
            # Code to copy: never wrapped.
            yield f"      {line}".rstrip()

    def _wrapped(self, text: str, indent: str, *, style: str = "") -> Iterator[str]:
        after = " " * len(indent)
        for number, line in enumerate(neutralise(text).split("\n")):
            # The middle of a text may come to stand at the start of a line.
            wrapped = textwrap.wrap(
                line,
                self._width,
                initial_indent=indent if number == 0 else after,
                subsequent_indent=after,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for piece in map(without_commands, wrapped):
                yield self.style(style, piece) if style else piece


def _detail(detail: Detail) -> str:
    if detail.before is None and detail.after is None:
        return f"{detail.name}: changed"
    if detail.before is None:
        return f"{detail.name}: {detail.after}"
    return f"{detail.name}: {detail.before} -> {detail.after or 'none'}"


def _word(text: str) -> str:
    """One line of harmless text."""
    return " ".join(neutralise(text).expandtabs(4).split("\n"))
