"""The comment of a pull request: one for all its runs, rewritten in place.

It says "in progress" from the start of a run; whatever becomes of the run, it is rewritten: by
`comment` at the end, by `abandoned` when the run was killed and nothing but the comment is left.
The forge writes its marker in front of these texts, the line by which it finds the comment again;
nothing in them can be taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from chalice_ci.findings import Severity
from chalice_ci.report import markdown as md
from chalice_ci.report.origin import Origin, Waiting
from chalice_ci.report.page import TITLE, Page
from chalice_ci.report.report import Report
from chalice_ci.report.verdict_table import RUNNING

LIMIT = 65_536 - 536
"""What GitHub takes, less the room for the marker: characters. We count UTF-16 units, which are
never fewer."""


def comment(
    report: Report, *, origin: Origin, fail_on: Severity = Severity.ERROR, limit: int = LIMIT
) -> str:
    """The comment of a run that is over, at most `limit` characters and UTF-16 units long."""
    return Page(report, origin=origin, fail_on=fail_on).body(limit=limit, measure=units)


def in_progress(
    report: Report, *, origin: Origin, waiting: Sequence[Waiting], limit: int = LIMIT
) -> str:
    """The comment of a run that goes on: what is known so far, and what is still waited for."""
    page = Page(report, origin=origin, waiting=tuple(waiting))
    return page.body(limit=limit, measure=units)


def abandoned(body: str, *, reason: str = "cancelled") -> str | None:
    """A comment that a run left in progress, rewritten as one that is over.

    For a run that was cancelled or killed, whose report is lost. None when the comment is not in
    progress: then there is nothing to mend.
    """
    heading = f"### {TITLE} · "
    if not body.startswith(f"{heading}{RUNNING}"):
        return None
    said = md.text(reason, 80)
    _, *lines = re.split("\r\n|\r|\n", body)
    ended = [re.sub(rf"\| {RUNNING} [^|]*(?=\|)", f"| ⛔ {said} ", line) for line in lines]
    return "\n".join([f"{heading}⛔ {said}", *ended])


def taken_down(body: str, *, app: str, stage: str, why: str) -> str | None:
    """A comment that shows a preview as live, rewritten after another run removed that.

    In its row the result says so, and no address stands there any more. None when there is nothing
    to mend: no such row, or a run is at work that writes the comment itself.
    """
    if body.startswith(f"### {TITLE} · {RUNNING}"):
        return None
    said = f"🗑️ removed: {md.prose(why, 120)}" if why else "🗑️ removed"
    names = {"App": md.text(app, 64), "Stage": md.text(stage, 64)}
    lines = re.split("\r\n|\r|\n", body)
    head: list[str] = []
    for number, line in enumerate(lines):
        cells = _cells(line)
        if {"Stage", "Result"} <= set(cells):
            head = cells
        elif not cells:
            head = []
        elif len(cells) == len(head):
            row = dict(zip(head, cells, strict=True))
            if all(row.get(column, name) == name for column, name in names.items()):
                row |= {"Result": said} | ({"URL": ""} if "URL" in row else {})
                lines[number] = md.row(tuple(row.values()))
    mended = "\n".join(lines)
    return None if mended == body else mended


def _cells(line: str) -> list[str]:
    """The cells of a table's line; empty for any other line."""
    if not (line.startswith("|") and line.endswith("|")):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def units(text: str) -> int:
    """The length in UTF-16 units, which is at least the number of characters."""
    return len(text.encode("utf-16-le")) // 2
