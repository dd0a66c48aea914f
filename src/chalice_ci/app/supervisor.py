"""Stands between the orchestrator and the app: confines it, waits for it, ends what it left.

A program of its own: `sandbox.py` starts it with `python -I -S`, an empty environment and nothing
else of chalice-ci. It is single-threaded, so it may do between fork and exec what a process with
threads may not, and it knows no secret. It reads what to run from stdin (`marshal`: the same Python
wrote it, and json takes as long to import as all the rest); when stdin closes (the orchestrator is
gone or has had enough) everything is ended. Its answer is one line of JSON on stdout, after every
process of the app is dead and reaped.

    zone 1 ──► supervisor (subreaper, own session) ──► the app (own uid, Landlock, seccomp)

Standard library only, without site-packages, and little of it: everything waits for its start.
"""

from __future__ import annotations

# What `signal` is made of, without its enumerations.
import _signal as signal  # type: ignore[import-not-found]
import ctypes
import errno
import marshal
import os
import resource
import select
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# How long everything that is left may take to die, and how often usage is measured.
_END_SECONDS = 10.0
_SAMPLE_SECONDS = 0.25
_MAX_DEPTH = 200


def main() -> None:
    """Read what to run, run it, say how it ended."""
    try:
        report = _Supervisor(_read_message(0)).run()
    except BaseException:
        # Late: that it costs something to import is all that is seen of it otherwise.
        import traceback

        report = {"error": traceback.format_exc()[-4000:]}
    import json

    os.write(1, json.dumps(report).encode() + b"\n")


def _read_message(descriptor: int) -> dict[str, Any]:
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "little"):
        piece = os.read(descriptor, 65536)
        if not piece:
            raise SystemExit(1)
        data += piece
    message: dict[str, Any] = marshal.loads(data[4:])
    return message


def message_of(said: dict[str, Any]) -> bytes:
    """The form in which things are said to a supervisor, and in it."""
    data = marshal.dumps(said)
    return len(data).to_bytes(4, "little") + data


class _Ignoring:
    """`contextlib.suppress`, which takes a fifth of the start to import."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


class _Supervisor:
    def __init__(self, wanted: dict[str, Any]) -> None:
        self._wanted = wanted
        self._limits = wanted["limits"]
        self._uid: int | None = wanted["uid"]
        self._reasons: list[str] = []
        self._main = 0
        self._status: int | None = None
        self._usage: Any = None
        self._ended = 0
        self._subreaper = False

    def run(self) -> dict[str, Any]:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if _LINUX:
            _prctl(PR_SET_DUMPABLE, 0)
            _prctl(PR_SET_CHILD_SUBREAPER, 1)
            self._subreaper = True
        self._choose_uid()
        ready, tell = os.pipe()
        begun = time.monotonic()
        self._main = os.fork()
        if self._main == 0:
            _Child(self._wanted, self._uid, tell).become()
        os.close(tell)
        for descriptor in self._wanted["descriptors"].values():
            os.close(descriptor)
        reason = ""
        try:
            confined = _read_ready(ready)
            reason = self._wait(begun)
        finally:
            left = self._end_everything()
        return {
            "status": self._status,
            "reason": reason,
            "ended": self._ended,
            "left": left,
            "seconds": time.monotonic() - begun,
            "peak": self._usage.ru_maxrss * (1024 if _LINUX else 1) if self._usage else 0,
            "uid": self._uid is not None and confined.get("uid", False),
            "landlock": confined.get("landlock", 0),
            "seccomp": confined.get("seccomp", False),
            "exec_error": confined.get("exec_error", ""),
            "reasons": [*self._reasons, *confined.get("reasons", [])],
        }

    # -- the uid

    def _choose_uid(self) -> None:
        """Check that the fresh uid can get at what it needs; else stay what we are and say so."""
        if self._uid is None:
            return
        uid = self._uid
        needed = [self._wanted["argv"][0], self._wanted["cwd"], self._wanted["writable"]]
        probe = os.fork()
        if probe == 0:
            code = 100
            try:
                _drop(uid)
                for number, path in enumerate(needed):
                    code = number
                    if not os.access(path, os.X_OK):
                        os._exit(code)
                code = 1
                os.listdir(needed[1])
                code = 99
            finally:
                os._exit(code)
        _, status = os.waitpid(probe, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 99:
            return
        self._uid = None
        path = needed[code] if 0 <= code < len(needed) else ""
        self._reasons.append(
            f"another user cannot reach {path}" if path else "the uid could not be changed"
        )
        os.chown(self._wanted["writable"], os.geteuid(), os.getegid())

    # -- waiting

    def _wait(self, begun: float) -> str:
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        watch = -1
        if hasattr(os, "pidfd_open"):
            with _Ignoring(OSError):
                watch = os.pidfd_open(self._main)
                poll.register(watch, select.POLLIN)
        tick = 50 if watch >= 0 else 5
        deadline = begun + self._limits["wall_seconds"]
        sampled = begun
        while True:
            events = dict(poll.poll(tick))
            self._reap()
            if self._status is not None:
                # A quick one fills the folder between two samples.
                return "disk" if self._wrote_too_much() else ""
            now = time.monotonic()
            if 0 in events:
                if not os.read(0, 4096):
                    return "stopped"
                # The program gets its request: its time begins now.
                deadline = now + self._limits["wall_seconds"]
            if now >= deadline:
                return "timeout"
            if now - sampled >= _SAMPLE_SECONDS:
                sampled = now
                reason = self._excess()
                if reason:
                    return reason

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._main:
                self._status, self._usage = status, usage

    def _excess(self) -> str:
        """What no single process's limit bounds: memory of all together, files in the folder."""
        if _LINUX:
            page = resource.getpagesize()
            total = 0
            for pid in self._alive():
                with _Ignoring(OSError, ValueError, IndexError):
                    total += int(_read(f"/proc/{pid}/statm").split()[1]) * page
            if total > self._limits["memory_bytes"]:
                return "memory"
        return "disk" if self._wrote_too_much() else ""

    def _wrote_too_much(self) -> bool:
        size = entries = 0
        todo = [(self._wanted["writable"], 0)]
        while todo:
            folder, depth = todo.pop()
            try:
                with os.scandir(folder) as found:
                    for entry in found:
                        entries += 1
                        if entry.is_dir(follow_symlinks=False):
                            todo.append((entry.path, depth + 1))
                        else:
                            size += entry.stat(follow_symlinks=False).st_blocks * 512
            except FileNotFoundError:
                continue
            except OSError:
                # Closed, or deeper than a path can say: made so that nobody sees what is in it.
                return True
            if (
                entries > self._limits["written_files"]
                or size > self._limits["written_bytes"]
                or depth > _MAX_DEPTH
            ):
                return True
        return False

    # -- the end

    def _alive(self) -> list[int]:
        """Every process of the app: all of its uid, or all our descendants."""
        parents: dict[int, int] = {}
        owned = set()
        me = os.getpid()
        for name in _process_names():
            if int(name) == me:
                continue
            with _Ignoring(OSError, ValueError, IndexError):
                status = _read(f"/proc/{name}/stat")
                state, parent = status[status.rindex(b")") + 2 :].split()[:2]
                if state in (b"Z", b"X"):
                    continue
                parents[int(name)] = int(parent)
                if self._uid is not None and os.stat(f"/proc/{name}").st_uid == self._uid:
                    owned.add(int(name))
        for pid in parents:
            above = pid
            for _ in range(len(parents)):
                above = parents.get(above, 0)
                if above == me:
                    owned.add(pid)
                    break
                if above == 0:
                    break
        return sorted(owned)

    def _end_everything(self) -> int:
        """Kill and reap until nothing of the app is there; return how many would not go."""
        if self._subreaper and self._status is not None and not self._reap_all():
            # Whoever loses his parent becomes a child of ours, and there is none: nothing is left.
            return 0
        deadline = time.monotonic() + _END_SECONDS
        known: set[int] = set()
        while True:
            if not _LINUX:
                with _Ignoring(OSError):
                    os.killpg(self._main, signal.SIGKILL)
            alive = self._alive() if _LINUX else []
            if self._uid is not None:
                self._kill_uid(self._uid)
            # Stopped first, so that none forks while the others are being killed.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in alive:
                    with _Ignoring(OSError):
                        os.kill(pid, number)
            known.update(alive)
            children = self._reap_all()
            if not children and not (self._alive() if _LINUX else []):
                break
            if time.monotonic() > deadline:
                return len(self._alive()) if _LINUX else 1
            time.sleep(0.005)
        self._ended = len(known - {self._main})
        return 0

    def _reap_all(self) -> bool:
        """Reap who is dead; whether there are others."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._main:
                self._status, self._usage = status, usage

    def _kill_uid(self, uid: int) -> None:
        # kill(-1) as that uid reaches all of its processes at once, however fast they fork.
        killer = os.fork()
        if killer == 0:
            try:
                _drop(uid)
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)
        with _Ignoring(ChildProcessError):
            os.waitpid(killer, 0)


def _read_ready(descriptor: int) -> dict[str, Any]:
    data = b""
    while piece := os.read(descriptor, 65536):
        data += piece
    os.close(descriptor)
    said: dict[str, Any] = {}
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        said.update(marshal.loads(data[4:end]))
        data = data[end:]
    return said


class _Child:
    """The forked process, until it becomes the app."""

    def __init__(self, wanted: dict[str, Any], uid: int | None, tell: int) -> None:
        self._wanted = wanted
        self._limits = wanted["limits"]
        self._uid = uid
        self._tell = tell
        self._reasons: list[str] = []

    def become(self) -> None:
        """Confine this process and turn it into the program; does not return."""
        try:
            os.setsid()
            self._descriptors()
            os.umask(0o077)
            self._limit()
            changed = False
            if self._uid is not None:
                _drop(self._uid)
                changed = True
            elif os.geteuid() == 0:
                _give_up_capabilities()
            os.chdir(self._wanted["cwd"])
            landlock, scoped, seccomp = 0, False, False
            if _LINUX:
                _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                _prctl(PR_SET_NO_NEW_PRIVS, 1)
                landlock, scoped = self._landlock()
                seccomp = self._seccomp(weak=not changed and not scoped)
            else:
                self._reasons.append(f"{os.uname().sysname} has neither Landlock nor seccomp")
            if self._wanted["confined"] and not changed and not landlock:
                self._say(exec_error="unconfined", reasons=self._reasons)
                os._exit(127)
            self._say(uid=changed, landlock=landlock, seccomp=seccomp, reasons=self._reasons)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            os.execve(self._wanted["argv"][0], self._wanted["argv"], self._wanted["environ"])
        except BaseException as error:
            with _Ignoring(BaseException):
                self._say(exec_error=f"{type(error).__name__}: {error}")
        finally:
            os._exit(127)

    def _say(self, **said: Any) -> None:
        os.write(self._tell, message_of(said))

    def _descriptors(self) -> None:
        # First out of the way of 0 to 3, then into their places, then all others closed.
        given = self._wanted["descriptors"]
        moved = {name: _move(descriptor) for name, descriptor in given.items()}
        self._tell = _move(self._tell)
        for name, places in (("request", (0,)), ("output", (1, 2)), ("answer", (3,))):
            for place in places:
                os.dup2(moved[name], place)
        for descriptor in (*given.values(), *moved.values()):
            if descriptor > 3:
                os.close(descriptor)

    def _limit(self) -> None:
        limits = self._limits
        with _Ignoring(OSError):
            # If the machine runs out of memory, this is what should go.
            _write("/proc/self/oom_score_adj", b"1000")
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_FSIZE, limits["file_bytes"])
        _lower(resource.RLIMIT_NOFILE, limits["open_files"])
        _lower(resource.RLIMIT_CPU, limits["cpu_seconds"], limits["cpu_seconds"] + 2)
        processes = limits["processes"]
        if self._uid is None and os.geteuid() != 0:
            processes += _tasks_of(os.geteuid())
        _lower(resource.RLIMIT_NPROC, processes)
        if _LINUX:
            _lower(resource.RLIMIT_AS, limits["memory_bytes"])

    # -- Landlock

    def _landlock(self) -> tuple[int, bool]:
        """Restrict files, TCP, signals and abstract sockets; the ABI used and if signals are."""
        abi = int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))
        if abi < 1:
            self._reasons.append(f"no Landlock ({os.strerror(ctypes.get_errno())})")
            return 0, False
        files = (1 << (13 + (abi >= 2) + (abi >= 3))) - 1
        if abi >= 5:
            files |= _IOCTL
        network = 0b11 if abi >= 4 and not self._wanted["network"] else 0
        scoped = 0b11 if abi >= 6 else 0
        attributes = struct.pack("=QQQ", files, network, scoped)
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        rules = int(
            _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
        )
        if rules < 0:
            self._reasons.append(f"no Landlock ({os.strerror(ctypes.get_errno())})")
            return 0, False
        own = f"/proc/{os.getpid()}"
        for path in [*self._wanted["readable"], own]:
            _allow(rules, path, _READ & files)
        for path in self._wanted["devices"]:
            _allow(rules, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & files)
        _allow(rules, self._wanted["writable"], files & ~(_MAKE_DEVICES | _IOCTL))
        done = int(_libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)))
        problem = ctypes.get_errno()
        os.close(rules)
        if done != 0:
            self._reasons.append(f"no Landlock ({os.strerror(problem)})")
            return 0, False
        return abi, bool(scoped)

    # -- seccomp

    def _seccomp(self, *, weak: bool) -> bool:
        """Refuse system calls; `weak` also refuses signals, when nothing else keeps them in."""
        machine = os.uname().machine
        if machine not in _MACHINES or struct.calcsize("P") != 8:
            self._reasons.append(f"no seccomp filter for {machine}")
            return False
        audit, calls = _MACHINES[machine]
        refused = [calls[name] for name in _REFUSED if name in calls]
        if weak:
            refused += [calls[name] for name in _SIGNALS]
        program = _filter(audit, calls, refused, network=self._wanted["network"])
        code = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
        if _libc.prctl(PR_SET_SECCOMP, 2, header, 0, 0) != 0:
            self._reasons.append(f"no seccomp ({os.strerror(ctypes.get_errno())})")
            return False
        return True


def _move(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    wanted = soft if hard is None else hard
    _, highest = resource.getrlimit(kind)
    if highest != resource.RLIM_INFINITY:
        wanted = min(wanted, highest)
    resource.setrlimit(kind, (min(soft, wanted), wanted))


def _process_names() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _tasks_of(uid: int) -> int:
    if not _LINUX:
        return 512
    count = 0
    for name in _process_names():
        with _Ignoring(OSError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _drop(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (uid, uid, uid) or os.getgroups():
        raise OSError(errno.EPERM, "the uid could not be changed")


def _give_up_capabilities() -> None:
    """Root that stays root keeps none of root's rights; no_new_privs keeps them away at exec."""
    with _Ignoring(OSError):
        os.setgroups([])
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    header = struct.pack("=Ii", 0x20080522, 0)
    if _LINUX and _libc.capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


# -- Landlock's numbers (the same on every machine)

_LANDLOCK_CREATE = ctypes.c_long(444)
_LANDLOCK_ADD = ctypes.c_long(445)
_LANDLOCK_RESTRICT = ctypes.c_long(446)
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_DEVICES = 1 << 6 | 1 << 11
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL


def _allow(rules: int, path: str, rights: int) -> None:
    """Allow rights beneath a path; a path that is not there needs no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FOR_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        done = _libc.syscall(
            _LANDLOCK_ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0)
        )
        if done != 0:
            raise OSError(ctypes.get_errno(), f"landlock_add_rule({path})")
    finally:
        os.close(descriptor)


# -- seccomp's numbers

_SAME = {  # system calls that were added after the tables were unified
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "process_mrelease": 448,
}
# x86_64, aarch64; None where the machine has no such call.
_TABLE: dict[str, tuple[int, int | None]] = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "modify_ldt": (154, None),
    "pivot_root": (155, 41),
    "adjtimex": (159, 171),
    "chroot": (161, 51),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "lookup_dcookie": (212, 18),
    "clock_settime": (227, 112),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "migrate_pages": (256, 238),
    "unshare": (272, 97),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "clock_adjtime": (305, 266),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "memfd_create": (319, 279),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
}
_X86_64 = {name: numbers[0] for name, numbers in _TABLE.items()} | _SAME
_AARCH64 = {name: n for name, (_, n) in _TABLE.items() if n is not None} | _SAME
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
_SIGNALS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
# Judged by their arguments, below.
_JUDGED = ("socket", "socketpair", "clone", "clone3", "prlimit64")
_REFUSED = tuple(name for name in (*_TABLE, *_SAME) if name not in (*_SIGNALS, *_JUDGED))

_RETURN_KILL, _RETURN_ERROR, _RETURN_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
# CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
_NEW_NAMESPACES = 0x7E020000


def _filter(audit: int, calls: dict[str, int], refused: list[int], *, network: bool) -> bytes:
    """A classic BPF program over `struct seccomp_data`."""
    number, arch, first = 0, 4, 16

    def load(offset: int) -> bytes:
        return struct.pack("=HBBI", 0x20, 0, 0, offset)

    def equal(value: int, then: int, otherwise: int) -> bytes:
        return struct.pack("=HBBI", 0x15, then, otherwise, value)

    def answer(value: int) -> bytes:
        return struct.pack("=HBBI", 0x06, 0, 0, value)

    refuse = answer(_RETURN_ERROR | errno.EPERM)
    program = [load(arch), equal(audit, 1, 0), answer(_RETURN_KILL), load(number)]
    # x32 calls on x86_64 carry bit 30.
    program += [struct.pack("=HBBI", 0x35, 0, 1, 0x40000000), answer(_RETURN_KILL)]
    for call in refused:
        program += [equal(call, 0, 1), refuse]
    # Without clone3 the C library falls back to clone, whose flags can be looked at.
    program += [equal(calls["clone3"], 0, 1), answer(_RETURN_ERROR | errno.ENOSYS)]
    tests = struct.pack("=HBBI", 0x45, 0, 1, _NEW_NAMESPACES)
    program += [equal(calls["clone"], 0, 4), load(first), tests, refuse, answer(_RETURN_ALLOW)]
    # A pair of connected sockets leads nowhere else: event loops are made of it.
    families = [calls["socketpair"], _AF_UNIX]
    program += [equal(families[0], 0, 4), load(first), equal(families[1], 1, 0), refuse]
    program += [answer(_RETURN_ALLOW)]
    # Limits may be read and lowered, one's own only.
    program += [equal(calls["prlimit64"], 0, 4), load(first), equal(0, 1, 0), refuse]
    program += [answer(_RETURN_ALLOW)]
    if network:
        program += [equal(calls["socket"], 0, 5), load(first), equal(_AF_INET, 2, 0)]
        program += [equal(_AF_INET6, 1, 0), refuse, answer(_RETURN_ALLOW)]
    else:
        program += [equal(calls["socket"], 0, 1), refuse]
    program.append(answer(_RETURN_ALLOW))
    return b"".join(program)
