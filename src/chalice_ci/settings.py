"""Kinds of settings: each reads a node of the tree, and says what it is in JSON Schema and words.

A declaration made of these (see `config.FILE`) is the single source of what `chalice-ci.yml` may
hold: the reader, the published schema and the documentation's table all come from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from chalice_ci.findings import Place
from chalice_ci.positions import (
    Entry,
    ListNode,
    MapNode,
    Node,
    Problem,
    ScalarNode,
    did_you_mean,
    shown,
)

Schema = dict[str, object]
MAX_TEXT = 1000


class Reading:
    """What reading collects: problems, and the place of each value by its dotted path."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.places: dict[str, Place] = {}

    def problem(self, what: str, at: Place, fix: str = "") -> None:
        """Note a problem and go on."""
        self.problems.append(Problem(what=what, at=at, fix=fix))


class Kind(Protocol):
    """How a value is read, described and documented."""

    def read(self, node: Node, path: str, reading: Reading) -> object | None:
        """The typed value; None after noting a problem."""

    def schema(self) -> Schema:
        """The value as an editor sees it: in JSON Schema, after YAML's own typing."""

    @property
    def words(self) -> str:
        """The type in a few words, for messages ("must be ...") and the table."""


def _text(node: Node, path: str, words: str, reading: Reading) -> str | None:
    match node:
        case ScalarNode(value=str() as text):
            if len(text) > MAX_TEXT:
                reading.problem(
                    f"`{path}` is longer than {MAX_TEXT} characters.", node.at, f"Write {words}."
                )
                return None
            return text
        case ScalarNode():
            reading.problem(
                f"`{path}` has no value.", node.at, f"Write {words}, or remove the key."
            )
        case ListNode():
            reading.problem(f"`{path}` must be {words}, not a list.", node.at)
        case MapNode():
            reading.problem(f"`{path}` must be {words}, not a mapping.", node.at)
    return None


@dataclass(frozen=True, kw_only=True)
class Text:
    """Text that matches a pattern as a whole.

    `also_number`: YAML may take it for a number; `hidden`: it may be a secret, and is never shown.
    """

    pattern: str
    words: str
    fix: str = ""
    also_number: bool = False
    hidden: bool = False

    def read(self, node: Node, path: str, reading: Reading) -> str | None:
        """The text; a problem when it does not match."""
        text = _text(node, path, self.words, reading)
        if text is None or re.fullmatch(self.pattern, text):
            return text
        found = "" if self.hidden else f", not {shown(text)}"
        reading.problem(f"`{path}` must be {self.words}{found}.", node.at, self.fix)
        return None

    def schema(self) -> Schema:
        """A string with the pattern, or a number where an editor would see one."""
        text: Schema = {"type": "string", "pattern": f"^(?:{self.pattern})$"}
        return {"anyOf": [text, {"type": "number"}]} if self.also_number else text


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few words."""

    choices: tuple[str, ...]

    @property
    def words(self) -> str:
        """The choices in words."""
        return " or ".join(f"`{choice}`" for choice in self.choices)

    def read(self, node: Node, path: str, reading: Reading) -> str | None:
        """The word; a problem with "did you mean" otherwise."""
        text = _text(node, path, self.words, reading)
        if text is None or text in self.choices:
            return text
        hint = did_you_mean(text, self.choices)
        reading.problem(f"`{path}` must be {self.words}, not {shown(text)}.{hint}", node.at)
        return None

    def schema(self) -> Schema:
        """An enumeration; digits also as numbers."""
        numbers = [int(choice) for choice in self.choices if choice.isdecimal()]
        return {"enum": [*self.choices, *numbers]}


@dataclass(frozen=True, kw_only=True)
class Switch:
    """true or false."""

    words: str = "`true` or `false`"

    def read(self, node: Node, path: str, reading: Reading) -> bool | None:
        """The truth, in YAML 1.2's spellings."""
        text = _text(node, path, self.words, reading)
        if text is None:
            return None
        if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            return text.lower() == "true"
        near = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower(), "")
        hint = f" Did you mean '{near}'?" if near else ""
        reading.problem(f"`{path}` must be {self.words}, not {shown(text)}.{hint}", node.at)
        return None

    def schema(self) -> Schema:
        """A boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Number:
    """A whole number between two bounds."""

    minimum: int
    maximum: int

    @property
    def words(self) -> str:
        """The bounds in words."""
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, node: Node, path: str, reading: Reading) -> int | None:
        """The number; decimal digits only."""
        text = _text(node, path, self.words, reading)
        if text is None:
            return None
        if re.fullmatch(r"[0-9]{1,9}", text) and self.minimum <= int(text) <= self.maximum:
            return int(text)
        reading.problem(f"`{path}` must be {self.words}, not {shown(text)}.", node.at)
        return None

    def schema(self) -> Schema:
        """An integer with its bounds."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A whole number with a unit, read as a number of the smallest: "7d" is 604800 seconds."""

    units: Mapping[str, int]
    words: str
    maximum: int

    def read(self, node: Node, path: str, reading: Reading) -> int | None:
        """The amount in the smallest unit."""
        text = _text(node, path, self.words, reading)
        if text is None:
            return None
        match = re.fullmatch(r"([0-9]{1,9}) ?([A-Za-z]+)", text)
        if match and match[2] in self.units:
            amount = int(match[1]) * self.units[match[2]]
            if 0 < amount <= self.maximum:
                return amount
            reading.problem(f"`{path}` is out of range: {shown(text)}.", node.at)
            return None
        hint = did_you_mean(match[2], self.units) if match else ""
        reading.problem(f"`{path}` must be {self.words}, not {shown(text)}.{hint}", node.at)
        return None

    def schema(self) -> Schema:
        """A string with a unit."""
        return {"type": "string", "pattern": f"^[0-9]{{1,9}} ?(?:{'|'.join(self.units)})$"}


@dataclass(frozen=True, kw_only=True)
class ListOf:
    """A list of values of one kind, each at most once."""

    item: Kind
    maximum: int = 100

    @property
    def words(self) -> str:
        """What it is a list of."""
        return f"a list of {self.item.words}"

    def read(self, node: Node, path: str, reading: Reading) -> list[object] | None:
        """The valid items; a problem for each of the others."""
        if not isinstance(node, ListNode):
            what = "has no value" if isinstance(node, ScalarNode) and node.value is None else ""
            reading.problem(
                f"`{path}` {what}." if what else f"`{path}` must be {self.words}.",
                node.at,
                "Write a list: `[…]`; `[]` is an empty one.",
            )
            return None
        if len(node.items) > self.maximum:
            reading.problem(f"`{path}` has more than {self.maximum} items.", node.at)
            return None
        found: list[object] = []
        for index, item in enumerate(node.items):
            here = f"{path}[{index}]"
            reading.places[here] = item.at
            before = len(reading.problems)
            value = self.item.read(item, here, reading)
            if value is None or len(reading.problems) > before:
                continue
            if value in found:
                reading.problem(f"`{here}` stands in the list a second time.", item.at)
                continue
            found.append(value)
        return found

    def schema(self) -> Schema:
        """An array of unique items."""
        return {
            "type": "array",
            "items": self.item.schema(),
            "maxItems": self.maximum,
            "uniqueItems": True,
        }


@dataclass(frozen=True, kw_only=True)
class AllOrSome:
    """true for everything, false for nothing, or a list of what is meant; read as a list."""

    item: Kind
    everything: str = ":all:"

    @property
    def words(self) -> str:
        """Both forms in words."""
        return f"`true`, `false` or {ListOf(item=self.item).words}"

    def read(self, node: Node, path: str, reading: Reading) -> list[object] | None:
        """The items; `everything` alone for true, none for false."""
        if isinstance(node, ListNode):
            return ListOf(item=self.item).read(node, path, reading)
        text = _text(node, path, self.words, reading)
        if text is None:
            return None
        if text.lower() in ("true", "false"):
            return [self.everything] if text.lower() == "true" else []
        reading.problem(
            f"`{path}` must be {self.words}, not {shown(text)}.", node.at, f"Write `[{text[:80]}]`."
        )
        return None

    def schema(self) -> Schema:
        """A boolean, or an array of unique items."""
        return {"anyOf": [{"type": "boolean"}, ListOf(item=self.item).schema()]}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of a table: its kind, what it means, its default in words, and an example."""

    name: str
    kind: Kind
    summary: str
    default: str = ""
    example: str = ""
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A mapping with declared keys. No value at all means: no keys.

    `one_of` names keys of which exactly one must stand there.
    """

    keys: tuple[Key, ...]
    one_of: tuple[str, ...] = ()
    words: str = "a mapping"

    def read(self, node: Node, path: str, reading: Reading) -> dict[str, object] | None:
        """The valid values by key; unknown and missing keys are problems."""
        entries = _entries(node, path, self.words, self._sketch(), reading)
        if entries is None:
            return None
        declared = {key.name: key for key in self.keys}
        found: dict[str, object] = {}
        for entry in entries:
            here = _joined(path, entry.key)
            key = declared.get(entry.key)
            if key is None:
                hint = did_you_mean(entry.key, declared)
                place = f" in `{path}`" if path else ""
                reading.problem(
                    f"unknown key {shown(entry.key)}{place}.{hint}",
                    entry.at,
                    f"The keys here are {', '.join(declared)}.",
                )
                continue
            reading.places[here] = entry.value.at
            value = key.kind.read(entry.value, here, reading)
            if value is not None:
                found[key.name] = value
        self._missing(node, path, frozenset(entry.key for entry in entries), reading)
        return found

    def _missing(self, node: Node, path: str, present: frozenset[str], reading: Reading) -> None:
        for key in self.keys:
            if key.required and key.name not in present:
                example = f"{key.name}: {key.example}" if key.example else key.name
                reading.problem(
                    f"`{_joined(path, key.name)}` is missing.", node.at, f"Write `{example}`."
                )
        given = [name for name in self.one_of if name in present]
        if self.one_of and len(given) != 1:
            names = " and ".join(f"`{name}`" for name in self.one_of)
            count = "both" if given else "neither"
            reading.problem(
                f"`{path}` takes one of {names}, there is {count}.", node.at, self._sketch()
            )

    def _sketch(self) -> str:
        shown_keys = [key for key in self.keys if key.required or key.name in self.one_of]
        key = (shown_keys or list(self.keys))[0]
        return f"Write a mapping: `{{{key.name}: {key.example or '…'}}}`."

    def schema(self) -> Schema:
        """An object with these properties and no others."""
        properties = {key.name: _described(key) for key in self.keys}
        result: Schema = {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": properties,
        }
        required = [key.name for key in self.keys if key.required]
        if required:
            result["type"] = "object"
            result["required"] = required
        if self.one_of:
            result["type"] = "object"
            result["oneOf"] = [{"required": [name]} for name in self.one_of]
        return result


def _described(key: Key) -> Schema:
    description = key.summary + (f" Default: {key.default}." if key.default else "")
    return {"description": description, **key.kind.schema()}


@dataclass(frozen=True, kw_only=True)
class Named:
    """A mapping from names that the user chooses to values of one kind."""

    name: Text
    item: Kind
    placeholder: str = "NAME"
    maximum: int = 200
    words: str = "a mapping"
    refused: Mapping[str, str] = field(default_factory=dict)
    """Patterns of names (without regard to case) that are refused, and why."""

    def read(self, node: Node, path: str, reading: Reading) -> dict[str, object] | None:
        """The valid items by name; names that differ only in case are problems."""
        sketch = f"Write a mapping: `{{{self.placeholder}: …}}`."
        entries = _entries(node, path, self.words, sketch, reading)
        if entries is None:
            return None
        if len(entries) > self.maximum:
            reading.problem(f"`{path}` has more than {self.maximum} entries.", node.at)
            return None
        found: dict[str, object] = {}
        folded: dict[str, str] = {}
        for entry in entries:
            here = _joined(path, entry.key)
            good = self._accepts(entry, path, reading)
            earlier = folded.setdefault(entry.key.casefold(), entry.key)
            if earlier != entry.key:
                reading.problem(
                    f"{shown(entry.key)} and {shown(earlier)} in `{path}` differ only in case.",
                    entry.at,
                    "Rename one of them: some file systems and AWS names do not tell them apart.",
                )
            label = here if good else _joined(path, shown(entry.key))
            reading.places[label] = entry.at
            value = self.item.read(entry.value, label, reading)
            if good and value is not None:
                found[entry.key] = value
        return found

    def _accepts(self, entry: Entry, path: str, reading: Reading) -> bool:
        if not re.fullmatch(self.name.pattern, entry.key):
            reading.problem(
                f"the name {shown(entry.key)} in `{path}` must be {self.name.words}.",
                entry.at,
                self.name.fix,
            )
            return False
        for pattern, why in self.refused.items():
            if re.fullmatch(pattern, entry.key, re.IGNORECASE):
                reading.problem(
                    f"the name {shown(entry.key)} in `{path}` {why}.",
                    entry.at,
                    "Choose another name.",
                )
                return False
        return True

    def schema(self) -> Schema:
        """An object whose property names match the pattern and none of the refused ones."""
        names: Schema = {"pattern": f"^(?:{self.name.pattern})$"}
        if self.refused:
            insensitive = "|".join(_any_case(pattern) for pattern in self.refused)
            names["not"] = {"pattern": f"^(?:{insensitive})$"}
        return {
            "type": ["object", "null"],
            "propertyNames": names,
            "maxProperties": self.maximum,
            "additionalProperties": self.item.schema(),
        }


def _any_case(pattern: str) -> str:
    """The pattern with each letter in both cases: JSON Schema knows no flags.

    The patterns hold letters as themselves only: no escapes, no classes of letters.
    """
    return "".join(
        f"[{char.lower()}{char.upper()}]" if char.isalpha() else char for char in pattern
    )


def _entries(
    node: Node, path: str, words: str, sketch: str, reading: Reading
) -> tuple[Entry, ...] | None:
    match node:
        case MapNode():
            return node.entries
        case ScalarNode(value=None):
            return ()
        case ListNode():
            what = "a list"
        case _:
            # Not quoted: it may be a secret that stands where its name should.
            what = "a single value"
    subject = f"`{path}`" if path else "the file"
    reading.problem(f"{subject} must be {words}, not {what}.", node.at, sketch)
    return None


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def documented(table: Table, path: str = "") -> Iterator[tuple[str, Key]]:
    """Every key with its dotted path ("stages.NAME.region"), in the order of the declaration."""
    for key in table.keys:
        here = _joined(path, key.name)
        yield here, key
        kind = key.kind
        while isinstance(kind, Named | ListOf):
            here += f".{kind.placeholder}" if isinstance(kind, Named) else "[]"
            kind = kind.item
        if isinstance(kind, Table):
            yield from documented(kind, here)
