"""Which jobs follow from the configuration and what was asked for."""

from __future__ import annotations

import pytest

from chalice_ci.config import (
    AppConfig,
    DeployOn,
    PreviewConfig,
    ProjectConfig,
    SmokeCheck,
    StageConfig,
)
from chalice_ci.errors import UsageError
from chalice_ci.route import Wish, all_jobs, deploy_jobs, named_jobs

ORDERS = AppConfig(name="orders", path="services/orders")
USERS = AppConfig(name="users", path="services/users")
STAGES = (
    StageConfig(name="prod", deploy_on=DeployOn(tag="v*"), needs="staging"),
    StageConfig(name="dev", deploy_on=DeployOn(branch="main")),
    StageConfig(name="staging", deploy_on=DeployOn(branch="main"), needs="dev"),
)
CONFIG = ProjectConfig(apps=(ORDERS, USERS), stages=STAGES, preview=PreviewConfig(like="dev"))
BARE = ProjectConfig(apps=(ORDERS,))
KNOWN = {"orders": ("dev", "qa"), "users": ("dev",)}


def names(jobs):
    return [job.name for job in jobs]


def test_check_looks_at_every_configured_stage_of_every_app():
    assert names(all_jobs(CONFIG, KNOWN, Wish())) == [
        *("orders/dev", "orders/staging", "orders/prod"),
        *("users/dev", "users/staging", "users/prod"),
    ]


def test_without_a_configuration_the_stages_are_those_of_config_json():
    assert names(all_jobs(BARE, KNOWN, Wish())) == ["orders/dev", "orders/qa"]


def test_without_any_stage_there_is_dev_as_in_chalice():
    assert names(all_jobs(BARE, {}, Wish())) == ["orders/dev"]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(branch="main"), ["dev", "staging"]),
        (Wish(tag="v1.2"), ["prod"]),
        (Wish(tag="v1.2", branch="main"), ["prod"]),
        (Wish(branch="feature", stages=("staging", "dev")), ["dev", "staging"]),
    ],
)
def test_a_ref_deploys_the_stages_configured_for_it_and_those_that_are_needed_first(wish, expected):
    found = [job.stage for job in deploy_jobs(CONFIG, KNOWN, wish) if job.app is ORDERS]
    assert found == expected


@pytest.mark.parametrize("wish", [Wish(branch="feature"), Wish(tag="nightly"), Wish()])
def test_a_ref_that_deploys_nothing_is_said_with_the_stages_there_are(wish):
    with pytest.raises(UsageError) as caught:
        deploy_jobs(CONFIG, KNOWN, wish)
    assert "prod, dev, staging" in caught.value.fix


def test_without_a_configuration_dev_is_deployed_from_the_default_branch():
    wish = Wish(branch="trunk", default_branch="trunk")
    assert names(deploy_jobs(BARE, KNOWN, wish)) == ["orders/dev"]
    with pytest.raises(UsageError):
        deploy_jobs(BARE, KNOWN, Wish(branch="feature", default_branch="trunk"))


def test_only_apps_within_the_project_directory_are_meant():
    assert {j.app.name for j in all_jobs(CONFIG, KNOWN, Wish(within="services"))} == {
        "orders",
        "users",
    }
    assert {j.app.name for j in all_jobs(CONFIG, KNOWN, Wish(within="services/users"))} == {"users"}
    with pytest.raises(UsageError, match="no Chalice app here"):
        all_jobs(CONFIG, KNOWN, Wish(within="service"))


def test_a_mistyped_app_gets_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean 'orders'"):
        all_jobs(CONFIG, KNOWN, Wish(apps=("order",)))


def test_a_mistyped_stage_is_not_created():
    with pytest.raises(UsageError, match=r"Did you mean 'staging'.*whole new set of resources"):
        deploy_jobs(CONFIG, KNOWN, Wish(stages=("stagign",)))


def test_a_stage_of_config_json_alone_can_be_asked_for():
    (job,) = all_jobs(CONFIG, KNOWN, Wish(apps=("orders",), stages=("qa",)))
    assert job.policy is None


def test_a_preview_takes_the_settings_of_the_stage_it_is_like():
    (job,) = deploy_jobs(CONFIG, KNOWN, Wish(apps=("orders",), stages=("pr-7",)))
    assert (job.stage, job.like, job.policy) == ("pr-7", "dev", StageConfig(name="pr-7"))


def test_a_preview_needs_to_be_configured():
    with pytest.raises(UsageError, match="no previews are configured"):
        all_jobs(BARE, KNOWN, Wish(stages=("pr-7",)))


def test_what_works_from_the_record_takes_any_stage_by_name():
    assert names(named_jobs(CONFIG, Wish(apps=("orders",), stages=("gone",)))) == ["orders/gone"]
    with pytest.raises(UsageError, match="has to be named"):
        named_jobs(CONFIG, Wish())


def test_a_preview_lives_where_its_model_does_and_waits_for_nobody():
    smoke = (SmokeCheck(path="/health"),)
    model = StageConfig(
        name="qa",
        deploy_on=DeployOn(branch="main"),
        needs="dev",
        environment="qa",
        account="123456789012",
        region="eu-west-1",
        smoke=smoke,
    )
    config = ProjectConfig(
        apps=(AppConfig(name="orders", path="."),),
        stages=(StageConfig(name="dev"), model),
        preview=PreviewConfig(like="qa"),
    )
    wanted = StageConfig(name="pr-7", account="123456789012", region="eu-west-1", smoke=smoke)
    wish = Wish(stages=("pr-7",))
    (up,) = deploy_jobs(config, {"orders": ("dev", "qa")}, wish)
    assert (up.policy, up.like) == (wanted, "qa")
    (down,) = named_jobs(config, wish)
    assert down.policy == wanted


def test_an_app_may_be_deployed_by_a_ref_of_its_own():
    own = AppConfig(
        name="orders",
        path="services/orders",
        deploy_on=(("prod", DeployOn(tag="orders-v*")), ("dev", DeployOn(branch="trunk"))),
    )
    config = ProjectConfig(apps=(own, USERS), stages=STAGES)
    assert names(deploy_jobs(config, KNOWN, Wish(tag="orders-v1"))) == ["orders/prod"]
    assert names(deploy_jobs(config, KNOWN, Wish(tag="v1"))) == ["users/prod"]
    assert names(deploy_jobs(config, KNOWN, Wish(branch="main"))) == [
        *("orders/staging", "users/dev", "users/staging"),
    ]
    with pytest.raises(UsageError):
        deploy_jobs(config, KNOWN, Wish(tag="other"))
