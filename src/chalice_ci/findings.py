"""A finding: its rule, its place, what is wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs: an error fails the build."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """Where: `file` is a POSIX path relative to the repository, lines and columns count from 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.file, *(str(n) for n in (self.line, self.column) if n is not None)]
        return ":".join(parts)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to know or to mend.

    `rule` is a stable kebab-case name with a section in the documentation, `subject` what it is
    about (a feature, a key, a function), `what` one sentence, `fix` the exact thing to do (may be
    several lines of code or text), `detail` more words, `link` a documentation address.
    """

    rule: str
    severity: Severity
    what: str
    fix: str = ""
    detail: str = ""
    subject: str = ""
    app: str = ""
    stage: str = ""
    at: Place | None = None
    link: str = ""

    def concerns(self, *stages: str) -> str:
        """The app and the stages, "orders/dev, prod", as far as they are known; its own stage
        where none is given.
        """
        named = ", ".join(stage for stage in stages or (self.stage,) if stage)
        return "/".join(part for part in (self.app, named) if part)


def in_order(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Errors first, then by app, stage, place and rule: the order never depends on the run."""
    weight = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}

    def key(finding: Finding) -> tuple[int, str, str, str, int, int, str, str]:
        at = finding.at or Place(file="")
        return (
            weight[finding.severity],
            finding.app,
            finding.stage,
            at.file,
            at.line or 0,
            at.column or 0,
            finding.rule,
            finding.subject,
        )

    return tuple(sorted(findings, key=key))


def by_stages(findings: Iterable[Finding]) -> list[tuple[Finding, tuple[str, ...]]]:
    """Findings that differ in their stage only, as one without a stage and their stages."""
    stages: dict[Finding, dict[str, None]] = {}
    for finding in findings:
        stages.setdefault(replace(finding, stage=""), {})[finding.stage] = None
    return [(finding, tuple(found)) for finding, found in stages.items()]
