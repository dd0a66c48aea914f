"""Sessions of roles end: their credentials are refused once their time is over, as on AWS.

moto keeps them for ever. The shortest session of AWS lasts 15 minutes; `LocalMode.session` makes
all of them shorter, so that a test need not wait for the end of one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from chalice_ci.local import answers
from chalice_ci.local.answers import Answer
from chalice_ci.local.operations import Operation

_KEY = re.compile(rb"<AccessKeyId>([^<]+)</AccessKeyId>")
_END = re.compile(rb"<Expiration>([^<]+)</Expiration>")
_CODES = {"lambda": "ExpiredTokenException", "sts": "ExpiredTokenException"}


class Sessions:
    """The ends of the sessions that STS gave here; `seconds` above 0 is how long each lasts."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._turn = threading.Lock()
        self._ends: dict[str, float] = {}

    def given(self, operation: Operation, answer: Answer) -> Answer:
        """STS's answer, with the end of the session that it gives."""
        status, headers, body = answer
        key, end = _KEY.search(body), _END.search(body)
        if operation.service != "sts" or status >= 400 or key is None or end is None:
            return answer
        moment = datetime.fromisoformat(end[1].decode().replace("Z", "+00:00")).timestamp()
        if self._seconds:
            moment = self._clock() + self._seconds
            told = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
            body = body.replace(end[1], told)
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        with self._turn:
            self._ends[key[1].decode()] = moment
        return status, headers, body

    def refusal(self, operation: Operation, environ: Mapping[str, Any]) -> Answer | None:
        """AWS's answer to credentials whose time is over; None when it is not."""
        authorization = str(environ.get("HTTP_AUTHORIZATION", ""))
        key = authorization.partition("Credential=")[2].partition("/")[0]
        with self._turn:
            end = self._ends.get(key)
        if end is None or self._clock() < end:
            return None
        return answers.error(
            operation,
            environ,
            status=403,
            code=_CODES.get(operation.service, "ExpiredToken"),
            message="The security token included in the request is expired",
        )
