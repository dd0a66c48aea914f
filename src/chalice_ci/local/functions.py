"""Deployed functions, each in a process of its own: unpacked, started, asked, ended."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chalice_ci.app.interpreter import fresh_uid, reachable_interpreter, runs_for_others

INIT_SECONDS = 30.0
_CONCURRENCY = 8

# What Lambda's own Python has beside the standard library.
_RUNTIME_MODULES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")

# Variables that Lambda sets itself; a function's own settings can't change them.
_RESERVED_PREFIXES = ("AWS_LAMBDA_", "LAMBDA_")


class FunctionFailed(Exception):
    """A function could not be started, or ended while it was asked."""


class FunctionTimedOut(FunctionFailed):
    """A function took longer than it may."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an invocation gave: `error` is Lambda's description of the handler's exception."""

    result: object
    error: Mapping[str, Any] | None


@dataclass(kw_only=True)
class _Worker:
    process: subprocess.Popen[bytes]
    pending: bytes = b""

    def line(self, deadline: float) -> dict[str, Any]:
        """The next line of the process; raises FunctionFailed."""
        assert self.process.stdout is not None
        source = self.process.stdout.fileno()
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                raise FunctionTimedOut("Task timed out")
            chunk = os.read(source, 1 << 16)
            if not chunk:
                raise FunctionFailed(f"Runtime exited: {self.process.wait()}")
            self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        return document

    def say(self, document: object) -> None:
        """Write a line to the process; raises FunctionFailed."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(document).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise FunctionFailed(f"Runtime exited: {self.process.wait()}") from error

    def end(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@dataclass(kw_only=True)
class _Pool:
    """The processes of one version of one function."""

    version: str
    idle: list[_Worker] = field(default_factory=list)
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_CONCURRENCY))
    retired: bool = False


class Functions:
    """Runs deployed functions.

    `fetch` gets a path below the embedded AWS's `/chalice-ci/`. `pythons` maps a version ("3.12")
    to an interpreter; the running one serves its own version. When this process is root, functions
    run under a uid of their own, if that uid can run the interpreter at all; `cache_dir` is where
    a copy of an interpreter may be made that it can run.
    """

    def __init__(
        self,
        *,
        fetch: Callable[[str], bytes],
        endpoint_url: str,
        work_dir: Path,
        pythons: Mapping[str, Path],
        cache_dir: Path | None,
    ) -> None:
        self._fetch = fetch
        self._endpoint_url = endpoint_url
        self._work_dir = work_dir
        self._pythons = dict(pythons)
        self._cache_dir = cache_dir
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._interpreters: dict[str, tuple[Path, int | None]] = {}
        self._uid = fresh_uid() if os.geteuid() == 0 else None
        self._script = work_dir / "lambda_runtime.py"
        shutil.copyfile(Path(__file__).with_name("lambda_runtime.py"), self._script)
        self._script.chmod(0o644)

    def invoke(self, region: str, name: str, event: object) -> Outcome:
        """Invoke a function; raises FunctionFailed, LookupError when there is no such function."""
        function = json.loads(self._fetch(f"functions/{region}/{name}"))
        pool = self._pool(region, function)
        with pool.slots:
            worker = pool.idle.pop() if pool.idle else self._start(region, function)
            try:
                answer = self._ask(worker, function, event)
            except BaseException:
                worker.end()
                raise
            with self._lock:
                kept = not pool.retired
                if kept:
                    pool.idle.append(worker)
            if not kept:
                worker.end()
        return Outcome(result=answer.get("result"), error=answer.get("error"))

    def end(self) -> None:
        """End all processes that wait."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
            for pool in pools:
                pool.retired = True
        for pool in pools:
            for worker in pool.idle:
                worker.end()

    def _pool(self, region: str, function: Mapping[str, Any]) -> _Pool:
        """The pool of this very version; the processes of an older one are ended."""
        key = (region, str(function["name"]))
        version = json.dumps(function, sort_keys=True)
        with self._lock:
            pool = self._pools.get(key)
            if pool is not None and pool.version == version:
                return pool
            new = self._pools[key] = _Pool(version=version)
            if pool is not None:
                pool.retired = True
        if pool is not None:
            for worker in pool.idle:
                worker.end()
        return new

    def _ask(self, worker: _Worker, function: Mapping[str, Any], event: object) -> dict[str, Any]:
        seconds = float(function["timeout"])
        worker.say(
            {
                "event": event,
                "request_id": str(uuid.uuid4()),
                "deadline": time.time() + seconds,
            }
        )
        try:
            return worker.line(time.monotonic() + seconds)
        except FunctionTimedOut:
            raise FunctionTimedOut(f"Task timed out after {seconds:.2f} seconds") from None

    def _start(self, region: str, function: Mapping[str, Any]) -> _Worker:
        python, uid = self._interpreter(str(function["runtime"]))
        root = self._unpacked(
            str(function["sha256"]),
            lambda: self._fetch(f"functions/{region}/{function['name']}/code"),
        )
        layers = []
        for arn in function["layers"]:
            folder = self._unpacked(arn, lambda arn=arn: self._fetch(f"layers/{arn}"))  # type: ignore[misc]
            version = str(function["runtime"]).removeprefix("python")
            layers += [
                str(folder / "python" / "lib" / f"python{version}" / "site-packages"),
                str(folder / "python"),
            ]
        described = {
            **function,
            "root": str(root),
            "layers": layers,
            "runtime_paths": [str(self._runtime_modules())],
            "stream": time.strftime("%Y/%m/%d/[$LATEST]") + uuid.uuid4().hex,
        }
        process = subprocess.Popen(
            [str(python), "-I", "-S", "-B", "-u", str(self._script)],
            env=self._environ(region, function, root),
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        worker = _Worker(process=process)
        try:
            worker.say(described)
            failed = worker.line(time.monotonic() + INIT_SECONDS)["init"]
        except BaseException:
            worker.end()
            raise
        if failed is not None:
            worker.end()
            said = "".join(failed["stackTrace"])
            print(f"{said}{failed['errorType']}: {failed['errorMessage']}", file=sys.stderr)
            raise FunctionFailed(f"{failed['errorType']}: {failed['errorMessage']}")
        return worker

    def _environ(self, region: str, function: Mapping[str, Any], root: Path) -> dict[str, str]:
        own = {
            str(name): str(value)
            for name, value in function["environment"].items()
            if not str(name).startswith(_RESERVED_PREFIXES)
        }
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            **own,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": "embedded",
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_ENDPOINT_URL": self._endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function['runtime']}",
            "AWS_LAMBDA_FUNCTION_NAME": str(function["name"]),
            "AWS_LAMBDA_FUNCTION_VERSION": str(function["version"]),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function["memory"]),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function['name']}",
            "LAMBDA_TASK_ROOT": str(root),
            "_HANDLER": str(function["handler"]),
        }

    def _interpreter(self, runtime: str) -> tuple[Path, int | None]:
        """The interpreter for a runtime, and the uid to run it under (None: ours)."""
        version = runtime.removeprefix("python")
        with self._lock:
            if version in self._interpreters:
                return self._interpreters[version]
        python = self._pythons.get(version)
        if python is None and version == "{}.{}".format(*sys.version_info[:2]):
            python = Path(sys.executable)
        if python is None:
            raise FunctionFailed(
                f"the function's runtime is {runtime} and there is no Python {version} here:"
                f" start the embedded AWS with --python {version}=PATH"
            )
        uid = None
        if self._uid is not None:
            if self._cache_dir is not None:
                python = reachable_interpreter(python, cache_dir=self._cache_dir)
            if runs_for_others(python):
                uid = self._uid
        with self._lock:
            return self._interpreters.setdefault(version, (python, uid))

    def _unpacked(self, name: str, fetch: Callable[[], bytes]) -> Path:
        """The folder of a package, unpacked once; named by its digest or by a layer's ARN."""
        safe = "".join(char if char.isalnum() else "_" for char in name)
        folder = self._work_dir / safe
        if folder.exists():
            return folder
        part = self._work_dir / f"{safe}.{uuid.uuid4().hex}"
        with zipfile.ZipFile(io.BytesIO(fetch())) as archive:
            archive.extractall(part)
        try:
            part.rename(folder)
        except OSError:
            # Another request unpacked the same package first.
            shutil.rmtree(part, ignore_errors=True)
        return folder

    def _runtime_modules(self) -> Path:
        """A folder with what Lambda's Python brings along, boto3 above all."""
        folder = self._work_dir / "runtime"
        if folder.exists():
            return folder
        part = self._work_dir / f"runtime.{uuid.uuid4().hex}"
        part.mkdir(mode=0o755)
        for name in _RUNTIME_MODULES:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                continue
            source = Path(spec.origin)
            if source.name == "__init__.py":
                source = source.parent
            _bring(source, part / source.name, linked=self._uid is None)
        try:
            part.rename(folder)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
        return folder


def _bring(source: Path, target: Path, *, linked: bool) -> None:
    """Make a module available: by a link, or as files when another uid has to read them."""
    if linked:
        target.symlink_to(source)
    elif source.is_dir():
        shutil.copytree(
            source, target, copy_function=_hard_link, ignore=shutil.ignore_patterns("__pycache__")
        )
    else:
        _hard_link(str(source), str(target))


def _hard_link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
