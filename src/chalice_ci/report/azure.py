"""Azure Pipelines' logging commands: the only module that knows their syntax.

The agent looks for `##vso[area.action properties]data` anywhere in each line of a step's output,
properties end with the first `]` and are split at `;`. Sources: Microsoft's documentation, "Logging
commands"; the agent's `Command.cs`, which reads them; `taskcommand.ts` of azure-pipelines-task-lib,
whose escapes these are. Text of others has no `##vso[` left after `neutralise`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from chalice_ci.errors import UsageError
from chalice_ci.findings import Finding, Severity
from chalice_ci.neutral import neutralise
from chalice_ci.report.report import Failure, Report

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def render(report: Report) -> str:
    """One issue per failure, error and warning, one per line; Azure has no third kind."""
    lines = [issue_of_failure(failed) for failed in report.failures]
    lines += [
        issue(finding) for finding in report.all_findings if finding.severity is not Severity.NOTICE
    ]
    return "".join(f"{line}\n" for line in lines)


def issue(finding: Finding) -> str:
    """The issue of a finding: its place, its rule as code, what and fix as message."""
    at = finding.at
    where = finding.concerns()
    parts = [f"{where}: {finding.what}" if where else finding.what, finding.detail]
    parts += [f"Fix: {finding.fix}"] if finding.fix else []
    return command(
        "task.logissue",
        "\n".join(part for part in [*parts, finding.link] if part),
        type="error" if finding.severity is Severity.ERROR else "warning",
        sourcepath=at.file if at else "",
        linenumber=str(at.line) if at and at.line else "",
        columnnumber=str(at.column) if at and at.line and at.column else "",
        code=finding.rule,
    )


def issue_of_failure(failed: Failure) -> str:
    """The issue of what ended a run."""
    parts = [failed.where, failed.what, f"Fix: {failed.fix}" if failed.fix else ""]
    message = "\n".join(part for part in parts if part)
    return command("task.logissue", message, type="error", code=failed.exit_code.reason)


def outputs(values: Iterable[tuple[str, str]]) -> str:
    """Output variables of the step, named as the action's outputs with `_` for `-`.

    Raises UsageError for a name that is not one.
    """
    text = []
    for name, value in values:
        variable = name.replace("-", "_")
        if not _NAME.fullmatch(variable):
            raise UsageError(f"{name!r} is not the name of an output.")
        text.append(command("task.setvariable", value, variable=variable, isOutput="true"))
    return "".join(f"{line}\n" for line in text)


def command(name: str, message: str, **properties: str) -> str:
    """A logging command as one line without its line break; empty properties are left out."""
    written = ";".join(
        f"{key}={_escape_property(neutralise(value))}" for key, value in properties.items() if value
    )
    return f"##vso[{name} {written}]{_escape(neutralise(message))}"


def _escape(text: str) -> str:
    return text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace("]", "%5D").replace(";", "%3B")
