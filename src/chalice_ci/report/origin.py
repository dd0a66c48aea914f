"""The run that a page speaks for, and what it still waits for."""

from __future__ import annotations

from dataclasses import dataclass, field

from chalice_ci.context import GITHUB_PAGES, Context, Pages, RunOrder
from chalice_ci.forge.port import Past


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run that speaks: what the links are made of.

    `notes` are shown above the details, `remarks` in the last line ("preview expires in 7 d").
    """

    run: RunOrder = field(default_factory=lambda: RunOrder(id=0))
    commit: str = ""
    repository_url: str = ""
    pages: Pages = GITHUB_PAGES
    run_url: str = ""
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    history: tuple[Past, ...] = ()
    """Runs that ended, the newest first: this one too, when it has."""

    @classmethod
    def of(cls, context: Context, *, notes: tuple[str, ...] = ()) -> Origin:
        """The origin that a context is."""
        return cls(
            run=context.run or RunOrder(id=0),
            commit=context.commit or "",
            repository_url=context.repository_url,
            pages=context.pages,
            run_url=context.run_url,
            notes=notes,
        )


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An app and stage whose result is still to come."""

    app: str
    stage: str
    doing: str = "planning…"
