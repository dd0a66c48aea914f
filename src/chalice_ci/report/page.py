"""A report as a page of Markdown: what the comment and the step summary show.

One table row per app and stage, then what a person has to decide, then the details folded. A
report can be longer than its page: sections are made of blocks, and as many whole blocks are shown
as there is room for; what is left out is counted, with the place where it is. The table always
survives: when it is too long itself, it loses columns, then the rows that say the least.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import assert_never
from urllib.parse import quote

from chalice_ci.context import GITHUB_PAGES, Context, Pages, RunOrder
from chalice_ci.difference.changes import Changes
from chalice_ci.findings import Finding, Place, Severity, by_stages
from chalice_ci.forge.port import Past
from chalice_ci.report import changes, upgrades
from chalice_ci.report import markdown as md
from chalice_ci.report.mermaid import mermaid
from chalice_ci.report.report import (
    Effect,
    Failure,
    Intent,
    Isolation,
    Outcome,
    Report,
    Result,
    Smoke,
    Upgrade,
    Verdict,
    exit_code,
)
from chalice_ci.report.sizes import human_delta, human_size

TITLE = "Chalice"
RUNNING = "⏳"
DECISIONS = frozenset({"experimental-feature", "experimental-not-allowed"})
"""The rules that ask a person to decide something, rather than to mend it."""

_ENDED = {
    "ok": "✅ passed",
    "findings": "❌ errors",
    "failed": "❌ failed",
    "skipped": "⏭️ nothing done",
    "cancelled": "⛔ cancelled",
}

OPENED = 6
"""Parts of a difference that are shown without a click when there is only one."""
Measure = Callable[[str], int]


# -- where it comes from ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run that speaks: what the links are made of.

    `notes` are shown above the details, `remarks` in the last line ("preview expires in 7 d").
    """

    run: RunOrder = field(default_factory=lambda: RunOrder(id=0))
    commit: str = ""
    repository_url: str = ""
    pages: Pages = GITHUB_PAGES
    run_url: str = ""
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    history: tuple[Past, ...] = ()
    """Runs that ended, the newest first: this one too, when it has."""

    @classmethod
    def of(cls, context: Context, *, notes: tuple[str, ...] = ()) -> Origin:
        """The origin that a context is."""
        return cls(
            run=context.run or RunOrder(id=0),
            commit=context.commit or "",
            repository_url=context.repository_url,
            pages=context.pages,
            run_url=context.run_url,
            notes=notes,
        )


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An app and stage whose result is still to come."""

    app: str
    stage: str
    doing: str = "planning…"


# -- pages and sections ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Section:
    """Whole blocks between a head and a tail, and what they are called when some are left out.

    `total` counts all of them: those that no page has room for are never made.
    """

    blocks: tuple[str, ...]
    total: int
    noun: tuple[str, str]
    head: str = ""
    tail: str = ""

    def shown(self, count: int, rest: str) -> str:
        left = self.total - count
        more = f"… and {left} more {self.noun[left != 1]}: {rest}." if left else ""
        parts = (self.head, *self.blocks[:count], more, self.tail)
        return "\n\n".join(part for part in parts if part)

    def fitted(self, room: int, measure: Measure, rest: str) -> str:
        """As many blocks as there is room for."""
        low, high = -1, len(self.blocks)
        while low < high:
            middle = (low + high + 1) // 2
            if measure(self.shown(middle, rest)) <= room:
                low = middle
            else:
                high = middle - 1
        return self.shown(low, rest) if low >= 0 else ""


def _section(
    made: Iterable[str],
    total: int,
    noun: tuple[str, str],
    *,
    room: int,
    title: str = "",
    opened: bool = False,
) -> Iterator[_Section]:
    """A section with as many blocks as could fill the room, folded when it has a title."""
    blocks: list[str] = []
    size = 0
    for block in made:
        blocks.append(block)
        size += len(block)
        if size > room:
            break
    if not blocks:
        return
    head = f"<details{' open' if opened else ''}><summary>{md.text(title, 240)}</summary>"
    yield _Section(
        blocks=tuple(blocks),
        total=total,
        noun=noun,
        head=head if title else "",
        tail="</details>" if title else "",
    )


class Page:
    """A report as Markdown: the same for the comment and the step summary."""

    def __init__(
        self,
        report: Report,
        *,
        origin: Origin,
        fail_on: Severity = Severity.ERROR,
        waiting: tuple[Waiting, ...] = (),
        rest: str = "",
    ) -> None:
        self._report = report
        self._origin = origin
        self._fail_on = fail_on
        self._waiting = waiting
        self._findings = by_stages(report.all_findings)
        self._compared = _compared(report.results)
        summary = md.link(origin.run_url, "the step summary") if origin.run_url else ""
        self._rest = rest or f"see {summary or 'the step summary'} and `report.json`"

    def body(self, *, limit: int, measure: Measure) -> str:
        """The page, at most `limit` long."""
        heading = f"### {TITLE} · {self._headline()}"
        footer = self._footer()
        fixed = measure(heading) + measure(footer) + 4
        table = self._table(min((limit - fixed) * 2 // 3, limit - fixed), measure)
        room = limit - fixed - measure(table) - 2
        made = self._sections(room, measure)
        return "\n\n".join(part for part in (heading, table, *made, footer) if part)

    def _sections(self, room: int, measure: Measure) -> list[str]:
        """Each section gets what it needs, or an equal share of what is left."""
        sections = [
            *self._alerts(room),
            *self._finding_section(room),
            *self._change_sections(room),
            *self._upgrade_sections(room),
            *self._operation_section(room),
            *self._smoke_section(room),
            *self._package_section(room),
            *self._graph_sections(room),
            *self._history_section(room),
        ]
        needs = [measure(s.shown(len(s.blocks), self._rest)) + 2 for s in sections]
        made = [""] * len(sections)
        order = sorted(range(len(sections)), key=lambda index: needs[index])
        for done, index in enumerate(order):
            share = room // (len(sections) - done)
            made[index] = sections[index].fitted(share - 2, measure, self._rest)
            room -= measure(made[index]) + 2 if made[index] else 0
        return made

    # -- the verdict

    def _headline(self) -> str:
        report = self._report
        if self._waiting:
            total = len(report.results) + len(self._waiting)
            return f"{RUNNING} in progress, {len(report.results)} of {total} done"
        errors = [f for f, _ in self._findings if f.severity is Severity.ERROR]
        decisions = sum(f.rule in DECISIONS for f in errors) + len(self._destructive())
        mending = sum(f.rule not in DECISIONS for f in errors)
        stages = sum(result.failure is not None for result in report.results)
        parts = [
            f"stopped: {report.failure.exit_code.reason}" if report.failure else "",
            f"{_count(stages, 'stage')} failed" if stages else "",
            _count(mending, "error") if mending else "",
            f"{_count(decisions, 'decision')} needed" if decisions else "",
        ]
        warnings = sum(f.severity is Severity.WARNING for f, _ in self._findings)
        told = ", ".join(part for part in parts if part)
        if exit_code(report, fail_on=self._fail_on) != 0:
            return f"❌ {told or _count(warnings, 'warning')}"
        if told:
            return f"⚠️ {told}"
        good = self._good()
        return f"{good}, {_count(warnings, 'warning')}" if warnings else good

    def _good(self) -> str:
        results = self._report.results
        live = [r for r in results if r.intent is Intent.DEPLOY and r.changed is not None]
        if not results:
            return "⏭️ nothing to do"
        if live:
            return "✅ preview deployed" if all(r.preview for r in live) else "✅ deployed"
        if any(r.intent is Intent.PLAN and r.plan is not None for r in results):
            return "📝 planned"
        removed = [r for r in results if r.intent is Intent.REMOVE and r.changed is not None]
        if removed:
            return "🗑️ removed" if any(r.changed for r in removed) else "⏭️ nothing to remove"
        if self._report.verdict is Verdict.SKIPPED:
            return "⏭️ nothing done"
        return "✅ fit to deploy"

    # -- the table

    def _table(self, room: int, measure: Measure) -> str:
        rows = self._rows()
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
        return self._shortened(rows, head, made, room, measure)

    def _shortened(
        self,
        rows: list[tuple[int, tuple[str, ...]]],
        head: tuple[str, ...],
        made: list[tuple[str, ...]],
        room: int,
        measure: Measure,
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
        return f"{table}\n\n… and {sum(left.values())} more rows ({counted}): {self._rest}."

    def _rows(self) -> list[tuple[int, tuple[str, ...]]]:
        """Weight (0: shown first when there is too little room) and cells of each row."""
        rows: list[tuple[int, tuple[str, ...]]] = []
        seen: dict[tuple[str, str], str] = {}
        for result in self._report.results:
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
        for wait in self._waiting:
            names = (md.text(wait.app, 64), md.text(wait.stage, 64))
            rows.append((1, (*names, f"{RUNNING} {md.text(wait.doing, 60)}", "", "", "")))
        return rows

    # -- what has to be decided

    def _alerts(self, room: int) -> Iterator[_Section]:
        failures = sum(result.failure is not None for result in self._report.results)
        failures += self._report.failure is not None
        yield from _section(self._failures(), failures, ("failure", "failures"), room=room)
        decisions = [
            (finding, stages)
            for finding, stages in self._findings
            if finding.severity is Severity.ERROR and finding.rule in DECISIONS
        ]
        yield from _section(
            (md.alert("CAUTION", self._finding(*each, short=True)) for each in decisions),
            len(decisions),
            ("decision", "decisions"),
            room=room,
        )
        destructive = self._destructive()
        yield from _section(
            (md.alert("WARNING", text) for text in destructive),
            len(destructive),
            ("stage", "stages"),
            room=room,
        )
        risky = [
            told
            for found, results in self._compared
            if found.known
            for told in changes.risks(_stages(results), found)
        ]
        yield from _section(
            changes.risk_alerts(risky), len(set(risky)), ("risk", "risks"), room=room
        )
        notes = [
            *(told for note in self._origin.notes if (told := md.prose(note))),
            *(_not_compared(f, results) for f, results in self._compared if not f.known),
        ]
        yield from _section(
            (md.alert("NOTE", note) for note in notes),
            len(notes),
            ("note", "notes"),
            room=room,
        )
        waiting = [result for result in self._report.results if result.needs]
        yield from _section(
            (_still_needed(result) for result in waiting),
            len(waiting),
            ("stage", "stages"),
            room=room,
        )

    def _failures(self) -> Iterator[str]:
        if self._report.failure is not None:
            yield md.alert("CAUTION", _failure("", self._report.failure))
        for result in self._report.results:
            if result.failure is not None:
                name = f"{result.app}/{result.stage}"
                yield md.alert("CAUTION", _failure(name, result.failure))

    def _destructive(self) -> list[str]:
        """A sentence for each stage whose plan deletes or replaces something."""
        sentences = []
        for result in self._report.results:
            if result.intent is not Intent.PLAN or result.failure is not None:
                continue
            if result.changes is not None and result.changes.destructive:
                continue  # told with the reasons, among the risks
            told = [
                f"{verb} {names}"
                for verb, effect in (
                    ("deletes", Effect.DELETE),
                    ("deletes and creates again", Effect.REPLACE),
                )
                if (names := _names(result, effect))
            ]
            if told:
                name = md.strong(f"{result.app}/{result.stage}")
                sentences.append(f"{name} {' and '.join(told)} when this plan is deployed.")
        return sentences

    # -- the details

    def _change_sections(self, room: int) -> Iterator[_Section]:
        known = sum(found.known for found, _ in self._compared)
        for found, results in self._compared:
            if not found.known or found.empty:
                continue
            against = f"Compared with {changes.compared_with(found.baseline)}."
            blocks = [against, *changes.item_blocks(found)]
            package = found.package
            parts = [changes.headline(found)]
            if package is not None and (told := changes.package_headline(package)):
                blocks += changes.package_blocks(package)
                parts.append(f"Package {told}")
            yield from _section(
                blocks,
                len(blocks),
                ("part", "parts"),
                room=room,
                title=f"{_names_of(results)}: {' · '.join(part for part in parts if part)}",
                opened=known == 1 and len(blocks) <= OPENED,
            )

    def _graph_sections(self, room: int) -> Iterator[_Section]:
        for found, results in self._compared:
            drawn = results[0].diagram
            if not found.known or drawn is None or not drawn.changed:
                continue
            yield from _section(
                (f"```mermaid\n{mermaid(drawn)}\n```",),
                1,
                ("graph", "graphs"),
                room=room,
                title=f"Graph of {_names_of(results)}",
            )

    def _upgrade_sections(self, room: int) -> Iterator[_Section]:
        groups: dict[tuple[str, Upgrade], list[Result]] = {}
        for result in self._report.results:
            if result.upgrade is not None:
                groups.setdefault((result.app, result.upgrade), []).append(result)
        for (_, upgrade), results in groups.items():
            blocks = [*upgrades.blocks(upgrade, place=self._place)]
            yield from _section(
                blocks,
                len(blocks),
                ("note", "notes"),
                room=room,
                title=f"{_names_of(results)}: {upgrades.headline(upgrade)}",
                opened=upgrades.breaks(upgrade),
            )

    def _finding_section(self, room: int) -> Iterator[_Section]:
        found = self._findings
        counts = [(s, sum(f.severity is s for f, _ in found)) for s in Severity]
        told = ", ".join(_count(count, severity.value) for severity, count in counts if count)
        # What fails the build and stands in no alert must be seen without a click.
        hidden = any(f.severity is Severity.ERROR and f.rule not in DECISIONS for f, _ in found)
        yield from _section(
            (self._finding(finding, stages) for finding, stages in found),
            len(found),
            ("finding", "findings"),
            room=room,
            title=f"Findings: {told}",
            opened=hidden,
        )

    def _finding(self, finding: Finding, stages: tuple[str, ...], *, short: bool = False) -> str:
        sign = {"error": "❌", "warning": "⚠️", "notice": "💡"}[finding.severity.value]
        shown = ", ".join(md.text(stage, 64) for stage in stages[:12] if stage)
        more = f" and {len(stages) - 12} more" if len(stages) > 12 else ""
        where = [
            md.strong(finding.rule, 80),
            md.text(finding.app, 64),
            f"{shown}{more}",
            self._place(finding.at) if finding.at else "",
        ]
        lines = [f"{sign} " + " · ".join(part for part in where if part), md.prose(finding.what)]
        block = "\n".join(f"{line}<br>" for line in lines[:-1]) + f"\n{lines[-1]}"
        parts = [block, *_fix(finding.fix)]
        if short:
            return "\n\n".join(parts)
        parts += [f"<sub>{md.prose(line)}</sub>" for line in finding.detail.splitlines()[:6]]
        if finding.link:
            parts.append(f"<sub>{md.link(finding.link)}</sub>")
        return "\n\n".join(parts)

    def _operation_section(self, room: int) -> Iterator[_Section]:
        results = [result for result in self._report.results if result.operations]
        yield from _section(
            (_operations(result) for result in results),
            len(results),
            ("stage", "stages"),
            room=room,
            title=f"Operations: {_count(sum(len(r.operations) for r in results), 'step')}",
        )

    def _smoke_section(self, room: int) -> Iterator[_Section]:
        failed = [
            (result, smoke)
            for result in self._report.results
            for smoke in result.smoke
            if not smoke.passed
        ]
        yield from _section(
            (_smoke(result, smoke) for result, smoke in failed),
            len(failed),
            ("check", "checks"),
            room=room,
            title=_count(len(failed), "failed smoke check"),
            opened=True,
        )

    def _package_section(self, room: int) -> Iterator[_Section]:
        groups: dict[tuple[str, str], list[Result]] = {}
        for result in self._report.results:
            if result.package is not None:
                groups.setdefault((result.app, result.package.digest), []).append(result)
        packages = [results[0].package for results in groups.values()]
        count = len({d.name for package in packages if package for d in package.dependencies})
        head = "Package" if len(groups) == 1 else f"{len(groups)} packages"
        yield from _section(
            (_package_details(results) for results in groups.values()),
            len(groups),
            ("package", "packages"),
            room=room,
            title=f"{head}: {_count(count, 'dependency', 'dependencies')}",
        )

    def _history_section(self, room: int) -> Iterator[_Section]:
        """The last runs; one alone is what the page is about."""
        past = self._origin.history
        if len(past) < 2:
            return
        rows = tuple(
            (
                self._run(one.run),
                self._commit(one.commit),
                _ENDED.get(one.verdict, md.text(one.verdict, 12)),
            )
            for one in past
        )
        yield from _section(
            (md.table(("Run", "Commit", "Result"), rows),),
            1,
            ("run", "runs"),
            room=room,
            title=f"The last {len(past)} runs",
        )

    def _run(self, run: RunOrder) -> str:
        name = f"{run.id}" + (f", attempt {run.attempt}" if run.attempt > 1 else "")
        url = self._origin.repository_url
        return md.link(f"{url}/{self._origin.pages.runs}/{run.id}", name) if url else name

    def _commit(self, commit: str) -> str:
        url, shown = self._origin.repository_url, md.code(commit[:7])
        if url and re.fullmatch("[0-9a-f]{7,64}", commit):
            return md.link(f"{url}/{self._origin.pages.commits}/{commit}", shown)
        return shown

    def _place(self, at: Place) -> str:
        label = md.code(str(at))
        parts = at.file.split("/")
        # `main:chalice-ci.yml` is a file of another commit.
        plain = re.fullmatch("[0-9a-f]{7,64}", self._origin.commit) and not (
            {"", ".", ".."} & set(parts) or ":" in at.file
        )
        if not (plain and self._origin.repository_url):
            return label
        path = quote(at.file.encode("utf-8", "replace"), safe="/")
        line = f"#L{at.line}" if at.line and at.line > 0 else ""
        files = f"{self._origin.repository_url}/{self._origin.pages.files}"
        return md.link(f"{files}/{self._origin.commit}/{path}{line}", label)

    # -- the last line

    def _footer(self) -> str:
        report, origin = self._report, self._origin
        commit = origin.commit or report.commit
        shown = self._commit(commit)
        several = len({result.app for result in report.results}) > 1
        states = [
            md.code(f"{result.app}/{result.stage}@{result.state.commit[:7]}", 140)
            if several
            else md.code(f"{result.stage}@{result.state.commit[:7]}", 140)
            for result in report.results
            if result.state is not None and result.state.commit
        ]
        isolation = _isolation([r.isolation for r in report.results if r.isolation is not None])
        run = f"run {origin.run.id}" if origin.run.id else ""
        if origin.run.attempt > 1:
            run += f", attempt {origin.run.attempt}"
        parts = [
            shown,
            f"state {', '.join(states[:4])}" if states else "",
            isolation,
            *(md.prose(remark, 120) for remark in origin.remarks[:4]),
            md.link(origin.run_url, run) if origin.run_url and run else run,
            f"chalice-ci {md.text(report.tool, 40)}",
        ]
        return f"<sub>{' · '.join(part for part in parts if part)}</sub>"


# -- pieces ----------------------------------------------------------------------------------------


def _stages(results: list[Result]) -> str:
    """The app and its stages, in bold."""
    return md.strong(_names_of(results))


def _names_of(results: list[Result]) -> str:
    stages = ", ".join(result.stage for result in results[:6])
    more = f" and {len(results) - 6} more" if len(results) > 6 else ""
    return f"{results[0].app}/{stages}{more}"


def _compared(results: Iterable[Result]) -> tuple[tuple[Changes, list[Result]], ...]:
    """What differs, with the stages of an app that differ alike."""
    groups: dict[tuple[str, Changes], list[Result]] = {}
    for result in results:
        if result.changes is not None:
            groups.setdefault((result.app, result.changes), []).append(result)
    return tuple((found, alike) for (_, found), alike in groups.items())


def _not_compared(found: Changes, results: list[Result]) -> str:
    problem, fix = md.prose(found.baseline.problem), md.prose(found.baseline.fix)
    return f"{_stages(results)} is not compared: {problem} {fix}"


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
        said = "decision needed" if decides else _count(len(errors), "error")
        return f"❌ {said}{note}"
    words = _good_words(result) + smoke + note
    return f"{words}, ⚠️ {_count(warnings, 'warning')}" if warnings else words


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


def _still_needed(result: Result) -> str:
    """What stands between a pull request and a stage, as a list that nobody can tick by hand."""
    name = md.strong(f"{result.app}/{result.stage}")
    lines = [f"What {name} still needs:"]
    for need in result.needs:
        sign = "✅" if need.met else "✋" if need.asks else "⬜"
        lines.append(f"- {sign} {md.prose(need.text, 240)}")
    return "\n".join(lines)


def _address(address: str) -> str:
    return md.link(address) if len(address) <= 300 else md.code(address, 100)


def _names(result: Result, effect: Effect) -> str:
    names = list(dict.fromkeys(o.resource for o in result.operations if o.effect is effect))
    shown = ", ".join(md.code(name, 80) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _failure(name: str, failure: Failure) -> str:
    head = f"{md.strong(name)} failed" if name else "The run stopped"
    where = f" at {md.code(failure.where)}" if failure.where not in ("", name) else ""
    parts = [f"{head}{where} ({md.code(failure.exit_code.reason)}): {_first(failure.what)}"]
    _, _, more = failure.what.partition("\n")
    if more.strip():
        parts.append(md.fence(more, lines=12))
    return "\n\n".join([*parts, *_fix(failure.fix)])


def _first(what: str) -> str:
    return md.prose(what.partition("\n")[0])


def _fix(fix: str) -> list[str]:
    """The fix: a sentence, and code to copy as a block of it."""
    if not fix:
        return []
    first, _, rest = fix.partition("\n")
    parts = [f"**Fix:** {md.prose(first)}"]
    if rest.strip():
        python = "experimental_feature_flags" in rest
        parts.append(md.fence(rest, language="python" if python else "", lines=15))
    return parts


def _operations(result: Result) -> str:
    signs = {
        Outcome.PLANNED: "📝",
        Outcome.DONE: "✅",
        Outcome.FAILED: "❌",
        Outcome.NOT_REACHED: "⏸️",
    }
    rows: tuple[tuple[str, ...], ...] = tuple(
        (
            f"{signs[operation.outcome]} {operation.outcome.value}",
            f"**{operation.effect.value}**"
            if operation.effect in (Effect.DELETE, Effect.REPLACE)
            else operation.effect.value,
            md.code(operation.resource, 80),
            md.code(operation.method, 60),
            md.prose(operation.message, 160),
        )
        for operation in result.operations[:30]
    )
    name = md.strong(f"{result.app}/{result.stage}")
    head: tuple[str, ...] = ("Outcome", "Effect", "Resource", "Step", "Note")
    if not any(cells[-1] for cells in rows):
        head, rows = head[:-1], tuple(cells[:-1] for cells in rows)
    parts = [name, md.table(head, rows)]
    if len(result.operations) > 30:
        parts.append(f"… and {len(result.operations) - 30} more steps, in `report.json`.")
    return "\n\n".join(parts)


def _smoke(result: Result, smoke: Smoke) -> str:
    name = md.strong(f"{result.app}/{result.stage}")
    status = f" answered {smoke.status}" if smoke.status is not None else ""
    said = f": {md.prose(smoke.message)}" if smoke.message else ""
    return f"❌ {name} {md.code(smoke.path)}{status}{said}"


def _package_details(results: list[Result]) -> str:
    package = results[0].package
    if package is None:
        return ""
    stages = ", ".join(md.text(result.stage, 64) for result in results[:12])
    about = [
        f"{md.strong(results[0].app, 64)} ({stages})",
        human_size(package.size),
        f"Python {md.text(package.python, 20)}" if package.python else "",
        md.text(package.architecture, 20),
    ]
    lines = [" · ".join(part for part in about if part)]
    for archive in package.archives[:4]:
        unpacked = (
            f", {human_size(archive.unpacked_size)} unpacked" if archive.unpacked_size else ""
        )
        entries = f", {_count(archive.entries, 'file')}" if archive.entries else ""
        lines.append(
            f"- {md.text(archive.slot, 20)}: {human_size(archive.size)}{unpacked}{entries}, "
            f"sha256 {md.code(archive.sha256, 64)}"
        )
    # Those that requirements.txt names first.
    known = sorted(package.dependencies, key=lambda d: (not d.direct, d.name))
    shown = [
        f"{md.strong(d.name, 80) if d.direct else md.text(d.name, 80)} {md.text(d.version, 40)}"
        for d in known[:60]
    ]
    more = f" and {len(known) - 60} more" if len(known) > 60 else ""
    if shown:
        lines.append(
            f"- {_count(len(known), 'dependency', 'dependencies')}: {', '.join(shown)}{more}"
        )
    return "\n".join(lines)


def _isolation(levels: Sequence[Isolation]) -> str:
    """The weakest level that any app was loaded with, and why it was not the full one."""
    if not levels:
        return ""
    order = {"none": 0, "partial": 1, "full": 2}
    weakest = min(levels, key=lambda isolation: order.get(isolation.level, 0))
    reasons = "; ".join(md.prose(reason, 120) for reason in weakest.reasons[:3])
    why = f" ({reasons})" if reasons else ""
    return f"isolation {md.text(weakest.level, 20)}{why}"


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"
