"""States between a store and Chalice's files: `state show`, `pull`, `import`, and the first run.

`pull` writes the recorded state where plain Chalice looks for it, so that `chalice url`, `logs`
and `invoke` work.  `import_file` takes over what a laptop deployed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.errors import UsageError
from chalice_ci.state.git import import_from_commit
from chalice_ci.state.git_repository import Repository
from chalice_ci.state.local import LocalStore
from chalice_ci.state.schema import (
    IDENTITY,
    StageState,
    StateDamaged,
    identity_key,
    is_v1,
    parse_v1,
    parse_v2,
)
from chalice_ci.state.stack import is_stack, parse_stack
from chalice_ci.state.store import ABSENT, StateKey, StateStore, Stored, Written


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A stage's state and where it was found.

    `version` is what the store's next `write` expects; `imported_from` is empty, or the file and
    commit that a first run read it from, and then nothing is in the store yet.
    """

    state: StageState
    version: str
    imported_from: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of `state show`: what it is, Chalice's name for it, and its ARN, id or name."""

    resource_type: str
    name: str
    identity: str


def show(state: StageState) -> tuple[Row, ...]:
    """The resources of a state in its order."""
    return tuple(
        Row(
            resource_type=identity_key(resource)[0],
            name=identity_key(resource)[1],
            identity=str(resource[_telling_key(identity_key(resource)[0])]),
        )
        for resource in state.resources
    )


def read_or_import(
    store: StateStore, key: StateKey, *, source: Repository | None, ref: str, app_name: str
) -> Recorded | None:
    """The recorded state, or on the first run the one committed at `ref` of `source`.

    None when the stage was never deployed as far as anybody knows.  Nothing is written: the next
    `write` records it.  An imported state is a claim like any other; the ownership guard checks it.
    """
    return recorded_from(store.read(key), key, source=source, ref=ref, app_name=app_name)


def recorded_from(
    stored: Stored, key: StateKey, *, source: Repository | None, ref: str, app_name: str
) -> Recorded | None:
    """As `read_or_import`, from what a store was found to have."""
    if stored.state is not None:
        return Recorded(state=stored.state, version=stored.version)
    found = import_from_commit(source, ref, key, app_name=app_name) if source else None
    if found is None:
        return None
    return Recorded(
        state=found.state, version=ABSENT, imported_from=f"{found.file} at {found.commit[:12]}"
    )


def pull(
    store: StateStore, keys: Sequence[StateKey], *, project_dir: Path, force: bool = False
) -> tuple[Path, ...]:
    """Write the recorded states of `keys` as Chalice's files below `project_dir`.

    Raises UsageError, before anything is written, when a file there names resources that the
    recorded state does not have (a deploy from this machine that nobody imported), unless `force`.
    """
    folder = LocalStore(project_dir)
    pulled: list[tuple[StateKey, StageState, str]] = []
    for key in keys:
        recorded = store.read(key).state
        if recorded is None:
            raise UsageError(
                "No state is recorded.",
                where=key.file,
                fix="Deploy the stage, or take over a laptop's file: `chalice-ci state import`.",
            )
        here = _read_leniently(folder, key) if force else folder.read(key)
        lost = [row for row in _only_in(here.state, recorded) if not force]
        if lost:
            raise UsageError(
                f"The file names {len(lost)} resources that the recorded state does not have, "
                f"such as {lost[0].resource_type} {lost[0].identity}.",
                where=key.file,
                fix="Take them over with `chalice-ci state import`, or pull with --force.",
            )
        pulled.append((key, recorded, here.version))
    for key, state, version in pulled:
        # Where the folder is the store itself, its snapshot stays.
        beside = folder.snapshot(key)
        folder.write(key, state, expected=version, message="", snapshot=beside)
    return tuple(project_dir / key.file for key in keys)


def import_file(
    store: StateStore,
    key: StateKey,
    raw: bytes,
    *,
    app_name: str,
    where: str,
    message: str,
    force: bool = False,
) -> Written:
    """Record a file of Chalice's, `<stage>.json` or the `deployed.json` of Chalice 1.1 and older,
    or the listing of a CloudFormation stack.

    The same state again writes nothing; another recorded state is replaced only by `force`.
    Raises StateDamaged or NotOurs for what the file holds and UsageError if it lacks the stage.
    """
    state: StageState | None
    if is_stack(raw):
        state = parse_stack(raw, where=where)
    elif is_v1(raw, where=where):
        state = parse_v1(raw, key.stage, app_name=app_name, where=where)
        if state is None:
            raise UsageError(
                f"The file has no stage {key.stage}.",
                where=where,
                fix="Name a stage that it has with --stage.",
            )
    else:
        state = parse_v2(raw, where=where)
    stored = store.read(key)
    if stored.state is not None and stored.state != state and not force:
        raise UsageError(
            "Another state of this stage is recorded already; importing would replace it.",
            where=key.file,
            fix="Compare with `chalice-ci state show`, then import with --force if the file is "
            "the true one.",
        )
    # Of another state than the recorded one nobody knows what was deployed.
    beside = store.snapshot(key) if stored.state == state else None
    return store.write(key, state, expected=stored.version, message=message, snapshot=beside)


def _telling_key(resource_type: str) -> str:
    """The key that names the resource itself rather than the function it belongs to."""
    keys = IDENTITY[resource_type]
    return keys[0] if len(keys) == 1 else [key for key in keys if key != "lambda_arn"][-1]


def _only_in(here: StageState | None, recorded: StageState) -> list[Row]:
    """The rows of `here` whose AWS resource is not recorded."""
    if here is None:
        return []
    known = {(row.resource_type, row.identity) for row in show(recorded)}
    return [row for row in show(here) if (row.resource_type, row.identity) not in known]


def _read_leniently(folder: LocalStore, key: StateKey) -> Stored:
    """The file's version even if its content is damaged: `--force` replaces it."""
    try:
        return folder.read(key)
    except StateDamaged:
        return Stored(state=None, version=folder.version(key))
