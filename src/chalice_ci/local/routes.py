"""API Gateway's choice of a route for a request: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True, kw_only=True)
class Match:
    """A route as the server describes it, and the path parameters of the request."""

    route: Mapping[str, Any]
    parameters: Mapping[str, str]


def find_route(routes: Sequence[Mapping[str, Any]], method: str, path: str) -> Match | None:
    """The route for a method and a path (still percent-encoded, below the stage), or None.

    The most specific resource wins, segment by segment: its own word before `{name}` before
    `{name+}`. The method is looked up in that resource only, `ANY` takes every method.
    """
    asked = _segments(path)
    best: tuple[list[int], str, dict[str, str]] | None = None
    for resource in sorted({str(route["path"]) for route in routes}):
        matched = _match(_segments(resource), asked)
        if matched is not None and (best is None or matched[0] < best[0]):
            best = (matched[0], resource, matched[1])
    if best is None:
        return None
    _, resource, parameters = best
    methods = {str(route["method"]): route for route in routes if route["path"] == resource}
    route = methods.get(method, methods.get("ANY"))
    return None if route is None else Match(route=route, parameters=parameters)


def _segments(path: str) -> list[str]:
    # API Gateway drops the slash at the end; the root has no segments.
    return [] if path in {"", "/"} else path.removesuffix("/").removeprefix("/").split("/")


def _match(resource: list[str], asked: list[str]) -> tuple[list[int], dict[str, str]] | None:
    """How well a resource fits, the smaller the better, and its parameters; None if it doesn't."""
    ranks: list[int] = []
    parameters: dict[str, str] = {}
    for position, segment in enumerate(resource):
        if segment.startswith("{") and segment.endswith("+}"):
            rest = asked[position:]
            if not rest:
                return None
            parameters[segment[1:-2]] = unquote("/".join(rest))
            return [*ranks, 2], parameters
        if position >= len(asked):
            return None
        value = unquote(asked[position])
        if segment.startswith("{") and segment.endswith("}"):
            if not value:
                return None
            parameters[segment[1:-1]] = value
            ranks.append(1)
        elif segment == value:
            ranks.append(0)
        else:
            return None
    return (ranks, parameters) if len(resource) == len(asked) else None
