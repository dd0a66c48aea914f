"""How often each suite of crashes tried what it proves, printed when all tests have run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

_KEY = "crash:"


class Count:
    """Adds to what was tried, by the name of the suite and what it was."""

    def __init__(self, suite: str, record: Callable[[str, object], None]) -> None:
        self._suite = suite
        self._record = record

    def __call__(self, name: str, number: int) -> None:
        """Add to a line of its own."""
        self._record(f"{_KEY}{self._suite}: {name}", number)

    def cell(self, row: str, column: str, *, tried: int, wrong: int) -> None:
        """Add to a cell of the suite's table."""
        self._record(f"{_KEY}{self._suite}|{row}|{column}", (tried, wrong))


@pytest.fixture
def count(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Count:
    """Count under the name of the test's file."""
    suite = request.path.stem.removeprefix("test_").replace("_", " ")
    return Count(suite, record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the sums of all processes."""
    lines: Counter[str] = Counter()
    tried: Counter[tuple[str, str, str]] = Counter()
    wrong: Counter[tuple[str, str, str]] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for key, value in report.user_properties:
                if not key.startswith(_KEY):
                    continue
                name = key.removeprefix(_KEY)
                if "|" in name:
                    suite, row, column = name.split("|")
                    tried[suite, row, column] += value[0]
                    wrong[suite, row, column] += value[1]
                else:
                    lines[name] += value
    if not lines and not tried:
        return
    terminalreporter.section("crashes")
    for name, number in sorted(lines.items()):
        terminalreporter.write_line(f"{name}: {number}")
    for suite in sorted({suite for suite, _, _ in tried}):
        for line in _table(
            {(r, c): n for (s, r, c), n in tried.items() if s == suite},
            {(r, c): n for (s, r, c), n in wrong.items() if s == suite},
        ):
            terminalreporter.write_line(f"{suite}: {line}")


def _table(tried: Mapping[tuple[str, str], int], wrong: Mapping[tuple[str, str], int]) -> list[str]:
    """A line per row: how many were tried, or how many of them were right if not all were."""
    rows, columns = (sorted({*one}) for one in zip(*tried, strict=True))
    table = [["", *columns]]
    for row in rows:
        cells = [row]
        for column in columns:
            all_of, bad = tried.get((row, column), 0), wrong.get((row, column), 0)
            cells.append(f"{all_of - bad} of {all_of}" if bad else str(all_of or "-"))
        table.append(cells)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
