"""Commands in scripts and CI files: found in their text, never run.

A script is read line by line as a shell would split it, whatever it is wrapped in: YAML, JSON, a
Makefile's recipe or Groovy. What cannot be told is left alone: nothing here is certain enough to
guess.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from chalice_ci.findings import Place

_MAX_LINE = 4000
_START = re.compile(
    r"""(?P<before>^|[\s;&|(`"'=@/])"""
    r"""(?:python[0-9.]*\s+-m\s+)?"""
    r"""chalice[ \t]+(?=\S)"""
)
# Keys whose text people read, and no shell does.
_PROSE = re.compile(
    r"""^\s*(?:-\s+)?["']?(?:name|displayName|description|title|summary|message|if|label)["']?\s*:\s""",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"^\s*(?:#|//|\*|REM\b|::)|\s#", re.IGNORECASE)
_SAID = re.compile(
    r"(?:^|[;&|({]|\b(?:run|script|command)\s*:)\s*(?:[-@]\s*)?(?:echo|printf|git)\b[^;&|]*$"
)
_WORD = re.compile(
    r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|\$\{\{[^}]*\}\}|\$\([^)]*\)|[^\s;&|()<>`"'#\\])+"""
)
_VERSION = re.compile(
    r"""(?:python-version|python_version|pythonVersion|versionSpec|\bpython\b|PYTHON_VERSION)"""
    r"""["']?\s*[:=]\s*"""
    r"""(?P<list>\[[^\]]*\]|["']?[=~>]*\s*[23]\.[0-9]{1,2}(?:\.[0-9x*]+)?["']?)"""
)
_IMAGE = re.compile(r"(?:\bFROM\s+|\bimage\s*:\s*[\"']?)\S*python[:/](?P<version>[23]\.[0-9]{1,2})")
_MINOR = re.compile(r"(?<![0-9.])([23]\.[0-9]{1,2})(?![0-9])")
_GLOBAL_WITH_VALUE = frozenset({"--project-dir"})


@dataclass(frozen=True, kw_only=True)
class Command:
    """A use of Chalice's command line: `verb` is "deploy", `words` what follows it."""

    verb: str
    words: tuple[str, ...]
    at: Place
    text: str
    """The line, without blanks around it."""

    def has(self, option: str) -> bool:
        """Whether an option is given: "--stage", or "--pkg-format=terraform" with its value."""
        name, _, value = option.partition("=")
        for index, word in enumerate(self.words):
            given, _, inline = word.partition("=")
            if given == name:
                following = self.words[index + 1] if index + 1 < len(self.words) else ""
                return not value or value == (inline or following)
        return False


@dataclass(frozen=True, kw_only=True)
class PythonAsked:
    """A Python that a file asks for: "3.9"."""

    version: str
    at: Place


@dataclass(frozen=True, kw_only=True)
class Script:
    """A file of the repository with commands in it; `file` is its path there."""

    file: str
    text: str

    @property
    def is_pipfile(self) -> bool:
        """Whether it says which Python an environment of the app is made with."""
        return self.file.rpartition("/")[2] == "Pipfile"

    @functools.cached_property
    def commands(self) -> tuple[Command, ...]:
        """Chalice's command line, as the file uses it."""
        return tuple(self._commands())

    @functools.cached_property
    def pythons(self) -> tuple[PythonAsked, ...]:
        """The Pythons that the file asks a CI system or a container for."""
        return tuple(self._pythons())

    def _commands(self) -> Iterator[Command]:
        for number, line in _logical_lines(self.text):
            if "chalice" not in line or _PROSE.match(line):
                continue
            for match in _START.finditer(line):
                before = line[: match.end("before")]
                # Nobody runs a comment, or what is printed or committed.
                if _COMMENT.search(before) or _SAID.search(before):
                    continue
                words = _words(line[match.end() :], match["before"])
                verb, rest = _verb(words)
                if verb:
                    yield Command(
                        verb=verb,
                        words=rest,
                        at=Place(file=self.file, line=number),
                        text=line.strip(),
                    )

    def _pythons(self) -> Iterator[PythonAsked]:
        for number, line in enumerate(self.text.splitlines(), start=1):
            if _COMMENT.match(line) or len(line) > _MAX_LINE:
                continue
            at = Place(file=self.file, line=number)
            for match in _VERSION.finditer(line):
                # ">=3.8" also allows what is supported.
                if ">" not in match["list"]:
                    for version in _MINOR.findall(match["list"]):
                        yield PythonAsked(version=version, at=at)
            for match in _IMAGE.finditer(line):
                yield PythonAsked(version=match["version"], at=at)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with its number; a line that ends in a backslash is joined with the next."""
    begun, joined = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        begun = begun or number
        if line.endswith("\\") and len(joined) < _MAX_LINE:
            joined += line[:-1] + " "
            continue
        whole, begun, joined, first = joined + line, 0, "", begun
        if len(whole) <= _MAX_LINE:
            yield first, whole
    if joined:
        yield begun, joined


def _words(text: str, before: str) -> list[str]:
    """The words up to the end of the command; `before` is a quote when it stands within one."""
    if before in ('"', "'"):
        text = text.split(before, 1)[0]
    words: list[str] = []
    place = 0
    while place < len(text):
        if text[place] in " \t":
            place += 1
            continue
        match = _WORD.match(text, place)
        if match is None:
            break
        following = text[match.end() : match.end() + 1]
        # "2>&1": the number belongs to the redirection.
        if following in ("<", ">") and match.group().isdigit():
            break
        words.append(match.group())
        place = match.end()
        if following in ('"', "'"):
            break
    return words


def _verb(words: list[str]) -> tuple[str, tuple[str, ...]]:
    """The subcommand and what follows it; an empty one when there is none."""
    index = 0
    while index < len(words):
        word = words[index]
        if not word.startswith("-"):
            return (word, tuple(words[index + 1 :])) if re.fullmatch(r"[a-z-]+", word) else ("", ())
        index += 2 if word in _GLOBAL_WITH_VALUE else 1
    return "", ()


_DEPLOY_VALUES = frozenset({"--profile", "--api-gateway-stage", "--stage", "--connection-timeout"})
_DEPLOY_FLAGS = frozenset({"--autogen-policy", "--no-autogen-policy", "--help"})
_VARIABLE = re.compile(r"\$\{?\{?\s*[A-Za-z_][\w.\s-]*\}{0,2}|\$\([\w.]+\)")
_STAGE = re.compile(r"stage|\benv\b|environment|branch", re.IGNORECASE)


def positional_stage(command: Command) -> str | None:
    """The stage that `chalice deploy` is given without `--stage`; None when there is none.

    A variable counts when it is called after a stage or is in quotes: any other may hold options.
    """
    if command.verb != "deploy":
        return None
    words = iter(command.words)
    for word in words:
        name, inline, _ = word.partition("=")
        if name in _DEPLOY_VALUES:
            if not inline:
                next(words, None)
        elif name in _DEPLOY_FLAGS:
            continue
        elif word.startswith("-"):
            # An option of which it is not known whether a value follows.
            return None
        else:
            return _stage_meant(word)
    return None


def _stage_meant(word: str) -> str | None:
    bare = word.strip("\"'")
    if "$" not in bare:
        return bare if re.fullmatch(r"[A-Za-z0-9_-]+", bare) else None
    if not _VARIABLE.fullmatch(bare):
        return None
    return bare if word[0] in "\"'" or _STAGE.search(bare) else None
