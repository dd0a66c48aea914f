"""What stands against deploying a loaded app: experimental features, Chalice's validation,
collisions between stages, and a load that failed.

Pure: the loaded app, the source text and the configuration go in, findings come out, all of them.
`check` looks at one app in one stage, `check_together` at what several stages share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from chalice_ci import rules
from chalice_ci.config import AppConfig, ProjectConfig, StageConfig
from chalice_ci.experimental import (
    CATALOGUE,
    OVERVIEW,
    Feature,
    Status,
    feature,
    meant,
    on_trial,
    opt_in,
)
from chalice_ci.findings import Finding, Place, Severity, in_order
from chalice_ci.graph import FeatureUse, Loaded, LoadFailure, Resource, Route
from chalice_ci.source import FlagWrite, Source

PREVIEW_STAGE = re.compile(r"pr-[0-9]+\Z")
_CLI_MODE = "AWS_CHALICE_CLI_MODE"
_MEMBERSHIP = frozenset({"set", "frozenset", "list", "tuple", "dict"})
"""Kinds of flags in which Chalice's `in` looks for the whole name."""


class StageSettings(Protocol):
    """What the checks ask of `.chalice/config.json` (see `chalice_config.ChaliceConfig`)."""

    @property
    def places(self) -> Mapping[str, Place]:
        """Where each value stands: "stages.dev.manage_iam_role" and the like."""

    def lookup(self, stage: str, key: str, function: str | None = None) -> object:
        """The value that holds for a stage, None when there is none."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A loaded stage, for the checks that compare stages with one another."""

    app: str
    stage: str
    loaded: Loaded


@dataclass(frozen=True, kw_only=True)
class _Context:
    loaded: Loaded
    app: AppConfig
    stage: str
    config: ProjectConfig
    source: Source
    settings: StageSettings | None
    preview: bool
    uses: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)

    @property
    def settings_stage(self) -> str:
        """The stage whose settings hold: a preview has those of the stage that it is like."""
        return self.config.preview.like if self.preview and self.config.preview else self.stage

    def finding(
        self,
        rule: str,
        *,
        what: str,
        fix: str = "",
        detail: str = "",
        subject: str = "",
        at: Place | None = None,
        link: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        return rules.finding(
            rule,
            what=what,
            fix=fix,
            detail=detail,
            subject=subject,
            at=at,
            link=link,
            severity=severity,
            app=self.app.name,
            stage=self.stage,
        )


def check(
    loaded: Loaded | LoadFailure,
    *,
    app: AppConfig,
    stage: str,
    config: ProjectConfig,
    source: Source,
    settings: StageSettings | None = None,
    known: Iterable[Finding] = (),
    preview: bool | None = None,
) -> tuple[Finding, ...]:
    """Every finding about an app in a stage, in order.

    `settings` is the app's `.chalice/config.json`, `known` are findings of others (name limits,
    keys of config.json) to be merged in, `preview` says whether this is a pull request's stage
    (by default: whether it is named like one).
    """
    if isinstance(loaded, LoadFailure):
        # Late: most apps load.
        from chalice_ci.load_failures import load_failure

        others = tuple(known)
        failed = load_failure(
            loaded,
            app=app,
            stage=stage,
            source=source,
            variables=_variables(config, settings, stage),
            known=others,
        )
        return in_order((*others, failed))
    is_preview = PREVIEW_STAGE.match(stage) is not None if preview is None else preview
    context = _Context(
        loaded=loaded,
        app=app,
        stage=stage,
        config=config,
        source=source,
        settings=settings,
        preview=is_preview,
        uses=features_used(loaded),
    )
    return in_order(
        (
            *known,
            *_used_without_opting_in(context),
            *_not_allowed(context),
            *_flags(context),
            *_in_source_only(context),
            *_second_apps(context),
            *_cli_mode(context),
            *_websocket_domain(context),
            *_validation(context),
            *_renamed_authorizers(context),
            *_withheld(context),
            *(_preview_collisions(context) if is_preview else ()),
        )
    )


def _variables(config: ProjectConfig, settings: StageSettings | None, stage: str) -> frozenset[str]:
    """The names of the environment variables that the stage sets."""
    inside = settings.lookup(stage, "environment_variables") if settings else None
    own = _stage(config, stage)
    secret = own.environment_variables if own else ()
    return frozenset(
        (*(inside if isinstance(inside, Mapping) else ()), *(name for name, _ in secret))
    )


def features_used(loaded: Loaded) -> Mapping[str, tuple[Place, ...]]:
    """The experimental features that the app uses in this stage, each with the places of its use.

    What the app noted is taken together with what the graph proves: an app that clears its notes
    still has its WebSocket API.
    """
    uses: dict[str, dict[Place, None]] = {}

    def order(use: FeatureUse) -> tuple[bool, str, int]:
        # Where a handler is written comes before the line that registers its blueprint.
        at = use.at or Place(file="")
        return use.via == "register_blueprint", at.file, at.line or 0

    for use in sorted(loaded.features, key=order):
        places = uses.setdefault(use.name, {})
        if use.at is not None:
            places[use.at] = None
    for known in CATALOGUE:
        if known.resource is not None and loaded.graph.of_type(known.resource):
            uses.setdefault(known.name, {})
    return {name: tuple(places) for name, places in sorted(uses.items())}


# --- experimental features ------------------------------------------------------------------------


def opted_in(loaded: Loaded) -> frozenset[str]:
    """The features that the app opts into: whole names only, whatever Chalice would let pass."""
    return frozenset(loaded.flags)


def _used_without_opting_in(context: _Context) -> Iterator[Finding]:
    missing = [name for name in context.uses if name not in opted_in(context.loaded)]
    for name in missing:
        known = feature(name)
        version = context.loaded.chalice_version
        if known is not None and known.status(version) is Status.ACCEPTED:
            continue
        places = context.uses[name] or _marked(context, known)
        yield context.finding(
            "experimental-feature",
            subject=name,
            at=places[0] if places else None,
            what=f"{name} is used without opting in.",
            fix=_opt_in_fix(context, missing),
            detail="\n".join(_use_details(context, name, known, places)),
            link=known.link if known else OVERVIEW,
        )


def _use_details(
    context: _Context, name: str, known: Feature | None, places: tuple[Place, ...]
) -> Iterator[str]:
    version = context.loaded.chalice_version
    if known is not None:
        status = known.status(version)
        yield (
            f"{known.title}: {status.value} in Chalice {version} ({known.history()}); "
            f"an experimental feature may change or be removed in any release."
        )
    if places:
        yield "Used at " + ", ".join(str(place) for place in places) + "."
    noted = {use.name for use in context.loaded.features}
    if name not in noted:
        yield "The application graph has it, although the app's own notes do not name it."
    writes = [write for write in context.source.flag_writes() if name in write.names]
    if writes and not any(write.literal is not None for write in writes):
        where = ", ".join(str(write.at) for write in writes)
        yield f"{where} opts in, but not on the object or not in the stage that was loaded."
    if not _allowed(context, name):
        yield f"The policy ({_policy(context)[1]}) does not allow it either."


def _opt_in_fix(context: _Context, missing: list[str]) -> str:
    source, wrong = context.source, _wrong_write(context, missing)
    if wrong is not None:
        line = opt_in(wrong.receiver, missing)
        return f"In {wrong.at.file}, replace line {wrong.at.line} (`{wrong.text}`) by:\n{line}"
    binding = source.binding()
    if binding is None:
        line = opt_in("app", missing)
        return f"Add to {source.path('app.py')}, after `app` is made:\n{line}"
    line = opt_in(binding.name, missing)
    return (
        f"Add to {binding.at.file}, right after line {binding.at.line} (`{binding.text}`):\n{line}"
    )


def _wrong_write(context: _Context, missing: list[str]) -> FlagWrite | None:
    """The statement that tried to opt in and did not: a bare string, or the name misspelt."""
    for write in context.source.flag_writes():
        if write.literal is not None and context.loaded.flags:
            return write
        if any(meant(name) in missing for name in write.names if feature(name) is None):
            return write
    return None


def _marked(context: _Context, known: Feature | None) -> tuple[Place, ...]:
    if known is None:
        return ()
    return tuple(mark.at for mark in context.source.marks(known.marks))


def _not_allowed(context: _Context) -> Iterator[Finding]:
    for name in context.uses:
        known = feature(name)
        if known is not None and known.status(context.loaded.chalice_version) is Status.ACCEPTED:
            continue
        if not _allowed(context, name):
            _, policy, at = _policy(context)
            places = context.uses[name] or _marked(context, known)
            opted = name in opted_in(context.loaded)
            yield context.finding(
                "experimental-not-allowed",
                subject=name,
                at=places[0] if places else at,
                what=f"{name} is used, and {policy} does not allow it in {context.stage}.",
                fix=f"Add {name} to {policy}{f' ({at})' if at else ''}, or stop using it here.",
                detail=(
                    "The policy wins over opting in."
                    + ("" if opted else " The app does not opt in either.")
                    + (f"\nUsed at {', '.join(map(str, places))}." if places else "")
                    + (f"\nThe policy is at {at}." if at else "")
                ),
                link=known.link if known else OVERVIEW,
            )


def _allowed(context: _Context, name: str) -> bool:
    allowed, _, _ = _policy(context)
    return allowed is None or name in allowed


def _policy(context: _Context) -> tuple[tuple[str, ...] | None, str, Place | None]:
    """What the repository allows in the stage (None: an opt-in is enough), and where it says so."""
    config = context.config
    # A preview without an entry of its own is bound by the stage that it is like.
    for name in dict.fromkeys((context.stage, context.settings_stage)):
        stage = _stage(config, name)
        if stage is not None and stage.allow_experimental is not None:
            key = f"stages.{name}.allow-experimental"
            return stage.allow_experimental, f"`{key}`", config.places.get(key)
    key = "experimental.allow"
    at = config.places.get(key)
    # An empty list that stands in the file allows nothing; no list leaves it to the opt-in.
    if at is None and not config.experimental_allow:
        return None, "", None
    return config.experimental_allow, f"`{key}`", at


def _stage(config: ProjectConfig, name: str) -> StageConfig | None:
    return next((stage for stage in config.stages if stage.name == name), None)


def _flags(context: _Context) -> Iterator[Finding]:
    loaded, version = context.loaded, context.loaded.chalice_version
    writes = context.source.flag_writes()
    flags = sorted(set(loaded.flags))
    letters = [flag for flag in flags if len(flag) == 1]
    if loaded.flags_kind not in _MEMBERSHIP:
        yield context.finding(
            "experimental-flags-type",
            subject=loaded.flags_kind,
            at=_written_at(writes, None),
            what=f"`experimental_feature_flags` is a {loaded.flags_kind}, not a set of names.",
            fix=opt_in("app", context.uses or ["NAME"]),
            detail="In a string, Chalice finds a feature's name as a part of any longer text.",
            link=OVERVIEW,
        )
    elif letters:
        yield context.finding(
            "experimental-flags-type",
            subject="".join(letters),
            at=_written_at(tuple(write for write in writes if write.literal), None),
            what="`update` was given a string and added its letters as flags.",
            fix=opt_in("app", context.uses or ["NAME"]),
            detail="Flags found: " + ", ".join(f"'{letter}'" for letter in letters) + ".",
            link=OVERVIEW,
        )
    for name in flags:
        if name in letters and loaded.flags_kind in _MEMBERSHIP:
            continue
        yield from _flag(context, name, feature(name), version, writes)


def _flag(
    context: _Context,
    name: str,
    known: Feature | None,
    version: str,
    writes: tuple[FlagWrite, ...],
) -> Iterator[Finding]:
    at = _written_at(writes, name)
    if name in context.uses and known is None:
        return
    if known is None:
        close = meant(name)
        trial = ", ".join(candidate.name for candidate in on_trial(version))
        yield context.finding(
            "experimental-flag-unknown",
            subject=name,
            at=at,
            what=f"Chalice {version} knows no experimental feature '{name}'.",
            fix=f"Write '{close}'." if close else f"Remove '{name}'.",
            detail=f"Experimental in Chalice {version}: {trial or 'nothing'}.",
            link=OVERVIEW,
        )
        return
    match known.status(version):
        case Status.ACCEPTED:
            yield context.finding(
                "experimental-flag-accepted",
                subject=name,
                at=at,
                what=f"{name} is no longer experimental in Chalice {version}.",
                fix=f"Remove '{name}' from the flags.",
                detail=f"{known.title}: {known.history()}.",
                link=known.link,
            )
        case Status.UNKNOWN:
            yield context.finding(
                "experimental-flag-unknown",
                subject=name,
                at=at,
                what=f"Chalice {version} does not have {name} yet.",
                fix=f"Use Chalice {known.added} or later, or remove '{name}'.",
                detail=f"{known.title}: {known.history()}.",
                link=known.link,
            )
        case Status.TRIAL:
            if name not in context.uses and not _marked(context, known):
                yield context.finding(
                    "experimental-flag-unused",
                    subject=name,
                    at=at,
                    what=f"The app opts into {name} and does not use it.",
                    fix=f"Remove '{name}' from the flags.",
                    link=known.link,
                )
        case other:
            assert_never(other)


def _written_at(writes: tuple[FlagWrite, ...], name: str | None) -> Place | None:
    for write in writes:
        if name is None or name in write.names:
            return write.at
    return writes[0].at if writes else None


def _in_source_only(context: _Context) -> Iterator[Finding]:
    for known in on_trial(context.loaded.chalice_version):
        # A further Chalice object's handlers have a finding of their own.
        elsewhere = {use.at for other in context.loaded.other_apps for use in other.features}
        places = [at for at in _marked(context, known) if at not in elsewhere]
        if known.name in context.uses or not places:
            continue
        opted = known.name in opted_in(context.loaded)
        yield context.finding(
            "experimental-in-source",
            subject=known.name,
            at=places[0],
            what=f"The source uses {known.name}, but the app of stage {context.stage} does not.",
            detail=(
                "Found at "
                + ", ".join(map(str, places))
                + ".\nA blueprint that is not registered, a condition that does not hold in this "
                "stage, or another Chalice object: nothing is deployed for it."
                + (" The opt-in is there." if opted else " Loaded, it would need an opt-in.")
            ),
            link=known.link,
        )


def _second_apps(context: _Context) -> Iterator[Finding]:
    for other in context.loaded.other_apps:
        used = ", ".join(sorted({use.name for use in other.features}))
        yield context.finding(
            "second-app",
            subject=other.app_name,
            at=other.at,
            what=f"The Chalice object '{other.app_name}' is not deployed: only `app` is.",
            fix="Register its handlers on `app`, for example through a Blueprint.",
            detail=f"It uses {used}, which therefore is not deployed either." if used else "",
        )


def _cli_mode(context: _Context) -> Iterator[Finding]:
    places = context.source.constants(_CLI_MODE)
    hidden = [
        known
        for known in on_trial(context.loaded.chalice_version)
        if known.name not in context.uses and _marked(context, known)
    ]
    if places and hidden:
        names = ", ".join(known.name for known in hidden)
        yield context.finding(
            "cli-mode-dependent",
            subject=names,
            at=places[0],
            what=f"The app asks for {_CLI_MODE} and hides {names} while it is deployed.",
            fix="Register handlers in any case; ask for the variable around clients only.",
            detail="The app that runs in Lambda is not the one that is checked and deployed.",
        )


def _websocket_domain(context: _Context) -> Iterator[Finding]:
    key = "websocket_api_custom_domain"
    if context.loaded.graph.of_type("WebsocketAPI"):
        return
    if _setting(context, key):
        yield context.finding(
            "websocket-domain-unused",
            subject=key,
            at=_setting_place(context, key),
            what=f"`{key}` is set, but the app has no WebSocket handler in {context.stage}.",
            fix=f"Remove `{key}`, or register an `@app.on_ws_...` handler.",
            detail="Chalice ignores it without a word.",
            link="https://aws.github.io/chalice/topics/domainname.html",
        )


def _setting(context: _Context, key: str) -> object:
    return context.settings.lookup(context.settings_stage, key) if context.settings else None


def _setting_place(context: _Context, key: str) -> Place | None:
    if context.settings is None:
        return None
    places = context.settings.places
    return places.get(f"stages.{context.settings_stage}.{key}") or places.get(key)


# --- Chalice's own validation ---------------------------------------------------------------------

_OPT_IN_MESSAGE = "You are using experimental features"


def _validation(context: _Context) -> Iterator[Finding]:
    for message in context.loaded.validation:
        # Ours says the same with places.
        if message.lstrip().startswith(_OPT_IN_MESSAGE) and context.uses:
            continue
        first, _, rest = message.strip().partition("\n")
        yield context.finding(
            "chalice-validation",
            subject=_validation_subject(context, message),
            at=_validation_place(context, message),
            what=first.strip() or "Chalice refuses the app without saying why.",
            fix="Change it as the message says: `chalice deploy` refuses the app too.",
            detail=rest.strip(),
        )


def _validation_subject(context: _Context, message: str) -> str:
    for key in _setting_keys(message):
        return key
    for route in context.loaded.routes:
        if _names(message, route.path):
            return route.path
    for function in context.loaded.functions:
        if _names(message, function.name):
            return function.name
    return ""


def _validation_place(context: _Context, message: str) -> Place | None:
    for key in _setting_keys(message):
        place = _setting_place(context, key)
        if place is not None:
            return place
    routes = [route for route in context.loaded.routes if _names(message, route.path)]
    named = [route for route in context.loaded.routes if _names(message, route.function)]
    # The longest path that the message names: "/" is in nearly all of them.
    for route in [*named, *sorted(routes, key=lambda route: -len(route.path))]:
        if route.at is not None:
            return route.at
    for function in context.loaded.functions:
        if _names(message, function.name) and function.at is not None:
            return function.at
    return None


_SETTINGS = (
    "manage_iam_role",
    "minimum_compression_size",
    "lambda_architecture",
    "api_gateway_endpoint_vpce",
    "api_gateway_policy_file",
    "api_gateway_endpoint_type",
    "environment_variables",
)


def _setting_keys(message: str) -> Iterator[str]:
    lowered = message.lower().replace("api gateway endpoint type", "api_gateway_endpoint_type")
    lowered = lowered.replace("environment variable", "environment_variables")
    for key in _SETTINGS:
        if key in lowered:
            yield key


def _names(message: str, name: str) -> bool:
    """Whether the message has the name as a word of its own: "/" is not in "/orders/"."""
    bounded = rf"(?<![\w/{{}}.-]){re.escape(name)}(?![\w/{{}}-])"
    return bool(name) and re.search(bounded, message) is not None


def _renamed_authorizers(context: _Context) -> Iterator[Finding]:
    """A blueprint's name prefix renames its authorizer's function; its routes keep the old name."""
    renamed: dict[tuple[str, str], list[Route]] = {}
    for route in context.loaded.routes:
        asked, registered = route.authorizer, route.authorizer_function
        if asked is not None and registered is not None and asked != registered:
            renamed.setdefault((asked, registered), []).append(route)
    functions = {function.name for function in context.loaded.functions}
    for (asked, registered), routes in renamed.items():
        paths = ", ".join(dict.fromkeys(route.path for route in routes[:10]))
        happens = (
            f"The function {asked}, which is another one, would decide who may call them."
            if asked in functions
            else f"There is no function {asked}: `chalice deploy` stops halfway with a KeyError."
        )
        yield context.finding(
            "authorizer-renamed",
            subject=registered,
            at=_function_place(context, registered) or routes[0].at,
            what=f"The name prefix makes the authorizer {asked} the function {registered}, but its "
            f"routes ({paths}) still ask for {asked}. {happens}",
            fix="Register the blueprint without `name_prefix` and give its functions names of "
            "their own, or move the authorizer into a blueprint without one.",
        )


def _withheld(context: _Context) -> Iterator[Finding]:
    withheld = context.loaded.withheld
    if withheld:
        names = ", ".join(withheld)
        yield context.finding(
            "variables-withheld",
            subject=names,
            at=_setting_place(context, "environment_variables"),
            what=f"The app was loaded without the variables {names} of its stage.",
            detail="They would change the loader, the interpreter or the SDK's idea of AWS.",
        )


# --- collisions between stages --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Trigger:
    """A type of the graph that binds a thing which exists once."""

    type: str
    field: str
    rule: str
    noun: str
    consequence: str


_TRIGGERS = (
    _Trigger(
        type="S3BucketNotification",
        field="bucket",
        rule="preview-s3-trigger",
        noun="bucket",
        consequence=(
            "A bucket has one notification configuration: S3 refuses overlapping rules, so the "
            "deployment fails halfway, or both stages get every object."
        ),
    ),
    _Trigger(
        type="SQSEventSource",
        field="queue",
        rule="preview-queue",
        noun="queue",
        consequence=(
            "Consumers of a queue compete: each message reaches one stage only, so the preview "
            "takes messages away from the stage that it is like."
        ),
    ),
    _Trigger(
        type="SNSLambdaSubscription",
        field="topic",
        rule="preview-shared-trigger",
        noun="topic",
        consequence="Every subscriber gets every message: the preview does the same work again.",
    ),
    _Trigger(
        type="KinesisEventSource",
        field="stream",
        rule="preview-shared-trigger",
        noun="stream",
        consequence="Every consumer reads every record: the preview does the same work again.",
    ),
    _Trigger(
        type="DynamoDBEventSource",
        field="stream_arn",
        rule="preview-shared-trigger",
        noun="table's stream",
        consequence="Every consumer reads every record: the preview does the same work again.",
    ),
    _Trigger(
        type="CloudWatchEvent",
        field="event_pattern",
        rule="preview-shared-trigger",
        noun="event pattern",
        consequence="Every rule that matches fires: the preview does the same work again.",
    ),
    _Trigger(
        type="ScheduledEvent",
        field="schedule_expression",
        rule="preview-schedule",
        noun="schedule",
        consequence="Every preview has a rule of its own: the function runs once per open preview.",
    ),
)


_TAKES_EVENTS_AWAY = frozenset({"preview-s3-trigger", "preview-queue"})


def _preview_collisions(context: _Context) -> Iterator[Finding]:
    preview = context.config.preview
    shared = preview is not None and preview.shared_triggers
    for trigger in _TRIGGERS:
        for resource in context.loaded.graph.of_type(trigger.type):
            name = _bound_name(resource, trigger)
            if _own_of_stage(name, context.stage):
                continue
            function = _function_name(resource)
            takes = trigger.rule in _TAKES_EVENTS_AWAY
            yield context.finding(
                "preview-shared-trigger" if takes and shared else trigger.rule,
                subject=function or resource.name,
                at=_function_place(context, function),
                what=(
                    f"Preview {context.stage} binds {function or resource.name} to the "
                    f"{trigger.noun} {name}, as every stage like it does."
                ),
                fix=_preview_fix(context) + (_SHARE if takes and not shared else ""),
                detail=trigger.consequence,
            )
    for key in _DOMAIN_KEYS:
        value = _setting(context, key)
        if isinstance(value, Mapping) and value.get("domain_name"):
            domain = str(value["domain_name"]).lower()
            yield context.finding(
                "preview-domain",
                subject=domain,
                at=_setting_place(context, key),
                what=f"Preview {context.stage} goes without the custom domain {domain}.",
                fix="Use the preview's own URL, which the run tells.",
                detail="A domain points at one stage, and deleting the preview would delete it.",
            )


_SHARE = (
    " If it may take them away from that stage: `preview: {shared-triggers: true}` in "
    "chalice-ci.yml."
)
_DOMAIN_KEYS = ("api_gateway_custom_domain", "websocket_api_custom_domain")


def _bound_name(resource: Resource, trigger: _Trigger) -> str:
    value = resource.fields.get(trigger.field)
    if isinstance(value, Resource):
        value = value.fields.get("arn")
    return str(value)


def _own_of_stage(name: str, stage: str) -> bool:
    """Whether a name carries the stage's, so that each preview has its own."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(stage)}(?![A-Za-z0-9])", name) is not None


def _function_name(resource: Resource) -> str:
    function = resource.fields.get("lambda_function")
    return function.name if isinstance(function, Resource) else ""


def _function_place(context: _Context, name: str) -> Place | None:
    return next((known.at for known in context.loaded.functions if known.name == name), None)


def _preview_fix(context: _Context) -> str:
    like = context.config.preview.like if context.config.preview else "dev"
    return (
        f"Previews take the settings of stage {like}. Give them a stage of their own in "
        ".chalice/config.json (`preview: {like: preview}` in chalice-ci.yml) whose variables or "
        "settings leave this out."
    )


def _domains(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """The custom domains of a stage, each with its mount path."""
    for resource in loaded.graph.of_type("DomainName"):
        mapping = resource.fields.get("api_mapping")
        mount = mapping.fields.get("mount_path") if isinstance(mapping, Resource) else ""
        yield str(resource.fields.get("domain_name")).lower(), str(mount)


def _domain_place(context: _Context, domain: str) -> Place | None:
    for key in _DOMAIN_KEYS:
        value = _setting(context, key)
        if isinstance(value, Mapping) and str(value.get("domain_name")).lower() == domain:
            return _setting_place(context, key)
    return None


def check_together(
    stages: Iterable[Checked],
    *,
    config: ProjectConfig,
    settings: Mapping[str, StageSettings] | None = None,
) -> tuple[Finding, ...]:
    """What stages of one or several apps share and cannot: their custom domains.

    `settings` are the apps' `.chalice/config.json` by name, for the places.
    """
    holders: dict[str, list[tuple[Checked, str]]] = {}
    for checked in sorted(stages, key=lambda checked: (checked.app, checked.stage)):
        for domain, mount in _domains(checked.loaded):
            holders.setdefault(domain, []).append((checked, mount))
    found = []
    for domain, several in sorted(holders.items()):
        for index, (later, mount) in enumerate(several):
            for earlier, other_mount in several[:index]:
                # One app and stage may mount its REST and WebSocket APIs on one domain.
                same = (earlier.app, earlier.stage) == (later.app, later.stage)
                if not same and not _apart(config, earlier.stage, later.stage):
                    found.append(
                        _shared_domain(domain, earlier, later, mount == other_mount, settings)
                    )
    return in_order(tuple(found))


def _shared_domain(
    domain: str,
    earlier: Checked,
    later: Checked,
    same_mount: bool,
    settings: Mapping[str, StageSettings] | None,
) -> Finding:
    consequence = (
        "The later deployment takes the mapping from the other"
        if same_mount
        else "Their mount paths differ, but both own the domain"
    )
    at = None
    if settings is not None and later.app in settings:
        places = settings[later.app].places
        for key in ("api_gateway_custom_domain", "websocket_api_custom_domain"):
            for path in (f"stages.{later.stage}.{key}", key):
                at = at or places.get(path)
    return rules.finding(
        "shared-domain",
        app=later.app,
        stage=later.stage,
        subject=domain,
        at=at,
        what=(
            f"{later.app}/{later.stage} and {earlier.app}/{earlier.stage} "
            f"have the same custom domain {domain}."
        ),
        fix="Give each stage a domain of its own, or say in chalice-ci.yml that their accounts "
        "or regions differ.",
        detail=f"{consequence}, and deleting either stage deletes the domain of both.",
    )


def _apart(config: ProjectConfig, one: str, other: str) -> bool:
    """Whether the configuration says that two stages live in different accounts or regions."""
    first, second = _stage(config, one), _stage(config, other)
    if first is None or second is None:
        return False
    accounts = first.account and second.account and first.account != second.account
    regions = first.region and second.region and first.region != second.region
    return bool(accounts or regions)
