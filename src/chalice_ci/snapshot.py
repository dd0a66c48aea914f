"""What a stage is, in a normal form that is stored and compared.

A snapshot says everything about a stage that a reviewer may want to compare: routes, functions,
triggers, permissions, the package. It holds names of environment variables and never a value; what
is in it is sorted, so that equal stages have equal snapshots. `snapshot_of` makes it from a loaded
app and its package, `snapshot_document` is its JSON. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any


@dataclass(frozen=True, kw_only=True, order=True)
class Cors:
    """What a browser is allowed: the values of the headers that a preflight request is answered.

    An empty text is a header that is not sent.
    """

    origin: str
    headers: str = ""
    expose: str = ""
    max_age: str = ""
    credentials: bool = False


@dataclass(frozen=True, kw_only=True)
class Route:
    """A REST route: `method` as API Gateway has it ("get", "x-amazon-apigateway-any-method").

    `auth` names the authorizer ("" for none), `scopes` what it asks for. `function` is the view,
    as far as the app says so.
    """

    path: str
    method: str
    function: str = ""
    auth: str = ""
    scopes: tuple[str, ...] = ()
    api_key: bool = False
    cors: Cors | None = None
    content_types: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same route in two snapshots."""
        return self.path, self.method


@dataclass(frozen=True, kw_only=True)
class Authorizer:
    """Who checks callers. `kind` is "iam", "cognito", "lambda" or API Gateway's own word.

    `source` is the header or identity source, `providers` user pools or the function that decides,
    `ttl` the seconds that an answer is cached (None: API Gateway's default of 300).
    """

    name: str
    kind: str
    source: str = ""
    providers: tuple[str, ...] = ()
    ttl: int | None = None
    role: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same authorizer in two snapshots."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True, order=True)
class Variable:
    """An environment variable: its name, and a keyed digest of its value where a key was given.

    `secret` names the CI secret that it comes from; its digest begins with the id of its own key.
    """

    name: str
    digest: str = ""
    secret: str = ""


@dataclass(frozen=True, kw_only=True)
class Function:
    """A Lambda function. `name` is Chalice's, `function_name` Lambda's; `tags` are names only.

    `memory` in MB, `timeout` in seconds, `log_retention` in days; None: as AWS has it. `role` is
    the name of a role of this snapshot or the ARN of one that exists. `layers` are ARNs.
    """

    name: str
    function_name: str
    handler: str
    runtime: str
    role: str
    memory: int | None = None
    timeout: int | None = None
    architecture: str = "x86_64"
    reserved_concurrency: int | None = None
    xray: bool = False
    log_retention: int | None = None
    managed_layer: bool = False
    layers: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same function in two snapshots."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What starts a function. `kind` is schedule, event, s3, sns, sqs, kinesis or dynamodb.

    `source` is the rule's expression or pattern, the bucket, topic, queue or stream; `settings`
    are (name, value) pairs.
    """

    kind: str
    name: str
    function: str
    source: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same trigger in two snapshots."""
        return self.kind, self.name


@dataclass(frozen=True, kw_only=True, order=True)
class Statement:
    """A statement of a policy without its Sid; `conditions` and `principals` are canonical JSON.

    `other` is the canonical JSON of a statement that is none, as a policy file may hold it.
    """

    effect: str = ""
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    conditions: str = ""
    principals: str = ""
    other: str = ""


@dataclass(frozen=True, kw_only=True)
class Role:
    """An IAM role that Chalice manages; `policy` is "generated" or the policy file's path."""

    name: str
    role_name: str
    policy: str
    statements: tuple[Statement, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same role in two snapshots."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Api:
    """An API. `kind` is "rest" or "websocket", `stage` the API Gateway stage in its address.

    `endpoint` is EDGE, REGIONAL or PRIVATE ("" for a WebSocket API); `policy_digest` and `policy`
    are the SHA-256 and the statements of the resource policy. `routes` are (route key, function)
    pairs of a WebSocket API.
    """

    kind: str
    name: str
    stage: str
    endpoint: str = ""
    vpc_endpoints: tuple[str, ...] = ()
    minimum_compression: int | None = None
    xray: bool = False
    policy_digest: str = ""
    policy: tuple[Statement, ...] = ()
    binary_types: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same API in two snapshots."""
        return (self.kind,)


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A custom domain of an API: `kind` is "rest" or "websocket", `mount` the base path."""

    kind: str
    domain: str
    certificate: str = ""
    tls: str = ""
    mount: str = ""
    stage: str = ""
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same domain in two snapshots: an API has one."""
        return (self.kind,)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The layer that Chalice manages."""

    name: str
    layer_name: str
    runtime: str
    architecture: str = "x86_64"

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same layer in two snapshots."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """A distribution in the package; `size` unpacked and `packed` in the zip, in bytes.

    `direct` when the project names it; `sha256` is that of its wheel.
    """

    name: str
    version: str
    direct: bool
    size: int
    packed: int
    sha256: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same distribution in two snapshots."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class File:
    """A file of an archive; `dependency` is the distribution it is from, "" for the project's."""

    slot: str
    path: str
    size: int
    sha256: str
    dependency: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same file in two snapshots."""
        return self.slot, self.path


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A zip that goes to Lambda; sizes in bytes."""

    slot: str
    sha256: str
    size: int
    unpacked_size: int

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same archive in two snapshots."""
        return (self.slot,)


SECTIONS: tuple[str, ...] = (
    "routes",
    "authorizers",
    "functions",
    "triggers",
    "apis",
    "domains",
    "roles",
    "layers",
    "dependencies",
    "archives",
    "files",
)
"""The fields of a snapshot that hold things with a key."""
FACTS: tuple[str, ...] = (
    "app",
    "stage",
    "app_name",
    "chalice",
    "python",
    "architecture",
    "variables_key",
    "features",
)
"""The fields of a snapshot that hold one value."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A stage; sections are sorted by key, each key once (ValueError otherwise).

    `app` is the name in chalice-ci.yml, `app_name` the one in config.json that AWS names begin
    with. `features` are the experimental features in use. `variables_key` names the key of the
    variables' digests, "" when there are none: digests of different keys say nothing about each
    other.
    """

    app: str
    stage: str
    app_name: str
    chalice: str
    python: str
    architecture: str = "x86_64"
    variables_key: str = ""
    features: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    authorizers: tuple[Authorizer, ...] = ()
    functions: tuple[Function, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    apis: tuple[Api, ...] = ()
    domains: tuple[Domain, ...] = ()
    roles: tuple[Role, ...] = ()
    layers: tuple[Layer, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    archives: tuple[Archive, ...] = ()
    files: tuple[File, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(sorted(set(self.features))))
        for name in SECTIONS:
            object.__setattr__(self, name, _by_key(name, getattr(self, name)))

    @property
    def size(self) -> int:
        """Bytes of all archives together."""
        return sum(archive.size for archive in self.archives)

    @property
    def unpacked_size(self) -> int:
        """Bytes of all files together."""
        return sum(archive.unpacked_size for archive in self.archives)


def _by_key(name: str, items: Iterable[Any]) -> tuple[Any, ...]:
    found = sorted(items, key=attrgetter("key"))
    for one, other in pairwise(found):
        if one.key == other.key:
            raise ValueError(f"{name} has {' '.join(one.key)} twice")
    return tuple(found)
