"""The laws of a difference, and what each kind of difference means."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.difference.changes import (
    Area,
    Baseline,
    BaselineKind,
    Change,
    Changes,
    Kind,
    Risk,
    in_order,
)
from chalice_ci.difference.compare import compare
from chalice_ci.difference.delta import DoesNotApply, apply, diff
from chalice_ci.difference.permissions import covers
from chalice_ci.snapshot import (
    Api,
    Archive,
    Authorizer,
    Cors,
    Dependency,
    Domain,
    File,
    Layer,
    Route,
    Snapshot,
    Statement,
    Trigger,
    Variable,
)
from support.snapshots import EMPTY, SNAPSHOTS, allow, function, large, role

BASE = Baseline(kind=BaselineKind.BASE, commit="0" * 40)


def changes(before: Snapshot, after: Snapshot) -> Changes:
    return compare(before, after, BASE)


def only(before: Snapshot, after: Snapshot) -> Change:
    (item,) = changes(before, after).items
    return item


def with_(**sections: Any) -> Snapshot:
    return replace(EMPTY, **sections)


def details(change: Change) -> dict[str, tuple[str | None, str | None]]:
    return {detail.name: (detail.before, detail.after) for detail in change.details}


def why(change: Change, risk: Risk) -> str:
    return " ".join(one.why for one in change.risks if one.risk is risk)


# -- laws -----------------------------------------------------------------------------------------


@given(SNAPSHOTS)
@settings(max_examples=100, deadline=None)
def test_a_snapshot_does_not_differ_from_itself(one: Snapshot) -> None:
    assert diff(one, one).empty
    same = changes(one, one)
    assert same.empty
    assert same.items == ()


@given(SNAPSHOTS, SNAPSHOTS)
@settings(max_examples=200, deadline=None)
def test_a_difference_leads_from_the_one_to_the_other(one: Snapshot, other: Snapshot) -> None:
    there = diff(one, other)
    assert apply(one, there) == other
    assert there.empty == (one == other)
    assert apply(other, diff(other, one)) == one


@given(SNAPSHOTS, SNAPSHOTS, SNAPSHOTS)
@settings(max_examples=50, deadline=None)
def test_a_difference_applies_to_its_own_snapshot_or_not_at_all(
    one: Snapshot, other: Snapshot, third: Snapshot
) -> None:
    try:
        applied = apply(third, diff(one, other))
    except (DoesNotApply, ValueError):
        return
    assert diff(third, applied).sections.keys() <= diff(one, other).sections.keys()


@given(SNAPSHOTS, SNAPSHOTS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_what_is_told_is_the_same_text_whatever_the_order(
    one: Snapshot, other: Snapshot, chance: Any
) -> None:
    told = changes(one, other)
    assert repr(changes(one, other)) == repr(told)
    shuffled = list(told.items)
    chance.shuffle(shuffled)
    assert in_order(shuffled) == told.items or len(set(told.items)) < len(told.items)


@given(SNAPSHOTS, SNAPSHOTS)
@settings(max_examples=100, deadline=None)
def test_what_is_added_one_way_is_removed_the_other_way(one: Snapshot, other: Snapshot) -> None:
    there, back = changes(one, other), changes(other, one)
    for area in Area:
        added = {c.subject for c in there.of_area(area) if c.kind is Kind.ADDED}
        removed = {c.subject for c in back.of_area(area) if c.kind is Kind.REMOVED}
        assert added == removed, area


@given(SNAPSHOTS, SNAPSHOTS)
@settings(max_examples=100, deadline=None)
def test_no_digest_of_a_variable_is_ever_told(one: Snapshot, other: Snapshot) -> None:
    marked = [
        replace(
            snapshot,
            functions=tuple(
                replace(f, variables=tuple(replace(v, digest="feed" * 16) for v in f.variables))
                for f in snapshot.functions
            ),
        )
        for snapshot in (one, other)
    ]
    assert "feed" not in repr(changes(*marked))


# -- routes ---------------------------------------------------------------------------------------

OPEN = Route(path="/orders", method="get", function="orders")
GUARDED = replace(OPEN, auth="pool", scopes=("read",), api_key=True)


def test_a_route_is_added_with_what_guards_it() -> None:
    item = only(EMPTY, with_(routes=(GUARDED,)))
    assert (item.area, item.kind, item.subject) == (Area.ROUTE, Kind.ADDED, "GET /orders")
    assert details(item) == {
        "auth": (None, "pool"),
        "scopes": (None, "read"),
        "API key": (None, "required"),
    }
    assert not item.risks


def test_a_route_of_any_method_is_called_any() -> None:
    route = replace(OPEN, method="x-amazon-apigateway-any-method")
    assert only(with_(routes=(route,)), EMPTY).subject == "ANY /orders"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"auth": "pool"}, {}, "Anybody may call it: the authorizer pool is gone."),
        ({"auth": "a+b"}, {"auth": "a"}, "The authorizer b is gone."),
        ({"api_key": True}, {}, "No API key is asked for any more."),
        (
            {"auth": "p", "scopes": ("r",)},
            {"auth": "p"},
            "No scope is asked for any more: every token is good.",
        ),
        (
            {"auth": "p", "scopes": ("r",)},
            {"auth": "p", "scopes": ("r", "w")},
            "A token with w is good as well.",
        ),
        ({}, {"cors": Cors(origin="*")}, "Browsers may call it from any origin."),
        (
            {"cors": Cors(origin="https://a.example")},
            {"cors": Cors(origin="*")},
            "Browsers may call it from any origin.",
        ),
        (
            {"cors": Cors(origin="*", headers="A")},
            {"cors": Cors(origin="*", headers="A,B")},
            "Browsers may send B.",
        ),
        (
            {"cors": Cors(origin="*")},
            {"cors": Cors(origin="*", expose="X")},
            "Browsers may read X.",
        ),
        (
            {"cors": Cors(origin="x")},
            {"cors": Cors(origin="x", credentials=True)},
            "Browsers may send credentials.",
        ),
    ],
)
def test_a_route_that_is_guarded_less_says_so_and_the_way_back_does_not(
    before: dict[str, Any], after: dict[str, Any], reason: str
) -> None:
    one, other = (with_(routes=(replace(OPEN, **given),)) for given in (before, after))
    assert why(only(one, other), Risk.WEAKENED) == reason
    assert not only(other, one).has(Risk.WEAKENED)


def test_another_authorizer_is_told_without_a_verdict() -> None:
    one, other = (with_(routes=(replace(OPEN, auth=name),)) for name in ("iam", "pool"))
    item = only(one, other)
    assert details(item) == {"auth": ("iam", "pool")}
    assert not item.risks


def test_more_user_pools_let_more_callers_in() -> None:
    pool = Authorizer(name="pool", kind="cognito", providers=("arn:1",))
    more = replace(pool, providers=("arn:1", "arn:2"), ttl=60)
    item = only(with_(authorizers=(pool,)), with_(authorizers=(more,)))
    assert why(item, Risk.WEAKENED) == "Users of arn:2 are let in."
    assert details(item)["cached for"] == (None, "60 s")


# -- APIs and domains -----------------------------------------------------------------------------

REST = Api(kind="rest", name="rest_api", stage="api", endpoint="EDGE")
WEBSOCKET = Api(
    kind="websocket", name="orders-dev-websocket-api", stage="api", routes=(("$connect", "c"),)
)
DOMAIN = Domain(kind="rest", domain="api.example.org", tls="TLS_1_2", mount="v1")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"apis": (REST,)}, {}),
        ({"apis": (WEBSOCKET,)}, {}),
        ({"apis": (REST,)}, {"apis": (replace(REST, endpoint="PRIVATE"),)}),
        ({"apis": (REST,)}, {"apis": (replace(REST, stage="v2"),)}),
        ({"domains": (DOMAIN,)}, {}),
        ({"domains": (DOMAIN,)}, {"domains": (replace(DOMAIN, domain="b.example.org"),)}),
        ({"domains": (DOMAIN,)}, {"domains": (replace(DOMAIN, mount="v2"),)}),
        ({"functions": (function(),)}, {}),
        ({"functions": (function(),)}, {"functions": (function(function_name="other"),)}),
        ({"roles": (role(),)}, {}),
        ({"roles": (role(),)}, {"roles": (role(role_name="other"),)}),
        ({"app_name": "orders"}, {"app_name": "shop"}),
    ],
)
def test_what_loses_an_address_or_data_is_destructive(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    told = changes(with_(**before), with_(**after))
    assert [item for item in told.destructive if why(item, Risk.DESTRUCTIVE)]
    assert told.items[0].destructive, "what is lost stands first in its area"


@pytest.mark.parametrize(
    "after",
    [
        {"apis": (replace(REST, xray=True, minimum_compression=100),)},
        {"domains": (replace(DOMAIN, certificate="other"),)},
        {"functions": (function(memory=512),)},
        {"roles": (role(allow("s3:GetObject", on="arn:aws:s3:::b/k")),)},
        {"triggers": ()},
        {"layers": ()},
        {"routes": ()},
    ],
)
def test_what_loses_no_address_is_not_destructive(after: dict[str, Any]) -> None:
    before = with_(
        apis=(REST,),
        domains=(DOMAIN,),
        functions=(function(),),
        roles=(role(),),
        triggers=(Trigger(kind="sqs", name="t", function="worker", source="jobs"),),
        layers=(Layer(name="managed-layer", layer_name="l", runtime="python3.12"),),
        routes=(OPEN,),
    )
    told = changes(before, replace(before, **after))
    assert told.items
    assert not told.destructive


def test_a_resource_policy_that_goes_or_widens_lets_more_callers_in() -> None:
    inside = Statement(effect="Allow", actions=("execute-api:Invoke",), conditions='{"Ip":1}')
    closed = replace(REST, policy_digest="a" * 64, policy=(inside,))
    wide = replace(REST, policy_digest="b" * 64, policy=(replace(inside, conditions=""),))
    assert only(with_(apis=(closed,)), with_(apis=(REST,))).has(Risk.WEAKENED)
    assert only(with_(apis=(closed,)), with_(apis=(wide,))).has(Risk.WEAKENED)
    assert not only(with_(apis=(wide,)), with_(apis=(closed,))).has(Risk.WEAKENED)
    assert not only(with_(apis=(REST,)), with_(apis=(closed,))).has(Risk.WEAKENED)


def test_websocket_routes_are_told_as_routes() -> None:
    other = replace(WEBSOCKET, routes=(("$connect", "d"), ("$default", "m")))
    told = changes(with_(apis=(WEBSOCKET,)), with_(apis=(other,)))
    assert [(i.kind, i.subject) for i in told.items] == [
        (Kind.CHANGED, "WebSocket $connect"),
        (Kind.ADDED, "WebSocket $default"),
    ]


def test_an_older_tls_version_is_weaker() -> None:
    old = replace(DOMAIN, tls="TLS_1_0")
    assert only(with_(domains=(DOMAIN,)), with_(domains=(old,))).has(Risk.WEAKENED)
    assert not only(with_(domains=(old,)), with_(domains=(DOMAIN,))).has(Risk.WEAKENED)


# -- functions ------------------------------------------------------------------------------------


def test_a_settings_change_is_told_before_and_after() -> None:
    item = only(
        with_(functions=(function(),)),
        with_(functions=(function(memory=512, log_retention=7, subnets=("a", "b"), xray=True),)),
    )
    assert details(item) == {
        "memory": ("128 MB", "512 MB"),
        "log retention": (None, "7 d"),
        "subnets": (None, "a, b"),
        "X-Ray": (None, "on"),
    }


def test_a_renamed_function_is_told_as_lost_with_its_new_name() -> None:
    told = changes(
        with_(functions=(function("worker"),)),
        with_(functions=(function("jobs", handler="app.worker"),)),
    )
    lost, new = told.items
    assert (lost.kind, new.kind) == (Kind.REMOVED, Kind.ADDED)
    assert "`jobs` runs its handler now" in why(lost, Risk.DESTRUCTIVE)


def test_a_variable_is_told_by_name_and_as_changed_only_under_one_key() -> None:
    a, b = "a" * 64, "b" * 64

    def stage(key: str, **digests: str) -> Snapshot:
        variables = tuple(Variable(name=n, digest=d) for n, d in digests.items())
        return with_(variables_key=key, functions=(function(variables=variables),))

    both = only(stage("k", OLD=a, SAME=a, DB=a), stage("k", NEW=a, SAME=a, DB=b))
    assert details(both) == {
        "environment variable DB": (None, None),
        "environment variable NEW": (None, "set"),
        "environment variable OLD": ("set", None),
    }
    assert changes(stage("k", DB=a), stage("other", DB=b)).items == ()
    assert changes(stage("", DB=""), stage("k", DB=b)).items == ()


def test_another_python_is_told_once_and_not_with_every_function() -> None:
    one = with_(functions=(function("a"), function("b")))
    other = replace(
        one,
        python="3.13",
        functions=(function("a", runtime="python3.13"), function("b", runtime="python3.13")),
    )
    item = only(one, other)
    assert (item.area, item.subject, details(item)) == (
        Area.RUNTIME,
        "Python",
        {"version": ("3.12", "3.13")},
    )


def test_a_trigger_that_moves_is_told_with_both_sources() -> None:
    one = Trigger(kind="sqs", name="t", function="worker", source="jobs", settings=(("n", "1"),))
    other = replace(one, source="other", settings=(("n", "2"),))
    item = only(with_(triggers=(one,)), with_(triggers=(other,)))
    assert details(item) == {"source": ("jobs", "other"), "n": ("1", "2")}


def test_a_feature_in_use_is_told() -> None:
    item = only(EMPTY, with_(features=("WEBSOCKETS",)))
    assert (item.area, item.kind, item.subject) == (Area.FEATURE, Kind.ADDED, "WEBSOCKETS")


# -- permissions ----------------------------------------------------------------------------------

BUCKET = "arn:aws:s3:::bucket/*"


@pytest.mark.parametrize(
    ("before", "after", "widened", "wildcard"),
    [
        ([], [allow("s3:GetObject", on=BUCKET)], True, False),
        ([allow("s3:Get*", on=BUCKET)], [allow("s3:GetObject", on=BUCKET)], False, False),
        ([allow("S3:GETOBJECT", on=BUCKET)], [allow("s3:GetObject", on=BUCKET)], False, False),
        ([allow("s3:GetObject", on=BUCKET)], [allow("s3:Get*", on=BUCKET)], True, False),
        ([allow("s3:GetObject", on=BUCKET)], [allow("s3:*", on=BUCKET)], True, True),
        ([allow("s3:GetObject", on=BUCKET)], [allow("s3:GetObject", on="*")], True, True),
        ([allow("*", on="*")], [allow("s3:*", on="*")], False, False),
        (
            [allow("s3:GetObject", on=BUCKET, conditions='{"a":1}')],
            [allow("s3:GetObject", on=BUCKET)],
            True,
            False,
        ),
        (
            [allow("s3:GetObject", on=BUCKET)],
            [allow("s3:GetObject", on=BUCKET, conditions='{"a":1}')],
            False,
            False,
        ),
        # One statement or two say the same.
        (
            [allow("a:x", "a:y", on=("r", "s"))],
            [allow("a:x", on=("r", "s")), allow("a:y", on="r"), allow("a:y", on="s")],
            False,
            False,
        ),
        ([Statement(effect="Deny", actions=("s3:*",), resources=("*",))], [], True, False),
        ([], [Statement(effect="Deny", actions=("s3:*",), resources=("*",))], False, False),
        ([], [Statement(effect="Allow", not_actions=("iam:*",), resources=("*",))], True, True),
        ([], [Statement(other='["odd"]')], True, True),
    ],
)
def test_more_permission_is_told_and_a_wildcard_separately(
    before: list[Statement], after: list[Statement], *, widened: bool, wildcard: bool
) -> None:
    told = changes(with_(roles=(role(*before),)), with_(roles=(role(*after),)))
    assert bool(told.with_risk(Risk.WIDENED)) is widened
    assert bool(told.with_risk(Risk.WILDCARD)) is wildcard


def test_what_a_new_role_may_is_compared_with_what_the_app_could_before() -> None:
    one = with_(roles=(role(allow("s3:GetObject", on=BUCKET)),))
    same = role(allow("s3:GetObject", on=BUCKET), name="worker_role")
    more = role(allow("sqs:SendMessage", on="q"), name="worker_role")
    assert not only(one, replace(one, roles=(*one.roles, same))).risks
    assert only(one, replace(one, roles=(*one.roles, more))).has(Risk.WIDENED)


def test_a_policy_without_end_is_said_to_be_too_long_to_compare() -> None:
    huge = allow(*(f"a:x{n}" for n in range(100)), on=tuple(f"r{n}" for n in range(100)))
    item = only(with_(roles=(role(),)), with_(roles=(role(huge),)))
    assert "more than 2000 grants" in why(item, Risk.WIDENED)


@given(st.text("ab*?", max_size=6), st.text("ab*?", max_size=6), st.text("ab", max_size=6))
@settings(max_examples=500, deadline=None)
def test_a_pattern_that_covers_another_matches_whatever_that_matches(
    wide: str, narrow: str, text: str
) -> None:
    if covers(wide, narrow) and covers(narrow, text):
        assert covers(wide, text)
    assert covers("*", narrow)
    assert covers(narrow, narrow)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not covers("*a" * 1000, "a" * 999 + "b")
    assert not covers("*" * 10**6 + "x", "a" * 10**6)


# -- the package ----------------------------------------------------------------------------------


def dependency(version: str, size: int, packed: int, *, direct: bool = True) -> Dependency:
    return Dependency(
        name="requests",
        version=version,
        direct=direct,
        size=size,
        packed=packed,
        sha256=version.replace(".", "").rjust(64, "0"),
    )


def test_a_dependency_is_told_with_both_versions_sizes_and_whether_it_is_direct() -> None:
    one = with_(
        dependencies=(dependency("2.31", 1000, 300),),
        archives=(Archive(slot="app", sha256="a" * 64, size=500, unpacked_size=1200),),
    )
    other = with_(
        dependencies=(dependency("2.32", 1500, 400),),
        archives=(Archive(slot="app", sha256="b" * 64, size=600, unpacked_size=1700),),
    )
    package = changes(one, other).package
    assert package is not None
    (told,) = package.dependencies
    assert (told.before, told.after, told.direct, told.delta) == ("2.31", "2.32", True, 100)
    assert (package.delta, package.unpacked_after) == (100, 1700)
    assert [(g.kind, g.name, g.delta) for g in package.growth] == [("dependency", "requests", 500)]


def test_whether_it_is_direct_alone_is_no_change() -> None:
    one, other = (
        with_(dependencies=(dependency("2.31", 1, 1, direct=direct),)) for direct in (True, False)
    )
    assert changes(one, other).empty


def test_own_files_are_listed_and_those_of_dependencies_counted() -> None:
    one = with_(files=(File("app", "app.py", 10, "a" * 64), File("app", "gone.py", 5, "b" * 64)))
    other = with_(
        files=(
            File("app", "app.py", 30, "c" * 64),
            File("app", "r/a.py", 7, "d" * 64, "r"),
            File("app", "r/b.py", 9, "e" * 64, "r"),
        )
    )
    package = changes(one, other).package
    assert package is not None
    assert [(f.path, f.kind, f.delta) for f in package.files] == [
        ("app.py", Kind.CHANGED, 20),
        ("gone.py", Kind.REMOVED, -5),
    ]
    assert (package.files_added, package.files_changed, package.files_removed) == (2, 1, 1)
    assert [g.name for g in package.growth] == ["app.py", "r/b.py", "r/a.py"]


def test_of_very_many_files_the_largest_differences_are_listed() -> None:
    files = tuple(File("app", f"f{n:04}.py", n, "a" * 64) for n in range(1000))
    package = changes(EMPTY, with_(files=files)).package
    assert package is not None
    assert package.own_files == 1000
    assert [f.path for f in package.files] == [f"f{n:04}.py" for n in range(800, 1000)]


# -- without a baseline ---------------------------------------------------------------------------


def test_without_anything_before_everything_is_new_and_nothing_is_widened() -> None:
    told = compare(None, large(files=10), Baseline(kind=BaselineKind.NONE))
    assert {item.kind for item in told.items} == {Kind.ADDED}
    assert not told.with_risk(Risk.WIDENED)
    assert told.count(Kind.ADDED) == len(told.items) == 300 + 50 + 50


def test_a_baseline_that_could_not_be_built_leaves_nothing_to_tell() -> None:
    problem = Baseline(kind=BaselineKind.BASE, problem="it does not load", fix="See there.")
    told = compare(None, EMPTY, problem)
    assert (told.known, told.items, told.package) == (False, (), None)


# -- large stages ---------------------------------------------------------------------------------


def test_a_large_stage_is_compared_and_told_in_little_time_and_memory() -> None:
    """300 routes, 50 functions, 20,000 files; CPU time, for the machine may have other work."""
    bench = Path(__file__).parents[1] / "benchmarks" / "bench_diff.py"
    ran = subprocess.run(
        [sys.executable, bench], capture_output=True, text=True, check=True, timeout=300
    )
    cost = json.loads(ran.stdout)
    assert cost["items"] > 0
    assert cost["seconds"]["cpu"] < 2
    assert cost["peak_mb"] < 300
