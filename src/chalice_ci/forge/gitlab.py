"""GitLab: merge requests, one note each, environments and deployments.

GitLab's deployments carry no text of ours, so which run made one stands in a comment in the
description of its environment; what is nobody's there is left alone. A note is searched for quick
actions (`/merge` at the beginning of a line is carried out), so a slash there is written as an
entity. Sources: GitLab's documentation of its REST API, pages "Merge requests", "Notes",
"Deployments", "Environments", "Commits", "Repository files", and of its "quick actions".

docs/gitlab.md has the table of permissions.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from chalice_ci.context import RunOrder
from chalice_ci.forge.answer import Garbled, count_of, text_of
from chalice_ci.forge.gitlab_api import GitLabApi
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

_COMMAND = re.compile(r"^/(?=[A-Za-z])", re.MULTILINE)
_OURS = re.compile(r"<!-- chalice-ci (\{[^\r\n]{0,8000}\}) -->")
_KEPT = 30
"""How many deployments an environment's description remembers."""
_APPROVED_LATELY = 100
_STATUS = {
    DeploymentState.PENDING: "created",
    DeploymentState.IN_PROGRESS: "running",
    DeploymentState.SUCCESS: "success",
    DeploymentState.FAILURE: "failed",
    DeploymentState.ERROR: "canceled",
    DeploymentState.INACTIVE: "canceled",
}
_STATE = {
    "created": DeploymentState.PENDING,
    "blocked": DeploymentState.PENDING,
    "running": DeploymentState.IN_PROGRESS,
    "success": DeploymentState.SUCCESS,
    "failed": DeploymentState.FAILURE,
    "canceled": DeploymentState.ERROR,
    "skipped": DeploymentState.ERROR,
}


class GitLabForge(OneComment):
    """Merge requests, notes, environments and deployments of a project on GitLab."""

    def __init__(self, api: GitLabApi) -> None:
        self._api = api
        self._me: Author | None = None

    @property
    def name(self) -> str:
        """The project's path."""
        return self._api.name

    @property
    def requests(self) -> int:
        """How many requests were made."""
        return self._api.requests

    def whoami(self) -> Author:
        """The account behind the token, asked once; of a job's token the user who started it."""

        def ask() -> Author:
            found = self._api.get("/job")["user"] if self._api.of_job else self._api.get("/user")
            return _author(found)

        if self._me is None:
            self._me = self._api.call("see whose token this is", ask)
        return self._me

    def pull_request(self, number: int) -> PullRequest:
        """The merge request now."""
        return self._api.call(
            f"read merge request {number}",
            lambda: self._read(self._api.get(f"{self._api.path}/merge_requests/{number}")),
        )

    def open_pull_requests(self) -> tuple[PullRequest, ...]:
        """Every open merge request, from all pages; lists say nothing of the base's commit."""
        found = self._api.call(
            "list the open merge requests",
            lambda: [
                self._read(each)
                for each in self._api.every(f"{self._api.path}/merge_requests", state="opened")
            ],
        )
        # Something may be opened or closed between two pages.
        return tuple(sorted({p.number: p for p in found}.values(), key=lambda p: p.number))

    def merged_as(self, commit: str) -> PullRequest | None:
        """The merge request whose merge commit, squashed commit or last commit this is."""

        def find() -> PullRequest | None:
            path = f"{self._api.path}/repository/commits/{quote(commit, safe='')}/merge_requests"
            for each in self._api.every(path, state="merged"):
                ends = (each.get("merge_commit_sha"), each.get("squash_commit_sha"), each["sha"])
                if commit in ends and each["state"] == "merged":
                    return self._read(each)
            return None

        try:
            return self._api.call("find the merge request that was merged", find)
        except NotFound:
            # GitLab knows no such commit.
            return None

    def approvers(self, run: int) -> tuple[tuple[str, str], ...]:
        """Who approved the deployments of a pipeline, by environment, of the latest hundred.

        Only environments with required approvals have any.
        """

        def ask() -> tuple[tuple[str, str], ...]:
            latest = self._api.latest(
                f"{self._api.path}/deployments", _APPROVED_LATELY, order_by="id", sort="desc"
            )
            return tuple(
                (str(each["environment"]["name"]), str(approval["user"]["username"]))
                for each in latest
                if ((each.get("deployable") or {}).get("pipeline") or {}).get("id") == run
                for approval in each.get("approvals") or ()
                if approval.get("status") == "approved"
            )

        return self._api.call(f"read who approved pipeline {run}", ask)

    def _kept(self, body: str) -> str:
        return _COMMAND.sub("&#47;", body.replace("\r", "")).rstrip()

    def start_deployment(
        self,
        *,
        environment: str,
        sha: str,
        run: RunOrder,
        transient: bool = True,
        fresh: bool = False,
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        """Create a deployment that is running; GitLab makes the environment with it."""
        del log_url, description  # GitLab's have none.
        checked_environment(environment)
        listed = () if fresh else self._listed(environment)
        for deployment in listed:
            if (deployment.run, deployment.sha) == (run, sha):
                return self._say(deployment, DeploymentState.IN_PROGRESS)
        before = set() if fresh else {each["id"] for each in self._deployments(environment)}

        def create() -> int:
            made = self._api.post(
                f"{self._api.path}/deployments",
                {
                    "environment": environment,
                    "sha": sha,
                    "ref": sha,
                    "tag": False,
                    "status": _STATUS[DeploymentState.IN_PROGRESS],
                },
            )
            return count_of(made["id"])

        def existing() -> int | None:
            for each in self._deployments(environment):
                if each["id"] not in before and each["sha"] == sha and self._is_mine(each):
                    return count_of(each["id"])
            return None

        number = self._api.call(f"create a deployment to {environment}", create, happened=existing)
        deployment = Deployment(
            id=number,
            environment=environment,
            sha=sha,
            run=run,
            transient=transient,
            state=DeploymentState.IN_PROGRESS,
        )
        self._note(environment, deployment)
        return deployment

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
        del log_url, description
        ended = self._say(deployment, state, url=url)
        if state is DeploymentState.SUCCESS and deployment.transient:
            for earlier in self._listed(deployment.environment):
                if earlier.transient and earlier.id < deployment.id:
                    self._remove(earlier)
        return ended

    def deployments(self, environment: str) -> tuple[Deployment, ...]:
        """Our deployments of an environment, the newest first."""
        return self._listed(environment)

    def remove_environment(self, environment: str) -> Removed:
        """Stop the environment, and delete it when all its deployments are ours.

        GitLab deletes an environment's deployments with it, and its last one not otherwise.
        """
        listed = self._listed(environment)
        found = self._environment(environment)
        if found is None:
            return Removed(deployments=0, environment=True)
        for deployment in listed:
            if not deployment.state.finished:
                self._say(deployment, DeploymentState.INACTIVE)
        others = len(self._deployments(environment)) > len(listed)
        path = f"{self._api.path}/environments/{found['id']}"
        try:
            if found["state"] != "stopped":
                # Forced: the `on_stop` job is what may be calling us.
                self._api.call(
                    f"stop the environment {environment}",
                    lambda: self._api.post(f"{path}/stop", {"force": True}),
                )
            if not others:
                self._api.call(
                    f"delete the environment {environment}", lambda: self._api.delete(path)
                )
        except NotFound:
            return Removed(deployments=len(listed), environment=True)
        except NotPermitted:
            return Removed(deployments=len(listed), environment=False)
        return Removed(deployments=len(listed), environment=not others)

    # -- merge requests

    def _read(self, found: Any) -> PullRequest:
        source, own = found["source_project_id"], count_of(found["target_project_id"])
        refs = found.get("diff_refs") or {}
        return PullRequest(
            number=count_of(found["iid"]),
            title=text_of(found["title"]),
            author=_author(found["author"]).login if found.get("author") else "",
            is_open=found["state"] in ("opened", "locked"),
            merged=found["state"] == "merged",
            draft=found.get("draft") is True,
            head_ref=text_of(found["source_branch"]),
            head_sha=text_of(found["sha"]),
            head_repository=self._project(source, own),
            from_fork=source != own,
            base_ref=text_of(found["target_branch"]),
            # The target branch's tip when the newest version was pushed.
            base_sha=text_of(refs.get("start_sha") or ""),
            labels=tuple(text_of(label) for label in found["labels"]),
            url=text_of(found["web_url"]),
        )

    def _project(self, source: object, own: int) -> str | None:
        """The path of the source's project, None when it is gone or not shown."""
        if source is None:
            return None
        if source == own:
            return self._api.name
        try:
            found = self._api.call(
                "read the fork's project", lambda: self._api.get(f"/projects/{count_of(source)}")
            )
        except (NotFound, NotPermitted):
            return None
        return text_of(found["path_with_namespace"])

    def _pages(self, number: int) -> _Notes:
        return _Notes(self._api, self.whoami(), number)

    # -- deployments

    def _is_mine(self, found: Any) -> bool:
        return bool((found.get("user") or {}).get("id") == self.whoami().id)

    def _deployments(self, environment: str) -> list[Any]:
        """What GitLab lists of an environment, whoever made it, the newest first."""
        return self._api.call(
            f"list the deployments to {environment}",
            lambda: self._api.every(
                f"{self._api.path}/deployments",
                environment=checked_environment(environment),
                order_by="id",
                sort="desc",
            ),
        )

    def _listed(self, environment: str) -> tuple[Deployment, ...]:
        checked_environment(environment)
        notes = _notes_of(self._environment(environment))
        if not notes:
            return ()
        return tuple(
            Deployment(
                id=each["id"],
                environment=environment,
                sha=text_of(each["sha"]),
                run=RunOrder(id=note.run, attempt=note.attempt),
                transient=note.transient,
                state=_STATE.get(each["status"], DeploymentState.ERROR),
                url=note.url,
            )
            for each in self._deployments(environment)
            if (note := notes.get(each["id"])) is not None and self._is_mine(each)
        )

    def _environment(self, name: str) -> Any | None:
        found = self._api.call(
            f"read the environment {name}",
            lambda: self._api.every(f"{self._api.path}/environments", name=name),
        )
        return next((each for each in found if each["name"] == name), None)

    def _note(self, environment: str, deployment: Deployment) -> None:
        """Write down in the environment's description what a deployment is of."""
        found = self._environment(environment)
        if found is None:
            raise NotFound(
                f"GitLab has no environment {environment} any more.",
                where=self.name,
                fix="Run again: something else deleted it meanwhile.",
            )
        notes = _notes_of(found)
        notes[deployment.id] = _Note(
            run=deployment.run.id,
            attempt=deployment.run.attempt,
            transient=deployment.transient,
            url=deployment.url,
        )
        kept = dict(sorted(notes.items())[-_KEPT:])
        data: dict[str, object] = {"description": _described(found.get("description") or "", kept)}
        if deployment.url:
            data["external_url"] = deployment.url
        self._api.call(
            f"describe the environment {environment}",
            lambda: self._api.put(f"{self._api.path}/environments/{found['id']}", data),
        )

    def _say(self, deployment: Deployment, state: DeploymentState, *, url: str = "") -> Deployment:
        said = replace(deployment, state=state, url=url)
        path = f"{self._api.path}/deployments/{deployment.id}"
        if deployment.state is not state:
            self._api.call(
                f"set a deployment to {_STATUS[state]}",
                lambda: self._api.put(path, {"status": _STATUS[state]}),
            )
        if url:
            self._note(deployment.environment, said)
        return said

    def _remove(self, deployment: Deployment) -> None:
        # Gone already: a job that ran beside us.
        with contextlib.suppress(NotFound):
            if not deployment.state.finished:
                self._say(deployment, DeploymentState.INACTIVE)
            self._api.call(
                "delete a deployment",
                lambda: self._api.delete(f"{self._api.path}/deployments/{deployment.id}"),
            )


class _Notes:
    """The notes of one merge request."""

    def __init__(self, api: GitLabApi, me: Author, number: int) -> None:
        self._api = api
        self._me = me
        self._number = number
        self._path = f"{api.path}/merge_requests/{number}/notes"

    def ours(self) -> tuple[RawComment, ...]:
        def read() -> tuple[RawComment, ...]:
            found = self._api.every(self._path, order_by="created_at", sort="asc")
            return tuple(
                self._comment(note)
                for note in found
                if note["author"]["id"] == self._me.id and not note["system"]
            )

        return self._api.call(self._doing("list the notes"), read)

    def create(self, body: str, *, key: str) -> RawComment:
        return self._api.call(
            self._doing("write a note"),
            lambda: self._comment(self._api.post(self._path, {"body": body})),
            happened=partial(oldest, self, key),
        )

    def edit(self, comment: int, body: str) -> RawComment | None:
        try:
            return self._api.call(
                self._doing("edit the note"),
                lambda: self._comment(self._api.put(f"{self._path}/{comment}", {"body": body})),
            )
        except NotFound:
            return None

    def delete(self, comment: int) -> None:
        with contextlib.suppress(NotFound):
            self._api.call(
                self._doing("delete a double of the note"),
                lambda: self._api.delete(f"{self._path}/{comment}"),
            )

    def _comment(self, note: Any) -> RawComment:
        number = count_of(note["id"])
        page = f"{self._api.page}/-/merge_requests/{self._number}#note_{number}"
        return RawComment(id=number, url=page, body=text_of(note["body"]))

    def _doing(self, what: str) -> str:
        return f"{what} on merge request {self._number}"


class GitLabFiles:
    """The files of a project's branches."""

    def __init__(self, api: GitLabApi) -> None:
        self._api = api

    def file(self, path: str, *, branch: str, commit: str) -> str | None:
        """The text of a file of a branch, of the commit when the branch is gone; None without it.

        Raises ForgeError.
        """
        commits = f"{self._api.path}/repository/commits"
        name = f"{self._api.path}/repository/files/{quote(path, safe='')}/raw"

        def newest(ref: str) -> str:
            return text_of(self._api.get(f"{commits}/{quote(ref, safe='')}")["id"])

        # That the commit can be read shows the permission: what is not found then is not there.
        try:
            at = self._api.call(f"read the branch {branch}", lambda: newest(branch))
        except NotFound:
            if not commit:
                raise
            at = self._api.call(f"read the commit {commit[:12]}", lambda: newest(commit))
        try:
            data = self._api.call(f"read {path} of {branch}", lambda: self._api.text(name, ref=at))
        except NotFound:
            return None
        return data.decode("utf-8", "replace")

    def changed_since(self, branch: str, commit: str) -> tuple[str, ...] | None:
        """The files in which a branch differs from a commit; None when there is no such branch.

        Raises ForgeError, also where the difference is too large for GitLab to say, and with the
        job's own token, which may not compare.
        """

        def compare() -> tuple[str, ...]:
            found = self._api.get(
                f"{self._api.path}/repository/compare",
                **{"from": commit, "to": branch},
                straight="true",
            )
            if found.get("compare_timeout"):
                raise Garbled
            return tuple(
                dict.fromkeys(
                    text_of(each[side])
                    for each in found["diffs"]
                    for side in ("old_path", "new_path")
                )
            )

        try:
            return self._api.call(f"compare {branch} with {commit[:12]}", compare)
        except NotFound:
            return None


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What an environment's description says of a deployment."""

    run: int
    attempt: int
    transient: bool
    url: str


def _notes_of(environment: Any | None) -> dict[int, _Note]:
    """By the deployment's id; whoever may edit the environment may have written anything there."""
    match = _OURS.search((environment or {}).get("description") or "")
    try:
        fields = json.loads(match[1]) if match else {}
        return {
            int(number): _Note(
                run=count_of(run), attempt=count_of(attempt), transient=bool(t), url=u
            )
            for number, (run, attempt, t, u) in fields.get("deployments", {}).items()
            if isinstance(u, str)
        }
    except (ValueError, TypeError, AttributeError, RecursionError, Garbled):
        return {}


def _described(text: str, notes: Mapping[int, _Note]) -> str:
    """The environment's description with the comment that holds the notes."""
    rows = {
        str(number): [note.run, note.attempt, int(note.transient), note.url]
        for number, note in notes.items()
    }
    fields = json.dumps({"v": 1, "deployments": rows}, separators=(",", ":"))
    # Two dashes end a comment for some readers of HTML.
    comment = "<!-- chalice-ci " + fields.replace("--", "-\\u002d") + " -->"
    rest = _OURS.sub("", text).strip()
    return f"{rest}\n{comment}".strip()


def _author(found: Any) -> Author:
    return Author(id=count_of(found["id"]), login=text_of(found["username"]))
