"""`chalice-ci deploy` against `chalice deploy`, on an AWS that takes its time: paired in one run.

    python benchmarks/bench_deploy.py [--functions 1 10 50] [--mode aws-like|latency|rate]
                                      [--json FILE] [--check]

The embedded AWS delays as people see it on AWS (assumptions, not measurements of AWS): a function
is pending for 1 s, updating for 1 s, a role can be used after 8 s, a call takes 50 ms. `latency`
leaves only the 50 ms, `rate` throttles Lambda at 15 calls a second. Apps have N functions with one
role, and no dependencies. Situations:

- first: nothing is there.
- change: app.py was edited, so each function has other code.
- same: nothing was edited.

Both are whole processes with warm caches; for each it is counted what AWS served: calls, mutating
calls, bytes of bodies. After each deploy there are N functions, all with the same code. `--check`
fails below the floors.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import boto3

from chalice_ci.local import EmbeddedAWS, LocalMode
from measure import Cost, measure

REGION = "us-east-1"
SITUATIONS = ("first", "change", "same")
TOOLS = ("chalice", "chalice-ci")
MODES = {
    "aws-like": LocalMode.aws_like(),
    "latency": LocalMode(lat=0.05),
    "rate": LocalMode(lat=0.05, rate=15.0),
}
# How many times as fast as Chalice; by mode, functions and situation.
FLOORS: Mapping[tuple[str, int, str], float] = {
    ("aws-like", 10, "first"): 4.0,
    ("aws-like", 10, "change"): 12.0,
    ("latency", 50, "first"): 5.0,
    ("latency", 50, "change"): 5.0,
}
SAME_SECONDS = 2.0
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """One deploy: what it cost here and what AWS served."""

    tool: str
    functions: int
    situation: str
    wall: float
    cpu: float
    peak_mib: float
    calls: int
    mutating: int
    sent: int
    throttled: int


def write_app(folder: Path, functions: int, *, edition: int) -> None:
    """An app with that many scheduled functions."""
    lines = ["from chalice import Chalice", "", f"EDITION = {edition}", 'app = Chalice("bench")']
    for number in range(functions):
        lines += [
            "",
            "@app.lambda_function()",
            f"def job_{number}(event, context):",
            "    return EDITION",
        ]
    (folder / "app.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "requirements.txt").write_text("", encoding="utf-8")
    chalice = folder / ".chalice"
    chalice.mkdir(exist_ok=True)
    config = {
        "version": "2.0",
        "app_name": "bench",
        "stages": {"dev": {}},
    }
    (chalice / "config.json").write_text(json.dumps(config), encoding="utf-8")


def command(tool: str, cache: Path) -> list[str]:
    """The command line of a deploy."""
    if tool == "chalice":
        return [str(Path(sys.executable).with_name("chalice")), "deploy", "--stage", "dev"]
    ours = [sys.executable, "-P", "-m", "chalice_ci", "deploy", "--stage", "dev"]
    return [*ours, "--cache-dir", str(cache), "--allow-unsandboxed", "--quiet"]


def measured(tool: str, functions: int, mode: LocalMode, cache: Path) -> Iterator[Deployed]:
    """First deploy, changed code, nothing changed, in an AWS of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        project = Path(temporary) / "app"
        project.mkdir()
        with EmbeddedAWS.start(mode, gateway=False) as aws:
            env = {
                **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")},
                **{k: v for k, v in os.environ.items() if k.startswith(("UV_", "PIP_", "SSL_"))},
                **aws.environ,
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            for situation in SITUATIONS:
                if situation != "same":
                    write_app(project, functions, edition=SITUATIONS.index(situation))
                aws.forget_calls()
                cost = alone(command(tool, cache), env, project)
                if cost.code != 0:
                    raise SystemExit(f"{tool} {situation} failed:\n{cost.output}")
                _check(aws, functions)
                yield _deployed(tool, functions, situation, cost, aws)


def alone(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Cost:
    """What a command costs, measured in a process that has no other children: not our AWS."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, command, env=env, cwd=cwd).result()


def _deployed(tool: str, functions: int, situation: str, cost: Cost, aws: EmbeddedAWS) -> Deployed:
    calls = aws.calls()
    mutating = [call for call in calls if call["mutating"]]
    return Deployed(
        tool=tool,
        functions=functions,
        situation=situation,
        wall=round(cost.wall, 2),
        cpu=round(cost.cpu, 2),
        peak_mib=round(cost.peak / _MIB, 1),
        calls=len(calls),
        mutating=len(mutating),
        sent=sum(int(call["bytes"]) for call in mutating),
        throttled=sum(call["status"] == 429 for call in calls),
    )


def _check(aws: EmbeddedAWS, functions: int) -> None:
    session = boto3.Session("embedded", "embedded", region_name=REGION)
    found = [
        function
        for page in session.client("lambda", endpoint_url=aws.endpoint_url)
        .get_paginator("list_functions")
        .paginate()
        for function in page["Functions"]
    ]
    if len(found) != functions or len({one["CodeSha256"] for one in found}) != 1:
        raise SystemExit(f"{len(found)} functions instead of {functions}, or of several codes")


def show(rows: Sequence[Deployed]) -> Iterator[str]:
    """A table: what each tool took, and how many times as fast ours is."""
    yield "functions situation  tool         wall s   cpu s  peak MiB  calls  mutating  sent kB"
    by = {(row.functions, row.situation, row.tool): row for row in rows}
    for row in rows:
        line = (
            f"{row.functions:>9} {row.situation:<10} {row.tool:<11} {row.wall:>7.2f}"
            f" {row.cpu:>7.2f} {row.peak_mib:>9.0f} {row.calls:>6} {row.mutating:>9}"
            f" {row.sent / 1000:>8.0f}"
        )
        plain = by.get((row.functions, row.situation, "chalice"))
        if row.tool == "chalice-ci" and plain is not None:
            line += f"  {plain.wall / row.wall:.1f}x"
        if row.throttled:
            line += f"  {row.throttled} throttled"
        yield line


def below_floor(rows: Sequence[Deployed], mode: str) -> Iterator[str]:
    """What is slower or does more than it may."""
    by = {(row.functions, row.situation, row.tool): row for row in rows}
    for (functions, situation, tool), row in by.items():
        if tool != "chalice-ci":
            continue
        plain = by[functions, situation, "chalice"]
        floor = FLOORS.get((mode, functions, situation), 1.0)
        if plain.wall / row.wall < floor:
            yield f"{functions} {situation}: {plain.wall / row.wall:.1f}x, floor {floor}x"
        if situation == "same" and row.mutating:
            yield f"{functions} same: {row.mutating} mutating calls"
        if situation == "same" and functions == 1 and row.wall > SAME_SECONDS:
            yield f"1 same: {row.wall} s, floor {SAME_SECONDS} s"


def main() -> None:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--functions", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--mode", choices=sorted(MODES), default="aws-like")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    cache = Path(tempfile.mkdtemp(prefix="bench-deploy-cache-"))
    cache.chmod(0o755)
    rows: list[Deployed] = []
    try:
        # Environments are made once and kept, as on a machine that has deployed before.
        list(measured("chalice-ci", 1, LocalMode(), cache))
        for functions in asked.functions:
            for tool in TOOLS:
                for row in measured(tool, functions, MODES[asked.mode], cache):
                    rows.append(row)
                    print(asdict(row), file=sys.stderr)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    print("\n".join(show(rows)))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    problems = list(below_floor(rows, asked.mode))
    if asked.check and problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
