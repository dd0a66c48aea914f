"""The table of systems says what there is: each cell has its test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.coverage import BEGIN, COLUMNS, END, ROOT, SYSTEMS, Cell, table

CELLS = [
    pytest.param(cell, id=f"{re.sub(r'[^A-Za-z]', '', system.partition(']')[0])}-{column}")
    for system, cells in SYSTEMS.items()
    for column, cell in zip(COLUMNS, cells, strict=True)
    if cell.how
]


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs/systems.md").read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == table()


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_said_to_be_tested_has_its_test(cell: Cell) -> None:
    file, _, name = cell.proof.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"def {name}(" in text if name else "def test_" in text


def test_a_cell_without_a_test_claims_nothing() -> None:
    for cells in SYSTEMS.values():
        for cell in cells:
            assert bool(cell.how) == bool(cell.proof)


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    hooks = sorted((ROOT / "plugins/buildkite/hooks").iterdir())
    scripts = [*hooks, ROOT / "plugins/docker/chalice-ci"]
    tool = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([tool, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all(script.stat().st_mode & 0o111 for script in scripts)


def test_yamllint_and_hadolint_find_nothing() -> None:
    tools = Path(sys.executable).parent
    rules = ROOT / "tests/lint/yamllint.yml"
    for command in (
        [tools / "yamllint", "--strict", "--config-file", rules, ROOT / "plugins"],
        [tools / "hadolint", ROOT / "plugins/bitbucket/Dockerfile"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_every_plugin_has_a_page_and_a_row() -> None:
    pages = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    rows = {match for system in SYSTEMS for match in re.findall(r"\((\w+)\.md\)", system)}
    assert pages <= rows
    assert all((ROOT / f"docs/{page}.md").is_file() for page in rows)
