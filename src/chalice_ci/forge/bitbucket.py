"""Bitbucket Cloud: pull requests, one comment each, build statuses and Code Insights.

Requests go through `json_api.py`: the one library for this API that is kept well,
atlassian-python-api, is of three products, can neither edit nor delete a comment of Bitbucket
Cloud, and repeats by rules of its own.

What Bitbucket has not: labels - words in square brackets in a pull request's title count instead,
`[preview] Faster search` - and deployments that could be made: those are a step's `deployment:`.
A preview is shown as a build status of its commit, which pull requests list with its address.
HTML is shown as text, so the marker is a Markdown link definition, which nobody sees.

Sources: Atlassian's OpenAPI description of "The Bitbucket Cloud REST API" 2.0, its pages
"Pullrequests", "Commits", "Commit statuses", "Reports" and "Users"; docs/bitbucket.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.forge.hidden_marker import hidden, shown
from chalice_ci.forge.json_api import TIMEOUT, Answer, JsonApi
from chalice_ci.forge.one_comment import OneComment
from chalice_ci.forge.port import (
    Author,
    Deployment,
    DeploymentState,
    NotFound,
    NotPermitted,
    PullRequest,
    RawComment,
    oldest,
)
from chalice_ci.forge.preview_status import PreviewStatuses
from chalice_ci.forge.retry import Kind, Retry, Trouble
from chalice_ci.neutral import one_line
from chalice_ci.report.insights import REPORT_ID, annotation_documents, report_document
from chalice_ci.report.plain_markdown import without_html
from chalice_ci.report.report import Report

API = "https://api.bitbucket.org/2.0"
TOKEN_VARIABLE = "BITBUCKET_TOKEN"
LARGEST_COMMENT = 32_768
"""Characters; longer ones are answered with 400."""

_TOKEN = re.compile(r"[!-~]{1,2000}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_WORDS = re.compile(r"\[([^\[\]]{1,100})\]")
_MERGED_LATELY = 2
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FIX = (
    "Make a repository access token (Repository settings, Access tokens) with the scopes "
    f"account, repository:write and pullrequest:write, and keep it as the secured variable "
    f"{TOKEN_VARIABLE}."
)
_STATE = {
    DeploymentState.PENDING: "INPROGRESS",
    DeploymentState.IN_PROGRESS: "INPROGRESS",
    DeploymentState.SUCCESS: "SUCCESSFUL",
    DeploymentState.FAILURE: "FAILED",
    DeploymentState.ERROR: "STOPPED",
    DeploymentState.INACTIVE: "STOPPED",
}


class BitbucketApi(JsonApi):
    """One repository over the API: requests with errors that a person can act on.

    `repository` is "workspace/slug". Raises UsageError for a token or address that can't be used.
    """

    def __init__(
        self,
        repository: str,
        *,
        token: str,
        api_url: str = API,
        retry: Retry | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        if not _TOKEN.fullmatch(token):
            raise UsageError("The token is malformed.", where=TOKEN_VARIABLE, fix=_FIX)
        if not _REPOSITORY.fullmatch(repository):
            raise UsageError(
                f"{one_line(repository, 60)!r} is no workspace/repository.",
                where="variable BITBUCKET_REPO_FULL_NAME",
                fix="Run in a step of Bitbucket Pipelines.",
            )
        place = urlsplit(api_url)
        if place.scheme != "https" and place.hostname not in _LOOPBACK:
            raise UsageError("The address of the API is no https address.", where="Bitbucket")
        super().__init__(
            api_url,
            system="Bitbucket",
            authorization=f"Bearer {token}",
            token=token,
            retry=retry,
            timeout=timeout,
        )
        self.name = repository

    @property
    def path(self) -> str:
        """The beginning of the repository's addresses."""
        return f"/repositories/{self.name}"

    def every(self, path: str, *, pages: int = 1000, **query: str | int) -> list[Any]:
        """The items of a list from its pages, at most that many of them."""
        found: list[Any] = []
        answer = self.get(path, **query)
        for _ in range(pages):
            found += _listed(answer)
            following = answer.get("next")
            if not isinstance(following, str):
                return found
            # Only where the token belongs.
            if not following.startswith(f"{self._url}/"):
                raise ForgeError("Bitbucket's next page is at another address.", where=path)
            answer = self.get(following.removeprefix(self._url))
        return found

    def _refusal(self, where: str, answer: Answer) -> Trouble:
        status, words, scopes = answer.status, self._words(answer), _scopes(answer)
        if status == 404:
            return Trouble(
                kind=Kind.FINAL,
                error=NotFound(
                    f"Bitbucket has no such thing, or does not show it to this token: {words}.",
                    where=where,
                    fix=_FIX,
                ),
            )
        if status in (401, 403):
            needs = f" It needs the scope {', '.join(scopes)}." if scopes else ""
            return Trouble(
                kind=Kind.FINAL,
                error=NotPermitted(
                    f"the token may not do this: {words}.{needs}",
                    where=where,
                    fix=_FIX,
                    permission=", ".join(scopes),
                ),
            )
        if status == 429:
            return Trouble(
                kind=Kind.REFUSED,
                wait=answer.waits(otherwise=30.0),
                error=ForgeError(
                    "Bitbucket's limit of requests is used up.", where=where, fix="Run it later."
                ),
            )
        error = ForgeError(f"Bitbucket answered {status}: {words}.", where=where)
        return Trouble(kind=Kind.UNCERTAIN if status >= 500 else Kind.FINAL, error=error)

    def _words(self, answer: Answer) -> str:
        try:
            said = answer.document["error"]["message"]
        except (LookupError, TypeError):
            said = answer.reason or "without a word"
        return self._clean(said)


class BitbucketForge(OneComment, PreviewStatuses):
    """Pull requests, comments, build statuses and findings of a repository on Bitbucket Cloud."""

    largest_comment = LARGEST_COMMENT

    def __init__(self, api: BitbucketApi) -> None:
        self._api = api
        self._me: Author | None = None
        self._whole: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The repository."""
        return self._api.name

    def whoami(self) -> Author:
        """The account of the token; an access token has one of its own."""
        if self._me is None:
            self._me = self._api.read(lambda: _author(self._api.get("/user")), "GET /user")
        return self._me

    def pull_request(self, number: int) -> PullRequest:
        """The pull request now."""
        path = f"{self._pulls}/{number}"
        found = self._api.get(path)
        return self._api.read(lambda: self._pull(found), f"GET {path}")

    def open_pull_requests(self) -> tuple[PullRequest, ...]:
        """Every open pull request, by number."""
        listed = self._api.every(self._pulls, state="OPEN", pagelen=50)
        pulls = self._api.read(
            lambda: [self._pull(found) for found in listed], f"GET {self._pulls}"
        )
        return tuple(sorted(pulls, key=lambda pull: pull.number))

    def merged_as(self, commit: str) -> PullRequest | None:
        """The pull request that was merged as this commit, among the hundred merged latest."""
        listed = self._api.every(
            self._pulls, pages=_MERGED_LATELY, state="MERGED", sort="-updated_on", pagelen=50
        )
        for found in listed:
            merged = (found.get("merge_commit") or {}).get("hash") or ""
            if len(merged) >= 7 and commit.startswith(merged):
                return self._api.read(partial(self._pull, found), f"GET {self._pulls}")
        return None

    def approvers(self, run: int) -> tuple[tuple[str, str], ...]:
        """The API does not say who started a manual step."""
        del run
        return ()

    def _pages(self, number: int) -> _Comments:
        return _Comments(self._api, self.whoami(), number)

    def _kept(self, body: str) -> str:
        return without_html(body)

    def show_findings(self, commit: str, report: Report, *, link: str = "") -> None:
        """Replace the commit's Code Insights report; its annotations are at the lines."""
        path = f"{self._api.path}/commit/{quote(commit, safe='')}/reports/{REPORT_ID}"
        # An older run's annotations would stay.
        with contextlib.suppress(NotFound):
            self._api.send("DELETE", path)
        self._api.send("PUT", path, report_document(report, link=link))
        for documents in annotation_documents(report):
            self._api.send("POST", f"{path}/annotations", documents)

    # -- deployments: build statuses

    def _tell(self, deployment: Deployment, url: str, description: str) -> None:
        digest = hashlib.sha256(deployment.environment.encode()).hexdigest()[:16]
        body = {
            # At most 40 characters.
            "key": f"chalice-{digest}",
            "name": f"chalice-ci · {deployment.environment}"[:255],
            "state": _STATE[deployment.state],
            # A status must have an address.
            "url": url or f"https://bitbucket.org/{self._api.name}/commits/{deployment.sha}",
            "description": one_line(description, 255),
        }
        commit = quote(deployment.sha, safe="")
        self._api.send("POST", f"{self._api.path}/commit/{commit}/statuses/build", body)

    # -- reading

    @property
    def _pulls(self) -> str:
        return f"{self._api.path}/pullrequests"

    def _pull(self, found: Any) -> PullRequest:
        source, base = found["source"], found["destination"]
        head, own = source.get("repository"), base["repository"]
        title = _text(found["title"])
        state = _text(found["state"])
        head_name = None if head is None else _text(head["full_name"])
        return PullRequest(
            number=int(found["id"]),
            title=title,
            author=_text((found.get("author") or {}).get("nickname") or ""),
            is_open=state == "OPEN",
            merged=state == "MERGED",
            draft=found.get("draft") is True,
            head_ref=_text(source["branch"]["name"]),
            head_sha=self._commit(source, head_name or self._api.name),
            head_repository=head_name,
            from_fork=head is None or head["uuid"] != own["uuid"],
            base_ref=_text(base["branch"]["name"]),
            base_sha=self._commit(base, self._api.name),
            labels=tuple(dict.fromkeys(_WORDS.findall(title))),
            url=_text(found["links"]["html"]["href"]),
        )

    def _commit(self, end: Any, repository: str) -> str:
        """The whole id: a pull request holds its first twelve digits."""
        short = _text((end.get("commit") or {}).get("hash") or "")
        if len(short) >= 40 or not short:
            return short
        if short not in self._whole:
            found = self._api.get(f"/repositories/{repository}/commit/{quote(short, safe='')}")
            self._whole[short] = _text(found["hash"])
        return self._whole[short]


class _Comments:
    """The comments of a pull request."""

    def __init__(self, api: BitbucketApi, me: Author, number: int) -> None:
        self._api, self._me = api, me
        self._path = f"{api.path}/pullrequests/{number}/comments"

    def ours(self) -> tuple[RawComment, ...]:
        listed = self._api.every(self._path, pagelen=100, sort="created_on")
        return self._api.read(
            lambda: tuple(
                _comment(found)
                for found in listed
                if not found.get("deleted") and _author(found["user"]) == self._me
            ),
            f"GET {self._path}",
        )

    def create(self, body: str, *, key: str) -> RawComment:
        content = {"content": {"raw": hidden(body)}}
        made = self._api.send("POST", self._path, content, happened=partial(oldest, self, key))
        if isinstance(made, RawComment):
            return made
        return self._api.read(lambda: _comment(made), f"POST {self._path}")

    def edit(self, comment: int, body: str) -> RawComment | None:
        path = f"{self._path}/{comment}"
        try:
            made = self._api.send("PUT", path, {"content": {"raw": hidden(body)}})
        except NotFound:
            return None
        return self._api.read(lambda: _comment(made), f"PUT {path}")

    def delete(self, comment: int) -> None:
        with contextlib.suppress(NotFound):
            self._api.send("DELETE", f"{self._path}/{comment}")


def _listed(answer: Any) -> list[Any]:
    values = answer.get("values") if isinstance(answer, dict) else None
    if not isinstance(values, list):
        raise ForgeError("Bitbucket's answer is no list.", where="Bitbucket")
    return values


def _comment(found: Any) -> RawComment:
    raw = _text(found["content"]["raw"])
    link = _text(found["links"]["html"]["href"])
    return RawComment(id=int(found["id"]), url=link, body=shown(raw))


def _author(found: Any) -> Author:
    login = found.get("nickname") or found.get("display_name") or ""
    return Author(id=uuid.UUID(_text(found["uuid"])).int, login=_text(login))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def _scopes(answer: Answer) -> tuple[str, ...]:
    try:
        named = answer.document["error"]["detail"]["required"]
    except (LookupError, TypeError):
        return ()
    return tuple(one_line(str(scope), 60) for scope in named) if isinstance(named, list) else ()
