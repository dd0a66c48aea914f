"""What every verb does with a job: guard it, act on what was built, judge the result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from chalice_ci import rules
from chalice_ci.app.environment import make_deployer_environment
from chalice_ci.app.versions import Versions
from chalice_ci.building import Built, build
from chalice_ci.config import ConfigError
from chalice_ci.errors import ExitCode, LoadError, UserError, refused_by_machine
from chalice_ci.findings import Finding, Place, in_order
from chalice_ci.report.report import Failure, Report, Result, Verdict, exit_code
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.stage_secrets import refuse_without_secrets, secret_variables


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """What came of an event: a result per task, sentences, and where the comment is.

    `report` is the whole of it where it was made elsewhere, `instead` what goes to stdout in the
    place of the report as text.
    """

    results: tuple[Result, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    comment_url: str = ""
    report: Report | None = None
    instead: str = ""


def acted(run: Run, job: Job, action: Callable[[Run, Built], Result], *, deploys: bool) -> Result:
    """Build a job and act on it if it is fit to be deployed; what `deploys` needs its secrets."""
    from chalice_ci.baseline import with_changes

    if deploys:
        refuse_without_secrets(run, job, secret_variables(job))
    built = build(run, job, resolved=partial(_expect_deployer, run, job))
    if isinstance(built, Result):
        return built
    built = with_changes(run, built, of_deployment=True)
    changed = run.changed_files(job.app)
    if changed:
        built = replace(built, result=_with_warning(built.result, changed))
    if fails(run, built.result):
        return replace(built.result, note="not fit to deploy, so AWS was not touched")
    return action(run, built)


def _expect_deployer(run: Run, job: Job, versions: Versions) -> None:
    """Let the deployer import Chalice while the app is built."""
    # What is wrong with it is told when it is needed.
    with contextlib.suppress(UserError):
        python = make_deployer_environment(
            versions.chalice,
            cache_dir=run.cache_dir,
            environ=run.world.env,
            interpreter=versions.interpreter,
            running=run.world.python,
        )
        run.deployers.expect(python, run.region(job))


def _with_warning(result: Result, changed: tuple[str, ...]) -> Result:
    finding = rules.finding(
        "uncommitted-changes",
        what=f"{len(changed)} file(s) differ from the commit: {', '.join(changed[:5])}.",
        fix="Commit them first, or know that the record will name a commit that is not this.",
        at=Place(file=changed[0]),
        app=result.app,
        stage=result.stage,
    )
    return replace(result, findings=in_order((*result.findings, finding)))


def guarded(run: Run, job: Job, work: Callable[[], Result]) -> Result:
    """The job's result; an error becomes a part of it, so that the other jobs go on."""
    try:
        return run.secrets.without(work())
    except ConfigError:
        raise
    except UserError as error:
        run.secrets.clean(error)
        return _failed(run, job, error)
    except OSError as problem:
        refused = refused_by_machine(problem)
        if refused is None:
            raise
        return _failed(run, job, refused)


def _failed(run: Run, job: Job, error: UserError) -> Result:
    run.progress.say(f"failed: {error.what}", job=job.name)
    return empty(job, failure=Failure.of(error))


def checked(run: Run, job: Job) -> Built | Result:
    """Build a job that `check_built` will look at together with others."""
    try:
        return build(run, job, alone=False)
    except LoadError as error:
        # In a check it is a finding: the app is what is being looked at.
        finding = rules.finding(
            "load-failed", what=error.what, fix=error.fix, app=job.app.name, stage=job.stage
        )
        return replace(empty(job), findings=(finding,))
    except UserError as error:
        return empty(job, failure=Failure.of(error))


def stopped_by(run: Run, job: Job, results: Iterable[Result]) -> str:
    """Why a job is not begun: the stage that it needs did not succeed in this run; else empty."""
    needed = job.policy.needs if job.policy else None
    for result in results:
        if (result.app, result.stage) == (job.app.name, needed) and fails(run, result):
            return f"{needed}, which it needs, did not succeed"
    return ""


def empty(
    job: Job, *, failure: Failure | None = None, skipped: bool = False, note: str = ""
) -> Result:
    """A result that says only how it ended."""
    return Result(
        app=job.app.name,
        stage=job.stage,
        path=job.app.path,
        preview=job.like is not None,
        failure=failure,
        skipped=skipped,
        note=note,
    )


def fails(run: Run, result: Result) -> bool:
    """Whether what follows from a result must not happen."""
    report = Report(verb="", results=(result,))
    return (
        result.verdict is Verdict.SKIPPED
        or exit_code(report, fail_on=run.fail_on) is not ExitCode.OK
    )
