"""How a job of each CI system proves to AWS who it is: its OIDC provider and the subjects to trust.

What nobody can tell from a repository - the ids of an organisation, a project, an environment - is
a parameter of the stack, `${Name}` in the texts. Sources, by system:

- GitHub, "OpenID Connect reference": `repo:OWNER/NAME:` and a ref, an environment or pull_request.
- GitLab, "OpenID Connect (OIDC) Authentication Using ID Tokens": the subject names no environment,
  `project_path:GROUP/PROJECT:ref_type:TYPE:ref:NAME`.
- CircleCI, "OpenID Connect ID token format": of CIRCLE_OIDC_TOKEN_V2
  `org/ORG/project/PROJECT/user/USER/vcs-origin/ORIGIN/vcs-ref/REF`.
- Bitbucket, "Integrate Pipelines with resource servers using OIDC": of a step with a deployment
  `{REPOSITORY}:{ENVIRONMENT}:{STEP}`, UUIDs in braces.
- Azure, AWS's "How to federate into AWS from Azure DevOps using OpenID Connect": the subject is the
  service connection, `sc://ORGANIZATION/PROJECT/CONNECTION`.
- Buildkite, "OIDC with AWS":
  `organization:ORG:pipeline:PIPELINE:ref:REF:commit:COMMIT:step:KEY`.

Jenkins has no provider of its own, and CodeBuild's projects have service roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chalice_ci.context import System
from chalice_ci.doctor.trust import AUDIENCE, PROVIDER
from chalice_ci.scaffold.setting import Setting, environment_of

ROLE = "chalice-deploy"
PLAN_ROLE = "chalice-plan"
PREVIEW_ROLE = "chalice-preview"

_UUID = "-".join("?" * count for count in (8, 4, 4, 4, 12))
"""Exactly one UUID: `*` would let a branch's name go on with what the subject should end with."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A provider without `https://`, the audience of its tokens, and by role the subjects to trust.

    `parameters` are those that the texts name: (description, default; empty for none).
    """

    provider: str
    audience: str
    subjects: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def identity(setting: Setting) -> Identity | None:
    """What the roles of a setting trust; None where the system gives its jobs no token."""
    match setting.system:
        case System.GITHUB:
            return _github(setting)
        case System.GITLAB:
            return _gitlab(setting)
        case System.CIRCLECI:
            return _circleci(setting)
        case System.BITBUCKET:
            return _bitbucket(setting)
        case System.AZURE:
            return _azure(setting)
        case System.BUILDKITE:
            return _buildkite(setting)
    return None


def _github(setting: Setting) -> Identity:
    of = f"repo:{_repository(setting)}"
    environments = (f"{of}:environment:{environment_of(stage)}" for stage in setting.gated)
    found: dict[str, tuple[str, ...]] = {
        ROLE: (f"{of}:ref:refs/heads/{setting.branch}", *environments)
    }
    if setting.gated:
        found[PLAN_ROLE] = (f"{of}:ref:refs/tags/v*",)
    if setting.previews:
        found[PREVIEW_ROLE] = (f"{of}:pull_request",)
    return Identity(
        provider=PROVIDER,
        audience=AUDIENCE,
        subjects=found,
        parameters=_repository_parameter(setting),
    )


def _gitlab(setting: Setting) -> Identity:
    of = f"project_path:{_repository(setting)}:ref_type"
    branch = f"{of}:branch:ref:{setting.branch}"
    found = {ROLE: (branch, f"{of}:tag:ref:v*") if setting.gated else (branch,)}
    if setting.previews:
        found[PREVIEW_ROLE] = (f"{of}:branch:ref:*",)
    return Identity(
        provider=setting.gitlab,
        audience=AUDIENCE,
        subjects=found,
        parameters=_repository_parameter(setting),
    )


def _circleci(setting: Setting) -> Identity:
    origin = f"{setting.host}/{setting.repository}" if setting.repository else "${Origin}"
    of = f"org/${{OrganizationId}}/project/${{ProjectId}}/user/{_UUID}/vcs-origin/{origin}/vcs-ref"
    parameters = {
        "OrganizationId": ("CircleCI: Organization Settings, Overview", ""),
        "ProjectId": ("CircleCI: Project Settings, Overview", ""),
    }
    if not setting.repository:
        parameters["Origin"] = ("Where the code is: github.com/owner/name", "")
    return Identity(
        provider="oidc.circleci.com/org/${OrganizationId}",
        audience="${OrganizationId}",
        subjects=_by_ref(
            setting,
            branch=f"{of}/refs/heads/{setting.branch}",
            planned=f"{of}/refs/tags/v*",
            deployed=f"{of}/refs/tags/v*",
        ),
        parameters=parameters,
    )


def _bitbucket(setting: Setting) -> Identity:
    repository = "{${RepositoryId}}"
    workspace = setting.repository.partition("/")[0] if setting.host == "bitbucket.org" else ""
    parameters = {
        "Workspace": ("Bitbucket: the workspace's id", workspace),
        "WorkspaceId": ("Bitbucket: the workspace's UUID, without braces", ""),
        "RepositoryId": ("Bitbucket: Repository settings, OpenID Connect; without braces", ""),
        "BranchEnvironmentId": ("The UUID of the deployment environment `test`", ""),
    }
    if setting.gated:
        name = environment_of(setting.gated[0])
        for key, named in (("Plan", f"{name}-plan"), ("Gate", name)):
            parameters[f"{key}EnvironmentId"] = (f"The UUID of the environment `{named}`", "")
    return Identity(
        provider="api.bitbucket.org/2.0/workspaces/${Workspace}/pipelines-config/identity/oidc",
        audience="ari:cloud:bitbucket::workspace/${WorkspaceId}",
        subjects=_by_ref(
            setting,
            branch=f"{repository}:{{${{BranchEnvironmentId}}}}:*",
            planned=f"{repository}:{{${{PlanEnvironmentId}}}}:*",
            deployed=f"{repository}:{{${{GateEnvironmentId}}}}:*",
        ),
        parameters=parameters,
    )


def _azure(setting: Setting) -> Identity:
    parameters = {
        "OrganizationId": ("Azure DevOps: the organization's GUID", ""),
        "Organization": ("Azure DevOps: the organization's name", ""),
        "Project": ("Azure DevOps: the project's name", ""),
    }
    of = "sc://${Organization}/${Project}"
    found = {ROLE: (f"{of}/aws-deploy",)}
    if setting.gated:
        found[PLAN_ROLE] = (f"{of}/aws-plan",)
    return Identity(
        provider="vstoken.dev.azure.com/${OrganizationId}",
        audience="api://AzureADTokenExchange",
        subjects=found,
        parameters=parameters,
    )


def _buildkite(setting: Setting) -> Identity:
    of = "organization:${Organization}:pipeline:${Pipeline}:ref:refs"
    return Identity(
        provider="agent.buildkite.com",
        audience=AUDIENCE,
        subjects=_by_ref(
            setting,
            branch=f"{of}/heads/{setting.branch}:commit:*:step:run",
            planned=f"{of}/tags/v*:commit:*:step:plan",
            deployed=f"{of}/tags/v*:commit:*:step:deploy",
        ),
        parameters={
            "Organization": ("Buildkite: the organization, as addresses name it", ""),
            "Pipeline": ("Buildkite: the pipeline, as addresses name it", ""),
        },
    )


def _by_ref(
    setting: Setting, *, branch: str, planned: str, deployed: str
) -> Mapping[str, tuple[str, ...]]:
    if not setting.gated:
        return {ROLE: (branch,)}
    return {ROLE: (branch, deployed), PLAN_ROLE: (planned,)}


def _repository(setting: Setting) -> str:
    return setting.repository or "${Repository}"


def _repository_parameter(setting: Setting) -> Mapping[str, tuple[str, str]]:
    return (
        {} if setting.repository else {"Repository": ("The repository: owner/name, its path", "")}
    )
