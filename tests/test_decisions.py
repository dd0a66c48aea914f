"""Every event with every configuration: what follows, as a table that a person can read.

`tests/golden/decisions.md` is written by `python tests/test_decisions.py` and read by people when
it changes. What must hold for all of it is stated here without looking at that file; single rows
that somebody wrote by hand are those of docs/events.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import pytest

from chalice_ci.config import AppConfig
from chalice_ci.context import Context
from chalice_ci.errors import UsageError
from chalice_ci.route import Intent, Routed, Wish, route_event
from chalice_ci.systems.read import read_context
from support.decided import decided
from support.events import payload_of, variables
from test_events import CONFIGS, KNOWN, ORDERS, told

GOLDEN = Path(__file__).parent / "golden" / "decisions.md"
# What another app left: it is recorded, and not configured (any more).
FORMER = AppConfig(name="former", path="former")

PULL_ACTIONS = (
    *("opened", "synchronize", "reopened", "ready_for_review", "converted_to_draft"),
    *("labeled +preview", "labeled +bug", "unlabeled +preview", "unlabeled +bug", "closed"),
)
PULL_CONFIGS = ("none", "plain", "previews", "labelled")
HEADS = ("own", "renamed", "fork", "deleted fork", "dependabot")
REFS = (
    *("refs/heads/main", "refs/heads/change", "refs/heads/chalice-state"),
    *("refs/tags/v1.2", "refs/tags/nightly"),
)
RELEASES = ("published", "released", "prereleased", "created", "edited", "deleted")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A combination and what it leads to."""

    event: str
    action: str
    source: str
    labels: tuple[str, ...]
    config: str
    record: bool
    context: Context
    outcome: Routed | UsageError

    @property
    def cells(self) -> tuple[str, ...]:
        if isinstance(self.outcome, UsageError):
            tasks, said = "**refused**", self.outcome.what
        else:
            tasks, said = told(self.outcome) or "nothing", " ".join(self.outcome.notes)
        labels = ", ".join(self.labels)
        record = "stands" if self.record else ""
        return (self.action, self.source, labels, self.config, record, tasks, _brief(said))


def _brief(said: str) -> str:
    """The first sentence, as far as it goes on a line."""
    sentence = said.partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= 90 else f"{sentence[:87]}..."


def _row(
    event: str,
    action: str,
    source: str,
    config: str,
    *,
    labels: tuple[str, ...] = (),
    record: bool = False,
    who: str = "own",
    ref: str = "refs/heads/main",
) -> Row:
    context = _context(event, action, who, labels, ref)
    standing = (ORDERS, FORMER) if record else ()
    try:
        outcome: Routed | UsageError = route_event(
            CONFIGS[config], KNOWN, context, Wish(), standing=standing
        )
    except UsageError as error:
        outcome = error
    return Row(
        event=event,
        action=action,
        source=source,
        labels=labels,
        config=config,
        record=record,
        context=context,
        outcome=outcome,
    )


@cache
def _context(event: str, action: str, who: str, labels: tuple[str, ...], ref: str) -> Context:
    name, _, label = action.partition(" +")
    payload = payload_of(event, name or None, who=who, label=label or None, labels=labels, ref=ref)
    return read_context(variables(event, payload), payload)


def rows() -> Iterator[Row]:
    """Every combination, in the order of the file."""
    for action in PULL_ACTIONS:
        for who in HEADS:
            for labels in ((), ("preview",)):
                for config in PULL_CONFIGS:
                    # GitHub sends the label that was added among the others, the removed not.
                    if (action == "labeled +preview") > bool(labels):
                        continue
                    if action == "unlabeled +preview" and labels:
                        continue
                    for record in (False, True):
                        if record and (who in ("deleted fork", "renamed") or config == "plain"):
                            continue
                        yield _row(
                            "pull_request", action, who, config,
                            labels=labels, record=record, who=who,
                        )  # fmt: skip
    for action in ("opened", "labeled +preview", "closed"):
        for who in ("own", "fork", "deleted fork"):
            for config in ("plain", "previews"):
                yield _row("pull_request_target", action, who, config, who=who)
    for action, who in (("completed", "own"), ("completed", "fork")):
        for config in ("plain", "previews"):
            yield _row("workflow_run", action, who, config, who=who)
    for event in ("push", "workflow_dispatch"):
        for ref in REFS:
            for who in ("own", "dependabot"):
                for config in CONFIGS:
                    source = f"{ref.removeprefix('refs/')}{'' if who == 'own' else ', ' + who}"
                    yield _row(event, "", source, config, who=who, ref=ref)
    for ref in ("refs/heads/change", "refs/tags/v1.2"):
        for config in ("plain", "any"):
            yield _row("push", "deleted", ref.removeprefix("refs/"), config, ref=ref)
    for action in RELEASES:
        for ref in ("refs/tags/v1.2", "refs/tags/nightly"):
            for config in ("plain", "gated", "halfway"):
                yield _row("release", action, ref.removeprefix("refs/"), config, ref=ref)
    for event, action in (("merge_group", "checks_requested"), ("schedule", "")):
        for config in CONFIGS:
            yield _row(event, action, "main", config)
    for event, action in (("issues", "opened"), ("create", ""), ("delete", "")):
        yield _row(event, action, "", "plain")


HEAD = ("Action", "From", "Labels", "Configuration", "A preview", "Tasks", "What is said")


def rendered(table: list[Row]) -> str:
    """The golden file."""
    lines = [
        "# Decisions",
        "",
        f"What `run` does: {len(table)} combinations. Written by `python tests/test_decisions.py`; "
        "docs/events.md explains them.",
        "With `a preview stands` two apps have one on record: the configured one, and `former`.",
    ]
    event = ""
    for row in table:
        if row.event != event:
            event = row.event
            lines += ["", f"## {event}", "", _line(HEAD), _line(("---",) * len(HEAD))]
        lines.append(_line(row.cells))
    return "\n".join([*lines, ""])


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


TABLE = list(rows()) if __name__ != "__main__" else []


def intents(row: Row) -> set[Intent]:
    return set() if isinstance(row.outcome, UsageError) else {t.intent for t in row.outcome.tasks}


def test_every_decision_is_the_one_that_was_read() -> None:
    assert GOLDEN.read_text(encoding="utf-8") == rendered(TABLE), (
        "Write it anew with `python tests/test_decisions.py`, and read what changed."
    )


@pytest.mark.parametrize("event", sorted({row.event for row in TABLE}))
def test_every_decision_follows_from_the_rules_without_asking_the_product(event: str) -> None:
    rows_of_event = [row for row in TABLE if row.event == event]
    expected = {
        row.cells[:5]: decided(
            event, row.action, row.source, row.labels, row.config, record=row.record
        )
        for row in rows_of_event
    }
    assert {row.cells[:5]: row.cells[5] for row in rows_of_event} == expected


def test_there_are_at_least_four_hundred_and_no_two_are_the_same() -> None:
    seen = {(row.event, *row.cells[:5]) for row in TABLE}
    assert len(seen) == len(TABLE) >= 400


def test_whoever_is_not_trusted_reaches_no_account() -> None:
    untrusted = [row for row in TABLE if not row.context.trusted]
    assert len(untrusted) > 150
    for row in untrusted:
        assert intents(row) <= {Intent.CHECK, Intent.REHEARSE}, row.cells


def test_only_who_is_not_trusted_is_rehearsed_and_once_for_each_app() -> None:
    for row in TABLE:
        if Intent.REHEARSE in intents(row):
            assert isinstance(row.outcome, Routed)
            rehearsed = [t for t in row.outcome.tasks if t.intent is Intent.REHEARSE]
            assert len(rehearsed) == 1
            assert not row.context.trusted
            assert row.event == "pull_request"


def test_a_closed_pull_request_loses_its_preview_and_gets_nothing() -> None:
    for row in TABLE:
        if row.action != "closed":
            continue
        assert intents(row) <= {Intent.REMOVE}, row.cells
        if row.context.trusted and row.record:
            assert isinstance(row.outcome, Routed)
            assert {task.job.app.name for task in row.outcome.tasks} == {"orders", "former"}


def test_a_preview_comes_up_exactly_for_an_open_and_labelled_pull_request_of_our_own() -> None:
    for row in TABLE:
        if row.event != "pull_request":
            continue
        wants = row.config == "previews" or (row.config == "labelled" and "preview" in row.labels)
        up = row.context.trusted and row.action != "closed" and wants
        assert (Intent.DEPLOY in intents(row)) is up, row.cells


def test_what_stands_without_being_wanted_goes_when_the_label_is_missing() -> None:
    for row in TABLE:
        lacks = row.config == "labelled" and not row.labels and row.context.trusted
        if row.event == "pull_request" and row.record and lacks:
            assert Intent.REMOVE in intents(row), row.cells


def test_a_stage_with_an_environment_is_never_deployed_by_an_event() -> None:
    gates = {"gated": {"prod"}, "halfway": {"staging", "prod"}}
    planned = 0
    for row in TABLE:
        if isinstance(row.outcome, UsageError):
            continue
        for task in row.outcome.tasks:
            if task.job.stage in gates.get(row.config, ()) and task.job.like is None:
                assert task.intent is not Intent.DEPLOY, row.cells
                planned += task.intent is Intent.PLAN
    assert planned >= 8


def test_code_of_others_is_refused_where_our_secrets_are() -> None:
    for row in TABLE:
        if row.event == "workflow_run" or (
            row.event == "pull_request_target" and row.action != "closed"
        ):
            assert isinstance(row.outcome, UsageError), row.cells
            assert "on: pull_request" in row.outcome.fix


def test_whatever_does_nothing_or_is_refused_says_why() -> None:
    for row in TABLE:
        if isinstance(row.outcome, UsageError):
            assert row.outcome.fix
        elif not row.outcome.tasks:
            assert row.outcome.notes, row.cells


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(rendered(list(rows())), encoding="utf-8")
