"""A machine of a CI system: a real shell, and on its PATH `chalice-ci`, `docker` and an agent.

`chalice-ci` is the real product, run by this process so that Python does not start anew for every
step (`PLUGINS_DEPTH=all`: each in a process of its own). `docker` knows `docker run` with the
options that are documented below, refuses any other, and starts the product with nothing but what
the options hand over: a variable that a plugin forgets to pass on is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.commandline import Ran, chalice_ci
from support.inprocess import run_here

WORKSPACE = "/github/workspace"
DEEP = os.environ.get("PLUGINS_DEPTH") == "all"

_CLIENT = """#!{python} -IS
import json, os, socket, sys
asked = {{"arguments": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}
with socket.create_connection(("127.0.0.1", {port})) as door:
    door.sendall(json.dumps(asked).encode() + b"\\n")
    with door.makefile("rb") as said:
        answer = json.loads(said.readline())
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["code"])
"""

_DOCKER = """#!{python} -IS
# `docker run`: https://docs.docker.com/reference/cli/docker/container/run/
import json, os, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\\n")
def refuse(what):
    sys.exit("docker: " + what)
if arguments[:1] != ["run"]:
    refuse("only `run` is known here")
env, mounts, rest, remove = {{}}, {{}}, arguments[1:], False
while rest and rest[0].startswith("-"):
    name, equals, value = rest.pop(0).partition("=")
    if name in ("--rm", "--init"):
        remove |= name == "--rm"
        continue
    if name not in ("--env", "--volume", "--user", "--workdir", "--network", "--pull"):
        refuse("unknown option " + name)
    value = value if equals else rest.pop(0)
    if name == "--env":
        key, given, text = value.partition("=")
        if given:
            env[key] = text
        elif key in os.environ:
            env[key] = os.environ[key]
    if name == "--volume":
        host, inside = value.split(":")[:2]
        mounts[inside] = host
if not rest or not remove:
    refuse("an image is needed, and --rm, or containers are left behind")
if {workspace!r} not in mounts:
    refuse("the image looks for the repository at {workspace}")
for inside, host in mounts.items():
    if not os.path.isabs(host):
        refuse(host + " would be the name of a volume")
os.chdir(mounts[{workspace!r}])
# The arguments and paths mean the same inside: only the workspace is mounted.
inside = {{"PATH": os.defpath, "HOME": os.environ["HOME"], **env}}
os.execve({client!r}, [{client!r}, *rest[1:]], inside)
"""


class Bench:
    """Steps are run in `workspace`; `calls` is what `docker` was given, in order."""

    def __init__(self, root: Path, workspace: Path, aws: Mapping[str, str], port: int) -> None:
        self.root, self.workspace = root, workspace
        self._aws = aws
        self._log = root / "docker.jsonl"
        self._bin = root / "bin"
        self._bin.mkdir(parents=True)
        values = {"python": sys.executable, "port": port, "log": str(self._log)}
        values |= {"client": str(self._bin / "chalice-ci"), "workspace": WORKSPACE}
        self.program("chalice-ci", _CLIENT.format(**values))
        self.program("docker", _DOCKER.format(**values))

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH of the steps."""
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        """What a step has without its system's variables: credentials of the embedded AWS."""
        path = f"{self._bin}{os.pathsep}{os.environ['PATH']}"
        home = {"HOME": os.environ.get("HOME", str(self.root)), "LC_ALL": "C.UTF-8"}
        return {"PATH": path, "CI": "true", **home, **self._aws}

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every `docker` so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def step(
        self,
        script: str,
        *,
        shell: Sequence[str] = ("bash", "-eo", "pipefail"),
        cwd: Path | None = None,
        **env: str,
    ) -> Ran:
        """Run the text of a step as its system does: a file, given to its shell."""
        file = self.root / "step.sh"
        file.write_text(script)
        done = subprocess.run(
            [*shell, str(file)],
            cwd=cwd or self.workspace,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One start of the product."""

    arguments: tuple[str, ...]
    env: Mapping[str, str]


class Door:
    """Answers the `chalice-ci` of the benches; `asked` is every start."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.problems: list[BaseException] = []

    def answer(self, request: Mapping[str, Any]) -> dict[str, object]:
        arguments, env = request["arguments"], request["env"]
        self.asked.append(Asked(arguments=tuple(arguments), env=env))
        if DEEP:
            ran = chalice_ci(*arguments, cwd=request["cwd"], **env)
        else:
            ran = run_here(*arguments, cwd=request["cwd"], **env)
        return {"out": ran.out, "err": ran.err, "code": ran.code}


@contextlib.contextmanager
def door() -> Iterator[tuple[Door, int]]:
    """A door on loopback and its port."""
    found = Door()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                answer = found.answer(json.loads(self.rfile.readline()))
            except BaseException as problem:
                found.problems.append(problem)
                raise
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield found, server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
