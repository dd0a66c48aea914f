"""What a gap is: one thing that moto lacks for Chalice, and the few lines that fill it.

A gap wraps or adds methods of moto's classes.
That is only ever done in the process of the embedded AWS, before it serves its first request.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Method = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Around:
    """Wrap moto's own method: the wrapper gets the original first, then its arguments."""

    owner: type
    name: str
    wrapper: Method

    def apply(self) -> None:
        """Put the wrapper in place of the method."""
        original = getattr(self.owner, self.name)

        @functools.wraps(original)
        def method(*args: Any, **kwargs: Any) -> Any:
            return self.wrapper(original, *args, **kwargs)

        setattr(self.owner, self.name, method)


@dataclass(frozen=True, kw_only=True)
class Added:
    """Give moto's class a method that it doesn't have."""

    owner: type
    name: str
    method: Method

    def apply(self) -> None:
        """Add the method; one that moto has by now is left alone, the gap's test tells us."""
        if not hasattr(self.owner, self.name):
            setattr(self.owner, self.name, self.method)


@dataclass(frozen=True, kw_only=True)
class Route:
    """Give moto's URL tables a pattern that they don't have."""

    tables: tuple[dict[str, Any], ...]
    pattern: str
    handler: Any

    def apply(self) -> None:
        """Add the pattern to each table.

        The version 2 API of API Gateway signs as version 1, so its patterns belong in both tables.
        """
        for table in self.tables:
            table.setdefault(self.pattern, self.handler)


Patch = Around | Added | Route


@dataclass(frozen=True, kw_only=True)
class Gap:
    """One thing that moto lacks.

    `lacks` is what moto does instead, `hits` which Chalice apps notice.
    """

    name: str
    lacks: str
    hits: str
    patches: tuple[Patch, ...]

    def fill(self) -> None:
        """Apply the patches, in order."""
        for patch in self.patches:
            patch.apply()
