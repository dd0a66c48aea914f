"""`doctor` on Bitbucket: restrictions of branches, and what a token is not shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.doctor.guide import BITBUCKET
from chalice_ci.doctor.repository import Unseen, Wanted, repository_findings
from chalice_ci.forge.bitbucket import BitbucketApi
from chalice_ci.forge.bitbucket_settings import BitbucketSettings
from chalice_ci.forge.retry import Retry
from offline_bitbucket.server import (
    HUMAN,
    REPOSITORY,
    SCOPES,
    TOKEN,
    OfflineBitbucket,
    account,
    offline_bitbucket,
)
from support.commandline import git, hello
from support.inprocess import run_here

WANTED = Wanted(state_branch="chalice-state", jobs_write=True)
Rules = list[dict[str, Any]]


def rule(kind: str, pattern: str = "main", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "branch_match_kind": "glob", "pattern": pattern, **more}


def right() -> Rules:
    return [
        rule("push", users=[], groups=[]),
        rule("require_approvals_to_merge", value=1),
        rule("enforce_merge_checks"),
        rule("force", "*"),
        rule("delete", "**"),
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineBitbucket]:
    with offline_bitbucket() as running:
        yield running
        assert running.invalid == []


@pytest.fixture
def bitbucket(server: OfflineBitbucket) -> OfflineBitbucket:
    server.restrictions = right()
    server.branches = ["main", "chalice-state"]
    server.scopes = ("repository:admin", *SCOPES)
    server.before = None
    return server


def told(bitbucket: OfflineBitbucket, wanted: Wanted = WANTED) -> tuple[list[str], list[str]]:
    """The rules that are found, and the notes."""
    retry = Retry(sleep=lambda seconds: None, jitter=lambda: 0.0)
    api = BitbucketApi(REPOSITORY, token=TOKEN, api_url=bitbucket.url, retry=retry)
    unseen = Unseen()
    found = list(repository_findings(BitbucketSettings(api), wanted, unseen, BITBUCKET))
    assert all("{" not in f"{one.what} {one.fix}" for one in found)
    return [one.rule for one in found], unseen.notes


def without(kind: str) -> Callable[[Rules], Rules]:
    return lambda rules: [one for one in rules if one["kind"] != kind]


def changed(kind: str, **changes: Any) -> Callable[[Rules], Rules]:
    return lambda rules: [{**one, **(changes if one["kind"] == kind else {})} for one in rules]


WRONG: dict[str, tuple[set[str], Callable[[Rules], Rules]]] = {
    "everybody pushes": ({"branch-without-review"}, without("push")),
    "somebody pushes": ({"branch-without-review"}, changed("push", users=[account(HUMAN)])),
    "a group pushes": ({"branch-without-review"}, changed("push", groups=[{"slug": "all"}])),
    "no approval": ({"branch-without-review"}, without("require_approvals_to_merge")),
    "approvals that hold nothing up": ({"branch-without-review"}, without("enforce_merge_checks")),
    "approvals of another branch": (
        {"branch-without-review"},
        changed("require_approvals_to_merge", pattern="release/*"),
    ),
    "force": ({"branch-rewritable", "state-branch-rewritable"}, without("force")),
    "force on the state": ({"state-branch-rewritable"}, changed("force", pattern="ma*")),
    "deletion": ({"branch-rewritable"}, changed("delete", pattern="chalice-*")),
    "nothing": (
        {"branch-without-review", "branch-rewritable", "state-branch-rewritable"},
        lambda rules: [],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_repository_is_found_and_a_right_one_is_not(
    bitbucket: OfflineBitbucket, name: str
) -> None:
    assert told(bitbucket) == ([], [])
    rules, change = WRONG[name]
    bitbucket.restrictions = change(right())
    found, notes = told(bitbucket)
    assert (set(found), notes) == (rules, [])


def test_a_branch_that_is_not_there_has_no_restrictions(bitbucket: OfflineBitbucket) -> None:
    bitbucket.branches = []
    assert told(bitbucket) == ([], [f"branch main is not on {REPOSITORY}."])


def test_the_branching_model_is_not_followed_and_not_guessed(bitbucket: OfflineBitbucket) -> None:
    model = {"kind": "force", "branch_match_kind": "branching_model", "pattern": ""}
    bitbucket.restrictions = [{**model, "branch_type": "production"}]
    rules, notes = told(bitbucket)
    assert rules == []
    assert notes == [
        f"branch {name} is protected; by the branching model, which is not followed here."
        for name in ("main", "chalice-state")
    ]
    # What the name alone shows to be right needs no model; a feature's is another branch's.
    bitbucket.restrictions = [*right(), {**model, "branch_type": "feature"}]
    assert told(bitbucket) == ([], [])


def test_what_is_not_shown_is_noted_and_never_found(bitbucket: OfflineBitbucket) -> None:
    bitbucket.scopes = SCOPES
    rules, notes = told(bitbucket, Wanted(environments=(("production", "prod"),), jobs_write=True))
    assert rules == []
    assert "Bitbucket's API does not say who may deploy." in notes[0]
    assert "It needs the scope repository:admin." in notes[1]


@pytest.mark.parametrize("status", [500, 429])
def test_a_server_that_fails_is_no_answer(bitbucket: OfflineBitbucket, status: int) -> None:
    bitbucket.before = lambda name: (status, {"Retry-After": "1"})
    rules, notes = told(bitbucket)
    assert rules == []
    assert len(notes) == 2


def test_without_a_token_it_says_what_to_give(tmp_path: Path) -> None:
    root = hello(tmp_path / "orders", **{"bitbucket-pipelines.yml": "image: x\n"})
    git(root, "remote", "add", "origin", f"git@bitbucket.org:{REPOSITORY}.git")
    ran = run_here("doctor", "--format=json", cwd=root, BITBUCKET_TOKEN="")
    assert ran.report["notes"][0].startswith("branch restrictions were not looked at: give BITBUCK")
    assert [one["rule"] for one in ran.report["findings"]] == ["workflow-missing"]


def test_a_folder_plays_bitbucket(tmp_path: Path) -> None:
    settings = '{"branches": {"main": {"reviews": 1, "force_push_blocked": true}}}'
    files = {"bitbucket-pipelines.yml": "image: x\n", "forge/settings.json": settings}
    root = hello(tmp_path / "orders", **files)
    ran = run_here("doctor", "--format=json", "--local-forge", root / "forge", cwd=root)
    (found,) = [one for one in ran.report["findings"] if one["rule"] == "branch-rewritable"]
    assert found["fix"].startswith("Repository settings → Branch restrictions: for main")
