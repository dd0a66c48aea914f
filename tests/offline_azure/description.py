"""The operations that the adapter uses, as Microsoft describes them.

Transcribed from the OpenAPI description of Git 7.1, specification/git/7.1/git.json of
MicrosoftDocs/vsts-rest-api-specs at adb28786 of May 2026 (MIT): paths, methods, query parameters,
what a body may hold, enumerations. Every request is held against it, and so is every answer of the
server. A shape has the name of its definition as its title, by which test_azure_description.py
compares it with Microsoft's client library. `scope` is the permission that a request needs, as
"Git permissions" and the error TF401027 name it.

That `connectionData` is answered, and what it holds, is after Microsoft's client libraries: it is
in none of the descriptions.
"""

from __future__ import annotations

from typing import Any

from offline_bitbucket.description import NotDescribed, Operation, closed, opened, text
from offline_bitbucket.description import described as described_by

READ, CONTRIBUTE = "GenericRead", "PullRequestContribute"
LARGEST = 150_000
"""UTF-16 units: "Comments can be up to 150,000 characters"."""

_REPOSITORY = r"/(?P<organization>[^/]+)/(?P<project>[^/]+)/_apis/git/repositories/(?P<id>[^/]+)"
_PULL = rf"{_REPOSITORY}/pull[rR]equests/(?P<number>[0-9]+)"
_VERSION = ("api-version",)
_PAGED = ("$top", "$skip")

GUID = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
SHA = {"type": "string", "pattern": "^[0-9a-f]{40}$"}
REF = {"type": "string", "pattern": "^refs/heads/."}
COUNT = {"type": "integer", "minimum": 0}
STATUSES = ("unknown", "active", "fixed", "wontFix", "closed", "byDesign", "pending")


def named(title: str, shape: dict[str, Any]) -> dict[str, Any]:
    return {**shape, "title": title}


IDENTITY = named(
    "IdentityRef", opened({"id": GUID, "displayName": text(), "uniqueName": text()}, "id")
)
PROJECT = named("TeamProjectReference", opened({"id": GUID, "name": text()}))
REPOSITORY = named("GitRepository", opened({"id": GUID, "name": text(), "project": PROJECT}))
COMMIT = named("GitCommitRef", opened({"commitId": SHA}))
LABEL = named("WebApiTagDefinition", opened({"id": GUID, "name": text(), "active": {}}))
LABEL["properties"]["active"] = {"type": "boolean"}
PULL = named(
    "GitPullRequest",
    opened(
        {
            "pullRequestId": COUNT,
            "title": text(),
            "status": {"enum": ["notSet", "active", "abandoned", "completed", "all"]},
            "isDraft": {"type": "boolean"},
            "createdBy": IDENTITY,
            "sourceRefName": REF,
            "targetRefName": REF,
            "lastMergeSourceCommit": COMMIT,
            "lastMergeTargetCommit": COMMIT,
            "lastMergeCommit": COMMIT,
            "forkSource": named("GitForkRef", opened({"name": text(), "repository": {}}, "name")),
            "repository": REPOSITORY,
            "labels": {"type": "array", "items": LABEL},
        },
        "pullRequestId",
        "title",
        "status",
        "createdBy",
        "sourceRefName",
        "targetRefName",
        "repository",
    ),
)
PULL["properties"]["forkSource"]["properties"]["repository"] = REPOSITORY
COMMENT = named(
    "Comment",
    opened(
        {
            "id": {"type": "integer", "minimum": 1},
            "parentCommentId": COUNT,
            "author": IDENTITY,
            "content": text(LARGEST),
            "commentType": {"enum": ["unknown", "text", "codeChange", "system"]},
            "isDeleted": {"type": "boolean"},
        },
        "id",
        "parentCommentId",
        "author",
        "commentType",
    ),
)
THREAD = named(
    "GitPullRequestCommentThread",
    opened(
        {
            "id": {"type": "integer", "minimum": 1},
            "comments": {"type": "array", "items": COMMENT, "minItems": 1},
            "status": {"enum": list(STATUSES)},
            "isDeleted": {"type": "boolean"},
        },
        "id",
        "comments",
        "isDeleted",
    ),
)
THREAD_BODY = named(
    "GitPullRequestCommentThread",
    closed(
        {
            "comments": {
                "type": "array",
                "minItems": 1,
                "items": named(
                    "Comment",
                    closed(
                        {
                            "parentCommentId": {"const": 0},
                            "commentType": {"const": "text"},
                            "content": text(LARGEST),
                        },
                        "content",
                    ),
                ),
            },
            "status": {"enum": list(STATUSES)},
        },
        "comments",
    ),
)
COMMENT_BODY = named("Comment", closed({"content": text(LARGEST)}, "content"))
CONTEXT = named("GitStatusContext", closed({"name": text(), "genre": text()}, "name"))
STATES = ("notSet", "pending", "succeeded", "failed", "error", "notApplicable")
STATUS_BODY = named(
    "GitPullRequestStatus",
    closed(
        {
            "state": {"enum": list(STATES)},
            "description": text(),
            "context": CONTEXT,
            "targetUrl": {"type": "string", "pattern": "^https?://"},
        },
        "state",
        "context",
    ),
)
STATUS = named("GitPullRequestStatus", opened({"id": COUNT, "state": {"enum": list(STATES)}}))
QUERY = named(
    "GitPullRequestQueryInput",
    closed(
        {
            "type": {"enum": ["notSet", "lastMergeCommit", "commit"]},
            "items": {"type": "array", "items": {"type": "string"}},
        },
        "type",
        "items",
    ),
)
QUERY_BODY = named(
    "GitPullRequestQuery",
    closed({"queries": {"type": "array", "items": QUERY}}, "queries"),
)
QUERY_ANSWER = named(
    "GitPullRequestQuery",
    opened(
        {
            "queries": {"type": "array", "items": QUERY},
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": PULL},
                },
            },
        }
    ),
)
HEAD = named("GitRef", opened({"name": REF, "objectId": SHA}))
ITEM = named("GitItem", opened({"path": text(), "content": text(), "isFolder": {}}, "path"))
ITEM["properties"]["isFolder"] = {"type": "boolean"}
CHANGE = named("GitChange", opened({"item": {}, "originalPath": text()}, "item"))
CHANGE["properties"]["item"] = named("GitItem", opened(ITEM["properties"], "path"))
DIFFERENCE = named(
    "GitCommitDiffs",
    opened(
        {
            "allChangesIncluded": {"type": "boolean"},
            "changes": {"type": "array", "items": CHANGE},
        }
    ),
)
CONNECTION = named(
    "ConnectionData",
    opened(
        {"authenticatedUser": named("Identity", opened({"id": GUID, "providerDisplayName": {}}))}
    ),
)
CONNECTION["properties"]["authenticatedUser"]["properties"]["providerDisplayName"] = text()

OPERATIONS = (
    Operation(
        name="identity",
        method="GET",
        path=r"/(?P<organization>[^/]+)/_apis/connectionData",
        scope="",
        query=_VERSION,
        answer=CONNECTION,
    ),
    Operation(
        name="pulls",
        method="GET",
        path=f"{_REPOSITORY}/pullrequests",
        scope=READ,
        query=(*_VERSION, *_PAGED, "searchCriteria.status"),
        answer=PULL,
        page=True,
    ),
    Operation(name="pull", method="GET", path=_PULL, scope=READ, query=_VERSION, answer=PULL),
    Operation(
        name="refs",
        method="GET",
        path=f"{_REPOSITORY}/refs",
        scope=READ,
        query=(*_VERSION, "filter"),
        answer=HEAD,
        page=True,
    ),
    Operation(
        name="commit",
        method="GET",
        path=rf"{_REPOSITORY}/commits/(?P<commit>[0-9a-f]+)",
        scope=READ,
        query=_VERSION,
        answer=COMMIT,
    ),
    Operation(
        name="file",
        method="GET",
        path=f"{_REPOSITORY}/items",
        scope=READ,
        query=(
            *(*_VERSION, "path", "includeContent", "$format"),
            *("versionDescriptor.versionType", "versionDescriptor.version"),
        ),
        answer=ITEM,
    ),
    Operation(
        name="difference",
        method="GET",
        path=f"{_REPOSITORY}/diffs/commits",
        scope=READ,
        query=(
            *(*_VERSION, *_PAGED, "diffCommonCommit"),
            *("baseVersion", "baseVersionType", "targetVersion", "targetVersionType"),
        ),
        answer=DIFFERENCE,
    ),
    Operation(
        name="query",
        method="POST",
        path=f"{_REPOSITORY}/pullrequestquery",
        scope=READ,
        query=_VERSION,
        body=QUERY_BODY,
        answer=QUERY_ANSWER,
    ),
    Operation(
        name="labels",
        method="GET",
        path=f"{_PULL}/labels",
        scope=READ,
        query=_VERSION,
        answer=LABEL,
        page=True,
    ),
    Operation(
        name="threads",
        method="GET",
        path=f"{_PULL}/threads",
        scope=READ,
        query=_VERSION,
        answer=THREAD,
        page=True,
    ),
    Operation(
        name="comment",
        method="POST",
        path=f"{_PULL}/threads",
        scope=CONTRIBUTE,
        query=_VERSION,
        body=THREAD_BODY,
        answer=THREAD,
    ),
    Operation(
        name="edit",
        method="PATCH",
        path=f"{_PULL}/threads/(?P<thread>[0-9]+)/comments/(?P<comment>[0-9]+)",
        scope=CONTRIBUTE,
        query=_VERSION,
        body=COMMENT_BODY,
        answer=COMMENT,
    ),
    Operation(
        name="delete",
        method="DELETE",
        path=f"{_PULL}/threads/(?P<thread>[0-9]+)/comments/(?P<comment>[0-9]+)",
        scope=CONTRIBUTE,
        query=_VERSION,
    ),
    Operation(
        name="status",
        method="POST",
        path=f"{_PULL}/statuses",
        scope=CONTRIBUTE,
        query=_VERSION,
        body=STATUS_BODY,
        answer=STATUS,
    ),
)


def described(
    method: str, path: str, query: dict[str, str], body: Any
) -> tuple[Operation, dict[str, str]]:
    """The operation of a request and what its path names; raises NotDescribed."""
    operation, at = described_by(method, path, query, body, operations=OPERATIONS)
    version = "7.1-preview.1" if operation.name == "identity" else "7.1"
    if query.get("api-version") != version:
        raise NotDescribed(f"{operation.name} is of version {version}")
    return operation, at
