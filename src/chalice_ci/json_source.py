"""Strict JSON text as a tree with positions, with the usual mistakes explained.

What it accepts has the value that `json.loads` gives (a test holds the two together); beyond that,
duplicate keys are problems, and depth and nodes are bounded.
"""

from __future__ import annotations

import re
from json.decoder import JSONDecodeError, JSONDecoder

from chalice_ci.positions import (
    Entry,
    ListNode,
    MapNode,
    Node,
    Problem,
    ScalarNode,
    TextPositions,
    Value,
    merge_marker,
    shown,
)

MAX_DEPTH = 50
MAX_NODES = 100_000
_MAX_DIGITS = 300

_STRINGS = JSONDecoder(strict=True)
_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[^\s,:\[\]{}\"]+")
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_MISSPELT = {"True": "true", "False": "false", "None": "null", "undefined": "null", "TRUE": "true"}


class _Invalid(Exception):
    def __init__(self, what: str, offset: int, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.offset = offset
        self.fix = fix


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.positions = TextPositions(text, file)
        self.problems: list[Problem] = []
        self._nodes = 0

    def document(self) -> Node:
        offset = self._blank(0)
        if offset == len(self.text):
            raise _Invalid("the file is empty.", 0, "Write at least `{}`.")
        node, offset = self._value(offset, 0)
        offset = self._blank(offset)
        if offset != len(self.text):
            raise self._unexpected(offset, "there is more text after the end of the value")
        return node

    def _blank(self, offset: int) -> int:
        match = _BLANK.match(self.text, offset)
        return match.end() if match else offset

    def _value(self, offset: int, depth: int) -> tuple[Node, int]:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Invalid(f"there are more than {MAX_NODES} values in the file.", offset)
        if depth > MAX_DEPTH:
            raise _Invalid(f"the nesting is deeper than {MAX_DEPTH} levels.", offset)
        at = self.positions.place(offset)
        char = self.text[offset : offset + 1]
        if char == "{":
            return self._object(offset, depth)
        if char == "[":
            return self._array(offset, depth)
        if char == '"':
            text, end = self._string(offset)
            return ScalarNode(text, at), end
        number = _NUMBER.match(self.text, offset)
        if number:
            return ScalarNode(self._number(number), at), self._number_end(number)
        word = _WORD.match(self.text, offset)
        if word and word.group() in _CONSTANTS:
            return ScalarNode(_CONSTANTS[word.group()], at), word.end()
        raise self._unexpected(offset, "a value is missing")

    def _number(self, match: re.Match[str]) -> int | float:
        whole, fraction, exponent = match.groups()
        if len(match.group()) > _MAX_DIGITS:
            raise _Invalid("this number has too many digits.", match.start())
        if fraction is None and exponent is None:
            return int(whole)
        return float(match.group())

    def _number_end(self, match: re.Match[str]) -> int:
        after = self.text[match.end() : match.end() + 1]
        if after and after not in " \t\n\r,]}":
            raise _Invalid(
                "what begins like a number here is not one in JSON.",
                match.start(),
                "Put text in double quotes; a number has no leading zeros and no unit.",
            )
        return match.end()

    def _string(self, offset: int) -> tuple[str, int]:
        try:
            text, end = _STRINGS.raw_decode(self.text, offset)
        except JSONDecodeError as error:
            raise self._string_problem(error, offset) from None
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise _Invalid(
                "this text has half a character in it (a lone \\ud800 to \\udfff escape).",
                offset,
                "Write the character itself.",
            )
        return text, end

    def _string_problem(self, error: JSONDecodeError, offset: int) -> _Invalid:
        if "control character" in error.msg:
            if self.text[error.pos : error.pos + 1] in "\n\r":
                return _Invalid(
                    "the text that begins here has no closing quote in its line.",
                    offset,
                    'Close it with `"`; a line break inside is written `\\n`.',
                )
            return _Invalid(
                "there is a control character in the text.",
                error.pos,
                "Write a tab as `\\t`, others as `\\u00…`.",
            )
        if "escape" in error.msg:
            return _Invalid(
                "this is not an escape that JSON knows.",
                error.pos,
                "Write a backslash as `\\\\`.",
            )
        return _Invalid(
            "the text that begins here has no closing quote.", offset, 'Close it with `"`.'
        )

    def _array(self, start: int, depth: int) -> tuple[Node, int]:
        items: list[Node] = []
        offset = self._blank(start + 1)
        at = self.positions.place(start)
        if self.text[offset : offset + 1] == "]":
            return ListNode((), at), offset + 1
        while True:
            node, offset = self._value(offset, depth + 1)
            items.append(node)
            offset = self._blank(offset)
            char = self.text[offset : offset + 1]
            if char == "]":
                return ListNode(tuple(items), at), offset + 1
            if char != ",":
                raise self._unclosed(offset, start, "]")
            offset = self._after_comma(offset, "]")

    def _object(self, start: int, depth: int) -> tuple[Node, int]:
        entries: dict[str, Entry] = {}
        offset = self._blank(start + 1)
        at = self.positions.place(start)
        if self.text[offset : offset + 1] == "}":
            return MapNode((), at), offset + 1
        while True:
            if self.text[offset : offset + 1] != '"':
                raise self._unexpected(offset, "a key in double quotes is missing", start)
            key_at = self.positions.place(offset)
            key, offset = self._string(offset)
            offset = self._blank(offset)
            if self.text[offset : offset + 1] != ":":
                raise _Invalid(
                    f"after the key {shown(key)} there is no `:`.", offset, 'Write `"key": value`.'
                )
            node, offset = self._value(self._blank(offset + 1), depth + 1)
            if key in entries:
                first = entries[key].at.line
                self.problems.append(
                    Problem(
                        what=f"the key {shown(key)} stands here a second time, "
                        f"first in line {first}.",
                        at=key_at,
                        fix="Keep one of them: Chalice silently takes the last.",
                        kind="duplicate",
                    )
                )
            entries[key] = Entry(key, key_at, node)
            offset = self._blank(offset)
            char = self.text[offset : offset + 1]
            if char == "}":
                return MapNode(tuple(entries.values()), at), offset + 1
            if char != ",":
                raise self._unclosed(offset, start, "}")
            offset = self._after_comma(offset, "}")

    def _after_comma(self, comma: int, closing: str) -> int:
        offset = self._blank(comma + 1)
        if self.text[offset : offset + 1] == closing:
            raise _Invalid(
                f"there is a comma before the closing `{closing}`.", comma, "Remove the comma."
            )
        return offset

    def _unclosed(self, offset: int, start: int, closing: str) -> _Invalid:
        if offset >= len(self.text):
            opened = self.positions.place(start).line
            return _Invalid(
                f"the file ends, but the `{self.text[start]}` of line {opened} is not closed.",
                offset,
                f"Add the missing `{closing}`.",
            )
        return self._comment(offset) or _Invalid(
            f"a comma or `{closing}` is missing before this.", offset, "Add the comma."
        )

    def _comment(self, offset: int) -> _Invalid | None:
        if self.text.startswith(("//", "/*", "#"), offset):
            return _Invalid("JSON has no comments.", offset, "Remove the comment.")
        return None

    def _unexpected(self, offset: int, what: str, start: int | None = None) -> _Invalid:
        """The best explanation of what stands where a value or key should."""
        if offset >= len(self.text):
            if start is not None:
                return self._unclosed(offset, start, "}")
            return _Invalid("the file ends where a value should be.", offset, "Write the value.")
        comment = self._comment(offset)
        if comment is not None:
            return comment
        char = self.text[offset]
        if char in "'‘’“”":
            return _Invalid(
                f"{char} is not a quote that JSON knows.",
                offset,
                'Write text in double quotes: `"`.',
            )
        if char == ",":
            return _Invalid(f"{what}: there is a comma too many.", offset, "Remove the comma.")
        word = _WORD.match(self.text, offset)
        said = word.group() if word else char
        if said in _MISSPELT:
            return _Invalid(f"`{said}` is not JSON.", offset, f"Write `{_MISSPELT[said]}`.")
        if said in ("NaN", "Infinity", "-Infinity"):
            return _Invalid(f"`{said}` is not JSON.", offset, "Write a number.")
        # Not quoted: it may be the unquoted value of a password.
        found = f"`{char}`" if char in "{}[]:;=<>" else "text without quotes"
        fix = "Text belongs in double quotes." if char not in "{}[]:" else "Remove it."
        return _Invalid(f"{what}, found {found}.", offset, fix)


def read_json(text: str, file: str) -> tuple[Node | None, tuple[Problem, ...]]:
    """The tree and all problems: one of syntax (then no tree), or any number of duplicate keys."""
    if text.startswith("\ufeff"):
        problem = Problem(
            what="the file begins with a byte order mark, which Chalice refuses.",
            at=TextPositions(text, file).place(0),
            fix="Save it as UTF-8 without BOM.",
        )
        return None, (problem,)
    marker = merge_marker(text, file)
    if marker is not None:
        return None, (marker,)
    reader = _Reader(text, file)
    try:
        node = reader.document()
    except _Invalid as invalid:
        problem = Problem(
            what=f"this is not valid JSON: {invalid.what}",
            at=reader.positions.place(invalid.offset),
            fix=invalid.fix,
        )
        return None, (*reader.problems, problem)
    return node, tuple(reader.problems)
