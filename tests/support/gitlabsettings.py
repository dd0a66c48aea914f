"""Settings of a project on the offline GitLab, as GitLab shows them, and the adapter that reads."""

from __future__ import annotations

from typing import Any

from chalice_ci.forge.gitlab_api import GitLabApi
from chalice_ci.forge.gitlab_settings import GitLabSettings
from chalice_ci.forge.retry import Retry
from offline_gitlab.server import PATH, PROJECT, TOKEN, OfflineGitLab

NO_ONE: dict[str, Any] = {"access_level": 0, "access_level_description": "No one"}
DEVELOPERS: dict[str, Any] = {
    "access_level": 30,
    "access_level_description": "Developers + Maintainers",
    "user_id": None,
    "group_id": None,
}
MAINTAINERS: dict[str, Any] = {
    "access_level": 40,
    "access_level_description": "Maintainers",
    "user_id": None,
    "group_id": None,
}


def protected_branch(name: str, **changes: Any) -> dict[str, Any]:
    """A protected branch to which nobody pushes but through a merge request."""
    return {
        "id": 1,
        "name": name,
        "push_access_levels": [NO_ONE],
        "merge_access_levels": [MAINTAINERS],
        "allow_force_push": False,
        "code_owner_approval_required": False,
        "inherited": False,
        **changes,
    }


def protected_environment(name: str, **changes: Any) -> dict[str, Any]:
    """An environment to which Maintainers deploy, with one approval."""
    rule = {"id": 2, **MAINTAINERS, "required_approvals": 1}
    return {
        "name": name,
        "deploy_access_levels": [MAINTAINERS],
        "required_approval_count": 0,
        "approval_rules": [rule],
        **changes,
    }


def gitlab_settings_of(gitlab: OfflineGitLab) -> GitLabSettings:
    """The adapter, which does not wait between its attempts."""
    retry = Retry(sleep=lambda seconds: None, jitter=lambda: 0.0)
    api = GitLabApi(str(PROJECT), name=PATH, api_url=gitlab.api_url, token=TOKEN, retry=retry)
    return GitLabSettings(api)
