"""Refuses what the caller's policies don't allow: the switch `--iam` of the embedded AWS.

moto's own check knows neither resources nor conditions nor API Gateway's actions (its
`iam/access_control.py` says so), so the policies are read from its IAM and judged here. Only calls
with the key of an IAM user or of an assumed role are judged; every other key is the account's
administrator, who makes those users and roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.iam.access_control import (
    AssumedRoleAccessKey,
    CreateAccessKeyFailure,
    IAMUserAccessKey,
    create_access_key,
)
from moto.iam.models import Policy

from chalice_ci.access.document import Document, parse
from chalice_ci.access.evaluate import Decision, Request, decide
from chalice_ci.local import answers
from chalice_ci.local.answers import Answer
from chalice_ci.local.aws import ACCOUNT
from chalice_ci.local.operations import Operation

_Key = IAMUserAccessKey | AssumedRoleAccessKey

# The code with which each service refuses; the JSON services end it with "Exception".
_CODES = {"iam": "AccessDenied", "s3": "AccessDenied", "sts": "AccessDenied"}
_CODES["sns"] = "AuthorizationError"


def refusal(
    operation: Operation, environ: Mapping[str, Any], needs: tuple[Request, ...]
) -> Answer | None:
    """AWS's answer when the caller may not do all of `needs`; None when it may."""
    key = _caller(environ)
    if key is None:
        return None
    policies, boundary = tuple(_policies(key)), _boundary(key)
    for request in needs:
        decision = decide(policies, request, boundary=boundary)
        if decision is not Decision.ALLOWED:
            return answers.error(
                operation,
                environ,
                status=403,
                code=_CODES.get(operation.service, "AccessDeniedException"),
                message=f"User: {key.arn} is not authorized to perform: {request.action} on "
                f"resource: {request.resource} because {decision}",
            )
    return None


def _caller(environ: Mapping[str, Any]) -> _Key | None:
    authorization = str(environ.get("HTTP_AUTHORIZATION", ""))
    access_key = authorization.partition("Credential=")[2].partition("/")[0]
    token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN")
    headers = {"X-Amz-Security-Token": str(token)} if token else {}
    try:
        return create_access_key(ACCOUNT, "aws", access_key, headers)
    except CreateAccessKeyFailure:
        return None


def _policies(key: _Key) -> Iterator[Document]:
    for policy in key.collect_policies():
        yield _document(policy)


def _document(policy: Any) -> Document:
    if isinstance(policy, Policy):
        text = next(version.document for version in policy.versions if version.is_default)
    else:
        text = policy if isinstance(policy, str) else policy["policy_document"]
    return parse(text, where="IAM of the embedded AWS")


def _boundary(key: _Key) -> Document | None:
    if not isinstance(key, AssumedRoleAccessKey):
        return None
    role = key.backend.get_role(key._owner_role_name)
    if not role.permissions_boundary_arn:
        return None
    try:
        return _document(key.backend.get_policy(role.permissions_boundary_arn))
    except JsonRESTError:
        # Nobody can be within a boundary that is gone.
        return Document(statements=())
