"""What a deploy meant to do and what came of it: beside the state while the deploy is not finished.

The journal says who deploys (the lease), everything that the deploy intends, and what stands as far
as it is known. It is there from before the first call until all of it is in the state; a journal
that nobody holds was left by a deploy that ended in between.

Pure: bytes in, values out. Whoever can write to the store can write a journal, so nothing in it is
believed that the state's own rules would not take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chalice_ci.state.schema import Resource, StageState, StateDamaged, checked

FORMAT = 1
MAX_TEXT = 1_000
MAX_INTENTS = 20_000
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Who may change a stage, until when.

    `token` grows with each holder. `expires` is UTC in whole seconds, by the holder's clock.
    `process` names the process on its machine, `run` and `attempt` the CI run; each is empty or 0
    when there is none.
    """

    token: int
    owner: str
    reason: str
    expires: datetime
    process: str = ""
    run: int = 0
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Intent:
    """An operation of the plan: a method of Chalice's client, for a resource."""

    method: str
    resource: str


@dataclass(frozen=True, kw_only=True)
class Journal:
    """A deploy that is not finished. `lease` is None when nobody holds it any more.

    `verb` is what was going on ("deploy", "delete"), `commit` what was deployed. `resources` is
    what stands, as far as it is known; `in_flight` are calls whose result nobody knows;
    `begun` is when it began, UTC in whole seconds, None if that is not written.
    """

    lease: Lease | None
    verb: str
    account: str
    region: str
    commit: str = ""
    intents: tuple[Intent, ...] = ()
    resources: tuple[Resource, ...] = ()
    calls: int = 0
    in_flight: tuple[str, ...] = field(default=())
    begun: datetime | None = None


def render_journal(journal: Journal) -> bytes:
    """The journal as canonical JSON."""
    lease = journal.lease
    document = {
        "format": FORMAT,
        "lease": None
        if lease is None
        else {
            "token": lease.token,
            "owner": lease.owner[:MAX_TEXT],
            "reason": lease.reason[:MAX_TEXT],
            "expires": _written(lease.expires),
            "process": lease.process,
            "run": lease.run,
            "attempt": lease.attempt,
        },
        "verb": journal.verb,
        "account": journal.account,
        "region": journal.region,
        "commit": journal.commit,
        "intents": [[intent.method, intent.resource] for intent in journal.intents],
        "resources": [dict(resource) for resource in journal.resources],
        "calls": journal.calls,
        "in_flight": list(journal.in_flight),
        "begun": None if journal.begun is None else _written(journal.begun),
    }
    return (json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n").encode()


def parse_journal(raw: bytes, *, where: str) -> Journal:
    """Read a journal; raises StateDamaged for anything that `render_journal` would not write."""
    try:
        document = json.loads(raw)
        found = _journal(document, where)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise StateDamaged(
            f"This is not a journal of chalice-ci: {type(error).__name__} {error}."[:400],
            where=where,
            fix="If no deploy of this stage is running, clear it with `chalice-ci state unlock`, "
            "then look for what was left behind with `chalice-ci state recover`.",
        ) from None
    return found


def _journal(document: Mapping[str, Any], where: str) -> Journal:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}, known is {FORMAT}")
    state: StageState = checked(document["resources"], where=where)
    intents = document["intents"]
    if not isinstance(intents, list) or len(intents) > MAX_INTENTS:
        raise ValueError("too many intents")
    return Journal(
        lease=None if document["lease"] is None else _lease(document["lease"]),
        verb=_text(document["verb"]),
        account=_text(document["account"]),
        region=_text(document["region"]),
        commit=_text(document["commit"]),
        intents=tuple(Intent(method=_text(m), resource=_text(r)) for m, r in intents),
        resources=state.resources,
        calls=_number(document["calls"]),
        in_flight=tuple(_text(call) for call in document["in_flight"]),
        begun=None if document.get("begun") is None else _time(document["begun"]),
    )


def _lease(document: Mapping[str, Any]) -> Lease:
    return Lease(
        token=_number(document["token"]),
        owner=_text(document["owner"]),
        reason=_text(document["reason"]),
        expires=_time(document["expires"]),
        process=_text(document["process"]),
        run=_number(document["run"]),
        attempt=_number(document["attempt"]),
    )


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_TIME)


def _time(value: object) -> datetime:
    return datetime.strptime(_text(value), _TIME).replace(tzinfo=UTC)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError("not a short text")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("not a number")
    return value


def merged(before: tuple[Resource, ...], after: tuple[Resource, ...]) -> tuple[Resource, ...]:
    """What is recorded, with what an unfinished deploy knew put over it, by type and name."""
    found = {(str(r["resource_type"]), str(r["name"])): r for r in before}
    for resource in after:
        key = (str(resource["resource_type"]), str(resource["name"]))
        found[key] = {**found.get(key, {}), **resource}
    return tuple(found.values())
