"""Text of others in GitHub's Markdown: nothing in it is markup, a link or a mention."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalice_ci.neutral import visible
from chalice_ci.report import markdown as md
from support.hostile import texts
from support.rendered import Page

PLACES = ("{}", "before {} after", "- {}", "> {}", "**{}**", "| a |\n| --- |\n| {} |")


def squeezed(value: str) -> str:
    """What can be seen, whatever blanks are in it."""
    return "".join(visible(value).replace(md.BREAK, "").split())


@settings(max_examples=2000, deadline=None)
@given(texts, st.sampled_from(PLACES))
@example("@org", "{}")
@example("1.", "{}")
@example("a\\", "| a |\n| --- |\n| {} |")
def test_text_shows_as_it_is_and_is_nothing_else(value: str, place: str) -> None:
    if not squeezed(value):
        assert md.text(value) == ""
        return
    page, around = Page(place.format(md.text(value, 1000))), Page(place.format("x"))
    assert page.live == page.links == page.comments == page.codes == []
    assert squeezed(page.shown) == squeezed(around.shown.replace("x", squeezed(value)))
    assert [tag for tag in page.tags if tag != "span"] == around.tags


@settings(max_examples=2000, deadline=None)
@given(texts, st.sampled_from(PLACES))
@example("`", "{}")
@example("a\\|b`", "| a |\n| --- |\n| {} |")
def test_code_shows_as_it_is_and_ends_where_it_should(value: str, place: str) -> None:
    if not squeezed(value):
        assert md.code(value) == ""
        return
    page, around = Page(place.format(md.code(value, 1000))), Page(place.format("x"))
    assert page.live == page.links == page.comments == []
    assert [squeezed(code) for code in page.codes] == [squeezed(value)]
    assert [tag for tag in page.tags if tag not in {"span", "code"}] == around.tags


@settings(max_examples=1000, deadline=None)
@given(texts)
def test_prose_has_code_between_its_backticks_and_nothing_else(value: str) -> None:
    page = Page(f"before {md.prose(value, 1000)} after")
    assert page.live == page.links == page.comments == []
    assert set(page.tags) <= {"p", "code", "span"}
    shown = squeezed(page.shown).replace("`", "")
    assert shown == f"before{squeezed(value)}after".replace("`", "")


@settings(max_examples=1000, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5).map("\n".join), st.booleans())
@example("`" * 80, False)
@example("`" * 81, False)
@example("`" * 255, True)
@example("`" * 900, False)
def test_a_fence_is_longer_than_any_in_its_text(value: str, quoted: bool) -> None:
    block = md.fence(value, language="python", lines=1000, width=1000)
    page = Page(f"before\n\n{md.alert('NOTE', block) if quoted else block}\n\nafter")
    assert page.tags.count("pre") == page.tags.count("code") == 1
    assert "".join(page.text).split()[-1] == "after"
    lines = [line.rstrip() for line in visible(value).rstrip("\n").split("\n")]
    assert page.codes[0].replace(md.BREAK, "").split("\n")[:-1] == lines
    assert page.comments == page.links == page.live == []


@pytest.mark.parametrize(
    "address",
    [
        *(
            "javascript:alert(1)",
            "https://user@host.example/",
            "https://a.example/)x",
            "//a.example",
        ),
        *(
            "https://a.example/|x",
            "https://a.example/\nx",
            "data:text/html,x",
            "https://",
            "wss://a.b",
        ),
        *(
            "https://a.example/<x>",
            "https://a.example/`x`",
            "https://ä.example",
            "https://a b.example",
        ),
    ],
)
def test_what_is_no_plain_address_is_never_a_link(address: str) -> None:
    page = Page(md.link(address))
    assert page.links == []
    assert page.tags.count("code") == 1
    assert Page(md.link(address, "label")).links == []


@pytest.mark.parametrize(
    "address",
    [
        "https://abc.execute-api.eu-west-1.amazonaws.com/api/",
        "http://127.0.0.1:8000/x_y_z~w/%20",
        "https://docs.example/topics/websockets.html?a=b&c=d#e",
    ],
)
def test_a_plain_address_is_a_link_to_itself(address: str) -> None:
    assert Page(md.link(address)).links == [address]
    page = Page(md.link(address, md.code("a]b|c")))
    assert (page.links, page.codes) == ([address], ["a]b|c"])


def test_ordinary_text_stays_readable_in_its_source() -> None:
    text = 'Größe: x86_64, 3.12, don\'t, "quoted", a - b, 50 %, api_handler (2)!'
    assert md.text(text) == text


def test_what_is_too_long_ends_in_an_ellipsis() -> None:
    assert md.text("x" * 50, 10) == "x" * 9 + "…"
    assert md.code("x" * 50, 10) == f"`{'x' * 9}…`"
    block = md.fence("\n".join("x" * 9 for _ in range(5)), lines=2, width=4)
    assert block == "```\nxxx…\nxxx…\n… 3 more lines\n```"


def test_a_marker_of_another_tool_is_not_found_in_code() -> None:
    for made in (md.code("<!-- x -->"), md.fence("<!-- x -->"), md.text("<!-- x -->")):
        assert not re.search("<!--", made)
