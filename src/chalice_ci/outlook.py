"""What comes next for a stage: what it still needs before it is deployed, and who does what. Pure.

For a stage that a pull request checks, or rehearses, it is the way from there to its deployment;
for everything else what to do about how it ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from chalice_ci import consent
from chalice_ci.config import DeployOn
from chalice_ci.plan import Consent
from chalice_ci.report.report import Intent, Need, Package, Result, Verdict
from chalice_ci.route import Job


@dataclass(frozen=True, kw_only=True)
class Live:
    """What is recorded as live in the stage that is needed first: sha256 of each archive by slot.

    None: nothing is recorded, or not in detail.
    """

    stage: str
    digests: dict[str, str] | None = None


def with_outlook(
    result: Result,
    job: Job,
    *,
    base_branch: str,
    labels: Collection[str],
    passed: bool,
    live: Live | None,
) -> Result:
    """The result of a check with what is next, and with what a guarded stage still needs.

    `live` is what the needed stage holds, for a stage that needs one; `passed` whether the check
    stands in nobody's way.
    """
    if result.intent not in (Intent.CHECK, Intent.REHEARSE) or job.like is not None:
        return with_next_step(result, job)
    changes = result.changes
    if passed and changes is not None and changes.known and changes.empty:
        # Nothing to be done: one quiet row.
        return result
    ref = deploys(job)
    needs = tuple(_needs(result, job, ref, base_branch, labels, passed=passed, live=live))
    guarded = job.policy is not None and (job.policy.environment or job.policy.needs)
    return replace(
        result,
        needs=needs if guarded or any(need.asks for need in needs) else (),
        next_step=_next(result, job, ref, base_branch, labels),
    )


def with_next_step(result: Result, job: Job) -> Result:
    """The result of what was planned, deployed or deleted, with what to do about it."""
    return replace(result, next_step=_after(result, job))


def _after(result: Result, job: Job) -> str:
    match result.verdict:
        case Verdict.FAILED if result.intent is Intent.REMOVE:
            return "start this job again: it takes up what is left, and so does the next sweep"
        case Verdict.FAILED:
            return "mend what is told below, and push; or start this job again"
        case Verdict.FINDINGS:
            return "mend what is told below, and push"
        case Verdict.OK if result.intent is Intent.PLAN and result.plan and job.policy:
            environment = job.policy.environment
            return f"approve it in the environment `{environment}`" if environment else ""
    return ""


def deploys(job: Job) -> DeployOn | None:
    """The ref that deploys this app to the stage, None when it has to be named."""
    own = dict(job.app.deploy_on).get(job.stage)
    return own or (job.policy.deploy_on if job.policy else None)


def _needs(
    result: Result,
    job: Job,
    ref: DeployOn | None,
    base_branch: str,
    labels: Collection[str],
    *,
    passed: bool,
    live: Live | None,
) -> Iterator[Need]:
    yield Need(text="The checks pass", met=passed)
    for kind in _asked(result, job):
        name = consent.label(kind, job.stage)
        text = f"{consent.TERMS[kind].need}: the label `{name}`"
        yield Need(text=text, met=name in labels, asks=True)
    if ref is not None and ref.branch != base_branch:
        yield Need(text=_ref_in_words(ref))
    elif ref is not None:
        yield Need(text=f"The merge into `{base_branch}`")
    if live is not None:
        same = live.digests is not None and live.digests == _digests(result.package)
        yield Need(text=f"The same package is live in {live.stage}", met=same)
    if job.policy is not None and job.policy.environment:
        yield Need(text=f"A reviewer approves it in the environment `{job.policy.environment}`")


def _asked(result: Result, job: Job) -> Iterator[Consent]:
    """What a person has to let, as far as the difference tells."""
    changes = result.changes
    for kind, terms in consent.TERMS.items():
        if changes is not None and terms.found(changes) and consent.is_needed(kind, job):
            yield kind


def _digests(package: Package | None) -> dict[str, str]:
    return {} if package is None else {one.slot: one.sha256 for one in package.archives}


def _ref_in_words(ref: DeployOn) -> str:
    return f"A tag `{ref.tag}`" if ref.tag else f"A push to `{ref.branch}`"


def _next(
    result: Result, job: Job, ref: DeployOn | None, base_branch: str, labels: Collection[str]
) -> str:
    """The one thing to do now, "" when nothing is to be done for this stage."""
    if result.verdict in (Verdict.FAILED, Verdict.FINDINGS):
        return "mend what is told below, and push"
    for kind in _asked(result, job):
        name = consent.label(kind, job.stage)
        if name not in labels:
            return f"{consent.TERMS[kind].instead}, or give the label `{name}`"
    if ref is None:
        return ""
    if ref.branch is not None and ref.branch == base_branch:
        return "merge it: that deploys it" if not _gated(job) else "merge it, and approve the plan"
    push = f"push a tag `{ref.tag}`" if ref.tag else f"push to `{ref.branch}`"
    return f"after the merge, {push}{', and approve the plan' if _gated(job) else ''}"


def _gated(job: Job) -> bool:
    return job.policy is not None and job.policy.environment is not None
