"""What to say when an app has no `.chalice/config.json`.

Seen in one of five public projects: git-ignored, or written by a template before a deployment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from chalice_ci import rules
from chalice_ci.config import NAME_PATTERN
from chalice_ci.discovery import CONFIG_JSON, has_state
from chalice_ci.findings import Finding, Place
from chalice_ci.json_source import read_json
from chalice_ci.positions import MapNode, Node, Problem, ScalarNode, decode, read_bytes

_MAX_STATE = 4 * 1024 * 1024
_MAX_APP = 256 * 1024


def explain_missing(app_dir: Path, root: Path, file: str) -> Finding:
    """The finding, with the file to write as far as the recorded state and app.py tell."""
    stages, name = _deployed(app_dir, root)
    name = name or _name_in_source(app_dir, root) or app_dir.resolve().name
    example = json.dumps(
        {"version": "2.0", "app_name": name, "stages": {stage: {} for stage in stages or ("dev",)}},
        indent=2,
        ensure_ascii=False,
    )
    if has_state(app_dir):
        told = f" (the state of {', '.join(stages)} is there)" if stages else ""
        what = (
            f"There is no {CONFIG_JSON}, although Chalice has deployed from this folder{told}: "
            "it was not committed, or something writes it before a deployment."
        )
        detail = (
            "Commit the file that was used for those deployments if there still is one: its "
            "app_name and stages make the names of the deployed resources."
        )
    elif (app_dir / "app.py").is_file():
        what = f"There is no {CONFIG_JSON} beside app.py."
        detail = "`chalice new-project` writes it; perhaps .gitignore names it."
    else:
        what = f"There is neither app.py nor {CONFIG_JSON}: this is not a Chalice app."
        return rules.finding(
            "config-json-missing",
            what=what,
            fix="Correct the app's path, or run the build step that copies the app here first.",
            at=Place(file=file),
        )
    fix = f"Write {file}:\n{example}\nWithout secrets in it, and commit it."
    return rules.finding(
        "config-json-missing", what=what, fix=fix, detail=detail, at=Place(file=file)
    )


def _deployed(app_dir: Path, root: Path) -> tuple[tuple[str, ...], str | None]:
    """The stages that state files are there for, and the app's name that they agree on."""
    chalice = app_dir / ".chalice"
    named: dict[str, set[str]] = {}
    try:
        files = sorted((chalice / "deployed").glob("*.json"))[:50]
    except OSError:
        files = []
    for path in files:
        tree = _json_tree(path, root)
        named[path.stem] = set(_app_names(tree, path.stem)) if tree else set()
    old = _json_tree(chalice / "deployed.json", root)
    if isinstance(old, MapNode):
        for entry in old.entries[:50]:
            named.setdefault(entry.key, set()).update(_app_names(entry.value, entry.key))
    stages = tuple(sorted(stage for stage in named if re.fullmatch(NAME_PATTERN, stage)))
    names = {name for found in named.values() for name in found}
    return stages, names.pop() if len(names) == 1 else None


def _json_tree(path: Path, root: Path) -> Node | None:
    try:
        raw = read_bytes(path, beneath=root, limit=_MAX_STATE, place=Place(file=path.name))
    except FileNotFoundError:
        return None
    text = raw if isinstance(raw, Problem) else decode(raw, path.name)
    return None if isinstance(text, Problem) else read_json(text, path.name)[0]


def _app_names(node: Node, stage: str) -> Iterator[str]:
    """The app in each recorded `<app>-<stage>`: a role's name or the API handler's."""
    match node:
        case MapNode():
            for entry in node.entries:
                if entry.key in ("role_name", "api_handler_name"):
                    value = entry.value.value if isinstance(entry.value, ScalarNode) else None
                    if isinstance(value, str) and value.endswith(f"-{stage}"):
                        name = value.removesuffix(f"-{stage}")
                        if re.fullmatch(NAME_PATTERN, name):
                            yield name
                elif entry.key == "resources":
                    yield from _app_names(entry.value, stage)
        case ScalarNode():
            return
        case _:
            for item in node.items[:1000]:
                yield from _app_names(item, stage)


def _name_in_source(app_dir: Path, root: Path) -> str | None:
    try:
        raw = read_bytes(
            app_dir / "app.py", beneath=root, limit=_MAX_APP, place=Place(file="app.py")
        )
    except FileNotFoundError:
        return None
    if isinstance(raw, Problem):
        return None
    match = re.search(
        rb"\bChalice\(\s{0,20}(?:app_name\s{0,5}=\s{0,5})?['\"]([A-Za-z0-9_-]{1,64})['\"]", raw
    )
    return match[1].decode("ascii") if match else None
