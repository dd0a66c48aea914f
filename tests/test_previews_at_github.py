"""Pull requests at the offline GitHub whose runs overlap: nothing of them is left.

Each run is a process of its own in a checkout of its own, as on a runner, and the workflow has no
`concurrency`: a push is told of while the one before is still deployed, a pull request is closed
while its preview comes up. `PREVIEWS_AT_ONCE` says how many pull requests there are (`make
test-deep`: 20), `PREVIEW_SEED` in which order things happen.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest

from chalice_ci.local import EmbeddedAWS
from offline_github import webhooks
from offline_github.emulate import ADMIN, BOT, REPOSITORY
from offline_github.gateway import OfflineGitHub, offline_github, report
from support.commandline import chalice_ci, command, commit, environ, git, hello, write
from support.offline import Twin
from test_previews import APP

PULLS = int(os.environ.get("PREVIEWS_AT_ONCE", "2"))
SEED = int(os.environ.get("PREVIEW_SEED", "21"))
AT_ONCE = 5
YML = f"""version: 1
stages:
  dev: {{deploy-on: {{branch: main}}}}
preview: {{like: dev, limit: {PULLS}}}
"""


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineGitHub]:
    with offline_github(tmp_path_factory.mktemp("github")) as found:
        yield found


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@dataclass
class Week:
    """Pull requests of one repository, each with a chance of its own."""

    base: Path
    folder: Path
    github: OfflineGitHub
    account: dict[str, str]
    token: str
    runs: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    counts: Counter[str] = field(default_factory=Counter)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def pull_request(self, name: str) -> int:
        """Its whole life; its number. Returns when every run that it started has ended."""
        chance = random.Random(f"{SEED} {name}")
        root = Path(shutil.copytree(self.base, self.folder / name))
        git(root, "switch", "--quiet", "--create", name)
        sha = self._changed(root, name, chance)
        emulator = self.github.emulator
        number = emulator.pull_request(name)
        going: list[Future[None]] = []
        with ThreadPoolExecutor(4) as runners:

            def tell(action: str, sha: str) -> None:
                with self.turn:
                    self.counts[action] += 1
                    run = next(self.runs)
                if going and chance.random() < 0.5:
                    going[-1].result()
                elif going:
                    self.counts["overlapping"] += 1
                copy = Path(shutil.copytree(root, self.folder / f"{name}-run-{run}"))
                going.append(runners.submit(self._run, copy, action, number, sha, name, run))

            tell("opened", sha)
            for _ in range(chance.randrange(2)):
                sha = self._changed(root, name, chance)
                tell("synchronize", sha)
            path = f"/repos/{REPOSITORY}/pulls/{number}"
            emulator.patch(path, {"state": "closed"}, token=emulator.token_of(ADMIN))
            if chance.random() < 0.2:
                self.counts["lost"] += 1
            else:
                tell("closed", sha)
            for one in going:
                one.result()
        return number

    def _changed(self, root: Path, name: str, chance: random.Random) -> str:
        text = APP.replace("return {}", f"return {{'n': {chance.randrange(10**6)}}}")
        write(root, {"app.py": text})
        commit(root, name)
        return Twin(root=root, github=self.github, folder=self.folder).pushed(name)

    def _run(self, root: Path, action: str, number: int, sha: str, name: str, run: int) -> None:
        twin = Twin(root=root, github=self.github, folder=self.folder)
        payload = twin.pull_request(action, number, sha, branch=name)
        step = twin.step(f"run-{run}", "pull_request", payload, run=run, token=self.token)
        done = subprocess.run(
            command("run", "--stage", f"pr-{number}"),
            cwd=root,
            env=environ(**self.account, **step),
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, f"{action} of {number}: {done.stdout}{done.stderr}"


def test_nothing_is_left_of_pull_requests_whose_runs_overlap(
    github: OfflineGitHub,
    aws: EmbeddedAWS,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = hello(tmp_path / "base", **{"chalice-ci.yml": YML, "app.py": APP})
    twin = Twin(root=base, github=github, folder=tmp_path)
    twin.pushed("main")
    token = github.emulator.workflow_token()
    week = Week(base=base, folder=tmp_path, github=github, account=aws.environ, token=token)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        numbers = list(pool.map(week.pull_request, [f"change-{n}" for n in range(PULLS)]))

    payload = webhooks.push("refs/heads/main")
    payload["repository"] |= {"full_name": REPOSITORY, "default_branch": "main"}
    nightly = twin.step("sweep", "schedule", payload, run=next(week.runs), token=token)
    swept = chalice_ci("preview", "sweep", cwd=base, **(aws.environ | nightly))
    assert swept.code == 0, swept.out + swept.err

    with capsys.disabled():
        print(f"\n{PULLS} pull requests, seed {SEED}: {dict(week.counts)}")
        print(report(github))
    assert github.invalid == [], report(github)
    session = boto3.Session("embedded", "embedded", region_name="us-east-1")
    functions = session.client("lambda", endpoint_url=aws.endpoint_url)
    assert functions.list_functions()["Functions"] == []
    roles = session.client("iam", endpoint_url=aws.endpoint_url)
    assert roles.list_roles()["Roles"] == []
    # No branch where every run came too late to record anything.
    where = f"/repos/{REPOSITORY}/git/trees/chalice-state?recursive=1"
    status, found = github.emulator.ask("GET", where, token=github.emulator.token_of(ADMIN))
    assert status in {200, 404}
    left = found.get("tree", ())
    assert [entry["path"] for entry in left if entry["type"] == "blob"] == []
    for number in numbers:
        assert github.deployments.of(REPOSITORY, f"pr-{number}") == []
        assert len(github.emulator.comments(number, by=BOT)) == 1, number
