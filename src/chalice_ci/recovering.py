"""The verbs for a stage that a deploy left behind: `state recover` and `state unlock`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from chalice_ci.app.deployer import Identity
from chalice_ci.building import app_name_of
from chalice_ci.errors import AWSError, UsageError
from chalice_ci.holding import Stage, key_of, lock_taken_from, recover, wait
from chalice_ci.jobs import guarded
from chalice_ci.ownership import check_place, identify
from chalice_ci.recorded import recorded_result
from chalice_ci.report.report import Result
from chalice_ci.route import Job, Wish, named_jobs
from chalice_ci.run import Run


def recover_states(run: Run, wish: Wish) -> tuple[Result, ...]:
    """Compare the record of each stage named with AWS, and record what there is."""
    return tuple(
        guarded(run, job, lambda job=job: _recovered(run, job))  # type: ignore[misc]
        for job in _named(run, wish)
    )


def unlock_states(run: Run, wish: Wish, *, force: bool) -> tuple[Result, ...]:
    """Take the lease of each stage named away from its holder; by force forget its journal too."""
    return tuple(
        guarded(run, job, partial(_unlocked, run, job, force=force)) for job in _named(run, wish)
    )


def _named(run: Run, wish: Wish) -> tuple[Job, ...]:
    if not wish.stages:
        raise UsageError(
            "this changes what is recorded, so the stage has to be named.",
            where="--stage",
            fix="Name the stage, and the app when there are several: --app NAME --stage NAME.",
        )
    return named_jobs(run.config, wish)


def _recovered(run: Run, job: Job) -> Result:
    region = run.region(job)
    if region is None:
        raise AWSError(
            "no AWS region is set",
            where=job.name,
            fix="Give the stage a region in chalice-ci.yml, or set aws-region or AWS_REGION.",
        )
    account, arn = identify(run.clients_for(job, region), where=job.name)
    identity = Identity(account=account, region=region, arn=arn)
    if run.cloud is None:
        check_place(identity, account=run.account(job), region=region, where=job.name)
    stage = Stage(app_name=app_name_of(run, job.app) or job.app.name, identity=identity)
    found = recover(run, job, stage, wait(run, job))
    words = [
        f"{done} {len(names)}: {', '.join(name for _, name in names)}"
        for done, names in (("adopted", found.adopted), ("dropped", found.dropped))
        if names
    ]
    words += [f"found more than once, left alone: {doubt}" for doubt in found.doubtful]
    result = recorded_result(run, key_of(job))
    return replace(
        result,
        account=account,
        region=region,
        note="; ".join(words) or "the record is what is there",
        changed=bool(found.adopted or found.dropped),
    )


def _unlocked(run: Run, job: Job, *, force: bool) -> Result:
    done = lock_taken_from(run, job, clear=force)
    result = recorded_result(run, key_of(job))
    words = []
    if done.holder is not None:
        words.append(f"taken from {done.holder.owner}: {done.holder.reason}")
    if done.damaged:
        words.append(f"the journal could not be read ({done.damaged})")
    if done.cleared:
        words.append("its journal is gone: look for what was left with `chalice-ci state recover`")
    elif done.holder is not None:
        words.append("the next deploy looks for what was left")
    changed = done.cleared or done.holder is not None
    return replace(result, note="; ".join(words) or "nobody holds this stage", changed=changed)
