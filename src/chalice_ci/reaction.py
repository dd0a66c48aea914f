"""`run`: what happened, and everything that follows from it.

The event is routed to tasks; each task ends in a result. On a pull request a comment tells how it
goes, and a preview is a deployment that the forge shows. What the forge refuses is said and never
turns a good deploy into a bad one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from chalice_ci.applying import delete_stage, deploy_stage, plan_stage
from chalice_ci.baseline import with_changes, with_upgrade
from chalice_ci.building import Built, app_name_of, check_built, known_stages
from chalice_ci.context import Context
from chalice_ci.conversation import Conversation
from chalice_ci.errors import ForgeError
from chalice_ci.forge.port import Deployment, DeploymentState, Forge
from chalice_ci.jobs import Reaction, acted, checked, empty, fails, guarded, stopped_by
from chalice_ci.narrowing import narrowed
from chalice_ci.present import at_present
from chalice_ci.report.report import Intent, Result, Verdict
from chalice_ci.route import Job, Task, Wish, route_event
from chalice_ci.run import Run
from chalice_ci.smoke import reachable


def react(run: Run, context: Context, forge: Forge | None, wish: Wish) -> Reaction:
    """Do what the event asks for, as far as things still are as it says."""
    context = at_present(context, forge)
    said = Conversation(scene=run)
    try:
        routed = narrowed(run, context, route_event(run.config, known_stages(run), context, wish))
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


def _do(run: Run, tasks: Sequence[Task], desk: Desk) -> tuple[Result, ...]:
    """Each task in order; checks are looked at together, as `check` does."""
    built: dict[int, Built | Result] = {}
    results: dict[int, Result] = {}
    for number, task in enumerate(tasks):
        if task.intent is Intent.CHECK:
            built[number] = _compared(run, task.job, checked(run, task.job))
            continue
        stopped = stopped_by(run, task.job, results.values())
        if stopped:
            results[number] = empty(task.job, skipped=True, note=stopped)
            continue
        results[number] = guarded(run, task.job, partial(desk.perform, task))
    together = dict(zip(built, check_built(run, built.values()), strict=True))
    done = results | together
    return tuple(replace(done[n], intent=task.intent) for n, task in enumerate(tasks))


def _compared(run: Run, job: Job, built: Built | Result) -> Built | Result:
    """On a pull request also what it changes."""
    if run.context.pull_request is None:
        return built
    if isinstance(built, Result):
        return with_upgrade(run, job, built)
    return with_changes(run, built, of_deployment=False)


@dataclass(kw_only=True)
class Desk:
    """Where tasks are done that the forge is told of; without a forge nobody is."""

    run: Run
    context: Context
    forge: Forge | None
    said: Conversation

    def perform(self, task: Task) -> Result:
        """One task that is more than a check."""
        match task.intent:
            case Intent.PLAN:
                return acted(self.run, task.job, plan_stage, deploys=False)
            case Intent.DEPLOY if task.job.like is None:
                return acted(self.run, task.job, deploy_stage, deploys=True)
            case Intent.DEPLOY:
                return self._preview_up(task.job)
            case Intent.REMOVE:
                return self._preview_down(task.job)
        raise AssertionError(f"an event does not lead to {task.intent} alone")

    def _preview_up(self, job: Job) -> Result:
        deployment = self._started(job)
        try:
            result = _answering(self.run, acted(self.run, job, deploy_stage, deploys=True))
        except BaseException:
            self._finished(deployment, DeploymentState.ERROR, "")
            raise
        good = not fails(self.run, result)
        state = DeploymentState.SUCCESS if good else DeploymentState.FAILURE
        self._finished(deployment, state, _main_url(result))
        return replace(result, preview=True)

    def _preview_down(self, job: Job) -> Result:
        result = delete_stage(self.run, job, app_name_of(self.run, job.app))
        if self.forge is not None and not fails(self.run, result):
            try:
                self.forge.remove_environment(self._environment(job))
            except ForgeError as error:
                self.said.trouble("the preview's deployment could not be taken away", error)
        return replace(result, preview=True)

    def _environment(self, job: Job) -> str:
        """The forge's name for a preview: that of the stage, with several apps the app's too."""
        several = len(self.run.config.apps) > 1
        return f"{job.stage}-{job.app.name}" if several else job.stage

    def _started(self, job: Job) -> Deployment | None:
        if self.forge is None or self.context.commit is None:
            return None
        try:
            return self.forge.start_deployment(
                environment=self._environment(job),
                sha=self.context.commit,
                run=self.said.order,
                log_url=self.context.run_url,
                description=f"Preview of {job.app.name}",
            )
        except ForgeError as error:
            self.said.trouble("the preview could not be announced as a deployment", error)
            return None

    def _finished(self, deployment: Deployment | None, state: DeploymentState, url: str) -> None:
        if self.forge is None or deployment is None:
            return
        try:
            self.forge.finish_deployment(deployment, state, url=url, log_url=self.context.run_url)
        except ForgeError as error:
            self.said.trouble("the deployment's status could not be set", error)


def _main_url(result: Result) -> str:
    return next((url.address for url in result.urls if url.kind == "rest"), "")


def _answering(run: Run, result: Result) -> Result:
    """A preview is up when its URL answers, with whatever it likes but an error of the server."""
    url = _main_url(result)
    if result.verdict is not Verdict.OK or not url or result.smoke:
        # Its own smoke checks have asked already.
        return result
    run.progress.say(f"asking {url}", job=f"{result.app}/{result.stage}")
    return reachable(result, url)
