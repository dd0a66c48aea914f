"""What the variables of a CI system say, and how that becomes a `Context`. Pure.

A system tells some things and leaves others out. What it leaves out may be told by whoever set the
job up (`told.py`), else by the checkout; what nobody tells stays unknown, and where it is about
trust, unknown is untrusted.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from chalice_ci.checkout import Checkout
from chalice_ci.context import Context, PullRequest, RunOrder, System
from chalice_ci.errors import UsageError

_NO_AWS = "its code gets no credential, and nothing is done in AWS."


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one source says; None is what it does not say.

    `event` and `action` are GitHub's names. `number` is the pull request's, and the four fields
    after it are the pull request's own. `fork` is whether its head is of another repository.
    """

    event: str | None = None
    action: str | None = None
    repository: str | None = None
    server_url: str | None = None
    api_url: str | None = None
    default_branch: str | None = None
    commit: str | None = None
    branch: str | None = None
    tag: str | None = None
    number: int | None = None
    head_branch: str | None = None
    base_branch: str | None = None
    base_sha: str | None = None
    fork: bool | None = None
    source: str | None = None
    labels: tuple[str, ...] | None = None
    draft: bool | None = None
    merged: bool | None = None
    author: str | None = None
    actor: str | None = None
    order: RunOrder | None = None
    run_key: str | None = None
    page: str | None = None
    attempts_told: bool = True
    environment: str | None = None

    def completed(self, other: Said) -> Said:
        """What both say; where they differ it is what `self` says."""
        gaps = {
            each.name: getattr(other, each.name)
            for each in fields(self)
            if getattr(self, each.name) in (None, "")
        }
        return replace(self, **gaps)


def context_of(system: System, said: Said, checkout: Checkout | None) -> Context:
    """What happened; raises UsageError where a pull request's base cannot be known at all."""
    commit = said.commit or (checkout.commit if checkout else None)
    default_branch = said.default_branch or (checkout.default_branch if checkout else None)
    pull = None
    if said.number is not None:
        pull = _pull_request(replace(said, commit=commit, default_branch=default_branch))
    trusted, trust = _trust(said, pull)
    branch, tag = (None, None) if pull else (said.branch or None, said.tag or None)
    if checkout and not (pull or branch or tag):
        branch = checkout.branch
    return Context(
        system=system,
        event="pull_request" if pull else said.event or "",
        action=said.action or "",
        repository=said.repository or "",
        default_branch=default_branch,
        commit=commit,
        branch=None if tag else branch,
        tag=tag,
        pull_request=pull,
        actor=said.actor or "",
        run=said.order,
        run_key=said.run_key or "",
        attempts_told=said.attempts_told,
        environment=said.environment or "",
        page=said.page or "",
        server_url=said.server_url or "",
        api_url=said.api_url or "",
        trusted=trusted,
        trust=trust,
    )


def _pull_request(said: Said) -> PullRequest:
    assert said.number is not None
    base = said.base_branch or said.default_branch
    for value, what, name in (
        (said.commit, "the commit of the pull request", "CHALICE_CI_COMMIT"),
        (base, "the branch that the pull request would be merged into", "CHALICE_CI_BASE_BRANCH"),
    ):
        if not value:
            raise UsageError(
                f"{what} is not known: the CI system does not tell it, nor does the checkout.",
                where=f"variable {name}",
                fix=f"Set {name} in the job.",
            )
    return PullRequest(
        number=said.number,
        head_sha=said.commit or "",
        base_sha=said.base_sha or "",
        head_branch=said.head_branch or "",
        base_branch=base or "",
        fork=said.fork is not False,
        source=said.source or "",
        labels=said.labels or (),
        labels_told=said.labels is not None,
        open=said.action != "closed",
        merged=bool(said.merged),
        draft=bool(said.draft),
        author=said.author or "",
    )


def _trust(said: Said, pull: PullRequest | None) -> tuple[bool, str]:
    if said.fork:
        who = f"the fork {said.source}" if said.source else "a fork"
        return False, f"The pull request comes from {who}: {_NO_AWS}"
    if pull is not None and said.fork is None:
        return False, (
            "The CI system does not tell whether the pull request comes from a fork, so it is "
            f"taken for one: {_NO_AWS} Where it can't be, set CHALICE_CI_FORK=false in the job."
        )
    if pull is not None:
        return True, "The pull request comes from a branch of this repository."
    return True, "Only who may write to this repository can cause this."
