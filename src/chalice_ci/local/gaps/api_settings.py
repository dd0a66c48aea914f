"""Settings of a REST API that live in the imported document: resource policy and binary types."""

from __future__ import annotations

import json
from typing import Any

from moto.apigateway.models import APIGatewayBackend

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _put(
    moto: Method, self: APIGatewayBackend, function_id: str, api_doc: dict[str, Any], **rest: Any
) -> Any:
    api: Any = moto(self, function_id, api_doc, **rest)
    overwrite = rest.get("mode") == "overwrite"
    policy = api_doc.get("x-amazon-apigateway-policy")
    if policy is not None:
        api.policy = json.dumps(policy, sort_keys=True)
    elif overwrite:
        api.policy = None
    types = api_doc.get("x-amazon-apigateway-binary-media-types")
    if types is not None or overwrite:
        api.binaryMediaTypes = list(types or [])
    return api


GAP = Gap(
    name="api-settings",
    lacks="resource policy and binary media types of an imported document are ignored",
    hits="`api_gateway_policy_file`, PRIVATE endpoints, `app.api.binary_types`",
    patches=(Around(owner=APIGatewayBackend, name="put_rest_api", wrapper=_put),),
)
