"""Which permissions a request needs on AWS: actions, resources and what conditions test.

Written from AWS's service authorization reference, for the operations that deploys of Chalice apps
make. What is not listed needs the action of its own name on `*`. Of a request that acts on several
things each is one entry: a new function with a role, tags and layers needs four permissions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from moto.awslambda.models import lambda_backends
from moto.iam.models import iam_backends

from chalice_ci.access.evaluate import Request
from chalice_ci.local.aws import ACCOUNT
from chalice_ci.local.operations import Operation

_Requests = Iterator[Request]


class _Call:
    """One request: its parameters by folded name, and ARNs of its place."""

    def __init__(self, operation: Operation, environ: Mapping[str, Any], body: bytes) -> None:
        self.operation = operation
        self.method = str(environ["REQUEST_METHOD"])
        # The path as it was sent: an ARN in it stays encoded, as it is in the resource.
        sent = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"])
        self.path = sent.partition("?")[0]
        self.body = body
        self.query = dict(parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True))
        self.parameters = operation.parameters
        self.action = f"{operation.service}:{operation.name}"

    def text(self, *names: str) -> str:
        for name in names:
            value = self.parameters.get(name, self.query.get(name))
            if isinstance(value, str) and value:
                return unquote(value)
        return ""

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.operation.region}:{ACCOUNT}:{resource}"

    def role(self, name: str) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/{name}"

    def function(self, name: str) -> str:
        """The ARN of a function, given by name, ARN or `account:function:name`."""
        parts = name.split(":function:")
        plain = parts[1] if len(parts) > 1 else name
        return self.arn("lambda", f"function:{plain.split(':')[0]}")

    def needs(self, resource: str, *, action: str = "", **context: str) -> Request:
        keys = {name.replace("__", ":"): value for name, value in context.items()}
        return Request(action=action or self.action, resource=resource, context=keys)


_FREE = {("sts", "GetCallerIdentity"), ("sts", "AssumeRoleWithWebIdentity")}
"""What nobody needs a permission for: the role's trust decides."""


def requests(operation: Operation, environ: Mapping[str, Any], body: bytes) -> tuple[Request, ...]:
    """What a call needs; nothing for what everybody may do."""
    if not operation.name or (operation.service, operation.name) in _FREE:
        return ()
    call = _Call(operation, environ, body)
    if operation.service in ("apigateway", "apigatewayv2"):
        return tuple(_api_gateway(call))
    found = _NEEDS.get((operation.service, operation.name))
    return (call.needs("*"),) if found is None else tuple(found(call))


# -- API Gateway ----------------------------------------------------------------------------------


def _api_gateway(call: _Call) -> _Requests:
    path = call.path.removeprefix("/v2")
    resource = f"arn:aws:apigateway:{call.operation.region}::{path}"
    yield call.needs(resource, action=f"apigateway:{call.method}")
    named = call.operation.name
    if named in ("ImportRestApi", "PutRestApi") and b"x-amazon-apigateway-policy" in call.body:
        yield call.needs(resource, action="apigateway:UpdateRestApiPolicy")
    if named == "CreateDomainName" and _json(call.body).get("tags"):
        tags = f"arn:aws:apigateway:{call.operation.region}::/tags/*"
        yield call.needs(tags, action="apigateway:PUT")


# -- Lambda ---------------------------------------------------------------------------------------


def _function(call: _Call) -> _Requests:
    yield call.needs(call.function(call.text("FunctionName", "Resource", "ARN")))


def _settings_of_function(call: _Call) -> _Requests:
    yield from _function(call)
    given = _json(call.body)
    role = str(given.get("Role") or "")
    if role:
        yield call.needs(role, action="iam:PassRole", iam__PassedToService="lambda.amazonaws.com")
    for layer in given.get("Layers") or ():
        yield call.needs(str(layer), action="lambda:GetLayerVersion")
    if (given.get("VpcConfig") or {}).get("SubnetIds"):
        for what in ("SecurityGroups", "Subnets", "Vpcs"):
            yield call.needs("*", action=f"ec2:Describe{what}")
    if call.operation.name == "CreateFunction" and given.get("Tags"):
        yield call.needs(call.function(call.text("FunctionName")), action="lambda:TagResource")


def _new_mapping(call: _Call) -> _Requests:
    of = call.function(str(_json(call.body).get("FunctionName", "")))
    yield call.needs("*", lambda__FunctionArn=of)


def _mapping(call: _Call) -> _Requests:
    uuid = call.text("UUID")
    known = lambda_backends[ACCOUNT][call.operation.region]._event_source_mappings.get(uuid)
    context = {} if known is None else {"lambda__FunctionArn": str(known.function_arn)}
    yield call.needs(call.arn("lambda", f"event-source-mapping:{uuid}"), **context)


def _layer(call: _Call) -> _Requests:
    yield call.needs(call.arn("lambda", f"layer:{call.text('LayerName').rpartition(':')[2]}"))


def _layer_version(call: _Call) -> _Requests:
    arn = call.text("Arn", "find")
    if not arn.startswith("arn:"):
        name = call.text("LayerName").rpartition(":")[2]
        arn = call.arn("lambda", f"layer:{name}:{call.text('VersionNumber')}")
    yield call.needs(arn, action=call.action.removesuffix("ByArn"))


# -- the others -----------------------------------------------------------------------------------


def _role(call: _Call) -> _Requests:
    name = call.text("RoleName")
    boundary = call.text("PermissionsBoundary")
    known = iam_backends[ACCOUNT]["aws"].roles.values()
    for role in known:
        if role.name == name and role.permissions_boundary_arn:
            boundary = str(role.permissions_boundary_arn)
    context = {"iam__PermissionsBoundary": boundary} if boundary else {}
    yield call.needs(call.role(name), **context)


def _rule(call: _Call) -> _Requests:
    yield call.needs(call.arn("events", f"rule/{call.text('Rule', 'Name')}"))


def _log_group(call: _Call) -> _Requests:
    yield call.needs(call.arn("logs", f"log-group:{call.text('logGroupName')}"))


def _topic(call: _Call) -> _Requests:
    arn = call.text("TopicArn") or call.text("SubscriptionArn").rpartition(":")[0]
    given = {"sns__Protocol": call.text("Protocol"), "sns__Endpoint": call.text("Endpoint")}
    yield call.needs(arn, **{key: value for key, value in given.items() if value})


def _bucket(call: _Call) -> _Requests:
    arn = f"arn:aws:s3:::{call.text('Bucket')}"
    prefix = call.query.get("prefix", "")
    context = {"s3__prefix": prefix} if call.operation.name.startswith("ListObjects") else {}
    yield call.needs(arn, action=f"s3:{_BUCKETS[call.operation.name]}", **context)


def _object(call: _Call) -> _Requests:
    key = call.text("Key")
    arn = f"arn:aws:s3:::{call.text('Bucket')}/{key}"
    yield call.needs(arn, action=f"s3:{_OBJECTS[call.operation.name]}")


_BUCKETS = {
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "GetBucketVersioning": "GetBucketVersioning",
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
}
_OBJECTS = {
    "DeleteObject": "DeleteObject",
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "PutObject": "PutObject",
}

_NEEDS: Mapping[tuple[str, str], Callable[[_Call], _Requests]] = {
    **{
        ("lambda", name): _function
        for name in (
            *("AddPermission", "DeleteFunction", "DeleteFunctionConcurrency", "GetFunction"),
            *("GetFunctionConfiguration", "GetPolicy", "InvokeFunction", "ListTags"),
            *("PutFunctionConcurrency", "RemovePermission", "TagResource", "UntagResource"),
            "UpdateFunctionCode",
        )
    },
    ("lambda", "CreateFunction"): _settings_of_function,
    ("lambda", "UpdateFunctionConfiguration"): _settings_of_function,
    ("lambda", "CreateEventSourceMapping"): _new_mapping,
    **{("lambda", f"{verb}EventSourceMapping"): _mapping for verb in ("Delete", "Get", "Update")},
    ("lambda", "PublishLayerVersion"): _layer,
    **{
        ("lambda", name): _layer_version
        for name in ("DeleteLayerVersion", "GetLayerVersion", "GetLayerVersionByArn")
    },
    **{
        ("iam", name): _role
        for name in (
            *("CreateRole", "DeleteRole", "DeleteRolePolicy", "GetRole", "GetRolePolicy"),
            *("ListRolePolicies", "PutRolePolicy"),
        )
    },
    **{
        ("events", name): _rule
        for name in (
            *("DeleteRule", "DescribeRule", "ListTargetsByRule", "PutRule", "PutTargets"),
            "RemoveTargets",
        )
    },
    **{
        ("logs", name): _log_group
        for name in (
            *("CreateLogGroup", "DeleteLogGroup", "DeleteRetentionPolicy", "PutRetentionPolicy"),
        )
    },
    **{("sns", name): _topic for name in ("GetSubscriptionAttributes", "Subscribe", "Unsubscribe")},
    **{("s3", name): _bucket for name in _BUCKETS},
    **{("s3", name): _object for name in _OBJECTS},
}


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
