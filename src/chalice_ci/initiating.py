"""The verb `init`: looks at the repository, shows what it would write, and writes it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from chalice_ci.access.document import Document, Statement, parts
from chalice_ci.access.grants import Bucket, Place, Wishes, grants, makeup
from chalice_ci.building import Built, build, known_stages
from chalice_ci.chalice_config import usable_stage
from chalice_ci.context import System
from chalice_ci.errors import UsageError, UserError
from chalice_ci.inputs import ALLOWED_ACCOUNT, AWS_REGION, SYSTEM
from chalice_ci.jobs import Reaction
from chalice_ci.repository_settings import repository_name
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.scaffold import gitlab, pipelines
from chalice_ci.scaffold.configuration import configuration
from chalice_ci.scaffold.identity import PLAN_ROLE, PREVIEW_ROLE, ROLE, identity
from chalice_ci.scaffold.pipelines import PIPELINES
from chalice_ci.scaffold.role import (
    ACCOUNT,
    REGION,
    role_name,
    roles,
    short_name,
    template,
    unknown,
)
from chalice_ci.scaffold.setting import (
    TITLES,
    App,
    Setting,
    environment_of,
    home_of,
    joined,
    system_of,
    systems,
)
from chalice_ci.scaffold.workflows import variables, workflows

CONFIGURATION = "chalice-ci.yml"
TEMPLATE = "chalice-roles.json"
IGNORE = ".gitignore"
OUTPUT = "chalice-ci-out/"
_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_UNWRITABLE = re.compile(r"[\"$`{}]")
_READS = re.compile(r"[a-z0-9]+:(?:Get|List|Describe)[A-Za-z]*|apigateway:GET")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The flags: a preview of each pull request, show only, replace what differs."""

    previews: bool = False
    dry_run: bool = False
    force: bool = False


def set_up(run: Run, wanted: Wanted) -> Reaction:
    """Write what is missing. Raises UsageError before anything is written when a file differs."""
    notes: list[str] = []
    setting = _setting(run, wanted, notes)
    wanted_files = dict(_files(run, setting, notes))
    new, changed = _compared(run.root, wanted_files)
    run.world.stdout.write("".join(_shown(run.root, {**new, **changed})))
    if changed and not (wanted.force or wanted.dry_run):
        raise UsageError(
            f"these files are there already and differ: {joined(sorted(changed))}.",
            where=run.shown(run.root),
            fix="Look at the difference above; --force replaces them. Nothing was written.",
        )
    for name in (*new, *changed):
        _checked_inside(run, name)
    if wanted.dry_run or not _agreed(run, {**new, **changed}):
        return Reaction(notes=(*notes, "nothing was written."))
    for name, text in {**new, **changed}.items():
        path = run.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline=_line_end(path))
        run.hand_over(path)
        notes.append(f"wrote {name}.")
    if not new and not changed:
        notes.append("everything is there already.")
    return Reaction(notes=(*notes, *_next(setting)))


def _checked_inside(run: Run, name: str) -> None:
    """Raise UsageError for a file that a link puts outside of the repository."""
    path = (run.root / name).resolve()
    if not path.is_relative_to(run.root.resolve()):
        raise UsageError(
            f"a link leads out of the repository, to {path}.",
            where=name,
            fix="Put a file there, or take the link away. Nothing was written.",
        )


def _line_end(path: Path) -> str:
    """How the lines of a file end that is there already; as Git keeps them otherwise."""
    return "\r\n" if path.is_file() and b"\r\n" in path.read_bytes() else "\n"


def _agreed(run: Run, files: Mapping[str, str]) -> bool:
    """Whether what was shown may be written: asked where somebody can answer."""
    ask = _asker(run)
    if ask is None or not files:
        return True
    return ask(f"Write {joined(sorted(files))}? [Y/n]").lower() in ("", "y", "yes")


def _next(setting: Setting) -> Iterator[str]:
    """What is left to a person."""
    yield from _left_open(setting)
    yield "then look whether everything is as it should be: chalice-ci doctor"


def _left_open(setting: Setting) -> Iterator[str]:
    """What is to be done in AWS and where the code is."""
    yield f"commit it, and try it here: chalice-ci deploy --stage {setting.first} --local"
    what = "the roles" if identity(setting) else "the policies and the bucket"
    parameters = "".join(f" {name}=..." for name in unknown(setting))
    yield (
        f"make {what}: aws cloudformation deploy --template-file {TEMPLATE} --stack-name "
        "chalice-roles --capabilities CAPABILITY_NAMED_IAM"
        + (f" --parameter-overrides{parameters}" if parameters else "")
    )
    if setting.system in PIPELINES:
        yield from pipelines.left_open(setting)
        return
    if setting.system is System.GITLAB:
        for name, what in gitlab.left_open(setting).items():
            yield f"set the variable {name} of the project on GitLab: {what}."
        for stage in setting.gated[:1]:
            yield f"protect the environment {environment_of(stage)} on GitLab."
        return
    missing = variables(setting)
    if missing:
        yield f"set these variables of the repository on GitHub: {joined(missing)}."
    for environment in dict.fromkeys(map(environment_of, setting.gated)):
        yield f"make the environment {environment} on GitHub, with required reviewers."


# -- looking --------------------------------------------------------------------------------------


def _setting(run: Run, wanted: Wanted, notes: list[str]) -> Setting:
    stages = known_stages(run)
    apps = tuple(
        App(
            name=app.name,
            path=app.path,
            stages=tuple(filter(usable_stage, stages[app.name])) or ("dev",),
        )
        for app in run.config.apps
    )
    strange = {one for names in stages.values() for one in names if not usable_stage(one)}
    if strange and run.config.file is None:
        notes.append(
            f"left out of {CONFIGURATION}: {joined(sorted(map(ascii, strange)))} of config.json. A "
            "stage's name is letters, digits, `-` and `_`, and `pr-7` is a preview's."
        )
    if not apps:
        raise UsageError(
            "there is no Chalice app here.",
            where=run.shown(run.root),
            fix="Begin in the repository of one: chalice new-project NAME makes it.",
        )
    host, path = home_of(run.checkout.remote or "")
    system = system_of(run.inputs.text(SYSTEM), systems(run.root), host)
    setting = Setting(
        apps=apps,
        branch=run.checkout.default_branch or run.checkout.branch or "main",
        repository=repository_name(run) if system is System.GITHUB else path,
        gitlab=_server(run, host) if system is System.GITLAB else "",
        system=system,
        host=host,
        account=run.inputs.text(ALLOWED_ACCOUNT),
        region=run.inputs.text(AWS_REGION) or run.world.region or "",
        previews=wanted.previews,
    )
    return _with_bucket(run, _checked(_asked(run, setting)))


def _server(run: Run, host: str) -> str:
    """The GitLab that runs the pipeline: the remote's, for code elsewhere the one for everybody."""
    return "gitlab.com" if not host or repository_name(run) else host


def _with_bucket(run: Run, setting: Setting) -> Setting:
    """Where states are kept: the systems that push to no branch keep them in S3."""
    state = run.config.state
    if setting.system not in PIPELINES:
        return setting
    if run.config.file is not None:
        return replace(setting, bucket=(state.bucket or "") if state.store == "s3" else "")
    name = re.sub("[^a-z0-9-]+", "-", short_name(setting).lower()).strip("-")[:36]
    return replace(setting, bucket=f"{name}-chalice-state-{setting.account}".lstrip("-"))


def _asked(run: Run, setting: Setting) -> Setting:
    """Ask for what is not known, if somebody is there who can answer."""
    ask = _asker(run)
    if ask is None:
        return setting
    if not setting.account:
        setting = replace(setting, account=ask("AWS account (12 digits; empty: a variable)"))
    if not setting.region:
        setting = replace(setting, region=ask("AWS region (empty: a variable)"))
    if not setting.previews and setting.system not in PIPELINES:
        answer = ask("A preview of each pull request? [y/N]")
        setting = replace(setting, previews=answer.lower() in ("y", "yes"))
    return setting


def _asker(run: Run) -> Callable[[str], str] | None:
    stdin = run.world.stdin
    if stdin is None or not stdin.isatty() or run.world.on_ci:
        return None

    def ask(question: str) -> str:
        run.world.stderr.write(f"{question}: ")
        run.world.stderr.flush()
        line = stdin.readline()
        if not line:
            raise UsageError(
                "the input ended at a question.",
                where="the terminal",
                fix="Answer it, or give options. Nothing was written.",
            )
        return line.strip()

    return ask


def _checked(setting: Setting) -> Setting:
    if _UNWRITABLE.search(setting.branch):
        raise UsageError(
            f"the default branch is called {setting.branch!a}, which pipelines and roles "
            "read as more than a name.",
            where="git",
            fix="Rename it: a name without quotes, `$`, backquotes and braces.",
        )
    if setting.account and not _ACCOUNT.fullmatch(setting.account):
        raise UsageError(
            f"{setting.account[:40]!r} is no AWS account.",
            where="allowed-account",
            fix="Give its 12 digits, or nothing.",
        )
    if setting.region and not _REGION.fullmatch(setting.region):
        raise UsageError(
            f"{setting.region[:40]!r} is no AWS region.",
            where="aws-region",
            fix="Give it as eu-west-1, or nothing.",
        )
    if setting.system in PIPELINES:
        title = TITLES[setting.system]
        missing = [
            f"--{item.name}"
            for item, value in (
                (ALLOWED_ACCOUNT, setting.account),
                (AWS_REGION, setting.region),
            )
            if not value
        ]
        if missing:
            raise UsageError(
                f"the pipeline of {title} names the roles and the region.",
                where=joined(missing),
                fix=f"Give {joined(missing)}, or choose another system with --system.",
            )
        if setting.previews:
            raise UsageError(
                f"{title} does not tell that a pull request was closed, so no previews are set up.",
                where="--previews",
                fix="Leave it out, or see docs/previews.md for what a schedule can do.",
            )
    return setting


# -- writing --------------------------------------------------------------------------------------


def _files(run: Run, setting: Setting, notes: list[str]) -> Iterator[tuple[str, str]]:
    if run.config.file is None:
        yield CONFIGURATION, configuration(setting)
    else:
        notes.append(f"{run.config.file} is there and stays as it is.")
    ignored = _old(run.root / IGNORE) or ""
    if OUTPUT not in ignored.splitlines():
        end = "" if not ignored or ignored.endswith("\n") else "\n"
        yield IGNORE, f"{ignored}{end}{OUTPUT}\n"
    yield from _pipeline(run, setting, notes)
    names = {role: role_name(setting, role) for role in roles(setting)}
    text = template(setting, _policies(run, setting, notes), names)
    if text:
        yield TEMPLATE, text
    others = [TITLES[one] for one in systems(run.root) if one is not setting.system]
    if others:
        notes.append(
            f"this is for {TITLES[setting.system]}; for {joined(others)} nothing is written: "
            "--system NAME writes for another one."
        )


def _pipeline(run: Run, setting: Setting, notes: list[str]) -> Iterator[tuple[str, str]]:
    """What the CI system runs. A pipeline of GitLab that is there stays, and includes ours."""
    if setting.system is System.GITHUB:
        yield from workflows(setting).items()
        return
    for stage in setting.gated[1:]:
        how = "it only plans" if setting.system is System.GITLAB else "is left to you"
        notes.append(f"the pipeline applies {setting.gated[0]} by hand, {stage} {how}.")
    if setting.system in PIPELINES:
        yield from _written(run, setting, notes)
        return
    there = _old(run.root / gitlab.PIPELINE)
    if there is None or there == gitlab.pipeline(setting):
        yield gitlab.PIPELINE, gitlab.pipeline(setting)
        return
    if gitlab.includes(there):
        notes.append(f"{gitlab.PIPELINE} has the component and stays as it is.")
        return
    yield gitlab.INCLUDED, gitlab.part(setting)
    notes.append(f"add to {gitlab.PIPELINE}: include: [{{local: {gitlab.INCLUDED}}}]")


def _written(run: Run, setting: Setting, notes: list[str]) -> Iterator[tuple[str, str]]:
    """The pipeline of a system beside GitHub and GitLab; one of the project's own stays."""
    known = PIPELINES[setting.system]
    for name, path in known.more:
        yield path, pipelines.source(name)
    there = _old(run.root / known.path)
    if there is None or known.sign in there:
        yield known.path, pipelines.pipeline(setting)
        return
    yield known.beside, pipelines.pipeline(setting)
    notes.append(f"{known.path} stays as it is, and {known.beside} has ours: {known.then}")


def _policies(run: Run, setting: Setting, notes: list[str]) -> Mapping[str, tuple[Document, ...]]:
    """What each role has to be allowed, from the apps as they are."""
    deploying: list[Statement] = []
    previewing: list[Statement] = []
    for app in run.config.apps:
        for stage in setting.stages:
            built = _built(run, Job(app=app, stage=stage), notes)
            if built is None:
                return {}
            deploying += _statements(built, stage, setting.bucket)
            if stage == setting.first:
                previewing += _statements(built, "pr-*", setting.bucket)
    found = {ROLE: parts(_numbered(deploying))}
    if PLAN_ROLE in roles(setting):
        reads = (_only_reads(statement) for statement in deploying)
        found[PLAN_ROLE] = parts(_numbered([one for one in reads if one is not None]))
    if setting.previews:
        found[PREVIEW_ROLE] = parts(_numbered(previewing))
    return found


def _built(run: Run, job: Job, notes: list[str]) -> Built | None:
    """The stage as it is; None, and a note, when it can't be built yet."""
    why = "see chalice-ci check"
    try:
        built = build(run, job)
    except UserError as error:
        why = error.what
    else:
        if isinstance(built, Built):
            return built
    notes.append(
        f"{job.name} can't be built yet ({why}), so the roles have no policies: run "
        "chalice-ci init --force when chalice-ci check passes."
    )
    return None


def _statements(built: Built, stage: str, bucket: str) -> tuple[Statement, ...]:
    made = makeup(f"{built.app_name}-{stage}", built.loaded.graph, ())
    store = Bucket(name=bucket) if bucket else None
    return grants(made, Place(account=ACCOUNT, region=REGION), Wishes(store=store))


def _numbered(statements: list[Statement]) -> list[Statement]:
    """Each statement once, with an id of its own; what is granted on the same goes together."""
    merged: dict[tuple[object, ...], Statement] = {}
    for one in statements:
        key = (one.actions, one.conditions)
        if key in merged:
            both = tuple(sorted({*merged[key].resources, *one.resources}))
            merged[key] = replace(merged[key], resources=both)
        else:
            merged[key] = one
    return [replace(one, sid=f"{one.sid}{n}") for n, one in enumerate(merged.values(), 1)]


def _only_reads(statement: Statement) -> Statement | None:
    actions = tuple(action for action in statement.actions if _READS.fullmatch(action))
    return replace(statement, actions=actions) if actions else None


def _compared(root: Path, files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What is not there yet or only grows at its end, and what differs."""
    new, changed = {}, {}
    for name, text in files.items():
        old = _old(root / name)
        if old is None or (old != text and text.startswith(old)):
            new[name] = text
        elif old != text:
            changed[name] = text
    return new, changed


def _old(path: Path) -> str | None:
    if path.exists() and not path.is_file():
        # A pipe would never end.
        raise UsageError("what is there is no file.", where=str(path), fix="Move it away first.")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the file that is there can't be read: {error}",
            where=str(path),
            fix="Move it away first.",
        ) from error


def _shown(root: Path, files: Mapping[str, str]) -> Iterator[str]:
    """The difference that writing the files makes."""
    for name, text in files.items():
        old = _old(root / name) or ""
        before = f"a/{name}" if old else "/dev/null"
        yield from difflib.unified_diff(
            old.splitlines(keepends=True),
            text.splitlines(keepends=True),
            fromfile=before,
            tofile=f"b/{name}",
        )
