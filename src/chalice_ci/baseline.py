"""What a stage is compared with: what is recorded as deployed, or a commit that is built anew.

A commit's files come out of git's objects - from the remote, where the checkout is too shallow to
have them - and are loaded and packaged as the stage itself is: in the same sandbox, for it is
foreign code as well. The snapshot that comes of it is kept by the commit's tree, so that it is made
once for all the runs of a pull request.

Nothing here stops a run: what there is no baseline for says why, and the rest is told.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from chalice_ci import __version__, snapshot_document
from chalice_ci.building import Built, build
from chalice_ci.chalice_config import read_chalice_config
from chalice_ci.committed import TreeRefused, write_tree
from chalice_ci.config import AppConfig, ConfigError, ProjectConfig, read_project_config
from chalice_ci.contents import contents_of
from chalice_ci.context import System
from chalice_ci.difference.changes import Baseline, BaselineKind, Changes
from chalice_ci.difference.compare import compare
from chalice_ci.difference.diagram import diagram_of
from chalice_ci.errors import UsageError, UserError
from chalice_ci.findings import Severity
from chalice_ci.inputs import AGAINST, FROM, GITHUB_TOKEN, PYTHON_PATH, SNAPSHOT_KEY, TO, SourceKind
from chalice_ci.merge_base import DEEPER, NoBase, find_merge_base, own_objects
from chalice_ci.report.progress import Progress
from chalice_ci.report.report import Result
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.snapshot import Snapshot
from chalice_ci.snapshot_document import SnapshotDamaged
from chalice_ci.state.git_repository import GitFailed, Objects
from chalice_ci.state.schema import StageState
from chalice_ci.state.store import StateKey
from chalice_ci.upgrading import asked_chalice, upgrade_of


@dataclass(frozen=True, kw_only=True)
class Found:
    """A baseline and its snapshot; without one the baseline says why, or that the app is new."""

    baseline: Baseline
    snapshot: Snapshot | None = None
    pinned: str = ""
    """The Chalice that a commit asks for which could not be built."""

    @property
    def chalice(self) -> str:
        """The baseline's Chalice; "" when it is not known."""
        return self.pinned if self.snapshot is None else self.snapshot.chalice


def differing(run: Run, job: Job) -> Result:
    """The verb `diff`: a stage, as it is or in a commit, and what it is compared with."""
    inputs = run.inputs
    origin, target = inputs.text(FROM), inputs.text(TO)
    against = inputs.value(AGAINST)
    if origin and against.source is not SourceKind.DEFAULT:
        raise UsageError(
            f"`from` names what to compare with, and so does `against` ({against.text}).",
            where=inputs.value(FROM).detail,
            fix="Leave one of them out.",
        )
    built = at_commit(run, job, target) if target else build(run, job)
    if isinstance(built, Result) and target:
        return built
    if origin:
        found = commit(run, job, origin)
    else:
        found = deployed(run, job) if against.text == "deployed" else merge_base(run, job)
    # What is read for an upgrade are the files that are checked out.
    upgrade = None if target else upgrade_of(run, job, built, found.chalice)
    result = built if isinstance(built, Result) else compared(built, found)
    return replace(result, upgrade=upgrade)


def with_changes(run: Run, built: Built, *, of_deployment: bool) -> Built:
    """A stage with what is different from what matters to who reads it.

    On a pull request that is its base, but for a deployment that it plans what is deployed, if that
    is recorded; everywhere else what is deployed.
    """
    job = built.job
    pull = run.context.pull_request
    planned = of_deployment and job.like is None
    found = deployed(run, job) if pull is None or planned else None
    if found is None or (pull is not None and found.snapshot is None):
        found = merge_base(run, job)
    upgrade = upgrade_of(run, job, built, found.chalice)
    return replace(built, result=replace(compared(built, found), upgrade=upgrade))


def with_upgrade(run: Run, job: Job, result: Result) -> Result:
    """A stage that could not be built, with what another Chalice than the base's means for it."""
    return replace(result, upgrade=upgrade_of(run, job, result, merge_base(run, job).chalice))


def compared(built: Built, found: Found) -> Result:
    """The stage's result with what is different from a baseline, and with its graph."""
    changes = compare(found.snapshot, built.snapshot, found.baseline)
    return replace(
        built.result,
        changes=changes,
        diagram=diagram_of(_drawn(found, changes), built.snapshot),
        contents=contents_of(built.snapshot),
    )


def _drawn(found: Found, changes: Changes) -> Snapshot | None:
    """What the graph is compared with: where nothing is known, nothing is told to have changed."""
    return found.snapshot if changes.known else None


# -- what is deployed -----------------------------------------------------------------------------


def deployed(run: Run, job: Job) -> Found:
    """What is recorded as deployed in the stage."""
    key = StateKey(app_path=job.app.path, stage=job.stage)
    try:
        stored = run.records.store.read(key)
        raw = run.records.store.snapshot(key)
    except UserError as error:
        return _unknown(BaselineKind.DEPLOYED, error.what, error.fix)
    return as_deployed(key, stored.state, raw)


def as_deployed(key: StateKey, state: StageState | None, raw: bytes | None) -> Found:
    """A recorded state with the snapshot beside it, as something to compare with."""
    if state is None or not state.resources:
        return Found(baseline=Baseline(kind=BaselineKind.NONE))
    if raw is None:
        return _unknown(
            BaselineKind.DEPLOYED,
            f"what is deployed in {key.stage} was not recorded in detail: by plain Chalice, by an "
            "older version, or by a deploy that stopped half-way.",
            "The next deploy records it; until then a changed endpoint type is not noticed, nor is "
            "what another role permits.",
        )
    try:
        return Found(
            baseline=Baseline(kind=BaselineKind.DEPLOYED), snapshot=snapshot_document.parse(raw)
        )
    except SnapshotDamaged as error:
        return _unknown(
            BaselineKind.DEPLOYED,
            f"the recorded snapshot {error}.",
            f"The next deploy replaces {key.snapshot_file}.",
        )


def _unknown(kind: BaselineKind, problem: str, fix: str, commit: str = "") -> Found:
    return Found(baseline=Baseline(kind=kind, commit=commit, problem=problem, fix=fix))


# -- a commit -------------------------------------------------------------------------------------


def merge_base(run: Run, job: Job) -> Found:
    """The commit that the checkout grew from: the pull request's base, else the default branch."""
    try:
        commit, objects = find_merge_base(
            run.checkout, run.context, env=with_token(run), work_dir=run.work_dir
        )
    except (NoBase, GitFailed) as problem:
        return _problem(BaselineKind.BASE, problem)
    return _of_commit(run, job, BaselineKind.BASE, commit, objects)


def commit(run: Run, job: Job, ref: str) -> Found:
    """A commit that was named. Raises UsageError when there is no such commit here."""
    objects = _objects(run)
    return _of_commit(run, job, BaselineKind.COMMIT, resolve(run, ref), objects)


def resolve(run: Run, ref: str) -> str:
    """The id of the commit that a branch, tag or abbreviated id names."""
    found = None
    if run.git is not None and not ref.startswith("-"):
        found = run.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not found:
        raise UsageError(
            f"{ref[:100]!r} names no commit here.",
            where="git",
            fix="Give a branch, a tag or an id that was fetched. " + DEEPER,
        )
    return found


def at_commit(run: Run, job: Job, ref: str) -> Built | Result:
    """A stage as it is in a commit, instead of in the files that are checked out."""
    oid = resolve(run, ref)
    try:
        folder = _written(run, oid, _objects(run))
        built = _build(run, job, folder, oid)
    except (NoBase, GitFailed, TreeRefused) as problem:
        found = _problem(BaselineKind.COMMIT, problem, oid)
        raise UsageError(found.baseline.problem, where=oid[:12], fix=found.baseline.fix) from None
    if built is None:
        raise UsageError(
            f"the commit {oid[:12]} has no app {job.app.name}.",
            where=job.app.path,
            fix="Name a commit that has it.",
        )
    return built


def with_token(run: Run) -> Mapping[str, str]:
    """The environment with the forge's token where git looks for it: in the action it is an input,
    and checkouts should not keep it.
    """
    token = run.inputs.text(GITHUB_TOKEN)
    name = "GITLAB_TOKEN" if run.context.system is System.GITLAB else "GITHUB_TOKEN"
    return {**run.world.env, name: token} if token else run.world.env


def _problem(kind: BaselineKind, problem: Exception, commit_id: str = "") -> Found:
    match problem:
        case NoBase():
            return _unknown(kind, problem.problem, problem.fix, commit_id)
        case TreeRefused():
            return _unknown(kind, f"the commit {problem}.", "", commit_id)
        case _:
            return _unknown(kind, f"git failed: {problem}.", DEEPER, commit_id)


def built_commit(run: Run, job: Job, oid: str) -> Built | str:
    """The stage as another commit has it, built now; or why it can't be, as a sentence."""
    try:
        built = _build(run, job, _written(run, oid, _objects(run)), oid)
    except (NoBase, GitFailed, TreeRefused) as problem:
        return f"{problem}"
    if built is None:
        return "the commit has no such app"
    return f"it can't be built: {_reason(built)}" if isinstance(built, Result) else built


def _objects(run: Run) -> Objects:
    return own_objects(run.checkout, env=run.world.env, work_dir=run.work_dir)


def _of_commit(run: Run, job: Job, kind: BaselineKind, oid: str, objects: Objects) -> Found:
    """The snapshot of a commit: kept from before, or built now."""
    baseline = Baseline(kind=kind, commit=oid)
    try:
        tree = objects.ask("rev-parse", "--verify", f"{oid}^{{tree}}").decode("ascii").strip()
        cache = SnapshotCache(run.cache_dir / "snapshots", _cache_name(run, job, tree))
        kept = cache.read()
        if kept is not None:
            return Found(baseline=baseline, snapshot=kept)
        run.progress.say(f"building {oid[:12]} to compare with", job=job.name)
        folder = _written(run, oid, objects)
        _, app = _there(run, job, folder)
        pinned = "" if app is None else asked_chalice(folder, app)
        built = _build(run, job, folder, oid)
    except (NoBase, GitFailed, TreeRefused) as problem:
        return _problem(kind, problem, oid)
    if built is None:
        return Found(baseline=Baseline(kind=BaselineKind.NONE, commit=oid))
    if isinstance(built, Result):
        unknown = _unknown(kind, f"it can't be built: {_reason(built)}", "See that commit.", oid)
        return replace(unknown, pinned=pinned)
    cache.write(built.snapshot)
    return Found(baseline=baseline, snapshot=built.snapshot)


def _written(run: Run, oid: str, objects: Objects) -> Path:
    known = run.written_commits.get(oid)
    if known is not None:
        return known
    folder = Path(tempfile.mkdtemp(prefix=f"commit-{oid[:12]}-", dir=run.work_dir))
    # As the work folder: a child without rights must reach what is its own in here.
    folder.chmod(0o755)
    run.progress.say(f"reading the files of {oid[:12]}")
    run.missing_submodules[oid] = write_tree(objects, oid, folder)
    run.written_commits[oid] = folder
    return folder


def _build(run: Run, job: Job, folder: Path, oid: str) -> Built | Result | None:
    """The stage in another commit; None when that has no such app."""
    config, app = _there(run, job, folder)
    if app is None:
        return None
    for submodule in run.missing_submodules.get(oid, ()):
        if _is_packaged(submodule, app):
            raise NoBase(
                f"it can't be built: the submodule {submodule[:200]} belongs to the package, and "
                "only what is in this repository is read.",
                "Compare with what is deployed (`--against deployed`).",
            )
    # Which server gets which secret is not for any commit to say.
    variables = run.config.package.variables
    config = replace(config, package=replace(config.package, variables=variables))
    there = replace(
        run,
        checkout=replace(
            run.checkout, root=folder, within=".", git_dir=None, commit=oid, tree=None, branch=None
        ),
        config=config,
        git=None,
        progress=_Told(stream=run.progress.stream, quiet=run.progress.quiet, of_commit=oid[:7]),
    )
    try:
        return build(there, replace(job, app=app), alone=False)
    except UserError as error:
        raise NoBase(f"it can't be built: {error.what}", error.fix) from error


def _there(run: Run, job: Job, folder: Path) -> tuple[ProjectConfig, AppConfig | None]:
    """The configuration of another commit, and the app in it; None when it is not there."""
    given = run.config.file
    file = folder / given if given and not Path(given).is_absolute() else None
    try:
        config = read_project_config(folder, file if file and file.is_file() else None)
    except (ConfigError, UsageError) as error:
        raise NoBase(f"it can't be built: {error.what}", "See that commit.") from error
    app = next(
        (one for one in config.apps if one.name == job.app.name),
        next((one for one in config.apps if one.path == job.app.path), None),
    )
    app = app or _moved(run, job, folder, config)
    is_there = app is not None and (folder / app.path / "app.py").exists()
    return config, app if is_there else None


def _moved(run: Run, job: Job, folder: Path, config: ProjectConfig) -> AppConfig | None:
    """The app under another path and name: the only one that went, with the same `app_name`."""
    here = {place for one in run.config.apps for place in (one.name, one.path)}
    gone = [one for one in config.apps if not {one.name, one.path} & here]
    name = _app_name(run.checkout.root, job.app)
    alike = [one for one in gone if name and _app_name(folder, one) == name]
    return alike[0] if len(alike) == 1 else None


def _app_name(root: Path, app: AppConfig) -> str | None:
    config, _ = read_chalice_config(root / app.path, repo_root=root)
    return None if config is None else config.app_name


def _is_packaged(submodule: str, app: AppConfig) -> bool:
    """Whether what is in a submodule would be in the app's package, or is the app itself."""
    top = PurePosixPath(app.path)
    parts = (top, top / "chalicelib", top / "vendor")
    place = PurePosixPath(submodule)
    return any(place == part or place in part.parents for part in parts) or any(
        part in place.parents for part in parts[1:]
    )


@dataclass(frozen=True, kw_only=True)
class _Told(Progress):
    """Says of each line that it is about another commit."""

    of_commit: str

    def say(self, text: str, *, job: str = "") -> None:
        """Write one step."""
        super().say(text, job=f"{job}@{self.of_commit}" if job else self.of_commit)


def _reason(result: Result) -> str:
    if result.failure is not None:
        where = f"{result.failure.where}: " if result.failure.where else ""
        return f"{where}{result.failure.what}"
    errors = [finding for finding in result.findings if finding.severity is Severity.ERROR]
    return errors[0].what if errors else result.note or "no reason was given."


# -- the cache ------------------------------------------------------------------------------------


def _cache_name(run: Run, job: Job, tree: str) -> str:
    """Everything that decides what the snapshot of a tree is."""
    facts = {
        "tree": tree,
        "app": [job.app.name, job.app.path],
        "stage": job.stage,
        "like": job.like,
        "region": run.region(job),
        "python": run.inputs.text(PYTHON_PATH),
        "key": hashlib.sha256(run.inputs.text(SNAPSHOT_KEY).encode()).hexdigest(),
        "tool": __version__,
        "format": snapshot_document.FORMAT,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SnapshotCache:
    """A snapshot in the cache, after a line with its own SHA-256: a file that was cut or changed is
    made again.
    """

    folder: Path
    name: str

    def read(self) -> Snapshot | None:
        """The snapshot, None when it is not there or not whole."""
        path = self.folder / f"{self.name}.json"
        try:
            digest, _, raw = path.read_bytes().partition(b"\n")
            if digest.decode("ascii", "replace") != hashlib.sha256(raw).hexdigest():
                return None
            found = snapshot_document.parse(raw)
            os.utime(path)
        except (OSError, SnapshotDamaged):
            return None
        return found

    def write(self, snapshot: Snapshot) -> None:
        """Keep it; a cache that can't be written is none."""
        raw = snapshot_document.render(snapshot)
        digest = hashlib.sha256(raw).hexdigest().encode("ascii")
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / f".{self.name}.{secrets.token_hex(4)}"
            draft.write_bytes(digest + b"\n" + raw)
            draft.replace(self.folder / f"{self.name}.json")
