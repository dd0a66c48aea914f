"""Payloads of GitHub's webhooks, as GitHub publishes them, each checked against its schema.

`payloads` gives the published examples without a single schema error; some are older than the
schema and left out. The builders change a clean example into a case that has none, and check the
result again. What they return is the caller's: a fresh copy.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

from jsonschema import Draft7Validator

from offline_github.packages import installed

Payload = dict[str, Any]
DEPENDABOT = {"login": "dependabot[bot]", "id": 49699333, "type": "Bot"}


def payloads(event: str) -> list[Payload]:
    """Every published example of an event that its schema accepts."""
    return copy.deepcopy(_clean(event))


@cache
def _clean(event: str) -> list[Payload]:
    found = [e for e in _examples(event) if not errors(event, e)]
    assert found, f"no clean example of {event}"
    return found


def payload(event: str, action: str | None = None) -> Payload:
    """The first clean example of an event, of an action."""
    found = (e for e in _clean(event) if action is None or e.get("action") == action)
    return copy.deepcopy(next(found))


def errors(event: str, document: Payload) -> list[str]:
    """What the schema of the event says against a payload."""
    validator = _validator(event, document.get("action"))
    return [
        f"{'/'.join(map(str, e.path))}: {e.message[:200]}" for e in validator.iter_errors(document)
    ]


def checked(event: str, document: Payload) -> Payload:
    """The payload, if the schema accepts it."""
    found = errors(event, document)
    assert not found, found
    return document


def pull_request(
    action: str = "opened",
    *,
    number: int = 42,
    label: str | None = None,
    labels: tuple[str, ...] = (),
    full_name: str | None = None,
    head_ref: str = "change",
    head_sha: str = "9f3c1ab" + "0" * 33,
    base_ref: str | None = None,
) -> Payload:
    """A pull request of the repository's own branch; `full_name` renames the repository."""
    document = payload("pull_request", action)
    change = document["pull_request"]
    document["number"] = change["number"] = number
    change["state"] = "closed" if action == "closed" else "open"
    change["head"] |= {"ref": head_ref, "sha": head_sha}
    change["base"]["ref"] = base_ref or document["repository"]["default_branch"]
    repository = document["repository"]
    if full_name is not None:
        owner, _, name = full_name.partition("/")
        repository |= {"full_name": full_name, "name": name}
        repository["owner"]["login"] = owner
    # Some published examples come from forks: here the head is the base's repository.
    change["base"]["repo"] |= _same(repository, change["base"]["repo"])
    change["base"]["user"] = copy.deepcopy(repository["owner"])
    change["head"]["repo"] = copy.deepcopy(change["base"]["repo"])
    change["head"]["user"] = copy.deepcopy(change["base"]["user"])
    template = payload("pull_request", "labeled")["label"]
    named = [*labels, *([label] if label and action == "labeled" else [])]
    change["labels"] = [template | {"name": name, "id": 1000 + i} for i, name in enumerate(named)]
    if action in {"labeled", "unlabeled"}:
        document["label"] = template | {"name": label or "preview"}
    if action == "closed":
        change |= {"merged": False, "merged_at": None, "merged_by": None}
    if action == "synchronize":
        document["after"] = head_sha
    return checked("pull_request", document)


def from_fork(document: Payload, *, owner: str = "mallory") -> Payload:
    """The same pull request, its head in somebody's fork."""
    result = copy.deepcopy(document)
    head = result["pull_request"]["head"]
    head["repo"] |= {
        "id": head["repo"]["id"] + 1,
        "full_name": f"{owner}/{head['repo']['name']}",
        "fork": True,
    }
    head["repo"]["owner"] |= {"login": owner, "id": 666, "type": "User"}
    head["user"] |= {"login": owner, "id": 666, "type": "User"}
    head["label"] = f"{owner}:{head['ref']}"
    result["pull_request"]["user"] |= {"login": owner, "id": 666, "type": "User"}
    result["pull_request"]["author_association"] = "NONE"
    return checked("pull_request", result)


def from_deleted_fork(document: Payload, *, owner: str = "mallory") -> Payload:
    """The same pull request after its fork was deleted: the head has no repository any more."""
    result = from_fork(document, owner=owner)
    result["pull_request"]["head"]["repo"] = None
    return checked("pull_request", result)


def from_renamed_owner(document: Payload) -> Payload:
    """A head in the same repository (the same id) under the owner's former name."""
    result = copy.deepcopy(document)
    repository = result["pull_request"]["head"]["repo"]
    repository["full_name"] = f"former-owner/{repository['name']}"
    repository["owner"]["login"] = "former-owner"
    return checked("pull_request", result)


def from_dependabot(document: Payload) -> Payload:
    """The same pull request, made and triggered by Dependabot in the repository itself."""
    result = copy.deepcopy(document)
    result["sender"] |= DEPENDABOT
    result["pull_request"]["user"] |= DEPENDABOT
    result["pull_request"]["head"]["ref"] = "dependabot/pip/requests-2.32.0"
    return checked("pull_request", result)


def merged(document: Payload, *, sha: str = "a1b2c3d" + "0" * 33) -> Payload:
    """The closed pull request, merged."""
    result = copy.deepcopy(document)
    result["action"] = "closed"
    change = result["pull_request"]
    when = change["updated_at"]
    change |= {
        "state": "closed",
        "merged": True,
        "merged_at": when,
        "closed_at": when,
        "merge_commit_sha": sha,
        "merged_by": copy.deepcopy(result["sender"]),
    }
    return checked("pull_request", result)


def push(
    ref: str = "refs/heads/main",
    *,
    sha: str = "a1b2c3d" + "0" * 33,
    deleted: bool = False,
    message: str = "Change something",
) -> Payload:
    """A push of a branch or a tag."""
    document = payload("push")
    zero = "0" * 40
    document |= {"ref": ref, "after": zero if deleted else sha, "deleted": deleted}
    document["base_ref"] = None
    if deleted:
        document |= {"head_commit": None, "commits": []}
    else:
        template = next(
            commit
            for example in payloads("push")
            for commit in [example["head_commit"]]
            if commit is not None
        )
        commit = template | {"id": sha, "message": message}
        document |= {"head_commit": commit, "commits": [commit]}
    return checked("push", document)


def workflow_run(
    *, head_sha: str, head_branch: str, head_repository: str, full_name: str, event: str
) -> Payload:
    """The end of a run of `full_name` that was about a commit of `head_repository`."""
    document = payload("workflow_run", "completed")
    run = document["workflow_run"]
    # For a fork GitHub names no pull request.
    run |= {"event": event, "head_sha": head_sha, "head_branch": head_branch, "pull_requests": []}
    for repository, name in (
        (document["repository"], full_name),
        (run["repository"], full_name),
        (run["head_repository"], head_repository),
    ):
        owner, _, short = name.partition("/")
        repository |= {"full_name": name, "name": short}
        repository["owner"]["login"] = owner
    if head_repository != full_name:
        run["head_repository"]["id"] += 1
    return checked("workflow_run", document)


def schedule(cron: str = "0 4 * * *") -> Payload:
    """What the runner writes for a scheduled run: there is no webhook, only the repository's part
    is checked."""
    base = push()
    return {"schedule": cron, "repository": base["repository"], "sender": base["sender"]}


def _same(repository: Payload, other: Payload) -> Payload:
    names = ("id", "node_id", "name", "full_name", "private", "owner", "fork", "default_branch")
    return {name: copy.deepcopy(repository[name]) for name in names if name in other}


@cache
def _schema() -> Payload:
    return json.loads((installed() / "@octokit/webhooks-schemas/schema.json").read_text())


@cache
def _examples(event: str) -> tuple[Payload, ...]:
    file = installed() / "@octokit/webhooks-examples/api.github.com/index.json"
    return next(tuple(e["examples"]) for e in json.loads(file.read_text()) if e["name"] == event)


@cache
def _validator(event: str, action: str | None) -> Draft7Validator:
    definitions = _schema()["definitions"]
    names = (f"{event}${action}", f"{event}_event", f"{event}$event")
    name = next(name for name in names if name in definitions)
    return Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": definitions})
