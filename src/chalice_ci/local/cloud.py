"""One embedded AWS per folder, for several commands one after another.

moto keeps everything in memory, so what a `deploy --local` made would be gone before
`url --local` asks. Here the server outlives the command: it belongs to a folder, which remembers
where it is, and it ends on `stop`, when nothing was asked of it for some hours, or when the folder
is deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from chalice_ci.errors import UsageError
from chalice_ci.local import process
from chalice_ci.local.aws import (
    DEFAULT_REGION,
    Endpoint,
    gateway_options,
    require_extra,
    server_command,
    server_environ,
)
from chalice_ci.local.mode import LocalMode

IDLE_SECONDS = 4 * 3600.0
_RECORD = "aws.json"
_ALIVE = "alive"
_LOG = "aws.log"
_STOP_SECONDS = 10.0


class LocalCloud(Endpoint):
    """The embedded AWS of a folder.

    `started` says whether this call started it, so whether it is empty.
    """

    def __init__(
        self, record: Mapping[str, Any], *, state_dir: Path, region: str, started: bool
    ) -> None:
        super().__init__(
            endpoint_url=record["endpoint_url"],
            gateway_url=record["gateway_url"],
            region=region,
        )
        self.started = started
        self.pid = int(record["pid"])
        self.log = state_dir / _LOG
        self._state_dir = state_dir

    @classmethod
    def attach_or_start(
        cls,
        state_dir: Path,
        *,
        mode: LocalMode | None = None,
        region: str = DEFAULT_REGION,
        pythons: Mapping[str, Path] | None = None,
        cache_dir: Path | None = None,
        idle: float = IDLE_SECONDS,
    ) -> Self:
        """Reach the folder's running AWS, or start one; two callers at once get the same.

        `mode`, `pythons`, `cache_dir` and `idle` (seconds, 0: for ever) count for a server that
        has to be started; a running one that has another `mode` is a UsageError, None takes any.
        """
        require_extra()
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(state_dir):
            record = _running(state_dir)
            if record is not None:
                _same_mode(record, mode, state_dir)
                return cls(record, state_dir=state_dir, region=region, started=False)
            record = _start(
                state_dir,
                mode=mode or LocalMode(),
                options=[f"--idle={idle}", *gateway_options(pythons, cache_dir)],
            )
            return cls(record, state_dir=state_dir, region=region, started=True)

    @classmethod
    def attach(cls, state_dir: Path, *, region: str = DEFAULT_REGION) -> Self | None:
        """Reach the folder's running AWS; None when there is none."""
        record = _running(state_dir)
        if record is None:
            return None
        return cls(record, state_dir=state_dir, region=region, started=False)

    def stop(self) -> None:
        """End it, with all that was made in it; nothing happens when it has ended already."""
        if not self._state_dir.exists():
            return
        with _locked(self._state_dir):
            record = _running(self._state_dir)
            if record is None or int(record["pid"]) != self.pid:
                return
            _end(self.pid, self._state_dir)
            (self._state_dir / _RECORD).unlink(missing_ok=True)


def _start(state_dir: Path, *, mode: LocalMode, options: list[str]) -> dict[str, Any]:
    instance = uuid.uuid4().hex
    # The server inherits this lock: it is free again exactly when the server has ended.
    with (state_dir / _ALIVE).open("w") as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _unanswered(state_dir) from None
        ready = process.start_detached(
            server_command(
                mode,
                f"--instance={instance}",
                f"--while-exists={(state_dir / _ALIVE).absolute()}",
                *options,
            ),
            environ=server_environ(),
            log=state_dir / _LOG,
            keep=alive.fileno(),
        )
    record = {**ready, "instance": instance}
    path = state_dir / _RECORD
    part = path.with_name(f"{_RECORD}.{os.getpid()}")
    part.write_text(json.dumps(record), encoding="utf-8")
    part.replace(path)
    return record


def _running(state_dir: Path) -> dict[str, Any] | None:
    """The record of the folder's server, if that very server answers.

    Its pid or port may belong to somebody else by now, so the server itself has to say that it is
    the instance that was recorded.
    """
    try:
        record = json.loads((state_dir / _RECORD).read_text(encoding="utf-8"))
        endpoint = Endpoint(
            endpoint_url=record["endpoint_url"],
            gateway_url=record["gateway_url"],
            region=DEFAULT_REGION,
        )
        health = endpoint.health()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if health.get("instance") != record.get("instance") or health.get("pid") != record.get("pid"):
        return None
    return {**record, "mode": health["mode"]}


def _unanswered(state_dir: Path) -> UsageError:
    """What holds the folder's lock and says nothing: its pid is what a person needs."""
    holding = list(_holders(state_dir / _ALIVE))
    named = f" (process {', '.join(map(str, holding))})" if holding else ""
    end = f"End it (kill -CONT {holding[0]}; kill {holding[0]})" if holding else "End it"
    return UsageError(
        f"an embedded AWS of this folder{named} is running but doesn't answer.",
        where=str(state_dir),
        fix=f"{end}, or take another folder. Its log is {state_dir / _LOG}.",
    )


def _holders(file: Path) -> Iterator[int]:
    """The processes that have a file open, where /proc tells; other users' are not seen."""
    wanted = str(file.resolve())
    for process_dir in Path("/proc").glob("[0-9]*"):
        pid = int(process_dir.name)
        with contextlib.suppress(OSError):
            opened = [str(entry.readlink()) for entry in (process_dir / "fd").iterdir()]
            if pid != os.getpid() and wanted in opened:
                yield pid


def _same_mode(record: Mapping[str, Any], mode: LocalMode | None, state_dir: Path) -> None:
    if mode is not None and record["mode"] != vars(mode):
        raise UsageError(
            f"an embedded AWS with other settings is running: {record['mode']}",
            where=str(state_dir),
            fix="Stop it first; what was deployed to it is gone then.",
        )


def _end(pid: int, state_dir: Path) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    with contextlib.suppress(ProcessLookupError), (state_dir / _ALIVE).open("w") as alive:
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    with (state_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
