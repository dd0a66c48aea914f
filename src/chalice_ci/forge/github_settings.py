"""A repository's settings through GitHub's REST API: what `doctor` looks at.

Rules and environments are shown to every token that may read the repository, the older branch
protection and the settings of Actions only to one with `administration: read`, which a workflow's
own token never has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from chalice_ci.forge.github import GitHubApi, Operation
from chalice_ci.forge.port import NotFound, NotPermitted, checked_environment
from chalice_ci.forge.settings import Branch, Environment

_ADMINISTRATION = "administration: read"


class GitHubSettings:
    """The settings of the repository behind an API."""

    def __init__(self, api: GitHubApi) -> None:
        self._api = api

    @property
    def name(self) -> str:
        """The repository."""
        return self._api.repository

    def environment(self, name: str) -> Environment | None:
        """An environment with its protection rules."""
        place = quote(checked_environment(name), safe="")
        found = self._get(f"environments/{place}", f"read environment {name}", "actions: read")
        if found is None:
            return None
        reviews = [
            rule
            for rule in found.get("protection_rules") or ()
            if rule.get("type") == "required_reviewers"
        ]
        return Environment(
            name=name,
            reviewers=sum(len(rule.get("reviewers") or ()) for rule in reviews),
            self_review_prevented=any(rule.get("prevent_self_review") is True for rule in reviews),
            branches_restricted=found.get("deployment_branch_policy") is not None,
        )

    def branch(self, name: str) -> Branch | None:
        """A branch with what rules and branch protection say of it."""
        place = quote(name, safe="")
        about = self._get(f"branches/{place}", f"read branch {name}", "contents: read")
        if about is None:
            return None
        rules = self._get(f"rules/branches/{place}", f"read the rules of {name}", "contents: read")
        kinds = {str(rule["type"]): rule.get("parameters") or {} for rule in rules or ()}
        classic: Mapping[str, Any] = {}
        complete = True
        if about.get("protected"):
            try:
                protection = f"branches/{place}/protection"
                doing = f"read the protection of {name}"
                classic = self._get(protection, doing, _ADMINISTRATION) or {}
            except NotPermitted:
                complete = bool(kinds)
        wanted = classic.get("required_pull_request_reviews") or {}
        reviews = (
            _count(kinds.get("pull_request", {}).get("required_approving_review_count")),
            _count(wanted.get("required_approving_review_count")),
        )
        return Branch(
            name=name,
            reviews=max(reviews),
            deletion_blocked="deletion" in kinds or _off(classic, "allow_deletions"),
            force_push_blocked="non_fast_forward" in kinds or _off(classic, "allow_force_pushes"),
            complete=complete,
        )

    def jobs_may_write(self) -> bool:
        """The default permissions of GITHUB_TOKEN."""
        doing = "read the default permissions of workflows"
        found = self._get("actions/permissions/workflow", doing, _ADMINISTRATION) or {}
        return found.get("default_workflow_permissions") == "write"

    def _get(self, path: str, doing: str, permission: str) -> Any:
        """The document at a path of the repository; None when GitHub has nothing there."""

        def ask() -> Any:
            url = f"/repos/{self._api.repository}/{path}"
            _, found = self._api.requester.requestJsonAndCheck("GET", url)
            if not isinstance(found, dict | list):
                raise TypeError("no document")
            return found

        try:
            return self._api.call(Operation(doing=doing, permission=permission), ask)
        except NotFound:
            return None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _off(classic: Mapping[str, Any], switch: str) -> bool:
    """Whether branch protection is there and does not allow something."""
    return bool(classic) and (classic.get(switch) or {}).get("enabled") is not True
