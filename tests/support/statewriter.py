"""A process that writes one state: `python statewriter.py KIND PLACE WORK APP STAGE MARK EXPECTED`.

It waits for a line on stdin, so that many of them start at once, then prints "written", "moved"
or the error. KIND is `local`, `git` (a repository on this machine), `remote` (an address) or
`github` (what `github_address` gives).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chalice_ci.errors import StateMoved, UserError
from chalice_ci.forge.github import GitHubApi, GitHubData
from chalice_ci.state.git import GitStore, LocalRepository, RemoteRepository
from chalice_ci.state.github import GitHubRepository
from chalice_ci.state.local import LocalStore
from chalice_ci.state.schema import StageState
from chalice_ci.state.store import StateKey, StateStore, commit_message


def open_store(kind: str, place: str, work_dir: Path) -> StateStore:
    """The store at a place."""
    environ = {"PATH": os.environ["PATH"]}
    match kind:
        case "local":
            return LocalStore(Path(place))
        case "git":
            return GitStore(LocalRepository(Path(place), work_dir=work_dir, environ=environ))
        case "remote":
            return GitStore(RemoteRepository(place, work_dir=work_dir, environ=environ))
        case "github":
            url, repository, token = place.split()
            api = GitHubApi(repository, token=token, api_url=url)
            return GitStore(GitHubRepository(GitHubData(api)))
    raise ValueError(kind)


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


def main() -> None:
    """Write once."""
    kind, place, work_dir, app, stage, mark, expected = sys.argv[1:]
    store = open_store(kind, place, Path(work_dir))
    key = StateKey(app_path=app, stage=stage)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        store.write(key, marked(mark), expected=expected, message=message(stage))
    except StateMoved:
        print("moved")
    except UserError as error:
        print(error)
    else:
        print("written")


if __name__ == "__main__":
    main()
