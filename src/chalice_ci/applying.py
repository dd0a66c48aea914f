"""From a built stage to a sealed plan, and from a sealed plan to a live stage and its record.

The order is the promise: who are we, what is recorded, what would be done, seal; then apply
exactly that, and record what stands whatever happened.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from chalice_ci import consent
from chalice_ci.app.deployer import (
    Call,
    Deployer,
    Gates,
    Identity,
    Outcome,
    PackageFile,
    Result,
    Step,
    StepState,
    Target,
)
from chalice_ci.app.versions import DEFAULT_CHALICE
from chalice_ci.approval import ask_for_approval, refuse_unapproved, refuse_without_consent
from chalice_ci.building import Built
from chalice_ci.drift import drift
from chalice_ci.errors import (
    NoCredentials,
    PlanRefused,
    StateMoved,
    StateNotRecorded,
    UsageError,
    UserError,
)
from chalice_ci.findings import in_order
from chalice_ci.holding import ROUNDS, Overtaken, Stage, hold, is_open, key_of, look, settle
from chalice_ci.inputs import DELETE_LOGS
from chalice_ci.lending import identified, lent_deployer, prepare_guard
from chalice_ci.output import keep_in_summary, replace_file
from chalice_ci.ownership import Guard, owner_of
from chalice_ci.plan import (
    OpenedPlan,
    Operation,
    verify,
)
from chalice_ci.preview_record import as_recorded
from chalice_ci.promotion import refuse_unless_live
from chalice_ci.releasing import noted
from chalice_ci.report import report as model
from chalice_ci.route import PREVIEW, Job
from chalice_ci.run import Run
from chalice_ci.sealing import (
    Live,
    Sealed,
    facts_of,
    refuse_elsewhere,
    seal_stage,
    shown,
    target_of,
    with_plan,
)
from chalice_ci.signals import Signals
from chalice_ci.smoke import smoke_checks
from chalice_ci.stage_secrets import refuse_without_secrets
from chalice_ci.state.lease import Held
from chalice_ci.state.schema import StageState, render
from chalice_ci.state.store import JournalChange, commit_message
from chalice_ci.state.transfer import Recorded
from chalice_ci.state.urls import urls


@dataclass(kw_only=True)
class _Steps:
    """What became of each operation, gathered while the deployer goes on."""

    run: Run
    job: str
    recorded: Recorded | None
    seen: list[tuple[str, str, model.Outcome, float]] = field(default_factory=list)

    def __call__(self, step: Step) -> None:
        if step.state is StepState.STARTED:
            self.run.progress.say(f"[{step.number}/{step.total}] {step.text}", job=self.job)
            return
        failed = step.state is StepState.FAILED
        if failed:
            self.run.progress.say(f"[{step.number}/{step.total}] failed: {step.text}", job=self.job)
        outcome = model.Outcome.FAILED if failed else model.Outcome.DONE
        self.seen.append((step.method, step.resource, outcome, step.seconds))

    def told(self, operations: tuple[Operation, ...]) -> tuple[model.Operation, ...]:
        """The operations with their outcomes; what was not reached says so."""
        left = list(self.seen)
        told = []
        for operation in shown(operations, self.recorded):
            found = next(
                (s for s in left if (s[0], s[1]) == (operation.method, operation.resource)), None
            )
            if found is None:
                told.append(replace(operation, outcome=model.Outcome.NOT_REACHED))
                continue
            left.remove(found)
            told.append(replace(operation, outcome=found[2], seconds=round(found[3], 3)))
        return tuple(told)


def plan_stage(run: Run, built: Built) -> model.Result:
    """Seal the plan of a built stage into the output folder; reads from AWS only.

    Without credentials the plan says what is recorded, and that the live state was not read.
    """
    with lent_deployer(
        run, built.job, built.loaded.chalice_version, interpreter=built.interpreter
    ) as deployer:
        live: Live | None = None
        try:
            live = Live(deployer=deployer, identity=identified(run, built.job, deployer))
        except NoCredentials:
            run.progress.say("no AWS credentials: the live state is not read", job=built.job.name)
        recorded = look(run, built.job, built.app_name)
        sealed = seal_stage(run, built, live, recorded, kept=True)
        changed = () if live is None else drift(run, built.job, live, recorded)
    if live is not None:
        ask_for_approval(run, built.job, sealed.opened.digest)
    planned = with_plan(built.result, sealed)
    planned = replace(planned, findings=in_order((*planned.findings, *changed)))
    asks = consent.findings(built.job, sealed.opened.plan.asks)
    return replace(planned, findings=in_order((*planned.findings, *asks)))


def deploy_stage(run: Run, built: Built) -> model.Result:
    """Plan and apply in one go."""
    with lent_deployer(
        run, built.job, built.loaded.chalice_version, interpreter=built.interpreter
    ) as deployer:
        identity = identified(run, built.job, deployer)
        prepare_guard(run, built.job, identity)
        stage = Stage(app_name=built.app_name, identity=identity, graph=built.loaded.graph.document)

        def attempt() -> model.Result:
            recorded = settle(run, built.job, stage)
            live = Live(deployer=deployer, identity=identity)
            sealed = seal_stage(run, built, live, recorded, kept=False)
            refuse_unapproved(run, built.job, sealed.opened.digest)
            refuse_without_consent(run, built.job, sealed.opened.plan)
            base = with_plan(built.result, sealed)
            return _apply(run, built.job, sealed, live, base)

        return until_not_overtaken(attempt)


def until_not_overtaken(attempt: Callable[[], model.Result]) -> model.Result:
    """Begin anew when somebody else was faster: the plan that was made is not true any more."""
    for _ in range(ROUNDS - 1):
        with contextlib.suppress(Overtaken):
            return attempt()
    try:
        return attempt()
    except Overtaken as overtaken:
        raise overtaken.error from overtaken


def deploy_plan(run: Run, job: Job, opened: OpenedPlan) -> model.Result:
    """Apply a plan that was sealed before, if everything that it is bound to still holds."""
    plan = opened.plan
    base = model.Result(
        app=plan.app,
        stage=plan.stage,
        path=plan.app_path,
        chalice=plan.chalice,
        python=plan.python,
        region=plan.region,
    )
    if plan.operations is None:
        raise PlanRefused(
            "the plan was made without reading the live state, so it lists no operations.",
            where=plan.where,
            fix="Make it again with AWS credentials: chalice-ci plan",
        )
    refuse_without_secrets(run, job, plan.secrets)
    with lent_deployer(run, job, plan.chalice, region=plan.region) as deployer:
        identity = identified(run, job, deployer)
        prepare_guard(run, job, identity)
        stage = Stage(app_name=plan.app_name, identity=identity, graph=plan.graph)
        operations = plan.operations

        def attempt() -> model.Result:
            recorded = settle(run, job, stage)
            refuse_elsewhere(job, recorded, identity)
            verify(plan, opened.digest, facts_of(run, job, opened, identity, recorded))
            refuse_unapproved(run, job, opened.digest)
            refuse_without_consent(run, job, plan)
            sealed = Sealed(
                opened=opened,
                identity=identity,
                recorded=recorded,
                operations=operations,
                path=run.shown(run.plan_file or Path()),
            )
            live = Live(deployer=deployer, identity=identity)
            return _apply(run, job, sealed, live, with_plan(base, sealed))

        return until_not_overtaken(attempt)


def delete_stage(run: Run, job: Job, app_name: str | None) -> model.Result:
    """Remove everything that is recorded, without the app's code."""
    base = model.Result(app=job.app.name, stage=job.stage, path=job.app.path)
    recorded = look(run, job, app_name or job.app.name)
    if (recorded is None or not recorded.state.resources) and not is_open(run, job):
        return replace(
            base, note="nothing is recorded, so there is nothing to delete", changed=False
        )
    known = StageState() if recorded is None else recorded.state
    if PREVIEW.fullmatch(job.stage):
        job, app_name = as_recorded(job, known, app_name)
    name = app_name or _agreed_name(job, known)
    with lent_deployer(run, job, DEFAULT_CHALICE) as deployer:
        identity = identified(run, job, deployer)
        stage = Stage(app_name=name, identity=identity)
        return until_not_overtaken(lambda: _delete(run, job, stage, deployer, base))


def _delete(
    run: Run, job: Job, stage: Stage, deployer: Deployer, base: model.Result
) -> model.Result:
    recorded = settle(run, job, stage)
    refuse_elsewhere(job, recorded, stage.identity)
    resources = () if recorded is None else recorded.state.resources
    target = Target(
        app_name=stage.app_name,
        stage=job.stage,
        graph=None,
        resources=resources,
        delete_logs=run.inputs.flag(DELETE_LOGS),
    )
    what = Work(
        target=target,
        operations=deployer.plan(target),
        identity=stage.identity,
        recorded=recorded,
    )
    result = replace(base, account=stage.identity.account, region=stage.identity.region)
    return carry_out(run, job, what, deployer, result)


# -- applying -------------------------------------------------------------------------------------


def _apply(run: Run, job: Job, sealed: Sealed, live: Live, base: model.Result) -> model.Result:
    if job.policy is not None and job.policy.needs is not None:
        refuse_unless_live(run, job, job.policy.needs, _package_files(sealed))
    return apply_release(run, job, sealed, live, base)


def _package_files(sealed: Sealed) -> Mapping[str, PackageFile]:
    return {
        package.slot: PackageFile(path=sealed.opened.packages[package.slot], sha256=package.sha256)
        for package in sealed.opened.plan.packages
    }


def apply_release(
    run: Run,
    job: Job,
    sealed: Sealed,
    live: Live,
    base: model.Result,
    *,
    rolled_back_to: str = "",
) -> model.Result:
    """Apply a plan, record what stands and that it was deployed, and ask whether it works."""
    target = target_of(sealed.opened.plan, run.secrets, _package_files(sealed), sealed.recorded)
    what = Work(
        target=target,
        operations=sealed.operations or (),
        identity=live.identity,
        recorded=sealed.recorded,
        snapshot=sealed.opened.snapshot,
        noted=lambda calls: noted(
            run, job, sealed.opened, calls=calls, rolled_back_to=rolled_back_to
        ),
    )
    result = carry_out(run, job, what, live.deployer, base)
    if result.failure is None and job.policy is not None and job.policy.smoke:
        result = smoke_checks(run, job, result)
    return result


def _nothing_noted(_calls: int) -> bytes | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done, and from which record it was planned; no graph is a deletion."""

    target: Target
    operations: tuple[Operation, ...]
    identity: Identity
    recorded: Recorded | None
    snapshot: bytes | None = None
    noted: Callable[[int], bytes | None] = _nothing_noted
    """The list of releases after that many changing calls; None: as it is."""

    @property
    def verb(self) -> str:
        """What is done, for the lease and the record."""
        return "delete" if self.target.graph is None else "deploy"


def carry_out(
    run: Run, job: Job, what: Work, deployer: Deployer, base: model.Result
) -> model.Result:
    """Hold the stage, apply, record. What needs no call needs no lease."""
    steps = _Steps(run=run, job=job.name, recorded=what.recorded)
    guard = _Looking(guard=_guard(run, job, what.target, what.identity), signals=run.world.signals)
    # From here on a signal is told: whoever takes the lease gives it back.
    with run.world.signals.held() as signal:
        held = (
            hold(run, job, what.recorded, what.operations, verb=what.verb, identity=what.identity)
            if what.operations
            else None
        )
        recording = _Recording(
            recorded=what.recorded, held=held, snapshot=what.snapshot, noted=what.noted
        )
        try:
            outcome = deployer.apply(
                what.target,
                what.operations,
                gate=guard if held is None else Gates(guard, held),
                witness=held,
                progress=steps,
                interrupted=lambda: signal.error,
            )
            signal.ending = True
            result = replace(base, operations=steps.told(what.operations))
            done = "deleted" if what.verb == "delete" else "deployed"
            return _record(run, job, result, outcome, recording, verb=done)
        finally:
            if held is not None:
                held.finish(recorded=recording.saved)


@dataclass(frozen=True, kw_only=True)
class _Looking:
    """The guard, whose looks at AWS a signal ends: they change nothing, and may take minutes."""

    guard: Guard
    signals: Signals

    def review(self, operations: tuple[Operation, ...]) -> None:
        with self.signals.raised():
            self.guard.review(operations)

    def allow(self, call: Call) -> None:
        with self.signals.raised():
            self.guard.allow(call)

    def done(self, call: Call, result: Result) -> None:
        self.guard.done(call, result)


@dataclass(kw_only=True)
class _Recording:
    """What goes with the last write of a state, and whether it was made."""

    recorded: Recorded | None
    held: Held | None
    snapshot: bytes | None = None
    noted: Callable[[int], bytes | None] = _nothing_noted
    saved: bool = False

    def closing(self, outcome: Outcome, state: StageState) -> JournalChange | None:
        """What becomes of the journal: a deploy that did not complete leaves it open."""
        if self.held is None:
            return None
        return self.held.closing(state, complete=outcome.complete or outcome.calls == 0)


def _record(
    run: Run,
    job: Job,
    result: model.Result,
    outcome: Outcome,
    recording: _Recording,
    *,
    verb: str,
) -> model.Result:
    """Record what stands now, then say what went wrong, if anything did.

    The snapshot is what stands after full success; what a stopped deployment left is neither that
    nor what was there before.
    """
    state = StageState(resources=tuple(dict(resource) for resource in outcome.resources))
    words = verb if outcome.complete else f"stopped after {outcome.calls} changes"
    failure = None if outcome.error is None else model.Failure.of(outcome.error)
    for resource in outcome.left_behind:
        run.progress.say(f"left behind: {dict(resource)}", job=job.name)
    recorded, held = recording.recorded, recording.held
    if recorded is None and not state.resources and not outcome.calls:
        # Nothing was done and nothing was there: no record either.
        recording.saved = held is None or held.release()
        if outcome.interruption is not None:
            raise outcome.interruption
        return replace(result, failure=failure, changed=False)
    key, ephemeral = key_of(job), PREVIEW.fullmatch(job.stage) is not None
    try:
        written = run.records.store.write(
            key,
            # Of a preview that is gone nothing stays: over the years they would be thousands.
            None if verb == "deleted" and outcome.complete and ephemeral else state,
            expected="" if recorded is None else recorded.version,
            message=commit_message(
                app=job.app.name,
                stage=job.stage,
                commit=run.checkout.commit or "",
                result=words,
                run=run.run_url,
            ),
            snapshot=_standing_snapshot(run, job, outcome, recording),
            journal=recording.closing(outcome, state),
            releases=_releases(run, job, outcome, recording),
        )
        recording.saved = True
    except (StateNotRecorded, StateMoved) as error:
        failure = model.Failure.of(_kept(run, job, state, error))
        run.progress.say(failure.what, job=job.name)
        if outcome.interruption is not None:
            raise outcome.interruption from error
        return replace(result, failure=failure, changed=outcome.calls > 0)
    run.progress.say(
        f"state recorded: {run.records.name}"
        + (f" at {written.commit[:12]}" if written.commit else "")
        + ("" if written.changed else ", unchanged"),
        job=job.name,
    )
    if outcome.interruption is not None:
        raise outcome.interruption
    return replace(
        result,
        failure=failure,
        changed=outcome.calls > 0,
        state=model.RecordedState(
            store=run.records.name,
            file=key.file,
            commit=written.commit or "",
            version=written.version,
            changed=written.changed,
        ),
        urls=run.urls(urls(state)),
    )


def _releases(run: Run, job: Job, outcome: Outcome, recording: _Recording) -> bytes | None:
    """The list of releases with this one; what stands is recorded also when there can be none."""
    if not outcome.complete:
        return None
    try:
        return recording.noted(outcome.calls)
    except (UserError, OSError) as error:
        run.progress.say(f"this release is not noted: {error}", job=job.name)
        return None


def _standing_snapshot(run: Run, job: Job, outcome: Outcome, recording: _Recording) -> bytes | None:
    """What stands after full success is what was deployed; without any call what stood before.

    What stands is recorded also when that cannot be read.
    """
    if outcome.complete:
        return recording.snapshot
    if outcome.calls:
        return None
    try:
        return run.records.store.snapshot(key_of(job))
    except (UserError, OSError) as error:
        run.progress.say(f"what was deployed before is not known any more: {error}", job=job.name)
        return None


def _kept(run: Run, job: Job, state: StageState, error: UserError) -> StateNotRecorded:
    """The error of a state that could not be recorded, with the file that holds it now."""
    name = f"{job.app.name}-{job.stage}.state.json"
    keep_in_summary(run, name, render(state))
    try:
        path = run.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, render(state))
        run.hand_over(path)
    except OSError:
        # A full disk or a read-only folder must not be the end of the only record.
        try:
            path = Path(tempfile.mkdtemp(prefix="chalice-ci-state-")) / name
            path.write_bytes(render(state))
        except OSError:
            return StateNotRecorded(
                f"{error.what} No file could be written either. The state is:\n"
                f"{render(state).decode()}",
                where=error.where,
                fix=f"Save these lines as {name}.\n{error.fix}\nThen: chalice-ci state import "
                f"{name} --app {job.app.name} --stage {job.stage} --force",
            )
    return StateNotRecorded(
        f"{error.what} The state is in {run.shown(path)}: keep that file.",
        where=error.where,
        fix=f"{error.fix}\nThen: chalice-ci state import {run.shown(path)} "
        f"--app {job.app.name} --stage {job.stage} --force",
    )


# -- shared ---------------------------------------------------------------------------------------


def _guard(run: Run, job: Job, target: Target, identity: Identity) -> Guard:
    return Guard(owner_of(target, identity), run.clients_for(job, identity.region))


def _agreed_name(job: Job, state: StageState) -> str:
    """Without a config.json: the app's own name, if the recorded resources agree with it.

    The record alone does not decide: it could name another app's resources and call them ours.
    """
    name = job.app.name
    arns = [str(r.get("lambda_arn") or r.get("role_arn") or "") for r in state.resources]
    named = [arn.rpartition(":")[2].rpartition("/")[2] for arn in arns if arn]
    prefix = f"{name}-{job.stage}"
    if named and all(one == prefix or one.startswith(f"{prefix}-") for one in named):
        return name
    raise UsageError(
        f"there is no readable .chalice/config.json, and the recorded resources are not named "
        f"{prefix}, so it is not known what this app's resources are called.",
        where=job.name,
        fix='Restore .chalice/config.json with the "app_name" that was deployed, or give the app '
        "that name under `apps` in chalice-ci.yml.",
    )
