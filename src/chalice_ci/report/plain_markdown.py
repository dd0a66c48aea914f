"""Our Markdown for places that show less of HTML than GitHub. Pure.

Bitbucket renders Markdown without HTML (Atlassian's documentation, "Markdown in Bitbucket Cloud").
What folds there is open here, under its summary in bold; what others wrote holds no HTML, because
`markdown.py` escaped it; blocks of code stay as they are.

Azure Repos folds `<details>`, breaks no line of a pull request's table with `<br>`, knows no alerts
and reads `$...$` as mathematics, which a backslash ends (Microsoft's documentation, "Markdown
guidance"; of `<details>` it says nothing, dependabot-core's #8628 does).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})")
_SUMMARY = re.compile(r"<summary>(.*?)</summary>")
_TAGS = re.compile(r"</?(?:details|summary|sub|code|span)(?: open)?>")
_SMALL = re.compile(r"</?sub>")
_DOLLAR = "<span>$</span>"
_ALERT = re.compile(r"> \[!([A-Z]+)\]$")


def without_html(text: str) -> str:
    """The text with our own tags taken out; doing it twice changes nothing."""
    return _outside_of_code(text, _plain)


def with_folds_alone(text: str) -> str:
    """The text as Azure Repos shows it; doing it twice changes nothing."""
    return _outside_of_code(text, _folding)


def _outside_of_code(text: str, change: Callable[[str], str]) -> str:
    lines, fence = [], ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if fence:
            closed = found and found["mark"].startswith(fence) and line.strip() == found["mark"]
            fence = "" if closed else fence
        elif found:
            fence = found["mark"]
        lines.append(line if fence or found else change(line))
    return "\n".join(lines)


def _plain(line: str) -> str:
    line = _bold_alert(line)
    line = _SUMMARY.sub(lambda match: f"\n**{_TAGS.sub('', match[1]).strip()}**\n", line)
    return _TAGS.sub("", line.replace("<br>", " · "))


def _folding(line: str) -> str:
    # At the end of a line Azure breaks it anyway.
    line = _SMALL.sub("", _bold_alert(line).removesuffix("<br>").replace("<br>", " · "))
    # The line of a summary is HTML to its end: nothing is read as Markdown there.
    return line.replace(_DOLLAR, "$" if line.startswith("<details") else r"\$")


def _bold_alert(line: str) -> str:
    return _ALERT.sub(lambda match: f"> **{match[1].capitalize()}**", line)
