"""Experimental features, judged through a real load: what a search in the text gets wrong."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chalice.app
import pytest

from chalice_ci.app.client import LoadRequest, load_app
from chalice_ci.chalice_config import read_chalice_config
from chalice_ci.check import check
from chalice_ci.config import AppConfig, ProjectConfig, StageConfig
from chalice_ci.experimental import CATALOGUE, Status, feature, meant, on_trial, opt_in
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.graph import Loaded
from chalice_ci.source import read_source

# --- the catalogue --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("BLUEPRINTS", "1.6.2", Status.UNKNOWN),
        ("BLUEPRINTS", "1.7.0", Status.TRIAL),
        ("BLUEPRINTS", "1.14.1", Status.TRIAL),
        ("BLUEPRINTS", "1.15.0", Status.ACCEPTED),
        ("BLUEPRINTS", "1.34.0", Status.ACCEPTED),
        ("WEBSOCKETS", "1.9.1", Status.UNKNOWN),
        ("WEBSOCKETS", "1.10.0", Status.TRIAL),
        ("WEBSOCKETS", "1.34.0", Status.TRIAL),
    ],
)
def test_the_status_depends_on_the_apps_own_chalice(
    name: str, version: str, status: Status
) -> None:
    known = feature(name)
    assert known is not None
    assert known.status(version) is status


def test_the_catalogue_names_what_the_installed_chalice_notes() -> None:
    tree = ast.parse(Path(chalice.app.__file__).read_text(encoding="utf-8"))
    noted = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add"
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == "_features_used"
        and isinstance(node.args[0], ast.Constant)
    }
    assert noted == {known.name for known in on_trial(importlib.metadata.version("chalice"))}


@pytest.mark.parametrize(
    ("written", "feature_name"),
    [
        ("websockets", "WEBSOCKETS"),
        ("WEBSOCKET", "WEBSOCKETS"),
        ("web-sockets", "WEBSOCKETS"),
        ("blueprint", "BLUEPRINTS"),
        ("NOPE", None),
        ("", None),
    ],
)
def test_a_misspelt_name_is_recognised(written: str, feature_name: str | None) -> None:
    assert meant(written) == feature_name


def test_the_line_to_add_is_python_that_opts_in() -> None:
    line = opt_in("api", [known.name for known in CATALOGUE])
    assert line == "api.experimental_feature_flags.update(['BLUEPRINTS', 'WEBSOCKETS'])"


# --- real loads -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Python:
    """This interpreter, which has Chalice."""

    executable: Path = Path(sys.executable)
    version: str = f"{sys.version_info[0]}.{sys.version_info[1]}"
    chalice: str = field(default_factory=lambda: importlib.metadata.version("chalice"))


CHAT = AppConfig(name="chat", path="services/chat")


@dataclass(frozen=True)
class Project:
    """A repository with one app in `services/chat`, written and checked for real."""

    root: Path
    work_dir: Path
    app: AppConfig = CHAT

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.root / self.app.path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def configure(self, data: Mapping[str, Any]) -> None:
        folder = self.root / self.app.path / ".chalice"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(data, indent=2), encoding="utf-8")

    def load(self, stage: str = "dev") -> Loaded:
        result = load_app(
            LoadRequest(
                app_dir=self.root / self.app.path,
                app=self.app,
                stage=stage,
                region="eu-west-1",
                python=Python(),
            ),
            work_dir=self.work_dir,
        )
        assert isinstance(result.answer, Loaded), result
        return result.answer

    def check(self, stage: str = "dev", config: ProjectConfig | None = None) -> tuple[Finding, ...]:
        settings, _ = read_chalice_config(self.root / self.app.path, repo_root=self.root)
        return check(
            self.load(stage),
            app=self.app,
            stage=stage,
            config=config or ProjectConfig(),
            source=read_source(self.root, self.app.path),
            settings=settings,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(root=tmp_path / "repository", work_dir=tmp_path / "work")
    made.work_dir.mkdir(mode=0o711)
    made.configure({"version": "2.0", "app_name": "chat", "stages": {"dev": {}, "prod": {}}})
    return made


HEAD = "import os\n\nfrom chalice import Chalice\n\napp = Chalice(app_name='chat')\n"
HANDLER = "\n\n@app.on_ws_message()\ndef message(event):\n    pass\n"
APP = "services/chat/app.py"


def rules_of(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.rule for finding in findings]


def by_rule(findings: tuple[Finding, ...], rule: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.rule == rule]
    return finding


def test_a_use_without_opt_in_is_refused_with_the_exact_line(project: Project) -> None:
    project.write(app=HEAD + HANDLER)
    (finding,) = project.check()
    assert (finding.rule, finding.severity) == ("experimental-feature", Severity.ERROR)
    assert finding.at == Place(file=APP, line=8)
    assert finding.fix == (
        f"Add to {APP}, right after line 5 (`app = Chalice(app_name='chat')`):\n"
        "app.experimental_feature_flags.update(['WEBSOCKETS'])"
    )


def apply_fix(project: Project, finding: Finding) -> None:
    """Do literally what the fix says."""
    words, _, line = finding.fix.partition("\n")
    told = re.match(r"(Add to|In) (\S+), (?:right after|replace) line (\d+) ", words)
    assert told is not None, words
    path = project.root / told[2]
    lines = path.read_text(encoding="utf-8").splitlines()
    number = int(told[3])
    lines[number if told[1] == "Add to" else number - 1 : number] = [line]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "files",
    [
        {"app": HEAD + HANDLER},
        {
            "app": HEAD.replace("Chalice(app_name='chat')", "Chalice(\n    app_name='chat',\n)")
            + HANDLER
        },
        {"app": HEAD.replace("app =", "api =") + "\napp = api\n" + HANDLER},
        {
            "app": "from chalicelib.core import api as app\n" + HANDLER,
            "chalicelib__core": "from chalice import Chalice\n\napi = Chalice(app_name='chat')\n",
            "chalicelib____init__": "",
        },
        {
            "app": "from chalicelib.core import make\n\napp = make()\n" + HANDLER,
            "chalicelib__core": (
                "from chalice import Chalice\n\n\n"
                "def make():\n    return Chalice(app_name='chat')\n"
            ),
            "chalicelib____init__": "",
        },
        {
            "app": (
                "import os\nfrom chalice import Chalice\n\n"
                "if os.environ.get('X'):\n    app = Chalice(app_name='x')\n"
                "else:\n    app = Chalice(app_name='chat')\n" + HANDLER
            )
        },
        {"app": HEAD + "app.experimental_feature_flags.update('WEBSOCKETS')\n" + HANDLER},
        {"app": HEAD + "app.experimental_feature_flags = 'WEBSOCKETS_X'\n" + HANDLER},
        {"app": HEAD + "app.experimental_feature_flags.update(['websockets'])\n" + HANDLER},
    ],
    ids=["plain", "lines", "alias", "imported", "factory", "branches", "letters", "part", "case"],
)
def test_doing_what_the_fix_says_makes_the_finding_go_away(
    project: Project, files: dict[str, str]
) -> None:
    project.write(**files)
    finding = by_rule(project.check(), "experimental-feature")
    apply_fix(project, finding)
    assert [f for f in project.check() if f.severity is not Severity.NOTICE] == []


def test_a_decorator_behind_a_variable_is_seen_in_the_stage_that_sets_it(project: Project) -> None:
    project.configure(
        {
            "version": "2.0",
            "app_name": "chat",
            "stages": {"dev": {}, "prod": {"environment_variables": {"LIVE": "on"}}},
        }
    )
    project.write(
        app=HEAD + "\nif os.environ.get('LIVE'):\n\n    @app.on_ws_connect()\n    def c(event):\n"
        "        pass\n"
    )
    assert rules_of(project.check("prod")) == ["experimental-feature"]
    (advice,) = project.check("dev")
    assert (advice.rule, advice.severity) == ("experimental-in-source", Severity.NOTICE)
    assert advice.at == Place(file=APP, line=9)


def test_an_opt_in_behind_a_variable_counts_only_where_it_happens(project: Project) -> None:
    project.configure(
        {
            "version": "2.0",
            "app_name": "chat",
            "stages": {"dev": {"environment_variables": {"LIVE": "on"}}, "prod": {}},
        }
    )
    project.write(
        app=HEAD + "if os.environ.get('LIVE'):\n"
        "    app.experimental_feature_flags.update(['WEBSOCKETS'])\n" + HANDLER
    )
    assert project.check("dev") == ()
    finding = by_rule(project.check("prod"), "experimental-feature")
    assert f"{APP}:7 opts in, but not on the object or not in the stage" in finding.detail


def test_a_handler_hidden_from_the_command_line_is_told(project: Project) -> None:
    project.write(
        app=HEAD + "\nif not os.environ.get('AWS_CHALICE_CLI_MODE'):\n\n"
        "    @app.on_ws_message()\n    def message(event):\n        pass\n"
    )
    findings = project.check()
    assert rules_of(findings) == ["cli-mode-dependent", "experimental-in-source"]
    assert findings[0].severity is Severity.WARNING
    assert findings[0].at == Place(file=APP, line=7)


def test_a_client_guarded_by_the_command_line_mode_is_no_finding(project: Project) -> None:
    project.write(app=HEAD + "CLIENT = None if os.environ.get('AWS_CHALICE_CLI_MODE') else 1\n")
    assert project.check() == ()


def test_a_second_app_does_not_count_and_is_told(project: Project) -> None:
    project.write(
        app=HEAD + "other = Chalice(app_name='other')\n" + HANDLER.replace("app", "other")
    )
    (finding,) = project.check()
    assert finding.rule == "second-app"
    assert finding.at == Place(file=APP, line=6)
    assert "It uses WEBSOCKETS" in finding.detail


def test_a_second_apps_opt_in_does_not_count_for_the_first(project: Project) -> None:
    project.write(
        app=HEAD + "other = Chalice(app_name='other')\n"
        "other.experimental_feature_flags.update(['WEBSOCKETS'])\n" + HANDLER
    )
    findings = project.check()
    assert rules_of(findings) == ["experimental-feature", "second-app"]
    assert "not on the object" in findings[0].detail


@pytest.mark.parametrize(
    "trick",
    [
        "app._features_used.clear()",
        "app._features_used = set()",
        "del app._features_used",
        "app.__dict__['_features_used'] = type('S', (set,), {'__iter__': lambda s: iter(())})()",
    ],
)
def test_cleared_notes_do_not_hide_the_use(project: Project, trick: str) -> None:
    # An attribute that is gone stops Chalice's own validation, too: it is put back empty.
    restore = "\napp._features_used = set()\n" if trick.startswith("del") else "\n"
    project.write(app=HEAD + HANDLER + trick + restore)
    finding = by_rule(project.check(), "experimental-feature")
    assert finding.at == Place(file=APP, line=8)


def test_handlers_registered_around_the_decorator_are_found(project: Project) -> None:
    project.write(
        app=HEAD + HANDLER + "\nhandlers = dict(app.websocket_handlers)\n"
        "app = Chalice(app_name='chat')\napp.websocket_handlers.update(handlers)\n"
    )
    findings = project.check()
    assert "experimental-feature" in rules_of(findings)


def test_flags_that_are_a_string_do_not_opt_in_by_a_part(project: Project) -> None:
    project.write(app=HEAD + "app.experimental_feature_flags = 'WEBSOCKETS_X'\n" + HANDLER)
    findings = project.check()
    assert rules_of(findings) == [
        "experimental-feature",
        "experimental-flag-unknown",
        "experimental-flags-type",
    ]
    assert findings[0].fix == (
        f"In {APP}, replace line 6 (`app.experimental_feature_flags = 'WEBSOCKETS_X'`) by:\n"
        "app.experimental_feature_flags.update(['WEBSOCKETS'])"
    )


def test_a_string_that_is_the_name_opts_in_and_warns(project: Project) -> None:
    project.write(app=HEAD + "app.experimental_feature_flags = 'WEBSOCKETS'\n" + HANDLER)
    assert rules_of(project.check()) == ["experimental-flags-type"]


def test_letters_do_not_opt_in(project: Project) -> None:
    project.write(app=HEAD + "app.experimental_feature_flags.update('WEBSOCKETS')\n" + HANDLER)
    findings = project.check()
    assert rules_of(findings) == ["experimental-feature", "experimental-flags-type"]
    assert "added its letters" in findings[1].what
    assert "app.experimental_feature_flags.update(['WEBSOCKETS'])" in findings[0].fix


def test_lower_case_does_not_opt_in(project: Project) -> None:
    project.write(app=HEAD + "app.experimental_feature_flags.update(['websockets'])\n" + HANDLER)
    findings = project.check()
    assert rules_of(findings) == ["experimental-feature", "experimental-flag-unknown"]
    assert findings[1].fix == "Write 'WEBSOCKETS'."


@pytest.mark.parametrize("kind", ["{}", "list({})", "frozenset({})", "tuple({})"])
def test_any_collection_of_names_opts_in(project: Project, kind: str) -> None:
    names = kind.format("{'WEBSOCKETS'}")
    project.write(app=HEAD + f"app.experimental_feature_flags = {names}\n" + HANDLER)
    assert project.check() == ()


BLUEPRINT = (
    "from chalice import Blueprint\n\nlive = Blueprint(__name__)\n\n\n"
    "@live.on_ws_message()\ndef message(event):\n    pass\n"
)


def test_a_blueprint_that_is_not_registered_is_not_used(project: Project) -> None:
    project.write(
        app=HEAD + "from chalicelib.live import live\n",
        chalicelib__live=BLUEPRINT,
        chalicelib____init__="",
    )
    (advice,) = project.check()
    assert (advice.rule, advice.severity) == ("experimental-in-source", Severity.NOTICE)
    assert advice.at == Place(file="services/chat/chalicelib/live.py", line=6)


def test_a_registered_blueprint_is_found_with_both_places(project: Project) -> None:
    project.write(
        app=HEAD + "from chalicelib.live import live\n\napp.register_blueprint(live)\n",
        chalicelib__live=BLUEPRINT,
        chalicelib____init__="",
    )
    (finding,) = project.check()
    assert finding.at == Place(file="services/chat/chalicelib/live.py", line=6)
    assert f"services/chat/chalicelib/live.py:6, {APP}:8" in finding.detail
    assert f"Add to {APP}, right after line 5" in finding.fix


def test_stale_unknown_and_accepted_flags_warn(project: Project) -> None:
    project.write(
        app=HEAD + "app.experimental_feature_flags.update(['WEBSOCKETS', 'NOPE', 'BLUEPRINTS'])\n"
    )
    findings = project.check()
    assert sorted(rules_of(findings)) == [
        "experimental-flag-accepted",
        "experimental-flag-unknown",
        "experimental-flag-unused",
    ]
    assert {finding.severity for finding in findings} == {Severity.WARNING}
    assert {finding.at for finding in findings} == {Place(file=APP, line=6)}


def test_comments_tests_and_vendor_do_not_count(project: Project) -> None:
    project.write(
        app=HEAD + "# @app.on_ws_message()\nTEXT = '@app.on_ws_message()'\n",
        tests__test_it="app.on_ws_message()\n",
        vendor__lib="app.on_ws_message()\n",
    )
    assert project.check() == ()


def test_a_websocket_domain_without_handlers_warns(project: Project) -> None:
    key = "websocket_api_custom_domain"
    domain = {"domain_name": "ws.example.org", "certificate_arn": "arn:aws:acm:::certificate/1"}
    project.configure(
        {"version": "2.0", "app_name": "chat", "stages": {"dev": {key: domain}, "prod": {}}}
    )
    project.write(app=HEAD)
    (finding,) = project.check()
    assert (finding.rule, finding.severity) == ("websocket-domain-unused", Severity.WARNING)
    assert finding.at is not None
    assert finding.at.file == "services/chat/.chalice/config.json"
    assert project.check("prod") == ()


OPTED_IN = HEAD + "app.experimental_feature_flags.update(['WEBSOCKETS'])\n" + HANDLER


def policy(*allow: str, stages: tuple[StageConfig, ...] = ()) -> ProjectConfig:
    return ProjectConfig(
        file="chalice-ci.yml",
        experimental_allow=allow,
        stages=stages,
        places={"experimental.allow": Place(file="chalice-ci.yml", line=9, column=10)},
    )


def test_the_policy_wins_over_opting_in(project: Project) -> None:
    project.write(app=OPTED_IN)
    assert project.check() == ()
    assert project.check(config=policy("WEBSOCKETS")) == ()
    (finding,) = project.check(config=policy())
    assert (finding.rule, finding.severity) == ("experimental-not-allowed", Severity.ERROR)
    assert finding.at == Place(file=APP, line=9)
    assert "chalice-ci.yml:9:10" in finding.fix


def test_a_stages_empty_list_keeps_the_feature_out_of_it(project: Project) -> None:
    project.write(app=OPTED_IN)
    config = policy("WEBSOCKETS", stages=(StageConfig(name="prod", allow_experimental=()),))
    assert project.check("dev", config) == ()
    assert rules_of(project.check("prod", config)) == ["experimental-not-allowed"]


def test_a_blueprint_needs_no_opt_in_today(project: Project) -> None:
    project.write(
        app=HEAD + "from chalicelib.more import more\n\napp.register_blueprint(more)\n",
        chalicelib__more=(
            "from chalice import Blueprint\n\nmore = Blueprint(__name__)\n\n\n"
            "@more.route('/more')\ndef view():\n    return {}\n"
        ),
        chalicelib____init__="",
    )
    assert project.check() == ()


def test_chalices_own_objections_come_all_at_once_with_their_places(project: Project) -> None:
    project.configure(
        {
            "version": "2.0",
            "app_name": "chat",
            "minimum_compression_size": -1,
            "stages": {"dev": {}},
        }
    )
    project.write(
        app=HEAD + "\n\n@app.route('/one/')\ndef one():\n    return {}\n"
        "\n\n@app.route('/two/')\ndef two():\n    return {}\n"
    )
    findings = project.check()
    assert rules_of(findings) == ["chalice-validation"] * 3
    places = {str(finding.at) for finding in findings}
    assert {f"{APP}:8", f"{APP}:13"} < places
    assert any("config.json:4" in place for place in places)


def test_a_preview_is_told_of_every_trigger_that_it_would_share(project: Project) -> None:
    project.write(
        app=HEAD + "\n\n@app.on_s3_event(bucket='uploads')\ndef a(event):\n    pass\n"
        "\n\n@app.on_sqs_message(queue='jobs')\ndef b(event):\n    pass\n"
        "\n\n@app.on_sqs_message(queue_arn='arn:aws:sqs:eu-west-1:1:mail')\ndef c(event):\n"
        "    pass\n"
        "\n\n@app.on_sns_message(topic='news')\ndef d(event):\n    pass\n"
        "\n\n@app.on_kinesis_record(stream='clicks')\ndef e(event):\n    pass\n"
        "\n\n@app.on_dynamodb_record(stream_arn='arn:aws:dynamodb:::table/t')\ndef f(event):\n"
        "    pass\n"
        "\n\n@app.schedule('rate(1 hour)')\ndef g(event):\n    pass\n"
        "\n\n@app.on_cw_event({'source': ['aws.ec2']})\ndef h(event):\n    pass\n"
    )
    assert project.check("dev") == ()
    findings = project.check("pr-7")
    assert {finding.subject: finding.rule for finding in findings} == {
        "a": "preview-s3-trigger",
        **dict.fromkeys("bc", "preview-queue"),
        **dict.fromkeys("defh", "preview-shared-trigger"),
        "g": "preview-schedule",
    }
    assert {finding.at.line for finding in findings if finding.at} == {
        8,
        13,
        18,
        23,
        28,
        33,
        38,
        43,
    }
