"""git over HTTP on the loopback: `git http-backend` behind Python's own server.

With a token, pushing needs `Authorization: Bearer <token>`; reading is open. `fail` may answer a
request itself, for faults: it gets the method and path and returns a status, or None to go on;
`lose` says of which requests the answer is lost after they were carried out. `see` gets the
headers of each request.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from support.loopback import listening

_SECONDS = 120


@contextmanager
def serving(
    root: Path,
    *,
    environ: Mapping[str, str],
    token: str = "",
    fail: Callable[[str, str], int | None] = lambda method, path: None,
    lose: Callable[[str, str], bool] = lambda method, path: False,
    see: Callable[[Mapping[str, str]], None] = lambda headers: None,
) -> Iterator[str]:
    """Serve every repository below `root`; yields the address of the root."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = b""
                while size := int(self._line(), 16):
                    body += self.rfile.read(size)
                    self._line()
                self._line()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self._serve(body)

        def _line(self) -> bytes:
            line = self.rfile.readline()
            if not line:
                raise ConnectionAbortedError("the client went away")
            return line

        def _serve(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            see(self.headers)
            status = fail(self.command, self.path)
            pushing = "git-receive-pack" in self.path
            sent = self.headers.get("Authorization", "")
            if status is None and pushing and token and sent != f"Bearer {token}":
                status = 403 if sent else 401
            if status is not None:
                self._answer(status, {"WWW-Authenticate": "Basic"} if status == 401 else {}, b"")
                return
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                env={
                    "PATH": environ["PATH"],
                    "HOME": str(root),
                    "GIT_CONFIG_NOSYSTEM": "1",
                    "GIT_PROJECT_ROOT": str(root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_USER": "someone",
                    "REMOTE_ADDR": "127.0.0.1",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": parts.path,
                    "QUERY_STRING": parts.query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                },
            )
            if lose(self.command, self.path):
                self.close_connection = True
                return
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(
                line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line
            )
            status = int(headers.pop("Status", "200").split()[0]) if head else 500
            self._answer(status, headers, content)

        def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with listening(Handler) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def protect(repository: Path, branch: str) -> None:
    """Make a bare repository refuse pushes to a branch in the words that GitHub uses."""
    git(repository, "config", "receive.procReceiveRefs", f"refs/heads/{branch}")
    hook = repository / "hooks" / "proc-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(_PROC_RECEIVE.replace("PYTHON", sys.executable))
    hook.chmod(0o755)


def git(repository: Path, *arguments: str, data: bytes = b"") -> str:
    """Run git in a test's repository; fails with what git said."""
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", *arguments],
        cwd=repository,
        input=data,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(repository),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Someone",
            "GIT_AUTHOR_EMAIL": "someone@example.com",
            "GIT_COMMITTER_NAME": "Someone",
            "GIT_COMMITTER_EMAIL": "someone@example.com",
        },
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


_PROC_RECEIVE = """#!PYTHON
import sys

def read():
    size = int(sys.stdin.buffer.read(4), 16)
    return sys.stdin.buffer.read(size - 4) if size else None

def write(data):
    sys.stdout.buffer.write(b"%04x" % (len(data) + 4) + data)

read()
while read() is not None:
    pass
write(b"version=1\\n")
sys.stdout.buffer.write(b"0000")
sys.stdout.buffer.flush()
refs = []
while (line := read()) is not None:
    refs.append(line.split()[2])
for ref in refs:
    write(b"ng %s protected branch hook declined\\n" % ref)
sys.stdout.buffer.write(b"0000")
sys.stdout.buffer.flush()
"""
