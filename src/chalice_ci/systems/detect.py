"""Which CI system this is. Pure.

Each system sets a variable that it documents as the sign of it. The order counts where one runs
inside another: a runner of GitHub, GitLab or Buildkite on a CodeBuild machine is theirs.

Sources, by system: GitHub "Variables reference" (GITHUB_ACTIONS), GitLab "Predefined CI/CD
variables reference" (GITLAB_CI), CircleCI "Project values and variables" (CIRCLECI), Buildkite
"Environment variables" (BUILDKITE), Bitbucket "Variables and secrets" (BITBUCKET_BUILD_NUMBER),
Azure Pipelines "Use predefined variables" (TF_BUILD), AWS CodeBuild "Environment variables in build
environments" (CODEBUILD_BUILD_ID), Jenkins "Using environment variables" (JENKINS_URL, which is set
where an administrator said it, and BUILD_TAG, `jenkins-<job>-<number>`).
"""

from __future__ import annotations

from collections.abc import Mapping

from chalice_ci.context import System

_FLAGS = (
    ("GITHUB_ACTIONS", System.GITHUB),
    ("GITLAB_CI", System.GITLAB),
    ("CIRCLECI", System.CIRCLECI),
    ("BUILDKITE", System.BUILDKITE),
    ("TF_BUILD", System.AZURE),
)
_PRESENT = (
    ("BITBUCKET_BUILD_NUMBER", System.BITBUCKET),
    ("CODEBUILD_BUILD_ID", System.CODEBUILD),
    ("JENKINS_URL", System.JENKINS),
)


def detect(env: Mapping[str, str]) -> System:
    """The system whose sign is set; `OTHER` where only `CI` is, `LOCAL` without any."""
    for name, system in _FLAGS:
        if env.get(name, "").lower() == "true":
            return system
    for name, system in _PRESENT:
        if env.get(name):
            return system
    if env.get("BUILD_TAG", "").startswith("jenkins-") and env.get("BUILD_NUMBER"):
        return System.JENKINS
    return System.OTHER if env.get("CI", "").lower() in ("1", "true") else System.LOCAL
