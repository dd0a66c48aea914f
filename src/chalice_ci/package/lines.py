"""The lines of a requirements file, in any encoding that editors write, as pip joins them."""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_MAX_BYTES = 1024 * 1024
_COMMENT = re.compile(r"(^|\s+)#.*$")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: Path) -> str | None:
    """The text of a small file; None for what is none, or is no file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError:
        return None
    if len(data) > _MAX_BYTES:
        return None
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            data, chosen = data[len(bom) :], encoding
            break
    else:
        chosen = "utf-8"
    try:
        text = data.decode(chosen)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with continuations joined and comments removed, each with its first line's number."""
    parts: list[str] = []
    first = 1
    for number, raw in enumerate(text.splitlines(), start=1):
        if not parts:
            first = number
        is_comment = re.match(r"\s*#", raw) is not None
        if raw.endswith("\\") and not is_comment:
            parts.append(raw[:-1])
            continue
        # A comment ends a continued line, as pip has it.
        parts.append(" " + raw if is_comment else raw)
        line = _COMMENT.sub("", "".join(parts)).strip()
        parts = []
        if line:
            yield first, line
    line = _COMMENT.sub("", "".join(parts)).strip()
    if line:
        yield first, line
