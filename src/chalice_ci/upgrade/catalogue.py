"""The catalogue of what Chalice's releases changed, and what of it lies between two of them.

The data is `notes.toml` (the upgrade notes, with reasons and examples) and `changelog.toml` (the
changelog's entries); both are read once, when somebody asks.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from packaging.version import InvalidVersion, Version

from chalice_ci.findings import Place
from chalice_ci.report.report import Upgrade, UpgradeNote
from chalice_ci.upgrade.detectors import Touch, touched
from chalice_ci.upgrade.facts import AppFacts

UPGRADING = "https://aws.github.io/chalice/upgrading.html"
CHANGELOG = "https://github.com/aws/chalice/blob/master/CHANGELOG.md"
_ISSUE = "https://github.com/aws/chalice/issues/"
MAX_PLACES = 20
"""Of each note: a report shows some of them and counts the rest."""


class Impact(StrEnum):
    """What a change means for an app that it touches."""

    BREAKS = "breaks"
    CHANGES = "changes"
    FIXES = "fixes"
    ADDS = "adds"


@dataclass(frozen=True, kw_only=True)
class Note:
    """One thing that a release changed.

    `name` is set for an upgrade note: its section in docs/upgrades.md. `touch` says what makes it
    matter to an app, `rule` names the finding that every check makes of it. `before` and `after`
    are text in `language`, of the app's file `file` when a detector can be tried on them.
    """

    version: str
    impact: Impact
    topic: str
    what: str
    touch: tuple[str, ...]
    name: str = ""
    why: str = ""
    before: str = ""
    after: str = ""
    language: str = ""
    file: str = ""
    rule: str = ""
    section: str = ""
    """The anchor in Chalice's own upgrade notes."""
    refs: tuple[int, ...] = ()

    @property
    def link(self) -> str:
        """Where Chalice says so."""
        if self.section:
            return f"{UPGRADING}#{self.section}"
        return f"{_ISSUE}{self.refs[0]}" if self.refs else CHANGELOG

    @property
    def anchor(self) -> str:
        """The section of docs/upgrades.md: the note's own, else its release's."""
        return anchor_of(self.name or self.version)


@dataclass(frozen=True, kw_only=True)
class TouchedNote:
    """A note and what of an app it touches: at least one thing."""

    note: Note
    touches: tuple[Touch, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the app is touched, each place once, in order."""
        return tuple(sorted({touch.at for touch in self.touches if touch.at is not None}))


def anchor_of(heading: str) -> str:
    """The anchor of a note's or a release's section, as GitHub makes it of the heading.

    >>> anchor_of("python-3.9")
    'python-39'
    """
    return heading.replace(".", "")


@functools.cache
def releases() -> tuple[str, ...]:
    """The releases in the catalogue, oldest first."""
    return tuple(sorted(_read("changelog.toml"), key=Version))


@functools.cache
def notes() -> tuple[Note, ...]:
    """The whole catalogue, oldest release first, upgrade notes before changelog entries."""
    named = [_note(given) for given in _read("notes.toml")["note"]]
    listed = [
        _note({**entry, "version": version})
        for version, release in _read("changelog.toml").items()
        for entry in release["entries"]
    ]
    return tuple(sorted((*named, *listed), key=lambda note: Version(note.version)))


def _read(name: str) -> Mapping[str, Any]:
    return tomllib.loads((files(__package__) / name).read_text(encoding="utf-8"))


def _note(given: Mapping[str, Any]) -> Note:
    fields = dict(given)
    for name in ("before", "after"):
        fields[name] = fields.get(name, "").strip("\n")
    return Note(
        **{
            **fields,
            "impact": Impact(fields["impact"]),
            "touch": tuple(fields["touch"]),
            "refs": tuple(fields.get("refs", ())),
        }
    )


def is_release(text: str) -> bool:
    """Whether a text is a version as releases have it."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def touched_note(note: Note, facts: AppFacts) -> TouchedNote | None:
    """The note with what it touches in an app, None when that is nothing."""
    found = dict.fromkeys(touch for text in note.touch for touch in touched(facts, text))
    return TouchedNote(note=note, touches=tuple(found)) if found else None


def notes_between(old: str, new: str, facts: AppFacts) -> tuple[TouchedNote, ...]:
    """What changed after the older of two releases, up to the newer, and touches this app.

    In the order of the releases; what breaks comes first within each. For a downgrade it is what
    is undone. Raises packaging's InvalidVersion for what is no version.
    """
    older, newer = sorted((Version(old), Version(new)))
    found = (
        touched_note(note, facts) for note in notes() if older < Version(note.version) <= newer
    )
    order = tuple(Impact)
    return tuple(
        sorted(
            (one for one in found if one is not None),
            key=lambda one: (Version(one.note.version), order.index(one.note.impact)),
        )
    )


def upgrade_between(old: str, new: str, facts: AppFacts) -> Upgrade | None:
    """The section of a report for another Chalice than before, None when it is the same."""
    if Version(old) == Version(new):
        return None
    return Upgrade(
        before=old,
        after=new,
        downgrade=Version(new) < Version(old),
        notes=tuple(_reported(one) for one in notes_between(old, new, facts)),
        unknown=" ".join(_unknown(old, new)),
    )


def _reported(one: TouchedNote) -> UpgradeNote:
    return UpgradeNote(
        version=one.note.version,
        topic=one.note.topic,
        impact=one.note.impact.value,
        what=one.note.what,
        why=one.note.why,
        link=one.note.link,
        anchor=one.note.anchor,
        at=one.places[:MAX_PLACES],
    )


def _unknown(old: str, new: str) -> Iterator[str]:
    older, newer = sorted((Version(old), Version(new)))
    if newer > Version(releases()[-1]):
        yield f"Nothing is known here of releases after {releases()[-1]}."
    if older < Version(releases()[0]):
        yield f"Nothing is known here of releases before {releases()[0]}."
