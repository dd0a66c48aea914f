"""What a killed run leaves behind is swept by the next one, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from chalice_ci.scratch import scratch_folder

HOLD = """
import sys
from chalice_ci.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "inside").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_is_gone_with_its_run_and_others_may_enter_it(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o711
    assert list(temporary.iterdir()) == []
    with pytest.raises(ValueError, match="x"), scratch_folder():
        raise ValueError("x")
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_process_that_was_killed_is_swept_and_that_of_a_living_one_stays() -> None:
    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    (dead, left), (living, kept) = start(), start()
    try:
        dead.kill()
        dead.wait(timeout=30)
        assert left.is_dir()
        with scratch_folder():
            assert not left.exists()
            assert (kept / "inside").is_dir()
        living.communicate("", timeout=30)
        assert living.returncode == 0
        assert not kept.exists()
    finally:
        for process in (dead, living):
            process.kill()
            process.communicate()


def test_what_has_no_such_file_or_is_a_link_is_never_touched(temporary: Path) -> None:
    cache = temporary / "chalice-ci-0"
    state = temporary / "chalice-ci-state-abc"
    other = temporary / "other"
    for folder in (cache, state, other):
        folder.mkdir()
        os.utime(folder, (0, 0))
    (other / ".held").touch()
    (temporary / "chalice-ci-link").symlink_to(other)
    linked = temporary / "chalice-ci-linked"
    linked.mkdir()
    (linked / ".held").symlink_to(other / ".held")
    with scratch_folder():
        pass
    assert {path.name for path in temporary.iterdir()} == {
        *("chalice-ci-0", "chalice-ci-state-abc", "other", "chalice-ci-link", "chalice-ci-linked"),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of others")
def test_a_folder_of_somebody_else_is_not_ours_to_sweep(temporary: Path) -> None:
    theirs = temporary / "chalice-ci-theirs"
    theirs.mkdir()
    (theirs / ".held").touch()
    os.chown(theirs, 65534, 65534)
    with scratch_folder():
        pass
    assert theirs.is_dir()
