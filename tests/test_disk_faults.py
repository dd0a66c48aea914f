"""A disk that is full, broken or read-only at each write: old or new, never torn, and in words."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.app.deployer import Call, Result
from chalice_ci.errors import UserError, refused_by_machine
from chalice_ci.local import EmbeddedAWS
from chalice_ci.output import replace_file
from chalice_ci.ownership import clients_of
from chalice_ci.plan import open_plan, seal
from chalice_ci.state.journal import Journal
from chalice_ci.state.lease import Clocks, Here, take
from chalice_ci.state.local import LocalStore
from chalice_ci.state.local_log import replay
from chalice_ci.state.schema import StageState, parse_v2
from chalice_ci.state.store import ABSENT, JournalChange, StateKey
from support.commandline import chalice_ci, environ, hello
from support.disk import Disk, command, failing
from support.statewriter import marked
from test_plan import CODE, LAYER, PLAN

KEY = StateKey(app_path="services/orders", stage="dev")
CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)
DEEP = os.environ.get("DISK_FAULTS") == "all"


def at_each_point(
    folder: Path,
    prepare: Callable[[Path], Any],
    act: Callable[[Path, Any], object],
    check: Callable[[Path, Any, bool], None],
) -> int:
    """Do something on a fresh folder with each of its operations failing in turn, once and for
    good, in each way; the number of points. `check` gets whether the act said that it succeeded.
    """
    points = number = 0
    for code in CODES:
        for lasting in (False, True):
            nth = 1
            while True:
                number += 1
                root = folder / str(number)
                root.mkdir()
                before = prepare(root)
                disk = Disk(roots=(str(root),), nth=nth, code=code, lasting=lasting)
                told = None
                with failing(disk):
                    try:
                        act(root, before)
                    except UserError as error:
                        told = error
                    except OSError as problem:
                        told = refused_by_machine(problem) or UserError(f"a defect: {problem!r}")
                done = told is None
                if told is not None:
                    assert told.fix
                    assert os.strerror(code) in str(told)
                    assert str(root) in told.where
                check(root, before, done)
                if not disk.failed:
                    assert done
                    break
                points += 1
                nth += 1
            assert nth > 2, "nothing was written there"
    return points


class TestTheLocalStore:
    def test_a_state_its_snapshot_and_its_journal(self, tmp_path: Path) -> None:
        def prepare(root: Path) -> tuple[str, str]:
            store = LocalStore(root)
            journal = JournalChange(raw=b"journal", expected=ABSENT)
            kept = store.keep_journal(KEY, journal, state=ABSENT, message="")
            written = store.write(KEY, marked("old"), expected=ABSENT, message="", snapshot=b"old")
            return written.version, kept

        def act(root: Path, before: tuple[str, str]) -> object:
            closing = JournalChange(raw=None, expected=before[1])
            return LocalStore(root).write(
                KEY,
                marked("new"),
                expected=before[0],
                message="",
                snapshot=b"new",
                journal=closing,
            )

        def check(root: Path, _: object, done: bool) -> None:
            store = LocalStore(root)
            stored, beside = store.read(KEY), store.snapshot(KEY)
            assert stored.state in (marked("old"), marked("new"))
            assert beside in (None, b"old" if stored.state == marked("old") else b"new")
            assert stored.journal.raw in (None, b"journal")
            if stored.journal.raw is None:
                # Closed last: whoever finds no journal finds the new state.
                assert stored.state == marked("new")
            if done:
                assert (stored.state, beside) == (marked("new"), b"new")
            again = store.write(KEY, marked("next"), expected=stored.version, message="")
            assert store.read(KEY).state == marked("next")
            assert again.changed
            assert not list((root / KEY.file).parent.glob(".*"))

        assert at_each_point(tmp_path, prepare, act, check) >= 80

    def test_the_first_state_of_a_folder(self, tmp_path: Path) -> None:
        def act(root: Path, _: object) -> object:
            return LocalStore(root / "a/b").write(KEY, marked("a"), expected=ABSENT, message="")

        def check(root: Path, _: object, done: bool) -> None:
            found = LocalStore(root / "a/b").read(KEY).state
            assert found == marked("a") if done else found in (None, marked("a"))

        assert at_each_point(tmp_path, lambda _: None, act, check) >= 40


def _clocks() -> Clocks:
    return Clocks(now=lambda: datetime.now(UTC), elapsed=lambda: 0.0, sleep=lambda _: None)


class TestTheLease:
    """The store is elsewhere; the log of the calls is on the disk that fails."""

    def test_no_call_is_made_whose_intent_is_not_on_disk_and_what_stands_is_not_lost(
        self, tmp_path: Path
    ) -> None:
        call = Call(
            number=1,
            service="lambda",
            operation="CreateFunction",
            params={},
            method="create_function",
            resource="f",
        )
        done = Result(ok=True, status=201, code="", message="", attempts=1, response={})
        function = dict(marked("f").resources[0])
        stores: dict[Path, LocalStore] = {}
        made: dict[Path, list[int]] = {}

        def prepare(root: Path) -> None:
            stores[root] = LocalStore(tmp_path / "stores" / root.name)
            made[root] = []

        def act(root: Path, _: object) -> None:
            store = stores[root]
            held = take(
                store,
                KEY,
                store.read(KEY),
                Journal(lease=None, verb="deploy", account="1", region="r"),
                here=Here(owner="me"),
                clocks=_clocks(),
                reason="deploy",
                message="m",
                log_file=root / "journals" / "log",
            )
            recorded: tuple[dict[str, object], ...] = ()
            try:
                for number in (1, 2, 3):
                    held.allow(Call(**{**vars(call), "number": number}))
                    made[root].append(number)
                    held.done(Call(**{**vars(call), "number": number}), done)
                    recorded = (*recorded, {**function, "name": f"f{number}"})
                    held.stands(recorded[-1])
            finally:
                state = StageState(resources=recorded)
                closing = held.closing(state, complete=len(recorded) == 3)
                store.write(KEY, state, expected=ABSENT, message="m", journal=closing)
                held.finish(recorded=True)

        def check(root: Path, _: object, finished: bool) -> None:
            stored = stores[root].read(KEY)
            if stored.state is None:
                assert made[root] == []
                assert stored.journal.raw is None, "a lease that could not be used is given back"
                return
            assert len(stored.state.resources) == len(made[root])
            assert finished or stored.journal.raw is not None or len(made[root]) == 3

        assert at_each_point(tmp_path, prepare, act, check) >= 40

    def test_a_line_that_was_cut_off_does_not_swallow_the_next(self, tmp_path: Path) -> None:
        from chalice_ci.state.local_log import LocalLog

        root = tmp_path / "log"
        root.mkdir()
        log = LocalLog(root / "log", 1)
        with failing(Disk(roots=(str(root),), nth=1)), suppress(OSError):
            log.stands({"name": "lost", "resource_type": "x"})
        log.stands({"name": "kept", "resource_type": "x"})
        log.close(forget=False)
        told = replay(root / "log", 1)
        assert told is not None
        assert [r["name"] for r in told.standing] == ["kept"]


def test_a_plan_file_is_the_old_the_new_or_none(tmp_path: Path) -> None:
    packages = {"app": tmp_path / "app.zip", "layer": tmp_path / "layer.zip"}
    for path, data in zip(packages.values(), (CODE, LAYER), strict=True):
        path.write_bytes(data)

    def prepare(root: Path) -> bytes | None:
        if int(root.name) % 2:
            return None
        (root / "out").mkdir()
        seal(PLAN, packages, root / "out" / "x.plan")
        return (root / "out" / "x.plan").read_bytes()

    def act(root: Path, _: object) -> object:
        return seal(PLAN, packages, root / "out" / "x.plan")

    def check(root: Path, before: bytes | None, done: bool) -> None:
        path = root / "out" / "x.plan"
        if done or before is not None or path.exists():
            assert open_plan(path, root / "opened").plan == PLAN

    assert at_each_point(tmp_path, prepare, act, check) >= 40


def test_a_report_or_an_artifact_is_the_old_or_the_new(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        (root / "report.json").write_bytes(b"old")

    def act(root: Path, _: object) -> None:
        replace_file(root / "report.json", b"new and longer")

    def check(root: Path, _: object, done: bool) -> None:
        found = (root / "report.json").read_bytes()
        assert found == b"new and longer" if done else found in (b"old", b"new and longer")

    assert at_each_point(tmp_path, prepare, act, check) >= 12


# -- whole processes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


class Deploys:
    """`chalice-ci deploy` with the local store, on a disk that fails."""

    def __init__(self, aws: EmbeddedAWS, folder: Path) -> None:
        self.aws = aws
        self.folder = folder
        self.number = 0

    def run(self, *, nth: int, code: int, lasting: bool) -> tuple[Path, Any, list[Any]]:
        """A first deploy; the repository, how it ended, and the operations that were seen."""
        self.aws.reset()
        self.number += 1
        room = self.folder / str(self.number)
        repository = hello(room / "r", **{"chalice-ci.yml": "state: {store: local}\n"})
        # A log of calls is kept in the cache's folder, which all tests share.
        rules = {
            "roots": [str(room), str(_cache() / "journals")],
            "nth": nth,
            "errno": code,
            "lasting": lasting,
            "log": str(self.folder / f"{self.number}.json"),
        }
        (room / "tmp").mkdir()
        done = subprocess.run(
            command(rules, ["deploy", "--stage", "dev"]),
            cwd=repository,
            env=environ(TMPDIR=str(room / "tmp"), **self.aws.environ),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        seen = json.loads((self.folder / f"{self.number}.json").read_text(encoding="utf-8"))
        return repository, done, seen

    def check(self, repository: Path, done: Any, what: object) -> None:
        """The code is one of the table's, never 70; the record is whole; the next run goes on."""
        said = done.stdout + done.stderr
        assert "Traceback" not in said, (what, said)
        assert done.returncode in (0, 2, 11, 12, 13, 17), (what, done.returncode, said)
        if done.returncode:
            assert "Fix:" in said or "fix" in said.lower(), (what, said)
        for path in repository.rglob(".chalice/deployed/*.json"):
            if path.name == "dev.json":
                parse_v2(path.read_bytes(), where=path.name)
        again = chalice_ci("deploy", "--stage", "dev", cwd=repository, **self.aws.environ)
        assert again.code == 0, (what, said, again.out + again.err)
        made = _client(self.aws, "lambda").list_functions()["Functions"]
        assert [f["FunctionName"] for f in made] == ["hello-dev"], what
        assert len(_client(self.aws, "apigateway").get_rest_apis()["items"]) == 1, (what, said)


def _cache() -> Path:
    return Path(
        "/var/cache/chalice-ci" if os.geteuid() == 0 else "~/.cache/chalice-ci"
    ).expanduser()


def _client(aws: EmbeddedAWS, service: str) -> Any:
    return clients_of(aws.environ, aws.environ["AWS_DEFAULT_REGION"])(service)


def test_a_deploy_on_a_disk_that_fails_ends_in_words_and_the_next_goes_on(
    aws: EmbeddedAWS, tmp_path: Path
) -> None:
    """All points with DISK_FAULTS=all, else some of them spread over the deploy."""
    deploys = Deploys(aws, tmp_path)
    _, done, seen = deploys.run(nth=0, code=errno.ENOSPC, lasting=False)
    assert done.returncode == 0, done.stderr
    assert len(seen) > 20
    parts = ("journals/", "deployed/.dev.json")
    some = [next(n for n, (_, path) in enumerate(seen, 1) if part in path) for part in parts]
    ways = [(errno.ENOSPC, True), (errno.EIO, False), (errno.EROFS, True)]
    tried = 0
    for nth in range(1, len(seen) + 1) if DEEP else some:
        code, lasting = ways[tried % len(ways)]
        repository, done, at = deploys.run(nth=nth, code=code, lasting=lasting)
        where = at[nth - 1] if nth <= len(at) else None
        deploys.check(repository, done, (nth, os.strerror(code), lasting, where))
        tried += 1
    print(f"{tried} deploys on failing disks, {len(seen)} operations each")
