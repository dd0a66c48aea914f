"""What came out of a load, after it was checked as hostile input.

The loader runs in the same process as the app's code, so its answer may be anything. `read_answer`
accepts exactly what Chalice can produce: a closed schema per Chalice version, names that Chalice
derives from the app's name and the stage, package slots instead of paths, bounds on everything.
Anything else is a LoadFailure of kind `forged`. An app can still lie within the schema (claim a
route that it does not have, ask for an IAM action): that is in the difference that people read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from chalice_ci.findings import Place
from chalice_ci.neutral import neutralise
from chalice_ci.template import TemplateRefused, TemplateRequest, check_template

FORMAT = 1
MAX_BYTES = 16 * 1024 * 1024
MAX_NODES = 20_000
MAX_VALUES = 500_000
MAX_DEPTH = 100
MAX_TEXT = 256 * 1024
MAX_NAME = 512
MAX_ITEMS = 20_000
_MESSAGE = 4000

# What Chalice 1.29 to 1.34 gives every role it manages; an app cannot configure it.
TRUST_POLICY: Mapping[str, object] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "",
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One object of Chalice's application graph.

    `type` is the class in `chalice.deploy.models` (or Variable, StringFormat, KeyDataVariable of
    the planner), `name` its `resource_name` or "". In `fields`, another object is a Resource, an
    enum its member's name, a set a sorted tuple, a package its slot ("app" or "layer").
    """

    type: str
    name: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Graph:
    """The application graph: the encoded document and its resources, decoded."""

    document: Mapping[str, Any]
    resources: tuple[Resource, ...]

    @property
    def functions(self) -> tuple[Resource, ...]:
        """The Lambda functions."""
        return self.of_type("LambdaFunction")

    def of_type(self, *types: str) -> tuple[Resource, ...]:
        """The resources of these types, in the graph's order."""
        return tuple(resource for resource in self.resources if resource.type in types)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the document as canonical JSON."""
        return hashlib.sha256(canonical(self.document)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class FeatureUse:
    """A use of an experimental feature.

    `via` is `decorator`, `register_blueprint`, `handler` (the handler's own line, found without
    the app's help) or `unknown`.
    """

    name: str
    at: Place | None
    via: str = "decorator"


@dataclass(frozen=True, kw_only=True)
class OtherApp:
    """A Chalice object that is not the one that is deployed."""

    app_name: str
    at: Place | None
    features: tuple[FeatureUse, ...]


@dataclass(frozen=True, kw_only=True)
class Route:
    """A REST route: one path and method.

    `authorizer` is the name that the route asks for, `authorizer_function` the function that the
    app registered for it, None for an authorizer that is no function of the app.
    """

    path: str
    method: str
    function: str
    cors: bool
    authorizer: str | None
    authorizer_function: str | None
    api_key: bool
    content_types: tuple[str, ...]
    at: Place | None


@dataclass(frozen=True, kw_only=True)
class Function:
    """A Lambda function as the app registers it: what `lambda_functions` in config.json can name.

    `type` is rest, lambda, schedule, cloudwatch, s3, sns, sqs, kinesis, dynamodb, authorizer,
    websocket-connect, websocket-message, websocket-disconnect or other.
    """

    name: str
    handler: str
    type: str
    at: Place | None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An app, loaded for a stage.

    `app_name` is what `Chalice(...)` was given, `config_app_name` what config.json says: AWS names
    are derived from the latter. `validation` holds the texts of Chalice's own validation,
    `withheld` the stage's variables that were kept from the loader, `template` the template if it
    was asked for, or `template_error` why there is none, `models` what describes its REST API.
    """

    app_name: str
    config_app_name: str | None
    chalice_version: str
    python_version: str
    stage: str
    flags_kind: str
    flags: tuple[str, ...]
    features: tuple[FeatureUse, ...]
    other_apps: tuple[OtherApp, ...]
    routes: tuple[Route, ...]
    functions: tuple[Function, ...]
    validation: tuple[str, ...]
    graph: Graph
    template: Mapping[str, Any] | None = None
    template_error: str | None = None
    models: Mapping[str, Any] | None = None
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One step of the way to a failure, in the app's own files."""

    at: Place
    function: str = ""


@dataclass(frozen=True, kw_only=True)
class LoadFailure:
    """An app that could not be loaded.

    `kind` is a stable word (`import-error`, `syntax-error`, `system-exit`, `missing-app`,
    `wrong-type`, `network`, `credentials`, `region`, `environment`, `filesystem`, `configuration`,
    `chalice`, `exception`, `timeout`, `cpu`, `memory`, `killed`, `too-large`, `forged`), `type` the
    exception's class, `subject` what it is about (a module, a variable), `at` the innermost line of
    the app's own code, `frames` the way there. `message` is neutral text.
    """

    kind: str
    type: str = ""
    message: str = ""
    at: Place | None = None
    frames: tuple[Frame, ...] = ()
    subject: str = ""


def canonical(document: object) -> bytes:
    """JSON with sorted keys and no spaces: equal bytes for equal documents."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


class Expected:
    """What zone 1 knows by itself and an answer has to agree with.

    `app_name` is config.json's (None when it has none), `template` what was asked for.
    """

    def __init__(
        self,
        *,
        stage: str,
        app_name: str | None,
        python_version: str | None,
        template: TemplateRequest | None = None,
    ) -> None:
        self.stage = stage
        self.app_name = app_name
        self.python_version = python_version
        self.template = template


def read_answer(
    raw: bytes, *, app_path: str, chalice_version: str, expected: Expected | None = None
) -> Loaded | LoadFailure:
    """Read a loader's answer as hostile input.

    `app_path` is the app's POSIX path in the repository ("." for the root): places become
    relative to the repository. Never raises: what does not fit is a LoadFailure.
    """
    try:
        document = _parse(raw)
        reader = _Answer(document, app_path, chalice_version, expected)
        return reader.failure() if "failure" in document else reader.loaded()
    except _Broken as broken:
        return LoadFailure(kind="chalice", message=neutralise(str(broken))[:_MESSAGE])
    except _Forged as forged:
        return LoadFailure(kind="forged", message=neutralise(f"The answer {forged}.")[:_MESSAGE])


def check_graph(
    document: Mapping[str, Any],
    *,
    chalice_version: str,
    app_name: str,
    stage: str,
    python_version: str,
) -> Graph:
    """Read a graph; raises ValueError unless a loader could have given it for this stage."""
    try:
        _bound(document)
        names = _Names(app_name, stage, python_version)
        return _GraphReader(document, chalice_version, names, lenient=False).graph(stage)
    except (_Forged, _Broken) as wrong:
        raise ValueError(f"its graph is none of this app and stage: it {wrong}") from None


class _Forged(Exception):
    """The answer is not one that the loader gives: the message goes on after "The answer"."""


class _Broken(Exception):
    """Chalice builds this, and nobody could deploy it."""


def _refuse(what: str) -> NoReturn:
    raise _Forged(what)


# -- JSON, bounded


def _parse(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        _refuse("is too large")
    try:
        document = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=lambda name: _refuse(f"holds the number {name}"),
        )
    except (ValueError, RecursionError):
        _refuse("is not JSON")
    if not isinstance(document, dict):
        _refuse("is not a JSON object")
    _bound(document)
    if document.get("format") != FORMAT or type(document.get("format")) is not int:
        _refuse(f"is not of format {FORMAT}")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        _refuse("has a key twice")
    return made


def _bound(document: object) -> None:
    """Bound the number of values, the depth and the length of texts, without recursion."""
    count = 0
    todo: list[tuple[object, int]] = [(document, 0)]
    while todo:
        value, depth = todo.pop()
        count += 1
        if count > MAX_VALUES:
            _refuse("has too many values")
        if depth > MAX_DEPTH:
            _refuse("is nested too deep")
        if isinstance(value, str):
            _bound_text(value)
        elif isinstance(value, dict):
            for key in value:
                _bound_text(key)
            todo.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            todo.extend((item, depth + 1) for item in value)
        elif isinstance(value, float) and value in (float("inf"), float("-inf")):
            _refuse("holds a number that is none")


def _bound_text(text: str) -> None:
    if len(text) > MAX_TEXT:
        _refuse("has a text that is too long")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        _refuse("has half a character")


# -- the envelope


class _Answer:
    def __init__(
        self,
        document: dict[str, Any],
        app_path: str,
        chalice_version: str,
        expected: Expected | None,
    ) -> None:
        self._document = document
        self._app_path = app_path
        self._version = chalice_version
        self._expected = expected

    def loaded(self) -> Loaded:
        top = _record(
            self._document,
            "answer",
            {
                *("format", "chalice", "python", "stage", "app_name", "config_app_name", "flags"),
                *("features", "other_apps", "routes", "functions", "validation", "withheld"),
                *("graph", "template", "template_error", "models"),
            },
        )
        expected = self._expected
        version, python, stage = (_name(top[key], key) for key in ("chalice", "python", "stage"))
        config_app_name = _optional(top["config_app_name"], "config_app_name")
        if version != self._version:
            _refuse(f"is of Chalice {version}, not {self._version}")
        if expected is not None and (
            stage != expected.stage
            or config_app_name != expected.app_name
            or expected.python_version not in (None, python)
        ):
            _refuse("is of another stage, app or Python")
        flags = _record(top["flags"], "flags", {"kind", "values"})
        template = top["template"]
        if template is not None:
            wanted = expected.template if expected is not None else None
            try:
                check_template(template, wanted or TemplateRequest())
            except TemplateRefused as error:
                _refuse(str(error))
        models = top["models"]
        if models is not None and not isinstance(models, dict):
            _refuse("has models that are no mapping")
        names = _Names(str(config_app_name), stage, python) if expected is not None else None
        validation = tuple(
            _text(_record(item, "validation", {"message"})["message"], "validation")[:_MESSAGE]
            for item in _list(top["validation"], "validation")
        )
        graph = _GraphReader(top["graph"], version, names, lenient=bool(validation)).graph(stage)
        return Loaded(
            app_name=_text(top["app_name"], "app_name")[:MAX_NAME],
            config_app_name=config_app_name,
            chalice_version=version,
            python_version=python,
            stage=stage,
            flags_kind=_name(flags["kind"], "flags"),
            flags=tuple(_text(flag, "flags") for flag in _list(flags["values"], "flags")),
            features=self._features(top["features"]),
            other_apps=tuple(
                self._other_app(item) for item in _list(top["other_apps"], "other_apps")
            ),
            routes=tuple(self._route(item) for item in _list(top["routes"], "routes")),
            functions=tuple(self._function(item) for item in _list(top["functions"], "functions")),
            validation=tuple(neutralise(message) for message in validation),
            graph=graph,
            template=template,
            models=models,
            template_error=_neutral_or_none(top["template_error"]),
            withheld=tuple(_name(item, "withheld") for item in _list(top["withheld"], "withheld")),
        )

    def failure(self) -> LoadFailure:
        top = self._document
        if not set(top) <= {"format", "chalice", "python", "failure"}:
            _refuse("is a failure and something else")
        known = {"kind", "type", "message", "subject", "declared", "file", "line", "frames"}
        failure = _record(top["failure"], "failure", known)
        kind = _text(failure["kind"], "failure")
        if kind not in _KINDS:
            _refuse("names an unknown kind of failure")
        frames = []
        for item in _list(failure["frames"], "frames", limit=100):
            frame = _record(item, "frame", {"file", "line", "function"})
            at = self._place(frame)
            if at is not None:
                name = neutralise(_text(frame["function"], "frame"))[:MAX_NAME]
                frames.append(Frame(at=at, function=name))
        subject = neutralise(_text(failure["subject"], "failure"))[:MAX_NAME]
        message = neutralise(_text(failure["message"], "failure"))[:_MESSAGE]
        if kind == "import-error" and subject:
            missing = failure["type"] == "ModuleNotFoundError"
            message += _about_requirements(subject, failure["declared"] is True, missing)
        return LoadFailure(
            kind=kind,
            type=neutralise(_text(failure["type"], "failure"))[:MAX_NAME],
            message=message,
            at=self._place(failure),
            frames=tuple(frames),
            subject=subject,
        )

    def _features(self, value: object) -> tuple[FeatureUse, ...]:
        uses = []
        for item in _list(value, "features"):
            use = _record(item, "feature", {"name", "via", "file", "line"})
            via = _text(use["via"], "feature")
            if via not in ("decorator", "register_blueprint", "handler", "unknown"):
                _refuse("has a feature that was found in no known way")
            uses.append(
                FeatureUse(name=_name(use["name"], "feature"), via=via, at=self._place(use))
            )
        return tuple(uses)

    def _other_app(self, value: object) -> OtherApp:
        other = _record(value, "other_apps", {"app_name", "features", "file", "line"})
        return OtherApp(
            app_name=_text(other["app_name"], "other_apps")[:MAX_NAME],
            at=self._place(other),
            features=self._features(other["features"]),
        )

    def _route(self, value: object) -> Route:
        known = {
            "path", "method", "function", "cors", "authorizer", "authorizer_function", "api_key",
            "content_types", "file", "line",
        }  # fmt: skip
        route = _record(value, "routes", known)
        return Route(
            path=_text(route["path"], "route"),
            method=_text(route["method"], "route"),
            function=_text(route["function"], "route"),
            cors=_bool(route["cors"]),
            authorizer=_optional(route["authorizer"], "route"),
            authorizer_function=_optional(route["authorizer_function"], "route"),
            api_key=_bool(route["api_key"]),
            content_types=tuple(
                _text(kind, "route") for kind in _list(route["content_types"], "route")
            ),
            at=self._place(route),
        )

    def _function(self, value: object) -> Function:
        function = _record(value, "functions", {"name", "handler", "type", "file", "line"})
        return Function(
            name=_text(function["name"], "function"),
            handler=_text(function["handler"], "function"),
            type=_name(function["type"], "function"),
            at=self._place(function),
        )

    def _place(self, value: Mapping[str, Any]) -> Place | None:
        file, line = value["file"], value["line"]
        if file is None:
            return None
        path = _name(file, "place", limit=4096)
        parts = path.split("/")
        if path.startswith("/") or "\\" in path or not all(parts) or {".", ".."} & set(parts):
            _refuse("names a place outside the app")
        if line is not None and (type(line) is not int or not 0 <= line < 10_000_000):
            _refuse("names a line that cannot be")
        prefix = "" if self._app_path == "." else f"{self._app_path}/"
        return Place(file=f"{prefix}{path}", line=line or None)


_KINDS = frozenset(
    {
        *("import-error", "syntax-error", "system-exit", "missing-app", "wrong-type", "network"),
        *("credentials", "region", "environment", "filesystem", "configuration", "chalice"),
        *("exception", "timeout", "cpu", "memory", "too-large"),
    }
)


def _about_requirements(module: str, declared: bool, missing: bool) -> str:
    if module == "chalicelib":
        return ""
    if not declared:
        return f" (nothing in requirements.txt has the name `{module}`)" if missing else ""
    if missing:
        return f" (`{module}` is in requirements.txt, but was not installed)"
    return f" (`{module}` is in requirements.txt; its installed version does not have this)"


def _record(value: object, what: str, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != keys:
        _refuse(f"has {what} with other keys than the loader writes")
    return value


def _list(value: object, what: str, *, limit: int = MAX_ITEMS) -> list[Any]:
    if not isinstance(value, list) or len(value) > limit:
        _refuse(f"has {what} that are no list, or too many")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        _refuse(f"has {what} that is not text")
    return value


def _optional(value: object, what: str) -> str | None:
    return None if value is None else _text(value, what)


def _neutral_or_none(value: object) -> str | None:
    return None if value is None else neutralise(_text(value, "template_error"))[:_MESSAGE]


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        _refuse("has something else where a truth value is")
    return value


def _name(value: object, what: str, *, limit: int = MAX_NAME) -> str:
    """A text that can stand in a name: printable, on one line, not empty."""
    text = _text(value, what)
    if not text or len(text) > limit or not text.isprintable():
        _refuse(f"has a {what} that is no name")
    return text


# -- the graph

# name: a name; text, text?: text; value: any JSON, as Chalice passes it on from config.json or a
# decorator; document: JSON that may hold the planner's variables; ref, ref?, refs: other nodes.
_FUNCTION = "ref:LambdaFunction"
_ROLES = "ref:ManagedIAMRole|PreCreatedIAMRole"
_POLICIES = "IAMPolicy|FileBasedIAMPolicy|AutoGenIAMPolicy"
_TOP_TYPES = (
    *("LambdaFunction", "CloudWatchEvent", "ScheduledEvent", "RestAPI", "WebsocketAPI"),
    *("S3BucketNotification", "SNSLambdaSubscription", "SQSEventSource", "KinesisEventSource"),
    "DynamoDBEventSource",
)
_BASE: Mapping[str, Mapping[str, str]] = {
    "Application": {"stage": "name", "resources": "refs:" + "|".join(_TOP_TYPES)},
    "DeploymentPackage": {"filename": "slot"},
    "IAMPolicy": {"document": "value"},
    "FileBasedIAMPolicy": {"document": "value", "filename": "file"},
    "AutoGenIAMPolicy": {"document": "value", "traits": "set:RoleTraits"},
    "PreCreatedIAMRole": {"role_arn": "value"},
    "ManagedIAMRole": {
        "resource_name": "name",
        "role_name": "text",
        "trust_policy": "trust",
        "policy": f"ref:{_POLICIES}",
    },
    "LambdaLayer": {
        "resource_name": "name",
        "layer_name": "text",
        "runtime": "name",
        "deployment_package": "ref:DeploymentPackage",
        "is_empty": "value",
    },
    "LambdaFunction": {
        "resource_name": "name",
        "function_name": "text",
        "deployment_package": "ref:DeploymentPackage",
        "environment_variables": "value",
        "xray": "value",
        "runtime": "name",
        "handler": "name",
        "tags": "value",
        "timeout": "value",
        "memory_size": "value",
        "role": _ROLES,
        "security_group_ids": "value",
        "subnet_ids": "value",
        "reserved_concurrency": "value",
        "layers": "value",
        "managed_layer": "ref?:LambdaLayer",
        "log_group": "ref?:LogGroup",
    },
    "LogGroup": {"resource_name": "name", "log_group_name": "text", "retention_in_days": "value"},
    "CloudWatchEvent": {
        "resource_name": "name",
        "lambda_function": _FUNCTION,
        "rule_name": "text",
        "event_pattern": "value",
    },
    "ScheduledEvent": {
        "resource_name": "name",
        "lambda_function": _FUNCTION,
        "rule_name": "text",
        "schedule_expression": "value",
        "rule_description": "value",
    },
    "APIMapping": {"resource_name": "name", "mount_path": "value", "api_gateway_stage": "value"},
    "DomainName": {
        "resource_name": "name",
        "domain_name": "value",
        "protocol": "enum:APIType",
        "api_mapping": "ref:APIMapping",
        "certificate_arn": "value",
        "tags": "value",
        "tls_version": "enum?:TLSVersion",
    },
    "RestAPI": {
        "resource_name": "name",
        "swagger_doc": "document",
        "minimum_compression": "value",
        "api_gateway_stage": "value",
        "endpoint_type": "value",
        "lambda_function": _FUNCTION,
        "xray": "value",
        "policy": f"ref?:{_POLICIES}",
        "authorizers": "refs:LambdaFunction",
        "domain_name": "ref?:DomainName",
        "vpce_ids": "value",
    },
    "WebsocketAPI": {
        "resource_name": "name",
        "name": "text",
        "api_gateway_stage": "value",
        "routes": "value",
        "connect_function": "ref?:LambdaFunction",
        "message_function": "ref?:LambdaFunction",
        "disconnect_function": "ref?:LambdaFunction",
        "domain_name": "ref?:DomainName",
    },
    "S3BucketNotification": {
        "resource_name": "name",
        "lambda_function": _FUNCTION,
        "bucket": "value",
        "events": "value",
        "prefix": "value",
        "suffix": "value",
    },
    "SNSLambdaSubscription": {
        "resource_name": "name",
        "lambda_function": _FUNCTION,
        "topic": "value",
    },
    "QueueARN": {"arn": "value"},
    "SQSEventSource": {
        "resource_name": "name",
        "lambda_function": _FUNCTION,
        "queue": "queue",
        "batch_size": "value",
        "maximum_batching_window_in_seconds": "value",
    },
    "KinesisEventSource": {
        "resource_name": "name",
        "lambda_function": _FUNCTION,
        "stream": "value",
        "batch_size": "value",
        "starting_position": "value",
        "maximum_batching_window_in_seconds": "value",
    },
    "DynamoDBEventSource": {
        "resource_name": "name",
        "lambda_function": _FUNCTION,
        "stream_arn": "value",
        "batch_size": "value",
        "starting_position": "value",
        "maximum_batching_window_in_seconds": "value",
    },
    "Variable": {"name": "name"},
    "StringFormat": {"template": "text", "variables": "value"},
    "KeyDataVariable": {"name": "name", "key": "name"},
}
_PLANNER = ("Variable", "StringFormat", "KeyDataVariable")
_ENUMS = {
    "APIType": ("HTTP", "WEBSOCKET"),
    "RoleTraits": ("VPC_NEEDED",),
    "TLSVersion": ("TLS_1_0", "TLS_1_1", "TLS_1_2"),
}
# Fields that later versions added: the first of the supported versions that has each.
_ADDED = (
    ("SQSEventSource", "maximum_concurrency", (1, 31)),
    ("LambdaFunction", "architecture", (1, 34)),
    ("LambdaLayer", "architecture", (1, 34)),
)


def schema(chalice_version: str) -> Mapping[str, Mapping[str, str]]:
    """The node types of a Chalice version and the fields of each, as the models declare them."""
    found = re.match(r"(\d+)\.(\d+)", chalice_version)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    made = {name: dict(fields) for name, fields in _BASE.items()}
    for name, field, first in _ADDED:
        if version >= first:
            made[name][field] = "value"
    return made


class _Names:
    """The AWS names that Chalice makes from the app's name and the stage."""

    def __init__(self, app_name: str, stage: str, python_version: str) -> None:
        self._prefix = f"{app_name}-{stage}"
        self._runtime = f"python{python_version}"

    def check(self, kind: str, fields: Mapping[str, object]) -> None:
        name = str(fields.get("resource_name", ""))
        prefix = self._prefix
        wanted: dict[str, tuple[str, tuple[str, ...]]] = {
            "LambdaFunction": (
                "function_name",
                (f"{prefix}-{name}", *((prefix,) if name == "api_handler" else ())),
            ),
            "ManagedIAMRole": (
                "role_name",
                (prefix,)
                if name == "default-role"
                else (f"{prefix}-{name.removesuffix('_role')}",),
            ),
            "LambdaLayer": ("layer_name", (f"{prefix}-managed-layer",)),
            "LogGroup": (
                "log_group_name",
                (f"/aws/lambda/{prefix}-{name.removesuffix('-log-group')}",),
            ),
            "CloudWatchEvent": ("rule_name", (f"{prefix}-{name}",)),
            "ScheduledEvent": ("rule_name", (f"{prefix}-{name}",)),
            "WebsocketAPI": ("name", (f"{prefix}-websocket-api",)),
        }
        if kind in wanted:
            field, allowed = wanted[kind]
            if fields[field] not in allowed:
                _refuse(f"has a {kind} whose {field} is not this app's in this stage")
        if "runtime" in fields and fields["runtime"] != self._runtime:
            _refuse("has a function of another Python")


class _GraphReader:
    def __init__(
        self, document: object, version: str, names: _Names | None, *, lenient: bool
    ) -> None:
        self._document = _record(document, "graph", {"root", "nodes"})
        self._nodes = _list(self._document["nodes"], "nodes", limit=MAX_NODES)
        self._schema = schema(version)
        self._names = names
        # Chalice builds the graph of an app with two functions of one name, and validation says it.
        self._lenient = lenient
        self._made: dict[int, Resource] = {}
        self._open: set[int] = set()

    def graph(self, stage: str) -> Graph:
        if self._document["root"] != 0 or type(self._document["root"]) is not int:
            _refuse("has a graph that does not begin at its root")
        root = self._node(0, ("Application",))
        if root.fields["stage"] != stage:
            _refuse("has a graph of another stage")
        if len(self._made) != len(self._nodes):
            _refuse("has nodes that nothing leads to")
        resources = tuple(
            resource
            for _, resource in sorted(self._made.items())
            if resource.type not in ("Application", *_PLANNER)
        )
        self._no_duplicates(resources)
        return Graph(self._document, resources)

    def _no_duplicates(self, resources: tuple[Resource, ...]) -> None:
        if self._lenient:
            return
        seen = set()
        for resource in resources:
            key = (resource.type, resource.name)
            # An app may map its REST and its WebSocket API; Chalice tells them apart by domain.
            if resource.name and resource.type != "APIMapping" and key in seen:
                raise _Broken(f"Two resources of type {resource.type} are named `{resource.name}`.")
            seen.add(key)

    def _node(self, number: object, types: tuple[str, ...]) -> Resource:
        if type(number) is not int or not 0 <= number < len(self._nodes):
            _refuse("refers to a node that is not there")
        if number not in self._made:
            if number in self._open or len(self._open) >= MAX_DEPTH:
                _refuse("has a graph that goes round in a circle")
            self._open.add(number)
            self._made[number] = self._resource(self._nodes[number])
            self._open.discard(number)
        made = self._made[number]
        if made.type not in types:
            _refuse(f"has a {made.type} where a {types[0]} belongs")
        return made

    def _resource(self, value: object) -> Resource:
        node = _record(value, "a node", {"type", "fields"})
        kind = _text(node["type"], "node")
        declared = self._schema.get(kind)
        if declared is None:
            _refuse("has a node of a type that this Chalice does not have")
        encoded = _record(node["fields"], f"a {kind}", set(declared))
        fields = {
            field: self._field(encoded[field], form, f"{kind}.{field}")
            for field, form in declared.items()
        }
        if self._names is not None:
            self._names.check(kind, fields)
        return Resource(type=kind, name=str(fields.get("resource_name", "")), fields=fields)

    def _field(self, value: Any, form: str, at: str) -> object:
        kind, _, of = form.partition(":")
        if kind.endswith("?"):
            if value is None:
                return None
            kind = kind[:-1]
        types = tuple(of.split("|"))
        read: dict[str, Callable[[], object]] = {
            "name": lambda: _name(value, at),
            "text": lambda: _text(value, at),
            "value": lambda: self._value(value, at, variables=False),
            "document": lambda: self._value(value, at, variables=True),
            "slot": lambda: self._one_of(_tagged(value, "p", at), ("app", "layer"), at),
            "file": lambda: self._file(_tagged(value, "f", at), at),
            "ref": lambda: self._node(_tagged(value, "r", at), types),
            "refs": lambda: tuple(
                self._node(_tagged(item, "r", at), types)
                for item in _list(_tagged(value, "l", at), at)
            ),
            "enum": lambda: self._enum(value, of, at),
            "set": lambda: tuple(
                self._enum(item, of, at) for item in _list(_tagged(value, "s", at), at)
            ),
            "trust": lambda: self._trust(value, at),
            "queue": lambda: self._queue(value, at),
        }
        return read[kind]()

    def _value(self, value: Any, at: str, *, variables: bool) -> object:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, dict) and len(value) == 1:
            ((tag, content),) = value.items()
            if tag == "l" and isinstance(content, list):
                return tuple(self._value(item, at, variables=variables) for item in content)
            if tag == "d" and isinstance(content, list):
                return dict(self._pairs(content, at, variables=variables))
            if tag == "r" and variables:
                return self._node(content, _PLANNER)
        return _refuse(f"has a value in {at} that is not data")

    def _pairs(
        self, content: list[Any], at: str, *, variables: bool
    ) -> Iterator[tuple[str, object]]:
        seen = set()
        for pair in content:
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                _refuse(f"has a value in {at} that is not data")
            if pair[0] in seen:
                _refuse(f"has a key twice in {at}")
            seen.add(pair[0])
            yield pair[0], self._value(pair[1], at, variables=variables)

    def _enum(self, value: Any, of: str, at: str) -> str:
        content = _tagged(value, "e", at)
        if not isinstance(content, list) or len(content) != 2 or content[0] != of:
            _refuse(f"has another enum in {at}")
        return self._one_of(content[1], _ENUMS[of], at)

    def _trust(self, value: Any, at: str) -> object:
        policy = self._value(value, at, variables=False)
        if canonical(policy) != canonical(TRUST_POLICY):
            _refuse("has a role that trusts others than Lambda")
        return policy

    def _queue(self, value: Any, at: str) -> object:
        if isinstance(value, dict) and set(value) == {"r"}:
            return self._node(value["r"], ("QueueARN",))
        return self._value(value, at, variables=False)

    @staticmethod
    def _one_of(value: object, allowed: tuple[str, ...], at: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            _refuse(f"has something else in {at}")
        return value

    @staticmethod
    def _file(value: object, at: str) -> str:
        path = _name(value, at, limit=4096)
        parts = path.split("/")
        if path.startswith("/") or "\\" in path or not all(parts) or {".", ".."} & set(parts):
            _refuse(f"has a path in {at} that leaves the app")
        return path


def _tagged(value: object, tag: str, at: str) -> Any:
    if not isinstance(value, dict) or set(value) != {tag}:
        _refuse(f"has something else in {at}")
    return value[tag]
