"""An event cut into the jobs of a CI matrix."""

from __future__ import annotations

import json

import pytest

from chalice_ci.config import AppConfig, StageConfig
from chalice_ci.errors import UsageError
from chalice_ci.matrix import LIMIT, Part, parts, read_share, render, shared
from chalice_ci.report.report import Intent
from chalice_ci.route import Job, Task

DEV, STAGING = StageConfig(name="dev"), StageConfig(name="staging", needs="dev")
PROD = StageConfig(name="prod", needs="staging")


def task(app: str, stage: StageConfig, intent: Intent = Intent.DEPLOY) -> Task:
    job = Job(app=AppConfig(name=app, path=app), stage=stage.name, policy=stage)
    return Task(intent=intent, job=job)


def told(found: tuple[Part, ...]) -> list[str]:
    return [f"{'+'.join(p.apps)}: {'+'.join(p.stages)} {'+'.join(p.intents)}" for p in found]


def test_a_part_is_an_app_in_a_stage() -> None:
    qa = StageConfig(name="qa")
    tasks = [task("orders", DEV), task("orders", qa), task("users", DEV)]
    assert told(parts(tasks)) == ["orders: dev deploy", "orders: qa deploy", "users: dev deploy"]


def test_stages_that_need_each_other_stay_together_in_order() -> None:
    tasks = [task("orders", DEV), task("orders", STAGING), task("orders", PROD)]
    assert told(parts(tasks)) == ["orders: dev+staging+prod deploy+deploy+deploy"]


def test_a_stage_that_is_only_checked_waits_for_nobody() -> None:
    tasks = [task("orders", DEV), task("orders", STAGING, Intent.CHECK)]
    assert told(parts(tasks)) == ["orders: dev deploy", "orders: staging check"]


def test_an_app_can_have_all_its_stages_in_one_job() -> None:
    tasks = [task("orders", DEV), task("users", DEV), task("orders", STAGING, Intent.CHECK)]
    assert told(parts(tasks, by_app=True)) == [
        "orders: dev+staging deploy+check",
        "users: dev deploy",
    ]


@pytest.mark.parametrize(("apps", "jobs"), [(256, 256), (257, 129), (600, 200), (2000, 250)])
def test_more_parts_than_a_matrix_takes_share_jobs(apps: int, jobs: int) -> None:
    tasks = [task(f"app{number}", DEV) for number in range(apps)]
    found = parts(tasks)
    assert len(found) == jobs <= LIMIT
    assert sorted(pair for part in found for pair in part.pairs()) == sorted(
        (f"app{number}", "dev") for number in range(apps)
    )


def test_only_apps_that_want_the_same_share_a_job() -> None:
    tasks = [task(f"a{n}", DEV) for n in range(4)] + [task(f"b{n}", STAGING) for n in range(4)]
    assert told(parts(tasks, limit=4)) == [
        *("a0+a1: dev deploy", "a2+a3: dev deploy"),
        *("b0+b1: staging deploy", "b2+b3: staging deploy"),
    ]


def test_the_json_is_what_a_workflow_reads() -> None:
    tasks = [task("orders", DEV), task("orders", STAGING), task("users", DEV)]
    assert json.loads(render(parts(tasks))) == {
        "include": [
            {
                "id": "1",
                "name": "orders · dev, staging",
                "app": "orders",
                "stage": "dev\nstaging",
                "intent": "deploy\ndeploy",
            },
            {"id": "2", "name": "users · dev", "app": "users", "stage": "dev", "intent": "deploy"},
        ]
    }
    assert render(()) == '{"include": []}'
    assert "\n" not in render(parts(tasks))


@pytest.mark.parametrize("jobs", [1, 2, 3, 7])
@pytest.mark.parametrize("by_app", [False, True])
def test_equal_jobs_share_every_task_and_do_none_twice(jobs: int, by_app: bool) -> None:
    tasks = [task(f"app{n}", stage) for n in range(5) for stage in (DEV, STAGING, PROD)]
    tasks += [task("check", DEV, Intent.CHECK)]
    shares = [shared(tasks, (k, jobs), by_app=by_app) for k in range(1, jobs + 1)]
    done = [one for share in shares for one in share]
    assert sorted(done, key=tasks.index) == tasks
    # Stages that need each other are in one job, in order.
    for share in shares:
        assert list(share) == sorted(share, key=tasks.index)
        for app in {one.job.app.name for one in share} - {"check"}:
            assert sum(one.job.app.name == app for one in share) == 3


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "-1/2", "²/4", "1/2\n"])
def test_what_is_no_share_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UsageError, match="2/4") as caught:
        read_share(text, where="option --share")
    assert "option --share" in str(caught.value)


def test_a_share_counts_from_one_and_may_be_left_out() -> None:
    assert read_share("2/4", where="") == (2, 4)
    assert read_share("", where="") is None
