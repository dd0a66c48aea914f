"""The life of a shape under enforced IAM: what its deployer needs, and what it is refused.

The deployer works with the key of an IAM user who has the generated policy and nothing else; what
the test itself makes - prerequisites, changes from outside - is the administrator's.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from chalice_ci.access.document import Document, Statement, parts
from chalice_ci.access.evaluate import Request
from chalice_ci.access.grants import Place, Wishes, grants, makeup
from chalice_ci.app.deployer import Gates, Outcome, Target
from chalice_ci.app.deployers import Deployers
from chalice_ci.graph import Graph, Resource, check_graph
from chalice_ci.local.aws import Endpoint
from chalice_ci.ownership import Guard, owner_of
from chalice_ci.state.recover import discover
from support.awsclients import clients_of
from support.deployments import Recorder, deletion, load, target
from support.shapes import (
    ACCOUNT,
    REGION,
    Clients,
    DeployedByOldChalice,
    Shape,
    apply_change,
    copy_shape,
    prepare,
)

PLACE = Place(account=ACCOUNT, region=REGION)
USER = "deployer"
ANOTHER_ZIP = b"PK\x05\x06" + b"\0" * 18


@dataclass(frozen=True, kw_only=True)
class User:
    """An IAM user with a key."""

    key: str
    secret: str

    def environ(self, aws: Endpoint) -> dict[str, str]:
        """The environment of what acts as this user."""
        return {
            **aws.environ,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def clients(self, aws: Endpoint) -> Clients:
        """The clients of this user; AWS's models are read once for all of them."""
        return _clients(self, aws.endpoint_url)


@cache
def _session() -> boto3.Session:
    return boto3.Session("embedded", "embedded", region_name=REGION)


@cache
def _clients(user: User, endpoint_url: str) -> Clients:
    @cache
    def client(service: str) -> Any:
        return _session().client(
            service,
            endpoint_url=endpoint_url,
            aws_access_key_id=user.key,
            aws_secret_access_key=user.secret,
        )

    return client


def assumed_clients(aws: Endpoint, credentials: Mapping[str, str]) -> Clients:
    """The clients of an assumed role."""

    def client(service: str) -> Any:
        return _session().client(
            service,
            endpoint_url=aws.endpoint_url,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )

    return client


def make_user(aws: Endpoint) -> User:
    """A user without any right."""
    iam = clients_of(aws)("iam")
    iam.create_user(UserName=USER)
    made = iam.create_access_key(UserName=USER)["AccessKey"]
    return User(key=made["AccessKeyId"], secret=made["SecretAccessKey"])


def permit(aws: Endpoint, documents: Sequence[Document]) -> None:
    """Let the user do what the documents say, and nothing else."""
    iam = clients_of(aws)("iam")
    for name in iam.list_user_policies(UserName=USER)["PolicyNames"]:
        iam.delete_user_policy(UserName=USER, PolicyName=name)
    for number, document in enumerate(documents):
        text = json.dumps(document.to_json())
        iam.put_user_policy(UserName=USER, PolicyName=f"part-{number}", PolicyDocument=text)


def without(documents: Sequence[Document], action: str) -> tuple[Document, ...]:
    """The documents with one action taken out of every statement."""

    def less(statement: Statement) -> Statement | None:
        kept = tuple(one for one in statement.actions if one != action)
        if not kept:
            return None
        return Statement(
            sid=statement.sid,
            actions=kept,
            resources=statement.resources,
            conditions=statement.conditions,
        )

    found = []
    for document in documents:
        left = [s for s in map(less, document.statements) if s is not None]
        if left:
            found.append(Document(statements=tuple(left)))
    return tuple(found)


def actions_of(documents: Sequence[Document]) -> tuple[str, ...]:
    """Every action that is granted, each once."""
    return tuple(sorted({a for d in documents for s in d.statements for a in s.actions}))


class Life:
    """A shape's stage `dev` from its first deploy to its deletion; one phase after another.

    Phases: deploy, update (after changes from outside, with the shape's own change), recover (with
    the record lost), delete, and deploy again where the first one found what it needs.
    """

    PHASES = ("deploy", "update", "recover", "delete", "again")

    def __init__(
        self, shape: Shape, aws: Endpoint, user: User, folder: Path, *, app: str = "."
    ) -> None:
        self.shape = shape
        self.aws = aws
        self.user = user
        self.project = copy_shape(shape, folder / shape.name) / app
        self.changed = copy_shape(shape, folder / "changed" / shape.name)
        self._work = folder / "work"
        made = prepare([shape], folder, clients_of(aws))
        # What AWS named stands in both copies.
        for named, stands in made.items():
            for file in sorted(self.changed.rglob("*.json")):
                text = file.read_text(encoding="utf-8")
                file.write_text(text.replace(stands, named), encoding="utf-8")
        apply_change(shape, self.changed)
        self.changed /= app
        self.resources: tuple[Mapping[str, object], ...] = ()
        self.app_name = str(load(self.project)["app_name"])
        self.topics: dict[str, str] = {}

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases of this shape: most are first deployed into an empty account."""
        found = any(isinstance(need, DeployedByOldChalice) for need in self.shape.needs)
        return self.PHASES if found else self.PHASES[:-1]

    def at(self, aws: Endpoint, resources: tuple[Mapping[str, object], ...]) -> Life:
        """The same stage in a copy of its AWS, with what was recorded then."""
        there = copy.copy(self)
        there.aws, there.resources = aws, resources
        return there

    def policy(self) -> tuple[Document, ...]:
        """The policy that carries the stage from its first deploy to its deletion."""
        nodes: list[Resource] = []
        for project in (self.project, self.changed):
            nodes += _graph(project).resources
        both = Graph(document={}, resources=tuple(nodes))
        made = makeup(f"{self.app_name}-dev", both, ())
        return parts(grants(made, PLACE, Wishes(delete_logs=True)))

    def run(self, phase: str, deployers: Deployers) -> Outcome | None:
        """One phase; raises what refused it."""
        match phase:
            case "deploy" | "again":
                return self._apply(self._target(self.project), deployers)
            case "update":
                return self._apply(self._target(self.changed), deployers)
            case "delete":
                what = deletion(self.app_name, self.resources)
                what = Target(
                    app_name=what.app_name,
                    stage="dev",
                    graph=None,
                    resources=what.resources,
                    delete_logs=True,
                )
                return self._apply(what, deployers)
            case _:
                self._recover(deployers)
                return None

    def _target(self, project: Path) -> Target:
        return target(project, self._work, resources=self.resources)

    def _apply(self, what: Target, deployers: Deployers) -> Outcome:
        with deployers.lent(Path(sys.executable), REGION) as deployer:
            guard = Guard(owner_of(what, deployer.identify()), self.user.clients(self.aws))
            expected = deployer.plan(what)
            recorder = Recorder()
            outcome = deployer.apply(what, expected, gate=Gates(recorder, guard), progress=recorder)
        outcome.check()
        self.resources = outcome.resources
        return outcome

    def _recover(self, deployers: Deployers) -> None:
        what = self._target(self.changed)
        with deployers.lent(Path(sys.executable), REGION) as deployer:
            identity = deployer.identify()
        owner = owner_of(what, identity)
        found = discover(owner, self.user.clients(self.aws), (), {})
        # What there are two of, one of them an old Chalice's, is named and not adopted.
        names = {str(resource["name"]) for resource in found.resources}
        names |= {words.split(":")[0].partition(" ")[2] for words in found.doubtful}
        assert {str(resource["name"]) for resource in self.resources} <= names

    def drift(self) -> None:
        """Change from outside what an update has to put right."""
        c = clients_of(self.aws)
        prefix = f"{self.app_name}-dev"
        of_lambda = c("lambda")
        functions = [
            function
            for function in of_lambda.list_functions()["Functions"]
            if f"{function['FunctionName']}-".startswith(f"{prefix}-")
        ]
        for function in functions:
            name = function["FunctionName"]
            of_lambda.update_function_configuration(FunctionName=name, MemorySize=640)
            of_lambda.tag_resource(Resource=function["FunctionArn"], Tags={"by-hand": "yes"})
            if not of_lambda.get_function(FunctionName=name).get("Concurrency"):
                of_lambda.put_function_concurrency(
                    FunctionName=name, ReservedConcurrentExecutions=3
                )
        settled = of_lambda.get_waiter("function_updated_v2")
        for function in functions:
            # AWS refuses a change while another one is going on.
            name = function["FunctionName"]
            settled.wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})
            of_lambda.update_function_code(FunctionName=name, ZipFile=ANOTHER_ZIP)
        for resource in self.resources:
            if "event_uuid" in resource:
                c("lambda").update_event_source_mapping(UUID=resource["event_uuid"], BatchSize=3)
            if resource["resource_type"] == "rest_api":
                stage = str(resource["rest_api_url"]).rstrip("/").rpartition("/")[2]
                c("apigateway").create_deployment(
                    restApiId=resource["rest_api_id"], stageName=stage, description="by hand"
                )
            if resource["resource_type"] == "domain_name":
                arn = f"arn:aws:apigateway:{REGION}::/domainnames/{resource['domain_name']}"
                c("apigatewayv2").tag_resource(ResourceArn=arn, Tags={"by-hand": "yes"})
            if resource["resource_type"] == "cloudwatch_event":
                c("events").disable_rule(Name=resource["rule_name"])


def _graph(project: Path) -> Graph:
    document = load(project)
    return check_graph(
        document["graph"],
        chalice_version=document["chalice"],
        app_name=document["app_name"],
        stage="dev",
        python_version=document["python"],
    )


def needed(aws: Endpoint) -> list[Request]:
    """What the calls since the journal was cleared needed, each once."""
    found = {
        (action, resource, tuple(sorted(context.items())))
        for call in aws.calls()
        for action, resource, context in call["needs"]
    }
    return [
        Request(action=action, resource=resource, context=dict(context))
        for action, resource, context in sorted(found)
    ]
