"""`report.json`: the report as a versioned JSON document.

Its JSON Schema is `schemas/report.schema.json`; `VERSION` changes when a reader would break, keys
are only added otherwise. Written as ASCII, so that no text in it can reach a terminal or a log as
anything but text.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from chalice_ci.difference.diagram import Diagram
from chalice_ci.difference.document import to_document as difference_document
from chalice_ci.errors import ExitCode
from chalice_ci.findings import Finding, Place, Severity, in_order
from chalice_ci.report.report import (
    Effect,
    Failure,
    Operation,
    Package,
    Report,
    Result,
    Upgrade,
    exit_code,
    owned,
)

VERSION = 1


def render(report: Report, *, fail_on: Severity = Severity.ERROR) -> str:
    """The text of `report.json`."""
    return dump(to_document(report, fail_on=fail_on))


def dump(document: dict[str, Any]) -> str:
    """JSON that nothing in a log can take for a command."""
    text = json.dumps(document, indent=2, ensure_ascii=True)
    # `##[command]` is recognised anywhere in a line, `::command::` only where a line begins with
    # it, and no line of this does.
    return text.replace("##[", "#\\u0023[") + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    text = (files("chalice_ci") / "schemas" / "report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def to_document(report: Report, *, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
    """The report as plain data: the shape of `schemas/report.schema.json`."""
    code = exit_code(report, fail_on=fail_on)
    found = report.all_findings
    document: dict[str, Any] = clean(
        {
            "version": VERSION,
            "tool": {"name": "chalice-ci", "version": report.tool},
            "verb": report.verb,
            "verdict": report.verdict.value,
            "exit_code": int(code),
            "failure_reason": code.reason,
            "commit": report.commit,
            "started": report.started,
            "seconds": report.seconds,
            "counts": {
                severity.value: sum(1 for finding in found if finding.severity is severity)
                for severity in Severity
            },
            "failure": _failure(report.failure),
            "notes": list(report.notes),
            "findings": [_finding(finding) for finding in in_order(report.findings)],
            "results": [_result(result) for result in report.results],
        }
    )
    return document


def _result(result: Result) -> dict[str, Any]:
    isolation, state, plan = result.isolation, result.state, result.plan
    return {
        "app": result.app,
        "stage": result.stage,
        "path": result.path,
        "preview": result.preview,
        "intent": result.intent.value,
        "verdict": result.verdict.value,
        "note": result.note,
        "next_step": result.next_step,
        "needs": [{"text": n.text, "met": n.met, "asks": n.asks} for n in result.needs],
        "account": result.account,
        "region": result.region,
        "chalice": result.chalice,
        "python": result.python,
        "features": list(result.features),
        "routes": result.routes,
        "functions": result.functions,
        "failure": _failure(result.failure),
        "findings": [_finding(finding) for finding in owned(result)],
        "isolation": None
        if isolation is None
        else {"level": isolation.level, "reasons": list(isolation.reasons)},
        "package": _package(result.package),
        "plan": None
        if plan is None
        else {"digest": plan.digest, "path": plan.path, "expires": plan.expires},
        "difference": None if result.changes is None else difference_document(result.changes),
        "graph": None if result.diagram is None else _graph(result.diagram),
        "upgrade": None if result.upgrade is None else _upgrade(result.upgrade),
        "changes": {effect.value: result.count(effect) for effect in Effect},
        "operations": [_operation(operation) for operation in result.operations],
        "changed": result.changed,
        "resources": [
            {"type": resource.type, "name": resource.name, "identity": resource.identity}
            for resource in result.resources
        ],
        "urls": [{"kind": url.kind, "address": url.address} for url in result.urls],
        "smoke": [
            {
                "path": smoke.path,
                "passed": smoke.passed,
                "status": smoke.status,
                "message": smoke.message,
            }
            for smoke in result.smoke
        ],
        "state": None
        if state is None
        else {
            "store": state.store,
            "file": state.file,
            "commit": state.commit,
            "version": state.version,
            "changed": state.changed,
        },
        "timings": [{"step": t.step, "seconds": t.seconds} for t in result.timings],
    }


def _graph(diagram: Diagram) -> dict[str, Any]:
    return {
        "nodes": [
            {
                "id": node.id,
                "shape": node.shape.value,
                "label": node.label,
                "state": None if node.state is None else node.state.value,
            }
            for node in diagram.nodes
        ],
        "edges": [{"source": edge.source, "target": edge.target} for edge in diagram.edges],
        "left_out": diagram.left_out,
    }


def _upgrade(upgrade: Upgrade) -> dict[str, Any]:
    return {
        "before": upgrade.before,
        "after": upgrade.after,
        "downgrade": upgrade.downgrade,
        "unknown": upgrade.unknown,
        "notes": [
            {
                "version": note.version,
                "topic": note.topic,
                "impact": note.impact,
                "what": note.what,
                "why": note.why,
                "link": note.link,
                "section": note.anchor,
                "at": [_place(at) for at in note.at],
            }
            for note in upgrade.notes
        ],
        "template": [
            {
                "kind": change.kind,
                "path": change.path,
                "resources": list(change.resources),
                "before": change.before,
                "after": change.after,
            }
            for change in upgrade.template
        ],
        "template_problem": upgrade.template_problem,
    }


def _place(at: Place) -> dict[str, Any]:
    return {"file": at.file, "line": at.line, "column": at.column}


def _finding(finding: Finding) -> dict[str, Any]:
    at = finding.at
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "app": finding.app,
        "stage": finding.stage,
        "at": None if at is None else _place(at),
        "what": finding.what,
        "fix": finding.fix,
        "detail": finding.detail,
        "link": finding.link,
    }


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "exit_code": int(failure.exit_code),
        "reason": ExitCode(failure.exit_code).reason,
        "where": failure.where,
        "what": failure.what,
        "fix": failure.fix,
    }


def _package(package: Package | None) -> dict[str, Any] | None:
    if package is None:
        return None
    return {
        "digest": package.digest,
        "size": package.size,
        "python": package.python,
        "architecture": package.architecture,
        "archives": [
            {
                "slot": archive.slot,
                "sha256": archive.sha256,
                "size": archive.size,
                "unpacked_size": archive.unpacked_size,
                "entries": archive.entries,
                "path": archive.path,
            }
            for archive in package.archives
        ],
        "dependencies": [
            {
                "name": dependency.name,
                "version": dependency.version,
                "direct": dependency.direct,
                "size": dependency.size,
            }
            for dependency in package.dependencies
        ],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "method": operation.method,
        "resource": operation.resource,
        "resource_type": operation.resource_type,
        "effect": operation.effect.value,
        "outcome": operation.outcome.value,
        "message": operation.message,
        "seconds": operation.seconds,
    }


def clean(value: Any) -> Any:
    """Replace lone surrogates, which JSON can spell but few readers accept."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {key: clean(inner) for key, inner in value.items()}
        case list():
            return [clean(inner) for inner in value]
        case _:
            return value
