"""What a run costs before anything is done: modules and processes. Times are `make bench`'s."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.packages import cache_folder

# What making a package needs none of; each takes as long to import as much of ours.
FOREIGN = {"boto3", "botocore", "chalice", "github", "junit_xml", "moto", "urllib3", "yaml"}
# Modules that are there when the loader is started for what it will probably load: Python's own
# start, the command line, and what confines a process. Before it was all of them, some 360.
BEFORE = 180
WHOLE = 345

_NOTING = """
import json, sys
from chalice_ci.__main__ import main
import subprocess
class Noting(subprocess.Popen):
    started = []
    def __init__(self, command, **options):
        self.started.append([len(sys.modules), [str(one)[:40] for one in command]])
        super().__init__(command, **options)
subprocess.Popen = Noting
code = None
try:
    main(sys.argv[2:])
except SystemExit as stop:
    code = stop.code
with open(sys.argv[1], "w") as file:
    json.dump({"code": code, "started": Noting.started, "modules": sorted(sys.modules)}, file)
"""


class Project:
    """A small app, and a folder for what a run makes for a while."""

    def __init__(self, root: Path) -> None:
        self.root = root / "app"
        self.temporary = root / "tmp"
        self.note = root / "note.json"
        for folder in (self.root / ".chalice", self.temporary):
            folder.mkdir(parents=True)
        self.config = self.root / ".chalice" / "config.json"
        self.config.write_text('{"version": "2.0", "app_name": "small", "stages": {"dev": {}}}')
        (self.root / "requirements.txt").write_text("")
        (self.root / "app.py").write_text(
            "from chalice import Chalice\napp = Chalice(app_name='small')\n\n\n"
            "@app.route('/')\ndef index():\n    return {}\n"
        )

    def packaged(self) -> dict[str, Any]:
        """Run the verb; what it imported, and which processes it started."""
        arguments = [
            *("package", "--stage=dev", "--quiet", f"--python-path={sys.executable}"),
            *(f"--out={self.temporary.parent}/out", f"--cache-dir={cache_folder()}"),
        ]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GITHUB_"))}
        subprocess.run(
            [sys.executable, "-P", "-c", _NOTING, str(self.note), *arguments],
            check=True,
            capture_output=True,
            cwd=self.root,
            env={**environ, "TMPDIR": str(self.temporary)},
            timeout=300,
        )
        told: dict[str, Any] = json.loads(self.note.read_text())
        return told


@pytest.fixture
def project() -> Iterator[Project]:
    """A project that a process without rights can reach."""
    with tempfile.TemporaryDirectory(prefix="chalice-ci-startup-") as folder:
        Path(folder).chmod(0o711)
        yield Project(Path(folder))


def test_the_loader_starts_before_what_only_we_need_is_imported(project: Project) -> None:
    first, second = project.packaged(), project.packaged()

    assert (first["code"], second["code"]) == (0, 0)
    # One supervisor with one loader each, and nothing else: no git, no uv, no Python to look at.
    assert len(first["started"][-1:]) == len(second["started"]) == 1
    (modules, command), *_ = second["started"]
    assert modules < BEFORE < first["started"][-1][0]
    assert command[:3] == [sys.executable, "-I", "-S"]
    assert len(second["modules"]) < WHOLE
    assert not FOREIGN & {name.partition(".")[0] for name in second["modules"]}
    assert os.listdir(project.temporary) == []


def test_a_loader_that_nobody_asks_is_ended(project: Project) -> None:
    assert project.packaged()["code"] == 0
    project.config.write_text('{"version": "2.0",')

    told = project.packaged()

    assert told["code"] == 1
    assert len(told["started"]) == 1
    assert os.listdir(project.temporary) == []
    # It is being ended when the command does.
    until = time.monotonic() + 60
    while loaders(project):
        assert time.monotonic() < until
        time.sleep(0.05)


def loaders(project: Project) -> list[str]:
    """Processes whose home is in the folder for what a run makes for a while."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if os.fsencode(project.temporary) in path.read_bytes():
                found.append(path.parent.name)
    return found
