"""`run`: what happened, and everything that follows from it.

The event is routed to tasks; each task ends in a result. On a pull request a comment tells how it
goes. `preview up`, `down` and `sweep` do a part of the same by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from chalice_ci.baseline import deployed, with_changes, with_upgrade
from chalice_ci.building import Built, check_built, known_stages
from chalice_ci.context import Context
from chalice_ci.conversation import Conversation
from chalice_ci.desk import Desk
from chalice_ci.errors import UsageError
from chalice_ci.forge.port import Forge
from chalice_ci.inputs import MATRIX_BY, SHARE
from chalice_ci.jobs import Reaction, checked, empty, fails, guarded, stopped_by
from chalice_ci.matrix import read_share, shared
from chalice_ci.narrowing import narrowed
from chalice_ci.outlook import Live, with_next_step, with_outlook
from chalice_ci.present import at_present
from chalice_ci.previews import app_of, orphans, preview_keys, wanted
from chalice_ci.report.report import Intent, Result
from chalice_ci.route import PREVIEW, Job, Routed, Task, Wish, deploy_jobs, preview_job
from chalice_ci.run import Run


def react(run: Run, context: Context, forge: Forge | None, wish: Wish) -> Reaction:
    """Do what the event asks for, as far as things still are as it says."""
    context = at_present(context, forge)
    said = Conversation(scene=run)
    try:
        routed = _share_of(run, narrowed(run, context, wanted(run, context, forge, wish)))
        for note in routed.notes:
            run.progress.say(note)
        said.announce(routed.tasks)
        desk = Desk(run=run, context=context, forge=forge if context.trusted else None, said=said)
        results = _do(run, routed.tasks, desk)
    except Exception as problem:
        said.abandon(problem)
        raise
    url = said.conclude(results, (*run.notes, *routed.notes))
    return Reaction(results=results, notes=(*routed.notes, *said.troubles), comment_url=url)


def _share_of(run: Run, routed: Routed) -> Routed:
    """What is this job's to do, where several equal jobs share an event; a note says how much."""
    given = run.inputs.value(SHARE)
    share = read_share(given.text, where=given.detail)
    if share is None:
        return routed
    by_app = run.inputs.text(MATRIX_BY) == "app"
    tasks = shared(routed.tasks, share, by_app=by_app)
    note = f"Share {given.text}: {len(tasks)} of {len(routed.tasks)} tasks are done here."
    return replace(routed, tasks=tasks, notes=(*routed.notes, note))


def bring_up(run: Run, context: Context, forge: Forge | None, wish: Wish) -> Reaction:
    """`preview up`: deploy the preview that is named, or that of the event's pull request."""
    context = at_present(context, forge)
    if context.superseded:
        return Reaction(notes=(context.superseded,))
    named = replace(wish, stages=_named(context, wish))
    jobs = deploy_jobs(run.config, known_stages(run), named)
    return _performed(run, context, forge, [Task(intent=Intent.DEPLOY, job=job) for job in jobs])


def take_down(run: Run, context: Context, forge: Forge | None, wish: Wish) -> Reaction:
    """`preview down`: delete the preview that is named, or that of the event's pull request."""
    stages = _named(context, wish)
    apps = {app.path: app for app in run.config.apps}
    for key in preview_keys(run):
        if key.stage in stages:
            apps.setdefault(key.app_path, app_of(run.config, key))
    named = wish.apps or tuple(app.name for app in apps.values())
    tasks = [
        Task(intent=Intent.REMOVE, job=preview_job(run.config, app, stage))
        for stage in stages
        for app in apps.values()
        if app.name in named
    ]
    if not tasks:
        raise UsageError(
            f"there is no app {', '.join(wish.apps)[:60]!r} here, and none is recorded.",
            where="option --app",
            fix=f"The apps are: {', '.join(app.name for app in apps.values())}.",
        )
    return _performed(run, context, forge, tasks)


def sweep(run: Run, context: Context, forge: Forge | None, wish: Wish) -> Reaction:
    """`preview sweep`: delete every recorded preview that nobody wants any more."""
    blind = () if forge is not None else ("There is no token: only `ttl` and `limit` count.",)
    tasks = orphans(run, forge, wish)
    if not tasks:
        return Reaction(notes=(*blind, "Every preview that is recorded is wanted."))
    done = _performed(run, context, forge, tasks)
    return replace(done, notes=(*blind, *done.notes))


def _performed(run: Run, context: Context, forge: Forge | None, tasks: Sequence[Task]) -> Reaction:
    said = Conversation(scene=run)
    desk = Desk(run=run, context=context, forge=forge if context.trusted else None, said=said)
    results = _do(run, tasks, desk)
    return Reaction(results=results, notes=tuple(said.troubles))


def _named(context: Context, wish: Wish) -> tuple[str, ...]:
    """The preview stages that were asked for."""
    pull = context.pull_request
    stages = wish.stages or (() if pull is None else (f"pr-{pull.number}",))
    wrong = next((stage for stage in stages if not PREVIEW.fullmatch(stage)), None)
    if wrong is not None or not stages:
        what = f"{wrong[:60]!r} is no preview" if wrong else "which preview is not said"
        raise UsageError(
            f"{what}.", where="option --stage", fix="Name it by its pull request: --stage pr-42."
        )
    return stages


def _do(run: Run, tasks: Sequence[Task], desk: Desk) -> tuple[Result, ...]:
    """Each task in order; checks are looked at together, as `check` does."""
    built: dict[int, Built | Result] = {}
    results: dict[int, Result] = {}
    for number, task in enumerate(tasks):
        if task.intent in (Intent.CHECK, Intent.REHEARSE):
            built[number] = _compared(run, task.job, checked(run, task.job))
            continue
        stopped = stopped_by(run, task.job, results.values())
        if stopped:
            results[number] = empty(task.job, skipped=True, note=stopped)
            continue
        results[number] = guarded(run, task.job, partial(desk.perform, task))
    together = dict(zip(built, check_built(run, built.values()), strict=True))
    if run.context.event == "schedule":
        # Late: it asks AWS, and only a schedule asks this.
        from chalice_ci.drift import with_drift

        for number, result in together.items():
            job = tasks[number].job
            together[number] = guarded(run, job, partial(with_drift, run, job, result))
    done = results | together
    rehearsing = [n for n, task in enumerate(tasks) if task.intent is Intent.REHEARSE]
    told = {n: replace(done[n], intent=task.intent) for n, task in enumerate(tasks)}
    told |= _rehearsed(run, {n: (built[n], told[n]) for n in rehearsing})
    return tuple(_with_outlook(run, task.job, told[n]) for n, task in enumerate(tasks))


def _rehearsed(
    run: Run, checks: Mapping[int, tuple[Built | Result, Result]]
) -> Mapping[int, Result]:
    """Deploy what can be deployed on an embedded AWS; the results by their numbers."""
    if not checks:
        return {}
    # Late: only for pull requests of strangers.
    from chalice_ci.rehearsal import Rehearsals

    with Rehearsals.open(run) as rehearsals:
        return {
            number: replace(result, intent=Intent.CHECK)
            if isinstance(built, Result)
            else guarded(run, built.job, partial(rehearsals.rehearsed, built, result))
            for number, (built, result) in checks.items()
        }


def _with_outlook(run: Run, job: Job, result: Result) -> Result:
    """With what is next; on a pull request also what a checked stage still needs."""
    pull = run.context.pull_request
    if pull is None:
        return result if result.intent is Intent.CHECK else with_next_step(result, job)
    needed = job.policy.needs if job.policy else None
    return with_outlook(
        result,
        job,
        base_branch=pull.base_branch,
        labels=pull.labels,
        passed=not fails(run, result),
        live=None if needed is None else _live(run, job, needed),
    )


def _live(run: Run, job: Job, stage: str) -> Live:
    """What the record says is live in another stage; AWS is asked when it comes to deploying."""
    snapshot = deployed(run, replace(job, stage=stage)).snapshot
    if snapshot is None:
        return Live(stage=stage)
    return Live(stage=stage, digests={one.slot: one.sha256 for one in snapshot.archives})


def _compared(run: Run, job: Job, built: Built | Result) -> Built | Result:
    """On a pull request also what it changes."""
    if run.context.pull_request is None:
        return built
    if isinstance(built, Result):
        return with_upgrade(run, job, built)
    return with_changes(run, built, of_deployment=False)
