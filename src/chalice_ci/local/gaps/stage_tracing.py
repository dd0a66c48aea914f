"""X-Ray of a REST API's stage: CreateDeployment's `tracingEnabled`."""

from __future__ import annotations

from typing import Any

from moto.apigateway.responses import APIGatewayResponse

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _deploy(moto: Method, self: APIGatewayResponse) -> Any:
    answer = moto(self)
    tracing = self._get_param("tracingEnabled")
    name = self._get_param("stageName")
    if tracing is not None and name:
        api: Any = self.backend.get_rest_api(self.path.split("/")[2])
        api.stages[name].tracing_enabled = bool(tracing)
    return answer


GAP = Gap(
    name="stage-tracing",
    lacks="`tracingEnabled` of CreateDeployment is ignored",
    hits="`xray`",
    patches=(Around(owner=APIGatewayResponse, name="create_deployment", wrapper=_deploy),),
)
