"""A run that is late looks at the pull request as it is now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chalice_ci.config import AppConfig, PreviewConfig, ProjectConfig
from chalice_ci.context import Context, PullRequest, RunOrder, System
from chalice_ci.errors import ForgeError
from chalice_ci.forge import port
from chalice_ci.forge.local import LocalForge
from chalice_ci.present import at_present
from chalice_ci.report.report import Intent
from chalice_ci.route import Wish, route_event

HEAD, BASE, NEWER = "a" * 40, "b" * 40, "c" * 40
CONFIG = ProjectConfig(
    apps=(AppConfig(name="orders", path="."),), preview=PreviewConfig(like="dev", label="up")
)


class Refusing(LocalForge):
    """A forge whose pull requests can't be read."""

    def pull_request(self, number: int) -> port.PullRequest:
        raise port.NotPermitted("no.", fix="permissions:\n  pull-requests: read")


@pytest.fixture
def forge(tmp_path: Path) -> LocalForge:
    made = LocalForge(tmp_path / "forge")
    made.create_pull_request(head_ref="f", head_sha=HEAD, base_sha=BASE, labels=("up",))
    return made


def event(action: str, *, attempt: int = 1, labels: tuple[str, ...] = ("up",)) -> Context:
    return Context(
        system=System.GITHUB,
        event="pull_request",
        action=action,
        run=RunOrder(id=7, attempt=attempt),
        commit=HEAD,
        pull_request=PullRequest(
            number=1,
            head_sha=HEAD,
            base_sha=BASE,
            head_branch="f",
            base_branch="main",
            fork=False,
            labels=labels,
            open=action != "closed",
        ),
    )


def tasks(context: Context) -> list[str]:
    """What follows from the event: intents of pr-1, "check" once for all checks."""
    routed = route_event(CONFIG, {"orders": ("dev",)}, context, Wish())
    return sorted({task.intent.value for task in routed.tasks})


@pytest.mark.parametrize(
    ("action", "now", "first", "again"),
    [
        ("opened", {}, ["check", "deploy"], ["check", "deploy"]),
        ("synchronize", {}, ["check", "deploy"], ["check", "deploy"]),
        # Closed since: a run that waited too long takes down what it would have brought up.
        ("opened", {"is_open": False}, ["remove"], ["remove"]),
        ("synchronize", {"is_open": False}, ["remove"], ["remove"]),
        ("closed", {"is_open": False}, ["remove"], ["remove"]),
        # A first run's event may be newer than what the forge answers; a re-run's is not.
        ("closed", {}, ["remove"], []),
        ("synchronize", {"head_sha": NEWER}, ["check", "deploy"], ["check"]),
        ("synchronize", {"labels": ()}, ["check", "deploy"], ["check"]),
    ],
)
def test_what_a_run_does_once_and_again(
    forge: LocalForge,
    action: str,
    now: dict[str, object],
    first: list[str],
    again: list[str],
) -> None:
    forge.update_pull_request(1, **now)  # type: ignore[arg-type]
    assert tasks(at_present(event(action), forge)) == first
    assert tasks(at_present(event(action, attempt=2), forge)) == again


def test_a_label_that_came_back_since_keeps_the_preview(forge: LocalForge) -> None:
    taken = replace(event("unlabeled", attempt=2, labels=()), label="up")
    assert tasks(taken) == ["check", "remove"]
    assert tasks(at_present(taken, forge)) == ["check", "deploy"]


def test_labels_that_the_system_does_not_tell_are_the_forges(
    forge: LocalForge, tmp_path: Path
) -> None:
    """Azure Pipelines, which tells whether a run is a second attempt.

    Where the forge does not tell them either, a preview that stands is left alone.
    """
    silent = event("", labels=())
    assert silent.pull_request is not None
    untold = replace(silent, pull_request=replace(silent.pull_request, labels_told=False))
    # The event is newer than what the forge answers.
    forge.update_pull_request(1, head_sha=NEWER)
    now = at_present(untold, forge)
    assert now.pull_request is not None
    assert (now.pull_request.labels, now.pull_request.head_sha) == (("up",), HEAD)
    assert tasks(now) == ["check", "deploy"]
    assert tasks(at_present(silent, forge)) == ["check"]
    for refusing in (None, Refusing(tmp_path / "refusing")):
        unknown = at_present(untold, refusing)
        routed = route_event(CONFIG, {"orders": ("dev",)}, unknown, Wish(), standing=CONFIG.apps)
        assert [task.intent for task in routed.tasks] == [Intent.CHECK]
        assert "nobody tells" in routed.notes[0]


@pytest.mark.parametrize("action", ["opened", "synchronize", "closed"])
def test_a_rerun_that_cannot_ask_leaves_the_preview_alone_and_says_why(
    tmp_path: Path, action: str
) -> None:
    for forge in (None, Refusing(tmp_path / "refusing")):
        context = at_present(event(action, attempt=2), forge)
        assert set(tasks(context)) <= {"check"}
        routed = route_event(CONFIG, {"orders": ("dev",)}, context, Wish())
        assert "left alone" in " ".join(routed.notes)
    assert "pull-requests: read" in context.superseded


def test_a_first_run_that_cannot_ask_follows_its_event(tmp_path: Path) -> None:
    for forge in (None, Refusing(tmp_path / "refusing")):
        assert at_present(event("opened"), forge) == event("opened")


def test_what_is_not_trusted_and_what_has_no_pull_request_asks_nobody(tmp_path: Path) -> None:
    forge = Refusing(tmp_path / "refusing")
    fork = replace(event("opened", attempt=2), trusted=False, trust="a fork")
    assert at_present(fork, forge) == fork
    push = Context(system=System.GITHUB, event="push", run=RunOrder(id=1, attempt=3))
    assert at_present(push, forge) == push
    with pytest.raises(ForgeError):
        forge.pull_request(1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ["check", "deploy"]),
        ({"is_open": False}, ["remove"]),
        ({"head_sha": NEWER}, ["check"]),
        ({"labels": ()}, ["check"]),
    ],
)
def test_where_a_rerun_cannot_be_told_the_forge_is_believed(
    forge: LocalForge, change: dict[str, object], expected: list[str]
) -> None:
    context = replace(event(""), system=System.GITLAB, attempts_told=False)
    forge.update_pull_request(1, **change)  # type: ignore[arg-type]
    assert tasks(at_present(context, forge)) == expected


def test_where_a_rerun_cannot_be_told_a_silent_forge_changes_nothing(tmp_path: Path) -> None:
    context = replace(event(""), system=System.GITLAB, attempts_told=False)
    assert at_present(context, None) == context
    assert at_present(context, Refusing(tmp_path / "forge")) == context


def test_a_stopped_environment_is_taken_down_though_the_request_is_open(
    forge: LocalForge,
) -> None:
    context = replace(event("closed"), system=System.GITLAB, attempts_told=False)
    assert tasks(at_present(context, forge)) == ["remove"]
