"""`init` writes a set-up that our own linters, `doctor` and a first run accept, and never more."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalice_ci.access.document import LIMIT, Document, read
from chalice_ci.config import read_project_config
from chalice_ci.context import System
from chalice_ci.doctor.pipelines import pipeline_roles
from chalice_ci.doctor.tokens import token_findings
from chalice_ci.doctor.trust import trust_findings
from chalice_ci.doctor.workflows import workflow_findings
from chalice_ci.local.cloud import LocalCloud
from chalice_ci.positions import MapNode
from chalice_ci.reference import scaffold_files
from chalice_ci.scaffold import workflows
from chalice_ci.yaml_source import read_yaml
from support.commandline import APP, commit, environ, git, hello, write
from support.inprocess import run_here
from test_examples import actionlint, schema, tool, yamllint, zizmor

ROOT = Path(__file__).parents[1]
ACCOUNT = "123456789012"
ACTION = "org/chalice-action@v1"


class Terminal(io.StringIO):
    """A person who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that a process without rights can enter."""
    with tempfile.TemporaryDirectory(prefix="chalice-ci-init-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def new_project(place: Path) -> Path:
    """What `chalice new-project` makes, committed."""
    command = [str(Path(sys.executable).parent / "chalice"), "new-project", "shop"]
    subprocess.run(command, cwd=place, env=environ(), check=True, capture_output=True)
    root = place / "shop"
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit(root, "Begin")
    return root


def monorepo(place: Path) -> Path:
    """Two apps with two stages each, on GitHub, with another default branch."""
    root = place / "mono"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "trunk")
    git(root, "remote", "add", "origin", "git@github.com:org/mono.git")
    stages: dict[str, Any] = {"prod": {}, "dev": {}}
    for name in ("orders", "mail"):
        config = {"version": "2.0", "app_name": name, "stages": stages}
        write(
            root,
            {
                f"services/{name}/app.py": APP.replace("hello", name),
                f"services/{name}/.chalice/config.json": json.dumps(config),
                f"services/{name}/requirements.txt": "",
            },
        )
    commit(root)
    return root


def written(root: Path) -> set[str]:
    """The files that git does not know, or knows otherwise."""
    out = git(root, "status", "--short", "--untracked-files=all")
    names = {line.split()[-1] for line in out.splitlines()}
    return {name for name in names if not name.startswith("chalice-ci-out/")}


def lint(root: Path, tmp_path: Path) -> None:
    """All that the tests of the examples ask of a workflow."""
    paths = sorted((root / ".github/workflows").glob("*.yml"))
    done = actionlint(*paths, folder=tmp_path / "linted")
    assert done.returncode == 0, done.stdout + done.stderr
    for path in paths:
        assert schema(path).returncode == 0, schema(path).stdout
        assert zizmor(path).returncode == 0, zizmor(path).stdout
        assert yamllint(path).returncode == 0, yamllint(path).stdout
        for line, said in re.findall(r"(.*)# zizmor: (.*)", path.read_text()):
            assert line.strip().removeprefix("- ") == f"uses: {ACTION}"
            assert said.startswith("ignore[unpinned-uses] ")
        node, problems = read_yaml(path.read_text(), path.name)
        assert isinstance(node, MapNode)
        assert not problems
        rules = {finding.rule for finding in workflow_findings([node])}
        assert rules <= {"workflow-unpinned-action"}


def resolved(value: Any) -> Any:
    """A template's value as a stack would have it."""
    if isinstance(value, list):
        return [resolved(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Sub" in value:
        known = {"AWS::AccountId": ACCOUNT, "AWS::Region": "eu-west-1", "Repository": "org/shop"}
        return re.sub(r"\$\{([A-Za-z:]+)\}", lambda m: known[m[1]], value["Fn::Sub"])
    if "Fn::If" in value:
        return f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
    return {key: resolved(one) for key, one in value.items()}


def roles(root: Path) -> dict[str, tuple[dict[str, Any], list[Document]]]:
    """The roles of the template: trust policy and policies by name."""
    resources = json.loads((root / "chalice-roles.json").read_text())["Resources"]
    found = {}
    for resource in resources.values():
        if resource["Type"] == "AWS::IAM::Role":
            given = resource["Properties"]
            documents = [
                read(resolved(resources[one["Ref"]]["Properties"]["PolicyDocument"]), where="it")
                for one in given["ManagedPolicyArns"]
            ]
            found[given["RoleName"]] = (resolved(given["AssumeRolePolicyDocument"]), documents)
    return found


def test_a_new_project_is_set_up_and_runs_on_this_machine(place: Path, tmp_path: Path) -> None:
    root = new_project(place)
    ran = run_here("init", cwd=root)
    assert ran.code == 0, ran.err
    assert written(root) == {
        "chalice-ci.yml",
        ".github/workflows/chalice.yml",
        ".gitignore",
        "chalice-roles.json",
    }
    assert "+version: 1" in ran.out, "what is written is shown"
    assert "CHALICE_DEPLOY_ROLE" in ran.out, "what is left to do is said"
    lint(root, tmp_path)
    ((trust, policies),) = roles(root).values()
    assert list(trust_findings("deploy", trust, repository="org/shop")) == []
    assert policies
    commit(root, "Set up")
    cloud = root / ".git" / "chalice-ci-local"
    try:
        first = run_here("deploy", "--stage=dev", "--local", "--format=json", cwd=root)
        assert first.code == 0, first.err
        (result,) = first.report["results"]
        assert result["changed"]
        assert result["urls"]
        assert result["findings"] == []
        told = run_here("doctor", "--format=json", cwd=root, GITHUB_TOKEN="")
        assert told.code == 1
        found = [*told.report["findings"], *told.report["results"][0]["findings"]]
        assert {one["rule"] for one in found} == {"workflow-unpinned-action"}
    finally:
        running = LocalCloud.attach(cloud)
        if running is not None:
            running.stop()


def test_a_monorepo_with_previews_and_production(place: Path, tmp_path: Path) -> None:
    root = monorepo(place)
    arguments = ["--previews", f"--allowed-account={ACCOUNT}", "--aws-region=eu-west-1"]
    ran = run_here("init", *arguments, cwd=root)
    assert ran.code == 0, ran.err
    assert ran.out.count("make the environment production on GitHub") == 1
    names = {"chalice.yml", "chalice-previews.yml", "chalice-prod.yml"}
    assert written(root) == {
        *(f".github/workflows/{name}" for name in names),
        "chalice-ci.yml",
        "chalice-roles.json",
        ".gitignore",
    }
    lint(root, tmp_path)
    config = read_project_config(root, None)
    assert {app.path for app in config.apps} == {"services/mail", "services/orders"}
    told = [(stage.name, stage.needs, stage.environment) for stage in config.stages]
    assert told == [
        ("dev", None, None),
        ("prod", "dev", "production"),
    ]
    assert {stage.account for stage in config.stages} == {ACCOUNT}
    assert config.preview is not None
    assert config.preview.like == "dev"
    texts = {name: (root / ".github/workflows" / name).read_text() for name in names}
    assert 'branches: ["trunk"]' in texts["chalice.yml"]
    assert "pull_request" not in texts["chalice.yml"]
    assert f"arn:aws:iam::{ACCOUNT}:role/mono-chalice-preview" in texts["chalice-previews.yml"]
    assert "vars." not in "".join(texts.values())
    made = roles(root)
    used = {
        role
        for text in texts.values()
        for role in re.findall(rf"arn:aws:iam::{ACCOUNT}:role/([\w-]+)", text)
    }
    assert used == set(made)
    for name, (trust, policies) in made.items():
        assert list(trust_findings(name, trust, repository="org/mono")) == []
        assert all(document.size <= LIMIT for document in policies)
    planning = made["mono-chalice-plan"][1]
    actions = {a for d in planning for s in d.statements for a in s.actions}
    assert actions
    assert all(re.match(r"[a-z0-9]+:(Get|List|Describe)|apigateway:GET", a) for a in actions)
    again = run_here("init", *arguments, cwd=root)
    assert "everything is there already" in again.out
    assert again.code == 0


def test_nothing_is_overwritten_unless_it_is_said(place: Path) -> None:
    root = new_project(place)
    theirs = {".github/workflows/chalice.yml": "on: push\njobs: {}\n"}
    write(root, theirs)
    refused = run_here("init", cwd=root)
    assert refused.code == 2
    assert "-on: push" in refused.out, "the difference is shown"
    assert ".github/workflows/chalice.yml" in refused.err
    assert written(root) == set(theirs)
    assert run_here("init", "--dry-run", cwd=root).code == 0
    assert written(root) == set(theirs)
    assert run_here("init", "--force", cwd=root).code == 0
    assert "actions/checkout@" in (root / ".github/workflows/chalice.yml").read_text()
    # The configuration is never replaced: it is the repository's own.
    write(root, {"chalice-ci.yml": "version: 1\n# ours\n"})
    assert run_here("init", "--force", cwd=root).code == 0
    assert "# ours" in (root / "chalice-ci.yml").read_text()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    root = hello(tmp_path / "shop")
    make(root / ".gitlab-ci.yml")
    ran = run_here("init", "--system=gitlab", cwd=root)
    assert ran.code == 2
    assert "what is there is no file" in ran.err


@pytest.mark.parametrize("name", [".gitignore", "chalice-roles.json"])
def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path, name: str) -> None:
    root = hello(tmp_path / "shop")
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "file"
    (root / name).symlink_to(target)
    ran = run_here("init", "--system=gitlab", cwd=root)
    assert ran.code == 2
    assert f"{name}: a link leads out of the repository" in ran.err
    assert not target.exists()
    assert written(root) <= {name}


def test_nothing_is_written_into_a_folder_that_leads_out(tmp_path: Path) -> None:
    root = hello(tmp_path / "shop")
    (tmp_path / "elsewhere").mkdir()
    (root / ".github").symlink_to(tmp_path / "elsewhere")
    ran = run_here("init", "--system=github", cwd=root)
    assert ran.code == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_line_ends_of_a_file_stay_as_they_are(tmp_path: Path) -> None:
    root = hello(tmp_path / "shop")
    (root / ".gitignore").write_bytes(b"*.pyc\r\n.venv/\r\n")
    assert run_here("init", cwd=root).code == 0
    assert (root / ".gitignore").read_bytes() == b"*.pyc\r\n.venv/\r\nchalice-ci-out/\r\n"
    assert b"\r" not in (root / "chalice-ci.yml").read_bytes()
    assert "everything is there already" in run_here("init", cwd=root).out


def test_a_stage_that_only_chalice_takes_is_left_out(tmp_path: Path) -> None:
    stages = '{"app_name": "hello", "stages": {"dev": {}, "a/b": {}, "pr-7": {}, "prod": {}}}'
    root = hello(tmp_path / "shop", **{".chalice/config.json": stages})
    ran = run_here("init", cwd=root)
    assert ran.code == 0, ran.err
    told = " ".join(ran.out.split())
    assert "left out of chalice-ci.yml: 'a/b', 'pr-7' of config.json." in told
    # It is read without a problem.
    assert [stage.name for stage in read_project_config(root).stages] == ["dev", "prod"]


def test_a_branch_is_a_name_and_no_pattern(tmp_path: Path) -> None:
    root = hello(tmp_path / "shop")
    git(root, "branch", "--move", "c++/!#1")
    assert run_here("init", "--system=github", cwd=root).code == 0
    text = (root / ".github/workflows/chalice.yml").read_text(encoding="utf-8")
    (pattern,) = yaml.safe_load(text)[True]["push"]["branches"]
    assert pattern == r"c\+\+/\!#1"
    assert actionlint(root / ".github/workflows/chalice.yml", folder=tmp_path).returncode == 0


@pytest.mark.parametrize("name", ['a"b', "a${b}", "a`b", "{a}"])
def test_a_branch_that_is_more_than_a_name_is_refused(tmp_path: Path, name: str) -> None:
    root = hello(tmp_path / "shop")
    git(root, "branch", "--move", name)
    ran = run_here("init", cwd=root)
    assert ran.code == 2
    assert "read as more than a name" in ran.err
    assert written(root) == set()


@pytest.mark.parametrize("option", ["--app", "--stage"])
def test_init_is_for_the_whole_repository(tmp_path: Path, option: str) -> None:
    ran = run_here("init", option, "orders", cwd=tmp_path)
    assert ran.code == 2
    assert f"No such option '{option}'" in ran.err


@pytest.mark.parametrize("typed", ["", f"{ACCOUNT}\neu-west-1\nn\n"])
def test_an_input_that_ends_at_a_question_is_no_answer(tmp_path: Path, typed: str) -> None:
    root = hello(tmp_path / "shop")
    ran = run_here("init", cwd=root, stdin=Terminal(typed))
    assert ran.code == 2
    assert "the input ended at a question" in ran.err
    assert written(root) == set()


def test_a_person_at_a_terminal_is_asked(place: Path) -> None:
    root = new_project(place)
    said = Terminal(f"{ACCOUNT}\neu-west-1\nyes\nno\n")
    ran = run_here("init", cwd=root, stdin=said)
    assert "AWS account" in ran.err
    assert written(root) == set(), "what was shown was not wanted"
    said = Terminal(f"{ACCOUNT}\neu-west-1\nyes\n\n")
    assert run_here("init", cwd=root, stdin=said).code == 0
    assert "like: dev" in (root / "chalice-ci.yml").read_text()
    assert ACCOUNT in (root / ".github/workflows/chalice-previews.yml").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--allowed-account=12"], "is no AWS account"),
        (["--aws-region=Frankfurt"], "is no AWS region"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_written(
    place: Path, arguments: list[str], words: str
) -> None:
    root = new_project(place)
    ran = run_here("init", *arguments, cwd=root)
    assert ran.code == 2
    assert words in ran.err
    assert written(root) == set()


def test_a_repository_without_an_app_is_refused(place: Path) -> None:
    git(place, "init", "--quiet")
    ran = run_here("init", cwd=place)
    assert ran.code == 2
    assert "new-project" in ran.err or "Chalice app" in ran.err


def test_an_app_that_does_not_load_gets_roles_without_policies(place: Path) -> None:
    root = new_project(place)
    write(root, {"app.py": "import nothing_of_the_kind\n"})
    commit(root)
    ran = run_here("init", cwd=root)
    assert ran.code == 0
    assert "have no policies" in " ".join(ran.out.split())
    ((_, policies),) = roles(root).values()
    assert policies == []


def on_gitlab(place: Path) -> Path:
    root = new_project(place)
    git(root, "remote", "add", "origin", "git@gitlab.example:shop/back/orders.git")
    config = json.loads((root / ".chalice/config.json").read_text())
    config["stages"]["prod"] = {}
    write(root, {".chalice/config.json": json.dumps(config)})
    return root


def gitlab_schema(path: Path) -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", path)
    assert done.returncode == 0, done.stdout
    assert yamllint(path).returncode == 0, yamllint(path).stdout


def test_a_project_on_gitlab_gets_its_pipeline_and_roles(place: Path) -> None:
    root = on_gitlab(place)
    commit(root)
    given = ("--previews", "--allowed-account", ACCOUNT, "--aws-region", "eu-west-1")
    ran = run_here("init", *given, cwd=root)
    assert ran.code == 0, ran.err
    assert written(root) == {
        ".gitlab-ci.yml",
        ".gitignore",
        "chalice-ci.yml",
        "chalice-roles.json",
    }
    assert "GITLAB_TOKEN" in ran.out, "what is left to do is said"
    assert "chalice-ci doctor" in ran.out
    gitlab_schema(root / ".gitlab-ci.yml")
    pipeline = (root / ".gitlab-ci.yml").read_text()
    (include,) = yaml.safe_load(pipeline)["include"]
    deploying, previewing = (f"orders-{kind}" for kind in ("chalice-deploy", "chalice-preview"))
    assert include["inputs"] == {
        "preview": True,
        "preview-role": f"arn:aws:iam::{ACCOUNT}:role/{previewing}",
        "apply": "prod",
        "environment": "production",
    }
    component = (ROOT / "plugins/gitlab/templates/chalice.yml").read_text().split("\n---\n")[0]
    assert include["inputs"].keys() <= yaml.safe_load(component)["spec"]["inputs"].keys()
    stages = {stage.name: stage for stage in read_project_config(root).stages}
    assert stages["prod"].role == f"arn:aws:iam::{ACCOUNT}:role/{deploying}"
    assert stages["prod"].environment == "production"
    found = roles(root)
    assert found.keys() == {deploying, previewing}
    project = "project_path:shop/back/orders:ref_type"
    for name, operator, subjects in (
        (deploying, "StringLike", [f"{project}:branch:ref:main", f"{project}:tag:ref:v*"]),
        (previewing, "StringLike", [f"{project}:branch:ref:*"]),
    ):
        (statement,) = found[name][0]["Statement"]
        assert statement["Condition"][operator] == {"gitlab.example:sub": subjects}
        assert statement["Condition"]["StringEquals"] == {"gitlab.example:aud": "sts.amazonaws.com"}
        assert found[name][1], "policies"
    uses = {use.arn.partition("/")[2]: use for use in pipeline_roles({"it": pipeline})}
    assert [(name, use.previews) for name, use in uses.items()] == [(previewing, True)]
    for name, previews in ((deploying, False), (previewing, True)):
        trust = found[name][0]
        trust["Statement"][0]["Principal"] = {"Federated": "a:oidc-provider/gitlab.example"}
        told = token_findings(name, trust, system=System.GITLAB, previews=previews)
        assert [one.rule for one in told] == []
    # The same trust of a role that deploys would be too much.
    (told,) = token_findings(previewing, found[previewing][0], system=System.GITLAB)
    assert told.rule == "trust-subject-wildcard"
    commit(root, "Set up")
    again = run_here("init", *given, cwd=root)
    assert again.code == 0, again.err
    assert written(root) == set()


def test_a_pipeline_of_gitlab_that_is_there_stays_and_is_told_what_to_include(place: Path) -> None:
    root = on_gitlab(place)
    own = "test: {script: [make]}\n"
    # No app that loads: what is written does not depend on it, and nothing is built.
    write(root, {".gitlab-ci.yml": own, "app.py": "import nothing_of_that_name\n"})
    commit(root)
    ran = run_here("init", cwd=root)
    assert ran.code == 0, ran.err
    assert (root / ".gitlab-ci.yml").read_text() == own
    part = root / ".gitlab/chalice.gitlab-ci.yml"
    assert f"include: [{{local: {part.relative_to(root)}}}]" in ran.out
    assert "CHALICE_CI_ROLE_TO_ASSUME" in ran.out
    assert "workflow:" not in part.read_text()
    gitlab_schema(part)
    write(root, {".gitlab-ci.yml": f"include: [{{local: {part.relative_to(root)}}}]\n{own}"})
    part.unlink()
    assert run_here("init", cwd=root).code == 0
    assert not part.exists()


def test_the_package_carries_the_examples_as_they_are() -> None:
    folder = Path(workflows.__file__).parent
    carried = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert carried == scaffold_files(ROOT)
