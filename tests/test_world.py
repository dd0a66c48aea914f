"""Where things are kept between runs, whoever runs us."""

from __future__ import annotations

import io
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalice_ci.errors import UsageError
from chalice_ci.world import World


def world(cwd, *, uid, **env):
    return World(
        env=env,
        cwd=cwd,
        now=lambda: datetime(2025, 1, 1, tzinfo=UTC),
        stdout=io.StringIO(),
        stderr=io.StringIO(),
        python=Path("/usr/bin/python3"),
        uid=uid,
    )


@pytest.fixture
def nobody():
    """A uid that no other test has, and its folder among the temporary ones."""
    uid = 3_000_000 + os.getpid()
    folder = Path(tempfile.gettempdir(), f"chalice-ci-{uid}")
    yield uid, folder
    if folder.is_dir() and not folder.is_symlink():
        folder.rmdir()
    else:
        folder.unlink(missing_ok=True)


def test_a_chosen_folder_is_taken_relative_to_the_current_one(tmp_path):
    assert world(tmp_path, uid=0).cache_dir(Path("kept")) == tmp_path / "kept"


def test_root_keeps_things_outside_of_its_home(tmp_path):
    assert world(tmp_path, uid=0, HOME=str(tmp_path)).cache_dir(None) == Path(
        "/var/cache/chalice-ci"
    )


def test_a_user_keeps_things_in_the_cache_folder(tmp_path):
    home = world(tmp_path, uid=1000, HOME=str(tmp_path))
    assert home.cache_dir(None) == tmp_path / ".cache" / "chalice-ci"
    other = world(tmp_path, uid=1000, HOME="/nonexistent", XDG_CACHE_HOME=str(tmp_path / "x"))
    assert other.cache_dir(None) == tmp_path / "x" / "chalice-ci"


@pytest.mark.parametrize("home", [None, "/proc/self", "/dev/null"])
def test_a_user_without_a_usable_home_has_a_temporary_folder(tmp_path, nobody, home):
    uid, folder = nobody
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, uid, uid)
    else:
        uid = os.geteuid()
    env = {} if home is None else {"HOME": home}
    found = world(tmp_path, uid=uid, **env).cache_dir(None)
    assert found.parent == Path(tempfile.gettempdir())
    assert found.name == f"chalice-ci-{uid}"


@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_a_temporary_folder_of_somebody_else_is_refused(tmp_path, nobody, kind):
    uid, folder = nobody
    match kind:
        case "folder":
            folder.mkdir(mode=0o777)
        case "link":
            folder.symlink_to(tmp_path)
        case "file":
            folder.touch()
    with pytest.raises(UsageError, match="somebody else"):
        world(tmp_path, uid=uid, HOME="/dev/null").cache_dir(None)
