"""The rules of `doctor`, in the order of the documentation."""

from __future__ import annotations

from chalice_ci.findings import Severity
from chalice_ci.rule import Group, Rule

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING


def _rule(
    name: str,
    severity: Severity,
    title: str,
    explanation: str,
    allow: str,
    *,
    group: Group,
    before: str = "",
    after: str = "",
) -> Rule:
    return Rule(
        name=name,
        title=title,
        group=group,
        severity=severity,
        explanation=explanation,
        allow=allow,
        before=before,
        after=after,
        language="yaml",
    )


_FLOWS = Group.WORKFLOWS
_NO_OTHER = "There is no reason to: mend it."
_LAPTOP = "A repository that is only deployed from laptops has nothing here to mend."

WORKFLOWS = (
    _rule(
        "workflow-missing",
        _ERROR,
        "No workflow checks or deploys",
        "No file in `.github/workflows` uses the action, the command or AWS credentials.",
        _LAPTOP,
        group=_FLOWS,
    ),
    _rule(
        "workflow-without-gate",
        _ERROR,
        "A stage has an environment that no job names",
        "`environment` in `chalice-ci.yml` says who has to approve a stage.\n"
        "GitHub asks them only when the job that deploys names the same environment.",
        "Take `environment` from the stage when nobody has to approve it.",
        group=_FLOWS,
        before="  deploy:\n    runs-on: ubuntu-latest",
        after="  deploy:\n    environment: production\n    runs-on: ubuntu-latest",
    ),
    _rule(
        "workflow-runs-foreign-code",
        _ERROR,
        "A workflow runs a pull request's code with the repository's secrets",
        "`pull_request_target` and `workflow_run` start with the secrets and a token that writes,\n"
        "also for a fork. Whoever opens a pull request then runs code beside them.",
        _NO_OTHER,
        group=_FLOWS,
        before="on: pull_request_target",
        after="on: pull_request",
    ),
    _rule(
        "workflow-without-permissions",
        _WARNING,
        "A job has the token's default permissions",
        "Without `permissions` the repository's setting decides, which may be to write everything.",
        _NO_OTHER,
        group=_FLOWS,
        before="jobs:\n  deploy:",
        after="permissions: {}\n\njobs:\n  deploy:\n    permissions:\n      contents: read",
    ),
    _rule(
        "workflow-without-id-token",
        _ERROR,
        "A job can't assume its role",
        "`role-to-assume` needs a token of GitHub's OIDC provider, and the job may not ask for it.",
        _NO_OTHER,
        group=_FLOWS,
        before="permissions:\n  contents: write",
        after="permissions:\n  contents: write\n  id-token: write",
    ),
    _rule(
        "workflow-broad-permissions",
        _WARNING,
        "A job or a workflow may write more than it needs",
        "Permissions at the top hold for every job; `write-all` and scopes that no deployment\n"
        "needs are a gift to whoever gets code into one of the steps.",
        "A job of yours that needs more belongs into a workflow that deploys nothing.",
        group=_FLOWS,
        before="permissions: write-all",
        after="permissions: {}",
    ),
    _rule(
        "workflow-without-concurrency",
        _WARNING,
        "Two runs may deploy at the same time",
        "The stage's lease keeps them apart, so nothing breaks; the later run waits and may fail.",
        "Set `concurrency` to a group of its own for what may run side by side.",
        group=_FLOWS,
        after="concurrency:\n  group: ${{ github.workflow }}-${{ github.ref }}\n"
        "  cancel-in-progress: false",
        before="jobs:",
    ),
    _rule(
        "workflow-cancels-deployments",
        _ERROR,
        "A newer run cancels a deployment",
        "A deployment that is cancelled is finished by the next one; until then the stage is\n"
        "neither the old nor the new.",
        _NO_OTHER,
        group=_FLOWS,
        before="cancel-in-progress: true",
        after="cancel-in-progress: false",
    ),
    _rule(
        "workflow-unpinned-action",
        _WARNING,
        "An action is named by a tag or a branch",
        "Whoever controls the action's repository can move its tag: the next run executes what it\n"
        "then points at, beside AWS credentials.",
        "An action of your own organization, in a repository that you protect: know the risk.",
        group=_FLOWS,
        before="- uses: actions/checkout@v4",
        after="- uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    ),
    _rule(
        "workflow-keeps-token",
        _WARNING,
        "checkout leaves the token in the work tree",
        "Everything that runs later in the job can read it from there.",
        "Keep it where a step pushes with git.",
        group=_FLOWS,
        before="- uses: actions/checkout@…",
        after="- uses: actions/checkout@…\n  with:\n    persist-credentials: false",
    ),
    _rule(
        "workflow-static-keys",
        _ERROR,
        "A workflow uses a stored AWS key",
        "A key is valid from anywhere until somebody revokes it; a role's credentials end after\n"
        "an hour and are given to this repository's workflows only.",
        "Where AWS can't reach the forge's OIDC provider there is no other way.",
        group=_FLOWS,
        before="aws-access-key-id: ${{ secrets.AWS_ACCESS_KEY_ID }}",
        after="role-to-assume: arn:aws:iam::123456789012:role/chalice-deploy",
    ),
)

_SETTINGS = Group.SETTINGS

SETTINGS = (
    _rule(
        "environment-missing",
        _ERROR,
        "The environment of a stage does not exist",
        "GitHub makes it, without any protection, when a job names it for the first time.",
        "Take `environment` from the stage when nobody has to approve it.",
        group=_SETTINGS,
    ),
    _rule(
        "environment-without-reviewers",
        _ERROR,
        "Nobody has to approve a deployment",
        "A stage names the environment as its gate; without required reviewers it is open.\n"
        "Private repositories need a plan of GitHub's that has them.",
        "Take `environment` from the stage when nobody has to approve it.",
        group=_SETTINGS,
    ),
    _rule(
        "environment-self-review",
        _WARNING,
        "Whoever starts a deployment may approve it",
        "Then one account is enough to bring anything to the stage.",
        "A team of one person: there is nobody else.",
        group=_SETTINGS,
    ),
    _rule(
        "environment-any-branch",
        _WARNING,
        "Any branch may deploy to an environment",
        "A workflow that somebody changed on a branch of theirs can name the environment too.",
        _NO_OTHER,
        group=_SETTINGS,
    ),
    _rule(
        "branch-without-review",
        _WARNING,
        "The deployed branch takes changes that nobody approved",
        "What reaches the branch is deployed, and `chalice-ci.yml` on it decides who may deploy.",
        "A repository of one person: there is nobody else.",
        group=_SETTINGS,
    ),
    _rule(
        "branch-rewritable",
        _WARNING,
        "The deployed branch can be rewritten or deleted",
        "The commits that were deployed can vanish.",
        _NO_OTHER,
        group=_SETTINGS,
    ),
    _rule(
        "state-branch-rewritable",
        _WARNING,
        "The branch of the records can be rewritten or deleted",
        "It tells which resources are whose. Deployments only ever add to it.",
        "Keep the state in S3 (`state: {store: s3}`).",
        group=_SETTINGS,
    ),
    _rule(
        "workflow-token-writes",
        _WARNING,
        "The token of every job may write",
        "It holds for each workflow that says nothing else, other people's included.",
        _NO_OTHER,
        group=_SETTINGS,
    ),
)

_ROLES = Group.PERMISSIONS

ROLES = (
    _rule(
        "role-of-another-account",
        _ERROR,
        "A workflow assumes a role of an account that no stage belongs to",
        "The deployment stops before it changes anything (exit code 19).",
        "Take `account` from the stages when they may go anywhere.",
        group=_ROLES,
    ),
    _rule(
        "role-missing",
        _ERROR,
        "The deploy role does not exist",
        "A workflow assumes it; IAM does not know it.",
        _NO_OTHER,
        group=_ROLES,
    ),
    _rule(
        "trust-open",
        _ERROR,
        "Others may assume the deploy role",
        "The subject of the OIDC token is not tested, is a pattern that other repositories match,\n"
        "or the principal is everybody.",
        _NO_OTHER,
        group=_ROLES,
        before='"StringLike": {"token.actions.githubusercontent.com:sub": "repo:org/*"}',
        after='"StringEquals": {"token.actions.githubusercontent.com:sub":\n'
        '  "repo:org/shop:ref:refs/heads/main"}',
    ),
    _rule(
        "trust-subject-wildcard",
        _ERROR,
        "Every branch may assume the deploy role",
        "Whoever may push a branch can then change the workflow on it and deploy.",
        "Protect every branch that the pattern matches.",
        group=_ROLES,
        before='"repo:org/shop:*"',
        after='"repo:org/shop:environment:production"',
    ),
    _rule(
        "trust-pull-request",
        _ERROR,
        "A pull request's workflow may assume the deploy role",
        "The workflow of a pull request is the pull request's own: whoever opens one from a\n"
        "branch of the repository deploys. A role that trusts pull requests alone is taken for\n"
        "that of previews and not told.",
        "A role for previews that can touch nothing but `pr-*`: chalice-ci policy --stage pr-1.",
        group=_ROLES,
    ),
    _rule(
        "trust-other-repository",
        _ERROR,
        "Another repository may assume the deploy role",
        "Its workflows can change this app's stages.",
        "A role that deploys several repositories: give each one of its own.",
        group=_ROLES,
    ),
    _rule(
        "trust-without-audience",
        _ERROR,
        "The audience of the token is not tested",
        "A token that was given out for another service is accepted then.",
        _NO_OTHER,
        group=_ROLES,
    ),
    _rule(
        "trust-without-oidc",
        _ERROR,
        "The workflows can't assume the deploy role",
        "Its trust policy does not name GitHub's OIDC provider.",
        "A role that is assumed from another role only.",
        group=_ROLES,
    ),
)

PACKAGES = (
    _rule(
        "wheels-missing",
        _ERROR,
        "A dependency can't be packaged for Lambda",
        "The package step resolved the dependencies for Lambda's platform and could not.",
        "Build it from source (`package` in chalice-ci.yml), or put a wheel into `vendor/`.",
        group=Group.PACKAGE,
    ),
)

DOCTOR = (*WORKFLOWS, *SETTINGS, *ROLES, *PACKAGES)
