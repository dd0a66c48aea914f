"""States on a branch of a GitHub repository: the contract of every store, and what is GitHub's."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

import test_state_stores as contract
from chalice_ci.errors import ForgeError, StateMoved, StateNotRecorded
from chalice_ci.forge.github_api import GitHubApi
from chalice_ci.forge.github_data import GitHubData
from chalice_ci.forge.port import NotPermitted
from chalice_ci.forge.retry import ALL_WAITS, PATIENT_WAITS, SPREAD, Retry
from chalice_ci.state.git import GitStore, import_from_commit
from chalice_ci.state.github import GitHubObjects, GitHubRepository, Tree
from chalice_ci.state.journal import Journal
from chalice_ci.state.lease import LEASE_SECONDS, Clocks, Here, take
from chalice_ci.state.schema import StateDamaged, render
from chalice_ci.state.store import ABSENT, Kept, StateKey
from offline_github.emulate import ADMIN, BOT, OWNER
from offline_github.gateway import Failure, Fault, OfflineGitHub, Secondary, offline_github, report
from support.statewriter import github_address, marked, message

DEV = StateKey(app_path=".", stage="dev")
ORDERS = StateKey(app_path="services/orders", stage="dev")
GIT = "/repos/{owner}/{repo}/git"
READ = "POST /graphql repository"
COMMIT = "POST /graphql createCommitOnBranch"


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[OfflineGitHub]:
    with offline_github(tmp_path_factory.mktemp("github")) as github:
        yield github
        reporter = request.config.pluginmanager.getplugin("terminalreporter")
        if reporter:
            reporter.write_line(f"\n{report(github)}")
        assert github.invalid == []


class Rooms:
    """A repository of its own for each test."""

    def __init__(self, github: OfflineGitHub) -> None:
        self.github = github
        self.numbers = itertools.count(1)

    def new(self) -> str:
        name = f"{OWNER}/room-{next(self.numbers)}"
        token = self.github.emulator.token_of(ADMIN)
        document = {"name": name.partition("/")[2], "auto_init": True}
        self.github.emulator.post(f"/orgs/{OWNER}/repos", document, token=token)
        return name


@pytest.fixture(scope="module")
def rooms(running: OfflineGitHub) -> Rooms:
    return Rooms(running)


@pytest.fixture
def repository(rooms: Rooms) -> Iterator[str]:
    yield rooms.new()
    rooms.github.faults.clear()


def api_of(github: OfflineGitHub, repository: str, token: str = "") -> GitHubApi:
    token = token or github.emulator.workflow_token()
    retry = Retry(sleep=lambda seconds: None)
    return GitHubApi(repository, token=token, api_url=github.url, retry=retry)


def store_of(github: OfflineGitHub, repository: str, token: str = "") -> GitStore:
    data = GitHubData(api_of(github, repository, token))
    # Time stands still: how long ago a head was read is not for a busy machine to decide.
    return GitStore(GitHubRepository(data), sleep=lambda seconds: None, clock=lambda: 0.0)


class TestEveryStoreOnGitHub(contract.TestEveryStore):
    """The contract of test_state_stores.py."""

    @pytest.fixture
    def place(self, running: OfflineGitHub, repository: str, tmp_path: Path) -> contract.Place:
        token = running.emulator.workflow_token(contents="write")
        address = github_address(running.url, repository, token)
        return contract.Place(kind="github", address=address, work_dir=tmp_path)

    def test_of_many_writers_of_different_stages_none_is_lost(
        self, place: contract.Place, running: OfflineGitHub, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """At the very same moment, and then each is read: within the budget of an hour."""
        before, writes = running.total.total(), running.total[COMMIT]
        super().test_of_many_writers_of_different_stages_none_is_lost(place)
        asked, wrote = running.total.total() - before, running.total[COMMIT] - writes
        with capsys.disabled():
            print(f"\n{place.writers} writers at once: {asked} requests, {wrote} commits tried")
        assert asked <= 10 * place.writers
        assert wrote <= 5 * place.writers


class TestTheSecondaryLimit:
    """80 requests a minute that create something: what is deployed has to be recorded all the same.

    Time is the test's: it goes on when somebody waits, and then as far as he waits.
    """

    def test_who_writes_more_than_a_minute_has_waits_and_loses_nothing(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        waits: list[float] = []
        token = running.emulator.workflow_token()
        retry = Retry(sleep=waits.append, jitter=lambda: 0.0)
        api = GitHubApi(repository, token=token, api_url=running.url, retry=retry)
        store = GitStore(GitHubRepository(GitHubData(api)), clock=lambda: 0.0)
        store.write(DEV, marked("first"), expected=ABSENT, message=message("dev"))
        running.secondary = limit = Secondary(writes=4, clock=lambda: sum(waits))
        keys = [StateKey(app_path=f"app-{number}", stage="dev") for number in range(10)]
        for key in keys:
            store.write(key, marked("a"), expected=ABSENT, message=message("dev"))
        assert waits == [60.0, 60.0]
        assert limit.refused == 2
        running.secondary = None
        assert set(store_of(running, repository, token).keys()) == {DEV, *keys}

    @pytest.mark.parametrize("operation", [READ, COMMIT])
    def test_a_state_waits_longer_than_a_comment_but_not_beyond_its_lease(
        self, running: OfflineGitHub, repository: str, operation: str
    ) -> None:
        waits: list[float] = []
        api = GitHubApi(
            repository,
            token=running.emulator.workflow_token(),
            api_url=running.url,
            retry=Retry(sleep=waits.append, jitter=lambda: 1.0),
        )
        store = GitStore(GitHubRepository(GitHubData(api)), clock=lambda: 0.0)
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        method, _, path = operation.partition(" ")

        def write(mark: str, expected: str) -> str:
            store.read(DEV)
            fresh = GitStore(GitHubRepository(GitHubData(api)), clock=lambda: 0.0)
            return fresh.write(DEV, marked(mark), expected=expected, message=message("dev")).version

        running.fail(Failure.LIMITED_403, method=method, path=path, times=3, retry_after="60")
        second = write("b", first.version)
        assert waits == [60.0 * (1 + SPREAD)] * 3
        assert sum(waits) > ALL_WAITS
        waits.clear()
        running.fail(Failure.LIMITED_403, method=method, path=path, times=99, retry_after="60")
        with pytest.raises((StateNotRecorded, ForgeError), match="rate limit"):
            write("c", second)
        assert ALL_WAITS < sum(waits) <= PATIENT_WAITS < LEASE_SECONDS / 2
        running.faults.clear()
        assert write("d", second)


class TestOnGitHub:
    def test_a_commit_has_one_parent_no_author_and_starts_no_run(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        store = store_of(running, repository)
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        running.seen.clear()
        second = store.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        (given,) = (
            json.loads(one.body)["variables"]["input"]
            for one in running.seen
            if one.operation == COMMIT
        )
        # It has no author and no committer: they are the token's account, and GitHub signs.
        assert given.keys() == {"branch", "expectedHeadOid", "message", "fileChanges"}
        assert given["expectedHeadOid"] == first.commit
        assert "[skip ci]" in given["message"]["headline"]
        made = running.emulator.get(f"/repos/{repository}/git/commits/{second.commit}")
        assert [parent["sha"] for parent in made["parents"]] == [first.commit]
        assert made["message"].split() == message("dev").split()

    def test_what_a_write_and_a_read_cost(self, running: OfflineGitHub, repository: str) -> None:
        store = store_of(running, repository)
        running.seen.clear()
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        assert [one.operation.replace(GIT, "") for one in running.seen] == [
            READ,
            "POST /trees",
            "POST /commits",
            "POST /refs",
        ]
        running.seen.clear()
        later = store_of(running, repository)
        later.read(DEV)
        assert later.snapshot(DEV) is None
        assert later.releases(DEV) is None
        assert [one.operation for one in running.seen] == [READ]
        running.seen.clear()
        later.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert [one.operation for one in running.seen] == [COMMIT]
        running.seen.clear()
        later.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert [one.operation for one in running.seen] == [READ]

    def test_a_hundred_deploys_fit_into_an_hours_thousand_requests(
        self, running: OfflineGitHub, repository: str, tmp_path: Path
    ) -> None:
        """Each in a process of its own: read, take the lease with all intents, record and close."""
        count = contract.WRITERS or 10
        stages = [StateKey(app_path=".", stage=f"s{number}") for number in range(count)]
        clocks = Clocks(now=lambda: datetime.now(UTC), elapsed=time.monotonic, sleep=time.sleep)
        version = dict.fromkeys(stages, ABSENT)
        for content in ("a", "b"):
            running.seen.clear()
            for key in stages:
                store = store_of(running, repository)
                held = take(
                    store,
                    key,
                    store.read(key),
                    Journal(lease=None, verb="deploy", account="1", region="r"),
                    here=Here(owner="test"),
                    clocks=clocks,
                    reason="deploy",
                    message=message(key.stage),
                    log_file=tmp_path / key.stage,
                )
                written = store.write(
                    key,
                    marked(content),
                    expected=version[key],
                    message=message(key.stage),
                    journal=held.closing(marked(content), complete=True),
                )
                held.finish(recorded=True)
                version[key] = written.version
            # A stage of its own is compared with the names of all others, once.
            first = content == "a"
            assert len(running.seen) <= (4 if first else 3) * len(stages) + 4
            assert running.counted()[COMMIT] <= 2 * len(stages)
        assert store_of(running, repository).read(stages[0]).journal == Kept()

    def test_the_branch_holds_states_alone_and_the_code_is_untouched(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        emulator = running.emulator
        before = emulator.head("main", repository)
        store = store_of(running, repository)
        store.write(ORDERS, marked("a"), expected=ABSENT, message=message("dev"))
        assert emulator.head("main", repository) == before
        found = emulator.get(
            f"/repos/{repository}/git/trees/{emulator.head('chalice-state', repository)}"
            "?recursive=1"
        )
        files = [entry["path"] for entry in found["tree"] if entry["type"] == "blob"]
        assert files == [ORDERS.file]

    def test_beside_the_code_the_default_branch_is_asked_for_and_keeps_its_files(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        data = GitHubData(api_of(running, repository))
        store = GitStore(GitHubRepository(data), branch=None)
        head = running.emulator.head("main", repository)
        store.write(ORDERS, marked("a"), expected=ABSENT, message=message("dev"))
        assert store.read(ORDERS).state == marked("a")
        emulator = running.emulator
        branches = emulator.get(f"/repos/{repository}/branches")
        assert [branch["name"] for branch in branches] == ["main"]
        made = emulator.get(f"/repos/{repository}/commits/{emulator.head('main', repository)}")
        assert [parent["sha"] for parent in made["parents"]] == [head]
        assert [file["filename"] for file in made["files"]] == [ORDERS.file]

    def test_a_branch_with_a_slash_in_its_name_is_one_branch(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        data = GitHubData(api_of(running, repository))
        store = GitStore(GitHubRepository(data), branch="ci/chalice state".replace(" ", "-"))
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        store.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert running.emulator.head("ci/chalice-state", repository)

    def test_a_first_run_imports_what_the_default_branch_holds(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        text = render(marked("committed")).decode()
        commit = running.emulator.push("main", {ORDERS.file: text}, repository=repository)
        source = GitHubRepository(GitHubData(api_of(running, repository)))
        found = import_from_commit(source, "HEAD", ORDERS, app_name="orders")
        assert found
        assert (found.state, found.commit) == (marked("committed"), commit)
        assert import_from_commit(source, "HEAD", DEV, app_name="orders") is None
        assert import_from_commit(source, "refs/heads/none", DEV, app_name="orders") is None

    def test_a_tree_that_is_too_long_is_walked_folder_by_folder(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        class Long(GitHubData):
            """A repository whose recursive listings do not fit into one answer."""

            def tree(self, oid: str, *, recursive: bool) -> Tree:
                if recursive:
                    return Tree(entries=(), truncated=True)
                return super().tree(oid, recursive=recursive)

        store_of(running, repository).write(
            ORDERS, marked("a"), expected=ABSENT, message=message("dev")
        )
        api = Long(api_of(running, repository))
        objects = GitHubObjects(api)
        head = running.emulator.head("chalice-state", repository)
        there = objects.blob(head, ORDERS.file)
        assert there
        assert objects.content(there, ORDERS.file) == render(marked("a"))
        for nothing in (
            DEV,
            StateKey(app_path="services", stage="dev"),
            StateKey(app_path="services/orders/.chalice2", stage="dev"),
            StateKey(app_path=ORDERS.file.replace(".chalice", "x"), stage="dev"),
        ):
            assert objects.blob(head, nothing.file) is None
        store = GitStore(GitHubRepository(api))
        with pytest.raises(ForgeError, match="more files"):
            store.keys()

    @pytest.mark.parametrize(
        ("mode", "kind"), [("120000", "blob"), ("040000", "tree"), ("160000", "commit")]
    )
    def test_a_link_or_a_folder_in_the_place_of_a_state_is_damage(
        self, running: OfflineGitHub, repository: str, mode: str, kind: str
    ) -> None:
        emulator, where = running.emulator, f"/repos/{repository}/git"
        parent = emulator.head("main", repository)
        if kind == "blob":
            sha = emulator.post(f"{where}/blobs", {"content": "/etc/passwd"})["sha"]
        elif kind == "tree":
            sha = emulator.get(f"{where}/commits/{parent}")["tree"]["sha"]
        else:
            sha = parent
        entry = {"path": DEV.file, "mode": mode, "type": kind, "sha": sha}
        tree = emulator.post(f"{where}/trees", {"tree": [entry]})["sha"]
        commit = emulator.post(f"{where}/commits", {"message": "x", "tree": tree, "parents": []})[
            "sha"
        ]
        emulator.post(f"{where}/refs", {"ref": "refs/heads/chalice-state", "sha": commit})
        with pytest.raises(StateDamaged, match="not a file"):
            store_of(running, repository).read(DEV)

    def test_bytes_that_are_no_text_go_as_a_blob(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        objects = GitHubRepository(GitHubData(api_of(running, repository))).objects
        files: Mapping[str, bytes] = {"a.bin": b"\xff\0\x80", "b.txt": "é\r\n".encode()}
        commit = objects.commit(None, files, "Two files")
        for path, data in files.items():
            blob = objects.blob(commit, path)
            assert blob
            assert objects.content(blob, path) == data
        assert set(objects.files(commit)) == set(files)

    def test_without_the_permission_to_write_the_line_is_named(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        token = running.emulator.workflow_token(contents="read")
        store = store_of(running, repository, token)
        with pytest.raises(StateNotRecorded) as caught:
            store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        assert "contents: write" in caught.value.fix
        assert token not in str(caught.value)
        assert store.read(DEV).state is None

    def test_a_protected_branch_is_named_with_a_way_out(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        emulator = running.emulator
        store = store_of(running, repository)
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        rules = {
            "required_status_checks": {"strict": True, "contexts": ["build"]},
            "enforce_admins": True,
            "required_pull_request_reviews": None,
            "restrictions": None,
        }
        path = f"/repos/{repository}/branches/chalice-state/protection"
        status, _ = emulator.ask("PUT", path, rules, token=emulator.token_of(ADMIN))
        assert status == 200
        with pytest.raises(StateNotRecorded, match="chalice-state") as caught:
            store.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert "state.branch" in caught.value.fix
        assert store.read(DEV).state == marked("a")

    def test_a_writer_that_lost_the_race_writes_on_the_new_head(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        store, other = store_of(running, repository), store_of(running, repository)
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))

        class Late(GitHubRepository):
            """Somebody else is faster, once."""

            raced = False

            def advance(self, ref: str, *, new: str, old: str | None) -> object:
                if not self.raced:
                    self.raced = True
                    other.write(ORDERS, marked("o"), expected=ABSENT, message=message("dev"))
                return super().advance(ref, new=new, old=old)

        late = GitStore(Late(GitHubData(api_of(running, repository))), sleep=lambda seconds: None)
        late.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert store.read(DEV).state == marked("b")
        assert store.read(ORDERS).state == marked("o")

    def test_the_account_of_the_commits_is_the_tokens(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        written = store_of(running, repository).write(
            DEV, marked("a"), expected=ABSENT, message=message("dev")
        )
        found = running.emulator.get(f"/repos/{repository}/git/commits/{written.commit}")
        assert BOT in found["author"]["email"]


MAKING = [f"POST {GIT}/trees", f"POST {GIT}/commits", f"POST {GIT}/refs"]
FAILING = [READ, COMMIT, *MAKING]
PASSING = {
    Failure.LIMITED_QUERY,
    Failure.LIMITED_403,
    Failure.LIMITED_429,
    Failure.BROKEN,
    Failure.BAD_GATEWAY,
}
PASSING |= {Failure.TIMEOUT, Failure.CUT}
LASTING = {Failure.BAD_TOKEN, Failure.NO_PERMISSION, Failure.CONFLICT, Failure.REFUSED}


class TestFaults:
    """Each fault at each request of a first and of a later write."""

    @pytest.mark.parametrize("operation", FAILING)
    @pytest.mark.parametrize("landed", [False, True], ids=["before", "after it took effect"])
    @pytest.mark.parametrize("failure", sorted(PASSING - {Failure.TIMEOUT}))
    def test_what_passes_costs_nothing_but_time(
        self,
        running: OfflineGitHub,
        repository: str,
        operation: str,
        failure: Failure,
        landed: bool,
    ) -> None:
        method, _, path = operation.partition(" ")
        creating = operation in MAKING
        store = store_of(running, repository)
        version = ABSENT
        if not creating:
            version = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev")).version
            store = store_of(running, repository)
        running.fail(failure, method=method, path=path, landed=landed)
        store.write(DEV, marked("b"), expected=version, message=message("dev"))
        assert running.faults[0].times == 0
        assert store_of(running, repository).read(DEV).state == marked("b")

    @pytest.mark.parametrize("operation", FAILING)
    @pytest.mark.parametrize("failure", sorted(LASTING))
    def test_what_lasts_is_an_error_and_the_old_state_stands(
        self, running: OfflineGitHub, repository: str, operation: str, failure: Failure
    ) -> None:
        method, _, path = operation.partition(" ")
        creating = operation in MAKING
        version = ABSENT
        if not creating:
            version = (
                store_of(running, repository)
                .write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
                .version
            )
        token = running.emulator.workflow_token()
        store = store_of(running, repository, token)
        running.fail(failure, method=method, path=path, times=99)
        with pytest.raises(StateNotRecorded) as caught:
            store.write(DEV, marked("b"), expected=version, message=message("dev"))
        assert caught.value.fix
        assert token not in str(caught.value)
        if failure is Failure.NO_PERMISSION:
            assert f"contents: {'read' if operation == READ else 'write'}" in caught.value.fix
        running.faults.clear()
        after = store_of(running, repository).read(DEV)
        assert after.state == (None if creating else marked("a"))
        store.write(DEV, marked("b"), expected=after.version, message=message("dev"))

    def test_an_answer_that_does_not_come_is_asked_for_again(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        token = running.emulator.workflow_token()
        retry = Retry(sleep=lambda seconds: None)
        api = GitHubApi(repository, token=token, api_url=running.url, retry=retry, timeout=3)
        store = GitStore(GitHubRepository(GitHubData(api)), sleep=lambda seconds: None)
        running.fail(Failure.TIMEOUT, method="POST", path="/git/commits", landed=True)
        running.fail(Failure.TIMEOUT, method="POST", path="/git/refs", landed=True)
        store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        assert store.read(DEV).state == marked("a")

    def test_a_read_that_is_refused_names_the_permission(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        running.fail(Failure.NO_PERMISSION, path="/graphql")
        with pytest.raises(NotPermitted) as caught:
            store_of(running, repository).read(DEV)
        assert caught.value.permission == "contents: read"

    def test_a_lost_answer_is_not_taken_for_somebody_elses_write(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        store = store_of(running, repository)
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        running.fail(Failure.BROKEN, path="createCommitOnBranch", landed=True)
        made = store.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert made.changed
        assert made.commit == running.emulator.head("chalice-state", repository)
        # Nobody answers any more, neither what was done nor what is there.
        first = made
        running.fail(Failure.BROKEN, path="createCommitOnBranch", landed=True, times=99)
        running.fail(Failure.BROKEN, path="/graphql repository", times=99)
        with pytest.raises(StateNotRecorded):
            store.write(DEV, marked("c"), expected=first.version, message=message("dev"))
        running.faults.clear()
        # It was recorded all the same: writing the same again is no conflict.
        again = store.write(DEV, marked("c"), expected=first.version, message=message("dev"))
        assert store.read(DEV).version == again.version
        with pytest.raises(StateMoved):
            store.write(DEV, marked("d"), expected=first.version, message=message("dev"))

    def test_a_write_of_somebody_else_is_not_taken_for_a_lost_answer(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        store, other = store_of(running, repository), store_of(running, repository)
        first = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        store.read(DEV)
        # From the same head, with the same words, to another content.
        other.write(DEV, marked("x"), expected=first.version, message=message("dev"))
        running.fail(Failure.BROKEN, path="createCommitOnBranch")
        with pytest.raises(StateMoved):
            store.write(DEV, marked("b"), expected=first.version, message=message("dev"))
        assert store.read(DEV).state == marked("x")

    def test_what_is_long_or_no_text_is_asked_for_on_its_own(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        long, odd = b"{" + b"x" * 600_000 + b"}", b"\xff\0\x80"
        store = store_of(running, repository)
        for content in (long, odd):
            before = store.read(DEV)
            state = marked(content[:1].hex())
            store.write(
                DEV, state, expected=before.version, message=message("dev"), snapshot=content
            )
            assert store_of(running, repository).snapshot(DEV) == content


class TestFilesOfABranch:
    """What the configuration of a pull request's base is read with."""

    def test_a_file_is_read_as_it_is_on_the_branch_now(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        store_of(running, repository).write(
            ORDERS, marked("größe"), expected=ABSENT, message=message("dev")
        )
        data = GitHubData(api_of(running, repository))
        running.seen.clear()
        found = data.file(ORDERS.file, branch="chalice-state", commit="f" * 40)
        assert found == render(marked("größe")).decode()
        assert len(running.seen) == 1
        assert data.file("chalice-ci.yml", branch="chalice-state", commit="f" * 40) is None

    def test_of_a_branch_that_is_gone_the_commit_counts(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        store = store_of(running, repository)
        written = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
        assert written.commit is not None
        data = GitHubData(api_of(running, repository))
        found = data.file(DEV.file, branch="no-such-branch", commit=written.commit)
        assert found == render(marked("a")).decode()

    def test_a_token_that_may_not_read_is_told_the_permission(
        self, running: OfflineGitHub, repository: str
    ) -> None:
        running.faults.append(Fault(failure=Failure.NO_PERMISSION))
        data = GitHubData(api_of(running, repository))
        with pytest.raises(NotPermitted) as refused:
            data.file("chalice-ci.yml", branch="main", commit="f" * 40)
        assert "contents: read" in refused.value.fix
