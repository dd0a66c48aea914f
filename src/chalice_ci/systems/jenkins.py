"""What Jenkins says. Pure.

Source: the list of variables that every Jenkins shows at /pipeline-syntax/globals#env, as its
plugins Branch API (BRANCH_NAME, BRANCH_IS_PRIMARY, CHANGE_*, TAG_NAME) and Git (GIT_COMMIT,
GIT_BRANCH) write it.

A build of a multibranch project knows its pull request (`change`): number, branches, author, and in
CHANGE_FORK the fork it comes from. CHANGE_BRANCH and CHANGE_FORK are of the same kind of source, so
without CHANGE_BRANCH it is not known whether there is a fork. Not told: the base's commit, and what
started the build, which the shared library tells (`told.py`) from the build's causes. The number of
a build grows within its job; a build that is run again gets a new one. GIT_COMMIT is the commit
that was checked out, which is a merge where the project is set to build merges.
"""

from __future__ import annotations

from collections.abc import Mapping

from chalice_ci.context import RunOrder
from chalice_ci.systems import variables
from chalice_ci.systems.said import Said


def read(env: Mapping[str, str]) -> Said:
    """What the variables of a build say; raises UsageError."""
    number = variables.number(env, "CHANGE_ID")
    tag = variables.tag(env, "TAG_NAME")
    build = variables.number(env, "BUILD_NUMBER")
    said = Said(
        commit=variables.commit(env, "GIT_COMMIT"),
        order=None if build is None else RunOrder(id=build),
        attempts_told=False,
        run_key=_key(env),
        page=variables.page(env, "BUILD_URL"),
    )
    if number is not None:
        return said.completed(_change(env, number))
    if tag:
        return said.completed(Said(tag=tag))
    # Outside of a multibranch project the Git plugin names the remote as well.
    branch = variables.branch(env, "BRANCH_NAME") or variables.branch(
        env, "GIT_BRANCH"
    ).removeprefix("origin/")
    primary = env.get("BRANCH_IS_PRIMARY") == "true"
    return said.completed(Said(branch=branch, default_branch=branch if primary else None))


def _change(env: Mapping[str, str], number: int) -> Said:
    source = variables.variable(
        env, "CHANGE_FORK", variables.LINE, "the name of a repository or of its owner"
    )
    head = variables.branch(env, "CHANGE_BRANCH")
    return Said(
        number=number,
        head_branch=head,
        base_branch=variables.branch(env, "CHANGE_TARGET"),
        fork=True if source else False if head else None,
        source=source,
        author=variables.line(env, "CHANGE_AUTHOR"),
        actor=variables.line(env, "CHANGE_AUTHOR"),
    )


def _key(env: Mapping[str, str]) -> str:
    """The build's name on its server; folders in a job's name may hold blanks."""
    build = variables.line(env, "BUILD_TAG")
    server = variables.address(env, "JENKINS_URL")
    return f"{build} {server}".strip().replace(" ", "-") if build else ""
