"""Plan and apply in the deployer's child: real processes, real Chalice, the embedded AWS."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.app.deployer import (
    CHILD_DIR,
    Call,
    Deployer,
    PackageFile,
    Result,
    Step,
    StepState,
    deployer_environ,
)
from chalice_ci.app.deployers import Deployers
from chalice_ci.app.environment import make_deployer_environment
from chalice_ci.errors import AWSError, NotOurs, PackageError, PlanRefused
from chalice_ci.local import EmbeddedAWS, LocalMode
from chalice_ci.plan import Action, Operation, actions
from support.awsclients import clients_of
from support.awslisting import list_account
from support.deployments import Recorder, deletion
from support.shapes import ACCOUNT, REGION, Clients, apply_change
from support.stages import PYTHON, Stage, stage_on

ANOTHER_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield aws


@pytest.fixture
def aws(server: EmbeddedAWS) -> EmbeddedAWS:
    server.reset()
    server.order_faults([])
    return server


@pytest.fixture(scope="module")
def deployers(server: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployers]:
    with Deployers(server.environ, tmp_path_factory.mktemp("run"), poll_seconds=0.2) as lending:
        yield lending


@pytest.fixture
def stage(aws: EmbeddedAWS, tmp_path: Path, deployers: Deployers) -> Callable[[str], Stage]:
    return lambda name: Stage(name, aws, tmp_path, deployers)


class Refusing(Recorder):
    """Refuses the n-th call; counts from 1."""

    def __init__(self, number: int, error: BaseException | None = None) -> None:
        super().__init__()
        self.number = number
        self.error = error or NotOurs("not this one", where="here")

    def allow(self, call: Call) -> None:
        super().allow(call)
        if len(self.calls) == self.number:
            raise self.error


class Doing(Recorder):
    """Does something when an operation of AWS was done."""

    def __init__(self, operation: str, action: Callable[[], None]) -> None:
        super().__init__()
        self.operation = operation
        self.action = action

    def done(self, call: Call, result: Result) -> None:
        super().done(call, result)
        if call.operation == self.operation:
            self.action()


@pytest.mark.parametrize("name", ["everything", "custom_domain", "functions", "automatic_layer"])
def test_a_stage_is_deployed_updated_and_deleted_from_state_alone(
    stage: Callable[[str], Stage], name: str
) -> None:
    it = stage(name)
    clean = _account(it)
    assert it.deploy().check() is None
    deployed = it.names()
    assert "default-role" in deployed
    apply_change(it.shape, it.project)
    outcome = it.deploy()
    outcome.check()
    assert outcome.complete
    it.delete().check()
    assert it.resources == ()
    assert _account(it) == clean


def _account(it: Stage) -> dict[str, Any]:
    """All that is in AWS, but log groups: Chalice never deletes them."""
    found = list_account(clients_of(it.aws)).resources
    return {name: what for name, what in found.items() if not name.startswith("log group")}


@pytest.mark.parametrize("version", ["1.29.0", "1.31.4", "1.33.0"])
def test_an_app_is_deployed_by_its_own_chalice(
    stage: Callable[[str], Stage], version: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    try:
        python = make_deployer_environment(version, cache_dir=cache, environ=dict(os.environ))
    except PackageError as missing:
        pytest.skip(str(missing))
    it = stage("everything")
    it.python = python
    clean = _account(it)
    it.deploy().check()
    apply_change(it.shape, it.project)
    it.deploy().check()
    live = clients_of(it.aws)("lambda").list_tags(
        Resource=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{it.app_name}-dev-worker"
    )
    assert live["Tags"]["aws-chalice"].startswith(f"version={version}:")
    it.delete().check()
    assert _account(it) == clean


def test_each_changing_call_was_asked_for_and_reported(stage: Callable[[str], Stage]) -> None:
    it = stage("everything")
    it.deploy().check()
    asked = [f"{c.service}:{c.operation}" for c in it.recorder.calls]
    # Independent functions are made at once, so answers come in an order of their own.
    assert sorted(asked) == sorted(it.mutations())
    told = sorted(it.recorder.results, key=lambda pair: pair[0].number)
    assert [c for c, _ in told] == it.recorder.calls
    assert all(result.ok for _, result in it.recorder.results)
    first = it.recorder.calls[0].number
    assert [c.number for c in it.recorder.calls] == list(range(first, first + len(asked)))


def test_a_call_says_which_operation_of_the_plan_it_belongs_to(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("rest")
    it.deploy().check()
    belongs = {f"{c.service}:{c.operation}": (c.method, c.resource) for c in it.recorder.calls}
    assert belongs["iam:PutRolePolicy"] == ("create_role", "default-role")
    assert belongs["lambda:CreateFunction"] == ("create_function", "api_handler")
    assert belongs["apigateway:ImportRestApi"] == ("import_rest_api", "rest_api")
    assert belongs["lambda:AddPermission"] == ("add_permission_for_apigateway", "rest_api")


def test_a_calls_parameters_hold_digests_of_code_and_names_of_variables(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    config = it.project / ".chalice/config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    for code in ("create", "update"):
        settings["environment_variables"] = {"API_KEY": "canary-5f1c", "CODE": code}
        config.write_text(json.dumps(settings), encoding="utf-8")
        app = it.project / "app.py"
        app.write_text(f"{app.read_text(encoding='utf-8')}# {code}\n", encoding="utf-8")
        what = it.target()
        it.deploy().check()
        text = json.dumps(
            [(c.params, r.response) for c, r in it.recorder.results]
            + [o.params for o in it.recorder.reviewed]
        )
        assert what.packages["app"].sha256 in text
        assert "API_KEY" in text
        assert "canary" not in text
    live = clients_of(it.aws)("lambda").get_function(FunctionName=f"{it.app_name}-dev-hourly")
    assert live["Configuration"]["Environment"]["Variables"]["API_KEY"] == "canary-5f1c"


@pytest.mark.parametrize(
    "name",
    ["everything", "custom_domain", "custom_domain_edge", "automatic_layer", "authorizers"],
)
def test_what_is_live_is_not_touched(stage: Callable[[str], Stage], name: str) -> None:
    it = stage(name)
    it.deploy().check()
    before, recorded = _account(it), it.resources
    it.aws.forget_calls()
    it.deploy().check()
    assert it.mutations() == []
    assert it.recorder.reviewed == ()
    assert it.resources == recorded
    assert _account(it) == before


def test_only_what_changed_is_changed(stage: Callable[[str], Stage]) -> None:
    it = stage("everything")
    it.deploy().check()
    config = it.project / ".chalice/config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["stages"]["dev"]["lambda_functions"] = {"worker": {"lambda_memory_size": 512}}
    config.write_text(json.dumps(settings), encoding="utf-8")
    it.aws.forget_calls()
    it.deploy().check()
    assert it.mutations() == ["lambda:UpdateFunctionConfiguration"]
    (call,) = it.recorder.calls
    assert call.params == {"FunctionName": f"{it.app_name}-dev-worker", "MemorySize": 512}


def test_a_handler_that_was_renamed_is_live(stage: Callable[[str], Stage]) -> None:
    """Chalice sets the handler when it makes a function, never again (aws/chalice#2195)."""
    it = stage("schedule")
    it.deploy().check()
    app = it.project / "app.py"
    text = app.read_text(encoding="utf-8")
    app.write_text(text.replace("def text(", "def renamed("), encoding="utf-8")
    it.deploy().check()
    function = f"{it.app_name}-dev-hourly"
    live = clients_of(it.aws)("lambda").get_function(FunctionName=function)["Configuration"]
    assert live["Handler"] == "app.renamed"


@pytest.mark.parametrize(
    ("drift", "repair"),
    [
        (
            lambda c, it: c("lambda").update_function_configuration(
                FunctionName=f"{it.app_name}-dev-worker", MemorySize=999
            ),
            {"lambda:UpdateFunctionConfiguration"},
        ),
        (
            lambda c, it: c("lambda").put_function_concurrency(
                FunctionName=f"{it.app_name}-dev-worker", ReservedConcurrentExecutions=3
            ),
            {"lambda:DeleteFunctionConcurrency"},
        ),
        (
            lambda c, it: c("iam").put_role_policy(
                RoleName=f"{it.app_name}-dev",
                PolicyName=f"{it.app_name}-dev",
                PolicyDocument=json.dumps(ANOTHER_POLICY),
            ),
            {"iam:PutRolePolicy"},
        ),
        (
            lambda c, it: c("apigateway").create_deployment(
                restApiId=next(r["rest_api_id"] for r in it.resources if "rest_api_id" in r),
                stageName="api",
                description="by hand",
            ),
            {"apigateway:PutRestApi", "apigateway:UpdateRestApi", "apigateway:CreateDeployment"},
        ),
        (
            lambda c, it: [
                c("apigatewayv2").delete_route(ApiId=api["ApiId"], RouteId=route["RouteId"])
                for api in c("apigatewayv2").get_apis()["Items"]
                for route in c("apigatewayv2").get_routes(ApiId=api["ApiId"])["Items"][:1]
            ],
            {
                "apigatewayv2:CreateIntegration",
                "apigatewayv2:CreateRoute",
                "apigatewayv2:DeleteIntegration",
                "apigatewayv2:DeleteRoute",
            },
        ),
        (
            lambda c, it: [
                c("events").disable_rule(Name=rule["Name"])
                for rule in c("events").list_rules()["Rules"][:1]
            ],
            {"events:PutRule"},
        ),
        (
            lambda c, it: [
                c("lambda").update_event_source_mapping(UUID=m["UUID"], BatchSize=3)
                for m in c("lambda").list_event_source_mappings()["EventSourceMappings"][:1]
            ],
            {"lambda:UpdateEventSourceMapping"},
        ),
    ],
    ids=["setting", "concurrency", "policy", "deployment", "route", "rule", "mapping"],
)
def test_what_was_changed_outside_is_put_right_and_nothing_else(
    everything: Stage,
    drift: Callable[[Clients, Stage], object],
    repair: set[str],
) -> None:
    drift(clients_of(everything.aws), everything)
    everything.aws.forget_calls()
    everything.deploy().check()
    assert set(everything.mutations()) == repair
    everything.aws.forget_calls()
    everything.deploy().check()
    assert everything.mutations() == []


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The shape with all triggers, deployed once on an AWS of its own."""
    with stage_on(LocalMode(), "everything", tmp_path_factory.mktemp("everything")) as it:
        it.deploy().check()
        yield it


def test_planning_only_reads(stage: Callable[[str], Stage]) -> None:
    it = stage("everything")
    what = it.target()
    with it.start() as deployer:
        operations = deployer.plan(what)
    assert it.mutations() == []
    assert it.aws.calls()
    assert Operation(method="import_rest_api", resource="rest_api") in operations
    assert {action for _, action in actions(operations)} <= {Action.CREATE, Action.UPDATE}


def test_a_plan_tells_what_is_deleted_and_what_is_replaced(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("everything")
    it.deploy().check()
    apply_change(it.shape, it.project)
    with it.start() as deployer:
        operations = deployer.plan(it.target())
    happens = dict(actions(operations))
    assert happens["told"] is Action.DELETE
    assert happens["told-sns-subscription"] is Action.DELETE
    assert happens["worker"] is Action.UPDATE
    swept = [o for o in operations if o.sweep]
    assert Operation(method="unsubscribe_from_topic", resource="told-sns-subscription") in swept


def test_progress_is_told_in_words(stage: Callable[[str], Stage]) -> None:
    it = stage("schedule")
    outcome = it.deploy()
    outcome.check()
    finished = [step for step in it.recorder.steps if step.state is StepState.FINISHED]
    started = [step for step in it.recorder.steps if step.state is StepState.STARTED]
    # Independent functions are made at once, and end as they will.
    assert sorted(s.number for s in finished) == list(range(1, finished[0].total + 1))
    assert len(started) == len(finished)
    assert finished[0].text.startswith("Creating IAM role: ")
    assert all(step.seconds >= 0 and step.text for step in finished)


@pytest.mark.parametrize(
    "change",
    [
        lambda ops: ops[:-1],
        lambda ops: (*ops, Operation(method="delete_function", resource="gone")),
        lambda ops: (dataclasses.replace(ops[0], resource="other"), *ops[1:]),
    ],
)
def test_other_operations_than_the_expected_are_refused_before_any_call(
    stage: Callable[[str], Stage], change: Callable[[tuple[Operation, ...]], tuple[Operation, ...]]
) -> None:
    it = stage("schedule")
    what = it.target()
    with it.start() as deployer:
        expected = change(deployer.plan(what))
        outcome = deployer.apply(what, expected, gate=Recorder())
    assert not outcome.complete
    assert isinstance(outcome.error, PlanRefused)
    assert "+ new, - missing" in str(outcome.error)
    assert it.mutations() == []
    assert outcome.resources == ()


def test_a_deletion_that_was_not_planned_is_refused_before_any_call(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    it.deploy().check()
    what = it.target()
    with it.start() as deployer:
        expected = deployer.plan(what)
    it.aws.forget_calls()
    poisoned = dataclasses.replace(
        what,
        resources=(
            *what.resources,
            {"name": "x", "resource_type": "lambda_function", "lambda_arn": "arn:x"},
        ),
    )
    with it.start() as deployer:
        outcome = deployer.apply(poisoned, expected, gate=Recorder())
    assert "+ delete_function x" in str(outcome.error)
    assert it.mutations() == []


def test_a_refused_review_makes_no_call(stage: Callable[[str], Stage]) -> None:
    class No(Recorder):
        def review(self, operations: tuple[Operation, ...]) -> None:
            raise NotOurs(f"{len(operations)} operations")

    it = stage("schedule")
    outcome = it.deploy(No())
    assert isinstance(outcome.error, NotOurs)
    assert outcome.calls == 0
    assert it.mutations() == []


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9])
def test_a_refused_call_is_not_made_and_what_stands_is_known(
    stage: Callable[[str], Stage], number: int
) -> None:
    it = stage("rest")
    clean = _account(it)
    gate = Refusing(number)
    outcome = it.deploy(gate)
    refused = len(gate.calls) == number
    assert outcome.error is (gate.error if refused else None)
    assert len(it.mutations()) == outcome.calls == (number - 1 if refused else 7)
    it.aws.forget_calls()
    it.delete().check()
    assert _account(it) == clean


@pytest.mark.parametrize(
    ("shape", "operation"),
    [
        ("schedule", "CreateRole"),
        ("schedule", "CreateFunction"),
        ("schedule", "PutRule"),
        ("rest", "ImportRestApi"),
        ("rest", "AddPermission"),
        ("websockets", "CreateApi"),
        ("websockets", "CreateRoute"),
        ("sqs", "CreateEventSourceMapping"),
        ("sns", "Subscribe"),
        ("automatic_layer", "PublishLayerVersion"),
        ("custom_domain", "CreateDomainName"),
    ],
)
def test_a_killed_child_loses_nothing_that_was_made(
    stage: Callable[[str], Stage], shape: str, operation: str
) -> None:
    it = stage(shape)
    clean = _account(it)
    what = it.target()
    with it.start() as deployer:
        pid = deployer.pid

        # The parent is busy with the result while the child runs on to its next question.
        def kill() -> None:
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)

        gate = Doing(operation, kill)
        outcome = deployer.apply(what, deployer.plan(what), gate=gate)
    assert not outcome.complete
    assert "by signal 9" in (outcome.failure or "")
    it.resources = outcome.resources
    it.delete().check()
    assert _account(it) == clean


def test_a_deploy_goes_on_where_a_killed_one_stopped(stage: Callable[[str], Stage]) -> None:
    it = stage("websockets")
    what = it.target()
    with it.start() as deployer:
        pid = deployer.pid

        def kill() -> None:
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)

        outcome = deployer.apply(what, deployer.plan(what), gate=Doing("CreateApi", kill))
    it.resources = outcome.resources
    it.deploy().check()
    apis = clients_of(it.aws)("apigatewayv2").get_apis()["Items"]
    assert len(apis) == 1
    assert len(clients_of(it.aws)("apigateway").get_rest_apis()["items"]) == 1


def test_a_call_in_flight_when_the_child_is_killed_is_known(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    what = it.target()
    with it.start() as deployer:
        expected = deployer.plan(what)
        it.aws.order_faults(
            [{"operation": "CreateFunction", "action": "kill", "pid": deployer.pid}]
        )
        outcome = deployer.apply(what, expected, gate=Recorder())
    assert [call.operation for call in outcome.in_flight] == ["CreateFunction"]
    assert [r["name"] for r in outcome.resources] == ["default-role"]


def test_a_failure_of_aws_keeps_what_was_made_and_says_what_to_do(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("rest")
    it.aws.order_faults(
        [
            {
                "operation": "CreateFunction",
                "status": 403,
                "code": "AccessDeniedException",
                "message": "not authorized to perform: lambda:CreateFunction",
            }
        ]
    )
    outcome = it.deploy()
    assert isinstance(outcome.error, AWSError)
    assert outcome.error.exit_code == 12
    assert "lambda:CreateFunction" in outcome.error.what
    assert "permission" in outcome.error.fix
    assert it.names() == ["default-role"]
    failed = it.recorder.steps[-1]
    assert failed.state is StepState.FAILED
    assert failed.text.startswith("Creating lambda function: ")
    _, result = it.recorder.results[-1]
    assert (result.ok, result.status, result.code) == (False, 403, "AccessDeniedException")
    it.aws.order_faults([])
    it.deploy().check()


def test_a_role_whose_answer_was_lost_is_known_for_the_one_that_was_made(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    it.aws.order_faults([{"operation": "CreateRole", "when": "after", "action": "drop"}])
    it.deploy().check()
    assert "default-role" in it.names()
    answers = [call["error"] for call in it.aws.calls() if call["operation"] == "CreateRole"]
    assert answers[1:] == ["EntityAlreadyExists"]
    it.aws.forget_calls()
    it.deploy().check()
    assert it.mutations() == []


def test_a_role_that_somebody_else_made_meanwhile_is_not_taken(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    it.aws.order_faults([{"operation": "CreateRole", "when": "before", "action": "drop"}])
    iam = clients_of(it.aws)("iam")

    class Faster(Recorder):
        def allow(self, call: Call) -> None:
            super().allow(call)
            if call.operation == "CreateRole":
                name = call.params["RoleName"]
                iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(ANOTHER_POLICY))

    what = it.target()
    with it.start() as deployer:
        outcome = deployer.apply(what, deployer.plan(what), gate=Faster())
    assert outcome.error is not None
    assert "EntityAlreadyExists" in outcome.error.what
    assert outcome.calls == 1


def test_what_aws_says_is_made_safe_for_a_log(stage: Callable[[str], Stage]) -> None:
    it = stage("rest")
    message = "no\n::set-output name=url::evil\x1b[2J ##[error]x"
    it.aws.order_faults(
        [{"operation": "CreateFunction", "status": 400, "code": "X", "message": message}]
    )
    outcome = it.deploy()
    assert outcome.failure is not None
    assert "\x1b" not in outcome.failure
    assert not [line for line in outcome.failure.splitlines() if line.startswith("::")]
    assert "##[error]" not in outcome.failure


def test_what_is_gone_does_not_hold_a_deletion_up(stage: Callable[[str], Stage]) -> None:
    it = stage("everything")
    it.deploy().check()
    clients = clients_of(it.aws)
    clients("lambda").delete_function(FunctionName=f"{it.app_name}-dev-worker")
    api = next(r for r in it.resources if r["resource_type"] == "rest_api")
    clients("apigateway").delete_rest_api(restApiId=api["rest_api_id"])
    websocket = next(r for r in it.resources if r["resource_type"] == "websocket_api")
    clients("apigatewayv2").delete_api(ApiId=websocket["websocket_api_id"])
    mapping = next(r for r in it.resources if r["resource_type"] == "sqs_event")
    clients("lambda").delete_event_source_mapping(UUID=mapping["event_uuid"])
    clients("events").remove_targets(Rule=f"{it.app_name}-dev-tick-event", Ids=["1"])
    clients("events").delete_rule(Name=f"{it.app_name}-dev-tick-event")
    it.delete().check()
    gone = {s.resource for s in it.recorder.steps if s.state is StepState.GONE}
    assert {"worker", "rest_api", "websocket_api", "queued-sqs-event-source"} <= gone
    assert it.resources == ()


def test_a_deletion_that_stopped_halfway_goes_on(stage: Callable[[str], Stage]) -> None:
    it = stage("everything")
    clean = _account(it)
    it.deploy().check()
    before = set(it.names())
    outcome = it.delete(Refusing(6))
    assert not outcome.complete
    assert set(it.names()) < before
    it.delete().check()
    assert it.resources == ()
    assert _account(it) == clean


def test_a_replaced_trigger_that_was_not_deleted_is_told(stage: Callable[[str], Stage]) -> None:
    it = stage("sqs")
    clients_of(it.aws)("sqs").create_queue(
        QueueName="shape-elsewhere", Attributes={"VisibilityTimeout": "360"}
    )
    it.deploy().check()
    app = it.project / "app.py"
    app.write_text(
        app.read_text(encoding="utf-8").replace('"shape-jobs"', '"shape-elsewhere"'),
        encoding="utf-8",
    )
    old = next(r for r in it.resources if r["name"] == "by_name-sqs-event-source")

    class NoDeletion(Recorder):
        def allow(self, call: Call) -> None:
            if call.operation == "DeleteEventSourceMapping":
                raise NotOurs("stay")

    outcome = it.deploy(NoDeletion())
    assert not outcome.complete
    new = next(r for r in it.resources if r["name"] == "by_name-sqs-event-source")
    assert new["event_uuid"] != old["event_uuid"]
    assert outcome.left_behind == (old,)


def test_an_interruption_ends_at_a_call_boundary_and_is_raised_later(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("rest")
    outcome = it.deploy(Refusing(4, KeyboardInterrupt()))
    assert outcome.calls == len(it.mutations()) == 3
    assert it.names() == ["api_handler", "default-role"]
    with pytest.raises(KeyboardInterrupt):
        outcome.check()


def test_a_signal_that_is_told_stops_at_a_call_boundary(stage: Callable[[str], Stage]) -> None:
    it = stage("rest")
    what, told = it.target(), KeyboardInterrupt()
    recorder = Recorder()

    def interrupted() -> BaseException | None:
        return told if len(recorder.calls) == 3 else None

    with it.start() as deployer:
        expected = deployer.plan(what)
        outcome = deployer.apply(what, expected, gate=recorder, interrupted=interrupted)
    assert outcome.interruption is told
    assert outcome.calls == len(recorder.results) == len(it.mutations()) == 3
    assert not outcome.in_flight
    it.resources = outcome.resources
    assert it.names() == ["api_handler", "default-role"]


def test_a_call_that_is_throttled_is_not_repeated_after_a_signal(
    stage: Callable[[str], Stage],
) -> None:
    """IAM and others throttle with 400: eight attempts take a minute."""
    it = stage("rest")
    what, told, recorder = it.target(), KeyboardInterrupt(), Recorder()
    throttling = {"status": 400, "code": "Throttling", "message": "Rate exceeded", "times": 99}
    it.aws.order_faults([{"service": "iam", "operation": "CreateRole", **throttling}])

    def interrupted() -> BaseException | None:
        return told if recorder.calls else None

    try:
        with it.start() as deployer:
            expected = deployer.plan(what)
            outcome = deployer.apply(what, expected, gate=recorder, interrupted=interrupted)
        (order,) = it.aws.faults()
    finally:
        it.aws.order_faults([])
    assert outcome.interruption is told
    assert 1 <= order["fired"] < 8


def test_a_signal_that_a_gate_raises_and_is_told_too_is_one(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("rest")
    what, told, heard = it.target(), KeyboardInterrupt(), list[BaseException]()

    class Raising(Recorder):
        def allow(self, call: Call) -> None:
            super().allow(call)
            if len(self.calls) == 3:
                heard.append(told)
                raise told

    with it.start() as deployer:
        expected = deployer.plan(what)
        outcome = deployer.apply(
            what, expected, gate=Raising(), interrupted=lambda: heard[0] if heard else None
        )
    assert outcome.interruption is told
    assert outcome.calls == len(it.mutations()) == 2
    # It ended by itself: two signals would have killed it.
    assert deployer._process.returncode == 0


@pytest.mark.parametrize("again", [False, True])
def test_a_child_that_does_not_stop_is_killed(stage: Callable[[str], Stage], again: bool) -> None:
    """After a grace, or at the second signal: both end it, and what is known stands."""
    it = stage("rest")
    what, told = it.target(), KeyboardInterrupt()
    recorder, looks = Recorder(), itertools.count()
    with it.start(grace_seconds=60 if again else 0.5) as deployer:
        pid, expected = deployer.pid, deployer.plan(what)

        def interrupted() -> BaseException | None:
            if len(recorder.results) < 3:
                return None
            look = next(looks)
            if look == 0:
                os.kill(pid, signal.SIGSTOP)
            if look == 1 and again:
                raise KeyboardInterrupt
            return told

        begun = time.monotonic()
        outcome = deployer.apply(what, expected, gate=recorder, interrupted=interrupted)
        assert time.monotonic() - begun < 50
    assert outcome.interruption is told
    it.resources = outcome.resources
    assert it.names() == ["api_handler", "default-role"]


def test_a_listener_that_fails_stops_the_deploy_in_order(stage: Callable[[str], Stage]) -> None:
    def listener(step: Step) -> None:
        if step.resource == "rest_api":
            raise OSError("the terminal is gone")

    it = stage("rest")
    outcome = it.deploy(progress=listener)
    assert it.names() == ["api_handler", "default-role"]
    with pytest.raises(OSError, match="terminal"):
        outcome.check()


def test_stop_ends_a_long_wait_soon_and_keeps_what_was_made(tmp_path: Path) -> None:
    with stage_on(LocalMode(role=60), "schedule", tmp_path) as it:
        what = it.target()
        with it.start() as deployer:
            expected = deployer.plan(what)
            since: list[float] = []

            def stop() -> None:
                since.append(time.monotonic())
                deployer.stop()

            # The role is there, and Lambda takes it in a minute at the earliest.
            timer = threading.Timer(0.5, stop)
            outcome = deployer.apply(what, expected, gate=Doing("PutRolePolicy", timer.start))
            timer.join()
        assert time.monotonic() - since[0] < 30
    assert "stopped" in (outcome.failure or "")
    assert [r["name"] for r in outcome.resources] == ["default-role"]


def test_a_deploy_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with stage_on(LocalMode(role=60), "schedule", tmp_path) as it:
        what = it.target()
        with it.start() as deployer:
            for limit in (1.5, 6, 24):
                expected = deployer.plan(what)
                outcome = deployer.apply(what, expected, gate=Recorder(), limit_seconds=limit)
                if outcome.resources:
                    break  # else this machine is so slow that not even the role was made
    assert "too long" in (outcome.failure or "")
    assert [r["name"] for r in outcome.resources] == ["default-role"]


def test_pending_functions_and_young_roles_are_waited_for(tmp_path: Path) -> None:
    mode = LocalMode(pend=0.5, upd=0.5, role=1.0)
    with stage_on(mode, "automatic_layer_empty", tmp_path) as it:
        it.deploy().check()
        it.deploy().check()
        it.delete().check()


_PARENT = """
import json, os, sys
from pathlib import Path
from chalice_ci.app.deployer import Deployer, PackageFile, Target

given = json.loads(sys.stdin.read())
target = Target(
    app_name="x", stage="dev", graph=given["graph"],
    packages={
        slot: PackageFile(path=Path(p["path"]), sha256=p["sha256"])
        for slot, p in given["packages"].items()
    },
)

class Dying:
    def review(self, operations): pass
    def done(self, call, result): pass
    def allow(self, call):
        if call.operation == "CreateFunction":
            print(deployer.pid, flush=True)
            os._exit(9)

deployer = Deployer.start(
    Path(sys.executable), environ=given["environ"], work_dir=Path(given["work"])
)
deployer.apply(target, deployer.plan(target), gate=Dying())
"""


def test_a_dead_parent_ends_the_child_before_its_next_call(
    stage: Callable[[str], Stage], tmp_path: Path
) -> None:
    it = stage("schedule")
    what = it.target()
    given = {
        "graph": what.graph,
        "packages": {
            slot: {"path": str(p.path), "sha256": p.sha256} for slot, p in what.packages.items()
        },
        "environ": it.aws.environ,
        "work": str(tmp_path / "child"),
    }
    said = subprocess.run(
        [sys.executable, "-c", _PARENT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 9, said.stderr
    until = time.monotonic() + 60
    while Path(f"/proc/{int(said.stdout)}").exists():
        assert time.monotonic() < until, "the child outlives its parent"
        time.sleep(0.05)
    assert it.mutations() == ["iam:CreateRole", "iam:PutRolePolicy"]


def test_who_the_credentials_are_is_told(aws: EmbeddedAWS, tmp_path: Path) -> None:
    with Deployer.start(PYTHON, environ=aws.environ, work_dir=tmp_path) as deployer:
        who = deployer.identify()
    assert (who.account, who.region) == ("123456789012", REGION)
    with Deployer.start(
        PYTHON, environ=aws.environ, work_dir=tmp_path, region="eu-west-1"
    ) as deployer:
        assert deployer.identify().region == "eu-west-1"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AWS_DEFAULT_REGION": REGION}, "no usable AWS credentials"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "no AWS region is set"),
        ({"AWS_PROFILE": "nobody", "AWS_DEFAULT_REGION": REGION}, "nobody"),
        (
            {
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "AWS_MAX_ATTEMPTS": "1",
            },
            "Could not connect",
        ),
    ],
)
def test_missing_credentials_or_region_are_told_in_words(
    tmp_path: Path, environ: dict[str, str], words: str
) -> None:
    environ = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        **environ,
    }
    with (
        Deployer.start(PYTHON, environ=environ, work_dir=tmp_path) as deployer,
        pytest.raises(AWSError, match=words),
    ):
        deployer.identify()


def test_a_python_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(AWSError, match="can't be started"):
        Deployer.start(tmp_path / "python", environ={}, work_dir=tmp_path)


def test_a_python_without_chalice_is_told_in_words(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -I -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    with (
        Deployer.start(bare, environ={}, work_dir=tmp_path) as deployer,
        pytest.raises(AWSError, match="No module named"),
    ):
        deployer.identify()


def test_another_package_than_the_sealed_one_is_refused_before_any_call(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    what = it.target()
    with it.start() as deployer:
        expected = deployer.plan(what)
        what.packages["app"].path.write_bytes(b"other")
        outcome = deployer.apply(what, expected, gate=Recorder())
    assert isinstance(outcome.error, PlanRefused)
    assert it.mutations() == []


def test_a_graph_that_names_a_file_instead_of_a_slot_is_refused(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    what = it.target()
    secret = it.work / "secret"
    secret.write_text("canary", encoding="utf-8")
    assert what.graph is not None
    graph = json.loads(json.dumps(what.graph).replace('{"p": "app"}', json.dumps(str(secret))))
    with it.start() as deployer, pytest.raises(PlanRefused, match="not a package"):
        deployer.plan(dataclasses.replace(what, graph=graph))
    assert it.mutations() == []


@pytest.mark.parametrize(
    "resource",
    [
        {"name": "a", "resource_type": "lambda_function"},
        {"name": "a", "resource_type": "moon"},
        {"name": "a"},
        {"resource_type": "iam_role"},
        {"name": "a", "resource_type": "rest_api"},
    ],
)
def test_a_malformed_state_ends_in_words_and_without_a_call(
    stage: Callable[[str], Stage], resource: dict[str, object]
) -> None:
    it = stage("schedule")
    with it.start() as deployer, pytest.raises(AWSError, match="Chalice failed"):
        deployer.plan(deletion("x", (resource,)))
    assert it.mutations() == []


def test_several_verbs_are_answered_by_one_child(stage: Callable[[str], Stage]) -> None:
    it = stage("schedule")
    what = it.target()
    with it.start() as deployer:
        deployer.identify()
        first = deployer.apply(what, deployer.plan(what), gate=Recorder())
        again = dataclasses.replace(what, resources=first.resources)
        second = deployer.apply(again, deployer.plan(again), gate=Recorder())
        gone = deletion(what.app_name, second.resources)
        third = deployer.apply(gone, deployer.plan(gone), gate=Recorder())
    assert (first.complete, second.complete, third.complete) == (True, True, True)
    assert third.resources == ()


def test_the_childs_environment_is_an_allow_list() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/x",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_REGION": "eu-west-1",
        "HTTPS_PROXY": "http://proxy",
        "GITHUB_TOKEN": "canary",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "canary",
        "PYTHONPATH": "/evil",
        "LD_PRELOAD": "/evil.so",
        "AWS_PROFILE": "",
    }
    found = deployer_environ(given)
    assert "canary" not in found.values()
    assert not {"PYTHONPATH", "LD_PRELOAD", "AWS_PROFILE"} & set(found)
    assert found["AWS_ACCESS_KEY_ID"] == "key"
    assert found["HTTPS_PROXY"] == "http://proxy"
    assert found["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert found["AWS_RETRY_MODE"] == "standard"
    assert deployer_environ(given, "us-west-2")["AWS_DEFAULT_REGION"] == "us-west-2"
    assert deployer_environ({**given, "AWS_MAX_ATTEMPTS": "3"})["AWS_MAX_ATTEMPTS"] == "3"


def test_the_childs_modules_are_python_3_10(tmp_path: Path) -> None:
    check = textwrap.dedent(
        """
        import ast, pathlib, sys
        for path in pathlib.Path(sys.argv[1]).glob("**/*.py"):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
        """
    )
    subprocess.run([sys.executable, "-c", check, str(CHILD_DIR)], check=True, timeout=30)


def test_a_package_file_is_found_wherever_the_child_runs(
    stage: Callable[[str], Stage], tmp_path: Path
) -> None:
    it = stage("schedule")
    what = it.target()
    relative = {
        slot: PackageFile(path=Path(os.path.relpath(p.path)), sha256=p.sha256)
        for slot, p in what.packages.items()
    }
    with it.start() as deployer:
        assert deployer.plan(dataclasses.replace(what, packages=relative)) == deployer.plan(what)
