"""What a repository is, as far as its set-up depends on it, and what a person chose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.context import System

_PRODUCTION = re.compile(r"(?:prod|production|live)(?:[-_].*)?", re.IGNORECASE)
_FILES: Mapping[str, System] = {
    ".github/workflows": System.GITHUB,
    ".gitlab-ci.yml": System.GITLAB,
    ".circleci": System.CIRCLECI,
    "Jenkinsfile": System.JENKINS,
    "bitbucket-pipelines.yml": System.BITBUCKET,
    "azure-pipelines.yml": System.AZURE,
    ".buildkite": System.BUILDKITE,
    ".codebuild": System.CODEBUILD,
    "buildspec.yml": System.CODEBUILD,
}
TITLES: Mapping[System, str] = {
    System.GITHUB: "GitHub",
    System.GITLAB: "GitLab",
    System.CIRCLECI: "CircleCI",
    System.JENKINS: "Jenkins",
    System.BITBUCKET: "Bitbucket",
    System.AZURE: "Azure Pipelines",
    System.CODEBUILD: "AWS CodeBuild",
    System.BUILDKITE: "Buildkite",
}
_REMOTE = re.compile(
    r"(?:https?://(?:[^/@]*@)?|git@|ssh://git@)(?P<host>[A-Za-z0-9.-]+)(?::\d+)?[/:]"
    r"(?P<path>[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+?)+?)(?:\.git)?/?"
)
AUTO = "auto"
_HOMES = (
    (re.compile(r"github\.com"), System.GITHUB),
    (re.compile(r".*gitlab.*"), System.GITLAB),
    (re.compile(r"bitbucket\.org"), System.BITBUCKET),
    (re.compile(r"(?:ssh\.)?dev\.azure\.com|.+\.visualstudio\.com"), System.AZURE),
    (re.compile(r"git-codecommit\..+\.amazonaws\.com"), System.CODEBUILD),
)
"""Places of code that bring a CI system of their own, by the host of the remote."""


@dataclass(frozen=True, kw_only=True)
class App:
    """An app: its name, its path from the root, and the stages of its config.json."""

    name: str
    path: str
    stages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is there, and what was chosen.

    `repository` is "owner/name" on GitHub, empty where that is not known; so are `account` and
    `region`, which then come from the repository's variables. Of a project on GitLab it is the
    path, and `gitlab` the server's name; for other systems the path at `host`.
    `bucket` is where states are kept; empty: on a branch of the repository.
    """

    apps: tuple[App, ...]
    branch: str
    repository: str = ""
    account: str = ""
    region: str = ""
    previews: bool = False
    gitlab: str = ""
    system: System = System.GITHUB
    host: str = ""
    bucket: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that every app has, in the order they are deployed: production last."""
        common = [
            stage
            for stage in (self.apps[0].stages if self.apps else ())
            if all(stage in app.stages for app in self.apps)
        ] or ["dev"]
        ordered = sorted(common, key=lambda stage: (stage != "dev", common.index(stage)))
        return tuple(
            [stage for stage in ordered if not self.is_gated(stage)]
            + [stage for stage in ordered if self.is_gated(stage)]
        )

    @property
    def first(self) -> str:
        """The stage that the branch deploys first."""
        return self.stages[0]

    @property
    def gated(self) -> tuple[str, ...]:
        """The stages that a person approves."""
        return tuple(stage for stage in self.stages if self.is_gated(stage))

    def is_gated(self, stage: str) -> bool:
        """Whether a stage is for production, by its name."""
        return _PRODUCTION.fullmatch(stage) is not None


def systems(root: Path) -> tuple[System, ...]:
    """The CI systems whose files are there, each once."""
    there = (system for file, system in _FILES.items() if (root / file).exists())
    return tuple(dict.fromkeys(there))


def home_of(remote: str) -> tuple[str, str]:
    """The host and the path of a remote's address; empty where it has none."""
    found = _REMOTE.fullmatch(remote)
    return (found["host"], found["path"]) if found is not None else ("", "")


def system_of(said: str, files: Sequence[System], host: str) -> System:
    """The system to write for: the one that was said, else whose files there are, else the host's.

    The pipelines of GitLab and Bitbucket run where the code is: of a repository elsewhere their
    files tell nothing. A repository with workflows of GitHub's stays there.
    """
    if said != AUTO:
        return System(said)
    home = next((system for form, system in _HOMES if form.fullmatch(host)), None)
    at_home = (System.GITLAB, System.BITBUCKET)
    told = [one for one in files if one not in at_home or home in (None, one)]
    if home is System.GITLAB or System.GITHUB in told:
        return System.GITLAB if home is System.GITLAB else System.GITHUB
    return told[0] if told else home or System.GITHUB


def environment_of(stage: str) -> str:
    """How the GitHub environment of a stage is called."""
    return "production" if stage in ("prod", "production", "live") else stage


def joined(words: Sequence[str]) -> str:
    """Words for a sentence."""
    return ", ".join(words)
