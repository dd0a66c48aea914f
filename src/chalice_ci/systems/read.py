"""From variables to a `Context`: the system, what it says, what is told beside it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chalice_ci.checkout import Checkout
from chalice_ci.context import Context, System
from chalice_ci.systems import (
    azure,
    bitbucket,
    buildkite,
    circleci,
    codebuild,
    github,
    gitlab,
    jenkins,
    told,
)
from chalice_ci.systems.detect import detect
from chalice_ci.systems.said import Said, context_of

_READERS: Mapping[System, Callable[[Mapping[str, str]], Said]] = {
    System.GITLAB: gitlab.read,
    System.CIRCLECI: circleci.read,
    System.JENKINS: jenkins.read,
    System.BITBUCKET: bitbucket.read,
    System.AZURE: azure.read,
    System.CODEBUILD: codebuild.read,
    System.BUILDKITE: buildkite.read,
}
_SILENT = {System.CIRCLECI, System.JENKINS, System.BITBUCKET}
"""Those that do not tell a push from a schedule or a person: it is taken for a push."""


def read_context(
    env: Mapping[str, str],
    payload: Mapping[str, object] | None = None,
    *,
    checkout: Checkout | None = None,
) -> Context:
    """What happened, from the variables, GitHub's payload and, where those say nothing, the
    checkout.

    Raises UsageError for what does not hold together.
    """
    system = detect(env)
    match system:
        case System.GITHUB:
            return github.read(env, payload, checkout)
        case System.LOCAL:
            return _local(checkout)
        case System.OTHER:
            return context_of(system, told.read(env), checkout)
    said = _READERS[system](env).completed(told.read(env))
    if system in _SILENT and (said.branch or said.tag):
        said = said.completed(Said(event="push"))
    return context_of(system, said, checkout)


def _local(checkout: Checkout | None) -> Context:
    """A laptop: nothing happened, and the checkout says where we are."""
    if checkout is None:
        return Context()
    return Context(
        default_branch=checkout.default_branch, commit=checkout.commit, branch=checkout.branch
    )
