"""The same commit gives the same bytes, whoever builds it, where, when and with which Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import chalice_ci
from chalice_ci.app.interpreter import fresh_uid, reachable_interpreter
from support import commandline
from support.index import Index, serve, wheel
from support.packages import RUNNING, cache_folder, interpreter, project, running

FILES: dict[str, str | bytes] = {
    "requirements.txt": "beta==1.0\nalpha==1.0\n",
    "app.py": "app = None\n",
    "chalicelib/__init__.py": "",
    "chalicelib/z/a.py": "a = 1\n" * 100,
    "chalicelib/z/b.py": "b = 1\n",
    "chalicelib/été.txt": "summer\n",
    "vendor/tool": "#!/bin/sh\n",
    "vendor/zeta/x.py": "x = 1\n",
    "vendor/zeta/Y.py": "x = 1\n",
}

_BUILD = """
import os, sys

app_dir, out, cache, layer, mask, order, chalice = sys.argv[1:]
os.umask(int(mask, 8))
if order == "reversed":
    listed = os.scandir

    class Reversed:
        # A file system that lists its names the other way round.
        def __init__(self, *arguments):
            with listed(*arguments) as found:
                self.entries = iter(sorted(found, key=lambda entry: entry.name, reverse=True))
        def __enter__(self):
            return self
        def __exit__(self, *error):
            return None
        def __iter__(self):
            return self.entries
        def close(self):
            return None

    os.scandir = Reversed

from pathlib import Path
from support.packages import build

package = build(
    Path(app_dir), out_dir=Path(out), cache_dir=Path(cache), automatic_layer=layer == "layer",
    chalice=Path(chalice),
)
print(*(archive.sha256 for archive in package.archives))
Path(out, "manifest.json").write_text(package.manifest.text, encoding="utf-8")
"""


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    content = b"".join(b"%d = line\n" % number for number in range(2000))
    with serve(Index()) as serving:
        for name in ("alpha", "beta"):
            entries = tuple((f"{name}/m{n}.py", content + bytes([n])) for n in range(20))
            serving.add(f"{name}-1.0-py3-none-any.whl", wheel(name, "1.0", *entries))
        yield serving


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="chalice-ci-", dir=cache_folder().parent))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Who builds, with what, and what else could make a difference."""

    python: Path = Path(sys.executable)
    uid: int | None = None
    mask: str = "022"
    order: str = "sorted"
    environ: Mapping[str, str] = field(default_factory=dict)


def made(folder: Path, files: Mapping[str, str | bytes] = FILES) -> Path:
    app_dir = project(folder, files)
    (app_dir / "vendor/tool").chmod(0o755)
    return app_dir


def built(
    app_dir: Path, cache_dir: Path, index: Index, layer: str, conditions: Conditions
) -> tuple[str, str]:
    """Build in a process of its own: the digests and the manifest."""
    import chalice

    out = app_dir.parent / "out"
    if conditions.uid is not None:
        for folder in (out, cache_dir):
            folder.mkdir(exist_ok=True)
            os.chown(folder, conditions.uid, conditions.uid)
    site = Path(chalice.__file__).parent.parent
    source = Path(chalice_ci.__file__).parent.parent
    done = subprocess.run(
        [
            *(conditions.python, "-B", "-c", _BUILD, app_dir, out, cache_dir, layer),
            *(conditions.mask, conditions.order, Path(chalice.__file__).parent),
        ],
        env={
            "PATH": f"{site.parents[2] / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, source, site))),
            "UV_DEFAULT_INDEX": index.url,
            **conditions.environ,
        },
        cwd=app_dir.parent,
        user=conditions.uid,
        group=conditions.uid,
        extra_groups=None if conditions.uid is None else [],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, (out / "manifest.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("layer", ["app", "layer"])
def test_the_same_project_gives_the_same_bytes_under_other_conditions(
    open_folder: Path, index: Index, layer: str
) -> None:
    """Other user, umask, time zone, locale, folder, file times, order of names, hash seed and
    cache.
    """
    one = made(open_folder / "first/app")
    other = made(open_folder / "second/deeper/app", dict(reversed(FILES.items())))
    for number, path in enumerate(sorted(other.rglob("*"))):
        os.utime(path, (number * 1000, number * 1000))
    (other / "chalicelib/__pycache__").mkdir()
    (other / "chalicelib/__pycache__/a.cpython-312.pyc").write_bytes(b"compiled")
    plain = Conditions(environ={"TZ": "UTC", "LANG": "C", "PYTHONHASHSEED": "1"})
    first = built(one, open_folder / "cache", index, layer, plain)
    root = os.geteuid() == 0
    changed = Conditions(
        python=reachable_interpreter(running().executable, cache_dir=cache_folder()),
        uid=fresh_uid() if root else None,
        mask="077",
        order="reversed",
        environ={
            "TZ": "Asia/Kathmandu",
            "LANG": "tr_TR.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "2",
        },
    )
    assert built(other, open_folder / "other-cache", index, layer, changed) == first
    warm = Conditions(mask="027", order="reversed")
    assert built(one, open_folder / "cache", index, layer, warm) == first
    assert "pyc" not in first[1]


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_another_python_that_orchestrates_gives_the_same_bytes(
    open_folder: Path, index: Index, version: str
) -> None:
    """chalice-ci itself runs on it; what is packaged is for Python 3.12 each time."""
    app_dir = made(open_folder / "app")
    first = built(app_dir, open_folder / "cache", index, "app", Conditions())
    python = interpreter(version).executable
    again = built(
        app_dir, open_folder / f"cache-{version}", index, "app", Conditions(python=python)
    )
    assert again == first


APP = """
import boto3
from chalice import Chalice, Rate

app = Chalice(app_name="same")


@app.route("/")
def index():
    boto3.client("s3").list_buckets()
    boto3.client("dynamodb").get_item(TableName="x", Key={})
    return {}


@app.schedule(Rate(1, unit=Rate.HOURS))
def tick(event):
    boto3.client("sns").publish(TopicArn="x", Message="y")


@app.lambda_function()
def other(event, context):
    return {}
"""
CONFIG = '{"version": "2.0", "app_name": "same", "stages": {"dev": {"autogen_policy": true}}}'


def test_the_command_writes_the_same_files_each_time(open_folder: Path) -> None:
    """Zip, template, manifest and snapshot: generated policies have random Sids in Chalice's."""
    files: dict[str, str | bytes] = {
        "app.py": APP,
        ".chalice/config.json": CONFIG,
        "requirements.txt": "",
        "chalicelib/__init__.py": "",
        "chalicelib/more.py": "x = 1\n",
    }
    seen: list[dict[str, bytes]] = []
    for number, more in enumerate(
        ({"TZ": "UTC", "PYTHONHASHSEED": "1"}, {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "2"})
    ):
        root = project(open_folder / f"checkout{number}", files)
        mask = os.umask(0o077 if number else 0o022)
        try:
            done = commandline.chalice_ci("package", "--stage", "dev", cwd=root, **more)
        finally:
            os.umask(mask)
        assert done.code == 0, done.out + done.err
        out = root / "chalice-ci-out"
        packaged = {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and path.parent != out
        }
        seen.append(packaged)
    assert {Path(name).name for name in seen[0]} >= {"deployment.zip", "sam.json", "manifest.json"}
    assert seen[0] == seen[1]
    assert RUNNING.encode() in next(v for k, v in seen[0].items() if k.endswith("sam.json"))
