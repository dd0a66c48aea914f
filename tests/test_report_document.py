"""report.json: what its schema says, whatever the texts in it are."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from chalice_ci.findings import Severity
from chalice_ci.report import document
from chalice_ci.report.report import Report, Result
from support.hostile import obeyed
from support.reports import FULL, reports

VALIDATOR = jsonschema.Draft202012Validator(document.schema())


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(document.schema())


def test_a_full_report_is_what_the_schema_says() -> None:
    written = json.loads(document.render(FULL))
    VALIDATOR.validate(written)
    assert (written["version"], written["verdict"]) == (1, "failed")
    assert (written["exit_code"], written["failure_reason"]) == (12, "aws-failed")
    assert written["counts"] == {"error": 1, "warning": 1, "notice": 0}
    dev, prod, staging = written["results"]
    assert dev["findings"][0]["at"] == {
        "file": "services/orders/app.py",
        "line": 31,
        "column": None,
    }
    assert dev["package"]["digest"] == "a" * 64
    assert dev["changes"] == {
        "create": 1,
        "update": 0,
        "replace": 0,
        "delete": 1,
        "read": 0,
    }
    assert prod["failure"]["reason"] == "aws-failed"
    assert (staging["verdict"], staging["note"]) == ("skipped", "dev is not deployed yet")


def test_an_empty_report_is_valid_too() -> None:
    VALIDATOR.validate(json.loads(document.render(Report(verb="check"))))
    bare = Report(verb="check", results=(Result(app="a", stage="dev"),))
    VALIDATOR.validate(json.loads(document.render(bare)))


def test_the_schema_refuses_what_it_does_not_know() -> None:
    written = document.to_document(FULL)
    written["results"][0]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(written)


def test_the_exit_code_in_the_document_knows_what_the_build_fails_on() -> None:
    warned = Report(verb="check", findings=FULL.findings)
    assert document.to_document(warned)["exit_code"] == 0
    assert document.to_document(warned, fail_on=Severity.WARNING)["exit_code"] == 1


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(reports)
def test_hostile_texts_leave_a_valid_document_and_no_command(report: Report) -> None:
    text = document.render(report)
    VALIDATOR.validate(json.loads(text))
    assert text.isascii()
    assert not obeyed(text)
    assert all(character == "\n" or character.isprintable() for character in text)
    read = json.loads(text)
    read.pop("tool")
    assert read["verb"] == report.verb.encode("utf-8", "replace").decode()


def test_the_same_report_is_written_the_same() -> None:
    assert document.render(FULL) == document.render(replace(FULL))
