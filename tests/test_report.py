"""The report model and its exit code."""

from __future__ import annotations

from itertools import combinations

import pytest

from chalice_ci.errors import AWSError, ExitCode, LoadError, PlanRefused
from chalice_ci.findings import Finding, Severity
from chalice_ci.report.report import (
    PRECEDENCE,
    Archive,
    Effect,
    Failure,
    Operation,
    Package,
    Report,
    Result,
    Verdict,
    exit_code,
)

ERROR = Finding(rule="config", severity=Severity.ERROR, what="wrong")
WARNING = Finding(rule="config", severity=Severity.WARNING, what="odd")
NOTICE = Finding(rule="config", severity=Severity.NOTICE, what="by the way")


def result(*findings: Finding, failure: Failure | None = None, skipped: bool = False) -> Result:
    return Result(app="orders", stage="dev", findings=findings, failure=failure, skipped=skipped)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (result(), Verdict.OK),
        (result(WARNING, NOTICE), Verdict.OK),
        (result(ERROR), Verdict.FINDINGS),
        (result(skipped=True), Verdict.SKIPPED),
        (result(ERROR, skipped=True), Verdict.FINDINGS),
        (result(ERROR, failure=Failure.of(LoadError("no"))), Verdict.FAILED),
    ],
)
def test_the_verdict_of_a_result_is_its_worst_news(given: Result, verdict: Verdict) -> None:
    assert given.verdict is verdict
    assert Report(verb="check", results=(given,)).verdict is verdict


def test_a_clean_run_ends_with_zero() -> None:
    assert exit_code(Report(verb="check", results=(result(), result(WARNING)))) is ExitCode.OK
    assert exit_code(Report(verb="check")) is ExitCode.OK


def test_findings_count_from_the_severity_asked_for() -> None:
    warned = Report(verb="check", results=(result(WARNING),))
    assert exit_code(warned, fail_on=Severity.WARNING) is ExitCode.FINDINGS
    noticed = Report(verb="check", findings=(NOTICE,))
    assert exit_code(noticed, fail_on=Severity.WARNING) is ExitCode.OK
    assert exit_code(Report(verb="check", findings=(ERROR,))) is ExitCode.FINDINGS


def test_every_exit_code_has_its_place_in_the_order() -> None:
    assert sorted(PRECEDENCE) == sorted(ExitCode)


@pytest.mark.parametrize("codes", list(combinations(PRECEDENCE[:-2], 2)))
def test_of_two_failures_the_weightier_decides(codes: tuple[ExitCode, ExitCode]) -> None:
    failures = [Failure(exit_code=code, what="it") for code in codes]
    for first, second in (failures, failures[::-1]):
        report = Report(
            verb="deploy",
            results=(result(ERROR, failure=first), result(failure=second)),
            findings=(ERROR,),
        )
        assert exit_code(report) is codes[0]


def test_a_failure_outside_of_any_result_decides_too() -> None:
    report = Report(
        verb="deploy",
        results=(result(failure=Failure.of(AWSError("throttled"))),),
        failure=Failure.of(PlanRefused("expired", where="orders-dev.plan", fix="Plan again.")),
    )
    assert exit_code(report) is ExitCode.PLAN_REFUSED
    assert [failure.what for failure in report.failures] == ["expired", "throttled"]


def test_findings_carry_their_app_and_stage_and_come_in_order() -> None:
    report = Report(verb="check", results=(result(NOTICE, ERROR),), findings=(WARNING,))
    assert [(f.severity, f.app, f.stage) for f in report.all_findings] == [
        (Severity.ERROR, "orders", "dev"),
        (Severity.WARNING, "", ""),
        (Severity.NOTICE, "orders", "dev"),
    ]


def test_resources_are_counted_once_however_many_steps_they_take() -> None:
    steps = [("create_function", "index"), ("wait", "index"), ("create_function", "worker")]
    counted = Result(
        app="a",
        stage="dev",
        operations=tuple(
            Operation(method=method, resource=name, effect=Effect.CREATE) for method, name in steps
        ),
    )
    assert (counted.count(Effect.CREATE), counted.count(Effect.DELETE)) == (2, 0)


def test_a_package_is_as_large_as_its_archives_and_known_by_the_app() -> None:
    layer = Archive(slot="layer", sha256="b" * 64, size=10)
    app = Archive(slot="app", sha256="a" * 64, size=5)
    package = Package(archives=(layer, app))
    assert (package.size, package.digest) == (15, "a" * 64)
    assert Package(archives=()).digest == ""
