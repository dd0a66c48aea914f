"""YAML text as a tree with positions, every scalar as text.

Built from the parser's events: nothing is resolved (`on` stays "on", `3.10` stays "3.10"), nothing
is constructed, aliases are shared and never copied, and depth, nodes and aliases are bounded while
reading, so a bomb ends where the bound is passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import yaml

from chalice_ci.findings import Place
from chalice_ci.positions import (
    Entry,
    ListNode,
    MapNode,
    Node,
    Problem,
    ScalarNode,
    TextPositions,
    invisible,
    merge_marker,
    shown,
)

MAX_DEPTH = 12
MAX_NODES = 20_000
MAX_ALIASES = 100
_MAX_INVISIBLE = 10

_NO_CHARACTER = re.compile(r"\\U(?!000[0-9A-Fa-f]|0010)")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Mark(Protocol):
    """Where an event begins: PyYAML has two classes for it."""

    line: int
    column: int


@dataclass
class _Open:
    """A list or mapping whose end has not been read yet."""

    at: Place
    anchor: str | None
    is_map: bool
    size: int = 1
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    key: tuple[str, Place] | None = None
    expects_value: bool = False


class _Stop(Exception):
    """Reading cannot go on; the problem is in the list."""


class _Builder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._aliases = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        at = self._place(event.start_mark)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop("there is a second document in the file.", at, "Keep one of them.")
            case yaml.AliasEvent():
                self._alias(str(event.anchor), at)
            case yaml.ScalarEvent():
                self._tag(event.tag, at)
                self._scalar(event, at)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._tag(event.tag, at)
                self._count(at)
                if len(self._stack) >= MAX_DEPTH:
                    self._stop(
                        f"the nesting is deeper than {MAX_DEPTH} levels.",
                        at,
                        "No key of this file is that deep.",
                    )
                is_map = isinstance(event, yaml.MappingStartEvent)
                self._stack.append(_Open(at=at, anchor=event.anchor, is_map=is_map))
            case yaml.SequenceEndEvent():
                frame = self._stack.pop()
                self._add(ListNode(tuple(frame.items), frame.at, frame.size), frame.anchor)
            case yaml.MappingEndEvent():
                frame = self._stack.pop()
                entries = tuple(frame.entries.values())
                self._add(MapNode(entries, frame.at, frame.size), frame.anchor)
            case _:
                pass

    def _place(self, mark: Mark | None) -> Place:
        if mark is None:
            return Place(file=self.file, line=1, column=1)
        return Place(file=self.file, line=mark.line + 1, column=mark.column + 1)

    def _problem(self, what: str, at: Place, fix: str = "", kind: str = "syntax") -> None:
        self.problems.append(Problem(what=what, at=at, fix=fix, kind=kind))

    def _stop(self, what: str, at: Place, fix: str = "") -> NoReturn:
        self._problem(what, at, fix)
        raise _Stop

    def _count(self, at: Place) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(f"there are more than {MAX_NODES} values in the file.", at)

    def _tag(self, tag: str | None, at: Place) -> None:
        # "!" alone says "this is text", which everything is.
        if tag not in (None, "!"):
            self._problem(f"the tag {shown(str(tag))} means nothing here.", at, "Remove the tag.")

    def _alias(self, anchor: str, at: Place) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop(f"there are more than {MAX_ALIASES} aliases.", at, "Write the values out.")
        node = self._anchors.get(anchor)
        if node is None:
            inside = any(frame.anchor == anchor for frame in self._stack)
            what = "contains itself" if inside else "names no anchor before it"
            self._stop(f"the alias {shown('*' + anchor)} {what}.", at, "Write the value out.")
        self._add(node, None, at)

    def _scalar(self, event: yaml.ScalarEvent, at: Place) -> None:
        self._count(at)
        text = str(event.value)
        for _, name in invisible(text):
            self._problem(
                f"the text contains {name}, which cannot be seen.", at, "Write it without."
            )
            break
        plain = not event.style and event.implicit[0]
        value = None if plain and text in _NULLS else text
        self._add(ScalarNode(value, at), event.anchor)

    def _add(self, node: Node, anchor: str | None, alias_at: Place | None = None) -> None:
        if anchor:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        at = alias_at or node.at
        frame.size += node.size
        if frame.size > MAX_NODES:
            self._stop(
                f"with its aliases written out the file has more than {MAX_NODES} values.",
                at,
                "Write the values out.",
            )
        if not frame.is_map:
            frame.items.append(node)
        elif frame.expects_value:
            frame.expects_value = False
            if frame.key is not None:
                key, key_at = frame.key
                frame.entries[key] = Entry(key, key_at, node)
        else:
            frame.expects_value = True
            frame.key = self._key(frame, node, at)

    def _key(self, frame: _Open, node: Node, at: Place) -> tuple[str, Place] | None:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not node.value:
            self._problem("a key must be a plain word.", at, "Write `key: value`.")
            return None
        if node.value == "<<":
            self._problem(
                "merge keys (`<<`) are not supported.",
                at,
                "Write the settings out; an alias may stand for a whole value.",
            )
            return None
        earlier = frame.entries.get(node.value)
        if earlier is not None:
            self._problem(
                f"the key {shown(node.value)} stands here a second time, "
                f"first in line {earlier.at.line}.",
                at,
                "Keep one of them: the other would be ignored silently.",
                "duplicate",
            )
            return None
        return node.value, at


def read_yaml(text: str, file: str) -> tuple[Node | None, tuple[Problem, ...]]:
    """The tree of one YAML document and all problems found; None for an empty file or no tree."""
    source = text.removeprefix("\ufeff")
    marker = merge_marker(source, file)
    if marker is not None:
        return None, (marker,)
    unseen = tuple(_invisible_problems(source, file))
    if unseen:
        return None, unseen
    builder = _Builder(file)
    try:
        for event in yaml.parse(source, Loader=yaml.SafeLoader):
            builder.take(event)
    except _Stop:
        return None, tuple(builder.problems)
    except yaml.MarkedYAMLError as error:
        return None, (*builder.problems, _explained(error, source, file))
    except (yaml.YAMLError, ValueError, OverflowError):
        # Escapes like "\UFFFFFFFF" and directives with endless numbers.
        escape = _NO_CHARACTER.search(source)
        problem = Problem(
            what="this is not valid YAML: an escape or a directive is out of range.",
            at=TextPositions(source, file).place(escape.start() if escape else 0),
            fix="Write the character itself.",
        )
        return None, (*builder.problems, problem)
    return builder.root, tuple(builder.problems)


def _invisible_problems(text: str, file: str) -> Iterator[Problem]:
    positions: TextPositions | None = None
    for count, (offset, name) in enumerate(invisible(text)):
        if count == _MAX_INVISIBLE:
            return
        positions = positions or TextPositions(text, file)
        yield Problem(
            what=f"there is a character that cannot be seen: {name}.",
            at=positions.place(offset),
            fix="Remove it.",
        )


def _explained(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """The parser's words, with a better explanation for the usual mistakes."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    place = Place(file=file, line=line + 1, column=column + 1)
    said = str(error.problem or error.context or "")
    lines = re.split(r"\r\n|\n|\r", text)
    here = lines[line] if line < len(lines) else ""
    if "'\\t'" in said or "\t" in here[: len(here) - len(here.lstrip())]:
        return Problem(
            what="there is a tab where YAML wants blanks.",
            at=place,
            fix="Indent with blanks only; most editors can convert tabs.",
        )
    if "mapping values are not allowed" in said:
        return Problem(
            what="this is not valid YAML: a `key:` cannot stand here. Two of them are in one line, "
            "the line before lacks its `:`, or this one is not indented as it should be.",
            at=place,
            fix="Put each key in a line of its own, and text with a colon in quotes.",
        )
    if "could not find expected ':'" in said:
        return Problem(
            what="this is not valid YAML: a `:` is missing after the key.",
            at=place,
            fix="Write `key: value`, with a blank after the colon.",
        )
    if "expected <block end>" in said:
        return Problem(
            what="this is not valid YAML: this line is not indented like the lines it belongs to.",
            at=place,
            fix="Give keys of the same level the same number of blanks.",
        )
    if "expected ',' or" in said:
        closing = "]" if "']'" in said else "}"
        opened = error.context_mark
        where = f" for what line {opened.line + 1} opens" if opened is not None else ""
        return Problem(
            what=f"this is not valid YAML: a `,` or the closing `{closing}` is missing{where}.",
            at=place,
            fix=f"Write `{closing}` where the list or mapping ends.",
        )
    return Problem(
        what=f"this is not valid YAML: {shown(said, 120)[1:-1]}.",
        at=place,
        fix="Text with special characters belongs in quotes.",
    )
