"""The verb `policy`: prints and writes the deploy policy, and compares another one with it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.access.document import parse
from chalice_ci.local import EmbeddedAWS
from support.awsclients import clients_of
from support.commandline import hello
from support.inprocess import run_here

PLACED = ("--allowed-account=123456789012", "--aws-region=eu-west-1")
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    """A small app, in a folder that a process without rights can enter."""
    with tempfile.TemporaryDirectory(prefix="chalice-ci-policy-") as folder:
        Path(folder).chmod(0o755)
        configuration = "version: 1\nstages: {dev: {}, prod: {}}\npreview: {like: dev}\n"
        yield hello(Path(folder) / "hello", **{"chalice-ci.yml": configuration})


def policy(repository: Path, *arguments: str, **env: str) -> Any:
    return run_here("policy", *arguments, cwd=repository, **env)


@pytest.fixture(scope="module")
def printed(repository: Path) -> str:
    """What the verb prints for the stage prod."""
    ran = policy(repository, "--stage=prod", *PLACED)
    assert ran.code == 0, ran.err
    return str(ran.out)


def test_what_is_printed_is_written_and_is_a_policy_of_the_stage(
    repository: Path, printed: str
) -> None:
    written = repository / "chalice-ci-out" / "hello-prod.policy.json"
    assert written.read_text() == printed
    document = parse(printed, where="it")
    resources = {one for statement in document.statements for one in statement.resources}
    assert "arn:aws:lambda:eu-west-1:123456789012:function:hello-prod" in resources
    assert not any("hello-dev" in one for one in resources)


def test_the_policy_of_a_preview_is_for_all_previews(repository: Path) -> None:
    ran = policy(repository, "--stage=pr-7", *PLACED)
    assert ran.code == 0, ran.err
    assert "function:hello-pr-*" in ran.out
    assert "pr-7" not in ran.out


def test_a_role_is_compared_with_what_is_needed(
    repository: Path, aws: EmbeddedAWS, printed: str, tmp_path: Path
) -> None:
    iam = clients_of(aws)("iam")
    first, *others = json.loads(printed)["Statement"]
    rest = {"Version": "2012-10-17", "Statement": others}
    made = iam.create_policy(PolicyName="most", PolicyDocument=json.dumps(rest))
    iam.create_role(RoleName="deploys", AssumeRolePolicyDocument=TRUST)
    iam.attach_role_policy(RoleName="deploys", PolicyArn=made["Policy"]["Arn"])
    own = {"Version": "2012-10-17", "Statement": [first]}
    iam.put_role_policy(RoleName="deploys", PolicyName="own", PolicyDocument=json.dumps(own))
    given = ("--stage=prod", "--format=json", *PLACED)
    whole = policy(repository, *given, "--compare=deploys", **aws.environ)
    assert (whole.code, whole.result["findings"]) == (0, []), whole.err
    # Less here, more there.
    first["Action"] = [*first["Action"][1:], "iam:CreateUser"]
    iam.put_role_policy(RoleName="deploys", PolicyName="own", PolicyDocument=json.dumps(own))
    arn = "arn:aws:iam::123456789012:role/deploys"
    other = policy(repository, *given, f"--compare={arn}", **aws.environ)
    assert other.code == 1
    told = {one["rule"]: one for one in other.result["findings"]}
    assert set(told) == {"policy-missing", "policy-unneeded"}
    assert "events:ListRules" in told["policy-missing"]["detail"]
    assert told["policy-unneeded"]["detail"] == "iam:CreateUser on *"
    assert "has 1 permission beyond what a deployment needs" in told["policy-unneeded"]["what"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((*PLACED, "--compare=no such role"), 2, "neither a file nor a role"),
        ((*PLACED, "--compare=app.py"), 2, "no policy that can be read"),
        ((*PLACED, "--permissions-boundary=bound"), 2, "is not the ARN of a policy"),
        (("--aws-region=eu-west-1",), 2, "names the account"),
        (("--allowed-account=123456789012",), 2, "names the region"),
    ],
)
def test_what_can_not_be_done_is_told(
    repository: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    environ = {"AWS_EC2_METADATA_DISABLED": "true"}
    ran = policy(repository, "--stage=prod", "--format=json", *arguments, **environ)
    assert ran.code == code
    assert words in json.dumps(ran.result["failure"])


def test_a_boundary_is_asked_of_roles_and_said_what_that_means(repository: Path) -> None:
    boundary = "arn:aws:iam::123456789012:policy/bound"
    ran = policy(repository, "--stage=prod", *PLACED, f"--permissions-boundary={boundary}")
    assert ran.code == 0
    making = next(s for s in json.loads(ran.out)["Statement"] if "iam:CreateRole" in s["Action"])
    assert making["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": boundary}}
    assert "without a permissions boundary" in ran.err
