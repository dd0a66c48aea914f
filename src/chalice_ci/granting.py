"""The verb `policy`: the least-privilege deploy policy of each stage, and how another differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from chalice_ci import rules
from chalice_ci.access.compare import Difference, compare
from chalice_ci.access.document import LIMIT, Document, parse, parts
from chalice_ci.access.grants import Bucket, Place, Wishes, grants, makeup
from chalice_ci.aws_names import PACKAGES
from chalice_ci.building import app_name_of, build
from chalice_ci.config import StateConfig
from chalice_ci.errors import AWSError, UsageError
from chalice_ci.findings import Finding, in_order
from chalice_ci.graph import Graph, check_graph
from chalice_ci.holding import look
from chalice_ci.inputs import (
    COMPARE,
    DELETE_LOGS,
    PERMISSIONS_BOUNDARY,
)
from chalice_ci.jobs import Reaction, guarded
from chalice_ci.output import make_folder
from chalice_ci.plan import open_plan
from chalice_ci.plan_file import plan_path
from chalice_ci.report.details import number_of
from chalice_ci.report.report import Intent, Result, Verdict
from chalice_ci.route import Job, Wish, all_jobs, named_jobs
from chalice_ci.run import Run

_SHOWN = 40
"""How many differences of a kind a report lists."""


def stage_policies(run: Run, jobs: Sequence[Job]) -> Reaction:
    """Write the policy of each job; without `--compare` they are also what goes to stdout."""
    written: dict[str, tuple[Document, ...]] = {}
    results = tuple(guarded(run, job, partial(_result, run, job, written)) for job in jobs)
    results = tuple(replace(result, intent=Intent.READ) for result in results)
    complete = all(result.verdict is not Verdict.FAILED for result in results)
    told = not run.inputs.text(COMPARE) and complete and len(written) == len(jobs)
    return Reaction(results=results, instead=_told(written) if told else "")


def policy_jobs(run: Run, known: Mapping[str, tuple[str, ...]], wish: Wish) -> tuple[Job, ...]:
    """The stages asked for, or those of the plan, else every stage."""
    path = plan_path(run)
    if path is None:
        return all_jobs(run.config, known, wish)
    plan = open_plan(path, run.work_dir / "plan").plan
    return named_jobs(run.config, Wish(apps=(plan.app,), stages=(plan.stage,)))


def _told(written: Mapping[str, tuple[Document, ...]]) -> str:
    """One document as IAM takes it; several as a list, in the order of apps and stages."""
    documents = [one.to_json() for several in written.values() for one in several]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=2) + "\n"


def _result(run: Run, job: Job, written: dict[str, tuple[Document, ...]]) -> Result:
    base = Result(
        app=job.app.name, stage=job.stage, path=job.app.path, preview=job.like is not None
    )
    known = _known(run, job)
    if isinstance(known, Result):
        return known
    place = _place(run, job, account=known.account, region=known.region)
    boundary = run.inputs.text(PERMISSIONS_BOUNDARY)
    if boundary and not boundary.startswith(f"arn:{place.partition}:iam::"):
        raise UsageError(
            f"{boundary[:80]!r} is not the ARN of a policy.",
            where="input permissions-boundary",
            fix=f"Give the ARN: arn:{place.partition}:iam::{place.account}:policy/NAME.",
        )
    recorded = look(run, job, known.app_name)
    made = makeup(
        f"{known.app_name}-{_stage(job)}",
        known.graph,
        () if recorded is None else recorded.state.resources,
    )
    needed = job.policy.needs if job.policy else None
    documents = parts(
        grants(
            made,
            place,
            Wishes(
                delete_logs=run.inputs.flag(DELETE_LOGS),
                boundary=boundary,
                store=_store(run.config.state),
                packages=_packages(run.package_bucket(job)),
                needed_prefix=f"{known.app_name}-{needed}" if needed else "",
            ),
        )
    )
    written[job.name] = documents
    _write(run, job, documents)
    notes = list(_notes(job, documents, boundary=boundary if made.managed_roles else ""))
    against = run.inputs.text(COMPARE)
    findings = known.findings
    if against:
        findings = (*findings, *_findings(job, compare(documents, _existing(run, job, against))))
    for note in notes:
        run.progress.say(note, job=job.name)
    return replace(
        base,
        account=place.account,
        region=place.region,
        findings=in_order(findings),
        note=" ".join(notes),
    )


def _notes(job: Job, documents: Sequence[Document], *, boundary: str) -> Sequence[str]:
    notes = []
    if job.like is not None:
        notes.append("the policy is for every preview of the app: its names are pr-*.")
    if len(documents) > 1:
        notes.append(
            f"IAM takes {LIMIT} characters in a managed policy, so these are {len(documents)}: "
            "attach all of them to the role."
        )
    if boundary:
        notes.append(
            "Chalice makes roles without a permissions boundary, and this policy allows none "
            "without: make the roles of the functions elsewhere (`iam_role_arn` with "
            "`manage_iam_role: false` in config.json), or add the boundary to them there."
        )
    return notes


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the policy is made from."""

    app_name: str
    graph: Graph
    account: str = ""
    region: str = ""
    findings: tuple[Finding, ...] = ()


def _known(run: Run, job: Job) -> _Known | Result:
    path = plan_path(run)
    if path is not None:
        plan = open_plan(path, run.work_dir / "plan").plan
        graph = check_graph(
            plan.graph,
            chalice_version=plan.chalice,
            app_name=plan.app_name,
            stage=plan.stage,
            python_version=plan.python,
        )
        return _Known(
            app_name=plan.app_name,
            graph=graph,
            account=plan.account or "",
            region=plan.region or "",
        )
    built = build(run, job)
    if isinstance(built, Result):
        return built
    return _Known(
        app_name=built.app_name or app_name_of(run, job.app) or job.app.name,
        graph=built.loaded.graph,
    )


def _stage(job: Job) -> str:
    """How the stage stands in names; one role deploys all previews."""
    return "pr-*" if job.like is not None else job.stage


def _place(run: Run, job: Job, *, account: str, region: str) -> Place:
    where = region or run.region(job)
    if not where:
        raise UsageError(
            "a policy names the region, and none is known.",
            where=job.name,
            fix="Give the stage a region in chalice-ci.yml, or set aws-region or AWS_REGION.",
        )
    named = account or run.account(job)
    if named:
        return Place(account=named, region=where)
    # Late: boto3 takes a while.
    from chalice_ci.ownership import identify

    try:
        return Place(account=identify(run.clients_for(job, where), where=job.name)[0], region=where)
    except AWSError as error:
        raise UsageError(
            f"a policy names the account, and none is known: {error.what}",
            where=job.name,
            fix=f"Give the stage its account in chalice-ci.yml (`stages: {{{job.stage}: "
            '{account: "123456789012"}}`), or --allowed-account.',
        ) from error


def _store(state: StateConfig) -> Bucket | None:
    if state.store != "s3" or not state.bucket:
        return None
    return Bucket(name=state.bucket, prefix=state.prefix, key=state.kms_key or "")


def _packages(name: str | None) -> Bucket | None:
    return None if name is None else Bucket(name=name, prefix=PACKAGES)


def _existing(run: Run, job: Job, against: str) -> tuple[Document, ...]:
    """The documents to compare with: a file's, or a role's by IAM's API."""
    file = run.world.cwd / against
    if file.is_file():
        return (parse(_read(file, run), where=run.shown(file)),)
    # Late: boto3 takes a while.
    from chalice_ci.aws_role import read_policies, role_name

    role = role_name(against, where="input compare")
    return read_policies(run.clients_for(job, run.region(job) or "us-east-1"), role)


def _read(file: Path, run: Run) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the file can't be read: {error.strerror}.",
            where=run.shown(file),
            fix="Give a file with a policy document.",
        ) from error


def _findings(job: Job, difference: Difference) -> Sequence[Finding]:
    kinds = (
        (
            "policy-missing",
            difference.missing,
            "the deploy role lacks {count} that a deployment needs: {names}.",
            "Add them",
        ),
        (
            "policy-denied",
            difference.denied,
            "the deploy role may be denied {count} that a deployment needs: {names}.",
            "Narrow the denial",
        ),
        (
            # A pattern that grants more than is needed may grant what is needed, too.
            "policy-unneeded",
            difference.unneeded,
            "the deploy role has {count} beyond what a deployment needs: {names}.",
            "Grant no more than that",
        ),
    )
    found = []
    for rule, grants_of, what, fix in kinds:
        if not grants_of:
            continue
        names = sorted({grant.action for grant in grants_of})
        lines = [str(grant) for grant in grants_of[:_SHOWN]]
        if len(grants_of) > _SHOWN:
            lines.append(f"and {len(grants_of) - _SHOWN} more")
        found.append(
            rules.finding(
                rule,
                what=what.format(
                    count=number_of(len(grants_of), "permission"),
                    names=f"{', '.join(names[:5])}{' …' if names[5:] else ''}",
                ),
                fix=f"{fix}, or replace the policy by the one in the output folder.",
                detail="\n".join(lines),
                app=job.app.name,
                stage=job.stage,
            )
        )
    return found


def _write(run: Run, job: Job, documents: Sequence[Document]) -> None:
    make_folder(run.out)
    name = f"{job.app.name}-{job.stage}.policy"
    for old in run.out.glob(f"{name}*.json"):
        # An earlier run may have needed more of them.
        old.unlink()
    for number, document in enumerate(documents, 1):
        part = f"-{number}" if len(documents) > 1 else ""
        path = run.out / f"{name}{part}.json"
        path.write_text(json.dumps(document.to_json(), indent=2) + "\n", encoding="utf-8")
        run.progress.say(f"wrote {run.shown(path)}", job=job.name)
    run.hand_over(run.out)
