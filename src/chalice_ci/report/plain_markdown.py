"""Our Markdown for a place that shows HTML as text, such as Bitbucket. Pure.

Bitbucket renders Markdown without HTML (Atlassian's documentation, "Markdown in Bitbucket Cloud").
What folds there is open here, under its summary in bold; what others wrote holds no HTML, because
`markdown.py` escaped it; blocks of code stay as they are.
"""

from __future__ import annotations

import re

_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})")
_SUMMARY = re.compile(r"<summary>(.*?)</summary>")
_TAGS = re.compile(r"</?(?:details|summary|sub|code|span)(?: open)?>")
_ALERT = re.compile(r"> \[!([A-Z]+)\]$")


def without_html(text: str) -> str:
    """The text with our own tags taken out; doing it twice changes nothing."""
    lines, fence = [], ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if fence:
            closed = found and found["mark"].startswith(fence) and line.strip() == found["mark"]
            fence = "" if closed else fence
        elif found:
            fence = found["mark"]
        lines.append(line if fence or found else _plain(line))
    return "\n".join(lines)


def _plain(line: str) -> str:
    line = _ALERT.sub(lambda match: f"> **{match[1].capitalize()}**", line)
    line = _SUMMARY.sub(lambda match: f"\n**{_TAGS.sub('', match[1]).strip()}**\n", line)
    return _TAGS.sub("", line.replace("<br>", " · "))
