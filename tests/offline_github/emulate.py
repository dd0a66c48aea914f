"""The emulator as a process, with one organization, its people, a repository and an App.

The App is called `github-actions`, so its installation's tokens are what a workflow is given:
they write as github-actions[bot], with exactly the permissions that are asked for.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from offline_github.packages import find_node, installed

OWNER = "octo-org"
REPOSITORY = "octo-org/orders"
BOT = "github-actions[bot]"
APP_ID = 15368
INSTALLATION = 9001
ADMIN, HUMAN, MALLORY = "ada", "grace", "mallory"
EVERYTHING = {
    "contents": "write",
    "issues": "write",
    "pull_requests": "write",
    "deployments": "write",
    "actions": "read",
    "metadata": "read",
}
WORKFLOW = {
    "contents": "write",
    "pull_requests": "write",
    "deployments": "write",
    "metadata": "read",
}
"""What the examples' workflows ask for."""


@dataclass(kw_only=True)
class Emulator:
    """A running emulator: raw requests that no gateway counts or checks."""

    port: int
    base_url: str
    key: str
    tokens: dict[str, str]
    """Whose token each is: a login."""
    permissions: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What an installation's token may do."""
    _turns: Iterator[int] = field(default_factory=itertools.count)

    def ask(
        self, method: str, path: str, document: object = None, *, token: str = ""
    ) -> tuple[int, Any]:
        """An answer's status and document."""
        status, _, body = self.send(
            method,
            path,
            b"" if document is None else json.dumps(document).encode(),
            {"Authorization": f"Bearer {token}"} if token else {},
        )
        return status, json.loads(body) if body else None

    def get(self, path: str, *, token: str = "") -> Any:
        """A document that has to be there."""
        return self._good("GET", path, None, token)

    def post(self, path: str, document: object, *, token: str = "") -> Any:
        """What was made."""
        return self._good("POST", path, document, token)

    def patch(self, path: str, document: object, *, token: str = "") -> Any:
        """What was changed."""
        return self._good("PATCH", path, document, token)

    def send(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """A request as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            host = self.base_url.partition("//")[2]
            sent = {"Content-Type": "application/json", "Host": host, **headers}
            connection.request(method, target, body=body or None, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def workflow_token(self, **permissions: str) -> str:
        """An installation's token, as `permissions:` of a job gives it: by default `WORKFLOW`."""
        granted = permissions or WORKFLOW
        now = int(time.time())
        claims = {"iat": now - 30, "exp": now + 300, "iss": str(APP_ID)}
        status, document = self.ask(
            "POST",
            f"/app/installations/{INSTALLATION}/access_tokens",
            {"permissions": {"metadata": "read", **granted}},
            token=jwt.encode(claims, self.key, algorithm="RS256"),
        )
        assert status == 201, document
        token: str = document["token"]
        self.tokens[token] = BOT
        self.permissions[token] = {"metadata": "read", **granted}
        return token

    def token_of(self, login: str) -> str:
        """A person's token, another one each time: each has 5,000 requests an hour."""
        found = [token for token, owner in self.tokens.items() if owner == login]
        return found[next(self._turns) % len(found)]

    def user(self, login: str) -> Any:
        """An account as the API shows it."""
        return self.get(f"/users/{login.replace('[', '%5B').replace(']', '%5D')}")

    def head(self, branch: str, repository: str = REPOSITORY) -> str:
        """The commit of a branch."""
        found = self.get(f"/repos/{repository}/git/ref/heads/{branch}", token=self.token_of(ADMIN))
        sha: str = found["object"]["sha"]
        return sha

    def push(
        self,
        branch: str,
        files: Mapping[str, str],
        *,
        message: str = "Change something",
        repository: str = REPOSITORY,
        base: str = "main",
        by: str = ADMIN,
    ) -> str:
        """A commit on a branch, which is made from `base` if there is none; its id."""
        token = self.token_of(by)
        where = f"/repos/{repository}/git"
        status, found = self.ask("GET", f"{where}/ref/heads/{branch}", token=token)
        parent = found["object"]["sha"] if status == 200 else self.head(base, repository)
        tree = self.get(f"{where}/commits/{parent}", token=token)["tree"]["sha"]
        entries = [
            {"path": path, "mode": "100644", "type": "blob", "content": text}
            for path, text in files.items()
        ]
        made = self.post(f"{where}/trees", {"base_tree": tree, "tree": entries}, token=token)
        commit = self.post(
            f"{where}/commits",
            {"message": message, "tree": made["sha"], "parents": [parent]},
            token=token,
        )
        sha: str = commit["sha"]
        if status == 200:
            self.patch(f"{where}/refs/heads/{branch}", {"sha": sha}, token=token)
        else:
            self.post(f"{where}/refs", {"ref": f"refs/heads/{branch}", "sha": sha}, token=token)
        return sha

    def fork(self, by: str = MALLORY) -> str:
        """The repository's fork of a person; its full name."""
        made = self.post(f"/repos/{REPOSITORY}/forks", {}, token=self.token_of(by))
        name: str = made["full_name"]
        return name

    def pull_request(
        self, head: str, *, base: str = "main", title: str = "Change", by: str = HUMAN
    ) -> int:
        """A pull request's number."""
        made = self.post(
            f"/repos/{REPOSITORY}/pulls",
            {"title": title, "head": head, "base": base},
            token=self.token_of(by),
        )
        number: int = made["number"]
        return number

    def comments(self, number: int, *, by: str = BOT) -> list[Any]:
        """Every comment of an account on a pull request."""
        found = self.get(
            f"/repos/{REPOSITORY}/issues/{number}/comments?per_page=100",
            token=self.token_of(ADMIN),
        )
        return [comment for comment in found if comment["user"]["login"] == by]

    def file(self, path: str, *, ref: str) -> bytes:
        """A file of the repository."""
        found = self.get(
            f"/repos/{REPOSITORY}/contents/{path}?ref={ref}", token=self.token_of(ADMIN)
        )
        return base64.b64decode(found["content"])

    def _good(self, method: str, path: str, document: object, token: str) -> Any:
        status, found = self.ask(method, path, document, token=token or self.token_of(ADMIN))
        assert status < 300, (method, path, status, found)
        return found


@contextmanager
def emulating(folder: Path, *, base_url: str) -> Iterator[Emulator]:
    """Start the emulator; the addresses in its answers begin with `base_url`."""
    key = _private_key()
    people = (ADMIN, HUMAN, MALLORY)
    tokens = {f"ghp_{login}{number:020}": login for login in people for number in range(20)}
    seed = {
        "tokens": {token: {"login": login, "scopes": ["repo"]} for token, login in tokens.items()},
        "github": {
            # A bot's account exists before it first writes, as on GitHub.
            "users": [*({"login": login} for login in people), {"login": BOT}],
            "orgs": [
                {
                    "login": OWNER,
                    "members": [
                        {"login": ADMIN, "role": "admin"},
                        {"login": HUMAN, "role": "admin"},
                    ],
                }
            ],
            "repos": [
                {"owner": OWNER, "name": REPOSITORY.partition("/")[2], "auto_init": True},
            ],
            "apps": [
                {
                    "app_id": APP_ID,
                    "slug": "github-actions",
                    "name": "GitHub Actions",
                    "private_key": key,
                    "permissions": EVERYTHING,
                    "installations": [{"installation_id": INSTALLATION, "account": OWNER}],
                }
            ],
        },
    }
    file = folder / "seed.json"
    file.write_text(json.dumps(seed))
    port = _free_port()
    with (folder / "emulate.log").open("w") as log:
        process = subprocess.Popen(
            [
                *find_node().node,
                str(installed() / "emulate/dist/index.js"),
                *("start", "-s", "github", "-p", str(port)),
                *("--seed", str(file), "--base-url", base_url),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            _await(process, port, folder / "emulate.log")
            yield Emulator(port=port, base_url=base_url, key=key, tokens=tokens)
        finally:
            process.kill()
            process.wait(30)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the emulator does not answer: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode("ascii")
