"""A snapshot's JSON: written for a history that stays small and readable, read as hostile.

The schema is `schemas/snapshot.schema.json`. The branch that holds recorded snapshots can be
written to by others, so whatever `render` would not have written is refused. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib.resources import files as package_files
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from chalice_ci.snapshot import FACTS, SECTIONS, File, Snapshot

FORMAT = 1
MAX_BYTES = 32 * 1024 * 1024
MAX_TEXT = 256 * 1024
_DEPLOYED = "deployed"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class SnapshotDamaged(Exception):
    """A document is no snapshot: the message goes on after "The snapshot"."""


def schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    text = (package_files("chalice_ci") / "schemas" / "snapshot.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def render(snapshot: Snapshot, *, deployed: datetime | None = None) -> bytes:
    """The snapshot's JSON: one item a line, so that a history of them stays small and readable.

    Files stand by archive and distribution as `[path, size, sha256]`. ASCII only. `deployed` is
    written for stages that live for a time only: others would change with every deployment.
    """
    lines = [f'"format":{FORMAT}']
    if deployed is not None:
        lines.append(f"{_json(_DEPLOYED)}:{_json(deployed.astimezone(UTC).strftime(_TIME))}")
    lines += [f"{_json(name)}:{_json(_encoded(getattr(snapshot, name)))}" for name in FACTS]
    for name in SECTIONS:
        items = getattr(snapshot, name)
        if name == "files":
            rows = ",\n".join(_grouped(items))
            lines.append(f'"files":{{\n{rows}\n}}' if rows else '"files":{}')
        elif items:
            rows = ",\n".join(f" {_json(_encoded(item))}" for item in items)
            lines.append(f"{_json(name)}:[\n{rows}\n]")
        else:
            lines.append(f"{_json(name)}:[]")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


# One for all: there may be tens of thousands of files.
_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


def _encoded(value: Any) -> Any:
    match value:
        case str() | bool() | int() | None:
            return value
        case tuple():
            return [_encoded(item) for item in value]
        case _:
            return {field.name: _encoded(getattr(value, field.name)) for field in fields(value)}


def _grouped(files: tuple[File, ...]) -> Iterator[str]:
    groups: dict[str, dict[str, list[File]]] = {}
    for file in files:
        groups.setdefault(file.slot, {}).setdefault(file.dependency, []).append(file)
    for slot, by_dependency in sorted(groups.items()):
        inner = ",\n".join(
            f"  {_json(name)}:[\n"
            + ",\n".join(f"   [{_json(f.path)},{f.size},{_json(f.sha256)}]" for f in members)
            + "\n  ]"
            for name, members in sorted(by_dependency.items())
        )
        yield f" {_json(slot)}:{{\n{inner}\n }}"


def deployed_at(raw: bytes) -> datetime | None:
    """When what a stored snapshot shows was deployed; None where that is not written."""
    try:
        return _time(_document(raw))
    except SnapshotDamaged:
        return None


def parse(raw: bytes) -> Snapshot:
    """Read a stored snapshot. Raises SnapshotDamaged for what `render` would not have written."""
    document = _document(raw)
    _time(document)
    document["files"] = _rows(document.get("files"))
    try:
        snapshot: Snapshot = _decoder(Snapshot)(document, "snapshot")
    except ValueError as error:
        raise SnapshotDamaged(str(error)) from error
    return snapshot


def _time(document: dict[str, Any]) -> datetime | None:
    """Take the time of the deployment out of a document."""
    text = document.pop(_DEPLOYED, None)
    if text is None:
        return None
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except (ValueError, TypeError):
        _damaged(f"has something else in {_DEPLOYED}")


def _document(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        _damaged(f"is larger than {MAX_BYTES} bytes")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        _damaged("is not JSON")
    if not isinstance(document, dict):
        _damaged("is not a JSON object")
    version = document.pop("format", None)
    if type(version) is not int or version != FORMAT:
        _damaged(f"is of format {version if type(version) is int else '?'}, not {FORMAT}")
    return document


def _rows(groups: object) -> tuple[File, ...]:
    """The files, read without the general way: there may be tens of thousands."""
    found = []
    for slot, by_dependency in _mapping(groups, "files").items():
        for dependency, rows in _mapping(by_dependency, "files").items():
            if not isinstance(rows, list):
                _damaged("has files that are no list")
            for row in rows:
                match row:
                    case [str(path), int(size), str(sha256)] if type(size) is int:
                        found.append(File(slot, path, size, sha256, dependency))
                    case _:
                        _damaged("has a file that is none")
    return tuple(found)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _damaged(f"has {what} that are no object")
    return value


_Decoder = Callable[[Any, str], Any]
_DECODERS: dict[Any, _Decoder] = {}


def _decoder(kind: Any) -> _Decoder:
    """What reads a value of a type of this module, by the fields that the type declares."""
    if kind not in _DECODERS:
        _DECODERS[kind] = _made_decoder(kind)
    return _DECODERS[kind]


def _made_decoder(kind: Any) -> _Decoder:
    if kind is File:
        return _as_it_is
    if kind in (str, int, bool, type(None)):
        return _scalar(kind)
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        if arguments[-1] is Ellipsis:
            return _sequence(_decoder(arguments[0]))
        return _exactly(tuple(_decoder(argument) for argument in arguments))
    if type(None) in arguments:
        (inner,) = (argument for argument in arguments if argument is not type(None))
        decode = _decoder(inner)
        return lambda value, at: None if value is None else decode(value, at)
    return _record(kind)


def _as_it_is(value: Any, _at: str) -> Any:
    return value


def _scalar(kind: type) -> _Decoder:
    def decode(value: Any, at: str) -> Any:
        if type(value) is not kind:
            _damaged(f"has something else in {at}")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            _damaged(f"has a text that is too long in {at}")
        return value

    return decode


def _sequence(decode: _Decoder) -> _Decoder:
    def decode_all(value: Any, at: str) -> Any:
        if not isinstance(value, list | tuple):
            _damaged(f"has no list in {at}")
        return tuple(decode(item, at) for item in value)

    return decode_all


def _exactly(decoders: tuple[_Decoder, ...]) -> _Decoder:
    def decode_all(value: Any, at: str) -> Any:
        if not isinstance(value, list) or len(value) != len(decoders):
            _damaged(f"has something else in {at}")
        return tuple(decode(item, at) for decode, item in zip(decoders, value, strict=True))

    return decode_all


def _record(kind: Any) -> _Decoder:
    hints = get_type_hints(kind)
    decoders = {field.name: _decoder(hints[field.name]) for field in fields(kind)}

    def decode(value: Any, at: str) -> Any:
        if not isinstance(value, dict) or set(value) != set(decoders):
            _damaged(f"has other keys than a {kind.__name__.lower()} in {at}")
        return kind(**{name: decoders[name](item, f"{at}.{name}") for name, item in value.items()})

    return decode


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        _damaged("has a key twice")
    return made


def _damaged(what: str) -> NoReturn:
    raise SnapshotDamaged(what)
