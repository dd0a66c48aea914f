"""The shapes: small real Chalice projects below `tests/apps`, and what is to be expected of each.

A shape says what it needs in AWS before `chalice deploy` can succeed, what plain Chalice does with
it, which edit makes its update, and what `chalice-ci check` should answer. A copy of a shape is
made with `copy_shape`, what it needs with `prepare`, its edit with `apply_change`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

APPS = Path(__file__).parent.parent / "apps"

REGION = "us-east-1"
ACCOUNT = "123456789012"
"""What the shapes' own ARNs name; moto's default account."""

VERSIONS = ("1.29.0", "1.31.4", "1.33.0", "1.34.0")

Clients = Callable[[str], Any]
"""Makes the boto3 client of a service: `clients("lambda")`."""


class Prerequisite(Protocol):
    """Something that must be in AWS before the shape is deployed."""

    @property
    def name(self) -> str:
        """What it is called; resources of that name belong to the shape."""

    def create(self, clients: Clients) -> Mapping[str, str]:
        """Make it; answers texts of the shape to replace: what stands there -> what AWS said."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        clients("s3").create_bucket(Bucket=self.name)
        return {}


@dataclass(frozen=True, kw_only=True)
class Topic:
    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        clients("sns").create_topic(Name=self.name)
        return {}


@dataclass(frozen=True, kw_only=True)
class Queue:
    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        # Lambda refuses a queue whose messages reappear before the function has timed out.
        clients("sqs").create_queue(QueueName=self.name, Attributes={"VisibilityTimeout": "360"})
        return {}


@dataclass(frozen=True, kw_only=True)
class Stream:
    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        clients("kinesis").create_stream(StreamName=self.name, ShardCount=1)
        return {}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a stream; the stream's ARN has a time in it, so the shape's text is replaced."""

    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        made = clients("dynamodb").create_table(
            TableName=self.name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        stands = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{self.name}/stream/"
        return {
            f"{stands}2020-01-01T00:00:00.000": made["TableDescription"]["LatestStreamArn"],
        }


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate for the custom domains; its id is random, so the shape's text is replaced."""

    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        made = clients("acm").request_certificate(DomainName=self.name)
        stands = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/00000000-0000-4000-8000-000000000001"
        return {stands: made["CertificateArn"]}


@dataclass(frozen=True, kw_only=True)
class Layer:
    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        clients("lambda").publish_layer_version(
            LayerName=self.name, Content={"ZipFile": _EMPTY_ZIP}
        )
        return {}


@dataclass(frozen=True, kw_only=True)
class Role:
    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        clients("iam").create_role(
            RoleName=self.name, AssumeRolePolicyDocument=json.dumps(_LAMBDA_TRUST)
        )
        return {}


@dataclass(frozen=True, kw_only=True)
class DeployedByOldChalice:
    """What a Chalice before 1.2 left behind: a role, the functions, and a REST API."""

    name: str

    def create(self, clients: Clients) -> Mapping[str, str]:
        function_name = f"{self.name}-dev"
        role = clients("iam").create_role(
            RoleName=function_name, AssumeRolePolicyDocument=json.dumps(_LAMBDA_TRUST)
        )["Role"]["Arn"]
        for function in (function_name, f"{function_name}-gate"):
            clients("lambda").create_function(
                FunctionName=function,
                Runtime="python3.10",
                Role=role,
                Handler="app.app" if function == function_name else "app.gate",
                Code={"ZipFile": _EMPTY_ZIP},
                Tags={"aws-chalice": f"version=1.1.1:stage=dev:app={self.name}"},
            )
        gateway = clients("apigateway")
        api = gateway.create_rest_api(name=self.name)["id"]
        (root,) = gateway.get_resources(restApiId=api)["items"]
        method = {"restApiId": api, "resourceId": root["id"], "httpMethod": "GET"}
        gateway.put_method(**method, authorizationType="NONE")
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function_name}"
        gateway.put_integration(
            **method,
            type="AWS_PROXY",
            integrationHttpMethod="POST",
            uri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations",
        )
        gateway.create_deployment(restApiId=api, stageName="api")
        return {"v1restapi0": api}


_LAMBDA_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "",
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
_EMPTY_ZIP = b"PK\x05\x06" + b"\0" * 18


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Replaces `old`, which must be there once, by `new` in a file of the project."""

    file: str
    old: str
    new: str

    def apply(self, project: Path) -> None:
        file = project / self.file
        text = file.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {self.old!r} is there {text.count(self.old)} times")
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What `chalice-ci check` answers: exit code and the rules of its errors."""

    exit_code: int = 0
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Warnings that must be there; others may."""
    place: str = ""
    """`file:line` of the first error, from the shape's root."""


FINE = Check()


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One project, or one repository with several (`apps`)."""

    name: str
    what: str
    apps: tuple[str, ...] = (".",)
    versions: tuple[str, ...] = VERSIONS
    deploys: bool = True
    """Plain `chalice deploy --stage dev` ends with 0."""
    exit_code: int = 0
    """What plain Chalice ends with, also where it deploys nothing; -14: it never ends."""
    loads: bool = True
    """Plain Chalice gets as far as an app object."""
    packages: bool = True
    """Plain `chalice package` ends with 0 (S3 events are not implemented there)."""
    needs: tuple[Prerequisite, ...] = ()
    change: tuple[Edit, ...] = ()
    check: Check = FINE

    @property
    def path(self) -> Path:
        """The folder in this repository."""
        return APPS / self.name

    @property
    def app_names(self) -> tuple[str, ...]:
        """What the apps call themselves."""
        pattern = re.compile(r'Chalice\(app_name="([^"]+)"')
        files = (self.path / app / "app.py" for app in self.apps)
        return tuple(pattern.findall(file.read_text(encoding="utf-8"))[0] for file in files)

    @property
    def owners(self) -> tuple[str, ...]:
        """The words by which the shape's resources are found in a listing."""
        return (*self.app_names, *(need.name for need in self.needs))

    def __str__(self) -> str:
        return self.name


EXTRA_LAYER = Layer(name="shape-extra")

SHAPES: tuple[Shape, ...] = (
    Shape(
        name="rest",
        what="routes: many methods, CORS, content types, binary, API key, names, ANY",
        change=(
            Edit(
                file="app.py",
                old='@app.route("/secured", api_key_required=True)',
                new='@app.route("/secured/{level}", methods=["GET", "DELETE"], cors=True)',
            ),
            Edit(file="app.py", old="def secured():", new="def secured(level):"),
            Edit(
                file=".chalice/config.json",
                old='"minimum_compression_size": 1024',
                new='"minimum_compression_size": 2048',
            ),
            Edit(file=".chalice/config.json", old='"LEVEL": "debug"', new='"LEVEL": "info"'),
        ),
    ),
    Shape(
        name="functions",
        what="lambda_function; memory, timeout, layers, variables, tags, concurrency, X-Ray, "
        "log retention, VPC, own role and own policy per function",
        needs=(EXTRA_LAYER, Role(name="shape-borrowed")),
        change=(
            Edit(
                file=".chalice/config.json",
                old='"lambda_memory_size": 1024',
                new='"lambda_memory_size": 2048',
            ),
            Edit(file=".chalice/config.json", old='"reserved_concurrency": 5,', new=""),
            Edit(
                file=".chalice/config.json",
                old='"log_retention_in_days": 7',
                new='"log_retention_in_days": 14',
            ),
            Edit(
                file=".chalice/config.json",
                old='"cost-center": "42", ',
                new='"cost-center": "43", "added": "yes", ',
            ),
            Edit(file=".chalice/strict.json", old="dynamodb:GetItem", new="dynamodb:Query"),
            Edit(
                file="app.py",
                old="@app.lambda_function()\ndef plain(event, context):\n    return {}\n",
                new='@app.lambda_function(name="fresh")\ndef fifth(event, context):\n    pass\n',
            ),
        ),
    ),
    Shape(
        name="schedule",
        what="schedule: Rate, Cron, text, name, description",
        change=(
            Edit(file="app.py", old="Rate(5, unit=Rate.MINUTES)", new="Rate(1, unit=Rate.DAYS)"),
            Edit(file="app.py", old='name="hourly"', new='name="other"'),
        ),
    ),
    Shape(
        name="cw_event",
        what="on_cw_event with patterns and a name",
        change=(Edit(file="app.py", old='["stopped"]', new='["stopped", "terminated"]'),),
    ),
    Shape(
        name="s3_event",
        what="on_s3_event: defaults, prefix, suffix, several on one bucket",
        packages=False,
        needs=(Bucket(name="shape-uploads"), Bucket(name="shape-archive")),
        change=(
            Edit(file="app.py", old='suffix=".csv"', new='suffix=".tsv"'),
            Edit(
                file="app.py",
                old='@app.on_s3_event(bucket="shape-uploads")\n',
                new="@app.lambda_function()\n",
            ),
            Edit(file="app.py", old="def uploaded(event):", new="def uploaded(event, context):"),
        ),
    ),
    Shape(
        name="sns",
        what="on_sns_message by name and by ARN",
        needs=(Topic(name="shape-orders"), Topic(name="shape-refunds")),
        change=(Edit(file="app.py", old='name="refunds"', new='name="returns"'),),
    ),
    Shape(
        name="sqs",
        what="on_sqs_message by name and by ARN, batch size and window",
        needs=(Queue(name="shape-jobs"), Queue(name="shape-mail")),
        change=(Edit(file="app.py", old="batch_size=10", new="batch_size=8"),),
    ),
    Shape(
        name="sqs_concurrency",
        what="on_sqs_message with maximum_concurrency",
        versions=("1.31.4", "1.33.0", "1.34.0"),
        needs=(Queue(name="shape-bounded"),),
        change=(Edit(file="app.py", old="maximum_concurrency=4", new="maximum_concurrency=7"),),
    ),
    Shape(
        name="kinesis",
        what="on_kinesis_record with batch size, window and starting position",
        needs=(Stream(name="shape-clicks"), Stream(name="shape-prices")),
        change=(Edit(file="app.py", old="batch_size=50", new="batch_size=60"),),
    ),
    Shape(
        name="dynamodb",
        what="on_dynamodb_record; the stream's ARN comes from the stage's variables",
        needs=(Table(name="shape-orders"), Table(name="shape-audit")),
        change=(Edit(file="app.py", old="batch_size=20", new="batch_size=30"),),
    ),
    Shape(
        name="authorizers",
        what="authorizers: built in, custom, Cognito with scopes, IAM",
        change=(
            Edit(file="app.py", old="ttl_seconds=120", new="ttl_seconds=0"),
            Edit(file="app.py", old='header="X-Token"', new='header="X-Other"'),
            Edit(
                file="app.py", old='@app.route("/open")', new='@app.route("/open", authorizer=iam)'
            ),
        ),
    ),
    Shape(
        name="middleware",
        what="middleware of all event types",
        change=(Edit(file="app.py", old="def index():", new="def start():"),),
    ),
    Shape(
        name="websockets",
        what="websockets, opted in, beside a route",
        change=(
            Edit(
                file=".chalice/config.json",
                old='"lambda_timeout": 10',
                new='"lambda_timeout": 12',
            ),
        ),
    ),
    Shape(
        name="websockets_only_message",
        what="one websocket handler with a name of its own, no route",
        change=(
            Edit(
                file="app.py",
                old='@app.on_ws_message(name="incoming")',
                new="@app.on_ws_connect()\ndef hello(event):\n    pass\n\n\n@app.on_ws_message()",
            ),
        ),
    ),
    Shape(
        name="websockets_no_flag",
        what="websockets that nobody opted in to",
        deploys=False,
        exit_code=2,
        packages=False,
        check=Check(exit_code=1, errors=("experimental-feature",), place="app.py:13"),
    ),
    Shape(
        name="blueprints",
        what="blueprints with URL and name prefixes, a queue, a schedule, an authorizer",
        needs=(Queue(name="shape-blueprint-jobs"),),
        change=(
            Edit(file="app.py", old='name_prefix="admin_"', new='name_prefix="root_"'),
            Edit(file=".chalice/config.json", old="admin_purge", new="root_purge"),
            Edit(file="chalicelib/jobs.py", old="rate(10 minutes)", new="rate(15 minutes)"),
        ),
    ),
    Shape(
        name="blueprint_prefixed_authorizer",
        what="an authorizer that a name prefix renames: Chalice fails halfway (KeyError)",
        deploys=False,
        exit_code=2,
        check=Check(exit_code=1, errors=("authorizer-renamed",), place="chalicelib/admin.py:6"),
    ),
    Shape(
        name="blueprint_websockets",
        what="websockets in a blueprint that nobody opted in to",
        deploys=False,
        exit_code=2,
        packages=False,
        check=Check(exit_code=1, errors=("experimental-feature",), place="chalicelib/live.py:6"),
    ),
    Shape(
        name="automatic_layer",
        what="dependencies in an automatic layer, beside a foreign layer",
        needs=(EXTRA_LAYER,),
        change=(
            Edit(file="app.py", old='{"six": six.__version__}', new='{"now": six.__version__}'),
        ),
    ),
    Shape(
        name="automatic_layer_empty",
        what="an automatic layer with nothing to put into it",
        change=(Edit(file="app.py", old="return {}", new='return {"changed": True}'),),
    ),
    Shape(
        name="dependencies",
        what="a dependency of pure Python and a compiled one",
        change=(Edit(file="requirements.txt", old="six==1.17.0", new="six==1.16.0"),),
    ),
    Shape(
        name="arm64",
        what="a function for ARM with a compiled dependency",
        versions=("1.34.0",),
        change=(Edit(file="app.py", old='event["text"]', new='event["words"]'),),
    ),
    Shape(
        name="vendor_chalicelib",
        what="chalicelib/ with data and subpackages, vendor/ with a package and a module",
        change=(
            Edit(
                file="chalicelib/data/motto.txt",
                old="Small is enough.",
                new="Small was enough.",
            ),
            Edit(file="vendor/single_file.py", old='"single"', new='"double"'),
        ),
    ),
    Shape(
        name="noisy_import",
        what="prints, logs, warns and writes raw bytes while it is imported",
        change=(Edit(file="app.py", old="return {}", new='return {"changed": True}'),),
    ),
    Shape(
        name="import_error",
        what="imports what nobody installed",
        deploys=False,
        exit_code=2,
        loads=False,
        packages=False,
        check=Check(exit_code=1, errors=("load-import-error",), place="app.py:5"),
    ),
    Shape(
        name="syntax_error",
        what="does not compile",
        deploys=False,
        exit_code=2,
        loads=False,
        packages=False,
        check=Check(exit_code=1, errors=("load-syntax-error",), place="app.py:9"),
    ),
    Shape(
        name="system_exit",
        what="leaves with a code of success while it is imported",
        deploys=False,
        loads=False,
        packages=False,
        check=Check(exit_code=1, errors=("load-system-exit",), place="app.py:10"),
    ),
    Shape(
        name="endless_import",
        what="is never done with its import",
        deploys=False,
        exit_code=-14,
        loads=False,
        packages=False,
        check=Check(exit_code=1, errors=("load-timeout",)),
    ),
    Shape(
        name="missing_app",
        what="has no object named `app`",
        deploys=False,
        exit_code=2,
        loads=False,
        packages=False,
        check=Check(exit_code=1, errors=("load-missing-app",)),
    ),
    Shape(
        name="aws_at_import",
        what="asks AWS for a parameter while it is imported",
        deploys=False,
        exit_code=2,
        loads=False,
        packages=False,
        check=Check(exit_code=1, errors=("load-credentials",), place="app.py:9"),
    ),
    Shape(
        name="boto3_at_import",
        what="makes clients at import, with Lambda's own boto3, and calls nobody",
        change=(Edit(file="app.py", old="bucket.put_object(", new="bucket.put_object_acl("),),
    ),
    Shape(
        name="stage_features",
        what="what the app is depends on the stage's variables; only `prod` lacks the opt-in",
        change=(Edit(file=".chalice/config.json", old='"COLOR": "green"', new='"COLOR": "blue"'),),
        check=Check(exit_code=1, errors=("experimental-feature",), place="app.py:17"),
    ),
    Shape(
        name="codec_module",
        what="brings modules named codec, load, apply and calls",
        change=(Edit(file="app.py", old='{"codec": codec.NAME, ', new="{"),),
    ),
    Shape(
        name="two_apps",
        what="two apps in one repository, none at its root",
        apps=("services/billing", "services/orders"),
        change=(
            Edit(file="services/orders/app.py", old="return []", new="return [1]"),
            Edit(file="services/billing/app.py", old="rate(1 day)", new="rate(2 days)"),
        ),
    ),
    Shape(
        name="v1_state",
        what="deployed.json of an old Chalice, functions with their type",
        needs=(DeployedByOldChalice(name="shape-v1-state"),),
        change=(Edit(file="app.py", old='"/", authorizer', new='"/moved", authorizer'),),
    ),
    Shape(
        name="v1_state_old",
        what="deployed.json of a Chalice before 0.10, functions as plain ARNs",
        needs=(DeployedByOldChalice(name="shape-v1-state-old"),),
        change=(Edit(file="app.py", old='"/", authorizer', new='"/moved", authorizer'),),
    ),
    Shape(
        name="custom_domain",
        what="custom domains for routes (regional, prefix, TLS, tags) and for websockets",
        needs=(Certificate(name="shape.example.com"),),
        change=(
            Edit(file=".chalice/config.json", old='"owner": "shop"', new='"owner": "mall"'),
            Edit(file="app.py", old="return event.body", new="return event.connection_id"),
        ),
    ),
    Shape(
        name="custom_domain_edge",
        what="a custom domain in front of an edge-optimised API",
        needs=(Certificate(name="shape.example.com"),),
        change=(Edit(file="app.py", old="return {}", new='return {"changed": True}'),),
    ),
    Shape(
        name="private_api",
        what="a private API behind a VPC endpoint",
        change=(Edit(file=".chalice/config.json", old="vpce-0a1b2c3d", new="vpce-1a2b3c4d"),),
    ),
    Shape(
        name="resource_policy",
        what="a regional API with a resource policy and X-Ray",
        change=(Edit(file=".chalice/network.json", old="192.0.2.0/24", new="198.51.100.0/24"),),
    ),
    Shape(
        name="no_config",
        what="no .chalice/config.json",
        deploys=False,
        exit_code=2,
        loads=False,
        packages=False,
        check=Check(exit_code=1, errors=("config-json-missing",)),
    ),
    Shape(
        name="unicode",
        what="letters of the world in code, file names, variables, tags and descriptions",
        change=(
            Edit(file=".chalice/config.json", old="Grüß Gott, 世界 🌍", new="Servus, 世界 🌏"),
            Edit(file="chalicelib/données/été 夏.txt", old="🌞", new="🌜"),
        ),
    ),
    Shape(
        name="second_app",
        what="makes a second Chalice object, which is never deployed",
        change=(Edit(file="app.py", old='"/")', new='"/other")'),),
        check=Check(warnings=("second-app",)),
    ),
    Shape(
        name="everything",
        what="all triggers in one app",
        packages=False,
        needs=(
            Bucket(name="shape-everything"),
            Topic(name="shape-everything"),
            Queue(name="shape-everything"),
            Stream(name="shape-everything"),
            Table(name="shape-everything"),
        ),
        change=(
            Edit(
                file="app.py",
                old='@app.on_sns_message(topic="shape-everything")\n'
                "def told(event):\n    return {}\n",
                new="",
            ),
            Edit(
                file="app.py",
                old='@app.on_sqs_message(queue="shape-everything")\n'
                "def queued(event):\n    return {}\n",
                new="",
            ),
            Edit(
                file="app.py",
                old="@app.on_ws_disconnect()\ndef disconnect(event):\n    pass\n",
                new="",
            ),
        ),
    ),
)

BY_NAME: Mapping[str, Shape] = {shape.name: shape for shape in SHAPES}


def copy_shape(shape: Shape, target: Path) -> Path:
    """A private copy of the shape's folder at `target`, which must not exist."""
    shutil.copytree(shape.path, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def prepare(shapes: Iterable[Shape], root: Path, clients: Clients) -> Mapping[str, str]:
    """Make what the shapes need in AWS; write what AWS named into their copies at `root/<name>`.

    Answers the names: what AWS said -> what stands in the shape, for comparing listings.
    """
    made: dict[Prerequisite, Mapping[str, str]] = {}
    names: dict[str, str] = {}
    for shape in shapes:
        for need in shape.needs:
            if need not in made:
                made[need] = need.create(clients)
            for stands, named in made[need].items():
                names[named] = stands
                _rename(root / shape.name, stands, named)
    return names


def _rename(project: Path, stands: str, named: str) -> None:
    for file in sorted(project.rglob("*.json")):
        text = file.read_text(encoding="utf-8")
        if stands in text:
            file.write_text(text.replace(stands, named), encoding="utf-8")


def apply_change(shape: Shape, project: Path) -> None:
    """Make the edit that the update deployment is about."""
    for edit in shape.change:
        edit.apply(project)
