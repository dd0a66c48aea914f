"""The reports of many jobs as one."""

from __future__ import annotations

import pytest

from chalice_ci.errors import ExitCode
from chalice_ci.report.fold import CannotFold, Expected, folded
from chalice_ci.report.report import Failure, Intent, Report, Result, Verdict, exit_code
from support.reports import FULL


def part(app: str, stage: str = "dev", *, started: str = "2026-01-01T00:00:00Z", **more) -> Report:
    result = Result(app=app, stage=stage, **more)
    return Report(verb="run", commit="c" * 40, started=started, seconds=2.0, results=(result,))


def pairs(report: Report) -> list[str]:
    return [f"{result.app}/{result.stage}" for result in report.results]


def test_results_come_in_the_order_that_was_expected_and_then_by_name() -> None:
    expected = (Expected(app="z", stage="dev", intent=Intent.CHECK),)
    assert pairs(folded([part("b"), part("z"), part("a")], expected)) == ["z/dev", "a/dev", "b/dev"]


def test_of_a_job_that_ran_twice_the_later_word_counts() -> None:
    early = part("a", note="early")
    late = part("a", started="2026-01-01T01:00:00Z", note="late")
    for order in ([early, late], [late, early]):
        (result,) = folded(order).results
        assert result.note == "late"
        assert folded(order).started == early.started


def test_a_job_that_left_no_report_is_told_as_failed() -> None:
    expected = [Expected(app=a, stage="dev", intent=Intent.DEPLOY) for a in ("a", "b")]
    report = folded([part("a")], expected)
    assert [result.verdict for result in report.results] == [Verdict.OK, Verdict.FAILED]
    assert report.results[1].intent is Intent.DEPLOY
    (lost,) = report.failures
    assert "the job that had b/dev left no report" in lost.what
    assert "Run it again" in lost.fix
    # The build fails, but for no defect of ours.
    assert exit_code(report) is ExitCode.FINDINGS


def test_what_a_job_reports_weighs_more_than_one_that_reports_nothing() -> None:
    expected = [Expected(app=a, stage="dev", intent=Intent.DEPLOY) for a in ("a", "b")]
    refused = Failure(exit_code=ExitCode.AWS_FAILED, what="AWS refused.")
    report = folded([part("a", failure=refused)], expected)
    assert exit_code(report) is ExitCode.AWS_FAILED


def test_what_ended_a_job_outside_of_any_result_is_kept_the_gravest_first() -> None:
    usage = Failure(exit_code=ExitCode.USAGE, what="a wrong key.", fix="Remove it.")
    foreign = Failure(exit_code=ExitCode.NOT_OURS, what="a foreign role.")
    report = folded([Report(verb="run", failure=usage), Report(verb="run", failure=foreign)])
    assert report.failure == foreign
    assert report.notes == ("Another job ended with: a wrong key. Remove it.",)
    assert exit_code(report) is ExitCode.NOT_OURS


def test_the_same_note_and_finding_are_told_once() -> None:
    report = folded([FULL, FULL])
    assert (report.notes, report.findings) == (FULL.notes, FULL.findings)
    assert len(report.results) == len(FULL.results)


def test_reports_of_two_commits_do_not_belong_together() -> None:
    other = Report(verb="run", commit="d" * 40)
    with pytest.raises(CannotFold, match=r"different commits: cccccccccccc, dddddddddddd\."):
        folded([part("a"), other])
