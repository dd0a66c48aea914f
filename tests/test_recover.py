"""`state recover` and `state unlock`: what a deploy left behind is found again."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalice_ci.app.deployer import Deployer, Identity
from chalice_ci.local import EmbeddedAWS
from chalice_ci.ownership import DOMAIN_TAG, Clients, clients_of, owner_of
from chalice_ci.state.journal import Intent
from chalice_ci.state.recover import Discovery, discover
from chalice_ci.state.schema import Resource
from support.deployments import Recorder, deletion, target
from support.shapes import ACCOUNT, BY_NAME, REGION, copy_shape, prepare

PYTHON = Path(sys.executable)
IDENTITY = Identity(account=ACCOUNT, region=REGION, arn="arn:aws:iam::123456789012:user/ci")


class Deployed:
    """A shape, deployed once."""

    def __init__(self, aws: EmbeddedAWS, folder: Path, name: str) -> None:
        self.aws = aws
        shape = BY_NAME[name]
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

    def discover(
        self,
        recorded: tuple[Resource, ...],
        *,
        stage: str = "dev",
        intents: tuple[Intent, ...] = (),
    ) -> Discovery:
        what = dataclasses.replace(deletion(self.target.app_name, recorded), stage=stage)
        return discover(owner_of(what, IDENTITY), self.clients, recorded, {}, intents=intents)

    @property
    def clients(self) -> Clients:
        return clients_of(self.aws.environ, REGION)


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(scope="module")
def everything(aws: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(aws, tmp_path_factory.mktemp("everything"), "everything")


@pytest.fixture(scope="module")
def domains(aws: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(aws, tmp_path_factory.mktemp("domains"), "custom_domain")


@pytest.fixture(scope="module")
def logging(aws: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(aws, tmp_path_factory.mktemp("logging"), "functions")


def _arn(function: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"


def _by_name(resources: tuple[Resource, ...]) -> dict[tuple[str, str], Resource]:
    return {(str(r["resource_type"]), str(r["name"])): r for r in resources}


@pytest.mark.parametrize("shape", ["everything", "domains", "logging"])
def test_a_record_that_is_lost_is_found_again_in_full(
    request: pytest.FixtureRequest, shape: str
) -> None:
    deployed: Deployed = request.getfixturevalue(shape)
    discovered = deployed.discover(())
    assert discovered.doubtful == ()
    assert _by_name(discovered.resources).keys() == _by_name(deployed.resources).keys()
    for key, resource in _by_name(deployed.resources).items():
        there = _by_name(discovered.resources)[key]
        same = {k: v for k, v in resource.items() if k in there}
        assert there == {**there, **same}, key


def test_what_is_recorded_and_there_stays_as_it_is(everything: Deployed) -> None:
    found = everything.discover(everything.resources)
    assert found == Discovery(resources=everything.resources, adopted=(), dropped=(), doubtful=())


def test_what_is_recorded_and_gone_is_dropped(everything: Deployed) -> None:
    ghost = {
        "name": "old-sqs-event-source",
        "resource_type": "sqs_event",
        "queue": "q",
        "event_uuid": "00000000-0000-0000-0000-000000000000",
        "lambda_arn": _arn(f"{everything.target.app_name}-dev"),
    }
    found = everything.discover((*everything.resources, ghost))
    assert found.dropped == (("sqs_event", "old-sqs-event-source"),)
    assert found.resources == everything.resources


def test_what_is_somebody_elses_stays_recorded_for_the_guard_to_refuse(
    everything: Deployed,
) -> None:
    foreign = {
        "name": "other",
        "resource_type": "lambda_function",
        "lambda_arn": f"arn:aws:lambda:{REGION}:999999999999:function:other",
    }
    found = everything.discover((*everything.resources, foreign))
    assert foreign in found.resources


def test_another_stage_of_the_app_finds_nothing_of_this_one(everything: Deployed) -> None:
    assert everything.discover((), stage="prod").resources == ()


def test_of_two_that_could_be_meant_none_is_adopted(everything: Deployed) -> None:
    api = everything.clients("apigatewayv2")
    name = f"{everything.target.app_name}-dev-websocket-api"
    made = api.create_api(
        Name=name, ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
    )["ApiId"]
    try:
        found = everything.discover(())
    finally:
        api.delete_api(ApiId=made)
    assert ("websocket_api", "websocket_api") not in _by_name(found.resources)
    assert len(found.doubtful) == 1
    assert made in found.doubtful[0]


def test_both_kinds_of_domain_are_found_each_by_its_own_api(domains: Deployed) -> None:
    found = _by_name(domains.discover(()).resources)
    for name in ("api_gateway_custom_domain", "websocket_api_custom_domain"):
        assert found["domain_name", name] == _by_name(domains.resources)["domain_name", name]


def test_a_domain_that_leads_elsewhere_too_is_not_adopted(domains: Deployed) -> None:
    api = domains.clients("apigatewayv2")
    (domain,) = (r for r in domains.resources if r["name"] == "websocket_api_custom_domain")
    other = api.create_api(
        Name="payroll", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
    )["ApiId"]
    api.create_stage(ApiId=other, StageName="api")
    mapped = api.create_api_mapping(
        DomainName=domain["domain_name"], ApiId=other, Stage="api", ApiMappingKey="pay"
    )["ApiMappingId"]
    try:
        found = domains.discover(())
    finally:
        api.delete_api_mapping(DomainName=domain["domain_name"], ApiMappingId=mapped)
        api.delete_api(ApiId=other)
    assert ("domain_name", "websocket_api_custom_domain") not in _by_name(found.resources)
    assert ("domain_name", "api_gateway_custom_domain") in _by_name(found.resources)


@pytest.mark.parametrize(("stage", "adopted"), [("dev", True), ("prod", False)])
def test_a_domain_that_leads_nowhere_yet_is_adopted_by_its_tag(
    domains: Deployed, stage: str, adopted: bool
) -> None:
    (domain,) = (r for r in domains.resources if r["name"] == "websocket_api_custom_domain")
    without = tuple(r for r in domains.resources if r is not domain)
    api, name = domains.clients("apigatewayv2"), str(domain["domain_name"])
    (mapping,) = api.get_api_mappings(DomainName=name)["Items"]
    arn = f"arn:aws:apigateway:{REGION}::/domainnames/{name}"
    tags = api.get_tags(ResourceArn=arn)["Tags"]
    assert tags[DOMAIN_TAG].endswith(f":stage=dev:app={domains.target.app_name}")
    api.delete_api_mapping(DomainName=name, ApiMappingId=mapping["ApiMappingId"])
    other = tags[DOMAIN_TAG].replace(":stage=dev:", f":stage={stage}:")
    api.tag_resource(ResourceArn=arn, Tags={DOMAIN_TAG: other})
    try:
        found = domains.discover(without)
    finally:
        api.tag_resource(ResourceArn=arn, Tags=tags)
        api.create_api_mapping(
            DomainName=name, ApiId=mapping["ApiId"], Stage="api", ApiMappingKey="(none)"
        )
    assert found.adopted == ((("domain_name", "websocket_api_custom_domain"),) if adopted else ())


def test_of_two_domains_none_is_adopted_and_an_api_that_leads_nowhere_is_no_second_one(
    domains: Deployed,
) -> None:
    api, rest = domains.clients("apigatewayv2"), domains.clients("apigateway")
    by_name = {str(r["name"]): r for r in domains.resources}
    certificate = str(by_name["websocket_api_custom_domain"]["certificate_arn"])
    api.create_domain_name(
        DomainName="second.example.com",
        DomainNameConfigurations=[{"CertificateArn": certificate, "EndpointType": "REGIONAL"}],
    )
    api.create_api_mapping(
        DomainName="second.example.com",
        ApiId=by_name["websocket_api"]["websocket_api_id"],
        Stage="api",
        ApiMappingKey="(none)",
    )
    twin = rest.create_rest_api(name=domains.target.app_name)["id"]
    try:
        found = domains.discover(())
    finally:
        api.delete_domain_name(DomainName="second.example.com")
        rest.delete_rest_api(restApiId=twin)
    assert ("domain_name", "websocket_api_custom_domain") not in _by_name(found.resources)
    assert any("second.example.com" in doubt for doubt in found.doubtful)
    assert ("rest_api", "rest_api") in _by_name(found.resources)


def test_a_log_group_is_adopted_with_its_function_or_when_a_deploy_was_about_to_make_it(
    logging: Deployed,
) -> None:
    """What looks like one of the app `a`, stage `b-c`, may be of the app `a-b`, stage `c`."""
    logs = logging.clients("logs")
    group = f"/aws/lambda/{logging.target.app_name}-dev-prod-pay"
    logs.create_log_group(logGroupName=group)
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    try:
        assert logging.discover(logging.resources).adopted == ()
        meant = Intent(method="create_log_group", resource="prod-pay-log-group")
        found = logging.discover(logging.resources, intents=(meant,))
    finally:
        logs.delete_log_group(logGroupName=group)
    assert found.adopted == (("log_group", "prod-pay-log-group"),)


def test_a_function_whose_log_group_is_still_to_be_deleted_stays_recorded(
    logging: Deployed,
) -> None:
    arn = _arn(f"{logging.target.app_name}-dev-ghost")
    ghost = {"name": "ghost", "resource_type": "lambda_function", "lambda_arn": arn}
    meant = Intent(method="delete_log_group", resource="ghost")
    assert logging.discover((ghost,), intents=(meant,)).dropped == ()
    assert logging.discover((ghost,)).dropped == (("lambda_function", "ghost"),)
