"""The one model of what a run found and did; every output is a rendering of it.

A pipeline makes one `Result` per app and stage and one `Report` for the run:

    Result(app="orders", stage="dev", findings=findings)                       # check
    Result(app="orders", stage="dev", findings=findings, package=package, ...)  # package, plan
    Result(app="orders", stage="dev", failure=Failure.of(error))                # it went wrong
    Report(verb="check", results=(...), findings=configuration_findings)

Only `app` and `stage` are required of a result: what a verb does not know stays empty, what it
wants (`intent`) is filled in where its jobs are done. Results
gain parts on the way with `dataclasses.replace`. Values of environment variables have no place
here; texts may be hostile, the renderings make them harmless.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from chalice_ci import __version__
from chalice_ci.errors import ExitCode, UserError
from chalice_ci.findings import Finding, Place, Severity, in_order

if TYPE_CHECKING:
    from chalice_ci.contents import Group
    from chalice_ci.difference.changes import Changes
    from chalice_ci.difference.diagram import Diagram


class Verdict(StrEnum):
    """How an app and stage came out."""

    OK = "ok"
    """Nothing stands against it."""
    FINDINGS = "findings"
    """At least one finding is an error."""
    FAILED = "failed"
    """The run stopped: `failure` says where and why."""
    SKIPPED = "skipped"
    """Nothing was done: `note` says why."""


class Intent(StrEnum):
    """What a run wants of an app and stage."""

    CHECK = "check"
    REHEARSE = "rehearse"
    """Check, and deploy to an embedded AWS that ends with the run."""
    PACKAGE = "package"
    PLAN = "plan"
    DEPLOY = "deploy"
    REMOVE = "remove"
    READ = "read"
    """Show what is recorded."""
    RECORD = "record"
    """Take over a state that was recorded elsewhere."""


class Outcome(StrEnum):
    """What became of an operation."""

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    NOT_REACHED = "not-reached"


class Effect(StrEnum):
    """What an operation means for a person who approves it."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    """Deleted and created again: what it held is gone."""
    DELETE = "delete"
    READ = "read"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A `UserError`, or a defect of ours, as data."""

    exit_code: ExitCode
    what: str
    where: str = ""
    fix: str = ""

    @classmethod
    def of(cls, error: UserError) -> Failure:
        """The failure that an error is."""
        return cls(exit_code=error.exit_code, what=error.what, where=error.where, fix=error.fix)


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """A distribution in the package; `direct` when requirements.txt names it."""

    name: str
    version: str
    direct: bool = False
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A zip that goes to Lambda: `slot` is "app" or "layer", sizes in bytes."""

    slot: str
    sha256: str
    size: int
    unpacked_size: int | None = None
    entries: int | None = None
    path: str = ""
    """Where the file is, relative to the output folder."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """What was built for an app and stage."""

    archives: tuple[Archive, ...]
    dependencies: tuple[Dependency, ...] = ()
    python: str = ""
    architecture: str = ""

    @property
    def size(self) -> int:
        """Bytes of all archives together."""
        return sum(archive.size for archive in self.archives)

    @property
    def digest(self) -> str:
        """The app archive's sha256, else that of the first, else empty."""
        by_slot = {archive.slot: archive.sha256 for archive in self.archives}
        return by_slot.get("app", next(iter(by_slot.values()), ""))


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a plan: Chalice's method and the resource it is for.

    `resource` is the name in Chalice's state ("api_handler"), `resource_type` its type there
    ("lambda_function"), `seconds` how long it took.
    """

    method: str
    resource: str
    resource_type: str = ""
    effect: Effect = Effect.UPDATE
    outcome: Outcome = Outcome.PLANNED
    message: str = ""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sealed plan: the sha256 of its document and where the file is."""

    digest: str
    path: str = ""
    expires: str = ""
    """ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True)
class URL:
    """An address of the deployed stage: `kind` is "rest", "websocket" or "domain"."""

    kind: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """How far the process that ran the app's code was shut in: "full", "partial" or "none"."""

    level: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RecordedState:
    """Where the deployed state was recorded; `changed` is False when nothing was written."""

    store: str
    file: str = ""
    commit: str = ""
    version: str = ""
    changed: bool = False


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource of the recorded state: `identity` is its ARN, id or name in AWS."""

    type: str
    name: str
    identity: str = ""


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """One request to the deployed stage and whether it answered as it should."""

    path: str
    passed: bool
    status: int | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Need:
    """One thing on the way to a stage's deployment; `asks` when a person has to decide it."""

    text: str
    met: bool = False
    asks: bool = False


@dataclass(frozen=True, kw_only=True)
class UpgradeNote:
    """One thing that a release of Chalice changed and that touches the app.

    `impact` is "breaks", "changes" or "adds"; `what` and `why` are sentences, `link` is the
    documentation, `at` where the app is touched, `anchor` the note's section in docs/upgrades.md.
    """

    version: str
    topic: str
    impact: str
    what: str
    why: str = ""
    link: str = ""
    anchor: str = ""
    at: tuple[Place, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TemplateChange:
    """One thing that the other Chalice writes differently into the template of the same app.

    `kind` is "renamed", "removed", "added" or "changed", `resources` the logical names that share
    it, `path` the setting ("Properties.Architectures") or, of a resource, its type. `before` and
    `after` are JSON texts, "" for what is not there, or the two names.
    """

    kind: str
    resources: tuple[str, ...] = ()
    path: str = ""
    before: str = ""
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """The app's Chalice before and after, and what lies between that touches the app.

    Notes are in the order of the releases; when `after` is the older one they are what is undone.
    """

    before: str
    after: str
    notes: tuple[UpgradeNote, ...] = ()
    template: tuple[TemplateChange, ...] = ()
    """What both make of the app as it is now: nothing of it is the pull request's other work."""
    template_problem: str = ""
    """Why the templates could not be compared, else empty."""
    downgrade: bool = False
    unknown: str = ""
    """Why the list may be incomplete, else empty."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a step took."""

    step: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known about one app in one stage."""

    app: str
    stage: str
    intent: Intent = Intent.CHECK
    findings: tuple[Finding, ...] = ()
    failure: Failure | None = None
    note: str = ""
    skipped: bool = False
    path: str = ""
    """The app's folder in the repository."""
    preview: bool = False
    account: str = ""
    region: str = ""
    chalice: str = ""
    python: str = ""
    features: tuple[str, ...] = ()
    """The experimental features that the loaded app uses."""
    routes: int | None = None
    functions: int | None = None
    isolation: Isolation | None = None
    package: Package | None = None
    changes: Changes | None = None
    """What is different from what is deployed or from the pull request's base; None when nobody
    asked."""
    diagram: Diagram | None = None
    """The application graph, with what is new, changed and gone where that is known."""
    contents: tuple[Group, ...] = ()
    """What fills the package, largest first."""
    plan: Plan | None = None
    operations: tuple[Operation, ...] = ()
    changed: bool | None = None
    """Whether the deployment changed anything; None when the verb does not deploy."""
    resources: tuple[Resource, ...] = ()
    """What the recorded state holds, for the verbs that show it."""
    urls: tuple[URL, ...] = ()
    smoke: tuple[Smoke, ...] = ()
    state: RecordedState | None = None
    timings: tuple[Timing, ...] = ()
    upgrade: Upgrade | None = None
    """What another Chalice than the base's means for the app; None when it is the same."""
    needs: tuple[Need, ...] = ()
    """What stands between a pull request and this stage's deployment, in order."""
    next_step: str = ""
    """The one thing to do now, in a few words."""

    @property
    def verdict(self) -> Verdict:
        """The result in one word, worst first."""
        if self.failure is not None:
            return Verdict.FAILED
        if any(finding.severity is Severity.ERROR for finding in self.findings):
            return Verdict.FINDINGS
        return Verdict.SKIPPED if self.skipped else Verdict.OK

    def count(self, effect: Effect) -> int:
        """How many resources have an operation with this effect."""
        return len(
            {
                (operation.resource_type, operation.resource)
                for operation in self.operations
                if operation.effect is effect
            }
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole run.

    `findings` are those that belong to no app and stage (the repository's configuration), `failure`
    is what ended the run outside of any result, `commit` the source commit, `started` ISO 8601 UTC.
    """

    verb: str
    results: tuple[Result, ...] = ()
    findings: tuple[Finding, ...] = ()
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    """What was not done and why, in sentences."""
    commit: str = ""
    started: str = ""
    seconds: float | None = None
    tool: str = __version__

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Every finding with its app and stage filled in: errors first, the same order always."""
        return in_order((*self.findings, *(f for result in self.results for f in owned(result))))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every failure of the run."""
        own = () if self.failure is None else (self.failure,)
        return own + tuple(r.failure for r in self.results if r.failure is not None)

    @property
    def verdict(self) -> Verdict:
        """The run in one word."""
        if self.failures:
            return Verdict.FAILED
        if any(finding.severity is Severity.ERROR for finding in self.all_findings):
            return Verdict.FINDINGS
        if self.results and all(result.verdict is Verdict.SKIPPED for result in self.results):
            return Verdict.SKIPPED
        return Verdict.OK


def owned(result: Result) -> tuple[Finding, ...]:
    """The result's findings, in order, each naming its app and stage."""
    return in_order(
        tuple(
            replace(finding, app=finding.app or result.app, stage=finding.stage or result.stage)
            for finding in result.findings
        )
    )


PRECEDENCE: tuple[ExitCode, ...] = (
    ExitCode.TERMINATED,
    ExitCode.INTERRUPTED,
    ExitCode.DEFECT,
    ExitCode.STATE_NOT_RECORDED,
    ExitCode.NOT_OURS,
    ExitCode.WRONG_ACCOUNT,
    ExitCode.PLAN_REFUSED,
    ExitCode.STATE_MOVED,
    ExitCode.LEASE_HELD,
    ExitCode.AWS_FAILED,
    ExitCode.SMOKE_FAILED,
    ExitCode.FORGE_FAILED,
    ExitCode.PACKAGE_FAILED,
    ExitCode.LOAD_FAILED,
    ExitCode.USAGE,
    ExitCode.FINDINGS,
    ExitCode.OK,
)
"""Which exit code a run with several failures has: the one a person must know of first."""


def exit_code(report: Report, *, fail_on: Severity = Severity.ERROR) -> ExitCode:
    """The exit code of a run: the weightiest failure, else findings from `fail_on` up, else 0."""
    codes: set[ExitCode] = {failure.exit_code for failure in report.failures}
    if _fails(report.all_findings, fail_on):
        codes.add(ExitCode.FINDINGS)
    return next((code for code in PRECEDENCE if code in codes), ExitCode.OK)


def _fails(findings: Iterable[Finding], fail_on: Severity) -> bool:
    failing = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}
    return any(failing[finding.severity] <= failing[fail_on] for finding in findings)
