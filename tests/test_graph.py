"""What zone 1 believes of a loader's answer: what Chalice can produce, and nothing else."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chalice_ci
from chalice_ci import graph
from chalice_ci.findings import Place
from chalice_ci.graph import Expected, Graph, Loaded, LoadFailure, read_answer
from chalice_ci.template import TemplateRequest
from support.apppythons import LATEST, PAIRS, RUNNING, app_python
from support.hostile import obeyed

CHILD = Path(chalice_ci.__file__).parent / "child"
APP = """
    from chalice import Chalice, CognitoUserPoolAuthorizer

    app = Chalice(app_name="orders")
    cognito = CognitoUserPoolAuthorizer("pool", provider_arns=["arn:aws:cognito-idp:x"])

    @app.authorizer()
    def auth(request):
        pass

    @app.route("/", methods=["GET", "POST"], cors=True, authorizer=auth)
    def index():
        '''Says hello.'''

    @app.route("/c", authorizer=cognito, api_key_required=True)
    def secured():
        pass

    @app.lambda_function()
    def plain(event, context):
        pass

    @app.on_sqs_message(queue_arn="arn:aws:sqs:us-east-1:123456789012:jobs")
    def worker(event):
        pass

    @app.schedule("rate(1 hour)")
    def tick(event):
        pass

    @app.on_ws_message()
    def message(event):
        pass
"""
CONFIG = {
    "version": "2.0",
    "app_name": "orders",
    "automatic_layer": True,
    "log_retention_in_days": 7,
    "api_gateway_custom_domain": {"domain_name": "api.example.org", "certificate_arn": "arn"},
    "stages": {
        "dev": {
            "lambda_functions": {
                "plain": {"autogen_policy": False, "iam_policy_file": "plain.json"}
            },
            "subnet_ids": ["s"],
            "security_group_ids": ["g"],
        }
    },
}
EXPECTED = Expected(stage="dev", app_name="orders", python_version=RUNNING)


def run_loader(project: Path, python: Path, **request: Any) -> dict[str, Any]:
    """The loader's answer, without a sandbox around it."""
    reading, writing = os.pipe()
    start = (
        "import sys; sys.path.insert(0, sys.argv[1]); from chalice_ci_child import load;"
        "sys.path.remove(sys.argv[1]); load.main()"
    )
    asked = {
        "project": str(project),
        "stage": "dev",
        "region": "us-east-1",
        "seconds": 60,
        "answer": {"fd": writing, "nonce": "n"},
        **request,
    }
    with os.fdopen(reading, "rb") as answer:
        process = subprocess.Popen(
            [python, "-I", "-B", "-c", start, CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writing],
            env={"AWS_EC2_METADATA_DISABLED": "true"},
        )
        os.close(writing)
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(asked).encode())
        nonce, _, document = answer.read().partition(b"\n")
        assert process.wait() == 0
    assert nonce == b"n"
    read: dict[str, Any] = json.loads(document)
    return read


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    project = tmp_path_factory.mktemp("project")
    (project / "app.py").write_text(textwrap.dedent(APP))
    (project / ".chalice").mkdir()
    (project / ".chalice/config.json").write_text(json.dumps(CONFIG))
    (project / ".chalice/plain.json").write_text('{"Version": "2012-10-17", "Statement": []}')
    return run_loader(project, app_python().executable, template=TemplateRequest().wire)


def read(document: Any, path: str = ".") -> Loaded | LoadFailure:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_answer(raw, app_path=path, chalice_version=LATEST, expected=EXPECTED)


def loaded(document: Any, path: str = ".") -> Loaded:
    found = read(document, path)
    assert isinstance(found, Loaded), found
    return found


def is_forged(document: Any) -> bool:
    found = read(document)
    return isinstance(found, LoadFailure) and found.kind == "forged"


def nodes(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [node["fields"] for node in document["graph"]["nodes"] if node["type"] == kind]


def test_a_true_answer_is_read_whole(answer: dict[str, Any]) -> None:
    app = loaded(answer, "services/orders")
    assert app.app_name == app.config_app_name == "orders"
    assert {(route.method, route.path, route.cors) for route in app.routes} == {
        ("GET", "/", True),
        ("POST", "/", True),
        ("GET", "/c", False),
    }
    assert app.routes[0].at == Place(file="services/orders/app.py", line=11)
    assert {(route.path, route.authorizer, route.authorizer_function) for route in app.routes} == {
        ("/", "auth", "auth"),
        ("/c", "pool", None),
    }
    assert {(function.name, function.type) for function in app.functions} == {
        ("api_handler", "rest"),
        ("auth", "authorizer"),
        ("plain", "lambda"),
        ("worker", "sqs"),
        ("tick", "schedule"),
        ("websocket_message", "websocket-message"),
    }
    assert [(use.name, str(use.at)) for use in app.features] == [
        ("WEBSOCKETS", "services/orders/app.py:31")
    ]
    assert app.template is not None
    assert "APIHandler" in app.template["Resources"]


def test_references_lead_to_the_same_resource(answer: dict[str, Any]) -> None:
    found = loaded(answer).graph
    (rest,) = found.of_type("RestAPI")
    (handler,) = [function for function in found.functions if function.name == "api_handler"]
    assert rest.fields["lambda_function"] is handler
    assert handler.fields["function_name"] == "orders-dev"
    assert handler.fields["deployment_package"].fields["filename"] == "app"  # type: ignore[attr-defined]
    (policy,) = found.of_type("FileBasedIAMPolicy")
    assert policy.fields["filename"] == ".chalice/plain.json"
    assert len(found.of_type("LogGroup")) == len(found.functions) == 6


def test_the_digest_is_that_of_the_document_whatever_the_order_of_its_keys(
    answer: dict[str, Any],
) -> None:
    first = loaded(answer).graph
    turned = json.loads(json.dumps(answer["graph"], sort_keys=True))
    assert Graph(turned, ()).digest == first.digest
    turned["nodes"][1]["fields"]["resource_name"] = "other"
    assert Graph(turned, ()).digest != first.digest


@pytest.mark.parametrize(("version", "python"), PAIRS)
def test_the_schema_is_that_of_the_models(version: str, python: str) -> None:
    """Every field of every model, in each supported Chalice, against the models themselves."""
    program = """
import dataclasses, json
from chalice.deploy import models, planner
found = {}
for name, kind in vars(models).items():
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not issubclass(kind, (models.Instruction, models.Plan)):
            found[name] = [field.name for field in dataclasses.fields(kind)]
found["Variable"] = list(vars(planner.Variable("a")))
found["StringFormat"] = list(vars(planner.StringFormat("a", [])))
found["KeyDataVariable"] = list(vars(planner.KeyDataVariable("a", "b")))
enums = {n: [m.name for m in getattr(models, n)] for n in ("APIType", "RoleTraits", "TLSVersion")}
print(json.dumps([found, enums]))
"""
    environment = app_python(version, python)
    done = subprocess.run(
        [environment.executable, "-I", "-c", program], capture_output=True, check=True
    )
    models, enums = json.loads(done.stdout)
    # Bases that Chalice never puts into a graph itself.
    bases = {"Model", "ManagedModel", "IAMRole", "FunctionEventSubscriber", "CloudWatchEventBase"}
    declared = graph.schema(version)
    assert {name: set(fields) for name, fields in models.items() if name not in bases} == {
        name: set(fields) for name, fields in declared.items()
    }
    assert {name: set(members) for name, members in enums.items()} == {
        name: set(members) for name, members in graph._ENUMS.items()
    }


def set_in(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        at: Any = document
        *way, last = path.split("/")
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value

    return change


def in_node(kind: str, field: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        nodes(document, kind)[0][field] = value

    return change


def trusting(principal: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        role = nodes(document, "ManagedIAMRole")[0]
        text = json.dumps(role["trust_policy"]).replace("lambda.amazonaws.com", principal)
        role["trust_policy"] = json.loads(text)

    return change


def extra_node(document: dict[str, Any]) -> None:
    document["graph"]["nodes"].append({"type": "PreCreatedIAMRole", "fields": {"role_arn": "arn"}})


def circle(document: dict[str, Any]) -> None:
    found = document["graph"]["nodes"]
    numbers = {node["type"]: number for number, node in enumerate(found)}
    nodes(document, "RestAPI")[0]["domain_name"] = {"r": numbers["RestAPI"]}


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a key too many": set_in("more", 1),
    "another format": set_in("format", 2),
    "a truth value as format": set_in("format", True),
    "another stage": set_in("stage", "prod"),
    "another Chalice": set_in("chalice", "1.33.0"),
    "another Python": set_in("python", "3.9"),
    "another app": set_in("config_app_name", "billing"),
    "a place above the app": set_in("routes/0/file", "../secrets.py"),
    "an absolute place": set_in("routes/0/file", "/etc/passwd"),
    "a place with a line break": set_in("routes/0/file", "app.py\n::error::x"),
    "a negative line": set_in("routes/0/line", -4),
    "a route without path": set_in("routes/0/path", None),
    "routes that are text": set_in("routes", "many"),
    "a number as truth value": set_in("routes/0/cors", 1),
    "a feature found by magic": set_in("features/0/via", "magic"),
    "a failure beside a graph": set_in("failure", {}),
    "a template with code from elsewhere": set_in(
        "template/Resources/APIHandler/Properties/CodeUri", "s3://elsewhere/evil.zip"
    ),
    "a template that is a list": set_in("template", []),
    "another root": set_in("graph/root", 1),
    "a truth value as root": set_in("graph/root", False),
    "a node that nothing leads to": extra_node,
    "a circle": circle,
    "another type": set_in("graph/nodes/1/type", "APICall"),
    "a path as package": in_node("DeploymentPackage", "filename", "/etc/shadow"),
    "an unknown slot": in_node("DeploymentPackage", "filename", {"p": "evil"}),
    "a policy file above the app": in_node("FileBasedIAMPolicy", "filename", {"f": "../x.json"}),
    "a slot where a name belongs": in_node("LambdaFunction", "function_name", {"p": "app"}),
    "another app's function": in_node("LambdaFunction", "function_name", "billing-prod-pay"),
    "another app's role": in_node("ManagedIAMRole", "role_name", "OrgAdmin"),
    "another app's rule": in_node("ScheduledEvent", "rule_name", "billing-prod-tick-event"),
    "another app's layer": in_node("LambdaLayer", "layer_name", "billing-prod-managed-layer"),
    "another app's log group": in_node("LogGroup", "log_group_name", "/aws/lambda/billing"),
    "another runtime": in_node("LambdaFunction", "runtime", "python2.7"),
    "a role for another account": trusting("123456789012"),
    "a role for everybody": trusting("*"),
    "a planner's variable in a policy": in_node("AutoGenIAMPolicy", "document", {"r": 1}),
    "an untagged value": in_node("LambdaFunction", "tags", {"a": 1}),
    "two tags": in_node("LambdaFunction", "tags", {"l": [], "d": []}),
    "a key twice": in_node("LambdaFunction", "tags", {"d": [["a", 1], ["a", 2]]}),
    "a field too few": lambda document: nodes(document, "RestAPI")[0].pop("xray"),
    "a field too many": in_node("RestAPI", "resource_type", "x"),
    "a name over two lines": in_node("LambdaFunction", "resource_name", "a\nb"),
    "a role where a function belongs": lambda document: nodes(document, "RestAPI")[0].update(
        authorizers={"l": [nodes(document, "LambdaFunction")[0]["role"]]}
    ),
    "a reference to nowhere": in_node("RestAPI", "lambda_function", {"r": 10_000}),
    "a negative reference": in_node("RestAPI", "lambda_function", {"r": -1}),
    "an unknown trait": in_node("AutoGenIAMPolicy", "traits", {"s": [{"e": ["RoleTraits", "X"]}]}),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_what_chalice_cannot_produce_is_forged(
    answer: dict[str, Any], change: Callable[[dict[str, Any]], None]
) -> None:
    document = copy.deepcopy(answer)
    change(document)
    assert json.dumps(document) != json.dumps(answer)
    assert is_forged(document)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"format": 1, "format": 1}',
        b'{"format": 1, "x": NaN}',
        b'{"format": 1, "x": 1e999}',
        b'{"format": 1, "x": ' + b"9" * 5000 + b"}",
        b'{"format": 1, "x": "\\ud800"}',
        b'{"format": 1, "x": "\xff"}',
        b"[" * 200_000,
        b'{"format":1,"x":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"format":1,"x":[' + b"1," * 600_000 + b"1]}",
        b'{"format":1,"x":"' + b"a" * 300_000 + b'"}',
        b" " * (16 * 1024 * 1024 + 1),
        b'{"format":1,"failure":{}}',
        b'{"format":1,"failure":null}',
    ],
    ids=lambda raw: raw[:24].decode("latin-1"),
)
def test_what_is_no_answer_is_forged(raw: bytes) -> None:
    assert is_forged(raw)


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[int], Any]:
    junk = st.sampled_from(
        [None, True, 0, -1, 2**70, 1.5, "", "x", "::error::", [], {}, {"r": 0}, {"l": [{"r": 1}]}]
    )
    return draw(st.lists(st.integers(0, 40), min_size=1, max_size=9)), draw(junk)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes(), min_size=1, max_size=3))
def test_no_change_of_an_answer_raises(
    answer_once: dict[str, Any], several: list[tuple[list[int], Any]]
) -> None:
    document = copy.deepcopy(answer_once)
    for way, junk in several:
        at: Any = document
        for step in way:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = keys[step % len(keys)]
            if not isinstance(at[key], (dict, list)) or step == way[-1]:
                at[key] = junk
                break
            at = at[key]
    found = read(document)
    assert isinstance(found, Loaded) or found.kind in ("forged", "chalice")
    if isinstance(found, Loaded):
        names = {str(function.fields["function_name"]) for function in found.graph.functions}
        assert all(name == "orders-dev" or name.startswith("orders-dev-") for name in names)


@pytest.fixture(scope="module")
def answer_once(answer: dict[str, Any]) -> dict[str, Any]:
    return answer


def test_a_failure_names_the_line_in_the_repository() -> None:
    found = read(
        {
            "format": 1,
            "failure": {
                "kind": "import-error",
                "type": "ModuleNotFoundError",
                "message": "No module named 'x' ::error::\x1b[31m",
                "subject": "x",
                "declared": False,
                "file": "chalicelib/db.py",
                "line": 3,
                "frames": [{"file": "app.py", "line": 2, "function": "<module>"}],
            },
        },
        "services/orders",
    )
    assert isinstance(found, LoadFailure)
    assert str(found.at) == "services/orders/chalicelib/db.py:3"
    assert [str(frame.at) for frame in found.frames] == ["services/orders/app.py:2"]
    assert not obeyed(found.message)
    assert "\x1b" not in found.message
    assert "requirements.txt" in found.message


def test_two_functions_of_one_name_are_a_broken_app_not_a_forgery(answer: dict[str, Any]) -> None:
    document = copy.deepcopy(answer)
    plain, tick = (
        next(node for node in nodes(document, "LambdaFunction") if node["resource_name"] == name)
        for name in ("plain", "tick")
    )
    tick.update(resource_name="plain", function_name=plain["function_name"])
    found = read(document)
    assert isinstance(found, LoadFailure)
    assert found.kind == "chalice"
    assert "`plain`" in found.message
