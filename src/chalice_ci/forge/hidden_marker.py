"""The marker of our comment where an HTML comment would be shown. Pure.

A Markdown link definition that nothing refers to is shown as nothing by every renderer.
"""

from __future__ import annotations

import re

_HTML = re.compile(r"<!-- chalice-ci (\{[^\r\n]{0,900}?\}) -->\r?\n")
_HIDDEN = re.compile(r"\[chalice-ci\]: # \((\{[^\r\n]{0,900}?\})\)(?:\r?\n\r?\n|$)")


def hidden(body: str) -> str:
    """A marked text with its marker as a link definition."""
    return _HTML.sub(lambda match: f"[chalice-ci]: # ({match[1]})\n\n", body, count=1)


def shown(body: str) -> str:
    """A text of the forge with the marker that `port.py` reads."""
    return _HIDDEN.sub(lambda match: f"<!-- chalice-ci {match[1]} -->\n", body, count=1)
