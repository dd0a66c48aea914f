"""action.yml says what the code declares, and what starts the container is as its linters want."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chalice_ci.action import VERB, action_text, rehearsal_text
from chalice_ci.inputs import inputs_of
from chalice_ci.outputs import OUTPUTS
from support.commandline import chalice_ci, hello

ROOT = Path(__file__).parents[1]
ACTION = ROOT / "action.yml"
REHEARSAL = ROOT / "rehearsal/action.yml"
BIN = Path(sys.executable).parent


def document():
    return yaml.load(ACTION.read_text(encoding="utf-8"), yaml.BaseLoader)


def lint(*command):
    """What a linter says, when it says anything."""
    done = subprocess.run(
        [str(BIN / command[0]), *map(str, command[1:])],
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_action_yml_is_up_to_date():
    assert ACTION.read_text(encoding="utf-8") == action_text(), "run `make docs`"
    assert REHEARSAL.read_text(encoding="utf-8") == rehearsal_text(), "run `make docs`"


def test_the_action_with_rehearsals_differs_in_its_name_and_image_only():
    own, other = (yaml.safe_load(text()) for text in (action_text, rehearsal_text))
    assert {key for key in own if own[key] != other[key]} == {"name", "description", "runs"}
    assert {**other["runs"], "image": "Dockerfile"} == own["runs"]


def test_action_yml_fits_the_schema_of_actions():
    for path in (ACTION, REHEARSAL):
        assert not lint(
            "check-jsonschema", "--builtin-schema", "vendor.github-actions", "--quiet", path
        )


def test_action_yml_names_every_input_of_the_verb_that_it_starts_and_every_output():
    told = document()
    assert told["runs"]["args"] == [VERB]
    assert list(told["inputs"]) == [item.name for item in inputs_of(VERB)]
    assert list(told["outputs"]) == [item.name for item in OUTPUTS]


def test_no_default_of_ours_reaches_the_runner_where_it_would_win_over_the_configuration():
    defaults = {k: v["default"] for k, v in document()["inputs"].items() if "default" in v}
    assert defaults == {"github-token": "${{ github.token }}"}


def test_a_release_names_its_image_by_digest():
    image = "docker://registry.invalid/chalice-ci@sha256:" + "0" * 64
    assert yaml.safe_load(action_text(image=image))["runs"]["image"] == image


def test_the_outputs_that_are_written_are_those_that_are_declared(tmp_path):
    file = tmp_path / "output"
    file.touch()
    repository = hello(tmp_path / "repository")
    chalice_ci("url", "--stage", "dev", cwd=repository, GITHUB_OUTPUT=str(file))
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line.partition("<<")[0] for line in lines if "<<" in line] == [
        item.name for item in OUTPUTS
    ]


@pytest.mark.parametrize("script", ["entrypoint.sh", "post-entrypoint.sh"])
def test_what_starts_the_container_decides_nothing(script):
    first, *lines = (ROOT / script).read_text(encoding="utf-8").splitlines()
    # -p: neither BASH_ENV nor functions in the environment of a job get to run.
    assert first == "#!/bin/bash -p"
    (command,) = [line for line in lines if not line.startswith("#")]
    assert command.startswith("exec /opt/chalice-ci/bin/python -I -m chalice_ci ")
    assert os.access(ROOT / script, os.X_OK)


def test_what_ends_the_action_ignores_the_arguments_that_the_runner_repeats():
    text = (ROOT / "post-entrypoint.sh").read_text(encoding="utf-8")
    assert text.endswith(f" {VERB}-post\n")


def test_shell_scripts_are_clean():
    scripts = [*sorted(ROOT.glob("*.sh")), *sorted((ROOT / ".ci").iterdir())]
    assert not lint("shellcheck", *scripts)


def test_the_dockerfile_is_clean():
    assert not lint("hadolint", "Dockerfile")


def test_what_installs_the_image_is_locked_and_names_no_index():
    for name in ("runtime.txt", "rehearsal.txt"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        assert "://" not in text
        packages = [line for line in text.splitlines() if not line.startswith(" ")]
        assert all("==" in line and line.endswith("\\") for line in packages), name


def test_the_image_has_the_versions_that_the_tests_run_with():
    def versions(name):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        return dict(line.partition(" ")[0].split("==") for line in lines)

    tested = versions("dev.txt")
    for name in ("runtime.txt", "rehearsal.txt"):
        other = {k: v for k, v in versions(name).items() if tested.get(k) != v}
        assert not other, json.dumps(other)
