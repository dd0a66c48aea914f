"""The canonical pull request: a preview that is up, and a production plan that deletes."""

from __future__ import annotations

from dataclasses import replace

from chalice_ci.contents import contents_of
from chalice_ci.context import RunOrder
from chalice_ci.difference.changes import Baseline, BaselineKind
from chalice_ci.difference.compare import compare
from chalice_ci.difference.diagram import diagram_of
from chalice_ci.errors import ExitCode
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.forge.port import Past
from chalice_ci.report.origin import Origin
from chalice_ci.report.report import (
    URL,
    Archive,
    Dependency,
    Effect,
    Failure,
    Intent,
    Isolation,
    Need,
    Operation,
    Outcome,
    Package,
    Plan,
    RecordedState,
    Report,
    Result,
    Smoke,
    TemplateChange,
    Upgrade,
    UpgradeNote,
)
from chalice_ci.snapshot import Api, File, Function, Role, Route, Snapshot, Statement, Trigger
from chalice_ci.snapshot import Archive as ArchiveFacts
from chalice_ci.snapshot import Dependency as DependencyFacts

ORIGIN = Origin(
    run=RunOrder(id=1658821493),
    commit="9f3c1ab7d0e2f5a4b6c8d9e0f1a2b3c4d5e6f708",
    repository_url="https://github.com/acme/shop",
    run_url="https://github.com/acme/shop/actions/runs/1658821493",
    notes=(
        "prod waits for the environment `production`: apply its plan in a job of that "
        "environment, with `command: deploy` and `plan`.",
    ),
    remarks=("preview expires in 7 d",),
    history=(
        Past(run=RunOrder(id=1658821493), commit="9f3c1ab", verdict="findings"),
        Past(run=RunOrder(id=1658820377, attempt=2), commit="71be2c0", verdict="ok"),
        Past(run=RunOrder(id=1658819002), commit="0d4e8a6", verdict="cancelled"),
    ),
)

PACKAGE = Package(
    archives=(
        Archive(
            slot="app",
            sha256="3b7f9d0c" + "5e" * 28,
            size=8_100_000,
            unpacked_size=24_000_000,
            entries=312,
        ),
    ),
    dependencies=(
        Dependency(name="numpy", version="2.3.1", direct=True),
        Dependency(name="requests", version="2.32.5", direct=True),
        Dependency(name="urllib3", version="2.5.0"),
    ),
    python="3.12",
    architecture="x86_64",
)
FULL = Isolation(level="full")


def operation(method: str, resource: str, effect: Effect, outcome: Outcome) -> Operation:
    return Operation(method=method, resource=resource, effect=effect, outcome=outcome)


WEBSOCKETS = Finding(
    rule="experimental-feature",
    severity=Severity.ERROR,
    subject="WEBSOCKETS",
    what="WEBSOCKETS is used without opting in.",
    fix=(
        "Add to services/chat/app.py, right after line 3 (`app = Chalice(…)`):\n"
        "app.experimental_feature_flags.update(['WEBSOCKETS'])"
    ),
    detail="WebSocket APIs: trial in Chalice 1.34.0 (since 1.10.0).",
    at=Place(file="services/chat/app.py", line=31),
    link="https://aws.github.io/chalice/topics/websockets.html",
)
SHARED_QUEUE = Finding(
    rule="shared-trigger",
    severity=Severity.WARNING,
    subject="jobs",
    what="The queue `jobs` is the same in pr-42 and dev, so they take each other's messages.",
    fix="Give previews a queue of their own.",
    at=Place(file="services/orders/app.py", line=58),
)


def _function(name: str, **settings: object) -> Function:
    return Function(
        name=name,
        function_name=f"orders-pr-42-{name}",
        handler=f"app.{name}",
        runtime="python3.12",
        role="default-role",
        **settings,  # type: ignore[arg-type]
    )


_LOGS = Statement(
    effect="Allow",
    actions=("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
    resources=("arn:*:logs:*:*:*",),
)
_TABLE = Statement(
    effect="Allow", actions=("dynamodb:*",), resources=("arn:aws:dynamodb:*:*:table/orders",)
)
_FILES = (
    *((f"numpy/core{n}.so", "numpy", 9_000_000 // (n + 1)) for n in range(6)),
    *((f"requests/part{n}.py", "requests", 60_000 // (n + 1)) for n in range(8)),
    *((f"urllib3/part{n}.py", "urllib3", 80_000 // (n + 1)) for n in range(8)),
    ("app.py", "", 4_200),
    ("chalicelib/orders.py", "", 18_000),
)


def _dependency(name: str, version: str, size: int, *, direct: bool = False) -> DependencyFacts:
    return DependencyFacts(
        name=name, version=version, direct=direct, size=size, packed=size // 3, sha256=version
    )


BEFORE = Snapshot(
    app="orders",
    stage="pr-42",
    app_name="orders",
    chalice="1.29.0",
    python="3.12",
    routes=(
        Route(path="/orders", method="get", function="orders"),
        Route(path="/orders/{id}", method="delete", function="cancel", auth="staff"),
        Route(path="/legacy", method="get", function="legacy"),
    ),
    functions=(_function("api_handler", memory=128, timeout=60), _function("worker", timeout=60)),
    triggers=(Trigger(kind="sqs", name="worker-sqs", function="worker", source="jobs"),),
    apis=(Api(kind="rest", name="orders", stage="api", endpoint="EDGE"),),
    roles=(
        Role(
            name="default-role",
            role_name="orders-pr-42",
            policy="generated",
            statements=(_LOGS,),
        ),
    ),
    dependencies=(
        _dependency("numpy", "2.3.1", 21_000_000, direct=True),
        _dependency("requests", "2.31.0", 170_000, direct=True),
        _dependency("urllib3", "2.5.0", 230_000),
    ),
    archives=(ArchiveFacts(slot="app", sha256="a" * 64, size=7_888_000, unpacked_size=23_400_000),),
    files=tuple(File("app", path, size, "0" * 64, owner) for path, owner, size in _FILES),
)
AFTER = replace(
    BEFORE,
    chalice="1.34.0",
    routes=(
        BEFORE.routes[1],
        replace(BEFORE.routes[2], auth=""),
        Route(path="/health", method="get", function="health"),
    ),
    functions=(
        _function("api_handler", memory=512, timeout=60),
        _function("nightly_report", timeout=300),
    ),
    triggers=(
        Trigger(
            kind="schedule",
            name="nightly_report-event",
            function="nightly_report",
            source="rate(1 day)",
        ),
    ),
    roles=(replace(BEFORE.roles[0], statements=(_LOGS, _TABLE)),),
    dependencies=(
        BEFORE.dependencies[0],
        _dependency("requests", "2.32.5", 182_000, direct=True),
        BEFORE.dependencies[2],
    ),
    archives=(ArchiveFacts(slot="app", sha256="b" * 64, size=8_100_000, unpacked_size=24_000_000),),
    files=tuple(
        replace(file, size=file.size + 2_600, sha256="1" * 64)
        if file.dependency in ("", "requests")
        else file
        for file in BEFORE.files
    ),
)
CHANGES = compare(BEFORE, AFTER, Baseline(kind=BaselineKind.BASE, commit="71be2aa90c"))
UPGRADE = Upgrade(
    before="1.29.0",
    after="1.34.0",
    notes=(
        UpgradeNote(
            version="1.30.0",
            topic="Python 3.12 runtime",
            impact="changes",
            what="Functions are deployed with `python3.12` when Chalice runs on it.",
            why="Earlier releases fall back to an older runtime.",
            link="https://aws.github.io/chalice/",
            at=(Place(file="services/orders/.chalice/config.json", line=4),),
        ),
    ),
    template=(
        TemplateChange(
            kind="changed",
            resources=("APIHandler", "Worker"),
            path="Properties.Architectures",
            after='["x86_64"]',
        ),
    ),
)


CANONICAL = Report(
    verb="run",
    commit="0123456789abcdef0123456789abcdef01234567",
    tool="1.0.0",
    results=(
        *(
            Result(
                app="chat",
                stage=stage,
                path="services/chat",
                findings=(WEBSOCKETS,),
                next_step="mend what is told below, and push",
            )
            for stage in ("dev", "prod")
        ),
        Result(
            app="orders",
            stage="pr-42",
            path="services/orders",
            preview=True,
            isolation=FULL,
            package=PACKAGE,
            changes=CHANGES,
            diagram=diagram_of(BEFORE, AFTER),
            contents=contents_of(AFTER),
            upgrade=UPGRADE,
            intent=Intent.DEPLOY,
            plan=Plan(digest="b" * 64),
            findings=(SHARED_QUEUE,),
            operations=(
                operation("create_function", "api_handler", Effect.CREATE, Outcome.DONE),
                operation("create_rest_api", "rest_api", Effect.CREATE, Outcome.DONE),
                operation("update_function", "worker", Effect.UPDATE, Outcome.DONE),
            ),
            changed=True,
            urls=(
                URL(
                    kind="rest",
                    address="https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/api/",
                ),
            ),
            smoke=tuple(
                Smoke(path=path, passed=True, status=200) for path in ("/", "/a", "/health")
            ),
            state=RecordedState(store="git", commit="71be2aa90c", changed=True),
        ),
        Result(
            app="orders",
            stage="prod",
            path="services/orders",
            isolation=FULL,
            package=PACKAGE,
            intent=Intent.PLAN,
            plan=Plan(digest="c" * 64, path="orders-prod.plan"),
            operations=(
                operation("create_function", "api_handler", Effect.CREATE, Outcome.PLANNED),
                operation("update_rest_api", "rest_api", Effect.UPDATE, Outcome.PLANNED),
                operation("delete_function", "worker", Effect.DELETE, Outcome.PLANNED),
            ),
        ),
        Result(
            app="users",
            stage="prod",
            path="services/users",
            isolation=FULL,
            needs=(
                Need(text="The checks pass", met=True),
                Need(text="A tag `v*`"),
                Need(text="The same package is live in staging"),
                Need(text="A reviewer approves it in the environment `production`"),
            ),
            next_step="after the merge, push a tag `v*`, and approve the plan",
        ),
    ),
)


TROUBLED = Report(
    verb="run",
    tool="1.0.0",
    commit=ORIGIN.commit,
    results=(
        Result(
            app="orders",
            stage="dev",
            intent=Intent.DEPLOY,
            plan=Plan(digest="c" * 64),
            changed=True,
            package=PACKAGE,
            isolation=FULL,
            changes=compare(
                None,
                AFTER,
                Baseline(
                    kind=BaselineKind.DEPLOYED,
                    problem="what is deployed in dev was not recorded in detail: by plain Chalice, "
                    "by an older version, or by a deploy that stopped half-way.",
                    fix="The next deploy records it; until then a changed endpoint type is not "
                    "noticed.",
                ),
            ),
            smoke=(
                Smoke(path="/health", passed=True, status=200),
                Smoke(path="/orders", passed=False, status=500, message="expected 200"),
            ),
            failure=Failure(
                exit_code=ExitCode.SMOKE_FAILED,
                where="orders/dev",
                what="1 of 2 smoke checks failed.",
                fix="Look at the function's log, or roll back.",
            ),
        ),
        Result(
            app="users",
            stage="dev",
            intent=Intent.DEPLOY,
            plan=Plan(digest="d" * 64),
            isolation=FULL,
            operations=(
                operation("create_function", "api_handler", Effect.CREATE, Outcome.DONE),
                operation("import_rest_api", "rest_api", Effect.CREATE, Outcome.FAILED),
                operation("create_function", "worker", Effect.CREATE, Outcome.NOT_REACHED),
            ),
            failure=Failure(
                exit_code=ExitCode.AWS_FAILED,
                where="users/dev",
                what="API Gateway refused the API (TooManyRequestsException).",
                fix="Run it again: what was made is recorded.",
            ),
        ),
    ),
)
"""A push whose deployments went wrong, each in another way."""
