"""Previews never leak: what takes them down, whatever happened to their pull request."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from chalice_ci.config import AppConfig, PreviewConfig, ProjectConfig, StageConfig
from chalice_ci.forge.local import LocalForge
from chalice_ci.forge.port import PullRequest
from chalice_ci.local import EmbeddedAWS
from chalice_ci.preview_record import as_recorded
from chalice_ci.previews import Preview, app_of, beyond_limit, expired, unwanted
from chalice_ci.route import Job
from chalice_ci.state.schema import StageState
from chalice_ci.state.store import StateKey
from support.commandline import commit, git, hello, write
from support.inprocess import run_here
from support.steps import event, pull_request

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PREVIEWS = PreviewConfig(like="dev", label="preview", ttl_seconds=3600, limit=2)
PULL = PullRequest(
    number=7,
    title="",
    author="you",
    is_open=True,
    merged=False,
    draft=False,
    head_ref="feature",
    head_sha="a" * 40,
    head_repository="octo/hello",
    from_fork=False,
    base_ref="main",
    base_sha="b" * 40,
    labels=("preview",),
)
YML = """version: 1
stages:
  dev: {deploy-on: {branch: main}}
preview: {like: dev, limit: 1}
"""
# One function and no API: what is looked at here is the life of a stage.
APP = """from chalice import Chalice

app = Chalice(app_name="hello")


@app.lambda_function()
def work(event, context):
    return {}
"""


def preview(number, *, hours=None, path="."):
    deployed = None if hours is None else NOW - timedelta(hours=hours)
    return Preview(key=StateKey(app_path=path, stage=f"pr-{number}"), deployed=deployed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"draft": True}, ""),
        ({"is_open": False}, "the pull request is closed"),
        ({"is_open": False, "merged": True}, "the pull request is merged"),
        ({"labels": ("bug",)}, "the pull request does not have the label `preview`"),
    ],
)
def test_a_pull_request_wants_its_preview_while_it_is_open_and_labelled(changed, why):
    assert unwanted(replace(PULL, **changed), PREVIEWS) == why


def test_a_pull_request_that_the_forge_does_not_know_wants_no_preview():
    assert unwanted(None, PREVIEWS) == "the pull request is gone"


def test_a_preview_expires_after_its_last_deployment_and_one_of_unknown_age_never():
    assert expired(preview(7, hours=1), PREVIEWS, NOW) == ""
    assert "2026-02-28 22:00 UTC" in expired(preview(7, hours=2), PREVIEWS, NOW)
    assert expired(preview(7), PREVIEWS, NOW) == ""


def test_the_oldest_previews_of_each_app_go_when_they_are_too_many():
    three = [preview(9, hours=3), preview(8, hours=5), preview(7, hours=4)]
    other = [preview(1, hours=9, path="b"), preview(2, hours=8, path="b")]
    gone = dict(beyond_limit([*three, *other], PREVIEWS))
    assert [one.number for one in gone] == [8]
    assert "3 previews, and `limit` is 2" in gone[preview(8, hours=5)]
    assert [one.number for one, _ in beyond_limit([*three, preview(6)], PREVIEWS)] == [6, 8]


def test_a_record_names_its_app_also_when_that_is_not_configured_any_more():
    config = ProjectConfig(apps=(AppConfig(name="orders", path="services/o"),))
    assert app_of(config, preview(1, path="services/o").key).name == "orders"
    assert app_of(config, preview(1, path="services/users").key).name == "users"
    assert app_of(config, preview(1).key) == AppConfig(name="app", path=".")


def functions(*names, region="eu-west-1"):
    return StageState(
        resources=tuple(
            {
                "name": name,
                "resource_type": "lambda_function",
                "lambda_arn": f"arn:aws:lambda:{region}:123456789012:function:{name}",
            }
            for name in names
        )
    )


JOB = Job(app=AppConfig(name="orders", path="."), stage="pr-7")


@pytest.mark.parametrize(
    ("names", "given", "name"),
    [
        (("old-pr-7", "old-pr-7-work"), "new", "old"),
        (("old-pr-7-work",), None, "old"),
        # A name that could be read in two ways is read as the app's own.
        (("a-pr-7-b-pr-7",), "a-pr-7-b", "a-pr-7-b"),
        (("a-pr-7-b-pr-7",), "new", "new"),
        (("a-pr-7-b-pr-7", "a-pr-7"), "new", "a"),
        # Two apps' functions: nothing is concluded from that.
        (("old-pr-7", "other-pr-7"), "new", "new"),
        (("old-pr-71",), "new", "new"),
        ((), "new", "new"),
    ],
)
def test_a_preview_is_taken_down_under_the_name_that_it_was_made_with(names, given, name):
    assert as_recorded(JOB, functions(*names), given)[1] == name


def test_a_preview_is_taken_down_in_the_region_where_it_stands():
    moved = Job(app=JOB.app, stage="pr-7", policy=StageConfig(name="pr-7", region="us-east-1"))
    for job in (JOB, moved):
        found, _ = as_recorded(job, functions("orders-pr-7"), "orders")
        assert found.policy.region == "eu-west-1"
    assert as_recorded(moved, StageState(resources=()), "orders")[0] == moved


# -- on the embedded AWS ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


class Place:
    """A repository, its forge and an account, and runs in them."""

    def __init__(self, aws, folder, yml):
        aws.reset()
        self.aws, self.folder = aws, folder
        self.repository = hello(folder / "r", **{"chalice-ci.yml": yml, "app.py": APP})
        git(self.repository, "switch", "--quiet", "--create", "feature")
        self.forge = LocalForge(folder / "forge")
        self.runs = 0

    def open(self):
        head = git(self.repository, "rev-parse", "HEAD")
        base = git(self.repository, "rev-parse", "main")
        return self.forge.create_pull_request(
            head_ref="feature", head_sha=head, base_sha=base
        ).number

    def run(self, *verb, now=None, **env):
        return run_here(
            *verb,
            *("--local-forge", self.folder / "forge", "--format", "json"),
            *("--out", self.folder / "out"),
            cwd=self.repository,
            now=now,
            **(self.aws.environ | env),
        )

    def on(self, action, number, *, state="open"):
        """`run` on an event of a pull request."""
        self.runs += 1
        pull = pull_request(self.repository, number=number, state=state)
        env = event(
            self.repository, self.folder, "pull_request", action=action, run=self.runs, pull=pull
        )
        return self.run("run", **env)

    def scheduled(self, **more):
        self.runs += 1
        return self.run(
            "run", **event(self.repository, self.folder, "schedule", run=self.runs), **more
        )

    def functions(self):
        client = boto3.client(
            "lambda",
            endpoint_url=self.aws.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="embedded",
            aws_secret_access_key="embedded",
        )
        return sorted(f["FunctionName"] for f in client.list_functions()["Functions"])

    def records(self):
        """The files of previews on the branch of the state."""
        files = git(self.repository, "ls-tree", "-r", "--name-only", "chalice-state").splitlines()
        return [file for file in files if "/pr-" in file]


def documents(ran):
    report = json.JSONDecoder().raw_decode(ran.out)[0]
    return {result["stage"]: result for result in report["results"]}, report["notes"]


def test_a_preview_too_many_waits_for_room_and_old_ones_are_swept(aws, tmp_path):
    place = Place(aws, tmp_path, YML)
    first, second = place.open(), place.open()
    up = place.run("preview", "up", "--stage", f"pr-{first}")
    assert up.code == 0, up.err
    assert place.functions() == ["hello-pr-1-work"]

    refused = place.on("opened", second)
    assert refused.code == 0, refused.err
    results, _ = documents(refused)
    assert results["pr-2"]["verdict"] == "skipped"
    assert "has 1 already, and `preview.limit` is 1" in results["pr-2"]["note"]
    assert place.functions() == ["hello-pr-1-work"]
    assert place.forge.deployments("pr-2") == ()
    assert "preview.limit" in place.forge.sticky_comment(second).body

    # The event of the first one's end is lost; the second one's push makes room.
    place.forge.update_pull_request(first, is_open=False)
    pushed = place.on("synchronize", second)
    assert pushed.code == 0, pushed.err
    assert "taking hello/pr-1 down: the pull request is closed" in pushed.err
    assert place.functions() == ["hello-pr-2-work"]
    assert all("/pr-2." in file for file in place.records())
    assert [d.state.value for d in place.forge.deployments("pr-2")] == ["success"]

    kept = place.run("preview", "sweep")
    assert kept.code == 0, kept.err
    assert documents(kept) == ({}, ["Every preview that is recorded is wanted."])

    before = place.forge.sticky_comment(second)
    assert "✅ deployed" in before.body
    later = place.run("preview", "sweep", now=lambda: datetime.now(UTC) + timedelta(days=8))
    assert later.code == 0, later.err
    results, _ = documents(later)
    assert "longer ago than `ttl`" in results["pr-2"]["note"]
    # The pull request is still open: its comment says what became of the preview.
    comment = place.forge.sticky_comment(second)
    assert "🗑️ removed: it was last deployed on" in comment.body
    assert "✅ deployed" not in comment.body
    assert [past.run for past in comment.history] == [past.run for past in before.history]
    assert place.functions() == []
    assert place.records() == []
    assert place.forge.deployments("pr-2") == ()


def test_a_teardown_that_failed_says_what_is_left_and_a_schedule_ends_it(aws, tmp_path):
    """Also when the merge took previews out of the configuration, and renamed the app."""
    place = Place(aws, tmp_path, YML)
    number = place.open()
    assert place.on("opened", number).code == 0
    assert place.functions() == ["hello-pr-1-work"]

    git(place.repository, "switch", "--quiet", "main")
    renamed = '{"version": "2.0", "app_name": "renamed", "stages": {"dev": {}}}\n'
    yml = YML.replace("preview: {like: dev, limit: 1}\n", "")
    write(place.repository, {"chalice-ci.yml": yml, ".chalice/config.json": renamed})
    commit(place.repository, "Merge")
    place.forge.update_pull_request(number, merged=True)
    aws.order_faults(
        [
            {
                "service": "lambda",
                "operation": "DeleteFunction",
                "status": 403,
                "code": "AccessDeniedException",
                "message": "not allowed",
            }
        ]
    )
    failed = place.on("closed", number, state="closed")
    assert failed.code == 12, failed.err
    result = documents(failed)[0]["pr-1"]
    assert "Still there: iam_role default-role, lambda_function work." in result["failure"]["what"]
    assert {r["name"] for r in result["resources"]} == {"default-role", "work"}
    assert place.functions() == ["hello-pr-1-work"]
    assert "Still there" in place.forge.sticky_comment(number).body

    ended = place.scheduled()
    assert ended.code == 0, ended.err
    assert "no previews are configured any more" in documents(ended)[0]["pr-1"]["note"]
    assert place.functions() == []
    assert place.records() == []
    assert place.forge.deployments("pr-1") == ()
    again = place.run("preview", "down", "--stage", "pr-1")
    assert (again.code, documents(again)[0]["pr-1"]["changed"]) == (0, False)


def test_a_preview_that_comes_up_too_late_goes_at_once(aws, tmp_path):
    """The pull request is closed while it is deployed, and that event's run ended before."""
    place = Place(aws, tmp_path, YML)
    number = place.open()

    def close():
        while place.functions() == []:
            time.sleep(0.02)
        place.forge.update_pull_request(number, is_open=False)

    closing = threading.Thread(target=close)
    closing.start()
    late = place.on("opened", number)
    closing.join()
    assert late.code == 0, late.err
    assert "the pull request is closed" in documents(late)[0]["pr-1"]["note"]
    assert place.functions() == []
    assert place.records() == []
    assert place.forge.deployments("pr-1") == ()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("up",), "which preview is not said"),
        (("up", "--stage", "dev"), "'dev' is no preview"),
        (("down", "--stage", "pr-x"), "'pr-x' is no preview"),
        (("down", "--stage", "pr-1", "--app", "ordres"), "there is no app 'ordres' here"),
    ],
)
def test_a_preview_is_named_by_its_pull_request(tmp_path, arguments, what):
    repository = hello(tmp_path / "r", **{"chalice-ci.yml": YML})
    refused = run_here("preview", *arguments, cwd=repository)
    assert refused.code == 2
    assert what in refused.err
    assert "Fix:" in refused.err
