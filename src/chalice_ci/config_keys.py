"""The keys of `.chalice/config.json`: where Chalice reads each, and what it must be.

Taken from `chalice/config.py`, `chalice/deploy/appgraph.py` and `chalice/deploy/validate.py` of
1.29.0 to 1.34.0 (`lambda_architecture` is the only key that came in between) and, for bounds, from
AWS's own service descriptions. Chalice itself checks next to none of this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from chalice_ci.config import LAMBDA_RESERVED_VARIABLES
from chalice_ci.findings import Place, Severity
from chalice_ci.positions import ListNode, MapNode, Node, ScalarNode, did_you_mean, shown


class Level(StrEnum):
    """Where a key can stand."""

    TOP = "top"
    STAGE = "stage"
    TOP_FUNCTION = "function, for every stage"
    FUNCTION = "function of a stage"


class Fault(StrEnum):
    """What is wrong with a value; each is a rule."""

    TYPE = "config-json-type"
    VALUE = "config-json-value"
    UNKNOWN = "config-json-unknown-key"


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Something to say about a value."""

    fault: Fault
    what: str
    at: Place
    fix: str = ""
    severity: Severity | None = None
    subject: str = ""


Check = Callable[[Node, str], Iterator[Objection]]
"""Checks a value, given how to call it in a sentence."""


@dataclass(frozen=True, kw_only=True)
class ConfigKey:
    """A key: its levels, its type in words, its check; `since` is a release of Chalice."""

    name: str
    levels: tuple[Level, ...]
    words: str
    check: Check
    summary: str
    default: str = ""
    example: str = ""
    since: str = ""


def kind_of(node: Node) -> str:
    """What a value is, in words; the value itself may be a secret."""
    match node:
        case MapNode():
            return "an object"
        case ListNode():
            return "a list"
        case ScalarNode(value=None):
            return "null"
        case ScalarNode(value=bool()):
            return "true or false"
        case ScalarNode(value=str()):
            return "text"
        case ScalarNode(value=float()):
            return "a number with a fraction"
        case _:
            return "a number"


def _wrong(node: Node, name: str, words: str, fix: str = "") -> Objection:
    return Objection(
        fault=Fault.TYPE,
        what=f"{name} must be {words}, not {kind_of(node)}.",
        at=node.at,
        fix=fix,
    )


def _unset(node: Node) -> bool:
    """Chalice takes null for "not set"."""
    return isinstance(node, ScalarNode) and node.value is None


def _text(node: Node, name: str) -> Iterator[Objection]:
    if not _unset(node) and not (isinstance(node, ScalarNode) and isinstance(node.value, str)):
        yield _wrong(node, name, "text", "Put the text in double quotes.")


def _flag(node: Node, name: str) -> Iterator[Objection]:
    if not _unset(node) and not (isinstance(node, ScalarNode) and isinstance(node.value, bool)):
        fix = 'Write true or false without quotes: Chalice takes any text, even "false", for true.'
        yield _wrong(node, name, "true or false", fix)


def _number(minimum: int, maximum: int | None = None, limit: int | None = None) -> Check:
    """A whole number. Beyond `maximum` Chalice refuses; AWS may raise `limit`, so it only warns."""

    def check(node: Node, name: str) -> Iterator[Objection]:
        if _unset(node):
            return
        value = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(value, int) or isinstance(value, bool):
            yield _wrong(node, name, "a whole number", "Write it without quotes and fraction.")
        elif value < minimum or (maximum is not None and value > maximum):
            upper = f" to {maximum}" if maximum is not None else " or more"
            yield Objection(
                fault=Fault.VALUE,
                what=f"{name} must be {minimum}{upper}, not {shown(str(value))[1:-1]}.",
                at=node.at,
            )
        elif limit is not None and value > limit:
            yield Objection(
                fault=Fault.VALUE,
                what=f"{name} is {shown(str(value))[1:-1]}, more than the {limit} "
                "that AWS documents.",
                at=node.at,
                severity=Severity.WARNING,
            )

    return check


RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)


def _retention(node: Node, name: str) -> Iterator[Objection]:
    wrong = list(_number(0)(node, name))
    yield from wrong
    if wrong or not isinstance(node, ScalarNode) or not node.value:
        return
    if node.value not in RETENTIONS:
        yield Objection(
            fault=Fault.VALUE,
            what=f"{name} is {shown(str(node.value))[1:-1]} days, "
            "which CloudWatch Logs does not document.",
            at=node.at,
            fix=f"Choose one of {', '.join(map(str, RETENTIONS))}.",
            severity=Severity.WARNING,
        )


def _choice(*choices: str) -> Check:
    def check(node: Node, name: str) -> Iterator[Objection]:
        if _unset(node):
            return
        value = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(value, str):
            yield _wrong(node, name, f"one of {', '.join(choices)}")
        elif value not in choices:
            yield Objection(
                fault=Fault.VALUE,
                what=f"{name} must be one of {', '.join(choices)}, not {shown(value)}."
                f"{did_you_mean(value, choices)}",
                at=node.at,
            )

    return check


def _texts(node: Node, name: str) -> Iterator[Objection]:
    if _unset(node):
        return
    if not isinstance(node, ListNode):
        yield _wrong(node, name, "a list of text", 'Write `["…"]`.')
        return
    for index, item in enumerate(node.items):
        if not (isinstance(item, ScalarNode) and isinstance(item.value, str)):
            yield _wrong(item, f"item {index + 1} of {name}", "text")


def _text_or_texts(node: Node, name: str) -> Iterator[Objection]:
    if not (isinstance(node, ScalarNode) and isinstance(node.value, str)):
        yield from _texts(node, name)


def _api_stage(node: Node, name: str) -> Iterator[Objection]:
    wrong = list(_text(node, name))
    yield from wrong
    if wrong or not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", node.value):
        yield Objection(
            fault=Fault.VALUE,
            what=f"{name} must be letters, digits, `-` and `_` (it is part of the URL), "
            f"not {shown(node.value)}.",
            at=node.at,
        )


def _tags(node: Node, name: str) -> Iterator[Objection]:
    if _unset(node):
        return
    if not isinstance(node, MapNode):
        yield _wrong(node, name, "an object", 'Write `{"NAME": "value"}`.')
        return
    for entry in node.entries:
        if not (isinstance(entry.value, ScalarNode) and isinstance(entry.value.value, str)):
            fix = 'Put the value in double quotes: `"1"`, `"true"`, `"{\\"a\\": 1}"`.'
            wrong = _wrong(entry.value, f"{shown(entry.key)} in {name}", "text", fix)
            yield Objection(
                fault=wrong.fault, what=wrong.what, at=wrong.at, fix=fix, subject=entry.key
            )


def _variables(node: Node, name: str) -> Iterator[Objection]:
    yield from _tags(node, name)
    if not isinstance(node, MapNode):
        return
    for entry in node.entries:
        if entry.key in LAMBDA_RESERVED_VARIABLES:
            yield Objection(
                fault=Fault.VALUE,
                what=f"{shown(entry.key)} in {name} is reserved: Lambda sets it itself "
                "and refuses a function that brings its own.",
                at=entry.at,
                fix="Remove it, or choose another name.",
                subject=entry.key,
            )
        elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]+", entry.key):
            yield Objection(
                fault=Fault.VALUE,
                what=f"{shown(entry.key)} in {name} is no name that Lambda takes: two or more "
                "letters, digits and `_`, beginning with a letter.",
                at=entry.at,
                subject=entry.key,
            )


_TLS = ("TLS_1_0", "TLS_1_1", "TLS_1_2")
_DOMAIN_KEYS = ("domain_name", "certificate_arn", "tls_version", "url_prefix", "tags")


def _domain(node: Node, name: str) -> Iterator[Objection]:
    if _unset(node):
        return
    if not isinstance(node, MapNode):
        yield _wrong(node, name, "an object", "It has domain_name and certificate_arn.")
        return
    for entry in node.entries:
        inner = f"`{entry.key}` of {name}"
        if entry.key in ("domain_name", "certificate_arn"):
            if not (isinstance(entry.value, ScalarNode) and isinstance(entry.value.value, str)):
                yield _wrong(entry.value, inner, "text")
        elif entry.key == "tls_version":
            for objection in _choice(*_TLS)(entry.value, inner):
                # Chalice takes any other text for "not set".
                ignored = objection.fault is Fault.VALUE
                yield Objection(
                    fault=objection.fault,
                    what=objection.what,
                    at=objection.at,
                    fix="Chalice ignores it and takes its default, TLS_1_2." if ignored else "",
                    severity=Severity.WARNING if ignored else None,
                )
        elif entry.key == "url_prefix":
            yield from _text(entry.value, inner)
        elif entry.key == "tags":
            yield from _tags(entry.value, inner)
        else:
            yield Objection(
                fault=Fault.UNKNOWN,
                what=f"Chalice does not know the key {shown(entry.key)} in {name} and ignores it."
                f"{did_you_mean(entry.key, _DOMAIN_KEYS)}",
                at=entry.at,
                subject=entry.key,
            )
    for key in _DOMAIN_KEYS[:2]:
        if node.entry(key) is None:
            yield Objection(
                fault=Fault.VALUE, what=f"{name} has no `{key}`.", at=node.at, fix=f'Add `"{key}"`.'
            )


_STAGE = (Level.TOP, Level.STAGE)
_EVERYWHERE = (Level.TOP, Level.STAGE, Level.TOP_FUNCTION, Level.FUNCTION)
MERGED = (Level.TOP, Level.STAGE, Level.FUNCTION)
"""The levels of keys that Chalice merges; it ignores them in functions for every stage."""


def _anything(_node: Node, _name: str) -> Iterator[Objection]:
    return iter(())


KEYS: tuple[ConfigKey, ...] = (
    ConfigKey(
        name="version",
        levels=(Level.TOP,),
        words='`"2.0"`',
        check=_anything,
        summary="The version of the file's format.",
        default="`1.0`",
        example='"2.0"',
    ),
    ConfigKey(
        name="app_name",
        levels=(Level.TOP,),
        words="text",
        check=_text,
        summary="The first part of the names of all AWS resources; required here.",
        example='"orders"',
    ),
    ConfigKey(
        name="stages",
        levels=(Level.TOP,),
        words="an object",
        check=_anything,
        summary="The stages by name, each an object of the keys below.",
        default="`dev`",
        example='{"dev": {}}',
    ),
    ConfigKey(
        name="lambda_functions",
        levels=_STAGE,
        words="an object",
        check=_anything,
        summary="Settings of single functions by their names (`api_handler` serves the routes).",
        example='{"worker": {"lambda_timeout": 60}}',
    ),
    ConfigKey(
        name="lambda_architecture",
        levels=_STAGE,
        words="`x86_64` or `arm64`",
        check=_choice("x86_64", "arm64"),
        summary="The processor of the functions. Older releases of Chalice ignore it.",
        default="`x86_64`",
        example='"arm64"',
        since="1.34.0",
    ),
    ConfigKey(
        name="automatic_layer",
        levels=_STAGE,
        words="true or false",
        check=_flag,
        summary="Put the dependencies into a layer instead of each function.",
        default="`false`",
        example="true",
    ),
    ConfigKey(
        name="api_gateway_stage",
        levels=_STAGE,
        words="text",
        check=_api_stage,
        summary="The API's stage, the last part of its URL.",
        default="`api`",
        example='"v1"',
    ),
    ConfigKey(
        name="api_gateway_endpoint_type",
        levels=_STAGE,
        words="`EDGE`, `REGIONAL` or `PRIVATE`",
        check=_choice("EDGE", "REGIONAL", "PRIVATE"),
        summary="The type of the REST API's endpoint.",
        default="`EDGE`",
        example='"REGIONAL"',
    ),
    ConfigKey(
        name="api_gateway_endpoint_vpce",
        levels=_STAGE,
        words="text or a list of text",
        check=_text_or_texts,
        summary="The VPC endpoints that may call a `PRIVATE` API.",
        example='["vpce-0a1b2c3d"]',
    ),
    ConfigKey(
        name="api_gateway_policy_file",
        levels=_STAGE,
        words="text",
        check=_text,
        summary="The REST API's resource policy, a file beneath `.chalice/`.",
        example='"network.json"',
    ),
    ConfigKey(
        name="minimum_compression_size",
        levels=_STAGE,
        words="a whole number",
        check=_number(0, maximum=10_485_760),
        summary="Responses from this many bytes on are compressed.",
        default="no compression",
        example="1024",
    ),
    ConfigKey(
        name="api_gateway_custom_domain",
        levels=_STAGE,
        words="an object",
        check=_domain,
        summary="The REST API's domain: `domain_name`, `certificate_arn`, "
        "and as needed `tls_version`, `url_prefix`, `tags`.",
        example='{"domain_name": "api.example.com", "certificate_arn": "arn:…"}',
    ),
    ConfigKey(
        name="websocket_api_custom_domain",
        levels=_STAGE,
        words="an object",
        check=_domain,
        summary="The WebSocket API's domain, with the same keys.",
        example='{"domain_name": "live.example.com", "certificate_arn": "arn:…"}',
    ),
    ConfigKey(
        name="autogen_policy",
        levels=_EVERYWHERE,
        words="true or false",
        check=_flag,
        summary="Chalice derives the role's policy from the source.",
        default="`true`",
        example="false",
    ),
    ConfigKey(
        name="environment_variables",
        levels=MERGED,
        words="an object of text",
        check=_variables,
        summary="Variables of the functions; the levels are merged, the innermost wins.",
        example='{"TABLE": "orders"}',
    ),
    ConfigKey(
        name="tags",
        levels=MERGED,
        words="an object of text",
        check=_tags,
        summary="Tags of the functions; the levels are merged, the innermost wins.",
        example='{"team": "shop"}',
    ),
    ConfigKey(
        name="iam_policy_file",
        levels=_EVERYWHERE,
        words="text",
        check=_text,
        summary="The role's policy when `autogen_policy` is false, a file beneath `.chalice/`.",
        default="`policy-<stage>.json`",
        example='"policy.json"',
    ),
    ConfigKey(
        name="iam_role_arn",
        levels=_EVERYWHERE,
        words="text",
        check=_text,
        summary="The role to use when `manage_iam_role` is false.",
        example='"arn:aws:iam::123456789012:role/orders"',
    ),
    ConfigKey(
        name="manage_iam_role",
        levels=_EVERYWHERE,
        words="true or false",
        check=_flag,
        summary="Chalice creates and updates the role.",
        default="`true`",
        example="false",
    ),
    ConfigKey(
        name="lambda_memory_size",
        levels=_EVERYWHERE,
        words="a whole number",
        check=_number(128, limit=10_240),
        summary="The memory of the functions in MB.",
        default="Lambda's 128",
        example="512",
    ),
    ConfigKey(
        name="lambda_timeout",
        levels=_EVERYWHERE,
        words="a whole number",
        check=_number(1, limit=900),
        summary="The time limit of the functions in seconds.",
        default="60",
        example="30",
    ),
    ConfigKey(
        name="layers",
        levels=_EVERYWHERE,
        words="a list of text",
        check=_texts,
        summary="ARNs of layer versions for the functions.",
        example='["arn:aws:lambda:eu-west-1:123456789012:layer:common:3"]',
    ),
    ConfigKey(
        name="log_retention_in_days",
        levels=_EVERYWHERE,
        words="a whole number",
        check=_retention,
        summary="How long CloudWatch Logs keeps the functions' logs.",
        default="for ever",
        example="30",
    ),
    ConfigKey(
        name="reserved_concurrency",
        levels=_EVERYWHERE,
        words="a whole number",
        check=_number(0),
        summary="The concurrent executions reserved for a function.",
        default="none reserved",
        example="5",
    ),
    ConfigKey(
        name="security_group_ids",
        levels=_EVERYWHERE,
        words="a list of text",
        check=_texts,
        summary="The security groups in the VPC; needs `subnet_ids`.",
        example='["sg-0a1b2c3d"]',
    ),
    ConfigKey(
        name="subnet_ids",
        levels=_EVERYWHERE,
        words="a list of text",
        check=_texts,
        summary="The subnets in the VPC; needs `security_group_ids`.",
        example='["subnet-0a1b2c3d"]',
    ),
    ConfigKey(
        name="xray",
        levels=_EVERYWHERE,
        words="true or false",
        check=_flag,
        summary="AWS X-Ray traces the functions and the REST API.",
        default="`false`",
        example="true",
    ),
)
"""Every key, in the order of the documentation."""

BY_NAME = {key.name: key for key in KEYS}

DEFAULTS: dict[str, object] = {
    "api_gateway_endpoint_type": "EDGE",
    "api_gateway_stage": "api",
    "autogen_policy": True,
    "automatic_layer": False,
    "lambda_architecture": "x86_64",
    "manage_iam_role": True,
}
"""Chalice's own defaults."""


def markdown_table() -> str:
    """The keys of config.json for the documentation."""
    rows = [
        "| Key | Type | Top | Stage | Function | Default | Meaning | Example |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key in KEYS:
        top, stage = ("yes" if level in key.levels else "" for level in (Level.TOP, Level.STAGE))
        function = "yes" if Level.TOP_FUNCTION in key.levels else ""
        if not function and Level.FUNCTION in key.levels:
            function = "of a stage"
        since = f" Since Chalice {key.since}." if key.since else ""
        rows.append(
            f"| `{key.name}` | {key.words} | {top} | {stage} | {function} | {key.default} "
            f"| {key.summary}{since} | `{key.example}` |"
        )
    return "\n".join(rows) + "\n"
