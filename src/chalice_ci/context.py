"""What happened, in the same words for every CI system: the model. Pure.

`systems/` makes it, one module for each system; whoever decides something reads it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEPENDABOT = "dependabot[bot]"


class System(StrEnum):
    """Where we run."""

    GITHUB = "github"
    GITLAB = "gitlab"
    CIRCLECI = "circleci"
    JENKINS = "jenkins"
    BITBUCKET = "bitbucket"
    AZURE = "azure"
    CODEBUILD = "codebuild"
    BUILDKITE = "buildkite"
    OTHER = "other"
    """Another CI system: what happened is known as far as somebody tells (`systems/told.py`)."""
    LOCAL = "local"


@dataclass(frozen=True, kw_only=True, order=True)
class RunOrder:
    """Which of two runs is the newer one.

    `id` grows with every run of a repository, `attempt` with every re-run: running an old run again
    makes a new attempt of it, which is still older than a newer run.
    """

    id: int
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """A pull request as it was when the event happened.

    `fork` is true when the head's repository is not the base's, also when it was deleted since;
    `source` is the head's repository, empty when it is gone. `dependabot` says who wrote it.
    Where a system does not tell whether the head is a fork's, `fork` is true; what else it does not
    tell is empty (`base_sha`, `head_branch`); `labels_told` is false where that goes for labels.
    """

    number: int
    head_sha: str
    base_sha: str
    head_branch: str
    base_branch: str
    fork: bool
    source: str = ""
    labels: tuple[str, ...] = ()
    labels_told: bool = True
    open: bool = True
    merged: bool = False
    draft: bool = False
    author: str = ""

    @property
    def dependabot(self) -> bool:
        """Whether Dependabot wrote it."""
        return self.author == DEPENDABOT


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Where below a repository's address a system shows its runs, commits and files.

    `whole` is what a run's page is called, where the rest of a report that was cut stands.
    """

    runs: str
    commits: str
    files: str
    whole: str


GITHUB_PAGES = Pages(runs="actions/runs", commits="commit", files="blob", whole="the step summary")
_GITLAB_PAGES = Pages(
    runs="-/pipelines", commits="-/commit", files="-/blob", whole="the job's artifacts"
)
_OTHER_PAGES = Pages(runs="", commits="", files="", whole="the run's files")


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """The run that a `workflow_run` is about: what GitHub says it ran on.

    `repository` is the head's, "owner/name", empty when it is gone. `event` is what started it.
    """

    head_sha: str
    head_branch: str
    repository: str = ""
    event: str = ""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What happened, to which ref, and whether it is trusted.

    `event` and `action` are GitHub's names whatever the system, empty without an event: a merge
    request of GitLab is a `pull_request`. `commit` is the commit that the
    event is about: a pull request's head, not the merge commit that GitHub makes of it. `branch`
    and `tag` are set for what happens to a branch or a tag, never for a pull request. `deleted`
    says that the ref is gone; `label` is the one that was just added or removed.

    Without trust there is no credential and no step in AWS; `trust` is the reason in words.
    `superseded` says why a pull request's preview is not this run's any more, empty when it is.
    `reported` is the run that a `workflow_run` is about; `retells` says that this run only tells on
    a pull request what that one reported.
    """

    system: System = System.LOCAL
    event: str = ""
    action: str = ""
    repository: str = ""
    default_branch: str | None = None
    commit: str | None = None
    branch: str | None = None
    tag: str | None = None
    deleted: bool = False
    label: str | None = None
    pull_request: PullRequest | None = None
    actor: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    """The inputs of a `workflow_dispatch`."""
    run: RunOrder | None = None
    run_key: str = ""
    """What the system calls the run that several jobs are of; empty where `run` says that."""
    attempts_told: bool = True
    """Whether a run that was started again can be told from the first one by `run.attempt`."""
    environment: str = ""
    """The environment that the system runs this job in, where it shows the deployment itself."""
    page: str = ""
    """The run's address where the system tells it."""
    run_number: int | None = None
    server_url: str = ""
    api_url: str = ""
    trusted: bool = True
    trust: str = ""
    superseded: str = ""
    reported: ReportedRun | None = None
    retells: bool = False

    @property
    def may_tell(self) -> bool:
        """Whether the forge may be told anything in this run's name."""
        return self.trusted or self.retells

    @property
    def repository_url(self) -> str:
        """The repository's address, empty when it is not known."""
        known = self.server_url and self.repository
        return f"{self.server_url}/{self.repository}" if known else ""

    @property
    def pages(self) -> Pages:
        """Where pages are below `repository_url`, which is known on GitHub and GitLab alone."""
        match self.system:
            case System.GITHUB | System.LOCAL:
                return GITHUB_PAGES
            case System.GITLAB:
                return _GITLAB_PAGES
        return _OTHER_PAGES

    @property
    def run_url(self) -> str:
        """The address of the run, where its log and summary are; empty when it is not known."""
        if self.page:
            return self.page
        known = self.repository_url and self.run
        return (
            f"{self.repository_url}/{self.pages.runs}/{self.run.id}" if known and self.run else ""
        )
