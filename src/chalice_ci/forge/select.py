"""Which forge a run talks to, and whether to one at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.context import Context, System

if TYPE_CHECKING:
    from chalice_ci.base_policy import Files
    from chalice_ci.forge.github import GitHubApi
    from chalice_ci.forge.local import LocalForge
    from chalice_ci.forge.port import Forge


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A forge, who approves where the CI system has no gate of its own, GitHub's API for the state
    store when that is where the run is, and the files of the repository as the forge has them.
    """

    forge: Forge | None = None
    approvals: LocalForge | None = None
    api: GitHubApi | None = None
    files: Files | None = None


def connect(
    context: Context,
    *,
    env: Mapping[str, str],
    token: str,
    folder: Path | None,
    retells: bool = False,
) -> Connection:
    """The folder that plays the forge, GitHub with a token, or nothing.

    A run that is not trusted only reads files: nothing of a fork's may speak for the repository.
    One that `retells` holds no code of a fork's: it tells what another run reported.
    """
    # Late: most runs need neither, and PyGithub takes a while.
    if folder is not None:
        from chalice_ci.forge.local import LocalForge

        local = LocalForge(folder)
        return Connection(forge=local, approvals=local)
    if context.system is not System.GITHUB or not token:
        return Connection()
    if not context.trusted and context.pull_request is None and not retells:
        return Connection()
    from chalice_ci.forge.github import GitHubData, GitHubForge, open_github

    api = open_github(env, token=token)
    files = GitHubData(api)
    if retells:
        return Connection(forge=GitHubForge(api))
    if not context.trusted:
        return Connection(files=files)
    return Connection(forge=GitHubForge(api), api=api, files=files)
