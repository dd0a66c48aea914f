"""One project on GitLab: requests through python-gitlab with errors that a person can act on.

python-gitlab's own waiting and repeating is off: it would sleep by its own clock and repeat a POST
after a server's error. `retry.py` decides instead. Redirects are not followed: the token goes where
the address says that the runner gave.

Two tokens are possible. A project access token (`GITLAB_TOKEN`) may do everything here. The job's
own `CI_JOB_TOKEN` reads merge requests and files and has deployments and environments, but writes
no note (GitLab's documentation, "GitLab CI/CD job token", table of job token access).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import gitlab

from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.forge.answer import Garbled
from chalice_ci.forge.port import NotFound, NotPermitted
from chalice_ci.forge.retry import Kind, Retry, Trouble
from chalice_ci.neutral import one_line

TIMEOUT = 20.0
"""Seconds to connect, and to wait for more of an answer."""
TOKEN_VARIABLE = "GITLAB_TOKEN"

_T = TypeVar("_T")
_TOKEN = re.compile(r"[!-~]{1,2000}")
_WAIT = 60.0
_API = "/api/v4"
_NEEDS_TOKEN = (
    f"Make a project access token (Settings, Access tokens; role Developer, scope `api`) and give "
    f"it to the job as the masked variable {TOKEN_VARIABLE}: CI_JOB_TOKEN may not do this."
)


class GitLabApi:
    """One project over the API: requests with errors that a person can act on.

    `project` is its number or its path. Raises UsageError for a token or an address that cannot be
    used.
    """

    def __init__(
        self,
        project: str,
        *,
        api_url: str,
        name: str = "",
        token: str = "",
        job_token: str = "",
        retry: Retry | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        for given in filter(None, (token, job_token)):
            if not _TOKEN.fullmatch(given):
                raise UsageError(
                    "The token is malformed.",
                    where=TOKEN_VARIABLE,
                    fix="Give it without spaces or line feeds.",
                )
        if not (token or job_token):
            raise UsageError("There is no token.", where=TOKEN_VARIABLE, fix=_NEEDS_TOKEN)
        _check_api_url(api_url)
        self.project = project
        self.name = name or project
        self.of_job = not token
        self.requests = 0
        self._secrets = tuple(filter(None, (token, job_token)))
        self._retry = retry or Retry()
        # What the answer said beside its body; requests may be made in several threads.
        self._last = threading.local()
        self._client = gitlab.Gitlab(
            url=api_url.removesuffix("/").removesuffix(_API),
            private_token=token or None,
            job_token=None if token else job_token,
            timeout=timeout,
            per_page=100,
            user_agent="chalice-ci",
            keep_base_url=True,
        )
        self._client.session.max_redirects = 0
        self._client.session.hooks["response"].append(self._noted)

    def _noted(self, response: Any, *_: object, **__: object) -> None:
        self.requests += 1
        self._last.headers = response.headers

    @property
    def path(self) -> str:
        """The beginning of the project's addresses in the API."""
        return f"/projects/{quote(self.project, safe='')}"

    @property
    def page(self) -> str:
        """The project's address for people."""
        return f"{self._client.url}/{self.name}"

    def get(self, path: str, **query: object) -> Any:
        """What a GET answers, as JSON."""
        return self._client.http_get(
            path, query_data=dict(query), obey_rate_limit=False, max_retries=0
        )

    def text(self, path: str, **query: object) -> bytes:
        """What a GET answers, as it is."""
        answer: Any = self._client.http_get(
            path, query_data=dict(query), raw=True, obey_rate_limit=False, max_retries=0
        )
        found: bytes = answer.content
        return found

    def every(self, path: str, **query: object) -> list[Any]:
        """Every item of a list, from all pages."""
        found = self._client.http_list(
            path, query_data=dict(query), get_all=True, obey_rate_limit=False, max_retries=0
        )
        return list(found)

    def latest(self, path: str, count: int, **query: object) -> list[Any]:
        """The first page of a list."""
        found = self._client.http_list(
            path,
            query_data={**query, "per_page": count},
            get_all=False,
            obey_rate_limit=False,
            max_retries=0,
        )
        return list(found)

    def post(self, path: str, data: Mapping[str, object]) -> Any:
        """What a POST answers."""
        return self._client.http_post(
            path, post_data=dict(data), obey_rate_limit=False, max_retries=0
        )

    def put(self, path: str, data: Mapping[str, object]) -> Any:
        """What a PUT answers."""
        return self._client.http_put(
            path, post_data=dict(data), obey_rate_limit=False, max_retries=0
        )

    def delete(self, path: str) -> None:
        """A DELETE."""
        self._client.http_delete(path, obey_rate_limit=False, max_retries=0)

    def call(
        self,
        doing: str,
        ask: Callable[[], _T],
        *,
        happened: Callable[[], _T | None] | None = None,
    ) -> _T:
        """What `ask` gives, repeated where that is safe; every failure is a ForgeError.

        Give `happened` when repeating `ask` would do its work twice: it looks whether that was
        done, and is asked before each repetition that follows an uncertain end.
        """

        def attempt() -> _T | Trouble:
            try:
                return ask()
            except (
                gitlab.GitlabError,
                Garbled,
                # requests' errors are OSErrors; the others are answers of another shape.
                OSError,
                ValueError,
                TypeError,
                LookupError,
                AttributeError,
            ) as error:
                return self._trouble(doing, error)

        return self._retry.run(attempt, happened=happened)

    def _trouble(self, doing: str, error: Exception) -> Trouble:
        if type(error).__name__ in ("TooManyRedirects", "RedirectError"):
            return Trouble(
                kind=Kind.FINAL,
                error=ForgeError(
                    f"GitLab's answer leads to another place while trying to {doing}; the token is "
                    "not sent there.",
                    where=self.name,
                    fix="See that CI_API_V4_URL is the server's own address.",
                ),
            )
        status = error.response_code if isinstance(error, gitlab.GitlabError) else None
        if isinstance(error, gitlab.GitlabError) and status is not None:
            return self._refusal(doing, error, status)
        if isinstance(error, OSError):
            what = f"GitLab did not answer in full while trying to {doing}"
        else:
            what = f"GitLab's answer is not what its API describes while trying to {doing}"
        return Trouble(
            kind=Kind.UNCERTAIN,
            error=ForgeError(
                f"{what} ({type(error).__name__.strip('_')}).",
                where=self.name,
                fix="Run again; if it stays so, look at the server's status page and at proxies "
                "between.",
            ),
        )

    def _refusal(self, doing: str, error: gitlab.GitlabError, status: int) -> Trouble:
        said = self._said(error)
        if status == 429:
            wait = _wait(getattr(self._last, "headers", {}))
            return Trouble(
                kind=Kind.REFUSED,
                wait=wait,
                error=ForgeError(
                    f"GitLab's rate limit does not let this run {doing} for another {wait:.0f} s.",
                    where=self.name,
                    fix="Run again later, or with fewer jobs at once.",
                ),
            )
        if status >= 500:
            return Trouble(
                kind=Kind.UNCERTAIN,
                error=ForgeError(
                    f"GitLab failed with {status} while trying to {doing}.",
                    where=self.name,
                    fix="Run again; the server's status page tells if it is known.",
                ),
            )
        if status in (401, 403):
            role = "See that the token is valid, has the scope `api` and the role Developer."
            refused: ForgeError = NotPermitted(
                f"The token may not {doing}: {said}.",
                where=self.name,
                fix=_NEEDS_TOKEN if self.of_job else role,
                permission="api",
            )
        elif status == 404:
            refused = NotFound(
                f"GitLab has nothing there to {doing}, or does not show it to this token.",
                where=self.name,
                fix="See that it is there, and that the token is of this project.",
            )
        else:
            refused = ForgeError(
                f"GitLab refused to {doing} ({status}: {said}).",
                where=self.name,
                fix="See what the project's settings say about it.",
            )
        return Trouble(kind=Kind.FINAL, error=refused)

    def _said(self, error: gitlab.GitlabError) -> str:
        """GitLab's own words, on one line and never with a token."""
        text = str(error.error_message)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return one_line(text, 300).rstrip(".") or "no reason given"


def open_gitlab(env: Mapping[str, str], *, token: str, retry: Retry | None = None) -> GitLabApi:
    """The project that the job's variables name, of a merge request the one it would go into.

    A fork's pipeline runs in the fork, whose files say nothing of what the merge request may do.
    """
    asked = env.get("CI_MERGE_REQUEST_PROJECT_ID", "")
    return GitLabApi(
        asked or env.get("CI_PROJECT_ID", "") or env.get("CI_PROJECT_PATH", ""),
        name=(env.get("CI_MERGE_REQUEST_PROJECT_PATH", "") if asked else "")
        or env.get("CI_PROJECT_PATH", ""),
        api_url=env.get("CI_API_V4_URL", ""),
        token=token,
        job_token=env.get("CI_JOB_TOKEN", ""),
        retry=retry,
    )


def _check_api_url(api_url: str) -> None:
    """Raise UsageError unless a token may be sent there.

    A server of one's own may have no TLS; the runner itself speaks to it in the clear then.
    """
    parts = urlsplit(api_url)
    plain = bool(parts.hostname) and not (parts.username or parts.password or parts.query)
    speaks = parts.scheme in ("http", "https")
    if not (plain and speaks and parts.path.rstrip("/").endswith(_API)):
        raise UsageError(
            f"{one_line(api_url, 200)!a} is not the address of GitLab's API.",
            where="CI_API_V4_URL",
            fix="Leave it as the runner sets it.",
        )


def _wait(headers: Mapping[str, str]) -> float:
    """The seconds that GitLab asks to wait before anything else is sent."""
    after = headers.get("Retry-After", "")
    return float(after) if after.isdecimal() and len(after) < 9 else _WAIT
