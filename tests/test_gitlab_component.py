"""The component of plugins/gitlab: which jobs run when, and the story of a change, run for real."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from chalice_ci.errors import ExitCode
from chalice_ci.local import EmbeddedAWS
from offline_gitlab import server as gitlab_server
from offline_gitlab.pipelines import Pipelines
from offline_gitlab.server import OfflineGitLab, offline_gitlab
from support import githttp
from support.commandline import ROOT, commit, environ, git, hello, write

PLUGIN = ROOT / "plugins" / "gitlab"
COMPONENT = PLUGIN / "templates" / "chalice.yml"
YML = """version: 1
stages:
  dev: {deploy-on: {branch: main}}
  prod: {deploy-on: {branch: main}, environment: production}
preview: {like: dev}
"""
USING = """include:
  - local: templates/chalice.yml
    inputs: {apply: prod}
"""
MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "1",
    "CI_MERGE_REQUEST_PROJECT_ID": "7",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "7",
}
BRANCH = {"CI_PIPELINE_SOURCE": "push"}


@pytest.fixture(scope="module")
def using(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    """A repository that includes the component, on its default branch."""
    root = tmp_path_factory.mktemp("component") / "orders"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    return Pipelines(folder=component_in(root), env=environ())


def component_in(root: Path, using: str = USING) -> Path:
    write(root, {".gitlab-ci.yml": using, ".gitignore": ".gitlab-ci-local/\nchalice-ci-out/\n"})
    (root / "templates").mkdir(exist_ok=True)
    shutil.copy(COMPONENT, root / "templates")
    head = commit(root, "Use the component")
    git(root, "remote", "add", "origin", "https://gitlab.example/shop/orders.git")
    git(root, "update-ref", "refs/remotes/origin/main", head)
    git(root, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    return root


@pytest.mark.parametrize(
    ("variables", "automatic", "manual"),
    [
        (MERGE_REQUEST, {"chalice-preview"}, {"chalice-preview-stop"}),
        (MERGE_REQUEST | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "8"}, {"chalice-check"}, set()),
        (MERGE_REQUEST | {"CI_MERGE_REQUEST_EVENT_TYPE": "merge_train"}, {"chalice-check"}, set()),
        (BRANCH, {"chalice-deploy"}, {"chalice-apply"}),
        ({"CI_PIPELINE_SOURCE": "schedule"}, {"chalice-deploy"}, set()),
    ],
    ids=["own", "fork", "train", "push", "schedule"],
)
def test_each_event_starts_the_jobs_that_it_should(
    using: Pipelines, variables: dict[str, str], automatic: set[str], manual: set[str]
) -> None:
    jobs = using.when(**variables)
    assert {name for name, when in jobs.items() if when == "on_success"} == automatic
    assert {name for name, when in jobs.items() if when == "manual"} == manual


def test_what_it_expands_to_and_the_example_are_what_gitlab_takes(
    using: Pipelines, tmp_path: Path
) -> None:
    expanded = tmp_path / "expanded.yml"
    expanded.write_text(using.expanded)
    files = [expanded, PLUGIN / ".gitlab-ci.yml"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci"),
            *map(str, files),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = using.jobs
    preview, stop = jobs["chalice-preview"], jobs["chalice-preview-stop"]
    assert preview["environment"]["on_stop"] == "chalice-preview-stop"
    # GitLab asks for the same name and rules, or never starts the job that stops.
    assert preview["environment"]["name"] == stop["environment"]["name"]
    assert [rule["if"] for rule in preview["rules"]] == [rule["if"] for rule in stop["rules"]]
    assert jobs["chalice-apply"]["environment"]["name"] == "production"


def test_every_input_is_used_and_described() -> None:
    head, body = COMPONENT.read_text().split("\n---\n")
    inputs = yaml.safe_load(head)["spec"]["inputs"]
    assert set(re.findall(r"\$\[\[ inputs\.([a-z-]+) \]\]", body)) == set(inputs)
    assert all(given["description"] for given in inputs.values())


@dataclass
class Story:
    """A project on GitLab with a runner's clone of it, and an account."""

    aws: EmbeddedAWS
    gitlab: OfflineGitLab
    clone: Path
    server: str
    using: Pipelines
    pushed_as: list[str] = field(default_factory=list)
    pipeline: int = 1500

    def job(self, name: str, *, code: int = 0, **event: str) -> str:
        """Run a job of the pipeline with the variables that GitLab would give it; its output."""
        variables = {
            "GITLAB_CI": "true",
            "CI_PROJECT_ID": str(gitlab_server.PROJECT),
            "CI_PROJECT_PATH": gitlab_server.PATH,
            "CI_SERVER_URL": self.server,
            "CI_API_V4_URL": self.gitlab.api_url,
            "CI_DEFAULT_BRANCH": "main",
            "CI_PIPELINE_ID": str(self.pipeline),
            "CI_PIPELINE_URL": f"{self.gitlab.url}/{gitlab_server.PATH}/-/pipelines/1500",
            "CI_COMMIT_SHA": git(self.clone, "rev-parse", "HEAD"),
            "GITLAB_TOKEN": gitlab_server.TOKEN,
            "CI_JOB_TOKEN": gitlab_server.JOB_TOKEN,
            **event,
        }
        runner = environ(**self.aws.environ, **variables)
        runner["PATH"] = f"{Path(sys.executable).parent}:{runner['PATH']}"
        runner["CHALICE_CI_GATEWAY_URL"] = self.aws.gateway_url
        done = self.using.run(name, folder=self.clone, env=runner, variables=variables)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def request(self, number: int, **more: str) -> dict[str, str]:
        return {
            **MERGE_REQUEST,
            "CI_MERGE_REQUEST_IID": str(number),
            "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": gitlab_server.PATH,
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "change",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": git(self.clone, "rev-parse", "origin/main"),
            **more,
        }

    def functions(self) -> list[str]:
        client = boto3.client(
            "lambda",
            endpoint_url=self.aws.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="embedded",
            aws_secret_access_key="embedded",
        )
        return sorted(f["FunctionName"] for f in client.list_functions()["Functions"])

    def file(self, name: str) -> str:
        return (self.clone / "chalice-ci-out" / name).read_text()

    def notes(self, number: int) -> list[dict[str, Any]]:
        return self.gitlab.notes[number]


@pytest.fixture
def story(tmp_path: Path, using: Pipelines) -> Iterator[Story]:
    origin = tmp_path / "served" / f"{gitlab_server.PATH}.git"
    origin.mkdir(parents=True)
    git(origin, "init", "--quiet", "--bare", "--initial-branch", "main")
    git(origin, "config", "http.receivepack", "true")
    root = component_in(hello(tmp_path / "orders", **{"chalice-ci.yml": YML}))
    pushed_as: list[str] = []
    with (
        EmbeddedAWS.start() as aws,
        offline_gitlab() as gitlab,
        githttp.serving(
            tmp_path / "served",
            environ=environ(),
            see=lambda headers: pushed_as.append(headers.get("Authorization", "")),
        ) as server,
    ):
        git(root, "remote", "set-url", "origin", f"{server}/{gitlab_server.PATH}.git")
        git(root, "push", "--quiet", "origin", "main")

        def known(ref: str) -> bool:
            asked = ["git", "-C", str(origin), "cat-file", "-e", f"{ref}^{{commit}}"]
            return subprocess.run(asked, capture_output=True, check=False).returncode == 0

        def read(path: str, ref: str) -> bytes | None:
            shown = ["git", "-C", str(origin), "cat-file", "blob", f"{ref}:{path}"]
            done = subprocess.run(shown, capture_output=True, check=False)
            return done.stdout if done.returncode == 0 else None

        def changed(old: str, new: str) -> list[str]:
            return git(origin, "diff", "--name-only", old, new).splitlines()

        gitlab.has_commit, gitlab.read_file, gitlab.changed = known, read, changed
        yield Story(
            aws=aws, gitlab=gitlab, clone=root, server=server, using=using, pushed_as=pushed_as
        )
        assert gitlab.invalid == []


def test_the_story_of_a_change_from_its_merge_request_to_production(story: Story) -> None:
    clone, gitlab = story.clone, story.gitlab
    git(clone, "switch", "--quiet", "--create", "change")
    write(clone, {"app.py": (clone / "app.py").read_text().replace('"world"', '"moon"')})
    head = commit(clone, "Greet the moon")
    git(clone, "push", "--quiet", "origin", "change")
    number = gitlab.merge_request(head=head, base=git(clone, "rev-parse", "main"))

    # Opened: a preview, a note with its URL, and the reports that GitLab collects.
    story.job("chalice-preview", **story.request(number), CI_ENVIRONMENT_NAME=f"pr-{number}")
    assert story.functions() == [f"hello-pr-{number}"]
    (note,) = story.notes(number)
    assert note["author"]["id"] == gitlab_server.BOT["id"]
    variables = dict(line.split("=", 1) for line in story.file("chalice-ci.env").splitlines())
    assert variables["CHALICE_URL"] in note["body"]
    assert variables["CHALICE_RESULT"] == "ok"
    assert f"#note_{note['id']}" in variables["CHALICE_COMMENT_URL"]
    assert f"{story.server}/{gitlab_server.PATH}/-/commit/{head}" in note["body"]
    assert ET.fromstring(story.file("junit.xml")).tag == "testsuites"
    assert isinstance(json.loads(story.file("gl-code-quality-report.json")), list)
    # The job is one of an environment: GitLab makes the deployment itself.
    assert gitlab.deployments == {}

    # Merged: GitLab starts the job that stops the environment.
    gitlab.requests[number]["state"] = "merged"
    stopping = {"CI_ENVIRONMENT_NAME": f"pr-{number}", "CI_ENVIRONMENT_ACTION": "stop"}
    story.job("chalice-preview-stop", **story.request(number), **stopping)
    assert story.functions() == []
    (told,) = story.notes(number)
    assert "removed" in told["body"]
    assert variables["CHALICE_URL"] not in told["body"]

    # On main: dev is deployed, prod is planned, and a person applies exactly that plan.
    git(clone, "switch", "--quiet", "main")
    git(clone, "merge", "--quiet", "--no-edit", "change")
    git(clone, "push", "--quiet", "origin", "main")
    story.pipeline += 1
    story.job("chalice-deploy", **BRANCH, CI_COMMIT_BRANCH="main")
    assert story.functions() == ["hello-dev"]
    (plan,) = (clone / "chalice-ci-out").glob("*-prod.plan")
    sealed = plan.read_bytes()

    # What is asked for is looked for inside of the plans, whatever their files are called.
    plan.rename(plan.with_name("hello-pre-prod.plan"))
    plan = plan.with_name("hello-pre-prod.plan")

    # Another pipeline's person has approved nothing of it.
    story.pipeline += 1
    said = story.job("chalice-apply", code=ExitCode.PLAN_REFUSED, **BRANCH, CI_COMMIT_BRANCH="main")
    assert "believed only in the run that made it" in said
    assert story.functions() == ["hello-dev"]
    story.pipeline -= 1
    story.job("chalice-apply", **BRANCH, CI_COMMIT_BRANCH="main", CI_ENVIRONMENT_NAME="production")
    assert plan.read_bytes() == sealed
    # GitLab was asked whether main went on since the plan was made.
    assert "GET /projects/:id/repository/compare" in gitlab.seen
    assert story.functions() == ["hello-dev", "hello-prod"]

    # The state went over git with the project's token, to its own branch.
    token = base64.b64encode(f"oauth2:{gitlab_server.TOKEN}".encode()).decode()
    assert f"Basic {token}" in story.pushed_as
    assert "refs/heads/chalice-state" in git(clone, "ls-remote", "origin")
