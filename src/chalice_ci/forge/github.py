"""GitHub: pull requests, one comment each, and deployments.

Who we are comes from GraphQL's `viewer`: it answers for the workflow's token (github-actions[bot],
whose id differs between GitHub and an Enterprise server), for an App's installation token and for
a person's token; `GET /user` refuses the first two.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from github.Deployment import Deployment as GitHubDeployment
from github.GithubException import (
    BadAttributeException,
)
from github.GithubObject import NotSet
from github.Issue import Issue
from github.IssueComment import IssueComment
from github.PullRequest import PullRequest as GitHubPullRequest
from github.Repository import Repository

from chalice_ci.context import RunOrder
from chalice_ci.forge.answer import Garbled, count_of, oid_of, text_of
from chalice_ci.forge.github_api import (
    READ_PULLS,
    WRITE_DEPLOYMENTS,
    WRITE_PULLS,
    GitHubApi,
    Operation,
)
from chalice_ci.forge.one_comment import OneComment
from chalice_ci.forge.port import (
    Author,
    Deployment,
    DeploymentState,
    NotFound,
    NotPermitted,
    PullRequest,
    RawComment,
    Removed,
    checked_environment,
    oldest,
)

_DESCRIPTION = 140
_VIEWER = "query { viewer { login databaseId } }"
_PAYLOAD = "chalice-ci"
_MERGED_LATELY = 1000


class GitHubForge(OneComment):
    """Pull requests, comments and deployments of a repository on GitHub."""

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
            return Author(id=count_of(found["databaseId"]), login=text_of(found["login"]))

        if self._me is None:
            self._me = self._api.call(Operation(doing="see whose token this is"), viewer)
        return self._me

    def pull_request(self, number: int) -> PullRequest:
        """The pull request now."""
        return self._api.call(
            Operation(doing=f"read pull request {number}", permission=READ_PULLS),
            lambda: _pull_request(self._api.repo.get_pull(number)),
        )

    def open_pull_requests(self) -> tuple[PullRequest, ...]:
        """Every open pull request, from all pages."""
        found = self._api.call(
            Operation(doing="list the open pull requests", permission=READ_PULLS),
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
            Operation(doing="find the pull request that was merged", permission=READ_PULLS), find
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
            doing=f"create a deployment to {environment}", permission=WRITE_DEPLOYMENTS
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
                raise Garbled
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
                raise Garbled
            return said

        def happened() -> Deployment | None:
            return said if self._status(deployment) == said else None

        return self._api.call(
            Operation(doing=f"set a deployment to {state.value}", permission=WRITE_DEPLOYMENTS),
            create,
            happened=happened,
        )

    def _remove(self, deployment: Deployment) -> None:
        operation = Operation(doing="delete a deployment", permission=WRITE_DEPLOYMENTS)
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

        operation = self._doing("list the comments", READ_PULLS)
        return tuple(self._api.call(operation, read))

    def create(self, body: str, *, key: str) -> RawComment:
        return self._api.call(
            self._doing("comment", WRITE_PULLS),
            lambda: _comment(self._issue().create_comment(body)),
            happened=partial(oldest, self, key),
        )

    def edit(self, comment: int, body: str) -> RawComment | None:
        def write() -> RawComment:
            lazy = self._issue().get_comment(comment)
            lazy.edit(body)
            return _comment(lazy)

        try:
            return self._api.call(self._doing("edit the comment", WRITE_PULLS), write)
        except NotFound:
            return None

    def delete(self, comment: int) -> None:
        with contextlib.suppress(NotFound):
            self._api.call(
                self._doing("delete a double of the comment", WRITE_PULLS),
                lambda: self._issue().get_comment(comment).delete(),
            )

    def _issue(self) -> Issue:
        return self._api.repo.get_issue(self._number)

    def _doing(self, what: str, permission: str) -> Operation:
        return Operation(doing=f"{what} on pull request {self._number}", permission=permission)


def _pull_request(pull: GitHubPullRequest) -> PullRequest:
    head, base = pull.head, pull.base
    # None for a fork that was deleted, whatever PyGithub's types say.
    repository: Repository | None = head.repo
    return PullRequest(
        number=count_of(pull.number),
        title=text_of(pull.title),
        author=pull.user.login if pull.user else "",
        is_open=text_of(pull.state) == "open",
        # Lists do not say `merged`, and asking would cost a request for each.
        merged=pull.merged_at is not None,
        draft=pull.draft is True,
        head_ref=text_of(head.ref),
        head_sha=oid_of(head.sha),
        head_repository=text_of(repository.full_name) if repository else None,
        from_fork=repository is None or count_of(repository.id) != count_of(base.repo.id),
        base_ref=text_of(base.ref),
        base_sha=oid_of(base.sha),
        labels=tuple(text_of(label.name) for label in pull.labels),
        url=text_of(pull.html_url),
    )


def _comment(comment: IssueComment) -> RawComment:
    return RawComment(
        id=count_of(comment.id), url=text_of(comment.html_url), body=text_of(comment.body)
    )


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
        id=count_of(deployment.id),
        environment=text_of(deployment.environment),
        sha=oid_of(deployment.sha),
        run=RunOrder(id=run, attempt=attempt),
        transient=deployment.transient_environment is True,
        state=DeploymentState.PENDING,
    )


def _state(value: object) -> DeploymentState:
    try:
        return DeploymentState(str(value))
    except ValueError:
        return DeploymentState.PENDING
