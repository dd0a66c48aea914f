"""The application graph as Mermaid, which GitHub draws from a fenced block in a comment.

Mermaid has no way to quote a text: every character that could mean something to it, to Markdown or
to HTML is written as its entity (`#` and the decimal code, mermaid.js.org/syntax/flowchart).
"""

from __future__ import annotations

import re

from chalice_ci.difference.changes import Kind
from chalice_ci.difference.diagram import Diagram, Shape, readable
from chalice_ci.neutral import one_line

NODES = 32
"""More are no picture in the width of a comment."""
LABEL = 48
_UNSAFE = re.compile(r"[^A-Za-z0-9 ./_-]")
_SHAPES = {
    Shape.DOMAIN: ('(["', '"])'),
    Shape.API: ('(["', '"])'),
    Shape.TRIGGER: ('>"', '"]'),
    Shape.ROUTE: ('["', '"]'),
    Shape.FUNCTION: ('[["', '"]]'),
    Shape.LAYER: ('[/"', '"/]'),
    Shape.ROLE: ('{{"', '"}}'),
}
_SIGNS = {Kind.ADDED: "+ ", Kind.CHANGED: "~ ", Kind.REMOVED: "- "}
# Fills that are read on GitHub's light and on its dark page.
_CLASSES = {
    Kind.ADDED: "fill:#1a7f37,stroke:#2da44e,color:#ffffff",
    Kind.CHANGED: "fill:#9a6700,stroke:#d4a72c,color:#ffffff",
    Kind.REMOVED: "fill:#cf222e,stroke:#ff8182,color:#ffffff,stroke-dasharray:4 3",
}


def mermaid(diagram: Diagram, *, limit: int = NODES) -> str:
    """The text of a flowchart, without its fence; empty when there is nothing to draw."""
    shown = readable(diagram, limit)
    if not shown.nodes:
        return ""
    names = {node.id: f"n{number}" for number, node in enumerate(shown.nodes)}
    lines = ["flowchart LR"]
    for node in shown.nodes:
        opened, closed = _SHAPES[node.shape]
        sign = _SIGNS[node.state] if node.state else ""
        mark = f":::{node.state.value}" if node.state else ""
        lines.append(f"  {names[node.id]}{opened}{_label(sign + node.label)}{closed}{mark}")
    lines += [f"  {names[edge.source]} --> {names[edge.target]}" for edge in shown.edges]
    if shown.left_out:
        lines.append(f'  more["{shown.left_out} more"]')
    used = {node.state for node in shown.nodes}
    lines += [f"  classDef {kind.value} {_CLASSES[kind]}" for kind in Kind if kind in used]
    return "\n".join(lines)


def _label(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"#{ord(found[0])};", one_line(text, LABEL)) or "#8203;"
