"""The server of the embedded AWS: moto behind our front, in this process."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from chalice_ci.local import awslike, gaps, process
from chalice_ci.local.aws import server_environ
from chalice_ci.local.control import Control
from chalice_ci.local.front import Front
from chalice_ci.local.gaps import invocations
from chalice_ci.local.mode import LocalMode


class _Handler(MotoRequestHandler):
    """Keeps connections open, as AWS does, and logs no request: the journal has them all."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        """Say nothing."""


class _Dispatcher(DomainDispatcherApplication):
    """Finds moto's service for a request."""

    def __init__(self, create_app: Callable[..., Any]) -> None:
        super().__init__(create_app)
        # moto lists its own folder for each request, for a third of the time that it takes.
        self._backend_for_host = functools.cache(super().get_backend_for_host)

    def get_backend_for_host(self, host: str | None) -> Any:
        """The service that a host name stands for."""
        return self._backend_for_host(host)


class Server:
    """A listening server; `serve` blocks until `stop` is called."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        mode: LocalMode,
        instance: str,
        without: Collection[str] = (),
    ) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        gaps.fill(without=without)
        awslike.install(mode)
        self._started = time.time()
        self._instance = instance
        self._mode = mode
        control = Control(health=self._health, copy=self._copy)
        self.front = Front(_Dispatcher(create_backend_app), control, mode=mode)
        control.journal, control.faults = self.front.journal, self.front.faults
        self._host = host
        self._listen(port)
        self.gateway_url = ""
        self._gateway: subprocess.Popen[bytes] | None = None

    def _listen(self, port: int) -> None:
        self._server = make_server(
            self._host, port, self.front, threaded=True, request_handler=_Handler
        )
        self._server.daemon_threads = True  # type: ignore[attr-defined]  # of its threading mixin
        self.endpoint_url = f"http://{self._host}:{self._server.server_port}"

    def _copy(self, wanted: Mapping[str, Any]) -> dict[str, object]:
        """Fork: a process that holds what this AWS holds now, at an address of its own.

        A call that is being served meanwhile may hold a lock, for ever in the copy; so nobody else
        may call. The copy has no gateway, and ends with this process.
        """
        throttle, seed = float(wanted.get("throttle", 0)), float(wanted.get("seed", 0))
        if not 0 <= throttle < 1:
            raise ValueError("throttle must be from 0 to below 1")
        ours, its = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._serve_copy(its, throttle=throttle, seed=seed)
        its.close()
        with ours.makefile("rb") as answers:
            endpoint_url = answers.readline().decode().strip()

        def reap() -> None:
            # Our end stays open for as long as we live: the copy waits for it to be closed.
            with ours:
                os.waitpid(pid, 0)

        threading.Thread(target=reap, daemon=True).start()
        return {"pid": pid, "endpoint_url": endpoint_url}

    def _serve_copy(self, leash: socket.socket, *, throttle: float, seed: float) -> NoReturn:
        """Serve in the fork, where only this thread is left; never returns."""
        # What is there now is there for good: a collection would copy all of its pages.
        gc.freeze()
        try:
            _close_sockets(but=leash.fileno())
            self.front.begin_anew(throttle=throttle, seed=seed)
            self.gateway_url, self._gateway = "", None
            self._listen(0)
            leash.sendall(f"{self.endpoint_url}\n".encode())
            _end_with(leash.fileno(), self.stop)
            self._server.serve_forever(poll_interval=0.1)
        finally:
            os._exit(0)

    def start_gateway(self, *options: str) -> None:
        """Start the gateway, which ends with this process."""
        command = [sys.executable, "-P", "-m", "chalice_ci.local.gateway"]
        self._gateway, ready = process.start(
            [*command, f"--endpoint-url={self.endpoint_url}", *options],
            environ=server_environ(),
            log=None,
        )
        self.gateway_url = str(ready["gateway_url"])
        invocations.gateway_url = self.gateway_url

    def _health(self) -> dict[str, object]:
        return {
            "instance": self._instance,
            "pid": os.getpid(),
            "started": self._started,
            "mode": vars(self._mode),
            "endpoint_url": self.endpoint_url,
            "gateway_url": self.gateway_url,
        }

    def idle(self) -> float:
        """Seconds since the last call."""
        return time.monotonic() - self.front.journal.last_activity

    def serve(self) -> None:
        """Serve until `stop`."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            if self._gateway is not None:
                process.end(self._gateway)

    def stop(self) -> None:
        """End `serve`; from any thread but its own, or from a signal handler."""
        threading.Thread(target=self._server.shutdown, daemon=True).start()


def end_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` when standard input ends, which is when the process that holds it does."""
    _end_with(sys.stdin.fileno(), stop)


def _end_with(descriptor: int, stop: Callable[[], None]) -> None:
    def watch() -> None:
        while os.read(descriptor, 4096):
            pass
        stop()

    threading.Thread(target=watch, daemon=True).start()


def _close_sockets(*, but: int) -> None:
    """Close the sockets that a fork was given: its parent's callers wait for their end."""
    for descriptor in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        with contextlib.suppress(OSError):
            if descriptor != but and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)


def end_when_idle(stop: Callable[[], None], idle: Callable[[], float], seconds: float) -> None:
    """Call `stop` when `idle` says that nothing was asked for so many seconds."""

    def watch() -> None:
        while (left := seconds - idle()) > 0:
            time.sleep(min(left, 60.0))
        stop()

    threading.Thread(target=watch, daemon=True).start()


def end_when_gone(stop: Callable[[], None], path: Path) -> None:
    """Call `stop` when `path` is not there any more: nobody could find this process then."""

    def watch() -> None:
        while path.exists():
            time.sleep(1.0)
        stop()

    threading.Thread(target=watch, daemon=True).start()


def end_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
