"""What two releases of Chalice make of one app: their SAM templates, compared. Pure.

A change that many resources share is told once with all of them. Values of environment variables
are never told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from chalice_ci.report.report import TemplateChange

MAX_VALUE = 300
MAX_CHANGES = 200
_LEFT_OUT = frozenset({"Sid", "CodeUri", "ContentUri", "aws-chalice"})
"""What is random, where the package lies, and the tag that only names the release."""
_SECRET = ("Environment", "Variables")
_IDENTITY = ("Handler", "LayerName", "RoleName", "Name", "StageName", "PathPart", "FunctionName")


def template_changes(
    before: Mapping[str, object], after: Mapping[str, object]
) -> tuple[TemplateChange, ...]:
    """The differences between two templates: renamed, new and lost resources, then settings.

    Logical names decide which resources are the same; a name that is gone and one of the same type
    that is new are one resource when what identifies it is equal.
    """
    old, new = _resources(before), _resources(after)
    renamed = dict(_renamed(old, new))
    changes = [
        TemplateChange(kind="renamed", resources=(name,), before=name, after=to)
        for name, to in renamed.items()
    ]
    for kind, names, of in (
        ("removed", sorted(set(old) - set(new) - set(renamed)), old),
        ("added", sorted(set(new) - set(old) - set(renamed.values())), new),
    ):
        by_type: dict[str, list[str]] = {}
        for name in names:
            by_type.setdefault(str(of[name].get("Type")), []).append(name)
        for type_, same in sorted(by_type.items()):
            changes.append(TemplateChange(kind=kind, resources=tuple(same), path=type_))
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for name in sorted(old):
        to = renamed.get(name, name)
        if to in new:
            for difference in _differences(old[name], new[to]):
                grouped.setdefault(difference, []).append(to)
    for section in ("Outputs", "Parameters", "Globals", "Conditions"):
        for path, was, became in _differences(before.get(section), after.get(section)):
            grouped.setdefault((f"{section}.{path}".rstrip("."), was, became), [])
    changes += [
        TemplateChange(kind="changed", resources=tuple(names), path=path, before=was, after=became)
        for (path, was, became), names in sorted(grouped.items())
    ]
    return tuple(changes[:MAX_CHANGES])


def _resources(template: Mapping[str, object]) -> Mapping[str, Mapping[str, object]]:
    resources = template.get("Resources")
    if not isinstance(resources, Mapping):
        return {}
    return {str(name): one for name, one in resources.items() if isinstance(one, Mapping)}


def _renamed(
    old: Mapping[str, Mapping[str, object]], new: Mapping[str, Mapping[str, object]]
) -> Iterator[tuple[str, str]]:
    free = {name: _identity(new[name]) for name in sorted(set(new) - set(old))}
    for name in sorted(set(old) - set(new)):
        identity = _identity(old[name])
        same = [other for other, its in free.items() if its == identity]
        # Only where there is no doubt.
        if len(same) == 1 and [_identity(old[n]) for n in set(old) - set(new)].count(identity) == 1:
            del free[same[0]]
            yield name, same[0]


def _identity(resource: Mapping[str, object]) -> str:
    properties = resource.get("Properties")
    given = properties if isinstance(properties, Mapping) else {}
    return _text([resource.get("Type"), [given.get(name) for name in _IDENTITY]])


def _differences(before: object, after: object) -> Iterator[tuple[str, str, str]]:
    """Each place that differs, as (path, before, after); "" is what is not there."""
    waiting: list[tuple[tuple[str, ...], object, object]] = [((), before, after)]
    while waiting:
        path, was, became = waiting.pop()
        if was == became or (path and path[-1] in _LEFT_OUT):
            continue
        if isinstance(was, Mapping) and isinstance(became, Mapping):
            for key in sorted({*was, *became}, key=str, reverse=True):
                waiting.append(((*path, str(key)), was.get(key), became.get(key)))
        elif _aligned(was, became):
            assert isinstance(was, list)
            assert isinstance(became, list)
            for index in range(len(was) - 1, -1, -1):
                waiting.append(((*path, str(index)), was[index], became[index]))
        else:
            hidden = _SECRET[1] in path or (_SECRET[0] in path and isinstance(was or became, dict))
            yield ".".join(path), _shown(was, hidden=hidden), _shown(became, hidden=hidden)


def _aligned(was: object, became: object) -> bool:
    """Lists of objects whose entries can be compared one by one."""
    return (
        isinstance(was, list)
        and isinstance(became, list)
        and len(was) == len(became)
        and all(isinstance(one, Mapping) for one in (*was, *became))
    )


def _shown(value: object, *, hidden: bool) -> str:
    if value is None:
        return ""
    text = "…" if hidden else _text(value)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
