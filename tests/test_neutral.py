"""Text of others, printed where a CI system reads commands."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalice_ci.neutral import neutralise, one_line

COMMANDS = (
    *("x##[set-output name=url]evil", "a\r::error::b", "\u00a0::add-mask::e", "::stop-commands::x"),
    *("::set-output name=a::b", "##vso[task.setvariable]x", "##teamcity[x]", "###[[x]]", "::::::"),
    *("#\u200b#[x]", ":\u200b:error::", "\x1b[31m::error::\x1b[0m", ":\x1b[0m:error:\x1b[m:"),
    *(
        "\u202e::rorre::",
        "a\u2028::error::",
        "\x85::error::",
        "\x9b31m::error::",
        "\x1b]0;t\x07::e",
    ),
)
PIECES = st.sampled_from(
    [
        ":",
        "::",
        "#",
        "##[",
        "[",
        "a",
        "\r",
        "\n",
        "\x1b",
        "\x1b[",
        "\x07",
        "\u200b",
        "\u202e",
        "\x9b",
    ]
)


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_is_broken_wherever_it_is(text: str) -> None:
    made = neutralise(text)
    assert "::" not in made
    assert not re.search(r"##[A-Za-z]*\[", made)
    assert made.isprintable() or "\n" in made


@given(st.text() | st.lists(PIECES, max_size=20).map("".join))
@example("\x1b\x1b[[")
def test_no_text_comes_through_with_a_command_or_a_control(text: str) -> None:
    made = neutralise(text)
    assert "::" not in made
    assert not re.search(r"##[A-Za-z]*\[", made)
    kinds = {unicodedata.category(character) for character in made if character not in "\n\t"}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert neutralise(made) == made


@given(st.binary(max_size=60))
def test_bytes_that_are_no_utf_8_are_text_too(data: bytes) -> None:
    assert "::" not in neutralise(data)


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Größe: 12 kB\tпривет 日本語 🎉 a:b # [x] ##"
    assert neutralise(text) == text


def test_a_message_is_one_bounded_line() -> None:
    assert one_line("a\n  b\r\nc") == "a b c"
    assert len(one_line("x" * 1000, 20)) == 20
