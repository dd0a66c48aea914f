"""Deploys in processes that can be killed: everything is imported once, each deploy is a fork.

The deployer with the AWS credentials is a fork too, of its own session, as in production; only the
start of Python, the imports and the reading of AWS's models from disk are spared.

Each message on the control socket brings a socket of a deploy. Its keeper, a fork, reads the
request from there, forks the deploy, says its pid, lets it begin when told so, and says how it
ended; so many deploys can run at once. It closes the socket when the deployer has ended, too.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.session

from chalice_ci import ownership, pipeline  # noqa: F401
from chalice_ci.__main__ import main as run_command
from chalice_ci.app.deployer import CHILD_DIR, Deployer, PackageFile, Target, deployer_environ
from chalice_ci.applying import Work, carry_out, until_not_overtaken
from chalice_ci.checkout import Checkout
from chalice_ci.config import AppConfig, ProjectConfig
from chalice_ci.errors import ExitCode, UserError
from chalice_ci.holding import Stage, settle
from chalice_ci.inputs import read_inputs
from chalice_ci.report.progress import Progress
from chalice_ci.report.report import Result
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.state.git import GitStore
from chalice_ci.state.git_repository import LocalRepository
from chalice_ci.state.local import LocalStore
from chalice_ci.state.plans import FolderPlans
from chalice_ci.state.select import Records
from chalice_ci.world import World

sys.path.insert(0, str(CHILD_DIR))
from chalice_ci_child import apply

sys.path.remove(str(CHILD_DIR))

SERVICES = ("apigateway", "apigatewayv2", "events", "iam", "lambda", "logs", "s3", "sns", "sts")


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
            time.sleep(0.002)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal in that ends a deploy."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork_deployer(request: Mapping[str, Any], work: Path, *, unheard: int) -> Deployer:
    """A deployer as `Deployer.start` makes it, but a fork, without the descriptor `unheard`."""
    environment = deployer_environ(request["environ"], request["region"])
    aws = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    child_reads, requests = os.pipe()
    answers, child_writes = os.pipe()
    output = work / f"deployer-{os.getpid()}.log"
    # A signal in the middle of a fork is dropped, with a lock in hand; production forks nothing.
    with undisturbed():
        pid = os.fork()
    if pid == 0:
        os.setsid()
        for descriptor in (requests, answers, unheard):
            os.close(descriptor)
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update({k: v for k, v in environment.items() if k not in aws})
        code = 1
        try:
            code = apply.main(child_reads, child_writes)
        finally:
            os._exit(code)
    os.close(child_reads)
    os.close(child_writes)
    process: Any = Forked(pid)
    pipe = os.fdopen(requests, "wb", buffering=0)
    return Deployer(process, pipe, answers, output, 0.2, aws=aws, grace_seconds=60)


class Clock:
    """The machine's clocks, put forward by the seconds in a file, for all deploys at once."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC) + timedelta(seconds=self._ahead())

    def elapsed(self) -> float:
        """Seconds since the machine's start."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self._ahead()

    def _ahead(self) -> float:
        with contextlib.suppress(FileNotFoundError):
            return float(self._file.read_text(encoding="ascii"))
        return 0.0


def command(request: Mapping[str, Any], unheard: int) -> dict[str, Any]:
    """Run the command line as asked, with deployers that are forks; its exit code."""

    def start(_cls: type, _python: Path, *, work_dir: Path, region: str, **named: Any) -> Deployer:
        work_dir.mkdir(parents=True, exist_ok=True)
        what = {"environ": named["environ"], "region": region}
        return fork_deployer(what, work_dir, unheard=unheard)

    Deployer.start = classmethod(start)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["work"])
    try:
        run_command(request["argv"])
    except SystemExit as end:
        return {"code": end.code, "words": ""}


def deploy(request: Mapping[str, Any], unheard: int) -> dict[str, Any]:
    """Deploy or delete as asked; what came of it."""
    work = Path(request["work"])
    clock = Clock(work / "clock")
    world = World(
        env=request["environ"],
        cwd=work,
        now=clock.now,
        stdout=io.StringIO(),
        stderr=sys.stderr,
        python=Path(sys.executable),
        uid=os.geteuid(),
        elapsed=clock.elapsed,
    )
    folder = Path(request["store"])
    store = (
        GitStore(LocalRepository(folder, work_dir=work, environ=os.environ))
        if (folder / ".git").exists()
        else LocalStore(folder)
    )
    run = Run(
        world=world,
        inputs=read_inputs({}, {"lease-wait": (str(request["lease_wait"]),)}),
        checkout=Checkout(root=work, commit="c" * 40),
        config=ProjectConfig(),
        opening=lambda _env: Records(store=store, name="states", plans=FolderPlans(work / "plans")),
        progress=Progress(stream=sys.stderr),
        cache_dir=work / "cache",
        work_dir=work,
        out=work / "out",
    )
    job = Job(app=AppConfig(name="app", path="."), stage="dev")
    with fork_deployer(request, work, unheard=unheard) as deployer:
        identity = deployer.identify()
        stage = Stage(app_name=request["app_name"], identity=identity, graph=request["graph"])

        def attempt() -> Result:
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
            return carry_out(run, job, what, deployer, Result(app="app", stage="dev", path="."))

        result = until_not_overtaken(attempt)
    if result.failure is None:
        return {"code": 0, "words": "done"}
    return {"code": int(result.failure.exit_code), "words": result.failure.what}


def keep(channel: socket.socket) -> None:
    """Read a request, fork the deploy, say how it ended."""
    lines = channel.makefile("r", encoding="utf-8")
    request = json.loads(lines.readline())
    # Open for as long as the deploy or its deployer lives.
    all_gone, alive = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(all_gone)
        # Stopped until the other side is ready: `lines` is the keeper's.
        os.kill(os.getpid(), signal.SIGSTOP)
        with Path(request["log"]).open("a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        work = command if "argv" in request else deploy
        try:
            said = work(request, channel.fileno())
        except UserError as error:
            said = {"code": int(error.exit_code), "words": str(error)}
        except BaseException:
            said = {"code": int(ExitCode.DEFECT), "words": traceback.format_exc()}
        say(channel, said)
        os._exit(0)
    os.close(alive)
    os.waitpid(pid, os.WUNTRACED)
    say(channel, {"pid": pid})
    lines.readline()
    os.kill(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        say(channel, {"status": os.waitstatus_to_exitcode(status)})
    os.read(all_gone, 1)


def say(channel: socket.socket, what: Mapping[str, Any]) -> None:
    """One line of JSON."""
    channel.sendall(json.dumps(what).encode() + b"\n")


def read_models() -> None:
    """Read from disk once what every deploy reads: the models of AWS's services."""
    loader = botocore.loaders.create_loader()
    botocore.session.create_loader = lambda _path=None: loader
    apply._read_models = lambda: loader
    session = boto3.Session("none", "none", region_name="us-east-1")
    for service in SERVICES:
        client = session.client(service, endpoint_url="http://127.0.0.1:9")
        client.can_paginate(next(iter(client.meta.method_to_api_mapping)))


def main() -> None:
    """Serve requests until the control socket, our standard input, is closed."""
    read_models()
    # What is there now is there for good: collections in the forks would copy its pages.
    gc.freeze()
    control = socket.socket(fileno=0)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 16, 1)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0 if not message else os.WNOHANG)[0]:
                pass
        if not message:
            return
        channel = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            control.close()
            keep(channel)
            os._exit(0)
        channel.close()


if __name__ == "__main__":
    main()
