"""Endpoint types of an imported REST API, and the VPC endpoints of a private one."""

from __future__ import annotations

import json
from typing import Any

from moto.apigateway.models import APIGatewayBackend
from moto.apigateway.responses import APIGatewayResponse

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _create(moto: Method, self: APIGatewayResponse) -> Any:
    answer = moto(self)
    types = self.querystring.get("endpointConfigurationTypes")
    if not types:
        return answer
    status, headers, body = answer
    api: Any = self.backend.apis[json.loads(body)["id"]]
    api.endpoint_configuration = {**api.endpoint_configuration, "types": types[0].split(",")}
    return status, headers, json.dumps(api.to_dict())


def _put(
    moto: Method, self: APIGatewayBackend, function_id: str, api_doc: dict[str, Any], **rest: Any
) -> Any:
    api: Any = moto(self, function_id, api_doc, **rest)
    ids = api_doc.get("x-amazon-apigateway-endpoint-configuration", {}).get("vpcEndpointIds")
    if ids:
        api.endpoint_configuration = {**api.endpoint_configuration, "vpcEndpointIds": ids}
    return api


GAP = Gap(
    name="endpoints",
    lacks="`endpointConfigurationTypes` and the document's VPC endpoints are ignored",
    hits="`api_gateway_endpoint_type` PRIVATE and REGIONAL",
    patches=(
        Around(owner=APIGatewayResponse, name="create_rest_api", wrapper=_create),
        Around(owner=APIGatewayBackend, name="put_rest_api", wrapper=_put),
    ),
)
