"""Calls that may end in an error that a user can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chalice_ci.errors import UsageError

T = TypeVar("T")


def tried(read: Callable[[], T]) -> T | UsageError:
    """What it gives, or the error that a user can act on; any other error is a defect."""
    try:
        return read()
    except UsageError as error:
        return error
