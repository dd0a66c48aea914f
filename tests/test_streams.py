"""The standard streams of a run: closed, full, narrow, or left by their reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.commandline import command, environ, hello

CHECK = ("check", "--stage", "dev", "--quiet")


def run(repository, arguments, *, redirected="", **more):
    """Run the command with a shell's redirections around it."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {redirected}', "-", *command(*arguments)],
        cwd=repository,
        env=environ(**more),
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_descriptor_changes_nothing(tmp_path, closed):
    repository = hello(tmp_path)
    done = run(repository, CHECK, redirected=closed)
    assert done.returncode == 0, done
    report = json.loads((repository / "chalice-ci-out/report.json").read_text())
    assert report["verdict"] == "ok"


def test_a_full_stdout_is_an_error_and_no_defect(tmp_path):
    done = run(hello(tmp_path), CHECK, redirected="> /dev/full")
    assert done.returncode == 2
    assert b"stdout: No space left on device" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_progress_is_seen_when_it_is_said(unbuffered):
    """Not when the run ends: many images set PYTHONUNBUFFERED."""
    script = """
import os, sys
from chalice_ci.streams import take_over
take_over()
print("loading", file=sys.stderr)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environ(PYTHONUNBUFFERED=unbuffered),
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == b"loading\n"


def test_characters_that_the_locale_lacks_stop_nothing(tmp_path):
    done = run(hello(tmp_path), CHECK, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done
    assert b"dev  ok" in done.stdout


def test_a_reader_that_leaves_does_not_change_the_exit_code(tmp_path):
    repository = hello(tmp_path)
    assert run(repository, CHECK, redirected="| true").returncode == 0
    (repository / "app.py").write_text("import nothing_like_this\n")
    assert run(repository, CHECK, redirected="| true").returncode == 1


def test_a_deploy_goes_on_when_nobody_reads_its_progress(tmp_path):
    repository = hello(tmp_path)
    try:
        done = run(
            repository, ("deploy", "--stage", "dev", "--local"), redirected="2>&1 | head -n 3"
        )
        assert done.returncode == 0, done
        report = json.loads((repository / "chalice-ci-out/report.json").read_text())
        (result,) = report["results"]
        assert {step["outcome"] for step in result["operations"]} == {"done"}
        assert result["state"]["changed"]
    finally:
        (repository / ".git" / "chalice-ci-local" / "alive").unlink(missing_ok=True)


def test_an_error_on_github_is_annotated_beside_stdout(tmp_path):
    arguments = ("check", "--stage", "nope", "--format", "json")
    done = run(hello(tmp_path), arguments, GITHUB_ACTIONS="true", GITHUB_EVENT_NAME="push")
    assert done.returncode == 2
    assert json.loads(done.stdout)["failure"]["exit_code"] == 2
    assert b"\n::error " in done.stderr


@pytest.mark.parametrize("option", ["--out", "--cache-dir"])
def test_a_file_where_a_folder_must_be_is_a_usage_error_that_names_it(tmp_path, option):
    repository = hello(tmp_path)
    done = run(repository, (*CHECK, option, "app.py"))
    assert done.returncode == 2, done
    assert b"app.py" in done.stderr
    assert os.fsencode(repository) in done.stderr


def test_a_current_directory_that_is_gone_is_a_usage_error(tmp_path):
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "-", *command("check", "--project-dir", "/")],
        cwd=tmp_path / "gone",
        env=environ(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done
    assert b"the current directory is not there any more" in done.stderr
