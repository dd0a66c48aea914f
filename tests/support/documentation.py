"""What the documents show: their fenced blocks and their inline code, with file and line."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>```+)(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=indent)(?P=ticks) *$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"(?<!`)(?P<ticks>`+)(?P<text>[^`\n]+)(?P=ticks)(?!`)")
_SHELL = ("console", "sh", "bash", "shell")
_WRAPPERS = ("time",)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A piece of a document: what it is and where it stands."""

    text: str
    at: str
    language: str = ""
    before: str = ""
    """The line above."""

    def __str__(self) -> str:
        return self.at


def documents() -> tuple[Path, ...]:
    """Every document for people, in the repository and on the site."""
    return tuple(
        sorted(
            {
                *ROOT.glob("*.md"),
                *(ROOT / "docs").rglob("*.md"),
                *(ROOT / "workflows-examples").glob("*.md"),
                *(ROOT / "plugins").rglob("*.md"),
            }
        )
    )


def blocks(*languages: str) -> Iterator[Shown]:
    """The fenced blocks of these languages."""
    for path in documents():
        text = path.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            if found["language"] in languages:
                yield Shown(
                    text=textwrap.dedent(found["text"]),
                    at=_place(path, text, found.start()),
                    language=found["language"],
                    before=text[: found.start()].rstrip("\n").rpartition("\n")[2],
                )


def prose(path: Path) -> str:
    """A document without its fenced blocks, line by line where it was."""
    text = path.read_text(encoding="utf-8")
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)


def inline() -> Iterator[Shown]:
    """The inline code outside of fenced blocks."""
    for path in documents():
        bare = prose(path)
        for found in _INLINE.finditer(bare):
            yield Shown(
                text=found["text"].replace("\\|", "|"), at=_place(path, bare, found.start())
            )


def command_lines() -> Iterator[tuple[Shown, tuple[str, ...]]]:
    """Each command of each shell block, as its words."""
    for block in blocks(*_SHELL):
        for line in block.text.replace("\\\n", " ").splitlines():
            for words in commands_of(line.removeprefix("$ ")):
                yield block, words


def commands_of(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line; `&&`, `|` and `;` end one."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
        if set(word) <= set("&|;"):
            while words and (words[0] in _WRAPPERS or re.fullmatch(r"[A-Z_]+=.*", words[0])):
                words.pop(0)
            if words:
                yield tuple(words)
            words = []
        else:
            words.append(word)


def _place(path: Path, text: str, offset: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{text[:offset].count(chr(10)) + 1}"
