"""Which operation of which AWS service a request is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from moto.core.request import Request
from moto.core.routing import get_service_router
from werkzeug.exceptions import HTTPException

# Signing names that are not the name of the client.
_CLIENTS = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}

# What is sent without a signature, because it is how one gets credentials.
_UNSIGNED = {"AssumeRoleWithWebIdentity": "sts"}

_READS = (
    "Get", "List", "Describe", "Head", "Filter", "Lookup", "Query", "Scan", "BatchGet", "Simulate",
    "Invoke", "Receive", "Search", "Export",
)  # fmt: skip

# What names the resource in a request, the more telling first; compared without case and dashes.
_NAMES = (
    "functionname", "functionid", "restapiid", "uuid", "layername", "apiid", "domainname",
    "rolename", "rule", "subscriptionarn", "topicarn", "loggroupname", "loggroupnameprefix",
    "queueurl", "queuename", "streamname", "streamarn", "tablename", "bucket", "bucketname",
    "resourcearn", "resource", "arn", "name",
)  # fmt: skip

# What names it in the answer when AWS gives out the name.
_GIVEN = ("id", "apiid", "uuid", "layerversionarn", "subscriptionarn")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One API call: `service` is boto3's name of the client, `name` the operation's."""

    service: str
    name: str
    region: str
    resource: str
    parameters: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What was given, by the names that are in the request."""

    @property
    def mutating(self) -> bool:
        """Whether it may change something."""
        return bool(self.name) and not self.name.startswith(_READS)


def identify(environ: Mapping[str, Any], body: bytes) -> Operation:
    """Name the operation of a request; an unsigned or unknown one has empty names."""
    service, region = _signed_for(environ)
    if service == "apigateway" and environ["PATH_INFO"].startswith("/v2/"):
        service = "apigatewayv2"
    parameters: dict[str, Any] = {}
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
    name = ""
    if target:
        name = target.split(".")[-1]
        parameters = _json(body)
    elif form and body:
        parameters = dict(parse_qsl(body.decode("utf-8", "replace")))
        name = parameters.get("Action", "")
        service = service or _UNSIGNED.get(name, "")
    elif service:
        name, parameters = _route(service, environ)
        if service != "s3":
            parameters = {**_json(body), **parameters}
    return Operation(
        service=service,
        name=name,
        region=region,
        resource=_first(parameters, _NAMES),
        parameters=parameters,
    )


def given_name(body: bytes) -> str:
    """The name that AWS gave out, from the answer to a create call."""
    return _first(_json(body), _GIVEN)


def _signed_for(environ: Mapping[str, Any]) -> tuple[str, str]:
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    if len(scope) < 5:
        return "", ""
    region, service = scope[-3], scope[-2].lower()
    return _CLIENTS.get(service, service), region


def _route(service: str, environ: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        operation, parameters = get_service_router(service).match(Request(dict(environ)))
    except (HTTPException, NotImplementedError, LookupError):
        return "", {}
    return operation.name, dict(parameters)


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _first(parameters: Mapping[str, Any], names: tuple[str, ...]) -> str:
    folded = {
        key.lower().replace("-", "").replace("_", ""): value
        for key, value in parameters.items()
        if isinstance(value, str)
    }
    return next((folded[name] for name in names if folded.get(name)), "")
