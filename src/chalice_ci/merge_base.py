"""The commit that a pull request grew from, and the objects that hold its files.

A checkout is often too shallow to have it: then it is fetched from the remote, into a clone of our
own, so that the user's stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chalice_ci.checkout import Checkout, tip_of
from chalice_ci.context import Context
from chalice_ci.state.git import RemoteRepository
from chalice_ci.state.git_repository import LocalRepository, Objects
from chalice_ci.state.select import open_remote

DEEPER = "Let the checkout have the whole history: `fetch-depth: 0` at actions/checkout."


class NoBase(Exception):
    """There is nothing to compare with: the problem and what to do about it."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


def own_objects(checkout: Checkout, *, env: Mapping[str, str], work_dir: Path) -> Objects:
    """The objects of the checkout itself."""
    if checkout.git_dir is None:
        raise NoBase("this is not a git repository.", "Compare with what is deployed.")
    return LocalRepository(checkout.git_dir, work_dir=work_dir, environ=env).objects


def find_merge_base(
    checkout: Checkout, context: Context, *, env: Mapping[str, str], work_dir: Path
) -> tuple[str, Objects]:
    """The merge base of what is checked out - with the pull request's base, else with the default
    branch - and the objects that hold it: the checkout's own, or fetched ones.

    Of a checkout of the merge that the forge made it is the base's tip, so that what others merged
    in the meantime is not told as the pull request's. Raises NoBase and GitFailed.
    """
    objects = own_objects(checkout, env=env, work_dir=work_dir)
    pull = context.pull_request
    if pull is not None:
        base = pull.base_sha or _asked(
            objects, "rev-parse", "--verify", "--quiet", tip_of(pull.base_branch)
        )
        if not base:
            raise NoBase(
                f"the branch {pull.base_branch}, which the pull request would be merged into, was "
                "not fetched.",
                DEEPER,
            )
        found = _asked(objects, "merge-base", base, "HEAD")
        if found and _asked(objects, "cat-file", "-t", f"{found}^{{tree}}"):
            return found, objects
        remote = _Remote(checkout, env, work_dir)
        return remote.merge_base(objects, base, pull.head_sha)
    name = context.default_branch or checkout.default_branch
    for ref in (f"refs/remotes/origin/{name}", f"refs/heads/{name}"):
        base = _asked(objects, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        found = base and _asked(objects, "merge-base", base, "HEAD")
        if found:
            return found, objects
    if not _asked(objects, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        raise NoBase("there is no commit yet.", "Commit something to compare with.")
    if name is None:
        raise NoBase("no default branch is known here.", "Name a commit with `--from`.")
    raise NoBase(f"the branch {name} is not here, or has nothing in common.", DEEPER)


def objects_with(
    checkout: Checkout, commit: str, *, env: Mapping[str, str], work_dir: Path
) -> Objects:
    """The objects that hold a commit's files: the checkout's own, or fetched ones.

    Raises NoBase and GitFailed.
    """
    objects = own_objects(checkout, env=env, work_dir=work_dir)
    if _asked(objects, "cat-file", "-t", f"{commit}^{{tree}}"):
        return objects
    return _Remote(checkout, env, work_dir).fetched(commit)


class _Remote:
    def __init__(self, checkout: Checkout, env: Mapping[str, str], work_dir: Path) -> None:
        self._checkout = checkout
        self._env = env
        self._work_dir = work_dir

    def merge_base(self, objects: Objects, base: str, head: str) -> tuple[str, Objects]:
        """The merge base from the remote, for a checkout that is too shallow to know it.

        The forge's merge has the base's tip as its first parent, which even a shallow clone's
        commit says; otherwise the history is fetched, without files.
        """
        merged = _parents(objects)
        if len(merged) == 2 and merged[1] == head:
            found = merged[0]
        else:
            history = self._open()
            _fetch(history, base, head, history=True)
            found = _asked(history.objects, "merge-base", base, head)
            if not found:
                raise NoBase("the pull request and its base have no commit in common.", DEEPER)
        # A clone of its own: what was fetched without files stays without.
        return found, self.fetched(found)

    def fetched(self, commit: str) -> Objects:
        """The remote's objects of a commit, files included."""
        remote = self._open()
        _fetch(remote, commit)
        return remote.objects

    def _open(self) -> RemoteRepository:
        remote = open_remote(self._checkout, env=self._env, work_dir=self._work_dir)
        if remote is None:
            raise NoBase("the commit was not fetched, and there is no remote.", DEEPER)
        return remote


def _asked(objects: Objects, *arguments: str) -> str:
    done = objects.run(*arguments)
    return done.out.decode("ascii", "replace").strip() if done.code == 0 else ""


def _parents(objects: Objects) -> list[str]:
    """The parents that HEAD names, also those that a shallow clone does not have."""
    raw = _asked(objects, "cat-file", "commit", "HEAD")
    head = raw.partition("\n\n")[0]
    return [line.removeprefix("parent ") for line in head.split("\n") if line[:7] == "parent "]


def _fetch(remote: RemoteRepository, *commits: str, history: bool = False) -> None:
    reason = remote.fetch(*commits, history=history)
    if reason:
        raise NoBase(f"the base commit was not fetched, and the remote says: {reason}.", DEEPER)
