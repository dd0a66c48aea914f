"""What a deployment does only when somebody lets it: who is asked, who answers, in which words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalice_ci import consent
from chalice_ci.config import AppConfig, StageConfig
from chalice_ci.difference.changes import Baseline, BaselineKind, Changes
from chalice_ci.difference.compare import compare
from chalice_ci.errors import ExitCode, PlanRefused
from chalice_ci.findings import Severity
from chalice_ci.forge.local import LocalForge
from chalice_ci.local import EmbeddedAWS
from chalice_ci.plan import Ask, Consent, Operation
from chalice_ci.route import Job
from chalice_ci.snapshot import Function, Role, Snapshot, Statement
from chalice_ci.widening import widenings
from support.commandline import APP, CONFIG, Ran, commit, git, hello, write
from support.inprocess import run_here
from support.snapshots import EMPTY, allow, function, role
from support.steps import event, pull_request

JOB = Job(app=AppConfig(name="orders", path="."), stage="prod")
LIVE = ({"name": "worker", "resource_type": "lambda_function"},)
BUCKET = "arn:aws:s3:::orders/*"
FOREIGN = "arn:aws:iam::111111111111:role/shared"
BOTH = (Consent.DESTRUCTIVE, Consent.WIDENED_IAM)


# -- who is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (None, (Consent.DESTRUCTIVE,)),
        ({}, (Consent.DESTRUCTIVE,)),
        ({"needs": "dev"}, (Consent.DESTRUCTIVE,)),
        ({"environment": "live"}, BOTH),
        ({"environment": "live", "allow_widened_iam": False}, BOTH),
        ({"environment": "live", "allow_widened_iam": True}, (Consent.DESTRUCTIVE,)),
        ({"environment": "live", "allow_destructive": True}, (Consent.WIDENED_IAM,)),
        ({"environment": "live", "allow_destructive": False}, BOTH),
        ({"environment": "live", "allow_destructive": True, "allow_widened_iam": True}, ()),
        ({"allow_widened_iam": False}, BOTH),
        ({"allow_widened_iam": True}, (Consent.DESTRUCTIVE,)),
        ({"allow_destructive": True}, ()),
        ({"allow_destructive": True, "allow_widened_iam": False}, (Consent.WIDENED_IAM,)),
    ],
)
def test_the_policy_of_a_stage_says_what_is_asked_and_a_preview_asks_nobody(
    policy: dict[str, Any] | None, asked: tuple[Consent, ...]
) -> None:
    job = JOB if policy is None else replace(JOB, policy=StageConfig(name="prod", **policy))
    assert tuple(kind for kind in Consent if consent.is_needed(kind, job)) == asked
    preview = replace(job, stage="pr-7", like="prod")
    assert not any(consent.is_needed(kind, preview) for kind in Consent)


# -- what permits more ----------------------------------------------------------------------------


def stage(*roles: Role, functions: tuple[Function, ...] = (function(),)) -> Snapshot:
    return replace(EMPTY, roles=roles, functions=functions)


def more(before: Snapshot | None, after: Snapshot, **baseline: Any) -> tuple[str, ...]:
    kind = baseline.pop("kind", BaselineKind.DEPLOYED)
    changes = compare(before, after, Baseline(kind=kind, **baseline))
    return widenings((), LIVE if before else (), changes)


READS = role(allow("s3:GetObject", on=BUCKET))
WRITES = role(allow("s3:GetObject", "s3:PutObject", on=BUCKET))
FILE = replace(WRITES, policy=".chalice/policy-prod.json")
ALL = role(allow("s3:*", on=BUCKET))
DENIES = role(
    allow("s3:GetObject", on=BUCKET),
    Statement(effect="Deny", actions=("s3:*",), resources=("arn:aws:s3:::orders/secret",)),
)
OTHER = replace(WRITES, name="worker-role", role_name="orders-dev-worker-role")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (stage(READS), stage(READS), ()),
        (stage(WRITES), stage(READS), ()),
        (
            stage(READS),
            stage(WRITES),
            (f"`default-role`: More is permitted: s3:PutObject on {BUCKET}",),
        ),
        (
            stage(READS),
            stage(FILE),
            (f"`default-role`: More is permitted: s3:PutObject on {BUCKET}",),
        ),
        (
            stage(READS),
            stage(role(allow("s3:GetObject"))),
            (f"`default-role`: More is permitted: s3:GetObject on * (before: on {BUCKET})",),
        ),
        (
            stage(READS),
            stage(ALL),
            (
                f"`default-role`: More is permitted: s3:* on {BUCKET} "
                f"(before: s3:GetObject on {BUCKET})",
            ),
        ),
        (
            stage(role(allow("s3:GetObject", on=BUCKET, conditions='{"a":1}'))),
            stage(READS),
            (
                f"`default-role`: More is permitted: s3:GetObject on {BUCKET} "
                f'(before: on {BUCKET} if {{"a":1}})',
            ),
        ),
        (
            stage(DENIES),
            stage(READS),
            (
                "`default-role`: More is permitted: no longer denied: s3:* on "
                "arn:aws:s3:::orders/secret",
            ),
        ),
        # A role whose ARN alone is known, to it and from it, and for a new function.
        (
            stage(READS),
            stage(READS, functions=(function(role=FOREIGN),)),
            (
                f"`worker`: It runs as {FOREIGN}, before as default-role: "
                "what that role permits is not known here",
            ),
        ),
        (
            stage(READS, functions=(function(role=FOREIGN),)),
            stage(READS),
            (
                f"`worker`: It runs as default-role, before as {FOREIGN}: "
                "what that role permitted is not known here",
            ),
        ),
        (
            stage(READS),
            stage(READS, functions=(function(), function("jobs", role=FOREIGN))),
            (f"`jobs`: It runs as {FOREIGN}: what that role permits is not known here",),
        ),
        (
            stage(functions=(function(role=FOREIGN),)),
            stage(functions=(function(role=FOREIGN), function("jobs", role=FOREIGN))),
            (),
        ),
        # Another role of the same app: what it permits more, though some role had it before.
        (
            stage(READS, OTHER),
            stage(READS, OTHER, functions=(function(role="worker-role"),)),
            (
                "`worker`: It runs as worker-role, before as default-role. "
                f"More is permitted: s3:PutObject on {BUCKET}",
            ),
        ),
        (
            stage(READS, OTHER, functions=(function(role="worker-role"),)),
            stage(READS, OTHER),
            (),
        ),
    ],
)
def test_what_permits_more_is_told_with_what_was_permitted_before(
    before: Snapshot, after: Snapshot, told: tuple[str, ...]
) -> None:
    assert more(before, after) == told


def test_a_first_deployment_permits_nothing_more() -> None:
    assert more(None, stage(ALL), kind=BaselineKind.NONE) == ()
    first = compare(stage(READS), stage(ALL), Baseline(kind=BaselineKind.BASE))
    role_only = ({"name": "default-role", "resource_type": "iam_role"},)
    policy = (Operation(method="put_role_policy", resource="default-role"),)
    assert widenings(policy, (), first) == widenings(policy, role_only, first) == ()


@pytest.mark.parametrize("kind", [BaselineKind.DEPLOYED, BaselineKind.BASE])
def test_without_a_record_in_detail_another_policy_counts_since_nobody_can_tell(
    kind: BaselineKind,
) -> None:
    """A pull request is compared with its base then, which is not what is deployed."""
    changes = Changes(baseline=Baseline(kind=kind, problem="It was not recorded."))
    policy = Operation(method="put_role_policy", resource="default-role")
    code = Operation(method="update_function", resource="worker")
    assert widenings((code,), LIVE, changes) == ()
    (told,) = widenings((code, policy, policy), LIVE, changes)
    assert told.startswith("`default-role` gets another policy")
    assert "can't be told" in told


# -- in which words -------------------------------------------------------------------------------

LOST = Ask(consent=Consent.DESTRUCTIVE, clauses=("the function `worker` is deleted",))
MORE = Ask(consent=Consent.WIDENED_IAM, clauses=more(stage(READS), stage(ALL)))


def test_a_plan_says_and_a_deployment_refuses_with_every_way_out() -> None:
    given = replace(LOST, given=True)
    (said,) = consent.findings(JOB, (given, MORE))
    assert (said.rule, said.severity, said.stage) == ("widened-iam", Severity.ERROR, "prod")
    assert f"s3:* on {BUCKET} (before: s3:GetObject on {BUCKET})" in said.what
    for way in (
        "label `allow-iam:prod`",
        "input `allow-widened-iam: true` (--allow-widened-iam)",
        "`stages.prod.allow-widened-iam: true` in chalice-ci.yml",
    ):
        assert way in said.fix
    with pytest.raises(PlanRefused) as caught:
        consent.refuse(JOB, (MORE,))
    assert caught.value.exit_code is ExitCode.PLAN_REFUSED
    assert said.what.rstrip(".") in caught.value.what
    assert caught.value.fix == said.fix


def test_a_deployment_that_needs_both_is_told_both_at_once() -> None:
    assert [one.rule for one in consent.findings(JOB, (LOST, MORE))] == [
        "destructive-change",
        "widened-iam",
    ]
    with pytest.raises(PlanRefused) as caught:
        consent.refuse(JOB, (LOST, MORE))
    assert "`worker` is deleted. It would also change what the app may do" in caught.value.what
    assert "`allow-delete:prod`" in caught.value.fix
    assert "`allow-iam:prod`" in caught.value.fix


# -- real runs ------------------------------------------------------------------------------------

GATED = "version: 1\nstages:\n  prod: {deploy-on: {branch: main}, environment: production%s}\n"
OWN = CONFIG.replace('"prod": {}', '"prod": {"autogen_policy": false}')
WRITER = APP.replace(
    "from chalice import Chalice\n",
    "import contextlib\n\nfrom chalice import Chalice\n\n"
    "with contextlib.suppress(ImportError):\n    import boto3\n",
).replace("    return", '    boto3.client("s3").put_object(Bucket="b", Key="k")\n    return')


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start() as running:
        yield running


@pytest.fixture
def account(aws: EmbeddedAWS) -> dict[str, str]:
    aws.reset()
    return {**aws.environ, "CHALICE_CI_GATEWAY_URL": aws.gateway_url}


def policy(*actions: str) -> dict[str, str]:
    """The stage's policy file with these actions on one bucket."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": BUCKET}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return {".chalice/policy-prod.json": json.dumps(document)}


def rules(ran: Ran) -> list[str]:
    return [finding["rule"] for finding in ran.result["findings"]]


def test_a_gated_stage_permits_more_only_when_somebody_lets_it(
    tmp_path: Path, account: dict[str, str]
) -> None:
    files = {"chalice-ci.yml": GATED % "", ".gitignore": "chalice-ci-out\n"}
    repository = hello(tmp_path / "r", **files)

    def ran(*arguments: object) -> Ran:
        return run_here(*arguments, "--format", "json", cwd=repository, **account)

    first = ran("deploy", "--stage", "prod")
    assert first.code == 0, first.out + first.err

    write(repository, {"app.py": WRITER})
    commit(repository, "Write to S3")
    planned = ran("plan", "--stage", "prod")
    assert (planned.code, rules(planned)) == (1, ["widened-iam"]), planned.err
    (said,) = planned.result["findings"]
    assert said["what"] == "`default-role`: More is permitted: s3:PutObject on *."
    plan = repository / "chalice-ci-out" / "hello-prod.plan"
    refused = ran("deploy", "--plan", plan)
    assert refused.code == 16, refused.out + refused.err
    failure = refused.result["failure"]
    assert "`default-role`: More is permitted: s3:PutObject on *" in failure["what"]
    assert failure["fix"] == said["fix"]
    assert "s3:PutObject" not in granted(account)
    let = ran("deploy", "--plan", plan, "--allow-widened-iam")
    assert let.code == 0, let.out + let.err
    assert "s3:PutObject" in granted(account)

    write(repository, {"app.py": APP})
    commit(repository, "Write no more")
    assert ran("deploy", "--stage", "prod").code == 0
    back = ran("rollback", "--stage", "prod")
    assert back.code == 16, back.out + back.err
    assert "s3:PutObject on *" in back.result["failure"]["what"]
    assert "s3:PutObject" not in granted(account)

    # As after a deployment by plain Chalice: resources are recorded, and what they permit is not.
    git(repository, "checkout", "--quiet", "chalice-state")
    git(repository, "rm", "--quiet", ".chalice/deployed/prod.snapshot.json")
    git(repository, "commit", "--quiet", "--message", "Know less")
    git(repository, "checkout", "--quiet", "main")
    write(repository, {"app.py": WRITER})
    commit(repository, "Write again")
    unknown = ran("deploy", "--stage", "prod")
    assert unknown.code == 16, unknown.out + unknown.err
    assert "`default-role` gets another policy" in unknown.result["failure"]["what"]
    assert "s3:PutObject" not in granted(account)


def granted(account: dict[str, str]) -> str:
    """The policy of the stage's role, as AWS has it."""
    name = "hello-prod"
    client = boto3.client(
        "iam",
        endpoint_url=account["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    found = client.get_role_policy(RoleName=name, PolicyName=name)
    return json.dumps(found["PolicyDocument"])


def test_a_label_lets_it_and_not_the_configuration_of_the_pull_request_itself(
    tmp_path: Path, account: dict[str, str]
) -> None:
    files = {".chalice/config.json": OWN, "chalice-ci.yml": GATED % "", **policy("s3:GetObject")}
    repository = hello(tmp_path / "r", **files, **{".gitignore": "chalice-ci-out\n"})
    assert run_here("deploy", "--stage", "prod", cwd=repository, **account).code == 0

    def asked(verb: str, number: int, *labels: str, **more: Any) -> Ran:
        pull = pull_request(repository, labels=[{"name": label} for label in labels])
        step = event(repository, tmp_path, "pull_request", action="opened", run=number, pull=pull)
        stage = ("--stage", "prod")
        return run_here(verb, *stage, "--format", "json", cwd=repository, **account, **step)

    git(repository, "checkout", "-qb", "feature")
    write(repository, policy("s3:GetObject", "s3:PutObject"))
    write(repository, {"chalice-ci.yml": GATED % ", allow-widened-iam: true"})
    commit(repository, "Write, and let it")

    refused = asked("plan", 1)
    assert (refused.code, rules(refused)) == (1, ["widened-iam"]), refused.out + refused.err
    assert f"s3:PutObject on {BUCKET}" in refused.result["findings"][0]["what"]
    assert "`stages.prod`" in " ".join(refused.report["notes"])
    checked = asked("run", 2)
    (result,) = checked.report["results"]
    assert {need["text"]: need["met"] for need in result["needs"]}[
        "Somebody lets it permit more: the label `allow-iam:prod`"
    ] is False
    assert "`allow-iam:prod`" in result["next_step"]

    planned = asked("plan", 3, "allow-iam:prod", "allow-delete:prod")
    assert (planned.code, rules(planned)) == (0, []), planned.out + planned.err
    # The push of a merge is let by the label of the pull request that was merged.
    (tmp_path / "forge").mkdir()
    forge = LocalForge(tmp_path / "forge")
    pull = forge.create_pull_request(
        head_ref="feature", head_sha="1" * 40, base_sha=git(repository, "rev-parse", "main")
    )
    git(repository, "checkout", "-q", "main")
    write(repository, policy("s3:*"))
    forge.update_pull_request(pull.number, merged=True, merge_sha=commit(repository, "Merge"))
    push = {
        **event(repository, tmp_path, "push", run=4),
        "CHALICE_CI_LOCAL_FORGE": str(tmp_path / "forge"),
    }
    forge.update_pull_request(pull.number, labels=("allow-iam:prod",))
    arguments = ("plan", "--stage", "prod", "--format", "json")
    merged = run_here(*arguments, cwd=repository, **account, **push)
    assert (merged.code, rules(merged)) == (0, []), merged.out + merged.err
    assert f"s3:* on {BUCKET}" in json.dumps(merged.result["difference"])
