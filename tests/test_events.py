"""Which tasks an event leads to: a table, made from the payloads that GitHub publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from chalice_ci.config import (
    AppConfig,
    DeployOn,
    PreviewConfig,
    ProjectConfig,
    StageConfig,
    StateConfig,
)
from chalice_ci.context import Context
from chalice_ci.errors import UsageError
from chalice_ci.route import Intent, Routed, Wish, refuse_foreign_code, route_event
from chalice_ci.systems.read import read_context
from offline_github import webhooks
from support.events import payload_of, variables

ORDERS = AppConfig(name="orders", path=".")
MAIN, TAGS = DeployOn(branch="main"), DeployOn(tag="v*")
DEV = StageConfig(name="dev", deploy_on=MAIN)
STAGING = StageConfig(name="staging", deploy_on=MAIN, needs="dev")
PROD = StageConfig(name="prod", deploy_on=TAGS, needs="staging")
PLAIN = ProjectConfig(apps=(ORDERS,), stages=(PROD, DEV, STAGING), file="chalice-ci.yml")
CONFIGS = {
    # No chalice-ci.yml; config.json has dev and qa.
    "none": ProjectConfig(apps=(ORDERS,)),
    # dev and staging from main, prod from v*: nothing waits for anybody.
    "plain": PLAIN,
    # prod waits for its environment.
    "gated": replace(PLAIN, stages=(replace(PROD, environment="production"), DEV, STAGING)),
    # staging waits already, and what needs it has to.
    "halfway": replace(
        PLAIN,
        stages=(
            replace(PROD, deploy_on=MAIN),
            DEV,
            replace(STAGING, environment="staging"),
        ),
    ),
    "previews": replace(PLAIN, preview=PreviewConfig(like="dev")),
    "labelled": replace(PLAIN, preview=PreviewConfig(like="dev", label="preview")),
    # Any branch deploys dev.
    "any": replace(
        PLAIN,
        stages=(replace(DEV, deploy_on=DeployOn(branch="*")),),
        preview=PreviewConfig(like="dev"),
    ),
}
KNOWN = {"orders": ("dev", "qa")}
SIGNS = {
    Intent.CHECK: "check",
    Intent.REHEARSE: "rehearse",
    Intent.PLAN: "plan",
    Intent.DEPLOY: "deploy",
    Intent.REMOVE: "down",
}
ALL = "check dev, staging, prod"
WHOSE = (
    *("dependabot, then me", "deleted fork", "merged fork", "fork", "dependabot", "renamed"),
    *("merged", "closed", "own"),
)
EVENTS = (Path(__file__).parents[1] / "docs" / "events.md").read_text(encoding="utf-8")
TABLE = EVENTS.rpartition("| --- | --- | --- | --- | --- |\n")[2].strip().splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE]


def event_of(what: str, circumstances: str) -> tuple[Context, Wish]:
    """The context of a row and the stages that its workflow asks for."""
    words = circumstances
    who = next((known for known in WHOSE if words.startswith(known)), "own")
    words = words.removeprefix(who).lstrip(", ")
    labels: tuple[str, ...] = ()
    if "[" in words:
        words, _, named = words.partition("[")
        labels = tuple(named.rstrip("]").split(", "))
    stages = tuple(word[6:] for word in words.split() if word.startswith("stage="))
    label = next((word[1:] for word in words.split() if word.startswith("+")), None)
    refs = (word for word in words.split() if not word.startswith(("+", "stage=")))
    ref = next(refs, "main")
    event, _, action = what.replace("`", "").partition(" ")
    payload = payload_of(
        event,
        action or None,
        who=who,
        label=label,
        labels=labels,
        ref=ref if ref.startswith("refs/") else f"refs/heads/{ref}",
    )
    return read_context(variables(event, payload), payload), Wish(stages=stages)


def told(routed: Routed) -> str:
    """The tasks as the table writes them."""
    found: dict[str, list[str]] = {}
    for task in routed.tasks:
        up = task.intent is Intent.DEPLOY and task.job.like is not None
        found.setdefault("up" if up else SIGNS[task.intent], []).append(task.job.stage)
    return "; ".join(f"{sign} {', '.join(stages)}" for sign, stages in found.items())


def tried(config: ProjectConfig, context: Context) -> Routed | UsageError:
    """Where it leads, or the error that a user can act on."""
    try:
        return route_event(config, KNOWN, context, Wish())
    except UsageError as error:
        return error


@pytest.mark.parametrize(
    ("what", "circumstances", "config", "tasks", "note"),
    ROWS,
    ids=[f"{row[0]}, {row[1]}, {row[2]}" for row in ROWS],
)
def test_an_event_leads_to_these_tasks(
    what: str, circumstances: str, config: str, tasks: str, note: str
) -> None:
    context, wish = event_of(what, circumstances)
    if tasks == "refused":
        with pytest.raises(UsageError, match=note):
            route_event(CONFIGS[config], KNOWN, context, wish)
        return
    routed = route_event(CONFIGS[config], KNOWN, context, wish)
    assert told(routed) == tasks
    assert note in " ".join(routed.notes)
    if not note and tasks:
        assert routed.notes == ()


def test_the_table_has_no_row_twice() -> None:
    seen = [tuple(row[:3]) for row in ROWS]
    assert len(seen) == len(set(seen)) >= 100


def test_no_untrusted_event_leads_to_aws() -> None:
    """Whatever the configuration: for all rows of the table."""
    kept_from_it = 0
    for what, circumstances, *_ in ROWS:
        context, _ = event_of(what, circumstances)
        if context.trusted:
            continue
        for config in CONFIGS.values():
            routed = tried(config, context)
            if isinstance(routed, UsageError):
                continue
            assert {task.intent for task in routed.tasks} <= {Intent.CHECK, Intent.REHEARSE}
            trusted = route_event(config, KNOWN, replace(context, trusted=True), Wish())
            if {task.intent for task in trusted.tasks} - {Intent.CHECK}:
                kept_from_it += 1
                assert any(context.trust in note for note in routed.notes)
    assert kept_from_it > 40


def test_every_app_gets_its_tasks_in_the_order_in_which_stages_need_each_other() -> None:
    users = AppConfig(name="users", path="users")
    config = replace(CONFIGS["previews"], apps=(ORDERS, users))
    context, wish = event_of("push", "main")
    routed = route_event(config, KNOWN, context, wish)
    names = [(SIGNS[task.intent], task.job.name) for task in routed.tasks]
    assert names == [
        *(("deploy", f"orders/{stage}") for stage in ("dev", "staging")),
        *(("deploy", f"users/{stage}") for stage in ("dev", "staging")),
        ("check", "orders/prod"),
        ("check", "users/prod"),
    ]
    context, wish = event_of("pull_request closed", "merged")
    routed = route_event(config, KNOWN, context, replace(wish, apps=("users",)))
    assert [task.job.name for task in routed.tasks] == ["users/pr-42"]


def test_a_preview_takes_the_settings_of_the_stage_it_is_like() -> None:
    context, wish = event_of("pull_request opened", "own")
    routed = route_event(CONFIGS["previews"], KNOWN, context, wish)
    job = routed.tasks[-1].job
    assert (job.stage, job.like, job.policy) == ("pr-42", "dev", StageConfig(name="pr-42"))


def test_a_deleted_label_takes_its_previews_down() -> None:
    """GitHub sends `unlabeled` without the label when it was deleted from the repository."""
    payload = payload_of("pull_request", "unlabeled", label="preview")
    del payload["label"]
    context = read_context(variables("pull_request", payload), payload)
    routed = route_event(CONFIGS["labelled"], KNOWN, context, Wish())
    assert told(routed) == f"{ALL}; down pr-42"


def test_the_state_branch_is_any_branch_when_the_state_is_elsewhere() -> None:
    context, wish = event_of("push", "chalice-state")
    for state in (StateConfig(store="s3", bucket="b"), StateConfig(branch="other")):
        routed = route_event(replace(CONFIGS["any"], state=state), KNOWN, context, wish)
        assert told(routed) == "deploy dev"


def test_state_in_the_source_branch_does_not_stop_a_branch_of_that_name() -> None:
    context, wish = event_of("push", "source")
    config = replace(CONFIGS["any"], state=StateConfig(branch="source"))
    assert told(route_event(config, KNOWN, context, wish)) == "deploy dev"


def test_without_an_event_everything_is_checked_and_the_way_to_deploy_is_said() -> None:
    routed = route_event(CONFIGS["previews"], KNOWN, Context(branch="main"), Wish())
    assert told(routed) == ALL
    assert "chalice-ci deploy --stage NAME" in routed.notes[0]


def test_an_app_that_nobody_declared_is_refused_on_every_event() -> None:
    for what, circumstances in (("push", "main"), ("pull_request opened", "own")):
        context, _ = event_of(what, circumstances)
        with pytest.raises(UsageError, match="Did you mean 'orders'"):
            route_event(CONFIGS["previews"], KNOWN, context, Wish(apps=("order",)))


@pytest.mark.parametrize(
    ("what", "circumstances", "refused"),
    [
        ("pull_request opened", "fork", False),
        ("pull_request opened", "own", False),
        ("push", "main", False),
        ("pull_request_target opened", "fork", True),
        ("pull_request_target opened", "deleted fork", True),
        ("pull_request_target opened", "renamed", True),
        ("pull_request_target opened", "own", True),
        ("pull_request_target closed", "fork", False),
        ("workflow_run completed", "fork", True),
        ("workflow_run completed", "own", True),
    ],
)
def test_no_verb_loads_code_where_strangers_code_may_meet_our_secrets(
    what: str, circumstances: str, refused: bool
) -> None:
    context, _ = event_of(what, circumstances)
    if not refused:
        refuse_foreign_code(context)
        return
    with pytest.raises(UsageError) as caught:
        refuse_foreign_code(context)
    assert "on: pull_request" in caught.value.fix


PUBLISHED = [
    (event, index)
    for event in (
        *("push", "pull_request", "workflow_dispatch", "release", "merge_group", "workflow_run"),
        *("create", "delete", "issues", "issue_comment", "check_run", "deployment", "label"),
    )
    for index in range(len(webhooks.payloads(event)))
]


@pytest.mark.parametrize(("event", "index"), PUBLISHED)
def test_every_published_payload_is_read_and_routed_or_refused(event: str, index: int) -> None:
    payload: Mapping[str, object] = webhooks.payloads(event)[index]
    context = read_context(variables(event, dict(payload)), payload)
    assert context.repository
    assert context.default_branch
    for config in CONFIGS.values():
        routed = tried(config, context)
        if isinstance(routed, UsageError):
            assert routed.fix
        else:
            assert routed.tasks or routed.notes
