"""The reports of a matrix's jobs as one report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from chalice_ci.errors import ExitCode
from chalice_ci.report.report import PRECEDENCE, Failure, Intent, Report, Result

_T = TypeVar("_T")


class CannotFold(Exception):
    """The reports do not belong together: the reason as a sentence."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """An app and stage that a job of the matrix was started for."""

    app: str
    stage: str
    intent: Intent


def folded(
    reports: Sequence[Report], expected: Sequence[Expected] = (), *, verb: str = "run"
) -> Report:
    """One report of all results, in the order in which they were expected, then by name.

    Of two results of the same app and stage the one of the later report counts: the job was run
    again. What was expected and is in no report failed: its job was killed, or never came to say
    anything. Raises CannotFold for reports of different commits.
    """
    commits = sorted({report.commit for report in reports if report.commit})
    if len(commits) > 1:
        raise CannotFold(
            f"They are of different commits: {', '.join(commit[:12] for commit in commits)}."
        )
    in_time = sorted(reports, key=lambda report: report.started)
    found = {(result.app, result.stage): result for report in in_time for result in report.results}
    order = {(one.app, one.stage): number for number, one in enumerate(expected)}
    lost = tuple(
        Result(app=one.app, stage=one.stage, intent=one.intent, failure=_silent(one, in_time))
        for one in expected
        if (one.app, one.stage) not in found
    )
    results = sorted(
        (*found.values(), *lost),
        key=lambda r: (order.get((r.app, r.stage), len(order)), r.app, r.stage),
    )
    outside = sorted(
        (report.failure for report in in_time if report.failure is not None),
        key=lambda failure: PRECEDENCE.index(failure.exit_code),
    )
    return Report(
        verb=verb,
        commit=commits[0] if commits else "",
        started=min((report.started for report in reports if report.started), default=""),
        seconds=max((report.seconds or 0.0 for report in reports), default=None),
        findings=_unique(finding for report in in_time for finding in report.findings),
        notes=_unique((*(n for report in in_time for n in report.notes), *_more(outside))),
        results=tuple(results),
        failure=outside[0] if outside else None,
    )


def _silent(lost: Expected, reports: Sequence[Report]) -> Failure:
    """What is known of a job without a result: maybe another one says why.

    A runner that is killed is no defect of ours: the build fails, and that is all we can say.
    """
    broken = any(report.failure is not None for report in reports)
    return Failure(
        exit_code=ExitCode.FINDINGS,
        what=f"the job that had {lost.app}/{lost.stage} left no report of it: it was killed or "
        "cancelled, or it never started.",
        where="the matrix",
        fix="See what ended that job"
        + (", below" if broken else "")
        + ". Run it again - it takes up what it had begun - and this one after it.",
    )


def _more(failures: Sequence[Failure]) -> Iterator[str]:
    """All failures but the gravest, which the report itself names."""
    for failure in failures[1:]:
        yield f"Another job ended with: {failure.what} {failure.fix}".strip()


def _unique(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))
