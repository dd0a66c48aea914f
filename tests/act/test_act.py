"""Each example's story, by `act`: the workflow as it is, the real image, GitHub and AWS offline.

What stands in for what, and what that leaves unshown, says `runner.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from act.door import door
from act.runner import Act, Ended
from chalice_ci.local import EmbeddedAWS
from offline_github import webhooks
from offline_github.emulate import ADMIN, BOT, MALLORY, REPOSITORY
from offline_github.gateway import OfflineGitHub
from support.commandline import APP, CONFIG, commit, git, hello
from support.offline import Twin

EXAMPLES = Path(__file__).parents[2] / "workflows-examples"
STATE = ".chalice/deployed/{}.json"
SHOP = """version: 1
apps:
  orders: {path: services/orders, paths: [libs/common/**]}
  users: {path: services/users}
stages:
  dev: {deploy-on: {branch: main}}
"""
PREVIEWS = """version: 1
stages:
  dev: {deploy-on: {branch: main}}
preview: {like: dev}
"""
GATED = """version: 1
stages:
  dev: {}
  prod: {deploy-on: {tag: "v*"}, environment: production}
"""


class Story:
    """A repository, and what happens to it."""

    def __init__(self, act: Act, github: OfflineGitHub, aws: EmbeddedAWS, root: Path) -> None:
        self.act, self.github, self.aws = act, github, aws
        self.workspace = root / "orders"
        self.examples = EXAMPLES

    def begin(self, **files: str) -> str:
        """The default branch, here and at GitHub; the commit there."""
        hello(self.workspace, **files)
        git(self.workspace, "remote", "add", "origin", f"https://github.com/{REPOSITORY}")
        return self.pushed("main")

    def pushed(self, branch: str) -> str:
        """The work tree as a commit of a branch at GitHub."""
        names = git(self.workspace, "ls-files").splitlines()
        files = {name: (self.workspace / name).read_text() for name in names}
        return self.github.emulator.push(branch, files)

    def run(
        self, example: str, event: str, payload: Mapping[str, Any], *jobs: str, **env: str
    ) -> Ended:
        """What an event starts, with a token that may do what the named jobs' tokens may."""
        workflow = self.examples / example
        declared = yaml.safe_load(workflow.read_text())["jobs"]
        granted: dict[str, str] = {}
        for job in jobs:
            for scope, access in declared[job]["permissions"].items():
                if scope != "id-token" and granted.get(scope) != "write":
                    granted[scope.replace("-", "_")] = access
        return self.act.run(
            workflow,
            event,
            payload,
            workspace=self.workspace,
            token=self.github.emulator.workflow_token(**granted),
            env={**self.github.environ, **env},
            aws=self.aws.environ,
        )

    def pull_request(self, action: str, number: int, sha: str) -> dict[str, Any]:
        return webhooks.pull_request(
            action, number=number, head_sha=sha, full_name=REPOSITORY, base_ref="main"
        )

    def push(self, ref: str) -> dict[str, Any]:
        document = webhooks.push(ref)
        document["repository"] |= {"full_name": REPOSITORY, "default_branch": "main"}
        return document

    def tagged(self, version: str) -> dict[str, Any]:
        """The push of a tag of what is committed, which GitHub has as well, commit by commit."""
        twin = Twin(root=self.workspace, github=self.github, folder=self.workspace.parent)
        sha = twin.mirrored("main")
        git(self.workspace, "tag", version)
        payload = self.push(f"refs/tags/{version}")
        payload["head_commit"]["id"] = payload["after"] = sha
        return payload

    def recorded(self, stage: str) -> list[dict[str, Any]]:
        """What the state branch says of a stage."""
        text = self.github.emulator.file(STATE.format(stage), ref="chalice-state")
        resources: list[dict[str, Any]] = json.loads(text)["resources"]
        return resources

    def client(self) -> Any:
        """Lambda, as an owner of the account sees it."""
        import boto3

        settings = self.aws.environ
        return boto3.client(
            "lambda",
            endpoint_url=self.aws.endpoint_url,
            region_name=settings["AWS_REGION"],
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        )

    def functions(self) -> set[str]:
        """The functions in AWS."""
        return {found["FunctionName"] for found in self.client().list_functions()["Functions"]}


@pytest.fixture
def story(act: Act, github: OfflineGitHub, aws: EmbeddedAWS, tmp_path: Path) -> Story:
    return Story(act, github, aws, tmp_path)


def test_minimal_checks_a_pull_request_and_comments_on_it(story: Story) -> None:
    story.begin()
    sha = story.pushed("change")
    number = story.github.emulator.pull_request("change")
    ended = story.run(
        "minimal.yml", "pull_request", story.pull_request("opened", number, sha), "check"
    )
    assert ended.code == 0, ended.said
    assert ended.jobs == {"Check": True}
    assert ended.roles == ()
    (comment,) = story.github.emulator.comments(number, by=BOT)
    assert "hello" in comment["body"]
    assert story.functions() == set()


def test_minimal_deploys_what_reaches_main_and_records_it(story: Story) -> None:
    story.begin()
    ended = story.run("minimal.yml", "push", story.push("refs/heads/main"), "deploy")
    assert ended.code == 0, ended.said
    assert ended.jobs == {"Deploy": True}
    assert ended.roles == ("chalice-deploy",)
    assert story.functions() == {"hello-dev"}
    assert {"api_handler", "rest_api"} <= {found["name"] for found in story.recorded("dev")}


def test_gated_production_plans_and_applies_that_plan_without_a_checkout(story: Story) -> None:
    story.begin(**{"chalice-ci.yml": GATED})
    ended = story.run("gated-production.yml", "push", story.tagged("v1.0.0"), "plan", "deploy")
    assert ended.code == 0, ended.said
    assert ended.jobs == {"Plan": True, "Deploy": True}
    assert ended.roles == ("chalice-plan", "chalice-deploy")
    assert story.functions() == {"hello-prod"}
    assert story.recorded("prod")
    shared = story.act.folder / "shared/production-plan"
    assert [path.name for path in shared.iterdir()] == ["hello-prod.plan"]


def test_previews_keeps_a_preview_while_the_pull_request_is_open(
    story: Story, tmp_path: Path
) -> None:
    story.begin(**{"chalice-ci.yml": PREVIEWS})
    sha = story.pushed("change")
    number = story.github.emulator.pull_request("change")
    stage = f"pr-{number}"
    with door(story.aws, tmp_path) as opened:
        bundle = story.workspace / "certificates.pem"
        opened.write_bundle(bundle)
        env = opened.environ(bundle)

        payload = story.pull_request("opened", number, sha)
        up = story.run("previews.yml", "pull_request", payload, "preview", **env)
        assert up.code == 0, up.said
        assert up.roles == ("chalice-preview",)
        assert story.functions() == {f"hello-{stage}"}
        assert story.recorded(stage)
        (url,) = opened.asked
        (comment,) = story.github.emulator.comments(number, by=BOT)
        assert url.rstrip("/") in comment["body"]
        ((_, state),) = story.github.deployments.of(REPOSITORY, stage)
        assert state == "success"

        payload = story.pull_request("closed", number, sha)
        down = story.run("previews.yml", "pull_request", payload, "preview", **env)
        assert down.code == 0, down.said
    assert story.functions() == set()
    assert story.github.deployments.of(REPOSITORY, stage) == []
    assert len(story.github.emulator.comments(number, by=BOT)) == 1


@pytest.mark.parametrize("who", ["fork", "dependabot"])
def test_previews_gives_no_role_to_code_of_others_and_still_passes(story: Story, who: str) -> None:
    story.begin(**{"chalice-ci.yml": PREVIEWS})
    sha = story.pushed("change")
    number = story.github.emulator.pull_request("change")
    change = {"fork": webhooks.from_fork, "dependabot": webhooks.from_dependabot}[who]
    payload = change(story.pull_request("opened", number, sha))
    ended = story.run("previews.yml", "pull_request", payload, "preview")
    assert ended.code == 0, ended.said
    assert ended.roles == ()
    assert story.functions() == set()
    assert story.github.emulator.comments(number, by=BOT) == []


def test_monorepo_has_a_job_for_each_app_that_is_touched_and_one_comment(story: Story) -> None:
    apps = {
        f"services/{name}/{file}": text.replace("hello", name)
        for name in ("orders", "users")
        for file, text in (
            ("app.py", APP),
            (".chalice/config.json", CONFIG),
            ("requirements.txt", ""),
        )
    }
    story.begin(**{"chalice-ci.yml": SHOP, "libs/common/shared.py": ""}, **apps)
    jobs = ("matrix", "part", "report")
    pushed = story.run("monorepo.yml", "push", story.push("refs/heads/main"), *jobs)
    assert pushed.code == 0, pushed.said
    assert pushed.jobs.keys() == {"Matrix", "orders · dev", "users · dev", "Report"}
    assert set(pushed.roles) == {"chalice-deploy"}
    assert story.functions() == {"orders-dev", "users-dev"}

    git(story.workspace, "switch", "--quiet", "--create", "change")
    with (story.workspace / "services/users/app.py").open("a") as file:
        file.write("\n\n@app.route('/more')\ndef more():\n    return {}\n")
    commit(story.workspace)
    sha = story.pushed("change")
    number = story.github.emulator.pull_request("change")
    payload = story.pull_request("opened", number, sha)
    base = git(story.workspace, "rev-parse", "main")
    payload["pull_request"]["base"]["sha"] = base
    checked = story.run("monorepo.yml", "pull_request", payload, *jobs)
    assert checked.code == 0, checked.said
    assert checked.jobs.keys() == {"Matrix", "users · dev", "Report"}
    (comment,) = story.github.emulator.comments(number, by=BOT)
    assert "GET /more" in comment["body"]
    assert "users" in comment["body"]


def test_reusable_deploys_for_the_workflow_that_calls_it(story: Story) -> None:
    story.begin()
    place = story.workspace / ".github/workflows"
    place.mkdir(parents=True)
    called = place / "reusable.yml"
    called.write_text((EXAMPLES / "reusable.yml").read_text())
    text = (EXAMPLES.parent / "docs/workflows.md").read_text()
    (jobs,) = re.findall(r"```yaml\n(jobs:\n.*?)```", text, re.DOTALL)
    caller = place / "call.yml"
    caller.write_text(f"on: push\n{jobs}")
    ended = story.act.run(
        caller,
        "push",
        story.push("refs/heads/main"),
        workspace=story.workspace,
        token=story.github.emulator.workflow_token(contents="write", pull_requests="write"),
        env=story.github.environ,
        aws=story.aws.environ,
        called=(called,),
    )
    assert ended.code == 0, ended.said
    assert ended.roles == ("chalice-deploy",)
    assert story.functions() == {"hello-dev"}
    assert story.recorded("dev")


def test_a_fork_is_rehearsed_without_a_secret_and_told_by_another_workflow(story: Story) -> None:
    story.begin()
    git(story.workspace, "switch", "--quiet", "--create", "change")
    app = story.workspace / "app.py"
    app.write_text(app.read_text().replace('"/"', '"/greeting"'))
    commit(story.workspace)
    emulator = story.github.emulator
    fork = emulator.fork()
    files = {"app.py": app.read_text()}
    sha = emulator.push("change", files, repository=fork, by=MALLORY)
    number = emulator.pull_request(f"{MALLORY}:change", by=ADMIN)
    payload = webhooks.from_fork(story.pull_request("opened", number, sha))
    payload["pull_request"]["base"]["sha"] = git(story.workspace, "rev-parse", "main")
    checked = story.run("forks.yml", "pull_request", payload, "check")
    assert checked.code == 0, checked.said
    assert checked.roles == ()
    assert story.functions() == set()
    assert story.github.emulator.comments(number, by=BOT) == []
    (report,) = (story.act.folder / "shared/chalice-report").iterdir()
    (result,) = (r for r in json.loads(report.read_text())["results"] if r["stage"] == "dev")
    assert (result["intent"], result["verdict"]) == ("rehearse", "ok"), result

    # Its end starts the workflow of the default branch, which has a token and no code.
    payload = webhooks.workflow_run(
        head_sha=sha,
        head_branch="change",
        head_repository=fork,
        full_name=REPOSITORY,
        event="pull_request",
    )
    told = story.run("fork-comment.yml", "workflow_run", payload, "comment")
    assert told.code == 0, told.said
    assert told.jobs == {"Comment": True}
    assert told.roles == ()
    (comment,) = story.github.emulator.comments(number, by=BOT)
    assert "rehearsed" in comment["body"]
    assert "its code could have written anything" in comment["body"]
    assert "GET /greeting" in comment["body"]


def test_scheduled_sweeps_previews_and_looks_for_what_was_changed_outside(story: Story) -> None:
    story.begin(**{"chalice-ci.yml": PREVIEWS})
    ended = story.run("minimal.yml", "push", story.push("refs/heads/main"), "deploy")
    assert ended.code == 0, ended.said
    nightly = story.run(
        "scheduled.yml", "schedule", story.push("refs/heads/main"), "sweep", "drift"
    )
    assert nightly.code == 0, nightly.said
    assert nightly.jobs == {"Sweep": True, "Drift": True}
    assert set(nightly.roles) == {"chalice-preview", "chalice-plan"}
    story.client().update_function_configuration(FunctionName="hello-dev", Timeout=7)
    changed = story.run(
        "scheduled.yml", "schedule", story.push("refs/heads/main"), "sweep", "drift"
    )
    assert changed.jobs == {"Sweep": True, "Drift": False}, changed.said


def test_rollback_applies_the_release_before_again(story: Story) -> None:
    story.begin(**{"chalice-ci.yml": GATED})
    jobs = ("plan", "deploy")
    digests = []
    for version in ("v1.0.0", "v1.1.0"):
        ended = story.run("gated-production.yml", "push", story.tagged(version), *jobs)
        assert ended.code == 0, ended.said
        digests.append(story.client().get_function(FunctionName="hello-prod"))
        with (story.workspace / "app.py").open("a") as file:
            file.write("# another version\n")
        commit(story.workspace)
    first, second = (said["Configuration"]["CodeSha256"] for said in digests)
    assert first != second
    payload = story.push("refs/heads/main") | {"inputs": {"to": ""}}
    back = story.run("rollback.yml", "workflow_dispatch", payload, "rollback")
    assert back.code == 0, back.said
    live = story.client().get_function(FunctionName="hello-prod")
    assert live["Configuration"]["CodeSha256"] == first


def test_a_workflow_fails_when_the_app_must_not_be_deployed(story: Story) -> None:
    story.begin()
    app = story.workspace / "app.py"
    app.write_text(app.read_text() + "\n@app.on_ws_message()\ndef message(event):\n    pass\n")
    commit(story.workspace)
    ended = story.run("minimal.yml", "push", story.push("refs/heads/main"), "deploy")
    assert ended.code != 0
    assert ended.jobs == {"Deploy": False}
    assert "WEBSOCKETS" in ended.said
    assert story.functions() == set()
