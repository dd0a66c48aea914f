"""One deploy of a stage at a time: leases, journals and the log on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.app.deployer import Call, Result
from chalice_ci.errors import LeaseHeld, StateMoved
from chalice_ci.state.journal import Intent, Journal, Lease, parse_journal, render_journal
from chalice_ci.state.lease import (
    LEASE_SECONDS,
    SKEW_SECONDS,
    Clocks,
    Held,
    Here,
    Unlocked,
    has_ended,
    is_live,
    opened,
    take,
    this_process,
    unlock,
    wait_until_free,
)
from chalice_ci.state.local import LocalStore
from chalice_ci.state.local_log import LocalLog, replay
from chalice_ci.state.schema import StageState, StateDamaged
from chalice_ci.state.store import ABSENT, JournalChange, StateKey

KEY = StateKey(app_path=".", stage="dev")
ME, OTHER = Here(owner="me"), Here(owner="other")
FUNCTION = {"name": "f", "resource_type": "lambda_function", "lambda_arn": "arn:f"}
CALL = Call(
    number=1,
    service="lambda",
    operation="CreateFunction",
    params={},
    method="create_function",
    resource="f",
)
DONE = Result(ok=True, status=201, code="", message="", attempts=1, response={})


class Time:
    """Clocks that go on when they are told to."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.slept: list[float] = []

    @property
    def clocks(self) -> Clocks:
        start = datetime(2030, 1, 1, tzinfo=UTC)
        return Clocks(
            now=lambda: start + timedelta(seconds=self.passed),
            elapsed=lambda: self.passed,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "states")


@pytest.fixture
def taken(store: LocalStore, tmp_path: Path) -> Iterator[Any]:
    helds: list[Held] = []

    def taking(here: Here = ME, time: Time | None = None) -> Held:
        held = take(
            store,
            KEY,
            store.read(KEY),
            Journal(
                lease=None,
                verb="deploy",
                account="1",
                region="r",
                intents=(Intent(method="create_function", resource="f"),),
            ),
            here=here,
            clocks=(time or Time()).clocks,
            reason="deploy c0ffee",
            message="m",
            log_file=tmp_path / f"{here.owner}.jsonl",
        )
        helds.append(held)
        return held

    yield taking
    for held in helds:
        held.finish(recorded=False)


class TestTaking:
    def test_all_intents_are_in_the_store_before_the_first_call(
        self, store: LocalStore, taken: Any
    ) -> None:
        taken()
        journal = opened(KEY, store.read(KEY).journal)
        assert journal is not None
        assert journal.intents == (Intent(method="create_function", resource="f"),)
        assert journal.lease is not None
        assert (journal.lease.owner, journal.lease.reason) == ("me", "deploy c0ffee")

    def test_of_two_the_second_is_told_who_holds_it(self, taken: Any) -> None:
        taken()
        with pytest.raises(LeaseHeld, match="me holds this stage: deploy c0ffee"):
            taken(OTHER)

    def test_of_fifty_at_once_one_is_the_holder(self, store: LocalStore, tmp_path: Path) -> None:
        stored, results = store.read(KEY), list[str]()
        begin = threading.Barrier(50)

        def race(number: int) -> None:
            begin.wait()
            try:
                held = take(
                    store,
                    KEY,
                    stored,
                    Journal(lease=None, verb="deploy", account="1", region="r"),
                    here=Here(owner=str(number)),
                    clocks=Time().clocks,
                    reason="race",
                    message="m",
                    log_file=tmp_path / f"{number}.jsonl",
                )
            except (StateMoved, LeaseHeld):
                results.append("told")
            else:
                results.append("holds")
                held.finish(recorded=False)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["holds", *["told"] * 49]

    def test_an_expired_lease_is_taken_over_with_a_greater_token(self, taken: Any) -> None:
        time = Time()
        first = taken(ME, time)
        time.passed += LEASE_SECONDS + SKEW_SECONDS - 1
        with pytest.raises(LeaseHeld):
            taken(OTHER, time)
        time.passed += 1
        assert taken(OTHER, time).token > first.token

    def test_a_later_attempt_of_the_same_run_does_not_wait_for_the_earlier_one(self) -> None:
        now = datetime(2030, 1, 1, tzinfo=UTC)
        lease = Lease(token=1, owner="o", reason="r", expires=now, run=7, attempt=1)
        assert is_live(lease, Here(owner="x", run=7, attempt=1), now)
        assert is_live(lease, Here(owner="x", run=8, attempt=2), now)
        assert not is_live(lease, Here(owner="x", run=7, attempt=2), now)


class TestHolding:
    def test_a_holder_whose_time_is_over_makes_no_call(self, taken: Any) -> None:
        """Paused, and another took over: the clock that goes on meanwhile says so."""
        time = Time()
        held = taken(ME, time)
        held.allow(CALL)
        time.passed += LEASE_SECONDS
        with pytest.raises(LeaseHeld, match="ran out"):
            held.allow(replace(CALL, number=2))

    def test_a_holder_that_was_replaced_makes_no_call(self, store: LocalStore, taken: Any) -> None:
        time = Time()
        held = taken(ME, time)
        unlock(store, KEY, message="m")
        held.stands(FUNCTION)
        time.passed += 15
        _until(lambda: not held._keeper.is_alive())
        with pytest.raises(LeaseHeld):
            held.allow(CALL)

    def test_it_is_renewed_at_half_life(self, store: LocalStore, taken: Any) -> None:
        time = Time()
        taken(ME, time)
        before = opened(KEY, store.read(KEY).journal)
        time.passed += LEASE_SECONDS / 2 + 1
        _until(lambda: opened(KEY, store.read(KEY).journal) != before)
        after = opened(KEY, store.read(KEY).journal)
        assert before
        assert before.lease
        assert after
        assert after.lease
        assert after.lease.expires - before.lease.expires > timedelta(seconds=LEASE_SECONDS / 2)
        assert after.lease.token == before.lease.token

    def test_what_stands_reaches_the_store_after_fifteen_seconds_and_not_before(
        self, store: LocalStore, taken: Any
    ) -> None:
        time = Time()
        held = taken(ME, time)
        held.allow(CALL)
        held.stands(FUNCTION)
        version = store.read(KEY).journal.version
        globals()["time"].sleep(1.5)
        assert store.read(KEY).journal.version == version
        time.passed += 15
        _until(lambda: store.read(KEY).journal.version != version)
        journal = opened(KEY, store.read(KEY).journal)
        assert journal is not None
        assert (journal.resources, journal.calls) == ((FUNCTION,), 1)
        assert journal.in_flight == ("lambda:CreateFunction f",)

    def test_success_closes_the_journal_and_failure_leaves_it_open(
        self, store: LocalStore, taken: Any
    ) -> None:
        state = StageState(resources=(FUNCTION,))
        held = taken()
        held.allow(CALL)
        left = held.closing(state, complete=False)
        store.write(KEY, state, expected=ABSENT, message="m", journal=left)
        journal = opened(KEY, store.read(KEY).journal)
        assert journal is not None
        assert (journal.lease, journal.resources) == (None, (FUNCTION,))
        assert journal.in_flight == ("lambda:CreateFunction f",)


class TestWaiting:
    def test_it_ends_when_the_stage_is_free(self, store: LocalStore, taken: Any) -> None:
        time, said = Time(), list[str]()
        held = taken(ME, time)
        ticks = iter(range(3))

        def sleep(seconds: float) -> None:
            if next(ticks, None) is None:
                held.release()
            time.sleep(seconds)

        stored = wait_until_free(
            store,
            KEY,
            here=OTHER,
            clocks=replace(time.clocks, sleep=sleep),
            patience=300,
            say=said.append,
        )
        assert stored.journal.raw is None
        assert said[0] == (
            "waiting: me holds this stage: deploy c0ffee, until 00:10:00 UTC unless renewed"
        )

    def test_it_ends_when_patience_does(self, store: LocalStore, taken: Any) -> None:
        time = Time()
        taken(ME, time)
        with pytest.raises(LeaseHeld, match="state unlock") as told:
            wait_until_free(
                store, KEY, here=OTHER, clocks=time.clocks, patience=60, say=lambda _: None
            )
        assert told.value.exit_code == 14
        assert sum(time.slept) == 60

    def test_a_long_wait_says_that_it_goes_on(self, store: LocalStore, taken: Any) -> None:
        time, said = Time(), list[str]()
        taken(ME, time)
        with pytest.raises(LeaseHeld):
            wait_until_free(
                store, KEY, here=OTHER, clocks=time.clocks, patience=300, say=said.append
            )
        assert 4 <= len(said) <= 6
        assert re.fullmatch(r"waiting \((6|7|8|9)\d s of 300\): me holds this stage: .*", said[1])

    def test_unlocking_tells_who_held_it_and_leaves_the_journal_open(
        self, store: LocalStore, taken: Any
    ) -> None:
        taken()
        lease = unlock(store, KEY, message="m").holder
        assert lease is not None
        assert lease.owner == "me"
        journal = opened(KEY, store.read(KEY).journal)
        assert journal is not None
        assert journal.lease is None
        assert unlock(store, KEY, message="m") == Unlocked()

    def test_by_force_the_journal_goes_too(self, store: LocalStore, taken: Any) -> None:
        taken()
        done = unlock(store, KEY, message="m", clear=True)
        assert done.cleared
        assert done.holder is not None
        assert store.read(KEY).journal.raw is None
        assert unlock(store, KEY, message="m", clear=True) == Unlocked()

    @pytest.mark.parametrize("raw", [b"", b"{", b"\0" * 9, b'{"format": 2}', b"[" * 9999])
    def test_a_journal_that_cannot_be_read_is_cleared_as_its_error_says(
        self, store: LocalStore, raw: bytes
    ) -> None:
        store.keep_journal(KEY, JournalChange(raw=raw, expected=""), state="", message="m")
        with pytest.raises(StateDamaged, match="state unlock"):
            opened(KEY, store.read(KEY).journal)
        done = unlock(store, KEY, message="m")
        assert done.cleared
        assert done.damaged
        assert store.read(KEY).journal.raw is None


class TestProcesses:
    def test_a_process_is_known_to_have_ended_only_when_it_has(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            name = this_process(process.pid)
            assert name
            assert not has_ended(name)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert has_ended(name)

    def test_a_process_that_nobody_waited_for_has_ended(self) -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(0.2)
            os._exit(0)
        name = this_process(pid)
        _until(lambda: has_ended(name))
        os.waitpid(pid, 0)

    @pytest.mark.parametrize("name", ["", "x", "a/b/c/d", "another-boot/1/1/1", "1/2/3/4/5"])
    def test_of_a_process_elsewhere_nothing_is_known(self, name: str) -> None:
        assert not has_ended(name)

    def test_another_process_with_the_same_number_is_another(self) -> None:
        boot, namespace, pid, _ = this_process().split("/")
        assert has_ended(f"{boot}/{namespace}/{pid}/1")


class TestLog:
    def test_what_was_written_is_read_again(self, tmp_path: Path) -> None:
        log = LocalLog(tmp_path / "log", 7)
        log.intent(1, "iam:CreateRole", "default-role")
        log.result(1, True, "")
        log.stands(FUNCTION)
        log.stands({**FUNCTION, "more": "x"})
        log.gone("old")
        log.intent(2, "lambda:CreateFunction", "g")
        log.close(forget=False)
        told = replay(tmp_path / "log", 7)
        assert told is not None
        assert told.standing == ({**FUNCTION, "more": "x"},)
        assert told.gone == {"old"}
        assert told.in_flight == ("lambda:CreateFunction g",)

    def test_the_log_of_another_holder_says_nothing(self, tmp_path: Path) -> None:
        LocalLog(tmp_path / "log", 7).close(forget=False)
        assert replay(tmp_path / "log", 8) is None
        assert replay(tmp_path / "none", 7) is None

    @given(cut=st.integers(0, 200))
    @settings(max_examples=30, deadline=None)
    def test_a_log_that_was_cut_off_is_read_up_to_there(
        self, tmp_path_factory: pytest.TempPathFactory, cut: int
    ) -> None:
        path = tmp_path_factory.mktemp("log") / "log"
        log = LocalLog(path, 7)
        log.stands(FUNCTION)
        log.intent(1, "iam:CreateRole", "default-role")
        log.close(forget=False)
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        told = replay(path, 7)
        lines = whole[:cut].count(b"\n")
        assert (told is None) == (lines == 0)
        assert told is None or len(told.standing) == (lines > 1)
        assert told is None or len(told.in_flight) == (lines > 2)

    def test_it_goes_when_all_is_recorded(self, tmp_path: Path) -> None:
        log = LocalLog(tmp_path / "log", 7)
        log.close(forget=True)
        assert not (tmp_path / "log").exists()


class TestJournal:
    def test_it_makes_a_round_trip(self) -> None:
        journal = Journal(
            lease=Lease(
                token=3,
                owner="o",
                reason="r",
                expires=datetime(2030, 1, 1, tzinfo=UTC),
                process="p",
                run=1,
                attempt=2,
            ),
            verb="deploy",
            account="1",
            region="r",
            commit="c",
            intents=(Intent(method="m", resource="f"),),
            resources=(FUNCTION,),
            calls=4,
            in_flight=("x",),
        )
        assert parse_journal(render_journal(journal), where="j") == journal

    @given(
        st.one_of(
            st.binary(max_size=200),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(
                            ["format", "lease", "token", "resources", "intents", "calls", "expires"]
                        ),
                        inner,
                        max_size=5,
                    )
                ),
                max_leaves=10,
            ).map(lambda document: json.dumps(document).encode()),
        )
    )
    @settings(max_examples=200, deadline=None)
    def test_nonsense_is_refused_in_words(self, raw: bytes) -> None:
        with pytest.raises(StateDamaged):
            parse_journal(raw, where="j")

    @given(data=st.data())
    @settings(max_examples=200, deadline=None)
    def test_a_journal_with_one_wrong_value_is_refused_or_read(self, data: st.DataObject) -> None:
        journal = Journal(lease=None, verb="v", account="1", region="r")
        document = json.loads(render_journal(journal))
        key = data.draw(st.sampled_from(sorted(document)))
        document[key] = data.draw(
            st.none() | st.integers() | st.text(max_size=3) | st.lists(st.none(), max_size=2)
        )
        with contextlib.suppress(StateDamaged):
            parse_journal(json.dumps(document).encode(), where="j")


def _until(true: Any) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
