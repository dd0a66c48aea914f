"""How settings are told before and after: texts of a few words, in a stable order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chalice_ci.difference.changes import Detail

Told = str | None
Setting = tuple[str, object, object]
"""A name and the values before and after."""


def told(value: object) -> Told:
    """A value as text; None for what is not set, "" for an empty text is not set either."""
    match value:
        case None | "" | ():
            return None
        case bool():
            return "on" if value else None
        case tuple():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)


def differing(settings: Iterable[Setting]) -> Iterator[Detail]:
    """The settings whose values differ, in the order given."""
    for name, before, after in settings:
        if before != after and (told(before), told(after)) != (None, None):
            yield Detail(name=name, before=told(before), after=told(after))
