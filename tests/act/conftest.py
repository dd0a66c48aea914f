"""The examples on the real `act`, with the engine and the images of the image suite.

`pytest tests/act` runs it; `make test` does not, because it takes minutes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from act.runner import Act
from chalice_ci.app.pythons import find_python
from chalice_ci.local import EmbeddedAWS
from image.engine import Engine
from image.fixtures import Images
from offline_github.gateway import EXCEPTIONS, OfflineGitHub, offline_github, report
from support.packages import cache_folder


@pytest.fixture
def act(docker: Engine, images: Images, kept: Path, warm: tuple[str, str], tmp_path: Path) -> Act:
    """A runner with nothing in it yet."""
    return Act(
        engine=docker,
        platform=docker.base(kept),
        action=images.action,
        rehearsal=images.rehearsal,
        folder=tmp_path / "act",
        options=warm,
    )


@pytest.fixture(scope="session")
def exceptions(measured: Callable[[str], None]) -> Iterator[None]:
    """Where the offline GitHub is not simply GitHub's description: told at the end, once."""
    yield
    for what, why in EXCEPTIONS:
        measured(f"exception: {what}: {why}")


@pytest.fixture
def github(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    measured: Callable[[str], None],
    exceptions: None,
) -> Iterator[OfflineGitHub]:
    """GitHub, every request and answer of which is checked; how many there were is told."""
    folder = tmp_path / "github"
    folder.mkdir()
    with offline_github(folder) as found:
        yield found
        print(report(found))
        counted = f"{found.total.total()} API requests, {len(found.invalid)} invalid"
        measured(f"{request.node.name}: {counted}")
        assert not found.invalid


@pytest.fixture
def aws() -> Iterator[EmbeddedAWS]:
    """An AWS without anything in it, whose functions run on the image's Python or on ours."""
    found = find_python("3.13", environ=os.environ, running=Path(sys.executable))
    python = found.executable if found else Path(sys.executable)
    cache = cache_folder()
    with EmbeddedAWS.start(
        region="eu-west-1", pythons={"3.13": python}, cache_dir=cache
    ) as running:
        yield running
