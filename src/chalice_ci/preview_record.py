"""What a preview's record says of where it stands: its region, and the name of its app.

A pull request may rename its app, or the base move its stages to another region, while a preview
is up: it is taken down where it was made, under the name that it was made with. Pure.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chalice_ci.config import StageConfig
from chalice_ci.route import Job
from chalice_ci.state.schema import StageState


def as_recorded(job: Job, state: StageState, app_name: str | None) -> tuple[Job, str | None]:
    """The job in the region of its record, and the name that the recorded functions were made with.

    Where the record does not say either, or contradicts itself, what was given stands.
    """
    arns = [str(resource["lambda_arn"]) for resource in _functions(state)]
    regions = {arn.split(":")[3] for arn in arns if arn.count(":") >= 6}
    if len(regions) == 1:
        policy = job.policy or StageConfig(name=job.stage)
        job = replace(job, policy=replace(policy, region=regions.pop()))
    return job, _app_name(arns, job.stage, app_name)


def _functions(state: StageState) -> list[dict[str, object]]:
    return [
        dict(resource)
        for resource in state.resources
        if resource["resource_type"] == "lambda_function" and resource.get("lambda_arn")
    ]


def _app_name(arns: list[str], stage: str, given: str | None) -> str | None:
    """What every recorded function is named after: `<app>-<stage>`, then its own name or none."""
    named: set[str] | None = None
    for arn in arns:
        name = arn.rpartition(":")[2]
        ends = re.finditer(rf"(?=-{re.escape(stage)}(?:-|$))", name)
        possible = {name[: end.start()] for end in ends}
        named = possible if named is None else named & possible
    if not named or given in named:
        return given
    return named.pop() if len(named) == 1 else given
