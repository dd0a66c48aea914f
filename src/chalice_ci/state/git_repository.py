"""git as the state needs it: the objects of a repository, and the repository on this machine.

Everything is done by plumbing commands in a scratch folder, with nothing of the user's
configuration, hooks or credentials.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chalice_ci.errors import StateNotRecorded, UsageError
from chalice_ci.privilege import acts_for_others
from chalice_ci.state.schema import MAX_BYTES, StateDamaged

GIT_SECONDS = 120.0
SPREAD = 4.0
"""How many times what an attempt took a writer waits at most when the next one costs little."""

_AUTHOR = ("chalice-ci", "chalice-ci@noreply.invalid")
# What git may take from the caller's environment: how to find programs, proxies, certificates and
# the ssh agent. Everything else, above all GIT_* and HOME, stays outside.
_PASSED = (
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    *(
        name
        for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
        for name in (upper, upper.lower())
    ),
)
_SETTINGS = (
    ("safe.directory", "*"),
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", os.devnull),
    ("core.excludesFile", os.devnull),
    ("core.alternateRefsCommand", ""),
    ("core.splitIndex", "false"),
    ("core.sparseCheckout", "false"),
    ("index.sparse", "false"),
    ("credential.helper", ""),
    ("commit.gpgSign", "false"),
    ("push.gpgSign", "false"),
    ("push.followTags", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.followRedirects", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
)


@dataclass(frozen=True, kw_only=True)
class Advance:
    """How an attempt to move the branch ended; `reason` is why somebody else was faster.

    `commit` is the new head where it is another than the one that was given: a forge makes its own.
    """

    done: bool
    reason: str = ""
    commit: str = ""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file at a commit."""

    oid: str
    size: int


class GitFailed(Exception):
    """git ended with an error where none was expected; `text` is what it said."""

    def __init__(self, command: str, text: str) -> None:
        super().__init__(f"git {command}: {text}")
        self.text = text


class ObjectStore(Protocol):
    """The objects of a repository."""

    def blob(self, commit: str, path: str) -> Blob | None:
        """The file at `path`, None if there is none; links and folders raise StateDamaged."""
        ...

    def content(self, blob: Blob, path: str, *, limit: int = MAX_BYTES) -> bytes:
        """The bytes of a file; raises StateDamaged above `limit` bytes."""
        ...

    def files(self, commit: str) -> tuple[str, ...]:
        """The paths of all files at a commit."""
        ...

    def commit(self, parent: str | None, files: Mapping[str, bytes | None], message: str) -> str:
        """A commit on top of `parent` with these files replaced (None: removed, if they are there);
        no ref is moved.
        """
        ...


class Repository(Protocol):
    """A repository whose branch can be read and moved."""

    @property
    def name(self) -> str:
        """How a message names it."""
        ...

    @property
    def objects(self) -> ObjectStore:
        """Its objects, as far as `head` has brought them here."""
        ...

    @property
    def spread(self) -> float:
        """How long a writer waits at most after its first lost race, in times of an attempt."""
        ...

    def default_branch(self) -> str | None:
        """The branch that HEAD names, None when it names none."""
        ...

    def head(self, ref: str, files: Sequence[str] = ()) -> str | None:
        """The commit that `ref` ("HEAD", "refs/heads/...") names now, None if there is none.

        `files` are those that will be looked at, for a repository where each question counts.
        """
        ...

    def files(self, ref: str) -> tuple[str, ...]:
        """The paths of all files at `ref`, none when there is no such ref."""
        ...

    def advance(self, ref: str, *, new: str, old: str | None) -> Advance:
        """Move `ref` from `old` (None: it must not exist) to `new`, or leave it as it is.

        Raises StateNotRecorded when trying again cannot help and GitFailed when it may.
        """
        ...

    def refs(self, prefix: str) -> tuple[str, ...]:
        """The names of all refs that begin with `refs/heads/.../`."""
        ...

    def drop(self, ref: str) -> None:
        """Delete a ref; one that is gone already is fine. Raises GitFailed and ForgeError."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Done:
    code: int
    out: bytes
    err: str


class Objects:
    """The object database of one git directory, by plumbing commands.

    `protocols` is what git may use to reach other repositories (`none`: not even to fetch an
    object that a partial clone lacks). `owner` is the user to run git as, when root works in
    somebody else's repository.
    """

    def __init__(
        self,
        git_dir: Path,
        *,
        scratch: Path,
        environ: Mapping[str, str],
        protocols: str = "none",
        settings: Sequence[tuple[str, str]] = (),
        variables: Mapping[str, str] | None = None,
        owner: os.stat_result | None = None,
        clock: Callable[[], float] = time.time,
        seconds: float = GIT_SECONDS,
    ) -> None:
        self._git_dir = git_dir
        self._scratch = scratch
        self._owner = owner
        self._clock = clock
        self._seconds = seconds
        self._environ = {name: environ[name] for name in _PASSED if name in environ}
        self._environ |= {
            "HOME": str(scratch),
            "XDG_CONFIG_HOME": str(scratch),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_ALLOW_PROTOCOL": protocols,
            "GIT_DIR": str(git_dir),
            **(variables or {}),
        }
        pairs = [*_SETTINGS, *settings]
        self._environ["GIT_CONFIG_COUNT"] = str(len(pairs))
        for index, (key, value) in enumerate(pairs):
            self._environ[f"GIT_CONFIG_KEY_{index}"] = key
            self._environ[f"GIT_CONFIG_VALUE_{index}"] = value

    def run(
        self, *arguments: str, data: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> _Done:
        """Run git; raises GitFailed when it cannot be started or takes too long."""
        uid, gid = (self._owner.st_uid, self._owner.st_gid) if self._owner else (None, None)
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._scratch,
                env={**self._environ, **(variables or {})},
                user=uid,
                group=gid,
                extra_groups=() if self._owner else None,
                # A group of its own: what git starts ends with it, and a Ctrl-C does not reach it
                # while it records what was just deployed.
                start_new_session=True,
            )
        except OSError as error:
            raise GitFailed(arguments[0], f"git cannot be started: {error.strerror}") from error
        try:
            out, err = process.communicate(data, timeout=self._seconds)
        except subprocess.TimeoutExpired:
            raise GitFailed(arguments[0], f"timed out after {self._seconds:g} s") from None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return _Done(code=process.returncode, out=out, err=said(err))

    def ask(
        self, *arguments: str, data: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> bytes:
        """What git answers; raises GitFailed when it ends with an error."""
        done = self.run(*arguments, data=data, variables=variables)
        if done.code != 0:
            raise GitFailed(arguments[0], done.err or f"exit code {done.code}")
        return done.out

    def blob(self, commit: str, path: str) -> Blob | None:
        """The file at `path`, None if there is none; links and folders raise StateDamaged."""
        out = self.ask("ls-tree", "-l", "-z", "--full-tree", commit, "--", path)
        for line in out.split(b"\0"):
            head, _, name = line.partition(b"\t")
            if name.decode("utf-8", "surrogateescape") != path:
                continue
            mode, _, oid, size = head.decode("ascii").split()
            if mode not in {"100644", "100755"}:
                raise StateDamaged(
                    "This is not a file.", where=path, fix="Remove what is in its place."
                )
            if not size.isdigit():
                raise GitFailed("ls-tree", f"the object of {path} is missing")
            return Blob(oid=oid, size=int(size))
        return None

    def content(self, blob: Blob, path: str, *, limit: int = MAX_BYTES) -> bytes:
        """The bytes of a file; raises StateDamaged above `limit` bytes."""
        if blob.size > limit:
            raise StateDamaged(
                f"The file has {blob.size} bytes; the bound is {limit}.",
                where=path,
                fix="Restore the file that Chalice wrote.",
            )
        return self.ask("cat-file", "blob", blob.oid)

    def files(self, commit: str) -> tuple[str, ...]:
        """The paths of all files at a commit."""
        out = self.ask("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        return tuple(name.decode("utf-8", "surrogateescape") for name in out.split(b"\0") if name)

    def commit(self, parent: str | None, files: Mapping[str, bytes | None], message: str) -> str:
        """A commit on top of `parent` with these files replaced; no ref is moved."""
        index = self._scratch / f"index-{os.getpid()}-{threading.get_ident()}"
        variables = {"GIT_INDEX_FILE": str(index)}
        try:
            if parent is not None:
                self.ask("read-tree", parent, variables=variables)
            lines = []
            for path, data in files.items():
                if data is None:
                    lines.append(b"0 %s\t%s\0" % (b"0" * 40, os.fsencode(path)))
                    continue
                oid = self.ask("hash-object", "-w", "--no-filters", "--stdin", data=data)
                lines.append(b"100644 %s\t%s\0" % (oid.strip(), os.fsencode(path)))
            self.ask(
                "update-index", "-z", "--index-info", data=b"".join(lines), variables=variables
            )
            tree = self.ask("write-tree", variables=variables).decode("ascii").strip()
        finally:
            for leftover in (index, Path(f"{index}.lock")):
                leftover.unlink(missing_ok=True)
        date = f"{int(self._clock())} +0000"
        name, email = _AUTHOR
        identity = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", name), ("EMAIL", email), ("DATE", date))
        }
        parents = () if parent is None else ("-p", parent)
        out = self.ask(
            "commit-tree", tree, *parents, data=message.encode("utf-8"), variables=identity
        )
        return out.decode("ascii").strip()


class LocalRepository:
    """A repository on this machine: only a branch and objects change, nothing else in it.

    `path` is its folder, a linked worktree or a bare repository; `work_dir` an existing folder
    for temporary files.  As root, git runs as the repository's owner, who keeps owning its files.
    """

    def __init__(
        self,
        path: Path,
        *,
        work_dir: Path,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        inside = path / ".git"
        git_dir = (inside if inside.exists() else path).absolute()
        if not git_dir.exists():
            raise UsageError(
                "There is no git repository.",
                where=str(path),
                fix="Run `git init` there, or choose `state: {store: local}` in chalice-ci.yml.",
            )
        owner = git_dir.stat()
        scratch = Path(tempfile.mkdtemp(prefix="git-", dir=work_dir))
        foreign = owner.st_uid != 0 and acts_for_others()
        if foreign:
            os.chown(scratch, owner.st_uid, owner.st_gid)
        self._path = path
        self._objects = Objects(
            git_dir,
            scratch=scratch,
            environ=environ,
            owner=owner if foreign else None,
            clock=clock,
        )

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._path)

    @property
    def spread(self) -> float:
        """Trying costs little."""
        return SPREAD

    @property
    def objects(self) -> Objects:
        """The repository's own objects."""
        return self._objects

    def default_branch(self) -> str | None:
        """The branch that is checked out, None with a detached HEAD."""
        named = self._objects.run("symbolic-ref", "--quiet", "HEAD").out.decode().strip()
        return named.removeprefix("refs/heads/") or None

    def head(self, ref: str, files: Sequence[str] = ()) -> str | None:  # noqa: ARG002 - all come
        """The commit of a ref of this repository."""
        done = self._objects.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        if done.code == 0:
            return done.out.decode("ascii").strip()
        if done.err:
            raise GitFailed("rev-parse", done.err)
        return None

    def files(self, ref: str) -> tuple[str, ...]:
        """The paths of all files at a ref of this repository."""
        head = self.head(ref)
        return self.objects.files(head) if head else ()

    def advance(self, ref: str, *, new: str, old: str | None) -> Advance:
        """Move the branch by `update-ref` with the old value; a checked-out branch is refused."""
        self._refuse_checked_out(ref)
        done = self._objects.run(
            "update-ref", "-m", "chalice-ci: state", ref, new, old or "0" * len(new)
        )
        if done.code == 0:
            return Advance(done=True)
        if self.head(ref) != old or "File exists" in done.err:
            return Advance(done=False, reason=reason_of(done.err))
        if "Permission denied" in done.err or "Read-only file system" in done.err:
            raise StateNotRecorded(
                f"The branch cannot be written: {done.err}.",
                where=self.name,
                fix="Give this user the right to write to the repository.",
            )
        raise GitFailed("update-ref", done.err)

    def refs(self, prefix: str) -> tuple[str, ...]:
        """The names of this repository's refs below the prefix."""
        out = self._objects.ask("for-each-ref", "--format=%(refname)", prefix)
        return tuple(out.decode("utf-8", "surrogateescape").splitlines())

    def drop(self, ref: str) -> None:
        """Delete it by `update-ref`."""
        self._objects.ask("update-ref", "-d", ref)

    def _refuse_checked_out(self, ref: str) -> None:
        objects = self._objects
        bare = objects.ask("rev-parse", "--is-bare-repository").strip() == b"true"
        current = objects.run("symbolic-ref", "--quiet", "HEAD").out.decode().strip()
        linked = objects.ask("for-each-ref", "--format=%(worktreepath)", ref).strip()
        if (current == ref and not bare) or linked:
            raise StateNotRecorded(
                f"{ref.removeprefix('refs/heads/')} is checked out here; moving it would leave "
                "its worktree behind.",
                where=self.name,
                fix="Check out another branch, or keep the state on a branch of its own "
                "(state.branch in chalice-ci.yml).",
            )


def git_blob_id(data: bytes, length: int) -> str:
    """The id that git gives a file with this content; `length` tells the repository's hash."""
    digest = hashlib.sha256 if length == 64 else hashlib.sha1
    return digest(b"blob %d\0%s" % (len(data), data)).hexdigest()


def said(raw: bytes) -> str:
    """What git or a remote printed, without anything that could steer a terminal or a log."""
    text = raw[-8192:].decode("utf-8", "replace").replace("\r", "\n")
    return "\n".join(
        "".join(c if c.isprintable() else " " for c in line) for line in text.split("\n")
    ).strip()


def reason_of(text: str) -> str:
    """The telling lines of what was said, as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line.removeprefix("remote:").removeprefix("fatal:").removeprefix("error:").strip(" .")
        for line in lines
        if line.startswith(("remote: error", "remote: fatal", "fatal:", "error:", "!"))
        or "denied" in line
    ]
    return "; ".join(dict.fromkeys(telling or lines))[:400] or "no reason given"
