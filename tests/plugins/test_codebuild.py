"""CodeBuild and CodePipeline: the template is made in the embedded AWS, the buildspecs are run."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cfnlint.decode
import pytest
from cfnlint.api import ManualArgs, lint

from chalice_ci.local import EmbeddedAWS
from plugins.bench import Bench, Door
from plugins.vendors import load
from support.awsclients import clients_of
from support.commandline import Ran, git

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins/codebuild"
TEMPLATE = PLUGIN / "pipeline.yml"
PARAMETERS = {
    "Connection": "arn:aws:codeconnections:us-east-1:123456789012:connection/1",
    "Repository": "octo/orders",
    "App": "orders",
    "Stage": "prod",
    "StateBucket": "orders-state",
    "PlanPolicies": "arn:aws:iam::123456789012:policy/orders-plan",
    "DeployPolicies": "arn:aws:iam::123456789012:policy/orders-deploy",
}


def template() -> dict[str, Any]:
    """The template with its functions as JSON has them."""
    document, problems = cfnlint.decode.decode(str(TEMPLATE))
    assert not problems
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain


def statements(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every statement of every policy in a part of the template."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        for inner in value.values():
            yield from statements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from statements(inner)


MADE = ("KMS::Key", "S3::Bucket", "Logs::LogGroup", "IAM::Role", "IAM::ManagedPolicy")


def supported(whole: dict[str, Any]) -> dict[str, Any]:
    """The template without what moto can't make; a reference to such a resource is its name."""
    resources = whole["Resources"]
    left = {k: v for k, v in resources.items() if v["Type"].removeprefix("AWS::") in MADE}
    gone = resources.keys() - left.keys()

    def named(value: Any) -> Any:
        match value:
            case {"Ref": str(name)} if name in gone:
                return f"arn:aws:made:us-east-1:123456789012:{name}"
            case {"Fn::Sub": str(text)}:
                for name in gone:
                    text = text.replace(f"${{{name}}}", name)
                return {"Fn::Sub": text}
            case dict():
                return {key: named(inner) for key, inner in value.items()}
            case list():
                return [named(inner) for inner in value]
        return value

    # Nothing that is made may be waiting for an output of what is not.
    return {"Parameters": whole["Parameters"], "Resources": named(left)}


class Build:
    """A build of a project: its variables, and the commands of its buildspec in one shell."""

    def __init__(self, bench: Bench, **variables: str) -> None:
        self.bench = bench
        self.variables = {
            "CODEBUILD_BUILD_ID": "orders:0190aa00-0000-4000-8000-000000000001",
            "CODEBUILD_BUILD_NUMBER": "7",
            "CODEBUILD_INITIATOR": "codepipeline/orders",
            "CODEBUILD_RESOLVED_SOURCE_VERSION": git(bench.workspace, "rev-parse", "HEAD"),
            "CODEBUILD_SRC_DIR": str(bench.workspace),
            "CI": "",
            **variables,
        }

    def run(self, name: str) -> Ran:
        spec = load(PLUGIN / f"{name}.yml")
        assert spec["env"]["shell"] == "bash"
        # A multi-line command is one command; the build stops at the first that fails.
        phases = (spec["phases"].get(name, {}) for name in ("pre_build", "build"))
        commands = [command for phase in phases for command in phase.get("commands", ())]
        return self.bench.step("\n".join(commands), **self.variables)

    def artifacts(self, name: str, target: Path) -> Path:
        """What the build hands on: the files below the base directory."""
        kept = load(PLUGIN / f"{name}.yml")["artifacts"]
        assert kept["files"] == ["**/*"]
        base = self.bench.workspace / kept["base-directory"]
        return Path(shutil.copytree(base, target))


def configured(project: str, action: str = "") -> dict[str, str]:
    """The variables of a project and of its action in the pipeline, as they would be filled in."""
    resources = template()["Resources"]
    found: dict[str, str] = {}
    for one in resources[project]["Properties"]["Environment"]["EnvironmentVariables"]:
        found[one["Name"]] = filled(one["Value"])
    for stage in resources["Pipeline"]["Properties"]["Stages"]:
        for each in stage["Actions"]:
            if each["Name"] == action:
                told = json.loads(filled(each["Configuration"]["EnvironmentVariables"]))
                found |= {one["name"]: one["value"] for one in told}
    return found


def filled(value: Any) -> str:
    """A value of the template with parameters put in, and variables of the pipeline."""
    known = {"Image": "an/image:1", "Branch": "main", "SigningKey": "arn:secret", **PARAMETERS}
    match value:
        case {"Ref": name}:
            return known[name]
        case {"Fn::Sub": str(text)}:
            inside = re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], text)
            pipeline = {
                "SourceVariables.BranchName": "main",
                "SourceVariables.CommitId": "COMMIT",
                "codepipeline.PipelineExecutionId": "0190aa00-0000-4000-8000-00000000000a",
            }
            return re.sub(r"#\{([\w.]+)\}", lambda match: pipeline[match[1]], inside)
    return str(value)


def test_cfn_lint_finds_nothing_and_does_find_what_is_wrong() -> None:
    text = TEMPLATE.read_text()
    assert not lint(text, config=ManualArgs(regions=["eu-west-1"]))
    broken = "Resources: {Key: {Type: AWS::KMS::Key, Properties: {KeyPolicies: {}}}}"
    assert lint(broken, config=ManualArgs(regions=["eu-west-1"]))


def test_every_role_may_do_what_is_named_on_what_is_named() -> None:
    resources = template()["Resources"]
    for name, resource in resources.items():
        for statement in statements(resource["Properties"]):
            if statement["Effect"] == "Deny" or "AssumeRole" in str(statement["Action"]):
                continue
            actions = statement["Action"]
            actions = [actions] if isinstance(actions, str) else actions
            if name == "Key":
                # A key without its account could be administered by nobody.
                assert ":root" in json.dumps(statement["Principal"])
                continue
            assert not any("*" in action for action in actions), name
            assert statement["Resource"] != "*", name
    for role in ("CheckRole", "PlanRole", "DeployRole", "PipelineRole"):
        (trust,) = statements(resources[role]["Properties"]["AssumeRolePolicyDocument"])
        assert "aws:SourceAccount" in json.dumps(trust["Condition"])


def test_what_checks_strangers_code_can_deploy_nothing() -> None:
    resources = template()["Resources"]
    check = resources["CheckRole"]["Properties"]
    assert "ManagedPolicyArns" not in check
    services = {a.partition(":")[0] for one in statements(check["Policies"]) for a in one["Action"]}
    assert services == {"logs", "codeconnections", "codestar-connections", "codebuild"}
    (docker,) = load(PLUGIN / "check.yml")["phases"]["build"]["commands"]
    assert "--network" not in docker


def test_only_after_the_approval_something_can_deploy() -> None:
    stages = template()["Resources"]["Pipeline"]["Properties"]["Stages"]
    assert [stage["Name"] for stage in stages] == ["Source", "Plan", "Approve", "Deploy"]
    (approval,) = stages[2]["Actions"]
    assert approval["ActionTypeId"]["Category"] == "Approval"
    (deploy,) = stages[3]["Actions"]
    (plan,) = stages[1]["Actions"]
    assert plan["OutputArtifacts"][0] in deploy["InputArtifacts"]
    assert deploy["Configuration"]["PrimarySource"] == "Code"
    assert deploy["Configuration"]["ProjectName"] == {"Ref": "Deploy"}


def test_the_stack_is_made_with_an_encrypted_bucket_that_is_not_public(aws: EmbeddedAWS) -> None:
    """moto makes keys, buckets, logs, roles and policies; of the other types it makes nothing."""
    aws.reset()
    client = clients_of(aws)
    given = [{"ParameterKey": k, "ParameterValue": v} for k, v in PARAMETERS.items()]
    client("cloudformation").create_stack(
        StackName="orders",
        TemplateBody=json.dumps(supported(template())),
        Parameters=given,
        Capabilities=["CAPABILITY_IAM"],
    )
    listed = client("cloudformation").list_stack_resources(StackName="orders")
    made = {one["LogicalResourceId"]: one for one in listed["StackResourceSummaries"]}
    bucket = made["Artifacts"]["PhysicalResourceId"]
    s3 = client("s3")
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    iam = client("iam")
    writes = {}
    for role, policy in (("PlanRole", "plan"), ("DeployRole", "deploy"), ("CheckRole", "check")):
        name = made[role]["PhysicalResourceId"]
        # moto keeps the document of a stack as Python writes it.
        text = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        document = ast.literal_eval(str(text))
        state = "arn:aws:s3:::orders-state/*"
        writes[role] = [s["Action"] for s in statements(document) if s["Resource"] == state]
    assert writes == {
        "PlanRole": [],
        "DeployRole": [["s3:PutObject", "s3:DeleteObject"]],
        "CheckRole": [],
    }


def test_a_pull_request_is_checked_without_credentials(
    bench: Bench, begun: Path, started: Door
) -> None:
    # CodeBuild fetches the head; the base is the buildspec's to fetch.
    git(bench.workspace, "remote", "add", "origin", str(begun))
    git(bench.workspace, "symbolic-ref", "--delete", "refs/remotes/origin/HEAD")
    git(bench.workspace, "update-ref", "-d", "refs/remotes/origin/main")
    build = Build(
        bench,
        **configured("Check"),
        CODEBUILD_INITIATOR="GitHub-Hookshot/1",
        CODEBUILD_WEBHOOK_TRIGGER="pr/3",
        CODEBUILD_WEBHOOK_BASE_REF="refs/heads/main",
        CODEBUILD_WEBHOOK_HEAD_REF="refs/heads/feature",
        CHALICE_CI_FORK="false",
    )
    ran = build.run("check")
    assert ran.code == 0, ran.out + ran.err
    (asked,) = started.asked
    assert not any("KEY" in name or "CREDENTIALS" in name for name in asked.env)
    kept = load(PLUGIN / "check.yml")["reports"]["chalice-ci"]
    (junit,) = (bench.workspace / kept["base-directory"]).glob(kept["files"][0])
    assert ElementTree.parse(junit).getroot().get("failures") == "0"


def test_the_plan_that_was_approved_is_what_is_deployed(
    bench: Bench, tmp_path: Path, functions: Callable[..., list[str]]
) -> None:
    key = {"CHALICE_CI_SIGNING_KEY": "a-key-of-forty-eight-characters-without-punctuation"}
    commit = git(bench.workspace, "rev-parse", "HEAD")

    def build(project: str) -> Build:
        variables = {
            name: value.replace("COMMIT", commit)
            for name, value in configured(project, project).items()
        }
        return Build(bench, **variables, **key)

    planning = build("Plan")
    planned = planning.run("plan")
    assert planned.code == 0, planned.out + planned.err
    assert functions() == []
    artifact = planning.artifacts("plan", tmp_path / "Planned")
    assert (artifact / "orders-prod.plan").read_bytes().startswith(b"CHALICE"), "it is encrypted"
    shutil.rmtree(bench.workspace / "chalice-ci-out")
    deploying = build("Deploy")
    deploying.variables["CODEBUILD_SRC_DIR_Planned"] = str(artifact)
    deployed = deploying.run("deploy")
    assert deployed.code == 0, deployed.out + deployed.err
    assert functions() == ["hello-prod-order"]


@pytest.mark.parametrize("name", ["check", "plan", "deploy"])
def test_a_buildspec_has_what_codebuild_knows(name: str) -> None:
    """After AWS's "Build specification reference for CodeBuild"; no schema of it is published."""
    spec = load(PLUGIN / f"{name}.yml")
    assert spec.keys() <= {"version", "env", "phases", "reports", "artifacts"}
    assert spec["version"] == 0.2
    assert spec["env"].keys() <= {"shell", "secrets-manager", "git-credential-helper"}
    assert {"build"} <= spec["phases"].keys() <= {"pre_build", "build"}
    for phase in spec["phases"].values():
        assert all(isinstance(command, str) for command in phase["commands"])
    # The template's projects read them where the documentation puts them.
    projects = template()["Resources"]
    specs = {
        one["Properties"]["Source"]["BuildSpec"]
        for one in projects.values()
        if one["Type"] == "AWS::CodeBuild::Project"
    }
    assert f".codebuild/{name}.yml" in specs
