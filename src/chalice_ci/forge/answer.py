"""What a forge's answer holds, if it holds what the API's description promises."""

from __future__ import annotations

import re


class Garbled(Exception):
    """An answer lacks what its description promises."""


def text_of(value: object) -> str:
    """The value if it is text; raises Garbled."""
    if not isinstance(value, str):
        raise Garbled
    return value


def count_of(value: object) -> int:
    """The value if it is a number that counts or names; raises Garbled."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Garbled
    return value


def oid_of(value: object) -> str:
    """The value if it is the id of an object of Git; raises Garbled."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{40}", value):
        raise Garbled
    return value
