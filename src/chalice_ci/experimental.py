"""Chalice's experimental features: what exists, and its status in the app's own Chalice.

Source: the table in Chalice's documentation ("Experimental APIs") and, for the versions, the
`_features_used.add(...)` calls in `chalice/app.py` of every release from 1.7.0 on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import Version

OVERVIEW = "https://aws.github.io/chalice/topics/experimental.html"


class Status(StrEnum):
    """The standing of a feature, in the words of Chalice's documentation."""

    UNKNOWN = "not there yet"
    TRIAL = "Trial"
    ACCEPTED = "Accepted"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A feature that is or was experimental.

    `added` is the release that brought it behind its flag, `accepted` the one that made it an
    ordinary feature (None: still on trial). `marks` are the attribute names whose use in source
    text speaks for the feature, `resource` the type in the application graph that proves its use.
    """

    name: str
    title: str
    added: str
    accepted: str | None
    marks: tuple[str, ...]
    resource: str | None
    link: str
    issues: tuple[str, ...]

    def status(self, chalice: str) -> Status:
        """The standing in this release of Chalice."""
        release = Version(chalice)
        if release < Version(self.added):
            return Status.UNKNOWN
        if self.accepted is None or release < Version(self.accepted):
            return Status.TRIAL
        return Status.ACCEPTED

    def history(self) -> str:
        """Its releases in words: "since 1.7.0, accepted in 1.15.0"."""
        if self.accepted is None:
            return f"since {self.added}"
        return f"since {self.added}, accepted in {self.accepted}"


CATALOGUE: tuple[Feature, ...] = (
    Feature(
        name="BLUEPRINTS",
        title="Blueprints",
        added="1.7.0",
        accepted="1.15.0",
        marks=("register_blueprint",),
        resource=None,
        link="https://aws.github.io/chalice/topics/blueprints.html",
        issues=("aws/chalice#1023", "aws/chalice#651"),
    ),
    Feature(
        name="WEBSOCKETS",
        title="WebSocket APIs",
        added="1.10.0",
        accepted=None,
        marks=("on_ws_connect", "on_ws_message", "on_ws_disconnect"),
        resource="WebsocketAPI",
        link="https://aws.github.io/chalice/topics/websockets.html",
        issues=("aws/chalice#1017", "aws/chalice#1041"),
    ),
)


def feature(name: str) -> Feature | None:
    """The feature with exactly this name."""
    return next((known for known in CATALOGUE if known.name == name), None)


def on_trial(chalice: str) -> tuple[Feature, ...]:
    """The features that need an opt-in in this release of Chalice."""
    return tuple(known for known in CATALOGUE if known.status(chalice) is Status.TRIAL)


def meant(name: str) -> str | None:
    """The feature that somebody who wrote `name` probably meant."""
    names = [known.name for known in CATALOGUE]
    close = difflib.get_close_matches(name.strip().upper().replace("-", "_"), names, n=1)
    return close[0] if close else None


def opt_in(variable: str, features: Iterable[str]) -> str:
    """The line that opts in, for the app's object under the name it has in its module.

    >>> opt_in("app", ["WEBSOCKETS"])
    "app.experimental_feature_flags.update(['WEBSOCKETS'])"
    """
    names = ", ".join(f"'{name}'" for name in sorted(features))
    return f"{variable}.experimental_feature_flags.update([{names}])"
