"""The lab that all suites of crashes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crash.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab.open() as opened:
        yield opened
