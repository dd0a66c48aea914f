"""What GitHub says: the runner's variables and the event's payload. Pure.

A payload holds text that strangers wrote: names of branches and labels, a fork's repository. It is
read field by field; what is missing or of another kind is a `UsageError` with its path in the
payload. Addresses come from the runner's variables only, never from the payload.

Source: GitHub's documentation, "Variables reference" and "Webhook events and payloads".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from chalice_ci.checkout import Checkout
from chalice_ci.context import DEPENDABOT, Context, PullRequest, ReportedRun, RunOrder, System
from chalice_ci.errors import UsageError
from chalice_ci.neutral import one_line
from chalice_ci.systems.variables import (
    EVENT,
    LINE,
    NAME,
    REF,
    REPOSITORY,
    SHA,
    address,
    kind,
    not_a,
    number,
    variable,
)

MAX_PAYLOAD = 32 * 1024 * 1024
"""GitHub caps payloads at 25 MB."""

PULL_REQUEST_EVENTS = ("pull_request", "pull_request_target")


def parse_payload(data: bytes) -> Mapping[str, object]:
    """The event's payload from the bytes of its file. Raises UsageError when it is no object."""
    if len(data) > MAX_PAYLOAD:
        raise _malformed("", f"has {len(data)} bytes, more than GitHub sends")
    try:
        loaded = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _malformed("", f"is not JSON: {one_line(str(error), 100)}") from error
    if not isinstance(loaded, dict):
        raise _malformed("", f"is {kind(loaded)}, not an object")
    return loaded


def read(
    env: Mapping[str, str], payload: Mapping[str, object] | None, checkout: Checkout | None
) -> Context:
    """What GitHub says in the runner's variables and in the event's payload."""
    event = variable(env, "GITHUB_EVENT_NAME", EVENT, "the name of an event", required=True)
    if payload is None and event in (*PULL_REQUEST_EVENTS, "release", "merge_group"):
        raise UsageError(
            f"the payload of the event `{event}` is missing.",
            where="variable GITHUB_EVENT_PATH",
            fix="Run as a step of a workflow, where the runner writes that file.",
        )
    said = _Node(payload or {}, "")
    pull = _pull_request(said) if event in PULL_REQUEST_EVENTS else None
    branch, tag = _ref(env, said, event)
    actor = _actor(env, said)
    trusted, trust = _trust(event, said, pull, actor)
    dispatched = said.maybe("inputs") if event == "workflow_dispatch" else None
    return Context(
        system=System.GITHUB,
        event=event,
        action=said.text("action", EVENT, "the name of an action", default=""),
        repository=_repository(env, said),
        default_branch=_default_branch(said, checkout),
        commit=_commit(env, said, event, pull, checkout),
        branch=branch,
        tag=tag,
        deleted=said.flag("deleted") if event == "push" else False,
        label=_label(said) if pull else None,
        pull_request=pull,
        actor=actor,
        inputs=() if dispatched is None else _inputs(dispatched),
        run=_run(env),
        run_number=number(env, "GITHUB_RUN_NUMBER"),
        server_url=address(env, "GITHUB_SERVER_URL"),
        api_url=address(env, "GITHUB_API_URL"),
        trusted=trusted,
        trust=trust,
        reported=_reported(said) if event == "workflow_run" else None,
    )


def _reported(said: _Node) -> ReportedRun | None:
    run = said.maybe("workflow_run")
    if run is None:
        return None
    head = run.maybe("head_repository")
    return ReportedRun(
        head_sha=run.text("head_sha", SHA, "a commit id"),
        head_branch=run.text("head_branch", REF, "the name of a branch", default=""),
        repository=""
        if head is None
        else head.text("full_name", REPOSITORY, "the name of a repository", default=""),
        event=run.text("event", EVENT, "the name of an event", default=""),
    )


def _pull_request(said: _Node) -> PullRequest:
    pull = said.node("pull_request")
    head, base = pull.node("head"), pull.node("base")
    source = head.maybe("repo")
    own = base.maybe("repo") or said.maybe("repository")
    same = source is not None and own is not None and source.number("id") == own.number("id")
    author = pull.maybe("user")
    state = pull.text("state", re.compile("open|closed"), "open or closed", default="open")
    return PullRequest(
        number=pull.number("number", most=999_999_999),
        head_sha=head.text("sha", SHA, "a commit id"),
        base_sha=base.text("sha", SHA, "a commit id"),
        head_branch=head.text("ref", REF, "the name of a branch"),
        base_branch=base.text("ref", REF, "the name of a branch"),
        fork=not same,
        source=""
        if source is None
        else source.text("full_name", REPOSITORY, "the name of a repository", default=""),
        labels=tuple(
            label.text("name", LINE, "the name of a label") for label in pull.nodes("labels")
        ),
        open=state == "open",
        merged=pull.flag("merged"),
        draft=pull.flag("draft"),
        author=""
        if author is None
        else author.text("login", NAME, "the name of a user", default=""),
    )


def _ref(env: Mapping[str, str], said: _Node, event: str) -> tuple[str | None, str | None]:
    """The branch and the tag of the event; a pull request's ref is neither."""
    if event in PULL_REQUEST_EVENTS:
        return None, None
    if event == "release":
        release = said.node("release")
        return None, release.text("tag_name", REF, "the name of a tag")
    ref = env.get("GITHUB_REF", "")
    if ref and not REF.fullmatch(ref):
        raise not_a("variable GITHUB_REF", "the name of a ref", ref)
    if not ref and event in ("push", "workflow_dispatch"):
        ref = said.text("ref", REF, "the name of a ref", default="")
    if ref.startswith("refs/tags/"):
        return None, ref.removeprefix("refs/tags/")
    if ref.startswith("refs/heads/"):
        return ref.removeprefix("refs/heads/"), None
    return None, None


def _commit(
    env: Mapping[str, str],
    said: _Node,
    event: str,
    pull: PullRequest | None,
    checkout: Checkout | None,
) -> str | None:
    if pull is not None:
        return pull.head_sha
    if event == "merge_group":
        return said.node("merge_group").text("head_sha", SHA, "a commit id")
    told = variable(env, "GITHUB_SHA", SHA, "a commit id")
    if told:
        return told
    return checkout.commit if checkout else None


def _repository(env: Mapping[str, str], said: _Node) -> str:
    told = variable(env, "GITHUB_REPOSITORY", REPOSITORY, "owner/name")
    repository = said.maybe("repository")
    if told or repository is None:
        return told
    return repository.text("full_name", REPOSITORY, "owner/name", default="")


def _default_branch(said: _Node, checkout: Checkout | None) -> str | None:
    repository = said.maybe("repository")
    told = (
        ""
        if repository is None
        else repository.text("default_branch", REF, "the name of a branch", default="")
    )
    return told or (checkout.default_branch if checkout else None)


def _label(said: _Node) -> str | None:
    label = said.maybe("label")
    return None if label is None else label.text("name", LINE, "the name of a label")


def _actor(env: Mapping[str, str], said: _Node) -> str:
    told = variable(env, "GITHUB_ACTOR", NAME, "the name of a user")
    sender = said.maybe("sender")
    if told or sender is None:
        return told
    return sender.text("login", NAME, "the name of a user", default="")


def _run(env: Mapping[str, str]) -> RunOrder | None:
    run = number(env, "GITHUB_RUN_ID")
    if run is None:
        return None
    return RunOrder(id=run, attempt=number(env, "GITHUB_RUN_ATTEMPT") or 1)


def _inputs(dispatched: _Node) -> tuple[tuple[str, str], ...]:
    """Every input as text, as `${{ inputs.x }}` would write it."""
    return tuple((name, dispatched.scalar(name)) for name in dispatched.names())


# -- trust -----------------------------------------------------------------------------------------


def _trust(event: str, said: _Node, pull: PullRequest | None, actor: str) -> tuple[bool, str]:
    if pull is not None and pull.fork:
        who = f"the fork {pull.source}" if pull.source else "a fork that was deleted since"
        return False, (
            f"The pull request comes from {who}: its code gets no credential, "
            "and nothing is done in AWS."
        )
    if actor == DEPENDABOT or (pull is not None and pull.dependabot):
        return False, (
            "This is Dependabot's: GitHub gives it a read-only token and no secrets, "
            "and nothing is done in AWS."
        )
    if event == "workflow_run":
        return _trust_in_run(said)
    if event in ("issue_comment", "pull_request_review", "pull_request_review_comment"):
        return False, (
            f"Anyone can cause the event `{event}`, and which code was checked out cannot be "
            "told: it gets no credential, and nothing is done in AWS."
        )
    if pull is not None:
        return True, "The pull request comes from a branch of this repository."
    return True, "Only who may write to this repository can cause this."


def _trust_in_run(said: _Node) -> tuple[bool, str]:
    run, own = said.maybe("workflow_run"), said.maybe("repository")
    head = None if run is None else run.maybe("head_repository")
    if head is not None and own is not None and head.number("id") == own.number("id"):
        return True, "The workflow ran for a branch of this repository."
    return False, (
        "The workflow ran for a fork: its code gets no credential, and nothing is done in AWS."
    )


# -- reading what others wrote ---------------------------------------------------------------------


class _Node:
    """An object in the payload that knows its path, so that an error can name it."""

    def __init__(self, value: Mapping[str, object], path: str) -> None:
        self._value = value
        self._path = path

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def names(self) -> tuple[str, ...]:
        return tuple(key for key in self._value if isinstance(key, str))

    def maybe(self, key: str) -> _Node | None:
        """The object under `key`; None when there is none."""
        value = self._value.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise _malformed(self._at(key), f"is {kind(value)}, not an object")
        return _Node(value, self._at(key))

    def node(self, key: str) -> _Node:
        found = self.maybe(key)
        if found is None:
            raise _malformed(self._at(key), "is missing")
        return found

    def nodes(self, key: str) -> tuple[_Node, ...]:
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or len(value) > 1000:
            raise _malformed(self._at(key), f"is {kind(value)}, not a short list")
        found = []
        for index, each in enumerate(value):
            path = f"{self._at(key)}[{index}]"
            if not isinstance(each, Mapping):
                raise _malformed(path, f"is {kind(each)}, not an object")
            found.append(_Node(each, path))
        return tuple(found)

    def text(
        self, key: str, pattern: re.Pattern[str], words: str, *, default: str | None = None
    ) -> str:
        value = self._value.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise _malformed(self._at(key), "is missing")
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise not_a(_place(self._at(key)), words, value)
        return value

    def number(self, key: str, *, most: int = 2**63 - 1) -> int:
        value = self._value.get(key)
        if value is None:
            raise _malformed(self._at(key), "is missing")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise not_a(_place(self._at(key)), "a number that GitHub gives", value)
        return value

    def flag(self, key: str) -> bool:
        value = self._value.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise not_a(_place(self._at(key)), "true or false", value)
        return value

    def scalar(self, key: str) -> str:
        value = self._value.get(key)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, str | int | float):
            raise not_a(_place(self._at(key)), "text, a number, true or false", value)
        return str(value)


def _place(path: str) -> str:
    return f"event payload, {path}" if path else "event payload"


def _malformed(path: str, what: str) -> UsageError:
    return UsageError(
        f"{path or 'the payload'} {what}.",
        where=_place(path),
        fix="GITHUB_EVENT_PATH must name the file that the runner wrote for this event, unchanged.",
    )
