"""What the repository around the project is: its root, commit, tree, branch and remote.

Only objects and refs are read: no command here looks at the work tree, so hooks, filters and
fsmonitor of a hostile `.git/config` have nothing to run for.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.errors import UsageError

_STATE_FILE = re.compile(r"(?:.+/)?\.chalice/deployed/[^/]+\.json", re.DOTALL)

GitReader = Callable[..., str | None]
"""Runs a git command that reads, in a repository: its output without the last line feed, None if
the command failed."""


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """The repository that holds the project.

    `within` is the project directory relative to `root` (POSIX, "." for the root itself);
    `commit` and what follows are None outside a git repository or before the first commit.
    """

    root: Path
    within: str = "."
    git_dir: Path | None = None
    commit: str | None = None
    tree: str | None = None
    branch: str | None = None
    default_branch: str | None = None
    remote: str | None = None

    @property
    def common_dir(self) -> Path | None:
        """What all work trees of the repository share: the states' branch is there."""
        if self.git_dir is None:
            return None
        shared = self.git_dir / "commondir"
        if not shared.is_file():
            return self.git_dir
        return (self.git_dir / shared.read_text(encoding="utf-8").strip()).resolve()

    @property
    def project_dir(self) -> Path:
        """The project directory itself."""
        return self.root / self.within


def find_root(project_dir: Path) -> tuple[Path, Path | None]:
    """The repository's root and its git directory; without git, the nearest chalice-ci.yml decides.

    Raises UsageError when `project_dir` is no directory.
    """
    if not project_dir.is_dir():
        raise UsageError(
            "there is no such directory.",
            where=str(project_dir),
            fix="Name the app's or the repository's directory with --project-dir.",
        )
    start = project_dir.resolve()
    for candidate in (start, *start.parents):
        marker = candidate / ".git"
        if marker.is_dir():
            return candidate, marker
        if marker.is_file():
            return candidate, _linked(marker)
    for candidate in (start, *start.parents):
        if (candidate / "chalice-ci.yml").is_file():
            return candidate, None
    return start, None


def _linked(marker: Path) -> Path:
    """The git directory that a `.git` file of a linked work tree or submodule names."""
    text = marker.read_text(encoding="utf-8", errors="replace").strip()
    if not text.startswith("gitdir: "):
        raise UsageError(
            "this .git file does not name a git directory.",
            where=str(marker),
            fix="Check the repository out again.",
        )
    return (marker.parent / text.removeprefix("gitdir: ")).resolve()


def read_checkout(project_dir: Path, git: Callable[[Path], GitReader]) -> Checkout:
    """What `project_dir` belongs to; `git` makes a reader for a git directory."""
    root, git_dir = find_root(project_dir)
    within = project_dir.resolve().relative_to(root).as_posix()
    if git_dir is None:
        return Checkout(root=root, within=within)
    read = git(git_dir)
    commit, tree, branch = _head(read)
    return Checkout(
        root=root,
        within=within,
        git_dir=git_dir,
        commit=commit,
        tree=tree,
        branch=branch,
        default_branch=_default_branch(read),
        remote=_address(root, read("config", "--local", "--get", "remote.origin.url")),
    )


def _address(root: Path, url: str | None) -> str | None:
    """The remote's address; a relative path counts from the top of the work tree, as for git."""
    relative = url and not url.startswith(("/", "-")) and ":" not in url.partition("/")[0]
    return str((root / url).resolve()) if url and relative else url


def _head(read: GitReader) -> tuple[str | None, str | None, str | None]:
    """The commit and its tree, None before the first one, and the branch, None without one."""
    asked = ("HEAD^{commit}", "HEAD^{tree}", "--symbolic-full-name", "HEAD")
    found = read("rev-parse", "--quiet", *asked)
    if found is None:
        unborn = read("symbolic-ref", "--quiet", "HEAD") or ""
        return None, None, unborn.removeprefix("refs/heads/") or None
    commit, tree, *named = found.splitlines()
    # A branch or tag that is called HEAD makes the name ambiguous, and then git names none.
    head = named[0] if named else read("symbolic-ref", "--quiet", "HEAD") or "HEAD"
    return commit, tree, None if head == "HEAD" else head.removeprefix("refs/heads/")


def _default_branch(read: GitReader) -> str | None:
    """The branch that the remote's HEAD names; without one main or master, if there is such one."""
    origin, main, master = "refs/remotes/origin/HEAD", "refs/heads/main", "refs/heads/master"
    listing = read("for-each-ref", "--format=%(refname) %(symref)", origin, main, master) or ""
    found = dict(line.split(" ") for line in listing.splitlines())
    if found.get(origin):
        return found[origin].removeprefix("refs/remotes/origin/")
    return next((ref.removeprefix("refs/heads/") for ref in (main, master) if ref in found), None)


def base_commit(read: GitReader, *, head: str, base: str, branch: str) -> str | None:
    """The commit that a pull request would be merged into, None when it was not fetched.

    The first parent of the merge that the forge made of `head`, if that is what is checked out: it
    is newer than `base`, what the event says. Where the event says none it is the tip of `branch`
    as it was fetched.
    """
    made = read("rev-parse", "--verify", "--quiet", "HEAD^2") == head
    first = read("rev-parse", "--verify", "--quiet", "HEAD^1") if made else None
    tip = None if base else read("rev-parse", "--verify", "--quiet", tip_of(branch))
    for commit in (first, base, tip):
        if commit and read("cat-file", "-e", f"{commit}^{{commit}}") is not None:
            return commit
    return None


def tip_of(branch: str) -> str:
    """The revision that a branch of the remote was at when it was fetched."""
    return f"refs/remotes/origin/{branch}^{{commit}}"


def file_of(read: GitReader, commit: str, path: str) -> str | None:
    """The text of a file in a commit that is here, None when the commit has no such file.

    Raises UsageError when git cannot say.
    """
    entry = read("ls-tree", "-z", "--full-tree", commit, "--", path)
    if entry == "":
        return None
    text = None if entry is None else read("cat-file", "blob", f"{commit}:{path}")
    if text is None:
        raise UsageError(
            f"git cannot read {path} of the commit {commit[:12]}.",
            where="git",
            fix="Check the repository out again.",
        )
    return text


def differ_in_states_only(read: GitReader, old: str, new: str) -> bool:
    """Whether two commits have the same files but for recorded states.

    With `state: {branch: source}` recording a deployment moves the branch of the code: what comes
    after is the same app. False when git can't say, such as in a clone that lacks one of them.
    """
    listing = read("diff-tree", "-r", "-z", "--no-renames", "--name-only", old, new)
    names = [] if listing is None else [name for name in listing.split("\0") if name]
    return listing is not None and all(_STATE_FILE.fullmatch(name) for name in names)


def is_state_file(path: str) -> bool:
    """Whether a path of a repository is that of a recorded state, or stands beside one."""
    return _STATE_FILE.fullmatch(path) is not None


def changed_files(checkout: Checkout, read: GitReader, path: str) -> tuple[str, ...]:
    """Files below `path` whose bytes differ from the commit's, or that it has and the tree has not.

    Compared by blob id, computed here: `git status` would run the repository's filters. New files
    that git ignores would all count, so only files that the commit knows are looked at. At most
    20 names, sorted.
    """
    if checkout.commit is None:
        return ()
    listing = read("ls-tree", "-r", "-z", checkout.commit, "--", path) or ""
    return tuple(sorted(_differing(checkout.root, listing)))[:20]


def not_committed(
    checkout: Checkout, read: GitReader, path: str, config: str | None
) -> tuple[str, ...]:
    """Files that a plan of the app below `path` is made of and that the commit has not, or not so.

    New files count as well, and `config`, the repository's chalice-ci.yml.
    """
    listed = read("ls-tree", "-r", "-z", "--name-only", checkout.commit or "HEAD") or ""
    known = set(listed.split("\0"))
    root = checkout.root
    app = root / path
    found = [app / "app.py", *(app / ".chalice").glob("*.json")]
    for folder in ("chalicelib", "vendor"):
        found += [file for file in (app / folder).rglob("*") if "__pycache__" not in file.parts]
    if config is not None:
        found.append(root / config)
    names = {file.relative_to(root).as_posix() for file in found if not file.is_dir()}
    changed = [*changed_files(checkout, read, path)]
    if config is not None:
        changed += changed_files(checkout, read, config)
    # What Chalice before 1.2 recorded is no part of an app.
    new = (name for name in names - known if not name.endswith(".chalice/deployed.json"))
    return tuple(sorted({*new, *changed}))


def _differing(root: Path, listing: str) -> Iterator[str]:
    for line in listing.split("\0"):
        head, _, name = line.partition("\t")
        if not name:
            continue
        mode, kind, blob = head.split()
        file = root / name
        if kind != "blob":
            continue
        try:
            found = file.lstat()
        except OSError:
            yield name
            continue
        if mode == "120000":
            content = str(file.readlink()).encode() if stat.S_ISLNK(found.st_mode) else b""
        else:
            content = file.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        algorithm = hashlib.sha256 if len(blob) == 64 else hashlib.sha1
        if algorithm(b"blob %d\0" % len(content) + content).hexdigest() != blob:
            yield name
