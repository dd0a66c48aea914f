"""Where a live stage came from, and whether it is that: `state show --verify`.

What is recorded is compared with what Lambda says that runs, and with what the recorded commit
builds, when the checkout has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci import rules
from chalice_ci.baseline import built_commit
from chalice_ci.errors import ForgeError
from chalice_ci.findings import Finding, in_order
from chalice_ci.holding import key_of
from chalice_ci.promotion import live_digests
from chalice_ci.releasing import read_releases
from chalice_ci.report.report import Result
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.state.releases import Release

_RUN = re.compile(r"(?P<repository>\S+) run (?P<run>[0-9]+) attempt [0-9]+")


def verified(run: Run, job: Job, result: Result) -> Result:
    """The recorded stage with where it came from, and a finding for everything that is not so."""
    releases = read_releases(run, job)
    if not releases:
        return _with(result, job, ["no release is recorded, so nobody can say where it came from"])
    release = releases[0]
    told = [
        f"commit {release.commit or 'none'}",
        f"plan {release.digest}",
        f"by {release.run_url or release.run or 'a machine without CI'} at {release.time}",
    ]
    if release.rolled_back_to:
        told.append(f"rolled back to {release.rolled_back_to[:12]}")
    told.append(_approved(run, job, release))
    problems = list(_live(run, job, release))
    if not problems:
        told.append("live code is that of the release")
    rebuilt, problem = _rebuilt(run, job, release)
    told.append(rebuilt)
    if problem:
        problems.append(problem)
    return _with(replace(result, note="; ".join(filter(None, told))), job, problems)


def _with(result: Result, job: Job, problems: list[str]) -> Result:
    findings = tuple(_finding(job, problem) for problem in problems)
    return replace(result, findings=in_order((*result.findings, *findings)))


def _finding(job: Job, problem: str) -> Finding:
    return rules.finding(
        "provenance",
        what=f"{problem}.",
        fix="Find out who changed it, then deploy the commit that should be there again.",
        app=job.app.name,
        stage=job.stage,
    )


def _approved(run: Run, job: Job, release: Release) -> str:
    """Who let the run's jobs go on, as far as the forge tells."""
    environment = job.policy.environment if job.policy else None
    if run.approvals is not None and environment is not None:
        found = run.approvals.approval(environment, release.rolled_back_to or release.digest)
        return f"approved by {found.by}" if found is not None and found.by else "not approved"
    at = _RUN.fullmatch(release.run)
    if at is None or run.forge is None:
        return ""
    if at["repository"] != run.context.repository:
        return f"approvals are those of {at['repository']}"
    try:
        people = run.forge.approvers(int(at["run"]))
    except ForgeError as error:
        return f"who approved can't be read: {error.what}"
    names = [login for place, login in people if environment is None or place == environment]
    return f"approved by {', '.join(dict.fromkeys(names))}" if names else "not approved by anybody"


def _live(run: Run, job: Job, release: Release) -> Iterator[str]:
    """What runs and is not of the release; Lambda tells the digest of what was uploaded."""
    stored = run.records.store.read(key_of(job))
    if stored.state is None:
        yield "nothing is recorded any more"
        return
    try:
        live = live_digests(run, job, stored.state)
    except (ClientError, BotoCoreError) as error:
        yield f"what runs can't be read: {error}"
        return
    for slot in sorted({*live, *release.code}):
        found, wanted = live.get(slot, set()), release.code.get(slot)
        if found != {wanted}:
            shown = ", ".join(sorted(digest[:12] for digest in found)) or "none"
            yield f"the live {slot} package is {shown}, the release's is {(wanted or 'none')[:12]}"


def _rebuilt(run: Run, job: Job, release: Release) -> tuple[str, str]:
    """What building the commit again gives: what to tell, and what is wrong with it."""
    if run.checkout.git_dir is None or not release.commit:
        return "not built again: there is no checkout", ""
    built = built_commit(run, job, release.commit)
    if isinstance(built, str):
        return f"not built again: {built}", ""
    found = {slot: file.sha256 for slot, file in built.packages.items()}
    if found == dict(release.packages):
        return "building that commit gives the same packages", ""
    return "", f"building {release.commit[:12]} gives another package than was deployed"
