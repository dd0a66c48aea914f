"""Does the deployed stage answer as `smoke` in chalice-ci.yml says?"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chalice_ci import __version__
from chalice_ci.config import SmokeCheck
from chalice_ci.errors import SmokeFailed
from chalice_ci.report.report import Failure, Result, Smoke
from chalice_ci.route import Job
from chalice_ci.run import Run

ATTEMPTS = 6
TIMEOUT_SECONDS = 15.0
"""To connect, and to wait for more of an answer."""
WHOLE_SECONDS = 60.0
"""For an answer as a whole: longer than a Lambda function behind an API may take."""
_MAX_BODY = 1 << 20

Ask = Callable[[str], tuple[int | None, str]]
"""GET an address: the status and the body, or None and why nothing came."""


class _EveryStatus(urllib.request.HTTPErrorProcessor):
    """Leaves every answer as it is: an error is one, and so is a redirect."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:  # noqa: ARG002
        return response

    https_response = http_response


def get(url: str, *, seconds: float = WHOLE_SECONDS) -> tuple[int | None, str]:
    """GET over HTTP; redirects are not followed, they are an answer."""
    until = time.monotonic() + seconds
    request = urllib.request.Request(url, headers={"User-Agent": f"chalice-ci/{__version__}"})
    try:
        opener = urllib.request.build_opener(_EveryStatus)
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            body = bytearray()
            while len(body) < _MAX_BODY and (part := answer.read1(_MAX_BODY - len(body))):
                body += part
                if time.monotonic() > until:
                    return None, f"its body did not end within {seconds:g} s"
            return answer.status, body.decode("utf-8", "replace")
    except http.client.HTTPException as error:
        # Its words may be the server's.
        return None, f"it is no whole HTTP ({type(error).__name__})"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return None, str(error)


def check_url(
    base: str, wanted: SmokeCheck, *, ask: Ask = get, sleep: Callable[[float], None] = time.sleep
) -> Smoke:
    """One check, repeated with growing pauses (1, 2, 4, ... s): a new stage may need a moment."""
    url = f"{base.rstrip('/')}/{wanted.path.lstrip('/')}"
    status, message = None, ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(2.0 ** (attempt - 1))
        status, body = ask(url)
        message = _objection(wanted, status, body)
        if not message:
            return Smoke(path=wanted.path, passed=True, status=status)
    return Smoke(path=wanted.path, passed=False, status=status, message=message)


def _objection(wanted: SmokeCheck, status: int | None, body: str) -> str:
    if status is None:
        return f"no answer: {body}"
    if status != wanted.status:
        return f"answered {status}, expected {wanted.status}"
    if wanted.contains is not None and wanted.contains not in body:
        return "the body does not contain the expected text"
    return ""


def reachable(result: Result, url: str, *, ask: Ask = get) -> Result:
    """The result if its address answers with anything but an error of the server.

    A root without a route answers 403 or 404: the stage is up all the same.
    """
    status, message = None, ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2.0 ** (attempt - 1))
        status, message = ask(url)
        if status is not None and status < 500:
            return replace(result, smoke=(Smoke(path="/", passed=True, status=status),))
    said = f"no answer: {message}" if status is None else f"answered {status}"
    error = SmokeFailed(
        f"the preview is deployed, but {url} does not work: {said}.",
        where=f"{result.app}/{result.stage}",
        fix="Look at its logs: chalice-ci state pull, then chalice logs.",
    )
    failed = Smoke(path="/", passed=False, status=status, message=said)
    return replace(result, smoke=(failed,), failure=Failure.of(error))


def smoke_checks(run: Run, job: Job, result: Result, *, ask: Ask = get) -> Result:
    """The result with the stage's smoke checks; a failure when one of them failed."""
    checks = job.policy.smoke if job.policy else ()
    base = next((url.address for url in result.urls if url.kind == "rest"), None)
    if base is None:
        error = SmokeFailed(
            "smoke checks are configured, but the stage has no REST API to ask.",
            where=job.name,
            fix=f"Remove stages.{job.stage}.smoke from chalice-ci.yml.",
        )
        return replace(result, failure=Failure.of(error))
    done = tuple(check_url(base, wanted, ask=ask) for wanted in checks)
    for one in done:
        verdict = "passed" if one.passed else f"failed: {one.message}"
        run.progress.say(f"smoke {one.path}: {verdict}", job=job.name)
    failed = [one for one in done if not one.passed]
    if not failed:
        return replace(result, smoke=done)
    error = SmokeFailed(
        f"{len(failed)} of {len(done)} smoke checks failed: "
        + "; ".join(f"{one.path} {one.message}" for one in failed),
        where=job.name,
        fix="The stage is deployed and recorded. Look at its logs (chalice-ci state pull, then "
        "chalice logs), or deploy an earlier commit again.",
    )
    return replace(result, smoke=done, failure=Failure.of(error))
