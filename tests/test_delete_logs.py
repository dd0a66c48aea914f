"""`delete-logs`: a stage's log groups go with it, whatever happens in between."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.app.deployer import Outcome, Target
from chalice_ci.app.deployers import Deployers
from chalice_ci.errors import AWSError, NotOurs
from chalice_ci.local import EmbeddedAWS
from chalice_ci.ownership import Guard, clients_of, owner_of
from support.commandline import hello
from support.deployments import deletion, target
from support.inprocess import run_here
from support.shapes import BY_NAME, REGION, copy_shape, prepare

PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield aws


@pytest.fixture
def aws(running: EmbeddedAWS) -> EmbeddedAWS:
    running.reset()
    return running


@pytest.fixture(scope="module")
def deployers(running: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with Deployers(running.environ, tmp_path_factory.mktemp("run"), poll_seconds=0.2) as lending:
        yield lending


class Stage:
    """The shape whose functions have a retention, deployed, and each with a log group."""

    def __init__(self, aws: EmbeddedAWS, deployers: Deployers, folder: Path) -> None:
        self.deployers = deployers
        self.clients = clients_of(aws.environ, REGION)
        self.logs = self.clients("logs")
        project = copy_shape(BY_NAME["functions"], folder / "functions")
        prepare([BY_NAME["functions"]], folder, self.clients)
        what = target(project, folder / "work")
        done = self.apply(what)
        done.check()
        self.app_name = what.app_name
        self.resources = done.resources
        # As Lambda does when a function runs for the first time.
        for resource in self.resources:
            if resource["resource_type"] == "lambda_function":
                name = f"/aws/lambda/{str(resource['lambda_arn']).rpartition(':')[2]}"
                if name not in self.groups():
                    self.logs.create_log_group(logGroupName=name)

    def apply(self, what: Target) -> Outcome:
        with self.deployers.lent(PYTHON, REGION) as deployer:
            guard = Guard(owner_of(what, deployer.identify()), self.clients)
            return deployer.apply(what, deployer.plan(what), gate=guard)

    def delete(self, resources: tuple[Any, ...], *, logs: bool = True) -> Outcome:
        what = deletion(self.app_name, resources)
        return self.apply(dataclasses.replace(what, delete_logs=logs))

    def groups(self) -> list[str]:
        found = self.logs.describe_log_groups()["logGroups"]
        return sorted(str(group["logGroupName"]) for group in found)


@pytest.fixture
def stage(aws: EmbeddedAWS, deployers: Deployers, tmp_path: Path) -> Stage:
    return Stage(aws, deployers, tmp_path)


def test_log_groups_of_the_stage_go_and_no_others(stage: Stage) -> None:
    others = [f"/aws/lambda/{stage.app_name}-dev2-x", f"/aws/lambda/{stage.app_name}-dev-x"]
    for name in others:
        stage.logs.create_log_group(logGroupName=name)
    assert len(stage.groups()) > 3
    done = stage.delete(stage.resources)
    done.check()
    assert done.resources == ()
    assert stage.groups() == sorted(others)


def test_without_asking_they_stay(stage: Stage) -> None:
    before = stage.groups()
    stage.delete(stage.resources, logs=False).check()
    assert stage.groups() == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_deletion_that_stopped_between_function_and_log_group_goes_on_there(
    stage: Stage, aws: EmbeddedAWS, when: str
) -> None:
    refused = {"status": 400, "code": "AccessDeniedException"}
    aws.order_faults([{"service": "logs", "operation": "DeleteLogGroup", "when": when, **refused}])
    stopped = stage.delete(stage.resources)
    aws.order_faults([])
    assert isinstance(stopped.error, AWSError)
    assert stage.clients("lambda").list_functions()["Functions"] == []
    left = {str(r["resource_type"]) for r in stopped.resources}
    assert "lambda_function" in left, "what has a log group is still recorded"
    done = stage.delete(stopped.resources)
    done.check()
    assert done.resources == ()
    assert stage.groups() == []


def test_a_log_group_of_another_function_is_not_deleted(stage: Stage) -> None:
    """The name is what Chalice would give, the function of that name is another app's."""
    stage.clients("iam").create_role(RoleName="pay", AssumeRolePolicyDocument="{}")
    name = f"{stage.app_name}-dev-prod-pay"
    stage.clients("lambda").create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role="arn:aws:iam::123456789012:role/pay",
        Handler="app.app",
        Code={"ZipFile": b"PK\x05\x06" + b"\0" * 18},
        Tags={"aws-chalice": f"version=1.34.0:stage=prod:app={stage.app_name}-dev"},
    )
    stage.logs.create_log_group(logGroupName=f"/aws/lambda/{name}")
    before = stage.groups()
    poison = {
        "name": "prod-pay-log-group",
        "resource_type": "log_group",
        "log_group_name": f"/aws/lambda/{name}",
    }
    for logs in (True, False):
        refused = stage.delete((*stage.resources, poison), logs=logs)
        assert isinstance(refused.error, NotOurs)
        assert "prod-pay-log-group" in str(refused.error)
        assert refused.calls == 0
        assert stage.groups() == before


def test_the_input_reaches_the_deletion(aws: EmbeddedAWS, tmp_path: Path) -> None:
    repository = hello(tmp_path / "r")
    assert run_here("deploy", "--stage", "dev", cwd=repository, **aws.environ).code == 0
    logs = clients_of(aws.environ, aws.environ["AWS_DEFAULT_REGION"])("logs")
    logs.create_log_group(logGroupName="/aws/lambda/hello-dev")
    ran = run_here("delete", "--stage", "dev", "--delete-logs", cwd=repository, **aws.environ)
    assert ran.code == 0, ran.out + ran.err
    assert logs.describe_log_groups()["logGroups"] == []
