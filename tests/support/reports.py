"""Reports for the tests of the renderings: a full one, and hostile ones without end."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from chalice_ci.contents import Group, Part
from chalice_ci.difference.changes import (
    Area,
    Baseline,
    BaselineKind,
    Change,
    Changes,
    DependencyChange,
    Detail,
    FileChange,
    Growth,
    Kind,
    PackageChanges,
    Risk,
    Risky,
)
from chalice_ci.difference.diagram import Diagram, Edge, Node, Shape
from chalice_ci.errors import ExitCode
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.report.report import (
    URL,
    Archive,
    Dependency,
    Effect,
    Failure,
    Intent,
    Isolation,
    Operation,
    Outcome,
    Package,
    Plan,
    RecordedState,
    Report,
    Resource,
    Result,
    Smoke,
    TemplateChange,
    Timing,
    Upgrade,
    UpgradeNote,
)
from chalice_ci.rules import RULES
from support.hostile import HOSTILE

T = TypeVar("T")

FULL = Report(
    verb="deploy",
    commit="9f3c1ab",
    started="2026-01-02T03:04:05Z",
    seconds=12.5,
    findings=(
        Finding(
            rule="config",
            severity=Severity.WARNING,
            what="Unknown key 'stagse'.",
            fix="Did you mean 'stages'?",
            at=Place(file="chalice-ci.yml", line=3, column=1),
        ),
    ),
    results=(
        Result(
            app="orders",
            stage="dev",
            path="services/orders",
            chalice="1.34.0",
            python="3.12",
            region="eu-west-1",
            account="123456789012",
            features=("WEBSOCKETS",),
            routes=4,
            functions=2,
            isolation=Isolation(level="partial", reasons=("no Landlock in this kernel",)),
            package=Package(
                archives=(
                    Archive(
                        slot="app",
                        sha256="a" * 64,
                        size=8_123_456,
                        unpacked_size=20_000_000,
                        entries=312,
                        path="orders-dev/deployment.zip",
                    ),
                ),
                dependencies=(Dependency(name="requests", version="2.32.5", direct=True),),
                python="3.12",
                architecture="x86_64",
            ),
            intent=Intent.DEPLOY,
            plan=Plan(digest="b" * 64, path="orders-dev.plan", expires="2026-01-03T03:04:05Z"),
            operations=(
                Operation(
                    method="create_function",
                    resource="api_handler",
                    resource_type="lambda_function",
                    effect=Effect.CREATE,
                    outcome=Outcome.DONE,
                    seconds=1.25,
                ),
                Operation(
                    method="delete_rule",
                    resource="old-event",
                    effect=Effect.DELETE,
                    outcome=Outcome.NOT_REACHED,
                ),
            ),
            changed=True,
            resources=(
                Resource(
                    type="lambda_function",
                    name="api_handler",
                    identity="arn:aws:lambda:eu-west-1:123456789012:function:orders-dev",
                ),
            ),
            urls=(URL(kind="rest", address="https://abc.execute-api.example.org/api/"),),
            smoke=(Smoke(path="/health", passed=True, status=200),),
            state=RecordedState(
                store="git",
                file="services/orders/.chalice/deployed/dev.json",
                commit="71be2aa",
                version="71be2aa",
                changed=True,
            ),
            timings=(Timing(step="load", seconds=1.5), Timing(step="package", seconds=2.0)),
            findings=(
                Finding(
                    rule="experimental-feature",
                    severity=Severity.ERROR,
                    subject="WEBSOCKETS",
                    what="WEBSOCKETS is used without opting in.",
                    fix=(
                        "Add to services/orders/app.py, right after line 3 (`app = Chalice(…)`):\n"
                        "app.experimental_feature_flags.update(['WEBSOCKETS'])"
                    ),
                    detail="WebSocket APIs: Trial in Chalice 1.34.0 (since 1.10.0).",
                    at=Place(file="services/orders/app.py", line=31),
                    link="https://aws.github.io/chalice/topics/websockets.html",
                ),
            ),
        ),
        Result(
            app="orders",
            stage="prod",
            failure=Failure(
                exit_code=ExitCode.AWS_FAILED,
                where="orders/prod",
                what="Lambda refused the function.",
                fix="Raise the limit.",
            ),
        ),
        Result(app="orders", stage="staging", skipped=True, note="dev is not deployed yet"),
    ),
)

EVIL = (
    "::error::injected",
    "\n::add-mask::e",
    "\r::stop-commands::x",
    "x##[set-output name=url]evil",
    "##[error]x",
    " \u00a0::set-output name=a::b",
    "%0A::error::",
    "%25",
    "\x1b[31mred\x1b]0;title\x07\x1b[2J",
    "\x00\x01\x08\x0b\x0c\x1f\x7f\x80\x85\x9b31m",
    "\u202eevil\u2066\u2069\u200b\u200f\ufeff",
    "\u2028::error::\u2029",
    "]]></failure><error/>",
    "<!-- --><x y='&amp;&#0;'>",
    "\ud800\udfff\ufffe\uffff",
    "a,b:c=d",
    "```\n</details>@org/team #1",
    "\tindented\n\t\tcode",
    "{{ x }} ${{ secrets.X }} $(id) `id`",
    '"\\\u0000',
)


class _Maker:
    """Fills every field from a pool of texts; the seed decides the shape."""

    def __init__(self, pool: list[str], seed: int) -> None:
        self.random = Random(seed)
        self.pool = pool

    def text(self) -> str:
        return self.random.choice(self.pool)

    def maybe(self, made: Callable[[], T]) -> T | None:
        return made() if self.random.random() < 0.7 else None

    def several(self, made: Callable[[], T], most: int = 3) -> tuple[T, ...]:
        return tuple(made() for _ in range(self.random.randint(0, most)))

    def number(self) -> int:
        return self.random.choice([0, 1, 7, 200, 10**12])

    def seconds(self) -> float:
        return self.random.choice([0.0, 0.25, 1e6])

    def flag(self) -> bool:
        return self.random.random() < 0.3

    def texts(self, *names: str) -> dict[str, str]:
        return {name: self.text() for name in names}

    def place(self) -> Place:
        numbers = [None, -5, 0, 1, 31, 10**6]
        return Place(
            file=self.text(), line=self.random.choice(numbers), column=self.random.choice(numbers)
        )

    def finding(self) -> Finding:
        return Finding(
            rule=self.random.choice(sorted(RULES)),
            severity=self.random.choice(list(Severity)),
            at=self.maybe(self.place),
            **self.texts("what", "fix", "detail", "subject", "app", "stage", "link"),
        )

    def failure(self) -> Failure:
        return Failure(
            exit_code=self.random.choice(list(ExitCode)[1:]), **self.texts("what", "where", "fix")
        )

    def package(self) -> Package:
        return Package(
            archives=self.several(
                lambda: Archive(size=self.number(), **self.texts("slot", "sha256", "path"))
            ),
            dependencies=self.several(lambda: Dependency(**self.texts("name", "version"))),
            **self.texts("python", "architecture"),
        )

    def operation(self) -> Operation:
        return Operation(
            effect=self.random.choice(list(Effect)),
            outcome=self.random.choice(list(Outcome)),
            seconds=self.maybe(self.seconds),
            **self.texts("method", "resource", "resource_type", "message"),
        )

    def kind(self) -> Kind:
        return self.random.choice(list(Kind))

    def change(self) -> Change:
        return Change(
            area=self.random.choice(list(Area)),
            kind=self.kind(),
            details=self.several(
                lambda: Detail(
                    name=self.text(), before=self.maybe(self.text), after=self.maybe(self.text)
                )
            ),
            risks=self.several(
                lambda: Risky(risk=self.random.choice(list(Risk)), why=self.text()), 2
            ),
            **self.texts("subject", "function"),
        )

    def package_changes(self) -> PackageChanges:
        def sizes(*names: str) -> dict[str, int]:
            return {name: self.number() for name in names}

        return PackageChanges(
            dependencies=self.several(
                lambda: DependencyChange(
                    kind=self.kind(),
                    direct=self.flag(),
                    **self.texts("name", "before", "after"),
                    **sizes("size_before", "size_after", "packed_before", "packed_after"),
                )
            ),
            files=self.several(
                lambda: FileChange(
                    kind=self.kind(),
                    **self.texts("path", "slot", "dependency"),
                    **sizes("size_before", "size_after"),
                )
            ),
            growth=self.several(
                lambda: Growth(kind="file", name=self.text(), **sizes("before", "after"))
            ),
            **sizes("size_before", "size_after", "unpacked_before", "unpacked_after"),
            **sizes("files_added", "files_changed", "files_removed", "own_files"),
        )

    def changes(self) -> Changes:
        return Changes(
            baseline=Baseline(
                kind=self.random.choice(list(BaselineKind)),
                problem=self.text() if self.flag() else "",
                **self.texts("commit", "fix"),
            ),
            items=self.several(self.change, 6),
            package=self.maybe(self.package_changes),
        )

    def diagram(self) -> Diagram:
        nodes = tuple(
            Node(
                id=str(number),
                shape=self.random.choice(list(Shape)),
                label=self.text(),
                state=self.maybe(self.kind),
            )
            for number in range(self.random.randint(0, 9))
        )
        ids = [node.id for node in nodes]
        return Diagram(
            nodes=nodes,
            edges=tuple(
                Edge(source=self.random.choice(ids), target=self.random.choice(ids)) for _ in ids
            ),
        )

    def group(self) -> Group:
        return Group(
            name=self.text(),
            parts=self.several(lambda: Part(name=self.text(), size=self.number()), 5),
        )

    def upgrade(self) -> Upgrade:
        return Upgrade(
            downgrade=self.flag(),
            notes=self.several(
                lambda: UpgradeNote(
                    at=self.several(self.place),
                    **self.texts("version", "topic", "impact", "what", "why", "link", "anchor"),
                )
            ),
            template=self.several(
                lambda: TemplateChange(
                    resources=self.several(self.text, 12),
                    **self.texts("kind", "path", "before", "after"),
                )
            ),
            **self.texts("before", "after", "unknown", "template_problem"),
        )

    def smoke(self) -> Smoke:
        return Smoke(path=self.text(), passed=self.flag(), message=self.text())

    def result(self) -> Result:
        return Result(
            findings=self.several(self.finding, 12),
            failure=self.failure() if self.flag() else None,
            skipped=self.flag(),
            intent=self.random.choice(list(Intent)),
            preview=self.flag(),
            features=self.several(self.text),
            routes=self.maybe(self.number),
            functions=self.maybe(self.number),
            isolation=self.maybe(
                lambda: Isolation(level=self.text(), reasons=self.several(self.text))
            ),
            package=self.maybe(self.package),
            plan=self.maybe(lambda: Plan(**self.texts("digest", "path", "expires"))),
            operations=self.several(self.operation),
            changed=self.maybe(self.flag),
            changes=self.maybe(self.changes),
            diagram=self.maybe(self.diagram),
            contents=self.several(self.group),
            upgrade=self.maybe(self.upgrade),
            resources=self.several(lambda: Resource(**self.texts("type", "name", "identity"))),
            urls=self.several(lambda: URL(**self.texts("kind", "address"))),
            smoke=self.several(self.smoke),
            state=self.maybe(
                lambda: RecordedState(**self.texts("store", "file", "commit", "version"))
            ),
            timings=self.several(lambda: Timing(step=self.text(), seconds=self.seconds())),
            **self.texts("app", "stage", "note", "path", "account", "region", "chalice", "python"),
        )

    def report(self) -> Report:
        return Report(
            results=self.several(self.result),
            findings=self.several(self.finding, 20),
            failure=self.failure() if self.flag() else None,
            seconds=self.maybe(self.seconds),
            **self.texts("verb", "commit", "started"),
        )


texts = st.lists(
    st.one_of(st.sampled_from(EVIL), st.text(st.characters(codec=None), max_size=20)), max_size=3
).map("".join)


def reports_of(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Report]:
    """Reports whose every text is one of a few."""
    return st.builds(
        lambda pool, seed: _Maker(pool, seed).report(),
        st.lists(texts, min_size=1, max_size=4),
        st.integers(0, 2**32),
    )


class _SmallMaker(_Maker):
    """One of everything, two now and then: thousands can be rendered."""

    def several(self, made: Callable[[], T], most: int = 2) -> tuple[T, ...]:
        return tuple(made() for _ in range(self.random.choice((0, 1, 1, 1, 2))))


def small_report(seed: int) -> Report:
    """A small report made of hostile texts: always the same one for a seed."""
    random = Random(seed)
    return _SmallMaker([_hostile(random) for _ in range(random.randint(1, 4))], seed).report()


def _hostile(random: Random) -> str:
    parts = []
    for _ in range(random.randint(1, 4)):
        kind = random.random()
        if kind < 0.7:
            parts.append(random.choice(HOSTILE))
        elif kind < 0.71:
            parts.append(random.choice(HOSTILE) * 1000)
        else:
            # Printable ASCII, all that is below U+3000, and what is beyond the first plane.
            last = random.choice((0x7F, 0x3000, 0x10FFFF))
            parts += (chr(random.randrange(last)) for _ in range(random.randint(0, 8)))
    return "".join(parts)


reports = reports_of(texts)
