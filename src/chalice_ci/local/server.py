"""The server of the embedded AWS: moto behind our front, in this process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

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
        control = Control(health=self._health)
        self.front = Front(DomainDispatcherApplication(create_backend_app), control, mode=mode)
        control.journal, control.faults = self.front.journal, self.front.faults
        self._server = make_server(host, port, self.front, threaded=True, request_handler=_Handler)
        self._server.daemon_threads = True  # type: ignore[attr-defined]  # of its threading mixin
        self.endpoint_url = f"http://{host}:{self._server.server_port}"
        self.gateway_url = ""
        self._gateway: subprocess.Popen[bytes] | None = None

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

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    threading.Thread(target=watch, daemon=True).start()


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
