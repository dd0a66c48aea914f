"""The journal of API calls that the embedded AWS served."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass

_KEPT = 200_000

Need = tuple[str, str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Served:
    """One served call.

    `status` is the HTTP status, 0 when the connection was closed without an answer; `error` AWS's
    code; `needs` the permissions that the call needs on AWS: action, resource, keys of conditions;
    `bytes` the size of the request's body; `given` the name or id that AWS gave out; `started`
    seconds since the epoch.
    """

    number: int
    started: float
    seconds: float
    service: str
    operation: str
    region: str
    resource: str
    given: str
    mutating: bool
    status: int
    error: str
    needs: tuple[Need, ...]
    bytes: int


class Journal:
    """Served calls in the order of their answers; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Served] = deque(maxlen=_KEPT)
        self._number = 0
        self.last_activity = time.monotonic()

    def add(
        self,
        *,
        started: float,
        seconds: float,
        service: str,
        operation: str,
        region: str,
        resource: str,
        given: str,
        mutating: bool,
        status: int,
        error: str,
        needs: tuple[Need, ...],
        size: int,
    ) -> None:
        """Note one call."""
        with self._lock:
            self._number += 1
            self.last_activity = time.monotonic()
            self._calls.append(
                Served(
                    number=self._number,
                    started=started,
                    seconds=seconds,
                    service=service,
                    operation=operation,
                    region=region,
                    resource=resource,
                    given=given,
                    mutating=mutating,
                    status=status,
                    error=error,
                    needs=needs,
                    bytes=size,
                )
            )

    def as_list(self) -> list[dict[str, object]]:
        """All calls as JSON objects."""
        with self._lock:
            return [asdict(call) for call in self._calls]

    def clear(self) -> None:
        """Forget all calls; the next one is number 1."""
        with self._lock:
            self._calls.clear()
            self._number = 0
