"""The comment and the step summary: what they say, how long they get, what they survive."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalice_ci.context import Context, PullRequest, RunOrder, System
from chalice_ci.errors import ExitCode
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.forge.port import MAX_COMMENT, RawComment, marked, read_marker
from chalice_ci.report.comment import LIMIT, abandoned, comment, in_progress, taken_down, units
from chalice_ci.report.origin import Origin, Waiting
from chalice_ci.report.report import (
    URL,
    Dependency,
    Effect,
    Failure,
    Intent,
    Isolation,
    Operation,
    Outcome,
    Plan,
    Report,
    Result,
    Smoke,
)
from chalice_ci.report.summary import LIMIT as SUMMARY_LIMIT
from chalice_ci.report.summary import summary
from support.hostile import texts
from support.pages import CANONICAL, ORIGIN, PACKAGE, WEBSOCKETS
from support.rendered import Page
from support.reports import reports_of, small_report

DOCUMENTED = Path(__file__).parents[1] / "docs" / "comment.md"
GOLDEN = Path(__file__).parent / "golden" / "comment.md"


def of(*results: Result, **parts: object) -> str:
    return comment(replace(Report(verb="run", results=results), **parts), origin=ORIGIN)


def first_row(body: str) -> dict[str, str]:
    head, row = Page(body).tables[0][:2]
    return dict(zip(head, row, strict=True))


def heading(body: str) -> str:
    return body.splitlines()[0].removeprefix("### Chalice · ")


def posted(body: str) -> str:
    return marked(body, key="chalice-ci", run=RunOrder(id=1658821493))


# -- what it says ---------------------------------------------------------------------------------


def test_the_canonical_comment_is_this_text() -> None:
    assert posted(comment(CANONICAL, origin=ORIGIN)) + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_the_documentation_shows_the_canonical_comment() -> None:
    shown = DOCUMENTED.read_text(encoding="utf-8").partition("```markdown\n")[2]
    head = GOLDEN.read_text(encoding="utf-8").partition("<details>")[0]
    assert shown.partition("\n```\n")[0] == head.rstrip()


def test_a_finding_of_several_stages_stands_there_once_with_its_stages() -> None:
    body = comment(CANONICAL, origin=ORIGIN)
    assert body.count("without opting in") == 2  # the alert, and the list of all findings
    assert "chat · dev, prod ·" in body


def test_the_footer_says_once_how_far_the_apps_were_shut_in_and_what_kept_it_from_more() -> None:
    levels = (
        Isolation(level="full"),
        Isolation(level="partial", reasons=("no Landlock in this kernel",)),
    )
    body = of(*(Result(app="a", stage=f"s{n}", isolation=i) for n, i in enumerate(levels)))
    assert body.count("isolation") == 1
    assert "isolation partial (no Landlock in this kernel)" in body.splitlines()[-1]


OPERATION = Operation(method="create_function", resource="api_handler", effect=Effect.CREATE)
DONE = replace(OPERATION, outcome=Outcome.DONE)
WARNING = Finding(rule="config", severity=Severity.WARNING, what="w")
ERROR = replace(WARNING, severity=Severity.ERROR)
RESULT = Result(app="orders", stage="dev")
PLAN = Plan(digest="d" * 64)
PLANNED: dict[str, Any] = {"intent": Intent.PLAN, "plan": PLAN}
DEPLOYED: dict[str, Any] = {"intent": Intent.DEPLOY, "plan": PLAN, "changed": True}
AWS = Failure(exit_code=ExitCode.AWS_FAILED, what="Lambda refused.")
SMOKE = (Smoke(path="/", passed=True, status=200), Smoke(path="/x", passed=False, status=500))


@pytest.mark.parametrize(
    ("parts", "row", "head"),
    [
        ({}, "✅ fit to deploy", "✅ fit to deploy"),
        ({"findings": (WARNING,)}, "✅ fit to deploy, ⚠️ 1 warning", "✅ fit to deploy, 1 warning"),
        ({"findings": (ERROR, ERROR)}, "❌ 2 errors", "❌ 1 error"),
        ({"findings": (WEBSOCKETS,)}, "❌ decision needed", "❌ 1 decision needed"),
        (
            {"findings": (ERROR,), "note": "AWS was not touched"},
            "❌ 1 error: AWS was not touched",
            "❌ 1 error",
        ),
        ({"intent": Intent.PACKAGE}, "📦 packaged", "✅ fit to deploy"),
        ({**PLANNED}, "📝 planned", "📝 planned"),
        ({"intent": Intent.PLAN}, "⏭️ not planned", "✅ fit to deploy"),
        ({**DEPLOYED}, "✅ deployed", "✅ deployed"),
        ({**DEPLOYED, "changed": False}, "✅ deployed, nothing to change", "✅ deployed"),
        ({**DEPLOYED, "preview": True}, "✅ deployed", "✅ preview deployed"),
        (
            {"intent": Intent.DEPLOY, "note": "AWS was not touched"},
            "⏭️ not deployed: AWS was not touched",
            "✅ fit to deploy",
        ),
        ({"intent": Intent.REMOVE, "changed": True}, "🗑️ removed", "🗑️ removed"),
        (
            {"intent": Intent.REMOVE, "changed": False},
            "⏭️ nothing to remove",
            "⏭️ nothing to remove",
        ),
        ({"intent": Intent.READ}, "📄 as recorded", "✅ fit to deploy"),
        ({"intent": Intent.RECORD}, "📄 recorded", "✅ fit to deploy"),
        ({"skipped": True, "note": "dev failed"}, "⏭️ skipped: dev failed", "⏭️ nothing done"),
        ({"failure": AWS}, "❌ failed: aws-failed", "❌ 1 stage failed"),
        (
            {**DEPLOYED, "failure": AWS, "operations": (DONE, OPERATION)},
            "❌ failed: aws-failed, 1 of 2 steps done",
            "❌ 1 stage failed",
        ),
        (
            {**DEPLOYED, "smoke": SMOKE},
            "✅ deployed, smoke 1/2",
            "✅ deployed",
        ),
    ],
)
def test_a_result_in_a_few_words(parts: dict[str, object], row: str, head: str) -> None:
    body = of(replace(RESULT, **parts))
    assert (first_row(body)["Result"], heading(body)) == (row, head)


def test_a_run_without_any_result_says_that_there_was_nothing_to_do() -> None:
    body = of()
    assert heading(body) == "⏭️ nothing to do"
    assert [table[0] for table in Page(body).tables] == [["Run", "Commit", "Result"]]


def test_a_run_that_stopped_says_why() -> None:
    failure = Failure(exit_code=ExitCode.TERMINATED, what="The run was ended.", fix="Run it again.")
    body = of(failure=failure)
    assert heading(body) == "❌ stopped: terminated"
    assert "The run stopped (`terminated`): The run was ended." in body


def test_warnings_that_fail_the_build_are_no_green_comment() -> None:
    report = Report(verb="check", results=(replace(RESULT, findings=(WARNING,)),))
    body = comment(report, origin=ORIGIN, fail_on=Severity.WARNING)
    assert heading(body) == "❌ 1 warning"


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ((Effect.CREATE, Effect.CREATE, Effect.UPDATE), "+2 ~1 −0"),
        ((Effect.READ,), "+0 ~0 −0"),
        ((Effect.DELETE, Effect.REPLACE), "+0 ~0 ±1 −1"),
    ],
)
def test_changes_are_counted_by_resource(effects: tuple[Effect, ...], words: str) -> None:
    operations = tuple(
        Operation(method="m", resource=f"r{n}", effect=effect) for n, effect in enumerate(effects)
    )
    body = of(replace(RESULT, plan=PLAN, operations=(*operations, *operations)))
    assert first_row(body)["Changes"] == words


def test_a_plan_that_deletes_or_replaces_asks_for_a_decision_and_names_what_is_lost() -> None:
    operations = (
        Operation(method="delete_function", resource="worker", effect=Effect.DELETE),
        Operation(method="delete_rule", resource="nightly", effect=Effect.REPLACE),
    )
    planned = replace(RESULT, **PLANNED, operations=operations)
    body = of(planned)
    assert heading(body) == "⚠️ 1 decision needed"
    assert "deletes `worker` and deletes and creates again `nightly`" in body
    # What was done is done.
    assert "[!WARNING]" not in of(replace(planned, intent=Intent.DEPLOY, changed=True))


def test_columns_that_nobody_needs_are_left_out() -> None:
    assert list(first_row(of(RESULT))) == ["App", "Stage", "Result"]


def test_an_error_that_stands_in_no_alert_is_seen_without_a_click() -> None:
    assert "<details open><summary>Findings" in of(replace(RESULT, findings=(ERROR,)))
    assert "<details><summary>Findings" in of(replace(RESULT, findings=(WARNING,)))


def test_a_failed_smoke_check_is_seen_without_a_click() -> None:
    smoke = (Smoke(path="/x|y", passed=False, status=500, message="expected 200"),)
    page = Page(of(replace(RESULT, **DEPLOYED, smoke=smoke)))
    assert "/x|y answered 500: expected 200" in page.shown


def test_a_place_is_a_link_into_the_commit_of_the_pull_request() -> None:
    at = Place(file="app files/ä(1).py", line=31)
    page = Page(of(replace(RESULT, findings=(replace(WARNING, at=at),))))
    url = f"{ORIGIN.repository_url}/blob/{ORIGIN.commit}/app%20files/%C3%A4%281%29.py#L31"
    assert url in page.links


@pytest.mark.parametrize("file", ["../../settings", "/etc/passwd", "a/./b", "a//b", ""])
def test_a_place_that_is_no_file_of_the_repository_is_no_link(file: str) -> None:
    page = Page(of(replace(RESULT, findings=(replace(WARNING, at=Place(file=file, line=1)),))))
    assert not any("/blob/" in link for link in page.links)


def test_addresses_that_are_not_plain_are_shown_and_not_linked() -> None:
    urls = tuple(
        URL(kind="rest", address=address)
        for address in ("javascript:alert(1)", "wss://a.example/api", "https://a.example/api/")
    )
    page = Page(of(replace(RESULT, urls=urls)))
    assert [link for link in page.links if "a.example" in link] == ["https://a.example/api/"]
    assert {"javascript:alert(1)", "wss://a.example/api"} <= set(page.codes)


def test_an_origin_takes_its_links_from_the_context() -> None:
    pull = PullRequest(
        number=7, head_sha="a" * 40, base_sha="b" * 40, head_branch="x", base_branch="m", fork=False
    )
    context = Context(
        system=System.GITHUB,
        event="pull_request",
        repository="acme/shop",
        commit="a" * 40,
        run=RunOrder(id=5, attempt=2),
        server_url="https://ghe.example",
        pull_request=pull,
    )
    origin = Origin.of(context, notes=("a note",))
    assert origin.run_url == "https://ghe.example/acme/shop/actions/runs/5"
    body = comment(Report(verb="run"), origin=origin)
    assert f"https://ghe.example/acme/shop/commit/{'a' * 40}" in body
    assert "run 5, attempt 2" in body


# -- in progress, over, abandoned -----------------------------------------------------------------

WAITING = (
    Waiting(app="orders", stage="pr-42"),
    Waiting(app="chat", stage="dev", doing="checking…"),
)


def test_a_comment_in_progress_shows_what_is_known_and_what_is_waited_for() -> None:
    body = in_progress(Report(verb="run", results=(RESULT,)), origin=ORIGIN, waiting=WAITING)
    assert heading(body) == "⏳ in progress, 1 of 3 done"
    rows = [row[2] for row in Page(body).tables[0][1:]]
    assert rows == ["✅ fit to deploy", "⏳ planning…", "⏳ checking…"]


@pytest.mark.parametrize("app", ["hello", "a|b"])
def test_a_preview_that_another_run_removed_is_not_shown_as_live(app: str) -> None:
    rows = tuple(
        replace(
            RESULT, app=name, stage=stage, urls=(URL(address="https://x.example/", kind="rest"),)
        )
        for name, stage in ((app, "pr-7"), (app, "dev"), ("other", "pr-7"))
    )
    body = comment(Report(verb="run", results=rows), origin=ORIGIN)
    mended = taken_down(body, app=app, stage="pr-7", why="the pull request is closed")
    assert mended
    changed = [
        (old, new)
        for old, new in zip(body.splitlines(), mended.splitlines(), strict=True)
        if old != new
    ]
    ((old, new),) = changed
    assert "x.example" in old
    assert "🗑️ removed: the pull request is closed" in new
    assert "x.example" not in new
    assert taken_down(mended, app=app, stage="pr-8", why="x") is None
    going = in_progress(Report(verb="run", results=rows), origin=ORIGIN, waiting=WAITING)
    assert taken_down(going, app=app, stage="pr-7", why="x") is None


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_an_abandoned_comment_does_not_stay_in_progress(ends: str) -> None:
    body = in_progress(
        Report(verb="run", results=(RESULT,)), origin=ORIGIN, waiting=WAITING
    ).replace("\n", ends)
    mended = abandoned(body, reason="the run was cancelled")
    assert mended is not None
    assert "⏳" not in mended
    assert heading(mended) == "⛔ the run was cancelled"
    rows = [row[2] for row in Page(mended).tables[0][1:]]
    assert rows == ["✅ fit to deploy", "⛔ the run was cancelled", "⛔ the run was cancelled"]
    # There is nothing to mend a second time.
    assert abandoned(mended) is None


def test_what_is_over_or_not_ours_is_not_abandoned() -> None:
    assert abandoned(comment(CANONICAL, origin=ORIGIN)) is None
    assert abandoned("> ### Chalice · ⏳ in progress") is None
    assert abandoned("") is None


# -- how long it gets -----------------------------------------------------------------------------


def many(results: int, findings: int, text: str) -> Report:
    return Report(
        verb="run",
        findings=tuple(
            Finding(rule="config", severity=Severity.WARNING, what=f"{n} {text}", fix=f"a\n{text}")
            for n in range(findings)
        ),
        results=tuple(
            Result(
                app=f"app-{n}-{text}"[:60],
                stage="dev",
                **PLANNED,
                package=replace(
                    PACKAGE,
                    archives=(replace(PACKAGE.archives[0], sha256=f"{n:064x}"),),
                    dependencies=tuple(
                        Dependency(name=f"{text}{d}", version="1", direct=True) for d in range(80)
                    ),
                ),
                operations=tuple(replace(OPERATION, resource=f"{text}{o}") for o in range(40)),
                urls=(URL(kind="rest", address="https://a.example/" + "x" * 200),),
                failure=AWS if n % 50 == 49 else None,
            )
            for n in range(results)
        ),
    )


@pytest.mark.parametrize(
    "text",
    ["plain", "🎉" * 40, "|`@#" * 20, "```\n" * 10],
    ids=["plain", "two units each", "hostile", "fences"],
)
@pytest.mark.parametrize(("results", "findings"), [(3, 2000), (100, 50), (1000, 500), (3000, 0)])
def test_the_table_survives_whatever_there_is_to_say(
    results: int, findings: int, text: str
) -> None:
    report = many(results, findings, text)
    body = comment(report, origin=ORIGIN)
    assert units(body) <= LIMIT
    assert len(posted(body)) <= MAX_COMMENT
    page = Page(body)
    rows = page.tables[0]
    assert {len(row) for row in rows} <= {3, 4, 6}
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == results + 1 or "more rows" in page.shown
    failed = results // 50
    assert sum(row[2].startswith("❌") for row in rows) == min(failed, len(rows) - 1)
    # No fence and no fold was cut: the last line stands outside of all of them.
    assert "chalice-ci 0" in "".join(page.text)
    assert page.tags.count("details") == body.count("\n</details>\n")


def test_what_is_left_out_is_counted_and_has_a_place() -> None:
    body = comment(many(3, 2000, "x" * 100), origin=ORIGIN)
    page = Page(body)
    shown = sum(text.startswith("config") for text in page.shown.split("⚠️ ")[1:])
    assert (
        f"… and {2000 - shown} more findings: see the step summary and report.json." in page.shown
    )
    assert ORIGIN.run_url in page.links


def test_the_summary_has_more_room() -> None:
    report = many(1000, 2000, "🎉" * 20)
    text = summary(report, origin=ORIGIN)
    assert len(text.encode()) <= SUMMARY_LIMIT
    page = Page(text)
    assert page.comments == []
    assert len(page.tables[0]) == 1001
    assert len(text) > 3 * LIMIT


def test_a_small_report_is_whole_in_both() -> None:
    body = comment(CANONICAL, origin=ORIGIN)
    text = summary(CANONICAL, origin=ORIGIN)
    assert body + "\n" == text


# -- hostile --------------------------------------------------------------------------------------


CASES = 5000


def test_thousands_of_hostile_reports_stay_within_their_comments() -> None:
    """Small ones, so that they are many; the seed of one that fails is in the message."""
    told = 0
    for seed in range(CASES):
        report = small_report(seed)
        try:
            assert_in_its_place(report, report.verb, waiting=seed % 3 % 2, limit=LIMIT)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        told += bool(report.results)
    assert told > CASES // 2


# Whole reports, with dozens of texts and in little room.
@settings(max_examples=120, deadline=None)
@given(reports_of(texts), texts, st.integers(0, 3), st.sampled_from([8_000, LIMIT]))
@example(
    Report(
        verb="run",
        results=(Result(app="", stage="", findings=(WEBSOCKETS,), package=PACKAGE, note=""),),
        findings=(Finding(rule="", severity=Severity.ERROR, what="", fix=""),),
    ),
    "",
    0,
    LIMIT,
)
@example(Report(verb="run", results=(Result(app="@org/team", stage="|"),)), "</details>", 1, LIMIT)
def test_nothing_in_a_report_gets_out_of_its_place(
    report: Report, text: str, waiting: int, limit: int
) -> None:
    assert_in_its_place(report, text, waiting=waiting, limit=limit)


def assert_in_its_place(report: Report, text: str, *, waiting: int, limit: int) -> None:
    """The comment as GitHub renders it: no element, link, mention or marker that is not ours."""
    origin = replace(ORIGIN, notes=(text,), remarks=(text,))
    waits = tuple(Waiting(app=text, stage=text, doing=text) for _ in range(waiting))
    if waits:
        body = in_progress(report, origin=origin, waiting=waits, limit=limit)
    else:
        body = comment(report, origin=origin, limit=limit)
    assert units(body) <= limit
    assert not {unicodedata.category(c) for c in set(body) - {"\t", "\n", "\u200b"}} & {
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
    }
    assert "<!--" not in body
    whole = posted(body)
    found = read_marker(RawComment(id=1, url="", body=whole))
    assert found is not None
    assert (found.key, found.run, found.body) == ("chalice-ci", RunOrder(id=1658821493), body)
    page = Page(whole)  # in balance, and no element or attribute that is not ours
    assert len(page.comments) == 1
    assert page.live == []
    assert all(link.startswith(("https://", "http://")) for link in page.links)
    addresses = {url.address for result in report.results for url in result.urls}
    addresses |= {finding.link for finding in report.all_findings}
    upgrades = (result.upgrade for result in report.results if result.upgrade)
    addresses |= {note.link for upgrade in upgrades for note in upgrade.notes}
    ours = (ORIGIN.repository_url,)
    assert all(link.startswith(ours) or link in addresses for link in page.links)
    assert page.tags.count("h3") == 1
    assert page.tags.count("details") == page.tags.count("summary")
    assert page.tags.count("details") == body.count("\n</details>\n")
    rows = len(report.results) + waiting
    if rows:
        table = page.tables[0]
        assert len({len(row) for row in table}) == 1
        assert len(table) == rows + 1
    quotes = sum(line.startswith("> [!") for line in body.splitlines())
    assert page.tags.count("blockquote") == quotes
    assert body.rstrip().splitlines()[-1].endswith("</sub>")
    if waits:
        mended = abandoned(body)
        assert mended is not None
        assert Page(mended).live == []
