"""States on one branch of a git repository, without touching anybody's worktree.

A state is `<app path>/.chalice/deployed/<stage>.json` on the branch `chalice-state` (or on the
branch that holds the code, if a project asks for that).  A write makes one commit whose parent is
the head that was read, and moves the branch only if that head still stands: compare-and-swap over
the whole branch.  When another stage's writer was faster, the write is made again on its head;
when our own file changed, the writer is told.

Two places: `LocalRepository` moves the branch in a repository on this machine with plumbing
alone - index, HEAD and files of its worktree stay as they are; `RemoteRepository` fetches and
pushes that one branch through a bare clone of its own.

git runs with an environment made here.  No hook, filter, alias, helper, pager or fsmonitor of a
user's or a repository's configuration gets to run; a credential travels in git's environment,
never in an address or an argument.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from chalice_ci.config import STATE_BRANCH
from chalice_ci.errors import ForgeError, StateNotRecorded, UsageError
from chalice_ci.snapshot_document import MAX_BYTES as MAX_SNAPSHOT_BYTES
from chalice_ci.state.git_repository import (
    GIT_SECONDS,
    SPREAD,
    Advance,
    Blob,
    GitFailed,
    Objects,
    Repository,
    git_blob_id,
    reason_of,
    said,
)
from chalice_ci.state.releases import MAX_BYTES as MAX_RELEASES_BYTES
from chalice_ci.state.schema import StageState, parse_v1, parse_v2, render
from chalice_ci.state.store import (
    ABSENT,
    NO_JOURNAL,
    JournalChange,
    Kept,
    StateKey,
    Stored,
    Written,
    keys_of,
    moved,
    refuse_case_collision,
)

SKIP_CI = "[skip ci]"
ATTEMPTS = 60
MAX_PAUSE_SECONDS = 180.0
FAILURES = 4
FRESH_SECONDS = 2.0

_T = TypeVar("_T")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_SCP_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![/\\]{2}).+")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A state that was found committed beside the code; `file` says in which of Chalice's files."""

    state: StageState
    file: str
    commit: str


class RemoteRepository:
    """A repository behind an address: `https`, `http`, `ssh`, `file` or a path.

    `authorization` is the value of an HTTP Authorization header ("Basic ...", "Bearer ..."), sent
    to that host alone.  `work_dir` holds a bare clone that lives as long as this object; only one
    snapshot of one branch is fetched.
    """

    def __init__(
        self,
        url: str,
        *,
        work_dir: Path,
        environ: Mapping[str, str],
        authorization: str = "",
        ssh_command: str = "ssh -o BatchMode=yes",
        clock: Callable[[], float] = time.time,
        seconds: float = GIT_SECONDS,
    ) -> None:
        scheme = _scheme(url)
        if authorization and scheme != "https" and _host(url) not in _LOOPBACK:
            raise UsageError(
                "A credential is not sent over an unencrypted connection.",
                where=url,
                fix="Use the https address of the repository.",
            )
        self._url = url
        # Only for a repository on this machine: its owner may be another user.
        self._upload, self._receive = (
            (f"--upload-pack={_AS_SAFE} upload-pack", f"--receive-pack={_AS_SAFE} receive-pack")
            if scheme == "file"
            else ("--upload-pack=git-upload-pack", "--receive-pack=git-receive-pack")
        )
        settings = []
        if authorization:
            parts = urlsplit(url)
            settings.append(
                (
                    f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
                    f"Authorization: {authorization}",
                )
            )
        scratch = Path(tempfile.mkdtemp(prefix="git-", dir=work_dir))
        self._clone = scratch / "clone.git"
        self._objects = Objects(
            self._clone,
            scratch=scratch,
            environ=environ,
            protocols="none",
            settings=settings,
            variables={"GIT_SSH_COMMAND": ssh_command, "GIT_SSH_VARIANT": "ssh"},
            clock=clock,
            seconds=seconds,
        )
        self._network = {"GIT_ALLOW_PROTOCOL": scheme}
        self._fetched: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The address, which never holds a credential."""
        return self._url

    @property
    def spread(self) -> float:
        """Trying costs little."""
        return SPREAD

    @property
    def objects(self) -> Objects:
        """The clone's objects: what `head` fetched and what was committed since."""
        if not self._clone.exists():
            self._objects.ask("init", "--quiet", "--bare", "--template=")
        return self._objects

    def close(self) -> None:
        """Remove the clone."""
        shutil.rmtree(self._clone.parent, ignore_errors=True)

    def head(self, ref: str, files: Sequence[str] = ()) -> str | None:  # noqa: ARG002 - all come
        """The commit of the remote's ref, fetched; raises ForgeError when it may not be read."""
        oid = self._remote_oid(ref)
        if oid is None or self._fetched.get(ref) == oid:
            return oid
        held = f"refs/fetched/{hashlib.sha256(ref.encode()).hexdigest()[:16]}"
        done = self.objects.run(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1"),
            *("--update-shallow", self._upload, self._url, f"+{ref}:{held}"),
            variables=self._network,
        )
        if done.code != 0:
            self._unreachable("fetch", done.err)
        found = self.objects.ask("rev-parse", "--verify", f"{held}^{{commit}}")
        self._fetched[ref] = found.decode("ascii").strip()
        return self._fetched[ref]

    def fetch(self, *commits: str, history: bool = False) -> str:
        """Bring commits here by their ids: with all their files, or only their history.

        Answers why it could not be done, "" when it was.
        """
        depth = "--filter=tree:0" if history else "--depth=1"
        done = self.objects.run(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", depth),
            *("--update-shallow", self._upload, self._url, *commits),
            variables=self._network,
        )
        return "" if done.code == 0 else reason_of(done.err)

    def files(self, ref: str) -> tuple[str, ...]:
        """The paths of all files at the remote's ref."""
        head = self.head(ref)
        return self.objects.files(head) if head else ()

    def advance(self, ref: str, *, new: str, old: str | None) -> Advance:
        """Push with the expected old value; what the remote refuses for good is an error."""
        done = self.objects.run(
            *("push", "--porcelain", "--no-verify", self._receive),
            *(f"--force-with-lease={ref}:{old or ''}", self._url, f"{new}:{ref}"),
            variables=self._network,
        )
        if done.code == 0:
            self._fetched[ref] = new
            return Advance(done=True)
        text = f"{said(done.out)}\n{done.err}"
        branch = ref.removeprefix("refs/heads/")
        match _Refusal.of(text):
            case _Refusal.RACE:
                return Advance(done=False, reason=reason_of(text))
            case _Refusal.PROTECTED:
                raise StateNotRecorded(
                    f"The repository protects the branch {branch}: {reason_of(text)}.",
                    where=self.name,
                    fix=f"Let the workflow's identity push to {branch} (a bypass in the branch's "
                    "rule), or name an unprotected branch as state.branch in chalice-ci.yml.",
                )
            case _Refusal.ACCESS | _Refusal.MISSING:
                raise StateNotRecorded(
                    f"The repository does not let this run push: {reason_of(text)}.",
                    where=self.name,
                    fix="Give the job the permission to write: `permissions: {contents: write}` "
                    "on GitHub, or a token or key with write access to the repository.",
                )
        raise GitFailed("push", reason_of(text))

    def refs(self, prefix: str) -> tuple[str, ...]:
        """The names of the remote's refs below the prefix."""
        done = self.objects.run(
            *("ls-remote", "--quiet", self._upload, self._url, f"{prefix}*"),
            variables=self._network,
        )
        if done.code != 0:
            self._unreachable("ls-remote", done.err)
        lines = done.out.decode("utf-8", "replace").splitlines()
        return tuple(line.partition("\t")[2] for line in lines)

    def drop(self, ref: str) -> None:
        """Push its deletion."""
        done = self.objects.run(
            *("push", "--porcelain", "--no-verify", self._receive),
            *(self._url, f":{ref}"),
            variables=self._network,
        )
        if done.code != 0 and self._remote_oid(ref) is not None:
            raise GitFailed("push", reason_of(f"{said(done.out)}\n{done.err}"))

    def default_branch(self) -> str | None:
        """The branch that the remote's HEAD names: where `state: {branch: source}` keeps states."""
        done = self.objects.run(
            *("ls-remote", "--quiet", "--symref", self._upload, self._url, "HEAD"),
            variables=self._network,
        )
        if done.code != 0:
            self._unreachable("ls-remote", done.err)
        found = re.match(r"ref: refs/heads/(\S+)\tHEAD", done.out.decode("utf-8", "replace"))
        return found[1] if found else None

    def _remote_oid(self, ref: str) -> str | None:
        done = self.objects.run(
            *("ls-remote", "--quiet", self._upload, self._url, ref), variables=self._network
        )
        if done.code != 0:
            self._unreachable("ls-remote", done.err)
        for line in done.out.decode("utf-8", "replace").splitlines():
            oid, _, found = line.partition("\t")
            if found == ref and re.fullmatch(r"[0-9a-f]{40}", oid):
                return oid
        return None

    def _unreachable(self, command: str, text: str) -> NoReturn:
        if _Refusal.of(text) not in {_Refusal.ACCESS, _Refusal.MISSING}:
            raise GitFailed(command, reason_of(text))
        raise ForgeError(
            f"The state's repository cannot be read: {reason_of(text)}.",
            where=self.name,
            fix="Give the job read access to the repository (`permissions: {contents: read}` and "
            "a token), and check its address.",
        )


class GitStore:
    """States on one branch of a repository; see the module.

    `branch` None is the repository's default branch: the states stand beside the code. `attempts`
    bounds how often a write is made again because other stages' writers were faster.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        branch: str | None = STATE_BRANCH,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if branch is not None and not _is_branch(branch):
            raise UsageError(
                f"{branch[:200]!a} is not the name of a branch.",
                where="state.branch",
                fix="Use letters, digits, -, _, . and /.",
            )
        self._repository = repository
        self._branch = branch
        self._attempts = attempts
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock
        self._turn = threading.Lock()
        self._seen: str | None = None
        self._seen_at = 0.0
        self._names: tuple[StateKey, ...] | None = None

    @property
    def _ref(self) -> str:
        """The branch's ref; a default branch is asked for once, when it is needed."""
        if self._branch is None:
            self._branch = self._repository.default_branch()
        if self._branch is None or not _is_branch(self._branch):
            raise ForgeError(
                "The repository has no default branch to keep the state on.",
                where=self._repository.name,
                fix="Give it one, or a branch for the state (state.branch in chalice-ci.yml).",
            )
        return f"refs/heads/{self._branch}"

    def read(self, key: StateKey) -> Stored:
        """The state at the branch's head; `version` is the id of the file's content."""
        with self._turn, _readable(self._repository):
            return self._patiently(lambda: self._read(key))

    def snapshot(self, key: StateKey) -> bytes | None:
        """The snapshot at the branch's head."""
        return self._beside(key.snapshot_file, MAX_SNAPSHOT_BYTES)

    def releases(self, key: StateKey) -> bytes | None:
        """The list of releases at the branch's head."""
        return self._beside(key.releases_file, MAX_RELEASES_BYTES)

    def _beside(self, file: str, limit: int) -> bytes | None:
        def found() -> bytes | None:
            # As of the head that was read last: on a forge each question counts, and what goes
            # with a state is read after it.
            head = self._seen or self._repository.head(self._ref, (file,))
            blob = self._repository.objects.blob(head, file) if head else None
            if blob is None:
                return None
            return self._repository.objects.content(blob, file, limit=limit)

        with self._turn, _readable(self._repository):
            return self._patiently(found)

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
        """One commit with the state, its snapshot and its journal, or none if all are there.

        A state that is there already counts as written, whatever `expected` says: so a push whose
        answer was lost can be repeated.
        """
        new = None if state is None else render(state)
        files: dict[str, bytes | None] = {key.file: new, key.snapshot_file: snapshot}
        if releases is not None or state is None:
            files[key.releases_file] = releases
        before = {key.file: expected}
        if journal is not None:
            files[key.journal_file] = journal.raw
            before[key.journal_file] = journal.expected
        changed, head = self._swap(key, files, before, message)
        return Written(
            changed=changed,
            version=ABSENT if new is None else git_blob_id(new, len(head)),
            commit=head if changed else None,
        )

    def keep_journal(
        self, key: StateKey, journal: JournalChange, *, state: str, message: str
    ) -> str:
        """One commit with the journal."""
        files = {key.journal_file: journal.raw}
        before = {key.file: state, key.journal_file: journal.expected}
        _, head = self._swap(key, files, before, message)
        return ABSENT if journal.raw is None else git_blob_id(journal.raw, len(head))

    def _swap(
        self,
        key: StateKey,
        files: Mapping[str, bytes | None],
        before: Mapping[str, str],
        message: str,
    ) -> tuple[bool, str]:
        """Commit files if those in `before` have the versions given there.

        Whether a commit was made, and the head that holds the files.
        """
        ours: set[str] = set()
        with self._turn:
            try:
                return self._patiently(
                    lambda: self._commit(key, files, before, _skipping_ci(message), ours)
                )
            except GitFailed as error:
                raise StateNotRecorded(
                    f"The state could not be committed: {error}.",
                    where=self._where(key),
                    fix="See that the repository can be reached and written to and has space, "
                    "then run again.",
                ) from error
            except ForgeError as error:
                raise StateNotRecorded(error.what, where=error.where, fix=error.fix) from error

    def keys(self) -> tuple[StateKey, ...]:
        """Every state on the branch."""
        return self._listed(StateKey.of_file)

    def known(self) -> tuple[StateKey, ...]:
        """Every state and every journal on the branch."""
        return self._listed(StateKey.of_either)

    def _listed(self, key_of: Callable[[str], StateKey | None]) -> tuple[StateKey, ...]:
        def found() -> tuple[StateKey, ...]:
            files = self._repository.files(self._ref)
            self._names = keys_of(files, StateKey.of_file)
            return keys_of(files, key_of)

        with self._turn, _readable(self._repository):
            return self._patiently(found)

    def _patiently(self, operation: Callable[[], _T]) -> _T:
        """Repeat what failed for a reason that may pass, such as the network, a few times."""
        for attempt in range(FAILURES - 1):
            try:
                return operation()
            except GitFailed:
                self._sleep(self._jitter() * 2**attempt)
        return operation()

    def _read(self, key: StateKey) -> Stored:
        objects = self._repository.objects
        head = self._seen = self._repository.head(self._ref, key.files)
        self._seen_at = self._clock()
        blob = objects.blob(head, key.file) if head else None
        journal = objects.blob(head, key.journal_file) if head else None
        kept = NO_JOURNAL
        if journal is not None:
            kept = Kept(raw=objects.content(journal, key.journal_file), version=journal.oid)
        if blob is None:
            return Stored(state=None, version=ABSENT, journal=kept)
        raw = objects.content(blob, key.file)
        state = parse_v2(raw, where=self._where(key))
        return Stored(state=state, version=blob.oid, journal=kept)

    def _commit(
        self,
        key: StateKey,
        files: Mapping[str, bytes | None],
        before: Mapping[str, str],
        message: str,
        ours: set[str],
    ) -> tuple[bool, str]:
        repository = self._repository
        reason = ""
        # The head that was read a moment ago is asked for again only if it does not do: on a forge
        # each question counts. An older one is: others have moved the branch, where there are any.
        seen, self._seen = self._seen, None
        if self._clock() - self._seen_at > FRESH_SECONDS:
            seen = None
        took, compared = 0.0, False
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(self._jitter() * _window(attempt, took, repository.spread))
            begun = self._clock()
            guessed = attempt == 0 and seen is not None
            names = tuple(sorted({*files, *before}))
            head = seen if guessed else repository.head(self._ref, key.files)
            blobs = {file: repository.objects.blob(head, file) if head else None for file in names}
            changes = {file: data for file, data in files.items() if not _is(blobs[file], data)}
            as_expected = all(version == _oid(blobs[file]) for file, version in before.items())
            if guessed and not (changes and as_expected):
                continue
            if not changes:
                self._seen = head
                return head in ours, head or ""
            if not as_expected:
                raise moved(key, where=repository.name)
            if head and blobs.get(key.file) is None and not compared:
                # Once, also with a list of a moment ago: people choose these names, and the list
                # is a question more.
                if self._names is None:
                    self._names = keys_of(repository.objects.files(head), StateKey.of_file)
                refuse_case_collision(key, self._names)
                compared = True
            commit = repository.objects.commit(head, changes, message)
            ours.add(commit)
            advance = repository.advance(self._ref, new=commit, old=head)
            if advance.done:
                self._seen, self._seen_at = advance.commit or commit, self._clock()
                return True, self._seen
            reason, took = advance.reason, self._clock() - begun
        raise StateNotRecorded(
            f"The branch could not be moved in {self._attempts} attempts ({reason}).",
            where=self._where(key),
            fix="Run again when fewer deploys record their state, or look at what else writes to "
            "the branch.",
        )

    def _where(self, key: StateKey) -> str:
        return f"{self._ref.removeprefix('refs/heads/')}:{key.file}"


def import_from_commit(
    repository: Repository, ref: str, key: StateKey, *, app_name: str
) -> Imported | None:
    """The state that a project committed beside its code, for the first run.

    `ref` is "HEAD" (the default branch of a remote) or "refs/heads/...": a protected branch, never
    a pull request's.  The stage's own file wins over a `deployed.json` of Chalice 1.1 or older, as
    in Chalice.  None when there is neither; raises StateDamaged or NotOurs for what is there.
    """
    with _readable(repository):
        head = repository.head(ref, (key.file, key.v1_file))
        if head is None:
            return None
        for file in (key.file, key.v1_file):
            blob = repository.objects.blob(head, file)
            if blob is None:
                continue
            raw = repository.objects.content(blob, file)
            where = f"{head[:12]}:{file}"
            if file == key.file:
                return Imported(state=parse_v2(raw, where=where), file=file, commit=head)
            state = parse_v1(raw, key.stage, app_name=app_name, where=where)
            if state is not None:
                return Imported(state=state, file=file, commit=head)
    return None


def _window(attempt: int, took: float, spread: float) -> float:
    """How long a writer waits at most after it lost a race: `spread` times what an attempt took,
    and twice as much after each further loss, so that many writers find room beside each other.
    """
    return min(MAX_PAUSE_SECONDS, max(0.05, took) * spread * 2.0 ** min(attempt - 1, 12))


def _is(blob: Blob | None, data: bytes | None) -> bool:
    """Whether a file's content is this already; None is no file."""
    if blob is None or data is None:
        return blob is None and data is None
    return blob.oid == git_blob_id(data, len(blob.oid))


def _oid(blob: Blob | None) -> str:
    return ABSENT if blob is None else blob.oid


class _Refusal(Enum):
    """Why a remote said no, as far as it matters for what to do next."""

    ACCESS = re.compile(
        r"(?i)returned error: 40[13]|authentication failed|permission (?:to .* )?denied|"
        r"could not read (?:username|password)|write access .* not granted|"
        r"insufficient permission|host key verification failed|not allowed to push|"
        r"service not enabled|read-only file system"
    )
    PROTECTED = re.compile(r"(?i)protected branch|GH006|GH013|hook declined|rule violations")
    RACE = re.compile(
        r"stale info|fetch first|non-fast-forward|cannot lock ref|failed to update ref|"
        r"incorrect old value|failed to lock|reference already exists"
    )
    MISSING = re.compile(
        r"(?i)repository .*not found|does not appear to be a git repository|returned error: 404"
    )

    @classmethod
    def of(cls, text: str) -> _Refusal | None:
        return next((refusal for refusal in cls if refusal.value.search(text)), None)


_AS_SAFE = "git -c safe.directory=*"


@contextlib.contextmanager
def _readable(repository: Repository) -> Iterator[None]:
    try:
        yield
    except GitFailed as error:
        raise ForgeError(
            f"The state's repository cannot be read: {error}.",
            where=repository.name,
            fix="See that git is installed and that the repository can be read.",
        ) from error


def _scheme(url: str) -> str:
    """The transport of an address; raises UsageError for any that is not allowed."""
    if url.startswith("/"):
        return "file"
    if "://" not in url and "::" not in url and _SCP_ADDRESS.fullmatch(url):
        return "ssh"
    parts = urlsplit(url)
    # A folder's name may have spaces in it, and git takes them as they are.
    blank = 31 if parts.scheme == "file" else 32
    bad = any(ord(c) <= blank or ord(c) == 127 for c in url)
    if parts.scheme not in {"http", "https", "ssh", "file"} or bad or parts.query or parts.fragment:
        raise UsageError(
            f"{url.rpartition('@')[2][:200]!a} is not the address of a repository.",
            where="state",
            fix="Use an https, ssh or file address.",
        )
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise UsageError(
            "The address holds a credential, which would be seen in logs and process lists.",
            where=parts.hostname or "state",
            fix="Take it out of the address and give the token on its own.",
        )
    return parts.scheme


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_branch(name: str) -> bool:
    parts = name.split("/")
    return bool(_BRANCH.fullmatch(name)) and not any(
        not part or part.startswith(".") or part.endswith((".", ".lock")) or ".." in part
        for part in parts
    )


def _skipping_ci(message: str) -> str:
    subject, _, rest = message.partition("\n")
    subject = subject.strip() or "Record the deployed state"
    return message if SKIP_CI in subject else f"{subject} {SKIP_CI}\n{rest}"
