"""A plan that is applied elsewhere: in an empty folder, and after the branch went on.

The job behind an environment's gate needs the plan and a role, no code. GitHub is the offline one
with the very commits of the repository, the role is assumed with the job's OIDC token.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalice_ci.forge.github_api import GitHubApi
from chalice_ci.forge.github_data import GitHubData
from chalice_ci.local import EmbeddedAWS
from chalice_ci.state.github import GitHubRepository
from chalice_ci.state.plans import GitPlans, referred
from offline_github import webhooks
from offline_github.emulate import REPOSITORY
from offline_github.gateway import OfflineGitHub, offline_github, report
from support.commandline import Ran, commit, git, hello, write
from support.inprocess import run_here
from support.offline import Twin
from test_aws_access import ACCOUNT, ARN, Issuer, aws, issuer, without_keys
from test_previews import APP

__all__ = ["aws", "issuer"]

KEY = "0123456789abcdef" * 4
REGION = "eu-west-1"
YML = f"""version: 1
stages:
  dev: {{}}
  prod:
    deploy-on: {{branch: main}}
    environment: production
    account: "{ACCOUNT}"
    region: {REGION}
"""


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineGitHub]:
    with offline_github(tmp_path_factory.mktemp("github")) as found:
        yield found


@dataclass
class Jobs:
    """The two jobs of a gated production, each in a folder of its own."""

    twin: Twin
    account: dict[str, str]
    token: str
    made: int = 0

    def _event(self, sha: str, run: int) -> dict[str, str]:
        self.made += 1
        payload = webhooks.push("refs/heads/main")
        payload["repository"] |= {"full_name": REPOSITORY, "default_branch": "main"}
        step = self.twin.step(str(self.made), "push", payload, run=run, token=self.token, sha=sha)
        return {**self.account, **step, "INPUT_SIGNING-KEY": KEY, "INPUT_AWS-REGION": REGION}

    def plan(self, **more: str) -> str:
        """Plan; the output `plan` of the job."""
        sha = git(self.twin.root, "rev-parse", "HEAD")
        inputs = {"INPUT_COMMAND": "plan", "INPUT_STAGE": "prod", "INPUT_ROLE-TO-ASSUME": ARN}
        env = {**self._event(sha, 7), **inputs, **more}
        ran = run_here("action", cwd=self.twin.root, **env)
        assert ran.code == 0, ran.out + ran.err
        written = Path(env["GITHUB_OUTPUT"]).read_text()
        ((_, planned),) = re.findall(r"^plan<<(\S+)\n(.*)\n\1$", written, re.MULTILINE)
        return str(planned)

    def plan_file(self) -> Path:
        self.plan()
        place = self.twin.folder / "empty" / "prod.plan"
        place.parent.mkdir()
        shutil.move(self.twin.root / "chalice-ci-out/hello-prod.plan", place)
        return place

    def deploy(
        self, plan: Path | str, *, sha: str, cwd: Path | None = None, run: int = 8, **more: str
    ) -> Ran:
        """Another run, with nothing but the plan, the names, the role, the region and the key."""
        empty = self.twin.folder / "empty"
        inputs = {
            "INPUT_COMMAND": "deploy",
            "INPUT_PLAN": plan.name if isinstance(plan, Path) and not cwd else str(plan),
            "INPUT_APP": "hello",
            "INPUT_STAGE": "prod",
            "INPUT_ROLE-TO-ASSUME": ARN,
        }
        env = {**self._event(sha, run), **inputs, **more}
        return run_here("action", cwd=cwd or empty, **env)


def test_a_gated_job_needs_no_checkout_and_applies_nothing_old(
    aws: EmbeddedAWS, issuer: Issuer, github: OfflineGitHub, tmp_path: Path
) -> None:
    root = hello(
        tmp_path / "r", **{"chalice-ci.yml": YML, "app.py": APP, ".gitignore": "chalice-ci-out\n"}
    )
    twin = Twin(root=root, github=github, folder=tmp_path)
    sha = twin.mirrored("main")
    jobs = Jobs(
        twin=twin,
        account={**without_keys(aws), **issuer.environ},
        token=github.emulator.workflow_token(contents="write"),
    )
    plan = jobs.plan_file()

    # Without a token nobody knows what chalice-ci.yml says, or where the state is.
    refused = jobs.deploy(plan, sha=sha, GITHUB_TOKEN="")
    assert refused.code == 2, refused.err
    assert "github-token" in refused.err

    # Another commit than the plan's, as the CI system says.
    other = github.emulator.push("other", {"x.txt": "x"}, base="main")
    refused = jobs.deploy(plan, sha=other)
    assert refused.code == 16, refused.err
    assert other[:12] in refused.err

    # The branch went on: neither without a checkout nor in one of the old commit.
    write(root, {"app.py": APP + "# newer\n"})
    commit(root, "Go on")
    twin.mirrored("main")
    git(root, "checkout", "--quiet", sha)
    for cwd in (None, root):
        refused = jobs.deploy(plan, sha=sha, cwd=cwd)
        assert refused.code == 16, refused.err
        assert f"main went on since the plan was made of {sha[:7]}: app.py" in refused.err
    assert functions(aws) == set()

    # A recorded state beside the code is no newer push.
    git(root, "checkout", "--quiet", "-B", "main", sha)
    write(root, {".chalice/deployed/dev.json": '{"resources": [], "schema_version": "2.0"}\n'})
    commit(root, "dev: deployed [skip ci]")
    twin.mirrored("main")
    github.forget()
    done = jobs.deploy(plan, sha=sha)
    assert done.code == 0, done.out + done.err
    assert functions(aws) == {"hello-prod-work"}
    text = github.emulator.file(".chalice/deployed/prod.json", ref="chalice-state")
    assert any(":hello-prod-work" in str(r) for r in json.loads(text)["resources"])
    assert "GET /repos/{owner}/{repo}/contents/{path}" in github.counted()

    # The next one travels through the store: no artifact carries it. Nor is there a key: it is
    # believed in its own run.
    keyless = {"INPUT_SIGNING-KEY": ""}
    write(root, {"app.py": APP + "# another version\n"})
    sha = commit(root, "Go on")
    twin.mirrored("main")
    stored = jobs.plan(**{"INPUT_PLAN-STORE": "true"}, **keyless)
    assert re.fullmatch(r"store:\d{4}-\d{2}-\d{2}\.[0-9a-f]{64}", stored)
    shutil.rmtree(root / "chalice-ci-out")

    # Somebody who may write to the store puts a plan in its place that the key made.
    data = GitHubData(GitHubApi(REPOSITORY, token=jobs.token, api_url=github.url))
    plans = GitPlans(GitHubRepository(data), prefix="chalice-state-plans")
    name = referred(stored)
    assert name is not None
    approved = tmp_path / "approved.plan"
    assert plans.fetch_plan(name, approved)
    plans.drop_plan(name)
    plans.keep_plan(name, plan)
    refused = jobs.deploy(stored, sha=sha)
    assert refused.code == 16, refused.err
    assert "what the store has under this name is the plan" in refused.err
    plans.drop_plan(name)
    plans.keep_plan(name, approved)

    # Another run does not get it.
    refused = jobs.deploy(stored, sha=sha, **keyless)
    assert refused.code == 16, refused.err
    assert "believed only in the run that made it" in refused.err

    done = jobs.deploy(stored, sha=sha, run=7, **keyless)
    assert done.code == 0, done.out + done.err
    assert plans.kept_plans() == ()
    # What the commit has anyway is kept, to go back to it: without a key as well.
    listed = github.emulator.file(".chalice/deployed/prod.releases.json", ref="chalice-state")
    assert json.loads(listed)["releases"][0]["plan"].startswith("zlib:")
    used = jobs.deploy(stored, sha=sha, run=7, **keyless)
    assert used.code == 16, used.err
    assert "the store has no such plan" in used.err
    assert github.invalid == [], report(github)


def functions(aws: EmbeddedAWS) -> set[str]:
    sts = boto3.client(
        "sts",
        endpoint_url=aws.endpoint_url,
        region_name=REGION,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    made: Any = sts.assume_role(RoleArn=ARN, RoleSessionName="look")["Credentials"]
    client = boto3.client(
        "lambda",
        endpoint_url=aws.endpoint_url,
        region_name=REGION,
        aws_access_key_id=made["AccessKeyId"],
        aws_secret_access_key=made["SecretAccessKey"],
        aws_session_token=made["SessionToken"],
    )
    return {found["FunctionName"] for found in client.list_functions()["Functions"]}
