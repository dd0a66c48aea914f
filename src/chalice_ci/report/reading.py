"""`report.json` read back: how a job that holds the token tells what others found. Pure.

The file may come from a run of foreign code - a fork's pull request uploads what it likes as an
artifact - so it is read as hostile: bounded, only keys and values of
`schemas/report.schema.json`, and everything that follows from other parts (verdicts, counts,
digests) is computed anew instead of believed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import NoReturn, TypeVar

from chalice_ci.difference.changes import (
    Area,
    Baseline,
    BaselineKind,
    Change,
    Changes,
    DependencyChange,
    Detail,
    FileChange,
    Growth,
    Kind,
    PackageChanges,
    Risk,
    Risky,
)
from chalice_ci.difference.diagram import Diagram, Edge, Node, Shape
from chalice_ci.errors import ExitCode
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.report.document import VERSION
from chalice_ci.report.report import (
    URL,
    Archive,
    Dependency,
    Effect,
    Failure,
    Intent,
    Isolation,
    Need,
    Operation,
    Outcome,
    Package,
    Plan,
    RecordedState,
    Report,
    Resource,
    Result,
    Smoke,
    TemplateChange,
    Timing,
    Upgrade,
    UpgradeNote,
)

MAX_BYTES = 32 * 1024 * 1024
MAX_TEXT = 1024 * 1024

_RULE = re.compile("[a-z0-9]+(?:-[a-z0-9]+)*")

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)


class ReportDamaged(Exception):
    """A document is no report: the message goes on after the file's name."""


def read_report(raw: bytes) -> Report:
    """The report that `document.render` wrote. Raises ReportDamaged for anything else."""
    if len(raw) > MAX_BYTES:
        _damaged(f"is larger than {MAX_BYTES} bytes")
    try:
        loaded = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        _damaged("is not JSON")
    return _report(_Object(loaded, "the document"))


class _Object:
    """An object whose keys are taken one by one; what is left over or missing is damage."""

    def __init__(self, value: object, at: str) -> None:
        if not isinstance(value, dict):
            _damaged(f"has no object at {at}")
        self._left: dict[str, object] = dict(value)
        self.at = at

    def take(self, key: str) -> object:
        if key not in self._left:
            _damaged(f"has no `{key}` at {self.at}")
        return self._left.pop(key)

    def path(self, key: str) -> str:
        return f"{self.at}.{key}"

    def close(self) -> None:
        for key in self._left:
            _damaged(f"has the unknown key {key[:40]!a} at {self.at}")

    def text(self, key: str) -> str:
        return _text(self.take(key), self.path(key))

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(_text(item, at) for item, at in self.items(key))

    def flag(self, key: str) -> bool:
        return _truth(self.take(key), self.path(key))

    def count(self, key: str) -> int:
        return _natural(self.take(key), self.path(key))

    def member(self, key: str, kind: type[_E]) -> _E:
        value = self.text(key)
        try:
            return kind(value)
        except ValueError:
            _damaged(f"has {value[:40]!a} at {self.path(key)}")

    def items(self, key: str) -> Iterator[tuple[object, str]]:
        value = self.take(key)
        if not isinstance(value, list):
            _damaged(f"has no list at {self.path(key)}")
        for number, item in enumerate(value):
            yield item, f"{self.path(key)}[{number}]"

    def objects(self, key: str, read: Callable[[_Object], _T]) -> tuple[_T, ...]:
        return tuple(_closed(item, at, read) for item, at in self.items(key))

    def one(self, key: str, read: Callable[[_Object], _T]) -> _T:
        return _closed(self.take(key), self.path(key), read)

    def maybe(self, key: str, read: Callable[[_Object], _T]) -> _T | None:
        value = self.take(key)
        return None if value is None else _closed(value, self.path(key), read)

    def maybe_of(self, key: str, read: Callable[[object, str], _T]) -> _T | None:
        value = self.take(key)
        return None if value is None else read(value, self.path(key))

    def derived(self, *keys: str) -> None:
        """Leave out what follows from the rest."""
        for key in keys:
            self.take(key)


def _closed(value: object, at: str, read: Callable[[_Object], _T]) -> _T:
    node = _Object(value, at)
    made = read(node)
    node.close()
    return made


def _text(value: object, at: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        _damaged(f"has something else than text at {at}")
    return value


def _whole(value: object, at: str) -> int:
    if type(value) is not int:
        _damaged(f"has something else than a whole number at {at}")
    return value


def _natural(value: object, at: str) -> int:
    found = _whole(value, at)
    if found < 0:
        _damaged(f"has a number below zero at {at}")
    return found


def _seconds(value: object, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _damaged(f"has something else than a number at {at}")
    if value < 0:
        _damaged(f"has a number below zero at {at}")
    return value


def _truth(value: object, at: str) -> bool:
    if not isinstance(value, bool):
        _damaged(f"has something else than true or false at {at}")
    return value


def _report(node: _Object) -> Report:
    if _whole(node.take("version"), "the version") != VERSION:
        _damaged(f"is not of version {VERSION}")
    tool = node.one("tool", _tool)
    node.derived("verdict", "exit_code", "failure_reason", "counts")
    made = Report(
        verb=node.text("verb"),
        commit=node.text("commit"),
        started=node.text("started"),
        seconds=node.maybe_of("seconds", _seconds),
        failure=node.maybe("failure", _failure),
        notes=node.texts("notes"),
        findings=node.objects("findings", _finding),
        results=node.objects("results", _result),
        tool=tool,
    )
    node.close()
    return made


def _tool(node: _Object) -> str:
    if node.text("name") != "chalice-ci":
        _damaged("was written by another tool")
    return node.text("version")


def _result(node: _Object) -> Result:
    # `skipped` is what is left of the verdict when nothing else explains it.
    verdict = node.text("verdict")
    node.derived("changes")
    return Result(
        app=node.text("app"),
        stage=node.text("stage"),
        path=node.text("path"),
        preview=node.flag("preview"),
        intent=node.member("intent", Intent),
        skipped=verdict == "skipped",
        note=node.text("note"),
        next_step=node.text("next_step"),
        needs=node.objects(
            "needs", lambda n: Need(text=n.text("text"), met=n.flag("met"), asks=n.flag("asks"))
        ),
        account=node.text("account"),
        region=node.text("region"),
        chalice=node.text("chalice"),
        python=node.text("python"),
        features=node.texts("features"),
        routes=node.maybe_of("routes", _natural),
        functions=node.maybe_of("functions", _natural),
        failure=node.maybe("failure", _failure),
        findings=node.objects("findings", _finding),
        isolation=node.maybe(
            "isolation",
            lambda n: Isolation(level=n.text("level"), reasons=n.texts("reasons")),
        ),
        package=node.maybe("package", _package),
        plan=node.maybe(
            "plan",
            lambda n: Plan(digest=n.text("digest"), path=n.text("path"), expires=n.text("expires")),
        ),
        changes=node.maybe("difference", _changes),
        diagram=node.maybe("graph", _diagram),
        upgrade=node.maybe("upgrade", _upgrade),
        operations=node.objects("operations", _operation),
        changed=node.maybe_of("changed", _truth),
        resources=node.objects(
            "resources",
            lambda n: Resource(
                type=n.text("type"), name=n.text("name"), identity=n.text("identity")
            ),
        ),
        urls=node.objects("urls", lambda n: URL(kind=n.text("kind"), address=n.text("address"))),
        smoke=node.objects("smoke", _smoke),
        state=node.maybe("state", _state),
        timings=node.objects(
            "timings",
            lambda n: Timing(
                step=n.text("step"), seconds=_seconds(n.take("seconds"), n.path("seconds"))
            ),
        ),
    )


def _smoke(node: _Object) -> Smoke:
    return Smoke(
        path=node.text("path"),
        passed=node.flag("passed"),
        status=node.maybe_of("status", _whole),
        message=node.text("message"),
    )


def _state(node: _Object) -> RecordedState:
    return RecordedState(
        store=node.text("store"),
        file=node.text("file"),
        commit=node.text("commit"),
        version=node.text("version"),
        changed=node.flag("changed"),
    )


def _place(node: _Object) -> Place:
    return Place(
        file=node.text("file"),
        line=node.maybe_of("line", _whole),
        column=node.maybe_of("column", _whole),
    )


def _finding(node: _Object) -> Finding:
    rule = node.text("rule")
    if not _RULE.fullmatch(rule):
        _damaged(f"has {rule[:40]!a} at {node.path('rule')}")
    return Finding(
        rule=rule,
        severity=node.member("severity", Severity),
        subject=node.text("subject"),
        app=node.text("app"),
        stage=node.text("stage"),
        at=node.maybe("at", _place),
        what=node.text("what"),
        fix=node.text("fix"),
        detail=node.text("detail"),
        link=node.text("link"),
    )


def _failure(node: _Object) -> Failure:
    node.derived("reason")
    code = _whole(node.take("exit_code"), node.path("exit_code"))
    try:
        exit_code = ExitCode(code)
    except ValueError:
        _damaged(f"has the unknown exit code {code} at {node.at}")
    return Failure(
        exit_code=exit_code,
        where=node.text("where"),
        what=node.text("what"),
        fix=node.text("fix"),
    )


def _package(node: _Object) -> Package:
    node.derived("digest", "size")
    return Package(
        python=node.text("python"),
        architecture=node.text("architecture"),
        archives=node.objects("archives", _archive),
        dependencies=node.objects("dependencies", _dependency),
    )


def _archive(node: _Object) -> Archive:
    return Archive(
        slot=node.text("slot"),
        sha256=node.text("sha256"),
        size=node.count("size"),
        unpacked_size=node.maybe_of("unpacked_size", _natural),
        entries=node.maybe_of("entries", _natural),
        path=node.text("path"),
    )


def _dependency(node: _Object) -> Dependency:
    return Dependency(
        name=node.text("name"),
        version=node.text("version"),
        direct=node.flag("direct"),
        size=node.maybe_of("size", _natural),
    )


def _operation(node: _Object) -> Operation:
    return Operation(
        method=node.text("method"),
        resource=node.text("resource"),
        resource_type=node.text("resource_type"),
        effect=node.member("effect", Effect),
        outcome=node.member("outcome", Outcome),
        message=node.text("message"),
        seconds=node.maybe_of("seconds", _seconds),
    )


def _upgrade(node: _Object) -> Upgrade:
    return Upgrade(
        before=node.text("before"),
        after=node.text("after"),
        downgrade=node.flag("downgrade"),
        unknown=node.text("unknown"),
        notes=node.objects("notes", _note),
        template=node.objects("template", _template_change),
        template_problem=node.text("template_problem"),
    )


def _note(node: _Object) -> UpgradeNote:
    return UpgradeNote(
        version=node.text("version"),
        topic=node.text("topic"),
        impact=node.text("impact"),
        what=node.text("what"),
        why=node.text("why"),
        link=node.text("link"),
        anchor=node.text("section"),
        at=node.objects("at", _place),
    )


def _template_change(node: _Object) -> TemplateChange:
    return TemplateChange(
        kind=node.text("kind"),
        path=node.text("path"),
        resources=node.texts("resources"),
        before=node.text("before"),
        after=node.text("after"),
    )


# -- the difference --------------------------------------------------------------------------------


def _changes(node: _Object) -> Changes:
    node.derived("empty", "destructive", "counts")
    return Changes(
        baseline=node.one("baseline", _baseline),
        items=node.objects("items", _change),
        package=node.maybe("package", _package_changes),
    )


def _baseline(node: _Object) -> Baseline:
    return Baseline(
        kind=node.member("kind", BaselineKind),
        commit=node.text("commit"),
        problem=node.text("problem"),
        fix=node.text("fix"),
    )


def _change(node: _Object) -> Change:
    return Change(
        area=node.member("area", Area),
        kind=node.member("kind", Kind),
        subject=node.text("subject"),
        function=node.text("function"),
        details=node.objects(
            "details",
            lambda n: Detail(
                name=n.text("name"),
                before=n.maybe_of("before", _text),
                after=n.maybe_of("after", _text),
            ),
        ),
        risks=node.objects(
            "risks", lambda n: Risky(risk=n.member("risk", Risk), why=n.text("why"))
        ),
    )


def _sizes(node: _Object) -> tuple[int, int]:
    return node.count("before"), node.count("after")


def _versions(node: _Object) -> tuple[str, str]:
    return node.text("before"), node.text("after")


def _package_changes(node: _Object) -> PackageChanges:
    size, unpacked = node.one("size", _sizes), node.one("unpacked_size", _sizes)
    counts, listed = node.one("files", _files)
    return PackageChanges(
        size_before=size[0],
        size_after=size[1],
        unpacked_before=unpacked[0],
        unpacked_after=unpacked[1],
        dependencies=node.objects("dependencies", _dependency_change),
        files=listed,
        files_added=counts["added"],
        files_changed=counts["changed"],
        files_removed=counts["removed"],
        own_files=counts["own"],
        growth=node.objects("growth", _growth),
    )


def _files(node: _Object) -> tuple[Mapping[str, int], tuple[FileChange, ...]]:
    counts = {name: node.count(name) for name in ("added", "changed", "removed", "own")}
    return counts, node.objects("listed", _file_change)


def _file_change(node: _Object) -> FileChange:
    before, after = node.one("size", _sizes)
    return FileChange(
        path=node.text("path"),
        slot=node.text("slot"),
        kind=node.member("kind", Kind),
        # Only the project's own files are listed.
        dependency="",
        size_before=before,
        size_after=after,
    )


def _dependency_change(node: _Object) -> DependencyChange:
    version = node.one("version", _versions)
    size, packed = node.one("size", _sizes), node.one("packed", _sizes)
    return DependencyChange(
        name=node.text("name"),
        kind=node.member("kind", Kind),
        direct=node.flag("direct"),
        before=version[0],
        after=version[1],
        size_before=size[0],
        size_after=size[1],
        packed_before=packed[0],
        packed_after=packed[1],
    )


def _growth(node: _Object) -> Growth:
    before, after = node.one("size", _sizes)
    return Growth(kind=node.text("kind"), name=node.text("name"), before=before, after=after)


def _diagram(node: _Object) -> Diagram:
    return Diagram(
        nodes=node.objects("nodes", _graph_node),
        edges=node.objects(
            "edges", lambda n: Edge(source=n.text("source"), target=n.text("target"))
        ),
        left_out=node.count("left_out"),
    )


def _graph_node(node: _Object) -> Node:
    state = node.maybe_of("state", _text)
    try:
        kind = None if state is None else Kind(state)
    except ValueError:
        _damaged(f"has {str(state)[:40]!a} at {node.path('state')}")
    return Node(
        id=node.text("id"), shape=node.member("shape", Shape), label=node.text("label"), state=kind
    )


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        _damaged("has a key twice")
    return made


def _damaged(what: str) -> NoReturn:
    raise ReportDamaged(what)
