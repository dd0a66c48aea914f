"""Which tasks of an event are left out, because the change does not touch what the app is made of.

A pull request is measured against its merge base, a push against what is deployed. Where nothing
can be compared - no history, no remote - every app is looked at, and that is said: to do too much
is never wrong.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from chalice_ci.affected import what_affects
from chalice_ci.baseline import with_token
from chalice_ci.config import AppConfig
from chalice_ci.context import Context
from chalice_ci.errors import UserError
from chalice_ci.holding import key_of
from chalice_ci.inputs import ONLY_AFFECTED
from chalice_ci.merge_base import NoBase, find_merge_base, objects_with, own_objects
from chalice_ci.releasing import read_releases
from chalice_ci.report.report import Intent
from chalice_ci.route import Job, Routed, Task
from chalice_ci.run import Run
from chalice_ci.state.git_repository import GitFailed, Objects

SHOWN = 12
"""How many names a note has."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Paths that differ, relative to the root, and the commit since which."""

    commit: str
    files: Collection[str]


def narrowed(run: Run, context: Context, routed: Routed) -> Routed:
    """The tasks without those of apps that the change does not touch; a note names them.

    On a pull request the change is what differs from its base; a preview that stands is looked
    after, whatever the last commits changed. On a push it is, for each stage, what differs from the
    commit that was deployed there: what an earlier run failed to deploy is still to be deployed.
    """
    if not run.inputs.flag(ONLY_AFFECTED) or not any(_narrow(t.job.app) for t in routed.tasks):
        return routed
    if context.pull_request is not None:
        return _of_pull_request(run, routed)
    return _of_push(run, routed) if context.event == "push" else routed


def _of_pull_request(run: Run, routed: Routed) -> Routed:
    try:
        change = _since_base(run)
    except (NoBase, GitFailed) as problem:
        return replace(
            routed, notes=(*routed.notes, f"Every app is looked at: {_sentence(problem)}")
        )
    left_out = {
        name
        for name, app in {task.job.app.name: task.job.app for task in routed.tasks}.items()
        if not what_affects(app, change.files, config=run.config.file)
        and not _stands(run, app, routed.tasks)
    }
    if not left_out:
        return routed
    return Routed(
        tasks=tuple(
            task
            for task in routed.tasks
            if task.intent is Intent.REMOVE or task.job.app.name not in left_out
        ),
        notes=(*routed.notes, _left_alone(sorted(left_out), f"since {change.commit[:7]}")),
    )


def _of_push(run: Run, routed: Routed) -> Routed:
    changes = _Changes(run)
    left_out: set[str] = set()
    wanted: set[str] = set()
    for task in routed.tasks:
        if task.intent is Intent.CHECK:
            continue
        wanted.add(task.job.app.name)
        commit = _deployed_commit(run, task.job)
        files = changes.since(commit) if commit else None
        if files is not None and not what_affects(task.job.app, files, config=run.config.file):
            left_out.add(task.job.name)
    if not left_out:
        return routed
    tasks = tuple(task for task in routed.tasks if task.job.name not in left_out)
    # Where nothing is deployed of an app, its other stages are as they were checked before.
    deployed = {task.job.app.name for task in tasks if task.intent is not Intent.CHECK}
    untouched = wanted - deployed
    return Routed(
        tasks=tuple(
            task
            for task in tasks
            if task.intent is not Intent.CHECK or task.job.app.name not in untouched
        ),
        notes=(*routed.notes, _left_alone(sorted(left_out), "since it was deployed")),
    )


def _deployed_commit(run: Run, job: Job) -> str:
    """The commit that was deployed to a stage in full; "" when that is not known."""
    try:
        stored = run.records.store.read(key_of(job))
        if stored.state is None or stored.journal.raw is not None:
            return ""
        releases = read_releases(run, job)
    except UserError:
        # The deploy will say what is wrong.
        return ""
    return releases[0].commit if releases else ""


class _Changes:
    """What differs from commits; each is fetched and compared once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._found: dict[str, Collection[str] | None] = {}

    def since(self, commit: str) -> Collection[str] | None:
        """The paths that differ from a commit, None when it can't be had."""
        if commit not in self._found:
            run = self._run
            try:
                there = objects_with(
                    run.checkout, commit, env=with_token(run), work_dir=run.work_dir
                )
                own = own_objects(run.checkout, env=run.world.env, work_dir=run.work_dir)
                self._found[commit] = differing_files(there, commit, own, "HEAD")
            except (NoBase, GitFailed) as problem:
                run.progress.say(f"{commit[:7]} can't be compared with: {_sentence(problem)}")
                self._found[commit] = None
        return self._found[commit]


def _narrow(app: AppConfig) -> bool:
    """Whether there are files that the app is not made of."""
    return app.path != "." or any(pattern.startswith("!") for pattern in app.paths)


def _left_alone(names: list[str], since: str) -> str:
    told = ", ".join(names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"Left alone, for nothing that they are made of changed {since}: {told}{more}."


def _stands(run: Run, app: AppConfig, tasks: Collection[Task]) -> bool:
    """Whether a preview that the event would bring up is recorded already."""
    for task in tasks:
        if task.job.app == app and task.job.like is not None and task.intent is Intent.DEPLOY:
            try:
                stored = run.records.store.read(key_of(task.job))
            except UserError:
                # It can't be told: the deploy will say what is wrong.
                return True
            if stored.state is not None or stored.journal.raw is not None:
                return True
    return False


# -- what changed ---------------------------------------------------------------------------------


def _since_base(run: Run) -> Change:
    base, objects = find_merge_base(
        run.checkout, run.context, env=with_token(run), work_dir=run.work_dir
    )
    own = own_objects(run.checkout, env=run.world.env, work_dir=run.work_dir)
    return Change(commit=base, files=differing_files(objects, base, own, "HEAD"))


def differing_files(before: Objects, old: str, after: Objects, new: str) -> frozenset[str]:
    """The paths whose mode or content differs between two commits, which may be in different
    object databases: a base that was fetched has none of the head's files.

    Raises GitFailed.
    """
    had, has = _files(before, old), _files(after, new)
    return frozenset(path for path in had.keys() | has.keys() if had.get(path) != has.get(path))


def _files(objects: Objects, commit: str) -> dict[str, str]:
    """Mode and id of each file of a commit, by its path."""
    listing = objects.ask("ls-tree", "-r", "-z", "--full-tree", commit)
    rows = listing.decode("utf-8", "surrogateescape").split("\0")
    return {path: entry for entry, _, path in (row.partition("\t") for row in rows) if path}


def _sentence(problem: Exception) -> str:
    match problem:
        case NoBase():
            return f"{problem.problem} {problem.fix}".strip()
        case _:
            return f"git failed: {problem}."
