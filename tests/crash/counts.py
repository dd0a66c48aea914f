"""How often each suite of crashes tried what it proves, printed when all tests have run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

Count = Callable[[str, int], None]
"""Adds to what was tried, by its name."""

_KEY = "crash:"


@pytest.fixture
def count(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Count:
    """Count under the name of the test's file."""
    suite = request.path.stem.removeprefix("test_").replace("_", " ")

    def add(name: str, number: int) -> None:
        record_property(f"{_KEY}{suite}: {name}", number)

    return add


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the sums of all processes."""
    sums: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, number in report.user_properties:
                if name.startswith(_KEY):
                    sums[name.removeprefix(_KEY)] += number
    if sums:
        terminalreporter.section("crashes")
        for name, number in sorted(sums.items()):
            terminalreporter.write_line(f"{name}: {number}")
