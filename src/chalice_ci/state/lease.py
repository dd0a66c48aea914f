"""One deploy of a stage at a time: a lease in the stage's journal.

A lease is taken, renewed and given back by replacing the journal that was read, which the store
does only if it is still that one; so of many takers one is the holder. The holder looks at its own
clock before each call - one that goes on while the machine sleeps - and makes none when the lease
may have run out: at most the call that is under way completes.

While it is held, a thread writes to the store what is known meanwhile, rarely: a forge allows a
thousand requests an hour. What the store does not know yet is on this machine's disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from chalice_ci.app.deployer import Call, Result
from chalice_ci.errors import (
    ForgeError,
    LeaseHeld,
    StateMoved,
    StateNotRecorded,
    refused_by_machine,
)
from chalice_ci.plan import Operation
from chalice_ci.state.journal import Journal, Lease, parse_journal, render_journal
from chalice_ci.state.local_log import LocalLog
from chalice_ci.state.schema import Resource, StageState, StateDamaged
from chalice_ci.state.store import JournalChange, Kept, StateKey, StateStore, Stored

LEASE_SECONDS = 600
SKEW_SECONDS = 30
"""How far the clocks of two machines may be apart: so much longer a lease of another counts."""
MARGIN_SECONDS = 5
FIRST_FLUSH_SECONDS = 15.0
"""Then twice as long each time: short deploys cost the store nothing, long ones little."""
_TICK_SECONDS = 0.5
_FIRST_LOOK_SECONDS = 2.0
_LAST_LOOK_SECONDS = 30.0
_SAY_SECONDS = 60.0
"""So often a wait says that it goes on: a log without a line looks hung, and CI ends it."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """Who asks for a lease: names for people, the process on its machine, the CI run."""

    owner: str
    process: str = ""
    run: int = 0
    attempt: int = 0
    has_ended: Callable[[str], bool] = lambda _process: False


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """`now` is UTC, `elapsed` seconds that go on while the machine sleeps, `sleep` waits."""

    now: Callable[[], datetime]
    elapsed: Callable[[], float]
    sleep: Callable[[float], None]


def is_live(lease: Lease, here: Here, now: datetime) -> bool:
    """Whether the holder may still be at work.

    Not when the time is over, nor when it is known to have ended: its process on this very machine,
    or an earlier attempt of the same CI run.
    """
    if now >= lease.expires + timedelta(seconds=SKEW_SECONDS):
        return False
    if lease.process and here.has_ended(lease.process):
        return False
    return not (lease.run and lease.run == here.run and lease.attempt < here.attempt)


def opened(key: StateKey, kept: Kept) -> Journal | None:
    """The journal that a store keeps, read; raises StateDamaged."""
    return None if kept.raw is None else parse_journal(kept.raw, where=key.journal_file)


def wait_until_free(
    store: StateStore,
    key: StateKey,
    *,
    here: Here,
    clocks: Clocks,
    patience: float,
    say: Callable[[str], None],
) -> Stored:
    """What the store has once nobody holds the stage's lease.

    Raises LeaseHeld when somebody holds it for longer than `patience` seconds.
    """
    begun = clocks.elapsed()
    until = begun + patience
    pause, said, at = _FIRST_LOOK_SECONDS, "", begun
    while True:
        stored = store.read(key)
        journal = opened(key, stored.journal)
        lease = None if journal is None else journal.lease
        if lease is None or not is_live(lease, here, clocks.now()):
            return stored
        words = f"{lease.owner} holds this stage: {lease.reason}"
        left = until - clocks.elapsed()
        if left <= 0:
            raise LeaseHeld(
                f"{words}, until {lease.expires:%H:%M:%S} UTC unless it is renewed.",
                where=key.file,
                fix="Wait for it and run again. If it has ended without giving the stage back: "
                f"chalice-ci state unlock --stage {key.stage}",
            )
        if words != said or clocks.elapsed() - at >= _SAY_SECONDS:
            waited = f" ({until - left - begun:.0f} s of {patience:.0f})" if words == said else ""
            say(f"waiting{waited}: {words}, until {lease.expires:%H:%M:%S} UTC unless renewed")
            said, at = words, clocks.elapsed()
        clocks.sleep(min(pause, max(0.0, left)))
        pause = min(_LAST_LOOK_SECONDS, pause * 1.5)


def take(
    store: StateStore,
    key: StateKey,
    stored: Stored,
    journal: Journal,
    *,
    here: Here,
    clocks: Clocks,
    reason: str,
    message: str,
    log_file: Path,
    writing: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Held:
    """Take the lease and open the journal, with all intents, in one write.

    Raises StateMoved when the journal or the state is not what `stored` says any more, LeaseHeld
    when somebody holds the lease, StateNotRecorded when the store fails. `writing` is entered
    during the write: what is raised there then, a signal, leaves the stage as it was found.
    """
    left = opened(key, stored.journal)
    if left is not None and left.lease is not None and is_live(left.lease, here, clocks.now()):
        raise LeaseHeld(
            f"{left.lease.owner} holds this stage: {left.lease.reason}.",
            where=key.file,
            fix="Wait for it and run again.",
        )
    before = 0 if left is None or left.lease is None else left.lease.token
    # A journal goes when it is finished, so time keeps the tokens growing.
    token = max(before + 1, int(clocks.now().timestamp() * 1000))
    lease = Lease(
        token=token,
        owner=here.owner,
        reason=reason,
        expires=_expiry(clocks),
        process=here.process,
        run=here.run,
        attempt=here.attempt,
    )
    begun = clocks.elapsed()
    journal = replace(journal, lease=lease, begun=clocks.now().replace(microsecond=0))
    change = JournalChange(raw=render_journal(journal), expected=stored.journal.version)
    try:
        with writing():
            version = store.keep_journal(key, change, state=stored.version, message=message)
    except (StateMoved, StateNotRecorded, ForgeError):
        raise
    except BaseException:
        _give_back(store, key, stored, lease, message)
        raise
    try:
        log = LocalLog(log_file, token)
    except OSError as error:
        # Nothing was done yet: the stage is given back as it was found.
        back = JournalChange(raw=stored.journal.raw, expected=version)
        with contextlib.suppress(StateMoved, StateNotRecorded, ForgeError):
            store.keep_journal(key, back, state=stored.version, message=message)
        raise refused_by_machine(error) or error from error
    return Held(
        store=store,
        key=key,
        state=stored.version,
        version=version,
        journal=journal,
        until=begun + LEASE_SECONDS,
        clocks=clocks,
        message=message,
        log=log,
    )


def _give_back(store: StateStore, key: StateKey, found: Stored, lease: Lease, message: str) -> None:
    """Leave a stage as it was found, if a write that was broken off took this lease."""
    with contextlib.suppress(StateMoved, StateNotRecorded, StateDamaged, ForgeError):
        stored = store.read(key)
        journal = opened(key, stored.journal)
        if journal is not None and journal.lease == lease:
            back = JournalChange(raw=found.journal.raw, expected=stored.journal.version)
            store.keep_journal(key, back, state=stored.version, message=message)


@dataclass(frozen=True, kw_only=True)
class Unlocked:
    """What `unlock` found: who held the lease, and whether the journal is gone now.

    `damaged` says why a journal could not be read, empty when it could.
    """

    holder: Lease | None = None
    cleared: bool = False
    damaged: str = ""


def unlock(store: StateStore, key: StateKey, *, message: str, clear: bool = False) -> Unlocked:
    """Take the lease away from whoever holds it.

    The journal stays open: the next deploy looks for what the holder left. With `clear` it goes,
    and so does one that can't be read, which nobody could go on from.
    """
    stored = store.read(key)
    if stored.journal.raw is None:
        return Unlocked()
    try:
        journal, damaged = opened(key, stored.journal), ""
    except StateDamaged as error:
        journal, damaged = None, error.what
    lease = None if journal is None else journal.lease
    clear = clear or journal is None
    if lease is None and not clear:
        return Unlocked()
    left = None if clear or journal is None else render_journal(replace(journal, lease=None))
    change = JournalChange(raw=left, expected=stored.journal.version)
    store.keep_journal(key, change, state=stored.version, message=message)
    return Unlocked(holder=lease, cleared=clear, damaged=damaged)


class Held:
    """A lease that is held: asked before each call, told of all that happens.

    A gate and a witness of the deployer. `finish` or `abandon` ends it.
    """

    def __init__(
        self,
        *,
        store: StateStore,
        key: StateKey,
        state: str,
        version: str,
        journal: Journal,
        until: float,
        clocks: Clocks,
        message: str,
        log: LocalLog,
    ) -> None:
        self._store = store
        self._key = key
        self._state = state
        self._version = version
        self._journal = journal
        self._until = until
        self._clocks = clocks
        self._message = message
        self._log = log
        self._lock = threading.Lock()
        self._standing = {str(r["name"]): dict(r) for r in journal.resources}
        self._calls: dict[int, str] = {}
        self._made = 0
        self._dirty = False
        self._lost: StateMoved | None = None
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._keeper.start()

    @property
    def token(self) -> int:
        """The fencing token: greater than those of all earlier holders."""
        return 0 if self._journal.lease is None else self._journal.lease.token

    # -- gate ---------------------------------------------------------------------------------

    def review(self, operations: tuple[Operation, ...]) -> None:
        """The plan is in the journal already."""

    def allow(self, call: Call) -> None:
        """Note a call before it is made; raises LeaseHeld when the lease may have run out."""
        self._refuse_late()
        with self._lock:
            try:
                self._log.intent(call.number, str(call), call.resource)
            except OSError as error:
                # What can't be noted is not done.
                raise refused_by_machine(error) or error from error
        # A disk may be slow, and a process can be stopped while it waits for it.
        self._refuse_late()
        with self._lock:
            self._calls[call.number] = f"{call} {call.resource}"
            self._made += 1
            self._dirty = True

    def _refuse_late(self) -> None:
        if self._lost is not None or self._clocks.elapsed() >= self._until - MARGIN_SECONDS:
            raise LeaseHeld(
                "the lease of this stage ran out while the deploy was going on, so nothing more is "
                "changed.",
                where=self._key.file,
                fix="Run again: what stands is recorded and taken up.",
            )

    def done(self, call: Call, result: Result) -> None:
        """Note what came of a call; without an answer nobody knows."""
        if result.status == 0:
            return
        with self._lock:
            self._calls.pop(call.number, None)
            with _in_memory_too():
                self._log.result(call.number, result.ok, result.code)

    # -- witness ------------------------------------------------------------------------------

    def stands(self, resource: Resource) -> None:
        """Note a resource that stands now."""
        with self._lock:
            name = str(resource["name"])
            before = self._standing.get(name, {})
            if before.get("resource_type") != resource.get("resource_type"):
                before = {}
            self._standing[name] = {**before, **resource}
            self._dirty = True
            with _in_memory_too():
                self._log.stands(resource)

    def gone(self, name: str) -> None:
        """Note a resource that is gone."""
        with self._lock:
            self._standing.pop(name, None)
            self._dirty = True
            with _in_memory_too():
                self._log.gone(name)

    # -- the end ------------------------------------------------------------------------------

    def closing(self, state: StageState, *, complete: bool) -> JournalChange:
        """The journal's change that goes with the last write of the state.

        Nothing is left of it after full success; else it stays, held by nobody, so that the next
        deploy looks for what is not known.
        """
        self._stop()
        if complete:
            return JournalChange(raw=None, expected=self._version)
        with self._lock:
            left = replace(self._known(), lease=None, resources=state.resources)
        return JournalChange(raw=render_journal(left), expected=self._version)

    def release(self) -> bool:
        """Give the stage back when nothing was done and nothing is recorded; whether it worked."""
        self._stop()
        return self._replaced_by(None)

    def give_back(self) -> bool:
        """Give the stage back with its journal open, so that the next deploy goes on from it;
        whether it worked.
        """
        self._stop()
        return self._replaced_by(render_journal(replace(self._known(), lease=None)))

    def _replaced_by(self, raw: bytes | None) -> bool:
        change = JournalChange(raw=raw, expected=self._version)
        try:
            self._store.keep_journal(self._key, change, state=self._state, message=self._message)
        except (StateMoved, StateNotRecorded, ForgeError):
            return False
        return True

    def finish(self, *, recorded: bool) -> None:
        """End it; the log on disk goes when everything is recorded in the store."""
        self._stop()
        with contextlib.suppress(OSError):
            self._log.close(forget=recorded)

    def _stop(self) -> None:
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()

    # -- the keeper ---------------------------------------------------------------------------

    def _keep(self) -> None:
        pause, last = FIRST_FLUSH_SECONDS, self._clocks.elapsed()
        while not self._ended.wait(_TICK_SECONDS):
            now = self._clocks.elapsed()
            half = self._until - now < LEASE_SECONDS / 2
            if not ((self._dirty and now - last >= pause) or (half and now - last >= 1.0)):
                continue
            last, pause = now, pause * 2
            try:
                self._write()
            except StateMoved as lost:
                self._lost = lost
                return
            except (StateNotRecorded, ForgeError):
                # It may pass; if it does not, the lease runs out and the deploy stops.
                pause = FIRST_FLUSH_SECONDS

    def _write(self) -> None:
        begun = self._clocks.elapsed()
        with self._lock:
            journal = self._known()
            self._dirty = False
        if journal.lease is not None:
            lease = replace(journal.lease, expires=_expiry(self._clocks))
            journal = replace(journal, lease=lease)
        raw = render_journal(journal)
        change = JournalChange(raw=raw, expected=self._version)
        self._version = self._store.keep_journal(
            self._key, change, state=self._state, message=self._message
        )
        self._until = begun + LEASE_SECONDS

    def _known(self) -> Journal:
        return replace(
            self._journal,
            resources=tuple(self._standing.values()),
            calls=self._made,
            in_flight=tuple(self._calls.values()),
        )


def _in_memory_too() -> contextlib.AbstractContextManager[None]:
    """What is noted here goes to the store as well: a disk that fails ends the deploy before its
    next call, and not the record of this one.
    """
    return contextlib.suppress(OSError)


def _expiry(clocks: Clocks) -> datetime:
    return clocks.now().replace(microsecond=0) + timedelta(seconds=LEASE_SECONDS)


# -- processes ------------------------------------------------------------------------------------


def this_process(pid: int | None = None) -> str:
    """A name of a process that no other process ever has; empty where that can't be told.

    The boot of the machine, the namespace that the number counts in, the number and its start.
    """
    number = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The inode of the namespace: numbers of a container are not those of its host.
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        return f"{boot}/{namespace}/{number}/{_start_of(number)}"
    except (OSError, ValueError, IndexError):
        return ""


def has_ended(process: str) -> bool:
    """Whether a process, as `this_process` named it, is known to be no more.

    Only for processes of this boot and namespace; of others nothing is known.
    """
    try:
        boot, namespace, pid, started = process.split("/")
        number, mine = int(pid), this_process()
    except ValueError:
        return False
    if not mine or mine.split("/")[:2] != [boot, namespace]:
        return False
    try:
        return _start_of(number) != started
    except (FileNotFoundError, ProcessLookupError):
        return True
    except (OSError, ValueError, IndexError):
        return False


def _start_of(pid: int) -> str:
    """When a process began, in ticks since the boot; a zombie has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    state, *rest = fields.rpartition(")")[2].split()
    if state in ("Z", "X"):
        raise ProcessLookupError(pid)
    return rest[18]
