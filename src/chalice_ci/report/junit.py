"""`junit.xml`: the report as CI systems show test results.

One suite per app and stage and one for the repository. Each group of rules is a test case that
passes when nothing was found; each error is a failing case, each warning or notice a passing case
with its text as output; what ended the run is an error case.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from junit_xml import TestCase, TestSuite, to_xml_report_string

from chalice_ci.findings import Finding, Severity, in_order
from chalice_ci.report.report import Failure, Report, Result, owned
from chalice_ci.rule import Group
from chalice_ci.rules import RULES

# What XML 1.0 cannot carry, not even escaped: junit-xml removes some of it after serialising, when
# surrogates are already character references that no parser accepts. C1 controls are legal, but no
# reader wants them.
_NOT_XML = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """The text of `junit.xml`."""
    suites = [_suite(result) for result in report.results]
    if report.findings or report.failure or not suites:
        cases = _cases("repository", in_order(report.findings), (Group.CONFIGURATION,))
        suites.insert(0, TestSuite("repository", [*cases, *_error("repository", report.failure)]))
    # Its own pretty-printing loses line breaks in attributes.
    root = ET.fromstring(to_xml_report_string(suites, prettyprint=False))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


_AUDITED = (Group.PERMISSIONS, Group.WORKFLOWS, Group.SETTINGS)
"""What only the audit of the set-up looks at, and no check of a stage."""


def _suite(result: Result) -> TestSuite:
    name = f"{result.app}.{result.stage}"
    looked_at = {
        Group.PACKAGE: result.package is not None,
        Group.DIFFERENCE: result.changes is not None and result.changes.known,
    }
    groups = [group for group in Group if group not in _AUDITED and looked_at.get(group, True)]
    # Nothing is said about checks that a failure or a skip kept from running.
    untested = result.failure is not None or result.skipped
    cases = _cases(name, owned(result), () if untested else groups)
    cases += _error(name, result.failure)
    if result.skipped:
        case = TestCase("skipped", _clean(name))
        case.add_skipped_info(_clean(result.note) or "skipped")
        cases.append(case)
    properties = {
        "chalice": result.chalice,
        "python": result.python,
        "isolation": result.isolation.level if result.isolation else "",
        "package-digest": result.package.digest if result.package else "",
    }
    return TestSuite(
        _clean(name),
        cases,
        properties={key: _clean(value) for key, value in properties.items() if value},
    )


def _cases(classname: str, findings: Sequence[Finding], groups: Iterable[Group]) -> list[TestCase]:
    found = {RULES[finding.rule].group for finding in findings if finding.rule in RULES}
    # A load that failed leaves the later checks untested: only what was looked at may pass.
    loaded = not any(
        finding.rule in RULES
        and RULES[finding.rule].group is Group.LOAD
        and finding.severity is Severity.ERROR
        for finding in findings
    )
    after_loading = (Group.EXPERIMENTAL, Group.VALIDATION, Group.COLLISIONS)
    cases = [
        TestCase(group.value, _clean(classname))
        for group in groups
        if group not in found and (loaded or group not in after_loading)
    ]
    return cases + [_case(classname, finding) for finding in findings]


def _case(classname: str, finding: Finding) -> TestCase:
    at = finding.at
    name = f"{finding.rule}: {finding.subject or finding.what}"
    case = TestCase(
        _clean(name.replace("\n", " ")),
        _clean(classname),
        file=_clean(at.file) if at else None,
        line=at.line if at else None,
    )
    text = _clean(_text(finding))
    if finding.severity is Severity.ERROR:
        # junit-xml leaves out a failure without a message.
        case.add_failure_info(_clean(finding.what or finding.rule), text, _clean(finding.rule))
    else:
        case.stdout = f"{finding.severity.value}: {text}"
    return case


def _text(finding: Finding) -> str:
    place = f"{finding.at}: " if finding.at else ""
    parts = [f"{place}{finding.what}", finding.detail]
    parts += [f"Fix: {finding.fix}"] if finding.fix else []
    return "\n\n".join(part for part in [*parts, finding.link] if part)


def _error(classname: str, failure: Failure | None) -> list[TestCase]:
    if failure is None:
        return []
    case = TestCase(failure.exit_code.reason, _clean(classname))
    text = "\n\n".join(part for part in (failure.where, failure.what, failure.fix) if part)
    case.add_error_info(
        _clean(failure.what) or failure.exit_code.meaning, _clean(text), failure.exit_code.reason
    )
    return [case]


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
