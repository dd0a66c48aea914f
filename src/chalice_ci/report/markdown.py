"""GitHub's Markdown from text that others wrote: the only module that knows how it is escaped.

Routes, file names, docstrings and messages come from pull requests. After Markdown is rendered,
GitHub looks for `@name`, `#1` and addresses in all text that is not code: no backslash and no
character reference hides those, only a character in between does, here U+200B. In code nothing is
looked for, so names that a reader may want to copy are code.

Each function returns a whole piece: its quotes, fences and tags are closed, whatever came in.
"""

from __future__ import annotations

import re

from chalice_ci.neutral import visible

BREAK = "\u200b"
"""Nothing to see: it keeps two characters apart."""

# An underscore inside a word is no emphasis.
_SPECIAL = re.compile(r"[&<>`*\[\]\\|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LIVE = re.compile(
    r"(?<=[@#])"  # names, teams, issues, headings
    r"|(?<=GH-)(?=[0-9]|$)"
    r"|(?<=:)(?=//)"  # addresses
    r"|(?<=www)(?=\.)"
    r"|(?<=:)(?=[\w+-]+(?::|$))",  # :emoji:, whose end may be ours
    re.IGNORECASE,
)
_LONGEST_TICKS = 40
_TOO_LONG = re.compile(rf"`{{{_LONGEST_TICKS}}}(?=`)")
# What would start a list, a heading's underline or a table at the beginning of a line.
_LEADING = re.compile(r"([-+=:])|[0-9]{1,9}([.)])(?= |$)")
_COMMENT = re.compile("<(?=!--)")
_ADDRESS = re.compile(
    r"https?://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(?::[0-9]{1,5})?"
    r"(?:/[A-Za-z0-9._~%/=&?#-]{0,500})?"
)


def text(value: str, limit: int = 300) -> str:
    """One line of plain text, anywhere Markdown or HTML is read: no markup, no link, no mention."""
    return _begun(_line(value, limit))


def strong(value: str, limit: int = 140) -> str:
    """One line of plain text in bold; empty for nothing."""
    line = text(value, limit)
    return f"**{line}**" if line else ""


def prose(value: str, limit: int = 600) -> str:
    """One line of text in which what stands between single backticks is code."""
    parts = _line(value, limit).split("`")
    if len(parts) % 2 == 0 or "" in parts[1::2]:
        # Backticks that are no pairs are themselves.
        return text(value, limit)
    return "".join(
        code(part, limit) if number % 2 else _escaped(part) if number else _begun(part)
        for number, part in enumerate(parts)
    )


def code(value: str, limit: int = 200) -> str:
    """One line as inline code, also in a table's cell; empty for nothing."""
    line = _line(value, limit)
    if not line:
        return ""
    if "|" in line or _longest_run(line) > _LONGEST_TICKS:
        # A table splits its rows at every bar before it looks for code, and cmark-gfm takes more
        # than 80 backticks for text.
        return f"<code>{_escaped(line)}</code>"
    ticks = "`" * (_longest_run(line) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{ticks}{pad}{_uncommented(line)}{pad}{ticks}"


def fence(value: str, *, language: str = "", lines: int = 30, width: int = 240) -> str:
    """A block of code, its fence longer than any run of backticks in it.

    cmark-gfm counts a fence in one byte: what would need a longer one is broken invisibly.
    """
    all_lines = _uncommented(visible(value)).rstrip("\n").split("\n")
    shown = [_clipped(line.rstrip(), width) for line in all_lines[:lines]]
    if len(all_lines) > lines:
        shown.append(f"… {len(all_lines) - lines} more lines")
    body = _TOO_LONG.sub(rf"\g<0>{BREAK}", "\n".join(shown))
    ticks = "`" * max(3, _longest_run(body) + 1)
    return f"{ticks}{language}\n{body}\n{ticks}"


def link(address: str, label: str = "") -> str:
    """An address as a link; what is no plain https or http address is code.

    `label` is Markdown that was made here.
    """
    if not is_address(address):
        return label or code(address)
    return f"[{label}]({address})" if label else f"<{address}>"


def is_address(address: str) -> bool:
    """Whether it is an address that may be linked: http or https, no user, no odd characters."""
    return _ADDRESS.fullmatch(address) is not None


def quoted(block: str) -> str:
    """A block as a quotation."""
    return "\n".join(f"> {line}".rstrip() for line in block.split("\n"))


def alert(kind: str, block: str) -> str:
    """A block as one of GitHub's alerts: NOTE, WARNING or CAUTION."""
    return f"> [!{kind}]\n{quoted(block)}"


def row(cells: tuple[str, ...]) -> str:
    """A row of a table; the cells are Markdown that was made here."""
    return f"| {' | '.join(cells)} |"


def table(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """A table."""
    return "\n".join([row(head), row(("---",) * len(head)), *(row(cells) for cells in rows)])


def _line(value: str, limit: int) -> str:
    return _clipped(" ".join(visible(value).split()), limit)


def _begun(line: str) -> str:
    """Escaped for the beginning of a line."""
    line = _LIVE.sub(BREAK, line)
    starts = _LEADING.match(line)
    if starts is None:
        return _spelled(line)
    at = starts.end() - 1
    return f"{_spelled(line[:at])}&#{ord(line[at])};{_spelled(line[at + 1 :])}"


def _escaped(line: str) -> str:
    return _spelled(_LIVE.sub(BREAK, line))


def _spelled(line: str) -> str:
    line = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", line)
    # GitHub reads `$...$` as mathematics also after an escape; this is its documented way out.
    return line.replace("$", "<span>$</span>")


def _uncommented(value: str) -> str:
    """In code nothing is escaped, but a tool that searches for its marker finds it there too."""
    return _COMMENT.sub(f"<{BREAK}", value)


def _clipped(line: str, limit: int) -> str:
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall("`+", value)), default=0)
