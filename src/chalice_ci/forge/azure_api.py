"""One repository of Azure Repos: requests with errors that a person can act on.

Two tokens are possible: the job's own, `System.AccessToken`, which is the pipeline's identity
"<project> Build Service (<organization>)", and a personal access token. For a token that it does
not take Azure DevOps answers 401, or its sign-in page with 203 or a redirect to it.

Requests go through `json_api.py`. Microsoft's own library `azure-devops` had its last release in
November 2023, a beta, and rests on msrest, which is given up since 2022.

Sources: Microsoft's OpenAPI description of Git 7.1 (MicrosoftDocs/vsts-rest-api-specs), its pages
"Use predefined variables", "Get started with the REST APIs", "Rate and usage limits" and "Manage
build service account permissions".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.forge.json_api import TIMEOUT, Answer, JsonApi
from chalice_ci.forge.port import NotFound, NotPermitted
from chalice_ci.forge.retry import Kind, Retry, Trouble
from chalice_ci.neutral import one_line

JOB_TOKEN = "SYSTEM_ACCESSTOKEN"
PERSONAL_TOKEN = "AZURE_DEVOPS_EXT_PAT"
"""The variable in which Azure's own command line looks for a personal access token."""
VERSION = "7.1"
PAGE = 100

_TOKEN = re.compile(r"[!-~]{1,8000}")
_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,300}")
_NEEDS = re.compile(r"Git '([A-Za-z]{1,60})' permission")
_WAIT = 30.0
_GRANT = (
    'Give the pipeline\'s identity, "<project> Build Service (<organization>)", the permission '
    '"Contribute to pull requests": Project settings, Repositories, Security.'
)
_SCOPES = (
    f'See that the token in {PERSONAL_TOKEN} is valid and has the scopes "Code (Read)", "Code '
    '(Status)" and "Pull Request Threads (Read & write)".'
)
_PASS = f"Give the step the job's own token: `{JOB_TOKEN}: $(System.AccessToken)` in its `env`."


class AzureApi(JsonApi):
    """One repository over the API.

    `collection` is the organization's address, `project` and `repository` are names or ids.
    Raises UsageError for a token or an address that cannot be used.
    """

    def __init__(
        self,
        *,
        collection: str,
        project: str,
        repository: str,
        name: str = "",
        token: str = "",
        personal_token: str = "",
        retry: Retry | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        secret = personal_token or token
        if not _TOKEN.fullmatch(secret):
            where = PERSONAL_TOKEN if personal_token else JOB_TOKEN
            raise UsageError("The token is malformed.", where=where, fix=_PASS)
        _check_collection(collection)
        named = {"SYSTEM_TEAMPROJECT": project, "BUILD_REPOSITORY_ID": repository}
        for variable, value in named.items():
            if not _NAME.fullmatch(value) or value in (".", ".."):
                raise UsageError(
                    f"{one_line(value, 60)!r} is no name.",
                    where=f"variable {variable}",
                    fix="Run in a job of Azure Pipelines.",
                )
        pair = base64.b64encode(f":{secret}".encode()).decode()
        super().__init__(
            collection,
            system="Azure DevOps",
            authorization=f"Basic {pair}" if personal_token else f"Bearer {secret}",
            token=secret,
            fixed={"api-version": VERSION},
            retry=retry,
            timeout=timeout,
        )
        self.name = f"{project}/{name or repository}"
        self._of_job = not personal_token
        self._project = quote(project, safe="")
        self._repository = quote(repository, safe="")
        self._shown = quote(name or repository, safe="")

    @property
    def path(self) -> str:
        """The beginning of the repository's addresses in the API."""
        return f"/{self._project}/_apis/git/repositories/{self._repository}"

    def page(self, number: int) -> str:
        """A pull request's address for people."""
        return f"{self._url}/{self._project}/_git/{self._shown}/pullrequest/{number}"

    def identity(self) -> Any:
        """Who the token is of; this request has never left its preview."""
        return self.get("/_apis/connectionData", **{"api-version": f"{VERSION}-preview.1"})

    def items(self, path: str, /, **query: str) -> list[Any]:
        """The items of a list that is answered as a whole."""
        return _listed(self.get(path, **query), path)

    def every(self, path: str, /, **query: str | int) -> list[Any]:
        """The items of a list from all its pages."""
        found: list[Any] = []
        while True:
            some = _listed(self.get(path, **query, **{"$top": PAGE, "$skip": len(found)}), path)
            found += some
            if len(some) < PAGE:
                return found

    def _refusal(self, where: str, answer: Answer) -> Trouble:
        status, words = answer.status, self._words(answer)
        fix = _GRANT if self._of_job else _SCOPES
        if 300 <= status < 400:
            return self._no_entry(where)
        if status == 401:
            return self._not_taken(where, words)
        if status == 403:
            needs = _NEEDS.search(words)
            refused: ForgeError = NotPermitted(
                f"the token may not do this: {words}.",
                where=where,
                fix=fix,
                permission=needs[1] if needs else "",
            )
            return Trouble(kind=Kind.FINAL, error=refused)
        if status == 404:
            refused = NotFound(
                f"Azure DevOps has no such thing, or does not show it to this token: {words}.",
                where=where,
                fix=fix,
            )
            return Trouble(kind=Kind.FINAL, error=refused)
        if status == 429 or (status == 503 and "Retry-After" in answer.headers):
            return Trouble(
                kind=Kind.REFUSED,
                wait=answer.waits(otherwise=_WAIT),
                error=ForgeError(
                    "Azure DevOps delays this identity's requests: its limit of usage is reached.",
                    where=where,
                    fix="Run it later.",
                ),
            )
        error = ForgeError(f"Azure DevOps answered {status}: {words}.", where=where)
        return Trouble(kind=Kind.UNCERTAIN if status >= 500 else Kind.FINAL, error=error)

    def _unreadable(self, where: str, answer: Answer) -> Trouble:
        if answer.status == 203 or "html" in answer.headers.get("Content-Type", ""):
            return self._no_entry(where)
        return super()._unreadable(where, answer)

    def _no_entry(self, where: str) -> Trouble:
        return self._not_taken(where, "it shows its sign-in page instead")

    def _not_taken(self, where: str, words: str) -> Trouble:
        error = NotPermitted(
            f"Azure DevOps does not take the token: {words}.",
            where=where,
            fix=_PASS if self._of_job else _SCOPES,
        )
        return Trouble(kind=Kind.FINAL, error=error)

    def _words(self, answer: Answer) -> str:
        try:
            said = answer.document["message"]
        except (LookupError, TypeError):
            said = ""
        return self._clean(said or answer.reason or "without a word")


def open_azure(env: Mapping[str, str], *, retry: Retry | None = None) -> AzureApi:
    """The repository that the job's variables name, with the token that it was given."""
    return AzureApi(
        collection=env.get("SYSTEM_COLLECTIONURI", "")
        or env.get("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI", ""),
        project=env.get("SYSTEM_TEAMPROJECT", ""),
        repository=env.get("BUILD_REPOSITORY_ID", "") or env.get("BUILD_REPOSITORY_NAME", ""),
        name=env.get("BUILD_REPOSITORY_NAME", ""),
        token=env.get(JOB_TOKEN, ""),
        personal_token=env.get(PERSONAL_TOKEN, ""),
        retry=retry,
    )


def _check_collection(address: str) -> None:
    """Raise UsageError unless a token may be sent there.

    A server of one's own may have no TLS; the agent itself speaks to it in the clear then.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    plain = bool(parts.hostname) and not (parts.username or parts.password or parts.query)
    if not (plain and parts.scheme in ("http", "https")):
        raise UsageError(
            f"{one_line(address, 200)!a} is not the address of an organization.",
            where="SYSTEM_COLLECTIONURI",
            fix="Leave it as the agent sets it.",
        )


def _listed(answer: Any, where: str) -> list[Any]:
    values = answer.get("value") if isinstance(answer, dict) else None
    if not isinstance(values, list):
        raise ForgeError("Azure DevOps' answer is no list.", where=f"GET {where}")
    return values
