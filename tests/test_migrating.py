"""The guides of docs/migrating.md, followed from where plain Chalice left a stage.

Each starts with a repository whose stage the real `chalice deploy` made, runs the command lines
that the guide has, and ends with the stage recorded and no resource made anew.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.local.aws import EmbeddedAWS
from support.chalicecli import PlainChalice
from support.commandline import commit, git, write
from support.inprocess import run_here
from support.stories import kept_folder, tool_environ

GUIDE = Path(__file__).parents[1] / "docs/migrating.md"
MARKED = re.compile(r"<!-- guide: (?P<name>[\w-]+) -->\n```console\n(?P<text>.*?)```", re.DOTALL)
REGION = "eu-west-1"

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

    def follow(self, *names: str) -> list[str]:
        """Run the guide's own command lines; what was called at AWS that changes something."""
        self.aws.forget_calls()
        for name in names:
            for head, *arguments in commands(name):
                if head == "git":
                    git(self.repository, *arguments)
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
        made = Stage(Path(folder), aws)
        files = {
            "app.py": APP,
            "requirements.txt": "",
            ".chalice/config.json": json.dumps(CONFIG),
            ".github/workflows/deploy.yml": SHELL_STEP,
            ".gitignore": ".chalice/deployments/\n",
        }
        write(made.repository, files)
        git(Path(folder), "init", "--quiet", "--bare", "--initial-branch=main", str(made.origin))
        git(made.repository, "init", "--quiet", "--initial-branch=main")
        git(made.repository, "remote", "add", "origin", str(made.origin))
        commit(made.repository, "Begin")
        git(made.repository, "push", "--quiet", "origin", "main")
        attributes = {"VisibilityTimeout": "360"}
        made.client("sqs").create_queue(QueueName="orders-incoming", Attributes=attributes)
        region = {"AWS_DEFAULT_REGION": REGION}
        said = chalice.run(made.repository, ["deploy", "--stage", "dev"], environ=region)
        assert said.code == 0, said.text
        yield made


def committed(stage: Stage) -> None:
    """The state file is committed on the default branch."""
    commit(stage.repository, "Deployed dev [skip ci]")
    git(stage.repository, "push", "--quiet", "origin", "main")


def test_from_a_shell_step_whose_file_was_kept(stage: Stage) -> None:
    before, written = stage.identities(), json.loads(stage.state.read_text())
    # Whatever carried the file never committed it.
    (stage.repository / ".gitignore").write_text(".chalice/deployed*/\n")
    calls = stage.follow("shell", "shell-with-file")
    assert calls == []
    assert stage.recorded() == written
    ended(stage, before, stage.follow("shell-deploy"))
    assert stage.recorded() == written


def test_from_a_shell_step_that_lost_its_file(stage: Stage) -> None:
    before, written = stage.identities(), json.loads(stage.state.read_text())
    stage.state.unlink()
    calls = stage.follow("shell", "shell-without-file")
    assert calls == []
    assert by_name(stage.recorded()) == by_name(written)
    ended(stage, before, stage.follow("shell-deploy"))


def test_from_committed_state_files(stage: Stage) -> None:
    committed(stage)
    before, written = stage.identities(), json.loads(stage.state.read_text())
    ended(stage, before, stage.follow("committed", "committed-done"))
    assert stage.recorded() == written
    assert not stage.state.exists()


def test_from_the_file_of_an_old_chalice(stage: Stage) -> None:
    before = stage.identities()
    old = stage.state.parent.with_suffix(".json")
    old.write_text(json.dumps({"dev": first_schema(json.loads(stage.state.read_text()))}))
    written = by_name(json.loads(stage.state.read_text()))
    stage.state.unlink()
    committed(stage)
    ended(stage, before, stage.follow("v1", "v1-done"))
    # What the old file had no words for was found by its name, or in AWS.
    assert by_name(stage.recorded()) == written


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
