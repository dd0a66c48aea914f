"""Invoke, and events that reach a function: run in the gateway instead of in Docker."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaFunction

from chalice_ci.local.gaps.gap import Around, Gap, Method

# Set when the server starts its gateway; without one, functions can't run.
gateway_url = ""


def _invoke(
    _: Method, self: LambdaFunction, body: Any, request_headers: Any, response_headers: Any
) -> bytes:
    if (request_headers or {}).get("X-Amz-Invocation-Type") == "DryRun":
        return b""
    if not gateway_url:
        raise LambdaClientError("ServiceException", "this embedded AWS runs without its gateway")
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    url = f"{gateway_url}/chalice-ci/invoke/{self.region}/{self.function_name}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data=body or b"{}"), timeout=960) as answer:
            content: bytes = answer.read()
            failed = answer.headers.get("X-Amz-Function-Error")
    except urllib.error.HTTPError as error:
        with error:
            raise LambdaClientError("ServiceException", error.read().decode()) from None
    if failed:
        response_headers["x-amz-function-error"] = failed
    return content


GAP = Gap(
    name="invocations",
    lacks="a function runs in Docker or not at all",
    hits="`chalice invoke`, and events from S3, SNS, SQS, Kinesis and DynamoDB",
    patches=(Around(owner=LambdaFunction, name="invoke", wrapper=_invoke),),
)
