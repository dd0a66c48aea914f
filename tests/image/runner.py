"""A job on GitHub's runner, as far as a container action sees it.

After actions/runner, `ContainerActionHandler.RunAsync` and `DockerCommandManager.DockerRun`: the
same mounts, variables (names with dashes too), working folder and arguments, the engine's socket
included. What belongs to the runner belongs to uid 1001, the container runs as root.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from image.engine import Engine, container_name

ROOT = Path(__file__).parents[2]
RUNNER = 1001
_FILES = {
    "GITHUB_OUTPUT": "set_output",
    "GITHUB_STEP_SUMMARY": "step_summary",
    "GITHUB_ENV": "set_env",
    "GITHUB_PATH": "add_path",
    "GITHUB_STATE": "save_state",
}
RUNTIME_TOKEN = "canary-runtime-token-5b1d"
ID_TOKEN = "canary-id-token-77aa"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a step ended: what the runner saw and found in its files.

    `first` is the time in seconds from `docker run` to the first line, `seconds` to the end.
    """

    code: int
    out: str
    err: str
    first: float
    seconds: float
    outputs: Mapping[str, str]
    summary: str
    environment: str
    path: str

    @property
    def said(self) -> str:
        """Everything that was printed."""
        return self.out + self.err


class Step:
    """A container that runs. `wait` for its end, or `cancel` it as the runner does.

    One that takes longer than it may is ended by its name: its client's end would not end it.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], job: Job, end: Callable[[], None]
    ) -> None:
        self._job, self._end = job, end
        self._started = time.monotonic()
        self._first: list[float] = []
        self._texts: dict[str, list[str]] = {"out": [], "err": []}
        self.process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=("out", self.process.stdout), daemon=True),
            threading.Thread(target=self._read, args=("err", self.process.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._first.append(time.monotonic() - self._started)
                self._texts[name].append(line.decode("utf-8", "replace"))

    @property
    def said(self) -> str:
        """What was printed so far."""
        return "".join(self._texts["out"] + self._texts["err"])

    def until(self, text: str, *, seconds: float = 60) -> None:
        """Wait until the text was printed."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            assert self.process.poll() is None, f"ended before {text!r}: {self.said}"
            if time.monotonic() > deadline:
                self._give_up()
                raise AssertionError(f"no {text!r} after {seconds} s: {self.said}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal to the client, which hands it on, as the runner does."""
        self.process.send_signal(number)

    def cancel(self) -> float:
        """End it as the runner ends a cancelled step; the seconds that it took."""
        started = time.monotonic()
        for number, patience in ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5), (signal.SIGKILL, 30)):
            self.signal(number)
            try:
                self.process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        return time.monotonic() - started

    def wait(self, seconds: float = 180) -> Ended:
        """Wait for the end."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._give_up()
            raise AssertionError(f"still running after {seconds} s: {self.said}") from None
        ended = time.monotonic() - self._started
        for reader in self._readers:
            reader.join(10)
        files = self._job.collect()
        return Ended(
            code=code,
            out="".join(self._texts["out"]),
            err="".join(self._texts["err"]),
            first=min(self._first, default=ended),
            seconds=ended,
            outputs=pairs(files["GITHUB_OUTPUT"]),
            summary=files["GITHUB_STEP_SUMMARY"],
            environment=files["GITHUB_ENV"],
            path=files["GITHUB_PATH"],
        )

    def _give_up(self) -> None:
        self._end()
        self.process.kill()
        self.process.wait(30)
        for reader in self._readers:
            reader.join(10)


class Job:
    """The folders of a job; steps are run in it one after the other.

    Fill `workspace`, then `give` it to the runner's user, as actions/checkout leaves it.
    """

    def __init__(self, engine: Engine, root: Path, *, owner: int = RUNNER) -> None:
        self._engine = engine
        self._owner = owner
        self._state: dict[str, str] = {}
        self.temp = root / "_temp"
        self.workspace = root / "repository"
        self.home = self.temp / "_github_home"
        self.workflow = self.temp / "_github_workflow"
        self.commands = self.temp / "_runner_file_commands"
        for folder in (self.temp, self.workspace, self.home, self.workflow, self.commands):
            folder.mkdir(parents=True)
        self._files: dict[str, Path] = {}

    def give(self, folder: Path) -> None:
        """Let a folder and everything in it belong to the runner's user."""
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self._owner, self._owner, follow_symlinks=False)

    def start(
        self,
        image: str,
        *,
        inputs: Mapping[str, str] | None = None,
        arguments: Sequence[str] | None = None,
        event: str = "push",
        payload: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        post: bool = False,
    ) -> Step:
        """Start the action's container.

        `inputs` is what stands under `with:`, `arguments` replaces the action's own, `env` is the
        job's environment, `options` are further ones of `docker run`, `post` starts the end.
        """
        action = yaml.load((ROOT / "action.yml").read_text("utf-8"), yaml.BaseLoader)
        variables = {
            **self._variables(event, payload or {}),
            **_inputs(action, inputs or {}),
            **(env or {}),
        }
        if post:
            variables |= {f"STATE_{name}": value for name, value in self._state.items()}
        given = action["runs"]["args"] if arguments is None else arguments
        name = container_name()
        return Step(
            self._engine.command(
                *("run", "--name", name, "--label", "chalice-ci-tests"),
                *("--workdir", "/github/workspace", "--rm"),
                *(part for name in variables for part in ("-e", name)),
                *(("--entrypoint", action["runs"]["post-entrypoint"]) if post else ()),
                *self._engine.network,
                *(part for volume in self._volumes() for part in ("-v", volume)),
                *(*options, image, *given),
            ),
            self._engine.environ(variables),
            self,
            lambda: self._engine.kill(name),
        )

    def run(self, image: str, *, seconds: float = 180, **how: Any) -> Ended:
        """Run a step to its end; see `start`."""
        return self.start(image, **how).wait(seconds)

    def collect(self) -> dict[str, str]:
        """What the step wrote to the runner's files; its state is kept for the end."""
        found = {name: path.read_text(encoding="utf-8") for name, path in self._files.items()}
        self._state |= pairs(found["GITHUB_STATE"])
        return found

    def _volumes(self) -> Iterator[str]:
        yield f"{self._engine.socket}:/var/run/docker.sock"
        yield f"{self.temp}:/github/runner_temp"
        yield f"{self.home}:/github/home"
        yield f"{self.workflow}:/github/workflow"
        yield f"{self.commands}:/github/file_commands"
        yield f"{self.workspace}:/github/workspace"

    def _variables(self, event: str, payload: Mapping[str, Any]) -> dict[str, str]:
        (self.workflow / "event.json").write_text(json.dumps(payload), encoding="utf-8")
        variables = {
            "HOME": "/github/home",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION": "__org_chalice-action",
            "GITHUB_ACTOR": "octocat",
            "GITHUB_API_URL": "https://api.github.invalid",
            "GITHUB_BASE_REF": "",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": "/github/workflow/event.json",
            "GITHUB_HEAD_REF": "",
            "GITHUB_JOB": "deploy",
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_REF_NAME": "main",
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_REPOSITORY": "octo/orders",
            "GITHUB_REPOSITORY_OWNER": "octo",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_RUN_ID": "8001",
            "GITHUB_RUN_NUMBER": "7",
            "GITHUB_SERVER_URL": "https://github.invalid",
            "GITHUB_SHA": "0" * 40,
            "GITHUB_WORKFLOW": "CI",
            "GITHUB_WORKSPACE": "/github/workspace",
            "RUNNER_ARCH": "X64",
            "RUNNER_NAME": "runner",
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": "/github/runner_temp",
            "RUNNER_TOOL_CACHE": "/opt/hostedtoolcache",
            "RUNNER_WORKSPACE": "/home/runner/work/orders",
            "ACTIONS_RUNTIME_URL": "https://pipelines.invalid/",
            "ACTIONS_RUNTIME_TOKEN": RUNTIME_TOKEN,
            "ACTIONS_ID_TOKEN_REQUEST_URL": "https://pipelines.invalid/token",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": ID_TOKEN,
        }
        self._files = {}
        for name, prefix in _FILES.items():
            file = self.commands / f"{prefix}_{uuid.uuid4()}"
            file.touch()
            self._files[name] = file
            variables[name] = f"/github/file_commands/{file.name}"
        self.give(self.temp)
        return variables


def _inputs(action: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    unknown = set(given) - set(action["inputs"])
    assert not unknown, f"not inputs of the action: {unknown}"
    values = {}
    for name, declared in action["inputs"].items():
        default = declared.get("default", "")
        value = given.get(name, "" if default.startswith("${{") else default)
        # Spaces become underscores, dashes stay.
        values[f"INPUT_{name.replace(' ', '_').upper()}"] = value
    return values


def pairs(text: str) -> dict[str, str]:
    """The values in a file of GITHUB_OUTPUT or GITHUB_STATE, read as the runner reads it."""
    values: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if not line:
            continue
        name, equals, value = line.partition("=")
        before, heredoc, delimiter = line.partition("<<")
        if heredoc and (not equals or len(before) < len(name)):
            body = []
            for inner in lines:
                if inner == delimiter:
                    break
                body.append(inner)
            else:
                raise AssertionError(f"no end {delimiter!r} of {before!r}")
            name, value = before, "\n".join(body)
        else:
            assert equals, f"neither a value nor a delimiter: {line!r}"
        values[name] = value
    return values
