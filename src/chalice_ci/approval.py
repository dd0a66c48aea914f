"""Who lets a plan be applied: an approval where the CI has no gate, and leave to lose things."""

from __future__ import annotations

from chalice_ci import destruction
from chalice_ci.errors import ForgeError, PlanRefused
from chalice_ci.inputs import ALLOW_DESTRUCTIVE
from chalice_ci.plan import Plan
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


def destruction_allowed(run: Run, job: Job) -> bool:
    """Whether this run may lose what holds an address or data: by input or by label."""
    asked = run.inputs.flag(ALLOW_DESTRUCTIVE)
    if asked or job.like is not None:
        return destruction.is_allowed(job, asked=asked, labels=())
    pull = run.context.pull_request
    labels = _labels_of_merged(run) if pull is None else pull.labels
    return run.context.trusted and destruction.is_allowed(job, asked=False, labels=labels)


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


def refuse_destruction(run: Run, job: Job, plan: Plan) -> None:
    """Raise PlanRefused when the plan loses something and nobody let it."""
    allowed = not plan.destructive or plan.destruction_allowed
    if not allowed and not destruction_allowed(run, job):
        destruction.refuse(job, plan.destructive)
