"""A report as a page of Markdown: what the comment and the step summary show.

One table row per app and stage, then what a person has to decide, then the details folded. A
report can be longer than its page: sections are made of blocks, and as many whole blocks are shown
as there is room for; what is left out is counted, with the place where it is. The table always
survives: when it is too long itself, it loses columns, then the rows that say the least.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from chalice_ci.context import RunOrder
from chalice_ci.difference.changes import Changes
from chalice_ci.findings import Finding, Place, Severity, by_stages
from chalice_ci.report import changes, upgrades
from chalice_ci.report import markdown as md
from chalice_ci.report.details import (
    affected,
    bold_names,
    failed,
    failed_check,
    fix_blocks,
    names_of,
    number_of,
    package_details,
    steps,
    still_needed,
    weakest_isolation,
)
from chalice_ci.report.mermaid import mermaid
from chalice_ci.report.origin import Origin, Waiting
from chalice_ci.report.report import (
    Effect,
    Intent,
    Report,
    Result,
    Upgrade,
    Verdict,
    exit_code,
)
from chalice_ci.report.section import Measure, Section, section
from chalice_ci.report.verdict_table import DECISIONS, RUNNING, verdict_table

TITLE = "Chalice"

_ENDED = {
    "ok": "✅ passed",
    "findings": "❌ errors",
    "failed": "❌ failed",
    "skipped": "⏭️ nothing done",
    "cancelled": "⛔ cancelled",
}

OPENED = 6
"""Parts of a difference that are shown without a click when there is only one."""


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
        whole = origin.pages.whole
        summary = md.link(origin.run_url, whole) if origin.run_url else whole
        self._rest = rest or f"see {summary} and `report.json`"

    def body(self, *, limit: int, measure: Measure) -> str:
        """The page, at most `limit` long."""
        heading = f"### {TITLE} · {self._headline()}"
        footer = self._footer()
        fixed = measure(heading) + measure(footer) + 4
        table = verdict_table(
            self._report,
            self._waiting,
            room=min((limit - fixed) * 2 // 3, limit - fixed),
            measure=measure,
            rest=self._rest,
        )
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
            f"{number_of(stages, 'stage')} failed" if stages else "",
            number_of(mending, "error") if mending else "",
            f"{number_of(decisions, 'decision')} needed" if decisions else "",
        ]
        warnings = sum(f.severity is Severity.WARNING for f, _ in self._findings)
        told = ", ".join(part for part in parts if part)
        if exit_code(report, fail_on=self._fail_on) != 0:
            return f"❌ {told or number_of(warnings, 'warning')}"
        if told:
            return f"⚠️ {told}"
        good = self._good()
        return f"{good}, {number_of(warnings, 'warning')}" if warnings else good

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

    # -- what has to be decided

    def _alerts(self, room: int) -> Iterator[Section]:
        failures = sum(result.failure is not None for result in self._report.results)
        failures += self._report.failure is not None
        yield from section(self._failures(), failures, ("failure", "failures"), room=room)
        decisions = [
            (finding, stages)
            for finding, stages in self._findings
            if finding.severity is Severity.ERROR and finding.rule in DECISIONS
        ]
        yield from section(
            (md.alert("CAUTION", self._finding(*each, short=True)) for each in decisions),
            len(decisions),
            ("decision", "decisions"),
            room=room,
        )
        destructive = self._destructive()
        yield from section(
            (md.alert("WARNING", text) for text in destructive),
            len(destructive),
            ("stage", "stages"),
            room=room,
        )
        risky = [
            told
            for found, results in self._compared
            if found.known
            for told in changes.risks(bold_names(results), found)
        ]
        yield from section(
            changes.risk_alerts(risky), len(set(risky)), ("risk", "risks"), room=room
        )
        notes = [
            *(told for note in self._origin.notes if (told := md.prose(note))),
            *(_not_compared(f, results) for f, results in self._compared if not f.known),
        ]
        yield from section(
            (md.alert("NOTE", note) for note in notes),
            len(notes),
            ("note", "notes"),
            room=room,
        )
        waiting = [result for result in self._report.results if result.needs]
        yield from section(
            (still_needed(result) for result in waiting),
            len(waiting),
            ("stage", "stages"),
            room=room,
        )

    def _failures(self) -> Iterator[str]:
        if self._report.failure is not None:
            yield md.alert("CAUTION", failed("", self._report.failure))
        for result in self._report.results:
            if result.failure is not None:
                name = f"{result.app}/{result.stage}"
                yield md.alert("CAUTION", failed(name, result.failure))

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
                if (names := affected(result, effect))
            ]
            if told:
                name = md.strong(f"{result.app}/{result.stage}")
                sentences.append(f"{name} {' and '.join(told)} when this plan is deployed.")
        return sentences

    # -- the details

    def _change_sections(self, room: int) -> Iterator[Section]:
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
            yield from section(
                blocks,
                len(blocks),
                ("part", "parts"),
                room=room,
                title=f"{names_of(results)}: {' · '.join(part for part in parts if part)}",
                opened=known == 1 and len(blocks) <= OPENED,
            )

    def _graph_sections(self, room: int) -> Iterator[Section]:
        for found, results in self._compared:
            drawn = results[0].diagram
            if not found.known or drawn is None or not drawn.changed:
                continue
            yield from section(
                (f"```mermaid\n{mermaid(drawn)}\n```",),
                1,
                ("graph", "graphs"),
                room=room,
                title=f"Graph of {names_of(results)}",
            )

    def _upgrade_sections(self, room: int) -> Iterator[Section]:
        groups: dict[tuple[str, Upgrade], list[Result]] = {}
        for result in self._report.results:
            if result.upgrade is not None:
                groups.setdefault((result.app, result.upgrade), []).append(result)
        for (_, upgrade), results in groups.items():
            blocks = [*upgrades.blocks(upgrade, place=self._place)]
            yield from section(
                blocks,
                len(blocks),
                ("note", "notes"),
                room=room,
                title=f"{names_of(results)}: {upgrades.headline(upgrade)}",
                opened=upgrades.breaks(upgrade),
            )

    def _finding_section(self, room: int) -> Iterator[Section]:
        found = self._findings
        counts = [(s, sum(f.severity is s for f, _ in found)) for s in Severity]
        told = ", ".join(number_of(count, severity.value) for severity, count in counts if count)
        # What fails the build and stands in no alert must be seen without a click.
        hidden = any(f.severity is Severity.ERROR and f.rule not in DECISIONS for f, _ in found)
        yield from section(
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
        parts = [block, *fix_blocks(finding.fix)]
        if short:
            return "\n\n".join(parts)
        parts += [f"<sub>{md.prose(line)}</sub>" for line in finding.detail.splitlines()[:6]]
        if finding.link:
            parts.append(f"<sub>{md.link(finding.link)}</sub>")
        return "\n\n".join(parts)

    def _operation_section(self, room: int) -> Iterator[Section]:
        results = [result for result in self._report.results if result.operations]
        yield from section(
            (steps(result) for result in results),
            len(results),
            ("stage", "stages"),
            room=room,
            title=f"Operations: {number_of(sum(len(r.operations) for r in results), 'step')}",
        )

    def _smoke_section(self, room: int) -> Iterator[Section]:
        failed = [
            (result, smoke)
            for result in self._report.results
            for smoke in result.smoke
            if not smoke.passed
        ]
        yield from section(
            (failed_check(result, smoke) for result, smoke in failed),
            len(failed),
            ("check", "checks"),
            room=room,
            title=number_of(len(failed), "failed smoke check"),
            opened=True,
        )

    def _package_section(self, room: int) -> Iterator[Section]:
        groups: dict[tuple[str, str], list[Result]] = {}
        for result in self._report.results:
            if result.package is not None:
                groups.setdefault((result.app, result.package.digest), []).append(result)
        packages = [results[0].package for results in groups.values()]
        count = len({d.name for package in packages if package for d in package.dependencies})
        head = "Package" if len(groups) == 1 else f"{len(groups)} packages"
        yield from section(
            (package_details(results) for results in groups.values()),
            len(groups),
            ("package", "packages"),
            room=room,
            title=f"{head}: {number_of(count, 'dependency', 'dependencies')}",
        )

    def _history_section(self, room: int) -> Iterator[Section]:
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
        yield from section(
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
        isolation = weakest_isolation(
            [r.isolation for r in report.results if r.isolation is not None]
        )
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


def _compared(results: Iterable[Result]) -> tuple[tuple[Changes, list[Result]], ...]:
    """What differs, with the stages of an app that differ alike."""
    groups: dict[tuple[str, Changes], list[Result]] = {}
    for result in results:
        if result.changes is not None:
            groups.setdefault((result.app, result.changes), []).append(result)
    return tuple((found, alike) for (_, found), alike in groups.items())


def _not_compared(found: Changes, results: list[Result]) -> str:
    problem, fix = md.prose(found.baseline.problem), md.prose(found.baseline.fix)
    return f"{bold_names(results)} is not compared: {problem} {fix}"
