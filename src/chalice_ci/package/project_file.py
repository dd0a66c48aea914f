"""Requirements of a project without requirements.txt: from uv.lock, else from pyproject.toml.

uv exports its lock in a copy that holds only the lock and the pyproject.toml files: `--frozen`
resolves and builds nothing, and there is nothing in the copy that could be run. Without a lock the
dependencies stand in pyproject.toml (PEP 621); where they are dynamic, only the project's build
backend knows them, which would have to run: that is refused.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalice_ci.uv import Uv, UvFailed

LOCK, PROJECT = "uv.lock", "pyproject.toml"

_MAX_BYTES = 32 * 1024 * 1024
_MAX_PROJECTS = 500
_MAX_FOLDERS = 20_000
_NO_PART = frozenset({".git", ".venv", "node_modules", "__pycache__", "vendor", ".tox"})


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Lines as in requirements.txt: `source` is the file that they come from, `folder` the one that
    their paths are relative to. `problem` says why there are none, `fix` what to do.
    """

    source: Path
    folder: Path
    text: str = ""
    problem: str = ""
    fix: str = ""


def export_requirements(app_dir: Path, *, repo_root: Path, uv: Uv, python: Path) -> Exported | None:
    """What an app without requirements.txt asks for; None when its files do not say."""
    path = app_dir / PROJECT
    project = _project(path, repo_root)
    if project is None:
        return None
    lock = next(
        (folder / LOCK for folder in _upwards(app_dir, repo_root) if (folder / LOCK).is_file()),
        None,
    )
    if lock is not None:
        inside = lock.resolve().is_relative_to(repo_root.resolve())
        if not inside or lock.stat().st_size > _MAX_BYTES:
            return Exported(
                source=lock,
                folder=lock.parent,
                problem="this is no lock of the project.",
                fix="Run `uv lock`.",
            )
        member = () if lock.parent == app_dir.resolve() else ("--package", str(project.get("name")))
        return _of_lock(lock, member, uv, python)
    dynamic = project.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        return Exported(
            source=path,
            folder=app_dir,
            problem="the dependencies are dynamic: to know them, the project would have to be "
            "built, which runs its code.",
            fix=f"Commit a {LOCK} (`uv lock`), or write requirements.txt "
            "(`uv pip compile pyproject.toml -o requirements.txt`).",
        )
    listed = project.get("dependencies", [])
    lines = [str(one) for one in listed] if isinstance(listed, list) else []
    if any("\n" in line or line.startswith("-") for line in lines):
        return Exported(
            source=path,
            folder=app_dir,
            problem="one of the dependencies is no requirement.",
            fix="Write names and versions, for example `requests==2.32.5`.",
        )
    return Exported(source=path, folder=app_dir, text="".join(f"{line}\n" for line in lines))


def _project(path: Path, repo_root: Path) -> dict[str, Any] | None:
    """The [project] table, when there is one."""
    try:
        if not path.resolve(strict=True).is_relative_to(repo_root.resolve()):
            return None
        if path.stat().st_size > _MAX_BYTES or not path.is_file():
            return None
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project")
    except (OSError, ValueError, RecursionError, RuntimeError):
        return None
    return project if isinstance(project, dict) else None


def _upwards(folder: Path, root: Path) -> Iterator[Path]:
    """The folder and those above it, within the repository."""
    top = root.resolve()
    current = folder.resolve()
    while current.is_relative_to(top):
        yield current
        if current == top:
            return
        current = current.parent


def _of_lock(lock: Path, member: tuple[str, ...], uv: Uv, python: Path) -> Exported:
    top = lock.parent
    with tempfile.TemporaryDirectory(prefix="chalice-ci-") as work:
        copy = Path(work)
        shutil.copyfile(lock, copy / LOCK)
        for path in _projects(top):
            target = copy / path.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        arguments = [
            *("export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header"),
            *("--no-annotate", "--format", "requirements.txt", "--no-python-downloads"),
            *("--python", str(python)),
            *member,
        ]
        try:
            text = uv.run(arguments, cwd=copy)
        except UvFailed as error:
            return Exported(
                source=lock,
                folder=top,
                problem=f"uv cannot export it: {error.what}",
                fix="Run `uv lock` and commit the result.",
            )
    return Exported(source=lock, folder=top, text=text)


def _projects(top: Path) -> Iterator[Path]:
    """Every pyproject.toml below a folder: those of a workspace's members are needed."""
    found = 0
    for seen, (folder, names, files) in enumerate(os.walk(top)):
        names[:] = sorted(name for name in names if name not in _NO_PART)
        path = Path(folder, PROJECT)
        if PROJECT in files and path.is_file() and not path.is_symlink():
            yield path
            found += 1
        if found >= _MAX_PROJECTS or seen >= _MAX_FOLDERS:
            return
