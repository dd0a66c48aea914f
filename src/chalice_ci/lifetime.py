"""The beginning and the end of a run on a runner that may kill it in between.

The runner starts `action-post` after the run, also after one that was cancelled or killed. What the
run noted in GITHUB_STATE says whether it came to its end; if not, its comment and deployments are
brought to one.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from chalice_ci.context import RunOrder
from chalice_ci.errors import ForgeError
from chalice_ci.report.annotations import file_command

if TYPE_CHECKING:
    from chalice_ci.forge.port import Forge
    from chalice_ci.run import Run

_FINISHED = "chalice_ci_finished"


def note_the_beginning(run: Run) -> None:
    """Tell the post step that the run began."""
    _note(run, "false")


def note_the_end(run: Run) -> None:
    """Tell the post step that nothing is left to do."""
    _note(run, "true")


def _note(run: Run, value: str) -> None:
    text = file_command([(_FINISHED, value)], delimiter=lambda: secrets.token_hex(16))
    run.append("GITHUB_STATE", text)


def finish_what_was_left(run: Run) -> None:
    """End the comment and the deployments of a run that did not come to its end itself."""
    if run.world.env.get(f"STATE_{_FINISHED}") != "false":
        return
    pull, order = run.context.pull_request, run.context.run
    if run.forge is None or pull is None or order is None:
        return
    try:
        _end_comment(run, run.forge, pull.number, order)
        _end_deployments(run.forge, run, pull.number, order)
    except ForgeError as error:
        run.progress.say(f"what the cancelled run left could not be ended: {error}")


def _end_comment(run: Run, forge: Forge, number: int, order: RunOrder) -> None:
    # Late: few runs end for another one.
    from chalice_ci.conversation import history
    from chalice_ci.report.comment import abandoned

    standing = forge.sticky_comment(number)
    if standing is None or standing.run != order:
        return
    body = abandoned(standing.body, reason="cancelled before it was finished")
    if body is not None:
        past = history(standing, order, commit=run.context.commit or "", ended="cancelled")
        forge.upsert_comment(number, body, run=order, history=past)
        run.progress.say("the comment says now that the run was cancelled")


def _end_deployments(forge: Forge, run: Run, number: int, order: RunOrder) -> None:
    from chalice_ci.forge.port import DeploymentState

    names = [f"pr-{number}", *(f"pr-{number}-{app.name}" for app in run.config.apps)]
    for name in names:
        for deployment in forge.deployments(name):
            if deployment.run == order and not deployment.state.finished:
                forge.finish_deployment(deployment, DeploymentState.ERROR)
