"""The operations that the adapter uses, as Atlassian describes them.

Transcribed from the OpenAPI description of "The Bitbucket Cloud REST API" 2.0, as npm's
@coderabbitai/bitbucket 1.1.4 has it (types made by openapi-typescript from swagger.v3.json):
paths, methods, query parameters, required scopes, what a body may hold, and the statuses. Every
request is held against it, and so is every answer of the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jsonschema

_REPOSITORY = r"/2\.0/repositories/(?P<workspace>[^/]+)/(?P<slug>[^/]+)"
_PULL = rf"{_REPOSITORY}/pullrequests/(?P<id>[0-9]+)"
_COMMIT = rf"{_REPOSITORY}/commit/(?P<commit>[0-9a-f]+)"
_REPORT = rf"{_COMMIT}/reports/(?P<report>[A-Za-z0-9-]+)"


def text(most: int = 65_536) -> dict[str, Any]:
    return {"type": "string", "maxLength": most}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    shape = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**shape, "required": list(required)}


def opened(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


UUID = {"type": "string", "pattern": r"^\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}$"}
LINK = opened({"href": {"type": "string", "format": "uri"}})
ACCOUNT = opened(
    {"type": {"enum": ["user", "app_user"]}, "uuid": UUID, "display_name": text()},
)
COMMENT_BODY = closed({"content": closed({"raw": text(32_768)}, "raw")}, "content")
COMMENT = opened(
    {
        "type": {"const": "pullrequest_comment"},
        "id": {"type": "integer"},
        "content": opened({"raw": text()}),
        "user": ACCOUNT,
        "deleted": {"type": "boolean"},
        "links": opened({"html": LINK}),
    }
)
END = opened(
    {
        "branch": opened({"name": text()}),
        "commit": opened({"hash": {"type": "string", "pattern": "^[0-9a-f]{12}$"}}),
        "repository": {
            "anyOf": [{"type": "null"}, opened({"full_name": text(), "uuid": UUID})],
        },
    }
)
PULL = opened(
    {
        "type": {"const": "pullrequest"},
        "id": {"type": "integer"},
        "title": text(),
        "state": {"enum": ["OPEN", "DECLINED", "MERGED", "SUPERSEDED"]},
        "draft": {"type": "boolean"},
        "author": ACCOUNT,
        "source": END,
        "destination": END,
        "merge_commit": {"anyOf": [{"type": "null"}, opened({"hash": text()})]},
        "links": opened({"html": LINK}),
    }
)
STATUS_BODY = closed(
    {
        "key": text(40),
        "state": {"enum": ["FAILED", "INPROGRESS", "STOPPED", "SUCCESSFUL"]},
        "name": text(255),
        "url": {"type": "string", "pattern": "^https?://"},
        "description": text(255),
    },
    "key",
    "state",
    "url",
)
REPORT_BODY = closed(
    {
        "title": text(450),
        "details": text(2000),
        "report_type": {"enum": ["BUG", "COVERAGE", "SECURITY", "TEST"]},
        "reporter": text(450),
        "result": {"enum": ["FAILED", "PASSED", "PENDING"]},
        "link": {"type": "string", "pattern": "^https?://"},
        "data": {
            "type": "array",
            "maxItems": 10,
            "items": closed(
                {
                    "title": text(450),
                    "type": {"enum": ["BOOLEAN", "DATE", "DURATION", "LINK", "NUMBER", "TEXT"]},
                    "value": {},
                },
                "title",
                "type",
                "value",
            ),
        },
    },
    "title",
    "details",
    "report_type",
)
ANNOTATIONS_BODY = {
    "type": "array",
    "minItems": 1,
    "maxItems": 100,
    "items": closed(
        {
            "external_id": text(450),
            "annotation_type": {"enum": ["BUG", "CODE_SMELL", "VULNERABILITY"]},
            "severity": {"enum": ["CRITICAL", "HIGH", "LOW", "MEDIUM"]},
            "result": {"enum": ["FAILED", "IGNORED", "PASSED", "SKIPPED"]},
            "summary": text(450),
            "details": text(2000),
            "path": text(2000),
            "line": {"type": "integer", "minimum": 0},
            "link": {"type": "string", "pattern": "^https?://"},
        },
        "external_id",
        "annotation_type",
        "summary",
    ),
}

RESTRICTION = opened(
    {
        "kind": {
            "enum": [
                "require_tasks_to_be_completed",
                "allow_auto_merge_when_builds_pass",
                "require_passing_builds_to_merge",
                "force",
                "require_all_dependencies_merged",
                "require_commits_behind",
                "restrict_merges",
                "enforce_merge_checks",
                "reset_pullrequest_changes_requested_on_change",
                "require_no_changes_requested",
                "smart_reset_pullrequest_approvals",
                "push",
                "require_approvals_to_merge",
                "require_default_reviewer_approvals_to_merge",
                "reset_pullrequest_approvals_on_change",
                "delete",
            ]
        },
        "branch_match_kind": {"enum": ["branching_model", "glob"]},
        "branch_type": {
            "enum": ["feature", "bugfix", "release", "hotfix", "development", "production"]
        },
        "pattern": text(),
        "value": {"type": "integer"},
        "users": {"type": "array", "items": ACCOUNT},
        "groups": {"type": "array", "items": opened({"slug": text()})},
    },
    "kind",
    "branch_match_kind",
    "pattern",
)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What may be asked, and what is answered: `page` says that the answer is a page of it."""

    name: str
    method: str
    path: str
    scope: str
    status: int = 200
    query: tuple[str, ...] = ()
    body: Any = None
    answer: Any = None
    page: bool = False


PAGED = ("pagelen", "page", "sort", "q")
OPERATIONS = (
    Operation(name="user", method="GET", path="/2.0/user", scope="account", answer=ACCOUNT),
    Operation(
        name="commit",
        method="GET",
        path=_COMMIT,
        scope="repository",
        answer=opened({"hash": text()}),
    ),
    Operation(
        name="pulls",
        method="GET",
        path=f"{_REPOSITORY}/pullrequests",
        scope="pullrequest",
        query=(*PAGED, "state"),
        answer=PULL,
        page=True,
    ),
    Operation(
        name="branch",
        method="GET",
        path=f"{_REPOSITORY}/refs/branches/(?P<branch>[^/]+)",
        scope="repository",
        answer=opened({"name": text()}),
    ),
    Operation(
        name="restrictions",
        method="GET",
        path=f"{_REPOSITORY}/branch-restrictions",
        scope="repository:admin",
        query=("kind", "pattern", *PAGED),
        answer=RESTRICTION,
        page=True,
    ),
    Operation(name="pull", method="GET", path=_PULL, scope="pullrequest", answer=PULL),
    Operation(
        name="comments",
        method="GET",
        path=f"{_PULL}/comments",
        scope="pullrequest",
        query=PAGED,
        answer=COMMENT,
        page=True,
    ),
    Operation(
        name="comment",
        method="POST",
        path=f"{_PULL}/comments",
        scope="pullrequest",
        status=201,
        body=COMMENT_BODY,
        answer=COMMENT,
    ),
    Operation(
        name="edit",
        method="PUT",
        path=f"{_PULL}/comments/(?P<comment>[0-9]+)",
        scope="pullrequest",
        body=COMMENT_BODY,
        answer=COMMENT,
    ),
    Operation(
        name="delete",
        method="DELETE",
        path=f"{_PULL}/comments/(?P<comment>[0-9]+)",
        scope="pullrequest",
        status=204,
    ),
    Operation(
        name="status",
        method="POST",
        path=f"{_COMMIT}/statuses/build",
        scope="repository",
        status=201,
        body=STATUS_BODY,
        answer=opened({"key": text(), "state": text()}),
    ),
    Operation(
        name="report",
        method="PUT",
        path=_REPORT,
        scope="repository",
        body=REPORT_BODY,
        answer=opened({"type": {"const": "report"}}),
    ),
    Operation(name="no_report", method="DELETE", path=_REPORT, scope="repository", status=204),
    Operation(
        name="annotations",
        method="POST",
        path=f"{_REPORT}/annotations",
        scope="repository",
        body=ANNOTATIONS_BODY,
        answer={"type": "array"},
    ),
)


class NotDescribed(AssertionError):
    """A request or an answer that the description does not have."""


def described(
    method: str,
    path: str,
    query: dict[str, str],
    body: Any,
    *,
    operations: tuple[Operation, ...] = OPERATIONS,
) -> tuple[Operation, dict[str, str]]:
    """The operation of a request and what its path names; raises NotDescribed."""
    for operation in operations:
        match = re.fullmatch(operation.path, path)
        if match is None or operation.method != method:
            continue
        if query.keys() - set(operation.query):
            raise NotDescribed(f"{operation.name} has no parameter {query}")
        if (body is None) != (operation.body is None):
            raise NotDescribed(f"{operation.name}: a body is wanted, or none is")
        if operation.body is not None:
            fits(operation.name, operation.body, body)
        return operation, match.groupdict()
    raise NotDescribed(f"{method} {path} is not described")


def fits(what: str, schema: Any, value: Any) -> None:
    """Raises NotDescribed when a value is not of the schema."""
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(value)
    )
    if error is not None:
        raise NotDescribed(f"{what}: {error.json_path} {error.message[:300]}")
