"""From a built stage to its sealed plan: what is recorded, what is to be done, what binds it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from chalice_ci import __version__, consent, snapshot_document
from chalice_ci.app.deployer import Deployer, Identity, PackageFile, Target
from chalice_ci.approval import asks_of
from chalice_ci.building import Built
from chalice_ci.checkout import differ_in_states_only
from chalice_ci.ci_secrets import Secrets
from chalice_ci.difference.changes import Changes
from chalice_ci.errors import UsageError
from chalice_ci.findings import Severity
from chalice_ci.holding import key_of
from chalice_ci.inputs import PLAN_STORE
from chalice_ci.ownership import check_recorded
from chalice_ci.plan import (
    Action,
    Ask,
    Facts,
    OpenedPlan,
    Operation,
    Plan,
    SealedPackage,
    actions,
    digest_of,
    plan_digest,
)
from chalice_ci.plan_file import keep_in_store, refuse_readable, run_identity, write_plan
from chalice_ci.report import report as model
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.snapshot import Snapshot
from chalice_ci.stage_secrets import secret_variables
from chalice_ci.state.transfer import Recorded

PLAN_LIFETIME = timedelta(days=7)
"""How long a person may take to approve: GitHub drops a waiting deployment after 30 days, but a
package that old is not what anybody wants in production."""

_EFFECTS = {
    Action.CREATE: model.Effect.CREATE,
    Action.UPDATE: model.Effect.UPDATE,
    Action.REPLACE: model.Effect.REPLACE,
    Action.DELETE: model.Effect.DELETE,
}


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A plan with what it was made from."""

    opened: OpenedPlan
    identity: Identity | None
    recorded: Recorded | None
    operations: tuple[Operation, ...] | None
    path: str


@dataclass(frozen=True, kw_only=True)
class Live:
    """Who reads what is live, and as whom."""

    deployer: Deployer
    identity: Identity


def seal_stage(
    run: Run,
    built: Built,
    live: Live | None,
    recorded: Recorded | None,
    *,
    kept: bool,
) -> Sealed:
    """Plan against what is live and recorded, and write the plan file where it may be kept.

    A plan that must be `kept` and may not is refused. Without anything `live` the plan lists no
    operations.
    """
    job = built.job
    readable = _readable(run, job)
    if kept and readable is not None:
        raise readable
    if live is not None:
        refuse_elsewhere(job, recorded, live.identity)
        run.progress.say("planning against what is deployed", job=job.name)
    now = run.world.now()
    # A preview's time to live begins anew with each deployment, also with one that changes nothing.
    snapshot = snapshot_document.render(built.snapshot, deployed=None if job.like is None else now)
    secrets = secret_variables(job)
    plan = Plan(
        app=job.app.name,
        app_path=job.app.path,
        app_name=built.app_name,
        stage=job.stage,
        account=None if live is None else live.identity.account,
        region=(run.region(job) or "") if live is None else live.identity.region,
        commit=run.checkout.commit,
        tree=run.checkout.tree,
        chalice=built.loaded.chalice_version,
        python=built.loaded.python_version,
        tool=__version__,
        config_digest=run.config_digest(job.app),
        base_version="" if recorded is None else recorded.version,
        base_digest=state_digest(run, job, recorded),
        graph=built.loaded.graph.document,
        packages=tuple(
            SealedPackage(slot=slot, sha256=file.sha256, size=file.path.stat().st_size)
            for slot, file in sorted(built.packages.items())
        ),
        operations=None,
        findings=tuple(
            (severity.value, sum(f.severity is severity for f in built.result.findings))
            for severity in sorted(Severity)
        ),
        snapshot=hashlib.sha256(snapshot).hexdigest(),
        secrets=secrets,
        secrets_unknown=run.secrets.missing(secrets),
        package_bucket=run.package_bucket(job),
        run=run_identity(run.context),
        created=now.replace(microsecond=0),
        expires=(now + PLAN_LIFETIME).replace(microsecond=0),
    )
    operations: tuple[Operation, ...] | None = None
    if live is not None:
        operations = live.deployer.plan(target_of(plan, run.secrets, built.packages, recorded))
    asks = asks_since_deployed(run, job, operations or (), recorded, built.snapshot)
    plan = replace(plan, operations=operations, asks=asks)
    packages = {slot: file.path for slot, file in built.packages.items()}
    digest = plan_digest(plan)
    path = None if readable else write_plan(run, job, plan, packages, snapshot)
    place = "" if path is None else run.shown(path)
    # What lists no operations is for people to look at, and can't be applied.
    if kept and path is not None and operations is not None and run.inputs.flag(PLAN_STORE):
        place = keep_in_store(run, job, path, plan, digest)
    return Sealed(
        opened=OpenedPlan(plan=plan, digest=digest, packages=packages, snapshot=snapshot),
        identity=None if live is None else live.identity,
        recorded=recorded,
        operations=operations,
        path=place,
    )


def asks_since_deployed(
    run: Run,
    job: Job,
    operations: tuple[Operation, ...],
    recorded: Recorded | None,
    after: Snapshot,
) -> tuple[Ask, ...]:
    """What of a deployment needs consent, judged by the very record that its plan is bound to."""
    resources = () if recorded is None else recorded.state.resources
    changes = _since_deployed(run, job, recorded, after)
    return asks_of(run, job, consent.clauses(operations, resources, changes, after.apis))


def _since_deployed(run: Run, job: Job, recorded: Recorded | None, after: Snapshot) -> Changes:
    """What is different from what is recorded, the package's files aside."""
    # Late: a plan that is applied was judged when it was made.
    from chalice_ci.baseline import as_deployed
    from chalice_ci.difference.compare import compare

    state = None if recorded is None else recorded.state
    raw = None if state is None else run.records.store.snapshot(key_of(job))
    found = as_deployed(key_of(job), state, raw)
    before = None if found.snapshot is None else replace(found.snapshot, files=())
    return compare(before, replace(after, files=()), found.baseline)


def _readable(run: Run, job: Job) -> UsageError | None:
    try:
        refuse_readable(run, job)
    except UsageError as error:
        return error
    return None


def with_plan(result: model.Result, sealed: Sealed) -> model.Result:
    """The result with what a plan adds."""
    plan = sealed.opened.plan
    note = result.note
    if plan.secrets_unknown:
        names = ", ".join(plan.secrets_unknown)
        note = f"{note}; ".removeprefix("; ") + f"not known here, so set at the deploy: {names}"
    if sealed.operations is None:
        note = f"{note}; ".removeprefix("; ") + "live state not read: no AWS credentials"
    return replace(
        result,
        note=note,
        account=plan.account or "",
        region=plan.region,
        operations=shown(sealed.operations or (), sealed.recorded),
        plan=model.Plan(
            digest=sealed.opened.digest, path=sealed.path, expires=plan.expires.isoformat()
        ),
    )


def shown(
    operations: tuple[Operation, ...], recorded: Recorded | None
) -> tuple[model.Operation, ...]:
    """Operations as a report tells them."""
    known = () if recorded is None else tuple(str(r["name"]) for r in recorded.state.resources)
    effects = dict(actions(operations, recorded=known))
    return tuple(
        model.Operation(
            method=operation.method,
            resource=operation.resource,
            effect=_EFFECTS[effects[operation.resource]],
            message=operation.message,
        )
        for operation in operations
    )


def facts_of(
    run: Run, job: Job, opened: OpenedPlan, identity: Identity, recorded: Recorded | None
) -> Facts:
    """What is true now. Without a checkout the plan's own commit and configuration stand: there
    is nothing to compare them with, and its digest binds them.
    """
    plan = opened.plan
    inside = run.checkout.git_dir is not None
    moved = inside and not _is_same_code(run, plan)
    return Facts(
        app=job.app.name,
        app_path=job.app.path,
        stage=job.stage,
        account=identity.account,
        region=identity.region,
        commit=run.checkout.commit if moved else _commit_of(run, plan, inside=inside),
        tree=run.checkout.tree if moved else plan.tree,
        chalice=plan.chalice,
        tool=__version__,
        config_digest=run.config_digest(job.app) if inside else plan.config_digest,
        base_version="" if recorded is None else recorded.version,
        base_digest=state_digest(run, job, recorded),
        now=run.world.now(),
        run=run_identity(run.context),
        authenticated=opened.authenticated,
    )


def _commit_of(run: Run, plan: Plan, *, inside: bool) -> str | None:
    """Without a checkout, the commit that the CI system says the run is of, if it says one."""
    context = run.context
    if inside or not context.commit or context.pull_request is not None:
        return plan.commit
    return context.commit


def _is_same_code(run: Run, plan: Plan) -> bool:
    """Whether the checkout has what the plan was made of: its commit, or one that only recorded
    a state since.
    """
    old, new = plan.commit, run.checkout.commit
    if old == new or None in (old, new) or run.git is None:
        return old == new and plan.tree == run.checkout.tree
    return differ_in_states_only(run.git, str(old), str(new))


def refuse_elsewhere(job: Job, recorded: Recorded | None, identity: Identity) -> None:
    """Raise WrongAccount when the record names what is in another account or region."""
    if recorded is not None:
        check_recorded(recorded.state.resources, identity, where=job.name)


def state_digest(run: Run, job: Job, recorded: Recorded | None) -> str:
    """What tells a recorded state from every other, also one of the same resources: its snapshot
    goes with it, and says what each deployment deployed.
    """
    snapshot = None if recorded is None else run.records.store.snapshot(key_of(job))
    resources = () if recorded is None else recorded.state.resources
    serial = "" if snapshot is None else hashlib.sha256(snapshot).hexdigest()
    return digest_of({"resources": [dict(resource) for resource in resources], "serial": serial})


def target_of(
    plan: Plan,
    secrets: Secrets,
    packages: Mapping[str, PackageFile],
    recorded: Recorded | None,
) -> Target:
    """What the deployer is to plan or to make, with the secrets that are here."""
    return Target(
        app_name=plan.app_name,
        stage=plan.stage,
        graph=plan.graph,
        packages=packages,
        resources=() if recorded is None else recorded.state.resources,
        secrets=secrets.injected(plan.secrets, unknown=plan.secrets_unknown),
        package_bucket=plan.package_bucket,
    )
