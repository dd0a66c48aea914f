"""A repository's settings through Bitbucket Cloud's REST API: what `doctor` looks at.

That API describes the restrictions of branches, and shows them to tokens with the scope
`repository:admin`; who may deploy to an environment it does not describe. Approvals hold a merge up
only where merge checks are enforced, which is Bitbucket Premium's. Source: Atlassian's OpenAPI
description of "The Bitbucket Cloud REST API" 2.0, page "Branch restrictions".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from chalice_ci.errors import ForgeError
from chalice_ci.forge.answer import count_of, text_of
from chalice_ci.forge.bitbucket import BitbucketApi
from chalice_ci.forge.port import NotFound, checked_environment
from chalice_ci.forge.settings import Branch, Environment

_APPROVALS = ("require_approvals_to_merge", "require_default_reviewer_approvals_to_merge")
_OF_MODEL = ("production", "development")
"""The types of a branching model that the default branch can be of."""


class BitbucketSettings:
    """The settings of the repository behind an API."""

    def __init__(self, api: BitbucketApi) -> None:
        self._api = api

    @property
    def name(self) -> str:
        """The repository."""
        return self._api.name

    def environment(self, name: str) -> Environment | None:
        """Raises ForgeError: the API does not say who may deploy."""
        checked_environment(name)
        raise ForgeError(
            "Bitbucket's API does not say who may deploy.",
            where=self.name,
            fix="See Repository settings, Deployments.",
        )

    def branch(self, name: str) -> Branch | None:
        """A branch with every restriction whose pattern fits it.

        Those of a branching model are not followed: `complete` is False where one may be of it.
        """
        path = f"{self._api.path}/refs/branches/{quote(name, safe='')}"
        restrictions = f"{self._api.path}/branch-restrictions"
        try:
            self._api.read(lambda: text_of(self._api.get(path)["name"]), where=self.name)
        except NotFound:
            return None
        listed = self._api.read(
            lambda: [_restriction(each) for each in self._api.every(restrictions)],
            where=self.name,
        )
        fitting = [one for one in listed if one.fits(name)]
        kinds = {one.kind for one in fitting}
        approvals = max((one.value for one in fitting if one.kind in _APPROVALS), default=0)
        pushed = "push" not in kinds or any(one.named for one in fitting if one.kind == "push")
        held = "enforce_merge_checks" in kinds and not pushed
        found = Branch(
            name=name,
            reviews=approvals if held else 0,
            deletion_blocked="delete" in kinds,
            force_push_blocked="force" in kinds,
        )
        strict = found.reviews and found.deletion_blocked and found.force_push_blocked
        return replace(found, complete=bool(strict) or not any(one.of_model for one in listed))

    def jobs_may_write(self) -> bool:
        """A step may push: no setting takes that away."""
        return True


@dataclass(frozen=True, kw_only=True)
class _Restriction:
    """A restriction; `pattern` is empty for one of the branching model, `named` are the users and
    groups whom it lets do it nevertheless.
    """

    kind: str
    pattern: str
    of_model: bool
    value: int
    named: int

    def fits(self, branch: str) -> bool:
        """Whether the pattern, in which `*` is any text, fits a branch."""
        form = ".*".join(map(re.escape, re.split(r"\*+", self.pattern)))
        return bool(self.pattern) and re.fullmatch(form, branch) is not None


def _restriction(found: Any) -> _Restriction:
    by_name = found["branch_match_kind"] == "glob"
    return _Restriction(
        kind=text_of(found["kind"]),
        pattern=text_of(found["pattern"]) if by_name else "",
        of_model=not by_name and found.get("branch_type") in _OF_MODEL,
        value=count_of(found.get("value") or 0),
        named=len(found.get("users") or ()) + len(found.get("groups") or ()),
    )
