"""`gl-code-quality-report.json`: the findings as GitLab shows them on a merge request.

The format is the part of Code Climate's that GitLab reads (its documentation, "Code Quality", table
of the report's fields): description, check name, fingerprint, severity, path and line. GitLab drops
an issue without a path: a finding without a place is shown at the app's configuration.
"""

from __future__ import annotations

from typing import Any

from chalice_ci.findings import Finding, Severity, by_stages
from chalice_ci.report.document import clean, dump
from chalice_ci.report.report import Report
from chalice_ci.report.sarif import fingerprint, inside, place_of

FILE = "gl-code-quality-report.json"
_SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.NOTICE: "info"}


def render(report: Report) -> str:
    """The text of the file: one issue for each finding, whatever the number of its stages."""
    paths = {result.app: result.path for result in report.results}
    return dump(
        clean(
            [_issue(finding, stages, paths) for finding, stages in by_stages(report.all_findings)]
        )
    )


def _issue(finding: Finding, stages: tuple[str, ...], paths: dict[str, str]) -> dict[str, Any]:
    where = finding.concerns(*stages)
    parts = [finding.what, f"Fix: {finding.fix}" if finding.fix else ""]
    text = " ".join(part for part in parts if part)
    at = place_of(finding, paths)
    return {
        "description": f"{where}: {text}" if where else text,
        "check_name": finding.rule,
        "fingerprint": fingerprint(finding, at),
        "severity": _SEVERITIES[finding.severity],
        "location": {
            "path": inside(at.file),
            "lines": {"begin": at.line if at.line and at.line > 0 else 1},
        },
    }
