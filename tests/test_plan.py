"""The plan file: sealed bytes, distrustful opening, and everything that an apply is bound to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.errors import PlanRefused, StateMoved, WrongAccount
from chalice_ci.plan import (
    Action,
    Ask,
    Consent,
    Facts,
    OpenedPlan,
    Operation,
    Plan,
    SealedPackage,
    actions,
    canonical,
    difference,
    digest_of,
    open_plan,
    seal,
    verify,
)

CREATED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CODE = b"PK\x03\x04 pretend zip"
LAYER = b"PK\x03\x04 another"


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PLAN = Plan(
    app="orders",
    app_path="services/orders",
    app_name="orders",
    stage="prod",
    account="123456789012",
    region="eu-west-1",
    commit="9f3c1ab" * 5 + "9f3c1",
    tree="71be2d0" * 5 + "71be2",
    chalice="1.34.0",
    python="3.12",
    tool="0.1.0",
    config_digest=digest_of({"a": 1}),
    base_version="7",
    base_digest=digest_of([]),
    graph={
        "root": 0,
        "nodes": [{"type": "Application", "fields": {"stage": "prod", "resources": {"l": []}}}],
    },
    packages=(
        SealedPackage(slot="app", sha256=_sha(CODE), size=len(CODE)),
        SealedPackage(slot="layer", sha256=_sha(LAYER), size=len(LAYER)),
    ),
    operations=(
        Operation(method="create_role", resource="default-role", message="Creating IAM role: x"),
        Operation(method="delete_function", resource="old", sweep=True),
    ),
    findings=(("notice", 0), ("warning", 2)),
    created=CREATED,
    expires=CREATED + timedelta(hours=24),
)

FACTS = Facts(
    app=PLAN.app,
    app_path=PLAN.app_path,
    stage=PLAN.stage,
    account="123456789012",
    region=PLAN.region,
    commit=PLAN.commit,
    tree=PLAN.tree,
    chalice=PLAN.chalice,
    tool=PLAN.tool,
    config_digest=PLAN.config_digest,
    base_version=PLAN.base_version,
    base_digest=PLAN.base_digest,
    now=CREATED + timedelta(minutes=5),
)


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, Path]:
    app, layer = tmp_path / "deployment.zip", tmp_path / "layer-deployment.zip"
    app.write_bytes(CODE)
    layer.write_bytes(LAYER)
    return {"app": app, "layer": layer}


@pytest.fixture
def sealed(tmp_path: Path, packages: dict[str, Path]) -> Path:
    out = tmp_path / "out" / "orders-prod.plan"
    seal(PLAN, packages, out)
    return out


def _rewrite(path: Path, change: Any) -> Path:
    """A copy of a plan file whose members went through `change(dict of name -> bytes)`."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    changed = change(members)
    out = path.with_name("changed.plan")
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (members if changed is None else changed).items():
            archive.writestr(name, data)
    return out


def _edit(path: Path, edit: Any) -> Path:
    def change(members: dict[str, bytes]) -> None:
        document = json.loads(members["plan.json"])
        edit(document)
        members["plan.json"] = canonical(document)

    return _rewrite(path, change)


def test_what_was_sealed_comes_out_again(sealed: Path, tmp_path: Path) -> None:
    opened = open_plan(sealed, tmp_path / "unpacked")
    assert opened.plan == PLAN
    assert [o.message for o in opened.plan.operations or ()] == ["Creating IAM role: x", ""]
    assert [o.sweep for o in opened.plan.operations or ()] == [False, True]
    assert opened.packages["app"].read_bytes() == CODE
    assert opened.packages["layer"].read_bytes() == LAYER


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path, packages: dict[str, Path]) -> None:
    one, two = tmp_path / "one.plan", tmp_path / "two.plan"
    assert seal(PLAN, packages, one) == seal(PLAN, packages, two)
    assert one.read_bytes() == two.read_bytes()


def test_the_digest_is_that_of_plan_json(sealed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(sealed) as archive:
        document = archive.read("plan.json")
    assert open_plan(sealed, tmp_path / "into").digest == _sha(document)


ASK = {"consent": "destructive", "clauses": ["the function"], "given": False}
SNAPSHOT = b'{"format":1}'
WITH_SNAPSHOT = dataclasses.replace(
    PLAN,
    snapshot=_sha(SNAPSHOT),
    asks=(
        Ask(consent=Consent.DESTRUCTIVE, clauses=("the function `worker` is deleted",)),
        Ask(consent=Consent.WIDENED_IAM, clauses=("`default-role`: more",), given=True),
    ),
)


def test_the_snapshot_and_what_is_lost_are_sealed_with_the_plan(
    tmp_path: Path, packages: dict[str, Path]
) -> None:
    seal(WITH_SNAPSHOT, packages, tmp_path / "p.plan", snapshot=SNAPSHOT)
    opened = open_plan(tmp_path / "p.plan", tmp_path / "into")
    assert (opened.plan, opened.snapshot) == (WITH_SNAPSHOT, SNAPSHOT)


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.update({"snapshot.json": SNAPSHOT + b" "}),
        lambda members: members.pop("snapshot.json"),
    ],
)
def test_another_snapshot_than_the_sealed_one_is_refused(
    tmp_path: Path, packages: dict[str, Path], change: Any
) -> None:
    seal(WITH_SNAPSHOT, packages, tmp_path / "p.plan", snapshot=SNAPSHOT)

    def edit(members: dict[str, bytes]) -> None:
        change(members)

    with pytest.raises(PlanRefused):
        open_plan(_rewrite(tmp_path / "p.plan", edit), tmp_path / "into")
    with pytest.raises(PlanRefused, match="snapshot"):
        seal(WITH_SNAPSHOT, packages, tmp_path / "q.plan", snapshot=b"another")


def test_a_snapshot_that_the_plan_does_not_name_is_refused(sealed: Path, tmp_path: Path) -> None:
    added = _rewrite(sealed, lambda members: members.update({"snapshot.json": SNAPSHOT}))
    with pytest.raises(PlanRefused):
        open_plan(added, tmp_path / "into")


def test_a_plan_without_aws_says_that_the_live_state_was_not_read(
    tmp_path: Path, packages: dict[str, Path]
) -> None:
    plan = dataclasses.replace(PLAN, operations=None, account=None, commit=None, tree=None)
    seal(plan, packages, tmp_path / "p.plan")
    assert open_plan(tmp_path / "p.plan", tmp_path / "into").plan.operations is None


def test_two_slots_with_the_same_bytes_are_one_member(tmp_path: Path) -> None:
    code = tmp_path / "x.zip"
    code.write_bytes(CODE)
    plan = dataclasses.replace(
        PLAN,
        packages=tuple(
            SealedPackage(slot=slot, sha256=_sha(CODE), size=len(CODE)) for slot in ("app", "layer")
        ),
    )
    seal(plan, {"app": code, "layer": code}, tmp_path / "p.plan")
    opened = open_plan(tmp_path / "p.plan", tmp_path / "into")
    assert opened.packages["layer"].read_bytes() == CODE


def test_sealing_another_package_than_the_planned_one_is_refused(
    tmp_path: Path, packages: dict[str, Path]
) -> None:
    for wrong in (CODE + b"!", CODE[:-1] + b"!", b""):
        packages["app"].write_bytes(wrong)
        with pytest.raises(PlanRefused, match="app package"):
            seal(PLAN, packages, tmp_path / "p.plan")
        assert not list(tmp_path.glob("p.plan*"))


def test_sealing_without_a_package_is_refused(tmp_path: Path, packages: dict[str, Path]) -> None:
    del packages["layer"]
    with pytest.raises(PlanRefused, match="layer"):
        seal(PLAN, packages, tmp_path / "p.plan")


def test_a_changed_package_is_refused(sealed: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[f"packages/{_sha(CODE)}.zip"] = CODE[:-1] + b"!"

    with pytest.raises(PlanRefused, match="another digest"):
        open_plan(_rewrite(sealed, change), tmp_path / "into")


def test_a_package_that_nobody_named_is_refused(sealed: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> dict[str, bytes]:
        name = f"packages/{_sha(LAYER)}.zip"
        return {**{k: v for k, v in members.items() if k != name}, "../../evil.zip": LAYER}

    with pytest.raises(PlanRefused, match="other packages"):
        open_plan(_rewrite(sealed, change), tmp_path / "into")
    assert not (tmp_path / "evil.zip").exists()


def test_a_member_too_many_is_refused(sealed: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["more.txt"] = b"?"

    with pytest.raises(PlanRefused):
        open_plan(_rewrite(sealed, change), tmp_path / "into")


def test_compressed_members_are_refused(sealed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(sealed) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    out = tmp_path / "z.plan"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(PlanRefused, match="compressed"):
        open_plan(out, tmp_path / "into")


def test_what_is_no_zip_or_no_file_is_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "g.plan"
    for content in (b"", b"PK", b"x" * 1000, b"PK\x05\x06" + b"\0" * 18):
        garbage.write_bytes(content)
        with pytest.raises(PlanRefused) as problem:
            open_plan(garbage, tmp_path / "into")
        assert problem.value.exit_code == 16
    with pytest.raises(PlanRefused, match="can't be read"):
        open_plan(tmp_path / "none.plan", tmp_path / "into")


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(format=1),
        lambda d: d.update(format=True),
        lambda d: d.update(surprise=1),
        lambda d: d.pop("region"),
        lambda d: d.update(stage=None),
        lambda d: d.update(account=12),
        lambda d: d["base"].update(more=1),
        lambda d: d.update(graph=[]),
        lambda d: d["graph"].update(root=1),
        lambda d: d["graph"]["nodes"][0]["fields"].update(stage="dev"),
        lambda d: d["graph"]["nodes"][0]["fields"].update(surprise=1),
        lambda d: d["graph"]["nodes"].append({"type": "Lambda", "fields": {}}),
        lambda d: d["graph"]["nodes"][0].update(type="Placeholder"),
        lambda d: d["packages"].update(code=d["packages"]["app"]),
        lambda d: d["packages"]["app"].update(size=-1),
        lambda d: d["packages"]["app"].update(size=True),
        lambda d: d["packages"]["app"].update(sha256="../../x"),
        lambda d: d["packages"]["app"].update(sha256=d["packages"]["app"]["sha256"].upper()),
        lambda d: d.update(operations={}),
        lambda d: d["operations"][0].update(sweep=0),
        lambda d: d["operations"][0].pop("message"),
        lambda d: d["operations"].append(["create_role", "x"]),
        lambda d: d.update(findings={"error": -1}),
        lambda d: d.update(findings={"error": 1.5}),
        lambda d: d.update(asks={}),
        lambda d: d.update(asks=[ASK | {"consent": "anything"}]),
        lambda d: d.update(asks=[ASK | {"given": 1}]),
        lambda d: d.update(asks=[ASK | {"clauses": "the function"}]),
        lambda d: d.update(asks=[ASK, ASK]),
        lambda d: d.update(created="yesterday"),
        lambda d: d.update(expires=d["created"]),
    ],
)
def test_a_plan_json_outside_the_schema_is_refused(sealed: Path, tmp_path: Path, edit: Any) -> None:
    with pytest.raises(PlanRefused):
        open_plan(_edit(sealed, edit), tmp_path / "into")


@pytest.mark.parametrize(
    "content",
    [
        b'{"format":1,"format":1}',
        b'{"format":NaN}',
        b"[" * 100_000,
        b"1" * 5000,
        b"\xff\xfe",
        b"null",
    ],
)
def test_a_plan_json_that_is_hardly_json_is_refused(
    sealed: Path, tmp_path: Path, content: bytes
) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["plan.json"] = content

    with pytest.raises(PlanRefused):
        open_plan(_rewrite(sealed, change), tmp_path / "into")


def test_a_plan_json_in_another_spelling_is_refused(sealed: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["plan.json"] = members["plan.json"].replace(b'"format":3', b'"format": 3')

    with pytest.raises(PlanRefused, match="canonical"):
        open_plan(_rewrite(sealed, change), tmp_path / "into")


@settings(max_examples=300, deadline=None)
@given(position=st.integers(min_value=0), value=st.integers(0, 255), cut=st.booleans())
def test_no_damage_gets_past_or_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    app, layer = folder / "a", folder / "l"
    app.write_bytes(CODE)
    layer.write_bytes(LAYER)
    path = folder / "x.plan"
    digest = seal(PLAN, {"app": app, "layer": layer}, path)
    data = bytearray(path.read_bytes())
    at = position % len(data)
    if cut:
        del data[at:]
    else:
        data[at] = value
    path.write_bytes(data)
    try:
        opened = open_plan(path, folder / "into")
    except PlanRefused:
        return
    # Only what means nothing (a time, an attribute) may differ: the content is the sealed one.
    assert (opened.digest, opened.plan) == (digest, PLAN)
    assert {slot: p.read_bytes() for slot, p in opened.packages.items()} == {
        "app": CODE,
        "layer": LAYER,
    }


@pytest.fixture
def opened(sealed: Path, tmp_path: Path) -> OpenedPlan:
    return open_plan(sealed, tmp_path / "unpacked")


def test_a_plan_of_this_very_situation_passes(opened: OpenedPlan) -> None:
    verify(opened.plan, opened.digest, FACTS)
    verify(opened.plan, opened.digest, dataclasses.replace(FACTS, digest=opened.digest))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digest": "0" * 64}, "approved was 000000000000"),
        ({"app": "billing"}, "billing"),
        ({"stage": "staging"}, "staging"),
        ({"commit": "f" * 40}, "commit"),
        ({"commit": None}, "none"),
        ({"tree": "f" * 40}, "tree"),
        ({"chalice": "1.33.0"}, "1.33.0"),
        ({"tool": "0.2.0"}, "0.2.0"),
        ({"config_digest": "0"}, "configuration changed"),
        ({"now": PLAN.expires}, "expired at 2026-03-02T12:00:00Z"),
        ({"now": CREATED - timedelta(hours=1)}, "future"),
    ],
)
def test_a_plan_of_another_situation_is_refused(
    opened: OpenedPlan, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PlanRefused, match=reason) as problem:
        verify(opened.plan, opened.digest, dataclasses.replace(FACTS, **change))
    assert problem.value.exit_code == 16


@pytest.mark.parametrize("change", [{"account": "999999999999"}, {"region": "us-east-1"}])
def test_another_account_or_region_is_the_wrong_account(
    opened: OpenedPlan, change: dict[str, Any]
) -> None:
    with pytest.raises(WrongAccount) as problem:
        verify(opened.plan, opened.digest, dataclasses.replace(FACTS, **change))
    assert problem.value.exit_code == 19


def test_a_plan_made_without_credentials_is_bound_to_no_account(opened: OpenedPlan) -> None:
    plan = dataclasses.replace(opened.plan, account=None)
    verify(plan, opened.digest, FACTS)


def test_another_state_has_moved(opened: OpenedPlan) -> None:
    facts = dataclasses.replace(FACTS, base_version="8", base_digest=digest_of([1]))
    with pytest.raises(StateMoved, match="based on 7, now it is 8") as problem:
        verify(opened.plan, opened.digest, facts)
    assert problem.value.exit_code == 15


def test_a_new_version_of_the_same_state_has_not_moved(opened: OpenedPlan) -> None:
    verify(opened.plan, opened.digest, dataclasses.replace(FACTS, base_version="8"))


def test_all_reasons_are_told_at_once(opened: OpenedPlan) -> None:
    facts = dataclasses.replace(
        FACTS, region="x", base_digest="y", commit="z", now=PLAN.expires + timedelta(days=1)
    )
    with pytest.raises(PlanRefused) as problem:
        verify(opened.plan, opened.digest, facts)
    for reason in ("region", "state", "commit", "expired"):
        assert reason in str(problem.value)


def test_operations_are_compared_by_method_and_resource() -> None:
    one = Operation(method="create_role", resource="a", message="one")
    same = Operation(method="create_role", resource="a", message="two", sweep=True)
    other = Operation(method="delete_role", resource="a")
    assert difference([one], [same]) == ((), ())
    assert difference([one], [other]) == ((other,), (one,))
    assert difference([one], [one, one]) == ((one,), ())


def test_what_happens_to_each_resource_is_told() -> None:
    def op(method: str, resource: str, sweep: bool = False) -> Operation:
        return Operation(method=method, resource=resource, sweep=sweep)

    assert actions(
        [
            op("put_role_policy", "default-role"),
            op("delete_layer_version", "managed-layer"),
            op("publish_layer", "managed-layer"),
            op("create_function", "new"),
            op("delete_function_concurrency", "new"),
            op("create_lambda_event_source", "moved-sqs-event-source"),
            op("delete_function", "old", sweep=True),
            op("remove_lambda_event_source", "moved-sqs-event-source", sweep=True),
        ]
    ) == (
        ("default-role", Action.UPDATE),
        ("managed-layer", Action.UPDATE),
        ("new", Action.CREATE),
        ("moved-sqs-event-source", Action.REPLACE),
        ("old", Action.DELETE),
    )


@pytest.mark.parametrize(
    "methods",
    [
        ("get_or_create_rule_arn", "connect_rule_to_lambda", "add_permission_for_cloudwatch_event"),
        ("connect_s3_bucket_to_lambda", "add_permission_for_s3_event"),
        ("create_function",),
    ],
)
def test_what_methods_make_or_update_is_new_when_it_was_not_recorded(
    methods: tuple[str, ...],
) -> None:
    operations = [Operation(method=method, resource="tick-event") for method in methods]
    assert actions(operations, recorded=()) == (("tick-event", Action.CREATE),)
    if methods != ("create_function",):
        assert actions(operations, recorded=("tick-event",)) == (("tick-event", Action.UPDATE),)
