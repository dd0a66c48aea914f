"""What a deployer of ours needs in IAM for one app and stage: pure.

`Makeup` says what the stage is made of - its graph, and what is recorded of it, since an update may
have to take away what the app does not have any more. Each kind of resource has its actions, those
of creating, updating and deleting it and the reads that planner, ownership guard and recovery make
of it. Names of actions, and which of them can be scoped to what, are from AWS's service
authorization reference; a test compares them.

Everything that has a name of Chalice's is scoped to the stage's names. APIs have ids that nobody
knows before they are made, and event source mappings too: the first are scoped to the region, the
second by the condition that their function is the stage's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chalice_ci.access.document import Condition, Statement
from chalice_ci.graph import Graph, Resource

EVERYTHING = ("*",)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the stage is: partition, account and region, as ARNs name them."""

    account: str
    region: str

    @property
    def partition(self) -> str:
        """The partition that a region belongs to."""
        if self.region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    def arn(self, service: str, resource: str, *, regional: bool = True, owned: bool = True) -> str:
        """An ARN here."""
        region, account = self.region if regional else "", self.account if owned else ""
        return f"arn:{self.partition}:{service}:{region}:{account}:{resource}"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Where an S3 store keeps states, or packages lie; `key` is the ARN of the KMS key for them."""

    name: str
    prefix: str = ""
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Makeup:
    """What a stage is made of, as far as permissions depend on it."""

    prefix: str
    """`<app>-<stage>`: how every name begins."""
    managed_roles: bool = False
    given_roles: tuple[str, ...] = ()
    given_layers: tuple[str, ...] = ()
    managed_layer: bool = False
    concurrency: bool = False
    vpc: bool = False
    log_groups: bool = False
    rules: bool = False
    mappings: bool = False
    buckets: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    rest: bool = False
    rest_policy: bool = False
    websocket: bool = False
    domains: tuple[str, ...] = ()
    domain_tags: bool = False


def makeup(prefix: str, graph: Graph | None, recorded: Iterable[Mapping[str, object]]) -> Makeup:
    """What a graph and a record say; without a graph the stage is only to be deleted."""
    resources = () if graph is None else graph.resources
    found = Makeup(prefix=prefix)
    for resource in resources:
        found = _with_node(found, resource)
    for entry in recorded:
        found = _with_record(found, entry)
    return replace(
        found,
        given_roles=_each_once(found.given_roles),
        given_layers=_each_once(found.given_layers),
        buckets=_each_once(found.buckets),
        topics=_each_once(found.topics),
        domains=_each_once(found.domains),
    )


def _each_once(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))


def _with_node(found: Makeup, node: Resource) -> Makeup:
    fields: Mapping[str, Any] = node.fields
    match node.type:
        case "ManagedIAMRole":
            return replace(found, managed_roles=True)
        case "PreCreatedIAMRole":
            return replace(found, given_roles=(*found.given_roles, str(fields["role_arn"])))
        case "LambdaLayer":
            return replace(found, managed_layer=found.managed_layer or not fields.get("is_empty"))
        case "LambdaFunction":
            return replace(
                found,
                given_layers=(*found.given_layers, *map(str, fields.get("layers") or ())),
                concurrency=found.concurrency or fields.get("reserved_concurrency") is not None,
                vpc=found.vpc or bool(fields.get("subnet_ids")),
            )
        case "LogGroup":
            return replace(found, log_groups=True)
        case "CloudWatchEvent" | "ScheduledEvent":
            return replace(found, rules=True)
        case "SQSEventSource" | "KinesisEventSource" | "DynamoDBEventSource":
            return replace(found, mappings=True)
        case "S3BucketNotification":
            return replace(found, buckets=(*found.buckets, str(fields["bucket"])))
        case "SNSLambdaSubscription":
            return replace(found, topics=(*found.topics, str(fields["topic"])))
        case "RestAPI":
            return replace(found, rest=True, rest_policy=fields.get("policy") is not None)
        case "WebsocketAPI":
            return replace(found, websocket=True)
        case "DomainName":
            return replace(
                found, domains=(*found.domains, str(fields["domain_name"])), domain_tags=True
            )
        case _:
            return found


def _with_record(found: Makeup, entry: Mapping[str, object]) -> Makeup:
    match entry.get("resource_type"):
        case "iam_role":
            return replace(found, managed_roles=True)
        case "lambda_layer":
            return replace(found, managed_layer=True)
        case "log_group":
            return replace(found, log_groups=True)
        case "cloudwatch_event":
            return replace(found, rules=True)
        case "sqs_event" | "kinesis_event" | "dynamodb_event":
            return replace(found, mappings=True)
        case "s3_event":
            return replace(found, buckets=(*found.buckets, str(entry["bucket"])))
        case "sns_event":
            return replace(found, topics=(*found.topics, str(entry["topic_arn"])))
        case "rest_api":
            return replace(found, rest=True)
        case "websocket_api":
            return replace(found, websocket=True)
        case "domain_name":
            return replace(found, domains=(*found.domains, str(entry["domain_name"])))
        case _:
            return found


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What else a role shall be allowed, and within which bounds."""

    delete_logs: bool = False
    boundary: str = ""
    """The ARN of the policy without which no role may be made."""
    store: Bucket | None = None
    packages: Bucket | None = None
    needed_prefix: str = ""
    """The names of the stage whose package has to be live first."""


def grants(made: Makeup, place: Place, wishes: Wishes | None = None) -> tuple[Statement, ...]:
    """The statements of the deploy policy, in an order that depends on nothing but the makeup."""
    wanted = wishes or Wishes()
    return (
        *_looks(made),
        *_functions(made, place),
        *_roles(made, place, wanted.boundary),
        *_layers(made, place),
        *_log_groups(made, place, delete=wanted.delete_logs),
        *_triggers(made, place),
        *_apis(made, place),
        *_needed(wanted.needed_prefix, place),
        *_store(wanted.store, place),
        *_packages(wanted.packages, place),
    )


def _allow(
    sid: str,
    actions: Iterable[str],
    resources: Iterable[str],
    *conditions: Condition,
) -> Statement:
    return Statement(
        sid=sid,
        actions=tuple(sorted(actions)),
        resources=tuple(sorted(resources)),
        conditions=conditions,
    )


def _of(service: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{service}:{name}" for name in names)


def _names(prefix: str) -> tuple[str, str]:
    return prefix, f"{prefix}-*"


def _looks(made: Makeup) -> Iterator[Statement]:
    """What AWS lets be listed only as a whole. Recovery lists what an unfinished deploy left."""
    actions = [
        *_of("events", "ListRules"),
        *_of("lambda", "ListEventSourceMappings", "ListFunctions", "ListLayerVersions"),
        *_of("logs", "DescribeLogGroups"),
        *_of("sns", "ListSubscriptions"),
    ]
    if made.vpc:
        # Lambda looks with the rights of the caller whether they exist.
        actions += _of("ec2", "DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs")
    yield _allow("Look", actions, EVERYTHING)


def _function_arns(prefix: str, place: Place) -> tuple[str, ...]:
    return tuple(place.arn("lambda", f"function:{name}") for name in _names(prefix))


def _functions(made: Makeup, place: Place) -> Iterator[Statement]:
    names = [
        *("CreateFunction", "DeleteFunction", "DeleteFunctionConcurrency", "GetFunction"),
        *("GetPolicy", "ListTags", "TagResource", "UntagResource"),
        *("UpdateFunctionCode", "UpdateFunctionConfiguration"),
    ]
    if made.concurrency:
        names.append("PutFunctionConcurrency")
    if made.rest or made.websocket or made.rules or made.buckets or made.topics:
        names.append("AddPermission")
    if made.buckets or made.topics:
        names.append("RemovePermission")
    yield _allow("Functions", _of("lambda", *names), _function_arns(made.prefix, place))


def _roles(made: Makeup, place: Place, boundary: str) -> Iterator[Statement]:
    own = tuple(place.arn("iam", f"role/{name}", regional=False) for name in _names(made.prefix))
    passed = made.given_roles
    actions = ["GetRole"]
    if made.managed_roles:
        passed = (*own, *passed)
        actions += ["DeleteRole", "DeleteRolePolicy", "GetRolePolicy", "ListRolePolicies"]
        making = _of("iam", "CreateRole", "PutRolePolicy")
        if boundary:
            only = Condition(
                operator="StringEquals", key="iam:PermissionsBoundary", values=(boundary,)
            )
            yield _allow("MakeBoundedRoles", making, own, only)
        else:
            yield _allow("MakeRoles", making, own)
    yield _allow("Roles", _of("iam", *actions), own)
    if passed:
        to = Condition(
            operator="StringEquals", key="iam:PassedToService", values=("lambda.amazonaws.com",)
        )
        yield _allow("PassRoles", _of("iam", "PassRole"), passed, to)


def _layers(made: Makeup, place: Place) -> Iterator[Statement]:
    layer = place.arn("lambda", f"layer:{made.prefix}-managed-layer")
    if made.managed_layer:
        yield _allow("Layer", _of("lambda", "PublishLayerVersion"), (layer,))
        versions = _of("lambda", "DeleteLayerVersion", "GetLayerVersion")
        yield _allow("LayerVersions", versions, (f"{layer}:*",))
    if made.given_layers:
        yield _allow("UseLayers", _of("lambda", "GetLayerVersion"), made.given_layers)


def _log_groups(made: Makeup, place: Place, *, delete: bool) -> Iterator[Statement]:
    own = f"/aws/lambda/{made.prefix}"
    # With and without the `:*` that stands for a group's streams.
    groups = tuple(place.arn("logs", f"log-group:{name}") for name in (own, f"{own}:*", f"{own}-*"))
    names = []
    if made.log_groups:
        names += ["CreateLogGroup", "DeleteRetentionPolicy", "PutRetentionPolicy"]
    if delete:
        names.append("DeleteLogGroup")
    if names:
        yield _allow("LogGroups", _of("logs", *names), groups)


def _triggers(made: Makeup, place: Place) -> Iterator[Statement]:
    if made.rules:
        rules = _of(
            "events",
            *("DeleteRule", "DescribeRule", "ListTargetsByRule"),
            *("PutRule", "PutTargets", "RemoveTargets"),
        )
        yield _allow("Rules", rules, (place.arn("events", f"rule/{made.prefix}-*"),))
    if made.mappings:
        ours = Condition(
            operator="ArnLike",
            key="lambda:FunctionArn",
            values=_function_arns(made.prefix, place),
        )
        every = place.arn("lambda", "event-source-mapping:*")
        yield _allow("MakeMappings", _of("lambda", "CreateEventSourceMapping"), EVERYTHING, ours)
        changing = _of("lambda", "DeleteEventSourceMapping", "UpdateEventSourceMapping")
        yield _allow("Mappings", changing, (every,), ours)
        # Of a mapping that is gone nobody knows the function: it must be possible to see that.
        yield _allow("LookAtMappings", _of("lambda", "GetEventSourceMapping"), (every,))
    if made.buckets:
        yield _allow(
            "Buckets",
            _of("s3", "GetBucketNotification", "PutBucketNotification"),
            (place.arn("s3", name, regional=False, owned=False) for name in made.buckets),
        )
    if made.topics:
        topics = [
            topic if topic.startswith("arn:") else place.arn("sns", topic) for topic in made.topics
        ]
        to = Condition(operator="StringEquals", key="sns:Protocol", values=("lambda",))
        yield _allow("Subscribe", _of("sns", "Subscribe"), set(topics), to)
        both = {*topics, *(f"{topic}:*" for topic in topics)}
        yield _allow("Subscriptions", _of("sns", "GetSubscriptionAttributes", "Unsubscribe"), both)


def _apis(made: Makeup, place: Place) -> Iterator[Statement]:
    """API Gateway: one action for each method of HTTP, one resource for each path."""

    def at(*paths: str) -> tuple[str, ...]:
        return tuple(place.arn("apigateway", path, owned=False) for path in paths)

    seen = ["/apis", "/restapis"]
    if made.rest or made.websocket or made.domains:
        # Recovery looks which of the account's domains lead to the stage's APIs.
        seen += ["/domainnames", "/domainnames/*"]
    if made.rest:
        seen.append("/restapis/*")
    if made.websocket:
        seen.append("/apis/*")
    if made.domains:
        seen.append("/tags/*")
    yield _allow("LookAtApis", _of("apigateway", "GET"), at(*seen))
    if made.rest:
        yield _allow("MakeRestApi", _of("apigateway", "POST"), at("/restapis"))
        changing = _of("apigateway", "DELETE", "PATCH", "POST", "PUT")
        yield _allow("RestApi", changing, at("/restapis/*"))
    if made.rest_policy:
        both = at("/restapis", "/restapis/*")
        yield _allow("RestApiPolicy", _of("apigateway", "UpdateRestApiPolicy"), both)
    if made.websocket:
        yield _allow("MakeWebsocketApi", _of("apigateway", "POST"), at("/apis"))
        yield _allow("WebsocketApi", _of("apigateway", "DELETE", "POST"), at("/apis/*"))
    if made.domains:
        names = tuple(f"/domainnames/{name}" for name in made.domains)
        yield _allow("MakeDomain", _of("apigateway", "POST"), at("/domainnames"))
        yield _allow("Domain", _of("apigateway", "DELETE", "PATCH"), at(*names))
        below = tuple(f"{name}/*" for name in names)
        yield _allow("DomainPaths", _of("apigateway", "DELETE", "POST"), at(*below))
        tagging = _of("apigateway", "DELETE", "POST", "PUT")
        yield _allow("DomainTags", tagging, at("/tags/*"))


def _needed(prefix: str, place: Place) -> Iterator[Statement]:
    if prefix:
        functions = _of("lambda", "GetFunctionConfiguration")
        yield _allow("LookAtNeededStage", functions, _function_arns(prefix, place))
        layer = place.arn("lambda", f"layer:{prefix}-managed-layer:*")
        yield _allow("LookAtNeededLayer", _of("lambda", "GetLayerVersion"), (layer,))


def _packages(packages: Bucket | None, place: Place) -> Iterator[Statement]:
    """To upload packages, and, since Lambda fetches them for who calls it, to read them."""
    if packages is None:
        return
    bucket = place.arn("s3", packages.name, regional=False, owned=False)
    yield _allow("LookAtPackageBucket", _of("s3", "GetEncryptionConfiguration"), (bucket,))
    objects = _of("s3", "GetObject", "GetObjectVersion", "PutObject")
    yield _allow("Packages", objects, (f"{bucket}/{packages.prefix}*",))


def _store(store: Bucket | None, place: Place) -> Iterator[Statement]:
    if store is None:
        return
    bucket = place.arn("s3", store.name, regional=False, owned=False)
    about = _of("s3", "GetBucketVersioning", "GetEncryptionConfiguration")
    yield _allow("LookAtStateBucket", about, (bucket,))
    pattern = (f"{store.prefix}*",)
    listed = Condition(operator="StringLike", key="s3:prefix", values=pattern)
    yield _allow("ListStates", _of("s3", "ListBucket"), (bucket,), listed)
    objects = _of("s3", "DeleteObject", "GetObject", "PutObject")
    yield _allow("States", objects, (f"{bucket}/{store.prefix}*",))
    if store.key:
        yield _allow("StateKey", _of("kms", "Decrypt", "GenerateDataKey"), (store.key,))
