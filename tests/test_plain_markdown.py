"""Our pages without HTML: nothing of ours is left, nothing of others is changed."""

from __future__ import annotations

import re

from hypothesis import given, settings

from chalice_ci.report.comment import LIMIT, units
from chalice_ci.report.insights import annotation_documents, report_document
from chalice_ci.report.origin import Origin
from chalice_ci.report.page import Page
from chalice_ci.report.plain_markdown import without_html
from chalice_ci.report.report import Report
from offline_bitbucket.description import ANNOTATIONS_BODY, REPORT_BODY, fits
from support.reports import FULL, reports

OURS = re.compile(r"</?(details|summary|sub|br|code|span)\b")


def page(report: Report) -> str:
    return Page(report, origin=Origin()).body(limit=LIMIT, measure=units)


def outside_of_code(text: str) -> str:
    return re.sub(r"(?ms)^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?^ {0,3}\1\s*$", "", text)


def test_a_whole_page_has_tags_and_then_none() -> None:
    text = page(FULL)
    assert OURS.search(outside_of_code(text))
    plain = without_html(text)
    assert not OURS.search(outside_of_code(plain))
    assert "orders" in plain


def test_what_folds_stands_open_under_its_summary() -> None:
    folded = "<details><summary>Routes <code>+2</code></summary>\n\nGET /\n\n</details>"
    assert "**Routes +2**" in without_html(folded)
    assert without_html("> [!WARNING]\n> prod deletes it") == "> **Warning**\n> prod deletes it"


def test_code_stays_as_it_is() -> None:
    text = "````\n```\n<details>a<br></details>\n````\n<sub>b</sub>"
    assert without_html(text) == "````\n```\n<details>a<br></details>\n````\nb"


@settings(max_examples=12)
@given(reports)
def test_doing_it_twice_changes_nothing_and_it_grows_no_longer(report: Report) -> None:
    once = without_html(page(report))
    assert without_html(once) == once
    assert len(once) <= len(page(report))


@settings(max_examples=12)
@given(reports)
def test_every_report_is_one_that_code_insights_takes(report: Report) -> None:
    fits("report", REPORT_BODY, report_document(report, link="https://bitbucket.org/x"))
    for documents in annotation_documents(report):
        fits("annotations", ANNOTATIONS_BODY, documents)
