"""The package indexes in use: their addresses, and who gets which credentials."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from chalice_ci.uv import Uv

if TYPE_CHECKING:
    from chalice_ci.package.requirements import Requirements


_ADDRESSES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)


@dataclass(frozen=True, kw_only=True)
class Origins:
    """The indexes in use: where plain HTTP is allowed, and who gets which credentials.

    Keys are ("https", "host:port") pairs. Never shown: `repr` leaves the credentials out.
    """

    insecure: frozenset[str]
    credentials: Mapping[tuple[str, str], tuple[str, str]]

    def __repr__(self) -> str:
        return f"Origins({len(self.credentials)} with credentials)"


def with_index(
    environ: Mapping[str, str], requirements: Requirements, wheels: tuple[Path, ...] = ()
) -> dict[str, str]:
    """The environment of uv with the indexes that requirements.txt names, and folders of wheels.

    They are not options: a command line can be read by every process of the machine.
    """
    merged = dict(environ)
    if requirements.index_url:
        merged.pop("UV_INDEX_URL", None)
        merged["UV_DEFAULT_INDEX"] = requirements.index_url
    if requirements.extra_index_urls:
        own = merged.pop("UV_EXTRA_INDEX_URL", "")
        extra = (*requirements.extra_index_urls, own, merged.get("UV_INDEX", ""))
        merged["UV_INDEX"] = " ".join(part for part in extra if part)
    if requirements.find_links or wheels:
        merged["UV_FIND_LINKS"] = ",".join((*requirements.find_links, *map(str, wheels)))
    return merged


def addresses(environ: Mapping[str, str]) -> frozenset[str]:
    """The indexes that uv's environment names, without credentials."""
    return frozenset(without_credentials(address) for _, address in _named(environ))


def without_credentials(address: str) -> str:
    """An address without user name and password, and without `/` at its end."""
    scheme, separator, rest = address.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}{separator}{server.rpartition('@')[2]}{slash}{path}".rstrip("/")


def _named(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The name ("" without one) and the address of each index."""
    for name in _ADDRESSES:
        for word in environ.get(name, "").replace(",", " ").split():
            label, equals, address = word.partition("=")
            yield (label, address) if equals and "/" not in label else ("", word)


def origins(uv: Uv) -> Origins:
    """Who the indexes of this environment are."""
    # Hosts whose certificate the operator does not ask for.
    insecure: set[str] = set(uv.environ.get("UV_INSECURE_HOST", "").split())
    credentials: dict[tuple[str, str], tuple[str, str]] = {}
    for label, address in _named(uv.environ):
        with contextlib.suppress(ValueError):
            parts = urlsplit(address)
            host = parts.netloc.rpartition("@")[2]
            if parts.scheme == "http":
                insecure.add(host)
            user, password = parts.username, parts.password
            if label:
                key = re.sub(r"[^A-Z0-9]", "_", label.upper())
                user = uv.environ.get(f"UV_INDEX_{key}_USERNAME", user)
                password = uv.environ.get(f"UV_INDEX_{key}_PASSWORD", password)
            if user or password:
                credentials[(parts.scheme, host)] = unquote(user or ""), unquote(password or "")
    return Origins(insecure=frozenset(insecure), credentials={**_netrc(uv.environ), **credentials})


def _netrc(environ: Mapping[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    """What the operator's netrc file, which uv uses too, knows; never without TLS."""
    if not environ.get("NETRC"):
        return {}
    try:
        hosts = netrc(environ["NETRC"]).hosts
    except (OSError, UnicodeDecodeError, NetrcParseError):
        return {}
    return {
        ("https", host): (login, password or "")
        for host, (login, _, password) in hosts.items()
        if host != "default"
    }
