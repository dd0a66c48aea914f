"""Integrations in a Swagger document: MOCK has no URI, and types are written in lower case."""

from __future__ import annotations

from typing import Any

from moto.apigateway.models import APIGatewayBackend

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _arguments(moto: Method, self: APIGatewayBackend, integration: dict[str, Any]) -> Any:
    arguments = moto(self, integration)
    arguments["integration_type"] = (arguments["integration_type"] or "").upper()
    if arguments["passthrough_behavior"]:
        arguments["passthrough_behavior"] = arguments["passthrough_behavior"].upper()
    if arguments["uri"] is None:
        arguments["uri"] = ""
    return arguments


def _put(
    moto: Method,
    self: APIGatewayBackend,
    *args: Any,
    integration_method: str | None = None,
    **rest: Any,
) -> Any:
    return moto(self, *args, integration_method=integration_method, **rest)


GAP = Gap(
    name="integrations",
    lacks="a MOCK integration without URI and method is a TypeError; types keep their lower case",
    hits="`cors=True`",
    patches=(
        Around(owner=APIGatewayBackend, name="_build_integration_args", wrapper=_arguments),
        Around(owner=APIGatewayBackend, name="put_integration", wrapper=_put),
    ),
)
