"""`chalice-ci.yml`: what it may hold, declared once, and how it becomes a `ProjectConfig`.

`FILE` is the declaration. Reading the file, its published JSON Schema and the table in
docs/configuration.md all come from it. Every problem of a file is reported, not just the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, NoReturn

from chalice_ci.discovery import FoundApp, find_apps, glimpse
from chalice_ci.errors import UsageError
from chalice_ci.experimental import CATALOGUE
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.positions import Problem, decode, did_you_mean, read_bytes, shown
from chalice_ci.settings import (
    AllOrSome,
    Amount,
    Choice,
    Key,
    ListOf,
    Named,
    Number,
    Reading,
    Switch,
    Table,
    Text,
    documented,
)

FILE_NAME = "chalice-ci.yml"
RULE = "config"
MAX_BYTES = 256 * 1024
MAX_FINDINGS = 100

DAY = 86_400
MEBIBYTE = 1024 * 1024


# --- what it becomes ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """A Chalice app of the repository. `path` is POSIX and relative to the root, "." for the root.

    `python` ("3.12") and `chalice` ("1.34.0") override what is found out; `network` lets the app
    use the network while it is loaded. `build` names the dependencies that may be built from
    source, `:all:` stands for each of them. `paths` are patterns of what else the app is made of;
    `deploy_on` says for single stages what deploys this app there, in place of the stage's own.
    """

    name: str
    path: str
    paths: tuple[str, ...] = ()
    deploy_on: tuple[tuple[str, DeployOn], ...] = ()
    python: str | None = None
    chalice: str | None = None
    network: bool = False
    build: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeployOn:
    """What deploys a stage: a branch or a tag, as a shell pattern. Exactly one of them is set."""

    branch: str | None = None
    tag: str | None = None


@dataclass(frozen=True, kw_only=True)
class SmokeCheck:
    """A request after the deployment: `path` must answer `status`, and hold `contains` if given."""

    path: str
    status: int = 200
    contains: str | None = None


@dataclass(frozen=True, kw_only=True)
class SecretRef:
    """The name of a CI secret; its value is never in a configuration.

    `at_load` lets the app have the value while it is loaded, instead of a placeholder. `functions`
    are the functions that get the variable, by their names in Chalice; empty: all of them.
    """

    name: str
    at_load: bool = False
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """A stage and its policy. `allow_experimental` is None when the repository's list holds.

    `allow_destructive` and `allow_widened_iam` let every deployment of the stage do so; None: not
    said, which `consent` reads.
    """

    name: str
    deploy_on: DeployOn | None = None
    needs: str | None = None
    environment: str | None = None
    account: str | None = None
    role: str | None = None
    region: str | None = None
    package_bucket: str | None = None
    allow_experimental: tuple[str, ...] | None = None
    allow_destructive: bool | None = None
    allow_widened_iam: bool | None = None
    smoke: tuple[SmokeCheck, ...] = ()
    environment_variables: tuple[tuple[str, SecretRef], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Stages of pull requests: like which stage, for which label, for how long, how many."""

    like: str
    label: str | None = None
    ttl_seconds: int = 7 * DAY
    limit: int = 10
    shared_triggers: bool = False


STATE_BRANCH = "chalice-state"
SOURCE_BRANCH = "source"
"""Instead of a branch's name: the deployed branch holds its state itself."""


@dataclass(frozen=True, kw_only=True)
class StateConfig:
    """Where the deployed state is recorded; `branch` may be `SOURCE_BRANCH`."""

    store: Literal["git", "s3", "local"] = "git"
    branch: str = STATE_BRANCH
    bucket: str | None = None
    prefix: str = ""
    kms_key: str | None = None
    keep_plans: int = 5

    @property
    def own_branch(self) -> str:
        """The branch that only we write to; beside deployed branches that hold their states, one
        that other names begin with.
        """
        return STATE_BRANCH if self.branch == SOURCE_BRANCH else self.branch

    @property
    def plan_branches(self) -> str:
        """What the branches of plans on their way begin with, before a `/`."""
        return f"{self.own_branch}-plans"


@dataclass(frozen=True, kw_only=True)
class PackageConfig:
    """How packages are built; `max_size_bytes` bounds the zip (None: Lambda's own limit).

    `variables` are environment variables that requirements may name, each with its server.
    """

    builder: Literal["uv", "chalice"] = "uv"
    max_size_bytes: int | None = None
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProjectConfig:
    """The repository's configuration.

    `stages` is empty when none are configured: then the stages are those of each app's config.json,
    and `dev` is deployed from the default branch. `file` is None without a chalice-ci.yml. `places`
    maps a dotted path ("stages.prod.region") to where the value stands; what has no entry there is
    not in the file.
    """

    version: str = "1"
    apps: tuple[AppConfig, ...] = ()
    stages: tuple[StageConfig, ...] = ()
    preview: PreviewConfig | None = None
    experimental_allow: tuple[str, ...] = ()
    state: StateConfig = field(default_factory=StateConfig)
    package: PackageConfig = field(default_factory=PackageConfig)
    file: str | None = None
    places: Mapping[str, Place] = field(default_factory=dict)


class ConfigError(UsageError):
    """The configuration is wrong; `findings` are all its problems, in the order of the file."""

    def __init__(self, findings: tuple[Finding, ...], file: str = FILE_NAME) -> None:
        self.findings = findings
        count = "one problem" if len(findings) == 1 else f"{len(findings)} problems"
        lines = [f"{count}:", *(_line(finding) for finding in findings)]
        super().__init__("\n".join(lines), where=file)


def _line(finding: Finding) -> str:
    where = f"{finding.at}: " if finding.at else ""
    return f"{where}{finding.what}" + (f" {finding.fix}" if finding.fix else "")


# --- what it may hold -----------------------------------------------------------------------------

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
RESERVED_NAMES = "con|prn|aux|nul|com[0-9]|lpt[0-9]"
PREVIEW_NAMES = "pr-[0-9]+"

_NAME = Text(
    pattern=NAME_PATTERN,
    words="letters, digits, `-` and `_`, at most 64, beginning with a letter or digit",
)
_REF_RULE = r"(?!refs/|[/.-])(?!.*(?:\.\.|//|@\{))[^\s~^:\\]{1,200}(?<![/.])"
_FEATURES = ListOf(item=Choice(choices=tuple(feature.name for feature in CATALOGUE)))
_SECRET = Text(
    pattern=r"(?!GITHUB_)[A-Za-z_][A-Za-z0-9_]{0,199}",
    words="the name of a CI secret: letters, digits and `_`",
    fix="Never write a secret's value here.",
    hidden=True,
)
_FUNCTION = Text(
    pattern=r"[A-Za-z0-9_-]{1,64}",
    words="the name of a function: letters, digits, `-` and `_`",
)
_VARIABLE = Text(
    pattern=r"[A-Za-z][A-Za-z0-9_]{1,199}",
    words="two or more letters, digits and `_`, beginning with a letter (Lambda's rule)",
)
LAMBDA_RESERVED_VARIABLES = (
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
)
"""Lambda sets these itself and refuses a function that brings its own."""

_BUILD = AllOrSome(
    item=Text(
        pattern=r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?",
        words="the name of a distribution such as `future`",
    )
)
_INDEX_VARIABLE = Text(
    pattern=r"[A-Z0-9_]{1,200}", words="upper-case letters, digits and `_`, as pip has it"
)
_SERVER = Text(
    pattern=r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?",
    words="a server's name, with its port if it has one of its own, such as `pypi.example.org`",
)
_BUILD_SUMMARY = (
    "The dependencies that may be built from source where they have no wheel; building runs their "
    "code, shut in and without credentials."
)

_DEPLOY_ON = Table(
    keys=(
        Key(
            name="branch",
            kind=Text(
                pattern=_REF_RULE,
                words="a branch name or pattern such as `main` or `release/*`",
                fix="Write it without `refs/heads/`.",
            ),
            summary="The branch whose pushes deploy the stage; `*` and `?` are wild.",
            example="main",
        ),
        Key(
            name="tag",
            kind=Text(
                pattern=_REF_RULE,
                words="a tag name or pattern such as `v*`",
                fix="Write it without `refs/tags/`.",
            ),
            summary="The tag that deploys the stage; `*` and `?` are wild.",
            example='"v*"',
        ),
    ),
    one_of=("branch", "tag"),
)

_PATTERN = Text(
    # What `pathspec` would refuse, take for a comment, or read as nothing: a folder that is taken
    # out by its name alone keeps its files.
    pattern=r"(?!!?/?$)(?!#)(?!!.*/$)!?[^\x00-\x1f\x7f!][^\x00-\x1f\x7f]{0,299}(?<![\\ ])",
    words="a pattern of .gitignore such as `libs/common/**` or `!**/*.md`",
    fix="It is read from the repository's root; to take a folder out, write `!folder/**`.",
)

_APP = Table(
    keys=(
        Key(
            name="path",
            kind=Text(pattern=r"[^\x00-\x1f\x7f]+", words="a folder of the repository"),
            summary="The app's folder, relative to the repository's root, with `/` between names.",
            default="`.`, the root",
            example="services/orders",
        ),
        Key(
            name="python",
            kind=Text(
                pattern=r"3\.[0-9]{1,2}",
                words="a Python version such as `3.12`",
                also_number=True,
            ),
            summary="The Python of the app, in Lambda as well.",
            default="`.python-version`, else the running one",
            example='"3.12"',
        ),
        Key(
            name="chalice",
            kind=Text(
                pattern=r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}",
                words="a Chalice version such as `1.34.0`",
            ),
            summary="The Chalice that loads and deploys the app, "
            "in place of the one that its requirements pin.",
            default="the pinned one, else 1.34.0",
            example='"1.34.0"',
        ),
        Key(
            name="load",
            kind=Table(
                keys=(
                    Key(
                        name="network",
                        kind=Switch(),
                        summary="The app may use the network while it is loaded; "
                        "it never gets credentials.",
                        default="`false`",
                        example="true",
                    ),
                )
            ),
            summary="Exceptions for loading the app.",
            example="{network: true}",
        ),
        Key(
            name="paths",
            kind=ListOf(item=_PATTERN, maximum=100),
            summary="What else of the repository the app is made of, as patterns of .gitignore: "
            "`run` leaves an app alone that a change does not touch. With `!` not even in its own "
            "folder.",
            default="its folder alone",
            example='[libs/common/**, "!**/*.md"]',
        ),
        Key(
            name="deploy-on",
            kind=Named(name=_NAME, item=_DEPLOY_ON, placeholder="STAGE"),
            summary="What deploys this app to a stage, in place of the stage's own `deploy-on`.",
            example='{prod: {tag: "orders-v*"}}',
        ),
        Key(
            name="build",
            kind=_BUILD,
            summary=_BUILD_SUMMARY,
            default="`package.build`",
            example="[future, twilio]",
        ),
    )
)

_BUCKET_NAME = Text(pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", words="the name of a bucket")

_SMOKE = Table(
    keys=(
        Key(
            name="path",
            kind=Text(pattern=r"/(?!/)\S*", words="a path that begins with one `/`"),
            summary="The path to request, beneath the stage's URL.",
            example="/health",
            required=True,
        ),
        Key(
            name="status",
            kind=Number(minimum=100, maximum=599),
            summary="The HTTP status that must come back.",
            default="`200`",
            example="200",
        ),
        Key(
            name="contains",
            kind=Text(pattern=r"[\s\S]{1,200}", words="text of at most 200 characters"),
            summary="Text that the body must contain.",
            example="ok",
        ),
    )
)

_STAGE = Table(
    keys=(
        Key(
            name="deploy-on",
            kind=_DEPLOY_ON,
            summary="What deploys the stage; without it, it is deployed only when it is named.",
            example="{branch: main}",
        ),
        Key(
            name="needs",
            kind=_NAME,
            summary="The stage where the same package must be live before.",
            example="staging",
        ),
        Key(
            name="environment",
            kind=Text(
                pattern=r"\S(?:[^\x00-\x1f\x7f]{0,253}\S)?", words="the name of an environment"
            ),
            summary="The forge's environment, whose reviewers approve the deployment.",
            example="production",
        ),
        Key(
            name="account",
            kind=Text(
                pattern=r"[0-9]{12}",
                words="an AWS account: 12 digits",
                also_number=True,
            ),
            summary="The only AWS account that may be touched.",
            example='"123456789012"',
        ),
        Key(
            name="role",
            kind=Text(
                pattern=r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}",
                words="the ARN of a role such as `arn:aws:iam::123456789012:role/deploy`",
            ),
            summary="The role that deploys the stage, assumed with the job's OIDC token or the "
            "credentials that are here.",
            default="the input `role-to-assume`",
            example="arn:aws:iam::123456789012:role/deploy",
        ),
        Key(
            name="region",
            kind=Text(
                pattern=r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}",
                words="an AWS region such as `eu-west-1`",
                fix="Without the letter of an availability zone.",
            ),
            summary="The AWS region of the stage.",
            default="the `aws-region` input, else `AWS_DEFAULT_REGION`",
            example="eu-west-1",
        ),
        Key(
            name="package-bucket",
            kind=_BUCKET_NAME,
            summary="The S3 bucket, in the stage's account and region, that packages are uploaded "
            "to, each once; then a zip may be larger than 50 MiB.",
            default="each function's package is sent to Lambda",
            example="orders-packages",
        ),
        Key(
            name="allow-experimental",
            kind=_FEATURES,
            summary="The experimental features that this stage may have, opted in or not; "
            "wins over `experimental.allow`.",
            example="[]",
        ),
        Key(
            name="allow-destructive",
            kind=Switch(),
            summary="Deployments of this stage may delete or replace what holds an address or "
            "data; where not, the input or the label `allow-delete:<stage>` lets one.",
            default="`false`",
            example="true",
        ),
        Key(
            name="allow-widened-iam",
            kind=Switch(),
            summary="Deployments of this stage may permit its functions more than what is deployed "
            "does; where not, the input or the label `allow-iam:<stage>` lets one.",
            default="`false` with an `environment`, else `true`",
            example="false",
        ),
        Key(
            name="smoke",
            kind=ListOf(item=_SMOKE, maximum=20),
            summary="Requests that must succeed after a deployment.",
            example="[{path: /health}]",
        ),
        Key(
            name="environment-variables",
            kind=Named(
                name=_VARIABLE,
                placeholder="NAME",
                refused={"|".join(LAMBDA_RESERVED_VARIABLES): "is reserved: Lambda sets it itself"},
                item=Table(
                    keys=(
                        Key(
                            name="secret",
                            kind=_SECRET,
                            summary="The CI secret that holds the value. "
                            "Plain values belong into `.chalice/config.json`.",
                            example="DB_URL",
                            required=True,
                        ),
                        Key(
                            name="at-load",
                            kind=Switch(),
                            summary="The app gets the value while it is loaded too, where its code "
                            "can read it; otherwise a placeholder stands there.",
                            default="`false`",
                            example="true",
                        ),
                        Key(
                            name="functions",
                            kind=ListOf(item=_FUNCTION, maximum=200),
                            summary="The functions that get the variable, by their names in "
                            "Chalice (`api_handler` serves the routes).",
                            default="all functions",
                            example="[worker]",
                        ),
                    )
                ),
            ),
            summary="Variables of the stage's functions that come from CI secrets.",
            example="{DB_URL: {secret: DB_URL}}",
        ),
    )
)

_PREVIEW = Table(
    keys=(
        Key(
            name="like",
            kind=_NAME,
            summary="The stage of `.chalice/config.json` whose settings a preview takes.",
            example="dev",
            required=True,
        ),
        Key(
            name="label",
            kind=Text(
                pattern=r"\S(?:[^\x00-\x1f\x7f]{0,48}\S)?",
                words="the name of a label, at most 50 characters",
            ),
            summary="Only pull requests with this label get a preview.",
            default="every pull request",
            example="preview",
        ),
        Key(
            name="ttl",
            kind=Amount(
                units={"m": 60, "h": 3600, "d": DAY, "w": 7 * DAY},
                words="a duration such as `12h` or `7d`",
                maximum=365 * DAY,
            ),
            summary="How long a preview lives after its last deployment: `m`, `h`, `d` or `w`.",
            default="`7d`",
            example="7d",
        ),
        Key(
            name="limit",
            kind=Number(minimum=1, maximum=100),
            summary="How many previews an app has at most.",
            default="`10`",
            example="10",
        ),
        Key(
            name="shared-triggers",
            kind=Switch(),
            summary="Let previews take messages of queues and objects of buckets away from the "
            "stage that they are like.",
            default="`false`",
            example="true",
        ),
    )
)

_STATE = Table(
    keys=(
        Key(
            name="store",
            kind=Choice(choices=("git", "s3", "local")),
            summary="Where the deployed state is recorded: a branch of the repository, "
            "an S3 bucket, or the checkout's own files.",
            default="`git`",
            example="git",
        ),
        Key(
            name="branch",
            kind=Text(
                pattern=r"(?!.*(?:\.\.|//|\.lock))[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9])?",
                words="a branch name",
            ),
            summary="The branch of the git store; `source` records in the deployed branch itself.",
            default="`chalice-state`",
            example=STATE_BRANCH,
        ),
        Key(
            name="bucket",
            kind=_BUCKET_NAME,
            summary="The bucket of the S3 store.",
            example="my-team-chalice-state",
        ),
        Key(
            name="prefix",
            kind=Text(
                pattern=r"(?!.*(?:\.\.|//))[A-Za-z0-9_](?:[A-Za-z0-9_./-]{0,199}[A-Za-z0-9_])?",
                words="a path within the bucket, without `/` at its ends",
            ),
            summary="The path within the bucket.",
            default="none",
            example="shop",
        ),
        Key(
            name="kms-key",
            kind=Text(
                pattern=r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}|alias/[A-Za-z0-9/_-]{1,250}|"
                r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,250}",
                words="the id, alias or ARN of a KMS key",
            ),
            summary="The KMS key that encrypts what is kept in the bucket.",
            default="the bucket's own default",
            example="alias/chalice-state",
        ),
        Key(
            name="keep-plans",
            kind=Number(minimum=0, maximum=50),
            summary="How many of a stage's last plans are kept, to go back to.",
            default="`5`",
            example="10",
        ),
    )
)

FILE = Table(
    keys=(
        Key(
            name="version",
            kind=Choice(choices=("1",)),
            summary="The version of this file's format.",
            default="`1`",
            example="1",
        ),
        Key(
            name="apps",
            kind=Named(
                name=_NAME,
                item=_APP,
                placeholder="APP",
                refused={RESERVED_NAMES: "is reserved by some systems"},
            ),
            summary="The Chalice apps of the repository, by name.",
            default="one at the root, else every folder with `.chalice/config.json`",
            example="{orders: {path: services/orders}}",
        ),
        Key(
            name="stages",
            kind=Named(
                name=_NAME,
                item=_STAGE,
                placeholder="STAGE",
                refused={
                    RESERVED_NAMES: "is reserved by some systems",
                    PREVIEW_NAMES: "is kept for the previews of pull requests",
                },
            ),
            summary="The stages and what holds for them; "
            "their settings stay in `.chalice/config.json`.",
            default="those of config.json, `dev` deployed from the default branch",
            example="{dev: {deploy-on: {branch: main}}}",
        ),
        Key(
            name="preview",
            kind=_PREVIEW,
            summary="Preview stages of pull requests, named `pr-` and the number.",
            default="no previews",
            example="{like: dev}",
        ),
        Key(
            name="experimental",
            kind=Table(
                keys=(
                    Key(
                        name="allow",
                        kind=_FEATURES,
                        summary="The experimental features that apps of this repository may use.",
                        default="any that the app opts into",
                        example="[WEBSOCKETS]",
                    ),
                )
            ),
            summary="Policy on Chalice's experimental features.",
            example="{allow: [WEBSOCKETS]}",
        ),
        Key(
            name="state",
            kind=_STATE,
            summary="Where the deployed state is recorded.",
            example="{store: git}",
        ),
        Key(
            name="package",
            kind=Table(
                keys=(
                    Key(
                        name="builder",
                        kind=Choice(choices=("uv", "chalice")),
                        summary="What builds packages: uv's lock for Lambda's platform, "
                        "or Chalice's own packager.",
                        default="`uv`",
                        example="uv",
                    ),
                    Key(
                        name="build",
                        kind=_BUILD,
                        summary=f"{_BUILD_SUMMARY} For all apps that have no `build` themselves.",
                        default="`false`",
                        example="true",
                    ),
                    Key(
                        name="max-size",
                        kind=Amount(
                            units={
                                "KB": 1024,
                                "KiB": 1024,
                                "MB": MEBIBYTE,
                                "MiB": MEBIBYTE,
                                "GB": 1024 * MEBIBYTE,
                                "GiB": 1024 * MEBIBYTE,
                                "B": 1,
                            },
                            words="a size such as `50MB`",
                            maximum=10 * 1024 * MEBIBYTE,
                        ),
                        summary="The largest package (zip) that may be deployed; "
                        "`KB`, `MB` and `GB` are powers of 1024, as AWS counts.",
                        default="Lambda's own limit",
                        example="50MB",
                    ),
                    Key(
                        name="variables",
                        kind=Named(name=_INDEX_VARIABLE, item=_SERVER, placeholder="NAME"),
                        summary="The environment variables that requirements.txt may have as "
                        "`${NAME}` in the user name or password of an address, each with the one "
                        "server that may get it.",
                        default="none",
                        example="{INDEX_TOKEN: pypi.example.org}",
                    ),
                )
            ),
            summary="How packages are built.",
            example="{max-size: 50MB}",
        ),
    )
)


def schema_text() -> str:
    """The JSON Schema of chalice-ci.yml, as in schemas/chalice-ci.schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FILE_NAME,
        "description": "How chalice-ci checks, plans and deploys the Chalice apps of a repository.",
        **FILE.schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def markdown_table() -> str:
    """The keys of chalice-ci.yml for the documentation."""
    rows = ["| Key | Type | Default | Meaning | Example |", "| --- | --- | --- | --- | --- |"]
    for path, key in documented(FILE):
        default = "required" if key.required else key.default
        words = key.kind.words.replace("|", "\\|")
        rows.append(f"| `{path}` | {words} | {default} | {key.summary} | `{key.example}` |")
    return "\n".join(rows) + "\n"


# --- reading --------------------------------------------------------------------------------------


def read_project_config(root: Path, file: Path | None = None) -> ProjectConfig:
    """The configuration of the repository at `root`.

    `file` names another file than the root's chalice-ci.yml, and must then exist. Without any, the
    apps are found by their folders. Raises ConfigError with all problems.
    """
    path = file if file is not None else root / FILE_NAME
    shown_as = _relative(path, root)
    start = Place(file=shown_as, line=1, column=1)
    try:
        raw = read_bytes(path, beneath=root, limit=MAX_BYTES, place=start)
    except FileNotFoundError:
        if file is not None:
            _refuse((Problem(what="there is no such file.", at=Place(file=shown_as)),), shown_as)
        return _without_file(root)
    text = raw if isinstance(raw, Problem) else decode(raw, shown_as)
    if isinstance(text, Problem):
        _refuse((text,), shown_as)
    # Late: many projects have no file.
    from chalice_ci.yaml_source import read_yaml

    node, problems = read_yaml(text, shown_as)
    reading = Reading()
    values: dict[str, object] = {}
    if node is not None:
        reading.places[""] = node.at
        values = FILE.read(node, "", reading) or {}
    elif problems:
        _refuse(problems, shown_as)
    found = _apps(root, values, reading, start)
    for problem in _inconsistent(root, values, found, reading):
        reading.problems.append(problem)
    if problems or reading.problems:
        _refuse((*problems, *reading.problems), shown_as)
    return _built(values, found, shown_as, reading.places)


def read_committed_config(text: str | None, shown_as: str) -> ProjectConfig:
    """The configuration of another commit; `text` is None when that commit has no file.

    Nothing is looked for on disk: its folders are the other commit's as well, so an app has the
    path that is written and apps that are not declared are unknown. Raises ConfigError.
    """
    if text is None:
        return ProjectConfig()
    # Late: many projects have no file.
    from chalice_ci.yaml_source import read_yaml

    node, problems = read_yaml(text, shown_as)
    reading = Reading()
    values: dict[str, object] = {}
    if node is not None:
        reading.places[""] = node.at
        values = FILE.read(node, "", reading) or {}
    reading.problems.extend((*problems, *_wrong_needs(values, reading)))
    reading.problems.extend(_wrong_state(values, reading))
    if reading.problems:
        _refuse(tuple(reading.problems), shown_as)
    declared = _mapping(values, "apps")
    apps = (_committed_app(name, _mapping(declared, name)) for name in declared)
    return _built(values, tuple(apps), shown_as, reading.places)


def _committed_app(name: str, fields: Mapping[str, object]) -> AppConfig:
    return AppConfig(
        name=name,
        path=PurePosixPath(_optional_text(fields, "path") or ".").as_posix(),
        network=_mapping(fields, "load").get("network") is True,
        deploy_on=_deploy_on_of(fields),
    )


def _without_file(root: Path) -> ProjectConfig:
    other = root / "chalice-ci.yaml"
    if other.exists():
        problem = Problem(
            what=f"the file must be called {FILE_NAME}.",
            at=Place(file=other.name),
            fix=f"Rename it to {FILE_NAME}.",
        )
        _refuse((problem,), other.name)
    found = find_apps(root)
    if isinstance(found, Problem):
        _refuse((found,), FILE_NAME)
    return ProjectConfig(apps=tuple(AppConfig(name=app.name, path=app.path) for app in found))


def _relative(path: Path, root: Path) -> str:
    absolute, base = path.absolute(), root.absolute()
    if absolute.is_relative_to(base):
        return absolute.relative_to(base).as_posix()
    return path.as_posix()


def _refuse(problems: tuple[Problem, ...], file: str) -> NoReturn:
    unique = tuple(dict.fromkeys(problems))
    ordered = sorted(unique, key=lambda problem: (problem.at.line or 0, problem.at.column or 0))
    findings = [
        Finding(
            rule=RULE,
            severity=Severity.ERROR,
            what=_sentence(problem.what),
            fix=problem.fix,
            at=problem.at,
        )
        for problem in ordered[:MAX_FINDINGS]
    ]
    left = len(ordered) - len(findings)
    if left:
        findings.append(
            Finding(
                rule=RULE,
                severity=Severity.ERROR,
                what=f"And {left} more problems after these.",
                at=Place(file=file),
            )
        )
    raise ConfigError(tuple(findings), file)


def _sentence(what: str) -> str:
    return what[:1].upper() + what[1:]


# --- what the declaration of single keys cannot say -----------------------------------------------


def _apps(
    root: Path, values: Mapping[str, object], reading: Reading, start: Place
) -> tuple[AppConfig, ...]:
    declared = _mapping(values, "apps")
    build = _texts(_mapping(values, "package"), "build")
    if not declared and "apps" not in reading.places:
        found = find_apps(root)
        if isinstance(found, Problem):
            reading.problem(found.what, start, found.fix)
            return ()
        return tuple(AppConfig(name=app.name, path=app.path, build=build) for app in found)
    apps = []
    absent: list[tuple[str, str, Place]] = []
    for name in declared:
        fields = _mapping(declared, name)
        at = reading.places.get(f"apps.{name}.path", reading.places[f"apps.{name}"])
        if "path" not in fields and f"apps.{name}.path" in reading.places:
            continue
        written = _optional_text(fields, "path") or "."
        path = _folder(root, name, written, at, reading)
        if path is not None and not _is_folder(root / path):
            absent.append((name, written, at))
        elif path is not None:
            apps.append(
                AppConfig(
                    name=name,
                    path=path,
                    python=_optional_text(fields, "python"),
                    chalice=_optional_text(fields, "chalice"),
                    network=_mapping(fields, "load").get("network") is True,
                    build=_texts(fields, "build") if "build" in fields else build,
                    paths=_texts(fields, "paths"),
                    deploy_on=_deploy_on_of(fields),
                )
            )
    known = tuple(app.path for app in _found(root)) if absent else ()
    for name, written, at in absent:
        hint = did_you_mean(written, known)
        reading.problem(f"`apps.{name}.path`: there is no folder {shown(written)}.{hint}", at)
    return tuple(apps)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _folder(root: Path, name: str, written: str, at: Place, reading: Reading) -> str | None:
    """The path in its normal form; None after noting why it is not in the repository."""
    key = f"apps.{name}.path"
    if "\\" in written:
        reading.problem(
            f"`{key}` has a backslash: {shown(written)}.", at, "Write `/` between folders."
        )
        return None
    path = PurePosixPath(written)
    if path.is_absolute() or written.startswith("~") or (len(written) > 1 and written[1] == ":"):
        reading.problem(
            f"`{key}` must be relative to the repository's root, not {shown(written)}.", at
        )
        return None
    if ".." in path.parts:
        reading.problem(f"`{key}` leaves the repository: {shown(written)}.", at)
        return None
    normal = path.as_posix()
    try:
        inside = (root / normal).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        # Names that no file system takes, links in a circle: there is no such folder.
        inside = True
    if not inside:
        reading.problem(f"`{key}` is a link that leaves the repository: {shown(written)}.", at)
        return None
    return normal


def _found(root: Path) -> tuple[FoundApp, ...]:
    found = find_apps(root)
    return () if isinstance(found, Problem) else found


def _inconsistent(
    root: Path,
    values: Mapping[str, object],
    apps: tuple[AppConfig, ...],
    reading: Reading,
) -> Iterator[Problem]:
    yield from _overlapping(root, apps, reading)
    yield from _wrong_needs(values, reading)
    yield from _wrong_stages_of_apps(values, reading)
    yield from _wrong_like(root, values, apps, reading)
    yield from _wrong_state(values, reading)


def _overlapping(root: Path, apps: tuple[AppConfig, ...], reading: Reading) -> Iterator[Problem]:
    seen: dict[Path, str] = {}
    for app in apps:
        folder = Path(os.path.realpath(root / app.path))
        at = reading.places.get(f"apps.{app.name}.path") or reading.places.get(f"apps.{app.name}")
        if at is None:
            continue
        for other, name in seen.items():
            if folder == other:
                what = "is the folder of"
            elif folder.is_relative_to(other) or other.is_relative_to(folder):
                what = "overlaps the folder of"
            else:
                continue
            yield Problem(
                what=f"`apps.{app.name}.path` {what} the app {name!r}.",
                at=at,
                fix="Give each app a folder of its own.",
            )
            break
        else:
            seen[folder] = app.name


def _wrong_needs(values: Mapping[str, object], reading: Reading) -> Iterator[Problem]:
    stages = _mapping(values, "stages")
    written = {path.split(".")[1] for path in reading.places if path.startswith("stages.")}
    needs = {
        name: needed
        for name in stages
        if (needed := _optional_text(_mapping(stages, name), "needs")) is not None
    }
    for name, needed in needs.items():
        if needed not in written:
            yield Problem(
                what=f"`stages.{name}.needs` names the stage {shown(needed)}, which is not there."
                + did_you_mean(needed, written - {name}),
                at=reading.places[f"stages.{name}.needs"],
                fix=f"The stages are {', '.join(stages)}.",
            )
    reported: set[str] = set()
    for name in needs:
        path = [name]
        while (following := needs.get(path[-1])) is not None and following not in path:
            path.append(following)
        if following is None:
            continue
        circle = path[path.index(following) :]
        if reported.isdisjoint(circle):
            reported.update(circle)
            yield Problem(
                what=f"the stages need each other in a circle: {' → '.join([*circle, circle[0]])}.",
                at=reading.places[f"stages.{circle[0]}.needs"],
                fix="Remove one `needs`.",
            )


def _wrong_stages_of_apps(values: Mapping[str, object], reading: Reading) -> Iterator[Problem]:
    stages, apps = _mapping(values, "stages"), _mapping(values, "apps")
    written = {path.split(".")[1] for path in reading.places if path.startswith("stages.")}
    for app in apps:
        for stage in _mapping(_mapping(apps, app), "deploy-on"):
            if stage not in written:
                listed = ", ".join(stages) or "(none)"
                yield Problem(
                    what=f"`apps.{app}.deploy-on` names the stage {shown(stage)}, which is not "
                    f"under `stages`.{did_you_mean(stage, written)}",
                    at=reading.places[f"apps.{app}.deploy-on.{stage}"],
                    fix=f"The stages are {listed}.",
                )


def _wrong_like(
    root: Path, values: Mapping[str, object], apps: tuple[AppConfig, ...], reading: Reading
) -> Iterator[Problem]:
    like = _optional_text(_mapping(values, "preview"), "like")
    if like is None:
        return
    known = dict.fromkeys(_mapping(values, "stages"))
    for app in apps:
        stages = glimpse(root / app.path, root).stages
        if stages is None:
            # Nothing to compare with; the app's own config.json gets findings of its own.
            known["dev"] = None
        known.update(dict.fromkeys(stages or ()))
    if apps and like not in known:
        yield Problem(
            what=f"`preview.like` names the stage {shown(like)}, which is neither here nor in "
            f"a config.json.{did_you_mean(like, known)}",
            at=reading.places["preview.like"],
            fix=f"The stages are {', '.join(shown(name) for name in list(known)[:20])}.",
        )


def _wrong_state(values: Mapping[str, object], reading: Reading) -> Iterator[Problem]:
    state = _mapping(values, "state")
    store = _optional_text(state, "store") or "git"
    if "state.store" in reading.places and "store" not in state:
        return
    if store == "s3" and "state.bucket" not in reading.places:
        yield Problem(
            what="`state.bucket` is missing: the store is `s3`.",
            at=reading.places["state.store"],
            fix="Write `bucket: my-team-chalice-state`.",
        )
    for key, owner in (
        ("branch", "git"),
        ("bucket", "s3"),
        ("prefix", "s3"),
        ("kms-key", "s3"),
    ):
        if store != owner and f"state.{key}" in reading.places:
            yield Problem(
                what=f"`state.{key}` belongs to the store `{owner}`, the store here is `{store}`.",
                at=reading.places[f"state.{key}"],
                fix=f"Remove it, or write `store: {owner}`.",
            )


# --- from values to the configuration -------------------------------------------------------------


def _mapping(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _items(values: Mapping[str, object], key: str) -> tuple[object, ...]:
    value = values.get(key)
    return tuple(value) if isinstance(value, list) else ()


def _optional_text(values: Mapping[str, object], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None


def _optional_number(values: Mapping[str, object], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) else None


def _texts(values: Mapping[str, object], key: str) -> tuple[str, ...]:
    return tuple(item for item in _items(values, key) if isinstance(item, str))


def _built(
    values: Mapping[str, object],
    apps: tuple[AppConfig, ...],
    file: str,
    places: Mapping[str, Place],
) -> ProjectConfig:
    stages = _mapping(values, "stages")
    package = _mapping(values, "package")
    return ProjectConfig(
        version=_optional_text(values, "version") or "1",
        apps=apps,
        stages=tuple(_stage(name, _mapping(stages, name)) for name in stages),
        preview=_preview(_mapping(values, "preview")) if "preview" in values else None,
        experimental_allow=_texts(_mapping(values, "experimental"), "allow"),
        state=_state(_mapping(values, "state")),
        package=PackageConfig(
            builder="chalice" if package.get("builder") == "chalice" else "uv",
            max_size_bytes=_optional_number(package, "max-size"),
            variables=tuple(
                (name, server)
                for name, server in _mapping(package, "variables").items()
                if isinstance(server, str)
            ),
        ),
        file=file,
        places=MappingProxyType(dict(places)),
    )


def _stage(name: str, fields: Mapping[str, object]) -> StageConfig:
    variables = _mapping(fields, "environment-variables")
    return StageConfig(
        name=name,
        deploy_on=_ref(_mapping(fields, "deploy-on")),
        needs=_optional_text(fields, "needs"),
        environment=_optional_text(fields, "environment"),
        account=_optional_text(fields, "account"),
        role=_optional_text(fields, "role"),
        region=_optional_text(fields, "region"),
        package_bucket=_optional_text(fields, "package-bucket"),
        allow_experimental=_texts(fields, "allow-experimental")
        if "allow-experimental" in fields
        else None,
        allow_destructive=_optional_truth(fields, "allow-destructive"),
        allow_widened_iam=_optional_truth(fields, "allow-widened-iam"),
        smoke=tuple(
            SmokeCheck(
                path=_optional_text(check, "path") or "/",
                status=_optional_number(check, "status") or 200,
                contains=_optional_text(check, "contains"),
            )
            for check in _items(fields, "smoke")
            if isinstance(check, dict)
        ),
        environment_variables=tuple(
            (variable, _secret(_mapping(variables, variable))) for variable in variables
        ),
    )


def _optional_truth(fields: Mapping[str, object], key: str) -> bool | None:
    value = fields.get(key)
    return value if isinstance(value, bool) else None


def _secret(fields: Mapping[str, object]) -> SecretRef:
    return SecretRef(
        name=_optional_text(fields, "secret") or "",
        at_load=fields.get("at-load") is True,
        functions=_texts(fields, "functions"),
    )


def _ref(fields: Mapping[str, object]) -> DeployOn | None:
    if not fields:
        return None
    return DeployOn(branch=_optional_text(fields, "branch"), tag=_optional_text(fields, "tag"))


def _deploy_on_of(fields: Mapping[str, object]) -> tuple[tuple[str, DeployOn], ...]:
    """What deploys an app to single stages."""
    by_stage = _mapping(fields, "deploy-on")
    refs = ((stage, _ref(_mapping(by_stage, stage))) for stage in by_stage)
    return tuple((stage, ref) for stage, ref in refs if ref is not None)


def _preview(fields: Mapping[str, object]) -> PreviewConfig:
    return PreviewConfig(
        like=_optional_text(fields, "like") or "",
        label=_optional_text(fields, "label"),
        ttl_seconds=_optional_number(fields, "ttl") or 7 * DAY,
        limit=_optional_number(fields, "limit") or 10,
        shared_triggers=fields.get("shared-triggers") is True,
    )


def _state(fields: Mapping[str, object]) -> StateConfig:
    store = fields.get("store")
    return StateConfig(
        store="s3" if store == "s3" else "local" if store == "local" else "git",
        branch=_optional_text(fields, "branch") or STATE_BRANCH,
        bucket=_optional_text(fields, "bucket"),
        prefix=_optional_text(fields, "prefix") or "",
        kms_key=_optional_text(fields, "kms-key"),
        keep_plans=5 if (kept := _optional_number(fields, "keep-plans")) is None else kept,
    )
