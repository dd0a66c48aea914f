"""`chalice-ci.sarif`: the findings for code scanning, as SARIF 2.1.0.

The format is OASIS', "Static Analysis Results Interchange Format"; what GitHub reads of it stands
in its documentation, "SARIF support for code scanning". A result needs a place there: a finding
without one is shown at the app's configuration.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from chalice_ci.findings import Finding, Place, Severity, by_stages
from chalice_ci.report.document import clean, dump
from chalice_ci.report.report import Failure, Report
from chalice_ci.rule import Rule
from chalice_ci.rules import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0-rtm.5.json"
PROJECT = "https://github.com/org/chalice-action"
MAX_RESULTS = 5000
"""GitHub shows the 5,000 gravest results of a run."""
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTICE: "note"}


def render(report: Report) -> str:
    """The text of the file: one run, its rules and one result for each finding.

    What differs in its stage only is one result that names them. What ended the run is a
    notification, and the run was not successful then.
    """
    paths = {result.app: result.path for result in report.results}
    found = by_stages(report.all_findings)[:MAX_RESULTS]
    used = sorted({finding.rule for finding, _ in found})
    index = {name: number for number, name in enumerate(used)}
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "chalice-ci",
                        "informationUri": PROJECT,
                        "semanticVersion": report.tool,
                        "rules": [_rule(name, RULES.get(name)) for name in used],
                    }
                },
                "automationDetails": {"id": f"chalice-ci/{report.verb}/"},
                "columnKind": "unicodeCodePoints",
                "invocations": [
                    {
                        "executionSuccessful": not report.failures,
                        "toolExecutionNotifications": [
                            _notification(failure) for failure in report.failures
                        ],
                    }
                ],
                "results": [
                    _result(finding, stages, index[finding.rule], paths)
                    for finding, stages in found
                ],
            }
        ],
    }
    return dump(clean(document))


def _rule(name: str, rule: Rule | None) -> dict[str, Any]:
    made: dict[str, Any] = {"id": name, "helpUri": f"{PROJECT}/blob/main/docs/findings.md#{name}"}
    if rule is None:
        return made
    text = rule.explanation.replace("\n", " ")
    return {
        **made,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": text},
        "help": {"text": f"{text}\n\n{rule.allow}".strip()},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": [rule.group.value]},
    }


def _result(
    finding: Finding, stages: tuple[str, ...], index: int, paths: dict[str, str]
) -> dict[str, Any]:
    where = finding.concerns(*stages)
    parts = [finding.what, finding.detail, f"Fix: {finding.fix}" if finding.fix else ""]
    text = "\n\n".join(part for part in parts if part)
    at = place_of(finding, paths)
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{where}: {text}" if where else text},
        "locations": [{"physicalLocation": _location(at)}],
        # Not of the line: what stands above a finding may grow.
        "partialFingerprints": {"chaliceCi/v1": fingerprint(finding, at)},
    }


def place_of(finding: Finding, paths: dict[str, str]) -> Place:
    """Where a finding is shown: without a place of its own at its app's configuration.

    `paths` are the apps' folders by name.
    """
    if finding.at is not None:
        return finding.at
    path = paths.get(finding.app, "")
    folder = "" if path in ("", ".") else f"{path}/"
    return Place(file=f"{folder}.chalice/config.json", line=1)


def _location(at: Place) -> dict[str, Any]:
    region: dict[str, int] = {"startLine": at.line if at.line and at.line > 0 else 1}
    if at.line and at.column and at.column > 0:
        region["startColumn"] = at.column
    return {"artifactLocation": {"uri": _uri(at.file), "uriBaseId": "%SRCROOT%"}, "region": region}


def inside(file: str) -> str:
    """A path relative to the repository's root, which no part of it can lead elsewhere."""
    parts = [part for part in file.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or ".chalice/config.json"


def _uri(file: str) -> str:
    # `main:chalice-ci.yml` is a file of another commit: a colon would make it an address.
    return quote(inside(file).encode("utf-8", "replace"), safe="/")


def fingerprint(finding: Finding, at: Place) -> str:
    """What a finding stays known by from run to run: 64 hexadecimal digits."""
    facts = (finding.rule, finding.subject, finding.app, at.file, finding.what)
    return hashlib.sha256("\0".join(facts).encode("utf-8", "replace")).hexdigest()


def _notification(failure: Failure) -> dict[str, Any]:
    parts = (failure.where, failure.what, failure.fix)
    return {
        "level": "error",
        "descriptor": {"id": failure.exit_code.reason},
        "message": {"text": "\n".join(part for part in parts if part) or "The run stopped."},
    }
