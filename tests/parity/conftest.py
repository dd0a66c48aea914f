"""Both stories of a combination, told once for all tests that compare them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
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
    python_of,
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
    # Told once for all tests of a module (`--dist loadfile`): the first one waits.
    params=[
        pytest.param(chosen, marks=pytest.mark.timeout(1500), id=str(chosen))
        for chosen in COMBINATIONS
    ],
)
def combination(request: pytest.FixtureRequest) -> Combination:
    """A Chalice with the Pythons on which its apps are deployed."""
    chosen: Combination = request.param
    return chosen


@pytest.fixture(scope="module")
def pythons(combination: Combination) -> Mapping[str, Interpreter]:
    """The combination's interpreters; without one of them its tests are skipped."""
    found = {}
    for minor in combination.pythons:
        python = find_python(minor, environ=os.environ, running=Path(sys.executable))
        if python is None:
            pytest.skip(f"no Python {minor} on this machine")
        found[minor] = python
    return found


@pytest.fixture(scope="module")
def root(combination: Combination) -> Iterator[Path]:
    """A folder that a process without rights can enter: pytest's own ones are closed."""
    with tempfile.TemporaryDirectory(prefix=f"chalice-ci-parity-{combination}-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def stories(
    combination: Combination, pythons: Mapping[str, Interpreter], aws: EmbeddedAWS, root: Path
) -> Stories:
    """Deploy, update and delete of all shapes by both."""
    shapes = shapes_of(combination)
    environ = tool_environ(root / "home", aws, pythons=pythons.values())
    with ExitStack() as running:
        chalices = {
            minor: running.enter_context(
                PlainChalice(plain_environment(combination.chalice, python), environ=environ)
            )
            for minor, python in pythons.items()
        }
        by_plain = ByPlainChalice(chalice=lambda shape: chalices[python_of(combination, shape)])
        plain = tell(by_plain, shapes, aws, root / "plain")
    ours = tell(ByChaliceCi(combination=combination, environ=environ), shapes, aws, root / "ours")
    return Stories(combination=combination, plain=plain, ours=ours)
