"""The verbs as a user runs them, on the embedded AWS.

In a process of their own where the process counts: its exit code, its streams, signals, `--local`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import boto3
import jsonschema
import pytest

from chalice_ci.demo import NOTIFICATIONS
from chalice_ci.local import EmbeddedAWS, LocalMode
from chalice_ci.report.document import schema
from support.commandline import (
    APP,
    CONFIG,
    SAMPLE,
    chalice_ci,
    command,
    commit,
    environ,
    git,
    hello,
    write,
)
from support.inprocess import run_here
from support.steps import event, outputs, pull_request


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start() as running:
        yield running


@pytest.fixture
def account(aws):
    """The variables of an empty AWS account."""
    aws.reset()
    return dict(aws.environ)


def client(account, service):
    return boto3.client(
        service,
        endpoint_url=account["AWS_ENDPOINT_URL"],
        region_name=account["AWS_DEFAULT_REGION"],
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )


def functions(account):
    return sorted(
        f["FunctionName"] for f in client(account, "lambda").list_functions()["Functions"]
    )


def state_of(repository, stage="dev", app="."):
    file = f"{'' if app == '.' else app + '/'}.chalice/deployed/{stage}.json"
    return json.loads(git(repository, "show", f"chalice-state:{file}"))


# -- check ----------------------------------------------------------------------------------------


def test_an_app_without_any_configuration_of_ours_is_checked_in_every_stage(tmp_path):
    ran = chalice_ci("check", "--format", "json", cwd=hello(tmp_path / "r"))
    assert ran.code == 0, ran.out + ran.err
    assert [result["stage"] for result in ran.report["results"]] == ["dev", "prod"]
    assert {result["verdict"] for result in ran.report["results"]} == {"ok"}


def test_the_output_folder_holds_a_valid_report_and_junit(tmp_path):
    repository = hello(tmp_path / "r")
    ran = run_here("check", "--stage", "dev", "--format", "json", cwd=repository)
    report = json.loads((repository / "chalice-ci-out" / "report.json").read_text())
    jsonschema.validate(report, schema())
    assert report == ran.report
    suites = ElementTree.parse(repository / "chalice-ci-out" / "junit.xml").getroot()
    assert suites.get("failures") == "0"
    assert int(suites.get("tests")) > 0


WEBSOCKET = APP + "\n\n@app.on_ws_message()\ndef message(event):\n    pass\n"


def test_an_experimental_feature_fails_the_build_with_its_line_and_the_fix(tmp_path):
    repository = hello(tmp_path / "r", **{"app.py": WEBSOCKET})
    ran = run_here("check", "--stage", "dev", "--format", "github", cwd=repository)
    assert ran.code == 1
    assert "app.experimental_feature_flags.update(['WEBSOCKETS'])" in ran.out
    assert "app.py:11" in ran.out
    assert "::error file=app.py,line=11" in ran.out


def test_findings_do_not_depend_on_the_current_directory(tmp_path):
    repository = hello(tmp_path / "r", **{"app.py": WEBSOCKET})
    inside = run_here("check", "--stage", "dev", "--format", "json", cwd=repository)
    outside = run_here(
        *("check", "--stage", "dev", "--format", "json", "--project-dir", repository), cwd=tmp_path
    )
    assert inside.result["findings"] == outside.result["findings"]


def test_warnings_fail_only_where_that_is_asked_for(tmp_path):
    config = CONFIG.replace('"app_name"', '"lambda_memroy_size": 256, "app_name"')
    repository = hello(tmp_path / "r", **{".chalice/config.json": config})
    arguments = ("check", "--stage", "dev", "--format", "json")
    assert run_here(*arguments, cwd=repository).code == 0
    ran = run_here(*arguments, "--fail-on", "warning", cwd=repository)
    assert (ran.code, ran.report["exit_code"]) == (1, 1)


BROKEN = {
    "syntax": ("app.py", "def broken(:\n", 1),
    "import": ("app.py", "import nowhere_to_be_found\n" + APP, 1),
    "exit": ("app.py", "import sys\nsys.exit(3)\n", 1),
    "hard-exit": ("app.py", "import os\nos._exit(0)\n", 1),
    "no-app": ("app.py", "from chalice import Chalice\napplication = 1\n", 1),
    "wrong-type": ("app.py", "app = 'not an app'\n", 1),
    "exception": ("app.py", APP + "\nraise RuntimeError('boom')\n", 1),
    "aws-call": ("app.py", "import boto3\nboto3.client('s3').list_buckets()\n" + APP, 1),
    "network": ("app.py", "import urllib.request as u\nu.urlopen('http://127.0.0.1:9')\n", 1),
    "duplicate-route": ("app.py", APP + "\n@app.route('/')\ndef again():\n    pass\n", 1),
    "recursion": ("app.py", "def f():\n    return f()\nf()\n", 1),
    "empty": ("app.py", "", 1),
    "not-text": ("app.py", "\x00\x01\x02", 1),
    "bad-route": ("app.py", APP + "\n@app.route('nope/')\ndef bad():\n    pass\n", 1),
    "old-chalice": ("requirements.txt", "chalice==1.0.0\n", 1),
    "config-json": (".chalice/config.json", "{not json", 1),
    "config-type": (".chalice/config.json", "[]", 1),
    "no-such-package": ("requirements.txt", "no-such-package-anywhere-at-all==1.0\n", 11),
    "option": ("requirements.txt", "-e .\n", 11),
    "yaml": ("chalice-ci.yml", "version: 1\nstagse: {}\n", 2),
    "python": ("chalice-ci.yml", 'version: 1\napps: {hello: {path: ., python: "3.8"}}\n', 1),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_app_ends_in_the_documented_exit_code_with_place_and_fix(tmp_path, case):
    file, text, code = BROKEN[case]
    repository = hello(tmp_path / "r", **{file: text})
    ran = run_here("check", "--stage", "dev", cwd=repository)
    said = ran.out + ran.err
    assert ran.code == code, said
    assert file in said or "app.py" in said or "requirements.txt" in said, said
    assert "Fix:" in said or "Did you mean" in said, said


def test_an_unknown_stage_and_app_and_folder_are_usage_errors(tmp_path):
    repository = hello(tmp_path / "r")
    for arguments, words in (
        (("check", "--stage", "dve"), "Did you mean 'dev'"),
        (("check", "--app", "hallo"), "The apps are"),
        (("check", "--project-dir", "nowhere"), "no such directory"),
        (("check", "--config", "nowhere.yml"), "nowhere.yml"),
        (("delete",), "--stage"),
        (("deploy", "--plan", "nowhere.plan"), "nowhere.plan"),
    ):
        ran = chalice_ci(*arguments, cwd=repository)
        assert ran.code in (2, 16), ran
        assert words in ran.err, ran


# -- package --------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["vendor", "chalicelib/results"])
def test_the_output_folder_is_refused_where_the_next_package_would_hold_it(tmp_path, out):
    repository = hello(tmp_path)
    ran = run_here("package", "--stage", "dev", "--out", out, cwd=repository)
    assert ran.code == 2
    assert "the output folder lies in" in ran.out + ran.err
    assert not (repository / out).exists(), "the next package would hold the report"


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
@pytest.mark.parametrize("verb", ["check", "package"])
def test_an_output_folder_that_cannot_be_is_named(tmp_path, verb):
    repository = hello(tmp_path)
    ran = run_here(verb, "--stage", "dev", "--out", "/proc/none/of it", cwd=repository)
    assert ran.code == 2
    assert "/proc/none/of it" in ran.out + ran.err
    assert "--out" in ran.out + ran.err


def test_package_writes_archive_template_and_manifest_per_stage(tmp_path):
    repository = hello(tmp_path / "r", **{"requirements.txt": "attrs==25.3.0\n"})
    ran = run_here("package", "--stage", "dev", "--format", "json", cwd=repository)
    assert ran.code == 0, ran.out + ran.err
    (name,) = [path.name for path in (repository / "chalice-ci-out").iterdir() if path.is_dir()]
    folder = repository / "chalice-ci-out" / name / "dev"
    assert sorted(p.name for p in folder.iterdir()) == [
        *("deployment.zip", "manifest.json", "models.json", "sam.json", "snapshot.json"),
    ]
    with zipfile.ZipFile(folder / "deployment.zip") as archive:
        assert archive.testzip() is None
        assert {"app.py", "chalice/app.py", "attr/__init__.py"} <= set(archive.namelist())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [d["name"] for d in manifest["dependencies"]] == ["attrs"]
    template = json.loads((folder / "sam.json").read_text())
    assert template["Resources"]["APIHandler"]["Properties"]["CodeUri"] == "./deployment.zip"
    (archived,) = ran.result["package"]["archives"]
    assert archived["path"] == f"{name}/dev/deployment.zip"


# -- deploy, url, state, delete -------------------------------------------------------------------


def test_a_stage_is_deployed_recorded_updated_and_deleted(tmp_path, account):
    repository = hello(tmp_path / "r")
    first = chalice_ci("deploy", "--format", "json", cwd=repository, **account)
    assert first.code == 0, first.out + first.err
    assert functions(account) == ["hello-dev"]
    assert first.result["state"]["commit"] == git(repository, "rev-parse", "chalice-state")
    state = state_of(repository)
    assert {r["resource_type"] for r in state["resources"]} == {
        *("iam_role", "lambda_function", "rest_api"),
    }
    assert "[skip ci]" in git(repository, "log", "-1", "--format=%s", "chalice-state")

    before = git(repository, "rev-parse", "chalice-state")
    again = chalice_ci("deploy", "--format", "json", cwd=repository, **account)
    assert again.code == 0
    assert again.result["state"]["changed"] is False
    assert git(repository, "rev-parse", "chalice-state") == before

    gone = chalice_ci("delete", "--stage", "dev", "--format", "json", cwd=repository, **account)
    assert gone.code == 0, gone.out + gone.err
    assert functions(account) == []
    assert client(account, "iam").list_roles()["Roles"] == []
    assert client(account, "apigateway").get_rest_apis()["items"] == []
    assert state_of(repository)["resources"] == []
    assert git(repository, "status", "--porcelain") == "?? chalice-ci-out/"

    nothing = chalice_ci("delete", "--stage", "dev", cwd=repository, **account)
    assert nothing.code == 0
    assert "nothing is recorded" in nothing.out


def test_delete_needs_no_code_that_works(tmp_path, account):
    repository = hello(tmp_path / "r")
    assert run_here("deploy", cwd=repository, **account).code == 0
    write(repository, {"app.py": "this is no Python\n"})
    ran = run_here("delete", "--stage", "dev", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    assert functions(account) == []


def test_delete_without_config_json_believes_the_configured_name_and_not_the_record(
    tmp_path, account
):
    repository = hello(tmp_path / "r")
    assert run_here("deploy", cwd=repository, **account).code == 0
    (repository / ".chalice" / "config.json").unlink()
    write(repository, {"chalice-ci.yml": "version: 1\napps: {other: {path: .}}\n"})
    refused = run_here("delete", "--stage", "dev", cwd=repository, **account)
    assert refused.code == 2
    assert "not named other-dev" in refused.out + refused.err
    assert functions(account) == ["hello-dev"]
    write(repository, {"chalice-ci.yml": "version: 1\napps: {hello: {path: .}}\n"})
    assert run_here("delete", "--stage", "dev", cwd=repository, **account).code == 0
    assert functions(account) == []


def test_url_and_state_are_read_from_the_record(tmp_path, account):
    repository = hello(tmp_path / "r")
    assert run_here("deploy", cwd=repository, **account).code == 0
    shown = run_here("url", "--format", "json", cwd=repository)
    assert shown.code == 0
    (url,) = shown.result["urls"]
    assert url["address"].startswith("https://")
    listed = run_here("state", "show", "--stage", "dev", cwd=repository)
    assert "hello-dev" in listed.out
    pulled = run_here("state", "pull", "--stage", "dev", cwd=repository)
    assert pulled.code == 0, pulled.err
    file = repository / ".chalice" / "deployed" / "dev.json"
    assert json.loads(file.read_text()) == state_of(repository)


def test_a_laptops_state_is_imported_once_and_not_overwritten_by_another(tmp_path, account):
    repository = hello(tmp_path / "r")
    assert run_here("deploy", cwd=repository, **account).code == 0
    other = hello(tmp_path / "other")
    file = tmp_path / "dev.json"
    file.write_text(json.dumps(state_of(repository)))
    arguments = ("state", "import", file, "--stage", "dev")
    first = run_here(*arguments, "--format", "json", cwd=other)
    assert first.code == 0
    assert first.result["state"]["changed"]
    assert first.result["state"]["commit"] == git(other, "rev-parse", "chalice-state")
    assert state_of(other) == state_of(repository)
    head = git(other, "rev-parse", "chalice-state")
    assert run_here(*arguments, cwd=other).code == 0
    assert git(other, "rev-parse", "chalice-state") == head
    file.write_text(json.dumps({**state_of(repository), "resources": []}))
    refused = run_here(*arguments, cwd=other)
    assert refused.code == 2
    assert "--force" in refused.err
    assert run_here(*arguments, "--force", cwd=other).code == 0


def test_a_stage_that_nobody_holds_is_told_so(tmp_path):
    repository = hello(tmp_path / "r")
    ran = run_here("state", "unlock", "--stage", "dev", cwd=repository)
    assert ran.code == 0, ran.out + ran.err
    assert "nobody holds this stage" in ran.out


def test_a_record_of_another_account_is_not_deployed_over(tmp_path, account):
    repository = hello(tmp_path / "r")
    assert run_here("deploy", cwd=repository, **account).code == 0
    foreign = json.dumps(state_of(repository)).replace("123456789012", "999999999999")
    file = tmp_path / "dev.json"
    file.write_text(foreign)
    imported = run_here("state", "import", file, "--stage", "dev", "--force", cwd=repository)
    assert imported.code == 0, imported.err
    for verb in ("deploy", "delete"):
        refused = run_here(verb, "--stage", "dev", cwd=repository, **account)
        assert refused.code == 19, refused.out + refused.err
        assert "999999999999" in refused.out
        assert "To drop them" in refused.out
    assert functions(account) == ["hello-dev"]


@pytest.mark.parametrize("address", ["../home.git", "{root}/home.git"])
def test_the_record_goes_to_the_remote_whatever_form_its_path_has(tmp_path, account, address):
    git(tmp_path, "init", "--quiet", "--bare", "home.git")
    repository = hello(tmp_path / "r")
    git(repository, "config", "remote.origin.url", address.format(root=tmp_path))
    asked = ("--stage", "dev", "--project-dir", repository, "--out", tmp_path / "out")
    ran = run_here("deploy", *asked, cwd="/", **account)
    assert ran.code == 0, ran.err
    assert state_of(tmp_path / "home.git")["resources"]


def test_a_credential_in_the_remotes_address_stands_in_no_ones_way_and_is_never_shown(tmp_path):
    repository = hello(tmp_path)
    git(repository, "config", "remote.origin.url", "https://ci:hunter2@localhost:9/x.git")
    assert run_here("check", "--stage", "dev", cwd=repository).code == 0
    ran = run_here("url", "--stage", "dev", cwd=repository)
    assert ran.code == 13
    assert "localhost:9" in ran.err
    assert "hunter2" not in ran.out + ran.err


def test_a_state_that_cannot_be_recorded_is_kept_even_without_an_output_folder(tmp_path, account):
    home, spare = tmp_path / "home.git", tmp_path / "spare"
    spare.mkdir()
    git(tmp_path, "init", "--quiet", "--bare", "home.git")
    repository = hello(tmp_path / "r")
    git(repository, "config", "remote.origin.url", str(home))
    assert chalice_ci("deploy", "--stage", "dev", cwd=repository, **account).code == 0
    hook = home / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    # The journal is taken, the state after it is not.
    hook.write_text(
        "#!/bin/sh\nread old new ref\ngit ls-tree -r --name-only $new | grep -q journal && exit 0\n"
        "echo protected >&2; exit 1\n"
    )
    hook.chmod(0o755)
    arguments = ("delete", "--stage", "dev", "--out", "app.py")
    ran = chalice_ci(*arguments, cwd=repository, TMPDIR=str(spare), **account)
    assert ran.code != 0
    (kept,) = spare.rglob("hello-dev.state.json")
    assert json.loads(kept.read_text())["resources"] == []
    assert str(kept) in ran.err


def test_nothing_is_deployed_when_it_could_not_be_recorded(tmp_path, account):
    git(tmp_path, "init", "--quiet", "--bare", "home.git")
    repository = hello(tmp_path / "r")
    git(repository, "config", "remote.origin.url", str(tmp_path / "home.git"))
    hook = tmp_path / "home.git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected >&2; exit 1\n")
    hook.chmod(0o755)
    ran = run_here("deploy", "--stage", "dev", cwd=repository, **account)
    assert ran.code == 13
    assert "nothing was deployed" in ran.out
    assert functions(account) == []


def test_the_first_run_takes_over_what_the_default_branch_has_committed(tmp_path, account):
    repository = hello(tmp_path / "r")
    assert run_here("deploy", cwd=repository, **account).code == 0
    run_here("state", "pull", "--stage", "dev", cwd=repository)
    git(repository, "branch", "-D", "chalice-state")
    commit(repository, "Commit the state as plain Chalice users do")
    ran = run_here("deploy", cwd=repository, **account)
    assert ran.code == 0, ran.err
    assert "first run: state taken from .chalice/deployed/dev.json" in ran.err
    assert len(client(account, "apigateway").get_rest_apis()["items"]) == 1


def test_states_of_two_apps_live_side_by_side(tmp_path, account):
    repository = tmp_path / "r"
    hello(repository)
    for name in ("one", "two"):
        folder = repository / "services" / name
        folder.mkdir(parents=True)
        for file in ("app.py", "requirements.txt"):
            shutil.copy(repository / file, folder / file)
        write(folder, {".chalice/config.json": CONFIG.replace("hello", name)})
        (folder / "app.py").write_text(APP.replace("hello", name))
    shutil.rmtree(repository / ".chalice")
    (repository / "app.py").unlink()
    commit(repository)
    ran = run_here("deploy", "--stage", "dev", "--format", "json", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    assert [r["app"] for r in ran.report["results"]] == ["one", "two"]
    assert functions(account) == ["one-dev", "two-dev"]
    assert state_of(repository, app="services/one") != state_of(repository, app="services/two")
    only = run_here(
        *("delete", "--stage", "dev", "--project-dir", "services/one"), cwd=repository, **account
    )
    assert only.code == 0, only.out + only.err
    assert functions(account) == ["two-dev"]


def test_a_preview_takes_the_settings_of_its_model_without_a_file_being_written(tmp_path, account):
    config = CONFIG.replace('"dev": {}', '"dev": {"lambda_memory_size": 320}')
    repository = hello(
        tmp_path / "r",
        **{".chalice/config.json": config, "chalice-ci.yml": "version: 1\npreview: {like: dev}\n"},
    )
    ran = run_here("deploy", "--stage", "pr-7", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    (function,) = client(account, "lambda").list_functions()["Functions"]
    assert (function["FunctionName"], function["MemorySize"]) == ("hello-pr-7", 320)
    assert run_here("delete", "--stage", "pr-7", cwd=repository, **account).code == 0
    assert functions(account) == []


# -- plans ----------------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path, account):
    repository = hello(tmp_path / "r")
    ran = run_here("plan", "--stage", "dev", "--format", "json", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    plan = repository / ran.result["plan"]["path"]
    assert plan.is_file()
    assert functions(account) == []
    return repository, plan


def test_exactly_the_sealed_plan_is_applied(planned, account):
    repository, plan = planned
    write(repository, {"app.py": "changed after the plan was made\n"})
    ran = run_here("deploy", "--plan", plan, "--format", "json", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    with zipfile.ZipFile(plan) as archive:
        (sealed,) = [n for n in archive.namelist() if n.startswith("packages/")]
    assert ran.result["plan"]["digest"]
    (function,) = client(account, "lambda").list_functions()["Functions"]
    assert bytes.fromhex(sealed.removeprefix("packages/").removesuffix(".zip")) == (
        __import__("base64").b64decode(function["CodeSha256"])
    )


def test_a_plan_of_another_commit_is_refused_and_nothing_is_touched(planned, account):
    repository, plan = planned
    write(repository, {"README": "another commit\n"})
    commit(repository)
    ran = run_here("deploy", "--plan", plan, cwd=repository, **account)
    assert ran.code == 16
    assert "made for commit" in ran.err + ran.out
    assert functions(account) == []


def test_beside_the_code_a_recorded_state_is_no_newer_code(tmp_path, account):
    """`branch: source`: what a deploy pushes there must not make the plans of others old."""
    home = tmp_path / "home.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "home.git")
    repository = hello(tmp_path / "r", **{"chalice-ci.yml": "state: {branch: source}\n"})
    git(repository, "remote", "add", "origin", home)
    git(repository, "push", "--quiet", "--set-upstream", "origin", "main")
    planning = ("plan", "--stage", "prod", "--format", "json")
    planned = run_here(*planning, cwd=repository, **account)
    assert planned.code == 0, planned.out + planned.err
    plan = repository / planned.result["plan"]["path"]
    code = git(repository, "rev-parse", "HEAD")
    ran = run_here("deploy", "--stage", "dev", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    git(repository, "pull", "--quiet")
    assert git(repository, "rev-parse", "HEAD") != code
    assert (repository / ".chalice/deployed/dev.json").is_file()
    said = git(repository, "log", "--format=%B", f"{code}..HEAD")
    assert f"hello/dev: deployed at {code[:12]} [skip ci]" in said
    assert git(repository, "diff", "--name-only", code, "HEAD", "--", "app.py") == ""
    ran = run_here("deploy", "--plan", plan, cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    assert functions(account) == ["hello-dev", "hello-prod"]
    git(repository, "pull", "--quiet")
    write(repository, {"app.py": APP.replace("world", "moon")})
    commit(repository)
    refused = run_here("deploy", "--plan", plan, cwd=repository, **account)
    assert refused.code == 16
    assert "made for commit" in refused.out + refused.err


def test_a_plan_whose_state_moved_is_refused(planned, account):
    repository, plan = planned
    assert run_here("deploy", cwd=repository, **account).code == 0
    ran = run_here("deploy", "--plan", plan, cwd=repository, **account)
    assert ran.code == 15, ran.out + ran.err
    assert "recorded state changed" in ran.err + ran.out


def test_a_tampered_plan_is_refused(planned, account):
    repository, plan = planned
    data = bytearray(plan.read_bytes())
    data[len(data) // 2] ^= 0xFF
    plan.write_bytes(data)
    ran = run_here("deploy", "--plan", plan, cwd=repository, **account)
    assert ran.code == 16, ran.out + ran.err
    assert functions(account) == []


def test_a_plan_is_not_applied_to_another_stage_than_its_own(planned, account):
    repository, plan = planned
    ran = run_here("deploy", "--plan", plan, "--stage", "prod", cwd=repository, **account)
    assert ran.code == 2
    assert "this plan is for stage dev" in ran.err
    # In a folder its file's name counts for nothing.
    plan.rename(plan.with_name("hello-prod.plan"))
    ran = run_here("deploy", "--plan", plan.parent, "--stage", "prod", cwd=repository, **account)
    assert ran.code == 16
    assert "there is no plan of prod in this folder" in ran.err
    ran = run_here("deploy", "--plan", plan.parent, cwd=repository, **account)
    assert ran.code == 2
    assert "--stage NAME" in ran.err
    assert functions(account) == []


def test_the_wrong_account_is_refused_before_anything(tmp_path, account):
    yml = 'version: 1\nstages: {dev: {deploy-on: {branch: main}, account: "210987654321"}}\n'
    repository = hello(tmp_path / "r", **{"chalice-ci.yml": yml})
    ran = run_here("deploy", cwd=repository, **account)
    assert ran.code == 19
    assert "210987654321" in ran.out + ran.err
    assert functions(account) == []
    allowed = run_here("deploy", "--allowed-account", "123456789012", cwd=repository, **account)
    assert allowed.code == 0, allowed.out + allowed.err


def test_prod_needs_the_same_package_to_be_live_in_dev(tmp_path, account):
    yml = "version: 1\nstages: {dev: {deploy-on: {branch: main}}, prod: {needs: dev}}\n"
    repository = hello(tmp_path / "r", **{"chalice-ci.yml": yml})
    early = run_here("deploy", "--stage", "prod", cwd=repository, **account)
    assert early.code == 16
    assert "nothing is deployed in dev" in early.out + early.err
    assert run_here("deploy", cwd=repository, **account).code == 0
    assert run_here("deploy", "--stage", "prod", cwd=repository, **account).code == 0
    write(repository, {"app.py": APP.replace("world", "moon")})
    commit(repository)
    other = run_here("deploy", "--stage", "prod", cwd=repository, **account)
    assert other.code == 16
    assert "the app package live in dev" in other.out + other.err
    both = run_here("deploy", "--stage", "prod", "--stage", "dev", cwd=repository, **account)
    assert both.code == 0, both.out + both.err


def test_a_failing_deploy_is_recorded_as_far_as_it_came(tmp_path, account, aws):
    repository = hello(tmp_path / "r")
    aws.order_faults(
        [{"operation": "ImportRestApi", "action": "error", "status": 400, "code": "BadRequest"}]
    )
    try:
        ran = run_here("deploy", "--format", "json", cwd=repository, **account)
    finally:
        aws.order_faults([])
    assert ran.code == 12, ran.out + ran.err
    assert {r["resource_type"] for r in state_of(repository)["resources"]} == {
        *("iam_role", "lambda_function"),
    }
    assert run_here("deploy", cwd=repository, **account).code == 0
    assert len(client(account, "apigateway").get_rest_apis()["items"]) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_deploy_ends_at_a_call_and_is_recorded(tmp_path, number, code):
    repository = hello(tmp_path / "r")
    with EmbeddedAWS.start(LocalMode(lat=0.3)) as slow:
        process = subprocess.Popen(
            command("deploy"),
            cwd=repository,
            env=environ(**slow.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in process.stderr:
            if "Creating lambda function" in line:
                break
        process.send_signal(number)
        begun = time.monotonic()
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert time.monotonic() - begun < 30
        assert "Traceback" not in err
        recorded = {r["resource_type"] for r in state_of(repository)["resources"]}
        assert "iam_role" in recorded
        live = functions(dict(slow.environ))
        assert bool(live) == ("lambda_function" in recorded)


def run_script(script, *, cwd=None, seconds=50):
    """A Python process of its own, which a signal may end."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("module", ["click", "chalice_ci.cli", "chalice_ci.streams"])
def test_a_signal_while_we_are_being_imported_ends_without_a_trace(module, number, code):
    script = f"""
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder())
import chalice_ci.__main__
"""
    done = run_script(script, seconds=60)
    assert done.returncode == code
    assert done.stderr == "Interrupted before anything was begun.\n"


DEAF = {
    "a finalizer": """
class Deaf:
    def __del__(self):
        deafen()
""",
    "a file that is closed by one": """
import io
class Deaf(io.RawIOBase):
    def close(self):
        deafen()
""",
    "what swallows everything": """
class Deaf:
    def __init__(self):
        try:
            deafen()
        except BaseException:
            pass
""",
}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("where", DEAF)
def test_a_signal_is_not_lost_where_python_drops_what_is_raised(where, number, code):
    """It says so of a finalizer, and nothing of a file that one closes."""
    script = f"""
import os, sys, time
from chalice_ci.signals import Signals, Terminated
def deafen():
    os.kill(os.getpid(), {int(number)})
    time.sleep(0)
{DEAF[where]}
signals = Signals()
signals.listen()
try:
    Deaf()
    time.sleep(60)
except (Terminated, KeyboardInterrupt):
    signals.over = True
    sys.exit({code})
"""
    done = run_script(script)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_is_being_cleaned_up_after_is_not_sent_again(number):
    """Nor when the same one comes in between, or another error takes its place on the way."""
    script = f"""
import os, time
from chalice_ci.signals import Signals
def send():
    os.kill(os.getpid(), {int(number)})
    time.sleep(0)
heard = 0
signals = Signals()
signals.listen()
try:
    try:
        send()
    except BaseException:
        heard += 1
        try:
            send()
        except KeyboardInterrupt:
            heard += 1
        time.sleep(0.3)
        raise ValueError
except ValueError:
    time.sleep(0.3)
    signals.over = True
time.sleep(0.3)
send()
print(heard)
"""
    done = run_script(script)
    twice = number is signal.SIGINT
    assert (done.stdout, done.stderr, done.returncode) == (f"{1 + twice}\n", "", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_told_where_nothing_may_be_left_in_the_middle(number):
    """It is raised at the end of that, a second one of another kind at once."""
    script = f"""
import os, signal, time
from chalice_ci.signals import Signals, Terminated
def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0)
signals = Signals()
signals.listen()
with signals.held() as told:
    assert told.error is None
try:
    with signals.held() as told:
        send({int(number)})
        print(type(told.error).__name__)
        send(signal.SIGTERM) if {int(number)} == signal.SIGTERM else None
        try:
            send(signal.SIGINT)
        except KeyboardInterrupt:
            print("second")
except (Terminated, KeyboardInterrupt) as error:
    print(type(error).__name__, error is told.error)
    signals.over = True
"""
    done = run_script(script)
    name = "Terminated" if number is signal.SIGTERM else "KeyboardInterrupt"
    assert (done.stdout, done.stderr) == (f"{name}\nsecond\n{name} True\n", "")


@pytest.mark.parametrize("before", [False, True])
def test_a_signal_is_raised_where_something_may_be_left_in_the_middle(before):
    """At once, also when it was told before; afterwards it is told again."""
    script = f"""
import os, signal, time
from chalice_ci.signals import Signals, Terminated
def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0)
signals = Signals()
signals.listen()
try:
    with signals.held() as told:
        send(signal.SIGTERM) if {before} else None
        try:
            with signals.raised():
                send(signal.SIGTERM)
                print("not raised")
        except Terminated as error:
            print("raised", error is told.error)
        send(signal.SIGINT) if not {before} else None
        print(type(told.error).__name__)
except (Terminated, KeyboardInterrupt) as error:
    print(error is told.error)
    signals.over = True
"""
    done = run_script(script)
    told = "Terminated" if before else "KeyboardInterrupt"
    assert (done.stdout, done.stderr) == (f"raised {before}\n{told}\nTrue\n", "")


def test_a_signal_leaves_no_lock_of_a_process_behind():
    """`Popen.poll` takes one in a step and sees to its release in the next."""
    script = """
import signal, subprocess, threading
from chalice_ci.signals import Signals
def hear(_, frame):
    signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)
# From the system: another thread could send one only where this one lets it.
signal.signal(signal.SIGVTALRM, hear)
kept = 0
with subprocess.Popen(["sleep", "60"]) as process:
    for number in range(300):
        signals = Signals()
        signals.listen()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0001 + number % 10 * 0.0001)
        try:
            while True:
                process.poll()
                sum(range(1000))
        except KeyboardInterrupt:
            signals.over = True
        if process._waitpid_lock.acquire(False):
            process._waitpid_lock.release()
        else:
            kept += 1
            process._waitpid_lock = threading.Lock()
    process.kill()
print(kept)
"""
    done = run_script(script, seconds=100)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_reader_that_stopped_reading_does_not_hold_up_the_end(number, code):
    """What was to be told is in the buffer when the signal comes, and its pipe is full."""
    script = f"""
import os
from chalice_ci import streams
from chalice_ci.__main__ import main
write = streams.Steady.write
def interrupted(self, text):
    write(self, text)
    if text and self.fileno() == 1:
        os.kill(os.getpid(), {int(number)})
    return len(text)
streams.Steady.write = interrupted
main(["--version"])
"""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env=environ(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
    )
    os.close(reading)
    os.close(writing)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wait", ["Event().wait()", "process.wait()", "process.communicate()"])
def test_a_signal_ends_a_wait(wait):
    """Also within what is left alone otherwise."""
    script = f"""
import os, signal, subprocess, threading
from threading import Event
from chalice_ci.signals import Signals, Terminated
signals = Signals()
signals.listen()
process = subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
try:
    {wait}
except Terminated:
    signals.over = True
    print("ended")
finally:
    process.kill()
"""
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("ended\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_end_of_an_import(tmp_path, number):
    """Left in the middle it keeps its lock, and what C imports makes an ImportError of it."""
    (tmp_path / "slow.py").write_text(
        f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(0.2)\nwhole = True\n"
    )
    script = """
import sys
from chalice_ci.signals import Signals, Terminated
signals = Signals()
signals.listen()
sys.path.insert(0, ".")
try:
    import slow
    import time
    time.sleep(60)
except (Terminated, KeyboardInterrupt):
    signals.over = True
    print(slow.whole)
"""
    done = run_script(script, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True\n", "")


# -- the embedded AWS from the command line -------------------------------------------------------


def test_a_local_deploy_answers_over_http_and_never_touches_the_real_record(tmp_path):
    from chalice_ci.local import LocalCloud

    repository = hello(tmp_path / "r")
    try:
        ran = chalice_ci("deploy", "--local", "--format", "json", cwd=repository)
        assert ran.code == 0, ran.out + ran.err
        (url,) = ran.result["urls"]
        with urllib.request.urlopen(url["address"], timeout=20) as answer:
            assert json.load(answer) == {"hello": "world"}
        shown = chalice_ci("url", "--local", "--format", "json", cwd=repository)
        assert shown.result["urls"] == [url]
        branches = git(repository, "branch", "--format", "%(refname:short)").splitlines()
        assert branches == ["chalice-state-local", "main"]
    finally:
        LocalCloud.attach_or_start(repository / ".git" / "chalice-ci-local").stop()


def test_the_sample_of_the_demo_is_refused_until_it_opts_in(tmp_path):
    repository = tmp_path / "r"
    shutil.copytree(SAMPLE / "orders", repository / "services" / "orders")
    with (repository / "services" / "orders" / "app.py").open("a") as app:
        app.write(NOTIFICATIONS)
    shutil.copy(SAMPLE / "chalice-ci.yml", repository)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(repository))
    commit(repository)
    ran = run_here("check", "--stage", "dev", "--format", "json", cwd=repository)
    assert ran.code == 1
    assert [f["rule"] for f in ran.result["findings"]] == ["experimental-feature"]


def test_files_that_root_writes_belong_to_the_owner_of_the_workspace(tmp_path):
    import os

    if os.geteuid() != 0:
        pytest.skip("only root writes into somebody else's workspace")
    repository = hello(tmp_path / "r")
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 1001, 1001, follow_symlinks=False)
    ran = run_here("package", "--stage", "dev", cwd=repository)
    assert ran.code == 0, ran.out + ran.err
    owners = {path.stat().st_uid for path in (repository / "chalice-ci-out").rglob("*")}
    assert owners == {1001}
    assert (repository / "chalice-ci-out").stat().st_uid == 1001
    assert Path(repository / "chalice-ci-out" / "report.json").stat().st_mode & 0o044


def test_json_on_stdout_stays_json_on_github_too(tmp_path):
    repository = hello(tmp_path / "r", **{"app.py": WEBSOCKET})
    env = event(repository, tmp_path, "push")
    ran = chalice_ci("check", "--stage", "dev", "--format", "json", cwd=repository, **env)
    assert ran.code == 1
    assert ran.result["findings"]
    assert "::error" in ran.err


def test_a_run_that_ends_in_an_error_still_leaves_its_report_and_outputs(tmp_path):
    repository = hello(tmp_path / "r")
    env = event(repository, tmp_path, "push")
    ran = chalice_ci("check", "--stage", "dve", "--format", "json", cwd=repository, **env)
    assert ran.code == 2
    assert ran.report["failure"]["exit_code"] == 2
    assert json.loads((repository / "chalice-ci-out" / "report.json").read_text()) == ran.report
    assert outputs(env)["failure-reason"] == "usage"


def test_what_differs_from_the_commit_is_said_before_it_is_deployed(tmp_path, account):
    repository = hello(tmp_path / "r")
    write(repository, {"app.py": APP.replace("world", "moon")})
    ran = run_here("deploy", "--format", "json", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    (finding,) = ran.result["findings"]
    assert (finding["rule"], finding["at"]["file"]) == ("uncommitted-changes", "app.py")


@pytest.mark.parametrize("verb", ["plan", "deploy", "delete"])
def test_a_forks_run_touches_no_account_whatever_the_workflow_says(tmp_path, account, verb):
    repository = hello(tmp_path / "r")
    pull = pull_request(repository, fork=True)
    env = event(repository, tmp_path, "pull_request", action="opened", pull=pull)
    ran = run_here(verb, "--stage", "dev", cwd=repository, **env, **account)
    assert ran.code == 2
    assert "fork" in ran.err
    assert functions(account) == []


def test_linked_work_trees_share_the_embedded_aws(tmp_path):
    from chalice_ci.local import LocalCloud

    repository = hello(tmp_path / "r")
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "--quiet", str(linked))
    try:
        assert chalice_ci("deploy", "--stage", "dev", "--local", cwd=repository).code == 0
        ran = chalice_ci("delete", "--stage", "dev", "--local", cwd=linked)
        assert ran.code == 0, ran.out + ran.err
        assert "operations" in ran.out
        assert not (repository / ".git" / "worktrees" / "linked" / "chalice-ci-local").exists()
    finally:
        LocalCloud.attach_or_start(repository / ".git" / "chalice-ci-local").stop()
