"""States on a branch of a GitHub repository, through its APIs.

The same `GitStore` on another kind of repository: no git, no clone, no worktree.  A write replaces
files, makes a commit and moves the branch in one step, which GitHub does only if the branch is at
the head that was read: compare-and-swap over the whole branch.  The commit's author is the token's
account, and GitHub signs it.

A workflow's token has 1,000 requests and 500 writes an hour for the whole repository.  A read of a
state with all that stands beside it is one request, a write on the head that was read last is
one, and the next one is one again: what is in our own commit is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chalice_ci.errors import ForgeError, StateNotRecorded
from chalice_ci.state.git_repository import Advance, Blob, git_blob_id
from chalice_ci.state.schema import MAX_BYTES, StateDamaged

_FILES = frozenset({"100644", "100755"})
_HEADS = "refs/heads/"
_FOLDER = "040000"
_SPREAD = 16.0


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


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest commit of a branch.

    `files` are those that were asked for, None for one that is not there; `contents` of some of
    them, by the id of the content.
    """

    commit: str
    tree: str
    parents: tuple[str, ...] = ()
    message: str = ""
    files: Mapping[str, TreeEntry | None] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Committed:
    """A commit that was made, or why it was refused: `commit` is empty then.

    `raced` when the branch was not where it was expected.
    """

    commit: str = ""
    tree: str = ""
    refusal: str = ""
    raced: bool = False


class GitDataApi(Protocol):
    """A forge's API of the branches and objects of one repository.

    Every failure is a ForgeError.
    """

    @property
    def name(self) -> str:
        """How a message names the repository."""
        ...

    def default_branch(self) -> str:
        """The branch that HEAD names."""
        ...

    def head(self, branch: str | None, files: Sequence[str]) -> Head | None:
        """The newest commit of a branch, of the default one for None, with the files of it.

        None when there is no such branch.
        """
        ...

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        ...

    def tree(self, name: str, *, recursive: bool) -> Tree | None:
        """The entries of a tree, given by its id or as that of a branch; with those of its folders
        when `recursive`. None when there is no such tree.
        """
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

    def refs(self, prefix: str) -> tuple[str, ...]:
        """The names of the refs that begin with "heads/..."."""
        ...

    def delete_ref(self, name: str) -> None:
        """Delete "heads/..."; one that is gone already is fine."""
        ...

    def commit_on_branch(
        self, branch: str, *, parent: str, files: Mapping[str, bytes | None], message: str
    ) -> Committed:
        """Replace files, or remove them (None), in a commit on top of `parent`, to which the
        branch is moved: all of it or nothing, and only if `parent` is its head.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A commit that is made when the branch is moved to it."""

    parent: str
    files: Mapping[str, bytes | None]
    message: str


class GitHubObjects:
    """The objects of a repository, each asked for once: they never change."""

    def __init__(self, api: GitDataApi) -> None:
        self._api = api
        self._trees: dict[str, str] = {}
        self._listings: dict[str, Tree] = {}
        self._files: dict[str, dict[str, TreeEntry | None]] = {}
        self._contents: dict[str, bytes] = {}
        self._drafts: dict[str, _Draft] = {}

    def blob(self, commit: str, path: str) -> Blob | None:
        """The file at `path`, None if there is none; links and folders raise StateDamaged."""
        known = self._files.get(commit, {})
        entry = known[path] if path in known else self._found(commit, path)
        if entry is None:
            return None
        if entry.mode not in _FILES:
            raise StateDamaged(
                "This is not a file.", where=path, fix="Remove what is in its place."
            )
        return Blob(oid=entry.sha, size=entry.size)

    def _found(self, commit: str, path: str) -> TreeEntry | None:
        listing = self._listing(self._tree_of(commit))
        if listing.truncated:
            return self._walk(commit, path)
        return next((entry for entry in listing.entries if entry.path == path), None)

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
        return _paths(self._listing(self._tree_of(commit)), self._api.name)

    def commit(self, parent: str | None, files: Mapping[str, bytes | None], message: str) -> str:
        """A commit on top of `parent` with these files replaced; no ref is moved.

        With a parent it is only written down, under a name of its own: GitHub makes it in the same
        request that moves the branch.
        """
        if parent is not None:
            name = f"draft-{len(self._drafts) + 1}"
            self._drafts[name] = _Draft(parent=parent, files=dict(files), message=message)
            return name
        tree = self._api.create_tree(None, files)
        made = self._api.create_commit(message, tree=tree, parent=None)
        self._trees[made] = tree
        there = ((path, data) for path, data in files.items() if data is not None)
        self._listings[tree] = Tree(entries=tuple(_written(p, data, tree) for p, data in there))
        return made

    def draft(self, name: str) -> _Draft | None:
        """What was written down under that name."""
        return self._drafts.get(name)

    def learn(self, head: Head) -> None:
        """Keep what is known of a commit."""
        self._trees[head.commit] = head.tree
        self._files.setdefault(head.commit, {}).update(head.files)
        self._contents.update(head.contents)

    def made(self, draft: _Draft, committed: Committed) -> None:
        """What is in a commit that we made is known without asking."""
        entries = dict(self._files.get(draft.parent, {}))
        for path, data in draft.files.items():
            entries[path] = None if data is None else _written(path, data, committed.commit)
        self._files[committed.commit] = entries
        self._trees[committed.commit] = committed.tree
        if draft.parent in self._trees:
            self._derive_listing(self._trees[draft.parent], committed.tree, draft.files)

    def _derive_listing(self, base: str, tree: str, files: Mapping[str, bytes | None]) -> None:
        known = self._listings.get(base)
        if known is None or known.truncated:
            return
        entries = {entry.path: entry for entry in known.entries}
        for path, data in files.items():
            if data is None:
                entries.pop(path, None)
            else:
                entries[path] = _written(path, data, tree)
        self._listings[tree] = Tree(entries=tuple(entries.values()))

    def _tree_of(self, commit: str) -> str:
        if commit not in self._trees:
            self._trees[commit] = self._api.tree_of(commit)
        return self._trees[commit]

    def _listing(self, oid: str, *, recursive: bool = True) -> Tree:
        key = oid if recursive else f"{oid}:"
        if key not in self._listings:
            self._listings[key] = self._api.tree(oid, recursive=recursive) or Tree(entries=())
        return self._listings[key]

    def _walk(self, commit: str, path: str) -> TreeEntry | None:
        """The entry, folder by folder."""
        oid, parts = self._tree_of(commit), path.split("/")
        for depth, part in enumerate(parts, 1):
            entries = self._listing(oid, recursive=False).entries
            entry = next((e for e in entries if e.path == part), None)
            if entry is None or depth == len(parts):
                return entry
            if entry.mode != _FOLDER:
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
    def spread(self) -> float:
        """Each attempt is taken from the hour's budget of the whole repository."""
        return _SPREAD

    @property
    def objects(self) -> GitHubObjects:
        """Its objects."""
        return self._objects

    def default_branch(self) -> str:
        """The branch that HEAD names."""
        return self._api.default_branch()

    def head(self, ref: str, files: Sequence[str] = ()) -> str | None:
        """The commit of "refs/heads/..." or of "HEAD", the default branch."""
        head = self._api.head(None if ref == "HEAD" else ref.removeprefix(_HEADS), files)
        if head is None:
            return None
        self._objects.learn(head)
        return head.commit

    def files(self, ref: str) -> tuple[str, ...]:
        """The paths of all files at "refs/heads/..."."""
        tree = self._api.tree(ref.removeprefix(_HEADS), recursive=True)
        return () if tree is None else _paths(tree, self.name)

    def advance(self, ref: str, *, new: str, old: str | None) -> Advance:
        """Make the commit and move the branch to it; what GitHub refuses for good is an error."""
        branch, draft = ref.removeprefix(_HEADS), self._objects.draft(new)
        if draft is None:
            refusal = self._api.create_ref(f"heads/{branch}", new)
            if not refusal:
                return Advance(done=True)
        else:
            made = self._api.commit_on_branch(
                branch, parent=draft.parent, files=draft.files, message=draft.message
            )
            if made.commit:
                self._objects.made(draft, made)
                return Advance(done=True, commit=made.commit)
            refusal = made.refusal
            if made.raced:
                return Advance(done=False, reason=refusal)
        now = self.head(ref)
        # Also when our own request came through and only its answer was lost.
        if now == new:
            return Advance(done=True)
        if now != old:
            return Advance(done=False, reason=refusal)
        raise StateNotRecorded(
            f"GitHub does not let the branch {branch} be moved: {refusal}.",
            where=self.name,
            fix=f"Let the workflow's identity push to {branch} (a bypass in the branch's rule), or "
            "name an unprotected branch as state.branch in chalice-ci.yml.",
        )

    def refs(self, prefix: str) -> tuple[str, ...]:
        """The names of the repository's refs below "refs/heads/.../"."""
        return self._api.refs(prefix.removeprefix("refs/"))

    def drop(self, ref: str) -> None:
        """Delete it."""
        self._api.delete_ref(ref.removeprefix("refs/"))


def is_made(head: Head, *, parent: str, files: Mapping[str, bytes | None], message: str) -> bool:
    """Whether a head is the commit that we asked for: nobody else makes one with all of this."""
    return (
        head.parents == (parent,)
        and head.message.split() == message.split()
        and all(
            (None if entry is None else entry.sha)
            == (None if files[path] is None else git_blob_id(files[path] or b"", len(head.commit)))
            for path, entry in head.files.items()
        )
    )


def _paths(tree: Tree, repository: str) -> tuple[str, ...]:
    if tree.truncated:
        raise ForgeError(
            "The branch has more files than GitHub lists at once.",
            where=repository,
            fix="Keep the state on a branch of its own (state.branch in chalice-ci.yml).",
        )
    return tuple(entry.path for entry in tree.entries if entry.mode != _FOLDER)


def _written(path: str, data: bytes, like: str) -> TreeEntry:
    """The entry of a file with this content, with ids as long as another one."""
    return TreeEntry(path=path, mode="100644", sha=git_blob_id(data, len(like)), size=len(data))
