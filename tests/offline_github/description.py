"""GitHub's official description of its API, and whether requests and answers keep to it.

Stricter than the description where it is silent: a request with a query parameter or a field of
the body that the operation does not have is wrong, which GitHub itself would let pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

from offline_github.packages import installed

HOST = "https://api.github.com"
_METHODS = ("get", "put", "post", "patch", "delete", "head")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request, as it was sent."""

    method: str
    target: str
    body: bytes
    content_type: str = "application/json"

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True, kw_only=True)
class Route:
    """An operation of the description with the path's parameters."""

    template: str
    method: str
    parameters: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.method.upper()} {self.template}"


class Description:
    """The description, loaded once per process (`description()`)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._routes = sorted(
            ((path, _pattern(path, self._multi(item))) for path, item in spec["paths"].items()),
            # Words win over parameters, as on GitHub, and over the end of a parameter's path.
            key=lambda route: [*(part.startswith("{") for part in route[0].split("/")), True],
        )
        self._apis: dict[str, OpenAPI] = {}

    @property
    def examples(self) -> Mapping[str, Any]:
        """GitHub's own examples of answers, by name."""
        found: Mapping[str, Any] = self._spec["components"]["examples"]
        return found

    def route(self, exchange: Exchange) -> Route | None:
        """The operation that a request is for."""
        for template, pattern in self._routes:
            match = pattern.fullmatch(exchange.path)
            if match and exchange.method.lower() in self._spec["paths"][template]:
                values = {name: unquote(value) for name, value in match.groupdict().items()}
                return Route(template=template, method=exchange.method.lower(), parameters=values)
        return None

    def request_errors(self, exchange: Exchange, route: Route) -> list[str]:
        """What is wrong with a request."""
        operation = self._operation(route)
        named = {p["name"] for p in self._parameters(operation) if p["in"] == "query"}
        errors = [f"unknown query parameter {name}" for name in exchange.query if name not in named]
        if exchange.body and "requestBody" not in operation:
            errors.append("the operation has no body")
        try:
            self._api(route).validate_request(self._request(exchange, route))
        except OpenAPIError as error:
            errors += _words(error)
        return errors

    def response_errors(
        self, exchange: Exchange, route: Route, status: int, body: bytes, content_type: str
    ) -> list[str]:
        """What is wrong with an answer."""
        responses = self._operation(route)["responses"]
        if status >= 400 and str(status) not in responses:
            # The description names such answers for few operations; all of them can give them.
            return self._basic_error(body)
        if status == 204 and not body and "204" in responses:
            return []
        response = MockResponse(body, status_code=status, content_type=content_type)
        try:
            self._api(route).validate_response(self._request(exchange, route), response)
        except OpenAPIError as error:
            return _words(error)
        return []

    def _basic_error(self, body: bytes) -> list[str]:
        try:
            document = json.loads(body)
        except ValueError:
            return ["an error without JSON"]
        return [] if isinstance(document.get("message"), str) else ["an error without a message"]

    def _request(self, exchange: Exchange, route: Route) -> MockRequest:
        path = route.template
        for name, value in route.parameters.items():
            # What may hold slashes is one segment to the validator.
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        return MockRequest(
            HOST,
            exchange.method,
            path,
            args=exchange.query,
            view_args=dict(route.parameters),
            data=exchange.body or None,
            content_type=exchange.content_type,
        )

    def _api(self, route: Route) -> OpenAPI:
        """The description with this one path: finding it among a thousand takes longer."""
        if route.template not in self._apis:
            item = json.loads(json.dumps(self._spec["paths"][route.template]))
            for method in _METHODS:
                for content in (
                    item.get(method, {}).get("requestBody", {}).get("content", {}).values()
                ):
                    _close(content["schema"])
            spec = self._spec | {"paths": {route.template: item}}
            self._apis[route.template] = OpenAPI.from_dict(
                spec, config=Config(spec_validator_cls=None)
            )
        return self._apis[route.template]

    def _operation(self, route: Route) -> dict[str, Any]:
        found: dict[str, Any] = self._spec["paths"][route.template][route.method]
        return found

    def _multi(self, item: dict[str, Any]) -> set[str]:
        return {
            parameter["name"]
            for method in _METHODS
            if method in item
            for parameter in self._parameters(item[method])
            if parameter.get("x-multi-segment")
        }

    def _parameters(self, operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for parameter in operation.get("parameters", []):
            name = parameter.get("$ref", "").rpartition("/")[2]
            yield self._spec["components"]["parameters"][name] if name else parameter


@cache
def description() -> Description:
    """GitHub's description, as npm carries it."""
    file = installed() / "@octokit/openapi/generated/api.github.com.json"
    return Description(json.loads(file.read_text()))


def _pattern(template: str, multi: set[str]) -> re.Pattern[str]:
    def group(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{'.+' if match[1] in multi else '[^/]+'})"

    parts = re.split(r"(\{[a-z_]+\})", template)
    return re.compile(
        "".join(
            re.sub(r"\{([a-z_]+)\}", group, part) if part.startswith("{") else re.escape(part)
            for part in parts
        )
    )


def _close(schema: dict[str, Any]) -> None:
    """No other fields than the description names."""
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    for child in schema.get("properties", {}).values():
        _close(child)
    if isinstance(schema.get("items"), dict):
        _close(schema["items"])


def _words(error: Exception) -> list[str]:
    """The error and what is behind it."""
    words = []
    seen: BaseException | None = error
    while seen is not None:
        details = getattr(seen, "schema_errors", None)
        if details:
            words += [f"{'/'.join(map(str, d.absolute_path))}: {d.message[:300]}" for d in details]
        seen = seen.__cause__
    return words or [f"{type(error).__name__}: {str(error)[:300]}"]
