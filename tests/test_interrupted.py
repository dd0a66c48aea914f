"""Signals at the moments when something was taken that somebody has to give back: whole runs.

The command itself, in a process that sends itself the signal at exactly that moment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalice_ci.local import EmbeddedAWS
from chalice_ci.ownership import clients_of
from chalice_ci.state.journal import Journal
from chalice_ci.state.lease import opened
from chalice_ci.state.local import LocalStore
from chalice_ci.state.store import StateKey
from support.commandline import Ran, environ, hello
from support.inprocess import run_here

KEY = StateKey(app_path=".", stage="dev")

ROLE = {
    "name": "default-role",
    "resource_type": "iam_role",
    "role_arn": "arn:aws:iam::123456789012:role/hello-dev",
}

START = """
import os, signal, sys, time
import chalice_ci.__main__ as command
import chalice_ci.holding as holding
from chalice_ci.state.local import LocalStore

def send(*names):
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(0)

keep_journal, write = LocalStore.keep_journal, LocalStore.write
"""


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield aws


@pytest.fixture
def aws(running: EmbeddedAWS) -> EmbeddedAWS:
    running.reset()
    return running


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return hello(tmp_path / "r", **{"chalice-ci.yml": "state: {store: local}\n"})


def _run(patch: str, *arguments: str, cwd: Path, aws: EmbeddedAWS) -> Ran:
    """A command with a patch that sends signals; none of them makes a trace."""
    done = subprocess.run(
        [sys.executable, "-c", f"{START}{patch}\ncommand.main()", *arguments],
        cwd=cwd,
        env=environ(**aws.environ),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def _journal(repository: Path) -> Journal | None:
    return opened(KEY, LocalStore(repository).read(KEY).journal)


WRITTEN = """
def interrupted(self, *arguments, **named):
    LocalStore.keep_journal = keep_journal
    keep_journal(self, *arguments, **named)
    send("SIGTERM")
    raise AssertionError("whoever waits for others to write is not deaf")
LocalStore.keep_journal = interrupted
"""
TAKEN = """
def interrupted(*arguments, **named):
    held = take(*arguments, **named)
    send("SIGINT")
    return held
take, holding.take = holding.take, interrupted
"""


@pytest.mark.parametrize(("patch", "code"), [(WRITTEN, 143), (TAKEN, 130)])
def test_a_lease_that_was_just_taken_is_given_back(
    repository: Path, aws: EmbeddedAWS, patch: str, code: int
) -> None:
    """Else nobody could deploy the stage until the lease runs out."""
    ran = _run(patch, "deploy", "--stage", "dev", cwd=repository, aws=aws)
    assert ran.code == code, ran.err
    assert _journal(repository) is None
    assert LocalStore(repository).read(KEY).state is None
    clients = clients_of(aws.environ, aws.environ["AWS_DEFAULT_REGION"])
    assert not clients("lambda").list_functions()["Functions"]


def test_the_record_is_not_broken_off_by_the_signal_that_ci_sends_after_the_first(
    repository: Path, aws: EmbeddedAWS
) -> None:
    """GitHub's runner sends SIGTERM 7.5 s after SIGINT."""
    patch = """
def interrupted(self, *arguments, **named):
    send("SIGINT", "SIGTERM")
    return write(self, *arguments, **named)
LocalStore.write = interrupted
"""
    ran = _run(patch, "deploy", "--stage", "dev", cwd=repository, aws=aws)
    assert ran.code == 130, ran.err
    assert "state recorded" in ran.err
    stored = LocalStore(repository).read(KEY)
    assert stored.journal.raw is None
    assert stored.state is not None
    kinds = {str(r["resource_type"]) for r in stored.state.resources}
    assert kinds == {"iam_role", "lambda_function", "rest_api"}


def test_a_recovery_that_is_interrupted_gives_the_stage_back(
    repository: Path, aws: EmbeddedAWS
) -> None:
    patch = """
def interrupted(*arguments, **named):
    send("SIGTERM")
    raise AssertionError("a look at AWS ends at once")
holding.discover = interrupted
"""
    ran = _run(patch, "state", "recover", "--stage", "dev", cwd=repository, aws=aws)
    assert ran.code == 143, ran.err
    left = _journal(repository)
    assert left is not None
    assert left.lease is None
    assert left.verb == "recover"


def test_a_recovery_that_fails_gives_the_stage_back(repository: Path, aws: EmbeddedAWS) -> None:
    """What it knew is in the journal, for the next one."""
    env = dict(aws.environ)
    deployed = run_here("deploy", "--stage", "dev", cwd=repository, **env)
    assert deployed.code == 0, deployed.err
    recover = ("state", "recover", "--stage", "dev", "--lease-wait", "0", "--format", "json")
    denied = {"status": 403, "code": "AccessDeniedException", "message": "not for you"}
    aws.order_faults(
        [{"service": "lambda", "operation": "ListFunctions", "reads": True, "times": 99, **denied}]
    )
    failed = run_here(*recover, cwd=repository, **env)
    assert "AccessDenied" in json.dumps(failed.result["failure"])
    left = _journal(repository)
    assert left is not None
    assert left.lease is None
    assert {r["resource_type"] for r in left.resources} >= {"lambda_function", "rest_api"}
    aws.order_faults([])
    # This process still runs, so a lease of its own would be one of a living holder.
    again = run_here(*recover, cwd=repository, **env)
    assert again.code == 0, again.out + again.err
    assert _journal(repository) is None


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ({"stands": {**ROLE, "role_name": "hello-dev"}}, "hello-dev"),
        ({"stands": {**ROLE, "resource_type": ["x"]}}, None),
        ("[" * 100_000, None),
    ],
)
def test_what_a_killed_run_left_on_the_disk_is_taken_up_if_it_can_be_true(
    repository: Path, aws: EmbeddedAWS, tmp_path: Path, line: object, role: str | None
) -> None:
    """Else the journal that it is put into could not be read by the next run."""
    recover = ("state", "recover", "--stage", "dev", "--cache-dir", str(tmp_path / "cache"))
    killed = "holding.discover = lambda *_, **named: os._exit(9)"
    assert _run(killed, *recover, cwd=repository, aws=aws).code == 9
    (log,) = (tmp_path / "cache" / "journals").iterdir()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{line if isinstance(line, str) else json.dumps(line)}\n")
    # Killed once more: what it knew is in the journal.
    assert _run(killed, *recover, cwd=repository, aws=aws).code == 9
    left = _journal(repository)
    assert left is not None
    assert [one.get("role_name") for one in left.resources] == ([role] if role else [])
