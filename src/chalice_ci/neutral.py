"""Text that others wrote, made harmless to print.

A CI system reads its commands from what a step prints. GitHub's runner (ActionCommand.cs) obeys
`::command::` where a line begins with it, white space aside, and `##[command]` anywhere in a line,
on stdout and stderr; Azure and TeamCity have `##vso[` and `##teamcity[`; a terminal has escape
sequences; a reader has bidirectional and invisible characters. Prefixing each line is not enough,
so the markers are broken: `::` at the start of a line (elsewhere it is part of an ARN, a test's
name, a C++ symbol), `##[` everywhere.

The runner compares by the rules of a language, which skip marks that have no weight of their own:
marks count as white space here, and as nothing between the characters of a marker.
"""

from __future__ import annotations

import re
import unicodedata

# CSI (colours, cursor), OSC and the other strings up to their terminator, two-byte escapes.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_](?:[^\x07\x1b\n\r]|\x1b(?!\\))*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_LINE_ENDS = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_COLONS = re.compile(r"(?m)^([^\S\n]*:)(?=:)")
_HASHES = re.compile(r"#(?=#[A-Za-z]*\[)")
_REMOVED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
# Letters and marks that show as nothing.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0\u2800"
) | {chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))}
_FORMAT_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def neutralise(text: str | bytes) -> str:
    r"""Return the text without controls and without anything a CI system takes for a command.

    Lines end with LF only; a lone CR ends a line too. Tabs stay. `::` that begins a line becomes
    `: :`, and `##[` becomes `# #[` wherever it is. Doing it twice changes nothing; whoever wraps
    or joins such texts calls `without_commands` on the lines that come of it.
    """
    return without_commands(visible(text))


def without_commands(text: str) -> str:
    """Return the text with every marker broken that a CI system would look for in its lines.

    For text of ours that was put together from harmless parts: escape sequences stay.
    """
    if not text.isascii():
        text = "\n".join(map(_unmarked, text.split("\n")))
    return _HASHES.sub("# ", _COLONS.sub(r"\1 ", text))


def visible(text: str | bytes) -> str:
    """Return the text without controls, escape sequences and what cannot be seen.

    For documents, where nothing reads commands: `::` stays. Lines end with LF only, tabs stay.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return "\n".join(_visible_line(line) for line in _LINE_ENDS.split(_ESCAPES.sub("", text)))


def one_line(text: str | bytes, limit: int = 500) -> str:
    """The same as one line of at most `limit` characters, for a message inside a sentence."""
    line = " ".join(neutralise(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _unmarked(line: str) -> str:
    """The line without combining marks, if it would be a command without them."""
    if line.isascii():
        return line
    bare = "".join(c for c in line if not unicodedata.category(c).startswith("M"))
    return bare if _COLONS.match(bare) or _HASHES.search(bare) else line


def _visible_line(line: str) -> str:
    if not line.isascii():
        line = _FORMAT_SPACES.sub(" ", line)
    if not (line.isascii() and line.isprintable()):
        hidden = [ord(character) for character in set(line) if not _is_shown(character)]
        if hidden:
            line = line.translate(dict.fromkeys(hidden))
    return line


def _is_shown(character: str) -> bool:
    if character == "\t":
        return True
    if character in _INVISIBLE:
        return False
    return unicodedata.category(character) not in _REMOVED_CATEGORIES
