"""What is kept between runs stays within bounds, whoever else uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chalice_ci.cache import mark_used, read_size, trim
from chalice_ci.errors import UsageError
from support import commandline
from support.index import Index, serve, wheel
from support.packages import build, project

NOW = 2_000_000_000.0
HOUR = 3600


def entry(path: Path, size: int, hours: float) -> Path:
    """A file of so many bytes that was used so many hours ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (NOW - hours * HOUR,) * 2)
    return path


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    """Files of several folders, an environment as a whole; what is used right now stays."""
    old = entry(tmp_path / "wheels/old.whl", 400, 50)
    older = tmp_path / "environments/older"
    entry(older / "lib/a.py", 300, 60)
    os.utime(older, (NOW - 60 * HOUR,) * 2)
    newer = entry(tmp_path / "archives/newer.bin", 500, 5)
    current = entry(tmp_path / "archives/current.bin", 5000, 0.5)
    other = entry(tmp_path / "interpreters/python", 9000, 900)
    assert trim(tmp_path, limit=5_600, clock=lambda: NOW) == 700
    assert not older.exists()
    assert not old.exists()
    assert newer.exists()
    os.utime(tmp_path / ".trimmed", (NOW, NOW))
    assert trim(tmp_path, limit=100, clock=lambda: NOW) == 0, "an hour has to pass"
    later = NOW + 2 * HOUR
    mark_used(current)
    os.utime(current, (later, later))
    os.utime(tmp_path / ".trimmed", (NOW, NOW))
    assert trim(tmp_path, limit=100, clock=lambda: later) == 500
    assert current.exists()
    assert other.exists()


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    fresh = entry(tmp_path / "wheels/.draft", 10, 1)
    stale = entry(tmp_path / "wheels/.other", 10, 30)
    uv = entry(tmp_path / "uv/simple/page", 1000, 30)
    for folder in (uv.parent, uv.parent.parent):
        os.utime(folder, (NOW - 30 * HOUR,) * 2)
    assert trim(tmp_path, limit=500, clock=lambda: NOW) == 1000
    assert fresh.exists()
    assert not stale.exists()
    assert not uv.exists()


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 1024**3), (" 200 mb ", 200 * 1024**2)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "-1GB", "5 kB", "many", "9999999GB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        read_size(text)


def test_the_cache_does_not_grow_without_limit(tmp_path: Path) -> None:
    """Thirty packages one after the other, with a clock that goes on: never much over the limit."""
    with serve(Index()) as index:
        clock = [NOW]
        for number in range(30):
            name = f"large{number}"
            data = wheel(name, "1.0", (f"{name}.py", os.urandom(20_000)))
            index.add(f"{name}-1.0-py3-none-any.whl", data)
            build(
                project(tmp_path / name, {"requirements.txt": f"{name}\n"}),
                out_dir=tmp_path / "out",
                cache_dir=tmp_path / "cache",
                environ={"PATH": os.environ["PATH"], "UV_DEFAULT_INDEX": index.url},
            )
            clock[0] += 2 * HOUR
            for path in (tmp_path / "cache").glob("[a-z]*/*"):
                if path.stat().st_mtime < NOW - HOUR:
                    os.utime(path, (clock[0] - HOUR,) * 2)
            trim(tmp_path / "cache", limit=200_000, clock=lambda: clock[0])
            os.utime(tmp_path / "cache/.trimmed", (clock[0] - 2 * HOUR,) * 2)
        files = [p for p in (tmp_path / "cache").glob("[a-z]*/**/*") if p.is_file()]
        assert sum(path.stat().st_size for path in files) < 400_000


_BUILD = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from chalice_ci.cache import trim
from support.packages import build
app_dir, folder, cache_dir = map(Path, sys.argv[2:])
for number in range(6):
    package = build(app_dir, out_dir=folder, cache_dir=cache_dir)
    print(package.app.sha256)
    # As if hours had passed: nothing that the other process has just made is spared. Only uv's own
    # cache is: who runs uv marks it.
    for path in (cache_dir / "uv").glob("*"):
        os.utime(path, (time.time() + 10_000,) * 2)
    trim(cache_dir, limit=0, clock=lambda: time.time() + 7200)
"""


def test_processes_that_build_and_trim_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Two of them, twelve packages, everything taken away each time."""
    with serve(Index()) as index:
        for name in ("alpha", "beta"):
            data = wheel(name, "1.0", (f"{name}.py", os.urandom(200_000)))
            index.add(f"{name}-1.0-py3-none-any.whl", data)
        app_dir = project(tmp_path / "app", {"requirements.txt": "alpha\nbeta\n"})
        running = [
            subprocess.Popen(
                [
                    *(sys.executable, "-c", _BUILD, str(Path(__file__).parent)),
                    *map(str, (app_dir, tmp_path / f"out{number}", tmp_path / "cache")),
                ],
                env={**commandline.environ(), "UV_DEFAULT_INDEX": index.url},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]
        done = [process.communicate(timeout=180) for process in running]
    assert [process.returncode for process in running] == [0, 0], done
    digests = {line for out, _ in done for line in out.splitlines()}
    assert len(digests) == 1
