"""`/chalice-ci/...`: what tests, the demo and the gateway ask of the embedded AWS itself.

| path | GET | POST |
|---|---|---|
| `/chalice-ci/health` | who is serving, since when, in which mode | |
| `/chalice-ci/calls` | the calls served so far | forgets them |
| `/chalice-ci/copies` | | makes a copy of this AWS as it is now: `{"throttle": 0.3, "seed": 1}` |
| `/chalice-ci/faults` | the standing orders | replaces them: `{"faults": [...]}` |
| `/chalice-ci/faults/release` | | lets go of every call that hangs |
| `/chalice-ci/rest-apis/<id>/<stage>` | what the gateway needs to serve a stage | |
| `/chalice-ci/functions/<region>/<name>` | a function's configuration | |
| `/chalice-ci/functions/<region>/<name>/code` | its package | |
| `/chalice-ci/layers/<arn>` | a layer's package | |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from moto.core.exceptions import JsonRESTError

from chalice_ci.local import deployed
from chalice_ci.local.faults import Faults
from chalice_ci.local.front import json_answer
from chalice_ci.local.journal import Journal

ROOT = "/chalice-ci/"


class Control:
    """The WSGI application behind `/chalice-ci/`."""

    def __init__(
        self,
        *,
        health: Callable[[], dict[str, object]],
        copy: Callable[[Mapping[str, Any]], dict[str, object]],
    ) -> None:
        self._health = health
        self._copy = copy
        self.journal: Journal
        self.faults: Faults

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Serve one request."""
        method = environ["REQUEST_METHOD"]
        parts = [unquote(part) for part in environ["PATH_INFO"][len(ROOT) :].split("/")]
        try:
            return self._serve(method, parts, environ, start_response)
        except JsonRESTError as error:
            return json_answer(start_response, {"message": str(error)}, status="404 Not Found")
        except ValueError as error:
            return json_answer(start_response, {"message": str(error)}, status="400 Bad Request")

    def _serve(
        self,
        method: str,
        parts: list[str],
        environ: dict[str, Any],
        start_response: Callable[..., Any],
    ) -> Iterable[bytes]:
        match method, parts:
            case "GET", ["health"]:
                document: object = self._health()
            case "GET", ["calls"]:
                document = {"calls": self.journal.as_list()}
            case "POST", ["calls"]:
                self.journal.clear()
                document = {"calls": []}
            case "POST", ["copies"]:
                document = self._copy(_document(environ))
            case "GET", ["faults"]:
                document = {"faults": self.faults.as_list()}
            case "POST", ["faults"]:
                document = {"faults": self.faults.order(_orders(environ))}
            case "POST", ["faults", "release"]:
                self.faults.release()
                document = {"faults": self.faults.as_list()}
            case "GET", ["rest-apis", api_id, stage]:
                document = deployed.rest_api(api_id, stage)
            case "GET", ["functions", region, name]:
                document = deployed.function(region, name)
            case "GET", ["functions", region, name, "code"]:
                return _bytes(start_response, deployed.code(region, name))
            case "GET", ["layers", *arn]:
                return _bytes(start_response, deployed.layer("/".join(arn)))
            case _:
                return json_answer(
                    start_response, {"message": "no such path"}, status="404 Not Found"
                )
        return json_answer(start_response, document)


def _document(environ: dict[str, Any]) -> dict[str, Any]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("give a JSON object")
    return document


def _orders(environ: dict[str, Any]) -> list[dict[str, Any]]:
    orders = _document(environ).get("faults")
    if not isinstance(orders, list) or not all(isinstance(order, dict) for order in orders):
        raise ValueError('give {"faults": [...]}')
    return orders


def _bytes(start_response: Callable[..., Any], content: bytes) -> Iterable[bytes]:
    start_response(
        "200 OK",
        [("Content-Type", "application/zip"), ("Content-Length", str(len(content)))],
    )
    return [content]
