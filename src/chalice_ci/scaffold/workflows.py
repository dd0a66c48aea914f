"""The workflows for a repository on GitHub, made from the examples that are tested and linted.

The files beside this module are those of `workflows-examples/`; `make docs` copies them and a test
holds them equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

from chalice_ci.scaffold.identity import PLAN_ROLE, PREVIEW_ROLE, ROLE
from chalice_ci.scaffold.role import role_name
from chalice_ci.scaffold.setting import Setting, environment_of

SOURCES = ("minimal", "previews", "gated-production")
EXAMPLE_ROLE = re.compile(r"arn:aws:iam::123456789012:role/(?P<name>[a-z-]+)")
_HEAD = re.compile(r"\A(?:#.*\n)+")
_VARIABLES = {
    ROLE: "CHALICE_DEPLOY_ROLE",
    PLAN_ROLE: "CHALICE_PLAN_ROLE",
    PREVIEW_ROLE: "CHALICE_PREVIEW_ROLE",
}


def workflows(setting: Setting) -> Mapping[str, str]:
    """The files by their path in the repository."""
    return dict(_files(setting))


def variables(setting: Setting) -> tuple[str, ...]:
    """The variables that the repository has to have on GitHub: what is not known here."""
    text = "".join(workflows(setting).values())
    return tuple(sorted(set(re.findall(r"vars\.([A-Z_]+)", text))))


def _files(setting: Setting) -> Iterator[tuple[str, str]]:
    yield ".github/workflows/chalice.yml", _minimal(setting)
    if setting.previews:
        text = _placed(_source("previews"), setting)
        about = "# Checks every pull request and, while it is open, keeps a preview of it in AWS."
        yield ".github/workflows/chalice-previews.yml", _headed(text, about)
    for stage in setting.gated:
        text = _placed(_source("gated-production"), setting)
        environment = environment_of(stage)
        text = replaced(text, "environment: production\n", f"environment: {environment}\n")
        text = replaced(text, "stage: prod\n", f"stage: {stage}\n")
        text = replaced(text, "name: production-plan\n", f"name: {stage}-plan\n")
        text = replaced(text, "name: Chalice production\n", f"name: Chalice {stage}\n")
        text = replaced(text, "group: chalice-production\n", f"group: chalice-{stage}\n")
        about = (
            f"# Plans {stage} for a version tag; a person approves, and exactly that plan is "
            f"applied.\n# The repository needs an environment `{environment}` with required "
            "reviewers."
        )
        yield f".github/workflows/chalice-{stage}.yml", _headed(text, about)


def _minimal(setting: Setting) -> str:
    text = _placed(_source("minimal"), setting)
    if setting.previews:
        # Pull requests are the other workflow's.
        text = replaced(text, "  pull_request:\n", "")
        begin, end = text.index("  check:\n"), text.index("  deploy:\n")
        text = text[:begin] + text[end:]
        text = replaced(text, "    if: github.event_name != 'pull_request'\n", "")
        about = f"# Deploys what reaches {setting.branch}."
    else:
        about = f"# Checks pull requests and deploys what reaches {setting.branch}."
    # In a pattern of GitHub's these two are more than letters.
    pattern = re.sub(r"([+!])", r"\\\1", setting.branch)
    branch = "[main]" if pattern == "main" else f"[{json.dumps(pattern, ensure_ascii=False)}]"
    return _headed(replaced(text, "branches: [main]", f"branches: {branch}"), about)


def _placed(text: str, setting: Setting) -> str:
    """The text with this repository's roles and region; what is not known is a variable."""

    def role(match: re.Match[str]) -> str:
        if setting.account:
            return f"arn:aws:iam::{setting.account}:role/{role_name(setting, match['name'])}"
        return f"${{{{ vars.{_VARIABLES[match['name']]} }}}}"

    text = EXAMPLE_ROLE.sub(role, text)
    region = setting.region or "${{ vars.AWS_REGION }}"
    return replaced(text, "aws-region: eu-west-1", f"aws-region: {region}")


def _headed(text: str, about: str) -> str:
    return f"{about}\n{_HEAD.sub('', text)}"


def _source(name: str) -> str:
    return (files("chalice_ci.scaffold") / f"{name}.yml").read_text(encoding="utf-8")


def replaced(text: str, old: str, new: str) -> str:
    """Replace what an example has; KeyError when it has that no more."""
    if old not in text:
        raise KeyError(old)
    return text.replace(old, new)
