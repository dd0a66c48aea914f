"""A role for each stage: assumed with the job's OIDC token or with credentials that are here."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from chalice_ci.aws_access import KEYS, Access, Role, session_name
from chalice_ci.errors import AWSError, UsageError, WrongAccount
from chalice_ci.local import EmbeddedAWS
from chalice_ci.oidc import ADDRESS, ATTEMPTS, SECRET, fetch_token, may_ask
from support.commandline import git, hello, write
from support.inprocess import run_here
from support.loopback import listening
from support.steps import event

ACCOUNT = "210987654321"
ARN = f"arn:aws:iam::{ACCOUNT}:role/ci/deploy"
BEARER = "runner-secret-4711"
TOKEN = "header.claims-of-this-job.signature"


class Issuer:
    """The runner's endpoint for OIDC tokens, as GitHub documents it; `troubles` come first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.troubles: list[tuple[int, bytes]] = []
        self.address = ""

    @property
    def environ(self) -> dict[str, str]:
        return {ADDRESS: f"{self.address}/token?api-version=2.0", SECRET: BEARER}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            query = parse_qs(urlsplit(self.path).query)
            allowed = self.headers["Authorization"] == f"bearer {BEARER}"
            if made.troubles:
                status, body = made.troubles.pop(0)
            elif not allowed or query.get("audience") != ["sts.amazonaws.com"]:
                status, body = 401, b"{}"
            else:
                status, body = 200, json.dumps({"value": TOKEN, "count": 1}).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{made.address}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as server:
        made.address = f"http://127.0.0.1:{server.server_port}"
        yield made


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(aws: EmbeddedAWS) -> None:
    aws.order_faults([])


def without_keys(aws: EmbeddedAWS) -> dict[str, str]:
    """Where the embedded AWS is, without credentials of any kind."""
    return {name: value for name, value in aws.environ.items() if name not in KEYS}


# -- the token -------------------------------------------------------------------------------------


def test_the_token_is_asked_for_with_the_jobs_secret_and_the_audience(issuer: Issuer) -> None:
    assert fetch_token(issuer.environ, "sts.amazonaws.com") == TOKEN
    assert issuer.asked == ["/token?api-version=2.0&audience=sts.amazonaws.com"]


@pytest.mark.parametrize(
    "trouble", [(500, b"{}"), (429, b""), (200, b"[]"), (200, b'{"value": 1}'), (200, b"\xff")]
)
def test_what_may_pass_is_asked_for_again_with_growing_pauses(
    issuer: Issuer, trouble: tuple[int, bytes]
) -> None:
    issuer.troubles = [trouble] * 2
    pauses: list[float] = []
    assert fetch_token(issuer.environ, "sts.amazonaws.com", sleep=pauses.append) == TOKEN
    assert pauses == [1, 2]
    issuer.troubles = [trouble] * ATTEMPTS
    with pytest.raises(AWSError, match="GitHub gave no OIDC token"):
        fetch_token(issuer.environ, "sts.amazonaws.com", sleep=pauses.append)


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_refusal_is_no_reason_to_ask_again_or_elsewhere(issuer: Issuer, status: int) -> None:
    issuer.troubles = [(status, b"{}")]
    with pytest.raises(AWSError, match=f"it answered {status}") as caught:
        fetch_token(issuer.environ, "sts.amazonaws.com")
    assert len(issuer.asked) == 1
    assert "id-token: write" in caught.value.fix


@pytest.mark.parametrize(
    ("env", "what", "fix"),
    [
        ({}, "may not ask GitHub", "`permissions: id-token: write`"),
        ({ADDRESS: "https://x.example", SECRET: ""}, "may not ask GitHub", "id-token: write"),
        ({ADDRESS: "http://x.example/t", SECRET: BEARER}, "is no https address", "GitHub's runner"),
    ],
)
def test_without_the_permission_the_workflows_line_is_named(
    env: dict[str, str], what: str, fix: str
) -> None:
    with pytest.raises(AWSError, match=what) as caught:
        fetch_token(env, "sts.amazonaws.com")
    assert fix in caught.value.fix
    assert BEARER not in str(caught.value)


# -- the role --------------------------------------------------------------------------------------


class Clock:
    """The time of a run, and what the run hid and said."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.hidden: list[str] = []
        self.said: list[str] = []

    def access(self, environ: dict[str, str]) -> Access:
        return Access(
            environ,
            now=lambda: self.now,
            sleep=lambda _: None,
            hide=self.hidden.append,
            say=self.said.append,
        )


def role(**more: object) -> Role:
    return Role(**{"arn": ARN, "session": "test", "seconds": 900, "where": "here", **more})  # type: ignore[arg-type]


def who(environ: dict[str, str]) -> dict[str, str]:
    client = boto3.Session(
        aws_access_key_id=environ[KEYS[0]],
        aws_secret_access_key=environ[KEYS[1]],
        aws_session_token=environ.get(KEYS[2]),
        region_name="us-east-1",
    ).client("sts", endpoint_url=environ["AWS_ENDPOINT_URL"])
    answer: dict[str, str] = client.get_caller_identity()
    return answer


def test_the_jobs_token_becomes_the_role_once_and_again_when_time_runs_out(
    aws: EmbeddedAWS, issuer: Issuer
) -> None:
    clock = Clock()
    access = clock.access(without_keys(aws) | issuer.environ | {"AWS_ROLE_SESSION_NAME": ""})
    first = access.environ(role(), account=ACCOUNT, region="eu-west-1")
    identity = who(dict(first))
    assert identity["Account"] == ACCOUNT
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/test"
    assert clock.hidden == [TOKEN, *(first[name] for name in KEYS)]
    assert access.environ(role(), account=None, region=None) == first
    assert len(issuer.asked) == 1
    clock.now += timedelta(seconds=400)
    second = access.environ(role(), account=None, region=None)
    assert second[KEYS[0]] != first[KEYS[0]]
    assert len(issuer.asked) == 2
    other = access.environ(role(session="other"), account=None, region=None)
    assert who(dict(other))["Arn"].endswith("/other")
    assert "with the job's OIDC token" in clock.said[0]
    assert not any(secret in line for line in clock.said for secret in clock.hidden)


def test_credentials_that_are_here_assume_the_role_in_a_chain(
    aws: EmbeddedAWS, issuer: Issuer
) -> None:
    """As aws-actions/configure-aws-credentials leaves them, also of a role."""
    first = Clock().access(aws.environ).environ(role(), account=None, region=None)
    clock = Clock()
    prod = "arn:aws:iam::111122223333:role/prod"
    chained = clock.access(dict(first) | issuer.environ).environ(
        role(arn=prod), account="111122223333", region=None
    )
    assert who(dict(chained))["Arn"] == "arn:aws:sts::111122223333:assumed-role/prod/test"
    assert issuer.asked == []
    assert "with the environment's credentials" in clock.said[0]


def test_another_accounts_role_is_refused_before_anything_is_asked(
    aws: EmbeddedAWS, issuer: Issuer
) -> None:
    access = Clock().access(without_keys(aws) | issuer.environ)
    with pytest.raises(WrongAccount, match=f"role is of account {ACCOUNT}, and only 111122223333"):
        access.environ(role(), account="111122223333", region=None)
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("code", "message", "chained", "fix"),
    [
        ("AccessDenied", "Not authorized", False, "sts:AssumeRoleWithWebIdentity"),
        ("AccessDenied", "Not authorized", True, "leave the step out"),
        ("InvalidIdentityToken", "No OpenIDConnect provider", False, "create-open-id-connect"),
        ("ExpiredTokenException", "Token expired", False, "Run the job again"),
        (
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            False,
            "`role-duration-seconds` less than 900",
        ),
    ],
)
def test_a_refusal_of_sts_says_what_to_change(
    aws: EmbeddedAWS, issuer: Issuer, code: str, message: str, chained: bool, fix: str
) -> None:
    operation = "AssumeRole" if chained else "AssumeRoleWithWebIdentity"
    told = {"status": 403, "code": code, "message": message}
    aws.order_faults([{"service": "sts", "operation": operation, **told}])
    environ = aws.environ if chained else without_keys(aws) | issuer.environ
    with pytest.raises(AWSError) as caught:
        Clock().access(environ).environ(role(), account=None, region=None)
    assert f"{code}: {message}" in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.exit_code == 12
    assert TOKEN not in str(caught.value)


def test_with_nothing_to_assume_it_with_the_permission_is_named(aws: EmbeddedAWS) -> None:
    nothing = without_keys(aws) | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere"}
    with pytest.raises(AWSError) as caught:
        Clock().access(nothing).environ(role(), account=None, region=None)
    assert "Unable to locate credentials" in caught.value.what
    assert "`permissions: id-token: write`" in caught.value.fix


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"arn": "deploy"}, "'deploy' is not the ARN of a role"),
        ({"arn": f"{ARN}\n"}, "is not the ARN of a role"),
        ({"seconds": 899}, "900 to 43200 seconds, not 899"),
        ({"seconds": 43_201}, "not 43201"),
    ],
)
def test_a_role_that_cannot_be_is_refused(changed: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        role(**changed)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chalice-ci-hello-7", "chalice-ci-hello-7"),
        ("a b/ü", "a-b"),
        ("", "--"),
        ("x" * 80, "x" * 64),
    ],
)
def test_any_text_becomes_a_session_name_that_sts_takes(text: str, name: str) -> None:
    assert session_name(text) == name
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII)


# -- a whole deploy --------------------------------------------------------------------------------

SPY = """import glob
import os

from chalice import Chalice

app = Chalice(app_name="hello")
seen = dict(os.environ)
for path in glob.glob("/proc/*/environ"):
    try:
        with open(path, "rb") as file:
            seen[path] = file.read().decode("utf-8", "replace")
    except OSError:
        pass
print("SPY SAW", seen)


@app.lambda_function()
def work(event, context):
    return {}
"""
YML = f"""version: 1
stages:
  dev: {{deploy-on: {{branch: main}}, account: "{ACCOUNT}", region: eu-west-1, role: "{ARN}"}}
"""


def test_a_stage_is_deployed_with_its_role_and_no_app_sees_a_credential(
    aws: EmbeddedAWS, issuer: Issuer, tmp_path
) -> None:
    repository = hello(tmp_path / "r", **{"chalice-ci.yml": YML, "app.py": SPY})
    env = event(repository, tmp_path, "push") | without_keys(aws) | issuer.environ
    env.pop("AWS_DEFAULT_REGION", None)
    env.pop("AWS_REGION", None)
    done = run_here("deploy", "--stage", "dev", cwd=repository, **env)
    assert done.code == 0, done.err
    assert "SPY SAW" in done.err
    state = json.loads(git(repository, "show", "chalice-state:.chalice/deployed/dev.json"))
    arns = [r["lambda_arn"] for r in state["resources"] if "lambda_arn" in r]
    assert arns == [f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:hello-dev-work"]

    masked = re.findall(r"^::add-mask::(.+)$", done.err, re.MULTILINE)
    assert len(masked) == 4
    assert TOKEN in masked
    rest = re.sub(r"^::add-mask::.+$", "", done.err, flags=re.MULTILINE) + done.out
    written = b"".join(
        path.read_bytes()
        for folder in (repository / "chalice-ci-out", tmp_path)
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    )
    for plan in (repository / "chalice-ci-out").glob("*.plan"):
        with zipfile.ZipFile(plan) as archive:
            written += b"".join(archive.read(name) for name in archive.namelist())
    for secret in (*masked, BEARER):
        assert secret not in rest
        assert secret.encode() not in written


def test_another_accounts_role_stops_the_deploy_before_the_app_is_planned(
    aws: EmbeddedAWS, issuer: Issuer, tmp_path
) -> None:
    repository = hello(tmp_path / "r", **{"chalice-ci.yml": YML.replace(f'"{ARN}"', '""')})
    env = event(repository, tmp_path, "push") | without_keys(aws) | issuer.environ
    wrong = run_here("deploy", "--stage", "dev", cwd=repository, **env)
    assert wrong.code == 2
    assert "role" in wrong.err
    other = YML.replace(f'account: "{ACCOUNT}"', 'account: "111122223333"')
    write(repository, {"chalice-ci.yml": other})
    wrong = run_here("deploy", "--stage", "dev", cwd=repository, **env)
    assert wrong.code == 19, wrong.err
    assert f"the role is of account {ACCOUNT}" in wrong.err
    assert issuer.asked == []


def test_a_token_that_the_system_hands_over_is_taken_as_it_is() -> None:
    env = {"CHALICE_CI_ID_TOKEN": "eyJ.from.gitlab"}
    assert may_ask(env)
    assert fetch_token(env, "sts.amazonaws.com") == "eyJ.from.gitlab"
