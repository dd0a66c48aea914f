"""The verbs, in order: read the configuration, choose the jobs, do them, report.

Each job ends in one `Result`, whatever happens to it; each run in one `Report`, its exit code and
the files in the output folder.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from chalice_ci.base_policy import Files, Governed, governed, read_base
from chalice_ci.building import Built, app_name_of, build, check_built, known_stages
from chalice_ci.cache import read_size, trim
from chalice_ci.checkout import Checkout, GitReader, read_checkout
from chalice_ci.ci_secrets import Secrets, take_secrets
from chalice_ci.config import ProjectConfig, read_project_config
from chalice_ci.context import Context, System
from chalice_ci.discovery import glimpse
from chalice_ci.errors import ExitCode, PlanRefused, UsageError, UserError
from chalice_ci.findings import Severity
from chalice_ci.forge.select import Connection, connect
from chalice_ci.inputs import (
    APP,
    CACHE_DIR,
    CACHE_SIZE,
    COMMAND,
    CONFIG,
    FAIL_ON,
    GITHUB_TOKEN,
    LOCAL,
    LOCAL_FORGE,
    OUT,
    PLAN,
    PROJECT_DIR,
    QUIET,
    SIGNING_KEY,
    STAGE,
    Inputs,
    SourceKind,
)
from chalice_ci.jobs import Reaction, acted, checked, empty, guarded, stopped_by
from chalice_ci.lifetime import finish_what_was_left, note_the_beginning, note_the_end
from chalice_ci.output import (
    refuse_packaged_folder,
    write_failure,
    write_package,
    write_report,
)
from chalice_ci.report.progress import Progress
from chalice_ci.report.report import Intent, Report, Result, exit_code
from chalice_ci.route import Job, Wish, all_jobs, deploy_jobs, named_jobs, refuse_foreign_code
from chalice_ci.run import Cloud, Run
from chalice_ci.scene import Scene
from chalice_ci.scratch import scratch_folder
from chalice_ci.signing import refuse_key_in_pull_request
from chalice_ci.systems.github import parse_payload
from chalice_ci.systems.read import read_context
from chalice_ci.world import World

if TYPE_CHECKING:
    from chalice_ci.config import StateConfig
    from chalice_ci.plan import OpenedPlan
    from chalice_ci.state.select import Records
    from chalice_ci.template import TemplateRequest


def run_verb(verb: str, inputs: Inputs, arguments: Mapping[str, str], world: World) -> ExitCode:
    """Run one verb; what a user can mend is raised as UserError or stands in the report."""
    if verb == "demo":
        from chalice_ci.demo import run_demo

        cache_dir = world.cache_dir(inputs.path(CACHE_DIR))
        pages = world.cwd / (inputs.path(OUT) or Path(OUT.default))
        return run_demo(env=world.env, cache_dir=cache_dir, pages=pages, out=world.stdout)
    if verb == "action":
        verb = _commanded(inputs)
    started, clock = world.now(), time.monotonic()
    secrets, env = take_secrets(world.env)
    with _run(verb, inputs, replace(world, env=env), secrets) as run:
        if verb == "action-post":
            finish_what_was_left(run)
            return ExitCode.OK
        try:
            refuse_foreign_code(run.context, verb)
            _refuse_untrusted(verb, run.context)
            refuse_key_in_pull_request(run.context, given=bool(inputs.text(SIGNING_KEY)))
            note_the_beginning(run)
            done = _VERBS[verb](run, arguments)
        except UserError as error:
            secrets.clean(error)
            write_failure(run, verb, error)
            note_the_end(run)
            raise
        if done is None:
            note_the_end(run)
            return ExitCode.OK
        reaction = done if isinstance(done, Reaction) else Reaction(results=_meant(verb, done))
        report = reaction.report or Report(
            verb=verb,
            commit=run.context.commit or run.checkout.commit or "",
            started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(time.monotonic() - clock, 3),
            results=reaction.results,
            findings=reaction.findings,
            notes=(*run.notes, *reaction.notes),
        )
        fail_on = run.fail_on
        if verb == "doctor" and inputs.value(FAIL_ON).source is SourceKind.DEFAULT:
            # An audit that found something is not passed.
            fail_on = Severity.WARNING
        code = exit_code(report, fail_on=fail_on)
        try:
            write_report(
                run,
                report,
                fail_on=fail_on,
                comment_url=reaction.comment_url,
                instead=reaction.instead,
            )
        except OSError as problem:
            if code is ExitCode.OK:
                raise
            # What the run itself has to say counts more, and it is printed.
            run.progress.say(f"the report could not be written: {problem}")
        note_the_end(run)
        return code


_TOUCHES_AWS = frozenset(
    {
        *("plan", "deploy", "rollback", "delete", "state recover", "state unlock"),
        *("preview up", "preview down", "preview sweep"),
    }
)


def _refuse_untrusted(verb: str, context: Context) -> None:
    """What touches AWS is not for a fork's or Dependabot's run, whatever the workflow says."""
    if context.trusted or verb not in _TOUCHES_AWS:
        return
    raise UsageError(
        f"`{verb}` is not done in this run: {context.trust}",
        where="input command",
        fix="Use `command: run`, which checks such a pull request and leaves the rest.",
    )


def _commanded(inputs: Inputs) -> str:
    """The verb that the action's `command` names."""
    command = inputs.value(COMMAND)
    if command.text not in COMMANDS:
        near = difflib.get_close_matches(command.text, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"{command.text[:40]!r} is no command of the action.{hint}",
            where=command.detail or "input command",
            fix=f"Use one of {', '.join(COMMANDS)}.",
        )
    return command.text


# -- the verbs ------------------------------------------------------------------------------------


def _check(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    jobs = all_jobs(run.config, known_stages(run), _wish(run))
    return check_built(run, [checked(run, job) for job in jobs])


def _package(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    # Late: no other verb asks for a template.
    from chalice_ci.templating import wanted_template

    wanted = wanted_template(run)
    jobs = all_jobs(run.config, known_stages(run), _wish(run))
    return tuple(guarded(run, job, partial(_packaged, run, job, wanted)) for job in jobs)


def _packaged(run: Run, job: Job, wanted: TemplateRequest) -> Result:
    return write_package(run, build(run, job, template=wanted), wanted)


def _diff(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.baseline import differing

    jobs = all_jobs(run.config, known_stages(run), _wish(run))
    return tuple(guarded(run, job, partial(differing, run, job)) for job in jobs)


def _plan(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.applying import plan_stage

    jobs = deploy_jobs(run.config, known_stages(run), _wish(run))
    return _each_built(run, jobs, plan_stage, deploys=False)


def _deploy(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.applying import deploy_stage

    if run.inputs.text(PLAN):
        # Late: only for plans that were made before.
        from chalice_ci.plan_file import drop_from_store, plan_path

        path = plan_path(run)
        assert path is not None
        results = tuple(_deploy_plan(run, *one) for one in _plans(run, path))
        if all(result.failure is None for result in results):
            drop_from_store(run)
        return results
    jobs = deploy_jobs(run.config, known_stages(run), _wish(run))
    return _each_built(run, jobs, deploy_stage, deploys=True)


def _plans(run: Run, path: Path) -> tuple[tuple[Path, OpenedPlan], ...]:
    """The plan itself; of a folder, such as an artifact's, those of the stages and apps asked for.

    What a plan says counts, not how its file is called: `orders-pre-prod.plan` is none of prod.
    """
    from chalice_ci.plan_file import read_plan, refuse_other

    if path.is_file():
        one = read_plan(run, path)
        refuse_other(run, one)
        return ((path, one),)
    if not path.is_dir():
        # A pipe would be waited for.
        raise PlanRefused(
            "there is no such plan.",
            where=run.shown(path),
            fix="Make it with chalice-ci plan, or download the artifact that holds it.",
        )
    apps, stages = run.inputs.lines(APP), run.inputs.lines(STAGE)
    if not stages:
        raise UsageError(
            "of a folder of plans the stage has to be named.",
            where=run.shown(path),
            fix="Add --stage NAME, or give the file of one plan.",
        )
    opened = ((each, read_plan(run, each)) for each in sorted(path.glob("*.plan")))
    found = tuple(
        (each, one)
        for each, one in opened
        if one.plan.stage in stages and (not apps or one.plan.app in apps)
    )
    if not found:
        raise PlanRefused(
            f"there is no plan of {', '.join(stages)} in this folder.",
            where=run.shown(path),
            fix="Make it with chalice-ci plan, or download the artifact that holds it.",
        )
    return found


def _deploy_plan(run: Run, path: Path, opened: OpenedPlan) -> Result:
    # Late: no other command looks at where a plan was made.
    from chalice_ci.applying import deploy_plan
    from chalice_ci.plan_place import config_for, refuse_after_push

    plan = opened.plan
    for item, name in ((APP, plan.app), (STAGE, plan.stage)):
        wanted = run.inputs.lines(item)
        if wanted not in ((), (name,)):
            raise UsageError(
                f"this plan is for {item.name} {name}, asked for was {', '.join(wanted)}.",
                where=str(path),
                fix=f"Leave --{item.name} out, or give the plan of {', '.join(wanted)}.",
            )
    (job,) = named_jobs(config_for(run, plan), Wish(apps=(plan.app,), stages=(plan.stage,)))

    def apply() -> Result:
        refuse_after_push(run, run.branches, plan)
        return deploy_plan(run, job, opened)

    return guarded(run, job, apply)


def _rollback(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.rolling_back import roll_back

    return roll_back(run, _wish(run))


def _delete(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.applying import delete_stage

    # A stage that the configuration lost can still be deleted: what is recorded counts.
    jobs = named_jobs(run.config, _wish(run))
    return tuple(
        guarded(run, job, partial(delete_stage, run, job, app_name_of(run, job.app)))
        for job in reversed(jobs)
    )


def _recover(run: Run) -> tuple[Result, ...]:
    from chalice_ci.recovering import recover_states

    return recover_states(run, _wish(run))


def _unlock(run: Run, given: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.recovering import unlock_states

    return unlock_states(run, _wish(run), force=bool(given["force"]))


def _url(run: Run, _: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.recorded import stage_urls

    return stage_urls(run, _wish(run))


def _show(run: Run, given: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.recorded import show_states

    return show_states(run, _wish(run), verify=bool(given.get("verify")))


def _pull(run: Run, given: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.recorded import pull_states

    return pull_states(run, _wish(run), force=bool(given["force"]), sdk=bool(given.get("sdk")))


def _import(run: Run, given: Mapping[str, str]) -> tuple[Result, ...]:
    from chalice_ci.recorded import import_state

    path = run.world.cwd / given["file"]
    return import_state(run, _wish(run), path, force=bool(given["force"]))


def _react(run: Run, _: Mapping[str, str]) -> Reaction:
    from chalice_ci.reaction import react

    return react(run, run.context, run.forge, _wish(run))


def _preview_up(run: Run, _: Mapping[str, str]) -> Reaction:
    from chalice_ci.reaction import bring_up

    return bring_up(run, run.context, run.forge, _wish(run))


def _preview_down(run: Run, _: Mapping[str, str]) -> Reaction:
    from chalice_ci.reaction import take_down

    return take_down(run, run.context, run.forge, _wish(run))


def _preview_sweep(run: Run, _: Mapping[str, str]) -> Reaction:
    from chalice_ci.reaction import sweep

    return sweep(run, run.context, run.forge, _wish(run))


def _policy(run: Run, _: Mapping[str, str]) -> Reaction:
    from chalice_ci.granting import policy_jobs, stage_policies

    return stage_policies(run, policy_jobs(run, known_stages(run), _wish(run)))


def _doctor(run: Run, _: Mapping[str, str]) -> Reaction:
    from chalice_ci.auditing import examine

    return examine(run, _wish(run))


def _init(run: Run, given: Mapping[str, str]) -> Reaction:
    from chalice_ci.initiating import Wanted, set_up

    wanted = Wanted(
        previews=bool(given["previews"]),
        dry_run=bool(given["dry-run"]),
        force=bool(given["force"]),
    )
    return set_up(run, wanted)


def _matrix(run: Run, _: Mapping[str, str]) -> None:
    from chalice_ci.fanout import print_matrix

    print_matrix(run, _wish(run))


def _report(run: Run, _: Mapping[str, str]) -> Reaction:
    from chalice_ci.fanout import fold_reports
    from chalice_ci.retelling import retold

    report, comment_url = fold_reports(replace(run, context=retold(run.context, run.forge)))
    return Reaction(report=report, comment_url=comment_url)


COMMANDS = (
    *(
        "run",
        "check",
        "package",
        "diff",
        "plan",
        "deploy",
        "rollback",
        "delete",
        "url",
        "state show",
    ),
    *("matrix", "report", "preview up", "preview down", "preview sweep"),
)
"""The verbs that the action's `command` takes: those without arguments of their own."""

_VERBS: Mapping[str, Callable[[Run, Mapping[str, str]], tuple[Result, ...] | Reaction | None]] = {
    "run": _react,
    "preview up": _preview_up,
    "preview down": _preview_down,
    "preview sweep": _preview_sweep,
    "matrix": _matrix,
    "report": _report,
    "check": _check,
    "package": _package,
    "diff": _diff,
    "plan": _plan,
    "deploy": _deploy,
    "rollback": _rollback,
    "delete": _delete,
    "policy": _policy,
    "doctor": _doctor,
    "init": _init,
    "url": _url,
    "state show": _show,
    "state pull": _pull,
    "state recover": lambda run, _: _recover(run),
    "state unlock": _unlock,
    "state import": _import,
}


_INTENTS: Mapping[str, Intent] = {
    "check": Intent.CHECK,
    "package": Intent.PACKAGE,
    "diff": Intent.PACKAGE,
    "plan": Intent.PLAN,
    "deploy": Intent.DEPLOY,
    "rollback": Intent.DEPLOY,
    "delete": Intent.REMOVE,
    "url": Intent.READ,
    "state show": Intent.READ,
    "state pull": Intent.READ,
    "state import": Intent.RECORD,
    "state recover": Intent.RECORD,
    "state unlock": Intent.RECORD,
}


def _meant(verb: str, results: tuple[Result, ...]) -> tuple[Result, ...]:
    return tuple(replace(result, intent=_INTENTS[verb]) for result in results)


# -- jobs -----------------------------------------------------------------------------------------


def _each_built(
    run: Run, jobs: Sequence[Job], action: Callable[[Run, Built], Result], *, deploys: bool
) -> tuple[Result, ...]:
    """Build each job and act on those that are fit; what needs a job that failed is skipped."""
    results: list[Result] = []
    for job in jobs:
        stopped = stopped_by(run, job, results)
        if stopped:
            results.append(empty(job, skipped=True, note=stopped))
        else:
            results.append(guarded(run, job, partial(acted, run, job, action, deploys=deploys)))
    return tuple(results)


# -- setting up -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _run(verb: str, inputs: Inputs, world: World, secrets: Secrets) -> Iterator[Run]:
    scene = Scene(
        world=world,
        inputs=inputs,
        progress=Progress(stream=world.stderr, quiet=inputs.flag(QUIET), redact=secrets.redact),
        secrets=secrets,
        out=world.cwd / (inputs.path(OUT) or Path(OUT.default)),
    )
    for value in secrets.values.values():
        scene.hide(value)
    with scratch_folder() as work_dir:
        arrival = None
        try:
            arrival = _arrived(scene, work_dir, verb)
            run = _configured(arrival, work_dir)
            try:
                refuse_packaged_folder(run)
            except UserError:
                # The outputs and the comment tell it; files go where nobody keeps them.
                arrival = replace(arrival, scene=replace(arrival.scene, out=work_dir))
                raise
        except UserError as error:
            if verb != "action-post":
                _unready(verb, scene if arrival is None else arrival.scene, error)
            raise
        with contextlib.closing(run):
            yield run
        trim(run.cache_dir, limit=read_size(inputs.text(CACHE_SIZE)))
        if inputs.path(CACHE_DIR) is not None:
            # A later step keeps it, and is not root.
            run.hand_over(run.cache_dir)


def _unready(verb: str, scene: Scene, error: UserError) -> None:
    """Say everywhere that the run ended before it began: a good verdict of old must not stand."""
    from chalice_ci.conversation import Conversation

    url = Conversation(scene=scene).abandon(error) if verb == "run" else ""
    write_failure(scene, verb, error, comment_url=url)


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    """Where we are and what happened."""

    scene: Scene
    checkout: Checkout
    connection: Connection
    git: GitReader | None


def _arrived(scene: Scene, work_dir: Path, verb: str) -> _Arrival:
    world, inputs = scene.world, scene.inputs
    reader = _reader(world, work_dir)
    checkout = read_checkout(world.cwd / (inputs.path(PROJECT_DIR) or "."), reader)
    context = read_context(world.env, _payload(world.env), checkout=checkout)
    connection = connect(
        context,
        env=world.env,
        token=inputs.text(GITHUB_TOKEN) or _token(context, world.env),
        folder=_absolute(world, inputs.path(LOCAL_FORGE)),
        retells=verb == "report" and context.reported is not None,
    )
    return _Arrival(
        scene=replace(scene, context=context, forge=connection.forge),
        checkout=checkout,
        connection=connection,
        git=None if checkout.git_dir is None else reader(checkout.git_dir),
    )


def _token(context: Context, env: Mapping[str, str]) -> str:
    """The forge's token where no input gives one."""
    return env.get("GITLAB_TOKEN" if context.system is System.GITLAB else "GITHUB_TOKEN", "")


def _configured(arrival: _Arrival, work_dir: Path) -> Run:
    scene, checkout, connection = arrival.scene, arrival.checkout, arrival.connection
    world, inputs = scene.world, scene.inputs
    given = inputs.path(CONFIG)
    own = read_project_config(checkout.root, None if given is None else world.cwd / given)
    if checkout.git_dir is None and not own.apps and own.file is None and _in_ci_with_plan(scene):
        from chalice_ci.plan_place import config_of_run

        own = config_of_run(scene.context, connection.files)
    policy = _governed(own, scene.context, checkout, files=connection.files, git=arrival.git)
    for note in policy.notes:
        scene.progress.say(note)
    rehearsal = inputs.flag(LOCAL)
    # A size that is none is told before anything is done.
    read_size(inputs.text(CACHE_SIZE))
    cache_dir = world.cache_dir(inputs.path(CACHE_DIR))
    return Run(
        world=world,
        inputs=inputs,
        progress=scene.progress,
        secrets=scene.secrets,
        out=scene.out,
        context=scene.context,
        forge=scene.forge,
        checkout=checkout,
        config=policy.config,
        opening=partial(_records, policy.config.state, arrival, work_dir, rehearsal=rehearsal),
        git=arrival.git,
        notes=policy.notes,
        approvals=connection.approvals,
        branches=connection.branches,
        cache_dir=cache_dir,
        work_dir=work_dir,
        cloud=_cloud(checkout, cache_dir, world) if rehearsal else None,
    )


def _in_ci_with_plan(scene: Scene) -> bool:
    """Whether a job of a CI system is to apply a plan: it needs no code."""
    return bool(scene.inputs.path(PLAN)) and scene.context.system is not System.LOCAL


def _records(
    config: StateConfig,
    arrival: _Arrival,
    work_dir: Path,
    env: Mapping[str, str],
    *,
    rehearsal: bool,
) -> Records:
    from chalice_ci.state.select import open_records

    return open_records(
        config,
        arrival.checkout,
        env=env,
        work_dir=work_dir,
        rehearsal=rehearsal,
        api=arrival.connection.api,
    )


def _governed(
    own: ProjectConfig,
    context: Context,
    checkout: Checkout,
    *,
    files: Files | None,
    git: GitReader | None,
) -> Governed:
    """The configuration that holds: of a pull request the base's, where it decides rights."""
    pull = context.pull_request
    if pull is None or (own.file is not None and PurePosixPath(own.file).is_absolute()):
        return Governed(config=own)
    known = {
        stage
        for app in own.apps
        for stage in glimpse(checkout.root / app.path, checkout.root).stages or ()
    }
    base = read_base(own, pull, files=files, git=git)
    return governed(own, base, branch=pull.base_branch, known=known)


def _payload(env: Mapping[str, str]) -> Mapping[str, object] | None:
    """The event that started this run on GitHub."""
    path = env.get("GITHUB_EVENT_PATH", "")
    if env.get("GITHUB_ACTIONS") != "true" or not path:
        return None
    try:
        return parse_payload(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(
            f"the event's file can't be read: {error.strerror}.",
            where=f"GITHUB_EVENT_PATH={path}",
            fix="Run the action as GitHub does, or unset GITHUB_ACTIONS.",
        ) from error


def _absolute(world: World, path: Path | None) -> Path | None:
    return None if path is None else world.cwd / path


def _reader(world: World, work_dir: Path) -> Callable[[Path], GitReader]:
    """What reads objects and refs of a git directory."""

    def reader(git_dir: Path) -> GitReader:
        # Late: a folder that is no checkout needs no git.
        from chalice_ci.state.git_repository import GitFailed, LocalRepository

        objects = LocalRepository(git_dir, work_dir=work_dir, environ=world.env).objects

        def read(*arguments: str) -> str | None:
            try:
                done = objects.run(*arguments)
            except GitFailed as error:
                raise UsageError(
                    f"{error.text}.", where="git", fix="Install git: the state is kept with it."
                ) from error
            return done.out.decode("utf-8", "replace").rstrip("\n") if done.code == 0 else None

        return read

    return reader


def _cloud(checkout: Checkout, cache_dir: Path, world: World) -> Cloud:
    """The embedded AWS of this repository; its functions run on the Pythons found here."""
    from chalice_ci.app.pythons import find_python
    from chalice_ci.app.versions import PYTHONS
    from chalice_ci.local import LocalCloud

    name = hashlib.sha256(str(checkout.root).encode()).hexdigest()[:16]
    folder = (checkout.common_dir or cache_dir / "local" / name) / "chalice-ci-local"
    running = LocalCloud.attach(folder)
    if running is not None:
        return running
    found = {minor: find_python(minor, environ=world.env) for minor in PYTHONS}
    pythons = {minor: python.executable for minor, python in found.items() if python is not None}
    return LocalCloud.attach_or_start(folder, pythons=pythons, cache_dir=cache_dir)


def _wish(run: Run) -> Wish:
    return Wish(
        apps=run.inputs.lines(APP),
        stages=run.inputs.lines(STAGE),
        within=run.checkout.within,
        branch=run.context.branch,
        tag=run.context.tag,
        default_branch=run.context.default_branch or run.checkout.default_branch,
    )
