"""From a loaded app and its package to the stage's snapshot.

Routes, authorizers and CORS are read from the API's document, which is what gets deployed, not from
what the app says about itself. The graph was validated, but values that Chalice passes on from
config.json or a decorator may be of any type: what is of another type than AWS takes is left out or
told as JSON, never an error. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from chalice_ci.check import features_used
from chalice_ci.ci_secrets import SecretVariable
from chalice_ci.graph import Loaded, Resource
from chalice_ci.package.manifest import Manifest
from chalice_ci.snapshot import (
    Api,
    Archive,
    Authorizer,
    Cors,
    Dependency,
    Domain,
    File,
    Function,
    Layer,
    Role,
    Route,
    Snapshot,
    Statement,
    Trigger,
    Variable,
)

_Keyed = TypeVar("_Keyed", Route, Function, Trigger, Role, Api, Domain, Layer)

_HEADER = "method.response.header.Access-Control-"
_AUTHORIZER_KINDS = {"awsSigv4": "iam", "cognito_user_pools": "cognito", "custom": "lambda"}
_SOURCES = {
    "ScheduledEvent": ("schedule", "schedule_expression", ("rule_description",)),
    "CloudWatchEvent": ("event", "event_pattern", ()),
    "S3BucketNotification": ("s3", "bucket", ("events", "prefix", "suffix")),
    "SNSLambdaSubscription": ("sns", "topic", ()),
    "SQSEventSource": (
        "sqs",
        "queue",
        ("batch_size", "maximum_batching_window_in_seconds", "maximum_concurrency"),
    ),
    "KinesisEventSource": (
        "kinesis",
        "stream",
        ("batch_size", "starting_position", "maximum_batching_window_in_seconds"),
    ),
    "DynamoDBEventSource": (
        "dynamodb",
        "stream_arn",
        ("batch_size", "starting_position", "maximum_batching_window_in_seconds"),
    ),
}
_WEBSOCKET_ROUTES = {
    "$connect": "connect_function",
    "$default": "message_function",
    "$disconnect": "disconnect_function",
}


def _no_digest(_function: str, _variable: str, _secret: str) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class SnapshotSecrets:
    """The variables that come from secrets; `digest` gives a keyed digest of a secret's value by
    function, variable and secret, "" where the key or the value is not here.
    """

    variables: tuple[SecretVariable, ...] = ()
    digest: Callable[[str, str, str], str] = _no_digest


NO_SNAPSHOT_SECRETS = SnapshotSecrets()


def make_snapshot(
    loaded: Loaded,
    manifest: Manifest,
    *,
    sizes: Mapping[str, int],
    app: str,
    key: str = "",
    secrets: SnapshotSecrets = NO_SNAPSHOT_SECRETS,
) -> Snapshot:
    """The snapshot of a stage.

    `sizes` are the bytes of the archives by slot, `app` the name in chalice-ci.yml, `key` a secret
    text: with it, values of environment variables are represented by a keyed digest, so that a
    changed one can be told. Without it only names are kept. `secrets` tells of variables that come
    from CI secrets.
    """
    graph = loaded.graph
    documents = [
        document
        for api in graph.of_type("RestAPI")
        if isinstance(document := api.fields["swagger_doc"], Mapping)
    ]
    return Snapshot(
        app=app,
        stage=loaded.stage,
        app_name=loaded.config_app_name or loaded.app_name,
        chalice=loaded.chalice_version,
        python=loaded.python_version,
        architecture=manifest.architecture,
        variables_key=_key_id(key),
        features=tuple(features_used(loaded)),
        routes=_once(
            route for document in documents for route in _routes(document, _views(loaded))
        ),
        authorizers=tuple(one for document in documents[:1] for one in _authorizers(document)),
        functions=_once(_function(function, key, secrets) for function in graph.functions),
        triggers=_once(_trigger(resource) for resource in graph.of_type(*_SOURCES)),
        apis=_once(_api(resource) for resource in graph.of_type("RestAPI", "WebsocketAPI")),
        domains=_once(_domain(resource) for resource in graph.of_type("DomainName")),
        roles=_once(_role(resource) for resource in graph.of_type("ManagedIAMRole")),
        layers=_once(
            Layer(
                name=layer.name,
                layer_name=_text(layer.fields["layer_name"]),
                runtime=_text(layer.fields["runtime"]),
                architecture=_text(layer.fields.get("architecture", "x86_64")),
            )
            for layer in graph.of_type("LambdaLayer")
        ),
        dependencies=tuple(
            Dependency(
                name=one.name,
                version=one.version,
                direct=one.direct,
                size=one.size,
                packed=one.packed,
                sha256=one.sha256,
            )
            for one in manifest.dependencies
        ),
        archives=tuple(
            Archive(
                slot=slot,
                sha256=sha256,
                size=sizes[slot],
                unpacked_size=sum(file.size for file in manifest.files if file.slot == slot),
            )
            for slot, sha256 in manifest.digests
        ),
        files=tuple(
            File(file.slot, file.path, file.size, file.sha256, file.dependency)
            for file in manifest.files
        ),
    )


def _once(items: Iterable[_Keyed]) -> tuple[_Keyed, ...]:
    """Each key once: an app with two functions of one name loads, and Chalice's validation says
    that it can't be deployed.
    """
    found: dict[tuple[str, ...], _Keyed] = {}
    for item in items:
        found.setdefault(item.key, item)
    return tuple(found.values())


# -- the REST API's document ----------------------------------------------------------------------


def _views(loaded: Loaded) -> Mapping[tuple[str, str], str]:
    return {(route.path, route.method.lower()): route.function for route in loaded.routes}


def _routes(document: Mapping[str, Any], views: Mapping[tuple[str, str], str]) -> Iterator[Route]:
    definitions = _mapping(document.get("securityDefinitions"))
    for path, methods in _mapping(document.get("paths")).items():
        cors, allowed = _cors(_mapping(methods))
        for method, operation in _mapping(methods).items():
            if _is_preflight(method, operation):
                continue
            auth, scopes, api_key = _security(_mapping(operation), definitions)
            kinds = _mapping(operation).get("consumes")
            yield Route(
                path=path,
                method=method,
                function=views.get((path, method.lower()), ""),
                auth=auth,
                scopes=scopes,
                api_key=api_key,
                cors=cors if method.upper() in allowed else None,
                content_types=_texts(kinds),
            )


def _is_preflight(method: str, operation: object) -> bool:
    """Whether a method only answers preflight requests: Chalice adds it with a mock."""
    integration = _mapping(_mapping(operation).get("x-amazon-apigateway-integration"))
    return method == "options" and integration.get("type") == "mock"


def _cors(methods: Mapping[str, Any]) -> tuple[Cors | None, frozenset[str]]:
    """What a path's preflight answer allows, and the methods that it is for."""
    operation = methods.get("options")
    if not _is_preflight("options", operation):
        return None, frozenset()
    integration = _mapping(_mapping(operation).get("x-amazon-apigateway-integration"))
    default = _mapping(_mapping(integration.get("responses")).get("default"))
    sent = {
        name.removeprefix(_HEADER): _text(value).strip("'")
        for name, value in _mapping(default.get("responseParameters")).items()
    }
    made = Cors(
        origin=sent.get("Allow-Origin", ""),
        headers=sent.get("Allow-Headers", ""),
        expose=sent.get("Expose-Headers", ""),
        max_age=sent.get("Max-Age", ""),
        credentials=sent.get("Allow-Credentials", "") == "true",
    )
    return made, frozenset(sent.get("Allow-Methods", "").split(","))


def _security(
    operation: Mapping[str, Any], definitions: Mapping[str, Any]
) -> tuple[str, tuple[str, ...], bool]:
    """The authorizers, their scopes, and whether an API key is asked for."""
    names: dict[str, tuple[str, ...]] = {}
    api_key = False
    wanted = operation.get("security")
    for item in wanted if isinstance(wanted, tuple) else ():
        for name, scopes in _mapping(item).items():
            definition = _mapping(definitions.get(name))
            # Without an authtype it is API Gateway's own check of `x-api-key`.
            if "x-amazon-apigateway-authtype" not in definition and name == "api_key":
                api_key = True
            else:
                names[name] = _texts(scopes)
    scopes = tuple(sorted({scope for given in names.values() for scope in given}))
    return "+".join(sorted(names)), scopes, api_key


def _authorizers(document: Mapping[str, Any]) -> Iterator[Authorizer]:
    for name, definition in _mapping(document.get("securityDefinitions")).items():
        kind = _mapping(definition).get("x-amazon-apigateway-authtype")
        if kind is None:
            continue
        own = _mapping(_mapping(definition).get("x-amazon-apigateway-authorizer"))
        ttl = own.get("authorizerResultTtlInSeconds")
        deciding = own.get("authorizerUri")
        yield Authorizer(
            name=name,
            kind=_AUTHORIZER_KINDS.get(_text(kind), _text(kind)),
            source=_text(own.get("identitySource") or _mapping(definition).get("name")),
            providers=(_decider(deciding),) if deciding else _texts(own.get("providerARNs")),
            ttl=ttl if type(ttl) is int else None,
            role=_text(own.get("authorizerCredentials")),
        )


def _decider(uri: object) -> str:
    """The function behind an authorizer's address: its name here, or its ARN."""
    text = _text(uri).partition(":lambda:path/2015-03-31/functions/")[2] or _text(uri)
    text = text.removesuffix("/invocations")
    return text[1:].removesuffix("_lambda_arn}") if text.endswith("_lambda_arn}") else text


# -- resources ------------------------------------------------------------------------------------


def _function(function: Resource, key: str, secrets: SnapshotSecrets) -> Function:
    given = function.fields
    role, log_group = given["role"], given["log_group"]
    return Function(
        name=function.name,
        function_name=_text(given["function_name"]),
        handler=_text(given["handler"]),
        runtime=_text(given["runtime"]),
        role=_role_of(role),
        memory=_number(given["memory_size"]),
        timeout=_number(given["timeout"]),
        architecture=_text(given.get("architecture", "x86_64")),
        reserved_concurrency=_number(given["reserved_concurrency"]),
        xray=bool(given["xray"]),
        log_retention=_number(log_group.fields["retention_in_days"])
        if isinstance(log_group, Resource)
        else None,
        managed_layer=given["managed_layer"] is not None,
        layers=_texts(given["layers"]),
        subnets=tuple(sorted(_texts(given["subnet_ids"]))),
        security_groups=tuple(sorted(_texts(given["security_group_ids"]))),
        tags=tuple(sorted(_mapping(given["tags"]))),
        variables=tuple(
            _variable(key, function.name, name, _text(value), secrets)
            for name, value in sorted(_mapping(given["environment_variables"]).items())
        ),
    )


def _variable(key: str, function: str, name: str, value: str, secrets: SnapshotSecrets) -> Variable:
    for one in secrets.variables:
        if (one.variable, one.placeholder) == (name, value):
            digest = secrets.digest(function, name, one.secret)
            return Variable(name=name, digest=digest, secret=one.secret)
    return Variable(name=name, digest=_digest(key, function, name, value))


def _role_of(role: object) -> str:
    if not isinstance(role, Resource):
        return ""
    return role.name or _text(role.fields.get("role_arn"))


def _digest(key: str, function: str, name: str, value: str) -> str:
    """A digest that says nothing to whom does not know the key, not even which values are equal."""
    if not key:
        return ""
    message = "\0".join((function, name, value))
    return hmac.new(key.encode(), message.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _key_id(key: str) -> str:
    if not key:
        return ""
    return hmac.new(key.encode(), b"chalice-ci snapshot key", hashlib.sha256).hexdigest()[:16]


def _trigger(resource: Resource) -> Trigger:
    kind, source, settings = _SOURCES[resource.type]
    function = resource.fields["lambda_function"]
    given = [(name, _text(resource.fields.get(name))) for name in settings]
    return Trigger(
        kind=kind,
        name=resource.name,
        function=function.name if isinstance(function, Resource) else "",
        source=_text(resource.fields[source]),
        settings=tuple((name, value) for name, value in given if value),
    )


def _api(api: Resource) -> Api:
    given = api.fields
    if api.type == "WebsocketAPI":
        handlers = {
            route: function.name
            for route, field in _WEBSOCKET_ROUTES.items()
            if isinstance(function := given[field], Resource)
        }
        return Api(
            kind="websocket",
            name=api.name,
            stage=_text(given["api_gateway_stage"]),
            routes=tuple(
                sorted((route, handlers.get(route, "")) for route in _texts(given["routes"]))
            ),
        )
    document = _mapping(given["swagger_doc"])
    policy = document.get("x-amazon-apigateway-policy")
    own = given["policy"]
    if policy is None and isinstance(own, Resource):
        policy = own.fields["document"]
    return Api(
        kind="rest",
        name=api.name,
        stage=_text(given["api_gateway_stage"]),
        endpoint=_text(given["endpoint_type"]),
        vpc_endpoints=tuple(sorted(_texts(given["vpce_ids"]))),
        minimum_compression=_number(given["minimum_compression"]),
        xray=bool(given["xray"]),
        policy_digest=hashlib.sha256(_canonical(policy).encode()).hexdigest() if policy else "",
        policy=_statements(policy),
        binary_types=tuple(sorted(_texts(document.get("x-amazon-apigateway-binary-media-types")))),
    )


def _domain(domain: Resource) -> Domain:
    given = domain.fields
    mapping = given["api_mapping"]
    mapped: Mapping[str, object] = mapping.fields if isinstance(mapping, Resource) else {}
    return Domain(
        kind="websocket" if given["protocol"] == "WEBSOCKET" else "rest",
        domain=_text(given["domain_name"]),
        certificate=_text(given["certificate_arn"]),
        tls=_text(given["tls_version"]),
        mount=_text(mapped.get("mount_path")),
        stage=_text(mapped.get("api_gateway_stage")),
        tags=tuple(sorted(_mapping(given["tags"]))),
    )


# -- policies -------------------------------------------------------------------------------------


def _role(role: Resource) -> Role:
    policy = role.fields["policy"]
    if not isinstance(policy, Resource):
        return Role(name=role.name, role_name=_text(role.fields["role_name"]), policy="")
    generated = policy.type == "AutoGenIAMPolicy"
    return Role(
        name=role.name,
        role_name=_text(role.fields["role_name"]),
        policy="generated" if generated else _text(policy.fields.get("filename")),
        statements=_statements(policy.fields["document"]),
    )


def _statements(document: object) -> tuple[Statement, ...]:
    """The statements of a policy in a normal form: sorted, each once, without Sids."""
    given = _mapping(document).get("Statement")
    items = given if isinstance(given, tuple) else () if given is None else (given,)
    return tuple(sorted({_statement(item) for item in items}))


def _statement(item: object) -> Statement:
    known = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
    known |= {"Principal", "NotPrincipal"}
    statement = _mapping(item)
    if not statement or not set(statement) <= known:
        return Statement(other=_canonical(item))
    principals = {key: statement[key] for key in ("Principal", "NotPrincipal") if key in statement}
    return Statement(
        effect=_text(statement.get("Effect")),
        actions=_sorted(statement.get("Action")),
        not_actions=_sorted(statement.get("NotAction")),
        resources=_sorted(statement.get("Resource")),
        not_resources=_sorted(statement.get("NotResource")),
        conditions=_canonical(statement["Condition"]) if statement.get("Condition") else "",
        principals=_canonical(principals) if principals else "",
    )


def _sorted(value: object) -> tuple[str, ...]:
    """A policy's list, or the one text that stands for it."""
    if value is None:
        return ()
    return tuple(
        sorted({_text(item) for item in (value if isinstance(value, tuple) else (value,))})
    )


# -- values ---------------------------------------------------------------------------------------


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in value) if isinstance(value, tuple) else ()


def _number(value: object) -> int | None:
    return value if type(value) is int else None


def _text(value: object) -> str:
    """A value as text; the planner's variables in braces."""
    match value:
        case None:
            return ""
        case str():
            return value
        case Resource():
            named = value.fields
            return _text(named.get("template") or named.get("arn") or f"{{{named.get('name')}}}")
        case _:
            return _canonical(value)


def _canonical(value: object) -> str:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: object) -> object:
    match value:
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case Resource():
            return _text(value)
        case _:
            return value
