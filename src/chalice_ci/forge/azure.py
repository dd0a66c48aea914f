"""Azure Repos: pull requests, one comment each, and statuses.

A comment is the first of a thread of its own. The thread has no status ("unknown"): an active one
would keep the pull request from being completed where a branch policy checks for comment
resolution, and a closed one is folded. The marker is a Markdown link definition, which shows as
nothing.

What Azure has not: an API for deployments to anything but a pipeline's own environments. A preview
is shown as a status of its pull request, with its address. Who approved a stage's check is told by
the id of that check alone, not by the environment.

Sources: those of `azure_api.py`, and Microsoft's "Markdown guidance" and "Branch policies".
docs/azure.md has the permissions.
"""

from __future__ import annotations

import contextlib
import uuid
from functools import partial
from typing import Any

from chalice_ci.forge.answer import Garbled, count_of, text_of
from chalice_ci.forge.azure_api import AzureApi
from chalice_ci.forge.hidden_marker import hidden, shown
from chalice_ci.forge.one_comment import OneComment
from chalice_ci.forge.port import (
    Author,
    Deployment,
    DeploymentState,
    NotFound,
    PullRequest,
    RawComment,
    oldest,
)
from chalice_ci.forge.preview_status import PreviewStatuses
from chalice_ci.neutral import one_line
from chalice_ci.report.plain_markdown import with_folds_alone

LARGEST_COMMENT = 149_000
"""Characters. Azure takes 150,000; the rest is for what its Markdown may add to ours."""
GENRE = "chalice-ci"
_STATE = {
    DeploymentState.PENDING: "pending",
    DeploymentState.IN_PROGRESS: "pending",
    DeploymentState.SUCCESS: "succeeded",
    DeploymentState.FAILURE: "failed",
    DeploymentState.ERROR: "error",
    DeploymentState.INACTIVE: "notApplicable",
}


class AzureForge(OneComment, PreviewStatuses):
    """Pull requests, comments and statuses of a repository in Azure Repos."""

    largest_comment = LARGEST_COMMENT

    def __init__(self, api: AzureApi) -> None:
        self._api = api
        self._me: Author | None = None
        self._at: dict[str, tuple[int, ...]] = {}

    @property
    def name(self) -> str:
        """The project and the repository."""
        return self._api.name

    def whoami(self) -> Author:
        """The identity of the token, asked once."""
        if self._me is None:
            found = self._api.identity()
            self._me = self._api.read(
                lambda: Author(
                    id=_identity(found["authenticatedUser"]),
                    login=text_of(found["authenticatedUser"].get("providerDisplayName") or ""),
                ),
                "GET connectionData",
            )
        return self._me

    def pull_request(self, number: int) -> PullRequest:
        """The pull request now."""
        path = f"{self._pulls}/{number}"
        found = self._api.get(path)
        return self._api.read(lambda: self._pull(found), f"GET {path}")

    def open_pull_requests(self) -> tuple[PullRequest, ...]:
        """Every open pull request, by number."""
        listed = self._active()
        pulls = self._api.read(lambda: [self._pull(one) for one in listed], f"GET {self._pulls}")
        # Something may be opened or closed between two pages.
        return tuple(sorted({p.number: p for p in pulls}.values(), key=lambda p: p.number))

    def merged_as(self, commit: str) -> PullRequest | None:
        """The pull request that was completed as this commit."""
        path = f"{self._api.path}/pullrequestquery"
        asked = {"queries": [{"type": "lastMergeCommit", "items": [commit]}]}
        answer = self._api.send("POST", path, asked)

        def find() -> PullRequest | None:
            for result in answer["results"]:
                for found in result.get(commit, ()):
                    # An open one has a merge too, which was made to try it.
                    if found["status"] == "completed":
                        return self._pull(found)
            return None

        return self._api.read(find, f"POST {path}")

    def approvers(self, run: int) -> tuple[tuple[str, str], ...]:
        """The API does not say of which environment an approval of a run is."""
        del run
        return ()

    def _pages(self, number: int) -> _Threads:
        return _Threads(self._api, self.whoami(), number)

    def _kept(self, body: str) -> str:
        return with_folds_alone(body)

    # -- deployments: statuses of the pull request

    def _tell(self, deployment: Deployment, url: str, description: str) -> None:
        """Tell the open pull requests whose head the commit is."""
        body = {
            "state": _STATE[deployment.state],
            "description": one_line(description or f"Preview {deployment.environment}", 200),
            "context": {"genre": GENRE, "name": deployment.environment},
            **({"targetUrl": url} if url else {}),
        }
        for number in self._numbers(deployment.sha):
            self._api.send("POST", f"{self._api.path}/pullRequests/{number}/statuses", body)

    def _numbers(self, sha: str) -> tuple[int, ...]:
        """The open pull requests whose head a commit is, looked up once."""
        if sha not in self._at:
            listed = self._active()
            self._at[sha] = self._api.read(
                lambda: tuple(
                    count_of(one["pullRequestId"])
                    for one in listed
                    if _commit(one, "lastMergeSourceCommit") == sha
                ),
                f"GET {self._pulls}",
            )
        return self._at[sha]

    # -- reading

    @property
    def _pulls(self) -> str:
        return f"{self._api.path}/pullrequests"

    def _active(self) -> list[Any]:
        return self._api.every(self._pulls, **{"searchCriteria.status": "active"})

    def _pull(self, found: Any) -> PullRequest:
        number = count_of(found["pullRequestId"])
        fork = found.get("forkSource")
        home = found["repository"]
        return PullRequest(
            number=number,
            title=text_of(found["title"]),
            # Its unique name is an address of mail.
            author=text_of(found["createdBy"].get("displayName") or ""),
            is_open=found["status"] == "active",
            merged=found["status"] == "completed",
            draft=found.get("isDraft") is True,
            head_ref=_branch(found["sourceRefName"]),
            head_sha=_commit(found, "lastMergeSourceCommit"),
            head_repository=_repository(fork.get("repository") if fork else home),
            from_fork=bool(fork),
            base_ref=_branch(found["targetRefName"]),
            base_sha=_commit(found, "lastMergeTargetCommit"),
            labels=self._labels(number, found),
            url=self._api.page(number),
        )

    def _labels(self, number: int, found: Any) -> tuple[str, ...]:
        """An answer may leave them out, which does not mean that there are none."""
        listed = found.get("labels")
        if listed is None:
            listed = self._api.items(f"{self._api.path}/pullRequests/{number}/labels")
        return tuple(text_of(one["name"]) for one in listed if one.get("active") is not False)


class _Threads:
    """The comments of a pull request that begin a thread; `RawComment.id` is the thread's."""

    def __init__(self, api: AzureApi, me: Author, number: int) -> None:
        self._api, self._me = api, me
        self._page = api.page(number)
        self._path = f"{api.path}/pullRequests/{number}/threads"
        self._first: dict[int, int] = {}

    def ours(self) -> tuple[RawComment, ...]:
        threads = self._api.items(self._path)
        return self._api.read(
            lambda: tuple(
                self._comment(thread)
                for thread in sorted(threads, key=lambda one: count_of(one["id"]))
                if self._is_ours(thread)
            ),
            f"GET {self._path}",
        )

    def create(self, body: str, *, key: str) -> RawComment:
        first = {"parentCommentId": 0, "commentType": "text", "content": hidden(body)}
        thread = {"comments": [first], "status": "unknown"}
        made = self._api.send("POST", self._path, thread, happened=partial(oldest, self, key))
        if isinstance(made, RawComment):
            return made
        return self._api.read(lambda: self._comment(made), f"POST {self._path}")

    def edit(self, comment: int, body: str) -> RawComment | None:
        path = f"{self._path}/{comment}/comments/{self._first[comment]}"
        try:
            made = self._api.send("PATCH", path, {"content": hidden(body)})
        except NotFound:
            return None
        return self._api.read(lambda: self._raw(comment, made), f"PATCH {path}")

    def delete(self, comment: int) -> None:
        """The thread goes with the last of its comments."""
        with contextlib.suppress(NotFound):
            self._api.send("DELETE", f"{self._path}/{comment}/comments/{self._first[comment]}")

    def _is_ours(self, thread: Any) -> bool:
        comments = thread["comments"]
        if thread.get("isDeleted") or not comments or comments[0].get("isDeleted"):
            return False
        return _identity(comments[0]["author"]) == self._me.id

    def _comment(self, thread: Any) -> RawComment:
        number, first = count_of(thread["id"]), thread["comments"][0]
        self._first[number] = count_of(first["id"])
        return self._raw(number, first)

    def _raw(self, thread: int, comment: Any) -> RawComment:
        return RawComment(
            id=thread,
            url=f"{self._page}?discussionId={thread}",
            body=shown(text_of(comment.get("content") or "")),
        )


def _identity(found: Any) -> int:
    return uuid.UUID(text_of(found["id"])).int


def _branch(ref: object) -> str:
    return text_of(ref).removeprefix("refs/heads/")


def _commit(found: Any, name: str) -> str:
    """A commit of a pull request, empty while Azure has not tried the merge."""
    commit = found.get(name)
    return text_of(commit["commitId"]) if commit else ""


def _repository(found: Any) -> str | None:
    """Project and name, None for a repository that is gone."""
    if not found:
        return None
    if not isinstance(found, dict):
        raise Garbled
    project = found.get("project") or {}
    return f"{text_of(project.get('name') or '')}/{text_of(found['name'])}"
