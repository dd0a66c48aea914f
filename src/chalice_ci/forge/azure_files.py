"""The files of a repository's branches in Azure Repos.

Sources: Microsoft's OpenAPI description of Git 7.1, operations "Refs List", "Commits Get", "Items
Get" and "Diffs Get".
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from chalice_ci.errors import ForgeError
from chalice_ci.forge.answer import Garbled, oid_of, text_of
from chalice_ci.forge.azure_api import AzureApi
from chalice_ci.forge.port import NotFound

_CHANGES = 2000
"""How many changes are asked for at once; 100 are answered where nothing is said."""
_MOST = 20 * _CHANGES


class AzureFiles:
    """The files of a repository's branches."""

    def __init__(self, api: AzureApi) -> None:
        self._api = api

    def file(self, path: str, *, branch: str, commit: str) -> str | None:
        """The text of a file of a branch, of the commit when the branch is gone; None without it.

        Raises ForgeError.
        """
        # That the branch can be read shows the permission: what is not found then is not there.
        at = self._head(branch)
        if at is None:
            if not commit:
                raise NotFound(f"There is no branch {branch}.", where=self._api.name)
            at = commit
            self._api.get(f"{self._api.path}/commits/{quote(commit, safe='')}")
        name = f"{self._api.path}/items"
        try:
            found = self._api.get(
                name,
                **{
                    "path": f"/{path}",
                    "versionDescriptor.versionType": "commit",
                    "versionDescriptor.version": at,
                    "includeContent": "true",
                    "$format": "json",
                },
            )
        except NotFound:
            return None
        return self._api.read(lambda: text_of(found.get("content") or ""), f"GET {name}")

    def changed_since(self, branch: str, commit: str) -> tuple[str, ...] | None:
        """The files in which a branch differs from a commit; None when there is no such branch.

        Raises ForgeError, also where there are more than can be told.
        """
        head = self._head(branch)
        if head is None:
            return None
        where = f"{self._api.path}/diffs/commits"
        between: dict[str, str | int] = {
            "baseVersion": commit,
            "baseVersionType": "commit",
            "targetVersion": head,
            "targetVersionType": "commit",
            # In what the commit has and the branch has not, too.
            "diffCommonCommit": "false",
            "$top": _CHANGES,
        }
        names: dict[str, None] = {}
        for skip in range(0, _MOST, _CHANGES):
            found = self._api.get(where, **between, **{"$skip": skip})
            told = self._api.read(partial(_changed, found), f"GET {where}")
            names |= dict.fromkeys(told)
            if found.get("allChangesIncluded") is True or not found["changes"]:
                return tuple(names)
        raise ForgeError(f"{branch} differs in too many files to tell them.", where=f"GET {where}")

    def _head(self, branch: str) -> str | None:
        """The commit that a branch is at; what is asked for is what names begin with."""
        path, name = f"{self._api.path}/refs", f"heads/{branch}"
        listed = self._api.items(path, filter=name)

        def find() -> str | None:
            for one in listed:
                if text_of(one["name"]) == f"refs/{name}":
                    return oid_of(one["objectId"])
            return None

        return self._api.read(find, f"GET {path}")


def _changed(found: Any) -> tuple[str, ...]:
    """The files of changes, under their old names too; folders are changed by what is in them."""
    if not isinstance(found["changes"], list):
        raise Garbled
    return tuple(
        text_of(name).removeprefix("/")
        for one in found["changes"]
        if one["item"].get("isFolder") is not True
        for name in (one["item"]["path"], one.get("originalPath"), one.get("sourceServerItem"))
        if name is not None
    )
