"""Rules are declared once: the documentation is generated, and no finding invents a name."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from chalice_ci import rules
from chalice_ci.findings import Severity

ROOT = Path(__file__).parent.parent


def test_the_documentation_is_generated_from_the_rules() -> None:
    written = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    assert written == rules.document(), "run: python -m chalice_ci.rules docs/findings.md"


@pytest.mark.parametrize("rule", rules.RULES.values(), ids=lambda rule: rule.name)
def test_every_rule_says_what_why_and_how_to_allow_it(rule: rules.Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
    assert rule.title
    assert rule.explanation
    assert rule.allow
    assert rule.before
    assert rule.after
    assert rule.before != rule.after
    # A sentence is no reason.
    assert len(rule.explanation) > 100
    assert not rule.title.endswith(".")


def test_every_rule_has_its_section_in_the_documentation() -> None:
    """Title, reason, before, after and how to allow it, in this order."""
    sections = rules.document().split("\n### ")[1:]
    assert {section.partition("\n")[0] for section in sections} == set(rules.RULES)
    for section in sections:
        rule = rules.RULES[section.partition("\n")[0]]
        block = "{}:\n\n```" + rule.language + "\n{}\n```"
        parts = (
            rule.title,
            rule.explanation,
            block.format("Before", rule.before),
            block.format("After", rule.after),
            "How to allow it: ",
        )
        places = [section.index(part) for part in parts]
        assert places == sorted(places), rule.name


@pytest.mark.parametrize("rule", rules.RULES.values(), ids=lambda rule: rule.name)
def test_examples_are_of_the_language_they_say(rule: rules.Rule) -> None:
    for example in (rule.before, rule.after):
        match rule.language:
            case "python" if rule.name != "load-syntax-error":
                ast.parse(example)
            case "yaml":
                yaml.safe_load(example)
            case "json" if example:
                json.loads(example)


def test_an_undeclared_rule_makes_no_finding() -> None:
    with pytest.raises(KeyError):
        rules.finding("no-such-rule", what="x")


def test_a_finding_has_its_rules_severity_unless_told_otherwise() -> None:
    assert rules.finding("second-app", what="x").severity is Severity.WARNING
    notice = rules.finding("second-app", what="x", severity=Severity.NOTICE)
    assert notice.severity is Severity.NOTICE


def rule_names(tree: ast.AST) -> set[str]:
    """The rule names that a module's findings are made with: constants only."""
    names = set()
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            name = function.id if isinstance(function, ast.Name) else function
            given = [keyword.value for keyword in node.keywords if keyword.arg == "rule"]
            if name in ("finding", "_finding") and node.args:
                given.append(node.args[0])
        elif isinstance(node, ast.Assign):
            target = node.targets[0]
            if isinstance(target, ast.Name) and re.fullmatch(r"_?([A-Z]+_)?RULE", target.id):
                given = [node.value]
        names |= {
            each.value
            for each in given
            if isinstance(each, ast.Constant)
            and isinstance(each.value, str)
            and re.fullmatch(r"[a-z0-9-]+", each.value)
        }
    return names


@pytest.mark.parametrize(
    "module",
    sorted((ROOT / "src/chalice_ci").rglob("*.py")),
    ids=lambda path: path.relative_to(ROOT / "src").as_posix(),
)
def test_every_rule_that_is_used_is_declared(module: Path) -> None:
    used = rule_names(ast.parse(module.read_text(encoding="utf-8")))
    assert used <= set(rules.RULES)
