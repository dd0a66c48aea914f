"""The Bitbucket pipe and its example: valid for the schema, run as Pipelines runs them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from chalice_ci.inputs import INPUTS
from chalice_ci.oidc import GIVEN
from plugins.bench import DEEP, Bench, Door
from plugins.vendors import complaints, load
from support.commandline import Ran, git

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins/bitbucket"
EXAMPLE = PLUGIN / "bitbucket-pipelines.yml"
KEY = "a-signing-key-of-more-than-thirty-two-characters"


MANY = PLUGIN / "many-apps.yml"


def steps() -> Iterator[dict[str, Any]]:
    """Every step of the examples."""
    for example in (EXAMPLE, MANY):
        for kind in load(example)["pipelines"].values():
            for one in (one for listed in kind.values() for one in listed):
                yield from (each["step"] for each in one.get("parallel", [one]))


class Pipelines:
    """Runs steps; a pipe gets its variables and Bitbucket's, and nothing else of the step."""

    def __init__(self, bench: Bench, tmp_path: Path) -> None:
        self.bench, self.kept = bench, tmp_path / "artifacts"

    def step(self, name: str, **env: str) -> Ran:
        (step,) = [one for one in steps() if one["name"] == name]
        here = self.bench.workspace
        shutil.rmtree(here / "chalice-ci-out", ignore_errors=True)
        if self.kept.is_dir():
            shutil.copytree(self.kept, here, dirs_exist_ok=True)
        *commands, pipe = step["script"]
        before = self.bench.step("\n".join(commands), shell=("bash", "-e"), **self.said(), **env)
        assert before.code == 0, before.err
        ran = self.pipe(pipe["variables"], **env)
        for command in step.get("after-script", ()):
            assert self.bench.step(command, shell=("sh", "-e")).code == 0
        ((folder, _),) = (kept.split("/") for kept in step["artifacts"])
        shutil.copytree(here / folder, self.kept / folder, dirs_exist_ok=True)
        return ran

    def pipe(self, given: Mapping[str, str], **env: str) -> Ran:
        known = {one["name"]: one["default"] for one in load(PLUGIN / "pipe.yml")["variables"]}
        assert given.keys() <= known.keys()
        variables = {**self.bench.env, **self.said(), **env}
        values = {
            name: re.sub(r"\$(\w+)", lambda match: variables.get(match[1], ""), value)
            for name, value in {**known, **given}.items()
        }
        kept = {n: v for n, v in variables.items() if n.startswith("BITBUCKET_") or n == "CI"}
        # Where the emulator is, is no variable of a user's.
        kept["AWS_ENDPOINT_URL"] = variables["AWS_ENDPOINT_URL"]
        line = re.search(r'^ENTRYPOINT \["/entrypoint.sh", "(\w+)"\]$', self.image(), re.MULTILINE)
        assert line
        hidden = dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "")
        return self.bench.step(f"chalice-ci {line[1]}", **{**hidden, **kept, **values})

    def image(self) -> str:
        return (PLUGIN / "Dockerfile").read_text()

    def said(self) -> dict[str, str]:
        return {
            "CI": "true",
            "BITBUCKET_BUILD_NUMBER": "7",
            "BITBUCKET_REPO_FULL_NAME": "octo/orders",
            "BITBUCKET_COMMIT": git(self.bench.workspace, "rev-parse", "HEAD"),
            "BITBUCKET_PIPELINE_UUID": "{0190aa00-0000-4000-8000-000000000001}",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "CHALICE_CI_SIGNING_KEY": KEY,
            # Of a step with `oidc: true`.
            "BITBUCKET_STEP_OIDC_TOKEN": "header.payload.signature",
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
        }


@pytest.fixture
def pipelines(bench: Bench, tmp_path: Path) -> Pipelines:
    return Pipelines(bench, tmp_path)


def test_the_example_fits_the_schema() -> None:
    for example in (EXAMPLE, MANY):
        assert not complaints("bitbucket-pipelines", load(example))
    assert complaints("bitbucket-pipelines", {"pipelines": {"default": [{"stepp": {}}]}})


def test_every_variable_of_the_pipe_is_one_that_the_product_reads() -> None:
    inputs = {variable for item in INPUTS for variable in item.variables}
    for one in load(PLUGIN / "pipe.yml")["variables"]:
        name = one["name"]
        assert name in inputs or name.startswith("AWS_") or name in ("BITBUCKET_TOKEN", GIVEN)


def test_production_is_started_by_a_person_who_may_deploy_there() -> None:
    plan, deploy = load(EXAMPLE)["pipelines"]["tags"]["v*"]
    assert "trigger" not in plan["step"]
    assert (deploy["step"]["trigger"], deploy["step"]["deployment"]) == ("manual", "production")


def test_a_pull_request_is_checked_without_credentials_and_its_tests_are_found(
    pipelines: Pipelines, begun: Path, started: Door
) -> None:
    here = pipelines.bench.workspace
    git(here, "remote", "add", "origin", str(begun))
    git(here, "symbolic-ref", "--delete", "refs/remotes/origin/HEAD")
    git(here, "update-ref", "-d", "refs/remotes/origin/main")
    pull = {"BITBUCKET_PR_ID": "3", "BITBUCKET_BRANCH": "feature"}
    ran = pipelines.step("Check", **pull, BITBUCKET_PR_DESTINATION_BRANCH="main")
    assert ran.code == 0, ran.out + ran.err
    (asked,) = started.asked
    assert not asked.env["AWS_SECRET_ACCESS_KEY"]
    assert not asked.env["CHALICE_CI_SIGNING_KEY"]
    # Pipelines looks for folders of this name ("Test reporting in Pipelines").
    junit = pipelines.bench.workspace / "test-results/junit.xml"
    assert ElementTree.parse(junit).getroot().get("failures") == "0"


@pytest.mark.skipif(
    not DEEP, reason="CircleCI, CodeBuild and Azure do it always; PLUGINS_DEPTH=all"
)
def test_the_plan_that_was_made_is_what_the_manual_step_deploys(
    pipelines: Pipelines, functions: Callable[..., list[str]]
) -> None:
    tag = {"BITBUCKET_TAG": "v1"}
    planned = pipelines.step("Plan production", **tag)
    assert planned.code == 0, planned.out + planned.err
    assert functions("eu-west-1") == []
    deployed = pipelines.step("Deploy production", **tag)
    assert deployed.code == 0, deployed.out + deployed.err
    assert functions("eu-west-1") == ["hello-prod-order"]


@pytest.mark.skipif(not DEEP, reason="CircleCI's parts are run always; PLUGINS_DEPTH=all")
def test_parallel_steps_share_a_pull_request_and_are_folded(
    pipelines: Pipelines, begun: Path
) -> None:
    git(pipelines.bench.workspace, "remote", "add", "origin", str(begun))
    pull = {"BITBUCKET_PR_ID": "3", "BITBUCKET_BRANCH": "feature"}
    for name in ("Part 1", "Part 2", "Report"):
        ran = pipelines.step(name, **pull, BITBUCKET_PR_DESTINATION_BRANCH="main")
        assert ran.code == 0, ran.out + ran.err
    junit = pipelines.bench.workspace / "test-results/junit.xml"
    assert len(list(ElementTree.parse(junit).iter("testsuite"))) >= 2, "of both parts"
    report = json.loads((pipelines.bench.workspace / "chalice-ci-all/report.json").read_text())
    assert sorted(result["stage"] for result in report["results"]) == ["dev", "prod"]
