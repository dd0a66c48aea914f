"""What stands against a deployment, decided from the loaded app alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci.check import Checked, check, check_together
from chalice_ci.config import AppConfig, PreviewConfig, ProjectConfig, StageConfig
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.graph import Frame, Loaded, LoadFailure, OtherApp, Resource, Route
from chalice_ci.source import Source
from support.loads import domain, function_at, lambda_function, loaded, trigger, use, websocket_api
from support.reports import EVIL

APP = AppConfig(name="orders", path=".")
FINE = "from chalice import Chalice\n\napp = Chalice(app_name='orders')\n"


@dataclass(frozen=True)
class Settings:
    """A config.json that says these things for every stage."""

    values: Mapping[str, object] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)

    def lookup(self, stage: str, key: str, function: str | None = None) -> object:
        return self.values.get(key)


def found(
    app: Loaded | LoadFailure,
    *,
    stage: str = "dev",
    config: ProjectConfig | None = None,
    text: str = FINE,
    **more: Any,
) -> tuple[Finding, ...]:
    return check(
        app,
        app=APP,
        stage=stage,
        config=config or ProjectConfig(),
        source=Source(files={"app.py": text}),
        **more,
    )


def rules_of(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.rule for finding in findings]


def test_an_app_that_is_fine_has_no_findings() -> None:
    assert found(loaded()) == ()


def test_findings_of_others_are_merged_in_order() -> None:
    names = Finding(rule="name-too-long", severity=Severity.WARNING, what="long")
    error = Finding(rule="config-json", severity=Severity.ERROR, what="wrong")
    assert found(loaded(), known=(names, error)) == (error, names)
    broken = found(LoadFailure(kind="import-error"), known=(names,))
    assert rules_of(broken) == ["load-import-error", "name-too-long"]


# --- experimental features, decided from the model ------------------------------------------------


def test_a_use_without_opt_in_names_places_status_and_the_line_to_add() -> None:
    uses = (use(line=40), use(line=31))
    (finding,) = found(loaded(websocket_api(), features=uses))
    assert (finding.rule, finding.severity) == ("experimental-feature", Severity.ERROR)
    assert (finding.app, finding.stage, finding.subject) == ("orders", "dev", "WEBSOCKETS")
    assert finding.at == Place(file="app.py", line=31)
    assert finding.fix == (
        "Add to app.py, right after line 3 (`app = Chalice(app_name='orders')`):\n"
        "app.experimental_feature_flags.update(['WEBSOCKETS'])"
    )
    assert "Trial in Chalice 1.34.0 (since 1.10.0)" in finding.detail
    assert "app.py:31, app.py:40" in finding.detail
    assert finding.link == "https://aws.github.io/chalice/topics/websockets.html"


def test_a_websocket_api_in_the_graph_proves_the_use_whatever_the_app_notes() -> None:
    text = FINE + "\n@app.on_ws_message()\ndef m(e): ...\n"
    (finding,) = found(loaded(websocket_api()), text=text)
    assert finding.rule == "experimental-feature"
    assert finding.at == Place(file="app.py", line=5)
    assert "own notes do not name it" in finding.detail


def test_without_a_policy_an_opt_in_is_enough() -> None:
    assert found(loaded(websocket_api(), features=(use(),), flags=("WEBSOCKETS",))) == ()


OPTED_IN = loaded(websocket_api(), features=(use(),), flags=("WEBSOCKETS",))
POLICY = Place(file="chalice-ci.yml", line=12, column=10)


def config_of(
    *stages: StageConfig, allow: tuple[str, ...] | None = None, like: str | None = None
) -> ProjectConfig:
    places = {} if allow is None else {"experimental.allow": POLICY}
    for stage in stages:
        places[f"stages.{stage.name}.allow-experimental"] = Place(file="chalice-ci.yml", line=30)
    return ProjectConfig(
        file="chalice-ci.yml",
        stages=stages,
        experimental_allow=allow or (),
        places=places,
        preview=PreviewConfig(like=like) if like else None,
    )


def stage(name: str, *features: str) -> StageConfig:
    return StageConfig(name=name, allow_experimental=features)


def test_an_empty_policy_allows_nothing_and_names_its_place() -> None:
    (finding,) = found(OPTED_IN, config=config_of(allow=()))
    assert finding.rule == "experimental-not-allowed"
    assert finding.at == Place(file="app.py", line=31)
    assert "The policy is at chalice-ci.yml:12:10." in finding.detail
    assert finding.fix.startswith("Add WEBSOCKETS to `experimental.allow` (chalice-ci.yml:12:10)")


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        (config_of(allow=("WEBSOCKETS",)), True),
        (config_of(allow=("BLUEPRINTS",)), False),
        (config_of(stage("dev"), allow=("WEBSOCKETS",)), False),
        (config_of(stage("dev", "WEBSOCKETS"), allow=()), True),
        (config_of(stage("prod"), allow=("WEBSOCKETS",)), True),
        (config_of(StageConfig(name="dev"), allow=("WEBSOCKETS",)), True),
        (config_of(StageConfig(name="dev")), True),
    ],
)
def test_a_stages_own_list_wins_over_the_repositorys(config: ProjectConfig, allowed: bool) -> None:
    assert rules_of(found(OPTED_IN, config=config)) == (
        [] if allowed else ["experimental-not-allowed"]
    )


def test_a_preview_is_bound_by_the_stage_that_it_is_like() -> None:
    config = config_of(stage("dev"), allow=("WEBSOCKETS",), like="dev")
    (finding,) = found(OPTED_IN, stage="pr-7", config=config)
    assert finding.rule == "experimental-not-allowed"
    assert "stages.dev.allow-experimental" in finding.what


def test_what_is_allowed_still_has_to_be_opted_into() -> None:
    uses = loaded(websocket_api(), features=(use(),))
    assert rules_of(found(uses, config=config_of(allow=("WEBSOCKETS",)))) == [
        "experimental-feature"
    ]


def test_what_is_neither_allowed_nor_opted_into_is_told_both() -> None:
    findings = found(loaded(websocket_api(), features=(use(),)), config=config_of(allow=()))
    assert rules_of(findings) == ["experimental-feature", "experimental-not-allowed"]
    assert "does not allow it either" in findings[0].detail
    assert "does not opt in either" in findings[1].detail


def test_blueprints_need_the_opt_in_only_where_they_were_on_trial() -> None:
    uses = (use("BLUEPRINTS"),)
    (finding,) = found(loaded(features=uses, chalice_version="1.14.1"))
    assert finding.rule == "experimental-feature"
    assert "Trial in Chalice 1.14.1 (since 1.7.0, accepted in 1.15.0)" in finding.detail
    assert found(loaded(features=uses, chalice_version="1.15.0")) == ()


@pytest.mark.parametrize(
    ("flags", "version", "rules"),
    [
        (("BLUEPRINTS",), "1.34.0", ["experimental-flag-accepted"]),
        (("BLUEPRINTS",), "1.14.1", ["experimental-flag-unused"]),
        (("WEBSOCKETS",), "1.34.0", ["experimental-flag-unused"]),
        (("WEBSOCKETS",), "1.9.1", ["experimental-flag-unknown"]),
        (("NOPE",), "1.34.0", ["experimental-flag-unknown"]),
        (("websockets",), "1.34.0", ["experimental-flag-unknown"]),
        (
            ("BLUEPRINTS", "NOPE"),
            "1.34.0",
            ["experimental-flag-accepted", "experimental-flag-unknown"],
        ),
    ],
)
def test_unused_unknown_and_accepted_flags_warn(
    flags: tuple[str, ...], version: str, rules: list[str]
) -> None:
    findings = found(loaded(flags=flags, chalice_version=version))
    assert rules_of(findings) == rules
    assert {finding.severity for finding in findings} == {Severity.WARNING}


def test_a_misspelt_flag_says_what_was_meant_and_where() -> None:
    text = FINE + "app.experimental_feature_flags.update(['web_sockets'])\n"
    (finding,) = found(loaded(flags=("web_sockets",)), text=text)
    assert finding.fix == "Write 'WEBSOCKETS'."
    assert finding.at == Place(file="app.py", line=4)


def test_a_feature_that_the_catalogue_does_not_know_needs_the_opt_in_too() -> None:
    findings = found(loaded(features=(use("QUANTUM"),), chalice_version="1.99.0"))
    assert rules_of(findings) == ["experimental-feature"]
    assert found(loaded(features=(use("QUANTUM"),), flags=("QUANTUM",))) == ()


# --- Chalice's own validation ---------------------------------------------------------------------


def route(
    path: str,
    line: int,
    function: str = "view",
    *,
    authorizer: str | None = None,
    authorizer_function: str | None = None,
) -> Route:
    return Route(
        path=path,
        method="GET",
        function=function,
        cors=False,
        authorizer=authorizer,
        authorizer_function=authorizer_function,
        api_key=False,
        content_types=("application/json",),
        at=Place(file="app.py", line=line),
    )


ROUTES = (route("/", 5, "index"), route("/orders/", 9, "orders"), route("/orders", 20, "more"))


@pytest.mark.parametrize(
    ("message", "subject", "line"),
    [
        ("Route cannot end with a trailing slash: /orders/", "/orders/", 9),
        (
            "Route entry cannot have both cors=True and methods=['OPTIONS', ...] configured.  "
            "When CORS is enabled, an OPTIONS method is automatically added for you.  Please "
            "remove 'OPTIONS' from the list of configured HTTP methods for: /orders",
            "/orders",
            20,
        ),
        (
            "In view function \"orders\", the content_types ['a/b'] support binary and "
            "['c/d'] do not. All content_types must be consistent in their binary support.",
            "orders",
            9,
        ),
        (
            "Duplicate function name detected: worker\nNames must be unique across all lambda "
            "functions in your Chalice app.",
            "worker",
            44,
        ),
    ],
)
def test_chalices_messages_get_the_place_of_what_they_name(
    message: str, subject: str, line: int
) -> None:
    app = loaded(validation=(message,), routes=ROUTES, functions=(function_at("worker", 44),))
    (finding,) = found(app)
    assert (finding.rule, finding.severity) == ("chalice-validation", Severity.ERROR)
    assert finding.at == Place(file="app.py", line=line)
    assert finding.what == message.split("\n", maxsplit=1)[0]


def test_messages_about_the_configuration_point_into_it() -> None:
    at = Place(file=".chalice/config.json", line=7, column=5)
    message = "'minimum_compression_size' must be an int."
    settings = Settings(places={"stages.dev.minimum_compression_size": at})
    (finding,) = found(loaded(validation=(message,), routes=ROUTES), settings=settings)
    assert (finding.at, finding.subject) == (at, "minimum_compression_size")


def test_every_message_is_a_finding_and_the_opt_in_is_not_said_twice() -> None:
    messages = ("You are using experimental features without explicitly opting in.", "a", "b")
    app = loaded(websocket_api(), features=(use(),), validation=messages)
    assert rules_of(found(app)) == [
        "chalice-validation",
        "chalice-validation",
        "experimental-feature",
    ]


@pytest.mark.parametrize(
    ("others", "happens"),
    [
        ((), "There is no function gate: `chalice deploy` stops halfway with a KeyError."),
        (("gate",), "The function gate, which is another one, would decide"),
    ],
)
def test_routes_that_ask_for_an_authorizer_by_its_name_before_the_prefix_are_named_together(
    others: tuple[str, ...], happens: str
) -> None:
    asked = {"authorizer": "gate", "authorizer_function": "admin_gate"}
    app = loaded(
        routes=(route("/a", 5, **asked), route("/b", 9, **asked)),
        functions=tuple(function_at(name, 3) for name in ("admin_gate", *others)),
    )
    (finding,) = found(app)
    assert (finding.rule, finding.severity) == ("authorizer-renamed", Severity.ERROR)
    assert (finding.subject, finding.at) == ("admin_gate", Place(file="app.py", line=3))
    assert "its routes (/a, /b) still ask for gate" in finding.what
    assert happens in finding.what


def test_authorizers_that_nothing_renamed_are_fine() -> None:
    own = route("/a", 5, authorizer="gate", authorizer_function="gate")
    pool = route("/b", 9, authorizer="pool")
    assert found(loaded(routes=(own, pool), functions=(function_at("gate", 3),))) == ()


# --- the rest -------------------------------------------------------------------------------------


def test_a_websocket_domain_without_handlers_warns() -> None:
    key = "websocket_api_custom_domain"
    at = Place(file=".chalice/config.json", line=9)
    settings = Settings(values={key: {"domain_name": "ws.example.org"}}, places={key: at})
    (finding,) = found(loaded(), settings=settings)
    assert (finding.rule, finding.at) == ("websocket-domain-unused", at)
    opted = loaded(websocket_api(), features=(use(),), flags=("WEBSOCKETS",))
    assert found(opted, settings=settings) == ()
    assert found(loaded(), settings=Settings()) == ()


def test_a_second_app_warns_and_its_features_do_not_count() -> None:
    other = OtherApp(app_name="trial", at=Place(file="app.py", line=9), features=(use(),))
    (finding,) = found(loaded(other_apps=(other,)))
    assert (finding.rule, finding.severity) == ("second-app", Severity.WARNING)
    assert "It uses WEBSOCKETS" in finding.detail


def test_variables_kept_from_the_loader_are_told() -> None:
    (finding,) = found(loaded(withheld=("PYTHONPATH",)))
    assert (finding.rule, finding.severity) == ("variables-withheld", Severity.NOTICE)


# --- previews and domains -------------------------------------------------------------------------

TRIGGERS = [
    (trigger("S3BucketNotification", bucket="uploads"), "preview-s3-trigger", "uploads"),
    (trigger("SQSEventSource", queue="jobs"), "preview-queue", "jobs"),
    (
        trigger(
            "SQSEventSource",
            queue=Resource(type="QueueARN", name="", fields={"arn": "arn:aws:sqs:::jobs"}),
        ),
        "preview-queue",
        "arn:aws:sqs:::jobs",
    ),
    (trigger("SNSLambdaSubscription", topic="news"), "preview-shared-trigger", "news"),
    (trigger("KinesisEventSource", stream="clicks"), "preview-shared-trigger", "clicks"),
    (
        trigger("DynamoDBEventSource", stream_arn="arn:aws:dynamodb:::table/t/stream/1"),
        "preview-shared-trigger",
        "arn:aws:dynamodb:::table/t/stream/1",
    ),
    (trigger("CloudWatchEvent", event_pattern="{}"), "preview-shared-trigger", "{}"),
    (
        trigger("ScheduledEvent", schedule_expression="rate(1 hour)"),
        "preview-schedule",
        "rate(1 hour)",
    ),
]


@pytest.mark.parametrize(("resource", "rule", "name"), TRIGGERS)
def test_a_preview_that_binds_a_fixed_thing_is_told(
    resource: Resource, rule: str, name: str
) -> None:
    config = ProjectConfig(preview=PreviewConfig(like="staging"))
    app = loaded(resource, stage="pr-7", functions=(function_at("worker", 12),))
    (finding,) = found(app, stage="pr-7", config=config)
    assert (finding.rule, finding.subject) == (rule, "worker")
    assert finding.at == Place(file="app.py", line=12)
    assert name in finding.what
    assert "stage staging" in finding.fix
    assert found(app, stage="dev", config=config) == ()
    assert rules_of(found(app, stage="trial", config=config, preview=True)) == [rule]
    assert found(app, stage="pr-7", config=config, preview=False) == ()


def test_only_what_takes_events_away_is_an_error_unless_that_is_allowed() -> None:
    resources = [resource for resource, _, _ in TRIGGERS]
    findings = found(loaded(*resources), stage="pr-7")
    errors = {finding.rule for finding in findings if finding.severity is Severity.ERROR}
    assert errors == {"preview-s3-trigger", "preview-queue"}
    assert "shared-triggers: true" in findings[0].fix
    allowed = ProjectConfig(preview=PreviewConfig(like="dev", shared_triggers=True))
    shared = found(loaded(*resources), stage="pr-7", config=allowed)
    assert len(shared) == len(findings)
    assert {finding.severity for finding in shared} == {Severity.WARNING}
    assert "shared-triggers" not in " ".join(finding.fix for finding in shared)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("uploads-pr-7", True),
        ("pr-7.uploads", True),
        ("uploads-pr-77", False),
        ("uploads-pr-7x", False),
        ("xpr-7", False),
    ],
)
def test_a_name_that_carries_the_previews_own_is_no_collision(name: str, own: bool) -> None:
    app = loaded(trigger("S3BucketNotification", bucket=name))
    assert (found(app, stage="pr-7") == ()) is own


def test_a_preview_that_goes_without_a_domain_points_at_its_setting() -> None:
    at = Place(file=".chalice/config.json", line=3)
    settings = Settings(
        values={"api_gateway_custom_domain": {"domain_name": "API.example.org"}},
        places={"stages.dev.api_gateway_custom_domain": at},
    )
    config = ProjectConfig(preview=PreviewConfig(like="dev"))
    (finding,) = found(loaded(), stage="pr-7", settings=settings, config=config)
    assert (finding.rule, finding.at, finding.subject) == ("preview-domain", at, "api.example.org")
    assert finding.severity is Severity.NOTICE


def together(config: ProjectConfig | None = None, **domains: str) -> tuple[Finding, ...]:
    stages = [
        Checked(app="orders", stage=name, loaded=loaded(domain(*of.split(" "))))
        for name, of in domains.items()
    ]
    return check_together(stages, config=config or ProjectConfig())


def test_two_stages_with_the_same_domain_are_told_once_per_pair() -> None:
    (finding,) = together(dev="api.example.org", prod="API.example.org", qa="qa.example.org")
    assert (finding.rule, finding.severity) == ("shared-domain", Severity.ERROR)
    assert (finding.stage, finding.subject) == ("prod", "api.example.org")
    assert "orders/prod and orders/dev" in finding.what
    assert len(together(a="x.example.org", b="x.example.org", c="x.example.org")) == 3


def test_different_mount_paths_still_share_the_domain() -> None:
    (finding,) = together(dev="api.example.org dev", prod="api.example.org prod")
    assert "mount paths differ" in finding.detail


@pytest.mark.parametrize(
    ("dev", "prod", "findings"),
    [
        ({"account": "111111111111"}, {"account": "222222222222"}, 0),
        ({"region": "eu-west-1"}, {"region": "us-east-1"}, 0),
        ({"account": "111111111111"}, {"account": "111111111111"}, 1),
        ({"account": "111111111111"}, {}, 1),
    ],
)
def test_stages_in_different_accounts_or_regions_do_not_collide(
    dev: dict[str, str], prod: dict[str, str], findings: int
) -> None:
    config = ProjectConfig(
        stages=(StageConfig(name="dev", **dev), StageConfig(name="prod", **prod))
    )
    assert len(together(config, dev="api.example.org", prod="api.example.org")) == findings


def test_two_apps_with_the_same_domain_are_told_too() -> None:
    stages = [
        Checked(app=name, stage="dev", loaded=loaded(domain("api.example.org")))
        for name in ("orders", "billing")
    ]
    at = Place(file="orders/.chalice/config.json", line=4)
    settings = {"orders": Settings(places={"stages.dev.api_gateway_custom_domain": at})}
    (finding,) = check_together(stages, config=ProjectConfig(), settings=settings)
    assert (finding.app, finding.at) == ("orders", at)


# --- a load that failed ---------------------------------------------------------------------------


def test_a_failed_load_names_error_place_way_and_fix() -> None:
    at = Place(file="chalicelib/db.py", line=3)
    failure = LoadFailure(
        kind="import-error",
        type="ModuleNotFoundError",
        message="No module named 'requests' (nothing in requirements.txt has the name `requests`)",
        at=at,
        frames=(Frame(at=Place(file="app.py", line=1), function="<module>"), Frame(at=at)),
        subject="requests",
    )
    (finding,) = found(failure)
    assert (finding.rule, finding.severity) == ("load-import-error", Severity.ERROR)
    assert (finding.at, finding.subject) == (at, "requests")
    assert "ModuleNotFoundError: No module named 'requests'" in finding.what
    assert "requirements.txt" in finding.fix
    assert finding.detail == "The way there:\n  app.py:1 in <module>\n  chalicelib/db.py:3"


@pytest.mark.parametrize(
    "kind",
    [
        *("import-error", "syntax-error", "system-exit", "missing-app", "wrong-type", "network"),
        *("credentials", "region", "environment", "filesystem", "configuration", "chalice"),
        *("exception", "timeout", "cpu", "memory", "too-large", "killed", "forged"),
    ],
)
def test_every_kind_of_failure_has_a_rule_and_a_fix(kind: str) -> None:
    (finding,) = found(LoadFailure(kind=kind))
    assert finding.rule == f"load-{kind}"
    assert finding.fix


def test_the_network_and_credentials_fixes_are_lazy_loading_and_the_escape() -> None:
    (network,) = found(LoadFailure(kind="network"))
    assert "functools.cache" in network.fix
    assert "load: {network: true}" in network.fix
    (credentials,) = found(LoadFailure(kind="credentials"))
    assert "functools.cache" in credentials.fix
    assert "network: true" not in credentials.fix


def test_a_kind_without_a_rule_is_still_a_finding() -> None:
    assert rules_of(found(LoadFailure(kind="eclipse", message="dark"))) == ["load-failed"]


hostile = st.sampled_from(EVIL) | st.text(max_size=20)


@given(hostile, hostile, hostile)
def test_hostile_names_never_stop_the_checks(name: str, message: str, text: str) -> None:
    app = loaded(
        websocket_api(),
        trigger("SQSEventSource", name=name, queue=message),
        domain(name),
        lambda_function(name),
        features=(use(name),),
        flags=(name, message),
        flags_kind=name,
        validation=(message,),
        routes=(route(name, 1, message),),
        functions=(function_at(name, 1),),
        withheld=(name,),
    )
    assert found(app, stage="pr-7", text=text)
    assert found(LoadFailure(kind=name, type=message, message=text))
