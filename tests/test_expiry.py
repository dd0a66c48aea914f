"""A deployment that lasts longer than its credentials, on an AWS that refuses them then.

Each call takes a while, and a session of a role is over after some seconds: in real life it is an
hour, and a deployment takes as long when throttled. The role's credentials are renewed on the way,
by the job's OIDC token; what an earlier step left ends the deployment in good order (`EXPIRY=all`,
in `make test-deep`, with an app that takes more calls).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from chalice_ci.aws_access import KEYS
from chalice_ci.local import EmbeddedAWS
from chalice_ci.local.mode import LocalMode
from support.commandline import hello
from support.inprocess import run_here
from support.steps import event
from test_aws_access import ACCOUNT, ARN, Issuer, issuer
from test_previews import APP

__all__ = ["issuer"]

FULL = os.environ.get("EXPIRY") == "all"
SESSION_SECONDS = 15.0
REGION = "eu-west-1"
YML = f"""version: 1
stages:
  dev: {{deploy-on: {{branch: main}}, account: "{ACCOUNT}", region: {REGION}}}
"""


@pytest.fixture(scope="module")
def slow() -> Iterator[EmbeddedAWS]:
    """The calls of a deployment take some seconds more than a session lasts."""
    mode = LocalMode(lat=2.0, session=SESSION_SECONDS)
    with EmbeddedAWS.start(gateway=False, mode=mode) as running:
        yield running


def test_a_deployment_outlasts_the_roles_credentials_and_is_renewed_by_the_job(
    slow: EmbeddedAWS, issuer: Issuer, tmp_path: Path
) -> None:
    more = {} if FULL else {"app.py": APP}
    root = hello(tmp_path / "r", **{"chalice-ci.yml": YML, **more})
    job = event(root, tmp_path, "push")
    account = {name: value for name, value in slow.environ.items() if name not in KEYS}

    if FULL:
        # What an earlier step left: nobody here can renew it.
        left = credentials(slow)
        stopped = run_here("deploy", "--stage", "dev", cwd=root, **account, **job, **left)
        assert stopped.code == 12, stopped.out + stopped.err
        assert "expired" in stopped.err + stopped.out

    # The next one goes on from wherever that was, and lasts longer than a session.
    begun = time.monotonic()
    done = run_here(
        *("deploy", "--stage", "dev", "--role-to-assume", ARN),
        cwd=root,
        **{**account, **job, **issuer.environ},
    )
    assert done.code == 0, done.out + done.err
    assert time.monotonic() - begun > SESSION_SECONDS
    assert len(issuer.asked) > 1
    assert done.err.count(f"assumed {ARN} with the job's OIDC token") == len(issuer.asked)
    functions = client(slow, "lambda").list_functions()["Functions"]
    assert [found["FunctionName"] for found in functions] == [
        "hello-dev" if FULL else "hello-dev-work"
    ]


def credentials(aws: EmbeddedAWS) -> dict[str, str]:
    """A session of the role as the variables that a step leaves."""
    made = sts(aws)
    values = (made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    return dict(zip(KEYS, values, strict=True))


def sts(aws: EmbeddedAWS) -> dict[str, str]:
    asking = boto3.client(
        "sts",
        endpoint_url=aws.endpoint_url,
        region_name=REGION,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    made: dict[str, str] = asking.assume_role(RoleArn=ARN, RoleSessionName="left")["Credentials"]
    return made


def client(aws: EmbeddedAWS, service: str):  # type: ignore[no-untyped-def]  # boto3 has no types
    made = sts(aws)
    return boto3.client(
        service,
        endpoint_url=aws.endpoint_url,
        region_name=REGION,
        aws_access_key_id=made["AccessKeyId"],
        aws_secret_access_key=made["SecretAccessKey"],
        aws_session_token=made["SessionToken"],
    )
