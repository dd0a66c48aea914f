"""The deployer's child: Chalice's planner, sweeper and executor, fed with a sealed graph.

It holds AWS credentials and never sees the app's code: the application graph comes as JSON, the
packages as paths of zips. Started with `-I -B -c` from an environment of its own; it answers these
verbs on its pipe, one at a time:

    {"do": "identify"}                            who the credentials are, and the region
    {"do": "plan", "target": T}                   what would be done; reads only
    {"do": "apply", "target": T, "expected": E}   plans again, then does exactly that

A target is `{"graph": document or null, "packages": {slot: {"path", "sha256"}}, "resources":
[...]}` with the deployed resources of Chalice's state file; without a graph everything recorded is
deleted. Before its answer, `apply` asks: once for the whole plan, then before each call that
changes something; it tells at once of each resource that stands or is gone, so that a parent whose
child is killed still knows what there is.

Standard library and chalice only; runs on Python 3.10 and later.
"""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
from chalice.awsclient import AWSClientError, ResourceDoesNotExistError, TypedAWSClient
from chalice.config import DeployedResources
from chalice.deploy import models
from chalice.deploy.appgraph import DependencyBuilder
from chalice.deploy.executor import Executor
from chalice.deploy.planner import KeyDataVariable, PlanStage, RemoteState, StringFormat, Variable
from chalice.deploy.sweeper import ResourceSweeper
from chalice.utils import UI, OSUtils

from . import codec
from .calls import Calls, Ended, Pipe, Refused, Stopped, summary

# Answers of AWS that mean: what should be deleted is not there any more.
_GONE = {
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
}

# Methods of a REST or WebSocket API's plan that act on its domain name.
_DOMAIN_METHODS = {
    "create_api_mapping",
    "create_base_path_mapping",
    "create_domain_name",
    "update_domain_name",
}

# Chalice's methods that change nothing.
_READ_METHODS = {"get_rest_api", "get_websocket_integrations", "get_websocket_routes"}

# Resources that exist before Chalice notes them: which state key is in which answer or parameter.
_LATE: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("apigatewayv2", "CreateApi"): {"websocket_api_id": ("response", "ApiId")},
    ("events", "PutRule"): {"rule_name": ("params", "Name")},
    ("iam", "CreateRole"): {
        "role_arn": ("response", "Role", "Arn"),
        "role_name": ("params", "RoleName"),
    },
    ("lambda", "CreateFunction"): {"lambda_arn": ("response", "FunctionArn")},
    ("logs", "CreateLogGroup"): {"log_group_name": ("params", "logGroupName")},
}

# Lambda's waiters: five minutes, however often they look.
_LAMBDA_WAIT_SECONDS = 300.0


def main(read_fd: int, write_fd: int) -> int:
    """Answer verbs until the parent closes its end; the exit code is 0 then."""
    pipe = Pipe(read_fd, write_fd)
    pipe.listen_to_signals()
    deployer = _Deployer(pipe)
    try:
        while True:
            request = pipe.receive()
            if request is None:
                return 0
            pipe.send(deployer.answer(request))
    except Stopped:
        return 0


class _Deployer:
    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._calls = Calls(pipe)
        self._session = botocore.session.Session()
        self._calls.watch(self._session)

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
        return {"account": said["Account"], "arn": said["Arn"], "region": region}

    def _client(self, poll_seconds: float) -> _Client:
        return _Client(self._session, self._pipe, poll_seconds)

    def _plan(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._calls.where = None
        planned = _make_plan(request["target"], self._client(1.0))
        return {"operations": [operation.document() for operation in planned.operations()]}

    def _apply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._calls.where = None
        client = self._client(float(request["poll_seconds"]))
        planned = _make_plan(request["target"], client)
        operations = list(planned.operations())
        found = Counter((o.method, o.resource) for o in operations)
        expected = Counter((str(method), str(name)) for method, name in request["expected"])
        if found != expected:
            return {
                "unexpected": sorted((found - expected).elements()),
                "missing": sorted((expected - found).elements()),
            }
        self._pipe.ask({"review": [operation.document() for operation in operations]})
        run = _Run(client, self._pipe, self._calls, planned)
        try:
            run.execute(planned.plan)
        except Ended as error:
            return {"complete": False, "failure": _failure(error), "unswept": run.unswept()}
        except Exception as error:
            return {"complete": False, "failure": _failure(error), "unswept": run.unswept()}
        finally:
            self._calls.where = None
            self._calls.seen = None
        return {"complete": True, "resources": run.resource_values}


class _Client(TypedAWSClient):
    """Chalice's client, looking more often: the waits end at the same time at the latest."""

    def __init__(self, session: Any, pipe: Pipe, poll_seconds: float) -> None:
        super().__init__(session, sleep=pipe.sleep)
        self._poll_seconds = poll_seconds
        self._wait = pipe.sleep

    def _call_client_method_with_retries(self, *call: Any, **options: Any) -> Any:
        delay = options.get("delay_time", self.DELAY_TIME)
        poll = min(self._poll_seconds, delay)
        options["max_attempts"] = max(1, round(options["max_attempts"] * delay / poll))
        options["delay_time"] = poll
        return super()._call_client_method_with_retries(*call, **options)

    def _wait_for_active(self, function_name: str) -> None:
        self._wait_for(function_name, "State", {"Active"})

    def _wait_for_function_update(self, function_name: str) -> None:
        self._wait_for(function_name, "LastUpdateStatus", {"Successful"})

    def _wait_for(self, function_name: str, key: str, good: set[str]) -> None:
        # botocore's waiters sleep by themselves, deaf to SIGTERM and to a dead parent.
        status = None
        for _ in range(max(1, round(_LAMBDA_WAIT_SECONDS / self._poll_seconds))):
            said = self.get_function_configuration(function_name)
            status = said.get(key)
            if status in good:
                return
            if status == "Failed":
                reason = said.get(f"{key}Reason") or "no reason given"
                raise _WaitError(f"function {function_name} is {key}=Failed: {reason}")
            self._wait(self._poll_seconds)
        raise _WaitError(f"function {function_name} is still {key}={status}")


class _WaitError(AWSClientError):
    """A function did not become what it should within the time."""


class _Packages(OSUtils):
    """The zips of a target: read once, checked against their digests, shared by all functions."""

    def __init__(self, packages: Mapping[str, Mapping[str, str]]) -> None:
        self.paths = {slot: package["path"] for slot, package in packages.items()}
        self._digests = {package["path"]: package["sha256"] for package in packages.values()}
        self._contents: dict[str, bytes] = {}

    def get_file_contents(self, filename: str, *_mode: Any, **_options: Any) -> Any:
        if filename not in self._digests:
            raise codec.CodecError(f"{filename!r} is not a package of this plan")
        if filename not in self._contents:
            contents = Path(filename).read_bytes()
            if hashlib.sha256(contents).hexdigest() != self._digests[filename]:
                raise codec.CodecError("a package is not the one that was sealed")
            self._contents[filename] = contents
        return self._contents[filename]


class _Operation:
    """One planned call of a method of Chalice's client, for one resource."""

    def __init__(
        self, method: str, resource: str, sweep: bool, message: str, params: Mapping[str, Any]
    ) -> None:
        self.method = method
        self.resource = resource
        self.sweep = sweep
        self.message = message
        self.params = params

    def document(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "resource": self.resource,
            "sweep": self.sweep,
            "message": self.message,
            "params": self.params,
        }


class _Planned:
    """A plan of Chalice's, and for each of its instructions the resource that it is for."""

    def __init__(self, plan: models.Plan) -> None:
        self.plan = plan
        self._resources: dict[int, tuple[str, bool]] = {}

    def label(self, instruction: Any, resource: str, sweep: bool) -> None:
        self._resources[id(instruction)] = (resource, sweep)

    def resource(self, instruction: Any) -> tuple[str, bool]:
        return self._resources.get(id(instruction), ("", False))

    def message(self, instruction: Any) -> str:
        return (self.plan.messages.get(id(instruction)) or "").strip()

    def operations(self) -> Iterator[_Operation]:
        known: dict[str, Any] = {}
        for instruction in self.plan.instructions:
            if isinstance(instruction, models.StoreValue):
                known[instruction.name] = _literal(instruction.value, known)
            elif isinstance(instruction, models.APICall):
                known.pop(instruction.output_var or "", None)
                if instruction.method_name in _READ_METHODS:
                    continue
                resource, sweep = self.resource(instruction)
                yield _Operation(
                    instruction.method_name,
                    resource,
                    sweep,
                    self.message(instruction),
                    _names_in(_literal(instruction.params, known)),
                )

    def resource_type(self, resource: str) -> str:
        for instruction in self.plan.instructions:
            if (
                isinstance(instruction, models.RecordResource)
                and instruction.resource_name == resource
            ):
                return instruction.resource_type
        return ""


def _literal(value: Any, known: Mapping[str, Any]) -> Any:
    """Return parameters with what is known before the first call put in, variables for the rest."""
    if isinstance(value, Variable):
        return known.get(value.name, {"variable": value.name})
    if isinstance(value, (StringFormat, KeyDataVariable)):
        return {"variable": repr(value)}
    if isinstance(value, dict):
        return {key: _literal(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item, known) for item in value]
    return value


def _names_in(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what names things in a method's parameters: short texts, no documents, no settings."""
    return {
        key: summary(value)
        for key, value in params.items()
        if isinstance(value, (str, int)) or (isinstance(value, dict) and set(value) == {"variable"})
    }


class _Config:
    """What the sweeper reads of Chalice's Config."""

    chalice_stage = ""

    def __init__(self, deployed: DeployedResources) -> None:
        self._deployed = deployed

    def deployed_resources(self, _stage: str) -> DeployedResources:
        return self._deployed


class _LabellingSweeper(ResourceSweeper):
    """Chalice's sweeper; remembers which recorded resource each of its instructions is for."""

    def __init__(self, planned: _Planned) -> None:
        super().__init__()
        self._planned = planned

    def _determine_remaining(self, deployed: DeployedResources) -> list[str]:
        # Chalice takes some of these names from a set: without order there would be two plans.
        remaining = super()._determine_remaining(deployed)
        mappings = sorted(name for name in remaining if ".api_mapping." in name)
        order = iter(mappings)
        return [next(order) if ".api_mapping." in name else name for name in remaining]

    def _plan_deletion(self, remaining: list[str], deployed: DeployedResources) -> None:
        for name in remaining:
            before = {id(instruction) for instruction in self.plan.instructions}
            super()._plan_deletion([name], deployed)
            for instruction in self.plan.instructions:
                if id(instruction) not in before:
                    self._planned.label(instruction, name, sweep=True)


def _make_plan(target: Mapping[str, Any], client: TypedAWSClient) -> _Planned:
    deployed = DeployedResources(
        {"resources": list(target["resources"]), "schema_version": "2.0", "backend": "api"}
    )
    planned = _Planned(models.Plan([], {}))
    if target["graph"] is not None:
        _plan_application(target, client, deployed, planned)
    config: Any = _Config(deployed)
    _LabellingSweeper(planned).execute(planned.plan, config)
    return planned


def _plan_application(
    target: Mapping[str, Any],
    client: TypedAWSClient,
    deployed: DeployedResources,
    planned: _Planned,
) -> None:
    packages = _Packages(target["packages"])
    application = codec.decode(target["graph"], packages.paths)
    stage = PlanStage(remote_state=RemoteState(client, deployed), osutils=packages)
    for resource in DependencyBuilder().build_dependencies(application):
        # One at a time, so that it is known which resource an instruction is for.
        part = stage.execute([resource])
        name = getattr(resource, "resource_name", "")
        domain = getattr(getattr(resource, "domain_name", None), "resource_name", name)
        for instruction in part.instructions:
            method = getattr(instruction, "method_name", "")
            planned.label(instruction, domain if method in _DOMAIN_METHODS else name, sweep=False)
        planned.plan.instructions.extend(part.instructions)
        planned.plan.messages.update(part.messages)


class _Run(Executor):
    """Chalice's executor; says what it does and what stands while it goes on."""

    def __init__(self, client: TypedAWSClient, pipe: Pipe, calls: Calls, planned: _Planned) -> None:
        super().__init__(client, UI())
        self._pipe = pipe
        self._calls = calls
        self._planned = planned
        self._unsent = ""
        self._at = ""
        self._left = Counter(
            name
            for name, sweep in (planned.resource(i) for i in planned.plan.instructions)
            if sweep
        )

    def execute(self, plan: models.Plan) -> None:
        self._calls.seen = self._note_early
        for instruction in plan.instructions:
            resource, sweep = self._planned.resource(instruction)
            recorded = (
                instruction.resource_name if isinstance(instruction, models.RecordResource) else ""
            )
            if recorded != self._unsent:
                self._send_recorded()
            self._unsent = recorded
            self._step(instruction, resource, sweep)
            if sweep:
                self._swept(resource)
        self._send_recorded()

    def unswept(self) -> list[str]:
        """Names of recorded resources whose deletion was planned and is not finished."""
        return sorted(name for name, left in self._left.items() if left > 0)

    def _step(self, instruction: Any, resource: str, sweep: bool) -> None:
        handler = getattr(self, f"_do_{type(instruction).__name__.lower()}", self._default_handler)
        method = getattr(instruction, "method_name", None)
        if method is None or method in _READ_METHODS:
            handler(instruction)
            return
        self._pipe.check()
        self._at = resource
        self._calls.where = {"method": method, "resource": resource}
        self._say("started", instruction, resource, sweep)
        try:
            handler(instruction)
        except (ResourceDoesNotExistError, botocore.exceptions.ClientError) as error:
            if not (sweep and _is_gone(error)):
                raise
            self._say("gone", instruction, resource, sweep)
        else:
            self._say("finished", instruction, resource, sweep)

    def _say(self, state: str, instruction: Any, resource: str, sweep: bool) -> None:
        self._pipe.send(
            {
                "step": {
                    "state": state,
                    "method": instruction.method_name,
                    "resource": resource,
                    "sweep": sweep,
                    "message": self._planned.message(instruction),
                }
            }
        )

    def _send_recorded(self) -> None:
        for values in self.resource_values:
            if self._unsent and values["name"] == self._unsent:
                self._pipe.send({"recorded": values})

    def _swept(self, resource: str) -> None:
        self._left[resource] -= 1
        replaced = any(values["name"] == resource for values in self.resource_values)
        if self._left[resource] == 0 and not replaced and ".api_mapping." not in resource:
            self._pipe.send({"removed": resource})

    def _note_early(
        self, service: str, operation: str, params: Mapping[str, Any], response: Mapping[str, Any]
    ) -> None:
        keys = _LATE.get((service, operation))
        kind = self._planned.resource_type(self._at)
        if keys is None or not kind:
            return
        values = {"name": self._at, "resource_type": kind}
        for key, (source, *path) in keys.items():
            value: Any = response if source == "response" else params
            for step in path:
                value = value[step]
            values[key] = str(value)
        self._pipe.send({"recorded": values})


def _is_gone(error: Exception) -> bool:
    if isinstance(error, ResourceDoesNotExistError):
        return True
    response = getattr(error, "response", {})
    return response.get("Error", {}).get("Code") in _GONE


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
