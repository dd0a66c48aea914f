"""What GitLab reads of a run: code quality and variables for later jobs."""

from __future__ import annotations

import json
import re

import pytest

from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.report import codequality, dotenv
from chalice_ci.report.report import Report, Result

# The table of fields in GitLab's documentation, "Code Quality".
SEVERITIES = {"info", "minor", "major", "critical", "blocker"}


def report(*findings: Finding) -> Report:
    result = Result(app="orders", stage="dev", path="services/orders")
    return Report(verb="check", results=(result,), findings=findings)


def finding(**more: object) -> Finding:
    fields: dict[str, object] = {
        "rule": "experimental-feature",
        "severity": Severity.ERROR,
        "what": "WEBSOCKETS is used.",
        "fix": "Opt in.",
    }
    return Finding(**{**fields, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("severity", "shown"),
    [(Severity.ERROR, "critical"), (Severity.WARNING, "major"), (Severity.NOTICE, "info")],
)
def test_a_finding_is_an_issue_with_everything_that_gitlab_needs(
    severity: Severity, shown: str
) -> None:
    at = Place(file="services/orders/app.py", line=31, column=5)
    text = codequality.render(report(finding(severity=severity, at=at, app="orders")))
    (issue,) = json.loads(text)
    assert re.fullmatch("[0-9a-f]{64}", issue.pop("fingerprint"))
    assert issue == {
        "description": "orders: WEBSOCKETS is used. Fix: Opt in.",
        "check_name": "experimental-feature",
        "severity": shown,
        "location": {"path": "services/orders/app.py", "lines": {"begin": 31}},
    }
    assert shown in SEVERITIES


@pytest.mark.parametrize(
    ("at", "path"),
    [
        (None, "services/orders/.chalice/config.json"),
        (Place(file="../../etc/passwd"), "etc/passwd"),
        (Place(file="./app.py", line=0), "app.py"),
        (Place(file="main:chalice-ci.yml", line=3), "main:chalice-ci.yml"),
    ],
)
def test_every_issue_has_a_path_inside_the_repository(at: Place | None, path: str) -> None:
    (issue,) = json.loads(codequality.render(report(finding(at=at, app="orders"))))
    assert issue["location"]["path"] == path
    assert issue["location"]["lines"]["begin"] >= 1


def test_the_fingerprint_stays_when_lines_move_and_differs_between_findings() -> None:
    def prints(*found: Finding) -> list[str]:
        return [issue["fingerprint"] for issue in json.loads(codequality.render(report(*found)))]

    first = finding(at=Place(file="app.py", line=3))
    assert prints(first) == prints(finding(at=Place(file="app.py", line=30)))
    assert len(set(prints(first, finding(at=Place(file="other.py", line=3))))) == 2


def test_no_findings_are_an_empty_list() -> None:
    assert json.loads(codequality.render(report())) == []


def test_the_outputs_are_variables_of_a_line_each() -> None:
    text = dotenv.render(
        [
            ("url", "https://abc.execute-api.eu-west-1.amazonaws.com/api/"),
            ("failure-reason", ""),
            ("plan", "a.plan\nb.plan"),
            ("comment-url", "https://gitlab.example/x#note_1"),
            ("result", "ok\u2028"),
        ]
    )
    assert text == (
        "CHALICE_URL=https://abc.execute-api.eu-west-1.amazonaws.com/api/\n"
        "CHALICE_COMMENT_URL=https://gitlab.example/x#note_1\n"
    )


def test_the_variables_stay_below_what_gitlab_takes() -> None:
    text = dotenv.render([("urls", "x" * 1500)] * 9 + [("changed", "true")])
    assert len(text) <= dotenv.LIMIT
    assert text.endswith("CHALICE_CHANGED=true\n")
