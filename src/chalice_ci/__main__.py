"""The only reader of the process's environment and arguments; turns an error into an exit code."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType

_ENDINGS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""The signals that end a run, and its exit codes then."""

_LOADING = ("run", "check", "package", "diff", "plan", "deploy")
"""The commands that load an app."""


def _leave(number: int, _frame: FrameType | None) -> None:
    os.write(2, b"Interrupted before anything was begun.\n")
    os._exit(_ENDINGS[signal.Signals(number)])


# Before anything else is imported, which takes longer than a finger on Ctrl-C.
for _number in _ENDINGS:
    signal.signal(_number, _leave)

# What is imported stays: to look through it for garbage while importing takes a tenth of that time.
gc.set_threshold(50_000, 20, 50)

import contextlib  # noqa: E402
import errno  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, NoReturn  # noqa: E402

import click  # noqa: E402

from chalice_ci import __version__  # noqa: E402
from chalice_ci.cli import Runner, command_line  # noqa: E402
from chalice_ci.errors import ExitCode, UsageError, UserError, refused_by_machine  # noqa: E402
from chalice_ci.inputs import (  # noqa: E402
    APP,
    CACHE_DIR,
    COMMAND,
    PLAN,
    PROJECT_DIR,
    STAGE,
    Inputs,
)
from chalice_ci.signals import Signals, Terminated, hear_no_more  # noqa: E402
from chalice_ci.streams import Steady, take_over  # noqa: E402

if TYPE_CHECKING:
    from chalice_ci.app.standby import Standby
    from chalice_ci.world import World


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with a code of the table."""
    out, _ = take_over()
    code = _guarded(list(sys.argv[1:] if argv is None else argv), os.environ)
    code = _heard(out, code, os.environ)
    hear_no_more()
    gc.freeze()
    sys.exit(int(code))


def _guarded(argv: list[str], env: Mapping[str, str]) -> ExitCode | int:
    signals = Signals()
    try:
        signals.listen()
        result = command_line(_runner(env, signals), env).main(
            args=argv, prog_name="chalice-ci", standalone_mode=False
        )
        code = int(result or 0)
        signals.over = True
        return code
    except BaseException as error:
        # click makes an Abort of a KeyboardInterrupt.
        signals.ended_by(error.__cause__ or error if isinstance(error, click.Abort) else error)
        return _ended(error, env)


def _ended(error: BaseException, env: Mapping[str, str]) -> ExitCode | int:
    """Tell why a run did not come to its end; the exit code of that."""
    problem = refused_by_machine(error) if isinstance(error, OSError) else error
    if isinstance(problem, click.exceptions.Exit):
        return problem.exit_code
    if isinstance(problem, click.ClickException):
        problem.show()
        return ExitCode.USAGE
    if isinstance(problem, UserError):
        _tell(str(problem), problem, env)
        return problem.exit_code
    if isinstance(problem, (KeyboardInterrupt, click.Abort)):
        _tell("Interrupted. What was recorded so far stays recorded.", None, env)
        return ExitCode.INTERRUPTED
    if isinstance(problem, Terminated):
        _tell("Terminated. What was recorded so far stays recorded.", None, env)
        return ExitCode.TERMINATED
    _report_defect(error, env)
    return ExitCode.DEFECT


def _heard(out: Steady, code: ExitCode | int, env: Mapping[str, str]) -> ExitCode | int:
    """The exit code, or another one when the result could not be written to stdout.

    A reader that had enough (`chalice-ci url | head -1`) is no problem.
    """
    out.flush()
    if out.lost is None or out.lost.errno == errno.EPIPE or code:
        return code
    problem = UserError(f"{out.lost.strerror}.", where="stdout", fix="report.json has the result.")
    _tell(str(problem), problem, env)
    return problem.exit_code


def _runner(env: Mapping[str, str], signals: Signals) -> Runner:
    def run(verb: str, inputs: Inputs, arguments: Mapping[str, str]) -> ExitCode:
        # Late: `--help` and usage errors need none of it.
        from chalice_ci.world import World

        world = World(
            env=dict(env),
            cwd=_current_folder(),
            now=lambda: datetime.now(UTC),
            stdout=sys.stdout,
            stderr=sys.stderr,
            stdin=sys.stdin,
            python=Path(sys.executable),
            uid=os.geteuid(),
            signals=signals,
        )
        with _standby(verb, inputs, world) as standby:
            # The loader imports what it needs while we do.
            from chalice_ci.pipeline import run_verb

            return run_verb(verb, inputs, arguments, replace(world, standby=standby))

    return run


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current directory is not there any more.",
            where=".",
            fix="Change into a directory that exists (`cd`), and run again.",
        ) from error


def _standby(
    verb: str, inputs: Inputs, world: World
) -> contextlib.AbstractContextManager[Standby | None]:
    """A loader for what will probably be loaded."""
    command = inputs.text(COMMAND) if verb == "action" else verb
    if command not in _LOADING or inputs.text(PLAN):
        return contextlib.nullcontext()
    from chalice_ci.app.standby import standing_by

    project = (world.cwd / (inputs.path(PROJECT_DIR) or ".")).absolute()
    asked = (inputs.lines(APP), inputs.lines(STAGE))
    return standing_by(world.cache_dir(inputs.path(CACHE_DIR)), str(project), *asked)


def _tell(text: str, problem: UserError | None, env: Mapping[str, str]) -> None:
    from chalice_ci.neutral import neutralise
    from chalice_ci.report.annotations import failure
    from chalice_ci.report.report import Failure

    print(neutralise(f"Error: {text}" if problem else text), file=sys.stderr)
    if problem and env.get("GITHUB_ACTIONS") == "true":
        # The runner reads stderr too, and stdout may have to be JSON and nothing else.
        print(failure(Failure.of(problem)), file=sys.stderr)
    if problem and env.get("TF_BUILD", "").lower() == "true":
        from chalice_ci.report.azure import issue_of_failure

        print(issue_of_failure(Failure.of(problem)), file=sys.stderr)


def _report_defect(defect: BaseException, env: Mapping[str, str]) -> None:
    """A defect of ours: the trace goes to a file, the person gets a sentence."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="chalice-ci-defect-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"chalice-ci {__version__}, Python {sys.version}\n")
        traceback.print_exception(defect, file=file)
    problem = UserError(
        f"a defect of chalice-ci: {type(defect).__name__}.",
        fix=f"Please report it with the file {file.name} (read it first: it may name your files).",
    )
    _tell(str(problem), problem, env)


if __name__ == "__main__":
    main()
