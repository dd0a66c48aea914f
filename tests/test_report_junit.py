"""junit.xml: well-formed, and counted as CI systems count."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import HealthCheck, given, settings
from junitparser import Error, Failure, JUnitXml

from chalice_ci.findings import Finding, Severity
from chalice_ci.report import junit
from chalice_ci.report.report import Package, Report, Result
from support.reports import FULL, reports


def cases(report: Report) -> dict[str, list[ET.Element]]:
    root = ET.fromstring(junit.render(report))
    return {suite.get("name", ""): suite.findall("testcase") for suite in root}


def test_a_full_report_has_a_suite_per_app_and_stage() -> None:
    root = ET.fromstring(junit.render(FULL))
    assert [suite.get("name") for suite in root] == [
        "repository",
        "orders.dev",
        "orders.prod",
        "orders.staging",
    ]
    assert (root.get("failures"), root.get("errors")) == ("1", "1")
    failed = root.find("testsuite[@name='orders.dev']/testcase/failure")
    assert failed is not None
    assert failed.get("type") == "experimental-feature"
    assert "app.experimental_feature_flags.update(['WEBSOCKETS'])" in (failed.text or "")
    case = root.find("testsuite[@name='orders.dev']/testcase[failure]")
    assert case is not None
    assert (case.get("file"), case.get("line")) == ("services/orders/app.py", "31")
    error = root.find("testsuite[@name='orders.prod']/testcase/error")
    assert error is not None
    assert error.get("type") == "aws-failed"
    assert root.find("testsuite[@name='orders.staging']/testcase/skipped") is not None


def test_a_second_library_reads_the_same() -> None:
    read = JUnitXml.fromstring(junit.render(FULL).encode())
    assert isinstance(read, JUnitXml)
    assert (read.failures, read.errors, read.tests) == (1, 1, sum(len(suite) for suite in read))
    dev = next(suite for suite in read if suite.name == "orders.dev")
    told = {one.name: one.value for one in dev.properties()}  # type: ignore[no-untyped-call]
    assert told["isolation"] == "partial"
    (failed,) = (case for case in dev if case.is_failure)
    (failure,) = failed.result
    assert (failure.type, isinstance(failure, Failure)) == ("experimental-feature", True)
    assert "update(['WEBSOCKETS'])" in failure.text
    prod = next(suite for suite in read if suite.name == "orders.prod")
    assert [one.type for case in prod for one in case.result if isinstance(one, Error)] == [
        "aws-failed"
    ]
    staging = next(suite for suite in read if suite.name == "orders.staging")
    assert any(case.is_skipped for case in staging)


def test_every_group_without_findings_is_a_case_that_passed() -> None:
    clean = Result(app="orders", stage="dev", package=Package(archives=()))
    (tests,) = cases(Report(verb="check", results=(clean,))).values()
    assert [case.get("name") for case in tests] == [
        "configuration",
        "Python and Chalice",
        "Chalice upgrades",
        "load",
        "experimental features",
        "Chalice's own validation",
        "collisions between stages",
        "package",
    ]
    assert all(len(case) == 0 for case in tests)


def test_what_a_failed_load_left_untested_does_not_pass() -> None:
    broken = Finding(rule="load-import-error", severity=Severity.ERROR, what="No module")
    result = Result(app="orders", stage="dev", findings=(broken,))
    (tests,) = cases(Report(verb="check", results=(result,))).values()
    assert [case.get("name") for case in tests] == [
        "configuration",
        "Python and Chalice",
        "Chalice upgrades",
        "load-import-error: No module",
    ]


def test_a_warning_passes_and_keeps_its_text() -> None:
    (repository, *_) = cases(FULL).values()
    assert [case.get("name") for case in repository] == ["config: Unknown key 'stagse'."]
    output = repository[0].findtext("system-out") or ""
    assert output.startswith("warning: chalice-ci.yml:3:1: Unknown key")


def test_an_empty_report_has_a_suite_that_passed() -> None:
    (tests,) = cases(Report(verb="check")).values()
    assert [case.get("name") for case in tests] == ["configuration"]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(reports)
def test_hostile_texts_leave_well_formed_xml_with_the_right_counts(report: Report) -> None:
    text = junit.render(report)
    root = ET.fromstring(text)
    read = JUnitXml.fromstring(text.encode())
    assert sum(case.is_failure for suite in read for case in suite) == len(
        root.findall("testsuite/testcase[failure]")
    )
    errors = [f for f in report.all_findings if f.severity is Severity.ERROR]
    assert len(root.findall("testsuite/testcase/failure")) == len(errors)
    assert root.get("failures") == str(len(errors))
    assert len(root.findall("testsuite/testcase/error")) == len(report.failures)
    allowed = {"testsuites", "testsuite", "properties", "property", "testcase", "failure", "error"}
    assert {element.tag for element in root.iter()} <= {*allowed, "skipped", "system-out"}
