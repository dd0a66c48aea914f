"""Which plan a deploy believes, and that nothing is done for any other: one run per binding."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import requests

from chalice_ci.local import EmbeddedAWS
from chalice_ci.plan import canonical, not_believed, open_plan
from support.awsclients import clients_of
from support.commandline import commit, git, hello, write
from support.inprocess import run_here
from support.steps import event, pull_request

KEY, OTHER = "k" * 32, "o" * 32
FILES = {
    "app.py": """from chalice import Chalice

app = Chalice(app_name="hello")


@app.lambda_function()
def worker(event, context):
    return {}
""",
    "chalice-ci.yml": "version: 1\nstages: {dev: {deploy-on: {branch: main}}}\n",
    ".chalice/config.json": json.dumps(
        {
            "version": "2.0",
            "app_name": "hello",
            "environment_variables": {"TABLE": "seen-by-all-who-read-the-repository"},
            "stages": {"dev": {}, "prod": {}},
        }
    ),
}


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start() as running:
        yield running


def calls(aws):
    url = f"{aws.environ['AWS_ENDPOINT_URL']}/chalice-ci/calls"
    found = requests.get(url, timeout=10).json()["calls"]
    requests.post(url, timeout=10)
    return found


def changing(aws):
    """The calls since the last time that would change something."""
    reads = ("Get", "List", "Describe", "Head", "Lookup")
    return [c for c in calls(aws) if not str(c["operation"]).startswith(reads)]


@pytest.fixture(scope="module")
def planned(aws, tmp_path_factory):
    """A repository and two plans of it, made in one CI run: without a key and with one."""
    folder = tmp_path_factory.mktemp("planned")
    repository = hello(folder / "r", **FILES)
    ci = event(repository, folder, "push", run=7)
    aws.reset()
    calls(aws)
    plans = {}
    for name, env in (("open", {}), ("sealed", {"CHALICE_CI_SIGNING_KEY": KEY})):
        ran = run_here("plan", "--format", "json", cwd=repository, **aws.environ, **ci, **env)
        assert ran.code == 0, ran.out + ran.err
        plans[name] = folder / f"{name}.plan"
        shutil.move(repository / ran.result["plan"]["path"], plans[name])
    # To plan is to look.
    assert changing(aws) == []
    return repository, ci, plans


def test_an_encrypted_plan_shows_nothing_and_an_open_one_what_the_commit_shows(planned):
    _, _, plans = planned
    assert b"worker" not in plans["sealed"].read_bytes()
    assert plans["sealed"].stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(plans["open"]) as archive:
        assert json.loads(archive.read("plan.json"))["run"] == "octo/hello run 7 attempt 1"


YEARS = lambda: datetime.now(UTC) + timedelta(days=8)  # noqa: E731
BINDINGS = {
    # name: (plan, environment, arguments, the clock, what is said, exit code)
    "run": ("open", {"GITHUB_RUN_ID": "8"}, (), None, "run 8 attempt 1", 16),
    "expiry": ("open", {}, (), YEARS, "it expired at", 16),
    "region": ("open", {}, ("--aws-region", "eu-west-3"), None, "region", 19),
    "account": ("open", {}, ("--allowed-account", "999999999999"), None, "999999999999", 19),
    "app": ("open", {}, ("--app", "other"), None, "app", 2),
    "stage": ("open", {}, ("--stage", "prod"), None, "asked for was prod", 2),
    "no key": ("sealed", {}, (), None, "there is no signing key here", 16),
    "wrong key": ("sealed", {"CHALICE_CI_SIGNING_KEY": OTHER}, (), None, "another signing key", 16),
    "no seal": ("open", {"CHALICE_CI_SIGNING_KEY": KEY}, (), None, "anybody may have made it", 16),
}


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_plan_of_another_place_time_or_hand_is_refused_before_anything(aws, planned, binding):
    repository, ci, plans = planned
    plan, env, arguments, now, words, code = BINDINGS[binding]
    calls(aws)
    ran = run_here(
        *("deploy", "--plan", plans[plan], *arguments),
        cwd=repository, now=now, **{**aws.environ, **ci, **env},
    )  # fmt: skip
    assert ran.code == code, ran.out + ran.err
    assert words in ran.out + ran.err
    assert changing(aws) == []


@pytest.mark.parametrize(
    ("made", "run", "believed"),
    [
        ("o/r run 7 attempt 1", "o/r run 7 attempt 1", True),
        # Its failed jobs were started again.
        ("o/r run 7 attempt 1", "o/r run 7 attempt 3", True),
        ("o/r run 7 attempt 2", "o/r run 7 attempt 1", False),
        ("o/r run 7 attempt 1", "o/r run 8 attempt 1", False),
        ("o/x run 7 attempt 1", "o/r run 7 attempt 1", False),
        ("o/r run 7 attempt 1", "", False),
        ("", "o/r run 7 attempt 1", False),
        ("", "", True),
        ("91 shop", "91 shop", True),
        ("unknown", "unknown", False),
    ],
)
def test_a_plan_without_a_key_is_believed_in_its_own_run(planned, tmp_path, made, run, believed):
    _, _, plans = planned
    now = datetime.now(UTC)
    plan = replace(open_plan(plans["open"], tmp_path).plan, run=made)
    told = list(not_believed(plan, run=run, authenticated=False, now=now))
    assert told == [] if believed else "believed only in the run" in told[0]
    assert list(not_believed(plan, run=run, authenticated=True, now=now)) == []


def test_another_commit_tree_or_configuration_is_refused(aws, planned, tmp_path):
    repository, ci, plans = planned
    here = {**aws.environ, **ci}
    copy = tmp_path / "r"
    shutil.copytree(repository, copy)
    config = FILES[".chalice/config.json"].replace("seen", "other")
    write(copy, {".chalice/config.json": config})
    ran = run_here("deploy", "--plan", plans["open"], cwd=copy, **here)
    assert (ran.code, "the configuration changed since" in ran.out) == (16, True), ran
    # Without a key a plan of it would show the value to all who may read the artifact.
    ran = run_here("plan", cwd=copy, **here)
    assert ran.code == 2
    assert "these files are not as the commit has them: .chalice/config.json" in ran.out
    new = commit(copy)
    calls(aws)
    ran = run_here("deploy", "--plan", plans["open"], cwd=copy, **{**here, "GITHUB_SHA": new})
    assert ran.code == 16
    for reason in ("commit", "tree", "the configuration changed since"):
        assert reason in ran.out
    assert changing(aws) == []


def test_a_plan_whose_deletions_were_hidden_is_refused(aws, planned, tmp_path):
    """The pairs of operation and resource are made anew, and any other pair is refused."""
    repository, ci, _ = planned
    here = {"cwd": repository, **aws.environ, **ci}
    aws.reset()
    plan = repository / "chalice-ci-out" / "hello-dev.plan"
    assert run_here("deploy", **here).code == 0
    copy = tmp_path / "r"
    shutil.copytree(repository, copy)
    write(copy, {"app.py": FILES["app.py"].replace("worker", "other")})
    new = commit(copy)
    here = {**here, "cwd": copy, "GITHUB_SHA": new}
    made = run_here("plan", "--allow-destructive", "--format", "json", **here)
    assert made.code == 0, made
    plan = copy / "chalice-ci-out" / "hello-dev.plan"
    for hidden in ("delete_function", "create_function"):
        changed = tmp_path / f"{hidden}.plan"
        with zipfile.ZipFile(plan) as old, zipfile.ZipFile(changed, "w") as new_file:
            for name in old.namelist():
                data = old.read(name)
                if name == "plan.json":
                    document = json.loads(data)
                    kept = [o for o in document["operations"] if o["method"] != hidden]
                    assert len(kept) == len(document["operations"]) - 1
                    data = canonical({**document, "operations": kept})
                new_file.writestr(name, data)
        calls(aws)
        ran = run_here("deploy", "--plan", changed, **here)
        assert ran.code == 16, ran.out + ran.err
        assert f"+ {hidden}" in ran.out
        assert changing(aws) == []
    # With what it says it is applied - once: the record is another one then.
    assert run_here("deploy", "--plan", plan, **here).code == 0
    calls(aws)
    again = run_here("deploy", "--plan", plan, **here)
    assert again.code == 15, again.out + again.err
    assert "recorded state changed" in again.out or "later deployment" in again.out
    assert changing(aws) == []


def test_a_sealed_plan_is_applied_in_another_run_also_after_the_key_was_changed(
    aws, planned, tmp_path
):
    repository, _, plans = planned
    aws.reset()
    copy = tmp_path / "r"
    shutil.copytree(repository, copy)
    git(copy, "update-ref", "-d", "refs/heads/chalice-state")
    later = event(copy, tmp_path, "push", run=99)
    ran = run_here(
        *("deploy", "--plan", plans["sealed"], "--format", "json"), cwd=copy,
        CHALICE_CI_SIGNING_KEY=OTHER, CHALICE_CI_PREVIOUS_SIGNING_KEY=KEY, **aws.environ, **later,
    )  # fmt: skip
    assert ran.code == 0, ran.out + ran.err
    assert ran.result["changed"] is True


def test_a_pull_requests_job_must_not_have_the_key(planned, tmp_path):
    repository, _, _ = planned
    pull = event(
        repository, tmp_path, "pull_request", action="opened", pull=pull_request(repository)
    )
    ran = run_here("check", cwd=repository, CHALICE_CI_SIGNING_KEY=KEY, **pull)
    assert ran.code == 2
    assert "this job of a pull request has the signing key" in ran.err
    assert "loading" not in ran.err


def test_without_credentials_a_plan_says_that_the_live_state_was_not_read(planned, tmp_path):
    repository, ci, _ = planned
    nobody = {
        "AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }  # fmt: skip
    ran = run_here("plan", "--format", "json", cwd=repository, **ci, **nobody)
    assert ran.code == 0, ran.out + ran.err
    assert ran.result["note"] == "live state not read: no AWS credentials"
    assert ran.result["operations"] == []
    plan = repository / ran.result["plan"]["path"]
    refused = run_here("deploy", "--plan", plan, cwd=repository, **ci, **nobody)
    assert refused.code == 16
    assert "made without reading the live state" in refused.out


def test_a_plan_names_the_bucket_of_its_packages(aws, tmp_path):
    """Where it is applied there may be no chalice-ci.yml."""
    yml = FILES["chalice-ci.yml"].replace("}}}", "}, package-bucket: our-packages}}")
    repository = hello(tmp_path / "r", **{**FILES, "chalice-ci.yml": yml})
    aws.reset()
    s3 = clients_of(aws)("s3")
    s3.create_bucket(Bucket="our-packages")
    here = {**aws.environ, "CHALICE_CI_SIGNING_KEY": KEY}
    made = run_here("plan", "--format", "json", cwd=repository, **here)
    assert made.code == 0, made.out + made.err
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, {name: text for name, text in FILES.items() if name != "chalice-ci.yml"})
    plan = repository / made.result["plan"]["path"]
    ran = run_here("deploy", "--plan", plan, cwd=elsewhere, **here)
    assert ran.code == 0, ran.out + ran.err
    (package,) = s3.list_objects_v2(Bucket="our-packages")["Contents"]
    assert package["Key"].startswith("chalice-ci/packages/")
