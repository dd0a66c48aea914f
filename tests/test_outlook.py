"""What is next for a stage that a pull request checks, and what it still needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalice_ci.config import AppConfig, DeployOn, StageConfig
from chalice_ci.difference.changes import (
    Area,
    Baseline,
    BaselineKind,
    Change,
    Changes,
    Kind,
    Risk,
    Risky,
)
from chalice_ci.errors import ExitCode
from chalice_ci.findings import Finding, Severity
from chalice_ci.outlook import Live, with_outlook
from chalice_ci.report.report import Archive, Failure, Intent, Package, Plan, Result
from chalice_ci.route import Job

ORDERS = AppConfig(name="orders", path=".")
DEV = StageConfig(name="dev", deploy_on=DeployOn(branch="main"))
PROD = StageConfig(
    name="prod", deploy_on=DeployOn(tag="v*"), needs="staging", environment="production"
)
PACKAGE = Package(archives=(Archive(slot="app", sha256="a" * 64, size=1),))
BASE = Baseline(kind=BaselineKind.BASE)
ADDED = Change(area=Area.ROUTE, kind=Kind.ADDED, subject="GET /")
LOST = Change(
    area=Area.API,
    kind=Kind.CHANGED,
    subject="rest_api",
    risks=(Risky(risk=Risk.DESTRUCTIVE, why="The address is lost."),),
)
MORE = Change(
    area=Area.ROLE,
    kind=Kind.CHANGED,
    subject="default-role",
    risks=(Risky(risk=Risk.WIDENED, why="More is permitted: s3:PutObject on *."),),
)
CHECKED = Result(
    app="orders", stage="prod", package=PACKAGE, changes=Changes(baseline=BASE, items=(ADDED,))
)
ERROR = Finding(rule="x", severity=Severity.ERROR, what="Wrong.")


def seen(
    result: Result = CHECKED,
    stage: StageConfig | None = PROD,
    *,
    app: AppConfig = ORDERS,
    labels: tuple[str, ...] = (),
    passed: bool = True,
    live: Live | None = None,
) -> Result:
    job = Job(app=app, stage=stage.name if stage else "dev", policy=stage)
    return with_outlook(result, job, base_branch="main", labels=labels, passed=passed, live=live)


def needs(result: Result) -> list[str]:
    return [("✅ " if need.met else "⬜ ") + need.text for need in result.needs]


def test_a_gated_stage_says_everything_that_it_still_needs() -> None:
    found = seen(live=Live(stage="staging", digests={"app": "a" * 64}))
    assert needs(found) == [
        "✅ The checks pass",
        "⬜ A tag `v*`",
        "✅ The same package is live in staging",
        "⬜ A reviewer approves it in the environment `production`",
    ]
    assert found.next_step == "after the merge, push a tag `v*`, and approve the plan"


def test_another_package_in_the_needed_stage_or_none_is_not_the_same() -> None:
    for live in (Live(stage="staging"), Live(stage="staging", digests={"app": "b" * 64})):
        assert "⬜ The same package is live in staging" in needs(seen(live=live))


def test_a_stage_that_nothing_guards_only_has_a_next_step() -> None:
    found = seen(stage=DEV)
    assert (needs(found), found.next_step) == ([], "merge it: that deploys it")


def test_a_gated_stage_of_the_branch_waits_for_the_merge_and_the_approval() -> None:
    found = seen(stage=replace(DEV, environment="dev"))
    assert found.next_step == "merge it, and approve the plan"
    assert "⬜ The merge into `main`" in needs(found)


def test_another_branch_is_named() -> None:
    found = seen(stage=replace(PROD, deploy_on=DeployOn(branch="release"), environment=None))
    assert found.next_step == "after the merge, push to `release`"


def test_an_apps_own_ref_wins() -> None:
    app = replace(ORDERS, deploy_on=(("prod", DeployOn(tag="orders-v*")),))
    assert "⬜ A tag `orders-v*`" in needs(seen(app=app))


def test_what_is_lost_asks_for_the_label_even_where_nothing_else_guards() -> None:
    losing = replace(CHECKED, changes=Changes(baseline=BASE, items=(LOST,)))
    found = seen(losing, DEV)
    assert "⬜ Somebody lets go what is lost: the label `allow-delete:dev`" in needs(found)
    assert found.next_step == "keep what is lost, or give the label `allow-delete:dev`"
    let = seen(losing, DEV, labels=("allow-delete:dev",))
    assert "✅ Somebody lets go what is lost: the label `allow-delete:dev`" in needs(let)
    assert let.next_step == "merge it: that deploys it"


def test_what_permits_more_asks_for_its_label_where_the_stage_is_gated() -> None:
    more = replace(CHECKED, changes=Changes(baseline=BASE, items=(MORE,)))
    found = seen(more)
    assert "⬜ Somebody lets it permit more: the label `allow-iam:prod`" in needs(found)
    assert found.next_step == "permit no more than before, or give the label `allow-iam:prod`"
    let = seen(more, labels=("allow-iam:prod",))
    assert "✅ Somebody lets it permit more: the label `allow-iam:prod`" in needs(let)
    assert seen(more, DEV).needs == ()
    for policy in (replace(DEV, allow_widened_iam=False), replace(PROD, allow_widened_iam=True)):
        asked = any("allow-iam:" in text for text in needs(seen(more, policy)))
        assert asked is (policy.allow_widened_iam is False)


def test_both_labels_are_asked_for_one_after_the_other() -> None:
    both = replace(CHECKED, changes=Changes(baseline=BASE, items=(LOST, MORE)))
    assert sum(need.asks for need in seen(both).needs) == 2
    assert "`allow-delete:prod`" in seen(both).next_step
    assert "`allow-iam:prod`" in seen(both, labels=("allow-delete:prod",)).next_step


def test_a_check_that_fails_is_mended_first() -> None:
    found = seen(replace(CHECKED, findings=(ERROR,)), passed=False)
    assert found.next_step == "mend what is told below, and push"
    assert needs(found)[0] == "⬜ The checks pass"


def test_an_unchanged_stage_and_one_without_a_ref_are_quiet() -> None:
    unchanged = replace(CHECKED, changes=Changes(baseline=BASE))
    assert (seen(unchanged).needs, seen(unchanged).next_step) == ((), "")
    assert seen(stage=None).next_step == ""
    assert seen(stage=StageConfig(name="qa")).next_step == ""


def test_what_was_rehearsed_for_a_fork_has_the_same_way_to_go() -> None:
    rehearsed = replace(CHECKED, intent=Intent.REHEARSE)
    assert seen(rehearsed, DEV).next_step == seen(stage=DEV).next_step
    assert needs(seen(rehearsed)) == needs(seen())


FAILED = Failure(exit_code=ExitCode.AWS_FAILED, what="AWS refused.", where="orders/pr-1", fix="")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (replace(CHECKED, intent=Intent.DEPLOY), ""),
        (replace(CHECKED, intent=Intent.DEPLOY, skipped=True), ""),
        (replace(CHECKED, intent=Intent.DEPLOY, failure=FAILED), "or start this job again"),
        (replace(CHECKED, intent=Intent.DEPLOY, findings=(ERROR,)), "mend what is told below"),
        (replace(CHECKED, intent=Intent.REMOVE), ""),
        (replace(CHECKED, intent=Intent.REMOVE, failure=FAILED), "it takes up what is left"),
        (
            replace(CHECKED, intent=Intent.PLAN, plan=Plan(digest="a" * 64, path="", expires="")),
            "approve it in the environment `production`",
        ),
        (replace(CHECKED, intent=Intent.PLAN), ""),
    ],
)
def test_what_ended_says_what_to_do_about_it(result: Result, words: str) -> None:
    found = seen(result)
    assert words in found.next_step
    assert bool(words) == bool(found.next_step)
    assert found.needs == ()


def test_previews_and_deployments_that_went_well_have_no_outlook() -> None:
    preview = Job(app=ORDERS, stage="pr-1", like="dev")
    for result, job in (
        (CHECKED, preview),
        (replace(CHECKED, intent=Intent.DEPLOY), Job(app=ORDERS, stage="dev", policy=DEV)),
    ):
        same = with_outlook(result, job, base_branch="main", labels=(), passed=True, live=None)
        assert same == result
