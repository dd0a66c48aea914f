"""What IAM says of a role: who may assume it, and what its policies allow. Only reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.access.document import Document, read
from chalice_ci.errors import AWSError, UsageError
from chalice_ci.ownership import Clients

_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role/(?P<path>.*/)?(?P<name>[^/]+)")
_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class RoleName:
    """A role as a person names it; `account` is empty where only the name was given."""

    name: str
    account: str = ""


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role as IAM has it; `boundary` is the ARN of its permissions boundary, or empty."""

    arn: str
    name: str
    trust: Mapping[str, Any]
    boundary: str = ""


class RoleMissing(AWSError):
    """There is no such role in the account of the credentials."""


def role_name(text: str, *, where: str) -> RoleName:
    """The role that an ARN or a name means; raises UsageError for what is neither."""
    arn = _ARN.fullmatch(text)
    if arn is not None:
        return RoleName(name=arn["name"], account=arn["account"])
    if _NAME.fullmatch(text):
        return RoleName(name=text)
    raise UsageError(
        f"{text[:80]!r} is neither a file nor a role.",
        where=where,
        fix="Give the path of a policy document, or a role's name or ARN.",
    )


def read_role(clients: Clients, role: RoleName) -> Role:
    """The role itself; raises AWSError when IAM does not show it."""
    try:
        found = clients("iam").get_role(RoleName=role.name)["Role"]
    except ClientError as error:
        if error.response["Error"].get("Code") == "NoSuchEntity":
            raise RoleMissing(
                f"there is no role {role.name} in account {role.account or 'of the credentials'}.",
                where="AWS",
                fix="Deploy the template that chalice-ci init writes, or name the right role.",
            ) from error
        raise _unreadable(role, error) from error
    except BotoCoreError as error:
        raise _unreadable(role, error) from error
    return Role(
        arn=str(found["Arn"]),
        name=str(found["RoleName"]),
        trust=found.get("AssumeRolePolicyDocument") or {},
        boundary=str((found.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")),
    )


def read_policies(clients: Clients, role: RoleName) -> tuple[Document, ...]:
    """The documents of a role: inline policies first, then the attached ones' default versions.

    Raises AWSError when IAM does not show them.
    """
    try:
        return tuple(_policies(clients("iam"), role.name))
    except (ClientError, BotoCoreError) as error:
        raise _unreadable(role, error) from error


def _policies(iam: Any, name: str) -> Iterator[Document]:
    for page in iam.get_paginator("list_role_policies").paginate(RoleName=name):
        for policy in page["PolicyNames"]:
            found = iam.get_role_policy(RoleName=name, PolicyName=policy)
            yield read(found["PolicyDocument"], where=f"{name}, inline policy {policy}")
    for page in iam.get_paginator("list_attached_role_policies").paginate(RoleName=name):
        for attached in page["AttachedPolicies"]:
            arn = str(attached["PolicyArn"])
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            found = iam.get_policy_version(PolicyArn=arn, VersionId=version)
            yield read(found["PolicyVersion"]["Document"], where=arn)


def _unreadable(role: RoleName, error: Exception) -> AWSError:
    return AWSError(
        f"the role {role.name} can't be read: {error}",
        where="AWS",
        fix="Use credentials of its account that may call iam:GetRole, iam:ListRolePolicies, "
        "iam:GetRolePolicy, iam:ListAttachedRolePolicies, iam:GetPolicy and iam:GetPolicyVersion, "
        "or save its policy to a file and compare with that.",
    )
