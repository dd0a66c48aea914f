"""The shapes are complete, say what is true of them, and `check` answers what they declare."""

from __future__ import annotations

import ast
import inspect
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from chalice import app as chalice_app

from chalice_ci.app.client import LoadRequest, load_app
from chalice_ci.app.sandbox import Limits
from chalice_ci.config import AppConfig
from chalice_ci.config_keys import KEYS
from chalice_ci.graph import LoadFailure
from support.apppythons import app_python
from support.chalicecli import kept_folder
from support.shapes import APPS, BY_NAME, REGION, SHAPES, Shape, apply_change, copy_shape
from support.stories import app_key, chalice_ci, make_repository, tool_environ

# The endless import has a test of its own, which need not wait for a minute.
CHECKED = tuple(
    shape for shape in SHAPES if "1.34.0" in shape.versions and shape.name != "endless_import"
)


def test_every_folder_is_declared_once() -> None:
    assert sorted(shape.name for shape in SHAPES) == sorted(path.name for path in APPS.iterdir())


def test_every_decorator_of_chalice_is_used() -> None:
    offered = {name for name in vars(chalice_app.DecoratorAPI) if not name.startswith("_")}
    offered -= {"websocket_api"}
    used = {call.func.attr for call in _calls() if isinstance(call.func, ast.Attribute)}
    assert offered <= used


@pytest.mark.parametrize(
    "decorator",
    sorted(name for name in vars(chalice_app.DecoratorAPI) if re.match("on_|schedule|auth", name)),
)
def test_every_parameter_of_a_trigger_is_used(decorator: str) -> None:
    signature = inspect.signature(getattr(chalice_app.DecoratorAPI, decorator))
    offered = [name for name in signature.parameters if name != "self"]
    used: set[str] = set()
    for call in _calls():
        if isinstance(call.func, ast.Attribute) and call.func.attr == decorator:
            used |= set(offered[: len(call.args)])
            used |= {keyword.arg for keyword in call.keywords if keyword.arg}
    if decorator.startswith("on_ws_"):
        # Only the three together: a websocket handler's name changes nothing.
        offered.remove("name")
    assert set(offered) <= used


@pytest.mark.parametrize(
    "parameter", ["methods", "name", "authorizer", "api_key_required", "content_types", "cors"]
)
def test_every_parameter_of_a_route_is_used(parameter: str) -> None:
    assert any(
        keyword.arg == parameter
        for call in _calls()
        if isinstance(call.func, ast.Attribute) and call.func.attr == "route"
        for keyword in call.keywords
    )


def test_every_authorizer_of_chalice_is_used() -> None:
    offered = {kind.__name__ for kind in chalice_app.Authorizer.__subclasses__()}
    used = {call.func.id for call in _calls() if isinstance(call.func, ast.Name)}
    # This one is what @app.authorizer() makes.
    assert offered - {"ChaliceAuthorizer"} <= used


def test_every_key_of_config_json_is_used() -> None:
    used: set[str] = set()
    for file in APPS.rglob(".chalice/config.json"):
        used |= set(_keys(json.loads(file.read_text(encoding="utf-8"))))
    assert {key.name for key in KEYS} <= used


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_change_can_be_made_and_still_compiles(shape: Shape, tmp_path: Path) -> None:
    project = copy_shape(shape, tmp_path / "project")
    apply_change(shape, project)
    assert bool(shape.change) is shape.deploys
    if shape.name != "syntax_error":
        for file in project.rglob("*.py"):
            ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@pytest.fixture(scope="module")
def checked() -> Iterator[Mapping[str, Any]]:
    """report.json of one `check` of all shapes, all stages, in one repository."""
    with tempfile.TemporaryDirectory(prefix="chalice-ci-shapes-") as folder:
        root = Path(folder)
        # A process without rights can enter it; pytest's own folders are closed.
        root.chmod(0o755)
        yield _check(root)


def _check(root: Path) -> Mapping[str, Any]:
    repository = make_repository(root / "repository", CHECKED)
    environ = {**tool_environ(root / "home"), "AWS_DEFAULT_REGION": REGION}
    arguments = ["check", f"--out={root}/out", f"--cache-dir={kept_folder()}/cache"]
    said = chalice_ci(arguments, cwd=repository, environ=environ)
    report: dict[str, Any] = json.loads((root / "out" / "report.json").read_text(encoding="utf-8"))
    assert said.code == report["exit_code"] == 1, said.text
    # An app's own trace may be shown, as what the app said; never one of ours.
    assert not re.search("^Traceback", said.text, re.MULTILINE)
    return report


@pytest.mark.parametrize("shape", CHECKED, ids=str)
def test_check_answers_what_the_shape_declares(checked: Mapping[str, Any], shape: Shape) -> None:
    apps = {app_key(shape, app) for app in shape.apps}
    findings = [
        finding
        for result in checked["results"]
        for finding in result["findings"]
        if result["app"] in apps
    ] + [finding for finding in checked["findings"] if finding["app"] in apps]
    failures = [result["failure"] for result in checked["results"] if result["app"] in apps]
    assert not any(failures)
    rules = {
        severity: {f["rule"] for f in findings if f["severity"] == severity}
        for severity in ("error", "warning")
    }
    assert rules["error"] == set(shape.check.errors), findings
    assert bool(rules["error"]) is (shape.check.exit_code == 1)
    assert set(shape.check.warnings) <= rules["warning"]
    if shape.check.place:
        places = [
            f"{finding['at']['file']}:{finding['at']['line']}"
            for finding in findings
            if finding["severity"] == "error" and finding["at"]
        ]
        assert f"{shape.name}/{shape.check.place}" in places


def test_an_endless_import_ends_as_declared() -> None:
    """The loader's answer; `load-timeout` is the rule that `check` makes of it."""
    shape = BY_NAME["endless_import"]
    with tempfile.TemporaryDirectory(prefix="chalice-ci-shapes-") as folder:
        Path(folder).chmod(0o711)
        # As long as this machine needs to import Chalice.
        for seconds in (2, 8, 32):
            request = LoadRequest(
                app_dir=shape.path,
                app=AppConfig(name="endless", path=shape.name),
                python=app_python(),
                stage="dev",
                region=REGION,
                limits=Limits(wall_seconds=seconds),
            )
            answer = load_app(request, work_dir=Path(folder)).answer
            if isinstance(answer, LoadFailure) and answer.at is not None:
                break
    assert isinstance(answer, LoadFailure)
    assert (f"load-{answer.kind}",) == shape.check.errors
    assert answer.at is not None
    assert answer.at.file == "endless_import/app.py"


def test_a_loud_import_commands_nobody(checked: Mapping[str, Any]) -> None:
    """What an app prints is neither the loader's answer nor a command to the CI system."""
    (result,) = (found for found in checked["results"] if found["app"] == "noisy-import")
    assert result["verdict"] == "ok"


def _calls() -> Iterator[ast.Call]:
    for shape in SHAPES:
        if shape.name == "syntax_error":
            continue
        for file in shape.path.rglob("*.py"):
            if "vendor" not in file.parts:
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Call):
                        yield node


def _keys(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from _keys(value)
