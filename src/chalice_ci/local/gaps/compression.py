"""UpdateRestApi with the path `/minimumCompressionSize`."""

from __future__ import annotations

from typing import Any

from moto.apigateway.models import RestAPI

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _patch(moto: Method, self: Any, patch_operations: list[dict[str, Any]]) -> None:
    moto(self, patch_operations)
    for operation in patch_operations:
        if operation["path"] == "/minimumCompressionSize":
            value = operation.get("value")
            self.minimum_compression_size = int(value) if value else None


GAP = Gap(
    name="compression",
    lacks="the path `/minimumCompressionSize` of UpdateRestApi is ignored",
    hits="`minimum_compression_size`",
    patches=(Around(owner=RestAPI, name="apply_patch_operations", wrapper=_patch),),
)
