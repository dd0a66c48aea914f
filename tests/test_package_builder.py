"""`package: {builder: chalice}`: Chalice's own packager, shut in, with the same checks after it."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from chalice_ci.errors import PackageError
from chalice_ci.package.target import Target
from chalice_ci.package.wheels import Fetched
from support import commandline
from support.index import Index, serve, wheel
from support.packages import build, members, project

CONFIG = "package: {builder: chalice, build: %s}\n"


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Index()) as running:
        yield running


def manifest_of(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(next(root.rglob("manifest.json")).read_text())
    return found


def test_both_builders_give_the_same_package(tmp_path: Path) -> None:
    """Offline, from the wheels that were locked: a compiled one and a pure one."""
    digests = {}
    for builder in ("uv", "chalice"):
        root = commandline.hello(tmp_path / builder)
        commandline.write(
            root,
            {
                "requirements.txt": "six==1.17.0\nMarkupSafe==3.0.2\n",
                "chalicelib/__init__.py": "",
                "chalice-ci.yml": f"package: {{builder: {builder}}}\n",
            },
        )
        done = commandline.chalice_ci("package", "--stage", "dev", cwd=root)
        assert done.code == 0, done.out + done.err
        digests[builder] = members(next(root.rglob("deployment.zip")))
        told = manifest_of(root)["dependencies"]
        assert isinstance(told, list)
        assert [(one["name"], one["version"]) for one in told] == [
            ("markupsafe", "3.0.2"),
            ("six", "1.17.0"),
        ]
        assert all(one["size"] and one["direct"] for one in told)
    assert digests["uv"] == digests["chalice"]
    assert any(name.endswith(".so") for name in digests["chalice"])


def test_it_resolves_and_builds_by_itself_where_that_is_allowed(tmp_path: Path) -> None:
    """With the network, from the package index, and without a credential."""
    root = commandline.hello(tmp_path / "repository")
    commandline.write(
        root, {"requirements.txt": "future==0.16.0\n", "chalice-ci.yml": CONFIG % "true"}
    )
    done = commandline.chalice_ci(
        "package", "--stage", "dev", cwd=root, AWS_SECRET_ACCESS_KEY="canary-4711"
    )
    assert done.code == 0, done.out + done.err
    archive = next(root.rglob("deployment.zip"))
    assert "future/__init__.py" in members(archive)
    with zipfile.ZipFile(archive) as opened:
        assert not any(b"canary-4711" in opened.read(name) for name in opened.namelist())


def test_without_that_what_has_no_wheel_is_refused(tmp_path: Path) -> None:
    root = commandline.hello(tmp_path / "repository")
    commandline.write(
        root, {"requirements.txt": "future==0.16.0\n", "chalice-ci.yml": CONFIG % "false"}
    )
    done = commandline.chalice_ci("package", "--stage", "dev", cwd=root)
    assert done.code == 11
    assert "no wheel for Lambda" in done.out
    assert "package: {build: [future]}" in done.out


@dataclass(frozen=True, kw_only=True)
class Lying:
    """A packager that answers with what it was given."""

    data: bytes
    network: bool = False

    def __call__(
        self,
        lines: Sequence[str],
        bounds: Sequence[str],
        wheels: Sequence[Fetched],
        *,
        target: Target,
        folder: Path,
    ) -> Path:
        path = folder / "package.zip"
        path.write_bytes(self.data)
        return path


def collected(folder: Path, data: bytes, index: Index) -> dict[str, tuple[int, int]]:
    package = build(
        project(folder / "app", {"requirements.txt": "", "chalicelib/mine.py": "mine = 1\n"}),
        out_dir=folder / "out",
        cache_dir=folder / "cache",
        environ={"PATH": os.environ["PATH"], "UV_DEFAULT_INDEX": index.url},
        packager=Lying(data=data),
    )
    return members(package.app.path)


HOSTILE = {
    "no zip": (b"nothing", "zip"),
    "a name that climbs": (wheel("evil", "1.0", ("../x", b"")), "is no name for a file"),
    "a foreign library": (
        wheel("evil", "1.0", ("x.so", b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\0" + bytes(44))),
        "aarch64",
    ),
}


@pytest.mark.parametrize(("data", "told"), HOSTILE.values(), ids=HOSTILE)
def test_what_it_answers_is_not_believed(
    tmp_path: Path, index: Index, data: bytes, told: str
) -> None:
    with pytest.raises(PackageError, match="packager collected is not usable") as caught:
        collected(tmp_path, data, index)
    assert told in caught.value.what


def test_it_cannot_replace_the_apps_files_or_chalices(tmp_path: Path, index: Index) -> None:
    data = wheel(
        "evil",
        "1.0",
        ("app.py", b"stolen = 1"),
        ("chalicelib/mine.py", b"stolen = 1"),
        ("chalice/app.py", b"stolen = 1"),
        ("chalice/more.py", b"stolen = 1"),
    )
    stolen = len(b"stolen = 1")
    found = collected(tmp_path, data, index)
    assert "evil-1.0.dist-info/METADATA" in found
    assert "chalice/more.py" not in found
    assert all(found[n][1] != stolen for n in ("app.py", "chalicelib/mine.py", "chalice/app.py"))
