"""CircleCI's own reading of an orb and of a configuration, as far as ours uses it.

`circleci orb pack` makes one document of a folder: `@orb.yml` is the top, the file
`jobs/plan.yml` becomes `jobs: {plan: ...}` (CircleCI's documentation, "Orb authoring process").
Expansion replaces `<< parameters.name >>`, puts a command's steps in the place of its name and
drops `when:` steps whose condition is empty ("Reusable config reference").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDERS = ("commands", "executors", "jobs", "examples")
_PARAMETER = re.compile(r"<<\s*parameters\.([a-z0-9-]+)\s*>>")


def packed(source: Path) -> dict[str, Any]:
    """The orb as one document; raises ValueError for a file that would be left out."""
    document: dict[str, Any] = yaml.safe_load((source / "@orb.yml").read_text())
    for path in sorted(source.rglob("*")):
        if path.is_dir() or path.name == "@orb.yml":
            continue
        folder, *rest = path.relative_to(source).parts
        if folder not in FOLDERS or len(rest) != 1 or path.suffix != ".yml":
            raise ValueError(f"{path.name} is not packed")
        document.setdefault(folder, {})[path.stem] = yaml.safe_load(path.read_text())
    return document


def steps(orb: Mapping[str, Any], job: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The built-in steps of a job with these parameters: (name, settings) in order."""
    declared = orb["jobs"][job]
    values = _values(declared, given, f"job {job}")
    yield from _expanded(orb, declared["steps"], values)


def environment(orb: Mapping[str, Any], job: str, given: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a job sets."""
    declared = orb["jobs"][job]
    filled = _filled(declared.get("environment", {}), _values(declared, given, f"job {job}"))
    return {name: str(value) for name, value in filled.items()}


def _expanded(
    orb: Mapping[str, Any], listed: list[Any], values: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    for step in listed:
        name, settings = (step, {}) if isinstance(step, str) else next(iter(step.items()))
        filled = _filled(settings, values)
        if name == "when":
            if filled["condition"]:
                yield from _expanded(orb, settings["steps"], values)
        elif name in orb["commands"]:
            command = orb["commands"][name]
            inner = _values(command, filled, f"command {name}")
            yield from _expanded(orb, command["steps"], inner)
        else:
            yield name, filled


def _values(declared: Mapping[str, Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    known = declared.get("parameters", {})
    unknown = given.keys() - known.keys()
    missing = {name for name, one in known.items() if "default" not in one} - given.keys()
    assert not unknown, f"{what} has no {unknown}"
    assert not missing, f"{what} needs {missing}"
    return {name: given.get(name, one.get("default")) for name, one in known.items()}


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, values) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if not isinstance(value, str):
        return value
    whole = _PARAMETER.fullmatch(value)
    if whole:
        return values[whole[1]]
    return _PARAMETER.sub(lambda match: str(values[match[1]]), value)
