"""Chalice's own state files: read as hostile, written as Chalice writes them.

`.chalice/deployed/<stage>.json` is schema 2.0, written by every Chalice since 1.2.  `.chalice/
deployed.json` is schema 1, all stages in one file, and converted here the way `chalice.config`
converts it.  Whoever can edit a file can name somebody else's resources in it, so nothing in it
is believed: types, sizes and characters are bounded, and every refusal is a `UserError`.

Pure: bytes in, values out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from chalice_ci.errors import NotOurs, UsageError

Resource = Mapping[str, object]
"""One entry of `resources`: `name`, `resource_type` and that type's own keys."""

SCHEMA_VERSION = "2.0"
BACKEND = "api"
MAX_BYTES = 4 * 1024 * 1024
MAX_RESOURCES = 5_000
MAX_TEXT = 4_096
MAX_DEPTH = 8

IDENTITY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cloudwatch_event": ("rule_name",),
        "domain_name": ("domain_name",),
        "dynamodb_event": ("stream_arn", "event_uuid", "lambda_arn"),
        "iam_role": ("role_name", "role_arn"),
        "kinesis_event": ("stream", "event_uuid", "lambda_arn"),
        "lambda_function": ("lambda_arn",),
        "lambda_layer": ("layer_version_arn",),
        "log_group": ("log_group_name",),
        "rest_api": ("rest_api_id",),
        "s3_event": ("bucket", "lambda_arn"),
        "sns_event": ("topic", "topic_arn", "subscription_arn", "lambda_arn"),
        "sqs_event": ("queue", "event_uuid", "lambda_arn"),
        "websocket_api": ("websocket_api_id",),
    }
)
"""Every resource type that Chalice records, with the keys without which Chalice can neither
update nor delete it."""

URL_KEYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"rest_api": ("rest_api_url", "https://"), "websocket_api": ("websocket_api_url", "wss://")}
)

_MARKER = re.compile(r"^(?:<{7}|={7}|>{7}|\|{7})(?: .*)?$", re.MULTILINE)
_FUNCTION_ARN = re.compile(
    r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:([A-Za-z0-9_-]{1,140})"
)
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class StateDamaged(UsageError):
    """A state file cannot be read as what it should be; nothing was done."""


@dataclass(frozen=True, kw_only=True)
class StageState:
    """What a stage is made of: the `resources` of Chalice's file, in its order."""

    resources: tuple[Resource, ...] = ()

    def find(self, resource_type: str, name: str) -> Resource | None:
        """The resource of that type and name, if it is recorded."""
        for resource in self.resources:
            if identity_key(resource) == (resource_type, name):
                return resource
        return None


def identity_key(resource: Resource) -> tuple[str, str]:
    """What makes two entries the same entry: `(resource_type, name)`."""
    return str(resource["resource_type"]), str(resource["name"])


def render(state: StageState) -> bytes:
    """The text that Chalice's `serialize_to_json` would write for this state, byte for byte."""
    document = {
        "resources": [dict(resource) for resource in state.resources],
        "schema_version": SCHEMA_VERSION,
        "backend": BACKEND,
    }
    return (json.dumps(document, indent=2, separators=(",", ": ")) + "\n").encode("ascii")


def parse_v2(raw: bytes, *, where: str = "deployed state") -> StageState:
    """Read `.chalice/deployed/<stage>.json`; `where` names the file in a refusal.

    Raises StateDamaged for anything that Chalice would not have written.
    """
    document = _document(raw, where)
    if "schema_version" not in document or "resources" not in document:
        _refuse(
            where,
            "This is not Chalice's state of a stage: it has no `resources` and `schema_version`.",
            "Restore the file that `chalice deploy` wrote. A `.chalice/deployed.json` of Chalice "
            "1.1 or older is taken over with `chalice-ci state import`.",
        )
    version = document["schema_version"]
    if version != SCHEMA_VERSION:
        _refuse(
            where,
            f"The file has schema version {_shown(version)}; Chalice and chalice-ci read "
            f'"{SCHEMA_VERSION}".',
            "Restore the file from the version control, or deploy with the chalice-ci that "
            "supports the Chalice that wrote it.",
        )
    if document.get("backend", BACKEND) != BACKEND:
        _refuse(
            where,
            f"`backend` is {_shown(document['backend'])}; Chalice knows only `{BACKEND}`.",
            "Restore the file that `chalice deploy` wrote.",
        )
    unknown = sorted(set(document) - {"resources", "schema_version", "backend"})
    if unknown:
        _refuse(
            where,
            f"Unknown key {_shown(unknown[0])} beside `resources`; Chalice never writes it.",
            "Remove the key, or restore the file that `chalice deploy` wrote.",
        )
    return checked(document["resources"], where=where)


def checked(resources: object, *, where: str = "deployed state") -> StageState:
    """The state of a list of resources that came from outside, or StateDamaged."""
    if not isinstance(resources, Sequence) or isinstance(resources, str | bytes):
        _refuse(where, "`resources` is not a list.", "Restore the file that Chalice wrote.")
    if len(resources) > MAX_RESOURCES:
        _refuse(
            where,
            f"`resources` has {len(resources)} entries; the bound is {MAX_RESOURCES}.",
            "Restore the file that Chalice wrote, or split the app.",
        )
    found: dict[tuple[str, str], Resource] = {}
    for index, entry in enumerate(resources):
        resource = _resource(entry, where=where, at=f"resources[{index}]")
        key = identity_key(resource)
        if key in found:
            _refuse(
                where,
                f"resources[{index}]: {key[0]} {_shown(key[1])} is recorded twice; Chalice would "
                "silently use the last one.",
                "Keep the entry whose ARN or id exists in the account and remove the other.",
            )
        found[key] = resource
    return StageState(resources=tuple(found.values()))


def parse_v1(
    raw: bytes, stage: str, *, app_name: str, where: str = ".chalice/deployed.json"
) -> StageState | None:
    """The stage's entry of a `.chalice/deployed.json`, converted as Chalice converts it.

    None when the file does not have the stage.  Roles and rules are not in such a file; Chalice
    finds them again by name.  Raises StateDamaged for a damaged file and NotOurs for the state of
    another app, which Chalice would adopt.
    """
    document = _document(raw, where)
    if "schema_version" in document or "resources" in document:
        _refuse(
            where,
            "This file has `resources` or `schema_version`: it is a state of schema 2.0, which "
            "belongs at `.chalice/deployed/<stage>.json`.",
            "Move it there.",
        )
    if stage not in document:
        return None
    entry = document[stage]
    at = f"{where}: {stage}"
    if not isinstance(entry, Mapping):
        _refuse(at, "The stage's entry is not an object.", "Restore the file that Chalice wrote.")
    handler_arn = _v1_text(entry, "api_handler_arn", at)
    rest_api_id = _v1_text(entry, "rest_api_id", at)
    expected = f"{app_name}-{stage}"
    recorded = entry.get("api_handler_name", expected)
    if recorded != expected or _function_of(handler_arn, at) != expected:
        _foreign(at, expected, recorded if recorded != expected else handler_arn)
    resources = [
        *_v1_functions(entry, prefix=f"{expected}-", at=at),
        {"name": "api_handler", "resource_type": "lambda_function", "lambda_arn": handler_arn},
        {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": rest_api_id},
    ]
    return checked(resources, where=at)


def stages_of_v1(raw: bytes, *, where: str = ".chalice/deployed.json") -> tuple[str, ...]:
    """The stages that a `.chalice/deployed.json` has, sorted."""
    return tuple(sorted(_document(raw, where)))


def is_v1(raw: bytes, *, where: str = "deployed state") -> bool:
    """Whether this is a file of schema 1: neither `schema_version` nor a list of `resources`."""
    document = _document(raw, where)
    return "schema_version" not in document and "resources" not in document


def merge(old: StageState, partial: StageState) -> StageState:
    """What exists after a deploy that recorded `partial` on top of `old` and then failed.

    Entries meet by type and name.  Where both have one and mean the same AWS resource, the
    partial entry's keys win and the old one's further keys stay; where it is another AWS
    resource, the partial entry stands alone (see `displaced`).  Every other old entry stays: not
    being reached is not being gone.  An entry without its identifying keys is left out unless the
    old one completes it: Chalice could neither update nor delete it.
    """
    merged: dict[tuple[str, str], Resource] = {identity_key(r): r for r in old.resources}
    for resource in partial.resources:
        key = identity_key(resource)
        before = merged.get(key)
        entry = dict(resource)
        if before is not None and _same_in_aws(before, resource):
            entry = {**before, **resource}
        if not missing_keys(entry):
            merged[key] = entry
    # Chalice looks entries up by name alone and takes the last: a name that changed its type must
    # end on what was recorded most recently.
    fresh = {str(r["name"]) for r in partial.resources}
    current = {identity_key(r) for r in partial.resources}
    stale = [k for k in merged if k[1] in fresh and k not in current]
    order = [*stale, *(k for k in merged if k not in stale)]
    return StageState(resources=tuple(merged[key] for key in order))


def displaced(old: StageState, partial: StageState) -> tuple[Resource, ...]:
    """Old entries whose place another AWS resource took: `merge` cannot keep both in one file."""
    return tuple(
        before
        for resource in partial.resources
        if (before := old.find(*identity_key(resource))) is not None
        and not _same_in_aws(before, resource)
    )


def missing_keys(resource: Resource) -> tuple[str, ...]:
    """The identifying keys that this entry lacks."""
    return tuple(
        key
        for key in IDENTITY.get(str(resource["resource_type"]), ())
        if not isinstance(resource.get(key), str) or not resource[key]
    )


def _same_in_aws(before: Resource, after: Resource) -> bool:
    keys = IDENTITY.get(str(after["resource_type"]), ())
    return all(before.get(key) == after[key] for key in keys if key in after)


def _document(raw: bytes, where: str) -> dict[str, object]:
    if len(raw) > MAX_BYTES:
        _refuse(
            where,
            f"The file has {len(raw)} bytes; the bound is {MAX_BYTES}.",
            "Restore the file that Chalice wrote.",
        )
    if not raw.strip():
        _refuse(
            where,
            "The file is empty, as a write that was cut off leaves it.",
            "Restore it from the version control. An app that was never deployed has no file.",
        )
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        _refuse(
            where,
            "The file begins with a byte order mark, which Chalice cannot read.",
            "Save it as UTF-8 without a byte order mark.",
        )
    if b"\0" in raw:
        _refuse(
            where,
            "The file holds NUL bytes, as a crash of the machine leaves it.",
            "Restore it from the version control.",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(
            where,
            f"The file is not UTF-8 (byte {error.start}).",
            "Restore the file that Chalice wrote.",
        )
    marker = _MARKER.search(text)
    if marker:
        line = text.count("\n", 0, marker.start()) + 1
        _refuse(
            f"{where}:{line}",
            "The file holds the markers of a merge conflict.",
            "Take one side whole: the one whose ids exist in the account. chalice-ci keeps the "
            "state on a branch of its own, so that merges do not meet it.",
        )
    return _parsed(text, where)


def _parsed(text: str, where: str) -> dict[str, object]:
    try:
        document = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_no_number,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except json.JSONDecodeError as error:
        cut_off = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        what = "The file is cut off" if cut_off else "The file is not JSON"
        _refuse(
            f"{where}:{error.lineno}:{error.colno}",
            f"{what}: {error.msg}.",
            "Restore it from the version control.",
        )
    except _Refused as error:
        _refuse(where, str(error), "Restore the file that Chalice wrote.")
    except RecursionError:
        _refuse(where, "The file is nested too deeply.", "Restore the file that Chalice wrote.")
    if not isinstance(document, dict):
        _refuse(where, "The file is not a JSON object.", "Restore the file that Chalice wrote.")
    return document


class _Refused(Exception):
    """What the JSON reader's hooks refuse; `_parsed` adds the place."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"The key {_shown(key)} stands twice in one object.")
        found[key] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise _Refused(f"The number {_shown(text)} stands where Chalice writes text.")


def _resource(entry: object, *, where: str, at: str) -> Resource:
    if not isinstance(entry, Mapping):
        _refuse(where, f"{at} is not an object.", "Restore the file that Chalice wrote.")
    for key in ("name", "resource_type"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            _refuse(where, f"{at} has no `{key}`.", "Restore the file that Chalice wrote.")
    for problem in _problems_of_value(entry, "", 0):
        _refuse(where, f"{at}{problem}", "Restore the file that Chalice wrote.")
    resource_type = str(entry["resource_type"])
    named = f"{at} ({resource_type} {_shown(entry['name'])})"
    if resource_type not in IDENTITY:
        _refuse(
            where,
            f"{at}: unknown resource type {_shown(resource_type)}.",
            f"Known are {', '.join(IDENTITY)}. A newer Chalice needs a newer chalice-ci.",
        )
    missing = missing_keys(entry)
    if missing:
        _refuse(
            where,
            f"{named} has no `{missing[0]}`, without which it can be neither updated nor deleted.",
            "Add the value from the account, or remove the entry and delete the resource by hand.",
        )
    if resource_type in URL_KEYS:
        key, scheme = URL_KEYS[resource_type]
        url = entry.get(key)
        if url is not None and not (isinstance(url, str) and url.startswith(scheme)):
            _refuse(
                where,
                f"{named}: `{key}` does not begin with {scheme}.",
                "Restore the file that Chalice wrote.",
            )
    if resource_type == "domain_name":
        _check_mappings(entry.get("api_mapping"), where, named)
    return dict(entry)


def _check_mappings(mappings: object, where: str, named: str) -> None:
    if mappings is None:
        return
    sound = isinstance(mappings, Sequence) and all(
        isinstance(mapping, Mapping) and isinstance(mapping.get("key"), str) for mapping in mappings
    )
    if not sound:
        _refuse(
            where,
            f"{named}: `api_mapping` is not a list of objects with a `key`.",
            "Restore the file that Chalice wrote.",
        )


def _problems_of_value(value: object, at: str, depth: int) -> Iterator[str]:
    """What is wrong with a value from outside; `at` is the path below the resource."""
    if depth > MAX_DEPTH:
        yield f"{at} is nested too deeply."
    elif isinstance(value, str):
        yield from _problems_of_text(value, at)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield f"{at} has a key that is not text."
                continue
            yield from _problems_of_text(key, f"{at} (a key)")
            yield from _problems_of_value(inner, f"{at}.{key[:80]}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _problems_of_value(inner, f"{at}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, bool):
        yield f"{at} is a {type(value).__name__} where Chalice writes text."


def _problems_of_text(text: str, at: str) -> Iterator[str]:
    if len(text) > MAX_TEXT:
        yield f"{_visible(at)} has {len(text)} characters; the bound is {MAX_TEXT}."
    for character in text[:MAX_TEXT]:
        if unicodedata.category(character) in _REFUSED_CATEGORIES:
            yield f"{_visible(at)} holds the invisible character U+{ord(character):04X}."
            return


def _v1_text(entry: Mapping[str, object], key: str, at: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        _refuse(
            at,
            f"`{key}` is missing; Chalice cannot convert the entry without it.",
            "Add it from the account, or remove the stage's entry if the stage is gone.",
        )
    return value


def _v1_functions(
    entry: Mapping[str, object], *, prefix: str, at: str
) -> Iterator[dict[str, object]]:
    functions = entry.get("lambda_functions", {})
    if not isinstance(functions, Mapping):
        _refuse(at, "`lambda_functions` is not an object.", "Restore the file that Chalice wrote.")
    # Before 0.10 an entry was the ARN alone, later an object with the ARN and the type. Chalice
    # decides by the first kind for all of them; a file that mixes both was edited by hand.
    for name, value in functions.items():
        arn = value.get("arn") if isinstance(value, Mapping) else value
        if not isinstance(arn, str):
            _refuse(
                at,
                f"lambda_functions.{_shown(name)} has no ARN.",
                "Add it from the account, or remove the entry if the function is gone.",
            )
        if not name.startswith(prefix) or len(name) == len(prefix):
            _foreign(at, f"{prefix}*", name)
        if _function_of(arn, at) != name:
            _foreign(at, name, arn)
        yield {
            "resource_type": "lambda_function",
            "lambda_arn": arn,
            "name": name[len(prefix) :],
        }
    if len({isinstance(value, Mapping) for value in functions.values()}) > 1:
        _refuse(
            at,
            "`lambda_functions` mixes ARNs and objects; Chalice fails on it.",
            'Write every entry as {"arn": ..., "type": ...}.',
        )


def _function_of(arn: str, at: str) -> str:
    match = _FUNCTION_ARN.fullmatch(arn)
    if match is None:
        _refuse(
            at,
            f"{_shown(arn)} is not the ARN of a Lambda function.",
            "Restore the file that Chalice wrote.",
        )
    return match[1]


def _foreign(at: str, expected: str, found: object) -> NoReturn:
    raise NotOurs(
        f"The file names {_shown(found)} where this app and stage have {_shown(expected)}: it is "
        "the state of another app (often a copied project). Chalice would adopt it, and then "
        "update and delete that app's functions.",
        where=_visible(at),
        fix="Remove the stage's entry, or set app_name in .chalice/config.json to the app that "
        "deployed it.",
    )


def _shown(value: object) -> str:
    """A value from outside in a message: quoted, printable, short."""
    text = json.dumps(value) if not isinstance(value, Mapping | Sequence) else repr(value)
    text = json.dumps(value) if isinstance(value, str) else text
    return text if len(text) <= 120 else f"{text[:117]}..."


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _refuse(where: str, what: str, fix: str) -> NoReturn:
    raise StateDamaged(_visible(what), where=_visible(where), fix=fix)
