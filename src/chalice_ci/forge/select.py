"""Which forge a run talks to, and whether to one at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.context import Context, System
from chalice_ci.errors import UsageError

if TYPE_CHECKING:
    from chalice_ci.base_policy import Branches, Files
    from chalice_ci.forge.github_api import GitHubApi
    from chalice_ci.forge.gitlab_api import GitLabApi
    from chalice_ci.forge.local import LocalForge
    from chalice_ci.forge.port import Forge

GITHUB_REPOSITORY = "CHALICE_CI_GITHUB_REPOSITORY"
"""Says "owner/name" to another CI system than GitHub's, for the comment of pull requests there."""
AZURE_PROVIDER, AZURE_REPOS = "BUILD_REPOSITORY_PROVIDER", "tfsgit"
"""What Azure Pipelines calls a repository that is in Azure Repos."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A forge, who approves where the CI system has no gate of its own, GitHub's API for the state
    store when that is where the run is, and the files of the repository as the forge has them.
    """

    forge: Forge | None = None
    approvals: LocalForge | None = None
    api: GitHubApi | None = None
    files: Files | None = None
    branches: Branches | None = None


def connect(
    context: Context,
    *,
    env: Mapping[str, str],
    token: str,
    folder: Path | None,
    retells: bool = False,
) -> Connection:
    """The folder that plays the forge, a forge with a token, or nothing.

    A run that is not trusted only reads files: nothing of a fork's may speak for the repository.
    One that `retells` holds no code of a fork's: it tells what another run reported. Another CI
    system for code on GitHub speaks to GitHub when the job names the repository.
    """
    # Late: most runs need neither, and PyGithub takes a while.
    if folder is not None:
        from chalice_ci.forge.local import LocalForge

        local = LocalForge(folder)
        return Connection(forge=local, approvals=local)
    if not context.trusted and context.pull_request is None and not retells:
        return Connection()
    match context.system:
        case System.GITHUB if token:
            return _github(context, env, token, retells=retells)
        case System.GITLAB if token or env.get("CI_JOB_TOKEN"):
            return _gitlab(context, env, token)
        case System.BITBUCKET if secret := env.get("BITBUCKET_TOKEN", ""):
            return _bitbucket(context, secret)
        case System.AZURE if env.get(AZURE_PROVIDER, "").lower() == AZURE_REPOS:
            return _azure(context, env)
        case System.GITHUB | System.GITLAB | System.BITBUCKET | System.LOCAL:
            return Connection()
    repository = env.get(GITHUB_REPOSITORY, "")
    if not (repository and token):
        return Connection()
    told = {"GITHUB_REPOSITORY": repository}
    # The state stays where the configuration says; only GitHub's own runs have it over the API.
    return replace(_github(context, told, token, retells=False), api=None)


def _azure(context: Context, env: Mapping[str, str]) -> Connection:
    from chalice_ci.forge.azure import AzureForge
    from chalice_ci.forge.azure_api import JOB_TOKEN, PERSONAL_TOKEN, open_azure
    from chalice_ci.forge.azure_files import AzureFiles

    if not (env.get(JOB_TOKEN) or env.get(PERSONAL_TOKEN)):
        return Connection()
    api = open_azure(env)
    files = AzureFiles(api)
    if not context.trusted:
        return Connection(files=files)
    return Connection(forge=AzureForge(api), files=files, branches=files)


def _bitbucket(context: Context, token: str) -> Connection:
    from chalice_ci.forge.bitbucket import BitbucketApi, BitbucketForge

    if not context.trusted:
        return Connection()
    return Connection(forge=BitbucketForge(BitbucketApi(context.repository, token=token)))


def _github(context: Context, env: Mapping[str, str], token: str, *, retells: bool) -> Connection:
    from chalice_ci.forge.github import GitHubForge
    from chalice_ci.forge.github_api import open_github
    from chalice_ci.forge.github_data import GitHubData

    api = open_github(env, token=token)
    files = GitHubData(api)
    if retells:
        return Connection(forge=GitHubForge(api))
    if not context.trusted:
        return Connection(files=files)
    return Connection(forge=GitHubForge(api), api=api, files=files, branches=files)


def _gitlab(context: Context, env: Mapping[str, str], token: str) -> Connection:
    """With the job's own token alone everything works but the note, which says what is missing."""
    api = gitlab_project(env, token)
    from chalice_ci.forge.gitlab import GitLabFiles, GitLabForge

    files = GitLabFiles(api)
    if not context.trusted:
        return Connection(files=files)
    return Connection(forge=GitLabForge(api), files=files, branches=files if token else None)


def gitlab_project(env: Mapping[str, str], token: str) -> GitLabApi:
    """The project on GitLab that the variables name; raises UsageError, without the library too."""
    try:
        from chalice_ci.forge.gitlab_api import open_gitlab
    except ModuleNotFoundError as error:
        if error.name != "gitlab":
            raise
        raise UsageError(
            "the library that speaks to GitLab is not installed.",
            where="GitLab",
            fix="Install it with `pip install 'chalice-ci[gitlab]'`; the image has it.",
        ) from error
    return open_gitlab(env, token=token)
