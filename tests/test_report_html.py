"""`report.html`: one file that runs nothing, fetches nothing and survives whatever it is told."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

from hypothesis import given, settings

from chalice_ci.contents import FILES, GROUPS, Group, Part, contents_of
from chalice_ci.difference.changes import Kind
from chalice_ci.difference.diagram import Diagram, Edge, Node, Shape, readable
from chalice_ci.findings import Finding, Severity
from chalice_ci.report.html import ITEMS, html
from chalice_ci.report.mermaid import mermaid
from chalice_ci.report.report import Report, Result
from chalice_ci.report.treemap import HEIGHT, WIDTH, Box, boxes, treemap
from chalice_ci.snapshot import Archive, Dependency, File, Snapshot
from support.hostile import texts
from support.pages import CANONICAL
from support.reports import FULL, reports_of

VOID = {"meta", "rect", "path"}
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "h1", "h2"),
    *("h3", "h4", "p", "div", "span", "strong", "code", "pre", "del", "ins", "a", "table"),
    *("thead", "tbody", "tr", "th", "td", "svg", "g", "rect", "path", "text"),
}
ATTRIBUTES = {
    *("class", "lang", "charset", "http-equiv", "content", "name", "id", "href", "viewbox"),
    *("role", "aria-label", "x", "y", "width", "height", "rx", "d"),
}


class Document(HTMLParser):
    """The page as a browser's parser reads it: only what the renderer writes, in balance."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.links: list[str] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS, f"an element that nobody wrote: {tag}"
        assert {name for name, _ in attrs} <= ATTRIBUTES, (tag, attrs)
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.shown.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)


def test_the_page_is_one_file_that_fetches_and_runs_nothing() -> None:
    page = html(FULL)
    assert "default-src 'none'" in unescape(page)
    assert re.findall(r"(?:src|url|@import|javascript)\s*[=(:]", page) == []
    assert all(link.startswith("#") for link in Document(page).links)


def test_the_page_says_what_the_report_holds() -> None:
    shown = "\n".join(Document(html(FULL)).shown)
    for told in (
        "WEBSOCKETS is used without opting in.",
        "aws-failed",
        "Raise the limit.",
        "8.1 MB",
    ):
        assert told in shown


def test_a_plan_is_counted_by_its_operations_and_code_is_code() -> None:
    page = html(CANONICAL)
    assert "+1 ~1 <strong>−1</strong>" in page
    assert "The queue <code>jobs</code> is the same" in page
    assert "(<code>app = Chalice(…)</code>):</p>" in page
    assert "<pre>app.experimental_feature_flags.update(" in page


@settings(max_examples=150, deadline=None)
@given(reports_of(texts))
def test_no_report_breaks_the_page(report: Report) -> None:
    document = Document(html(report))
    assert all(link.startswith("#") for link in document.links)


@settings(max_examples=300, deadline=None)
@given(reports_of(texts))
def test_a_label_of_the_mermaid_graph_is_letters_and_entities(report: Report) -> None:
    for result in report.results:
        if result.diagram is None:
            continue
        for line in mermaid(result.diagram).splitlines():
            for label in re.findall(r'"([^"]*)"', line):
                assert re.fullmatch(r"(?:[A-Za-z0-9 ./_-]|#[0-9]+;)*", label)
            bare = re.sub(r'"[^"]*"', "", line).strip()
            assert re.fullmatch(
                r"flowchart LR|n\d+ --> n\d+|classDef [a-z]+ [a-z0-9#:,\- ]+"
                r"|(?:n\d+|more)[\[\](){}>/]+(?::::[a-z]+)?",
                bare,
            ), line


# -- the treemap -----------------------------------------------------------------------------------


def test_areas_of_the_treemap_are_the_sizes() -> None:
    sizes = [600, 300, 60, 30, 10]
    placed = boxes(sizes, Box(x=0, y=0, width=WIDTH, height=HEIGHT))
    total = WIDTH * HEIGHT
    for size, box in zip(sizes, placed, strict=True):
        assert abs(box.width * box.height - total * size / 1000) < total / 1e6
        assert 0 <= box.x <= box.x + box.width <= WIDTH + 1e-6
        assert 0 <= box.y <= box.y + box.height <= HEIGHT + 1e-6


def test_an_empty_package_has_no_treemap() -> None:
    assert treemap(()) == ""
    assert treemap((Group(name="", parts=(Part(name="__init__.py", size=0),)),)) == ""


def _package(groups: int, files: int) -> Snapshot:
    found = tuple(
        File("app", f"d{g}/f{n}.py", 10 + n, "0" * 64, f"d{g}" if g else "")
        for g in range(groups)
        for n in range(files)
    )
    unpacked = sum(file.size for file in found)
    return Snapshot(
        app="a",
        stage="dev",
        app_name="a",
        chalice="1.34.0",
        python="3.12",
        dependencies=tuple(
            Dependency(name=f"d{g}", version="1", direct=False, size=1, packed=1)
            for g in range(1, groups)
        ),
        archives=(Archive(slot="app", sha256="0" * 64, size=unpacked, unpacked_size=unpacked),),
        files=found,
    )


def test_what_fills_the_package_is_bounded_and_loses_no_byte_and_no_file() -> None:
    snapshot = _package(GROUPS + 15, FILES + 9)
    groups = contents_of(snapshot)
    assert len(groups) == GROUPS + 1
    assert max(len(group.parts) for group in groups) <= FILES + 1
    assert sum(group.size for group in groups) == sum(file.size for file in snapshot.files)
    assert sum(group.files for group in groups) == len(snapshot.files)


# -- the graph -------------------------------------------------------------------------------------


def _graph(routes: int, changed: int) -> Diagram:
    nodes = [
        Node(
            id=f"route:{n}",
            shape=Shape.ROUTE,
            label=f"GET /{n}",
            state=Kind.ADDED if n < changed else None,
        )
        for n in range(routes)
    ]
    handler = Node(id="function:h", shape=Shape.FUNCTION, label="h")
    edges = tuple(Edge(source=node.id, target="function:h") for node in nodes)
    return Diagram(nodes=(*nodes, handler), edges=edges)


def test_a_graph_of_hundreds_keeps_what_changed_and_what_that_touches() -> None:
    shown = readable(_graph(300, 5), 20)
    assert len(shown.nodes) == 20
    assert shown.left_out == 281
    assert {f"route:{n}" for n in range(5)} | {"function:h"} <= {node.id for node in shown.nodes}
    assert all(edge.target == "function:h" for edge in shown.edges)
    assert '"281 more"' in mermaid(_graph(300, 5), limit=20)


def test_findings_that_are_too_many_are_counted() -> None:
    one = Finding(rule="r", severity=Severity.NOTICE, what="w", fix="")
    page = html(Report(verb="check", findings=(one,) * (ITEMS + 3)))
    assert page.count("<strong>") == ITEMS
    assert "… and 3 more, in report.json" in page
    assert "more, in report.json" not in html(Report(verb="check", findings=(one,) * ITEMS))


def test_a_huge_stage_is_still_a_page() -> None:
    result = Result(
        app="a",
        stage="dev",
        diagram=_graph(1_000, 10),
        contents=contents_of(_package(GROUPS + 15, 300)),
    )
    page = html(replace(FULL, results=(result,)))
    Document(page)
    assert len(page) < 500_000
