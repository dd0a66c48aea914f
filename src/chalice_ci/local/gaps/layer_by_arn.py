"""GetLayerVersionByArn: `GET /layers?find=LayerVersion&Arn=...`."""

from __future__ import annotations

import json
from typing import Any

from moto.awslambda.exceptions import UnknownLayerException
from moto.awslambda.responses import LambdaResponse

from chalice_ci.local.gaps.gap import Added, Gap


def _get(self: LambdaResponse) -> Any:
    layer = self.backend.layers_versions_by_arn(self.querystring["Arn"][0])
    if layer is None:
        raise UnknownLayerException
    return json.dumps(layer.get_layer_version())


GAP = Gap(
    name="layer-by-arn",
    lacks="GetLayerVersionByArn is not implemented",
    hits="`automatic_layer`, second deploy",
    patches=(Added(owner=LambdaResponse, name="get_layer_version_by_arn", method=_get),),
)
