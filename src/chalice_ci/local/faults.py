"""Faults on order: what happens at the N-th mutating call, before or after it is executed.

For tests that end a deploy at every point: `POST /chalice-ci/faults` with a list of orders.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chalice_ci.local.operations import Operation

Action = Literal["error", "drop", "hang", "kill"]
When = Literal["before", "after"]

_DEFAULTS: dict[str, Any] = {
    "service": "",
    "operation": "",
    "resource": "",
    "nth": 1,
    "times": 1,
    "when": "before",
    "action": "error",
    "reads": False,
    "status": 500,
    "code": "InternalFailure",
    "message": "a fault was ordered for this call",
    "retry_after": 0.0,
    "seconds": 600.0,
    "pid": 0,
}
_CHOICES = {"when": ("before", "after"), "action": ("error", "drop", "hang", "kill")}


@dataclass(kw_only=True)
class Fault:
    """One order.

    It counts the calls that match `service`, `operation` and `resource` (a part of the name;
    empty matches all), mutating ones only unless `reads`, and acts on the `nth` of them and on
    the following `times` - 1, `before` or `after` the call is executed.

    `error` answers with `status`, `code` and `message`, and asks to wait for `retry_after` seconds
    if that is not 0; `drop` closes the connection without an
    answer; `hang` holds the call until it is released or `seconds` passed, then closes the
    connection; `kill` sends SIGKILL to `pid`, then closes the connection.
    """

    number: int
    service: str
    operation: str
    resource: str
    nth: int
    times: int
    when: When
    action: Action
    reads: bool
    status: int
    code: str
    message: str
    retry_after: float
    seconds: float
    pid: int
    seen: int = 0
    fired: int = 0
    holding: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def counts(self, operation: Operation) -> bool:
        """Whether this is the call: counts it when it matches."""
        if not (operation.mutating or (self.reads and operation.name)):
            return False
        if self.service and self.service != operation.service:
            return False
        if self.operation and self.operation != operation.name:
            return False
        if self.resource not in operation.resource:
            return False
        self.seen += 1
        if not self.nth <= self.seen < self.nth + self.times:
            return False
        self.fired += 1
        return True

    def as_json(self) -> dict[str, object]:
        """The order and what became of it."""
        shown = {name: getattr(self, name) for name in ("number", *_DEFAULTS)}
        return {**shown, "seen": self.seen, "fired": self.fired, "holding": self.holding}


class ConnectionDropped(ConnectionError):
    """The connection has to be closed without an answer."""


class Faults:
    """The standing orders; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: tuple[Fault, ...] = ()
        self._numbers = itertools.count(1)

    def order(self, documents: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
        """Replace all orders; what hangs is released. Raises ValueError for one that is wrong."""
        new = tuple(self._read(document) for document in documents)
        with self._lock:
            old, self._faults = self._faults, new
        for fault in old:
            fault.released.set()
        return [fault.as_json() for fault in new]

    def release(self) -> None:
        """Let go of every call that hangs."""
        for fault in self._faults:
            fault.released.set()

    def as_list(self) -> list[dict[str, object]]:
        """All orders as JSON objects."""
        return [fault.as_json() for fault in self._faults]

    def due(self, operation: Operation) -> Fault | None:
        """The order that this call meets, if any; counts the call for each of them."""
        with self._lock:
            met = [fault for fault in self._faults if fault.counts(operation)]
        return met[0] if met else None

    def carry_out(self, fault: Fault) -> None:
        """Hang or kill as ordered; the connection has to be closed afterwards."""
        if fault.action == "hang":
            with self._lock:
                fault.holding += 1
            fault.released.wait(fault.seconds)
            with self._lock:
                fault.holding -= 1
        elif fault.action == "kill":
            os.kill(fault.pid, signal.SIGKILL)

    def _read(self, document: Mapping[str, Any]) -> Fault:
        if unknown := set(document) - set(_DEFAULTS):
            raise ValueError(f"unknown keys {sorted(unknown)}; known are {sorted(_DEFAULTS)}")
        values = {**_DEFAULTS, **document}
        for name, default in _DEFAULTS.items():
            value = values[name]
            if isinstance(default, float) and type(value) is int:
                values[name] = float(value)
            elif type(value) is not type(default):
                raise ValueError(f"{name} must be a {type(default).__name__}")
            if name in _CHOICES and value not in _CHOICES[name]:
                raise ValueError(f"{name} must be one of {_CHOICES[name]}")
        if values["nth"] < 1 or values["times"] < 1:
            raise ValueError("nth and times count from 1")
        if values["action"] == "kill" and values["pid"] <= 1:
            raise ValueError("kill needs the pid of a process")
        return Fault(number=next(self._numbers), **values)
