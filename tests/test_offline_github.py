"""The offline GitHub: its published payloads and the cases made of them."""

from __future__ import annotations

import pytest

from offline_github import webhooks

EVENTS = ("push", "pull_request", "workflow_dispatch", "release", "merge_group", "workflow_run")


@pytest.mark.parametrize("event", EVENTS)
def test_every_published_payload_given_out_satisfies_its_schema(event: str) -> None:
    found = webhooks.payloads(event)
    assert [webhooks.errors(event, document) for document in found] == [[]] * len(found)


@pytest.mark.parametrize(
    "action", ["opened", "synchronize", "reopened", "closed", "labeled", "unlabeled"]
)
def test_a_pull_request_can_be_of_the_repository_a_fork_a_deleted_fork_or_dependabot(
    action: str,
) -> None:
    own = webhooks.pull_request(action, label="preview", full_name="octo-org/orders")
    head, base = own["pull_request"]["head"], own["pull_request"]["base"]
    assert head["repo"]["id"] == base["repo"]["id"] == own["repository"]["id"]
    assert head["repo"]["full_name"] == own["repository"]["full_name"] == "octo-org/orders"
    fork = webhooks.from_fork(own)["pull_request"]
    assert fork["head"]["repo"]["id"] != fork["base"]["repo"]["id"]
    assert webhooks.from_deleted_fork(own)["pull_request"]["head"]["repo"] is None
    renamed = webhooks.from_renamed_owner(own)["pull_request"]
    assert renamed["head"]["repo"]["id"] == renamed["base"]["repo"]["id"]
    assert webhooks.from_dependabot(own)["sender"]["login"] == "dependabot[bot]"


def test_a_merged_pull_request_is_closed_and_says_so() -> None:
    change = webhooks.merged(webhooks.pull_request("closed"))["pull_request"]
    assert (change["state"], change["merged"]) == ("closed", True)


def test_a_push_moves_or_deletes_a_branch_or_a_tag() -> None:
    assert webhooks.push("refs/tags/v1")["head_commit"]["id"].startswith("a1b2c3d")
    assert webhooks.push(deleted=True)["after"] == "0" * 40


def test_what_a_caller_changes_is_its_own_copy() -> None:
    webhooks.payloads("push")[0]["ref"] = "changed"
    assert webhooks.payloads("push")[0]["ref"] != "changed"
