"""From a built stage to its sealed plan: what is recorded, what is to be done, what binds it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from chalice_ci import __version__, destruction, snapshot_document
from chalice_ci.app.deployer import Deployer, Identity, PackageFile, Target
from chalice_ci.approval import destruction_allowed
from chalice_ci.building import Built
from chalice_ci.checkout import differ_in_states_only
from chalice_ci.ci_secrets import Secrets
from chalice_ci.findings import Severity
from chalice_ci.ownership import check_recorded
from chalice_ci.plan import (
    Action,
    Facts,
    OpenedPlan,
    Operation,
    Plan,
    SealedPackage,
    actions,
    digest_of,
    seal,
)
from chalice_ci.report import report as model
from chalice_ci.route import Job
from chalice_ci.run import Run
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
    identity: Identity
    recorded: Recorded | None
    operations: tuple[Operation, ...]
    path: str


def seal_stage(
    run: Run,
    built: Built,
    deployer: Deployer,
    identity: Identity,
    recorded: Recorded | None,
) -> Sealed:
    """Plan against what is live and recorded, and write the plan file."""
    job = built.job
    refuse_elsewhere(job, recorded, identity)
    run.progress.say("planning against what is deployed", job=job.name)
    now = run.world.now()
    snapshot = snapshot_document.render(built.snapshot)
    secrets = secret_variables(job)
    plan = Plan(
        app=job.app.name,
        app_path=job.app.path,
        app_name=built.app_name,
        stage=job.stage,
        account=identity.account,
        region=identity.region,
        commit=run.checkout.commit,
        tree=run.checkout.tree,
        chalice=built.loaded.chalice_version,
        python=built.loaded.python_version,
        tool=__version__,
        config_digest=run.config_digest(job.app),
        base_version="" if recorded is None else recorded.version,
        base_digest=_state_digest(recorded),
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
        created=now.replace(microsecond=0),
        expires=(now + PLAN_LIFETIME).replace(microsecond=0),
    )
    operations = deployer.plan(target_of(plan, run.secrets, built.packages, recorded))
    lost = destruction.destructions(operations, _recorded_types(recorded), built.result.changes)
    plan = replace(
        plan,
        operations=operations,
        destructive=lost,
        destruction_allowed=bool(lost) and destruction_allowed(run, job),
    )
    path = run.out / f"{job.app.name}-{job.stage}.plan"
    digest = seal(
        plan, {slot: file.path for slot, file in built.packages.items()}, path, snapshot=snapshot
    )
    run.hand_over(path)
    opened = OpenedPlan(
        plan=plan,
        digest=digest,
        packages={slot: file.path for slot, file in built.packages.items()},
        snapshot=snapshot,
    )
    return Sealed(
        opened=opened,
        identity=identity,
        recorded=recorded,
        operations=operations,
        path=run.shown(path),
    )


def _recorded_types(recorded: Recorded | None) -> Mapping[str, str]:
    resources = () if recorded is None else recorded.state.resources
    return {str(resource["name"]): str(resource["resource_type"]) for resource in resources}


def with_plan(result: model.Result, sealed: Sealed) -> model.Result:
    """The result with what a plan adds."""
    plan = sealed.opened.plan
    note = result.note
    if plan.secrets_unknown:
        names = ", ".join(plan.secrets_unknown)
        note = f"{note}; ".removeprefix("; ") + f"not known here, so set at the deploy: {names}"
    return replace(
        result,
        note=note,
        account=sealed.identity.account,
        region=sealed.identity.region,
        operations=shown(sealed.operations, sealed.recorded),
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


def facts_of(run: Run, opened: OpenedPlan, identity: Identity, recorded: Recorded | None) -> Facts:
    """What is true now. Without a checkout the plan's own commit and configuration stand: there
    is nothing to compare them with, and its digest binds them.
    """
    plan = opened.plan
    inside = run.checkout.git_dir is not None
    app = next((app for app in run.config.apps if app.name == plan.app), None)
    moved = inside and not _is_same_code(run, plan)
    return Facts(
        app=plan.app,
        stage=plan.stage,
        account=identity.account,
        region=identity.region,
        commit=run.checkout.commit if moved else plan.commit,
        tree=run.checkout.tree if moved else plan.tree,
        chalice=plan.chalice,
        tool=__version__,
        config_digest=run.config_digest(app) if inside and app else plan.config_digest,
        base_version="" if recorded is None else recorded.version,
        base_digest=_state_digest(recorded),
        now=run.world.now(),
    )


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


def _state_digest(recorded: Recorded | None) -> str:
    resources = () if recorded is None else recorded.state.resources
    return digest_of([dict(resource) for resource in resources])


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
    )
