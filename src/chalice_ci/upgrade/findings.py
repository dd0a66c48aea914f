"""What Chalice's upgrade notes say about an app on every check, whatever it was deployed with.

Every supported Chalice is newer than the notes, so what they break is broken now: an error. What
merely behaves differently, or concerns files whose environment is not known, is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from chalice_ci import rules
from chalice_ci.app.versions import DROPPED
from chalice_ci.findings import Finding, in_order
from chalice_ci.upgrade.catalogue import Note, notes
from chalice_ci.upgrade.detectors import (
    Touch,
    authorizer_id,
    authorizer_name,
    define_authorizer,
    deploy_positional_stage,
    policy_json,
    python_asked,
    raw_body,
    resource_names,
    route_parameter_names,
    v1_state,
)
from chalice_ci.upgrade.facts import AppFacts


@dataclass(frozen=True, kw_only=True)
class _Check:
    """A rule: the detector, and its words where the detector has none of its own.

    `of_stage` tells whether the answer is another one in each stage.
    """

    detector: Callable[[AppFacts], Iterator[Touch]]
    what: str = ""
    fix: str = ""
    of_stage: bool = False


_AUTHORIZER = (
    "Make an authorizer object (`CognitoUserPoolAuthorizer`, `CustomAuthorizer`, `IAMAuthorizer`) "
    "and give it to the route: `authorizer=…`."
)
_CHECKS: Mapping[str, _Check] = {
    "route-parameter-names": _Check(detector=route_parameter_names),
    "define-authorizer": _Check(
        detector=define_authorizer,
        what="`define_authorizer` does not exist any more.",
        fix=_AUTHORIZER,
    ),
    "authorizer-name": _Check(
        detector=authorizer_name,
        what="Routes do not take `{subject}` any more.",
        fix=_AUTHORIZER,
    ),
    "authorizer-id": _Check(
        detector=authorizer_id,
        what="Routes do not take `{subject}` any more.",
        fix=_AUTHORIZER,
    ),
    "raw-body-text": _Check(
        detector=raw_body,
        fix="Decode it first: `raw_body.decode('utf-8')`.",
    ),
    "deploy-positional-stage": _Check(detector=deploy_positional_stage),
    "policy-json": _Check(detector=policy_json, of_stage=True),
    "v1-state": _Check(
        detector=v1_state,
        what="Stage {subject} is recorded in the file of Chalice before 1.2 only.",
        fix=(
            "`chalice-ci state import` takes it over. It is converted then and never written "
            "again: an older Chalice cannot be used after that."
        ),
        of_stage=True,
    ),
    "resource-names": _Check(
        detector=resource_names,
        fix=(
            "Call the app and the stage as what is deployed, or remove the old function by hand "
            "once the new one serves."
        ),
        of_stage=True,
    ),
}


def upgrade_findings(stages: tuple[AppFacts, ...]) -> tuple[Finding, ...]:
    """Every finding about an app, in order; `stages` are its facts, once for each stage.

    A finding without a stage is true of the app as a whole. The app's name is left empty.
    """
    found: dict[Finding, None] = {}
    for facts in stages:
        for rule, check in _CHECKS.items():
            for touch in check.detector(facts):
                found[_finding(rule, check, touch, facts)] = None
        for one in _dropped_pythons(facts):
            found[one] = None
    return in_order(tuple(found))


def _finding(rule: str, check: _Check, touch: Touch, facts: AppFacts) -> Finding:
    note = _note(rule)
    return rules.finding(
        rule,
        what=touch.what or check.what.format(subject=touch.subject),
        fix=touch.fix or check.fix,
        detail=f"Since Chalice {note.version}: {note.what} {note.why}",
        subject=touch.subject,
        # What weighs less than its rule is about the file, not about the stage.
        stage=facts.stage if check.of_stage and touch.severity is None else "",
        at=touch.at,
        link=note.link,
        severity=touch.severity,
    )


def _dropped_pythons(facts: AppFacts) -> Iterator[Finding]:
    if not facts.chalice:
        return
    for python, version in DROPPED.items():
        if Version(version) > Version(facts.chalice):
            continue
        for touch in python_asked(facts, python):
            # Where the app's own Python is not supported, `python-version` says so.
            if touch.at is None or not facts.python:
                continue
            # The catalogue is read only where something is to be said.
            note = next(one for one in notes() if one.name == f"python-{python}")
            yield rules.finding(
                _DROPPED,
                what=(
                    f"{touch.at.file} asks for Python {touch.subject}, which Chalice "
                    f"{note.version} dropped; the app has Chalice {facts.chalice}."
                ),
                fix=f"Ask for {facts.python} there, as the app does.",
                detail=note.what,
                subject=touch.subject,
                at=touch.at,
                link=note.link,
            )


_DROPPED = "python-dropped"


def _note(rule: str) -> Note:
    """The note that broke it: the last one of the rule."""
    return [note for note in notes() if note.rule == rule][-1]
