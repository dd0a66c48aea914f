"""Loaded apps for tests that need none loaded: the shapes that `graph.read_answer` gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalice_ci.findings import Place
from chalice_ci.graph import FeatureUse, Function, Graph, Loaded, Resource

LOADED = Loaded(
    app_name="orders",
    config_app_name="orders",
    chalice_version="1.34.0",
    python_version="3.12",
    stage="dev",
    flags_kind="set",
    flags=(),
    features=(),
    other_apps=(),
    routes=(),
    functions=(),
    validation=(),
    graph=Graph({}, ()),
)


def loaded(*resources: Resource, **changes: Any) -> Loaded:
    """An app with these resources in its graph."""
    return replace(LOADED, graph=Graph({}, resources), **changes)


def use(name: str = "WEBSOCKETS", file: str = "app.py", line: int = 31) -> FeatureUse:
    return FeatureUse(name=name, at=Place(file=file, line=line))


def websocket_api() -> Resource:
    return Resource(type="WebsocketAPI", name="websocket_api", fields={"domain_name": None})


def lambda_function(name: str) -> Resource:
    return Resource(
        type="LambdaFunction", name=name, fields={"function_name": f"orders-dev-{name}"}
    )


def trigger(type_: str, name: str = "worker", **fields: object) -> Resource:
    """A trigger of a type of Chalice's models that starts the function `name`."""
    return Resource(
        type=type_, name=f"{name}-x", fields={"lambda_function": lambda_function(name), **fields}
    )


def function_at(name: str, line: int) -> Function:
    return Function(
        name=name, handler=f"app.{name}", type="sqs", at=Place(file="app.py", line=line)
    )


def domain(name: str, mount: str = "(none)") -> Resource:
    mapping = Resource(type="APIMapping", name="api_mapping", fields={"mount_path": mount})
    return Resource(
        type="DomainName",
        name="api_gateway_custom_domain",
        fields={"domain_name": name, "api_mapping": mapping},
    )
