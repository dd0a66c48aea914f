"""Workflow commands: one line each, no text can become a command, no more than GitHub shows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci.errors import ExitCode, UsageError
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.report import annotations
from chalice_ci.report.report import Failure, Report, Result
from support.reports import EVIL, FULL, reports, texts

# The runner's own reading of a line (ActionCommand.TryParseV2 and TryParse, tried in this order).
V2 = re.compile(r"\A\s*::(?P<name>[^ :]+)(?: (?P<properties>.*?))?::(?P<data>.*)\Z", re.DOTALL)
V1 = re.compile(r"##\[(?P<name>[^\]; ]+)")


def commands(line: str) -> list[str]:
    found = V2.match(line)
    return [found["name"]] if found else [match["name"] for match in V1.finditer(line)]


def unescape(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def finding(number: int, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(
        rule="config",
        severity=severity,
        what=f"problem {number}",
        at=Place(file="chalice-ci.yml", line=number),
    )


def test_an_annotation_names_file_line_title_and_fix() -> None:
    (error, *_) = [
        line for line in annotations.render(FULL).splitlines() if "experimental-feature" in line
    ]
    assert error.startswith(
        "::error file=services/orders/app.py,line=31,title=experimental-feature (orders/dev)::"
        "WEBSOCKETS is used without opting in.%0AWebSocket APIs: Trial"
    )
    assert "%0Aapp.experimental_feature_flags.update(['WEBSOCKETS'])" in error


def test_severities_are_githubs_types_and_a_failure_is_an_error() -> None:
    lines = annotations.render(FULL).splitlines()
    assert [commands(line) for line in lines] == [["error"], ["error"], ["warning"]]
    assert lines[0].startswith("::error title=aws-failed::orders/prod%0ALambda refused")


def test_percent_colon_and_comma_survive_the_round_trip() -> None:
    line = annotations.command("error", "100% a:b,c\nd", file="a,b:c%3A.py")
    found = V2.match(line)
    assert found is not None
    assert found["properties"] == "file=a%2Cb%3Ac%253A.py"
    assert unescape(found["properties"]) == "file=a,b:c%3A.py"
    assert unescape(found["data"]) == "100% a:b,c\nd"


def test_ten_of_a_type_are_shown_and_the_tenth_counts_the_rest() -> None:
    ten = Report(verb="check", findings=tuple(finding(n) for n in range(1, 11)))
    assert len(annotations.render(ten).splitlines()) == 10
    assert "more" not in annotations.render(ten)
    many = Report(
        verb="check",
        findings=tuple(
            finding(n, severity)
            for n in range(1, 31)
            for severity in (Severity.ERROR, Severity.WARNING)
        ),
    )
    lines = annotations.render(many).splitlines()
    errors = [line for line in lines if line.startswith("::error")]
    warnings = [line for line in lines if line.startswith("::warning")]
    assert (len(errors), len(warnings)) == (10, 10)
    assert errors[-1].endswith("::21 more: config. All of them are in the log and in report.json.")


def test_failures_count_among_the_errors() -> None:
    failed = Result(app="a", stage="dev", failure=Failure(exit_code=ExitCode.AWS_FAILED, what="no"))
    report = Report(
        verb="deploy", results=(failed,) * 4, findings=tuple(finding(n) for n in range(1, 9))
    )
    lines = annotations.render(report).splitlines()
    assert len(lines) == 10
    assert lines[-1].endswith("::3 more: config. All of them are in the log and in report.json.")


@given(reports)
def test_hostile_texts_make_no_command_and_no_second_line(report: Report) -> None:
    text = annotations.render(report)
    lines = text.splitlines()
    assert text == "".join(f"{line}\n" for line in lines)
    for line in lines:
        assert re.match(r"::(error|warning|notice)( |::)", line)
        assert not V1.search(line)
        assert all(character.isprintable() or character == "\t" for character in line)
        found = V2.match(line)
        assert found is not None
        for item in (found["properties"] or "").split(","):
            assert item.partition("=")[0] in {"", "file", "line", "col", "title"}
    for kind in ("error", "warning", "notice"):
        assert sum(line.startswith(f"::{kind}") for line in lines) <= annotations.PER_TYPE


@given(texts)
def test_groups_and_debug_lines_are_one_line_too(text: str) -> None:
    for line in (annotations.group(text), annotations.debug(text)):
        assert len(line.splitlines()) == 1
        assert commands(line) in (["group"], ["debug"])
    assert annotations.end_group() == "::endgroup::"


def test_a_secret_is_masked_as_a_whole_and_line_by_line() -> None:
    assert annotations.mask("one%\ntwo") == (
        "::add-mask::one%25",
        "::add-mask::two",
        "::add-mask::one%25%0Atwo",
    )
    assert annotations.mask("") == annotations.mask(" \n") == ()


def parsed(text: str) -> dict[str, str]:
    """What the runner reads from the file: name<<delimiter, lines, delimiter."""
    values, lines = {}, text.split("\n")
    while lines and lines[0]:
        name, _, end = lines.pop(0).partition("<<")
        value = []
        while (line := lines.pop(0)) != end:
            value.append(line)
        values[name] = "\n".join(value)
    return values


@given(st.dictionaries(st.sampled_from(["url", "plan-digest", "result"]), texts))
def test_outputs_are_read_back_as_they_were_written(values: dict[str, str]) -> None:
    clean = {name: value.replace("\0", "") for name, value in values.items()}
    text = annotations.file_command(clean.items(), delimiter=lambda: "f00d")
    assert parsed(text) == clean


def test_each_output_has_a_delimiter_of_its_own() -> None:
    tokens = iter(["1", "2"])
    text = annotations.file_command([("a", "x"), ("b", "y")], delimiter=lambda: next(tokens))
    assert text == "a<<ghadelimiter_1\nx\nghadelimiter_1\nb<<ghadelimiter_2\ny\nghadelimiter_2\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", "x\nghadelimiter_1\nevil<<E\nv\nE"),
        ("url", "nul\0"),
        ("url\nevil", "x"),
        ("a<<b", "x"),
        ("", "x"),
    ],
)
def test_an_output_that_could_inject_another_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError):
        annotations.file_command([(name, value)], delimiter=lambda: "1")


@pytest.mark.parametrize("text", EVIL)
def test_each_known_trick_stays_text(text: str) -> None:
    line = annotations.annotation(
        Finding(rule="config", severity=Severity.ERROR, what=text, at=Place(file=text, line=1))
    )
    assert commands(line) == ["error"]
    assert len(line.splitlines()) == 1
