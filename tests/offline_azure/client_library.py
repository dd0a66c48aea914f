"""What Microsoft's client library says of the API's shapes: npm's azure-devops-node-api (MIT).

Its interfaces are made from the API itself: `name?: kind;` in interfaces that extend each other,
and for each enumeration the values as they are sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from offline_github.packages import installed

_FILES = ("Git", "Core", "Graph", "Identities", "Locations", "common/VSS")
_INTERFACE = re.compile(
    r"^export interface (?P<name>\w+)(?:<T>)?(?: extends (?P<base>[\w.]+)(?:<(?P<of>\w+)>)?)? \{\n"
    r"(?P<body>.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*\*.*?\*/", re.DOTALL)
_FIELD = re.compile(r"^    (?P<name>\w+)\??: (?P<kind>.+?);$", re.MULTILINE | re.DOTALL)
_ENUMERATION = re.compile(
    r"^    (?P<name>\w+): \{\n\s+enumValues: \{\n(?P<body>.*?)\}", re.MULTILINE | re.DOTALL
)

_KINDS = {"string": "string", "integer": "number", "boolean": "boolean"}
_MAP = re.compile(r"\{\s+\[key: string\]:")


@dataclass(frozen=True, kw_only=True)
class Library:
    """Interfaces with the kinds of their fields, inherited ones too, and enumerations."""

    interfaces: Mapping[str, Mapping[str, str]]
    enumerations: Mapping[str, frozenset[str]]


@cache
def library() -> Library:
    """The library, installed once per machine."""
    folder = installed(Path(__file__).parent) / "azure-devops-node-api/interfaces"
    own: dict[str, dict[str, str]] = {}
    bases: dict[str, tuple[str, str]] = {}
    enumerations: dict[str, frozenset[str]] = {}
    for name in _FILES:
        declared = (folder / f"{name}Interfaces.d.ts").read_text(encoding="utf-8")
        for found in _INTERFACE.finditer(_COMMENT.sub("", declared)):
            own[found["name"]] = {f["name"]: f["kind"] for f in _FIELD.finditer(found["body"])}
            bases[found["name"]] = (_last(found["base"] or ""), found["of"] or "T")
        code = (folder / f"{name}Interfaces.js").read_text(encoding="utf-8")
        for found in _ENUMERATION.finditer(code):
            enumerations[found["name"]] = frozenset(re.findall(r'"(\w+)":', found["body"]))

    def whole(name: str) -> dict[str, str]:
        base, of = bases.get(name, ("", ""))
        inherited = whole(base) if base else {}
        return {k: of if v == "T" else v for k, v in inherited.items()} | own.get(name, {})

    return Library(interfaces={name: whole(name) for name in own}, enumerations=enumerations)


def _last(kind: str) -> str:
    """The name of a kind, without where it is from."""
    return kind.strip().rpartition(".")[2]


def differences(shape: Mapping[str, object], where: str = "") -> list[str]:
    """Where a JSON Schema, titled by an interface, says something else than the library."""
    known = library()
    title = str(shape.get("title", ""))
    where = f"{where}/{title}"
    fields, properties = known.interfaces.get(title), shape.get("properties")
    if fields is None or not isinstance(properties, Mapping):
        return [f"{where}: there is no such interface"]
    found: list[str] = []
    for name, inner in properties.items():
        if name not in fields:
            found.append(f"{where}.{name}: there is no such field")
        else:
            found += _differs(inner, fields[name], f"{where}.{name}")
    return found


def _differs(inner: Mapping[str, object], kind: str, where: str) -> list[str]:
    if "title" in inner:
        same = _last(kind) == inner["title"]
        return differences(inner, where) if same else [f"{where}: {kind}"]
    values = inner.get("enum", [inner["const"]] if "const" in inner else None)
    if isinstance(values, list) and isinstance(values[0], str):
        known = library().enumerations.get(_last(kind), frozenset())
        return [f"{where}: no value {one}" for one in values if one not in known]
    if values is not None:
        return [] if kind == "number" else [f"{where}: {kind}"]
    items = inner.get("items")
    if isinstance(items, Mapping) and kind.endswith("[]"):
        return _differs(items, kind.removesuffix("[]"), f"{where}[]")
    expected = _KINDS.get(str(inner.get("type")))
    return [] if kind == expected or _MAP.match(kind) else [f"{where}: {kind}"]
