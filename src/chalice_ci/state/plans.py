"""Sealed plans in the store, on their way from the job that plans to the one that applies them.

A plan is kept whole, its packages too, under the day after which it is of no use and its digest:
`2026-11-28.<sha256>`. Who applies it names both, so a plan that somebody put in its place is not
taken, whoever may write to the store. What was applied is removed, and so is what expired, when
the next plan is kept.

On a repository each is a branch of its own, with one commit that has no parent: what is removed
leaves no history behind, and no workflow is in it that a push could start.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

from chalice_ci.errors import ForgeError, PlanRefused, StateNotRecorded, UsageError
from chalice_ci.state.git_repository import GitFailed, Repository

PREFIX = "store:"
"""What the input `plan` begins with when it names a plan of the store."""
MAX_ON_BRANCH = 32 * 1024 * 1024
"""Bytes: a forge's API takes a file in one request, a third longer."""

_NAME = re.compile(r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})\.(?P<digest>[0-9a-f]{64})")
_FILE = "chalice-ci.plan"
_ATTEMPTS = 4

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, order=True)
class PlanName:
    """What a kept plan is called: `day` is the last one on which it may be applied, in UTC."""

    day: date
    digest: str

    def __str__(self) -> str:
        return f"{self.day.isoformat()}.{self.digest}"

    @property
    def reference(self) -> str:
        """What the input `plan` says to take it."""
        return f"{PREFIX}{self}"

    @classmethod
    def of(cls, text: str) -> PlanName | None:
        """The name, None for what is none."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        try:
            return cls(day=date.fromisoformat(match["day"]), digest=match["digest"])
        except ValueError:
            return None


def referred(text: str) -> PlanName | None:
    """The plan of the store that an input names, None when it is a path.

    Raises UsageError for a name that no plan has.
    """
    if not text.startswith(PREFIX):
        return None
    name = PlanName.of(text.removeprefix(PREFIX))
    if name is None:
        raise UsageError(
            f"{text[:120]!r} names no plan of the store.",
            where="input plan",
            fix="Give what the job that planned has as its output `plan`: "
            f"{PREFIX}YYYY-MM-DD.DIGEST, with all 64 digits of the digest.",
        )
    return name


class PlanStore(Protocol):
    """Where plans are kept until they are applied.

    Everything raises UserError for what the store refuses, and says where.
    """

    def keep_plan(self, name: PlanName, file: Path) -> None:
        """Keep a file under a name. Raises StateNotRecorded, and UsageError for one too large."""
        ...

    def fetch_plan(self, name: PlanName, into: Path) -> bool:
        """Write what is kept under a name into a file; whether there is such a plan."""
        ...

    def kept_plans(self) -> tuple[PlanName, ...]:
        """The names of all that are kept."""
        ...

    def drop_plan(self, name: PlanName) -> None:
        """Remove a plan; one that is gone already is fine."""
        ...


def fetched(plans: PlanStore, name: PlanName, folder: Path) -> Path:
    """A kept plan as a file; raises PlanRefused when it is not there."""
    file = folder / f"{name}.plan"
    if not file.exists() and not plans.fetch_plan(name, file):
        raise PlanRefused(
            "the store has no such plan (any more): it was applied, or it expired and was removed.",
            where=name.reference,
            fix="Make a new one: chalice-ci plan --plan-store",
        )
    return file


class FolderPlans:
    """Plans as files of a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep_plan(self, name: PlanName, file: Path) -> None:
        """Copy the file; a complete one takes the place of what was there."""
        partial = self._folder / f".{name}.new"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(file.read_bytes())
            partial.chmod(0o600)
            partial.replace(self._path(name))
        except OSError as error:
            raise StateNotRecorded(
                f"The plan can't be kept: {error.strerror}.",
                where=str(self._folder),
                fix="Give this user the right to write there.",
            ) from error

    def fetch_plan(self, name: PlanName, into: Path) -> bool:
        """Copy it back."""
        try:
            into.write_bytes(self._path(name).read_bytes())
        except FileNotFoundError:
            return False
        return True

    def kept_plans(self) -> tuple[PlanName, ...]:
        """What is in the folder and named like a plan."""
        found = (PlanName.of(path.stem) for path in self._folder.glob("*.plan"))
        return tuple(sorted(name for name in found if name is not None))

    def drop_plan(self, name: PlanName) -> None:
        """Remove its file."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: PlanName) -> Path:
        return self._folder / f"{name}.plan"


class GitPlans:
    """Plans as branches `<prefix>/<name>` of a repository, each with one file."""

    def __init__(
        self,
        repository: Repository,
        *,
        prefix: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._repository = repository
        self._prefix = f"refs/heads/{prefix}/"
        self._sleep = sleep

    def keep_plan(self, name: PlanName, file: Path) -> None:
        """Make the branch; one that is there holds what has this very digest."""
        size = file.stat().st_size
        if size > MAX_ON_BRANCH:
            raise UsageError(
                f"the plan has {size} bytes; on a branch at most {MAX_ON_BRANCH} are kept.",
                where=name.reference,
                fix="Hand it on as an artifact, without `plan-store`, or keep the state in a "
                "bucket (`state: {store: s3}`).",
            )
        data = file.read_bytes()

        def keep() -> None:
            commit = self._repository.objects.commit(
                None, {_FILE: data}, f"Keep the plan {name.digest[:12]} [skip ci]\n"
            )
            self._repository.advance(self._ref(name), new=commit, old=None)

        try:
            self._patiently(keep)
        except GitFailed as error:
            raise StateNotRecorded(
                f"The plan can't be kept: {error}.",
                where=self._repository.name,
                fix="See that the repository can be reached and written to "
                "(`permissions: {contents: write}` on GitHub).",
            ) from error

    def fetch_plan(self, name: PlanName, into: Path) -> bool:
        """Read the branch's file."""

        def read() -> bytes | None:
            commit = self._repository.head(self._ref(name), (_FILE,))
            objects = self._repository.objects
            blob = None if commit is None else objects.blob(commit, _FILE)
            return None if blob is None else objects.content(blob, _FILE, limit=MAX_ON_BRANCH)

        data = self._asked(read)
        if data is None:
            return False
        into.write_bytes(data)
        return True

    def kept_plans(self) -> tuple[PlanName, ...]:
        """The branches that are named like plans."""
        refs = self._asked(lambda: self._repository.refs(self._prefix))
        found = (PlanName.of(ref.removeprefix(self._prefix)) for ref in refs)
        return tuple(sorted(name for name in found if name is not None))

    def drop_plan(self, name: PlanName) -> None:
        """Delete the branch."""
        self._asked(lambda: self._repository.drop(self._ref(name)))

    def _ref(self, name: PlanName) -> str:
        return f"{self._prefix}{name}"

    def _asked(self, ask: Callable[[], _T]) -> _T:
        try:
            return self._patiently(ask)
        except GitFailed as error:
            raise ForgeError(
                f"The kept plans can't be reached: {error}.",
                where=self._repository.name,
                fix="See that the repository is there, then run again.",
            ) from error

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        for attempt in range(_ATTEMPTS - 1):
            try:
                return ask()
            except GitFailed:
                self._sleep(0.5 * 2.0**attempt)
        return ask()
