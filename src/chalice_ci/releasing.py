"""The releases of a stage in a run: what is noted of a deployment, and what is kept of its plan.

A kept plan holds the values of config.json's variables, as the plan file does: with the signing
key it is encrypted; without one it is kept only when everything in it is in the commit anyway.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

from chalice_ci.checkout import not_committed
from chalice_ci.context import System
from chalice_ci.errors import PlanRefused
from chalice_ci.holding import key_of
from chalice_ci.inputs import PLAN
from chalice_ci.plan import OpenedPlan, Plan, parse_plan, render_plan
from chalice_ci.plan_file import run_identity
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.state.releases import Release, parse, render, with_release
from chalice_ci.state.schema import StateDamaged

_MAX_KEPT = 64 * 1024 * 1024
_OPEN, _SEALED = "zlib:", "sealed:"


def read_releases(run: Run, job: Job) -> tuple[Release, ...]:
    """What was deployed to the stage, newest first."""
    key = key_of(job)
    return parse(run.records.store.releases(key), where=key.releases_file)


def noted(
    run: Run, job: Job, opened: OpenedPlan, *, calls: int, rolled_back_to: str = ""
) -> bytes | None:
    """The list of releases with this deployment; None when it stays as it is.

    What changed nothing is no new release: what is live came from the one before.
    """
    if not calls:
        return None
    try:
        before = read_releases(run, job)
    except StateDamaged as error:
        run.progress.say(f"a new list of releases is begun: {error.what}", job=job.name)
        before = ()
    plan = opened.plan
    keep = run.config.state.keep_plans
    new = Release(
        digest=opened.digest,
        commit=plan.commit or "",
        tree=plan.tree or "",
        run=run_identity(run.context),
        run_url=run.run_url,
        time=run.world.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        tool=plan.tool,
        packages=tuple((package.slot, package.sha256) for package in plan.packages),
        rolled_back_to=rolled_back_to,
        plan=_kept(run, job, opened) if keep else "",
    )
    return render(with_release(before, new, keep=keep))


def _kept(run: Run, job: Job, opened: OpenedPlan) -> str:
    document = {
        "plan": render_plan(opened.plan).decode("ascii"),
        "snapshot": (opened.snapshot or b"").decode("ascii"),
    }
    packed = zlib.compress(json.dumps(document).encode("ascii"), 9)
    if run.signing_key is not None:
        from chalice_ci.plan_cipher import encrypt

        clear, sealed = _files(run)
        clear.write_bytes(packed)
        encrypt(clear, sealed, run.signing_key)
        return _SEALED + _text(sealed, clear)
    if not _in_commit(run, job):
        run.progress.say("the plan is not kept: not all of it is in the commit", job=job.name)
        return ""
    return _OPEN + base64.b64encode(packed).decode("ascii")


def _in_commit(run: Run, job: Job) -> bool:
    """Whether the plan holds nothing that the commit does not hold."""
    if run.git is not None:
        return not not_committed(run.checkout, run.git, job.app.path, run.config.file)
    # Applied without a checkout. Without a key only a plan of the same CI run is believed, and
    # there it is not made of anything else.
    return bool(run.inputs.text(PLAN)) and run.context.system is not System.LOCAL


def opened_release(run: Run, job: Job, release: Release) -> tuple[Plan, bytes]:
    """The kept plan of a release and its snapshot.

    Raises PlanRefused when it is not kept, can't be opened here, or is not the one of the release.
    """
    where = f"{job.name} {release.digest[:12]}"
    if not release.plan:
        raise PlanRefused(
            "the plan of this release is not kept.",
            where=where,
            fix=f"Deploy its commit again: {release.commit or 'see the list of releases'}. "
            "`state.keep-plans` in chalice-ci.yml says how many are kept.",
        )
    try:
        document = json.loads(_unpacked(run, release, where))
        raw, snapshot = document["plan"].encode("ascii"), document["snapshot"].encode("ascii")
        plan = parse_plan(raw)
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error, RecursionError) as error:
        raise PlanRefused(f"the kept plan is damaged: {error}.", where=where) from error
    packages = tuple(sorted((package.slot, package.sha256) for package in plan.packages))
    if (plan.app, plan.stage) != (job.app.name, job.stage) or packages != release.packages:
        raise PlanRefused("the kept plan is not that of this release.", where=where)
    return plan, snapshot


def _unpacked(run: Run, release: Release, where: str) -> bytes:
    if release.plan.startswith(_OPEN):
        packed = base64.b64decode(release.plan.removeprefix(_OPEN), validate=True)
    else:
        packed = _decrypted(run, release, where)
    worker = zlib.decompressobj()
    unpacked = worker.decompress(packed, _MAX_KEPT)
    if not worker.eof:
        raise ValueError("it is cut off or too large")
    return unpacked


def _decrypted(run: Run, release: Release, where: str) -> bytes:
    keys = tuple(key for key in (run.signing_key, run.previous_signing_key) if key is not None)
    if not keys:
        raise PlanRefused(
            "the kept plan is encrypted, and there is no signing key here.",
            where=where,
            fix="Give this job the key that it was made with: `signing-key`.",
        )
    from chalice_ci.plan_cipher import decrypt

    clear, sealed = _files(run)
    sealed.write_bytes(base64.b64decode(release.plan.removeprefix(_SEALED), validate=True))
    decrypt(sealed, clear, keys)
    packed = clear.read_bytes()
    clear.unlink()
    return packed


def _files(run: Run) -> tuple[Path, Path]:
    return run.work_dir / "kept.clear", run.work_dir / "kept.sealed"


def _text(sealed: Path, clear: Path) -> str:
    text = base64.b64encode(sealed.read_bytes()).decode("ascii")
    clear.unlink()
    sealed.unlink()
    return text
