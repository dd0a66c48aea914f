"""Runs a program that may be hostile: on a copy, without secrets, without a network, for a while.

What holds it, from the strongest machine down:

- a uid of its own without groups, when this process is root: it can neither read, signal nor
  trace anything of anybody else, nor reach the Docker socket;
- Landlock: only the interpreter, the system's libraries and its own copy can be read, only its
  own folder written; no signals and abstract sockets out of it, no TCP;
- seccomp: no sockets, no tracing, no namespaces, no key rings, no io_uring, no foreign
  architecture;
- an environment that is written here from nothing; descriptors 0 to 3 and no other;
- limits on time, memory, processes, files and what it may print or answer.

The three parts are independent, so one of them missing lowers the level and changes nothing else.
`Isolation` says which level a run had and why. `supervisor.py` does the confining: a small program
of its own, because what happens between fork and exec must not happen in a process with threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import marshal
import os
import secrets
import selectors
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from chalice_ci.app.interpreter import fresh_uid
from chalice_ci.errors import LoadError
from chalice_ci.privilege import NEEDED, acts_for_others

# As a module, because a script is compiled each time; last on the path, so that it hides nothing.
_SUPERVISE = "import sys; sys.path.append(sys.argv[1]); import supervisor; supervisor.main()"
_PR_SET_DUMPABLE = 4

# What a program needs of the system, besides its interpreter. Nothing in /etc by default: it is
# where package indexes and registries keep their passwords.
_SYSTEM = tuple(
    Path(path)
    for path in (
        *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store"),
        *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload"),
        *("/etc/alternatives", "/etc/localtime", "/etc/timezone", "/etc/mime.types"),
        *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf"),
        *("/etc/resolv.conf", "/etc/gai.conf", "/etc/protocols", "/etc/services"),
        *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/ca-certificates"),
        *("/etc/os-release", "/etc/lsb-release", "/etc/debian_version"),
        *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/sys/kernel"),
        *("/sys/devices/system/cpu", "/sys/fs/cgroup"),
    )
)
_DEVICES = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom"))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a confined program may use. Bytes and seconds.

    `memory_bytes` bounds one process's address space and the resident memory of all together.
    """

    wall_seconds: float = 60
    cpu_seconds: int = 60
    memory_bytes: int = 4 * 1024**3
    processes: int = 64
    open_files: int = 1024
    file_bytes: int = 128 * 1024**2
    written_bytes: int = 512 * 1024**2
    written_files: int = 10_000
    answer_bytes: int = 16 * 1024**2
    output_bytes: int = 1024**2
    project_bytes: int = 1024**3
    project_files: int = 50_000


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """How well a program was held: `level` is `full`, `partial` or `none`, `reasons` say why."""

    level: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run confined.

    `argv[0]` is a path. `folder` is the program's only writable folder. Its answer is what it
    writes to descriptor 3. `confined` refuses to run it where the level of isolation would be
    `none`.
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: Path
    folder: Path
    readable: tuple[Path, ...]
    network: bool = False
    confined: bool = False


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a confined program ended, when nothing of it was left.

    `reason` is empty when it ended by itself, else `timeout`, `memory`, `disk`, `answer`
    (too large) or `left` (something could not be ended: trust nothing). `status` is its exit code,
    negative for a signal. `ended` counts the processes it left behind, `peak` is in bytes.
    """

    reason: str
    status: int | None
    answer: bytes
    output: bytes
    output_cut: bool
    isolation: Isolation
    ended: int
    seconds: float
    peak: int


class SandboxError(LoadError):
    """The sandbox itself did not work."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whom the files of a confined program are given to: the fresh uid, which is the gid too."""

    uid: int | None = field(default_factory=lambda: fresh_uid() if os.geteuid() == 0 else None)

    def give(self, descriptor: int, *, executable: bool) -> None:
        """Let the program read what is open, and nobody else; only we may change it."""
        if self.uid is not None:
            os.fchown(descriptor, -1, self.uid)
            os.fchmod(descriptor, 0o750 if executable else 0o640)
        else:
            os.fchmod(descriptor, 0o700 if executable else 0o600)

    def give_folder(self, folder: Path) -> None:
        """The same for a folder."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self.give(descriptor, executable=True)
        finally:
            os.close(descriptor)

    def make_own(self, folder: Path) -> None:
        """Make a folder that belongs to the program."""
        folder.mkdir(mode=0o700)
        if self.uid is not None:
            os.chown(folder, self.uid, self.uid)


@contextlib.contextmanager
def sandbox_folder(work_dir: Path, owner: Owner) -> Iterator[Path]:
    """A fresh folder below `work_dir` that only the program and we enter; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="app-", dir=work_dir)).resolve()
    try:
        owner.give_folder(folder)
        yield folder
    finally:
        remove_tree(folder)


def protect_this_process() -> None:
    """Make this process's memory and environment unreadable for others of the same user.

    Stays so: a process that has loaded an app has secrets to keep until it ends.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0)


def run_confined(program: Program, request: bytes, *, owner: Owner, limits: Limits) -> Ended:
    """Run a program and return when it and everything it started is gone.

    The request is its stdin. Raises SandboxError where it may not run, or cannot.
    """
    with started(program, owner=owner, limits=limits) as running:
        running.ask(request)
        return running.ended()


@contextlib.contextmanager
def started(program: Program, *, owner: Owner, limits: Limits) -> Iterator[Running]:
    """A confined program that has begun and waits for its request; ended on the way out."""
    protect_this_process()
    with contextlib.ExitStack() as stack:
        request_end, request = _pipe(stack)
        answer, answer_end = _pipe(stack)
        output, output_end = _pipe(stack)
        descriptors = {
            "request": request_end.fileno(),
            "answer": answer_end.fileno(),
            "output": output_end.fileno(),
        }
        spec = {
            "argv": list(program.argv),
            "environ": dict(program.environ),
            "cwd": str(program.cwd),
            "writable": str(program.folder),
            "readable": [str(path) for path in (*_SYSTEM, *program.readable)],
            "devices": [str(path) for path in _DEVICES],
            "network": program.network,
            "confined": program.confined,
            "uid": owner.uid,
            "limits": vars(limits).copy(),
            "descriptors": descriptors,
        }
        supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SUPERVISE, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=list(descriptors.values()),
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            start_new_session=True,
        )
        try:
            for end in (request_end, answer_end, output_end):
                end.close()
            listener = _Listener(supervisor, answer, output, limits)
            listener.tell(spec)
            yield Running(_listener=listener, _request=request, _network=program.network)
        finally:
            _finish(supervisor)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A confined program that has begun."""

    _listener: _Listener
    _request: IO[bytes]
    _network: bool

    def ask(self, request: bytes) -> None:
        """Give it its request, once, as far as there is room for it; its time begins."""
        self._listener.ask(self._request, request)

    def ended(self) -> Ended:
        """Wait until it, and everything that it started, is gone. Raises SandboxError."""
        self._listener.listen()
        return self._listener.ended(self._network)


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return (
        stack.enter_context(os.fdopen(reading, "rb", buffering=0)),
        stack.enter_context(os.fdopen(writing, "wb", buffering=0)),
    )


def _finish(supervisor: subprocess.Popen[bytes]) -> None:
    # Closing its stdin makes it end everything; it needs a moment, and may not be interrupted.
    with contextlib.suppress(OSError):
        if supervisor.stdin:
            supervisor.stdin.close()
    try:
        supervisor.wait(15)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    finally:
        if supervisor.stdout:
            supervisor.stdout.close()


def _say_more(stream: IO[bytes], text: memoryview) -> memoryview:
    """Write what there is room for; what is left. Nothing, when nobody reads any more."""
    try:
        return text[os.write(stream.fileno(), text) :] if text else text
    except BlockingIOError:
        return text
    except OSError:
        return text[:0]


class _Listener:
    """Reads answer, output and report at once, each within its bound."""

    def __init__(
        self,
        supervisor: subprocess.Popen[bytes],
        answer: IO[bytes],
        output: IO[bytes],
        limits: Limits,
    ) -> None:
        self._supervisor = supervisor
        self._limits = limits
        self._answer = bytearray()
        self._output = bytearray()
        self._report = bytearray()
        self._sources = {answer: self._answer, output: self._output}
        self._output_stream = output
        self._answer_stream = answer
        self._output_cut = False
        self._reason = ""
        self._request_end: IO[bytes] | None = None
        self._request = memoryview(b"")

    def tell(self, spec: dict[str, Any]) -> None:
        """Say to the supervisor what to run."""
        # As `supervisor.message_of`; it is of the same Python.
        data = marshal.dumps(spec)
        try:
            if self._supervisor.stdin is not None:
                self._supervisor.stdin.write(len(data).to_bytes(4, "little") + data)
                self._supervisor.stdin.flush()
        except OSError:
            self._reason = "left"

    def ask(self, request_end: IO[bytes], request: bytes) -> None:
        """Hand the request over, as far as there is room for it."""
        os.set_blocking(request_end.fileno(), False)
        self._request_end = request_end
        self._request = _say_more(request_end, memoryview(request))
        if not self._request:
            request_end.close()
        try:
            if self._supervisor.stdin is not None:
                self._supervisor.stdin.write(b"\n")
                self._supervisor.stdin.flush()
        except OSError:
            self._reason = "left"

    def listen(self) -> None:
        """Take everything that is said, until the supervisor is done."""
        stdout = self._supervisor.stdout
        if stdout is None:
            raise SandboxError("the supervisor has no pipes")
        if self._reason:
            return
        # The supervisor keeps the time; this is for the case that it does not.
        deadline = time.monotonic() + self._limits.wall_seconds + 15
        with selectors.DefaultSelector() as selector:
            for stream in (*self._sources, stdout):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            if self._request and self._request_end is not None:
                selector.register(self._request_end, selectors.EVENT_WRITE)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    self._reason = "left"
                    return
                for key, _ in selector.select(left):
                    stream = cast(IO[bytes], key.fileobj)
                    if stream is self._request_end:
                        self._request = _say_more(stream, self._request)
                        if not self._request:
                            selector.unregister(stream)
                            stream.close()
                        continue
                    piece = os.read(stream.fileno(), 65536)
                    if not piece:
                        selector.unregister(stream)
                    elif stream is stdout:
                        self._report += piece
                    else:
                        self._take(stream, piece)
                if stdout.fileno() not in {key.fd for key in selector.get_map().values()}:
                    # The supervisor is done, so nobody writes any more: take what is there.
                    self._drain(selector)
                    return

    def _drain(self, selector: selectors.BaseSelector) -> None:
        for key in list(selector.get_map().values()):
            stream = cast(IO[bytes], key.fileobj)
            if stream not in self._sources:
                continue
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(stream.fileno(), 65536):
                    self._take(stream, piece)
                    if self._reason:
                        break

    def _take(self, stream: IO[bytes], piece: bytes) -> None:
        if stream is self._output_stream:
            room = self._limits.output_bytes - len(self._output)
            self._output_cut = self._output_cut or len(piece) > room
            self._output += piece[: max(room, 0)]
        elif not self._reason:
            self._answer += piece
            if len(self._answer) > self._limits.answer_bytes:
                self._reason = "answer"
                if self._supervisor.stdin:
                    self._supervisor.stdin.close()

    def ended(self, network: bool) -> Ended:
        try:
            report = json.loads(self._report)
        except ValueError:
            report = {"error": "the supervisor was killed"}
        if "error" in report:
            # Somebody interfered, or it is a defect: nothing that came can be trusted.
            report = {"left": 1, "reasons": [str(report["error"])], "reason": "", **_NOTHING}
        if report["exec_error"] == "unconfined":
            reasons = "; ".join(str(reason) for reason in report["reasons"])
            raise SandboxError(
                f"the app was not loaded: nothing shuts it in here ({reasons}), and credentials "
                "are within its reach.",
                fix="Run as root or on Linux with Landlock, check in a job without credentials, or "
                "set allow-unsandboxed: true.",
            )
        if report["exec_error"]:
            raise SandboxError(
                f"the program could not be started in the sandbox: {report['exec_error']}"
            )
        status = report["status"]
        reason = self._reason or ("left" if report["left"] else report["reason"])
        return Ended(
            reason="" if reason == "stopped" else reason,
            status=None if status is None else os.waitstatus_to_exitcode(status),
            answer=b"" if reason == "left" else bytes(self._answer),
            output=bytes(self._output),
            output_cut=self._output_cut,
            isolation=_isolation(report, network=network),
            ended=report["ended"],
            seconds=report["seconds"],
            peak=report["peak"],
        )


_NOTHING = {
    "status": None,
    "exec_error": "",
    "ended": 0,
    "seconds": 0.0,
    "peak": 0,
    "uid": False,
    "landlock": 0,
    "seccomp": False,
}


def _isolation(report: Mapping[str, Any], *, network: bool) -> Isolation:
    uid, landlock, seccomp = report["uid"], report["landlock"], report["seccomp"]
    reasons = [str(reason) for reason in report["reasons"]]
    if not uid and os.geteuid() != 0:
        reasons.append("not started as root, so the app has no uid of its own")
    elif not uid and not acts_for_others():
        names = ", ".join(NEEDED)
        reasons.append(f"root without the capabilities {names}, so the app has no uid of its own")
    elif not uid and not any("user" in reason or "uid" in reason for reason in reasons):
        reasons.append("no unused uid to give to the app")
    if network:
        reasons.append("this app may use the network (load.network)")
    if uid and landlock and seccomp:
        level = "full"
    elif uid or landlock:
        level = "partial"
    else:
        level = "none"
    return Isolation(level=level, reasons=tuple(reasons))


# -- the copy

# Not part of an app: the repository's own secrets, what Chalice wrote, and what installs make.
_LEFT_OUT = frozenset(
    {
        *(".git", ".hg", ".svn", "__pycache__", "node_modules", ".terraform", ".aws-sam"),
        *(".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
    }
)
_CHALICE_LEFT_OUT = frozenset({"deployed", "deployments", "venv", "deployed.json"})


def copy_project(
    source: Path, target: Path, *, owner: Owner, limits: Limits, without: Path | None = None
) -> tuple[str, ...]:
    """Copy an app to where it will be loaded; return a warning for each thing that was left out.

    Without version control (a checkout's token may be in `.git/config`), without Chalice's
    recorded state and old packages, virtual environments and caches; without the folder `without`
    (where runs write: packages, and plans with a stage's values). Links inside the app are kept,
    links that leave it are not followed; FIFOs, sockets and devices are left out, and so are files
    with another hard link that belong to somebody else.
    Raises LoadError for an app beyond the limits.
    """
    copy = _Copy(source.resolve(), target, owner, limits, without and without.resolve())
    copy.folder(Path())
    return tuple(copy.warnings)


class _Copy:
    def __init__(
        self, source: Path, target: Path, owner: Owner, limits: Limits, without: Path | None
    ) -> None:
        self._source = source
        self._without = without
        self._target = target
        self._owner = owner
        self._limits = limits
        self._user = source.stat().st_uid
        self._files = 0
        self._bytes = 0
        self.warnings: list[str] = []

    def folder(self, top: Path) -> None:
        todo = [top]
        while todo:
            relative = todo.pop()
            opened = self._open(relative, os.O_RDONLY | os.O_DIRECTORY)
            if opened is None:
                continue
            try:
                # Where it goes may be waited for; nothing else is there.
                (self._target / relative).mkdir(mode=0o700, exist_ok=relative == top)
                with os.scandir(opened) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
                    if relative != top and any(entry.name == "pyvenv.cfg" for entry in found):
                        continue
                    for entry in found:
                        if self._entry(relative, entry, opened):
                            todo.append(relative / entry.name)
                self._owner.give_folder(self._target / relative)
            finally:
                os.close(opened)

    def _entry(self, folder: Path, entry: os.DirEntry[str], opened: int) -> bool:
        """Copy one entry; True when it is a folder to go into."""
        relative = folder / entry.name
        if entry.name in _LEFT_OUT or (
            folder.name == ".chalice" and entry.name in _CHALICE_LEFT_OUT
        ):
            return False
        # A file of that name is none that a run wrote: no run can write there.
        if (
            self._source / relative == self._without
            and entry.name != ".chalice"
            and entry.is_dir(follow_symlinks=False)
        ):
            return False
        self._files += 1
        if self._files > self._limits.project_files:
            raise LoadError(
                f"The app has more than {self._limits.project_files} files.",
                where=str(self._source),
                fix="Point `path` at the folder of app.py, and keep build results out of it.",
            )
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            self._link(relative)
        elif stat.S_ISDIR(status.st_mode):
            return True
        elif not stat.S_ISREG(status.st_mode):
            self._warn(relative, "is not a file, a folder or a link")
        else:
            self._file(relative, opened)
        return False

    def _link(self, relative: Path) -> None:
        real = Path(os.path.realpath(self._source / relative))
        if not real.is_relative_to(self._source):
            self._warn(relative, "is a link that leaves the app")
            return
        inside = os.path.relpath(real, (self._source / relative).parent)
        (self._target / relative).symlink_to(inside)

    def _file(self, relative: Path, opened: int) -> None:
        # Opened below its open folder and looked at afterwards: nothing can be exchanged between.
        try:
            reading = os.open(
                relative.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened
            )
        except OSError as error:
            self._warn(relative, f"cannot be read ({error.strerror})")
            return
        with os.fdopen(reading, "rb") as original:
            status = os.fstat(reading)
            if not stat.S_ISREG(status.st_mode):
                self._warn(relative, "is not a file")
                return
            if status.st_nlink > 1 and status.st_uid != self._user:
                self._warn(relative, "is another user's file, linked into the app")
                return
            self._bytes += status.st_size
            if self._bytes > self._limits.project_bytes:
                raise LoadError(
                    f"The app's folder holds more than {self._limits.project_bytes} bytes.",
                    where=str(self._source),
                    fix="Point `path` at the folder of app.py, and keep data out of it.",
                )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            writing = os.open(self._target / relative, flags, 0o600)
            with os.fdopen(writing, "wb") as copy:
                shutil.copyfileobj(original, copy, 1024 * 1024)
                self._owner.give(writing, executable=bool(status.st_mode & 0o100))

    def _open(self, relative: Path, flags: int) -> int | None:
        try:
            return os.open(self._source / relative, flags | os.O_NOFOLLOW)
        except OSError as error:
            self._warn(relative, f"cannot be read ({error.strerror})")
            return None

    def _warn(self, relative: Path, what: str) -> None:
        if len(self.warnings) < 100:
            self.warnings.append(f"{relative} {what}: left out of the loaded copy.")


# -- the end


def remove_tree(folder: Path, *, name: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
    """Remove a folder that somebody hostile may have filled: any depth, any modes, no links.

    Folders found inside are moved up one level before they are emptied, so neither the length of
    a path nor recursion is a limit.
    """
    todo = [folder]
    while todo:
        current = todo.pop()
        with contextlib.suppress(OSError):
            current.chmod(0o700)
        try:
            entries = list(os.scandir(current))
        except FileNotFoundError:
            continue
        inner = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    Path(entry.path).chmod(0o700)
                moved = folder / name()
                if current != folder:
                    Path(entry.path).rename(moved)
                else:
                    moved = Path(entry.path)
                inner.append(moved)
            else:
                Path(entry.path).unlink(missing_ok=True)
        if current != folder:
            current.rmdir()
        todo.extend(inner)
    folder.rmdir()
