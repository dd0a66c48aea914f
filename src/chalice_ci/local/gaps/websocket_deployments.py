"""CreateDeployment and GetDeployments of API Gateway version 2."""

from __future__ import annotations

import json
import time
from typing import Any

from moto.apigateway import urls as rest_urls
from moto.apigatewayv2 import urls as websocket_urls
from moto.apigatewayv2.responses import ApiGatewayV2Response
from moto.moto_api._internal import mock_random

from chalice_ci.local.gaps.gap import Added, Gap, Route


def _deployments(self: ApiGatewayV2Response) -> list[dict[str, Any]]:
    api: Any = self.apigatewayv2_backend.get_api(self.path.split("/")[-2])
    kept: list[dict[str, Any]] = vars(api).setdefault("deployments", [])
    return kept


def _create(self: ApiGatewayV2Response) -> Any:
    wanted = json.loads(self.body or "{}")
    deployment = {
        "deploymentId": mock_random.get_random_hex(6),
        "deploymentStatus": "DEPLOYED",
        "createdDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "autoDeployed": False,
        "description": wanted.get("description", ""),
    }
    _deployments(self).append(deployment)
    return 201, {"status": 201}, json.dumps(deployment)


def _get(self: ApiGatewayV2Response) -> Any:
    return 200, {}, json.dumps({"items": _deployments(self)})


GAP = Gap(
    name="websocket-deployments",
    lacks="CreateDeployment of version 2 is not implemented",
    hits="every WebSocket app",
    patches=(
        Added(owner=ApiGatewayV2Response, name="create_deployment", method=_create),
        Added(owner=ApiGatewayV2Response, name="get_deployments", method=_get),
        Route(
            tables=(rest_urls.url_paths, websocket_urls.url_paths),
            pattern="{0}/v2/apis/(?P<api_id>[^/]+)/deployments$",
            handler=ApiGatewayV2Response.dispatch,
        ),
    ),
)
