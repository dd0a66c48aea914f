"""report.json read back: the same report, and nothing that its schema does not know."""

from __future__ import annotations

import copy
import json
from random import Random

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from chalice_ci.report import document
from chalice_ci.report.reading import ReportDamaged, read_report
from chalice_ci.report.report import Report
from support.reports import FULL, reports

VALIDATOR = jsonschema.Draft202012Validator(document.schema())


def again(report: Report) -> Report:
    return read_report(document.render(report).encode())


def test_a_full_report_comes_back_as_it_was_written() -> None:
    assert document.render(again(FULL)) == document.render(FULL)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(reports)
def test_any_report_comes_back_as_it_was_written(report: Report) -> None:
    once = again(report)
    assert document.render(again(once)) == document.render(once)
    # Lone surrogates are written as `?`, which may come in another order.
    assert unordered(once) == unordered(report)


def unordered(report: Report) -> list[str]:
    return sorted(document.render(report).replace(",\n", "\n").split("\n"))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "is not JSON"),
        (b"[]", "has no object at the document"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"version": 2}', "is not of version 1"),
        (b'{"version": 1, "version": 1}', "has a key twice"),
        (b'{"version": true}', "has something else than a whole number"),
        (b'{"version": 1, "tool": {"name": "x", "version": ""}}', "written by another tool"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(raw: bytes, told: str) -> None:
    with pytest.raises(ReportDamaged) as caught:
        read_report(raw)
    assert told in str(caught.value)


VALUES: tuple[object, ...] = (
    *(None, True, -1, 1.5, 10**30, "", "ok", "surprise", [], {}, [None], {"a": 1}, "\u202e`|`"),
)


def mutated(number: int) -> object:
    """The full report with one thing in it changed, taken away or added."""
    random = Random(number)
    made = copy.deepcopy(document.to_document(FULL))
    places: list[tuple[object, object]] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                places.append((value, key))
                walk(inner)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                places.append((value, index))
                walk(inner)

    walk(made)
    holder, key = random.choice(places)
    action = random.choice(("replace", "replace", "remove", "add"))
    if action == "replace":
        holder[key] = random.choice(VALUES)  # type: ignore[index]
    elif action == "remove":
        del holder[key]  # type: ignore[attr-defined]
    elif isinstance(holder, dict):
        holder["surprise"] = random.choice(VALUES)
    else:
        holder.append(random.choice(VALUES))  # type: ignore[attr-defined]
    return made


def test_what_the_schema_refuses_the_reader_never_passes_on() -> None:
    """Read or refused: what comes out is always a report that the schema takes."""
    refused = 0
    for number in range(1500):
        made = mutated(number)
        try:
            read = read_report(json.dumps(made).encode())
        except ReportDamaged:
            refused += 1
            assert not VALIDATOR.is_valid(made), (number, "a valid report was refused")
            continue
        assert VALIDATOR.is_valid(document.to_document(read)), number
    assert 500 < refused < 1500


def test_nothing_that_follows_from_the_rest_is_believed() -> None:
    forged = document.to_document(FULL)
    forged["verdict"], forged["exit_code"] = "ok", 0
    forged["counts"] = {"error": 0, "warning": 0, "notice": 0}
    for result in forged["results"]:
        result["verdict"] = "ok"
    read = document.to_document(read_report(json.dumps(forged).encode()))
    honest = document.to_document(FULL)
    assert (read["verdict"], read["exit_code"]) == (honest["verdict"], honest["exit_code"])
    assert read["counts"] == honest["counts"]
