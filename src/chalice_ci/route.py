"""What should happen for which app and stage: configuration and wishes in, jobs out. Pure.

A verb that was asked for by name takes its jobs from `all_jobs`, `deploy_jobs` or `named_jobs`;
`run` asks `route_event` what the event wants.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from chalice_ci.config import SOURCE_BRANCH, AppConfig, ProjectConfig, StageConfig
from chalice_ci.context import Context, PullRequest, System
from chalice_ci.errors import UsageError
from chalice_ci.report.report import Intent

PREVIEW = re.compile(r"pr-[0-9]{1,9}")
"""The name of a preview stage: `pr-` and the number of the pull request."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One app in one stage; `like` names the stage whose settings a preview takes."""

    app: AppConfig
    stage: str
    policy: StageConfig | None = None
    like: str | None = None

    @property
    def name(self) -> str:
        """How logs and reports call it."""
        return f"{self.app.name}/{self.stage}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """An intent for one app and stage; `why` says what led to it where that is not the event."""

    intent: Intent
    job: Job
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Routed:
    """What an event wants; `notes` say in whole sentences what it does not lead to, and why."""

    tasks: tuple[Task, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for: names of apps and stages (empty: as configured), and from where.

    `within` is the project directory relative to the repository's root, `branch` and `tag` what is
    checked out, `default_branch` the one that `dev` is deployed from without a configuration.
    """

    apps: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    within: str = "."
    branch: str | None = None
    tag: str | None = None
    default_branch: str | None = None


def all_jobs(
    config: ProjectConfig, known: Mapping[str, Sequence[str]], wish: Wish
) -> tuple[Job, ...]:
    """The jobs of `check` and `package`: the stages asked for, else every stage there is.

    `known` maps an app's name to the stages of its config.json. Raises UsageError for a name that
    nobody declared.
    """
    return tuple(
        job
        for app in _apps(config, wish)
        for job in _jobs(config, known, app, wish.stages or _declared(config, known, app))
    )


def deploy_jobs(
    config: ProjectConfig, known: Mapping[str, Sequence[str]], wish: Wish
) -> tuple[Job, ...]:
    """The jobs of `plan` and `deploy`: the stages asked for, else those this ref deploys."""
    apps = _apps(config, wish)
    by_app = [(app, wish.stages or tuple(_deployed_from(config, app, wish))) for app in apps]
    if not any(stages for _, stages in by_app):
        ref = f"tag {wish.tag}" if wish.tag else f"branch {wish.branch}"
        if not wish.tag and not wish.branch:
            ref = "a checkout without a branch"
        configured = ", ".join(stage.name for stage in config.stages) or "dev"
        raise UsageError(
            f"no stage is deployed from {ref}.",
            where=config.file or "",
            fix=f"Name the stage with --stage ({configured}), or give it `deploy-on`.",
        )
    return tuple(job for app, stages in by_app for job in _jobs(config, known, app, stages))


def named_jobs(config: ProjectConfig, wish: Wish) -> tuple[Job, ...]:
    """The jobs of exactly the stages asked for, whether they are configured (any more) or not.

    For what works from the record alone: deleting, and applying a sealed plan.
    """
    if not wish.stages:
        raise UsageError(
            "the stage has to be named.", where="option --stage", fix="Add --stage NAME."
        )
    policies = {stage.name: stage for stage in config.stages}
    return tuple(
        Job(app=app, stage=name, policy=policies.get(name) or _preview_policy(config, name))
        for app in _apps(config, wish)
        for name in _needed_first(policies, wish.stages)
    )


def route_event(
    config: ProjectConfig,
    known: Mapping[str, Sequence[str]],
    context: Context,
    wish: Wish,
    *,
    standing: Sequence[AppConfig] = (),
) -> Routed:
    """What `run` does for an event. `known` is as in `all_jobs`, refs of `wish` are the event's.

    `standing` are the apps that a preview of the event's pull request is recorded of: what nobody
    wants any more is taken down, whether it is configured (any more) or not.
    Stages that `wish` names are the only ones looked at; a `workflow_dispatch` deploys them from
    any ref. Raises UsageError for an event that `run` has no meaning for, and for one that would
    lead foreign code to this repository's secrets.
    """
    refuse_foreign_code(context)
    router = _Router(
        config=config,
        known=known,
        context=context,
        wish=replace(
            wish,
            branch=context.branch,
            tag=context.tag,
            default_branch=context.default_branch or wish.default_branch,
        ),
        standing=tuple(standing),
    )
    if context.pull_request is not None:
        return router.pull_request(context.pull_request)
    if context.system is not System.GITHUB and not context.event:
        return router.checked(
            "There is no event here, so `run` checks. To deploy: chalice-ci deploy --stage NAME"
        )
    match context.event:
        case "push":
            return router.push()
        case "release":
            return router.release()
        case "workflow_dispatch" | "repository_dispatch":
            return router.dispatch()
        case "merge_group" | "schedule":
            return router.checked()
    raise UsageError(
        f"`run` does not know what to do on the event `{context.event}`.",
        where="input command",
        fix="Name the verb, such as `command: check`, or run on push, pull_request, release, "
        "merge_group, schedule or workflow_dispatch.",
    )


def refuse_foreign_code(context: Context, verb: str = "") -> None:
    """Raise UsageError when this event brings secrets to a run that may hold foreign code.

    To be asked before any app is loaded, whatever the verb. A closed pull request passes: taking
    its preview down needs no code. So does `report`, which reads data only.
    """
    if context.event == "pull_request_target":
        pull = context.pull_request
        if pull is not None and (context.action == "closed" or not pull.open):
            return
        raise UsageError(
            "`pull_request_target` runs with this repository's secrets, and what a workflow checks "
            "out there may be anyone's code. No app is loaded in it.",
            where="the workflow's `on:`",
            fix="Use `on: pull_request`: for a fork it runs without secrets, which is enough to "
            "check. Only `types: [closed]` of pull_request_target takes a preview down.",
        )
    if context.event == "workflow_run" and verb != "report":
        raise UsageError(
            "`workflow_run` runs with this repository's secrets after a workflow that may have "
            "been a fork's. No app is loaded in it.",
            where="the workflow's `on:`",
            fix="Use `on: push` for the branches that deploy and `on: pull_request` for the rest; "
            "to wait for tests, put them into a job that this one `needs`. Only `command: report` "
            "works here: it tells on the pull request what the other workflow reported.",
        )


@dataclass(frozen=True, kw_only=True)
class _Router:
    """One method per kind of event."""

    config: ProjectConfig
    known: Mapping[str, Sequence[str]]
    context: Context
    wish: Wish
    standing: tuple[AppConfig, ...] = ()

    def checked(self, *notes: str) -> Routed:
        """Everything is checked, nothing else happens."""
        return Routed(tasks=self._tasks(Intent.CHECK, self._all()), notes=notes)

    def push(self) -> Routed:
        """The branch or tag deploys what is configured for it; of a branch the rest is checked."""
        if self.context.deleted:
            return Routed(notes=("The ref was deleted: there is nothing to do.",))
        return self._of_ours() or self._deployed()

    def release(self) -> Routed:
        """A published release is a push of its tag."""
        if self.context.action not in ("published", "released"):
            return Routed(
                notes=(
                    f"A release that was {self.context.action} deploys nothing. "
                    "Use `types: [published]`.",
                )
            )
        return self._deployed()

    def dispatch(self) -> Routed:
        """A person asked: for the stages they named, else for those of the ref."""
        for stage in self.wish.stages:
            if PREVIEW.fullmatch(stage):
                raise UsageError(
                    f"{stage} is the preview of a pull request, and its events bring it up.",
                    where="input stage",
                    fix=f"Push to the pull request, or use `command: deploy` with `stage: {stage}` "
                    "on the code that it should get.",
                )
        if not self.wish.stages and (nothing := self._of_ours()) is not None:
            return nothing
        return self._deployed(dispatched=True)

    def _of_ours(self) -> Routed | None:
        """Nothing to do, when the branch is one that only we write to."""
        state, branch = self.config.state, self.wish.branch or ""
        if state.store != "git":
            return None
        if branch == state.branch != SOURCE_BRANCH:
            return Routed(notes=(f"{branch} holds the recorded state, and no app.",))
        if branch.startswith(f"{state.plan_branches}/"):
            return Routed(notes=(f"{branch} holds a plan, and no app.",))
        return None

    def pull_request(self, pull: PullRequest) -> Routed:
        """Every stage is checked, and the preview brought to what the pull request asks for.

        What counts is how the pull request is, not what just changed: GitHub drops runs that wait
        for another one, so the next event has to do their work. For the same reason an event that
        changes nothing for us checks too: its verdict replaces the last one in the branch rules.
        """
        closed = self.context.action == "closed" or not pull.open
        if closed and not self.context.superseded:
            return self._closed(pull)
        # A closed one's checkout is of the commit before the merge or after it: nobody can say.
        checks = () if closed else self._tasks(Intent.CHECK, self._all())
        if self.context.superseded:
            return Routed(tasks=checks, notes=(self.context.superseded,))
        preview = self.config.preview
        if not self.context.trusted:
            told = " It gets no preview." if preview is not None else ""
            return Routed(tasks=self._rehearsing(checks), notes=(f"{self.context.trust}{told}",))
        if preview is None or not self._wants_preview(pull):
            return Routed(tasks=checks)
        if preview.label is None or preview.label in pull.labels:
            apps = _apps(self.config, self.wish)
            return Routed(tasks=(*checks, *self._preview(Intent.DEPLOY, pull, apps)))
        # GitHub leaves the label out when it was deleted from the repository.
        if self.context.action == "unlabeled" and self.context.label in (None, preview.label):
            return Routed(tasks=(*checks, *self._preview_down(pull)))
        if not pull.labels_told:
            note = f"No preview: nobody tells whether there is the label `{preview.label}`."
            return Routed(tasks=checks, notes=(note,))
        note = f"No preview: the pull request does not have the label `{preview.label}`."
        down = self._left_standing(pull)
        return Routed(tasks=(*checks, *down), notes=(note,))

    def _rehearsing(self, checks: tuple[Task, ...]) -> tuple[Task, ...]:
        """The checks, of which one of each app goes on to a deployment that touches no account.

        That of the stage that previews are like, else the first.
        """
        like = self.config.preview.like if self.config.preview else None
        chosen: dict[str, str] = {}
        for task in checks:
            app, stage = task.job.app.name, task.job.stage
            if app not in chosen or stage == like:
                chosen[app] = stage
        return tuple(
            replace(task, intent=Intent.REHEARSE)
            if chosen[task.job.app.name] == task.job.stage
            else task
            for task in checks
        )

    def _closed(self, pull: PullRequest) -> Routed:
        if not self._wants_preview(pull) or (self.config.preview is None and not self.standing):
            return Routed(notes=("The pull request is closed, and no preview is configured.",))
        if not self.context.trusted:
            return Routed(notes=(f"{self.context.trust} It never had a preview.",))
        return Routed(tasks=self._preview_down(pull))

    def _all(self) -> tuple[Job, ...]:
        """Every stage that is checked; a preview has no place in it, its own build is looked at."""
        named = tuple(stage for stage in self.wish.stages if not PREVIEW.fullmatch(stage))
        if self.wish.stages and not named:
            return ()
        return all_jobs(self.config, self.known, replace(self.wish, stages=named))

    def _wants_preview(self, pull: PullRequest) -> bool:
        """Whether the stages that were named leave room for the preview."""
        return not self.wish.stages or f"pr-{pull.number}" in self.wish.stages

    def _preview(
        self, intent: Intent, pull: PullRequest, apps: Iterable[AppConfig]
    ) -> tuple[Task, ...]:
        name = f"pr-{pull.number}"
        return tuple(Task(intent=intent, job=preview_job(self.config, app, name)) for app in apps)

    def _preview_down(self, pull: PullRequest) -> tuple[Task, ...]:
        """Of every app that may have a preview, and of those that a record says have one."""
        configured = () if self.config.preview is None else _apps(self.config, self.wish)
        left = self._left_standing(pull)
        known = {app.path for app in configured}
        return (
            *self._preview(Intent.REMOVE, pull, configured),
            *(task for task in left if task.job.app.path not in known),
        )

    def _left_standing(self, pull: PullRequest) -> tuple[Task, ...]:
        """Of the apps that a record says have a preview, as far as they are meant."""
        named = self.wish.apps
        apps = (app for app in self.standing if not named or app.name in named)
        return self._preview(Intent.REMOVE, pull, apps)

    def _stages_of_ref(self, app: AppConfig) -> tuple[str, ...]:
        named = self.wish.stages
        found = tuple(_deployed_from(self.config, app, self.wish))
        return tuple(stage for stage in found if not named or stage in named)

    def _deployed(self, *, dispatched: bool = False) -> Routed:
        """Deploy what the ref deploys, plan what waits for an approval, check the rest of a branch.

        The stages that a person named in a dispatch are deployed from any ref.
        """
        named = self.wish.stages if dispatched else ()
        by_app = [(app, named or self._stages_of_ref(app)) for app in _apps(self.config, self.wish)]
        stages = tuple(dict.fromkeys(stage for _, found in by_app for stage in found))
        if not stages:
            what = " or ".join(self.wish.stages) or "any stage"
            return self.checked(f"{self._ref_in_words()} does not deploy {what}: only checked.")
        if not self.context.trusted:
            return self.checked(
                f"{self.context.trust} Not deployed: {', '.join(stages)}. "
                "Run the workflow by hand, or push again."
            )
        waiting = self._waiting(stages)
        deployed = [
            Task(intent=Intent.PLAN if job.stage in waiting else Intent.DEPLOY, job=job)
            for app, found in by_app
            for job in _jobs(self.config, self.known, app, found)
        ]
        notes = tuple(waiting[stage] for stage in stages if stage in waiting)
        if self.wish.tag is not None:
            return Routed(tasks=tuple(deployed), notes=notes)
        done = {(task.job.app.name, task.job.stage) for task in deployed}
        left = [job for job in self._all() if (job.app.name, job.stage) not in done]
        return Routed(tasks=(*deployed, *self._tasks(Intent.CHECK, left)), notes=notes)

    def _waiting(self, stages: tuple[str, ...]) -> dict[str, str]:
        """The stages that are only planned here, each with the reason.

        A job that runs inside an environment can't be told from one that does not, so `run` never
        deploys such a stage: `deploy --plan` in the gated job does.
        """
        policies = {stage.name: stage for stage in self.config.stages}
        waiting: dict[str, str] = {}
        for name in _needed_first(policies, stages):
            policy = policies.get(name)
            if policy is None:
                continue
            if policy.environment is not None:
                waiting[name] = (
                    f"{name} waits for the environment `{policy.environment}`: apply its plan in "
                    "a job of that environment, with `command: deploy` and `plan`."
                )
            elif policy.needs in waiting:
                waiting[name] = f"{name} is only planned: it needs {policy.needs}, which waits."
        return waiting

    def _ref_in_words(self) -> str:
        if self.wish.tag is not None:
            return f"The tag {self.wish.tag}"
        return f"The branch {self.wish.branch}" if self.wish.branch else "This ref"

    @staticmethod
    def _tasks(intent: Intent, jobs: Sequence[Job]) -> tuple[Task, ...]:
        return tuple(Task(intent=intent, job=job) for job in jobs)


def _deployed_from(config: ProjectConfig, app: AppConfig, wish: Wish) -> Iterator[str]:
    own = dict(app.deploy_on)
    for stage in config.stages:
        ref = own.get(stage.name, stage.deploy_on)
        if ref is None:
            continue
        if wish.tag is not None:
            deploys = _matches(ref.tag, wish.tag)
        else:
            deploys = _matches(ref.branch, wish.branch)
        if deploys:
            yield stage.name
    if not config.stages and wish.branch is not None and wish.branch == wish.default_branch:
        yield "dev"


def _matches(pattern: str | None, ref: str | None) -> bool:
    return pattern is not None and ref is not None and fnmatch.fnmatchcase(ref, pattern)


def _apps(config: ProjectConfig, wish: Wish) -> tuple[AppConfig, ...]:
    beneath = tuple(
        app
        for app in config.apps
        if wish.within in (".", app.path) or app.path.startswith(f"{wish.within}/")
    )
    by_name = {app.name: app for app in beneath}
    for name in wish.apps:
        if name not in by_name:
            raise UsageError(
                f"there is no app {name[:60]!r} here.{_did_you_mean(name, by_name)}",
                where="option --app",
                fix=f"The apps are: {', '.join(by_name) or '(none)'}.",
            )
    chosen = tuple(by_name[name] for name in wish.apps) or beneath
    if not chosen:
        raise UsageError(
            "there is no Chalice app here: no folder with app.py and .chalice/config.json.",
            where=wish.within,
            fix="Name the app's folder with --project-dir, or under `apps` in chalice-ci.yml.",
        )
    return chosen


def _declared(
    config: ProjectConfig, known: Mapping[str, Sequence[str]], app: AppConfig
) -> tuple[str, ...]:
    return (
        tuple(stage.name for stage in config.stages) or tuple(known.get(app.name, ())) or ("dev",)
    )


def _jobs(
    config: ProjectConfig,
    known: Mapping[str, Sequence[str]],
    app: AppConfig,
    stages: Sequence[str],
) -> Iterator[Job]:
    policies = {stage.name: stage for stage in config.stages}
    for name in _needed_first(policies, stages):
        if PREVIEW.fullmatch(name):
            if config.preview is None:
                raise UsageError(
                    f"{name!r} is a preview stage, and no previews are configured.",
                    where=config.file or "chalice-ci.yml",
                    fix="Add `preview: {like: dev}` to chalice-ci.yml.",
                )
            policy = _preview_policy(config, name)
            yield Job(app=app, stage=name, policy=policy, like=config.preview.like)
            continue
        names = dict.fromkeys((*policies, *known.get(app.name, ()), "dev"))
        if name not in names:
            raise UsageError(
                f"there is no stage {name[:60]!r}.{_did_you_mean(name, names)} "
                "Chalice would silently create a whole new set of resources.",
                where=f"app {app.name}",
                fix=f"The stages are: {', '.join(names)}. A new one goes into config.json.",
            )
        yield Job(app=app, stage=name, policy=policies.get(name))


def preview_job(config: ProjectConfig, app: AppConfig, name: str) -> Job:
    """An app's preview, whether previews are configured (any more) or not."""
    like = config.preview.like if config.preview else None
    return Job(app=app, stage=name, policy=_preview_policy(config, name), like=like)


def _preview_policy(config: ProjectConfig, name: str) -> StageConfig | None:
    """A preview lives where the stage that it is like does, and is asked the same questions.

    It waits for nobody: gates, needs and refs are about that stage alone.
    """
    if config.preview is None or not PREVIEW.fullmatch(name):
        return None
    like = next((stage for stage in config.stages if stage.name == config.preview.like), None)
    if like is None:
        return None
    return replace(like, name=name, deploy_on=None, needs=None, environment=None)


def _needed_first(policies: Mapping[str, StageConfig], stages: Sequence[str]) -> tuple[str, ...]:
    """The stages in an order in which each comes after the one it needs."""
    wanted = dict.fromkeys(stages)
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        if name in ordered or name not in wanted:
            return
        policy = policies.get(name)
        if policy is not None and policy.needs is not None:
            add(policy.needs)
        ordered[name] = None

    for name in wanted:
        add(name)
    return tuple(ordered)


def _did_you_mean(name: str, names: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
