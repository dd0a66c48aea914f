"""Custom domain names: one namespace for both versions of API Gateway.

Chalice creates a REST domain with version 1 and a WebSocket one with version 2, looks the mappings
of both up with version 2, deletes mappings with version 1 and domains with version 2.
Version 1's store is the one that counts here; version 2 reads and writes it.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from moto.apigateway import urls as rest_urls
from moto.apigateway.exceptions import BadRequestException, ConflictException
from moto.apigateway.models import (
    APIGatewayBackend,
    BasePathMapping,
    DomainName,
    apigateway_backends,
)
from moto.apigateway.responses import APIGatewayResponse
from moto.apigatewayv2 import urls as websocket_urls
from moto.apigatewayv2.exceptions import ApiMappingNotFound, ApiNotFound, DomainNameNotFound
from moto.apigatewayv2.models import ApiGatewayV2Backend, ApiMapping
from moto.apigatewayv2.models import DomainName as DomainNameV2
from moto.apigatewayv2.responses import ApiGatewayV2Response

from chalice_ci.local.gaps.gap import Added, Around, Gap, Method, Route

_ROOT = "(none)"
_DEFAULT_POLICY = "TLS_1_2"
_DOMAIN = ":/domainnames/"


def _rest(backend: ApiGatewayV2Backend) -> APIGatewayBackend:
    return apigateway_backends[backend.account_id][backend.region_name]


# -- version 1 ---------------------------------------------------------------------------------


def _create(moto: Method, self: APIGatewayBackend, domain_name: str, *args: Any) -> Any:
    if domain_name in self.domain_names:
        raise ConflictException("The domain name you provided already exists.")
    domain: Any = moto(self, domain_name, *args)
    domain.security_policy = domain.security_policy or _DEFAULT_POLICY
    domain.endpoint_configuration = domain.endpoint_configuration or {"types": ["EDGE"]}
    self.base_path_mappings[domain_name] = {}
    return domain


def _as_json(moto: Method, self: DomainName) -> dict[str, Any]:
    """AWS shows the names of the domain's own kind of endpoint only."""
    document: dict[str, Any] = moto(self)
    kinds = (self.endpoint_configuration or {}).get("types", ["EDGE"])
    other = "regional" if "EDGE" in kinds else "distribution"
    return {key: value for key, value in document.items() if not key.startswith(other)}


def _update(self: APIGatewayResponse) -> Any:
    domain: Any = self.backend.get_domain_name(unquote(self.path.split("/")[2]))
    for operation in self._get_param("patchOperations"):
        path, value = operation["path"], operation.get("value")
        match path:
            case "/securityPolicy":
                domain.security_policy = value
            case "/certificateArn":
                domain.certificate_arn = value
            case "/regionalCertificateArn":
                domain.regional_certificate_arn = value
            case _:
                raise BadRequestException(f"Invalid patch path {path}")
    return json.dumps(domain.to_json())


def _delete(moto: Method, self: APIGatewayBackend, domain_name: str) -> Any:
    answer = moto(self, domain_name)
    self.base_path_mappings.pop(domain_name, None)
    return answer


# -- version 2 ---------------------------------------------------------------------------------


def _view(self: ApiGatewayV2Backend, domain: Any) -> DomainNameV2:
    kinds = domain.endpoint_configuration["types"]
    edge = "EDGE" in kinds
    configuration = {
        "apiGatewayDomainName": (
            domain.distribution_domain_name if edge else domain.regional_domain_name
        ),
        "certificateArn": domain.certificate_arn if edge else domain.regional_certificate_arn,
        "domainNameStatus": "AVAILABLE",
        "endpointType": kinds[0],
        "hostedZoneId": (
            domain.distribution_hosted_zone_id if edge else domain.regional_hosted_zone_id
        ),
        "securityPolicy": domain.security_policy,
    }
    return DomainNameV2(
        domain_name=domain.domain_name,
        domain_name_configurations=[configuration],
        mutual_tls_authentication={},
        tags=domain.tags or {},
        backend=self,
    )


def _find(self: ApiGatewayV2Backend, domain_name: str | None) -> Any:
    domain = _rest(self).domain_names.get(domain_name or "")
    if domain is None:
        raise DomainNameNotFound
    return domain


def _create_v2(
    _: Method,
    self: ApiGatewayV2Backend,
    *,
    domain_name: str,
    domain_name_configurations: list[dict[str, str]],
    tags: dict[str, str],
    **_unused: Any,
) -> Any:
    wanted = domain_name_configurations[0]
    kind = wanted.get("endpointType", "REGIONAL")
    certificate = wanted.get("certificateArn")
    edge = kind == "EDGE"
    rest: Any = _rest(self)
    domain = rest.create_domain_name(
        domain_name,
        None,
        tags,
        certificate if edge else None,
        None,
        None,
        None,
        None,
        None if edge else certificate,
        {"types": [kind]},
        wanted.get("securityPolicy"),
    )
    return _view(self, domain)


def _get_v2(_: Method, self: ApiGatewayV2Backend, domain_name: str | None) -> Any:
    return _view(self, _find(self, domain_name))


def _list_v2(_: Method, self: ApiGatewayV2Backend) -> Any:
    return [_view(self, domain) for domain in _rest(self).domain_names.values()]


def _update_v2(self: ApiGatewayV2Response) -> Any:
    backend = self.apigatewayv2_backend
    domain = _find(backend, unquote(self.path.split("/")[-1]))
    wanted = json.loads(self.body).get("domainNameConfigurations", [{}])[0]
    if certificate := wanted.get("certificateArn"):
        edge = "EDGE" in domain.endpoint_configuration["types"]
        setattr(domain, "certificate_arn" if edge else "regional_certificate_arn", certificate)
    if policy := wanted.get("securityPolicy"):
        domain.security_policy = policy
    return 200, {}, json.dumps(_view(backend, domain).to_json())


def _delete_v2(_: Method, self: ApiGatewayV2Backend, domain_name: str) -> None:
    _find(self, domain_name)
    _rest(self).delete_domain_name(domain_name)


def _mappings(self: ApiGatewayV2Backend, domain_name: str) -> list[ApiMapping]:
    stored = _rest(self).base_path_mappings.get(domain_name, {})
    found: list[ApiMapping] = []
    for path, mapping in stored.items():
        entry: Any = mapping
        key = "" if path == _ROOT else path
        found.append(
            ApiMapping(
                api_id=entry.rest_api_id,
                api_mapping_key=key,
                api_mapping_id=self._generate_api_maping_id(key, entry.stage, domain_name),
                domain_name=domain_name,
                stage=entry.stage,
            )
        )
    return found


def _create_mapping(
    _: Method,
    self: ApiGatewayV2Backend,
    api_id: str,
    api_mapping_key: str,
    domain_name: str,
    stage: str,
) -> Any:
    _find(self, domain_name)
    rest = _rest(self)
    if api_id not in self.apis and api_id not in rest.apis:
        raise ApiNotFound(api_id)
    path = api_mapping_key or _ROOT
    mappings = rest.base_path_mappings[domain_name]
    if path in mappings:
        raise ConflictException("ApiMapping key already exists for this domain name")
    mappings[path] = BasePathMapping(domain_name, api_id, basePath=path, stage=stage)
    key = "" if path == _ROOT else path
    return next(m for m in _mappings(self, domain_name) if m.api_mapping_key == key)


def _get_mapping(
    _: Method, self: ApiGatewayV2Backend, api_mapping_id: str, domain_name: str
) -> Any:
    _find(self, domain_name)
    for mapping in _mappings(self, domain_name):
        if mapping.api_mapping_id == api_mapping_id:
            return mapping
    raise ApiMappingNotFound


def _list_mappings(_: Method, self: ApiGatewayV2Backend, domain_name: str) -> Any:
    _find(self, domain_name)
    return _mappings(self, domain_name)


def _delete_mapping(
    _: Method, self: ApiGatewayV2Backend, api_mapping_id: str, domain_name: str
) -> None:
    mapping = self.get_api_mapping(api_mapping_id, domain_name)
    del _rest(self).base_path_mappings[domain_name][mapping.api_mapping_key or _ROOT]


# -- tags --------------------------------------------------------------------------------------


def _tagged(self: ApiGatewayV2Backend, arn: str) -> Any:
    """The domain that an ARN names, or None when it names something else."""
    _, found, name = arn.partition(_DOMAIN)
    return _find(self, name) if found else None


def _get_tags(moto: Method, self: ApiGatewayV2Backend, resource_id: str) -> Any:
    domain = _tagged(self, resource_id)
    return moto(self, resource_id) if domain is None else dict(domain.tags or {})


def _tag(moto: Method, self: ApiGatewayV2Backend, resource_arn: str, tags: dict[str, str]) -> None:
    domain = _tagged(self, resource_arn)
    if domain is None:
        moto(self, resource_arn, tags)
    else:
        domain.tags = {**(domain.tags or {}), **tags}


def _untag(moto: Method, self: ApiGatewayV2Backend, resource_arn: str, tag_keys: list[str]) -> None:
    domain = _tagged(self, resource_arn)
    if domain is None:
        moto(self, resource_arn, tag_keys)
    else:
        domain.tags = {k: v for k, v in (domain.tags or {}).items() if k not in tag_keys}


_TABLES = (rest_urls.url_paths, websocket_urls.url_paths)

GAP = Gap(
    name="domains",
    lacks="no UpdateDomainName, HostedZoneId or tags; versions 1 and 2 have separate domains;"
    " deleting a domain with mappings ends in a RuntimeError",
    hits="`api_gateway_custom_domain`, `websocket_api_custom_domain`",
    patches=(
        Around(owner=APIGatewayBackend, name="create_domain_name", wrapper=_create),
        Around(owner=APIGatewayBackend, name="delete_domain_name", wrapper=_delete),
        Around(owner=DomainName, name="to_json", wrapper=_as_json),
        Added(owner=APIGatewayResponse, name="update_domain_name", method=_update),
        Around(owner=ApiGatewayV2Backend, name="create_domain_name", wrapper=_create_v2),
        Around(owner=ApiGatewayV2Backend, name="get_domain_name", wrapper=_get_v2),
        Around(owner=ApiGatewayV2Backend, name="get_domain_names", wrapper=_list_v2),
        Around(owner=ApiGatewayV2Backend, name="delete_domain_name", wrapper=_delete_v2),
        Added(owner=ApiGatewayV2Response, name="update_domain_name", method=_update_v2),
        Around(owner=ApiGatewayV2Backend, name="create_api_mapping", wrapper=_create_mapping),
        Around(owner=ApiGatewayV2Backend, name="get_api_mapping", wrapper=_get_mapping),
        Around(owner=ApiGatewayV2Backend, name="get_api_mappings", wrapper=_list_mappings),
        Around(owner=ApiGatewayV2Backend, name="delete_api_mapping", wrapper=_delete_mapping),
        Around(owner=ApiGatewayV2Backend, name="get_tags", wrapper=_get_tags),
        Around(owner=ApiGatewayV2Backend, name="tag_resource", wrapper=_tag),
        Around(owner=ApiGatewayV2Backend, name="untag_resource", wrapper=_untag),
        Route(
            tables=_TABLES,
            pattern="{0}/v2/tags/(?P<resource_arn_pt1>[^/]+)/domainnames/(?P<resource_arn_pt2>[^/]+)$",
            handler=ApiGatewayV2Response.dispatch,
        ),
    ),
)
