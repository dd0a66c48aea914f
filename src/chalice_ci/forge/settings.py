"""What a repository's settings say of who may deploy: environments, branches, the job's token.

Adapters are `github_settings.py`, `gitlab_settings.py` and `local_settings.py`. Only reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment's protection: how many reviewers it names, and who else is kept out.

    `complete` is False when something else may protect it that this token is not shown.
    """

    name: str
    reviewers: int
    self_review_prevented: bool
    branches_restricted: bool
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch's protection, from all that protects it together.

    `reviews` is the number of approvals that a change needs, None when this token is not shown it.
    `complete` is False when something protects the branch that this token is not shown.
    """

    name: str
    reviews: int | None
    deletion_blocked: bool
    force_push_blocked: bool
    complete: bool = True


class Settings(Protocol):
    """The settings of one repository. Every failure is a ForgeError, NotPermitted among them."""

    @property
    def name(self) -> str:
        """How a message names it: "owner/name" or a folder."""
        ...

    def environment(self, name: str) -> Environment | None:
        """An environment; None when there is none of that name."""
        ...

    def branch(self, name: str) -> Branch | None:
        """A branch; None when there is none of that name."""
        ...

    def jobs_may_write(self) -> bool:
        """Whether the token of a job may write unless its workflow says otherwise."""
        ...


class Variables(Protocol):
    """The variables that a repository gives its jobs. Every failure is a ForgeError."""

    def variable(self, name: str, *, environment: str = "") -> str | None:
        """What a job of that environment gets for `vars.<name>`; None when it is set nowhere."""
        ...


class SettingsAndVariables(Settings, Variables, Protocol):
    """Both of one repository."""
