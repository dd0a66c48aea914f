"""Before a stage is changed: nobody else is at it, and what an unfinished deploy left is known.

`settle` gives the record to plan from, `hold` the lease to apply with. In between the plan is made;
whoever was faster meanwhile makes `hold` raise, before any call.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chalice_ci.app.deployer import Identity, Target
from chalice_ci.errors import (
    ForgeError,
    LeaseHeld,
    StateMoved,
    StateNotRecorded,
    UsageError,
    WrongAccount,
)
from chalice_ci.inputs import LEASE_WAIT
from chalice_ci.ownership import owner_of
from chalice_ci.plan import Operation
from chalice_ci.route import PREVIEW, Job
from chalice_ci.run import Run
from chalice_ci.signals import Told
from chalice_ci.state.journal import Intent, Journal, Lease
from chalice_ci.state.lease import (
    Clocks,
    Held,
    Here,
    Unlocked,
    has_ended,
    opened,
    take,
    this_process,
    unlock,
    wait_until_free,
)
from chalice_ci.state.local_log import log_path, replay
from chalice_ci.state.recover import Discovery, discover
from chalice_ci.state.schema import Resource, StageState, StateDamaged, checked
from chalice_ci.state.store import StateKey, Stored, commit_message
from chalice_ci.state.transfer import Recorded, recorded_from

ROUNDS = 5
"""How often a plan is made again because somebody else was faster."""


class Overtaken(Exception):
    """Somebody else began to change the stage while the plan was made; nothing was done."""

    def __init__(self, error: StateMoved | LeaseHeld) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage as far as it is known before its record: names, identity, graph if there is one."""

    app_name: str
    identity: Identity
    graph: Mapping[str, object] | None = None


def key_of(job: Job) -> StateKey:
    """Where the job's stage is recorded."""
    return StateKey(app_path=job.app.path, stage=job.stage)


def settle(run: Run, job: Job, stage: Stage) -> Recorded | None:
    """The record of a stage that nobody is changing; what was left open is recovered first.

    Raises LeaseHeld when somebody goes on changing it for longer than the run may wait.
    """
    for _ in range(ROUNDS):
        stored = wait(run, job)
        if stored.journal.raw is None:
            return _recorded(run, job, stored, stage.app_name)
        try:
            recover(run, job, stage, stored)
        except (StateMoved, LeaseHeld):
            continue
    raise LeaseHeld(
        "others kept changing this stage.", where=job.name, fix="Run again when they are done."
    )


def wait(run: Run, job: Job) -> Stored:
    """What the store has once nobody is changing the stage; raises LeaseHeld."""
    return wait_until_free(
        run.records.store,
        key_of(job),
        here=_here(run),
        clocks=_clocks(run),
        patience=_patience(run),
        say=lambda words: run.progress.say(words, job=job.name),
    )


def lock_taken_from(run: Run, job: Job, *, clear: bool) -> Unlocked:
    """Take the stage's lease away from its holder, with `clear` what is left of its deploy too."""
    done = "journal cleared" if clear else "unlocked"
    return unlock(run.records.store, key_of(job), message=_message(run, job, done), clear=clear)


def look(run: Run, job: Job, app_name: str) -> Recorded | None:
    """The record as it is, for a plan: whoever is changing it is left alone."""
    stored = run.records.store.read(key_of(job))
    if stored.journal.raw is not None:
        run.progress.say("a deploy of this stage is going on or was left unfinished", job=job.name)
    return _recorded(run, job, stored, app_name)


def is_open(run: Run, job: Job) -> bool:
    """Whether a deploy of the stage is going on or was left unfinished."""
    return run.records.store.read(key_of(job)).journal.raw is not None


def hold(
    run: Run,
    job: Job,
    recorded: Recorded | None,
    operations: tuple[Operation, ...],
    *,
    verb: str,
    identity: Identity,
) -> Held:
    """Take the stage's lease with everything that is going to be done; raises Overtaken."""
    stored = Stored(
        state=None if recorded is None else recorded.state,
        version="" if recorded is None else recorded.version,
    )
    intents = tuple(Intent(method=o.method, resource=o.resource) for o in operations)
    resources = () if recorded is None else recorded.state.resources
    try:
        return _take(run, job, stored, verb, identity, intents=intents, resources=resources)
    except (StateMoved, LeaseHeld) as error:
        run.progress.say("somebody else was faster", job=job.name)
        raise Overtaken(error) from error
    except StateNotRecorded as error:
        raise ForgeError(
            f"nothing was deployed, because it could not be recorded: {error.what}",
            where=error.where,
            fix=error.fix,
        ) from error


def recover(run: Run, job: Job, stage: Stage, stored: Stored) -> Discovery:
    """Record what there is: what the unfinished deploy knew, and what is found in AWS."""
    key = key_of(job)
    left = opened(key, stored.journal)
    resources = () if stored.state is None else stored.state.resources
    intents: tuple[Intent, ...] = ()
    if left is not None:
        where = (left.account, left.region)
        if where != (stage.identity.account, stage.identity.region):
            raise WrongAccount(
                f"a deploy of this stage to account {left.account}, {left.region}, was left "
                f"unfinished; the credentials are of {stage.identity.account}, "
                f"{stage.identity.region}.",
                where=job.name,
                fix="Use the credentials and the region of that deploy, or clear its journal with "
                f"`chalice-ci state unlock --stage {job.stage} --force` and remove by hand what it "
                "made.",
            )
        resources, intents = left.resources, left.intents
        resources = _with_log(run, key, left.lease, resources)
        run.progress.say(f"recovering an unfinished {left.verb}", job=job.name)
    target = Target(
        app_name=stage.app_name, stage=job.stage, graph=stage.graph, resources=resources
    )
    signals = run.world.signals
    # From here on a signal is told: whoever takes the lease gives it back.
    with signals.held() as signal:
        held = _take(
            run, job, stored, "recover", stage.identity, intents=intents, resources=resources
        )
        recorded = False
        try:
            with _given_back(held, signal), signals.raised():
                found = discover(
                    owner_of(target, stage.identity),
                    run.clients_for(job, stage.identity.region),
                    resources,
                    _topics(stage.graph),
                    intents=intents,
                )
            state = StageState(resources=found.resources)
            run.records.store.write(
                key,
                state,
                expected=stored.version,
                message=_message(run, job, "recovered"),
                journal=held.closing(state, complete=True),
            )
            recorded = True
        finally:
            held.finish(recorded=recorded)
    for words, names in (("adopted", found.adopted), ("dropped", found.dropped)):
        for kind, name in names:
            run.progress.say(f"{words} {kind} {name}", job=job.name)
    for doubt in found.doubtful:
        run.progress.say(f"found more than once, left alone: {doubt}", job=job.name)
    return found


@contextlib.contextmanager
def _given_back(held: Held, signal: Told) -> Iterator[None]:
    """Give the stage back when looking fails: what is known is in the journal now, for whoever
    recovers next. After it only what must be done at the end is left.
    """
    try:
        yield
    except BaseException:
        signal.ending = True
        held.give_back()
        raise
    signal.ending = True


def _with_log(
    run: Run, key: StateKey, lease: Lease | None, resources: tuple[Resource, ...]
) -> tuple[Resource, ...]:
    """What the unfinished deploy wrote to this machine's disk, put over what the store has."""
    if lease is None:
        return resources
    told = replay(log_path(run.cache_dir, run.records.name, key.file), lease.token)
    if told is None:
        return resources
    standing: dict[str, Resource] = {
        str(r["name"]): r for r in resources if r["name"] not in told.gone
    }
    for resource in told.standing:
        name = str(resource["name"])
        before = standing.get(name, {})
        same = before.get("resource_type") == resource.get("resource_type")
        standing[name] = {**(before if same else {}), **resource}
    try:
        return checked(tuple(standing.values())).resources
    except StateDamaged:
        # No log of ours: AWS says what there is.
        return resources


def _take(
    run: Run,
    job: Job,
    stored: Stored,
    verb: str,
    identity: Identity,
    *,
    intents: tuple[Intent, ...],
    resources: tuple[Resource, ...],
) -> Held:
    key = key_of(job)
    commit = run.checkout.commit or ""
    return take(
        run.records.store,
        key,
        stored,
        Journal(
            lease=None,
            verb=verb,
            account=identity.account,
            region=identity.region,
            commit=commit,
            intents=intents,
            resources=resources,
        ),
        here=_here(run),
        clocks=_clocks(run),
        reason=f"{verb} {commit[:12]}".strip(),
        message=_message(run, job, f"{verb}: begun"),
        log_file=log_path(run.cache_dir, run.records.name, key.file),
        # Others may write for minutes before it is this write's turn.
        writing=run.world.signals.raised,
    )


def _message(run: Run, job: Job, result: str) -> str:
    return commit_message(
        app=job.app.name,
        stage=job.stage,
        commit=run.checkout.commit or "",
        result=result,
        run=run.run_url,
    )


def _recorded(run: Run, job: Job, stored: Stored, app_name: str) -> Recorded | None:
    # Nobody committed the state of a preview beside the code.
    source = None if PREVIEW.fullmatch(job.stage) else run.records.source
    recorded = recorded_from(
        stored, key_of(job), source=source, ref=run.records.ref, app_name=app_name
    )
    if recorded is not None and recorded.imported_from:
        run.progress.say(f"first run: state taken from {recorded.imported_from}", job=job.name)
    return recorded


def _here(run: Run) -> Here:
    order = run.context.run
    return Here(
        owner=run.run_url or f"process {os.getpid()} on {platform.node() or 'this machine'}",
        process=this_process(),
        run=0 if order is None else order.id,
        attempt=0 if order is None else order.attempt,
        has_ended=has_ended,
    )


def _clocks(run: Run) -> Clocks:
    return Clocks(now=run.world.now, elapsed=run.world.elapsed, sleep=run.world.sleep)


def _patience(run: Run) -> float:
    text = run.inputs.text(LEASE_WAIT)
    if not text.isascii() or not text.isdigit():
        value = run.inputs.value(LEASE_WAIT)
        raise UsageError(
            f"{text[:40]!r} is not a number of seconds.",
            where=value.detail or f"input {LEASE_WAIT.name}",
            fix=f"Give whole seconds, such as {LEASE_WAIT.default}.",
        )
    return float(text)


def _topics(graph: Mapping[str, object] | None) -> Mapping[str, str]:
    """How the app names the topics of its subscriptions, by the resource's name."""
    nodes = () if graph is None else graph.get("nodes")
    found = {}
    for node in nodes if isinstance(nodes, list) else ():
        if node.get("type") == "SNSLambdaSubscription":
            fields = node["fields"]
            found[str(fields["resource_name"])] = str(fields["topic"])
    return found
