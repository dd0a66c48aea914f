"""What another Chalice means for the app, as blocks of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chalice_ci.findings import Place
from chalice_ci.report import markdown as md
from chalice_ci.report.report import TemplateChange, Upgrade, UpgradeNote

PLACES = 5
_SIGNS = {"breaks": "💥", "changes": "🔁", "fixes": "🩹", "adds": "✨"}
_NAMES = 8


def headline(upgrade: Upgrade) -> str:
    """Both versions and how much of what lies between touches the app; plain text."""
    count = len(upgrade.notes)
    told = f"{count} {'note touches' if count == 1 else 'notes touch'} this app"
    word = "back from" if upgrade.downgrade else "from"
    return f"Chalice {word} {upgrade.before} to {upgrade.after}, {told}"


def breaks(upgrade: Upgrade) -> bool:
    """Whether something of it breaks the app as it is."""
    return any(note.impact == "breaks" for note in upgrade.notes)


def blocks(upgrade: Upgrade, *, place: Callable[[Place], str]) -> Iterator[str]:
    """One block per note, in the order of the releases; `place` writes where, as Markdown."""
    if upgrade.unknown:
        yield f"⚠️ {md.prose(upgrade.unknown)}"
    if upgrade.downgrade and upgrade.notes:
        yield "What these releases brought is undone:"
    for note in upgrade.notes:
        yield _note(note, place)
    if upgrade.template_problem:
        yield f"The templates were not compared: {md.prose(upgrade.template_problem)}"
    if upgrade.template:
        rows = tuple(
            tuple(md.code(cell) if cell else "" for cell in template_cells(change))
            for change in upgrade.template
        )
        head = ("Template", "Resources", "Before", "After")
        yield f"Of the same app, both write another template:\n\n{md.table(head, rows)}"


def template_cells(change: TemplateChange) -> tuple[str, str, str, str]:
    """What changed, in which resources, from what to what; plain text."""
    what = {"renamed": "renamed", "removed": f"- {change.path}", "added": f"+ {change.path}"}
    names = ", ".join(change.resources[:_NAMES])
    more = len(change.resources) - _NAMES
    return (
        what.get(change.kind, change.path),
        f"{names} and {more} more" if more > 0 else names,
        change.before,
        change.after,
    )


def _note(note: UpgradeNote, place: Callable[[Place], str]) -> str:
    sign = _SIGNS.get(note.impact, "🔁")
    where = ", ".join(place(at) for at in note.at[:PLACES])
    more = f" and {len(note.at) - PLACES} more" if len(note.at) > PLACES else ""
    head = " · ".join(
        part
        for part in (
            f"{sign} {md.strong(note.topic, 120)}",
            f"since {md.text(note.version, 20)}",
            f"{where}{more}",
        )
        if part
    )
    parts = [f"{head}<br>", md.prose(note.what)]
    said = "\n".join(parts)
    beneath = [md.prose(note.why)] if note.why else []
    if note.link:
        beneath.append(md.link(note.link))
    return f"{said}\n\n<sub>{' '.join(beneath)}</sub>" if beneath else said
