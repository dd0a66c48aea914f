"""The lab that all suites of crashes share, and the stories of its shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from crash.lab import Lab
from crash.story import Stories, Story


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab.open() as opened:
        yield opened


@pytest.fixture(scope="module")
def stories(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stories]:
    """One story at a time is kept."""
    kept: dict[tuple[str, str], Story] = {}

    def told(shape: str, store: str) -> Story:
        if (shape, store) not in kept:
            for story in kept.values():
                story.stack.close()
            kept.clear()
            folder = tmp_path_factory.mktemp(f"{shape}-{store}")
            kept[shape, store] = Story(lab, shape, store, folder, ExitStack())
        return kept[shape, store]

    yield told
    for story in kept.values():
        story.stack.close()
