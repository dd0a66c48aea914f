"""What requirements.txt says, read here: uv is handed normalised requirements only.

A line of that file can make an installer run code (`--no-binary`, `-e`, `git+…`) or send a
credential somewhere (`--index-url https://elsewhere/${TOKEN}`), so each line becomes a
requirement, a setting of ours, or a problem that says why not and what to do. Variables are
expanded where the configuration allows it, and no file outside the project is opened.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from chalice_ci.errors import PackageError
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.package.lines import logical_lines, read_text
from chalice_ci.package.project_file import Exported
from chalice_ci.package.references import (
    EVERYTHING,
    Kind,
    Reference,
    Refused,
    in_project,
    inside,
    is_reference,
    may_be_built,
    read_reference,
)
from chalice_ci.package.unsolved import opt_in
from chalice_ci.package.variables import NO_VARIABLES, Variables
from chalice_ci.uv import masked

RULE = "requirements"

_MAX_FILES = 50
_MAX_ENTRIES = 2000
_MAX_PROBLEMS = 50

_HASH = re.compile(r"(sha256|sha384|sha512):([0-9a-f]{64,128})")
_SHORT = {"-r": "--requirement", "-c": "--constraint", "-i": "--index-url", "-f": "--find-links"}
_SHORT |= {"-e": "--editable"}
# They change nothing: only wheels are taken, in the order that the standard gives.
_WITHOUT_EFFECT = {"--prefer-binary", "--only-binary", "--use-feature"}

_WHEELS_ONLY = (
    "Only wheels go into a package, because building runs the dependency's code. "
    "Pin a version that has a wheel, or put what you built into `vendor/`."
)
_NO_OPTIONS = "Take the option out: builds get none here."


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
    """All that the files say, in their order. `problems` are errors that forbid packaging.

    `references` say where they are instead of which version; `link_folders` are folders of the
    project with wheels, relative to the repository's root, `find_links` such pages on servers;
    addresses may hold a password and are not shown. `from_source` are packages whose wheels are
    not to be taken.
    """

    entries: tuple[Entry, ...] = ()
    constraints: tuple[Entry, ...] = ()
    references: tuple[Reference, ...] = ()
    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    link_folders: tuple[str, ...] = ()
    no_index: bool = False
    from_source: tuple[str, ...] = ()
    pre: bool = False
    require_hashes: bool = False
    files: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()

    @property
    def file(self) -> str:
        """The file that the app begins with, for messages."""
        return self.files[0] if self.files else "requirements.txt"

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
    build: Collection[str]
    variables: Variables
    entries: list[Entry] = field(default_factory=list)
    constraints: list[Entry] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    index_url: str | None = None
    extra_index_urls: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    link_folders: list[str] = field(default_factory=list)
    no_index: bool = False
    from_source: list[str] = field(default_factory=list)
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


def read_requirements(
    app_dir: Path,
    *,
    repo_root: Path,
    build: Collection[str] = (),
    variables: Variables = NO_VARIABLES,
    export: Callable[[], Exported | None] = lambda: None,
) -> Requirements:
    """Read `requirements.txt` of an app and what it includes; no file means no requirements.

    Includes may lie anywhere in the repository, nowhere else. Places are relative to its root.
    `build` names what may be built from source, `variables` what `${NAME}` may stand for. `export`
    is asked where there is no
    requirements.txt.
    """
    root = repo_root.resolve()
    allowed = frozenset(n if n == EVERYTHING else str(canonicalize_name(n)) for n in build)
    reading = _Reading(root=root, build=allowed, variables=variables)
    path = app_dir / "requirements.txt"
    if path.exists() or path.is_symlink():
        _read_file(reading, path, Place(file=_shown(path, root)), constraint=False)
    elif (exported := export()) is not None:
        _read_exported(reading, exported)
    return Requirements(
        entries=tuple(reading.entries),
        constraints=tuple(reading.constraints),
        references=tuple(reading.references),
        index_url=reading.index_url,
        extra_index_urls=tuple(dict.fromkeys(reading.extra_index_urls)),
        find_links=tuple(dict.fromkeys(reading.find_links)),
        link_folders=tuple(dict.fromkeys(reading.link_folders)),
        no_index=reading.no_index,
        from_source=tuple(dict.fromkeys(reading.from_source)),
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
    text = read_text(real)
    if text is None:
        reading.problem(
            Place(file=shown),
            "this is not a text file of at most 1 MiB.",
            "Save it as UTF-8 text.",
        )
        return
    for number, line in logical_lines(text):
        _read_line(
            reading, line, Place(file=shown, line=number), folder=real.parent, constraint=constraint
        )


def _read_exported(reading: _Reading, exported: Exported) -> None:
    """Read what stands for requirements.txt; its lines are not those of the file itself."""
    at = Place(file=_shown(exported.source, reading.root))
    reading.files[(exported.source, False)] = at.file
    if exported.problem:
        reading.problem(at, exported.problem, exported.fix)
    for text, constraint in ((exported.text, False), (exported.constraints, True)):
        for _, line in logical_lines(text):
            _read_line(reading, line, at, folder=exported.folder, constraint=constraint)


def _read_line(reading: _Reading, line: str, at: Place, *, folder: Path, constraint: bool) -> None:
    expanded = reading.variables.expand(line)
    if isinstance(expanded, Refused):
        reading.problem(at, expanded.what, expanded.fix)
        return
    line = expanded
    if line.startswith("-"):
        _read_option(reading, line, at, folder=folder, constraint=constraint)
        return
    text, options = _split_options(line)
    if is_reference(text):
        _reference(reading, text, options, at, folder=folder, constraint=constraint)
        return
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
    shown = masked(text)[:120]
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
    hashes = _hashes(reading, options, requirement.name, at)
    return None if hashes is None else Entry(requirement=requirement, at=at, hashes=hashes)


def _hashes(
    reading: _Reading, options: list[str], name: str, at: Place
) -> tuple[tuple[str, str], ...] | None:
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
                f"the hash of {name} is not one that counts.",
                "Use `--hash=sha256:` and 64 hexadecimal digits.",
                name,
            )
            return None
        else:
            reading.problem(
                at,
                f"`{masked(option)[:40]}` of {name} has a meaning only when it is built.",
                _NO_OPTIONS,
                name,
            )
            return None
    return tuple(hashes)


def _reference(
    reading: _Reading, text: str, options: list[str], at: Place, *, folder: Path, constraint: bool
) -> None:
    hashes = _hashes(reading, options, masked(text)[:80], at)
    if hashes is None:
        return
    found = read_reference(text, at, hashes)
    if isinstance(found, Reference) and found.is_local:
        found = in_project(found, folder, root=reading.root)
    if isinstance(found, Refused):
        reading.problem(at, found.what, found.fix, masked(text)[:120])
        return
    subject = found.name or masked(text)[:120]
    if constraint:
        reading.problem(
            at,
            f"{found.shown!r} is a place, and a constraint is a version.",
            "Name it in requirements.txt itself.",
            subject,
        )
    elif found.name == "chalice":
        reading.problem(
            at,
            "Chalice is asked for by an address; only its releases are packaged.",
            "Write `chalice==VERSION`.",
            subject,
        )
    elif found.kind is not Kind.WHEEL and not may_be_built(found.name, reading.build):
        reading.problem(
            at,
            f"{found.shown!r} is built from source ({_KINDS[found.kind]}).",
            f"Pin a version that has a wheel, put what you built into `vendor/`, or "
            f"{opt_in([found.name] if found.name else ())}.",
            subject,
        )
    elif len(reading.references) >= _MAX_ENTRIES:
        reading.problem(at, f"more than {_MAX_ENTRIES} requirements.", "Name fewer packages.")
    else:
        reading.references.append(found)


_KINDS = {
    Kind.ARCHIVE: "an archive at an address",
    Kind.REPOSITORY: "a repository",
    Kind.PATH: "a local path",
}


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
            text = value if is_reference(value) else f"./{value}"
            _reference(reading, text, [], at, folder=folder, constraint=constraint)
        case "--no-binary":
            _no_binary(reading, value, at)
        case "--find-links":
            _find_links(reading, value, at, folder)
        case "--no-index":
            reading.no_index = True
        case "--trusted-host":
            reading.problem(
                at,
                "`--trusted-host` would switch off the check of the server's certificate.",
                "Give the index a certificate that the machine trusts (SSL_CERT_FILE).",
            )
        case _:
            reading.problem(
                at,
                f"the option `{masked(option)[:40]}` is not known.",
                "Take the line out, or say what it does with an option of pip's requirements.",
            )


def _no_binary(reading: _Reading, value: str, at: Place) -> None:
    names = [name.strip() for name in masked(value).split(",") if name.strip()]
    for name in names or [value]:
        normal = str(canonicalize_name(name))
        if name == ":none:":
            reading.from_source.clear()
        elif name and name != EVERYTHING and may_be_built(normal, reading.build):
            reading.from_source.append(normal)
        else:
            every = not name or name == EVERYTHING
            reading.problem(
                at,
                f"`--no-binary {masked(value)[:80]}` asks for a build from source.",
                "Name the packages that it is needed for."
                if every
                else f"{_WHEELS_ONLY} Or {opt_in([normal])}.",
                masked(value)[:80],
            )


def _find_links(reading: _Reading, value: str, at: Place, folder: Path) -> None:
    if "://" in value and not value.lower().startswith("file:"):
        address = _index(reading, value, at)
        if address is not None:
            reading.find_links.append(address)
        return
    found = inside(folder / value.removeprefix("file://"), root=reading.root) if value else None
    if isinstance(found, Path) and (reading.root / found).is_dir():
        reading.link_folders.append(found.as_posix())
        return
    why = found.what if isinstance(found, Refused) else "it is no folder of the project."
    reading.problem(
        at,
        f"`--find-links {masked(value)[:80]}`: {why}",
        "Name a folder of the project with wheels in it, or an https address.",
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
            f"the included file {masked(value)[:80]!r} is not a file of the repository.",
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
