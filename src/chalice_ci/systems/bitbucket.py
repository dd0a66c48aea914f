"""What Bitbucket Pipelines says. Pure.

Source: Bitbucket's documentation, "Variables and secrets" (default variables) and "Pipeline start
conditions": the pipeline of a pull request runs only for one from within the repository, so none
is a fork's.

The destination's commit may be given as its first twelve digits, and then is none that could be
looked up with certainty: it counts as not told. Not told either: the default branch, and whether a
branch's pipeline was started by a push, by a schedule or by a person (`told.py`). A step that is
run again has the build number of the first time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said

_COMMIT = re.compile("[0-9a-f]{7,64}")
_SITE = "https://bitbucket.org"


def read(env: Mapping[str, str]) -> Said:
    """What the BITBUCKET_* variables say; raises UsageError."""
    build = variables.number(env, "BITBUCKET_BUILD_NUMBER")
    repository = variables.variable(
        env, "BITBUCKET_REPO_FULL_NAME", variables.REPOSITORY, "workspace/repository"
    )
    branch = variables.branch(env, "BITBUCKET_BRANCH")
    said = Said(
        repository=repository,
        commit=variables.commit(env, "BITBUCKET_COMMIT"),
        branch=branch,
        tag=variables.tag(env, "BITBUCKET_TAG"),
        actor=variables.line(env, "BITBUCKET_STEP_TRIGGERER_UUID"),
        order=None if build is None else RunOrder(id=build),
        attempts_told=False,
        run_key=variables.variable(
            env, "BITBUCKET_PIPELINE_UUID", variables.KEY, "the id of a pipeline"
        ),
        page=f"{_SITE}/{repository}/pipelines/results/{build}" if repository and build else None,
    )
    number = variables.number(env, "BITBUCKET_PR_ID")
    if number is None:
        return said
    base = variables.variable(env, "BITBUCKET_PR_DESTINATION_COMMIT", _COMMIT, "a commit id")
    return said.completed(
        Said(
            number=number,
            head_branch=branch,
            base_branch=variables.branch(env, "BITBUCKET_PR_DESTINATION_BRANCH"),
            base_sha=base if variables.SHA.fullmatch(base) else None,
            fork=False,
        )
    )
