"""Which forge a run talks to, from what its CI system gives it."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chalice_ci.context import Context, PullRequest, System
from chalice_ci.errors import UsageError
from chalice_ci.forge.azure_api import open_azure
from chalice_ci.forge.gitlab_api import open_gitlab
from chalice_ci.forge.select import connect
from chalice_ci.state.select import _authorization

GITLAB = {
    "CI_PROJECT_ID": "7",
    "CI_PROJECT_PATH": "shop/orders",
    "CI_API_V4_URL": "https://gitlab.example/api/v4",
    "CI_SERVER_URL": "https://gitlab.example",
}
GITHUB = {
    "GITHUB_REPOSITORY": "shop/orders",
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_SERVER_URL": "https://github.com",
}
ON_GITHUB = {"CHALICE_CI_GITHUB_REPOSITORY": "shop/orders"}
PULL = PullRequest(
    number=1, head_sha="a" * 40, base_sha="", head_branch="f", base_branch="main", fork=False
)
OWN = Context(system=System.GITLAB, event="pull_request", pull_request=PULL)
AT_BITBUCKET = replace(OWN, system=System.BITBUCKET, repository="shop/orders")
AZURE = {
    "BUILD_REPOSITORY_PROVIDER": "TfsGit",
    "BUILD_REPOSITORY_ID": "2f3d611a-f012-4b39-b157-8db63f380226",
    "BUILD_REPOSITORY_NAME": "orders",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/octo/",
    "SYSTEM_TEAMPROJECT": "shop",
}
AT_AZURE = replace(OWN, system=System.AZURE, repository="orders")
JOB, PERSONAL = {"SYSTEM_ACCESSTOKEN": "t"}, {"AZURE_DEVOPS_EXT_PAT": "p"}
FORK = replace(OWN, pull_request=replace(PULL, fork=True), trusted=False)


_ON_GITHUB = ("GitHubForge", "GitHubData")


@pytest.mark.parametrize(
    ("context", "env", "token", "forge", "files"),
    [
        (OWN, GITLAB, "glpat", "GitLabForge", "GitLabFiles"),
        (OWN, GITLAB | {"CI_JOB_TOKEN": "job"}, "", "GitLabForge", "GitLabFiles"),
        (OWN, GITLAB, "", None, None),
        # Nothing of a fork's speaks for the project; what it may do is read.
        (FORK, GITLAB | {"CI_JOB_TOKEN": "job"}, "", None, "GitLabFiles"),
        (replace(FORK, pull_request=None), GITLAB, "glpat", None, None),
        (replace(OWN, system=System.GITHUB), GITHUB, "ghs", "GitHubForge", "GitHubData"),
        (replace(OWN, system=System.GITHUB), GITLAB | {"CI_JOB_TOKEN": "job"}, "", None, None),
        (replace(OWN, system=System.JENKINS), GITLAB | GITHUB, "any", None, None),
        # Another system for code on GitHub: the job says so.
        (replace(OWN, system=System.JENKINS), ON_GITHUB, "pat", "GitHubForge", "GitHubData"),
        (replace(OWN, system=System.OTHER), ON_GITHUB, "pat", "GitHubForge", "GitHubData"),
        (replace(FORK, system=System.CODEBUILD), ON_GITHUB, "pat", None, "GitHubData"),
        (replace(OWN, system=System.JENKINS), ON_GITHUB, "", None, None),
        (replace(OWN, system=System.LOCAL), ON_GITHUB, "pat", None, None),
        (AT_BITBUCKET, {"BITBUCKET_TOKEN": "t"}, "", "BitbucketForge", None),
        # A token of GitHub's goes to GitHub alone.
        (AT_BITBUCKET, ON_GITHUB, "pat", None, None),
        (replace(AT_BITBUCKET, trusted=False), {"BITBUCKET_TOKEN": "t"}, "", None, None),
        (AT_AZURE, AZURE | JOB, "", "AzureForge", "AzureFiles"),
        (AT_AZURE, AZURE | PERSONAL, "", "AzureForge", "AzureFiles"),
        (AT_AZURE, AZURE | ON_GITHUB, "pat", None, None),
        (replace(AT_AZURE, trusted=False), AZURE | JOB, "", None, "AzureFiles"),
        # For code on GitHub the agent's token is of no use.
        (AT_AZURE, AZURE | JOB | {"BUILD_REPOSITORY_PROVIDER": "GitHub"}, "", None, None),
        (AT_AZURE, JOB | ON_GITHUB | {"BUILD_REPOSITORY_PROVIDER": "GitHub"}, "pat", *_ON_GITHUB),
    ],
)
def test_the_system_and_its_token_choose_the_forge(
    context: Context, env: dict[str, str], token: str, forge: str | None, files: str | None
) -> None:
    found = connect(context, env=env, token=token, folder=None)
    assert (found.forge and type(found.forge).__name__) == forge
    assert (found.files and type(found.files).__name__) == files


def test_of_a_forks_pipeline_the_project_is_the_one_that_it_would_go_into() -> None:
    merge_request = {
        "CI_MERGE_REQUEST_PROJECT_ID": "7",
        "CI_MERGE_REQUEST_PROJECT_PATH": "shop/orders",
    }
    fork = GITLAB | {"CI_PROJECT_ID": "8", "CI_PROJECT_PATH": "mallory/orders"}
    found = open_gitlab(fork | merge_request, token="t")
    assert (found.project, found.name) == ("7", "shop/orders")
    found = open_gitlab(fork, token="t")
    assert (found.project, found.name) == ("8", "mallory/orders")


def test_a_repository_in_azure_repos_is_named_by_its_project_and_found_by_its_id() -> None:
    found = open_azure(AZURE | JOB | PERSONAL)
    assert found.name == "shop/orders"
    assert found.path == f"/shop/_apis/git/repositories/{AZURE['BUILD_REPOSITORY_ID']}"
    older = {k: v for k, v in AZURE.items() if k != "SYSTEM_COLLECTIONURI"}
    address = {"SYSTEM_TEAMFOUNDATIONCOLLECTIONURI": "http://tfs:8080/tfs/Default/"}
    page = open_azure(older | address | JOB).page(7)
    assert page == "http://tfs:8080/tfs/Default/shop/_git/orders/pullrequest/7"
    with pytest.raises(UsageError, match="address of an organization"):
        open_azure(older | JOB)


def test_another_system_speaks_to_the_repository_that_is_named_and_keeps_no_state_there() -> None:
    context = replace(OWN, system=System.CIRCLECI)
    found = connect(context, env=ON_GITHUB, token="pat", folder=None)
    assert found.forge is not None
    assert (found.forge.name, found.api) == ("shop/orders", None)
    odd = {"CHALICE_CI_GITHUB_REPOSITORY": "shop/../orders"}
    with pytest.raises(UsageError):
        connect(context, env=odd, token="pat", folder=None)


def test_a_folder_plays_the_forge_of_every_system(tmp_path: Path) -> None:
    found = connect(OWN, env=GITLAB, token="glpat", folder=tmp_path / "forge")
    assert type(found.forge).__name__ == "LocalForge"


_WITHOUT = """
import sys

sys.modules["gitlab"] = None
from chalice_ci.context import Context, System
from chalice_ci.errors import UsageError
from chalice_ci.forge.select import connect

try:
    connect(Context(system=System.GITLAB), env={}, token="glpat", folder=None)
except UsageError as error:
    print(error.fix)
"""


def test_without_the_library_the_extra_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "chalice-ci[gitlab]" in done.stdout


@pytest.mark.parametrize(
    ("url", "env", "pair"),
    [
        ("https://gitlab.example/a/b.git", {"GITLAB_TOKEN": "t"}, "oauth2:t"),
        ("https://gitlab.example/a/b.git", {"CI_JOB_TOKEN": "j"}, "gitlab-ci-token:j"),
        (
            "https://gitlab.example/a/b.git",
            {"GITLAB_TOKEN": "t", "CI_JOB_TOKEN": "j"},
            "oauth2:t",
        ),
        ("https://elsewhere.example/a/b.git", {"GITLAB_TOKEN": "t"}, ""),
        ("https://gitlab.example:444/a/b.git", {"GITLAB_TOKEN": "t"}, ""),
        ("/srv/git/b.git", {"GITLAB_TOKEN": "t"}, ""),
        ("https://github.com/a/b", {"GITHUB_TOKEN": "g", "GITLAB_TOKEN": "t"}, "x-access-token:g"),
    ],
)
def test_a_token_goes_to_the_host_of_its_own_system_alone(
    url: str, env: dict[str, str], pair: str
) -> None:
    sent = _authorization(url, GITLAB | GITHUB | env)
    assert sent == (f"Basic {base64.b64encode(pair.encode()).decode()}" if pair else "")
