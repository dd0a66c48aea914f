"""What moto lacks for Chalice, one module per gap.

Each gap has a probe in `tests/test_local_gaps.py` that passes with it and fails without it.
When moto closes a gap, that second half fails, and the module can be deleted.
"""

from __future__ import annotations

from collections.abc import Collection

from chalice_ci.local.gaps import (
    api_settings,
    authorizers,
    compression,
    domains,
    endpoints,
    event_mappings,
    function_settings,
    integrations,
    invocations,
    layer_by_arn,
    missing_api,
    s3_filters,
    sdk,
    stage_snapshot,
    stage_tracing,
    swagger,
    websocket_deployments,
)
from chalice_ci.local.gaps.gap import Gap

# In this order: the first one is next to moto's own method, later ones see what Chalice sent.
GAPS: tuple[Gap, ...] = (
    swagger.GAP,
    integrations.GAP,
    endpoints.GAP,
    authorizers.GAP,
    api_settings.GAP,
    compression.GAP,
    missing_api.GAP,
    stage_tracing.GAP,
    stage_snapshot.GAP,
    websocket_deployments.GAP,
    s3_filters.GAP,
    layer_by_arn.GAP,
    domains.GAP,
    function_settings.GAP,
    event_mappings.GAP,
    invocations.GAP,
    sdk.GAP,
)


def fill(*, without: Collection[str] = ()) -> None:
    """Fill all gaps but the named ones (which only tests leave open)."""
    names = {gap.name for gap in GAPS}
    if unknown := set(without) - names:
        raise ValueError(f"unknown gaps {sorted(unknown)}; known are {sorted(names)}")
    for gap in GAPS:
        if gap.name not in without:
            gap.fill()
