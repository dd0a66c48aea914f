"""Chalice's client for AWS, made fit for production: it changes only what differs, and it waits
no longer than it must.

Chalice uploads the code of every function on every deploy, sets every setting, and sleeps five
seconds at a time. Here a function is looked at first, then only its code, its settings or its tags
are changed; waits look often at first and then less often, and end when Chalice's would.

Used by several threads at once. Standard library, botocore and chalice only; Python 3.10.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from chalice import awsclient
from chalice.awsclient import AWSClientError, TypedAWSClient

from . import settings
from .calls import Pipe

# Lambda's waiters: five minutes, however often they look.
LAMBDA_WAIT_SECONDS = 300.0
FIRST_POLL_SECONDS = 0.25
_SLOWER = 1.5

# Each attempt to use a role that is not known everywhere yet uploads the package again.
_LARGE_UPLOAD = 4 * 1024 * 1024
# Botocore keeps some five copies of a package while it sends it.
_BYTES_ON_THE_WAY = 24 * 1024 * 1024


class WaitError(AWSClientError):
    """A function did not become what it should within the time."""


class Client(TypedAWSClient):
    """One client per deploy; `poll_seconds` is the longest step of a wait."""

    def __init__(self, session: Any, pipe: Pipe, poll_seconds: float, clients: Any) -> None:
        # Chalice asks for "data_loader" here and gets a new one, which reads AWS's endpoints anew
        # for each of these clients. The session has read them.
        awsclient.create_loader = session.get_component  # type: ignore[attr-defined]
        super().__init__(session, sleep=pipe.sleep)
        self._client_cache = clients
        self._poll_seconds = poll_seconds
        self._wait = pipe.sleep
        self._making = threading.Lock()
        self._uploads = _Uploads()
        self._roles = _Roles()
        self._known: dict[str, dict[str, Any]] = {}
        self._definitions: dict[str, Any] = {}

    def service(self, name: str) -> Any:
        """Return botocore's client of a service."""
        return self._client(name)

    def _client(self, service_name: str) -> Any:
        # A session of botocore's makes one client at a time.
        with self._making:
            return super()._client(service_name)

    # -- looking ------------------------------------------------------------------------------

    def remember(self, functions: Mapping[str, dict[str, Any]]) -> None:
        """Take what GetFunction said of functions, {} for those that do not exist."""
        self._known.update(functions)

    def forget(self) -> None:
        """Look anew from here on."""
        self._known.clear()

    def look_at(self, function: str) -> dict[str, Any]:
        """Return what GetFunction says now; {} when there is no such function."""
        client = self._client("lambda")
        try:
            return dict(client.get_function(FunctionName=function))
        except client.exceptions.ResourceNotFoundException:
            return {}

    def known(self, function: str) -> dict[str, Any]:
        """Return what is remembered of a function, or look."""
        if function not in self._known:
            self._known[function] = self.look_at(function)
        return self._known[function]

    def lambda_function_exists(self, name: str) -> bool:
        """Whether there is a function of that name."""
        return bool(self.known(name))

    # -- functions ----------------------------------------------------------------------------

    def create_function(self, *_: Any, **wanted: Any) -> str:
        """Create a function; waits until it is active."""
        with self._uploads.of(len(wanted["zip_contents"])):
            arn, state = self._create_lambda_function(self._creation(wanted))
        if state != "Active":
            self._wait_for_active(wanted["function_name"])
        return arn

    def _creation(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "FunctionName": wanted["function_name"],
            "Code": {"ZipFile": wanted["zip_contents"]},
            **settings.wanted(wanted, self._vpc(wanted)),
            **({} if wanted.get("tags") is None else {"Tags": wanted["tags"]}),
            **(
                {"Architectures": [wanted["architecture"]]}
                if wanted.get("architecture") is not None
                else {}
            ),
        }

    def _vpc(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        subnets, groups = wanted.get("subnet_ids"), wanted.get("security_group_ids")
        if subnets is None or groups is None:
            return None
        return {"SubnetIds": subnets, "SecurityGroupIds": groups}

    def _create_lambda_function(self, api_args: dict[str, Any]) -> tuple[str, str]:
        # One function finds out when a new role can be used, the others wait for that.
        with self._roles.of(api_args["Role"]):
            created: tuple[str, str] = super()._create_lambda_function(api_args)
        return created

    def update_function(self, *_: Any, **wanted: Any) -> dict[str, Any]:
        """Change what differs of a function: its code, its settings, its tags."""
        name = wanted["function_name"]
        live = self._settled(name, self.known(name) or self.look_at(name))
        if settings.code_differs(live["Configuration"], wanted):
            with self._uploads.of(len(wanted["zip_contents"])):
                self._update_function_code(
                    **_understood(
                        super()._update_function_code,
                        function_name=name,
                        zip_contents=wanted["zip_contents"],
                        architecture=wanted.get("architecture"),
                    )
                )
        changed = settings.differing(live["Configuration"], wanted, self._vpc(wanted))
        if changed:
            self._do_update_function_config(name, changed)
        arn = live["Configuration"]["FunctionArn"]
        if wanted.get("tags") is not None and wanted["tags"] != (live.get("Tags") or {}):
            self._update_function_tags(arn, wanted["tags"])
        return {"FunctionArn": arn}

    def _settled(self, name: str, live: dict[str, Any]) -> dict[str, Any]:
        """Return a function once it can be changed: AWS refuses while a change is going on."""
        configuration = live.get("Configuration") or {}
        if configuration.get("State", "Active") == "Pending":
            self._wait_for_active(name)
        if configuration.get("LastUpdateStatus", "Successful") == "InProgress":
            self._wait_for_function_update(name)
        return live

    def _wait_for_active(self, function_name: str) -> None:
        self._wait_for(function_name, "State", {"Active", "Inactive"})

    def _wait_for_function_update(self, function_name: str) -> None:
        self._wait_for(function_name, "LastUpdateStatus", {"Successful"})

    def _wait_for(self, function_name: str, key: str, good: set[str]) -> None:
        # botocore's waiters sleep by themselves, deaf to SIGTERM and to a dead parent.
        status = None
        for seconds in self._steps(LAMBDA_WAIT_SECONDS):
            said = self.get_function_configuration(function_name)
            status = said.get(key)
            if status in good:
                return
            if status == "Failed":
                reason = said.get(f"{key}Reason") or "no reason given"
                raise WaitError(f"function {function_name} is {key}=Failed: {reason}")
            self._wait(seconds)
        raise WaitError(f"function {function_name} is still {key}={status}")

    def _steps(self, total: float) -> Iterator[float]:
        """Yield the pauses of a wait: short ones first, `total` seconds together."""
        step, waited = min(FIRST_POLL_SECONDS, self._poll_seconds), 0.0
        while waited < total:
            yield step
            waited += step
            step = min(self._poll_seconds, step * _SLOWER)

    def _call_client_method_with_retries(self, *call: Any, **options: Any) -> Any:
        delay = options.get("delay_time", self.DELAY_TIME)
        poll = min(self._poll_seconds, delay)
        if len(call) > 1 and _upload_size(call[1]) > _LARGE_UPLOAD:
            poll = delay
        options["max_attempts"] = max(1, round(options["max_attempts"] * delay / poll))
        options["delay_time"] = poll
        return super()._call_client_method_with_retries(*call, **options)

    def delete_log_group(self, log_group_name: str) -> None:
        """Delete a log group and what is in it."""
        self._client("logs").delete_log_group(logGroupName=log_group_name)

    # -- roles --------------------------------------------------------------------------------

    def delete_role_policy(self, role_name: str, policy_name: str) -> None:
        """Delete a role's inline policy; one that is gone already is what was wanted.

        Botocore repeats a deletion whose answer was lost. The role is not gone because of that.
        """
        client = self._client("iam")
        with contextlib.suppress(client.exceptions.NoSuchEntityException):
            super().delete_role_policy(role_name, policy_name)

    # -- layers and APIs ----------------------------------------------------------------------

    def publish_layer(self, *arguments: Any, **wanted: Any) -> Any:
        """Publish a layer's version."""
        with self._uploads.of(len(wanted["zip_contents"])):
            return super().publish_layer(*arguments, **wanted)

    def import_rest_api(self, swagger_document: Any, endpoint_type: str) -> Any:
        """Make a REST API."""
        rest_api_id = super().import_rest_api(swagger_document, endpoint_type)
        self._definitions[rest_api_id] = swagger_document
        return rest_api_id

    def update_api_from_swagger(self, rest_api_id: str, swagger_document: Any) -> None:
        """Replace the definition of a REST API."""
        super().update_api_from_swagger(rest_api_id, swagger_document)
        self._definitions[rest_api_id] = swagger_document

    def deploy_rest_api(self, rest_api_id: str, api_gateway_stage: str, xray: bool) -> None:
        """Deploy a REST API to its stage.

        The deployment's description tells the next deploy which definition is live.
        """
        definition = self._definitions.get(rest_api_id)
        self._client("apigateway").create_deployment(
            restApiId=rest_api_id,
            stageName=api_gateway_stage,
            tracingEnabled=bool(xray),
            **({} if definition is None else {"description": description_of(definition)}),
        )


def description_of(definition: Any) -> str:
    """Return what the description of a REST API's deployment says of its definition."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), default=str)
    return f"chalice-ci definition sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _understood(method: Any, **arguments: Any) -> dict[str, Any]:
    """Keep the arguments that this Chalice's method has."""
    known = inspect.signature(method).parameters
    return {name: value for name, value in arguments.items() if name in known}


def _upload_size(arguments: Any) -> int:
    return len((arguments.get("Code") or {}).get("ZipFile") or b"")


class _Uploads:
    """Bounds the packages that are on their way at once: memory is not a matter of functions."""

    def __init__(self) -> None:
        self._free = _BYTES_ON_THE_WAY
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[None]:
        share = min(size, _BYTES_ON_THE_WAY)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()


class _Roles:
    """Lets one function per role go first until AWS has accepted the role."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[str, threading.Lock] = {}
        self._accepted: set[str] = set()

    @contextlib.contextmanager
    def of(self, role: str) -> Iterator[None]:
        with self._lock:
            first = self._first.setdefault(role, threading.Lock())
        if role in self._accepted:
            yield
            return
        first.acquire()
        if role in self._accepted:
            first.release()
            yield
            return
        try:
            yield
            self._accepted.add(role)
        finally:
            first.release()
