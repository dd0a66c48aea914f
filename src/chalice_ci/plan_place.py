"""A plan that is applied in another place than it was made: without a checkout, or much later.

A job that only applies a plan needs no code. What `chalice-ci.yml` says of the stage - what it
needs, where the state is, what is asked afterwards - is read from the forge then, as it is in the
commit of the run. And wherever it is applied: a plan of a branch that went on meanwhile is not.
"""

from __future__ import annotations

from dataclasses import replace

from chalice_ci.base_policy import Branches, Files
from chalice_ci.checkout import is_state_file
from chalice_ci.config import FILE_NAME, AppConfig, ProjectConfig, read_committed_config
from chalice_ci.context import Context
from chalice_ci.errors import ForgeError, PlanRefused, UsageError
from chalice_ci.plan import Plan
from chalice_ci.run import Run

SHOWN = 3
"""How many files a refusal names."""


def config_of_run(context: Context, files: Files | None, path: str = "") -> ProjectConfig:
    """The configuration of the run's commit, where nothing is checked out.

    Raises UsageError without a token, ForgeError, and ConfigError for a file that is wrong.
    """
    name = path or FILE_NAME
    if files is None or not context.commit:
        raise UsageError(
            f"nothing is checked out here, and without a token {name} can't be read.",
            where=name,
            fix="Give the action its `github-token` (`permissions: contents: write`), or check the "
            "repository out.",
        )
    text = files.file(name, branch=context.commit, commit=context.commit)
    return read_committed_config(text, f"{context.commit[:7]}:{name}")


def config_for(run: Run, plan: Plan) -> ProjectConfig:
    """The run's configuration, with the plan's app where no file declares apps and there is no
    folder to look into.
    """
    if run.checkout.git_dir is not None or run.config.apps:
        return run.config
    return replace(run.config, apps=(AppConfig(name=plan.app, path=plan.app_path),))


def refuse_after_push(run: Run, branches: Branches | None, plan: Plan) -> None:
    """Raise PlanRefused when the branch of the run went on since the plan was made.

    Recorded states are no such change. A tag stays where it is.
    """
    branch = run.context.branch
    if branches is None or branch is None or not plan.commit or run.context.pull_request:
        return
    try:
        changed = branches.changed_since(branch, plan.commit)
    except ForgeError as error:
        # The state that it was planned from still has to be the one that is recorded.
        run.progress.say(f"whether {branch} went on since can't be told: {error.what}")
        return
    others = [name for name in changed or () if not is_state_file(name)]
    if others:
        shown = ", ".join(others[:SHOWN]) + (" and more" if others[SHOWN:] else "")
        raise PlanRefused(
            f"{branch} went on since the plan was made of {plan.commit[:7]}: {shown}.",
            where=plan.where,
            fix="Approve the plan of the newer push, or make a new one.",
        )
