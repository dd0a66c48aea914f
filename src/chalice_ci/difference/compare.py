"""From two snapshots to what a person reads: every difference once, with what it means. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chalice_ci.difference.api import api_changes
from chalice_ci.difference.changes import Baseline, Change, Changes, in_order
from chalice_ci.difference.delta import Delta, diff
from chalice_ci.difference.functions import (
    function_changes,
    layer_changes,
    stage_changes,
    trigger_changes,
)
from chalice_ci.difference.package import package_changes
from chalice_ci.difference.permissions import role_added, role_changed, role_removed
from chalice_ci.snapshot import FACTS, Snapshot


def compare(before: Snapshot | None, after: Snapshot, baseline: Baseline) -> Changes:
    """What is different; without a `before` everything is new, or unknown if the baseline says so.

    Equal snapshots give no item and a package without changes.
    """
    if baseline.problem:
        return Changes(baseline=baseline)
    before = before or _nothing(after)
    delta = diff(before, after)
    return Changes(
        baseline=baseline,
        items=in_order(_items(delta, before, after)),
        package=package_changes(delta, before, after),
    )


def _nothing(after: Snapshot) -> Snapshot:
    """A stage of the same app in which nothing is."""
    kept = {name: getattr(after, name) for name in FACTS if name != "features"}
    return Snapshot(**kept)


def _items(delta: Delta, before: Snapshot, after: Snapshot) -> Iterator[Change]:
    yield from stage_changes(delta, before, after)
    yield from api_changes(delta)
    yield from function_changes(delta, before, after)
    yield from trigger_changes(delta)
    yield from layer_changes(delta)
    roles = delta.section("roles")
    yield from (role_added(role, before) for role in roles.added)
    yield from (role_removed(role) for role in roles.removed)
    changed = (role_changed(old, new) for old, new in roles.changed)
    yield from (change for change in changed if change is not None)
