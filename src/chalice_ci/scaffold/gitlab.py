"""The pipeline for a project on GitLab: it includes the component of `plugins/gitlab`.

The file beside this module is that folder's example; `make docs` copies it and a test holds them
equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files

from chalice_ci.scaffold.identity import PREVIEW_ROLE
from chalice_ci.scaffold.role import role_name
from chalice_ci.scaffold.setting import Setting, environment_of
from chalice_ci.scaffold.workflows import replaced

PIPELINE = ".gitlab-ci.yml"
INCLUDED = ".gitlab/chalice.gitlab-ci.yml"
"""Where it goes when the project has a pipeline of its own, which has to include it then."""
_INPUTS = "      apply: prod\n      environment: production\n"


def pipeline(setting: Setting) -> str:
    """The whole text for a project without a pipeline."""
    text = (files("chalice_ci.scaffold") / "gitlab-ci.yml").read_text(encoding="utf-8")
    text = replaced(text, _INPUTS, "".join(f"      {line}\n" for line in _inputs(setting)))
    about = f"# Checks merge requests and deploys what reaches {setting.branch}.\n"
    return about + text.partition("\n")[2]


def part(setting: Setting) -> str:
    """The text without what only the project's own pipeline may say."""
    return pipeline(setting).partition("\nworkflow:")[0]


def includes(text: str) -> bool:
    """Whether a pipeline has the component, or the file that includes it."""
    return "/chalice@" in text or INCLUDED in text


def _inputs(setting: Setting) -> Iterator[str]:
    yield f"preview: {'true' if setting.previews else 'false'}"
    if setting.previews and setting.account:
        role = role_name(setting, PREVIEW_ROLE)
        yield f"preview-role: arn:aws:iam::{setting.account}:role/{role}"
    # One stage is applied by hand: the first that is for production.
    for stage in setting.gated[:1]:
        yield f"apply: {stage}"
        yield f"environment: {environment_of(stage)}"


def left_open(setting: Setting) -> Mapping[str, str]:
    """The variables that the project has to have on GitLab, each with what it is."""
    found = {"GITLAB_TOKEN": "a project access token, role Developer, scope api: for the note"}
    if not setting.account:
        found["CHALICE_CI_ROLE_TO_ASSUME"] = "the ARN of the deploy role"
    if not setting.region:
        found["AWS_DEFAULT_REGION"] = "the region"
    return found
