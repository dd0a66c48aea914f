"""Who may deploy, as the repository's settings say it. Pure but for the port it reads through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from chalice_ci import rules
from chalice_ci.errors import ForgeError
from chalice_ci.findings import Finding
from chalice_ci.forge.settings import Branch, Settings


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the configuration needs of the repository.

    `environments` are those that stages name, with their stage; `state_branch` is empty when states
    are kept elsewhere.
    """

    environments: tuple[tuple[str, str], ...] = ()
    default_branch: str = "main"
    state_branch: str = ""


@dataclass(kw_only=True)
class Unseen:
    """What could not be looked at, in sentences."""

    notes: list[str] = field(default_factory=list)


def repository_findings(settings: Settings, wanted: Wanted, unseen: Unseen) -> Iterator[Finding]:
    """What is wrong with the settings; what this token is not shown is noted in `unseen`."""
    looks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        (f"environment {name}", partial(_environment, settings, name, stage))
        for name, stage in wanted.environments
    ]
    looks.append(("the default branch", lambda: _default_branch(settings, wanted, unseen)))
    if wanted.state_branch:
        looks.append(("the state branch", lambda: _state_branch(settings, wanted, unseen)))
    looks.append(("the permissions of workflows", lambda: _token(settings)))
    for what, look in looks:
        try:
            yield from list(look())
        except ForgeError as error:
            unseen.notes.append(f"{what} could not be looked at: {error.what}")


def _environment(settings: Settings, name: str, stage: str) -> Iterator[Finding]:
    found = settings.environment(name)
    place = f"Settings → Environments → {name}"
    if found is None:
        yield rules.finding(
            "environment-missing",
            what=f"stage {stage} deploys to environment {name}, and there is none.",
            fix=f"Make it: {place}, with required reviewers. GitHub makes one without any "
            "protection when a job names it first.",
            subject=name,
            stage=stage,
        )
        return
    if not found.reviewers:
        yield rules.finding(
            "environment-without-reviewers",
            what=f"nobody has to approve what goes to environment {name}.",
            fix=f"{place}: tick `Required reviewers` and name people or a team.",
            subject=name,
            stage=stage,
        )
    elif not found.self_review_prevented:
        yield rules.finding(
            "environment-self-review",
            what=f"whoever starts a deployment to {name} may approve it alone.",
            fix=f"{place}: tick `Prevent self-review`.",
            subject=name,
            stage=stage,
        )
    if not found.branches_restricted:
        yield rules.finding(
            "environment-any-branch",
            what=f"a workflow of any branch may deploy to environment {name}.",
            fix=f"{place}: set `Deployment branches and tags` to what deploys the stage.",
            subject=name,
            stage=stage,
        )


def _default_branch(settings: Settings, wanted: Wanted, unseen: Unseen) -> Iterator[Finding]:
    name = wanted.default_branch
    found = settings.branch(name)
    place = "Settings → Rules → Rulesets"
    if found is None:
        unseen.notes.append(f"branch {name} is not on {settings.name}.")
        return
    if not _shown(name, found, unseen):
        return
    if not found.reviews:
        yield rules.finding(
            "branch-without-review",
            what=f"what reaches {name} needs nobody's approval, and it is deployed.",
            fix=f"{place}: for {name} require a pull request with at least one approval.",
            subject=name,
        )
    if _rewritable(found):
        yield rules.finding(
            "branch-rewritable",
            what=f"the history of {name} can be rewritten or deleted.",
            fix=f"{place}: for {name} restrict deletions and block force pushes.",
            subject=name,
        )


def _shown(name: str, found: Branch, unseen: Unseen) -> bool:
    """Whether the token is shown how a branch is protected; a note when it is not."""
    if not found.complete:
        unseen.notes.append(
            f"branch {name} is protected; how, only a token with `administration: read` is shown."
        )
    return found.complete


def _rewritable(found: Branch) -> bool:
    return not (found.force_push_blocked and found.deletion_blocked)


def _state_branch(settings: Settings, wanted: Wanted, unseen: Unseen) -> Iterator[Finding]:
    name = wanted.state_branch
    found = settings.branch(name)
    if found is None:
        # The first deployment makes it.
        return
    if not _shown(name, found, unseen):
        return
    if _rewritable(found):
        yield rules.finding(
            "state-branch-rewritable",
            what=f"the records on {name} can be rewritten or deleted.",
            fix=f"Settings → Rules → Rulesets: for {name} restrict deletions and block force "
            "pushes. Don't require pull requests there: deployments write to it.",
            subject=name,
        )


def _token(settings: Settings) -> Iterator[Finding]:
    if settings.jobs_may_write():
        yield rules.finding(
            "workflow-token-writes",
            what="the token of every job may write, unless its workflow says otherwise.",
            fix="Settings → Actions → General → Workflow permissions: read repository contents.",
        )
