"""What fills the package as a treemap: areas are bytes. squarify lays the rectangles out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import squarify

from chalice_ci.contents import Group, Part
from chalice_ci.report.markup import Markup, clipped, element, joined
from chalice_ci.report.sizes import human_size

WIDTH, HEIGHT = 1100.0, 460.0
_HEAD = 17.0
_TONES = 8
_CHARACTER = 6.3
"""The mean width of a letter at 11 px."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float


def boxes(sizes: Sequence[int], box: Box) -> tuple[Box, ...]:
    """A rectangle for each size, largest first; all sizes are above zero."""
    if not sizes or box.width <= 0 or box.height <= 0:
        return ()
    scaled = squarify.normalize_sizes(list(sizes), box.width, box.height)
    made = squarify.squarify(scaled, box.x, box.y, box.width, box.height)
    return tuple(Box(x=r["x"], y=r["y"], width=r["dx"], height=r["dy"]) for r in made)


def treemap(groups: tuple[Group, ...]) -> Markup:
    """The picture as SVG; empty for an empty package."""
    shown = tuple(group for group in groups if group.size > 0)
    if not shown:
        return Markup("")
    total = sum(group.size for group in shown)
    page = Box(x=0, y=0, width=WIDTH, height=HEIGHT)
    placed = boxes([group.size for group in shown], page)
    return element(
        "svg",
        *(
            _group(group, box, number, total)
            for number, (group, box) in enumerate(zip(shown, placed, strict=True))
        ),
        class_="treemap",
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        aria_label="What fills the package",
    )


def _group(group: Group, box: Box, number: int, total: int) -> Markup:
    name = group.name or "own files"
    about = f"{name}: {human_size(group.size)}, {group.size / total:.0%}, {group.files} files"
    tone = "own" if not group.name else f"tone{number % _TONES}"
    headed = box.height > 2.5 * _HEAD and box.width > 40
    label = _label(f"{name} · {human_size(group.size)}", box, "head") if headed else Markup("")
    inner = Box(
        x=box.x + 1,
        y=box.y + (_HEAD if headed else 1),
        width=box.width - 2,
        height=box.height - (_HEAD + 1 if headed else 2),
    )
    return element(
        "g",
        _rectangle(box, "group"),
        element("title", about),
        *_parts(group, inner),
        label,
        class_=tone,
    )


def _parts(group: Group, inner: Box) -> Iterator[Markup]:
    parts = [part for part in group.parts if part.size > 0]
    for part, box in zip(parts, boxes([part.size for part in parts], inner), strict=False):
        yield element(
            "g",
            _rectangle(box, "part"),
            element("title", f"{part.name}: {human_size(part.size)}"),
            _label(_short(part), box, "small") if box.height > 14 and box.width > 50 else None,
        )


def _short(part: Part) -> str:
    return part.name.rpartition("/")[2] if part.files == 1 else part.name


def _rectangle(box: Box, kind: str) -> Markup:
    return element(
        "rect",
        x=box.x,
        y=box.y,
        width=max(box.width, 0),
        height=max(box.height, 0),
        class_=kind,
    )


def _label(text: str, box: Box, kind: str) -> Markup:
    room = int((box.width - 8) / _CHARACTER)
    if room < 4:
        return Markup("")
    return joined(element("text", clipped(text, room), x=box.x + 4, y=box.y + 12.5, class_=kind))
