"""`needs: staging`: only a package that is live there already may go on."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.app.deployer import PackageFile
from chalice_ci.errors import PlanRefused
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.state.schema import StageState
from chalice_ci.state.store import StateKey


def refuse_unless_live(
    run: Run, job: Job, needed: str, packages: Mapping[str, PackageFile]
) -> None:
    """Raise PlanRefused unless every function of the needed stage runs these very packages.

    Lambda's CodeSha256 is the SHA-256 of the uploaded zip, in base64.
    """
    stored = run.records.store.read(StateKey(app_path=job.app.path, stage=needed))
    if stored.state is None or not stored.state.resources:
        raise _refused(job, needed, f"nothing is deployed in {needed}")
    try:
        policy = next((stage for stage in run.config.stages if stage.name == needed), None)
        live = live_digests(run, Job(app=job.app, stage=needed, policy=policy), stored.state)
    except (ClientError, BotoCoreError) as error:
        raise _refused(job, needed, f"what runs in {needed} can't be read: {error}") from error
    if set(live) != set(packages):
        theirs, ours = (" and ".join(sorted(slots)) or "none" for slots in (live, packages))
        raise _refused(job, needed, f"its packages are {theirs}, here they are {ours}")
    for slot, digests in live.items():
        package = packages.get(slot)
        if package is None or digests != {package.sha256}:
            found = ", ".join(sorted(digest[:12] for digest in digests))
            ours = package.sha256[:12] if package else "no such package"
            raise _refused(
                job, needed, f"the {slot} package live in {needed} is {found}, this is {ours}"
            )


def live_digests(run: Run, job: Job, state: StageState) -> dict[str, set[str]]:
    """What runs, in hex, by slot: functions run the app package, the managed layer is the layer."""
    live: dict[str, set[str]] = {}
    for resource in state.resources:
        if resource["resource_type"] == "lambda_function":
            arn = str(resource["lambda_arn"])
            said = _lambda(run, job, arn).get_function_configuration(FunctionName=arn)
            live.setdefault("app", set()).add(_hex(said["CodeSha256"]))
        elif resource["resource_type"] == "lambda_layer":
            arn = str(resource["layer_version_arn"])
            said = _lambda(run, job, arn).get_layer_version_by_arn(Arn=arn)
            live.setdefault("layer", set()).add(_hex(said["Content"]["CodeSha256"]))
    return live


def _lambda(run: Run, job: Job, arn: str) -> Any:
    """Lambda as the needed stage's role sees it: it may be in another account."""
    return run.clients_for(job, arn.split(":")[3])("lambda")


def _hex(digest: str) -> str:
    try:
        return base64.b64decode(digest).hex()
    except binascii.Error:
        return digest


def _refused(job: Job, needed: str, what: str) -> PlanRefused:
    return PlanRefused(
        f"{job.stage} needs the same package to be live in {needed} first: {what}.",
        where=job.name,
        fix=f"Deploy this commit to {needed}, then to {job.stage}.",
    )
