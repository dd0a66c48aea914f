"""The codec: Chalice's application graph as JSON and back, with the installed Chalice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from chalice.deploy import models, planner
from hypothesis import given
from hypothesis import strategies as st

import chalice_ci

sys.path.insert(0, str(Path(chalice_ci.__file__).parent / "child"))
from chalice_ci_child.codec import CodecError, Slot, decode, encode

sys.path.pop(0)

PROJECT = "/project"


def application() -> models.Application:
    package = models.DeploymentPackage(filename=Slot("app"))
    layer = models.LambdaLayer(
        resource_name="managed-layer",
        layer_name="orders-dev-managed-layer",
        runtime="python3.12",
        deployment_package=models.DeploymentPackage(filename=Slot("layer")),
    )
    policy = models.AutoGenIAMPolicy(
        document={"Version": "2012-10-17", "Statement": [{"$ref": {"r": 1, "l": []}}]},
        traits={models.RoleTraits.VPC_NEEDED},
    )
    role = models.ManagedIAMRole(
        resource_name="default-role", role_name="orders-dev", trust_policy={}, policy=policy
    )
    own_role = models.ManagedIAMRole(
        resource_name="two_role",
        role_name="orders-dev-two",
        trust_policy={},
        policy=models.FileBasedIAMPolicy(
            document={"Statement": []}, filename=f"{PROJECT}/.chalice/policy-dev.json"
        ),
    )

    def function(name: str, with_role: models.IAMRole) -> models.LambdaFunction:
        return models.LambdaFunction(
            resource_name=name,
            function_name=f"orders-dev-{name}",
            deployment_package=package,
            environment_variables={"B": "2", "A": "1"},
            xray=False,
            runtime="python3.12",
            handler=f"app.{name}",
            tags={},
            timeout=60,
            memory_size=128,
            role=with_role,
            security_group_ids=[],
            subnet_ids=[],
            reserved_concurrency=None,
            layers=[],
            managed_layer=layer,
        )

    one, two = function("one", role), function("two", own_role)
    rest = models.RestAPI(
        resource_name="rest_api",
        swagger_doc={
            "paths": {"/": {"$ref": planner.StringFormat("{a}", ["a"])}},
            "uri": planner.Variable("x"),
            "key": planner.KeyDataVariable("x", "y"),
        },
        minimum_compression="",
        api_gateway_stage="api",
        endpoint_type="EDGE",
        lambda_function=one,
        authorizers=[two],
        domain_name=models.DomainName(
            resource_name="api_gateway_custom_domain",
            domain_name="example.org",
            protocol=models.APIType.HTTP,
            api_mapping=models.APIMapping("api_mapping", "(none)", "api"),
            certificate_arn="arn",
            tls_version=models.TLSVersion.TLS_1_2,
        ),
    )
    sqs = models.SQSEventSource(
        resource_name="two-sqs-event-source",
        lambda_function=two,
        queue=models.QueueARN(arn="arn:aws:sqs:us-east-1:1:q"),
        batch_size=1,
        maximum_batching_window_in_seconds=0,
    )
    return models.Application("dev", [one, sqs, rest])


PACKAGES = {"app": "/plan/app.zip", "layer": "/plan/layer.zip"}


def there_and_back(app: models.Application) -> models.Application:
    document = json.loads(json.dumps(encode(app, PROJECT)))
    made = decode(document, PACKAGES, PROJECT)
    assert isinstance(made, models.Application)
    return made


def test_a_graph_survives_json_with_the_slots_filled() -> None:
    original = application()
    made = there_and_back(original)
    for package in (made.resources[0].deployment_package,):
        assert package.filename == "/plan/app.zip"
        package.filename = "app"
    made.resources[0].managed_layer.deployment_package.filename = "layer"
    assert made == original


def test_what_was_one_object_is_one_object_again() -> None:
    made = there_and_back(application())
    one, sqs, rest = made.resources
    assert rest.lambda_function is one
    assert rest.authorizers[0] is sqs.lambda_function
    assert one.deployment_package is sqs.lambda_function.deployment_package
    assert one.managed_layer is sqs.lambda_function.managed_layer


def test_the_document_does_not_depend_on_the_order_of_a_set_and_keeps_that_of_a_dict() -> None:
    first, second = encode(application(), PROJECT), encode(application(), PROJECT)
    assert json.dumps(first) == json.dumps(second)
    (function,) = [
        node for node in first["nodes"] if node["fields"].get("function_name") == "orders-dev-one"
    ]
    assert function["fields"]["environment_variables"] == {"d": [["B", "2"], ["A", "1"]]}


def test_a_policy_file_is_a_path_inside_the_project() -> None:
    text = json.dumps(encode(application(), PROJECT))
    assert '{"f": ".chalice/policy-dev.json"}' in text
    assert PROJECT not in text


def test_a_policy_file_outside_the_project_is_refused() -> None:
    policy = models.FileBasedIAMPolicy(document={}, filename=f"{PROJECT}/.chalice/../../x.json")
    role = models.ManagedIAMRole("r_role", "r", {}, policy)
    function = application().resources[0]
    function.role = role
    with pytest.raises(CodecError, match="outside the project"):
        encode(models.Application("dev", [function]), PROJECT)


def test_a_placeholder_that_survived_the_build_is_refused() -> None:
    policy = models.AutoGenIAMPolicy(document=models.Placeholder.BUILD_STAGE)
    with pytest.raises(CodecError, match="Placeholder"):
        encode(models.Application("dev", [policy]), PROJECT)


def test_a_path_where_a_slot_belongs_is_refused() -> None:
    package = models.DeploymentPackage(filename="/tmp/app.zip")
    with pytest.raises(CodecError, match="not a package slot"):
        encode(models.Application("dev", [package]), PROJECT)


@pytest.mark.parametrize("value", [object(), b"bytes", float("nan"), {1: "number as key"}, print])
def test_what_is_not_data_is_refused_with_its_place(value: object) -> None:
    policy = models.IAMPolicy(document={"here": value})
    with pytest.raises(CodecError, match=r"IAMPolicy\.document"):
        encode(models.Application("dev", [policy]), PROJECT)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_in_a_field_comes_back_as_it_was(value: object) -> None:
    made = there_and_back(models.Application("dev", [models.IAMPolicy(document=value)]))
    assert made.resources[0].document == value


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "not a graph document"),
        ({"root": 0, "nodes": []}, "no node"),
        ({"root": 0, "nodes": [{"type": "Application", "fields": {}}]}, "not a Application"),
        ({"root": 0, "nodes": [{"type": "APICall", "fields": {}}]}, "not a model"),
        ({"root": 0, "nodes": [{"type": "cast", "fields": {}}]}, "not a model"),
        ({"root": 0, "nodes": [{"type": "IAMPolicy", "fields": {"document": 1}}]}, "the root"),
        (
            {"root": 0, "nodes": [{"type": "IAMPolicy", "fields": {"document": {"r": 0}}}]},
            "depends on itself",
        ),
        ({"root": 0, "nodes": [{"type": "IAMPolicy", "fields": {"document": {"x": 0}}}]}, "tag"),
        (
            {"root": 0, "nodes": [{"type": "IAMPolicy", "fields": {"document": {"e": ["T", 1]}}}]},
            "not an enum",
        ),
        ({"root": 0, "nodes": [{"type": "IAMPolicy"}]}, "malformed"),
        (
            {
                "root": 0,
                "nodes": [{"type": "DeploymentPackage", "fields": {"filename": {"p": "x"}}}],
            },
            "no package",
        ),
    ],
)
def test_a_document_that_fits_no_model_is_refused(document: dict[str, object], said: str) -> None:
    with pytest.raises(CodecError, match=said):
        decode(document, PACKAGES)
