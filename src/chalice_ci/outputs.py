"""Every output of the action, declared once: action.yml and the documentation are made from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output, empty where it does not apply. Paths are relative to the workspace."""

    name: str
    summary: str


OUTPUTS: tuple[Output, ...] = (
    Output(
        name="result",
        summary="The verdict of the run: the gravest of its apps and stages.",
    ),
    Output(
        name="failure-reason",
        summary="Why the step failed: the name of its exit code; empty when it did not fail.",
    ),
    Output(name="url", summary="The first URL of what was deployed."),
    Output(name="urls", summary='All URLs as JSON: {"app/stage": ["https://…"]}.'),
    Output(name="stages", summary='What was acted on, as a JSON list of "app/stage".'),
    Output(name="changed", summary="Whether anything in AWS was changed: true or false."),
    Output(
        name="plan",
        summary="The sealed plans, one per line: a path, or `store:…` where `plan-store` kept it.",
    ),
    Output(name="plan-digest", summary="The digests of the plans, in the same order."),
    Output(name="matrix", summary="What `command: matrix` printed, for `fromJSON`."),
    Output(name="matrix-size", summary="How many jobs that matrix has: 0 when nothing is to do."),
    Output(name="report", summary="The report as JSON, a path."),
    Output(name="comment-url", summary="The comment on the pull request."),
    Output(name="state-commit", summary="The last commit that recorded a state."),
)


def markdown_table() -> str:
    """The table in docs/image.md."""
    rows = ["| Output | Meaning |", "| --- | --- |"]
    rows += [f"| `{item.name}` | {item.summary} |" for item in OUTPUTS]
    return "\n".join(rows) + "\n"
