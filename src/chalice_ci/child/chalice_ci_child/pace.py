"""How many calls are under way at once: fewer when AWS throttles, more again when it does not.

Who waits for a function to become active has no call under way, so many functions can be waited
for at once. Additive increase, multiplicative decrease, as TCP does it.

Standard library only; Python 3.10.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WIDEST = 25
"""How many calls that change something are under way at once at most. Lambda's control plane is
said to take 15 a second, and such a call takes it a second or so: when it is too many, it says so.
"""
WIDEST_READS = 32
"""How many calls that only read: Lambda takes a hundred GetFunction a second."""

_WIDER = 0.25
# Calls that are refused together tell of one jam, not of many.
_CALM_SECONDS = 0.5
_LOOK_SECONDS = 0.2


class Pace:
    """Shared by the threads of a deploy; `widest` is how many calls there may be at once."""

    def __init__(self, widest: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._widest = float(widest)
        self._width = self._widest
        self._busy = 0
        self._slowed = float("-inf")

    @property
    def width(self) -> int:
        """How many calls may be under way at once now."""
        return int(self._width)

    def enter(self, check: Callable[[], None]) -> None:
        """Wait for a place; `check` raises when it is not worth waiting any more."""
        with self._changed:
            while self._busy >= self.width:
                self._changed.wait(_LOOK_SECONDS)
                check()
            self._busy += 1

    def leave(self) -> None:
        """Give the place back."""
        with self._changed:
            self._busy -= 1
            self._width = min(self._widest, self._width + _WIDER)
            self._changed.notify_all()

    def slow_down(self) -> None:
        """Take note of a call that was one too many."""
        with self._changed:
            now = self._clock()
            if now - self._slowed >= _CALM_SECONDS:
                self._slowed = now
                self._width = max(1.0, self._width / 2)
