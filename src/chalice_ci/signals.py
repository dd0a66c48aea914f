"""SIGTERM and SIGINT as exceptions of the main thread that do not get lost on their way.

A handler runs wherever the main thread is, and what it raises may be dropped there: Python reports
what a finalizer raises and goes on, and says nothing at all when a file is closed by one (HTTP
responses and sockets are such files). So what SIGTERM raises is watched: when it dies before the
run has ended, nobody heard it, and the signal is sent again. A KeyboardInterrupt cannot be watched;
it is sent again where Python reports it, and a person presses Ctrl-C twice.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from types import FrameType

_AGAIN_SECONDS = 0.05


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt so that cleaning up happens."""


def listen() -> None:
    """From now on SIGTERM and SIGINT are raised in the main thread, wherever that is."""
    signal.signal(signal.SIGTERM, _Watch().terminate)
    # As PID 1 in a container SIGINT has no default handler either.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _reported


def hear_no_more() -> None:
    """All is done: nothing may come between the code and the end of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _reported(dropped: sys.UnraisableHookArgs) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        _send_again(signal.SIGINT)
    # A Terminated comes again by itself.
    elif not issubclass(dropped.exc_type, Terminated):
        sys.__unraisablehook__(dropped)


def _send_again(number: int) -> None:
    # Later: here it would be lost again.
    again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


class _Watch:
    """Whether what SIGTERM raised is still on its way, or is being cleaned up after."""

    def __init__(self) -> None:
        self._alive: weakref.ref[Terminated] | None = None

    def terminate(self, _number: int, _frame: FrameType | None) -> None:
        # Cleaning up is not interrupted by another one.
        if self._alive is None:
            raise self._watched(Terminated())

    def _watched(self, error: Terminated) -> Terminated:
        self._alive = weakref.ref(error, self._died)
        return error

    def _died(self, _ref: weakref.ref[Terminated]) -> None:
        self._alive = None
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            _send_again(signal.SIGTERM)
