"""Requirements of a project without requirements.txt: from uv.lock, else from pyproject.toml.

uv exports its lock in a copy that holds only the lock and the pyproject.toml files: `--frozen`
resolves and builds nothing, and there is nothing in the copy that could be run. Without a lock the
dependencies stand in pyproject.toml (PEP 621); where they are dynamic, only the project's build
backend knows them, which would have to run: that is refused. So is what `[tool.uv]` says of them
and only a lock can tell; its indexes count either way: uv leaves them out of what it exports.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from chalice_ci.package.index import without_credentials
from chalice_ci.uv import Uv, UvFailed

LOCK, PROJECT = "uv.lock", "pyproject.toml"

_MAX_BYTES = 32 * 1024 * 1024
_MAX_PROJECTS = 500
_MAX_FOLDERS = 20_000
_NO_PART = frozenset({".git", ".venv", "node_modules", "__pycache__", "vendor", ".tox"})


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Lines as in requirements.txt: `source` is the file that they come from, `folder` the one that
    their paths are relative to; `constraints` are lines as of a file of constraints. `problem` says
    why there are none, `fix` what to do.
    """

    source: Path
    folder: Path
    text: str = ""
    constraints: str = ""
    problem: str = ""
    fix: str = ""


def export_requirements(
    app_dir: Path, *, repo_root: Path, uv: Uv, python: Path, indexes: Collection[str] = ()
) -> Exported | None:
    """What an app without requirements.txt asks for; None when its files do not say.

    `indexes` are the addresses that the machine's operator named: they need not be named again.
    """
    path = app_dir / PROJECT
    lock = found_lock(app_dir, repo_root=repo_root)
    try:
        document = _document(path, repo_root)
        top = document if lock is None else _document(lock.parent / PROJECT, repo_root)
    except ValueError as error:
        return Exported(
            source=path,
            folder=app_dir,
            problem=f"this, or that of its workspace, is not TOML: "
            f"{' '.join(str(error).split())[:200]}.",
            fix="Mend the file: the dependencies of the app stand in it.",
        )
    project = document.get("project")
    if not isinstance(project, dict):
        return None
    if lock is not None:
        inside = Path(os.path.realpath(lock)).is_relative_to(repo_root.resolve())
        if not inside or not lock.is_file() or lock.stat().st_size > _MAX_BYTES:
            return Exported(
                source=lock,
                folder=lock.parent,
                problem="this is no lock of the project.",
                fix="Run `uv lock`.",
            )
        is_member = lock.parent != app_dir.resolve()
        member = ("--package", str(project.get("name"))) if is_member else ()
        settings = [_uv_settings(document)]
        if is_member:
            settings.append(_uv_settings(top))
        told = lock.read_text(encoding="utf-8", errors="replace")
        lines = _index_lines(settings, indexes, lambda table: _plain(table.get("url")) in told)
        return _of_lock(lock, member, uv, python, tuple(lines))
    return _of_project(path, project, _uv_settings(document), indexes)


def hidden_dependencies(app_dir: Path, *, repo_root: Path) -> tuple[str, int]:
    """The file that names dependencies beside an empty requirements.txt, and how many; "" and 0."""
    project = None
    with contextlib.suppress(ValueError):
        project = _document(app_dir / PROJECT, repo_root).get("project")
    listed = _strings(project.get("dependencies")) if isinstance(project, dict) else ()
    if not listed:
        return "", 0
    return LOCK if found_lock(app_dir, repo_root=repo_root) else PROJECT, len(listed)


def found_lock(app_dir: Path, *, repo_root: Path) -> Path | None:
    """The lock beside an app's pyproject.toml, or at the root of its workspace."""
    folders = _upwards(app_dir, repo_root)
    return next((folder / LOCK for folder in folders if (folder / LOCK).is_file()), None)


def _of_project(
    path: Path, project: Mapping[str, Any], settings: Mapping[str, Any], indexes: Collection[str]
) -> Exported:
    """What pyproject.toml says, without a lock."""

    def refused(problem: str, fix: str) -> Exported:
        return Exported(source=path, folder=path.parent, problem=problem, fix=fix)

    dynamic = project.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        return refused(
            "the dependencies are dynamic: to know them, the project would have to be "
            "built, which runs its code.",
            f"{_WITH_LOCK}, or write requirements.txt "
            "(`uv pip compile pyproject.toml -o requirements.txt`).",
        )
    lines = _strings(project.get("dependencies"))
    bounds = _strings(settings.get("constraint-dependencies"))
    if any("\n" in line or line.startswith("-") for line in (*lines, *bounds)):
        return refused(
            "one of the dependencies is no requirement.",
            "Write names and versions, for example `requests==2.32.5`.",
        )
    elsewhere = _normalised(settings.get("sources")) & {_name(line) for line in lines}
    if elsewhere:
        return refused(
            f"where {', '.join(sorted(elsewhere))} comes from is said in `tool.uv.sources`, which "
            "an installer other than uv does not read.",
            f"{_WITH_LOCK}, or write `NAME @ ADDRESS` among the dependencies.",
        )
    if _strings(settings.get("override-dependencies")):
        return refused(
            "`tool.uv.override-dependencies` replaces what others ask for, which only uv's lock "
            "tells.",
            f"{_WITH_LOCK}.",
        )
    # What is explicit is for `tool.uv.sources` alone.
    own = _index_lines([settings], indexes, lambda table: table.get("explicit") is not True)
    text = "".join(f"{line}\n" for line in (*own, *lines))
    constraints = "".join(f"{line}\n" for line in bounds)
    return Exported(source=path, folder=path.parent, text=text, constraints=constraints)


_WITH_LOCK = f"Commit a {LOCK} (`uv lock`)"


def _index_lines(
    settings: list[Mapping[str, Any]],
    known: Collection[str],
    counts: Callable[[Mapping[str, Any]], bool],
) -> Iterator[str]:
    """The indexes of `[tool.uv]` as lines of requirements.txt, those that are `known` aside."""
    for one in settings:
        tables = one.get("index")
        for table in tables if isinstance(tables, list) else ():
            if isinstance(table, dict) and counts(table):
                option = "--index-url" if table.get("default") is True else "--extra-index-url"
                if table.get("format") == "flat":
                    option = "--find-links"
                yield from _option(option, table.get("url"), known)
        yield from _option("--index-url", one.get("index-url"), known)
        for option in ("extra-index-url", "find-links"):
            for address in _strings(one.get(option)):
                yield from _option(f"--{option}", address, known)
        if one.get("no-index") is True:
            yield "--no-index"


def _option(option: str, address: object, known: Collection[str]) -> Iterator[str]:
    text = str(address or "")
    if any(character.isspace() for character in text):
        # More lines than one are no address: as none it is refused.
        yield option
    elif text and _plain(text) not in known:
        yield f"{option} {shlex.quote(text)}"


def _plain(address: object) -> str:
    """An address as uv's lock has it: without credentials."""
    return without_credentials(str(address or ""))


def _uv_settings(document: Mapping[str, Any]) -> Mapping[str, Any]:
    tools = document.get("tool")
    settings = tools.get("uv") if isinstance(tools, dict) else None
    return settings if isinstance(settings, dict) else {}


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _normalised(table: object) -> set[str]:
    return {str(canonicalize_name(name)) for name in table} if isinstance(table, dict) else set()


def _name(line: str) -> str:
    try:
        return str(canonicalize_name(Requirement(line).name))
    except InvalidRequirement:
        return ""


def _document(path: Path, repo_root: Path) -> Mapping[str, Any]:
    """A pyproject.toml; empty when there is none, or it lies elsewhere. Raises ValueError."""
    try:
        if not path.resolve(strict=True).is_relative_to(repo_root.resolve()):
            return {}
        if path.stat().st_size > _MAX_BYTES or not path.is_file():
            return {}
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (OSError, RuntimeError):
        return {}


def _upwards(folder: Path, root: Path) -> Iterator[Path]:
    """The folder and those above it, within the repository."""
    top = root.resolve()
    current = folder.resolve()
    while current.is_relative_to(top):
        yield current
        if current == top:
            return
        current = current.parent


def _of_lock(
    lock: Path, member: tuple[str, ...], uv: Uv, python: Path, indexes: tuple[str, ...]
) -> Exported:
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
    return Exported(source=lock, folder=top, text="".join(f"{one}\n" for one in indexes) + text)


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
