"""One package through all stages: what was tried in dev is what prod gets, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile

import boto3
import pytest

from chalice_ci.local import EmbeddedAWS
from chalice_ci.plan import canonical
from support.commandline import commit, hello, write
from support.inprocess import run_here

FILES = {
    "app.py": """from chalice import Chalice

app = Chalice(app_name="hello")


@app.lambda_function()
def worker(event, context):
    return {}
""",
    "chalice-ci.yml": "version: 1\nstages: {dev: {}, prod: {needs: dev}}\n",
}


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start() as running:
        yield running


def live(aws, stage):
    client = boto3.client(
        "lambda",
        endpoint_url=aws.environ["AWS_ENDPOINT_URL"],
        region_name=aws.environ["AWS_DEFAULT_REGION"],
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    said = client.get_function_configuration(FunctionName=f"hello-{stage}-worker")
    return base64.b64decode(said["CodeSha256"]).hex()


def with_another_package(plan, out):
    """The plan with a package that no build of this commit gives; its digest."""
    with zipfile.ZipFile(plan) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in members if name.startswith("packages/"))
    content = io.BytesIO(members.pop(name))
    with zipfile.ZipFile(content, "a") as package:
        package.writestr("marker", "tried in dev")
    data = content.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    document = json.loads(members["plan.json"])
    document["packages"]["app"] = {"sha256": digest, "size": len(data)}
    members["plan.json"] = canonical(document)
    members[f"packages/{digest}.zip"] = data
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return digest


def test_the_package_of_a_plan_goes_on_without_being_built_again(aws, tmp_path):
    repository = hello(tmp_path / "r", **FILES)
    here = {"cwd": repository, **aws.environ}
    made = run_here("plan", "--stage", "dev", "--format", "json", **here)
    assert made.code == 0, made.out + made.err
    tried = tmp_path / "dev.plan"
    digest = with_another_package(repository / made.result["plan"]["path"], tried)

    # `needs` asks what is live, not what was planned.
    early = run_here("deploy", "--stage", "prod", "--promote", tried, **here)
    assert (early.code, "nothing is deployed in dev" in early.err) == (16, True), early
    first = run_here("deploy", "--stage", "dev", "--promote", tried, **here)
    assert first.code == 0, first.out + first.err
    built = run_here("deploy", "--stage", "prod", **here)
    assert built.code == 16, built
    assert "the app package live in dev is " + digest[:12] in built.err
    planned = run_here("plan", "--stage", "prod", "--promote", tried, "--format", "json", **here)
    assert planned.code == 0, planned.out + planned.err
    assert [a["sha256"] for a in planned.result["package"]["archives"]] == [digest]
    plan = repository / planned.result["plan"]["path"]
    applied = run_here("deploy", "--plan", plan, **here)
    assert applied.code == 0, applied.out + applied.err
    assert live(aws, "dev") == live(aws, "prod") == digest

    write(repository, {"app.py": FILES["app.py"].replace("{}", "{'new': 1}")})
    commit(repository)
    other = run_here("plan", "--stage", "prod", "--promote", tried, **here)
    assert other.code == 16
    assert "they were built for commit" in other.out
