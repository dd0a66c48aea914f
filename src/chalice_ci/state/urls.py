"""The addresses under which a stage answers, read from its recorded state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from chalice_ci.state.schema import URL_KEYS, Resource, StageState

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_ADDRESS = re.compile(r"(?:https|wss)://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]*)?")
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")


@dataclass(frozen=True, kw_only=True)
class StageUrl:
    """An address of a stage; `name` is the resource's, such as `rest_api`."""

    name: str
    url: str


def urls(state: StageState) -> tuple[StageUrl, ...]:
    """Every address of the stage: APIs first, then custom domains; the first is the main one.

    Only addresses of a plain form are given, since a state file comes from outside: no user
    names, queries or other schemes.
    """
    order = {"rest_api": 0, "websocket_api": 1, "domain_name": 2}
    served = [r for r in state.resources if r["resource_type"] in order]
    served.sort(key=lambda r: (order[str(r["resource_type"])], str(r["name"])))
    return tuple(found for resource in served for found in _addresses(resource))


def _addresses(resource: Resource) -> Iterator[StageUrl]:
    name = str(resource["name"])
    if resource["resource_type"] == "domain_name":
        host = str(resource.get("domain_name", ""))
        if not _HOST.fullmatch(host):
            return
        scheme = "wss" if name.startswith("websocket_") else "https"
        for path in _mapped_paths(resource.get("api_mapping")):
            yield StageUrl(name=name, url=f"{scheme}://{host}/{path}")
        return
    url = resource.get(URL_KEYS[str(resource["resource_type"])][0])
    if isinstance(url, str) and _ADDRESS.fullmatch(url):
        yield StageUrl(name=name, url=url)


def _mapped_paths(mappings: object) -> Iterator[str]:
    """The path prefixes of a domain's mappings, without the leading slash; "/" maps the root."""
    if not isinstance(mappings, list | tuple):
        return
    for mapping in mappings:
        path = str(mapping.get("key", "")).strip("/") if isinstance(mapping, dict) else ""
        if _PATH.fullmatch(path):
            yield f"{path}/" if path else ""
