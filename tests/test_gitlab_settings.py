"""`doctor` on GitLab: what protects environments and branches, and what a token is not shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.doctor.guide import GITLAB
from chalice_ci.doctor.repository import Unseen, Wanted, repository_findings
from chalice_ci.errors import ForgeError
from chalice_ci.forge.settings import Branch
from offline_gitlab.server import PATH, TOKEN, OfflineGitLab, Protections, offline_gitlab
from support.commandline import commit, git, hello, write
from support.gitlabsettings import (
    DEVELOPERS,
    MAINTAINERS,
    gitlab_settings_of,
    protected_branch,
    protected_environment,
)
from support.inprocess import run_here

WANTED = Wanted(environments=(("production", "prod"),), state_branch="chalice-state")
BOT = {"access_level": 30, "access_level_description": "chalice-ci", "user_id": 12}


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineGitLab]:
    with offline_gitlab() as running:
        yield running
        assert running.invalid == []


def right() -> Protections:
    """A project in which nothing is wrong."""
    return Protections(
        environments=[protected_environment("production")],
        branches={"main": True, "chalice-state": True},
        rules=[
            protected_branch("main"),
            protected_branch("chalice-*", push_access_levels=[BOT]),
        ],
        approvals=[
            {"rule_type": "any_approver", "approvals_required": 1, "protected_branches": []}
        ],
    )


@pytest.fixture
def gitlab(server: OfflineGitLab) -> OfflineGitLab:
    server.protections = right()
    server.environments = {1: {"id": 1, "name": "production", "tier": "production"}}
    server.fault = lambda method, path: None
    return server


def told(gitlab: OfflineGitLab) -> tuple[list[str], list[str]]:
    """The rules that are found, and the notes."""
    unseen = Unseen()
    found = list(repository_findings(gitlab_settings_of(gitlab), WANTED, unseen, GITLAB))
    assert all("{" not in f"{one.what} {one.fix}" for one in found)
    return [one.rule for one in found], unseen.notes


def test_nothing_is_found_in_a_right_project_and_nothing_is_changed(gitlab: OfflineGitLab) -> None:
    gitlab.seen.clear()
    assert told(gitlab) == ([], [])
    assert {one.partition(" ")[0] for one in gitlab.seen} == {"GET"}


Change = Callable[[Protections], object]


def production(**changes: Any) -> Change:
    return lambda it: it.environments[0].update(changes)


def main(**changes: Any) -> Change:
    return lambda it: it.rules[0].update(changes)


def both(*changes: Change) -> Change:
    return lambda it: [change(it) for change in changes]


def no_groups(it: Protections) -> None:
    it.project["namespace"] = {"kind": "user", "full_path": "grace"}


WRONG: dict[str, tuple[str, Change]] = {
    "nothing protects production": (
        "environment-without-reviewers",
        lambda it: it.environments.clear(),
    ),
    "nothing does, and no group is above": (
        "environment-without-reviewers",
        both(no_groups, lambda it: it.environments.clear()),
    ),
    "every Developer deploys": (
        "environment-without-reviewers",
        production(approval_rules=[], deploy_access_levels=[DEVELOPERS]),
    ),
    "a Maintainer deploys alone": ("environment-self-review", production(approval_rules=[])),
    "one person deploys alone": (
        "environment-self-review",
        production(approval_rules=[], deploy_access_levels=[{"user_id": 3, "access_level": 30}]),
    ),
    "whoever started it approves": (
        "environment-self-review",
        lambda it: it.project.update(allow_pipeline_trigger_approve_deployment=True),
    ),
    "Maintainers push": ("branch-without-review", main(push_access_levels=[MAINTAINERS])),
    "a deploy key pushes": (
        "branch-without-review",
        main(push_access_levels=[{"access_level": 40, "deploy_key_id": 1}]),
    ),
    "no approval is required": (
        "branch-without-review",
        lambda it: it.approvals[0].update(approvals_required=0),
    ),
    "only worse coverage needs approval": (
        "branch-without-review",
        lambda it: it.approvals[0].update(rule_type="report_approver"),
    ),
    "only another branch needs approval": (
        "branch-without-review",
        lambda it: it.approvals[0].update(protected_branches=[{"name": "release/*"}]),
    ),
    "the author approves": (
        "branch-without-review",
        lambda it: setattr(it, "author_approves", True),
    ),
    "a pattern lets push what the name does not": (
        "branch-without-review",
        lambda it: it.rules.append(protected_branch("ma*", push_access_levels=[DEVELOPERS])),
    ),
    "force": ("branch-rewritable", main(allow_force_push=True)),
    "force by a pattern": (
        "branch-rewritable",
        lambda it: it.rules.append(protected_branch("*", allow_force_push=True)),
    ),
    "nothing protects the state": (
        "state-branch-rewritable",
        both(lambda it: it.rules.pop(), lambda it: it.branches.update({"chalice-state": False})),
    ),
    "force on the state": (
        "state-branch-rewritable",
        lambda it: it.rules[1].update(allow_force_push=True),
    ),
    "jobs push": (
        "workflow-token-writes",
        lambda it: it.project.update(ci_push_repository_for_job_token_allowed=True),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_project_is_found(gitlab: OfflineGitLab, name: str) -> None:
    rule, change = WRONG[name]
    change(gitlab.protections)
    rules, notes = told(gitlab)
    # Force by a pattern that fits every branch is the state's, too.
    assert set(rules) - {"state-branch-rewritable"} == {rule} - {"state-branch-rewritable"}
    assert rule in rules
    assert notes == []


def test_a_default_branch_that_nothing_protects_is_open_in_every_way(gitlab: OfflineGitLab) -> None:
    gitlab.protections.branches["main"] = False
    del gitlab.protections.rules[0]
    assert told(gitlab) == (["branch-without-review", "branch-rewritable"], [])


def test_an_environment_that_is_not_there_is_missing(gitlab: OfflineGitLab) -> None:
    gitlab.environments.clear()
    gitlab.protections.environments.clear()
    assert told(gitlab) == (["environment-missing"], [])


RIGHT: dict[str, Change] = {
    "the count of older servers": production(approval_rules=None, required_approval_count=2),
    "an environment that was protected before it was made": lambda it: None,
    "the group requires the approval": both(
        production(approval_rules=[]),
        lambda it: it.groups.update(shop=[protected_environment("production")]),
    ),
    "a group further up": both(
        lambda it: it.environments.clear(),
        lambda it: it.project.update(namespace={"kind": "group", "full_path": "shop/team"}),
        lambda it: it.groups.update(shop=[protected_environment("production")]),
    ),
    "the owners of the code approve": main(
        push_access_levels=[MAINTAINERS], code_owner_approval_required=True
    ),
    "two approvals, one of them the author's": both(
        lambda it: it.approvals[0].update(approvals_required=2),
        lambda it: setattr(it, "author_approves", True),
    ),
    "a rule for all protected branches": lambda it: it.approvals[0].update(
        applies_to_all_protected_branches=True, protected_branches=[{"name": "other"}]
    ),
    "no state yet": lambda it: it.branches.pop("chalice-state"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_found_in_other_right_projects(gitlab: OfflineGitLab, name: str) -> None:
    RIGHT[name](gitlab.protections)
    if "before it was made" in name:
        gitlab.environments.clear()
    assert told(gitlab) == ([], [])


def test_a_group_protects_a_tier_and_not_a_name(gitlab: OfflineGitLab) -> None:
    gitlab.protections.environments.clear()
    gitlab.protections.groups["shop"] = [protected_environment("production")]
    gitlab.environments[1]["tier"] = "staging"
    assert told(gitlab) == (["environment-without-reviewers"], [])


HIDDEN: dict[str, tuple[dict[str, int], str]] = {
    "environments: 403": ({"protected_environments": 403}, "Maintainers alone, and has them with"),
    "environments: 404": ({"protected_environments": 404}, "Maintainers alone, and has them with"),
    "the group's: 403": ({"shop": 403}, "only an Owner of the group"),
    "the group's: 404": ({"shop": 404}, "only an Owner of the group"),
    "branches: 403": ({"protected_branches": 403}, "only a token of a Maintainer"),
    "approvals: 403": ({"approval_rules": 403}, "with Premium alone"),
    "approvals: 404": ({"approval_rules": 404}, "with Premium alone"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_not_shown_is_noted_and_never_found(gitlab: OfflineGitLab, name: str) -> None:
    hidden, why = HIDDEN[name]
    gitlab.protections.hidden = dict(hidden)
    if "shop" in hidden:
        gitlab.protections.environments.clear()
    rules, notes = told(gitlab)
    assert rules == []
    assert notes
    assert all(why in note for note in notes)


def test_a_group_is_asked_only_where_the_project_requires_no_approval(
    gitlab: OfflineGitLab,
) -> None:
    gitlab.protections.hidden = {"shop": 403}
    assert told(gitlab) == ([], [])


def test_an_environment_that_no_job_made_has_no_tier_to_look_for(gitlab: OfflineGitLab) -> None:
    gitlab.environments.clear()
    gitlab.protections.environments.clear()
    gitlab.protections.groups["shop"] = [protected_environment("production")]
    rules, notes = told(gitlab)
    assert rules == []
    assert ["Owner of the group" in note for note in notes] == [True]


def test_what_jobs_may_do_is_not_guessed(gitlab: OfflineGitLab) -> None:
    del gitlab.protections.project["ci_push_repository_for_job_token_allowed"]
    assert told(gitlab) == (
        [],
        [
            "the permissions of workflows could not be looked at: GitLab does not show this token "
            "whether jobs may push."
        ],
    )


@pytest.mark.parametrize("name", ["main", "feature/a*b", "a.b"])
def test_only_a_star_is_a_wildcard(gitlab: OfflineGitLab, name: str) -> None:
    gitlab.protections.branches = {name: True}
    gitlab.protections.rules = [protected_branch("m?in"), protected_branch("a+b")]
    found = gitlab_settings_of(gitlab).branch(name)
    assert found == Branch(
        name=name, reviews=0, deletion_blocked=False, force_push_blocked=False, complete=False
    )
    gitlab.protections.rules.append(protected_branch(name[:2] + "*"))
    found = gitlab_settings_of(gitlab).branch(name)
    assert found == Branch(name=name, reviews=1, deletion_blocked=True, force_push_blocked=True)


GARBLED: dict[str, Change] = {
    "a protection without a name": lambda it: it.environments[0].pop("name"),
    "access levels of another shape": production(deploy_access_levels=7),
    "a level without a number": main(push_access_levels=[{"access_level": "forty"}]),
    "a project without a place": lambda it: it.project.update(
        namespace=None, ci_push_repository_for_job_token_allowed=False
    ),
}


@pytest.mark.parametrize("name", GARBLED)
def test_an_answer_of_another_shape_is_noted(gitlab: OfflineGitLab, name: str) -> None:
    GARBLED[name](gitlab.protections)
    rules, notes = told(gitlab)
    assert rules == []
    assert notes
    assert all("not what its API describes" in note for note in notes)


@pytest.mark.parametrize("status", [500, 429])
def test_a_server_that_fails_is_no_answer(gitlab: OfflineGitLab, status: int) -> None:
    gitlab.fault = lambda method, path: (status, {"Retry-After": "1"})
    settings = gitlab_settings_of(gitlab)
    for read in (lambda: settings.environment("production"), lambda: settings.branch("main")):
        with pytest.raises(ForgeError):
            read()


# -- a whole run ----------------------------------------------------------------------------------

PIPELINE = """include:
  - component: $CI_SERVER_FQDN/org/chalice-ci/chalice@1.0.0
    inputs: {apply: prod}
"""
NO_ROLE = (
    "whom the roles trust was not looked at: neither the pipeline nor chalice-ci.yml (`role` of a "
    "stage) names one."
)
CONFIGURATION = """version: 1
stages:
  prod: {deploy-on: {branch: main}, environment: production}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = hello(tmp_path_factory.mktemp("gitlab") / "orders")
    git(root, "remote", "add", "origin", f"git@127.0.0.1:{PATH}.git")
    write(root, {".gitlab-ci.yml": PIPELINE, "chalice-ci.yml": CONFIGURATION})
    commit(root, "Set up")
    return root


def test_a_laptop_asks_the_server_of_its_remote(gitlab: OfflineGitLab, checkout: Path) -> None:
    gitlab.protections.environments.clear()
    gitlab.protections.rules[0].update(allow_force_push=True)
    env = {"GITLAB_TOKEN": TOKEN, "CI_API_V4_URL": gitlab.api_url}
    ran = run_here("doctor", "--format=json", cwd=checkout, **env)
    found = {one["rule"]: one for one in ran.report["findings"]}
    assert set(found) == {"environment-without-reviewers", "branch-rewritable"}
    assert (
        "CI/CD → Protected environments: protect production"
        in (found["environment-without-reviewers"]["fix"])
    )
    assert ran.report["notes"] == [NO_ROLE]
    assert ran.code == 1


def test_a_job_asks_for_its_own_project(gitlab: OfflineGitLab, checkout: Path) -> None:
    job = {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": gitlab.api_url,
        "CI_PROJECT_ID": "7",
        "CI_PROJECT_PATH": PATH,
        "CI_COMMIT_SHA": git(checkout, "rev-parse", "HEAD"),
        "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_PIPELINE_SOURCE": "push",
    }
    ran = run_here("doctor", "--format=json", cwd=checkout, GITLAB_TOKEN=TOKEN, **job)
    assert (ran.report["findings"], ran.report["notes"]) == ([], [NO_ROLE]), ran.err
    assert ran.code == 0


@pytest.mark.parametrize(
    "env", [{"GITLAB_TOKEN": TOKEN}, {"CI_API_V4_URL": "", "GITLAB_TOKEN": ""}]
)
def test_the_token_goes_to_no_server_that_nobody_named(
    gitlab: OfflineGitLab, checkout: Path, env: dict[str, str]
) -> None:
    gitlab.seen.clear()
    ran = run_here("doctor", "--format=json", cwd=checkout, **env)
    assert ran.code == 0, ran.err
    note, _ = ran.report["notes"]
    assert "were not looked at: give GITLAB_TOKEN" in note
    assert gitlab.seen == []
