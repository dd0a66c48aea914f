"""One contract for the settings of a repository: a folder, GitHub and GitLab behind theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from chalice_ci.errors import ForgeError
from chalice_ci.forge.github import GitHubForge
from chalice_ci.forge.github_api import GitHubApi
from chalice_ci.forge.github_settings import GitHubSettings
from chalice_ci.forge.local_settings import FILE, LocalSettings
from chalice_ci.forge.port import NotPermitted
from chalice_ci.forge.retry import Retry
from chalice_ci.forge.settings import Branch, Environment, Settings
from offline_github.emulate import ADMIN, REPOSITORY
from offline_github.gateway import Failure, OfflineGitHub, offline_github
from offline_gitlab.server import OfflineGitLab, Protections, offline_gitlab
from support.gitlabsettings import MAINTAINERS, gitlab_settings_of, protected_branch

STRICT = {"reviews": 2, "deletion_blocked": True, "force_push_blocked": True}


class Place(Protocol):
    """Settings as people make them, and the adapter that reads them."""

    def set(
        self,
        *,
        environments: Mapping[str, Any] | None = None,
        branches: Mapping[str, Any] | None = None,
        jobs_may_write: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> Settings: ...


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def set(self, **given: Any) -> Settings:
        (self.root / FILE).write_text(json.dumps(given), encoding="utf-8")
        return LocalSettings(self.root)


class GitHubPlace:
    def __init__(self, github: OfflineGitHub, *, classic: bool) -> None:
        self.github = github
        self.classic = classic

    def set(
        self,
        *,
        environments: Mapping[str, Any] | None = None,
        branches: Mapping[str, Any] | None = None,
        jobs_may_write: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> Settings:
        kept = self.github.settings
        kept.variables, kept.shared = dict(variables or {}), {"SHARED": "by all"}
        kept.environments, kept.branches = dict(environments or {}), dict(branches or {"x": {}})
        kept.classic, kept.jobs_may_write = self.classic, jobs_may_write
        return settings_of(self.github, self.github.emulator.token_of(ADMIN))


class GitLabPlace:
    """Of GitLab's own forms `test_gitlab_settings.py` has more."""

    def __init__(self, gitlab: OfflineGitLab) -> None:
        self.gitlab = gitlab

    def set(
        self,
        *,
        environments: Mapping[str, Any] | None = None,
        branches: Mapping[str, Any] | None = None,
        jobs_may_write: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> Settings:
        assert not variables
        kept = self.gitlab.protections = Protections(branches={})
        kept.project["ci_push_repository_for_job_token_allowed"] = jobs_may_write
        for name, said in (environments or {}).items():
            prevented = said.get("self_review_prevented")
            kept.project["allow_pipeline_trigger_approve_deployment"] = not prevented
            rules = [{"access_level": 40, "required_approvals": said.get("reviewers", 0)}]
            levels = [MAINTAINERS if said.get("reviewers") else {"access_level": 30}]
            kept.environments.append(
                {"name": name, "deploy_access_levels": levels, "approval_rules": rules}
            )
        for name, said in (branches or {}).items():
            kept.branches[name] = bool(said)
            kept.approvals.append(
                {
                    "approvals_required": said.get("reviews", 0),
                    "protected_branches": [{"name": name}],
                }
            )
            if said:
                forced = not said["force_push_blocked"]
                kept.rules.append(protected_branch(name, allow_force_push=forced))
        return gitlab_settings_of(self.gitlab)


def settings_of(github: OfflineGitHub, token: str) -> GitHubSettings:
    retry = Retry(sleep=lambda seconds: None, jitter=lambda: 0.0)
    return GitHubSettings(GitHubApi(REPOSITORY, token=token, api_url=github.url, retry=retry))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineGitHub]:
    with offline_github(tmp_path_factory.mktemp("github")) as github:
        yield github
        assert github.invalid == []


@pytest.fixture(scope="module")
def gitlab() -> Iterator[OfflineGitLab]:
    with offline_gitlab() as server:
        yield server
        assert server.invalid == []


@pytest.fixture(params=["folder", "rules", "protection"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


@pytest.fixture(params=["folder", "rules", "protection", "gitlab"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


def place_of(request: pytest.FixtureRequest, folder: Path) -> Place:
    if request.param == "folder":
        return Folder(folder)
    if request.param == "gitlab":
        return GitLabPlace(request.getfixturevalue("gitlab"))
    github: OfflineGitHub = request.getfixturevalue("running")
    github.forget()
    return GitHubPlace(github, classic=request.param == "protection")


@pytest.mark.parametrize("reviewers", [0, 1, 2])
@pytest.mark.parametrize("prevented", [True, False])
@pytest.mark.parametrize("restricted", [True, False])
def test_an_environment_says_who_has_to_approve(
    anywhere: Place, reviewers: int, prevented: bool, restricted: bool
) -> None:
    written = {
        "reviewers": reviewers,
        "self_review_prevented": prevented and reviewers > 0,
        # GitLab asks who deploys, not from which branch.
        "branches_restricted": restricted or isinstance(anywhere, GitLabPlace),
    }
    found = anywhere.set(environments={"production": written}).environment("production")
    assert found == Environment(name="production", **written)


def test_what_is_not_there_is_none(anywhere: Place) -> None:
    settings = anywhere.set(environments={"other": {}}, branches={"other": {}})
    assert settings.environment("production") is None
    assert settings.branch("main") is None


def test_a_branch_says_whether_its_history_can_be_rewritten(anywhere: Place) -> None:
    loose = {**STRICT, "force_push_blocked": False}
    settings = anywhere.set(branches={"main": STRICT, "loose": loose})
    assert settings.branch("main") == Branch(name="main", **STRICT)
    assert settings.branch("loose") == Branch(name="loose", **loose)


def test_a_branch_says_whether_it_can_be_deleted(place: Place) -> None:
    loose = {**STRICT, "deletion_blocked": False}
    assert place.set(branches={"loose": loose}).branch("loose") == Branch(name="loose", **loose)


def test_a_branch_that_nothing_protects(anywhere: Place) -> None:
    found = anywhere.set(branches={"main": {}}).branch("main")
    assert found is not None
    if isinstance(anywhere, GitHubPlace) and anywhere.classic:
        # Branch protection forbids both unless it says otherwise.
        assert found.reviews == 0
    else:
        assert (found.reviews, found.deletion_blocked, found.force_push_blocked) == (
            0,
            False,
            False,
        )


@pytest.mark.parametrize("write", [True, False])
def test_the_default_of_the_jobs_token(anywhere: Place, write: bool) -> None:
    assert anywhere.set(jobs_may_write=write).jobs_may_write() is write


def test_a_variable_is_the_environments_own_before_the_repositorys(place: Place) -> None:
    own = {"reviewers": 0, "self_review_prevented": False, "branches_restricted": False}
    settings = place.set(
        environments={"production": {**own, "variables": {"ROLE": "of production"}}},
        branches={"main": {}},
        variables={"ROLE": "of all", "OTHER": "one"},
    )
    assert settings.variable("ROLE") == "of all"
    assert settings.variable("ROLE", environment="production") == "of production"
    assert settings.variable("OTHER", environment="production") == "one"
    assert settings.variable("ROLE", environment="staging") == "of all"
    assert settings.variable("NONE", environment="production") is None
    if isinstance(place, GitHubPlace):
        assert settings.variable("SHARED") == "by all"


def test_a_workflows_token_is_not_shown_variables(running: OfflineGitHub) -> None:
    GitHubPlace(running, classic=False).set(branches={"main": {}})
    with pytest.raises(NotPermitted) as refused:
        settings_of(running, running.emulator.workflow_token()).variable("ROLE")
    assert refused.value.permission == "variables: read"
    running.forget()


def test_a_workflows_token_is_not_shown_branch_protection(running: OfflineGitHub) -> None:
    GitHubPlace(running, classic=True).set(branches={"main": STRICT})
    settings = settings_of(running, running.emulator.workflow_token())
    found = settings.branch("main")
    assert found is not None
    assert not found.complete
    with pytest.raises(NotPermitted) as refused:
        settings.jobs_may_write()
    assert refused.value.permission == "administration: read"


def test_rules_are_shown_to_a_workflows_token(running: OfflineGitHub) -> None:
    GitHubPlace(running, classic=False).set(branches={"main": STRICT})
    settings = settings_of(running, running.emulator.workflow_token())
    assert settings.branch("main") == Branch(name="main", **STRICT)


@pytest.mark.parametrize("failure", [Failure.BROKEN, Failure.STRANGE, Failure.CUT, Failure.NOTHING])
def test_a_failure_is_told_and_not_taken_for_an_answer(
    running: OfflineGitHub, failure: Failure
) -> None:
    settings = GitHubPlace(running, classic=False).set(branches={"main": STRICT})
    running.fail(failure, path="/branches/", times=50)
    with pytest.raises(ForgeError):
        settings.branch("main")
    running.forget()


@pytest.mark.parametrize("text", ["{", "[]", '{"branches": []}', '{"branches": {"main": 7}}'])
def test_a_folders_damaged_settings_protect_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    settings = LocalSettings(tmp_path)
    if text == "{":
        with pytest.raises(ForgeError, match="can't be read"):
            settings.branch("main")
    else:
        assert settings.branch("main") is None


def test_who_approved_a_run_is_told_by_environment(running: OfflineGitHub) -> None:
    running.settings.approvals = {
        42: [("approved", "production", "mona"), ("rejected", "production", "hubot")]
    }
    retry = Retry(sleep=lambda seconds: None, jitter=lambda: 0.0)

    def forge(**permissions: str) -> GitHubForge:
        token = running.emulator.workflow_token(contents="read", **permissions)
        return GitHubForge(GitHubApi(REPOSITORY, token=token, api_url=running.url, retry=retry))

    assert forge(actions="read").approvers(42) == (("production", "mona"),)
    assert forge(actions="read").approvers(43) == ()
    with pytest.raises(NotPermitted) as refused:
        forge().approvers(42)
    assert refused.value.permission == "actions: read"
