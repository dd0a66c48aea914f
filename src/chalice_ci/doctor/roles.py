"""Which roles the workflows and the configuration let a job assume. Pure.

A role is written out, or an expression of GitHub's stands there: a variable of the repository, of
an organisation or of the job's environment (`vars`), a variable of the workflow (`env`), or an
input of a reusable workflow, whose callers are looked at. Secrets can't be read by anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from chalice_ci.doctor.workflows import Job, gate_of, jobs_of
from chalice_ci.findings import Place
from chalice_ci.positions import MapNode, Node, ScalarNode

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_EXPRESSION = re.compile(r"\$\{\{(?P<text>.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"\b(?P<kind>vars|env|inputs|secrets)\.(?P<name>[A-Za-z_][\w-]*)")
_INPUT = "role-to-assume"
_DEEPEST = 5
"""Expressions that lead to further expressions; GitHub allows four levels of workflows."""


@dataclass(frozen=True, kw_only=True)
class RoleUse:
    """A role that a job assumes and where that stands; `account` is the one that it must be of.

    `previews` says that the pipeline gives it to previews alone, which every branch may have.
    """

    arn: str
    at: Place
    account: str = ""
    stage: str = ""
    previews: bool = False


@dataclass(frozen=True, kw_only=True)
class RoleVariable:
    """A variable that holds a role; one of the job's environment comes before the repository's."""

    name: str
    environment: str
    at: Place


@dataclass(frozen=True, kw_only=True)
class RoleUnknown:
    """A role of which nobody can tell here which one it is; `why` goes on after "comes from"."""

    why: str
    at: Place


def is_role(text: str) -> bool:
    """Whether a text is the ARN of a role."""
    return _ROLE.fullmatch(text.strip()) is not None


Role = RoleUse | RoleVariable | RoleUnknown


def roles_of(workflows: Sequence[Node | None]) -> tuple[Role, ...]:
    """Every role that a job of the workflows assumes, each once."""
    maps = [node for node in workflows if isinstance(node, MapNode)]
    found: dict[object, Role] = {}
    for workflow in maps:
        for job in jobs_of(workflow):
            for step in job.steps:
                entry = _entry(step, "with", _INPUT)
                if entry is not None:
                    scopes = (_map(step, "env"), _map(job.body, "env"), _map(workflow, "env"))
                    for role in _Reading(maps, job, scopes).roles(entry, entry.at, _DEEPEST):
                        found.setdefault(_key(role), role)
    return tuple(found.values())


def _key(role: Role) -> object:
    match role:
        case RoleUse(arn=arn):
            return arn
        case RoleVariable(name=name, environment=environment):
            return name, environment
        case RoleUnknown(why=why):
            return why, ""


@dataclass(frozen=True)
class _Reading:
    """The place that an expression is read in: the job, and the `env` of step, job, workflow."""

    workflows: Sequence[MapNode]
    job: Job
    scopes: tuple[MapNode | None, ...]

    def roles(self, value: Node, at: Place, left: int) -> Iterator[Role]:
        text = _text(value).strip()
        if _ROLE.fullmatch(text):
            yield RoleUse(arn=text, at=at)
            return
        names = [
            (name["kind"], name["name"])
            for expression in _EXPRESSION.finditer(text)
            for name in _NAME.finditer(expression["text"])
        ]
        if text and not names:
            yield RoleUnknown(why=f"an expression that is not understood here: {text[:80]}", at=at)
        for kind, name in names:
            yield from self._named(kind, name, at, left)

    def _named(self, kind: str, name: str, at: Place, left: int) -> Iterator[Role]:
        match kind:
            case "vars":
                yield RoleVariable(name=name, environment=gate_of(self.job), at=at)
            case "env":
                held = (scope.entry(name) for scope in self.scopes if scope is not None)
                entry = next((one for one in held if one is not None), None)
                if entry is not None and left:
                    yield from self.roles(entry.value, at, left - 1)
                else:
                    yield RoleUnknown(why=f"`env.{name}`, which is set while the job runs", at=at)
            case "inputs":
                given = list(self._given(name)) if left else []
                for reading, value in given:
                    yield from reading.roles(value, value.at, left - 1)
                if not given:
                    yield RoleUnknown(
                        why=f"the input `{name}`, which no workflow here gives", at=at
                    )
            case _:
                yield RoleUnknown(why=f"the secret {name}, which nobody can read", at=at)

    def _given(self, name: str) -> Iterator[tuple[_Reading, Node]]:
        """What an input of this workflow is: its default, and what callers here give it."""
        on = _map(self.job.top, "on")
        for event in ("workflow_call", "workflow_dispatch"):
            inputs = _map(_map(on, event), "inputs")
            default = _map(inputs, name)
            entry = default.entry("default") if default is not None else None
            if entry is not None and _text(entry.value):
                yield self, entry.value
        own = PurePosixPath(self.job.top.at.file).name
        for workflow in self.workflows:
            for job in jobs_of(workflow):
                uses = job.body.entry("uses")
                called = _text(uses.value) if uses else ""
                if not called.startswith("./") or PurePosixPath(called).name != own:
                    continue
                value = _entry(job.body, "with", name)
                if value is not None:
                    scopes = (_map(job.body, "env"), _map(workflow, "env"))
                    yield _Reading(self.workflows, job, scopes), value


def _map(node: MapNode | None, key: str) -> MapNode | None:
    entry = None if node is None else node.entry(key)
    return entry.value if entry is not None and isinstance(entry.value, MapNode) else None


def _entry(node: MapNode, key: str, name: str) -> Node | None:
    inner = _map(node, key)
    entry = None if inner is None else inner.entry(name)
    return None if entry is None else entry.value


def _text(node: Node) -> str:
    return str(node.value) if isinstance(node, ScalarNode) and node.value is not None else ""


def stage_roles(
    stages: Sequence[tuple[str, str, str]], places: Mapping[str, Place], file: str
) -> Iterator[RoleUse]:
    """The roles that chalice-ci.yml names; `stages` are name, role and account ("" for none)."""
    for name, arn, account in stages:
        if arn:
            at = places.get(f"stages.{name}.role", Place(file=file))
            yield RoleUse(arn=arn, at=at, account=account, stage=name)
