"""The Chalice apps of a repository that does not list them, in an order that never changes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.findings import Place
from chalice_ci.json_source import read_json
from chalice_ci.positions import MapNode, Problem, ScalarNode, decode, read_bytes

CONFIG_JSON = ".chalice/config.json"
MAX_CONFIG_JSON = 512 * 1024
MAX_DEPTH = 10
MAX_FOLDERS = 20_000
MAX_APPS = 200

_SKIPPED = frozenset(
    {
        "__pycache__",
        "bower_components",
        "env",
        "node_modules",
        "site-packages",
        "vendor",
        "venv",
        "virtualenv",
    }
)
"""Folders that hold other people's code; so do dot folders and those with a pyvenv.cfg."""


@dataclass(frozen=True, kw_only=True)
class FoundApp:
    """A folder that is a Chalice app: its name here and its POSIX path in the repository."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Glimpse:
    """What config.json says about names, without any verdict. None: not there, or not readable."""

    app_name: str | None = None
    stages: tuple[str, ...] | None = None


def glimpse(app_dir: Path, root: Path) -> Glimpse:
    """The names in an app's config.json, as far as they can be read."""
    place = Place(file=CONFIG_JSON)
    try:
        raw = read_bytes(app_dir / CONFIG_JSON, beneath=root, limit=MAX_CONFIG_JSON, place=place)
    except FileNotFoundError:
        return Glimpse()
    text = raw if isinstance(raw, Problem) else decode(raw, CONFIG_JSON)
    if isinstance(text, Problem):
        return Glimpse()
    node, _ = read_json(text, CONFIG_JSON)
    if not isinstance(node, MapNode):
        return Glimpse()
    name, stages = node.entry("app_name"), node.entry("stages")
    return Glimpse(
        app_name=name.value.value
        if name is not None
        and isinstance(name.value, ScalarNode)
        and isinstance(name.value.value, str)
        else None,
        stages=tuple(entry.key for entry in stages.value.entries)
        if stages is not None and isinstance(stages.value, MapNode)
        else None,
    )


def looks_like_app(folder: Path) -> bool:
    """A config.json, or an app.py beside recorded state (then config.json was not committed)."""
    if (folder / CONFIG_JSON).is_file():
        return True
    return (folder / "app.py").is_file() and has_state(folder)


def has_state(folder: Path) -> bool:
    """Chalice deployed from here: its own state files are there."""
    chalice = folder / ".chalice"
    return (chalice / "deployed.json").is_file() or (chalice / "deployed").is_dir()


def find_apps(root: Path) -> tuple[FoundApp, ...] | Problem:
    """One app at the root, else every folder that is one, else a bare app.py at the root.

    The name of an app is its folder's (with the parents' where two are alike); at the root, where
    the folder is called as the checkout pleases, it is config.json's `app_name`.
    """
    if looks_like_app(root):
        return (_root_app(root),)
    found: list[str] = []
    for count, (folder, path) in enumerate(_folders(root)):
        if count >= MAX_FOLDERS:
            return Problem(
                what=f"there are more than {MAX_FOLDERS} folders to look for Chalice apps in.",
                at=Place(file="."),
                fix="List the apps in chalice-ci.yml: `apps: {orders: {path: services/orders}}`.",
            )
        if looks_like_app(folder):
            found.append(path)
    if len(found) > MAX_APPS:
        return Problem(
            what=f"there are more than {MAX_APPS} folders with {CONFIG_JSON}.",
            at=Place(file="."),
            fix="List the apps in chalice-ci.yml: `apps: {orders: {path: services/orders}}`.",
        )
    if found:
        return tuple(
            FoundApp(name=name, path=path) for name, path in zip(_names(found), found, strict=True)
        )
    return (_root_app(root),) if (root / "app.py").is_file() else ()


def _root_app(root: Path) -> FoundApp:
    name = glimpse(root, root).app_name or root.resolve().name
    return FoundApp(name=_as_name(name), path=".")


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    """The folders beneath the root, level by level in the order of their names.

    Links are not followed; what is beneath an app belongs to it.
    """
    level = [(root, "")]
    for _ in range(MAX_DEPTH):
        deeper: list[tuple[Path, str]] = []
        for folder, path in level:
            for name in _subfolders(folder):
                child = (folder / name, f"{path}/{name}" if path else name)
                yield child
                if not looks_like_app(child[0]):
                    deeper.append(child)
        level = deeper


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(
        name
        for name in names
        if not name.startswith(".")
        and name not in _SKIPPED
        and not (folder / name / "pyvenv.cfg").exists()
    )


def _names(paths: list[str]) -> list[str]:
    """The last part of each path, with as many parents as it takes to tell them apart."""
    for parts in range(1, MAX_DEPTH + 1):
        names = [_as_name("-".join(path.split("/")[-parts:])) for path in paths]
        if len({name.casefold() for name in names}) == len(names):
            return names
    return [f"{_as_name(path)[:50]}-{number}" for number, path in enumerate(paths, 1)]


def _as_name(text: str) -> str:
    """The text as a name that is allowed in chalice-ci.yml."""
    ascii_only = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")
    return ascii_only[:64].rstrip("-_") or "app"
