"""The image suite: a real engine, the image of this tree, steps as GitHub's runner starts them.

`pytest tests/image` runs it; `make test` does not, because it builds for minutes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from image.engine import Engine, engine
from image.runner import Job
from support.commandline import hello

ROOT = Path(__file__).parents[2]
VERSION = "1.2.3"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True, kw_only=True)
class Images:
    """The tags of what was built."""

    action: str
    rehearsal: str


def pytest_terminal_summary(terminalreporter, config):
    """Print what was measured."""
    for line in config.stash.get(_MEASURED, ()):
        terminalreporter.write_line(f"measured: {line}")


_MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def measured(pytestconfig):
    """Note a measurement for the end of the run."""
    lines = pytestconfig.stash.setdefault(_MEASURED, [])
    return lines.append


@pytest.fixture(scope="session")
def cache() -> Path:
    """What outlives a run: the engine's data, the base image, packages for the containers."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "chalice-ci-tests" / "image"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def docker(cache: Path) -> Iterator[Engine]:
    """An engine; without one the suite fails, because nothing else shows what it shows."""
    with engine(cache) as found:
        yield found


@pytest.fixture(scope="session")
def images(docker: Engine, cache: Path, measured) -> Images:
    """Both images, built from this tree."""
    base = docker.base(cache)
    tags = {target: f"localhost/chalice-ci-test:{target}" for target in ("action", "rehearsal")}
    for target, tag in tags.items():
        seconds = docker.build(
            ROOT,
            target=target,
            tag=tag,
            arguments={"BASE": base, "VERSION": VERSION, "REVISION": REVISION},
        )
        measured(f"building {target}: {seconds:.1f} s")
    return Images(**tags)


@pytest.fixture(scope="session")
def warm(cache: Path) -> tuple[str, str]:
    """The options that give a container what earlier ones fetched and made."""
    folder = cache / "var-cache"
    folder.mkdir(mode=0o755, exist_ok=True)
    return "-v", f"{folder}:/var/cache/chalice-ci"


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
