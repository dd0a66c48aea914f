"""Lambda proxy integration: a request as an event, and a function's result as an answer. Pure."""

from __future__ import annotations

import base64
import gzip
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from chalice_ci.local.routes import Match


@dataclass(frozen=True, kw_only=True)
class Request:
    """An HTTP request below a stage; `path` is percent-encoded and starts with a slash."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str

    def header(self, name: str) -> str | None:
        """The last value of a header, or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return values[-1] if values else None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A REST API's stage as it was deployed."""

    api_id: str
    name: str
    region: str
    account: str
    binary_types: Sequence[str]
    minimum_compression: int | None
    routes: Sequence[Mapping[str, Any]]
    api_keys: Sequence[str]

    def method_arn(self, method: str, path: str) -> str:
        """What a policy of an authorizer speaks about."""
        return (
            f"arn:aws:execute-api:{self.region}:{self.account}:{self.api_id}"
            f"/{self.name}/{method}/{path.lstrip('/')}"
        )


def event(
    stage: Stage, request: Request, match: Match, authorizer: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The event of version 1.0 that API Gateway sends to a function."""
    query = parse_qsl(request.query, keep_blank_values=True)
    binary = _is_binary(request.header("content-type"), stage.binary_types)
    body: str | None = None
    if request.body:
        body = (
            base64.b64encode(request.body).decode()
            if binary
            else request.body.decode("utf-8", "replace")
        )
    request_id = str(uuid.uuid4())
    now = time.time()
    context: dict[str, Any] = {
        "resourceId": match.route["resourceId"],
        "resourcePath": match.route["path"],
        "httpMethod": request.method,
        "extendedRequestId": uuid.uuid4().hex[:16],
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "path": f"/{stage.name}{request.path}",
        "accountId": stage.account,
        "protocol": "HTTP/1.1",
        "stage": stage.name,
        "domainPrefix": stage.api_id,
        "requestTimeEpoch": int(now * 1000),
        "requestId": request_id,
        "identity": {
            "accessKey": None,
            "accountId": None,
            "apiKey": request.header("x-api-key"),
            "caller": None,
            "sourceIp": request.source_ip,
            "user": None,
            "userAgent": request.header("user-agent"),
            "userArn": None,
        },
        "domainName": f"{stage.api_id}.execute-api.{stage.region}.amazonaws.com",
        "apiId": stage.api_id,
    }
    if authorizer is not None:
        context["authorizer"] = dict(authorizer)
    return {
        "resource": match.route["path"],
        "path": request.path,
        "httpMethod": request.method,
        "headers": dict(request.headers) or None,
        "multiValueHeaders": _several(request.headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _several(query),
        "pathParameters": dict(match.parameters) or None,
        "stageVariables": None,
        "requestContext": context,
        "body": body,
        "isBase64Encoded": binary and body is not None,
    }


def answer(result: object, stage: Stage, request: Request) -> Answer | None:
    """The HTTP answer for a function's result; None when it is malformed, which is a 502."""
    if not isinstance(result, dict):
        return None
    try:
        status = int(result.get("statusCode", 200))
    except (TypeError, ValueError):
        return None
    headers = _answer_headers(result)
    text = result.get("body")
    if headers is None or not isinstance(text, str | None):
        return None
    body = (text or "").encode()
    if result.get("isBase64Encoded") and _accepts_binary(request, stage.binary_types):
        try:
            body = base64.b64decode(body, validate=True)
        except ValueError:
            return None
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    if _compresses(stage, request, headers, body):
        body = gzip.compress(body, mtime=0)
        headers.append(("Content-Encoding", "gzip"))
    return Answer(status=status, headers=headers, body=body)


def _answer_headers(result: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    single = result.get("headers") or {}
    several = result.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(several, dict):
        return None
    found = [
        (str(name), str(value))
        for name, values in several.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    named = {name.lower() for name, _ in found}
    found += [(str(n), str(value)) for n, value in single.items() if str(n).lower() not in named]
    # Nothing in a header may start another one.
    return [(n, v) for n, v in found if not {"\r", "\n"} & set(n + v)]


def _several(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]] | None:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found or None


def _media_type(text: str) -> str:
    return text.split(";", 1)[0].strip().lower()


def _is_binary(content_type: str | None, binary_types: Sequence[str]) -> bool:
    known = {kind.lower() for kind in binary_types}
    return "*/*" in known or (content_type is not None and _media_type(content_type) in known)


def _accepts_binary(request: Request, binary_types: Sequence[str]) -> bool:
    # API Gateway looks at the first media type of the Accept header only.
    accepted = (request.header("accept") or "").split(",")[0]
    return _is_binary(accepted, binary_types)


def _compresses(
    stage: Stage, request: Request, headers: Sequence[tuple[str, str]], body: bytes
) -> bool:
    if stage.minimum_compression is None or len(body) < stage.minimum_compression:
        return False
    if any(name.lower() == "content-encoding" for name, _ in headers):
        return False
    return "gzip" in (request.header("accept-encoding") or "").lower()
