"""What is deployed, as the gateway needs it: read from moto's backends in the same process."""

from __future__ import annotations

import base64
from typing import Any

from moto.apigateway.exceptions import StageNotFoundException
from moto.apigateway.models import apigateway_backends
from moto.awslambda.exceptions import UnknownLayerException
from moto.awslambda.models import lambda_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

# Where a stage keeps what was deployed to it; set by the gap `stage-snapshot`.
SNAPSHOT = "chalice_ci_snapshot"


def rest_api(api_id: str, stage: str) -> dict[str, Any]:
    """A REST API as it was deployed to a stage; raises NotFoundException."""
    for region, backend in apigateway_backends[DEFAULT_ACCOUNT_ID].items():
        api = backend.apis.get(api_id)
        if api is None:
            continue
        document = vars(backend.get_stage(api_id, stage)).get(SNAPSHOT)
        if document is not None:
            keys = [key.value for key in backend.keys.values() if key.enabled]
            return {
                "region": region,
                "account": DEFAULT_ACCOUNT_ID,
                "apiKeys": keys,
                **document,
            }
    raise StageNotFoundException


def snapshot(api: Any) -> dict[str, Any]:
    """What a deployment freezes of a REST API: settings, and routes with their authorizers."""
    return {
        "id": api.id,
        "endpointTypes": list(api.endpoint_configuration["types"]),
        "binaryMediaTypes": list(api.binaryMediaTypes),
        "minimumCompressionSize": api.minimum_compression_size,
        "routes": [
            {
                "path": resource.get_path(),
                "resourceId": resource.id,
                "method": name,
                "integration": _integration(method.method_integration),
                "authorizationType": method.authorization_type or "NONE",
                "authorizer": _authorizer(api, method.authorizer_id),
                "apiKeyRequired": method.api_key_required,
            }
            for resource in api.resources.values()
            for name, method in resource.resource_methods.items()
            if method.method_integration is not None
        ],
    }


def _integration(integration: Any) -> dict[str, Any]:
    document: dict[str, Any] = integration.to_json()
    return {
        "type": document["type"],
        "uri": document["uri"],
        "responses": document["integrationResponses"] or {},
    }


def _authorizer(api: Any, authorizer_id: str | None) -> dict[str, Any] | None:
    if authorizer_id is None:
        return None
    document: dict[str, Any] = api.authorizers[authorizer_id].to_json()
    return document


def function(region: str, name: str) -> dict[str, Any]:
    """A function's configuration; raises ResourceNotFoundException."""
    found: Any = lambda_backends[DEFAULT_ACCOUNT_ID][region].get_function(name)
    return {
        "name": found.function_name,
        "arn": found.function_arn,
        "version": str(found.version),
        "sha256": found.code_sha_256,
        "handler": found.handler,
        "runtime": found.run_time,
        "timeout": int(found.timeout),
        "memory": int(found.memory_size),
        "environment": dict(found.environment_vars),
        "layers": [layer["Arn"] for layer in found.layers],
        "state": found.get_configuration()["State"],
    }


def code(region: str, name: str) -> bytes:
    """A function's package; raises ResourceNotFoundException."""
    content: bytes = lambda_backends[DEFAULT_ACCOUNT_ID][region].get_function(name).code_bytes
    return content


def layer(arn: str) -> bytes:
    """A layer's package; raises ResourceNotFoundException."""
    region = arn.split(":")[3]
    found: Any = lambda_backends[DEFAULT_ACCOUNT_ID][region].layers_versions_by_arn(arn)
    if found is None:
        raise UnknownLayerException
    content = found.content["ZipFile"]
    return base64.b64decode(content)
