"""What GitHub's runner gives a step for an event, made from GitHub's published payloads."""

from __future__ import annotations

import copy
from typing import Any

from offline_github import webhooks

SHA = "a1b2c3d" + "0" * 33
PREFIXES = {"branch": "refs/heads/", "tag": "refs/tags/"}


def variables(event: str, payload: dict[str, Any], **more: str) -> dict[str, str]:
    """The variables of the runner that belong to a payload."""
    refs = {
        "push": payload.get("ref", ""),
        "workflow_dispatch": payload.get("ref", ""),
        "release": f"refs/tags/{payload.get('release', {}).get('tag_name', '')}",
        "merge_group": payload.get("merge_group", {}).get("head_ref", ""),
        "pull_request": f"refs/pull/{payload.get('number', 0)}/merge",
    }
    return {
        "GITHUB_ACTIONS": "true",
        "CI": "true",
        "GITHUB_EVENT_NAME": event,
        "GITHUB_REPOSITORY": payload["repository"]["full_name"],
        "GITHUB_REF": refs.get(event, "refs/heads/main"),
        "GITHUB_SHA": SHA,
        "GITHUB_ACTOR": payload["sender"]["login"],
        "GITHUB_RUN_ID": "1658821493",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_RUN_NUMBER": "12",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_API_URL": "https://api.github.com",
        **more,
    }


def payload_of(
    event: str,
    action: str | None = None,
    *,
    who: str = "own",
    label: str | None = None,
    labels: tuple[str, ...] = (),
    ref: str = "refs/heads/main",
) -> dict[str, Any]:
    """A payload; `who` is own, fork, deleted fork, renamed, dependabot, merged or merged fork."""
    if event in {"pull_request", "pull_request_target"}:
        return _pull_request(action or "opened", who, label, labels)
    if event == "push":
        document = webhooks.push(ref, deleted=action == "deleted")
    elif event == "schedule":
        document = webhooks.schedule()
    else:
        document = webhooks.payload(event, action)
    if event == "release":
        document["release"]["tag_name"] = ref.removeprefix("refs/tags/")
    if event == "workflow_dispatch":
        document["ref"] = ref
    if event == "workflow_run" and who != "own":
        document["workflow_run"]["head_repository"]["id"] += 1
    if who == "dependabot":
        document["sender"] = document["sender"] | webhooks.DEPENDABOT
    document["repository"]["default_branch"] = "main"
    return document


def _pull_request(
    action: str, who: str, label: str | None, labels: tuple[str, ...]
) -> dict[str, Any]:
    if who.startswith("merged"):
        action = "closed"
    document = webhooks.pull_request(action, label=label, labels=labels, number=42)
    if who.startswith("merged"):
        document = webhooks.merged(document)
    changed = {
        "fork": webhooks.from_fork,
        "merged fork": webhooks.from_fork,
        "deleted fork": webhooks.from_deleted_fork,
        "renamed": webhooks.from_renamed_owner,
        "dependabot": webhooks.from_dependabot,
    }.get(who, copy.deepcopy)
    document = changed(document)
    if who == "dependabot, then me":
        document["pull_request"]["user"] |= webhooks.DEPENDABOT
    if who == "closed":
        document["pull_request"]["state"] = "closed"
    return webhooks.checked("pull_request", document)
