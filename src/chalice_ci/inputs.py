"""Every input, declared once.

The command line, the inputs of the action and the table in the documentation are generated from
`INPUTS`; a test holds them equal. A value knows where it came from: default < chalice-ci.yml <
environment (`INPUT_STAGE` from the runner, `CHALICE_CI_STAGE` elsewhere) < option.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from chalice_ci.errors import UsageError


class Kind(StrEnum):
    """How the text of an input is read."""

    TEXT = "text"
    LINES = "lines"
    FLAG = "flag"
    PATH = "path"
    CHOICE = "choice"


class SourceKind(StrEnum):
    """Where a value came from, weakest first."""

    DEFAULT = "default"
    CONFIGURATION = "configuration"
    ENVIRONMENT = "environment"
    OPTION = "option"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input: the same name as an option, an action input and an environment variable."""

    name: str
    kind: Kind
    summary: str
    default: str = ""
    choices: tuple[str, ...] = ()
    metavar: str = ""
    verbs: tuple[str, ...] = ()
    """The verbs that read it; empty: all of them."""

    @property
    def variables(self) -> tuple[str, str]:
        """The environment variables that set it. The runner keeps dashes in `INPUT_*` names."""
        return f"INPUT_{self.name.upper()}", f"CHALICE_CI_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True, kw_only=True)
class Value:
    """The text of an input and its source; `detail` names the variable, option or file position."""

    text: str
    source: SourceKind
    detail: str = ""


ALL: tuple[str, ...] = ()
BUILDS = (
    *("run", "check", "package", "diff", "plan", "policy", "doctor", "init", "deploy", "preview"),
    "action",
)
AWS = ("run", "plan", "deploy", "rollback", "delete", "preview", "action")
OF_APPS = (
    *("run", "check", "package", "diff", "plan", "deploy", "rollback", "delete", "preview"),
    *("matrix", "policy", "doctor", "url", "state", "action"),
)
FORGES = ("run", "preview", "matrix", "report", "action", "action-post")

APP = Input(
    name="app",
    kind=Kind.LINES,
    metavar="NAME",
    verbs=OF_APPS,
    summary="Apps to act on, one per line; empty: every app of the repository.",
)
STAGE = Input(
    name="stage",
    kind=Kind.LINES,
    metavar="NAME",
    verbs=OF_APPS,
    summary="Stages to act on, one per line; empty: as configured.",
)
PROJECT_DIR = Input(
    name="project-dir",
    kind=Kind.PATH,
    default=".",
    metavar="DIR",
    summary="The app or the repository.",
)
CONFIG = Input(
    name="config",
    kind=Kind.PATH,
    metavar="FILE",
    summary="The configuration; empty: chalice-ci.yml at the repository's root, if there is one.",
)
OUT = Input(
    name="out",
    kind=Kind.PATH,
    default="chalice-ci-out",
    metavar="DIR",
    summary="Where reports, packages and plans go. Not a dot folder: artifact uploads skip those.",
)
FORMAT = Input(
    name="format",
    kind=Kind.CHOICE,
    default="text",
    choices=("text", "json", "github"),
    summary="The form of the result on stdout: text, json, or text with GitHub annotations.",
)
QUIET = Input(
    name="quiet", kind=Kind.FLAG, default="false", summary="No progress on stderr, results only."
)
LOCAL = Input(
    name="local",
    kind=Kind.FLAG,
    default="false",
    verbs=(*AWS, "diff", "doctor", "policy", "url", "state"),
    summary="Act on the embedded AWS instead of an account; needs chalice-ci[local].",
)
ONLY_AFFECTED = Input(
    name="only-affected",
    kind=Kind.FLAG,
    default="true",
    verbs=("run", "matrix", "action"),
    summary="Leave apps alone that a pull request does not touch, and stages of which nothing "
    "changed since they were deployed; see `paths` in chalice-ci.yml.",
)
MATRIX_BY = Input(
    name="matrix-by",
    kind=Kind.CHOICE,
    default="stage",
    choices=("stage", "app"),
    verbs=("run", "matrix", "action"),
    summary="What a job of the matrix is for: one app in one stage (stages that need each other "
    "stay together), or one app in all its stages.",
)
SHARE = Input(
    name="share",
    kind=Kind.TEXT,
    metavar="K/N",
    verbs=("run", "action"),
    summary="`2/4`: of the jobs that `matrix` prints only the 2nd, the 6th and so on, for CI "
    "systems that number equal jobs instead of giving each its own work.",
)
MATRIX = Input(
    name="matrix",
    kind=Kind.TEXT,
    metavar="JSON",
    verbs=("report", "action"),
    summary="What `matrix` printed: a job that left no report is then told as failed.",
)
REPORTS = Input(
    name="reports",
    kind=Kind.PATH,
    default="chalice-ci-reports",
    metavar="DIR",
    verbs=("report", "action"),
    summary="Where the downloaded reports are: every report.json below counts.",
)
PLAN = Input(
    name="plan",
    kind=Kind.PATH,
    metavar="FILE",
    verbs=("deploy", "policy", "action"),
    summary="A sealed plan to apply: exactly these bytes, or nothing; of a folder those of "
    "`stage`; `store:…` is one that `plan-store` kept. A policy is made from it.",
)
PLAN_STORE = Input(
    name="plan-store",
    kind=Kind.FLAG,
    default="false",
    verbs=("run", "plan", "action"),
    summary="Keep the plans in the state's store as well, so that no artifact has to carry them: "
    "the output `plan` is then what `deploy` takes them by.",
)
COMPARE = Input(
    name="compare",
    kind=Kind.TEXT,
    metavar="FILE|ROLE",
    verbs=("policy",),
    summary="A policy document, or the name or ARN of a role: what it lacks, and what it has that "
    "no deployment needs.",
)
PERMISSIONS_BOUNDARY = Input(
    name="permissions-boundary",
    kind=Kind.TEXT,
    metavar="ARN",
    verbs=("policy",),
    summary="Allow roles to be made and changed only within this permissions boundary.",
)
PROMOTE = Input(
    name="promote",
    kind=Kind.PATH,
    metavar="FILE",
    verbs=("plan", "deploy", "action"),
    summary="The plan of another stage whose packages are taken as they are, instead of building.",
)
PKG_FORMAT = Input(
    name="pkg-format",
    kind=Kind.CHOICE,
    choices=("cloudformation", "terraform"),
    default="cloudformation",
    verbs=("package", "action"),
    summary="What the template that `package` writes is for, as of `chalice package`.",
)
MERGE_TEMPLATE = Input(
    name="merge-template",
    kind=Kind.PATH,
    metavar="FILE",
    verbs=("package", "action"),
    summary="A template in JSON or YAML that Chalice merges into its own; it wins. CloudFormation "
    "only.",
)
AWS_REGION = Input(
    name="aws-region",
    kind=Kind.TEXT,
    metavar="REGION",
    verbs=(*BUILDS, "rollback", "delete", "state"),
    summary="The region; empty: the stage's in chalice-ci.yml, else AWS_DEFAULT_REGION.",
)
ROLE_TO_ASSUME = Input(
    name="role-to-assume",
    kind=Kind.TEXT,
    metavar="ARN",
    verbs=(*AWS, "state", "diff", "policy"),
    summary="The role that deploys; empty: the stage's `role` in chalice-ci.yml, else whatever "
    "credentials are here. Assumed with those, or with the job's OIDC token.",
)
ROLE_SESSION_NAME = Input(
    name="role-session-name",
    kind=Kind.TEXT,
    metavar="NAME",
    verbs=(*AWS, "state", "diff", "policy"),
    summary="What CloudTrail calls the role's sessions; empty: repository and number of the run.",
)
ROLE_DURATION = Input(
    name="role-duration-seconds",
    kind=Kind.TEXT,
    default="3600",
    metavar="SECONDS",
    verbs=(*AWS, "state", "diff", "policy"),
    summary="How long the role's credentials are good for; a longer deployment gets new ones.",
)
ALLOWED_ACCOUNT = Input(
    name="allowed-account",
    kind=Kind.TEXT,
    metavar="ID",
    verbs=(*AWS, "init", "policy", "state"),
    summary="The only account that may be touched; empty: the stage's in chalice-ci.yml.",
)
ALLOW_UNSANDBOXED = Input(
    name="allow-unsandboxed",
    kind=Kind.FLAG,
    default="false",
    verbs=BUILDS,
    summary="Load the app although no isolation can be had here and credentials are present.",
)
ALLOW_DESTRUCTIVE = Input(
    name="allow-destructive",
    kind=Kind.FLAG,
    default="false",
    verbs=("run", "plan", "deploy", "rollback", "action"),
    summary="Let a deployment delete or replace what holds an address or data; on a pull request "
    "the label `allow-delete:<stage>` does the same. Previews need neither.",
)
ALLOW_WIDENED_IAM = Input(
    name="allow-widened-iam",
    kind=Kind.FLAG,
    default="false",
    verbs=("run", "plan", "deploy", "rollback", "action"),
    summary="Let a deployment permit its functions more than what is deployed does, in a stage "
    "with an environment; on a pull request the label `allow-iam:<stage>` does the same.",
)
DELETE_LOGS = Input(
    name="delete-logs",
    kind=Kind.FLAG,
    default="false",
    verbs=("run", "delete", "policy", "preview", "action"),
    summary="When a stage is deleted, delete the log groups of its functions too; Chalice leaves "
    "them, and what they hold goes on costing.",
)
SNAPSHOT_KEY = Input(
    name="snapshot-key",
    kind=Kind.TEXT,
    metavar="SECRET",
    verbs=BUILDS,
    summary="A secret; with it a difference tells which environment variables changed their value.",
)
SIGNING_KEY = Input(
    name="signing-key",
    kind=Kind.TEXT,
    metavar="SECRET",
    verbs=(*BUILDS, "rollback"),
    summary="A secret of the jobs that deploy, never of a pull request's: plans are encrypted with "
    "it, and the record tells which secrets changed their value.",
)
PREVIOUS_SIGNING_KEY = Input(
    name="previous-signing-key",
    kind=Kind.TEXT,
    metavar="SECRET",
    verbs=("deploy", "rollback", "action"),
    summary="The signing key before the last change: plans that it sealed are still opened.",
)
AGAINST = Input(
    name="against",
    kind=Kind.CHOICE,
    choices=("deployed", "base"),
    default="base",
    verbs=("diff", "action"),
    summary="What `diff` compares with: what is recorded as deployed, or the merge base.",
)
FROM = Input(
    name="from",
    kind=Kind.TEXT,
    metavar="REF",
    verbs=("diff",),
    summary="The commit to compare with, instead of the merge base.",
)
TO = Input(
    name="to",
    kind=Kind.TEXT,
    metavar="REF",
    verbs=("diff", "rollback", "action"),
    summary="`diff`: the commit to look at; empty: the files that are checked out. `rollback`: the "
    "beginning of a plan's digest or of a commit to go back to; empty: the release before.",
)
PYTHON_PATH = Input(
    name="python-path",
    kind=Kind.PATH,
    metavar="FILE",
    verbs=BUILDS,
    summary="The Python interpreter of the app; empty: found by version.",
)
CACHE_DIR = Input(
    name="cache-dir",
    kind=Kind.PATH,
    metavar="DIR",
    summary="Environments, wheels and locks kept between runs; "
    "empty: /var/cache/chalice-ci for root, else chalice-ci in the user's cache folder.",
)
CACHE_SIZE = Input(
    name="cache-size",
    kind=Kind.TEXT,
    default="5GB",
    metavar="SIZE",
    summary="How large the cache may become; what was not used for longest goes first.",
)
FAIL_ON = Input(
    name="fail-on",
    kind=Kind.CHOICE,
    default="error",
    choices=("error", "warning"),
    verbs=BUILDS,
    summary="The lightest finding that fails the build.",
)

LEASE_WAIT = Input(
    name="lease-wait",
    kind=Kind.TEXT,
    default="900",
    metavar="SECONDS",
    verbs=(*AWS, "state"),
    summary="How long to wait while another run changes the same stage.",
)
GATEWAY_URL = Input(
    name="gateway-url",
    kind=Kind.TEXT,
    metavar="URL",
    verbs=(*AWS, "url", "state"),
    summary="Where an emulator of AWS serves the URLs of API Gateway; empty: they are real.",
)
COMMAND = Input(
    name="command",
    kind=Kind.TEXT,
    default="run",
    metavar="VERB",
    verbs=("action",),
    summary="The verb: `run` decides from the event; or check, package, plan, deploy, delete, url.",
)
GITHUB_TOKEN = Input(
    name="github-token",
    kind=Kind.TEXT,
    metavar="TOKEN",
    verbs=(*FORGES, "doctor"),
    summary="For the comment, the preview's deployment and the state; empty: GITHUB_TOKEN, on "
    "GitLab GITLAB_TOKEN.",
)
COMMENT = Input(
    name="comment",
    kind=Kind.FLAG,
    default="true",
    verbs=FORGES,
    summary="Tell on the pull request how it goes.",
)
LOCAL_FORGE = Input(
    name="local-forge",
    kind=Kind.PATH,
    metavar="DIR",
    verbs=(*FORGES, "doctor"),
    summary="A folder that plays the forge: pull requests, comments and deployments as files.",
)

SYSTEM = Input(
    name="system",
    kind=Kind.CHOICE,
    default="auto",
    choices=(
        *("auto", "github", "gitlab", "circleci", "jenkins", "bitbucket", "azure", "codebuild"),
        "buildkite",
    ),
    verbs=("init", "doctor"),
    summary="The CI system to write for, or to look at; `auto`: the one whose files or whose "
    "remote there is.",
)

INPUTS: tuple[Input, ...] = (
    APP,
    STAGE,
    PROJECT_DIR,
    CONFIG,
    OUT,
    FORMAT,
    QUIET,
    LOCAL,
    ONLY_AFFECTED,
    MATRIX_BY,
    SHARE,
    MATRIX,
    REPORTS,
    PLAN,
    PLAN_STORE,
    PROMOTE,
    COMPARE,
    PERMISSIONS_BOUNDARY,
    PKG_FORMAT,
    MERGE_TEMPLATE,
    AWS_REGION,
    ROLE_TO_ASSUME,
    ROLE_SESSION_NAME,
    ROLE_DURATION,
    ALLOWED_ACCOUNT,
    ALLOW_DESTRUCTIVE,
    ALLOW_WIDENED_IAM,
    DELETE_LOGS,
    ALLOW_UNSANDBOXED,
    PYTHON_PATH,
    CACHE_DIR,
    CACHE_SIZE,
    FAIL_ON,
    AGAINST,
    FROM,
    TO,
    SNAPSHOT_KEY,
    SIGNING_KEY,
    PREVIOUS_SIGNING_KEY,
    LEASE_WAIT,
    GATEWAY_URL,
    COMMAND,
    GITHUB_TOKEN,
    COMMENT,
    LOCAL_FORGE,
    SYSTEM,
)


def inputs_of(verb: str) -> tuple[Input, ...]:
    """The inputs that `verb` reads, in the order of their declaration."""
    return tuple(item for item in INPUTS if not item.verbs or verb in item.verbs)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The values of all inputs, each with its source."""

    values: Mapping[str, Value]

    def value(self, item: Input) -> Value:
        """The value of one input, with its source."""
        return self.values[item.name]

    def text(self, item: Input) -> str:
        """The text as given; empty when nothing was."""
        return self.values[item.name].text

    def lines(self, item: Input) -> tuple[str, ...]:
        """The non-empty lines, without surrounding blanks, each once."""
        found = (line.strip() for line in self.text(item).splitlines())
        return tuple(dict.fromkeys(line for line in found if line))

    def flag(self, item: Input) -> bool:
        """The truth of a flag."""
        return self.text(item) == "true"

    def path(self, item: Input) -> Path | None:
        """The path as given, None when nothing was."""
        return Path(self.text(item)) if self.text(item) else None

    def prefer(self, item: Input, configured: str | None, detail: str) -> Value:
        """The value of an input that chalice-ci.yml can give too: an input or option wins."""
        value = self.values[item.name]
        if value.source is SourceKind.DEFAULT and configured:
            return Value(text=configured, source=SourceKind.CONFIGURATION, detail=detail)
        return value


def read_inputs(env: Mapping[str, str], options: Mapping[str, Sequence[str]]) -> Inputs:
    """Options over environment over defaults.

    `options` maps an input's name to the texts given on the command line (several for LINES).
    Raises UsageError for a value outside the choices and for an unreadable flag.
    """
    return Inputs(values={item.name: _read(item, env, options) for item in INPUTS})


def _read(item: Input, env: Mapping[str, str], options: Mapping[str, Sequence[str]]) -> Value:
    given = options.get(item.name, ())
    if given:
        value = Value(
            text="\n".join(given), source=SourceKind.OPTION, detail=f"option --{item.name}"
        )
    else:
        value = Value(text=item.default, source=SourceKind.DEFAULT)
        for variable in item.variables:
            # The runner sets every declared input, an empty one means: not given.
            if env.get(variable, "").strip():
                value = Value(
                    text=env[variable].strip(),
                    source=SourceKind.ENVIRONMENT,
                    detail=f"environment variable {variable}",
                )
                break
    return _checked(item, value)


def _checked(item: Input, value: Value) -> Value:
    if "\0" in value.text:
        raise UsageError(
            f"the value of `{item.name}` contains a NUL character.",
            where=value.detail,
            fix="Give plain text.",
        )
    if item.kind is Kind.FLAG:
        # YAML 1.2 core schema spellings, as @actions/core reads booleans.
        lowered = value.text.lower()
        if lowered not in ("true", "false"):
            raise UsageError(
                f"`{item.name}` is true or false, not {value.text[:40]!r}.",
                where=value.detail,
                fix=f"Write `{item.name}: true` or leave it out.",
            )
        return Value(text=lowered, source=value.source, detail=value.detail)
    if item.kind is Kind.CHOICE and value.text not in item.choices:
        near = difflib.get_close_matches(value.text, item.choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        meant = [other.name for other in INPUTS if value.text in other.choices]
        if meant:
            hint = f" Did you mean the input `{meant[0]}`?"
        raise UsageError(
            f"`{item.name}` is one of {', '.join(item.choices)}, not {value.text[:40]!r}.{hint}",
            where=value.detail,
            fix=f"Choose one of {', '.join(item.choices)}.",
        )
    return value


def markdown_table() -> str:
    """The table in docs/inputs.md."""
    rows = [
        "| Input and option | Default | Verbs | Meaning |",
        "| --- | --- | --- | --- |",
    ]
    for item in INPUTS:
        default = f"`{item.default}`" if item.default else ""
        verbs = ", ".join(f"`{verb}`" for verb in item.verbs) or "all"
        choices = f" One of {', '.join(f'`{c}`' for c in item.choices)}." if item.choices else ""
        rows.append(f"| `{item.name}` | {default} | {verbs} | {item.summary}{choices} |")
    return "\n".join(rows) + "\n"
