"""What is read of a repository, whatever a person did to it: by real git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chalice_ci.checkout import Checkout, GitReader, read_checkout

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{role}_{what}": "a@b.c"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def reader(git_dir: Path) -> GitReader:
    def read(*arguments: str) -> str | None:
        done = subprocess.run(
            ["git", f"--git-dir={git_dir}", *arguments],
            env=_ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    return read


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit on `trunk`, and a remote whose HEAD is `main`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "commit", "-q", "--allow-empty", "-m", "One")
    git(folder, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(folder, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    return folder


def _as_it_is(folder: Path) -> Path:
    return folder


def _detached(folder: Path) -> Path:
    git(folder, "checkout", "-q", "--detach")
    return folder


def _linked(folder: Path) -> Path:
    git(folder, "worktree", "add", "-q", "-b", "feature/x", "../linked")
    return folder.parent / "linked"


def _branch_called_head(folder: Path) -> Path:
    git(folder, "update-ref", "refs/heads/HEAD", "HEAD")
    return folder


def _tag_called_head(folder: Path) -> Path:
    git(folder, "tag", "HEAD")
    return folder


def _detached_beside_a_branch_called_head(folder: Path) -> Path:
    return _branch_called_head(_detached(folder))


def _tag_of_the_branchs_name(folder: Path) -> Path:
    git(folder, "tag", "trunk")
    return folder


@pytest.mark.parametrize(
    ("change", "branch"),
    [
        (_as_it_is, "trunk"),
        (_detached, None),
        (_linked, "feature/x"),
        (_branch_called_head, "trunk"),
        (_tag_called_head, "trunk"),
        (_detached_beside_a_branch_called_head, None),
        (_tag_of_the_branchs_name, "trunk"),
    ],
)
def test_the_commit_and_the_branch_are_read_whatever_else_is_there(
    repository: Path, change: Callable[[Path], Path], branch: str | None
) -> None:
    commit, tree = git(repository, "rev-parse", "HEAD", "HEAD^{tree}").split()
    found = read_checkout(change(repository), reader)
    assert (found.commit, found.tree, found.branch) == (commit, tree, branch)
    assert found.default_branch == "main"
    assert found.common_dir == repository / ".git"


def test_before_the_first_commit_there_is_a_branch_only(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "first")
    found = read_checkout(tmp_path, reader)
    assert found == Checkout(root=tmp_path, git_dir=tmp_path / ".git", branch="first")


def test_a_clone_of_one_commit_has_what_is_in_that(repository: Path, tmp_path: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "Two")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", "shallow")
    found = read_checkout(tmp_path / "shallow", reader)
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert (found.branch, found.default_branch) == ("trunk", "trunk")


def test_without_the_remotes_head_main_or_master_is_the_default_branch(repository: Path) -> None:
    """A branch below `main/` is none of both, and a HEAD that leads nowhere is none."""
    git(repository, "update-ref", "-d", "refs/remotes/origin/main")
    assert read_checkout(repository, reader).default_branch is None
    git(repository, "branch", "main/old")
    assert read_checkout(repository, reader).default_branch is None
    git(repository, "branch", "master")
    assert read_checkout(repository, reader).default_branch == "master"
