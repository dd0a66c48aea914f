"""A pull request's life and a release, step by step: each step is a container of the action."""

from __future__ import annotations

import json
import shutil

import boto3
import pytest

from image.runner import Job
from offline_github import webhooks
from offline_github.emulate import REPOSITORY
from support.commandline import APP, CONFIG, git, write

WORKFLOW_FILES = {
    "app.py": APP,
    ".chalice/config.json": CONFIG,
    "requirements.txt": "",
    "chalice-ci.yml": """version: 1
stages:
  dev: {deploy-on: {branch: main}, smoke: [{path: /, contains: world}]}
  prod: {deploy-on: {tag: "v*"}, environment: production, needs: dev}
preview: {like: dev}
""",
}
WEBSOCKET = APP + "\n\n@app.on_ws_message()\ndef message(event):\n    pass\n"
OPTED_IN = WEBSOCKET.replace(
    'app = Chalice(app_name="hello")',
    'app = Chalice(app_name="hello")\napp.experimental_feature_flags.update(["WEBSOCKETS"])',
)


class Story:
    """A repository on the offline GitHub, and jobs that run the action on its commits."""

    def __init__(self, github, aws, docker, image, warm, folder):
        self.github, self.aws, self.docker, self.image, self.warm = github, aws, docker, image, warm
        self.folder = folder
        self.runs = 0
        self.token = github.emulator.workflow_token()

    def checkout(self, files):
        """A job with a commit checked out as actions/checkout leaves it."""
        self.runs += 1
        job = Job(self.docker, self.folder / f"job-{self.runs}")
        git(job.workspace, "init", "--quiet", "--initial-branch", "main")
        write(job.workspace, files)
        git(job.workspace, "add", "--all")
        git(job.workspace, "commit", "--quiet", "--message", "Checked out")
        job.give(job.workspace)
        return job

    def step(self, job, event, payload, *, inputs=None, sha, ref="refs/heads/main"):
        """Run the action on an event, and its end."""
        env = {
            **self.github.environ,
            **self.aws.environ,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_REF": ref,
            "GITHUB_SHA": sha,
            "GITHUB_RUN_ID": str(9000 + self.runs),
        }
        given = {
            "github-token": self.token,
            "gateway-url": self.aws.gateway_url,
            **(inputs or {}),
        }
        done = job.run(
            self.image,
            event=event,
            payload=payload,
            inputs=given,
            env=env,
            options=self.warm,
            seconds=300,
        )
        job.run(self.image, event=event, payload=payload, inputs=given, env=env, post=True)
        return done


@pytest.fixture(scope="module")
def story(github, aws, docker, images, warm, tmp_path_factory):
    made = Story(github, aws, docker, images.action, warm, tmp_path_factory.mktemp("jobs"))
    github.emulator.push("main", WORKFLOW_FILES, message="An app")
    return made


def functions(aws):
    client = boto3.client(
        "lambda",
        endpoint_url=aws.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    return sorted(f["FunctionName"] for f in client.list_functions()["Functions"])


def test_the_story_from_a_pull_request_to_production(story, github, aws):
    emulator = github.emulator

    # Opened with an experimental feature: refused.
    files = {**WORKFLOW_FILES, "app.py": WEBSOCKET}
    sha = emulator.push("feature", {"app.py": WEBSOCKET}, message="Notify")
    number = emulator.pull_request("feature")

    def payload(action, head):
        return webhooks.pull_request(
            action, number=number, full_name=REPOSITORY, head_ref="feature", head_sha=head,
            base_ref="main",
        )  # fmt: skip

    ref = f"refs/pull/{number}/merge"
    opened = story.step(
        story.checkout(files), "pull_request", payload("opened", sha), sha=sha, ref=ref
    )
    assert opened.code == 1, opened.said
    (comment,) = emulator.comments(number)
    assert "experimental_feature_flags.update(['WEBSOCKETS'])" in comment["body"]
    assert functions(aws) == []

    # Fixed: the same comment, and a preview that answers.
    files["app.py"] = OPTED_IN
    sha = emulator.push("feature", {"app.py": OPTED_IN}, message="Opt in")
    fixed = story.step(
        story.checkout(files), "pull_request", payload("synchronize", sha), sha=sha, ref=ref
    )
    assert fixed.code == 0, fixed.said
    (again,) = emulator.comments(number)
    assert again["id"] == comment["id"]
    assert fixed.outputs["url"] in again["body"]
    assert [name for name in functions(aws) if name.startswith(f"hello-pr-{number}")]
    (deployment,) = github.deployments.of(REPOSITORY, f"pr-{number}")
    assert deployment[1] == "success"

    # Closed: gone.
    closed = story.step(
        story.checkout(files), "pull_request", payload("closed", sha), sha=sha, ref=ref
    )
    assert closed.code == 0, closed.said
    assert functions(aws) == []
    assert github.deployments.of(REPOSITORY, f"pr-{number}") == []
    assert len(emulator.comments(number)) == 1

    # Merged: dev is deployed, the state committed through the API.
    sha = emulator.push("main", {"app.py": OPTED_IN}, message="Merge")
    merged = story.step(story.checkout(files), "push", webhooks.push(sha=sha), sha=sha)
    assert merged.code == 0, merged.said
    assert "hello-dev" in functions(aws)
    state = json.loads(emulator.file(".chalice/deployed/dev.json", ref="chalice-state"))
    assert {r["resource_type"] for r in state["resources"]} >= {"rest_api", "websocket_api"}
    assert merged.outputs["state-commit"] == emulator.head("chalice-state")

    # A tag: the plan waits, then exactly it is applied.
    job = story.checkout(files)
    tagged = story.step(
        job, "push", webhooks.push("refs/tags/v1", sha=sha), sha=sha, ref="refs/tags/v1"
    )
    assert tagged.code == 0, tagged.said
    assert "hello-prod" not in functions(aws)
    plan = tagged.outputs["plan"]
    gated = Job(story.docker, story.folder / "gated")
    shutil.copytree(job.workspace, gated.workspace, dirs_exist_ok=True)
    gated.give(gated.workspace)
    applied = story.step(
        gated,
        "push",
        webhooks.push("refs/tags/v1", sha=sha),
        inputs={"command": "deploy", "plan": plan},
        sha=sha,
        ref="refs/tags/v1",
    )
    assert applied.code == 0, applied.said
    assert "hello-prod" in functions(aws)
    assert applied.outputs["plan-digest"] == tagged.outputs["plan-digest"]
    for secret in (story.token,):
        assert secret not in opened.said + fixed.said + merged.said + applied.said
