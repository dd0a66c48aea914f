"""The shared library: real Groovy, real shells, the real product, Jenkins's steps as documented."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.context import System
from chalice_ci.scaffold.pipelines import pipeline
from chalice_ci.scaffold.setting import App, Setting
from plugins.bench import Bench, Door
from support.commandline import git

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins/jenkins"
STEPS = Path(__file__).parent / "steps.groovy"
KEY = "a-signing-key-of-more-than-thirty-two-characters"

pytestmark = pytest.mark.skipif(not shutil.which("groovy"), reason="Groovy is not installed")


class Master:
    """Runs a Jenkinsfile and tells what happened."""

    def __init__(self, bench: Bench, tmp_path: Path) -> None:
        self.bench, self.root = bench, tmp_path / "jenkins"
        self.root.mkdir()

    def build(
        self, jenkinsfile: str | None = None, *, approved: bool = True, **env: str
    ) -> list[dict[str, Any]]:
        file, events = self.root / "Jenkinsfile", self.root / "events.jsonl"
        file.write_text(jenkinsfile or (PLUGIN / "Jenkinsfile").read_text())
        events.write_text("")
        plain = {
            n: v for n, v in self.bench.env.items() if n not in ("CI", "AWS_SECRET_ACCESS_KEY")
        }
        access = {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}
        scenario = {
            "root": str(self.root),
            "events": str(events),
            "library": str(PLUGIN / "vars"),
            "jenkinsfile": str(file),
            "repository": str(self.bench.workspace),
            "approved": approved,
            "env": {
                **plain,
                "JENKINS_URL": "https://ci.example.com/",
                "BUILD_TAG": "jenkins-orders-7",
                "BUILD_NUMBER": "7",
                "GIT_COMMIT": git(self.bench.workspace, "rev-parse", "HEAD"),
                **env,
            },
            "credentials": {
                "aws-read": access,
                "aws-deploy": access,
                "chalice-signing-key": KEY,
                "db-url": KEY,
            },
        }
        told = self.root / "scenario.json"
        told.write_text(json.dumps(scenario))
        java = shutil.which("java")
        assert java
        home = str(Path(java).resolve().parents[1])
        done = subprocess.run(
            ["groovy", STEPS, told],
            env={**os.environ, "JAVA_HOME": home},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in events.read_text().splitlines()]


def of(events: list[dict[str, Any]], step: str) -> list[dict[str, Any]]:
    return [event for event in events if event.get("step") == step]


@pytest.fixture
def master(bench: Bench, tmp_path: Path) -> Master:
    return Master(bench, tmp_path)


def test_the_plan_that_was_approved_is_what_is_deployed(
    master: Master, functions: Callable[..., list[str]]
) -> None:
    events = master.build(TAG_NAME="v1", BRANCH_NAME="v1")
    assert events[-1] == {"result": "SUCCESS"}, events
    assert [event["name"] for event in of(events, "stage")] == ["Plan", "Approve", "Deploy"]
    assert of(events, "input") == [
        {"step": "input", "message": "Deploy every app to prod?", "submitter": "releasers"}
    ]
    ids = [event["ids"] for event in of(events, "withCredentials")]
    assert ids == [["aws-read", "chalice-signing-key"], ["aws-deploy", "chalice-signing-key"]]
    assert functions("eu-west-1") == ["hello-prod-order"]
    (plan,) = (master.root / "stash-chalice-plan").rglob("*.plan")
    assert plan.read_bytes().startswith(b"CHALICE"), "it is encrypted"


def test_what_a_person_rejects_is_not_deployed(
    master: Master, functions: Callable[..., list[str]]
) -> None:
    events = master.build(approved=False, TAG_NAME="v1", BRANCH_NAME="v1")
    assert events[-1]["result"] == "ABORTED"
    assert [event["name"] for event in of(events, "stage")] == ["Plan", "Approve"]
    assert functions("eu-west-1") == []


def test_a_pull_request_is_checked_without_credentials_and_its_results_are_published(
    master: Master, started: Door
) -> None:
    pull = {"BRANCH_NAME": "PR-3", "CHANGE_ID": "3", "CHANGE_TARGET": "main"}
    events = master.build(**pull, CHANGE_BRANCH="feature")
    assert events[-1] == {"result": "SUCCESS"}, events
    assert of(events, "withCredentials") == [{"step": "withCredentials", "ids": []}]
    (asked,) = started.asked
    assert asked.arguments == ("run",)
    assert "AWS_SECRET_ACCESS_KEY" not in asked.env
    assert of(events, "junit") == [{"step": "junit", "failures": "0"}]


def test_a_failed_check_fails_the_build_and_publishes_what_it_found(master: Master) -> None:
    app = master.bench.workspace / "app.py"
    app.write_text(app.read_text() + "\n@app.on_ws_message()\ndef said(event):\n    pass\n")
    events = master.build(BRANCH_NAME="feature")
    assert events[-1]["result"] == "FAILURE"
    assert of(events, "sh")[-1]["code"] == 1
    assert int(of(events, "junit")[0]["failures"]) > 0
    assert of(events, "archiveArtifacts")[0]["files"] > 0


def test_parts_share_a_branch_and_are_folded(master: Master) -> None:
    text = (PLUGIN / "Jenkinsfile").read_text().replace("stage: 'prod'", "stage: 'prod', parts: 2")
    events = master.build(text, BRANCH_NAME="feature")
    assert events[-1] == {"result": "SUCCESS"}, events
    assert [event["name"] for event in of(events, "branch")] == ["part 1", "part 2"]
    assert of(events, "junit") == [{"step": "junit", "failures": "0"}], "of the folded report"
    report = json.loads((master.root / "archive/chalice-ci-all/report.json").read_text())
    assert sorted(result["stage"] for result in report["results"]) == ["dev", "prod"]


@pytest.mark.parametrize("gated", [True, False])
def test_what_init_writes_checks_a_branch_and_asks_before_production(
    master: Master, gated: bool
) -> None:
    text = pipeline(
        Setting(
            apps=(App(name="orders", path=".", stages=("dev", "prod") if gated else ("dev",)),),
            branch="main",
            system=System.JENKINS,
            region="us-east-1",
        )
    )
    events = master.build(text, BRANCH_NAME="feature")
    assert events[-1] == {"result": "SUCCESS"}, events
    tagged = master.build(text, approved=False, TAG_NAME="v1", BRANCH_NAME="v1")
    assert tagged[-1]["result"] == ("ABORTED" if gated else "SUCCESS"), tagged
    assert bool(of(tagged, "input")) == gated


def test_what_the_documentation_shows_is_run(master: Master, started: Door) -> None:
    page = (ROOT / "docs/jenkins.md").read_text()
    (shown,) = re.findall(r"^```groovy\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    master.build(f"@Library('chalice-ci@v1.0.0') _\nnode('docker') {{\ncheckout(scm)\n{shown}}}\n")
    (asked,) = started.asked
    assert asked.env["CHALICE_CI_SECRET_DB_URL"] == KEY
    assert asked.env["CHALICE_CI_STAGE"] == "dev"


REFUSED = {
    "chaliceCI(verb: 'check; id')": "chaliceCI: check; id is no verb of chalice-ci.",
    "chaliceCI(verb: 'check', inputs: ['stage --privileged': 'x'])": (
        "chaliceCI: CHALICE_CI_STAGE __PRIVILEGED is no name of an input or a variable."
    ),
    "chaliceCI(verb: 'check', pass: ['A B'])": (
        "chaliceCI: A B is no name of an input or a variable."
    ),
    "chalicePipeline(stage: 'prod')": "chalicePipeline: deployCredentials is missing.",
}


def test_what_would_be_run_by_the_shell_is_refused(master: Master, started: Door) -> None:
    tried = ", ".join(f"{{ {call} }}" for call in REFUSED)
    body = f"""def said = []
for (body in [{tried}]) {{
  try {{ body(); said << 'it was run' }} catch (problem) {{ said << problem.message }}
}}
error(said.join('|'))
"""
    (result,) = master.build(f"@Library('chalice-ci@v1.0.0') _\n{body}")
    assert result["why"].split("|") == list(REFUSED.values())
    assert not started.asked


def test_values_reach_the_product_as_they_are(master: Master, started: Door) -> None:
    hostile = "$(touch hacked) ; `id` \\' a"
    quoted = hostile.replace("\\", "\\\\").replace("'", "\\'")
    body = f"chaliceCI(verb: 'url', inputs: [stage: '{quoted}'])"
    master.build(f"@Library('chalice-ci@v1.0.0') _\nnode('docker') {{ checkout(scm); {body} }}\n")
    (asked,) = started.asked
    assert asked.env["CHALICE_CI_STAGE"] == hostile


def test_the_container_knows_all_that_the_product_reads() -> None:
    read = (ROOT / "src/chalice_ci/systems/jenkins.py").read_text()
    names = set(re.findall(r'env, "([A-Z_]+)"|env\.get\("([A-Z_]+)"\)', read))
    handed = (PLUGIN / "vars/chaliceCI.groovy").read_text()
    wanted = {one or other for one, other in names}
    assert len(wanted) > 8
    assert all(f"'{name}'" in handed for name in wanted)
