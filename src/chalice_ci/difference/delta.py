"""What is different between two snapshots, without loss and without meaning.

The laws, for all snapshots a, b: `diff(a, a)` is empty, `apply(a, diff(a, b)) == b`, and the order
in which a snapshot's parts were given does not matter. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chalice_ci.snapshot import FACTS, SECTIONS, Snapshot


class DoesNotApply(ValueError):
    """A delta was made from another snapshot than the one it is applied to."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What became of one kind of things: `changed` are pairs of before and after, all by key."""

    added: tuple[Any, ...] = ()
    removed: tuple[Any, ...] = ()
    changed: tuple[tuple[Any, Any], ...] = ()


NOTHING = Section()


@dataclass(frozen=True, kw_only=True)
class Delta:
    """All that leads from one snapshot to another: only what differs is in it."""

    facts: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    sections: Mapping[str, Section] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether the snapshots are equal."""
        return not self.facts and not self.sections

    def section(self, name: str) -> Section:
        """What became of one of `snapshot.SECTIONS`."""
        return self.sections.get(name, NOTHING)


def diff(before: Snapshot, after: Snapshot) -> Delta:
    """What leads from `before` to `after`."""
    facts = {
        name: (getattr(before, name), getattr(after, name))
        for name in FACTS
        if getattr(before, name) != getattr(after, name)
    }
    sections = {
        name: section
        for name in SECTIONS
        if (section := _section(getattr(before, name), getattr(after, name))) != NOTHING
    }
    return Delta(facts=facts, sections=sections)


def _section(before: tuple[Any, ...], after: tuple[Any, ...]) -> Section:
    if before == after:
        return NOTHING
    old = {item.key: item for item in before}
    new = {item.key: item for item in after}
    return Section(
        added=tuple(item for item in after if item.key not in old),
        removed=tuple(item for item in before if item.key not in new),
        changed=tuple(
            (old[key], item) for key, item in new.items() if key in old and old[key] != item
        ),
    )


def apply(before: Snapshot, delta: Delta) -> Snapshot:
    """The snapshot that a delta leads to. Raises DoesNotApply when it was made from another one."""
    for name, (old, _) in delta.facts.items():
        if getattr(before, name) != old:
            raise DoesNotApply(f"{name} is not {old!r}")
    changed: dict[str, Any] = {name: new for name, (_, new) in delta.facts.items()}
    for name, section in delta.sections.items():
        changed[name] = tuple(_applied(name, getattr(before, name), section))
    return replace(before, **changed)


def _applied(name: str, before: tuple[Any, ...], section: Section) -> Iterator[Any]:
    old = {item.key: item for item in before}
    gone = (*section.removed, *(item for item, _ in section.changed))
    for item in gone:
        if old.pop(item.key, None) != item:
            raise DoesNotApply(f"{name} has no such {' '.join(item.key)}")
    yield from old.values()
    yield from section.added
    yield from (item for _, item in section.changed)
