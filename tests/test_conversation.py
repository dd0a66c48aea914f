"""What a comment remembers of the runs before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chalice_ci.context import RunOrder
from chalice_ci.conversation import history
from chalice_ci.forge.local import LocalForge
from chalice_ci.forge.port import Comment, Past
from chalice_ci.report.comment import comment
from chalice_ci.report.origin import Origin
from chalice_ci.report.report import Report, Result
from support.rendered import Page

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STANDING = Comment(id=1, url="", key="chalice-ci", run=RunOrder(id=1), body="")


def past(number: int, verdict: str = "ok") -> Past:
    return Past(run=RunOrder(id=number), commit=f"{number:07x}", verdict=verdict)


def test_a_run_is_remembered_when_it_ended_once_and_the_oldest_forgotten() -> None:
    known: tuple[Past, ...] = ()
    for number in range(1, 9):
        standing = replace(STANDING, history=known)
        going_on = history(standing, RunOrder(id=number), commit=COMMIT, ended="")
        assert going_on == known
        known = history(standing, RunOrder(id=number), commit=COMMIT, ended="ok")
        again = replace(STANDING, history=known)
        assert history(again, RunOrder(id=number), commit=COMMIT, ended="ok") == known
    assert [one.run.id for one in known] == [8, 7, 6, 5, 4]
    assert {one.commit for one in known} == {"0123456"}


def test_without_a_run_or_commit_nothing_is_remembered() -> None:
    assert history(None, RunOrder(id=0), commit=COMMIT, ended="ok") == ()
    assert history(None, RunOrder(id=7), commit="", ended="ok") == ()


def test_the_last_runs_are_a_folded_table_with_links() -> None:
    origin = Origin(
        commit=COMMIT,
        repository_url="https://github.com/octo/shop",
        history=(past(3), past(2, "cancelled"), past(1, "findings")),
    )
    text = comment(Report(verb="run", results=(Result(app="a", stage="dev"),)), origin=origin)
    assert "<details><summary>The last 3 runs</summary>" in text
    rows = [line for line in text.splitlines() if "/actions/runs/" in line]
    assert [row.split("|")[3].strip() for row in rows[:3]] == [
        *("✅ passed", "⛔ cancelled", "❌ errors"),
    ]
    page = Page(text)
    assert "https://github.com/octo/shop/commit/0000003" in page.links
    alone = comment(Report(verb="run"), origin=replace(origin, history=(past(3),)))
    assert "The last" not in alone


@pytest.fixture
def forge(tmp_path: Path) -> LocalForge:
    (tmp_path / "forge").mkdir()
    return LocalForge(tmp_path / "forge")


def test_what_the_forge_was_given_it_gives_back(forge: LocalForge) -> None:
    pull = forge.create_pull_request(head_ref="f", head_sha=COMMIT, base_sha=COMMIT)
    kept = (past(2), past(1))
    forge.upsert_comment(pull.number, "text", run=RunOrder(id=2), history=kept)
    found = forge.sticky_comment(pull.number)
    assert found is not None
    assert (found.history, found.body) == (kept, "text")
