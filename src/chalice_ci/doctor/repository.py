"""Who may deploy, as the repository's settings say it. Pure but for the port it reads through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from chalice_ci import rules
from chalice_ci.doctor.guide import GITHUB, Guide
from chalice_ci.errors import ForgeError
from chalice_ci.findings import Finding
from chalice_ci.forge.settings import Branch, Settings


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the configuration needs of the repository.

    `environments` are those that stages name, with their stage; `state_branch` is empty when states
    are kept elsewhere. With `jobs_write` jobs have to: the record of what is deployed is pushed.
    """

    environments: tuple[tuple[str, str], ...] = ()
    default_branch: str = "main"
    state_branch: str = ""
    jobs_write: bool = False


@dataclass(kw_only=True)
class Unseen:
    """What could not be looked at, in sentences."""

    notes: list[str] = field(default_factory=list)


def repository_findings(
    settings: Settings, wanted: Wanted, unseen: Unseen, guide: Guide = GITHUB
) -> Iterator[Finding]:
    """What is wrong with the settings; what this token is not shown is noted in `unseen`."""
    looks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        (f"environment {name}", partial(_environment, settings, name, stage, unseen, guide))
        for name, stage in wanted.environments
    ]
    looks.append(("the default branch", lambda: _default_branch(settings, wanted, unseen, guide)))
    if wanted.state_branch:
        looks.append(("the state branch", lambda: _state_branch(settings, wanted, unseen, guide)))
    if not wanted.jobs_write:
        looks.append(("the permissions of workflows", lambda: _token(settings, guide)))
    for what, look in looks:
        try:
            yield from list(look())
        except ForgeError as error:
            unseen.notes.append(f"{what} could not be looked at: {error.what}")


def _environment(
    settings: Settings, name: str, stage: str, unseen: Unseen, guide: Guide
) -> Iterator[Finding]:
    found = settings.environment(name)
    if found is None:
        yield rules.finding(
            "environment-missing",
            what=f"stage {stage} deploys to environment {name}, and there is none.",
            fix=guide.missing_environment.format(name=name),
            subject=name,
            stage=stage,
        )
        return
    if not found.complete:
        unseen.notes.append(f"environment {name}: {guide.hidden_environment}")
        return
    if not found.reviewers:
        yield rules.finding(
            "environment-without-reviewers",
            what=f"nobody has to approve what goes to environment {name}.",
            fix=guide.reviewers.format(name=name),
            subject=name,
            stage=stage,
        )
    elif not found.self_review_prevented:
        yield rules.finding(
            "environment-self-review",
            what=f"whoever starts a deployment to {name} may approve it alone.",
            fix=guide.self_review.format(name=name),
            subject=name,
            stage=stage,
        )
    if not found.branches_restricted:
        yield rules.finding(
            "environment-any-branch",
            what=f"a workflow of any branch may deploy to environment {name}.",
            fix=guide.any_branch.format(name=name),
            subject=name,
            stage=stage,
        )


def _default_branch(
    settings: Settings, wanted: Wanted, unseen: Unseen, guide: Guide
) -> Iterator[Finding]:
    name = wanted.default_branch
    found = settings.branch(name)
    if found is None:
        unseen.notes.append(f"branch {name} is not on {settings.name}.")
        return
    if not _shown(name, found, unseen, guide):
        return
    if found.reviews is None:
        unseen.notes.append(f"branch {name}: {guide.hidden_review}")
    elif not found.reviews:
        yield rules.finding(
            "branch-without-review",
            what=f"what reaches {name} needs nobody's approval, and it is deployed.",
            fix=guide.review.format(name=name),
            subject=name,
        )
    if _rewritable(found):
        yield rules.finding(
            "branch-rewritable",
            what=f"the history of {name} can be rewritten or deleted.",
            fix=guide.rewritable.format(name=name),
            subject=name,
        )


def _shown(name: str, found: Branch, unseen: Unseen, guide: Guide) -> bool:
    """Whether the token is shown how a branch is protected; a note when it is not."""
    if not found.complete:
        unseen.notes.append(f"branch {name} is protected; {guide.hidden_branch}")
    return found.complete


def _rewritable(found: Branch) -> bool:
    return not (found.force_push_blocked and found.deletion_blocked)


def _state_branch(
    settings: Settings, wanted: Wanted, unseen: Unseen, guide: Guide
) -> Iterator[Finding]:
    name = wanted.state_branch
    found = settings.branch(name)
    if found is None:
        # The first deployment makes it.
        return
    if not _shown(name, found, unseen, guide):
        return
    if _rewritable(found):
        yield rules.finding(
            "state-branch-rewritable",
            what=f"the records on {name} can be rewritten or deleted.",
            fix=guide.rewritable_state.format(name=name),
            subject=name,
        )


def _token(settings: Settings, guide: Guide) -> Iterator[Finding]:
    if settings.jobs_may_write():
        yield rules.finding(
            "workflow-token-writes",
            what=guide.jobs_write,
            fix=guide.jobs,
        )
