"""Which repository's settings `doctor` reads, and with which token."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from chalice_ci.context import System
from chalice_ci.doctor.repository import Unseen
from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.forge.select import gitlab_project
from chalice_ci.forge.settings import Settings, SettingsAndVariables
from chalice_ci.inputs import GITHUB_TOKEN, LOCAL_FORGE
from chalice_ci.run import Run
from chalice_ci.scaffold.setting import home_of

NO_GITHUB = (
    "environments, branch rules and the permissions of workflows were not looked at: give a token "
    "(--github-token, best one with `administration: read`) in a checkout of a repository on "
    "GitHub."
)
NO_GITLAB = (
    "protected environments, protected branches and what jobs may push were not looked at: give "
    "GITLAB_TOKEN (role Maintainer, scope `read_api`) in a checkout of a project on GitLab, and "
    "for a server of your own CI_API_V4_URL (https://HOST/api/v4)."
)
NO_BITBUCKET = (
    "branch restrictions were not looked at: give BITBUCKET_TOKEN (scopes `repository` and "
    "`repository:admin`) in a checkout of a repository on Bitbucket."
)

_T = TypeVar("_T")
_REMOTE = re.compile(
    r"(?:https?://(?:[^/@]*@)?|git@|ssh://git@)(?P<host>[^/:]+)(?::\d+)?[/:]"
    r"(?P<name>[A-Za-z0-9-]+/[A-Za-z0-9._-]+?)(?:\.git)?/?"
)
_GITLAB_API = "https://gitlab.com/api/v4"


def noted(read: Callable[[], _T | None], unseen: Unseen, without: str) -> _T | None:
    """What `read` gives; why it gives nothing is noted: `without` when there is nobody to ask."""
    try:
        found = read()
    except (UsageError, ForgeError) as error:
        unseen.notes.append(f"the repository's settings could not be looked at: {error.what}")
        return None
    if found is None:
        unseen.notes.append(without)
    return found


def github_settings(run: Run) -> SettingsAndVariables | None:
    """The settings of the folder that plays the forge, else those on GitHub that a token shows."""
    local = _local(run)
    if local is not None:
        return local
    token = run.inputs.text(GITHUB_TOKEN) or run.world.env.get("GITHUB_TOKEN", "")
    name = repository_name(run)
    if not token or not name:
        return None
    # Late: PyGithub takes a while.
    from chalice_ci.forge.github_api import open_github
    from chalice_ci.forge.github_settings import GitHubSettings

    env: Mapping[str, str] = {**run.world.env, "GITHUB_REPOSITORY": name}
    return GitHubSettings(open_github(env, token=token))


def gitlab_settings(run: Run) -> Settings | None:
    """The settings of the folder that plays the forge, else those on GitLab that a token shows.

    The job's own token is not asked for: it is shown none of them. Outside of a job the project is
    that of the remote, and the token goes nowhere but to the server that is named, or gitlab.com.
    """
    local = _local(run)
    if local is not None:
        return local
    token = run.inputs.text(GITHUB_TOKEN) or run.world.env.get("GITLAB_TOKEN", "")
    env = run.world.env
    if run.context.system is not System.GITLAB:
        api = env.get("CI_API_V4_URL") or _GITLAB_API
        host, path = home_of(run.checkout.remote or "")
        if host != urlsplit(api).hostname:
            return None
        env = {"CI_API_V4_URL": api, "CI_PROJECT_PATH": path}
    if not token:
        return None
    project = gitlab_project(env, token)
    from chalice_ci.forge.gitlab_settings import GitLabSettings

    return GitLabSettings(project)


def bitbucket_settings(run: Run) -> Settings | None:
    """The settings of the folder that plays the forge, else those on Bitbucket.

    The token is one of a person for this look: those of steps have no scope of an administrator.
    """
    local = _local(run)
    if local is not None:
        return local
    token = run.inputs.text(GITHUB_TOKEN) or run.world.env.get("BITBUCKET_TOKEN", "")
    host, path = home_of(run.checkout.remote or "")
    here = run.context.system is System.BITBUCKET
    name = run.context.repository if here else path if host == "bitbucket.org" else ""
    if not token or not name:
        return None
    # Late: requests takes a while.
    from chalice_ci.forge.bitbucket import BitbucketApi
    from chalice_ci.forge.bitbucket_settings import BitbucketSettings

    return BitbucketSettings(BitbucketApi(name, token=token))


def repository_name(run: Run) -> str:
    """The repository on GitHub as the runner names it, else the remote; empty when neither does."""
    if run.context.system is System.GITHUB and run.world.env.get("GITHUB_REPOSITORY"):
        return run.world.env["GITHUB_REPOSITORY"]
    found = _REMOTE.fullmatch(run.checkout.remote or "")
    server = run.world.env.get("GITHUB_SERVER_URL") or "https://github.com"
    if found is None or found["host"] != server.partition("://")[2].rstrip("/"):
        return ""
    return found["name"]


def _local(run: Run) -> SettingsAndVariables | None:
    folder = run.inputs.path(LOCAL_FORGE)
    if folder is None:
        return None
    from chalice_ci.forge.local_settings import LocalSettings

    return LocalSettings(run.world.cwd / folder)
