"""The pipelines for the systems beside GitHub and GitLab, made from the examples of `plugins/`.

The files in `pipelines/` beside this module are those examples, which are run by tests; `make docs`
copies them and a test holds them equal. What is put in is the repository's own: its branch, the
stage that a person approves, the roles, the region.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from chalice_ci.context import System
from chalice_ci.scaffold.role import role_name, short_name
from chalice_ci.scaffold.setting import Setting, environment_of
from chalice_ci.scaffold.workflows import EXAMPLE_ROLE, replaced

BUILDSPECS = ("check", "plan", "deploy")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
"""A branch that YAML takes as it is."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Where a system looks for its pipeline, and how ours is known.

    `beside` is where ours goes when the project has one of its own, `then` what is to be done with
    it there; `source` is the example in `pipelines/`, `more` those that are taken as they are, and
    where they go.
    """

    path: str
    source: str
    sign: str
    beside: str
    then: str
    more: tuple[tuple[str, str], ...] = ()


PIPELINES: Mapping[System, Pipeline] = {
    System.CIRCLECI: Pipeline(
        path=".circleci/config.yml",
        source="circleci.yml",
        sign="/chalice-ci@",
        beside=".circleci/chalice.yml",
        then="merge its orb and workflows into .circleci/config.yml.",
    ),
    System.JENKINS: Pipeline(
        path="Jenkinsfile",
        source="Jenkinsfile",
        sign="chalicePipeline(",
        beside="Jenkinsfile.chalice",
        then="make a multibranch pipeline with this script path.",
    ),
    System.BITBUCKET: Pipeline(
        path="bitbucket-pipelines.yml",
        source="bitbucket.yml",
        sign="/chalice-ci-pipe:",
        beside="bitbucket-pipelines.chalice.yml",
        then="merge its steps into bitbucket-pipelines.yml.",
    ),
    System.AZURE: Pipeline(
        path="azure-pipelines.yml",
        source="azure.yml",
        sign="plugins/azure/steps.yml",
        beside="azure-pipelines.chalice.yml",
        then="make a pipeline of this file.",
    ),
    System.CODEBUILD: Pipeline(
        path=".codebuild/pipeline.yml",
        source="codebuild-pipeline.yml",
        sign="AWS::CodePipeline::Pipeline",
        beside=".codebuild/chalice-pipeline.yml",
        then="deploy this template as a stack.",
        more=tuple((f"codebuild-{one}.yml", f".codebuild/{one}.yml") for one in BUILDSPECS),
    ),
    System.BUILDKITE: Pipeline(
        path=".buildkite/pipeline.yml",
        source="buildkite.yml",
        sign="/chalice-ci#",
        beside=".buildkite/chalice.yml",
        then="upload it in a step: buildkite-agent pipeline upload .buildkite/chalice.yml",
    ),
}


def pipeline(setting: Setting) -> str:
    """The text of the pipeline, with what is the repository's own."""
    text = _placed(source(PIPELINES[setting.system].source), setting)
    match setting.system:
        case System.CIRCLECI:
            return _circleci(text, setting)
        case System.JENKINS:
            return _jenkins(text, setting)
        case System.BITBUCKET:
            return _bitbucket(text, setting)
        case System.AZURE:
            return _azure(text, setting)
        case System.CODEBUILD:
            return _codebuild(text, setting)
    return _buildkite(text, setting)


def left_open(setting: Setting) -> Iterator[str]:
    """What a person has to do in the system itself."""
    gate = environment_of(setting.gated[0]) if setting.gated else ""
    match setting.system:
        case System.CIRCLECI:
            yield "publish the orb, and make the context chalice-dev: a job in one has a token."
            if gate:
                yield "make the contexts chalice-plan, and chalice-production, which is restricted."
        case System.JENKINS:
            yield "add plugins/jenkins as the library chalice-ci (docs/jenkins.md)."
            yield (
                "Jenkins gives its jobs no token for AWS: attach the stack's policies to what the "
                "credentials aws-deploy are of."
            )
            if gate:
                yield "make aws-read, chalice-signing-key, and say in `approvers` who may approve."
        case System.BITBUCKET:
            yield "publish the pipe's image, and make a token for the comment (docs/bitbucket.md)."
            yield "make the deployment environment test; its UUID is a parameter of the stack."
            if gate:
                yield f"make {gate}-plan, and {gate} with deployment permissions; so are theirs."
        case System.AZURE:
            yield "make the service connection github to where the templates are (docs/azure.md)."
            yield (
                "in Azure Repos let the comment be written: Project settings, Repositories, "
                'Security, "<project> Build Service", Contribute to pull requests: Allow.'
            )
            yield (
                "make the service connection aws-deploy (AWS Toolkit, with OIDC) of the deploy "
                f"role, and let a check on it take {setting.branch} and tags alone."
            )
            if gate:
                yield (
                    f"make aws-plan of the plan role, the environment {gate} with an approval, and "
                    "the variable group chalice-signing-key."
                )
        case System.CODEBUILD:
            yield (
                "CodeBuild's projects have roles of their own: deploy .codebuild/pipeline.yml, its "
                "PlanPolicies and DeployPolicies are outputs of the first stack."
            )
            if len(setting.apps) > 1:
                yield (
                    "it deploys one app: make a stack of it for each, with App=NAME, and with "
                    "Checks=none in all but one."
                )
        case System.BUILDKITE:
            yield "publish the plugin, and don't let forks' pull requests be built."
            if gate:
                yield "name in the block step's `allowed_teams` who may unblock it."


def source(name: str) -> str:
    """An example, as `plugins/` has it."""
    return (files("chalice_ci.scaffold") / "pipelines" / name).read_text(encoding="utf-8")


def _placed(text: str, setting: Setting) -> str:
    """The text with this repository's roles and region."""
    text = EXAMPLE_ROLE.sub(
        lambda match: f"arn:aws:iam::{setting.account}:role/{role_name(setting, match['name'])}",
        text,
    )
    return text.replace("eu-west-1", setting.region)


def _quoted(text: str) -> str:
    return text if PLAIN.fullmatch(text) else json.dumps(text)


def _without(text: str, begin: str) -> str:
    """The text up to a part that goes to the end; KeyError when there is none."""
    if begin not in text:
        raise KeyError(begin)
    return text.partition(begin)[0].rstrip() + "\n"


def _headed(text: str, setting: Setting, mark: str = "#") -> str:
    """With a first comment that says what this one does."""
    about = f"{mark} Checks branches and pull requests, and deploys what reaches {setting.branch}."
    for stage in setting.gated[:1]:
        about += f"\n{mark} A tag v* goes to {stage} after a person approved its plan."
    return about + "\n" + re.sub(rf"\A(?:{re.escape(mark)}.*\n)+", "", text)


def _circleci(text: str, setting: Setting) -> str:
    branch = _quoted(setting.branch)
    text = replaced(text, "ignore: main\n", f"ignore: {branch}\n")
    text = replaced(text, "only: main\n", f"only: {branch}\n")
    if setting.gated:
        text = replaced(text, "stage: prod\n", f"stage: {setting.gated[0]}\n")
    else:
        text = _without(text, "  production:\n")
    return _headed(text, setting)


def _jenkins(text: str, setting: Setting) -> str:
    if setting.gated:
        text = replaced(text, "stage: 'prod'", f"stage: '{setting.gated[0]}'")
    else:
        for name in ("stage", "approvers", "planCredentials", "signingKey"):
            text, count = re.subn(rf"^  {name}: .*\n", "", text, flags=re.MULTILINE)
            if not count:
                raise KeyError(name)
    return _headed(text, setting, "//")


def _bitbucket(text: str, setting: Setting) -> str:
    text = replaced(text, "    main:\n", f"    {_quoted(setting.branch)}:\n")
    text = replaced(text, "name: Deploy main\n", f"name: {_quoted('Deploy ' + setting.branch)}\n")
    if not setting.gated:
        return _headed(_without(text, "  tags:\n"), setting)
    environment = environment_of(setting.gated[0])
    text = replaced(text, "CHALICE_CI_STAGE: prod\n", f"CHALICE_CI_STAGE: {setting.gated[0]}\n")
    text = replaced(text, "deployment: production", f"deployment: {environment}")
    for verb in ("Plan", "Deploy"):
        text = replaced(text, f"name: {verb} production\n", f"name: {verb} {environment}\n")
    return _headed(text, setting)


def _azure(text: str, setting: Setting) -> str:
    text = replaced(text, "include: [main]", f"include: [{json.dumps(setting.branch)}]")
    branch = setting.branch.replace("'", "''")
    text = replaced(text, "'refs/heads/main'", f"'refs/heads/{branch}'")
    text = replaced(
        text, "displayName: Deploy main\n", f"displayName: {_quoted('Deploy ' + setting.branch)}\n"
    )
    if not setting.gated:
        text = replaced(text, '\n  tags: {include: ["v*"]}', "")
        text = _without(text, "  - template: plugins/azure/production.yml@chalice\n")
        return _headed(text, setting)
    stage = setting.gated[0]
    text = replaced(text, "      stage: prod\n", f"      stage: {stage}\n")
    named = f"environment: {environment_of(stage)}\n"
    return _headed(replaced(text, "environment: production\n", named), setting)


def _codebuild(text: str, setting: Setting) -> str:
    stage = setting.gated[0] if setting.gated else setting.first
    text = replaced(text, "Default: prod\n", f"Default: {stage}\n")
    text = replaced(text, "Default: main\n", f"Default: {json.dumps(setting.branch)}\n")
    known = {"App": setting.apps[0].name, "StateBucket": setting.bucket}
    known["Repository"] = setting.repository
    for name, value in known.items():
        if value:
            head = f"  {name}:\n    Type: String\n"
            text = replaced(text, head, f"{head}    Default: {json.dumps(value)}\n")
    return text


def _buildkite(text: str, setting: Setting) -> str:
    name, branch = short_name(setting), setting.branch
    text = replaced(text, 'build.branch != "main"', f"build.branch != {json.dumps(branch)}")
    text = replaced(text, 'build.branch == "main"', f"build.branch == {json.dumps(branch)}")
    text = replaced(text, "Deploy main", f"Deploy {branch}")
    text = replaced(text, "orders/main", f"{name}/{branch}")
    if not setting.gated:
        return _headed(_without(text, '  - label: ":lambda: Plan production"\n'), setting)
    stage = setting.gated[0]
    text = replaced(text, "stage: prod\n", f"stage: {stage}\n")
    text = replaced(text, "orders/production", f"{name}/{environment_of(stage)}")
    for words in ("Plan production", "Deploy production", "Deploy to production"):
        text = replaced(text, words, words.replace("production", environment_of(stage)))
    return _headed(text, setting)
