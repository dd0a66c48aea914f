"""Azure's reading of a template, as far as ours use it: parameters, insertions, other templates.

Source: Microsoft's documentation, "Template parameters", "Template expressions" (`each`, `if`) and
"Expressions" (`upper`, `replace`, `eq`, `ne`). Macros, `$(name)`, are filled in before a step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plugins.vendors import load

_WHOLE = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_EACH = re.compile(r"\$\{\{ each (\w+) in parameters\.(\w+) \}\}")
_IF = re.compile(r"\$\{\{ if (eq|ne)\(parameters\.(\w+), (true|false|'')\) \}\}")
_LITERALS = {"true": True, "false": False, "''": ""}
_CALL = re.compile(r"upper\(replace\((.+), '(.)', '(.)'\)\)")
_MACRO = re.compile(r"\$\(([\w.]+)\)")


def expanded(path: Path, given: Mapping[str, Any], find: Callable[[str], Path]) -> Any:
    """A template with its parameters filled in; `find` gives the file of another template."""
    document = load(path)
    values = {}
    declared = {one["name"]: one for one in document.pop("parameters", [])}
    unknown = given.keys() - declared.keys()
    assert not unknown, f"{path.name} has no parameter {unknown}"
    for name, one in declared.items():
        assert name in given or "default" in one, f"{path.name} needs {name}"
        values[name] = given.get(name, one.get("default"))
        assert "values" not in one or values[name] in one["values"]
    return _filled(document, {"parameters": values}, find)


def macros(text: str, known: Mapping[str, str]) -> str:
    """A text with `$(name)` filled in; what is not known stays as it is."""
    return _MACRO.sub(lambda match: known.get(match[1], match[0]), text)


def _filled(value: Any, scope: Mapping[str, Any], find: Callable[[str], Path]) -> Any:
    match value:
        case dict():
            return _mapping(value, scope, find)
        case list():
            found: list[Any] = []
            for one in value:
                made = _filled(one, scope, find)
                found += made if isinstance(made, list) else [made]
            return found
        case str():
            whole = _WHOLE.fullmatch(value)
            if whole:
                return _expression(whole[1], scope)
            return _WHOLE.sub(lambda match: str(_expression(match[1], scope)), value)
    return value


def _mapping(value: dict[str, Any], scope: Mapping[str, Any], find: Callable[[str], Path]) -> Any:
    if "template" in value:
        given = _filled(value.get("parameters", {}), scope, find)
        (inner,) = expanded(find(value["template"]), given, find).values()
        return inner
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if each := _EACH.fullmatch(key):
            for name, one in scope["parameters"][each[2]].items():
                found |= _filled(inner, {**scope, each[1]: {"key": name, "value": one}}, find)
        elif condition := _IF.fullmatch(key):
            same = scope["parameters"][condition[2]] == _LITERALS[condition[3]]
            kept = same == (condition[1] == "eq")
            if isinstance(inner, list):
                return _filled(inner, scope, find) if kept else []
            found |= _filled(inner, scope, find) if kept else {}
        else:
            found[_filled(key, scope, find)] = _filled(inner, scope, find)
    return found


def _expression(text: str, scope: Mapping[str, Any]) -> Any:
    call = _CALL.fullmatch(text)
    if call:
        return str(_expression(call[1], scope)).replace(call[2], call[3]).upper()
    value: Any = scope
    for part in text.split("."):
        value = value[part]
    return value
