"""What CircleCI says. Pure.

Source: CircleCI's documentation, "Project values and variables".

A job is of a branch or a tag; that the branch has a pull request is told by the pull request's
address, never what it would be merged into. That one comes from a fork is told for projects of the
older GitHub integration and of Bitbucket, which know the repository by CIRCLE_PROJECT_REPONAME: of
a fork's there are CIRCLE_PR_NUMBER, CIRCLE_PR_REPONAME and CIRCLE_PR_USERNAME. Elsewhere it is not
known. Not told either, and for the orb to tell (`told.py`) from pipeline values: whether a schedule
or a person started it, the default branch, a number of the pipeline. CIRCLE_BUILD_NUM is the job's
and grows with every job of the project, so it says which of two runs is the newer one; jobs that
were started again get a new one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said

_PULL = re.compile(r"https?://[!-~]{1,500}/(?:pull|pull-requests|merge_requests)/([0-9]{1,9})")


def read(env: Mapping[str, str]) -> Said:
    """What the CIRCLE_* variables say; raises UsageError."""
    job = variables.number(env, "CIRCLE_BUILD_NUM")
    owner = variables.variable(env, "CIRCLE_PROJECT_USERNAME", variables.NAME, "an organization")
    name = variables.variable(env, "CIRCLE_PROJECT_REPONAME", variables.NAME, "a repository's name")
    branch = variables.branch(env, "CIRCLE_BRANCH")
    number = _number(env)
    return Said(
        repository=f"{owner}/{name}" if owner and name else None,
        commit=variables.commit(env, "CIRCLE_SHA1"),
        branch=branch,
        tag=variables.tag(env, "CIRCLE_TAG"),
        number=number,
        # The branch of a fork's pull request is called pull/<number>.
        head_branch=branch if number is not None else None,
        fork=_fork(env, name) if number is not None else None,
        source=_source(env),
        actor=variables.line(env, "CIRCLE_USERNAME"),
        order=None if job is None else RunOrder(id=job),
        attempts_told=False,
        run_key=variables.variable(
            env, "CIRCLE_WORKFLOW_ID", variables.KEY, "the id of a workflow's run"
        ),
        page=variables.page(env, "CIRCLE_BUILD_URL"),
    )


def _number(env: Mapping[str, str]) -> int | None:
    of_fork = variables.number(env, "CIRCLE_PR_NUMBER")
    if of_fork is not None:
        return of_fork
    address = variables.variable(env, "CIRCLE_PULL_REQUEST", _PULL, "the address of a pull request")
    found = _PULL.fullmatch(address)
    return int(found[1]) if found else None


def _fork(env: Mapping[str, str], name: str) -> bool | None:
    told = ("CIRCLE_PR_NUMBER", "CIRCLE_PR_REPONAME", "CIRCLE_PR_USERNAME")
    if any(env.get(variable) for variable in told):
        return True
    return False if name else None


def _source(env: Mapping[str, str]) -> str | None:
    owner = variables.variable(env, "CIRCLE_PR_USERNAME", variables.NAME, "the name of a user")
    name = variables.variable(env, "CIRCLE_PR_REPONAME", variables.NAME, "a repository's name")
    return f"{owner}/{name}" if owner and name else None
