"""One contract for every forge: a folder, and each vendor's behind its own description."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci.context import RunOrder
from chalice_ci.errors import ExitCode, ForgeError, UsageError
from chalice_ci.forge.azure import AzureForge
from chalice_ci.forge.azure_api import AzureApi
from chalice_ci.forge.azure_files import AzureFiles
from chalice_ci.forge.bitbucket import BitbucketApi, BitbucketForge
from chalice_ci.forge.github import GitHubForge
from chalice_ci.forge.github_api import GitHubApi
from chalice_ci.forge.gitlab import GitLabFiles, GitLabForge
from chalice_ci.forge.gitlab_api import GitLabApi
from chalice_ci.forge.hidden_marker import hidden, shown
from chalice_ci.forge.local import ApprovalState, LocalForge
from chalice_ci.forge.port import (
    MAX_COMMENT,
    Author,
    Comment,
    CommentOutcome,
    DeploymentState,
    Forge,
    NotFound,
    NotPermitted,
    Past,
    RawComment,
    marked,
    read_marker,
)
from chalice_ci.forge.retry import Retry
from chalice_ci.report.comment import LIMIT
from offline_azure import server as azure_server
from offline_azure.server import Odd, OfflineAzure, offline_azure
from offline_bitbucket import server as bitbucket_server
from offline_bitbucket.server import OfflineBitbucket, offline_bitbucket
from offline_github.emulate import ADMIN, BOT, HUMAN, MALLORY, REPOSITORY
from offline_github.gateway import OfflineGitHub, offline_github, report
from offline_gitlab import server as gitlab_server
from offline_gitlab.server import OfflineGitLab, offline_gitlab
from support.reports import FULL

PAST = Past(run=RunOrder(id=2**63 - 1, attempt=99), commit="9f3c1ab", verdict="cancelled")
FIRST, SECOND, THIRD = (RunOrder(id=100 + n) for n in range(3))


class Place(Protocol):
    """A forge with what people do there, seen from outside the adapter."""

    def open(self) -> Forge:
        """The forge as a run sees it: a new object."""
        ...

    def pull_request(self) -> int: ...
    def push(self, number: int) -> str: ...
    def close(self, number: int, *, merged: bool) -> None: ...
    def label(self, number: int, *labels: str) -> None: ...
    def comment(self, number: int, body: str, *, ours: bool = False) -> int: ...
    def bodies(self, number: int) -> list[str]: ...
    def delete_comment(self, number: int, comment: int) -> None: ...
    def merged_as(self, number: int) -> str: ...
    def commit(self) -> str: ...


@dataclass(kw_only=True)
class Folder:
    root: Path
    commits: Iterator[int]

    def open(self) -> LocalForge:
        return LocalForge(self.root)

    def commit(self) -> str:
        return f"{next(self.commits):040x}"

    def pull_request(self) -> int:
        made = self.open().create_pull_request(
            head_ref="change", head_sha=self.commit(), base_sha=self.commit(), author=HUMAN
        )
        return made.number

    def push(self, number: int) -> str:
        sha = self.commit()
        self.open().update_pull_request(number, head_sha=sha)
        return sha

    def close(self, number: int, *, merged: bool) -> None:
        merge_sha = self.commit() if merged else None
        self.open().update_pull_request(number, is_open=False, merged=merged, merge_sha=merge_sha)

    def merged_as(self, number: int) -> str:
        file = self.root / "pull-requests" / f"{number}.json"
        return str(json.loads(file.read_text())["merge_sha"])

    def label(self, number: int, *labels: str) -> None:
        self.open().update_pull_request(number, labels=labels)

    def comment(self, number: int, body: str, *, ours: bool = False) -> int:
        if ours:
            return self.open().add_comment(number, body)
        return LocalForge(self.root, author=Author(id=77, login=HUMAN)).add_comment(number, body)

    def bodies(self, number: int) -> list[str]:
        return [comment.body for _, comment in self.open().comments(number)]

    def delete_comment(self, number: int, comment: int) -> None:
        file = self.root / "pull-requests" / f"{number}.json"
        document = json.loads(file.read_text())
        document["comments"] = [c for c in document["comments"] if c["id"] != comment]
        file.write_text(json.dumps(document))


@dataclass(kw_only=True)
class GitHubPlace:
    github: OfflineGitHub
    branches: Iterator[int]

    def open(self) -> GitHubForge:
        return forge_of(self.github)

    def commit(self) -> str:
        return self.github.emulator.push(f"b{next(self.branches)}", {"a.txt": "a"})

    def pull_request(self) -> int:
        branch = f"change-{next(self.branches)}"
        self.github.emulator.push(branch, {"a.txt": branch})
        return self.github.emulator.pull_request(branch)

    def push(self, number: int) -> str:
        pull = self.github.emulator.get(f"/repos/{REPOSITORY}/pulls/{number}")
        branch = pull["head"]["ref"]
        return self.github.emulator.push(branch, {"b.txt": f"b{next(self.branches)}"})

    def close(self, number: int, *, merged: bool) -> None:
        path = f"/repos/{REPOSITORY}/pulls/{number}"
        if merged:
            token = self.github.emulator.token_of(ADMIN)
            status, _ = self.github.emulator.ask("PUT", f"{path}/merge", {}, token=token)
            assert status == 200
        else:
            self.github.emulator.patch(path, {"state": "closed"})

    def merged_as(self, number: int) -> str:
        pull = self.github.emulator.get(f"/repos/{REPOSITORY}/pulls/{number}")
        return str(pull["merge_commit_sha"])

    def label(self, number: int, *labels: str) -> None:
        path = f"/repos/{REPOSITORY}/issues/{number}/labels"
        token = self.github.emulator.token_of(ADMIN)
        status, _ = self.github.emulator.ask("PUT", path, {"labels": list(labels)}, token=token)
        assert status == 200

    def comment(self, number: int, body: str, *, ours: bool = False) -> int:
        emulator = self.github.emulator
        token = next(iter(emulator.permissions)) if ours else emulator.token_of(HUMAN)
        made = emulator.post(
            f"/repos/{REPOSITORY}/issues/{number}/comments", {"body": body}, token=token
        )
        found: int = made["id"]
        return found

    def bodies(self, number: int) -> list[str]:
        emulator, found = self.github.emulator, []
        for page in itertools.count(1):
            path = f"/repos/{REPOSITORY}/issues/{number}/comments?per_page=100&page={page}"
            some = emulator.get(path)
            found += [comment["body"] for comment in some]
            if len(some) < 100:
                return found
        raise AssertionError

    def delete_comment(self, number: int, comment: int) -> None:
        token = self.github.emulator.token_of(ADMIN)
        self.github.emulator.ask(
            "DELETE", f"/repos/{REPOSITORY}/issues/comments/{comment}", token=token
        )


@dataclass(kw_only=True)
class GitLabPlace:
    gitlab: OfflineGitLab

    def open(self) -> GitLabForge:
        return GitLabForge(gitlab_api(self.gitlab))

    def commit(self) -> str:
        return self.gitlab.commit()

    def pull_request(self) -> int:
        return self.gitlab.merge_request()

    def push(self, number: int) -> str:
        sha = self.commit()
        self.gitlab.requests[number]["sha"] = sha
        return sha

    def close(self, number: int, *, merged: bool) -> None:
        self.gitlab.requests[number] |= (
            {"state": "merged", "merge_commit_sha": self.commit()}
            if merged
            else {"state": "closed"}
        )

    def merged_as(self, number: int) -> str:
        return str(self.gitlab.requests[number]["merge_commit_sha"])

    def label(self, number: int, *labels: str) -> None:
        self.gitlab.requests[number]["labels"] = list(labels)

    def comment(self, number: int, body: str, *, ours: bool = False) -> int:
        author = gitlab_server.BOT if ours else gitlab_server.HUMAN
        return self.gitlab.note(number, body, author=author)

    def bodies(self, number: int) -> list[str]:
        return [note["body"] for note in self.gitlab.notes[number]]

    def delete_comment(self, number: int, comment: int) -> None:
        notes = self.gitlab.notes[number]
        notes[:] = [note for note in notes if note["id"] != comment]


def gitlab_api(
    gitlab: OfflineGitLab, *, token: str = gitlab_server.TOKEN, job_token: str = "", **more: Any
) -> GitLabApi:
    """The API of the project, which never waits."""
    retry = Retry(sleep=more.pop("sleep", lambda seconds: None), jitter=lambda: 0.0)
    return GitLabApi(
        str(gitlab_server.PROJECT),
        name=gitlab_server.PATH,
        api_url=gitlab.api_url,
        token=token,
        job_token=job_token,
        retry=retry,
        **more,
    )


def forge_of(github: OfflineGitHub, *, token: str = "", **settings: object) -> GitHubForge:
    """The adapter with a workflow's token, which never waits."""
    return GitHubForge(api_of(github, token=token))


def api_of(github: OfflineGitHub, *, token: str = "") -> GitHubApi:
    tokens = [t for t, owner in github.emulator.tokens.items() if owner == BOT]
    token = token or (tokens[0] if tokens else github.emulator.workflow_token())
    retry = Retry(sleep=lambda seconds: None, jitter=lambda: 0.0)
    return GitHubApi(REPOSITORY, token=token, api_url=github.url, retry=retry)


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


@pytest.fixture(scope="module")
def gitlab() -> Iterator[OfflineGitLab]:
    with offline_gitlab() as running:
        yield running
        assert running.invalid == []


@dataclass(kw_only=True)
class BitbucketPlace:
    bitbucket: OfflineBitbucket

    def open(self) -> BitbucketForge:
        retry = Retry(sleep=lambda seconds: None, jitter=lambda: 0.0)
        token = bitbucket_server.TOKEN
        name = bitbucket_server.REPOSITORY
        api = BitbucketApi(name, token=token, api_url=self.bitbucket.url, retry=retry)
        return BitbucketForge(api)

    def commit(self) -> str:
        return self.bitbucket.commit()

    def pull_request(self) -> int:
        return self.bitbucket.pull_request()

    def push(self, number: int) -> str:
        sha = self.commit()
        self.bitbucket.pulls[number]["source"] = self.bitbucket.end(sha, "change")
        return sha

    def close(self, number: int, *, merged: bool) -> None:
        pull = self.bitbucket.pulls[number]
        pull["state"] = "MERGED" if merged else "DECLINED"
        if merged:
            pull["merge_commit"] = {"hash": self.commit()[:12]}

    def merged_as(self, number: int) -> str:
        short = self.bitbucket.pulls[number]["merge_commit"]["hash"]
        (whole,) = [one for one in self.bitbucket.commits if one.startswith(short)]
        return whole

    def label(self, number: int, *labels: str) -> None:
        words = "".join(f"[{label}] " for label in labels)
        self.bitbucket.pulls[number]["title"] = f"{words}Faster search"

    def comment(self, number: int, body: str, *, ours: bool = False) -> int:
        who = bitbucket_server.BOT if ours else HUMAN
        found: int = self.bitbucket.comment(number, hidden(body), who)["id"]
        return found

    def bodies(self, number: int) -> list[str]:
        listed = self.bitbucket.comments[number]
        return [shown(one["content"]["raw"]) for one in listed if not one["deleted"]]

    def delete_comment(self, number: int, comment: int) -> None:
        for one in self.bitbucket.comments[number]:
            one["deleted"] |= one["id"] == comment


@pytest.fixture(scope="module")
def bitbucket() -> Iterator[OfflineBitbucket]:
    with offline_bitbucket() as place:
        yield place
        assert place.invalid == []


@dataclass(kw_only=True)
class AzurePlace:
    azure: OfflineAzure

    def open(self, **more: str) -> AzureForge:
        return AzureForge(azure_api(self.azure, **more))

    def commit(self) -> str:
        return self.azure.commit()

    def pull_request(self) -> int:
        return self.azure.pull_request()

    def push(self, number: int) -> str:
        sha = self.commit()
        self.azure.pulls[number]["lastMergeSourceCommit"] = {"commitId": sha}
        return sha

    def close(self, number: int, *, merged: bool) -> None:
        pull = self.azure.pulls[number]
        pull["status"] = "completed" if merged else "abandoned"
        if merged:
            pull["lastMergeCommit"] = {"commitId": self.commit()}

    def merged_as(self, number: int) -> str:
        return str(self.azure.pulls[number]["lastMergeCommit"]["commitId"])

    def label(self, number: int, *labels: str) -> None:
        self.azure.label(number, *labels)

    def comment(self, number: int, body: str, *, ours: bool = False) -> int:
        who = azure_server.BOT if ours else HUMAN
        found: int = self.azure.thread(number, hidden(body), who)["id"]
        return found

    def bodies(self, number: int) -> list[str]:
        return [shown(text) for text in self.azure.told(number)]

    def delete_comment(self, number: int, comment: int) -> None:
        self.azure.delete(number, comment)


def azure_given(azure: OfflineAzure) -> dict[str, str]:
    """What a job knows of its repository."""
    return {
        "collection": azure.collection,
        "project": azure_server.PROJECT,
        "repository": azure_server.REPOSITORY,
        "name": azure_server.NAME,
        "token": azure_server.TOKEN,
    }


def azure_api(azure: OfflineAzure, **more: str) -> AzureApi:
    """The API of the repository, which never waits."""
    retry = Retry(sleep=lambda seconds: None, jitter=lambda: 0.0)
    return AzureApi(**{**azure_given(azure), **more}, retry=retry)


@pytest.fixture(scope="module")
def azure() -> Iterator[OfflineAzure]:
    with offline_azure() as place:
        yield place
        assert place.invalid == []


@pytest.fixture(params=["folder", "github", "gitlab", "bitbucket", "azure"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Folder(root=tmp_path / "forge", commits=itertools.count(1))
    if request.param == "bitbucket":
        if request.cls is TestDeployments:
            pytest.skip("Bitbucket's deployments are made by its steps: TestBitbucketAlone")
        return BitbucketPlace(bitbucket=request.getfixturevalue("bitbucket"))
    if request.param == "azure":
        if request.cls is TestDeployments:
            pytest.skip("Azure's deployments are made by its pipelines: TestAzureAlone")
        return AzurePlace(azure=request.getfixturevalue("azure"))
    if request.param == "gitlab":
        return GitLabPlace(gitlab=request.getfixturevalue("gitlab"))
    github: OfflineGitHub = request.getfixturevalue("running")
    if not github.emulator.permissions:
        github.emulator.workflow_token()
    number = len(github.seen)
    return GitHubPlace(github=github, branches=itertools.count(1000 * number))


class TestPullRequests:
    def test_a_pull_request_is_what_it_is_now(self, place: Place) -> None:
        number = place.pull_request()
        forge = place.open()
        before = forge.pull_request(number)
        assert (before.is_open, before.merged, before.from_fork) == (True, False, False)
        assert before.author == HUMAN
        assert before.labels == ()
        sha = place.push(number)
        place.label(number, "preview", "bug")
        now = forge.pull_request(number)
        assert now.head_sha == sha != before.head_sha
        assert set(now.labels) == {"preview", "bug"}
        # Bitbucket's labels are words of the title.
        assert now.title.endswith(before.title)
        assert now == replace(before, head_sha=sha, labels=now.labels, title=now.title)

    @pytest.mark.parametrize("merged", [True, False])
    def test_a_pull_request_that_ended_says_how(self, place: Place, merged: bool) -> None:
        number = place.pull_request()
        place.close(number, merged=merged)
        found = place.open().pull_request(number)
        assert (found.is_open, found.merged) == (False, merged)

    def test_the_one_that_was_merged_as_a_commit_is_found_with_its_labels(
        self, place: Place
    ) -> None:
        first, second, closed = (place.pull_request() for _ in range(3))
        place.label(second, "allow-delete:dev")
        for number in (first, second):
            place.close(number, merged=True)
        place.close(closed, merged=False)
        forge = place.open()
        found = forge.merged_as(place.merged_as(second))
        assert found is not None
        assert (found.number, found.labels) == (second, ("allow-delete:dev",))
        assert forge.merged_as("f" * 40) is None

    def test_the_one_that_was_merged_is_found_behind_those_that_were_updated_later(
        self, running: OfflineGitHub
    ) -> None:
        if not running.emulator.permissions:
            running.emulator.workflow_token()
        place = GitHubPlace(github=running, branches=itertools.count(500_000))
        numbers = [place.pull_request() for _ in range(4)]
        for number in numbers:
            place.close(number, merged=True)
        api = api_of(running)
        api._github.requester.per_page = 1
        before = api.requests
        found = GitHubForge(api).merged_as(place.merged_as(numbers[0]))
        assert found is not None
        assert found.number == numbers[0]
        assert api.requests - before >= 4

    def test_only_open_ones_are_listed(self, place: Place) -> None:
        first, second, third = (place.pull_request() for _ in range(3))
        place.close(second, merged=False)
        forge = place.open()
        numbers = [pull.number for pull in forge.open_pull_requests()]
        assert first in numbers
        assert third in numbers
        assert second not in numbers
        assert numbers == sorted(numbers)

    def test_one_that_is_not_there_is_not_found(self, place: Place) -> None:
        with pytest.raises(NotFound) as caught:
            place.open().pull_request(999_999)
        assert caught.value.exit_code is ExitCode.FORGE_FAILED


class TestTheOneComment:
    def test_the_first_run_makes_it_and_later_ones_rewrite_it(self, place: Place) -> None:
        number = place.pull_request()
        made = place.open().upsert_comment(number, "one", run=FIRST)
        assert made.outcome is CommentOutcome.CREATED
        again = place.open().upsert_comment(number, "two", run=SECOND)
        assert again.outcome is CommentOutcome.UPDATED
        assert again.comment.id == made.comment.id
        assert place.bodies(number) == [marked("two", key="chalice-ci", run=SECOND)]

    def test_the_same_text_of_the_same_run_is_not_written_again(self, place: Place) -> None:
        number = place.pull_request()
        place.open().upsert_comment(number, "one\n\ntwo  ", run=FIRST)
        again = place.open().upsert_comment(number, "one\n\ntwo  ", run=FIRST)
        assert again.outcome is CommentOutcome.UNCHANGED

    def test_a_stale_run_never_overwrites_a_newer_one(self, place: Place) -> None:
        number = place.pull_request()
        place.open().upsert_comment(number, "new", run=SECOND)
        for stale in (FIRST, replace(FIRST, attempt=9)):
            outcome = place.open().upsert_comment(number, "old", run=stale)
            assert outcome.outcome is CommentOutcome.STALE
            assert outcome.comment.body == "new"
        place.open().upsert_comment(number, "newer", run=replace(SECOND, attempt=2))
        assert place.bodies(number) == [
            marked("newer", key="chalice-ci", run=replace(SECOND, attempt=2))
        ]

    def test_somebody_elses_comment_with_our_marker_is_left_alone(self, place: Place) -> None:
        number = place.pull_request()
        forged = marked("forged", key="chalice-ci", run=THIRD)
        place.comment(number, forged)
        made = place.open().upsert_comment(number, "ours", run=FIRST)
        assert made.outcome is CommentOutcome.CREATED
        assert place.bodies(number) == [forged, marked("ours", key="chalice-ci", run=FIRST)]

    @pytest.mark.parametrize(
        "body",
        [
            "no marker",
            " <!-- chalice-ci {} -->\nnot at the beginning",
            "> <!-- chalice-ci {} -->\nquoted",
            "<!-- chalice-ci {} -->\n",
            '<!-- chalice-ci {"v":1,"key":"chalice-ci","run":"7","attempt":1} -->\n',
            '<!-- chalice-ci {"v":1,"key":"chalice-ci","run":-1,"attempt":1} -->\n',
            '<!-- chalice-ci {"v":1,"key":"chalice-ci","run":true,"attempt":1} -->\n',
            '<!-- chalice-ci {"v":1,"key":"other","run":7,"attempt":1} -->\n',
            "<!-- chalice-ci [] -->\n",
            "<!-- chalice-ci {nonsense} -->\n",
            "<!-- chalice-ci " + '{"a":' * 50 + "1" + "}" * 50 + " -->\n",
        ],
    )
    def test_a_comment_of_our_account_without_our_marker_is_left_alone(
        self, place: Place, body: str
    ) -> None:
        number = place.pull_request()
        place.comment(number, body, ours=True)
        place.open().upsert_comment(number, "ours", run=FIRST)
        assert place.bodies(number) == [body, marked("ours", key="chalice-ci", run=FIRST)]

    def test_each_key_has_a_comment_of_its_own(self, place: Place) -> None:
        number = place.pull_request()
        for key in ("orders", "billing--x", "orders"):
            place.open().upsert_comment(number, key, run=FIRST, key=key)
        assert place.bodies(number) == [
            marked(key, key=key, run=FIRST) for key in ("orders", "billing--x")
        ]
        found = place.open().sticky_comment(number, key="billing--x")
        assert found
        assert (found.body, found.run) == ("billing--x", FIRST)
        assert place.open().sticky_comment(number, key="none") is None

    def test_it_is_found_behind_many_others(self, place: Place) -> None:
        number = place.pull_request()
        for _ in range(101):
            place.comment(number, "chatter")
        made = place.open().upsert_comment(number, "one", run=FIRST)
        again = place.open().upsert_comment(number, "two", run=SECOND)
        assert again.comment.id == made.comment.id
        assert len(place.bodies(number)) == 102

    def test_of_doubles_the_oldest_stays_with_the_newest_text(self, place: Place) -> None:
        number = place.pull_request()
        first = place.comment(number, marked("a", key="chalice-ci", run=FIRST), ours=True)
        place.comment(number, marked("b", key="chalice-ci", run=SECOND), ours=True)
        place.comment(number, "chatter")
        done = place.open().upsert_comment(number, "c", run=THIRD)
        assert done.comment.id == first
        assert place.bodies(number) == [marked("c", key="chalice-ci", run=THIRD), "chatter"]

    def test_a_stale_run_clears_only_what_nobody_needs(self, place: Place) -> None:
        number = place.pull_request()
        place.comment(number, marked("a", key="chalice-ci", run=FIRST), ours=True)
        place.comment(number, marked("b", key="chalice-ci", run=FIRST), ours=True)
        newest = place.comment(number, marked("c", key="chalice-ci", run=THIRD), ours=True)
        done = place.open().upsert_comment(number, "x", run=SECOND)
        assert (done.outcome, done.comment.id) == (CommentOutcome.STALE, newest)
        assert place.bodies(number) == [
            marked("a", key="chalice-ci", run=FIRST),
            marked("c", key="chalice-ci", run=THIRD),
        ]

    def test_one_that_was_deleted_is_made_again(self, place: Place) -> None:
        number = place.pull_request()
        made = place.open().upsert_comment(number, "one", run=FIRST)
        place.delete_comment(number, made.comment.id)
        again = place.open().upsert_comment(number, "two", run=FIRST)
        assert again.outcome is CommentOutcome.CREATED
        assert len(place.bodies(number)) == 1

    def test_of_first_runs_at_once_one_comment_is_left(self, place: Place) -> None:
        number = place.pull_request()
        runs = [RunOrder(id=200 + n) for n in range(6)]
        begin = threading.Barrier(len(runs))

        def comment(run: RunOrder) -> None:
            forge = place.open()
            forge.whoami()
            begin.wait()
            forge.upsert_comment(number, f"run {run.id}", run=run)

        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(comment, runs))
        (left,) = place.bodies(number)
        assert left in {marked(f"run {run.id}", key="chalice-ci", run=run) for run in runs}
        place.open().upsert_comment(number, "the end", run=runs[-1])
        assert place.bodies(number) == [marked("the end", key="chalice-ci", run=runs[-1])]

    def test_the_longest_text_fits_and_a_longer_one_is_refused(self, place: Place) -> None:
        number = place.pull_request()
        room = place.open().largest_comment - len(marked("", key="chalice-ci", run=FIRST))
        forge = place.open()
        assert forge.upsert_comment(number, "é" * room, run=FIRST).comment.body == "é" * room
        with pytest.raises(ForgeError, match=f"{place.open().largest_comment:,}"):
            forge.upsert_comment(number, "é" * (room + 1), run=FIRST)

    @pytest.mark.parametrize("key", ["", "a b", "--> x", "é", "a\nb", "x" * 200])
    def test_a_key_that_cannot_mark_a_comment_is_refused(self, place: Place, key: str) -> None:
        with pytest.raises(ForgeError):
            place.open().upsert_comment(1, "text", run=FIRST, key=key)

    def test_a_pull_request_that_is_not_there_has_no_comments(self, place: Place) -> None:
        with pytest.raises(NotFound):
            place.open().upsert_comment(999_999, "text", run=FIRST)


class TestDeployments:
    def test_a_preview_goes_up_answers_and_goes_down(self, place: Place) -> None:
        forge, sha = place.open(), place.commit()
        started = forge.start_deployment(environment="pr-1", sha=sha, run=FIRST)
        assert not started.state.finished
        assert forge.deployments("pr-1") == (started,)
        ended = forge.finish_deployment(
            started, DeploymentState.SUCCESS, url="https://preview.example/api"
        )
        assert ended == replace(
            started, state=DeploymentState.SUCCESS, url="https://preview.example/api"
        )
        assert forge.deployments("pr-1") == (ended,)
        assert forge.remove_environment("pr-1").deployments == 1
        assert forge.deployments("pr-1") == ()
        assert forge.remove_environment("pr-1").deployments == 0

    def test_the_same_run_has_one_deployment_of_a_commit(self, place: Place) -> None:
        sha = place.commit()
        first = place.open().start_deployment(environment="pr-2", sha=sha, run=FIRST)
        again = place.open().start_deployment(environment="pr-2", sha=sha, run=FIRST)
        assert again.id == first.id
        other = place.open().start_deployment(
            environment="pr-2", sha=sha, run=replace(FIRST, attempt=2)
        )
        assert other.id != first.id

    def test_a_success_takes_earlier_transient_ones_away(self, place: Place) -> None:
        forge = place.open()
        for run in (FIRST, SECOND, THIRD):
            started = forge.start_deployment(environment="pr-3", sha=place.commit(), run=run)
            forge.finish_deployment(started, DeploymentState.SUCCESS, url="https://a.example/")
        (left,) = forge.deployments("pr-3")
        assert left.run == THIRD

    def test_a_failure_leaves_the_working_one_in_place(self, place: Place) -> None:
        forge = place.open()
        good = forge.start_deployment(environment="pr-4", sha=place.commit(), run=FIRST)
        good = forge.finish_deployment(good, DeploymentState.SUCCESS, url="https://a.example/")
        bad = forge.start_deployment(environment="pr-4", sha=place.commit(), run=SECOND)
        bad = forge.finish_deployment(bad, DeploymentState.FAILURE, description="x" * 500)
        assert forge.deployments("pr-4") == (bad, good)

    def test_environments_do_not_disturb_each_other(self, place: Place) -> None:
        forge, sha = place.open(), place.commit()
        for environment in ("pr-5", "pr-55", "a/b c"):
            forge.start_deployment(environment=environment, sha=sha, run=FIRST)
        forge.remove_environment("pr-5")
        assert forge.deployments("pr-5") == ()
        assert [len(forge.deployments(e)) for e in ("pr-55", "a/b c")] == [1, 1]
        for environment in ("pr-55", "a/b c"):
            assert forge.remove_environment(environment).deployments == 1

    def test_what_lasts_is_not_taken_away_by_a_success(self, place: Place) -> None:
        forge = place.open()
        for run in (FIRST, SECOND):
            started = forge.start_deployment(
                environment="dev", sha=place.commit(), run=run, transient=False
            )
            forge.finish_deployment(started, DeploymentState.SUCCESS)
        assert len(forge.deployments("dev")) == 2

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../x", "a/../b", "/x", "a\0b", "a\n", "é", "x" * 300, "a?b", "%2e"]
    )
    def test_a_name_that_could_lead_elsewhere_is_refused(self, place: Place, name: str) -> None:
        # PyGithub and requests make `DELETE .../environments/..` a DELETE of the repository.
        forge = place.open()
        with pytest.raises(ForgeError):
            forge.remove_environment(name)
        with pytest.raises(ForgeError):
            forge.start_deployment(environment=name, sha="1" * 40, run=FIRST)
        with pytest.raises(ForgeError):
            forge.deployments(name)

    def test_a_deployment_that_is_gone_is_not_found(self, place: Place) -> None:
        forge = place.open()
        started = forge.start_deployment(environment="pr-6", sha=place.commit(), run=FIRST)
        forge.remove_environment("pr-6")
        with pytest.raises(NotFound):
            forge.finish_deployment(started, DeploymentState.SUCCESS)


class TestTheMarker:
    @given(text=st.text(max_size=200))
    def test_no_text_is_too_strange_to_be_looked_at(self, text: str) -> None:
        for body in (text, f"<!-- chalice-ci {text} -->\n", f"<!-- chalice-ci {{{text}}} -->"):
            found = read_marker(RawComment(id=1, url="", body=body))
            assert found is None or (found.run.id >= 0 and isinstance(found.key, str))

    @given(
        body=st.text(max_size=200),
        key=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,40}", fullmatch=True),
        run=st.builds(RunOrder, id=st.integers(0, 2**63 - 1), attempt=st.integers(0, 2**63 - 1)),
    )
    def test_what_was_marked_is_read_again(self, body: str, key: str, run: RunOrder) -> None:
        for history in ((), (PAST,), (PAST,) * 5):
            text = marked(body, key=key, run=run, history=history)
            found = read_marker(RawComment(id=1, url="u", body=text))
            assert found == Comment(id=1, url="u", key=key, run=run, body=body, history=history)
        assert len(text) - len(body) <= MAX_COMMENT - LIMIT
        comment, _, _ = text.removeprefix("<!--").partition("-->")
        assert "--" not in comment

    @pytest.mark.parametrize(
        "row",
        [
            *(
                None,
                7,
                "x",
                [],
                [1, 1, "9f3c1ab"],
                [1, 1, "9f3c1ab", "ok", 1],
                [-1, 1, "9f3c1ab", "ok"],
            ),
            *([True, 1, "9f3c1ab", "ok"], [1, 1, "<b>", "ok"], [1, 1, "9f3c1ab", "<script>"]),
        ],
    )
    def test_a_forged_history_is_left_out(self, row: object) -> None:
        fields = {"v": 1, "key": "chalice-ci", "run": 7, "attempt": 1}
        for past in (row, [row], [row, [1, 1, "9f3c1ab", "ok"]]):
            text = f"<!-- chalice-ci {json.dumps({**fields, 'past': past})} -->\nbody"
            found = read_marker(RawComment(id=1, url="", body=text))
            assert found is not None
            assert {one.commit for one in found.history} <= {"9f3c1ab"}
            assert {one.verdict for one in found.history} <= {"ok"}


class TestGitHubAlone:
    def test_everything_was_a_request_that_github_describes(self, running: OfflineGitHub) -> None:
        assert running.invalid == []

    def test_a_workflows_token_is_known_by_the_accounts_id(self, running: OfflineGitHub) -> None:
        forge = forge_of(running)
        assert forge.whoami() == Author(id=running.emulator.user(BOT)["id"], login=BOT)
        before = len(running.seen)
        forge.whoami()
        assert len(running.seen) == before

    def test_a_persons_token_is_that_person(self, running: OfflineGitHub) -> None:
        forge = forge_of(running, token=running.emulator.token_of(HUMAN))
        assert forge.whoami().login == HUMAN

    def test_an_update_of_the_comment_costs_two_requests_and_who_we_are(
        self, running: OfflineGitHub
    ) -> None:
        place = GitHubPlace(github=running, branches=itertools.count(9_000_000))
        number = place.pull_request()
        forge = place.open()
        forge.upsert_comment(number, "one", run=FIRST)
        running.seen.clear()
        forge.upsert_comment(number, "two", run=SECOND)
        comments = "/repos/{owner}/{repo}/issues"
        assert list(running.counted()) == [
            f"GET {comments}/{{issue_number}}/comments",
            f"PATCH {comments}/comments/{{comment_id}}",
        ]
        assert forge.requests == 1 + 3 + 2

    def test_a_fork_is_told_by_its_repository(self, running: OfflineGitHub) -> None:
        emulator = running.emulator
        emulator.push("theirs", {"a.txt": "x"}, repository=emulator.fork(), by=MALLORY)
        number = emulator.pull_request(f"{MALLORY}:theirs", by=ADMIN)
        found = forge_of(running).pull_request(number)
        assert found.from_fork
        assert found.head_repository == f"{MALLORY}/orders"

    def test_others_deployments_are_left_alone(self, running: OfflineGitHub) -> None:
        place = GitHubPlace(github=running, branches=itertools.count(8_000_000))
        forge, sha = place.open(), place.commit()
        for payload in ({}, "a string", {"chalice-ci": "x"}, {"chalice-ci": {"run": "1"}}):
            document = {
                "ref": sha,
                "auto_merge": False,
                "required_contexts": [],
                "environment": "pr-9",
                "payload": payload,
            }
            running.deployments.answer(
                "POST",
                f"/repos/{REPOSITORY}/deployments",
                {},
                document,
                login=HUMAN,
                may=lambda what, access: True,
            )
        forge.start_deployment(environment="pr-9", sha=sha, run=FIRST)
        assert len(forge.deployments("pr-9")) == 1
        removed = forge.remove_environment("pr-9")
        assert removed.deployments == 1
        assert not removed.environment
        assert len(running.deployments.of(REPOSITORY, "pr-9")) == 4

    def test_an_administrators_token_deletes_the_environment_too(
        self, running: OfflineGitHub
    ) -> None:
        place = GitHubPlace(github=running, branches=itertools.count(7_000_000))
        forge = forge_of(running, token=running.emulator.token_of(ADMIN))
        forge.start_deployment(environment="pr-10", sha=place.commit(), run=FIRST)
        assert "pr-10" in running.deployments.environments(REPOSITORY)
        assert forge.remove_environment("pr-10").environment
        assert "pr-10" not in running.deployments.environments(REPOSITORY)
        assert forge.remove_environment("pr-10").environment

    def test_an_enterprise_server_is_reached_by_its_own_address(
        self, running: OfflineGitHub
    ) -> None:
        place = GitHubPlace(github=running, branches=itertools.count(6_000_000))
        number = place.pull_request()
        for _ in range(101):
            place.comment(number, "chatter")
        token = next(iter(running.emulator.permissions))
        retry = Retry(sleep=lambda seconds: None)
        api = GitHubApi(REPOSITORY, token=token, api_url=f"{running.url}/api/v3", retry=retry)
        forge = GitHubForge(api)
        forge.upsert_comment(number, "one", run=FIRST)
        assert forge.upsert_comment(number, "two", run=SECOND).outcome is CommentOutcome.UPDATED


class TestGitLabAlone:
    def test_a_project_token_is_known_by_the_bots_id(self, gitlab: OfflineGitLab) -> None:
        me = GitLabForge(gitlab_api(gitlab)).whoami()
        assert (me.id, me.login) == (gitlab_server.BOT["id"], gitlab_server.BOT["username"])

    def test_an_update_of_the_note_costs_two_requests(self, gitlab: OfflineGitLab) -> None:
        number = gitlab.merge_request()
        forge = GitLabForge(gitlab_api(gitlab))
        forge.upsert_comment(number, "one", run=FIRST)
        gitlab.seen.clear()
        made = forge.upsert_comment(number, "two", run=SECOND)
        notes = "/projects/:id/merge_requests/:iid/notes"
        assert gitlab.seen == [f"GET {notes}", f"PUT {notes}/:note_id"]
        page = f"{gitlab.url}/shop/orders/-/merge_requests/{number}#note_{made.comment.id}"
        assert made.comment.url == page

    def test_the_jobs_own_token_reads_and_deploys_but_writes_no_note(
        self, gitlab: OfflineGitLab
    ) -> None:
        number = gitlab.merge_request()
        api = gitlab_api(gitlab, token="", job_token=gitlab_server.JOB_TOKEN)
        forge = GitLabForge(api)
        assert forge.pull_request(number).is_open
        assert forge.whoami().login == gitlab_server.HUMAN["username"]
        started = forge.start_deployment(environment="pr-70", sha=gitlab.commit(), run=FIRST)
        assert forge.deployments("pr-70") == (started,)
        with pytest.raises(NotPermitted) as caught:
            forge.upsert_comment(number, "text", run=FIRST)
        assert "GITLAB_TOKEN" in caught.value.fix
        assert "project access token" in caught.value.fix
        assert gitlab_server.JOB_TOKEN not in str(caught.value)
        assert gitlab.notes[number] == []

    @pytest.mark.parametrize(
        "text", ["/close", "fine\n/merge\nmore", "a\r\n/label ~x\r\n", "/approve now"]
    )
    def test_no_text_of_ours_is_carried_out_as_a_quick_action(
        self, gitlab: OfflineGitLab, text: str
    ) -> None:
        number = gitlab.merge_request()
        forge = GitLabForge(gitlab_api(gitlab))
        for run in (FIRST, SECOND):
            forge.upsert_comment(number, text, run=run)
        assert gitlab.actions == []
        assert gitlab.requests[number]["state"] == "opened"
        again = forge.upsert_comment(number, text, run=SECOND)
        assert again.outcome is CommentOutcome.UNCHANGED
        (note,) = gitlab.notes[number]
        assert text.rsplit(maxsplit=1)[-1].removeprefix("/") in note["body"]

    def test_the_rate_limit_is_waited_for_as_long_as_it_says(self, gitlab: OfflineGitLab) -> None:
        number, waits = gitlab.merge_request(), []
        answers = iter([(429, {"Retry-After": "7"}), (429, {}), None])
        gitlab.fault = lambda method, path: next(answers, None)
        try:
            found = GitLabForge(gitlab_api(gitlab, sleep=waits.append)).pull_request(number)
        finally:
            gitlab.fault = lambda method, path: None
        assert found.number == number
        assert waits == [7.0, 60.0]

    def test_a_limit_that_lasts_too_long_is_told(self, gitlab: OfflineGitLab) -> None:
        gitlab.fault = lambda method, path: (429, {"Retry-After": "3600"})
        try:
            with pytest.raises(ForgeError, match=r"rate limit.*3600 s"):
                GitLabForge(gitlab_api(gitlab)).open_pull_requests()
        finally:
            gitlab.fault = lambda method, path: None

    def test_a_note_whose_answer_was_lost_is_not_written_twice(self, gitlab: OfflineGitLab) -> None:
        number = gitlab.merge_request()
        lost = iter([True])
        gitlab.lose = lambda method, path: method == "POST" and next(lost, False)
        try:
            made = GitLabForge(gitlab_api(gitlab)).upsert_comment(number, "one", run=FIRST)
        finally:
            gitlab.lose = lambda method, path: False
        assert made.outcome is CommentOutcome.CREATED
        assert len(gitlab.notes[number]) == 1

    def test_a_deployment_whose_answer_was_lost_is_not_made_twice(
        self, gitlab: OfflineGitLab
    ) -> None:
        lost = iter([True])
        gitlab.lose = lambda method, path: method == "POST" and next(lost, False)
        forge = GitLabForge(gitlab_api(gitlab))
        try:
            made = forge.start_deployment(environment="pr-71", sha=gitlab.commit(), run=FIRST)
        finally:
            gitlab.lose = lambda method, path: False
        assert forge.deployments("pr-71") == (made,)
        assert sum(d["sha"] == made.sha for d in gitlab.deployments.values()) == 1

    @pytest.mark.parametrize("status", [500, 502, 503])
    def test_a_servers_error_is_told_after_a_few_attempts(
        self, gitlab: OfflineGitLab, status: int
    ) -> None:
        asked: list[str] = []

        def fault(method: str, path: str) -> tuple[int, dict[str, str]]:
            asked.append(path)
            return status, {}

        gitlab.fault = fault
        try:
            with pytest.raises(ForgeError, match=str(status)):
                GitLabForge(gitlab_api(gitlab)).pull_request(1)
        finally:
            gitlab.fault = lambda method, path: None
        assert len(asked) == 5

    def test_a_redirect_is_not_followed_with_the_token(self, gitlab: OfflineGitLab) -> None:
        gitlab.fault = lambda method, path: (302, {"Location": "http://127.0.0.1:9/elsewhere"})
        try:
            with pytest.raises(ForgeError, match="leads to another place"):
                GitLabForge(gitlab_api(gitlab)).pull_request(1)
        finally:
            gitlab.fault = lambda method, path: None

    def test_a_wrong_token_is_told_without_it(self, gitlab: OfflineGitLab) -> None:
        with pytest.raises(NotPermitted) as caught:
            GitLabForge(gitlab_api(gitlab, token="glpat-wrong")).pull_request(1)
        assert "glpat-wrong" not in str(caught.value)
        assert "scope `api`" in caught.value.fix

    @pytest.mark.parametrize(
        "url", ["", "ftp://x/api/v4", "https://u:p@x/api/v4", "https://x/", "https:///api/v4"]
    )
    def test_a_token_goes_to_no_odd_address(self, url: str) -> None:
        with pytest.raises(UsageError) as caught:
            GitLabApi("7", api_url=url, token="t")
        assert caught.value.where == "CI_API_V4_URL"

    def test_a_fork_is_told_by_its_project(self, gitlab: OfflineGitLab) -> None:
        found = GitLabForge(gitlab_api(gitlab)).pull_request(gitlab.merge_request(fork=True))
        assert (found.from_fork, found.head_repository) == (True, "mallory/orders")

    def test_who_approved_a_pipelines_deployments_is_told_by_environment(
        self, gitlab: OfflineGitLab
    ) -> None:
        sha = gitlab.commit()
        asked = {"environment": "production", "sha": sha, "ref": sha, "tag": False}
        for pipeline, status in ((900, "approved"), (900, "rejected"), (901, "approved")):
            made = gitlab._deploy({**asked, "status": "success"}, gitlab_server.HUMAN)
            gitlab.deployments[made["id"]] |= {
                "deployable": {"id": 1, "pipeline": {"id": pipeline}},
                "approvals": [{"user": gitlab_server.HUMAN, "status": status}],
            }
        forge = GitLabForge(gitlab_api(gitlab))
        assert forge.approvers(900) == (("production", gitlab_server.HUMAN["username"]),)
        assert forge.approvers(902) == ()

    def test_an_environment_with_the_jobs_own_deployments_is_only_stopped(
        self, gitlab: OfflineGitLab
    ) -> None:
        forge, sha = GitLabForge(gitlab_api(gitlab)), gitlab.commit()
        forge.start_deployment(environment="pr-72", sha=sha, run=FIRST)
        by_job = {"environment": "pr-72", "sha": sha, "ref": sha, "tag": False}
        gitlab._deploy({**by_job, "status": "success"}, gitlab_server.HUMAN)
        removed = forge.remove_environment("pr-72")
        assert (removed.deployments, removed.environment) == (1, False)
        (environment,) = (e for e in gitlab.environments.values() if e["name"] == "pr-72")
        assert environment["state"] == "stopped"

    @pytest.mark.parametrize(
        "text",
        [
            "<!-- chalice-ci [] -->",
            "<!-- chalice-ci {} -->",
            '<!-- chalice-ci {"deployments":[1]} -->',
            '<!-- chalice-ci {"deployments":{"x":[1,1,1,""]}} -->',
            '<!-- chalice-ci {"deployments":{"1":[true,1,1,""]}} -->',
            '<!-- chalice-ci {"deployments":{"1":[1]}} -->',
        ],
    )
    def test_a_description_that_somebody_broke_is_written_anew_beside_their_words(
        self, gitlab: OfflineGitLab, text: str
    ) -> None:
        forge, name = GitLabForge(gitlab_api(gitlab)), f"pr-8{len(gitlab.environments)}"
        first = forge.start_deployment(environment=name, sha=gitlab.commit(), run=FIRST)
        (environment,) = (e for e in gitlab.environments.values() if e["name"] == name)
        environment["description"] = f"Ours. {text}"
        assert forge.deployments(name) == ()
        second = forge.start_deployment(environment=name, sha=gitlab.commit(), run=SECOND)
        assert forge.deployments(name) == (second,)
        assert environment["description"].startswith("Ours.")
        assert first.id != second.id


class TestGitLabFiles:
    def test_a_file_is_the_branchs_else_the_commits(self, gitlab: OfflineGitLab) -> None:
        kept = {("a/b.yml", "main"): b"one", ("a/b.yml", "c" * 40): b"two"}
        gitlab.read_file = lambda path, ref: kept.get((path, ref))
        gitlab.has_commit = lambda ref: ref in ("main", "c" * 40)
        files = GitLabFiles(gitlab_api(gitlab, token="", job_token=gitlab_server.JOB_TOKEN))
        try:
            assert files.file("a/b.yml", branch="main", commit="") == "one"
            assert files.file("a/b.yml", branch="gone", commit="c" * 40) == "two"
            assert files.file("none.yml", branch="main", commit="") is None
            with pytest.raises(NotFound):
                files.file("a/b.yml", branch="gone", commit="")
        finally:
            gitlab.read_file = lambda path, ref: None
            gitlab.has_commit = lambda ref: False


class TestBitbucketAlone:
    def test_the_marker_is_nothing_that_bitbucket_shows(self, bitbucket: OfflineBitbucket) -> None:
        place = BitbucketPlace(bitbucket=bitbucket)
        number = place.pull_request()
        html = "### Title\n<details><summary>More</summary>\n\nx<br>y\n</details>"
        place.open().upsert_comment(number, html, run=FIRST, history=(PAST,))
        (comment,) = bitbucket.comments[number]
        first, blank, *rest = comment["content"]["raw"].split("\n")
        assert re.fullmatch(r"\[chalice-ci\]: # \(\{.*\}\)", first)
        assert (blank, "<" in "\n".join(rest), rest[0]) == ("", False, "### Title")
        again = place.open().upsert_comment(number, html, run=FIRST, history=(PAST,))
        assert again.outcome is CommentOutcome.UNCHANGED
        assert again.comment.history == (PAST,)

    def test_a_netrc_for_the_same_host_does_not_count(
        self, bitbucket: OfflineBitbucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login other password other\n", encoding="utf-8")
        monkeypatch.setenv("NETRC", str(netrc))
        place = BitbucketPlace(bitbucket=bitbucket)
        assert place.open().pull_request(place.pull_request()).is_open

    def test_a_preview_is_a_build_status_of_its_commit(self, bitbucket: OfflineBitbucket) -> None:
        place = BitbucketPlace(bitbucket=bitbucket)
        forge, sha = place.open(), place.commit()
        started = forge.start_deployment(environment="pr-3", sha=sha, run=FIRST)
        url = "https://preview.example.com/"
        ended = forge.finish_deployment(started, DeploymentState.SUCCESS, url=url)
        assert (ended.state, ended.url) == (DeploymentState.SUCCESS, url)
        begun, done = [one for one in bitbucket.statuses if one["commit"] == sha]
        assert (begun["state"], done["state"], done["url"]) == ("INPROGRESS", "SUCCESSFUL", url)
        # Of one key: the second takes the place of the first.
        assert begun["key"] == done["key"]

    def test_findings_are_shown_at_their_lines_and_replace_older_ones(
        self, bitbucket: OfflineBitbucket
    ) -> None:
        place = BitbucketPlace(bitbucket=bitbucket)
        forge, sha = place.open(), place.commit()
        forge.show_findings(sha, FULL, link="https://bitbucket.org/octo/orders/pipelines/1")
        forge.show_findings(sha, FULL)
        assert bitbucket.reports[sha]["result"] == "FAILED"
        shown = {(a.get("path"), a.get("line")) for a in bitbucket.annotations[sha]}
        assert len(bitbucket.annotations[sha]) == len(FULL.all_findings)
        assert ("services/orders/app.py", 31) in shown

    def test_a_missing_scope_is_named(self, bitbucket: OfflineBitbucket) -> None:
        place = BitbucketPlace(bitbucket=bitbucket)
        bitbucket.scopes = ("pullrequest:write",)
        try:
            with pytest.raises(NotPermitted, match="account") as caught:
                place.open().whoami()
        finally:
            bitbucket.scopes = bitbucket_server.SCOPES
        assert caught.value.permission == "account"
        assert bitbucket_server.TOKEN not in str(caught.value)

    @pytest.mark.parametrize(
        ("status", "after", "least", "most"),
        [
            *[(500, 1, 5, 5), (429, 0, 6, 60), (429, 20, 6, 8), (429, 900, 1, 1)],
            *[(400, 1, 1, 1), (302, 1, 1, 1)],
        ],
    )
    def test_what_may_pass_is_tried_again_and_nothing_else(
        self, bitbucket: OfflineBitbucket, status: int, after: int, least: int, most: int
    ) -> None:
        """What is refused for a while: as long as the waits together allow."""
        place = BitbucketPlace(bitbucket=bitbucket)
        number, before = place.pull_request(), len(bitbucket.seen)
        away = {"Retry-After": str(after), "Location": "https://elsewhere.example.com/"}
        bitbucket.before = lambda name: (status, away)
        try:
            with pytest.raises(ForgeError):
                place.open().pull_request(number)
        finally:
            bitbucket.before = None
        assert least <= len(bitbucket.seen) - before <= most

    def test_a_comment_whose_answer_was_lost_is_not_written_twice(
        self, bitbucket: OfflineBitbucket
    ) -> None:
        place = BitbucketPlace(bitbucket=bitbucket)
        number = place.pull_request()
        bitbucket.lose = "comment"
        place.open().upsert_comment(number, "one", run=FIRST)
        assert len(place.bodies(number)) == 1

    def test_a_fork_is_told_by_its_repository_also_when_it_is_gone(
        self, bitbucket: OfflineBitbucket
    ) -> None:
        forge = BitbucketPlace(bitbucket=bitbucket).open()
        other = forge.pull_request(bitbucket.pull_request(repository="mallory/orders"))
        assert (other.from_fork, other.head_repository) == (True, "mallory/orders")
        gone = forge.pull_request(bitbucket.pull_request(repository=None))
        assert (gone.from_fork, gone.head_repository) == (True, None)

    @pytest.mark.parametrize("url", ["http://example.com/2.0", "ftp://example.com"])
    def test_the_token_goes_to_no_odd_address(self, url: str) -> None:
        with pytest.raises(UsageError):
            BitbucketApi("octo/orders", token="t", api_url=url)

    def test_what_a_branch_changed_since_is_compared_with_the_projects_token(
        self, gitlab: OfflineGitLab
    ) -> None:
        gitlab.has_commit = lambda ref: ref in ("main", "c" * 40)
        gitlab.changed = lambda old, new: [f"{new}-of-{old[:3]}", "app.py"]
        files = GitLabFiles(gitlab_api(gitlab))
        try:
            assert files.changed_since("main", "c" * 40) == ("main-of-ccc", "app.py")
            assert files.changed_since("gone", "c" * 40) is None
            of_job = GitLabFiles(gitlab_api(gitlab, token="", job_token=gitlab_server.JOB_TOKEN))
            with pytest.raises(NotPermitted):
                of_job.changed_since("main", "c" * 40)
        finally:
            gitlab.has_commit = lambda ref: False
            gitlab.changed = lambda old, new: []


class TestAzureAlone:
    def test_the_marker_and_what_folds_are_what_azure_shows(self, azure: OfflineAzure) -> None:
        place = AzurePlace(azure=azure)
        number = place.pull_request()
        text = (
            "### Title\n> [!WARNING]\n> a\n\n| a<br>b |\n<sub>c <span>$</span>5</sub>\n"
            "<details><summary>More <span>$</span></summary>\n\nx\n\n</details>"
        )
        place.open().upsert_comment(number, text, run=FIRST, history=(PAST,))
        (told,) = azure.told(number)
        first, blank, *rest = told.split("\n")
        assert re.fullmatch(r"\[chalice-ci\]: # \(\{.*\}\)", first)
        assert blank == ""
        assert rest == [
            *("### Title", "> **Warning**", "> a", "", "| a · b |", r"c \$5"),
            *("<details><summary>More $</summary>", "", "x", "", "</details>"),
        ]
        again = place.open().upsert_comment(number, text, run=FIRST, history=(PAST,))
        assert again.outcome is CommentOutcome.UNCHANGED
        assert again.comment.history == (PAST,)

    def test_it_keeps_no_pull_request_from_being_completed_and_leads_to_its_page(
        self, azure: OfflineAzure
    ) -> None:
        """A thread that is active does, where a policy checks for comment resolution."""
        place = AzurePlace(azure=azure)
        number = place.pull_request()
        made = place.open().upsert_comment(number, "one", run=FIRST)
        (thread,) = [one for one in azure.threads[number] if one["id"] == made.comment.id]
        assert thread["status"] == "unknown"
        page = f"{azure.url}/octo/Back%20end/_git/orders/pullrequest/{number}"
        assert made.comment.url == f"{page}?discussionId={made.comment.id}"
        assert place.open().pull_request(number).url == page

    def test_an_update_costs_two_requests_and_who_we_are(self, azure: OfflineAzure) -> None:
        place = AzurePlace(azure=azure)
        number, forge = place.pull_request(), place.open()
        forge.upsert_comment(number, "one", run=FIRST)
        azure.seen.clear()
        forge.upsert_comment(number, "two", run=SECOND)
        assert azure.seen == ["threads", "edit"]
        assert forge.whoami().login == azure_server.BOT

    def test_a_personal_token_is_one_too(self, azure: OfflineAzure) -> None:
        place = AzurePlace(azure=azure)
        number = place.pull_request()
        forge = place.open(token="", personal_token=azure_server.PERSONAL_TOKEN)
        assert forge.upsert_comment(number, "one", run=FIRST).outcome is CommentOutcome.CREATED

    def test_characters_that_azure_counts_twice_are_its_to_refuse(
        self, azure: OfflineAzure
    ) -> None:
        """A page of ours is measured as Azure measures it."""
        place = AzurePlace(azure=azure)
        with pytest.raises(ForgeError, match="400: A discussion comment cannot be longer"):
            place.open().upsert_comment(place.pull_request(), "🚀" * 80_000, run=FIRST)

    def test_a_preview_is_a_status_of_the_pull_requests_whose_head_it_is(
        self, azure: OfflineAzure
    ) -> None:
        place = AzurePlace(azure=azure)
        number = place.pull_request()
        forge = place.open()
        sha = forge.pull_request(number).head_sha
        started = forge.start_deployment(environment="pr-3", sha=sha, run=FIRST)
        url = "https://preview.example.com/"
        ended = forge.finish_deployment(started, DeploymentState.SUCCESS, url=url)
        assert (ended.state, ended.url) == (DeploymentState.SUCCESS, url)
        begun, done = [one for one in azure.statuses if one["number"] == number]
        assert (begun["state"], done["state"], done["targetUrl"]) == ("pending", "succeeded", url)
        # Of one context: the second takes the place of the first.
        assert begun["context"] == done["context"] == {"genre": "chalice-ci", "name": "pr-3"}
        before = len(azure.statuses)
        forge.start_deployment(environment="pr-3", sha=place.commit(), run=FIRST)
        assert len(azure.statuses) == before
        assert forge.deployments("pr-3") == ()
        assert forge.remove_environment("pr-3").deployments == 0
        assert forge.approvers(7) == ()

    def test_open_ones_are_read_from_all_pages(self) -> None:
        with offline_azure() as azure:
            numbers = [azure.pull_request() for _ in range(101)]
            azure.label(numbers[0], "preview")
            azure.tags[numbers[0]] += [{**azure.tags[numbers[0]][0], "active": False, "name": "x"}]
            found = AzurePlace(azure=azure).open().open_pull_requests()
            assert [one.number for one in found] == numbers
            assert found[0].labels == ("preview",)
            assert azure.seen.count("pulls") == 2

    @pytest.mark.parametrize("kind", ["html", "redirect", "401"])
    def test_a_token_that_is_not_taken_is_told_without_it(
        self, azure: OfflineAzure, kind: str
    ) -> None:
        place = AzurePlace(azure=azure)
        number, secret = place.pull_request(), "a-wrong-token"
        forge = place.open(token=secret if kind == "html" else azure_server.TOKEN)
        away = {"Location": "https://spsprodeus24.vssps.visualstudio.com/_signin?realm=x"}
        odd = {"redirect": Odd(status=302, headers=away), "401": Odd(status=401)}
        azure.before = lambda name: odd.get(kind)
        before = len(azure.seen)
        try:
            with pytest.raises(NotPermitted, match="does not take the token") as caught:
                forge.pull_request(number)
        finally:
            azure.before = None
        assert secret not in str(caught.value)
        assert "SYSTEM_ACCESSTOKEN: $(System.AccessToken)" in caught.value.fix
        # It is not tried again.
        assert len(azure.seen) - before <= 1

    def test_a_personal_token_that_is_not_taken_names_its_scopes(self, azure: OfflineAzure) -> None:
        forge = AzurePlace(azure=azure).open(token="", personal_token="expired")
        with pytest.raises(NotPermitted) as caught:
            forge.whoami()
        assert "AZURE_DEVOPS_EXT_PAT" in caught.value.fix
        assert "Pull Request Threads (Read & write)" in caught.value.fix

    def test_a_permission_that_the_build_service_lacks_is_named(self, azure: OfflineAzure) -> None:
        place = AzurePlace(azure=azure)
        number = place.pull_request()
        azure.permissions = ("GenericRead",)
        try:
            with pytest.raises(NotPermitted, match="TF401027") as caught:
                place.open().upsert_comment(number, "one", run=FIRST)
        finally:
            azure.permissions = ("GenericRead", "PullRequestContribute")
        assert caught.value.permission == "PullRequestContribute"
        assert "Build Service" in caught.value.fix
        assert "Contribute to pull requests" in caught.value.fix

    @pytest.mark.parametrize(
        ("status", "after", "least", "most"),
        [
            *[(500, None, 5, 5), (503, None, 5, 5), (503, 20, 6, 8), (429, 0, 6, 60)],
            *[(429, 20, 6, 8), (429, 900, 1, 1), (400, None, 1, 1)],
        ],
    )
    def test_what_may_pass_is_tried_again_and_nothing_else(
        self, azure: OfflineAzure, status: int, after: int | None, least: int, most: int
    ) -> None:
        """What is refused for a while: as long as the waits together allow."""
        place = AzurePlace(azure=azure)
        number, before = place.pull_request(), len(azure.seen)
        headers = {} if after is None else {"Retry-After": str(after)}
        azure.before = lambda name: Odd(status=status, headers=headers)
        try:
            with pytest.raises(ForgeError):
                place.open().pull_request(number)
        finally:
            azure.before = None
        assert least <= len(azure.seen) - before <= most

    @pytest.mark.parametrize(
        "body", [b"{", b"\xff", b"[]", b"{}", b"null", b'{"pullRequestId": true}', b"[" * 9000]
    )
    def test_an_answer_that_is_garbled_is_an_error(self, azure: OfflineAzure, body: bytes) -> None:
        place = AzurePlace(azure=azure)
        number = place.pull_request()
        azure.before = lambda name: Odd(status=200, body=body)
        try:
            for ask in (
                place.open().whoami,
                place.open().open_pull_requests,
                lambda: place.open().pull_request(number),
                lambda: place.open().merged_as("f" * 40),
            ):
                with pytest.raises(ForgeError, match=r"no JSON|no list|its description promises"):
                    ask()
        finally:
            azure.before = None

    def test_one_that_is_slow_is_not_waited_for(self, azure: OfflineAzure) -> None:
        arrived, go_on = threading.Event(), threading.Event()

        def slow(name: str) -> None:
            arrived.set()
            go_on.wait(60)

        azure.before = slow
        retry = Retry(sleep=lambda seconds: None, attempts=1)
        api = AzureApi(**azure_given(azure), retry=retry, timeout=0.05)
        try:
            with pytest.raises(ForgeError, match="did not answer"):
                AzureForge(api).whoami()
            # It is this test's request alone that waits.
            assert arrived.wait(60)
        finally:
            go_on.set()
            azure.before = None

    def test_a_comment_whose_answer_was_lost_is_not_written_twice(
        self, azure: OfflineAzure
    ) -> None:
        place = AzurePlace(azure=azure)
        number = place.pull_request()
        azure.lose = "comment"
        place.open().upsert_comment(number, "one", run=FIRST)
        assert len(place.bodies(number)) == 1

    def test_a_fork_is_told_by_its_repository_also_when_it_is_gone(
        self, azure: OfflineAzure
    ) -> None:
        forge = AzurePlace(azure=azure).open()
        own = forge.pull_request(azure.pull_request())
        assert (own.from_fork, own.head_repository) == (False, "Back end/orders")
        other = forge.pull_request(azure.pull_request(fork="mallorys"))
        assert (other.from_fork, other.head_repository) == (True, "Back end/mallorys")
        gone = forge.pull_request(azure.pull_request(fork=None))
        assert (gone.from_fork, gone.head_repository) == (True, None)

    @pytest.mark.parametrize(
        ("given", "where"),
        [
            ({"collection": "ftp://x/"}, "SYSTEM_COLLECTIONURI"),
            ({"collection": "https://u:p@x/"}, "SYSTEM_COLLECTIONURI"),
            ({"collection": "https://x/?a=b"}, "SYSTEM_COLLECTIONURI"),
            ({"collection": "http://[x"}, "SYSTEM_COLLECTIONURI"),
            ({"project": ".."}, "SYSTEM_TEAMPROJECT"),
            ({"repository": "a/../b"}, "BUILD_REPOSITORY_ID"),
            ({"token": "a\nb"}, "SYSTEM_ACCESSTOKEN"),
            ({"personal_token": "a b"}, "AZURE_DEVOPS_EXT_PAT"),
        ],
    )
    def test_the_token_goes_to_no_odd_address(
        self, azure: OfflineAzure, given: dict[str, str], where: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            azure_api(azure, **given)
        assert where in caught.value.where


class TestAzureFiles:
    @pytest.fixture
    def files(self, azure: OfflineAzure) -> AzureFiles:
        azure.branches, azure.files = {}, {}
        return AzureFiles(azure_api(azure))

    def test_a_file_is_the_branchs_else_the_commits(
        self, azure: OfflineAzure, files: AzureFiles
    ) -> None:
        head, other, old = (azure.commit() for _ in range(3))
        azure.branches = {"main-2": other, "main": head}
        azure.files = {head: {"a/b.yml": "one", "e.yml": ""}, old: {"a/b.yml": "two"}}
        assert files.file("a/b.yml", branch="main", commit=old) == "one"
        assert files.file("e.yml", branch="main", commit="") == ""
        assert files.file("none.yml", branch="main", commit="") is None
        assert files.file("a/b.yml", branch="gone", commit=old) == "two"
        for commit in ("", azure.commit()):
            with pytest.raises(NotFound):
                files.file("a/b.yml", branch="gone", commit=commit)

    def test_what_a_branch_changed_since_is_told_with_old_names_and_no_folders(
        self, azure: OfflineAzure, files: AzureFiles
    ) -> None:
        base, head = azure.commit(), azure.commit()
        azure.branches = {"main": head}
        azure.files = {
            base: {"app.py": "1", "same.py": "2", "old.py": "3", "gone.py": "4"},
            head: {"app.py": "5", "same.py": "2", "lib/new.py": "3"},
        }
        found = files.changed_since("main", base)
        assert sorted(found or ()) == ["app.py", "gone.py", "lib/new.py", "old.py"]
        assert files.changed_since("main", head) == ()
        assert files.changed_since("gone", base) is None
        with pytest.raises(NotFound):
            files.changed_since("main", azure.commit())

    def test_many_changes_are_read_from_all_pages_and_too_many_are_told(
        self, azure: OfflineAzure, files: AzureFiles
    ) -> None:
        base, head = azure.commit(), azure.commit()
        azure.branches = {"main": head}
        many = {f"{number}.txt": "x" for number in range(4001)}
        azure.files = {base: {}, head: many}
        before = azure.seen.count("difference")
        assert files.changed_since("main", base) == tuple(many)
        assert azure.seen.count("difference") - before == 3
        more = b'{"allChangesIncluded": false, "changes": [{"item": {"path": "/a"}}]}'
        azure.before = lambda name: Odd(status=200, body=more) if name == "difference" else None
        try:
            with pytest.raises(ForgeError, match="too many"):
                files.changed_since("main", base)
        finally:
            azure.before = None

    @pytest.mark.parametrize("body", [b"[]", b"{}", b'{"changes": 1}', b'{"changes": [{}]}'])
    def test_a_difference_that_is_garbled_is_an_error(
        self, azure: OfflineAzure, files: AzureFiles, body: bytes
    ) -> None:
        azure.branches = {"main": azure.commit()}
        azure.before = lambda name: Odd(status=200, body=body) if name == "difference" else None
        try:
            with pytest.raises(ForgeError, match="its description promises"):
                files.changed_since("main", azure.commit())
        finally:
            azure.before = None


class TestFolderAlone:
    def test_exactly_what_was_asked_for_is_approved(self, tmp_path: Path) -> None:
        forge = LocalForge(tmp_path / "forge")
        asked = forge.request_approval("production", "sha256:aa")
        assert asked.state is ApprovalState.PENDING
        assert forge.pending_approvals("production") == (asked,)
        given = forge.approve("production", "sha256:aa", by="grace")
        assert (given.state, given.by) == (ApprovalState.APPROVED, "grace")
        assert forge.request_approval("production", "sha256:aa") == given
        assert forge.approval("production", "sha256:bb") is None
        with pytest.raises(NotFound):
            forge.approve("production", "sha256:bb", by="grace")
        with pytest.raises(NotFound):
            forge.approve("staging", "sha256:aa", by="grace")
        forge.request_approval("production", "sha256:bb")
        forge.reject("production", "sha256:bb", by="ada")
        assert forge.pending_approvals("production") == ()

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"3", b'{"number": 1}', b'"x"', b"\xff", b"[" * 100_000],
        ids=["empty", "cut", "list", "number", "too little", "text", "bytes", "deep"],
    )
    def test_a_file_that_somebody_broke_is_an_error_with_its_name(
        self, tmp_path: Path, content: bytes
    ) -> None:
        forge = LocalForge(tmp_path / "forge")
        sha = "1" * 40
        number = forge.create_pull_request(head_ref="a", head_sha=sha, base_sha=sha).number
        started = forge.start_deployment(environment="pr-1", sha=sha, run=FIRST)
        actions: list[tuple[str, Callable[[], object]]] = [
            (
                f"pull-requests/{number}.json",
                lambda: forge.upsert_comment(number, "x", run=FIRST),
            ),
            (
                "deployments/pr-1.json",
                lambda: forge.finish_deployment(started, DeploymentState.SUCCESS),
            ),
            ("approvals/prod.json", lambda: forge.approve("prod", "x", by="me")),
        ]
        for name, action in actions:
            file = tmp_path / "forge" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            with pytest.raises(ForgeError):
                action()

    def test_a_folder_that_cannot_be_made_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ForgeError):
            LocalForge(tmp_path / "file" / "forge").open_pull_requests()
