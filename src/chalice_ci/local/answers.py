"""Errors in the shape that each AWS protocol gives them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from chalice_ci.local.operations import Operation

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]+)</Code>")

Answer = tuple[int, list[tuple[str, str]], bytes]


def error(
    operation: Operation, environ: Mapping[str, Any], *, status: int, code: str, message: str
) -> Answer:
    """An error answer as the operation's service would write it."""
    if operation.service == "s3":
        body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        return status, [("Content-Type", "application/xml")], body.encode()
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
            f"<Message>{escape(message)}</Message></Error>"
            "<RequestId>embedded</RequestId></ErrorResponse>"
        )
        return status, [("Content-Type", "text/xml")], body.encode()
    document = {"__type": code, "message": message, "Message": message}
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)]
    return status, headers, json.dumps(document).encode()


def error_code(status: int, headers: list[tuple[str, str]], body: bytes) -> str:
    """AWS's code in an error answer, empty when it is none."""
    if status < 400:
        return ""
    for name, value in headers:
        if name.lower() == "x-amzn-errortype":
            return value.partition(":")[0]
    if found := _CODE.search(body):
        return found[1].decode()
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    return str(document.get("__type", "")) if isinstance(document, dict) else ""
