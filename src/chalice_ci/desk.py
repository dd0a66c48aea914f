"""Where the tasks of an event are done that are more than checks: plans, deploys, previews.

A preview is a deployment that the forge shows; what the forge refuses is said and never turns a
good deploy into a bad one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chalice_ci.applying import delete_stage, deploy_stage, plan_stage
from chalice_ci.building import app_name_of
from chalice_ci.context import Context
from chalice_ci.conversation import Conversation
from chalice_ci.errors import ForgeError, UserError
from chalice_ci.forge.port import Deployment, DeploymentState, Forge, NotFound
from chalice_ci.holding import key_of
from chalice_ci.jobs import acted, empty, fails, guarded
from chalice_ci.previews import Room, room_for, unwanted
from chalice_ci.recorded import recorded_result
from chalice_ci.report.comment import taken_down
from chalice_ci.report.report import Failure, Intent, Result, Verdict
from chalice_ci.route import Job, Task
from chalice_ci.run import Run
from chalice_ci.smoke import reachable


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
                return self._preview_down(task.job, task.why)
        raise AssertionError(f"an event does not lead to {task.intent} alone")

    def _preview_up(self, job: Job) -> Result:
        room = room_for(self.run, job, self.forge)
        refused = self._beyond_limit(job, room)
        if refused:
            return replace(empty(job, skipped=True, note=refused), preview=True)
        deployment = self._started(job, fresh=room.fresh and self._is_first())
        try:
            result = _answering(self.run, acted(self.run, job, deploy_stage, deploys=True))
        except BaseException:
            self._finished(deployment, DeploymentState.ERROR, "")
            raise
        good = not fails(self.run, result)
        state = DeploymentState.SUCCESS if good else DeploymentState.FAILURE
        self._finished(deployment, state, _main_url(result))
        late = self._not_wanted(job)
        if late:
            # The run of the event that told so may have ended before anything was recorded.
            return self._preview_down(job, late)
        return replace(result, preview=True)

    def _preview_down(self, job: Job, why: str = "") -> Result:
        name = app_name_of(self.run, job.app)
        result = guarded(self.run, job, lambda: delete_stage(self.run, job, name))
        if result.failure is not None:
            result = self._with_rest(job, result, result.failure)
        elif self.forge is not None:
            self._forget_deployments(self.forge, job)
            self._tell_of_removal(self.forge, job, why)
        note = "; ".join(words for words in (why, result.note) if words)
        return replace(result, preview=True, note=note)

    def _with_rest(self, job: Job, result: Result, failure: Failure) -> Result:
        """A teardown that failed, with what it left."""
        try:
            left = recorded_result(self.run, key_of(job)).resources
        except UserError:
            # The failure says already what is wrong with the record.
            return result
        if not left:
            return result
        names = ", ".join(f"{resource.type} {resource.name}" for resource in left)
        self.run.progress.say(f"still there: {names}", job=job.name)
        told = replace(
            failure,
            what=f"{failure.what.rstrip('.')}. Still there: {names}.",
            fix=f"{failure.fix}\nThe next run on this pull request tries again, and so does "
            "`chalice-ci preview sweep`.".strip(),
        )
        return replace(result, resources=left, failure=told)

    def _beyond_limit(self, job: Job, room: Room) -> str:
        """Make room for a new preview; why there is none, empty when there is."""
        left = room.left
        for task in room.tasks:
            self.run.progress.say(f"taking {task.job.name} down: {task.why}", job=job.name)
            down = self._preview_down(task.job, task.why)
            left += down.failure is not None
        limit = self.run.config.preview.limit if self.run.config.preview else 0
        if left < limit or not left:
            return ""
        return (
            f"no preview: {job.app.name} has {left} already, and `preview.limit` is {limit}. "
            "Close a pull request, or raise the limit"
        )

    def _not_wanted(self, job: Job) -> str:
        """Why the forge says now that the pull request wants no preview; empty when it does.

        One that the forge does not show is left alone: the token may not be allowed to see it.
        """
        preview, number = self.run.config.preview, int(job.stage.removeprefix("pr-"))
        if self.forge is None or preview is None:
            return ""
        try:
            return unwanted(self.forge.pull_request(number), preview)
        except ForgeError as error:
            self.said.trouble("whether the pull request is still open can't be told", error)
            return ""

    def _forget_deployments(self, forge: Forge, job: Job) -> None:
        """Take the preview's deployments away, also under the name that they would have had before
        the repository had several apps, or one.
        """
        now, other = self._environments(job)
        if self.context.environment == now:
            return
        try:
            forge.remove_environment(now)
            if forge.deployments(other):
                forge.remove_environment(other)
        except ForgeError as error:
            self.said.trouble("the preview's deployment could not be taken away", error)

    def _tell_of_removal(self, forge: Forge, job: Job, why: str) -> None:
        """Mend the comment of a preview that this run took away from another pull request."""
        number, own = int(job.stage.removeprefix("pr-")), self.context.pull_request
        if not self.run.comments or (own is not None and own.number == number):
            return
        try:
            standing = forge.sticky_comment(number)
            if standing is None:
                return
            body = taken_down(standing.body, app=job.app.name, stage=job.stage, why=why)
            if body is not None:
                # In the name of the run that wrote it: a newer one's text stands.
                forge.upsert_comment(number, body, run=standing.run, history=standing.history)
        except NotFound:
            return
        except ForgeError as error:
            self.said.trouble(f"the comment still shows {job.stage} as live", error)

    def _environments(self, job: Job) -> tuple[str, str]:
        """The forge's name for a preview, and the one of another number of apps.

        That of the stage, with several apps the app's too.
        """
        alone, together = job.stage, f"{job.stage}-{job.app.name}"
        return (together, alone) if len(self.run.config.apps) > 1 else (alone, together)

    def _is_first(self) -> bool:
        """Whether no run can have announced a deployment for this pull request before.

        One that failed recorded nothing, and its deployment stands.
        """
        context = self.context
        again = context.run is None or context.run.attempt > 1 or not context.attempts_told
        return context.action == "opened" and not again

    def _started(self, job: Job, *, fresh: bool) -> Deployment | None:
        if self.forge is None or self.context.commit is None or self.context.environment:
            return None
        try:
            return self.forge.start_deployment(
                environment=self._environments(job)[0],
                sha=self.context.commit,
                run=self.said.order,
                fresh=fresh,
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
