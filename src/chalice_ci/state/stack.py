"""What of a CloudFormation stack can go on as Chalice's state: its APIs.

`chalice generate-pipeline` deploys the template of `chalice package` as a stack. CloudFormation
makes up the names of functions and roles, and Chalice looks for both by names of its own, so they
can't be taken over; an API is known by its id alone, and its id is its address. Read is what
`aws cloudformation describe-stack-resources` or `list-stack-resources` prints (the output shapes
of CloudFormation's API, 2010-05-15).

Pure: bytes in, values out; hostile as any state file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from chalice_ci.state.schema import MAX_BYTES, Resource, StageState, StateDamaged, checked

_LISTS = ("StackResources", "StackResourceSummaries")
_APIS = {
    "AWS::ApiGateway::RestApi": "rest_api",
    "AWS::ApiGatewayV2::Api": "websocket_api",
}
_STAGES = {
    "AWS::ApiGateway::Stage": "rest_api",
    "AWS::ApiGatewayV2::Stage": "websocket_api",
}
_SCHEMES = {"rest_api": "https", "websocket_api": "wss"}
_STACK_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):cloudformation:(?P<region>[a-z0-9-]+):\d{12}:stack/.+"
)
_FIX = "Give what `aws cloudformation describe-stack-resources --stack-name NAME` prints."


def is_stack(raw: bytes) -> bool:
    """Whether this is a listing of a stack's resources."""
    if len(raw) > MAX_BYTES:
        return False
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and any(key in document for key in _LISTS)


def parse_stack(raw: bytes, *, where: str) -> StageState:
    """The APIs of a stack as a stage's state. Raises StateDamaged for what can't be taken over."""
    document = json.loads(raw)
    listed = next(document[key] for key in _LISTS if key in document)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise StateDamaged("The stack's resources are no list of objects.", where=where, fix=_FIX)
    stages = {kind: _id(one, where) for kind, one in _of(listed, _STAGES, where)}
    region = next(iter(_regions(listed)), "")
    found: list[Resource] = []
    for kind, one in _of(listed, _APIS, where):
        identity = _id(one, where)
        resource = {"name": kind, "resource_type": kind, f"{kind}_id": identity}
        if region and kind in stages:
            host = f"{identity}.execute-api.{region}.amazonaws.com"
            resource[f"{kind}_url"] = f"{_SCHEMES[kind]}://{host}/{stages[kind]}/"
        found.append(resource)
    if not found:
        raise StateDamaged(
            "The stack has no API, and nothing else of a stack can be taken over: its functions "
            "and roles have names that CloudFormation made up.",
            where=where,
            fix="Deploy the stage, then delete the stack.",
        )
    return checked(found, where=where)


def _of(
    listed: list[dict[str, object]], kinds: Mapping[str, str], where: str
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The resources of some types by what Chalice calls them, each once."""
    seen: set[str] = set()
    for one in listed:
        kind = kinds.get(str(one.get("ResourceType")))
        if kind is None or str(one.get("ResourceStatus", "")).startswith("DELETE_COMPLETE"):
            continue
        if kind in seen:
            raise StateDamaged(
                f"The stack has two resources of the type {one['ResourceType']}; Chalice makes "
                "one.",
                where=where,
                fix="Take out of the listing what Chalice did not make.",
            )
        seen.add(kind)
        yield kind, one


def _id(one: Mapping[str, object], where: str) -> str:
    found = one.get("PhysicalResourceId")
    if not isinstance(found, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found):
        raise StateDamaged(
            f"The resource {str(one.get('LogicalResourceId'))[:100]!r} has no id.",
            where=where,
            fix=_FIX,
        )
    return found


def _regions(listed: list[dict[str, object]]) -> Iterator[str]:
    """The region that the stack's ARN tells; summaries do not have it."""
    for one in listed:
        match = _STACK_ARN.fullmatch(str(one.get("StackId", "")))
        if match is not None and match["partition"] == "aws":
            yield match["region"]
