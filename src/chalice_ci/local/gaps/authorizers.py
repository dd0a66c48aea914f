"""Authorizers, API keys and IAM: `securityDefinitions` and each method's `security`."""

from __future__ import annotations

from typing import Any

from moto.apigateway.models import APIGatewayBackend

from chalice_ci.local.gaps.gap import Around, Gap, Method

_AWS_IAM = "awsSigv4"


def _put(
    moto: Method, self: APIGatewayBackend, function_id: str, api_doc: dict[str, Any], **rest: Any
) -> Any:
    api: Any = moto(self, function_id, api_doc, **rest)
    definitions: dict[str, Any] = api_doc.get("securityDefinitions", {})
    ids = _authorizers(self, api, definitions)
    methods = {
        (resource.get_path(), name): method
        for resource in api.resources.values()
        for name, method in resource.resource_methods.items()
    }
    for path, operations in api_doc["paths"].items():
        for name, operation in operations.items():
            _secure(methods[path, name.upper()], operation.get("security", []), definitions, ids)
    return api


def _authorizers(
    backend: APIGatewayBackend, api: Any, definitions: dict[str, Any]
) -> dict[str, str]:
    """Make the API's authorizers those of the document; one that stays keeps its id."""
    known = {authorizer.name: authorizer for authorizer in api.authorizers.values()}
    wanted: dict[str, Any] = {}
    for name, definition in definitions.items():
        described = definition.get("x-amazon-apigateway-authorizer")
        if described is None:
            continue
        header = f"method.request.header.{definition['name']}"
        authorizer: Any = backend.create_authorizer(
            api.id,
            name,
            described["type"].upper(),
            provider_arns=described.get("providerARNs"),
            auth_type=definition.get("x-amazon-apigateway-authtype"),
            authorizer_uri=described.get("authorizerUri"),
            authorizer_credentials=described.get("authorizerCredentials"),
            identity_source=described.get("identitySource", header),
            identiy_validation_expression=described.get("identityValidationExpression"),
            authorizer_result_ttl=described.get("authorizerResultTtlInSeconds"),
        )
        if name in known:
            authorizer.id = known[name].id
        wanted[authorizer.id] = authorizer
    api.authorizers = wanted
    return {authorizer.name: authorizer.id for authorizer in wanted.values()}


def _secure(
    method: Any, security: list[dict[str, list[str]]], definitions: dict[str, Any], ids: Any
) -> None:
    method.authorization_type = "NONE"
    for requirement in security:
        for name, scopes in requirement.items():
            definition = definitions[name]
            if definition.get("x-amazon-apigateway-authtype") == _AWS_IAM:
                method.authorization_type = "AWS_IAM"
            elif name in ids:
                kind = definition["x-amazon-apigateway-authorizer"]["type"].upper()
                cognito = kind == "COGNITO_USER_POOLS"
                method.authorization_type = kind if cognito else "CUSTOM"
                method.authorizer_id = ids[name]
                method.authorization_scopes = scopes or None
            else:
                method.api_key_required = True


GAP = Gap(
    name="authorizers",
    lacks="`securityDefinitions` and `security` of an imported document are ignored",
    hits="custom, Cognito and IAM authorizers, `api_key_required=True`",
    patches=(Around(owner=APIGatewayBackend, name="put_rest_api", wrapper=_put),),
)
