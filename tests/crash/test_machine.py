"""A stateful machine: a stage is deployed, killed, tampered with, changed and deleted in any order.

Each step is a real process against an AWS of its own, each run begins in a copy of the same AWS, in
which another team's app stands beside ours. After each step: what stands of ours is in the state
or in the journal, nothing is there twice, nothing of the other team's was touched; after a deploy
that came to its end exactly what an undisturbed first deploy of that version makes stands, after a
delete nothing. 25 runs, 500 with CRASH_DEPTH=all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from chalice_ci.state.local_log import log_path
from crash.counts import Count
from crash.lab import KEY, App, Lab, Stage
from crash.story import ALL, at
from support.commandline import write
from support.deployments import target
from support.shapes import Queue

RUNS = 500 if ALL else 25
STEPS = 8 if ALL else 4
HEAD = 'from chalice import Chalice\n\napp = Chalice(app_name="machine")\n\n\n'
WORK = "@app.lambda_function()\ndef work(event, context):\n    return {}\n"
VERSIONS: Mapping[str, str] = {
    "function": WORK,
    "schedule": WORK + '\n\n@app.schedule("rate(1 hour)")\ndef tick(event):\n    pass\n',
    "queue": '@app.on_sqs_message(queue="machine-jobs")\ndef job(event):\n    pass\n',
    "api": '@app.route("/")\ndef index():\n    return {}\n',
}
CONFIG = '{"version": "2.0", "app_name": "machine", "stages": {"dev": {"lambda_memory_size": %d}}}'
TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",'
    ' "Principal": {"Service": "lambda.amazonaws.com"}}]}'
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Where all runs begin, and what each version comes to."""

    stage: Stage
    folder: Path
    wanted: Mapping[str, Mapping[str, Any]]
    """By version: everything that stands after its undisturbed first deploy."""
    foreign: frozenset[str]
    """The identifiers of the other team's resources."""


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("machine")
    requests: dict[str, Mapping[str, Any]] = {
        "delete": {"app_name": "machine", "graph": None, "packages": {}}
    }
    for number, (version, text) in enumerate(VERSIONS.items()):
        project = folder / version
        config = CONFIG % (128 * (1 + number))
        write(project, {"app.py": HEAD + text, ".chalice/config.json": config})
        what = target(project, folder / f"{version}-packages")
        packages = {slot: [str(one.path), one.sha256] for slot, one in what.packages.items()}
        requests[version] = {
            "app_name": what.app_name,
            "graph": what.graph,
            "packages": packages,
        }
    with lab.aws.copy() as aws:
        stage = Stage.new(lab, App(requests=requests), aws, folder / "stage")
        _other_team(stage.clients)
        foreign = lab.identifiers(aws)
        wanted = {"delete": stage.standing()}
        for version in VERSIONS:
            with stage.copy(folder / "undisturbed") as undisturbed:
                undisturbed.must(version)
                wanted[version] = undisturbed.standing()
        yield World(stage=stage, folder=folder, wanted=wanted, foreign=frozenset(foreign))


def _other_team(clients: Callable[[str], Any]) -> None:
    """The queue that ours reads, and two apps whose names begin as ours does."""
    Queue(name="machine-jobs").create(clients)
    for name in ("machine-dev2", "machine-prod"):
        role = clients("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
        clients("lambda").create_function(
            FunctionName=f"{name}-work",
            Runtime="python3.12",
            Role=role["Role"]["Arn"],
            Handler="app.work",
            Code={"ZipFile": b"PK\x05\x06" + b"\0" * 18},
            Tags={"aws-chalice": f"version=1.34.0:stage=dev:app={name}"},
        )
        clients("events").put_rule(Name=f"{name}-tick", ScheduleExpression="rate(1 hour)")
        clients("apigateway").create_rest_api(name=name)


class Machine(RuleBasedStateMachine):
    """One run; `world` is set before."""

    world: World
    steps: Counter[str]
    number = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).number += 1
        self.stack = ExitStack()
        folder = self.world.folder / f"run-{self.number}"
        self.stage = self.stack.enter_context(self.world.stage.copy(folder))
        self.done = "delete"
        """What was completed last, if nothing happened since."""

    def teardown(self) -> None:
        self.stack.close()

    @rule(version=st.sampled_from([*VERSIONS, "delete"]))
    def deploy(self, version: str) -> None:
        self._completed(version, self.stage.run(version))

    @rule(
        version=st.sampled_from([*VERSIONS, "delete"]),
        when=st.sampled_from(["before", "after"]),
        action=st.sampled_from(["kill", "drop"]),
        nth=st.integers(1, 6),
    )
    def disturb(self, version: str, when: str, action: str, nth: int) -> None:
        ended = self.stage.run(version, at({"when": when, "action": action}, nth))
        if ended.done:
            # There were not as many calls, or the lost one could be repeated.
            self._completed(version, ended)
            return
        self.done = ""
        type(self).steps["killed" if ended.killed else "failed"] += 1
        # A call that could not be repeated ends the deploy, in order.
        assert ended.killed or ended.code == 12, (ended, self.stage.log)

    @rule(kind=st.sampled_from(["function", "memory", "rule", "mapping", "policy", "role", "api"]))
    def tamper(self, kind: str) -> None:
        if _TAMPERING[kind](self.stage.clients):
            type(self).steps["tampered"] += 1
            self.done = ""

    def _completed(self, version: str, ended: Any) -> None:
        assert ended.done, (version, ended, self.stage.log)
        self.done = version
        type(self).steps["completed"] += 1

    @invariant()
    def it_is_as_it_should_be(self) -> None:
        if self.done:
            # The other team's resources are among those that are wanted.
            assert self.stage.standing() == self.world.wanted[self.done], self.stage.log
        known, intended = self._known()
        there = self.stage.lab.identifiers(self.stage.aws)
        assert there >= self.world.foreign
        live = there - self.world.foreign
        unknown = {one for one in live if one not in known and not _is_meant(one, intended)}
        assert not unknown, (unknown, self.stage.log)

    def _known(self) -> tuple[str, set[str]]:
        """What the state, the journal and the log on this machine say; what was intended."""
        states = self.stage.folder / "states"
        known = "".join(
            path.read_text("utf-8") for path in sorted(states.rglob("*")) if path.is_file()
        )
        log = log_path(self.stage.folder / "cache", "states", KEY.file)
        if log.exists():
            known += log.read_text("utf-8")
        journal = self.stage.journal()
        return known, set() if journal is None else {i.resource for i in journal.intents}


def _is_meant(identifier: str, intended: set[str]) -> bool:
    """Whether the journal of an unfinished deploy names what was to be made."""
    if identifier.startswith("arn:aws:iam:"):
        return "default-role" in intended
    if identifier.startswith(("arn:", "machine-dev-")):
        name = identifier.rpartition(":")[2].removeprefix("machine-dev").removeprefix("-")
        return (name or "api_handler") in intended
    # What AWS names: an API, a mapping.
    return bool(intended & {"rest_api", "job-sqs-event-source"})


def _functions(clients: Callable[[str], Any]) -> list[str]:
    functions = clients("lambda").list_functions()["Functions"]
    names = [str(function["FunctionName"]) for function in functions]
    return [name for name in names if name.startswith("machine-dev-") or name == "machine-dev"]


def _delete_function(clients: Callable[[str], Any]) -> bool:
    for name in _functions(clients)[:1]:
        clients("lambda").delete_function(FunctionName=name)
        return True
    return False


def _set_memory(clients: Callable[[str], Any]) -> bool:
    for name in _functions(clients):
        clients("lambda").update_function_configuration(FunctionName=name, MemorySize=3008)
        return True
    return False


def _delete_rule(clients: Callable[[str], Any]) -> bool:
    for found in clients("events").list_rules(NamePrefix="machine-dev-")["Rules"]:
        clients("events").remove_targets(Rule=found["Name"], Ids=["1"])
        clients("events").delete_rule(Name=found["Name"])
        return True
    return False


def _delete_mapping(clients: Callable[[str], Any]) -> bool:
    for mapping in clients("lambda").list_event_source_mappings()["EventSourceMappings"]:
        clients("lambda").delete_event_source_mapping(UUID=mapping["UUID"])
        return True
    return False


def _delete_policy(clients: Callable[[str], Any]) -> bool:
    return _of_role(clients, lambda iam, name: None)


def _delete_role(clients: Callable[[str], Any]) -> bool:
    return _of_role(clients, lambda iam, name: iam.delete_role(RoleName=name))


def _of_role(clients: Callable[[str], Any], then: Callable[[Any, str], Any]) -> bool:
    iam = clients("iam")
    if "machine-dev" not in {role["RoleName"] for role in iam.list_roles()["Roles"]}:
        return False
    for policy in iam.list_role_policies(RoleName="machine-dev")["PolicyNames"]:
        iam.delete_role_policy(RoleName="machine-dev", PolicyName=policy)
    then(iam, "machine-dev")
    return True


def _delete_api(clients: Callable[[str], Any]) -> bool:
    for api in clients("apigateway").get_rest_apis()["items"]:
        if api["name"] == "machine":
            clients("apigateway").delete_rest_api(restApiId=api["id"])
            return True
    return False


_TAMPERING: Mapping[str, Callable[[Callable[[str], Any]], bool]] = {
    "function": _delete_function,
    "memory": _set_memory,
    "rule": _delete_rule,
    "mapping": _delete_mapping,
    "policy": _delete_policy,
    "role": _delete_role,
    "api": _delete_api,
}


@pytest.mark.timeout(3600)
def test_nothing_is_lost_doubled_or_foreign(world: World, count: Count) -> None:
    machine: Any = type("Run", (Machine,), {"world": world, "steps": Counter(), "number": 0})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not ALL,
            # A run that fails shows its log; to make it smaller would take hours.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    count("runs", machine.number)
    for name, number in sorted(machine.steps.items()):
        count(f"steps that {name}", number)
    assert machine.number >= RUNS
    wanted = {"completed", "killed", "tampered"} if ALL else {"completed"}
    assert set(machine.steps) >= wanted
