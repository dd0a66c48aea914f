"""The offline Azure DevOps has the shapes that Microsoft's client library has."""

from __future__ import annotations

from typing import Any

import pytest

from offline_azure.client_library import differences
from offline_azure.description import COMMENT, OPERATIONS, described, named
from offline_bitbucket.description import NotDescribed

SHAPES = [
    pytest.param(shape, id=f"{operation.name}-{what}")
    for operation in OPERATIONS
    for what, shape in (("body", operation.body), ("answer", operation.answer))
    if shape is not None
]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_field_and_value_is_one_of_the_librarys(shape: dict[str, Any]) -> None:
    assert differences(shape) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"text": {"type": "string"}}, "Comment.text: there is no such field"),
        ({"content": {"type": "integer"}}, "Comment.content: string"),
        ({"id": {"type": "string"}}, "Comment.id: number"),
        ({"id": {"const": "1"}}, "Comment.id: no value 1"),
        ({"commentType": {"enum": ["text", "html"]}}, "Comment.commentType: no value html"),
        ({"author": COMMENT}, "Comment.author: VSSInterfaces.IdentityRef"),
        ({"usersLiked": {"type": "array", "items": COMMENT}}, "VSSInterfaces.IdentityRef"),
    ],
)
def test_a_shape_that_is_another_is_found(wrong: dict[str, Any], told: str) -> None:
    (found,) = differences(named("Comment", {"properties": wrong}))
    assert told in found
    assert differences(named("Coment", {"properties": {}}))


_REPOSITORY = "/o/p/_apis/git/repositories/r"
_VERSION = {"api-version": "7.1"}


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("GET", "/o/_apis/connectionData", _VERSION, None),
        ("GET", f"{_REPOSITORY}/pullrequests/1", {}, None),
        ("GET", f"{_REPOSITORY}/pullrequests/1", {**_VERSION, "$top": "1"}, None),
        ("POST", f"{_REPOSITORY}/pullRequests/1/threads", _VERSION, {"comments": []}),
        ("POST", f"{_REPOSITORY}/pullRequests/1/threads", _VERSION, None),
        ("PUT", f"{_REPOSITORY}/pullRequests/1/threads", _VERSION, None),
    ],
)
def test_a_request_that_is_not_described_is_refused(
    method: str, path: str, query: dict[str, str], body: Any
) -> None:
    with pytest.raises(NotDescribed):
        described(method, path, query, body)
