"""Carry a plan out: what is independent at once, what depends on something after it.

Each group of the plan runs Chalice's executor in a thread. At the first failure no further call is
made; what runs is waited for. How many calls are under way at once is the business of `pace`.

Standard library, botocore and chalice only; Python 3.10.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import botocore.exceptions
from chalice.awsclient import ResourceDoesNotExistError
from chalice.deploy import models
from chalice.deploy.executor import Executor
from chalice.utils import UI

from .calls import Calls, Pipe, Stopped
from .client import Client
from .planning import READ_METHODS, Group, Planned

# Answers of AWS that mean: what should be deleted is not there any more.
_GONE = {
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
}

# Resources that exist before Chalice notes them: which state key is in which answer or parameter.
_LATE: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("apigatewayv2", "CreateApi"): {"websocket_api_id": ("response", "ApiId")},
    ("events", "PutRule"): {"rule_name": ("params", "Name")},
    ("iam", "CreateRole"): {
        "role_arn": ("response", "Role", "Arn"),
        "role_name": ("params", "RoleName"),
    },
    ("lambda", "CreateFunction"): {"lambda_arn": ("response", "FunctionArn")},
    ("logs", "CreateLogGroup"): {"log_group_name": ("params", "logGroupName")},
}

# Most of them wait, for a function to become active or for a call that may be made.
_THREADS = 64


class Run:
    """One execution of a plan."""

    def __init__(self, client: Client, pipe: Pipe, calls: Calls, planned: Planned) -> None:
        self._client = client
        self._pipe = pipe
        self._calls = calls
        self._planned = planned
        self._variables: dict[str, Any] = {}
        self._workers: dict[int, _Worker] = {}
        self._lock = threading.Lock()
        self._left = Counter(
            name
            for name, sweep in (planned.resource(i) for i in planned.plan.instructions)
            if sweep
        )

    @property
    def resource_values(self) -> list[dict[str, Any]]:
        """What stands, in the order of the plan."""
        merged: dict[str, dict[str, Any]] = {}
        for _, worker in sorted(self._workers.items()):
            for values in worker.resource_values:
                merged.setdefault(values["name"], {}).update(values)
        return list(merged.values())

    def unswept(self) -> list[str]:
        """Return the recorded resources whose deletion was planned and is not finished."""
        return sorted(name for name, left in self._left.items() if left > 0)

    def execute(self) -> None:
        """Do it; raises the first failure after everything has come to rest."""
        self._pipe.halt(False)
        groups = self._planned.groups
        done: set[int] = set()
        failures: list[BaseException] = []
        running: dict[concurrent.futures.Future[None], int] = {}
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            while True:
                if not failures:
                    waiting = [i for i in range(len(groups)) if i not in done]
                    waiting = [i for i in waiting if i not in running.values()]
                    ready = [i for i in waiting if groups[i].needs <= done]
                    for index in ready[: _THREADS - len(running)]:
                        worker = _Worker(self, self._client, dict(self._variables))
                        self._workers[index] = worker
                        running[pool.submit(worker.work, groups[index])] = index
                if not running:
                    break
                ended, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in ended:
                    index = running.pop(future)
                    error = future.exception()
                    if error is None:
                        done.add(index)
                        self._variables.update(self._workers[index].variables)
                    else:
                        failures.append(error)
                        self._pipe.halt()
        if failures:
            # What was stopped because of the first failure is no failure of its own.
            raise next((e for e in failures if not isinstance(e, Stopped)), failures[0])

    def swept(self, resource: str, *, replaced: bool) -> None:
        """Note that a part of a deletion is done."""
        with self._lock:
            self._left[resource] -= 1
            gone = self._left[resource] == 0
        if gone and not replaced and ".api_mapping." not in resource:
            self._pipe.send({"removed": resource})


class _Worker(Executor):
    """Chalice's executor for one group; says what it does and what stands while it goes on."""

    def __init__(self, run: Run, client: Client, variables: dict[str, Any]) -> None:
        super().__init__(client, UI())
        self.variables = variables
        self._run = run
        self._pipe = run._pipe
        self._calls = run._calls
        self._planned = run._planned
        self._unsent = ""
        self._at = ""

    def work(self, group: Group) -> None:
        self._calls.seen = self._note_early
        try:
            for instruction in group.instructions:
                resource, sweep = self._planned.resource(instruction)
                recorded = (
                    instruction.resource_name
                    if isinstance(instruction, models.RecordResource)
                    else ""
                )
                if recorded != self._unsent:
                    self._send_recorded()
                self._unsent = recorded
                self._step(instruction, resource, sweep)
                if sweep:
                    replaced = any(v["name"] == resource for v in self._run.resource_values)
                    self._run.swept(resource, replaced=replaced)
            self._send_recorded()
        finally:
            self._calls.where = None
            self._calls.seen = None

    def _step(self, instruction: Any, resource: str, sweep: bool) -> None:
        standing = self._planned.standing(instruction)
        if standing is not None:
            if instruction.output_var is not None:
                self.variables[instruction.output_var] = standing.value
            return
        handler = getattr(self, f"_do_{type(instruction).__name__.lower()}", self._default_handler)
        method = getattr(instruction, "method_name", None)
        if method is None or method in READ_METHODS:
            handler(instruction)
            return
        self._pipe.check()
        self._at = resource
        self._calls.where = {"method": method, "resource": resource}
        self._say("started", instruction, resource, sweep)
        try:
            handler(instruction)
        except (ResourceDoesNotExistError, botocore.exceptions.ClientError) as error:
            if not (sweep and is_gone(error)):
                raise
            self._say("gone", instruction, resource, sweep)
        else:
            self._say("finished", instruction, resource, sweep)
        finally:
            self._calls.where = None

    def _say(self, state: str, instruction: Any, resource: str, sweep: bool) -> None:
        self._pipe.send(
            {
                "step": {
                    "state": state,
                    "method": instruction.method_name,
                    "resource": resource,
                    "sweep": sweep,
                    "message": self._planned.message(instruction),
                }
            }
        )

    def _send_recorded(self) -> None:
        for values in self.resource_values:
            if self._unsent and values["name"] == self._unsent:
                self._pipe.send({"recorded": values})

    def _note_early(
        self, service: str, operation: str, params: Mapping[str, Any], response: Mapping[str, Any]
    ) -> None:
        keys = _LATE.get((service, operation))
        kind = self._planned.resource_type(self._at)
        if keys is None or not kind:
            return
        values = {"name": self._at, "resource_type": kind}
        for key, (source, *path) in keys.items():
            value: Any = response if source == "response" else params
            for step in path:
                value = value[step]
            values[key] = str(value)
        self._pipe.send({"recorded": values})


def is_gone(error: Exception) -> bool:
    """Whether AWS says that there is no such thing."""
    if isinstance(error, ResourceDoesNotExistError):
        return True
    response = getattr(error, "response", {})
    return response.get("Error", {}).get("Code") in _GONE
