"""Credentials that run out while a deploy goes on: the parent is asked for new ones in time.

The parent assumes the role, the child is only told what came of it. botocore reads the credentials
of an environment that names their end, AWS_CREDENTIAL_EXPIRATION, again when that comes near: to
write the new ones there is all that has to be done. Without that name they are nobody's to renew.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

EXPIRATION = "AWS_CREDENTIAL_EXPIRATION"
MARGIN_SECONDS = 300.0
"""A call may last so long, with all its repetitions."""
PATIENCE_SECONDS = 20.0
"""What was asked for and not given is not asked for again at each call."""


class Credentials:
    """The credentials in this process's environment; `request` asks the parent."""

    def __init__(self, request: Callable[[Mapping[str, Any]], Any]) -> None:
        self._request = request
        self._turn = threading.Lock()
        self._asked = float("-inf")

    def keep(self) -> None:
        """Get new ones if these are about to run out; where there are none, these stay."""
        if EXPIRATION not in os.environ or not self._is_due():
            return
        with self._turn:
            # Another thread may have asked meanwhile.
            if self._is_due():
                given = self._request({"renew": True})["environ"]
                os.environ.update(given)
                if not given:
                    self._asked = time.monotonic()

    def _is_due(self) -> bool:
        if time.monotonic() - self._asked < PATIENCE_SECONDS and _left() > 0:
            return False
        return _left() < MARGIN_SECONDS


def _left() -> float:
    try:
        end = datetime.fromisoformat(os.environ.get(EXPIRATION, ""))
        return end.timestamp() - time.time()
    except ValueError:
        return float("inf")
