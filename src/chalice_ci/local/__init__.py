"""The embedded AWS and the gateway that serves deployed packages over HTTP.

Part of the extra `chalice-ci[local]`: nothing outside this package imports moto, and nothing in it
does before a server starts in a process of its own.
"""

from __future__ import annotations

from chalice_ci.local.aws import EmbeddedAWS, Endpoint
from chalice_ci.local.cloud import LocalCloud
from chalice_ci.local.mode import LocalMode

__all__ = ["EmbeddedAWS", "Endpoint", "LocalCloud", "LocalMode"]
