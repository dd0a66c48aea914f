"""A repository's settings, which the emulator lacks or gives in another form.

The documents are the official description's own examples with what a test sets; branch protection
and the settings of Actions are shown to administrators only, as on GitHub.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, Any]
_PATH = re.compile(
    r"/repos/[^/]+/[^/]+/(?:(?P<rules>rules/branches/(?P<ruled>[^/]+))"
    r"|branches/(?P<branch>[^/]+)(?P<protection>/protection)?"
    r"|environments/(?P<environment>[^/]+)|(?P<actions>actions/permissions/workflow)"
    r"|actions/runs/(?P<run>[0-9]+)/approvals"
    r"|(?:environments/(?P<of>[^/]+)|actions)/variables/(?P<variable>[^/]+)"
    r"|(?P<shared>actions/organization-variables))"
)


@dataclass(kw_only=True)
class KeptSettings:
    """What is set. `examples` are those of the description; nothing set: somebody else answers."""

    examples: Mapping[str, Any]
    environments: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    branches: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    classic: bool = False
    """Branches are protected by branch protection, else by rules."""
    jobs_may_write: bool = False
    approvals: dict[int, list[tuple[str, str, str]]] = field(default_factory=dict)
    """Reviews of a run's jobs: (state, environment, login)."""
    variables: dict[str, str] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Variables of the repository, and those that its organisation shares with it."""

    def answer(self, method: str, path: str, *, may: Callable[[str, str], bool]) -> Answer | None:
        """An answer and its document; None for what is not kept here."""
        found = _PATH.fullmatch(path)
        if method == "GET" and found is not None and found["run"]:
            if not may("actions", "read"):
                return _forbidden()
            return 200, list(self._approvals(int(found["run"])))
        if method != "GET" or found is None or not (self.branches or self.environments):
            return None
        if found["variable"] or found["shared"]:
            if not may("administration", "read"):
                return _forbidden()
            return self._variables(found)
        if found["environment"]:
            return self._environment(found["environment"])
        if found["rules"]:
            kept = self.branches.get(found["ruled"])
            return 200, [] if kept is None or self.classic else list(self._rules(kept))
        if found["actions"]:
            if not may("administration", "read"):
                return _forbidden()
            level = "write" if self.jobs_may_write else "read"
            example = self._example("actions-default-workflow-permissions")
            return 200, {**example, "default_workflow_permissions": level}
        kept = self.branches.get(found["branch"])
        if kept is None:
            return 404, {"message": "Branch not found"}
        if not found["protection"]:
            protected = self.classic or any(kept.values())
            example = self._example("branch-get")
            return 200, {**example, "name": found["branch"], "protected": protected}
        if not may("administration", "read"):
            return _forbidden()
        if not self.classic:
            return 404, {"message": "Branch not protected"}
        return 200, self._protection(kept)

    def _variables(self, found: re.Match[str]) -> Answer:
        if found["shared"]:
            example = self._example("actions-variable")
            listed = [{**example, "name": name, "value": self.shared[name]} for name in self.shared]
            return 200, {"total_count": len(listed), "variables": listed}
        kept = self.variables
        if found["of"]:
            kept = dict(self.environments.get(found["of"], {}).get("variables", {}))
        name = found["variable"]
        if name not in kept:
            return 404, {"message": "Not Found"}
        return 200, {**self._example("actions-variable"), "name": name, "value": kept[name]}

    def _environment(self, name: str) -> Answer:
        kept = self.environments.get(name)
        if kept is None:
            return 404, {"message": "Not Found"}
        document = {**self._example("environment"), "name": name}
        rule = next(r for r in document["protection_rules"] if r["type"] == "required_reviewers")
        reviewers = (rule["reviewers"] * 2)[: kept["reviewers"]]
        rule |= {
            "reviewers": reviewers,
            "prevent_self_review": kept["self_review_prevented"],
        }
        document["protection_rules"] = [rule] if reviewers else []
        if not kept["branches_restricted"]:
            document["deployment_branch_policy"] = None
        return 200, document

    def _approvals(self, run: int) -> Iterator[dict[str, Any]]:
        for state, environment, login in self.approvals.get(run, ()):
            (review,) = copy.deepcopy(self.examples["environment-approvals-items"]["value"])
            review |= {"state": state, "user": {**review["user"], "login": login}}
            review["environments"] = [{**review["environments"][0], "name": environment}]
            yield review

    def _rules(self, kept: Mapping[str, Any]) -> list[dict[str, Any]]:
        source = {
            "ruleset_source_type": "Repository",
            "ruleset_source": "octo-org/orders",
            "ruleset_id": 42,
        }
        found: list[dict[str, Any]] = []
        if kept.get("deletion_blocked"):
            found.append({"type": "deletion", **source})
        if kept.get("force_push_blocked"):
            found.append({"type": "non_fast_forward", **source})
        if kept.get("reviews"):
            parameters = {
                "dismiss_stale_reviews_on_push": True,
                "require_code_owner_review": False,
                "require_last_push_approval": False,
                "required_approving_review_count": kept["reviews"],
                "required_review_thread_resolution": False,
            }
            found.append({"type": "pull_request", **source, "parameters": parameters})
        return found

    def _protection(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        # The rest of the example is not as the description itself says it is.
        example = self._example("branch-protection")
        wanted = example["required_pull_request_reviews"]
        names = ("url", "dismiss_stale_reviews", "require_code_owner_reviews")
        return {
            "url": example["url"],
            "required_pull_request_reviews": {
                **{name: wanted[name] for name in names},
                "required_approving_review_count": kept.get("reviews", 0),
            },
            "allow_force_pushes": {"enabled": not kept.get("force_push_blocked")},
            "allow_deletions": {"enabled": not kept.get("deletion_blocked")},
        }

    def _example(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = copy.deepcopy(self.examples[name]["value"])
        return found


def _forbidden() -> Answer:
    return 403, {"message": "Resource not accessible by integration"}
