"""Nothing foreign is touched: poisoned states, wrong accounts, other people's resources."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalice_ci.app.deployer import Call, Deployer, Identity, Outcome, Result, Target
from chalice_ci.app.deployers import Deployers
from chalice_ci.errors import AWSError, NotOurs, PlanRefused, WrongAccount
from chalice_ci.local import EmbeddedAWS
from chalice_ci.ownership import (
    _CALLS,
    _METHODS,
    Guard,
    Owner,
    check_place,
    check_recorded,
    clients_of,
    owner_of,
)
from chalice_ci.plan import Operation
from chalice_ci.state.schema import IDENTITY
from support.awsclients import clients_of as embedded_clients
from support.awslisting import list_account
from support.deployments import Recorder, deletion, target
from support.shapes import ACCOUNT, BY_NAME, REGION, Clients, apply_change, copy_shape, prepare

PYTHON = Path(sys.executable)
FOREIGN = "999999999999"
Resource = dict[str, object]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield aws


@pytest.fixture
def aws(server: EmbeddedAWS) -> EmbeddedAWS:
    server.reset()
    return server


@pytest.fixture
def clients(aws: EmbeddedAWS) -> Clients:
    return embedded_clients(aws)


@pytest.fixture(scope="module")
def guarding(server: EmbeddedAWS) -> Clients:
    """The clients of the guard, made once."""
    return clients_of(server.environ, REGION)


@pytest.fixture(scope="module")
def deployers(server: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployers]:
    with Deployers(server.environ, tmp_path_factory.mktemp("run"), poll_seconds=0.2) as lending:
        yield lending


class World:
    """An app `shape-everything`, and the guard between it and the embedded AWS."""

    def __init__(
        self, aws: EmbeddedAWS, tmp_path: Path, deployers: Deployers, guarding: Clients
    ) -> None:
        self.aws = aws
        self.tmp_path = tmp_path
        self.deployers = deployers
        self.guarding = guarding

    def project(self, name: str) -> Path:
        shape = BY_NAME[name]
        project = copy_shape(shape, self.tmp_path / name)
        prepare([shape], self.tmp_path, embedded_clients(self.aws))
        return project

    def target(self, project: Path, resources: tuple[Mapping[str, object], ...] = ()) -> Target:
        return target(project, self.tmp_path / "work", resources=resources)

    def apply(self, what: Target, identity: Identity | None = None) -> Outcome:
        with self.deployers.lent(PYTHON, REGION) as deployer:
            who = identity or deployer.identify()
            guard = Guard(owner_of(what, who), self.guarding)
            return deployer.apply(what, deployer.plan(what), gate=guard)

    def mutations(self) -> list[str]:
        return [f"{c['service']}:{c['operation']}" for c in self.aws.calls() if c["mutating"]]


@pytest.fixture
def world(aws: EmbeddedAWS, tmp_path: Path, deployers: Deployers, guarding: Clients) -> World:
    return World(aws, tmp_path, deployers, guarding)


@pytest.mark.parametrize(
    "name", ["everything", "custom_domain", "functions", "automatic_layer", "authorizers"]
)
def test_what_is_ours_passes_through_its_whole_life(world: World, name: str) -> None:
    project = world.project(name)
    first = world.apply(world.target(project))
    first.check()
    apply_change(BY_NAME[name], project)
    second = world.apply(world.target(project, first.resources))
    second.check()
    what = world.target(project)
    third = world.apply(deletion(what.app_name, second.resources))
    third.check()
    assert third.resources == ()


def _foreign_function(clients: Clients, name: str = "payroll-prod-pay", tag: str = "") -> str:
    clients("iam").create_role(RoleName="payroll-prod", AssumeRolePolicyDocument="{}")
    made = clients("lambda").create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role=f"arn:aws:iam::{ACCOUNT}:role/payroll-prod",
        Handler="app.app",
        Code={"ZipFile": b"PK\x05\x06" + b"\0" * 18},
        Tags={"aws-chalice": tag} if tag else {},
    )
    return str(made["FunctionArn"])


def _role(clients: Clients) -> Resource:
    clients("iam").create_role(RoleName="OrgAdmin", AssumeRolePolicyDocument="{}")
    return {
        "name": "default-role",
        "resource_type": "iam_role",
        "role_name": "OrgAdmin",
        "role_arn": f"arn:aws:iam::{ACCOUNT}:role/OrgAdmin",
    }


def _role_by_another_name(clients: Clients) -> Resource:
    return {**_role(clients), "name": "gone_role"}


def _other_function(clients: Clients) -> Resource:
    arn = _foreign_function(clients, tag="version=1.34.0:stage=prod:app=payroll")
    return {"name": "pay", "resource_type": "lambda_function", "lambda_arn": arn}


def _untagged_function_with_our_name(clients: Clients) -> Resource:
    arn = _foreign_function(clients, "shape-schedule-dev-old")
    return {"name": "old", "resource_type": "lambda_function", "lambda_arn": arn}


def _function_of_another_stage(clients: Clients) -> Resource:
    # "shape-schedule-dev-x" could be stage "x" of an app named "shape-schedule-dev".
    tag = "version=1.34.0:stage=x:app=shape-schedule-dev"
    arn = _foreign_function(clients, "shape-schedule-dev-x", tag)
    return {"name": "x", "resource_type": "lambda_function", "lambda_arn": arn}


def _function_of_the_neighbour(clients: Clients) -> str:
    """A function of the app `shape-schedule-dev`, stage `prod`: its name begins like ours."""
    tag = "version=1.34.0:stage=prod:app=shape-schedule-dev"
    return _foreign_function(clients, "shape-schedule-dev-prod-pay", tag)


def _role_of_the_neighbour(clients: Clients) -> Resource:
    name = _function_of_the_neighbour(clients).rpartition(":")[2]
    clients("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    return {
        "name": "prod-pay_role",
        "resource_type": "iam_role",
        "role_name": name,
        "role_arn": f"arn:aws:iam::{ACCOUNT}:role/{name}",
    }


def _rule_of_the_neighbour(clients: Clients) -> Resource:
    function, rule = _function_of_the_neighbour(clients), "shape-schedule-dev-prod-pay-event"
    clients("events").put_rule(Name=rule, ScheduleExpression="rate(1 day)")
    clients("events").put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": function}])
    return {"name": "prod-pay-event", "resource_type": "cloudwatch_event", "rule_name": rule}


def _log_group_of_the_neighbour(clients: Clients) -> Resource:
    name = f"/aws/lambda/{_function_of_the_neighbour(clients).rpartition(':')[2]}"
    clients("logs").create_log_group(logGroupName=name)
    clients("logs").put_retention_policy(logGroupName=name, retentionInDays=7)
    return {
        "name": "prod-pay-log-group",
        "resource_type": "log_group",
        "log_group_name": name,
    }


def _stream_mapping(clients: Clients) -> Resource:
    function = _foreign_function(clients)
    clients("kinesis").create_stream(StreamName="payroll", ShardCount=1)
    arn = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/payroll"
    made = clients("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName=function, StartingPosition="LATEST"
    )
    return {
        "name": "pay-kinesis-event-source",
        "resource_type": "kinesis_event",
        "stream": "payroll",
        "kinesis_arn": arn,
        "event_uuid": made["UUID"],
        "lambda_arn": function,
    }


def _table_mapping(clients: Clients) -> Resource:
    function = _foreign_function(clients)
    made = clients("dynamodb").create_table(
        TableName="payroll",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    arn = made["TableDescription"]["LatestStreamArn"]
    mapping = clients("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName=function, StartingPosition="LATEST"
    )
    return {
        "name": "pay-dynamodb-event-source",
        "resource_type": "dynamodb_event",
        "stream_arn": arn,
        "event_uuid": mapping["UUID"],
        "lambda_arn": function,
    }


def _mapping_that_claims_our_function(clients: Clients) -> Resource:
    """The record says our function, AWS says another's."""
    ours = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:shape-schedule-dev-pay"
    return {**_mapping(clients), "lambda_arn": ours}


def _websocket_domain(clients: Clients) -> Resource:
    api = str(_websocket_api(clients)["websocket_api_id"])
    client = clients("apigatewayv2")
    client.create_stage(ApiId=api, StageName="api")
    client.create_domain_name(
        DomainName="live.example.com",
        DomainNameConfigurations=[
            {
                "CertificateArn": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/x",
                "EndpointType": "REGIONAL",
            }
        ],
    )
    client.create_api_mapping(
        DomainName="live.example.com", ApiId=api, Stage="api", ApiMappingKey="(none)"
    )
    return {
        "name": "websocket_api_custom_domain",
        "resource_type": "domain_name",
        "domain_name": "live.example.com",
    }


def _rest_api(clients: Clients) -> Resource:
    made = clients("apigateway").create_rest_api(name="shape-schedule")
    return {
        "name": "rest_api",
        "resource_type": "rest_api",
        "rest_api_id": made["id"],
        "rest_api_url": "https://x",
    }


def _websocket_api(clients: Clients) -> Resource:
    made = clients("apigatewayv2").create_api(
        Name="payroll-prod-websocket-api",
        ProtocolType="WEBSOCKET",
        RouteSelectionExpression="$request.body.action",
    )
    return {
        "name": "websocket_api",
        "resource_type": "websocket_api",
        "websocket_api_id": made["ApiId"],
        "websocket_api_url": "wss://x",
    }


def _mapping(clients: Clients) -> Resource:
    function = _foreign_function(clients)
    queue = clients("sqs").create_queue(
        QueueName="payroll", Attributes={"VisibilityTimeout": "360"}
    )
    assert queue
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:payroll"
    made = clients("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName=function, BatchSize=1
    )
    return {
        "name": "pay-sqs-event-source",
        "resource_type": "sqs_event",
        "queue": "payroll",
        "queue_arn": arn,
        "event_uuid": made["UUID"],
        "lambda_arn": function,
    }


def _subscription(clients: Clients) -> Resource:
    function = _foreign_function(clients)
    topic = clients("sns").create_topic(Name="payroll")["TopicArn"]
    made = clients("sns").subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function)
    return {
        "name": "pay-sns-subscription",
        "resource_type": "sns_event",
        "topic": "payroll",
        "topic_arn": topic,
        "subscription_arn": made["SubscriptionArn"],
        "lambda_arn": function,
    }


def _bucket(clients: Clients) -> Resource:
    function = _foreign_function(clients)
    clients("s3").create_bucket(Bucket="payroll")
    clients("s3").put_bucket_notification_configuration(
        Bucket="payroll",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {"LambdaFunctionArn": function, "Events": ["s3:ObjectCreated:*"]}
            ]
        },
    )
    return {
        "name": "pay-s3event",
        "resource_type": "s3_event",
        "bucket": "payroll",
        "lambda_arn": function,
    }


def _rule(clients: Clients) -> Resource:
    clients("events").put_rule(Name="payroll-prod-pay-event", ScheduleExpression="rate(1 day)")
    return {
        "name": "pay-event",
        "resource_type": "cloudwatch_event",
        "rule_name": "payroll-prod-pay-event",
    }


def _log_group(clients: Clients) -> Resource:
    clients("logs").create_log_group(logGroupName="/aws/lambda/payroll-prod-pay")
    return {
        "name": "pay-log-group",
        "resource_type": "log_group",
        "log_group_name": "/aws/lambda/payroll-prod-pay",
    }


def _layer(clients: Clients) -> Resource:
    made = clients("lambda").publish_layer_version(
        LayerName="payroll-prod-managed-layer", Content={"ZipFile": b"PK\x05\x06" + b"\0" * 18}
    )
    return {
        "name": "managed-layer",
        "resource_type": "lambda_layer",
        "layer_version_arn": made["LayerVersionArn"],
    }


def _domain(clients: Clients) -> Resource:
    clients("apigateway").create_domain_name(
        domainName="pay.example.com",
        regionalCertificateArn=f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/x",
        endpointConfiguration={"types": ["REGIONAL"]},
        securityPolicy="TLS_1_2",
    )
    return {
        "name": "api_gateway_custom_domain",
        "resource_type": "domain_name",
        "domain_name": "pay.example.com",
    }


def _in_another_account(key: str, kind: str, arn: str) -> Callable[[Clients], Resource]:
    def make(_clients: Clients) -> Resource:
        return {"name": "worker", "resource_type": kind, key: arn}

    return make


POISON: Mapping[str, tuple[str, Callable[[Clients], Resource]]] = {
    "OrgAdmin": ("iam_role", _role),
    "OrgAdmin by another name": ("iam_role", _role_by_another_name),
    "another app's function": ("lambda_function", _other_function),
    "a function without the tag": ("lambda_function", _untagged_function_with_our_name),
    "another stage's function": ("lambda_function", _function_of_another_stage),
    "a REST API that leads nowhere": ("rest_api", _rest_api),
    "another app's WebSocket API": ("websocket_api", _websocket_api),
    "another function's event source mapping": ("sqs_event", _mapping),
    "another function's subscription": ("sns_event", _subscription),
    "another function's bucket events": ("s3_event", _bucket),
    "another app's rule": ("cloudwatch_event", _rule),
    "another app's log group": ("log_group", _log_group),
    "another app's layer": ("lambda_layer", _layer),
    "a domain of nobody knows whom": ("domain_name", _domain),
    "a role of a neighbour's function": ("iam_role", _role_of_the_neighbour),
    "a rule of a neighbour's function": ("cloudwatch_event", _rule_of_the_neighbour),
    "a log group of a neighbour's function": ("log_group", _log_group_of_the_neighbour),
    "another function's stream": ("kinesis_event", _stream_mapping),
    "another function's table": ("dynamodb_event", _table_mapping),
    "another function's mapping said to be ours": ("sqs_event", _mapping_that_claims_our_function),
    "another API's WebSocket domain": ("domain_name", _websocket_domain),
    "a function in another account": (
        "lambda_function",
        _in_another_account(
            "lambda_arn", "lambda_function", f"arn:aws:lambda:{REGION}:{FOREIGN}:function:shape-x"
        ),
    ),
    "a function in another region": (
        "lambda_function",
        _in_another_account(
            "lambda_arn",
            "lambda_function",
            f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:shape-schedule-dev-worker",
        ),
    ),
    "a layer in another account": (
        "lambda_layer",
        _in_another_account(
            "layer_version_arn",
            "lambda_layer",
            f"arn:aws:lambda:{REGION}:{FOREIGN}:layer:shape-schedule-dev-managed-layer:3",
        ),
    ),
    "an ARN that is none": (
        "lambda_function",
        _in_another_account("lambda_arn", "lambda_function", "arn:x"),
    ),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_state_changes_nothing(world: World, clients: Clients, poison: str) -> None:
    project = world.project("schedule")
    first = world.apply(world.target(project))
    first.check()
    kind, make = POISON[poison]
    resource = make(clients)
    assert resource["resource_type"] == kind
    resources = (
        *(r for r in first.resources if r["name"] != resource["name"]),
        resource,
    )
    before = list_account(clients).text
    deploy = world.target(project, resources)
    for what in (deploy, deletion(deploy.app_name, resources)):
        world.aws.forget_calls()
        outcome = world.apply(what)
        assert not outcome.complete
        assert isinstance(outcome.error, NotOurs | WrongAccount)
        assert outcome.error.exit_code in (18, 19)
        assert world.mutations() == []
        told = str(outcome.error)
        # The planner would give a recorded role's ARN to the functions.
        assert str(resource["name"]) in told or str(resource.get("role_arn")) in told
        fix = outcome.error.fix
        assert "adopt" in fix or isinstance(outcome.error, WrongAccount), fix
        assert "out of the" in fix, fix
    assert list_account(clients).text == before


def test_there_is_a_poisoned_state_for_every_kind_that_chalice_records() -> None:
    assert {kind for kind, _ in POISON.values()} == set(IDENTITY)


def test_all_that_is_not_ours_is_told_at_once(world: World, clients: Clients) -> None:
    resources = (_role(clients), _rule(clients), _log_group(clients))
    world.aws.forget_calls()
    outcome = world.apply(deletion("shape-schedule", resources))
    for name in ("OrgAdmin", "payroll-prod-pay-event", "/aws/lambda/payroll-prod-pay"):
        assert name in str(outcome.error)
    assert world.mutations() == []


def test_another_apps_api_is_not_overwritten(world: World, clients: Clients) -> None:
    """The id of another API in the state, and an API of that name: an update, not a deletion."""
    project = world.project("rest")
    first = world.apply(world.target(project))
    first.check()
    other = clients("apigateway").create_rest_api(name="shape-rest")
    resources = tuple(
        {**r, "rest_api_id": other["id"]} if r["name"] == "rest_api" else r for r in first.resources
    )
    world.aws.forget_calls()
    outcome = world.apply(world.target(project, resources))
    assert isinstance(outcome.error, NotOurs)
    assert "leads to no function" in str(outcome.error)
    assert world.mutations() == []


def test_another_stages_api_is_not_ours(world: World, clients: Clients) -> None:
    """All stages of an app give their REST API the same name: the function behind it decides."""
    project = world.project("rest")
    first = world.apply(world.target(project))
    first.check()
    what = world.target(project)
    poisoned = dataclasses.replace(
        deletion(what.app_name, tuple(r for r in first.resources if r["name"] == "rest_api")),
        stage="prod",
    )
    world.aws.forget_calls()
    outcome = world.apply(poisoned)
    assert isinstance(outcome.error, NotOurs)
    assert "shape-rest-dev" in str(outcome.error)
    assert world.mutations() == []


def test_an_api_whose_permission_is_missing_is_still_ours(world: World, clients: Clients) -> None:
    """A deploy that failed between import and permission can be repeated."""
    project = world.project("rest")
    first = world.apply(world.target(project))
    first.check()
    policy = json.loads(clients("lambda").get_policy(FunctionName="shape-rest-dev")["Policy"])
    for statement in policy["Statement"]:
        clients("lambda").remove_permission(
            FunctionName="shape-rest-dev", StatementId=statement["Sid"]
        )
    world.apply(world.target(project, first.resources)).check()


def test_a_function_does_not_get_a_role_that_a_state_names(world: World, clients: Clients) -> None:
    """The planner passes a recorded role's ARN on to the functions."""
    project = world.project("schedule")
    first = world.apply(world.target(project))
    first.check()
    clients("iam").create_role(RoleName="OrgAdmin", AssumeRolePolicyDocument="{}")
    resources = tuple(
        {**r, "role_arn": f"arn:aws:iam::{ACCOUNT}:role/OrgAdmin"}
        if r["name"] == "default-role"
        else r
        for r in first.resources
    )
    world.aws.forget_calls()
    outcome = world.apply(world.target(project, resources))
    assert isinstance(outcome.error, NotOurs)
    assert "OrgAdmin" in str(outcome.error)
    assert world.mutations() == []


def test_a_graph_that_names_foreign_resources_changes_nothing(
    world: World, clients: Clients
) -> None:
    """Zone 2 can forge a graph: names of another app in it."""
    _foreign_function(clients, tag="version=1.34.0:stage=prod:app=payroll")
    project = world.project("schedule")
    what = world.target(project)
    for ours, theirs in (
        ("shape-schedule-dev-hourly", "payroll-prod-pay"),
        ("shape-schedule-dev", "OrgAdmin"),
    ):
        assert what.graph is not None
        forged = json.loads(json.dumps(what.graph).replace(json.dumps(ours), json.dumps(theirs)))
        assert forged != what.graph
        world.aws.forget_calls()
        outcome = world.apply(dataclasses.replace(what, graph=forged))
        assert isinstance(outcome.error, NotOurs)
        assert theirs in str(outcome.error)
        assert world.mutations() == []


def test_a_function_that_somebody_else_made_under_our_name_is_not_taken_over(
    world: World, clients: Clients
) -> None:
    _foreign_function(clients, "shape-schedule-dev-hourly")
    project = world.project("schedule")
    world.aws.forget_calls()
    outcome = world.apply(world.target(project))
    assert isinstance(outcome.error, NotOurs)
    assert "without the tag aws-chalice" in str(outcome.error)
    assert "To adopt it, tag the function aws-chalice=" in outcome.error.fix
    assert world.mutations() == []


def test_the_told_tag_adopts_a_function(world: World, clients: Clients) -> None:
    arn = _foreign_function(clients, "shape-schedule-dev-hourly")
    project = world.project("schedule")
    outcome = world.apply(world.target(project))
    assert outcome.error is not None
    tag = outcome.error.fix.partition("aws-chalice=")[2].partition(". ")[0]
    clients("lambda").tag_resource(Resource=arn, Tags={"aws-chalice": tag})
    world.apply(world.target(project)).check()


def test_a_role_that_the_user_gave_is_never_touched(world: World, clients: Clients) -> None:
    """`functions` has a function with a role of its own; Chalice recorded it once, long ago."""
    project = world.project("functions")
    first = world.apply(world.target(project))
    first.check()
    before = clients("iam").get_role(RoleName="shape-borrowed")["Role"]
    for name in ("default-role", "borrowed_role"):
        recorded = {
            "name": name,
            "resource_type": "iam_role",
            "role_name": "shape-borrowed",
            "role_arn": before["Arn"],
        }
        kept = tuple(r for r in first.resources if r["name"] != name)
        world.aws.forget_calls()
        outcome = world.apply(world.target(project, (*kept, recorded)))
        assert isinstance(outcome.error, NotOurs), name
        assert world.mutations() == []


def test_a_given_role_with_the_name_of_a_managed_one_is_never_touched() -> None:
    owner = Owner(
        app_name="orders",
        stage="dev",
        account=ACCOUNT,
        region=REGION,
        titles=frozenset({"orders"}),
        roles={"x": f"arn:aws:iam::{ACCOUNT}:role/orders-dev"},
    )
    guard = Guard(owner, _no_clients)
    with pytest.raises(NotOurs, match="given by the app's configuration"):
        guard.review((_operation("delete_role", "default-role", name="orders-dev"),))
    guard.review((_operation("create_function", "x", role_arn=owner.roles["x"]),))
    with pytest.raises(NotOurs, match="instead of"):
        guard.review((_operation("create_function", "y", role_arn=owner.roles["x"]),))


def _no_clients(service: str) -> Any:
    raise AssertionError(f"nothing is to be asked of {service}")


def _operation(method: str, resource: str, **params: object) -> Operation:
    return Operation(method=method, resource=resource, params=params)


OWNER = Owner(
    app_name="orders", stage="dev", account=ACCOUNT, region=REGION, titles=frozenset({"orders"})
)


def test_methods_and_calls_that_nobody_knows_are_refused() -> None:
    guard = Guard(OWNER, _no_clients)
    with pytest.raises(NotOurs, match="delete_everything"):
        guard.review((_operation("delete_everything", "x"),))
    call = Call(
        number=1, service="iam", operation="CreateUser", params={}, method="x", resource="y"
    )
    with pytest.raises(NotOurs, match="iam:CreateUser"):
        guard.allow(call)


def test_every_method_of_chalices_planner_and_sweeper_is_known() -> None:
    """A method that is added to Chalice must be looked at before it is let through."""
    from chalice.deploy import planner, sweeper

    reads = {"get_rest_api", "get_websocket_routes", "get_websocket_integrations"}
    methods = set()
    for module in (planner, sweeper):
        assert module.__file__
        for line in Path(module.__file__).read_text(encoding="utf-8").splitlines():
            _, found, name = line.partition("method_name='")
            if found:
                methods.add(name.partition("'")[0])
    assert len(methods) > 40
    added_here = {"delete_log_group"}
    assert (methods - reads) | added_here == set(_METHODS)


def test_every_call_that_a_shape_makes_is_known_by_its_own_check() -> None:
    for (service, operation), subjects in _CALLS.items():
        assert service.islower()
        assert operation[0].isupper()
        assert all(len(subject) == 2 for subject in subjects)


def test_what_a_run_made_itself_is_not_asked_about() -> None:
    guard = Guard(OWNER, _no_clients)
    made = Call(
        number=1, service="apigateway", operation="ImportRestApi", params={}, method="x",
        resource="rest_api",
    )  # fmt: skip
    guard.allow(made)
    guard.done(
        made,
        Result(ok=True, status=201, code="", message="", attempts=1, response={"id": "abc"}),
    )
    guard.allow(
        dataclasses.replace(made, operation="CreateDeployment", params={"restApiId": "abc"})
    )


def test_a_call_that_failed_made_nothing() -> None:
    class Gone:
        def get_rest_api(self, **_: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetRestApi")

    guard = Guard(OWNER, lambda _service: Gone())
    made = Call(
        number=1, service="apigateway", operation="ImportRestApi", params={}, method="x",
        resource="rest_api",
    )  # fmt: skip
    guard.done(
        made,
        Result(ok=False, status=500, code="x", message="", attempts=1, response={"id": "abc"}),
    )
    with pytest.raises(AWSError, match="permission to read"):
        guard.allow(
            dataclasses.replace(made, operation="CreateDeployment", params={"restApiId": "abc"})
        )


def test_other_notifications_of_a_bucket_stay(world: World, clients: Clients) -> None:
    project = world.project("s3_event")
    topic = clients("sns").create_topic(Name="uploads")["TopicArn"]
    foreign = _foreign_function(clients)
    theirs = {
        "TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectRemoved:*"]}],
        "LambdaFunctionConfigurations": [
            {"LambdaFunctionArn": foreign, "Events": ["s3:ObjectRestore:*"]}
        ],
    }
    clients("s3").put_bucket_notification_configuration(
        Bucket="shape-uploads", NotificationConfiguration=theirs
    )
    before = clients("s3").get_bucket_notification_configuration(Bucket="shape-uploads")
    first = world.apply(world.target(project))
    first.check()
    world.apply(deletion(world.target(project).app_name, first.resources)).check()
    after = clients("s3").get_bucket_notification_configuration(Bucket="shape-uploads")
    for kind in theirs:
        assert after[kind] == before[kind]


@pytest.mark.parametrize(
    "new",
    [
        {"LambdaFunctionConfigurations": []},
        {"LambdaFunctionConfigurations": [], "EventBridgeConfiguration": {}},
    ],
)
def test_notifications_that_would_lose_something_foreign_are_refused(new: Any) -> None:
    foreign = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:payroll-prod-pay"

    class S3:
        def get_bucket_notification_configuration(self, **_: Any) -> Any:
            return {
                "ResponseMetadata": {},
                "LambdaFunctionConfigurations": [
                    {"LambdaFunctionArn": foreign, "Events": ["s3:ObjectCreated:*"]}
                ],
            }

    guard = Guard(OWNER, lambda _service: S3())
    call = Call(
        number=1, service="s3", operation="PutBucketNotificationConfiguration",
        params={"Bucket": "b", "NotificationConfiguration": new}, method="x", resource="a-s3event",
    )  # fmt: skip
    with pytest.raises(NotOurs, match="bucket b"):
        guard.allow(call)


def test_a_domain_that_leads_to_another_api_is_not_taken_over(
    world: World, clients: Clients
) -> None:
    project = world.project("custom_domain")
    what = world.target(project)
    graph = json.dumps(what.graph)
    config = json.loads((project / ".chalice/config.json").read_text(encoding="utf-8"))
    domain = _first(config, "api_gateway_custom_domain")["domain_name"]
    assert domain in graph
    clients("apigateway").create_domain_name(
        domainName=domain,
        regionalCertificateArn=f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/x",
        endpointConfiguration={"types": ["REGIONAL"]},
        securityPolicy="TLS_1_2",
    )
    other = clients("apigateway").create_rest_api(name="payroll")["id"]
    root = clients("apigateway").get_resources(restApiId=other)["items"][0]["id"]
    clients("apigateway").put_method(
        restApiId=other, resourceId=root, httpMethod="GET", authorizationType="NONE"
    )
    clients("apigateway").put_integration(
        restApiId=other, resourceId=root, httpMethod="GET", type="MOCK"
    )
    clients("apigateway").create_deployment(restApiId=other, stageName="prod")
    clients("apigateway").create_base_path_mapping(
        domainName=domain, restApiId=other, stage="prod", basePath="theirs"
    )
    world.aws.forget_calls()
    outcome = world.apply(what)
    assert isinstance(outcome.error, NotOurs)
    assert f"domain {domain} leads to API {other}" in str(outcome.error)
    assert world.mutations() == []


def _first(config: Any, key: str) -> Any:
    if isinstance(config, dict):
        if key in config:
            return config[key]
        for value in config.values():
            found = _first(value, key)
            if found is not None:
                return found
    return None


def test_the_account_and_region_of_a_stage_are_held() -> None:
    who = Identity(account=ACCOUNT, region=REGION, arn="arn:aws:sts::1:x")
    check_place(who, account=ACCOUNT, region=REGION, where="orders/dev")
    check_place(who, account=None, region=None, where="orders/dev")
    with pytest.raises(WrongAccount, match=f"belongs to account {FOREIGN}") as problem:
        check_place(who, account=FOREIGN, region=None, where="orders/dev")
    assert problem.value.exit_code == 19
    with pytest.raises(WrongAccount, match="belongs to region eu-west-1"):
        check_place(who, account=ACCOUNT, region="eu-west-1", where="orders/dev")


def test_credentials_of_another_account_change_nothing(world: World) -> None:
    """The state is account 123456789012's, the credentials are another's."""
    project = world.project("schedule")
    first = world.apply(world.target(project))
    first.check()
    world.aws.forget_calls()
    outcome = world.apply(
        deletion("shape-schedule", tuple(r for r in first.resources if "lambda_arn" in r)),
        Identity(account=FOREIGN, region=REGION, arn="arn:aws:sts::9:x"),
    )
    assert isinstance(outcome.error, WrongAccount)
    assert outcome.error.exit_code == 19
    assert world.mutations() == []


def test_an_owner_is_read_from_a_target(world: World) -> None:
    what = world.target(world.project("functions"))
    owner = owner_of(what, Identity(account=ACCOUNT, region=REGION, arn=""))
    assert owner.prefix == "shape-functions-dev"
    assert owner.roles["borrowed"] == f"arn:aws:iam::{ACCOUNT}:role/shape-borrowed"
    assert owner.roles["strict"] == "shape-functions-dev-strict"
    assert owner.roles["plain"] == "shape-functions-dev"
    rest = owner_of(
        dataclasses.replace(world.target(world.project("rest")), app_name="other"),
        Identity(account=ACCOUNT, region=REGION, arn=""),
    )
    assert rest.titles == {"other", "shape-rest"}


@pytest.mark.parametrize(
    "graph",
    [
        {},
        {"nodes": 1},
        {"nodes": [1]},
        {"nodes": [{"type": "LambdaFunction", "fields": {}}]},
        {"nodes": [{"type": "LambdaFunction", "fields": {"role": {"r": 7}}}]},
        {"nodes": [{"type": "RestAPI", "fields": {"swagger_doc": {"d": [1]}}}]},
        {"nodes": [{"type": "RestAPI", "fields": {"swagger_doc": None}}]},
    ],
)
def test_a_malformed_graph_has_no_owner(graph: dict[str, object]) -> None:
    what = Target(app_name="x", stage="dev", graph=graph)
    with pytest.raises(PlanRefused, match="malformed"):
        owner_of(what, Identity(account=ACCOUNT, region=REGION, arn=""))


def test_clients_come_from_the_given_environment_only(aws: EmbeddedAWS) -> None:
    clients = clients_of({**aws.environ, "AWS_PROFILE": ""}, "eu-central-1")
    client = clients("lambda")
    assert client is clients("lambda")
    assert client.meta.region_name == "eu-central-1"
    assert client.meta.endpoint_url == aws.endpoint_url
    assert clients("sts").get_caller_identity()["Account"] == ACCOUNT


ANOTHER_ENVIRON = {
    "AWS_ACCESS_KEY_ID": "the-process",
    "AWS_SECRET_ACCESS_KEY": "of-somebody-else",
    "AWS_PROFILE": "theirs",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token",
    "AWS_ROLE_ARN": "arn:aws:iam::999999999999:role/theirs",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/credentials",
}
"""What another process's environment may hold."""


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ANOTHER_ENVIRON.items():
        monkeypatch.setenv(name, value)


def _key_of(clients: Clients) -> str:
    """The access key id that a client would sign with; "" for none."""
    found = clients("lambda")._request_signer._credentials
    return "" if found is None else str(found.access_key)


def _no_files(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **more}


def test_credentials_that_nobody_gave_are_not_taken_from_the_process(
    poisoned: None, tmp_path: Path
) -> None:
    del poisoned
    assert _key_of(clients_of(_no_files(tmp_path), REGION)) == ""
    given = _no_files(tmp_path, AWS_ACCESS_KEY_ID="given", AWS_SECRET_ACCESS_KEY="s")
    assert _key_of(clients_of(given, REGION)) == "given"


def test_a_profile_is_read_from_the_files_that_the_environment_names(
    poisoned: None, tmp_path: Path
) -> None:
    del poisoned
    text = "[{}]\naws_access_key_id = {}\naws_secret_access_key = s\n"
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        text.format("default", "of-home") + text.format("mine", "of-profile")
    )
    (tmp_path / "other").write_text(text.format("default", "of-file"))
    for more, key in (
        ({}, "of-home"),
        ({"AWS_PROFILE": "mine"}, "of-profile"),
        ({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "other")}, "of-file"),
    ):
        assert _key_of(clients_of(_no_files(tmp_path, **more), REGION)) == key


def test_a_web_identity_of_the_environment_is_exchanged_for_credentials(
    poisoned: None, aws: EmbeddedAWS, tmp_path: Path
) -> None:
    del poisoned
    (tmp_path / "token").write_text("a.b.c")
    environ = _no_files(
        tmp_path,
        AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
        AWS_ROLE_ARN=f"arn:aws:iam::{ACCOUNT}:role/deployer",
        AWS_ENDPOINT_URL=aws.endpoint_url,
    )
    clients = clients_of(environ, REGION)
    assert clients("sts").get_caller_identity()["Account"] == ACCOUNT
    assert clients("lambda")._request_signer._credentials.method == "assume-role-with-web-identity"


def _recorded(account: str = ACCOUNT, region: str = REGION) -> list[Mapping[str, object]]:
    return [
        {"resource_type": "iam_role", "role_arn": f"arn:aws:iam::{account}:role/a-dev"},
        {"resource_type": "rest_api", "rest_api_id": "abc"},
        {
            "resource_type": "lambda_function",
            "lambda_arn": f"arn:aws:lambda:{region}:{account}:function:a-dev",
        },
        {"resource_type": "sns_event", "topic": "arn:aws:sns:eu-west-1:999999999999:theirs"},
    ]


@pytest.mark.parametrize(
    ("account", "region"), [(FOREIGN, REGION), (ACCOUNT, "eu-west-1"), (FOREIGN, "eu-west-1")]
)
def test_a_record_of_another_place_is_refused_with_how_to_drop_or_adopt(
    account: str, region: str
) -> None:
    here = Identity(account=ACCOUNT, region=REGION, arn="")
    check_recorded(_recorded(), here, where="a/dev")
    check_recorded([], here, where="a/dev")
    with pytest.raises(WrongAccount) as refused:
        check_recorded(_recorded(account, region), here, where="a/dev")
    assert f"arn:aws:lambda:{region}:{account}:function:a-dev" in refused.value.what
    assert "theirs" not in refused.value.what
    for word in ("To adopt", "To drop", "state import", "state pull"):
        assert word in refused.value.fix


def test_a_guard_only_reads(world: World, clients: Clients) -> None:
    project = world.project("everything")
    first = world.apply(world.target(project))
    first.check()
    apply_change(BY_NAME["everything"], project)
    what = world.target(project, first.resources)
    with Deployer.start(
        PYTHON, environ=world.aws.environ, work_dir=world.tmp_path / "run"
    ) as deployer:
        who = deployer.identify()
        operations = deployer.plan(what)
        recorder = Recorder()
        refused = _Refusing()
        deployer.apply(what, operations, gate=refused)
    world.aws.forget_calls()
    Guard(owner_of(what, who), clients_of(world.aws.environ, REGION)).review(refused.reviewed)
    assert recorder.calls == []
    assert len(world.aws.calls()) > 5
    assert world.mutations() == []


class _Refusing(Recorder):
    def review(self, operations: tuple[Operation, ...]) -> None:
        super().review(operations)
        raise NotOurs("only looking")
