"""The image suite: a real engine, the image of this tree, steps as GitHub's runner starts them.

`pytest tests/image` runs it; `make test` does not, because it builds for minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from image.engine import Engine
from image.runner import Job
from support.commandline import hello


@pytest.fixture
def job(docker: Engine, tmp_path: Path) -> Job:
    """A job with an empty workspace."""
    return Job(docker, tmp_path / "work")


@pytest.fixture
def small(docker: Engine, tmp_path: Path) -> Job:
    """A job with a small app checked out, as actions/checkout leaves it."""
    job = Job(docker, tmp_path / "work")
    hello(job.workspace)
    job.give(job.workspace)
    return job
