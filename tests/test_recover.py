"""`state recover` and `state unlock`: what a deploy left behind is found again."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalice_ci.app.deployer import Deployer, Identity
from chalice_ci.local import EmbeddedAWS
from chalice_ci.ownership import clients_of, owner_of
from chalice_ci.state.recover import Discovery, discover
from chalice_ci.state.schema import Resource
from support.deployments import Recorder, deletion, target
from support.shapes import ACCOUNT, BY_NAME, REGION, copy_shape, prepare

PYTHON = Path(sys.executable)
IDENTITY = Identity(account=ACCOUNT, region=REGION, arn="arn:aws:iam::123456789012:user/ci")


class Deployed:
    """The shape with all triggers, deployed once."""

    def __init__(self, aws: EmbeddedAWS, folder: Path) -> None:
        self.aws = aws
        shape = BY_NAME["everything"]
        project = copy_shape(shape, folder / shape.name)
        prepare([shape], folder, clients_of(aws.environ, REGION))
        self.target = target(project, folder / "work")
        with Deployer.start(
            Path(sys.executable),
            environ=aws.environ,
            work_dir=folder / "deployer",
            poll_seconds=0.2,
        ) as deployer:
            outcome = deployer.apply(
                self.target, deployer.plan(self.target), gate=Recorder(), progress=lambda _: None
            )
        outcome.check()
        self.resources: tuple[Resource, ...] = outcome.resources

    def discover(self, recorded: tuple[Resource, ...], *, stage: str = "dev") -> Discovery:
        what = dataclasses.replace(deletion(self.target.app_name, recorded), stage=stage)
        clients = clients_of(self.aws.environ, REGION)
        return discover(owner_of(what, IDENTITY), clients, recorded, {})


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield Deployed(aws, tmp_path_factory.mktemp("recover"))


def _by_name(resources: tuple[Resource, ...]) -> dict[tuple[str, str], Resource]:
    return {(str(r["resource_type"]), str(r["name"])): r for r in resources}


def test_a_record_that_is_lost_is_found_again_in_full(deployed: Deployed) -> None:
    found = discovered = deployed.discover(())
    assert found.doubtful == ()
    assert _by_name(discovered.resources).keys() == _by_name(deployed.resources).keys()
    for key, resource in _by_name(deployed.resources).items():
        there = _by_name(discovered.resources)[key]
        same = {k: v for k, v in resource.items() if k in there}
        assert there == {**there, **same}, key


def test_what_is_recorded_and_there_stays_as_it_is(deployed: Deployed) -> None:
    found = deployed.discover(deployed.resources)
    assert found == Discovery(resources=deployed.resources, adopted=(), dropped=(), doubtful=())


def test_what_is_recorded_and_gone_is_dropped(deployed: Deployed) -> None:
    ghost = {
        "name": "old-sqs-event-source",
        "resource_type": "sqs_event",
        "queue": "q",
        "event_uuid": "00000000-0000-0000-0000-000000000000",
        "lambda_arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{deployed.target.app_name}-dev",
    }
    found = deployed.discover((*deployed.resources, ghost))
    assert found.dropped == (("sqs_event", "old-sqs-event-source"),)
    assert found.resources == deployed.resources


def test_what_is_somebody_elses_stays_recorded_for_the_guard_to_refuse(deployed: Deployed) -> None:
    foreign = {
        "name": "other",
        "resource_type": "lambda_function",
        "lambda_arn": f"arn:aws:lambda:{REGION}:999999999999:function:other",
    }
    found = deployed.discover((*deployed.resources, foreign))
    assert foreign in found.resources


def test_another_stage_of_the_app_finds_nothing_of_this_one(deployed: Deployed) -> None:
    assert deployed.discover((), stage="prod").resources == ()


def test_of_two_that_could_be_meant_none_is_adopted(deployed: Deployed) -> None:
    api = clients_of(deployed.aws.environ, REGION)("apigatewayv2")
    name = f"{deployed.target.app_name}-dev-websocket-api"
    made = api.create_api(
        Name=name, ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
    )["ApiId"]
    try:
        found = deployed.discover(())
    finally:
        api.delete_api(ApiId=made)
    assert ("websocket_api", "websocket_api") not in _by_name(found.resources)
    assert len(found.doubtful) == 1
    assert made in found.doubtful[0]
