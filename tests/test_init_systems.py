"""`init` for systems beside GitHub and GitLab: it is valid there, and trusts their jobs alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.api import ManualArgs, lint
from yamllint import linter
from yamllint.config import YamlLintConfig

from chalice_ci.access.document import Document, Statement
from chalice_ci.access.patterns import covers
from chalice_ci.config import read_project_config
from chalice_ci.context import System
from chalice_ci.inputs import SYSTEM
from chalice_ci.local.cloud import LocalCloud
from chalice_ci.scaffold.identity import PLAN_ROLE, ROLE
from chalice_ci.scaffold.pipelines import PIPELINES, pipeline
from chalice_ci.scaffold.role import role_name, roles, template
from chalice_ci.scaffold.setting import AUTO, TITLES, App, Setting, system_of
from plugins.azure import expanded
from plugins.circleci import packed, steps
from plugins.conftest import APP
from plugins.test_azure import find, without_extensions
from plugins.vendors import LINT, complaints
from support.commandline import commit, git, hello, write
from support.inprocess import run_here

ROOT = Path(__file__).parents[1]
ACCOUNT = "123456789012"
GIVEN = (f"--allowed-account={ACCOUNT}", "--aws-region=eu-central-1")
NOT_LOADABLE = {"app.py": "import nothing_of_that_name\n"}
"""Nothing is built, so the roles have no policies: what is looked at does not depend on them."""
SMALL = {
    "app.py": APP,
    ".chalice/config.json": '{"version": "2.0", "app_name": "hello", "stages": {"dev": {}}}',
}
SCHEMAS = {
    System.CIRCLECI: "circle-ci",
    System.BITBUCKET: "bitbucket-pipelines",
    System.AZURE: "azure-pipelines",
    System.BUILDKITE: "buildkite",
}
IDS = {
    "OrganizationId": "0190aa00-0000-4000-8000-00000000000a",
    "ProjectId": "0190aa00-0000-4000-8000-00000000000b",
    "Workspace": "octo",
    "WorkspaceId": "0190aa00-0000-4000-8000-00000000000c",
    "RepositoryId": "0190aa00-0000-4000-8000-00000000000d",
    "BranchEnvironmentId": "0190aa00-0000-4000-8000-000000000001",
    "PlanEnvironmentId": "0190aa00-0000-4000-8000-000000000002",
    "GateEnvironmentId": "0190aa00-0000-4000-8000-000000000003",
    "Organization": "octo",
    "Project": "shop",
    "Pipeline": "orders",
}
PLACES = ("context", "requires", "filters")
"""What a workflow of CircleCI says of a job beside its parameters."""
USER = "0190aa00-0000-4000-8000-00000000000e"


def setting(system: System, *, gated: bool, branch: str = "main") -> Setting:
    stages = ("dev", "live") if gated else ("dev",)
    return Setting(
        apps=(App(name="orders", path=".", stages=stages),),
        branch=branch,
        repository="octo/orders",
        host="github.com",
        system=system,
        account=ACCOUNT,
        region="eu-central-1",
        bucket=f"orders-chalice-state-{ACCOUNT}",
    )


def the_template(one: Setting) -> str:
    statement = Statement(sid="Look", actions=("sns:ListSubscriptions",), resources=("*",))
    policies = dict.fromkeys(roles(one), (Document(statements=(statement,)),))
    return template(one, policies, {role: role_name(one, role) for role in roles(one)})


# -- which system ---------------------------------------------------------------------------------

SYSTEMS: tuple[tuple[str, tuple[System, ...], str, System], ...] = (
    ("auto", (), "", System.GITHUB),
    ("auto", (), "github.com", System.GITHUB),
    ("auto", (), "git.example", System.GITHUB),
    ("auto", (), "gitlab.example", System.GITLAB),
    ("auto", (), "bitbucket.org", System.BITBUCKET),
    ("auto", (), "ssh.dev.azure.com", System.AZURE),
    ("auto", (), "octo.visualstudio.com", System.AZURE),
    ("auto", (), "git-codecommit.eu-west-1.amazonaws.com", System.CODEBUILD),
    ("auto", (System.JENKINS,), "", System.JENKINS),
    ("auto", (System.CIRCLECI,), "github.com", System.CIRCLECI),
    ("auto", (System.BUILDKITE,), "bitbucket.org", System.BUILDKITE),
    ("auto", (System.GITHUB, System.JENKINS), "github.com", System.GITHUB),
    ("auto", (System.JENKINS,), "gitlab.example", System.GITLAB),
    ("auto", (System.GITLAB,), "github.com", System.GITHUB),
    ("auto", (System.GITLAB,), "git.example", System.GITLAB),
    ("auto", (System.BITBUCKET,), "github.com", System.GITHUB),
    ("buildkite", (System.JENKINS,), "github.com", System.BUILDKITE),
    ("github", (), "gitlab.example", System.GITHUB),
)


@pytest.mark.parametrize(("said", "files", "host", "system"), SYSTEMS)
def test_the_system_is_known(
    said: str, files: tuple[System, ...], host: str, system: System
) -> None:
    assert system_of(said, files, host) is system


def test_every_system_can_be_asked_for() -> None:
    assert {*SYSTEM.choices} - {AUTO} == {*TITLES} == {*PIPELINES, System.GITHUB, System.GITLAB}


# -- pipelines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
@pytest.mark.parametrize("branch", ["main", "it's/#1"])
@pytest.mark.parametrize("system", PIPELINES)
def test_a_pipeline_is_valid_for_its_system_and_is_the_repositorys_own(
    system: System, branch: str, gated: bool, tmp_path: Path
) -> None:
    one = setting(system, gated=gated, branch=branch)
    text = pipeline(one)
    assert branch.replace("'", "''") in text or branch in text or system is System.JENKINS
    told = re.findall(r"arn:aws:iam::(\d+):role/([\w-]+)", text)
    assert {account for account, _ in told} <= {ACCOUNT}
    assert {role for _, role in told} <= {role_name(one, role) for role in roles(one)}
    assert not re.search(r"eu-west-1|\bprod\b|123456789012:role/chalice", text)
    if system is System.JENKINS:
        assert ("stage: 'live'" in text) == gated
        return
    assert not list(linter.run(text, YamlLintConfig(file=str(LINT / "yamllint.yml"))))
    name = "pipeline.yml"
    (tmp_path / name).write_text(text)
    if system is System.CODEBUILD:
        return
    document = yaml.safe_load(text)
    if system is System.AZURE:
        document = without_extensions(expanded(tmp_path / name, {}, find))
        (run,) = [stage for stage in document["stages"] if stage["stage"] == "run"]
        escaped = branch.replace("'", "''")
        assert run["condition"] == f"eq(variables['Build.SourceBranch'], 'refs/heads/{escaped}')"
    assert not complaints(SCHEMAS[system], document)
    assert ("live" in re.findall(r"\w+", text.partition("\n\n")[2] + text)) == gated


def test_a_pipeline_for_circleci_gives_the_orbs_jobs_what_they_take() -> None:
    orb = packed(ROOT / "plugins/circleci/src")
    document = yaml.safe_load(pipeline(setting(System.CIRCLECI, gated=True)))
    seen = []
    for workflow in document["workflows"].values():
        for job in workflow["jobs"]:
            ((name, given),) = job.items()
            if name.startswith("chalice-ci/"):
                own = {k: v for k, v in given.items() if k not in PLACES}
                assert list(steps(orb, name.removeprefix("chalice-ci/"), own))
                seen.append(name.removeprefix("chalice-ci/"))
    assert seen == ["check", "run", "plan", "deploy"]


# -- trust ----------------------------------------------------------------------------------------

_CIRCLE = f"org/{IDS['OrganizationId']}/project/{IDS['ProjectId']}/user/{USER}/vcs-origin"
_BITBUCKET = f"{{{IDS['RepositoryId']}}}"
_STEP = "{0190aa00-0000-4000-8000-0000000000ff}"
_BUILDKITE = "organization:octo:pipeline:orders:ref:refs"
TOKENS: dict[System, dict[str, set[str]]] = {
    # subject -> the roles that it may assume
    System.CIRCLECI: {
        f"{_CIRCLE}/github.com/octo/orders/vcs-ref/refs/heads/main": {ROLE},
        f"{_CIRCLE}/github.com/octo/orders/vcs-ref/refs/tags/v1.2": {ROLE, PLAN_ROLE},
        f"{_CIRCLE}/github.com/octo/orders/vcs-ref/refs/heads/feature": set(),
        f"{_CIRCLE}/github.com/fork/orders/vcs-ref/refs/heads/main": set(),
        # A branch whose name ends as the subject should.
        f"{_CIRCLE}/github.com/octo/orders/vcs-ref/refs/heads/x/vcs-origin/github.com/octo/orders"
        "/vcs-ref/refs/heads/main": set(),
    },
    System.BITBUCKET: {
        f"{_BITBUCKET}:{{{IDS['BranchEnvironmentId']}}}:{_STEP}": {ROLE},
        f"{_BITBUCKET}:{{{IDS['PlanEnvironmentId']}}}:{_STEP}": {PLAN_ROLE},
        f"{_BITBUCKET}:{{{IDS['GateEnvironmentId']}}}:{_STEP}": {ROLE},
        f"{_BITBUCKET}:{_STEP}": set(),
    },
    System.AZURE: {
        "sc://octo/shop/aws-deploy": {ROLE},
        "sc://octo/shop/aws-plan": {PLAN_ROLE},
        "sc://octo/other/aws-deploy": set(),
    },
    System.BUILDKITE: {
        f"{_BUILDKITE}/heads/main:commit:0f:step:run": {ROLE},
        f"{_BUILDKITE}/tags/v1:commit:0f:step:deploy": {ROLE},
        f"{_BUILDKITE}/tags/v1:commit:0f:step:plan": {PLAN_ROLE},
        f"{_BUILDKITE}/heads/main:commit:0f:step:check": set(),
        f"{_BUILDKITE}/heads/feature:commit:0f:step:run": set(),
        "organization:octo:pipeline:other:ref:refs/heads/main:commit:0f:step:run": set(),
    },
}
AUDIENCES = {
    System.CIRCLECI: IDS["OrganizationId"],
    System.BITBUCKET: f"ari:cloud:bitbucket::workspace/{IDS['WorkspaceId']}",
    System.AZURE: "api://AzureADTokenExchange",
    System.BUILDKITE: "sts.amazonaws.com",
}


def filled(value: Any) -> Any:
    """A template's value as a stack with the ids has it; a document that is a text, read."""
    match value:
        case {"Fn::Sub": [str(text), dict(more)]}:
            known = {**IDS, **{name: filled(one) for name, one in more.items()}}
            return json.loads(re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], text))
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(\w+)\}", lambda match: IDS[match[1]], text)
        case {"Fn::If": _}:
            return "the provider"
        case dict():
            return {key: filled(inner) for key, inner in value.items()}
        case list():
            return [filled(inner) for inner in value]
    return value


def trusts(text: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """Role, provider, audience and subjects of each role in a template."""
    for resource in json.loads(text)["Resources"].values():
        if resource["Type"] == "AWS::IAM::Role":
            given = resource["Properties"]
            (statement,) = filled(given["AssumeRolePolicyDocument"])["Statement"]
            assert statement["Principal"] == {"Federated": "the provider"}
            conditions = {k: v for one in statement["Condition"].values() for k, v in one.items()}
            ((provider, audience),) = [
                (key.removesuffix(":aud"), value)
                for key, value in conditions.items()
                if key.endswith(":aud")
            ]
            yield given["RoleName"], provider, audience, conditions[f"{provider}:sub"]


@pytest.mark.parametrize("system", TOKENS)
def test_a_role_trusts_the_tokens_of_its_jobs_and_no_others(system: System) -> None:
    one = setting(system, gated=True)
    text = the_template(one)
    provided = filled(json.loads(text)["Resources"]["Provider"]["Properties"])
    patterns = {}
    for role, provider, audience, subjects in trusts(text):
        assert audience == AUDIENCES[system]
        assert provided == {"Url": f"https://{provider}", "ClientIdList": [audience]}
        patterns[role.removeprefix("orders-")] = subjects
    for subject, wanted in TOKENS[system].items():
        found = {role for role, many in patterns.items() if any(covers(p, subject) for p in many)}
        assert found == wanted, subject


@pytest.mark.parametrize("system", [System.CIRCLECI, System.CODEBUILD])
def test_cfn_lint_finds_nothing_in_the_template(system: System) -> None:
    """One with a parameter in the provider's name, and one without a provider."""
    text = the_template(setting(system, gated=True))
    assert not lint(text, config=ManualArgs(regions=["eu-central-1"]))


@pytest.mark.parametrize("system", [System.JENKINS, System.CODEBUILD])
def test_a_system_without_tokens_gets_policies_and_no_role(system: System) -> None:
    made = json.loads(the_template(setting(system, gated=True)))
    kinds = sorted(resource["Type"] for resource in made["Resources"].values())
    assert kinds == [*["AWS::IAM::ManagedPolicy"] * 2, "AWS::S3::Bucket"]
    assert set(made["Outputs"]) == {"ChaliceDeployPolicies", "ChalicePlanPolicies"}
    assert "Provider" not in json.dumps(made)
    plain = json.loads(the_template(setting(system, gated=False)))
    # CodePipeline plans whatever it deploys.
    assert ("ChalicePlanPolicies" in plain["Outputs"]) == (system is System.CODEBUILD)


# -- the command ----------------------------------------------------------------------------------


def new_files(root: Path) -> set[str]:
    out = git(root, "status", "--short", "--untracked-files=all")
    names = {line.split()[-1] for line in out.splitlines()}
    return {name for name in names if not name.startswith("chalice-ci-out/")}


EVERY = {".gitignore", "chalice-ci.yml", "chalice-roles.json"}
SPECS = {f".codebuild/{name}.yml" for name in ("check", "plan", "deploy")}


@pytest.mark.parametrize("system", PIPELINES)
def test_what_is_written_is_read_again_and_stays(system: System, tmp_path: Path) -> None:
    root = hello(tmp_path / "shop", **NOT_LOADABLE)
    ran = run_here("init", f"--system={system}", *GIVEN, cwd=root)
    assert ran.code == 0, ran.out + ran.err
    specs = SPECS if system is System.CODEBUILD else set()
    assert new_files(root) == {*EVERY, PIPELINES[system].path, *specs}
    assert f"b/{PIPELINES[system].path}" in ran.out, "what is written is shown"
    config = read_project_config(root)
    assert (config.state.store, config.state.bucket) == ("s3", f"hello-chalice-state-{ACCOUNT}")
    again = run_here("init", f"--system={system}", *GIVEN, cwd=root)
    assert "everything is there already" in again.out
    assert again.code == 0


def test_what_a_person_changed_in_our_pipeline_is_not_lost(tmp_path: Path) -> None:
    root = hello(tmp_path / "shop", **NOT_LOADABLE)
    theirs = "@Library('chalice-ci@v1.0.0') _\nchalicePipeline(parts: 4)\n"
    write(root, {"Jenkinsfile": theirs})
    ran = run_here("init", *GIVEN, cwd=root)
    assert ran.code == 2
    assert "Jenkinsfile" in ran.err
    assert "-chalicePipeline(parts: 4)" in ran.out, "the difference is shown"
    assert new_files(root) == {"Jenkinsfile"}
    assert (root / "Jenkinsfile").read_text() == theirs


def test_a_repository_is_set_up_for_the_system_whose_file_it_has_and_its_pipeline_stays(
    tmp_path: Path,
) -> None:
    own = "pipeline { agent any }\n"
    root = hello(tmp_path / "shop", **NOT_LOADABLE, Jenkinsfile=own)
    ran = run_here("init", *GIVEN, cwd=root)
    assert ran.code == 0, ran.out + ran.err
    assert new_files(root) == {*EVERY, "Jenkinsfile.chalice"}
    assert (root / "Jenkinsfile").read_text() == own
    told = " ".join(ran.out.split())
    assert "Jenkinsfile stays as it is, and Jenkinsfile.chalice has ours" in told
    assert "Jenkins gives its jobs no token for AWS" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--system=jenkins",), "--allowed-account, --aws-region"),
        (
            ("--system=jenkins", "--previews", *GIVEN),
            "does not tell that a pull request was",
        ),
        (("--system=jenkinz",), "Did you mean 'jenkins'"),
    ],
)
def test_what_a_system_needs_is_asked_for_before_anything_is_written(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    root = hello(tmp_path / "shop", **NOT_LOADABLE)
    ran = run_here("init", *arguments, cwd=root)
    assert ran.code == 2
    assert words in " ".join(ran.err.split())
    assert new_files(root) == set()


def test_a_repository_for_bitbucket_runs_on_this_machine(tmp_path: Path) -> None:
    root = hello(tmp_path / "shop", **SMALL)
    git(root, "remote", "add", "origin", "git@bitbucket.org:octo/shop.git")
    ran = run_here("init", *GIVEN, cwd=root)
    assert ran.code == 0, ran.out + ran.err
    assert "chalice-ci doctor" in ran.out, "what comes next is said"
    made = json.loads((root / "chalice-roles.json").read_text())
    assert made["Parameters"]["Workspace"]["Default"] == "octo"
    policies = [
        resource["Properties"]["PolicyDocument"]["Statement"]
        for resource in made["Resources"].values()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
    ]
    assert f"shop-chalice-state-{ACCOUNT}" in json.dumps(policies), "the record is written there"
    commit(root, "Set up")
    try:
        first = run_here("deploy", "--stage=dev", "--local", "--format=json", cwd=root)
        assert first.code == 0, first.err
        assert first.report["results"][0]["changed"]
    finally:
        running = LocalCloud.attach(root / ".git" / "chalice-ci-local")
        if running is not None:
            running.stop()
