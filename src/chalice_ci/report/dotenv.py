"""`chalice-ci.env`: the outputs as variables of later jobs, a dotenv report of GitLab's.

GitLab's rules for the file (its documentation, "artifacts:reports:dotenv"): one `NAME=value` a
line, names of letters, digits and underscores, no quotes, no values of several lines, at most 5 KB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FILE = "chalice-ci.env"
LIMIT = 5 * 1024
"""Bytes that GitLab takes."""
_PREFIX = "CHALICE_"
_LINE = re.compile(r"[ -~]{1,2000}")


def render(values: Iterable[tuple[str, str]]) -> str:
    """The text of the file: `url` is CHALICE_URL. What is empty or no single line is left out, and
    what has no room any more.

    A later job with such a variable can't be led elsewhere by it: the names are ours.
    """
    lines, room = [], LIMIT
    for name, value in values:
        line = f"{_PREFIX}{name.upper().replace('-', '_')}={value}\n"
        if _LINE.fullmatch(value) and len(line) <= room:
            lines.append(line)
            room -= len(line)
    return "".join(lines)
