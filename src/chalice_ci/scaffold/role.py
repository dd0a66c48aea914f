"""The CloudFormation template of the roles that the pipeline's jobs assume.

Each role trusts the CI system's OIDC provider for this repository alone, as `identity.py` says for
each system. The policies are those of `chalice-ci policy`, with the stack's own account and region.
Where a system's jobs have no token the template has the policies, to attach to what deploys there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chalice_ci.access.document import Document
from chalice_ci.context import System
from chalice_ci.scaffold.identity import PLAN_ROLE, ROLE, Identity, identity
from chalice_ci.scaffold.setting import Setting

ACCOUNT, REGION = "${AWS::AccountId}", "${AWS::Region}"
"""What stands for account and region in the policies; CloudFormation fills them in."""


def template(
    setting: Setting, policies: Mapping[str, Sequence[Document]], names: Mapping[str, str]
) -> str:
    """The template as JSON. `policies` are the documents by role, `names` the roles' names."""
    known = identity(setting)
    whole: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Roles of the workflows of {setting.repository or 'this repository'}",
    }
    resources: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    if known is not None:
        whole["Parameters"] = _parameters(known)
        whole["Conditions"] = {"MakeProvider": {"Fn::Equals": [{"Ref": "ExistingProvider"}, ""]}}
        resources["Provider"] = _provider(known)
    if setting.bucket:
        resources["StateBucket"] = _bucket(setting.bucket)
    for role in roles(setting):
        key = _key(role)
        attached = []
        for number, document in enumerate(policies.get(role, ()), 1):
            policy = f"{key}Policy{number}"
            resources[policy] = {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {"PolicyDocument": _with_stack(document.to_json())},
            }
            attached.append({"Ref": policy})
        if known is None:
            if attached:
                outputs[f"{key}Policies"] = {
                    "Description": f"ARNs of the policies of {role}",
                    "Value": {"Fn::Join": [",", attached]},
                }
            continue
        resources[key] = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": names[role],
                "AssumeRolePolicyDocument": _trust(known, known.subjects[role]),
                "ManagedPolicyArns": attached,
            },
        }
        outputs[key] = {
            "Description": f"The workflows' role-to-assume: {role}",
            "Value": {"Fn::GetAtt": [key, "Arn"]},
        }
    if not resources:
        return ""
    return json.dumps({**whole, "Resources": resources, "Outputs": outputs}, indent=2) + "\n"


def roles(setting: Setting) -> tuple[str, ...]:
    """The roles that the jobs of this setting assume, or are to have."""
    known = identity(setting)
    if known is not None:
        return tuple(known.subjects)
    # CodePipeline plans every stage that it deploys.
    plans = bool(setting.gated) or setting.system is System.CODEBUILD
    return (ROLE, PLAN_ROLE) if plans else (ROLE,)


def unknown(setting: Setting) -> tuple[str, ...]:
    """The parameters of the stack that somebody has to give."""
    known = identity(setting)
    given = () if known is None else known.parameters.items()
    return tuple(name for name, (_, default) in given if not default)


def role_name(setting: Setting, role: str) -> str:
    """How a role is called in the account: roles of several repositories stand side by side."""
    return f"{short_name(setting)}-{role}"[:64]


def short_name(setting: Setting) -> str:
    """The repository without its owner, else the app, in letters that names of AWS take."""
    name = setting.repository.rpartition("/")[2] or setting.apps[0].name
    return re.sub("[^A-Za-z0-9_-]", "-", name)


def _trust(known: Identity, subjects: Sequence[str]) -> dict[str, Any]:
    if "${" not in known.provider:
        return _policy(_PROVIDER_ARN, known, [_filled(subject) for subject in subjects], subjects)
    # A parameter in the provider's name is one in the keys of the conditions, and CloudFormation
    # fills parameters into texts only: so the whole document is one.
    text = json.dumps(_policy("${TrustedProvider}", known, list(subjects), subjects))
    return {"Fn::Sub": [text, {"TrustedProvider": _PROVIDER_ARN}]}


def _policy(
    provider: Any, known: Identity, values: Sequence[Any], subjects: Sequence[str]
) -> dict[str, Any]:
    audience = {f"{known.provider}:aud": known.audience}
    subject = {f"{known.provider}:sub": values}
    pattern = any("*" in one or "?" in one for one in subjects)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": audience, "StringLike": subject}
                if pattern
                else {"StringEquals": {**audience, **subject}},
            }
        ],
    }


def _filled(text: str) -> Any:
    return {"Fn::Sub": text} if "${" in text else text


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


def _parameters(known: Identity) -> dict[str, Any]:
    return dict(_each_parameter(known))


def _each_parameter(known: Identity) -> Iterator[tuple[str, dict[str, Any]]]:
    shown = re.sub(r"\$\{(\w+)\}", r"<\1>", known.provider)
    about = f"The account's OIDC provider for {shown}, its ARN; empty: make it."
    yield "ExistingProvider", {"Type": "String", "Default": "", "Description": about}
    for name, (description, default) in known.parameters.items():
        given = {"Default": default} if default else {}
        yield name, {"Type": "String", "Description": description, **given}


def _provider(known: Identity) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::OIDCProvider",
        "Condition": "MakeProvider",
        "Properties": {
            "Url": _filled(f"https://{known.provider}"),
            "ClientIdList": [_filled(known.audience)],
        },
    }


def _bucket(name: str) -> dict[str, Any]:
    """Where the states are: it outlives the stack."""
    return {
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketName": name,
            "VersioningConfiguration": {"Status": "Enabled"},
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
        },
    }


_PROVIDER_ARN = {"Fn::If": ["MakeProvider", {"Ref": "Provider"}, {"Ref": "ExistingProvider"}]}
