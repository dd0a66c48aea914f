"""What a run says on stderr while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from chalice_ci.neutral import neutralise


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Lines for a person, each under the job it belongs to; nothing at all when quiet.

    Texts may come from the app or from AWS: they are made harmless here, and `redact` takes out
    what nobody may read.
    """

    stream: TextIO
    quiet: bool = False
    redact: Callable[[str], str] = str

    def say(self, text: str, *, job: str = "") -> None:
        """Write one step."""
        if self.quiet:
            return
        head = f"{job}: " if job else ""
        for line in neutralise(self.redact(text)).split("\n"):
            self.stream.write(neutralise(head + line) + "\n")
        self.stream.flush()

    def of(self, job: str) -> Callable[[str], None]:
        """A function that says things about one job."""
        return lambda text: self.say(text, job=job)
