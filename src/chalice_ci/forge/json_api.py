"""A forge's API as JSON over HTTP, where no library for it is kept well.

`requests` makes the requests, which PyGithub brings anyway. Redirects are not followed: a token
goes where the address says, and nowhere else. `retry.py` says what is repeated.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from requests.auth import AuthBase

from chalice_ci.errors import ForgeError
from chalice_ci.forge.answer import Garbled
from chalice_ci.forge.retry import Kind, Retry, Trouble
from chalice_ci.neutral import one_line

_T = TypeVar("_T")

TIMEOUT = 20.0
"""Seconds to connect, and to wait for more of an answer."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer: `document` is its JSON, None when it is none; header names are in any case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    document: Any

    def waits(self, otherwise: float) -> float:
        """The seconds that it asks to wait."""
        asked = self.headers.get("Retry-After", "")
        return float(asked) if asked.isdecimal() and len(asked) < 9 else otherwise


class _Authorization(AuthBase):
    """The one header that says who asks."""

    def __init__(self, header: str) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


class JsonApi(ABC):
    """Requests below one address; every failure is a ForgeError.

    `system` is what messages call the forge; `token` is what never stands in one. `fixed` are query
    parameters that every request has.
    """

    def __init__(
        self,
        url: str,
        *,
        system: str,
        authorization: str,
        token: str,
        fixed: Mapping[str, str] | None = None,
        retry: Retry | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.requests = 0
        self._url = url.rstrip("/")
        self._system = system
        self._token = token
        self._fixed = dict(fixed or {})
        self._timeout = timeout
        self._retry = retry or Retry()
        self._session = requests.Session()
        # As a header alone it would give way to what ~/.netrc has for this host.
        self._session.auth = _Authorization(authorization)
        self._session.headers["Accept"] = "application/json"
        self._session.headers["User-Agent"] = "chalice-ci"

    def get(self, path: str, /, **query: str | int) -> Any:
        """What a GET answers."""
        return self._retry.run(lambda: self._ask("GET", path, query=query))

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        happened: Callable[[], Any] | None = None,
    ) -> Any:
        """What a request with a body answers; `happened` is looked at before one is repeated."""
        return self._retry.run(lambda: self._ask(method, path, body=body), happened=happened)

    def read(self, reading: Callable[[], _T], where: str) -> _T:
        """What an answer holds; raises ForgeError when it is not of the described form."""
        try:
            return reading()
        except (Garbled, LookupError, TypeError, ValueError, AttributeError) as problem:
            what = json.dumps(str(problem))[:100]
            raise ForgeError(
                f"{self._system}'s answer is not what its description promises: {what}.",
                where=where,
            ) from problem

    @abstractmethod
    def _refusal(self, where: str, answer: Answer) -> Trouble:
        """What an answer outside of 200 to 299 means."""

    def _unreadable(self, where: str, answer: Answer) -> Trouble:
        """What an answer from 200 to 299 means that is no JSON."""
        del answer
        error = ForgeError(f"{self._system}'s answer is no JSON.", where=where)
        return Trouble(kind=Kind.UNCERTAIN, error=error)

    def _clean(self, said: object) -> str:
        """The forge's own words, on one line and never with the token."""
        return one_line(str(said).replace(self._token, "***"), 300).rstrip(".")

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str | int] | None = None,
    ) -> Any:
        self.requests += 1
        where = f"{method} {path.partition('?')[0]}"
        try:
            answer = self._session.request(
                method,
                self._url + path,
                params={**self._fixed, **(query or {})},
                json=body,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except requests.RequestException as problem:
            error = ForgeError(
                f"{self._system} did not answer: {self._clean(problem)}.",
                where=where,
                fix="Run it again.",
            )
            return Trouble(kind=Kind.UNCERTAIN, error=error)
        document: Any = None
        readable = True
        try:
            document = answer.json() if answer.content else {}
        except (ValueError, RecursionError):
            readable = False
        seen = Answer(
            status=answer.status_code,
            reason=answer.reason or "",
            headers=answer.headers,
            document=document,
        )
        if not 200 <= seen.status < 300:
            return self._refusal(where, seen)
        return document if readable else self._unreadable(where, seen)
