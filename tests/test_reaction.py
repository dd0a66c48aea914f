"""`run`: from an event to the comment, the preview, the deployment and the outputs."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import boto3
import pytest

from chalice_ci.context import RunOrder
from chalice_ci.forge.local import LocalForge
from chalice_ci.local import EmbeddedAWS, LocalMode
from offline_github import webhooks
from offline_github.emulate import REPOSITORY
from offline_github.gateway import offline_github
from support.commandline import (
    APP,
    chalice_ci,
    command,
    commit,
    environ,
    git,
    hello,
    write,
)
from support.inprocess import run_here
from support.steps import event, outputs, pull_request

YML = """version: 1
stages:
  dev: {deploy-on: {branch: main}}
  prod: {deploy-on: {tag: "v*"}, environment: production}
preview: {like: dev}
"""
WEBSOCKET = APP + "\n\n@app.on_ws_message()\ndef message(event):\n    pass\n"
FIXED = WEBSOCKET.replace(
    'app = Chalice(app_name="hello")',
    'app = Chalice(app_name="hello")\napp.experimental_feature_flags.update(["WEBSOCKETS"])',
)


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start() as running:
        yield running


@pytest.fixture
def account(aws):
    aws.reset()
    return {**aws.environ, "CHALICE_CI_GATEWAY_URL": aws.gateway_url}


@pytest.fixture
def repository(tmp_path):
    return hello(tmp_path / "r", **{"chalice-ci.yml": YML})


@pytest.fixture
def forge(tmp_path):
    (tmp_path / "forge").mkdir()
    return LocalForge(tmp_path / "forge")


def opened(forge, repository):
    forge.create_pull_request(
        head_ref="feature",
        head_sha=git(repository, "rev-parse", "HEAD"),
        base_sha=git(repository, "rev-parse", "main"),
    )


def react(repository, env, *arguments, forge=None):
    chosen = ("--local-forge", forge.name) if forge else ()
    return run_here("run", *chosen, *arguments, cwd=repository, **env)


def functions(account):
    client = boto3.client(
        "lambda",
        endpoint_url=account["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    return sorted(f["FunctionName"] for f in client.list_functions()["Functions"])


def test_a_pull_request_from_its_opening_to_its_end(tmp_path, repository, forge, account):
    git(repository, "switch", "--quiet", "--create", "feature")
    write(repository, {"app.py": WEBSOCKET})
    commit(repository)
    opened(forge, repository)

    env = event(
        repository, tmp_path, "pull_request", action="opened", pull=pull_request(repository)
    )
    refused = react(repository, env | account, forge=forge)
    assert refused.code == 1, refused.out + refused.err
    first = forge.sticky_comment(1)
    assert "experimental_feature_flags.update(['WEBSOCKETS'])" in first.body
    assert functions(account) == []
    assert [d.state.value for d in forge.deployments("pr-1")] == ["failure"]
    told = outputs(env)
    assert (told["result"], told["failure-reason"]) == ("findings", "findings")
    assert "experimental" in Path(env["GITHUB_STEP_SUMMARY"]).read_text()

    write(repository, {"app.py": FIXED})
    commit(repository)
    pull = pull_request(repository)
    env = event(repository, tmp_path, "pull_request", action="synchronize", run=2, pull=pull)
    up = react(repository, env | account, forge=forge)
    assert up.code == 0, up.out + up.err
    second = forge.sticky_comment(1)
    assert second.id == first.id
    told = outputs(env)
    assert told["url"] in second.body
    assert json.loads(told["urls"])["hello/pr-1"][0] == told["url"]
    assert functions(account) == ["hello-pr-1", "hello-pr-1-websocket_message"]
    (deployment,) = forge.deployments("pr-1")
    assert (deployment.state.value, deployment.url) == ("success", told["url"])

    pull = pull_request(repository, state="closed")
    env = event(repository, tmp_path, "pull_request", action="closed", run=3, pull=pull)
    gone = react(repository, env | account, forge=forge)
    assert gone.code == 0, gone.out + gone.err
    assert functions(account) == []
    assert forge.deployments("pr-1") == ()
    assert len(forge.comments(1)) == 1
    forge.update_pull_request(1, is_open=False)
    again = react(repository, env | account, forge=forge)
    assert again.code == 0

    # Somebody runs the push's run again: the preview stays gone.
    pull = pull_request(repository)
    late = event(repository, tmp_path, "pull_request", action="synchronize", run=2, pull=pull)
    late["GITHUB_RUN_ATTEMPT"] = "2"
    revived = react(repository, late | account, forge=forge)
    assert revived.code == 0, revived.out + revived.err
    assert functions(account) == []
    assert forge.deployments("pr-1") == ()


def test_a_pull_request_does_not_widen_its_own_rights(tmp_path, repository, forge, account):
    git(repository, "switch", "--quiet", "main")
    write(repository, {"chalice-ci.yml": f"{YML}experimental: {{allow: []}}\n"})
    commit(repository)
    git(repository, "switch", "--quiet", "--create", "feature")
    wide = YML.replace("{like: dev}", "{like: prod}")
    write(
        repository,
        {"app.py": FIXED, "chalice-ci.yml": f"{wide}experimental: {{allow: [WEBSOCKETS]}}\n"},
    )
    commit(repository)
    opened(forge, repository)
    pull = pull_request(repository)
    env = event(repository, tmp_path, "pull_request", action="opened", pull=pull)
    refused = react(repository, env | account, "--format", "json", forge=forge)
    assert refused.code == 1, refused.out + refused.err
    document = json.JSONDecoder().raw_decode(refused.out)[0]
    by_stage = {r["stage"]: r for r in document["results"]}
    assert by_stage.keys() == {"dev", "prod", "pr-1"}
    for result in by_stage.values():
        (found,) = [f for f in result["findings"] if f["severity"] == "error"]
        assert found["rule"] == "experimental-not-allowed"
        assert "main:chalice-ci.yml:6:23" in found["fix"]
    (note,) = [note for note in document["notes"] if "decided by main" in note]
    assert "`preview`, `experimental.allow`" in note
    assert note[:40] in forge.sticky_comment(1).body
    assert functions(account) == []


def test_a_pull_request_whose_base_is_not_there_is_refused_with_the_way_out(
    tmp_path, repository, forge
):
    opened(forge, repository)
    pull = pull_request(repository)
    pull["base"]["sha"] = "f" * 40
    env = event(repository, tmp_path, "pull_request", action="opened", pull=pull)
    refused = react(repository, env, forge=forge)
    assert refused.code == 2
    assert "fetch-depth: 0" in refused.err
    assert "Traceback" not in refused.err
    assert outputs(env)["failure-reason"] == "usage"


def test_a_broken_configuration_takes_the_place_of_an_old_verdict(tmp_path, repository, forge):
    opened(forge, repository)
    forge.upsert_comment(1, "### Chalice · ✅ fit to deploy", run=RunOrder(id=1))
    git(repository, "switch", "--quiet", "--create", "feature")
    write(repository, {"chalice-ci.yml": f"{YML}stagse: {{}}\n"})
    commit(repository)
    pull = pull_request(repository)
    env = event(repository, tmp_path, "pull_request", action="synchronize", run=2, pull=pull)
    refused = react(repository, env, forge=forge)
    assert refused.code == 2
    body = forge.sticky_comment(1).body
    assert "stopped: usage" in body
    assert "stagse" in body
    told = outputs(env)
    assert (told["result"], told["failure-reason"]) == ("failed", "usage")
    assert json.loads((repository / told["report"]).read_text())["exit_code"] == 2
    assert "stagse" in Path(env["GITHUB_STEP_SUMMARY"]).read_text()


def test_a_pull_request_that_closes_without_a_preview_keeps_its_last_verdict(
    tmp_path, repository, forge
):
    git(repository, "switch", "--quiet", "main")
    write(repository, {"chalice-ci.yml": "version: 1\n"})
    commit(repository)
    opened(forge, repository)
    forge.upsert_comment(1, "the last verdict", run=RunOrder(id=1))
    pull = pull_request(repository, state="closed")
    env = event(repository, tmp_path, "pull_request", action="closed", run=2, pull=pull)
    closed = react(repository, env, forge=forge)
    assert closed.code == 0, closed.err
    assert "no preview is configured" in closed.out
    assert forge.sticky_comment(1).body == "the last verdict"


def test_a_fork_is_checked_and_touches_no_account(tmp_path, repository, forge, account):
    opened(forge, repository)
    env = event(
        repository,
        tmp_path,
        "pull_request",
        action="opened",
        pull=pull_request(repository, fork=True),
    )
    ran = react(repository, env | account, "--format", "json", forge=forge)
    assert ran.code == 0, ran.out + ran.err
    document = json.JSONDecoder().raw_decode(ran.out)[0]
    assert [(r["stage"], r["verdict"]) for r in document["results"]] == [
        *(("dev", "ok"), ("prod", "ok")),
    ]
    assert any("fork" in note for note in document["notes"])
    assert functions(account) == []
    assert forge.comments(1) == ()


def test_a_push_deploys_and_a_tag_only_plans_what_waits_for_an_approval(
    tmp_path, repository, forge, account
):
    env = event(repository, tmp_path, "push")
    pushed = react(repository, env | account, forge=forge)
    assert pushed.code == 0, pushed.out + pushed.err
    assert functions(account) == ["hello-dev"]
    assert outputs(env)["changed"] == "true"
    assert outputs(env)["state-commit"] == git(repository, "rev-parse", "chalice-state")

    env = event(repository, tmp_path, "push", run=2, ref="refs/tags/v1")
    tagged = react(repository, env | account, forge=forge)
    assert tagged.code == 0, tagged.out + tagged.err
    assert functions(account) == ["hello-dev"]
    plan = outputs(env)["plan"]
    assert (repository / plan).is_file()
    (waiting,) = forge.pending_approvals("production")
    assert waiting.subject == outputs(env)["plan-digest"]

    apply = ("deploy", "--plan", plan, "--local-forge", forge.name)
    early = run_here(*apply, cwd=repository, **account)
    assert early.code in (2, 16), early.out + early.err
    forge.approve("production", waiting.subject, by="you")
    env = event(repository, tmp_path, "push", run=2, ref="refs/tags/v1")
    applied = run_here(
        *("action", "--command", "deploy", "--plan", plan, "--local-forge", forge.name),
        cwd=repository,
        **env,
        **account,
    )
    assert applied.code == 0, applied.out + applied.err
    assert functions(account) == ["hello-dev", "hello-prod"]


def test_an_older_run_does_not_overwrite_a_newer_ones_comment(tmp_path, repository, forge, account):
    opened(forge, repository)
    pull = pull_request(repository)
    for run in (8, 7):
        env = event(repository, tmp_path, "pull_request", action="opened", run=run, pull=pull)
        assert react(repository, env | account, forge=forge).code == 0
    assert forge.sticky_comment(1).run.id == 8
    assert len(forge.comments(1)) == 1


def test_what_the_forge_refuses_never_turns_a_good_deploy_into_a_bad_one(
    tmp_path, repository, forge, account
):
    # Nobody opened this pull request in the folder: no comment, but the preview is up.
    pull = pull_request(repository, number=5)
    env = event(repository, tmp_path, "pull_request", action="opened", pull=pull)
    ran = react(repository, env | account, forge=forge)
    assert ran.code == 0, ran.out + ran.err
    assert functions(account) == ["hello-pr-5"]
    assert "the comment could not be written" in ran.out


def test_a_killed_run_is_brought_to_an_end_by_the_post_step(tmp_path, repository, forge):
    opened(forge, repository)
    pull = pull_request(repository)
    env = event(repository, tmp_path, "pull_request", action="opened", pull=pull)
    with EmbeddedAWS.start(LocalMode(lat=0.4)) as slow:
        process = subprocess.Popen(
            command("action", "--local-forge", forge.name),
            cwd=repository,
            env=environ(**env, **slow.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in process.stderr:
            if "Creating lambda function" in line:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert "deploying" in forge.sticky_comment(1).body
    assert [d.state.value for d in forge.deployments("pr-1")] == ["in_progress"]
    noted = {f"STATE_{name}": value for name, value in outputs(env, "GITHUB_STATE").items()}
    ended = chalice_ci("action-post", "--local-forge", forge.name, cwd=repository, **env, **noted)
    assert ended.code == 0, ended.err
    assert "cancelled" in forge.sticky_comment(1).body
    assert "deploying" not in forge.sticky_comment(1).body
    assert [d.state.value for d in forge.deployments("pr-1")] == ["error"]


def test_a_run_that_came_to_its_end_leaves_the_post_step_nothing(
    tmp_path, repository, forge, account
):
    opened(forge, repository)
    env = event(
        repository, tmp_path, "pull_request", action="opened", pull=pull_request(repository)
    )
    assert react(repository, env | account, forge=forge).code == 0
    before = forge.sticky_comment(1)
    noted = {f"STATE_{name}": value for name, value in outputs(env, "GITHUB_STATE").items()}
    assert set(noted.values()) == {"true"}
    run_here("action-post", "--local-forge", forge.name, cwd=repository, **env, **noted)
    assert forge.sticky_comment(1) == before


@pytest.mark.parametrize("name", ["pull_request_target", "workflow_run"])
def test_events_that_bring_secrets_to_foreign_code_are_refused(tmp_path, repository, name):
    pull = pull_request(repository, fork=True)
    env = event(repository, tmp_path, name, action="opened", pull=pull)
    for verb in ("run", "check", "deploy"):
        ran = run_here("action", "--command", verb, cwd=repository, **env)
        assert ran.code == 2, ran.out + ran.err
        assert name in ran.err


def test_a_mistyped_command_of_the_action_gets_a_suggestion(repository):
    ran = run_here("action", cwd=repository, **{"INPUT_COMMAND": "depoly"})
    assert ran.code == 2
    assert "Did you mean 'deploy'" in ran.err


def test_on_github_the_base_and_the_present_are_read_from_the_api(tmp_path):
    (tmp_path / "github").mkdir()
    with offline_github(tmp_path / "github") as github:
        emulator = github.emulator
        policy = f"{YML}experimental: {{allow: []}}\n"
        emulator.push("main", {"app.py": APP, "chalice-ci.yml": policy})
        sha = emulator.push("feature", {"app.py": FIXED, "chalice-ci.yml": YML})
        number = emulator.pull_request("feature")
        # A shallow checkout: nothing of the base is here.
        repository = hello(tmp_path / "r", **{"chalice-ci.yml": YML, "app.py": FIXED})
        payload = webhooks.pull_request(
            "synchronize", number=number, full_name=REPOSITORY, head_sha=sha, base_ref="main"
        )
        env = event(repository, tmp_path, "pull_request") | {
            **github.environ,
            "GITHUB_TOKEN": emulator.workflow_token(pull_requests="write", contents="read"),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ATTEMPT": "2",
        }
        Path(env["GITHUB_EVENT_PATH"]).write_text(json.dumps(payload))
        ran = react(repository, env, "--stage", "dev")
        assert ran.code == 1, ran.out + ran.err
        assert "main:chalice-ci.yml:6:23" in ran.out
        asked = [one.operation for one in github.seen]
        assert "POST /graphql repository" in asked
        assert "GET /repos/{owner}/{repo}/pulls/{pull_number}" in asked
        (comment,) = emulator.comments(number)
        assert "experimental-not-allowed" in comment["body"]
        assert github.invalid == []
