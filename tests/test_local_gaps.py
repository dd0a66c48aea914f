"""Each gap of moto: filled by us, and still open in moto. When the second fails, delete ours."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.local import EmbeddedAWS
from chalice_ci.local.gaps import GAPS, fill
from support.chalicecli import PlainChalice
from support.shapes import BY_NAME, apply_change, copy_shape, prepare

REGION = "us-east-1"
ACCOUNT = "123456789012"
LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:shop-dev"
URI = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{LAMBDA}/invocations"
CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/one"


class Account:
    """Clients of an embedded AWS that don't try twice."""

    def __init__(self, aws: EmbeddedAWS) -> None:
        self.aws = aws
        self.session = boto3.Session(
            aws_access_key_id="embedded", aws_secret_access_key="embedded", region_name=REGION
        )

    @functools.cache  # noqa: B019  # an account lives as long as its test
    def client(self, service: str) -> Any:
        return self.session.client(
            service,
            endpoint_url=self.aws.endpoint_url,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def import_api(self, document: dict[str, Any], **parameters: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client("apigateway").import_rest_api(
            body=json.dumps(document), parameters=parameters
        )
        return found

    def overwrite_api(self, api_id: str, document: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.client("apigateway").put_rest_api(
            restApiId=api_id, mode="overwrite", body=json.dumps(document)
        )
        return found

    def methods(self, api_id: str) -> dict[tuple[str, str], dict[str, Any]]:
        items = self.client("apigateway").get_resources(restApiId=api_id)["items"]
        return {
            (item["path"], name): method
            for item in items
            for name, method in item.get("resourceMethods", {}).items()
        }

    def create_function(self, name: str, **settings: Any) -> str:
        roles = self.client("iam")
        try:
            role = roles.get_role(RoleName="tests")["Role"]["Arn"]
        except roles.exceptions.NoSuchEntityException:
            role = roles.create_role(RoleName="tests", AssumeRolePolicyDocument="{}")
            role = role["Role"]["Arn"]
        made = self.client("lambda").create_function(
            FunctionName=name,
            Runtime="python{}.{}".format(*sys.version_info[:2]),
            Handler="main.handler",
            Role=role,
            **{"Code": {"ZipFile": package("def handler(event, context):\n    return event\n")}}
            | settings,
        )
        return str(made["FunctionArn"])


def package(code: str, name: str = "main.py") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, code)
    return content.getvalue()


def swagger(**extra: Any) -> dict[str, Any]:
    """What Chalice sends for `@app.route("/orders/{name}", cors=True)`, in short."""
    return {
        "swagger": "2.0",
        "info": {"version": "1.0", "title": "shop"},
        "schemes": ["https"],
        "paths": {
            "/orders/{name}": {
                "get": {
                    "responses": {"200": {"description": "200 response"}},
                    "x-amazon-apigateway-integration": {
                        "responses": {"default": {"statusCode": "200"}},
                        "uri": URI,
                        "passthroughBehavior": "when_no_match",
                        "httpMethod": "POST",
                        "contentHandling": "CONVERT_TO_TEXT",
                        "type": "aws_proxy",
                    },
                }
            }
        },
        "definitions": {"Empty": {"type": "object", "title": "Empty Schema"}},
        **extra,
    }


def with_preflight() -> dict[str, Any]:
    document = swagger()
    document["paths"]["/orders/{name}"]["options"] = {
        "responses": {"200": {"description": "200 response"}},
        "x-amazon-apigateway-integration": {
            "responses": {
                "default": {
                    "statusCode": "200",
                    "responseParameters": {
                        "method.response.header.Access-Control-Allow-Origin": "'*'"
                    },
                }
            },
            "requestTemplates": {"application/json": '{"statusCode": 200}'},
            "passthroughBehavior": "when_no_match",
            "type": "mock",
            "contentHandling": "CONVERT_TO_TEXT",
        },
    }
    return document


# -- one probe per gap: it passes where the gap is filled, and fails where it is open ------------


def probe_swagger(account: Account) -> None:
    api = account.import_api(swagger())
    assert ("/orders/{name}", "GET") in account.methods(api["id"])
    account.overwrite_api(api["id"], swagger(paths={}))
    assert account.methods(api["id"]) == {}


def probe_integrations(account: Account) -> None:
    api = account.import_api(with_preflight())
    methods = account.methods(api["id"])
    assert methods["/orders/{name}", "OPTIONS"]["methodIntegration"]["type"] == "MOCK"
    assert methods["/orders/{name}", "GET"]["methodIntegration"]["type"] == "AWS_PROXY"


def probe_endpoints(account: Account) -> None:
    api = account.import_api(swagger(), endpointConfigurationTypes="REGIONAL")
    assert api["endpointConfiguration"]["types"] == ["REGIONAL"]
    api = account.import_api(
        swagger(**{"x-amazon-apigateway-endpoint-configuration": {"vpcEndpointIds": ["vpce-1"]}}),
        endpointConfigurationTypes="PRIVATE",
    )
    found = account.client("apigateway").get_rest_api(restApiId=api["id"])
    assert found["endpointConfiguration"]["types"] == ["PRIVATE"]
    assert found["endpointConfiguration"]["vpcEndpointIds"] == ["vpce-1"]


def probe_authorizers(account: Account) -> None:
    def secured(**schemes: Any) -> dict[str, Any]:
        document = swagger(securityDefinitions=schemes)
        get = document["paths"]["/orders/{name}"]["get"]
        document["paths"] = {
            f"/{name}": {"get": {**get, "security": [{name: []}]}} for name in schemes
        }
        return document

    header = {"in": "header", "type": "apiKey", "name": "Authorization"}
    gate = {
        **header,
        "x-amazon-apigateway-authtype": "custom",
        "x-amazon-apigateway-authorizer": {
            "type": "token",
            "authorizerUri": URI,
            "authorizerResultTtlInSeconds": 30,
        },
    }
    pool = {
        **header,
        "x-amazon-apigateway-authtype": "cognito_user_pools",
        "x-amazon-apigateway-authorizer": {"type": "cognito_user_pools", "providerARNs": ["arn"]},
    }
    iam = {**header, "x-amazon-apigateway-authtype": "awsSigv4"}
    api_key = {"in": "header", "type": "apiKey", "name": "x-api-key"}
    api = account.import_api(secured(gate=gate, pool=pool, iam=iam, api_key=api_key))
    client = account.client("apigateway")
    authorizers = {a["name"]: a for a in client.get_authorizers(restApiId=api["id"])["items"]}
    assert authorizers["gate"]["type"] == "TOKEN"
    assert authorizers["gate"]["authorizerUri"] == URI
    assert authorizers["gate"]["authorizerResultTtlInSeconds"] == 30
    assert authorizers["gate"]["identitySource"] == "method.request.header.Authorization"
    assert authorizers["pool"]["providerARNs"] == ["arn"]
    methods = account.methods(api["id"])
    assert methods["/gate", "GET"]["authorizationType"] == "CUSTOM"
    assert methods["/gate", "GET"]["authorizerId"] == authorizers["gate"]["id"]
    assert methods["/pool", "GET"]["authorizationType"] == "COGNITO_USER_POOLS"
    assert methods["/iam", "GET"]["authorizationType"] == "AWS_IAM"
    assert methods["/api_key", "GET"]["apiKeyRequired"] is True
    assert methods["/api_key", "GET"]["authorizationType"] == "NONE"
    account.overwrite_api(api["id"], secured(gate=gate))
    left = client.get_authorizers(restApiId=api["id"])["items"]
    assert [(a["name"], a["id"]) for a in left] == [("gate", authorizers["gate"]["id"])]


def probe_api_settings(account: Account) -> None:
    policy = {"Version": "2012-10-17", "Statement": []}
    api = account.import_api(
        swagger(
            **{
                "x-amazon-apigateway-policy": policy,
                "x-amazon-apigateway-binary-media-types": ["image/png"],
            }
        )
    )
    assert json.loads(api["policy"]) == policy
    assert api["binaryMediaTypes"] == ["image/png"]
    found = account.overwrite_api(api["id"], swagger())
    assert "policy" not in found
    assert found["binaryMediaTypes"] == []


def probe_compression(account: Account) -> None:
    api = account.import_api(swagger())
    for value, expected in (("100", 100), ("", None)):
        changed = account.client("apigateway").update_rest_api(
            restApiId=api["id"],
            patchOperations=[{"op": "replace", "path": "/minimumCompressionSize", "value": value}],
        )
        assert changed.get("minimumCompressionSize") == expected


def probe_missing_api(account: Account) -> None:
    rest = account.client("apigateway")
    with pytest.raises(rest.exceptions.NotFoundException):
        rest.delete_rest_api(restApiId="gone")
    websocket = account.client("apigatewayv2")
    with pytest.raises(websocket.exceptions.NotFoundException):
        websocket.delete_api(ApiId="gone")


def probe_stage_tracing(account: Account) -> None:
    api = account.import_api(swagger())
    rest = account.client("apigateway")
    rest.create_deployment(restApiId=api["id"], stageName="api", tracingEnabled=True)
    assert rest.get_stage(restApiId=api["id"], stageName="api")["tracingEnabled"] is True


def probe_stage_snapshot(account: Account) -> None:
    api = account.import_api(swagger())
    account.client("apigateway").create_deployment(restApiId=api["id"], stageName="api")
    account.overwrite_api(api["id"], swagger(paths={}))
    shown = account.aws._ask(f"rest-apis/{api['id']}/api")
    assert [route["path"] for route in shown["routes"]] == ["/orders/{name}"]


def probe_websocket_deployments(account: Account) -> None:
    client = account.client("apigatewayv2")
    api = client.create_api(
        Name="live", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
    )
    made = client.create_deployment(ApiId=api["ApiId"])
    assert made["DeploymentStatus"] == "DEPLOYED"
    client.create_stage(ApiId=api["ApiId"], StageName="api", DeploymentId=made["DeploymentId"])
    listed = client.get_deployments(ApiId=api["ApiId"])["Items"]
    assert [item["DeploymentId"] for item in listed] == [made["DeploymentId"]]


def probe_s3_filters(account: Account) -> None:
    client = account.client("s3")
    client.create_bucket(Bucket="uploads")
    rules = [{"Name": "Prefix", "Value": "in/"}, {"Name": "Suffix", "Value": ".csv"}]
    client.put_bucket_notification_configuration(
        Bucket="uploads",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {
                    "LambdaFunctionArn": account.create_function("filters"),
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": rules}},
                }
            ]
        },
    )
    found = client.get_bucket_notification_configuration(Bucket="uploads")
    kept = found["LambdaFunctionConfigurations"][0]["Filter"]["Key"]["FilterRules"]
    assert [rule["Value"] for rule in kept] == ["in/", ".csv"]


def probe_layer_by_arn(account: Account) -> None:
    client = account.client("lambda")
    made = client.publish_layer_version(LayerName="deps", Content={"ZipFile": package("")})
    found = client.get_layer_version_by_arn(Arn=made["LayerVersionArn"])
    assert found["Content"]["CodeSha256"] == made["Content"]["CodeSha256"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_layer_version_by_arn(Arn=made["LayerVersionArn"][:-1] + "9")


def probe_sdk(account: Account) -> None:
    client = account.client("apigateway")
    document = {
        "openapi": "3.0.1",
        "info": {"title": "sdk", "version": "1"},
        "paths": {
            "/a/{b}": {
                "get": {
                    "responses": {},
                    "x-amazon-apigateway-integration": {
                        "type": "HTTP",
                        "httpMethod": "GET",
                        "uri": "http://127.0.0.1/",
                        "responses": {"default": {"statusCode": "200"}},
                    },
                }
            }
        },
    }
    api = client.import_rest_api(body=json.dumps(document).encode())["id"]
    client.create_deployment(restApiId=api, stageName="api")
    said = client.get_sdk(restApiId=api, stageName="api", sdkType="javascript")
    with zipfile.ZipFile(io.BytesIO(said["body"].read())) as archive:
        text = archive.read("apiGateway-js-sdk/apigClient.js").decode()
    assert 'client.aBGet = call("GET", "/a/{b}")' in text
    with pytest.raises(client.exceptions.NotFoundException):
        client.get_sdk(restApiId=api, stageName="none", sdkType="javascript")
    with pytest.raises(client.exceptions.BadRequestException):
        client.get_sdk(restApiId=api, stageName="api", sdkType="cobol")


def probe_domains(account: Account) -> None:
    rest, websocket = account.client("apigateway"), account.client("apigatewayv2")
    made = rest.create_domain_name(
        domainName="api.example.com",
        endpointConfiguration={"types": ["REGIONAL"]},
        regionalCertificateArn=CERTIFICATE,
        tags={"owner": "shop"},
    )
    assert made["securityPolicy"] == "TLS_1_2"
    assert "distributionDomainName" not in made
    with pytest.raises(ClientError, match="already exists"):
        rest.create_domain_name(domainName="api.example.com", regionalCertificateArn=CERTIFICATE)
    changed = rest.update_domain_name(
        domainName="api.example.com",
        patchOperations=[
            {"op": "replace", "path": "/regionalCertificateArn", "value": f"{CERTIFICATE}-2"},
            {"op": "replace", "path": "/securityPolicy", "value": "TLS_1_0"},
        ],
    )
    assert changed["regionalCertificateArn"] == f"{CERTIFICATE}-2"

    seen = websocket.get_domain_name(DomainName="api.example.com")
    settings = seen["DomainNameConfigurations"][0]
    assert settings["HostedZoneId"] == made["regionalHostedZoneId"]
    assert settings["ApiGatewayDomainName"] == made["regionalDomainName"]
    assert settings["SecurityPolicy"] == "TLS_1_0"

    arn = f"arn:aws:apigateway:{REGION}::/domainnames/api.example.com"
    websocket.tag_resource(ResourceArn=arn, Tags={"team": "one"})
    websocket.untag_resource(ResourceArn=arn, TagKeys=["owner"])
    assert websocket.get_tags(ResourceArn=arn)["Tags"] == {"team": "one"}

    api = account.import_api(swagger())
    rest.create_deployment(restApiId=api["id"], stageName="api")
    rest.create_base_path_mapping(
        domainName="api.example.com", basePath="(none)", restApiId=api["id"], stage="api"
    )
    (mapping,) = websocket.get_api_mappings(DomainName="api.example.com")["Items"]
    assert (mapping["ApiId"], mapping["ApiMappingKey"]) == (api["id"], "")
    rest.delete_base_path_mapping(domainName="api.example.com", basePath="(none)")
    websocket.delete_domain_name(DomainName="api.example.com")
    with pytest.raises(rest.exceptions.NotFoundException):
        rest.get_domain_name(domainName="api.example.com")

    live = websocket.create_api(
        Name="live", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
    )
    websocket.create_domain_name(
        DomainName="live.example.com",
        DomainNameConfigurations=[
            {
                "ApiGatewayDomainName": "live.example.com",
                "CertificateArn": CERTIFICATE,
                "EndpointType": "REGIONAL",
                "SecurityPolicy": "TLS_1_2",
            }
        ],
    )
    mapped = websocket.create_api_mapping(
        DomainName="live.example.com", ApiMappingKey="v1", ApiId=live["ApiId"], Stage="api"
    )
    renewed = websocket.update_domain_name(
        DomainName="live.example.com",
        DomainNameConfigurations=[{"CertificateArn": f"{CERTIFICATE}-3"}],
    )
    assert renewed["DomainNameConfigurations"][0]["CertificateArn"] == f"{CERTIFICATE}-3"
    got = websocket.get_api_mapping(
        DomainName="live.example.com", ApiMappingId=mapped["ApiMappingId"]
    )
    assert got["ApiMappingKey"] == "v1"
    websocket.delete_api_mapping(DomainName="live.example.com", ApiMappingId=mapped["ApiMappingId"])
    websocket.delete_domain_name(DomainName="live.example.com")
    assert websocket.get_domain_names()["Items"] == []


def probe_function_settings(account: Account) -> None:
    account.create_function("traced")
    changed = account.client("lambda").update_function_configuration(
        FunctionName="traced", TracingConfig={"Mode": "Active"}
    )
    assert changed["TracingConfig"]["Mode"] == "Active"


def probe_event_mappings(account: Account) -> None:
    client = account.client("lambda")
    arn = account.create_function("queued")
    account.client("sqs").create_queue(QueueName="orders")
    made = client.create_event_source_mapping(
        EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders", FunctionName=arn
    )
    for name in ("queued", arn):
        found = client.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
        assert [mapping["UUID"] for mapping in found] == [made["UUID"]]
    client.delete_event_source_mapping(UUID=made["UUID"])
    for call in (client.delete_event_source_mapping, client.update_event_source_mapping):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            call(UUID=made["UUID"])


def probe_invocations(account: Account) -> None:
    account.create_function("asked")
    answer = account.client("lambda").invoke(FunctionName="asked", Payload=b'{"a": 1}')
    assert json.loads(answer["Payload"].read()) == {"a": 1}


PROBES: dict[str, Callable[[Account], None]] = {
    name.removeprefix("probe_").replace("_", "-"): probe
    for name, probe in list(globals().items())
    if name.startswith("probe_")
}


@pytest.fixture(scope="module")
def filled() -> Iterator[Account]:
    with EmbeddedAWS.start() as aws:
        yield Account(aws)


def test_every_gap_has_a_probe_and_says_what_it_is_about() -> None:
    assert set(PROBES) == {gap.name for gap in GAPS}
    assert all(gap.lacks and gap.hits and gap.patches for gap in GAPS)


def test_the_documentation_lists_every_gap() -> None:
    text = (Path(__file__).parent.parent / "docs" / "local.md").read_text(encoding="utf-8")
    rows = [f"| `{gap.name}` | {gap.lacks} | {gap.hits} |" for gap in GAPS]
    table = ["| gap | moto itself | hits |", "|---|---|---|", *rows, ""]
    assert "\n".join(table) in text


@pytest.mark.parametrize("name", PROBES)
def test_the_embedded_aws_fills_the_gap(filled: Account, name: str) -> None:
    PROBES[name](filled)


@pytest.mark.parametrize("name", PROBES)
def test_moto_itself_still_lacks_it(name: str) -> None:
    """Passes by failing: when it doesn't any more, moto closed the gap and ours can go."""
    with EmbeddedAWS.start(without_gaps=[name], gateway=name == "invocations") as aws:
        lacking = (AssertionError, ClientError, BotoCoreError, KeyError, ValueError)
        with pytest.raises((*lacking, pytest.fail.Exception)):
            PROBES[name](Account(aws))


def test_an_unknown_gap_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"unknown gaps \['sawgger'\]"):
        fill(without=["sawgger"])


def test_the_package_of_a_function_and_of_a_layer_can_be_read(filled: Account) -> None:
    content = package("x = 1\n")
    filled.create_function("packed", Code={"ZipFile": content})
    layer = filled.client("lambda").publish_layer_version(
        LayerName="packed", Content={"ZipFile": content}
    )
    assert filled.aws.package("packed") == content
    assert filled.aws.package(layer["LayerVersionArn"]) == content
    assert base64.b64encode(content)


# What plain Chalice does with the real command line; the parity suite does it for every shape.
SHAPES = (
    "everything",
    "functions",
    "authorizers",
    "s3_event",
    "sqs_concurrency",
    "automatic_layer",
    "custom_domain",
    "custom_domain_edge",
    "private_api",
    "resource_policy",
)


def test_plain_chalice_deploys_updates_and_deletes_every_kind_of_resource(
    tmp_path: Path, filled: Account
) -> None:
    shapes = [BY_NAME[name] for name in SHAPES]
    for shape in shapes:
        copy_shape(shape, tmp_path / shape.name)
    prepare(shapes, tmp_path, filled.client)
    environ = {"PATH": os.defpath, "HOME": str(tmp_path), **filled.aws.environ}
    filled.aws.forget_calls()
    with PlainChalice(Path(sys.executable), environ=environ) as chalice:
        for shape in shapes:
            project = tmp_path / shape.name
            for verb in ("deploy", "change", "deploy", "delete"):
                if verb == "change":
                    apply_change(shape, project)
                    continue
                said = chalice.run(project, [verb, "--stage", "dev"])
                assert said.code == 0, f"{shape.name} {verb}: {said.text}"
    functions = filled.client("lambda").list_functions()["Functions"]
    assert [f["FunctionName"] for f in functions if f["FunctionName"].startswith("shape")] == []
    calls = filled.aws.calls()
    unserved = [call for call in calls if call["status"] >= 500 or not call["operation"]]
    assert unserved == []
