"""A stage's secrets from configuration to function, on the embedded AWS."""

from __future__ import annotations

import json
import zipfile

import boto3
import pytest

from chalice_ci.local import EmbeddedAWS
from support.commandline import git, hello, write
from support.inprocess import run_here
from support.steps import event

VALUE = 'postgres://svc:h0rse-battery"st\\aple@db/orders'
OTHER = "another-value-of-the-same-secret"
APP = """from chalice import Chalice

app = Chalice(app_name="hello")


@app.route("/")
def index():
    return {}


@app.lambda_function()
def worker(event, context):
    return {}
"""
CONFIG = """version: 1
stages:
  dev:
    deploy-on: {branch: main}
    environment-variables:
      DB_URL: {secret: DB}
      ONLY: {secret: ONLY, functions: [worker]}
"""
FILES = {
    "app.py": APP,
    "chalice-ci.yml": CONFIG,
    # The innermost level wins in Chalice; the secret wins over it.
    ".chalice/config.json": json.dumps(
        {
            "version": "2.0",
            "app_name": "hello",
            "stages": {
                "dev": {
                    "environment_variables": {"PLAIN": "seen"},
                    "lambda_functions": {"worker": {"environment_variables": {"DB_URL": "old"}}},
                }
            },
        }
    ),
}


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start() as running:
        yield running


@pytest.fixture
def account(aws):
    aws.reset()
    return dict(aws.environ)


def variables(account, function):
    client = boto3.client(
        "lambda",
        endpoint_url=account["AWS_ENDPOINT_URL"],
        region_name=account["AWS_DEFAULT_REGION"],
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    said = client.get_function_configuration(FunctionName=function)
    return said["Environment"]["Variables"]


def everywhere(repository, *ran):
    """Everything that a run wrote, printed or recorded, zips unpacked."""
    texts = [one.out + one.err for one in ran]
    for path in (repository / "chalice-ci-out").rglob("*"):
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    texts += [archive.read(name).decode("latin-1") for name in archive.namelist()]
    for line in git(repository, "cat-file", "--batch-all-objects", "--batch-check").splitlines():
        name, kind, _ = line.split()
        if kind in ("blob", "commit"):
            texts.append(git(repository, "cat-file", kind, name))
    return "\n".join(texts)


def test_a_secret_reaches_the_functions_and_nothing_else(tmp_path, account):
    repository = hello(tmp_path / "r", **FILES)
    here = {"cwd": repository, **account}
    given = {**here, "CHALICE_CI_SECRET_DB": VALUE, "CHALICE_CI_SECRET_ONLY": "for-the-worker"}

    refused = run_here("deploy", **{**given, "CHALICE_CI_SECRET_DB": ""})
    assert refused.code == 2, refused
    assert "DB" in refused.out
    assert "CHALICE_CI_SECRET_DB: ${{ secrets.DB }}" in refused.out
    assert "loading" not in refused.err

    first = run_here("deploy", "--format", "json", **given)
    assert first.code == 0, first.out + first.err
    assert variables(account, "hello-dev") == {"DB_URL": VALUE, "PLAIN": "seen"}
    assert variables(account, "hello-dev-worker") == {
        "DB_URL": VALUE, "ONLY": "for-the-worker", "PLAIN": "seen",
    }  # fmt: skip

    again = run_here("deploy", "--format", "json", **given)
    assert (again.code, again.result["changed"]) == (0, False)
    changed = run_here("deploy", "--format", "json", **{**given, "CHALICE_CI_SECRET_DB": OTHER})
    assert {(o["method"], o["resource"]) for o in changed.result["operations"]} == {
        ("update_function", "api_handler"), ("update_function", "worker"),
    }  # fmt: skip
    assert variables(account, "hello-dev")["DB_URL"] == OTHER

    # Planned where the secret is not: what sets it is planned, and changes nothing that is live.
    on_github = event(repository, tmp_path, "push")
    planned = run_here("plan", "--format", "json", **here, **on_github)
    assert planned.code == 0, planned
    assert planned.result["note"] == "not known here, so set at the deploy: DB, ONLY"
    assert {o["method"] for o in planned.result["operations"]} == {"update_function"}
    path = repository / planned.result["plan"]["path"]
    last = {**given, "CHALICE_CI_SECRET_DB": OTHER}
    lacking = run_here("deploy", "--plan", path, **here, **on_github)
    assert (lacking.code, "DB, ONLY" in lacking.out) == (2, True)
    applied = run_here("deploy", "--plan", path, "--format", "json", **last, **on_github)
    assert applied.code == 0, applied.out + applied.err
    assert applied.result["changed"] is False
    assert f"::add-mask::{OTHER}" in applied.err

    told = everywhere(repository, first, again, changed, planned, lacking)
    told += applied.out + applied.err.replace(f"::add-mask::{OTHER}", "").replace(
        "::add-mask::for-the-worker", ""
    )
    assert "chalice-ci:secret:DB" in told
    for value in (VALUE, json.dumps(VALUE)[1:-1], OTHER, "for-the-worker"):
        assert value not in told


LOUD = """import json, os
print("I was given", os.environ["DB_URL"])
from chalice import Chalice
if os.environ["DB_URL"].startswith("chalice-ci:secret:"):
    raise RuntimeError("no value")
app = Chalice(app_name="hello")
"""


def at_load(repository):
    config = CONFIG.replace("{secret: DB}", "{secret: DB, at-load: true}").replace(
        "      ONLY: {secret: ONLY, functions: [worker]}\n", ""
    )
    write(repository, {"chalice-ci.yml": config})


def test_an_app_sees_a_value_only_when_it_may_and_cannot_say_it(tmp_path):
    route = '\n\n@app.route("/")\ndef index():\n    return {}\n'
    repository = hello(tmp_path / "r", **{**FILES, "app.py": LOUD + route})
    given = {"cwd": repository, "CHALICE_CI_SECRET_DB": VALUE, "CHALICE_CI_SECRET_ONLY": "x" * 9}
    write(repository, {"chalice-ci.yml": CONFIG.replace(", functions: [worker]", "")})
    blind = run_here("check", "--stage", "dev", **given)
    assert blind.code == 1
    assert "RuntimeError" in blind.out

    at_load(repository)
    seen = run_here("package", "--stage", "dev", **given)
    assert seen.code == 0, seen.out + seen.err
    assert "I was given ***" in seen.err
    short = run_here("check", "--stage", "dev", **{**given, "CHALICE_CI_SECRET_DB": "short"})
    assert short.code == 2
    assert "fewer than 8 characters" in short.out

    # Built into the application it would be deployed as a placeholder, and shown to everybody.
    route = '\n\n@app.route("/" + os.environ["DB_URL"][-9:])\ndef index():\n    return {}\n'
    route += '\n@app.schedule("rate(1 day)", description=os.environ["DB_URL"])\ndef w(e): pass\n'
    write(repository, {"app.py": LOUD + route})
    built_in = run_here("check", "--stage", "dev", **given)
    assert built_in.code == 2, built_in
    assert "the secret DB would become part of" in built_in.out
    told = everywhere(repository, blind, seen, built_in)
    assert VALUE not in told
    assert json.dumps(VALUE)[1:-1] not in told


def test_what_aws_quotes_of_a_value_is_not_told(tmp_path, aws, account):
    repository = hello(tmp_path / "r", **FILES)
    aws.order_faults(
        [
            {
                "operation": "CreateFunction", "action": "error", "status": 400,
                "code": "InvalidParameterValueException",
                "message": f"1 validation error: value '{VALUE}' at 'environment' is invalid",
            }
        ]
    )  # fmt: skip
    try:
        ran = run_here(
            *("deploy", "--format", "json"), cwd=repository,
            CHALICE_CI_SECRET_DB=VALUE, CHALICE_CI_SECRET_ONLY="for-the-worker", **account,
        )  # fmt: skip
    finally:
        aws.order_faults([])
    assert ran.code == 12, ran.out + ran.err
    assert "value '***' at 'environment' is invalid" in ran.result["failure"]["what"]
    told = everywhere(repository, ran)
    assert VALUE not in told
    assert json.dumps(VALUE)[1:-1] not in told


def test_a_function_that_the_app_does_not_have_is_refused_with_those_it_has(tmp_path):
    repository = hello(tmp_path / "r", **FILES)
    write(repository, {"chalice-ci.yml": CONFIG.replace("[worker]", "[wroker]")})
    ran = run_here("check", "--stage", "dev", cwd=repository)
    assert ran.code == 2
    assert "wroker" in ran.out
    assert "api_handler, worker" in ran.out
