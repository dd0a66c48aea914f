"""Processes that write states: `python statewriter.py KIND PLACE WORK`.

KIND is `local`, `git` (a repository on this machine), `remote` (an address), `github` (what
`github_address` gives) or `s3` (an endpoint and a bucket). On stdin it gets a JSON list of writes,
`[app, stage, mark, expected]`, makes a process for each and lets all of them go at once. It prints
a JSON list of what came of them: "written", "moved" or the error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalice_ci.errors import StateMoved, UserError
from chalice_ci.state.git import GitStore, RemoteRepository
from chalice_ci.state.git_repository import LocalRepository, Repository
from chalice_ci.state.local import LocalStore
from chalice_ci.state.plans import FolderPlans, GitPlans, PlanStore
from chalice_ci.state.schema import StageState
from chalice_ci.state.store import StateKey, StateStore, commit_message

if TYPE_CHECKING:
    from chalice_ci.state.s3 import S3Store


def open_store(kind: str, place: str, work_dir: Path) -> StateStore:
    """The store at a place."""
    if kind == "local":
        return LocalStore(Path(place))
    if kind == "s3":
        return _bucket(place)
    return GitStore(_repository(kind, place, work_dir))


def open_plans(kind: str, place: str, work_dir: Path) -> PlanStore:
    """Where the plans of such a store are kept."""
    if kind == "local":
        return FolderPlans(Path(place) / "plans")
    if kind == "s3":
        return _bucket(place)
    return GitPlans(_repository(kind, place, work_dir), prefix="chalice-state-plans")


def _repository(kind: str, place: str, work_dir: Path) -> Repository:
    environ = {"PATH": os.environ["PATH"]}
    match kind:
        case "git":
            return LocalRepository(Path(place), work_dir=work_dir, environ=environ)
        case "remote":
            return RemoteRepository(place, work_dir=work_dir, environ=environ)
        case "github":
            # Late: it takes longer to import than all the rest.
            from chalice_ci.forge.github_api import GitHubApi
            from chalice_ci.forge.github_data import GitHubData
            from chalice_ci.state.github import GitHubRepository

            url, repository, token = place.split()
            api = GitHubApi(repository, token=token, api_url=url)
            return GitHubRepository(GitHubData(api))
    raise ValueError(kind)


def _bucket(place: str) -> S3Store:
    from chalice_ci.state.s3 import S3Store

    url, bucket = place.split()
    # Made once before the fork: it opens no connection, and its description is long.
    client = _s3(url)
    return S3Store(lambda: client, bucket=bucket, prefix="states")


@cache
def _s3(url: str) -> Any:
    from chalice_ci.ownership import clients_of

    keys = {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}
    return clients_of({**keys, "AWS_ENDPOINT_URL": url}, "us-east-1")("s3")


def github_address(url: str, repository: str, token: str) -> str:
    """The place of a store on GitHub."""
    return f"{url} {repository} {token}"


def marked(mark: str) -> StageState:
    """A state that tells who wrote it."""
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{mark}"
    function = {"name": "index", "resource_type": "lambda_function", "lambda_arn": arn}
    return StageState(resources=(function,))


def message(stage: str) -> str:
    """The message of a test's write."""
    return commit_message(app="orders", stage=stage, commit="9f3c1ab" * 5, result="deployed")


def _write(store: StateStore, app: str, stage: str, mark: str, expected: str) -> str:
    key = StateKey(app_path=app, stage=stage)
    try:
        store.write(key, marked(mark), expected=expected, message=message(stage))
    except StateMoved:
        return "moved"
    except UserError as error:
        return str(error)
    return "written"


def main() -> None:
    """Import once, then fork for each write: to start Python takes longer than to write."""
    kind, place, work_dir = sys.argv[1:]
    writes = json.load(sys.stdin)
    # Whatever it imports, the children need not.
    open_store(kind, place, Path(work_dir))
    ready, is_ready = os.pipe()
    wait, go = os.pipe()
    answers = []
    for write in writes:
        answer, says = os.pipe()
        if os.fork() == 0:
            os.close(go)
            said = "it failed"
            try:
                store = open_store(kind, place, Path(work_dir))
                os.write(is_ready, b"r")
                # Nothing ever comes: this is the end of the file, for all at the same moment.
                os.read(wait, 1)
                said = _write(store, *write)
            except BaseException:
                traceback.print_exc()
            finally:
                os.write(says, said.encode())
                os._exit(0)
        os.close(says)
        answers.append(answer)
    os.close(is_ready)
    for _ in writes:
        os.read(ready, 1)
    os.close(go)
    told = []
    for answer in answers:
        with os.fdopen(answer, encoding="utf-8") as reading:
            told.append(reading.read())
        os.wait()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
