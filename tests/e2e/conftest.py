"""One GitHub and one AWS for a story; the engine and the image are those of the image suite."""

from __future__ import annotations

import os

import pytest

from chalice_ci.app.pythons import find_python
from chalice_ci.local import EmbeddedAWS
from offline_github.gateway import offline_github, report


@pytest.fixture(scope="module")
def github(tmp_path_factory, measured):
    with offline_github(tmp_path_factory.mktemp("github")) as running:
        yield running
        measured(report(running))
        assert running.invalid == []


@pytest.fixture(scope="module")
def aws():
    # The image's Python is what the functions ask for.
    python = find_python("3.13", environ=os.environ)
    if python is None:
        pytest.skip("no Python 3.13 on this machine to serve the functions with")
    with EmbeddedAWS.start(pythons={"3.13": python.executable}) as running:
        yield running
