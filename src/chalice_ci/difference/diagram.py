"""The application graph of a stage: who calls what, and what of it is new, changed or gone. Pure.

Nodes are what people think of (routes, functions, triggers, roles), not Chalice's resources. A
graph of hundreds is no picture: `readable` keeps what changed and what that touches, and counts the
rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from chalice_ci.difference.api import subject
from chalice_ci.difference.changes import Kind
from chalice_ci.snapshot import Route, Snapshot

HANDLER = "api_handler"
"""Chalice's name for the function that answers every REST route."""


class Shape(StrEnum):
    """What a node is, in the order of a request's way."""

    DOMAIN = "domain"
    API = "api"
    TRIGGER = "trigger"
    ROUTE = "route"
    FUNCTION = "function"
    LAYER = "layer"
    ROLE = "role"


@dataclass(frozen=True, kw_only=True)
class Node:
    """Something of the stage; `state` is None when nothing changed about it."""

    id: str
    shape: Shape
    label: str
    state: Kind | None = None


@dataclass(frozen=True, kw_only=True, order=True)
class Edge:
    """`source` uses or starts `target`; both are ids of nodes."""

    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """Nodes in order of shape and label, edges between them; `left_out` nodes are not shown."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    left_out: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything in it changed."""
        return any(node.state is not None for node in self.nodes)


def diagram_of(before: Snapshot | None, after: Snapshot) -> Diagram:
    """The stage as it is, with what is gone; without a `before` nothing is told to have changed."""
    had = {} if before is None else dict(_things(before))
    has = dict(_things(after))
    nodes = []
    for key in {**had, **has}:
        shape, identity = key
        label, _, _ = has.get(key) or had[key]
        state = None if before is None else _state(had.get(key), has.get(key))
        nodes.append(Node(id=f"{shape.value}:{identity}", shape=shape, label=label, state=state))
    known = {node.id for node in nodes}
    edges = {edge for snapshot in (before, after) if snapshot for edge in _edges(snapshot)}
    shapes = list(Shape)
    return Diagram(
        nodes=tuple(
            sorted(nodes, key=lambda node: (shapes.index(node.shape), node.label, node.id))
        ),
        edges=tuple(sorted(e for e in edges if e.source in known and e.target in known)),
    )


def readable(diagram: Diagram, limit: int) -> Diagram:
    """At most `limit` nodes: what changed, then what that touches, then the rest in order.

    Among equals routes go first: there are most of them.
    """
    if len(diagram.nodes) <= limit:
        return diagram
    changed = {node.id for node in diagram.nodes if node.state is not None}
    near = _beside(changed, diagram.edges)
    nearer = near | _beside(near, diagram.edges)

    def weight(node: Node) -> tuple[int, bool]:
        distance = 0 if node.id in changed else 1 if node.id in near else 2
        distance += node.id not in nearer and distance > 1
        return distance, node.shape is Shape.ROUTE

    kept = {node.id for node in sorted(diagram.nodes, key=weight)[:limit]}
    return Diagram(
        nodes=tuple(node for node in diagram.nodes if node.id in kept),
        edges=tuple(e for e in diagram.edges if e.source in kept and e.target in kept),
        left_out=len(diagram.nodes) - len(kept) + diagram.left_out,
    )


def _beside(ids: set[str], edges: Iterable[Edge]) -> set[str]:
    found = set(ids)
    for edge in edges:
        if edge.source in ids:
            found.add(edge.target)
        if edge.target in ids:
            found.add(edge.source)
    return found


def _state(had: object, has: object) -> Kind | None:
    if had is None:
        return Kind.ADDED
    if has is None:
        return Kind.REMOVED
    return None if had == has else Kind.CHANGED


_Thing = tuple[str, object, object]
"""A label and what makes two things differ."""


def _things(snapshot: Snapshot) -> Iterator[tuple[tuple[Shape, str], _Thing]]:
    for domain in snapshot.domains:
        yield (Shape.DOMAIN, domain.kind), (domain.domain, domain, None)
    for api in snapshot.apis:
        yield (Shape.API, api.kind), (_API[api.kind], api, None)
        for key, function in api.routes:
            yield (Shape.ROUTE, f"ws {key}"), (f"WebSocket {key}", key, function)
    for route in snapshot.routes:
        yield (Shape.ROUTE, " ".join(route.key)), (_route(route), route, None)
    for trigger in snapshot.triggers:
        label = f"{trigger.kind} {trigger.source or trigger.name}"
        yield (Shape.TRIGGER, " ".join(trigger.key)), (label, trigger, None)
    for one in snapshot.functions:
        yield (Shape.FUNCTION, one.name), (one.name, one, None)
    for layer in snapshot.layers:
        yield (Shape.LAYER, layer.name), (layer.layer_name, layer, None)
    for role in snapshot.roles:
        yield (Shape.ROLE, role.name), (role.role_name, role, None)


_API = {"rest": "REST API", "websocket": "WebSocket API"}


def _route(route: Route) -> str:
    guards = [*(("API key",) if route.api_key else ()), *((route.auth,) if route.auth else ())]
    return f"{subject(route)} ({', '.join(guards)})" if guards else subject(route)


def _edges(snapshot: Snapshot) -> Iterator[Edge]:
    for domain in snapshot.domains:
        yield Edge(source=f"domain:{domain.kind}", target=f"api:{domain.kind}")
    for api in snapshot.apis:
        for key, function in api.routes:
            yield Edge(source=f"api:{api.kind}", target=f"route:ws {key}")
            yield Edge(source=f"route:ws {key}", target=f"function:{function}")
    for route in snapshot.routes:
        node = f"route:{' '.join(route.key)}"
        yield Edge(source="api:rest", target=node)
        yield Edge(source=node, target=f"function:{HANDLER}")
    for trigger in snapshot.triggers:
        yield Edge(source=f"trigger:{' '.join(trigger.key)}", target=f"function:{trigger.function}")
    for one in snapshot.functions:
        yield Edge(source=f"function:{one.name}", target=f"role:{one.role}")
        if one.managed_layer:
            for layer in snapshot.layers:
                yield Edge(source=f"function:{one.name}", target=f"layer:{layer.name}")
