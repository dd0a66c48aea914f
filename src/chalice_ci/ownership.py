"""Nothing is updated or deleted before it is known to belong to this app and stage.

A state file names things: ARNs, ids, role names. It can be wrong, old, another account's or
tampered with, so before the first call of an apply the whole plan is looked at, and before each
call its target: the account and region in ARNs, the name that Chalice would have given, and what
AWS itself says now - a function's tag, the function behind an API, a mapping or a subscription.

What can't be shown to be ours is not touched, and nothing else of that plan is either. Only reads
are made here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn

import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigChainFactory
from botocore.credentials import (
    AssumeRoleWithWebIdentityProvider,
    ContainerProvider,
    EnvProvider,
)
from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.app.deployer import Call, Identity, Result, Target
from chalice_ci.aws_names import PACKAGES
from chalice_ci.errors import AWSError, NotOurs, PlanRefused, UserError, WrongAccount
from chalice_ci.plan import Operation, canonical

Clients = Callable[[str], Any]
"""Makes the boto3 client of a service: `clients("lambda")`."""

TAG = "aws-chalice"
DOMAIN_TAG = "chalice-ci"
"""On custom domains: `<resource>:stage=<stage>:app=<app>`; Chalice tags functions only."""
_LOOKS_AT_ONCE = 16

_EDIT_STATE = "(chalice-ci state pull, edit, chalice-ci state import FILE)"

_OWN_INSTEAD = "It can't be adopted: a deploy makes one of its own under Chalice's name."

_MISSING = {
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
}
_FUNCTION_IN_URI = re.compile(
    r"arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]*):(?P<account>\d*):function:(?P<name>[^/:]+)"
)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose resources may be touched.

    `app_name` and `stage` are what Chalice builds names from. `titles` are names that a REST API
    of this app may have, `roles` what each function of the application runs as: the ARN of a role
    that the user gave, which is never changed, or the name of one that Chalice manages.
    `package_bucket` is the one that chalice-ci.yml names for packages.
    """

    app_name: str
    stage: str
    account: str
    region: str
    titles: frozenset[str]
    roles: Mapping[str, str] = field(default_factory=dict)
    package_bucket: str | None = None

    @property
    def prefix(self) -> str:
        """What every name starts with."""
        return f"{self.app_name}-{self.stage}"

    @property
    def where(self) -> str:
        """What an error names."""
        return f"{self.app_name}/{self.stage}"

    @property
    def tag(self) -> str:
        """How the value of the tag that Chalice puts on functions ends."""
        return f":stage={self.stage}:app={self.app_name}"


def owner_of(target: Target, identity: Identity) -> Owner:
    """Return the owner of what a target describes, in the account and region of the credentials.

    Raises PlanRefused for a graph that is none.
    """
    titles = {target.app_name}
    roles = {}
    try:
        nodes = () if target.graph is None else _nodes(target.graph)
        for node in nodes:
            fields = node["fields"]
            if node["type"] == "LambdaFunction":
                role = nodes[fields["role"]["r"]]["fields"]
                roles[str(fields["resource_name"])] = str(role.get("role_arn") or role["role_name"])
            elif node["type"] == "RestAPI":
                titles.add(str(_entry(_entry(fields["swagger_doc"], "info"), "title")))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PlanRefused(f"the graph is malformed: {error!r}", where=target.where) from None
    return Owner(
        app_name=target.app_name,
        stage=target.stage,
        account=identity.account,
        region=identity.region,
        titles=frozenset(titles),
        roles=roles,
        package_bucket=target.package_bucket,
    )


def _nodes(graph: Mapping[str, Any]) -> Sequence[Any]:
    nodes: Sequence[Any] = graph["nodes"]
    return nodes


def check_place(identity: Identity, *, account: str | None, region: str | None, where: str) -> None:
    """Raise WrongAccount unless the credentials are of the account and region that are wanted.

    None wants nothing in particular.
    """
    if account is not None and account != identity.account:
        raise WrongAccount(
            f"this stage belongs to account {account}, the credentials are of {identity.account}"
            f" ({identity.arn})",
            where=where,
            fix="Assume a role in the stage's account, or change `account` in chalice-ci.yml.",
        )
    if region is not None and region != identity.region:
        raise WrongAccount(
            f"this stage belongs to region {region}, this is {identity.region}",
            where=where,
            fix="Set aws-region (AWS_REGION) to the stage's, or change `region` in chalice-ci.yml.",
        )


def check_recorded(
    resources: Iterable[Mapping[str, object]], identity: Identity, *, where: str
) -> None:
    """Raise WrongAccount when a record names resources of another account or region.

    Chalice looks for a recorded function by its name in the account at hand: it would not find it,
    make everything again and let the record forget what is left in the other place.
    """
    elsewhere = tuple(dict.fromkeys(_elsewhere(resources, identity)))
    if not elsewhere:
        return
    shown = ", ".join(elsewhere[:5]) + (f" and {len(elsewhere) - 5} more" if elsewhere[5:] else "")
    raise WrongAccount(
        f"the recorded state names resources of another account or region: {shown}. "
        f"The credentials are of {identity.account}, {identity.region}.",
        where=where,
        fix="To change or delete those, use credentials and a region of theirs. To adopt what is "
        "in this account, import its own file (chalice-ci state import FILE --force). To drop them "
        f"from the record, take the entries out {_EDIT_STATE}.",
    )


_OWN_ARNS = ("lambda_arn", "layer_version_arn", "role_arn")
"""What a record says of things that the app owns; a queue or topic may be somebody else's."""


def _elsewhere(resources: Iterable[Mapping[str, object]], identity: Identity) -> Iterator[str]:
    for resource in resources:
        for key in _OWN_ARNS:
            parts = str(resource.get(key) or "").split(":")
            if len(parts) < 6 or parts[0] != "arn":
                continue
            region, account = parts[3], parts[4]
            if account != identity.account or region not in ("", identity.region):
                yield ":".join(parts)


def identify(clients: Clients, *, where: str) -> tuple[str, str]:
    """The account and the ARN of the credentials; raises AWSError when AWS does not say."""
    try:
        said = clients("sts").get_caller_identity()
    except (ClientError, BotoCoreError) as error:
        raise AWSError(
            f"AWS does not say who the credentials are: {error}",
            where=where,
            fix="Let the job assume a role (role-to-assume) or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY.",
        ) from error
    return str(said["Account"]), str(said["Arn"])


def clients_of(environ: Mapping[str, str], region: str) -> Clients:
    """Return what makes boto3 clients from an explicit environment.

    Keys, profile, configuration files, endpoint and the places of temporary credentials (web
    identity, container) come from `environ`; what it does not name is not looked for in the
    process's own environment. Last of all the instance's role is asked for, unless
    AWS_EC2_METADATA_DISABLED is "true".
    """
    # Late: it imports what uploads to S3 in parts, and only a deploy that changes something asks.
    import boto3

    core = botocore.session.Session()
    # What is set to nothing counts as not set, as for the command line.
    named = {name: value for name, value in environ.items() if value}
    chains = ConfigChainFactory(core, environ=named)
    settings = core.get_component("config_store")
    for name, (key, variables, default, typed) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        chain = chains.create_config_chain(
            instance_name=name,
            env_var_names=variables,
            config_property_names=key,
            default=default,
            conversion_func=typed,
        )
        settings.set_config_provider(name, chain)
    for name, variable, usual in (
        ("config_file", "AWS_CONFIG_FILE", "config"),
        ("credentials_file", "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
    ):
        home = named.get("HOME", "")
        core.set_config_variable(name, named.get(variable) or f"{home}/.aws/{usual}")
    _look_only_in(core, named, region)
    session = boto3.Session(region_name=region, botocore_session=core)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 8}, max_pool_connections=_LOOKS_AT_ONCE
    )
    made: dict[str, Any] = {}

    # A session makes one client at a time; the clients themselves can be shared by threads.
    making = threading.Lock()

    def clients(service: str) -> Any:
        with making:
            if service not in made:
                made[service] = session.client(
                    service, endpoint_url=environ.get("AWS_ENDPOINT_URL") or None, config=config
                )
            return made[service]

    return clients


def _look_only_in(core: botocore.session.Session, environ: Mapping[str, str], region: str) -> None:
    """Make the session's chain of credentials read `environ` where it would read os.environ."""
    resolver = core.get_component("credential_provider")
    web_identity = {
        "role_arn": environ.get("AWS_ROLE_ARN"),
        "role_session_name": environ.get("AWS_ROLE_SESSION_NAME"),
        "web_identity_token_file": environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"),
    }
    given = {key: value for key, value in web_identity.items() if value}

    def profiles() -> Mapping[str, Any]:
        return {"profiles": {"": given}} if given else core.full_config

    def client(service: str, **more: Any) -> Any:
        endpoint = environ.get("AWS_ENDPOINT_URL") or None
        return core.create_client(service, region, endpoint_url=endpoint, **more)

    replaced = {
        "env": EnvProvider(environ=dict(environ)),
        "container-role": ContainerProvider(environ=dict(environ)),
        "assume-role-with-web-identity": AssumeRoleWithWebIdentityProvider(
            load_config=profiles,
            client_creator=client,
            profile_name="" if given else (environ.get("AWS_PROFILE") or "default"),
            disable_env_vars=True,
        ),
    }
    without_instance = environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    # Old ways of boto 2, which read files that nothing here names.
    left_out = {"ec2-credentials-file", "boto-config", *(("iam-role",) if without_instance else ())}
    resolver.providers[:] = [
        replaced.get(provider.METHOD, provider)
        for provider in resolver.providers
        if provider.METHOD not in left_out
    ]


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What a call acts on: `kind` chooses the check, `name` is a name, an id or an ARN."""

    kind: str
    name: str
    resource: str
    deletes: bool = False
    more: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Why something may not be touched."""

    what: str
    resource: str
    fix: str
    account: bool = False


class Guard:
    """A gate that lets pass what belongs to the owner."""

    def __init__(self, owner: Owner, clients: Clients) -> None:
        self._owner = owner
        self._clients = clients
        # Subjects that passed; things that are known to be ours or were made by this very run.
        self._ours: set[tuple[str, str, str, bool]] = set()
        self._known: set[tuple[str, str]] = set()

    def review(self, operations: tuple[Operation, ...]) -> None:
        """Look at every operation of the plan; raises with all that is not ours."""
        problems: dict[str, _Problem] = {}
        subjects = [s for operation in operations for s in self._subjects_of_method(operation)]
        # Each look is a call to AWS: one after another they would take longer than the deploy.
        with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
            for problem in pool.map(self._problem, subjects):
                if problem is not None:
                    problems.setdefault(problem.what, problem)
        if problems:
            self._refuse(tuple(problems.values()))

    def allow(self, call: Call) -> None:
        """Look at what a call acts on."""
        for subject in self._subjects_of_call(call):
            problem = self._problem(subject)
            if problem is not None:
                self._refuse((problem,))

    def done(self, call: Call, result: Result) -> None:
        """Remember what a call made: it is ours."""
        if not result.ok:
            return
        made = _MADE.get((call.service, call.operation))
        if made is not None:
            kind, source, key = made
            name = (result.response if source == "response" else call.params).get(key)
            if isinstance(name, str):
                self._known.add((kind, name))

    def owns(self, kind: str, name: str) -> bool:
        """Whether something that is there belongs to the owner; `kind` is "function" and so on."""
        return self._problem(_Subject(kind=kind, name=name, resource="")) is None

    def _refuse(self, problems: tuple[_Problem, ...]) -> NoReturn:
        kind: type[UserError] = WrongAccount if all(p.account for p in problems) else NotOurs
        lines = [p.what for p in problems]
        what = lines[0] if len(lines) == 1 else "\n".join(["", *(f"  - {x}" for x in lines)])
        fixes = dict.fromkeys(problem.fix for problem in problems)
        raise kind(
            f"nothing is changed, because this is not shown to be ours: {what}",
            where=self._owner.where,
            fix=" ".join(fixes),
        )

    # What methods of Chalice's client, and calls to AWS, act on.

    def _subjects_of_method(self, operation: Operation) -> Iterator[_Subject]:
        found = _METHODS.get(operation.method)
        if found is None:
            yield _Subject(kind="unknown", name=operation.method, resource=operation.resource)
            return
        for kind, key in found:
            value = operation.params.get(key)
            # What is only known while the plan is executed is looked at before its call.
            if isinstance(value, str):
                yield _Subject(
                    kind=kind,
                    name=value,
                    resource=operation.resource,
                    deletes=operation.method in _DELETING,
                    more=operation.params,
                )

    def _subjects_of_call(self, call: Call) -> Iterator[_Subject]:
        found = _CALLS.get((call.service, call.operation))
        if found is None:
            yield _Subject(kind="unknown", name=str(call), resource=call.resource)
            return
        for kind, key in found:
            for value in _values(call.params, key):
                yield _Subject(
                    kind=kind,
                    name=str(value),
                    resource=call.resource,
                    deletes=call.operation.startswith("Delete"),
                    more=call.params,
                )

    # Whether a subject is ours.

    def _problem(self, subject: _Subject) -> _Problem | None:
        key = (subject.kind, subject.name, subject.resource, subject.deletes)
        if key in self._ours:
            return None
        try:
            problem = _CHECKS[subject.kind](self, subject)
        except ClientError as error:
            if error.response["Error"].get("Code") in _MISSING:
                # Nothing is there: nothing foreign can be touched. Not remembered, it may appear.
                return None
            raise self._unreadable(subject, error) from error
        except BotoCoreError as error:
            raise self._unreadable(subject, error) from error
        if problem is None and subject.kind not in _LOOKED_AT_EACH_TIME:
            self._ours.add(key)
        return problem

    def _unreadable(self, subject: _Subject, error: Exception) -> AWSError:
        return AWSError(
            f"it can't be told whose {subject.kind} {subject.name} is: {error}",
            where=self._owner.where,
            fix="Give the role that deploys the permission to read it.",
        )

    def _unknown(self, subject: _Subject) -> _Problem:
        return self._foreign(subject, f"{subject.name} is nothing that a deploy of Chalice does")

    def _function(self, subject: _Subject) -> _Problem | None:
        name = subject.name
        if ("function", name) in self._known:
            return None
        if ":" in name:
            arn = _FUNCTION_IN_URI.fullmatch(name)
            if arn is None:
                return self._foreign(subject, f"{name} is not the ARN of a function")
            elsewhere = self._elsewhere(subject, name, arn["account"], arn["region"])
            if elsewhere is not None:
                return elsewhere
            name = arn["name"]
        if not self._is_named(name):
            return self._foreign(
                subject, f"function {name} is not named {self._owner.prefix} or {self._prefixed}"
            )
        if ("function", name) in self._known:
            return None
        tags = self._clients("lambda").get_function(FunctionName=name).get("Tags") or {}
        tag = str(tags.get(TAG, ""))
        if tag.endswith(self._owner.tag):
            self._known.add(("function", name))
            return None
        has = f"tagged {TAG}={tag}" if tag else f"without the tag {TAG}"
        return self._foreign(
            subject,
            f"function {name} is {has}",
            adopt=f"tag the function {TAG}=version=0{self._owner.tag}",
        )

    def _new_function(self, subject: _Subject) -> _Problem | None:
        """Only the name counts: AWS itself refuses to make a function that exists."""
        if self._is_named(subject.name):
            return None
        return self._foreign(
            subject,
            f"function {subject.name} is not named {self._owner.prefix} or {self._prefixed}",
        )

    def _role(self, subject: _Subject) -> _Problem | None:
        name = subject.name
        given = (role for role in self._owner.roles.values() if role.startswith("arn:"))
        if any(role.rpartition("/")[2] == name for role in given):
            return self._foreign(
                subject, f"role {name} is given by the app's configuration, so it is never changed"
            )
        resource = subject.resource
        expected = (
            f"{self._prefixed}{resource.removesuffix('_role')}"
            if resource.endswith("_role")
            else self._owner.prefix
        )
        # The role of a function has its name, and the function has the tag.
        return self._is(subject, "role", name, expected) or self._through(
            subject, f"role {name}", name
        )

    def _passed_role(self, subject: _Subject) -> _Problem | None:
        """The planner takes a managed role's ARN from the state and gives it to functions."""
        wanted = self._owner.roles.get(subject.resource, "")
        if subject.name == wanted:
            return None
        parts = subject.name.split(":", 5)
        managed = not wanted.startswith("arn:") and f"role/{wanted}"
        if len(parts) == 6 and parts[2] == "iam" and parts[5] == managed:
            return self._elsewhere(subject, subject.name, parts[4], self._owner.region)
        return _Problem(
            what=f"functions would get the role {subject.name} instead of {wanted}",
            resource=subject.resource,
            fix="To adopt it, give it as iam_role_arn in .chalice/config.json. To drop it, take "
            f"the entry with that role out of the recorded state {_EDIT_STATE}.",
        )

    def _layer(self, subject: _Subject) -> _Problem | None:
        parts = subject.name.split(":")
        name = subject.name
        if len(parts) >= 7:
            elsewhere = self._elsewhere(subject, subject.name, parts[4], parts[3])
            if elsewhere is not None:
                return elsewhere
            name = parts[6]
        return self._is(subject, "layer", name, f"{self._prefixed}managed-layer")

    def _rule(self, subject: _Subject) -> _Problem | None:
        name = subject.name
        expected = f"{self._prefixed}{subject.resource}"
        problem = self._is(subject, "rule", name, expected)
        if problem is not None:
            return problem
        found = self._clients("events").list_targets_by_rule(Rule=name).get("Targets", ())
        behind = [self._through(subject, f"rule {name}", str(one["Arn"])) for one in found]
        # Somebody may have added a target to a rule of ours.
        return None if None in behind else next(iter(behind), None)

    def _log_group(self, subject: _Subject) -> _Problem | None:
        of = subject.resource.removesuffix("-log-group")
        function = subject.name.removeprefix("/aws/lambda/")
        if of == "api_handler" and function == self._owner.prefix:
            expected = subject.name
        else:
            expected = f"/aws/lambda/{self._prefixed}{of}"
        return self._is(subject, "log group", subject.name, expected) or self._through(
            subject, f"log group {subject.name}", function
        )

    def _mapping(self, subject: _Subject) -> _Problem | None:
        found = self._clients("lambda").get_event_source_mapping(UUID=subject.name)
        return self._through(
            subject, f"event source mapping {subject.name}", str(found.get("FunctionArn", ""))
        )

    def _subscription(self, subject: _Subject) -> _Problem | None:
        found = self._clients("sns").get_subscription_attributes(SubscriptionArn=subject.name)
        endpoint = str(found["Attributes"].get("Endpoint", ""))
        return self._through(subject, f"subscription {subject.name}", endpoint)

    def _through(self, subject: _Subject, what: str, function: str) -> _Problem | None:
        """Something is ours when the function behind it is; the function may be gone."""
        behind = _Subject(kind="function", name=function, resource=subject.resource)
        try:
            problem = self._function(behind)
        except ClientError as error:
            if error.response["Error"].get("Code") not in _MISSING:
                raise
            return None
        if problem is None:
            return None
        return _Problem(
            what=f"{what} belongs to another function: {problem.what}",
            resource=problem.resource,
            fix=problem.fix,
            account=problem.account,
        )

    def _bucket(self, subject: _Subject) -> _Problem | None:
        """A bucket's notifications are written as a whole: only ours may differ."""
        new = (subject.more or {}).get("NotificationConfiguration")
        if new is None:
            return None
        client = self._clients("s3")
        live = client.get_bucket_notification_configuration(Bucket=subject.name)
        live.pop("ResponseMetadata", None)
        key = "LambdaFunctionConfigurations"
        if _without(live, key) != _without(new, key):
            return self._foreign(
                subject, f"other notifications of bucket {subject.name} would be changed"
            )
        before = {canonical(item): item for item in live.get(key, ())}
        after = {canonical(item): item for item in new.get(key, ())}
        for digest in before.keys() ^ after.keys():
            item = before.get(digest) or after[digest]
            function = str(item.get("LambdaFunctionArn", ""))
            problem = self._through(subject, f"a notification of bucket {subject.name}", function)
            if problem is not None:
                return problem
        return None

    def _package(self, subject: _Subject) -> _Problem | None:
        """Only the configured bucket, only below the prefix; S3 itself refuses to replace."""
        key = str((subject.more or {}).get("Key", ""))
        if subject.name == self._owner.package_bucket and key.startswith(PACKAGES):
            return None
        return self._foreign(subject, f"the object {key} in the bucket {subject.name}")

    def _rest_api(self, subject: _Subject) -> _Problem | None:
        if ("rest_api", subject.name) in self._known:
            return None
        name = str(self._clients("apigateway").get_rest_api(restApiId=subject.name).get("name", ""))
        functions = tuple(self._functions_behind(subject.name))
        ours = [function for function in functions if self._is_our_arn(function)]
        named = name in self._owner.titles
        if ours and (named or len(ours) == len(functions)):
            return None
        if named and self._may_be_invoked_by(subject.name):
            return None
        # A stack of CloudFormation calls its functions as it likes; Chalice's template tags them.
        if named and functions and all(map(self._is_tagged, functions)):
            return None
        behind = ", ".join(sorted({f.rpartition(":")[2] for f in functions})) or "no function"
        return self._foreign(
            subject,
            f"REST API {subject.name} is named {name!r} and leads to {behind}",
            adopt=f"name it {self._owner.app_name} and let a route of it lead to function "
            f"{self._owner.prefix}",
        )

    def _functions_behind(self, api_id: str) -> Iterator[str]:
        client = self._clients("apigateway")
        position: dict[str, str] = {}
        while True:
            page = client.get_resources(restApiId=api_id, limit=500, embed=["methods"], **position)
            for resource in page.get("items", ()):
                for method in (resource.get("resourceMethods") or {}).values():
                    uri = str((method.get("methodIntegration") or {}).get("uri") or "")
                    found = _FUNCTION_IN_URI.search(uri)
                    if found is not None:
                        yield found.group()
            if not page.get("position"):
                return
            position = {"position": page["position"]}

    def _is_tagged(self, arn: str) -> bool:
        """Whether a function of this account and region, of whatever name, is tagged as ours."""
        found = _FUNCTION_IN_URI.fullmatch(arn)
        place = self._owner.region, self._owner.account
        if found is None or (found["region"], found["account"]) != place:
            return False
        try:
            tags = self._clients("lambda").get_function(FunctionName=found["name"]).get("Tags")
        except ClientError as error:
            if error.response["Error"].get("Code") in _MISSING:
                return False
            raise
        return str((tags or {}).get(TAG, "")).endswith(self._owner.tag)

    def _may_be_invoked_by(self, api_id: str) -> bool:
        client = self._clients("lambda")
        try:
            policy = str(client.get_policy(FunctionName=self._owner.prefix)["Policy"])
        except ClientError as error:
            if error.response["Error"].get("Code") in _MISSING:
                return False
            raise
        return f":{self._owner.region}:{self._owner.account}:{api_id}/" in policy

    def _websocket_api(self, subject: _Subject) -> _Problem | None:
        if ("websocket_api", subject.name) in self._known:
            return None
        name = str(self._clients("apigatewayv2").get_api(ApiId=subject.name).get("Name", ""))
        expected = f"{self._prefixed}websocket-api"
        if name == expected:
            return None
        return self._foreign(
            subject,
            f"WebSocket API {subject.name} is named {name!r}",
            adopt=f"name it {expected}",
        )

    def _websocket_name(self, subject: _Subject) -> _Problem | None:
        return self._is(subject, "WebSocket API", subject.name, f"{self._prefixed}websocket-api")

    def _domain(self, subject: _Subject) -> _Problem | None:
        name = subject.name.rpartition("/")[2]
        if ("domain", name) in self._known:
            return None
        apis = tuple(self._mapped_apis(name, subject.resource))
        foreign = [api for api in apis if not self._is_our_api(api)]
        adopt = "map its paths to APIs of this stage and to nothing else"
        if subject.deletes and not apis and not self._is_tagged_domain(name):
            tag = f"{DOMAIN_TAG}={subject.resource}{self._owner.tag}"
            return self._foreign(
                subject,
                f"domain {name} leads to no API and lacks the tag {DOMAIN_TAG}, so it can't be "
                "told whose it is",
                adopt=f"{adopt}, or tag it {tag}",
            )
        if foreign and (subject.deletes or len(foreign) == len(apis)):
            return self._foreign(
                subject, f"domain {name} leads to API {', '.join(foreign)}", adopt=adopt
            )
        return None

    def _is_tagged_domain(self, domain: str) -> bool:
        tags = self._clients("apigateway").get_domain_name(domainName=domain).get("tags") or {}
        return str(tags.get(DOMAIN_TAG, "")).endswith(self._owner.tag)

    def _base_path(self, subject: _Subject) -> _Problem | None:
        more = subject.more or {}
        path = str(more.get("path_key") or more.get("basePath") or "(none)")
        found = self._clients("apigateway").get_base_path_mapping(
            domainName=subject.name, basePath=path
        )
        api = str(found.get("restApiId", ""))
        if self._is_our_api(api):
            return None
        return self._foreign(subject, f"path {path} of domain {subject.name} leads to API {api}")

    def _mapped_apis(self, domain: str, resource: str) -> Iterable[str]:
        if resource.startswith("websocket_api"):
            found = self._clients("apigatewayv2").get_api_mappings(DomainName=domain)
            return [str(item["ApiId"]) for item in found.get("Items", ())]
        found = self._clients("apigateway").get_base_path_mappings(domainName=domain)
        return [str(item["restApiId"]) for item in found.get("items", ())]

    def _is_our_api(self, api: str) -> bool:
        for kind in ("rest_api", "websocket_api"):
            try:
                if _CHECKS[kind](self, _Subject(kind=kind, name=api, resource="")) is None:
                    return True
            except ClientError as error:
                if error.response["Error"].get("Code") not in _MISSING:
                    raise
        return False

    def _is_our_arn(self, arn: str) -> bool:
        found = _FUNCTION_IN_URI.fullmatch(arn)
        return (
            found is not None
            and found["account"] == self._owner.account
            and found["region"] == self._owner.region
            and self._is_named(found["name"])
        )

    @property
    def _prefixed(self) -> str:
        return self._owner.prefix + "-"

    def _is_named(self, name: str) -> bool:
        return name == self._owner.prefix or name.startswith(self._prefixed)

    def _is(self, subject: _Subject, what: str, name: str, expected: str) -> _Problem | None:
        if name == expected:
            return None
        return self._foreign(subject, f"{what} {name!r} should be {expected!r}")

    def _elsewhere(self, subject: _Subject, arn: str, account: str, region: str) -> _Problem | None:
        if account == self._owner.account and region == self._owner.region:
            return None
        return _Problem(
            what=f"{arn} is in account {account or '?'}, region {region or '?'}; the credentials "
            f"are of {self._owner.account}, {self._owner.region}",
            resource=subject.resource,
            fix="Use the credentials and the region that the recorded state is of, or take "
            f"`{subject.resource}` out of the state.",
            account=True,
        )

    def _foreign(self, subject: _Subject, what: str, *, adopt: str = "") -> _Problem:
        first = f"To adopt it, {adopt}." if adopt else _OWN_INSTEAD
        return _Problem(
            what=f"{what} (`{subject.resource}`)",
            resource=subject.resource,
            fix=f"{first} To drop it, take `{subject.resource}` out of the recorded state "
            f"{_EDIT_STATE}.",
        )


_Check = Callable[[Guard, _Subject], _Problem | None]

_CHECKS: Mapping[str, _Check] = {
    "base_path": Guard._base_path,
    "bucket": Guard._bucket,
    "domain": Guard._domain,
    "function": Guard._function,
    "layer": Guard._layer,
    "log_group": Guard._log_group,
    "mapping": Guard._mapping,
    "new_function": Guard._new_function,
    "package": Guard._package,
    "passed_role": Guard._passed_role,
    "rest_api": Guard._rest_api,
    "role": Guard._role,
    "rule": Guard._rule,
    "subscription": Guard._subscription,
    "unknown": Guard._unknown,
    "websocket_api": Guard._websocket_api,
    "websocket_name": Guard._websocket_name,
}

# A bucket's notifications and a domain's paths may change between two calls.
_LOOKED_AT_EACH_TIME = {"base_path", "bucket", "package"}

_FUNCTION_NAME = (("function", "function_name"),)
_FUNCTION_ARN = (("function", "function_arn"),)
_REST_API = (("rest_api", "rest_api_id"),)
_WEBSOCKET_API = (("websocket_api", "api_id"),)

# Methods of Chalice's client -> what they act on: the check, the parameter that names it.
_METHODS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "add_permission_for_apigateway": _FUNCTION_NAME,
    "add_permission_for_apigateway_v2": _FUNCTION_NAME,
    "add_permission_for_cloudwatch_event": _FUNCTION_ARN,
    "add_permission_for_s3_event": _FUNCTION_ARN,
    "add_permission_for_sns_topic": _FUNCTION_ARN,
    "connect_rule_to_lambda": (("rule", "rule_name"), ("function", "function_arn")),
    "connect_s3_bucket_to_lambda": _FUNCTION_ARN,
    "create_api_mapping": (("domain", "domain_name"), ("websocket_api", "api_id")),
    "create_base_path_mapping": (("domain", "domain_name"), ("rest_api", "api_id")),
    "create_domain_name": (),
    "create_function": (("new_function", "function_name"), ("passed_role", "role_arn")),
    "create_lambda_event_source": _FUNCTION_NAME,
    "create_log_group": (("log_group", "log_group_name"),),
    "create_role": (("role", "name"),),
    "create_stage": _WEBSOCKET_API,
    "create_websocket_api": (("websocket_name", "name"),),
    "create_websocket_integration": _WEBSOCKET_API,
    "create_websocket_route": _WEBSOCKET_API,
    "delete_api_mapping": (("base_path", "domain_name"),),
    "delete_domain_name": (("domain", "domain_name"),),
    "delete_function": _FUNCTION_NAME,
    "delete_function_concurrency": _FUNCTION_NAME,
    "delete_log_group": (("log_group", "log_group_name"),),
    "delete_layer_version": (("layer", "layer_version_arn"),),
    "delete_rest_api": _REST_API,
    "delete_retention_policy": (("log_group", "log_group_name"),),
    "delete_role": (("role", "name"),),
    "delete_rule": (("rule", "rule_name"),),
    "delete_websocket_api": _WEBSOCKET_API,
    "delete_websocket_integrations": _WEBSOCKET_API,
    "delete_websocket_routes": _WEBSOCKET_API,
    "deploy_rest_api": _REST_API,
    "deploy_websocket_api": _WEBSOCKET_API,
    "disconnect_s3_bucket_from_lambda": _FUNCTION_ARN,
    "get_or_create_rule_arn": (("rule", "rule_name"),),
    "import_rest_api": (),
    "publish_layer": (("layer", "layer_name"),),
    "put_function_concurrency": _FUNCTION_NAME,
    "put_retention_policy": (("log_group", "name"),),
    "put_role_policy": (("role", "role_name"),),
    "remove_lambda_event_source": (("mapping", "event_uuid"),),
    "remove_permission_for_s3_event": _FUNCTION_ARN,
    "remove_permission_for_sns_topic": _FUNCTION_ARN,
    "subscribe_function_to_topic": _FUNCTION_ARN,
    "unsubscribe_from_topic": (("subscription", "subscription_arn"),),
    "update_api_from_swagger": _REST_API,
    "update_domain_name": (("domain", "domain_name"),),
    "update_function": (("function", "function_name"), ("passed_role", "role_arn")),
    "update_lambda_event_source": (("mapping", "event_uuid"),),
    "update_rest_api": _REST_API,
}

_DELETING = {
    "delete_domain_name",
}

# Calls to AWS -> what they act on. A call that is not here is refused.
_CALLS: Mapping[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("apigateway", "CreateBasePathMapping"): (("domain", "domainName"), ("rest_api", "restApiId")),
    ("apigateway", "CreateDeployment"): (("rest_api", "restApiId"),),
    ("apigateway", "CreateDomainName"): (),
    ("apigateway", "DeleteBasePathMapping"): (("base_path", "domainName"),),
    ("apigateway", "DeleteRestApi"): (("rest_api", "restApiId"),),
    ("apigateway", "ImportRestApi"): (),
    ("apigateway", "PutRestApi"): (("rest_api", "restApiId"),),
    ("apigateway", "UpdateDomainName"): (("domain", "domainName"),),
    ("apigateway", "UpdateRestApi"): (("rest_api", "restApiId"),),
    ("apigatewayv2", "CreateApi"): (("websocket_name", "Name"),),
    ("apigatewayv2", "CreateApiMapping"): (("domain", "DomainName"), ("websocket_api", "ApiId")),
    ("apigatewayv2", "CreateDeployment"): (("websocket_api", "ApiId"),),
    ("apigatewayv2", "CreateDomainName"): (),
    ("apigatewayv2", "CreateIntegration"): (("websocket_api", "ApiId"),),
    ("apigatewayv2", "CreateRoute"): (("websocket_api", "ApiId"),),
    ("apigatewayv2", "CreateStage"): (("websocket_api", "ApiId"),),
    ("apigatewayv2", "DeleteApi"): (("websocket_api", "ApiId"),),
    ("apigatewayv2", "DeleteDomainName"): (("domain", "DomainName"),),
    ("apigatewayv2", "DeleteIntegration"): (("websocket_api", "ApiId"),),
    ("apigatewayv2", "DeleteRoute"): (("websocket_api", "ApiId"),),
    ("apigatewayv2", "TagResource"): (("domain", "ResourceArn"),),
    ("apigatewayv2", "UntagResource"): (("domain", "ResourceArn"),),
    ("apigatewayv2", "UpdateDomainName"): (("domain", "DomainName"),),
    ("events", "DeleteRule"): (("rule", "Name"),),
    ("events", "PutRule"): (("rule", "Name"),),
    ("events", "PutTargets"): (("rule", "Rule"), ("function", "Targets.Arn")),
    ("events", "RemoveTargets"): (("rule", "Rule"),),
    ("iam", "CreateRole"): (("role", "RoleName"),),
    ("iam", "DeleteRole"): (("role", "RoleName"),),
    ("iam", "DeleteRolePolicy"): (("role", "RoleName"),),
    ("iam", "PutRolePolicy"): (("role", "RoleName"),),
    ("lambda", "AddPermission"): (("function", "FunctionName"),),
    ("lambda", "CreateEventSourceMapping"): (("function", "FunctionName"),),
    ("lambda", "CreateFunction"): (("new_function", "FunctionName"), ("passed_role", "Role")),
    ("lambda", "DeleteEventSourceMapping"): (("mapping", "UUID"),),
    ("lambda", "DeleteFunction"): (("function", "FunctionName"),),
    ("lambda", "DeleteFunctionConcurrency"): (("function", "FunctionName"),),
    ("lambda", "DeleteLayerVersion"): (("layer", "LayerName"),),
    ("lambda", "PublishLayerVersion"): (("layer", "LayerName"),),
    ("lambda", "PutFunctionConcurrency"): (("function", "FunctionName"),),
    ("lambda", "RemovePermission"): (("function", "FunctionName"),),
    ("lambda", "TagResource"): (("function", "Resource"),),
    ("lambda", "UntagResource"): (("function", "Resource"),),
    ("lambda", "UpdateEventSourceMapping"): (("mapping", "UUID"),),
    ("lambda", "UpdateFunctionCode"): (("function", "FunctionName"),),
    ("lambda", "UpdateFunctionConfiguration"): (
        ("function", "FunctionName"),
        ("passed_role", "Role"),
    ),
    ("logs", "CreateLogGroup"): (("log_group", "logGroupName"),),
    ("logs", "DeleteLogGroup"): (("log_group", "logGroupName"),),
    ("logs", "DeleteRetentionPolicy"): (("log_group", "logGroupName"),),
    ("logs", "PutRetentionPolicy"): (("log_group", "logGroupName"),),
    ("s3", "PutObject"): (("package", "Bucket"),),
    ("s3", "PutBucketNotificationConfiguration"): (("bucket", "Bucket"),),
    ("sns", "Subscribe"): (("function", "Endpoint"),),
    ("sns", "Unsubscribe"): (("subscription", "SubscriptionArn"),),
}

# Calls that make something -> its kind, and where its name or id stands.
_MADE = {
    ("apigateway", "CreateDomainName"): ("domain", "params", "domainName"),
    ("apigateway", "ImportRestApi"): ("rest_api", "response", "id"),
    ("apigatewayv2", "CreateApi"): ("websocket_api", "response", "ApiId"),
    ("apigatewayv2", "CreateDomainName"): ("domain", "params", "DomainName"),
    ("lambda", "CreateFunction"): ("function", "params", "FunctionName"),
}


def _values(params: Mapping[str, Any], key: str) -> Iterator[Any]:
    """Return the value at a key, or at `list.key` of each item of a list; nothing when absent."""
    outer, _, inner = key.partition(".")
    value = params.get(outer)
    if value is None:
        return
    if inner:
        for item in value:
            yield item.get(inner, "")
    else:
        yield value


def _without(document: Mapping[str, Any], key: str) -> bytes:
    return canonical({name: value for name, value in document.items() if name != key})


def _entry(value: Any, key: str) -> Any:
    """Return the value at a key of an encoded dict of the graph document; KeyError without it."""
    return dict(value["d"])[key]
