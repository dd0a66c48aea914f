"""Ten thousand malformed states, journals and plans: no traceback, no call, and it says where."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.errors import ExitCode, NotOurs, UserError
from chalice_ci.local import EmbeddedAWS
from chalice_ci.plan import SealedPackage, canonical, open_plan, seal
from chalice_ci.state.journal import Intent, Journal, Lease, parse_journal, render_journal
from chalice_ci.state.schema import StageState, StateDamaged, parse_v1, parse_v2, render
from support.commandline import hello
from support.inprocess import run_here
from support.malformed import Malformer
from test_plan import CODE, LAYER, PLAN
from test_state_schema import FULL, v1

WHERE = "services/orders/.chalice/deployed/dev.json"
STATES, OLD_STATES, JOURNALS, PLANS = 4_000, 1_000, 1_500, 3_500


def text(document: Any) -> bytes:
    """JSON as Chalice writes it, surrogates and all."""
    return (json.dumps(document, indent=2) + "\n").encode("utf-8")


def refused(
    cases: Iterator[tuple[str, bytes]],
    read: Callable[[bytes], UserError | None],
    count: int,
    *,
    where: str,
) -> tuple[Counter[int], int]:
    """Read cases until so many were refused; how often with which exit code, and how many were
    not. Each refusal names the place, `where` or one within it, and says what to do.
    """
    codes: Counter[int] = Counter()
    accepted = 0
    for what, raw in cases:
        try:
            error = read(raw)
        except Exception as defect:
            raise AssertionError(f"{what}: {defect!r}\n{raw[:500]!r}") from defect
        if error is None:
            accepted += 1
            assert accepted < count, "most of it was no damage at all"
            continue
        said = str(error)
        said.encode("utf-8")
        assert where in error.where, (what, error.where)
        assert error.fix, (what, said)
        assert len(said) < 4_000, (what, said)
        codes[error.exit_code] += 1
        if codes.total() == count:
            break
    return codes, accepted


def test_malformed_states_are_refused_with_their_place() -> None:
    def read(raw: bytes) -> UserError | None:
        try:
            state = parse_v2(raw, where=WHERE)
        except StateDamaged as error:
            return error
        # What is taken is a state that Chalice could have written.
        assert parse_v2(render(state), where=WHERE) == state
        return None

    cases = Malformer(5).documents(json.loads(render(FULL)), text)
    codes, accepted = refused(cases, read, STATES, where=WHERE)
    assert codes == {ExitCode.USAGE: STATES}
    print(f"{STATES} malformed states refused, {accepted} were states of something else")


def test_malformed_old_states_are_refused_with_their_place() -> None:
    def read(raw: bytes) -> UserError | None:
        try:
            state = parse_v1(raw, "dev", app_name="orders", where="deployed.json")
        except (StateDamaged, NotOurs) as error:
            return error
        assert state is None or parse_v2(render(state), where=WHERE) == state
        return None

    document = {"dev": v1(), "prod": v1()}
    codes, accepted = refused(
        Malformer(6).documents(document, text), read, OLD_STATES, where="deployed.json"
    )
    assert set(codes) == {ExitCode.USAGE, ExitCode.NOT_OURS}
    print(f"{OLD_STATES} malformed old states refused, {accepted} were states of something else")


def test_malformed_journals_are_refused_with_the_way_to_clear_them() -> None:
    lease = Lease(
        token=1,
        owner="run 7",
        reason="deploy c0ffee",
        expires=datetime(2030, 1, 1, tzinfo=UTC),
        process="a/1/2/3",
        run=7,
        attempt=1,
    )
    journal = Journal(
        lease=lease,
        verb="deploy",
        account="123456789012",
        region="eu-west-1",
        commit="c0ffee",
        intents=(Intent(method="create_role", resource="default-role"),) * 2,
        resources=FULL.resources,
        calls=7,
        in_flight=("lambda:CreateFunction worker",),
    )
    where = WHERE.replace(".json", ".journal.json")

    def read(raw: bytes) -> UserError | None:
        try:
            found = parse_journal(raw, where=where)
        except StateDamaged as error:
            return error
        assert parse_journal(render_journal(found), where=where) == found
        return None

    cases = Malformer(7).documents(json.loads(render_journal(journal)), text)
    codes, accepted = refused(cases, read, JOURNALS, where=where)
    assert codes == {ExitCode.USAGE: JOURNALS}
    print(f"{JOURNALS} malformed journals refused, {accepted} were journals of something else")


def test_malformed_plans_are_refused(tmp_path: Path) -> None:
    snapshot = b'{"format": 1}'
    plan = dataclasses.replace(
        PLAN,
        snapshot=hashlib.sha256(snapshot).hexdigest(),
        packages=tuple(SealedPackage(**vars(p)) for p in PLAN.packages),
    )
    packages = {"app": tmp_path / "app", "layer": tmp_path / "layer"}
    for path, data in zip(packages.values(), (CODE, LAYER), strict=True):
        path.write_bytes(data)
    sealed = tmp_path / "x.plan"
    digest = seal(plan, packages, sealed, snapshot=snapshot)
    members = members_of(sealed)
    path = tmp_path / "malformed.plan"

    def read(raw: bytes) -> UserError | None:
        path.write_bytes(raw)
        try:
            opened = open_plan(path, tmp_path / "into")
        except UserError as error:
            return error
        # It is the sealed one, or one with another digest, which nobody approved.
        assert opened.digest != digest or opened.plan == plan
        return None

    cases = Malformer(8).archives(members, "plan.json", canonical)
    codes, accepted = refused(cases, read, PLANS, where="malformed.plan")
    assert codes == {ExitCode.PLAN_REFUSED: PLANS}
    print(f"{PLANS} malformed plans refused, {accepted} had another digest or were the same")


def members_of(path: Path) -> dict[str, bytes]:
    """The members of a zip."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# -- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


@pytest.fixture(scope="module")
def planned(aws: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repository with the local store, and a plan of its stage."""
    folder = tmp_path_factory.mktemp("planned")
    repository = hello(folder / "r", **{"chalice-ci.yml": "state: {store: local}\n"})
    ran = run_here("plan", "--stage", "dev", cwd=repository, **aws.environ)
    assert ran.code == 0, ran.out + ran.err
    return repository, repository / "chalice-ci-out" / "hello-dev.plan"


def mutating(aws: EmbeddedAWS) -> list[str]:
    return [f"{c['service']}:{c['operation']}" for c in aws.calls() if c["mutating"]]


@pytest.mark.parametrize("kind", ["state", "journal"])
def test_a_run_that_finds_damage_makes_no_call_and_says_where(
    aws: EmbeddedAWS, planned: tuple[Path, Path], kind: str
) -> None:
    repository, plan = planned
    state = repository / ".chalice/deployed/dev.json"
    file = state if kind == "state" else state.with_name("dev.journal.json")
    state.parent.mkdir(exist_ok=True)
    document = (
        json.loads(render(StageState()))
        if kind == "state"
        else json.loads(render_journal(Journal(lease=None, verb="x", account="1", region="r")))
    )
    aws.forget_calls()
    try:
        tried = 0
        for what, raw in islice(Malformer(9).documents(document, text), 60):
            if is_fine(kind, raw):
                continue
            file.write_bytes(raw)
            for verb in (("deploy", "--plan", plan), ("delete", "--stage", "dev"))[tried % 2 :][:1]:
                ran = run_here(*verb, cwd=repository, **aws.environ)
                assert ran.code == 2, (what, ran.out, ran.err)
                assert file.name in ran.out + ran.err, what
            tried += 1
            if tried == 4:
                break
        assert tried == 4
    finally:
        file.unlink(missing_ok=True)
    assert mutating(aws) == []


def is_fine(kind: str, raw: bytes) -> bool:
    try:
        if kind == "state":
            parse_v2(raw)
        else:
            parse_journal(raw, where="x")
    except StateDamaged:
        return False
    return True


def test_a_run_with_a_malformed_plan_makes_no_call(
    aws: EmbeddedAWS, planned: tuple[Path, Path], tmp_path: Path
) -> None:
    repository, plan = planned
    path = tmp_path / "malformed.plan"
    aws.forget_calls()
    cases = Malformer(10).archives(members_of(plan), "plan.json", canonical)
    for what, raw in islice(cases, 8):
        path.write_bytes(raw)
        ran = run_here("deploy", "--plan", path, cwd=repository, **aws.environ)
        assert ran.code in (2, 15, 16, 19), (what, ran.out, ran.err)
        assert "Fix:" in ran.out + ran.err or "fix" in (ran.out + ran.err).lower(), what
    assert mutating(aws) == []
