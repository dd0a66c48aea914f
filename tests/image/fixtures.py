"""What the image suite, the story and the runs of `act` share: one engine, the images, a cache.

`tests/conftest.py` makes this a plugin. Imported into each suite's conftest, every fixture of the
session would exist once per suite, and the second engine would wait for the first one's end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from image.engine import Engine, engine

ROOT = Path(__file__).parents[2]
VERSION = "1.2.3"
REVISION = "0123456789abcdef0123456789abcdef01234567"
# The first test that asks for the images also makes what they are built from.
_SECONDS = 1200

_MEASURED = pytest.StashKey[list[str]]()


@dataclass(frozen=True, kw_only=True)
class Images:
    """The tags of what was built."""

    action: str
    rehearsal: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests in containers the time that these take."""
    for item in items:
        if "docker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(_SECONDS))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured."""
    for line in config.stash.get(_MEASURED, ()):
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Note a measurement for the end of the run."""
    lines = pytestconfig.stash.setdefault(_MEASURED, [])
    return lines.append


@pytest.fixture(scope="session")
def kept() -> Path:
    """What outlives a run: the engine's data, the base image, packages for the containers."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "chalice-ci-tests" / "image"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def docker(kept: Path) -> Iterator[Engine]:
    """An engine; without one the suite fails, because nothing else shows what it shows."""
    with engine(kept) as found:
        yield found


@pytest.fixture(scope="session")
def images(docker: Engine, kept: Path, measured: Callable[[str], None]) -> Images:
    """Both images, built from this tree."""
    base = docker.base(kept)
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
def warm(kept: Path) -> tuple[str, str]:
    """The options that give a container what earlier ones fetched and made."""
    folder = kept / "var-cache"
    folder.mkdir(mode=0o755, exist_ok=True)
    return "-v", f"{folder}:/var/cache/chalice-ci"
