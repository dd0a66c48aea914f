"""The canonical pull request: a preview that is up, and a production plan that deletes."""

from __future__ import annotations

from chalice_ci.context import RunOrder
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.report.page import Origin
from chalice_ci.report.report import (
    URL,
    Archive,
    Dependency,
    Effect,
    Intent,
    Isolation,
    Operation,
    Outcome,
    Package,
    Plan,
    RecordedState,
    Report,
    Result,
    Smoke,
)

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

CANONICAL = Report(
    verb="run",
    commit="0123456789abcdef0123456789abcdef01234567",
    tool="1.0.0",
    results=(
        Result(app="chat", stage="dev", path="services/chat", findings=(WEBSOCKETS,)),
        Result(app="chat", stage="prod", path="services/chat", findings=(WEBSOCKETS,)),
        Result(
            app="orders",
            stage="pr-42",
            path="services/orders",
            preview=True,
            isolation=FULL,
            package=PACKAGE,
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
    ),
)
