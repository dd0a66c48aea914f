"""Find again what a stage is made of, when a deploy ended before it could be recorded.

Everything that Chalice makes can be told by its name, its tag or the function behind it. What is
found and not recorded is adopted, if there is exactly one of it; of two nobody can say which one is
the stage's, so both are only named. What is recorded and gone is dropped, so that it is made again.
What is recorded and somebody else's stays recorded: the ownership guard has to refuse it.

Only reads are made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.errors import AWSError
from chalice_ci.ownership import DOMAIN_TAG, Guard, Owner
from chalice_ci.state.journal import Intent
from chalice_ci.state.schema import Resource, identity_key

Clients = Callable[[str], Any]

_MISSING = {
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
}
_SOURCE = re.compile(r"arn:aws[a-z-]*:(?P<service>sqs|kinesis|dynamodb):[^:]*:[^:]*:(?P<name>.+)")


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What a stage is made of. `resources` is the new record, in the order of the old one.

    `adopted` and `dropped` are (type, name); `doubtful` says in words what was found more than once
    and left alone.
    """

    resources: tuple[Resource, ...]
    adopted: tuple[tuple[str, str], ...]
    dropped: tuple[tuple[str, str], ...]
    doubtful: tuple[str, ...]


def discover(
    owner: Owner,
    clients: Clients,
    recorded: tuple[Resource, ...],
    topics: Mapping[str, str],
    *,
    intents: tuple[Intent, ...] = (),
) -> Discovery:
    """Compare the record with AWS.

    `topics` says how the app names the topic of an SNS subscription (name or ARN), by the
    resource's name, `intents` what an unfinished deploy was about to do. Raises AWSError when AWS
    can't be read.
    """
    try:
        return _Search(owner, clients, topics, intents).compared(recorded)
    except (ClientError, BotoCoreError) as error:
        raise AWSError(
            f"what an unfinished deploy left can't be looked for: {error}",
            where=owner.where,
            fix="Give the role that deploys the permissions to list, or clear the journal with "
            f"`chalice-ci state unlock --stage {owner.stage} --force` and compare by hand.",
        ) from error


class _Search:
    def __init__(
        self,
        owner: Owner,
        clients: Clients,
        topics: Mapping[str, str],
        intents: tuple[Intent, ...],
    ) -> None:
        self._intents = intents
        self._owner = owner
        self._clients = clients
        self._topics = topics
        self._guard = Guard(owner, clients)

    def compared(self, recorded: tuple[Resource, ...]) -> Discovery:
        """What there is of what is recorded, and what more."""
        # A function whose log group is still to be deleted stays recorded, gone or not.
        unfinished = {i.resource for i in self._intents if i.method == "delete_log_group"}
        found: dict[tuple[str, str], list[dict[str, object]]] = {}
        for there in self._all(recorded):
            found.setdefault(identity_key(there), []).append(there)
        kept: list[Resource] = []
        dropped = []
        for resource in recorded:
            key = identity_key(resource)
            stands = [one for one in found.get(key, ()) if _same(resource, one)]
            if stands and "api_mapping" in stands[0]:
                # The answer that told of it may have been lost, and Chalice believes it recorded.
                kept.append({"api_mapping": stands[0]["api_mapping"], **resource})
            elif stands or key[1] in unfinished or not self._gone(resource):
                kept.append(resource)
            else:
                dropped.append(key)
        known = {identity_key(resource) for resource in kept}
        adopted, doubtful = [], []
        for key, matches in found.items():
            if key in known:
                continue
            if len(matches) == 1:
                kept.append(matches[0])
                adopted.append(key)
            else:
                names = ", ".join(sorted(_identity(match) for match in matches))
                doubtful.append(f"{key[0]} {key[1]}: {names}")
        return Discovery(
            resources=tuple(kept),
            adopted=tuple(adopted),
            dropped=tuple(dropped),
            doubtful=tuple(doubtful),
        )

    # -- what is there ------------------------------------------------------------------------

    def _all(self, recorded: tuple[Resource, ...]) -> Iterator[dict[str, object]]:
        functions = list(self._functions())
        arns = {str(f["FunctionArn"]): self._name_of(str(f["FunctionName"])) for f in functions}
        yield from self._roles(functions)
        yield from self._layers()
        for arn, name in arns.items():
            yield {"name": name, "resource_type": "lambda_function", "lambda_arn": arn}
        yield from self._log_groups(arns.values())
        yield from self._rules(arns)
        for arn, name in arns.items():
            yield from self._mappings(arn, name)
            yield from self._buckets(arn, name)
        yield from self._mappings_of_gone(recorded, set(arns.values()))
        yield from self._subscriptions(arns)
        rest = list(self._rest_apis())
        yield from rest
        sockets = list(self._websocket_apis())
        yield from sockets
        yield from self._domains({str(api["rest_api_id"]) for api in rest})
        yield from self._websocket_domains({str(api["websocket_api_id"]) for api in sockets})

    def _functions(self) -> Iterator[Mapping[str, Any]]:
        for function in _pages(self._clients("lambda"), "list_functions", "Functions"):
            name = str(function["FunctionName"])
            if self._is_named(name) and self._guard.owns("function", name):
                yield function

    def _name_of(self, function: str) -> str:
        return function.removeprefix(self._owner.prefix).removeprefix("-") or "api_handler"

    def _roles(self, functions: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, object]]:
        names = {self._owner.prefix: "default-role"}
        for function in functions:
            role = str(function["Role"]).rpartition("/")[2]
            if role.startswith(f"{self._owner.prefix}-"):
                names[role] = f"{role.removeprefix(self._owner.prefix + '-')}_role"
        for role, name in names.items():
            found = self._one("iam", "get_role", RoleName=role)
            if found is not None:
                yield {
                    "name": name,
                    "resource_type": "iam_role",
                    "role_arn": found["Role"]["Arn"],
                    "role_name": role,
                }

    def _layers(self) -> Iterator[dict[str, object]]:
        layer = f"{self._owner.prefix}-managed-layer"
        found = self._one("lambda", "list_layer_versions", LayerName=layer) or {}
        for version in found.get("LayerVersions", ()):
            yield {
                "name": "managed-layer",
                "resource_type": "lambda_layer",
                "layer_version_arn": version["LayerVersionArn"],
            }

    def _log_groups(self, functions: Iterable[str]) -> Iterator[dict[str, object]]:
        """Those of our functions, and those that an unfinished deploy was about to make.

        A name alone tells nothing: `a-b-c-x` can be of the app `a`, stage `b-c`, and a function's
        group outlives it. Lambda makes groups too; only Chalice's have a retention.
        """
        prefix = f"/aws/lambda/{self._owner.prefix}-"
        ours = {f"{name}-log-group" for name in functions}
        ours |= {i.resource for i in self._intents if i.method == "create_log_group"}
        for group in _pages(
            self._clients("logs"), "describe_log_groups", "logGroups", logGroupNamePrefix=prefix
        ):
            name = f"{str(group['logGroupName']).removeprefix(prefix)}-log-group"
            if "retentionInDays" in group and name in ours:
                yield {
                    "name": name,
                    "resource_type": "log_group",
                    "log_group_name": group["logGroupName"],
                }

    def _rules(self, functions: Mapping[str, str]) -> Iterator[dict[str, object]]:
        """Those that lead to our functions, and those that an unfinished deploy was about to make
        and that lead nowhere yet.
        """
        events = self._clients("events")
        prefix = f"{self._owner.prefix}-"
        begun = {i.resource for i in self._intents if i.method == "get_or_create_rule_arn"}
        for rule in _pages(events, "list_rules", "Rules", NamePrefix=prefix):
            name = str(rule["Name"])
            targets = events.list_targets_by_rule(Rule=name).get("Targets", ())
            ours = any(str(target["Arn"]) in functions for target in targets)
            if ours or (not targets and name.removeprefix(prefix) in begun):
                yield {
                    "name": name.removeprefix(prefix),
                    "resource_type": "cloudwatch_event",
                    "rule_name": name,
                }

    def _mappings(self, arn: str, function: str) -> Iterator[dict[str, object]]:
        for mapping in _pages(
            self._clients("lambda"),
            "list_event_source_mappings",
            "EventSourceMappings",
            FunctionName=arn,
        ):
            yield from _mapped(mapping, arn, function)

    def _mappings_of_gone(
        self, recorded: tuple[Resource, ...], there: set[str]
    ) -> Iterator[dict[str, object]]:
        """Those that lead to a function that we made, or were about to make, and that is gone.

        AWS keeps them, and they lead to the next function of that name (AWS Lambda's API reference,
        DeleteFunction).
        """
        made = {str(one["name"]) for one in recorded if one["resource_type"] == "lambda_function"}
        made |= {i.resource for i in self._intents if i.method == "create_function"}
        gone = made - there
        if not gone:
            return
        for mapping in _pages(
            self._clients("lambda"), "list_event_source_mappings", "EventSourceMappings"
        ):
            arn = str(mapping.get("FunctionArn", ""))
            function = arn.rpartition(":")[2]
            if self._is_named(function) and self._name_of(function) in gone:
                yield from _mapped(mapping, arn, self._name_of(function))

    def _buckets(self, arn: str, function: str) -> Iterator[dict[str, object]]:
        policy = self._one("lambda", "get_policy", FunctionName=arn)
        for statement in json.loads(policy["Policy"])["Statement"] if policy else ():
            source = str((statement.get("Condition") or {}).get("ArnLike", {}).get("AWS:SourceArn"))
            bucket = source.partition(":s3:::")[2]
            if not bucket:
                continue
            found = self._one("s3", "get_bucket_notification_configuration", Bucket=bucket) or {}
            for one in found.get("LambdaFunctionConfigurations", ()):
                if one["LambdaFunctionArn"] == arn:
                    yield {
                        "name": f"{function}-s3event",
                        "resource_type": "s3_event",
                        "bucket": bucket,
                        "lambda_arn": arn,
                    }
                    break

    def _subscriptions(self, functions: Mapping[str, str]) -> Iterator[dict[str, object]]:
        for one in _pages(self._clients("sns"), "list_subscriptions", "Subscriptions"):
            function = functions.get(str(one["Endpoint"]))
            if function is not None and one["Protocol"] == "lambda":
                name = f"{function}-sns-subscription"
                topic = str(one["TopicArn"])
                yield {
                    "name": name,
                    "resource_type": "sns_event",
                    "topic": self._topics.get(name, topic.rpartition(":")[2]),
                    "topic_arn": topic,
                    "lambda_arn": one["Endpoint"],
                    "subscription_arn": one["SubscriptionArn"],
                }

    def _rest_apis(self) -> Iterator[dict[str, object]]:
        client = self._clients("apigateway")
        for api in _pages(client, "get_rest_apis", "items"):
            number = str(api["id"])
            if api.get("name") not in self._owner.titles or not self._guard.owns(
                "rest_api", number
            ):
                continue
            values: dict[str, object] = {
                "name": "rest_api",
                "resource_type": "rest_api",
                "rest_api_id": number,
            }
            stages = client.get_stages(restApiId=number).get("item", ())
            if len(stages) == 1:
                values["rest_api_url"] = (
                    f"https://{number}.execute-api.{self._owner.region}.amazonaws.com/"
                    f"{stages[0]['stageName']}/"
                )
            yield values

    def _websocket_apis(self) -> Iterator[dict[str, object]]:
        client = self._clients("apigatewayv2")
        for api in _pages(client, "get_apis", "Items"):
            if api.get("Name") != f"{self._owner.prefix}-websocket-api":
                continue
            number = str(api["ApiId"])
            values: dict[str, object] = {
                "name": "websocket_api",
                "resource_type": "websocket_api",
                "websocket_api_id": number,
            }
            stages = client.get_stages(ApiId=number).get("Items", ())
            if len(stages) == 1:
                values["websocket_api_url"] = (
                    f"wss://{number}.execute-api.{self._owner.region}.amazonaws.com/"
                    f"{stages[0]['StageName']}/"
                )
            yield values

    def _domains(self, apis: set[str]) -> Iterator[dict[str, object]]:
        """Domains of REST APIs; one is the stage's when it leads to nothing else.

        One that leads nowhere yet was left by a deploy that ended before it was mapped: its tag
        tells whose it is.
        """
        if not apis:
            return
        client = self._clients("apigateway")
        for domain in _pages(client, "get_domain_names", "items"):
            name = str(domain["domainName"])
            try:
                found = self._one("apigateway", "get_base_path_mappings", domainName=name)
            except ClientError as error:
                # What the second API has mapped, the first one may refuse to show.
                if error.response["Error"].get("Code") != "BadRequestException":
                    raise
                continue
            mappings = found or {}
            items = mappings.get("items", ())
            resource = "api_gateway_custom_domain"
            if _leads_only_to(apis, items, "restApiId") or (
                not items and self._is_tagged(domain.get("tags"), resource)
            ):
                yield {
                    "name": resource,
                    "resource_type": "domain_name",
                    "domain_name": name,
                    "hosted_zone_id": domain.get("regionalHostedZoneId")
                    or domain.get("distributionHostedZoneId", ""),
                    "alias_domain_name": domain.get("regionalDomainName")
                    or domain.get("distributionDomainName", ""),
                    "certificate_arn": domain.get("regionalCertificateArn")
                    or domain.get("certificateArn", ""),
                    "security_policy": domain.get("securityPolicy", ""),
                    "api_mapping": [_mapping_of(one.get("basePath")) for one in items],
                }

    def _websocket_domains(self, apis: set[str]) -> Iterator[dict[str, object]]:
        """Domains of WebSocket APIs, which only the second API of API Gateway can map."""
        if not apis:
            return
        client = self._clients("apigatewayv2")
        for domain in _pages(client, "get_domain_names", "Items"):
            name = str(domain["DomainName"])
            mappings = self._one("apigatewayv2", "get_api_mappings", DomainName=name) or {}
            items = mappings.get("Items", ())
            of: Mapping[str, Any] = next(iter(domain.get("DomainNameConfigurations", ())), {})
            resource = "websocket_api_custom_domain"
            if _leads_only_to(apis, items, "ApiId") or (
                not items and self._is_tagged(domain.get("Tags"), resource)
            ):
                yield {
                    "name": resource,
                    "resource_type": "domain_name",
                    "domain_name": name,
                    "hosted_zone_id": of.get("HostedZoneId", ""),
                    "alias_domain_name": of.get("ApiGatewayDomainName", ""),
                    "certificate_arn": of.get("CertificateArn", ""),
                    "security_policy": of.get("SecurityPolicy", ""),
                    "api_mapping": [_mapping_of(one.get("ApiMappingKey")) for one in items],
                }

    def _is_tagged(self, tags: Mapping[str, str] | None, resource: str) -> bool:
        return (tags or {}).get(DOMAIN_TAG) == f"{resource}{self._owner.tag}"

    # -- what is gone -------------------------------------------------------------------------

    def _gone(self, resource: Resource) -> bool:
        """Whether a recorded resource of this account and region is known not to be there."""
        kind = str(resource["resource_type"])
        arn = str(resource.get("lambda_arn") or resource.get("layer_version_arn") or "")
        if arn and arn.split(":")[3:5] != [self._owner.region, self._owner.account]:
            return False
        look = _LOOKS.get(kind)
        if look is None:
            return False
        service, operation, arguments = look(resource)
        return self._one(service, operation, **arguments) is None

    def _one(self, service: str, operation: str, **arguments: Any) -> Any:
        """AWS's answer; None when there is no such thing."""
        try:
            return getattr(self._clients(service), operation)(**arguments)
        except ClientError as error:
            if error.response["Error"].get("Code") in _MISSING:
                return None
            raise

    def _is_named(self, name: str) -> bool:
        return name == self._owner.prefix or name.startswith(f"{self._owner.prefix}-")


def _mapped(mapping: Mapping[str, Any], arn: str, function: str) -> Iterator[dict[str, object]]:
    """An event source mapping as Chalice records it; of other services than Chalice's nothing."""
    source = str(mapping.get("EventSourceArn", ""))
    match = _SOURCE.fullmatch(source)
    if match is None:
        return
    kind, name = match["service"], match["name"]
    values: dict[str, object] = {
        "name": f"{function}-{kind}-event-source",
        "resource_type": f"{kind}_event",
        "event_uuid": mapping["UUID"],
        "lambda_arn": arn,
    }
    if kind == "sqs":
        values |= {"queue": name, "queue_arn": source}
    elif kind == "kinesis":
        values |= {"stream": name.partition("/")[2], "kinesis_arn": source}
    else:
        values |= {"stream_arn": source}
    yield values


def _leads_only_to(apis: set[str], mappings: Sequence[Mapping[str, Any]], key: str) -> bool:
    return bool(mappings) and all(one.get(key) in apis for one in mappings)


def _mapping_of(path: object) -> dict[str, str]:
    """A mapping as Chalice records it; AWS calls a domain's root "(none)" or leaves it empty."""
    return {"key": "/" if path in (None, "", "(none)") else f"/{path}"}


_Look = Callable[[Resource], tuple[str, str, dict[str, Any]]]

_LOOKS: Mapping[str, _Look] = {
    "cloudwatch_event": lambda r: ("events", "describe_rule", {"Name": r["rule_name"]}),
    "domain_name": lambda r: ("apigateway", "get_domain_name", {"domainName": r["domain_name"]}),
    "dynamodb_event": lambda r: ("lambda", "get_event_source_mapping", {"UUID": r["event_uuid"]}),
    "iam_role": lambda r: ("iam", "get_role", {"RoleName": r["role_name"]}),
    "kinesis_event": lambda r: ("lambda", "get_event_source_mapping", {"UUID": r["event_uuid"]}),
    "lambda_function": lambda r: ("lambda", "get_function", {"FunctionName": r["lambda_arn"]}),
    "lambda_layer": lambda r: (
        "lambda",
        "get_layer_version_by_arn",
        {"Arn": r["layer_version_arn"]},
    ),
    "rest_api": lambda r: ("apigateway", "get_rest_api", {"restApiId": r["rest_api_id"]}),
    "sns_event": lambda r: (
        "sns",
        "get_subscription_attributes",
        {"SubscriptionArn": r["subscription_arn"]},
    ),
    "sqs_event": lambda r: ("lambda", "get_event_source_mapping", {"UUID": r["event_uuid"]}),
    "websocket_api": lambda r: ("apigatewayv2", "get_api", {"ApiId": r["websocket_api_id"]}),
}
"""What is asked to find out whether a recorded resource is there."""


def _same(recorded: Resource, found: Mapping[str, object]) -> bool:
    return _identity(recorded) == _identity(found)


_IDENTITIES = (
    "event_uuid",
    "subscription_arn",
    "rest_api_id",
    "websocket_api_id",
    "layer_version_arn",
    "rule_name",
    "log_group_name",
    "domain_name",
    "bucket",
    "role_arn",
    "lambda_arn",
)


def _identity(resource: Mapping[str, object]) -> str:
    return next((str(resource[key]) for key in _IDENTITIES if resource.get(key)), "")


def _pages(client: Any, operation: str, key: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(key, ())
