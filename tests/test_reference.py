"""Documents say what the code declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalice_ci.reference import PARTS, documents, rewritten

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", documents(ROOT), ids=lambda path: path.name)
def test_generated_parts_are_up_to_date(path):
    text = path.read_text(encoding="utf-8")
    assert text == rewritten(text), "run `make docs`"


@pytest.mark.parametrize("name", sorted(PARTS))
def test_every_generated_part_stands_in_some_document(name):
    assert any(f"<!-- generated: {name} -->" in path.read_text() for path in documents(ROOT))
