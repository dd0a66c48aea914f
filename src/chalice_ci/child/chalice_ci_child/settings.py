"""What a function should be, in Lambda's words, and what of it differs from what it is.

Pure: parameters of Chalice's client and answers of Lambda in, keyword arguments out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_KEYS = {
    "environment_variables": "Environment",
    "handler": "Handler",
    "layers": "Layers",
    "memory_size": "MemorySize",
    "role_arn": "Role",
    "runtime": "Runtime",
    "timeout": "Timeout",
}


def wanted(parameters: Mapping[str, Any], vpc: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings that Chalice asks for, as Lambda's parameters; what is None is left."""
    found = {
        key: parameters[name] for name, key in _KEYS.items() if parameters.get(name) is not None
    }
    if "Environment" in found:
        found["Environment"] = {"Variables": found["Environment"]}
    if parameters.get("xray"):
        found["TracingConfig"] = {"Mode": "Active"}
    if vpc is not None:
        found["VpcConfig"] = dict(vpc)
    return found


def differing(
    live: Mapping[str, Any], parameters: Mapping[str, Any], vpc: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the settings that are not live."""
    return {
        key: value
        for key, value in wanted(parameters, vpc).items()
        if _NORMAL.get(key, _same)(live.get(key)) != _NORMAL.get(key, _same)(value)
    }


def code_differs(live: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether a function's package or architecture is not the live one."""
    architecture = parameters.get("architecture")
    return live.get("CodeSha256") != parameters["zip_contents"].code_sha256 or (
        architecture is not None and live.get("Architectures", ["x86_64"]) != [architecture]
    )


def _same(value: Any) -> Any:
    return value


def _layers(value: Any) -> list[str]:
    return [layer if isinstance(layer, str) else str(layer.get("Arn")) for layer in value or ()]


def _vpc(value: Any) -> tuple[list[str], list[str]]:
    value = value or {}
    return sorted(value.get("SubnetIds") or ()), sorted(value.get("SecurityGroupIds") or ())


_NORMAL: Mapping[str, Callable[[Any], Any]] = {
    "Environment": lambda value: (value or {}).get("Variables") or {},
    "Layers": _layers,
    "TracingConfig": lambda value: (value or {}).get("Mode", "PassThrough"),
    "VpcConfig": _vpc,
}
