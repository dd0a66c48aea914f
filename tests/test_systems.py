"""Which CI system it is, and what its documented variables come to: one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.checkout import Checkout
from chalice_ci.context import Context, RunOrder, System
from chalice_ci.errors import UsageError
from chalice_ci.plan import UNKNOWN_RUN
from chalice_ci.plan_file import run_identity
from chalice_ci.systems.detect import detect
from chalice_ci.systems.read import read_context
from support.attempts import tried

SHA, BASE, MERGE = "a" * 40, "b" * 40, "c" * 40
CHECKOUT = Checkout(root=Path("/repo"), commit="d" * 40, branch=None, default_branch=None)
Env = Mapping[str, str]

GITLAB = {
    "CI": "true",
    "GITLAB_CI": "true",
    "CI_PIPELINE_SOURCE": "push",
    "CI_PIPELINE_ID": "1500",
    "CI_PIPELINE_URL": "https://gitlab.example/shop/back/orders/-/pipelines/1500",
    "CI_PROJECT_PATH": "shop/back/orders",
    "CI_SERVER_URL": "https://gitlab.example",
    "CI_API_V4_URL": "https://gitlab.example/api/v4",
    "CI_DEFAULT_BRANCH": "main",
    "CI_COMMIT_SHA": SHA,
    "GITLAB_USER_LOGIN": "ada",
}
GITLAB_BRANCH = {**GITLAB, "CI_COMMIT_BRANCH": "main"}
GITLAB_MR = {
    **GITLAB,
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "42",
    "CI_MERGE_REQUEST_PROJECT_ID": "7",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "7",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "shop/back/orders",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature/x",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA": BASE,
    "CI_MERGE_REQUEST_LABELS": "preview,backend",
}
CIRCLECI = {
    "CI": "true",
    "CIRCLECI": "true",
    "CIRCLE_BUILD_NUM": "311",
    "CIRCLE_BUILD_URL": "https://circleci.com/gh/shop/orders/311",
    "CIRCLE_WORKFLOW_ID": "2f0d1c60-8c5b-4f36-9f6b-6b2f5c3f6f11",
    "CIRCLE_SHA1": SHA,
    "CIRCLE_BRANCH": "feature/x",
    "CIRCLE_PROJECT_USERNAME": "shop",
    "CIRCLE_PROJECT_REPONAME": "orders",
    "CIRCLE_USERNAME": "ada",
}
CIRCLECI_PR = {**CIRCLECI, "CIRCLE_PULL_REQUEST": "https://github.com/shop/orders/pull/42"}
CIRCLECI_APP = {k: v for k, v in CIRCLECI_PR.items() if not k.startswith("CIRCLE_PROJECT_")}
JENKINS = {
    "JENKINS_URL": "https://ci.example/",
    "BUILD_NUMBER": "17",
    "BUILD_TAG": "jenkins-orders-main-17",
    "BUILD_URL": "https://ci.example/job/orders/job/main/17/",
    "JOB_NAME": "orders/main",
    "GIT_COMMIT": SHA,
    "BRANCH_NAME": "main",
    "BRANCH_IS_PRIMARY": "true",
}
JENKINS_PR = {
    **{k: v for k, v in JENKINS.items() if k != "BRANCH_IS_PRIMARY"},
    "BRANCH_NAME": "PR-42",
    "CHANGE_ID": "42",
    "CHANGE_BRANCH": "feature/x",
    "CHANGE_TARGET": "main",
    "CHANGE_AUTHOR": "ada",
}
BITBUCKET = {
    "CI": "true",
    "BITBUCKET_BUILD_NUMBER": "88",
    "BITBUCKET_PIPELINE_UUID": "{9f6b1c60-8c5b-4f36-9f6b-6b2f5c3f6f11}",
    "BITBUCKET_REPO_FULL_NAME": "shop/orders",
    "BITBUCKET_COMMIT": SHA,
    "BITBUCKET_BRANCH": "main",
    "BITBUCKET_STEP_TRIGGERER_UUID": "{5c1b1c60-8c5b-4f36-9f6b-6b2f5c3f6f11}",
}
BITBUCKET_PR = {
    **BITBUCKET,
    "BITBUCKET_BRANCH": "feature/x",
    "BITBUCKET_PR_ID": "42",
    "BITBUCKET_PR_DESTINATION_BRANCH": "main",
    "BITBUCKET_PR_DESTINATION_COMMIT": BASE,
}
AZURE = {
    "TF_BUILD": "True",
    "BUILD_REASON": "IndividualCI",
    "BUILD_BUILDID": "904",
    "BUILD_SOURCEBRANCH": "refs/heads/main",
    "BUILD_SOURCEVERSION": SHA,
    "BUILD_REPOSITORY_NAME": "shop/orders",
    "BUILD_REQUESTEDFOR": "Ada Lovelace",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/shop/",
    "SYSTEM_TEAMPROJECT": "Back end",
    "SYSTEM_JOBATTEMPT": "1",
}
AZURE_PR = {
    **AZURE,
    "BUILD_REASON": "PullRequest",
    "BUILD_SOURCEBRANCH": "refs/pull/42/merge",
    "BUILD_SOURCEVERSION": MERGE,
    "SYSTEM_PULLREQUEST_PULLREQUESTID": "42",
    "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/feature/x",
    "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main",
    "SYSTEM_PULLREQUEST_SOURCECOMMITID": SHA,
    "SYSTEM_PULLREQUEST_ISFORK": "False",
}
CODEBUILD = {
    "CI": "true",
    "CODEBUILD_BUILD_ID": "orders:b1e6661e-e4f2-4156-9ab9-82a19EXAMPLE",
    "CODEBUILD_BUILD_NUMBER": "61",
    "CODEBUILD_BUILD_URL": "https://eu-west-1.console.aws.amazon.com/codebuild/home?region=eu-west-1#/builds/orders:b1e6661e/view/new",
    "CODEBUILD_INITIATOR": "GitHub-Hookshot/abc",
    "CODEBUILD_RESOLVED_SOURCE_VERSION": SHA,
    "CODEBUILD_WEBHOOK_TRIGGER": "branch/main",
    "CODEBUILD_WEBHOOK_EVENT": "PUSH",
}
CODEBUILD_PR = {
    **CODEBUILD,
    "CODEBUILD_WEBHOOK_TRIGGER": "pr/42",
    "CODEBUILD_WEBHOOK_EVENT": "PULL_REQUEST_UPDATED",
    "CODEBUILD_WEBHOOK_HEAD_REF": "refs/heads/feature/x",
    "CODEBUILD_WEBHOOK_BASE_REF": "refs/heads/main",
}
CODEPIPELINE = {
    **{k: v for k, v in CODEBUILD.items() if "WEBHOOK" not in k},
    "CODEBUILD_INITIATOR": "codepipeline/orders",
}
BUILDKITE = {
    "CI": "true",
    "BUILDKITE": "true",
    "BUILDKITE_SOURCE": "webhook",
    "BUILDKITE_BUILD_ID": "4735ba57-80d0-46e2-8fa0-b28223a86586",
    "BUILDKITE_BUILD_NUMBER": "1514",
    "BUILDKITE_BUILD_URL": "https://buildkite.com/shop/orders/builds/1514",
    "BUILDKITE_BUILD_CREATOR": "Ada Lovelace",
    "BUILDKITE_BRANCH": "main",
    "BUILDKITE_TAG": "",
    "BUILDKITE_COMMIT": SHA,
    "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main",
    "BUILDKITE_PULL_REQUEST": "false",
    "BUILDKITE_REPO": "git@github.com:shop/orders.git",
    "BUILDKITE_RETRY_COUNT": "0",
}
BUILDKITE_PR = {
    **BUILDKITE,
    "BUILDKITE_BRANCH": "feature/x",
    "BUILDKITE_PULL_REQUEST": "42",
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "main",
    "BUILDKITE_PULL_REQUEST_REPO": "git://github.com/Shop/orders.git",
    "BUILDKITE_PULL_REQUEST_LABELS": "preview,backend",
}
OTHER = {"CI": "1"}

# Detection: (variables, system).
SIGNS: list[tuple[str, Env, System]] = [
    ("nothing", {}, System.LOCAL),
    ("CI is false", {"CI": "false"}, System.LOCAL),
    ("CI alone", {"CI": "true"}, System.OTHER),
    ("CI=1", OTHER, System.OTHER),
    ("GitHub", {"GITHUB_ACTIONS": "true", "CI": "true"}, System.GITHUB),
    ("a variable of GitHub's alone", {"GITHUB_TOKEN": "x"}, System.LOCAL),
    ("GitLab", GITLAB, System.GITLAB),
    ("CircleCI", CIRCLECI, System.CIRCLECI),
    ("Jenkins", JENKINS, System.JENKINS),
    (
        "Jenkins without its address",
        {"BUILD_TAG": "jenkins-x-1", "BUILD_NUMBER": "1"},
        System.JENKINS,
    ),
    ("somebody's BUILD_TAG", {"BUILD_TAG": "v1", "BUILD_NUMBER": "1", "CI": "true"}, System.OTHER),
    ("Bitbucket", BITBUCKET, System.BITBUCKET),
    ("Azure", AZURE, System.AZURE),
    ("CodeBuild", CODEBUILD, System.CODEBUILD),
    ("CodePipeline", CODEPIPELINE, System.CODEBUILD),
    ("Buildkite", BUILDKITE, System.BUILDKITE),
    ("GitHub's runner on CodeBuild", {**CODEBUILD, "GITHUB_ACTIONS": "true"}, System.GITHUB),
    ("GitLab's runner on CodeBuild", {**CODEBUILD, **GITLAB}, System.GITLAB),
    ("Buildkite's agent on CodeBuild", {**CODEBUILD, **BUILDKITE}, System.BUILDKITE),
]


@pytest.mark.parametrize(("env", "system"), [s[1:] for s in SIGNS], ids=[s[0] for s in SIGNS])
def test_each_system_is_known_by_its_documented_sign(env: Env, system: System) -> None:
    assert detect(env) is system


def ref(event: str, *, branch: str | None = None, tag: str | None = None) -> dict[str, Any]:
    """What is expected of something that happened to a ref."""
    return {"event": event, "branch": branch, "tag": tag, "pull": None, "trusted": True}


def pull(*, trusted: bool = True, base_sha: str = "", **more: Any) -> dict[str, Any]:
    """What is expected of pull request 42, from feature/x into main."""
    return {
        "event": "pull_request",
        "branch": None,
        "tag": None,
        "commit": SHA,
        "pull": (42, "feature/x", "main", base_sha, not trusted),
        "trusted": trusted,
        **more,
    }


# What happened: (variables, what is expected of the context).
EVENTS: list[tuple[str, Env, dict[str, Any]]] = [
    # GitLab
    (
        "gitlab push",
        GITLAB_BRANCH,
        ref("push", branch="main")
        | {
            "commit": SHA,
            "actor": "ada",
            "default_branch": "main",
            "repository_url": "https://gitlab.example/shop/back/orders",
            "run": RunOrder(id=1500),
            "run_url": "https://gitlab.example/shop/back/orders/-/pipelines/1500",
        },
    ),
    (
        "gitlab web IDE",
        {**GITLAB_BRANCH, "CI_PIPELINE_SOURCE": "webide"},
        ref("push", branch="main"),
    ),
    ("gitlab tag", {**GITLAB, "CI_COMMIT_TAG": "v1.2"}, ref("push", tag="v1.2")),
    (
        "gitlab schedule",
        {**GITLAB_BRANCH, "CI_PIPELINE_SOURCE": "schedule"},
        ref("schedule", branch="main"),
    ),
    (
        "gitlab by hand",
        {**GITLAB_BRANCH, "CI_PIPELINE_SOURCE": "web"},
        ref("workflow_dispatch", branch="main"),
    ),
    (
        "gitlab API",
        {**GITLAB_BRANCH, "CI_PIPELINE_SOURCE": "api"},
        ref("repository_dispatch", branch="main"),
    ),
    (
        "gitlab child pipeline",
        {**GITLAB_BRANCH, "CI_PIPELINE_SOURCE": "parent_pipeline"},
        ref("repository_dispatch", branch="main"),
    ),
    (
        "gitlab mirror's pull request",
        {**GITLAB_BRANCH, "CI_PIPELINE_SOURCE": "external_pull_request_event"},
        ref("", branch="main"),
    ),
    (
        "gitlab merge request",
        GITLAB_MR,
        pull(base_sha=BASE, labels=("preview", "backend"), attempts_told=False),
    ),
    (
        "gitlab merge request in a child pipeline",
        {**GITLAB_MR, "CI_PIPELINE_SOURCE": "parent_pipeline"},
        pull(base_sha=BASE),
    ),
    (
        "gitlab merged results",
        {
            **GITLAB_MR,
            "CI_MERGE_REQUEST_EVENT_TYPE": "merged_result",
            "CI_COMMIT_SHA": MERGE,
            "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": SHA,
            "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": MERGE,
        },
        pull(base_sha=MERGE),
    ),
    (
        "gitlab merge train",
        {**GITLAB_MR, "CI_MERGE_REQUEST_EVENT_TYPE": "merge_train"},
        {"event": "merge_group", "pull": None, "trusted": True, "commit": SHA},
    ),
    (
        "gitlab merge train of a fork",
        {
            **GITLAB_MR,
            "CI_MERGE_REQUEST_EVENT_TYPE": "merge_train",
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "8",
        },
        {"event": "merge_group", "pull": None, "trusted": False},
    ),
    (
        "gitlab fork",
        {
            **GITLAB_MR,
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "8",
            "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "mallory/orders",
        },
        pull(base_sha=BASE, trusted=False, trust="the fork mallory/orders"),
    ),
    (
        "gitlab fork that was deleted",
        {k: v for k, v in GITLAB_MR.items() if "SOURCE_PROJECT" not in k},
        pull(base_sha=BASE, trusted=False, trust="from a fork"),
    ),
    (
        "gitlab environment to stop",
        {**GITLAB_MR, "CI_ENVIRONMENT_ACTION": "stop", "CI_ENVIRONMENT_NAME": "pr-42"},
        pull(base_sha=BASE, action="closed", open=False, environment="pr-42"),
    ),
    (
        "gitlab environment to start",
        {**GITLAB_MR, "CI_ENVIRONMENT_ACTION": "start"},
        pull(base_sha=BASE, action="", open=True),
    ),
    (
        "gitlab draft",
        {**GITLAB_MR, "CI_MERGE_REQUEST_DRAFT": "true"},
        pull(base_sha=BASE, draft=True),
    ),
    # CircleCI
    (
        "circleci push",
        CIRCLECI,
        ref("push", branch="feature/x")
        | {
            "repository": "shop/orders",
            "run": RunOrder(id=311),
            "run_url": "https://circleci.com/gh/shop/orders/311",
            "default_branch": None,
        },
    ),
    (
        "circleci tag",
        {**{k: v for k, v in CIRCLECI.items() if k != "CIRCLE_BRANCH"}, "CIRCLE_TAG": "v1"},
        ref("push", tag="v1"),
    ),
    (
        "circleci schedule, told by the orb",
        {**CIRCLECI, "CHALICE_CI_EVENT": "schedule", "CHALICE_CI_DEFAULT_BRANCH": "main"},
        ref("schedule", branch="feature/x") | {"default_branch": "main"},
    ),
    (
        "circleci pull request",
        {**CIRCLECI_PR, "CHALICE_CI_BASE_BRANCH": "main"},
        pull(),
    ),
    (
        "circleci pull request into the default branch",
        {**CIRCLECI_PR, "CHALICE_CI_DEFAULT_BRANCH": "main", "CHALICE_CI_BASE_COMMIT": BASE},
        pull(base_sha=BASE),
    ),
    (
        "circleci pull request of Bitbucket",
        {
            **CIRCLECI_PR,
            "CIRCLE_PULL_REQUEST": "https://bitbucket.org/shop/orders/pull-requests/42",
            "CHALICE_CI_BASE_BRANCH": "main",
        },
        pull(),
    ),
    (
        "circleci fork",
        {
            **CIRCLECI_PR,
            "CIRCLE_PR_NUMBER": "42",
            "CIRCLE_PR_USERNAME": "mallory",
            "CIRCLE_PR_REPONAME": "orders",
            "CHALICE_CI_BASE_BRANCH": "main",
        },
        pull(trusted=False, trust="the fork mallory/orders"),
    ),
    (
        "circleci fork that somebody denies",
        {
            **CIRCLECI_PR,
            "CIRCLE_PR_NUMBER": "42",
            "CHALICE_CI_BASE_BRANCH": "main",
            "CHALICE_CI_FORK": "false",
        },
        pull(trusted=False),
    ),
    (
        "circleci integration that does not tell forks",
        {**CIRCLECI_APP, "CHALICE_CI_BASE_BRANCH": "main"},
        pull(trusted=False, trust="does not tell whether"),
    ),
    (
        "circleci integration whose forks are not built",
        {**CIRCLECI_APP, "CHALICE_CI_BASE_BRANCH": "main", "CHALICE_CI_FORK": "false"},
        pull(),
    ),
    # Jenkins
    (
        "jenkins branch",
        JENKINS,
        ref("push", branch="main")
        | {
            "default_branch": "main",
            "run": RunOrder(id=17),
            "run_url": "https://ci.example/job/orders/job/main/17/",
        },
    ),
    (
        "jenkins other branch",
        {**JENKINS, "BRANCH_NAME": "feature/x", "BRANCH_IS_PRIMARY": ""},
        ref("push", branch="feature/x") | {"default_branch": None},
    ),
    (
        "jenkins tag",
        {**JENKINS, "BRANCH_NAME": "v1", "TAG_NAME": "v1", "BRANCH_IS_PRIMARY": ""},
        ref("push", tag="v1"),
    ),
    (
        "jenkins timer, told by the library",
        {**JENKINS, "CHALICE_CI_EVENT": "schedule"},
        ref("schedule", branch="main"),
    ),
    (
        "jenkins by hand, told by the library",
        {**JENKINS, "CHALICE_CI_EVENT": "workflow_dispatch"},
        ref("workflow_dispatch", branch="main"),
    ),
    (
        "jenkins job of one branch",
        {
            **{k: v for k, v in JENKINS.items() if not k.startswith("BRANCH_")},
            "GIT_BRANCH": "origin/main",
        },
        ref("push", branch="main"),
    ),
    ("jenkins pull request", JENKINS_PR, pull(author="ada")),
    (
        "jenkins fork",
        {**JENKINS_PR, "CHANGE_FORK": "mallory/orders"},
        pull(trusted=False, trust="the fork mallory/orders"),
    ),
    (
        "jenkins source that does not tell forks",
        {**JENKINS_PR, "CHANGE_BRANCH": "", "CHALICE_CI_BRANCH": "feature/x"},
        pull(trusted=False, trust="does not tell whether"),
    ),
    # Bitbucket
    (
        "bitbucket branch",
        BITBUCKET,
        ref("push", branch="main")
        | {
            "repository": "shop/orders",
            "run": RunOrder(id=88),
            "run_url": "https://bitbucket.org/shop/orders/pipelines/results/88",
        },
    ),
    (
        "bitbucket tag",
        {**{k: v for k, v in BITBUCKET.items() if k != "BITBUCKET_BRANCH"}, "BITBUCKET_TAG": "v1"},
        ref("push", tag="v1"),
    ),
    (
        "bitbucket schedule, told by the pipe",
        {**BITBUCKET, "CHALICE_CI_EVENT": "schedule"},
        ref("schedule", branch="main"),
    ),
    ("bitbucket pull request", BITBUCKET_PR, pull(base_sha=BASE)),
    (
        "bitbucket short base",
        {**BITBUCKET_PR, "BITBUCKET_PR_DESTINATION_COMMIT": BASE[:12]},
        pull(base_sha=""),
    ),
    # Azure
    (
        "azure push",
        AZURE,
        ref("push", branch="main")
        | {
            "actor": "Ada Lovelace",
            "run": RunOrder(id=904),
            "run_url": "https://dev.azure.com/shop/Back%20end/_build/results?buildId=904",
        },
    ),
    ("azure batch", {**AZURE, "BUILD_REASON": "BatchedCI"}, ref("push", branch="main")),
    ("azure tag", {**AZURE, "BUILD_SOURCEBRANCH": "refs/tags/v1"}, ref("push", tag="v1")),
    ("azure schedule", {**AZURE, "BUILD_REASON": "Schedule"}, ref("schedule", branch="main")),
    (
        "azure by hand",
        {**AZURE, "BUILD_REASON": "Manual"},
        ref("workflow_dispatch", branch="main"),
    ),
    (
        "azure other pipeline",
        {**AZURE, "BUILD_REASON": "ResourceTrigger"},
        ref("repository_dispatch", branch="main"),
    ),
    (
        "azure second attempt",
        {**AZURE, "SYSTEM_JOBATTEMPT": "2"},
        ref("push", branch="main") | {"run": RunOrder(id=904, attempt=2)},
    ),
    ("azure reason of old", {**AZURE, "BUILD_REASON": "ValidateShelveset"}, {"event": ""}),
    ("azure pull request", AZURE_PR, pull()),
    (
        "azure pull request of GitHub",
        {
            **AZURE_PR,
            "SYSTEM_PULLREQUEST_PULLREQUESTID": "990017",
            "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER": "42",
            "SYSTEM_PULLREQUEST_TARGETBRANCH": "main",
        },
        pull(),
    ),
    (
        "azure fork",
        {**AZURE_PR, "SYSTEM_PULLREQUEST_ISFORK": "True"},
        pull(trusted=False, trust="a fork"),
    ),
    (
        "azure server that does not tell forks",
        {k: v for k, v in AZURE_PR.items() if not k.endswith("ISFORK")},
        pull(trusted=False, trust="does not tell whether"),
    ),
    # CodeBuild
    (
        "codebuild push",
        CODEBUILD,
        ref("push", branch="main") | {"commit": SHA, "run": RunOrder(id=61)},
    ),
    (
        "codebuild tag",
        {**CODEBUILD, "CODEBUILD_WEBHOOK_TRIGGER": "tag/v1"},
        ref("push", tag="v1"),
    ),
    (
        "codebuild pull request",
        CODEBUILD_PR,
        pull(trusted=False, trust="does not tell whether", action="synchronize"),
    ),
    (
        "codebuild pull request behind a filter",
        {**CODEBUILD_PR, "CHALICE_CI_FORK": "false"},
        pull(),
    ),
    (
        "codebuild closed",
        {
            **CODEBUILD_PR,
            "CHALICE_CI_FORK": "false",
            "CODEBUILD_WEBHOOK_EVENT": "PULL_REQUEST_CLOSED",
        },
        pull(action="closed", open=False, merged=False),
    ),
    (
        "codebuild merged",
        {
            **CODEBUILD_PR,
            "CHALICE_CI_FORK": "false",
            "CODEBUILD_WEBHOOK_EVENT": "PULL_REQUEST_MERGED",
        },
        pull(action="closed", open=False, merged=True),
    ),
    (
        "codebuild by hand",
        {k: v for k, v in CODEBUILD.items() if "WEBHOOK" not in k},
        ref(""),
    ),
    (
        "codebuild source in S3",
        {**CODEBUILD, "CODEBUILD_RESOLVED_SOURCE_VERSION": "arn:aws:s3:::sources/orders.zip"},
        {"commit": CHECKOUT.commit},
    ),
    ("codepipeline", CODEPIPELINE, ref("")),
    (
        "codepipeline that tells",
        {
            **CODEPIPELINE,
            "CHALICE_CI_EVENT": "push",
            "CHALICE_CI_BRANCH": "main",
            "CHALICE_CI_DEFAULT_BRANCH": "main",
            "CHALICE_CI_RUN": "5f1f4c1e-9d4b-4d26-8f0d-5c0a8f4b7f11",
        },
        ref("push", branch="main") | {"default_branch": "main"},
    ),
    # Buildkite
    (
        "buildkite push",
        BUILDKITE,
        ref("push", branch="main")
        | {
            "default_branch": "main",
            "run": RunOrder(id=1514),
            "run_url": "https://buildkite.com/shop/orders/builds/1514",
        },
    ),
    (
        "buildkite tag",
        {**BUILDKITE, "BUILDKITE_BRANCH": "v1", "BUILDKITE_TAG": "v1"},
        ref("push", tag="v1"),
    ),
    (
        "buildkite schedule",
        {**BUILDKITE, "BUILDKITE_SOURCE": "schedule"},
        ref("schedule", branch="main"),
    ),
    (
        "buildkite by hand",
        {**BUILDKITE, "BUILDKITE_SOURCE": "ui", "BUILDKITE_COMMIT": "HEAD"},
        ref("workflow_dispatch", branch="main") | {"commit": CHECKOUT.commit},
    ),
    (
        "buildkite retry",
        {**BUILDKITE, "BUILDKITE_RETRY_COUNT": "2"},
        ref("push", branch="main") | {"run": RunOrder(id=1514, attempt=3)},
    ),
    ("buildkite pull request", BUILDKITE_PR, pull(labels=("preview", "backend"))),
    (
        "buildkite fork",
        {**BUILDKITE_PR, "BUILDKITE_PULL_REQUEST_REPO": "git://github.com/mallory/orders.git"},
        pull(trusted=False, trust="the fork github.com/mallory/orders"),
    ),
    (
        "buildkite fork by its branch",
        {**BUILDKITE_PR, "BUILDKITE_BRANCH": "mallory:feature/x"},
        pull(trusted=False),
    ),
    (
        "buildkite that does not tell the head",
        {**BUILDKITE_PR, "BUILDKITE_PULL_REQUEST_REPO": ""},
        pull(trusted=False, trust="does not tell whether"),
    ),
    # Others
    ("another system", OTHER, ref("") | {"commit": CHECKOUT.commit}),
    (
        "another system that tells",
        {**OTHER, "CHALICE_CI_EVENT": "push", "CHALICE_CI_BRANCH": "refs/heads/main"},
        ref("push", branch="main"),
    ),
    (
        "another system's pull request",
        {
            **OTHER,
            "CHALICE_CI_PULL_REQUEST": "42",
            "CHALICE_CI_BRANCH": "feature/x",
            "CHALICE_CI_BASE_BRANCH": "main",
            "CHALICE_CI_COMMIT": SHA,
        },
        pull(trusted=False),
    ),
]


def seen(context: Context, name: str) -> object:
    """A field of the context or of its pull request; `pull` is what the tables spell out."""
    found = context.pull_request
    if name == "pull":
        return found and (
            found.number,
            found.head_branch,
            found.base_branch,
            found.base_sha,
            found.fork,
        )
    return getattr(context, name) if hasattr(context, name) else getattr(found, name)


@pytest.mark.parametrize(("env", "expected"), [e[1:] for e in EVENTS], ids=[e[0] for e in EVENTS])
def test_what_a_system_says_comes_to_the_same_words_everywhere(
    env: Env, expected: dict[str, Any]
) -> None:
    context = read_context(env, checkout=CHECKOUT)
    assert context.system is detect(env)
    for name, value in expected.items():
        if name == "trust":
            assert value in context.trust
        else:
            assert seen(context, name) == value, name
    assert context.trusted or "nothing is done in AWS" in context.trust


@pytest.mark.parametrize(
    ("env", "variable", "value"),
    [
        (GITLAB_MR, "CI_MERGE_REQUEST_IID", "42; rm"),
        (GITLAB_MR, "CI_MERGE_REQUEST_PROJECT_ID", "x"),
        (GITLAB_MR, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "a b"),
        (GITLAB_MR, "CI_MERGE_REQUEST_DIFF_BASE_SHA", "main"),
        (GITLAB_MR, "CI_MERGE_REQUEST_LABELS", "a\nb"),
        (GITLAB_MR, "CI_COMMIT_SHA", "HEAD"),
        (GITLAB_MR, "CI_PROJECT_PATH", "../../x"),
        (GITLAB_MR, "CI_SERVER_URL", "javascript:alert(1)"),
        (GITLAB_MR, "CI_PIPELINE_URL", "https://x/ [click](https://evil)"),
        (GITLAB_MR, "CI_PIPELINE_ID", "-1"),
        (CIRCLECI_PR, "CIRCLE_PULL_REQUEST", "https://github.com/shop/orders/issues/1"),
        (CIRCLECI_PR, "CIRCLE_SHA1", "x"),
        (CIRCLECI_PR, "CIRCLE_BRANCH", "a..b"),
        (CIRCLECI_PR, "CIRCLE_WORKFLOW_ID", "a b"),
        (JENKINS_PR, "CHANGE_ID", "PR-1"),
        (JENKINS_PR, "CHANGE_TARGET", "-\n"),
        (JENKINS_PR, "CHANGE_FORK", "a\nb"),
        (JENKINS, "GIT_BRANCH", "a b"),
        (BITBUCKET_PR, "BITBUCKET_PR_ID", "{1}"),
        (BITBUCKET_PR, "BITBUCKET_REPO_FULL_NAME", "shop"),
        (BITBUCKET_PR, "BITBUCKET_PR_DESTINATION_COMMIT", "main"),
        (AZURE_PR, "BUILD_SOURCEBRANCH", "refs/heads/a b"),
        (AZURE_PR, "SYSTEM_PULLREQUEST_ISFORK", "maybe"),
        (AZURE_PR, "SYSTEM_COLLECTIONURI", "ftp://x"),
        (CODEBUILD_PR, "CODEBUILD_WEBHOOK_TRIGGER", "pr/x"),
        (CODEBUILD_PR, "CODEBUILD_WEBHOOK_TRIGGER", "branch/a b"),
        (CODEBUILD_PR, "CODEBUILD_WEBHOOK_TRIGGER", "commit/1"),
        (CODEBUILD_PR, "CODEBUILD_BUILD_NUMBER", "one"),
        (BUILDKITE_PR, "BUILDKITE_PULL_REQUEST", "true"),
        (BUILDKITE_PR, "BUILDKITE_BRANCH", "a..b"),
        (BUILDKITE_PR, "BUILDKITE_REPO", "a b"),
        (OTHER, "CHALICE_CI_EVENT", "release"),
        (OTHER, "CHALICE_CI_FORK", "no"),
        (OTHER, "CHALICE_CI_COMMIT", "main"),
        (OTHER, "CHALICE_CI_RUN_URL", "file:///etc/passwd"),
    ],
)
def test_a_variable_of_another_form_is_named(env: Env, variable: str, value: str) -> None:
    changed = {**env, variable: value}
    if variable == "GIT_BRANCH":
        changed.pop("BRANCH_NAME")
    with pytest.raises(UsageError) as caught:
        read_context(changed, checkout=CHECKOUT)
    assert caught.value.where == f"variable {variable}"
    assert caught.value.fix
    assert "\n" not in caught.value.what


@pytest.mark.parametrize(
    ("env", "variable"),
    [
        (CIRCLECI_PR, "CHALICE_CI_BASE_BRANCH"),
        ({**OTHER, "CHALICE_CI_PULL_REQUEST": "42"}, "CHALICE_CI_COMMIT"),
    ],
)
def test_a_pull_request_without_its_base_or_commit_asks_for_the_variable(
    env: Env, variable: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_context(env)
    assert caught.value.where == f"variable {variable}"
    assert variable in caught.value.fix


@pytest.mark.parametrize(
    ("plans", "deploys", "same"),
    [
        (GITLAB_BRANCH, {**GITLAB_BRANCH, "CI_JOB_ID": "9"}, True),
        (GITLAB_BRANCH, {**GITLAB_BRANCH, "CI_PIPELINE_ID": "1501"}, False),
        (CIRCLECI, {**CIRCLECI, "CIRCLE_BUILD_NUM": "312"}, True),
        (CIRCLECI, {**CIRCLECI, "CIRCLE_WORKFLOW_ID": "another"}, False),
        (JENKINS, JENKINS, True),
        (JENKINS, {**JENKINS, "BUILD_TAG": "jenkins-orders-main-18"}, False),
        (BITBUCKET, BITBUCKET, True),
        (BITBUCKET, {**BITBUCKET, "BITBUCKET_PIPELINE_UUID": "{0}"}, False),
        (AZURE, {**AZURE, "SYSTEM_JOBATTEMPT": "2"}, True),
        ({**AZURE, "SYSTEM_JOBATTEMPT": "2"}, AZURE, True),
        (AZURE, {**AZURE, "BUILD_BUILDID": "905"}, False),
        (AZURE, {**AZURE, "SYSTEM_COLLECTIONURI": "https://dev.azure.com/other/"}, False),
        (CODEBUILD, {**CODEBUILD, "CODEBUILD_BUILD_ID": "deploy:1"}, False),
        ({**CODEPIPELINE, "CHALICE_CI_RUN": "e1"}, {**CODEPIPELINE, "CHALICE_CI_RUN": "e1"}, True),
        ({**CODEPIPELINE, "CHALICE_CI_RUN": "e1"}, {**CODEPIPELINE, "CHALICE_CI_RUN": "e2"}, False),
        (BUILDKITE, {**BUILDKITE, "BUILDKITE_RETRY_COUNT": "1"}, True),
        (BUILDKITE, {**BUILDKITE, "BUILDKITE_BUILD_ID": "another"}, False),
        ({**OTHER, "CHALICE_CI_RUN": "7"}, {**OTHER, "CHALICE_CI_RUN": "7"}, True),
    ],
)
def test_a_plan_belongs_to_the_run_that_its_jobs_are_of(
    plans: Env, deploys: Env, same: bool
) -> None:
    made, now = (run_identity(read_context(env)) for env in (plans, deploys))
    assert UNKNOWN_RUN not in (made, now)
    assert (made == now) is same


def test_a_run_that_nobody_names_is_equal_to_nothing() -> None:
    assert run_identity(read_context(OTHER)) == UNKNOWN_RUN
    assert run_identity(read_context({"GITLAB_CI": "true"})) == UNKNOWN_RUN
    assert run_identity(read_context({})) == ""


ALL = (GITLAB_MR, CIRCLECI_PR, JENKINS_PR, BITBUCKET_PR, AZURE_PR, CODEBUILD_PR, BUILDKITE_PR)
ODD = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "../x", "a\r\nb", "\ud800", "refs/heads/x", "x" * 9999, "${{ x }}", "-rf", "9" * 400]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_variables_end_in_anything_but_a_context_or_an_error_with_a_way_out(
    data: st.DataObject,
) -> None:
    env = dict(data.draw(st.sampled_from(ALL)))
    for name in data.draw(st.lists(st.sampled_from(sorted(env)), min_size=1, max_size=3)):
        env[name] = data.draw(ODD)
    context = tried(lambda: read_context(env, checkout=CHECKOUT))
    if isinstance(context, UsageError):
        assert context.where.startswith("variable ")
        assert context.fix
        assert str(context).replace("\n", "").isprintable()
        return
    pull = context.pull_request
    texts = [context.branch, context.tag, context.repository, context.actor, context.run_url]
    if pull is not None:
        texts += [pull.head_branch, pull.base_branch, pull.source, pull.author, *pull.labels]
        assert pull.fork or context.trusted
    for text in texts:
        assert text is None or "\n" not in text
        (text or "").encode()
