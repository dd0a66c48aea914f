"""A GitLab of one project on the loopback, for the adapter: state behind the described requests.

A request that `description.py` does not describe is answered as GitLab would (400, 404) and kept in
`invalid`, which a test holds empty. Behaviour that the adapter depends on is GitLab's: a note's
quick actions are carried out and its end is stripped, a deployment needs a commit that exists and
makes its environment, the last one of an environment and a running one can't be deleted, an
environment only when it is stopped, and the job's token does what its documentation lists.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from offline_gitlab.description import Endpoint, find, problems
from support.loopback import listening

PROJECT, PATH = 7, "shop/orders"
FORK = 8
HUMAN, BOT, MALLORY = (
    {"id": 11, "username": "grace", "name": "Grace", "state": "active"},
    {"id": 12, "username": "project_7_bot", "name": "chalice-ci", "state": "active"},
    {"id": 13, "username": "mallory", "name": "Mallory", "state": "active"},
)
TOKEN, JOB_TOKEN = "glpat-offline", "glcbt-offline"
_NOW = "2026-03-01T00:00:00.000Z"
_QUICK = re.compile(r"^/(close|merge|label|approve)\b[^\n]*\n?", re.MULTILINE)


@dataclass
class Protections:
    """What protects the project, as GitLab's lists show it.

    `groups` are those of each group, by its path; `hidden` are the lists (by the end of their path)
    that this token is not shown.
    """

    environments: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    branches: dict[str, bool] = field(default_factory=lambda: {"main": False})
    """The branches there are, and whether something protects each."""
    rules: list[dict[str, Any]] = field(default_factory=list)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    author_approves: bool = False
    project: dict[str, Any] = field(
        default_factory=lambda: {
            "namespace": {"id": 1, "kind": "group", "full_path": "shop"},
            "allow_pipeline_trigger_approve_deployment": False,
            "ci_push_repository_for_job_token_allowed": False,
        }
    )
    hidden: dict[str, int] = field(default_factory=dict)
    """The status that answers for a list that is not shown."""


Fault = Callable[[str, str], "tuple[int, Mapping[str, str]] | None"]


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class OfflineGitLab:
    """The project's state; `url` is the server's address, `fault` may answer in its place.

    `lose` says of which requests the answer is lost after they were carried out.
    """

    url: str = ""
    commits: set[str] = field(default_factory=set)
    has_commit: Callable[[str], bool] = lambda sha: False
    read_file: Callable[[str, str], bytes | None] = lambda path, ref: None
    changed: Callable[[str, str], list[str]] = lambda old, new: []
    requests: dict[int, dict[str, Any]] = field(default_factory=dict)
    notes: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    environments: dict[int, dict[str, Any]] = field(default_factory=dict)
    deployments: dict[int, dict[str, Any]] = field(default_factory=dict)
    protections: Protections = field(default_factory=Protections)
    actions: list[str] = field(default_factory=list)
    """The quick actions that notes caused."""
    seen: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    fault: Fault = lambda method, path: None
    lose: Callable[[str, str], bool] = lambda method, path: False
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(100))
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/v4"

    # -- what people do

    def commit(self) -> str:
        sha = f"{next(self.ids):040x}"
        self.commits.add(sha)
        return sha

    def merge_request(
        self, *, head: str = "", base: str = "", branch: str = "change", fork: bool = False
    ) -> int:
        with self.lock:
            number = len(self.requests) + 1
            base = base or self.commit()
            self.requests[number] = {
                "id": next(self.ids),
                "iid": number,
                "title": "A change",
                "state": "opened",
                "draft": False,
                "author": MALLORY if fork else HUMAN,
                "source_branch": branch,
                "target_branch": "main",
                "source_project_id": FORK if fork else PROJECT,
                "target_project_id": PROJECT,
                "sha": head or self.commit(),
                "merge_commit_sha": None,
                "squash_commit_sha": None,
                "labels": [],
                "web_url": f"{self.url}/{PATH}/-/merge_requests/{number}",
                "diff_refs": {"base_sha": base, "head_sha": head, "start_sha": base},
            }
            self.notes[number] = []
            return number

    def note(self, number: int, body: str, *, author: Mapping[str, Any] = HUMAN) -> int:
        """A note as it is kept, whatever it says."""
        with self.lock:
            made = {
                "id": next(self.ids),
                "body": body,
                "author": dict(author),
                "created_at": _NOW,
                "system": False,
                "internal": False,
                "noteable_type": "MergeRequest",
                "noteable_iid": number,
            }
            self.notes[number].append(made)
            return int(made["id"])

    # -- what the API does

    def answer(
        self, endpoint: Endpoint, names: Mapping[str, str], query: Any, body: Any, who: Any
    ) -> Any:
        match endpoint.name.replace("/projects/:id", ""):
            case "GET /user":
                return who
            case "GET /job":
                return {"id": 1, "name": "check", "status": "running", "user": HUMAN}
            case "GET ":
                if names["id"] == str(FORK):
                    return {"id": FORK, "path_with_namespace": "mallory/orders"}
                return {"id": PROJECT, "path_with_namespace": PATH, **self.protections.project}
            case "GET /merge_requests":
                return [
                    {k: v for k, v in each.items() if k != "diff_refs"}
                    for each in self.requests.values()
                    if query.get("state", "all") in ("all", each["state"])
                ]
            case "GET /merge_requests/:iid":
                return self._request(names)
            case "GET /merge_requests/:iid/notes":
                self._request(names)
                listed = self.notes[int(names["iid"])]
                return listed if query.get("sort") == "asc" else listed[::-1]
            case "POST /merge_requests/:iid/notes":
                self._request(names)
                number = int(names["iid"])
                made = self.note(number, self._kept(number, body["body"]), author=who)
                return next(n for n in self.notes[number] if n["id"] == made)
            case "PUT /merge_requests/:iid/notes/:note_id":
                note = self._note(names, who)
                note["body"] = self._kept(int(names["iid"]), body["body"])
                return note
            case "DELETE /merge_requests/:iid/notes/:note_id":
                self.notes[int(names["iid"])].remove(self._note(names, who))
                return None
            case "GET /repository/commits/:sha":
                return {"id": self._known(names["sha"]), "short_id": names["sha"][:8]}
            case "GET /repository/commits/:sha/merge_requests":
                sha = self._known(names["sha"])
                return [
                    {k: v for k, v in each.items() if k != "diff_refs"}
                    for each in self.requests.values()
                    if sha in (each["sha"], each["merge_commit_sha"], each["squash_commit_sha"])
                    and query.get("state", each["state"]) == each["state"]
                ]
            case "GET /repository/files/:file_path/raw":
                data = self.read_file(names["file_path"], query["ref"])
                if data is None:
                    raise Refused(404, "404 File Not Found")
                return data
            case "GET /repository/compare":
                paths = self.changed(self._known(query["from"]), self._known(query["to"]))
                diffs = [{"old_path": path, "new_path": path} for path in paths]
                return {"commits": [], "diffs": diffs, "compare_timeout": False}
            case "GET /environments":
                wanted = query.get("name")
                return [e for e in self.environments.values() if wanted in (None, e["name"])]
            case "PUT /environments/:environment_id":
                found = self._environment(names)
                found.update(body)
                return found
            case "POST /environments/:environment_id/stop":
                found = self._environment(names)
                found["state"] = "stopped"
                return found
            case "DELETE /environments/:environment_id":
                found = self._environment(names)
                if found["state"] != "stopped":
                    raise Refused(403, "403 Forbidden")
                del self.environments[found["id"]]
                for number in [n for n, d in self.deployments.items() if d["_in"] == found["id"]]:
                    del self.deployments[number]
                return None
            case "GET /deployments":
                return self._listed(query)
            case "POST /deployments":
                return self._deploy(body, who)
            case "PUT /deployments/:deployment_id":
                found = self._deployment(names)
                if found["status"] == body["status"]:
                    raise Refused(400, f"Cannot transition status via :{body['status']}")
                found["status"] = body["status"]
                return self._shown(found)
            case "DELETE /deployments/:deployment_id":
                found = self._deployment(names)
                if found["status"] == "running":
                    raise Refused(400, "Cannot destroy running deployment")
                if found["id"] == max(
                    n for n, d in self.deployments.items() if d["_in"] == found["_in"]
                ):
                    raise Refused(400, "Deployment currently deployed to environment")
                del self.deployments[found["id"]]
                return None
            case _:
                return self._protected(endpoint, names)

    def _protected(self, endpoint: Endpoint, names: Mapping[str, str]) -> Any:
        kept = self.protections
        place = endpoint.path.rpartition("/")[2]
        status = kept.hidden.get(names.get("group", place))
        if status is not None:
            raise Refused(status, f"{status} {'Forbidden' if status == 403 else 'Not Found'}")
        match place:
            case "protected_environments" if "group" in names:
                return kept.groups.get(names["group"], [])
            case "protected_environments":
                return kept.environments
            case ":branch":
                protected = kept.branches.get(names["branch"])
                if protected is None:
                    raise Refused(404, "404 Branch Not Found")
                return {"name": names["branch"], "protected": protected, "commit": {}}
            case "protected_branches":
                return kept.rules
            case "approval_rules":
                return kept.approvals
            case "approvals":
                return {"merge_requests_author_approval": kept.author_approves}
        raise AssertionError(endpoint.name)

    def _kept(self, number: int, body: str) -> str:
        body = body.replace("\r", "")
        self.actions += [found[1] for found in _QUICK.finditer(body)]
        if any(found[1] == "close" for found in _QUICK.finditer(body)):
            self.requests[number]["state"] = "closed"
        return _QUICK.sub("", body).rstrip()

    def _request(self, names: Mapping[str, str]) -> dict[str, Any]:
        found = self.requests.get(int(names["iid"]))
        if found is None:
            raise Refused(404, "404 Not found")
        return found

    def _note(self, names: Mapping[str, str], who: Mapping[str, Any]) -> dict[str, Any]:
        self._request(names)
        for note in self.notes[int(names["iid"])]:
            if note["id"] == int(names["note_id"]):
                if note["author"]["id"] != who["id"]:
                    raise Refused(403, "403 Forbidden")
                return note
        raise Refused(404, "404 Note Not Found")

    def _known(self, ref: str) -> str:
        if ref in self.commits or self.has_commit(ref):
            return ref
        raise Refused(404, "404 Commit Not Found")

    def _environment(self, names: Mapping[str, str]) -> dict[str, Any]:
        found = self.environments.get(int(names["environment_id"]))
        if found is None:
            raise Refused(404, "404 Not found")
        return found

    def _deployment(self, names: Mapping[str, str]) -> dict[str, Any]:
        found = self.deployments.get(int(names["deployment_id"]))
        if found is None:
            raise Refused(404, "404 Deployment Not Found")
        return found

    def _deploy(self, body: Mapping[str, Any], who: Any) -> dict[str, Any]:
        try:
            self._known(body["sha"])
            self._known(body["ref"])
        except Refused as refused:
            raise Refused(400, "The commit does not exist") from refused
        name = body["environment"]
        environment = next((e for e in self.environments.values() if e["name"] == name), None)
        if environment is None:
            environment = {
                "id": next(self.ids),
                "name": name,
                "slug": re.sub("[^a-z0-9]", "-", name.lower()),
                "external_url": None,
                "description": None,
                "state": "available",
                "tier": "other",
                "created_at": _NOW,
            }
            self.environments[environment["id"]] = environment
        environment["state"] = "available"
        number = next(self.ids)
        self.deployments[number] = {
            "id": number,
            "iid": number,
            "ref": body["ref"],
            "sha": body["sha"],
            "status": body["status"],
            "created_at": _NOW,
            "updated_at": _NOW,
            "user": dict(who),
            "deployable": None,
            "_in": environment["id"],
        }
        return self._shown(self.deployments[number])

    def _shown(self, found: Mapping[str, Any]) -> dict[str, Any]:
        environment = self.environments[found["_in"]]
        brief = {k: environment[k] for k in ("id", "name", "external_url")}
        return {**{k: v for k, v in found.items() if k != "_in"}, "environment": brief}

    def _listed(self, query: Mapping[str, str]) -> list[Any]:
        found = sorted(
            map(self._shown, self.deployments.values()),
            key=lambda d: d["id"],
            reverse=query.get("sort") == "desc",
        )
        named, status = query.get("environment"), query.get("status")
        return [
            each
            for each in found
            if named in (None, each["environment"]["name"]) and status in (None, each["status"])
        ]


@contextmanager
def offline_gitlab() -> Iterator[OfflineGitLab]:
    """The server, listening."""
    gitlab = OfflineGitLab()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            _serve(gitlab, self)

        do_POST = do_PUT = do_DELETE = do_GET

    with listening(Handler) as server:
        gitlab.url = f"http://127.0.0.1:{server.server_port}"
        yield gitlab


def _serve(gitlab: OfflineGitLab, handler: BaseHTTPRequestHandler) -> None:
    data = handler.rfile.read(int(handler.headers.get("Content-Length") or "0"))
    parts = urlsplit(handler.path)
    path = parts.path.removeprefix("/api/v4")
    fault = gitlab.fault(handler.command, path)
    if fault is not None:
        _send(handler, fault[0], {"message": "as the test wants"}, fault[1])
        return
    with gitlab.lock:
        status, answer, headers = _answered(gitlab, handler, path, parts.query, data)
    if gitlab.lose(handler.command, path):
        handler.close_connection = True
        return
    _send(handler, status, answer, headers)


def _answered(
    gitlab: OfflineGitLab,
    handler: BaseHTTPRequestHandler,
    path: str,
    query_string: str,
    data: bytes,
) -> tuple[int, Any, Mapping[str, str]]:
    found = find(handler.command, path)
    if found is None or not handler.path.startswith("/api/v4/"):
        gitlab.invalid.append(f"{handler.command} {path}: not described")
        return 404, {"error": "404 Not Found"}, {}
    endpoint, names = found
    gitlab.seen.append(endpoint.name)
    query = dict(parse_qsl(query_string, keep_blank_values=True))
    body = json.loads(data) if data else {}
    wrong = problems(endpoint, query, body)
    if wrong:
        gitlab.invalid += [f"{endpoint.name}: {each}" for each in wrong]
        return 400, {"error": ", ".join(wrong)}, {}
    who = _who(handler.headers, endpoint)
    if who is None:
        return 401, {"message": "401 Unauthorized"}, {}
    if names.get("id", str(PROJECT)) not in (str(PROJECT), PATH, str(FORK)):
        return 404, {"message": "404 Project Not Found"}, {}
    try:
        answer = gitlab.answer(endpoint, names, query, body, who)
    except Refused as refused:
        return refused.status, {"message": refused.message}, {}
    if answer is None:
        return 204, None, {}
    if isinstance(answer, list):
        return 200, *_page(gitlab, path, query, answer)
    created = endpoint.method == "POST" and not endpoint.path.endswith("/stop")
    return 201 if created else 200, answer, {}


def _who(headers: Any, endpoint: Endpoint) -> Any:
    """Whose token it is; the job's token is none where it is not allowed."""
    if headers.get("PRIVATE-TOKEN") == TOKEN:
        return BOT
    if headers.get("JOB-TOKEN") == JOB_TOKEN and endpoint.job:
        return HUMAN
    return None


def _page(
    gitlab: OfflineGitLab, path: str, query: Mapping[str, str], items: list[Any]
) -> tuple[list[Any], Mapping[str, str]]:
    size, number = int(query.get("per_page", "20")), int(query.get("page", "1"))
    headers = {"X-Page": str(number), "X-Per-Page": str(size), "X-Total": str(len(items))}
    if number * size < len(items):
        rest = {**query, "page": str(number + 1)}
        text = "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in rest.items())
        headers["Link"] = f'<{gitlab.api_url}{path}?{text}>; rel="next"'
        headers["X-Next-Page"] = str(number + 1)
    return items[(number - 1) * size : number * size], headers


def _send(
    handler: BaseHTTPRequestHandler, status: int, answer: Any, headers: Mapping[str, str]
) -> None:
    raw = isinstance(answer, bytes)
    content = b"" if answer is None else answer if raw else json.dumps(answer).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    if content:
        kind = "text/plain" if raw else "application/json"
        handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
