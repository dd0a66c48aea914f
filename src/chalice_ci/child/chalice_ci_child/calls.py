"""Ask before, report after: every call to AWS goes through here.

The deployer's child and its parent talk in JSON lines over two pipes. The parent sends a verb; the
child sends progress and, before each call that may change something, a question that it waits
for. Nobody answers when the parent is gone, so a dead parent ends the child before its next call.

botocore emits an event before and after each HTTP call, also for those that one method of
Chalice's client makes on its way: that is where the question is asked. What only reads is an
explicit list; everything else counts as changing something.

Standard library and botocore only; runs on Python 3.10 and later, inside the deployer's Python.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import botocore.exceptions

from . import packages
from .credentials import Credentials
from .pace import WIDEST, WIDEST_READS, Pace

READS = {
    "apigateway": {
        "GetAuthorizers", "GetDeployment", "GetDomainName", "GetRestApi", "GetRestApis", "GetStage",
    },
    "apigatewayv2": {
        "GetApi", "GetApiMappings", "GetApis", "GetDomainName", "GetIntegrations", "GetRoutes",
        "GetStage", "GetTags",
    },
    "events": {"DescribeRule", "ListTargetsByRule"},
    "iam": {"GetRole", "GetRolePolicy", "ListRolePolicies"},
    "lambda": {
        "GetEventSourceMapping", "GetFunction", "GetFunctionConfiguration", "GetLayerVersionByArn",
        "GetPolicy", "ListTags",
    },
    "logs": {"DescribeLogGroups"},
    "s3": {
        "GetBucketEncryption", "GetBucketNotificationConfiguration", "HeadBucket", "HeadObject",
    },
    "sns": {"GetSubscriptionAttributes"},
    "sts": {"GetCallerIdentity"},
}  # fmt: skip

# botocore makes these itself when it looks for credentials: no resource is touched.
CREDENTIALS = {
    "signin": {"CreateOAuth2Token"},
    "sso": {"GetRoleCredentials"},
    "sso-oidc": {"CreateToken"},
    "sts": {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"},
}

# Made twice, there are two of them: when the answer is lost, the next deploy looks what there is.
_NOT_REPEATABLE = {
    "apigateway": {"ImportRestApi"},
    "apigatewayv2": {"CreateApi", "CreateIntegration"},
    "lambda": {
        "AddPermission",
        "CreateEventSourceMapping",
        "CreateFunction",
        "PublishLayerVersion",
    },
}

_THROTTLED = {"Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown"}

Seen = Callable[[str, str, Mapping[str, Any], Mapping[str, Any]], None]

# AWS says how long to wait; nobody may let a deploy wait for ever.
_LONGEST_WAIT = 60.0

_LONG_TEXT = 2048
_MANY_ITEMS = 500
_MAX_DEPTH = 12
_SLICE_SECONDS = 0.2


class Ended(BaseException):
    """The work stops at a call boundary; no `except Exception` on the way may swallow it."""


class Refused(Ended):
    """The parent did not allow a call, or a call that changes something came up while reading."""


class Stopped(Ended):
    """SIGTERM came or the parent is gone."""


class Pipe:
    """The child's ends of the two pipes to its parent, and the wish to stop.

    Threads share it: messages are whole, and between a question and its answer nobody else asks.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._requests = os.fdopen(read_fd, "rb")
        self._answers = os.fdopen(write_fd, "wb", buffering=0)
        self._stop = False
        self._halted = False
        self._sending = threading.Lock()
        self._asking = threading.Lock()

    def listen_to_signals(self) -> None:
        """From now on SIGTERM means: stop before the next call; SIGINT is the parent's business."""
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _terminate(self, *_signal: Any) -> None:
        self._stop = True

    def receive(self) -> Any:
        """Return the parent's next message; None when it closed the pipe or is gone."""
        line = self._requests.readline()
        if not line.endswith(b"\n"):
            return None
        return json.loads(line)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; raises Stopped when nobody listens any more."""
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        view = memoryview(data)
        try:
            with self._sending:
                while view:
                    view = view[os.write(self._answers.fileno(), view) :]
        except (BrokenPipeError, OSError):
            raise Stopped("the parent is gone") from None

    def ask(self, question: Callable[[], Mapping[str, Any]]) -> None:
        """Send what `question` returns and wait; raises Refused unless the answer is yes."""
        with self._asking:
            self.check()
            self.send(question())
            answer = self.receive()
        if answer is None:
            raise Stopped("the parent is gone")
        if answer.get("allow") is not True:
            raise Refused("the parent refused")

    def request(self, message: Mapping[str, Any]) -> Any:
        """Send a message and wait for what the parent says to it."""
        with self._asking:
            self.check()
            self.send(message)
            answer = self.receive()
        if answer is None:
            raise Stopped("the parent is gone")
        return answer

    def halt(self, halted: bool = True) -> None:
        """Let no further call be made, because something failed beside it; or begin anew."""
        self._halted = halted

    def check(self) -> None:
        """Raise Stopped when SIGTERM came or the work was halted."""
        if self._stop or self._halted:
            raise Stopped("terminated")

    def sleep(self, seconds: float) -> None:
        """Sleep; raises Stopped early when SIGTERM comes or the parent goes."""
        until = time.monotonic() + seconds
        while True:
            self.check()
            left = until - time.monotonic()
            if left <= 0:
                return
            self.end_with_the_parent()
            time.sleep(min(left, _SLICE_SECONDS))

    def end_with_the_parent(self) -> None:
        """Raise Stopped when the parent is gone, as far as that can be told now."""
        if not self._asking.acquire(blocking=False):
            return
        try:
            ready, _, _ = select.select([self._read_fd], [], [], 0)
        finally:
            self._asking.release()
        if ready:
            # The parent never speaks unasked while work is going on: this is the end of file.
            raise Stopped("the parent is gone")


class Calls:
    """Watches the calls of one botocore session.

    `where` says which instruction of the plan this thread executes; None means that the plan is
    only being made, so nothing may change. `seen` is told of each successful changing call of this
    thread: (service, operation, parameters, response).
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._number = 0
        self._here = threading.local()
        self._reads, self._changes = Pace(WIDEST_READS), Pace(WIDEST)
        self._credentials = Credentials(pipe.request)

    @property
    def where(self) -> Mapping[str, str] | None:
        """The instruction that this thread executes."""
        return getattr(self._here, "where", None)

    @where.setter
    def where(self, where: Mapping[str, str] | None) -> None:
        self._here.where = where

    @property
    def seen(self) -> Seen | None:
        """Who is told of this thread's calls."""
        return getattr(self._here, "seen", None)

    @seen.setter
    def seen(self, seen: Seen | None) -> None:
        self._here.seen = seen

    def watch(self, session: Any) -> None:
        """Register with a botocore session that has not made a client yet."""
        session.register("before-parameter-build", self._keep_parameters)
        session.register("before-call", self._before)
        session.register("after-call", self._after)
        session.register("after-call-error", self._lost)
        session.register("needs-retry", self._before_retry)

    def _keep_parameters(self, params: Any = None, context: Any = None, **_event: Any) -> None:
        if isinstance(context, dict):
            context["chalice_ci_params"] = params

    def _before(
        self, model: Any = None, params: Any = None, context: Any = None, **_event: Any
    ) -> None:
        service, operation = _names(model)
        if operation in CREDENTIALS.get(service, ()):
            return
        self._pipe.check()
        self._credentials.keep()
        reads = operation in READS.get(service, ())
        if not reads and self.where is None:
            raise Refused(f"{service}:{operation} changes something, the plan only reads")
        pace = self._pace_of(service, operation)
        pace.enter(self._pipe.check)
        try:
            if not reads:
                self._ask(service, operation, context)
        except BaseException:
            pace.leave()
            raise
        context["chalice_ci_pace"] = pace
        packages.stream(context.get("chalice_ci_params") or {}, params)

    def _ask(self, service: str, operation: str, context: Any) -> None:
        call = {
            "service": service,
            "operation": operation,
            "params": summary(context.get("chalice_ci_params")),
            **(self.where or {}),
        }

        def question() -> Mapping[str, Any]:
            self._number += 1
            context["chalice_ci_call"] = self._number
            return {"ask": {"number": self._number, **call}}

        self._pipe.ask(question)

    def _before_retry(
        self,
        response: Any = None,
        caught_exception: Any = None,
        operation: Any = None,
        **_event: Any,
    ) -> None:
        """Nothing is tried again for a parent that is gone, nor what would be done twice.

        What AWS asks to wait (RFC 9110, 10.2.3) is waited before botocore's own pause: it heeds
        only a header of its own.
        """
        self._pipe.end_with_the_parent()
        if response is not None:
            answer, parsed = response
            if (parsed.get("Error") or {}).get("Code") in _THROTTLED:
                self._pace_of(*_names(operation)).slow_down()
                # It was not done, and nobody waits any more until it may be.
                self._pipe.check()
            if answer.status_code in (429, 503):
                self._pipe.sleep(_asked_to_wait(answer.headers))
        service, name = _names(operation)
        if name not in _NOT_REPEATABLE.get(service, ()):
            return
        if caught_exception is not None:
            raise caught_exception
        if response is not None and response[0].status_code >= 500:
            raise botocore.exceptions.ConnectionClosedError(endpoint_url=response[0].url)

    def _after(
        self,
        http_response: Any = None,
        parsed: Any = None,
        model: Any = None,
        context: Any = None,
        **_event: Any,
    ) -> None:
        self._left(context)
        metadata = parsed.get("ResponseMetadata") or {}
        error = parsed.get("Error") or {}
        number = (context or {}).get("chalice_ci_call")
        if number is None:
            return
        status = http_response.status_code
        ok = status < 300
        if ok and self.seen is not None:
            service, operation = _names(model)
            self.seen(service, operation, context.get("chalice_ci_params") or {}, parsed)
        self._pipe.send(
            {
                "done": {
                    "number": number,
                    "ok": ok,
                    "status": status,
                    "code": str(error.get("Code", "")),
                    "message": _short(str(error.get("Message", ""))),
                    "attempts": int(metadata.get("RetryAttempts", 0)) + 1,
                    "response": summary(
                        {k: v for k, v in parsed.items() if k != "ResponseMetadata"}
                    ),
                }
            }
        )

    def _left(self, context: Any) -> None:
        pace = (context or {}).pop("chalice_ci_pace", None)
        if pace is not None:
            pace.leave()

    def _pace_of(self, service: str, operation: str) -> Pace:
        return self._reads if operation in READS.get(service, ()) else self._changes

    def _lost(self, exception: Any = None, context: Any = None, **_event: Any) -> None:
        self._left(context)
        number = (context or {}).get("chalice_ci_call")
        if number is None:
            return
        self._pipe.send(
            {
                "done": {
                    "number": number,
                    "ok": False,
                    "status": 0,
                    "code": type(exception).__name__,
                    "message": _short(str(exception)),
                    "attempts": 0,
                    "response": {},
                }
            }
        )


def summary(value: Any, depth: int = 0) -> Any:
    """Return a value as bounded JSON: bytes and long texts as digest and size.

    The values of a function's environment variables may be secrets: only their names go through.
    """
    if depth > _MAX_DEPTH:
        return {"left_out": "nested too deep"}
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        if len(value) <= _LONG_TEXT:
            return value
        return _digest(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, packages.Package):
        return value.summary()
    if isinstance(value, (bytes, bytearray)):
        return _digest(bytes(value))
    if isinstance(value, Mapping):
        found = {}
        for key, item in list(value.items())[:_MANY_ITEMS]:
            if key == "Environment" and isinstance(item, Mapping):
                variables = item.get("Variables")
                names = variables if isinstance(variables, Mapping) else {}
                found["Environment"] = {"names": sorted(str(name) for name in names)}
            else:
                found[str(key)] = summary(item, depth + 1)
        return found
    if isinstance(value, (list, tuple)):
        return [summary(item, depth + 1) for item in value[:_MANY_ITEMS]]
    return _short(str(value))


def _digest(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def _short(text: str) -> str:
    return text if len(text) <= _LONG_TEXT else text[:_LONG_TEXT] + "..."


def _asked_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds of Retry-After; 0 without it. AWS sends no dates there."""
    text = str(headers.get("Retry-After", "")).strip()
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return min(seconds, _LONGEST_WAIT) if seconds > 0 else 0.0


def _names(model: Any) -> tuple[str, str]:
    return str(model.service_model.service_name), str(model.name)
