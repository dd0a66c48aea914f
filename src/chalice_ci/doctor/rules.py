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
        "No file in `.github/workflows` uses the action, the command or AWS credentials,\n"
        "so a pull request gets no verdict, and what is merged is not deployed until\n"
        "somebody does it by hand.",
        _LAPTOP,
        group=_FLOWS,
        before="on: push\njobs: {lint: {runs-on: ubuntu-latest}}",
        after="on: push\n"
        "jobs:\n"
        "  deploy:\n"
        "    runs-on: ubuntu-latest\n"
        "    steps:\n"
        "      - uses: org/chalice-action@v1",
    ),
    _rule(
        "workflow-without-gate",
        _ERROR,
        "A stage has an environment that no job names",
        "`environment` in `chalice-ci.yml` says who has to approve a stage. GitHub asks\n"
        "them only when the job that deploys names the same environment.",
        "Take `environment` from the stage when nobody has to approve it.",
        group=_FLOWS,
        before="  deploy:\n    runs-on: ubuntu-latest",
        after="  deploy:\n    environment: production\n    runs-on: ubuntu-latest",
    ),
    _rule(
        "workflow-runs-foreign-code",
        _ERROR,
        "A workflow runs a pull request's code with the repository's secrets",
        "`pull_request_target` and `workflow_run` start with the secrets and a token that\n"
        "writes, also for a fork. Whoever opens a pull request then runs code beside\n"
        "them.",
        _NO_OTHER,
        group=_FLOWS,
        before="on: pull_request_target",
        after="on: pull_request",
    ),
    _rule(
        "workflow-without-permissions",
        _WARNING,
        "A job has the token's default permissions",
        "Without `permissions` the repository's setting decides what the job's token may\n"
        "do, and that may be to write everything: code, releases, packages.",
        _NO_OTHER,
        group=_FLOWS,
        before="jobs:\n  deploy:",
        after="permissions: {}\n\njobs:\n  deploy:\n    permissions:\n      contents: read",
    ),
    _rule(
        "workflow-without-id-token",
        _ERROR,
        "A job can't assume its role",
        "`role-to-assume` needs a token of GitHub's OIDC provider, and a job gets one\n"
        "only when its permissions say so: without them the deployment ends before it\n"
        "begins.",
        _NO_OTHER,
        group=_FLOWS,
        before="permissions:\n  contents: write",
        after="permissions:\n  contents: write\n  id-token: write",
    ),
    _rule(
        "workflow-broad-permissions",
        _WARNING,
        "A job or a workflow may write more than it needs",
        "Permissions at the top hold for every job; `write-all` and scopes that no\n"
        "deployment needs are a gift to whoever gets code into one of the steps.",
        "A job of yours that needs more belongs into a workflow that deploys nothing.",
        group=_FLOWS,
        before="permissions: write-all",
        after="permissions: {}",
    ),
    _rule(
        "workflow-without-concurrency",
        _WARNING,
        "Two runs may deploy at the same time",
        "The stage's lease keeps two runs apart, so nothing breaks; but the later one\n"
        "waits for minutes and may then fail, when it could have waited its turn.",
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
        "A deployment that is cancelled is finished by the next one; until then the stage\n"
        "is neither the old nor the new.",
        _NO_OTHER,
        group=_FLOWS,
        before="cancel-in-progress: true",
        after="cancel-in-progress: false",
    ),
    _rule(
        "workflow-unpinned-action",
        _WARNING,
        "An action is named by a tag or a branch",
        "Whoever controls the action's repository can move its tag: the next run executes\n"
        "what it then points at, beside AWS credentials.",
        "An action of your own organization, in a repository that you protect: know the risk.",
        group=_FLOWS,
        before="- uses: actions/checkout@v4",
        after="- uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    ),
    _rule(
        "workflow-keeps-token",
        _WARNING,
        "checkout leaves the token in the work tree",
        "checkout stores the job's token in the work tree's git configuration, and\n"
        "everything that runs later in the job - a dependency's build, a test - can read\n"
        "it from there.",
        "Keep it where a step pushes with git.",
        group=_FLOWS,
        before="- uses: actions/checkout@…",
        after="- uses: actions/checkout@…\n  with:\n    persist-credentials: false",
    ),
    _rule(
        "workflow-static-keys",
        _ERROR,
        "A workflow uses a stored AWS key",
        "A key is valid from anywhere until somebody revokes it; a role's credentials end\n"
        "after an hour and are given to this repository's workflows only.",
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
        "A stage names an environment as its gate, and the repository has none of that\n"
        "name. GitHub makes it, without any protection, when a job names it for the first\n"
        "time.",
        "Take `environment` from the stage when nobody has to approve it.",
        group=_SETTINGS,
        before="environments: []",
        after="environments:\n  - name: production\n    required-reviewers: [team-lead]",
    ),
    _rule(
        "environment-without-reviewers",
        _ERROR,
        "Nobody has to approve a deployment",
        "A stage names the environment as its gate; without required reviewers everybody\n"
        "may pass. Private repositories need a plan of GitHub's that has them.",
        "Take `environment` from the stage when nobody has to approve it.",
        group=_SETTINGS,
        before="name: production\nrequired-reviewers: []",
        after="name: production\nrequired-reviewers: [team-lead, on-call]",
    ),
    _rule(
        "environment-self-review",
        _WARNING,
        "Whoever starts a deployment may approve it",
        "Whoever starts a deployment may approve it alone: one account, or one stolen\n"
        "session, is enough to bring anything to the stage.",
        "A team of one person: there is nobody else.",
        group=_SETTINGS,
        before="required-reviewers: [on-call]\nprevent-self-review: false",
        after="required-reviewers: [on-call]\nprevent-self-review: true",
    ),
    _rule(
        "environment-any-branch",
        _WARNING,
        "Any branch may deploy to an environment",
        "A workflow that somebody changed on a branch of theirs can name the environment\n"
        "too, and asks the reviewers to approve what nobody has reviewed.",
        _NO_OTHER,
        group=_SETTINGS,
        before="deployment-branches: all",
        after='deployment-branches:\n  tags: ["v*"]',
    ),
    _rule(
        "branch-without-review",
        _WARNING,
        "The deployed branch takes changes that nobody approved",
        "What reaches the branch is deployed, and `chalice-ci.yml` on it decides what may\n"
        "be deployed and who approves it: one person can change both.",
        "A repository of one person: there is nobody else.",
        group=_SETTINGS,
        before="branch: main\nrequired-approvals: 0",
        after="branch: main\nrequired-approvals: 1",
    ),
    _rule(
        "branch-rewritable",
        _WARNING,
        "The deployed branch can be rewritten or deleted",
        "With a force push the commits that were deployed can vanish, and with them the\n"
        "answer to what is live; a deleted branch deploys nothing any more.",
        _NO_OTHER,
        group=_SETTINGS,
        before="branch: main\nallow-force-pushes: true",
        after="branch: main\nallow-force-pushes: false\nallow-deletions: false",
    ),
    _rule(
        "state-branch-rewritable",
        _WARNING,
        "The branch of the records can be rewritten or deleted",
        "The records on it tell which resources belong to which stage. Deployments only\n"
        "ever add to it; rewritten or deleted, the next deployment does not know what\n"
        "there is.",
        "Keep the state in S3 (`state: {store: s3}`).",
        group=_SETTINGS,
        before="branch: chalice-state\nallow-deletions: true",
        after="branch: chalice-state\nallow-force-pushes: false\nallow-deletions: false",
    ),
    _rule(
        "workflow-token-writes",
        _WARNING,
        "The token of every job may write",
        "The repository's setting gives the token of every job the right to write. It\n"
        "holds for each workflow that says nothing else, those that other people add\n"
        "included.",
        _NO_OTHER,
        group=_SETTINGS,
        before="workflow-permissions: write",
        after="workflow-permissions: read",
    ),
)

_ROLES = Group.PERMISSIONS

ROLES = (
    _rule(
        "role-of-another-account",
        _ERROR,
        "A workflow assumes a role of an account that no stage belongs to",
        "The stages in `chalice-ci.yml` belong to other accounts than the role that the\n"
        "workflow assumes, so the deployment stops before it changes anything (exit code\n"
        "19).",
        "Take `account` from the stages when they may go anywhere.",
        group=_ROLES,
        before="role-to-assume: arn:aws:iam::210987654321:role/chalice-deploy",
        after="role-to-assume: arn:aws:iam::123456789012:role/chalice-deploy",
    ),
    _rule(
        "role-missing",
        _ERROR,
        "The deploy role does not exist",
        "A workflow assumes the role, and IAM in its account does not know it: it was\n"
        "renamed, deleted or never made, and the job ends before the deployment begins.",
        _NO_OTHER,
        group=_ROLES,
        before="role-to-assume: arn:aws:iam::123456789012:role/chalice-deply",
        after="role-to-assume: arn:aws:iam::123456789012:role/chalice-deploy",
    ),
    _rule(
        "trust-open",
        _ERROR,
        "Others may assume the deploy role",
        "The subject of the OIDC token is not tested, is a pattern that other\n"
        "repositories match, or the principal is everybody.",
        _NO_OTHER,
        group=_ROLES,
        before='StringLike: {"token.actions.githubusercontent.com:sub": "repo:org/*"}',
        after="StringEquals:\n"
        '  "token.actions.githubusercontent.com:sub": "repo:org/shop:ref:refs/heads/main"',
    ),
    _rule(
        "trust-subject-wildcard",
        _ERROR,
        "Every branch may assume the deploy role",
        "The subject of the role's trust policy is a pattern of branches. Whoever may\n"
        "push one of them can change the workflow on it and deploy, without any review.",
        "Protect every branch that the pattern matches.",
        group=_ROLES,
        before='"repo:org/shop:*"',
        after='"repo:org/shop:environment:production"',
    ),
    _rule(
        "trust-pull-request",
        _ERROR,
        "A pull request's workflow may assume the deploy role",
        "The workflow of a pull request is the pull request's own: whoever opens one from\n"
        "a branch of the repository deploys. A role that trusts pull requests alone is\n"
        "taken for that of previews and not told.",
        "A role for previews that can touch nothing but `pr-*`: chalice-ci policy --stage pr-1.",
        group=_ROLES,
        before='"repo:org/shop:pull_request"',
        after='"repo:org/shop:ref:refs/heads/main"',
    ),
    _rule(
        "trust-other-repository",
        _ERROR,
        "Another repository may assume the deploy role",
        "The trust policy names a repository that is not this one. Its workflows, and\n"
        "everybody who may change them, can change this app's stages.",
        "A role that deploys several repositories: give each one of its own.",
        group=_ROLES,
        before='"repo:org/other:ref:refs/heads/main"',
        after='"repo:org/shop:ref:refs/heads/main"',
    ),
    _rule(
        "trust-without-audience",
        _ERROR,
        "The audience of the token is not tested",
        "The trust policy does not test for whom the token was made, so one that a\n"
        "workflow of this repository asked for and gave to another service is accepted\n"
        "too.",
        _NO_OTHER,
        group=_ROLES,
        before="StringEquals:\n"
        '  "token.actions.githubusercontent.com:sub": "repo:org/shop:ref:refs/heads/main"',
        after="StringEquals:\n"
        '  "token.actions.githubusercontent.com:aud": sts.amazonaws.com\n'
        '  "token.actions.githubusercontent.com:sub": "repo:org/shop:ref:refs/heads/main"',
    ),
    _rule(
        "trust-without-oidc",
        _ERROR,
        "The workflows can't assume the deploy role",
        "The role's trust policy does not name GitHub's OIDC provider, so the workflow\n"
        "that names the role in `role-to-assume` can't have it, and ends before the\n"
        "deployment begins.",
        "A role that is assumed from another role only.",
        group=_ROLES,
        before="Principal: {Service: ec2.amazonaws.com}",
        after="Principal:\n"
        "  Federated: arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
    ),
)

PACKAGES = (
    _rule(
        "wheels-missing",
        _ERROR,
        "A dependency can't be packaged for Lambda",
        "The package step resolved the dependencies for Lambda's platform, as a\n"
        "deployment does, and could not: one of them has no wheel for it, is not there,\n"
        "or contradicts another.",
        "Build it from source (`package` in chalice-ci.yml), or put a wheel into `vendor/`.",
        group=Group.PACKAGE,
        before="package: {}",
        after='package: {build: ["pycrypto"]}',
    ),
)

DOCTOR = (*WORKFLOWS, *SETTINGS, *ROLES, *PACKAGES)
