"""Servers of the tests on the loopback: threads of this process, ended with the block."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# `shutdown` has been answered by then; a thread that still runs is a defect, not worth a hang.
_END_SECONDS = 10


class LoopbackServer(ThreadingHTTPServer):
    """Clients that go away in the middle are normal: tests kill them, and uv stops asking early.

    Anything else that a handler raises is printed, as by every other server.
    """

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def listening(
    handler: type[BaseHTTPRequestHandler], *, host: str = "127.0.0.1"
) -> Iterator[LoopbackServer]:
    """A server on a free port; its handler may be replaced while nobody asks."""
    # Head and body are two writes: the second would wait 40 ms for the first one's receipt.
    handler.disable_nagle_algorithm = True
    with LoopbackServer((host, 0), handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(_END_SECONDS)
