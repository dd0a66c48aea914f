"""What is wrong with the workflows that deploy. Pure: a workflow is a tree with positions.

Only workflows that use this tool are looked at: its action, the command, or AWS credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from chalice_ci import rules
from chalice_ci.findings import Finding
from chalice_ci.positions import ListNode, MapNode, Node, ScalarNode

_OURS = re.compile(r"(?:^|/)chalice-action(?:/[\w-]+)*(?:@|$)")
_COMMAND = re.compile(r"\bchalice-ci\s+(?!check\b|diff\b|package\b|doctor\b|init\b)[a-z]")
_CREDENTIALS = "aws-actions/configure-aws-credentials"
_PINNED = re.compile(r"[^@]+@[0-9a-f]{40}|\./.*|docker://[^@]+@sha256:[0-9a-f]{64}")
_HEAD = re.compile(r"pull_request\.head|github\.head_ref|workflow_run\.head")
_KEYS = re.compile(r"AWS_SECRET_ACCESS_KEY|aws-secret-access-key")

WRITES = frozenset(
    {"checks", "contents", "deployments", "id-token", "pull-requests", "security-events"}
)
"""What a job of ours may have to write."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it is written: `top` is its workflow."""

    name: str
    body: MapNode
    top: MapNode

    @property
    def steps(self) -> tuple[MapNode, ...]:
        """The steps that are mappings."""
        found = _value(self.body, "steps")
        items = found.items if isinstance(found, ListNode) else ()
        return tuple(item for item in items if isinstance(item, MapNode))

    @property
    def touches_aws(self) -> bool:
        """Whether it deploys, or could: our action, our command, or AWS credentials."""
        return any(
            _OURS.search(uses) or uses.startswith(_CREDENTIALS) or _COMMAND.search(text)
            for uses, text in ((_text(s, "uses"), _text(s, "run")) for s in self.steps)
        )


def jobs_of(workflow: Node | None) -> tuple[Job, ...]:
    """The jobs of a workflow; none for what is no workflow."""
    if not isinstance(workflow, MapNode):
        return ()
    jobs = _value(workflow, "jobs")
    entries = jobs.entries if isinstance(jobs, MapNode) else ()
    return tuple(
        Job(name=entry.key, body=entry.value, top=workflow)
        for entry in entries
        if isinstance(entry.value, MapNode)
    )


def workflow_findings(
    workflows: Sequence[MapNode], *, environments: Iterable[tuple[str, str]] = ()
) -> Iterator[Finding]:
    """What is wrong with workflows; `environments` are what stages ask for, with the stage."""
    deploying = [
        workflow for workflow in workflows if any(job.touches_aws for job in jobs_of(workflow))
    ]
    if not deploying:
        yield rules.finding(
            "workflow-missing",
            what="no workflow uses this tool, so nothing is checked or deployed.",
            fix="Write them: chalice-ci init",
        )
        return
    for workflow in deploying:
        jobs = jobs_of(workflow)
        yield from _triggers(workflow, jobs)
        yield from _permissions(workflow, jobs)
        yield from _concurrency(workflow, jobs)
        for job in jobs:
            yield from _steps(job)
    gates = {gate_of(job) for workflow in deploying for job in jobs_of(workflow)}
    for name, stage in environments:
        if name not in gates:
            yield rules.finding(
                "workflow-without-gate",
                what=f"stage {stage} has the environment {name}, and no job names it: nobody is "
                "asked.",
                fix=f"Give the job that deploys {stage} `environment: {name}`.",
                subject=name,
                stage=stage,
                at=deploying[0].at,
            )


def _triggers(workflow: MapNode, jobs: Sequence[Job]) -> Iterator[Finding]:
    on = workflow.entry("on")
    if on is None:
        return
    dangerous = [name for name in _names(on.value) if name in _DANGEROUS]
    if not dangerous:
        return
    reads_head = any(_HEAD.search(text) for job in jobs for text in _texts(job.body))
    uses_ours = any(_acts(step) for job in jobs for step in job.steps)
    if reads_head or uses_ours:
        yield rules.finding(
            "workflow-runs-foreign-code",
            what=f"on {dangerous[0]} this workflow works on a pull request's code with the "
            "repository's secrets.",
            fix="Use `pull_request`: a fork's run has no secrets, and is checked all the same.",
            subject=dangerous[0],
            at=on.at,
        )


def _acts(step: MapNode) -> bool:
    """Whether a step is our action at work on code: to fold reports it reads none."""
    given = _value(step, "with")
    command = _text(given, "command") if isinstance(given, MapNode) else ""
    return bool(_OURS.search(_text(step, "uses"))) and command != "report"


_DANGEROUS = ("pull_request_target", "workflow_run")


def _permissions(workflow: MapNode, jobs: Sequence[Job]) -> Iterator[Finding]:
    top = workflow.entry("permissions")
    for job in jobs:
        own = job.body.entry("permissions")
        if top is None and own is None:
            yield rules.finding(
                "workflow-without-permissions",
                what=f"job {job.name} has the token's default permissions, whatever they are.",
                fix="Write `permissions: {}` at the top and what each job needs in the job.",
                subject=job.name,
                at=job.body.at,
            )
        granted = _granted(own.value if own else top.value if top else None)
        assumes = any(
            (_text(step, "uses").startswith(_CREDENTIALS) or _OURS.search(_text(step, "uses")))
            and isinstance(given := _value(step, "with"), MapNode)
            and given.entry("role-to-assume") is not None
            for step in job.steps
        )
        if assumes and granted.get("id-token") != "write" and granted.get("*") != "write":
            yield rules.finding(
                "workflow-without-id-token",
                what=f"job {job.name} assumes a role and may not ask for the token to do it with.",
                fix="Give the job `permissions: {id-token: write}` beside what it has.",
                subject=job.name,
                at=job.body.at,
            )
    entries = [
        ("the workflow", top),
        *((f"job {j.name}", j.body.entry("permissions")) for j in jobs),
    ]
    for who, entry in entries:
        if entry is None:
            continue
        granted = _granted(entry.value)
        writes = {name for name, level in granted.items() if level == "write"}
        excess = writes if entry is top and len(jobs) > 1 else writes - WRITES
        if excess:
            named = "everything" if "*" in excess else ", ".join(sorted(excess))
            yield rules.finding(
                "workflow-broad-permissions",
                what=f"{who} may write {named}.",
                fix="Give each job only what it needs (docs/github.md has the table).",
                subject=who,
                at=entry.at,
            )


def _granted(value: Node | None) -> dict[str, str]:
    if isinstance(value, MapNode):
        return {entry.key: _scalar(entry.value) for entry in value.entries}
    return {"write-all": {"*": "write"}, "read-all": {"*": "read"}}.get(_scalar(value), {})


def _concurrency(workflow: MapNode, jobs: Sequence[Job]) -> Iterator[Finding]:
    on = workflow.entry("on")
    if on is not None and set(_names(on.value)) == {"workflow_call"}:
        # It is the caller's.
        return
    top = workflow.entry("concurrency")
    for job in jobs:
        if not (job.touches_aws and _may_deploy(job)):
            continue
        entry = job.body.entry("concurrency") or top
        if entry is None:
            yield rules.finding(
                "workflow-without-concurrency",
                what=f"two runs of job {job.name} may deploy at once: the later one has to wait.",
                fix="Add `concurrency: {group: …, cancel-in-progress: false}`.",
                subject=job.name,
                at=job.body.at,
            )
            return
        cancels = (
            entry.value.entry("cancel-in-progress") if isinstance(entry.value, MapNode) else None
        )
        if cancels is not None and _scalar(cancels.value) == "true":
            yield rules.finding(
                "workflow-cancels-deployments",
                what=f"a newer run cancels job {job.name} in the middle of a deployment.",
                fix="Set `cancel-in-progress: false`.",
                subject=job.name,
                at=cancels.at,
            )
            return


def _may_deploy(job: Job) -> bool:
    """Whether credentials of AWS are within the job's reach: a role's token, or a stored key."""
    entry = job.body.entry("permissions") or job.top.entry("permissions")
    granted = {"*": "write"} if entry is None else _granted(entry.value)
    if "write" in (granted.get("id-token"), granted.get("*")):
        return True
    uses_keys = any(_KEYS.search(text) for text in _texts(job.body))
    return uses_keys or any(_text(step, "uses").startswith(_CREDENTIALS) for step in job.steps)


def _steps(job: Job) -> Iterator[Finding]:
    finding = partial(rules.finding, subject=job.name)
    for step in job.steps:
        uses = step.entry("uses")
        name = _text(step, "uses")
        if uses is not None and not _PINNED.fullmatch(name):
            yield finding(
                "workflow-unpinned-action",
                what=f"{name} is whatever its tag is moved to.",
                fix="Name the commit: `uses: owner/action@<40 digits> # v1.2.3`.",
                at=uses.at,
            )
        if name.startswith("actions/checkout@"):
            given = _value(step, "with")
            kept = _text(given, "persist-credentials") if isinstance(given, MapNode) else ""
            if kept != "false":
                yield finding(
                    "workflow-keeps-token",
                    what="checkout leaves the job's token in the work tree.",
                    fix="Add `with: {persist-credentials: false}`.",
                    at=step.at,
                )
    if any(_KEYS.search(text) for text in _texts(job.body)):
        yield finding(
            "workflow-static-keys",
            what=f"job {job.name} uses a stored AWS key, which is valid until somebody revokes it.",
            fix="Assume a role with `role-to-assume` and `id-token: write`; chalice-ci init writes "
            "both.",
            at=job.body.at,
        )


def gate_of(job: Job) -> str:
    """The environment that a job names; empty: none."""
    found = _value(job.body, "environment")
    return _text(found, "name") if isinstance(found, MapNode) else _scalar(found)


def _value(node: MapNode, key: str) -> Node | None:
    entry = node.entry(key)
    return None if entry is None else entry.value


def _text(node: MapNode, key: str) -> str:
    return _scalar(_value(node, key))


def _scalar(node: Node | None) -> str:
    return str(node.value) if isinstance(node, ScalarNode) and node.value is not None else ""


def _names(node: Node) -> tuple[str, ...]:
    match node:
        case MapNode():
            return tuple(entry.key for entry in node.entries)
        case ListNode():
            return tuple(_scalar(item) for item in node.items)
        case ScalarNode():
            return (_scalar(node),)


def _texts(node: Node) -> Iterator[str]:
    """Every key and every text, at any depth; the reader bounds the depth."""
    match node:
        case MapNode():
            for entry in node.entries:
                yield entry.key
                yield from _texts(entry.value)
        case ListNode():
            for item in node.items:
                yield from _texts(item)
        case ScalarNode():
            yield _scalar(node)
