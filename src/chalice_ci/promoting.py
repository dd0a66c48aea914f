"""A plan whose packages go on to another stage as they are: nothing is resolved or built again.

What no lock pins may resolve to something else tomorrow; a package that is promoted is the one that
was tried, byte for byte. The application graph is still the stage's own: settings differ.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from chalice_ci import __version__, snapshot_document
from chalice_ci.app.versions import Versions
from chalice_ci.chalice_config import ChaliceConfig
from chalice_ci.errors import PlanRefused
from chalice_ci.package.build import Archive, Manifest, Package
from chalice_ci.package.manifest import Dependency, FileEntry
from chalice_ci.package.resolve import Resolved
from chalice_ci.plan import OpenedPlan, not_believed
from chalice_ci.plan_file import read_plan, run_identity
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.snapshot import Snapshot
from chalice_ci.snapshot_document import SnapshotDamaged


def promoted_package(
    run: Run, job: Job, path: Path, config: ChaliceConfig, versions: Versions
) -> Package:
    """The packages of another stage's plan, for the job's stage.

    Raises PlanRefused unless the plan is of the same app, commit and runtime and is to be believed.
    """
    opened = read_plan(run, path)
    snapshot = _snapshot(opened, path)
    stage = job.like or job.stage
    reasons = [
        *_other_code(run, job, opened),
        *not_believed(
            opened.plan,
            run=run_identity(run.context),
            authenticated=opened.authenticated,
            now=run.world.now(),
        ),
        *_other_runtime(opened, snapshot, stage, config, versions),
    ]
    if reasons:
        raise PlanRefused(
            f"the packages of {opened.plan.where} can't go on to {job.stage}: "
            + "; ".join(reasons)
            + ".",
            where=run.shown(path),
            fix="Plan without `promote`: the package is built then.",
        )
    run.progress.say(f"taking the package of {opened.plan.where}", job=job.name)
    return _package(opened, snapshot, versions)


def _other_code(run: Run, job: Job, opened: OpenedPlan) -> list[str]:
    plan, checkout = opened.plan, run.checkout
    pairs: list[tuple[str, str | None, str | None]] = [
        ("app", plan.app, job.app.name),
        ("folder", plan.app_path, job.app.path),
    ]
    if checkout.git_dir is not None:
        pairs += [("commit", plan.commit, checkout.commit), ("tree", plan.tree, checkout.tree)]
    pairs.append(("version of chalice-ci", plan.tool, __version__))
    found = [
        f"they were built for {name} {theirs or 'none'}, this is {ours or 'none'}"
        for name, theirs, ours in pairs
        if theirs != ours
    ]
    changed = run.changed_files(job.app)
    if changed:
        found.append(f"{changed[0]} is not as the commit has it")
    return found


def _other_runtime(
    opened: OpenedPlan, snapshot: Snapshot, stage: str, config: ChaliceConfig, versions: Versions
) -> list[str]:
    plan = opened.plan
    layered = config.automatic_layer(stage)
    return [
        f"they are for {name} {theirs}, {stage} has {ours}"
        for name, theirs, ours in (
            ("Python", plan.python, versions.python),
            ("Chalice", plan.chalice, versions.chalice),
            ("the architecture", snapshot.architecture, config.architecture(stage, plan.chalice)),
            ("automatic_layer", config.automatic_layer(plan.stage), layered),
        )
        if theirs != ours
    ]


def _snapshot(opened: OpenedPlan, path: Path) -> Snapshot:
    if opened.snapshot is None:
        raise PlanRefused(
            "the plan has no snapshot, so its packages are not known.", where=str(path)
        )
    try:
        return snapshot_document.parse(opened.snapshot)
    except SnapshotDamaged as error:
        raise PlanRefused(f"the plan's snapshot {error}.", where=str(path)) from error


def _package(opened: OpenedPlan, snapshot: Snapshot, versions: Versions) -> Package:
    archives = {}
    unpacked = {archive.slot: archive.unpacked_size for archive in snapshot.archives}
    for sealed in opened.plan.packages:
        file = opened.packages[sealed.slot]
        with zipfile.ZipFile(file) as content:
            entries = len(content.infolist())
        archives[sealed.slot] = Archive(
            slot=sealed.slot,
            path=file,
            sha256=sealed.sha256,
            size=sealed.size,
            unpacked_size=unpacked.get(sealed.slot, 0),
            entries=entries,
        )
    manifest = Manifest(
        python=opened.plan.python,
        architecture=snapshot.architecture,
        chalice=opened.plan.chalice,
        dependencies=tuple(
            Dependency(
                name=one.name,
                version=one.version,
                direct=one.direct,
                size=one.size,
                packed=one.packed,
                wheel="",
                sha256=one.sha256,
            )
            for one in snapshot.dependencies
        ),
        files=tuple(
            FileEntry(
                slot=file.slot,
                path=file.path,
                size=file.size,
                sha256=file.sha256,
                dependency=file.dependency,
            )
            for file in snapshot.files
        ),
        digests=tuple((slot, archive.sha256) for slot, archive in sorted(archives.items())),
    )
    return Package(
        app=archives["app"],
        layer=archives.get("layer"),
        manifest=manifest,
        resolved=Resolved(wheels=(), requirements=versions.requirements),
    )
