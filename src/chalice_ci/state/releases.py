"""What was deployed to a stage, newest first: kept beside its state, to know and to go back to.

A release names its plan, commit, run and packages by their digests. The plan itself - the graph
and the snapshot, without the packages - is kept with the last of them, encrypted where there is a
signing key. The branch or bucket can be written to by others, so what `render` would not have
written is refused. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from chalice_ci.state.schema import StateDamaged

FORMAT = 1
MAX_BYTES = 16 * 1024 * 1024
MAX_PLAN = 2 * 1024 * 1024
"""Characters of one kept plan; a larger one is not kept."""

_HEX = re.compile(r"[0-9a-f]{64}")
_MAX_TEXT = 2000


@dataclass(frozen=True, kw_only=True)
class Release:
    """A deployment that was completed.

    `digest` is the plan's; `run` the CI run's identity and `run_url` its address, "" elsewhere.
    `packages` are (slot, sha256) pairs. `rolled_back_to` is the digest of the plan that was
    applied again. `plan` is the kept plan as text, "" when it is not kept.
    """

    digest: str
    commit: str
    tree: str
    run: str
    run_url: str
    time: str
    tool: str
    packages: tuple[tuple[str, str], ...]
    rolled_back_to: str = ""
    plan: str = ""

    @property
    def code(self) -> Mapping[str, str]:
        """The digests of the packages by slot."""
        return dict(self.packages)


def render(releases: tuple[Release, ...]) -> bytes:
    """The document: one release a line, ASCII."""
    rows = ",\n".join(
        json.dumps(
            {**asdict(one), "packages": dict(one.packages)}, sort_keys=True, separators=(",", ":")
        )
        for one in releases
    )
    return f'{{"format":{FORMAT},"releases":[\n{rows}\n]}}\n'.encode("ascii")


def parse(raw: bytes | None, *, where: str) -> tuple[Release, ...]:
    """The releases, newest first; raises StateDamaged for what `render` would not have written."""
    if raw is None:
        return ()
    try:
        document = json.loads(raw)
        if set(document) != {"format", "releases"} or document["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return tuple(_release(item) for item in document["releases"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StateDamaged(
            f"The file is not a list of releases: {str(error)[:200]}.",
            where=where,
            fix="Restore an earlier version of it, or remove it: the next deploy begins a new one.",
        ) from error


def _release(item: Mapping[str, Any]) -> Release:
    packages = item["packages"]
    texts = {name: value for name, value in item.items() if name != "packages"}
    if not all(isinstance(value, str) for value in texts.values()):
        raise ValueError("something is not a text")
    if any(len(value) > _MAX_TEXT for name, value in texts.items() if name != "plan"):
        raise ValueError("a text is too long")
    if not all(_HEX.fullmatch(d) for d in (item["digest"], *packages.values())):
        raise ValueError("a digest is none")
    return Release(**{**texts, "packages": tuple(sorted(packages.items()))})


def with_release(releases: tuple[Release, ...], new: Release, *, keep: int) -> tuple[Release, ...]:
    """The list with a new release; `keep` plans stay, and twenty times as many names."""
    new = replace(new, plan=new.plan if len(new.plan) <= MAX_PLAN else "")
    everything = (new, *releases)[: max(20, keep)]
    return tuple(
        one if number < keep else replace(one, plan="") for number, one in enumerate(everything)
    )


def chosen(releases: tuple[Release, ...], wanted: str) -> Release | None:
    """The release to go back to: by the beginning of its plan's digest or commit; "" is the one
    before the newest that ran other code or another plan.
    """
    if wanted:
        return next(
            (one for one in releases if one.digest.startswith(wanted)),
            next((one for one in releases if one.commit.startswith(wanted)), None),
        )
    if not releases:
        return None
    now = releases[0]
    standing = {now.digest, now.rolled_back_to}
    return next((one for one in releases[1:] if one.digest not in standing), None)
