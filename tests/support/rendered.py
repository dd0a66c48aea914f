"""Markdown as GitHub shows it: rendered by GitHub's own library, then looked at as HTML.

cmark-gfm is the library that GitHub renders with. What GitHub does to its output afterwards is
told here by its rules: text that is not in `code`, `pre` or `a` is searched for mentions, issues
and addresses.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import cmarkgfm
from cmarkgfm.cmark import Options

VOID = {"br"}
WRITTEN = {
    *("h3", "p", "br", "strong", "code", "pre", "sub", "span", "a", "blockquote", "ul", "li"),
    *("details", "summary", "table", "thead", "tbody", "tr", "th", "td", "del"),
}
ATTRIBUTES = {("a", "href"), ("details", "open"), ("pre", "lang")}
LIVE = re.compile(
    r"(?<![\w`])@[\w-]|[\w.]@[\w-]|#[0-9]|\bGH-[0-9]|://|\bwww\.\w|:[\w+-]+:|\$", re.IGNORECASE
)


class Page(HTMLParser):
    """What is on a page: elements in balance, tables, links, comments, text outside of code."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.comments: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.codes: list[str] = []
        self.shown = ""
        self.html = cmarkgfm.github_flavored_markdown_to_html(
            markdown, options=Options.CMARK_OPT_UNSAFE
        )
        self.feed(self.html)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in WRITTEN, f"an element that nobody wrote: {tag} {attrs}"
        assert {(tag, name) for name, _ in attrs} <= ATTRIBUTES, f"{tag} {attrs}"
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag == "code":
            self.codes.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID
        assert self.open, f"closed, but never opened: {tag}"
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        self.shown += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        if "code" in self.open:
            self.codes[-1] += data
        if "span" in self.open:
            # GitHub's documented way to write a dollar that is no mathematics.
            assert data == "$"
        elif not {"code", "pre", "a"} & set(self.open):
            self.text.append(data)

    @property
    def live(self) -> list[str]:
        """What GitHub would make a mention, a reference or a link of."""
        return [found[0] for text in self.text for found in LIVE.finditer(text)]
