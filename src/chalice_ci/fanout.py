"""The verbs at both ends of a CI matrix: `matrix` cuts an event into jobs, `report` folds what the
jobs report into one report and one comment.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from chalice_ci.conversation import Conversation
from chalice_ci.errors import UsageError
from chalice_ci.inputs import MATRIX, MATRIX_BY, REPORTS
from chalice_ci.matrix import parts, render
from chalice_ci.narrowing import narrowed
from chalice_ci.present import at_present
from chalice_ci.previews import wanted
from chalice_ci.report.annotations import file_command
from chalice_ci.report.fold import CannotFold, Expected, folded
from chalice_ci.report.reading import MAX_BYTES, ReportDamaged, read_report
from chalice_ci.report.report import Intent, Report
from chalice_ci.retelling import as_claimed
from chalice_ci.route import Wish
from chalice_ci.run import Run

REPORT_FILE = "report.json"
MAX_REPORTS = 2000
NOTHING = "No app is touched by this change, so there was no job."


def print_matrix(run: Run, wish: Wish) -> None:
    """Write the jobs that the event needs: as JSON to stdout, on GitHub as outputs too.

    Notes - what is left out, and why - go to the log.
    """
    context = at_present(run.context, run.forge)
    routed = narrowed(run, context, wanted(run, context, run.forge, wish))
    for note in (*run.notes, *routed.notes):
        run.progress.say(note)
    found = parts(routed.tasks, by_app=run.inputs.text(MATRIX_BY) == "app")
    text = render(found)
    run.world.stdout.write(text + "\n")
    values = (("matrix", text), ("matrix-size", str(len(found))))
    run.append("GITHUB_OUTPUT", file_command(values, delimiter=lambda: secrets.token_hex(16)))


def fold_reports(run: Run) -> tuple[Report, str]:
    """The one report of all parts, told on the pull request; the comment's address.

    Raises UsageError for what is no report, or no report of this run.
    """
    folder = run.world.cwd / (run.inputs.path(REPORTS) or REPORTS.default)
    reports = []
    for path in _files(run, folder):
        try:
            reports.append(read_report(_bounded(path)))
        except ReportDamaged as problem:
            raise UsageError(
                f"the report {problem}.",
                where=run.shown(path),
                fix="Let it be the report.json of a run of this version, and nothing else.",
            ) from problem
    matrix = run.inputs.text(MATRIX)
    expected = tuple(_expected(matrix))
    if not reports and not matrix:
        raise UsageError(
            f"there is no {REPORT_FILE} here.",
            where=run.shown(folder),
            fix="Download the artifacts of the jobs to this folder first.",
        )
    try:
        report = folded(reports, expected)
    except CannotFold as problem:
        raise UsageError(
            f"the reports can't be folded. {problem}",
            where=run.shown(folder),
            fix="Give the reports of one run only.",
        ) from problem
    if not report.results and report.failure is None:
        report = replace(report, notes=(*report.notes, NOTHING))
    report = as_claimed(report, run.context)
    return report, Conversation(scene=run).tell(report)


def _files(run: Run, folder: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    # Links are not followed: what is in an artifact may point anywhere.
    for path in sorted(folder.rglob(REPORT_FILE)):
        if path.is_file() and not path.is_symlink():
            found.append(path)
        if len(found) > MAX_REPORTS:
            raise UsageError(
                f"there are more than {MAX_REPORTS} reports.",
                where=run.shown(folder),
                fix="Give a folder that holds the reports of one run.",
            )
    return tuple(found)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _expected(text: str) -> Iterator[Expected]:
    """The pairs of the matrix that was printed at the run's beginning."""
    if not text.strip():
        return
    try:
        for entry in json.loads(text)["include"]:
            stages, intents = entry["stage"].split("\n"), entry["intent"].split("\n")
            for app in entry["app"].split("\n"):
                for stage, intent in zip(stages, intents, strict=True):
                    yield Expected(app=app, stage=stage, intent=Intent(intent))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise UsageError(
            "this is not what `matrix` prints.",
            where="input matrix",
            fix="Hand over the output: matrix: ${{ needs.matrix.outputs.matrix }}",
        ) from problem
