"""What a run tells its pull request: one comment, from the beginning to whatever end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from chalice_ci.context import RunOrder
from chalice_ci.errors import ExitCode, ForgeError, UserError
from chalice_ci.forge.port import HISTORY, MAX_COMMENT, Comment, Past, ShowsFindings
from chalice_ci.report.comment import LIMIT, comment, in_progress
from chalice_ci.report.origin import Origin, Waiting
from chalice_ci.report.report import Failure, Intent, Report, Result
from chalice_ci.route import Task
from chalice_ci.scene import Scene

_DOING = {
    Intent.CHECK: "checking…",
    Intent.REHEARSE: "rehearsing…",
    Intent.PLAN: "planning…",
    Intent.DEPLOY: "deploying…",
    Intent.REMOVE: "deleting…",
}


def history(
    standing: Comment | None, run: RunOrder, *, commit: str, ended: str
) -> tuple[Past, ...]:
    """The runs that a comment remembers, with this one when it has ended."""
    known = () if standing is None else standing.history
    past = tuple(one for one in known if one.run != run)
    if ended and run.id and commit:
        past = (Past(run=run, commit=commit[:7], verdict=ended), *past)
    return past[:HISTORY]


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
            self._say(
                lambda past: in_progress(
                    self._report(),
                    origin=self._origin((), past),
                    waiting=waiting,
                    limit=self._room,
                )
            )

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
        self._show(report)
        return self._say(
            lambda past: comment(
                report,
                origin=self._origin(report.notes, past),
                fail_on=self.scene.fail_on,
                limit=self._room,
            ),
            ended=report.verdict.value,
        )

    def abandon(self, problem: Exception) -> str:
        """Say that the run ended in an error; of one that is killed `action-post` says so."""
        error = problem if isinstance(problem, UserError) else None
        failure = Failure(
            exit_code=error.exit_code if error else ExitCode.DEFECT,
            what=error.what if error else f"a defect of chalice-ci: {type(problem).__name__}",
            where=error.where if error else "",
            fix=error.fix if error else "See the log of the run.",
        )
        return self.tell(self._report(failure=failure))

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

    @property
    def _room(self) -> int:
        """How long the comment may be, without its marker."""
        forge = self.scene.forge
        return LIMIT if forge is None else forge.largest_comment - MAX_COMMENT + LIMIT

    def _show(self, report: Report) -> None:
        """Show the findings where the forge has a page for them."""
        scene, commit = self.scene, self.scene.context.commit
        forge: object = scene.forge
        if not (isinstance(forge, ShowsFindings) and commit and scene.context.may_tell):
            return
        try:
            forge.show_findings(commit, report, link=scene.context.run_url)
        except ForgeError as error:
            self.trouble("the findings could not be shown", error)

    def _origin(self, notes: tuple[str, ...], past: tuple[Past, ...]) -> Origin:
        return replace(Origin.of(self.scene.context, notes=notes), history=past)

    def _say(self, text: Callable[[tuple[Past, ...]], str], *, ended: str = "") -> str:
        """Write the comment, with the runs before this one; `ended` is how this one came out."""
        scene, pull = self.scene, self.scene.context.pull_request
        if scene.forge is None or pull is None or not scene.context.may_tell or not scene.comments:
            return ""
        try:
            standing = scene.forge.sticky_comment(pull.number)
            past = history(standing, self.order, commit=scene.context.commit or "", ended=ended)
            upserted = scene.forge.upsert_comment(
                pull.number, text(past), run=self.order, history=past
            )
        except ForgeError as error:
            self.trouble("the comment could not be written", error)
            return ""
        return upserted.comment.url
