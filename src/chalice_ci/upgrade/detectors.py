"""Whether and where an app is touched by what a release of Chalice changed. Pure.

A note says what touches an app in one or more texts, any of which is enough:

    any                          every app
    rest                         the app has routes
    requirements                 the app asks for other distributions
    requirement:NAME             it asks for this one
    uses:NAME                    it uses an attribute or imports a name of Chalice
    imports:MODULE               it imports a module
    argument:CALL.NAME           a call or decorator is given this argument
    text:TEXT                    a string in the source is exactly this
    text-attribute:OWNER.NAME    the source uses `….OWNER.NAME`
    config:KEY                   config.json has the key
    file:PATH                    the app has the file or folder
    command:VERB [OPTION]        a script runs `chalice VERB`, with the option
    python:3.9                   the app, its CI or its container asks for this Python
    region:PREFIX                the stage's region begins with this
    autogen:NAME                 `uses:NAME` or an import of it, and the IAM policy is generated
    default-api-stage            routes, and no `api_gateway_stage`
    v1-state                     the stage is recorded in the file of Chalice before 1.2
    empty-route                  a route's path is empty
    detector:NAME                one of `DETECTORS`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from chalice_ci.findings import Place, Severity
from chalice_ci.upgrade.facts import AppFacts
from chalice_ci.upgrade.python_calls import RouteView
from chalice_ci.upgrade.raw_bodies import raw_bodies_as_text
from chalice_ci.upgrade.scripts import positional_stage

POLICY_JSON = ".chalice/policy.json"
DEPLOYED_JSON = ".chalice/deployed.json"
_PARAMETER = re.compile(r"{([^}]*)}")
_FUNCTION_ARN = re.compile(r"arn:aws[a-z-]*:lambda:[^:]*:[^:]*:function:([^:]+)")


@dataclass(frozen=True, kw_only=True)
class Touch:
    """One thing of an app that a note is about.

    `subject` is its name, `what` a sentence where the note's own is not enough, `fix` what to
    write instead. `severity` is given where it weighs less than its rule.
    """

    subject: str = ""
    at: Place | None = None
    what: str = ""
    fix: str = ""
    severity: Severity | None = None


Detector = Callable[[AppFacts], Iterator[Touch]]


def touched(facts: AppFacts, touch: str) -> tuple[Touch, ...]:
    """What of the app one text of a note's `touch` is about; see the list above.

    Raises ValueError for a text that means nothing.
    """
    kind, _, rest = touch.partition(":")
    detector = _KINDS.get(kind)
    if detector is None or bool(rest) != (kind not in _ALONE):
        raise ValueError(f"unknown touch: {touch!r}")
    return tuple(detector(facts, rest))


# --- detectors of their own -----------------------------------------------------------------------


def define_authorizer(facts: AppFacts) -> Iterator[Touch]:
    """Calls of `define_authorizer`."""
    for use in facts.calls.defined_authorizers():
        yield Touch(subject=use.subject, at=use.at)


def authorizer_name(facts: AppFacts) -> Iterator[Touch]:
    """Routes with `authorizer_name`."""
    for use in facts.calls.authorizer_names():
        yield Touch(subject=use.subject, at=use.at)


def authorizer_id(facts: AppFacts) -> Iterator[Touch]:
    """Routes with `authorizer_id` or `authorization_type`."""
    for use in facts.calls.authorizer_ids():
        yield Touch(subject=use.subject, at=use.at)


def raw_body(facts: AppFacts) -> Iterator[Touch]:
    """Bodies that are used as text."""
    for use in raw_bodies_as_text(facts.source):
        severity = None if use.fails else Severity.WARNING
        yield Touch(subject="raw_body", at=use.at, what=use.what, severity=severity)


def route_parameter_names(facts: AppFacts) -> Iterator[Touch]:
    """Views whose arguments are not called as the parameters of their path."""
    for view in facts.calls.views:
        for path in _paths(facts, view):
            wrong = _mismatch(facts, view, path)
            if wrong is not None:
                yield wrong
                break


def _paths(facts: AppFacts, view: RouteView) -> tuple[str, ...]:
    """The path of a view: as the loaded app has it (blueprints add a prefix), else as written."""
    if facts.loaded is not None:
        loaded = tuple(
            dict.fromkeys(
                route.path
                for route in facts.loaded.routes
                if route.at is not None
                and route.function == view.function
                and route.at.file == view.at.file
                and route.at.line in view.lines
            )
        )
        if len(loaded) == 1:
            return loaded
    return () if view.path is None else (view.path,)


def _mismatch(facts: AppFacts, view: RouteView, path: str) -> Touch | None:
    parameters = _PARAMETER.findall(path)
    prefixed = not view.on_app and path == view.path
    allowed = set(parameters)
    if prefixed:
        if None in facts.calls.prefixes:
            return None
        allowed |= {n for prefix in facts.calls.prefixes for n in _PARAMETER.findall(prefix or "")}
    unknown = [n for n in parameters if n not in view.names and not view.open_ended]
    missing = [n for n in view.required if n not in allowed]
    if not unknown and not missing and not view.positional:
        return None
    arguments = ", ".join((*view.positional, *view.names))
    if view.positional:
        what = f"`{view.function}` takes arguments by place only, parameters are handed by name."
    else:
        what = (
            f"The path {path} has {_listed(parameters) or 'no parameter'}, "
            f"and `{view.function}` takes {_listed(view.names) or 'no argument'}."
        )
    return Touch(
        subject=view.function,
        at=view.at,
        what=what,
        fix=f"Write `def {view.function}({', '.join(parameters)}):`"
        + (f" instead of `def {view.function}({arguments}):`." if arguments else "."),
    )


def deploy_positional_stage(facts: AppFacts) -> Iterator[Touch]:
    """`chalice deploy STAGE` in scripts and workflows."""
    for script in facts.scripts:
        for command in script.commands:
            stage = positional_stage(command)
            if stage is not None:
                yield Touch(
                    subject=stage,
                    at=command.at,
                    what=f"`chalice deploy` is given the stage {stage} without `--stage`.",
                    fix=f"Write `chalice deploy --stage {stage}`.",
                )


def policy_json(facts: AppFacts) -> Iterator[Touch]:
    """`.chalice/policy.json` where nothing reads it, or where `policy-<stage>.json` is missing."""
    if POLICY_JSON not in facts.files or facts.config is None:
        return
    # `iam_policy_file` may name it, for a stage or a function.
    if "policy.json" in _texts(facts.config.data):
        return
    stage = facts.settings_stage
    wanted = f".chalice/policy-{stage}.json"
    at = facts.path(POLICY_JSON)
    named = facts.setting("iam_policy_file")
    if facts.setting("manage_iam_role") is False:
        why, severity = "the role is not Chalice's to manage", Severity.NOTICE
    elif facts.setting("autogen_policy") is not False:
        why, severity = "the policy is generated from the source", Severity.NOTICE
    elif named or wanted in facts.files:
        read = f".chalice/{named}" if named else wanted
        why, severity = f"{read} is read instead", Severity.WARNING
    else:
        yield Touch(
            subject=stage,
            at=at,
            what=f"Stage {stage} needs {wanted}, which is not there: policy.json is not read.",
            fix=f"Rename policy.json to policy-{stage}.json, once for each stage.",
        )
        return
    yield Touch(
        subject="policy.json",
        at=at,
        what=f"policy.json is not read: {why}.",
        fix="Remove the file.",
        severity=severity,
    )


def v1_state(facts: AppFacts) -> Iterator[Touch]:
    """A stage that only the state file of Chalice before 1.2 has."""
    recorded = facts.document(DEPLOYED_JSON)
    if recorded is None or not isinstance(recorded.get(facts.stage), dict):
        return
    if f".chalice/deployed/{facts.stage}.json" in facts.files:
        return
    at = Place(
        file=facts.path(DEPLOYED_JSON).file,
        line=_line_of(facts.files[DEPLOYED_JSON], f'"{facts.stage}"'),
    )
    yield Touch(subject=facts.stage, at=at)


def resource_names(facts: AppFacts) -> Iterator[Touch]:
    """Recorded functions that are not called `<app>-<stage>` and what follows from it."""
    app_name = facts.config.app_name if facts.config else None
    if not app_name:
        return
    file = f".chalice/deployed/{facts.stage}.json"
    expected = f"{app_name}-{facts.stage}"
    if file in facts.files:
        recorded = _v2_functions(facts.document(file) or {}, expected)
    else:
        file = DEPLOYED_JSON
        recorded = _v1_functions((facts.document(file) or {}).get(facts.stage), expected)
    for name, wanted, consequence in recorded:
        yield Touch(
            subject=name,
            at=Place(file=facts.path(file).file, line=_line_of(facts.files[file], name)),
            what=f"The recorded function {name} is not called {wanted}: {consequence}",
        )


_STAYS = "the next deployment makes a new one beside it and forgets this one."
# Chalice cuts the expected prefix off by its length, whatever stands there.
_SWEPT = "the next deployment makes a new one, and Chalice deletes this one."


def _v2_functions(document: Mapping[str, object], expected: str) -> Iterator[tuple[str, str, str]]:
    resources = document.get("resources")
    for resource in resources if isinstance(resources, list) else ():
        if not isinstance(resource, dict) or resource.get("resource_type") != "lambda_function":
            continue
        name = resource.get("name")
        wanted = expected if name == "api_handler" else f"{expected}-{name}"
        match = _FUNCTION_ARN.fullmatch(str(resource.get("lambda_arn")))
        if match is not None and match[1] != wanted:
            yield match[1], wanted, _STAYS


def _v1_functions(stage: object, expected: str) -> Iterator[tuple[str, str, str]]:
    if not isinstance(stage, dict):
        return
    handler = stage.get("api_handler_name")
    if isinstance(handler, str) and handler and handler != expected:
        yield handler, expected, _STAYS
    others = stage.get("lambda_functions")
    for name in others if isinstance(others, dict) else ():
        if not str(name).startswith(f"{expected}-"):
            yield str(name), f"{expected}-…", _SWEPT


def _texts(value: object) -> frozenset[str]:
    """Every text in a JSON value."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return frozenset(found)


def _line_of(text: str, part: str) -> int | None:
    return next((n for n, line in enumerate(text.splitlines(), start=1) if part in line), None)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


DETECTORS: Mapping[str, Detector] = {
    "define-authorizer": define_authorizer,
    "authorizer-name": authorizer_name,
    "authorizer-id": authorizer_id,
    "raw-body": raw_body,
    "route-parameter-names": route_parameter_names,
    "deploy-positional-stage": deploy_positional_stage,
    "policy-json": policy_json,
    "resource-names": resource_names,
}
"""What `detector:NAME` calls."""


# --- the texts of `touch` -------------------------------------------------------------------------


def python_asked(facts: AppFacts, version: str) -> Iterator[Touch]:
    """Where the app, its CI or its container asks for a Python."""
    found = False
    text = facts.files.get(".python-version", "")
    if re.search(rf"^\D*{re.escape(version)}(?![0-9])", text, re.MULTILINE):
        found = True
        yield Touch(subject=version, at=Place(file=facts.path(".python-version").file, line=1))
    for script in facts.scripts:
        if not (script.commands or script.is_pipfile):
            continue
        # Once for each file: a matrix repeats itself.
        for asked in [one for one in script.pythons if one.version == version][:1]:
            found = True
            yield Touch(subject=version, at=asked.at)
    if not found and facts.python == version:
        yield Touch(subject=version)


def _any(facts: AppFacts, _: str) -> Iterator[Touch]:
    del facts
    yield Touch()


def _rest(facts: AppFacts, _: str) -> Iterator[Touch]:
    if facts.loaded is not None:
        if facts.loaded.routes:
            yield Touch(at=facts.loaded.routes[0].at)
    elif facts.calls.views:
        yield Touch(at=facts.calls.views[0].at)


def _places(places: tuple[Place, ...], subject: str) -> Iterator[Touch]:
    for at in places:
        yield Touch(subject=subject, at=at)


def _requirements(facts: AppFacts, _: str) -> Iterator[Touch]:
    for name, at in facts.requirements.items():
        if name != "chalice":
            yield Touch(subject=name, at=at)
            return


def _requirement(facts: AppFacts, name: str) -> Iterator[Touch]:
    if name in facts.requirements:
        yield Touch(subject=name, at=facts.requirements[name])


def _uses(facts: AppFacts, name: str) -> Iterator[Touch]:
    yield from _places(facts.calls.names.get(name, ()), name)


def _imports(facts: AppFacts, module: str) -> Iterator[Touch]:
    yield from _places(facts.calls.modules.get(module, ()), module)


def _argument(facts: AppFacts, name: str) -> Iterator[Touch]:
    function, _, argument = name.rpartition(".")
    yield from _places(facts.calls.keyword(function, argument), argument)


def _text(facts: AppFacts, text: str) -> Iterator[Touch]:
    yield from _places(facts.source.constants(text), text)


def _text_attribute(facts: AppFacts, name: str) -> Iterator[Touch]:
    yield from _places(facts.calls.dotted(name), name)


def _config(facts: AppFacts, key: str) -> Iterator[Touch]:
    places = facts.config.places if facts.config else {}
    here = f"stages.{facts.settings_stage}."
    for path, at in places.items():
        inside = path.removeprefix(here)
        if path.startswith("stages.") and inside == path:
            continue
        keys = inside.split(".")
        # The names in a mapping of the user's own are no keys of Chalice's.
        if keys[-1] == key and not {"environment_variables", "tags"} & set(keys[:-1]):
            yield Touch(subject=key, at=at)


def _file(facts: AppFacts, path: str) -> Iterator[Touch]:
    if path in facts.files:
        yield Touch(subject=path, at=facts.path(path))


def _command(facts: AppFacts, words: str) -> Iterator[Touch]:
    verb, _, option = words.partition(" ")
    for script in facts.scripts:
        for command in script.commands:
            if command.verb == verb and (not option or command.has(option)):
                yield Touch(subject=f"chalice {words}", at=command.at)


def _region(facts: AppFacts, prefix: str) -> Iterator[Touch]:
    if facts.region.startswith(prefix):
        yield Touch(subject=facts.region)


def _autogen(facts: AppFacts, module: str) -> Iterator[Touch]:
    if facts.setting("autogen_policy") is False or facts.setting("manage_iam_role") is False:
        return
    yield from _imports(facts, module)


def _default_api_stage(facts: AppFacts, _: str) -> Iterator[Touch]:
    declared = any(True for _ in _config(facts, "api_gateway_stage"))
    if not declared:
        yield from _rest(facts, "")


def _empty_route(facts: AppFacts, _: str) -> Iterator[Touch]:
    for use in facts.calls.empty_routes():
        yield Touch(subject=use.subject, at=use.at)


_ALONE = frozenset({"any", "rest", "requirements", "default-api-stage", "v1-state", "empty-route"})
_KINDS: Mapping[str, Callable[[AppFacts, str], Iterator[Touch]]] = {
    "any": _any,
    "rest": _rest,
    "requirements": _requirements,
    "requirement": _requirement,
    "uses": _uses,
    "imports": _imports,
    "argument": _argument,
    "text": _text,
    "text-attribute": _text_attribute,
    "config": _config,
    "file": _file,
    "command": _command,
    "python": python_asked,
    "region": _region,
    "autogen": _autogen,
    "default-api-stage": _default_api_stage,
    "v1-state": lambda facts, _: v1_state(facts),
    "empty-route": _empty_route,
    "detector": lambda facts, name: DETECTORS[name](facts),
}
