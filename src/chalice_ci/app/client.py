"""Loads an app in the sandbox and reads what comes back.

    copy the app ──► confine ──► chalice_ci_child.load, in the app's Python ──► answer ──► check it

One call is one stage in one process. The answer is believed only in so far as it fits what
Chalice can produce and what is known here without the app: the stage, the app's name in
config.json, the Python, the IAM policy files in the repository.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chalice_ci.app.sandbox import (
    Ended,
    Isolation,
    Limits,
    Running,
    SandboxError,
    copy_project,
    started,
)
from chalice_ci.app.standby import CANNOT_START, Standby, loading_place
from chalice_ci.ci_secrets import Secrets, SecretVariable, spellings
from chalice_ci.graph import Expected, Loaded, LoadFailure, canonical, read_answer
from chalice_ci.neutral import neutralise, one_line

if TYPE_CHECKING:
    from chalice_ci.config import AppConfig

_MAX_CONFIG = 1024 * 1024


class AppPython(Protocol):
    """The app's own Python (see `environment.AppPython`)."""

    @property
    def executable(self) -> Path:
        """The interpreter of the app's environment."""

    @property
    def version(self) -> str:
        """Major and minor, "3.12"."""

    @property
    def chalice(self) -> str:
        """The version of Chalice in it, "1.34.0"."""


@dataclass(frozen=True, kw_only=True)
class SecretAtLoad:
    """A variable that comes from a secret; without a value the app gets the placeholder."""

    variable: SecretVariable
    value: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """An app and a stage to load.

    A stage that is only `like` another takes the other's settings. `secrets` are variables of the
    stage that come from secrets: a placeholder stands there, or the value where the app may have
    it. Of what the app says then, its placeholder takes the value's place. `layer_is_empty` says
    that a managed layer would hold nothing, `template` asks for the SAM template too, `confined`
    refuses to load where the app could not be shut in at all. `out` is where
    the run writes, which the app never sees.
    """

    app_dir: Path
    app: AppConfig
    stage: str
    region: str
    python: AppPython
    like: str | None = None
    secrets: tuple[SecretAtLoad, ...] = ()
    layer_is_empty: bool = False
    template: bool = False
    confined: bool = False
    out: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What a load gave. `output` is what the app printed, neutral; `seconds` include the copy."""

    answer: Loaded | LoadFailure
    isolation: Isolation
    output: str
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


def load_app(
    request: LoadRequest,
    *,
    work_dir: Path,
    standby: Standby | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    log: Callable[[str], None] = lambda _: None,
) -> LoadResult:
    """Load an app for a stage, by the loader that stands by if it is the right one.

    `work_dir` is an existing folder of this run that other users may traverse. A failure of the
    app is an answer; LoadError is raised for an app that cannot even be copied, or when the
    sandbox itself does not work. `log` gets every line the app printed and every warning;
    `meanwhile` is called while the app is being imported.
    """
    begun = time.monotonic()
    nonce = secrets.token_hex(16)
    executable = request.python.executable
    with contextlib.ExitStack() as stack:
        waiting = None
        if standby is not None and request.limits == Limits():
            waiting = standby.taken(executable, network=request.app.network)
        if waiting is None:
            place = stack.enter_context(loading_place(executable, work_dir))
        else:
            place = waiting[0]
        warnings = copy_project(
            request.app_dir,
            place.project,
            owner=place.owner,
            limits=request.limits,
            without=request.out,
        )
        asked = json.dumps(_request(request, place.project, nonce)).encode()
        ended = None if waiting is None else _answered(waiting[1], asked, request, meanwhile)
        if ended is None:
            program = place.program(network=request.app.network, confined=request.confined)
            running = started(program, owner=place.owner, limits=request.limits)
            with running as afresh:
                afresh.ask(asked)
                meanwhile()
                ended = afresh.ended()
        output = _output(ended, place.project, executable.parent.parent)
    output = _seen(request).redact(output)
    if ended.ended:
        warnings = (*warnings, f"The app left {ended.ended} process(es) behind; they were ended.")
    answer = _answer(ended, request, nonce, output)
    if isinstance(answer, Loaded) and answer.withheld:
        names = ", ".join(answer.withheld)
        warnings = (*warnings, f"Not set while loading, they would change the loader: {names}.")
    warnings = tuple(neutralise(warning) for warning in warnings)
    for line in (*output.splitlines(), *warnings):
        log(line)
    return LoadResult(
        answer=answer,
        isolation=ended.isolation,
        output=output,
        warnings=warnings,
        seconds=time.monotonic() - begun,
    )


def _answered(
    running: Running, asked: bytes, request: LoadRequest, meanwhile: Callable[[], None]
) -> Ended | None:
    """How the loader that stood by ended; None where it could not start and another one can."""
    running.ask(asked)
    meanwhile()
    try:
        return running.ended()
    except SandboxError:
        # It is not started where nothing would shut it in.
        if request.confined:
            raise
        return None


def _request(request: LoadRequest, project: Path, nonce: str) -> dict[str, object]:
    wall = request.limits.wall_seconds
    return {
        "project": str(project),
        "stage": request.stage,
        "region": request.region,
        "like": request.like,
        "variables": [
            {
                "name": one.variable.variable,
                "value": one.variable.placeholder if one.value is None else one.value,
                "functions": one.variable.functions,
            }
            for one in request.secrets
        ],
        "layer_is_empty": request.layer_is_empty,
        "template": request.template,
        # A little earlier than the sandbox, so that the answer can name the line.
        "seconds": max(wall - 2, wall * 0.8),
        "answer": {"fd": 3, "nonce": nonce},
    }


def _output(ended: Ended, *folders: Path) -> str:
    text = ended.output.decode("utf-8", "replace")
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    output = neutralise(text).rstrip("\n")
    return f"{output}\n[the rest of the output was cut]" if ended.output_cut else output


def _answer(ended: Ended, request: LoadRequest, nonce: str, output: str) -> Loaded | LoadFailure:
    failure = _ended_early(ended, request.limits, output)
    if failure is not None:
        return failure
    first, _, document = ended.answer.partition(b"\n")
    if not secrets.compare_digest(first, nonce.encode()):
        return LoadFailure(kind="forged", message="The answer does not come from the loader.")
    answer = read_answer(
        _with_placeholders(document, request),
        app_path=request.app.path,
        chalice_version=request.python.chalice,
        expected=Expected(
            stage=request.stage,
            app_name=_configured_name(request.app_dir),
            python_version=request.python.version,
        ),
    )
    if isinstance(answer, Loaded):
        for policy in answer.graph.of_type("FileBasedIAMPolicy"):
            if not _is_in_repository(policy.fields, request.app_dir):
                name = policy.fields["filename"]
                return LoadFailure(
                    kind="forged", message=f"The IAM policy is not the one in {name}."
                )
    return answer


def _seen(request: LoadRequest) -> Secrets:
    """The values that the app was given."""
    return Secrets(
        values={one.variable.secret: one.value for one in request.secrets if one.value is not None}
    )


def _with_placeholders(document: bytes, request: LoadRequest) -> bytes:
    """The answer without the values that the app was given, whole or in a usual encoding."""
    for one in request.secrets:
        for form in spellings(one.value or ""):
            document = document.replace(form.encode(), one.variable.placeholder.encode())
    return document


def _ended_early(ended: Ended, limits: Limits, output: str) -> LoadFailure | None:
    """Why there can be no answer, or None when there should be one."""
    match ended.reason:
        case "timeout":
            return LoadFailure(
                kind="timeout", message=f"It was stopped after {limits.wall_seconds:g} seconds."
            )
        case "memory":
            return LoadFailure(
                kind="memory", message=f"It used more than {limits.memory_bytes} bytes."
            )
        case "disk":
            return LoadFailure(
                kind="filesystem",
                message=(
                    f"It wrote more than {limits.written_bytes} bytes or "
                    f"{limits.written_files} files."
                ),
            )
        case "answer":
            return LoadFailure(
                kind="too-large", message=f"It has more than {limits.answer_bytes} bytes."
            )
        case "left":
            return LoadFailure(
                kind="killed",
                message="What the app started could not be ended, so its answer is not used.",
            )
    if ended.status == CANNOT_START:
        said = [line for line in output.splitlines() if line.strip()]
        last = one_line(said[-1]) if said else ""
        return LoadFailure(
            kind="chalice", message=f"Chalice cannot be imported in the app's Python: {last}"
        )
    if ended.status is None:
        return LoadFailure(kind="killed", message="It was stopped.")
    if ended.status < 0:
        return _killed(-ended.status)
    if ended.status > 0 or not ended.answer:
        return LoadFailure(
            kind="system-exit",
            message=f"The process ended itself with exit code {ended.status} (os._exit).",
        )
    return None


def _killed(number: int) -> LoadFailure:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name == "SIGXCPU":
        return LoadFailure(kind="cpu", message="It used up its processor time.")
    words = {
        "SIGSEGV": " (a crash, often of a compiled dependency or from endless recursion)",
        "SIGABRT": " (a crash, often of a compiled dependency)",
        "SIGKILL": " (out of memory, or the app ended itself)",
        "SIGSYS": " (a system call of another architecture)",
    }
    return LoadFailure(
        kind="killed", type=name, message=f"It died from {name}{words.get(name, '')}."
    )


def _configured_name(app_dir: Path) -> str | None:
    """`app_name` as Chalice finds it in config.json."""
    config = _read_json(app_dir, ".chalice/config.json")
    name = config.get("app_name") if isinstance(config, dict) else None
    return None if name is None else str(name)[:4000]


def _is_in_repository(policy: Mapping[str, object], app_dir: Path) -> bool:
    document = _read_json(app_dir, str(policy["filename"]))
    try:
        return document is not None and canonical(document) == canonical(policy["document"])
    except ValueError:  # half a character, which no answer may hold
        return False


def _read_json(app_dir: Path, name: str) -> object:
    """A JSON file of the app, or None; a link that leaves the app is not followed."""
    root = app_dir.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_file() or path.stat().st_size > _MAX_CONFIG:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
