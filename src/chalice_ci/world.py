"""The surroundings of a run as one argument: environment, clock, streams, interpreter."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from chalice_ci.errors import UsageError
from chalice_ci.signals import Signals

if TYPE_CHECKING:
    from chalice_ci.app.standby import Standby


def _elapsed() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True, kw_only=True)
class World:
    """What a run may see and touch.

    `env` is the process's environment, `cwd` what relative paths mean, `now` the time in UTC,
    `python` the interpreter that runs us, `uid` the effective user.
    """

    env: Mapping[str, str]
    cwd: Path
    now: Callable[[], datetime]
    stdout: TextIO
    stderr: TextIO
    python: Path
    uid: int
    elapsed: Callable[[], float] = _elapsed
    """Seconds that go on while the machine sleeps, from any beginning."""
    sleep: Callable[[float], None] = time.sleep
    stdin: TextIO | None = None
    """Where a person may answer; None: nobody is asked."""
    standby: Standby | None = None
    """A loader that was started already, for the first app that is loaded."""
    signals: Signals = field(default_factory=Signals)
    """Those that end a run; nobody listens to them by default."""

    @property
    def on_ci(self) -> bool:
        """Whether a CI system runs us; they all set CI."""
        return self.env.get("CI", "").lower() in ("1", "true")

    @property
    def region(self) -> str | None:
        """The region that the environment names, as the AWS command line reads it."""
        return self.env.get("AWS_REGION") or self.env.get("AWS_DEFAULT_REGION") or None

    @property
    def has_credentials(self) -> bool:
        """Whether something that AWS or a forge would accept is within reach of this process."""
        return any(self.env.get(name) for name in _CREDENTIALS)

    def cache_dir(self, chosen: Path | None) -> Path:
        """Where environments, wheels and locks are kept.

        As root never below a home: a user without rights must be able to run what is in there.
        For a user without a home of his own, as in containers, a folder of his among the temporary
        ones. Raises UsageError when somebody else has that.
        """
        if chosen is not None:
            return (self.cwd / chosen).absolute()
        if self.uid == 0:
            return Path("/var/cache/chalice-ci")
        home = self.env.get("HOME")
        caches = self.env.get("XDG_CACHE_HOME") or (home and str(Path(home) / ".cache"))
        if caches and _can_be_made(Path(caches) / "chalice-ci"):
            return Path(caches) / "chalice-ci"
        return _temporary_cache(self.uid)


def _can_be_made(folder: Path) -> bool:
    """Whether we may write into a folder, or into the first of its parents that is there."""
    for there in (folder, *folder.parents):
        try:
            mode = there.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError:
            return False
        return stat.S_ISDIR(mode) and os.access(there, os.W_OK | os.X_OK)
    return False


def _temporary_cache(uid: int) -> Path:
    folder = Path(tempfile.gettempdir(), f"chalice-ci-{uid}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    # What is in there will be run, so nobody else may have put it there.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o022:
        raise UsageError(
            "somebody else can write into the folder for what is kept between runs.",
            where=str(folder),
            fix="Remove it, or name another one with `cache-dir`.",
        )
    return folder


_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_RUNTIME_TOKEN",
    "GITHUB_TOKEN",
    "GITLAB_TOKEN",
    "AZURE_DEVOPS_EXT_PAT",
    "BITBUCKET_TOKEN",
    "CHALICE_CI_GITHUB_TOKEN",
    "CHALICE_CI_ID_TOKEN",
    "CI_JOB_TOKEN",
    "SYSTEM_ACCESSTOKEN",
)
