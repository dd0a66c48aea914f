"""Both stories of a combination, told once for all tests that compare them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalice_ci.app.pythons import Interpreter, find_python
from chalice_ci.local.aws import EmbeddedAWS
from support.chalicecli import (
    COMBINATIONS,
    Combination,
    PlainChalice,
    plain_environment,
)
from support.stories import (
    ByChaliceCi,
    ByPlainChalice,
    Stories,
    shapes_of,
    tell,
    tool_environ,
)


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAWS]:
    """An AWS for one side after the other."""
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(
    scope="module",
    # One process tells the stories of a combination, for all of its tests.
    params=[
        pytest.param(chosen, marks=pytest.mark.xdist_group(str(chosen)), id=str(chosen))
        for chosen in COMBINATIONS
    ],
)
def combination(request: pytest.FixtureRequest) -> Combination:
    """Each supported Chalice, on two Pythons where it has two."""
    chosen: Combination = request.param
    return chosen


@pytest.fixture(scope="module")
def python(combination: Combination) -> Interpreter:
    """The combination's interpreter; without one its tests are skipped."""
    found = find_python(combination.python, environ=os.environ, running=Path(sys.executable))
    if found is None:
        pytest.skip(f"no Python {combination.python} on this machine")
    return found


@pytest.fixture(scope="module")
def root(combination: Combination) -> Iterator[Path]:
    """A folder that a process without rights can enter: pytest's own ones are closed."""
    with tempfile.TemporaryDirectory(prefix=f"chalice-ci-parity-{combination}-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def stories(combination: Combination, python: Interpreter, aws: EmbeddedAWS, root: Path) -> Stories:
    """Deploy, update and delete of all shapes by both."""
    shapes = shapes_of(combination)
    environ = tool_environ(root / "home", aws)
    with PlainChalice(plain_environment(combination, python), environ=environ) as chalice:
        plain = tell(ByPlainChalice(chalice=chalice), shapes, aws, root / "plain")
    teller = ByChaliceCi(combination=combination, python=python, environ=environ)
    ours = tell(teller, shapes, aws, root / "ours")
    return Stories(combination=combination, plain=plain, ours=ours)
