"""Where a forge keeps what protects a repository, and what to do there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guide:
    """Where a forge keeps its settings, and what to do there, with `{name}` for what it is about.

    The `hidden_` ones end a note on what this token is not shown.
    """

    missing_environment: str
    reviewers: str
    self_review: str
    any_branch: str
    hidden_environment: str
    review: str
    rewritable: str
    rewritable_state: str
    hidden_branch: str
    hidden_review: str
    jobs_write: str
    jobs: str


GITHUB = Guide(
    missing_environment="Make it: Settings → Environments → {name}, with required reviewers. "
    "GitHub makes one without any protection when a job names it first.",
    reviewers="Settings → Environments → {name}: tick `Required reviewers` and name "
    "people or a team.",
    self_review="Settings → Environments → {name}: tick `Prevent self-review`.",
    any_branch="Settings → Environments → {name}: set `Deployment branches and tags` to what "
    "deploys the stage.",
    hidden_environment="who has to approve is not shown to this token.",
    review="Settings → Rules → Rulesets: for {name} require a pull request with at least one "
    "approval.",
    rewritable="Settings → Rules → Rulesets: for {name} restrict deletions and block force pushes.",
    rewritable_state="Settings → Rules → Rulesets: for {name} restrict deletions and block force "
    "pushes. Don't require pull requests there: deployments write to it.",
    hidden_branch="how, only a token with `administration: read` is shown.",
    hidden_review="whether a change needs an approval is not shown to this token.",
    jobs_write="the token of every job may write, unless its workflow says otherwise.",
    jobs="Settings → Actions → General → Workflow permissions: read repository contents.",
)
_ENVIRONMENTS = "Settings → CI/CD → Protected environments"
_BRANCHES = "Settings → Repository → Protected branches"
GITLAB = Guide(
    missing_environment=f"{_ENVIRONMENTS}: protect {{name}} (GitLab Premium). A job that names it "
    "first makes it without any protection.",
    reviewers=f"{_ENVIRONMENTS}: protect {{name}} with those who may deploy, not all Developers, "
    "and with approvers (GitLab Premium).",
    self_review=f"{_ENVIRONMENTS} → {{name}}: add approvers, and leave `Allow pipeline triggerer "
    "to approve deployment` off.",
    any_branch=f"{_ENVIRONMENTS} → {{name}}: name those who may deploy.",
    hidden_environment="whether a group above protects it, only an Owner of the group is shown.",
    review=f"{_BRANCHES} → {{name}}: let no one push; Settings → Merge requests → Approval rules: "
    "require an approval that is not the author's (GitLab Premium).",
    rewritable=f"{_BRANCHES}: protect {{name}}, without `Allowed to force push`.",
    rewritable_state=f"{_BRANCHES}: protect {{name}}, without `Allowed to force push`, and let the "
    "token's bot push: deployments write to it.",
    hidden_branch="how, only a token of a Maintainer is shown.",
    hidden_review="whether a change needs an approval, GitLab shows with Premium alone.",
    jobs_write="the token of every job may push.",
    jobs="Settings → CI/CD → Job token permissions: take back `Allow Git push requests to the "
    "repository`.",
)
_RESTRICTIONS = "Repository settings → Branch restrictions"
BITBUCKET = Guide(
    missing_environment="Make it: Repository settings → Deployments → {name}.",
    reviewers="Repository settings → Deployments → {name}: only allow admins to deploy.",
    self_review="Repository settings → Deployments → {name}: only allow admins to deploy.",
    any_branch="Repository settings → Deployments → {name}: name the branches that may deploy.",
    hidden_environment="who may deploy is not shown to this token.",
    review=f"{_RESTRICTIONS} → {{name}}: let nobody write without a pull request, ask for an "
    "approval, and prevent a merge with unresolved merge checks (Bitbucket Premium).",
    rewritable=f"{_RESTRICTIONS}: for {{name}} allow neither deleting nor rewriting history.",
    rewritable_state=f"{_RESTRICTIONS}: for {{name}} allow neither deleting nor rewriting history. "
    "Let the deployments write to it.",
    hidden_branch="by the branching model, which is not followed here.",
    hidden_review="whether a change needs an approval is not shown to this token.",
    jobs_write="the token of every step may push.",
    jobs="Bitbucket has no setting for it.",
)
