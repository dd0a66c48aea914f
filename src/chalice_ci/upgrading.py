"""What another Chalice than before means for a stage: the notes that touch it, and its template.

The app as it is now is built with both releases, so that nothing in the comparison comes from the
pull request's other work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from chalice_ci.app.versions import SUPPORTED
from chalice_ci.building import Built, build, facts_of
from chalice_ci.chalice_config import read_chalice_config
from chalice_ci.config import AppConfig
from chalice_ci.errors import UserError
from chalice_ci.findings import Severity
from chalice_ci.package.requirements import read_requirements
from chalice_ci.report.report import Result, Upgrade
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.template import TemplateRequest
from chalice_ci.upgrade.catalogue import is_release, upgrade_between
from chalice_ci.upgrade.templates import template_changes


def asked_chalice(root: Path, app: AppConfig) -> str:
    """The release that an app in a checkout pins, supported or not; "" when it pins none."""
    if app.chalice is not None:
        return app.chalice if is_release(app.chalice) else ""
    entries = read_requirements(root / app.path, repo_root=root).named("chalice")
    pinned = next((entry.pinned for entry in entries if entry.pinned), "")
    return pinned if is_release(pinned) else ""


def upgrade_of(run: Run, job: Job, stage: Built | Result, before: str) -> Upgrade | None:
    """What the stage's Chalice means after `before`; None where they are the same or not known.

    A stage that could not be built is told what it pins: what breaks it is what is asked for most.
    """
    result = stage.result if isinstance(stage, Built) else stage
    after = result.chalice or asked_chalice(run.checkout.root, job.app)
    if not is_release(before) or not is_release(after):
        return None
    config, _ = read_chalice_config(run.checkout.root / job.app.path, repo_root=run.checkout.root)
    if config is None:
        return None
    (facts,) = facts_of(run, job.app, config, (stage,))
    upgrade = upgrade_between(before, after, facts)
    if upgrade is None or isinstance(stage, Result):
        return upgrade
    old, new = (_template(run, job, release) for release in (before, after))
    if isinstance(old, str) or isinstance(new, str):
        problem = old if isinstance(old, str) else new
        return replace(upgrade, template_problem=str(problem))
    return replace(upgrade, template=template_changes(old, new))


def _template(run: Run, job: Job, release: str) -> Mapping[str, object] | str:
    """What a release makes of the app as it is, or why it makes nothing."""
    if release not in SUPPORTED:
        return f"Chalice {release} cannot be run here, so its template is not known."
    run.progress.say(f"writing the template of Chalice {release}", job=job.name)
    with_release = replace(job, app=replace(job.app, chalice=release))
    try:
        built = build(run, with_release, template=TemplateRequest(), alone=False)
    except UserError as error:
        return f"With Chalice {release}: {error.what}"
    if isinstance(built, Result):
        errors = (one.what for one in built.findings if one.severity is Severity.ERROR)
        failed = built.failure.what if built.failure is not None else next(errors, "no template.")
        return f"With Chalice {release}: {failed}"
    if built.loaded.template is None:
        return f"With Chalice {release}: {built.loaded.template_error or 'no template.'}"
    return built.loaded.template
