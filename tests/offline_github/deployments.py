"""Deployments, their statuses and environments, which the emulator lacks.

State as GitHub keeps it, in the form that its description gives: environments come into being
with their first deployment; a success makes earlier deployments of the environment inactive
unless one of them is transient or for production; only an inactive deployment, or the only one of
its environment, can be deleted; only an administrator can delete an environment.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("error", "failure", "inactive", "in_progress", "queued", "pending", "success")
WHEN = "2026-01-02T03:04:05Z"

Answer = tuple[int, Any]
PATHS = re.compile(r"/repos/([^/]+/[^/]+)/(deployments|environments)(?:/([^?]+))?")


@dataclass(kw_only=True)
class _Deployment:
    document: dict[str, Any]
    statuses: list[dict[str, Any]] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.statuses[0]["state"]) if self.statuses else "pending"


class Deployments:
    """The deployments of every repository.

    `user` gives an account as the API shows it; `resolve` the commit of a ref in a repository.
    """

    def __init__(
        self,
        base_url: str,
        *,
        user: Callable[[str], dict[str, Any]],
        resolve: Callable[[str, str], str | None],
    ) -> None:
        self._base_url = base_url
        self._user = user
        self._resolve = resolve
        self._ids = itertools.count(1)
        self._found: dict[str, dict[int, _Deployment]] = {}
        self._environments: dict[str, dict[str, dict[str, Any]]] = {}
        self._turn = threading.Lock()

    def answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        document: Any,
        *,
        login: str,
        may: Callable[[str, str], bool],
    ) -> Answer | None:
        """An answer and its document; None when the path is somebody else's."""
        match = PATHS.fullmatch(path)
        if match is None:
            return None
        repository, kind, rest = match[1], match[2], match[3] or ""
        with self._turn:
            if kind == "environments":
                return self._environment(method, repository, rest, may)
            writing = method != "GET"
            if not may("deployments", "write" if writing else "read"):
                return _forbidden()
            if not rest:
                if writing:
                    return self._create(repository, document, login)
                return 200, self._listed(repository, query)
            number, _, tail = rest.partition("/")
            found = self._found.get(repository, {}).get(int(number))
            if found is None:
                return _missing()
            if tail == "statuses":
                return self._status(repository, found, document if writing else None, login)
            if method == "DELETE":
                return self._delete(repository, found)
            return 200, found.document

    def of(self, repository: str, environment: str) -> list[tuple[dict[str, Any], str]]:
        """What there is: documents with their state, the oldest first."""
        found = self._found.get(repository, {}).values()
        return [(d.document, d.state) for d in found if d.document["environment"] == environment]

    def environments(self, repository: str) -> tuple[str, ...]:
        """The environments that are listed."""
        return tuple(self._environments.get(repository, {}))

    def _create(self, repository: str, document: dict[str, Any], login: str) -> Answer:
        sha = self._resolve(repository, document["ref"])
        if sha is None:
            return _refused(f"No ref found for: {document['ref']}")
        if document.get("required_contexts") != [] or document.get("auto_merge") is not False:
            # Without them GitHub merges branches and waits for checks, which is not kept here.
            return 409, {"message": "Conflict: Commit status checks failed."}
        number = next(self._ids)
        environment = document.get("environment", "production")
        url = f"{self._base_url}/repos/{repository}/deployments/{number}"
        made = {
            "url": url,
            "id": number,
            "node_id": f"MDEwOkRlcGxveW1lbnQ{number}",
            "sha": sha,
            "ref": document["ref"],
            "task": document.get("task", "deploy"),
            "payload": document.get("payload", ""),
            "original_environment": environment,
            "environment": environment,
            "description": document.get("description", ""),
            "creator": self._user(login),
            "created_at": WHEN,
            "updated_at": WHEN,
            "statuses_url": f"{url}/statuses",
            "repository_url": f"{self._base_url}/repos/{repository}",
            "transient_environment": document.get("transient_environment", False),
            "production_environment": document.get(
                "production_environment", environment == "production"
            ),
        }
        self._found.setdefault(repository, {})[number] = _Deployment(document=made)
        self._environments.setdefault(repository, {}).setdefault(
            environment, self._new_environment(repository, environment)
        )
        return 201, made

    def _listed(self, repository: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found = [d.document for d in self._found.get(repository, {}).values()]
        for name in ("sha", "ref", "task", "environment"):
            if query.get(name, "none") != "none":
                found = [document for document in found if document[name] == query[name]]
        return found[::-1]

    def _status(
        self, repository: str, found: _Deployment, document: dict[str, Any] | None, login: str
    ) -> Answer:
        if document is None:
            return 200, found.statuses
        if document["state"] not in STATES:
            return _refused("Validation Failed")
        made = self._made_status(repository, found, document, login)
        if document["state"] == "success" and document.get("auto_inactive", True):
            for earlier in self._found[repository].values():
                same = earlier.document["environment"] == found.document["environment"]
                kept = any(
                    earlier.document[f"{k}_environment"] for k in ("transient", "production")
                )
                if same and not kept and earlier.document["id"] < found.document["id"]:
                    self._made_status(repository, earlier, {"state": "inactive"}, login)
        return 201, made

    def _made_status(
        self, repository: str, found: _Deployment, document: dict[str, Any], login: str
    ) -> dict[str, Any]:
        number, url = next(self._ids), found.document["url"]
        made = {
            "url": f"{url}/statuses/{number}",
            "id": number,
            "node_id": f"MDE2OkRlcGxveW1lbnRTdGF0dXM{number}",
            "state": document["state"],
            "creator": self._user(login),
            "description": document.get("description", ""),
            "environment": document.get("environment", found.document["environment"]),
            "target_url": document.get("target_url", ""),
            "log_url": document.get("log_url", document.get("target_url", "")),
            "environment_url": document.get("environment_url", ""),
            "created_at": WHEN,
            "updated_at": WHEN,
            "deployment_url": url,
            "repository_url": f"{self._base_url}/repos/{repository}",
        }
        found.statuses.insert(0, made)
        return made

    def _delete(self, repository: str, found: _Deployment) -> Answer:
        environment = found.document["environment"]
        beside = len(self.of(repository, environment))
        if found.state != "inactive" and beside > 1:
            return _refused(
                "We cannot delete an active deployment unless it is the only deployment in a "
                "given environment."
            )
        del self._found[repository][found.document["id"]]
        return 204, None

    def _environment(
        self, method: str, repository: str, name: str, may: Callable[[str, str], bool]
    ) -> Answer:
        kept = self._environments.setdefault(repository, {})
        if not name:
            return 200, {"total_count": len(kept), "environments": list(kept.values())}
        if method in {"PUT", "DELETE"} and not may("administration", "write"):
            return _forbidden()
        if method == "PUT":
            return 200, kept.setdefault(name, self._new_environment(repository, name))
        if name not in kept:
            return _missing()
        if method == "DELETE":
            del kept[name]
            return 204, None
        return 200, kept[name]

    def _new_environment(self, repository: str, name: str) -> dict[str, Any]:
        number = next(self._ids)
        return {
            "id": number,
            "node_id": f"MDExOkVudmlyb25tZW50{number}",
            "name": name,
            "url": f"{self._base_url}/repos/{repository}/environments/{name}",
            "html_url": f"{self._base_url}/{repository}/deployments/{name}",
            "created_at": WHEN,
            "updated_at": WHEN,
            "protection_rules": [],
            "deployment_branch_policy": None,
        }


def _forbidden() -> Answer:
    return 403, {"message": "Resource not accessible by integration"}


def _missing() -> Answer:
    return 404, {"message": "Not Found"}


def _refused(message: str) -> Answer:
    return 422, {"message": message, "documentation_url": "https://docs.github.com/rest"}
