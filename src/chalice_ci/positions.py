"""Configuration text as a tree that remembers where everything stands.

`yaml_source` and `json_source` build the tree, `settings` and `chalice_config` read it. Everything
here is bounded and linear: the text may come from a pull request.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from chalice_ci.findings import Place

Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value; YAML gives text or None only."""

    value: Value
    at: Place
    size: int = 1


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list; `size` counts its nodes, with repeated ones (YAML's aliases) each time."""

    items: tuple[Node, ...]
    at: Place
    size: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A key, the place where it is written, and its value."""

    key: str
    at: Place
    value: Node


@dataclass(frozen=True, slots=True)
class MapNode:
    """Keys and values in the order of the file, each key once."""

    entries: tuple[Entry, ...]
    at: Place
    size: int = 1

    def entry(self, key: str) -> Entry | None:
        """The entry of a key, None when there is none."""
        return next((entry for entry in self.entries if entry.key == key), None)


Node: TypeAlias = ScalarNode | ListNode | MapNode


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with a text, where, and what to do. `kind` is "syntax" or "duplicate"."""

    what: str
    at: Place
    fix: str = ""
    kind: str = "syntax"


class TextPositions:
    """Lines and columns, both from 1, of offsets in a text. LF, CR and CRLF end a line."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def place(self, offset: int) -> Place:
        """The place of an offset."""
        line = bisect_right(self._starts, offset)
        return Place(file=self._file, line=line, column=offset - self._starts[line - 1] + 1)


def plain_data(node: Node) -> object:
    """The tree as dict, list and scalars. The depth is bounded by the reader."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain_data(item) for item in node.items]
        case MapNode():
            return {entry.key: plain_data(entry.value) for entry in node.entries}


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Place]]:
    """Every key as a dotted path ("stages.dev.layers.0" for list items), with its place."""
    match node:
        case MapNode():
            for entry in node.entries:
                here = f"{path}.{entry.key}" if path else entry.key
                yield here, entry.at
                yield from walk(entry.value, here)
        case ListNode():
            for index, item in enumerate(node.items):
                yield f"{path}.{index}", item.at
                yield from walk(item, f"{path}.{index}")
        case ScalarNode():
            return


def shown(text: str, limit: int = 60) -> str:
    """Text of a file for a message: short, in quotes, nothing in it that a terminal would obey."""
    visible = "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text[: limit + 1]
    )
    return f"'{visible[:limit]}…'" if len(visible) > limit or len(text) > limit else f"'{visible}'"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'stages'?"` with a leading blank, or nothing when no name is near."""
    names = sorted(set(known))
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(_folded(candidate), candidate)
    near = difflib.get_close_matches(_folded(name[:100]), folded, n=1, cutoff=0.6)
    return f" Did you mean '{folded[near[0]]}'?" if near else ""


def _folded(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.casefold())


def read_bytes(path: Path, *, beneath: Path, limit: int, place: Place) -> bytes | Problem:
    """The bytes of a regular file of at most `limit` bytes.

    A link that leaves `beneath` is refused (it could name /proc/self/environ, and messages quote
    what they read), so are pipes and devices. Raises FileNotFoundError when there is no such file.
    """
    try:
        resolved = path.resolve(strict=True)
    except FileNotFoundError:
        if path.is_symlink():
            return Problem(
                what="this is a link to a file that does not exist.",
                at=place,
                fix="Commit the file itself.",
            )
        raise
    except RuntimeError:
        return Problem(what="this is a link to itself.", at=place, fix="Commit the file itself.")
    except (OSError, ValueError) as error:
        return Problem(what=f"the file cannot be read: {_reason(error)}.", at=place)
    root = beneath.resolve()
    if path.absolute().is_relative_to(beneath.absolute()) and not resolved.is_relative_to(root):
        return Problem(
            what="this is a link that leaves the repository.",
            at=place,
            fix="Commit the file itself.",
        )
    try:
        # Opening a pipe would wait for a writer.
        descriptor = os.open(resolved, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Problem(what="this is not a regular file.", at=place)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                raw = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        return Problem(what=f"the file cannot be read: {_reason(error)}.", at=place)
    if len(raw) > limit:
        return Problem(
            what=f"the file is larger than {limit // 1024} KiB.",
            at=place,
            fix="A configuration is a few kilobytes; move data elsewhere.",
        )
    return raw


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None)
    return text.lower() if isinstance(text, str) else type(error).__name__


def decode(raw: bytes, file: str) -> str | Problem:
    """UTF-8 bytes as text, a byte order mark included."""
    start = Place(file=file, line=1, column=1)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Problem(
            what="the file is UTF-16 (some Windows programs write that).",
            at=start,
            fix="Save it as UTF-8.",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        return Problem(
            what=f"the byte 0x{raw[error.start]:02x} is not UTF-8.",
            at=TextPositions(before, file).place(len(before)),
            fix="Save the file as UTF-8.",
        )
    nul = text.find("\0")
    if nul >= 0:
        return Problem(
            what="there is a NUL character.",
            at=TextPositions(text, file).place(nul),
            fix="Remove it; perhaps the file is damaged or not text.",
        )
    return text


def merge_marker(text: str, file: str) -> Problem | None:
    """The first line that git left behind after a merge conflict."""
    match = re.search(r"^<{7}(?: |$)", text, re.MULTILINE)
    if match is None:
        return None
    return Problem(
        what="there are merge conflict markers in the file.",
        at=TextPositions(text, file).place(match.start()),
        fix="Resolve the conflict and commit the file again.",
    )


_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def invisible(text: str) -> Iterator[tuple[int, str]]:
    """Offset and name of each control, zero-width or direction-changing character.

    Tab and line ends are not meant, neither are letters and signs of any script.
    """
    for match in re.finditer(r"[^\t\n\r -~]", text):
        char = match.group()
        if unicodedata.category(char) in _INVISIBLE_CATEGORIES:
            name = unicodedata.name(char, "control character")
            yield match.start(), f"U+{ord(char):04X} {name}"
