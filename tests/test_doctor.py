"""`doctor` finds each of many wrong set-ups, and nothing in a right one."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.doctor.repository import Unseen, Wanted, repository_findings
from chalice_ci.doctor.roles import RoleUnknown, RoleUse, RoleVariable, roles_of
from chalice_ci.doctor.rules import DOCTOR
from chalice_ci.doctor.trust import PROVIDER, trust_findings
from chalice_ci.doctor.workflows import workflow_findings
from chalice_ci.findings import Finding
from chalice_ci.forge.local_settings import FILE, LocalSettings
from chalice_ci.local import EmbeddedAWS
from chalice_ci.positions import MapNode
from chalice_ci.yaml_source import read_yaml
from support.awsclients import clients_of
from support.commandline import APP, commit, git, write
from support.index import Index, serve
from support.inprocess import run_here

EXAMPLES = Path(__file__).parents[1] / "workflows-examples"
PIN = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "org/shop"
ROLE = "arn:aws:iam::123456789012:role/chalice-deploy"


def workflow(name: str) -> str:
    """One of the examples, as somebody who followed its comments has it."""
    text = (EXAMPLES / f"{name}.yml").read_text(encoding="utf-8")
    return text.replace("org/chalice-action@v1", f"org/chalice-action@{PIN}")


def trust(*subjects: str, operator: str = "StringEquals") -> dict[str, Any]:
    """A trust policy for GitHub's tokens."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{PROVIDER}"},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    operator: {f"{PROVIDER}:sub": list(subjects)},
                    "StringEquals" if operator != "StringEquals" else "StringLike": {
                        f"{PROVIDER}:aud": "sts.amazonaws.com"
                    },
                },
            }
        ],
    }


@dataclass(kw_only=True)
class SetUp:
    """Everything that is looked at but the apps: right, until a case changes it."""

    workflows: dict[str, str] = field(
        default_factory=lambda: {name: workflow(name) for name in ("minimal", "gated-production")}
    )
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "environments": {
                "production": {
                    "reviewers": 2,
                    "self_review_prevented": True,
                    "branches_restricted": True,
                }
            },
            "branches": {
                "main": {"reviews": 1, "deletion_blocked": True, "force_push_blocked": True},
                "chalice-state": {"deletion_blocked": True, "force_push_blocked": True},
            },
            "jobs_may_write": False,
        }
    )
    trust: dict[str, Any] = field(
        default_factory=lambda: trust(
            f"repo:{REPOSITORY}:ref:refs/heads/main", f"repo:{REPOSITORY}:environment:production"
        )
    )

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text of a workflow, which must be there."""
        assert old in self.workflows[name], old
        self.workflows[name] = self.workflows[name].replace(old, new)


def audit(it: SetUp, folder: Path) -> list[Finding]:
    """What the rules say of a set-up."""
    environments = (("production", "prod"),)
    nodes = []
    for name, text in it.workflows.items():
        node, problems = read_yaml(text, f".github/workflows/{name}.yml")
        assert not problems
        assert isinstance(node, MapNode)
        nodes.append(node)
    (folder / FILE).write_text(json.dumps(it.settings), encoding="utf-8")
    wanted = Wanted(environments=environments, state_branch="chalice-state")
    unseen = Unseen()
    found = [
        *workflow_findings(nodes, environments=environments),
        *repository_findings(LocalSettings(folder), wanted, unseen),
        *trust_findings(ROLE, it.trust, repository=REPOSITORY),
    ]
    assert not unseen.notes
    return found


def test_nothing_is_found_in_a_right_set_up(tmp_path: Path) -> None:
    assert audit(SetUp(), tmp_path) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yml")))
def test_nothing_is_found_in_our_examples_but_the_placeholder(name: str) -> None:
    node, _ = read_yaml((EXAMPLES / f"{name}.yml").read_text(encoding="utf-8"), name)
    assert isinstance(node, MapNode)
    rules = {finding.rule for finding in workflow_findings([node])}
    # One of them deploys nothing, so it alone is no set-up.
    assert rules <= {"workflow-unpinned-action", "workflow-missing"}


def _environment(**changes: Any) -> Callable[[SetUp], None]:
    return lambda it: it.settings["environments"]["production"].update(changes)


def _branch(name: str, **changes: Any) -> Callable[[SetUp], None]:
    return lambda it: it.settings["branches"][name].update(changes)


def _edit(name: str, old: str, new: str) -> Callable[[SetUp], None]:
    return lambda it: it.edit(name, old, new)


def _trust(*subjects: str, operator: str = "StringEquals") -> Callable[[SetUp], None]:
    return lambda it: setattr(it, "trust", trust(*subjects, operator=operator))


def _statement(change: Callable[[dict[str, Any]], object]) -> Callable[[SetUp], None]:
    def apply(it: SetUp) -> None:
        it.trust = copy.deepcopy(it.trust)
        change(it.trust["Statement"][0])

    return apply


_CONCURRENCY = "  group: ${{ github.workflow }}-${{ github.ref }}\n  cancel-in-progress: false\n"
_KEEP = "        with:\n          persist-credentials: false\n"
_CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"

WRONG: dict[str, tuple[str, Callable[[SetUp], None]]] = {
    "no workflow": ("workflow-missing", lambda it: it.workflows.clear()),
    "a workflow of something else": (
        "workflow-missing",
        lambda it: setattr(it, "workflows", {"lint": "on: push\njobs: {lint: {steps: []}}\n"}),
    ),
    "no job names the environment": (
        "workflow-without-gate",
        _edit("gated-production", "    environment: production\n", ""),
    ),
    "pull_request_target": (
        "workflow-runs-foreign-code",
        _edit("minimal", "  pull_request:\n", "  pull_request_target:\n"),
    ),
    "workflow_run": (
        "workflow-runs-foreign-code",
        _edit("minimal", "  workflow_dispatch:\n", "  workflow_run: {workflows: [Test]}\n"),
    ),
    "default permissions": (
        "workflow-without-permissions",
        lambda it: (
            it.edit("minimal", "permissions: {}\n", ""),
            it.edit(
                "minimal",
                "    permissions:\n      contents: read # the code\n"
                "      pull-requests: write # the comment\n",
                "",
            ),
        )[0],
    ),
    "write-all": (
        "workflow-broad-permissions",
        _edit("minimal", "permissions: {}\n", "permissions: write-all\n"),
    ),
    "writes for every job": (
        "workflow-broad-permissions",
        _edit("minimal", "permissions: {}\n", "permissions: {contents: write}\n"),
    ),
    "a scope that nobody needs": (
        "workflow-broad-permissions",
        _edit("minimal", "      id-token: write", "      packages: write\n      id-token: write"),
    ),
    "no token for the role": (
        "workflow-without-id-token",
        _edit("minimal", "      id-token: write # the role in AWS\n", ""),
    ),
    "no concurrency": (
        "workflow-without-concurrency",
        _edit("minimal", f"concurrency:\n{_CONCURRENCY}", ""),
    ),
    "deployments are cancelled": (
        "workflow-cancels-deployments",
        _edit("minimal", "cancel-in-progress: false", "cancel-in-progress: true"),
    ),
    "an action by tag": (
        "workflow-unpinned-action",
        _edit("minimal", _CHECKOUT, "actions/checkout@v7"),
    ),
    "our action by branch": (
        "workflow-unpinned-action",
        _edit("minimal", f"org/chalice-action@{PIN}", "org/chalice-action@main"),
    ),
    "an image by tag": (
        "workflow-unpinned-action",
        _edit("minimal", f"uses: {_CHECKOUT}", "uses: docker://alpine:3"),
    ),
    "checkout keeps the token": ("workflow-keeps-token", _edit("minimal", _KEEP, "")),
    "a stored key": (
        "workflow-static-keys",
        _edit(
            "minimal",
            "          role-to-assume: arn:aws:iam::123456789012:role/chalice-deploy\n",
            "          aws-access-key-id: ${{ secrets.AWS_ACCESS_KEY_ID }}\n"
            "          aws-secret-access-key: ${{ secrets.AWS_SECRET_ACCESS_KEY }}\n",
        ),
    ),
    "a stored key in the environment": (
        "workflow-static-keys",
        _edit(
            "minimal",
            "  deploy:\n    name: Deploy\n",
            "  deploy:\n    name: Deploy\n"
            "    env: {AWS_SECRET_ACCESS_KEY: '${{ secrets.AWS_SECRET_ACCESS_KEY }}'}\n",
        ),
    ),
    "no environment": ("environment-missing", lambda it: it.settings["environments"].clear()),
    "no reviewers": ("environment-without-reviewers", _environment(reviewers=0)),
    "self-review": ("environment-self-review", _environment(self_review_prevented=False)),
    "any branch": ("environment-any-branch", _environment(branches_restricted=False)),
    "no review on main": ("branch-without-review", _branch("main", reviews=0)),
    "main can be force-pushed": ("branch-rewritable", _branch("main", force_push_blocked=False)),
    "main can be deleted": ("branch-rewritable", _branch("main", deletion_blocked=False)),
    "the state can be force-pushed": (
        "state-branch-rewritable",
        _branch("chalice-state", force_push_blocked=False),
    ),
    "the state can be deleted": (
        "state-branch-rewritable",
        _branch("chalice-state", deletion_blocked=False),
    ),
    "jobs write": ("workflow-token-writes", lambda it: it.settings.update(jobs_may_write=True)),
    "every branch": (
        "trust-subject-wildcard",
        _trust(f"repo:{REPOSITORY}:*", operator="StringLike"),
    ),
    "some branches": (
        "trust-subject-wildcard",
        _trust(f"repo:{REPOSITORY}:ref:refs/heads/*", operator="StringLike"),
    ),
    "every repository of the organization": (
        "trust-open",
        _trust("repo:org/*:ref:refs/heads/main", operator="StringLike"),
    ),
    "everybody": ("trust-open", _trust("*", operator="StringLike")),
    "no subject": (
        "trust-open",
        _statement(lambda s: s["Condition"].pop("StringEquals")),
    ),
    "a subject that may be missing": (
        "trust-open",
        _trust(f"repo:{REPOSITORY}:ref:refs/heads/main", operator="ForAllValues:StringEquals"),
    ),
    "only what the subject is not": (
        "trust-open",
        _trust(f"repo:{REPOSITORY}:pull_request", operator="StringNotEquals"),
    ),
    "any principal": (
        "trust-open",
        lambda it: it.trust["Statement"].append(
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        ),
    ),
    "pull requests beside a branch": (
        "trust-pull-request",
        _trust(f"repo:{REPOSITORY}:pull_request", f"repo:{REPOSITORY}:ref:refs/heads/main"),
    ),
    "another repository": (
        "trust-other-repository",
        _trust("repo:org/other:ref:refs/heads/main"),
    ),
    "no audience": (
        "trust-without-audience",
        _statement(lambda s: s["Condition"].pop("StringLike")),
    ),
    "another provider": (
        "trust-without-oidc",
        _statement(
            lambda s: s.update(
                Principal={"Federated": "arn:aws:iam::123456789012:oidc-provider/gitlab.com"}
            )
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_set_up_is_found(name: str, tmp_path: Path) -> None:
    rule, spoil = WRONG[name]
    it = SetUp()
    spoil(it)
    found = audit(it, tmp_path)
    assert {finding.rule for finding in found} == {rule}, found
    assert all(finding.what and finding.fix for finding in found)


def test_every_rule_of_the_doctor_has_a_wrong_set_up() -> None:
    shown = {rule for rule, _ in WRONG.values()}
    # These are seen in whole runs, below.
    whole = {"role-missing", "role-of-another-account", "wheels-missing"}
    assert {rule.name for rule in DOCTOR} == shown | whole
    assert len(WRONG) >= 25


def test_what_a_token_is_not_shown_is_said(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{", encoding="utf-8")
    unseen = Unseen()
    wanted = Wanted(environments=(("production", "prod"),), state_branch="chalice-state")
    assert list(repository_findings(LocalSettings(tmp_path), wanted, unseen)) == []
    assert len(unseen.notes) == 4


def test_roles_are_found_where_they_are_written() -> None:
    node, _ = read_yaml(workflow("minimal"), "minimal.yml")
    (use,) = roles_of([node])
    assert isinstance(use, RoleUse)
    assert use.arn == ROLE
    assert use.at.line


def steps(role: str, **job: str) -> str:
    """A workflow whose job assumes a role."""
    more = "".join(f"    {key}: {value}\n" for key, value in job.items())
    step = f"      - {{uses: aws-actions/configure-aws-credentials@v6, with: {role}}}\n"
    return f"on: push\njobs:\n  deploy:\n{more}    steps:\n{step}"


CALLED = steps('{role-to-assume: "${{ inputs.role }}"}').replace(
    "on: push", "on: {workflow_call: {inputs: {role: {type: string}}}}"
)
CALLER = "on: push\njobs:\n  a:\n    uses: ./.github/workflows/called.yml\n    with: {role: %s}\n"


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (
            {"one": steps('{role-to-assume: "${{ vars.ROLE }}"}')},
            [("ROLE", "")],
        ),
        (
            {"one": steps('{role-to-assume: "${{ vars.ROLE }}"}', environment="production")},
            [("ROLE", "production")],
        ),
        (
            {"one": steps('{role-to-assume: "${{ vars.A || vars.B }}"}')},
            [("A", ""), ("B", "")],
        ),
        ({"one": steps('{role-to-assume: "${{ env.R }}"}', env=f'{{R: "{ROLE}"}}')}, [ROLE]),
        (
            {"one": steps('{role-to-assume: "${{ env.R }}"}', env='{R: "${{ vars.ROLE }}"}')},
            [("ROLE", "")],
        ),
        ({"called": CALLED, "caller": CALLER % f'"{ROLE}"'}, [ROLE]),
        ({"called": CALLED, "caller": CALLER % '"${{ vars.ROLE }}"'}, [("ROLE", "")]),
        ({"called": CALLED}, ["the input `role`"]),
        ({"one": steps('{role-to-assume: "${{ secrets.ROLE }}"}')}, ["the secret ROLE"]),
        ({"one": steps('{role-to-assume: "${{ env.R }}"}', env='{R: "${{ env.R }}"}')}, ["env.R"]),
        ({"one": steps('{role-to-assume: "deploy"}')}, ["not understood"]),
        ({"one": steps("{aws-region: eu-west-1}")}, []),
    ],
)
def test_a_role_is_followed_through_variables_and_inputs(
    texts: dict[str, str], wanted: list[Any]
) -> None:
    nodes = [read_yaml(text, f".github/workflows/{name}.yml")[0] for name, text in texts.items()]
    found = roles_of(nodes)
    assert len(found) == len(wanted)
    for role, expected in zip(found, wanted, strict=True):
        match role:
            case RoleUse(arn=arn):
                assert arn == expected
            case RoleVariable(name=name, environment=environment):
                assert (name, environment) == expected
            case RoleUnknown(why=why):
                assert expected in why


# -- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that a process without rights can enter."""
    with tempfile.TemporaryDirectory(prefix="chalice-ci-doctor-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


CONFIGURATION = """version: 1
stages:
  prod: {deploy-on: {tag: "v*"}, environment: production, account: "123456789012"}
"""
CHALICE = '{"version": "2.0", "app_name": "hello", "stages": {"prod": {}}}\n'


def repository(root: Path, it: SetUp, files: dict[str, str]) -> Path:
    """A checkout with the set-up."""
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "remote", "add", "origin", f"https://github.com/{REPOSITORY}.git")
    texts = {f".github/workflows/{name}.yml": text for name, text in it.workflows.items()}
    write(root, {**files, **texts, "forge/settings.json": json.dumps(it.settings)})
    commit(root)
    return root


def doctor(root: Path, aws: EmbeddedAWS | None, **env: str) -> Any:
    """A whole run; its report."""
    given = {**(aws.environ if aws else {}), "GITHUB_TOKEN": "", **env}
    arguments = ["--format=json", f"--local-forge={root / 'forge'}"]
    return run_here("doctor", *arguments, cwd=root, **given)


def test_a_right_repository_passes_and_a_wrong_one_does_not(place: Path, aws: EmbeddedAWS) -> None:
    it = SetUp()
    it.workflows["gated-production"] = it.workflows["gated-production"].replace(
        "role/chalice-plan", "role/chalice-deploy"
    )
    iam = clients_of(aws)("iam")
    iam.create_role(RoleName="chalice-deploy", AssumeRolePolicyDocument=json.dumps(it.trust))
    files = {
        "app.py": APP,
        ".chalice/config.json": CHALICE,
        "requirements.txt": "",
        "chalice-ci.yml": CONFIGURATION,
    }
    root = repository(place / "right", it, files)
    ran = doctor(root, aws)
    assert ran.report["findings"] == []
    assert [r["findings"] for r in ran.report["results"]] == [[]]
    assert ran.code == 0, ran.err
    # One warning is enough.
    settings = {**it.settings, "jobs_may_write": True}
    write(root, {"forge/settings.json": json.dumps(settings)})
    told = doctor(root, aws)
    assert [one["rule"] for one in told.report["findings"]] == ["workflow-token-writes"]
    assert told.code == 1


def test_what_is_wrong_with_apps_and_roles_is_found(place: Path, aws: EmbeddedAWS) -> None:
    secret = CHALICE.replace("{}", '{"environment_variables": {"DB_PASSWORD": "hunter2hunter2"}}')
    it = SetUp()
    it.edit("minimal", "123456789012:role/chalice-deploy", "210987654321:role/chalice-deploy")
    it.edit("gated-production", "role/chalice-plan", "role/chalice-gone")
    files = {
        "old/app.py": APP,
        "old/.chalice/config.json": CHALICE,
        "old/requirements.txt": "chalice==1.10.0\n",
        "python/app.py": APP,
        "python/.chalice/config.json": CHALICE,
        "python/.python-version": "3.8\n",
        "python/requirements.txt": "",
        "told/app.py": APP,
        "told/.chalice/config.json": secret,
        "told/requirements.txt": "",
        "wheel/app.py": APP,
        "wheel/.chalice/config.json": CHALICE,
        "wheel/requirements.txt": "nowhere-to-be-found==1.0\n",
        "chalice-ci.yml": CONFIGURATION,
    }
    root = repository(place / "wrong", it, files)
    with serve(Index()) as index:
        ran = doctor(root, aws, UV_DEFAULT_INDEX=index.url, HOME=os.environ["HOME"])
    rules = {one["rule"] for one in ran.report["findings"]}
    assert {"role-of-another-account", "role-missing"} <= rules
    of = {r["app"]: {one["rule"] for one in r["findings"]} for r in ran.report["results"]}
    assert of == {
        "old": {"chalice-version"},
        "python": {"python-version"},
        "told": {"config-json-secret"},
        "wheel": {"wheels-missing"},
    }
    assert ran.code == 1


def test_roles_of_variables_and_of_stages_are_looked_at(place: Path, aws: EmbeddedAWS) -> None:
    it = SetUp()
    for name, variable in (("minimal", "DEPLOY"), ("gated-production", "PLAN")):
        text = it.workflows[name].replace("arn:aws:iam::123456789012:role/chalice-", "@")
        it.workflows[name] = re.sub(r"@\w+", f"${{{{ vars.{variable} }}}}", text)
    it.settings["variables"] = {"DEPLOY": "arn:aws:iam::123456789012:role/of-a-variable"}
    role = "arn:aws:iam::210987654321:role/of-a-stage"
    files = {
        "app.py": APP,
        ".chalice/config.json": CHALICE,
        "requirements.txt": "",
        "chalice-ci.yml": CONFIGURATION.replace("account:", f'role: "{role}", account:'),
    }
    root = repository(place / "variables", it, files)
    found = {(one["rule"], one["subject"]) for one in doctor(root, aws).report["findings"]}
    assert ("role-missing", "arn:aws:iam::123456789012:role/of-a-variable") in found
    assert ("role-missing", "PLAN") in found
    assert ("role-of-another-account", role) in found
    # The environment's variable comes first.
    it.settings["environments"]["production"]["variables"] = {"PLAN": "no role", "DEPLOY": "none"}
    write(root, {"forge/settings.json": json.dumps(it.settings)})
    told = [one["what"] for one in doctor(root, aws).report["findings"]]
    assert any("PLAN, which does not hold the ARN" in what for what in told), told


def test_without_token_and_credentials_it_says_what_was_not_looked_at(place: Path) -> None:
    files = {"app.py": APP, ".chalice/config.json": CHALICE, "requirements.txt": ""}
    root = repository(place / "alone", SetUp(), {**files, "chalice-ci.yml": CONFIGURATION})
    ran = run_here("doctor", "--format=json", cwd=root, GITHUB_TOKEN="")
    notes = " ".join(ran.report["notes"])
    assert "trust policies of the roles were not looked at" in notes
    assert "environments, branch rules" in notes
    assert ran.code == 0
