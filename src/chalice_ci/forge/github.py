"""GitHub through PyGithub; GitHub Enterprise by the runner's `GITHUB_API_URL` alone.

PyGithub's own throttle and retries are off: it would repeat a POST after a server's error and
leave two comments. `retry.py` decides instead. Objects are made lazily with addresses of our own,
so that a request goes where the API URL says, whatever an answer contains; redirects to another
host are refused.

Who we are comes from GraphQL's `viewer`: it answers for the workflow's token (github-actions[bot],
whose id differs between GitHub and an Enterprise server), for an App's installation token and for
a person's token; `GET /user` refuses the first two.

docs/github.md has the table of permissions.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

from github import Auth, Github, InputGitTreeElement
from github.Deployment import Deployment as GitHubDeployment
from github.GitCommit import GitCommit
from github.GithubException import (
    BadAttributeException,
    GithubException,
    RateLimitExceededException,
)
from github.GithubObject import NotSet
from github.GitTree import GitTree
from github.Issue import Issue
from github.IssueComment import IssueComment
from github.PullRequest import PullRequest as GitHubPullRequest
from github.Repository import Repository
from github.Requester import Requester

from chalice_ci.context import RunOrder
from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.forge import github_heads as heads
from chalice_ci.forge.port import (
    DEFAULT_KEY,
    MAX_COMMENT,
    Author,
    Comment,
    Deployment,
    DeploymentState,
    NotFound,
    NotPermitted,
    Past,
    PullRequest,
    RawComment,
    Removed,
    Upserted,
    checked_environment,
    oldest,
    sticky,
    upsert,
)
from chalice_ci.forge.retry import Kind, Retry, Trouble
from chalice_ci.neutral import one_line
from chalice_ci.state.github import Committed, Head, Tree, TreeEntry, is_made

DEFAULT_API_URL = "https://api.github.com"
TIMEOUT = 20
"""Seconds to connect, and to wait for more of an answer."""

_T = TypeVar("_T")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/[A-Za-z0-9._-]{1,100}")
_TOKEN = re.compile(r"[!-~]{1,2000}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LIMITED = re.compile(r"(?i)rate limit|abuse detection|wait a few minutes|retry your request again")
_SECONDARY_WAIT = 60.0
_DESCRIPTION = 140
_VIEWER = "query { viewer { login databaseId } }"
_PAYLOAD = "chalice-ci"
_STALE_STATUS = 409
_STATUS_OF = {
    "": 502,
    "FORBIDDEN": 403,
    "INSUFFICIENT_SCOPES": 403,
    "NOT_FOUND": 404,
    "RATE_LIMITED": 429,
    "SERVICE_UNAVAILABLE": 503,
    heads.STALE: _STALE_STATUS,
}
"""The status of the other API for a type of GraphQL's errors."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is being done, for a message, and the permission that it takes."""

    doing: str
    permission: str = ""


_MERGED_LATELY = 1000
_READ_PULLS = "pull-requests: read"
_WRITE_PULLS = "pull-requests: write"
_WRITE_DEPLOYMENTS = "deployments: write"
_READ_CONTENTS = "contents: read"
_WRITE_CONTENTS = "contents: write"


class _CountedToken(Auth.Token):
    """The token; PyGithub asks it once for every request."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.requests = 0

    def authentication(self, headers: dict[str, Any]) -> None:
        self.requests += 1
        super().authentication(headers)


class _Garbled(Exception):
    """An answer lacks what its description promises."""


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
                _Garbled,
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
            refused = _Refused(
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


class _Refused(ForgeError):
    """A refusal with its status: 409, 422 and others that are no question of rights."""

    def __init__(self, what: str, *, where: str, fix: str, status: int, said: str) -> None:
        super().__init__(what, where=where, fix=fix)
        self.status = status
        self.said = said


class GitHubForge:
    """Pull requests, comments and deployments of a repository on GitHub."""

    largest_comment = MAX_COMMENT

    def __init__(self, api: GitHubApi) -> None:
        self._api = api
        self._me: Author | None = None
        self._earlier: dict[int, tuple[Deployment, ...]] = {}

    @property
    def name(self) -> str:
        """The repository."""
        return self._api.repository

    @property
    def requests(self) -> int:
        """How many requests were made."""
        return self._api.requests

    def whoami(self) -> Author:
        """The account behind the token, asked once."""

        def viewer() -> Author:
            _, data = self._api.requester.graphql_query(_VIEWER, {})
            found = data["data"]["viewer"]
            return Author(id=_number(found["databaseId"]), login=_text(found["login"]))

        if self._me is None:
            self._me = self._api.call(Operation(doing="see whose token this is"), viewer)
        return self._me

    def pull_request(self, number: int) -> PullRequest:
        """The pull request now."""
        return self._api.call(
            Operation(doing=f"read pull request {number}", permission=_READ_PULLS),
            lambda: _pull_request(self._api.repo.get_pull(number)),
        )

    def open_pull_requests(self) -> tuple[PullRequest, ...]:
        """Every open pull request, from all pages."""
        found = self._api.call(
            Operation(doing="list the open pull requests", permission=_READ_PULLS),
            lambda: [_pull_request(pull) for pull in self._api.repo.get_pulls(state="open")],
        )
        # Something may be opened or closed between two pages.
        return tuple(sorted({p.number: p for p in found}.values(), key=lambda p: p.number))

    def merged_as(self, commit: str) -> PullRequest | None:
        """Of the pull requests that were updated last - ten pages - the one merged as this commit.

        It is the merge commit, the squashed commit or the last of the rebased ones. A page is read
        when the ones before it do not have it.
        """

        def find() -> PullRequest | None:
            latest = self._api.repo.get_pulls(state="closed", sort="updated", direction="desc")
            for pull in islice(latest, _MERGED_LATELY):
                if pull.merged_at is not None and pull.merge_commit_sha == commit:
                    return _pull_request(pull)
            return None

        return self._api.call(
            Operation(doing="find the pull request that was merged", permission=_READ_PULLS), find
        )

    def approvers(self, run: int) -> tuple[tuple[str, str], ...]:
        """Who approved the deployments of a workflow run, by environment."""

        def ask() -> tuple[tuple[str, str], ...]:
            url = f"/repos/{self._api.repository}/actions/runs/{run}/approvals"
            _, found = self._api.requester.requestJsonAndCheck("GET", url)
            reviews: Any = found
            return tuple(
                (str(environment["name"]), str((review.get("user") or {}).get("login", "")))
                for review in reviews
                if review.get("state") == "approved"
                for environment in review.get("environments") or ()
            )

        return self._api.call(
            Operation(doing=f"read who approved run {run}", permission="actions: read"), ask
        )

    def sticky_comment(self, number: int, *, key: str = DEFAULT_KEY) -> Comment | None:
        """Our comment, found by author and marker."""
        return sticky(self._pages(number), key)

    def upsert_comment(
        self,
        number: int,
        body: str,
        *,
        run: RunOrder,
        key: str = DEFAULT_KEY,
        history: tuple[Past, ...] = (),
    ) -> Upserted:
        """Make or rewrite our one comment."""
        return upsert(self._pages(number), body, key=key, run=run, history=history)

    def start_deployment(
        self,
        *,
        environment: str,
        sha: str,
        run: RunOrder,
        transient: bool = True,
        fresh: bool = False,
        log_url: str = "",  # noqa: ARG002 - it comes with the status
        description: str = "",
    ) -> Deployment:
        """Create a deployment, which GitHub shows as pending until it is finished.

        A status that says "in progress" would be a write more, of the 500 that an hour has.
        """
        operation = Operation(
            doing=f"create a deployment to {environment}", permission=_WRITE_DEPLOYMENTS
        )

        attempts = 0

        def create() -> Deployment:
            nonlocal attempts
            attempts += 1
            made = self._api.repo.create_deployment(
                sha,
                task="deploy",
                # Left out, GitHub merges the default branch into the ref, and waits for checks.
                auto_merge=False,
                required_contexts=[],
                payload={_PAYLOAD: {"run": run.id, "attempt": run.attempt}},
                environment=environment,
                description=description[:_DESCRIPTION],
                transient_environment=transient,
                production_environment=False,
            )
            ours = _deployment(made)
            if ours is None:
                raise _Garbled
            return ours

        found: list[Deployment] = []

        def existing() -> Deployment | None:
            found[:] = self._listed(environment)
            return next((d for d in found if (d.run, d.sha) == (run, sha)), None)

        made = None if fresh else existing()
        made = made or self._api.call(operation, create, happened=existing)
        if attempts < 2:
            self._earlier[made.id] = tuple(found)
        return made

    def finish_deployment(
        self,
        deployment: Deployment,
        state: DeploymentState,
        *,
        url: str = "",
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        """Say how it ended; a success takes earlier transient deployments away."""
        ended = self._say(deployment, state, url=url, log_url=log_url, description=description)
        # GitHub does this itself for environments that are not transient.
        if state is DeploymentState.SUCCESS and deployment.transient:
            environment = deployment.environment
            # Known from the beginning, unless an attempt may have left one behind.
            known = self._earlier.get(deployment.id)
            for earlier in self._listed(environment) if known is None else known:
                if earlier.transient and earlier.id < deployment.id:
                    self._remove(earlier)
        return ended

    def deployments(self, environment: str) -> tuple[Deployment, ...]:
        """Our deployments of an environment with their newest status: a request for each."""
        return tuple(self._status(listed) for listed in self._listed(environment))

    def remove_environment(self, environment: str) -> Removed:
        """Delete our deployments, and the environment where the token may."""
        checked_environment(environment)
        listed = self._listed(environment)
        for deployment in listed:
            self._remove(deployment)
        operation = Operation(
            doing=f"delete the environment {environment}", permission="administration: write"
        )
        try:
            self._api.call(operation, lambda: self._api.repo.delete_environment(environment))
        except NotFound:
            return Removed(deployments=len(listed), environment=True)
        except NotPermitted:
            return Removed(deployments=len(listed), environment=False)
        return Removed(deployments=len(listed), environment=True)

    def _pages(self, number: int) -> _GitHubComments:
        return _GitHubComments(self._api, self.whoami(), number)

    def _listed(self, environment: str) -> tuple[Deployment, ...]:
        def read() -> list[Deployment]:
            found = self._api.repo.get_deployments(environment=checked_environment(environment))
            return [ours for ours in map(_deployment, found) if ours is not None]

        found = self._api.call(
            Operation(
                doing=f"list the deployments to {environment}", permission="deployments: read"
            ),
            read,
        )
        return tuple(sorted(found, key=lambda d: d.id, reverse=True))

    def _status(self, deployment: Deployment) -> Deployment:
        """The deployment with its newest status, which comes first."""

        def read() -> Deployment:
            for status in self._api.repo.get_deployment(deployment.id).get_statuses():
                state = _state(status.state)
                return replace(deployment, state=state, url=status.environment_url or "")
            return deployment

        return self._api.call(
            Operation(doing="read a deployment's status", permission="deployments: read"), read
        )

    def _say(
        self,
        deployment: Deployment,
        state: DeploymentState,
        *,
        url: str = "",
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        said = replace(deployment, state=state, url=url)

        def create() -> Deployment:
            made = self._api.repo.get_deployment(deployment.id).create_status(
                state.value,
                target_url=log_url or NotSet,
                description=description[:_DESCRIPTION],
                environment_url=url or NotSet,
            )
            if made.state != state.value:
                raise _Garbled
            return said

        def happened() -> Deployment | None:
            return said if self._status(deployment) == said else None

        return self._api.call(
            Operation(doing=f"set a deployment to {state.value}", permission=_WRITE_DEPLOYMENTS),
            create,
            happened=happened,
        )

    def _remove(self, deployment: Deployment) -> None:
        operation = Operation(doing="delete a deployment", permission=_WRITE_DEPLOYMENTS)
        # Only an inactive deployment may be deleted. Gone already: a job that ran beside us.
        with contextlib.suppress(NotFound):
            self._say(deployment, DeploymentState.INACTIVE)
            self._api.call(
                operation,
                lambda: self._api.requester.requestJsonAndCheck(
                    "DELETE", f"/repos/{self.name}/deployments/{deployment.id}"
                ),
            )


class _GitHubComments:
    """The comments of one pull request."""

    def __init__(self, api: GitHubApi, me: Author, number: int) -> None:
        self._api = api
        self._me = me
        self._number = number

    def ours(self) -> tuple[RawComment, ...]:
        def read() -> list[RawComment]:
            return [
                _comment(comment)
                for comment in self._issue().get_comments()
                if comment.user is not None and comment.user.id == self._me.id
            ]

        operation = self._doing("list the comments", _READ_PULLS)
        return tuple(self._api.call(operation, read))

    def create(self, body: str, *, key: str) -> RawComment:
        return self._api.call(
            self._doing("comment", _WRITE_PULLS),
            lambda: _comment(self._issue().create_comment(body)),
            happened=partial(oldest, self, key),
        )

    def edit(self, comment: int, body: str) -> RawComment | None:
        def write() -> RawComment:
            lazy = self._issue().get_comment(comment)
            lazy.edit(body)
            return _comment(lazy)

        try:
            return self._api.call(self._doing("edit the comment", _WRITE_PULLS), write)
        except NotFound:
            return None

    def delete(self, comment: int) -> None:
        with contextlib.suppress(NotFound):
            self._api.call(
                self._doing("delete a double of the comment", _WRITE_PULLS),
                lambda: self._issue().get_comment(comment).delete(),
            )

    def _issue(self) -> Issue:
        return self._api.repo.get_issue(self._number)

    def _doing(self, what: str, permission: str) -> Operation:
        return Operation(doing=f"{what} on pull request {self._number}", permission=permission)


class GitHubData:
    """The Git data API of a repository, for the state store."""

    def __init__(self, api: GitHubApi) -> None:
        self._api = api

    def _call(
        self,
        operation: Operation,
        ask: Callable[[], _T],
        *,
        happened: Callable[[], _T | None] | None = None,
    ) -> _T:
        """What is deployed and not recorded is worse than a run that waits some minutes."""
        return self._api.call(operation, ask, happened=happened, patient=True)

    @property
    def name(self) -> str:
        """The repository."""
        return self._api.repository

    def default_branch(self) -> str:
        """The branch that HEAD names."""
        return self._call(
            Operation(doing="read the repository", permission="metadata: read"),
            lambda: _text(self._api.repo.default_branch),
        )

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self._call(
            Operation(doing="read a commit", permission=_READ_CONTENTS),
            lambda: _oid(self._api.repo.get_git_commit(commit).tree.sha),
        )

    def tree(self, name: str, *, recursive: bool) -> Tree | None:
        """A tree's entries; None when there is no such tree."""

        def read() -> Tree:
            found = self._api.repo.get_git_tree(name, recursive=recursive)
            entries = (
                TreeEntry(
                    path=_text(entry.path),
                    mode=_text(entry.mode),
                    sha=_oid(entry.sha),
                    size=_number(entry.size) if entry.type == "blob" else 0,
                )
                for entry in found.tree
            )
            return Tree(entries=tuple(entries), truncated=found.truncated is True)

        operation = Operation(doing="list the files of a commit", permission=_READ_CONTENTS)
        try:
            return self._call(operation, read)
        except NotFound:
            return None

    def head(self, branch: str | None, files: Sequence[str]) -> Head | None:
        """The newest commit of a branch with files of it: one request."""
        operation = Operation(
            doing=f"read the branch {branch}" if branch else "read the default branch",
            permission=_READ_CONTENTS,
        )
        text = heads.head_query(files, branch=branch)
        variables = heads.head_variables(self.name, files, branch=branch)
        return self._call(operation, lambda: heads.head_of(self._api.query(text, variables), files))

    def commit_on_branch(
        self, branch: str, *, parent: str, files: Mapping[str, bytes | None], message: str
    ) -> Committed:
        """A commit on the branch's head: one request, which also moves the branch."""
        operation = Operation(doing=f"move the branch {branch}", permission=_WRITE_CONTENTS)
        variables = heads.commit_variables(
            self.name, branch, parent=parent, files=files, message=message
        )

        def happened() -> Committed | None:
            now = self.head(branch, tuple(files))
            if now is None or not is_made(now, parent=parent, files=files, message=message):
                return None
            return Committed(commit=now.commit, tree=now.tree)

        try:
            return self._call(
                operation,
                lambda: heads.committed(self._api.query(heads.COMMIT, variables)),
                happened=happened,
            )
        except _Refused as error:
            return Committed(refusal=error.said, raced=error.status == _STALE_STATUS)

    def file(self, path: str, *, branch: str, commit: str) -> str | None:
        """The text of a file of a branch, of the commit when the branch is gone; None without it.

        Raises ForgeError for what is no file of text.
        """
        head = self.head(branch, (path,))
        if head is not None:
            entry = head.files[path]
            if entry is None:
                return None
            if not entry.mode.startswith("100"):
                raise ForgeError(
                    f"{path} is not a file on {branch}.",
                    where=self.name,
                    fix="Put a file in its place: links and folders are not followed.",
                )
            data = head.contents.get(entry.sha)
            return (self.blob(entry.sha) if data is None else data).decode("utf-8", "replace")

        # That the commit can be read shows the permission: what is not found then is not there.
        self.tree_of(commit)

        def read() -> str:
            found = self._api.repo.get_contents(path, ref=commit)
            if isinstance(found, list) or found.type != "file" or found.encoding != "base64":
                raise _Garbled
            try:
                return base64.b64decode(_text(found.content)).decode("utf-8", "replace")
            except binascii.Error as error:
                raise _Garbled from error

        try:
            return self._call(
                Operation(doing=f"read {path} of {branch}", permission=_READ_CONTENTS), read
            )
        except NotFound:
            return None

    def changed_since(self, branch: str, commit: str) -> tuple[str, ...] | None:
        """The files in which a branch differs from a commit, None when there is no such branch."""
        head = self.head(branch, ())
        if head is None:
            return None
        if head.commit == commit:
            return ()
        return self._call(
            Operation(doing=f"compare {branch} with a commit", permission=_READ_CONTENTS),
            lambda: tuple(
                _text(file.filename) for file in self._api.repo.compare(commit, head.commit).files
            ),
        )

    def blob(self, oid: str) -> bytes:
        """A file's content."""

        def read() -> bytes:
            found = self._api.repo.get_git_blob(oid)
            if found.encoding != "base64":
                raise _Garbled
            try:
                return base64.b64decode(_text(found.content))
            except binascii.Error as error:
                raise _Garbled from error

        return self._call(Operation(doing="read a file", permission=_READ_CONTENTS), read)

    def create_tree(self, base: str | None, files: Mapping[str, bytes | None]) -> str:
        """A tree with these files replaced or removed. Making it again gives the same one."""
        elements = [
            InputGitTreeElement(path, "100644", "blob", **self._content(data))
            for path, data in files.items()
        ]
        return self._call(
            Operation(doing="write a tree", permission=_WRITE_CONTENTS),
            lambda: _oid(
                self._api.repo.create_git_tree(
                    elements, base_tree=NotSet if base is None else self._tree(base)
                ).sha
            ),
        )

    def create_commit(self, message: str, *, tree: str, parent: str | None) -> str:
        """A commit. A second one after a lost answer is never referred to."""
        parents = [] if parent is None else [self._commit(parent)]
        return self._call(
            Operation(doing="write a commit", permission=_WRITE_CONTENTS),
            lambda: _oid(self._api.repo.create_git_commit(message, self._tree(tree), parents).sha),
        )

    def create_ref(self, name: str, commit: str) -> str:
        """Make a ref; "" or why it was refused."""
        return self._moved(
            name, lambda: _oid(self._api.repo.create_git_ref(f"refs/{name}", commit).object.sha)
        )

    def refs(self, prefix: str) -> tuple[str, ...]:
        """The names of all refs that begin with "heads/...": GitHub gives them in one answer."""

        def read() -> tuple[str, ...]:
            url = f"/repos/{self.name}/git/matching-refs/{prefix}"
            # PyGithub would ask for pages, which this request does not have.
            _, found = self._api.requester.requestJsonAndCheck("GET", url)
            listed: Any = found
            return tuple(_text(ref["ref"]) for ref in listed)

        operation = Operation(
            doing=f"list the branches {_branch(prefix)}*", permission=_READ_CONTENTS
        )
        return self._call(operation, read)

    def delete_ref(self, name: str) -> None:
        """Delete "heads/..."; one that is gone already is fine."""
        operation = Operation(
            doing=f"delete the branch {_branch(name)}", permission=_WRITE_CONTENTS
        )
        try:
            self._call(
                operation,
                lambda: self._api.requester.requestJsonAndCheck(
                    "DELETE", f"/repos/{self.name}/git/refs/{name}"
                ),
            )
        except NotFound:
            return
        except _Refused as error:
            # GitHub's answer for a ref that does not exist.
            if error.status != 422 or "does not exist" not in error.said:
                raise

    def _moved(self, name: str, move: Callable[[], str]) -> str:
        operation = Operation(doing=f"move the branch {_branch(name)}", permission=_WRITE_CONTENTS)
        try:
            self._call(operation, move)
        except _Refused as error:
            if error.status not in {409, 422}:
                raise
            return error.said
        return ""

    def _content(self, data: bytes | None) -> dict[str, Any]:
        """Text goes with the tree, which saves a request; anything else as a blob. A file without
        an object is one that is removed.
        """
        if data is None:
            return {"sha": None}
        try:
            return {"content": data.decode("utf-8")}
        except UnicodeDecodeError:
            text = base64.b64encode(data).decode("ascii")
            sha = self._call(
                Operation(doing="write a file", permission=_WRITE_CONTENTS),
                lambda: _oid(self._api.repo.create_git_blob(text, "base64").sha),
            )
            return {"sha": sha}

    def _tree(self, oid: str) -> GitTree:
        """PyGithub's object of a tree that exists, without asking for it."""
        return GitTree(self._api.requester, {}, {"sha": oid}, completed=True)

    def _commit(self, oid: str) -> GitCommit:
        return GitCommit(self._api.requester, {}, {"sha": oid}, completed=True)


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


def _pull_request(pull: GitHubPullRequest) -> PullRequest:
    head, base = pull.head, pull.base
    # None for a fork that was deleted, whatever PyGithub's types say.
    repository: Repository | None = head.repo
    return PullRequest(
        number=_number(pull.number),
        title=_text(pull.title),
        author=pull.user.login if pull.user else "",
        is_open=_text(pull.state) == "open",
        # Lists do not say `merged`, and asking would cost a request for each.
        merged=pull.merged_at is not None,
        draft=pull.draft is True,
        head_ref=_text(head.ref),
        head_sha=_oid(head.sha),
        head_repository=_text(repository.full_name) if repository else None,
        from_fork=repository is None or _number(repository.id) != _number(base.repo.id),
        base_ref=_text(base.ref),
        base_sha=_oid(base.sha),
        labels=tuple(_text(label.name) for label in pull.labels),
        url=_text(pull.html_url),
    )


def _comment(comment: IssueComment) -> RawComment:
    return RawComment(id=_number(comment.id), url=_text(comment.html_url), body=_text(comment.body))


def _deployment(deployment: GitHubDeployment) -> Deployment | None:
    """The deployment if it is one of ours, by what we wrote into its payload."""
    try:
        mark = (deployment.payload or {}).get(_PAYLOAD)
    except BadAttributeException:  # others' payloads may be strings
        return None
    if not isinstance(mark, dict):
        return None
    run, attempt = mark.get("run"), mark.get("attempt")
    if not isinstance(run, int) or not isinstance(attempt, int):
        return None
    return Deployment(
        id=_number(deployment.id),
        environment=_text(deployment.environment),
        sha=_oid(deployment.sha),
        run=RunOrder(id=run, attempt=attempt),
        transient=deployment.transient_environment is True,
        state=DeploymentState.PENDING,
    )


def _state(value: object) -> DeploymentState:
    try:
        return DeploymentState(str(value))
    except ValueError:
        return DeploymentState.PENDING


def _branch(name: str) -> str:
    return name.removeprefix("heads/")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Garbled
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Garbled
    return value


def _oid(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{40}", value):
        raise _Garbled
    return value
