"""What Azure Pipelines says. Pure.

Source: Microsoft's documentation, "Use predefined variables" (Build.*, System.PullRequest.*; in the
environment in upper case with underscores) and "Build.Reason".

A pull request's number is System.PullRequest.PullRequestNumber where the code is on GitHub (the id
beside it is GitHub's own), and System.PullRequest.PullRequestId in Azure Repos. Not told: the
base's commit, labels (Azure Repos is asked for them), the default branch. Build.SourceVersion is
the merge that the server made; the head is System.PullRequest.SourceCommitId.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said

_REASON = re.compile("[A-Za-z]{1,40}")
_EVENTS = {
    "IndividualCI": "push",
    "BatchedCI": "push",
    "Schedule": "schedule",
    "Manual": "workflow_dispatch",
    "ResourceTrigger": "repository_dispatch",
    "BuildCompletion": "repository_dispatch",
}


def read(env: Mapping[str, str]) -> Said:
    """What the BUILD_* and SYSTEM_* variables say; raises UsageError."""
    reason = variables.variable(env, "BUILD_REASON", _REASON, "the reason of a build")
    build = variables.number(env, "BUILD_BUILDID")
    attempt = variables.number(env, "SYSTEM_JOBATTEMPT") or 1
    ref = variables.variable(env, "BUILD_SOURCEBRANCH", variables.REF, "the name of a ref")
    collection = variables.address(env, "SYSTEM_COLLECTIONURI")
    project = variables.line(env, "SYSTEM_TEAMPROJECT")
    place = f"{collection}/{quote(project)}" if collection and project else ""
    said = Said(
        event=_EVENTS.get(reason),
        repository=variables.line(env, "BUILD_REPOSITORY_NAME"),
        commit=variables.commit(env, "BUILD_SOURCEVERSION"),
        branch=ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else None,
        tag=ref.removeprefix("refs/tags/") if ref.startswith("refs/tags/") else None,
        actor=variables.line(env, "BUILD_REQUESTEDFOR"),
        order=None if build is None else RunOrder(id=build, attempt=attempt),
        run_key=f"{place} build {build}" if build is not None and place else None,
        page=f"{place}/_build/results?buildId={build}" if build is not None and place else None,
    )
    number = variables.number(env, "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER")
    if number is None:
        number = variables.number(env, "SYSTEM_PULLREQUEST_PULLREQUESTID")
    if number is None:
        return said
    head = variables.commit(env, "SYSTEM_PULLREQUEST_SOURCECOMMITID")
    return Said(
        number=number,
        commit=head,
        head_branch=variables.branch(env, "SYSTEM_PULLREQUEST_SOURCEBRANCH"),
        base_branch=variables.branch(env, "SYSTEM_PULLREQUEST_TARGETBRANCH"),
        fork=variables.flag(env, "SYSTEM_PULLREQUEST_ISFORK"),
    ).completed(said)
