"""GitHub's workflow commands: the only module that knows their syntax.

The runner reads stdout and stderr line by line and obeys `::command properties::data` (after white
space) and `##[command]` anywhere in a line. Data and properties are escaped, line breaks of every
kind included, so that a finding's text can never become a command or a second line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from chalice_ci.errors import UsageError
from chalice_ci.findings import Finding, Severity
from chalice_ci.neutral import neutralise
from chalice_ci.report.report import Failure, Report

PER_TYPE = 10
"""How many annotations of a type GitHub shows for a step."""


def render(report: Report) -> str:
    """One annotation per finding and failure, at most ten of a type, one per line.

    The tenth of a type that has more says how many are left out.
    """
    lines = [(Severity.ERROR, each.exit_code.reason, failure(each)) for each in report.failures] + [
        (each.severity, each.rule, annotation(each)) for each in report.all_findings
    ]
    text = []
    for severity in Severity:
        of_type = [(label, line) for each, label, line in lines if each is severity]
        text += [line for _, line in of_type]
        if len(of_type) > PER_TYPE:
            left = of_type[PER_TYPE - 1 :]
            del text[-len(left) :]
            text.append(_rest(severity, [label for label, _ in left]))
    return "".join(f"{line}\n" for line in text)


def _rest(severity: Severity, labels: list[str]) -> str:
    named = ", ".join(sorted(set(labels)))
    message = f"{len(labels)} more: {named}. All of them are in the log and in report.json."
    return command(severity.value, message, title="chalice-ci: and more")


def annotation(finding: Finding) -> str:
    """The annotation of a finding: place, rule and subject as title, what and fix as message."""
    at = finding.at
    where = finding.concerns()
    title = f"{finding.rule} ({where})" if where else finding.rule
    parts = [finding.what, finding.detail]
    parts += [f"Fix: {finding.fix}"] if finding.fix else []
    return command(
        finding.severity.value,
        "\n".join(part for part in [*parts, finding.link] if part),
        file=at.file if at else "",
        line=str(at.line) if at and at.line else "",
        col=str(at.column) if at and at.line and at.column else "",
        title=title,
    )


def failure(failed: Failure) -> str:
    """The annotation of what ended a run."""
    parts = [failed.where, failed.what, f"Fix: {failed.fix}" if failed.fix else ""]
    return command(
        "error", "\n".join(part for part in parts if part), title=failed.exit_code.reason
    )


def debug(message: str) -> str:
    """A line that is shown when the workflow's debug logging is on."""
    return command("debug", message)


def group(title: str) -> str:
    """The start of a part of the log that can be folded."""
    return command("group", title)


def end_group() -> str:
    """The end of a folded part of the log."""
    return command("endgroup", "")


def mask(secret: str) -> tuple[str, ...]:
    """The commands that hide a secret in the log: one per line of it, and the whole.

    The data is escaped but not changed: what is masked must be what could be printed.
    """
    lines = [line for line in re.split(r"[\r\n]+", secret) if line.strip()]
    values = dict.fromkeys([*lines, secret] if secret.strip() else [])
    return tuple(f"::add-mask::{_escape(value)}" for value in values)


def command(name: str, message: str, **properties: str) -> str:
    """A workflow command as one line without its line break; empty properties are left out."""
    written = ",".join(
        f"{key}={_escape_property(neutralise(value))}" for key, value in properties.items() if value
    )
    head = f"::{name} {written}::" if written else f"::{name}::"
    return head + _escape(neutralise(message))


def file_command(values: Iterable[tuple[str, str]], *, delimiter: Callable[[], str]) -> str:
    """The text to append to the file of GITHUB_OUTPUT, GITHUB_ENV or GITHUB_STATE.

    `delimiter` gives an unpredictable token (`secrets.token_hex`) for each value. Raises UsageError
    for a name that is not one, and for a value that contains its delimiter.
    """
    text = []
    for name, value in values:
        end = f"ghadelimiter_{delimiter()}"
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            raise UsageError(f"{name!r} is not the name of an output.")
        if end in value or "\0" in value:
            raise UsageError(f"The value of {name} contains its own delimiter.", where=name)
        text.append(f"{name}<<{end}\n{value}\n{end}\n")
    return "".join(text)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
