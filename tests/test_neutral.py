"""Text of others, printed where a CI system reads commands."""

from __future__ import annotations

import re
import unicodedata
from io import StringIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalice_ci.findings import Finding, Severity
from chalice_ci.neutral import neutralise, one_line, visible
from chalice_ci.report import terminal
from chalice_ci.report.progress import Progress
from chalice_ci.report.report import Report
from support.hostile import obeyed

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
        " ",
        "\u3000",
        "\u20dd",
        "\u180b",
    ]
)
ARN = "arn:aws:iam::123456789012:role/orders-dev"


def weightless(text: str) -> str:
    """The text as a comparison by language sees it, which skips marks: the runner compares so."""
    return "".join(c for c in text if not unicodedata.category(c).startswith("M"))


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_is_broken(text: str) -> None:
    assert obeyed(visible(text)), "what is broken here has to be one"
    made = neutralise(text)
    assert not obeyed(made)
    assert made.isprintable() or "\n" in made


@pytest.mark.parametrize(
    "text",
    [ARN, f"{ARN}\n{ARN}", "tests/test_x.py::test_y", "a::error::b", "std::vector", "-- ::1", "#["],
)
def test_what_no_ci_system_obeys_stays_as_it_is(text: str) -> None:
    assert neutralise(text) == text


@pytest.mark.parametrize("mark", ["\u20dd", "\u0488", "\u180b", "\ufe0f", "\u0301"])
def test_marks_that_a_comparison_skips_hide_no_command(mark: str) -> None:
    for text in (f"{mark}::error::x", f":{mark}:error::x", f"a #{mark}#[error]x", f" {mark} ::e::"):
        assert not obeyed(weightless(neutralise(text)))
    plain = f"e{mark}: a::b"
    assert neutralise(plain) == visible(plain)


@settings(max_examples=700)
@given(st.text() | st.lists(PIECES, max_size=20).map("".join))
@example("\x1b\x1b[[")
def test_no_text_comes_through_with_a_command_or_a_control(text: str) -> None:
    made = neutralise(text)
    assert not obeyed(made)
    assert not obeyed(weightless(made))
    kinds = {unicodedata.category(character) for character in made if character not in "\n\t"}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert neutralise(made) == made


@given(st.binary(max_size=60))
def test_bytes_that_are_no_utf_8_are_text_too(data: bytes) -> None:
    assert not obeyed(neutralise(data))


WORDS = st.lists(st.sampled_from(["::error::x", "##[x]", ARN, "word", "::", ":", "\n", "\r"]))


@settings(max_examples=700)
@given(WORDS.map(" ".join), st.integers(40, 60))
def test_wrapping_puts_no_command_at_the_start_of_a_line(text: str, width: int) -> None:
    found = Finding(rule="config", severity=Severity.ERROR, what=text, fix=text, detail=text)
    for color in (False, True):
        shown = terminal.render(
            Report(verb="check", findings=(found,), notes=(text,)), width=width, color=color
        )
        assert not obeyed(re.sub("\x1b\\[[0-9;]*m", "", shown))


@settings(max_examples=700)
@given(WORDS.map(" ".join), st.sampled_from(["", ":", " ", "::", "app/dev", "##"]))
def test_no_step_that_is_said_while_it_goes_on_is_a_command(text: str, job: str) -> None:
    said = StringIO()
    Progress(stream=said).say(text, job=job)
    assert not obeyed(said.getvalue())


def test_an_arn_is_shown_as_it_is() -> None:
    said = StringIO()
    Progress(stream=said).say(f"Creating IAM role: {ARN}", job="app/dev")
    assert said.getvalue() == f"app/dev: Creating IAM role: {ARN}\n"
    note = terminal.render(Report(verb="check", notes=(f"the credentials are of {ARN}",)))
    assert ARN in note


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Größe: 12 kB\tпривет 日本語 🎉 a:b # [x] ##"
    assert neutralise(text) == text


def test_a_message_is_one_bounded_line() -> None:
    assert one_line("a\n  b\r\nc") == "a b c"
    assert len(one_line("x" * 1000, 20)) == 20
