"""The verb `doctor`: looks at everything that a deployment depends on, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from chalice_ci import rules
from chalice_ci.building import Built, build, known_stages
from chalice_ci.config import SOURCE_BRANCH
from chalice_ci.context import System
from chalice_ci.doctor.guide import BITBUCKET, GITHUB, GITLAB
from chalice_ci.doctor.pipelines import FILES, pipeline_findings, pipeline_roles
from chalice_ci.doctor.repository import Unseen, Wanted, repository_findings
from chalice_ci.doctor.roles import (
    Role,
    RoleUnknown,
    RoleUse,
    RoleVariable,
    is_role,
    roles_of,
    stage_roles,
)
from chalice_ci.doctor.tokens import PROVIDERS, token_findings
from chalice_ci.doctor.trust import trust_findings
from chalice_ci.doctor.workflows import workflow_findings
from chalice_ci.errors import AWSError, ExitCode, ForgeError
from chalice_ci.findings import Finding, Place, in_order
from chalice_ci.forge.settings import Settings, Variables
from chalice_ci.inputs import SYSTEM
from chalice_ci.jobs import Reaction, guarded
from chalice_ci.positions import MapNode, Node, Problem, decode, read_bytes
from chalice_ci.report.report import Intent, Result
from chalice_ci.repository_settings import (
    NO_BITBUCKET,
    NO_GITHUB,
    NO_GITLAB,
    bitbucket_settings,
    github_settings,
    gitlab_settings,
    noted,
    repository_name,
)
from chalice_ci.route import Job, Wish, all_jobs
from chalice_ci.rule import Group
from chalice_ci.rules import RULES
from chalice_ci.run import Run
from chalice_ci.scaffold.setting import TITLES, home_of, system_of, systems
from chalice_ci.yaml_source import read_yaml

WORKFLOWS = ".github/workflows"
_MAX_WORKFLOW = 512 * 1024
_GROUPS = {Group.ENVIRONMENT, Group.PACKAGE}
_RULES = {"config-json-secret"}
_GUIDES = {System.GITHUB: GITHUB, System.GITLAB: GITLAB, System.BITBUCKET: BITBUCKET}
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def examine(run: Run, wish: Wish) -> Reaction:
    """Every finding about the set-up; the notes say what could not be looked at, and why."""
    unseen = Unseen()
    jobs = all_jobs(run.config, known_stages(run), wish)
    results = tuple(_examined(run, job) for job in jobs)
    host, _ = home_of(run.checkout.remote or "")
    system = system_of(run.inputs.text(SYSTEM), systems(run.root), host)
    if system is not System.GITHUB:
        found = _elsewhere(run, system, unseen)
        return Reaction(results=results, findings=in_order(tuple(found)), notes=tuple(unseen.notes))
    read = tuple(_workflows(run, unseen))
    workflows = tuple(one for one in read if one is not None)
    told = workflow_findings(workflows, environments=_environments(run))
    findings = [*_but_missing(told, unread=workflows != read)]
    settings = noted(lambda: github_settings(run), unseen, NO_GITHUB)
    findings += _repository(run, settings, system, unseen)
    roles = _known_roles(run, settings, roles_of(workflows), unseen)
    findings += _roles(run, roles, unseen, system)
    return Reaction(results=results, findings=in_order(tuple(findings)), notes=tuple(unseen.notes))


def _elsewhere(run: Run, system: System, unseen: Unseen) -> Sequence[Finding]:
    """What can be told without the API of a forge, on GitLab with it, and in the notes the rest."""
    title = TITLES[system]
    found: list[Finding] = []
    if system is System.GITLAB:
        settings = noted(lambda: gitlab_settings(run), unseen, NO_GITLAB)
        found += _repository(run, settings, system, unseen)
    elif system is System.BITBUCKET:
        settings = noted(lambda: bitbucket_settings(run), unseen, NO_BITBUCKET)
        found += _repository(run, settings, system, unseen)
    else:
        unseen.notes.append(
            f"who may approve a deployment, who may change the branches that deploy, and what a "
            f"job's token may do were not looked at: doctor reads the settings of GitHub, "
            f"GitLab and Bitbucket alone, and this is for {title}."
        )
    if system not in PROVIDERS:
        unseen.notes.append(
            f"who may assume the roles was not looked at: {title} gives its jobs no OIDC token, so "
            "it depends on where its credentials are kept."
        )
    read = dict(_pipelines(run, system, unseen))
    texts = {name: text for name, text in read.items() if text is not None}
    trees: dict[str, Node | None] = {}
    if system in (System.AZURE, System.BUILDKITE):
        trees = {name: read_yaml(text, name)[0] for name, text in texts.items()}
    found += _but_missing(pipeline_findings(system, texts, trees), unread=texts != read)
    roles = _known_roles(run, None, tuple(pipeline_roles(texts)), unseen)
    if system in PROVIDERS and not roles:
        unseen.notes.append(
            "whom the roles trust was not looked at: neither the pipeline nor chalice-ci.yml "
            "(`role` of a stage) names one."
        )
    return [*found, *_roles(run, roles, unseen, system)]


def _pipelines(run: Run, system: System, unseen: Unseen) -> Iterator[tuple[str, str | None]]:
    """The pipelines of a system, by the name of their file; None for what can't be read."""
    paths = {path for pattern in FILES[system] for path in run.root.glob(pattern)}
    for path in sorted(paths):
        yield path.relative_to(run.root).as_posix(), _text(run, path, unseen)


def _but_missing(found: Iterable[Finding], *, unread: bool) -> Iterator[Finding]:
    """The findings; that nothing deploys can't be told while a file is unread."""
    return (one for one in found if not (unread and one.rule == "workflow-missing"))


# -- apps -----------------------------------------------------------------------------------------


def _examined(run: Run, job: Job) -> Result:
    """What stands against the app's Chalice, Python, dependencies and plain secrets."""
    result = guarded(run, job, lambda: _built(run, job))
    kept = [
        finding
        for finding in result.findings
        if RULES[finding.rule].group in _GROUPS or finding.rule in _RULES
    ]
    failure = result.failure
    if failure is not None and failure.exit_code is ExitCode.PACKAGE_FAILED:
        kept.append(
            rules.finding(
                "wheels-missing",
                what=failure.what,
                fix=failure.fix,
                app=job.app.name,
                stage=job.stage,
            )
        )
        failure = None
    return Result(
        app=result.app,
        stage=result.stage,
        path=result.path,
        chalice=result.chalice,
        python=result.python,
        intent=Intent.CHECK,
        findings=in_order(tuple(kept)),
        failure=failure,
    )


def _built(run: Run, job: Job) -> Result:
    built = build(run, job)
    return built.result if isinstance(built, Built) else built


# -- workflows ------------------------------------------------------------------------------------


def _workflows(run: Run, unseen: Unseen) -> Iterator[MapNode | None]:
    """The workflows that GitHub can run; None for what can't be read here."""
    folder = run.root / WORKFLOWS
    for path in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        name = path.relative_to(run.root).as_posix()
        text = _text(run, path, unseen)
        if text is None:
            yield None
            continue
        node, problems = read_yaml(text, name)
        if isinstance(node, MapNode):
            yield node
        else:
            why = problems[0].what if problems else "it is no mapping."
            unseen.notes.append(f"{name} can't be read: {why}")


def _text(run: Run, path: Path, unseen: Unseen) -> str | None:
    """A file of the repository; None, and a note, for what can't be read."""
    name = path.relative_to(run.root).as_posix()
    raw = read_bytes(path, beneath=run.root, limit=_MAX_WORKFLOW, place=Place(file=name))
    text = raw if isinstance(raw, Problem) else decode(raw, name)
    if isinstance(text, Problem):
        unseen.notes.append(f"{name} can't be read: {text.what}")
        return None
    return text


# -- the repository's settings --------------------------------------------------------------------


def _repository(
    run: Run, settings: Settings | None, system: System, unseen: Unseen
) -> Sequence[Finding]:
    if settings is None:
        return ()
    state = run.config.state
    branch = state.branch if state.store == "git" and state.branch != SOURCE_BRANCH else ""
    wanted = Wanted(
        environments=_environments(run),
        default_branch=run.context.default_branch or run.checkout.default_branch or "main",
        state_branch=branch,
        # A job of GitLab's can't ask for more than the project gives every job, and Bitbucket's
        # steps push in any case.
        jobs_write=system is System.BITBUCKET or (system is System.GITLAB and state.store == "git"),
    )
    return tuple(repository_findings(settings, wanted, unseen, _GUIDES[system]))


def _environments(run: Run) -> tuple[tuple[str, str], ...]:
    """The environments that stages name, with their stage."""
    return tuple(sorted({(s.environment, s.name) for s in run.config.stages if s.environment}))


# -- roles ----------------------------------------------------------------------------------------


def _known_roles(
    run: Run, settings: Variables | None, roles: Sequence[Role], unseen: Unseen
) -> Sequence[RoleUse | Finding]:
    """The roles that are written out, in workflows, variables and chalice-ci.yml, each once."""
    config = run.config
    stages = [(stage.name, stage.role or "", stage.account or "") for stage in config.stages]
    found: dict[object, RoleUse | Finding] = {
        (use.arn, use.account): use
        for use in stage_roles(stages, config.places, config.file or "chalice-ci.yml")
    }
    for role in roles:
        known = role if isinstance(role, RoleUse) else _looked_up(settings, role, unseen)
        if isinstance(known, RoleUse):
            if not any(key[0] == known.arn for key in found if isinstance(key, tuple)):
                found[known.arn, ""] = known
        elif known is not None:
            found[known] = known
    return tuple(found.values())


def _looked_up(
    settings: Variables | None, role: RoleVariable | RoleUnknown, unseen: Unseen
) -> RoleUse | Finding | None:
    """The role that a variable holds, or what is wrong with it; None: it stands in the notes."""
    if isinstance(role, RoleUnknown):
        unseen.notes.append(f"the role at {role.at} was not looked at: it comes from {role.why}.")
        return None
    named = f"the variable {role.name}"
    if settings is None:
        unseen.notes.append(f"the role at {role.at} was not looked at: it comes from {named}.")
        return None
    try:
        value = settings.variable(role.name, environment=role.environment)
    except ForgeError as error:
        unseen.notes.append(f"the role at {role.at} was not looked at: {error.what}")
        return None
    if value is not None and is_role(value):
        return RoleUse(arn=value.strip(), at=role.at)
    what = "is set nowhere" if value is None else "does not hold the ARN of a role"
    return rules.finding(
        "role-missing",
        what=f"the role comes from {named}, which {what}.",
        fix=f"Settings → Secrets and variables → Actions → Variables: set {role.name} to the ARN "
        "of the role that deploys.",
        subject=role.name,
        at=role.at,
    )


def _roles(
    run: Run, known: Sequence[RoleUse | Finding], unseen: Unseen, system: System
) -> Sequence[Finding]:
    found = [one for one in known if isinstance(one, Finding)]
    uses = [one for one in known if isinstance(one, RoleUse)]
    if not uses:
        return found
    configured = {stage.account for stage in run.config.stages if stage.account}
    for use in uses:
        account = use.arn.split(":")[4]
        # The role of a stage has to be of that stage's account.
        accounts = {use.account} if use.account else configured
        if accounts and account not in accounts:
            found.append(
                rules.finding(
                    "role-of-another-account",
                    what=f"{use.arn} is of account {account}; the stages are of "
                    f"{', '.join(sorted(accounts))}.",
                    fix="Assume a role of the stage's account, or change `account` in "
                    "chalice-ci.yml.",
                    subject=use.arn,
                    stage=use.stage,
                    at=use.at,
                )
            )
    if run.cloud is None and not any(run.world.env.get(name) for name in _CREDENTIALS):
        unseen.notes.append(
            "the trust policies of the roles were not looked at: there are no AWS credentials."
        )
        return found
    # Late: boto3 takes a while.
    from chalice_ci.aws_role import RoleMissing, read_role, role_name
    from chalice_ci.ownership import identify

    clients = run.clients(run.world.region or "us-east-1")
    try:
        own, _ = identify(clients, where="doctor")
    except AWSError as error:
        unseen.notes.append(f"the roles could not be looked at: {error.what}")
        return found
    repository = repository_name(run)
    server = run.world.env.get("CI_SERVER_HOST") or home_of(run.checkout.remote or "")[0]
    for use in uses:
        role = role_name(use.arn, where=str(use.at))
        if role.account != own:
            unseen.notes.append(
                f"{use.arn} was not looked at: the credentials are of account {own}."
            )
            continue
        try:
            trust = read_role(clients, role).trust
        except RoleMissing as error:
            found.append(
                rules.finding(
                    "role-missing", what=error.what, fix=error.fix, subject=use.arn, at=use.at
                )
            )
        except AWSError as error:
            unseen.notes.append(error.what)
        else:
            wrong = (
                trust_findings(use.arn, trust, repository=repository)
                if system is System.GITHUB
                else token_findings(
                    use.arn, trust, system=system, previews=use.previews, server=server
                )
            )
            found += [replace(one, at=use.at) for one in wrong]
    return found
