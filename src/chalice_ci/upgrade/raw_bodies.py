"""Uses of `raw_body` as if it were text; since Chalice 0.9.0 it is bytes.

Followed are the attribute itself and a local variable that is bound to it once and to nothing else.
Each shape was tried on bytes: it raises, is never equal, or makes another text than was meant.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from chalice_ci.findings import Place
from chalice_ci.source import Source

_TEXT_METHODS = frozenset(
    {
        *("split", "rsplit", "partition", "rpartition", "replace", "startswith", "endswith"),
        *("find", "rfind", "index", "rindex", "count", "strip", "lstrip", "rstrip"),
        *("removeprefix", "removesuffix"),
    }
)
_TEXT_ONLY = frozenset(
    {"encode", "format", "format_map", "casefold", "isidentifier", "isnumeric", "isdecimal"}
)
"""Methods that bytes do not have."""
_PATTERNS = {
    **dict.fromkeys(("match", "search", "fullmatch", "findall", "finditer", "split"), 1),
    **dict.fromkeys(("sub", "subn"), 2),
}
"""Functions of `re` with the place of the text that they search."""
_QUERY = frozenset({"parse_qs", "parse_qsl"})
_LOGGING = frozenset(
    {"print", "debug", "info", "warning", "warn", "error", "exception", "critical", "log"}
)
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True, kw_only=True)
class TextUse:
    """A use of a body as text. `fails` when it raises or is never equal, else it merely differs."""

    at: Place
    what: str
    fails: bool


def raw_bodies_as_text(source: Source) -> tuple[TextUse, ...]:
    """Every use of a raw body as text, in order."""
    found = {
        use.at: use
        for file, tree in source.trees.items()
        if "raw_body" in source.files[file]
        for use in _Module(file, tree).uses()
    }
    return tuple(found[at] for at in sorted(found))


class _Module:
    def __init__(self, file: str, tree: ast.Module) -> None:
        self._file = file
        self._parents: dict[ast.AST, ast.AST] = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        self._tree = tree

    def uses(self) -> Iterator[TextUse]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute) and node.attr == "raw_body":
                for body in (node, *self._names_of(node)):
                    said = self._as_text(body)
                    if said is not None:
                        what, fails = said
                        at = Place(file=self._file, line=body.lineno)
                        yield TextUse(at=at, what=what, fails=fails)

    def _names_of(self, body: ast.expr) -> Iterator[ast.Name]:
        """The reads of a variable that is bound to this body and to nothing else."""
        bound = self._parents.get(body)
        match bound:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if value is body:
                pass
            case _:
                return
        scope = self._scope(body)
        names = [n for n in ast.walk(scope) if isinstance(n, ast.Name) and n.id == name]
        if sum(1 for n in names if not isinstance(n.ctx, ast.Load)) == 1:
            yield from (n for n in names if isinstance(n.ctx, ast.Load))

    def _scope(self, node: ast.AST) -> ast.AST:
        while node in self._parents:
            node = self._parents[node]
            if isinstance(node, _Function):
                return node
        return node

    def _as_text(self, body: ast.expr) -> tuple[str, bool] | None:
        parent = self._parents.get(body)
        match parent:
            case ast.Attribute(attr=method):
                return self._method(parent, method)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                other = right if left is body else left
                if _is_text(other):
                    return self._compared(op, left is body)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                if _is_text(right if left is body else left):
                    return "Text and bytes cannot be joined: TypeError.", True
            case ast.BinOp(left=left, op=ast.Mod()) if left is not body and _is_text(left):
                return self._shown(parent)
            case ast.FormattedValue(conversion=-1, format_spec=None):
                return self._shown(parent)
            case ast.Call(func=function, args=arguments) if body in arguments:
                return self._given(parent, function, arguments.index(body))
        return None

    def _method(self, attribute: ast.Attribute, method: str) -> tuple[str, bool] | None:
        call = self._parents.get(attribute)
        if not (isinstance(call, ast.Call) and call.func is attribute):
            return None
        if method in _TEXT_ONLY:
            return f"Bytes have no `{method}`: AttributeError.", True
        if method in _TEXT_METHODS and call.args and _is_text(call.args[0]):
            return f"`{method}` of bytes takes bytes: TypeError.", True
        return None

    @staticmethod
    def _compared(op: ast.cmpop, body_is_left: bool) -> tuple[str, bool] | None:
        match op:
            case ast.Eq() | ast.NotEq():
                return "Bytes never equal text.", True
            case ast.In() | ast.NotIn() if not body_is_left:
                return "Text cannot be looked for in bytes: TypeError.", True
            case ast.Lt() | ast.Gt() | ast.LtE() | ast.GtE():
                return "Bytes and text have no order: TypeError.", True
        return None

    def _given(self, call: ast.Call, function: ast.expr, index: int) -> tuple[str, bool] | None:
        match function:
            case ast.Name(id="str") if len(call.args) == 1 and not call.keywords:
                return self._shown(call)
            case ast.Attribute(attr="format", value=text) if _is_text(text):
                return self._shown(call)
            case ast.Name(id=name) | ast.Attribute(attr=name) if name == "StringIO":
                return "`StringIO` takes text: TypeError.", True
            case ast.Attribute(attr=name, value=ast.Name(id="re")) if _PATTERNS.get(name) == index:
                if _is_text(call.args[0]):
                    return "A pattern that is text does not search bytes: TypeError.", True
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _QUERY:
                # Whoever writes bytes here knows what comes back.
                if not any(_is_bytes(node) for node in ast.walk(self._scope(call))):
                    return f"`{name}` of bytes has bytes for its keys and values.", False
        return None

    def _shown(self, node: ast.AST) -> tuple[str, bool] | None:
        """What makes text of the body: harmless where a person reads it."""
        above: ast.AST | None = node
        while above is not None and not isinstance(above, ast.stmt):
            above = self._parents.get(above)
            if isinstance(above, ast.Call) and _name_of(above.func) in _LOGGING:
                return None
        if isinstance(above, ast.Raise | ast.Assert):
            return None
        return "The text that this makes begins with `b'`.", False


def _name_of(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_bytes(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes)
