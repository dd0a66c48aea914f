"""Sizes as people read them: decimal units, as AWS's limits are written."""

from __future__ import annotations


def human_size(size: int) -> str:
    """A size for people: "999 B", "8.1 MB"."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 1000 or unit == "GB":
            break
    return f"{value:.1f} {unit}"


def human_delta(delta: int) -> str:
    """A difference of bytes with its sign: "+212.0 kB", "−1.1 MB", "±0 B"."""
    if not delta:
        return "±0 B"
    return f"{'+' if delta > 0 else '−'}{human_size(abs(delta))}"
