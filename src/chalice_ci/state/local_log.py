"""The journal on this machine's disk: each call's intent before it is made, its result after.

A line of JSON each. An intent is on the device before its call is made; everything written before
it is too. A process that is killed leaves a log from which the next one on this machine takes up
what it knew; a line that was cut off is the last one and counts for nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalice_ci.errors import naming

MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a log says: resources that stand, names that are gone, calls whose result is unknown."""

    standing: tuple[Mapping[str, object], ...]
    gone: frozenset[str]
    in_flight: tuple[str, ...]


class LocalLog:
    """An open log of the holder `token` of a stage; appends only."""

    def __init__(self, path: Path, token: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        # Whether the last line may have been cut off: the next one must not be glued to it.
        self._torn = False
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            self._append({"token": token}, durable=True)
        except OSError:
            os.close(self._descriptor)
            raise

    def intent(self, number: int, call: str, resource: str) -> None:
        """Note a call before it is made; on the device when this returns."""
        self._append({"intent": [number, call, resource]}, durable=True)

    def result(self, number: int, ok: bool, code: str) -> None:
        """Note what came of a call."""
        self._append({"result": [number, ok, code]})

    def stands(self, resource: Mapping[str, object]) -> None:
        """Note a resource that stands."""
        self._append({"stands": dict(resource)})

    def gone(self, name: str) -> None:
        """Note a resource that is gone."""
        self._append({"gone": name})

    def close(self, *, forget: bool) -> None:
        """End the log; remove it when all of it is recorded elsewhere."""
        os.close(self._descriptor)
        if forget:
            self.path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any], *, durable: bool = False) -> None:
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        view = memoryview(b"\n" + line if self._torn else line)
        self._torn = True
        with naming(self.path):
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._torn = False
            if durable:
                os.fdatasync(self._descriptor)


def log_path(folder: Path, store: str, file: str) -> Path:
    """Where the log of a stage is kept on this machine."""
    name = hashlib.sha256(f"{store}\0{file}".encode()).hexdigest()[:32]
    return folder / "journals" / f"{name}.jsonl"


def replay(path: Path, token: int) -> Replayed | None:
    """What the log of the holder `token` says; None when there is no log of that holder here."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        lines = file.read(MAX_BYTES).split(b"\n")
    standing: dict[str, dict[str, object]] = {}
    gone: set[str] = set()
    calls: dict[int, str] = {}
    entries = []
    for line in lines[:-1]:
        with contextlib.suppress(ValueError, RecursionError):
            entries.append(json.loads(line))
    if not entries or entries[0] != {"token": token}:
        return None
    for entry in entries[1:]:
        match entry:
            case {"intent": [int(number), str(call), str(resource)]}:
                calls[number] = f"{call} {resource}"
            case {"result": [int(number), *_]}:
                calls.pop(number, None)
            case {"stands": {"name": str(name), **_other}}:
                standing.setdefault(name, {}).update(entry["stands"])
                gone.discard(name)
            case {"gone": str(name)}:
                gone.add(name)
                standing.pop(name, None)
    return Replayed(
        standing=tuple(standing.values()),
        gone=frozenset(gone),
        in_flight=tuple(calls.values()),
    )
