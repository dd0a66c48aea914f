"""What a rule is: everything that its documentation says. `rules` declares them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chalice_ci.findings import Severity


class Group(StrEnum):
    """What a rule looks at; also one test case of the JUnit report when nothing was found."""

    CONFIGURATION = "configuration"
    ENVIRONMENT = "Python and Chalice"
    UPGRADE = "Chalice upgrades"
    LOAD = "load"
    EXPERIMENTAL = "experimental features"
    VALIDATION = "Chalice's own validation"
    COLLISIONS = "collisions between stages"
    PACKAGE = "package"
    DIFFERENCE = "difference"
    PERMISSIONS = "the deploy role"
    WORKFLOWS = "workflows"
    SETTINGS = "settings of the repository"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: its severity, why it exists, an example and how to allow what it objects to.

    `before` and `after` are text in `language`; a rule without an example leaves both empty.
    """

    name: str
    title: str
    group: Group
    severity: Severity
    explanation: str
    allow: str
    before: str = ""
    after: str = ""
    language: str = "python"
