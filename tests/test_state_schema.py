"""Chalice's state files, sound and damaged: every refusal is an error that a person can act on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from chalice.config import Config
from chalice.utils import serialize_to_json
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.errors import NotOurs, UserError
from chalice_ci.state.schema import (
    IDENTITY,
    MAX_BYTES,
    MAX_RESOURCES,
    StageState,
    StateDamaged,
    checked,
    displaced,
    is_v1,
    merge,
    parse_v1,
    parse_v2,
    render,
    stages_of_v1,
)
from chalice_ci.state.urls import StageUrl, urls

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:"


def resource(resource_type: str, name: str, **more: object) -> dict[str, object]:
    """A resource of that type with all its identifying keys."""
    keys = {key: f"{key}-of-{name}" for key in IDENTITY[resource_type]}
    return {"resource_type": resource_type, "name": name, **keys, **more}


def state(*resources: dict[str, object]) -> StageState:
    return StageState(resources=resources)


FULL = state(*(resource(kind, f"a-{kind}") for kind in IDENTITY))


def v2(**more: object) -> dict[str, object]:
    return {"resources": [], "schema_version": "2.0", "backend": "api", **more}


def v1(**more: object) -> dict[str, object]:
    """A stage of a deployed.json as Chalice 1.1.1 wrote it."""
    return {
        "api_handler_name": "orders-dev",
        "api_handler_arn": f"{ARN}orders-dev",
        "rest_api_id": "abc123",
        "api_gateway_stage": "api",
        "backend": "api",
        "region": "eu-west-1",
        "chalice_version": "1.1.1",
        **more,
    }


class TestTheText:
    def test_it_is_the_text_that_chalice_itself_writes(self) -> None:
        document = {
            "resources": [dict(r) for r in FULL.resources],
            "schema_version": "2.0",
            "backend": "api",
        }
        assert render(FULL).decode() == serialize_to_json(document)

    def test_a_file_of_chalice_is_read_and_written_again_to_the_byte(self) -> None:
        document = v2(
            resources=[
                resource("rest_api", "rest_api", rest_api_url="https://a.example/api/"),
                resource(
                    "domain_name",
                    "api_gateway_custom_domain",
                    hosted_zone_id=None,
                    api_mapping=[{"key": "/"}, {"key": "/v1"}],
                ),
            ]
        )
        raw = serialize_to_json(document).encode()
        assert render(parse_v2(raw)) == raw

    def test_a_deleted_stage_has_a_file_without_resources(self) -> None:
        assert parse_v2(serialize_to_json(v2()).encode()) == StageState()

    def test_chalice_reads_what_is_written_here(self, tmp_path: Path) -> None:
        deployed = tmp_path / ".chalice" / "deployed"
        deployed.mkdir(parents=True)
        (deployed / "dev.json").write_bytes(render(FULL))
        read = Config("dev", config_from_disk={"app_name": "a"}).create(
            chalice_stage="dev", project_dir=str(tmp_path), app_name="a"
        )
        assert read.deployed_resources("dev").resource_names() == [
            r["name"] for r in FULL.resources
        ]


DAMAGED: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "empty"),
    "white space": (b" \n", "empty"),
    "a file of NULs": (b"\0" * 4096, "NUL"),
    "a NUL at the end": (render(FULL) + b"\0\0", "NUL"),
    "a byte order mark": (b"\xef\xbb\xbf" + render(FULL), "byte order mark"),
    "UTF-16": (render(FULL).decode().encode("utf-16"), "byte order mark"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "cut off in the middle": (render(FULL)[:400], "cut off"),
    "cut off in a string": (b'{"resources": [{"na', "cut off"),
    "cut off before the end": (render(FULL).rstrip()[:-1], "cut off"),
    "merge markers": (
        b"<<<<<<< HEAD\n" + render(FULL) + b"=======\n" + render(FULL) + b">>>>>>> other\n",
        "merge conflict",
    ),
    "merge markers inside": (render(FULL).replace(b"{\n", b"{\n=======\n", 1), "merge conflict"),
    "a comment": (b"// state\n" + render(FULL), "not JSON"),
    "two documents": (render(FULL) * 2, "not JSON"),
    "a list": (b"[]", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "a number": (b"17", "number"),
    "nested without end": (b"[" * 200_000, "nested"),
    "nested objects without end": (b'{"a":' * 200_000, "nested"),
    "huge": (b'{"a": "' + b"x" * MAX_BYTES + b'"}', "bound"),
    "a key twice": (b'{"resources": [], "resources": [], "schema_version": "2.0"}', "twice"),
    "another schema version": (json.dumps(v2(schema_version="3.0")).encode(), '"3.0"'),
    "schema version as a list": (json.dumps(v2(schema_version=["2.0"])).encode(), "schema version"),
    "a number for the schema version": (json.dumps(v2(schema_version=2.0)).encode(), "number"),
    "another backend": (json.dumps(v2(backend="terraform")).encode(), "terraform"),
    "an unknown key": (json.dumps(v2(extra=[])).encode(), "extra"),
    "no resources": (b'{"schema_version": "2.0"}', "no `resources`"),
    "no schema version": (b'{"resources": []}', "no `resources` and `schema_version`"),
    "resources as an object": (json.dumps(v2(resources={})).encode(), "not a list"),
    "resources as text": (json.dumps(v2(resources="x")).encode(), "not a list"),
    "too many resources": (
        json.dumps(v2(resources=[None] * (MAX_RESOURCES + 1))).encode(),
        "bound",
    ),
    "a resource that is text": (json.dumps(v2(resources=["x"])).encode(), "not an object"),
    "a resource without a name": (
        json.dumps(v2(resources=[{"resource_type": "rest_api"}])).encode(),
        "no `name`",
    ),
    "a name that is a list": (
        json.dumps(v2(resources=[{"name": ["x"], "resource_type": "rest_api"}])).encode(),
        "no `name`",
    ),
    "an unknown type": (
        json.dumps(v2(resources=[{"name": "x", "resource_type": "ec2_instance"}])).encode(),
        "ec2_instance",
    ),
    "a function without its ARN": (
        json.dumps(v2(resources=[{"name": "x", "resource_type": "lambda_function"}])).encode(),
        "no `lambda_arn`",
    ),
    "an ARN that is an object": (
        json.dumps(v2(resources=[resource("lambda_function", "x", lambda_arn={})])).encode(),
        "no `lambda_arn`",
    ),
    "the same resource twice": (
        json.dumps(v2(resources=[resource("rest_api", "x")] * 2)).encode(),
        "recorded twice",
    ),
    "infinity": (b'{"resources": [], "schema_version": Infinity}', "number"),
    "a number of a million digits": (b'{"a": ' + b"9" * 1_000_000 + b"}", "number"),
    "a NUL in a name": (
        json.dumps(v2(resources=[resource("rest_api", "a\0b")])).encode(),
        "U+0000",
    ),
    "a line break in an ARN": (
        json.dumps(v2(resources=[resource("rest_api", "a", rest_api_id="x\n::error::")])).encode(),
        "U+000A",
    ),
    "half a surrogate pair": (
        json.dumps(v2(resources=[resource("rest_api", "a", note="\ud800")])).encode(),
        "U+D800",
    ),
    "text in the other direction": (
        json.dumps(v2(resources=[resource("rest_api", "a\u202eb")])).encode(),
        "U+202E",
    ),
    "a long text": (
        json.dumps(v2(resources=[resource("rest_api", "a" * 5000)])).encode(),
        "characters",
    ),
    "a deep value": (
        json.dumps(
            v2(resources=[resource("rest_api", "a", x=json.loads("[" * 20 + "]" * 20))])
        ).encode(),
        "nested",
    ),
    "an address with another scheme": (
        json.dumps(
            v2(resources=[resource("rest_api", "a", rest_api_url="javascript:alert(1)")])
        ).encode(),
        "https://",
    ),
    "an address that is a list": (
        json.dumps(v2(resources=[resource("websocket_api", "a", websocket_api_url=[])])).encode(),
        "wss://",
    ),
    "a mapping without a key": (
        json.dumps(v2(resources=[resource("domain_name", "a", api_mapping=[{}])])).encode(),
        "api_mapping",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_with_a_reason_and_a_fix(name: str) -> None:
    raw, telling = DAMAGED[name]
    with pytest.raises(StateDamaged) as caught:
        parse_v2(raw, where="deployed/dev.json")
    assert telling in caught.value.what
    assert caught.value.where.startswith("deployed/dev.json")
    assert caught.value.fix
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_the_line_of_a_merge_marker_is_told() -> None:
    raw = render(FULL).replace(b"{\n", b"{\n<<<<<<< HEAD\n", 1)
    with pytest.raises(StateDamaged) as caught:
        parse_v2(raw, where="dev.json")
    assert caught.value.where == "dev.json:2"


def test_the_place_of_a_syntax_error_is_told() -> None:
    with pytest.raises(StateDamaged) as caught:
        parse_v2(b'{\n  "resources": [],\n  oops\n}', where="dev.json")
    assert caught.value.where == "dev.json:3:3"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "resource_type", "api_mapping", "rest_api_url", "key"])
            | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def only_user_errors(read: Callable[[], object]) -> None:
    """Run it; any other exception than a UserError with a place and a fix fails the test."""
    refused: UserError | None = None
    try:
        read()
    except UserError as error:
        refused = error
    if refused is not None:
        str(refused).encode()
        assert refused.where
        assert refused.fix


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    only_user_errors(lambda: parse_v2(raw))
    only_user_errors(lambda: parse_v1(raw, "dev", app_name="orders"))
    only_user_errors(lambda: is_v1(raw))


@settings(max_examples=400, deadline=None)
@given(JSON, JSON, st.sampled_from(["2.0", "1.0", None]))
def test_any_json_is_read_or_refused(resources: object, entry: object, version: object) -> None:
    document = {"resources": resources, "schema_version": version}
    only_user_errors(lambda: parse_v2(json.dumps(document).encode()))
    only_user_errors(
        lambda: parse_v1(json.dumps({"dev": entry}).encode(), "dev", app_name="orders")
    )
    only_user_errors(lambda: checked(resources))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(render(FULL)) - 1), st.integers(0, 255), st.booleans())
def test_any_flipped_or_cut_byte_gives_a_state_or_a_refusal(at: int, byte: int, cut: bool) -> None:
    raw = render(FULL)
    broken = raw[:at] if cut else raw[:at] + bytes([byte]) + raw[at + 1 :]
    only_user_errors(lambda: render(parse_v2(broken)))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(list(v1())), JSON), JSON)
def test_any_entry_of_the_old_file_is_read_or_refused(more: dict, functions: object) -> None:
    entry = v1(lambda_functions=functions, **more)
    only_user_errors(
        lambda: parse_v1(json.dumps({"dev": entry}).encode(), "dev", app_name="orders")
    )


OLD_FILES: dict[str, dict[str, object]] = {
    "with typed functions": v1(
        lambda_functions={
            "orders-dev-auth": {"type": "authorizer", "arn": f"{ARN}orders-dev-auth"},
            "orders-dev-cron": {"type": "scheduled_event", "arn": f"{ARN}orders-dev-cron"},
        }
    ),
    "of 0.10 with ARNs alone": v1(lambda_functions={"orders-dev-auth": f"{ARN}orders-dev-auth"}),
    "without functions": v1(),
    "with an empty list of functions": v1(lambda_functions={}),
    "of 0.8 without a handler name": {
        key: value for key, value in v1().items() if key != "api_handler_name"
    },
}


@pytest.mark.parametrize("name", OLD_FILES)
def test_an_old_file_is_converted_as_chalice_converts_it(name: str, tmp_path: Path) -> None:
    raw = json.dumps({"dev": OLD_FILES[name], "prod": {}}).encode()
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice" / "deployed.json").write_bytes(raw)
    config = Config.create(chalice_stage="dev", project_dir=str(tmp_path), app_name="orders")
    chalices = config.deployed_resources("dev")
    ours = parse_v1(raw, "dev", app_name="orders")
    assert ours is not None
    assert [r["name"] for r in ours.resources] == chalices.resource_names()
    assert [dict(r) for r in ours.resources] == [
        chalices.resource_values(name) for name in chalices.resource_names()
    ]


def test_an_old_file_without_the_stage_has_nothing_to_convert() -> None:
    raw = json.dumps({"dev": v1()}).encode()
    assert parse_v1(raw, "prod", app_name="orders") is None
    assert stages_of_v1(raw) == ("dev",)
    assert is_v1(raw)
    assert not is_v1(render(FULL))


@pytest.mark.parametrize(
    ("entry", "telling"),
    [
        ({k: v for k, v in v1().items() if k != "api_handler_arn"}, "`api_handler_arn` is missing"),
        ({k: v for k, v in v1().items() if k != "rest_api_id"}, "`rest_api_id` is missing"),
        (v1(rest_api_id=None), "`rest_api_id` is missing"),
        (v1(api_handler_arn="orders-dev"), "not the ARN"),
        (v1(lambda_functions=[]), "not an object"),
        (v1(lambda_functions=None), "not an object"),
        (v1(lambda_functions={"orders-dev-a": {"type": "authorizer"}}), "has no ARN"),
        (
            v1(
                lambda_functions={
                    "orders-dev-a": f"{ARN}orders-dev-a",
                    "orders-dev-b": {"arn": f"{ARN}orders-dev-b"},
                }
            ),
            "mixes",
        ),
        (v1(lambda_functions={"orders-dev-api_handler": f"{ARN}orders-dev-api_handler"}), "twice"),
        ([], "not an object"),
    ],
)
def test_a_damaged_entry_of_an_old_file_is_refused(entry: object, telling: str) -> None:
    with pytest.raises(StateDamaged, match=telling):
        parse_v1(json.dumps({"dev": entry}).encode(), "dev", app_name="orders")


def test_a_file_of_the_new_schema_in_the_old_place_is_explained() -> None:
    with pytest.raises(StateDamaged, match=r"deployed/<stage>\.json"):
        parse_v1(render(FULL), "dev", app_name="orders")


@pytest.mark.parametrize(
    "entry",
    [
        v1(api_handler_name="shop-dev", api_handler_arn=f"{ARN}shop-dev"),
        v1(api_handler_arn=f"{ARN}shop-dev"),
        v1(api_handler_arn=f"{ARN}orders-prod"),
        v1(api_handler_name=17),
        v1(lambda_functions={"shop-dev-auth": f"{ARN}shop-dev-auth"}),
        v1(lambda_functions={"orders-dev-": f"{ARN}orders-dev-"}),
        v1(lambda_functions={"orders-dev-a": f"{ARN}shop-dev-a"}),
    ],
)
def test_the_old_file_of_another_app_is_refused_where_chalice_would_adopt_it(
    entry: dict[str, object],
) -> None:
    raw = json.dumps({"dev": entry}).replace("17", '"shop-dev"').encode()
    with pytest.raises(NotOurs, match="another app"):
        parse_v1(raw, "dev", app_name="orders")


class TestMerging:
    def test_what_the_failed_deploy_did_not_reach_stays(self) -> None:
        old = state(resource("lambda_function", "a"), resource("rest_api", "rest_api"))
        partial = state(resource("lambda_function", "b"))
        merged = merge(old, partial)
        assert {r["name"] for r in merged.resources} == {"a", "b", "rest_api"}

    def test_what_the_deploy_recorded_wins(self) -> None:
        old = state(resource("lambda_layer", "managed-layer", layer_version_arn="v1"))
        partial = state(resource("lambda_layer", "managed-layer", layer_version_arn="v2"))
        assert merge(old, partial) == partial
        assert displaced(old, partial) == old.resources

    def test_keys_not_reached_of_the_same_resource_stay(self) -> None:
        old = state(resource("rest_api", "rest_api", rest_api_url="https://x.example/api/"))
        partial = state(resource("rest_api", "rest_api"))
        assert merge(old, partial) == old
        assert displaced(old, partial) == ()

    def test_an_address_of_another_api_does_not_stay(self) -> None:
        old = state(resource("rest_api", "rest_api", rest_api_url="https://x.example/api/"))
        partial = state(resource("rest_api", "rest_api", rest_api_id="new"))
        assert merge(old, partial) == partial

    def test_an_entry_that_chalice_could_not_delete_is_left_out_or_completed(self) -> None:
        half = {"resource_type": "iam_role", "name": "default-role", "role_arn": "arn"}
        assert merge(StageState(), state(half)) == StageState()
        whole = resource("iam_role", "default-role", role_arn="arn")
        assert merge(state(whole), state(half)) == state(whole)

    def test_a_name_that_changed_its_type_ends_on_the_newer_entry(self) -> None:
        old = state(resource("lambda_function", "a-event"), resource("rest_api", "rest_api"))
        partial = state(resource("cloudwatch_event", "a-event"))
        merged = merge(old, partial)
        by_name = {r["name"]: r["resource_type"] for r in merged.resources}
        assert len(merged.resources) == 3
        assert by_name["a-event"] == "cloudwatch_event"

    RESOURCES = st.lists(
        st.builds(
            resource, st.sampled_from(sorted(IDENTITY)), st.sampled_from(["a", "b", "c", "d-event"])
        ),
        unique_by=lambda r: (r["resource_type"], r["name"]),
    )

    @given(RESOURCES, RESOURCES)
    def test_nothing_is_lost_and_the_result_can_be_read_again(self, old: list, new: list) -> None:
        merged = merge(state(*old), state(*new))
        keys = {(r["resource_type"], r["name"]) for r in merged.resources}
        assert keys == {(r["resource_type"], r["name"]) for r in [*old, *new]}
        assert parse_v2(render(merged)) == merged
        assert merge(merged, state(*new)).find("rest_api", "a") == merged.find("rest_api", "a")


class TestAddresses:
    def test_apis_come_first_and_then_domains(self) -> None:
        found = urls(
            state(
                resource(
                    "domain_name",
                    "api_gateway_custom_domain",
                    domain_name="api.example.com",
                    api_mapping=[{"key": "/"}, {"key": "/v1"}],
                ),
                resource(
                    "domain_name",
                    "websocket_api_custom_domain",
                    domain_name="ws.example.com",
                    api_mapping=[{"key": "/"}],
                ),
                resource(
                    "websocket_api", "websocket_api", websocket_api_url="wss://b.example/api/"
                ),
                resource("rest_api", "rest_api", rest_api_url="https://a.example/api/"),
                resource("lambda_function", "x"),
            )
        )
        assert found == (
            StageUrl(name="rest_api", url="https://a.example/api/"),
            StageUrl(name="websocket_api", url="wss://b.example/api/"),
            StageUrl(name="api_gateway_custom_domain", url="https://api.example.com/"),
            StageUrl(name="api_gateway_custom_domain", url="https://api.example.com/v1/"),
            StageUrl(name="websocket_api_custom_domain", url="wss://ws.example.com/"),
        )

    @pytest.mark.parametrize(
        "url",
        ["https://user:pw@a.example/", "https://a.example/?x=1", 'https://a"onload=', "https://"],
    )
    def test_an_address_of_an_odd_form_is_not_given(self, url: str) -> None:
        assert urls(state(resource("rest_api", "rest_api", rest_api_url=url))) == ()

    def test_a_stage_without_an_api_has_no_address(self) -> None:
        assert urls(state(resource("lambda_function", "x"), resource("rest_api", "r"))) == ()
