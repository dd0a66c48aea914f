"""Preview stages as they are recorded: which there are, since when, which nobody wants any more.

What is recorded counts, not what is configured: a preview whose app, label or whole section has
gone from chalice-ci.yml still stands in AWS, and is found here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from chalice_ci.building import known_stages
from chalice_ci.config import AppConfig, PreviewConfig, ProjectConfig
from chalice_ci.context import Context
from chalice_ci.errors import UserError
from chalice_ci.forge.port import Forge, NotFound, PullRequest
from chalice_ci.report.report import Intent
from chalice_ci.route import PREVIEW, Job, Routed, Task, Wish, preview_job, route_event
from chalice_ci.run import Run
from chalice_ci.snapshot_document import deployed_at
from chalice_ci.state.lease import opened
from chalice_ci.state.schema import StateDamaged
from chalice_ci.state.store import StateKey


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A preview that is recorded. `deployed` is when it was deployed last, None if nobody knows."""

    key: StateKey
    deployed: datetime | None = None

    @property
    def number(self) -> int:
        """The pull request that it is of."""
        return int(self.key.stage.removeprefix("pr-"))


def preview_keys(run: Run) -> tuple[StateKey, ...]:
    """Every preview that the store knows anything of, also one that a killed deploy began."""
    return tuple(key for key in run.records.store.known() if PREVIEW.fullmatch(key.stage))


def aged(run: Run, key: StateKey) -> Preview:
    """A preview with the time of its last deployment: of one that did not end, of its begin."""
    store = run.records.store
    try:
        journal = opened(key, store.read(key).journal)
    except StateDamaged:
        # It is still there, and whoever takes it down will hear what is wrong.
        return Preview(key=key)
    if journal is not None and journal.begun is not None:
        return Preview(key=key, deployed=journal.begun)
    snapshot = store.snapshot(key)
    return Preview(key=key, deployed=None if snapshot is None else deployed_at(snapshot))


def app_of(config: ProjectConfig, key: StateKey) -> AppConfig:
    """The app that is configured in the folder of a record, else one that is known by it alone."""
    for app in config.apps:
        if app.path == key.app_path:
            return app
    name = "app" if key.app_path == "." else PurePosixPath(key.app_path).name
    return AppConfig(name=name, path=key.app_path)


def wanted(run: Run, context: Context, forge: Forge | None, wish: Wish) -> Routed:
    """What an event wants, with a look at the records where previews may have to go."""
    routed = route_event(
        run.config, known_stages(run), context, wish, standing=_standing(run, context)
    )
    if context.event == "schedule":
        return replace(routed, tasks=(*routed.tasks, *orphans(run, forge, wish)))
    return routed


def _standing(run: Run, context: Context) -> tuple[AppConfig, ...]:
    """The apps of which a preview is recorded that the pull request does not want any more."""
    pull, preview = context.pull_request, run.config.preview
    if pull is None or not context.trusted or context.superseded:
        return ()
    closed = context.action == "closed" or not pull.open
    labels = pull.labels if pull.labels_told else None
    without = preview is not None and labels is not None and preview.label not in (None, *labels)
    if not (closed or without):
        return ()
    try:
        keys = preview_keys(run)
    except UserError as error:
        if preview is not None:
            raise
        # Where nobody configured previews, nobody gave this run what it takes to read the records.
        run.progress.say(f"whether a preview is recorded can't be told: {error.what}")
        return ()
    return tuple(app_of(run.config, key) for key in keys if key.stage == f"pr-{pull.number}")


def orphans(run: Run, forge: Forge | None, wish: Wish) -> tuple[Task, ...]:
    """Take down every recorded preview that nobody wants any more; each task says why.

    Without a forge only age and number are looked at. Raises ForgeError, and what the store raises.
    """
    keys = tuple(key for key in preview_keys(run) if _is_meant(run.config, key, wish))
    if not keys:
        return ()
    # After the records: a preview that comes up meanwhile is not looked at.
    pulls = None if forge is None else _pull_requests(forge, keys)
    preview = run.config.preview
    left: list[Preview] = []
    why: dict[StateKey, str] = {}
    for key in keys:
        one = Preview(key=key)
        reason = "no previews are configured any more" if preview is None else ""
        if preview is not None and pulls is not None:
            reason = unwanted(pulls.get(one.number), preview)
        if not reason and preview is not None:
            one = aged(run, key)
            reason = expired(one, preview, run.world.now())
        if reason:
            why[key] = reason
        else:
            left.append(one)
    if preview is not None:
        why |= {one.key: reason for one, reason in beyond_limit(left, preview)}
    return tuple(
        Task(
            intent=Intent.REMOVE,
            job=preview_job(run.config, app_of(run.config, key), key.stage),
            why=why[key],
        )
        for key in keys
        if key in why
    )


def unwanted(pull: PullRequest | None, preview: PreviewConfig) -> str:
    """Why a pull request - None: the forge has none - wants no preview; empty when it does."""
    if pull is None:
        return "the pull request is gone"
    if not pull.is_open:
        return "the pull request is merged" if pull.merged else "the pull request is closed"
    if preview.label is not None and preview.label not in pull.labels:
        return f"the pull request does not have the label `{preview.label}`"
    return ""


def expired(one: Preview, preview: PreviewConfig, now: datetime) -> str:
    """Why a preview has lived long enough; empty when it has not, or nobody knows."""
    if one.deployed is None or now - one.deployed <= timedelta(seconds=preview.ttl_seconds):
        return ""
    return f"it was last deployed on {one.deployed:%Y-%m-%d %H:%M} UTC, longer ago than `ttl`"


def beyond_limit(
    previews: Collection[Preview], preview: PreviewConfig
) -> Iterator[tuple[Preview, str]]:
    """The previews that an app has too many, the oldest first, each with the reason."""
    by_app: dict[str, list[Preview]] = {}
    for one in previews:
        by_app.setdefault(one.key.app_path, []).append(one)
    for own in by_app.values():
        oldest = sorted(
            own, key=lambda p: (p.deployed.timestamp() if p.deployed else 0.0, p.number)
        )
        for one in oldest[: max(0, len(own) - preview.limit)]:
            yield one, f"the app has {len(own)} previews, and `limit` is {preview.limit}"


@dataclass(frozen=True, kw_only=True)
class Room:
    """Whether there is room for a preview: what to take down first, and how many are left then.

    `fresh` when nothing is recorded of the preview itself.
    """

    fresh: bool
    tasks: tuple[Task, ...] = ()
    left: int = 0


def room_for(run: Run, job: Job, forge: Forge | None) -> Room:
    """Look at the previews of the job's app."""
    preview, here = run.config.preview, job.app.path
    if preview is None:
        return Room(fresh=False)
    own = tuple(key for key in preview_keys(run) if key.app_path == here)
    if any(key.stage == job.stage for key in own):
        return Room(fresh=False)
    if len(own) < preview.limit:
        return Room(fresh=True)
    tasks = orphans(run, forge, Wish(apps=(job.app.name,)))
    return Room(fresh=True, tasks=tasks, left=len(own) - len(tasks))


def _is_meant(config: ProjectConfig, key: StateKey, wish: Wish) -> bool:
    """Whether a record is among the apps, stages and folders that were asked for."""
    within = wish.within in (".", key.app_path) or key.app_path.startswith(f"{wish.within}/")
    named = not wish.apps or app_of(config, key).name in wish.apps
    return within and named and (not wish.stages or key.stage in wish.stages)


def _pull_requests(forge: Forge, keys: Collection[StateKey]) -> Mapping[int, PullRequest]:
    """The pull requests of these previews, as far as the forge has them."""
    found = {pull.number: pull for pull in forge.open_pull_requests()}
    for number in sorted({Preview(key=key).number for key in keys} - found.keys()):
        # A list that grows while it is read may lack one that is open.
        try:
            found[number] = forge.pull_request(number)
        except NotFound:
            continue
    return found
