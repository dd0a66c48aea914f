"""The listing sees every setting that Chalice sets: else equal listings would mean nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.app.pythons import find_python
from chalice_ci.local.aws import EmbeddedAWS
from support.awsclients import clients_of
from support.awslisting import list_account
from support.chalicecli import COMBINATIONS, PlainChalice, plain_environment
from support.shapes import BY_NAME, Clients, copy_shape, prepare
from support.stories import ByPlainChalice, Phase, tool_environ

SHAPES = tuple(
    BY_NAME[name]
    for name in ("everything", "functions", "authorizers", "custom_domain", "resource_policy")
)


@pytest.fixture(scope="module")
def clients(aws: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    """An account in which plain Chalice has deployed something of each kind."""
    combination = COMBINATIONS[0]
    (minor,) = combination.pythons
    found = find_python(minor, environ=os.environ, running=Path(sys.executable))
    if found is None:
        pytest.skip(f"no Python {minor} on this machine")
    aws.reset()
    root = tmp_path_factory.mktemp("listing")
    reached = clients_of(aws)
    for shape in SHAPES:
        copy_shape(shape, root / shape.name)
    prepare(SHAPES, root, reached)
    python = plain_environment(combination.chalice, found)
    with PlainChalice(python, environ=tool_environ(root / "home", aws)) as chalice:
        by_plain = ByPlainChalice(chalice=lambda _: chalice)
        for _, said in by_plain.tell(Phase.DEPLOY, root, SHAPES):
            assert said.code == 0, said.text
    return reached


WORKER = "shape-everything-dev-worker"


def _api(clients: Clients, name: str = "shape-everything") -> str:
    apis = clients("apigateway").get_rest_apis()["items"]
    return str(next(api["id"] for api in apis if api["name"] == name))


def _socket(clients: Clients) -> str:
    apis = clients("apigatewayv2").get_apis()["Items"]
    name = "shape-everything-dev-websocket-api"
    return str(next(api["ApiId"] for api in apis if api["Name"] == name))


def _mapping(clients: Clients, of: str) -> str:
    found = clients("lambda").list_event_source_mappings(FunctionName=f"shape-everything-dev-{of}")
    return str(found["EventSourceMappings"][0]["UUID"])


def _settings(**values: Any) -> Callable[[Clients], object]:
    return lambda clients: clients("lambda").update_function_configuration(
        FunctionName=WORKER, **values
    )


def _code(clients: Clients) -> object:
    empty = b"PK\x05\x06" + b"\0" * 18
    return clients("lambda").update_function_code(FunctionName=WORKER, ZipFile=empty)


def _tag(clients: Clients) -> object:
    arn = clients("lambda").get_function(FunctionName=WORKER)["Configuration"]["FunctionArn"]
    return clients("lambda").tag_resource(Resource=arn, Tags={"new": "tag"})


def _permission(clients: Clients) -> object:
    return clients("lambda").add_permission(
        FunctionName=WORKER,
        StatementId="0f1e2d3c-0000-4000-8000-000000000000",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
    )


def _inline_policy(clients: Clients) -> object:
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    return clients("iam").put_role_policy(
        RoleName="shape-everything-dev",
        PolicyName="shape-everything-dev",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )


def _trust(clients: Clients) -> object:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    return clients("iam").update_assume_role_policy(
        RoleName="shape-everything-dev",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )


def _method(clients: Clients) -> object:
    api = _api(clients)
    root = clients("apigateway").get_resources(restApiId=api)["items"][0]["id"]
    return clients("apigateway").put_method(
        restApiId=api, resourceId=root, httpMethod="DELETE", authorizationType="NONE"
    )


def _integration(clients: Clients) -> object:
    api = _api(clients)
    root = clients("apigateway").get_resources(restApiId=api)["items"][0]["id"]
    return clients("apigateway").put_integration(
        restApiId=api, resourceId=root, httpMethod="GET", type="MOCK"
    )


def _patch(path: str, value: str, api: str = "shape-everything") -> Callable[[Clients], object]:
    return lambda clients: clients("apigateway").update_rest_api(
        restApiId=_api(clients, api),
        patchOperations=[{"op": "replace", "path": path, "value": value}],
    )


def _authorizer(clients: Clients) -> object:
    api = _api(clients)
    (found,) = clients("apigateway").get_authorizers(restApiId=api)["items"]
    return clients("apigateway").update_authorizer(
        restApiId=api,
        authorizerId=found["id"],
        patchOperations=[{"op": "replace", "path": "/authorizerResultTtlInSeconds", "value": "77"}],
    )


def _stage(clients: Clients) -> object:
    return clients("apigateway").update_stage(
        restApiId=_api(clients),
        stageName="api",
        patchOperations=[{"op": "replace", "path": "/tracingEnabled", "value": "true"}],
    )


def _deployment(clients: Clients) -> object:
    return clients("apigateway").create_deployment(restApiId=_api(clients))


def _route(clients: Clients) -> object:
    return clients("apigatewayv2").create_route(ApiId=_socket(clients), RouteKey="other")


def _socket_integration(clients: Clients) -> object:
    return clients("apigatewayv2").create_integration(
        ApiId=_socket(clients), IntegrationType="MOCK"
    )


def _socket_stage(clients: Clients) -> object:
    return clients("apigatewayv2").create_stage(ApiId=_socket(clients), StageName="second")


def _rule(clients: Clients) -> object:
    return clients("events").put_rule(
        Name="shape-everything-dev-tick-event", ScheduleExpression="rate(3 hours)"
    )


def _target(clients: Clients) -> object:
    return clients("events").remove_targets(Rule="shape-everything-dev-tick-event", Ids=["1"])


def _notification(clients: Clients) -> object:
    return clients("s3").put_bucket_notification_configuration(
        Bucket="shape-everything", NotificationConfiguration={}
    )


def _subscription(clients: Clients) -> object:
    topic = "arn:aws:sns:us-east-1:123456789012:shape-everything"
    (found,) = clients("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    return clients("sns").unsubscribe(SubscriptionArn=found["SubscriptionArn"])


def _retention(clients: Clients) -> object:
    return clients("logs").put_retention_policy(
        logGroupName="/aws/lambda/shape-functions-dev-plain", retentionInDays=3
    )


def _domain(clients: Clients) -> object:
    return clients("apigateway").delete_base_path_mapping(
        domainName="api.shape.example.com", basePath="orders"
    )


def _layer(clients: Clients) -> object:
    empty = b"PK\x05\x06" + b"\0" * 18
    return clients("lambda").publish_layer_version(
        LayerName="shape-extra", Content={"ZipFile": empty}
    )


CHANGES: Mapping[str, tuple[Callable[[Clients], object], str]] = {
    "a function's memory": (_settings(MemorySize=3008), '"MemorySize": 3008'),
    "a function's time": (_settings(Timeout=899), '"Timeout": 899'),
    "a function's variables": (_settings(Environment={"Variables": {"A": "1"}}), '"A": "1"'),
    "a function's handler": (_settings(Handler="app.other"), '"Handler": "app.other"'),
    "a function's runtime": (_settings(Runtime="python3.9"), '"Runtime": "python3.9"'),
    "a function's layers": (
        _settings(Layers=["arn:aws:lambda:us-east-1:123456789012:layer:shape-extra:1"]),
        '"Arn": "<layer shape-extra 1>"',
    ),
    "a function's network": (
        _settings(VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}),
        '"subnet-1"',
    ),
    "a function's tracing": (_settings(TracingConfig={"Mode": "Active"}), '"Mode": "Active"'),
    "a function's role": (
        _settings(Role="arn:aws:iam::123456789012:role/shape-borrowed"),
        'role/shape-borrowed"',
    ),
    "a function's code": (_code, '"package": "hznHbmgfkAkjuQDJ3w73XPQh05yrtUZQxLmtGbanbYU="'),
    "a function's tags": (_tag, '"new": "tag"'),
    "a function's policy": (_permission, '"Service": "events.amazonaws.com"'),
    "a function's concurrency": (
        lambda clients: clients("lambda").put_function_concurrency(
            FunctionName=WORKER, ReservedConcurrentExecutions=9
        ),
        '"ReservedConcurrentExecutions": 9',
    ),
    "a function": (
        lambda clients: clients("lambda").delete_function(
            FunctionName="shape-everything-dev-health"
        ),
        '"function shape-everything-dev-health"',
    ),
    "a queue's batch size": (
        lambda clients: clients("lambda").update_event_source_mapping(
            UUID=_mapping(clients, "queued"), BatchSize=9
        ),
        '"BatchSize": 9',
    ),
    "a stream's mapping": (
        lambda clients: clients("lambda").delete_event_source_mapping(
            UUID=_mapping(clients, "streamed")
        ),
        'stream/shape-everything"',
    ),
    "a role's policy": (_inline_policy, '"Action": "s3:*"'),
    "a role's trust": (_trust, '"Service": "ec2.amazonaws.com"'),
    "a method": (_method, '"DELETE": {'),
    "an integration": (_integration, '"type": "MOCK"'),
    "an API's compression": (
        _patch("/minimumCompressionSize", "99"),
        '"minimumCompressionSize": 99',
    ),
    "an API's binary types": (
        lambda clients: clients("apigateway").update_rest_api(
            restApiId=_api(clients),
            patchOperations=[
                {"op": "add", "path": "/binaryMediaTypes/a~1b", "value": "image/shape"}
            ],
        ),
        '"image/shape"',
    ),
    "an API's resource policy": (
        _patch("/policy", "{}", "shape-resource-policy"),
        '"policy": "{}"',
    ),
    "an authorizer": (_authorizer, '"authorizerResultTtlInSeconds": 77'),
    "a stage": (_stage, '"tracingEnabled": true'),
    "a deployment": (_deployment, '"the newest deployment is live": false'),
    "a websocket route": (_route, '"RouteKey": "other"'),
    "a websocket integration": (_socket_integration, '"IntegrationType": "MOCK"'),
    "a websocket stage": (_socket_stage, '"StageName": "second"'),
    "a rule": (_rule, '"rate(3 hours)"'),
    "a rule's target": (_target, '"Id": "1"'),
    "a bucket's notification": (_notification, '"LambdaFunctionConfigurations"'),
    "a subscription": (_subscription, 'function:shape-everything-dev-told"'),
    "a log group's retention": (_retention, '"retentionInDays": 3'),
    "a domain's mapping": (_domain, '"basePath": "orders"'),
    "a layer": (_layer, '"layer shape-extra 2"'),
}
"""What to change, and what a changed line of the listing then says."""


@pytest.fixture(scope="module")
def changed_lines(clients: Clients) -> str:
    """The lines that differ between the listings before and after all changes."""
    before = list_account(clients)
    for change, _ in CHANGES.values():
        change(clients)
    lines = before.difference(list_account(clients)).splitlines()
    return "\n".join(line for line in lines if line.startswith(("+", "-")))


def test_the_same_account_is_listed_the_same_twice(clients: Clients) -> None:
    assert list_account(clients) == list_account(clients)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_seen(changed_lines: str, what: str) -> None:
    assert CHANGES[what][1] in changed_lines
