"""Jobs of one run share a deployer where they can: real children, the embedded AWS."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalice_ci.app.deployer import Deployer, Target
from chalice_ci.app.deployers import Deployers
from chalice_ci.errors import AWSError, NotOurs
from chalice_ci.local import EmbeddedAWS
from support.deployments import Recorder, deletion, target
from support.shapes import BY_NAME, REGION, copy_shape

PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture
def deployers(aws: EmbeddedAWS, tmp_path: Path) -> Iterator[Deployers]:
    with Deployers(aws.environ, tmp_path) as lending:
        yield lending


@pytest.fixture(scope="module")
def schedule(tmp_path_factory: pytest.TempPathFactory) -> Target:
    root = tmp_path_factory.mktemp("schedule")
    return target(copy_shape(BY_NAME["schedule"], root / "app"), root / "work", python=PYTHON)


class _Refusing(Recorder):
    def allow(self, call: object) -> None:
        raise NotOurs("not this one", where="here")


def _deploy(deployer: Deployer, what: Target) -> tuple[str, ...]:
    outcome = deployer.apply(what, deployer.plan(what), gate=Recorder())
    outcome.check()
    return tuple(sorted(str(resource["name"]) for resource in outcome.resources))


def test_one_child_serves_one_job_after_the_other(deployers: Deployers, schedule: Target) -> None:
    with deployers.lent(PYTHON, REGION) as first:
        made = first.apply(schedule, first.plan(schedule), gate=Recorder())
    with deployers.lent(PYTHON, REGION) as second:
        assert second.pid == first.pid
        gone = deletion(schedule.app_name, made.resources)
        assert made.resources
        assert _deploy(second, gone) == ()


def test_jobs_at_the_same_time_have_children_of_their_own(deployers: Deployers) -> None:
    with deployers.lent(PYTHON, REGION) as first, deployers.lent(PYTHON, REGION) as second:
        assert first.pid != second.pid


def test_another_region_has_another_child(deployers: Deployers) -> None:
    with deployers.lent(PYTHON, REGION) as first:
        assert first.identify().region == REGION
    with deployers.lent(PYTHON, "eu-west-1") as second:
        assert second.identify().region == "eu-west-1"


def test_after_a_refused_call_a_fresh_child_is_lent(deployers: Deployers, schedule: Target) -> None:
    with deployers.lent(PYTHON, REGION) as first:
        refused = first.apply(schedule, first.plan(schedule), gate=_Refusing())
        assert isinstance(refused.error, NotOurs)
    with deployers.lent(PYTHON, REGION) as second:
        assert second.pid != first.pid
        second.identify()


def test_after_an_error_a_fresh_child_is_lent(deployers: Deployers) -> None:
    with pytest.raises(AWSError), deployers.lent(PYTHON, REGION) as first:
        raise AWSError("no", where="here")
    assert not Path(f"/proc/{first.pid}").exists()
    with deployers.lent(PYTHON, REGION) as second:
        assert second.pid != first.pid


def test_a_child_that_was_asked_to_stop_is_not_lent_again(deployers: Deployers) -> None:
    with deployers.lent(PYTHON, REGION) as first:
        first.identify()
        first.stop()
    with deployers.lent(PYTHON, REGION) as second:
        assert second.identify().region == REGION


def test_a_child_that_died_while_it_was_idle_is_replaced(deployers: Deployers) -> None:
    with deployers.lent(PYTHON, REGION) as first:
        first.identify()
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    with deployers.lent(PYTHON, REGION) as second:
        assert second.pid != first.pid
        assert second.identify().region == REGION


def test_the_output_of_one_job_is_not_told_of_the_next(
    deployers: Deployers, tmp_path: Path
) -> None:
    with deployers.lent(PYTHON, REGION) as first:
        (log,) = tmp_path.glob("deployer-*/deployer.log")
        log.write_text("said by the first job\n", encoding="utf-8")
        assert "the first job" in first.output
    with deployers.lent(PYTHON, REGION) as second:
        assert second.pid == first.pid
        assert second.output == ""


def test_at_the_end_every_child_is_gone(aws: EmbeddedAWS, tmp_path: Path) -> None:
    with Deployers(aws.environ, tmp_path) as lending:
        with lending.lent(PYTHON, REGION) as one, lending.lent(PYTHON, "eu-west-1") as other:
            pids = (one.pid, other.pid)
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
