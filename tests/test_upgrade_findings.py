"""What the upgrade notes say about an app: each shape that breaks, and the shapes that do not."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from chalice.cli import cli as chalice_cli
from chalice.test import Client
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from chalice_ci.app.client import LoadRequest, load_app
from chalice_ci.config import AppConfig
from chalice_ci.findings import Place, Severity
from chalice_ci.graph import LoadFailure, Route
from chalice_ci.source import Source
from chalice_ci.upgrade.catalogue import notes
from chalice_ci.upgrade.raw_bodies import raw_bodies_as_text
from chalice_ci.upgrade.reading import read_scripts
from chalice_ci.upgrade.scripts import Script, positional_stage
from support.apppythons import app_python
from support.loads import loaded
from support.upgrades import found, write

HEAD = "from chalice import Blueprint, Chalice\n\napp = Chalice(app_name='orders')\n\n\n"
EXAMPLES = {note.name: note for note in notes() if note.file == "app.py"}


def rules_at(findings):
    return [(one.rule, one.severity.value, str(one.at)) for one in findings]


def said_of(folder: Path, source: str):
    return rules_at(found(folder, {"app.py": source}))


# --- the examples, on the real Chalice ------------------------------------------------------------


def imported(folder: Path, text: str) -> ModuleType:
    """The app's module, under a name of its own."""
    file = folder / "app.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(f"upgraded_{folder.name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    yield tmp_path / "before", tmp_path / "after"
    for name in ("before", "after"):
        sys.modules.pop(f"upgraded_{name}", None)


@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("define-authorizer-removed", AttributeError),
        ("authorizer-name-removed", TypeError),
        ("authorizer-id", TypeError),
    ],
)
def test_todays_chalice_cannot_import_what_the_note_says_is_gone(name, raised, folders):
    before, after = folders
    with pytest.raises(raised):
        imported(before, EXAMPLES[name].before)
    assert imported(after, EXAMPLES[name].after).app.app_name == "orders"


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [("route-parameter-names", "get", "/orders/1/2"), ("raw-body", "post", "/")],
)
def test_todays_chalice_answers_500_where_the_note_says_so(name, method, path, folders):
    answers = []
    for folder, text in zip(folders, (EXAMPLES[name].before, EXAMPLES[name].after), strict=True):
        with Client(imported(folder, text).app) as client:
            sent = {"body": b"a=1&b=2"} if method == "post" else {}
            answers.append(getattr(client.http, method)(path, **sent).status_code)
    assert answers == [500, 200]


def test_todays_chalice_refuses_the_positional_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path, {"app.py": HEAD}))
    ran = CliRunner().invoke(chalice_cli, ["deploy", "prod"], obj={})
    assert ran.exit_code == 2
    assert "unexpected extra argument" in ran.output


def test_todays_chalice_cannot_deploy_without_the_stages_own_policy(tmp_path):
    config = {"app_name": "orders", "autogen_policy": False}
    files = {"app.py": HEAD + "@app.route('/')\ndef index():\n    return {}\n"}
    files |= {".chalice/config.json": json.dumps(config), ".chalice/policy.json": "{}"}
    write(tmp_path, files)
    request = LoadRequest(
        app_dir=tmp_path,
        app=AppConfig(name="orders", path="."),
        stage="dev",
        region="eu-west-1",
        python=app_python(),
    )
    work_dir = Path(tempfile.mkdtemp(prefix="chalice-ci-test-"))
    work_dir.chmod(0o711)
    answer = load_app(request, work_dir=work_dir).answer
    work_dir.rmdir()
    assert isinstance(answer, LoadFailure)
    assert answer.kind == "chalice"
    assert "policy-dev.json" in answer.message


# --- routes ---------------------------------------------------------------------------------------

VIEW = "@app.route('{path}')\ndef view({arguments}):\n    return {{}}\n"


@pytest.mark.parametrize(
    ("path", "arguments", "wrong"),
    [
        ("/{a}/{b}", "a, b", False),
        ("/{a}/{b}", "b, a", False),
        ("/{a}", "*, a", False),
        ("/{a}", "a, more=None", False),
        ("/{a}", "**parameters", False),
        ("/{a}", "a, **others", False),
        ("/", "", False),
        ("/", "cached=True", False),
        ("/{a}/{b}", "a", True),
        ("/{a}", "", True),
        ("/{a}", "b", True),
        ("/{a}", "a, b", True),
        ("/{a}", "b, **others", True),
        ("/{a}", "a, /", True),
        ("/{a}", "*parameters", True),
        ("/", "request", True),
    ],
)
def test_a_view_takes_exactly_the_parameters_of_its_path(path, arguments, wrong, tmp_path):
    said = said_of(tmp_path, HEAD + VIEW.format(path=path, arguments=arguments))
    assert said == ([("route-parameter-names", "error", "app.py:6")] if wrong else [])


def test_a_mismatch_says_both_names_and_the_line_to_write(tmp_path):
    (one,) = found(tmp_path, {"app.py": HEAD + VIEW.format(path="/{order_id}", arguments="id")})
    assert one.what == "The path /{order_id} has `order_id`, and `view` takes `id`."
    assert one.fix == "Write `def view(order_id):` instead of `def view(id):`."
    assert one.link == "https://aws.github.io/chalice/upgrading.html#v1-0-0b2"
    assert "1.0.0b2" in one.detail
    assert (one.stage, one.subject) == ("", "view")


@pytest.mark.parametrize(
    "source",
    [
        # Another decorator may hand over what it likes.
        "@app.route('/{a}')\n@checked\ndef view(request, a):\n    return {}\n",
        "PATH = '/{a}'\n\n\n@app.route(PATH)\ndef view(b):\n    return {}\n",
        "@app.route(f'/{VERSION}/{{a}}')\ndef view(b):\n    return {}\n",
        "@app.route('/{a}')\n@app.route('/x/{a}')\ndef view(a):\n    return {}\n",
        "api = Blueprint('m')\napp.register_blueprint(api, url_prefix='/{t}')\n\n\n"
        "@api.route('/{a}')\ndef view(t, a):\n    return {}\n",
        "api = Blueprint('m')\napp.register_blueprint(api, url_prefix=PREFIX)\n\n\n"
        "@api.route('/{a}')\ndef view(t, a):\n    return {}\n",
    ],
)
def test_what_cannot_be_told_from_the_text_is_left_alone(source, tmp_path):
    assert said_of(tmp_path, HEAD + source) == []


def test_the_loaded_app_knows_the_prefix_of_a_blueprint(tmp_path):
    """With the path that is really served, a missing parameter of the prefix is found."""
    source = HEAD + "api = Blueprint('m')\n\n\n@api.route('/{a}')\ndef view(a):\n    return {}\n"
    route = Route(
        path="/{tenant}/{a}",
        method="GET",
        function="view",
        cors=False,
        authorizer=None,
        authorizer_function=None,
        api_key=False,
        content_types=("application/json",),
        at=Place(file="app.py", line=10),
    )
    (one,) = found(tmp_path, {"app.py": source}, loaded=loaded(routes=(route,)))
    assert "/{tenant}/{a}" in one.what


# --- authorizers ----------------------------------------------------------------------------------


def test_the_old_ways_to_name_an_authorizer_are_found_where_they_stand(tmp_path):
    source = (
        HEAD
        + "app.define_authorizer(name='x')\n\n\n"
        + "@app.route('/a', authorizer_name='x')\ndef a():\n    return {}\n\n\n"
        + "@app.route('/b', authorization_type='CUSTOM', authorizer_id='y')\n"
        + "def b():\n    return {}\n"
    )
    assert said_of(tmp_path, source) == [
        ("define-authorizer", "error", "app.py:6"),
        ("authorizer-name", "error", "app.py:9"),
        ("authorizer-id", "error", "app.py:14"),
        ("authorizer-id", "error", "app.py:14"),
    ]


def test_other_functions_may_have_arguments_of_these_names(tmp_path):
    source = HEAD + "client.create(authorizer_name='x', authorizer_id='y')\n"
    assert said_of(tmp_path, source) == []


# --- raw bodies -----------------------------------------------------------------------------------

BODY = b"a=1&b=2"


def tried(expression: str) -> object:
    """What a use of a body really does with bytes."""
    names: dict[str, object] = {
        "json": json,
        "re": re,
        "BytesIO": io.BytesIO,
        "StringIO": io.StringIO,
        "parse_qs": urllib.parse.parse_qs,
    }

    class Request:
        raw_body = BODY

    names["request"] = Request()
    return eval(expression, names)


@pytest.mark.parametrize(
    "expression",
    [
        "request.raw_body.split('&')",
        "request.raw_body.startswith('a')",
        "request.raw_body.replace('a', 'b')",
        "request.raw_body.strip('a')",
        "request.raw_body.encode()",
        "request.raw_body.format(1)",
        "'a' in request.raw_body",
        "request.raw_body + 'x'",
        "'x' + request.raw_body",
        "request.raw_body < 'x'",
        "re.match('a', request.raw_body)",
        "re.sub('a', 'b', request.raw_body)",
        "StringIO(request.raw_body)",
    ],
)
def test_a_body_used_as_text_raises_and_is_found(expression):
    with pytest.raises((TypeError, AttributeError)):
        tried(expression)
    (use,) = raw_bodies_as_text(Source(files={"app.py": f"x = {expression}\n"}))
    assert use.fails


@pytest.mark.parametrize("expression", ["request.raw_body == 'a=1&b=2'", "'' != request.raw_body"])
@pytest.mark.filterwarnings("ignore::BytesWarning")
def test_a_body_compared_with_text_is_never_equal(expression):
    assert tried(expression) is ("!=" in expression)
    (use,) = raw_bodies_as_text(Source(files={"app.py": f"x = {expression}\n"}))
    assert (use.fails, use.what) == (True, "Bytes never equal text.")


@pytest.mark.parametrize(
    "expression",
    [
        "f'body {request.raw_body}'",
        "'body %s' % request.raw_body",
        "'body {}'.format(request.raw_body)",
        "str(request.raw_body)",
        "parse_qs(request.raw_body)",
    ],
)
def test_what_makes_another_text_of_a_body_is_found_as_a_difference(expression):
    assert "b'" in str(tried(expression))
    (use,) = raw_bodies_as_text(Source(files={"app.py": f"x = {expression}\n"}))
    assert not use.fails


@pytest.mark.parametrize(
    "expression",
    [
        "json.loads('[1]') or json.loads(request.raw_body)",
        "request.raw_body.decode('utf-8').split('&')",
        "request.raw_body.split(b'&')",
        "request.raw_body.split()",
        "request.raw_body.strip()",
        "b'a' in request.raw_body",
        "request.raw_body == b''",
        "str(request.raw_body, 'utf-8')",
        "f'{request.raw_body!r}'",
        "print(f'got {request.raw_body}')",
        "parse_qs(request.raw_body)[b'a']",
        "parse_qs(request.raw_body.decode())['a']",
        "re.match(b'a', request.raw_body)",
        "BytesIO(request.raw_body)",
        "len(request.raw_body)",
        "not request.raw_body",
        "request.raw_body.hex()",
    ],
)
def test_what_works_on_bytes_is_left_alone(expression):
    tried(expression)
    assert raw_bodies_as_text(Source(files={"app.py": f"x = {expression}\n"})) == ()


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("raw = request.raw_body\nreturn raw.split('&')", [3]),
        ("raw = request.raw_body\nprint(len(raw))\nreturn raw == ''", [4]),
        ("raw = request.raw_body\nraw = raw.decode()\nreturn raw.split('&')", []),
        ("raw = request.raw_body\nif text: raw = text\nreturn raw.split('&')", []),
        ("raw = request.raw_body.decode()\nreturn raw.split('&')", []),
    ],
)
def test_a_variable_is_followed_while_it_is_nothing_else(body, lines):
    text = "def view():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    uses = raw_bodies_as_text(Source(files={"app.py": text}))
    assert [use.at.line for use in uses] == lines


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "line", "stage"),
    [
        ("deploy.sh", "chalice deploy prod", "prod"),
        ("deploy.sh", "cd api && chalice --project-dir api deploy prod || exit 1", "prod"),
        ("deploy.sh", "venv/bin/chalice deploy --profile me prod", "prod"),
        ("deploy.sh", "python3 -m chalice deploy prod > log 2>&1", "prod"),
        ("deploy.sh", "chalice deploy --no-autogen-policy 'prod'", "'prod'"),
        ("deploy.sh", 'chalice deploy "$TARGET"', "$TARGET"),
        ("deploy.sh", "chalice deploy $STAGE", "$STAGE"),
        ("deploy.sh", "chalice deploy \\\n  prod", "prod"),
        ("Makefile", "deploy:\n\t@chalice deploy $(STAGE)", "$(STAGE)"),
        ("Jenkinsfile", "sh 'chalice deploy prod'", "prod"),
        ("package.json", '{"scripts": {"deploy": "pipenv run chalice deploy prod"}}', "prod"),
        ("tox.ini", "commands = chalice deploy prod", "prod"),
        (".gitlab-ci.yml", "deploy:\n  script:\n    - chalice deploy prod", "prod"),
        (".circleci/config.yml", "      - run: chalice deploy prod", "prod"),
        ("bitbucket-pipelines.yml", "          - chalice deploy prod", "prod"),
        ("azure-pipelines.yml", "- script: chalice deploy prod", "prod"),
        ("buildspec.yml", "      - chalice deploy prod", "prod"),
        (".github/workflows/ci.yml", "      - run: |\n          chalice deploy prod", "prod"),
        (
            ".github/workflows/ci.yml",
            "      - run: chalice deploy ${{ inputs.stage }}",
            "${{ inputs.stage }}",
        ),
    ],
)
def test_the_positional_stage_is_found_in_every_kind_of_script(file, line, stage, tmp_path):
    files = {"app.py": HEAD, file: f"{line}\n"}
    said = [one for one in found(tmp_path, files) if one.rule == "deploy-positional-stage"]
    assert [(one.severity, one.at and one.at.file) for one in said] == [(Severity.ERROR, file)]
    assert stage.strip("'") in said[0].fix


@pytest.mark.parametrize(
    "line",
    [
        "chalice deploy",
        "chalice deploy --stage prod",
        "chalice deploy --stage=prod",
        "chalice deploy --stage $STAGE --profile me",
        "chalice deploy --no-autogen-policy --connection-timeout 120",
        "chalice deploy $ARGUMENTS",
        "chalice deploy && echo done",
        "chalice deploy; cd ..",
        "chalice deploy | tee log",
        "chalice deploy > log",
        "chalice deploy 2>&1",
        "chalice deploy # prod",
        "chalice deploy --some-new-option prod",
        "# chalice deploy prod",
        "make x  # chalice deploy prod",
        "echo 'now: chalice deploy prod'",
        'git commit -m "chalice deploy prod"',
        "- name: chalice deploy prod",
        "  description: chalice deploy prod",
        "chalice package out",
        "chalice delete --stage prod",
        "mychalice deploy prod",
        "pip install chalice deployer",
        "chalice deploy --stage \\\n  prod",
    ],
)
def test_what_is_no_positional_stage_is_left_alone(line):
    script = Script(file="deploy.sh", text=f"{line}\n")
    assert [c for c in script.commands if positional_stage(c) is not None] == []


@given(st.text(max_size=200))
@example("chalice deploy '")
@example("chalice deploy \\")
@example("chalice --project-dir")
@example("${{ chalice deploy ${{ a")
def test_any_text_can_be_looked_through(text):
    for script in (Script(file="x.sh", text=text), Script(file="x.sh", text=f"chalice {text}")):
        for command in script.commands:
            positional_stage(command)
        assert all(one.at.line for one in script.pythons)


def test_a_line_that_is_mostly_blank_takes_no_time():
    """Each command of a line is looked at with what stands before it."""
    script = Script(file="x.sh", text=";" + " " * 1900 + "chalice x " * 200)
    begun = time.process_time()
    assert len(script.commands) == 200
    # Needed is a tenth of it; growing with the square of the blanks it was three seconds.
    assert time.process_time() - begun < 1


def test_a_script_belongs_to_the_app_it_lies_with(tmp_path):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", {"app.py": HEAD, "deploy.sh": "chalice deploy prod\n"})
    assert [s.file for s in read_scripts(tmp_path, ("a", "b"))] == ["a/deploy.sh"]


def test_no_link_is_followed_to_a_script(tmp_path):
    secret = tmp_path / "secret.sh"
    secret.write_text("chalice deploy prod\n")
    project = tmp_path / "project"
    write(project, {"app.py": HEAD})
    (project / "deploy.sh").symlink_to(secret)
    (project / "scripts").symlink_to(tmp_path)
    assert read_scripts(project, (".",)) == ()


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "others", "severity"),
    [
        ({"autogen_policy": False}, (), "error"),
        ({"stages": {"dev": {"autogen_policy": False}}}, (), "error"),
        ({"autogen_policy": False}, (".chalice/policy-dev.json",), "warning"),
        ({"autogen_policy": False, "iam_policy_file": "p.json"}, (), "warning"),
        ({}, (), "notice"),
        ({"manage_iam_role": False, "autogen_policy": False}, (), "notice"),
        ({"autogen_policy": False, "iam_policy_file": "policy.json"}, (), None),
        (
            {"stages": {"dev": {"lambda_functions": {"f": {"iam_policy_file": "policy.json"}}}}},
            (),
            None,
        ),
    ],
)
def test_a_policy_that_nobody_reads(config, others, severity, tmp_path):
    files = {"app.py": HEAD, ".chalice/policy.json": "{}", **dict.fromkeys(others, "{}")}
    files[".chalice/config.json"] = json.dumps({"app_name": "orders", **config})
    said = found(tmp_path, files)
    assert [one.severity.value for one in said] == ([] if severity is None else [severity])
    # Only the error is about the stage; the file is the same in all of them.
    assert all(one.stage == ("dev" if severity == "error" else "") for one in said)


V1 = {
    "dev": {
        "api_handler_name": "orders-dev",
        "api_handler_arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders-dev",
        "rest_api_id": "a",
        "lambda_functions": {"orders-dev-gate": {"type": "authorizer", "arn": "…"}},
    }
}


def test_the_state_of_an_old_chalice_is_named_once_per_stage(tmp_path):
    files = {"app.py": HEAD, ".chalice/deployed.json": json.dumps(V1, indent=2)}
    (one,) = found(tmp_path, files)
    assert rules_at([one]) == [("v1-state", "warning", ".chalice/deployed.json:2")]
    assert (one.stage, one.subject) == ("dev", "dev")
    assert "state import" in one.fix
    assert found(tmp_path, files, stage="prod") == ()


def test_a_stage_that_was_converted_is_not_named(tmp_path):
    files = {"app.py": HEAD, ".chalice/deployed.json": json.dumps(V1)}
    files[".chalice/deployed/dev.json"] = '{"schema_version": "2.0", "resources": []}'
    assert found(tmp_path, files) == ()


def test_functions_that_are_called_otherwise_are_named_with_what_follows(tmp_path):
    old = {"dev": {**V1["dev"], "api_handler_name": "orders", "lambda_functions": {"old-gate": {}}}}
    said = found(tmp_path, {"app.py": HEAD, ".chalice/deployed.json": json.dumps(old)})
    whats = [one.what for one in said if one.rule == "resource-names"]
    assert whats == [
        "The recorded function old-gate is not called orders-dev-…: the next deployment makes a "
        "new one, and Chalice deletes this one.",
        "The recorded function orders is not called orders-dev: the next deployment makes a new "
        "one beside it and forgets this one.",
    ]


def test_functions_of_todays_state_are_compared_with_the_apps_name(tmp_path):
    def function(name, called):
        arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{called}"
        return {"resource_type": "lambda_function", "name": name, "lambda_arn": arn}

    resources = [
        function("api_handler", "orders-dev"),
        function("work", "orders-dev-work"),
        function("gate", "shop-dev-gate"),
        {"resource_type": "iam_role", "name": "default-role"},
    ]
    state = json.dumps({"schema_version": "2.0", "resources": resources}, indent=1)
    (one,) = found(tmp_path, {"app.py": HEAD, ".chalice/deployed/dev.json": state})
    assert (one.rule, one.subject, one.stage) == ("resource-names", "shop-dev-gate", "dev")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"dev": 1}', '{"dev": {"lambda_functions": []}}', '{"resources": [1, {}]}'],
)
def test_damaged_state_is_not_for_these_checks(text, tmp_path):
    for file in (".chalice/deployed.json", ".chalice/deployed/dev.json"):
        said = found(tmp_path / file.replace("/", "_"), {"app.py": HEAD, file: text})
        assert [one for one in said if one.rule != "v1-state"] == []


# --- Pythons --------------------------------------------------------------------------------------

WORKFLOW = "steps:\n  - with: {python-version: 'VERSION'}\n  - run: chalice deploy\n"


@pytest.mark.parametrize(
    ("chalice", "version", "release"),
    [
        ("1.34.0", "3.9", "1.33.0"),
        ("1.32.0", "3.9", None),
        ("1.32.0", "3.8", "1.32.0"),
        ("1.31.0", "3.7", "1.31.0"),
        ("1.31.0", "3.6", "1.31.0"),
        ("1.29.0", "2.7", "1.24.0"),
        ("1.29.0", "3.6", None),
        ("1.34.0", "3.10", None),
        ("1.34.0", "3.12", None),
    ],
)
def test_a_dropped_python_in_ci_names_the_release(chalice, version, release, tmp_path):
    files = {"app.py": HEAD, ".github/workflows/ci.yml": WORKFLOW.replace("VERSION", version)}
    said = found(tmp_path, files, chalice=chalice)
    if release is None:
        assert said == ()
    else:
        assert rules_at(said) == [("python-dropped", "warning", ".github/workflows/ci.yml:2")]
        assert f"Chalice {release} dropped" in said[0].what


@pytest.mark.parametrize(
    ("file", "text", "count"),
    [
        ("Pipfile", '[requires]\npython_version = "3.8"\n', 1),
        (".travis.yml", "python: 3.8\nscript: chalice deploy\n", 1),
        (".circleci/config.yml", "- image: cimg/python:3.8.1\n- run: chalice deploy\n", 1),
        ("Dockerfile", "FROM python:3.8-slim\nRUN chalice deploy\n", 1),
        (".python-version", "3.8.1\n", 1),
        (
            ".github/workflows/ci.yml",
            "python-version: ['3.8', '3.9']\n  chalice deploy\n",
            2,
        ),
        # No use of Chalice: what it installs is something else.
        (".travis.yml", "python: 3.8\nscript: pytest\n", 0),
        ("tox.ini", "[testenv]\npython = >=3.8\ncommands = chalice deploy\n", 0),
        (".python-version", "3.12.3\n", 0),
    ],
)
def test_where_a_python_is_asked_for(file, text, count, tmp_path):
    said = found(tmp_path, {"app.py": HEAD, file: text})
    assert [one.rule for one in said] == ["python-dropped"] * count


# --- all together ---------------------------------------------------------------------------------


def test_an_app_that_follows_every_note_has_no_findings(tmp_path):
    source = (
        HEAD
        + "@app.route('/orders/{order_id}', methods=['POST'])\n"
        + "def order(order_id):\n    return app.current_request.raw_body.decode().split('&')\n"
    )
    files = {"app.py": source, "deploy.sh": "chalice deploy --stage prod\n"}
    assert found(tmp_path, files) == ()


def test_source_that_this_python_cannot_parse_is_not_for_these_checks(tmp_path):
    assert said_of(tmp_path, "print 'hello'\n") == []
