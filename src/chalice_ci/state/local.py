"""States in a folder: `<root>/<app path>/.chalice/deployed/<stage>.json`.

With a project's folder as the root these are Chalice's own files, so `state pull` writes through
this store.  A state is replaced by renaming a complete, synced file over it: killed at any
moment, the old or the new state is there.  Processes take turns by a lock on the root folder
itself, which leaves no lock file behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chalice_ci.errors import StateNotRecorded, UsageError
from chalice_ci.privilege import acts_for_others
from chalice_ci.snapshot_document import MAX_BYTES as MAX_SNAPSHOT_BYTES
from chalice_ci.state.releases import MAX_BYTES as MAX_RELEASES_BYTES
from chalice_ci.state.schema import MAX_BYTES, StageState, StateDamaged, parse_v2, render
from chalice_ci.state.store import (
    ABSENT,
    JournalChange,
    Kept,
    StateKey,
    Stored,
    Written,
    keys_of,
    moved,
    refuse_case_collision,
)

LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.02


class Disk:
    """The system calls of a write, so that each of them can fail in a test."""

    def create(self, path: Path, mode: int) -> int:
        """A descriptor of a new file; fails if it exists."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Bring a file or a folder to the device."""
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Put a file in the place of another, at once."""
        source.replace(target)


class LocalStore:
    """States in a folder; see the module.

    `root` is made if it is missing.  A write waits up to `patience` seconds for other processes.
    """

    def __init__(
        self,
        root: Path,
        *,
        disk: Disk | None = None,
        patience: float = LOCK_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._disk = disk or Disk()
        self._patience = patience
        self._sleep = sleep
        self._clock = clock

    def read(self, key: StateKey) -> Stored:
        """The state in the file, checked."""
        raw = self._bytes(self._path(key))
        journal = self._bytes(self._path(key, key.journal_file))
        return Stored(
            state=None if raw is None else parse_v2(raw, where=key.file),
            version=_version(raw),
            journal=Kept(raw=journal, version=_version(journal)),
        )

    def snapshot(self, key: StateKey) -> bytes | None:
        """The snapshot in the file beside it."""
        return self._bytes(self._path(key, key.snapshot_file), limit=MAX_SNAPSHOT_BYTES)

    def releases(self, key: StateKey) -> bytes | None:
        """The list of releases in the file beside it."""
        return self._bytes(self._path(key, key.releases_file), limit=MAX_RELEASES_BYTES)

    def version(self, key: StateKey) -> str:
        """The version of the file, whatever is in it."""
        return _version(self._bytes(self._path(key)))

    def write(
        self,
        key: StateKey,
        state: StageState | None,
        *,
        expected: str,
        message: str,
        snapshot: bytes | None = None,
        journal: JournalChange | None = None,
        releases: bytes | None = None,
    ) -> Written:
        """Replace the file; `message` is not kept, a folder has no history.

        Several files cannot be replaced at once: the old snapshot goes before the new state comes,
        so that killed in between there is none rather than a wrong one, and the journal is closed
        last.
        """
        del message
        new = None if state is None else render(state)
        files: list[tuple[str, bytes | None]] = [(key.file, new), (key.snapshot_file, snapshot)]
        if releases is not None or state is None:
            files.append((key.releases_file, releases))
        before = {key.file: expected}
        if journal is not None:
            files.append((key.journal_file, journal.raw))
            before[key.journal_file] = journal.expected
        changed = self._swap(key, files, before)
        return Written(changed=changed, version=_version(new))

    def keep_journal(
        self, key: StateKey, journal: JournalChange, *, state: str, message: str
    ) -> str:
        """Replace the journal's file."""
        del message
        before = {key.file: state, key.journal_file: journal.expected}
        self._swap(key, [(key.journal_file, journal.raw)], before)
        return _version(journal.raw)

    def _swap(
        self, key: StateKey, files: list[tuple[str, bytes | None]], before: Mapping[str, str]
    ) -> bool:
        """Replace files if those in `before` have the versions given there; whether any changed."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._locked(key):
                limit = max(MAX_BYTES, MAX_SNAPSHOT_BYTES)
                old = {
                    file: self._bytes(self._path(key, file), limit=limit)
                    for file in {*before, *(file for file, _ in files)}
                }
                changes = [(file, data) for file, data in files if old[file] != data]
                if not changes:
                    return False
                if any(version != _version(old[file]) for file, version in before.items()):
                    raise moved(key, where=str(self._root / key.file))
                refuse_case_collision(key, self.keys())
                if any(file == key.snapshot_file for file, _ in changes):
                    self._path(key, key.snapshot_file).unlink(missing_ok=True)
                for file, data in changes:
                    if data is None:
                        self._path(key, file).unlink(missing_ok=True)
                    else:
                        self._replace(self._path(key, file), data)
        except OSError as error:
            raise StateNotRecorded(
                f"The state could not be written: {error.strerror or error}. "
                "The state that was there is intact.",
                where=str(error.filename or self._root / key.file),
                fix=_FIXES.get(error.errno or 0, "See that the folder can be written to."),
            ) from error
        return True

    def keys(self) -> tuple[StateKey, ...]:
        """Every state below the root; links and `.git` are not followed."""
        return self._listed(StateKey.of_file)

    def known(self) -> tuple[StateKey, ...]:
        """Every state and every journal below the root."""
        return self._listed(StateKey.of_either)

    def _listed(self, key_of: Callable[[str], StateKey | None]) -> tuple[StateKey, ...]:
        found: list[str] = []
        for folder, names, files in os.walk(self._root):
            names[:] = [n for n in names if n != ".git"]
            if Path(folder).name != "deployed" or Path(folder).parent.name != ".chalice":
                continue
            relative = Path(folder).relative_to(self._root).as_posix()
            found += [f"{relative}/{name}" for name in files]
        return keys_of(found, key_of)

    def _path(self, key: StateKey, file: str = "") -> Path:
        """The file of a key, or one beside it; refused when it is a link or its folder leads out of
        the root.
        """
        file = file or key.file
        path = self._root / file
        try:
            beneath = path.parent.resolve().is_relative_to(self._root.resolve())
        except (OSError, RuntimeError):  # a loop of links
            beneath = False
        if path.is_symlink() or not beneath:
            raise UsageError(
                "The path leads through a symbolic link out of the store.",
                where=file,
                fix="Replace the link by a folder or a file.",
            )
        return path

    def _bytes(self, path: Path, *, limit: int = MAX_BYTES) -> bytes | None:
        where = path.relative_to(self._root).as_posix()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StateDamaged(
                f"The state cannot be read: {error.strerror}.",
                where=where,
                fix="See that it is a file that can be read.",
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StateDamaged(
                    "This is not a file.", where=where, fix="Remove what is in its place."
                )
            with os.fdopen(os.dup(descriptor), "rb") as file:
                return file.read(limit + 1)
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self, key: StateKey) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            end = self._clock() + self._patience
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock() >= end:
                        raise StateNotRecorded(
                            f"Another process has held the folder for {self._patience:g} s.",
                            where=str(self._root / key.file),
                            fix="Wait for it to end, or end it, and run again.",
                        ) from None
                    self._sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, path: Path, data: bytes) -> None:
        for folder in reversed([f for f in path.parents if not f.exists()]):
            folder.mkdir()
            _give(folder, folder.parent.stat())
        # Left behind by a process that was killed or by a disk that failed, for any of the stage's
        # files; nobody writes now, the lock is ours.
        for stray in path.parent.glob(f".{path.name.partition('.')[0]}.*.tmp"):
            stray.unlink(missing_ok=True)
        like = path.stat() if path.exists() else None
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            descriptor = self._disk.create(temporary, 0o666)
            try:
                if like is not None:
                    os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
                _give(temporary, like or path.parent.stat())
                self._disk.write(descriptor, data)
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)
            self._disk.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._sync_folder(path.parent)

    def _sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)


_FIXES = {
    errno.ENOSPC: "Free space on the device and run again.",
    errno.EDQUOT: "Free space in the quota and run again.",
    errno.EROFS: "The file system is read-only: choose another folder for the state.",
    errno.EACCES: "Give this user the right to write there.",
    errno.EPERM: "Give this user the right to write there.",
    errno.EIO: "The device failed: look at the machine's log, then run again.",
}


def _give(path: Path, like: os.stat_result) -> None:
    """As root, hand a new file to the owner of its neighbours: a container runs as root in
    somebody's workspace.
    """
    if like.st_uid != 0 and acts_for_others():
        os.chown(path, like.st_uid, like.st_gid, follow_symlinks=False)


def _version(raw: bytes | None) -> str:
    return ABSENT if raw is None else hashlib.sha256(raw).hexdigest()
