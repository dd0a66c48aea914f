"""Started as GitHub starts a container action."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from chalice_ci.outputs import OUTPUTS
from image.runner import ID_TOKEN, RUNTIME_TOKEN, Job
from support.commandline import APP, APPS, CONFIG, hello, write

SECOND = 1.0
# An app whose import lasts until somebody ends it.
ENDLESS = APP.replace(
    "app = ", "import time\n\nprint('importing', flush=True)\ntime.sleep(600)\napp = "
)


def report(job, folder="chalice-ci-out"):
    return json.loads((job.workspace / folder / "report.json").read_text(encoding="utf-8"))


def owners(folder: Path):
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (folder, *folder.rglob("*"))}


def two_apps(job):
    """A repository with two apps in folders, two stages each."""
    for name in ("orders", "stock"):
        config = CONFIG.replace('"hello"', f'"{name}"')
        app = APP.replace('"hello")', f'"{name}")')
        write(
            job.workspace / "services" / name,
            {"app.py": app, ".chalice/config.json": config, "requirements.txt": ""},
        )
    hello(job.workspace, **{"chalice-ci.yml": CONFIGURATION})
    for path in ("app.py", "requirements.txt", ".chalice/config.json"):
        (job.workspace / path).unlink()
    job.give(job.workspace)


CONFIGURATION = """version: 1
apps:
  orders: {path: services/orders}
  stock: {path: services/stock}
"""


# -- inputs ---------------------------------------------------------------------------------------


def test_inputs_with_dashes_with_several_lines_and_empty_ones_arrive(docker, job, images, warm):
    two_apps(job)
    ended = job.run(
        images.action,
        inputs={
            "command": "check",
            "app": "orders\n\n  stock  \n",
            "stage": "dev",
            "project-dir": "services/..",
            "cache-dir": "",
            "fail-on": "",
        },
        options=warm,
    )
    assert ended.code == 0, ended.said
    assert [(r["app"], r["stage"]) for r in report(job)["results"]] == [
        ("orders", "dev"),
        ("stock", "dev"),
    ]


def test_an_input_that_is_no_choice_is_a_usage_error_at_its_variable(small, images):
    ended = small.run(images.action, inputs={"command": "check", "fail-on": "eror"})
    assert ended.code == 2
    assert "INPUT_FAIL-ON" in ended.said
    assert "Did you mean 'error'?" in ended.said


def test_an_unknown_command_is_a_usage_error(small, images):
    ended = small.run(images.action, inputs={"command": "chekc"})
    assert (ended.code, "Did you mean 'check'?" in ended.said) == (2, True)


def test_a_cache_in_the_runners_temporary_folder_can_be_kept_and_brought_back(small, images, warm):
    """`actions/cache` reads it as the runner's user, and unpacks it as that user's."""
    given = {"command": "check", "cache-dir": "/github/runner_temp/chalice-ci"}
    first = small.run(images.action, inputs=given)
    assert first.code == 0, first.said
    folder = small.temp / "chalice-ci"
    assert owners(folder) == owners(small.workspace / "app.py")
    second = small.run(images.action, inputs=given)
    assert second.code == 0, second.said
    assert report(small)["results"][0]["isolation"]["level"] == "full"


# -- results --------------------------------------------------------------------------------------


def test_a_check_says_what_it_found_in_every_file_of_the_runner(small, images, warm):
    ended = small.run(images.action, inputs={"command": "check"}, options=warm)
    assert ended.code == 0, ended.said
    assert list(ended.outputs) == [item.name for item in OUTPUTS]
    assert ended.outputs["result"] == "ok"
    assert ended.outputs["report"] == "chalice-ci-out/report.json"
    assert (small.workspace / ended.outputs["report"]).is_file()
    assert "hello" in ended.summary
    assert (ended.environment, ended.path) == ("", "")
    assert not {RUNTIME_TOKEN, ID_TOKEN} & set(ended.said.split())


def test_the_app_is_shut_in_as_well_as_it_can_be(small, images, warm):
    """A uid of its own, Landlock and seccomp, under Docker's own profile and capabilities."""
    ended = small.run(images.action, inputs={"command": "check"}, options=warm)
    assert ended.code == 0, ended.said
    levels = [result["isolation"] for result in report(small)["results"]]
    assert [(level["level"], level["reasons"]) for level in levels] == [("full", [])] * 2


@pytest.mark.parametrize("app", ["rest", "everything"])
def test_apps_of_every_shape_are_checked_in_the_container(job, images, warm, app):
    hello(job.workspace)
    for name in ("app.py", "requirements.txt"):
        (job.workspace / name).unlink()
    shutil.rmtree(job.workspace / ".chalice")
    shutil.copytree(APPS / app, job.workspace, dirs_exist_ok=True)
    job.give(job.workspace)
    ended = job.run(images.action, inputs={"command": "check"}, options=warm)
    assert ended.code in (0, 1), ended.said
    for result in report(job)["results"]:
        assert result["isolation"]["level"] == "full"


def test_findings_fail_the_step_with_code_1(job, images, warm):
    hello(job.workspace, **{"app.py": "import missing_module\n" + APP})
    job.give(job.workspace)
    ended = job.run(images.action, inputs={"command": "check"}, options=warm)
    assert ended.code == 1
    assert ended.outputs["failure-reason"] == "findings"
    assert "::error" in ended.out
    assert "missing_module" in ended.out


def test_without_an_app_it_is_a_usage_error_without_a_trace(job, images):
    (job.workspace / "README.md").write_text("nothing\n", encoding="utf-8")
    job.give(job.workspace)
    ended = job.run(images.action, inputs={"command": "check"})
    assert ended.code == 2
    assert "Traceback" not in ended.said


def test_what_is_left_belongs_to_the_owner_of_the_workspace(small, images, warm):
    ended = small.run(images.action, inputs={"command": "package", "stage": "dev"}, options=warm)
    assert ended.code == 0, ended.said
    assert (small.workspace / "chalice-ci-out" / "hello" / "dev" / "deployment.zip").is_file()
    assert owners(small.workspace) == {(1001, 1001)}
    assert owners(small.temp) == {(1001, 1001)}
    git = small.workspace / ".git"
    readable = [p for p in small.workspace.rglob("*") if git not in p.parents]
    assert all(path.stat().st_mode & 0o400 for path in readable)


def test_the_end_of_the_action_runs_though_the_runner_repeats_the_arguments(small, images):
    ended = small.run(images.action, inputs={"command": "check"}, post=True)
    assert (ended.code, "Traceback" in ended.said) == (0, False)


# -- users ----------------------------------------------------------------------------------------


def test_any_user_can_run_it_where_the_workspace_is_his(docker, tmp_path, images):
    """As in containers of other systems: no home, no account, no root."""
    job = Job(docker, tmp_path / "work", owner=1234)
    hello(job.workspace)
    job.give(job.workspace)
    ended = job.run(
        images.action,
        inputs={"command": "check", "stage": "dev"},
        env={"HOME": "/"},
        options=("--user", "1234:1234"),
    )
    assert ended.code == 0, ended.said
    (result,) = report(job)["results"]
    # Without root there is no other uid to load the app under.
    assert result["isolation"]["level"] == "partial"
    assert owners(job.workspace) == {(1234, 1234)}


def test_the_workspace_may_be_read_only_for_what_writes_nothing_there(small, images):
    volume = f"{small.workspace}:/repository:ro"
    ended = small.run(
        images.action,
        arguments=["check", "--project-dir", "/repository", "--stage", "dev", "--out", "/tmp/out"],
        options=("-v", volume),
    )
    assert ended.code == 0, ended.said


def test_a_workspace_that_the_user_cannot_write_is_a_usage_error(small, images):
    ended = small.run(
        images.action,
        arguments=["check", "--stage", "dev"],
        env=dict.fromkeys(("GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"), ""),
        options=("--user", "1234:1234"),
    )
    assert ended.code == 2, ended.said
    assert "/github/workspace/chalice-ci-out: Permission denied." in ended.said
    assert "Traceback" not in ended.said


# -- the first process ----------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_load_at_once(job, images, warm, measured, number, code):
    """As process 1 nothing has a default: without handlers both signals would be lost."""
    hello(job.workspace, **{"app.py": ENDLESS})
    job.give(job.workspace)
    step = job.start(images.action, inputs={"command": "check", "stage": "dev"}, options=warm)
    step.until("loading")
    time.sleep(1)
    sent = time.monotonic()
    step.signal(number)
    ended = step.wait(30)
    took = time.monotonic() - sent
    measured(f"from {signal.Signals(number).name} to the end: {took:.1f} s")
    assert ended.code == code, ended.said
    assert took < 7
    assert "Traceback" not in ended.said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_what_prepares_a_load(small, images, measured, number, code):
    """With nothing kept, uv is at work: it must not hold up the end."""
    step = small.start(images.action, inputs={"command": "check"})
    step.until("preparing")
    sent = time.monotonic()
    step.signal(number)
    ended = step.wait(30)
    measured(f"from {signal.Signals(number).name} to the end: {time.monotonic() - sent:.1f} s")
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said


def test_a_cancelled_step_ends_at_the_first_signal_of_the_runner(job, images, warm):
    hello(job.workspace, **{"app.py": ENDLESS})
    job.give(job.workspace)
    step = job.start(images.action, inputs={"command": "check", "stage": "dev"}, options=warm)
    step.until("loading")
    assert step.cancel() < 7
    assert step.wait(30).code == 130
    ended = job.run(images.action, inputs={"command": "check"}, post=True)
    assert ended.code == 0, ended.said


# -- time -----------------------------------------------------------------------------------------


def test_the_first_line_comes_within_a_second(small, images, warm, measured):
    """From `docker run` on, so with what the engine takes; the best of five on a busy machine."""
    for title, how in (
        ("--version", {"arguments": ["--version"]}),
        ("check, nothing kept", {"inputs": {"command": "check", "stage": "dev"}}),
        ("check, warm", {"inputs": {"command": "check", "stage": "dev"}, "options": warm}),
    ):
        runs = []
        while len(runs) < 5 and min(runs, default=(SECOND, 0))[0] >= SECOND:
            ended = small.run(images.action, **how)
            assert ended.code == 0, ended.said
            runs.append((ended.first, ended.seconds))
        first, seconds = min(runs)
        measured(f"{title}: first line after {first:.2f} s, end after {seconds:.2f} s")
        assert first < SECOND


# -- other Pythons --------------------------------------------------------------------------------


def test_a_python_that_cannot_be_fetched_is_a_finding(job, images, warm):
    """The image has one Python; others are fetched, and where they can't be, that is said."""
    hello(job.workspace, **{".python-version": "3.11\n"})
    job.give(job.workspace)
    ended = job.run(
        images.action,
        inputs={"command": "check", "stage": "dev"},
        env={"UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9", "UV_HTTP_RETRIES": "0"},
        options=warm,
    )
    assert ended.code == 1, ended.said
    (finding,) = report(job)["results"][0]["findings"]
    assert finding["rule"] == "python-version"
    assert "could not be fetched" in finding["what"]
    assert "Traceback" not in ended.said


def test_the_python_of_the_image_needs_no_fetching(job, images, warm):
    hello(job.workspace, **{".python-version": "3.13\n"})
    job.give(job.workspace)
    ended = job.run(
        images.action,
        inputs={"command": "check", "stage": "dev"},
        env={"UV_PYTHON_DOWNLOADS": "never"},
        options=warm,
    )
    assert ended.code == 0, ended.said


def test_nothing_but_the_image_is_needed_for_help(docker, images):
    said = docker.run("--network", "none", images.action)
    assert "check" in said
    assert said.startswith("Usage: chalice-ci")
