"""What another Chalice makes of the same app, and a pull request that takes one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci.app.client import LoadRequest, load_app
from chalice_ci.config import AppConfig
from chalice_ci.graph import Loaded
from chalice_ci.report.document import schema
from chalice_ci.report.report import TemplateChange
from chalice_ci.template import TemplateRequest
from chalice_ci.upgrade.templates import template_changes
from support.apppythons import app_python
from support.commandline import APP, Ran, chalice_ci, commit, hello, write

APPS = Path(__file__).parent / "apps"
GOLDEN = Path(__file__).parent / "golden"
OLD, NEW = "1.29.0", "1.34.0"


@pytest.fixture(scope="module")
def work_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="chalice-ci-test-"))
    folder.chmod(0o711)
    yield folder
    folder.rmdir()


def template(work_dir: Path, app: str, chalice: str) -> dict[str, Any]:
    """What a release writes for a real app, on a Python that both releases have."""
    request = LoadRequest(
        app_dir=APPS / app,
        app=AppConfig(name=app, path="."),
        stage="dev",
        region="eu-west-1",
        python=app_python(chalice, "3.10"),
        template=TemplateRequest(),
    )
    answer = load_app(request, work_dir=work_dir).answer
    assert isinstance(answer, Loaded), answer
    assert answer.template is not None, answer.template_error
    return dict(answer.template)


@pytest.mark.parametrize("app", ["authorizers", "functions", "websockets"])
def test_from_the_oldest_to_the_newest_release_only_the_processor_is_new(work_dir, app):
    """The names are CamelCase and the role explicit on both sides: both are newer than 1.2."""
    old, new = template(work_dir, app, OLD), template(work_dir, app, NEW)
    functions = tuple(
        sorted(
            name
            for name, resource in new["Resources"].items()
            if resource["Type"] == "AWS::Serverless::Function"
        )
    )
    assert "DefaultRole" in old["Resources"]
    assert template_changes(old, new) == (
        TemplateChange(
            kind="changed",
            resources=functions,
            path="Properties.Architectures",
            after='["x86_64"]',
        ),
    )


def golden(release: str) -> dict[str, Any]:
    """What Chalice itself wrote for an app with a route and an authorizer called `my_gate`."""
    text = (GOLDEN / f"template-chalice-{release}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_from_1_1_to_1_2_names_are_camel_case_and_the_role_is_explicit():
    told = template_changes(golden("1.1.1"), golden("1.2.0"))
    of_kind = {(c.kind, c.path): c for c in told}
    renamed = of_kind["renamed", ""]
    assert (renamed.before, renamed.after) == ("mygate9661", "MyGate")
    assert of_kind["added", "AWS::IAM::Role"].resources == ("DefaultRole",)
    role = of_kind["changed", "Properties.Role"]
    assert role.resources == ("APIHandler", "MyGate")
    assert (role.before, role.after) == ("", '{"Fn::GetAtt": ["DefaultRole", "Arn"]}')
    assert of_kind["changed", "Properties.Policies"].after == ""
    # The tag that names the release says nothing that the report does not.
    assert not any("aws-chalice" in change.path for change in told)


def function(**properties: object) -> dict[str, object]:
    return {"Type": "AWS::Serverless::Function", "Properties": properties}


def test_values_of_environment_variables_are_not_told():
    def variables(value):
        return {"Resources": {"F": function(Environment={"Variables": {"TOKEN": value}})}}

    (change,) = template_changes(variables("s3cret"), variables("0ther"))
    assert change.path == "Properties.Environment.Variables.TOKEN"
    assert (change.before, change.after) == ("…", "…")
    (gone,) = template_changes(variables("s3cret"), {"Resources": {"F": function()}})
    assert "s3cret" not in str(gone)


def test_what_many_resources_share_is_told_once():
    old = {"Resources": {f"F{n}": function(Handler=f"app.f{n}", Timeout=60) for n in range(50)}}
    new = {"Resources": {f"F{n}": function(Handler=f"app.f{n}", Timeout=90) for n in range(50)}}
    (change,) = template_changes(old, new)
    assert len(change.resources) == 50
    assert (change.path, change.before, change.after) == ("Properties.Timeout", "60", "90")


def test_resources_that_cannot_be_told_apart_are_not_called_renamed():
    old = {"Resources": {"a1": function(Handler="app.f"), "a2": function(Handler="app.f")}}
    new = {"Resources": {"A1": function(Handler="app.f"), "A2": function(Handler="app.f")}}
    assert [change.kind for change in template_changes(old, new)] == ["removed", "added"]


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
TEMPLATES = st.dictionaries(
    st.sampled_from(["Resources", "Outputs", "Parameters"]),
    st.dictionaries(st.sampled_from("ABCD"), TREES, max_size=3),
)


@given(TEMPLATES, TEMPLATES)
def test_a_template_differs_from_another_and_not_from_itself(one, other):
    assert template_changes(one, one) == ()
    told = template_changes(one, other)
    assert told == template_changes(one, json.loads(json.dumps(other)))
    objects = [
        {n: r for n, r in t.get("Resources", {}).items() if isinstance(r, dict)}
        for t in (one, other)
    ]
    if set(objects[0]) != set(objects[1]):
        assert any(change.kind in ("renamed", "added", "removed") for change in told)


# --- the command ----------------------------------------------------------------------------------


def pinned(release: str) -> dict[str, str]:
    return {"requirements.txt": f"chalice=={release}\n"}


def difference(repository: Path) -> tuple[Ran, dict[str, Any]]:
    """The last commit against the one before: what was said, and the result in the report."""
    ran = chalice_ci("diff", "--stage", "dev", "--from", "HEAD~1", cwd=repository)
    report = json.loads((repository / "chalice-ci-out" / "report.json").read_text())
    jsonschema.validate(report, schema())
    (result,) = report["results"]
    return ran, result


def test_a_commit_that_takes_another_chalice_tells_what_touches_the_app(tmp_path):
    repository = hello(tmp_path / "r", **pinned("1.33.0"))
    queue = "\n\n@app.on_sqs_message(queue='jobs')\ndef work(event):\n    pass\n"
    write(repository, {**pinned("1.34.0"), "app.py": APP + queue})
    commit(repository)
    ran, result = difference(repository)
    upgrade = result["upgrade"]
    assert (upgrade["before"], upgrade["after"]) == ("1.33.0", "1.34.0")
    assert [(note["version"], note["topic"]) for note in upgrade["notes"]] == [
        ("1.34.0", "Architecture")
    ]
    # The new function is the commit's own work: the template is of the app as it is now.
    assert upgrade["template"] == [
        {
            "kind": "changed",
            "path": "Properties.Architectures",
            "resources": ["APIHandler", "Work"],
            "before": "",
            "after": '["x86_64"]',
        }
    ]
    assert upgrade["template_problem"] == ""
    assert "1.33.0 -> 1.34.0" in ran.out
    assert "Properties.Architectures" in ran.out


def test_from_a_release_that_cannot_be_run_here_the_notes_are_told_all_the_same(tmp_path):
    view = '\n\n@app.route("/{a}")\ndef other(b):\n    return {}\n'
    repository = hello(tmp_path / "r", **pinned("0.9.0"), **{"app.py": APP + view})
    write(repository, pinned("1.34.0"))
    commit(repository)
    ran, result = difference(repository)
    upgrade = result["upgrade"]
    breaks = [note for note in upgrade["notes"] if note["impact"] == "breaks"]
    assert [(note["section"], note["at"][0]["line"]) for note in breaks] == [
        ("route-parameter-names", 11)
    ]
    assert upgrade["template_problem"].startswith("Chalice 0.9.0 cannot be run here")
    assert "route-parameter-names" in {finding["rule"] for finding in result["findings"]}
    assert ran.code == 1


def test_an_app_that_the_new_chalice_cannot_import_hears_which_release_broke_it(tmp_path):
    """The upgrade itself is why there is nothing to compare: then the notes matter most."""
    old = APP + "\napp.define_authorizer(name='users', header='X', auth_type='custom')\n"
    repository = hello(tmp_path / "r", **pinned("0.9.0"), **{"app.py": old})
    write(repository, pinned("1.34.0"))
    commit(repository)
    ran, result = difference(repository)
    breaks = [note for note in result["upgrade"]["notes"] if note["impact"] == "breaks"]
    assert [(note["version"], note["section"]) for note in breaks] == [
        ("1.0.0b1", "define-authorizer-removed")
    ]
    assert {"load-exception", "define-authorizer"} <= {one["rule"] for one in result["findings"]}
    assert ran.code == 1


def test_the_same_chalice_is_no_upgrade(tmp_path):
    repository = hello(tmp_path / "r", **pinned("1.34.0"))
    write(repository, {"app.py": APP + "\n# changed\n"})
    commit(repository)
    _, result = difference(repository)
    assert result["upgrade"] is None
