"""SIGTERM and SIGINT as exceptions of the main thread that do not get lost on their way.

A handler runs wherever the main thread is, and what it raises may be dropped there: Python reports
what a finalizer raises and goes on, and says nothing at all when a file is closed by one (HTTP
responses and sockets are such files). So each exception is watched: one that dies before the run
has ended was heard by nobody, and its signal is sent again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from functools import partial
from types import FrameType

_AGAIN_SECONDS = 0.05


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt so that cleaning up happens."""


class Interrupted(KeyboardInterrupt):
    """SIGINT arrived. A KeyboardInterrupt itself cannot be watched."""


def listen() -> None:
    """From now on SIGTERM and SIGINT are raised in the main thread, wherever that is."""
    watch = _Watch()
    signal.signal(signal.SIGTERM, watch.terminate)
    # As PID 1 in a container SIGINT has no default handler either.
    signal.signal(signal.SIGINT, watch.interrupt)
    sys.unraisablehook = _reported


def hear_no_more() -> None:
    """All is done: nothing may come between the code and the end of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _reported(dropped: sys.UnraisableHookArgs) -> None:
    # Ours come again, so there is nothing to tell.
    if not issubclass(dropped.exc_type, (Terminated, KeyboardInterrupt)):
        sys.__unraisablehook__(dropped)


class _Watch:
    """What was raised and is still on its way, or is being cleaned up after."""

    def __init__(self) -> None:
        self._alive: list[weakref.ref[BaseException]] = []

    def terminate(self, number: int, _frame: FrameType | None) -> None:
        # Cleaning up is not interrupted by another one.
        if not any(isinstance(one(), Terminated) for one in self._alive):
            raise self._watched(Terminated(), number)

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        raise self._watched(Interrupted(), number)

    def _watched(self, error: BaseException, number: int) -> BaseException:
        self._alive.append(weakref.ref(error, partial(self._died, number)))
        return error

    def _died(self, number: int, ref: weakref.ref[BaseException]) -> None:
        self._alive.remove(ref)
        if self._alive or signal.getsignal(number) is signal.SIG_IGN:
            return
        # Later: here it would be lost again.
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
