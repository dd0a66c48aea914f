"""PutBucketNotification: AWS takes filter names in any case, Chalice writes `Prefix`."""

from __future__ import annotations

import re
from typing import Any

from moto.s3.responses import S3Response

from chalice_ci.local.gaps.gap import Around, Gap, Method

_NAME = re.compile(r"(<Name>)(prefix|suffix)(</Name>)", re.IGNORECASE)


def _parse(moto: Method, self: Any) -> Any:
    text = self.body.decode() if isinstance(self.body, bytes) else self.body
    self.body = _NAME.sub(lambda match: match[1] + match[2].lower() + match[3], text)
    return moto(self)


GAP = Gap(
    name="s3-filters",
    lacks="filter names other than `prefix` and `suffix` in lower case are an AssertionError",
    hits="`@app.on_s3_event` with prefix or suffix",
    patches=(Around(owner=S3Response, name="_notification_config_from_body", wrapper=_parse),),
)
