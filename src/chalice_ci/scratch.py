"""Folders for the time of a process: gone with it, or swept by the next one when it was killed.

A folder is held by a lock on a file inside, which the kernel lets go when its process ends, however
that happens. What nobody holds is swept; a name or an age proves nothing. A folder without such a
file (a cache, a state that could not be recorded) is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "chalice-ci-"
_HELD = ".held"


@contextlib.contextmanager
def scratch_folder(name: str = "") -> Iterator[Path]:
    """A new folder among the temporary ones that others may enter but not list.

    `name` is a part of its name. Sweeps what killed processes of this user left there.
    """
    temporary = Path(tempfile.gettempdir())
    _sweep(temporary)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}", dir=temporary))
    try:
        held = _hold(folder)
        try:
            # A child without rights must reach its own folder in here.
            folder.chmod(0o711)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _hold(folder: Path) -> int:
    """Lock the file that says so; it gets its name when it is locked, never before."""
    draft = folder / f"{_HELD}.draft"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    draft.rename(folder / _HELD)
    return descriptor


def _sweep(temporary: Path) -> None:
    with contextlib.suppress(OSError), os.scandir(temporary) as found:
        for entry in found:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _sweep_one(Path(entry.path))


def _sweep_one(folder: Path) -> None:
    """Remove a folder of ours that nobody holds; OSError for every other one."""
    if folder.lstat().st_uid != os.geteuid():
        return
    descriptor = os.open(folder / _HELD, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        said = os.fstat(descriptor)
        if stat.S_ISREG(said.st_mode) and said.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
