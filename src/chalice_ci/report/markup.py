"""HTML and SVG from text that others wrote: the only module that knows how it is escaped.

A `Markup` is a text that was made here; whatever else is put into an element is escaped. Texts are
made visible first, so that nothing in them reorders or hides the page around them.
"""

from __future__ import annotations

from html import escape

from chalice_ci.neutral import visible


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Markup | None

_VOID = frozenset({"br", "hr", "meta", "rect", "path", "circle"})


def element(tag: str, *content: Content, **attributes: str | float | None) -> Markup:
    """An element; an attribute that is None is left out, `class_` is `class`, `x_y` is `x-y`."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(_number(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}/>")
    return Markup(f"<{tag}{given}>{joined(*content)}</{tag}>")


def joined(*content: Content, by: str = "") -> Markup:
    """Pieces one after another; what is no markup is escaped."""
    return Markup(by.join(text(piece) for piece in content if piece is not None))


def text(value: str) -> str:
    """A text as HTML, in an element or in a quoted attribute."""
    if isinstance(value, Markup):
        return value
    return escape(visible(value), quote=True)


def clipped(value: str, limit: int) -> str:
    """At most `limit` characters."""
    value = " ".join(visible(value).split())
    return value if len(value) <= limit else f"{value[: limit - 1]}…"


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
