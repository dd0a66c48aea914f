"""Which store keeps the states of a project, and which commit a first run reads them from."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from chalice_ci.checkout import Checkout
from chalice_ci.config import SOURCE_BRANCH, StateConfig
from chalice_ci.state.git import GitStore, RemoteRepository
from chalice_ci.state.git_repository import LocalRepository, Repository
from chalice_ci.state.local import LocalStore
from chalice_ci.state.plans import FolderPlans, GitPlans, PlanStore
from chalice_ci.state.store import StateStore

if TYPE_CHECKING:
    from chalice_ci.forge.github_api import GitHubApi

REHEARSAL_SUFFIX = "-local"
"""The embedded AWS has states of its own, on a branch that is never pushed."""


PLANS = ".chalice/deployed/plans"
"""Where plans are kept beside Chalice's own files."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """A store with a name for people, and the repository of the code for the first run.

    `ref` is the protected branch that a first run may read a committed state from.
    """

    store: StateStore
    name: str
    plans: PlanStore
    source: Repository | None = None
    ref: str = "HEAD"


def open_records(
    config: StateConfig,
    checkout: Checkout,
    *,
    env: Mapping[str, str],
    work_dir: Path,
    rehearsal: bool,
    api: GitHubApi | None = None,
) -> Records:
    """The store that the configuration asks for.

    `git` is a branch of the remote when the checkout has one, else of the repository itself;
    without a repository Chalice's own files are the store. A rehearsal on the embedded AWS never
    leaves this machine.
    """
    if rehearsal:
        return _rehearsed(config, checkout, env=env, work_dir=work_dir)
    if config.store == "local" or (checkout.git_dir is None and api is None):
        return Records(
            store=LocalStore(checkout.root),
            name="Chalice's own files",
            plans=FolderPlans(checkout.root / PLANS),
        )
    if config.store == "s3":
        return _in_bucket(config, checkout, env=env, work_dir=work_dir, api=api)
    repository, ref, of = _home(checkout, env=env, work_dir=work_dir, api=api)
    branch, name = (
        (_source_branch(checkout, api), "the default branch")
        if config.branch == SOURCE_BRANCH
        else (config.branch, f"branch {config.branch}")
    )
    return Records(
        store=GitStore(repository, branch=branch),
        name=f"{name}{of}",
        plans=GitPlans(repository, prefix=config.plan_branches),
        source=repository,
        ref=ref,
    )


def _source_branch(checkout: Checkout, api: GitHubApi | None) -> str | None:
    """The branch of the code; a remote says itself which one that is."""
    if api is not None or checkout.remote is not None:
        return None
    return checkout.default_branch or checkout.branch


def open_remote(
    checkout: Checkout, *, env: Mapping[str, str], work_dir: Path
) -> RemoteRepository | None:
    """The checkout's remote, in a clone of its own; None when it has none."""
    if checkout.remote is None:
        return None
    url, given = _parted(checkout.remote)
    return RemoteRepository(
        url, work_dir=work_dir, environ=env, authorization=_authorization(url, env) or given
    )


def _in_bucket(
    config: StateConfig,
    checkout: Checkout,
    *,
    env: Mapping[str, str],
    work_dir: Path,
    api: GitHubApi | None,
) -> Records:
    # Late: boto3 takes a while.
    from chalice_ci.ownership import clients_of
    from chalice_ci.state.s3 import S3Store

    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    clients = clients_of(env, region)
    bucket = config.bucket or ""
    store = S3Store(
        lambda: clients("s3"), bucket=bucket, prefix=config.prefix, kms_key=config.kms_key
    )
    name = f"bucket {bucket}"
    if checkout.git_dir is None and api is None:
        return Records(store=store, name=name, plans=store)
    repository, ref, _ = _home(checkout, env=env, work_dir=work_dir, api=api)
    return Records(store=store, name=name, plans=store, source=repository, ref=ref)


def _rehearsed(
    config: StateConfig, checkout: Checkout, *, env: Mapping[str, str], work_dir: Path
) -> Records:
    if config.store == "local" or checkout.git_dir is None:
        folder = checkout.root / ".chalice-ci-local"
        return Records(
            store=LocalStore(folder),
            name=f"folder {folder.name}",
            plans=FolderPlans(folder / PLANS),
        )
    local = LocalRepository(checkout.git_dir, work_dir=work_dir, environ=env)
    branch = f"{config.own_branch}{REHEARSAL_SUFFIX}"
    return Records(
        store=GitStore(local, branch=branch),
        name=f"branch {branch}",
        plans=GitPlans(local, prefix=f"{config.plan_branches}{REHEARSAL_SUFFIX}"),
    )


def _home(
    checkout: Checkout, *, env: Mapping[str, str], work_dir: Path, api: GitHubApi | None
) -> tuple[Repository, str, str]:
    """The repository that holds the state, its protected branch, and how a message names it."""
    if api is not None:
        # Late: PyGithub takes a while.
        from chalice_ci.forge.github_data import GitHubData
        from chalice_ci.state.github import GitHubRepository

        return GitHubRepository(GitHubData(api)), "HEAD", f" of {api.repository}"
    if checkout.git_dir is not None and checkout.remote is None:
        local = LocalRepository(checkout.git_dir, work_dir=work_dir, environ=env)
        return local, f"refs/heads/{checkout.default_branch or 'main'}", ""
    remote = open_remote(checkout, env=env, work_dir=work_dir)
    assert remote is not None
    return remote, "HEAD", f" of {remote.name}"


def _authorization(url: str, env: Mapping[str, str]) -> str:
    """The token of the forge that runs us, for that forge's host alone.

    GitLab's own CI_JOB_TOKEN pushes where the project allows it (Settings, CI/CD, Job token
    permissions, "Allow Git push requests to the repository").
    """
    for server, variable, user in (
        ("GITHUB_SERVER_URL", "GITHUB_TOKEN", "x-access-token"),
        ("CI_SERVER_URL", "GITLAB_TOKEN", "oauth2"),
        ("CI_SERVER_URL", "CI_JOB_TOKEN", "gitlab-ci-token"),
    ):
        token, host = env.get(variable, ""), urlsplit(env.get(server, "")).netloc
        if token and host and urlsplit(url).netloc == host:
            pair = base64.b64encode(f"{user}:{token}".encode()).decode("ascii")
            return f"Basic {pair}"
    return ""


def _parted(url: str) -> tuple[str, str]:
    """An address without its user and password, and the header that says them.

    `https://token@host/...` is what some CI systems and laptops have as a remote; in the address
    the token would be seen in logs and process lists.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, ""
    credential, _, host = parts.netloc.rpartition("@")
    user, _, password = credential.partition(":")
    pair = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")
    return parts._replace(netloc=host).geturl(), f"Basic {pair}"
