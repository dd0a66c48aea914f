"""What AWS CodeBuild says, also as an action of CodePipeline. Pure.

Source: AWS's documentation, "Environment variables in build environments" and "Use webhooks with
CodeBuild".

A build that a webhook started says branch, tag or pull request in CODEBUILD_WEBHOOK_TRIGGER
(`branch/main`, `tag/v1`, `pr/42`). It never says whether the head is a fork's, and a webhook
without a filter builds forks: a pull request is untrusted until CHALICE_CI_FORK=false says that the
filter lets none in. A build that a pipeline started has the pipeline's name as initiator and knows
neither branch nor execution: the pipeline tells them (`told.py`) from
`#{SourceVariables.BranchName}` and `#{codepipeline.PipelineExecutionId}`. Not told: the base's
commit, the default branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said

_TRIGGER = re.compile(r"(?:branch|tag|pr)/.{1,500}")
_EVENT = re.compile("[A-Z_]{1,60}")
_ACTIONS = {
    "PULL_REQUEST_CREATED": "opened",
    "PULL_REQUEST_UPDATED": "synchronize",
    "PULL_REQUEST_REOPENED": "reopened",
    "PULL_REQUEST_MERGED": "closed",
    "PULL_REQUEST_CLOSED": "closed",
}
_PIPELINE = "codepipeline/"


def read(env: Mapping[str, str]) -> Said:
    """What the CODEBUILD_* variables say; raises UsageError."""
    build = variables.number(env, "CODEBUILD_BUILD_NUMBER")
    initiator = variables.line(env, "CODEBUILD_INITIATOR")
    said = Said(
        commit=_commit(env),
        actor=initiator,
        order=None if build is None else RunOrder(id=build),
        attempts_told=False,
        # Each action of a pipeline is a build: only the pipeline knows what joins them.
        run_key=None
        if initiator.startswith(_PIPELINE)
        else variables.variable(env, "CODEBUILD_BUILD_ID", variables.KEY, "the id of a build"),
        page=variables.page(env, "CODEBUILD_BUILD_URL"),
    )
    trigger = variables.variable(
        env, "CODEBUILD_WEBHOOK_TRIGGER", _TRIGGER, "branch/, tag/ or pr/ and a name"
    )
    kind, _, name = trigger.partition("/")
    where = "variable CODEBUILD_WEBHOOK_TRIGGER"
    if kind in ("branch", "tag") and not variables.REF.fullmatch(name):
        raise variables.not_a(where, f"the name of a {kind}", name)
    match kind:
        case "branch":
            return said.completed(Said(event="push", branch=name))
        case "tag":
            return said.completed(Said(event="push", tag=name))
        case "pr":
            if not re.fullmatch("[0-9]{1,9}", name):
                raise variables.not_a(where, "the number of a pull request", name)
            return said.completed(_pull_request(env, int(name)))
    return said


def _pull_request(env: Mapping[str, str], number: int) -> Said:
    event = variables.variable(env, "CODEBUILD_WEBHOOK_EVENT", _EVENT, "the name of an event")
    return Said(
        number=number,
        action=_ACTIONS.get(event),
        merged=event == "PULL_REQUEST_MERGED",
        head_branch=variables.branch(env, "CODEBUILD_WEBHOOK_HEAD_REF"),
        base_branch=variables.branch(env, "CODEBUILD_WEBHOOK_BASE_REF"),
    )


def _commit(env: Mapping[str, str]) -> str | None:
    """What the source came to; of a source in S3 that is no commit."""
    version = variables.line(env, "CODEBUILD_RESOLVED_SOURCE_VERSION")
    return version if variables.SHA.fullmatch(version) else None
