"""One contract for every store: a folder, a branch here, a branch over file and over HTTP."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import uuid4

import pytest

from chalice_ci.errors import NotOurs, StateMoved, StateNotRecorded, UsageError, UserError
from chalice_ci.state.git import GitStore, import_from_commit
from chalice_ci.state.git_repository import LocalRepository
from chalice_ci.state.local import Disk, LocalStore
from chalice_ci.state.plans import PlanName, PlanStore
from chalice_ci.state.schema import StageState, StateDamaged, render
from chalice_ci.state.store import (
    ABSENT,
    JournalChange,
    Kept,
    StateKey,
    StateStore,
    Stored,
    commit_message,
)
from chalice_ci.state.transfer import import_file, pull, read_or_import, show
from support.githttp import git, serving
from support.statewriter import marked, message, open_plans, open_store

DEV = StateKey(app_path=".", stage="dev")
PROD = StateKey(app_path=".", stage="prod")
ORDERS = StateKey(app_path="services/orders", stage="dev")
WRITER = Path(__file__).parent / "support" / "statewriter.py"
WRITERS = int(os.environ.get("STATE_WRITERS", "0"))
"""How many write at once; 0: as many as each kind of store does in a few seconds."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a kind of store keeps its states; `open` gives a new, independent store on it."""

    kind: str
    address: str
    work_dir: Path

    @property
    def writers(self) -> int:
        """How many write at once: on a branch each waits for all others, on files none does."""
        if WRITERS:
            return WRITERS
        return {"local": 100, "git": 20, "s3": 20}.get(self.kind, 10)

    def open(self) -> StateStore:
        return open_store(self.kind, self.address, self.work_dir)

    def plans(self) -> PlanStore:
        return open_plans(self.kind, self.address, self.work_dir)


@pytest.fixture(params=["folder", "git here", "git over file", "git over http"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    work = tmp_path / "work"
    work.mkdir()
    match request.param:
        case "folder":
            yield Place(kind="local", address=str(tmp_path / "states"), work_dir=work)
        case "git here":
            yield Place(kind="git", address=str(project(tmp_path)), work_dir=work)
        case "git over file":
            yield Place(kind="remote", address=str(bare(tmp_path)), work_dir=work)
        case "git over http":
            repository = bare(tmp_path)
            git(repository, "config", "http.receivepack", "true")
            with serving(tmp_path, environ=os.environ) as address:
                yield Place(kind="remote", address=f"{address}/{repository.name}", work_dir=work)


def project(folder: Path) -> Path:
    """A repository with a worktree and one commit."""
    path = folder / "project"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "app.py").write_text("app = 1\n")
    git(path, "add", "app.py")
    git(path, "commit", "-q", "-m", "Begin")
    return path


def bare(folder: Path) -> Path:
    """A bare repository as a forge has it, with a default branch."""
    source = project(folder)
    git(folder, "clone", "-q", "--bare", str(source), str(folder / "forge.git"))
    return folder / "forge.git"


class TestEveryStore:
    def test_a_stage_that_was_never_written_has_no_state(self, place: Place) -> None:
        store = place.open()
        assert store.read(DEV) == Stored(state=None, version=ABSENT)
        assert store.keys() == ()

    def test_what_was_written_is_read_by_another_process(self, place: Place) -> None:
        written = place.open().write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        assert written.changed
        assert place.open().read(DEV) == Stored(state=marked("a"), version=written.version)

    def test_a_plan_that_is_kept_is_there_until_it_is_dropped(
        self, place: Place, tmp_path: Path
    ) -> None:
        file, back = tmp_path / "made.plan", tmp_path / "back.plan"
        # As a plan is: no text, and more than one answer of GraphQL or one line of git.
        file.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 4096)
        digest = hashlib.sha256(uuid4().bytes).hexdigest()
        name = PlanName(day=date(2026, 11, 28), digest=digest)
        other = PlanName(day=date(2026, 11, 21), digest=digest)
        assert not place.plans().fetch_plan(name, back)
        place.plans().keep_plan(name, file)
        place.plans().keep_plan(other, file)
        # A job that is run again finds what its first attempt left.
        place.plans().keep_plan(name, file)
        assert {name, other} <= set(place.plans().kept_plans())
        assert place.plans().fetch_plan(name, back)
        assert back.read_bytes() == file.read_bytes()
        for _ in range(2):
            place.plans().drop_plan(name)
        assert name not in place.plans().kept_plans()
        assert other in place.plans().kept_plans()
        assert not place.plans().fetch_plan(name, back)
        # States know nothing of it.
        assert place.open().read(DEV) == Stored(state=None, version=ABSENT)

    def test_a_state_is_replaced_by_a_writer_that_saw_it(self, place: Place) -> None:
        store = place.open()
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        second = store.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert second.changed
        assert second.version != first.version
        assert store.read(DEV) == Stored(state=marked("b"), version=second.version)

    def test_a_writer_that_did_not_see_the_state_is_told_that_it_moved(self, place: Place) -> None:
        mine, other = place.open(), place.open()
        first = mine.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        other.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        for stale in (ABSENT, first.version, "f" * 40):
            with pytest.raises(StateMoved):
                mine.write(DEV, marked("c"), expected=stale, message=message("dev"))
        assert mine.read(DEV).state == marked("b")

    def test_a_state_that_vanished_has_moved(self, place: Place) -> None:
        with pytest.raises(StateMoved):
            place.open().write(DEV, marked("a"), expected="0" * 40, message=message("dev"))
        assert place.open().read(DEV).state is None

    def test_a_record_is_removed_with_all_that_stands_beside_it(self, place: Place) -> None:
        store = place.open()
        journal = store.keep_journal(
            DEV, JournalChange(raw=b"1", expected=ABSENT), state=ABSENT, message=message("dev")
        )
        assert (store.keys(), store.known()) == ((), (DEV,))
        first = store.write(
            DEV, marked("a"), expected=ABSENT, message=message("dev"), snapshot=b"{}"
        )
        store.write(PROD, marked("b"), expected=ABSENT, message=message("prod"))
        with pytest.raises(StateMoved):
            place.open().write(DEV, None, expected="f" * 40, message=message("dev"))
        gone = place.open().write(
            DEV,
            None,
            expected=first.version,
            message=message("dev"),
            journal=JournalChange(raw=None, expected=journal),
        )
        assert (gone.changed, gone.version) == (True, ABSENT)
        later = place.open()
        assert later.read(DEV) == Stored(state=None, version=ABSENT)
        assert later.snapshot(DEV) is None
        assert (later.keys(), later.known()) == ((PROD,), (PROD,))
        assert not later.write(DEV, None, expected=ABSENT, message=message("dev")).changed

    def test_a_journal_opens_beside_a_state_and_closes_with_it(self, place: Place) -> None:
        store = place.open()
        opened = store.keep_journal(
            DEV, JournalChange(raw=b"1", expected=ABSENT), state=ABSENT, message=message("dev")
        )
        assert place.open().read(DEV) == Stored(
            state=None, version=ABSENT, journal=Kept(raw=b"1", version=opened)
        )
        assert store.keys() == ()
        later = store.keep_journal(
            DEV, JournalChange(raw=b"2", expected=opened), state=ABSENT, message=message("dev")
        )
        closing = JournalChange(raw=None, expected=later)
        written = store.write(
            DEV, marked("a"), expected=ABSENT, message=message("dev"), journal=closing
        )
        assert place.open().read(DEV) == Stored(state=marked("a"), version=written.version)

    def test_a_journal_of_somebody_else_is_not_replaced(self, place: Place) -> None:
        mine, other = place.open(), place.open()
        first = mine.keep_journal(
            DEV, JournalChange(raw=b"1", expected=ABSENT), state=ABSENT, message=message("dev")
        )
        theirs = other.keep_journal(
            DEV, JournalChange(raw=b"2", expected=first), state=ABSENT, message=message("dev")
        )
        stale = JournalChange(raw=b"3", expected=first)
        with pytest.raises(StateMoved):
            mine.keep_journal(DEV, stale, state=ABSENT, message=message("dev"))
        with pytest.raises(StateMoved):
            mine.write(DEV, marked("a"), expected=ABSENT, message=message("dev"), journal=stale)
        assert mine.read(DEV) == Stored(
            state=None, version=ABSENT, journal=Kept(raw=b"2", version=theirs)
        )

    def test_a_journal_is_not_opened_over_a_state_that_moved(self, place: Place) -> None:
        mine, other = place.open(), place.open()
        mine.read(DEV)
        other.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        with pytest.raises(StateMoved):
            mine.keep_journal(
                DEV, JournalChange(raw=b"1", expected=ABSENT), state=ABSENT, message=message("dev")
            )
        assert mine.read(DEV).journal == Kept()

    def test_other_stages_and_apps_do_not_disturb(self, place: Place) -> None:
        mine, other = place.open(), place.open()
        first = mine.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        other.write(PROD, marked("b"), expected=ABSENT, message=message("prod"))
        other.write(ORDERS, marked("c"), expected=ABSENT, message=message("dev"))
        mine.write(DEV, marked("d"), expected=first.version, message=message("dev"))
        found = mine.keys()
        assert found == (DEV, PROD, ORDERS)
        assert [mine.read(key).state for key in found] == [
            marked("d"),
            marked("b"),
            marked("c"),
        ]

    def test_the_same_state_again_is_not_written(self, place: Place) -> None:
        store = place.open()
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        again = store.write(DEV, marked("a"), expected=first.version, message=message("dev"))
        assert not again.changed
        assert again.version == first.version
        assert again.commit is None

    def test_a_deleted_stage_keeps_an_empty_state(self, place: Place) -> None:
        store = place.open()
        store.write(DEV, StageState(), expected=ABSENT, message=message("dev"))
        assert store.read(DEV).state == StageState()

    def test_a_snapshot_is_kept_replaced_and_removed_with_the_state(self, place: Place) -> None:
        store = place.open()
        assert store.snapshot(DEV) is None
        first = store.write(
            DEV, marked("a"), expected=ABSENT, message=message("dev"), snapshot=b"1\n"
        )
        assert place.open().snapshot(DEV) == b"1\n"
        second = store.write(
            DEV, marked("a"), expected=first.version, message=message("dev"), snapshot=b"2\n"
        )
        assert second.changed, "the same state, but something else was deployed"
        assert second.version == first.version
        assert place.open().snapshot(DEV) == b"2\n"
        again = store.write(
            DEV, marked("a"), expected=first.version, message=message("dev"), snapshot=b"2\n"
        )
        assert not again.changed
        store.write(DEV, StageState(), expected=first.version, message=message("dev"))
        assert place.open().snapshot(DEV) is None
        assert place.open().read(DEV).state == StageState()
        assert [key.stage for key in place.open().keys()] == ["dev"]  # noqa: SIM118

    def test_releases_stay_until_others_are_given_and_go_with_the_state(self, place: Place) -> None:
        store, said = place.open(), message("dev")
        assert store.releases(DEV) is None
        first = store.write(DEV, marked("a"), expected=ABSENT, message=said, releases=b"1\n")
        assert place.open().releases(DEV) == b"1\n"
        second = store.write(DEV, marked("b"), expected=first.version, message=said)
        assert place.open().releases(DEV) == b"1\n"
        third = store.write(
            DEV, marked("b"), expected=second.version, message=said, releases=b"2\n"
        )
        assert third.changed
        assert place.open().releases(DEV) == b"2\n"
        with pytest.raises(StateMoved):
            store.write(DEV, marked("c"), expected=first.version, message=said, releases=b"3\n")
        assert place.open().releases(DEV) == b"2\n"
        assert [key.stage for key in place.open().keys()] == ["dev"]  # noqa: SIM118
        store.write(DEV, None, expected=third.version, message=said)
        assert place.open().releases(DEV) is None

    def test_a_snapshot_is_not_written_over_a_state_that_moved(self, place: Place) -> None:
        store = place.open()
        store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"), snapshot=b"1\n")
        with pytest.raises(StateMoved):
            store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"), snapshot=b"2\n")
        assert place.open().snapshot(DEV) == b"1\n"

    def test_names_that_differ_in_case_only_are_refused(self, place: Place) -> None:
        store = place.open()
        store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        with pytest.raises(UsageError, match="upper and lower case"):
            store.write(
                StateKey(app_path=".", stage="Dev"),
                marked("b"),
                expected=ABSENT,
                message=message("Dev"),
            )
        assert store.keys() == (DEV,)

    def test_of_many_writers_of_different_stages_none_is_lost(self, place: Place) -> None:
        stages = [f"pr-{number}" for number in range(place.writers)]
        writes = [(stage, stage, ABSENT) for stage in stages]
        assert race(place, writes, seconds=1200 if WRITERS else 120) == ["written"] * len(stages)
        store = place.open()
        found = store.keys()
        assert {key.stage for key in found} == set(stages)
        for key in found:
            assert store.read(key).state == marked(key.stage)

    def test_of_many_writers_of_one_stage_exactly_one_wins_each_version(self, place: Place) -> None:
        version = ABSENT
        for turn in range(2):
            marks = [f"writer-{turn}-{number}" for number in range(6)]
            answers = race(place, [("dev", mark, version) for mark in marks])
            assert sorted(answers) == ["moved"] * 5 + ["written"]
            stored = place.open().read(DEV)
            assert stored.state == marked(marks[answers.index("written")])
            version = stored.version

    def test_the_file_is_chalices_own(self, place: Place, tmp_path: Path) -> None:
        store = place.open()
        store.write(ORDERS, marked("a"), expected=ABSENT, message=message("dev"))
        target = tmp_path / "checkout"
        target.mkdir()
        (path,) = pull(store, [ORDERS], project_dir=target)
        assert path == target / "services/orders/.chalice/deployed/dev.json"
        assert path.read_bytes() == render(marked("a"))


def race(place: Place, writes: list[tuple[str, str, str]], *, seconds: float = 120) -> list[str]:
    """Start a process for each (stage, mark, expected), let them go at once; their answers."""
    done = subprocess.run(
        [sys.executable, str(WRITER), place.kind, place.address, str(place.work_dir)],
        input=json.dumps([(".", *write) for write in writes]),
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds,
        check=True,
    )
    answers: list[str] = json.loads(done.stdout)
    return answers


class TestNames:
    @pytest.mark.parametrize(
        "stage",
        [
            "",
            "../../x",
            "--foo",
            "-x",
            "a\nb",
            "prod\u200b",
            "a/b",
            "a\\b",
            "con",
            "NUL",
            "a\0b",
            "x" * 10_240,
            ".",
            "..",
            ".dev",
            "dév",
            "a b",
        ],
    )
    def test_a_stage_that_is_no_safe_file_name_is_refused(self, stage: str) -> None:
        with pytest.raises(UsageError) as caught:
            StateKey(app_path=".", stage=stage)
        assert str(caught.value).isascii()

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "..",
            "../x",
            "/etc",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "a\0b",
            "a\nb",
            ".git",
            "a/.GIT/b",
            "GIT~1",
            "x" * 2000,
            "x/" + "y" * 300,
            "a\u202eb",
            ".chalice",
            "a ",
            "\udcff",
        ],
    )
    def test_an_app_path_that_leaves_the_root_is_refused(self, path: str) -> None:
        with pytest.raises(UsageError):
            StateKey(app_path=path, stage="dev")

    @pytest.mark.parametrize("path", [".", "orders", "services/orders", "src/My App", "a.b/c_d-é"])
    def test_a_file_gives_its_key_back(self, path: str) -> None:
        key = StateKey(app_path=path, stage="dev-2_x")
        assert StateKey.of_file(key.file) == key

    @pytest.mark.parametrize(
        "file",
        [
            ".chalice/deployed/a b.json",
            ".chalice/deployed/x/y.json",
            "x.json",
            ".chalice/config.json",
        ],
    )
    def test_a_file_that_is_no_state_gives_none(self, file: str) -> None:
        assert StateKey.of_file(file) is None

    def test_the_message_of_a_commit_says_what_happened_on_one_line(self) -> None:
        text = commit_message(
            app="orders\n\n[evil]",
            stage="dev",
            commit="9f3c1abcdef0123",
            result="failed after 3 of 9",
            run="https://forge.example/runs/1",
        )
        assert text.splitlines() == [
            "orders [evil]/dev: failed after 3 of 9 at 9f3c1abcdef0 [skip ci]",
            "",
            "App: orders [evil]",
            "Stage: dev",
            "Commit: 9f3c1abcdef0123",
            "Result: failed after 3 of 9",
            "Run: https://forge.example/runs/1",
        ]


class FailingDisk(Disk):
    """A disk whose n-th system call fails; writes stop halfway, as on a full device."""

    def __init__(self, fails_at: int, code: int) -> None:
        self.calls = 0
        self._fails_at = fails_at
        self._code = code

    def _step(self) -> None:
        self.calls += 1
        if self.calls == self._fails_at:
            raise OSError(self._code, os.strerror(self._code))

    def create(self, path: Path, mode: int) -> int:
        self._step()
        return super().create(path, mode)

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data[: len(data) // 2])
        self._step()
        super().write(descriptor, data[len(data) // 2 :])

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._step()
        super().replace(source, target)


class TestAFolder:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
    @pytest.mark.parametrize("fails_at", range(1, 6))
    def test_whichever_system_call_fails_the_old_or_the_new_state_is_there(
        self, tmp_path: Path, fails_at: int, code: int
    ) -> None:
        old = LocalStore(tmp_path).write(DEV, marked("old"), expected=ABSENT, message="")
        disk = FailingDisk(fails_at, code)
        with pytest.raises(StateNotRecorded) as caught:
            LocalStore(tmp_path, disk=disk).write(
                DEV, marked("new"), expected=old.version, message=""
            )
        assert caught.value.fix
        renamed = fails_at == 5
        assert LocalStore(tmp_path).read(DEV).state == marked("new" if renamed else "old")
        assert [path.name for path in (tmp_path / ".chalice/deployed").iterdir()] == ["dev.json"]

    def test_a_write_makes_five_system_calls_that_can_fail(self, tmp_path: Path) -> None:
        disk = FailingDisk(0, 0)
        LocalStore(tmp_path, disk=disk).write(DEV, marked("a"), expected=ABSENT, message="")
        assert disk.calls == 5

    def test_a_real_limit_on_the_size_of_files_leaves_the_old_state(self, tmp_path: Path) -> None:
        old = LocalStore(tmp_path).write(DEV, marked("old"), expected=ABSENT, message="")
        arguments = ["local", str(tmp_path), str(tmp_path)]
        code = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64));"
            f"sys.path.insert(0, {str(WRITER.parent)!r}); sys.argv[1:] = {arguments!r};"
            "import statewriter; statewriter.main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps([[".", "dev", "new", old.version]]),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "File too large" in done.stdout
        assert LocalStore(tmp_path).read(DEV).state == marked("old")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_folder_is_told(self, tmp_path: Path) -> None:
        old = LocalStore(tmp_path).write(DEV, marked("old"), expected=ABSENT, message="")
        folder = tmp_path / ".chalice/deployed"
        folder.chmod(0o500)
        with pytest.raises(StateNotRecorded, match="Permission denied"):
            LocalStore(tmp_path).write(DEV, marked("new"), expected=old.version, message="")
        folder.chmod(0o700)
        assert LocalStore(tmp_path).read(DEV).state == marked("old")

    def test_killed_at_random_moments_the_state_is_old_or_new_and_never_torn(
        self, tmp_path: Path
    ) -> None:
        code = (
            f"import sys; sys.path[:0] = {[str(WRITER.parent)]!r}\n"
            "from pathlib import Path\n"
            "from statewriter import marked\n"
            "from chalice_ci.state.local import LocalStore\n"
            "from chalice_ci.state.store import StateKey\n"
            "from chalice_ci.state.schema import StageState\n"
            f"store = LocalStore(Path({str(tmp_path)!r}))\n"
            "key = StateKey(app_path='.', stage='dev')\n"
            "many = tuple(dict(marked('x').resources[0], name=f'f{n}') for n in range(500))\n"
            "states = [StageState(resources=many), StageState(resources=many[:100])]\n"
            "turn = 0\n"
            "while True:\n"
            "    turn += 1\n"
            "    store.write(key, states[turn % 2], expected=store.read(key).version, message='')\n"
            "    turn > 1 or print('ready', flush=True)\n"
        )
        store = LocalStore(tmp_path)
        seen = set()
        for moment in range(12):
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout
            process.stdout.readline()
            time.sleep(0.03 + moment * 0.0037)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            stored = store.read(DEV)
            if stored.state is not None:
                seen.add(len(stored.state.resources))
        assert seen <= {100, 500}
        assert seen
        store.write(DEV, marked("after"), expected=store.read(DEV).version, message="")
        assert [path.name for path in (tmp_path / ".chalice/deployed").iterdir()] == ["dev.json"]

    def test_the_mode_of_a_file_stays(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        first = store.write(DEV, marked("a"), expected=ABSENT, message="")
        path = tmp_path / DEV.file
        path.chmod(0o640)
        store.write(DEV, marked("b"), expected=first.version, message="")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_as_root_files_belong_to_the_owner_of_the_folder(self, tmp_path: Path) -> None:
        root = tmp_path / "workspace"
        root.mkdir()
        os.chown(root, 1001, 1002)
        store = LocalStore(root)
        first = store.write(ORDERS, marked("a"), expected=ABSENT, message="")
        store.write(ORDERS, marked("b"), expected=first.version, message="")
        owners = {(p.stat().st_uid, p.stat().st_gid) for p in root.rglob("*")}
        assert owners == {(1001, 1002)}

    @pytest.mark.parametrize(
        "link", [".chalice", ".chalice/deployed", ".chalice/deployed/dev.json"]
    )
    def test_a_link_out_of_the_folder_is_refused(self, tmp_path: Path, link: str) -> None:
        outside = tmp_path / "outside"
        (outside / "deployed").mkdir(parents=True)
        (outside / "dev.json").write_bytes(render(marked("foreign")))
        root = tmp_path / "root"
        path = root / link
        path.parent.mkdir(parents=True)
        path.symlink_to(outside / "dev.json" if link.endswith("json") else outside)
        store = LocalStore(root)
        with pytest.raises(UsageError, match="symbolic link"):
            store.read(DEV)
        with pytest.raises(UsageError, match="symbolic link"):
            store.write(DEV, marked("a"), expected=ABSENT, message="")
        assert (outside / "dev.json").read_bytes() == render(marked("foreign"))
        assert not list((outside / "deployed").iterdir())

    def test_a_loop_of_links_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / ".chalice").symlink_to(tmp_path / ".chalice")
        with pytest.raises(UserError):
            LocalStore(tmp_path).read(DEV)

    @pytest.mark.parametrize("kind", ["folder", "fifo"])
    @pytest.mark.parametrize("file", [DEV.file, DEV.journal_file])
    def test_what_is_no_file_is_told_without_waiting_for_it(
        self, tmp_path: Path, kind: str, file: str
    ) -> None:
        path = tmp_path / file
        path.parent.mkdir(parents=True)
        if kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
        with pytest.raises(StateDamaged, match="not a file") as told:
            LocalStore(tmp_path).read(DEV)
        assert told.value.where == file

    def test_a_holder_that_never_ends_is_not_waited_for_for_ever(self, tmp_path: Path) -> None:
        holder = subprocess.Popen(
            [
                *(sys.executable, "-c"),
                "import fcntl, os, sys, time\n"
                f"d = os.open({str(tmp_path)!r}, os.O_RDONLY); fcntl.flock(d, fcntl.LOCK_EX)\n"
                "print('held', flush=True); sys.stdin.read()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(StateNotRecorded, match="Another process"):
            LocalStore(tmp_path, patience=0.1).write(DEV, marked("a"), expected=ABSENT, message="")
        holder.communicate()
        assert LocalStore(tmp_path).write(DEV, marked("a"), expected=ABSENT, message="").changed


V1 = {
    "api_handler_name": "orders-dev",
    "api_handler_arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders-dev",
    "rest_api_id": "abc",
}


class TestTakingOver:
    """`pull`, `import` and the first run."""

    def test_a_pull_does_not_lose_what_only_the_laptop_knows(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "store")
        store.write(DEV, marked("ci"), expected=ABSENT, message="")
        here = tmp_path / "project"
        LocalStore(here).write(DEV, marked("laptop"), expected=ABSENT, message="")
        with pytest.raises(UsageError, match="function:laptop"):
            pull(store, [DEV], project_dir=here)
        assert LocalStore(here).read(DEV).state == marked("laptop")
        pull(store, [DEV], project_dir=here, force=True)
        assert LocalStore(here).read(DEV).state == marked("ci")

    def test_a_damaged_file_is_replaced_only_by_force(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "store")
        store.write(DEV, marked("ci"), expected=ABSENT, message="")
        path = tmp_path / DEV.file
        path.parent.mkdir(parents=True)
        path.write_text("<<<<<<< HEAD\n")
        with pytest.raises(StateDamaged):
            pull(store, [DEV], project_dir=tmp_path)
        pull(store, [DEV], project_dir=tmp_path, force=True)
        assert path.read_bytes() == render(marked("ci"))

    def test_nothing_is_pulled_when_one_stage_cannot_be(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "store")
        store.write(DEV, marked("ci"), expected=ABSENT, message="")
        with pytest.raises(UsageError, match="No state is recorded"):
            pull(store, [DEV, PROD], project_dir=tmp_path / "here")
        assert not (tmp_path / "here").exists()

    def test_a_laptops_file_is_imported_once_and_replaced_only_by_force(
        self, tmp_path: Path
    ) -> None:
        store = LocalStore(tmp_path)

        def take(mark: str, *, force: bool = False) -> bool:
            raw = render(marked(mark))
            return import_file(
                store, DEV, raw, app_name="orders", where="f", message="", force=force
            ).changed

        assert take("a")
        assert not take("a")
        with pytest.raises(UsageError, match="recorded already"):
            take("b")
        assert store.read(DEV).state == marked("a")
        assert take("b", force=True)
        assert store.read(DEV).state == marked("b")

    def test_a_snapshot_outlives_a_pull_and_an_import_of_the_same_state(
        self, tmp_path: Path
    ) -> None:
        store = LocalStore(tmp_path)
        store.write(DEV, marked("a"), expected=ABSENT, message="", snapshot=b"1")
        pull(store, [DEV], project_dir=tmp_path)
        assert store.snapshot(DEV) == b"1"

        def take(mark: str) -> None:
            raw = render(marked(mark))
            where = {"app_name": "orders", "where": "dev.json", "message": ""}
            import_file(store, DEV, raw, force=True, **where)  # type: ignore[arg-type]

        take("a")
        assert store.snapshot(DEV) == b"1"
        take("b")
        assert store.snapshot(DEV) is None

    def test_an_old_file_is_imported_by_stage(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        raw = json.dumps({"dev": V1}).encode()
        import_file(store, DEV, raw, app_name="orders", where="deployed.json", message="")
        state = store.read(DEV).state
        assert state
        assert [(row.name, row.identity) for row in show(state)] == [
            ("api_handler", V1["api_handler_arn"]),
            ("rest_api", "abc"),
        ]
        with pytest.raises(UsageError, match="no stage prod"):
            import_file(store, PROD, raw, app_name="orders", where="deployed.json", message="")
        with pytest.raises(NotOurs):
            import_file(store, DEV, raw, app_name="shop", where="deployed.json", message="")

    def test_a_damaged_file_is_not_imported(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        with pytest.raises(StateDamaged):
            import_file(store, DEV, b"{", app_name="orders", where="x", message="")
        assert store.keys() == ()

    @pytest.mark.parametrize("committed", ["v2", "v1", "both", "another stage", "nothing"])
    def test_the_first_run_takes_the_committed_state_over(
        self, tmp_path: Path, committed: str
    ) -> None:
        path = project(tmp_path)
        folder = path / "services/orders/.chalice"
        (folder / "deployed").mkdir(parents=True)
        if committed in {"v2", "both"}:
            (folder / "deployed/dev.json").write_bytes(render(marked("v2")))
        if committed in {"v1", "both"}:
            (folder / "deployed.json").write_text(json.dumps({"dev": V1}))
        if committed == "another stage":
            (folder / "deployed.json").write_text(json.dumps({"prod": V1}))
        git(path, "add", ".")
        git(path, "commit", "-q", "--allow-empty", "-m", "State")
        # What lies in the worktree uncommitted does not count.
        (folder / "deployed/dev.json").write_bytes(render(marked("uncommitted")))

        repository = LocalRepository(path, work_dir=tmp_path, environ=os.environ)
        store = GitStore(repository)
        found = read_or_import(store, ORDERS, source=repository, ref="HEAD", app_name="orders")
        expected = {"v2": ["index"], "both": ["index"], "v1": ["api_handler", "rest_api"]}
        if committed not in expected:
            assert found is None
            return
        assert found
        assert [r["name"] for r in found.state.resources] == expected[committed]
        assert found.imported_from
        store.write(ORDERS, found.state, expected=found.version, message=message("dev"))
        again = read_or_import(store, ORDERS, source=repository, ref="HEAD", app_name="orders")
        assert again
        assert again.imported_from == ""
        assert again.state == found.state

    def test_a_repository_without_a_commit_has_nothing_to_take_over(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q")
        repository = LocalRepository(tmp_path, work_dir=tmp_path, environ=os.environ)
        assert import_from_commit(repository, "HEAD", DEV, app_name="orders") is None


class TestAVersionPerContent:
    def test_a_write_whose_answer_was_lost_can_be_repeated(self, place: Place) -> None:
        store = place.open()
        written = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        again = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        assert again.version == written.version
        assert not again.changed
