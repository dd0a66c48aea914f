"""Starting a process of ours and waiting for its one line of readiness."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chalice_ci.errors import UsageError

START_SECONDS = 60.0

# Leaves a process that nobody waits for, so that it is no zombie of ours when it ends.
_DETACH = (
    "import os, sys\nif os.fork(): os._exit(0)\nos.setsid()\nos.execv(sys.argv[1], sys.argv[1:])\n"
)


def start(
    command: Sequence[str], *, environ: Mapping[str, str], log: Path | None
) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start a process and read its line of readiness, a JSON object.

    Its standard error goes to `log`, or where ours goes when that is None. It holds the other end
    of our pipe as its standard input, so it sees when we end, however we end.
    """
    with contextlib.nullcontext() if log is None else log.open("ab") as sink:
        process = subprocess.Popen(
            command,
            env=dict(environ),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            start_new_session=True,
        )
    try:
        return process, _ready(process, log)
    except BaseException:
        end(process)
        raise


def start_detached(
    command: Sequence[str], *, environ: Mapping[str, str], log: Path, keep: int
) -> dict[str, Any]:
    """Start a process that outlives us and read its line of readiness.

    It keeps the descriptor `keep` open as long as it lives.
    """
    with log.open("ab") as sink:
        between = subprocess.Popen(
            [command[0], "-I", "-S", "-c", _DETACH, *command],
            env=dict(environ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            pass_fds=(keep,),
        )
    try:
        return _ready(between, log)
    finally:
        between.wait()


def announce(ready: str) -> None:
    """Say, in the started process, that it is ready; whatever it prints later goes to its log.

    Nobody reads its standard output after that line.
    """
    print(ready, flush=True)
    os.dup2(2, 1)


def _ready(process: subprocess.Popen[bytes], log: Path | None) -> dict[str, Any]:
    assert process.stdout is not None
    with process.stdout as source:
        line = _line(source.fileno())
    if not line:
        said = log.read_text(encoding="utf-8", errors="replace").strip() if log else ""
        raise UsageError(f"it ended before it was ready: {said[-1000:]}", where="the embedded AWS")
    document: dict[str, Any] = json.loads(line)
    return document


def _line(source: int) -> bytes:
    collected = b""
    deadline = time.monotonic() + START_SECONDS
    while b"\n" not in collected:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([source], [], [], left)[0]:
            raise UsageError(
                f"it was not ready after {START_SECONDS:.0f} seconds", where="the embedded AWS"
            )
        chunk = os.read(source, 4096)
        if not chunk:
            return b""
        collected += chunk
    return collected


def end(process: subprocess.Popen[bytes], *, seconds: float = 5.0) -> None:
    """End the process: by closing its input, then SIGTERM, then SIGKILL."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
