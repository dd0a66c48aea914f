"""The plan file: what was looked at and approved is what is applied, byte for byte.

A plan is a zip with stored members: `plan.json` (canonical JSON) and the packages, each under the
name of its own SHA-256. The digest of a plan is the SHA-256 of `plan.json`, which contains the
digests of the packages: approving the digest approves everything.

`seal` writes the file, `open_plan` trusts nothing in it, `verify` compares what the plan is bound
to - commit, stage, account, region, state, configuration, run - with what is true now. Pure: the
clock and every fact are arguments.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from chalice_ci.ci_secrets import SecretVariable
from chalice_ci.errors import PlanRefused, StateMoved, UserError, WrongAccount, naming
from chalice_ci.graph import check_graph

FORMAT = 3
SLOTS = ("app", "layer")
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
MAX_PACKAGE_BYTES = 512 * 1024 * 1024

_DOCUMENT_NAME = "plan.json"
_SNAPSHOT_NAME = "snapshot.json"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class Action(StrEnum):
    """What a plan does to a resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True, order=True)
class Operation:
    """One call of a method of Chalice's AWS client (`create_function`) for one resource.

    `sweep` is true for the deletion of what is recorded and not in the application any more;
    `message` is Chalice's own sentence and `params` what names things in the parameters. Two
    operations are equal when method and resource are.
    """

    method: str
    resource: str
    sweep: bool = field(default=False, compare=False)
    message: str = field(default="", compare=False)
    params: Mapping[str, object] = field(default_factory=dict, compare=False)


# What makes a resource; other methods of a plan belong to it or update it.
_CREATES = {
    "create_domain_name",
    "create_function",
    "create_lambda_event_source",
    "create_log_group",
    "create_role",
    "create_websocket_api",
    "import_rest_api",
    "publish_layer",
    "subscribe_function_to_topic",
}


def actions(
    operations: Iterable[Operation], *, recorded: Collection[str] | None = None
) -> tuple[tuple[str, Action], ...]:
    """Each resource of a plan with what happens to it, in the plan's order.

    A resource that is swept and also made again - a queue trigger that moved to another queue - is
    replaced. A layer gets a new version with each deploy: that is an update. Some methods make or
    update, such as `get_or_create_rule_arn`: what is not among the `recorded` names is then new.
    """
    swept: dict[str, bool] = {}
    kept: dict[str, set[str]] = {}
    order: dict[str, None] = {}
    for operation in operations:
        # A base path mapping is swept as `<domain>.api_mapping.<path>`: its own line.
        order.setdefault(operation.resource)
        if operation.sweep:
            swept[operation.resource] = True
        else:
            kept.setdefault(operation.resource, set()).add(operation.method)
    found = []
    for name in order:
        methods = kept.get(name, set())
        if name in swept:
            action = Action.REPLACE if methods else Action.DELETE
        elif (methods & _CREATES and "delete_layer_version" not in methods) or (
            recorded is not None and name not in recorded
        ):
            action = Action.CREATE
        else:
            action = Action.UPDATE
        found.append((name, action))
    return tuple(found)


def difference(
    expected: Iterable[Operation], found: Iterable[Operation]
) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """(operations that were not expected, expected operations that are missing), both sorted."""
    want, have = Counter(expected), Counter(found)
    return (
        tuple(sorted((have - want).elements())),
        tuple(sorted((want - have).elements())),
    )


class Consent(StrEnum):
    """What a deployment does only when somebody lets it, by an input, a label or the policy."""

    DESTRUCTIVE = "destructive"
    WIDENED_IAM = "widened-iam"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a deployment does that needs consent, in clauses.

    `given` when it was given as the plan was made, or nobody has to give it for this stage.
    """

    consent: Consent
    clauses: tuple[str, ...]
    given: bool = False


@dataclass(frozen=True, kw_only=True)
class SealedPackage:
    """A zip of the plan: what it is for (`app`, `layer`), its SHA-256 in hex, its size in bytes."""

    slot: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that an apply needs and is bound to.

    `app` is the name in `chalice-ci.yml`, `app_path` its folder in the repository, `app_name` the
    name in `.chalice/config.json` that Chalice builds resource names from. `graph` is the encoded
    application. `operations` is None when the live state was not read (no credentials).
    `base_version` is the version of the state that the plan was made from, as the store names it,
    and `base_digest` the digest of its resources; `config_digest` covers the configuration files.
    `findings` counts findings by severity. `snapshot` is the SHA-256 of the stage's snapshot, which
    is in the file ("" for none). `asks` is what of it needs consent, at most one for each
    `Consent`. `secrets` are the variables that come from CI secrets, placeholders in the graph;
    `secrets_unknown` the secrets whose values were not there when the plan was made.
    `package_bucket` is where packages are uploaded to, None for Lambda itself. `run` is the CI run
    that made it, with its attempt, "" outside CI. `account` is None
    when it was not known. Times are UTC, in whole seconds.
    """

    app: str
    app_path: str
    app_name: str
    stage: str
    account: str | None
    region: str
    commit: str | None
    tree: str | None
    chalice: str
    python: str
    tool: str
    config_digest: str
    base_version: str
    base_digest: str
    graph: Mapping[str, object]
    packages: tuple[SealedPackage, ...]
    operations: tuple[Operation, ...] | None
    findings: tuple[tuple[str, int], ...] = ()
    snapshot: str = ""
    asks: tuple[Ask, ...] = ()
    secrets: tuple[SecretVariable, ...] = ()
    secrets_unknown: tuple[str, ...] = ()
    package_bucket: str | None = None
    run: str = ""
    created: datetime
    expires: datetime

    @property
    def where(self) -> str:
        """What an error about this plan names."""
        return f"{self.app}/{self.stage}"


@dataclass(frozen=True, kw_only=True)
class OpenedPlan:
    """A plan file that was read and checked: `packages` are the unpacked zips by slot, `snapshot`
    the stage's snapshot as it will be recorded. `authenticated` when it was made with our key.
    """

    plan: Plan
    digest: str
    packages: Mapping[str, Path]
    snapshot: bytes | None = None
    authenticated: bool = False


UNKNOWN_RUN = "unknown"
"""The run of a CI system that does not say which it is: equal to no other."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is true when a plan is about to be applied.

    `digest` is the digest that was approved; None when nobody approved one. Commit and tree are
    None outside a repository. The run counts unless the plan is `authenticated`.
    """

    app: str
    app_path: str
    stage: str
    account: str
    region: str
    commit: str | None
    tree: str | None
    chalice: str
    tool: str
    config_digest: str
    base_version: str
    base_digest: str
    now: datetime
    run: str = ""
    authenticated: bool = False
    digest: str | None = None


def canonical(document: object) -> bytes:
    """JSON with sorted keys, no spaces and ASCII only: the same bytes for the same content."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest_of(document: object) -> str:
    """SHA-256, in hex, of a document's canonical JSON; so a state's or a configuration's digest."""
    return hashlib.sha256(canonical(document)).hexdigest()


def plan_digest(plan: Plan) -> str:
    """The digest of a plan, as `seal` returns it."""
    return hashlib.sha256(render_plan(plan)).hexdigest()


def render_plan(plan: Plan) -> bytes:
    """`plan.json`."""
    return canonical(_document(plan))


def parse_plan(raw: bytes) -> Plan:
    """Read `plan.json`; raises ValueError, TypeError or KeyError for what we would not write."""
    plan = _plan(json.loads(raw, object_pairs_hook=_no_duplicates, parse_constant=_no_constant))
    if render_plan(plan) != raw:
        raise ValueError("plan.json is not in its canonical form")
    return plan


def seal(
    plan: Plan, packages: Mapping[str, Path], out: Path, *, snapshot: bytes | None = None
) -> str:
    """Write the plan file and return its digest; the same plan gives the same bytes.

    `packages` are the zips by slot. Raises PlanRefused when one, or the snapshot, is not what the
    plan says.
    """
    if plan.snapshot != _snapshot_digest(snapshot):
        raise PlanRefused("the snapshot is not the one that was planned", where=plan.where)
    document = render_plan(plan)
    slots = {package.slot: package for package in plan.packages}
    if set(slots) != set(packages):
        raise PlanRefused(
            f"the plan has packages for {sorted(slots)}, given are {sorted(packages)}",
            where=plan.where,
        )
    by_digest = {slots[slot].sha256: (slots[slot], path) for slot, path in packages.items()}
    draft = out.with_name(out.name + ".draft")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with naming(draft), zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_entry(_DOCUMENT_NAME), document)
            if snapshot is not None:
                archive.writestr(_entry(_SNAPSHOT_NAME), snapshot)
            for digest in sorted(by_digest):
                package, path = by_digest[digest]
                _add(archive, package, path, plan.where)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return hashlib.sha256(document).hexdigest()


def open_plan(path: Path, into: Path) -> OpenedPlan:
    """Read a plan file, check every digest and unpack the packages into `into`.

    Raises PlanRefused for anything that `seal` would not have written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _open(archive, path, into)
    except OSError as error:
        _refuse(f"can't be read: {error.strerror or error}", path)
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        RecursionError,
    ) as error:
        _refuse(f"is not a plan: {str(error)[:400] or type(error).__name__}", path)


def verify(plan: Plan, digest: str, facts: Facts) -> None:
    """Raise unless everything that the plan is bound to still holds; all reasons at once.

    StateMoved when only the state is another, WrongAccount when only account or region are,
    else PlanRefused.
    """
    place = list(_other_place(plan, facts))
    moved = list(_other_state(plan, facts))
    other = list(_other_plan(plan, digest, facts))
    reasons = [*other, *place, *moved]
    if not reasons:
        return
    kind: type[UserError] = PlanRefused
    if not other and not place:
        kind = StateMoved
    elif not other and not moved:
        kind = WrongAccount
    raise kind(
        "the plan can't be applied: " + "; ".join(reasons) + ".",
        where=plan.where,
        fix="Make a new plan from what is there now: chalice-ci plan --stage " + plan.stage,
    )


def _other_plan(plan: Plan, digest: str, facts: Facts) -> Iterator[str]:
    if facts.digest is not None and facts.digest != digest:
        yield f"its digest is {digest[:12]}, approved was {facts.digest[:12]}"
    for name, sealed, now in (
        ("app", plan.app, facts.app),
        ("folder", plan.app_path, facts.app_path),
        ("stage", plan.stage, facts.stage),
        ("commit", plan.commit, facts.commit),
        ("tree", plan.tree, facts.tree),
        ("Chalice", plan.chalice, facts.chalice),
        ("version of chalice-ci", plan.tool, facts.tool),
    ):
        if sealed != now:
            yield f"it was made for {name} {sealed or 'none'}, this is {now or 'none'}"
    yield from not_believed(plan, run=facts.run, authenticated=facts.authenticated, now=facts.now)
    if plan.config_digest != facts.config_digest:
        yield "the configuration changed since"


def not_believed(plan: Plan, *, run: str, authenticated: bool, now: datetime) -> Iterator[str]:
    """Why a plan is not believed in this run, whatever it says."""
    if not authenticated and (run == UNKNOWN_RUN or not _of_run(plan.run, run)):
        yield (
            f"it was made by {plan.run or 'no CI run'}, this is {run or 'no CI run'}, and "
            "without a signing key a plan is believed only in the run that made it"
        )
    if now >= plan.expires:
        yield f"it expired at {_time(plan.expires)}"
    if now < plan.created:
        yield f"it is dated {_time(plan.created)}, which is in the future"


_ATTEMPT = re.compile(r"(?P<run>.+) attempt (?P<attempt>[0-9]{1,9})")


def _of_run(made: str, run: str) -> bool:
    """Whether a plan was made in this run: when its failed jobs are started again, the plan is an
    earlier attempt's, and nobody else could have changed it since.
    """
    before, now = _ATTEMPT.fullmatch(made), _ATTEMPT.fullmatch(run)
    if before is None or now is None:
        return made == run
    return before["run"] == now["run"] and int(before["attempt"]) <= int(now["attempt"])


def _other_place(plan: Plan, facts: Facts) -> Iterator[str]:
    if plan.account is not None and plan.account != facts.account:
        yield f"it is for account {plan.account}, the credentials are of {facts.account}"
    if plan.region != facts.region:
        yield f"it is for region {plan.region}, this is {facts.region}"


def _other_state(plan: Plan, facts: Facts) -> Iterator[str]:
    if plan.base_digest == facts.base_digest:
        return
    if plan.base_version == facts.base_version:
        yield "the recorded state is that of a later deployment to the same resources"
    else:
        yield (
            f"the stage's recorded state changed: the plan is based on "
            f"{plan.base_version or 'none'}, now it is {facts.base_version or 'none'}"
        )


def _document(plan: Plan) -> dict[str, object]:
    operations = plan.operations
    return {
        "format": FORMAT,
        "app": plan.app,
        "app_path": plan.app_path,
        "app_name": plan.app_name,
        "stage": plan.stage,
        "account": plan.account,
        "region": plan.region,
        "commit": plan.commit,
        "tree": plan.tree,
        "chalice": plan.chalice,
        "python": plan.python,
        "tool": plan.tool,
        "config_digest": plan.config_digest,
        "base": {"version": plan.base_version, "digest": plan.base_digest},
        "graph": plan.graph,
        "packages": {
            package.slot: {"sha256": package.sha256, "size": package.size}
            for package in plan.packages
        },
        "operations": None
        if operations is None
        else [
            {"method": o.method, "resource": o.resource, "sweep": o.sweep, "message": o.message}
            for o in operations
        ],
        "findings": dict(plan.findings),
        "snapshot": plan.snapshot,
        "asks": [
            {"consent": ask.consent.value, "clauses": list(ask.clauses), "given": ask.given}
            for ask in plan.asks
        ],
        "secrets": [
            {"variable": one.variable, "secret": one.secret, "functions": list(one.functions)}
            for one in plan.secrets
        ],
        "secrets_unknown": list(plan.secrets_unknown),
        "package_bucket": plan.package_bucket,
        "run": plan.run,
        "created": _time(plan.created),
        "expires": _time(plan.expires),
    }


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    entry.external_attr = 0o100644 << 16
    entry.create_system = 3
    return entry


def _add(archive: zipfile.ZipFile, package: SealedPackage, path: Path, where: str) -> None:
    digest = hashlib.sha256()
    size = 0
    entry = _entry(f"packages/{package.sha256}.zip")
    entry.file_size = package.size
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if size > package.size:
                break
            target.write(chunk)
    if size != package.size or digest.hexdigest() != package.sha256:
        raise PlanRefused(
            f"the {package.slot} package is not the one that was planned", where=where
        )


def _open(archive: zipfile.ZipFile, path: Path, into: Path) -> OpenedPlan:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(names) != len(set(names)) or len(names) > 2 + len(SLOTS) or archive.comment:
        _refuse("has members that a plan does not have", path)
    members = dict(zip(names, entries, strict=True))
    document_entry = members.get(_DOCUMENT_NAME)
    if document_entry is None or document_entry.file_size > MAX_DOCUMENT_BYTES:
        _refuse(f"has no {_DOCUMENT_NAME} of a reasonable size", path)
    if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 0x1 for e in entries):
        _refuse("has members that are compressed or encrypted", path)
    if min(entry.header_offset for entry in entries) != 0:
        # zipfile opens what stands behind other bytes, such as a file that was written twice.
        _refuse("has bytes before its members", path)
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        _refuse("has members that overlap", path)
    raw = archive.read(document_entry)
    plan = parse_plan(raw)
    wanted = {f"packages/{package.sha256}.zip" for package in plan.packages}
    if plan.snapshot:
        wanted.add(_SNAPSHOT_NAME)
    if set(members) - {_DOCUMENT_NAME} != wanted:
        _refuse("has other packages than its plan.json names", path)
    snapshot = archive.read(members[_SNAPSHOT_NAME]) if plan.snapshot else None
    if plan.snapshot != _snapshot_digest(snapshot):
        _refuse("is damaged or tampered with: the snapshot has another digest", path)
    into.mkdir(parents=True, exist_ok=True)
    unpacked = {}
    for package in plan.packages:
        target = into / f"{package.sha256}.zip"
        _unpack(archive, package, target, path)
        unpacked[package.slot] = target
    return OpenedPlan(
        plan=plan,
        digest=hashlib.sha256(raw).hexdigest(),
        packages=unpacked,
        snapshot=snapshot,
    )


def _snapshot_digest(snapshot: bytes | None) -> str:
    return "" if snapshot is None else hashlib.sha256(snapshot).hexdigest()


def _unpack(archive: zipfile.ZipFile, package: SealedPackage, target: Path, path: Path) -> None:
    digest = hashlib.sha256()
    size = 0
    with (
        archive.open(f"packages/{package.sha256}.zip") as source,
        target.open("wb") as file,
    ):
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    if size != package.size or digest.hexdigest() != package.sha256:
        target.unlink()
        _refuse(f"is damaged or tampered with: the {package.slot} package has another digest", path)


def _plan(document: object) -> Plan:
    """Read `plan.json` by its closed schema; ValueError, TypeError or KeyError for all else."""
    top = _object(document, "plan.json")
    expected = {
        "format", "app", "app_path", "app_name", "stage", "account", "region", "commit", "tree",
        "chalice", "python", "tool", "config_digest", "base", "graph", "packages", "operations",
        "findings", "snapshot", "asks", "secrets", "secrets_unknown", "package_bucket", "run",
        "created", "expires",
    }  # fmt: skip
    if top.get("format") != FORMAT or type(top["format"]) is not int:
        raise ValueError(f"its format is {top.get('format')!r}, this version reads {FORMAT}")
    _keys(top, expected, "plan.json")
    base = _object(top["base"], "base")
    _keys(base, {"version", "digest"}, "base")
    graph = _object(top["graph"], "graph")
    plan = Plan(
        app=_text(top, "app"),
        app_path=_text(top, "app_path"),
        app_name=_text(top, "app_name"),
        stage=_text(top, "stage"),
        account=_text_or_none(top, "account"),
        region=_text(top, "region"),
        commit=_text_or_none(top, "commit"),
        tree=_text_or_none(top, "tree"),
        chalice=_text(top, "chalice"),
        python=_text(top, "python"),
        tool=_text(top, "tool"),
        config_digest=_text(top, "config_digest"),
        base_version=_text(base, "version"),
        base_digest=_text(base, "digest"),
        graph=graph,
        packages=tuple(_packages(_object(top["packages"], "packages"))),
        operations=_operations(top["operations"]),
        findings=tuple(_findings(_object(top["findings"], "findings"))),
        snapshot=_text(top, "snapshot"),
        asks=_asks(top["asks"]),
        secrets=tuple(_secrets(top["secrets"])),
        secrets_unknown=_texts(top["secrets_unknown"], "secrets_unknown"),
        package_bucket=_text_or_none(top, "package_bucket"),
        run=_text(top, "run"),
        created=_moment(_text(top, "created")),
        expires=_moment(_text(top, "expires")),
    )
    check_graph(
        graph,
        chalice_version=plan.chalice,
        app_name=plan.app_name,
        stage=plan.stage,
        python_version=plan.python,
    )
    if plan.expires <= plan.created:
        raise ValueError("it expires before it was made")
    return plan


def _packages(packages: Mapping[str, object]) -> Iterator[SealedPackage]:
    for slot in sorted(packages):
        if slot not in SLOTS:
            raise ValueError(f"unknown package slot {slot!r}")
        package = _object(packages[slot], slot)
        _keys(package, {"sha256", "size"}, slot)
        size = package["size"]
        if type(size) is not int or not 0 < size <= MAX_PACKAGE_BYTES:
            raise ValueError(f"the size of the {slot} package is {size!r}")
        digest = _text(package, "sha256")
        if not _SHA256.fullmatch(digest):
            raise ValueError(f"the digest of the {slot} package is {digest[:80]!r}")
        yield SealedPackage(slot=slot, sha256=digest, size=size)


def _operations(document: object) -> tuple[Operation, ...] | None:
    if document is None:
        return None
    if not isinstance(document, list):
        raise TypeError("operations is not a list")
    found = []
    for item in document:
        operation = _object(item, "operation")
        _keys(operation, {"method", "resource", "sweep", "message"}, "operation")
        sweep = _truth(operation["sweep"], "sweep")
        found.append(
            Operation(
                method=_text(operation, "method"),
                resource=_text(operation, "resource"),
                sweep=sweep,
                message=_text(operation, "message"),
            )
        )
    return tuple(found)


def _asks(document: object) -> tuple[Ask, ...]:
    if not isinstance(document, list):
        raise TypeError("asks is not a list")
    found = []
    for item in document:
        ask = _object(item, "ask")
        _keys(ask, {"consent", "clauses", "given"}, "ask")
        found.append(
            Ask(
                consent=Consent(_text(ask, "consent")),
                clauses=_texts(ask["clauses"], "clauses"),
                given=_truth(ask["given"], "given"),
            )
        )
    if len({ask.consent for ask in found}) != len(found):
        raise ValueError("a consent is asked for twice")
    return tuple(found)


def _secrets(document: object) -> Iterator[SecretVariable]:
    if not isinstance(document, list):
        raise TypeError("secrets is not a list")
    for item in document:
        secret = _object(item, "secret")
        _keys(secret, {"variable", "secret", "functions"}, "secret")
        yield SecretVariable(
            variable=_text(secret, "variable"),
            secret=_text(secret, "secret"),
            functions=_texts(secret["functions"], "functions"),
        )


def _findings(document: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for severity in sorted(document):
        count = document[severity]
        if type(count) is not int or count < 0:
            raise ValueError(f"findings.{severity} is {count!r}")
        yield severity, count


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is not an object")
    return value


def _keys(value: Mapping[str, object], expected: set[str], name: str) -> None:
    if set(value) != expected:
        wrong = sorted(set(value) ^ expected)
        raise ValueError(f"{name} has unknown or missing keys: {', '.join(wrong)[:200]}")


def _text(value: Mapping[str, object], key: str) -> str:
    text = value[key]
    if not isinstance(text, str):
        raise TypeError(f"{key} is not a text")
    return text


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{name} is not a list of texts")
    return tuple(value)


def _truth(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is not true or false")
    return value


def _text_or_none(value: Mapping[str, object], key: str) -> str | None:
    return None if value[key] is None else _text(value, key)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_TIME)


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(what: str, path: Path) -> NoReturn:
    raise PlanRefused(
        f"the plan file {what}",
        where=str(path),
        fix="Make the plan again with this version of chalice-ci: chalice-ci plan",
    )
