"""The deployer's child: Chalice's planner, sweeper and executor, fed with a sealed graph.

It holds AWS credentials and never sees the app's code: the application graph comes as JSON, the
packages as paths of zips. Started with `-I -B -c` from an environment of its own; it answers these
verbs on its pipe, one at a time:

    {"do": "begin", "environ": {...}}             AWS's variables; once and first, not answered
    {"do": "identify"}                            who the credentials are, and the region
    {"do": "plan", "target": T}                   what would be done; reads only
    {"do": "apply", "target": T, "expected": E}   does exactly that, if it is what is to be done

`apply` plans anew, unless this child has just planned that very target: whoever else deploys with
this tool meanwhile takes the stage's lease away, and any other change can also come a moment later.

A target is `{"graph": document or null, "packages": {slot: {"path", "sha256"}}, "resources":
[...], "delete_logs": bool}` with the deployed resources of Chalice's state file; without a graph
everything recorded is deleted, with `delete_logs` the log groups too. Before its answer, `apply`
asks: once for the whole plan, then before each call that changes something; it tells at once of
each resource that stands or is gone, so that a parent whose child is killed still knows what there
is.

Standard library and chalice only; runs on Python 3.10 and later.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader
from chalice.awsclient import AWSClientError

from . import codec
from .calls import Calls, Ended, Pipe, Refused, Stopped
from .client import Client
from .execution import Run
from .pace import WIDEST_READS
from .packages import PackageBucket
from .planning import Planned, make_plan

FRESH_SECONDS = 60.0
"""For how long a plan counts as just made."""

_PR_SET_DUMPABLE = 4


def main(read_fd: int, write_fd: int) -> int:
    """Answer verbs until the parent closes its end; the exit code is 0 then."""
    pipe = Pipe(read_fd, write_fd)
    pipe.listen_to_signals()
    _shut_others_out()
    # Before there is anything to do: the parent builds the app meanwhile.
    models = _read_models()
    try:
        begin = pipe.receive()
        if begin is None:
            return 0
        os.environ.update(begin["environ"])
        deployer = _Deployer(pipe, models)
        while True:
            request = pipe.receive()
            if request is None:
                return 0
            pipe.send(deployer.answer(request))
    except Stopped:
        return 0


def _shut_others_out() -> None:
    """Let no other process of this user read this one's memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0)


def _read_models() -> Loader:
    """Read what botocore knows of the services that every deploy asks, as long as nobody waits.

    The clients that are made for it have no keys and make no call.
    """
    loader = create_loader(None)
    session = botocore.session.Session()
    for file in ("config_file", "credentials_file"):
        session.set_config_variable(file, os.devnull)
    session.register_component("data_loader", loader)
    for service in ("sts", "lambda", "iam"):
        session.create_client(
            service, "us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
        )
    return loader


class _Made:
    """A plan that was made, for which target, and when it was begun."""

    def __init__(self, target: str, planned: Planned, client: Client, begun: float) -> None:
        self._target = target
        self._begun = begun
        self.planned = planned
        self.client = client

    def is_for(self, target: Mapping[str, Any]) -> bool:
        """Whether it is what would be planned for this target now."""
        fresh = time.monotonic() - self._begun < FRESH_SECONDS
        return fresh and self._target == _text_of(target)


class _Deployer:
    def __init__(self, pipe: Pipe, models: Loader) -> None:
        self._pipe = pipe
        self._calls = Calls(pipe)
        self._session = botocore.session.Session()
        if not os.environ.get("AWS_DATA_PATH"):
            self._session.register_component("data_loader", models)
        self._session.set_default_client_config(Config(max_pool_connections=WIDEST_READS))
        self._calls.watch(self._session)
        self._clients: dict[str, Any] = {}
        self._made: _Made | None = None
        self._account = ""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            verb = request["do"]
            if verb == "identify":
                return {"answer": self._identify()}
            if verb == "plan":
                return {"answer": self._plan(request)}
            if verb == "apply":
                return {"answer": self._apply(request)}
            return {"failure": {"kind": "protocol", "message": f"unknown verb {verb!r}"}}
        except Exception as error:
            return {"failure": _failure(error)}
        except Ended as error:
            return {"failure": _failure(error)}

    def _identify(self) -> dict[str, Any]:
        region = self._session.get_config_variable("region")
        if not region:
            raise botocore.exceptions.NoRegionError
        said = self._session.create_client("sts").get_caller_identity()
        self._account = str(said["Account"])
        return {"account": said["Account"], "arn": said["Arn"], "region": region}

    def _client(self, target: Mapping[str, Any]) -> Client:
        client = Client(self._session, self._pipe, self._clients)
        if target.get("package_bucket"):
            client.bucket = PackageBucket(
                lambda: client.service("s3"),
                target["package_bucket"],
                owner=self._account or self._identify()["account"],
                sleep=self._pipe.sleep,
            )
        return client

    def _plan(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._calls.where = None
        begun = time.monotonic()
        client = self._client(request["target"])
        planned = make_plan(request["target"], client)
        self._made = _Made(_text_of(request["target"]), planned, client, begun)
        return {"operations": [operation.document() for operation in planned.operations()]}

    def _planned(self, target: Mapping[str, Any]) -> tuple[Planned, Client]:
        """The plan that was just made for this target, once; else a new one."""
        made, self._made = self._made, None
        if made is not None and made.is_for(target):
            for package in made.planned.packages:
                package.check()
            return made.planned, made.client
        client = self._client(target)
        return make_plan(target, client), client

    def _apply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._calls.where = None
        planned, client = self._planned(request["target"])
        client.poll_seconds = float(request["poll_seconds"])
        operations = list(planned.operations())
        found = Counter((o.method, o.resource) for o in operations)
        expected = Counter((str(method), str(name)) for method, name in request["expected"])
        if found != expected:
            return {
                "unexpected": sorted((found - expected).elements()),
                "missing": sorted((expected - found).elements()),
            }
        review = [operation.document() for operation in operations]
        self._pipe.ask(lambda: {"review": review})
        run = Run(client, self._pipe, self._calls, planned)
        try:
            run.execute()
        except Ended as error:
            return {"complete": False, "failure": _failure(error), "unswept": run.unswept()}
        except Exception as error:
            return {"complete": False, "failure": _failure(error), "unswept": run.unswept()}
        return {"complete": True, "resources": run.resource_values}


def _text_of(target: Mapping[str, Any]) -> str:
    return json.dumps(target, sort_keys=True)


def _failure(error: BaseException) -> dict[str, Any]:
    """Say in data what went wrong; a traceback of what nobody expected goes to stderr."""
    kind, code = _kind(error)
    if kind == "chalice":
        traceback.print_exception(type(error), error, error.__traceback__)
    return {
        "kind": kind,
        "code": code,
        "type": type(error).__name__,
        "message": _words(error)[:4000],
        "operation": str(getattr(error, "operation_name", "")),
    }


def _kind(error: BaseException) -> tuple[str, str]:
    original = getattr(error, "original_error", error)
    if isinstance(error, Refused):
        return "refused", ""
    if isinstance(error, Stopped):
        return "stopped", ""
    if isinstance(original, botocore.exceptions.ClientError):
        return "aws", str(original.response.get("Error", {}).get("Code", ""))
    if isinstance(
        error,
        (
            botocore.exceptions.NoCredentialsError,
            botocore.exceptions.PartialCredentialsError,
            botocore.exceptions.CredentialRetrievalError,
            botocore.exceptions.ProfileNotFound,
        ),
    ):
        return "credentials", ""
    if isinstance(error, botocore.exceptions.NoRegionError):
        return "region", ""
    if isinstance(original, (AWSClientError, botocore.exceptions.BotoCoreError)):
        return "aws", ""
    if isinstance(error, codec.CodecError):
        return "graph", ""
    return "chalice", ""


def _words(error: BaseException) -> str:
    if isinstance(error, (AWSClientError, botocore.exceptions.ClientError)):
        # Chalice words its own errors well; what makes the words is slow to import.
        from chalice.deploy.deployer import ChaliceDeploymentError

        return str(ChaliceDeploymentError(error)).removeprefix("ERROR - ")
    return str(error) or type(error).__name__
