"""Deploys in processes that can be killed: everything is imported once, each deploy is a fork.

The deployer with the AWS credentials is a fork too, of its own session, as in production; only the
start of Python and the import of Chalice are spared.

Reads a request a line on stdin and forks; the fork says its pid, waits for a line, then deploys
with the real lease, journal, recovery, deployer and store, and says how it ended.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalice_ci.app.deployer import CHILD_DIR, Deployer, PackageFile, Target, deployer_environ
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

sys.path.insert(0, str(CHILD_DIR))
from chalice_ci_child import apply

sys.path.remove(str(CHILD_DIR))


class Forked:
    """A fork of this process, with what the parent of a deployer asks of its child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        """The exit code, once it has ended."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("deployer", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def fork_deployer(environ: Mapping[str, str], region: str, work: Path) -> Deployer:
    """A deployer as `Deployer.start` makes it, but a fork."""
    child_reads, requests = os.pipe()
    answers, child_writes = os.pipe()
    output = work / f"deployer-{os.getpid()}.log"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(requests)
        os.close(answers)
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(deployer_environ(environ, region))
        code = 1
        try:
            code = apply.main(child_reads, child_writes)
        finally:
            os._exit(code)
    os.close(child_reads)
    os.close(child_writes)
    process: Any = Forked(pid)
    return Deployer(process, os.fdopen(requests, "wb", buffering=0), answers, output, 0.2)


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
    with fork_deployer(request["environ"], request["region"], work) as deployer:
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
