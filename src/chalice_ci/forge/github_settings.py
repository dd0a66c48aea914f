"""A repository's settings through GitHub's REST API: what `doctor` looks at.

Rules and environments are shown to every token that may read the repository, the older branch
protection and the settings of Actions only to one with `administration: read`, which a workflow's
own token never has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

from chalice_ci.forge.github_api import GitHubApi, Operation
from chalice_ci.forge.port import NotFound, NotPermitted, checked_environment
from chalice_ci.forge.settings import Branch, Environment

_T = TypeVar("_T")
_ADMINISTRATION = "administration: read"
_CONTENTS = "contents: read"


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

        def read(found: Any) -> Environment:
            rules = found.get("protection_rules", ())
            reviews = [rule for rule in rules if rule["type"] == "required_reviewers"]
            return Environment(
                name=found["name"],
                reviewers=sum(len(rule.get("reviewers", ())) for rule in reviews),
                self_review_prevented=any(rule.get("prevent_self_review") for rule in reviews),
                branches_restricted=found.get("deployment_branch_policy") is not None,
            )

        return self._get(f"environments/{place}", f"read environment {name}", "actions: read", read)

    def branch(self, name: str) -> Branch | None:
        """A branch with what rules and branch protection say of it."""
        place = quote(name, safe="")
        protected = self._get(
            f"branches/{place}", f"read branch {name}", _CONTENTS, lambda found: found["protected"]
        )
        if protected is None:
            return None
        rules = self._get(f"rules/branches/{place}", f"read the rules of {name}", _CONTENTS, _rules)
        found = Branch(name=name, reviews=0, deletion_blocked=False, force_push_blocked=False)
        found = _both(found, rules)
        if not protected:
            return found
        protection, doing = f"branches/{place}/protection", f"read the protection of {name}"
        try:
            classic = self._get(protection, doing, _ADMINISTRATION, _classic)
        except NotPermitted:
            # Rules make a branch count as protected, too.
            return replace(found, complete=rules is not None and rules != _NOTHING)
        return _both(found, classic)

    def jobs_may_write(self) -> bool:
        """The default permissions of GITHUB_TOKEN."""
        doing = "read the default permissions of workflows"
        level = self._get(
            "actions/permissions/workflow",
            doing,
            _ADMINISTRATION,
            lambda found: str(found["default_workflow_permissions"]),
        )
        if level is None:
            # A repository always has them: it is this token that is not shown them.
            raise NotPermitted(
                f"GitHub does not let this token {doing}.",
                where=self.name,
                fix="Use a token with `administration: read`.",
                permission=_ADMINISTRATION,
            )
        return level == "write"

    def variable(self, name: str, *, environment: str = "") -> str | None:
        """The environment's own, else the repository's, else one that its organisation shares."""
        doing, one = f"read variable {name}", quote(name, safe="")
        if environment:
            place = quote(checked_environment(environment), safe="")
            path = f"environments/{place}/variables/{one}"
            found = self._get(path, doing, "environments: read", _value)
            if found is not None:
                return found
        found = self._get(f"actions/variables/{one}", doing, "variables: read", _value)
        if found is not None:
            return found
        shared = self._get(
            "actions/organization-variables?per_page=100",
            "read the organisation's variables",
            "variables: read",
            lambda listed: {str(each["name"]): str(each["value"]) for each in listed["variables"]},
        )
        return (shared or {}).get(name)

    def _get(self, path: str, doing: str, permission: str, read: Callable[[Any], _T]) -> _T | None:
        """What `read` makes of the document there; None when GitHub has nothing there."""

        def ask() -> _T:
            url = f"/repos/{self._api.repository}/{path}"
            _, found = self._api.requester.requestJsonAndCheck("GET", url)
            return read(found)

        try:
            return self._api.call(Operation(doing=doing, permission=permission), ask)
        except NotFound:
            return None


def _value(found: Any) -> str:
    return str(found["value"])


@dataclass(frozen=True, kw_only=True)
class _Says:
    """What one of the two kinds of protection says."""

    reviews: int = 0
    deletion_blocked: bool = False
    force_push_blocked: bool = False


_NOTHING = _Says()


def _rules(found: Any) -> _Says:
    if not isinstance(found, list):
        raise TypeError("no list")
    kinds = {rule["type"]: rule.get("parameters") or {} for rule in found}
    reviews = kinds.get("pull_request", {}).get("required_approving_review_count", 0)
    return _Says(
        reviews=int(reviews),
        deletion_blocked="deletion" in kinds,
        force_push_blocked="non_fast_forward" in kinds,
    )


def _classic(found: Any) -> _Says:
    wanted = found.get("required_pull_request_reviews") or {}
    return _Says(
        reviews=int(wanted.get("required_approving_review_count", 0)),
        # It forbids both unless it says otherwise.
        deletion_blocked=not (found.get("allow_deletions") or {}).get("enabled"),
        force_push_blocked=not (found.get("allow_force_pushes") or {}).get("enabled"),
    )


def _both(found: Branch, says: _Says | None) -> Branch:
    if says is None:
        return found
    return replace(
        found,
        reviews=max(found.reviews or 0, says.reviews),
        deletion_blocked=found.deletion_blocked or says.deletion_blocked,
        force_push_blocked=found.force_push_blocked or says.force_push_blocked,
    )
