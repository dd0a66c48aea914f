"""Bitbucket's Code Insights: a report with its verdict, and annotations at the lines. Pure.

Shapes are those of `report` and `report_annotation` in Atlassian's OpenAPI description of Bitbucket
Cloud's REST API 2.0. A report takes 1,000 annotations, a request 100 of them; texts have limits
that the documentation "Code Insights" names: 450 characters a summary, 2,000 details.
"""

from __future__ import annotations

from collections.abc import Iterator

from chalice_ci.findings import Finding, Severity
from chalice_ci.neutral import neutralise, one_line
from chalice_ci.report.report import Report, Verdict

REPORT_ID = "chalice-ci"
LARGEST = 1000
PER_REQUEST = 100
_SEVERITY = {Severity.ERROR: "HIGH", Severity.WARNING: "MEDIUM", Severity.NOTICE: "LOW"}


def report_document(report: Report, *, link: str = "") -> dict[str, object]:
    """The body that makes or replaces the report of a commit."""
    counts = {
        "Errors": sum(f.severity is Severity.ERROR for f in report.all_findings),
        "Warnings": sum(f.severity is Severity.WARNING for f in report.all_findings),
        "Stages": len(report.results),
    }
    failed = any(failure.what for failure in report.failures)
    bad = failed or counts["Errors"] or report.verdict in (Verdict.FAILED, Verdict.FINDINGS)
    stages = ", ".join(f"{r.app}/{r.stage}: {r.verdict.value}" for r in report.results)
    document: dict[str, object] = {
        "title": "chalice-ci",
        "details": one_line(stages or "No stage was looked at.", 2000),
        "report_type": "BUG",
        "reporter": "chalice-ci",
        "result": "FAILED" if bad else "PASSED",
        "data": [
            {"title": title, "type": "NUMBER", "value": count} for title, count in counts.items()
        ],
    }
    return {**document, "link": link} if link else document


def annotation_documents(report: Report) -> Iterator[list[dict[str, object]]]:
    """The annotations in as many bodies as are needed, the gravest first."""
    order = list(Severity)
    found = sorted(report.all_findings, key=lambda finding: order.index(finding.severity))
    documents = [_annotation(number, each) for number, each in enumerate(found[:LARGEST], 1)]
    for start in range(0, len(documents), PER_REQUEST):
        yield documents[start : start + PER_REQUEST]


def _annotation(number: int, finding: Finding) -> dict[str, object]:
    where = finding.concerns()
    details = "\n".join(part for part in (finding.detail, finding.fix) if part)
    document: dict[str, object] = {
        "external_id": f"{REPORT_ID}-{number}",
        "annotation_type": "BUG",
        "severity": _SEVERITY[finding.severity],
        "result": "FAILED" if finding.severity is Severity.ERROR else "PASSED",
        "summary": one_line(f"{where}: {finding.what}" if where else finding.what, 450),
    }
    if details:
        document["details"] = neutralise(details)[:2000]
    if finding.at:
        document["path"] = one_line(finding.at.file, 2000)
        document["line"] = max(finding.at.line or 0, 0)
    if finding.link.startswith("https://"):
        document["link"] = finding.link
    return document
