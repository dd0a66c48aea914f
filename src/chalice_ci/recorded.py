"""The verbs that work on the record alone: `url`, `state show`, `state pull`, `state import`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from chalice_ci.building import app_name_of
from chalice_ci.errors import UsageError
from chalice_ci.holding import key_of
from chalice_ci.jobs import guarded
from chalice_ci.report.report import RecordedState, Resource, Result
from chalice_ci.route import Job, Wish, named_jobs
from chalice_ci.run import Run
from chalice_ci.state.store import StateKey, commit_message
from chalice_ci.state.transfer import import_file, pull, show
from chalice_ci.state.urls import urls


def stage_urls(run: Run, wish: Wish) -> tuple[Result, ...]:
    """The addresses of each recorded stage."""
    return _recorded(run, wish)


def show_states(run: Run, wish: Wish, *, verify: bool = False) -> tuple[Result, ...]:
    """What is recorded for each stage; `verify` compares it with what is live."""
    if not verify:
        return _recorded(run, wish)
    # Late: it builds, and asks AWS.
    from chalice_ci.provenance import verified

    def look(job: Job) -> Result:
        return verified(run, job, recorded_result(run, key_of(job)))

    return tuple(guarded(run, job, partial(look, job)) for job in named_jobs(run.config, wish))


def pull_states(run: Run, wish: Wish, *, force: bool, sdk: bool = False) -> tuple[Result, ...]:
    """Write the records as Chalice's own files into the checkout, and with `sdk` API clients."""
    keys = _keys(run, wish)
    if sdk and not wish.stages:
        raise UsageError(
            "a client is made of a stage's API, so the stage has to be named.",
            where="--sdk",
            fix="Name the stage: --stage NAME.",
        )
    for path in pull(run.records.store, keys, project_dir=run.checkout.root, force=force):
        run.hand_over(path)
        run.progress.say(f"wrote {run.shown(path)}")
    if not sdk:
        return _recorded(run, wish)
    return tuple(
        guarded(run, job, partial(_with_sdk, run, job)) for job in named_jobs(run.config, wish)
    )


def _with_sdk(run: Run, job: Job) -> Result:
    # Late: it asks AWS.
    from chalice_ci.sdk import api_of, download_sdk

    key = key_of(job)
    result = recorded_result(run, key)
    state = run.records.store.read(key).state
    if state is None:
        return result
    api = api_of(state, where=job.name)
    folder = run.out / job.app.name / job.stage
    made = download_sdk(run.clients_for(job, api[2]), api, folder, where=job.name)
    run.hand_over(run.out)
    return replace(result, note=f"wrote {run.shown(made)}")


def import_state(run: Run, wish: Wish, file: Path, *, force: bool) -> tuple[Result, ...]:
    """Record a file that Chalice wrote elsewhere."""
    jobs = named_jobs(run.config, wish)
    if len(jobs) != 1:
        raise UsageError(
            f"a file holds the state of one app and stage, named are {len(jobs)}.",
            where=run.shown(file),
            fix="Name both: --app NAME --stage NAME.",
        )
    (job,) = jobs
    if not file.is_file():
        # A pipe would be waited for.
        raise UsageError(
            "there is no such file.",
            where=run.shown(file),
            fix="Give the path of Chalice's file: .chalice/deployed/<stage>.json.",
        )
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the file can't be read: {error.strerror}.",
            where=run.shown(file),
            fix="Give the path of Chalice's file: .chalice/deployed/<stage>.json.",
        ) from error
    key = StateKey(app_path=job.app.path, stage=job.stage)
    written = import_file(
        run.records.store,
        key,
        raw,
        app_name=app_name_of(run, job.app) or job.app.name,
        where=run.shown(file),
        message=commit_message(
            app=job.app.name, stage=job.stage, commit="", result="imported", run=run.run_url
        ),
        force=force,
    )
    result = recorded_result(run, key)
    if result.state is None:
        return (result,)
    recorded = replace(result.state, commit=written.commit or "", changed=written.changed)
    return (replace(result, state=recorded),)


def _recorded(run: Run, wish: Wish) -> tuple[Result, ...]:
    return tuple(recorded_result(run, key) for key in _keys(run, wish))


def _keys(run: Run, wish: Wish) -> tuple[StateKey, ...]:
    """The records asked for; every record of the apps here when no stage is named."""
    by_path = {app.path: app.name for app in run.config.apps}
    if wish.stages:
        return tuple(
            StateKey(app_path=job.app.path, stage=job.stage) for job in named_jobs(run.config, wish)
        )
    chosen = set(wish.apps)
    return tuple(
        key
        for key in run.records.store.keys()  # noqa: SIM118 - a store is no dict
        if key.app_path in by_path and (not chosen or by_path[key.app_path] in chosen)
    )


def recorded_result(run: Run, key: StateKey) -> Result:
    """What is recorded for a stage, as `state show` tells it."""
    app = next((app.name for app in run.config.apps if app.path == key.app_path), key.app_path)
    stored = run.records.store.read(key)
    if stored.state is None:
        return Result(
            app=app, stage=key.stage, path=key.app_path, skipped=True, note="nothing is recorded"
        )
    return Result(
        app=app,
        stage=key.stage,
        path=key.app_path,
        resources=tuple(
            Resource(type=row.resource_type, name=row.name, identity=row.identity)
            for row in show(stored.state)
        ),
        urls=run.urls(urls(stored.state)),
        state=RecordedState(
            store=run.records.name, file=key.file, version=stored.version, changed=False
        ),
    )
