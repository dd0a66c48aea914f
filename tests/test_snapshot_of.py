"""What a snapshot says of real apps, loaded by their real Chalice."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from chalice_ci.graph import Graph, Loaded, read_answer
from chalice_ci.package.manifest import Dependency, FileEntry, Manifest
from chalice_ci.snapshot import Cors, Snapshot, Statement
from chalice_ci.snapshot_document import parse, render
from chalice_ci.snapshot_of import make_snapshot
from support.apppythons import LATEST, app_python
from support.commandline import APPS
from support.loads import LOADED, lambda_function
from test_graph import run_loader

MANIFEST = Manifest(
    python="3.12",
    architecture="arm64",
    chalice=LATEST,
    dependencies=(
        Dependency(
            name="six", version="1.17.0", direct=True, size=9, packed=4, wheel="w", sha256="a" * 64
        ),
    ),
    files=(
        FileEntry(slot="app", path="app.py", size=3, sha256="b" * 64, dependency=""),
        FileEntry(slot="app", path="six.py", size=9, sha256="c" * 64, dependency="six"),
    ),
    digests=(("app", "d" * 64),),
)


@cache
def answer(name: str) -> bytes:
    return json.dumps(run_loader(APPS / name, app_python().executable)).encode()


def loaded(name: str) -> Loaded:
    found = read_answer(answer(name), app_path=".", chalice_version=LATEST)
    assert isinstance(found, Loaded), found
    return found


def snapshot(name: str, *, key: str = "") -> Snapshot:
    made = make_snapshot(loaded(name), MANIFEST, sizes={"app": 100}, app="shop", key=key)
    assert parse(render(made)) == made
    return made


def by_key(items: Any) -> dict[str, Any]:
    return {" ".join(item.key): item for item in items}


def test_routes_say_who_checks_the_caller_and_what_a_browser_may_do() -> None:
    made = snapshot("authorizers")
    routes = by_key(made.routes)
    assert {path: route.auth for path, route in routes.items()} == {
        "/cached get": "cached",
        "/foreign get": "foreign",
        "/iam get": "sigv4",
        "/open get": "",
        "/own get": "own",
        "/pool get": "users",
        "/pool/write post": "users",
    }
    assert routes["/pool/write post"].scopes == ("orders/write",)
    assert routes["/own get"].cors.origin == "*"
    assert routes["/own get"].function == "by_own"
    assert routes["/iam get"].cors is None
    found = {a.name: (a.kind, a.source, a.providers, a.ttl) for a in made.authorizers}
    gatekeeper = "arn:aws:lambda:us-east-1:123456789012:function:gatekeeper"
    pool = "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_aBcDeFgHi"
    assert found == {
        "cached": ("lambda", "X-Session", ("cached",), 120),
        "foreign": ("lambda", "X-Token", (gatekeeper,), 30),
        "own": ("lambda", "Authorization", ("own",), None),
        "sigv4": ("iam", "Authorization", (), None),
        "users": ("cognito", "Authorization", (pool,), None),
    }


def test_cors_content_types_and_binary_types_are_those_of_the_deployed_document() -> None:
    made = snapshot("rest")
    routes = by_key(made.routes)
    assert routes["/items/{item_id} put"].cors == Cors(
        origin="https://shop.example.com",
        headers="Authorization,Content-Type,X-Amz-Date,X-Amz-Security-Token,X-Api-Key,X-Trace",
        expose="X-Total",
        max_age="600",
        credentials=True,
    )
    assert routes["/form post"].content_types == ("application/x-www-form-urlencoded",)
    # Nobody wrote a route for preflight requests.
    assert not [key for key in routes if key.endswith(" options")]
    (api,) = made.apis
    assert "application/x-protobuf" in api.binary_types


def test_every_trigger_has_its_source_and_its_function() -> None:
    made = snapshot("everything")
    assert {(t.kind, t.function) for t in made.triggers} >= {
        ("sqs", "queued"),
        ("kinesis", "streamed"),
        ("dynamodb", "changed"),
    }
    assert all(trigger.source for trigger in made.triggers)
    queued = next(t for t in made.triggers if t.kind == "sqs")
    assert (queued.source, dict(queued.settings)["batch_size"]) == ("shape-everything", "1")
    assert {api.kind for api in made.apis} == {"rest", "websocket"}
    websocket = next(api for api in made.apis if api.kind == "websocket")
    assert websocket.routes == (
        ("$connect", "websocket_connect"),
        ("$default", "websocket_message"),
        ("$disconnect", "websocket_disconnect"),
    )
    assert made.features == ("WEBSOCKETS",)


def test_a_resource_policy_and_a_role_are_statements_without_sids() -> None:
    made = snapshot("resource_policy")
    (api,) = made.apis
    (statement,) = api.policy
    assert (api.endpoint, len(api.policy_digest)) == ("REGIONAL", 64)
    assert statement.principals == '{"Principal":"*"}'
    assert "192.0.2.0/24" in statement.conditions
    (role,) = made.roles
    assert role.policy == "generated"
    assert (
        Statement(
            effect="Allow",
            actions=("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
            resources=("arn:*:logs:*:*:*",),
        )
        in role.statements
    )


def test_domains_are_told_by_their_api() -> None:
    found = {d.kind: (d.domain, d.mount, d.tls) for d in snapshot("custom_domain").domains}
    assert found == {
        "rest": ("api.shape.example.com", "orders", "TLS_1_2"),
        "websocket": ("live.shape.example.com", "(none)", "TLS_1_2"),
    }


def test_functions_name_their_variables_and_tags_and_hold_no_value() -> None:
    value = "arn:aws:dynamodb:us-east-1:123456789012:table"
    made = snapshot("everything")
    names = {v.name for f in made.functions for v in f.variables}
    assert names == {"TABLE_STREAM"}
    assert all(f.tags == ("aws-chalice",) for f in made.functions)
    assert value not in repr(made.functions)
    keyed = snapshot("everything", key="a key")
    digests = [v.digest for f in keyed.functions for v in f.variables]
    assert len(set(digests)) == len(digests), "equal values have different digests"
    assert value not in repr(keyed.functions)


def test_the_package_is_that_of_the_manifest() -> None:
    made = snapshot("rest")
    assert [(d.name, d.version, d.size, d.packed) for d in made.dependencies] == [
        ("six", "1.17.0", 9, 4)
    ]
    assert [(f.path, f.dependency) for f in made.files] == [("app.py", ""), ("six.py", "six")]
    assert (made.size, made.unpacked_size, made.architecture) == (100, 12, "arm64")


@pytest.mark.parametrize(
    "name", sorted(path.name for path in APPS.iterdir() if path.name != "endless_import")
)
def test_every_app_that_loads_has_a_snapshot_that_survives_its_json(name: str) -> None:
    found = read_answer(answer(name), app_path=".", chalice_version=LATEST)
    if isinstance(found, Loaded):
        made = make_snapshot(found, MANIFEST, sizes={"app": 1}, app="shop")
        assert parse(render(made)) == made
        assert {f.name for f in made.functions} == {f.name for f in found.graph.functions}


ODD = ("x", 7, True, None, ("a", 1), {"a": ("b",)}, 1.5)


@pytest.mark.parametrize("value", ODD, ids=str)
def test_a_setting_of_any_type_is_no_error(value: object) -> None:
    """Chalice passes on what config.json holds; AWS refuses it later."""
    function = lambda_function("worker")
    fields = dict.fromkeys(
        (
            *("handler", "runtime", "role", "memory_size", "timeout", "reserved_concurrency"),
            *("xray", "managed_layer", "layers", "subnet_ids", "security_group_ids", "tags"),
            *("environment_variables", "architecture"),
        ),
        value,
    )
    odd = replace(function, fields={**function.fields, "log_group": None, **fields})
    # Twice the same name: Chalice's validation objects, and the snapshot has one of them.
    app = replace(LOADED, graph=Graph({}, (odd, odd)))
    made = make_snapshot(app, MANIFEST, sizes={"app": 1}, app="shop")
    assert parse(render(made)) == made
    assert len(made.functions) == 1
