"""The guides of docs/migrating.md, followed from where plain Chalice left a stage.

Each starts with a repository whose stage the real `chalice deploy` made, runs the command lines
that the guide has, and ends with the stage recorded and no resource made anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.validate import ParamValidator

from chalice_ci.local.aws import EmbeddedAWS
from chalice_ci.state.schema import StateDamaged
from chalice_ci.state.stack import is_stack, parse_stack
from support.chalicecli import PlainChalice
from support.commandline import commit, git, write
from support.inprocess import run_here
from support.stories import kept_folder, tool_environ

GUIDE = Path(__file__).parents[1] / "docs/migrating.md"
MARKED = re.compile(r"<!-- guide: (?P<name>[\w-]+) -->\n```console\n(?P<text>.*?)```", re.DOTALL)
REGION = "eu-west-1"
# Each deploys for real, twice: `make test` follows the oldest and the strangest way.
deep = pytest.mark.skipif(
    os.environ.get("MIGRATING") != "all", reason="all ways are followed by `make test-deep`"
)

APP = """from chalice import Chalice, Rate

app = Chalice(app_name="orders")


@app.route("/orders/{number}")
def order(number):
    return {"number": number}


@app.schedule(Rate(1, unit=Rate.HOURS))
def tidy(event):
    pass


@app.on_sqs_message(queue="orders-incoming", batch_size=5)
def take(event):
    pass
"""
CONFIG = {"version": "2.0", "app_name": "orders", "stages": {"dev": {}}}
SHELL_STEP = """name: Deploy
on: {push: {branches: [main]}}
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - run: pip install chalice && chalice deploy --stage dev
"""
IDENTITIES = {
    "iam": ("list_roles", "Roles", "Arn"),
    "lambda": ("list_functions", "Functions", "FunctionArn"),
    "apigateway": ("get_rest_apis", "items", "id"),
    "events": ("list_rules", "Rules", "Arn"),
}


def commands(name: str) -> tuple[tuple[str, ...], ...]:
    """The command lines of a part of the guide."""
    (text,) = [m["text"] for m in MARKED.finditer(GUIDE.read_text()) if m["name"] == name]
    return tuple(tuple(shlex.split(line)) for line in text.splitlines())


class Stage:
    """A repository, its remote, and the AWS in which `chalice deploy` made its stage."""

    def __init__(self, root: Path, aws: EmbeddedAWS) -> None:
        self.aws = aws
        self.repository, self.origin = root / "orders", root / "origin.git"
        self.environ = {
            **tool_environ(root / "home", aws),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "CHALICE_CI_CACHE_DIR": f"{kept_folder()}/cache",
            "CHALICE_CI_QUIET": "true",
        }
        self.state = self.repository / ".chalice/deployed/dev.json"

    def client(self, service: str) -> Any:
        import boto3

        session = boto3.Session("embedded", "embedded", region_name=REGION)
        return session.client(service, endpoint_url=self.aws.endpoint_url)

    def identities(self) -> Mapping[str, frozenset[str]]:
        """What tells one resource from another that took its place."""
        found = {}
        for service, (call, key, identity) in IDENTITIES.items():
            listed = getattr(self.client(service), call)()[key]
            # Also when it was made: another one of the same name is another one.
            found[service] = frozenset(
                f"{one[identity]} {one.get('CreateDate')}{one.get('createdDate')}" for one in listed
            )
        mappings = self.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        return {**found, "mappings": frozenset(one["UUID"] for one in mappings)}

    def follow(
        self, *names: str, aws: Callable[[tuple[str, ...]], None] | None = None
    ) -> list[str]:
        """Run the guide's own command lines; what was called at AWS that changes something.

        `aws` does what the command of that name would do.
        """
        self.aws.forget_calls()
        for name in names:
            for head, *arguments in commands(name):
                if head == "git":
                    git(self.repository, *arguments)
                    continue
                if head == "aws" and aws is not None:
                    aws(tuple(arguments))
                    continue
                assert head == "chalice-ci", f"the guide starts {head}"
                ran = run_here(*arguments, cwd=self.repository, **self.environ)
                assert ran.code == 0, (arguments, ran.out + ran.err)
        return [call["operation"] for call in self.aws.calls() if call["mutating"]]

    def recorded(self) -> Any:
        """The state on the remote's branch."""
        return json.loads(git(self.origin, "show", "chalice-state:.chalice/deployed/dev.json"))


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    """One AWS, emptied for each guide."""
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(scope="module")
def chalice(aws: EmbeddedAWS) -> Iterator[PlainChalice]:
    """The real command line of Chalice."""
    with (
        tempfile.TemporaryDirectory(prefix="chalice-ci-home-") as home,
        PlainChalice(Path(sys.executable), environ=tool_environ(Path(home), aws)) as running,
    ):
        yield running


@pytest.fixture
def stage(aws: EmbeddedAWS, chalice: PlainChalice) -> Iterator[Stage]:
    """A stage that plain Chalice has deployed, its file where `chalice deploy` leaves it."""
    aws.reset()
    with tempfile.TemporaryDirectory(prefix="chalice-ci-migrating-") as folder:
        Path(folder).chmod(0o755)
        made = repository(Path(folder), aws)
        attributes = {"VisibilityTimeout": "360"}
        made.client("sqs").create_queue(QueueName="orders-incoming", Attributes=attributes)
        region = {"AWS_DEFAULT_REGION": REGION}
        said = chalice.run(made.repository, ["deploy", "--stage", "dev"], environ=region)
        assert said.code == 0, said.text
        yield made


def repository(root: Path, aws: EmbeddedAWS) -> Stage:
    """A repository with its remote, before anything is deployed."""
    made = Stage(root, aws)
    files = {
        "app.py": APP,
        "requirements.txt": "",
        ".chalice/config.json": json.dumps(CONFIG),
        ".github/workflows/deploy.yml": SHELL_STEP,
        ".gitignore": ".chalice/deployments/\n",
    }
    write(made.repository, files)
    git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(made.origin))
    git(made.repository, "init", "--quiet", "--initial-branch=main")
    git(made.repository, "remote", "add", "origin", str(made.origin))
    commit(made.repository, "Begin")
    git(made.repository, "push", "--quiet", "origin", "main")
    return made


FILES = re.compile(r"<!-- file: (?P<name>[\w./-]+) -->\n```json\n(?P<text>.*?)```", re.DOTALL)
STACK = "ordersBetaStack"


class Stack:
    """What CloudFormation makes of the template that `chalice package` writes, as it does it.

    The embedded AWS has no CloudFormation. Names are made up, everything else is the template's.
    """

    def __init__(self, stage: Stage, template: Any) -> None:
        self.stage = stage
        self.template = template
        resources = template["Resources"]
        trust = json.dumps(resources["DefaultRole"]["Properties"]["AssumeRolePolicyDocument"])
        self.role = f"{STACK}-DefaultRole-4D5E6F"
        iam, functions = stage.client("iam"), stage.client("lambda")
        role = iam.create_role(RoleName=self.role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        handler = resources["APIHandler"]["Properties"]
        self.function = f"{STACK}-APIHandler-1A2B3C"
        arn = functions.create_function(
            FunctionName=self.function,
            Runtime=handler["Runtime"],
            Handler=handler["Handler"],
            Role=role,
            Tags=handler["Tags"],
            Code={"ZipFile": (stage.repository / "packaged/deployment.zip").read_bytes()},
        )["FunctionArn"]
        uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"
        body = resources["RestAPI"]["Properties"]["DefinitionBody"]
        for methods in body["paths"].values():
            for method in methods.values():
                method["x-amazon-apigateway-integration"]["uri"] = uri
        apis = stage.client("apigateway")
        self.api = apis.import_rest_api(body=json.dumps(body).encode())["id"]
        apis.create_deployment(restApiId=self.api, stageName="api")

    def described(self) -> Any:
        """What DescribeStackResources answers, checked against botocore's description of it."""
        arn = f"arn:aws:cloudformation:{REGION}:123456789012:stack/{STACK}/0a1b2c3d"
        types = {
            "DefaultRole": ("AWS::IAM::Role", self.role),
            "APIHandler": ("AWS::Lambda::Function", self.function),
            "RestAPI": ("AWS::ApiGateway::RestApi", self.api),
            "RestAPIapiStage": ("AWS::ApiGateway::Stage", "api"),
        }
        answer = {
            "StackResources": [
                {
                    "StackName": STACK,
                    "StackId": arn,
                    "LogicalResourceId": name,
                    "PhysicalResourceId": physical,
                    "ResourceType": kind,
                    "Timestamp": "2026-01-01T00:00:00+00:00",
                    "ResourceStatus": "UPDATE_COMPLETE",
                }
                for name, (kind, physical) in types.items()
            ]
        }
        service = self.stage.client("cloudformation").meta.service_model
        shape = service.operation_model("DescribeStackResources").output_shape
        assert not ParamValidator().validate(answer, shape).has_errors()
        return answer

    def tag(self, name: str) -> None:
        """Tag the function as Chalice's template does for a stage."""
        arn = f"arn:aws:lambda:{REGION}:123456789012:function:{self.function}"
        tag = {"aws-chalice": f"version=1.34.0:stage={name}:app=orders"}
        self.stage.client("lambda").tag_resource(Resource=arn, Tags=tag)

    def command(self, arguments: tuple[str, ...]) -> None:
        """What the guide's commands of the AWS CLI do."""
        match arguments:
            case ("cloudformation", "describe-stack-resources", "--stack-name", name, ">", file):
                assert name == STACK
                (self.stage.repository / file).write_text(json.dumps(self.described()))
            case ("cloudformation", "delete-stack", "--stack-name", name):
                assert name == STACK
                self.stage.client("lambda").delete_function(FunctionName=self.function)
            case ("codepipeline", "disable-stage-transition", *_):
                pass
            case _:
                raise AssertionError(arguments)


@pytest.fixture
def stack(aws: EmbeddedAWS, chalice: PlainChalice) -> Iterator[Stack]:
    """A repository as `chalice generate-pipeline` leaves it, its stack deployed."""
    aws.reset()
    with tempfile.TemporaryDirectory(prefix="chalice-ci-migrating-") as folder:
        Path(folder).chmod(0o755)
        made = repository(Path(folder), aws)
        # Without what has to be there before: the stack is about names.
        (made.repository / "app.py").write_text(APP.partition("@app.schedule")[0].rstrip() + "\n")
        region = {"AWS_DEFAULT_REGION": REGION}
        # Chalice knows no image of its own for today's Pythons.
        image = ["--codebuild-image", "aws/codebuild/amazonlinux-x86_64-standard:5.0"]
        pipeline = ["generate-pipeline", "--buildspec-file", "buildspec.yml", *image, "p.json"]
        files = {found["name"]: found["text"] for found in FILES.finditer(GUIDE.read_text())}
        (made.repository / "retain.json").write_text(files["retain.json"])
        package = ["package", "--merge-template", "retain.json", "packaged"]
        for arguments in (pipeline, package):
            said = chalice.run(made.repository, arguments, environ=region)
            assert said.code == 0, said.text
        template = json.loads((made.repository / "packaged/sam.json").read_text())
        # What is merged has the names that Chalice has.
        assert template["Resources"].keys() == {"APIHandler", "APIHandlerInvokePermission"} | {
            *json.loads(files["retain.json"])["Resources"]
        }
        found = Stack(made, template)
        shutil.rmtree(made.repository / "packaged")
        (made.repository / ".gitignore").write_text("stack.json\n")
        commit(made.repository, "As the pipeline deploys it")
        yield found


def test_from_a_pipeline_of_chalice(stack: Stack) -> None:
    stage, api = stack.stage, stack.api
    before = stage.identities()
    calls = stage.follow("pipeline", aws=stack.command)
    assert calls == []
    (recorded,) = stage.recorded()["resources"]
    assert recorded["rest_api_id"] == api
    assert recorded["rest_api_url"] == f"https://{api}.execute-api.{REGION}.amazonaws.com/api/"
    files = {found["name"]: found["text"] for found in FILES.finditer(GUIDE.read_text())}
    (stage.repository / ".chalice/config.json").write_text(files[".chalice/config.json"])
    commit(stage.repository, "Keep the role")
    # An API that leads to another stage's functions is not taken over, whatever a listing says.
    stack.tag("prod")
    refused = run_here("deploy", "--stage", "dev", cwd=stage.repository, **stage.environ)
    assert refused.code == 18
    assert stack.function in refused.out + refused.err
    assert stage.identities() == before
    stack.tag("dev")
    calls = stage.follow("pipeline-deploy")
    # A function can't be renamed: it is the only thing that is made.
    assert [name for name in calls if name.startswith(("Create", "Delete", "Import"))] == [
        "CreateFunction",
        "CreateDeployment",
    ]
    after = stage.identities()
    assert {key: after[key] for key in ("iam", "apigateway", "events")} == {
        key: before[key] for key in ("iam", "apigateway", "events")
    }
    assert before["lambda"] < after["lambda"]
    stage.follow("pipeline-done", aws=stack.command)
    uris = json.dumps(
        stage.client("apigateway").get_resources(restApiId=api, embed=["methods"])["items"],
        default=str,
    )
    assert "function:orders-dev/" in uris
    assert STACK not in uris
    stage.aws.forget_calls()
    again = run_here("deploy", "--stage", "dev", cwd=stage.repository, **stage.environ)
    assert again.code == 0, again.out + again.err
    assert [call for call in stage.aws.calls() if call["mutating"]] == []
    assert by_name(stage.recorded())["rest_api"]["rest_api_id"] == api


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ({"StackResources": 7}, "no list"),
        ({"StackResources": [{"ResourceType": "AWS::IAM::Role"}]}, "has no API"),
        ({"StackResources": [{"ResourceType": "AWS::ApiGateway::RestApi"}]}, "has no id"),
        (
            {
                "StackResourceSummaries": [
                    {"ResourceType": "AWS::ApiGateway::RestApi", "PhysicalResourceId": one}
                    for one in ("a", "b")
                ]
            },
            "two resources",
        ),
        (
            {
                "StackResources": [
                    {"ResourceType": "AWS::ApiGateway::RestApi", "PhysicalResourceId": "../a"}
                ]
            },
            "has no id",
        ),
    ],
)
def test_a_listing_that_cannot_be_taken_over_says_why(listed: Any, told: str) -> None:
    raw = json.dumps(listed).encode()
    assert is_stack(raw)
    with pytest.raises(StateDamaged, match=told):
        parse_stack(raw, where="stack.json")


def committed(stage: Stage) -> None:
    """The state file is committed on the default branch."""
    commit(stage.repository, "Deployed dev [skip ci]")
    git(stage.repository, "push", "--quiet", "origin", "main")


@deep
def test_from_a_shell_step_whose_file_was_kept(stage: Stage) -> None:
    before, written = stage.identities(), json.loads(stage.state.read_text())
    # Whatever carried the file never committed it.
    (stage.repository / ".gitignore").write_text(".chalice/deployed*/\n")
    calls = stage.follow("shell", "shell-with-file")
    assert calls == []
    assert stage.recorded() == written
    ended(stage, before, stage.follow("shell-deploy"))
    assert stage.recorded() == written


@deep
def test_from_a_shell_step_that_lost_its_file(stage: Stage) -> None:
    before, written = stage.identities(), json.loads(stage.state.read_text())
    stage.state.unlink()
    calls = stage.follow("shell", "shell-without-file")
    assert calls == []
    assert by_name(stage.recorded()) == by_name(written)
    ended(stage, before, stage.follow("shell-deploy"))


@deep
def test_from_committed_state_files(stage: Stage) -> None:
    committed(stage)
    before, written = stage.identities(), json.loads(stage.state.read_text())
    ended(stage, before, stage.follow("committed", "committed-done"))
    assert stage.recorded() == written
    assert not stage.state.exists()


def test_from_the_file_of_an_old_chalice(stage: Stage, chalice: PlainChalice) -> None:
    before = stage.identities()
    old = stage.state.parent.with_suffix(".json")
    old.write_text(json.dumps({"dev": first_schema(json.loads(stage.state.read_text()))}))
    written = by_name(json.loads(stage.state.read_text()))
    stage.state.unlink()
    committed(stage)
    ended(stage, before, stage.follow("v1", "v1-done"))
    # What the old file had no words for was found by its name, or in AWS.
    assert by_name(stage.recorded()) == written
    same_client(stage, chalice)


def same_client(stage: Stage, chalice: PlainChalice) -> None:
    """`state pull --sdk` brings what Chalice's own command gets with the record that was pulled."""
    pulled = ("state", "pull", "--stage", "dev", "--sdk")
    ran = run_here(*pulled, cwd=stage.repository, **stage.environ)
    assert ran.code == 0, ran.out + ran.err
    region = {"AWS_DEFAULT_REGION": REGION}
    theirs = stage.repository / "theirs"
    said = chalice.run(stage.repository, ["generate-sdk", str(theirs)], environ=region)
    assert said.code == 0, said.text
    ours = stage.repository / "chalice-ci-out/orders/dev/sdk"
    assert sorted(path.name for path in ours.iterdir()) == ["README.md", "apigClient.js"]
    for path in ours.iterdir():
        assert path.read_bytes() == (theirs / path.name).read_bytes()
    assert '"/orders/{number}"' in (ours / "apigClient.js").read_text()
    # Another time it takes the place of the first.
    assert run_here(*pulled, cwd=stage.repository, **stage.environ).code == 0
    unnamed = run_here("state", "pull", "--sdk", cwd=stage.repository, **stage.environ)
    assert unnamed.code == 2
    assert "--stage NAME" in unnamed.err


def ended(stage: Stage, before: Mapping[str, frozenset[str]], calls: list[str]) -> None:
    """Everything is what it was, the functions got their new package, and nothing is left to do."""
    assert stage.identities() == before
    assert "UpdateFunctionCode" in calls, "the first deploy brings its own package"
    # A deployment publishes what the API has become; it is the same API.
    made = [name for name in calls if name.startswith(("Create", "Delete", "Import"))]
    assert set(made) <= {"CreateDeployment"}
    stage.aws.forget_calls()
    again = run_here("deploy", "--stage", "dev", cwd=stage.repository, **stage.environ)
    assert again.code == 0, again.out + again.err
    assert [call for call in stage.aws.calls() if call["mutating"]] == []
    pushed = git(stage.origin, "ls-tree", "-r", "--name-only", "main").splitlines()
    assert "chalice-ci.yml" in pushed
    assert ".github/workflows/deploy.yml" not in pushed
    assert not any("deployed" in name for name in pushed)


def by_name(state: Any) -> Mapping[str, Any]:
    """The resources of a state by their names."""
    return {one["name"]: one for one in state["resources"]}


def first_schema(state: Any) -> Mapping[str, Any]:
    """A stage as Chalice 1.1 wrote it."""
    found = by_name(state)
    address = found["rest_api"]["rest_api_url"]
    return {
        "api_handler_name": "orders-dev",
        "api_handler_arn": found["api_handler"]["lambda_arn"],
        "rest_api_id": found["rest_api"]["rest_api_id"],
        "region": REGION,
        "api_gateway_stage": address.rstrip("/").rpartition("/")[2],
        "backend": "api",
        "chalice_version": "1.1.1",
        "lambda_functions": {
            f"orders-dev-{name}": {"arn": found[name]["lambda_arn"], "type": "pure_lambda"}
            for name in ("tidy", "take")
        },
    }
