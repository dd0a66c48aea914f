"""The commit a pull request grew from, and the files of a commit, from real repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from chalice_ci.checkout import Checkout
from chalice_ci.committed import TreeRefused, write_tree
from chalice_ci.context import Context, PullRequest
from chalice_ci.merge_base import NoBase, find_merge_base
from chalice_ci.state.git_repository import LocalRepository, Objects
from support.commandline import commit, git, write


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A repository with a pull request that the forge merged, as it answers actions/checkout."""
    repository = tmp_path_factory.mktemp("remote") / "origin"
    repository.mkdir()
    git(repository, "init", "-q", "--initial-branch", "main")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(repository, "config", "uploadpack.allowFilter", "true")
    write(repository, {"app.py": "1"})
    fork = commit(repository, "Begin")
    git(repository, "checkout", "-qb", "feature")
    write(repository, {"feature.py": "2"})
    head = commit(repository, "Add a feature")
    git(repository, "checkout", "-q", "main")
    write(repository, {"other.py": "3"})
    base = commit(repository, "Change something else")
    git(repository, "checkout", "-q", "--detach")
    git(repository, "merge", "-q", "--no-ff", "-m", "Merge", "feature")
    git(repository, "update-ref", "refs/pull/1/merge", "HEAD")
    git(repository, "update-ref", "refs/pull/1/head", head)
    git(repository, "checkout", "-q", "main")
    return repository, {"fork": fork, "head": head, "base": base}


def clone(repository, target, ref, *, depth=1):
    """What actions/checkout makes."""
    target.mkdir()
    git(target, "init", "-q", "--initial-branch", "main")
    git(target, "remote", "add", "origin", f"file://{repository}")
    deep = [f"--depth={depth}"] if depth else []
    git(target, "fetch", "-q", "--no-tags", *deep, "origin", ref, *([] if depth else ["main"]))
    git(target, "checkout", "-q", "--detach", git(target, "rev-parse", "FETCH_HEAD"))
    return target


def found(checkout, tmp_path, commits, *, remote=True, told=True):
    pull = PullRequest(
        number=1,
        head_sha=commits["head"],
        base_sha=commits["base"] if told else "",
        head_branch="feature",
        base_branch="main",
        fork=False,
    )
    url = git(checkout, "config", "remote.origin.url") if remote else None
    return find_merge_base(
        Checkout(root=checkout, git_dir=checkout / ".git", remote=url),
        Context(pull_request=pull),
        env=os.environ,
        work_dir=tmp_path,
    )


@pytest.mark.parametrize(("ref", "expected"), [("merge", "base"), ("head", "fork")])
@pytest.mark.parametrize("depth", [0, 1])
def test_the_base_is_found_in_a_deep_checkout_and_fetched_for_a_shallow_one(
    tmp_path, origin, ref, expected, depth
):
    """Of the merge it is the base's tip: what others merged is not this pull request's."""
    repository, commits = origin
    checkout = clone(repository, tmp_path / "checkout", f"refs/pull/1/{ref}", depth=depth)
    before = git(checkout, "rev-list", "--objects", "--all", "HEAD")
    oid, objects = found(checkout, tmp_path, commits)
    assert oid == commits[expected]
    folder = tmp_path / "files"
    write_tree(objects, oid, folder)
    names = {"fork": ["app.py"], "base": ["app.py", "other.py"]}
    assert sorted(file.name for file in folder.iterdir()) == names[expected]
    assert git(checkout, "rev-list", "--objects", "--all", "HEAD") == before


def test_a_base_that_nobody_has_says_what_to_set(tmp_path, origin):
    repository, commits = origin
    checkout = clone(repository, tmp_path / "checkout", "refs/pull/1/merge")
    with pytest.raises(NoBase, match="there is no remote") as caught:
        found(checkout, tmp_path, commits, remote=False)
    assert "fetch-depth: 0" in caught.value.fix
    git(checkout, "remote", "set-url", "origin", f"file://{tmp_path}/nothing")
    with pytest.raises(NoBase, match="the remote says"):
        found(checkout, tmp_path, commits)


# -- the files of a commit ------------------------------------------------------------------------


def tree(repository, *entries):
    """A commit of a tree that git itself would not make."""
    lines = b"".join(
        b"%s %s %s\t%s\0" % (mode.encode(), kind.encode(), oid.encode(), os.fsencode(name))
        for mode, kind, oid, name in entries
    )
    made = subprocess.run(
        ["git", "mktree", "-z"], cwd=repository, input=lines, capture_output=True, check=True
    )
    return git(repository, "commit-tree", "-m", "Odd", made.stdout.decode().strip())


def blob(repository, text):
    path = Path(repository) / "blob"
    path.write_text(text)
    return git(repository, "hash-object", "-w", "--no-filters", str(path))


def objects_of(repository, tmp_path) -> Objects:
    return LocalRepository(repository, work_dir=tmp_path, environ=os.environ).objects


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    git(folder, "init", "-q", "--initial-branch", "main")
    return folder


def test_a_commits_files_are_written_as_they_are_in_it(repository, tmp_path):
    """No filter runs, no line ending changes, whatever the repository's configuration says."""
    files = {
        "app.py": "a\r\n",
        ".gitattributes": "* text=auto eol=crlf filter=evil\n",
        "deep/er/\u00fc b.txt": "",
    }
    write(repository, files)
    (repository / "run.sh").write_text("x")
    (repository / "run.sh").chmod(0o755)
    (repository / "link").symlink_to("app.py")
    git(repository, "-c", "core.autocrlf=false", "add", "-A")
    git(repository, "commit", "-qm", "x")
    stored = git(repository, "cat-file", "blob", "HEAD:app.py")
    git(repository, "config", "filter.evil.smudge", f"touch {tmp_path}/smudged")
    folder = tmp_path / "files"
    write_tree(objects_of(repository, tmp_path), "HEAD", folder)
    assert not (tmp_path / "smudged").exists()
    assert (folder / "app.py").read_bytes().strip() == stored.encode().strip()
    assert (folder / "deep/er/\u00fc b.txt").read_bytes() == b""
    assert (folder / "run.sh").stat().st_mode & 0o111
    assert not (folder / "app.py").stat().st_mode & 0o111
    assert (folder / "link").readlink() == Path("app.py")


@pytest.mark.parametrize("name", ["..", ".", ".git", ".GIT", "git~1"])
def test_a_tree_that_leads_out_of_its_folder_is_refused(repository, tmp_path, name):
    oid = blob(repository, "x")
    inner = tree(repository, ("100644", "blob", oid, "f"))
    inner_tree = git(repository, "rev-parse", f"{inner}^{{tree}}")
    odd = tree(repository, ("040000", "tree", inner_tree, name))
    with pytest.raises(TreeRefused):
        write_tree(objects_of(repository, tmp_path), odd, tmp_path / "files")
    assert not (tmp_path / "f").exists()


def test_no_file_is_written_through_a_link_of_the_same_tree(repository, tmp_path):
    target = blob(repository, str(tmp_path))
    oid = blob(repository, "x")
    inner = tree(repository, ("100644", "blob", oid, "f"))
    inner_tree = git(repository, "rev-parse", f"{inner}^{{tree}}")
    odd = tree(repository, ("120000", "blob", target, "a"), ("040000", "tree", inner_tree, "a"))
    with pytest.raises(TreeRefused):
        write_tree(objects_of(repository, tmp_path), odd, tmp_path / "files")
    assert not (tmp_path / "f").exists()


def test_a_submodule_is_left_out(repository, tmp_path):
    oid = blob(repository, "x")
    odd = tree(repository, ("160000", "commit", "1" * 40, "sub"), ("100644", "blob", oid, "f"))
    left = write_tree(objects_of(repository, tmp_path), odd, tmp_path / "files")
    assert left == ("sub",)
    assert [file.name for file in (tmp_path / "files").iterdir()] == ["f"]


def test_where_the_event_names_no_base_it_is_the_branch_as_it_was_fetched(tmp_path, origin):
    repository, commits = origin
    checkout = clone(repository, tmp_path / "checkout", "refs/pull/1/head", depth=0)
    git(checkout, "update-ref", "-d", "refs/remotes/origin/main")
    with pytest.raises(NoBase, match=r"the branch main, .* was not fetched"):
        found(checkout, tmp_path, commits, told=False)
    git(checkout, "update-ref", "refs/remotes/origin/main", commits["base"])
    oid, _ = found(checkout, tmp_path, commits, told=False)
    assert oid == commits["fork"]
