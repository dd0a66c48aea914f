"""What Buildkite says. Pure.

Source: Buildkite's documentation, "Environment variables".

A build of a pull request names the repository that its head is in: another one than the pipeline's
is a fork. BUILDKITE_COMMIT is HEAD where a person asked for no commit in particular; then the
checkout tells it. BUILDKITE_RETRY_COUNT counts how often the job was started again. Not told: the
base's commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said

_SOURCE = re.compile("[a-z_]{1,40}")
_COMMIT = re.compile(r"HEAD|[0-9a-f]{7,64}")
_REPOSITORY = re.compile(r"[!-~]{1,500}")
_EVENTS = {
    "webhook": "push",
    "schedule": "schedule",
    "ui": "workflow_dispatch",
    "api": "repository_dispatch",
    "trigger_job": "repository_dispatch",
}


def read(env: Mapping[str, str]) -> Said:
    """What the BUILDKITE_* variables say; raises UsageError."""
    source = variables.variable(env, "BUILDKITE_SOURCE", _SOURCE, "the source of a build")
    commit = variables.variable(env, "BUILDKITE_COMMIT", _COMMIT, "a commit id or HEAD")
    build = variables.number(env, "BUILDKITE_BUILD_NUMBER")
    retries = variables.number(env, "BUILDKITE_RETRY_COUNT") or 0
    pull = variables.variable(
        env, "BUILDKITE_PULL_REQUEST", re.compile("false|[0-9]{1,9}"), "a number or false"
    )
    number = int(pull) if pull.isdigit() else None
    # Of a fork's branch the pipeline may put the owner in front, as in `mallory:main`.
    owner, colon, name = env.get("BUILDKITE_BRANCH", "").partition(":")
    branch = variables.branch({"BUILDKITE_BRANCH": name if colon else owner}, "BUILDKITE_BRANCH")
    tag = variables.tag(env, "BUILDKITE_TAG")
    own = _path(env, "BUILDKITE_REPO")
    said = Said(
        event=_EVENTS.get(source),
        repository=own,
        default_branch=variables.branch(env, "BUILDKITE_PIPELINE_DEFAULT_BRANCH"),
        commit=commit if variables.SHA.fullmatch(commit) else None,
        # Of a tag's build the branch is the tag's name.
        branch=branch if not tag else None,
        tag=tag,
        actor=variables.line(env, "BUILDKITE_BUILD_CREATOR"),
        order=None if build is None else RunOrder(id=build, attempt=retries + 1),
        run_key=variables.variable(env, "BUILDKITE_BUILD_ID", variables.KEY, "the id of a build"),
        page=variables.page(env, "BUILDKITE_BUILD_URL"),
    )
    if number is None:
        return said
    head = _path(env, "BUILDKITE_PULL_REQUEST_REPO")
    return said.completed(
        Said(
            number=number,
            head_branch=branch,
            base_branch=variables.branch(env, "BUILDKITE_PULL_REQUEST_BASE_BRANCH"),
            fork=bool(colon) or head != own if head and own else None,
            source=head,
            labels=variables.labels(env, "BUILDKITE_PULL_REQUEST_LABELS"),
            draft=variables.flag(env, "BUILDKITE_PULL_REQUEST_DRAFT"),
        )
    )


def _path(env: Mapping[str, str], name: str) -> str:
    """The repository of an address, "host/owner/name" in small letters, whatever its form.

    `git@host:owner/name.git`, `ssh://git@host/...` and `https://host/...` are one.
    """
    address = variables.variable(env, name, _REPOSITORY, "the address of a repository")
    rest = re.sub(r"^[a-z+]+://", "", address.lower())
    host, _, path = re.sub(r"^[^@/]*@", "", rest).replace(":", "/", 1).partition("/")
    return f"{host}/{path.strip('/').removesuffix('.git')}" if path else ""
