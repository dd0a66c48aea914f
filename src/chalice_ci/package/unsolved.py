"""Why requirements cannot be locked: what uv says, in words that name the line and the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalice_ci.errors import PackageError
from chalice_ci.package.target import Target
from chalice_ci.uv import NoSolution

if TYPE_CHECKING:
    from chalice_ci.package.requirements import Requirements

_NO_WHEEL = re.compile(r"\b([A-Za-z0-9][\w.-]*)(==[^\s,]+)? has no (?:usable )?wheels")
_REQUIRED = re.compile(r"Wheels are required for `([A-Za-z0-9][\w.-]*)`")
_NOT_FOUND = re.compile(r"\b([A-Za-z0-9][\w.-]*) was not found in the package registry")
_NO_VERSION = re.compile(r"there (?:is|are) no versions? of ([A-Za-z0-9][\w.-]*?)(==[^\s,]+)?\b")


class NeedsSource(PackageError):
    """Some packages have no wheel: `names`, normalised."""

    def __init__(self, what: str, *, where: str, fix: str, names: tuple[str, ...]) -> None:
        super().__init__(what, where=where, fix=fix)
        self.names = names


@dataclass(frozen=True, kw_only=True)
class Hopeless:
    """A line that cannot be had, what uv says about it, and the next version that has a wheel."""

    line: str
    said: str
    later: str = ""

    @property
    def has_no_wheel(self) -> bool:
        """Whether it could be had if it were built."""
        return lacks_wheel(self.said)


def lacks_wheel(said: str) -> bool:
    """Whether uv says that a wheel is missing."""
    return _NO_WHEEL.search(said) is not None


def opt_in(names: Iterable[str]) -> str:
    """What to write where building is wanted."""
    listed = ", ".join(sorted(set(names))) or "NAME"
    return (
        f"allow it to be built from source with `package: {{build: [{listed}]}}` in chalice-ci.yml "
        "(its code runs shut in, without credentials)"
    )


def _without_wheels(error: NoSolution, hopeless: tuple[Hopeless, ...]) -> tuple[str, ...]:
    texts = (error.output, *(one.said for one in hopeless))
    found = [m.group(1) for text in texts for m in (*_REQUIRED.finditer(text),)]
    found += [m.group(1) for text in texts for m in _NO_WHEEL.finditer(text)]
    return tuple(dict.fromkeys(str(canonicalize_name(name)) for name in found))


def explained(
    error: NoSolution, target: Target, hopeless: tuple[Hopeless, ...], requirements: Requirements
) -> PackageError:
    """The error that tells it: NeedsSource where a wheel is missing."""
    where = f"Python {target.python} on {target.architecture}"
    file = requirements.file
    names = _without_wheels(error, hopeless)
    if not hopeless:
        # A dependency of a dependency, or a contradiction: uv tells who wants what.
        what = _reason(error.what, where) or f"the requirements contradict each other for {where}"
        what = f"{what}. {error.what}"
        fix = (
            "Loosen or update one of the pins that are named, or put what you built into `vendor/`."
        )
        if not names:
            return PackageError(what, where=file, fix=fix)
        return NeedsSource(what, where=file, fix=f"{fix} Or {opt_in(names)}.", names=names)
    told = []
    without = [one for one in hopeless if one.has_no_wheel]
    if without:
        listed = ", ".join(_listed(one, requirements) for one in without)
        told.append(f"no wheel for Lambda ({where}): {listed}")
    told += [
        _reason(one.said, where) or f"`{one.line}` cannot be had for {where}: {one.said}"
        for one in hopeless
        if not one.has_no_wheel
    ]
    fixes = []
    if without:
        fixes.append(
            "Pin a version that has a wheel, put what you built into `vendor/`, or "
            f"{opt_in(_name(one.line) for one in without)}."
        )
    if len(without) < len(hopeless):
        fixes.append(
            "Look at the spelling and the version, or name the index that has it with "
            "`--extra-index-url`."
        )
    what, fix = "; ".join(told) + ".", " ".join(fixes)
    if not names:
        return PackageError(what, where=file, fix=fix)
    return NeedsSource(what, where=file, fix=fix, names=names)


def _name(line: str) -> str:
    return str(canonicalize_name(Requirement(line).name))


def _listed(one: Hopeless, requirements: Requirements) -> str:
    at = next((entry.at for entry in requirements.entries if entry.text == one.line), None)
    about = [f"{at}"] if at else []
    about += [f"{one.later} has one"] if one.later else []
    return f"`{one.line}`" + (f" ({', '.join(about)})" if about else "")


def _reason(said: str, where: str) -> str:
    if match := _NOT_FOUND.search(said):
        return f"`{match.group(1)}` is not in the package index"
    if match := _NO_WHEEL.search(said):
        return f"`{match.group(1)}{match.group(2) or ''}` has no wheel for Lambda ({where})"
    if match := _NO_VERSION.search(said):
        version = match.group(2) or ""
        return f"there is no such version of `{match.group(1)}{version}` for {where}"
    return ""
