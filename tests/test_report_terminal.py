"""The report for people: readable, wrapped, and without control characters of others."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given

from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.report import terminal
from chalice_ci.report.report import Intent, RecordedState, Report, Result
from support.hostile import obeyed
from support.reports import EVIL, FULL, reports

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def test_a_report_reads_from_top_to_bottom() -> None:
    text = terminal.render(
        FULL, excerpt=lambda at: "    @app.on_ws_message()" if at.line == 31 else None
    )
    assert text == (
        "repository\n"
        "  warning config  chalice-ci.yml:3:1\n"
        "    Unknown key 'stagse'.\n"
        "    Fix: Did you mean 'stages'?\n"
        "\n"
        "orders/dev  findings · Chalice 1.34.0 · Python 3.12 · isolation partial · eu-west-1\n"
        "  error experimental-feature  services/orders/app.py:31\n"
        "    WEBSOCKETS is used without opting in.\n"
        "    31 |     @app.on_ws_message()\n"
        "       |     ^\n"
        "    Fix: Add to services/orders/app.py, right after line 3 (`app = Chalice(…)`):\n"
        "      app.experimental_feature_flags.update(['WEBSOCKETS'])\n"
        "    WebSocket APIs: Trial in Chalice 1.34.0 (since 1.10.0).\n"
        "    https://aws.github.io/chalice/topics/websockets.html\n"
        "  isolation: no Landlock in this kernel\n"
        "  package     8.1 MB, 1 dependency\n"
        f"              app sha256 {'a' * 64} orders-dev/deployment.zip\n"
        f"  plan        sha256 {'b' * 64} orders-dev.plan\n"
        "  operations  2 steps; resources: 1 to create, 1 to delete\n"
        "    ✓ create_function api_handler (1.2 s)\n"
        "    - delete_rule old-event\n"
        "  deployed    changed\n"
        "  lambda_function api_handler "
        " arn:aws:lambda:eu-west-1:123456789012:function:orders-dev\n"
        "  rest        https://abc.execute-api.example.org/api/\n"
        "  smoke       /health passed 200\n"
        "  state       recorded: git 71be2aa\n"
        "  time        3.5 s (load 1.5 s, package 2.0 s)\n"
        "\n"
        "orders/prod  failed\n"
        "  failed aws-failed  orders/prod\n"
        "    Lambda refused the function.\n"
        "    Fix: Raise the limit.\n"
        "\n"
        "orders/staging  skipped\n"
        "  dev is not deployed yet\n"
        "\n"
        "deploy · failed · 3 stages · 1 error, 1 warning, failed: aws-failed\n"
    )


def test_colours_are_only_added_when_asked_for() -> None:
    plain, coloured = terminal.render(FULL), terminal.render(FULL, color=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31merror\x1b[0m" in coloured
    assert COLOURS.sub("", coloured) == plain


@pytest.mark.parametrize("width", [40, 60, 100])
def test_sentences_are_wrapped_and_code_is_not(width: int) -> None:
    code = "app.experimental_feature_flags.update(['WEBSOCKETS'])  # " + "x" * 80
    finding = Finding(
        rule="experimental-feature",
        severity=Severity.ERROR,
        what="word " * 60,
        fix=f"Add this line to the file, and to no other one:\n{code}",
    )
    text = terminal.render(Report(verb="check", findings=(finding,)), width=width)
    assert f"      {code}\n" in text
    long = [line for line in text.splitlines() if len(line) > width]
    assert long == [f"      {code}"]


@pytest.mark.parametrize(("column", "caret"), [(None, 4), (7, 6), (0, 4), (-3, 4), (10**6, 4)])
def test_the_caret_is_under_the_column_or_the_first_character(
    column: int | None, caret: int
) -> None:
    finding = Finding(
        rule="config",
        severity=Severity.ERROR,
        what="no",
        at=Place(file="app.py", line=9, column=column),
    )
    text = terminal.render(
        Report(verb="check", findings=(finding,)), excerpt=lambda _: "    @app.route('/')"
    )
    line = next(line for line in text.splitlines() if "^" in line)
    assert line.index("^") == len("    9 | ") + caret


@given(reports)
def test_hostile_texts_leave_no_control_character_and_no_command(report: Report) -> None:
    text = terminal.render(report, excerpt=lambda at: at.file)
    assert all(character == "\n" or character.isprintable() for character in text)
    assert not obeyed(text)
    coloured = terminal.render(report, color=True, excerpt=lambda at: at.file)
    assert COLOURS.sub("", coloured) == text


@pytest.mark.parametrize("text", EVIL)
def test_a_hostile_source_line_stays_text(text: str) -> None:
    at = Place(file="app.py", line=1)
    finding = Finding(rule="config", severity=Severity.ERROR, what="no", at=at)
    shown = terminal.render(Report(verb="check", findings=(finding,)), excerpt=lambda _: text)
    assert all(character == "\n" or character.isprintable() for character in shown)


def test_the_last_line_sums_up() -> None:
    clean = Report(verb="check", results=(Result(app="a", stage="dev"),))
    assert terminal.render(clean).splitlines()[-1] == "check · ok · 1 stage · no findings"
    two = replace(clean, findings=FULL.findings * 2, results=())
    assert terminal.render(two).splitlines()[-1] == "check · ok · 0 stages · 2 warnings"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (8_123_456, "8.1 MB"),
        (5 * 10**12, "5000.0 GB"),
    ],
)
def test_sizes_are_written_as_awss_limits_are(size: int, text: str) -> None:
    assert terminal.human_size(size) == text


@pytest.mark.parametrize(
    ("intent", "changed", "line"),
    [
        (Intent.READ, False, "  state       branch chalice-state 71be2aa"),
        (Intent.RECORD, True, "  state       recorded: branch chalice-state 71be2aa"),
        (Intent.RECORD, False, "  state       unchanged: branch chalice-state 71be2aa"),
    ],
)
def test_a_verb_that_reads_does_not_say_whether_it_wrote(
    intent: Intent, changed: bool, line: str
) -> None:
    state = RecordedState(store="branch chalice-state", version="71be2aa", changed=changed)
    shown = Result(app="a", stage="dev", intent=intent, state=state)
    assert line in terminal.render(Report(verb="url", results=(shown,))).splitlines()


@pytest.mark.parametrize(
    ("intent", "changed", "line"),
    [
        (Intent.DEPLOY, True, "  deployed    changed"),
        (Intent.DEPLOY, False, "  deployed    nothing to change"),
        (Intent.REMOVE, True, "  removed     everything"),
        (Intent.REMOVE, False, "  removed     nothing to remove"),
    ],
)
def test_what_was_done_to_aws_is_said_in_the_words_of_the_verb(
    intent: Intent, changed: bool, line: str
) -> None:
    done = Result(app="a", stage="dev", intent=intent, changed=changed)
    assert line in terminal.render(Report(verb="run", results=(done,))).splitlines()
