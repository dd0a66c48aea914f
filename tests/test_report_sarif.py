"""chalice-ci.sarif: what its schema says, and what GitHub asks for on top."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from chalice_ci.errors import ExitCode
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.report import sarif
from chalice_ci.report.report import Failure, Report, Result
from offline_github.packages import installed
from support.hostile import obeyed
from support.reports import FULL, reports

LINT = Path(__file__).parent / "lint"


@cache
def validator() -> jsonschema.Draft7Validator:
    path = installed(LINT) / "schemastore/schemas/json/sarif-2.1.0-rtm.5.json"
    return jsonschema.Draft7Validator(json.loads(path.read_text("utf-8")))


def run_of(report: Report) -> dict[str, Any]:
    (run,) = json.loads(sarif.render(report))["runs"]
    found: dict[str, Any] = run
    return found


def test_a_full_report_is_what_the_schema_says() -> None:
    validator().validate(json.loads(sarif.render(FULL)))
    run = run_of(FULL)
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
    placed = next(r for r in run["results"] if "startColumn" not in str(r) and "app.py" in str(r))
    (location,) = placed["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "services/orders/app.py"
    assert location["physicalLocation"]["region"] == {"startLine": 31}
    assert "Fix: " in placed["message"]["text"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"]


def test_the_schema_does_refuse() -> None:
    wrong = json.loads(sarif.render(FULL))
    wrong["runs"][0]["results"][0]["level"] = "grave"
    assert not validator().is_valid(wrong)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(reports)
def test_hostile_texts_leave_a_valid_document(report: Report) -> None:
    text = sarif.render(report)
    document = json.loads(text)
    assert not list(validator().iter_errors(document))
    assert text.isascii()
    assert not obeyed(text)
    for result in document["runs"][0]["results"]:
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9%._~/-]+", uri)
        assert not {"..", ""} & set(uri.split("/"))


FOUND = Finding(rule="config", severity=Severity.WARNING, what="Odd.", subject="x")


def of(*findings: Finding, stages: tuple[str, ...] = ("dev",), path: str = "a") -> dict[str, Any]:
    results = tuple(Result(app="a", stage=s, path=path, findings=findings) for s in stages)
    return run_of(Report(verb="check", results=results))


def test_the_same_finding_of_several_stages_is_one_result() -> None:
    (result,) = of(FOUND, stages=("dev", "prod"))["results"]
    assert result["message"]["text"] == "a/dev, prod: Odd."
    assert result["level"] == "warning"


@pytest.mark.parametrize(
    ("path", "uri"),
    [("services/a", "services/a/.chalice/config.json"), (".", ".chalice/config.json")],
)
def test_a_finding_without_a_place_is_shown_at_the_configuration(path: str, uri: str) -> None:
    (result,) = of(FOUND, path=path)["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 1},
    }


def test_a_finding_that_moves_stays_the_same_and_another_does_not() -> None:
    def fingerprint(finding: Finding) -> str:
        (result,) = of(finding)["results"]
        (value,) = result["partialFingerprints"].values()
        return str(value)

    at = Place(file="app.py", line=3, column=5)
    first = replace(FOUND, at=at)
    assert fingerprint(first) == fingerprint(replace(first, at=replace(at, line=30)))
    assert fingerprint(first) != fingerprint(replace(first, at=replace(at, file="b.py")))
    assert fingerprint(first) != fingerprint(replace(first, subject="y"))


def test_a_run_without_findings_says_so_and_one_that_stopped_does_not_pass() -> None:
    clean = run_of(Report(verb="check", results=(Result(app="a", stage="dev"),)))
    assert (clean["results"], clean["invocations"][0]["executionSuccessful"]) == ([], True)
    stopped = Report(verb="check", failure=Failure(exit_code=ExitCode.USAGE, what="Wrong."))
    assert run_of(stopped)["invocations"][0]["executionSuccessful"] is False


def test_every_rule_that_is_told_has_its_words() -> None:
    (rule,) = of(FOUND)["tool"]["driver"]["rules"]
    assert rule["shortDescription"]["text"]
    assert rule["defaultConfiguration"]["level"] == "error"
    assert rule["helpUri"].endswith("docs/findings.md#config")
