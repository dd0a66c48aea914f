"""GitHub's GraphQL API, as far as it is asked for: the official schema, executed by graphql-core.

`@octokit/graphql-schema` is what GitHub publishes; of its 1,600 types only those are kept that our
requests name, so that it is read in milliseconds. A document that does not hold against it is
invalid, whatever it is about. The answers are made of the emulator's git objects, with the rights
of the token that asks; `createCommitOnBranch` is done under a lock, as one step.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    build_ast_schema,
    execute_sync,
    parse,
    validate,
)
from graphql.language import (
    InterfaceTypeDefinitionNode,
    ListTypeNode,
    NonNullTypeNode,
    ObjectTypeDefinitionNode,
    TypeNode,
)

from offline_github.packages import installed

_OBJECTS = ("Query", "Mutation", "User", "Repository", "Node")
_GIT = ("Ref", "GitObject", "Commit", "CommitConnection", "Blob", "Tree", "TreeEntry")
_CHANGES = ("CommitMessage", "FileChanges", "FileAddition", "FileDeletion", "CommittableBranch")
_COMMITTING = ("CreateCommitOnBranchInput", "CreateCommitOnBranchPayload")
_SCALARS = ("GitObjectID", "Base64String", "URI", "DateTime")
KEPT = frozenset((*_OBJECTS, *_GIT, *_CHANGES, *_COMMITTING, *_SCALARS))
BUILT_IN = frozenset({"String", "Int", "Float", "Boolean", "ID"})
LONGEST_TEXT = 512_000

_DESCRIPTION = re.compile(r'"""(.*?)"""', re.DOTALL)
_DEFINITION = re.compile(
    r"^(?:type|interface|input|enum|union|scalar) (\w+)[^\n{]*(?:\{.*?^\}|$)",
    re.DOTALL | re.MULTILINE,
)

Send = Callable[[str, str, Any], tuple[int, Any]]
"""A method, a path and a document to the emulator with the caller's token: status and answer."""


class _Refusal(Exception):
    """An error with a type, as GitHub answers it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@cache
def schema() -> GraphQLSchema:
    """GitHub's schema without the types that are not asked for."""
    text = (installed() / "@octokit/graphql-schema/schema.graphql").read_text("utf-8")
    blocks = {m[1]: m[0] for m in _DEFINITION.finditer(_DESCRIPTION.sub("", text))}
    document = parse("\n".join(blocks[name] for name in sorted(KEPT)), no_location=True)
    return build_ast_schema(
        DocumentNode(definitions=tuple(_pruned(document))), assume_valid_sdl=True
    )


def _pruned(document: DocumentNode) -> Iterator[Any]:
    for definition in document.definitions:
        if isinstance(definition, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
            yield replace(
                definition,
                directives=(),
                interfaces=tuple(i for i in definition.interfaces or () if i.name.value in KEPT),
                fields=tuple(
                    replace(field, directives=(), arguments=_kept(field.arguments or ()))
                    for field in _kept(definition.fields or ())
                ),
            )
        else:
            yield replace(definition, directives=())


def _kept(those: Iterable[Any]) -> tuple[Any, ...]:
    """The fields or arguments of a type that is known here."""
    return tuple(one for one in those if _named(one.type) in KEPT | BUILT_IN)


def _named(node: TypeNode) -> str:
    while isinstance(node, NonNullTypeNode | ListTypeNode):
        node = node.type
    name: str = node.name.value  # type: ignore[attr-defined]
    return name


def asked_for(body: bytes) -> str:
    """The field that a request begins with, such as "viewer"; "" when it can't be told."""
    found = re.match(r"[^{]*\{\s*(\w+)", str(_query(body)))
    return found[1] if found else ""


def _query(body: bytes) -> object:
    try:
        return json.loads(body)["query"]
    except (ValueError, KeyError, TypeError):
        return ""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer of the GraphQL API; `invalid` says what of the request the schema does not have."""

    status: int
    document: Mapping[str, Any]
    invalid: tuple[str, ...] = ()


class GraphQL:
    """The API of a running emulator."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def answer(self, body: bytes, *, viewer: Mapping[str, Any], send: Send) -> Answered:
        """What a request is answered, executed against the schema."""
        try:
            asked = json.loads(body)
            document = parse(asked["query"], no_location=True)
        except (ValueError, KeyError, TypeError, GraphQLError) as error:
            return Answered(
                status=400, document={"message": "Problems parsing"}, invalid=(str(error),)
            )
        errors = validate(schema(), document)
        if not errors:
            root = {
                "viewer": viewer,
                "repository": lambda _info, owner, name, **_: _repository(send, f"{owner}/{name}"),
                "createCommitOnBranch": lambda _info, input: self._committed(send, input),
            }
            result = execute_sync(
                schema(), document, root_value=root, variable_values=asked.get("variables")
            )
            # What is not of ours went wrong before a resolver was asked: a variable's value.
            errors = [
                error
                for error in result.errors or ()
                if not isinstance(error.original_error, _Refusal)
            ]
            if not errors:
                return Answered(status=200, document=_shown(result.data, result.errors or []))
        told = tuple(error.message for error in errors)
        return Answered(
            status=200, document={"errors": [{"message": text} for text in told]}, invalid=told
        )

    def _committed(self, send: Send, given: Mapping[str, Any]) -> Mapping[str, Any]:
        name, branch = given["branch"]["repositoryNameWithOwner"], given["branch"]["branchName"]
        where, ref = f"/repos/{name}/git", branch.removeprefix("refs/heads/")
        with self._turn:
            head = _asked(send, "GET", f"{where}/ref/heads/{ref}", missing=f'No branch "{ref}".')
            parent = head["object"]["sha"]
            if parent != given["expectedHeadOid"]:
                raise _Refusal(
                    "STALE_DATA",
                    f'Expected branch to point to "{given["expectedHeadOid"]}" but it did not. '
                    "Pull and try again.",
                )
            tree = _asked(send, "GET", f"{where}/commits/{parent}")["tree"]["sha"]
            changes = given["fileChanges"]
            there = {entry["path"] for entry in _listed(send, name, tree)}
            for removed in changes.get("deletions", ()):
                if removed["path"] not in there:
                    raise _Refusal(
                        "UNPROCESSABLE",
                        "A path was requested for deletion which does not exist as of commit oid "
                        f"`{parent}`",
                    )
            entries = [
                *({"path": one["path"], "sha": None} for one in changes.get("deletions", ())),
                *(
                    {
                        "path": one["path"],
                        "sha": _asked(
                            send,
                            "POST",
                            f"{where}/blobs",
                            {"content": one["contents"], "encoding": "base64"},
                        )["sha"],
                    }
                    for one in changes.get("additions", ())
                ),
            ]
            document = {
                "base_tree": tree,
                "tree": [{"mode": "100644", "type": "blob", **entry} for entry in entries],
            }
            made = _asked(send, "POST", f"{where}/trees", document)
            message = given["message"]["headline"]
            if given["message"].get("body"):
                message += f"\n\n{given['message']['body']}"
            document = {"message": message, "tree": made["sha"], "parents": [parent]}
            commit = _asked(send, "POST", f"{where}/commits", document)
            document = {"sha": commit["sha"], "force": False}
            _asked(send, "PATCH", f"{where}/refs/heads/{ref}", document)
        return {"commit": _commit(send, name, commit["sha"])}


def _shown(data: Any, errors: list[GraphQLError]) -> dict[str, Any]:
    shown: dict[str, Any] = {"data": data}
    if errors:
        shown["errors"] = [
            {"type": e.original_error.kind, "path": e.path, "message": e.message}
            for e in errors
            if isinstance(e.original_error, _Refusal)
        ]
    return shown


def _asked(send: Send, method: str, path: str, document: Any = None, *, missing: str = "") -> Any:
    status, found = send(method, path, document)
    if status == 403:
        raise _Refusal("FORBIDDEN", "Resource not accessible by integration")
    if status == 404:
        raise _Refusal("NOT_FOUND", missing or "Could not resolve to a node.")
    if status >= 300:
        raise _Refusal("UNPROCESSABLE", str((found or {}).get("message", status)))
    return found


def _repository(send: Send, name: str) -> Mapping[str, Any]:
    found = _asked(
        send,
        "GET",
        f"/repos/{name}",
        missing=f"Could not resolve to a Repository with the name '{name}'.",
    )

    def ref(branch: str) -> Mapping[str, Any] | None:
        status, at = send("GET", f"/repos/{name}/git/ref/heads/{branch}", None)
        if status in {404, 409}:
            return None
        if status == 403:
            raise _Refusal("FORBIDDEN", "Resource not accessible by integration")
        return {"name": branch, "target": _commit(send, name, at["object"]["sha"])}

    return {
        "ref": lambda _info, qualifiedName: ref(qualifiedName.removeprefix("refs/heads/")),
        "defaultBranchRef": lambda _info: ref(found["default_branch"]),
    }


def _commit(send: Send, name: str, sha: str) -> Mapping[str, Any]:
    found = _asked(send, "GET", f"/repos/{name}/git/commits/{sha}")
    tree = found["tree"]["sha"]
    listing: list[Any] = []

    def file(_info: Any, path: str) -> Mapping[str, Any] | None:
        if not listing:
            listing.append({entry["path"]: entry for entry in _listed(send, name, tree)})
        entry = listing[0].get(path)
        return None if entry is None else _entry(send, name, entry)

    return {
        "__typename": "Commit",
        "oid": sha,
        "message": found["message"],
        "tree": {"oid": tree},
        "parents": lambda _info, **_: {"nodes": [{"oid": p["sha"]} for p in found["parents"]]},
        "file": file,
    }


def _listed(send: Send, name: str, tree: str) -> Any:
    return _asked(send, "GET", f"/repos/{name}/git/trees/{tree}?recursive=1")["tree"]


def _entry(send: Send, name: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = {"blob": "Blob", "tree": "Tree", "commit": "Commit"}[entry["type"]]
    content: dict[str, Any] = {"__typename": kind, "oid": entry["sha"]}
    if kind == "Blob":
        found = _asked(send, "GET", f"/repos/{name}/git/blobs/{entry['sha']}")
        raw = base64.b64decode(found["content"])
        try:
            text: str | None = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        content |= {
            "byteSize": len(raw),
            "isBinary": text is None,
            "isTruncated": len(raw) > LONGEST_TEXT,
            "text": text and text[:LONGEST_TEXT],
        }
    return {
        "path": entry["path"],
        "oid": entry["sha"],
        "mode": int(entry["mode"], 8),
        "type": entry["type"],
        "size": entry.get("size", 0),
        # Of a submodule nothing is here.
        "object": None if kind == "Commit" else content,
    }
