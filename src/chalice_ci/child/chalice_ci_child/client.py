"""Chalice's client for AWS, made fit for production: it changes only what differs, and it waits
no longer than it must.

Chalice uploads the code of every function on every deploy, sets every setting, and sleeps five
seconds at a time. Here a function is looked at first, then only its code, its settings or its tags
are changed; waits look often at first and then less often, and end when Chalice's would.

Used by several threads at once. Standard library, botocore and chalice only; Python 3.10.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import email.utils
import hashlib
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chalice import awsclient
from chalice.awsclient import AWSClientError, ResourceDoesNotExistError, TypedAWSClient

from . import settings
from .calls import Pipe
from .pace import WIDEST_READS
from .packages import Package, PackageBucket

# Lambda's waiters: five minutes, however often they look.
LAMBDA_WAIT_SECONDS = 300.0
FIRST_POLL_SECONDS = 0.5
_SLOWER = 1.5
# GetFunction may be called a hundred times a second; half of that is left to others.
_LOOKS_A_SECOND = 50

_STAND_IN_TEXT = "The code follows as soon as the role of this function can be used.\n"


class WaitError(AWSClientError):
    """A function did not become what it should within the time."""


class WrongCodeError(AWSClientError):
    """What AWS has is not what was sent."""


class Client(TypedAWSClient):
    """One client per deploy; `poll_seconds` is the longest step of a wait."""

    poll_seconds = 1.0
    bucket: PackageBucket | None = None

    def __init__(self, session: Any, pipe: Pipe, clients: Any) -> None:
        # Chalice asks for "data_loader" here and gets a new one, which reads AWS's endpoints anew
        # for each of these clients. The session has read them.
        awsclient.create_loader = session.get_component  # type: ignore[attr-defined]
        super().__init__(session, sleep=pipe.sleep)
        self._client_cache = clients
        self._wait = pipe.sleep
        self._making = threading.Lock()
        self._waiting = _Waiting()
        self._roles = _Roles()
        self._asked: dict[tuple[str, str], concurrent.futures.Future[Any]] = {}
        self._definitions: dict[str, Any] = {}

    def service(self, name: str) -> Any:
        """Return botocore's client of a service."""
        return self._client(name)

    def _client(self, service_name: str) -> Any:
        # A session of botocore's makes one client at a time.
        with self._making:
            client = super()._client(service_name)
            # Made when they are first asked for: two threads at once would get other classes than
            # what is raised later, and nobody would catch it.
            _ = client.exceptions
            return client

    # -- looking ------------------------------------------------------------------------------

    def ask(self, service: str, operation: str, **arguments: Any) -> Any:
        """What a call that only reads says, asked once; what it raises is raised each time."""
        key = (f"{service}.{operation}", json.dumps(arguments, sort_keys=True))
        with self._making:
            first = key not in self._asked
            answer = self._asked.setdefault(key, concurrent.futures.Future())
        if first:
            try:
                answer.set_result(getattr(self._client(service), operation)(**arguments))
            except BaseException as error:
                answer.set_exception(error)
        return answer.result()

    def look_ahead(self, looks: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Ask all at once what will be asked: (service, operation, arguments)."""
        with concurrent.futures.ThreadPoolExecutor(WIDEST_READS) as pool:
            for service, operation, arguments in looks:
                pool.submit(self.ask, service, operation, **arguments)

    def look_at(self, function: str) -> dict[str, Any]:
        """Return what GetFunction says now; {} when there is no such function."""
        client = self._client("lambda")
        try:
            return dict(client.get_function(FunctionName=function))
        except client.exceptions.ResourceNotFoundException:
            return {}

    def known(self, function: str) -> dict[str, Any]:
        """Return what GetFunction said first; {} when there was no such function."""
        try:
            return dict(self.ask("lambda", "get_function", FunctionName=function))
        except self._client("lambda").exceptions.ResourceNotFoundException:
            return {}

    def lambda_function_exists(self, name: str) -> bool:
        """Whether there is a function of that name."""
        return bool(self.known(name))

    def get_role(self, name: str) -> dict[str, Any]:
        """Return what GetRole said first; raises ResourceDoesNotExistError."""
        try:
            return dict(self.ask("iam", "get_role", RoleName=name)["Role"])
        except self._client("iam").exceptions.NoSuchEntityException:
            raise ResourceDoesNotExistError(f"No role ARN found for: {name}") from None

    # -- functions ----------------------------------------------------------------------------

    def create_function(self, *_: Any, **wanted: Any) -> str:
        """Create a function; waits until it is active."""
        package: Package = wanted["zip_contents"]
        name = wanted["function_name"]
        arguments = self._creation(wanted)
        # One function finds out when a new role can be used, the others wait for that.
        usable = self._roles.of(arguments["Role"])
        with usable, self._said(name, "create_function", package):
            made, stands_in = self._create_when_usable(arguments)
        if not stands_in:
            _check_code(made["CodeSha256"], package)
        if made["State"] != "Active":
            self._wait_for_active(name)
        if stands_in:
            self._send_code(name, package, wanted.get("architecture"))
        return str(made["FunctionArn"])

    def _create_when_usable(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """What CreateFunction says, and whether a stand-in was created for the package.

        A new role can be used after some seconds, and each attempt sends the package again: so
        after the first one a stand-in of some hundred bytes is sent, and the package when it went
        through.
        """
        create = self._client("lambda").create_function
        try:
            return create(**arguments), False
        except self._client("lambda").exceptions.InvalidParameterValueException as error:
            if not self._is_iam_role_related_error(error):
                raise
        stands_in = "ZipFile" in arguments["Code"]
        if stands_in:
            arguments = {**arguments, "Code": {"ZipFile": _stand_in()}}
        self._wait(min(self.poll_seconds, self.DELAY_TIME))
        made = self._call_client_method_with_retries(
            create, arguments, max_attempts=self.LAMBDA_CREATE_ATTEMPTS
        )
        return made, stands_in

    @contextlib.contextmanager
    def _said(self, name: str, method: str, package: Package) -> Iterator[None]:
        """Let Chalice say what an error about a package means."""
        try:
            yield
        except awsclient._REMOTE_CALL_ERRORS as error:
            context = awsclient.LambdaErrorContext(name, method, package.size)
            raise self._get_lambda_code_deployment_error(error, context) from error

    def _code(self, package: Package) -> dict[str, Any]:
        """A package in Lambda's words: itself, or where it lies."""
        return {"ZipFile": package} if self.bucket is None else self.bucket.place(package)

    def _creation(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "FunctionName": wanted["function_name"],
            "Code": self._code(wanted["zip_contents"]),
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

    def update_function(self, *_: Any, **wanted: Any) -> dict[str, Any]:
        """Change what differs of a function: its code, its settings, its tags."""
        name = wanted["function_name"]
        live = self._settled(name, self.known(name) or self.look_at(name))
        if settings.code_differs(live["Configuration"], wanted):
            self._send_code(name, wanted["zip_contents"], wanted.get("architecture"))
        changed = settings.differing(live["Configuration"], wanted, self._vpc(wanted))
        if changed:
            self._do_update_function_config(name, changed)
        arn = live["Configuration"]["FunctionArn"]
        if wanted.get("tags") is not None and wanted["tags"] != (live.get("Tags") or {}):
            self._update_function_tags(arn, wanted["tags"])
        return {"FunctionArn": arn}

    def _send_code(self, name: str, package: Package, architecture: str | None) -> None:
        arguments = {"FunctionName": name, **self._code(package)}
        if architecture is not None:
            arguments["Architectures"] = [architecture]
        with self._said(name, "update_function_code", package):
            done = self._client("lambda").update_function_code(**arguments)
        _check_code(done["CodeSha256"], package)
        if done["LastUpdateStatus"] != "Successful":
            self._wait_for_function_update(name)

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
        # GetFunction has a quota of its own, ten times that of what changes functions.
        status = None
        with self._waiting:
            for seconds in self._steps(LAMBDA_WAIT_SECONDS):
                self._wait(max(seconds, self._waiting.number / _LOOKS_A_SECOND))
                said = self.look_at(function_name).get("Configuration") or {}
                status = said.get(key)
                if status in good:
                    return
                if status == "Failed":
                    reason = said.get(f"{key}Reason") or "no reason given"
                    raise WaitError(f"function {function_name} is {key}=Failed: {reason}")
        raise WaitError(f"function {function_name} is still {key}={status}")

    def _steps(self, total: float) -> Iterator[float]:
        """Yield the pauses of a wait: short ones first, `total` seconds together."""
        step, waited = min(FIRST_POLL_SECONDS, self.poll_seconds), 0.0
        while waited < total:
            yield step
            waited += step
            step = min(self.poll_seconds, step * _SLOWER)

    def _call_client_method_with_retries(self, *call: Any, **options: Any) -> Any:
        delay = options.get("delay_time", self.DELAY_TIME)
        poll = min(self.poll_seconds, delay)
        options["max_attempts"] = max(1, round(options["max_attempts"] * delay / poll))
        options["delay_time"] = poll
        return super()._call_client_method_with_retries(*call, **options)

    def delete_log_group(self, log_group_name: str) -> None:
        """Delete a log group and what is in it."""
        self._client("logs").delete_log_group(logGroupName=log_group_name)

    # -- roles --------------------------------------------------------------------------------

    def create_role(self, name: str, trust_policy: Any, policy: Any) -> str:
        """Create a role with its policy; its ARN.

        Botocore repeats a call whose answer was lost, and hears then that the role is there
        already. It is this call's role if it trusts whom it should and is no older than this call.
        """
        client = self._client("iam")
        begun = time.monotonic()
        try:
            return str(super().create_role(name, trust_policy, policy))
        except client.exceptions.EntityAlreadyExistsException as error:
            longest = time.monotonic() - begun
            metadata = error.response["ResponseMetadata"]
            if not metadata.get("RetryAttempts"):
                raise
            made = client.get_role(RoleName=name)["Role"]
            if not _is_just_made(made, trust_policy, metadata, longest):
                raise
        self.put_role_policy(role_name=name, policy_name=name, policy_document=policy)
        return str(made["Arn"])

    def delete_role_policy(self, role_name: str, policy_name: str) -> None:
        """Delete a role's inline policy; one that is gone already is what was wanted.

        Botocore repeats a deletion whose answer was lost. The role is not gone because of that.
        """
        client = self._client("iam")
        with contextlib.suppress(client.exceptions.NoSuchEntityException):
            super().delete_role_policy(role_name, policy_name)

    # -- layers and APIs ----------------------------------------------------------------------

    def publish_layer(self, *_: Any, **wanted: Any) -> str:
        """Publish a layer's version; its ARN."""
        package: Package = wanted["zip_contents"]
        name, architecture = wanted["layer_name"], wanted.get("architecture")
        with self._said(name, "publish_layer_version", package):
            done = self._client("lambda").publish_layer_version(
                LayerName=name,
                Content=self._code(package),
                CompatibleRuntimes=[wanted["runtime"]],
                **({} if architecture is None else {"CompatibleArchitectures": [architecture]}),
            )
        _check_code(done["Content"]["CodeSha256"], package)
        return str(done["LayerVersionArn"])

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


def _is_just_made(
    role: Mapping[str, Any], trust_policy: Any, refusal: Mapping[str, Any], longest: float
) -> bool:
    """Whether a role that is there already was made within the last `longest` seconds, as asked.

    Its age is told by AWS's clock alone: from its creation to the answer that says it is there.
    """
    said = (refusal.get("HTTPHeaders") or {}).get("date", "")
    try:
        now = email.utils.parsedate_to_datetime(said)
    except (TypeError, ValueError):
        return False
    age = (now - role["CreateDate"]).total_seconds()
    # Both times are whole seconds.
    return bool(role["AssumeRolePolicyDocument"] == trust_policy) and -1 <= age <= longest + 1


def description_of(definition: Any) -> str:
    """Return what the description of a REST API's deployment says of its definition."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), default=str)
    return f"chalice-ci definition sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _check_code(live: str, package: Package) -> None:
    if live != package.code_sha256:
        raise WrongCodeError(
            f"AWS has code with the digest {live}, the sealed package has {package.code_sha256}"
        )


def _stand_in() -> bytes:
    """A zip that Lambda takes, small."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("README.txt"), _STAND_IN_TEXT)
    return content.getvalue()


class _Waiting:
    """Counts who waits for a function."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.number = 0

    def __enter__(self) -> None:
        with self._lock:
            self.number += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.number -= 1


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
