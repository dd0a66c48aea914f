"""States on a branch of a GitHub repository, through its Git data API.

The same `GitStore` on another kind of repository: no git, no clone, no worktree.  A write makes a
tree, a commit whose only parent is the head that was read, and moves the branch without force,
which GitHub does only as a fast-forward: compare-and-swap over the whole branch.  Author and
committer are left out, so GitHub signs the commit as the token's account and shows it verified.

A read costs 4 requests; a write on the head that was read last costs 3, which count as writes, and
the next one 3 again: what is in our own commit is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from chalice_ci.errors import ForgeError, StateNotRecorded
from chalice_ci.state.git import Advance, Blob, git_blob_id
from chalice_ci.state.schema import MAX_BYTES, StateDamaged

_FILES = frozenset({"100644", "100755"})
_HEADS = "refs/heads/"


@dataclass(frozen=True, kw_only=True)
class TreeEntry:
    """A file, a folder or a submodule in a tree; `size` is 0 for what is no file."""

    path: str
    mode: str
    sha: str
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The entries of a tree; `truncated` when a recursive listing was too long for one answer."""

    entries: tuple[TreeEntry, ...]
    truncated: bool = False


class GitDataApi(Protocol):
    """A forge's Git data API of one repository. Every failure is a ForgeError."""

    @property
    def name(self) -> str:
        """How a message names the repository."""
        ...

    def default_branch(self) -> str:
        """The branch that HEAD names."""
        ...

    def ref(self, name: str) -> str | None:
        """The commit of a ref such as "heads/main", None when there is no such ref."""
        ...

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        ...

    def tree(self, oid: str, *, recursive: bool) -> Tree:
        """A tree's entries, with those of its folders when `recursive`."""
        ...

    def blob(self, oid: str) -> bytes:
        """A file's content."""
        ...

    def create_tree(self, base: str | None, files: Mapping[str, bytes | None]) -> str:
        """A tree: the base's with these files replaced, or removed (None); its id."""
        ...

    def create_commit(self, message: str, *, tree: str, parent: str | None) -> str:
        """A commit; no ref is moved. Its id."""
        ...

    def create_ref(self, name: str, commit: str) -> str:
        """Make a ref; "" or why it was refused."""
        ...

    def move_ref(self, name: str, commit: str) -> str:
        """Fast-forward a ref; "" or why it was refused."""
        ...


class GitHubObjects:
    """The objects of a repository, each asked for once: they never change."""

    def __init__(self, api: GitDataApi) -> None:
        self._api = api
        self._trees: dict[str, str] = {}
        self._listings: dict[str, Tree] = {}
        self._contents: dict[str, bytes] = {}

    def blob(self, commit: str, path: str) -> Blob | None:
        """The file at `path`, None if there is none; links and folders raise StateDamaged."""
        listing = self._listing(self._tree_of(commit))
        if listing.truncated:
            entry = self._walk(commit, path)
        else:
            entry = next((e for e in listing.entries if e.path == path), None)
        if entry is None:
            return None
        if entry.mode not in _FILES:
            raise StateDamaged(
                "This is not a file.", where=path, fix="Remove what is in its place."
            )
        return Blob(oid=entry.sha, size=entry.size)

    def content(self, blob: Blob, path: str, *, limit: int = MAX_BYTES) -> bytes:
        """The bytes of a file; raises StateDamaged above `limit` bytes."""
        if blob.size > limit:
            raise StateDamaged(
                f"The file has {blob.size} bytes; the bound is {limit}.",
                where=path,
                fix="Restore the file that Chalice wrote.",
            )
        if blob.oid in self._contents:
            return self._contents[blob.oid]
        data = self._api.blob(blob.oid)
        if git_blob_id(data, len(blob.oid)) != blob.oid:
            raise ForgeError(
                f"What was sent as {path} is not the file that was asked for.",
                where=self._api.name,
                fix="Run again; if it stays so, look at proxies between.",
            )
        self._contents[blob.oid] = data
        return data

    def files(self, commit: str) -> tuple[str, ...]:
        """The paths of all files at a commit."""
        listing = self._listing(self._tree_of(commit))
        if listing.truncated:
            raise ForgeError(
                "The branch has more files than GitHub lists at once.",
                where=self._api.name,
                fix="Keep the state on a branch of its own (state.branch in chalice-ci.yml).",
            )
        return tuple(entry.path for entry in listing.entries if entry.mode != "040000")

    def commit(self, parent: str | None, files: Mapping[str, bytes | None], message: str) -> str:
        """A commit on top of `parent` with these files replaced; no ref is moved."""
        base = None if parent is None else self._tree_of(parent)
        tree = self._api.create_tree(base, files)
        made = self._api.create_commit(message, tree=tree, parent=parent)
        self._trees[made] = tree
        if base is not None:
            self._derive_listing(base, tree, files)
        return made

    def _derive_listing(self, base: str, tree: str, files: Mapping[str, bytes | None]) -> None:
        """What is in a tree that we made is known without asking."""
        known = self._listings.get(base)
        if known is None or known.truncated:
            return
        entries = {entry.path: entry for entry in known.entries}
        for path, data in files.items():
            if data is None:
                entries.pop(path, None)
            else:
                oid = git_blob_id(data, len(tree))
                entries[path] = TreeEntry(path=path, mode="100644", sha=oid, size=len(data))
        self._listings[tree] = Tree(entries=tuple(entries.values()))

    def _tree_of(self, commit: str) -> str:
        if commit not in self._trees:
            self._trees[commit] = self._api.tree_of(commit)
        return self._trees[commit]

    def _listing(self, oid: str, *, recursive: bool = True) -> Tree:
        key = oid if recursive else f"{oid}:"
        if key not in self._listings:
            self._listings[key] = self._api.tree(oid, recursive=recursive)
        return self._listings[key]

    def _walk(self, commit: str, path: str) -> TreeEntry | None:
        """The entry, folder by folder."""
        oid, parts = self._tree_of(commit), path.split("/")
        for depth, part in enumerate(parts, 1):
            entries = self._listing(oid, recursive=False).entries
            entry = next((e for e in entries if e.path == part), None)
            if entry is None or depth == len(parts):
                return entry
            if entry.mode != "040000":
                return None
            oid = entry.sha
        return None


class GitHubRepository:
    """A repository on GitHub as `GitStore` wants it; see the module."""

    def __init__(self, api: GitDataApi) -> None:
        self._api = api
        self._objects = GitHubObjects(api)

    @property
    def name(self) -> str:
        """The owner and the name."""
        return self._api.name

    @property
    def objects(self) -> GitHubObjects:
        """Its objects."""
        return self._objects

    def default_branch(self) -> str:
        """The branch that HEAD names."""
        return self._api.default_branch()

    def head(self, ref: str) -> str | None:
        """The commit of "refs/heads/..." or of "HEAD", the default branch."""
        if ref == "HEAD":
            ref = f"{_HEADS}{self._api.default_branch()}"
        return self._api.ref(ref.removeprefix("refs/"))

    def advance(self, ref: str, *, new: str, old: str | None) -> Advance:
        """Fast-forward or make the branch; what GitHub refuses for good is an error."""
        name = ref.removeprefix("refs/")
        create_or_move = self._api.create_ref if old is None else self._api.move_ref
        refusal = create_or_move(name, new)
        if not refusal:
            return Advance(done=True)
        # Also when our own request came through and only its answer was lost.
        now = self._api.ref(name)
        if now == new:
            return Advance(done=True)
        if now != old:
            return Advance(done=False, reason=refusal)
        branch = ref.removeprefix(_HEADS)
        raise StateNotRecorded(
            f"GitHub does not let the branch {branch} be moved: {refusal}.",
            where=self.name,
            fix=f"Let the workflow's identity push to {branch} (a bypass in the branch's rule), or "
            "name an unprotected branch as state.branch in chalice-ci.yml.",
        )
