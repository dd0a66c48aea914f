"""What a difference of a large stage costs: 300 routes, 50 functions, a package of 20,000 files.

Both snapshots are read from their JSON, as a run reads them, compared, drawn, and told as the
comment, report.json and report.html; every tenth thing of the stage is another. Prints the seconds
of each step, their sum, and the peak memory of the process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from chalice_ci import snapshot_document  # noqa: E402
from chalice_ci.difference.changes import Baseline, BaselineKind  # noqa: E402
from chalice_ci.difference.compare import compare  # noqa: E402
from chalice_ci.difference.delta import apply, diff  # noqa: E402
from chalice_ci.difference.diagram import diagram_of  # noqa: E402
from chalice_ci.report import document  # noqa: E402
from chalice_ci.report.comment import LIMIT, comment, units  # noqa: E402
from chalice_ci.report.html import html  # noqa: E402
from chalice_ci.report.origin import Origin  # noqa: E402
from chalice_ci.report.report import Report, Result  # noqa: E402
from support.snapshots import large  # noqa: E402 - the tests' own generator

_T = TypeVar("_T")


def main() -> None:
    """Print one JSON object."""
    raw = [snapshot_document.render(large(of=number)) for number in (0, 1)]
    steps: dict[str, float] = {}

    def timed(name: str, work: Callable[[], _T]) -> _T:
        wall, cpu = time.perf_counter(), time.process_time()
        done = work()
        steps[name] = round(time.perf_counter() - wall, 3)
        steps["cpu"] = round(steps.get("cpu", 0.0) + time.process_time() - cpu, 3)
        return done

    before, after = timed("read", lambda: [snapshot_document.parse(one) for one in raw])
    baseline = Baseline(kind=BaselineKind.BASE, commit="0" * 40)
    changes = timed("diff", lambda: compare(before, after, baseline))
    drawn = timed("draw", lambda: diagram_of(before, after))
    result = Result(app="orders", stage="dev", changes=changes, diagram=drawn)
    report = Report(verb="run", results=(result,))
    body = timed("comment", lambda: comment(report, origin=Origin()))
    timed("report.json", lambda: document.render(report))
    timed("report.html", lambda: html(report))
    assert units(body) <= LIMIT
    assert apply(before, diff(before, after)) == after
    steps["wall"] = round(sum(value for name, value in steps.items() if name != "cpu"), 3)
    # Not ru_maxrss: a process keeps what its parent had when it was forked.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(
        json.dumps(
            {
                "items": len(changes.items),
                "snapshot_mb": round(len(raw[0]) / 1e6, 2),
                "comment_units": units(body),
                "seconds": steps,
                "peak_mb": round(peak, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
