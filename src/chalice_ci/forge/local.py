"""A forge in a folder: for the demo, laptops and CI systems without an API.

    <root>/pull-requests/<number>.json   a pull request with its comments
    <root>/deployments/<environment>.json
    <root>/approvals/<environment>.json
    <root>/ids.json                      the last number that was given out

A file is replaced by renaming a complete one over it, and processes take turns by a lock on the
folder itself: killed at any moment, the old or the new file is there. People may read the files;
what is in them is checked as an answer of any other forge is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chalice_ci.context import RunOrder
from chalice_ci.errors import ForgeError
from chalice_ci.forge.port import (
    DEFAULT_KEY,
    MAX_COMMENT,
    Author,
    Comment,
    Deployment,
    DeploymentState,
    NotFound,
    Past,
    PullRequest,
    RawComment,
    Removed,
    Upserted,
    checked_environment,
    sticky,
    upsert,
)

OURSELVES = Author(id=1, login="chalice-ci[bot]")
LOCK_SECONDS = 30.0
MAX_BYTES = 16 * 1024 * 1024
_POLL_SECONDS = 0.02


class ApprovalState(StrEnum):
    """Where the question whether something may go to an environment stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A person's answer about one subject, such as a plan's digest, and one environment."""

    environment: str
    subject: str
    state: ApprovalState
    by: str = ""


class LocalForge:
    """Pull requests, comments, deployments and approvals in a folder; see the module.

    `root` is made if it is missing. `author` is the account that this object acts as.
    """

    largest_comment = MAX_COMMENT

    def __init__(
        self,
        root: Path,
        *,
        repository: str = "local/project",
        author: Author = OURSELVES,
        patience: float = LOCK_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._repository = repository
        self._author = author
        self._patience = patience
        self._sleep = sleep
        self._turn = threading.RLock()
        self._depth = 0

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._root)

    def whoami(self) -> Author:
        """The account that this object acts as."""
        return self._author

    def create_pull_request(
        self,
        *,
        head_ref: str,
        head_sha: str,
        base_sha: str,
        base_ref: str = "main",
        title: str = "",
        author: str = "you",
        labels: tuple[str, ...] = (),
        head_repository: str | None = None,
    ) -> PullRequest:
        """Open a pull request; `head_repository` is a fork's name."""
        with self._locked():
            number = self._next_id()
            document = {
                "number": number,
                "title": title or head_ref,
                "author": author,
                "open": True,
                "merged": False,
                "draft": False,
                "head": {
                    "ref": head_ref,
                    "sha": head_sha,
                    "repository": head_repository or self._repository,
                },
                "base": {"ref": base_ref, "sha": base_sha},
                "labels": list(labels),
                "comments": [],
            }
            self._write(self._pull_file(number), document)
            return self._pull(document)

    def update_pull_request(
        self,
        number: int,
        *,
        head_sha: str | None = None,
        labels: tuple[str, ...] | None = None,
        is_open: bool | None = None,
        merged: bool | None = None,
        merge_sha: str | None = None,
    ) -> PullRequest:
        """Push to a pull request, label, close, merge (as `merge_sha`) or open it again."""
        with self._locked():
            document = self._read_pull(number)
            if head_sha is not None:
                document["head"]["sha"] = head_sha
            if labels is not None:
                document["labels"] = list(labels)
            if is_open is not None:
                document["open"] = is_open
            if merged is not None:
                document |= {"merged": merged, "open": document["open"] and not merged}
            if merge_sha is not None:
                document["merge_sha"] = merge_sha
            self._write(self._pull_file(number), document)
            return self._pull(document)

    def pull_request(self, number: int) -> PullRequest:
        """The pull request now."""
        with self._locked():
            return self._pull(self._read_pull(number))

    def open_pull_requests(self) -> tuple[PullRequest, ...]:
        """Every open pull request."""
        with self._locked():
            numbers = [
                int(file.stem)
                for file in (self._root / "pull-requests").glob("*.json")
                if file.stem.isdecimal()
            ]
            found = (self._pull(self._read_pull(number)) for number in sorted(numbers))
            return tuple(pull for pull in found if pull.is_open)

    def merged_as(self, commit: str) -> PullRequest | None:
        """The pull request that was merged as this commit."""
        with self._locked():
            for file in sorted((self._root / "pull-requests").glob("*.json")):
                if file.stem.isdecimal():
                    document = self._read_pull(int(file.stem))
                    if document["merged"] is True and document.get("merge_sha") == commit:
                        return self._pull(document)
        return None

    def add_comment(self, number: int, body: str) -> int:
        """Comment as this object's account, as people do; the comment's id."""
        with self._locked():
            return _FolderComments(self, number).create(body, key="").id

    def comments(self, number: int) -> tuple[tuple[Author, RawComment], ...]:
        """Every comment with its author, the oldest first."""
        with self._locked():
            return tuple(
                (_author(comment), self._raw(number, comment))
                for comment in self._read_pull(number)["comments"]
            )

    def approvers(self, run: int) -> tuple[tuple[str, str], ...]:
        """Approvals here are of plans, not of runs: see `approval`."""
        del run
        return ()

    def sticky_comment(self, number: int, *, key: str = DEFAULT_KEY) -> Comment | None:
        """Our comment, found by author and marker."""
        with self._locked():
            return sticky(_FolderComments(self, number), key)

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
        with self._locked():
            return upsert(_FolderComments(self, number), body, key=key, run=run, history=history)

    def start_deployment(
        self,
        *,
        environment: str,
        sha: str,
        run: RunOrder,
        transient: bool = True,
        fresh: bool = False,  # noqa: ARG002 - looking costs nothing
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        """Create a deployment and say that it is in progress."""
        with self._locked():
            documents = self._read_deployments(environment)
            same = (d for d in map(_deployment, documents) if d.sha == sha and d.run == run)
            deployment = next(same, None)
            if deployment is None:
                document = {
                    "id": self._next_id(),
                    "environment": environment,
                    "sha": sha,
                    "run": run.id,
                    "attempt": run.attempt,
                    "transient": transient,
                    "statuses": [],
                }
                self._write(self._deployments_file(environment), [*documents, document])
                deployment = _deployment(document)
            return self._say(
                deployment, DeploymentState.IN_PROGRESS, log_url=log_url, description=description
            )

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
        with self._locked():
            ended = self._say(deployment, state, url=url, log_url=log_url, description=description)
            if state is DeploymentState.SUCCESS and deployment.transient:
                kept = [
                    document
                    for document in self._read_deployments(deployment.environment)
                    for other in [_deployment(document)]
                    if other.id >= deployment.id or not other.transient
                ]
                self._write(self._deployments_file(deployment.environment), kept)
            return ended

    def deployments(self, environment: str) -> tuple[Deployment, ...]:
        """The deployments of an environment, the newest first."""
        with self._locked():
            found = map(_deployment, self._read_deployments(environment))
            return tuple(sorted(found, key=lambda d: d.id, reverse=True))

    def remove_environment(self, environment: str) -> Removed:
        """Delete an environment with its deployments."""
        with self._locked():
            count = len(self._read_deployments(environment))
            self._deployments_file(environment).unlink(missing_ok=True)
            return Removed(deployments=count, environment=True)

    def request_approval(self, environment: str, subject: str) -> Approval:
        """Ask whether `subject` may go to an environment; what was answered before stands."""
        return self._decide(environment, subject, ApprovalState.PENDING, by="")

    def approve(self, environment: str, subject: str, *, by: str) -> Approval:
        """Say yes to exactly this subject."""
        return self._decide(environment, subject, ApprovalState.APPROVED, by=by)

    def reject(self, environment: str, subject: str, *, by: str) -> Approval:
        """Say no to exactly this subject."""
        return self._decide(environment, subject, ApprovalState.REJECTED, by=by)

    def approval(self, environment: str, subject: str) -> Approval | None:
        """Where the question about a subject stands, None if nobody asked."""
        with self._locked():
            found = (a for a in self._read_approvals(environment) if a.subject == subject)
            return next(found, None)

    def is_approved(self, environment: str, subject: str) -> bool:
        """Whether somebody said yes to exactly this subject."""
        found = self.approval(environment, subject)
        return found is not None and found.state is ApprovalState.APPROVED

    def pending_approvals(self, environment: str) -> tuple[Approval, ...]:
        """What waits for a person."""
        with self._locked():
            found = self._read_approvals(environment)
            return tuple(a for a in found if a.state is ApprovalState.PENDING)

    def _decide(self, environment: str, subject: str, state: ApprovalState, *, by: str) -> Approval:
        with self._locked():
            found = {a.subject: a for a in self._read_approvals(environment)}
            if state is ApprovalState.PENDING and subject in found:
                return found[subject]
            if state is not ApprovalState.PENDING and subject not in found:
                raise NotFound(
                    f"Nobody asked whether {subject[:80]} may go to {environment}.",
                    where=self.name,
                    fix="Look at what waits there, and approve exactly that.",
                )
            made = Approval(environment=environment, subject=subject, state=state, by=by)
            found[subject] = made
            documents = [
                {"subject": a.subject, "state": a.state.value, "by": a.by} for a in found.values()
            ]
            self._write(self._file("approvals", environment), documents)
            return made

    def _read_approvals(self, environment: str) -> list[Approval]:
        file = self._file("approvals", environment)
        with self._sound(file):
            return [
                Approval(
                    environment=environment,
                    subject=str(document["subject"]),
                    state=ApprovalState(document["state"]),
                    by=str(document["by"]),
                )
                for document in self._read(file, default=[])
            ]

    def _say(
        self,
        deployment: Deployment,
        state: DeploymentState,
        *,
        url: str = "",
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        documents = self._read_deployments(deployment.environment)
        found = next((d for d in documents if d["id"] == deployment.id), None)
        if found is None:
            raise NotFound(
                f"There is no deployment {deployment.id} to {deployment.environment}.",
                where=self.name,
            )
        status = {
            "state": state.value,
            "url": url,
            "log_url": log_url,
            "description": description,
        }
        found["statuses"].append(status)
        self._write(self._deployments_file(deployment.environment), documents)
        return replace(deployment, state=state, url=url)

    def _pull(self, document: dict[str, Any]) -> PullRequest:
        with self._sound(self._pull_file(document["number"])):
            head, base = document["head"], document["base"]
            return PullRequest(
                number=document["number"],
                title=str(document["title"]),
                author=str(document["author"]),
                is_open=document["open"] is True,
                merged=document["merged"] is True,
                draft=document["draft"] is True,
                head_ref=str(head["ref"]),
                head_sha=str(head["sha"]),
                head_repository=head["repository"],
                from_fork=head["repository"] != self._repository,
                base_ref=str(base["ref"]),
                base_sha=str(base["sha"]),
                labels=tuple(map(str, document["labels"])),
                url=self._pull_file(document["number"]).absolute().as_uri(),
            )

    def _raw(self, number: int, comment: dict[str, Any]) -> RawComment:
        address = f"{self._pull_file(number).absolute().as_uri()}#{comment['id']}"
        return RawComment(id=comment["id"], url=address, body=str(comment["body"]))

    def _read_pull(self, number: int) -> dict[str, Any]:
        file = self._pull_file(number)
        document = self._read(file, default=None)
        if document is None:
            raise NotFound(f"There is no pull request {number}.", where=self.name)
        with self._sound(file):
            if document["number"] != number or not isinstance(document["comments"], list):
                raise ValueError
            for comment in document["comments"]:
                _author(comment)
                if not isinstance(comment["id"], int) or not isinstance(comment["body"], str):
                    raise TypeError
        found: dict[str, Any] = document
        return found

    def _read_deployments(self, environment: str) -> list[dict[str, Any]]:
        file = self._deployments_file(environment)
        documents: list[dict[str, Any]] = self._read(file, default=[])
        with self._sound(file):
            for document in documents:
                _deployment(document)
        return documents

    def _pull_file(self, number: int) -> Path:
        return self._root / "pull-requests" / f"{number}.json"

    def _deployments_file(self, environment: str) -> Path:
        return self._file("deployments", environment)

    def _file(self, kind: str, environment: str) -> Path:
        name = quote(checked_environment(environment), safe="")
        return self._root / kind / f"{name}.json"

    def _next_id(self) -> int:
        file = self._root / "ids.json"
        last = self._read(file, default=0)
        with self._sound(file):
            number = int(last) + 1
        self._write(file, number)
        return number

    def _read(self, file: Path, *, default: Any) -> Any:
        with self._sound(file):
            try:
                with file.open("rb") as opened:
                    raw = opened.read(MAX_BYTES + 1)
            except FileNotFoundError:
                return default
            if len(raw) > MAX_BYTES:
                raise ValueError
            return json.loads(raw)

    def _write(self, file: Path, document: object) -> None:
        with self._sound(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
            try:
                with temporary.open("x", encoding="utf-8") as opened:
                    json.dump(document, opened, indent=2)
                    opened.write("\n")
                    opened.flush()
                    os.fsync(opened.fileno())
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _sound(self, file: Path) -> Iterator[None]:
        """Errors of files, and of what is in them, as a person can act on them."""
        try:
            yield
        except OSError as error:
            raise ForgeError(
                f"The file cannot be used: {error.strerror or error}.",
                where=str(file),
                fix="See that the folder can be read and written, and has space.",
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ForgeError(
                "The file is not what this command writes.",
                where=str(file),
                fix="Restore it, or remove it to begin anew.",
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One thread of one process at a time; a method may call another."""
        with self._turn:
            if self._depth:
                yield
                return
            with self._sound(self._root):
                self._root.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._wait_for(descriptor)
                self._depth = 1
                yield
            finally:
                self._depth = 0
                os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        waited = 0.0
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if waited >= self._patience:
                raise ForgeError(
                    f"Another process has held the folder for {self._patience:g} s.",
                    where=self.name,
                    fix="Wait for it to end, or end it, and run again.",
                )
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS


class _FolderComments:
    """The comments of one pull request; the forge holds the lock."""

    def __init__(self, forge: LocalForge, number: int) -> None:
        self._forge = forge
        self._number = number

    def ours(self) -> tuple[RawComment, ...]:
        me = self._forge.whoami().id
        found = self._forge.comments(self._number)
        return tuple(comment for author, comment in found if author.id == me)

    def create(self, body: str, *, key: str) -> RawComment:
        del key  # nothing here can be half done
        document = self._forge._read_pull(self._number)
        author = self._forge.whoami()
        comment = {
            "id": self._forge._next_id(),
            "author": {"id": author.id, "login": author.login},
            "body": body,
        }
        document["comments"].append(comment)
        self._save(document)
        return self._forge._raw(self._number, comment)

    def edit(self, comment: int, body: str) -> RawComment | None:
        document = self._forge._read_pull(self._number)
        for found in document["comments"]:
            if found["id"] == comment:
                found["body"] = body
                self._save(document)
                return self._forge._raw(self._number, found)
        return None

    def delete(self, comment: int) -> None:
        document = self._forge._read_pull(self._number)
        document["comments"] = [c for c in document["comments"] if c["id"] != comment]
        self._save(document)

    def _save(self, document: dict[str, Any]) -> None:
        self._forge._write(self._forge._pull_file(self._number), document)


def _author(comment: dict[str, Any]) -> Author:
    author = comment["author"]
    return Author(id=int(author["id"]), login=str(author["login"]))


def _deployment(document: dict[str, Any]) -> Deployment:
    """A deployment of a file; raises TypeError, KeyError or ValueError for what is none."""
    statuses = document["statuses"]
    last = statuses[-1] if statuses else {"state": "pending", "url": ""}
    return Deployment(
        id=int(document["id"]),
        environment=str(document["environment"]),
        sha=str(document["sha"]),
        run=RunOrder(id=int(document["run"]), attempt=int(document["attempt"])),
        transient=document["transient"] is True,
        state=DeploymentState(last["state"]),
        url=str(last["url"]),
    )
