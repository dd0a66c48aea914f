"""What GitHub's runner tells a step: variables, files and the event's payload."""

from __future__ import annotations

import json
from pathlib import Path

from support.commandline import git

REPOSITORY = {"id": 1, "full_name": "octo/hello", "default_branch": "main"}


def pull_request(repository, *, number=1, head="feature", fork=False, state="open", **more):
    """The pull request of a payload, for the commit that is checked out."""
    own = {"id": REPOSITORY["id"], "full_name": REPOSITORY["full_name"]}
    theirs = {"id": 99, "full_name": "stranger/hello"}
    return {
        "number": number,
        "state": state,
        "merged": False,
        "labels": [],
        "user": {"login": "you", "id": 2},
        "head": {
            "ref": head,
            "sha": git(repository, "rev-parse", "HEAD"),
            "repo": theirs if fork else own,
        },
        "base": {"ref": "main", "sha": git(repository, "rev-parse", "main"), "repo": own},
        **more,
    }


def event(repository, tmp_path, name, *, action="", run=1, ref="refs/heads/main", pull=None):
    """The environment of a step on an event."""
    payload = {"repository": REPOSITORY}
    if action:
        payload["action"] = action
    if pull is not None:
        payload["pull_request"] = pull
        ref = f"refs/pull/{pull['number']}/merge"
    file = tmp_path / f"event-{run}.json"
    file.write_text(json.dumps(payload))
    files = {
        variable: tmp_path / f"{variable.lower()}-{run}"
        for variable in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_STATE")
    }
    for path in files.values():
        path.touch()
    return {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": name,
        "GITHUB_EVENT_PATH": str(file),
        "GITHUB_REPOSITORY": "octo/hello",
        "GITHUB_REF": ref,
        "GITHUB_SHA": git(repository, "rev-parse", "HEAD"),
        "GITHUB_RUN_ID": str(run),
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_API_URL": "https://api.github.com",
        "GITHUB_ACTOR": "you",
        **{variable: str(path) for variable, path in files.items()},
    }


def outputs(env, variable="GITHUB_OUTPUT"):
    """The values that a step wrote to one of its files, as the runner reads them."""
    lines = Path(env[variable]).read_text(encoding="utf-8").split("\n")
    found = {}
    while lines:
        head = lines.pop(0)
        if not head:
            continue
        name, _, end = head.partition("<<")
        value = []
        while (line := lines.pop(0)) != end:
            value.append(line)
        found[name] = "\n".join(value)
    return found
