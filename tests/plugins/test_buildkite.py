"""The Buildkite plugin: its hooks run as the agent runs them, its pipelines fit the schema."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.inputs import INPUTS
from plugins.bench import DEEP, Bench, Door
from plugins.vendors import complaints, load
from support.commandline import Ran, commit, git

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins/buildkite"
PIPELINES = sorted(PLUGIN.glob("pipeline*.yml"))
SYSTEMS = ROOT / "src/chalice_ci/systems"
NAME = "org/chalice-ci#v1.0.0"

# `buildkite-agent artifact download`, `annotate` and `oidc request-token`: Buildkite's
# documentation of the agent's command line.
AGENT = """#!/usr/bin/env bash
set -euo pipefail
kept={kept}
case "$1 $2" in
  "artifact download")
    cd "$kept"
    found=0
    for file in $3; do
      [ -e "$file" ] || continue
      mkdir -p "$OLDPWD/$4/$(dirname "$file")"
      cp "$file" "$OLDPWD/$4/$file"
      found=1
    done
    [ $found = 1 ] || {{ echo "fatal: no artifacts found for downloading" >&2; exit 1; }}
    ;;
  "oidc request-token") [ "$3 $4" = "--audience sts.amazonaws.com" ] && echo header.payload.sign ;;
  "annotate --style") printf '%s\\n' "$*" > "$kept/annotation.args"; cat > "$kept/annotation.md" ;;
  *) exit 2 ;;
esac
"""


class Agent:
    """Runs steps of a build: pre-command, command and post-command, then uploads artifacts."""

    def __init__(self, bench: Bench, tmp_path: Path) -> None:
        self.bench, self.kept = bench, tmp_path / "artifacts"
        self.kept.mkdir()
        bench.program("buildkite-agent", AGENT.format(kept=self.kept))

    def step(self, pipeline: Path, key: str, **env: str) -> Ran:
        """A step in a fresh checkout."""
        (step,) = [
            one for one in load(pipeline)["steps"] if key in (one.get("key"), one.get("label"))
        ]
        return self.run(next(iter(step["plugins"][0].values())) or {}, **env)

    def run(self, settings: Mapping[str, Any], **env: str) -> Ran:
        shutil.rmtree(self.bench.workspace / "chalice-ci-out", ignore_errors=True)
        given = {**self.variables(), **configured(settings), **env}
        code, ran = 0, None
        for hook in ("pre-command", "command", "post-command"):
            given["BUILDKITE_COMMAND_EXIT_STATUS"] = str(code)
            done = self.bench.step((PLUGIN / "hooks" / hook).read_text(), shell=("bash",), **given)
            if hook == "command" or done.code:
                code, ran = done.code, done
            if hook == "pre-command" and done.code:
                return done
        out = self.bench.workspace / "chalice-ci-out"
        if out.is_dir():
            shutil.copytree(out, self.kept / out.name, dirs_exist_ok=True)
        assert ran is not None
        return ran

    def variables(self) -> dict[str, str]:
        return {
            "BUILDKITE": "true",
            "BUILDKITE_AGENT_ACCESS_TOKEN": "token-of-the-agent",
            "BUILDKITE_SOURCE": "webhook",
            "BUILDKITE_COMMIT": git(self.bench.workspace, "rev-parse", "HEAD"),
            "BUILDKITE_BRANCH": "main",
            "BUILDKITE_TAG": "",
            "BUILDKITE_REPO": "git@github.com:octo/orders.git",
            "BUILDKITE_BUILD_ID": "0190aa00-0000-4000-8000-000000000001",
            "BUILDKITE_BUILD_NUMBER": "7",
            "BUILDKITE_BUILD_URL": "https://buildkite.com/octo/orders/builds/7",
            "BUILDKITE_PULL_REQUEST": "false",
            "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main",
            "BUILDKITE_STEP_ID": "step-1",
        }


def configured(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as the agent hands them to hooks ("Writing plugins", "Hooks")."""
    return {
        "BUILDKITE_PLUGIN_CHALICE_CI_" + re.sub("[^A-Z0-9]", "_", name.upper()): str(value)
        for name, value in settings.items()
    }


@pytest.fixture
def agent(bench: Bench, tmp_path: Path) -> Agent:
    return Agent(bench, tmp_path)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_a_pipeline_fits_the_schema_and_gives_settings_that_there_are(path: Path) -> None:
    document = load(path)
    assert not complaints("buildkite", document)
    known = load(PLUGIN / "plugin.yml")["configuration"]["properties"]
    for step in document["steps"]:
        for plugin in step.get("plugins", ()):
            assert list(plugin) == [NAME]
            assert (plugin[NAME] or {}).keys() <= known.keys()
    broken = {"steps": [{"label": "x", "comand": "y", "parallelism": "many"}]}
    assert complaints("buildkite", broken)


def test_every_setting_is_an_input_of_the_product() -> None:
    known = load(PLUGIN / "plugin.yml")["configuration"]["properties"]
    inputs = {item.name: item for item in INPUTS}
    assert known.keys() - {"image", "verb"} <= inputs.keys()
    for name, variable in ((n, next(iter(configured({n: ""})))) for n in known):
        if name in inputs:
            ours = variable.replace("BUILDKITE_PLUGIN_CHALICE_CI_", "CHALICE_CI_")
            assert ours in inputs[name].variables


def test_production_waits_for_a_person() -> None:
    steps = {step["key"]: step for step in load(PLUGIN / "pipeline.yml")["steps"]}
    assert steps["deploy"]["depends_on"] == "approve"
    assert steps["approve"]["depends_on"] == "plan"
    assert "block" in steps["approve"]
    assert steps["deploy"]["if"] == steps["plan"]["if"] == steps["approve"]["if"]


def test_a_step_with_a_role_takes_it_as_itself(agent: Agent, started: Door) -> None:
    role = "arn:aws:iam::123456789012:role/chalice-deploy"
    agent.run({"verb": "url", "role-to-assume": role})
    agent.run({"verb": "url"})
    taking, plain = started.asked
    assert taking.env["CHALICE_CI_ID_TOKEN"] == "header.payload.sign"
    assert taking.env["CHALICE_CI_ROLE_TO_ASSUME"] == role
    assert "CHALICE_CI_ID_TOKEN" not in plain.env


def test_the_container_knows_all_that_the_product_reads_and_no_token(
    agent: Agent, started: Door
) -> None:
    read = set(re.findall(r'"(BUILDKITE[A-Z_]*)"', (SYSTEMS / "buildkite.py").read_text()))
    assert len(read) > 10
    lines = {"CHALICE_CI_SECRET_DB": "line\nAWS_FORGED=1\nline"}
    forwarded = dict.fromkeys(read - {"BUILDKITE"}, "")
    jobs = {"BUILDKITE_PARALLEL_JOB": "1", "BUILDKITE_PARALLEL_JOB_COUNT": "4"}
    agent.run({"verb": "url", "image": "an/image:1"}, **forwarded, **lines, **jobs)
    (asked,) = started.asked
    assert asked.env["CHALICE_CI_SHARE"] == "2/4"
    assert read <= asked.env.keys()
    assert asked.env["CHALICE_CI_SECRET_DB"] == lines["CHALICE_CI_SECRET_DB"]
    assert "AWS_FORGED" not in asked.env
    assert "token-of-the-agent" not in json.dumps([asked.env, agent.bench.calls])
    assert agent.bench.calls[0][-2:] == ["an/image:1", "url"]


@pytest.mark.skipif(
    not DEEP, reason="CircleCI, CodeBuild and Azure do it always; PLUGINS_DEPTH=all"
)
def test_the_plan_that_was_unblocked_is_what_is_deployed(
    agent: Agent, functions: Callable[..., list[str]]
) -> None:
    example, tag = PLUGIN / "pipeline.yml", {"BUILDKITE_TAG": "v1", "BUILDKITE_BRANCH": "v1"}
    # Nothing was planned yet, so there is nothing to fetch.
    assert agent.step(example, "deploy", **tag).code == 1
    planned = agent.step(example, "plan", **tag)
    assert planned.code == 0, planned.err
    assert "prod" in (agent.kept / "annotation.md").read_text()
    assert (
        "--style success --context chalice-ci-step-1"
        in (agent.kept / "annotation.args").read_text()
    )
    assert functions() == []
    deployed = agent.step(example, "deploy", **tag)
    assert deployed.code == 0, deployed.out + deployed.err
    assert functions("eu-west-1") == ["hello-prod-order"]


@pytest.mark.skipif(not DEEP, reason="CircleCI's parts are run always; PLUGINS_DEPTH=all")
def test_parts_share_a_build_and_one_summary_tells_of_all(agent: Agent) -> None:
    example = PLUGIN / "pipeline-many-apps.yml"
    branch = {"BUILDKITE_BRANCH": "feature"}
    for number in ("0", "1"):
        jobs = {"BUILDKITE_PARALLEL_JOB": number, "BUILDKITE_PARALLEL_JOB_COUNT": "2"}
        ran = agent.step(example, "parts", **branch, **jobs)
        assert ran.code == 0, ran.out + ran.err
    assert not (agent.kept / "annotation.md").exists()
    ran = agent.step(example, ":lambda: Report", **branch)
    assert ran.code == 0, ran.out + ran.err
    report = json.loads((agent.bench.workspace / "chalice-ci-out/report.json").read_text())
    assert sorted(one["stage"] for one in report["results"]) == ["dev", "prod"]
    assert "orders" in (agent.kept / "annotation.md").read_text()


@pytest.mark.skipif(not DEEP, reason="previews are run elsewhere; PLUGINS_DEPTH=all")
def test_a_pull_requests_build_brings_its_preview_up_and_another_deletes_it(
    agent: Agent, functions: Callable[..., list[str]]
) -> None:
    here = agent.bench.workspace
    file = here / "chalice-ci.yml"
    file.write_text(file.read_text() + "preview: {like: dev, ttl: 1d}\n")
    commit(here, "Preview")
    git(here, "update-ref", "refs/remotes/origin/main", "HEAD")
    pull = {
        "BUILDKITE_PULL_REQUEST": "3",
        "BUILDKITE_PULL_REQUEST_REPO": agent.variables()["BUILDKITE_REPO"],
        "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "main",
        "BUILDKITE_BRANCH": "feature",
    }
    ran = agent.step(PLUGIN / "pipeline.yml", "check", **pull)
    assert ran.code == 0, ran.out + ran.err
    assert functions() == ["hello-pr-3-order"]
    ran = agent.run({"verb": "delete", "stage": "pr-3"}, BUILDKITE_SOURCE="schedule")
    assert ran.code == 0, ran.out + ran.err
    assert functions() == []
