"""Patterns as IAM has them: `*` is any text, `?` any one character. Pure."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=65536)
def covers(wide: str, narrow: str) -> bool:
    """Whether everything that `narrow` stands for is matched by `wide`; a plain text is a pattern.

    A wildcard of `narrow` is only matched by one of `wide`, so a few patterns that do cover another
    one are not recognised (`a*` and `a`, together, as `a*`): never the other way round.
    """
    # Which ends of `narrow` are reached with the part of `wide` that was looked at so far.
    reached = [True, *([False] * len(narrow))]
    for symbol in wide:
        if symbol == "*":
            for index in range(len(narrow)):
                reached[index + 1] = reached[index + 1] or reached[index]
            continue
        for index in range(len(narrow), 0, -1):
            wanted = narrow[index - 1]
            same = wanted == symbol or (symbol == "?" and wanted != "*")
            reached[index] = reached[index - 1] and same
        reached[0] = False
    return reached[-1]


@lru_cache(maxsize=65536)
def overlap(one: str, other: str) -> bool:
    """Whether some text is matched by both patterns."""
    # below[j]: what is left of `one` after this symbol and `other[j:]` can mean the same.
    below = [all(symbol == "*" for symbol in other[index:]) for index in range(len(other) + 1)]
    for mine in reversed(one):
        here = [mine == "*" and below[-1]]
        for index in range(len(other) - 1, -1, -1):
            theirs, after = other[index], here[0]
            if mine == "*" or theirs == "*":
                same = below[index] if mine == "*" else after
                can = same or (after if mine == "*" else below[index])
            else:
                can = below[index + 1] and (mine == theirs or "?" in (mine, theirs))
            here.insert(0, can)
        below = here
    return below[0]
