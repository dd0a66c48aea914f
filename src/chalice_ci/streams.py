"""Standard streams that cannot end a deploy: closed, full, narrow or left by their reader."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class Steady(io.TextIOWrapper):
    """A stream whose writes never fail; `lost` says what went wrong the first time.

    `chalice-ci deploy 2>&1 | head -3` takes the reader away in the middle of a deploy: what is
    said afterwards goes nowhere, what is done goes on. A character that the locale does not have
    becomes a question mark.
    """

    lost: OSError | None = None

    def write(self, text: str, /) -> int:
        """Write; the length of the text, whatever became of it."""
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if self.lost is None:
            self.lost = error
        # What is buffered below goes there too, instead of failing again when we exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def open_descriptors() -> None:
    """Open 0, 1 and 2 where the caller closed them.

    Else the next file or pipe of ours gets that number, and what a child prints goes into it.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)


def steady(stream: TextIO | None, descriptor: int) -> Steady:
    """The stream in a form that never fails; `None` is what Python makes of a closed one."""
    if isinstance(stream, io.TextIOWrapper):
        # With PYTHONUNBUFFERED nothing lies between text and file; we keep whole lines together.
        encoding, lines = stream.encoding, stream.line_buffering or stream.write_through
        below = stream.detach()
        if isinstance(below, io.RawIOBase):
            below = io.BufferedWriter(below)
        return Steady(below, encoding=encoding, errors="replace", line_buffering=lines)
    return Steady(os.fdopen(descriptor, "wb"), encoding="utf-8", errors="replace")


def take_over() -> tuple[Steady, Steady]:
    """Make stdout and stderr of this process steady, and return them."""
    open_descriptors()
    out, err = steady(sys.stdout, 1), steady(sys.stderr, 2)
    sys.stdout, sys.stderr = out, err
    return out, err
