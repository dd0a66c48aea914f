"""What comes back from a loader, read and held against what is known without the app.

It is believed only in so far as it fits what Chalice can produce and what is known here: the stage,
the app's name in config.json, the Python, the IAM policy files in the repository.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.app.standby import CANNOT_START
from chalice_ci.ci_secrets import spellings
from chalice_ci.graph import Expected, Loaded, LoadFailure, canonical, read_answer
from chalice_ci.neutral import one_line

if TYPE_CHECKING:
    from chalice_ci.app.client import LoadRequest
    from chalice_ci.app.sandbox import Ended, Limits

_MAX_CONFIG = 1024 * 1024


def answer_of(ended: Ended, request: LoadRequest, nonce: str, output: str) -> Loaded | LoadFailure:
    """What a load that ended so is worth; `output` is what the app printed, neutral."""
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
            template=request.template,
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
    path = Path(os.path.realpath(root / name))
    if not path.is_relative_to(root) or not path.is_file() or path.stat().st_size > _MAX_CONFIG:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
