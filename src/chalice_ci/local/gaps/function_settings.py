"""X-Ray of a function that exists: the `TracingConfig` of UpdateFunctionConfiguration."""

from __future__ import annotations

from typing import Any

from moto.awslambda.models import LambdaFunction

from chalice_ci.local.gaps.gap import Around, Gap, Method


def _update(moto: Method, self: Any, config_updates: dict[str, Any]) -> Any:
    if "TracingConfig" in config_updates:
        self.tracing_config = config_updates["TracingConfig"]
    return moto(self, config_updates)


GAP = Gap(
    name="function-settings",
    lacks="`TracingConfig` of UpdateFunctionConfiguration is ignored",
    hits="`xray` switched on after the first deploy",
    patches=(Around(owner=LambdaFunction, name="update_configuration", wrapper=_update),),
)
