"""The step summary: the same page as the comment, with more room."""

from __future__ import annotations

from chalice_ci.findings import Severity
from chalice_ci.report.origin import Origin
from chalice_ci.report.page import Page
from chalice_ci.report.report import Report

LIMIT = 1024 * 1024
"""What GitHub takes per step: bytes."""


def summary(
    report: Report,
    *,
    origin: Origin,
    fail_on: Severity = Severity.ERROR,
    limit: int = LIMIT,
) -> str:
    """The Markdown to append to the file of GITHUB_STEP_SUMMARY, at most `limit` bytes."""
    page = Page(report, origin=origin, fail_on=fail_on, rest="see `report.json`")
    return page.body(limit=limit - 1, measure=_size) + "\n"


def _size(text: str) -> int:
    return len(text.encode("utf-8"))
