"""What changed in what runs: functions, triggers, layers, features, the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chalice_ci.difference.changes import Area, Change, Detail, Kind, Risk, Risky
from chalice_ci.difference.delta import Delta
from chalice_ci.difference.details import Setting, differing, told
from chalice_ci.difference.permissions import function_role
from chalice_ci.snapshot import Function, Snapshot, Trigger, Variable


def function_changes(delta: Delta, was: Snapshot, now: Snapshot) -> Iterator[Change]:
    """Functions; one that is gone is destructive, whatever takes its place."""
    # Digests of values say something only when both sides were made with the same key.
    comparable = was.variables_key == now.variables_key != ""
    section = delta.section("functions")
    renamed = _renamed(section.removed, section.added)
    for function in section.added:
        yield Change(
            area=Area.FUNCTION,
            kind=Kind.ADDED,
            subject=function.name,
            function=function.name,
            details=tuple(differing(_created(function))),
            risks=function_role(function, None, was, now) if was.functions else (),
        )
    for function in section.removed:
        yield Change(
            area=Area.FUNCTION,
            kind=Kind.REMOVED,
            subject=function.name,
            function=function.name,
            risks=(Risky(risk=Risk.DESTRUCTIVE, why=_lost(function, renamed)),),
        )
    shared = _told_once(delta)
    for before, after in section.changed:
        details = (
            *differing(setting for setting in _settings(before, after) if setting not in shared),
            *_variables(before, after, comparable=comparable),
        )
        if not details:
            continue
        risks = function_role(after, before, was, now)
        if before.function_name != after.function_name:
            why = f"The function {before.function_name} is replaced by {after.function_name}."
            risks = (Risky(risk=Risk.DESTRUCTIVE, why=why), *risks)
        yield Change(
            area=Area.FUNCTION,
            kind=Kind.CHANGED,
            subject=after.name,
            function=after.name,
            details=details,
            risks=risks,
        )


def _renamed(removed: tuple[Function, ...], added: tuple[Function, ...]) -> Mapping[str, str]:
    """Functions that are gone, with the new one that runs the same handler."""
    by_handler = {function.handler: function.name for function in added}
    return {old.name: by_handler[old.handler] for old in removed if old.handler in by_handler}


def _lost(function: Function, renamed: Mapping[str, str]) -> str:
    lost = f"The function {function.function_name} is deleted"
    if function.name in renamed:
        return f"{lost}: `{renamed[function.name]}` runs its handler now, under another ARN."
    return f"{lost}; whoever calls its ARN gets an error."


def _told_once(delta: Delta) -> frozenset[Setting]:
    """Settings of every function that are told for the stage."""
    python = delta.facts.get("python")
    architecture = delta.facts.get("architecture")
    found: set[Setting] = set()
    if python:
        found.add(("runtime", f"python{python[0]}", f"python{python[1]}"))
    if architecture:
        found.add(("architecture", *architecture))
    return frozenset(found)


def _created(function: Function) -> Iterator[Setting]:
    """What is worth knowing of a new function."""
    yield "handler", None, function.handler
    yield "memory", None, _unit(function.memory, "MB")
    yield "timeout", None, _unit(function.timeout, "s")
    yield "role", None, function.role
    yield "subnets", None, function.subnets
    yield "environment", None, tuple(variable.name for variable in function.variables)


def _settings(before: Function, after: Function) -> Iterator[Setting]:
    yield "name", before.function_name, after.function_name
    yield "handler", before.handler, after.handler
    yield "runtime", before.runtime, after.runtime
    yield "architecture", before.architecture, after.architecture
    yield "memory", _unit(before.memory, "MB"), _unit(after.memory, "MB")
    yield "timeout", _unit(before.timeout, "s"), _unit(after.timeout, "s")
    yield "role", before.role, after.role
    yield "reserved concurrency", before.reserved_concurrency, after.reserved_concurrency
    yield "X-Ray", before.xray, after.xray
    yield "log retention", _unit(before.log_retention, "d"), _unit(after.log_retention, "d")
    yield "managed layer", before.managed_layer, after.managed_layer
    yield "layers", before.layers, after.layers
    yield "subnets", before.subnets, after.subnets
    yield "security groups", before.security_groups, after.security_groups
    yield "tags", before.tags, after.tags


def _unit(value: int | None, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


def _variables(before: Function, after: Function, *, comparable: bool) -> Iterator[Detail]:
    """Environment variables by name; never what they hold."""
    had = {variable.name: variable for variable in before.variables}
    has = {variable.name: variable for variable in after.variables}
    for name in sorted({*had, *has}):
        label = f"environment variable {name}"
        if name not in had:
            yield Detail(name=label, after="set")
        elif name not in has:
            yield Detail(name=label, before="set")
        elif had[name].secret != has[name].secret:
            yield Detail(name=label, before=_origin(had[name]), after=_origin(has[name]))
        elif _has_changed(had[name], has[name], comparable=comparable):
            yield Detail(name=label)


def _origin(variable: Variable) -> str:
    return f"secret {variable.secret}" if variable.secret else "config.json"


def _has_changed(before: Variable, after: Variable, *, comparable: bool) -> bool:
    """Whether a value is known to be another one; without keys of their own nobody knows."""
    if before.secret:
        keys = {variable.digest.partition(":")[0] for variable in (before, after)}
        comparable = len(keys) == 1 and "" not in keys
    return comparable and before.digest != after.digest


def trigger_changes(delta: Delta) -> Iterator[Change]:
    """What starts functions, apart from the APIs."""
    section = delta.section("triggers")
    for kind, items in ((Kind.ADDED, section.added), (Kind.REMOVED, section.removed)):
        for trigger in items:
            added = kind is Kind.ADDED
            source = told(trigger.source)
            yield Change(
                area=Area.TRIGGER,
                kind=kind,
                subject=_subject(trigger),
                function=trigger.function,
                details=(
                    Detail(
                        name="source",
                        before=None if added else source,
                        after=source if added else None,
                    ),
                    *differing((n, None, v) for n, v in (trigger.settings if added else ())),
                ),
            )
    for before, after in section.changed:
        had, has = dict(before.settings), dict(after.settings)
        names = sorted({*had, *has})
        yield Change(
            area=Area.TRIGGER,
            kind=Kind.CHANGED,
            subject=_subject(after),
            function=after.function,
            details=tuple(
                differing(
                    (
                        ("source", before.source, after.source),
                        ("function", before.function, after.function),
                        *((name, had.get(name), has.get(name)) for name in names),
                    )
                )
            ),
        )


def _subject(trigger: Trigger) -> str:
    return f"{trigger.kind} {trigger.name}"


def layer_changes(delta: Delta) -> Iterator[Change]:
    """The managed layer; its content is told with the package."""
    section = delta.section("layers")
    for kind, items in ((Kind.ADDED, section.added), (Kind.REMOVED, section.removed)):
        for layer in items:
            yield Change(area=Area.LAYER, kind=kind, subject=layer.layer_name)
    shared = _told_once(delta)
    for before, after in section.changed:
        settings = (
            ("name", before.layer_name, after.layer_name),
            ("runtime", before.runtime, after.runtime),
            ("architecture", before.architecture, after.architecture),
        )
        details = tuple(differing(setting for setting in settings if setting not in shared))
        if details:
            yield Change(
                area=Area.LAYER, kind=Kind.CHANGED, subject=after.layer_name, details=details
            )


_RUNTIME = {"chalice": "Chalice", "python": "Python", "architecture": "Architecture"}


def stage_changes(delta: Delta, before: Snapshot, after: Snapshot) -> Iterator[Change]:
    """What all functions share: the app's name, Chalice, Python; and experimental features."""
    for name, label in _RUNTIME.items():
        if name in delta.facts:
            old, new = delta.facts[name]
            yield Change(
                area=Area.RUNTIME,
                kind=Kind.CHANGED,
                subject=label,
                details=(Detail(name="version", before=old, after=new),),
            )
    for name in ("app_name", "stage"):
        if name in delta.facts:
            old, new = delta.facts[name]
            why = "Names in AWS begin with it: every resource is made anew under another name."
            yield Change(
                area=Area.RUNTIME,
                kind=Kind.CHANGED,
                subject=name,
                details=(Detail(name="name", before=old, after=new),),
                risks=(Risky(risk=Risk.DESTRUCTIVE, why=why),),
            )
    for feature in sorted(set(after.features) - set(before.features)):
        yield Change(area=Area.FEATURE, kind=Kind.ADDED, subject=feature)
    for feature in sorted(set(before.features) - set(after.features)):
        yield Change(area=Area.FEATURE, kind=Kind.REMOVED, subject=feature)
