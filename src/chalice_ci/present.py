"""A pull request as it is now, for a run that may be late.

An event tells how things were. A run that waited for a runner, or that somebody started again a
week later, would bring up the preview of a pull request that is closed, or take down that of one
that was opened again.
"""

from __future__ import annotations

from dataclasses import replace

from chalice_ci.context import Context
from chalice_ci.errors import ForgeError
from chalice_ci.forge.port import Forge


def at_present(context: Context, forge: Forge | None) -> Context:
    """The context with what the forge says of its pull request now.

    A first run trusts its event, which can be newer than what the forge answers, but that a pull
    request is closed, and labels that the event does not tell. A re-run trusts the forge alone;
    where that does not answer, or the pull request went on, `superseded` keeps the run off the
    preview. Where a re-run can't be told from the first run, the forge is believed when it answers.
    """
    pull = context.pull_request
    if pull is None or not context.trusted:
        return context
    again = context.run is not None and context.run.attempt > 1
    if not again and not _is_open(context):
        return context
    try:
        now = None if forge is None else forge.pull_request(pull.number)
    except ForgeError as error:
        return _unknown(context, str(error)) if again else context
    if now is None:
        return _unknown(context, "there is no token to ask with.") if again else context
    if not now.is_open:
        return replace(context, pull_request=replace(pull, open=False, merged=now.merged))
    if not again and context.attempts_told:
        known = pull.labels if pull.labels_told else now.labels
        return replace(context, pull_request=replace(pull, labels=known, labels_told=True))
    if not _is_open(context):
        return replace(
            context,
            superseded="The pull request was opened again since: its preview stays, and its own "
            "events look after it.",
        )
    if now.head_sha != pull.head_sha:
        return replace(
            context,
            superseded=f"The pull request went on to {now.head_sha[:7]} since: the run of that "
            "commit looks after the preview, this one only checks.",
        )
    present = replace(pull, labels=now.labels, labels_told=True, draft=now.draft, merged=now.merged)
    return replace(context, pull_request=present)


def _is_open(context: Context) -> bool:
    pull = context.pull_request
    return pull is not None and pull.open and context.action != "closed"


def _unknown(context: Context, why: str) -> Context:
    return replace(
        context,
        superseded="This is a re-run, and how the pull request is now can't be told, so its "
        f"preview is left alone: {why}",
    )
