"""What a `workflow_run` may tell on a pull request of the run that it is about.

That run may have been a fork's: whatever it left, its code could have written. So nothing of it
says where to tell it; GitHub does, by the commit and the branch that the run was on, for the list
of pull requests in the event is empty for forks.
"""

from __future__ import annotations

from dataclasses import replace

from chalice_ci.context import Context, PullRequest
from chalice_ci.errors import UsageError
from chalice_ci.forge import port
from chalice_ci.forge.port import Forge
from chalice_ci.report.report import Report

CLAIMED = (
    "This is what the pull request's own run reported: its code could have written anything here."
)


def retold(context: Context, forge: Forge | None) -> Context:
    """The context of the pull request that a `workflow_run` is about; any other stays as it is.

    Raises UsageError where nobody can say which one that is: without a token, for another event
    than a pull request's, and when the pull request went on or was closed meanwhile.
    """
    run = context.reported
    if context.event != "workflow_run":
        return context
    if run is None or run.event != "pull_request":
        raise UsageError(
            "this `workflow_run` is not about a pull request's run.",
            where="the workflow's `on:`",
            fix="Let the job run `if: github.event.workflow_run.event == 'pull_request'`.",
        )
    if forge is None:
        raise UsageError(
            "without a token nobody can say which pull request this is about.",
            where="input github-token",
            fix="Give the job `permissions: pull-requests: write` and the action `github-token`.",
        )
    found = [
        pull
        for pull in forge.open_pull_requests()
        if (pull.head_sha, pull.head_ref) == (run.head_sha, run.head_branch)
        and (pull.head_repository or "").casefold() == run.repository.casefold()
    ]
    if len(found) != 1:
        several = ", ".join(f"#{pull.number}" for pull in found)
        raise UsageError(
            f"the commit {run.head_sha[:7]} is the head of several pull requests: {several}."
            if found
            else f"no open pull request has the head {run.head_sha[:7]} any more.",
            where="the event",
            fix="Nothing: it went on or was closed, and its newer run is told."
            if not found
            else "Look at the reports' artifacts; close all but one of them.",
        )
    return replace(context, pull_request=_pull_request(found[0]), commit=run.head_sha, retells=True)


def as_claimed(report: Report, context: Context) -> Report:
    """A report that is told for a run that may have been a stranger's: no more than it may claim.

    A run without credentials deploys nothing, so addresses, plans and records in it are inventions.
    Raises UsageError for a report of another commit.
    """
    if not context.retells:
        return report
    if report.commit != context.commit:
        raise UsageError(
            f"the report is of {report.commit[:12] or 'no commit'}, and the run was on "
            f"{(context.commit or '')[:12]}.",
            where="input reports",
            fix="Download the artifacts of the run that the event names, and no others.",
        )
    if context.trusted:
        return report
    return replace(
        report,
        notes=(CLAIMED, *report.notes),
        results=tuple(
            replace(result, urls=(), plan=None, state=None, account="", resources=())
            for result in report.results
        ),
    )


def _pull_request(pull: port.PullRequest) -> PullRequest:
    return PullRequest(
        number=pull.number,
        head_sha=pull.head_sha,
        base_sha=pull.base_sha,
        head_branch=pull.head_ref,
        base_branch=pull.base_ref,
        fork=pull.from_fork,
        source=pull.head_repository or "",
        labels=pull.labels,
        draft=pull.draft,
        author=pull.author,
    )
