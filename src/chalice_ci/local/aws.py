"""The embedded AWS from the outside: start it, reach it, end it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from chalice_ci.errors import UsageError
from chalice_ci.local import process
from chalice_ci.local.mode import LocalMode

DEFAULT_REGION = "us-east-1"

# The account that moto plays.
ACCOUNT = "123456789012"


def missing_extra(module: str) -> UsageError:
    """What to tell a user whose installation lacks the extra."""
    return UsageError(
        f"the embedded AWS needs {module}, which is not installed",
        where="--local",
        fix="pip install 'chalice-ci[local]'",
    )


def require_extra() -> None:
    """Raise UsageError unless the extra is installed."""
    for module in ("moto", "flask", "flask_cors"):
        if importlib.util.find_spec(module) is None:
            raise missing_extra(module)


def client_environ(endpoint_url: str, region: str = DEFAULT_REGION) -> dict[str, str]:
    """The variables that lead every AWS client to the embedded AWS, and nowhere else."""
    return {
        "AWS_ACCESS_KEY_ID": "embedded",
        "AWS_SECRET_ACCESS_KEY": "embedded",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def server_environ() -> dict[str, str]:
    """The environment of the server and of all that it starts: nothing of the caller's."""
    return {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ACCESS_KEY_ID": "embedded",
        "AWS_SECRET_ACCESS_KEY": "embedded",
    }


def server_command(mode: LocalMode, *options: str) -> list[str]:
    """The command line of the server."""
    return [sys.executable, "-P", "-m", "chalice_ci.local", *mode.arguments(), *options]


def gateway_options(pythons: Mapping[str, Path] | None, cache_dir: Path | None) -> list[str]:
    """The options of the server that are for the gateway."""
    found = [f"--python={version}={path}" for version, path in (pythons or {}).items()]
    if cache_dir is not None:
        found.append(f"--cache-dir={cache_dir}")
    return found


class Endpoint:
    """A running embedded AWS that somebody else may have started."""

    def __init__(self, *, endpoint_url: str, gateway_url: str, region: str) -> None:
        self.endpoint_url = endpoint_url
        self.gateway_url = gateway_url
        self.region = region

    @property
    def environ(self) -> dict[str, str]:
        """`AWS_*` variables for whoever should talk to this AWS; they replace all others."""
        return client_environ(self.endpoint_url, self.region)

    def local_url(self, rest_api_id: str, stage: str) -> str:
        """Where the gateway serves a REST API's stage, with a slash at the end."""
        return f"{self.gateway_url}/{rest_api_id}/{stage}/"

    def local_url_of(self, execute_api_url: str) -> str:
        """The local form of a real URL, `https://<id>.execute-api.<region>.amazonaws.com/<stage>/...`."""
        parts = urlsplit(execute_api_url)
        api_id, _, rest = (parts.hostname or "").partition(".")
        if not rest.startswith("execute-api."):
            raise ValueError(f"{execute_api_url} is not a URL of API Gateway")
        query = f"?{parts.query}" if parts.query else ""
        return f"{self.gateway_url}/{api_id}{parts.path}{query}"

    def health(self) -> dict[str, Any]:
        """Who is serving, since when, in which mode."""
        return self._ask("health")

    def calls(self) -> list[dict[str, Any]]:
        """The API calls served so far, in order."""
        found: list[dict[str, Any]] = self._ask("calls")["calls"]
        return found

    def forget_calls(self) -> None:
        """Start the journal of calls anew."""
        self._ask("calls", {})

    def order_faults(self, faults: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
        """Replace the standing orders for faults; none ends them all. See `faults.Fault`."""
        ordered: list[dict[str, Any]] = self._ask("faults", {"faults": list(faults)})["faults"]
        return ordered

    def faults(self) -> list[dict[str, Any]]:
        """The standing orders, with how often each was seen, fired and is holding a call."""
        found: list[dict[str, Any]] = self._ask("faults")["faults"]
        return found

    def release_faults(self) -> None:
        """Let go of every call that hangs."""
        self._ask("faults/release", {})

    def copy(self, *, throttle: float = 0.0, seed: int = 0) -> Copy:
        """Make an AWS that holds what this one holds now; each goes on by itself.

        Nobody may call this one meanwhile. `throttle` is the share of calls that the copy refuses
        as too many, chosen by `seed`. A context manager that ends the copy; it ends with its
        original anyway.
        """
        made = self._ask("copies", {"throttle": throttle, "seed": seed})
        return Copy(endpoint_url=made["endpoint_url"], region=self.region, pid=made["pid"])

    def package(self, name: str) -> bytes:
        """The zip of a function (by name, in this region) or of a layer's version (by its ARN).

        AWS hands out a presigned address for it; moto's leads nowhere.
        """
        path = f"layers/{name}" if ":layer:" in name else f"functions/{self.region}/{name}/code"
        return _request(f"{self.endpoint_url}/chalice-ci/{path}", None)

    def reset(self) -> None:
        """Delete everything that was made in this AWS, and the journal."""
        _request(f"{self.endpoint_url}/moto-api/reset", b"")
        self.forget_calls()

    def _ask(self, path: str, document: object = None) -> dict[str, Any]:
        body = None if document is None else json.dumps(document).encode()
        answer: dict[str, Any] = json.loads(
            _request(f"{self.endpoint_url}/chalice-ci/{path}", body)
        )
        return answer


def _request(url: str, body: bytes | None) -> bytes:
    # No proxy of the environment stands between us and loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, data=body)
    try:
        with opener.open(request, timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(error.read().decode("utf-8", "replace")) from None


class Copy(Endpoint):
    """A copy of an embedded AWS in a process of its own, without a gateway."""

    def __init__(self, *, endpoint_url: str, region: str, pid: int) -> None:
        super().__init__(endpoint_url=endpoint_url, gateway_url="", region=region)
        self.pid = pid

    def stop(self) -> None:
        """End it; it has nothing to clean up."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class EmbeddedAWS(Endpoint):
    """An AWS of one's own: it lives as long as this object, at most as long as this process.

    Nothing outlives it: moto keeps everything in memory.
    """

    def __init__(
        self, running: subprocess.Popen[bytes], ready: Mapping[str, str], *, region: str, log: Path
    ) -> None:
        super().__init__(
            endpoint_url=ready["endpoint_url"], gateway_url=ready["gateway_url"], region=region
        )
        self._process = running
        self._owned: Path | None = None
        self.log = log
        self.pid = running.pid

    @classmethod
    def start(
        cls,
        mode: LocalMode | None = None,
        *,
        region: str = DEFAULT_REGION,
        log: Path | None = None,
        gateway: bool = True,
        pythons: Mapping[str, Path] | None = None,
        cache_dir: Path | None = None,
        without_gaps: Sequence[str] = (),
    ) -> EmbeddedAWS:
        """Start it and wait until it answers; use it as a context manager.

        `log` is a file that gets what the server says; without one it is a temporary file that
        is removed at the end. `pythons` maps versions ("3.12") to the interpreters that run
        functions of that runtime. `cache_dir` is where root may keep a copy of one that another
        user can run. `without_gaps` leaves gaps of moto open, for the gaps' own tests.
        """
        require_extra()
        owned = None
        if log is None:
            owned = Path(tempfile.mkdtemp(prefix="chalice-ci-aws-"))
            log = owned / "server.log"
        try:
            running, ready = process.start(
                server_command(
                    mode or LocalMode(),
                    "--until-eof",
                    *(() if gateway else ("--no-gateway",)),
                    *gateway_options(pythons, cache_dir),
                    *(f"--without-gap={name}" for name in without_gaps),
                ),
                environ=server_environ(),
                log=log,
            )
        except BaseException:
            if owned is not None:
                shutil.rmtree(owned, ignore_errors=True)
            raise
        aws = cls(running, ready, region=region, log=log)
        aws._owned = owned
        return aws

    def stop(self) -> None:
        """End it; nothing happens when it has ended already."""
        process.end(self._process)
        if self._owned is not None:
            shutil.rmtree(self._owned, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.stop()
