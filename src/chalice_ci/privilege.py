"""Whether this process may act for other users: start programs as them, and give them files."""

from __future__ import annotations

import os
from pathlib import Path

NEEDED = {"CHOWN": 0, "SETGID": 6, "SETUID": 7}
"""The capabilities of Linux that it takes, by their number (linux/capability.h)."""


def acts_for_others(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this is root, with what makes it more than a name: containers can take it away.

    Where no `/proc` tells, root may do it.
    """
    if os.geteuid() != 0:
        return False
    try:
        lines = status.read_text(encoding="ascii").splitlines()
        (effective,) = [int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")]
    except (OSError, ValueError, IndexError):
        return True
    return all(effective >> number & 1 for number in NEEDED.values())
