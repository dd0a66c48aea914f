"""In front of moto: every request is named, delayed, refused, executed and noted here."""

from __future__ import annotations

import contextlib
import io
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from chalice_ci.access.evaluate import Request
from chalice_ci.local import answers, enforcement
from chalice_ci.local.answers import Answer
from chalice_ci.local.authorization import requests
from chalice_ci.local.faults import ConnectionDropped, Fault, Faults
from chalice_ci.local.journal import Journal
from chalice_ci.local.mode import LocalMode
from chalice_ci.local.operations import Operation, given_name, identify
from chalice_ci.local.sessions import Sessions

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Lambda's limits on a request and on what is in it.
REQUEST_LIMIT = 70_167_211
_ZIPS = {"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"}

# Services that answer a throttled call with 429; the others have codes of their own.
_TOO_MANY = {"lambda", "apigateway", "apigatewayv2"}


class Throttle:
    """Refuses calls: a share of them, and those above a rate per service."""

    def __init__(self, mode: LocalMode, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._mode = mode
        self._clock = clock
        self._lock = threading.Lock()
        self._random = random.Random(mode.seed)
        self._tokens: dict[str, tuple[float, float]] = {}

    def refuses(self, service: str) -> bool:
        """Whether this call is one too many."""
        with self._lock:
            if self._mode.throttle and self._random.random() < self._mode.throttle:
                return True
            if not self._mode.rate:
                return False
            now = self._clock()
            burst = max(1.0, self._mode.rate)
            tokens, then = self._tokens.get(service, (burst, now))
            tokens = min(burst, tokens + (now - then) * self._mode.rate)
            refused = tokens < 1
            self._tokens[service] = (tokens if refused else tokens - 1, now)
            return refused


class Front:
    """The WSGI application of the embedded AWS."""

    def __init__(self, moto: Wsgi, control: Wsgi, *, mode: LocalMode) -> None:
        self._moto = moto
        self._control = control
        self._mode = mode
        self._throttle = Throttle(mode)
        self._sessions = Sessions(mode.session)
        self.journal = Journal()
        self.faults = Faults()

    def begin_anew(self, *, throttle: float, seed: float) -> None:
        """Forget calls and orders; refuse another share of the calls from here on."""
        self._mode = replace(self._mode, throttle=throttle, seed=seed)
        self._throttle = Throttle(self._mode)
        self.journal.clear()
        self.faults.order([])

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Serve one request."""
        if environ.get("PATH_INFO", "").startswith("/chalice-ci/"):
            return self._control(environ, start_response)
        started = time.time()
        body = _read(environ)
        operation = identify(environ, body)
        needs = requests(operation, environ, body)
        status, headers, answer = 0, list[tuple[str, str]](), b""
        try:
            status, headers, answer = self._serve(environ, operation, body, needs)
        finally:
            self.journal.add(
                started=started,
                seconds=time.time() - started,
                service=operation.service,
                operation=operation.name,
                region=operation.region,
                resource=operation.resource,
                given=given_name(answer) if operation.mutating and status < 400 else "",
                mutating=operation.mutating,
                status=status,
                error=answers.error_code(status, headers, answer),
                needs=tuple((n.action, n.resource, dict(n.context)) for n in needs),
                size=len(body),
            )
        start_response(f"{status} {'OK' if status < 400 else 'Error'}", headers)
        return [answer]

    def _serve(
        self,
        environ: dict[str, Any],
        operation: Operation,
        body: bytes,
        needs: tuple[Request, ...],
    ) -> Answer:
        if self._mode.lat:
            time.sleep(self._mode.lat)
        if operation.name and self._throttle.refuses(operation.service):
            return _throttled(operation, environ)
        refused = self._sessions.refusal(operation, environ)
        if refused is None and self._mode.iam:
            refused = enforcement.refusal(operation, environ, needs)
        if refused is not None:
            return refused
        if self._mode.strict and operation.name in _ZIPS and len(body) > REQUEST_LIMIT:
            return answers.error(
                operation,
                environ,
                status=413,
                code="RequestEntityTooLargeException",
                message=f"Request must be smaller than {REQUEST_LIMIT} bytes"
                f" for the {operation.name} operation",
            )
        fault = self.faults.due(operation)
        if fault is not None and fault.when == "before":
            return self._fault(fault, operation, environ)
        answer = self._sessions.given(operation, _call(self._moto, environ, body))
        if fault is not None:
            return self._fault(fault, operation, environ)
        return answer

    def _fault(self, fault: Fault, operation: Operation, environ: dict[str, Any]) -> Answer:
        if fault.action == "error":
            status, headers, body = answers.error(
                operation,
                environ,
                status=fault.status,
                code=fault.code,
                message=fault.message,
            )
            if fault.retry_after:
                headers.append(("Retry-After", f"{fault.retry_after:g}"))
            return status, headers, body
        self.faults.carry_out(fault)
        _close(environ)
        raise ConnectionDropped(fault.action)


def _close(environ: dict[str, Any]) -> None:
    """Close the connection under the request: it would be kept open for the next one."""
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def _throttled(operation: Operation, environ: dict[str, Any]) -> Answer:
    if operation.service in _TOO_MANY:
        status, code = 429, "TooManyRequestsException"
    elif operation.service == "s3":
        status, code = 503, "SlowDown"
    else:
        status, code = 400, "ThrottlingException"
    return answers.error(operation, environ, status=status, code=code, message="Rate exceeded")


def _read(environ: dict[str, Any]) -> bytes:
    """The whole body, with the environment made ready to be read again."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    source = environ["wsgi.input"]
    body: bytes = source.read(length) if length else b""
    if not length and environ.get("wsgi.input_terminated"):
        body = source.read()
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _call(application: Wsgi, environ: dict[str, Any], body: bytes) -> Answer:
    environ["wsgi.input"] = io.BytesIO(body)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        started.append((status, headers))

    chunks = application(environ, start_response)
    try:
        answer = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = started[-1]
    return int(status.split(" ", 1)[0]), headers, answer


def json_answer(
    start_response: Callable[..., Any], document: object, *, status: str = "200 OK"
) -> list[bytes]:
    """Answer with a JSON document."""
    body = json.dumps(document).encode()
    start_response(
        status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]
