"""Plain Chalice: its real command line in a virtual environment of one version and one Python.

Importing Chalice takes longer than deploying a small app, and a stage must be loaded in a process
of its own. So one process per environment imports `chalice.cli` once and forks for every command;
the child changes to the project, sets its environment and calls Chalice's `main()`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from uv import find_uv_bin

import chalice_ci
from chalice_ci.app.pythons import Interpreter

_FORKS = r"""
import functools, json, os, signal, sys, tempfile
import botocore.loaders
import chalice.cli
import chalice.cli.factory

# The models of AWS's services are read once here instead of in every child.
read = functools.cache(botocore.loaders.JSONFileLoader().load_file)
botocore.loaders.JSONFileLoader.load_file = lambda self, path: read(path)
loader = botocore.loaders.create_loader()
services = ("apigateway", "apigatewayv2", "events", "iam", "lambda", "logs", "s3", "sns", "sqs")
for service in services:
    loader.load_service_model(service, "service-2")
    loader.load_service_model(service, "endpoint-rule-set-1")
for name in ("endpoints", "partitions", "_retry", "sdk-default-configuration"):
    loader.load_data(name)

for line in sys.stdin:
    job = json.loads(line)
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            signal.alarm(job["seconds"])
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.chdir(job["cwd"])
            os.environ.clear()
            os.environ.update(job["env"])
            sys.argv = ["chalice", *job["argv"]]
            code = 70
            try:
                code = chalice.cli.main()
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else 1
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code or 0)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    sys.stdout.write(json.dumps({"code": code, "said": text}) + "\n")
    sys.stdout.flush()
"""


@dataclass(frozen=True, kw_only=True)
class Combination:
    """A Chalice and the Pythons on which its apps are deployed, in one account."""

    chalice: str
    pythons: tuple[str, ...]
    every: int = 1
    """Of the shapes that this Chalice deploys, each first, second, third...: the others are not."""

    def __str__(self) -> str:
        return f"{self.chalice}-on-{'-and-'.join(self.pythons)}"


ALL = (
    Combination(chalice="1.34.0", pythons=("3.12",)),
    Combination(chalice="1.34.0", pythons=("3.11",)),
    Combination(chalice="1.33.0", pythons=("3.13", "3.10")),
    Combination(chalice="1.33.0", pythons=("3.10", "3.13")),
    Combination(chalice="1.31.4", pythons=("3.12", "3.10")),
    Combination(chalice="1.31.4", pythons=("3.10", "3.12")),
    Combination(chalice="1.29.0", pythons=("3.10",)),
)
"""Two Pythons for each Chalice; 1.29 always deploys to python3.10, so it has one.

All shapes are deployed by every Chalice on each of its Pythons. In between they take turns: apps of
both Pythons are in one account, and the second time each shape is deployed on the other one.
"""
COMBINATIONS = ALL if os.environ.get("PARITY") == "all" else (ALL[1], replace(ALL[6], every=3))
"""What `make test` compares: all shapes of the newest Chalice and a third of the oldest one's;
`make test-deep` all of all.
"""


# What the shapes import: Lambda's own boto3, and the dependencies in their requirements.txt.
_BESIDE_CHALICE = ("boto3", "six==1.17.0", "MarkupSafe==3.0.2")


def kept_folder() -> Path:
    """Where environments are kept between runs of the tests: open to processes without rights."""
    folder = Path(tempfile.gettempdir()) / f"chalice-ci-tests-{os.getuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() or not folder.is_dir():
        raise RuntimeError(f"{folder} is not ours")
    return folder


def plain_environment(chalice: str, python: Interpreter) -> Path:
    """The interpreter of a virtual environment with that Chalice, at the versions of our locks."""
    lock = Path(chalice_ci.__file__).parent / "locks" / f"chalice-{chalice}.txt"
    made_of = f"{python.identity}\n{lock.read_text(encoding='utf-8')}\n{_BESIDE_CHALICE}"
    key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    target = kept_folder() / f"plain-{chalice}-on-{python.minor}-{key}"
    with (kept_folder() / f"{target.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (target / "ready").exists():
            shutil.rmtree(target, ignore_errors=True)
            uv = find_uv_bin()
            subprocess.run(
                [uv, "venv", "--quiet", "--python", python.executable, target],
                check=True,
                timeout=60,
            )
            into = ["--python", str(target / "bin" / "python"), "--constraint", str(lock)]
            wanted = [f"chalice=={chalice}", *_BESIDE_CHALICE]
            install = [uv, "pip", "install", "--quiet", "--compile-bytecode"]
            subprocess.run([*install, *into, *wanted], check=True, timeout=600)
            (target / "ready").touch()
    return target / "bin" / "python"


@dataclass(frozen=True, kw_only=True)
class Said:
    """How a command ended and what it wrote; a negative code is a signal (-14: out of time)."""

    code: int
    text: str


class PlainChalice:
    """Chalice's command line in the environment of `python`."""

    def __init__(self, python: Path, *, environ: Mapping[str, str]) -> None:
        self._environ = {
            # Loading writes chalicelib/__pycache__, which Chalice would then package.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            **environ,
            "PATH": f"{python.parent}:{environ.get('PATH', '/usr/bin:/bin')}",
        }
        self._process = subprocess.Popen(
            [str(python), "-c", _FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environ,
            text=True,
            encoding="utf-8",
        )

    def run(
        self,
        project: Path,
        argv: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        seconds: int = 120,
    ) -> Said:
        """Run `chalice ARGV` in `project`."""
        assert self._process.stdin
        assert self._process.stdout
        job = {
            "cwd": str(project),
            "argv": list(argv),
            "env": {**self._environ, **(environ or {})},
            "seconds": seconds,
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that runs Chalice ended: {self._process.wait(30)}")
        answer = json.loads(line)
        return Said(code=answer["code"], text=answer["said"])

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=30)
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
