"""The gateway: answers HTTP for every REST API that is deployed to the embedded AWS.

`http://127.0.0.1:<port>/<rest-api-id>/<stage>/...` is served as API Gateway would serve
`https://<rest-api-id>.execute-api.<region>.amazonaws.com/<stage>/...`: routes, authorizers and
CORS from what was deployed, functions from their deployed packages. It is a process of its own and
asks the embedded AWS anew for each request, so an update is live at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chalice_ci.local import policies, process, proxy_events
from chalice_ci.local.functions import FunctionFailed, Functions, Outcome
from chalice_ci.local.policies import Verdict
from chalice_ci.local.proxy_events import Answer, Request, Stage
from chalice_ci.local.routes import Match, find_route

INVOKE = "/chalice-ci/invoke/"
_FUNCTION = ":lambda:path/2015-03-31/functions/"
_DEFAULT_TTL = 300
_BODY_LIMIT = 10 * 1024 * 1024


class Refused(Exception):
    """The request is answered by the gateway itself."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        headers = [("Content-Type", "application/json")]
        if kind:
            headers.append(("x-amzn-ErrorType", kind))
        key = "Message" if kind == "AccessDeniedException" else "message"
        self.answer = Answer(
            status=status, headers=headers, body=json.dumps({key: message}).encode()
        )


class Aws:
    """The embedded AWS as the gateway sees it."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        # No proxy of the environment stands between us and loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def fetch(self, path: str) -> bytes:
        """Get a path below `/chalice-ci/`; raises LookupError when it names nothing."""
        url = f"{self.endpoint_url}/chalice-ci/{quote(path)}"
        try:
            with self._opener.open(url, timeout=30) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise LookupError(path) from None

    def stage(self, api_id: str, name: str) -> Stage:
        """A stage as it was deployed; raises LookupError."""
        document = json.loads(self.fetch(f"rest-apis/{api_id}/{name}"))
        return Stage(
            api_id=api_id,
            name=name,
            region=document["region"],
            account=document["account"],
            binary_types=document["binaryMediaTypes"],
            minimum_compression=document["minimumCompressionSize"],
            routes=document["routes"],
            api_keys=document["apiKeys"],
        )


class Gateway:
    """Answers requests."""

    def __init__(self, aws: Aws, functions: Functions) -> None:
        self._aws = aws
        self._functions = functions
        self._lock = threading.Lock()
        self._decisions: dict[tuple[str, str, str], tuple[float, Mapping[str, Any]]] = {}

    def invoke(self, region: str, name: str, event: object) -> Outcome:
        """Invoke a function as `Invoke` does."""
        return self._functions.invoke(region, name, event)

    def answer(self, api_id: str, stage_name: str, request: Request) -> Answer:
        """Answer one request to a stage."""
        try:
            return self._answer(api_id, stage_name, request)
        except Refused as refused:
            return refused.answer

    def _answer(self, api_id: str, stage_name: str, request: Request) -> Answer:
        if (request.header("upgrade") or "").lower() == "websocket":
            raise Refused(
                501,
                "the local gateway serves REST APIs; WebSocket APIs are deployed"
                " but not served locally",
            )
        try:
            stage = self._aws.stage(api_id, stage_name)
        except LookupError:
            raise Refused(403, "Forbidden", "ForbiddenException") from None
        match = find_route(stage.routes, request.method, request.path)
        if match is None:
            raise _missing_token()
        authorizer = self._authorize(stage, request, match)
        integration = match.route["integration"]
        if integration["type"] == "MOCK":
            return _mock(integration)
        region, name = _function(integration["uri"])
        event = proxy_events.event(stage, request, match, authorizer)
        try:
            outcome = self._functions.invoke(region, name, event)
        except (FunctionFailed, LookupError) as error:
            _log(f"{request.method} {request.path}: {name}: {error}")
            raise Refused(502, "Internal server error", "InternalServerErrorException") from error
        answer = (
            None
            if outcome.error is not None
            else proxy_events.answer(outcome.result, stage, request)
        )
        if answer is None:
            _log(f"{request.method} {request.path}: {name}: malformed proxy response or error")
            raise Refused(502, "Internal server error", "InternalServerErrorException")
        return answer

    # -- who may ask ---------------------------------------------------------------------------

    def _authorize(self, stage: Stage, request: Request, match: Match) -> Mapping[str, Any] | None:
        """What an authorizer says about the caller, None without one; raises Refused."""
        route = match.route
        if route["apiKeyRequired"] and request.header("x-api-key") not in stage.api_keys:
            raise Refused(403, "Forbidden", "ForbiddenException")
        kind = route["authorizationType"]
        if kind == "NONE":
            return None
        if kind == "AWS_IAM":
            if request.header("authorization") is None:
                raise _missing_token()
            raise _unverified("signatures of AWS")
        header = str(route["authorizer"]["identitySource"]).rpartition(".")[2]
        token = request.header(header)
        if not token:
            raise _unauthorized()
        if kind == "COGNITO_USER_POOLS":
            raise _unverified("tokens of Cognito")
        return self._ask_authorizer(stage, request, route["authorizer"], token)

    def _ask_authorizer(
        self, stage: Stage, request: Request, authorizer: Mapping[str, Any], token: str
    ) -> Mapping[str, Any]:
        started = time.monotonic()
        arn = stage.method_arn(request.method, request.path)
        decision = self._decision(stage, authorizer, token, arn)
        try:
            verdict = policies.judge(decision.get("policyDocument"), arn)
        except ValueError:
            raise _misconfigured() from None
        if verdict is not Verdict.ALLOWED:
            detail = " with an explicit deny" if verdict is Verdict.DENIED else ""
            raise Refused(
                403,
                f"User is not authorized to access this resource{detail}",
                "AccessDeniedException",
            )
        return {
            "principalId": decision["principalId"],
            "integrationLatency": int((time.monotonic() - started) * 1000),
            **{
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in _context(decision).items()
            },
        }

    def _decision(
        self, stage: Stage, authorizer: Mapping[str, Any], token: str, arn: str
    ) -> Mapping[str, Any]:
        """The authorizer's answer for a token; kept for its time to live, for all methods."""
        ttl = authorizer.get("authorizerResultTtlInSeconds")
        ttl = _DEFAULT_TTL if ttl is None else int(ttl)
        region, name = _function(authorizer["authorizerUri"])
        # A new version of the function decides anew.
        version = json.loads(self._aws.fetch(f"functions/{region}/{name}"))["sha256"]
        key = (f"{stage.api_id}/{stage.name}/{authorizer['id']}", version, token)
        now = time.monotonic()
        with self._lock:
            self._decisions = {k: v for k, v in self._decisions.items() if v[0] > now}
            if key in self._decisions:
                return self._decisions[key][1]
        event = {"type": "TOKEN", "methodArn": arn, "authorizationToken": token}
        try:
            outcome = self._functions.invoke(region, name, event)
        except (FunctionFailed, LookupError) as error:
            _log(f"authorizer {name}: {error}")
            raise _misconfigured() from error
        if outcome.error is not None:
            if outcome.error.get("errorMessage") == "Unauthorized":
                raise _unauthorized()
            raise _misconfigured()
        decision = outcome.result
        if not isinstance(decision, dict) or "principalId" not in decision:
            raise _misconfigured()
        if ttl:
            with self._lock:
                self._decisions[key] = (now + ttl, decision)
        return decision


def _context(decision: Mapping[str, Any]) -> Mapping[str, Any]:
    context: object = decision.get("context")
    return context if isinstance(context, dict) else {}


def _missing_token() -> Refused:
    return Refused(403, "Missing Authentication Token", "MissingAuthenticationTokenException")


def _unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "UnauthorizedException")


def _misconfigured() -> Refused:
    return Refused(500, "Authorizer failed", "AuthorizerConfigurationException")


def _unverified(what: str) -> Refused:
    return Refused(403, f"the local gateway can't verify {what}", "AccessDeniedException")


def _function(uri: str) -> tuple[str, str]:
    """Region and name of the function in the URI of an integration or an authorizer."""
    arn = uri.partition(_FUNCTION)[2].removesuffix("/invocations")
    parts = arn.split(":")
    if len(parts) < 7:
        raise Refused(500, "Internal server error", "InternalServerErrorException")
    return parts[3], parts[6]


def _mock(integration: Mapping[str, Any]) -> Answer:
    """The answer of a MOCK integration, which is how Chalice lets API Gateway answer OPTIONS."""
    responses = integration["responses"]
    response: Mapping[str, Any] = next(iter(responses.values()), {"statusCode": "500"})
    headers = [
        (name.removeprefix("method.response.header."), value.strip("'"))
        for name, value in (response.get("responseParameters") or {}).items()
        if name.startswith("method.response.header.")
    ]
    return Answer(
        status=int(response["statusCode"]),
        headers=[*headers, ("Content-Type", "application/json")],
        body=b"",
    )


def _log(line: str) -> None:
    print(line.replace("\n", " "), file=sys.stderr, flush=True)


def _handler(gateway: Gateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "chalice-ci-gateway"
        sys_version = ""

        def log_message(self, *_: object) -> None:
            """Say nothing about requests."""

        def _serve(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or "Transfer-Encoding" in self.headers:
                self._send(Refused(400, "Bad Request", "BadRequestException").answer)
                self.close_connection = True
                return
            if int(length) > _BODY_LIMIT:
                self._send(
                    Refused(413, "Request Too Long", "RequestEntityTooLargeException").answer
                )
                self.close_connection = True
                return
            body = self.rfile.read(int(length))
            path, _, query = self.path.partition("?")
            if path.startswith(INVOKE) and self.command == "POST":
                self._send(_invoke(gateway, path[len(INVOKE) :], body))
                return
            _, _, rest = path.partition("/")
            api_id, _, rest = rest.partition("/")
            stage, _, rest = rest.partition("/")
            request = Request(
                method=self.command,
                path=f"/{rest}",
                query=query,
                headers=tuple(self.headers.items()),
                body=body,
                source_ip=str(self.client_address[0]),
            )
            self._send(gateway.answer(api_id, stage, request))

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            names = {name.lower() for name, _ in answer.headers}
            for name, value in answer.headers:
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            if "x-amzn-requestid" not in names:
                self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
            if answer.status >= 200 and answer.status not in {204, 304}:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD" and answer.status not in {204, 304}:
                self.wfile.write(answer.body)

    return Handler


def _invoke(gateway: Gateway, path: str, body: bytes) -> Answer:
    region, _, name = path.partition("/")
    headers = [("Content-Type", "application/json")]
    try:
        outcome = gateway.invoke(region, name, json.loads(body or b"{}"))
    except LookupError:
        return Refused(404, "Function not found", "ResourceNotFoundException").answer
    except FunctionFailed as error:
        outcome = Outcome(
            result=None,
            error={"errorMessage": str(error), "errorType": type(error).__name__},
        )
    if outcome.error is not None:
        return Answer(
            status=200,
            headers=[*headers, ("X-Amz-Function-Error", "Unhandled")],
            body=json.dumps(outcome.error).encode(),
        )
    return Answer(status=200, headers=headers, body=json.dumps(outcome.result).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news; anything else is."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            _log(f"{type(error).__name__}: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gateway until standard input ends or SIGTERM comes."""
    parser = argparse.ArgumentParser(prog="python -m chalice_ci.local.gateway")
    parser.add_argument("--endpoint-url", required=True, help="the embedded AWS")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--python", action="append", default=[], metavar="VERSION=PATH")
    parser.add_argument("--cache-dir", type=Path)
    options = parser.parse_args(arguments)
    os.umask(0o022)
    work_dir = Path(tempfile.mkdtemp(prefix="chalice-ci-gateway-"))
    # A function's own uid has to reach its package.
    work_dir.chmod(0o755)
    aws = Aws(options.endpoint_url)
    functions = Functions(
        fetch=aws.fetch,
        endpoint_url=options.endpoint_url,
        work_dir=work_dir,
        pythons=_pythons(options.python),
        cache_dir=options.cache_dir,
    )
    server = _Server((options.host, options.port), _handler(Gateway(aws, functions)))

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=watch, daemon=True).start()
    url = f"http://{options.host}:{server.server_port}"
    process.announce(json.dumps({"gateway_url": url, "pid": os.getpid()}))
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        functions.end()
        with contextlib.suppress(OSError):
            shutil.rmtree(work_dir)
    return 0


def _pythons(pairs: Sequence[str]) -> dict[str, Path]:
    found = {}
    for pair in pairs:
        version, _, path = pair.partition("=")
        found[version] = Path(path)
    return found


if __name__ == "__main__":
    sys.exit(main())
