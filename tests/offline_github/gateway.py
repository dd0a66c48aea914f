"""The one door to the offline GitHub: every request and answer is checked, counted, can fail.

Requests go through GitHub's official description before they reach the emulator, answers before
they reach the client. What the emulator lacks is kept here (`deployments.py`,
`graphql.py`). Where it differs from GitHub its answer is mended; `EXCEPTIONS` lists all of that.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from offline_github.deployments import Deployments
from offline_github.description import Description, Exchange, Route, description
from offline_github.emulate import ADMIN, Emulator, emulating
from offline_github.graphql import GraphQL, asked_for
from offline_github.settings import KeptSettings
from support.loopback import listening

ENTERPRISE = "/api/v3"
STALL_SECONDS = 4.0

EXCEPTIONS = (
    (
        "POST /graphql",
        "not in the REST description; checked against GitHub's published GraphQL schema, executed "
        "here on the emulator's git objects",
    ),
    ("deployments, environments", "the emulator has none; kept here, checked like the rest"),
    ("settings of branches and Actions", "the emulator lacks them; the description's examples"),
    ("an error that an operation does not describe", "checked as an error with a message"),
    ("accounts in answers", "the emulator leaves out addresses of an organization; filled in"),
    ("a repository's counts", "the emulator leaves out two; filled in with 0"),
    ("a commit of nobody it knows", "the emulator says null where the description has {}"),
    ("a pull request's head", "the emulator keeps the first commit; the branch's is filled in"),
    ("a label without description", 'the emulator says null where the description has text; ""'),
    ("a ref's address", "the emulator says /git/ref/ where GitHub says /git/refs/; replaced"),
    ("403", "the emulator says \"Forbidden\"; an installation's token hears GitHub's words"),
    ("an unknown token", "the emulator takes it for its first user; answered with 401"),
    ("faults", "an answer that a test asked for is not checked"),
)
"""Where this is not simply the emulator behind the description, and why."""

_ACCOUNT_ADDRESSES = {
    "url": "",
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}


class Failure(StrEnum):
    """What a fault does to a request."""

    BAD_TOKEN = "401"
    NO_PERMISSION = "403 permission"
    LIMITED_403 = "403 Retry-After"
    LIMITED_429 = "429 Retry-After"
    LIMITED_QUERY = "200 RATE_LIMITED"
    """How GraphQL says it."""
    MISSING = "404"
    CONFLICT = "409"
    REFUSED = "422"
    BROKEN = "500"
    BAD_GATEWAY = "502"
    TIMEOUT = "timeout"
    CUT = "cut body"
    STRANGE = "another shape"
    NOTHING = "no document"
    REDIRECT = "redirect to a metadata address"
    FOREIGN = "addresses on another host"


@dataclass(kw_only=True)
class Fault:
    """`times` requests that match fail; `landed` when they have taken effect before."""

    failure: Failure
    method: str = ""
    path: str = ""
    """A part of the operation's path in the description."""
    times: int = 1
    landed: bool = False
    skip: int = 0
    retry_after: str = "7"
    elsewhere: str = "http://169.254.169.254/"
    """Where a redirect or a foreign address leads."""
    status: int = 302

    def strikes(self, method: str, template: str) -> bool:
        if self.times <= 0 or self.method not in {"", method} or self.path not in template:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


READING = frozenset({"/graphql viewer", "/graphql repository"})
"""What is asked with POST and creates nothing."""


@dataclass(kw_only=True)
class Secondary:
    """GitHub's secondary limit: so many requests that create content within a minute.

    "In general, no more than 80 content-generating requests per minute": more are answered with
    403 and `Retry-After`, whatever they are about.
    """

    writes: int = 80
    seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    passed: deque[float] = field(default_factory=deque)
    refused: int = 0

    def strikes(self, method: str, template: str) -> Fault | None:
        if method == "GET" or template in READING:
            return None
        now = self.clock()
        while self.passed and self.passed[0] <= now - self.seconds:
            self.passed.popleft()
        if len(self.passed) < self.writes:
            self.passed.append(now)
            return None
        self.refused += 1
        wait = math.ceil(self.passed[0] + self.seconds - now)
        return Fault(failure=Failure.LIMITED_403, retry_after=str(wait))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    template: str
    status: int
    """0 when no answer was given."""
    body: bytes
    authorization: str

    @property
    def operation(self) -> str:
        return f"{self.method} {self.template}"


@dataclass(frozen=True, kw_only=True)
class Invalid:
    """A request or an answer that is not as GitHub describes it."""

    side: str
    operation: str
    errors: tuple[str, ...]


@dataclass(kw_only=True)
class OfflineGitHub:
    """What a test holds: the address, what passed, and the emulator behind."""

    url: str
    emulator: Emulator
    deployments: Deployments
    settings: KeptSettings
    seen: list[Seen] = field(default_factory=list)
    invalid: list[Invalid] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    secondary: Secondary | None = None
    total: Counter[str] = field(default_factory=Counter)
    """Every operation since the start, also what a test has forgotten."""

    def fail(self, failure: Failure, **where: Any) -> Fault:
        """Let a coming request fail."""
        fault = Fault(failure=failure, **where)
        self.faults.append(fault)
        return fault

    def forget(self) -> None:
        """Drop faults and what was seen; what is invalid stays."""
        self.faults.clear()
        self.secondary = None
        self.seen.clear()

    def counted(self) -> Counter[str]:
        """How often each operation was asked for."""
        return Counter(one.operation for one in self.seen)

    @property
    def environ(self) -> dict[str, str]:
        """What a runner would set."""
        return {"GITHUB_API_URL": self.url, "GITHUB_SERVER_URL": self.url}


@contextmanager
def offline_github(folder: Path, *, host: str = "127.0.0.1") -> Iterator[OfflineGitHub]:
    """An emulator behind the gateway; `host` is the address to listen on and to name."""
    with listening(BaseHTTPRequestHandler, host=host) as server:
        url = f"http://{host}:{server.server_port}"
        with emulating(folder, base_url=url) as emulator:
            gateway = _Gateway(url, emulator, description())
            server.RequestHandlerClass = gateway.handler()
            try:
                yield gateway.github
            finally:
                gateway.closing.set()


@dataclass(kw_only=True)
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def of(cls, status: int, document: Any, **headers: str) -> _Answer:
        body = b"" if document is None else json.dumps(document).encode()
        return cls(status=status, body=body, headers=dict(headers))


class _Gateway:
    def __init__(self, url: str, emulator: Emulator, known: Description) -> None:
        self.closing = threading.Event()
        self._url = url
        self._emulator = emulator
        self._known = known
        self._turn = threading.Lock()
        self._queries = GraphQL()
        deployments = Deployments(url, user=self._account, resolve=self._resolve)
        settings = KeptSettings(examples=known.examples)
        self.github = OfflineGitHub(
            url=url, emulator=emulator, deployments=deployments, settings=settings
        )

    def handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two writes: the second would wait 40 ms for the first's receipt.
            disable_nagle_algorithm = True

            def log_message(self, format: str, *arguments: object) -> None:
                """Quiet."""

            def do(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                if len(body) < size:
                    raise ConnectionAbortedError("the client went away")
                gateway.serve(self, body)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do

        return Handler

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        enterprise = handler.path.startswith("/api/")
        target = handler.path.removeprefix(ENTERPRISE)
        target = "/graphql" if target == "/api/graphql" else target
        authorization = handler.headers.get("Authorization") or ""
        exchange = Exchange(
            method=handler.command,
            target=target,
            body=body,
            content_type=handler.headers.get("Content-Type") or "application/json",
        )
        route = self._known.route(exchange)
        template = route.template if route else exchange.path
        if template == "/graphql":
            template = f"/graphql {asked_for(body)}"
        fault = self._fault(exchange.method, template)
        answer: _Answer | None = None
        if fault is None or fault.landed or fault.failure is Failure.FOREIGN:
            answer = self._answer(exchange, route, authorization)
            if enterprise:
                # The server's addresses have the prefix; the emulator does not know it.
                answer.body = answer.body.replace(
                    f"{self._url}/repos".encode(), f"{self._url}{ENTERPRISE}/repos".encode()
                )
                answer.headers = {
                    name: value.replace(f"{self._url}/", f"{self._url}{ENTERPRISE}/")
                    for name, value in answer.headers.items()
                }
        if fault is not None:
            handler.close_connection = True
            answer = _failed(fault, answer)
        seen = Seen(
            method=exchange.method,
            path=exchange.path,
            template=template,
            status=answer.status if answer else 0,
            body=body,
            authorization=authorization,
        )
        # Before anything is sent: a test may look as soon as it has its answer.
        with self._turn:
            self.github.seen.append(seen)
            self.github.total[seen.operation] += 1
        if answer is None:
            self.closing.wait(STALL_SECONDS)
        else:
            _send(handler, answer, cut=fault is not None and fault.failure is Failure.CUT)

    def _fault(self, method: str, template: str) -> Fault | None:
        with self._turn:
            found = next((f for f in self.github.faults if f.strikes(method, template)), None)
            limit = self.github.secondary
            return found or (limit and limit.strikes(method, template))

    def _answer(self, exchange: Exchange, route: Route | None, authorization: str) -> _Answer:
        """The checked answer to a checked request."""
        token = authorization.partition(" ")[2]
        login = self._emulator.tokens.get(token, "")
        if token and not login:
            return _Answer.of(401, {"message": "Bad credentials", "status": "401"})
        if exchange.path == "/graphql":
            return self._graphql(exchange, login, token)
        if route is None:
            self._complain("request", f"{exchange.method} {exchange.path}", ["no such operation"])
            return _Answer.of(404, {"message": "Not Found"})
        errors = self._known.request_errors(exchange, route)
        if errors:
            self._complain("request", route.name, errors)
            return _Answer.of(422, {"message": "Invalid request.\n\n" + "\n".join(errors)})
        answer = self._kept(exchange, login, token) or self._forwarded(exchange, authorization)
        errors = self._known.response_errors(
            exchange, route, answer.status, answer.body, answer.content_type
        )
        if errors:
            self._complain("answer", route.name, errors)
        return answer

    def _kept(self, exchange: Exchange, login: str, token: str) -> _Answer | None:
        """What is kept here."""
        granted = self._emulator.permissions.get(token)

        def may(what: str, access: str) -> bool:
            # People of this organization may do everything; a job's token what it was given.
            if granted is None:
                return bool(login)
            return granted.get(what) in ({"write"} if access == "write" else {"read", "write"})

        document = json.loads(exchange.body) if exchange.body else None
        found = self.github.settings.answer(exchange.method, exchange.path, may=may)
        found = found or self.github.deployments.answer(
            exchange.method, exchange.path, exchange.query, document, login=login, may=may
        )
        if found is None:
            return None
        status, made = found
        headers = {}
        if isinstance(made, list):
            size, page = int(exchange.query.get("per_page", 30)), int(exchange.query.get("page", 1))
            if page * size < len(made):
                following = f"{self._url}{exchange.path}?per_page={size}&page={page + 1}"
                others = "".join(
                    f"&{name}={value}"
                    for name, value in exchange.query.items()
                    if name not in {"per_page", "page"}
                )
                headers["Link"] = f'<{following}{others}>; rel="next"'
            made = made[(page - 1) * size : page * size]
        return _Answer.of(status, made, **headers)

    def _forwarded(self, exchange: Exchange, authorization: str) -> _Answer:
        sent = {"Authorization": authorization} if authorization else {}
        status, headers, body = self._emulator.send(
            exchange.method, exchange.target, exchange.body, sent
        )
        kept = {
            name: value
            for name, value in headers.items()
            if name == "link" or name.startswith("x-ratelimit")
        }
        answer = _Answer(status=status, body=body, headers=kept)
        if body:
            document = self._mended(json.loads(body))
            installation = authorization.partition(" ")[2] in self._emulator.permissions
            if status == 403 and installation and document.get("message") == "Forbidden":
                document["message"] = "Resource not accessible by integration"
            answer.body = json.dumps(document).encode()
        return answer

    def _mended(self, found: Any) -> Any:
        """An answer of the emulator as GitHub would give it."""
        if isinstance(found, list):
            return [self._mended(one) for one in found]
        if not isinstance(found, dict):
            return found
        mended = {name: self._mended(value) for name, value in found.items()}
        if "login" in mended and "avatar_url" in mended:
            address = f"{self._url}/users/{mended['login']}"
            defaults = {name: address + end for name, end in _ACCOUNT_ADDRESSES.items()}
            mended = {**defaults, "gravatar_id": "", **mended}
        if "forks_count" in mended:
            mended = {"network_count": 0, "subscribers_count": 0, **mended}
        if "mergeable_state" in mended or ("head" in mended and "base" in mended):
            self._follow(mended)
        if "commit" in mended and "parents" in mended:
            mended |= {who: mended.get(who) or {} for who in ("author", "committer")}
        if "color" in mended and mended.get("description", "") is None:
            mended["description"] = ""
        if str(mended.get("ref", "")).startswith("refs/") and "object" in mended:
            mended["url"] = mended["url"].replace("/git/ref/", "/git/refs/")
        return mended

    def _follow(self, pull: dict[str, Any]) -> None:
        for end in ("head", "base") if pull.get("state") == "open" else ():
            repository, ref = pull[end].get("repo"), pull[end]["ref"]
            sha = repository and self._resolve(repository["full_name"], ref)
            pull[end]["sha"] = sha or pull[end]["sha"]

    def _graphql(self, exchange: Exchange, login: str, token: str) -> _Answer:
        if not login:
            return _Answer.of(401, {"message": "This endpoint requires you to be authenticated."})

        def send(method: str, path: str, document: Any) -> tuple[int, Any]:
            return self._emulator.ask(method, path, document, token=token)

        viewer = {"login": login, "databaseId": self._account(login)["id"]}
        answered = self._queries.answer(exchange.body, viewer=viewer, send=send)
        if answered.invalid:
            self._complain("request", "POST /graphql", list(answered.invalid))
        return _Answer.of(answered.status, answered.document)

    def _account(self, login: str) -> dict[str, Any]:
        found: dict[str, Any] = self._mended(self._emulator.user(login))
        return found

    def _resolve(self, repository: str, ref: str) -> str | None:
        """The commit of a branch or of a commit."""
        token = self._emulator.token_of(ADMIN)
        for path in (f"git/commits/{ref}", f"git/ref/heads/{ref}", f"git/ref/tags/{ref}"):
            if path.startswith("git/commits") and not re.fullmatch("[0-9a-f]{40}", ref):
                continue
            status, found = self._emulator.ask("GET", f"/repos/{repository}/{path}", token=token)
            if status == 200:
                sha: str = found["sha"] if "sha" in found else found["object"]["sha"]
                return sha
        return None

    def _complain(self, side: str, operation: str, errors: list[str]) -> None:
        with self._turn:
            self.github.invalid.append(
                Invalid(side=side, operation=operation, errors=tuple(errors))
            )


def _send(handler: BaseHTTPRequestHandler, answer: _Answer, *, cut: bool) -> None:
    if cut and not answer.body:
        return
    handler.send_response(answer.status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    if answer.body or answer.status != 204:
        handler.send_header("Content-Type", f"{answer.content_type}; charset=utf-8")
        handler.send_header("Content-Length", str(len(answer.body)))
    if handler.close_connection:
        handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)


def _failed(fault: Fault, answer: _Answer | None) -> _Answer | None:
    """What a client hears instead; None when it hears nothing."""
    failure = fault.failure
    limited = {
        "message": "You have exceeded a secondary rate limit. Please wait a few minutes "
        "before you try again."
    }
    match failure:
        case Failure.TIMEOUT:
            return None
        case Failure.BAD_TOKEN:
            return _Answer.of(401, {"message": "Bad credentials"})
        case Failure.NO_PERMISSION:
            return _Answer.of(403, {"message": "Resource not accessible by integration"})
        case Failure.LIMITED_403:
            return _Answer.of(403, limited, **{"Retry-After": fault.retry_after})
        case Failure.LIMITED_429:
            return _Answer.of(429, limited, **{"Retry-After": fault.retry_after})
        case Failure.LIMITED_QUERY:
            said = {"type": "RATE_LIMITED", "message": "API rate limit exceeded"}
            return _Answer.of(200, {"errors": [said]}, **{"Retry-After": fault.retry_after})
        case Failure.MISSING:
            return _Answer.of(404, {"message": "Not Found"})
        case Failure.CONFLICT:
            return _Answer.of(409, {"message": "Git Repository is empty."})
        case Failure.REFUSED:
            detail = {"resource": "IssueComment", "code": "unprocessable", "message": "is refused"}
            return _Answer.of(422, {"message": "Validation Failed", "errors": [detail]})
        case Failure.BROKEN:
            return _Answer.of(500, {"message": "Server Error"})
        case Failure.BAD_GATEWAY:
            page = b"<html><h1>502 Bad Gateway</h1></html>"
            return _Answer(status=502, body=page, content_type="text/html")
        case Failure.REDIRECT:
            return _Answer.of(fault.status, {"message": "Moved"}, Location=fault.elsewhere)
        case Failure.CUT:
            return answer or _Answer.of(200, {"message": "this is not all of it"})
        case Failure.STRANGE:
            strange = {"id": {}, "number": "x", "body": 3, "state": [], "object": 1, "data": []}
            return _Answer.of(200, strange)
        case Failure.NOTHING:
            page = b"<html>Please sign in to the network.</html>"
            return _Answer(status=200, body=page, content_type="text/html")
        case Failure.FOREIGN:
            assert answer is not None
            answer.headers = {"Link": f'<{fault.elsewhere}?page=2>; rel="next"'}
            host = fault.elsewhere.rstrip("/")
            answer.body = re.sub(rb"http://127[.0-9]+:[0-9]+", host.encode(), answer.body)
            return answer
    raise ValueError(failure)


def report(github: OfflineGitHub) -> str:
    """The count of requests and of invalid ones, for people."""
    lines = [f"{github.total.total()} requests, {len(github.invalid)} invalid"]
    lines += [f"{count:5} {operation}" for operation, count in sorted(github.total.items())]
    lines += [f"invalid {i.side} {i.operation}: {'; '.join(i.errors)}" for i in github.invalid]
    return "\n".join(lines)
