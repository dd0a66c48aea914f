"""What happened, read from variables and payloads that others wrote."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.checkout import Checkout
from chalice_ci.context import Context, RunOrder, System
from chalice_ci.errors import UsageError
from chalice_ci.systems.github import parse_payload
from chalice_ci.systems.read import read_context
from support.attempts import tried
from support.events import SHA, payload_of, variables

CHECKOUT = Checkout(root=Path("/repo"), commit="c" * 40, branch="feature", default_branch="trunk")


def read(event: str, action: str | None = None, **circumstances: Any) -> Context:
    payload = payload_of(event, action, **circumstances)
    return read_context(variables(event, payload), payload)


def test_a_pull_request_is_known_with_all_that_routing_and_the_comment_need() -> None:
    context = read("pull_request", "labeled", label="preview", labels=("bug",))
    pull = context.pull_request
    assert pull is not None
    assert (context.system, context.event, context.action) == (
        System.GITHUB,
        "pull_request",
        "labeled",
    )
    assert (pull.number, pull.head_branch, pull.base_branch) == (42, "change", "master")
    assert (pull.labels, context.label) == (("bug", "preview"), "preview")
    assert (pull.open, pull.merged, pull.fork, pull.dependabot) == (True, False, False, False)
    assert context.commit == pull.head_sha != SHA
    assert (context.branch, context.tag) == (None, None)
    assert context.run == RunOrder(id=1658821493, attempt=1)
    assert context.run_number == 12
    assert context.repository_url == f"https://github.com/{context.repository}"
    assert context.run_url == f"{context.repository_url}/actions/runs/1658821493"
    assert context.trusted


@pytest.mark.parametrize(
    ("who", "fork", "trusted", "words"),
    [
        ("own", False, True, "a branch of this repository"),
        ("renamed", False, True, "a branch of this repository"),
        ("fork", True, False, "the fork mallory/"),
        ("merged fork", True, False, "the fork mallory/"),
        ("deleted fork", True, False, "a fork that was deleted"),
        ("dependabot", False, False, "Dependabot"),
        ("dependabot, then me", False, False, "Dependabot"),
    ],
)
@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_a_head_is_a_forks_when_its_repository_has_another_id(
    event: str, who: str, fork: bool, trusted: bool, words: str
) -> None:
    context = read(event, "opened", who=who)
    assert context.pull_request is not None
    assert (context.pull_request.fork, context.trusted) == (fork, trusted)
    assert words in context.trust
    assert trusted or "nothing is done in AWS" in context.trust


def test_a_head_without_a_repository_is_a_forks() -> None:
    payload = payload_of("pull_request", "opened")
    del payload["pull_request"]["head"]["repo"]
    context = read_context(variables("pull_request", payload), payload)
    assert not context.trusted


@pytest.mark.parametrize(
    "event", ["issue_comment", "pull_request_review", "pull_request_review_comment"]
)
def test_what_anyone_can_cause_is_not_trusted(event: str) -> None:
    assert not read(event).trusted


def test_a_run_after_a_forks_run_is_not_trusted() -> None:
    payload = payload_of("workflow_run", "completed")
    payload["workflow_run"]["head_repository"]["id"] = payload["repository"]["id"]
    assert read_context(variables("workflow_run", payload), payload).trusted
    assert not read("workflow_run", "completed", who="fork").trusted
    payload["workflow_run"]["head_repository"] = None
    assert not read_context(variables("workflow_run", payload), payload).trusted


def test_dependabots_push_is_not_trusted_either() -> None:
    assert not read("push", who="dependabot").trusted
    assert read("push").trusted


@pytest.mark.parametrize(
    ("event", "ref", "branch", "tag"),
    [
        ("push", "refs/heads/feature/a", "feature/a", None),
        ("push", "refs/tags/v1.2", None, "v1.2"),
        ("push", "refs/heads/refs/tags/v1", "refs/tags/v1", None),
        ("push", "refs/notes/x", None, None),
        ("workflow_dispatch", "refs/tags/v1", None, "v1"),
        ("release", "refs/tags/v1.2", None, "v1.2"),
    ],
)
def test_a_ref_is_a_branch_or_a_tag(
    event: str, ref: str, branch: str | None, tag: str | None
) -> None:
    action = "published" if event == "release" else None
    context = read(event, action, ref=ref)
    assert (context.branch, context.tag) == (branch, tag)


def test_a_merge_group_is_about_the_commit_that_is_to_be_merged() -> None:
    payload = payload_of("merge_group", "checks_requested")
    context = read_context(variables("merge_group", payload), payload)
    assert context.commit == payload["merge_group"]["head_sha"]


def test_the_inputs_of_a_dispatch_are_text() -> None:
    payload = payload_of("workflow_dispatch")
    payload["inputs"] = {"stage": "prod", "force": True, "count": 3, "none": None}
    context = read_context(variables("workflow_dispatch", payload), payload)
    assert context.inputs == (("stage", "prod"), ("force", "true"), ("count", "3"), ("none", ""))


def test_a_server_of_ones_own_gives_the_addresses() -> None:
    payload = payload_of("push")
    env = variables(
        "push",
        payload,
        GITHUB_SERVER_URL="https://ghe.example/",
        GITHUB_API_URL="https://ghe.example/api/v3",
    )
    context = read_context(env, payload)
    assert context.server_url == "https://ghe.example"
    assert context.api_url == "https://ghe.example/api/v3"
    # The payload's own addresses are nobody's promise.
    assert "github.com" not in context.run_url


def test_a_push_can_be_read_without_its_payload() -> None:
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_SHA": SHA,
    }
    context = read_context(env, None, checkout=CHECKOUT)
    assert (context.branch, context.commit, context.default_branch) == ("main", SHA, "trunk")
    assert context.run is None
    assert context.run_url == ""


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target", "release", "merge_group"])
def test_an_event_that_is_all_in_its_payload_needs_it(event: str) -> None:
    env = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": event}
    with pytest.raises(UsageError, match="payload of the event") as caught:
        read_context(env, None)
    assert caught.value.where == "variable GITHUB_EVENT_PATH"


def test_without_ci_the_checkout_says_what_is_known() -> None:
    context = read_context({}, None, checkout=CHECKOUT)
    assert context == Context(
        system=System.LOCAL, branch="feature", commit="c" * 40, default_branch="trunk"
    )
    assert read_context({}).branch is None


def test_another_ci_system_has_no_event() -> None:
    context = read_context({"CI": "true", "GITHUB_REF": "refs/heads/x"}, None, checkout=CHECKOUT)
    assert (context.system, context.event, context.branch) == (System.OTHER, "", "feature")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GITHUB_EVENT_NAME", ""),
        ("GITHUB_EVENT_NAME", "push\n::error::"),
        ("GITHUB_REPOSITORY", "../../x"),
        ("GITHUB_REPOSITORY", "a/b/c"),
        ("GITHUB_REF", "refs/heads/a b"),
        ("GITHUB_REF", "refs/heads/../x"),
        ("GITHUB_SHA", "main"),
        ("GITHUB_ACTOR", "a\nb"),
        ("GITHUB_RUN_ID", "x"),
        ("GITHUB_RUN_ATTEMPT", "-1"),
        ("GITHUB_RUN_ID", "1" * 40),
        ("GITHUB_SERVER_URL", "javascript:alert(1)"),
        ("GITHUB_SERVER_URL", "https://user@evil.example"),
        ("GITHUB_API_URL", "https://api.github.com/?x=y"),
    ],
)
def test_a_variable_that_the_runner_would_not_set_is_named(variable: str, value: str) -> None:
    payload = payload_of("push")
    with pytest.raises(UsageError) as caught:
        read_context(variables("push", payload, **{variable: value}), payload)
    assert caught.value.where == f"variable {variable}"
    assert caught.value.fix
    assert "\n" not in caught.value.what


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("pull_request", None, "is missing"),
        ("pull_request", [], "is a list, not an object"),
        ("pull_request.number", "42", "a number"),
        ("pull_request.number", True, "a number"),
        ("pull_request.number", 0, "a number"),
        ("pull_request.number", 10**12, "a number"),
        ("pull_request.head", None, "is missing"),
        ("pull_request.head.sha", "HEAD", "a commit id"),
        ("pull_request.head.ref", "a\nb", "the name of a branch"),
        ("pull_request.head.ref", "\ud800", "the name of a branch"),
        ("pull_request.head.repo", "x", "not an object"),
        ("pull_request.head.repo.id", "1", "a number"),
        ("pull_request.head.repo.full_name", "a/b/../c", "the name of a repository"),
        ("pull_request.base.sha", 5, "a commit id"),
        ("pull_request.labels", {}, "not a short list"),
        ("pull_request.labels", ["x"], "not an object"),
        ("pull_request.labels", [{}], "is missing"),
        ("pull_request.labels", [{"name": "a\nb"}], "the name of a label"),
        ("pull_request.labels", [{"name": "x"}] * 1001, "not a short list"),
        ("pull_request.merged", "false", "true or false"),
        ("pull_request.state", "ajar", "open or closed"),
        ("pull_request.user", 7, "not an object"),
        ("pull_request.user.login", "a b", "the name of a user"),
        ("action", {"x": 1}, "the name of an action"),
        ("repository", "x", "not an object"),
        ("repository.default_branch", "..", "the name of a branch"),
    ],
)
def test_a_payload_that_is_not_github_s_is_named_by_its_path(
    path: str, value: object, says: str
) -> None:
    payload = payload_of("pull_request", "opened")
    env = variables("pull_request", payload)
    *parents, last = path.split(".")
    place = payload
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(UsageError) as caught:
        read_context(env, payload)
    assert path in caught.value.where
    assert says in caught.value.what
    assert caught.value.fix
    assert caught.value.what.isprintable()


PAYLOADS = {
    "pull_request": payload_of("pull_request", "labeled", label="x"),
    "push": payload_of("push"),
    "release": payload_of("release", "published", ref="refs/tags/v1"),
    "merge_group": payload_of("merge_group", "checks_requested"),
    "workflow_dispatch": payload_of("workflow_dispatch"),
    "workflow_run": payload_of("workflow_run", "completed"),
}
READ = (
    *("action", "number", "pull_request", "head", "base", "sha", "ref", "repo", "id", "full_name"),
    *("labels", "name", "merged", "draft", "state", "user", "login", "repository", "sender"),
    *("default_branch", "label", "release", "tag_name", "merge_group", "head_sha", "inputs"),
    *("deleted", "workflow_run", "head_repository"),
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.none() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3), max_size=2),
    st.sampled_from(["../x", "a\r\nb", "\ud800", "refs/heads/x", "x" * 9999, "${{ x }}", "-rf"]),
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place that is read, or lies above one."""
    if isinstance(value, dict):
        found = [(k, v) for k, v in value.items() if k in READ]
    elif isinstance(value, list):
        found = list(enumerate(value))
    else:
        return []
    return [one for k, v in found for one in [(*path, k), *_paths(v, (*path, k))]]


PATHS = {event: _paths(payload) for event, payload in PAYLOADS.items()}


@settings(max_examples=2000, deadline=None)
@given(st.data())
def test_no_payload_ends_in_anything_but_a_context_or_an_error_with_a_way_out(
    data: st.DataObject,
) -> None:
    event = data.draw(st.sampled_from(sorted(PAYLOADS)))
    payload = copy.deepcopy(PAYLOADS[event])
    env = variables(event, payload)
    if data.draw(st.booleans()):
        env.pop("GITHUB_REF")
        env.pop("GITHUB_ACTOR")
        env.pop("GITHUB_REPOSITORY")
    for path in data.draw(st.lists(st.sampled_from(PATHS[event]), min_size=1, max_size=3)):
        place: Any = payload
        try:
            for step in path[:-1]:
                place = place[step]
            if data.draw(st.booleans()):
                place[path[-1]] = data.draw(ODD)
            else:
                del place[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # changed already
    found = tried(lambda: read_context(env, payload))
    if isinstance(found, UsageError):
        assert found.where
        assert found.fix
        assert str(found).replace("\n", "").isprintable()
        return
    texts = [found.branch, found.tag, found.repository, found.actor, found.commit, found.label]
    pull = found.pull_request
    if pull is not None:
        texts += [pull.head_branch, pull.base_branch, pull.source, pull.author, *pull.labels]
    for text in texts:
        assert text is None or "\n" not in text
        (text or "").encode()


# -- the file -------------------------------------------------------------------------------------


def test_the_file_of_the_event_is_an_object() -> None:
    assert parse_payload(b'\xef\xbb\xbf{"action": "opened"}') == {"action": "opened"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe{}",
        b'{"a": ' + b"[" * 100_000,
        json.dumps("x").encode(),
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_file_that_is_no_payload_is_a_usage_error(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        parse_payload(data)
    assert caught.value.where == "event payload"


def test_a_file_larger_than_any_payload_is_not_read() -> None:
    with pytest.raises(UsageError, match="more than GitHub sends"):
        parse_payload(b" " * (32 * 1024 * 1024 + 1))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_file_ends_in_a_traceback(data: bytes) -> None:
    found = tried(lambda: parse_payload(data))
    assert found.fix if isinstance(found, UsageError) else isinstance(found, dict)
