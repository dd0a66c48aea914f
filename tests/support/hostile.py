"""Texts that try to be more than text where Markdown, or a workflow's log, is read."""

from __future__ import annotations

import re

from hypothesis import strategies as st

HOSTILE = (
    *(
        "a|b",
        "/a\\|b",
        "`" * 90,
        "\\",
        "\\\\|",
        "`",
        "``",
        "```\nx\n```",
        "`a",
        "a`b`c",
        "~~~",
        "`` ` ``",
    ),
    *("@org/team", "a @user", "user@example.org", "&#64;user", "&commat;user", "\\@user", "#1"),
    *("org/repo#1", "GH-12", "gh-1", "https://evil.example/x", "www.evil.example", "://", ":tada:"),
    *("mailto:a@b.example", "xmpp:a@b.example", "ftp://x.example", "http:/\u200b/x"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</details>", "</td></tr>"),
    *("</summary></details>@org/team", "<!-- chalice-ci {} -->", "-->", "<!--", "<![CDATA[x]]>"),
    *("[x](javascript:alert(1))", "![x](https://evil.example/p.png)", "<javascript:alert(1)>"),
    *("[x]: https://evil.example", "[^1]: note", "[^1]", "[!CAUTION]", "> quote", "- [ ] task"),
    *(
        "# heading",
        "1. one",
        "1)",
        "- item",
        "+ item",
        "* item",
        "***",
        "---",
        "===",
        ":--",
        ":-:|-",
    ),
    *("$x$", "$$\\def\\x{}$$", "$`x`$", "**bold**", "_em_", "__init__", "snake_case", "~~gone~~"),
    *(
        "\u202eevil\u2066",
        "a\u200b@\u200cb",
        "a\x00b\x1b[31m",
        "a\r\nb\u2028c",
        "\ud800",
        "&lt;b&gt;",
    ),
    *(
        "    indented",
        "\tindented",
        "<a href='x'>",
        "<b",
        "a<b",
        "<?php ?>",
        "<!DOCTYPE x>",
        "{{x}}",
    ),
)
texts = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec=None), max_size=12)),
    min_size=1,
    max_size=4,
).map("".join)

# As GitHub's runner reads a line (ActionCommand.TryParseV2, TryParse): `::name` after white space,
# else `##[name` or an Azure agent's `##vso[name` anywhere.
_COMMAND = re.compile(r"\A\s*::|##[A-Za-z]*\[")


def obeyed(text: str) -> list[str]:
    """The lines of a log in which a CI system would see the beginning of a command."""
    return [line for line in re.split("\r\n|\r|\n", text) if _COMMAND.search(line)]
