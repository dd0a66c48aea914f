"""Variables that a CI system set, read so that nothing but what was expected gets through. Pure.

Names of branches and labels are text that strangers wrote. Whatever is of another form than the
system would give it is a `UsageError` that names the variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chalice_ci.errors import UsageError
from chalice_ci.neutral import one_line

SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
# git's own rules for a ref: no blank, control, or ~^:?*[\ character, no "..", no slash at an end.
REF = re.compile(r"(?!/)(?!.*(?:\.\.|//|@\{))[^\x00-\x20\x7f\ud800-\udfff~^:?*\[\\]{1,500}(?<!/)")
LINE = re.compile(r"[^\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]{0,300}")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:\[bot\])?")
EVENT = re.compile(r"[a-z_]{1,50}")
KEY = re.compile(r"[A-Za-z0-9{][A-Za-z0-9_.:/{}-]{0,299}")
"""What a system calls a run: numbers, UUIDs (Bitbucket's in braces), ARNs, paths."""
_LABELS = re.compile(r"[^\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]{0,10000}")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]{1,250}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_PAGE = re.compile(
    r"https?://[A-Za-z0-9.-]{1,250}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/%:@!$&+,;=?#-]{0,1000})?"
)


def variable(
    env: Mapping[str, str],
    name: str,
    pattern: re.Pattern[str],
    words: str,
    *,
    required: bool = False,
) -> str:
    """A variable of a known form, "" when it is not set. Raises UsageError for another form."""
    value = env.get(name, "")
    if not value and not required:
        return ""
    if not pattern.fullmatch(value):
        raise not_a(f"variable {name}", words, value)
    return value


def address(env: Mapping[str, str], name: str) -> str:
    """The address of a server, without a slash at its end; raises UsageError."""
    return variable(env, name, _ADDRESS, "the address of a server").rstrip("/")


def page(env: Mapping[str, str], name: str) -> str:
    """The address of a page, such as the run's; raises UsageError."""
    return variable(env, name, _PAGE, "the address of a page")


def number(env: Mapping[str, str], name: str) -> int | None:
    """A number without a sign; raises UsageError."""
    value = variable(env, name, re.compile("[0-9]{1,18}"), "a number")
    return int(value) if value else None


def commit(env: Mapping[str, str], name: str) -> str:
    """A whole commit id; raises UsageError."""
    return variable(env, name, SHA, "a commit id")


def branch(env: Mapping[str, str], name: str) -> str:
    """The name of a branch, without `refs/heads/`; raises UsageError."""
    return variable(env, name, REF, "the name of a branch").removeprefix("refs/heads/")


def tag(env: Mapping[str, str], name: str) -> str:
    """The name of a tag, without `refs/tags/`; raises UsageError."""
    return variable(env, name, REF, "the name of a tag").removeprefix("refs/tags/")


def line(env: Mapping[str, str], name: str) -> str:
    """Text of one line, such as a person's name; raises UsageError."""
    return variable(env, name, LINE, "one line of text")


def labels(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Names with commas between; raises UsageError."""
    value = variable(env, name, _LABELS, "names of labels")
    return tuple(label.strip() for label in value.split(",") if label.strip())


def flag(env: Mapping[str, str], name: str) -> bool | None:
    """True or false in any case of letters, None when it is not set; raises UsageError."""
    value = variable(env, name, re.compile("true|false", re.IGNORECASE), "true or false")
    return value.lower() == "true" if value else None


def not_a(where: str, words: str, value: object) -> UsageError:
    """The error of a value that is of another form than `words`."""
    shown = one_line(repr(value) if isinstance(value, str) else kind(value), 60)
    return UsageError(
        f"this should be {words}, but is {shown}.",
        where=where,
        fix="Leave the CI system's variables and the event's file as they were made.",
    )


def kind(value: object) -> str:
    """What a value of JSON is, in words."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case None:
            return "null"
        case _:
            return "an object"
