"""`chalice-ci deploy` against `chalice deploy`, on an AWS that takes its time: paired in one run.

    python benchmarks/bench_deploy.py [--functions 1 10 50] [--mode aws-like|latency|rate|busy]
                                      [--payload MB] [--bucket] [--json FILE] [--check]

The embedded AWS delays as people see it on AWS (assumptions, not measurements of AWS): a function
is pending for 1 s, updating for 1 s, a role can be used after 8 s, a call takes 50 ms. `latency`
leaves only the 50 ms, `rate` throttles each service at 15 calls a second besides, `busy` is both:
AWS-like and throttled. Apps have N functions with one role, and no dependencies; `--payload` puts a
file of that many megabytes, which nothing compresses, into the package, `--bucket` lets chalice-ci
upload through S3. What the embedded AWS imports at its first calls is imported before. Situations:

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
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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
    "busy": replace(LocalMode.aws_like(), rate=15.0),
}
# How many times as fast as Chalice; by mode, functions and situation.
FLOORS: Mapping[tuple[str, int, str], float] = {
    ("aws-like", 10, "first"): 4.0,
    ("aws-like", 10, "change"): 12.0,
    ("latency", 50, "first"): 5.0,
    ("latency", 50, "change"): 5.0,
}
SAME_SECONDS = 2.0
# How much more memory any number of functions may take than the smallest measured number does.
MEMORY_RATIO = 1.25
BUCKET = "bench-packages"
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


def write_app(
    folder: Path, functions: int, *, edition: int, payload: int = 0, bucket: bool = False
) -> None:
    """An app with that many functions, and so many megabytes beside its code."""
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
    if payload:
        library = folder / "chalicelib"
        library.mkdir(exist_ok=True)
        (library / "__init__.py").touch()
        # The same bytes in each edition and for both tools.
        (library / "model.bin").write_bytes(random.Random(0).randbytes(payload * 1_000_000))
    if bucket:
        (folder / "chalice-ci.yml").write_text(
            f"version: 1\nstages:\n  dev: {{package-bucket: {BUCKET}}}\n", encoding="utf-8"
        )
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


def measured(
    tool: str,
    functions: int,
    mode: LocalMode,
    cache: Path,
    *,
    payload: int = 0,
    bucket: bool = False,
) -> Iterator[Deployed]:
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
            _warm_up(aws)
            through = bucket and tool == "chalice-ci"
            for edition, situation in enumerate(SITUATIONS):
                if situation != "same":
                    write_app(project, functions, edition=edition, payload=payload, bucket=through)
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


def _client(aws: EmbeddedAWS, service: str) -> Any:
    session = boto3.Session("embedded", "embedded", region_name=REGION)
    return session.client(service, endpoint_url=aws.endpoint_url)


def _warm_up(aws: EmbeddedAWS) -> None:
    """moto imports a service at its first call, for most of a second: AWS does not."""
    _client(aws, "sts").get_caller_identity()
    _client(aws, "iam").list_roles()
    _client(aws, "lambda").list_functions()
    _client(aws, "s3").create_bucket(Bucket=BUCKET)


def _check(aws: EmbeddedAWS, functions: int) -> None:
    found = [
        function
        for page in _client(aws, "lambda").get_paginator("list_functions").paginate()
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
        if situation == "same" and row.sent:
            yield f"{functions} same: {row.sent} bytes sent"
        if situation == "same" and functions == 1 and row.wall > SAME_SECONDS:
            yield f"1 same: {row.wall} s, floor {SAME_SECONDS} s"
        if row.sent > plain.sent:
            yield f"{functions} {situation}: {row.sent} bytes sent, by Chalice {plain.sent}"
        fewest = by[min(functions for functions, _, _ in by), situation, tool]
        if row.peak_mib > fewest.peak_mib * MEMORY_RATIO:
            yield (
                f"{functions} {situation}: {row.peak_mib} MiB, {fewest.functions} functions "
                f"{fewest.peak_mib} MiB"
            )


def main() -> None:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--functions", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--mode", choices=sorted(MODES), default="aws-like")
    parser.add_argument("--payload", type=int, default=0, metavar="MB")
    parser.add_argument("--bucket", action="store_true")
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
                for row in measured(
                    tool,
                    functions,
                    MODES[asked.mode],
                    cache,
                    payload=asked.payload,
                    bucket=asked.bucket,
                ):
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
