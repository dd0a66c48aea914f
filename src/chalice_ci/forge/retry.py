"""When a request to a forge may be repeated, and how long to wait before that.

Three kinds of trouble.  *Refused before it began* (a rate limit): anything may be repeated, after
the time that was asked for.  *Uncertain* (a server's error, no answer, half an answer): reading,
replacing and deleting may be repeated; creating only after a look has shown that it did not
happen.  *Final*: everything else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from chalice_ci.errors import ForgeError

ATTEMPTS = 5
"""How often something uncertain is tried. What was refused is tried as long as the waits allow."""
LONGEST_WAIT = 60.0
ALL_WAITS = 150.0
"""Seconds: a wait that a forge asks for above these ends the operation instead."""
PATIENT_WAITS = 270.0
"""Seconds for what must not be lost, the state: less than what a lease has left when it is renewed
at its half, so that who waits to renew it does not outlive it.
"""
SPREAD = 0.25
"""The jobs of a matrix are refused in the same second. Each waits up to this part longer than it
was asked to, so that they do not all come back in the same second either.
"""

_T = TypeVar("_T")


class Kind(Enum):
    """Whether what failed may be repeated."""

    REFUSED = auto()
    UNCERTAIN = auto()
    FINAL = auto()


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What went wrong: `error` is raised when nothing more is tried, `wait` what was asked for."""

    kind: Kind
    error: ForgeError
    wait: float | None = None


class Retry:
    """Repeats operations by those rules; sleeping and chance are arguments."""

    def __init__(
        self,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._sleep = sleep
        self._jitter = jitter
        self._attempts = attempts

    def run(
        self,
        ask: Callable[[], _T | Trouble],
        *,
        happened: Callable[[], _T | None] | None = None,
        patient: bool = False,
    ) -> _T:
        """What `ask` gives; it may be repeated as it is unless `happened` is given.

        `happened` looks whether an uncertain attempt took effect, and gives its result. `patient`
        waits longer for what a forge asks to wait for.
        """
        bound = PATIENT_WAITS if patient else ALL_WAITS
        longest = PATIENT_WAITS if patient else LONGEST_WAIT
        waited = 0.0
        attempt = 1
        while True:
            answer = ask()
            if not isinstance(answer, Trouble):
                return answer
            if answer.kind is Kind.FINAL:
                raise answer.error
            asked = answer.wait
            # Never less than the usual pause: a forge may ask to wait for no time at all.
            spread = (asked or 0.0) * (1 + SPREAD * self._jitter())
            wait = max(spread, self._pause(attempt))
            last = attempt >= self._attempts and answer.kind is Kind.UNCERTAIN
            if (asked or 0.0) > longest or waited + wait > bound:
                last, wait = True, 0.0
            # Also after the last attempt: it may have succeeded without telling.
            looking = happened is not None and answer.kind is Kind.UNCERTAIN
            if last and not looking:
                raise answer.error
            self._sleep(wait)
            waited += wait
            if looking and happened is not None and (found := happened()) is not None:
                return found
            if last:
                raise answer.error
            attempt += 1

    def _pause(self, attempt: int) -> float:
        return min(8.0, 0.5 * 2.0 ** (attempt - 1)) * (0.5 + self._jitter() / 2)
