"""What every store of deployed states promises, and the names it is asked by.

A store keeps one state per app and stage.  `write` is a compare-and-swap on that state alone:
writers of other stages never disturb each other, of two writers of the same stage one is told
that the state moved.  Writing what is already there writes nothing.

Beside Chalice's file a snapshot may stand: what was deployed, for a later difference.  It goes with
the state, in one step: a state whose snapshot is not known has none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from chalice_ci.errors import StateMoved, UsageError
from chalice_ci.state.schema import StageState

ABSENT = ""
"""The version of a state that was never written."""

_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_FILE = re.compile(r"(?:(?P<app>.+)/)?\.chalice/deployed/(?P<stage>[^/]+)\.json")
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Windows cannot check out a tree with such a file name.
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])")


@dataclass(frozen=True, kw_only=True)
class StateKey:
    """One stage of one app; raises UsageError for names that are no safe file names.

    `app_path` is the app's folder relative to the repository's root, POSIX, "." for the root.
    """

    app_path: str
    stage: str

    def __post_init__(self) -> None:
        if not _STAGE.fullmatch(self.stage) or _RESERVED.fullmatch(self.stage):
            raise UsageError(
                f"{self.stage[:100]!a} is not the name of a stage.",
                where="stage",
                fix="Use letters, digits, - and _, beginning with a letter or a digit.",
            )
        problem = _problem_of_path(self.app_path)
        if problem:
            raise UsageError(
                f"{self.app_path[:200]!a} {problem}.",
                where="app path",
                fix="Give the app's folder relative to the repository's root, such as "
                'services/orders, or "." for the root.',
            )

    @property
    def file(self) -> str:
        """The state's path below the root of the store: Chalice's own file of that app."""
        folder = "" if self.app_path == "." else f"{self.app_path}/"
        return f"{folder}.chalice/deployed/{self.stage}.json"

    @property
    def snapshot_file(self) -> str:
        """The path of the snapshot beside the state; Chalice does not look at it."""
        return f"{self.file.removesuffix('.json')}.snapshot.json"

    @property
    def journal_file(self) -> str:
        """The path of the journal beside the state: there while a deploy is not finished."""
        return f"{self.file.removesuffix('.json')}.journal.json"

    @property
    def releases_file(self) -> str:
        """The path of the list of releases beside the state."""
        return f"{self.file.removesuffix('.json')}.releases.json"

    @property
    def files(self) -> tuple[str, ...]:
        """The state and all that may stand beside it."""
        return (self.file, self.journal_file, self.snapshot_file, self.releases_file)

    @property
    def v1_file(self) -> str:
        """Where Chalice before 1.2 kept all stages of the app."""
        folder = "" if self.app_path == "." else f"{self.app_path}/"
        return f"{folder}.chalice/deployed.json"

    @classmethod
    def of_file(cls, file: str) -> StateKey | None:
        """The key of a path below the root, None if no state is kept there."""
        match = _FILE.fullmatch(file)
        if match is None:
            return None
        try:
            return cls(app_path=match["app"] or ".", stage=match["stage"])
        except UsageError:
            return None

    @classmethod
    def of_either(cls, file: str) -> StateKey | None:
        """The key of a state's or a journal's path below the root, None for other files."""
        return cls.of_file(file) or cls.of_journal(file)

    @classmethod
    def of_journal(cls, file: str) -> StateKey | None:
        """The key of a journal's path below the root, None if it is no journal's."""
        name = file.removesuffix(".journal.json")
        return None if name == file else cls.of_file(f"{name}.json")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The journal beside a state, unread: `raw` is None and `version` "" when there is none."""

    raw: bytes | None = None
    version: str = ABSENT


NO_JOURNAL = Kept()


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a store holds for a key: `state` is None and `version` is "" when there is nothing."""

    state: StageState | None
    version: str
    journal: Kept = NO_JOURNAL


@dataclass(frozen=True, kw_only=True)
class JournalChange:
    """A journal to put in the place of the version `expected`; `raw` None removes it."""

    raw: bytes | None
    expected: str


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a write did: `version` is the state's now, `commit` the new commit of a git store."""

    changed: bool
    version: str
    commit: str | None = None


class StateStore(Protocol):
    """Where deployed states are kept."""

    def read(self, key: StateKey) -> Stored:
        """The state now. Raises StateDamaged for a file that Chalice did not write."""
        ...

    def snapshot(self, key: StateKey) -> bytes | None:
        """The snapshot beside the state, unread; None when there is none."""
        ...

    def releases(self, key: StateKey) -> bytes | None:
        """The list of releases beside the state, unread; None when there is none."""
        ...

    def write(
        self,
        key: StateKey,
        state: StageState | None,
        *,
        expected: str,
        message: str,
        snapshot: bytes | None = None,
        journal: JournalChange | None = None,
        releases: bytes | None = None,
    ) -> Written:
        """Replace the version `expected` (as `read` gave it), or raise StateMoved.

        The snapshot is replaced with it, and removed when none is given; the list of releases stays
        as it is when none is given, and goes with the state; the journal stays as it is
        when none is given, and a journal of another version than the expected one is a StateMoved
        too. No state removes the record. Raises StateNotRecorded when the store refuses or fails;
        the old state stands then.
        `message` says why, for stores that keep a history.
        """
        ...

    def keep_journal(
        self, key: StateKey, journal: JournalChange, *, state: str, message: str
    ) -> str:
        """Replace the journal alone; its new version.

        Raises StateMoved when the journal is not the expected one or the state's version is not
        `state`, and StateNotRecorded when the store refuses or fails.
        """
        ...

    def keys(self) -> tuple[StateKey, ...]:
        """Every app and stage that the store has a state of, sorted by file."""
        ...

    def known(self) -> tuple[StateKey, ...]:
        """Every app and stage that the store has a state or a journal of, sorted by file."""
        ...


def commit_message(*, app: str, stage: str, commit: str, result: str, run: str = "") -> str:
    """The message of the commit that records a state; `[skip ci]` keeps it from starting a run.

    `commit` is what was deployed, `result` a word or two ("deployed", "failed after 3 of 9"),
    `run` an address of the run that did it.
    """
    fields = {"App": app, "Stage": stage, "Commit": commit, "Result": result, "Run": run}
    trailers = [f"{name}: {_one_line(value)}" for name, value in fields.items() if value]
    at = f" at {_one_line(commit)[:12]}" if commit else ""
    subject = f"{_one_line(app)}/{_one_line(stage)}: {_one_line(result)}{at} [skip ci]"
    return "\n".join([subject, "", *trailers, ""])


def keys_of(files: Iterable[str], key_of: Callable[[str], StateKey | None]) -> tuple[StateKey, ...]:
    """The keys that `key_of` finds in paths below the root, each once, sorted by file."""
    found = {key for file in files if (key := key_of(file)) is not None}
    return tuple(sorted(found, key=lambda key: key.file))


def moved(key: StateKey, *, where: str) -> StateMoved:
    """The error of a writer whose state was changed by somebody else."""
    return StateMoved(
        f"The state of {key.file} was changed by another run since it was read.",
        where=where,
        fix="Run again: the new state is read and the plan made anew.",
    )


def refuse_case_collision(key: StateKey, others: Iterable[StateKey]) -> None:
    """Raise UsageError when another key's file differs in case only: macOS holds one of them."""
    for other in others:
        if other != key and other.file.casefold() == key.file.casefold():
            raise UsageError(
                f"{key.file} differs from the recorded {other.file} in upper and lower case only.",
                where=key.stage,
                fix="Name the stage as it is recorded, or choose another name.",
            )


def _one_line(text: str) -> str:
    kept = (" " if unicodedata.category(c) in _REFUSED_CATEGORIES else c for c in text)
    return " ".join("".join(kept).split())[:200]


def _problem_of_path(path: str) -> str:
    if path == ".":
        return ""
    if len(path.encode("utf-8", "surrogatepass")) > 1024:
        return "is too long"
    if any(unicodedata.category(c) in _REFUSED_CATEGORIES for c in path) or "\\" in path:
        return "holds a character that no folder of an app may have"
    for part in path.split("/"):
        if part in {"", ".", ".."}:
            return "is not a plain relative path"
        if part.casefold() in {".git", "git~1", ".chalice"} or part.endswith((" ", ".")):
            return f"has the part {part!r}, which no folder of an app may be"
        if len(part.encode()) > 255:
            return "has a part that is too long"
    return ""
