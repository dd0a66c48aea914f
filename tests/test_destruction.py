"""What a deployment takes away."""

from __future__ import annotations

from dataclasses import replace

from chalice_ci.destruction import destructions
from chalice_ci.difference.changes import Baseline, BaselineKind, Changes
from chalice_ci.difference.compare import compare
from chalice_ci.plan import Operation
from chalice_ci.snapshot import Api
from support.snapshots import EMPTY, function

UNKNOWN = Changes(baseline=Baseline(kind=BaselineKind.DEPLOYED, problem="It was not recorded."))
RECORDED = {
    "rest_api": "rest_api",
    "websocket_api": "websocket_api",
    "api_gateway_custom_domain": "domain_name",
    "default-role": "iam_role",
    "worker": "lambda_function",
    "worker-event": "cloudwatch_event",
    "managed-layer": "lambda_layer",
    "worker-log-group": "log_group",
    "jobs-sqs-event-source": "sqs_event",
}
RESOURCES = tuple({"name": name, "resource_type": kind} for name, kind in RECORDED.items())
REST = Api(kind="rest", name="rest_api", stage="api", endpoint="EDGE")


def swept(*names: str) -> tuple[Operation, ...]:
    return tuple(Operation(method="delete", resource=name, sweep=True) for name in names)


def changes(kind: BaselineKind) -> Changes:
    before = replace(EMPTY, apis=(REST,), functions=(function(),))
    after = replace(EMPTY, apis=(replace(REST, endpoint="PRIVATE"),))
    return compare(before, after, Baseline(kind=kind))


def test_what_holds_an_address_is_told_and_what_does_not_is_not() -> None:
    assert destructions(swept(*RECORDED), RESOURCES, UNKNOWN) == (
        "the REST API `rest_api` is deleted",
        "the WebSocket API `websocket_api` is deleted",
        "the domain `api_gateway_custom_domain` is deleted",
        "the role `default-role` is deleted",
        "the function `worker` is deleted",
    )


def test_what_is_deleted_and_made_again_is_replaced() -> None:
    made = Operation(method="create_function", resource="worker")
    found = destructions((*swept("worker"), made), RESOURCES, UNKNOWN)
    assert found == ("the function `worker` is replaced",)


def test_an_update_loses_nothing() -> None:
    update = Operation(method="update_function", resource="worker")
    assert destructions((update,), RESOURCES, UNKNOWN) == ()


def test_a_changed_address_is_told_only_of_what_is_deployed() -> None:
    """The function that is gone is among the operations, not told twice."""
    (one,) = destructions((), RESOURCES, changes(BaselineKind.DEPLOYED))
    assert one.startswith("The endpoint type goes from EDGE to PRIVATE")
    assert destructions((), RESOURCES, changes(BaselineKind.BASE)) == ()


def test_a_changed_stage_is_told_from_the_recorded_address_alone() -> None:
    """Chalice's own record has it; of the same loss the difference tells nothing twice."""
    address = "https://abc123.execute-api.eu-west-1.amazonaws.com/api/"
    socket = "wss://def456.execute-api.eu-west-1.amazonaws.com/api/"
    resources = (
        {"name": "rest_api", "resource_type": "rest_api", "rest_api_url": address},
        {"name": "ws", "resource_type": "websocket_api", "websocket_api_url": socket},
    )
    websocket = Api(kind="websocket", name="websocket_api", stage="api")
    assert destructions((), resources, UNKNOWN, (REST, websocket)) == ()
    moved = replace(REST, stage="v2")
    lost = ("The address ends in /v2 and no longer in /api",)
    assert destructions((), resources, UNKNOWN, (moved, websocket)) == lost
    after = replace(EMPTY, apis=(moved,))
    known = compare(replace(EMPTY, apis=(REST,)), after, Baseline(kind=BaselineKind.DEPLOYED))
    assert destructions((), resources, known, (moved,)) == lost
    assert destructions((), (), UNKNOWN, (moved,)) == ()
