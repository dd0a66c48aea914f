"""GitHub's files, branches and commits, for the state's store: what is read and recorded there.

Reads and writes of a branch's files go through GraphQL (`github_heads.py`), one request each.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from github import InputGitTreeElement
from github.ContentFile import ContentFile
from github.GitBlob import GitBlob
from github.GitCommit import GitCommit
from github.GithubObject import NotSet
from github.GitTree import GitTree

from chalice_ci.errors import ForgeError
from chalice_ci.forge import github_heads as heads
from chalice_ci.forge.answer import Garbled, count_of, oid_of, text_of
from chalice_ci.forge.github_api import (
    READ_CONTENTS,
    STALE_STATUS,
    WRITE_CONTENTS,
    GitHubApi,
    Operation,
    Refused,
)
from chalice_ci.forge.port import NotFound
from chalice_ci.state.github import Committed, Head, Tree, TreeEntry, is_made

_T = TypeVar("_T")


class GitHubData:
    """The Git data API of a repository, for the state store."""

    def __init__(self, api: GitHubApi) -> None:
        self._api = api

    def _call(
        self,
        operation: Operation,
        ask: Callable[[], _T],
        *,
        happened: Callable[[], _T | None] | None = None,
    ) -> _T:
        """What is deployed and not recorded is worse than a run that waits some minutes."""
        return self._api.call(operation, ask, happened=happened, patient=True)

    @property
    def name(self) -> str:
        """The repository."""
        return self._api.repository

    def default_branch(self) -> str:
        """The branch that HEAD names."""
        return self._call(
            Operation(doing="read the repository", permission="metadata: read"),
            lambda: text_of(self._api.repo.default_branch),
        )

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self._call(
            Operation(doing="read a commit", permission=READ_CONTENTS),
            lambda: oid_of(self._api.repo.get_git_commit(commit).tree.sha),
        )

    def tree(self, name: str, *, recursive: bool) -> Tree | None:
        """A tree's entries; None when there is no such tree."""

        def read() -> Tree:
            found = self._api.repo.get_git_tree(name, recursive=recursive)
            entries = (
                TreeEntry(
                    path=text_of(entry.path),
                    mode=text_of(entry.mode),
                    sha=oid_of(entry.sha),
                    size=count_of(entry.size) if entry.type == "blob" else 0,
                )
                for entry in found.tree
            )
            return Tree(entries=tuple(entries), truncated=found.truncated is True)

        operation = Operation(doing="list the files of a commit", permission=READ_CONTENTS)
        try:
            return self._call(operation, read)
        except NotFound:
            return None

    def head(self, branch: str | None, files: Sequence[str]) -> Head | None:
        """The newest commit of a branch with files of it: one request."""
        operation = Operation(
            doing=f"read the branch {branch}" if branch else "read the default branch",
            permission=READ_CONTENTS,
        )
        text = heads.head_query(files, branch=branch)
        variables = heads.head_variables(self.name, files, branch=branch)
        return self._call(operation, lambda: heads.head_of(self._api.query(text, variables), files))

    def commit_on_branch(
        self, branch: str, *, parent: str, files: Mapping[str, bytes | None], message: str
    ) -> Committed:
        """A commit on the branch's head: one request, which also moves the branch."""
        operation = Operation(doing=f"move the branch {branch}", permission=WRITE_CONTENTS)
        variables = heads.commit_variables(
            self.name, branch, parent=parent, files=files, message=message
        )

        def happened() -> Committed | None:
            now = self.head(branch, tuple(files))
            if now is None or not is_made(now, parent=parent, files=files, message=message):
                return None
            return Committed(commit=now.commit, tree=now.tree)

        try:
            return self._call(
                operation,
                lambda: heads.committed(self._api.query(heads.COMMIT, variables)),
                happened=happened,
            )
        except Refused as error:
            return Committed(refusal=error.said, raced=error.status == STALE_STATUS)

    def file(self, path: str, *, branch: str, commit: str) -> str | None:
        """The text of a file of a branch, of the commit when the branch is gone; None without it.

        Raises ForgeError for what is no file of text.
        """
        head = self.head(branch, (path,))
        if head is not None:
            entry = head.files[path]
            if entry is None:
                return None
            if not entry.mode.startswith("100"):
                raise ForgeError(
                    f"{path} is not a file on {branch}.",
                    where=self.name,
                    fix="Put a file in its place: links and folders are not followed.",
                )
            data = head.contents.get(entry.sha)
            return (self.blob(entry.sha) if data is None else data).decode("utf-8", "replace")

        # That the commit can be read shows the permission: what is not found then is not there.
        self.tree_of(commit)

        def read() -> str:
            found = self._api.repo.get_contents(path, ref=commit)
            if isinstance(found, list) or found.type != "file":
                raise Garbled
            return _decoded(found).decode("utf-8", "replace")

        try:
            return self._call(
                Operation(doing=f"read {path} of {branch}", permission=READ_CONTENTS), read
            )
        except NotFound:
            return None

    def changed_since(self, branch: str, commit: str) -> tuple[str, ...] | None:
        """The files in which a branch differs from a commit, None when there is no such branch."""
        head = self.head(branch, ())
        if head is None:
            return None
        if head.commit == commit:
            return ()
        return self._call(
            Operation(doing=f"compare {branch} with a commit", permission=READ_CONTENTS),
            lambda: tuple(
                text_of(file.filename) for file in self._api.repo.compare(commit, head.commit).files
            ),
        )

    def blob(self, oid: str) -> bytes:
        """A file's content."""
        return self._call(
            Operation(doing="read a file", permission=READ_CONTENTS),
            lambda: _decoded(self._api.repo.get_git_blob(oid)),
        )

    def create_tree(self, base: str | None, files: Mapping[str, bytes | None]) -> str:
        """A tree with these files replaced or removed. Making it again gives the same one."""
        elements = [
            InputGitTreeElement(path, "100644", "blob", **self._content(data))
            for path, data in files.items()
        ]
        return self._call(
            Operation(doing="write a tree", permission=WRITE_CONTENTS),
            lambda: oid_of(
                self._api.repo.create_git_tree(
                    elements, base_tree=NotSet if base is None else self._tree(base)
                ).sha
            ),
        )

    def create_commit(self, message: str, *, tree: str, parent: str | None) -> str:
        """A commit. A second one after a lost answer is never referred to."""
        parents = [] if parent is None else [self._commit(parent)]
        return self._call(
            Operation(doing="write a commit", permission=WRITE_CONTENTS),
            lambda: oid_of(
                self._api.repo.create_git_commit(message, self._tree(tree), parents).sha
            ),
        )

    def create_ref(self, name: str, commit: str) -> str:
        """Make a ref; "" or why it was refused."""
        return self._moved(
            name, lambda: oid_of(self._api.repo.create_git_ref(f"refs/{name}", commit).object.sha)
        )

    def refs(self, prefix: str) -> tuple[str, ...]:
        """The names of all refs that begin with "heads/...": GitHub gives them in one answer."""

        def read() -> tuple[str, ...]:
            url = f"/repos/{self.name}/git/matching-refs/{prefix}"
            # PyGithub would ask for pages, which this request does not have.
            _, found = self._api.requester.requestJsonAndCheck("GET", url)
            listed: Any = found
            return tuple(text_of(ref["ref"]) for ref in listed)

        operation = Operation(
            doing=f"list the branches {_branch(prefix)}*", permission=READ_CONTENTS
        )
        return self._call(operation, read)

    def delete_ref(self, name: str) -> None:
        """Delete "heads/..."; one that is gone already is fine."""
        operation = Operation(doing=f"delete the branch {_branch(name)}", permission=WRITE_CONTENTS)
        try:
            self._call(
                operation,
                lambda: self._api.requester.requestJsonAndCheck(
                    "DELETE", f"/repos/{self.name}/git/refs/{name}"
                ),
            )
        except NotFound:
            return
        except Refused as error:
            # GitHub's answer for a ref that does not exist.
            if error.status != 422 or "does not exist" not in error.said:
                raise

    def _moved(self, name: str, move: Callable[[], str]) -> str:
        operation = Operation(doing=f"move the branch {_branch(name)}", permission=WRITE_CONTENTS)
        try:
            self._call(operation, move)
        except Refused as error:
            if error.status not in {409, 422}:
                raise
            return error.said
        return ""

    def _content(self, data: bytes | None) -> dict[str, Any]:
        """Text goes with the tree, which saves a request; anything else as a blob. A file without
        an object is one that is removed.
        """
        if data is None:
            return {"sha": None}
        try:
            return {"content": data.decode("utf-8")}
        except UnicodeDecodeError:
            text = base64.b64encode(data).decode("ascii")
            sha = self._call(
                Operation(doing="write a file", permission=WRITE_CONTENTS),
                lambda: oid_of(self._api.repo.create_git_blob(text, "base64").sha),
            )
            return {"sha": sha}

    def _tree(self, oid: str) -> GitTree:
        """PyGithub's object of a tree that exists, without asking for it."""
        return GitTree(self._api.requester, {}, {"sha": oid}, completed=True)

    def _commit(self, oid: str) -> GitCommit:
        return GitCommit(self._api.requester, {}, {"sha": oid}, completed=True)


def _decoded(found: ContentFile | GitBlob) -> bytes:
    """What a file holds; raises Garbled."""
    if found.encoding != "base64":
        raise Garbled
    try:
        return base64.b64decode(text_of(found.content))
    except binascii.Error as error:
        raise Garbled from error


def _branch(name: str) -> str:
    return name.removeprefix("heads/")
