"""The benchmarks' measure sees all that a command starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def measured(*command: str) -> dict[str, float | str]:
    """Measure in a process of its own: measuring waits for every child that there is."""
    environ = {"PATH": os.environ["PATH"]}
    code = (
        f"import json, sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from dataclasses import asdict\nfrom pathlib import Path\nfrom measure import measure\n"
        f"cost = measure({list(command)!r}, env={environ!r}, cwd=Path('/'))\n"
        "print(json.dumps(asdict(cost)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_exit_code_output_and_time_are_those_of_the_command() -> None:
    cost = measured("sh", "-c", "echo out; echo err >&2; sleep 0.3; exit 3")
    assert cost["code"] == 3
    assert cost["output"] == "out\nerr\n"
    assert 0.3 <= float(cost["wall"]) < 30


def test_cpu_time_of_grandchildren_counts() -> None:
    loop = "import time\nwhile time.process_time() < 0.5: pass"
    cost = measured("sh", "-c", f'"{sys.executable}" -c "{loop}" & wait')
    assert 0.5 <= float(cost["cpu"]) < 5


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")
def test_memory_of_processes_that_run_together_is_added_up_even_when_orphaned(
    tmp_path: Path,
) -> None:
    hold = (
        "import os, sys, time; held = bytearray(60_000_000); open(sys.argv[1], 'w').close()\n"
        "while len(os.listdir(os.path.dirname(sys.argv[1]))) < 2: time.sleep(0.01)\n"
        "time.sleep(1)"
    )
    # Neither goes before both are there.
    orphan, other = (
        f'(setsid "{sys.executable}" -c "{hold}" {tmp_path}/{number} &)' for number in range(2)
    )
    cost = measured("sh", "-c", f"{orphan}; {other}; exit 0")
    assert 120e6 < float(cost["peak"]) < 400e6
    assert cost["code"] == 0
