"""What each system has, and how it was tested: the table of docs/systems.md, declared once.

A cell names its proof: a test that runs the part here (`run`), one that holds it to what the vendor
published (`held`), or a linter (`linted`). `python -m plugins.coverage` in tests/ writes the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- table: coverage -->\n", "<!-- end -->"
COLUMNS = ("check", "comment", "preview", "gate", "state", "report")
HOW = {"run": "run", "held": "held", "linted": "linted"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What there is, how it was tested, and the test: `file::name`."""

    what: str
    how: str = ""
    proof: str = ""


def run(what: str, proof: str) -> Cell:
    return Cell(what=what, how="run", proof=proof)


def held(what: str, proof: str) -> Cell:
    return Cell(what=what, how="held", proof=proof)


def linted(what: str, proof: str) -> Cell:
    return Cell(what=what, how="linted", proof=proof)


NONE = Cell(what="—")
ON_GITHUB = held(
    "on GitHub",
    "tests/test_forge_select.py::"
    "test_another_system_speaks_to_the_repository_that_is_named_and_keeps_no_state_there",
)
_GITHUB = "tests/test_forge_contract.py"
_GITLAB = (
    "tests/test_gitlab_component.py::"
    "test_the_story_of_a_change_from_its_merge_request_to_production"
)
_S3 = "tests/test_state_stores.py"
_PLANNED = "test_the_plan_that_was_approved_is_what_is_deployed"


def _state(file: str, name: str) -> Cell:
    return run("S3", f"tests/{file}::{name}")


SYSTEMS: dict[str, tuple[Cell, ...]] = {
    "[GitHub](github.md)": (
        run("findings, annotations", "tests/test_action.py"),
        held("one, rewritten", f"{_GITHUB}::test_the_first_run_makes_it_and_later_ones_rewrite_it"),
        held("deployment, URL", f"{_GITHUB}::test_a_preview_goes_up_answers_and_goes_down"),
        linted(
            "environment",
            "tests/test_examples.py::test_the_plan_is_downloaded_to_where_the_deploy_looks_for_it",
        ),
        held("branch", "tests/test_github_store.py"),
        run("summary, SARIF, JUnit", "tests/test_report_sarif.py"),
    ),
    "[GitLab](gitlab.md)": (
        run("findings", _GITLAB),
        held(
            "note, rewritten", f"{_GITHUB}::test_the_first_run_makes_it_and_later_ones_rewrite_it"
        ),
        run("environment, URL", _GITLAB),
        held(
            "manual job, protected environment",
            "tests/test_gitlab_component.py::"
            "test_what_it_expands_to_and_the_example_are_what_gitlab_takes",
        ),
        run("branch or S3", _GITLAB),
        run(
            "code quality, JUnit, folded",
            "tests/plugins/test_gitlab.py::test_parallel_jobs_share_a_pipeline_and_are_folded",
        ),
    ),
    "[CircleCI](circleci.md)": (
        run(
            "test results",
            "tests/plugins/test_circleci.py::test_a_check_keeps_its_results_and_takes_no_role",
        ),
        ON_GITHUB,
        NONE,
        held(
            "approval job",
            "tests/plugins/test_circleci.py::test_a_production_deployment_waits_for_a_person",
        ),
        _state("plugins/test_circleci.py", _PLANNED),
        run(
            "artifact, folded",
            "tests/plugins/test_circleci.py::"
            "test_parts_share_the_work_and_their_reports_are_folded",
        ),
    ),
    "[Jenkins](jenkins.md)": (
        run(
            "test results",
            "tests/jenkins/test_jenkins.py::"
            "test_a_failed_check_fails_the_build_and_publishes_what_it_found",
        ),
        ON_GITHUB,
        NONE,
        run(
            "input step",
            "tests/jenkins/test_jenkins.py::test_what_a_person_rejects_is_not_deployed",
        ),
        _state("jenkins/test_jenkins.py", _PLANNED),
        run(
            "artifact, folded",
            "tests/jenkins/test_jenkins.py::test_parts_share_a_branch_and_are_folded",
        ),
    ),
    "[Bitbucket](bitbucket.md)": (
        run(
            "test results",
            "tests/plugins/test_bitbucket.py::"
            "test_a_pull_request_is_checked_without_credentials_and_its_tests_are_found",
        ),
        held("one, rewritten", f"{_GITHUB}::test_the_marker_is_nothing_that_bitbucket_shows"),
        held("build status, URL", f"{_GITHUB}::test_a_preview_is_a_build_status_of_its_commit"),
        held(
            "manual step, permissions",
            "tests/plugins/test_bitbucket.py::"
            "test_production_is_started_by_a_person_who_may_deploy_there",
        ),
        _state(
            "plugins/test_bitbucket.py",
            "test_the_plan_that_was_made_is_what_the_manual_step_deploys",
        ),
        held(
            "Code Insights, folded",
            f"{_GITHUB}::test_findings_are_shown_at_their_lines_and_replace_older_ones",
        ),
    ),
    "[Azure Pipelines](azure.md)": (
        run(
            "issues, test results",
            "tests/plugins/test_azure.py::test_a_check_has_no_credentials_and_shows_its_findings",
        ),
        held(
            "one, rewritten; on GitHub",
            "tests/plugins/test_azure.py::"
            "test_a_pull_request_in_azure_repos_gets_one_comment_and_the_app_no_token",
        ),
        held(
            "status, URL; swept after a merge and by schedule",
            "tests/plugins/test_azure.py::"
            "test_a_preview_goes_up_with_its_address_and_down_when_its_pull_request_is_completed",
        ),
        held(
            "environment",
            "tests/plugins/test_azure.py::"
            "test_production_is_a_deployment_to_an_environment_after_its_plan",
        ),
        _state("plugins/test_azure.py", _PLANNED),
        run(
            "summary, outputs, folded",
            "tests/plugins/test_azure.py::test_equal_jobs_share_a_run_and_are_folded",
        ),
    ),
    "[CodeBuild](codebuild.md)": (
        run(
            "test report",
            "tests/plugins/test_codebuild.py::test_a_pull_request_is_checked_without_credentials",
        ),
        ON_GITHUB,
        NONE,
        linted(
            "manual approval",
            "tests/plugins/test_codebuild.py::test_only_after_the_approval_something_can_deploy",
        ),
        _state("plugins/test_codebuild.py", _PLANNED),
        run(
            "artifact, folded",
            "tests/plugins/test_codebuild.py::"
            "test_the_parts_of_a_batch_are_folded_and_the_last_build_fails_for_them",
        ),
    ),
    "[Buildkite](buildkite.md)": (
        run(
            "annotation",
            "tests/plugins/test_buildkite.py::"
            "test_parts_share_a_build_and_one_summary_tells_of_all",
        ),
        ON_GITHUB,
        run(
            "up; swept by schedule",
            "tests/plugins/test_buildkite.py::"
            "test_a_pull_requests_build_brings_its_preview_up_and_another_deletes_it",
        ),
        held("block step", "tests/plugins/test_buildkite.py::test_production_waits_for_a_person"),
        _state("plugins/test_buildkite.py", "test_the_plan_that_was_unblocked_is_what_is_deployed"),
        run(
            "annotation, folded",
            "tests/plugins/test_buildkite.py::"
            "test_parts_share_a_build_and_one_summary_tells_of_all",
        ),
    ),
    "[Docker](docker.md)": (
        run("exit code", "tests/plugins/test_docker.py::test_the_exit_code_is_the_products"),
        ON_GITHUB,
        NONE,
        Cell(what="your system's"),
        run("S3", _S3),
        run("files", "tests/test_report_document.py"),
    ),
}


def table() -> str:
    """The table of docs/systems.md."""
    lines = [
        f"| system | {' | '.join(COLUMNS)} |",
        "| --- " * (len(COLUMNS) + 1) + "|",
    ]
    for system, cells in SYSTEMS.items():
        shown = (f"{one.what} ({one.how})" if one.how else one.what for one in cells)
        lines.append(f"| {system} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table."""
    page = ROOT / "docs/systems.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
