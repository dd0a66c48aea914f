"""The application graph as SVG: columns from who calls to what is used, curves between them."""

from __future__ import annotations

from chalice_ci.difference.diagram import Diagram, Edge, Node, Shape, readable
from chalice_ci.report.markup import Markup, clipped, element

NODES = 120
WIDTH, BOX, GAP, TOP = 1100.0, 26.0, 10.0, 26.0
_COLUMNS = (
    ("Callers", (Shape.DOMAIN, Shape.API, Shape.TRIGGER)),
    ("Routes", (Shape.ROUTE,)),
    ("Functions", (Shape.FUNCTION,)),
    ("Used by them", (Shape.LAYER, Shape.ROLE)),
)
_SIGNS = {"added": "+ ", "changed": "~ ", "removed": "− "}
_CHARACTER = 6.4


def drawing(diagram: Diagram) -> Markup:
    """The picture; empty for an empty stage."""
    shown = readable(diagram, NODES)
    if not shown.nodes:
        return Markup("")
    columns = [
        (title, [node for node in shown.nodes if node.shape in shapes])
        for title, shapes in _COLUMNS
    ]
    columns = [(title, nodes) for title, nodes in columns if nodes]
    height = TOP + max(len(nodes) for _, nodes in columns) * (BOX + GAP)
    step = WIDTH / len(columns)
    width = step * 0.78
    places: dict[str, tuple[float, float]] = {}
    heads, boxes = [], []
    for number, (title, nodes) in enumerate(columns):
        x = number * step
        heads.append(element("text", title, x=x, y=14, class_="column"))
        free = height - TOP - len(nodes) * (BOX + GAP)
        for row, node in enumerate(nodes):
            # Each column stands in the middle of the highest one.
            y = TOP + free / 2 + row * (BOX + GAP)
            places[node.id] = (x, y)
            boxes.append(_box(node, x, y, width))
    edges = [_curve(edge, places, width) for edge in shown.edges]
    more = f"{shown.left_out} more, not drawn" if shown.left_out else ""
    picture = element(
        "svg",
        *heads,
        *edges,
        *boxes,
        class_="graph",
        viewBox=f"0 0 {WIDTH:.0f} {height + 4:.0f}",
        role="img",
        aria_label="The application graph",
    )
    return element("div", picture, element("p", more, class_="dim") if more else None)


def _box(node: Node, x: float, y: float, width: float) -> Markup:
    state = node.state.value if node.state else "same"
    label = clipped(_SIGNS.get(state, "") + node.label, int((width - 16) / _CHARACTER))
    return element(
        "g",
        element("title", f"{node.shape.value}: {node.label} ({state})"),
        element("rect", x=x, y=y, width=width, height=BOX, rx=5),
        element("text", label, x=x + 8, y=y + 17),
        class_=f"node {node.shape.value} {state}",
    )


def _curve(edge: Edge, places: dict[str, tuple[float, float]], width: float) -> Markup:
    (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
    middle = BOX / 2
    if x1 == x2:
        # Within a column: round the left side, so that it is not drawn over the boxes.
        path = f"M{x1:.1f},{y1 + middle:.1f} C{x1 - 14:.1f},{y1 + middle:.1f} "
        path += f"{x2 - 14:.1f},{y2 + middle:.1f} {x2:.1f},{y2 + middle:.1f}"
        return element("path", d=path, class_="edge")
    start = x1 + width
    bend = (start + x2) / 2
    path = f"M{start:.1f},{y1 + middle:.1f} C{bend:.1f},{y1 + middle:.1f} "
    path += f"{bend:.1f},{y2 + middle:.1f} {x2:.1f},{y2 + middle:.1f}"
    return element("path", d=path, class_="edge")
