"""API Gateway imports Swagger 2.0, which is what Chalice sends; moto takes OpenAPI 3 only."""

from __future__ import annotations

from typing import Any

from moto.apigateway.models import APIGatewayBackend

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _import(moto: Method, self: APIGatewayBackend, api_doc: dict[str, Any], *rest: Any) -> Any:
    info = {"description": "", **api_doc["info"]}
    return moto(self, {**api_doc, "info": info}, *rest)


def _put(
    moto: Method, self: APIGatewayBackend, function_id: str, api_doc: dict[str, Any], **rest: Any
) -> Any:
    if api_doc.get("swagger") == "2.0":
        api_doc = {key: value for key, value in api_doc.items() if key != "swagger"}
        api_doc["openapi"] = "3.0.1"
    return moto(self, function_id, api_doc, **rest)


GAP = Gap(
    name="swagger",
    lacks="ImportRestApi and PutRestApi refuse Swagger 2.0, and need `info.description`",
    hits="every REST app",
    patches=(
        Around(owner=APIGatewayBackend, name="import_rest_api", wrapper=_import),
        Around(owner=APIGatewayBackend, name="put_rest_api", wrapper=_put),
    ),
)
