"""A stage serves what was deployed to it, not what the API has become since."""

from __future__ import annotations

from typing import Any

from moto.apigateway.models import RestAPI

from chalice_ci.local import deployed
from chalice_ci.local.gaps.gap import Around, Gap, Method


def _deploy(moto: Method, self: RestAPI, name: str, *args: Any, **rest: Any) -> Any:
    deployment = moto(self, name, *args, **rest)
    if name:
        setattr(self.stages[name], deployed.SNAPSHOT, deployed.snapshot(self))
    return deployment


GAP = Gap(
    name="stage-snapshot",
    lacks="a deployment keeps nothing of the API",
    hits="the gateway, between PutRestApi and CreateDeployment",
    patches=(Around(owner=RestAPI, name="create_deployment", wrapper=_deploy),),
)
