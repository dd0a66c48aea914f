"""Loads an app in the sandbox and reads what comes back.

    copy the app ──► confine ──► chalice_ci_child.load, in the app's Python ──► answer ──► check it

One call is one stage in one process. `answer` reads what comes back; it is imported while the app
is, as nothing else waits for it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable
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
from chalice_ci.app.standby import Standby, loading_place
from chalice_ci.ci_secrets import Secrets, SecretVariable
from chalice_ci.neutral import neutralise
from chalice_ci.template import TemplateRequest

if TYPE_CHECKING:
    from chalice_ci.config import AppConfig
    from chalice_ci.graph import Loaded, LoadFailure


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
    that a managed layer would hold nothing, `template` asks for a template too, `confined`
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
    template: TemplateRequest | None = None
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
    # Late: no load waits for it.
    from chalice_ci.app.answer import answer_of
    from chalice_ci.graph import Loaded

    answer = answer_of(ended, request, nonce, output)
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
        "template": None if request.template is None else request.template.wire,
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


def _seen(request: LoadRequest) -> Secrets:
    """The values that the app was given."""
    return Secrets(
        values={one.variable.secret: one.value for one in request.secrets if one.value is not None}
    )
