"""`rollback`: an earlier plan of a stage is applied again.

The application graph is the kept plan's. Its packages are built again from its commit, and used
only when they are the same bytes. What would be done is planned anew against what is live, so it
ends where that deployment ended, whatever happened since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from chalice_ci import __version__, snapshot_document
from chalice_ci.app.deployer import PackageFile
from chalice_ci.applying import apply_release, until_not_overtaken
from chalice_ci.approval import refuse_unapproved, refuse_without_consent
from chalice_ci.baseline import built_commit
from chalice_ci.errors import PlanRefused, UsageError, WrongAccount
from chalice_ci.holding import Stage, settle
from chalice_ci.inputs import TO
from chalice_ci.jobs import guarded
from chalice_ci.lending import identified, lent_deployer
from chalice_ci.plan import OpenedPlan, Plan, plan_digest
from chalice_ci.plan_file import run_identity
from chalice_ci.releasing import opened_release, read_releases
from chalice_ci.report import report as model
from chalice_ci.route import Job, Wish, named_jobs
from chalice_ci.run import Run
from chalice_ci.sealing import (
    PLAN_LIFETIME,
    Live,
    Sealed,
    asks_since_deployed,
    refuse_elsewhere,
    state_digest,
    target_of,
    with_plan,
)
from chalice_ci.snapshot import Snapshot
from chalice_ci.snapshot_document import SnapshotDamaged
from chalice_ci.stage_secrets import refuse_without_secrets
from chalice_ci.state.releases import Release, chosen


def roll_back(run: Run, wish: Wish) -> tuple[model.Result, ...]:
    """Go back to an earlier plan in each stage that was asked for."""
    wanted = run.inputs.text(TO)
    return tuple(
        guarded(run, job, partial(_rolled_back, run, job, wanted))
        for job in named_jobs(run.config, wish)
    )


def _rolled_back(run: Run, job: Job, wanted: str) -> model.Result:
    release = _release(run, job, wanted)
    kept, snapshot = opened_release(run, job, release)
    there = _snapshot(job, snapshot)
    refuse_without_secrets(run, job, kept.secrets)
    run.progress.say(
        f"back to the plan {release.digest[:12]} of {release.commit[:12] or 'no commit'}, "
        f"deployed {release.time}",
        job=job.name,
    )
    packages = _packages(run, job, release, kept)
    base = model.Result(
        app=job.app.name,
        stage=job.stage,
        path=job.app.path,
        chalice=kept.chalice,
        python=kept.python,
        region=kept.region,
        note=f"back to {release.digest[:12]}, commit {release.commit[:12]}",
    )
    with lent_deployer(run, job, kept.chalice, region=kept.region) as deployer:
        identity = identified(run, job, deployer)
        if kept.account not in (None, identity.account):
            raise WrongAccount(
                f"the plan is for account {kept.account}, the credentials are of "
                f"{identity.account}.",
                where=job.name,
                fix="Use the role of that account.",
            )
        live = Live(deployer=deployer, identity=identity)
        stage = Stage(app_name=kept.app_name, identity=identity, graph=kept.graph)

        def attempt() -> model.Result:
            recorded = settle(run, job, stage)
            refuse_elsewhere(job, recorded, identity)
            now = run.world.now()
            plan = replace(
                kept,
                tool=__version__,
                base_version="" if recorded is None else recorded.version,
                base_digest=state_digest(run, job, recorded),
                secrets_unknown=(),
                package_bucket=run.package_bucket(job),
                run=run_identity(run.context),
                created=now.replace(microsecond=0),
                expires=(now + PLAN_LIFETIME).replace(microsecond=0),
            )
            operations = deployer.plan(target_of(plan, run.secrets, packages, recorded))
            asks = asks_since_deployed(run, job, operations, recorded, there)
            plan = replace(plan, operations=operations, asks=asks)
            # Whoever approved that plan approved these bytes.
            refuse_unapproved(run, job, release.digest)
            refuse_without_consent(run, job, plan)
            sealed = Sealed(
                opened=OpenedPlan(
                    plan=plan,
                    digest=plan_digest(plan),
                    packages={slot: file.path for slot, file in packages.items()},
                    snapshot=snapshot,
                ),
                identity=identity,
                recorded=recorded,
                operations=operations,
                path="",
            )
            result = with_plan(base, sealed)
            return apply_release(run, job, sealed, live, result, rolled_back_to=release.digest)

        return until_not_overtaken(attempt)


def _snapshot(job: Job, raw: bytes) -> Snapshot:
    try:
        return snapshot_document.parse(raw)
    except SnapshotDamaged as error:
        raise PlanRefused(f"the kept plan's snapshot {error}.", where=job.name) from error


def _release(run: Run, job: Job, wanted: str) -> Release:
    releases = read_releases(run, job)
    release = chosen(releases, wanted)
    if release is not None:
        return release
    known = "".join(
        f"\n  {one.digest[:12]} commit {one.commit[:12] or 'none'} {one.time}"
        f"{'' if one.plan else ' (not kept)'}"
        for one in releases
    )
    raise UsageError(
        f"there is no release {wanted[:64]!r} of this stage."
        if wanted
        else "there is no earlier release of this stage to go back to.",
        where=job.name,
        fix=f"The releases are:{known}" if known else "Nothing was deployed here yet.",
    )


def _packages(run: Run, job: Job, release: Release, plan: Plan) -> Mapping[str, PackageFile]:
    """The packages of the plan, built again from its commit."""
    built = built_commit(run, job, release.commit) if release.commit else "it has no commit"
    if isinstance(built, str):
        raise PlanRefused(
            f"the packages of that plan can't be made again: {built}.",
            where=job.name,
            fix="Let the checkout have that commit (`fetch-depth: 0` at actions/checkout), or "
            "deploy a commit with what it needs.",
        )
    found: dict[str, Path] = {}
    for package in plan.packages:
        file = built.packages.get(package.slot)
        if file is None or file.sha256 != package.sha256:
            ours = "none" if file is None else file.sha256[:12]
            raise PlanRefused(
                f"the {package.slot} package of {release.commit[:12]} is built as {ours} today, "
                f"deployed was {package.sha256[:12]}.",
                where=job.name,
                fix="Something that no lock pins is another one now. Pin every dependency with "
                "its hash; for now deploy a commit that pins what ran then.",
            )
        found[package.slot] = file.path
    return {
        package.slot: PackageFile(path=found[package.slot], sha256=package.sha256)
        for package in plan.packages
    }
