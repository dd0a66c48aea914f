"""How an app's source uses Chalice, as far as its text alone tells.

Text is advice: a name may be bound to anything, so only shapes that leave next to no doubt count.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from chalice_ci.findings import Place
from chalice_ci.source import Source

_AUTHORIZER_IDS = ("authorizer_id", "authorization_type")


@dataclass(frozen=True, kw_only=True)
class Use:
    """Something found in the source: `subject` is a name, `what` a sentence about this place."""

    subject: str
    at: Place
    what: str = ""


@dataclass(frozen=True, kw_only=True)
class RouteView:
    """A view and what its decorator says.

    `path` is the route's, None when it is no constant; `at` the decorator, `lines` from the first
    decorator to the `def`. `names` are the arguments that can be given by name, `required` those
    of them without a default; `positional` can be given by place only. `open_ended` takes any.
    """

    function: str
    path: str | None
    on_app: bool
    at: Place
    lines: range
    names: tuple[str, ...]
    required: tuple[str, ...]
    positional: tuple[str, ...]
    open_ended: bool


class PythonCalls:
    """An app's source, by what Chalice offers."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @functools.cached_property
    def nodes(self) -> tuple[tuple[str, ast.AST], ...]:
        """Every node with its file, in order."""
        return tuple(
            (file, node)
            for file, tree in sorted(self._source.trees.items())
            for node in ast.walk(tree)
        )

    @functools.cached_property
    def names(self) -> Mapping[str, tuple[Place, ...]]:
        """Attributes that are used, and what is imported from Chalice, each with its places."""
        found: dict[str, list[Place]] = {}
        for file, node in self.nodes:
            if isinstance(node, ast.Attribute):
                found.setdefault(node.attr, []).append(_place(file, node))
            elif isinstance(node, ast.ImportFrom) and _is_chalice(node.module):
                for alias in node.names:
                    found.setdefault(alias.name, []).append(_place(file, node))
        return {name: tuple(sorted(set(places))) for name, places in found.items()}

    @functools.cached_property
    def modules(self) -> Mapping[str, tuple[Place, ...]]:
        """The modules that are imported, and their parents."""
        found: dict[str, list[Place]] = {}
        for file, node in self.nodes:
            imported: Iterable[str] = ()
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            for name in imported:
                parts = name.split(".")
                for length in range(1, len(parts) + 1):
                    module = ".".join(parts[:length])
                    found.setdefault(module, []).append(_place(file, node))
        return {name: tuple(sorted(set(places))) for name, places in found.items()}

    def dotted(self, suffix: str) -> tuple[Place, ...]:
        """The places of an attribute of an attribute: "api.cors"."""
        owner, _, name = suffix.rpartition(".")
        return _sorted(
            _place(file, node)
            for file, node in self.nodes
            if isinstance(node, ast.Attribute)
            and node.attr == name
            and _last_name(node.value) == owner
        )

    def keyword(self, function: str, argument: str) -> tuple[Place, ...]:
        """The calls of a function or decorator, by its last name, that give this argument."""
        return _sorted(
            Place(file=file, line=keyword.value.lineno)
            for file, node in self.nodes
            if isinstance(node, ast.Call) and _last_name(node.func) == function
            for keyword in node.keywords
            if keyword.arg == argument
        )

    def defined_authorizers(self) -> Iterator[Use]:
        """The calls of `define_authorizer`."""
        for at in self.names.get("define_authorizer", ()):
            yield Use(subject="define_authorizer", at=at)

    def route_keywords(self, *names: str) -> Iterator[Use]:
        """The routes that are given one of these arguments."""
        for name in names:
            for at in self.keyword("route", name):
                yield Use(subject=name, at=at)

    def authorizer_names(self) -> Iterator[Use]:
        """The routes that name their authorizer by text."""
        return self.route_keywords("authorizer_name")

    def authorizer_ids(self) -> Iterator[Use]:
        """The routes that name an authorizer by API Gateway's id."""
        return self.route_keywords(*_AUTHORIZER_IDS)

    def empty_routes(self) -> Iterator[Use]:
        """The routes whose path is empty."""
        for view in self.views:
            if view.path == "":
                yield Use(subject=view.function, at=view.at)

    @functools.cached_property
    def views(self) -> tuple[RouteView, ...]:
        """Every function that is decorated as a view and keeps its own arguments."""
        apps = {
            name
            for _, node in self.nodes
            if isinstance(node, ast.Assign) and _last_name(_called(node.value)) == "Chalice"
            for target in node.targets
            if isinstance(target, ast.Name)
            for name in (target.id,)
        }
        found = []
        for file, node in self.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found += list(_views(file, node, apps))
        return tuple(found)

    @functools.cached_property
    def prefixes(self) -> tuple[str | None, ...]:
        """The prefixes that blueprints are registered below; None for one that is no constant."""
        return tuple(
            value.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
            else None
            for _, node in self.nodes
            if isinstance(node, ast.Call) and _last_name(node.func) == "register_blueprint"
            for value in [
                *(keyword.value for keyword in node.keywords if keyword.arg == "url_prefix"),
                *node.args[2:3],
            ]
        )


def _views(
    file: str, node: ast.FunctionDef | ast.AsyncFunctionDef, apps: set[str]
) -> Iterator[RouteView]:
    decorators = node.decorator_list
    for index, decorator in enumerate(decorators):
        if not (isinstance(decorator, ast.Call) and _is_route(decorator)):
            continue
        # What stands below the route wraps the view and may change its arguments.
        if not all(isinstance(d, ast.Call) and _is_route(d) for d in decorators[index + 1 :]):
            continue
        assert isinstance(decorator.func, ast.Attribute)
        arguments = node.args
        by_name = [*arguments.args, *arguments.kwonlyargs]
        in_place = [*arguments.posonlyargs, *arguments.args]
        optional = {a.arg for a in in_place[len(in_place) - len(arguments.defaults) :]} | {
            a.arg
            for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is not None
        }
        yield RouteView(
            function=node.name,
            path=_path(decorator),
            on_app=isinstance(decorator.func.value, ast.Name) and decorator.func.value.id in apps,
            at=_place(file, decorator),
            lines=range(decorators[0].lineno, node.lineno + 1),
            names=tuple(a.arg for a in by_name),
            required=tuple(a.arg for a in by_name if a.arg not in optional),
            positional=tuple(a.arg for a in arguments.posonlyargs if a.arg not in optional),
            open_ended=arguments.kwarg is not None,
        )


def _is_route(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "route"


def _path(call: ast.Call) -> str | None:
    given = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "path")]
    match given:
        case [ast.Constant(value=str(path)), *_]:
            return path
        case _:
            return None


def _called(node: ast.AST) -> ast.AST:
    return node.func if isinstance(node, ast.Call) else node


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _is_chalice(module: str | None) -> bool:
    return module is not None and (module == "chalice" or module.startswith("chalice."))


def _place(file: str, node: ast.AST) -> Place:
    return Place(file=file, line=getattr(node, "lineno", None))


def _sorted(places: Iterable[Place]) -> tuple[Place, ...]:
    return tuple(sorted(set(places)))
