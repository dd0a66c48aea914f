"""config.json: what Chalice accepts passes, what it silently does wrong is found."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from chalice import Chalice
from chalice.cli.factory import CLIFactory
from chalice.config import Config
from chalice.deploy import models
from chalice.deploy.appgraph import ApplicationGraphBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.aws_names import API_HANDLER, aws_names
from chalice_ci.chalice_config import ChaliceConfig, check_chalice_config, read_chalice_config
from chalice_ci.config import AppConfig
from chalice_ci.config_keys import BY_NAME, KEYS, Level, markdown_table
from chalice_ci.discovery import MAX_CONFIG_JSON
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.json_source import MAX_DEPTH, read_json
from chalice_ci.plain_secrets import looks_secret
from chalice_ci.positions import plain_data
from chalice_ci.rules import RULES

ROOT = Path(__file__).parents[1]
MALFORMED = ROOT / "tests/malformed/config-json"
EXPECTED = json.loads((ROOT / "tests/malformed/config-json.expected.json").read_text("utf-8"))
ORDERS = AppConfig(name="orders", path="services/orders")


def written(root: Path, content: object) -> Path:
    """An app folder with this config.json: bytes, text, or data to be written as JSON."""
    folder = root / "services/orders"
    (folder / ".chalice").mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        text = content if isinstance(content, str) else json.dumps(content)
        content = text.encode("utf-8")
    (folder / ".chalice/config.json").write_bytes(content)
    return folder


def config_of(root: Path, content: object) -> ChaliceConfig:
    config, findings = read_chalice_config(written(root, content), repo_root=root)
    assert findings == ()
    assert config is not None
    return config


def checked(
    root: Path,
    content: object,
    *,
    stages: tuple[str, ...] = ("dev",),
    functions: tuple[str, ...] | None = None,
    ruled: tuple[str, ...] = (),
    like: str | None = None,
    name: str | None = None,
    chalice: str | None = None,
) -> tuple[Finding, ...]:
    config, findings = read_chalice_config(written(root, content), repo_root=root)
    if config is None:
        return findings
    more = check_chalice_config(
        config,
        app=ORDERS,
        stages_wanted=stages,
        loaded_app_name=name,
        loaded_functions=functions,
        loaded_rules=ruled,
        preview_like=like,
        chalice_version=chalice,
    )
    return (*findings, *more)


def test_keys_of_the_file_that_slipped_into_stages_are_no_stages(tmp_path: Path) -> None:
    content = {"stages": {"dev": {}, "version": "2.0", "app_name": "shop"}}

    assert config_of(tmp_path, content).stages == ("dev",)
    name, *rest = sorted(checked(tmp_path, content), key=lambda finding: finding.rule)

    assert name.rule == "config-json-app-name"
    assert "in `stages` it is not seen" in name.what
    assert 'Move it there: `"app_name": "shop"`' in name.fix
    assert name.at is not None
    assert name.at.line == 1
    assert {(finding.rule, finding.severity, finding.subject) for finding in rest} == {
        ("config-json-misplaced-key", Severity.WARNING, "version"),
        ("config-json-misplaced-key", Severity.WARNING, "app_name"),
    }


def test_a_stage_that_is_called_like_a_key_of_the_file_is_a_stage(tmp_path: Path) -> None:
    content = {"app_name": "orders", "stages": {"dev": {}, "version": {"xray": True}}}

    assert config_of(tmp_path, content).stages == ("dev", "version")
    assert checked(tmp_path, content, stages=("dev", "version")) == ()


def rules_of(findings: tuple[Finding, ...]) -> list[str]:
    return [f"{finding.rule} {finding.severity}" for finding in findings]


def base(**more: object) -> dict[str, object]:
    return {"version": "2.0", "app_name": "orders", "stages": {"dev": {}}, **more}


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_malformed_file_gets_all_its_findings_with_their_places(
    tmp_path: Path, name: str
) -> None:
    findings = checked(tmp_path, (MALFORMED / name).read_bytes(), like="dev")
    assert len(findings) == len(EXPECTED[name])
    for finding, expected in zip(findings, EXPECTED[name], strict=True):
        head, _, words = expected.partition(": ")
        place, rule, severity = head.split(" ")
        assert str(finding.at) == f"services/orders/.chalice/config.json:{place}"
        assert (finding.rule, finding.severity) == (rule, severity)
        assert words in finding.what
        assert "hunter2" not in f"{finding.what}{finding.fix}{finding.detail}"


def test_every_malformed_file_has_its_expectation() -> None:
    files = {path.name for path in MALFORMED.iterdir()}
    assert files == set(EXPECTED)
    assert len(files) >= 20


def test_keys_are_found_by_their_dotted_paths(tmp_path: Path) -> None:
    text = '{\n  "app_name": "orders",\n  "stages": {"dev": {"tags": {}}}\n}\n'
    config = config_of(tmp_path, text)
    assert config.app_name == "orders"
    assert config.stages == ("dev",)
    assert config.file == "services/orders/.chalice/config.json"
    assert config.places["stages.dev.tags"] == Place(file=config.file, line=3, column=22)
    assert config.data == {"app_name": "orders", "stages": {"dev": {"tags": {}}}}


def test_the_last_of_duplicate_keys_counts_as_in_chalice(tmp_path: Path) -> None:
    text = '{"app_name": "a", "app_name": "b"}'
    config, findings = read_chalice_config(written(tmp_path, text), repo_root=tmp_path)
    assert config is not None
    assert config.app_name == json.loads(text)["app_name"]
    assert rules_of(findings) == ["config-json-duplicate-key error"]


def test_a_link_that_leaves_the_repository_is_not_read(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    folder = written(repository, base())
    (folder / ".chalice/config.json").unlink()
    (folder / ".chalice/config.json").symlink_to("/proc/self/environ")
    config, (finding,) = read_chalice_config(folder, repo_root=repository)
    assert config is None
    assert "leaves the repository" in finding.what


def test_a_pipe_in_place_of_the_file_does_not_block(tmp_path: Path) -> None:
    folder = written(tmp_path, base())
    (folder / ".chalice/config.json").unlink()
    os.mkfifo(folder / ".chalice/config.json")
    config, (finding,) = read_chalice_config(folder, repo_root=tmp_path)
    assert config is None
    assert "not a regular file" in finding.what


def test_a_file_above_the_bound_is_refused_unread(tmp_path: Path) -> None:
    (finding,) = checked(tmp_path, b" " * (MAX_CONFIG_JSON + 1))
    assert finding.what == "The file is larger than 512 KiB."


BOMBS = {
    "brackets": "[" * MAX_CONFIG_JSON,
    "braces": '{"a":' * (MAX_CONFIG_JSON // 5),
    "numbers": "[" + "1," * (MAX_CONFIG_JSON // 2 - 1),
    "digits": "9" * MAX_CONFIG_JSON,
    "blanks": " " * MAX_CONFIG_JSON,
    "quotes": '"' * MAX_CONFIG_JSON,
    "backslashes": '"' + "\\\\" * (MAX_CONFIG_JSON // 2 - 1),
    "text": '{"environment_variables": {"PASSWORD": "' + "a" * 500_000 + '"}}',
    "schemes": '{"environment_variables": {"A1": "' + "a:/" * 170_000 + '"}}',
    "dots": '{"environment_variables": {"A1": "' + "eyJa.eyJ" * 60_000 + '"}}',
    "keys": "{" + ",".join(f'"key{number}": 1' for number in range(34_000)) + "}",
    "stages": '{"stages": {' + ",".join(f'"s{number}": {{}}' for number in range(34_000)) + "}}",
    "same keys": "{" + ",".join('"a": 1' for _ in range(70_000)) + "}",
    "braces in a row": "{}" * (MAX_CONFIG_JSON // 2),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_ends_fast(tmp_path: Path, name: str) -> None:
    assert len(BOMBS[name]) <= MAX_CONFIG_JSON
    started = time.process_time()
    findings = checked(tmp_path, BOMBS[name], functions=("api_handler",), like="dev")
    assert time.process_time() - started < 5
    assert 0 < len(findings) <= 500


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(data=JSON, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans())
def test_valid_json_has_the_value_that_chalice_reads(
    data: object, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    node, problems = read_json(text, "x")
    assert problems == ()
    assert node is not None
    assert plain_data(node) == json.loads(text)


PIECES = st.lists(
    st.sampled_from(
        [
            *"{}[],:' \n\t\\/-+.0123e\x00\ufeffé",
            *('"', '"a"', '"a": ', "true", "false", "null", "NaN", "-0", "1e5", "01", "{}", "[]"),
            *("\\u00e9", "\\ud83d", "\\x", "//"),
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(text=PIECES)
def test_what_is_refused_is_what_json_refuses(text: str) -> None:
    """Both accept or both refuse; beyond that only NaN and half characters are refused here."""
    node, problems = read_json(text, "x")
    try:
        value = json.loads(text)
    except ValueError:
        assert node is None
        assert problems
        return
    if "NaN" in text or "\\ud83d" in text:
        return
    assert node is not None, problems
    assert plain_data(node) == value
    assert all(problem.kind == "duplicate" for problem in problems)


def test_as_deep_as_the_bound_is_read() -> None:
    node, problems = read_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x")
    assert node is not None
    assert problems == ()


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=120) | PIECES.map(lambda text: text.encode("utf-8", "replace")))
def test_arbitrary_bytes_end_in_findings(
    raw: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for finding in checked(tmp_path_factory.getbasetemp() / "bytes", raw, functions=(), like="dev"):
        assert finding.rule in RULES
        assert finding.what.isprintable()


KEY_NAMES = st.sampled_from(
    [
        *BY_NAME,
        *("dev", "prod", "pr-1", "api_handler", "x", "A B", "//", "é`\u202e", "DB_PASSWORD", ""),
        *("domain_name", "certificate_arn", "tls_version", "url_prefix", "project_dir", "profile"),
    ]
)
TREES = st.dictionaries(
    KEY_NAMES,
    st.recursive(
        st.sampled_from([None, True, 0, 1, -5, 2.5, 10**30, "", "x", "x y", "EDGE", "2.0", "nan"]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEY_NAMES, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


@settings(max_examples=500, deadline=None)
@given(tree=TREES)
def test_any_object_ends_in_findings_that_can_be_shown(
    tree: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "trees"
    found = checked(
        root,
        tree,
        stages=("dev", "pr-7"),
        functions=("x",),
        like="prod",
        chalice="1.31.4",
        name="n",
    )
    for finding in found:
        assert finding.rule in RULES
        assert finding.at is not None
        assert finding.what.isprintable()


# --- looking up, with Chalice as the oracle -------------------------------------------------------

VALUES = st.sampled_from([None, 1, 2, 3, "a", "b", True, False])
FUNCTION_KEYS = tuple(key.name for key in KEYS if Level.TOP_FUNCTION in key.levels)
STAGE_KEYS = tuple(
    key.name
    for key in KEYS
    if Level.STAGE in key.levels and key.name not in ("lambda_functions", *FUNCTION_KEYS)
)
SETTINGS = st.dictionaries(
    st.sampled_from(
        (*FUNCTION_KEYS, "automatic_layer", "api_gateway_stage", "lambda_architecture")
    ),
    VALUES,
    max_size=6,
)
TEXTS = st.dictionaries(st.sampled_from("ABC"), st.sampled_from("xyz"), max_size=3)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, object]:
    def level() -> dict[str, object]:
        found: dict[str, object] = dict(draw(SETTINGS))
        if draw(st.booleans()):
            found["environment_variables"] = draw(TEXTS | st.none())
        return found

    def functions() -> dict[str, object]:
        return {name: level() for name in draw(st.sets(st.sampled_from(["worker", "api_handler"])))}

    stages = {
        name: {**level(), "lambda_functions": functions()}
        for name in draw(st.sets(st.sampled_from(["dev", "prod"])))
    }
    return {"app_name": "orders", **level(), "lambda_functions": functions(), "stages": stages}


def chalices(data: dict[str, object], stage: str, function: str) -> Config:
    return Config(
        chalice_stage=stage,
        function_name=function,
        config_from_disk=data,
        default_params={
            "api_gateway_stage": "api",
            "api_gateway_endpoint_type": "EDGE",
            "autogen_policy": True,
        },
    )


@settings(max_examples=300, deadline=None)
@given(data=configurations(), stage=st.sampled_from(["dev", "prod", "qa"]))
def test_every_key_is_looked_up_as_chalice_does(
    data: dict[str, object], stage: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = config_of(tmp_path_factory.getbasetemp() / "lookup", data)
    for function in ("worker", "other", "api_handler"):
        oracle = chalices(data, stage, function)
        for key in (*FUNCTION_KEYS, *STAGE_KEYS):
            expected = getattr(oracle, "xray_enabled" if key == "xray" else key)
            if key == "tags":
                # Chalice's own, with its version: it comes on top.
                del expected["aws-chalice"]
            assert config.lookup(stage, key, function) == expected, key
        assert config.environment_variables(stage, function) == oracle.environment_variables
        assert config.automatic_layer(stage) == bool(oracle.automatic_layer)
    assert config.lookup(stage, "app_name") == "orders"


def test_every_property_of_chalices_configuration_is_a_known_key() -> None:
    properties = {name for name in dir(Config) if isinstance(getattr(Config, name), property)}
    derived = {"chalice_app", "config_from_disk", "config_file_version", "lambda_python_version"}
    outside = {"project_dir", "profile", "xray_enabled"}
    known = {key.name for key in KEYS} - {"version", "stages", "lambda_functions", "xray"}
    assert properties - derived - outside == known


def test_an_old_chalice_ignores_the_architecture(tmp_path: Path) -> None:
    content = base(lambda_architecture="arm64")
    config = config_of(tmp_path, content)
    assert config.architecture("dev", "1.34.0") == "arm64"
    assert config.architecture("dev", "1.33.0") == "x86_64"
    assert config.architecture("dev") == "arm64"
    (finding,) = checked(tmp_path, content, chalice="1.33.0")
    assert finding.rule == "config-json-unknown-key"
    assert "came with 1.34.0" in finding.what
    assert checked(tmp_path, content, chalice="1.34.0") == ()


# --- what real projects have ----------------------------------------------------------------------

ODD = {
    "unknown keys": base(lambda_timeuot=3, comment="x", use_container=True),
    "version and app_name in a stage": base(
        stages={"dev": {"version": "2.0", "app_name": "orders-dev", "api_gateway_stage": "dev"}}
    ),
    "a stage beside stages": base(prod={"api_gateway_stage": "prod"}),
    "no stages at all": {"version": "2.0", "app_name": "orders"},
    "no version": {"app_name": "orders", "stages": {"dev": {}}},
    "an old version": base(version="1.0"),
    "a number as version": base(version=2.0),
    "an app with another name": base(),
    "stages that are never used": base(stages={"dev": {}, "my stage": {}, "pr-1": {}}),
    "nulls": base(lambda_timeout=None, layers=None, environment_variables=None, xray=None),
    "empty settings": base(environment_variables={}, tags={}, layers=[], subnet_ids=[]),
    "settings of functions that are not there": base(lambda_functions={"gone": {"xray": True}}),
    "secrets": base(environment_variables={"DB_PASSWORD": "correct horse"}),
    "comments": {"//": "x", "_comment": "x", "$schema": "x", **base()},
    "large values": base(lambda_memory_size=20_480, lambda_timeout=1000, log_retention_in_days=2),
    "an unknown TLS version": base(
        api_gateway_custom_domain={
            "domain_name": "a.example.com",
            "certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/1",
            "tls_version": "1.2",
        }
    ),
}


@pytest.mark.parametrize("name", sorted(ODD))
def test_what_chalice_accepts_is_at_most_a_warning(tmp_path: Path, name: str) -> None:
    findings = checked(tmp_path, ODD[name], functions=("api_handler",), name="Our Orders!")
    assert {finding.severity for finding in findings} <= {Severity.WARNING}
    factory = CLIFactory(str(tmp_path / "services/orders"), environ={})
    assert factory.create_config_obj("dev").app_name == "orders"


@pytest.mark.parametrize("path", sorted((ROOT / "tests/apps").rglob(".chalice/config.json")))
def test_the_shapes_have_nothing_to_find(path: Path) -> None:
    folder = path.parents[1]
    config, findings = read_chalice_config(folder, repo_root=ROOT)
    assert findings == ()
    assert config is not None
    found = check_chalice_config(
        config, app=AppConfig(name=folder.name, path="."), stages_wanted=config.stages
    )
    assert list(found) == []


def test_the_samples_and_templates_of_chalice_have_nothing_to_find(tmp_path: Path) -> None:
    import chalice

    found = sorted((Path(chalice.__file__).parent / "templates").rglob(".chalice/config.json"))
    assert found
    for path in found:
        text = path.read_text("utf-8").replace("{{app_name}}", "orders")
        assert checked(tmp_path, text) == ()


# --- checking -------------------------------------------------------------------------------------


def test_an_app_name_that_is_not_the_apps_is_a_warning(tmp_path: Path) -> None:
    (finding,) = checked(tmp_path, base(), name="order")
    assert (finding.rule, finding.severity) == ("config-json-app-name-differs", Severity.WARNING)
    assert "'orders' here and 'order' in app.py" in finding.what


def test_a_missing_app_name_is_what_chalice_would_call_none(tmp_path: Path) -> None:
    data = {"version": "2.0", "stages": {"dev": {}}}
    assert f"{chalices(data, 'dev', 'x').app_name}-dev" == "None-dev"
    assert rules_of(checked(tmp_path, data)) == ["config-json-app-name error"]


def test_unknown_functions_get_a_suggestion(tmp_path: Path) -> None:
    content = base(
        lambda_functions={"wroker": {}},
        stages={
            "dev": {"lambda_functions": {"api_handler": {}, "apihandler": {}}},
            "qa": {"lambda_functions": {"only_in_qa": {}}},
        },
    )
    findings = checked(tmp_path, content, functions=("api_handler", "worker"))
    assert [finding.rule for finding in findings] == ["config-json-unknown-function"] * 2
    assert "Did you mean 'worker'?" in findings[0].what
    assert "Did you mean 'api_handler'?" in findings[1].what
    assert checked(tmp_path, content) == ()


def test_a_stage_that_chalice_would_create_is_an_error(tmp_path: Path) -> None:
    (finding,) = checked(tmp_path, base(stages={"dev": {}, "prod": {}}), stages=("dev", "prd"))
    assert finding.rule == "config-json-stage-missing"
    assert finding.stage == "prd"
    assert "Did you mean 'prod'?" in finding.what


def test_a_preview_needs_the_stage_that_it_is_like(tmp_path: Path) -> None:
    assert checked(tmp_path, base(), stages=("pr-7",), like="dev") == ()
    (finding,) = checked(tmp_path, base(), stages=("pr-7",), like="preview")
    assert (finding.rule, finding.subject, finding.stage) == (
        "config-json-stage-missing",
        "preview",
        "pr-7",
    )


def test_dev_needs_no_entry_where_there_are_no_stages(tmp_path: Path) -> None:
    assert checked(tmp_path, {"app_name": "orders"}) == ()
    (finding,) = checked(tmp_path, {"app_name": "orders"}, stages=("prod",))
    assert finding.rule == "config-json-stage-missing"


def test_many_warnings_are_bounded_and_hide_no_error(tmp_path: Path) -> None:
    unknown = {f"key{number}": 1 for number in range(1000)}
    findings = checked(tmp_path, {**base(), **unknown, "xray": "no"})
    assert len(findings) == 201
    assert findings[-1].severity is Severity.ERROR


# --- names ----------------------------------------------------------------------------------------


def graph_names(data: dict[str, object], stage: str) -> set[str]:
    """The names in the graph that Chalice itself builds for an app with every kind of name."""
    app = Chalice(app_name="whatever")
    app.experimental_feature_flags.add("WEBSOCKETS")
    app.route("/")(lambda: {})
    app.lambda_function(name="worker")(lambda event, context: None)
    app.schedule("rate(1 hour)", name="tick")(lambda event: None)
    app.on_cw_event({"source": ["x"]}, name="seen")(lambda event: None)
    app.on_ws_message(name="websocket_message")(lambda event: None)
    config = chalices(data, stage, API_HANDLER)
    config._user_provided_params = {"chalice_app": app, "project_dir": "."}
    graph = ApplicationGraphBuilder().build(config, stage)
    names: set[str] = set()

    def visit(model: models.Model) -> None:
        for attribute in (
            "function_name",
            "role_name",
            "rule_name",
            "layer_name",
            "log_group_name",
        ):
            if hasattr(model, attribute):
                names.add(getattr(model, attribute))
        for inner in model.dependencies():
            visit(inner)

    visit(graph)
    return names


FUNCTIONS = (API_HANDLER, "worker", "tick", "seen", "websocket_message")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"automatic_layer": True},
        {"autogen_policy": False},
        {"log_retention_in_days": 7},
        {"stages": {"dev": {"lambda_functions": {"worker": {"autogen_policy": False}}}}},
        {"manage_iam_role": False, "iam_role_arn": "arn:aws:iam::123456789012:role/r"},
        {"stages": {"dev": {"automatic_layer": True, "log_retention_in_days": 1}}},
    ],
)
def test_the_names_are_those_of_chalices_own_graph(tmp_path: Path, more: dict[str, object]) -> None:
    data = base(**more)
    config = config_of(tmp_path, data)
    names = aws_names(
        "orders",
        "dev",
        lambda key, function: config.lookup("dev", key, function),
        functions=FUNCTIONS,
        rules=("tick-event", "seen-event"),
    )
    assert {name.name for name in names} == graph_names(data, "dev")


def test_names_beyond_the_limit_are_errors_for_previews_too(tmp_path: Path) -> None:
    name = "o" * 44
    content = base(app_name=name)
    findings = checked(
        tmp_path, content, functions=("api_handler", "worker", "nightly_run"), like="dev"
    )
    assert rules_of(findings) == ["aws-name-too-long error"]
    assert findings[0].stage == "pr-99999"
    assert f"'{name}-pr-99999-nightly_run': 65 characters, AWS allows 64" in findings[0].what
    assert checked(tmp_path, content, functions=("api_handler", "worker", "nightly_run")) == ()


def test_a_rule_is_longer_than_its_function(tmp_path: Path) -> None:
    content = base(app_name="o" * 52)
    assert checked(tmp_path, content, functions=("tick1234",)) != ()
    assert checked(tmp_path, content, functions=("tick12",)) == ()
    (finding,) = checked(tmp_path, content, functions=("tick12",), ruled=("tick12-event",))
    assert "EventBridge rule" in finding.what


def test_the_role_of_the_routes_is_longer_than_their_function(tmp_path: Path) -> None:
    content = base(app_name="o" * 55, autogen_policy=False)
    (finding,) = checked(tmp_path, content, functions=("api_handler",))
    assert "IAM role" in finding.what


# --- secrets --------------------------------------------------------------------------------------

SHAPES = [
    ("A1", "AKIA" + "ABCDEFGHIJKLMNOP"),
    ("A1", "ghp_" + "a1" * 18),
    ("A1", "github_pat_" + "a1" * 30),
    ("A1", "xoxb-" + "1234567890-abcdef"),
    ("A1", "https://hooks.slack.com/services/" + "T000/B000/abcdefghijkl"),
    ("A1", "sk_live_" + "a1" * 12),
    ("A1", "AIza" + "a" * 35),
    ("A1", "-----BEGIN RSA PRIVATE KEY-----\nMII"),
    ("A1", "postgres://app:s3cr3t@db.example.com/orders"),
    ("A1", "redis://:s3cr3t@cache:6379"),
    ("A1", "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w"),
    ("DB_PASSWORD", "correct horse"),
    ("dbPassword", "correct horse"),
    ("API_KEY", "a1b2c3d4e5f6"),
    ("STRIPE_SECRET", "a1b2c3d4e5f6"),
    ("SLACK_TOKEN", "a1b2c3d4e5f6"),
    ("client-secret", "a1b2c3d4e5f6"),
    ("JWT_SECRET_KEY", "a1b2c3d4e5f6"),
]
HARMLESS = [
    ("DB_PASSWORD", ""),
    ("DB_PASSWORD", "<change me>"),
    ("DB_PASSWORD", "changeme"),
    ("DB_PASSWORD", "${DB_PASSWORD}"),
    ("DB_PASSWORD", "{{resolve:ssm:/db}}"),
    ("DB_PASSWORD", "/prod/db/password"),
    ("DB_PASSWORD", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db"),
    ("SECRET_ARN", "whatever"),
    ("SECRET_NAME", "prod/db"),
    ("TOKEN_TTL", "3600"),
    ("PASSWORD_MIN_LENGTH", "12"),
    ("AUTH_TOKEN_HEADER", "x-token"),
    ("API_KEY_ID", "abcdefgh"),
    ("PASSENGER_TABLE", "passengers"),
    ("COMPASS", "north-north-west"),
    ("MONKEY", "banana-banana"),
    ("TABLE", "orders"),
    ("ORIGIN", "https://example.com:8443/path@v2"),
    ("TEMPLATE", "postgres://app:${PASSWORD}@db/orders"),
    ("LEVEL", "debug"),
]


@pytest.mark.parametrize(("name", "value"), SHAPES)
def test_a_secret_is_a_warning_that_never_shows_it(tmp_path: Path, name: str, value: str) -> None:
    assert looks_secret(name, value)
    content = base(stages={"dev": {"environment_variables": {name: value}}})
    findings = [found for found in checked(tmp_path, content) if found.rule == "config-json-secret"]
    assert [(found.severity, found.subject) for found in findings] == [(Severity.WARNING, name)]
    assert value not in str(findings)


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_what_only_refers_to_a_secret_is_none(name: str, value: str) -> None:
    assert looks_secret(name, value) is None


@settings(deadline=None)
@given(name=st.text(max_size=100), value=st.text(max_size=500))
def test_any_variable_can_be_looked_at(name: str, value: str) -> None:
    looks_secret(name, value)


# --- no file --------------------------------------------------------------------------------------


def missing(folder: Path, root: Path) -> Finding:
    config, findings = read_chalice_config(folder, repo_root=root)
    assert config is None
    (finding,) = findings
    assert finding.rule == "config-json-missing"
    return finding


@pytest.mark.parametrize("shape", ["v1_state", "v1_state_old"])
def test_old_state_without_a_file_tells_what_to_write(tmp_path: Path, shape: str) -> None:
    folder = tmp_path / "api"
    shutil.copytree(ROOT / "tests/apps" / shape, folder)
    (folder / ".chalice/config.json").unlink()
    finding = missing(folder, tmp_path)
    assert "the state of dev is there" in finding.what
    assert f'"app_name": "shape-{shape.replace("_", "-")}"' in finding.fix
    assert finding.at == Place(file="api/.chalice/config.json")
    text = finding.fix.split(":\n", 1)[1].rsplit("\n", 1)[0]
    assert checked(tmp_path, text) == ()


def test_state_of_several_stages_tells_them_all(tmp_path: Path) -> None:
    folder = tmp_path / "api"
    (folder / ".chalice/deployed").mkdir(parents=True)
    (folder / "app.py").write_text("app = Chalice(app_name='other')\n", encoding="utf-8")
    for stage in ("dev", "prod"):
        role = {
            "name": "default-role",
            "resource_type": "iam_role",
            "role_arn": "arn:aws:iam::123456789012:role/x",
            "role_name": f"orders-{stage}",
        }
        state = {"resources": [role], "schema_version": "2.0", "backend": "api"}
        (folder / f".chalice/deployed/{stage}.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / ".chalice/deployed/broken.json").write_text("{", encoding="utf-8")
    finding = missing(folder, tmp_path)
    assert "broken, dev, prod" in finding.what
    assert '"app_name": "orders"' in finding.fix


def test_an_app_without_state_is_called_as_in_app_py(tmp_path: Path) -> None:
    folder = tmp_path / "api"
    shutil.copytree(ROOT / "tests/apps/no_config", folder)
    finding = missing(folder, tmp_path)
    assert finding.what == "There is no .chalice/config.json beside app.py."
    assert '"app_name": "shape-no-config"' in finding.fix


def test_a_folder_that_is_no_app_is_not_told_to_become_one(tmp_path: Path) -> None:
    finding = missing(tmp_path, tmp_path)
    assert "not a Chalice app" in finding.what
    assert "app_name" not in finding.fix


# --- documentation --------------------------------------------------------------------------------


def test_the_table_of_the_documentation_is_the_declaration() -> None:
    assert markdown_table() in (ROOT / "docs/configuration.md").read_text("utf-8")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_example_of_the_table_is_accepted(tmp_path: Path, key: object) -> None:
    declared = BY_NAME[getattr(key, "name", "")]
    content = {**base(), declared.name: json.loads(declared.example)}
    assert checked(tmp_path, content) == ()
