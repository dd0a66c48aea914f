"""Each fault at each request to GitHub: a documented end, one comment, one deployment.

What passes is repeated where that is safe; what lasts is a ForgeError that says what to do; and
whatever happened, the next try ends with exactly one comment and one deployment.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.context import RunOrder
from chalice_ci.errors import ExitCode, ForgeError, UsageError
from chalice_ci.forge.github import GitHubForge
from chalice_ci.forge.github_api import GitHubApi, open_github
from chalice_ci.forge.github_data import GitHubData
from chalice_ci.forge.port import (
    DeploymentState,
    NotFound,
    NotPermitted,
    marked,
)
from chalice_ci.forge.retry import ALL_WAITS, SPREAD, Retry
from chalice_ci.state.git import GitStore
from chalice_ci.state.github import GitHubRepository
from chalice_ci.state.schema import StageState
from chalice_ci.state.store import ABSENT, StateKey
from offline_github.emulate import BOT, REPOSITORY
from offline_github.gateway import Failure, Fault, OfflineGitHub, offline_github, report
from support.statewriter import marked as marked_state

RUN = RunOrder(id=7)
LATEST = 1 + SPREAD
"""How much longer than it was asked to a job waits at most; the scene's chance says so."""
REPO = "/repos/{owner}/{repo}"
VIEWER = "POST /graphql viewer"
PULL = f"GET {REPO}/pulls/{{pull_number}}"
PULLS = f"GET {REPO}/pulls"
LIST = f"GET {REPO}/issues/{{issue_number}}/comments"
COMMENT = f"POST {REPO}/issues/{{issue_number}}/comments"
EDIT = f"PATCH {REPO}/issues/comments/{{comment_id}}"
DELETE = f"DELETE {REPO}/issues/comments/{{comment_id}}"
DEPLOYMENTS = f"GET {REPO}/deployments"
DEPLOY = f"POST {REPO}/deployments"
STATUS = f"POST {REPO}/deployments/{{deployment_id}}/statuses"
UNDEPLOY = f"DELETE {REPO}/deployments/{{deployment_id}}"
ENVIRONMENT = f"DELETE {REPO}/environments/{{environment_name}}"

PASSING = (
    Failure.LIMITED_403,
    Failure.LIMITED_429,
    Failure.BROKEN,
    Failure.BAD_GATEWAY,
    Failure.CUT,
)
LASTING = (
    Failure.BAD_TOKEN,
    Failure.NO_PERMISSION,
    Failure.MISSING,
    Failure.CONFLICT,
    Failure.REFUSED,
)
PERMISSIONS = {
    PULL: "pull-requests: read",
    PULLS: "pull-requests: read",
    LIST: "pull-requests: read",
    COMMENT: "pull-requests: write",
    EDIT: "pull-requests: write",
    DELETE: "pull-requests: write",
    DEPLOYMENTS: "deployments: read",
    DEPLOY: "deployments: write",
    STATUS: "deployments: write",
    UNDEPLOY: "deployments: write",
    VIEWER: "",
}


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


@dataclass(kw_only=True)
class Scene:
    """A pull request and a preview of its own, and the seconds that were waited."""

    github: OfflineGitHub
    number: int
    sha: str
    token: str
    waits: list[float] = field(default_factory=list)
    timeout: int = 20

    @property
    def environment(self) -> str:
        return f"pr-{self.number}"

    def forge(self) -> GitHubForge:
        api = GitHubApi(
            REPOSITORY,
            token=self.token,
            api_url=self.github.url,
            retry=Retry(sleep=self.waits.append, jitter=lambda: 1.0),
            timeout=self.timeout,
        )
        return GitHubForge(api)

    def comments(self) -> list[str]:
        return [comment["body"] for comment in self.github.emulator.comments(self.number)]

    def deployments(self) -> list[str]:
        found = self.github.deployments.of(REPOSITORY, self.environment)
        return [state for _, state in found]

    # One function for each of the product's operations, named like what it needs beforehand.

    def read(self) -> None:
        self.forge().pull_request(self.number)

    def list(self) -> None:
        self.forge().open_pull_requests()

    def comment(self) -> None:
        self.forge().upsert_comment(self.number, "new", run=RUN)

    def rewrite(self) -> None:
        self.forge().upsert_comment(self.number, "new", run=RUN)

    def clear(self) -> None:
        self.forge().upsert_comment(self.number, "new", run=RUN)

    def deploy(self) -> None:
        forge = self.forge()
        started = forge.start_deployment(environment=self.environment, sha=self.sha, run=RUN)
        forge.finish_deployment(started, DeploymentState.SUCCESS, url="https://a.example/")

    def remove(self) -> None:
        self.forge().remove_environment(self.environment)

    def prepare(self, action: str) -> None:
        old = marked("old", key="chalice-ci", run=RunOrder(id=1))
        for _ in range({"rewrite": 1, "clear": 2}.get(action, 0)):
            self.github.emulator.post(
                f"/repos/{REPOSITORY}/issues/{self.number}/comments",
                {"body": old},
                token=self.token,
            )
        if action == "remove":
            self.deploy()

    def check(self, action: str) -> None:
        """What has to be there after the action went well."""
        if action in {"comment", "rewrite", "clear"}:
            assert self.comments() == [marked("new", key="chalice-ci", run=RUN)]
        if action == "deploy":
            assert self.deployments() == ["success"]
        if action == "remove":
            assert self.deployments() == []


@pytest.fixture
def scene(running: OfflineGitHub) -> Iterator[Scene]:
    emulator = running.emulator
    tokens = [t for t, owner in emulator.tokens.items() if owner == BOT]
    token = tokens[0] if tokens else emulator.workflow_token()
    branch = f"b{next(_NUMBERS)}"
    sha = emulator.push(branch, {"a.txt": branch})
    yield Scene(github=running, number=emulator.pull_request(branch), sha=sha, token=token)
    running.forget()


_NUMBERS = itertools.count(1)

REQUESTS = [
    ("read", PULL),
    ("list", PULLS),
    ("comment", VIEWER),
    ("comment", LIST),
    ("comment", COMMENT),
    ("rewrite", EDIT),
    ("clear", DELETE),
    ("deploy", DEPLOYMENTS),
    ("deploy", DEPLOY),
    ("deploy", STATUS),
    ("remove", DEPLOYMENTS),
    ("remove", STATUS),
    ("remove", UNDEPLOY),
    ("remove", ENVIRONMENT),
]


def at(operation: str) -> dict[str, str]:
    method, _, path = operation.partition(" ")
    return {"method": method, "path": path}


class Exactly(Fault):
    """A fault at one operation, not at those whose paths begin alike."""

    def strikes(self, method: str, template: str) -> bool:
        return template == self.path and super().strikes(method, template)


def fail(scene: Scene, failure: Failure, operation: str, **more: Any) -> Fault:
    fault = Exactly(failure=failure, **at(operation), **more)
    scene.github.faults.append(fault)
    return fault


class TestWhatPasses:
    @pytest.mark.parametrize(("action", "operation"), REQUESTS)
    @pytest.mark.parametrize("landed", [False, True], ids=["before", "after it took effect"])
    @pytest.mark.parametrize("failure", PASSING)
    def test_the_action_goes_well_and_leaves_one_of_everything(
        self, scene: Scene, action: str, operation: str, landed: bool, failure: Failure
    ) -> None:
        scene.prepare(action)
        fault = fail(scene, failure, operation, landed=landed)
        getattr(scene, action)()
        assert fault.times == 0
        scene.check(action)
        if failure in {Failure.LIMITED_403, Failure.LIMITED_429}:
            assert scene.waits == [7.0 * LATEST]
        else:
            assert 0 < sum(scene.waits) <= 1

    @pytest.mark.parametrize(("action", "operation"), REQUESTS)
    def test_an_answer_that_never_comes_is_not_waited_for(
        self, scene: Scene, action: str, operation: str
    ) -> None:
        scene.prepare(action)
        fail(scene, Failure.TIMEOUT, operation, landed=True)
        # Less than the gateway keeps silent. The list is of all pull requests of these tests, which
        # takes a busy machine longer than a second.
        scene.timeout = 3 if action == "list" else 1
        getattr(scene, action)()
        scene.check(action)

    @pytest.mark.parametrize("operation", [COMMENT, DEPLOY, STATUS])
    def test_a_creation_is_repeated_only_after_a_look(self, scene: Scene, operation: str) -> None:
        action = "comment" if operation == COMMENT else "deploy"
        fail(scene, Failure.BROKEN, operation, times=3)
        fail(scene, Failure.CUT, operation, landed=True)
        scene.github.seen.clear()
        getattr(scene, action)()
        scene.check(action)
        asked = [one.operation for one in scene.github.seen]
        for first, second in itertools.pairwise(asked):
            assert not (first == second == operation)

    def test_a_creation_that_only_seemed_to_fail_until_the_end_is_found(self, scene: Scene) -> None:
        # The last attempt went through: its answer is looked for as well.
        fail(scene, Failure.BROKEN, COMMENT, times=4)
        fail(scene, Failure.BROKEN, COMMENT, landed=True)
        scene.comment()
        scene.check("comment")


class TestWhatLasts:
    @pytest.mark.parametrize(
        ("action", "operation"), [one for one in REQUESTS if one[1] != ENVIRONMENT]
    )
    @pytest.mark.parametrize("failure", LASTING)
    def test_it_is_an_error_with_a_way_out_and_the_next_try_goes_well(
        self, scene: Scene, action: str, operation: str, failure: Failure
    ) -> None:
        scene.prepare(action)
        fault = fail(scene, failure, operation, times=99)
        gone = failure is Failure.MISSING and operation in {DELETE, UNDEPLOY}
        gone |= failure is Failure.MISSING and (action, operation) == ("remove", STATUS)
        if gone:
            # Somebody else was faster: what is gone need not be deleted.
            getattr(scene, action)()
        else:
            with pytest.raises(ForgeError) as caught:
                getattr(scene, action)()
            error = caught.value
            assert error.exit_code is ExitCode.FORGE_FAILED
            assert error.where in {REPOSITORY, "comment"}
            assert error.fix
            if failure is Failure.BAD_TOKEN:
                assert isinstance(error, NotPermitted)
                assert "github-token" in error.fix
            if failure is Failure.NO_PERMISSION:
                assert isinstance(error, NotPermitted)
                assert error.permission == PERMISSIONS[operation]
                assert not error.permission or f"`{error.permission}`" in error.fix
            if failure is Failure.MISSING and operation not in {VIEWER, EDIT}:
                assert isinstance(error, NotFound)
            if failure is Failure.REFUSED:
                assert "Validation Failed; is refused" in error.what
        assert fault.times < 99
        assert scene.waits == []
        scene.github.faults.clear()
        getattr(scene, action)()
        scene.check(action)

    @pytest.mark.parametrize(("action", "operation"), REQUESTS)
    @pytest.mark.parametrize("failure", [Failure.BROKEN, Failure.BAD_GATEWAY, Failure.CUT])
    def test_what_does_not_pass_ends_after_a_bounded_time(
        self, scene: Scene, action: str, operation: str, failure: Failure
    ) -> None:
        scene.prepare(action)
        fault = fail(scene, failure, operation, times=99)
        with pytest.raises(ForgeError) as caught:
            getattr(scene, action)()
        assert caught.value.fix
        assert 99 - fault.times == 5
        assert sum(scene.waits) <= 20
        scene.github.faults.clear()
        getattr(scene, action)()
        scene.check(action)

    @pytest.mark.parametrize(
        ("action", "operation"), [one for one in REQUESTS if not one[1].startswith("DELETE")]
    )
    @pytest.mark.parametrize("failure", [Failure.STRANGE, Failure.NOTHING])
    def test_an_answer_of_another_shape_is_never_a_traceback(
        self, scene: Scene, action: str, operation: str, failure: Failure
    ) -> None:
        scene.prepare(action)
        fail(scene, failure, operation, times=99)
        with pytest.raises(ForgeError, match=r"not what its API describes|another place") as caught:
            getattr(scene, action)()
        assert caught.value.fix
        assert sum(scene.waits) <= 20
        scene.github.faults.clear()
        getattr(scene, action)()
        scene.check(action)

    def test_an_environment_that_may_not_be_deleted_is_no_failure(self, scene: Scene) -> None:
        scene.prepare("remove")
        removed = scene.forge().remove_environment(scene.environment)
        assert (removed.deployments, removed.environment) == (1, False)

    def test_a_rate_limit_that_lasts_is_told_without_waiting(self, scene: Scene) -> None:
        fail(scene, Failure.LIMITED_429, PULL, times=9, retry_after="3600")
        with pytest.raises(ForgeError, match="3600 s") as caught:
            scene.read()
        assert scene.waits == []
        assert "1,000 requests" in caught.value.fix

    @pytest.mark.parametrize("value", ["-1", "soon", "", "9" * 30, "1e3"])
    def test_a_wait_that_is_no_number_is_a_minute(self, scene: Scene, value: str) -> None:
        fail(scene, Failure.LIMITED_403, PULL, retry_after=value)
        scene.read()
        assert scene.waits == [60.0 * LATEST]

    def test_all_waits_together_have_a_bound(self, scene: Scene) -> None:
        fail(scene, Failure.LIMITED_403, PULL, times=99, retry_after="55")
        with pytest.raises(ForgeError):
            scene.read()
        assert scene.waits == [55.0 * LATEST, 55.0 * LATEST]
        assert sum(scene.waits) <= ALL_WAITS

    def test_each_permission_that_is_missing_is_named(self, scene: Scene) -> None:
        """Not a fault: the emulator and the gateway refuse the narrowed token themselves."""
        emulator = scene.github.emulator
        for granted, action, permission in (
            ({"contents": "write", "deployments": "write"}, "comment", "pull-requests: write"),
            ({"contents": "write", "pull_requests": "write"}, "deploy", "deployments: read"),
            ({"deployments": "read"}, "deploy", "deployments: write"),
        ):
            scene.token = emulator.workflow_token(**granted)
            with pytest.raises(NotPermitted) as caught:
                getattr(scene, action)()
            assert caught.value.permission == permission


class TestElsewhere:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize(("action", "operation"), [("read", PULL), ("comment", COMMENT)])
    def test_a_redirect_to_another_host_is_not_followed(
        self, scene: Scene, action: str, operation: str, status: int
    ) -> None:
        with canary() as (address, arrived):
            fail(scene, Failure.REDIRECT, operation, times=99, elsewhere=address, status=status)
            with pytest.raises(ForgeError):
                getattr(scene, action)()
            assert arrived == []
        scene.github.faults.clear()
        getattr(scene, action)()
        scene.check(action)

    @pytest.mark.parametrize(("action", "operation"), [("list", PULLS), ("comment", LIST)])
    def test_a_next_page_on_another_host_is_not_fetched(
        self, scene: Scene, action: str, operation: str
    ) -> None:
        with canary() as (address, arrived):
            fail(scene, Failure.FOREIGN, operation, times=99, elsewhere=address)
            with pytest.raises(ForgeError, match="another place"):
                getattr(scene, action)()
            assert arrived == []

    def test_addresses_in_answers_are_not_used_for_writing(self, scene: Scene) -> None:
        scene.prepare("clear")
        with canary() as (address, arrived):
            fail(scene, Failure.FOREIGN, EDIT, elsewhere=address)
            fail(scene, Failure.FOREIGN, COMMENT, elsewhere=address)
            scene.clear()
            assert arrived == []
        scene.check("clear")


class TestTheToken:
    def test_it_is_in_no_message_of_any_failure(self, scene: Scene) -> None:
        actions: list[tuple[Callable[[], None], str]] = [
            (scene.read, PULL),
            (scene.comment, COMMENT),
            (scene.deploy, DEPLOY),
        ]
        for action, operation in actions:
            for failure in (*LASTING, Failure.BROKEN, Failure.CUT, Failure.REDIRECT):
                fault = fail(scene, failure, operation, times=99)
                with pytest.raises(ForgeError) as caught:
                    action()
                told = "".join(traceback.format_exception(caught.value))
                assert scene.token not in told
                scene.github.faults.remove(fault)

    @pytest.mark.parametrize("token", ["", " ", "ghs_x\n", "ghs x", "ghs_é", "x\0", "x" * 3000])
    def test_one_that_cannot_be_sent_is_refused_without_being_shown(self, token: str) -> None:
        with pytest.raises(UsageError) as caught:
            GitHubApi(REPOSITORY, token=token)
        assert not token.strip() or token not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "server", "good"),
        [
            ("https://api.github.com", "https://github.com", True),
            ("https://ghe.example/api/v3", "https://ghe.example", True),
            ("http://127.0.0.1:1", "", True),
            ("http://localhost:1", "", True),
            ("http://ghe.example/api/v3", "http://ghe.example", True),
            ("http://ghe.example/api/v3", "https://ghe.example", False),
            ("http://other.example/api/v3", "http://ghe.example", False),
            ("http://169.254.169.254/", "", False),
            ("ftp://ghe.example", "", False),
            ("https://user:secret@ghe.example", "", False),
            ("https://ghe.example/?x", "", False),
            ("https://", "", False),
            ("file:///etc/passwd", "", False),
        ],
    )
    def test_it_is_sent_only_to_the_runners_own_server(
        self, url: str, server: str, good: bool
    ) -> None:
        env = {
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": url,
            "GITHUB_SERVER_URL": server,
        }
        if good:
            assert open_github(env, token="ghs_x").api_url == url
        else:
            with pytest.raises(UsageError):
                open_github(env, token="ghs_x")

    @pytest.mark.parametrize("name", ["", "x", "a/b/c", "../..", "a/..", "a/b?c", "a/b\n", "-/x"])
    def test_a_repository_is_an_owner_and_a_name(self, name: str) -> None:
        with pytest.raises(UsageError):
            GitHubApi(name, token="ghs_x")

    def test_no_server_there_is_an_error_with_a_way_out(self, tmp_path: Path) -> None:
        retry = Retry(sleep=lambda seconds: None)
        api = GitHubApi(REPOSITORY, token="ghs_x", api_url="http://127.0.0.1:9", retry=retry)
        with pytest.raises(ForgeError, match="did not answer") as caught:
            GitHubForge(api).pull_request(1)
        assert caught.value.fix


class TestTheDocumentation:
    """docs/github.md says what is true."""

    def test_the_permission_of_each_request_is_the_one_that_a_refusal_names(self) -> None:
        told = {
            row[0].strip("`"): row[1].strip("`") for row in table("| Request | Permission | For |")
        }
        assert {name: told[name] for name in PERMISSIONS} == PERMISSIONS
        for name, permission in told.items():
            if "/git/" in name or name.endswith((" repository", " createCommitOnBranch")):
                reads = name.startswith("GET") or name.endswith(" repository")
                wanted = "contents: read" if reads else "contents: write"
                assert permission == wanted

    def test_no_other_request_is_made(self, running: OfflineGitHub, scene: Scene) -> None:
        told = {row[0].strip("`") for row in table("| Request | Permission | For |")}
        for action in ("comment", "rewrite", "deploy", "remove", "read", "list"):
            getattr(scene, action)()
        assert {one.operation for one in running.seen} <= told

    def test_what_it_costs(self, running: OfflineGitHub, scene: Scene) -> None:
        told = {row[0]: (int(row[1]), int(row[2])) for row in table("| What | Requests |")}

        def cost(action: Callable[[], object]) -> tuple[int, int]:
            running.seen.clear()
            action()
            reading = ("POST /graphql viewer", "POST /graphql repository")
            asked = [one for one in running.seen if one.operation not in reading]
            return len(running.seen), sum(one.method != "GET" for one in asked)

        number = scene.number
        assert told["the first comment of a pull request"] == cost(scene.comment)
        forge = scene.forge()

        def rewrite(text: str) -> Callable[[], object]:
            return lambda: forge.upsert_comment(number, text, run=RUN)

        assert told["rewriting it, in a run of its own"] == cost(rewrite("a"))
        assert told["rewriting it again in the same run"] == cost(rewrite("b"))
        assert told["a preview goes up and is there"] == cost(scene.deploy)
        sha = scene.github.emulator.push("main", {"new.txt": f"{number}"})
        scene.sha = sha
        assert told["the same when an earlier one is there"] == cost(scene.deploy)
        assert told["a preview goes down"] == cost(scene.remove)

        key = StateKey(app_path=f"app-{number}", stage="dev")
        api = GitHubApi(REPOSITORY, token=scene.token, api_url=running.url)
        store = GitStore(GitHubRepository(GitHubData(api)), clock=lambda: 0.0)
        store.write(key, StageState(), expected=ABSENT, message="x")
        api = GitHubApi(REPOSITORY, token=scene.token, api_url=running.url)
        store = GitStore(GitHubRepository(GitHubData(api)), clock=lambda: 0.0)
        assert told["reading a state, with its snapshot and its releases"] == cost(
            lambda: (store.read(key), store.snapshot(key), store.releases(key))
        )
        version = store.read(key).version
        assert told["recording a state that was read a moment ago"] == cost(
            lambda: store.write(key, marked_state("a"), expected=version, message="x")
        )


def table(begin: str) -> list[list[str]]:
    """The rows below the head that begins so."""
    text = (Path(__file__).parents[1] / "docs" / "github.md").read_text(encoding="utf-8")
    _, _, rest = text.partition(begin)
    rows = itertools.takewhile(lambda line: line.startswith("|"), rest.splitlines()[2:])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


class TestTheGateway:
    """The offline GitHub notices what GitHub's description forbids."""

    @pytest.mark.parametrize(
        ("method", "path", "document"),
        [
            ("POST", f"/repos/{REPOSITORY}/issues/1/comments", {"body": "x", "color": "red"}),
            ("POST", f"/repos/{REPOSITORY}/issues/1/comments", {}),
            ("POST", f"/repos/{REPOSITORY}/issues/1/comments", {"body": 3}),
            ("POST", f"/repos/{REPOSITORY}/deployments", {"ref": "main", "payload": 3}),
            ("GET", f"/repos/{REPOSITORY}/pulls?stat=open", None),
            ("GET", f"/repos/{REPOSITORY}/pulls?state=opened", None),
            ("GET", f"/repos/{REPOSITORY}/pulls/one", None),
            ("PATCH", f"/repos/{REPOSITORY}/git/ref/heads/main", {"sha": "1" * 40}),
            ("POST", "/graphql", {"query": "query { viewer { email } }"}),
        ],
    )
    def test_a_request_that_github_does_not_describe_is_counted_as_invalid(
        self, tried: OfflineGitHub, method: str, path: str, document: object
    ) -> None:
        connection = http.client.HTTPConnection(tried.url.removeprefix("http://"))
        token = tried.emulator.workflow_token()
        connection.request(
            method,
            path,
            body=None if document is None else json.dumps(document),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        # GraphQL says what is wrong in a good answer.
        assert "errors" in json.load(answer) if path == "/graphql" else answer.status >= 400
        connection.close()
        assert [one.side for one in tried.invalid] == ["request"]
        tried.invalid.clear()


@pytest.fixture(scope="class")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineGitHub]:
    """Another one: nothing invalid may reach the one of the other tests."""
    with offline_github(tmp_path_factory.mktemp("tried")) as github:
        yield github


@contextmanager
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server on another host; its address and the requests that arrive there."""
    arrived: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            arrived.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_PATCH = do_DELETE = do_PUT = do_GET

    server = HTTPServer(("127.0.0.2", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.2:{server.server_address[1]}/", arrived
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
