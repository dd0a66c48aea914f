"""A project's settings through GitLab's REST API: what `doctor` looks at.

A deployment to a protected environment is started by those whom it names, and waits for the
approvals that it requires; the groups above a project may protect the same environment by its tier,
and both hold. Protected environments, merge requests' approval rules and what jobs may push are
shown to Maintainers (a group's to its Owners), and on servers without GitLab Premium not at all:
what is not shown is never taken for what is not there. Sources: GitLab's documentation, pages
"Protected environments" and "Deployment approvals", "Protected branches", "Merge request
approvals", and of its REST API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from chalice_ci.forge.answer import count_of, text_of
from chalice_ci.forge.gitlab_api import GitLabApi
from chalice_ci.forge.port import NotFound, NotPermitted, checked_environment
from chalice_ci.forge.settings import Branch, Environment

_T = TypeVar("_T")
_NO_ONE, _DEVELOPER = 0, 30
"""Access levels, as GitLab numbers its roles."""
_NAMED = ("user_id", "group_id", "deploy_key_id", "member_role_id")
"""How an entry of a list of access levels names others than everybody of a role."""
_MAINTAINER = "Give a token with the role Maintainer and the scope `read_api`."


class GitLabSettings:
    """The settings of the project behind an API."""

    def __init__(self, api: GitLabApi) -> None:
        self._api = api
        self._known: _Project | None = None

    @property
    def name(self) -> str:
        """The project's path."""
        return self._api.name

    def environment(self, name: str) -> Environment | None:
        """An environment with who may deploy to it and who approves.

        Reviewers are the approvals that a deployment needs; where it needs none, one whom the
        environment names among those who may start it, and who then does so alone.
        """
        checked_environment(name)
        doing = f"read environment {name}"
        tiers = self._api.call(
            doing,
            lambda: [
                text_of(each.get("tier") or "")
                for each in self._api.every(f"{self._api.path}/environments", name=name)
                if each["name"] == name
            ],
        )
        own = self._list(f"{self._api.path}/protected_environments", doing, _protection)
        if own is None:
            raise NotPermitted(
                "GitLab shows protected environments to Maintainers alone, and has them with "
                "Premium.",
                where=self.name,
                fix=_MAINTAINER,
                permission="read_api",
            )
        found = [each for each in own if each.name == name]
        complete = True
        if not any(each.approvals for each in found):
            above, complete = self._above(tiers[0] if tiers else "", doing)
            found += above
        if complete and not (tiers or found):
            return None
        approvals = sum(each.approvals for each in found)
        return Environment(
            name=name,
            reviewers=approvals or int(any(not each.open for each in found)),
            self_review_prevented=approvals > 0 and not self._project().triggerer_approves,
            # GitLab asks who deploys, not from which branch.
            branches_restricted=True,
            complete=complete,
        )

    def branch(self, name: str) -> Branch | None:
        """A branch with what every protection that fits it says together: the laxest counts."""
        path = f"{self._api.path}/repository/branches/{quote(name, safe='')}"
        try:
            protected = self._api.call(
                f"read branch {name}", lambda: self._api.get(path)["protected"] is True
            )
        except NotFound:
            return None
        doing = f"read how branch {name} is protected"
        listed = self._list(f"{self._api.path}/protected_branches", doing, _rule)
        fitting = [rule for rule in listed or () if _fits(rule.name, name)]
        return Branch(
            name=name,
            reviews=self._reviews(name, fitting) if fitting else 0,
            # Nobody deletes a protected branch with Git.
            deletion_blocked=bool(fitting),
            force_push_blocked=bool(fitting) and not any(rule.forced for rule in fitting),
            complete=not protected or bool(fitting),
        )

    def jobs_may_write(self) -> bool:
        """Whether a job's token may push."""
        found = self._project().jobs_push
        if found is None:
            raise NotPermitted(
                "GitLab does not show this token whether jobs may push.",
                where=self.name,
                fix=_MAINTAINER,
                permission="read_api",
            )
        return found

    def _above(self, tier: str, doing: str) -> tuple[Sequence[_Protection], bool]:
        """What the groups above protect by the environment's tier, and whether that is all.

        An environment that no deployment made yet has no tier.
        """
        found: list[_Protection] = []
        complete = True
        for group in _upwards(self._project().group):
            path = f"/groups/{quote(group, safe='')}/protected_environments"
            listed = self._list(path, doing, _protection)
            complete = complete and listed is not None and not (listed and not tier)
            found += [each for each in listed or () if each.name == tier]
        return found, complete

    def _reviews(self, branch: str, fitting: Sequence[_Rule]) -> int | None:
        """How many approvals of others what reaches a protected branch needs."""
        if any(rule.owners for rule in fitting):
            return 1
        if any(rule.pushed for rule in fitting):
            return 0
        doing = "read the approval rules of merge requests"
        rules = self._list(f"{self._api.path}/approval_rules", doing, _approvals)
        if rules is None:
            return None
        most = max((rule.count for rule in rules if rule.concerns(branch)), default=0)
        if most != 1:
            return most
        path = f"{self._api.path}/approvals"
        by_author = self._api.call(
            doing, lambda: self._api.get(path)["merge_requests_author_approval"] is True
        )
        return 0 if by_author else 1

    def _project(self) -> _Project:
        if self._known is None:
            self._known = self._api.call(
                "read the project", lambda: _project(self._api.get(self._api.path))
            )
        return self._known

    def _list(self, path: str, doing: str, read: Callable[[Any], _T]) -> list[_T] | None:
        """What `read` makes of each item; None when GitLab does not show this token the list."""
        try:
            return self._api.call(doing, lambda: [read(each) for each in self._api.every(path)])
        except (NotFound, NotPermitted):
            return None


@dataclass(frozen=True, kw_only=True)
class _Project:
    """What the project itself says; `group` is empty below a person's own name."""

    group: str
    triggerer_approves: bool
    jobs_push: bool | None


@dataclass(frozen=True, kw_only=True)
class _Protection:
    """What protects an environment: the approvals it requires, and whether every Developer may
    deploy.
    """

    name: str
    approvals: int
    open: bool


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """A protected branch or a pattern of them: whether somebody pushes to it without a merge
    request, by force as well, and whether the owners of the code have to approve.
    """

    name: str
    pushed: bool
    forced: bool
    owners: bool


@dataclass(frozen=True, kw_only=True)
class _Approvals:
    """A rule of approvals; for every branch when it names none."""

    count: int
    branches: tuple[str, ...]

    def concerns(self, branch: str) -> bool:
        return not self.branches or any(_fits(name, branch) for name in self.branches)


def _project(found: Any) -> _Project:
    space, jobs = found["namespace"], found.get("ci_push_repository_for_job_token_allowed")
    return _Project(
        group=text_of(space["full_path"]) if space["kind"] == "group" else "",
        triggerer_approves=found.get("allow_pipeline_trigger_approve_deployment") is True,
        jobs_push=jobs if isinstance(jobs, bool) else None,
    )


def _protection(found: Any) -> _Protection:
    rules = found.get("approval_rules") or ()
    return _Protection(
        name=text_of(found["name"]),
        approvals=count_of(found.get("required_approval_count") or 0)
        + sum(count_of(rule.get("required_approvals") or 0) for rule in rules),
        open=any(map(_is_every_developer, found["deploy_access_levels"])),
    )


def _rule(found: Any) -> _Rule:
    return _Rule(
        name=text_of(found["name"]),
        pushed=any(map(_lets_in, found["push_access_levels"])),
        forced=found.get("allow_force_push") is True,
        owners=found.get("code_owner_approval_required") is True,
    )


def _approvals(found: Any) -> _Approvals:
    named = found.get("protected_branches") or ()
    if found.get("applies_to_all_protected_branches") is True:
        named = ()
    # The others ask only for some changes: of files that somebody owns, with less coverage.
    always = found.get("rule_type", "regular") in ("any_approver", "regular")
    return _Approvals(
        count=count_of(found["approvals_required"]) if always else 0,
        branches=tuple(text_of(each["name"]) for each in named),
    )


def _lets_in(level: Any) -> bool:
    """Whether an entry of a list of access levels is anybody at all."""
    return _is_named(level) or count_of(level["access_level"]) != _NO_ONE


def _is_every_developer(level: Any) -> bool:
    return not _is_named(level) and _NO_ONE < count_of(level["access_level"]) <= _DEVELOPER


def _is_named(level: Any) -> bool:
    return any(level.get(kind) is not None for kind in _NAMED)


def _fits(pattern: str, branch: str) -> bool:
    """Whether the name of a protection, in which only `*` is a wildcard, fits a branch."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), branch) is not None


def _upwards(path: str) -> Iterator[str]:
    """A group and those above it."""
    while path:
        yield path
        path = path.rpartition("/")[0]
