"""Text that others wrote, made harmless to print.

A CI system reads its commands from what a step prints. GitHub's runner accepts `##[command]`
anywhere in a line and `::command::` after white space, on stdout and stderr; Azure and TeamCity
have `##vso[` and `##teamcity[`; a terminal has escape sequences; a reader has bidirectional and
invisible characters. Prefixing each line is not enough, so the markers themselves are broken.
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
_COLONS = re.compile(":(?=:)")
_HASHES = re.compile(r"#(?=#[A-Za-z]*\[)")
_REMOVED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
# Letters and marks that show as nothing.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800") | {
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}
_FORMAT_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def neutralise(text: str | bytes) -> str:
    r"""Return the text without controls and without anything a CI system takes for a command.

    Lines end with LF only; a lone CR ends a line too. Tabs stay. `::` becomes `: :` and `##[`
    becomes `# #[`, wherever they are. Doing it twice changes nothing.
    """
    return _HASHES.sub("# ", _COLONS.sub(": ", visible(text)))


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


def _visible_line(line: str) -> str:
    if not line.isascii():
        line = _FORMAT_SPACES.sub(" ", line)
    if not (line.isascii() and line.isprintable()):
        line = "".join(character for character in line if _is_shown(character))
    return line


def _is_shown(character: str) -> bool:
    if character == "\t":
        return True
    if character in _INVISIBLE:
        return False
    return unicodedata.category(character) not in _REMOVED_CATEGORIES
