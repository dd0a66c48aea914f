"""A deployment that touches no account: on an embedded AWS that lives as long as the run.

For pull requests whose code gets no credential. Everything is done as for a real stage - planned,
applied call by call, recorded - but the record and the plan end with the run, and nothing of what
was deployed is ever run: the code is a stranger's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from chalice_ci import rules
from chalice_ci.applying import deploy_stage
from chalice_ci.building import Built
from chalice_ci.errors import UsageError, UserError
from chalice_ci.findings import in_order
from chalice_ci.jobs import fails
from chalice_ci.local.aws import EmbeddedAWS, require_extra
from chalice_ci.report.report import Intent, Outcome, Result
from chalice_ci.run import Run
from chalice_ci.state.local import LocalStore
from chalice_ci.state.plans import FolderPlans
from chalice_ci.state.select import Records


@dataclass(frozen=True, kw_only=True)
class _Nowhere:
    """The embedded AWS without a gateway: its URLs lead nowhere."""

    environ: Mapping[str, str]

    def local_url_of(self, execute_api_url: str) -> str:
        """The URL as it is."""
        return execute_api_url


class Rehearsals:
    """The rehearsals of a run, in one embedded AWS that is started for the first; see `open`."""

    def __init__(self, run: Run, ending: contextlib.ExitStack) -> None:
        self._run = run
        self._ending = ending
        self._stage: Run | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, run: Run) -> Iterator[Rehearsals]:
        """Rehearse in this block; at its end nothing is left."""
        with contextlib.ExitStack() as ending:
            yield cls(run, ending)

    def rehearsed(self, built: Built, result: Result) -> Result:
        """The result of a check, with what came of deploying that build.

        What stops a rehearsal may be the emulator's fault, so it is a warning. Where the extra is
        not installed nothing is rehearsed, and the result says so.
        """
        if fails(self._run, result):
            return replace(result, intent=Intent.CHECK)
        try:
            require_extra()
        except UsageError:
            note = "not rehearsed: that needs chalice-ci[local], or the image's tag `-rehearsal`"
            return replace(result, intent=Intent.CHECK, note=_joined(result.note, note))
        self._run.progress.say("rehearsing on the embedded AWS", job=built.job.name)
        # What its checks would ask is the stranger's code, and what it needs is in an account.
        policy = built.job.policy
        job = built.job
        if policy is not None:
            policy = replace(policy, smoke=(), needs=None, environment=None, role=None)
            job = replace(job, policy=policy)
        try:
            done = deploy_stage(self._embedded(), replace(built, job=job, result=result))
        except UserError as error:
            return _stopped(result, str(error))
        if done.failure is not None:
            return _stopped(result, f"{done.failure.where}: {done.failure.what}".lstrip(": "))
        calls = [one for one in done.operations if one.outcome is Outcome.DONE]
        resources = {operation.resource for operation in calls}
        words = (
            "1 resource came up" if len(resources) == 1 else f"{len(resources)} resources came up"
        )
        note = _joined(result.note, f"rehearsed on the embedded AWS: {words}")
        return replace(result, intent=Intent.REHEARSE, note=note)

    def _embedded(self) -> Run:
        if self._stage is None:
            aws = self._ending.enter_context(EmbeddedAWS.start(gateway=False))
            folder = self._run.work_dir / "rehearsal"
            records = Records(
                store=LocalStore(folder / "state"),
                name="a record of this run",
                plans=FolderPlans(folder / "plans"),
            )
            self._stage = replace(
                self._run,
                cloud=_Nowhere(environ=aws.environ),
                opening=lambda _environ: records,
                out=folder / "out",
                forge=None,
                approvals=None,
            )
            self._ending.callback(self._stage.close)
        return self._stage


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _stopped(result: Result, what: str) -> Result:
    finding = rules.finding(
        "rehearsal-stopped",
        what=f"The rehearsal on the embedded AWS stopped: {what}",
        app=result.app,
        stage=result.stage,
    )
    return replace(result, intent=Intent.REHEARSE, findings=in_order((*result.findings, finding)))
