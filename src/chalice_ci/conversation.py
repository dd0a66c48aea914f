"""What a run tells its pull request: one comment, from the beginning to whatever end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chalice_ci.context import RunOrder
from chalice_ci.errors import ExitCode, ForgeError, UserError
from chalice_ci.report.comment import comment, in_progress
from chalice_ci.report.page import Origin, Waiting
from chalice_ci.report.report import Failure, Intent, Report, Result
from chalice_ci.route import Task
from chalice_ci.scene import Scene

_DOING = {
    Intent.CHECK: "checking…",
    Intent.PLAN: "planning…",
    Intent.DEPLOY: "deploying…",
    Intent.REMOVE: "deleting…",
}


@dataclass(kw_only=True)
class Conversation:
    """The comment of a run; without a forge, or for foreign code, nobody is told.

    `troubles` are what the forge refused, in words: they never turn a good run into a bad one.
    """

    scene: Scene
    troubles: list[str] = field(default_factory=list)

    @property
    def order(self) -> RunOrder:
        """Which run this is, for the forge."""
        return self.scene.context.run or RunOrder(id=0)

    def announce(self, tasks: Iterable[Task]) -> None:
        """Say on the pull request that the run goes on."""
        waiting = tuple(
            Waiting(app=task.job.app.name, stage=task.job.stage, doing=_DOING[task.intent])
            for task in tasks
        )
        if waiting:
            self._say(in_progress(self._report(), origin=self._origin(()), waiting=waiting))

    def conclude(self, results: tuple[Result, ...], notes: tuple[str, ...]) -> str:
        """Say how it ended; the comment's address."""
        return self.tell(self._report(results=results, notes=notes))

    def tell(self, report: Report) -> str:
        """Say what a report says; the comment's address.

        Where nothing was done the last text stays, but on a pull request that is still open it
        would be an older commit's verdict.
        """
        if not report.results and report.failure is None and not self._outdated():
            return ""
        text = comment(report, origin=self._origin(report.notes), fail_on=self.scene.fail_on)
        return self._say(text)

    def abandon(self, problem: Exception) -> str:
        """Say that the run ended in an error; of one that is killed `action-post` says so."""
        error = problem if isinstance(problem, UserError) else None
        failure = Failure(
            exit_code=error.exit_code if error else ExitCode.DEFECT,
            what=error.what if error else f"a defect of chalice-ci: {type(problem).__name__}",
            where=error.where if error else "",
            fix=error.fix if error else "See the log of the run.",
        )
        report = self._report(failure=failure)
        return self._say(comment(report, origin=self._origin(()), fail_on=self.scene.fail_on))

    def trouble(self, what: str, error: ForgeError) -> None:
        """Note what the forge refused."""
        text = f"{what}: {error}"
        if text not in self.troubles:
            self.scene.progress.say(text)
            self.troubles.append(text)

    def _outdated(self) -> bool:
        """Whether an older run's verdict would go on standing on a pull request that is open."""
        scene, pull = self.scene, self.scene.context.pull_request
        if scene.forge is None or pull is None or not pull.open or not scene.comments:
            return False
        try:
            return scene.forge.sticky_comment(pull.number) is not None
        except ForgeError:
            return False

    def _report(
        self,
        *,
        results: tuple[Result, ...] = (),
        notes: tuple[str, ...] = (),
        failure: Failure | None = None,
    ) -> Report:
        commit = self.scene.context.commit or ""
        return Report(verb="run", results=results, notes=notes, failure=failure, commit=commit)

    def _origin(self, notes: tuple[str, ...]) -> Origin:
        return Origin.of(self.scene.context, notes=notes)

    def _say(self, body: str) -> str:
        scene, pull = self.scene, self.scene.context.pull_request
        if scene.forge is None or pull is None or not scene.context.trusted or not scene.comments:
            return ""
        try:
            upserted = scene.forge.upsert_comment(pull.number, body, run=self.order)
        except ForgeError as error:
            self.trouble("the comment could not be written", error)
            return ""
        return upserted.comment.url
