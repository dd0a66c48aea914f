"""Smoke checks ask the deployed stage over HTTP."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import create_server

import pytest

from chalice_ci.config import SmokeCheck
from chalice_ci.smoke import ATTEMPTS, check_url, get


@contextmanager
def serving(answers):
    """A server on loopback; `answers` maps a path to the statuses it answers, the last for ever."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            statuses = answers.get(self.path, [404])
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://169.254.169.254/")
            self.end_headers()
            self.wfile.write(b"healthy")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_stage_that_answers_passes_at_once():
    with serving({"/api/health": [200]}) as (base, seen):
        found = check_url(base, SmokeCheck(path="/health", contains="healthy"), sleep=pytest.fail)
    assert (found.passed, found.status, seen) == (True, 200, ["/api/health"])


def test_a_stage_that_is_not_ready_is_asked_again_with_growing_pauses():
    pauses = []
    with serving({"/api/health": [500, 503, 200]}) as (base, _):
        assert check_url(base, SmokeCheck(path="/health"), sleep=pauses.append).passed
    assert pauses == [1.0, 2.0]


def test_another_status_or_body_fails_with_what_was_found():
    with serving({"/api/health": [200]}) as (base, seen):
        wrong = check_url(base, SmokeCheck(path="/health", status=204), sleep=lambda _: None)
        assert len(seen) == ATTEMPTS
        lacking = check_url(base, SmokeCheck(path="/health", contains="42"), sleep=lambda _: None)
    assert (wrong.passed, wrong.message) == (False, "answered 200, expected 204")
    assert "does not contain" in lacking.message


def test_a_redirect_is_an_answer_and_is_not_followed():
    with serving({"/api/": [302]}) as (base, _):
        assert get(base)[0] == 302
        assert check_url(base, SmokeCheck(path="/", status=302), sleep=lambda _: None).passed


def test_no_answer_says_why():
    with serving({}) as (base, _):
        pass
    found = check_url(base, SmokeCheck(path="/"), sleep=lambda _: None)
    assert not found.passed
    assert "refused" in found.message


@pytest.mark.parametrize(
    ("answer", "telling"),
    [
        (b"nonsense\x1b[31m\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "IncompleteRead"),
        (b"HTTP/1.1 502 X\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, "HTTPException"),
    ],
)
def test_an_answer_that_is_no_whole_http_is_none(answer, telling):
    """The stage is deployed and recorded then: whatever answers, the check says so."""
    with create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        status, message = get(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
    assert (status, message) == (None, f"it is no whole HTTP ({telling})")


def test_a_body_without_an_end_is_no_answer():
    with create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.01)

        thread = threading.Thread(target=serve)
        thread.start()
        answer = get(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=0.2)
        thread.join()
    assert answer == (None, "its body did not end within 0.2 s")
