"""A small Azure DevOps: a repository in memory behind HTTP, held to its description.

A list has `value` and `count`, and pages where its operation has `$top`; a comment that was deleted
is still listed as such, without its text, and its thread with it; system threads stand between; one
pull request is answered without its labels, a list with them; errors have Microsoft's form, and who
has no valid token gets the page on which people sign in.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from offline_azure.description import CONTRIBUTE, LARGEST, READ, NotDescribed, described
from offline_bitbucket.description import fits
from support.loopback import listening

ORGANIZATION, PROJECT, NAME = "octo", "Back end", "orders"
REPOSITORY = str(uuid.uuid5(uuid.NAMESPACE_URL, NAME))
BOT, HUMAN = "Back end Build Service (octo)", "grace"
TOKEN, PERSONAL_TOKEN = "token.of.the.job", "personal-token"
SIGN_IN = b"<!DOCTYPE html><html><title>Azure DevOps Services | Sign In</title></html>"
TAKEN = {
    f"Bearer {TOKEN}",
    f"Basic {base64.b64encode(f':{PERSONAL_TOKEN}'.encode()).decode()}",
}


def identity(name: str) -> dict[str, Any]:
    number = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    return {"id": number, "displayName": name, "uniqueName": f"{name}@example.com"}


def repository(name: str) -> dict[str, Any]:
    project = {"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, PROJECT)), "name": PROJECT}
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "name": name, "project": project}


@dataclass(frozen=True, kw_only=True)
class Odd:
    """An answer in the place of an operation's own."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    kind: str = "application/json"


@dataclass(kw_only=True)
class OfflineAzure:
    """What is there; tests change it directly, as people do on the site."""

    url: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    tags: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    threads: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    """The commits that branches are at."""
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    """The text of the files of commits."""
    seen: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    permissions: tuple[str, ...] = (READ, CONTRIBUTE)
    before: Callable[[str], Odd | None] | None = None
    """Answers in the place of the operation of a name."""
    lose: str = ""
    """The operation whose next answer gets lost after it was done."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def collection(self) -> str:
        return f"{self.url}/{ORGANIZATION}/"

    def commit(self) -> str:
        return uuid.uuid4().hex + uuid.uuid4().hex[:8]

    def pull_request(self, *, head: str = "", base: str = "", fork: str | None = "") -> int:
        """`fork` is the name of one, None when it is gone."""
        number = next(self.numbers)
        self.pulls[number] = {
            "pullRequestId": number,
            "title": "Faster search",
            "status": "active",
            "isDraft": False,
            "createdBy": identity(HUMAN),
            "sourceRefName": "refs/heads/change",
            "targetRefName": "refs/heads/main",
            "lastMergeSourceCommit": {"commitId": head or self.commit()},
            "lastMergeTargetCommit": {"commitId": base or self.commit()},
            "lastMergeCommit": {"commitId": self.commit()},
            "repository": repository(NAME),
        }
        if fork != "":
            source = {"repository": repository(fork)} if fork else {}
            self.pulls[number]["forkSource"] = {"name": "refs/heads/change", **source}
        self.tags[number], self.threads[number] = [], []
        self.thread(number, "Grace joined as a reviewer", HUMAN, kind="system")
        return number

    def label(self, number: int, *labels: str) -> None:
        self.tags[number] = [
            {"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), "name": name, "active": True}
            for name in labels
        ]

    def thread(self, number: int, text: str, who: str, *, kind: str = "text") -> dict[str, Any]:
        first = {"id": 1, "parentCommentId": 0, "author": identity(who), "commentType": kind}
        made = {"id": next(self.numbers), "isDeleted": False, "comments": [first]}
        first["content"] = text
        self.threads[number].append(made)
        return made

    def told(self, number: int) -> list[str]:
        """The comments that stand, as they were sent."""
        return [
            thread["comments"][0]["content"]
            for thread in self.threads[number]
            if not thread["isDeleted"] and thread["comments"][0]["commentType"] == "text"
        ]

    def delete(self, number: int, thread: int) -> None:
        (found,) = [one for one in self.threads[number] if one["id"] == thread]
        found["isDeleted"] = found["comments"][0]["isDeleted"] = True
        found["comments"][0].pop("content")

    def ask(self, name: str, at: dict[str, str], query: dict[str, str], body: Any) -> Any:
        """What an operation gives; KeyError when there is no such thing."""
        if name != "identity" and unquote(at["project"]) != PROJECT:
            raise KeyError(at["project"])
        if name != "identity" and unquote(at["id"]) not in (REPOSITORY, NAME):
            raise KeyError(at["id"])
        number = int(at.get("number") or 0)
        match name:
            case "identity":
                who = identity(BOT)
                return {
                    "authenticatedUser": {"id": who["id"], "providerDisplayName": BOT},
                    "authorizedUser": {"id": who["id"], "providerDisplayName": BOT},
                }
            case "pulls":
                state = query.get("searchCriteria.status", "active")
                listed = [one for one in self.pulls.values() if one["status"] == state]
                return [self._with_labels(one) for one in reversed(listed)]
            case "pull":
                return self.pulls[number]
            case "refs":
                return [
                    {"name": f"refs/heads/{name}", "objectId": sha}
                    for name, sha in self.branches.items()
                    if f"heads/{name}".startswith(query["filter"])
                ]
            case "commit":
                self.files[at["commit"]]
                return {"commitId": at["commit"]}
            case "file":
                found = self.files[query["versionDescriptor.version"]]
                path = query["path"]
                return {"path": path, "content": found[path.removeprefix("/")]}
            case "difference":
                old, new = (self.files[query[f"{which}Version"]] for which in ("base", "target"))
                return self._difference(old, new, int(query["$top"]), int(query["$skip"]))
            case "query":
                (asked,) = body["queries"]
                result = {
                    sha: [
                        self._with_labels(one)
                        for one in self.pulls.values()
                        if one["lastMergeCommit"]["commitId"] == sha
                    ]
                    for sha in asked["items"]
                }
                found = {sha: pulls for sha, pulls in result.items() if pulls}
                return {"queries": body["queries"], "results": [found]}
            case "labels":
                return self.tags[number]
            case "threads":
                return self.threads[number]
            case "comment":
                (first,) = body["comments"]
                self.threads[number]
                made = self.thread(number, first["content"], BOT)
                made["status"] = body.get("status", "unknown")
                return made
            case "edit" | "delete":
                standing = {one["id"]: one for one in self.threads[number] if not one["isDeleted"]}
                thread = standing[int(at["thread"])]
                (comment,) = [c for c in thread["comments"] if c["id"] == int(at["comment"])]
                if name == "delete":
                    self.delete(number, thread["id"])
                else:
                    comment["content"] = body["content"]
                return comment
            case "status":
                self.pulls[number]
                self.statuses.append({**body, "number": number})
                return {"id": len(self.statuses), **body}
        raise AssertionError(name)

    def _difference(
        self, old: dict[str, str], new: dict[str, str], top: int, skip: int
    ) -> dict[str, Any]:
        """A file that only has another name is one change; a folder that holds one is another."""
        came = {name: text for name, text in new.items() if old.get(name) != text}
        went = {old[name]: name for name in old if name not in new}
        changes: list[dict[str, Any]] = []
        for name, text in came.items():
            was = went.pop(text, None)
            if "/" in name:
                folder = name.partition("/")[0]
                changes.append({"item": {"path": f"/{folder}", "isFolder": True}})
            moved = {} if was is None else {"originalPath": f"/{was}"}
            changes.append({"item": {"path": f"/{name}"}, **moved})
        changes += [{"item": {"path": f"/{name}"}} for name in went.values()]
        some = changes[skip : skip + top]
        return {"allChangesIncluded": skip + top >= len(changes), "changes": some}

    def _with_labels(self, pull: dict[str, Any]) -> dict[str, Any]:
        tags = self.tags[pull["pullRequestId"]]
        return {**pull, "labels": tags} if tags else pull


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    place: OfflineAzure

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        try:
            self._answer()
        except ConnectionError:
            raise  # A client that did not wait.
        except Exception as problem:
            self.place.invalid.append(repr(problem))
            raise

    def _answer(self) -> None:
        place, parts = self.place, urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        with place.lock:
            if self.headers.get("Authorization") not in TAKEN:
                return self._sign_in()
            longest = max((_units(one) for one in _texts(body)), default=0)
            if longest > LARGEST:
                said = f"A discussion comment cannot be longer than {LARGEST} characters."
                return self._error(400, said)
            try:
                operation, at = described(self.command, parts.path, query, body)
            except NotDescribed as problem:
                place.invalid.append(str(problem))
                return self._error(400, str(problem))
            place.seen.append(operation.name)
            odd = place.before(operation.name) if place.before else None
            if odd is not None:
                return self._send(odd.status, odd.body, odd.kind, odd.headers)
            if operation.scope and operation.scope not in place.permissions:
                return self._error(
                    403,
                    f"TF401027: You need the Git '{operation.scope}' permission to perform this "
                    f"action. Details: identity 'Build\\{identity(BOT)['id']}', scope "
                    "'repository'.",
                )
            try:
                answer = place.ask(operation.name, at, query, body)
            except (KeyError, ValueError):
                return self._error(404, "TF401180: The requested pull request was not found.")
            for one in answer if operation.page else [answer]:
                if operation.answer is not None:
                    fits(operation.name, operation.answer, one)
            if operation.page:
                top, skip = int(query.get("$top", 1000)), int(query.get("$skip", 0))
                some = answer[skip : skip + top]
                answer = {"value": some, "count": len(some)}
            if place.lose == operation.name:
                place.lose = ""
                self.close_connection = True
                return None
            data = b"" if operation.answer is None else json.dumps(answer).encode()
        return self._send(200, data)

    def _sign_in(self) -> None:
        """For reading and making a page, for all else an error (azure-devops-auth-samples #52)."""
        if self.command in ("GET", "POST"):
            return self._send(203, SIGN_IN, "text/html; charset=utf-8")
        return self._error(401, "TF400813: The user '' is not authorized to access this resource.")

    def _error(self, status: int, message: str) -> None:
        error = {"$id": "1", "innerException": None, "message": message, "errorCode": 0}
        self._send(status, json.dumps(error).encode())

    def _send(
        self,
        status: int,
        data: bytes,
        kind: str = "application/json; charset=utf-8",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve


def _texts(body: Any) -> Iterator[str]:
    """The comments of a body."""
    if isinstance(body, dict):
        for comment in (body, *body.get("comments", ())):
            if isinstance(comment.get("content"), str):
                yield comment["content"]


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@contextlib.contextmanager
def offline_azure() -> Iterator[OfflineAzure]:
    """An Azure DevOps on loopback."""
    place = OfflineAzure()
    handler = type("Handler", (_Handler,), {"place": place})
    with listening(handler) as server:
        place.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield place
