"""A small Bitbucket Cloud: repositories in memory behind HTTP, held to its description.

Pages have `next`, ids of commits in a pull request are cut to twelve digits, a comment that was
deleted is still listed as such, errors have the described form.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from offline_bitbucket.description import NotDescribed, described, fits
from support.loopback import listening

REPOSITORY = "octo/orders"
BOT, HUMAN = "chalice-ci", "grace"
TOKEN = "a-token-of-the-repository"
SCOPES = ("account", "repository:write", "pullrequest:write")


def account(nickname: str) -> dict[str, Any]:
    kind = "app_user" if nickname == BOT else "user"
    number = uuid.uuid5(uuid.NAMESPACE_DNS, nickname)
    return {
        "type": kind,
        "uuid": f"{{{number}}}",
        "display_name": nickname.title(),
        "nickname": nickname,
    }


@dataclass(kw_only=True)
class OfflineBitbucket:
    """What is there; tests change it directly, as people do on the site."""

    url: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[str, list[Any]] = field(default_factory=dict)
    branches: list[str] = field(default_factory=lambda: ["main"])
    restrictions: list[dict[str, Any]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    scopes: tuple[str, ...] = SCOPES
    before: Callable[[str], tuple[int, dict[str, str]] | None] | None = None
    """Answers in the place of the operation of a name: a status and headers."""
    lose: str = ""
    """The operation whose next answer gets lost after it was done."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def commit(self) -> str:
        made = uuid.uuid4().hex + uuid.uuid4().hex[:8]
        self.commits.add(made)
        return made

    def end(self, commit: str, branch: str, repository: str | None = REPOSITORY) -> dict[str, Any]:
        place = None
        if repository is not None:
            number = uuid.uuid5(uuid.NAMESPACE_URL, repository)
            place = {"full_name": repository, "uuid": f"{{{number}}}"}
        return {"branch": {"name": branch}, "commit": {"hash": commit[:12]}, "repository": place}

    def pull_request(self, *, repository: str | None = REPOSITORY) -> int:
        number = next(self.numbers)
        self.pulls[number] = {
            "type": "pullrequest",
            "id": number,
            "title": "Faster search",
            "state": "OPEN",
            "draft": False,
            "author": account(HUMAN),
            "source": self.end(self.commit(), "change", repository),
            "destination": self.end(self.commit(), "main"),
            "merge_commit": None,
            "links": {
                "html": {"href": f"https://bitbucket.org/{REPOSITORY}/pull-requests/{number}"}
            },
        }
        self.comments[number] = []
        return number

    def comment(self, number: int, body: str, who: str) -> dict[str, Any]:
        made = next(self.numbers)
        found = {
            "type": "pullrequest_comment",
            "id": made,
            "content": {"raw": body},
            "user": account(who),
            "deleted": False,
            "links": {
                "html": {"href": f"{self.pulls[number]['links']['html']['href']}#comment-{made}"}
            },
        }
        self.comments[number].append(found)
        return found

    def ask(self, name: str, at: dict[str, str], query: dict[str, str], body: Any) -> Any:
        """What an operation gives; KeyError when there is no such thing."""
        number = int(at.get("id") or 0)
        match name:
            case "user":
                return account(BOT)
            case "commit":
                (whole,) = [one for one in self.commits if one.startswith(at["commit"])]
                return {"hash": whole}
            case "branch":
                assert at["branch"] in self.branches
                return {"name": at["branch"], "type": "branch"}
            case "restrictions":
                return self.restrictions
            case "pulls":
                state = query.get("state", "OPEN")
                return [one for one in self.pulls.values() if one["state"] == state][::-1]
            case "pull":
                return self.pulls[number]
            case "comments":
                return self.comments[number]
            case "comment":
                assert number in self.pulls
                return self.comment(number, body["content"]["raw"], BOT)
            case "edit" | "delete":
                found = {c["id"]: c for c in self.comments[number] if not c["deleted"]}
                comment = found[int(at["comment"])]
                if name == "delete":
                    comment["deleted"] = True
                else:
                    comment["content"]["raw"] = body["content"]["raw"]
                return comment
            case "status":
                self.statuses.append({**body, "commit": at["commit"]})
                return body
            case "report":
                self.reports[at["commit"]] = body
                return {"type": "report", **body}
            case "no_report":
                self.annotations.pop(at["commit"], None)
                del self.reports[at["commit"]]
                return None
            case "annotations":
                self.annotations.setdefault(at["commit"], []).extend(body)
                return body
        raise AssertionError(name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    place: OfflineBitbucket

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        place, parts = self.place, urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        with place.lock:
            try:
                operation, at = described(self.command, parts.path, query, body)
            except NotDescribed as problem:
                place.invalid.append(str(problem))
                return self._error(400, str(problem))
            place.seen.append(operation.name)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._error(401, "Token is invalid, expired, or not supported.")
            if not any(operation.scope in (s, s.partition(":")[0]) for s in place.scopes):
                detail = {"required": [operation.scope], "granted": list(place.scopes)}
                return self._error(403, "Your credentials lack one or more scopes.", detail)
            odd = place.before(operation.name) if place.before else None
            if odd is not None:
                return self._error(odd[0], "Odd", headers=odd[1])
            try:
                answer = place.ask(operation.name, at, query, body)
            except (KeyError, AssertionError, ValueError):
                return self._error(404, "Resource not found")
            if operation.page:
                for one in answer:
                    fits(operation.name, operation.answer, one)
                answer = self._page(answer, query, parts.path)
            elif operation.answer is not None:
                fits(operation.name, operation.answer, answer)
            if place.lose == operation.name:
                place.lose = ""
                self.close_connection = True
                return None
            data = b"" if operation.status == 204 else json.dumps(answer).encode()
        return self._send(operation.status, data, {})

    def _page(self, values: list[Any], query: dict[str, str], path: str) -> dict[str, Any]:
        size, page = int(query.get("pagelen", 10)), int(query.get("page", 1))
        answer = {"values": values[(page - 1) * size : page * size], "page": page, "pagelen": size}
        if page * size < len(values):
            following = urlencode({**query, "page": page + 1})
            answer["next"] = f"{self.place.url.removesuffix('/2.0')}{path}?{following}"
        return answer

    def _error(
        self,
        status: int,
        message: str,
        detail: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        error = {"message": message} | ({"detail": detail} if detail else {})
        data = json.dumps({"type": "error", "error": error}).encode()
        self._send(status, data, headers or {})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _serve


@contextlib.contextmanager
def offline_bitbucket() -> Iterator[OfflineBitbucket]:
    """A Bitbucket on loopback."""
    place = OfflineBitbucket()
    handler = type("Handler", (_Handler,), {"place": place})
    with listening(handler) as server:
        place.url = f"http://127.0.0.1:{server.server_address[1]}/2.0"
        yield place
