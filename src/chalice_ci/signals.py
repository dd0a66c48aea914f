"""SIGTERM and SIGINT as exceptions of the main thread that do not get lost on their way.

A handler runs wherever the main thread is, and what it raises there may do harm or be dropped:

- An import that is left in the middle can keep its module's lock, for which another thread then
  waits for ever; one that a module in C began ends as an ImportError. So imports are not disturbed.
- Python's own modules for threads and processes take a lock in one step and see to its release in
  the next. So what is in them is left alone, unless it waits there.
- Python reports what a finalizer raises and goes on, and says nothing at all when a file is closed
  by one (HTTP responses and sockets are such files). So each exception carries a mark: when that is
  freed and the run has not ended, nobody heard the signal, and it is raised again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import FrameType

_AGAIN_SECONDS = 0.02
_TELLING_SECONDS = 5.0
"""Whoever reads what is told may have stopped reading, and holds up its writer then."""
_INDIVISIBLE = frozenset(
    {
        *("subprocess", "threading", "queue", "concurrent.futures._base"),
        *("concurrent.futures.thread", "contextlib"),
    }
)
"""Modules whose steps belong together: from contextlib on, cleaning up is on its way."""


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt so that cleaning up happens."""


class _Mark:
    """Lives as long as the exception that has it: a KeyboardInterrupt cannot be watched itself, and
    a subclass of it is not what `subprocess` takes for one.
    """

    def __str__(self) -> str:
        return ""


@dataclass
class Told:
    """What the first signal would have raised, if one came."""

    error: BaseException | None = None
    ending: bool = False
    """Only what must be done at the end is left: SIGTERM, that CI sends after SIGINT, does not
    break it off either.
    """


class Signals:
    """Raises the signals of a run, and knows which of them are being cleaned up after."""

    def __init__(self) -> None:
        self.over = False
        """The run has ended: set before anything is told, so that nothing comes in between."""
        self._alive: dict[weakref.ref[_Mark], signal.Signals] = {}
        self._pending = signal.SIGTERM
        self._held: Told | None = None
        self._seen: tuple[FrameType, int] | None = None
        self._leaving = False

    def listen(self) -> None:
        """From now on SIGTERM and SIGINT are raised in the main thread, wherever that is."""
        # As PID 1 in a container SIGINT has no default handler either.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)
        signal.signal(signal.SIGALRM, self._again)
        sys.unraisablehook = _reported

    @contextlib.contextmanager
    def held(self) -> Iterator[Told]:
        """Meanwhile the first signal is told, and raised at the end; the next is raised at once.

        For what must not be left in the middle, and looks whether a signal came.
        """
        held = self._held = Told()
        try:
            yield held
        finally:
            self._held = None
            if held.error is not None:
                raise held.error

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Meanwhile the first signal is raised at once, also where it is only told otherwise.

        For what may be left in the middle and may take long, such as reading from AWS.
        """
        held, self._held = self._held, None
        try:
            if held is not None and held.error is not None:
                raise held.error
            yield
        finally:
            self._held = held

    def _hear(self, number: int, frame: FrameType | None) -> None:
        heard = signal.Signals(number)
        # Cleaning up is not interrupted by another SIGTERM; two Ctrl-C are meant.
        held = self._held
        ending = held is not None and held.ending and held.error is not None
        cleaning = heard is signal.SIGTERM and (ending or heard in self._alive.values())
        if self.over:
            self._leave_soon(heard)
            return
        if cleaning:
            return
        if held is not None and held.error is None:
            held.error = self._error(heard)
        elif self._may_leave(frame):
            raise self._error(heard)
        else:
            self._later(heard)

    def _may_leave(self, frame: FrameType | None) -> bool:
        """Whether an exception does no harm here."""
        if frame is None:
            return True
        before, self._seen = self._seen, None
        if _is_importing(frame):
            return False
        if frame.f_globals.get("__name__") not in _INDIVISIBLE:
            return True
        here = (frame, frame.f_lasti)
        if here == before:
            # It waits there.
            return True
        self._seen = here
        return False

    def _error(self, heard: signal.Signals) -> BaseException:
        # Not in the handler, whose frame its traceback holds: the two would hold each other.
        mark = _Mark()
        self._alive[weakref.ref(mark, partial(self._freed, heard))] = heard
        return Terminated(mark) if heard is signal.SIGTERM else KeyboardInterrupt(mark)

    def _freed(self, heard: signal.Signals, mark: weakref.ref[_Mark]) -> None:
        del self._alive[mark]
        if not self._alive and not self.over:
            self._later(heard)

    def _later(self, heard: signal.Signals) -> None:
        # By a timer of the system, because a thread takes locks, which may be held here.
        self._pending = heard
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)

    def _again(self, _number: int, frame: FrameType | None) -> None:
        if self._leaving:
            # What a shell says of a process that a signal ended.
            os._exit(128 + self._pending)
        self._hear(self._pending, frame)

    def ended_by(self, error: BaseException) -> None:
        """The run is over; one that a signal ended has a moment to tell it."""
        self.over = True
        if isinstance(error, Terminated):
            self._leave_soon(signal.SIGTERM)
        elif isinstance(error, KeyboardInterrupt):
            self._leave_soon(signal.SIGINT)

    def _leave_soon(self, heard: signal.Signals) -> None:
        if not self._leaving:
            self._leaving, self._pending = True, heard
            signal.setitimer(signal.ITIMER_REAL, _TELLING_SECONDS)


def hear_no_more() -> None:
    """All is done: nothing may come between the code and the end of the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _is_importing(frame: FrameType) -> bool:
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        outer = outer.f_back
    return False


def _reported(dropped: sys.UnraisableHookArgs) -> None:
    # Ours come again, so there is nothing to tell.
    if not issubclass(dropped.exc_type, (Terminated, KeyboardInterrupt)):
        sys.__unraisablehook__(dropped)
