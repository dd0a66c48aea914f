"""The model of a readable difference; every rendering reads this and nothing else.

A `Changes` belongs to one app and stage. `items` are what changed in what the stage is, each with
what it means; `package` is what changed in what it is made of. Texts may be hostile, the renderings
make them harmless; values of environment variables have no place here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Area(StrEnum):
    """What kind of thing changed, in the order in which it is told."""

    API = "api"
    DOMAIN = "domain"
    ROUTE = "route"
    AUTHORIZER = "authorizer"
    FUNCTION = "function"
    TRIGGER = "trigger"
    ROLE = "role"
    LAYER = "layer"
    FEATURE = "feature"
    RUNTIME = "runtime"
    """Chalice, Python, architecture, the app's name: what all functions share."""


class Kind(StrEnum):
    """What became of it."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Risk(StrEnum):
    """What a reviewer must not overlook, worst first."""

    DESTRUCTIVE = "destructive"
    """A resource that holds an address or data is replaced or lost."""
    WILDCARD = "wildcard"
    """A permission with `*` that was not there."""
    WIDENED = "widened"
    """More is permitted than before."""
    WEAKENED = "weakened"
    """Callers are checked less than before, or a browser is allowed more."""


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A setting before and after; None where there is none. Both None: only known to differ."""

    name: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Risky:
    """A risk and why, in one sentence."""

    risk: Risk
    why: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that was added, changed or removed.

    `subject` names it as people do ("GET /orders", "worker", "default-role"); `function` is the
    Lambda function it belongs to, where it belongs to one. `details` are in a stable order.
    """

    area: Area
    kind: Kind
    subject: str
    function: str = ""
    details: tuple[Detail, ...] = ()
    risks: tuple[Risky, ...] = ()

    @property
    def destructive(self) -> bool:
        """Whether something that holds an address or data is replaced or lost."""
        return self.has(Risk.DESTRUCTIVE)

    def has(self, risk: Risk) -> bool:
        """Whether the change carries this risk."""
        return any(one.risk is risk for one in self.risks)


@dataclass(frozen=True, kw_only=True)
class DependencyChange:
    """A distribution whose version or content changed. Versions are "" where it is not there.

    `direct` when the project names it (after the change, for a removed one before); sizes are
    bytes, unpacked and in the zip.
    """

    name: str
    kind: Kind
    before: str
    after: str
    direct: bool
    size_before: int
    size_after: int
    packed_before: int
    packed_after: int

    @property
    def delta(self) -> int:
        """Bytes that the zip grew by because of it."""
        return self.packed_after - self.packed_before


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A file of the package; sizes in bytes, unpacked."""

    path: str
    slot: str
    kind: Kind
    dependency: str
    size_before: int
    size_after: int

    @property
    def delta(self) -> int:
        """Bytes that it grew by."""
        return self.size_after - self.size_before


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What made the package larger, unpacked: `kind` is "file" or "dependency"."""

    kind: str
    name: str
    before: int
    after: int

    @property
    def delta(self) -> int:
        """Bytes that it grew by."""
        return self.after - self.before


@dataclass(frozen=True, kw_only=True)
class PackageChanges:
    """What changed in the archives together; sizes in bytes, zipped and unpacked.

    `files` are the project's own files, at most `MAX_FILES` of them by the bytes they changed by,
    in the order of their paths; `files_added` and so on count all files, also those of
    dependencies. `growth` are the largest growths, largest first.
    """

    size_before: int
    size_after: int
    unpacked_before: int
    unpacked_after: int
    dependencies: tuple[DependencyChange, ...] = ()
    files: tuple[FileChange, ...] = ()
    files_added: int = 0
    files_changed: int = 0
    files_removed: int = 0
    own_files: int = 0
    """How many of the project's own files changed; more than `files` lists when they are many."""
    growth: tuple[Growth, ...] = ()

    @property
    def delta(self) -> int:
        """Bytes that the zips grew by."""
        return self.size_after - self.size_before


MAX_FILES = 200


class BaselineKind(StrEnum):
    """What a stage was compared with."""

    DEPLOYED = "deployed"
    """What is recorded as deployed in the stage."""
    BASE = "base"
    """The merge base of the pull request."""
    COMMIT = "commit"
    """A commit that was named."""
    NONE = "none"
    """Nothing: the stage or the app is new."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a stage was compared with.

    `commit` is the commit that it was built from, where that is known. `problem` says why there is
    nothing to compare with, and `fix` what to do about it.
    """

    kind: BaselineKind
    commit: str = ""
    problem: str = ""
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Everything that is different between a baseline and a stage as it is now.

    With a `baseline.problem` there was nothing to compare: `items` is empty and `package` None.
    """

    baseline: Baseline
    items: tuple[Change, ...] = ()
    package: PackageChanges | None = None

    @property
    def known(self) -> bool:
        """Whether there was something to compare with."""
        return not self.baseline.problem

    @property
    def empty(self) -> bool:
        """Whether nothing changed, the package's bytes included."""
        package = self.package
        return not self.items and (
            package is None
            or not (
                package.dependencies
                or package.files_added
                or package.files_changed
                or package.files_removed
            )
        )

    def count(self, kind: Kind) -> int:
        """How many items were added, changed or removed: the comment's `+2 ~1 -0`."""
        return sum(1 for item in self.items if item.kind is kind)

    def of_area(self, area: Area) -> tuple[Change, ...]:
        """The items of one area, in order."""
        return tuple(item for item in self.items if item.area is area)

    def with_risk(self, risk: Risk) -> tuple[Change, ...]:
        """The items that carry a risk, in order."""
        return tuple(item for item in self.items if item.has(risk))

    @property
    def destructive(self) -> tuple[Change, ...]:
        """The items by which an address or data is lost."""
        return self.with_risk(Risk.DESTRUCTIVE)

    @property
    def widened_iam(self) -> tuple[Change, ...]:
        """The items by which functions are permitted more than before."""
        return tuple(
            item for item in self.items if item.has(Risk.WIDENED) or item.has(Risk.WILDCARD)
        )


_AREAS = {area: number for number, area in enumerate(Area)}
_KINDS = {kind: number for number, kind in enumerate((Kind.REMOVED, Kind.CHANGED, Kind.ADDED))}
_RISKS = {risk: number for number, risk in enumerate(Risk)}


def in_order(items: Iterable[Change]) -> tuple[Change, ...]:
    """Changes in the one order in which they are told: by area, what is lost first, by name."""
    return tuple(
        sorted(
            items,
            key=lambda item: (
                _AREAS[item.area],
                min((_RISKS[one.risk] for one in item.risks), default=len(_RISKS)),
                _KINDS[item.kind],
                item.subject,
                item.function,
                # Two layers may have one name in AWS: whatever else is told decides.
                repr((item.details, item.risks)),
            ),
        )
    )
