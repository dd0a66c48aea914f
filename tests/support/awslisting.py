"""Everything in an AWS account that Chalice can touch, in a form in which two accounts compare.

`list_account` asks through boto3 for functions, roles, APIs, rules, notifications, subscriptions,
layers, log groups and domains with all their settings. What AWS makes up (ids, times, revisions)
is dropped or replaced by a name that says what it is, so that the listing of a deployment by
plain Chalice equals the listing of the same deployment by chalice-ci, or shows where it does not.

Nothing is picked out: an answer is kept whole, without what `_VOLATILE` names.
"""

from __future__ import annotations

import difflib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

Clients = Callable[[str], Any]
"""Makes the boto3 client of a service: `clients("lambda")`."""

Code = Callable[[str], bytes]
"""The zip of a function (by its name) or of a layer's version (by its ARN)."""

_VOLATILE = frozenset(
    {
        # Times, revisions and random ids that no setting refers to.
        "ResponseMetadata", "LastModified", "RevisionId", "CreateDate", "CreatedDate",
        "createdDate", "lastUpdatedDate", "creationTime", "CreationDate", "StateTransitionReason",
        "RoleId", "RoleLastUsed", "LastProcessingResult", "EventSourceMappingArn", "UUID",
        "certificateUploadDate", "CertificateUploadDate", "CodeSize", "ETag", "RepositoryType",
        # A presigned address of the code.
        "Location",
        # Follows LastModified in newer service models.
        "LastUpdateStatusReason", "RuntimeVersionConfig", "storedBytes", "metricFilterCount",
    }
)  # fmt: skip

_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_HEX_SID = re.compile(r"\A[0-9a-f]{32}\Z")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """An account: a document per resource, by a stable name such as `function shape-rest-dev`."""

    resources: Mapping[str, Any]
    aliases: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The ids that AWS made up, and what stands for them here."""

    def named(self, document: Any) -> Any:
        """Another document about this account, its ids replaced in the same way."""
        return _Normal(self.aliases).of(document)

    @property
    def text(self) -> str:
        """All of it as indented JSON, sorted: one line per setting."""
        return json.dumps(self.resources, indent=1, sort_keys=True, ensure_ascii=False)

    @property
    def lines(self) -> int:
        """The size."""
        return self.text.count("\n") + 1

    def of(self, *owners: str) -> Listing:
        """The resources with one of `owners` (an app's name, a bucket) as a word of their name."""
        return Listing(
            resources={
                name: document
                for name, document in self.resources.items()
                if any(_belongs(name, owner) for owner in owners)
            }
        )

    def difference(self, other: Listing) -> str:
        """A unified diff of the two texts; empty when they are equal."""
        return "\n".join(
            difflib.unified_diff(
                self.text.splitlines(), other.text.splitlines(), "plain", "ours", lineterm="", n=6
            )
        )


def _belongs(name: str, owner: str) -> bool:
    """Whether `owner` occurs in `name` as a whole, or followed by the stage."""
    return re.search(rf"(?<![\w.-]){re.escape(owner)}(?:-dev\b|(?![\w-]))", name) is not None


def list_account(
    clients: Clients, *, code: Code | None = None, names: Mapping[str, str] | None = None
) -> Listing:
    """List the account that `clients` reach.

    With `code` a package is listed by its members and their CRCs instead of its own digest: two
    zips with the same members are the same package. `names` replaces further texts, such as a
    certificate's ARN.
    """
    collected: dict[str, Any] = {}
    aliases: dict[str, str] = dict(names or {})
    packages = _Packages(code)
    for part in (
        _functions, _layers, _roles, _rest_apis, _v2_apis, _domains, _rules, _buckets,
        _subscriptions, _log_groups,
    ):  # fmt: skip
        for name, document, ids in part(clients):
            key = name
            number = 2
            while key in collected:
                key = f"{name} ({number})"
                number += 1
            collected[key] = packages.opened(document)
            aliases.update({made: f"<{alias}>" for made, alias in ids.items()})
    normal = _Normal(aliases)
    resources = {name: normal.of(collected[name]) for name in sorted(collected)}
    return Listing(resources=resources, aliases=aliases)


_Found = tuple[str, Any, Mapping[str, str]]
"""Name, document, and the ids that AWS made up: id -> what it is."""


class _Packages:
    """Replaces the digest of a zip by what the zip holds; reads each zip once."""

    def __init__(self, code: Code | None) -> None:
        self._code = code
        self._known: dict[str, Any] = {}

    def opened(self, document: Any) -> Any:
        """The document of a function or of a layer's version, with its package; others as is."""
        match document:
            case {"configuration": {"CodeSha256": str() as digest, "FunctionName": str() as name}}:
                settings = dict(document["configuration"])
                del settings["CodeSha256"]
                return {
                    **document,
                    "configuration": settings,
                    "package": self._members(digest, name),
                }
            case {"Content": {"CodeSha256": str() as digest}, "LayerVersionArn": str() as arn}:
                return {**document, "Content": {"package": self._members(digest, arn)}}
            case _:
                return document

    def _members(self, digest: str, name: str) -> Any:
        if self._code is None:
            return digest
        if digest not in self._known:
            with zipfile.ZipFile(io.BytesIO(self._code(name))) as archive:
                self._known[digest] = {
                    info.filename: f"{info.CRC:08x} {info.file_size}"
                    for info in archive.infolist()
                    if not info.is_dir()
                }
        return self._known[digest]


class _Normal:
    def __init__(self, aliases: Mapping[str, str]) -> None:
        self._aliases = {key: alias for key, alias in aliases.items() if key}
        self._known = (
            re.compile("|".join(re.escape(key) for key in sorted(self._aliases, key=len)[::-1]))
            if self._aliases
            else None
        )

    def of(self, value: Any, key: str = "") -> Any:
        match value:
            case dict():
                return {
                    self._text(str(name), ""): self.of(item, str(name))
                    for name, item in value.items()
                    if name not in _VOLATILE
                }
            case list() | tuple():
                return [self.of(item, key) for item in value]
            case str():
                return self._text(value, key)
            case bool() | int() | float() | None:
                return value
            case _:
                # A date: dropped by name above where it is known; anything else by its type.
                return f"<{type(value).__name__}>"

    def _text(self, text: str, key: str) -> str:
        if key in ("Sid", "StatementId") and (_HEX_SID.match(text) or _UUID.fullmatch(text)):
            return "<random>"
        if self._known is not None:
            text = self._known.sub(lambda found: self._aliases[found[0]], text)
        return _UUID.sub("<uuid>", text)


def _functions(clients: Clients) -> Iterator[_Found]:
    client = clients("lambda")
    mappings: dict[str, list[Any]] = {}
    for mapping in _pages(client, "list_event_source_mappings", "EventSourceMappings"):
        mappings.setdefault(mapping["FunctionArn"], []).append(mapping)
    for item in _pages(client, "list_functions", "Functions"):
        name = item["FunctionName"]
        whole = client.get_function(FunctionName=name)
        if not (whole["Configuration"].get("VpcConfig") or {}).get("SubnetIds"):
            # Setting no network leaves an empty one behind, which is the same.
            whole["Configuration"].pop("VpcConfig", None)
        document = {
            "configuration": whole["Configuration"],
            "tags": whole.get("Tags", {}),
            "concurrency": whole.get("Concurrency", {}),
            "code": whole.get("Code", {}),
            "policy": _policy(client, name),
            "versions": [
                version["Version"]
                for version in _pages(
                    client, "list_versions_by_function", "Versions", FunctionName=name
                )
            ],
            "event source mappings": sorted(
                mappings.pop(item["FunctionArn"], []),
                key=lambda mapping: str(mapping["EventSourceArn"]),
            ),
        }
        yield f"function {name}", document, {}
    for function, left in sorted(mappings.items()):
        yield f"orphaned event source mappings of {function}", left, {}


def _policy(client: Any, name: str) -> Any:
    """The statements of a function's policy, without order; their random Sids are replaced."""
    try:
        policy = json.loads(client.get_policy(FunctionName=name)["Policy"])
    except client.exceptions.ResourceNotFoundException:
        return None
    statements = policy.get("Statement", [])
    # Chalice names a statement by a random UUID; the ids of moto's policy are the function's.
    policy["Statement"] = sorted(
        ({**statement, "Sid": "<random>"} for statement in statements), key=_sorting
    )
    return policy


def _sorting(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _layers(clients: Clients) -> Iterator[_Found]:
    client = clients("lambda")
    for layer in _pages(client, "list_layers", "Layers"):
        name = layer["LayerName"]
        versions = _pages(client, "list_layer_versions", "LayerVersions", LayerName=name)
        # How often it was published before does not matter, only which ones there are.
        for position, version in enumerate(sorted(versions, key=lambda one: one["Version"]), 1):
            document = client.get_layer_version(LayerName=name, VersionNumber=version["Version"])
            document.pop("Version")
            title = f"layer {name} {position}"
            yield title, document, {version["LayerVersionArn"]: title}


def _roles(clients: Clients) -> Iterator[_Found]:
    client = clients("iam")
    for role in _pages(client, "list_roles", "Roles"):
        name = role["RoleName"]
        document = {
            "role": client.get_role(RoleName=name)["Role"],
            "inline": {
                policy: client.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                for policy in _pages(client, "list_role_policies", "PolicyNames", RoleName=name)
            },
            "attached": _pages(
                client, "list_attached_role_policies", "AttachedPolicies", RoleName=name
            ),
        }
        for policy in document["inline"].values():
            for statement in policy.get("Statement", []):
                statement.pop("Sid", None)
        yield f"role {name}", document, {}


def _rest_apis(clients: Clients) -> Iterator[_Found]:
    client = clients("apigateway")
    for api in _pages(client, "get_rest_apis", "items"):
        number = api["id"]
        name = api["name"]
        ids = {number: f"REST API {name}"}
        # Importing a document anew gives the root another id, which moto's API does not follow, so
        # the id tells only how often it was imported.
        api.pop("rootResourceId", None)
        resources = []
        for resource in _pages(
            client, "get_resources", "items", restApiId=number, embed=["methods"]
        ):
            ids[resource["id"]] = f"resource {name} {resource['path']}"
            resources.append(resource)
        authorizers = []
        for authorizer in _pages(client, "get_authorizers", "items", restApiId=number):
            ids[authorizer["id"]] = f"authorizer {name} {authorizer['name']}"
            authorizers.append(authorizer)
        stages = client.get_stages(restApiId=number)["item"]
        deployments = sorted(
            _pages(client, "get_deployments", "items", restApiId=number),
            key=lambda deployment: str(deployment.get("createdDate")),
        )
        # Plain Chalice deploys also what has not changed: how often does not matter.
        live = {stage["deploymentId"] for stage in stages}
        ids |= dict.fromkeys(live, f"deployment {name}")
        document = {
            "api": api,
            "resources": sorted(resources, key=lambda resource: str(resource["path"])),
            "authorizers": sorted(authorizers, key=lambda authorizer: str(authorizer["name"])),
            "stages": stages,
            "the newest deployment is live": bool(deployments) and deployments[-1]["id"] in live,
            "models": sorted(
                model["name"] for model in _pages(client, "get_models", "items", restApiId=number)
            ),
        }
        yield f"REST API {name}", document, ids


def _v2_apis(clients: Clients) -> Iterator[_Found]:
    client = clients("apigatewayv2")
    for api in _pages(client, "get_apis", "Items"):
        number = api["ApiId"]
        name = api["Name"]
        ids = {number: f"API {name}"}
        integrations = sorted(
            _pages(client, "get_integrations", "Items", ApiId=number),
            key=lambda integration: str(integration.get("IntegrationUri")),
        )
        for integration in integrations:
            function = str(integration.get("IntegrationUri")).partition(":function:")[2]
            ids[integration["IntegrationId"]] = f"integration {function.partition('/')[0]}"
        routes = sorted(
            _pages(client, "get_routes", "Items", ApiId=number),
            key=lambda route: str(route["RouteKey"]),
        )
        for route in routes:
            ids[route["RouteId"]] = f"route {name} {route['RouteKey']}"
        stages = _pages(client, "get_stages", "Items", ApiId=number)
        for stage in stages:
            if stage.get("DeploymentId"):
                ids[stage["DeploymentId"]] = f"deployment {name} of stage {stage['StageName']}"
        document = {
            "api": api,
            "routes": routes,
            "integrations": integrations,
            "stages": sorted(stages, key=lambda stage: str(stage["StageName"])),
        }
        yield f"API {name}", document, ids


def _domains(clients: Clients) -> Iterator[_Found]:
    """Domains through both APIs: Chalice makes them with one and reads them with the other."""
    first, second = clients("apigateway"), clients("apigatewayv2")
    for domain in _pages(first, "get_domain_names", "items"):
        name = domain["domainName"]
        document = {
            "domain": first.get_domain_name(domainName=name),
            "tags": second.get_tags(
                ResourceArn=f"arn:aws:apigateway:us-east-1::/domainnames/{name}"
            )["Tags"],
            "mappings": _pages(first, "get_base_path_mappings", "items", domainName=name),
        }
        yield f"domain {name}", document, _domain_ids(domain, name)
    for domain in _pages(second, "get_domain_names", "Items"):
        name = domain["DomainName"]
        mappings = _pages(second, "get_api_mappings", "Items", DomainName=name)
        ids = {mapping["ApiMappingId"]: f"mapping of {name}" for mapping in mappings}
        document = {"domain": second.get_domain_name(DomainName=name), "mappings": mappings}
        yield f"domain {name} (v2)", document, ids


def _domain_ids(domain: Mapping[str, Any], name: str) -> dict[str, str]:
    """The addresses behind a domain are random."""
    keys = ("distributionDomainName", "regionalDomainName")
    return {domain[key]: f"{key} of {name}" for key in keys if domain.get(key)}


def _rules(clients: Clients) -> Iterator[_Found]:
    client = clients("events")
    for rule in _pages(client, "list_rules", "Rules"):
        document = {
            "rule": client.describe_rule(Name=rule["Name"]),
            "targets": _pages(client, "list_targets_by_rule", "Targets", Rule=rule["Name"]),
            "tags": client.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"],
        }
        yield f"rule {rule['Name']}", document, {}


def _buckets(clients: Clients) -> Iterator[_Found]:
    client = clients("s3")
    for bucket in client.list_buckets()["Buckets"]:
        notification = client.get_bucket_notification_configuration(Bucket=bucket["Name"])
        for kind in ("LambdaFunctionConfigurations", "QueueConfigurations"):
            if kind in notification:
                notification[kind] = sorted(notification[kind], key=_without_id)
                for position, one in enumerate(notification[kind], start=1):
                    one["Id"] = f"<notification {position}>"
        yield f"bucket {bucket['Name']}", notification, {}


def _without_id(notification: Mapping[str, Any]) -> str:
    return _sorting({key: value for key, value in notification.items() if key != "Id"})


def _subscriptions(clients: Clients) -> Iterator[_Found]:
    client = clients("sns")
    for topic in _pages(client, "list_topics", "Topics"):
        name = topic["TopicArn"].rpartition(":")[2]
        found = sorted(
            _pages(
                client, "list_subscriptions_by_topic", "Subscriptions", TopicArn=topic["TopicArn"]
            ),
            key=lambda subscription: str(subscription["Endpoint"]),
        )
        ids = {
            subscription["SubscriptionArn"]: f"subscription {subscription['Endpoint']}"
            for subscription in found
        }
        document = [
            {
                **subscription,
                "attributes": client.get_subscription_attributes(
                    SubscriptionArn=subscription["SubscriptionArn"]
                )["Attributes"],
            }
            for subscription in found
        ]
        yield f"topic {name}", document, ids


def _log_groups(clients: Clients) -> Iterator[_Found]:
    client = clients("logs")
    for group in _pages(client, "describe_log_groups", "logGroups"):
        yield f"log group {group['logGroupName']}", group, {}


_TOKENS = (("NextMarker", "Marker"), ("NextToken", "NextToken"), ("nextToken", "nextToken"),
           ("position", "position"), ("Marker", "Marker"))  # fmt: skip


def _pages(client: Any, operation: str, key: str, **parameters: Any) -> list[Any]:
    """All pages of a listing operation."""
    found: list[Any] = []
    token: dict[str, str] = {}
    while True:
        try:
            answer = getattr(client, operation)(**parameters, **token)
        except ClientError as problem:
            if problem.response["Error"]["Code"] in ("404", "NotFoundException"):
                return found
            raise
        found.extend(answer.get(key, []))
        token = next(
            ({sends: answer[says]} for says, sends in _TOKENS if answer.get(says)),
            {},
        )
        if not token:
            return found
