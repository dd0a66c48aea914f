"""The words about an app that could not be loaded: the likely cause, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from chalice_ci.config import AppConfig
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.graph import LoadFailure
from chalice_ci.load_failures import load_failure
from chalice_ci.source import Source

APP = AppConfig(name="orders", path="services/orders")
DB = Place(file="services/orders/chalicelib/db.py", line=3)


def told(
    kind: str,
    *,
    type: str = "",
    message: str = "",
    subject: str = "",
    text: str = "",
    variables: Collection[str] = (),
    known: tuple[Finding, ...] = (),
) -> Finding:
    return load_failure(
        LoadFailure(kind=kind, type=type, message=message, subject=subject, at=DB),
        app=APP,
        stage="dev",
        source=Source(files={DB.file: text}, app_path=APP.path),
        variables=variables,
        known=known,
    )


def missing(module: str, known: tuple[Finding, ...] = ()) -> Finding:
    return told(
        "import-error",
        type="ModuleNotFoundError",
        message=f"No module named {module!r}",
        subject=module,
        known=known,
    )


def dependency(name: str) -> Finding:
    return Finding(rule="load-dependency", severity=Severity.WARNING, what="…", subject=name)


# --- imports --------------------------------------------------------------------------------------


def test_the_distribution_of_a_well_known_module_is_named() -> None:
    assert missing("yaml").fix.startswith("Add `PyYAML` to requirements.txt")
    assert missing("quaint").fix.startswith("Add the distribution that has it to")


def test_a_circular_import_is_not_taken_for_a_missing_dependency() -> None:
    finding = told(
        "import-error",
        type="ImportError",
        message="cannot import name 'KEY' from partially initialized module 'app' (app.py)",
        subject="app",
        known=(dependency("boto3"),),
    )

    assert "into a third one, in chalicelib/" in finding.fix
    assert "requirements.txt" not in finding.fix + finding.detail


def test_a_name_that_an_installed_module_lacks_is_a_matter_of_versions() -> None:
    finding = told(
        "import-error",
        type="ImportError",
        message="cannot import name 'FileStorage' from 'werkzeug'",
        subject="werkzeug",
    )

    assert finding.fix.startswith("Pin versions that fit together")


def test_a_module_of_chalicelib_that_is_not_there_was_not_committed() -> None:
    assert missing("chalicelib").fix.startswith("Commit the module")


def test_a_name_that_left_the_standard_library_is_not_a_matter_of_pins() -> None:
    finding = told(
        "import-error",
        type="ImportError",
        message="cannot import name 'decodestring' from 'base64' (base64.py)",
        subject="base64",
    )

    assert "this Python's `base64` no longer has the name" in finding.fix


def test_what_newer_setuptools_lack_has_its_own_answer() -> None:
    assert "`setuptools<81`" in missing("pkg_resources").fix


@pytest.mark.parametrize(
    ("module", "python"), [("imp", "3.11"), ("distutils", "3.11"), ("cgi", "3.12")]
)
def test_a_module_that_python_dropped_names_the_last_python_that_has_it(
    module: str, python: str
) -> None:
    fix = missing(module).fix

    assert f'apps:\n  orders: {{path: services/orders, python: "{python}"}}' in fix


def test_a_module_of_python_2_asks_for_a_port() -> None:
    assert missing("urllib2").fix == "Port the app to Python 3: `urllib2` is a module of Python 2."


def test_dependencies_that_are_missing_or_different_are_named_as_a_possible_cause() -> None:
    known = (dependency("pynamodb"), dependency("ga4gh-schemas"))

    assert "asks for: ga4gh-schemas, pynamodb. That may be the cause." in (
        missing("ga4gh", known=known).detail
    )
    raised = told("exception", type="TypeError", message="missing argument", known=known)
    assert "ga4gh-schemas, pynamodb" in raised.detail


def test_dependencies_say_nothing_about_other_failures() -> None:
    known = (dependency("pynamodb"),)

    assert told("network", known=known).detail == ""
    assert told("environment", subject="X", known=known).detail == ""


def test_a_long_list_of_names_is_cut() -> None:
    known = tuple(dependency(f"p{n:02}") for n in range(20))

    assert "p11 and 8 more." in missing("thing", known=known).detail


# --- variables ------------------------------------------------------------------------------------

READS = """
import os
from os import environ, getenv

TABLE = os.environ.get("TABLE")
ENDPOINT = os.getenv("ENDPOINT")
BUCKET = environ["BUCKET"]
KEY = getenv("KEY")
REGION = os.environ.get("AWS_REGION")
WITH_DEFAULT = os.environ.get("WITH_DEFAULT", "none")
os.environ["WRITTEN"] = "1"
COMPUTED = os.environ.get(TABLE)
"""


def test_a_missing_variable_is_named_in_the_fix_and_the_others_beside_it() -> None:
    finding = told("environment", type="KeyError", subject="BUCKET", text=READS)

    assert finding.fix.startswith("Set `BUCKET` in `environment_variables`")
    assert finding.detail == (
        "This file reads variables that the stage does not set either: ENDPOINT, KEY, TABLE."
    )


def test_variables_that_are_read_without_a_default_may_explain_an_error() -> None:
    finding = told("exception", type="ValueError", message="Invalid endpoint", text=READS)

    assert finding.fix.startswith("Set the variable that the line needs in")
    assert "BUCKET, ENDPOINT, KEY, TABLE" in finding.detail


def test_variables_that_the_stage_sets_are_not_named() -> None:
    set_here = ("BUCKET", "ENDPOINT", "KEY", "TABLE")
    finding = told("exception", type="ValueError", text=READS, variables=set_here)

    assert finding.detail == ""
    assert finding.fix.startswith("Correct the line")


# --- the rest -------------------------------------------------------------------------------------


def test_a_missing_file_asks_to_commit_it_or_to_build_first() -> None:
    finding = told("exception", type="FileNotFoundError", message="No such file: 'tips.md'")

    assert finding.fix.startswith("Commit the file, or run the build step")


def test_an_app_of_another_name_is_bound_to_the_right_one() -> None:
    elsewhere = told("missing-app", message="… The Chalice app there is called `APP`.")

    assert elsewhere.fix.startswith("Write `app = APP` at the top level")
    assert told("missing-app").fix.startswith("Write `app = Chalice(app_name='…')`")


def test_the_escape_for_the_network_can_be_copied() -> None:
    assert told("network").fix.endswith(
        "apps:\n  orders: {path: services/orders, load: {network: true}}"
    )


def test_a_path_that_yaml_would_read_otherwise_is_quoted() -> None:
    finding = load_failure(
        LoadFailure(kind="network"), app=AppConfig(name="orders", path="a: b"), stage="dev"
    )

    assert '{path: "a: b", load:' in finding.fix
