"""The git store: whose files it leaves alone, whose programs it never runs, whose refusals it
explains."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chalice_ci.errors import ForgeError, StateMoved, StateNotRecorded, UsageError
from chalice_ci.state.git import GitStore, RemoteRepository, import_from_commit
from chalice_ci.state.git_repository import Advance, LocalRepository
from chalice_ci.state.schema import MAX_BYTES, StateDamaged, render
from chalice_ci.state.store import ABSENT, StateKey
from support.githttp import git, protect, serving
from support.statewriter import marked, message

DEV = StateKey(app_path=".", stage="dev")
PROD = StateKey(app_path=".", stage="prod")
ORDERS = StateKey(app_path="services/orders", stage="dev")
BRANCH = "refs/heads/chalice-state"
PATH = {"PATH": os.environ["PATH"]}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a worktree and one commit on main."""
    path = tmp_path / "project"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "app.py").write_text("app = 1\n")
    git(path, "add", "app.py")
    git(path, "commit", "-q", "-m", "Begin")
    return path


@pytest.fixture
def forge(project: Path, tmp_path: Path) -> Path:
    """A bare repository, as a forge has it."""
    git(tmp_path, "clone", "-q", "--bare", str(project), str(tmp_path / "forge.git"))
    git(tmp_path / "forge.git", "config", "http.receivepack", "true")
    return tmp_path / "forge.git"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def local(path: Path, work: Path, environ: Mapping[str, str] = PATH) -> GitStore:
    return GitStore(LocalRepository(path, work_dir=work, environ=environ), sleep=lambda _: None)


def remote(url: str | Path, work: Path, **more: str) -> GitStore:
    repository = RemoteRepository(str(url), work_dir=work, environ=PATH, **more)
    return GitStore(repository, sleep=lambda _: None)


def record(store: GitStore, key: StateKey, mark: str, expected: str = ABSENT) -> str:
    return store.write(key, marked(mark), expected=expected, message=message(key.stage)).version


class TestTheCommit:
    def test_it_says_app_stage_commit_and_result_and_starts_no_run(
        self, forge: Path, work: Path
    ) -> None:
        written = remote(forge, work).write(
            DEV, marked("a"), expected=ABSENT, message=message("dev")
        )
        assert written.commit == git(forge, "rev-parse", BRANCH)
        text = git(forge, "show", "-s", "--format=%an <%ae>|%cn|%B", BRANCH)
        assert text.startswith("chalice-ci <chalice-ci@noreply.invalid>|chalice-ci|orders/dev: ")
        assert "[skip ci]" in text.splitlines()[0]
        assert f"Commit: {'9f3c1ab' * 5}" in text
        assert "Result: deployed" in text

    def test_a_message_without_skip_ci_gets_it(self, forge: Path, work: Path) -> None:
        remote(forge, work).write(DEV, marked("a"), expected=ABSENT, message="Import\n\nBody\n")
        assert git(forge, "show", "-s", "--format=%B", BRANCH) == "Import [skip ci]\n\nBody"

    def test_ten_writes_of_the_same_state_make_one_commit(self, forge: Path, work: Path) -> None:
        store = remote(forge, work)
        for _ in range(10):
            record(store, DEV, "a", store.read(DEV).version)
        assert git(forge, "rev-list", "--count", BRANCH) == "1"

    def test_each_commit_stands_on_the_head_that_was_read(self, forge: Path, work: Path) -> None:
        for number in range(5):
            record(remote(forge, work), StateKey(app_path=".", stage=f"pr-{number}"), "a")
        assert git(forge, "rev-list", "--count", "--first-parent", BRANCH) == "5"
        assert len(git(forge, "ls-tree", "-r", "--name-only", BRANCH).splitlines()) == 5
        git(forge, "fsck", "--strict")

    def test_the_branch_of_the_code_can_hold_the_state(self, forge: Path, work: Path) -> None:
        repository = RemoteRepository(str(forge), work_dir=work, environ=PATH)
        assert repository.default_branch() == "main"
        store = GitStore(repository, branch="main")
        record(store, ORDERS, "a")
        assert git(forge, "ls-tree", "-r", "--name-only", "main").splitlines() == [
            "app.py",
            ORDERS.file,
        ]
        assert git(forge, "show", "main:app.py") == "app = 1"
        assert git(forge, "rev-list", "--count", "main") == "2"

    def test_a_repository_without_any_commit_can_hold_the_state(
        self, tmp_path: Path, work: Path
    ) -> None:
        git(tmp_path, "init", "-q", "--bare", "empty.git")
        store = remote(tmp_path / "empty.git", work)
        assert store.read(DEV).state is None
        record(store, DEV, "a")
        assert remote(tmp_path / "empty.git", work).read(DEV).state == marked("a")

    def test_a_repository_of_sha256_can_hold_the_state(self, tmp_path: Path, work: Path) -> None:
        git(tmp_path, "init", "-q", "--object-format=sha256", "long")
        store = local(tmp_path / "long", work)
        version = record(store, DEV, "a")
        assert len(version) == 64
        assert store.read(DEV).version == version
        record(store, DEV, "b", version)


class TestBesideTheCode:
    """`state: {branch: source}`."""

    def test_the_remote_says_which_branch_that_is_and_keeps_the_code(
        self, forge: Path, work: Path
    ) -> None:
        store = GitStore(RemoteRepository(str(forge), work_dir=work, environ=PATH), branch=None)
        record(store, DEV, "a")
        record(store, ORDERS, "b")
        assert git(forge, "for-each-ref", "--format=%(refname)").splitlines() == ["refs/heads/main"]
        files = git(forge, "ls-tree", "-r", "--name-only", "main").splitlines()
        assert files == [DEV.file, "app.py", ORDERS.file]
        subjects = git(forge, "log", "--format=%s", "main~2..main").splitlines()
        assert all("[skip ci]" in subject for subject in subjects)

    def test_a_push_of_code_in_between_is_kept(
        self, forge: Path, work: Path, tmp_path: Path
    ) -> None:
        store = GitStore(RemoteRepository(str(forge), work_dir=work, environ=PATH), branch=None)
        version = record(store, DEV, "a")
        git(tmp_path, "clone", "-q", str(forge), "developer")
        developer = tmp_path / "developer"
        (developer / "app.py").write_text("app = 2\n")
        git(developer, "commit", "-q", "-a", "-m", "Work")
        git(developer, "push", "-q", "origin", "main")
        record(store, DEV, "b", version)
        assert git(forge, "show", "main:app.py") == "app = 2"
        assert git(forge, "log", "--format=%s", "main~2..main").splitlines()[1] == "Work"

    def test_a_repository_that_names_no_branch_is_told(self, forge: Path, work: Path) -> None:
        (forge / "HEAD").write_text(f"{git(forge, 'rev-parse', 'main')}\n")
        store = GitStore(RemoteRepository(str(forge), work_dir=work, environ=PATH), branch=None)
        with pytest.raises(ForgeError, match="no default branch"):
            store.read(DEV)
        with pytest.raises(StateNotRecorded, match="no default branch"):
            record(store, DEV, "a")


class TestSomebodysWorktree:
    def snapshot(self, path: Path) -> dict[str, bytes]:
        """Every file but the objects, the refs of the state and their logs."""
        return {
            str(file.relative_to(path)): file.read_bytes()
            for file in path.rglob("*")
            if file.is_file()
            and "/objects/" not in str(file)
            and "chalice-state" not in str(file.relative_to(path))
        }

    def test_worktree_index_and_head_stay_as_they_are(self, project: Path, work: Path) -> None:
        (project / "app.py").write_text("app = 2\n")
        (project / "staged.py").write_text("x\n")
        (project / "new.py").write_text("y\n")
        git(project, "add", "staged.py")
        before = self.snapshot(project)
        store = local(project, work)
        version = record(store, DEV, "a")
        record(store, DEV, "b", version)
        store.read(DEV)
        assert self.snapshot(project) == before
        assert git(project, "rev-list", "--count", BRANCH) == "2"

    def test_it_works_with_a_detached_head(self, project: Path, work: Path) -> None:
        git(project, "checkout", "-q", "--detach")
        record(local(project, work), DEV, "a")
        assert local(project, work).read(DEV).state == marked("a")

    def test_it_works_in_a_linked_worktree(self, project: Path, work: Path, tmp_path: Path) -> None:
        git(project, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
        record(local(tmp_path / "linked", work), DEV, "a")
        assert local(project, work).read(DEV).state == marked("a")

    def test_a_branch_that_is_checked_out_is_refused(
        self, project: Path, work: Path, tmp_path: Path
    ) -> None:
        store = GitStore(LocalRepository(project, work_dir=work, environ=PATH), branch="main")
        with pytest.raises(StateNotRecorded, match="checked out"):
            record(store, DEV, "a")
        version = record(local(project, work), DEV, "a")
        git(project, "worktree", "add", "-q", str(tmp_path / "linked"), "chalice-state")
        with pytest.raises(StateNotRecorded, match="checked out"):
            record(local(project, work), DEV, "b", version)
        assert git(project, "rev-list", "--count", BRANCH) == "1"

    def test_a_folder_without_a_repository_is_told(self, tmp_path: Path, work: Path) -> None:
        with pytest.raises(UsageError, match="no git repository"):
            local(tmp_path / "nothing", work)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ForgeError, match="not a git repository"):
            local(tmp_path / "empty", work).read(DEV)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
    def test_as_root_nothing_in_the_repository_becomes_roots(self, project: Path) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            folder.chmod(0o711)
            theirs = folder / "theirs"
            shutil.copytree(project, theirs)
            for path in [theirs, *theirs.rglob("*")]:
                os.chown(path, 12345, 12345)
            store = local(theirs, folder)
            version = record(store, DEV, "a")
            record(store, DEV, "b", version)
            assert store.read(DEV).state == marked("b")
            assert {path.stat().st_uid for path in theirs.rglob("*")} == {12345}
        finally:
            shutil.rmtree(folder)


class TestNobodysPrograms:
    """Every setting and file that makes git run something points at a canary."""

    @pytest.fixture
    def canary(self, tmp_path: Path) -> Iterator[Path]:
        """A script that leaves a trace; the trace must not exist afterwards."""
        script, trace = tmp_path / "canary", tmp_path / "trace"
        script.write_text(f'#!/bin/sh\necho "$0 $*" >> {trace}\ncat >/dev/null 2>&1\nexit 1\n')
        script.chmod(0o755)
        yield script
        assert not trace.exists(), trace.read_text()

    def arm(self, git_dir: Path, canary: Path) -> None:
        hooks = git_dir / "hooks"
        hooks.mkdir(exist_ok=True)
        names = (
            "applypatch-msg pre-commit prepare-commit-msg commit-msg post-commit pre-push "
            "post-checkout post-merge pre-rebase post-rewrite reference-transaction "
            "post-index-change fsmonitor-watchman pre-auto-gc sendemail-validate"
        )
        for name in names.split():
            shutil.copy(canary, hooks / name)
        (git_dir / "info").mkdir(exist_ok=True)
        (git_dir / "info" / "attributes").write_text("* filter=evil diff=evil merge=evil\n")
        config = git_dir / "config"
        keys = {
            "core": "fsmonitor hooksPath sshCommand pager editor askPass gitProxy "
            "alternateRefsCommand",
            "credential": "helper",
            "diff": "external",
            "gpg": "program",
            "sequence": "editor",
            "uploadpack": "packObjectsHook",
            "init": "templateDir",
            'filter "evil"': "clean smudge process",
            'diff "evil"': "command textconv",
            'merge "evil"': "driver",
            'remote "origin"': "uploadpack receivepack vcs",
            'remote "evil"': "uploadpack receivepack",
            "alias": "commit-tree update-ref hash-object ls-tree push fetch",
            "interactive": "diffFilter",
        }
        lines = [
            f"[{section}]\n" + "".join(f"\t{key} = {canary}\n" for key in names.split())
            for section, names in keys.items()
        ]
        lines.append(
            "[commit]\n\tgpgSign = true\n[push]\n\tgpgSign = if-asked\n[tag]\n\tgpgSign = true\n"
            f'[remote "evil"]\n\turl = ext::{canary}\n\tpromisor = true\n'
            f'[url "ext::{canary} "]\n\tinsteadOf = https://\n\tinsteadOf = /\n'
            f"[include]\n\tpath = {git_dir / 'included'}\n"
        )
        with config.open("a") as file:
            file.write("".join(lines))
        (git_dir / "included").write_text(f"[core]\n\tfsmonitor = {canary}\n")

    def test_a_local_repository_runs_nothing(self, project: Path, work: Path, canary: Path) -> None:
        self.arm(project / ".git", canary)
        (project / ".gitattributes").write_text("* filter=evil\n")
        store = local(project, work)
        version = record(store, DEV, "a")
        record(store, DEV, "b", version)
        assert store.read(DEV).state == marked("b")
        assert store.keys() == (DEV,)
        repository = LocalRepository(project, work_dir=work, environ=PATH)
        assert import_from_commit(repository, "HEAD", DEV, app_name="a") is None

    def test_an_object_that_is_missing_is_not_fetched_from_anywhere(
        self, project: Path, work: Path, canary: Path
    ) -> None:
        store = local(project, work)
        version = record(store, DEV, "a")
        (project / ".git/objects" / version[:2] / version[2:]).unlink()
        for url in (f"ext::{canary}", str(project)):
            with (project / ".git/config").open("a") as file:
                file.write(
                    "[extensions]\n\tpartialClone = evil\n[core]\n\trepositoryFormatVersion = 1\n"
                    f'[remote "evil"]\n\turl = {url}\n\tpromisor = true\n\tuploadpack = {canary}\n'
                )
            with pytest.raises(ForgeError):
                store.read(DEV)

    def test_the_users_own_configuration_runs_nothing(
        self, forge: Path, work: Path, tmp_path: Path, canary: Path
    ) -> None:
        home = tmp_path / "home"
        (home / ".config/git").mkdir(parents=True)
        text = (
            f"[core]\n\thooksPath = {home}\n\tfsmonitor = {canary}\n\tsshCommand = {canary}\n"
            f"[credential]\n\thelper = {canary}\n[init]\n\ttemplateDir = {home}\n"
            f'[url "ext::{canary} "]\n\tinsteadOf = /\n[protocol]\n\tallow = always\n'
        )
        (home / ".gitconfig").write_text(text)
        (home / ".config/git/config").write_text(text)
        for name in ("pre-push", "reference-transaction"):
            shutil.copy(canary, home / name)
        environ = {
            **PATH,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "GIT_SSH_COMMAND": str(canary),
            "GIT_ASKPASS": str(canary),
            "GIT_TEMPLATE_DIR": str(home),
            "GIT_EXTERNAL_DIFF": str(canary),
            "GIT_PROXY_COMMAND": str(canary),
            "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={canary}'",
            "GIT_TRACE": str(tmp_path / "trace"),
        }
        repository = RemoteRepository(str(forge), work_dir=work, environ=environ)
        record(GitStore(repository), DEV, "a")
        record(local(forge, work, environ), PROD, "b")
        assert remote(forge, work).keys() == (DEV, PROD)


class TestRefusals:
    def test_a_protected_branch_over_file_is_explained(self, forge: Path, work: Path) -> None:
        protect(forge, "chalice-state")
        with pytest.raises(StateNotRecorded) as caught:
            record(remote(forge, work), DEV, "a")
        assert "protected branch hook declined" in caught.value.what
        assert "state.branch" in caught.value.fix

    def test_a_protected_branch_over_http_is_explained(self, forge: Path, work: Path) -> None:
        protect(forge, "chalice-state")
        with serving(forge.parent, environ=PATH) as address:
            with pytest.raises(StateNotRecorded, match="protects the branch chalice-state"):
                record(remote(f"{address}/forge.git", work), DEV, "a")
            protected = GitStore(
                RemoteRepository(f"{address}/forge.git", work_dir=work, environ=PATH),
                branch="unprotected",
            )
            record(protected, DEV, "a")

    def test_a_hook_of_the_forge_that_refuses_is_explained(self, forge: Path, work: Path) -> None:
        hook = forge / "hooks" / "pre-receive"
        hook.write_text(
            "#!/bin/sh\necho 'error: GH013: Repository rule violations found' >&2\nexit 1\n"
        )
        hook.chmod(0o755)
        with pytest.raises(StateNotRecorded, match="GH013"):
            record(remote(forge, work), DEV, "a")

    @pytest.mark.parametrize("authorization", ["", "Bearer wrong"])
    def test_a_missing_permission_is_explained(
        self, forge: Path, work: Path, authorization: str
    ) -> None:
        with serving(forge.parent, environ=PATH, token="s3cr3t") as address:
            store = remote(f"{address}/forge.git", work, authorization=authorization)
            assert store.read(DEV).state is None
            with pytest.raises(StateNotRecorded) as caught:
                record(store, DEV, "a")
        assert "contents: write" in caught.value.fix
        assert "wrong" not in str(caught.value)

    def test_a_repository_that_is_not_there_is_explained(self, tmp_path: Path, work: Path) -> None:
        with pytest.raises(ForgeError, match="cannot be read"):
            remote(tmp_path / "none.git", work).read(DEV)
        with serving(tmp_path, environ=PATH) as address, pytest.raises(ForgeError) as caught:
            remote(f"{address}/none.git", work).read(DEV)
        assert "address" in caught.value.fix

    def test_a_forge_that_does_not_answer_is_not_waited_for_for_ever(
        self, forge: Path, work: Path
    ) -> None:
        end = threading.Event()

        def hang(method: str, path: str) -> int | None:
            end.wait(20)
            return 500

        with serving(forge.parent, environ=PATH, fail=hang) as address:
            repository = RemoteRepository(
                f"{address}/forge.git", work_dir=work, environ=PATH, seconds=0.4
            )
            with pytest.raises(ForgeError, match="timed out"):
                GitStore(repository, sleep=lambda _: None).read(DEV)
            end.set()

    def test_without_git_the_error_says_so(self, forge: Path, work: Path, tmp_path: Path) -> None:
        repository = RemoteRepository(str(forge), work_dir=work, environ={"PATH": str(tmp_path)})
        with pytest.raises(ForgeError, match="git cannot be started"):
            GitStore(repository, sleep=lambda _: None).read(DEV)

    def test_an_own_index_lock_or_a_full_disk_leaves_the_old_state(
        self, project: Path, work: Path
    ) -> None:
        store = local(project, work)
        version = record(store, DEV, "a")
        lock = project / ".git/refs/heads/chalice-state.lock"
        lock.touch()
        impatient = GitStore(
            LocalRepository(project, work_dir=work, environ=PATH),
            attempts=3,
            sleep=lambda _: None,
        )
        with pytest.raises(StateNotRecorded, match=r"3 attempts .*File exists"):
            record(impatient, DEV, "b", version)
        lock.unlink()
        assert store.read(DEV).state == marked("a")


class TestFaultsOfTheNetwork:
    @pytest.mark.parametrize("status", [500, 502, 503, 429])
    def test_a_fault_that_passes_is_waited_out(self, forge: Path, work: Path, status: int) -> None:
        requests: list[str] = []

        def some(method: str, path: str) -> int | None:
            requests.append(path)
            return status if len(requests) in {1, 4, 9} else None

        waits: list[float] = []
        with serving(forge.parent, environ=PATH, fail=some) as address:
            repository = RemoteRepository(f"{address}/forge.git", work_dir=work, environ=PATH)
            store = GitStore(repository, sleep=waits.append, jitter=lambda: 1.0)
            record(store, DEV, "a")
            assert store.read(DEV).state == marked("a")
        assert waits
        assert git(forge, "rev-list", "--count", BRANCH) == "1"

    def test_a_fault_that_stays_ends_the_write_without_a_trace(
        self, forge: Path, work: Path
    ) -> None:
        def pushes(method: str, path: str) -> int | None:
            return 503 if method == "POST" and "receive-pack" in path else None

        waits: list[float] = []
        with serving(forge.parent, environ=PATH, fail=pushes) as address:
            repository = RemoteRepository(f"{address}/forge.git", work_dir=work, environ=PATH)
            store = GitStore(repository, sleep=waits.append, jitter=lambda: 1.0)
            with pytest.raises(StateNotRecorded, match="503"):
                record(store, DEV, "a")
        assert waits == [1.0, 2.0, 4.0]
        assert git(forge, "for-each-ref", BRANCH) == ""

    def test_a_push_whose_answer_was_lost_is_found_and_not_repeated(
        self, forge: Path, work: Path
    ) -> None:
        lost: list[str] = []

        def first_push(method: str, path: str) -> bool:
            if method == "POST" and "receive-pack" in path and not lost:
                lost.append(path)
                return True
            return False

        with serving(forge.parent, environ=PATH, lose=first_push) as address:
            written = remote(f"{address}/forge.git", work).write(
                DEV, marked("a"), expected=ABSENT, message=message("dev")
            )
        assert lost
        assert written.changed
        assert written.commit == git(forge, "rev-parse", BRANCH)
        assert git(forge, "rev-list", "--count", BRANCH) == "1"


class Overtaken(LocalRepository):
    """A repository where others write just before our branch moves."""

    overtakers: list[tuple[GitStore, StateKey, str]]

    def advance(self, ref: str, *, new: str, old: str | None) -> Advance:
        if self.overtakers:
            store, key, mark = self.overtakers.pop(0)
            record(store, key, mark, store.read(key).version)
        return super().advance(ref, new=new, old=old)


class TestOtherWriters:
    def test_another_stages_writer_in_between_is_waited_for(
        self, project: Path, work: Path
    ) -> None:
        waits: list[float] = []
        repository = Overtaken(project, work_dir=work, environ=PATH)
        other = local(project, work)
        repository.overtakers = [(other, PROD, f"p{turn}") for turn in range(5)]
        record(GitStore(repository, sleep=waits.append, jitter=lambda: 1.0), DEV, "a")
        assert other.read(DEV).state == marked("a")
        assert other.read(PROD).state == marked("p4")
        # Twice as long each time, and longer where a write takes long.
        assert len(waits) == 5
        assert all(
            wait >= least for wait, least in zip(waits, (0.1, 0.2, 0.4, 0.8, 1.6), strict=True)
        )
        assert waits == sorted(waits)

    def test_our_own_stages_writer_in_between_ends_the_write(
        self, project: Path, work: Path
    ) -> None:
        repository = Overtaken(project, work_dir=work, environ=PATH)
        other = local(project, work)
        repository.overtakers = [(other, PROD, "p"), (other, DEV, "theirs")]
        with pytest.raises(StateMoved):
            record(GitStore(repository, sleep=lambda _: None), DEV, "mine")
        assert other.read(DEV).state == marked("theirs")

    def test_attempts_are_bounded(self, project: Path, work: Path) -> None:
        repository = Overtaken(project, work_dir=work, environ=PATH)
        other = local(project, work)
        repository.overtakers = [(other, PROD, f"p{turn}") for turn in range(9)]
        store = GitStore(repository, attempts=4, sleep=lambda _: None)
        with pytest.raises(StateNotRecorded, match="4 attempts"):
            record(store, DEV, "a")

    def test_threads_of_one_run_share_a_store(self, forge: Path, work: Path) -> None:
        store = remote(forge, work)
        keys = [StateKey(app_path=".", stage=f"s{number}") for number in range(6)]
        threads = [threading.Thread(target=record, args=(store, key, "a")) for key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.keys() == tuple(keys)

    def test_a_branch_that_was_rewritten_is_read_anew(self, forge: Path, work: Path) -> None:
        store = remote(forge, work)
        version = record(store, DEV, "a")
        git(forge, "update-ref", "-d", BRANCH)
        assert store.read(DEV).state is None
        with pytest.raises(StateMoved):
            record(store, DEV, "b", version)
        record(store, DEV, "a")


class TestWhatLiesOnTheBranch:
    def put(self, repository: Path, lines: str) -> None:
        """Make the branch one commit with this tree, as `git mktree` reads it."""
        tree = git(repository, "mktree", "--missing", data=lines.encode())
        for folder in ("deployed", ".chalice"):
            tree = git(repository, "mktree", data=f"040000 tree {tree}\t{folder}\n".encode())
        commit = git(repository, "commit-tree", tree, "-m", "x")
        git(repository, "update-ref", BRANCH, commit)

    def blob(self, repository: Path, data: bytes) -> str:
        return git(repository, "hash-object", "-w", "--stdin", data=data)

    def test_a_link_a_folder_or_a_submodule_in_the_place_of_a_state_is_refused(
        self, forge: Path, work: Path
    ) -> None:
        link = self.blob(forge, b"../../../../etc/passwd")
        empty = git(forge, "mktree")
        for line in (
            f"120000 blob {link}\tdev.json\n",
            f"040000 tree {empty}\tdev.json\n",
            f"160000 commit {'1' * 40}\tdev.json\n",
        ):
            self.put(forge, line)
            with pytest.raises(StateDamaged, match="not a file"):
                remote(forge, work).read(DEV)

    def test_a_huge_file_is_not_read(self, forge: Path, work: Path) -> None:
        self.put(forge, f"100644 blob {self.blob(forge, b' ' * (MAX_BYTES + 1))}\tdev.json\n")
        with pytest.raises(StateDamaged, match="bound"):
            remote(forge, work).read(DEV)

    def test_a_damaged_state_names_branch_and_file(self, forge: Path, work: Path) -> None:
        self.put(forge, f"100644 blob {self.blob(forge, b'{')}\tdev.json\n")
        with pytest.raises(StateDamaged) as caught:
            remote(forge, work).read(DEV)
        assert caught.value.where.startswith("chalice-state:.chalice/deployed/dev.json")

    def test_files_that_are_no_states_are_kept_and_not_listed(
        self, forge: Path, work: Path
    ) -> None:
        note = self.blob(forge, b"note")
        self.put(forge, f"100644 blob {note}\tREADME\n100644 blob {note}\tnot a stage.json\n")
        store = remote(forge, work)
        record(store, DEV, "a")
        assert store.keys() == (DEV,)
        assert len(git(forge, "ls-tree", "-r", BRANCH).splitlines()) == 3

    def test_a_path_with_characters_that_git_could_interpret_is_taken_literally(
        self, forge: Path, work: Path
    ) -> None:
        store = remote(forge, work)
        keys = [StateKey(app_path=path, stage="dev") for path in (":(top)x", "a*", "b[c]", "ä ö")]
        for key in keys:
            record(store, key, "a")
        assert set(store.keys()) == set(keys)
        assert store.read(StateKey(app_path="a", stage="dev")).state is None

    def test_the_default_branch_of_a_remote_is_taken_over(
        self, project: Path, forge: Path, work: Path
    ) -> None:
        path = project / DEV.file
        path.parent.mkdir(parents=True)
        path.write_bytes(render(marked("committed")))
        git(project, "add", ".")
        git(project, "commit", "-q", "-m", "State")
        git(project, "push", "-q", str(forge), "main")
        repository = RemoteRepository(str(forge), work_dir=work, environ=PATH)
        for ref in ("HEAD", "refs/heads/main"):
            found = import_from_commit(repository, ref, DEV, app_name="orders")
            assert found
            assert found.state == marked("committed")
            assert found.commit == git(forge, "rev-parse", "main")
        assert import_from_commit(repository, "refs/heads/none", DEV, app_name="orders") is None


class TestAddressesAndCredentials:
    @pytest.mark.parametrize(
        "url",
        [
            "ext::sh -c id",
            "--upload-pack=id",
            "-oProxyCommand=id",
            "ftp://a.example/x",
            "https://a.example/x\n",
            "https://a.example/x?y=1",
            "https://a.example/x#y",
            "relative/path",
            "",
            "fd::3",
            "git://a.example/x",
        ],
    )
    def test_an_address_that_is_no_repositorys_is_refused(self, url: str, work: Path) -> None:
        with pytest.raises(UsageError):
            remote(url, work)

    @pytest.mark.parametrize(
        "url", ["https://token@a.example/x", "https://me:s3cr3t@a.example/x", "ssh://git:pw@a/x"]
    )
    def test_an_address_with_a_credential_is_refused_without_showing_it(
        self, url: str, work: Path
    ) -> None:
        with pytest.raises(UsageError) as caught:
            remote(url, work)
        assert "token" not in caught.value.where
        assert "s3cr3t" not in str(caught.value)

    def test_a_folder_may_have_spaces_in_its_name(self, tmp_path: Path, work: Path) -> None:
        folder = tmp_path / "my repository"
        subprocess.run(["git", "init", "--quiet", "--bare", str(folder)], check=True)
        for url in (f"file://{folder}", str(folder)):
            store = remote(url, work)
            assert store.read(StateKey(app_path=".", stage="dev")).state is None
            written = store.write(
                StateKey(app_path=".", stage=f"s{len(url)}"),
                marked("a"),
                expected=ABSENT,
                message=message("dev"),
            )
            assert written.commit

    def test_a_credential_is_not_sent_unencrypted(self, work: Path) -> None:
        with pytest.raises(UsageError, match="unencrypted"):
            remote("http://a.example/x", work, authorization="Bearer x")

    @pytest.mark.parametrize(
        "branch", ["", "-x", "a b", "a..b", "a/", "/a", "a.lock", "@{u}", ".a"]
    )
    def test_a_branch_that_is_none_is_refused(self, branch: str, project: Path, work: Path) -> None:
        repository = LocalRepository(project, work_dir=work, environ=PATH)
        with pytest.raises(UsageError, match="name of a branch"):
            GitStore(repository, branch=branch)

    def test_the_credential_reaches_the_forge_and_no_argument(
        self, forge: Path, work: Path, tmp_path: Path
    ) -> None:
        real = shutil.which("git")
        assert real
        wrapper = tmp_path / "bin" / "git"
        wrapper.parent.mkdir()
        log = tmp_path / "arguments"
        wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
        with serving(forge.parent, environ=PATH, token="s3cr3t") as address:
            repository = RemoteRepository(
                f"{address}/forge.git",
                work_dir=work,
                environ={"PATH": f"{wrapper.parent}:{PATH['PATH']}"},
                authorization="Bearer s3cr3t",
            )
            record(GitStore(repository), DEV, "a")
        assert "push" in log.read_text()
        assert "s3cr3t" not in log.read_text()
        for path in work.rglob("*"):
            assert not path.is_file() or b"s3cr3t" not in path.read_bytes()

    def test_a_redirect_does_not_carry_the_credential_away(self, work: Path) -> None:
        seen: list[str] = []

        class Away(BaseHTTPRequestHandler):
            target = ""

            def log_message(self, format: str, *arguments: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                seen.append(self.server.server_address[1])
                self.send_response(302 if self.target else 200)
                self.send_header("Location", f"{self.target}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        thief = ThreadingHTTPServer(("127.0.0.1", 0), Away)
        forge = ThreadingHTTPServer(
            ("127.0.0.1", 0),
            type("Redirecting", (Away,), {"target": f"http://127.0.0.1:{thief.server_port}"}),
        )
        threads = [threading.Thread(target=s.serve_forever, args=(0.02,)) for s in (thief, forge)]
        for thread in threads:
            thread.start()
        try:
            url = f"http://127.0.0.1:{forge.server_port}/x.git"
            with pytest.raises(ForgeError):
                remote(url, work, authorization="Bearer s3cr3t").read(DEV)
        finally:
            for server, thread in zip((thief, forge), threads, strict=True):
                server.shutdown()
                thread.join()
                server.server_close()
        assert set(seen) == {forge.server_port}

    def test_ssh_is_spoken_through_the_command_that_was_given(
        self, forge: Path, work: Path, tmp_path: Path
    ) -> None:
        """The stand-in for ssh does what sshd does: it runs the command that it is sent."""
        ssh = tmp_path / "ssh"
        ssh.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift 2; done\nshift\nexec sh -c "$*"\n'
        )
        ssh.chmod(0o755)
        for url in (f"ssh://git@forge.example{forge}", f"git@forge.example:{forge}"):
            store = remote(url, work, ssh_command=str(ssh))
            record(store, DEV, "a")
            assert store.read(DEV).state == marked("a")

    def test_closing_removes_the_clone(self, forge: Path, work: Path) -> None:
        repository = RemoteRepository(str(forge), work_dir=work, environ=PATH)
        record(GitStore(repository), DEV, "a")
        repository.close()
        assert list(work.iterdir()) == []
