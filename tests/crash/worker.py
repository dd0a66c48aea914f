"""Deploys in processes that can be killed: everything is imported once, each deploy is a fork.

Reads a request a line on stdin and forks; the fork says its pid, waits for a line, then deploys
with the real lease, journal, recovery, deployer and store, and says how it ended.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalice_ci.app.deployer import PackageFile, Target
from chalice_ci.applying import Work, carry_out
from chalice_ci.checkout import Checkout
from chalice_ci.config import AppConfig, ProjectConfig
from chalice_ci.errors import UserError
from chalice_ci.holding import Stage, settle
from chalice_ci.inputs import read_inputs
from chalice_ci.report.progress import Progress
from chalice_ci.report.report import Result
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.state.git import GitStore, LocalRepository
from chalice_ci.state.local import LocalStore
from chalice_ci.state.select import Records
from chalice_ci.world import World


def deploy(request: dict[str, Any]) -> str:
    """Deploy or delete as asked; what to say about it."""
    work = Path(request["work"])
    world = World(
        env=request["environ"],
        cwd=work,
        now=lambda: datetime.now(UTC),
        stdout=io.StringIO(),
        stderr=sys.stderr,
        python=Path(sys.executable),
        uid=os.geteuid(),
    )
    folder = Path(request["store"])
    store = (
        GitStore(LocalRepository(folder, work_dir=work, environ=os.environ))
        if (folder / ".git").exists()
        else LocalStore(folder)
    )
    run = Run(
        world=world,
        inputs=read_inputs({}, {"lease-wait": ("20",)}),
        checkout=Checkout(root=work, commit="c" * 40),
        config=ProjectConfig(),
        records=Records(store=store, name=str(folder)),
        progress=Progress(stream=sys.stderr),
        cache_dir=work / "cache",
        work_dir=work,
        out=work / "out",
    )
    job = Job(app=AppConfig(name="app", path="."), stage="dev")
    with run.deployers, run.deployers.lent(Path(sys.executable), request["region"]) as deployer:
        identity = deployer.identify()
        stage = Stage(app_name=request["app_name"], identity=identity, graph=request["graph"])
        recorded = settle(run, job, stage)
        target = Target(
            app_name=request["app_name"],
            stage="dev",
            graph=request["graph"],
            packages={
                slot: PackageFile(path=Path(path), sha256=digest)
                for slot, (path, digest) in request["packages"].items()
            },
            resources=() if recorded is None else recorded.state.resources,
        )
        what = Work(
            target=target,
            operations=deployer.plan(target),
            identity=identity,
            recorded=recorded,
        )
        result = carry_out(run, job, what, deployer, Result(app="app", stage="dev", path="."))
    return "done" if result.failure is None else f"failed: {result.failure.what}"


def main() -> None:
    """Serve requests until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writes)
            os.read(reads, 1)
            try:
                said = deploy(request)
            except UserError as error:
                said = f"failed: {error}"
            except BaseException:
                said = "defect: " + traceback.format_exc()
            answer(said)
            os._exit(0)
        os.close(reads)
        answer(pid)
        sys.stdin.readline()
        os.write(writes, b"g")
        os.close(writes)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            answer(f"killed by {os.WTERMSIG(status)}")


def answer(what: object) -> None:
    """One line of JSON."""
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main()
