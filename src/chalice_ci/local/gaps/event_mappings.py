"""Event source mappings: which are a function's, and what happens to one that is not there."""

from __future__ import annotations

from typing import Any

from moto.awslambda.exceptions import GenericResourcNotFound
from moto.awslambda.models import LambdaBackend

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _list(
    moto: Method, self: LambdaBackend, event_source_arn: str, function_name: str
) -> list[Any]:
    """A function may be given by name or ARN, whichever its mapping was made with."""
    found = moto(self, event_source_arn, "")
    if not function_name:
        return list(found)
    wanted = function_name.rsplit(":function:", 1)[-1]
    return [m for m in found if m.function_arn.rsplit(":function:", 1)[-1] == wanted]


def _update(moto: Method, self: LambdaBackend, uuid: str, spec: dict[str, Any]) -> Any:
    mapping = moto(self, uuid, spec)
    if mapping is None:
        raise GenericResourcNotFound
    return mapping


def _delete(moto: Method, self: LambdaBackend, uuid: str) -> Any:
    mapping = moto(self, uuid)
    if mapping is None:
        raise GenericResourcNotFound
    return mapping


GAP = Gap(
    name="event-mappings",
    lacks="a function's mappings are found only by the name or ARN that made them; updating or"
    " deleting a missing one is a 404 without AWS's code",
    hits="discovery and recovery of SQS, Kinesis and DynamoDB triggers",
    patches=(
        Around(owner=LambdaBackend, name="list_event_source_mappings", wrapper=_list),
        Around(owner=LambdaBackend, name="update_event_source_mapping", wrapper=_update),
        Around(owner=LambdaBackend, name="delete_event_source_mapping", wrapper=_delete),
    ),
)
