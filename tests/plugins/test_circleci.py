"""The orb: packed, valid for CircleCI's schema, and its jobs run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from plugins.bench import DEEP, Bench, Door
from plugins.circleci import environment, packed, steps
from plugins.vendors import complaints

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "plugins/circleci/src"
EXAMPLE = ROOT / "plugins/circleci/config.yml"
ORB = packed(SOURCE)
OURS = {
    "CIRCLECI": "true",
    "CIRCLE_WORKFLOW_ID": "2b2ba8e6-0000-4000-8000-000000000001",
    "CIRCLE_PROJECT_USERNAME": "octo",
    "CIRCLE_PROJECT_REPONAME": "orders",
    "CIRCLE_BUILD_NUM": "7",
    "CIRCLE_OIDC_TOKEN_V2": "header.payload.signature",
}


class Job:
    """Runs the steps of the orb's jobs; the workspace is handed on between them."""

    def __init__(self, bench: Bench, tmp_path: Path) -> None:
        self.bench, self.kept = bench, tmp_path / "kept"
        self.results: list[Path] = []

    def run(self, name: str, given: Mapping[str, Any], **env: str) -> list[int]:
        bash_env = self.bench.root / "bash_env"
        bash_env.write_text("")
        variables = {**OURS, **environment(ORB, name, given), "BASH_ENV": str(bash_env), **env}
        codes: list[int] = []
        for kind, settings in steps(ORB, name, given):
            # What keeps results is done after a failure too, nothing else is.
            if any(codes) and not kind.startswith("store_"):
                continue
            codes += self._step(kind, settings, variables)
        return codes

    def _step(self, kind: str, settings: Mapping[str, Any], variables: dict[str, str]) -> list[int]:
        here = self.bench.workspace
        match kind:
            case "checkout":
                pass
            case "run":
                own = {name: str(value) for name, value in settings.get("environment", {}).items()}
                ran = self.bench.step(settings["command"], **variables, **own)
                print(ran.out, ran.err)
                return [ran.code]
            case "store_test_results":
                path = here / settings["path"]
                self.results += [path] if path.is_file() else []
            case "store_artifacts":
                assert (here / settings["path"]).is_dir()
            case "persist_to_workspace":
                root = here / settings["root"]
                found = [path for pattern in settings["paths"] for path in root.glob(pattern)]
                assert found
                for path in found:
                    target = self.kept / path.relative_to(root)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if path.is_dir():
                        shutil.copytree(path, target)
                    else:
                        shutil.copy(path, target)
            case "attach_workspace":
                shutil.copytree(self.kept, here / settings["at"], dirs_exist_ok=True)
            case _:
                raise AssertionError(f"what does CircleCI do at {kind}?")
        return []


@pytest.fixture
def job(bench: Bench, tmp_path: Path) -> Job:
    return Job(bench, tmp_path)


def test_the_packed_orb_is_valid_inside_a_configuration() -> None:
    inline = {key: ORB[key] for key in ("commands", "executors", "jobs")}
    for name, example in ORB["examples"].items():
        usage = example["usage"]
        assert usage["orbs"] == {"chalice-ci": "org/chalice-ci@1.0.0"}
        assert not complaints("circle-ci", {**usage, "orbs": {"chalice-ci": inline}}), name
        assert not complaints("circle-ci", usage), name
    broken = {**inline, "jobs": {"plan": {"steps": [{"run": {"comand": "x"}}]}}}
    usage = ORB["examples"]["production"]["usage"]
    assert complaints("circle-ci", {**usage, "orbs": {"chalice-ci": broken}})


def test_everything_in_the_orb_says_what_it_is() -> None:
    for folder in ("commands", "executors", "jobs", "examples"):
        for name, one in ORB[folder].items():
            assert one["description"], f"{folder}/{name}"
            for parameter, declared in one.get("parameters", {}).items():
                assert declared["description"], f"{folder}/{name}: {parameter}"


def test_the_example_is_the_one_that_the_orb_shows() -> None:
    assert yaml.safe_load(EXAMPLE.read_text()) == ORB["examples"]["production"]["usage"]


def test_a_production_deployment_waits_for_a_person() -> None:
    for example in ORB["examples"].values():
        for workflow in example["usage"]["workflows"].values():
            listed = {
                k: v for one in workflow["jobs"] if isinstance(one, dict) for k, v in one.items()
            }
            if "chalice-ci/deploy" in listed:
                (gate,) = listed["chalice-ci/deploy"]["requires"]
                assert listed[gate]["type"] == "approval"
                assert listed[gate]["requires"] == ["chalice-ci/plan"]
                # A workflow of a tag has no job without this filter.
                filters = [one["filters"] for one in listed.values()]
                assert all(one == filters[0] for one in filters)


@pytest.mark.parametrize("example", ORB["examples"])
def test_the_jobs_of_an_example_have_the_parameters_that_they_are_given(example: str) -> None:
    for workflow in ORB["examples"][example]["usage"]["workflows"].values():
        for one in workflow["jobs"]:
            name, given = (one, {}) if isinstance(one, str) else next(iter(one.items()))
            if name.startswith("chalice-ci/"):
                own = {
                    k: v for k, v in given.items() if k not in ("context", "requires", "filters")
                }
                assert list(steps(ORB, name.removeprefix("chalice-ci/"), own))


def test_a_check_keeps_its_results_and_takes_no_role(job: Job, started: Door) -> None:
    assert job.run("check", {}) == [0]
    (junit,) = job.results
    assert ElementTree.parse(junit).getroot().get("failures") == "0"
    assert "AWS_ROLE_ARN" not in started.asked[0].env


def test_the_plan_that_was_approved_is_what_is_deployed(
    job: Job, started: Door, functions: Callable[..., list[str]]
) -> None:
    role = {"role": "arn:aws:iam::123456789012:role/chalice-deploy", "region": "us-east-1"}
    assert set(job.run("plan", {"stage": "prod", **role})) == {0}
    assert functions() == []
    token = Path(started.asked[-1].env["AWS_WEB_IDENTITY_TOKEN_FILE"])
    assert (token.read_text(), token.stat().st_mode & 0o077) == ("header.payload.signature", 0)
    assert started.asked[-1].env["AWS_ROLE_ARN"] == role["role"]
    token.unlink()
    shutil.rmtree(job.bench.workspace / "chalice-ci-out")
    deploy = {"stage": "prod"}
    if DEEP:
        assert job.run("deploy", deploy, CIRCLE_WORKFLOW_ID="another")[-1] == 16
        assert functions() == []
    assert set(job.run("deploy", deploy)) == {0}
    assert functions() == ["hello-prod-order"]


def test_parts_share_the_work_and_their_reports_are_folded(job: Job) -> None:
    assert set(job.run("matrix", {})) == {0}
    for index in ("0", "1"):
        numbers = {"CIRCLE_NODE_INDEX": index, "CIRCLE_NODE_TOTAL": "2"}
        assert set(job.run("part", {"parallelism": 2}, **numbers)) == {0}
        shutil.rmtree(job.bench.workspace / "chalice-ci-out")
    assert set(job.run("report", {})) == {0}
    assert job.results == [job.bench.workspace / "chalice-ci-out/junit.xml"]
    report = json.loads((job.bench.workspace / "chalice-ci-out/report.json").read_text())
    assert sorted(result["stage"] for result in report["results"]) == ["dev", "prod"]
