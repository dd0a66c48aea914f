"""The two requests of GitHub's GraphQL API that the state store is kept with.

One reads the newest commit of a branch with every file that is wanted of it, where the Git data API
takes a request for the ref, the commit, the tree and each file. The other, `createCommitOnBranch`,
replaces files, makes the commit and moves the branch in one step, if the branch is still where it
was expected: compare-and-swap. GitHub signs that commit as the token's account.

Pure: texts and answers. An answer of another shape raises ValueError, TypeError or LookupError.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from chalice_ci.state.git_repository import git_blob_id
from chalice_ci.state.github import Committed, Head, TreeEntry

STALE = "STALE_DATA"
"""The type of the error when the branch is not where it was expected."""

_ENTRY = "fragment entry on TreeEntry{mode oid size object{... on Blob{isTruncated text}}}"

COMMIT = (
    "mutation($input:CreateCommitOnBranchInput!)"
    "{createCommitOnBranch(input:$input){commit{oid tree{oid}}}}"
)


def head_query(files: Sequence[str], *, branch: str | None) -> str:
    """The query for the head of a branch, of the default one when `branch` is None."""
    variables = "".join(f",$p{number}:String!" for number in range(len(files)))
    wanted = "".join(
        f" f{number}:file(path:$p{number}){{...entry}}" for number in range(len(files))
    )
    ref, of = (
        ("", "defaultBranchRef") if branch is None else (",$ref:String!", "ref(qualifiedName:$ref)")
    )
    return (
        f"query($owner:String!,$name:String!{ref}{variables})"
        f"{{repository(owner:$owner,name:$name){{{of}{{target{{...head}}}}}}}}"
        "fragment head on Commit{oid message parents(first:2){nodes{oid}} tree{oid}"
        f"{wanted}}}" + (_ENTRY if files else "")
    )


def head_variables(repository: str, files: Sequence[str], *, branch: str | None) -> dict[str, Any]:
    """The variables of `head_query`."""
    owner, _, name = repository.partition("/")
    ref = {} if branch is None else {"ref": f"refs/heads/{branch}"}
    return {"owner": owner, "name": name} | ref | {f"p{n}": path for n, path in enumerate(files)}


def head_of(data: Mapping[str, Any], files: Sequence[str]) -> Head | None:
    """What `head_query` answered; None when there is no such branch."""
    repository = data["repository"]
    found = repository["ref"] if "ref" in repository else repository["defaultBranchRef"]
    if found is None:
        return None
    target = found["target"]
    contents: dict[str, bytes] = {}
    entries: dict[str, TreeEntry | None] = {}
    for number, path in enumerate(files):
        entry = target[f"f{number}"]
        entries[path] = None if entry is None else _entry(path, entry, contents)
    return Head(
        commit=_text(target["oid"]),
        tree=_text(target["tree"]["oid"]),
        parents=tuple(_text(parent["oid"]) for parent in target["parents"]["nodes"]),
        message=_text(target["message"]),
        files=entries,
        contents=contents,
    )


def commit_variables(
    repository: str, branch: str, *, parent: str, files: Mapping[str, bytes | None], message: str
) -> dict[str, Any]:
    """The variables of `COMMIT`: files with their content, None for one that is removed."""
    headline, _, body = message.partition("\n")
    return {
        "input": {
            "branch": {"repositoryNameWithOwner": repository, "branchName": branch},
            "expectedHeadOid": parent,
            "message": {"headline": headline, "body": body.strip()},
            "fileChanges": {
                "additions": [
                    {"path": path, "contents": base64.b64encode(data).decode("ascii")}
                    for path, data in files.items()
                    if data is not None
                ],
                "deletions": [{"path": path} for path, data in files.items() if data is None],
            },
        }
    }


def committed(data: Mapping[str, Any]) -> Committed:
    """What `COMMIT` answered."""
    made = data["createCommitOnBranch"]["commit"]
    return Committed(commit=_text(made["oid"]), tree=_text(made["tree"]["oid"]))


def _entry(path: str, found: Mapping[str, Any], contents: dict[str, bytes]) -> TreeEntry:
    oid, blob = _text(found["oid"]), found["object"] or {}
    text = blob.get("text")
    # What is long or no text is asked for on its own.
    if isinstance(text, str) and not blob["isTruncated"]:
        data = text.encode("utf-8", "surrogatepass")
        if git_blob_id(data, len(oid)) == oid:
            contents[oid] = data
    # A number here, octal digits in the other API.
    return TreeEntry(path=path, mode=f"{int(found['mode']):06o}", sha=oid, size=int(found["size"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
