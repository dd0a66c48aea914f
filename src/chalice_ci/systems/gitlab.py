"""What GitLab says. Pure.

Source: GitLab's documentation, "Predefined CI/CD variables reference" and "CI/CD pipelines: job
rules, CI_PIPELINE_SOURCE".

The pipeline's id grows over the whole server, and every job of a pipeline has it, also one that was
started again: a retry can't be told from the first run. No pipeline says that a merge request was
closed; GitLab starts the job that stops its environment then (also when the environment's time is
over), and such a job is told as `closed`. The base that it names is the merge base as it was when
the commit was pushed, the branch's tip only in a pipeline for merged results. A pipeline of a merge
train tests what is about to be merged: `merge_group`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said

_PROJECT = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}){1,30}"
)
_SOURCE = re.compile("[a-z_]{1,60}")
_EVENTS = {
    "push": "push",
    "webide": "push",
    "schedule": "schedule",
    "web": "workflow_dispatch",
    "chat": "workflow_dispatch",
    "api": "repository_dispatch",
    "trigger": "repository_dispatch",
    "pipeline": "repository_dispatch",
    "parent_pipeline": "repository_dispatch",
}
"""What started a pipeline; any other source, such as a mirror's pull request, is only checked."""


def read(env: Mapping[str, str]) -> Said:
    """What the CI_* variables say; raises UsageError."""
    source = variables.variable(env, "CI_PIPELINE_SOURCE", _SOURCE, "the source of a pipeline")
    pipeline = variables.number(env, "CI_PIPELINE_ID")
    said = Said(
        event=_EVENTS.get(source, ""),
        repository=_project(env, "CI_PROJECT_PATH"),
        server_url=variables.address(env, "CI_SERVER_URL"),
        api_url=variables.address(env, "CI_API_V4_URL"),
        default_branch=variables.branch(env, "CI_DEFAULT_BRANCH"),
        commit=variables.commit(env, "CI_COMMIT_SHA"),
        branch=variables.branch(env, "CI_COMMIT_BRANCH"),
        tag=variables.tag(env, "CI_COMMIT_TAG"),
        actor=variables.line(env, "GITLAB_USER_LOGIN"),
        order=None if pipeline is None else RunOrder(id=pipeline),
        attempts_told=False,
        environment=variables.line(env, "CI_ENVIRONMENT_NAME"),
        page=variables.page(env, "CI_PIPELINE_URL"),
    )
    number = variables.number(env, "CI_MERGE_REQUEST_IID")
    return said if number is None else _merge_request(env, said, number)


def _merge_request(env: Mapping[str, str], said: Said, number: int) -> Said:
    own = variables.number(env, "CI_MERGE_REQUEST_PROJECT_ID")
    head = variables.number(env, "CI_MERGE_REQUEST_SOURCE_PROJECT_ID")
    request = replace(
        said,
        # A source project that was deleted since has no id.
        fork=own is None or own != head,
        source=_project(env, "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH"),
    )
    if env.get("CI_MERGE_REQUEST_EVENT_TYPE") == "merge_train":
        return replace(request, event="merge_group")
    return replace(
        request,
        number=number,
        action="closed" if env.get("CI_ENVIRONMENT_ACTION") == "stop" else None,
        # In a pipeline for merged results CI_COMMIT_SHA is the merge that GitLab made.
        commit=variables.commit(env, "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or said.commit,
        head_branch=variables.branch(env, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"),
        base_branch=variables.branch(env, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"),
        base_sha=variables.commit(env, "CI_MERGE_REQUEST_TARGET_BRANCH_SHA")
        or variables.commit(env, "CI_MERGE_REQUEST_DIFF_BASE_SHA"),
        labels=variables.labels(env, "CI_MERGE_REQUEST_LABELS"),
        draft=variables.flag(env, "CI_MERGE_REQUEST_DRAFT"),
    )


def _project(env: Mapping[str, str], name: str) -> str:
    return variables.variable(env, name, _PROJECT, "the path of a project")
