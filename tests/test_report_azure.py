"""Azure's logging commands: one line each, read as the agent reads them, no text can become one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci.errors import ExitCode, UsageError
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.outputs import OUTPUTS
from chalice_ci.report import azure
from chalice_ci.report.report import Failure, Report
from support.reports import EVIL, FULL, reports, texts


def read(line: str) -> tuple[str, dict[str, str], str] | None:
    """A line as azure-pipelines-agent's Command.TryParse: area.event, properties, data.

    The first `##vso[` anywhere, the first `]` after it, properties split at `;` and at their first
    `=`, names without case.
    """
    start = line.find("##vso[")
    end = line.find("]", start)
    if start < 0 or end < 0:
        return None
    head, _, listed = line[start + len("##vso[") : end].partition(" ")
    pairs = (pair.partition("=") for pair in listed.split(";") if "=" in pair)
    return head, {k.strip().lower(): unescape(v) for k, _, v in pairs}, unescape(line[end + 1 :])


def unescape(text: str) -> str:
    codes = {"%3B": ";", "%0D": "\r", "%0A": "\n", "%5D": "]", "%AZP25": "%"}
    for code, character in codes.items():
        text = text.replace(code, character)
    return text


def test_an_issue_names_file_line_rule_and_fix() -> None:
    (line,) = [one for one in azure.render(FULL).splitlines() if "experimental-feature" in one]
    found = read(line)
    assert found is not None
    name, properties, message = found
    assert name == "task.logissue"
    assert properties == {
        "type": "error",
        "sourcepath": "services/orders/app.py",
        "linenumber": "31",
        "code": "experimental-feature",
    }
    assert message.startswith("orders/dev: WEBSOCKETS is used without opting in.\n")
    assert "\napp.experimental_feature_flags.update(['WEBSOCKETS'])" in message


def test_errors_and_failures_are_errors_the_rest_that_counts_warnings_and_notices_nothing() -> None:
    findings = tuple(Finding(rule="config", severity=one, what="x") for one in Severity)
    failed = Failure(exit_code=ExitCode.AWS_FAILED, what="Lambda refused")
    report = Report(verb="check", findings=findings, failure=failed)
    found = [read(line) for line in azure.render(report).splitlines()]
    kinds = [one[1]["type"] for one in found if one]
    assert kinds == ["error", "error", "warning"]
    assert found[0] == ("task.logissue", {"type": "error", "code": "aws-failed"}, "Lambda refused")


def test_percent_bracket_and_semicolon_survive_the_round_trip() -> None:
    line = azure.command("task.logissue", "100%0A a;b]c\nd", sourcepath="a;b]c%3B.py")
    assert read(line) == (
        "task.logissue",
        {"sourcepath": "a;b]c%3B.py"},
        "100%0A a;b]c\nd",
    )


def test_every_output_can_be_a_variable_of_the_step() -> None:
    text = azure.outputs([(output.name, "a\nb;]%") for output in OUTPUTS])
    found = [read(line) for line in text.splitlines()]
    names = [one[1]["variable"] for one in found if one]
    assert names == [output.name.replace("-", "_") for output in OUTPUTS]
    assert all(one and one[1]["isoutput"] == "true" and one[2] == "a\nb;]%" for one in found)


@pytest.mark.parametrize("name", ["", "a]b", "a;isSecret=true", "1a", "a b", "ä"])
def test_what_is_no_name_of_a_variable_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        azure.outputs([(name, "x")])


@given(reports)
def test_hostile_texts_make_no_other_command_and_no_second_line(report: Report) -> None:
    text = azure.render(report)
    lines = text.splitlines()
    assert text == "".join(f"{line}\n" for line in lines)
    for line in lines:
        assert line.count("##vso[") == 1
        assert line.startswith("##vso[task.logissue type=")
        assert not re.search(r"##\[|^\s*::", line)
        found = read(line)
        assert found is not None
        allowed = {"type", "sourcepath", "linenumber", "columnnumber", "code"}
        assert found[1].keys() <= allowed
        assert found[1]["type"] in {"error", "warning"}


@given(texts | st.sampled_from(EVIL))
def test_a_hostile_value_stays_inside_its_command(text: str) -> None:
    for line in (
        azure.command("task.setvariable", text, variable="url"),
        azure.command("task.logissue", "x", sourcepath=text),
        azure.issue(
            Finding(rule="x", severity=Severity.ERROR, what=text, at=Place(file=text, line=1))
        ),
    ):
        assert len(line.splitlines()) == 1
        assert line.count("##vso[") == 1
        found = read(line)
        assert found is not None
        assert found[1].keys() <= {"variable", "sourcepath", "type", "linenumber", "code"}
