"""The deploy policy under enforced IAM: with it every shape's life passes, without any action of it
something is refused.

Deploys, updates after changes from outside, recoveries and deletions are real; the policy is the
deployer's only right. `POLICY_DEPTH=all` takes every shape, and really runs each shape without each
of its actions; without it a few shapes and a few of those runs stand for all.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from chalice_ci.access.document import LIMIT, Condition, Document, Statement
from chalice_ci.access.evaluate import Decision, Request, decide
from chalice_ci.app.deployers import Deployers
from chalice_ci.errors import AWSError
from chalice_ci.local import EmbeddedAWS, LocalMode
from chalice_ci.local.aws import Copy
from support.awsclients import clients_of
from support.permitted import (
    Life,
    User,
    actions_of,
    assumed_clients,
    make_user,
    needed,
    permit,
    without,
)
from support.shapes import ACCOUNT, BY_NAME, SHAPES, Shape

DEEP = os.environ.get("POLICY_DEPTH") == "all"

ALL = tuple(shape for shape in SHAPES if shape.deploys and "1.34.0" in shape.versions)
# All kinds of resources are in these: triggers, both APIs, VPC, layers, log groups, given roles,
# domains.
SAMPLE = tuple(
    BY_NAME[name] for name in ("everything", "functions", "custom_domain", "automatic_layer")
)
RUNS = 1
"""How many actions a shape of the sample is really run without."""

# Looks of the planner whether something stands already: refused, it is done anew, as Chalice does.
LOOKS = {
    "apigateway:GET",
    "events:DescribeRule",
    "events:ListTargetsByRule",
    "iam:GetRolePolicy",
    "lambda:GetEventSourceMapping",
    "lambda:GetPolicy",
    "s3:GetBucketNotification",
}


@dataclass(frozen=True, kw_only=True)
class Before:
    """A copy of AWS as it was before a phase, and what was recorded then."""

    aws: Copy
    resources: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, kw_only=True)
class Lived:
    """A life that was lived with its policy: what each phase needed."""

    life: Life
    policy: tuple[Document, ...]
    needs: dict[str, list[Request]]
    before: dict[str, Before]

    @property
    def all_needs(self) -> list[Request]:
        return [request for found in self.needs.values() for request in found]

    def first_without(self, action: str) -> str:
        """The first phase that the policy less one action does not carry; empty: none."""
        less = without(self.policy, action)
        for phase, found in self.needs.items():
            if any(decide(less, request) is not Decision.ALLOWED for request in found):
                return phase
        return ""


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(LocalMode(iam=True), gateway=False) as running:
        yield running


@pytest.fixture(scope="module")
def user(aws: EmbeddedAWS) -> User:
    return make_user(aws)


@pytest.fixture(scope="module")
def deployers(
    aws: EmbeddedAWS, user: User, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployers]:
    folder = tmp_path_factory.mktemp("run")
    with Deployers(user.environ(aws), folder, poll_seconds=0.05) as lending:
        yield lending


@pytest.fixture(scope="module", params=ALL if DEEP else SAMPLE, ids=str)
def lived(
    request: pytest.FixtureRequest,
    aws: EmbeddedAWS,
    user: User,
    deployers: Deployers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lived]:
    """One life with the policy, each call of which is allowed."""
    shape: Shape = request.param
    life = Life(shape, aws, user, tmp_path_factory.mktemp(shape.name), app=shape.apps[-1])
    policy = life.policy()
    permit(aws, policy)
    needs: dict[str, list[Request]] = {}
    before: dict[str, Before] = {}
    with ExitStack() as copies:
        for phase in life.phases:
            if phase == "update":
                life.drift()
            before[phase] = Before(aws=copies.enter_context(aws.copy()), resources=life.resources)
            aws.forget_calls()
            life.run(phase, deployers)
            needs[phase] = needed(aws)
            assert [call for call in aws.calls() if call["status"] == 403] == []
        yield Lived(life=life, policy=policy, needs=needs, before=before)


def test_what_the_calls_need_is_what_the_policy_grants(lived: Lived) -> None:
    assert len(lived.all_needs) > 20
    refused = {
        f"{one.action} on {one.resource}"
        for one in lived.all_needs
        if decide(lived.policy, one) is not Decision.ALLOWED
    }
    assert not refused


def test_every_action_is_needed_somewhere_in_a_life(lived: Lived) -> None:
    unneeded = [one for one in actions_of(lived.policy) if not lived.first_without(one)]
    assert not unneeded


def test_the_policy_fits_into_iam(lived: Lived) -> None:
    assert [document.size for document in lived.policy if document.size > LIMIT] == []


def test_without_an_action_the_run_is_refused(
    lived: Lived, user: User, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = list(actions_of(lived.policy))
    if not DEEP:
        actions = random.Random(str(lived.life.shape)).sample(actions, RUNS)
    refused, looked = 0, 0
    for number, action in enumerate(actions):
        phase = lived.first_without(action)
        start = lived.before[phase]
        with (
            start.aws.copy() as aws,
            Deployers(user.environ(aws), tmp_path / str(number), poll_seconds=0.05) as deployers,
        ):
            permit(aws, without(lived.policy, action))
            aws.forget_calls()
            life = lived.life.at(aws, start.resources)
            words = _refusal(life, phase, deployers)
            if words:
                assert action in words, f"{phase} without {action}: {words}"
                refused += 1
                continue
            denied = [need[0] for c in aws.calls() if c["status"] == 403 for need in c["needs"]]
            assert action in denied, f"{phase} without {action} passed"
            assert action in LOOKS, f"{phase} without {action} went on"
            looked += 1
    if DEEP:
        with capsys.disabled():
            print(f"\n{lived.life.shape}: {refused} runs refused, {looked} did more than needed")


def _refusal(life: Life, phase: str, deployers: Deployers) -> str:
    """Why a phase was refused; empty: it was not."""
    try:
        life.run(phase, deployers)
    except AWSError as error:
        return str(error)
    return ""


def test_a_role_is_made_only_within_the_boundary(aws: EmbeddedAWS, user: User) -> None:
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/bound"
    only = Condition(operator="StringEquals", key="iam:PermissionsBoundary", values=(boundary,))
    own = f"arn:aws:iam::{ACCOUNT}:role/orders-dev"
    statement = Statement(actions=("iam:CreateRole",), resources=(own,), conditions=(only,))
    permit(aws, [Document(statements=(statement,))])
    iam = user.clients(aws)("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    for given in ({}, {"PermissionsBoundary": f"{boundary}-other"}):
        with pytest.raises(iam.exceptions.ClientError, match="AccessDenied"):
            iam.create_role(RoleName="orders-dev", AssumeRolePolicyDocument=trust, **given)
    iam.create_role(
        RoleName="orders-dev", AssumeRolePolicyDocument=trust, PermissionsBoundary=boundary
    )
    clients_of(aws)("iam").delete_role(RoleName="orders-dev")


def test_an_assumed_role_is_held_to_its_policies_and_its_boundary(aws: EmbeddedAWS) -> None:
    iam, sts = clients_of(aws)("iam"), clients_of(aws)("sts")

    def document(*actions: str) -> str:
        statement = Statement(actions=actions, resources=("*",))
        return json.dumps(Document(statements=(statement,)).to_json())

    bound = iam.create_policy(PolicyName="bound", PolicyDocument=document("lambda:List*"))
    iam.create_role(
        RoleName="held",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}),
        PermissionsBoundary=bound["Policy"]["Arn"],
    )
    iam.put_role_policy(
        RoleName="held",
        PolicyName="own",
        PolicyDocument=document("lambda:ListFunctions", "events:ListRules"),
    )
    arn = f"arn:aws:iam::{ACCOUNT}:role/held"
    made = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    session = assumed_clients(aws, made)
    session("lambda").list_functions()
    with pytest.raises(iam.exceptions.ClientError, match="no permissions boundary allows it"):
        session("events").list_rules()
    with pytest.raises(iam.exceptions.ClientError, match="no identity-based policy allows it"):
        session("lambda").list_layers()
