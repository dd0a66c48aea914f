"""A difference as plain data: the part `difference` of report.json."""

from __future__ import annotations

from typing import Any

from chalice_ci.difference.changes import Change, Changes, Kind, PackageChanges


def to_document(changes: Changes) -> dict[str, Any]:
    """The shape of `$defs/difference` in `schemas/report.schema.json`."""
    baseline = changes.baseline
    return {
        "baseline": {
            "kind": baseline.kind.value,
            "commit": baseline.commit,
            "problem": baseline.problem,
            "fix": baseline.fix,
        },
        "empty": changes.empty,
        "destructive": bool(changes.destructive),
        "counts": {kind.value: changes.count(kind) for kind in Kind},
        "items": [_item(item) for item in changes.items],
        "package": None if changes.package is None else _package(changes.package),
    }


def _item(item: Change) -> dict[str, Any]:
    return {
        "area": item.area.value,
        "kind": item.kind.value,
        "subject": item.subject,
        "function": item.function,
        "details": [
            {"name": detail.name, "before": detail.before, "after": detail.after}
            for detail in item.details
        ],
        "risks": [{"risk": one.risk.value, "why": one.why} for one in item.risks],
    }


def _package(package: PackageChanges) -> dict[str, Any]:
    return {
        "size": {"before": package.size_before, "after": package.size_after},
        "unpacked_size": {"before": package.unpacked_before, "after": package.unpacked_after},
        "dependencies": [
            {
                "name": one.name,
                "kind": one.kind.value,
                "direct": one.direct,
                "version": {"before": one.before, "after": one.after},
                "size": {"before": one.size_before, "after": one.size_after},
                "packed": {"before": one.packed_before, "after": one.packed_after},
            }
            for one in package.dependencies
        ],
        "files": {
            "added": package.files_added,
            "changed": package.files_changed,
            "removed": package.files_removed,
            "own": package.own_files,
            "listed": [
                {
                    "path": one.path,
                    "slot": one.slot,
                    "kind": one.kind.value,
                    "size": {"before": one.size_before, "after": one.size_after},
                }
                for one in package.files
            ],
        },
        "growth": [
            {
                "kind": one.kind,
                "name": one.name,
                "size": {"before": one.before, "after": one.after},
            }
            for one in package.growth
        ],
    }
