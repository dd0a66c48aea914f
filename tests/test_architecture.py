"""The import rules of docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src"
PACKAGE = ROOT / "chalice_ci"
CHILD = PACKAGE / "child"
SAMPLE = PACKAGE / "sample"

# One third-party library each, two where a standard stands beside a tool; all other modules are
# pure: the standard library and each other.
ADAPTERS = {
    "chalice_ci.cli": {"click"},
    "chalice_ci.__main__": {"click"},
    "chalice_ci.sdk": {"botocore"},
    "chalice_ci.templating": {"yaml"},
    "chalice_ci.yaml_source": {"yaml"},
    "chalice_ci.report.junit": {"junit_xml"},
    "chalice_ci.ownership": {"boto3", "botocore"},
    "chalice_ci.aws_role": {"botocore"},
    "chalice_ci.plan_cipher": {"nacl"},
    "chalice_ci.aws_access": {"botocore"},
    "chalice_ci.promotion": {"botocore"},
    "chalice_ci.provenance": {"botocore"},
    "chalice_ci.state.recover": {"botocore"},
    "chalice_ci.state.s3": {"botocore"},
    "chalice_ci.demo": {"boto3", "cmarkgfm"},
    "chalice_ci.forge.github": {"github"},
    "chalice_ci.forge.github_api": {"github"},
    "chalice_ci.forge.github_data": {"github"},
    "chalice_ci.forge.gitlab_api": {"gitlab"},
    "chalice_ci.forge.json_api": {"requests"},
    "chalice_ci.uv": {"uv"},
    "chalice_ci.app.versions": {"packaging"},
    "chalice_ci.app.environment": {"packaging"},
    "chalice_ci.app.resolution": {"packaging"},
    "chalice_ci.experimental": {"packaging"},
    "chalice_ci.upgrade.catalogue": {"packaging"},
    "chalice_ci.upgrade.findings": {"packaging"},
    "chalice_ci.package.requirements": {"packaging"},
    "chalice_ci.package.foreign": {"packaging"},
    "chalice_ci.package.lock": {"packaging"},
    "chalice_ci.package.project_file": {"packaging"},
    "chalice_ci.package.references": {"packaging"},
    "chalice_ci.package.resolve": {"packaging"},
    "chalice_ci.package.source": {"packaging"},
    "chalice_ci.package.target": {"packaging"},
    "chalice_ci.package.unsolved": {"packaging"},
    "chalice_ci.package.archive": {"packaging"},
    "chalice_ci.package.wheels": {"urllib3"},
    "chalice_ci.report.treemap": {"squarify"},
    "chalice_ci.affected": {"pathspec"},
}
LOCAL = {"moto", "werkzeug", "flask", "botocore", "boto3", "responses"}
"""The extra `local`: only its own package imports these, and the demo uses that package."""


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        if CHILD in path.parents or SAMPLE in path.parents:
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                continue
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def third_party(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    return tops - set(sys.stdlib_module_names) - {"chalice_ci", "chalice_ci_child"}


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_a_module_imports_only_the_library_it_is_the_adapter_of(module, path):
    allowed = LOCAL if module.startswith("chalice_ci.local") else ADAPTERS.get(module, set())
    assert third_party(path) <= allowed


def test_no_adapter_is_named_that_needs_no_library():
    used = {module: third_party(path) for module, path in modules()}
    assert {module: used.get(module, set()) for module in ADAPTERS} == ADAPTERS


def test_nothing_but_the_entry_point_and_the_reference_imports_the_command_line():
    found = {m for m, path in modules() if "chalice_ci.cli" in set(imports(path))}
    assert found == {"chalice_ci.__main__", "chalice_ci.reference"}


def test_only_the_entry_point_reads_the_environment_of_the_process():
    """What runs as a process of its own reads what it was started with."""
    own_processes = {
        "chalice_ci.__main__",
        "chalice_ci.app.seed",
        "chalice_ci.local.__main__",
    }
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                reads = isinstance(node.value, ast.Name) and node.value.id == "os"
                assert not reads or module in own_processes, module


def test_what_runs_in_the_apps_python_imports_the_standard_library_and_chalice_only():
    for path in sorted(CHILD.rglob("*.py")):
        assert third_party(path) <= {"chalice", "botocore"}, path


def test_nothing_outside_the_children_imports_chalice():
    for module, path in modules():
        assert "chalice" not in {n.partition(".")[0] for n in imports(path)}, module


def test_no_module_is_a_drawer():
    for module, _ in modules():
        assert module.rpartition(".")[2] not in {"utils", "util", "helpers", "common", "misc"}
