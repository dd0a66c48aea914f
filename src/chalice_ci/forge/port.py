"""What this product asks of the place where pull requests live, and the one comment's rules.

Pure: adapters (`github.py`, `local.py`) bring the data, this module decides which comment is ours,
which run's text is newer and what to do about it, so that every forge behaves the same.

The comment is found by its author *and* by a marker that opens its body:

    <!-- chalice-ci {"v":1,"key":"orders","run":7,"attempt":1,"past":[[7,1,"9f3c1ab","ok"]]} -->

Nothing else in a comment is ever read: anybody who may write to the repository can edit it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from chalice_ci.context import RunOrder
from chalice_ci.errors import ForgeError

if TYPE_CHECKING:
    from chalice_ci.report.report import Report

MAX_COMMENT = 65_536
"""Characters that GitHub takes in a comment; the marker is part of them."""

DEFAULT_KEY = "chalice-ci"

_MARKER = re.compile(r"<!-- chalice-ci (\{[^\r\n]{0,900}?\}) -->(?:\r?\n|$)")
# A client makes `environments/..` to the repository itself before it sends a DELETE.
_ENVIRONMENT = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9 ._/-]{0,199}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_COMMIT = re.compile("[0-9a-f]{7}")
_VERDICT = re.compile("[a-z]{1,12}")
_MARKER_VERSION = 1
HISTORY = 5
"""How many runs a comment remembers."""
_LARGEST = 2**63 - 1


class NotFound(ForgeError):
    """The forge has no such thing, or does not show it to this token."""


class NotPermitted(ForgeError):
    """The token may not do this; `permission` is the line that a workflow needs ("" if unknown)."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", permission: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.permission = permission


@dataclass(frozen=True, kw_only=True)
class Author:
    """An account of the forge."""

    id: int
    login: str


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """A pull request as it is now.

    `head_repository` is "owner/name", None when the fork was deleted. `from_fork` compares
    repositories by id: an owner that was renamed is no fork.
    """

    number: int
    title: str
    author: str
    is_open: bool
    merged: bool
    draft: bool
    head_ref: str
    head_sha: str
    head_repository: str | None
    from_fork: bool
    base_ref: str
    base_sha: str
    labels: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Past:
    """A run that ended: its commit (seven digits) and how it came out."""

    run: RunOrder
    commit: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Comment:
    """Our comment on a pull request: `run` wrote it last; `history` are runs, the newest first.

    The history stands in the marker, which anybody who may edit comments can forge: it is shown,
    and nothing is decided by it.
    """

    id: int
    url: str
    key: str
    run: RunOrder
    body: str
    history: tuple[Past, ...] = ()


class CommentOutcome(StrEnum):
    """What became of a comment that was to be written."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    STALE = "stale"
    """A newer run has written since: its text stays."""


@dataclass(frozen=True, kw_only=True)
class Upserted:
    """The comment that stands now, and what was done."""

    comment: Comment
    outcome: CommentOutcome


class DeploymentState(StrEnum):
    """What a deployment's newest status says, in GitHub's words."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    INACTIVE = "inactive"

    @property
    def finished(self) -> bool:
        """Whether nothing more is expected to happen."""
        return self not in {DeploymentState.PENDING, DeploymentState.IN_PROGRESS}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A deployment of ours: which commit went to which environment, and by which run."""

    id: int
    environment: str
    sha: str
    run: RunOrder
    transient: bool
    state: DeploymentState
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was taken away with an environment.

    `environment` is False when the environment itself stays listed: GitHub lets only an
    administrator's token delete one.
    """

    deployments: int
    environment: bool


class Forge(Protocol):
    """Pull requests, one comment each, and deployments. Every failure is a ForgeError."""

    @property
    def name(self) -> str:
        """How a message names it: "owner/name" or a folder."""
        ...

    @property
    def largest_comment(self) -> int:
        """How many characters a comment may have, its marker included."""
        ...

    def whoami(self) -> Author:
        """The account whose comments are ours."""
        ...

    def pull_request(self, number: int) -> PullRequest:
        """The pull request now; raises NotFound."""
        ...

    def open_pull_requests(self) -> tuple[PullRequest, ...]:
        """Every open pull request, by number."""
        ...

    def merged_as(self, commit: str) -> PullRequest | None:
        """The pull request that was merged as this commit, if it is one of the latest."""
        ...

    def approvers(self, run: int) -> tuple[tuple[str, str], ...]:
        """Who approved the jobs of a CI run: (environment, login) pairs."""
        ...

    def sticky_comment(self, number: int, *, key: str = DEFAULT_KEY) -> Comment | None:
        """Our comment on a pull request, the oldest if a race made more."""
        ...

    def upsert_comment(
        self,
        number: int,
        body: str,
        *,
        run: RunOrder,
        key: str = DEFAULT_KEY,
        history: tuple[Past, ...] = (),
    ) -> Upserted:
        """Make or rewrite our one comment, unless a newer run wrote it; `body` has no marker.

        `history` goes into the marker, at most `HISTORY` runs of it.
        Of several comments of ours the oldest stays, with the newest run's text.
        """
        ...

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
        """A deployment that is not finished: this run's own for the commit if there is one already.

        `fresh` when nothing was deployed to the environment before: nothing is looked for then.
        """
        ...

    def finish_deployment(
        self,
        deployment: Deployment,
        state: DeploymentState,
        *,
        url: str = "",
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        """Say how it ended; `url` is where the environment answers.

        After a success, earlier transient deployments of the environment are taken away.
        """
        ...

    def deployments(self, environment: str) -> tuple[Deployment, ...]:
        """Our deployments of an environment, the newest first."""
        ...

    def remove_environment(self, environment: str) -> Removed:
        """Deactivate and delete every deployment of ours, then the environment if that is allowed.

        Doing it again does no harm.
        """
        ...


@runtime_checkable
class ShowsFindings(Protocol):
    """A forge with a page of its own for what was found in a commit."""

    def show_findings(self, commit: str, report: Report, *, link: str = "") -> None:
        """Replace what is shown of a commit; `link` is the run's address."""
        ...


class CommentPages(Protocol):
    """The comments of one pull request, as an adapter reaches them."""

    def ours(self) -> tuple[RawComment, ...]:
        """Every comment of our own account, from all pages, in the order they were made."""
        ...

    def create(self, body: str, *, key: str) -> RawComment:
        """A new comment; before it repeats itself it lists again, and takes one of that key."""
        ...

    def edit(self, comment: int, body: str) -> RawComment | None:
        """Replace a comment's text; None when it is gone."""
        ...

    def delete(self, comment: int) -> None:
        """Delete a comment; one that is gone is as well."""
        ...


@dataclass(frozen=True, kw_only=True)
class RawComment:
    """A comment with its marker."""

    id: int
    url: str
    body: str


def checked_environment(name: str) -> str:
    """The name of an environment, if it is harmless in an address and in a file's name."""
    if not _ENVIRONMENT.fullmatch(name):
        raise ForgeError(
            f"{name[:100]!a} cannot be the name of an environment.",
            where="environment",
            fix="Use letters, digits, `-`, `_`, `.`, `/` and spaces, beginning with a letter or a "
            "digit.",
        )
    return name


def marked(
    body: str,
    *,
    key: str,
    run: RunOrder,
    history: tuple[Past, ...] = (),
    largest: int = MAX_COMMENT,
) -> str:
    """The body with the marker that finds it again; raises ForgeError when it is too long."""
    if not _KEY.fullmatch(key):
        raise ForgeError(
            f"{key[:120]!a} cannot mark a comment.",
            where="comment",
            fix="Use letters, digits, `.`, `_`, `/` and `-`.",
        )
    fields: dict[str, object] = {
        **{"v": _MARKER_VERSION, "key": key, "run": run.id, "attempt": run.attempt}
    }
    if history:
        fields["past"] = [
            [past.run.id, past.run.attempt, past.commit, past.verdict] for past in history[:HISTORY]
        ]
    # Two dashes end a comment for some readers of HTML.
    text = json.dumps(fields, separators=(",", ":")).replace("--", "-\\u002d")
    whole = f"<!-- chalice-ci {text} -->\n{body}"
    if len(whole) > largest:
        raise ForgeError(
            f"The comment has {len(whole):,} characters; a forge takes {largest:,}.",
            where="comment",
            fix="Shorten it: this is a defect of the renderer.",
        )
    return whole


def read_marker(comment: RawComment) -> Comment | None:
    """The comment if its marker is one of ours, whatever the rest says."""
    match = _MARKER.match(comment.body)
    if match is None:
        return None
    try:
        fields = json.loads(match[1])
    except (ValueError, RecursionError):
        return None
    key, run, attempt = fields.get("key"), fields.get("run"), fields.get("attempt")
    if not isinstance(key, str) or not (_is_count(run) and _is_count(attempt)):
        return None
    return Comment(
        id=comment.id,
        url=comment.url,
        key=key,
        run=RunOrder(id=run, attempt=attempt),
        body=comment.body[match.end() :],
        history=tuple(_history(fields.get("past"))),
    )


def _history(rows: object) -> Iterator[Past]:
    """The runs of a marker that are of the form that `marked` writes; others are left out."""
    for row in rows[:HISTORY] if isinstance(rows, list) else ():
        match row:
            case [run, attempt, str(commit), str(verdict)] if (
                _is_count(run)
                and _is_count(attempt)
                and _COMMIT.fullmatch(commit)
                and _VERDICT.fullmatch(verdict)
            ):
                yield Past(run=RunOrder(id=run, attempt=attempt), commit=commit, verdict=verdict)


def find_comments(comments: Iterable[RawComment], key: str) -> tuple[Comment, ...]:
    """Those of a key among our account's comments, the oldest first."""
    found = (read_marker(comment) for comment in comments)
    return tuple(sorted((c for c in found if c and c.key == key), key=lambda c: c.id))


def oldest(pages: CommentPages, key: str) -> RawComment | None:
    """Our first comment of a key, as it stands."""
    listed = {comment.id: comment for comment in pages.ours()}
    found = find_comments(listed.values(), key)
    return listed[found[0].id] if found else None


def sticky(pages: CommentPages, key: str) -> Comment | None:
    """Our one comment of a key, found by author and marker."""
    found = oldest(pages, key)
    return None if found is None else read_marker(found)


def upsert(
    pages: CommentPages,
    body: str,
    *,
    key: str,
    run: RunOrder,
    history: tuple[Past, ...] = (),
    largest: int = MAX_COMMENT,
) -> Upserted:
    """Bring a pull request to exactly one comment of a key, with the newest run's text.

    Two first runs may both find none and both make one. So whoever made a comment lists again:
    the later of them sees both, moves the newest text to the oldest comment and deletes the rest.
    """
    whole = marked(body, key=key, run=run, history=history, largest=largest)
    for _ in range(3):
        found = find_comments(pages.ours(), key)
        created = not found
        if created:
            made = read_marker(pages.create(whole, key=key))
            if made is None:
                raise ForgeError("The new comment came back without its marker.", where="comment")
            found = _without_doubles((*find_comments(pages.ours(), key), made))
        settled = _rewritten(pages, found, body, whole, run)
        if settled is not None and created and settled.outcome is CommentOutcome.UNCHANGED:
            return replace(settled, outcome=CommentOutcome.CREATED)
        if settled is not None:
            return settled
        # Somebody deleted it between the list and the edit.
    raise ForgeError(
        "The comment was deleted three times while it was being written.",
        where="comment",
        fix="See what else deletes comments of this account on the pull request.",
    )


def _rewritten(
    pages: CommentPages, found: tuple[Comment, ...], body: str, whole: str, run: RunOrder
) -> Upserted | None:
    """The oldest comment with this run's text, None if it is gone; a newer run's text stays."""
    keep, newest = found[0], max(found, key=lambda c: (c.run, c.id))
    if newest.run > run:
        # The newer run gathers its text itself. The oldest stays whoever wrote it, so that two
        # runs that clear away at once never leave nothing.
        for double in found[1:]:
            if double.run <= run:
                pages.delete(double.id)
        return Upserted(comment=newest, outcome=CommentOutcome.STALE)
    outcome = CommentOutcome.UNCHANGED
    if (keep.run, keep.body) != (run, body):
        edited = pages.edit(keep.id, whole)
        if edited is None:
            return None
        keep, outcome = read_marker(edited) or keep, CommentOutcome.UPDATED
    for double in found[1:]:
        pages.delete(double.id)
    return Upserted(comment=keep, outcome=outcome)


def _without_doubles(comments: tuple[Comment, ...]) -> tuple[Comment, ...]:
    unique = {comment.id: comment for comment in comments}
    return tuple(sorted(unique.values(), key=lambda comment: comment.id))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
