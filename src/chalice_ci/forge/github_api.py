"""The API of GitHub through PyGithub; GitHub Enterprise by the runner's `GITHUB_API_URL` alone.

PyGithub's own throttle and retries are off: it would repeat a POST after a server's error and
leave two comments. `retry.py` decides instead. Objects are made lazily with addresses of our own,
so that a request goes where the API URL says, whatever an answer contains; redirects to another
host are refused.

docs/github.md has the table of permissions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from github import Auth, Github
from github.GithubException import (
    BadAttributeException,
    GithubException,
    RateLimitExceededException,
)
from github.Repository import Repository
from github.Requester import Requester

from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.forge import github_heads as heads
from chalice_ci.forge.answer import Garbled
from chalice_ci.forge.port import NotFound, NotPermitted
from chalice_ci.forge.retry import Kind, Retry, Trouble
from chalice_ci.neutral import one_line

DEFAULT_API_URL = "https://api.github.com"
TIMEOUT = 20
"""Seconds to connect, and to wait for more of an answer."""

_T = TypeVar("_T")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/[A-Za-z0-9._-]{1,100}")
_TOKEN = re.compile(r"[!-~]{1,2000}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LIMITED = re.compile(r"(?i)rate limit|abuse detection|wait a few minutes|retry your request again")
_SECONDARY_WAIT = 60.0
STALE_STATUS = 409
_STATUS_OF = {
    "": 502,
    "FORBIDDEN": 403,
    "INSUFFICIENT_SCOPES": 403,
    "NOT_FOUND": 404,
    "RATE_LIMITED": 429,
    "SERVICE_UNAVAILABLE": 503,
    heads.STALE: STALE_STATUS,
}
"""The status of the other API for a type of GraphQL's errors."""

READ_PULLS = "pull-requests: read"
WRITE_PULLS = "pull-requests: write"
WRITE_DEPLOYMENTS = "deployments: write"
READ_CONTENTS = "contents: read"
WRITE_CONTENTS = "contents: write"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is being done, for a message, and the permission that it takes."""

    doing: str
    permission: str = ""


class _CountedToken(Auth.Token):
    """The token; PyGithub asks it once for every request."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.requests = 0

    def authentication(self, headers: dict[str, Any]) -> None:
        self.requests += 1
        super().authentication(headers)


class GitHubApi:
    """One repository over the API: requests with errors that a person can act on.

    `repository` is "owner/name". Raises UsageError for a token or an address that cannot be used.
    """

    def __init__(
        self,
        repository: str,
        *,
        token: str,
        api_url: str = DEFAULT_API_URL,
        server_url: str = "",
        retry: Retry | None = None,
        clock: Callable[[], float] = time.time,
        timeout: int = TIMEOUT,
    ) -> None:
        if not _REPOSITORY.fullmatch(repository) or repository.endswith(("/.", "/..")):
            raise UsageError(
                f"{repository[:100]!a} is not the name of a repository.",
                where="GITHUB_REPOSITORY",
                fix='Give it as "owner/name".',
            )
        if not _TOKEN.fullmatch(token):
            raise UsageError(
                "There is no usable token." if not token.strip() else "The token is malformed.",
                where="github-token",
                fix="Pass `github-token: ${{ github.token }}`, without spaces or line feeds.",
            )
        _check_api_url(api_url, server_url)
        self.repository = repository
        self.api_url = api_url.rstrip("/")
        self._token = _CountedToken(token)
        self._retry = retry or Retry()
        self._clock = clock
        self._github = Github(
            auth=self._token,
            base_url=self.api_url,
            timeout=timeout,
            user_agent="chalice-ci",
            per_page=100,
            retry=None,
            seconds_between_requests=0,
            seconds_between_writes=0,
            lazy=True,
        )

    @property
    def requests(self) -> int:
        """How many requests were made: a workflow's token has 1,000 an hour per repository."""
        return self._token.requests

    @cached_property
    def repo(self) -> Repository:
        """PyGithub's repository, made without a request."""
        return self._github.get_repo(self.repository)

    @property
    def requester(self) -> Requester:
        """PyGithub's requester, for what it has no method for."""
        return self._github.requester

    def query(self, text: str, variables: Mapping[str, Any]) -> Any:
        """What GraphQL answers; what it refuses is raised as the other API would say it."""
        headers, data = self.requester.requestJsonAndCheck(
            "POST", self.requester.graphql_url, input={"query": text, "variables": dict(variables)}
        )
        errors = data.get("errors")
        if errors:
            # Without a type it is a failure of the server's.
            status = _STATUS_OF.get(str(errors[0].get("type") or ""), 422)
            said = {"message": str(errors[0].get("message") or "")}
            raise GithubException(status, said, headers, said["message"])
        return data["data"]

    def close(self) -> None:
        """Close the connection."""
        self._github.close()

    def call(
        self,
        operation: Operation,
        ask: Callable[[], _T],
        *,
        happened: Callable[[], _T | None] | None = None,
        patient: bool = False,
    ) -> _T:
        """What `ask` gives, repeated where that is safe; every failure is a ForgeError.

        Give `happened` when repeating `ask` would do its work twice: it looks whether that was
        done, and is asked before each repetition that follows an uncertain end. `patient` is for
        what must not be lost to a rate limit.
        """

        def attempt() -> _T | Trouble:
            try:
                return ask()
            except (
                GithubException,
                BadAttributeException,
                Garbled,
                # requests' errors are OSErrors; PyGithub asserts that an address in an answer is
                # on its own host, and stumbles over answers of another shape.
                OSError,
                AssertionError,
                RuntimeError,
                ValueError,
                TypeError,
                LookupError,
                AttributeError,
            ) as error:
                return self._trouble(operation, error)

        return self._retry.run(attempt, happened=happened, patient=patient)

    def _trouble(self, operation: Operation, error: Exception) -> Trouble:
        where = self.repository
        doing = operation.doing
        if isinstance(error, GithubException):
            return self._refusal(operation, error)
        if isinstance(error, AssertionError | RuntimeError):
            return Trouble(
                kind=Kind.FINAL,
                error=ForgeError(
                    f"GitHub's answer leads to another place while trying to {doing}; the token "
                    "is not sent there.",
                    where=where,
                    fix=f"See that GITHUB_API_URL ({self.api_url}) is the server's own address.",
                ),
            )
        if isinstance(error, OSError):
            what = f"GitHub did not answer in full while trying to {doing}"
        else:
            what = f"GitHub's answer is not what its API describes while trying to {doing}"
        return Trouble(
            kind=Kind.UNCERTAIN,
            error=ForgeError(
                f"{what} ({type(error).__name__.strip('_')}).",
                where=where,
                fix="Run again; if it stays so, look at the server's status page and at proxies "
                "between.",
            ),
        )

    def _refusal(self, operation: Operation, error: GithubException) -> Trouble:
        where, doing, status = self.repository, operation.doing, error.status
        headers = error.headers or {}
        said = self._said(error)
        limited = isinstance(error, RateLimitExceededException) or bool(_LIMITED.search(said))
        if status == 429 or (status == 403 and (limited or "retry-after" in headers)):
            wait = _wait(headers, self._clock())
            return Trouble(
                kind=Kind.REFUSED,
                wait=wait,
                error=ForgeError(
                    f"GitHub's rate limit does not let this run {doing} for another {wait:.0f} s.",
                    where=where,
                    fix="Run again later, or with fewer jobs at once: a workflow's token has "
                    "1,000 requests and 500 writes an hour for the whole repository.",
                ),
            )
        if status >= 500:
            return Trouble(
                kind=Kind.UNCERTAIN,
                error=ForgeError(
                    f"GitHub failed with {status} while trying to {doing}.",
                    where=where,
                    fix="Run again; the server's status page tells if it is known.",
                ),
            )
        if status == 401:
            refused: ForgeError = NotPermitted(
                f"GitHub does not accept the token (to {doing}).",
                where=where,
                fix="Pass `github-token: ${{ github.token }}`; it is valid until its job ends.",
            )
        elif status == 403:
            refused = NotPermitted(
                f"The token may not {doing}: {said}.",
                where=where,
                fix=_permission_fix(operation.permission),
                permission=operation.permission,
            )
        elif status == 404:
            refused = NotFound(
                f"GitHub has nothing there to {doing}, or does not show it to this token.",
                where=where,
                fix="See that it is there and that GITHUB_API_URL and GITHUB_REPOSITORY are the "
                "runner's own; GitHub also hides what a token may not see"
                + (f" (`{operation.permission}`)." if operation.permission else "."),
            )
        else:
            refused = Refused(
                f"GitHub refused to {doing} ({status}: {said}).",
                where=where,
                fix="See what the repository's rules say about it.",
                status=status,
                said=said,
            )
        return Trouble(kind=Kind.FINAL, error=refused)

    def _said(self, error: GithubException) -> str:
        """GitHub's own words, on one line and never with the token."""
        data = error.data
        parts: list[object] = [error.message or ""]
        if isinstance(data, dict):
            details = data.get("errors")
            parts = [data.get("message"), *(details if isinstance(details, list) else ())]
        words = [p.get("message") if isinstance(p, dict) else p for p in parts]
        text = "; ".join(word for word in words if isinstance(word, str) and word)
        return (
            one_line(text.replace(self._token.token, "***"), 300).rstrip(".") or "no reason given"
        )


class Refused(ForgeError):
    """A refusal with its status: 409, 422 and others that are no question of rights."""

    def __init__(self, what: str, *, where: str, fix: str, status: int, said: str) -> None:
        super().__init__(what, where=where, fix=fix)
        self.status = status
        self.said = said


def open_github(env: Mapping[str, str], *, token: str, retry: Retry | None = None) -> GitHubApi:
    """The repository that a runner's variables name: GITHUB_REPOSITORY and GITHUB_API_URL."""
    return GitHubApi(
        env.get("GITHUB_REPOSITORY", ""),
        token=token,
        api_url=env.get("GITHUB_API_URL") or DEFAULT_API_URL,
        server_url=env.get("GITHUB_SERVER_URL", ""),
        retry=retry,
    )


def _check_api_url(api_url: str, server_url: str) -> None:
    """Raise UsageError unless a token may be sent there."""
    parts, server = urlsplit(api_url), urlsplit(server_url)
    plain = bool(parts.hostname) and not (parts.username or parts.password or parts.query)
    # An Enterprise server may have no TLS; then the runner speaks to it in the clear as well.
    trusted = parts.hostname in _LOOPBACK or (
        server.scheme == "http" and server.hostname == parts.hostname
    )
    if not plain or not (parts.scheme == "https" or (parts.scheme == "http" and trusted)):
        raise UsageError(
            f"{one_line(api_url, 200)!a} is not an address that a token may be sent to.",
            where="GITHUB_API_URL",
            fix="Leave it as the runner sets it: the https address of the server's API.",
        )


def _permission_fix(permission: str) -> str:
    if not permission:
        return "See what the repository's and the organization's rules say about it."
    return (
        f"Add `{permission}` to the job's `permissions:`, beside what it has. On a pull request "
        "from a fork or by Dependabot the token only reads, whatever the workflow says."
    )


def _wait(headers: Mapping[str, str], now: float) -> float:
    """The seconds that GitHub asks to wait before anything else is sent."""
    after = headers.get("retry-after", "")
    if after.isdecimal() and len(after) < 9:
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal() and len(reset) < 12:
        return max(0.0, float(reset) - now) + 1
    return _SECONDARY_WAIT
