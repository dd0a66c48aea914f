"""`doctor` beside GitHub: wrong pipelines and trust are found, and nothing in what init writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.context import System
from chalice_ci.doctor.pipelines import pipeline_findings, pipeline_roles
from chalice_ci.doctor.tokens import PROVIDERS, token_findings
from chalice_ci.local import EmbeddedAWS
from chalice_ci.scaffold import gitlab
from chalice_ci.scaffold.pipelines import PIPELINES, pipeline
from chalice_ci.yaml_source import read_yaml
from support.awsclients import clients_of
from support.commandline import commit, git, hello
from support.inprocess import run_here
from test_init_systems import SMALL, setting, the_template, trusts

ROLE = "arn:aws:iam::123456789012:role/chalice-deploy"


def text_of(system: System) -> str:
    if system is System.GITLAB:
        return gitlab.pipeline(setting(system, gated=True)).replace("chalice@1", "chalice@1.0.0")
    return pipeline(setting(system, gated=True))


def found(system: System, text: str) -> set[str]:
    trees = {"it": read_yaml(text, "it")[0]} if system in (System.AZURE, System.BUILDKITE) else {}
    return {one.rule for one in pipeline_findings(system, {"it": text}, trees)}


@pytest.mark.parametrize("system", [*PIPELINES, System.GITLAB])
def test_nothing_is_found_in_a_pipeline_that_init_writes(system: System) -> None:
    assert found(system, text_of(system)) == set()


SPOILT: dict[str, tuple[System, str, str, str]] = {
    "GitLab: a release that grows": (
        *(System.GITLAB, "chalice@1.0.0", "chalice@1", "workflow-unpinned-action"),
    ),
    "CircleCI: the newest orb": (
        *(System.CIRCLECI, "chalice-ci@1.0.0", "chalice-ci@volatile", "workflow-unpinned-action"),
    ),
    "Jenkins: the library as it is": (
        *(System.JENKINS, "chalice-ci@v1.0.0", "chalice-ci", "workflow-unpinned-action"),
    ),
    "Jenkins: a branch of the library": (
        *(System.JENKINS, "chalice-ci@v1.0.0", "chalice-ci@main", "workflow-unpinned-action"),
    ),
    "Bitbucket: the newest pipe": (
        *(System.BITBUCKET, "pipe:1.0.0", "pipe:latest", "workflow-unpinned-action"),
    ),
    "Bitbucket: a pipe without a version": (
        *(System.BITBUCKET, "pipe:1.0.0", "pipe", "workflow-unpinned-action"),
    ),
    "Bitbucket: a stored key": (
        *(System.BITBUCKET, 'AWS_SECRET_ACCESS_KEY: ""', "AWS_SECRET_ACCESS_KEY: $KEY"),
        "workflow-static-keys",
    ),
    "Azure: a branch of the templates": (
        *(System.AZURE, "refs/tags/v1.0.0", "refs/heads/main", "workflow-unpinned-action"),
    ),
    "Azure: two runs at once": (
        *(System.AZURE, "    lockBehavior: sequential\n", "", "workflow-without-concurrency"),
    ),
    "CodeBuild: the newest image": (
        *(System.CODEBUILD, "chalice-action:1.0.0", "chalice-action", "workflow-unpinned-action"),
    ),
    "Buildkite: a branch of the plugin": (
        *(System.BUILDKITE, "chalice-ci#v1.0.0", "chalice-ci#main", "workflow-unpinned-action"),
    ),
    "Buildkite: two builds at once": (
        *(System.BUILDKITE, "concurrency_group", "key_of_another", "workflow-without-concurrency"),
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_in_a_pipeline_is_found(name: str) -> None:
    system, old, new, rule = SPOILT[name]
    text = text_of(system)
    assert old in text
    assert found(system, text.replace(old, new)) == {rule}


@pytest.mark.parametrize("system", [*PIPELINES, System.GITLAB])
def test_a_pipeline_that_does_nothing_of_ours_is_found(system: System) -> None:
    assert found(system, "test: {script: [make]}\n") == {"workflow-missing"}
    assert found(system, "test: {script: [chalice-ci run]}\n") == set()


def test_roles_are_found_with_their_lines() -> None:
    first, second = pipeline_roles({"it": text_of(System.BUILDKITE)})
    assert first.arn.endswith("role/orders-chalice-deploy")
    assert second.arn.endswith("role/orders-chalice-plan")
    assert (first.at.file, first.at.line) == ("it", 16)


# -- trust ----------------------------------------------------------------------------------------

_UUID = "????????-????-????-????-????????????"
ISSUERS = {
    System.GITLAB: "gitlab.example",
    System.CIRCLECI: "oidc.circleci.com/org/1",
    System.BITBUCKET: "api.bitbucket.org/2.0/workspaces/octo/pipelines-config/identity/oidc",
    System.AZURE: "vstoken.dev.azure.com/1",
    System.BUILDKITE: "agent.buildkite.com",
}
SUBJECTS: tuple[tuple[System, str, str], ...] = (
    (System.GITLAB, "project_path:a/b:ref_type:branch:ref:main", ""),
    (System.GITLAB, "project_path:a/b:ref_type:tag:ref:v*", ""),
    (System.GITLAB, "project_path:a/b:ref_type:branch:ref:*", "trust-subject-wildcard"),
    (System.GITLAB, "project_path:a/b:*", "trust-subject-wildcard"),
    (System.GITLAB, "project_path:a/*:ref_type:branch:ref:main", "trust-open"),
    (System.CIRCLECI, f"org/1/project/2/user/{_UUID}/vcs-origin/h/r/vcs-ref/refs/heads/main", ""),
    (System.CIRCLECI, f"org/1/project/2/user/{_UUID}/vcs-origin/h/r/vcs-ref/refs/tags/v*", ""),
    (
        System.CIRCLECI,
        "org/1/project/2/user/*/vcs-origin/h/r/vcs-ref/refs/heads/main",
        "trust-subject-wildcard",
    ),
    (System.CIRCLECI, "org/1/project/2/user/*", "trust-subject-wildcard"),
    (System.CIRCLECI, "org/1/project/*/user/*", "trust-open"),
    (System.BITBUCKET, "{1}:{2}:*", ""),
    (System.BITBUCKET, "{1}:*", "trust-subject-wildcard"),
    (System.BITBUCKET, "*:{2}:*", "trust-open"),
    (System.AZURE, "sc://octo/shop/aws", ""),
    (System.AZURE, "sc://octo/shop/*", "trust-subject-wildcard"),
    (System.AZURE, "sc://octo/*", "trust-open"),
    (System.BUILDKITE, "organization:o:pipeline:p:ref:refs/heads/main:commit:*:step:x", ""),
    (System.BUILDKITE, "organization:o:pipeline:p:ref:refs/tags/v*:commit:*:step:x", ""),
    (System.BUILDKITE, "organization:o:pipeline:p:*", "trust-subject-wildcard"),
    (System.BUILDKITE, "organization:o:*", "trust-open"),
)


def policy(system: System, subject: str) -> dict[str, Any]:
    issuer = ISSUERS[system]
    return {
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:aws:iam::1:oidc-provider/{issuer}"},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringEquals": {f"{issuer}:aud": "it"},
                    "StringLike": {f"{issuer}:sub": subject},
                },
            }
        ]
    }


def rules_of(trust: dict[str, Any], system: System) -> set[str]:
    return {one.rule for one in token_findings(ROLE, trust, system=system)}


@pytest.mark.parametrize(("system", "subject", "rule"), SUBJECTS)
def test_a_subject_names_the_project_and_what_deploys(
    system: System, subject: str, rule: str
) -> None:
    assert rules_of(policy(system, subject), system) == ({rule} if rule else set())


def test_a_gitlab_of_ones_own_is_known_by_its_host() -> None:
    trust = policy(System.GITLAB, "project_path:a/b:ref_type:branch:ref:main")
    trust["Statement"][0]["Principal"] = {"Federated": "arn:a:iam::1:oidc-provider/code.example"}
    trust["Statement"][0]["Condition"] = {
        "StringEquals": {"code.example:aud": "it"},
        "StringLike": {"code.example:sub": "project_path:a/b:ref_type:branch:ref:main"},
    }
    found = list(token_findings(ROLE, trust, system=System.GITLAB, server="code.example"))
    assert found == []
    assert rules_of(trust, System.GITLAB) == {"trust-without-oidc"}
    (told,) = token_findings(ROLE, trust, system=System.BUILDKITE, server="code.example")
    assert told.rule == "trust-without-oidc"


def test_every_provider_has_its_subjects_and_its_good_example() -> None:
    assert {system for system, _, _ in SUBJECTS} == set(PROVIDERS) == set(ISSUERS)
    for provider in PROVIDERS.values():
        assert provider.subject.fullmatch(provider.example)


_STATEMENTS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "no audience": ("trust-without-audience", lambda s: s["Condition"].pop("StringEquals")),
    "no subject": ("trust-open", lambda s: s["Condition"].pop("StringLike")),
    "another provider": (
        "trust-without-oidc",
        lambda s: s.update(Principal={"Federated": "arn:aws:iam::1:oidc-provider/other"}),
    ),
}


@pytest.mark.parametrize("name", _STATEMENTS)
@pytest.mark.parametrize("system", PROVIDERS)
def test_what_a_policy_does_not_test_is_found(system: System, name: str) -> None:
    rule, spoil = _STATEMENTS[name]
    good = next(subject for one, subject, wrong in SUBJECTS if one is system and not wrong)
    trust = policy(system, good)
    spoil(trust["Statement"][0])
    assert rules_of(trust, system) == {rule}
    anybody = {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}}
    assert "trust-open" in rules_of(anybody, system)


@pytest.mark.parametrize("system", [system for system in PROVIDERS if system in PIPELINES])
def test_nothing_is_found_in_the_roles_that_init_writes(system: System) -> None:
    text = the_template(setting(system, gated=True))
    seen = 0
    for _, provider, audience, subjects in trusts(text):
        trust = policy(System.BUILDKITE, "")
        trust["Statement"][0]["Principal"] = {"Federated": f"arn:a:iam::1:oidc-provider/{provider}"}
        trust["Statement"][0]["Condition"] = {
            "StringEquals": {f"{provider}:aud": audience},
            "StringLike": {f"{provider}:sub": subjects},
        }
        assert rules_of(trust, system) == set(), subjects
        seen += 1
    assert seen == 2


# -- a whole run ----------------------------------------------------------------------------------


def test_a_repository_on_buildkite_is_looked_at_and_told_what_is_left_out(tmp_path: Path) -> None:
    root = hello(tmp_path / "shop", **SMALL)
    git(root, "remote", "add", "origin", "git@github.com:octo/shop.git")
    given = ("--allowed-account=123456789012", "--aws-region=eu-central-1")
    assert run_here("init", "--system=buildkite", *given, cwd=root).code == 0
    commit(root, "Set up")
    with EmbeddedAWS.start(gateway=False) as aws:
        iam = clients_of(aws)("iam")
        trust = policy(System.BUILDKITE, "organization:octo:*")
        iam.create_role(RoleName="shop-chalice-deploy", AssumeRolePolicyDocument=json.dumps(trust))
        ran = run_here("doctor", "--format=json", cwd=root, **aws.environ, GITHUB_TOKEN="")
    assert ran.code == 1, ran.err
    told = [(one["rule"], one["subject"].rpartition("/")[2]) for one in ran.report["findings"]]
    assert told == [("trust-open", "shop-chalice-deploy")]
    assert {one["at"]["file"] for one in ran.report["findings"]} == {".buildkite/pipeline.yml"}
    assert [one["findings"] for one in ran.report["results"]] == [[]]
    (left_out,) = ran.report["notes"]
    assert "were not looked at" in left_out
    assert "Buildkite" in left_out


@pytest.mark.parametrize(
    ("system", "name"),
    [("gitlab", ".gitlab-ci.yml"), ("github", ".github/workflows/deploy.yml")],
)
def test_what_can_not_be_read_is_not_told_as_missing(
    tmp_path: Path, system: str, name: str
) -> None:
    root = hello(tmp_path / "shop")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"run: chalice-ci run # \xff\n")
    ran = run_here("doctor", f"--system={system}", "--format=json", cwd=root, GITHUB_TOKEN="")
    assert ran.report["findings"] == []
    assert f"{name} can't be read: the byte 0xff is not UTF-8." in ran.report["notes"]
    assert ran.code == 0, ran.err
