"""One embedded AWS for all systems; each test has an account and a repository of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chalice_ci.local import EmbeddedAWS
from plugins.bench import Bench, Door, door
from support.awsclients import clients_of
from support.commandline import git, hello
from support.shapes import REGION

YML = """version: 1
apps: {orders: {path: .}}
stages:
  dev: {deploy-on: {branch: main}}
  prod: {deploy-on: {tag: "v*"}, environment: production}
state: {store: s3, bucket: orders-state}
"""
# No API: making one costs more than all else together.
APP = """from chalice import Chalice

app = Chalice(app_name="hello")


@app.lambda_function()
def order(event, context):
    return {}
"""


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {
        "app.py": APP,
        "chalice-ci.yml": YML,
        ".gitignore": "chalice-ci-*\n.chalice/deployed/\n",
    }
    root = hello(tmp_path_factory.mktemp("begun") / "orders", **files)
    # As a full clone leaves it.
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(root, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    return root


@pytest.fixture(scope="session")
def answering() -> Iterator[tuple[Door, int]]:
    with door() as (found, port):
        yield found, port
        assert not found.problems


@pytest.fixture
def started(answering: tuple[Door, int]) -> Door:
    """The starts of the product in this test."""
    answering[0].asked.clear()
    return answering[0]


@pytest.fixture
def bench(
    aws: EmbeddedAWS, begun: Path, started: Door, answering: tuple[Door, int], tmp_path: Path
) -> Bench:
    """A machine with the repository, and an account that has only the bucket of the state."""
    aws.reset()
    s3 = clients_of(aws)("s3")
    s3.create_bucket(Bucket="orders-state")
    versioned = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket="orders-state", VersioningConfiguration=versioned)
    workspace = tmp_path / "job" / "orders"
    shutil.copytree(begun, workspace)
    return Bench(tmp_path / "bench", workspace, aws.environ, answering[1])


@pytest.fixture
def functions(aws: EmbeddedAWS) -> Callable[..., list[str]]:
    """The names of the functions that are deployed in a region."""

    def names(region: str = REGION) -> list[str]:
        found = clients_of(aws, region)("lambda").list_functions()["Functions"]
        return sorted(function["FunctionName"] for function in found)

    return names
