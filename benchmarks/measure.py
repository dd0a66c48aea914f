"""What a whole command costs: wall time, CPU time and peak memory of it and all that it starts.

Memory is the sum over all living descendants, sampled, each shared page counted once (PSS): to read
it stops who is looked at, so it is for runs whose time does not count. This process adopts
descendants whose parent ended, so that none escapes the sum.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.05
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds and bytes; `output` is what the command printed."""

    wall: float
    cpu: float
    peak: int
    code: int
    output: str


def measure(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, memory: bool = True
) -> Cost:
    """Run the command to its end, and wait for whatever it leaves behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    done = threading.Event()
    peaks = [0]
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        sampler = threading.Thread(target=_sample, args=(os.getpid(), done, peaks), daemon=True)
        if memory:
            sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu, single = usage.ru_utime + usage.ru_stime, usage.ru_maxrss
        with contextlib.suppress(ChildProcessError):
            while True:
                _, _, usage = os.wait4(-1, 0)
                cpu += usage.ru_utime + usage.ru_stime
                single = max(single, usage.ru_maxrss)
        done.set()
        if memory:
            sampler.join()
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(
        wall=wall,
        cpu=cpu,
        peak=max(peaks[0], single * unit),
        code=process.returncode,
        output=text,
    )


def _sample(root: int, done: threading.Event, peaks: list[int]) -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        return
    while not done.wait(SAMPLE_SECONDS):
        peaks[0] = max(peaks[0], sum(_pss(pid) for pid in descendants(root)))


def descendants(root: int) -> list[int]:
    """The processes below `root`, without itself."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                # The name in parentheses may hold anything; the parent follows the last one.
                text = (entry / "stat").read_text(errors="replace")
                parent = int(text.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0
