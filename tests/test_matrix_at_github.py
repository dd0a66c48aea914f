"""A matrix at the offline GitHub: parts bring previews up at once, one job folds their reports.

Each part is a process of its own, as on a runner: the state of all of them is one branch, the
comment is one. `MATRIX_PARTS` says how many there are
(`make test-deep`: 100), at most 20 at a time, as the example's `max-parallel` says. What is counted
is what an hour's budget of a workflow's token is spent on: docs/github.md. GitHub's secondary
limit, 80 writes a minute, holds as well: who is refused by it waits and comes back.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from chalice_ci.local import EmbeddedAWS
from offline_github.emulate import BOT, REPOSITORY
from offline_github.gateway import OfflineGitHub, Secondary, offline_github, report
from support.commandline import CONFIG, chalice_ci, command, commit, environ, git, write
from support.offline import Twin
from test_previews import APP

PARTS = int(os.environ.get("MATRIX_PARTS", "2"))
AT_ONCE = 20
NAMES = [f"app-{number:03}" for number in range(PARTS)]
READING = {"POST /graphql repository", "POST /graphql viewer"}
COMMIT = "POST /graphql createCommitOnBranch"
HOUR, WRITES_OF_AN_HOUR = 1_000, 500
AT_THE_BEGINNING = 40
"""What few parts may ask for besides their share: the matrix, the comment, and the race of all of
them to make the branch of the state, which there is only once.
"""


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineGitHub]:
    with offline_github(tmp_path_factory.mktemp("github")) as found:
        yield found


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


def test_parts_of_a_matrix_record_their_states_and_one_comment_at_once(
    github: OfflineGitHub,
    aws: EmbeddedAWS,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "r"
    root.mkdir()
    apps = "".join(f"  {name}: {{path: services/{name}}}\n" for name in NAMES)
    yml = f"version: 1\napps:\n{apps}stages: {{dev: {{}}}}\npreview: {{like: dev}}\n"
    git(root, "init", "--quiet", "--initial-branch", "main")
    write(root, {"chalice-ci.yml": yml})
    for name in NAMES:
        write(
            root / "services" / name,
            {
                "app.py": APP.replace("hello", name),
                ".chalice/config.json": CONFIG.replace("hello", name),
                "requirements.txt": "",
            },
        )
    commit(root, "Begin")
    twin = Twin(root=root, github=github, folder=tmp_path)
    twin.pushed("main")
    git(root, "switch", "--quiet", "--create", "change")
    for name in NAMES:
        path = root / "services" / name / "app.py"
        path.write_text(path.read_text().replace("return {}", "return {'changed': True}"))
    commit(root)
    sha = twin.pushed("change")
    number = github.emulator.pull_request("change")
    payload = twin.pull_request("opened", number, sha)
    token = github.emulator.workflow_token()
    github.forget()
    github.secondary = limit = Secondary()

    def env(name: str) -> dict[str, str]:
        return aws.environ | twin.step(name, "pull_request", payload, run=7, token=token)

    printed = chalice_ci("matrix", cwd=root, **env("matrix"))
    assert printed.code == 0, printed.err
    entries = [e for e in json.loads(printed.out)["include"] if e["stage"] == f"pr-{number}"]
    assert [entry["app"] for entry in entries] == NAMES
    of_matrix = len(github.seen)

    def part(entry: dict[str, str]) -> subprocess.CompletedProcess[str]:
        name = entry["app"]
        return subprocess.run(
            command(
                *("run", "--app", name, "--stage", entry["stage"], "--no-comment"),
                *("--out", tmp_path / "parts" / name),
            ),
            cwd=root,
            env=environ(**env(name)),
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(part, entries))
    assert [one.returncode for one in done] == [0] * PARTS, [
        one.stdout + one.stderr for one in done if one.returncode
    ]
    of_parts = len(github.seen) - of_matrix
    whole = json.dumps({"include": entries})
    told = chalice_ci(
        *("report", "--reports", tmp_path / "parts", "--matrix", whole), cwd=root, **env("report")
    )
    assert told.code == 0, told.out + told.err

    counted = github.counted()
    writes = Counter(
        {
            operation: count
            for operation, count in counted.items()
            if not operation.startswith("GET ") and operation not in READING
        }
    )
    with capsys.disabled():
        print(
            f"\n{PARTS} parts: {counted.total()} requests ({of_matrix} of the matrix, {of_parts} "
            f"of the parts), {writes.total()} of them writes, also those that lost a race; "
            f"{limit.refused} refused by the limit of {limit.writes} in {limit.seconds:.0f} s"
        )
        print("\n".join(f"{count:5} {what}" for what, count in sorted(counted.items())))
    assert github.invalid == [], report(github)
    more = AT_THE_BEGINNING if PARTS < 100 else 0
    # GitHub counts what is asked of its two APIs each on its own.
    queries = sum(count for what, count in counted.items() if what.startswith("POST /graphql "))
    assert queries <= HOUR * PARTS / 100 + more
    assert counted.total() - queries <= HOUR * PARTS / 100 + more
    # What lost a race wrote nothing.
    landed = writes.total() - counted[COMMIT] + commits(github)
    assert landed <= WRITES_OF_AN_HOUR * PARTS / 100 + more

    # Nothing is lost: the records, what stands, and the comment that tells of each.
    functions = boto3.Session("embedded", "embedded", region_name="us-east-1").client(
        "lambda", endpoint_url=aws.endpoint_url
    )
    pages = functions.get_paginator("list_functions").paginate()
    standing = {f["FunctionName"] for page in pages for f in page["Functions"]}
    assert standing == {f"{name}-pr-{number}-work" for name in NAMES}
    for name in NAMES:
        file = f"services/{name}/.chalice/deployed/pr-{number}.json"
        recorded = json.loads(github.emulator.file(file, ref="chalice-state"))
        arns = [r.get("lambda_arn", "") for r in recorded["resources"]]
        assert any(arn.endswith(f":{name}-pr-{number}-work") for arn in arns)
        ((_, state),) = github.deployments.of(REPOSITORY, f"pr-{number}-{name}")
        assert state == "success"
    (comment,) = github.emulator.comments(number, by=BOT)
    assert all(name in comment["body"] for name in NAMES)


def commits(github: OfflineGitHub) -> int:
    """How many commits the branch of the state has."""
    emulator, found = github.emulator, 0
    for page in range(1, 20):
        where = f"/repos/{REPOSITORY}/commits?sha=chalice-state&per_page=100&page={page}"
        listed = emulator.get(where)
        found += len(listed)
        if len(listed) < 100:
            break
    return found
