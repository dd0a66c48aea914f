"""A state that no store takes: exit code 17, the state in a file and in the summary, and the next
run takes up what stands. Whole runs, one of each store.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.local import EmbeddedAWS
from chalice_ci.ownership import clients_of
from offline_github.emulate import ADMIN, OWNER
from offline_github.gateway import Failure, OfflineGitHub, offline_github
from support import disk
from support.commandline import Ran, command, environ, git, hello
from support.githttp import serving
from support.inprocess import run_here
from support.steps import event

REFUSING = """#!/bin/sh
read old new ref
git ls-tree -r --name-only $new | grep -q journal && exit 0
echo 'GH006: protected branch hook declined' >&2
exit 1
"""
"""The lease and the journal are taken, the state is not."""


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield aws


@pytest.fixture
def aws(running: EmbeddedAWS) -> EmbeddedAWS:
    running.reset()
    return running


@dataclass(kw_only=True)
class Place:
    """A repository with one kind of store, and what makes that store refuse states."""

    repository: Path
    environ: dict[str, str]
    refusing: Any
    telling: str
    start: Any = command


@contextlib.contextmanager
def local(folder: Path, _: EmbeddedAWS) -> Iterator[Place]:
    repository = hello(folder / "r", **{"chalice-ci.yml": "state: {store: local}\n"})

    rules = {
        "roots": [str(repository)],
        "nth": 1,
        "errno": errno.ENOSPC,
        "lasting": True,
        "only": ".dev.json.",
        "log": os.devnull,
    }
    yield Place(
        repository=repository,
        environ={},
        refusing=contextlib.nullcontext,
        telling="No space left on device",
        start=lambda *arguments: disk.command(rules, arguments),
    )


@contextlib.contextmanager
def over_http(folder: Path, _: EmbeddedAWS) -> Iterator[Place]:
    home = folder / "home.git"
    git(folder, "init", "--quiet", "--bare", "home.git")
    git(home, "config", "http.receivepack", "true")
    repository = hello(folder / "r")
    hook = home / "hooks" / "pre-receive"

    @contextlib.contextmanager
    def refusing() -> Iterator[None]:
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(REFUSING, encoding="utf-8")
        hook.chmod(0o755)
        yield
        hook.unlink()

    with serving(folder, environ=os.environ) as address:
        git(repository, "config", "remote.origin.url", f"{address}/home.git")
        yield Place(
            repository=repository, environ={}, refusing=refusing, telling="protects the branch"
        )


@contextlib.contextmanager
def bucket(folder: Path, aws: EmbeddedAWS) -> Iterator[Place]:
    s3 = clients_of(aws.environ, aws.environ["AWS_DEFAULT_REGION"])("s3")
    s3.create_bucket(Bucket="states")
    s3.put_bucket_versioning(Bucket="states", VersioningConfiguration={"Status": "Enabled"})
    configured = "state: {store: s3, bucket: states}\n"
    repository = hello(folder / "r", **{"chalice-ci.yml": configured})

    @contextlib.contextmanager
    def refusing() -> Iterator[None]:
        denied = {"status": 403, "code": "AccessDenied", "message": "not for you"}
        aws.order_faults(
            [{"service": "s3", "operation": "PutObject", "nth": 2, "times": 99, **denied}]
        )
        yield
        aws.order_faults([])

    yield Place(repository=repository, environ={}, refusing=refusing, telling="AccessDenied")


_ROOMS = itertools.count(1)


@contextlib.contextmanager
def on_github(folder: Path, github: OfflineGitHub) -> Iterator[Place]:
    name = f"{OWNER}/unrecorded-{next(_ROOMS)}"
    github.emulator.post(
        f"/orgs/{OWNER}/repos",
        {"name": name.partition("/")[2], "auto_init": True},
        token=github.emulator.token_of(ADMIN),
    )
    repository = hello(folder / "r")
    variables = {
        **event(repository, folder, "push"),
        "GITHUB_REPOSITORY": name,
        "GITHUB_API_URL": github.url,
        "GITHUB_TOKEN": github.emulator.workflow_token(contents="write"),
    }

    @contextlib.contextmanager
    def refusing() -> Iterator[None]:
        # The journal is the first thing that is written, on a branch that is made for it.
        github.fail(Failure.NO_PERMISSION, method="POST", path="createCommitOnBranch", times=99)
        yield
        github.faults.clear()

    yield Place(repository=repository, environ=variables, refusing=refusing, telling="contents")


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineGitHub]:
    with offline_github(tmp_path_factory.mktemp("github")) as emulated:
        yield emulated


@pytest.fixture(params=["local", "git over http", "s3", "github"])
def place(request: pytest.FixtureRequest, aws: EmbeddedAWS, tmp_path: Path) -> Iterator[Place]:
    kinds: dict[str, Any] = {"local": local, "git over http": over_http, "s3": bucket}
    if request.param == "github":
        with on_github(tmp_path, request.getfixturevalue("github")) as made:
            yield made
        return
    with kinds[request.param](tmp_path, aws) as made:
        yield made


def test_it_is_kept_in_a_file_and_in_the_summary_and_taken_up_by_the_next_run(
    place: Place, aws: EmbeddedAWS, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.md"
    summary.touch()
    env = {**place.environ, **aws.environ, "GITHUB_STEP_SUMMARY": str(summary)}
    asked = ("deploy", "--stage", "dev", "--format", "json")
    # In a process of its own: the lease of one that has ended is not waited for.
    with place.refusing():
        ran = ended(place.start(*asked), place.repository, env)
    assert ran.code == 17, ran.out + ran.err
    failure = ran.result["failure"]
    assert place.telling in failure["what"] + failure["fix"]
    assert "state import" in failure["fix"]
    kept = place.repository / "chalice-ci-out" / "hello-dev.state.json"
    assert str(kept.name) in failure["what"]
    resources = json.loads(kept.read_text(encoding="utf-8"))["resources"]
    clients = clients_of(aws.environ, aws.environ["AWS_DEFAULT_REGION"])
    (api,) = clients("apigateway").get_rest_apis()["items"]
    assert {r["rest_api_id"] for r in resources if r["name"] == "rest_api"} == {api["id"]}
    told = summary.read_text(encoding="utf-8")
    assert kept.read_text(encoding="utf-8") in told
    again = run_here(*asked, cwd=place.repository, **env)
    assert again.code == 0, again.out + again.err
    assert "recovering an unfinished deploy" in again.err
    assert [one["id"] for one in clients("apigateway").get_rest_apis()["items"]] == [api["id"]]
    assert len(clients("lambda").list_functions()["Functions"]) == 1
    shown = run_here(
        *("state", "show", "--stage", "dev", "--format", "json"), cwd=place.repository, **env
    )
    recorded = {(r["type"], r["name"], r["identity"]) for r in shown.result["resources"]}
    assert ("rest_api", "rest_api", api["id"]) in recorded
    assert len(recorded) == len(resources)


def ended(arguments: list[str], cwd: Path, env: dict[str, str]) -> Ran:
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env=environ(**env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)
