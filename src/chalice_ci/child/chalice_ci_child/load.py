"""Loads an app with its own Chalice and answers with what was found, as one JSON document.

This is the only part of chalice-ci that runs the user's code. It runs in a sandbox, in the app's
Python, once per stage; what it answers is treated as hostile. The request comes on stdin as JSON,
the answer goes to its own descriptor: apps print while they are imported.

The steps are those of `chalice deploy`, by the installed Chalice itself, up to the application
graph: configuration, import, validation, graph, defaults, policies, swagger. Only two things are
not Chalice's: packages are slots (nothing is downloaded or zipped here), and validation collects
instead of stopping at the first error.

Standard library and chalice only; Python 3.10 and later; Chalice 1.29 to 1.34.
"""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import functools
import gc
import hashlib
import inspect
import json
import os
import re
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

# What is imported stays: to look through it again and again for garbage takes a fifth of a load.
gc.set_threshold(100_000, 50, 100)

import chalice  # noqa: E402

# `chalice.cli` imports the whole command line (click groups, prompts, reloader) to give us one
# class. A bare package lets the factory be imported alone; it is forgotten again right after.
_bare = types.ModuleType("chalice.cli")
_bare.__path__ = [str(Path(chalice.__file__).parent / "cli")]
sys.modules["chalice.cli"] = _bare

from chalice.cli.factory import CLIFactory  # noqa: E402
from chalice.deploy import appgraph, models, swagger, validate  # noqa: E402
from chalice.deploy.deployer import BaseDeployStep  # noqa: E402
from chalice.utils import UI, OSUtils  # noqa: E402

from . import templates  # noqa: E402
from .codec import CodecError, Slot, encode  # noqa: E402

for _name in ("chalice.cli", "chalice.cli.factory"):
    del sys.modules[_name]
del _name, _bare

# Patched below, so their own types are of no use here.
chalice_app_module: Any = sys.modules["chalice.app"]
deployer: Any = sys.modules["chalice.deploy.deployer"]

FORMAT = 1
MAX_ANSWER = 16 * 1024 * 1024
MAX_TEXT = 4000
MAX_FRAMES = 30
_CHALICE = str(Path(chalice.__file__).parent) + os.sep
_OURS = str(Path(__file__).parent) + os.sep
# Not `fips-us-east-1` and the like, which stand for another region.
_RANDOM_SID = re.compile(r"[0-9a-f]{32}\Z")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A stage's variables reach the app as Chalice lets them, except those that would change the
# loader itself, the interpreter or the SDK's idea of where AWS is.
_PROTECTED = _words(
    """PATH HOME SHELL TMPDIR TMP TEMP ENV BASH_ENV IFS PS4 SHELLOPTS BASHOPTS VIRTUAL_ENV
    GLIBC_TUNABLES GCONV_PATH LOCPATH NLSPATH HOSTALIASES LOCALDOMAIN RES_OPTIONS RESOLV_HOST_CONF
    AWS_CA_BUNDLE AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_PROFILE AWS_DEFAULT_PROFILE
    AWS_DATA_PATH AWS_WEB_IDENTITY_TOKEN_FILE AWS_LOGIN_CACHE_DIRECTORY
    HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY NO_PROXY REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES
    GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_NAMESPACE GIT_EXEC_PATH
    GIT_TEMPLATE_DIR GIT_ASKPASS GIT_EDITOR GIT_PAGER GIT_EXTERNAL_DIFF GIT_PROXY_COMMAND
    GIT_SEQUENCE_EDITOR GIT_TERMINAL_PROMPT GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CEILING_DIRECTORIES
    PERL5LIB PERL5OPT NODE_OPTIONS JAVA_TOOL_OPTIONS RUBYOPT"""
)
_PROTECTED_PREFIXES = (
    "LD_",
    "DYLD_",
    "PYTHON",
    "MALLOC_",
    "AWS_ENDPOINT_URL",
    "AWS_EC2_METADATA_",
    "AWS_METADATA_",
    "AWS_CONTAINER_",
    "GIT_CONFIG",
    "GIT_SSH",
    "GIT_SSL",
    "GIT_TRACE",
    "BASH_FUNC_",
    "PIP_",
    "UV_",
    "DOCKER_",
    "CHALICE_CI_",
)


def is_protected(name: str) -> bool:
    """Whether a stage's variable of this name is kept away from the loader."""
    upper = name.upper()
    return upper in _PROTECTED or upper.startswith(_PROTECTED_PREFIXES)


class _TimeIsUp(BaseException):
    """Raised in the app's code when the wall or processor time is used up."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Stop(Exception):
    """The app cannot be loaded and we know why."""

    def __init__(self, kind: str, message: str, *, subject: str = "", at: Any = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.subject = subject
        self.at = at


def main() -> None:
    """Read the request, load, answer, and leave without running the app's exit handlers."""
    request = json.loads(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.argv = ["chalice"]
    faulthandler.enable()
    answer = request["answer"]
    document: dict[str, Any]
    try:
        document = _Load(request).document()
    except _Stop as stop:
        document = _failure_document(stop.kind, "", str(stop))
        document["failure"].update(subject=stop.subject[:MAX_TEXT], **_place(stop.at))
    except BaseException as error:
        document = _explain(error, request["project"])
    document.update(
        format=FORMAT,
        chalice=_text(chalice.__version__),
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
    )
    data = _dump(document)
    if len(data) > MAX_ANSWER:
        found = _failure_document("too-large", "", f"the app's description has {len(data)} bytes")
        data = _dump({**found, "format": FORMAT, "chalice": document["chalice"]})
    _send(answer["fd"], answer["nonce"].encode() + b"\n" + data)
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def _dump(document: Mapping[str, Any]) -> bytes:
    # Escaped, so that lone surrogates in an app's text cannot stop the answer.
    return json.dumps(document, ensure_ascii=True, allow_nan=False).encode("ascii")


def _send(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class _Variables:
    """Takes the stage's variables from Chalice and keeps the protected ones out."""

    def __init__(self) -> None:
        self.withheld: list[str] = []

    def update(self, variables: Mapping[str, Any]) -> None:
        for name, value in variables.items():
            if not isinstance(value, str):
                raise _Stop(
                    "configuration",
                    f"The environment variable {name} is {json.dumps(value, default=str)}"
                    f" ({type(value).__name__}); Lambda takes text only.",
                    subject=name,
                    at=(".chalice/config.json", None),
                )
            if is_protected(name):
                self.withheld.append(name)
            else:
                os.environ[name] = value


class _Factory(CLIFactory):
    """Chalice's own factory; a preview's stage is a copy of the one it is like."""

    def __init__(self, project: str, request: Mapping[str, Any], variables: _Variables) -> None:
        super().__init__(project, environ=cast(Any, variables))
        self._stage = request["stage"]
        self._like = request.get("like")
        self._extra = request.get("variables") or ()

    def load_project_config(self) -> Any:
        config = super().load_project_config()
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
        stages = config.get("stages")
        if self._like:
            if not isinstance(stages, dict):
                stages = config["stages"] = {}
            stages[self._stage] = copy.deepcopy(stages.get(self._like, {}))
            # A domain exists once: it stays with the stage that this one is like.
            for holder in (config, stages[self._stage]):
                for key in ("api_gateway_custom_domain", "websocket_api_custom_domain"):
                    holder.pop(key, None)
            # The file's default name has the stage in it: it is the original's that is meant.
            # The top of the file loses against every other place that may name one.
            if config.get("iam_policy_file") is None:
                config["iam_policy_file"] = f"policy-{self._like}.json"
        for variable in self._extra:
            _set_variable(config, self._stage, variable)
        return config

    def load_chalice_app(
        self,
        environment_variables: Any = None,
        validate_feature_flags: bool | None = False,
    ) -> Any:
        # Feature flags are reported with their place, not raised one at a time.
        del validate_feature_flags
        app = super().load_chalice_app(environment_variables, validate_feature_flags=False)
        if not isinstance(app, chalice_app_module.Chalice):
            kind = type(app)
            raise _Stop(
                "wrong-type",
                f"`app` in app.py is a {kind.__module__}.{kind.__qualname__}, not a Chalice app.",
                subject=f"{kind.__module__}.{kind.__qualname__}",
                at=("app.py", None),
            )
        return app


def _set_variable(config: dict[str, Any], stage_name: str, variable: Mapping[str, Any]) -> None:
    """Put a variable into the stage's settings, in the place of any other of its name."""
    stage = config.setdefault("stages", {}).setdefault(stage_name, {})
    name, value, chosen = variable["name"], variable["value"], variable["functions"]
    functions = stage.get("lambda_functions")
    for settings in functions.values() if isinstance(functions, dict) else ():
        if isinstance(settings, dict) and isinstance(settings.get("environment_variables"), dict):
            settings["environment_variables"].pop(name, None)
    if not chosen:
        stage["environment_variables"] = {**(stage.get("environment_variables") or {}), name: value}
        return
    functions = stage.setdefault("lambda_functions", {})
    for function in chosen:
        settings = functions.setdefault(function, {})
        settings["environment_variables"] = {
            **(settings.get("environment_variables") or {}),
            name: value,
        }


class _Trace:
    """Notes which Chalice objects are made, which features they use, and where."""

    def __init__(self, project: str) -> None:
        self._project = project
        self.apps: list[tuple[Any, Any]] = []
        self.uses: dict[int, list[dict[str, Any]]] = {}
        self.handlers: dict[int, dict[str, Any]] = {}

    def install(self) -> None:
        """Patch the class, not the app: what the app does to its own sets is not asked."""
        trace = self
        kind = chalice_app_module.Chalice
        made = kind.__init__
        registered = kind._do_register_handler

        class Used(set):  # type: ignore[type-arg]
            """`_features_used` of one app."""

            def __init__(self, owner: int) -> None:
                super().__init__()
                self._owner = owner

            def add(self, feature: Any) -> None:
                trace.note(self._owner, feature)
                super().add(feature)

        @functools.wraps(made)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            made(self, *args, **kwargs)
            if all(self is not app for app, _ in trace.apps):
                trace.apps.append((self, trace.user_frame(sys._getframe(1))[0]))
            self._features_used = Used(id(self))

        @functools.wraps(registered)
        def _do_register_handler(
            self: Any, handler_type: str, name: str, user_handler: Any, *rest: Any
        ) -> Any:
            options = rest[2] if len(rest) > 2 else None
            prefix = (options or {}).get("name_prefix") or ""
            named = trace.handlers.setdefault(id(self), {})
            named[f"{prefix}{name}"] = user_handler
            return registered(self, handler_type, name, user_handler, *rest)

        kind.__init__ = __init__
        kind._do_register_handler = _do_register_handler

    def note(self, owner: int, feature: Any) -> None:
        if not isinstance(feature, str):
            return
        at, via, handler = self.user_frame(sys._getframe(2))
        if via == "decorator" and sys.version_info < (3, 11):
            # Until 3.10 a decorator's call has the line of the `def` below it.
            written = self.code_place(handler)
            at = written if written and at and written[0] == at[0] else at
        uses = self.uses.setdefault(owner, [])
        uses.append({"name": feature, "via": via, **_place(at)})
        if via == "register_blueprint" and handler is not None:
            where = self.code_place(handler)
            uses.append({"name": feature, "via": "handler", **_place(where)})

    def user_frame(self, frame: Any) -> tuple[Any, str, Any]:
        """The place of the innermost frame of the project, how chalice was entered, the handler."""
        via = "decorator"
        handler = None
        outside = None
        while frame is not None:
            filename = frame.f_code.co_filename
            if filename.startswith(_CHALICE):
                if frame.f_code.co_name in ("register_blueprint", "register"):
                    via = "register_blueprint"
                handler = frame.f_locals.get("user_handler", handler)
            elif not filename.startswith((_OURS, "<frozen")):
                relative = _inside(filename, self._project)
                if relative is not None:
                    return (relative, frame.f_lineno), via, handler
                outside = outside or (None, frame.f_lineno)
            frame = frame.f_back
        return outside, via, handler

    def code_place(self, function: Any) -> Any:
        """Where a handler is written: the line of its first decorator."""
        with contextlib.suppress(Exception):
            code = inspect.unwrap(function).__code__
            relative = _inside(code.co_filename, self._project)
            if relative is not None:
                return relative, code.co_firstlineno
        return None

    def features(self, app: Any) -> list[dict[str, Any]]:
        """Every use, once per place. Registered websocket handlers prove theirs by themselves."""
        uses = list(self.uses.get(id(app), ()))
        handlers = _mapping(app, "websocket_handlers")
        if handlers and not any(use["name"] == "WEBSOCKETS" for use in uses):
            for handler in handlers.values():
                at = self.code_place(getattr(handler, "handler_function", None))
                uses.append({"name": "WEBSOCKETS", "via": "handler", **_place(at)})
        for feature in _strings(getattr(app, "_features_used", ())):
            if not any(use["name"] == feature for use in uses):
                uses.append({"name": feature, "via": "unknown", **_place(None)})
        seen = {json.dumps(use, sort_keys=True): use for use in uses}
        return [seen[key] for key in sorted(seen)][:200]


class _Load:
    """One load of one stage."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request
        self._project = os.path.realpath(request["project"])
        self._stage = request["stage"]
        self._trace = _Trace(self._project)
        self._variables = _Variables()
        self._policies: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        os.chdir(self._project)
        for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
            os.environ[name] = self._request["region"]
        self._trace.install()
        self._limit_time(self._request.get("seconds"))
        factory = _Factory(self._project, self._request, self._variables)
        config = factory.create_config_obj(self._stage)
        app = self._import(config)
        validation = _collect_validation(config)
        try:
            application = self._built(config, swagger.TemplatedSwaggerGenerator())
            graph = encode(application, self._project)
        except CodecError as error:
            raise _Stop(
                "chalice", f"The application graph cannot be written down: {error}"
            ) from error
        found = {
            "stage": self._stage,
            "app_name": _text(app.app_name),
            "config_app_name": _text_or_none(config.app_name),
            "flags": _flags(app),
            "features": self._trace.features(app),
            "other_apps": self._other_apps(app),
            "routes": list(self._routes(app)),
            "functions": list(self._functions(app)),
            "validation": [{"message": message} for message in validation],
            "withheld": sorted(set(self._variables.withheld)),
            "graph": graph,
            "template": None,
            "template_error": None,
            "models": None,
        }
        wanted = self._request.get("template")
        if wanted:
            build = functools.partial(self._built, config)
            try:
                found["models"] = templates.models(app)
                found["template"] = templates.template(
                    wanted, config, factory, self._stage, build=build
                )
            except Exception as error:
                found["template_error"] = _text(f"{type(error).__name__}: {error}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        return found

    def _limit_time(self, seconds: Any) -> None:
        # The parent kills us a little later anyway; raised here, it has a file and a line.
        def stop(number: int, frame: Any) -> None:
            del frame
            if number == signal.SIGALRM:
                raise _TimeIsUp("timeout", f"it was still running after {seconds:g} seconds")
            raise _TimeIsUp("cpu", "it used up its processor time")

        signal.signal(signal.SIGALRM, stop)
        signal.signal(signal.SIGXCPU, stop)
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, float(seconds))

    def _import(self, config: Any) -> Any:
        if not Path(self._project, "app.py").is_file() and not Path(self._project, "app").is_dir():
            raise _Stop("missing-app", "There is no app.py in the app's folder.", subject="app.py")
        try:
            return config.chalice_app
        except AttributeError as error:
            module = sys.modules.get("app")
            if getattr(error, "obj", None) is module and error.name == "app" and module is not None:
                raise _Stop(
                    "missing-app",
                    "app.py has no variable named `app`." + self._misnamed(vars(module)),
                    subject="app",
                    at=("app.py", None),
                ) from error
            raise

    def _misnamed(self, names: Mapping[str, Any]) -> str:
        kind = chalice_app_module.Chalice
        found = sorted(name for name, value in names.items() if isinstance(value, kind))
        return f" The Chalice app there is called `{found[0]}`." if found else ""

    # -- the graph and the template

    def _built(self, config: Any, generator: Any) -> Any:
        application = appgraph.ApplicationGraphBuilder().build(config, self._stage)
        resources = appgraph.DependencyBuilder().build_dependencies(application)
        stage = self._build_stage(config, generator)
        stage.execute(config, resources)
        resources = appgraph.DependencyBuilder().build_dependencies(application)
        for resource in resources:
            _settle_sids(resource)
        return application

    def _build_stage(self, config: Any, generator: Any) -> Any:
        # Making the real pip runner imports pip, for packages that are not built here.
        real_pip = deployer.SubprocessPip
        deployer.SubprocessPip = lambda **_: None
        try:
            stage = deployer.create_build_stage(OSUtils(), UI(), generator, config)
        finally:
            deployer.SubprocessPip = real_pip
        packagers = (deployer.DeploymentPackager, deployer.ManagedLayerDeploymentPackager)
        slots = _SlotPackager(bool(self._request.get("layer_is_empty")))
        stage._steps = [slots if isinstance(step, packagers) else step for step in stage._steps]
        for step in stage._steps:
            if isinstance(step, deployer.PolicyGenerator):
                step._policy_gen = _OncePolicy(step._policy_gen, self._policies)
        return stage

    # -- what the app registered

    def _other_apps(self, loaded: Any) -> list[dict[str, Any]]:
        others = []
        for app, at in self._trace.apps[:50]:
            if app is not loaded:
                others.append(
                    {
                        "app_name": _text(getattr(app, "app_name", "")),
                        "features": self._trace.features(app),
                        **_place(at),
                    }
                )
        return others

    def _routes(self, app: Any) -> Iterator[dict[str, Any]]:
        for path, methods in _mapping(app, "routes").items():
            for method, entry in methods.items():
                authorizer = entry.authorizer
                yield {
                    "path": _text(path),
                    "method": _text(method),
                    "function": _text(entry.view_name),
                    "cors": bool(entry.cors),
                    "authorizer": _text(authorizer.name) if authorizer else None,
                    "authorizer_function": _function_of(authorizer),
                    "api_key": bool(entry.api_key_required),
                    "content_types": [_text(kind) for kind in entry.content_types],
                    **_place(self._trace.code_place(entry.view_function)),
                }

    def _functions(self, app: Any) -> Iterator[dict[str, Any]]:
        if _mapping(app, "routes"):
            yield _function("api_handler", "app.app", "rest", None)
        named = self._trace.handlers.get(id(app), {})
        sources = (
            [("authorizer", item) for item in app.builtin_auth_handlers]
            + [(_source_type(item), item) for item in app.event_sources]
            + [("lambda", item) for item in app.pure_lambda_functions]
        )
        for kind, item in sources:
            at = self._trace.code_place(named.get(item.name))
            yield _function(item.name, item.handler_string, kind, at)
        names = {"$connect": "connect", "$disconnect": "disconnect"}
        for key, item in _mapping(app, "websocket_handlers").items():
            role = names.get(key, "message")
            at = self._trace.code_place(getattr(item, "handler_function", None))
            yield _function(f"websocket_{role}", item.handler_string, f"websocket-{role}", at)


def _function_of(authorizer: Any) -> str | None:
    """The function that the app registered for one of its own authorizers, else None."""
    if not isinstance(authorizer, chalice_app_module.ChaliceAuthorizer):
        return None
    config = authorizer.config
    return None if config is None else _text(config.name)


class _SlotPackager(BaseDeployStep):
    """Names the package, builds nothing; an empty managed layer is pruned as Chalice does."""

    def __init__(self, layer_is_empty: bool) -> None:
        self._layer_is_empty = layer_is_empty

    def handle_lambdalayer(self, config: Any, resource: Any) -> None:
        del config
        if self._layer_is_empty:
            resource.is_empty = True
        else:
            resource.deployment_package.filename = Slot("layer")

    def handle_lambdafunction(self, config: Any, resource: Any) -> None:
        del config
        resource.deployment_package.filename = Slot("app")
        if resource.managed_layer is not None and resource.managed_layer.is_empty:
            resource.managed_layer = None


class _OncePolicy:
    """Chalice's policy generator, asked once per load: it reads the source and makes clients."""

    def __init__(self, generator: Any, known: dict[str, Any]) -> None:
        self._generator = generator
        self._known = known

    def generate_policy(self, config: Any) -> Any:
        if "policy" not in self._known:
            self._known["policy"] = self._generator.generate_policy(config)
        return copy.deepcopy(self._known["policy"])


def _settle_sids(resource: Any) -> None:
    """Give generated policy statements an id made of what they say, not a random one."""
    policy = getattr(resource, "policy", None)
    if not isinstance(policy, models.AutoGenIAMPolicy) or not isinstance(policy.document, dict):
        return
    for statement in policy.document.get("Statement", ()):
        if isinstance(statement, dict) and _RANDOM_SID.match(str(statement.get("Sid"))):
            said = {key: value for key, value in statement.items() if key != "Sid"}
            text = json.dumps(said, sort_keys=True, default=str)
            statement["Sid"] = hashlib.sha256(text.encode()).hexdigest()[:32]


def _collect_validation(config: Any) -> list[str]:
    """Run Chalice's own `validate_configuration`; return every objection, not only the first.

    It calls one function of its module after the other. Each is replaced for the time of the call
    by one that notes the ValueError and goes on. Missing opt-ins are left out: features report
    them with their places.
    """
    said: list[str] = []
    names = [
        name
        for name in validate.validate_configuration.__code__.co_names
        if name.startswith(("validate_", "_validate_")) and callable(getattr(validate, name, None))
    ]
    real = {name: getattr(validate, name) for name in names}

    def noting(name: str) -> Callable[..., None]:
        def check(*args: Any) -> None:
            for each in _one_by_one(name, args):
                try:
                    real[name](*each)
                except validate.ExperimentalFeatureError:
                    continue
                except (ValueError, TypeError) as error:
                    said.append(_text(error))

        return check

    try:
        for name in names:
            setattr(validate, name, noting(name))
        validate.validate_configuration(config)
    finally:
        for name, function in real.items():
            setattr(validate, name, function)
    return list(dict.fromkeys(said))[:500]


def _one_by_one(name: str, args: tuple[Any, ...]) -> Iterable[tuple[Any, ...]]:
    if name in ("validate_routes", "validate_route_content_types") and args:
        return [({path: methods}, *args[1:]) for path, methods in args[0].items()]
    return [args]


def _source_type(source: Any) -> str:
    name = type(source).__name__
    known = {
        "ScheduledEventConfig": "schedule",
        "CloudWatchEventConfig": "cloudwatch",
        "S3EventConfig": "s3",
        "SNSEventConfig": "sns",
        "SQSEventConfig": "sqs",
        "KinesisEventConfig": "kinesis",
        "DynamoDBEventConfig": "dynamodb",
    }
    return known.get(name, "other")


def _function(name: Any, handler: Any, kind: str, at: Any) -> dict[str, Any]:
    return {"name": _text(name), "handler": _text(handler), "type": kind, **_place(at)}


def _flags(app: Any) -> dict[str, Any]:
    flags = getattr(app, "experimental_feature_flags", None)
    return {"kind": _text(type(flags).__name__), "values": _strings(flags)}


def _strings(values: Any) -> list[str]:
    if isinstance(values, str):
        return [_text(values)]
    try:
        return sorted({_text(value) for value in values if isinstance(value, str)})[:200]
    except TypeError:
        return []


def _mapping(app: Any, name: str) -> Mapping[Any, Any]:
    value = getattr(app, name, None)
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return str.__str__(text)[:MAX_TEXT]


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _place(at: Any) -> dict[str, Any]:
    file, line = at if at else (None, None)
    return {"file": file, "line": line if file else None}


def _inside(filename: str, project: str) -> str | None:
    """The path relative to the project, or None. Installed packages are never the project's."""
    if not filename.startswith(os.sep):
        return None  # "<frozen importlib._bootstrap>", "<string>"
    real = os.path.realpath(filename)
    if real.startswith(project + os.sep):
        return real[len(project) + 1 :]
    return None


# -- failures


def _failure_document(kind: str, name: str, message: str) -> dict[str, Any]:
    return {
        "failure": {
            "kind": kind,
            "type": name[:200],
            "message": message[:MAX_TEXT],
            "subject": "",
            "declared": False,
            "file": None,
            "line": None,
            "frames": [],
        }
    }


def _explain(error: BaseException, project: str) -> dict[str, Any]:
    """Say what stopped the load, in words of the user's own files."""
    project = os.path.realpath(project)
    chain = _chain(error)
    kind, subject, shown = _classify(error, chain, project)
    message = _plain(_message(shown), project)
    if kind == "import-error":
        message += _imported_by(shown, project)
    name = "" if isinstance(shown, _TimeIsUp) else type(shown).__name__
    document = _failure_document(kind, name, message)
    failure = document["failure"]
    failure["subject"] = subject[:MAX_TEXT]
    failure["declared"] = kind == "import-error" and _declared(project, subject)
    frames: list[dict[str, Any]] = []
    for one in [shown, *chain]:
        frames = _frames(one, project)
        if frames:
            break
    if isinstance(shown, SyntaxError) and shown.filename:
        inside = _inside(shown.filename, project)
        if inside is not None:
            frames.append({"file": inside, "line": shown.lineno, "function": ""})
    failure["frames"] = frames[-MAX_FRAMES:]
    if frames:
        failure.update(file=frames[-1]["file"], line=frames[-1]["line"])
    if not isinstance(shown, _TimeIsUp):
        with contextlib.suppress(BaseException):
            _print(shown, project)
    return document


def _plain(text: str, project: str) -> str:
    """The text without the folders of this machine: paths of the project, else of the library."""
    known = [path.rstrip(os.sep) for path in (project, *sys.path) if isinstance(path, str)]
    for folder in sorted(known, key=len, reverse=True):
        # Not the root, nor one folder beneath it: those are in every path.
        if folder.startswith(os.sep) and folder.count(os.sep) > 1:
            text = text.replace(folder + os.sep, "")
    return text


def _imported_by(error: BaseException, project: str) -> str:
    """Which installed module has the import that failed; nothing when it is the app's own."""
    for summary in reversed(traceback.extract_tb(error.__traceback__)):
        if not summary.filename.startswith(("<", _OURS)):
            if _inside(summary.filename, project) is not None:
                return ""
            file = _plain(summary.filename, project)
            return "" if file.startswith(os.sep) else f" (imported by {file})"
    return ""


def _print(error: BaseException, project: str) -> None:
    """Show the traceback, the app's own lines only: what Chalice and libraries do is noise."""
    told = traceback.TracebackException(type(error), error, error.__traceback__)
    own = [frame for frame in told.stack if _inside(frame.filename, project) is not None]
    told.stack = traceback.StackSummary.from_list(own)
    sys.stderr.writelines(told.format(chain=False))


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, SyntaxError):
            return f"{error.msg}" + (f": {error.text.strip()}" if error.text else "")
        if isinstance(error, SystemExit):
            return f"exit code {error.code!r}"
        if isinstance(error, KeyError) and error.args:
            return repr(error.args[0])
        return str(error)
    except BaseException:
        return type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    todo = [error]
    while todo and len(found) < 20:
        one = todo.pop(0)
        if any(one is seen for seen in found):
            continue
        found.append(one)
        # urllib3 and urllib keep the cause in `reason`.
        for other in (one.__cause__, one.__context__, getattr(one, "reason", None)):
            if isinstance(other, BaseException):
                todo.append(other)
    return found


def _frames(error: BaseException, project: str) -> list[dict[str, Any]]:
    frames = []
    for summary in traceback.extract_tb(error.__traceback__):
        inside = _inside(summary.filename, project)
        if inside is not None:
            frames.append({"file": inside, "line": summary.lineno, "function": summary.name[:200]})
    return frames


_NETWORK_CLASSES = _words(
    """gaierror herror URLError EndpointConnectionError ConnectTimeoutError ReadTimeoutError
    HTTPClientError ConnectionClosedError ProxyConnectionError NewConnectionError MaxRetryError
    ConnectionError ConnectTimeout ReadTimeout NameResolutionError ClientConnectionError
    TransportError ConnectError ServerSelectionTimeoutError AutoReconnect RemoteDisconnected
    MetadataRetrievalError SSLError WebSocketException PyJWKClientConnectionError"""
)
_NETWORK_WORDS = (
    "could not create socket",
    "could not translate host name",
    "name or service not known",
    "name resolution",
    "can't connect to mysql server",
    "network is unreachable",
    "failed to establish a new connection",
)
_CREDENTIALS = _words(
    """NoCredentialsError PartialCredentialsError CredentialRetrievalError ProfileNotFound
    DefaultCredentialsError UnauthorizedSSOTokenError TokenRetrievalError"""
)


def _classify(
    error: BaseException, chain: list[BaseException], project: str
) -> tuple[str, str, BaseException]:
    """The kind of failure, what it is about, and the exception that says it best."""
    for one in chain:
        if isinstance(one, SyntaxError):
            return "syntax-error", "", one
    if isinstance(error, _TimeIsUp):
        return error.kind, "", error
    if isinstance(error, SystemExit):
        return "system-exit", repr(error.code)[:200], error
    for one in chain:
        classes = {kind.__name__ for kind in type(one).__mro__}
        if classes & _CREDENTIALS:
            return "credentials", "", one
        if "NoRegionError" in classes:
            return "region", "", one
    if isinstance(error, ImportError) and not any(_is_network(one) for one in chain):
        return "import-error", (error.name or "").partition(".")[0], error
    if any(_is_network(one) for one in chain):
        return "network", "", error
    if isinstance(error, KeyError) and _raised_in(error, f"{os.sep}os.py"):
        return "environment", str(error.args[0]) if error.args else "", error
    if isinstance(error, MemoryError):
        return "memory", "", error
    if isinstance(error, OSError) and error.filename and error.errno in (1, 13, 30):
        return "filesystem", str(error.filename).replace(project + os.sep, ""), error
    if isinstance(error, RuntimeError) and "project config file" in str(error):
        return "configuration", ".chalice/config.json", error
    if type(error).__name__ == "UnknownConfigFileVersion":
        return "configuration", ".chalice/config.json", error
    if not _frames(error, project):
        return "chalice", "", error
    return "exception", "", error


def _is_network(error: BaseException) -> bool:
    if {kind.__name__ for kind in type(error).__mro__} & _NETWORK_CLASSES:
        return True
    if isinstance(error, PermissionError) and error.filename is None:
        return _raised_in(error, f"{os.sep}socket.py") or _raised_in(error, "selectors.py")
    words = str(error).lower() if isinstance(error, Exception) else ""
    return any(phrase in words for phrase in _NETWORK_WORDS)


def _raised_in(error: BaseException, ending: str) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    last = frames[-1].filename
    return last.endswith(ending) or last == f"<frozen {ending.strip(os.sep)[:-3]}>"


def _declared(project: str, module: str) -> bool:
    """Whether requirements.txt names a distribution of about the module's name."""
    if not module:
        return False
    wanted = re.sub(r"[-_.]+", "-", module).lower()
    try:
        lines = Path(project, "requirements.txt").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    names = (re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line) for line in lines[:10_000])
    return any(name and re.sub(r"[-_.]+", "-", name[1]).lower() == wanted for name in names)
