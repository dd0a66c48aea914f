"""Stages that are deployed, disturbed and deployed again, many times from the same beginning.

A `Lab` has an embedded AWS and the process whose forks deploy. A `Stage` is an AWS of its own with
the records and logs of one app's deploys; `Stage.copy` makes another one that goes on by itself, so
that each point of a matrix begins where the others did without deploying again up to there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from chalice_ci.local import EmbeddedAWS, Endpoint
from chalice_ci.state.journal import Journal
from chalice_ci.state.lease import opened
from chalice_ci.state.local import LocalStore
from chalice_ci.state.store import StateKey
from support.awsclients import clients_of
from support.awslisting import list_account
from support.commandline import git
from support.deployments import target
from support.shapes import REGION, Clients, Shape, apply_change, copy_shape, prepare

KEY = StateKey(app_path=".", stage="dev")
WORKER = Path(__file__).with_name("worker.py")
OPERATIONS = ("create", "update", "delete")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a deploy's process ended: its status, and what it said if it came to that."""

    status: int
    code: int | None = None
    words: str = ""

    @property
    def done(self) -> bool:
        """Whether it deployed everything."""
        return (self.status, self.code) == (0, 0)

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.status == -9


class Running:
    """A deploy's process, before it begins and while it runs."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lines = channel.makefile("r", encoding="utf-8")
        self.pid = int(json.loads(self._lines.readline())["pid"])

    def begin(self) -> Self:
        """Let it begin."""
        self._channel.sendall(b"\n")
        return self

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return Path(f"/proc/{self.pid}").exists()

    def end(self, *, wholly: bool = False) -> Ended:
        """Wait for its end; `wholly`: also for that of its deployer, which may outlive it."""
        said: dict[str, Any] = {}
        with self._channel, self._lines:
            while "status" not in said:
                said |= json.loads(self._lines.readline())
            while wholly and self._lines.readline():
                pass
        return Ended(**said)


class Workers:
    """The process whose forks deploy."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[Workers]:
        """Start it; it ends with the `with` statement, at the latest with this process."""
        tests = str(Path(__file__).parents[1])
        ours, its = socket.socketpair()
        with (
            its,
            ours,
            subprocess.Popen(
                [sys.executable, "-P", str(WORKER)],
                stdin=its,
                env={**os.environ, "PYTHONPATH": tests},
            ) as process,
        ):
            its.close()
            yield cls(process, ours)
            ours.close()

    def start_deploy(self, request: Mapping[str, Any]) -> Running:
        """Make the process of a deploy, which waits to be told to begin."""
        ours, its = socket.socketpair()
        with its:
            socket.send_fds(self._control, [b"deploy"], [its.fileno()])
        ours.sendall(json.dumps(request).encode() + b"\n")
        return Running(ours)


class Lab:
    """Where stages come from: an AWS that nobody changes, and who deploys."""

    def __init__(self, aws: EmbeddedAWS, workers: Workers) -> None:
        self.aws = aws
        self.workers = workers
        self._looking_at = aws.endpoint_url
        self._known: set[int] = set()
        # What is copied has every service's code read in already.
        self.listing(aws)

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[Lab]:
        """Start both; they end with the `with` statement."""
        with EmbeddedAWS.start(gateway=False) as aws, Workers.start() as workers:
            yield cls(aws, workers)

    def clients(self, aws: Endpoint) -> Clients:
        """What makes the clients of an AWS, until those of another one are asked for."""
        self._looking_at = aws.endpoint_url
        return self._client

    def listing(self, aws: Endpoint) -> Mapping[str, Any]:
        """All resources of an AWS."""
        return list_account(self.clients(aws)).resources

    def identifiers(self, aws: Endpoint) -> set[str]:
        """What a state must name of everything that a deploy of Chalice's makes: names and ids."""
        return set(_identifiers(self.clients(aws)))

    def _client(self, service: str) -> Any:
        client = clients_of(self.aws)(service)
        if id(client) not in self._known:
            self._known.add(id(client))
            client.meta.events.register("before-send", self._redirect)
        return client

    def _redirect(self, request: Any, **_event: Any) -> None:
        """Ask the AWS that is looked at: to make clients for each copy is slow."""
        request.url = request.url.replace(self.aws.endpoint_url, self._looking_at, 1)


@dataclass(frozen=True, kw_only=True)
class App:
    """What is asked of a deploy: a request per operation, and what the shape's texts stand for."""

    requests: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str] = field(default_factory=dict)


def app_of(shape: Shape, aws: Endpoint, folder: Path) -> App:
    """Make in AWS what a shape needs, and load it before and after its change."""
    project = copy_shape(shape, folder / shape.name)
    names = prepare([shape], folder, clients_of(aws))
    requests: dict[str, Mapping[str, Any]] = {}
    for operation in ("create", "update"):
        if operation == "update":
            apply_change(shape, project)
        what = target(project, folder / operation)
        requests[operation] = {
            "app_name": what.app_name,
            "graph": what.graph,
            "packages": {
                slot: [str(package.path), package.sha256] for slot, package in what.packages.items()
            },
        }
    name = requests["create"]["app_name"]
    requests["delete"] = {"app_name": name, "graph": None, "packages": {}}
    return App(requests=requests, names=names)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One AWS, and the records and logs of one app's deploys."""

    app: App
    aws: Endpoint
    lab: Lab
    folder: Path
    """Holds `states`, the store, and `cache`, the logs on this machine."""

    @classmethod
    def new(cls, lab: Lab, app: App, aws: Endpoint, folder: Path, *, store: str = "local") -> Self:
        """A stage of which nothing is deployed."""
        states = folder / "states"
        states.mkdir(parents=True)
        if store == "git":
            git(states, "init", "-q", "-b", "main", "--template=")
        return cls(app=app, aws=aws, lab=lab, folder=folder)

    @contextlib.contextmanager
    def copy(self, folder: Path, *, throttle: float = 0.0, seed: int = 0) -> Iterator[Self]:
        """Another stage that is now where this one is; `folder` must not be there yet."""
        with self.aws.copy(throttle=throttle, seed=seed) as aws:
            shutil.copytree(self.folder, folder, symlinks=True)
            try:
                yield replace(self, aws=aws, folder=folder)
            finally:
                shutil.rmtree(folder)

    def request(self, operation: str, *, lease_wait: int = 20) -> dict[str, Any]:
        """What is asked of a deploy of this stage."""
        return {
            **self.app.requests[operation],
            "work": str(self.folder),
            "store": str(self.folder / "states"),
            "log": str(self.folder / "deploy.log"),
            "region": REGION,
            "environ": dict(self.aws.environ),
            "lease_wait": lease_wait,
        }

    def start(self, operation: str, *, lease_wait: int = 20) -> Running:
        """Make the process of a deploy, which waits to be told to begin."""
        return self.lab.workers.start_deploy(self.request(operation, lease_wait=lease_wait))

    def run(
        self,
        operation: str,
        faults: Callable[[int], Sequence[Mapping[str, Any]]] | None = None,
        *,
        wholly: bool = False,
    ) -> Ended:
        """Deploy, with the faults that are ordered for the process of that number."""
        deploy = self.start(operation)
        if faults is None:
            return deploy.begin().end(wholly=wholly)
        self.aws.order_faults(faults(deploy.pid))
        ended = deploy.begin().end(wholly=wholly)
        self.aws.order_faults([])
        return ended

    def up_to(self, operation: str) -> None:
        """Do what comes before an operation."""
        for before in OPERATIONS[: OPERATIONS.index(operation)]:
            self.must(before)

    def must(self, operation: str) -> None:
        """Deploy undisturbed."""
        ended = self.run(operation)
        assert ended.done, f"{ended}\n{self.log}"

    @property
    def clients(self) -> Clients:
        """What makes the clients of its AWS, until another stage is looked at."""
        return self.lab.clients(self.aws)

    @property
    def log(self) -> str:
        """What all deploys said so far."""
        path = self.folder / "deploy.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def standing(self) -> Any:
        """All resources, with the names that AWS gave out replaced by those of the shape."""
        text = json.dumps(self.lab.listing(self.aws), default=str)
        for named, stands in self.app.names.items():
            text = text.replace(named, stands)
        return json.loads(text)

    def forget_log(self) -> None:
        """From now on the deploys are on another machine: it knows what is in the store only."""
        shutil.rmtree(self.folder / "cache", ignore_errors=True)

    def recorded(self) -> list[tuple[str, str]]:
        """Type and name of what is recorded, in order; no journal may be left."""
        states = self.folder / "states"
        if (states / ".git").exists():
            resources = json.loads(git(states, "show", f"chalice-state:{KEY.file}"))["resources"]
            left = git(states, "ls-tree", "-r", "--name-only", "chalice-state")
            assert "journal" not in left, left
        else:
            stored = LocalStore(states).read(KEY)
            assert stored.journal.raw is None
            resources = () if stored.state is None else stored.state.resources
        return sorted((str(r["resource_type"]), str(r["name"])) for r in resources)

    def unrecorded(self) -> set[str]:
        """What is there and not in the state, whatever else is recorded; of a local store."""
        stored = LocalStore(self.folder / "states").read(KEY)
        text = "" if stored.state is None else json.dumps(stored.state.resources)
        return {one for one in self.lab.identifiers(self.aws) if one not in text}

    def journal(self) -> Journal | None:
        """What a deploy that goes on or was left unfinished wrote into the local store."""
        return opened(KEY, LocalStore(self.folder / "states").read(KEY).journal)


def _identifiers(clients: Clients) -> Iterator[str]:
    functions, events = clients("lambda"), clients("events")
    yield from (one["FunctionArn"] for one in functions.list_functions()["Functions"])
    mappings = functions.list_event_source_mappings()["EventSourceMappings"]
    yield from (one["UUID"] for one in mappings)
    for layer in functions.list_layers()["Layers"]:
        versions = functions.list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"]
        yield from (one["LayerVersionArn"] for one in versions)
    yield from (one["Arn"] for one in clients("iam").list_roles()["Roles"])
    yield from (one["id"] for one in clients("apigateway").get_rest_apis()["items"])
    yield from (one["ApiId"] for one in clients("apigatewayv2").get_apis()["Items"])
    domains = clients("apigateway").get_domain_names()["items"]
    yield from (one["domainName"] for one in domains)
    yield from (one["Name"] for one in events.list_rules()["Rules"])
    subscriptions = clients("sns").list_subscriptions()["Subscriptions"]
    yield from (one["SubscriptionArn"] for one in subscriptions)
    groups = clients("logs").describe_log_groups()["logGroups"]
    yield from (one["logGroupName"] for one in groups)


def difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What stands otherwise than wanted: name -> (wanted, found)."""
    return {
        name: (wanted.get(name), found.get(name))
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    }
