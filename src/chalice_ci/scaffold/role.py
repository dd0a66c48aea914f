"""The CloudFormation template of the roles that workflows assume.

Each role trusts GitHub's OIDC provider for this repository alone: the deploy role for the default
branch and the environments, the plan role for version tags, the preview role for pull requests. The
policies are those of `chalice-ci policy`, with the stack's own account and region.

On GitLab the server is the provider, and its subject names no environment: the deploy role trusts
the default branch and, where there is production, version tags, the preview role any branch. Its
form is `project_path:GROUP/PROJECT:ref_type:TYPE:ref:NAME` (GitLab's documentation, "OpenID Connect
(OIDC) Authentication Using ID Tokens").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from chalice_ci.access.document import Document
from chalice_ci.doctor.trust import AUDIENCE, PROVIDER
from chalice_ci.scaffold.setting import Setting, environment_of

ROLE = "chalice-deploy"
PLAN_ROLE = "chalice-plan"
PREVIEW_ROLE = "chalice-preview"

ACCOUNT, REGION = "${AWS::AccountId}", "${AWS::Region}"
"""What stands for account and region in the policies; CloudFormation fills them in."""


def template(
    setting: Setting, policies: Mapping[str, Sequence[Document]], names: Mapping[str, str]
) -> str:
    """The template as JSON. `policies` are the documents by role, `names` the roles' names."""
    provider = setting.gitlab or PROVIDER
    resources: dict[str, Any] = {"Provider": _provider(provider)}
    outputs: dict[str, Any] = {}
    kind = "project_path" if setting.gitlab else "repo"
    for role, subjects in _subjects(setting).items():
        key = _key(role)
        attached = []
        for number, document in enumerate(policies.get(role, ()), 1):
            policy = f"{key}Policy{number}"
            resources[policy] = {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {"PolicyDocument": _with_stack(document.to_json())},
            }
            attached.append({"Ref": policy})
        resources[key] = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": names[role],
                "AssumeRolePolicyDocument": _trust(
                    [f"{kind}:{setting.repository or '${Repository}'}:{one}" for one in subjects],
                    provider,
                ),
                "ManagedPolicyArns": attached,
            },
        }
        outputs[key] = {
            "Description": f"The workflows' role-to-assume: {role}",
            "Value": {"Fn::GetAtt": [key, "Arn"]},
        }
    whole = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Roles of the workflows of {setting.repository or 'this repository'}",
        "Parameters": _parameters(provider),
        "Conditions": {"MakeProvider": {"Fn::Equals": [{"Ref": "ExistingProvider"}, ""]}},
        "Resources": resources,
        "Outputs": outputs,
    }
    if not setting.repository:
        whole["Parameters"] = {**_parameters(provider), **_REPOSITORY}
    return json.dumps(whole, indent=2) + "\n"


def _subjects(setting: Setting) -> Mapping[str, tuple[str, ...]]:
    """Role -> what stands behind the repository's name in the tokens that may assume it."""
    if setting.gitlab:
        branch = f"ref_type:branch:ref:{setting.branch}"
        on_gitlab = {ROLE: (branch, "ref_type:tag:ref:v*") if setting.gated else (branch,)}
        if setting.previews:
            on_gitlab[PREVIEW_ROLE] = ("ref_type:branch:ref:*",)
        return on_gitlab
    found = {
        ROLE: (
            f"ref:refs/heads/{setting.branch}",
            *(f"environment:{environment_of(stage)}" for stage in setting.gated),
        )
    }
    if setting.gated:
        found[PLAN_ROLE] = ("ref:refs/tags/v*",)
    if setting.previews:
        found[PREVIEW_ROLE] = ("pull_request",)
    return found


def roles(setting: Setting) -> tuple[str, ...]:
    """The roles that the workflows of this setting assume."""
    return tuple(_subjects(setting))


def role_name(setting: Setting, role: str) -> str:
    """How a role is called in the account: roles of several repositories stand side by side."""
    name = setting.repository.rpartition("/")[2] or setting.apps[0].name
    return f"{re.sub('[^A-Za-z0-9_-]', '-', name)}-{role}"[:64]


def _trust(subjects: Sequence[str], provider: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": _PROVIDER_ARN},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": _tests(subjects, provider),
            }
        ],
    }


def _tests(subjects: Sequence[str], provider: str) -> dict[str, Any]:
    wanted: list[Any] = [
        {"Fn::Sub": subject} if "${" in subject else subject for subject in subjects
    ]
    audience, subject = {f"{provider}:aud": AUDIENCE}, {f"{provider}:sub": wanted}
    if any("*" in one for one in subjects):
        return {"StringEquals": audience, "StringLike": subject}
    return {"StringEquals": {**audience, **subject}}


def _with_stack(value: Any) -> Any:
    """Every text that names the stack's account or region, in CloudFormation's words."""
    if isinstance(value, dict):
        return {key: _with_stack(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_stack(item) for item in value]
    if isinstance(value, str) and "${AWS::" in value:
        return {"Fn::Sub": value}
    return value


def _key(role: str) -> str:
    return "".join(word.capitalize() for word in role.split("-"))


def _parameters(provider: str) -> dict[str, Any]:
    return {
        "ExistingProvider": {
            "Type": "String",
            "Default": "",
            "Description": f"The account's OIDC provider for {provider}, its ARN; empty: make it.",
        }
    }


def _provider(name: str) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::OIDCProvider",
        "Condition": "MakeProvider",
        "Properties": {"Url": f"https://{name}", "ClientIdList": [AUDIENCE]},
    }


_REPOSITORY = {
    "Repository": {"Type": "String", "Description": "The repository: owner/name, or its path."}
}
_PROVIDER_ARN = {"Fn::If": ["MakeProvider", {"Ref": "Provider"}, {"Ref": "ExistingProvider"}]}
