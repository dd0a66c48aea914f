"""Chalice's plan for a target, with what need not be done marked as such.

Chalice plans every update of every resource. Here each call of that plan is compared with what is
live (`live`), in the order of the plan and with the values that its variables will have, so that
what stands is left alone and what depends on it is still known.

Standard library, botocore and chalice only; Python 3.10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chalice.config import DeployedResources
from chalice.deploy import models
from chalice.deploy.appgraph import DependencyBuilder
from chalice.deploy.executor import Executor
from chalice.deploy.planner import KeyDataVariable, PlanStage, RemoteState, StringFormat, Variable
from chalice.deploy.sweeper import ResourceSweeper
from chalice.utils import UI, OSUtils

from . import codec
from .calls import summary
from .client import Client
from .live import BUNDLES, DOMAIN_TAG, Live, Standing
from .packages import Package

# Methods of a REST or WebSocket API's plan that act on its domain name.
_MAPPING_METHODS = {"create_api_mapping", "create_base_path_mapping"}
_DOMAIN_METHODS = {"create_domain_name", "update_domain_name", *_MAPPING_METHODS}

# Chalice's methods that change nothing.
READ_METHODS = {"get_rest_api", "get_websocket_integrations", "get_websocket_routes"}

# What is independent of its like, but for what it depends on.
_INDEPENDENT = (models.LambdaFunction, models.ManagedIAMRole, models.LogGroup)


class Operation:
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
        """Return the operation as the parent reads it."""
        return {
            "method": self.method,
            "resource": self.resource,
            "sweep": self.sweep,
            "message": self.message,
            "params": self.params,
        }


class Group:
    """The instructions for one resource, done one after another.

    `needs` are the groups that come first, by their place in the plan.
    """

    def __init__(self, instructions: Sequence[Any], needs: set[int]) -> None:
        self.instructions = instructions
        self.needs = needs


class Planned:
    """A plan of Chalice's, and for each of its instructions the resource that it is for."""

    def __init__(self) -> None:
        self.plan = models.Plan([], {})
        self.packages: tuple[Package, ...] = ()
        self.groups: list[Group] = []
        self._resources: dict[int, tuple[str, bool]] = {}
        self._standing: dict[int, Standing] = {}

    def label(self, instruction: Any, resource: str, sweep: bool) -> None:
        """Note which resource an instruction is for, and whether it sweeps it away."""
        self._resources[id(instruction)] = (resource, sweep)

    def leave(self, standing: Mapping[int, Standing]) -> None:
        """Note instructions, by their id, whose effect is live."""
        self._standing.update(standing)

    def resource(self, instruction: Any) -> tuple[str, bool]:
        """Return the resource of an instruction, and whether it is swept."""
        return self._resources.get(id(instruction), ("", False))

    def standing(self, instruction: Any) -> Standing | None:
        """Return what a call would answer that need not be made."""
        return self._standing.get(id(instruction))

    def message(self, instruction: Any) -> str:
        """Return Chalice's own words for an instruction."""
        return (self.plan.messages.get(id(instruction)) or "").strip()

    def operations(self) -> Iterator[Operation]:
        """Yield the calls that are to be made."""
        known: dict[str, Any] = {}
        for instruction in self.plan.instructions:
            if isinstance(instruction, models.StoreValue):
                known[instruction.name] = _literal(instruction.value, known)
            elif isinstance(instruction, models.APICall):
                known.pop(instruction.output_var or "", None)
                standing = self.standing(instruction)
                if standing is not None:
                    if isinstance(standing.value, str):
                        known[instruction.output_var or ""] = standing.value
                    continue
                if instruction.method_name in READ_METHODS:
                    continue
                resource, sweep = self.resource(instruction)
                yield Operation(
                    instruction.method_name,
                    resource,
                    sweep,
                    self.message(instruction),
                    _names_in(_literal(instruction.params, known)),
                )

    def resource_type(self, resource: str) -> str:
        """Return the type that a resource is recorded as."""
        for instruction in self.plan.instructions:
            if (
                isinstance(instruction, models.RecordResource)
                and instruction.resource_name == resource
            ):
                return instruction.resource_type
        return ""


def make_plan(target: Mapping[str, Any], client: Client) -> Planned:
    """Plan what makes AWS what the target says; only reads."""
    # Chalice reads the mapping of each recorded domain as soon as it finds it live.
    resources = [
        {"api_mapping": [], **resource} if resource["resource_type"] == "domain_name" else resource
        for resource in target["resources"]
    ]
    deployed = DeployedResources(
        {"resources": resources, "schema_version": "2.0", "backend": "api"}
    )
    planned = Planned()
    if target["graph"] is not None:
        _plan_application(target, client, deployed, planned)
    config: Any = _Config(deployed)
    before = list(planned.plan.instructions)
    _LabellingSweeper(planned).execute(planned.plan, config)
    if target.get("delete_logs"):
        _delete_logs(planned, target["resources"])
    _group_sweeps(planned, before)
    return planned


def _delete_logs(planned: Planned, resources: Sequence[Mapping[str, Any]]) -> None:
    """Append what Chalice never does: delete the log groups of everything recorded.

    A function counts as gone only when its log group is too, so a deletion that ends in between
    goes on there. Last of all: a function that still runs would make its group again.
    """
    for resource in resources:
        if resource["resource_type"] == "lambda_function":
            group = f"/aws/lambda/{resource['lambda_arn'].rpartition(':')[2]}"
        elif resource["resource_type"] == "log_group":
            group = resource["log_group_name"]
        else:
            continue
        call = models.APICall(method_name="delete_log_group", params={"log_group_name": group})
        planned.plan.instructions.append(call)
        planned.plan.messages[id(call)] = f"Deleting log group: {group}"
        planned.label(call, resource["name"], sweep=True)


def _group_sweeps(planned: Planned, before: Sequence[Any]) -> None:
    """What the sweeper put in front comes first, what it appended comes last."""
    ids = {id(instruction) for instruction in before}
    swept = [i for i in planned.plan.instructions if id(i) not in ids]
    start = 0
    while start < len(swept) and planned.plan.instructions[start] is swept[start]:
        start += 1
    if not before:
        start = 0
    first, last = swept[:start], swept[start:]
    if first:
        for group in planned.groups:
            group.needs = {need + 1 for need in group.needs} | {0}
        planned.groups.insert(0, Group(first, set()))
    if last:
        planned.groups.append(Group(last, set(range(len(planned.groups)))))


def _plan_application(
    target: Mapping[str, Any], client: Client, deployed: DeployedResources, planned: Planned
) -> None:
    packages = _Packages(target["packages"])
    application = codec.decode(target["graph"], packages.paths)
    resources = DependencyBuilder().build_dependencies(application)
    undecided = _fill_in(resources, target.get("secrets") or ())
    _tag_domains(resources)
    _look_ahead(client, resources)
    stage = PlanStage(remote_state=RemoteState(client, deployed), osutils=packages)
    foresight = _Foresight(client)
    places: dict[int, set[int]] = {}
    previous: set[int] = set()
    for resource in resources:
        # One at a time, so that it is known which resource an instruction is for.
        part = stage.execute([resource])
        _mend(part, resource, client)
        name = getattr(resource, "resource_name", "")
        domain = getattr(getattr(resource, "domain_name", None), "resource_name", name)
        for instruction in part.instructions:
            method = getattr(instruction, "method_name", "")
            planned.label(instruction, domain if method in _DOMAIN_METHODS else name, sweep=False)
        planned.plan.instructions.extend(part.instructions)
        planned.plan.messages.update(part.messages)
        standing = foresight.look(part.instructions)
        if id(resource) in undecided:
            # Whether the value is live was not known to the plan: its update finds out.
            for instruction in part.instructions:
                if getattr(instruction, "method_name", "") == "update_function":
                    standing.pop(id(instruction), None)
        planned.leave(standing)
        needs = set[int]().union(*(places.get(id(d), set()) for d in resource.dependencies()))
        if not part.instructions:
            places[id(resource)] = needs
            continue
        places[id(resource)] = {len(planned.groups)}
        if not isinstance(resource, _INDEPENDENT):
            # All else keeps Chalice's order among its like: a bucket's notifications are read,
            # changed and written as a whole.
            needs |= previous
            previous = places[id(resource)]
        planned.groups.append(Group(part.instructions, needs))
    planned.packages = packages.checked


def _fill_in(resources: Sequence[Any], secrets: Sequence[Mapping[str, Any]]) -> set[int]:
    """Put secrets where their placeholders stand; the ids of functions that have an open one."""
    undecided = set()
    by_place = {(one["variable"], one["placeholder"]): one for one in secrets}
    for resource in resources:
        if not isinstance(resource, models.LambdaFunction):
            continue
        variables = resource.environment_variables
        for name, text in list(variables.items()):
            secret = by_place.get((name, text))
            if secret is None:
                continue
            if secret["value"] is not None:
                variables[name] = secret["value"]
            if secret["open"]:
                undecided.add(id(resource))
    return undecided


def _tag_domains(resources: Sequence[Any]) -> None:
    """Say on each custom domain which resource of which app and stage it is.

    A deploy may end between CreateDomainName and the mapping to its API: without the tag nobody
    could tell then whose the domain is. App and stage are those of the functions' tag, which
    Chalice sets.
    """
    for resource in resources:
        domain = getattr(resource, "domain_name", None)
        if not isinstance(domain, models.DomainName):
            continue
        functions = (d for d in resource.dependencies() if isinstance(d, models.LambdaFunction))
        tag = next((f.tags.get("aws-chalice") or "" for f in functions), "")
        _, found, owner = tag.partition(":")
        if found:
            domain.tags = {**(domain.tags or {}), DOMAIN_TAG: f"{domain.resource_name}:{owner}"}


def _look_ahead(client: Client, resources: Sequence[Any]) -> None:
    """Ask for all functions and roles at once; the planner would ask for one after another."""
    looks: list[tuple[str, str, Mapping[str, Any]]] = []
    for resource in resources:
        if isinstance(resource, models.LambdaFunction):
            looks.append(("lambda", "get_function", {"FunctionName": resource.function_name}))
        elif isinstance(resource, models.ManagedIAMRole):
            named = {"RoleName": resource.role_name}
            looks.append(("iam", "get_role", named))
            looks.append(("iam", "get_role_policy", {**named, "PolicyName": resource.role_name}))
    client.look_ahead(looks)


def _mend(part: models.Plan, resource: Any, client: Client) -> None:
    """Add what Chalice forgets."""
    if isinstance(resource, models.LambdaFunction):
        for instruction in part.instructions:
            if (
                isinstance(instruction, models.APICall)
                and instruction.method_name == "update_function"
            ):
                # aws/chalice#2195: a handler that was renamed stays what it was.
                instruction.params["handler"] = resource.handler
    elif isinstance(resource, models.WebsocketAPI):
        _add_missing_stage(part, resource, client)


def _add_missing_stage(part: models.Plan, resource: Any, client: Client) -> None:
    """A deploy that ended between CreateApi and CreateStage: an update never makes the stage."""
    stored = [
        i.value
        for i in part.instructions
        if isinstance(i, models.StoreValue) and i.name == "websocket_api_id"
    ]
    if not stored:
        return
    apis = client.service("apigatewayv2")
    try:
        apis.get_stage(ApiId=stored[0], StageName=resource.api_gateway_stage)
        return
    except apis.exceptions.NotFoundException:
        pass
    api_id = Variable("websocket_api_id")
    last = max(
        index
        for index, instruction in enumerate(part.instructions)
        if getattr(instruction, "method_name", "")
        in ("create_websocket_route", "delete_websocket_integrations")
    )
    part.instructions[last + 1 : last + 1] = [
        models.APICall(
            method_name="deploy_websocket_api",
            params={"api_id": api_id},
            output_var="deployment-id",
        ),
        models.APICall(
            method_name="create_stage",
            params={
                "api_id": api_id,
                "stage_name": resource.api_gateway_stage,
                "deployment_id": Variable("deployment-id"),
            },
        ),
    ]


class _Unknown:
    """The value of a variable that only the execution of the plan knows."""

    MARK = "\x00unknown\x00"

    def __str__(self) -> str:
        return self.MARK

    def __getitem__(self, _key: Any) -> _Unknown:
        return self

    def get(self, *_: Any) -> _Unknown:
        return self


class _Values(dict[str, Any]):
    def __missing__(self, _name: str) -> Any:
        return _Unknown()


class _Foresight(Executor):
    """Goes through a plan without changing anything, to see which of its calls are needed."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, UI())
        self.variables = _Values()
        self._live = Live(client)
        self._aws = client

    def look(self, instructions: Sequence[Any]) -> dict[int, Standing]:
        """Return what stands, by the id of the instruction."""
        found: dict[int, Standing] = {}
        bundles = self._bundles(instructions)
        for instruction in instructions:
            if not isinstance(instruction, models.APICall):
                _pass(self, instruction)
                continue
            if id(instruction) in bundles:
                standing = bundles[id(instruction)]
            else:
                standing = self._standing(instruction)
            if standing is not None:
                found[id(instruction)] = standing
            if instruction.output_var:
                self.variables[instruction.output_var] = (
                    self._foreseen(instruction) if standing is None else standing.value
                )
        return found

    def _foreseen(self, instruction: Any) -> Any:
        """What a call will answer: an update does not change what a function is called."""
        if instruction.method_name == "update_function":
            name = self._resolve_variables(instruction)["function_name"]
            arn = (self._aws.known(name).get("Configuration") or {}).get("FunctionArn")
            if arn:
                return {"FunctionArn": arn}
        return _Unknown()

    def _standing(self, instruction: Any) -> Standing | None:
        if instruction.method_name in READ_METHODS:
            return None
        params = self._resolve_variables(instruction)
        if _is_unknown(params):
            return None
        return self._live.standing(instruction.method_name, params)

    def _bundles(self, instructions: Sequence[Any]) -> dict[int, Standing | None]:
        """What stands of the calls that make sense only together."""
        found: dict[int, Standing | None] = {}
        calls = [i for i in instructions if isinstance(i, models.APICall)]
        for methods in BUNDLES:
            chosen = [call for call in calls if call.method_name in methods]
            if not chosen:
                continue
            ahead = _Ahead(self, instructions)
            standing = self._live.together([(c.method_name, ahead.params[id(c)]) for c in chosen])
            found.update((id(call), standing) for call in chosen)
        return found


class _Ahead(Executor):
    """The parameters that the calls of some instructions will have, as far as that is known."""

    def __init__(self, foresight: _Foresight, instructions: Sequence[Any]) -> None:
        super().__init__(foresight._client, UI())
        self.variables = _Values(foresight.variables)
        self.params: dict[int, Any] = {}
        for instruction in instructions:
            if isinstance(instruction, models.APICall):
                if instruction.method_name == "get_rest_api":
                    self._do_apicall(instruction)
                    continue
                self.params[id(instruction)] = self._resolve_variables(instruction)
                if instruction.output_var:
                    self.variables[instruction.output_var] = _Unknown()
            else:
                _pass(self, instruction)


def _pass(executor: Executor, instruction: Any) -> None:
    """Execute what is no call, as far as the values are known."""
    handler = getattr(executor, f"_do_{type(instruction).__name__.lower()}", None)
    try:
        if handler is not None:
            handler(instruction)
    except (AttributeError, KeyError, TypeError, ValueError):
        executor.variables[getattr(instruction, "output_var", "")] = _Unknown()


def _is_unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_unknown(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_is_unknown(item) for item in value)
    return isinstance(value, _Unknown) or (isinstance(value, str) and _Unknown.MARK in value)


class _Packages(OSUtils):
    """The zips of a target: checked once against their digests, shared by all functions."""

    def __init__(self, packages: Mapping[str, Mapping[str, str]]) -> None:
        self.paths = {slot: package["path"] for slot, package in packages.items()}
        self._digests = {package["path"]: package["sha256"] for package in packages.values()}
        self._checked: dict[str, Package] = {}

    def get_file_contents(self, filename: str, *_mode: Any, **_options: Any) -> Any:
        if filename not in self._digests:
            raise codec.CodecError(f"{filename!r} is not a package of this plan")
        if filename not in self._checked:
            make = Package.absent if filename.startswith("absent:") else Package.of
            self._checked[filename] = make(filename, self._digests[filename])
        return self._checked[filename]

    @property
    def checked(self) -> tuple[Package, ...]:
        """The packages that something needs."""
        return tuple(self._checked.values())


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

    def __init__(self, planned: Planned) -> None:
        super().__init__()
        self._planned = planned

    def _determine_remaining(self, deployed: DeployedResources) -> list[str]:
        # Chalice takes some of these names from a set: without order there would be two plans.
        remaining = super()._determine_remaining(deployed)
        # Nor does it know the key of a mapping that is to be made again because it is gone.
        made = self._mappings_made()
        remaining = [name for name in remaining if name not in made]
        mappings = sorted(name for name in remaining if ".api_mapping." in name)
        order = iter(mappings)
        return [next(order) if ".api_mapping." in name else name for name in remaining]

    def _mappings_made(self) -> set[str]:
        """The mappings that the plan makes, as Chalice names them."""
        made = set()
        for instruction in self.plan.instructions:
            if (
                isinstance(instruction, models.APICall)
                and instruction.method_name in _MAPPING_METHODS
            ):
                domain, _ = self._planned.resource(instruction)
                key = str(instruction.params["path_key"])
                made.add(f"{domain}.api_mapping./{'' if key == '(none)' else key}")
        return made

    def _plan_deletion(self, remaining: list[str], deployed: DeployedResources) -> None:
        for name in remaining:
            before = {id(instruction) for instruction in self.plan.instructions}
            super()._plan_deletion([name], deployed)
            for instruction in self.plan.instructions:
                if id(instruction) not in before:
                    self._planned.label(instruction, name, sweep=True)
