"""What a deployment does only when somebody lets it, who can, and in which words. Pure.

One table for all of it: a plan, a refusal, a pull request's checklist and the documentation ask for
the same thing with the same label, input and line of the stage's policy. A preview asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from chalice_ci import rules
from chalice_ci.config import StageConfig
from chalice_ci.destruction import destructions
from chalice_ci.difference.changes import Changes
from chalice_ci.errors import PlanRefused
from chalice_ci.findings import Finding
from chalice_ci.inputs import ALLOW_DESTRUCTIVE, ALLOW_WIDENED_IAM, Input
from chalice_ci.plan import Ask, Consent, Operation
from chalice_ci.route import Job
from chalice_ci.snapshot import Api
from chalice_ci.widening import widenings


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How one consent is asked for and given.

    `input` is also the name of the key in a stage's policy; `allowed` reads that key, with what
    holds where it does not stand. `label` is what the label's name begins with. `found` tells from
    a difference that it will be asked for. The rest are words: what is `refused`, what to do
    `instead`, the line of a checklist (`need`).
    """

    rule: str
    input: Input
    label: str
    allowed: Callable[[StageConfig], bool]
    found: Callable[[Changes], bool]
    refused: str
    instead: str
    need: str


def _widened_iam_allowed(policy: StageConfig) -> bool:
    # Every new call of an SDK widens a generated policy: it is asked where people approve anyway.
    if policy.allow_widened_iam is None:
        return policy.environment is None
    return policy.allow_widened_iam


TERMS: Mapping[Consent, Terms] = {
    Consent.DESTRUCTIVE: Terms(
        rule="destructive-change",
        input=ALLOW_DESTRUCTIVE,
        label="allow-delete",
        allowed=lambda policy: policy.allow_destructive is True,
        found=lambda changes: bool(changes.destructive),
        refused="take away what holds an address or data",
        instead="keep what is lost",
        need="Somebody lets go what is lost",
    ),
    Consent.WIDENED_IAM: Terms(
        rule="widened-iam",
        input=ALLOW_WIDENED_IAM,
        label="allow-iam",
        allowed=_widened_iam_allowed,
        found=lambda changes: bool(changes.widened_iam),
        refused="change what the app may do in AWS",
        instead="permit no more than before",
        need="Somebody lets it permit more",
    ),
}

_UNCONFIGURED = StageConfig(name="")


def is_needed(consent: Consent, job: Job) -> bool:
    """Whether somebody has to let it in this stage, as far as its policy goes."""
    return job.like is None and not TERMS[consent].allowed(job.policy or _UNCONFIGURED)


def label(consent: Consent, stage: str) -> str:
    """The pull request's label that lets a stage do it."""
    return f"{TERMS[consent].label}:{stage}"


def clauses(
    operations: tuple[Operation, ...],
    resources: Iterable[Mapping[str, object]],
    changes: Changes,
    apis: Iterable[Api],
) -> Mapping[Consent, tuple[str, ...]]:
    """What a deployment does of each kind, in clauses.

    `resources` are those of the recorded state, `changes` is what is different from it.
    """
    resources = tuple(resources)
    return {
        Consent.DESTRUCTIVE: destructions(operations, resources, changes, apis),
        Consent.WIDENED_IAM: widenings(operations, resources, changes),
    }


def findings(job: Job, asks: Iterable[Ask]) -> Iterator[Finding]:
    """What a plan says about a deployment that will be refused."""
    for ask in asks:
        if not ask.given:
            yield rules.finding(
                TERMS[ask.consent].rule,
                what=f"{'; '.join(ask.clauses)}.",
                fix=_fix(ask.consent, job.stage),
                subject=job.stage,
                app=job.app.name,
                stage=job.stage,
            )


def refuse(job: Job, asks: Iterable[Ask]) -> NoReturn:
    """Raise PlanRefused for a deployment that nobody let do these things."""
    asks = tuple(asks)
    raise PlanRefused(
        "the deployment would "
        + ". It would also ".join(
            f"{TERMS[ask.consent].refused}: {'; '.join(ask.clauses)}" for ask in asks
        )
        + ".",
        where=job.name,
        fix="\n".join(_fix(ask.consent, job.stage) for ask in asks),
    )


def _fix(consent: Consent, stage: str) -> str:
    terms = TERMS[consent]
    name = terms.input.name
    return (
        f"{terms.instead[0].upper()}{terms.instead[1:]}, or let it: give the pull request the "
        f"label `{label(consent, stage)}`, or set the input `{name}: true` (--{name}). "
        f"`stages.{stage}.{name}: true` in chalice-ci.yml lets every deployment of the stage."
    )
