"""Who lets a plan be applied: an approval where the CI has no gate, and consent to what it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from chalice_ci import consent
from chalice_ci.errors import ForgeError, PlanRefused
from chalice_ci.plan import Ask, Consent, Plan
from chalice_ci.route import Job
from chalice_ci.run import Run


def ask_for_approval(run: Run, job: Job, digest: str) -> None:
    """Where the CI system has no gate, the folder that plays the forge keeps the question."""
    environment = job.policy.environment if job.policy else None
    if run.approvals is not None and environment is not None:
        run.approvals.request_approval(environment, digest)
        run.progress.say(f"waits for an approval of {environment}: {digest[:12]}", job=job.name)


def refuse_unapproved(run: Run, job: Job, digest: str) -> None:
    """Raise PlanRefused when the folder that plays the forge has no approval of this plan."""
    environment = job.policy.environment if job.policy else None
    if run.approvals is None or environment is None:
        return
    if not run.approvals.is_approved(environment, digest):
        raise PlanRefused(
            f"nobody has approved the plan {digest[:12]} for the environment {environment}.",
            where=job.name,
            fix="Let somebody who may approve it do so, then run this again.",
        )


def asks_of(run: Run, job: Job, found: Mapping[Consent, tuple[str, ...]]) -> tuple[Ask, ...]:
    """What of a plan needs consent, from its clauses, and whether that is given as it is made."""
    asks = (
        Ask(consent=kind, clauses=clauses, given=not consent.is_needed(kind, job))
        for kind, clauses in found.items()
        if clauses
    )
    return _answered(run, job, asks)


def refuse_without_consent(run: Run, job: Job, plan: Plan) -> None:
    """Raise PlanRefused when the plan does what nobody let it, then or now.

    What the stage's policy lets was asked when the plan was made: it is bound to that
    configuration, and where it is applied there may be none.
    """
    refused = tuple(ask for ask in _answered(run, job, plan.asks) if not ask.given)
    if refused:
        consent.refuse(job, refused)


def _answered(run: Run, job: Job, asks: Iterable[Ask]) -> tuple[Ask, ...]:
    """The asks, with what this run's inputs or the pull request's labels let."""
    found = tuple(
        replace(ask, given=ask.given or run.inputs.flag(consent.TERMS[ask.consent].input))
        for ask in asks
    )
    if all(ask.given for ask in found) or not run.context.trusted:
        return found
    pull = run.context.pull_request
    labels = _labels_of_merged(run) if pull is None else pull.labels
    return tuple(
        replace(ask, given=ask.given or consent.label(ask.consent, job.stage) in labels)
        for ask in found
    )


def _labels_of_merged(run: Run) -> tuple[str, ...]:
    """The labels of the pull request whose merge this run deploys; none when nobody can say."""
    commit = run.context.commit
    if run.forge is None or commit is None:
        return ()
    try:
        merged = run.forge.merged_as(commit)
    except ForgeError as error:
        run.progress.say(f"the merged pull request's labels can't be read: {error}")
        return ()
    return () if merged is None else merged.labels
