"""A repository on disk and the same one at the offline GitHub, with events between them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_github import webhooks
from offline_github.emulate import ADMIN, REPOSITORY
from offline_github.gateway import OfflineGitHub
from support.commandline import git

_FILES = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_STATE")


@dataclass(frozen=True, kw_only=True)
class Twin:
    """`root` is the checkout, `folder` where the files of steps are written."""

    root: Path
    github: OfflineGitHub
    folder: Path

    def pushed(self, branch: str) -> str:
        """The work tree as a commit of a branch at GitHub."""
        names = git(self.root, "ls-files").splitlines()
        files = {name: (self.root / name).read_text() for name in names}
        return self.github.emulator.push(branch, files)

    def mirrored(self, branch: str) -> str:
        """The branch as it is here at GitHub, with the same commits; its head."""
        emulator, where = self.github.emulator, f"/repos/{REPOSITORY}/git"
        for commit in git(self.root, "rev-list", "--reverse", branch).splitlines():
            if emulator.ask("GET", f"{where}/commits/{commit}")[0] == 200:
                continue
            entries = [
                {
                    "path": path,
                    "mode": "100644",
                    "type": "blob",
                    "content": self._text(commit, path),
                }
                for path in git(self.root, "ls-tree", "-r", "--name-only", commit).splitlines()
            ]
            tree = emulator.post(f"{where}/trees", {"tree": entries})["sha"]
            name, mail, date, *parents = git(
                self.root, "log", "-1", "--format=%an%n%ae%n%aI%n%P", commit
            ).split()
            who = {"name": name, "email": mail, "date": date}
            document = {
                "message": git(self.root, "log", "-1", "--format=%B", commit),
                "tree": tree,
                "parents": parents,
                "author": who,
                "committer": who,
            }
            assert emulator.post(f"{where}/commits", document)["sha"] == commit
        head = git(self.root, "rev-parse", branch)
        ref = f"{where}/refs/heads/{branch}"
        if (
            emulator.ask(
                "PATCH", ref, {"sha": head, "force": True}, token=emulator.token_of(ADMIN)
            )[0]
            != 200
        ):
            emulator.post(f"{where}/refs", {"ref": f"refs/heads/{branch}", "sha": head})
        return head

    def _text(self, commit: str, path: str) -> str:
        # As it is: what git() gives has no line feed at its end.
        done = subprocess.run(
            ["git", "show", f"{commit}:{path}"], cwd=self.root, capture_output=True, check=True
        )
        return done.stdout.decode("utf-8")

    def pull_request(
        self, action: str, number: int, sha: str, *, branch: str = "change"
    ) -> dict[str, Any]:
        """A payload: the head as GitHub has it, the base as the checkout has it."""
        payload = webhooks.pull_request(
            action,
            number=number,
            head_sha=sha,
            head_ref=branch,
            full_name=REPOSITORY,
            base_ref="main",
        )
        payload["pull_request"]["base"]["sha"] = git(self.root, "rev-parse", "main")
        return payload

    def step(
        self,
        name: str,
        event: str,
        payload: Mapping[str, Any],
        *,
        run: int,
        token: str,
        attempt: int = 1,
        sha: str = "",
    ) -> dict[str, str]:
        """The environment of a step of a run; `name` tells its files from others'."""
        number = (payload.get("pull_request") or {}).get("number")
        file = self.folder / f"{name}-event.json"
        file.write_text(json.dumps(payload))
        paths = {variable: self.folder / f"{name}-{variable.lower()}" for variable in _FILES}
        for path in paths.values():
            path.touch()
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(file),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_REF": f"refs/pull/{number}/merge" if number else "refs/heads/main",
            "GITHUB_SHA": sha or git(self.root, "rev-parse", "HEAD"),
            "GITHUB_RUN_ID": str(run),
            "GITHUB_RUN_ATTEMPT": str(attempt),
            "GITHUB_ACTOR": "ada",
            "GITHUB_TOKEN": token,
            **self.github.environ,
            **{variable: str(path) for variable, path in paths.items()},
        }
