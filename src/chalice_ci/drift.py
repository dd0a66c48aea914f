"""What was changed or removed in AWS since the last deployment, by somebody else than a deployment.

The plan of the last release is made again against what is live: whatever it would do is not as it
was left. Only reads are made. What the comparison of a deployment does not look at is not seen.
"""

from __future__ import annotations

from dataclasses import replace

from chalice_ci import rules
from chalice_ci.app.deployer import PackageDigest, Target
from chalice_ci.errors import NoCredentials, UserError
from chalice_ci.findings import Finding, in_order
from chalice_ci.holding import look
from chalice_ci.lending import identified, lent_deployer
from chalice_ci.plan import Action, Operation, Plan, actions
from chalice_ci.releasing import opened_release, read_releases
from chalice_ci.report.report import Result
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.sealing import Live
from chalice_ci.state.transfer import Recorded

_WORDS = {
    Action.CREATE: "is not there any more",
    Action.UPDATE: "is not as it was deployed",
    Action.REPLACE: "is not as it was deployed",
    Action.DELETE: "is recorded and not part of the last release",
}


def drift(run: Run, job: Job, live: Live, recorded: Recorded | None) -> tuple[Finding, ...]:
    """What is not as the last release left it; nothing when no plan of it is kept."""
    plan = _last(run, job)
    if plan is None or recorded is None:
        return ()
    unknown = run.secrets.missing(plan.secrets)
    target = Target(
        app_name=plan.app_name,
        stage=job.stage,
        graph=plan.graph,
        # Their digests are enough to compare with.
        packages={package.slot: PackageDigest(sha256=package.sha256) for package in plan.packages},
        resources=recorded.state.resources,
        secrets=run.secrets.injected(plan.secrets),
    )
    found = [
        operation
        for operation in live.deployer.plan(target)
        # Without the secrets their functions are different in any case.
        if not (unknown and operation.method == "update_function")
    ]
    known = {str(resource["name"]): resource for resource in recorded.state.resources}
    return tuple(
        _finding(job, name, action, found, str(known.get(name, {}).get("resource_type", "")))
        for name, action in actions(found, recorded=known)
    )


def _last(run: Run, job: Job) -> Plan | None:
    """The plan of the last release, if it is kept and can be opened here."""
    try:
        releases = read_releases(run, job)
        if not releases:
            return None
        return opened_release(run, job, releases[0])[0]
    except UserError as error:
        run.progress.say(
            f"whether something was changed outside is not known: {error.what}", job=job.name
        )
        return None


def _finding(
    job: Job, name: str, action: Action, operations: list[Operation], kind: str
) -> Finding:
    methods = dict.fromkeys(one.method for one in operations if one.resource == name)
    what = f"{kind or 'resource'} `{name}`" if kind else f"`{name}`"
    return rules.finding(
        "drift",
        what=f"{what} {_WORDS[action]} (to put right: {', '.join(methods)}).",
        fix="Deploy again to put it right, or write the change into the app or its configuration.",
        subject=name,
        app=job.app.name,
        stage=job.stage,
    )


def with_drift(run: Run, job: Job, result: Result) -> Result:
    """A result with what was changed outside; as it is where there are no credentials."""
    plan = _last(run, job)
    if plan is None:
        return result
    with lent_deployer(run, job, plan.chalice, region=plan.region) as deployer:
        try:
            live = Live(deployer=deployer, identity=identified(run, job, deployer))
        except NoCredentials:
            return result
        found = drift(run, job, live, look(run, job, plan.app_name))
    return replace(result, findings=in_order((*result.findings, *found)))
