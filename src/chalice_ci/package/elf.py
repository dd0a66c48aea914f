"""What a compiled library needs of the system that loads it, read from its dynamic section.

Just enough of the format (System V ABI, 64 bits, little-endian) for two questions that a wheel's
tag does not answer when it was built here: which shared libraries, and which glibc.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x7fELF"

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS = 1, 5
_MACHINES = {62: "x86_64", 183: "aarch64"}
_MAX_SEGMENTS = 1000
_MAX_ENTRIES = 10_000
_GLIBC = re.compile(rb"GLIBC_(\d{1,4})\.(\d{1,4})")


@dataclass(frozen=True, kw_only=True)
class Object:
    """A shared object: its processor as wheel tags name it, what it is linked with (sonames), and
    the newest glibc whose symbols it names.
    """

    machine: str
    needed: tuple[str, ...]
    glibc: tuple[int, int]


def read_object(data: bytes) -> Object:
    """Read an object that begins with MAGIC. Raises ValueError for what is none of Linux's."""
    try:
        return _read(data)
    except struct.error as error:
        raise ValueError("it is cut off") from error


def _read(data: bytes) -> Object:
    header = _HEADER.unpack_from(data)
    identity, machine, segments_at, size, count = header[0], *(header[n] for n in (2, 5, 9, 10))
    if identity[:4] != MAGIC or identity[4:6] != b"\x02\x01" or count > _MAX_SEGMENTS:
        raise ValueError("it is not for a 64-bit processor")
    segments = [_SEGMENT.unpack_from(data, segments_at + size * n) for n in range(count)]
    loaded = [
        (at, address, length) for kind, _, at, address, _, length, *_ in segments if kind == _LOAD
    ]
    entries = [
        entry
        for kind, _, at, _, _, length, *_ in segments
        if kind == _DYNAMIC
        for entry in _dynamic(data, at, length)
    ]
    strings = next((value for tag, value in entries if tag == _STRINGS), None)
    needed = []
    for tag, value in entries:
        if tag == _NEEDED and strings is not None:
            place = _place(strings, loaded) + value
            end = data.find(b"\0", place)
            if end < 0:
                raise ValueError("its strings are cut off")
            needed.append(data[place:end][:200].decode("ascii", "replace"))
    wanted = max(((int(a), int(b)) for a, b in _GLIBC.findall(data)), default=(0, 0))
    return Object(
        machine=_MACHINES.get(machine, f"machine {machine}"), needed=tuple(needed), glibc=wanted
    )


def _dynamic(data: bytes, at: int, length: int) -> Iterator[tuple[int, int]]:
    for number in range(min(length // _ENTRY.size, _MAX_ENTRIES)):
        tag, value = _ENTRY.unpack_from(data, at + number * _ENTRY.size)
        if tag == 0:
            return
        yield tag, value


def _place(address: int, loaded: list[tuple[int, int, int]]) -> int:
    for at, begin, length in loaded:
        if begin <= address < begin + length:
            return at + address - begin
    raise ValueError("its strings are not in it")
