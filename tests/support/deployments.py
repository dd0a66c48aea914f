"""Real graphs of real shapes for the deployer, made by the child that loads apps."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalice_ci.app.deployer import CHILD_DIR, Call, PackageFile, Result, Step, Target
from chalice_ci.plan import Operation
from support.shapes import REGION

_LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from chalice_ci_child import load
sys.path.remove(sys.argv[1])
load.main()
"""


_LOAD_SECONDS = 120
_LOADED: dict[str, dict[str, Any]] = {}


def load(project: Path, stage: str = "dev", *, python: Path | None = None) -> dict[str, Any]:
    """The load document of an app; `python` must have Chalice. The same files are loaded once."""
    files = [path for path in sorted(project.rglob("*")) if path.is_file()]
    content = "".join(
        f"{path.relative_to(project)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in files
    )
    key = f"{stage} {python}\n{content}"
    if key not in _LOADED:
        _LOADED[key] = _load(project, stage, python)
    return _LOADED[key]


def _load(project: Path, stage: str, python: Path | None) -> dict[str, Any]:
    reads, writes = os.pipe()
    request = {
        "answer": {"fd": writes, "nonce": "n"},
        "project": str(project),
        "stage": stage,
        "region": REGION,
        "layer_is_empty": not (project / "requirements.txt").exists(),
    }
    environ = {
        "PATH": os.defpath,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    with subprocess.Popen(
        [str(python or sys.executable), "-I", "-B", "-c", _LOAD, str(CHILD_DIR)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=project,
        env=environ,
        pass_fds=(writes,),
    ) as process:
        os.close(writes)
        assert process.stdin
        limit = threading.Timer(_LOAD_SECONDS, process.kill)
        limit.start()
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        with os.fdopen(reads, "rb") as answer:
            said = answer.read()
        process.wait(_LOAD_SECONDS)
        limit.cancel()
    assert said, f"no answer; the load ended with {process.returncode}"
    document: dict[str, Any] = json.loads(said.partition(b"\n")[2])
    assert "graph" in document, document
    return document


def zip_of(files: Mapping[str, str], path: Path) -> PackageFile:
    """A small zip and its digest."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), text)
    return PackageFile(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def target(
    project: Path,
    work: Path,
    *,
    stage: str = "dev",
    resources: tuple[Mapping[str, object], ...] = (),
    python: Path | None = None,
) -> Target:
    """What an apply of the app as it stands in `project` is given."""
    document = load(project, stage, python=python)
    work.mkdir(parents=True, exist_ok=True)
    code = {"app.py": (project / "app.py").read_text(encoding="utf-8")}
    return Target(
        app_name=document["app_name"],
        stage=stage,
        graph=document["graph"],
        packages={
            "app": zip_of(code, work / "app.zip"),
            "layer": zip_of({"python/six.py": "six = 6"}, work / "layer.zip"),
        },
        resources=resources,
    )


def deletion(app_name: str, resources: tuple[Mapping[str, object], ...]) -> Target:
    """What a delete is given."""
    return Target(app_name=app_name, stage="dev", graph=None, resources=resources)


class Recorder:
    """A gate that allows everything and remembers what it was asked; also a progress listener."""

    def __init__(self) -> None:
        self.reviewed: tuple[Operation, ...] = ()
        self.calls: list[Call] = []
        self.results: list[tuple[Call, Result]] = []
        self.steps: list[Step] = []

    def review(self, operations: tuple[Operation, ...]) -> None:
        self.reviewed = operations

    def allow(self, call: Call) -> None:
        self.calls.append(call)

    def done(self, call: Call, result: Result) -> None:
        self.results.append((call, result))

    def __call__(self, step: Step) -> None:
        self.steps.append(step)
