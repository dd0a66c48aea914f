"""Chalice's application graph as JSON, and back.

The document is a flat table of nodes with ids: `{"root": 0, "nodes": [{"type": "Application",
"fields": {name: value}}]}`. A node is an object of `chalice.deploy.models` or one of the three
things that the planner puts into the swagger document (Variable, StringFormat, KeyDataVariable).
A value is a JSON scalar or exactly one of

    {"l": [value, ...]}          list
    {"d": [[key, value], ...]}   dict, in its order, with text keys
    {"s": [value, ...]}          set, sorted
    {"r": id}                    another node
    {"e": ["APIType", "HTTP"]}   member of an enum of the models
    {"p": "app" | "layer"}       a package slot: which zip, never where it is
    {"f": "policy-dev.json"}     path of an IAM policy file, relative to the project

Every dict is tagged, so `$ref` or `r` as a key of the user's JSON cannot be taken for ours.

Standard library and chalice only; runs on Python 3.10 and later, inside the app's Python (encode)
and inside the deployer's (decode).
"""

from __future__ import annotations

import dataclasses
import enum
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalice.deploy import models, planner

SLOTS = ("app", "layer")
PLANNER_TYPES = ("Variable", "StringFormat", "KeyDataVariable")
ENUMS = ("APIType", "RoleTraits", "TLSVersion")
MAX_DEPTH = 60


class CodecError(Exception):
    """Something in the graph is not data: the message says what and where."""


class Slot(str):
    """The value of a DeploymentPackage's filename while nobody knows where the zip will be."""

    __slots__ = ()


def encode(application: Any, project_dir: str) -> dict[str, Any]:
    """Return the document of a built `models.Application`; `Placeholder` must be gone."""
    return _Encoder(project_dir).document(application)


def decode(document: Mapping[str, Any], packages: Mapping[str, str], project_dir: str = ".") -> Any:
    """Rebuild the `models.Application` from a document.

    `packages` maps a slot to the path of its zip. Raises CodecError for anything that does not fit
    the models of the Chalice that is installed here.
    """
    return _Decoder(document, packages, project_dir).application()


class _Encoder:
    def __init__(self, project_dir: str) -> None:
        self._project_dir = os.path.realpath(project_dir)
        self._ids: dict[int, int] = {}
        self._nodes: list[dict[str, Any]] = []
        self._kept: list[Any] = []

    def document(self, application: Any) -> dict[str, Any]:
        root = self._node(application, 0)
        return {"root": root, "nodes": self._nodes}

    def _node(self, thing: Any, depth: int) -> int:
        if id(thing) in self._ids:
            return self._ids[id(thing)]
        name = type(thing).__name__
        number = len(self._nodes)
        self._ids[id(thing)] = number
        # An id is only good while the object lives.
        self._kept.append(thing)
        fields: dict[str, Any] = {}
        self._nodes.append({"type": name, "fields": fields})
        for field, value in vars(thing).items():
            at = f"{name}.{field}"
            if at == "DeploymentPackage.filename":
                if not isinstance(value, Slot) or str(value) not in SLOTS:
                    raise CodecError(f"{at} is not a package slot")
                fields[field] = {"p": str(value)}
            elif at == "FileBasedIAMPolicy.filename":
                fields[field] = {"f": self._relative(value, at)}
            else:
                fields[field] = self._value(value, at, depth + 1)
        return number

    def _relative(self, filename: str, at: str) -> str:
        real = Path(filename).parent.resolve() / Path(filename).name
        path = os.path.relpath(real, self._project_dir)
        if path == ".." or path.startswith("../"):
            raise CodecError(f"{at}: {filename} is outside the project")
        return path

    def _value(self, value: Any, at: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise CodecError(f"{at} is nested too deep")
        if value is None or value is True or value is False:
            return value
        if isinstance(value, enum.Enum):
            name = type(value).__name__
            if name not in ENUMS or type(value) is not getattr(models, name, None):
                raise CodecError(f"{at} holds {name}.{value.name}")
            return {"e": [name, value.name]}
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise CodecError(f"{at} holds the number {value}")
            return float(value)
        if isinstance(value, (list, tuple)):
            return {"l": [self._value(item, at, depth + 1) for item in value]}
        if isinstance(value, dict):
            pairs = []
            for key, item in value.items():
                if not isinstance(key, str):
                    raise CodecError(f"{at} has a key of type {type(key).__name__}")
                text = str.__str__(key)
                pairs.append([text, self._value(item, f"{at}[{text!r}]", depth + 1)])
            return {"d": pairs}
        if isinstance(value, (set, frozenset)):
            items = [self._value(item, at, depth + 1) for item in value]
            return {"s": sorted(items, key=repr)}
        if _is_node(value):
            return {"r": self._node(value, depth + 1)}
        raise CodecError(f"{at} holds a {type(value).__name__}, which is not data")


def _is_node(value: Any) -> bool:
    kind = type(value)
    if kind.__name__ in PLANNER_TYPES:
        return kind is getattr(planner, kind.__name__, None)
    return dataclasses.is_dataclass(value) and kind is getattr(models, kind.__name__, None)


class _Decoder:
    def __init__(
        self, document: Mapping[str, Any], packages: Mapping[str, str], project_dir: str
    ) -> None:
        self._packages = packages
        self._project_dir = project_dir
        try:
            self._root = document["root"]
            self._nodes = document["nodes"]
        except (KeyError, TypeError) as error:
            raise CodecError(f"not a graph document: {error!r}") from None
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()

    def application(self) -> Any:
        application = self._node(self._root)
        if type(application) is not models.Application:
            raise CodecError(f"the root is a {type(application).__name__}")
        return application

    def _node(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self._nodes):
            raise CodecError(f"there is no node {number!r}")
        if number in self._made:
            return self._made[number]
        if number in self._open or len(self._open) > MAX_DEPTH:
            raise CodecError(f"node {number} depends on itself")
        self._open.add(number)
        node = self._nodes[number]
        try:
            name, encoded = node["type"], node["fields"]
            kind = self._kind(name)
            fields = {field: self._value(value) for field, value in encoded.items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CodecError(f"node {number} is malformed: {error!r}") from None
        try:
            made = kind(**fields)
        except TypeError as error:
            raise CodecError(f"node {number} is not a {name}: {error}") from None
        self._open.discard(number)
        self._made[number] = made
        return made

    def _kind(self, name: Any) -> Any:
        if name in PLANNER_TYPES:
            return getattr(planner, name)
        kind = getattr(models, str(name), None)
        if (
            not isinstance(kind, type)
            or not dataclasses.is_dataclass(kind)
            or kind.__module__ != models.__name__
            or issubclass(kind, (models.Instruction, models.Plan))
        ):
            raise CodecError(f"{name!r} is not a model of this Chalice")
        return kind

    def _value(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if not isinstance(value, dict) or len(value) != 1:
            raise CodecError(f"{str(value)[:60]!r} is not an encoded value")
        ((tag, content),) = value.items()
        if tag == "l":
            return [self._value(item) for item in content]
        if tag == "d":
            return {key: self._value(item) for key, item in content}
        if tag == "s":
            return {self._value(item) for item in content}
        if tag == "r":
            return self._node(content)
        if tag == "e":
            name, member = content
            if name not in ENUMS:
                raise CodecError(f"{name!r} is not an enum of the models")
            try:
                return getattr(models, name)[member]
            except (AttributeError, KeyError):
                raise CodecError(f"{name} has no member {member!r}") from None
        if tag == "p":
            try:
                return self._packages[content]
            except KeyError:
                raise CodecError(f"no package for the slot {content!r}") from None
        if tag == "f":
            return str(Path(self._project_dir, content))
        raise CodecError(f"unknown tag {tag!r}")
