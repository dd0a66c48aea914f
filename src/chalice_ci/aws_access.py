"""Credentials of the role that a stage is deployed with.

Without a role the environment's own credentials are used: those that an earlier step left, such as
aws-actions/configure-aws-credentials, a profile, the machine's. With one they are made here: the
environment's credentials assume it (a chain of roles), and where there are none the job's OIDC
token does. They are kept in this process, and given to the deployer alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.errors import AWSError, UsageError, WrongAccount
from chalice_ci.oidc import fetch_token, may_ask
from chalice_ci.ownership import Clients, clients_of

AUDIENCE = "sts.amazonaws.com"
ENOUGH = timedelta(minutes=10)
"""A job that begins with less time left on its credentials gets new ones."""
FALLBACK_REGION = "us-east-1"

EXPIRATION = "AWS_CREDENTIAL_EXPIRATION"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SOURCES = (
    *KEYS,
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    EXPIRATION,
)
"""The variables that credentials come from; the assumed ones take their place."""

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>[0-9]{12}):role/[\w+=,.@/-]{1,512}")
_NO_SESSION = re.compile(r"[^\w+=,.@-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role to assume; `where` names the input or the line that asks for it.

    `seconds` is how long the credentials are good for: 900 to 43,200, within the role's own bound.
    """

    arn: str
    session: str
    seconds: int
    where: str

    def __post_init__(self) -> None:
        if _ROLE.fullmatch(self.arn) is None:
            raise UsageError(
                f"{self.arn[:100]!a} is not the ARN of a role.",
                where=self.where,
                fix="Write it as arn:aws:iam::123456789012:role/deploy.",
            )
        if not 900 <= self.seconds <= 43_200:
            raise UsageError(
                f"credentials of a role last 900 to 43200 seconds, not {self.seconds}.",
                where="input role-duration-seconds",
                fix="Choose a duration within the role's own maximum (3600 if nobody changed it).",
            )

    @property
    def account(self) -> str:
        """The account that the role is of."""
        match = _ROLE.fullmatch(self.arn)
        return match["account"] if match else ""


def session_name(text: str) -> str:
    """A name that STS takes, 2 to 64 characters, from any text."""
    return _NO_SESSION.sub("-", text).strip("-")[:64].rstrip("-").ljust(2, "-")


@dataclass(frozen=True, kw_only=True)
class _Assumed:
    variables: Mapping[str, str] = field(repr=False)
    expires: datetime


class Access:
    """The credentials of one run, each role's made once and renewed when they run out.

    `environ` is the environment that names whatever credentials there are, `hide` is told each
    secret that is made before it is used.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
        hide: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._environ = environ
        self._now = now
        self._sleep = sleep
        self._hide = hide
        self._say = say
        self._turn = threading.Lock()
        self._assumed: dict[Role, _Assumed] = {}

    def environ(self, role: Role, *, account: str | None, region: str | None) -> Mapping[str, str]:
        """The environment with the role's credentials in place of all others.

        Raises WrongAccount when the role is not of the `account` that alone may be touched, before
        anything is asked, and AWSError when the role can't be assumed.
        """
        if account is not None and role.account != account:
            raise WrongAccount(
                f"the role is of account {role.account}, and only {account} may be touched.",
                where=role.where,
                fix="Name a role of the stage's account, or change `account`.",
            )
        with self._turn:
            assumed = self._assumed.get(role)
            if assumed is None or assumed.expires - self._now() < ENOUGH:
                assumed = self._assumed[role] = self._assume(role, region or FALLBACK_REGION)
        return {**self._without_sources(), **assumed.variables}

    def _without_sources(self) -> dict[str, str]:
        return {name: value for name, value in self._environ.items() if name not in _SOURCES}

    def _assume(self, role: Role, region: str) -> _Assumed:
        given = {
            "RoleArn": role.arn,
            "RoleSessionName": role.session,
            "DurationSeconds": role.seconds,
        }
        chained = any(self._environ.get(name) for name in _SOURCES) or not may_ask(self._environ)
        if chained:
            clients = clients_of(self._environ, region)
            answer = self._asked(role, lambda: _sts(clients).assume_role(**given), chained=True)
        else:
            token = fetch_token(self._environ, AUDIENCE, sleep=self._sleep)
            self._hide(token)
            clients = clients_of(self._without_sources(), region)
            answer = self._asked(
                role,
                lambda: _sts(clients).assume_role_with_web_identity(
                    **given, WebIdentityToken=token
                ),
                chained=False,
            )
        made = answer["Credentials"]
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            self._hide(str(made[name]))
        how = "with the environment's credentials" if chained else "with the job's OIDC token"
        self._say(f"assumed {role.arn} {how}, until {made['Expiration']:%H:%M} UTC")
        values = (made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
        return _Assumed(
            variables={
                **dict(zip(KEYS, values, strict=True)),
                EXPIRATION: made["Expiration"].isoformat(),
            },
            expires=made["Expiration"],
        )

    def _asked(self, role: Role, ask: Callable[[], Any], *, chained: bool) -> Any:
        try:
            return ask()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            message = str(error.response.get("Error", {}).get("Message", ""))
            raise AWSError(
                f"the role {role.arn} could not be assumed: {code}: {message}",
                where=role.where,
                fix=_fix(code, message, role, chained=chained),
            ) from error
        except BotoCoreError as error:
            fix = (
                "Give the job `permissions: id-token: write`, so that it can assume the role by "
                "itself, or credentials that may."
                if chained and not may_ask(self._environ)
                else "See that STS can be reached from here."
            )
            raise AWSError(
                f"the role {role.arn} could not be assumed: {error}", where=role.where, fix=fix
            ) from error


def _sts(clients: Clients) -> Any:
    return clients("sts")


def _fix(code: str, message: str, role: Role, *, chained: bool) -> str:
    if "MaxSessionDuration" in message or "DurationSeconds" in message:
        return (
            f"Give `role-duration-seconds` less than {role.seconds}, or let the role's sessions "
            "last longer; a role that another role assumes lasts 3600 at most."
        )
    if code in ("AccessDenied", "AccessDeniedException"):
        if chained:
            return (
                "The credentials that are here have to be allowed sts:AssumeRole on that role, and "
                "its trust policy has to name them. To assume it with the job's OIDC token, leave "
                "the step out that set them."
            )
        return (
            "The role's trust policy has to allow sts:AssumeRoleWithWebIdentity to the CI system's "
            "provider (GitHub's is token.actions.githubusercontent.com) with the `sub` of this job "
            "(its repository and branch, or its environment) and the token's audience."
        )
    if code == "InvalidIdentityToken":
        return (
            "The account needs an identity provider for token.actions.githubusercontent.com with "
            "the audience sts.amazonaws.com (aws iam create-open-id-connect-provider)."
        )
    if code.startswith("ExpiredToken"):
        return "Run the job again: what it was given is not good any more."
    return "See what the message names, and run the job again."
