"""What a repository is, as far as its set-up depends on it, and what a person chose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PRODUCTION = re.compile(r"(?:prod|production|live)(?:[-_].*)?", re.IGNORECASE)
_SYSTEMS: Mapping[str, str] = {
    ".github": "GitHub",
    ".gitlab-ci.yml": "GitLab",
    ".circleci": "CircleCI",
    "Jenkinsfile": "Jenkins",
    "bitbucket-pipelines.yml": "Bitbucket",
    "azure-pipelines.yml": "Azure Pipelines",
    ".buildkite": "Buildkite",
    "buildspec.yml": "AWS CodeBuild",
}


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
    path, and `gitlab` the server's name.
    """

    apps: tuple[App, ...]
    branch: str
    repository: str = ""
    account: str = ""
    region: str = ""
    previews: bool = False
    gitlab: str = ""

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


def systems(root: Path) -> tuple[str, ...]:
    """The CI systems whose files are there."""
    return tuple(name for file, name in _SYSTEMS.items() if (root / file).exists())


def environment_of(stage: str) -> str:
    """How the GitHub environment of a stage is called."""
    return "production" if stage in ("prod", "production", "live") else stage


def joined(words: Sequence[str]) -> str:
    """Words for a sentence."""
    return ", ".join(words)
