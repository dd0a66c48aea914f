"""What whoever set the job up tells, where the variables of the CI system say nothing. Pure.

The plugins set these from what their system knows and does not put into the environment (a pipeline
value of CircleCI, a cause of Jenkins, a variable of CodePipeline); for a system that is not known
here they are all there is. They fill gaps: what the system says itself is not overridden.

- CHALICE_CI_EVENT: push, pull_request, schedule or workflow_dispatch (a person asked)
- CHALICE_CI_PULL_REQUEST: the pull request's number
- CHALICE_CI_COMMIT, CHALICE_CI_BRANCH, CHALICE_CI_TAG: what is checked out, of a pull request its
  head
- CHALICE_CI_BASE_BRANCH, CHALICE_CI_BASE_COMMIT: what a pull request would be merged into
- CHALICE_CI_FORK: false where a pull request can't come from a fork
- CHALICE_CI_DEFAULT_BRANCH: the repository's default branch
- CHALICE_CI_RUN: what the run is called that the jobs of planning and deploying are both of
- CHALICE_CI_RUN_NUMBER: a number that grows with every run
- CHALICE_CI_RUN_URL: the run's address

Whoever may set them may change the job's commands as well, so they widen nobody's rights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said

_EVENT = re.compile("push|pull_request|schedule|workflow_dispatch")


def read(env: Mapping[str, str]) -> Said:
    """What the CHALICE_CI_* variables above say; raises UsageError."""
    order = variables.number(env, "CHALICE_CI_RUN_NUMBER")
    return Said(
        event=variables.variable(
            env,
            "CHALICE_CI_EVENT",
            _EVENT,
            "push, pull_request, schedule or workflow_dispatch",
        ),
        number=variables.number(env, "CHALICE_CI_PULL_REQUEST"),
        commit=variables.commit(env, "CHALICE_CI_COMMIT"),
        branch=variables.branch(env, "CHALICE_CI_BRANCH"),
        head_branch=variables.branch(env, "CHALICE_CI_BRANCH"),
        tag=variables.tag(env, "CHALICE_CI_TAG"),
        base_branch=variables.branch(env, "CHALICE_CI_BASE_BRANCH"),
        base_sha=variables.commit(env, "CHALICE_CI_BASE_COMMIT"),
        fork=variables.flag(env, "CHALICE_CI_FORK"),
        default_branch=variables.branch(env, "CHALICE_CI_DEFAULT_BRANCH"),
        order=None if order is None else RunOrder(id=order),
        run_key=variables.variable(env, "CHALICE_CI_RUN", variables.KEY, "the name of a run"),
        page=variables.page(env, "CHALICE_CI_RUN_URL"),
    )
