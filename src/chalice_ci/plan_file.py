"""The plan file in a run: who may read it, who is believed to have made it.

With a signing key a plan is encrypted and authenticated: whoever has the key made it. Without one
it is believed only where it was made, in the same CI run (that attempt or a later one), and it
holds nothing that the commit does not hold already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC
from pathlib import Path

from chalice_ci.checkout import not_committed
from chalice_ci.ci_secrets import PREFIX
from chalice_ci.context import Context, System
from chalice_ci.errors import PlanRefused, UsageError, UserError
from chalice_ci.inputs import PLAN, PREVIOUS_SIGNING_KEY, SIGNING_KEY
from chalice_ci.output import make_folder
from chalice_ci.plan import UNKNOWN_RUN, OpenedPlan, Plan, open_plan, seal
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.state.plans import PlanName, fetched, referred

MAGIC = b"CHALICE"
"""What an encrypted plan begins with."""

_UNSAFE = re.compile(r"[^A-Za-z0-9 _./:-]")


def run_identity(context: Context) -> str:
    """The attempt of the CI run that we are in; "" on a developer's machine.

    Raises nothing: a CI system that does not say gives "unknown", which is equal to nothing.
    """
    if context.system is System.LOCAL:
        return ""
    if context.run_key:
        named = f"{context.system.value} {context.repository} {context.run_key}"
        return _UNSAFE.sub("-", named)[:300]
    if context.run is None:
        return UNKNOWN_RUN
    return f"{context.repository} run {context.run.id} attempt {context.run.attempt}"


def write_plan(
    run: Run, job: Job, plan: Plan, packages: Mapping[str, Path], snapshot: bytes
) -> Path:
    """Seal the plan into the output folder, with the key if there is one."""
    path = run.out / f"{job.app.name}-{job.stage}.plan"
    key = run.signing_key
    if key is None:
        seal(plan, packages, path, snapshot=snapshot)
    else:
        # Late: only for those who have a key.
        from chalice_ci.plan_cipher import encrypt

        clear = run.work_dir / f"{job.app.name}-{job.stage}.clear"
        seal(plan, packages, clear, snapshot=snapshot)
        make_folder(run.out)
        encrypt(clear, path, key)
        clear.unlink()
    path.chmod(0o600)
    run.hand_over(path)
    return path


def keep_in_store(run: Run, job: Job, path: Path, plan: Plan, digest: str) -> str:
    """Keep a plan file in the state's store as well; how `deploy` is told to take it from there.

    Plans there that expired are removed. Raises UserError when the store refuses the plan.
    """
    name = PlanName(day=plan.expires.astimezone(UTC).date(), digest=digest)
    run.progress.say(f"keeping the plan in {run.records.name}", job=job.name)
    run.records.plans.keep_plan(name, path)
    today = run.world.now().astimezone(UTC).date()
    try:
        for old in run.records.plans.kept_plans():
            if old.day < today:
                run.records.plans.drop_plan(old)
    except UserError as error:
        run.progress.say(f"expired plans were not removed: {error.what}", job=job.name)
    return name.reference


def plan_path(run: Run) -> Path | None:
    """The file of the plan that was asked for, brought here when the store has it.

    Raises PlanRefused for one that the store does not have, or that is another than its name says.
    """
    name = referred(run.inputs.text(PLAN))
    if name is None:
        return run.plan_file
    return fetched(run.records.plans, name, run.work_dir)


def refuse_other(run: Run, opened: OpenedPlan) -> None:
    """Raise PlanRefused when the store gave another plan than the one that was named."""
    name = referred(run.inputs.text(PLAN))
    if name is not None and name.digest != opened.digest:
        raise PlanRefused(
            f"what the store has under this name is the plan {opened.digest[:12]}.",
            where=name.reference,
            fix="Somebody put it in the place of the one that was approved: look at who may write "
            "to the store, and make a new plan.",
        )


def drop_from_store(run: Run) -> None:
    """Remove the plan that was taken from the store: it is used up."""
    name = referred(run.inputs.text(PLAN))
    if name is None:
        return
    try:
        run.records.plans.drop_plan(name)
    except UserError as error:
        run.progress.say(f"the plan stays in {run.records.name}: {error.what}")


def refuse_readable(run: Run, job: Job) -> None:
    """Raise UsageError when a plan without a key would hold what the commit does not hold.

    Its file is uploaded, and whoever may read the repository may read that.
    """
    if run.signing_key is not None or run.context.system is System.LOCAL:
        return
    if run.git is None:
        raise UsageError(
            "a plan holds config.json's values and the package; without a Git repository nobody "
            "knows whether they may be read, so it is not written without a key.",
            where=job.name,
            fix=_KEY_FIX,
        )
    files = not_committed(run.checkout, run.git, job.app.path, run.config.file)
    if files:
        shown = ", ".join(files[:5]) + (" and more" if files[5:] else "")
        raise UsageError(
            "a plan without a key can be read by everybody who may read the repository, and "
            f"these files are not as the commit has them: {shown}.",
            where=job.name,
            fix=f"{_KEY_FIX} What a step writes into config.json belongs into "
            f"`environment-variables` of chalice-ci.yml ({PREFIX}NAME).",
        )


_KEY_FIX = "Commit them, or give the jobs that plan and deploy a `signing-key`."


def read_plan(run: Run, path: Path) -> OpenedPlan:
    """Open a plan file; `authenticated` when it was made with our key.

    Raises PlanRefused for a file that can't be opened here, and for one without a seal where there
    is a key.
    """
    try:
        with path.open("rb") as file:
            encrypted = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise PlanRefused(
            f"the plan file can't be read: {error.strerror}.", where=run.shown(path)
        ) from error
    keys = tuple(key for key in (run.signing_key, run.previous_signing_key) if key is not None)
    if not encrypted:
        if keys:
            raise PlanRefused(
                "the plan is not sealed with the signing key, so anybody may have made it.",
                where=run.shown(path),
                fix="Give the job that makes the plan the same `signing-key`.",
            )
        return open_plan(path, run.work_dir / "plan")
    if not keys:
        raise PlanRefused(
            "the plan is encrypted, and there is no signing key here.",
            where=run.shown(path),
            fix=f"Give this job the key that it was made with: `{SIGNING_KEY.name}` "
            f"(after a change of the key also `{PREVIOUS_SIGNING_KEY.name}`).",
        )
    from chalice_ci.plan_cipher import decrypt

    clear = run.work_dir / "plan.clear"
    decrypt(path, clear, keys)
    try:
        return replace(open_plan(clear, run.work_dir / "plan"), authenticated=True)
    finally:
        clear.unlink()
