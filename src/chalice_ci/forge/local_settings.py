"""The settings of a repository that a folder plays: `<root>/settings.json`, written by people.

{"environments": {"production": {"reviewers": 2, "self_review_prevented": true,
"branches_restricted": true}},
"branches": {"main": {"reviews": 1, "deletion_blocked": true, "force_push_blocked": true}},
"jobs_may_write": false,
"variables": {"AWS_REGION": "eu-west-1"}}

An environment can have `variables` of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalice_ci.errors import ForgeError
from chalice_ci.forge.port import checked_environment
from chalice_ci.forge.settings import Branch, Environment

FILE = "settings.json"


class LocalSettings:
    """The settings in a folder; without the file nothing is protected."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._root)

    def environment(self, name: str) -> Environment | None:
        """An environment as it is written."""
        found = self._entry("environments", checked_environment(name))
        if found is None:
            return None
        return Environment(
            name=name,
            reviewers=_number(found.get("reviewers")),
            self_review_prevented=found.get("self_review_prevented") is True,
            branches_restricted=found.get("branches_restricted") is True,
        )

    def branch(self, name: str) -> Branch | None:
        """A branch as it is written."""
        found = self._entry("branches", name)
        if found is None:
            return None
        return Branch(
            name=name,
            reviews=_number(found.get("reviews")),
            deletion_blocked=found.get("deletion_blocked") is True,
            force_push_blocked=found.get("force_push_blocked") is True,
        )

    def jobs_may_write(self) -> bool:
        """What the file says."""
        return self._document().get("jobs_may_write") is True

    def variable(self, name: str, *, environment: str = "") -> str | None:
        """The environment's own, else the repository's."""
        own = self._entry("environments", environment) if environment else None
        for place in (own or {}, self._document()):
            found = place.get("variables")
            if isinstance(found, dict) and isinstance(found.get(name), str):
                return str(found[name])
        return None

    def _entry(self, kind: str, name: str) -> Mapping[str, Any] | None:
        found = self._document().get(kind)
        entry = found.get(name) if isinstance(found, dict) else None
        return entry if isinstance(entry, dict) else None

    def _document(self) -> Mapping[str, Any]:
        path = self._root / FILE
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise ForgeError(
                f"the settings can't be read: {error}",
                where=str(path),
                fix="Write a JSON object with `environments`, `branches` and `jobs_may_write`.",
            ) from error
        return document if isinstance(document, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
