"""The token with which a job proves to others who it is.

A job of GitHub Actions that has `permissions: id-token: write` finds an address and a secret for it
in its environment; the token names the repository, the ref, the environment and the workflow, and
is good for some minutes. Source: GitHub's documentation, "OpenID Connect reference".

Other systems hand the token over itself, made for AWS: it is given on as CHALICE_CI_ID_TOKEN (in
GitLab by `id_tokens: {CHALICE_CI_ID_TOKEN: {aud: sts.amazonaws.com}}`). AWS looks at its audience.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

from chalice_ci.errors import AWSError

GIVEN = "CHALICE_CI_ID_TOKEN"
ADDRESS, SECRET = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
ATTEMPTS = 4
TIMEOUT_SECONDS = 20.0
_MAX_BODY = 1 << 16
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class _Stay(urllib.request.HTTPRedirectHandler):
    """The secret goes to the address that the runner gave, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


def may_ask(env: Mapping[str, str]) -> bool:
    """Whether the job was given a token, or what it takes to ask for one."""
    return bool(env.get(GIVEN) or (env.get(ADDRESS) and env.get(SECRET)))


def fetch_token(
    env: Mapping[str, str], audience: str, *, sleep: Callable[[float], None] = time.sleep
) -> str:
    """A token for `audience`; raises AWSError when there is none to be had.

    What may pass - no answer, an error of the server - is tried again with growing pauses.
    """
    if not may_ask(env):
        raise AWSError(
            "the job may not ask GitHub for an OIDC token.",
            where=ADDRESS,
            fix="Give the job `permissions: id-token: write` (and `contents: read` beside it: what "
            "is not named is taken away). A called workflow's caller has to give it too. Elsewhere "
            f"set {GIVEN} to a token of the job's for the audience {audience}.",
        )
    if given := env.get(GIVEN):
        return given
    address = urllib.parse.urlsplit(env[ADDRESS])
    if address.scheme != "https" and address.hostname not in _LOOPBACK:
        raise AWSError(
            "the address for OIDC tokens is no https address, so the job's secret is not sent.",
            where=ADDRESS,
            fix="Run on GitHub's runner, which sets it.",
        )
    query = f"{address.query}&" if address.query else ""
    asked = address._replace(query=f"{query}audience={urllib.parse.quote(audience, safe='')}")
    request = urllib.request.Request(
        asked.geturl(), headers={"Authorization": f"bearer {env[SECRET]}"}
    )
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(2.0 ** (attempt - 1))
        token, problem, passing = _ask(request)
        if token:
            return token
        if not passing:
            break
    raise AWSError(
        f"GitHub gave no OIDC token: {problem}.",
        where=ADDRESS,
        fix="Run the job again; if it stays so, see that it has `permissions: id-token: write`.",
    )


def _ask(request: urllib.request.Request) -> tuple[str, str, bool]:
    """A token, or what went wrong and whether that may pass."""
    try:
        opened = urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT_SECONDS)
        with opened as answer:
            body = answer.read(_MAX_BODY + 1)
    except urllib.error.HTTPError as error:
        with error:
            return "", f"it answered {error.code}", error.code >= 500 or error.code == 429
    except (urllib.error.URLError, OSError, ValueError) as error:
        return "", f"it cannot be reached ({getattr(error, 'reason', error)})", True
    try:
        token = json.loads(body)["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", "its answer holds none", True
    if not isinstance(token, str) or not token or len(body) > _MAX_BODY:
        return "", "its answer holds none", True
    return token, "", False
