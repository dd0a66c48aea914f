"""Where results go: stdout in the chosen form, and the files of the output folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.context import System
from chalice_ci.errors import UsageError, UserError, naming
from chalice_ci.findings import Severity
from chalice_ci.inputs import FORMAT
from chalice_ci.report.annotations import file_command
from chalice_ci.report.annotations import render as render_annotations
from chalice_ci.report.report import Archive, Failure, Report, Result, exit_code
from chalice_ci.scene import Scene

if TYPE_CHECKING:
    from chalice_ci.building import Built
    from chalice_ci.run import Run
    from chalice_ci.template import TemplateRequest

_SUMMARY_BYTES = 500_000
"""GitHub drops a summary of more than 1 MiB, the report's own part included."""


def refuse_packaged_folder(run: Run) -> None:
    """Raise UsageError where what a run writes would be in the package of the next one.

    Then not even a report may be written there: the digest of the next package would be another.
    """
    out = run.out.resolve()
    for app in run.config.apps:
        for name in ("chalicelib", "vendor"):
            # A link to itself is told when it is packaged.
            packaged = Path(os.path.realpath(run.checkout.root / app.path / name))
            if out == packaged or packaged in out.parents:
                raise UsageError(
                    f"the output folder lies in {name}, which is packaged: the next package would "
                    "hold the results of this run.",
                    where=run.shown(out),
                    fix="Take another folder with --out.",
                )


def write_report(
    run: Run, report: Report, *, fail_on: Severity, comment_url: str = "", instead: str = ""
) -> None:
    """Print the report and write report.json and report.html, for `check` also junit.xml; on GitHub
    the step summary and the outputs, elsewhere in CI summary.md, on Azure its logging commands.
    `instead` is printed in the place of the report as text.
    """
    from chalice_ci.report import document

    text = document.render(report, fail_on=fail_on)
    form = run.inputs.text(FORMAT)
    # First to the person who waits: a full disk must not hide what was done.
    if instead and form != "json":
        run.world.stdout.write(instead)
    else:
        _print(run, report, text, form)
    if form == "github" or run.context.system is System.GITHUB:
        # The runner reads commands from both streams; JSON on stdout stays JSON.
        stream = run.world.stderr if form == "json" else run.world.stdout
        stream.write(render_annotations(report))
    if run.context.system is System.AZURE:
        from chalice_ci.report import azure

        stream = run.world.stderr if form == "json" else run.world.stdout
        values = output_values(run, report, fail_on=fail_on, comment_url=comment_url)
        stream.write(azure.render(report) + azure.outputs(values))
    _write_files(run, report, text, fail_on=fail_on, comment_url=comment_url)


def write_failure(run: Scene, verb: str, error: UserError, *, comment_url: str = "") -> None:
    """The files and outputs of a run that ended in an error; a person is told by the caller."""
    from chalice_ci.report import document

    report = Report(verb=verb, commit=run.context.commit or "", failure=Failure.of(error))
    text = document.render(report)
    if run.inputs.text(FORMAT) == "json":
        run.world.stdout.write(text)
    with contextlib.suppress(OSError):
        _write_files(run, report, text, fail_on=Severity.ERROR, comment_url=comment_url)


def _write_files(
    run: Scene, report: Report, text: str, *, fail_on: Severity, comment_url: str
) -> None:
    from chalice_ci.report.html import html

    _write(run, "report.json", text)
    _write(run, "report.html", html(report))
    if report.verb in ("check", "run"):
        from chalice_ci.report import junit, sarif

        _write(run, "junit.xml", junit.render(report))
        _write(run, "chalice-ci.sarif", sarif.render(report))
        if run.context.system is System.GITLAB:
            from chalice_ci.report import codequality

            _write(run, codequality.FILE, codequality.render(report))
    wants_step_summary = bool(run.world.env.get("GITHUB_STEP_SUMMARY"))
    if wants_step_summary or run.context.system not in (System.LOCAL, System.GITHUB):
        from chalice_ci.report.origin import Origin
        from chalice_ci.report.summary import summary

        page = summary(report, origin=Origin.of(run.context, notes=report.notes), fail_on=fail_on)
        run.append("GITHUB_STEP_SUMMARY", page)
        if run.context.system not in (System.LOCAL, System.GITHUB):
            # The plugins hand it to their system: an annotation, a summary, an artifact.
            _write(run, "summary.md", page)
    values = output_values(run, report, fail_on=fail_on, comment_url=comment_url)
    outputs = file_command(values, delimiter=lambda: secrets.token_hex(16))
    run.append("GITHUB_OUTPUT", outputs)
    if run.context.system is System.GITLAB:
        from chalice_ci.report import dotenv

        _write(run, dotenv.FILE, dotenv.render(values))


def _print(run: Run, report: Report, text: str, form: str) -> None:
    if form == "json":
        run.world.stdout.write(text)
        return
    from chalice_ci.report import terminal
    from chalice_ci.source import excerpts

    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    run.world.stdout.write(
        terminal.render(
            report,
            color=run.world.stdout.isatty() and not run.world.env.get("NO_COLOR"),
            width=width,
            excerpt=excerpts(run.checkout.root),
        )
    )


def output_values(
    run: Scene, report: Report, *, fail_on: Severity, comment_url: str
) -> tuple[tuple[str, str], ...]:
    """The outputs of the action, by name; see `outputs.OUTPUTS`."""
    urls = {
        f"{result.app}/{result.stage}": [url.address for url in result.urls]
        for result in report.results
        if result.urls
    }
    plans = [result.plan for result in report.results if result.plan is not None]
    commits = [r.state.commit for r in report.results if r.state is not None and r.state.commit]
    return (
        ("result", report.verdict.value),
        ("failure-reason", exit_code(report, fail_on=fail_on).reason),
        ("url", next((url for found in urls.values() for url in found), "")),
        ("urls", json.dumps(urls, sort_keys=True)),
        ("stages", json.dumps([f"{r.app}/{r.stage}" for r in report.results])),
        ("changed", "true" if any(r.changed for r in report.results) else "false"),
        ("plan", "\n".join(plan.path for plan in plans)),
        ("plan-digest", "\n".join(plan.digest for plan in plans)),
        # Of `command: matrix` alone, which writes no report.
        ("matrix", ""),
        ("matrix-size", ""),
        ("report", run.shown(run.out / "report.json")),
        ("comment-url", comment_url),
        ("state-commit", commits[-1] if commits else ""),
    )


def keep_in_summary(run: Scene, name: str, state: bytes) -> None:
    """Put a state that could not be recorded into the step summary, where it outlives the runner.

    A file in the workspace does so only if the workflow uploads it.
    """
    if len(state) > _SUMMARY_BYTES:
        shown = "It is too large for this page: see the file.\n"
    else:
        shown = f"```json\n{state.decode()}```\n"
    head = f"<details><summary>The state that could not be recorded: {name}</summary>"
    # The runner's file is on the same disk, which may be why we are here.
    with contextlib.suppress(OSError):
        run.append("GITHUB_STEP_SUMMARY", f"{head}\n\n{shown}\n</details>\n\n")


def write_package(run: Run, built: Built | Result, wanted: TemplateRequest) -> Result:
    """One folder per app and stage: the archives, the templates, the manifest and the snapshot."""
    if isinstance(built, Result):
        return built
    from chalice_ci import snapshot_document
    from chalice_ci.contents import contents_of
    from chalice_ci.templating import write_templates

    folder = run.out / built.job.app.name / built.job.stage
    make_folder(folder)
    names = {"app": "deployment.zip", "layer": "layer-deployment.zip"}
    paths = {archive.slot: archive.path for archive in built.package.archives}
    archives = []
    for archive in built.result.package.archives if built.result.package else ():
        target = folder / names[archive.slot]
        _place(paths[archive.slot], target)
        archives.append(replace(archive, path=target.relative_to(run.out).as_posix()))
    (folder / "manifest.json").write_text(built.package.manifest.text, encoding="utf-8")
    (folder / "snapshot.json").write_bytes(snapshot_document.render(built.snapshot))
    result = replace(built.result, contents=contents_of(built.snapshot))
    result = write_templates(folder, built.loaded, wanted, result)
    run.hand_over(run.out)
    run.progress.say(f"wrote {run.shown(folder)}", job=built.job.name)
    return _with_archives(result, tuple(archives))


def _place(made: Path, target: Path) -> None:
    """Put an archive of this run's own folder where it was asked for; its bytes are not moved where
    both are on one file system.
    """
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        draft.hardlink_to(made)
    except OSError:
        shutil.copyfile(made, target)
        return
    # The rights are those of any file that is written here.
    target.touch()
    made.chmod(target.stat().st_mode & 0o777)
    draft.replace(target)


def _with_archives(result: Result, archives: tuple[Archive, ...]) -> Result:
    if result.package is None:
        return result
    return replace(result, package=replace(result.package, archives=archives))


def _write(run: Scene, name: str, text: str) -> None:
    make_folder(run.out)
    replace_file(run.out / name, text.encode("utf-8"))
    run.hand_over(run.out)


def make_folder(path: Path) -> None:
    """Make a folder for what is written, with those above it.

    Raises UsageError where no folder can be, such as below /proc.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as problem:
        raise UsageError(
            "no folder can be made here.", where=str(path), fix="Take another place with --out."
        ) from problem


def replace_file(path: Path, data: bytes) -> None:
    """Put a complete file in the place of the old one: on a full disk the old one stays."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with naming(path):
            draft.write_bytes(data)
            draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
