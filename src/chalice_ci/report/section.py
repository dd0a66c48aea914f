"""Parts of a page that show as many whole blocks as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from chalice_ci.report import markdown as md

Measure = Callable[[str], int]
"""How long a text is, in the unit of a page's limit."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Whole blocks between a head and a tail, and what they are called when some are left out.

    `total` counts all of them: those that no page has room for are never made.
    """

    blocks: tuple[str, ...]
    total: int
    noun: tuple[str, str]
    head: str = ""
    tail: str = ""

    def shown(self, count: int, rest: str) -> str:
        """The first `count` blocks, and how many are not shown: `rest` says where they are."""
        left = self.total - count
        more = f"… and {left} more {self.noun[left != 1]}: {rest}." if left else ""
        parts = (self.head, *self.blocks[:count], more, self.tail)
        return "\n\n".join(part for part in parts if part)

    def fitted(self, room: int, measure: Measure, rest: str) -> str:
        """As many blocks as there is room for."""
        low, high = -1, len(self.blocks)
        while low < high:
            middle = (low + high + 1) // 2
            if measure(self.shown(middle, rest)) <= room:
                low = middle
            else:
                high = middle - 1
        return self.shown(low, rest) if low >= 0 else ""


def section(
    made: Iterable[str],
    total: int,
    noun: tuple[str, str],
    *,
    room: int,
    title: str = "",
    opened: bool = False,
) -> Iterator[Section]:
    """A section with as many blocks as could fill the room, folded when it has a title."""
    blocks: list[str] = []
    size = 0
    for block in made:
        blocks.append(block)
        size += len(block)
        if size > room:
            break
    if not blocks:
        return
    head = f"<details{' open' if opened else ''}><summary>{md.text(title, 240)}</summary>"
    yield Section(
        blocks=tuple(blocks),
        total=total,
        noun=noun,
        head=head if title else "",
        tail="</details>" if title else "",
    )
