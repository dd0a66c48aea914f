"""Deleting a REST or WebSocket API that is not there."""

from __future__ import annotations

from typing import Any

from moto.apigateway.models import APIGatewayBackend
from moto.apigatewayv2.models import ApiGatewayV2Backend

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _delete_rest(moto: Method, self: APIGatewayBackend, function_id: str) -> Any:
    self.get_rest_api(function_id)  # raises NotFoundException
    return moto(self, function_id)


def _delete_websocket(moto: Method, self: ApiGatewayV2Backend, api_id: str) -> None:
    self.get_api(api_id)  # raises NotFoundException
    moto(self, api_id)


GAP = Gap(
    name="missing-api",
    lacks="DeleteRestApi ends in a KeyError, DeleteApi (version 2) succeeds",
    hits="recovery: a recorded API that somebody deleted",
    patches=(
        Around(owner=APIGatewayBackend, name="delete_rest_api", wrapper=_delete_rest),
        Around(owner=ApiGatewayV2Backend, name="delete_api", wrapper=_delete_websocket),
    ),
)
