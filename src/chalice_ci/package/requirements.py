"""What requirements.txt says, read here: uv is handed normalised requirements only.

A line of that file can make an installer run code (`--no-binary`, `-e`, `git+…`) or send a
credential somewhere (`--index-url https://elsewhere/${TOKEN}`), so each line becomes a
requirement, a setting of ours, or a problem that says why not and what to do. Nothing is expanded
from the environment and no file outside the project is opened.
"""

from __future__ import annotations

import codecs
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from chalice_ci.errors import PackageError
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.uv import masked

RULE = "requirements"

_MAX_BYTES = 1024 * 1024
_MAX_FILES = 50
_MAX_ENTRIES = 2000
_MAX_PROBLEMS = 50

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_VCS = re.compile(r"(git|hg|svn|bzr)\+", re.IGNORECASE)
_URL = re.compile(r"(https?|file|ftp):", re.IGNORECASE)
_HASH = re.compile(r"(sha256|sha384|sha512):([0-9a-f]{64,128})")
_NAME = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*@")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SHORT = {"-r": "--requirement", "-c": "--constraint", "-i": "--index-url", "-f": "--find-links"}
_SHORT |= {"-e": "--editable"}
# They change nothing: only wheels are taken, in the order that the standard gives.
_WITHOUT_EFFECT = {"--prefer-binary", "--only-binary", "--use-feature"}

_WHEELS_ONLY = (
    "Only wheels go into a package, because building runs the dependency's code. "
    "Pin a version that has a wheel, or put what you built into `vendor/`."
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One requirement or constraint. `hashes` are ("sha256", hex) pairs, empty when none given."""

    requirement: Requirement
    at: Place
    hashes: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The normalised name."""
        return str(canonicalize_name(self.requirement.name))

    @property
    def text(self) -> str:
        """The requirement as uv gets it."""
        return str(self.requirement)

    @property
    def pinned(self) -> str | None:
        """The exact version, when there is one (`==1.2.3`)."""
        specifiers = list(self.requirement.specifier)
        if len(specifiers) == 1 and specifiers[0].operator in ("==", "==="):
            version = specifiers[0].version
            return None if version.endswith(".*") else version
        return None


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """All that the files say, in their order. `problems` are errors that forbid packaging."""

    entries: tuple[Entry, ...] = ()
    constraints: tuple[Entry, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    pre: bool = False
    require_hashes: bool = False
    files: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()

    def named(self, name: str) -> tuple[Entry, ...]:
        """The requirements of one package."""
        return tuple(entry for entry in self.entries if entry.name == name)

    def check(self) -> None:
        """Raise PackageError when there is a problem; the error names all of them."""
        if not self.problems:
            return
        first = self.problems[0]
        lines = [f"{problem.at}: {problem.what}" for problem in self.problems]
        raise PackageError(
            "requirements that cannot be packaged:\n" + "\n".join(f"  {line}" for line in lines),
            where=str(first.at),
            fix="\n".join(dict.fromkeys(problem.fix for problem in self.problems if problem.fix)),
        )


@dataclass(kw_only=True)
class _Reading:
    root: Path
    entries: list[Entry] = field(default_factory=list)
    constraints: list[Entry] = field(default_factory=list)
    index_url: str | None = None
    extra_index_urls: list[str] = field(default_factory=list)
    pre: bool = False
    require_hashes: bool = False
    files: dict[tuple[Path, bool], str] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)

    def problem(self, at: Place, what: str, fix: str, subject: str = "") -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(
                Finding(
                    rule=RULE,
                    severity=Severity.ERROR,
                    what=masked(what),
                    fix=fix,
                    subject=masked(subject),
                    at=at,
                )
            )


def read_requirements(app_dir: Path, *, repo_root: Path) -> Requirements:
    """Read `requirements.txt` of an app and what it includes; no file means no requirements.

    Includes may lie anywhere in the repository, nowhere else. Places are relative to its root.
    """
    root = repo_root.resolve()
    reading = _Reading(root=root)
    path = app_dir / "requirements.txt"
    if path.exists() or path.is_symlink():
        _read_file(reading, path, Place(file=_shown(path, root)), constraint=False)
    return Requirements(
        entries=tuple(reading.entries),
        constraints=tuple(reading.constraints),
        index_url=reading.index_url,
        extra_index_urls=tuple(dict.fromkeys(reading.extra_index_urls)),
        pre=reading.pre,
        require_hashes=reading.require_hashes or any(entry.hashes for entry in reading.entries),
        files=tuple(dict.fromkeys(reading.files.values())),
        problems=tuple(reading.problems),
    )


def _shown(path: Path, root: Path) -> str:
    absolute = path if path.is_absolute() else Path.cwd() / path
    parent = absolute.parent.resolve()
    try:
        return (parent / absolute.name).relative_to(root).as_posix()
    except ValueError:
        return absolute.name


def _read_file(reading: _Reading, path: Path, at: Place, *, constraint: bool) -> None:
    try:
        real = path.resolve(strict=True)
        inside = real.relative_to(reading.root)
    except (OSError, RuntimeError):
        reading.problem(at, f"{path.name} cannot be read.", "Name a file of the repository.")
        return
    except ValueError:
        reading.problem(
            at,
            f"{path.name} lies outside the repository.",
            "Put the file into the repository and name it by a relative path.",
        )
        return
    if ".git" in inside.parts:
        reading.problem(at, f"{inside} belongs to git.", "Name a file of the project.")
        return
    if (real, constraint) in reading.files:
        return
    if len(reading.files) >= _MAX_FILES:
        reading.problem(at, f"more than {_MAX_FILES} files are included.", "Use fewer files.")
        return
    shown = inside.as_posix()
    reading.files[(real, constraint)] = shown
    text = _text(real)
    if text is None:
        reading.problem(
            Place(file=shown),
            "this is not a text file of at most 1 MiB.",
            "Save it as UTF-8 text.",
        )
        return
    for number, line in _logical_lines(text):
        _read_line(
            reading, line, Place(file=shown, line=number), folder=real.parent, constraint=constraint
        )


def _text(path: Path) -> str | None:
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


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
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


def _read_line(reading: _Reading, line: str, at: Place, *, folder: Path, constraint: bool) -> None:
    if _VARIABLE.search(line):
        reading.problem(
            at,
            "variables are not expanded in requirements: anyone who can edit this file could "
            "send a secret to a server of theirs.",
            "Set UV_INDEX_URL or UV_EXTRA_INDEX_URL (or PIP_…) in the environment instead.",
        )
        return
    if line.startswith("-"):
        _read_option(reading, line, at, folder=folder, constraint=constraint)
        return
    text, options = _split_options(line)
    entry = _entry(reading, text, options, at)
    if entry is None:
        return
    target = reading.constraints if constraint else reading.entries
    if len(target) >= _MAX_ENTRIES:
        reading.problem(at, f"more than {_MAX_ENTRIES} requirements.", "Name fewer packages.")
        return
    target.append(entry)


def _split_options(line: str) -> tuple[str, list[str]]:
    words = line.split()
    for index, word in enumerate(words):
        if word.startswith("--"):
            return " ".join(words[:index]), words[index:]
    return line, []


def _entry(reading: _Reading, text: str, options: list[str], at: Place) -> Entry | None:
    shown = text[:120]
    name, at_sign, address = text.partition("@")
    subject = _subject(text)
    if _VCS.match(text) or _VCS.match(address.strip()):
        reading.problem(
            at, f"{shown!r} is built from a repository's source.", _WHEELS_ONLY, subject
        )
        return None
    if at_sign and _URL.match(address.strip()):
        what = f"`{name.strip()[:80]}` comes from an address, not from an index."
        reading.problem(at, what, _by_name(), subject)
        return None
    if text.startswith((".", "/", "~")) or text.endswith((".whl", ".zip", ".tar.gz")):
        reading.problem(
            at,
            f"{shown!r} is a local path, which is built on the spot.",
            "Put the package's folder into `vendor/`, or publish it as a wheel.",
            subject,
        )
        return None
    if _URL.match(text):
        reading.problem(at, f"{shown!r} is an address, not a name.", _by_name(), subject)
        return None
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0] if str(error) else "it cannot be read"
        reading.problem(
            at,
            f"{shown!r} is not a requirement: {reason}.",
            "Write a name and a version, for example `requests==2.32.5`.",
            shown,
        )
        return None
    if requirement.url:
        what = f"`{requirement.name}` comes from an address, not from an index."
        reading.problem(at, what, _by_name(), subject)
        return None
    hashes: list[tuple[str, str]] = []
    words = iter(options)
    for word in words:
        option, equals, value = word.partition("=")
        if not equals:
            value = next(words, "")
        match = _HASH.fullmatch(value)
        if option == "--hash" and match is not None:
            hashes.append((match.group(1), match.group(2)))
        elif option == "--hash":
            reading.problem(
                at,
                f"the hash of {requirement.name} is not one that counts.",
                "Use `--hash=sha256:` and 64 hexadecimal digits.",
                requirement.name,
            )
            return None
        else:
            reading.problem(
                at,
                f"`{option[:40]}` of {requirement.name} has a meaning only when it is built.",
                _WHEELS_ONLY,
                requirement.name,
            )
            return None
    return Entry(requirement=requirement, at=at, hashes=tuple(hashes))


def _subject(text: str) -> str:
    """The package that a line is about, where it says so: `name @ …` or `…#egg=name`."""
    name = _EGG.search(text) or _NAME.match(text)
    return str(canonicalize_name(name.group(1))) if name else text[:120]


def _by_name() -> str:
    return (
        "Name the package and its version, with the index that has it (`--extra-index-url`), "
        "or put its files into `vendor/`."
    )


def _read_option(
    reading: _Reading, line: str, at: Place, *, folder: Path, constraint: bool
) -> None:
    try:
        words = shlex.split(line)
    except ValueError:
        reading.problem(at, "the quotes on this line do not match.", "Close the quotes.")
        return
    option, value = _option(words)
    match option:
        case "--requirement" | "--constraint":
            nested = constraint or option == "--constraint"
            _include(reading, value, at, folder, constraint=nested)
        case "--index-url":
            reading.index_url = _index(reading, value, at) or reading.index_url
        case "--extra-index-url":
            address = _index(reading, value, at)
            if address is not None:
                reading.extra_index_urls.append(address)
        case "--pre":
            reading.pre = True
        case "--require-hashes":
            reading.require_hashes = True
        case name if name in _WITHOUT_EFFECT:
            pass
        case "--editable":
            what = f"`-e {value[:80]}` is built from source on the spot."
            fix = "Put the package's folder into `vendor/` or `chalicelib/`."
            reading.problem(at, what, fix, _subject(value))
        case "--no-binary":
            what = f"`--no-binary {value[:80]}` asks for a build from source."
            reading.problem(at, what, _WHEELS_ONLY, value[:80])
        case "--find-links" | "--no-index":
            reading.problem(
                at,
                f"`{option}` is not supported: packages come from an index, by name.",
                "Name the index with `--index-url`, or put the files into `vendor/`.",
            )
        case "--trusted-host":
            reading.problem(
                at,
                "`--trusted-host` would switch off the check of the server's certificate.",
                "Give the index a certificate that the machine trusts (SSL_CERT_FILE).",
            )
        case _:
            reading.problem(
                at,
                f"the option `{option[:40]}` is not known.",
                "Take the line out, or say what it does with an option of pip's requirements.",
            )


def _option(words: list[str]) -> tuple[str, str]:
    first, rest = words[0], " ".join(words[1:])
    if first.startswith("--"):
        name, equals, value = first.partition("=")
        return name, value if equals else rest
    name = _SHORT.get(first[:2], first)
    return name, first[2:].lstrip("=") or rest


def _include(reading: _Reading, value: str, at: Place, folder: Path, *, constraint: bool) -> None:
    if not value or "://" in value:
        reading.problem(
            at,
            f"the included file {value[:80]!r} is not a file of the repository.",
            "Put the file into the repository and name it by a relative path.",
        )
        return
    if len(value) > 1000:
        reading.problem(at, "the path of the included file is too long.", "Use a shorter path.")
        return
    _read_file(reading, folder / value, at, constraint=constraint)


def _index(reading: _Reading, value: str, at: Place) -> str | None:
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme != "https":
        reading.problem(
            at,
            "an index must be an https address.",
            "Write `--index-url https://…`; an index without TLS can be set in the environment "
            "(UV_INDEX_URL).",
        )
        return None
    return value
