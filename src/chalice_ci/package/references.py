"""Requirements that say where they are: an address, a repository, a path of the project.

Only what a line says is read here. A wheel is taken as it is; all else has to be built, and is a
problem unless the configuration allows that.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from chalice_ci.findings import Place
from chalice_ci.package.lines import read_text
from chalice_ci.uv import masked

EVERYTHING = ":all:"
"""Stands for each name in the names that may be built."""

_ARCHIVES = (".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NAMED = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*@\s*(.+)", re.DOTALL)
_TRAILING_EXTRAS = re.compile(r"(.*[^\]])(\[[\w., -]*\])", re.DOTALL)
_HASH = re.compile(r"sha256=([0-9a-f]{64})")


class Kind(StrEnum):
    """What is at the place."""

    WHEEL = "wheel"
    ARCHIVE = "archive"
    REPOSITORY = "repository"
    PATH = "path"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A requirement with its place: `address` is a URL without fragment, or a path as written.

    `name` is None where only the thing itself tells; `marker` is "" without one. `revision` is a
    repository's, "" for its default branch. `sha256` is empty where none was given. The address may
    hold a password: show `shown`.
    """

    kind: Kind
    address: str
    at: Place
    name: str | None = None
    extras: tuple[str, ...] = ()
    marker: str = ""
    revision: str = ""
    subdirectory: str = ""
    sha256: str = ""

    @property
    def shown(self) -> str:
        """The reference for messages."""
        return self.name or masked(self.address)[:120]

    @property
    def is_local(self) -> bool:
        """Whether it is a path of the project."""
        return "://" not in self.address

    def __repr__(self) -> str:
        return f"Reference({self.kind}, {self.shown!r}, {self.at})"


class Refused(NamedTuple):
    """Why a line is not a reference that can be used."""

    what: str
    fix: str


def is_reference(text: str) -> bool:
    """Whether a line without options names a place."""
    plain = text.partition(";")[0].strip()
    return bool(
        _NAMED.match(text)
        or _URL.match(plain)
        or plain.startswith((".", "/", "~"))
        or plain.endswith((".whl", *_ARCHIVES))
        or "/" in plain
    )


def read_reference(
    text: str, at: Place, hashes: tuple[tuple[str, str], ...] = ()
) -> Reference | Refused:
    """What a line says, without looking whether it is there."""
    named = _NAMED.match(text)
    name, extras, rest = named.groups() if named else (None, None, text)
    address, _, marker = rest.partition(" ;") if named or " ;" in rest else (rest, "", "")
    address, marker = address.strip(), marker.strip()
    if not named and (trailing := _TRAILING_EXTRAS.fullmatch(address)):
        address, extras = trailing.groups()
    try:
        described = Requirement(f"{name or 'x'}{extras or ''}{f' ; {marker}' if marker else ''}")
        parts = urlsplit(address)
        _ = parts.hostname, parts.port
    except (InvalidRequirement, ValueError):
        return Refused(f"{masked(text)[:120]!r} cannot be read.", "Write `NAME @ https://…`.")
    fragment = {
        key: unquote(value)
        for key, _, value in (part.partition("=") for part in parts.fragment.split("&"))
    }
    egg = re.match(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?", fragment.get("egg", ""))
    name = name or (egg.group() if egg else None)
    given = _HASH.search(parts.fragment)
    sha256 = given.group(1) if given else next((v for k, v in hashes if k == "sha256"), "")
    subdirectory = fragment.get("subdirectory", "")
    if subdirectory.startswith("/") or ".." in subdirectory.split("/"):
        return Refused(f"the subdirectory of {name or 'it'} leads out of it.", "Name one in it.")
    plain = urlunsplit(parts._replace(fragment="")) if parts.scheme else address.partition("#")[0]
    found = _kind(plain, parts)
    if isinstance(found, Refused):
        return found
    kind, plain, revision = found
    if kind is Kind.REPOSITORY and sha256:
        return Refused("a repository has no hash.", "Pin a commit: `…@<40 digits>`.")
    return Reference(
        kind=kind,
        address=plain,
        at=at,
        name=None if name is None else str(canonicalize_name(name)),
        extras=tuple(sorted(described.extras)),
        marker=marker,
        revision=revision,
        subdirectory=subdirectory,
        sha256=sha256,
    )


def _kind(address: str, parts: SplitResult) -> tuple[Kind, str, str] | Refused:
    """The kind, the address without its prefix, the revision."""
    scheme = parts.scheme.lower()
    if "+" in scheme:
        system, _, transport = scheme.partition("+")
        if system != "git" or transport not in ("https", "http"):
            return Refused(
                f"{masked(address)[:120]!r} is built from a repository's source; only git over "
                "https is read"
                + (", for ssh needs the machine's keys." if "ssh" in transport else "."),
                "Write `git+https://…@COMMIT`, with a token as `${NAME}@` before the server's name "
                "where one is needed.",
            )
        path, at_sign, revision = parts.path.rpartition("@")
        url = parts._replace(scheme=transport, path=path if at_sign else parts.path, fragment="")
        return Kind.REPOSITORY, urlunsplit(url), revision if at_sign else ""
    if scheme in ("https", "http"):
        if parts.path.endswith(".whl"):
            return Kind.WHEEL, address, ""
        if parts.path.endswith(_ARCHIVES):
            return Kind.ARCHIVE, address, ""
        return Refused(
            f"{masked(address)[:120]!r} is an address of neither a wheel nor an archive.",
            f"Name a file that ends in .whl or {_ARCHIVES[0]}.",
        )
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            return Refused("a file of another machine is no file.", "Name a file of the project.")
        return Kind.WHEEL if parts.path.endswith(".whl") else Kind.PATH, unquote(parts.path), ""
    if scheme and len(scheme) > 1:
        return Refused(f"{scheme[:20]!r} is no way to fetch a package here.", "Use https.")
    return Kind.WHEEL if address.endswith(".whl") else Kind.PATH, address, ""


def may_be_built(name: str | None, allowed: Collection[str]) -> bool:
    """Whether the configuration allows this one; a nameless one only where all are allowed."""
    return EVERYTHING in allowed or (name is not None and name in allowed)


def in_project(found: Reference, folder: Path, *, root: Path) -> Reference | Refused:
    """The reference with its path relative to the repository's root."""
    place = inside(folder / found.address, root=root)
    if isinstance(place, Refused):
        return place
    path = root / place
    if found.kind is Kind.WHEEL or path.is_dir():
        name = found.name or (_static_name(path) if path.is_dir() else None)
        return replace(found, address=place.as_posix(), name=name)
    if path.name.endswith(_ARCHIVES):
        return replace(found, address=place.as_posix(), kind=Kind.ARCHIVE)
    return Refused(
        f"{place.as_posix()[:120]!r} is neither a folder nor an archive.",
        "Name the folder of a package, a wheel or a source distribution.",
    )


def inside(path: Path, *, root: Path) -> Path | Refused:
    """A path of the project, relative to the repository's root."""
    shown = ascii(path.name)[1:-1][:120]
    try:
        place = path.resolve(strict=True).relative_to(root)
    except (OSError, RuntimeError):
        return Refused(f"the local path {shown!r} cannot be read.", "Name what is in the project.")
    except ValueError:
        return Refused(
            f"the local path {shown!r} lies outside the repository.", "Put it into the repository."
        )
    if ".git" in place.parts:
        return Refused(f"{shown!r} belongs to git.", "Name a path of the project.")
    return place


def _static_name(folder: Path) -> str | None:
    """The name in a folder's pyproject.toml, when it stands there."""
    text = read_text(folder / "pyproject.toml")
    try:
        project = tomllib.loads(text or "").get("project")
        name = project.get("name") if isinstance(project, dict) else None
    except (ValueError, RecursionError):
        return None
    return str(canonicalize_name(name)) if isinstance(name, str) else None
