"""What GitLab's REST API takes, as far as the adapter uses it, and a check of requests against it.

Nobody publishes a GitLab that could be run here, and its OpenAPI description is not packaged. So
this table was written from GitLab's own documentation and from the parameters that its API declares
in lib/api (GitLab 17 and 18). The page of each row is named; "job" says that its documentation of
the job token lists the request ("GitLab CI/CD job token", job token access).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

_PAGES = {"page": int, "per_page": int}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A request: its parameters by name and kind, those that are required, and who may make it."""

    method: str
    path: str
    page: str
    query: Mapping[str, object] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    job: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


_PROJECT = "/projects/:id"
_REQUEST = f"{_PROJECT}/merge_requests/:iid"
_ENVIRONMENT = f"{_PROJECT}/environments/:environment_id"
_DEPLOYMENT = f"{_PROJECT}/deployments/:deployment_id"
_STATUSES = ("created", "running", "success", "failed", "canceled")
_SET_STATUSES = ("running", "success", "failed", "canceled")

ENDPOINTS = (
    Endpoint(method="GET", path="/user", page="Users: get the current user"),
    Endpoint(method="GET", path="/job", page="Jobs: get job token's job", job=True),
    Endpoint(method="GET", path=_PROJECT, page="Projects: get a single project"),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/merge_requests",
        page="Merge requests: list project merge requests",
        query={"state": ("opened", "closed", "locked", "merged", "all"), **_PAGES},
        job=True,
    ),
    Endpoint(method="GET", path=_REQUEST, page="Merge requests: get single MR", job=True),
    Endpoint(
        method="GET",
        path=f"{_REQUEST}/notes",
        page="Notes: list all merge request notes",
        query={
            "sort": ("asc", "desc"),
            "order_by": ("created_at", "updated_at"),
            "activity_filter": ("all_notes", "only_comments", "only_activity"),
            **_PAGES,
        },
        job=True,
    ),
    Endpoint(
        method="POST",
        path=f"{_REQUEST}/notes",
        page="Notes: create new merge request note",
        body={"body": str, "internal": bool, "created_at": str},
        required=frozenset({"body"}),
    ),
    Endpoint(
        method="PUT",
        path=f"{_REQUEST}/notes/:note_id",
        page="Notes: modify existing merge request note",
        body={"body": str},
        required=frozenset({"body"}),
    ),
    Endpoint(
        method="DELETE",
        path=f"{_REQUEST}/notes/:note_id",
        page="Notes: delete an MR note",
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/repository/commits/:sha",
        page="Commits: get a single commit",
        job=True,
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/repository/commits/:sha/merge_requests",
        page="Commits: list merge requests associated with a commit",
        query={"state": ("opened", "closed", "locked", "merged"), **_PAGES},
        job=True,
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/repository/files/:file_path/raw",
        page="Repository files: get raw file",
        query={"ref": str, "lfs": bool},
        job=True,
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/repository/compare",
        page="Repositories: compare branches, tags, or commits",
        query={"from": str, "to": str, "straight": ("true", "false"), "unidiff": bool},
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/deployments",
        page="Deployments: list project deployments",
        query={
            "order_by": ("id", "iid", "created_at", "updated_at", "finished_at", "ref"),
            "sort": ("asc", "desc"),
            "environment": str,
            "status": (*_STATUSES, "blocked"),
            **_PAGES,
        },
        job=True,
    ),
    Endpoint(
        method="POST",
        path=f"{_PROJECT}/deployments",
        page="Deployments: create a deployment",
        body={"environment": str, "sha": str, "ref": str, "tag": bool, "status": _SET_STATUSES},
        required=frozenset({"environment", "sha", "ref", "tag", "status"}),
        job=True,
    ),
    Endpoint(
        method="PUT",
        path=_DEPLOYMENT,
        page="Deployments: update a deployment",
        body={"status": _SET_STATUSES},
        required=frozenset({"status"}),
        job=True,
    ),
    Endpoint(
        method="DELETE",
        path=_DEPLOYMENT,
        page="Deployments: delete a deployment",
        job=True,
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/environments",
        page="Environments: list environments",
        query={"name": str, "search": str, "states": str, **_PAGES},
        job=True,
    ),
    Endpoint(
        method="PUT",
        path=_ENVIRONMENT,
        page="Environments: update an existing environment",
        body={"external_url": str, "tier": str, "description": str, "auto_stop_setting": str},
        job=True,
    ),
    Endpoint(
        method="POST",
        path=f"{_ENVIRONMENT}/stop",
        page="Environments: stop an environment",
        body={"force": bool},
        job=True,
    ),
    Endpoint(
        method="DELETE", path=_ENVIRONMENT, page="Environments: delete an environment", job=True
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/protected_environments",
        page="Protected environments: list protected environments",
        query=_PAGES,
    ),
    Endpoint(
        method="GET",
        path="/groups/:group/protected_environments",
        page="Group-level protected environments: list group-level protected environments",
        query=_PAGES,
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/repository/branches/:branch",
        page="Branches: get single repository branch",
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/protected_branches",
        page="Protected branches: list protected branches",
        query={"search": str, **_PAGES},
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/approval_rules",
        page="Merge request approvals: list all approval rules for a project",
        query=_PAGES,
    ),
    Endpoint(
        method="GET",
        path=f"{_PROJECT}/approvals",
        page="Merge request approvals: retrieve approval configuration for a project",
    ),
)


def find(method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """The row of a request (its path is below /api/v4, still encoded), and what its `:x` are."""
    for endpoint in ENDPOINTS:
        pattern = re.sub(r":(\w+)", r"(?P<\1>[^/]+)", endpoint.path)
        match = re.fullmatch(pattern, path)
        if match and endpoint.method == method:
            return endpoint, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


def problems(endpoint: Endpoint, query: Mapping[str, str], body: Mapping[str, object]) -> list[str]:
    """What a request has that its row does not describe, in words."""
    found = [f"{name} is missing" for name in sorted(endpoint.required - set(body))]
    for name, text in query.items():
        kind = endpoint.query.get(name)
        if kind is None:
            found.append(f"no such query parameter: {name}")
        elif isinstance(kind, tuple) and text not in kind:
            found.append(f"{name} does not have a valid value")
        elif kind is int and not text.isdecimal():
            found.append(f"{name} is invalid")
    for name, value in body.items():
        kind = endpoint.body.get(name)
        if kind is None:
            found.append(f"no such parameter: {name}")
        elif isinstance(kind, tuple):
            if value not in kind:
                found.append(f"{name} does not have a valid value")
        elif not isinstance(value, kind):  # type: ignore[arg-type]
            found.append(f"{name} is invalid")
    return found
