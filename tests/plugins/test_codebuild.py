"""CodeBuild and CodePipeline: the template is made in the embedded AWS, the buildspecs are run."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from cfnlint.api import ManualArgs, lint

from chalice_ci.local import EmbeddedAWS
from plugins.bench import Bench, Door
from plugins.codebuild import (
    PARAMETERS,
    PARTS,
    PLUGIN,
    TEMPLATE,
    Batch,
    Build,
    configured,
    graph,
    template,
)
from plugins.vendors import load
from support.awsclients import clients_of
from support.commandline import commit, git, write


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


CHECKS = ("check", "many-apps", "many-apps-report")
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


def test_cfn_lint_finds_nothing_and_does_find_what_is_wrong() -> None:
    text = TEMPLATE.read_text()
    assert not lint(text, config=ManualArgs(regions=["eu-west-1"]))
    broken = "Resources: {Key: {Type: AWS::KMS::Key, Properties: {KeyPolicies: {}}}}"
    assert lint(broken, config=ManualArgs(regions=["eu-west-1"]))


def test_every_role_may_do_what_is_named_on_what_is_named() -> None:
    resources = template("batch")["Resources"]
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
    for role in ("CheckRole", "BatchRole", "PlanRole", "DeployRole", "PipelineRole"):
        (trust,) = statements(resources[role]["Properties"]["AssumeRolePolicyDocument"])
        assert "aws:SourceAccount" in json.dumps(trust["Condition"])


def test_what_checks_strangers_code_can_deploy_nothing() -> None:
    services = {"logs", "codeconnections", "codestar-connections", "codebuild"}
    assert {action.partition(":")[0] for action, _ in of_strangers("single")} == services
    assert {action.partition(":")[0] for action, _ in of_strangers("batch")} == {*services, "s3"}
    # A bucket of their own, in which they can't look around.
    reached = {(a, json.dumps(where)) for a, where in of_strangers("batch") if a[:3] == "s3:"}
    parts = json.dumps({"Fn::Sub": "${Parts.Arn}/*"})
    assert reached == {("s3:GetObject", parts), ("s3:PutObject", parts)}
    for name in CHECKS:
        assert "--network" not in (PLUGIN / f"{name}.yml").read_text()


def of_strangers(checks: str) -> list[tuple[str, Any]]:
    """What the role of a project that runs a pull request's code may do, and where."""
    role = template(checks)["Resources"]["CheckRole"]["Properties"]
    assert "ManagedPolicyArns" not in role
    return [
        (action, one["Resource"])
        for one in statements(role["Policies"])
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    ]


def test_a_batch_is_started_by_a_role_of_its_own_and_has_bounds() -> None:
    resources = template("batch")["Resources"]
    check = resources["Check"]["Properties"]
    assert check["Triggers"]["BuildType"] == "BUILD_BATCH"
    config = check["BuildBatchConfig"]
    assert config["ServiceRole"] == {"Fn::GetAtt": ["BatchRole", "Arn"]}
    assert len(graph()) <= config["Restrictions"]["MaximumBuildsAllowed"]
    (allowed,) = statements(resources["BatchRole"]["Properties"]["Policies"])
    assert {*allowed["Action"]} == {f"codebuild:{verb}Build" for verb in ("Start", "Stop", "Retry")}
    single = template("single")["Resources"]
    assert not {"BatchRole", "Parts", "PartsBucketPolicy"} & single.keys()
    assert "BuildBatchConfig" not in single["Check"]["Properties"]
    assert not {"Check", "CheckRole", "CheckLogs"} & template("none")["Resources"].keys()


def test_the_last_build_of_a_batch_waits_for_each_part_and_knows_them() -> None:
    *parts, report = graph()
    names = [one["identifier"] for one in parts]
    assert report["depend-on"] == names == report["env"]["variables"]["CHALICE_PARTS"].split()
    shares = [one["env"]["variables"]["CHALICE_CI_SHARE"] for one in parts]
    assert shares == [f"{number}/{len(parts)}" for number in range(1, len(parts) + 1)]
    # A part that could not even leave a report makes the batch fail whatever comes then.
    assert not any("ignore-failure" in one for one in graph())


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
        TemplateBody=json.dumps(supported(template("batch"))),
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


BASE = "refs/heads/main"
PULL = {
    "CODEBUILD_INITIATOR": "orders-check-batch/AWSCodeBuild-0190aa00",
    "CODEBUILD_WEBHOOK_TRIGGER": "pr/3",
    "CODEBUILD_WEBHOOK_BASE_REF": BASE,
    "CODEBUILD_WEBHOOK_HEAD_REF": "refs/heads/feature",
    "CHALICE_CI_FORK": "false",
}


@pytest.fixture
def checked(bench: Bench, begun: Path) -> Callable[[str], Batch]:
    """Starts a batch build of a pull request's project, of this name."""
    git(bench.workspace, "remote", "add", "origin", str(begun))
    return lambda name: Batch(bench, name, **configured("Check", checks="batch"), **PULL)


def results(bench: Bench) -> dict[str, dict[str, Any]]:
    """What the folded report says of each stage."""
    report = json.loads((bench.workspace / "chalice-ci-out/report.json").read_text())
    return {one["stage"]: one for one in report["results"]}


def test_the_parts_of_a_batch_are_folded_and_the_last_build_fails_for_them(
    bench: Bench, checked: Callable[[str], Batch], aws: EmbeddedAWS, started: Door
) -> None:
    s3 = clients_of(aws)("s3")
    s3.create_bucket(Bucket=PARTS)
    good = checked("0190aa00-0000-4000-8000-00000000000b")
    for identifier in ("part1", "part2", "report"):
        ran = good.run(identifier)
        assert ran.code == 0, ran.out + ran.err
    assert results(bench).keys() == {"dev", "prod"}
    names = {one["Key"] for one in s3.list_objects_v2(Bucket=PARTS)["Contents"]}
    assert {f"{good.batch}/report/{file}" for file in ("report.html", "junit.xml")} <= names
    kept = load(PLUGIN / "many-apps-report.yml")["reports"]["chalice-ci"]
    (junit,) = (bench.workspace / kept["base-directory"]).glob(kept["files"][0])
    assert ElementTree.parse(junit).getroot().get("failures") == "0"
    assert not any(
        "KEY" in name or "CREDENTIALS" in name for one in started.asked for name in one.env
    )
    spoken = [(*one.arguments, one.env.get("CHALICE_CI_COMMENT")) for one in started.asked]
    silent = ("run", "false")
    assert spoken == [silent, silent, ("matrix", None), ("report", None)]

    # An app that can't be loaded: each part finds it, the last build fails.
    write(bench.workspace, {"app.py": "import nowhere\n"})
    commit(bench.workspace, "Break it")
    bad = checked("0190aa00-0000-4000-8000-00000000000c")
    for identifier in ("part1", "part2"):
        ran = bad.run(identifier)
        assert ran.code == 0, "it left a report, so that the last build is started"
    assert bad.run("report").code == 1
    assert all(one["findings"] for one in results(bench).values())
    # A part whose machine died.
    s3.delete_object(Bucket=PARTS, Key=f"{bad.batch}/part1/report.json")
    s3.delete_object(Bucket=PARTS, Key=f"{bad.batch}/report/report.html")
    ran = bad.run("report")
    assert ran.code == 1
    assert "part1 left no report" in ran.err
    assert "/dev left no report of it" in results(bench)["dev"]["failure"]["what"]
    names = {one["Key"] for one in s3.list_objects_v2(Bucket=PARTS)["Contents"]}
    assert f"{bad.batch}/report/report.html" in names, "also of a build that failed"


def test_a_part_without_a_report_fails_and_so_does_one_outside_of_a_batch(
    bench: Bench, checked: Callable[[str], Batch], started: Door
) -> None:
    write(bench.workspace, {"chalice-ci-out/report.json": "{}"})
    git(bench.workspace, "add", "--force", "chalice-ci-out")
    commit(bench.workspace, "Bring a report along")
    bench.program("docker", "#!/bin/sh\nexit 125\n")
    ran = checked("0190aa00-0000-4000-8000-00000000000d").run("part1")
    assert (ran.code, ran.err) == (1, "")
    for identifier in ("part1", "report"):
        ran = checked("").run(identifier)
        assert ran.code == 1
        assert "start it as a batch build" in ran.err
    assert not started.asked


@pytest.mark.parametrize("name", [*CHECKS, "plan", "deploy"])
def test_a_buildspec_has_what_codebuild_knows(name: str) -> None:
    """After AWS's "Build specification reference for CodeBuild"; no schema of it is published."""
    spec = load(PLUGIN / f"{name}.yml")
    assert spec.keys() <= {"version", "env", "phases", "reports", "artifacts", "batch"}
    assert spec["version"] == 0.2
    assert spec["env"].keys() <= {"shell", "secrets-manager", "git-credential-helper"}
    assert {"build"} <= spec["phases"].keys() <= {"pre_build", "build", "post_build"}
    for phase in spec["phases"].values():
        assert all(isinstance(command, str) for command in phase["commands"])
    # The template's projects and the batch read them where the documentation puts them.
    specs = {one.get("buildspec") for one in graph()}
    for checks in ("single", "batch"):
        for one in template(checks)["Resources"].values():
            if one["Type"] == "AWS::CodeBuild::Project":
                specs.add(one["Properties"]["Source"]["BuildSpec"])
    assert f".codebuild/{name}.yml" in specs


def test_a_batch_has_what_codebuild_knows() -> None:
    """After AWS's "Batch build buildspec reference"."""
    batch = load(PLUGIN / "many-apps.yml")["batch"]
    assert batch.keys() == {"fast-fail", "build-graph"}
    names = [one["identifier"] for one in graph()]
    assert len({*names}) == len(names)
    for one in graph():
        known = {"identifier", "buildspec", "debug-session", "depend-on", "env", "ignore-failure"}
        assert {"identifier"} <= one.keys() <= known
        assert one["identifier"].isalnum()
        assert one["env"].keys() == {"variables"}
        assert all(isinstance(value, str) for value in one["env"]["variables"].values())
