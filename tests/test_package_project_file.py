"""Without requirements.txt, uv.lock or pyproject.toml say what an app needs; nothing is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from chalice_ci.errors import PackageError
from chalice_ci.package import Package
from support.index import Index, serve, wheel
from support.packages import RUNNING, build, project
from support.sources import source


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Index()) as running:
        for name, version in (("one", "1.0"), ("one", "2.0"), ("two", "1.0"), ("three", "1.0")):
            running.add(f"{name}-{version}-py3-none-any.whl", wheel(name, version, (name, b"")))
        yield running


def environ_for(index: Index) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "UV_DEFAULT_INDEX": index.url}


def built(
    app_dir: Path, index: Index, *, root: Path | None = None, allowed: tuple[str, ...] = ()
) -> Package:
    folder = (root or app_dir).parent
    return build(
        app_dir,
        repo_root=root,
        out_dir=folder / "out",
        cache_dir=folder / "cache",
        environ=environ_for(index),
        python=RUNNING,
        allowed=allowed,
    )


def names(package: Package) -> list[tuple[str, str]]:
    return [(one.name, one.version) for one in package.manifest.dependencies]


def lock(folder: Path, index: Index) -> None:
    """`uv lock`, as a developer would."""
    subprocess.run(
        [find_uv_bin(), "--no-config", "lock", "--quiet", "--project", str(folder)],
        env={
            **environ_for(index),
            "UV_CACHE_DIR": str(folder.parent / "uv"),
            "HOME": str(folder.parent),
            "PATH": os.defpath,
        },
        cwd=folder,
        check=True,
        timeout=120,
    )


PROJECT = """
[project]
name = "orders"
version = "1.0"
requires-python = ">=3.10"
dependencies = {dependencies}

[project.optional-dependencies]
fast = ["three"]

[dependency-groups]
dev = ["three"]
"""


def test_static_dependencies_are_read(tmp_path: Path, index: Index) -> None:
    dependencies = """["one<2", "two; sys_platform == 'linux'", "three; sys_platform == 'win32'"]"""
    text = PROJECT.format(dependencies=dependencies)
    package = built(project(tmp_path / "app", {"pyproject.toml": text}), index)
    assert names(package) == [("one", "1.0"), ("two", "1.0")]


def test_a_lock_decides_over_what_is_newest(tmp_path: Path, index: Index) -> None:
    """With its hashes; groups for developers and extras are not shipped."""
    app_dir = project(
        tmp_path / "app", {"pyproject.toml": PROJECT.format(dependencies='["one<2"]')}
    )
    lock(app_dir, index)
    text = PROJECT.format(dependencies='["one"]')
    (app_dir / "pyproject.toml").write_text(text)
    assert names(built(app_dir, index)) == [("one", "1.0")]


def test_a_requirements_file_comes_first(tmp_path: Path, index: Index) -> None:
    files = {
        "pyproject.toml": PROJECT.format(dependencies='["one"]'),
        "requirements.txt": "two\n",
    }
    assert names(built(project(tmp_path / "app", files), index)) == [("two", "1.0")]


def test_settings_of_tools_are_no_project(tmp_path: Path, index: Index) -> None:
    package = built(project(tmp_path / "app", {"pyproject.toml": "[tool.ruff]\n"}), index)
    assert names(package) == []


def test_a_member_of_a_workspace_has_the_lock_of_its_root(tmp_path: Path, index: Index) -> None:
    """What it shares with others is built, where that is allowed."""
    member = PROJECT.format(dependencies='["one", "mine"]')
    member += "[tool.uv.sources]\nmine = {workspace = true}\n"
    root = project(
        tmp_path / "repository",
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["services/*", "libs/*"]\n',
            "services/orders/pyproject.toml": member,
            "services/orders/app.py": "",
            **{
                f"libs/mine/{name}": text
                for name, text in source("mine", "1.0", requires=("two",)).items()
            },
        },
    )
    static = '[project]\nname = "mine"\nversion = "1.0"\ndependencies = ["two"]\n'
    path = root / "libs/mine/pyproject.toml"
    path.write_text(path.read_text().partition("[project]")[0] + static)
    lock(root, index)
    app_dir = root / "services/orders"
    with pytest.raises(PackageError, match=r"uv\.lock: 'mine' is built from source") as caught:
        built(app_dir, index, root=root)
    assert "package: {build: [mine]}" in caught.value.fix
    package = built(app_dir, index, root=root, allowed=("mine",))
    assert names(package) == [("mine", "1.0"), ("one", "2.0"), ("two", "1.0")]


DYNAMIC = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "orders"
dynamic = ["version", "dependencies"]
"""


def test_dynamic_dependencies_are_refused_and_a_lock_of_them_runs_nothing(
    tmp_path: Path, index: Index
) -> None:
    """Only the build backend knows them: the canary says whether anybody asked it."""
    canary = tmp_path / "canary"
    files = source("orders", requires=("one",))
    app_dir = project(tmp_path / "app", {**files, "pyproject.toml": DYNAMIC})
    lock(app_dir, index)
    backend = f"open({str(canary)!r}, 'w').write('ran')\n"
    (app_dir / "backend.py").write_text(backend)
    (app_dir / "setup.py").write_text(backend)
    assert names(built(app_dir, index)) == [("one", "2.0")]
    (app_dir / "uv.lock").unlink()
    with pytest.raises(PackageError, match="dynamic") as caught:
        built(app_dir, index)
    assert "uv lock" in caught.value.fix
    assert not canary.exists()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"uv.lock": "version = 99\n"}, "uv cannot export it"),
        ({"uv.lock": "not = [a lock"}, "uv cannot export it"),
        ({"pyproject.toml": '[project]\nname="x"\ndependencies=["--index-url x"]'}, "requirement"),
        ({"pyproject.toml": '[project]\nname="x"\ndependencies=["x=1"]'}, "not a requirement"),
    ],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, index: Index, files: dict[str, str | bytes], told: str
) -> None:
    text = PROJECT.format(dependencies="[]")
    with pytest.raises(PackageError, match=told) as caught:
        built(project(tmp_path / "app", {"pyproject.toml": text, **files}), index)
    assert caught.value.where in ("uv.lock", "pyproject.toml")


def test_a_link_to_a_lock_elsewhere_is_not_followed(tmp_path: Path, index: Index) -> None:
    text = PROJECT.format(dependencies='["one"]')
    app_dir = project(tmp_path / "app", {"pyproject.toml": text})
    lock(app_dir, index)
    shutil.move(app_dir / "uv.lock", tmp_path / "uv.lock")
    (app_dir / "uv.lock").symlink_to(tmp_path / "uv.lock")
    with pytest.raises(PackageError, match="no lock of the project"):
        built(app_dir, index)
