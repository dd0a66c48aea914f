"""Malformed documents from valid ones: what editors, merges, disks and attackers do."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

_MEMBER = re.compile(rb'\{\s*"([^"\\]+)"\s*:')
_VERSIONS = ("schema_version", "format", "version")
_OTHER_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    10**400,
    1e308,
    "",
    "\0",
    "a\0b",
    "\ud800",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"": ""},
    ["x"],
)


class Malformer:
    """One seed gives one sequence of (what was done, bytes)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def documents(self, document: Any, dump: Callable[[Any], bytes]) -> Iterator[tuple[str, bytes]]:
        """JSON documents with one or two things wrong, for ever; `dump` writes a valid one."""
        edits = (
            self._another_value,
            self._another_value,
            self._another_value,
            self._without,
            self._more,
            self._wrapped,
            self._deep,
            self._version,
            self._twice,
        )
        while True:
            kind = self._random.randrange(len(edits) + 4)
            if kind >= len(edits):
                name, raw = self.raw(dump(document))
                yield name, raw
                continue
            changed = copy.deepcopy(document)
            names = [edits[kind](changed) for _ in range(self._random.choice((1, 1, 2)))]
            try:
                yield ", ".join(names), dump(changed)
            except (UnicodeEncodeError, RecursionError):
                continue

    def raw(self, data: bytes) -> tuple[str, bytes]:
        """The bytes with something wrong that is no JSON any more, or hides in it."""
        at = self._random.randrange(len(data))
        match self._random.randrange(9):
            case 0:
                return f"cut at {at}", data[:at]
            case 1:
                return self.flipped(data)
            case 2:
                return f"NUL at {at}", data[:at] + b"\0" + data[at:]
            case 3:
                return "merge markers", b"<<<<<<< HEAD\n" + data + b"=======\n" + data
            case 4:
                return "UTF-16", data.decode("latin-1").encode("utf-16")
            case 5:
                return "written twice", data + data
            case 6:
                return "all NUL, as after a crash", b"\0" * len(data)
            case 7:
                members = list(_MEMBER.finditer(data))
                found = self._random.choice(members)
                first = b'{"' + found[1] + b'": null, '
                return (
                    f"key {found[1].decode()} twice",
                    data[: found.start()] + first + data[found.start() + 1 :],
                )
        return "a part of it moved", data[at:] + data[:at]

    def flipped(self, data: bytes) -> tuple[str, bytes]:
        """One bit flipped."""
        at, bit = self._random.randrange(len(data)), self._random.randrange(8)
        return f"bit {bit} of byte {at}", data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]

    def archives(
        self, members: dict[str, bytes], document: str, dump: Callable[[Any], bytes]
    ) -> Iterator[tuple[str, bytes]]:
        """Zips with something wrong, for ever: in the member `document`, in others, in the zip."""
        parsed = json.loads(members[document])
        documents = self.documents(parsed, dump)
        plain = zipped(list(members.items()))
        while True:
            entries = list(members.items())
            kind = self._random.randrange(12)
            if kind < 6:
                name, raw = next(documents)
                yield name, zipped([(n, raw if n == document else d) for n, d in entries])
            elif kind == 6:
                yield self.raw(plain)
            elif kind == 7:
                yield self.flipped(plain)
            elif kind == 8:
                index = self._random.randrange(len(entries))
                name, data = entries[index]
                what, entries[index] = self._member(name, data)
                yield what, zipped(entries)
            elif kind == 9:
                left = self._random.choice(entries)
                yield f"without {left[0]}", zipped([e for e in entries if e != left])
            elif kind == 10:
                name = self._random.choice(
                    ("../x", "/etc/x", "a\\b", "plan.json/", "x" * 300, "packages/x", "é")
                )
                yield f"member {name}", zipped([*entries, (name, b"x")])
            else:
                twice = self._random.choice(entries)
                yield f"{twice[0]} twice", zipped([*entries, (twice[0], b"other")])

    def _member(self, name: str, data: bytes) -> tuple[str, tuple[str, bytes]]:
        if self._random.random() < 0.5:
            return f"{name} changed", (name, data + b"x")
        return f"{name} renamed", (name[:-1] + "_", data)

    # -- edits of a document ------------------------------------------------------------------

    def _place(self, document: Any) -> tuple[Any, Any]:
        """A container in the document and a key or index in it."""
        places = [(document, key) for key in _keys(document)]
        for container, key in places:
            inner = container[key]
            places += [(inner, k) for k in _keys(inner)]
        return self._random.choice(places)

    def _another_value(self, document: Any) -> str:
        container, key = self._place(document)
        container[key] = copy.deepcopy(self._random.choice(_OTHER_VALUES))
        return f"{key} is {str(container[key])[:20]!r}"

    def _without(self, document: Any) -> str:
        container, key = self._place(document)
        del container[key]
        return f"{key} is missing"

    def _more(self, document: Any) -> str:
        container, key = self._place(document)
        if isinstance(container, dict):
            container["unknown"] = container[key]
            return "a key too many"
        container.append(copy.deepcopy(container[key]))
        return "an entry twice"

    def _wrapped(self, document: Any) -> str:
        container, key = self._place(document)
        inner = container[key]
        container[key] = [inner] if self._random.random() < 0.5 else {"x": inner}
        return f"{key} is wrapped"

    def _deep(self, document: Any) -> str:
        container, key = self._place(document)
        value: Any = container[key]
        for _ in range(self._random.choice((40, 300))):
            value = [value]
        container[key] = value
        return f"{key} is deep"

    def _version(self, document: Any) -> str:
        for key in _VERSIONS:
            if key in document:
                document[key] = self._random.choice(("1.0", "3.0", 1, 0, 99, "2.0 ", None))
                return f"{key} is {document[key]!r}"
        return self._without(document)

    def _twice(self, document: Any) -> str:
        container, key = self._place(document)
        if isinstance(container[key], list) and container[key]:
            container[key].append(copy.deepcopy(container[key][0]))
            return f"{key} has an entry twice"
        return self._another_value(document)


def _keys(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
    elif isinstance(value, list):
        yield from range(len(value))


def zipped(entries: list[tuple[str, bytes]]) -> bytes:
    """A zip with these members, stored, in this order; a name may come twice."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for name, data in entries:
            # Python's own zipfile warns of a name that comes twice.
            archive.NameToInfo.pop(name, None)
            archive.writestr(zipfile.ZipInfo(name), data)
    return into.getvalue()
