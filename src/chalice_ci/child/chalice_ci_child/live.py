"""What of a plan is live already, so that it need not be done.

For each method of Chalice's client that a plan calls, AWS is asked whether the result stands; the
answer is what the method would have returned. Only reads are made. What can't be told - no
permission to read it, a method that nobody thought of - is done as Chalice would do it.

Standard library, botocore and chalice only; Python 3.10.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import botocore.exceptions
from chalice.awsclient import AWSClientError

from . import settings
from .calls import Refused
from .client import Client, description_of

_Params = Mapping[str, Any]

DOMAIN_TAG = "chalice-ci"
"""Whose a custom domain is, on the domain itself: until it is mapped, nothing else tells."""


class Standing:
    """The effect of a call is live; `value` is what the call would have returned."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


class Live:
    """Looks at AWS through a client; one per plan."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def standing(self, method: str, params: _Params) -> Standing | None:
        """Return what stands of one call; None when it has to be made."""
        check = _CHECKS.get(method)
        if check is None:
            return None
        return self._answered(partial(check, self, method, params))

    def together(self, calls: Sequence[tuple[str, _Params]]) -> Standing | None:
        """Return what stands of calls that make sense only together; None: all are to be made.

        What is known only while the plan is executed may stand in the parameters as anything that
        is equal to nothing else.
        """
        methods = {method for method, _ in calls}
        for telling, check in _TOGETHER.items():
            if telling in methods:
                return self._answered(partial(check, self, calls))
        return None

    def _answered(self, check: Callable[[], Standing | None]) -> Standing | None:
        try:
            return check()
        except Refused:
            # The method would have changed something.
            return None
        except (
            AWSClientError,
            botocore.exceptions.ClientError,
            KeyError,
            ValueError,
            IndexError,
        ):
            return None

    def _ask(self, service: str, operation: str, **arguments: Any) -> Any:
        return self._client.ask(service, operation, **arguments)

    # -- one call each ------------------------------------------------------------------------

    def _function(self, _method: str, params: _Params) -> Standing | None:
        live = self._client.known(params["function_name"])
        configuration = live["Configuration"]
        vpc = None
        if params.get("subnet_ids") is not None and params.get("security_group_ids") is not None:
            vpc = {
                "SubnetIds": params["subnet_ids"],
                "SecurityGroupIds": params["security_group_ids"],
            }
        if (
            configuration.get("State", "Active") in ("Active", "Inactive")
            and configuration.get("LastUpdateStatus", "Successful") == "Successful"
            and not settings.code_differs(configuration, params)
            and not settings.differing(configuration, params, vpc)
            and params.get("tags") in (None, live.get("Tags") or {})
        ):
            return Standing({"FunctionArn": configuration["FunctionArn"]})
        return None

    def _concurrency(self, _method: str, params: _Params) -> Standing | None:
        live = self._client.known(params["function_name"])
        # A function that is made by this plan has none.
        reserved = (live.get("Concurrency") or {}).get("ReservedConcurrentExecutions")
        return Standing() if reserved == params.get("reserved_concurrent_executions") else None

    def _rehearsed(self, method: str, params: _Params) -> Standing | None:
        """Chalice's method looks before it changes: while only reads are allowed it may run."""
        return Standing(getattr(self._client, method)(**params))

    def _role_policy(self, _method: str, params: _Params) -> Standing | None:
        found = self._ask(
            "iam",
            "get_role_policy",
            RoleName=params["role_name"],
            PolicyName=params["policy_name"],
        )
        document = found["PolicyDocument"]
        return Standing() if document == params["policy_document"] else None

    def _rule(self, _method: str, params: _Params) -> Standing | None:
        rule = self._ask("events", "describe_rule", Name=params["rule_name"])
        wanted = {
            "ScheduleExpression": params.get("schedule_expression"),
            "EventPattern": params.get("event_pattern"),
        }
        same = all(_pattern(rule.get(key)) == _pattern(value) for key, value in wanted.items())
        described = params.get("rule_description") in (None, rule.get("Description"))
        if same and described and rule.get("State") == "ENABLED":
            return Standing(rule["Arn"])
        return None

    def _rule_target(self, _method: str, params: _Params) -> Standing | None:
        found = self._ask("events", "list_targets_by_rule", Rule=params["rule_name"])
        targets = {target["Id"]: target["Arn"] for target in found["Targets"]}
        return Standing() if targets.get("1") == params["function_arn"] else None

    def _event_source(self, _method: str, params: _Params) -> Standing | None:
        found = self._ask("lambda", "get_event_source_mapping", UUID=params["event_uuid"])
        concurrency = params.get("maximum_concurrency")
        live = (found.get("ScalingConfig") or {}).get("MaximumConcurrency")
        if (
            found["BatchSize"] == params["batch_size"]
            and (found.get("MaximumBatchingWindowInSeconds") or 0)
            == (params.get("maximum_batching_window_in_seconds") or 0)
            and concurrency in (None, 0, live)
        ):
            return Standing()
        return None

    def _retention(self, _method: str, params: _Params) -> Standing | None:
        found = self._ask("logs", "describe_log_groups", logGroupNamePrefix=params["name"])
        days = {group["logGroupName"]: group.get("retentionInDays") for group in found["logGroups"]}
        return Standing() if days.get(params["name"]) == params["retention_in_days"] else None

    def _bucket(self, _method: str, params: _Params) -> Standing | None:
        found = self._ask("s3", "get_bucket_notification_configuration", Bucket=params["bucket"])
        ours = [
            _notification(one["Events"], ((one.get("Filter") or {}).get("Key") or {}))
            for one in found.get("LambdaFunctionConfigurations") or ()
            if one["LambdaFunctionArn"] == params["function_arn"]
        ]
        rules = [
            {"Name": name, "Value": params[name]}
            for name in ("prefix", "suffix")
            if params.get(name) is not None
        ]
        wanted = _notification(params["events"], {"FilterRules": rules})
        return Standing() if ours == [wanted] else None

    def _domain(self, _method: str, params: _Params) -> Standing | None:
        if params["protocol"] == "WEBSOCKET":
            found = self._ask("apigatewayv2", "get_domain_name", DomainName=params["domain_name"])
            part = found["DomainNameConfigurations"][0]
            kind = part.get("EndpointType")
            value = {
                "domain_name": found["DomainName"],
                "alias_domain_name": part["ApiGatewayDomainName"],
                "security_policy": part["SecurityPolicy"],
                "hosted_zone_id": part["HostedZoneId"],
                "certificate_arn": part["CertificateArn"],
            }
        else:
            found = self._ask("apigateway", "get_domain_name", domainName=params["domain_name"])
            kind = found["endpointConfiguration"]["types"][0]
            regional = "regionalCertificateArn" in found
            value = {
                "domain_name": found["domainName"],
                "security_policy": found["securityPolicy"],
                "certificate_arn": found[
                    "regionalCertificateArn" if regional else "certificateArn"
                ],
                "hosted_zone_id": found.get("regionalHostedZoneId")
                or found["distributionHostedZoneId"],
                "alias_domain_name": found.get("regionalDomainName")
                or found["distributionDomainName"],
            }
        policy = params.get("security_policy")
        arn = (
            f"arn:{self._client.partition_name}:apigateway:{self._client.region_name}:"
            f":/domainnames/{params['domain_name']}"
        )
        tags = self._ask("apigatewayv2", "get_tags", ResourceArn=arn)["Tags"]
        if (
            value["certificate_arn"] == params["certificate_arn"]
            and policy in (None, value["security_policy"])
            and kind == params["endpoint_type"]
            and _own(tags) == _own(params.get("tags"))
        ):
            return Standing(value)
        return None

    # -- several calls together ---------------------------------------------------------------

    def _rest_api(self, calls: Sequence[tuple[str, _Params]]) -> Standing | None:
        """The live stage serves a deployment of exactly this definition."""
        named = dict(calls)
        update, deploy = named["update_api_from_swagger"], named["deploy_rest_api"]
        api = update["rest_api_id"]
        stage = self._ask(
            "apigateway", "get_stage", restApiId=api, stageName=deploy["api_gateway_stage"]
        )
        deployment = self._ask(
            "apigateway", "get_deployment", restApiId=api, deploymentId=stage["deploymentId"]
        )
        if (
            deployment.get("description") != description_of(update["swagger_document"])
            or bool(stage.get("tracingEnabled")) != bool(deploy["xray"])
            or not self._has_options(api, named["update_rest_api"]["patch_operations"])
        ):
            return None
        return Standing()

    def _has_options(self, api: str, patches: Sequence[_Params]) -> bool:
        found = self._ask("apigateway", "get_rest_api", restApiId=api)
        for patch in patches:
            value = patch.get("value")
            if patch["path"] == "/minimumCompressionSize":
                live = found.get("minimumCompressionSize")
                if (None if live is None else str(live)) != (
                    None if value in (None, "") else str(value)
                ):
                    return False
            elif patch["path"].startswith("/endpointConfiguration/types/"):
                if found["endpointConfiguration"]["types"] != [value]:
                    return False
            else:
                return False
        return True

    def _websocket_routes(self, calls: Sequence[tuple[str, _Params]]) -> Standing | None:
        """Each route leads to the integration of its function, and there are no others."""
        api = next(p["api_id"] for m, p in calls if m == "delete_websocket_routes")
        uris = {
            params["handler_type"]: params["lambda_function"]
            for method, params in calls
            if method == "create_websocket_integration"
        }
        routes = {p["route_key"] for m, p in calls if m == "create_websocket_route"}
        found = self._ask("apigatewayv2", "get_integrations", ApiId=api)["Items"]
        live_uris = {one["IntegrationId"]: one.get("IntegrationUri") for one in found}
        if sorted(map(str, live_uris.values())) != sorted(uris.values()):
            return None
        items = self._ask("apigatewayv2", "get_routes", ApiId=api)["Items"]
        live = {
            item["RouteKey"]: live_uris.get(str(item.get("Target", "")).rpartition("/")[2])
            for item in items
        }
        wanted = {
            route: uris[{"$connect": "connect", "$disconnect": "disconnect"}.get(route, "message")]
            for route in routes
        }
        return Standing() if live == wanted and len(items) == len(wanted) else None

    def _layer(self, calls: Sequence[tuple[str, _Params]]) -> Standing | None:
        named = dict(calls)
        arn = named["delete_layer_version"]["layer_version_arn"]
        publish = named["publish_layer"]
        found = self._ask("lambda", "get_layer_version_by_arn", Arn=arn)
        architecture = publish.get("architecture")
        if (
            found["Content"]["CodeSha256"] == publish["zip_contents"].code_sha256
            and found.get("CompatibleRuntimes") == [publish["runtime"]]
            and architecture in (None, *(found.get("CompatibleArchitectures") or ()))
        ):
            return Standing(arn)
        return None


def _own(tags: Any) -> dict[str, Any]:
    """A domain's tags but ours: plain Chalice makes domains without it, and they are well so."""
    return {key: value for key, value in (tags or {}).items() if key != DOMAIN_TAG}


def _pattern(text: Any) -> Any:
    """Return an event pattern without its layout; AWS gives it back as it was put."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _notification(events: Sequence[str], key: Mapping[str, Any]) -> Any:
    rules = [(rule["Name"].lower(), rule["Value"]) for rule in key.get("FilterRules") or ()]
    return sorted(events), sorted(rules)


_Check = Callable[[Live, str, _Params], "Standing | None"]

_CHECKS: Mapping[str, _Check] = {
    "add_permission_for_apigateway": Live._rehearsed,
    "add_permission_for_apigateway_v2": Live._rehearsed,
    "add_permission_for_cloudwatch_event": Live._rehearsed,
    "add_permission_for_s3_event": Live._rehearsed,
    "add_permission_for_sns_topic": Live._rehearsed,
    "connect_rule_to_lambda": Live._rule_target,
    "connect_s3_bucket_to_lambda": Live._bucket,
    "delete_function_concurrency": Live._concurrency,
    "get_or_create_rule_arn": Live._rule,
    "put_function_concurrency": Live._concurrency,
    "put_retention_policy": Live._retention,
    "put_role_policy": Live._role_policy,
    "update_domain_name": Live._domain,
    "update_function": Live._function,
    "update_lambda_event_source": Live._event_source,
}

# Calls that make sense only together, found by the one that tells them apart from a creation.
_TOGETHER: Mapping[str, Callable[[Live, Sequence[tuple[str, _Params]]], Standing | None]] = {
    "delete_layer_version": Live._layer,
    "delete_websocket_routes": Live._websocket_routes,
    "update_api_from_swagger": Live._rest_api,
}

BUNDLES = (
    {"delete_layer_version", "publish_layer"},
    {
        "create_websocket_integration",
        "create_websocket_route",
        "delete_websocket_integrations",
        "delete_websocket_routes",
    },
    {"deploy_rest_api", "update_api_from_swagger", "update_rest_api"},
)
"""Methods that stand or are done together within one resource."""
