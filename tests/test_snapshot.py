"""A snapshot is normal, survives its JSON, holds no value, and is read as hostile."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chalice_ci.baseline import SnapshotCache
from chalice_ci.snapshot import SECTIONS, Route, Snapshot
from chalice_ci.snapshot_document import SnapshotDamaged, parse, render, schema
from support.snapshots import EMPTY, SNAPSHOTS, function, large

VALIDATOR = Draft202012Validator(schema())


@given(SNAPSHOTS)
@settings(max_examples=150, deadline=None)
def test_a_snapshot_survives_its_json_which_the_published_schema_describes(one: Snapshot) -> None:
    raw = render(one)
    assert parse(raw) == one
    assert render(parse(raw)) == raw
    assert raw.isascii()
    VALIDATOR.validate(json.loads(raw))


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


@given(SNAPSHOTS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_in_which_parts_are_given_does_not_matter(
    one: Snapshot, chance: random.Random
) -> None:
    shuffled = {
        name: tuple(chance.sample(getattr(one, name), len(getattr(one, name))))
        for name in (*SECTIONS, "features")
    }
    assert replace(one, **shuffled) == one
    assert render(replace(one, **shuffled)) == render(one)


def test_nothing_stands_twice() -> None:
    with pytest.raises(ValueError, match="routes has / get twice"):
        replace(EMPTY, routes=(Route(path="/", method="get"), Route(path="/", method="get")))


BROKEN: dict[str, Any] = {
    "is not JSON": b"{",
    "is not a JSON object": b"[]",
    "has a key twice": b'{"format":1,"format":1}',
    "is of format 2, not 1": b'{"format":2}',
    "is of format ?, not 1": b'{"format":true}',
    "is larger than": b" " * (32 * 1024 * 1024 + 1),
}


@pytest.mark.parametrize(("message", "raw"), BROKEN.items())
def test_what_is_no_snapshot_is_refused_with_the_reason(message: str, raw: bytes) -> None:
    with pytest.raises(SnapshotDamaged, match=message.replace("?", r"\?")):
        parse(raw)


EDITS = {
    "an unknown key": lambda d: d.update(more=1),
    "a missing key": lambda d: d.pop("stage"),
    "another type": lambda d: d.update(stage=7),
    "true for a number": lambda d: d["functions"][0].update(memory=True),
    "a list for a text": lambda d: d["functions"][0].update(role=["x"]),
    "a key twice": lambda d: d["functions"].append(d["functions"][0]),
    "a file with four parts": lambda d: d["files"].update(app={"": [["a", 1, "", 2]]}),
    "files that are a list": lambda d: d.update(files=[]),
    "a text without end": lambda d: d.update(stage="x" * 300_000),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_snapshot_is_refused(edit: Any) -> None:
    document = json.loads(render(replace(EMPTY, functions=(function(),))))
    edit(document)
    with pytest.raises(SnapshotDamaged):
        parse(json.dumps(document).encode())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_section_is_a_snapshot_or_refused(value: object) -> None:
    for name in (*SECTIONS, "features", "stage"):
        document = json.loads(render(EMPTY))
        document[name] = value
        with contextlib.suppress(SnapshotDamaged):
            assert isinstance(parse(json.dumps(document).encode()), Snapshot)


def test_a_change_of_one_file_is_a_change_of_one_line() -> None:
    """The store keeps a history of snapshots: what a deploy adds to it should be small."""
    one = large(files=300)
    file = replace(one.files[7], size=5)
    other = replace(one, files=(*one.files[:7], file, *one.files[8:]))
    before, after = (render(snapshot).splitlines() for snapshot in (one, other))
    assert len(before) == len(after)
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1


def test_a_kept_snapshot_that_was_cut_or_changed_is_none(tmp_path: Path) -> None:
    """The cache is never trusted by a file's name."""
    kept = SnapshotCache(tmp_path / "snapshots", "a")
    assert kept.read() is None
    one = replace(EMPTY, functions=(function(),))
    kept.write(one)
    assert kept.read() == one
    (file,) = (tmp_path / "snapshots").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:-5], whole.replace(b"128", b"129"), b"\n" + whole, whole[65:]):
        file.write_bytes(damaged)
        assert kept.read() is None
    kept.write(one)
    assert kept.read() == one


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("in the way")
    kept = SnapshotCache(tmp_path / "snapshots", "a")
    kept.write(EMPTY)
    assert kept.read() is None
