"""Zone 1's side of the deployer: starts the child that holds AWS credentials, and answers it.

The child (`chalice_ci_child.apply`) runs Chalice's planner, sweeper and executor from a sealed
graph; it never sees the app's code. It asks before every call that changes something and waits:
a gate says yes or raises. It tells of each resource as soon as it stands or is gone, so `apply`
can always say what there is - after an error, a refusal, an interruption, a kill of the child.

    with Deployer.start(python, environ=environ, work_dir=work_dir) as deployer:
        who = deployer.identify()
        operations = deployer.plan(target)
        outcome = deployer.apply(target, operations, gate=guard, progress=show)
    record(outcome.resources)
    outcome.check()
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol, Self

from chalice_ci.ci_secrets import NO_SECRETS, InjectedVariable, Secrets
from chalice_ci.errors import AWSError, NoCredentials, PlanRefused, UserError
from chalice_ci.neutral import neutralise
from chalice_ci.plan import Operation

CHILD_DIR = Path(__file__).parent.parent / "child"

DEFAULT_POLL_SECONDS = 1.0
DEFAULT_LIMIT_SECONDS = 3600.0
# Longer than anything the child waits for without a word: a call with all its retries.
SILENCE_SECONDS = 900.0
# A call in flight completes; then the child ends by itself.
GRACE_SECONDS = 60.0
# What a killed child had said already is read.
_LAST_WORDS_SECONDS = 5.0
# How soon a signal is noticed.
_SLICE_SECONDS = 0.1

_MAX_LINE = 64 * 1024 * 1024
_OUTPUT_BYTES = 64 * 1024

# The child's own folder is on sys.path only until it is imported.
_START = """
import os, sys
sys.path.insert(0, sys.argv[1])
from chalice_ci_child import apply
sys.path.remove(sys.argv[1])
code = apply.main(int(sys.argv[2]), int(sys.argv[3]))
sys.stdout.flush()
sys.stderr.flush()
# To take Chalice's and botocore's modules down takes a tenth of a second, for nothing.
os._exit(code)
"""

_PASSED_ON = {
    "HOME", "LANG", "LC_ALL", "PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}  # fmt: skip


class Identity(NamedTuple):
    """Who the credentials are: account id, region, ARN of the caller."""

    account: str
    region: str
    arn: str


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A zip and the SHA-256, in hex, that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PackageDigest:
    """A package of which only the digest is known: enough to plan with."""

    sha256: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """What shall stand: the encoded graph with its packages, beside what is recorded.

    Without a graph everything recorded is deleted, with `delete_logs` also the log groups of the
    functions. `resources` are those of Chalice's state file, `app_name` is the one that Chalice
    builds names from.
    """

    app_name: str
    stage: str
    graph: Mapping[str, object] | None
    packages: Mapping[str, PackageFile | PackageDigest] = field(default_factory=dict)
    resources: tuple[Mapping[str, object], ...] = ()
    delete_logs: bool = False
    secrets: tuple[InjectedVariable, ...] = ()
    """What the child puts in the place of the graph's placeholders."""
    package_bucket: str | None = None
    """Where packages are uploaded to once; else each function's is sent to Lambda."""

    @property
    def where(self) -> str:
        """What an error about this target names."""
        return f"{self.app_name}/{self.stage}"

    def _document(self) -> dict[str, object]:
        return {
            "graph": self.graph,
            "packages": {
                slot: {
                    # Without a file a name that tells the slots apart.
                    "path": str(package.path.resolve())
                    if isinstance(package, PackageFile)
                    else f"absent:{slot}",
                    "sha256": package.sha256,
                }
                for slot, package in self.packages.items()
            },
            "resources": list(self.resources),
            "delete_logs": self.delete_logs,
            "package_bucket": self.package_bucket,
            "secrets": [
                {
                    "variable": one.variable,
                    "placeholder": one.placeholder,
                    "value": one.value,
                    "open": one.open,
                }
                for one in self.secrets
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call to AWS that may change something.

    `service` and `operation` are botocore's names (`lambda`, `CreateFunction`). In `params` bytes
    and long texts are `{"sha256", "size"}`, and a function's variables only names. `method` and
    `resource` are the operation of the plan that the call belongs to.
    """

    number: int
    service: str
    operation: str
    params: Mapping[str, Any]
    method: str
    resource: str

    def __str__(self) -> str:
        return f"{self.service}:{self.operation}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a call: the HTTP status, AWS's error code and message, the response's summary.

    `status` is 0 when no response arrived: then nobody knows whether the call took effect.
    """

    ok: bool
    status: int
    code: str
    message: str
    attempts: int
    response: Mapping[str, Any]


class StepState(StrEnum):
    """How far an operation of the plan is; `GONE`: what should be deleted was not there."""

    STARTED = "started"
    FINISHED = "finished"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Step:
    """Progress, in words: `number` of `total` operations; `seconds` since the operation started.

    Several operations may run at once; method and resource tell which one a step is of.
    """

    state: StepState
    text: str
    method: str
    resource: str
    number: int
    total: int
    seconds: float = 0.0


class Gate(Protocol):
    """Who is asked. Each method refuses by raising a UserError."""

    def review(self, operations: tuple[Operation, ...]) -> None:
        """Look at the whole plan before its first call."""

    def allow(self, call: Call) -> None:
        """Look at a call before it is made."""

    def done(self, call: Call, result: Result) -> None:
        """Take note of what came of a call."""


class Witness(Protocol):
    """Who is told what stands, as soon as it is known."""

    def stands(self, resource: Mapping[str, object]) -> None:
        """Take note of a resource that stands now, or of more that is known of it."""

    def gone(self, name: str) -> None:
        """Take note of a resource that is gone."""


class Gates:
    """Several gates as one; the first refusal counts, and every gate hears every result."""

    def __init__(self, *gates: Gate) -> None:
        self._gates = gates

    def review(self, operations: tuple[Operation, ...]) -> None:
        """Ask each gate about the plan."""
        for gate in self._gates:
            gate.review(operations)

    def allow(self, call: Call) -> None:
        """Ask each gate about a call."""
        for gate in self._gates:
            gate.allow(call)

    def done(self, call: Call, result: Result) -> None:
        """Tell each gate what came of a call."""
        for gate in self._gates:
            gate.done(call, result)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an apply left behind.

    `resources` is what stands now, in full, whatever happened: record it. `error` is why the apply
    did not complete, `interruption` the KeyboardInterrupt or other exception that stopped it.
    `calls` counts the changing calls that were made, `in_flight` are those whose result is unknown.
    `left_behind` are resources that were replaced by others of the same name and not deleted yet.
    """

    complete: bool
    resources: tuple[Mapping[str, object], ...]
    calls: int
    error: UserError | None = None
    interruption: BaseException | None = None
    in_flight: tuple[Call, ...] = ()
    left_behind: tuple[Mapping[str, object], ...] = ()

    @property
    def failure(self) -> str | None:
        """Why it did not complete, in words; None when it did."""
        return None if self.error is None else str(self.error)

    def check(self) -> None:
        """Raise what stopped the apply, if anything did; call it after recording."""
        if self.interruption is not None:
            raise self.interruption
        if self.error is not None:
            raise self.error


Renew = Callable[[], Mapping[str, str]]
_RENEWED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
)


def deployer_environ(environ: Mapping[str, str], region: str | None = None) -> dict[str, str]:
    """Return the child's environment: AWS's variables, proxies and certificates, nothing else.

    `region` wins over what the environment says. botocore reads AWS_DEFAULT_REGION only.
    """
    found = {
        name: value
        for name, value in environ.items()
        # CI systems set variables to nothing where they mean to leave them out.
        if value and (name in _PASSED_ON or name.startswith("AWS_"))
    }
    where = region or found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION")
    if where:
        found["AWS_REGION"] = found["AWS_DEFAULT_REGION"] = where
    found.setdefault("AWS_RETRY_MODE", "standard")
    found.setdefault("AWS_MAX_ATTEMPTS", "8")
    found["PYTHONIOENCODING"] = "utf-8"
    # glibc keeps what each of many threads once had for that thread alone.
    found["MALLOC_ARENA_MAX"] = "2"
    return found


class _Silent(Exception):
    """The child said nothing for too long."""


def _never() -> None:
    """Nothing interrupts."""


class Deployer:
    """A running child. One verb at a time; a context manager that ends the child."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        requests: IO[bytes],
        answers_fd: int,
        output: Path,
        poll_seconds: float,
        *,
        aws: Mapping[str, str],
        grace_seconds: float,
    ) -> None:
        self._process = process
        self._grace_seconds = grace_seconds
        self._aws = aws
        self._begun = False
        self._requests = requests
        self._answers_fd = answers_fd
        self._buffer = bytearray()
        self._output = output
        self._poll_seconds = poll_seconds
        self._stopping_since: float | None = None
        self._failed = False
        self._output_from = 0
        self._hidden = NO_SECRETS
        self._renew: Renew | None = None

    @classmethod
    def start(
        cls,
        python: Path,
        *,
        environ: Mapping[str, str],
        work_dir: Path,
        region: str | None = None,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> Self:
        """Start the child in `python`, an environment that holds Chalice and nothing of the app.

        `environ` is where credentials, endpoint and profile come from (see `deployer_environ`):
        the child gets them with its first verb, so one that is started ahead holds nothing that
        an app could read. Chalice's fixed waits are made in steps of `poll_seconds`, their total
        stays. One that was asked to stop is killed after `grace_seconds`.
        """
        environment = deployer_environ(environ, region)
        aws = {name: value for name, value in environment.items() if name.startswith("AWS_")}
        work_dir.mkdir(parents=True, exist_ok=True)
        output = work_dir / "deployer.log"
        child_reads, requests_fd = os.pipe()
        answers_fd, child_writes = os.pipe()
        try:
            with output.open("wb") as log:
                process = subprocess.Popen(
                    [
                        str(python), "-I", "-B", "-c", _START,
                        str(CHILD_DIR), str(child_reads), str(child_writes),
                    ],
                    env={k: v for k, v in environment.items() if k not in aws},
                    cwd=work_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(child_reads, child_writes),
                    # Ctrl-C reaches the whole terminal: what to do about it is decided here.
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            os.close(requests_fd)
            os.close(answers_fd)
            raise AWSError(f"the deployer can't be started: {error}", where=str(python)) from error
        finally:
            os.close(child_reads)
            os.close(child_writes)
        requests = os.fdopen(requests_fd, "wb", buffering=0)
        return cls(
            *(process, requests, answers_fd, output, poll_seconds),
            aws=aws,
            grace_seconds=grace_seconds,
        )

    @property
    def begun(self) -> bool:
        """Whether the child was given its credentials."""
        return self._begun

    def furnish(
        self, environ: Mapping[str, str], region: str | None, renew: Renew | None = None
    ) -> None:
        """Give a child that has not begun the credentials and the region of another environment.

        `renew` gives that environment anew, with credentials that last longer; it may raise.
        """
        self._renew = renew
        found = deployer_environ(environ, region)
        self._aws = {name: value for name, value in found.items() if name.startswith("AWS_")}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """The end of what the child printed, stdout and stderr, safe for a log."""
        with self._output.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._output_from, end - _OUTPUT_BYTES))
            return neutralise(self._hidden.redact(log.read().decode("utf-8", "replace")))

    def forget_output(self) -> None:
        """Leave out of `output` what was printed so far: it was another job's."""
        self._output_from = self._output.stat().st_size

    @property
    def reusable(self) -> bool:
        """Whether another job can use the child: it runs, was not stopped, and nothing failed."""
        sound = not self._failed and self._stopping_since is None
        return sound and self._process.poll() is None

    def stop(self) -> None:
        """Ask the child to end before its next call; what runs keeps its result."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End the child; it gets a moment to end by itself."""
        if not self._requests.closed:
            self._requests.close()
        if not self._begun:
            # Started ahead and not needed: it may still be importing.
            self._process.kill()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._answers_fd >= 0:
            os.close(self._answers_fd)
            self._answers_fd = -1

    def identify(self) -> Identity:
        """Return who the credentials are; raises AWSError when AWS does not say."""
        answer = self._question({"do": "identify"}, "AWS")
        return Identity(account=answer["account"], region=answer["region"], arn=answer["arn"])

    def plan(self, target: Target) -> tuple[Operation, ...]:
        """Return what an apply would do, in order; only reads from AWS."""
        self._hide(target)
        answer = self._question({"do": "plan", "target": target._document()}, target.where)
        return tuple(_operation(document) for document in answer["operations"])

    def apply(
        self,
        target: Target,
        expected: tuple[Operation, ...],
        *,
        gate: Gate,
        witness: Witness | None = None,
        progress: Callable[[Step], None] = lambda _step: None,
        limit_seconds: float = DEFAULT_LIMIT_SECONDS,
        interrupted: Callable[[], BaseException | None] = _never,
    ) -> Outcome:
        """Plan again, and do it if it is exactly what was expected.

        Any other operation refuses the whole plan before the first call. Never raises for what
        happens meanwhile: see `Outcome`. `interrupted` is asked again and again for what a signal
        would have raised: a message of the child would be lost where it is raised.
        """
        self._hide(target)
        request = {
            "do": "apply",
            "target": target._document(),
            "expected": [[operation.method, operation.resource] for operation in expected],
            "poll_seconds": self._poll_seconds,
        }
        listeners = _Listeners(
            gate=gate, witness=witness, progress=progress, interrupted=interrupted
        )
        outcome = _Apply(self, target, listeners, limit_seconds).run(request)
        self._failed = not outcome.complete
        return outcome

    def _hide(self, target: Target) -> None:
        """From here on what AWS and Chalice say is told without the target's secrets."""
        values = {one.placeholder: one.value for one in target.secrets if one.value is not None}
        self._hidden = Secrets(values=values)

    def _question(self, request: Mapping[str, object], where: str) -> dict[str, Any]:
        try:
            self._send(request)
            message = self._receive(SILENCE_SECONDS)
        except _Silent:
            self.stop()
            raise AWSError("AWS did not answer in time", where=where) from None
        if message is None:
            raise self._died(where)
        if "failure" in message:
            raise _error(message["failure"], where, self.output)
        answer: dict[str, Any] = message["answer"]
        return answer

    def _send(self, message: Mapping[str, object]) -> None:
        messages = [message] if self._begun else [{"do": "begin", "environ": self._aws}, message]
        self._begun = True
        text = "".join(json.dumps(one, allow_nan=False) + "\n" for one in messages)
        data = memoryview(text.encode())
        try:
            while data:
                data = data[self._requests.write(data) :]
        except BrokenPipeError:
            # The child is gone: reading says so.
            return

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message, None at the end; raises _Silent when none came in time.

        A child whose message has no end is killed.
        """
        until = time.monotonic() + seconds
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                message = json.loads(line)
                if "renew" not in message:
                    return self._told(message)
                self._renewed()
                continue
            if len(self._buffer) > _MAX_LINE:
                self._process.kill()
                return None
            left = until - time.monotonic()
            if left <= 0:
                raise _Silent
            ready, _, _ = select.select([self._answers_fd], [], [], left)
            if ready:
                data = os.read(self._answers_fd, 1 << 16)
                if not data:
                    return None
                self._buffer += data

    def _renewed(self) -> None:
        """Answer a child whose credentials run out; without new ones it goes on with the old."""
        given: dict[str, str] = {}
        try:
            environ = {} if self._renew is None else self._renew()
            given = {name: environ[name] for name in _RENEWED if name in environ}
        except UserError:
            # AWS will say that they ran out, and what stands is recorded then.
            return
        finally:
            self._send({"environ": given})

    def _told(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message whose sentences hold no secret: AWS quotes the values that it refuses."""
        answer = message.get("answer")
        inner = answer.get("failure") if isinstance(answer, dict) else None
        for part in (message.get("failure"), message.get("done"), inner):
            if isinstance(part, dict) and isinstance(part.get("message"), str):
                part["message"] = self._hidden.redact(part["message"])
        return message

    def _died(self, where: str) -> AWSError:
        try:
            code: int | None = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        tail = self.output.strip().splitlines()[-5:]
        return AWSError(
            f"the deployer ended unexpectedly, {how}" + "".join(f"\n  {line}" for line in tail),
            where=where,
            fix="Deploy again: what stands is recorded and taken up.",
        )


@dataclass(frozen=True, kw_only=True)
class _Listeners:
    """Who is asked and told during one apply."""

    gate: Gate
    witness: Witness | None
    progress: Callable[[Step], None]
    interrupted: Callable[[], BaseException | None]


class _Apply:
    """The parent's half of one apply."""

    def __init__(
        self,
        deployer: Deployer,
        target: Target,
        listeners: _Listeners,
        limit_seconds: float,
    ) -> None:
        self._deployer = deployer
        self._target = target
        self._interrupted = listeners.interrupted
        self._gate = listeners.gate
        self._witness = listeners.witness
        self._progress = listeners.progress
        self._until = time.monotonic() + limit_seconds
        self._heard = time.monotonic()
        self._recorded: dict[str, dict[str, object]] = {}
        self._removed: set[str] = set()
        self._in_flight: dict[int, Call] = {}
        self._calls = 0
        self._refusal: UserError | None = None
        self._interruption: BaseException | None = None
        self._told: BaseException | None = None
        self._killed: float | None = None
        self._number = 0
        self._total = 0
        self._running: dict[tuple[str, str], tuple[Step, float]] = {}

    def run(self, request: Mapping[str, object]) -> Outcome:
        self._guarded(lambda: self._deployer._send(request))
        while True:
            message = self._next()
            if message is None:
                return self._ended()
            if "answer" in message:
                return self._answered(message["answer"])
            if "failure" in message:
                return self._failed(message["failure"], ())
            try:
                self._hear(message)
            except BaseException as interruption:
                self._interrupt(interruption)

    def _next(self) -> dict[str, Any] | None:
        while True:
            try:
                self._look_for_interruption()
                message = self._deployer._receive(min(self._patience(), _SLICE_SECONDS))
            except _Silent:
                if self._patience() > 0:
                    continue
                if self._killed is not None:
                    return None
                self._lose_patience()
            except BaseException as interruption:
                # The second signal (KeyboardInterrupt, our Terminated): what is known is recorded,
                # then it goes on its way through Outcome.check.
                self._interrupt(interruption)
            else:
                self._heard = time.monotonic()
                return message

    def _look_for_interruption(self) -> None:
        told = self._interrupted()
        if told is not None and told is not self._told:
            self._told = told
            # A gate may have raised the same.
            if told is not self._interruption:
                self._interrupt(told)

    def _patience(self) -> float:
        stopping = self._deployer._stopping_since
        if self._killed is not None:
            until = self._killed + _LAST_WORDS_SECONDS
        elif stopping is None:
            until = min(self._heard + SILENCE_SECONDS, self._until)
        else:
            until = stopping + self._deployer._grace_seconds
        return max(0.0, until - time.monotonic())

    def _lose_patience(self) -> None:
        if self._deployer._stopping_since is None:
            self._refuse(AWSError("the deploy took too long", where=self._target.where))
            self._deployer.stop()
        else:
            self._kill()

    def _kill(self) -> None:
        self._killed = time.monotonic()
        self._deployer._process.kill()

    def _interrupt(self, interruption: BaseException) -> None:
        if self._interruption is not None:
            # Asked twice: the call in flight is not waited for.
            self._kill()
        self._interruption = self._interruption or interruption
        self._deployer.stop()

    def _refuse(self, refusal: UserError) -> None:
        self._refusal = self._refusal or refusal

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Run foreign code; whether it returned. What it raises ends the apply, in order."""
        try:
            action()
        except UserError as refusal:
            self._refuse(refusal)
            return False
        except BaseException as interruption:
            self._interrupt(interruption)
            return False
        return True

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "review" in message:
            operations = tuple(_operation(document) for document in message["review"])
            self._total = len(operations)
            self._answer(lambda: self._gate.review(operations))
        elif "ask" in message:
            call = Call(**message["ask"])
            if self._answer(lambda: self._gate.allow(call)):
                self._in_flight[call.number] = call
                self._calls += 1
        elif "done" in message:
            done = dict(message["done"])
            call_done = self._in_flight.pop(done.pop("number"), None)
            if call_done is not None:
                result = Result(**done)
                if not self._guarded(lambda: self._gate.done(call_done, result)):
                    self._deployer.stop()
        elif "step" in message:
            self._show(message["step"])
        elif "recorded" in message:
            values = message["recorded"]
            self._removed.discard(values["name"])
            self._recorded.setdefault(values["name"], {}).update(values)
            if self._witness is not None:
                self._guarded(partial(self._witness.stands, values))
        elif "removed" in message:
            self._removed.add(message["removed"])
            self._recorded.pop(message["removed"], None)
            if self._witness is not None:
                self._guarded(partial(self._witness.gone, message["removed"]))

    def _answer(self, question: Callable[[], None]) -> bool:
        self._look_for_interruption()
        allowed = self._refusal is None and self._interruption is None and self._guarded(question)
        self._guarded(lambda: self._deployer._send({"allow": allowed}))
        return allowed

    def _show(self, document: Mapping[str, Any]) -> None:
        state = StepState(document["state"])
        now = time.monotonic()
        key = (document["method"], document["resource"])
        if state is StepState.STARTED:
            self._number += 1
            number, started = self._number, now
        else:
            begun, started = self._running.pop(key)
            number = begun.number
        step = Step(
            state=state,
            text=neutralise(words(document["method"], document["resource"], document["message"])),
            method=document["method"],
            resource=document["resource"],
            number=number,
            total=self._total,
            seconds=now - started,
        )
        if state is StepState.STARTED:
            self._running[key] = (step, now)
        self._guarded(lambda: self._progress(step))

    def _answered(self, answer: Mapping[str, Any]) -> Outcome:
        if "unexpected" in answer:
            return self._other_operations(answer)
        if answer["complete"]:
            return Outcome(
                complete=True,
                resources=tuple(answer["resources"]),
                calls=self._calls,
                error=self._refusal,
                interruption=self._interruption,
            )
        return self._failed(answer["failure"], tuple(answer["unswept"]))

    def _other_operations(self, answer: Mapping[str, Any]) -> Outcome:
        lines = [f"  + {method} {name}" for method, name in answer["unexpected"]]
        lines += [f"  - {method} {name}" for method, name in answer["missing"]]
        self._refuse(
            PlanRefused(
                "what would be done now is not what was planned (+ new, - missing):\n"
                + "\n".join(lines),
                where=self._target.where,
                fix="Make a new plan and look at it.",
            )
        )
        return self._stopped_short(())

    def _failed(self, failure: Mapping[str, Any], unswept: tuple[str, ...]) -> Outcome:
        if failure["kind"] == "refused" and self._refusal is None and self._interruption is None:
            failure = {**failure, "kind": "chalice"}
        if failure["kind"] not in ("refused", "stopped"):
            self._refuse(_error(failure, self._target.where, self._deployer.output))
        return self._stopped_short(unswept)

    def _ended(self) -> Outcome:
        if self._refusal is None and self._interruption is None:
            self._refuse(self._deployer._died(self._target.where))
        # It is not known which deletions were finished: what was recorded anew stays doubtful.
        unswept = tuple(name for name in self._recorded if self._was_other(name))
        return self._stopped_short(unswept)

    def _was_other(self, name: str) -> bool:
        """Whether a name was recorded for another thing before: its identity changed."""
        keys = ("event_uuid", "subscription_arn", "bucket")
        for old in self._target.resources:
            if old.get("name") == name:
                new = self._recorded[name]
                return any(key in old and old[key] != new.get(key) for key in keys)
        return False

    def _stopped_short(self, unswept: tuple[str, ...]) -> Outcome:
        for running, started in self._running.values():
            seconds = time.monotonic() - started
            failed = replace(running, state=StepState.FAILED, seconds=seconds)
            self._guarded(partial(self._progress, failed))
        if self._refusal is None and self._interruption is None:
            self._refuse(
                AWSError("the deploy was stopped before it was complete", where=self._target.where)
            )
        return Outcome(
            complete=False,
            resources=self._standing(),
            calls=self._calls,
            error=self._refusal,
            interruption=self._interruption,
            in_flight=tuple(self._in_flight.values()),
            left_behind=tuple(
                old
                for old in self._target.resources
                if old["name"] in unswept and old["name"] in self._recorded
            ),
        )

    def _standing(self) -> tuple[Mapping[str, object], ...]:
        """Return what was recorded before, changed by what is known to have happened since."""
        standing: dict[str, dict[str, object]] = {
            str(old["name"]): dict(old)
            for old in self._target.resources
            if old["name"] not in self._removed
        }
        for name, values in self._recorded.items():
            before = standing.get(name)
            if before is not None and before.get("resource_type") == values.get("resource_type"):
                before.update(values)
            else:
                standing[name] = dict(values)
        return tuple(standing.values())


def words(method: str, resource: str, message: str = "") -> str:
    """Say what an operation does, as Chalice says it where it does."""
    if message:
        return message
    return f"{_WORDS.get(method) or method.replace('_', ' ').capitalize()}: {resource}"


_WORDS = {
    "add_permission_for_apigateway": "Allowing API Gateway to invoke the function",
    "add_permission_for_apigateway_v2": "Allowing API Gateway to invoke the function",
    "add_permission_for_cloudwatch_event": "Allowing EventBridge to invoke the function",
    "add_permission_for_s3_event": "Allowing S3 to invoke the function",
    "add_permission_for_sns_topic": "Allowing SNS to invoke the function",
    "connect_rule_to_lambda": "Connecting the rule to the function",
    "create_log_group": "Creating the log group",
    "create_stage": "Creating the WebSocket stage",
    "create_websocket_integration": "Creating a WebSocket integration",
    "create_websocket_route": "Creating a WebSocket route",
    "delete_function_concurrency": "Leaving concurrency unreserved",
    "delete_layer_version": "Deleting the layer's version",
    "delete_rule": "Deleting the rule",
    "delete_websocket_integrations": "Deleting the WebSocket integrations",
    "delete_websocket_routes": "Deleting the WebSocket routes",
    "deploy_rest_api": "Deploying the REST API's stage",
    "deploy_websocket_api": "Deploying the WebSocket API",
    "disconnect_s3_bucket_from_lambda": "Disconnecting the bucket's events",
    "get_or_create_rule_arn": "Creating or updating the rule",
    "put_retention_policy": "Setting the log group's retention",
    "remove_lambda_event_source": "Deleting the event source mapping",
    "remove_permission_for_s3_event": "Removing S3's permission to invoke the function",
    "remove_permission_for_sns_topic": "Removing SNS's permission to invoke the function",
    "unsubscribe_from_topic": "Unsubscribing from the topic",
    "update_lambda_event_source": "Updating the event source mapping",
    "update_rest_api": "Setting the REST API's options",
}


def _operation(document: Mapping[str, Any]) -> Operation:
    return Operation(
        method=document["method"],
        resource=document["resource"],
        sweep=document["sweep"],
        message=document["message"],
        params=document["params"],
    )


_DENIED = re.compile(r"AccessDenied|NotAuthorized|UnauthorizedOperation|Forbidden")
_EXPIRED = re.compile(r"Expired|InvalidClientTokenId|UnrecognizedClient|SignatureDoesNotMatch")


def _error(failure: Mapping[str, Any], where: str, output: str) -> UserError:
    kind, code, message = failure["kind"], failure["code"], neutralise(failure["message"])
    if kind == "graph":
        return PlanRefused(f"the plan does not fit: {message}", where=where)
    if kind == "credentials":
        return NoCredentials(
            f"no usable AWS credentials: {message}",
            where=where,
            fix="Let the job assume a role (`role-to-assume`, with `permissions: id-token: write`) "
            "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if kind == "region":
        return AWSError(
            "no AWS region is set",
            where=where,
            fix="Give the stage a region in chalice-ci.yml, or set aws-region or AWS_REGION.",
        )
    if kind == "aws":
        return AWSError(message, where=where, fix=_fix(code))
    tail = "".join(f"\n  {line}" for line in output.strip().splitlines()[-12:])
    return AWSError(f"Chalice failed: {failure['type']}: {message}{tail}", where=where)


def _fix(code: str) -> str:
    if _DENIED.search(code):
        return "Give the role that deploys the permission that the message names."
    if _EXPIRED.search(code):
        return (
            "Get fresh credentials and deploy again: what stands is recorded and taken up. If the "
            "deployment takes longer than they last, give `role-duration-seconds`."
        )
    return "Deploy again when the cause is gone: what stands is recorded and taken up."
