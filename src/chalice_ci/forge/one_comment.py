"""The one comment of a forge that lists a pull request's comments in pages."""

from __future__ import annotations

from abc import ABC, abstractmethod

from chalice_ci.context import RunOrder
from chalice_ci.forge.port import (
    DEFAULT_KEY,
    MAX_COMMENT,
    Comment,
    CommentPages,
    Past,
    Upserted,
    sticky,
    upsert,
)


class OneComment(ABC):
    """Finds and writes our comment on a pull request, as `port.Forge` says it."""

    largest_comment = MAX_COMMENT

    @abstractmethod
    def _pages(self, number: int) -> CommentPages:
        """The comments of a pull request."""

    def _kept(self, body: str) -> str:
        """A text in the form in which this forge shows and keeps it."""
        return body

    def sticky_comment(self, number: int, *, key: str = DEFAULT_KEY) -> Comment | None:
        """Our comment, found by author and marker."""
        return sticky(self._pages(number), key)

    def upsert_comment(
        self,
        number: int,
        body: str,
        *,
        run: RunOrder,
        key: str = DEFAULT_KEY,
        history: tuple[Past, ...] = (),
    ) -> Upserted:
        """Make or rewrite our one comment."""
        return upsert(
            self._pages(number),
            self._kept(body),
            key=key,
            run=run,
            history=history,
            largest=self.largest_comment,
        )
