"""The real command in this process: nothing is faked, only Python is not started anew each time."""

from __future__ import annotations

import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from chalice_ci.cli import command_line
from chalice_ci.errors import ExitCode, UserError
from chalice_ci.pipeline import run_verb
from chalice_ci.world import World
from support.commandline import Ran, environ


def run_here(*arguments, cwd, now=None, stdin=None, **env):
    """Run `chalice-ci` as `__main__` does; how it ended."""
    out, err = io.StringIO(), io.StringIO()
    world = World(
        env=environ(**env),
        cwd=Path(cwd),
        now=now or (lambda: datetime.now(UTC)),
        stdout=out,
        stderr=err,
        python=Path(sys.executable),
        uid=os.geteuid(),
        stdin=stdin,
    )
    group = command_line(
        lambda verb, inputs, given: run_verb(verb, inputs, given, world), world.env
    )
    try:
        code = group.main([str(a) for a in arguments], standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as problem:
        problem.show(file=err)
        code = ExitCode.USAGE
    except UserError as error:
        err.write(f"Error: {error}\n")
        code = error.exit_code
    return Ran(code=int(code or 0), out=out.getvalue(), err=err.getvalue())
