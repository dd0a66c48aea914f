"""A stateful machine: a stage is deployed, changed, killed, tampered with and deleted in any order.

Each step is a real process against an AWS of its own. Each run begins in a copy of an AWS where
nothing or a version of the app is deployed already, and where another team's app stands beside
ours; what is left disturbed at its end is deployed again. After each step: what stands of ours is
in the state or in the journal, nothing is there twice, nothing of the other team's was touched;
after a deploy that came to its end exactly what an undisturbed first deploy of that version makes
stands and is recorded, after a delete nothing. 100 runs of 2 steps, 500 of 5 with CRASH_DEPTH=all;
how often each rule fired is printed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chalice_ci.errors import ExitCode
from chalice_ci.state.local_log import log_path
from crash.counts import Count
from crash.lab import KEY, App, Lab, Stage
from crash.story import ALL, KINDS, at
from support.commandline import write
from support.deployments import target
from support.shapes import Queue

RUNS = 500 if ALL else 100
STEPS = 5 if ALL else 2
HEAD = 'from chalice import Chalice\n\napp = Chalice(app_name="machine")\n\n\n'
WORK = "@app.lambda_function()\ndef work(event, context):\n    return {}\n"
API = '@app.route("/")\ndef index():\n    return {}\n'
VERSIONS: Mapping[str, str] = {
    "function": WORK,
    "schedule": WORK + '\n\n@app.schedule("rate(1 hour)")\ndef tick(event):\n    pass\n',
    "queue": '@app.on_sqs_message(queue="machine-jobs")\ndef job(event):\n    pass\n',
    "api": API,
    "domain": API,
}
DOMAIN = "machine.example.com"
_DOMAIN = {
    "domain_name": DOMAIN,
    "certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/machine",
    "url_prefix": "v1",
}
SETTINGS: Mapping[str, Mapping[str, object]] = {"domain": {"api_gateway_custom_domain": _DOMAIN}}
# The listing gives each API that is there a name.
_DEAD_API = re.compile(r"arn:aws:execute-api:[^:]*:[^:]*:[a-z0-9]+/")
TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",'
    ' "Principal": {"Service": "lambda.amazonaws.com"}}]}'
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Where runs begin: by version, a stage after its undisturbed first deploy."""

    folder: Path
    begin: Mapping[str, Stage]
    """By version, and before any deploy as `delete`."""
    standing: Mapping[str, Mapping[str, Any]]
    recorded: Mapping[str, Sequence[tuple[str, str]]]
    calls: Mapping[str, int]
    """How many of the calls of that deploy changed something."""
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
        settings = {"lambda_memory_size": 128 * (1 + number), **SETTINGS.get(version, {})}
        config = {"version": "2.0", "app_name": "machine", "stages": {"dev": settings}}
        write(project, {"app.py": HEAD + text, ".chalice/config.json": json.dumps(config)})
        what = target(project, folder / f"{version}-packages")
        packages = {slot: [str(one.path), one.sha256] for slot, one in what.packages.items()}
        requests[version] = {
            "app_name": what.app_name,
            "graph": what.graph,
            "packages": packages,
        }
    with ExitStack() as stack:
        aws = stack.enter_context(lab.aws.copy())
        stage = Stage.new(lab, App(requests=requests), aws, folder / "stage")
        _other_team(stage.clients)
        foreign = lab.identifiers(aws)
        begin, calls, recorded = {"delete": stage}, {"delete": 4}, dict[str, Any]()
        for version in VERSIONS:
            aws.forget_calls()
            # Here and not in the copy: what was used once is faster in all copies.
            stage.must(version)
            calls[version] = sum(1 for call in aws.calls() if call["mutating"])
            recorded[version] = stage.recorded()
            begin[version] = stack.enter_context(stage.copy(folder / f"{version}-deployed"))
            stage.must("delete")
        yield World(
            folder=folder,
            begin=begin,
            standing={version: one.standing() for version, one in begin.items()},
            recorded={**recorded, "delete": []},
            calls=calls,
            foreign=frozenset(foreign),
        )


def _other_team(clients: Callable[[str], Any]) -> None:
    """The queue that ours reads, and an app whose names begin as ours does."""
    Queue(name="machine-jobs").create(clients)
    name = "machine-dev2"
    role = clients("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    clients("lambda").create_function(
        FunctionName=f"{name}-work",
        Runtime="python3.12",
        Role=role["Role"]["Arn"],
        Handler="app.work",
        Code={"ZipFile": b"PK\x05\x06" + b"\0" * 18},
        Tags={"aws-chalice": f"version=1.34.0:stage=dev2:app={name}"},
    )
    clients("events").put_rule(Name=f"{name}-tick", ScheduleExpression="rate(1 hour)")
    clients("apigateway").create_rest_api(name=name)


class Machine(RuleBasedStateMachine):
    """One run; `world` is set before."""

    world: World
    fired: Counter[str]
    number = 0

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.done = ""
        """What was completed last, if nothing happened since."""
        self.left = ""
        """What was begun last and did not come to its end."""
        self.there = ""
        """What the app was last."""

    @initialize(there=st.sampled_from(["delete", *VERSIONS]))
    def begin(self, there: str) -> None:
        folder = self.world.folder / f"run-{self.number}"
        self.stage = self.stack.enter_context(self.world.begin[there].copy(folder))
        self.done = self.there = there

    @rule(version=st.sampled_from([*VERSIONS, "delete"]))
    def deploy(self, version: str) -> None:
        if version == "delete":
            self._fire("deleted" if self.there != "delete" or self.left else "nothing to delete")
        elif not self.done:
            self._fire("deployed after a disturbance")
        elif self.there in ("delete", version):
            self._fire("deployed" if self.there == "delete" else "deployed again")
        else:
            self._fire("changed and deployed")
        self._completed(version, self.stage.run(version))

    @rule(
        version=st.sampled_from([*VERSIONS, "delete"]),
        kind=st.sampled_from([*KINDS]),
        place=st.floats(0, 1, exclude_max=True),
    )
    def disturb(self, version: str, kind: str, place: float) -> None:
        """Deploy with a crash; of what stands already less is made, so early calls are likelier."""
        nth = 1 + int(place**2 * self.world.calls[version])
        ended = self.stage.run(version, at(KINDS[kind], nth))
        if ended.done:
            # There were not as many calls, or the lost one could be repeated.
            self._fire(f"not stopped: {kind}")
            self._completed(version, ended)
            return
        self.done, self.left = "", version
        self._fire(f"{kind}: {'delete' if version == 'delete' else 'deploy'}")
        # A call that could not be repeated ends the deploy, in order.
        assert ended.killed or ended.code == 12, (ended, self.stage.log)

    @precondition(lambda self: self.there != "delete" or self.left)
    @rule(first=st.integers(0, 8))
    def tamper(self, first: int) -> None:
        """Change something outside: what is there, looked for from some place of the list on."""
        kinds = [*_TAMPERING]
        for kind in kinds[first:] + kinds[:first]:
            if _TAMPERING[kind](self.stage.clients):
                self._fire(f"tampered with: {kind}")
                self.done = ""
                return

    def teardown(self) -> None:
        with self.stack:
            if not self.there:
                # Hypothesis gave this run up before it began.
                return
            type(self).number += 1
            if not self.done:
                version = self.left or self.there
                self._fire("deployed after a disturbance")
                self._completed(version, self.stage.run(version))
                self.it_is_as_it_should_be()

    def _completed(self, version: str, ended: Any) -> None:
        assert ended.done, (version, ended, self.stage.log)
        self.done = self.there = version
        self.left = ""

    def _fire(self, what: str) -> None:
        type(self).fired[what] += 1

    @invariant()
    def it_is_as_it_should_be(self) -> None:
        if self.done:
            # The other team's resources are among those that are wanted.
            standing = _without_dead_grants(self.stage.standing())
            assert standing == self.world.standing[self.done], self.stage.log
            assert self.stage.recorded() == self.world.recorded[self.done], self.stage.log
            return
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


def _without_dead_grants(standing: Mapping[str, Any]) -> dict[str, Any]:
    """What stands, without the right to call our function of an API that somebody deleted.

    Nobody can use it: an id is not given out twice. Chalice leaves it, too.
    """
    found = dict(standing)
    for name, document in standing.items():
        if name.startswith("function machine-dev") and document["policy"]:
            statements = [
                one
                for one in document["policy"]["Statement"]
                if not _DEAD_API.search(json.dumps(one.get("Condition", {})))
            ]
            found[name] = {**document, "policy": {**document["policy"], "Statement": statements}}
    return found


def _is_meant(identifier: str, intended: set[str]) -> bool:
    """Whether the journal of an unfinished deploy names what was to be made."""
    if identifier.startswith("arn:aws:iam:"):
        return "default-role" in intended
    if identifier == DOMAIN:
        return "api_gateway_custom_domain" in intended
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


def _delete_path(clients: Callable[[str], Any]) -> bool:
    client = clients("apigateway")
    for domain in client.get_domain_names()["items"]:
        name = domain["domainName"]
        for path in client.get_base_path_mappings(domainName=name).get("items", ()):
            client.delete_base_path_mapping(domainName=name, basePath=path["basePath"])
            return True
    return False


def _delete_domain(clients: Callable[[str], Any]) -> bool:
    client = clients("apigateway")
    for domain in client.get_domain_names()["items"]:
        client.delete_domain_name(domainName=domain["domainName"])
        return True
    return False


def _delete_api(clients: Callable[[str], Any]) -> bool:
    for api in clients("apigateway").get_rest_apis()["items"]:
        if api["name"] == "machine":
            # AWS refuses to delete an API that a domain leads to.
            _delete_path(clients)
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
    "path of the domain": _delete_path,
    "domain": _delete_domain,
}


@pytest.mark.parametrize(
    ("version", "operation"), [("schedule", "PutRule"), ("domain", "CreateDomainName")]
)
def test_what_a_killed_deploy_made_goes_also_when_another_version_is_deployed(
    world: World, tmp_path: Path, version: str, operation: str
) -> None:
    """A rule or domain leads nowhere yet when its deploy is killed; the next version has none.

    It is deployed on another machine, which has no log of the first one.
    """
    with world.begin["function"].copy(tmp_path / "stage") as stage:
        ended = stage.run(version, at({**KINDS["killed after"], "operation": operation}, 1))
        assert ended.killed
        stage.forget_log()
        stage.must("queue")
        assert stage.standing() == world.standing["queue"], stage.log
        assert stage.recorded() == world.recorded["queue"]


def test_a_queue_that_still_leads_to_a_function_that_is_gone_is_taken_up(
    world: World, tmp_path: Path
) -> None:
    """AWS keeps the mapping of a deleted function; the killed deploy had not recorded it."""
    with world.begin["function"].copy(tmp_path / "stage") as stage:
        made = at({**KINDS["killed after"], "operation": "CreateEventSourceMapping"}, 1)
        assert stage.run("queue", made).killed
        stage.clients("lambda").delete_function(FunctionName="machine-dev-job")
        stage.must("queue")
        assert stage.standing() == world.standing["queue"], stage.log
        assert stage.recorded() == world.recorded["queue"]


def test_a_domain_whose_mapping_was_made_without_an_answer_is_deployed_again(
    world: World, tmp_path: Path
) -> None:
    """The domain is recorded without its mapping then, which Chalice finds live."""
    with world.begin["api"].copy(tmp_path / "stage") as stage:
        lost = {**KINDS["answer lost"], "operation": "CreateBasePathMapping"}
        assert stage.run("domain", at(lost, 1)).code == ExitCode.AWS_FAILED
        stage.must("domain")
        assert stage.standing() == world.standing["domain"], stage.log
        assert stage.recorded() == world.recorded["domain"]


@pytest.mark.timeout(7200 if ALL else 600)
def test_nothing_is_lost_doubled_or_foreign(world: World, count: Count) -> None:
    machine: Any = type("Run", (Machine,), {"world": world, "fired": Counter(), "number": 0})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS + 1,
            deadline=None,
            database=None,
            derandomize=not ALL,
            # A run that fails shows its log; to make it smaller would take hours.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    count("runs", machine.number)
    for name, number in sorted(machine.fired.items()):
        count(name, number)
    assert machine.number >= RUNS
    for one in ("deployed", "changed", "killed", "deployed after", "deleted", "tampered"):
        fired = sum(number for name, number in machine.fired.items() if name.startswith(one))
        assert fired >= RUNS / 50, (one, machine.fired)
