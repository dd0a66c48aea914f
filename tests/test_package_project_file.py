"""Without requirements.txt, uv.lock or pyproject.toml say what an app needs; nothing is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from chalice_ci.app.versions import Versions, resolve_app_versions
from chalice_ci.config import AppConfig
from chalice_ci.errors import PackageError
from chalice_ci.package.build import Package
from chalice_ci.package.project_file import export_requirements
from chalice_ci.package.requirements import Requirements, read_requirements
from chalice_ci.uv import find_uv
from support.index import Index, serve, wheel
from support.packages import RUNNING, build, project, running
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


TWO_INDEXES = """
[project]
name = "orders"
version = "1.0"
requires-python = ">=3.10"
dependencies = ["one", "two"]

[tool.uv.sources]
two = {{index = "private"}}

[[tool.uv.index]]
name = "private"
url = "{url}"
explicit = true

[[tool.uv.index]]
name = "unused"
url = "https://unused.example/simple"
explicit = true
"""


def test_a_lock_of_two_indexes_is_packaged_from_both(tmp_path: Path, index: Index) -> None:
    """The operator names the second one, too, with its password; the project's name for it gets
    no credential: anybody can call an index so.
    """
    with serve(Index()) as private:
        private.add("two-5.0-py3-none-any.whl", wheel("two", "5.0", ("two.py", b"")))
        text = TWO_INDEXES.format(url=private.url)
        app_dir = project(tmp_path / "app", {"pyproject.toml": text})
        lock(app_dir, index)
        private.password = "canary-4711"
        named = private.url.replace("://", "://reader:canary-4711@")
        environ = {**environ_for(index), "UV_INDEX": f"own={named}"}
        package = build(
            app_dir,
            out_dir=tmp_path / "out",
            cache_dir=tmp_path / "cache",
            environ=environ,
            python=RUNNING,
        )
        assert names(package) == [("one", "2.0"), ("two", "5.0")]


def test_an_index_of_the_project_is_a_setting_like_one_of_requirements_txt(
    tmp_path: Path, index: Index
) -> None:
    """Those that the lock names, without what only looks like an option."""
    with serve(Index()) as private:
        private.add("two-5.0-py3-none-any.whl", wheel("two", "5.0", ("two.py", b"")))
        text = TWO_INDEXES.format(url=private.url)
        app_dir = project(tmp_path / "app", {"pyproject.toml": text})
        lock(app_dir, index)
    for name in ("pyproject.toml", "uv.lock"):
        path = app_dir / name
        path.write_text(path.read_text().replace(private.url, "https://private.example/simple"))
    requirements = exported(app_dir, index)
    assert requirements.problems == ()
    assert requirements.extra_index_urls == ("https://private.example/simple",)
    assert [entry.name for entry in requirements.entries] == ["one", "two"]


SETTINGS = """
[project]
name = "orders"
version = "1.0"
dependencies = ["one"]

[tool.uv]
constraint-dependencies = ["one<2"]
no-index = true
find-links = ["https://links.example/"]

[[tool.uv.index]]
url = "https://private.example/simple"
default = true

[[tool.uv.index]]
name = "b"
url = "https://other.example/simple"

[[tool.uv.index]]
name = "c"
url = "https://flat.example/"
format = "flat"

[[tool.uv.index]]
name = "d"
url = "https://explicit.example/simple"
explicit = true
"""


def test_settings_of_uv_count_without_a_lock(tmp_path: Path, index: Index) -> None:
    requirements = exported(project(tmp_path / "app", {"pyproject.toml": SETTINGS}), index)
    assert requirements.problems == ()
    assert requirements.index_url == "https://private.example/simple"
    assert requirements.extra_index_urls == ("https://other.example/simple",)
    assert set(requirements.find_links) == {"https://flat.example/", "https://links.example/"}
    assert requirements.no_index
    assert [entry.text for entry in requirements.constraints] == ["one<2"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("[tool.uv.sources]\nOne = {git = 'https://example.org/one'}\n", "one comes from"),
        ("[tool.uv]\noverride-dependencies = ['one==7']\n", "override-dependencies"),
        ("[tool.uv]\nconstraint-dependencies = ['-r /etc/passwd']\n", "no requirement"),
        ("[[tool.uv.index]]\nurl = 'http://plain.example/'\n", "https address"),
        ('[[tool.uv.index]]\nurl = "https://x.example/\\n-r /etc/passwd"\n', "https address"),
        ("[[tool.uv.index]\n", "not TOML"),
    ],
)
def test_what_only_a_lock_can_tell_is_refused_without_one(
    tmp_path: Path, index: Index, settings: str, told: str
) -> None:
    """The name would be taken from the index of everybody: another project may have it there."""
    text = f"[project]\nname = 'orders'\nversion = '1'\ndependencies = ['one']\n{settings}"
    problems = exported(project(tmp_path / "app", {"pyproject.toml": text}), index).problems
    assert any(told in problem.what for problem in problems)
    assert all(problem.fix for problem in problems)


def exported(app_dir: Path, index: Index) -> Requirements:
    cache = app_dir.parent / "uv"
    return read_requirements(
        app_dir,
        repo_root=app_dir,
        export=lambda: export_requirements(
            app_dir,
            repo_root=app_dir,
            uv=find_uv(environ_for(index), cache_dir=cache, index=False),
            python=running().executable,
        ),
    )


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"requirements.txt": "# none\n"}, "before pyproject.toml: the 1 dependency"),
        ({"requirements.txt": "", "uv.lock": "version = 1\n"}, "before uv.lock"),
        ({"requirements.txt": "two\n"}, ""),
        ({}, ""),
    ],
)
def test_an_empty_requirements_file_that_hides_dependencies_is_a_warning(
    tmp_path: Path, index: Index, files: dict[str, str | bytes], told: str
) -> None:
    text = PROJECT.format(dependencies='["one"]')
    app_dir = project(tmp_path / "app", {"pyproject.toml": text, **files})
    versions = resolve_app_versions(
        app_dir,
        app=AppConfig(name="orders", path="."),
        repo_root=app_dir,
        python_path=None,
        running=running().executable,
        environ=environ_for(index),
        cache_dir=tmp_path / "cache",
        log=lambda _: None,
    )
    assert isinstance(versions, Versions)
    found = [one for one in versions.findings if one.rule == "requirements-ignored"]
    assert len(found) == bool(told)
    assert all(told in one.what and one.fix for one in found)
