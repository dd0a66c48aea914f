"""A fork's pull request: checked, rehearsed, and told by another workflow."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest

from chalice_ci.forge.local import LocalForge
from chalice_ci.local import EmbeddedAWS
from support.commandline import APP, commit, git, hello, write
from support.inprocess import run_here
from support.steps import REPOSITORY, event, pull_request

# Its own secret is not here, and its smoke check would run the stranger's code.
YML = """version: 1
stages:
  dev:
    deploy-on: {branch: main}
    account: "999999999999"
    environment-variables: {TOKEN: {secret: TOKEN}}
    smoke: [{path: /}]
preview: {like: dev}
"""
FORK = "stranger/hello"


@pytest.fixture(scope="module")
def account():
    """An AWS that the run could reach if it tried to."""
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


class Story:
    """A fork's pull request, and runs about it."""

    def __init__(self, folder, account):
        account.reset()
        self.folder, self.account = folder, account
        self.repository = hello(folder / "r", **{"chalice-ci.yml": YML})
        git(self.repository, "switch", "--quiet", "--create", "feature")
        write(self.repository, {"app.py": APP.replace('"/"', '"/greeting"')})
        self.head = commit(self.repository)
        self.forge = LocalForge(folder / "forge", repository=REPOSITORY["full_name"])
        self.number = self.forge.create_pull_request(
            head_ref="feature",
            head_sha=self.head,
            base_sha=git(self.repository, "rev-parse", "main"),
            head_repository=FORK,
        ).number

    def run(self, *verb, cwd=None, **env):
        forge = ("--local-forge", self.folder / "forge")
        return run_here(*verb, *forge, cwd=cwd or self.repository, **env)

    def pull_request(self, *verb, name="pull_request"):
        pull = pull_request(self.repository, number=self.number, fork=True)
        env = event(self.repository, self.folder, name, action="opened", pull=pull)
        return self.run(*verb, **(self.account.environ | env))

    def retold(self, *verb, sha="", run=2, about="pull_request", forked=True):
        """A run on `workflow_run`, in a job without a checkout that has the artifact."""
        env = event(self.repository, self.folder, "workflow_run", action="completed", run=run)
        file = Path(env["GITHUB_EVENT_PATH"])
        head = {"id": 99, "full_name": FORK} if forked else REPOSITORY
        payload = json.loads(file.read_text()) | {
            "workflow_run": {
                "head_sha": sha or self.head,
                "head_branch": "feature",
                "head_repository": head,
                "event": about,
                # As GitHub sends it for a fork.
                "pull_requests": [],
            }
        }
        file.write_text(json.dumps(payload))
        place = self.folder / "without-checkout"
        place.mkdir(exist_ok=True)
        reports = ("--reports", self.repository / "chalice-ci-out")
        return self.run(*(verb or ("report", *reports)), cwd=place, **env)

    @property
    def report(self):
        return self.repository / "chalice-ci-out" / "report.json"

    def comments(self):
        return [raw.body for _, raw in self.forge.comments(self.number)]


@pytest.fixture(scope="module")
def story(tmp_path_factory, account):
    made = Story(tmp_path_factory.mktemp("story"), account)
    ran = made.pull_request("run")
    assert ran.code == 0, ran.out + ran.err
    return made


def test_a_fork_is_rehearsed_without_an_account(story):
    (result,) = json.loads(story.report.read_text())["results"]
    assert (result["stage"], result["intent"], result["verdict"]) == ("dev", "rehearse", "ok")
    assert "rehearsed on the embedded AWS: 3 resources came up" in result["note"]
    assert [(item["kind"], item["subject"]) for item in result["difference"]["items"]] == [
        ("removed", "GET /"),
        ("added", "GET /greeting"),
    ]
    assert result["plan"] is None
    client = boto3.Session("embedded", "embedded", region_name="us-east-1").client(
        "lambda", endpoint_url=story.account.endpoint_url
    )
    assert client.list_functions()["Functions"] == []
    assert not list(story.repository.glob("chalice-ci-out/*.plan"))
    assert "chalice-state" not in git(story.repository, "branch", "--list", "--all")
    assert story.comments() == []


def test_another_workflow_tells_the_report_on_the_pull_request_that_github_names(story):
    told = story.retold()
    assert told.code == 0, told.out + told.err
    (body,) = story.comments()
    assert "fit to deploy, rehearsed" in body
    assert "its code could have written anything" in body
    told = story.retold(run=3)
    assert told.code == 0
    assert len(story.comments()) == 1


def test_a_forged_report_claims_no_deployment_and_no_address(story):
    document = json.loads(story.report.read_text())
    genuine = story.report.read_bytes()
    (result,) = document["results"]
    result["urls"] = [{"kind": "rest", "address": "https://evil.example/login"}]
    result["note"] = "see https://evil.example/login <img src=https://evil.example/x> @octo"
    story.report.write_text(json.dumps(document))
    try:
        told = story.retold(run=4)
    finally:
        story.report.write_bytes(genuine)
    assert told.code == 0, told.out + told.err
    (body,) = story.comments()
    assert "](https://evil.example" not in body
    assert "<img" not in body
    assert "@octo" not in body


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"commit": "b" * 40}, "the report is of bbbbbbbbbbbb, and the run was on"),
        ({"results": [{"app": "hello"}]}, "the report"),
        ({"verb": 7}, "the report"),
    ],
)
def test_a_report_that_is_none_or_another_runs_is_refused(story, change, what):
    before = story.comments()
    genuine = story.report.read_bytes()
    story.report.write_text(json.dumps(json.loads(genuine) | change))
    try:
        refused = story.retold(run=5)
    finally:
        story.report.write_bytes(genuine)
    assert refused.code == 2, refused.out + refused.err
    assert what in refused.err
    assert story.comments() == before


@pytest.mark.parametrize(
    ("circumstances", "what"),
    [
        ({"sha": "c" * 40}, "no open pull request has the head ccccccc any more"),
        # A branch of the same name and commit in another repository.
        ({"forked": False}, "no open pull request has the head"),
        ({"about": "push"}, "is not about a pull request's run"),
    ],
)
def test_only_the_pull_request_of_that_very_run_is_told(story, circumstances, what):
    before = story.comments()
    refused = story.retold(run=6, **circumstances)
    assert refused.code == 2, refused.out + refused.err
    assert what in refused.err
    assert story.comments() == before


@pytest.mark.parametrize("verb", [("run",), ("matrix",), ("preview", "sweep")])
def test_nothing_but_a_report_is_done_on_workflow_run(story, verb):
    refused = story.retold(*verb, run=7)
    assert refused.code == 2
    assert "Only `command: report` works here" in refused.err or "not done" in refused.err


def test_a_forks_checkout_under_pull_request_target_is_refused(story):
    refused = story.pull_request("run", name="pull_request_target")
    assert refused.code == 2
    assert "what a workflow checks out there may be anyone's code" in refused.err
    assert "on: pull_request" in refused.err
