"""Our pages without HTML: nothing of ours is left, nothing of others is changed."""

from __future__ import annotations

import re

from hypothesis import given, settings

from chalice_ci.report.comment import LIMIT, units
from chalice_ci.report.insights import annotation_documents, report_document
from chalice_ci.report.origin import Origin
from chalice_ci.report.page import Page
from chalice_ci.report.plain_markdown import with_folds_alone, without_html
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


def test_where_details_fold_they_stay_and_the_rest_is_taken_out() -> None:
    text = page(FULL)
    folding = with_folds_alone(text)
    left = {found[1] for found in OURS.finditer(outside_of_code(folding))}
    assert {"details", "summary"} <= left
    assert not {"sub", "br", "span"} & left
    assert folding.count("<details") == text.count("<details")
    assert "[!" not in outside_of_code(folding)
    assert with_folds_alone("a<br>\nb<br>c") == "a\nb · c"
    assert with_folds_alone("a <span>$</span>5\n<details><summary><span>$</span>") == (
        "a \\$5\n<details><summary>$"
    )
    assert with_folds_alone("```\n<br><span>$</span>\n```") == "```\n<br><span>$</span>\n```"


@settings(max_examples=12)
@given(reports)
def test_it_folds_the_same_when_it_is_done_twice(report: Report) -> None:
    once = with_folds_alone(page(report))
    assert with_folds_alone(once) == once


@settings(max_examples=12)
@given(reports)
def test_every_report_is_one_that_code_insights_takes(report: Report) -> None:
    fits("report", REPORT_BODY, report_document(report, link="https://bitbucket.org/x"))
    for documents in annotation_documents(report):
        fits("annotations", ANNOTATIONS_BODY, documents)
