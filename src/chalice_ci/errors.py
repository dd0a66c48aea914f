"""Errors that a user can act on: where, what, how to fix it, and the exit code that it owns."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit codes of the command and, by name, the values of the `failure-reason` output."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    LOAD_FAILED = 10
    PACKAGE_FAILED = 11
    AWS_FAILED = 12
    FORGE_FAILED = 13
    LEASE_HELD = 14
    STATE_MOVED = 15
    PLAN_REFUSED = 16
    STATE_NOT_RECORDED = 17
    NOT_OURS = 18
    WRONG_ACCOUNT = 19
    SMOKE_FAILED = 20
    DEFECT = 70
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def reason(self) -> str:
        """The value of `failure-reason`: the name in lower case with dashes, empty for success."""
        return "" if self is ExitCode.OK else self.name.lower().replace("_", "-")

    @property
    def meaning(self) -> str:
        """One line for the documentation's table."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "fine",
    ExitCode.FINDINGS: "findings: the build should fail",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.LOAD_FAILED: "the app could not be loaded (in `check` it is a finding)",
    ExitCode.PACKAGE_FAILED: "package: dependency, platform, size",
    ExitCode.AWS_FAILED: "AWS refused or failed",
    ExitCode.FORGE_FAILED: "the forge refused or failed",
    ExitCode.LEASE_HELD: "the stage's lease is held",
    ExitCode.STATE_MOVED: "the state moved since the plan",
    ExitCode.PLAN_REFUSED: "plan refused (digest, commit, expiry, other operations, a loss)",
    ExitCode.STATE_NOT_RECORDED: "deployed, but the state could not be recorded",
    ExitCode.NOT_OURS: "a resource is not ours",
    ExitCode.WRONG_ACCOUNT: "wrong account or region",
    ExitCode.SMOKE_FAILED: "smoke check failed",
    ExitCode.DEFECT: "a defect of ours (says how to report it)",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}


class UserError(Exception):
    """An error with a place, a sentence and a way out.

    `where` is a place a person can open ("chalice-ci.yml:12:5", "orders/dev", "uv"), `what` one or
    more sentences, `fix` what to do. A subclass owns its exit code.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\nFix: {self.fix}" if self.fix else head


_SURROUNDINGS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""What the machine refuses, not what we did wrong: full, read-only, forbidden, in the way."""


def refused_by_machine(problem: OSError) -> UserError | None:
    """What the machine refused, as something a person can mend; None for a defect of ours."""
    if problem.errno not in _SURROUNDINGS:
        return None
    return UsageError(
        f"{problem.strerror}.",
        where=str(problem.filename or problem.filename2 or "this machine"),
        fix="Make that place writable and see that the disk has room, or take another one with "
        "--out, --cache-dir or TMPDIR.",
    )


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Make what the machine refuses name its file: a write to a full disk does not."""
    try:
        yield
    except OSError as problem:
        if problem.filename is not None or problem.errno is None:
            raise
        raise OSError(problem.errno, problem.strerror, str(path)) from problem


class UsageError(UserError):
    """An option, an input or the configuration is wrong."""

    exit_code = ExitCode.USAGE


class LoadError(UserError):
    """The app could not be loaded."""

    exit_code = ExitCode.LOAD_FAILED


class PackageError(UserError):
    """A dependency, the platform or the size stands against the package."""

    exit_code = ExitCode.PACKAGE_FAILED


class AWSError(UserError):
    """AWS refused or failed."""

    exit_code = ExitCode.AWS_FAILED


class NoCredentials(AWSError):
    """There are no credentials at all: what only looks can do without."""


class ForgeError(UserError):
    """The forge (GitHub, GitLab, ...) refused or failed."""

    exit_code = ExitCode.FORGE_FAILED


class LeaseHeld(UserError):
    """Somebody else is deploying this stage."""

    exit_code = ExitCode.LEASE_HELD


class StateMoved(UserError):
    """The stage's state changed after the plan was sealed."""

    exit_code = ExitCode.STATE_MOVED


class PlanRefused(UserError):
    """The plan is not what was approved: digest, commit, expiry or other operations."""

    exit_code = ExitCode.PLAN_REFUSED


class StateNotRecorded(UserError):
    """Deployed, but the state could not be recorded."""

    exit_code = ExitCode.STATE_NOT_RECORDED


class NotOurs(UserError):
    """A resource that would be changed or deleted does not belong to this app and stage."""

    exit_code = ExitCode.NOT_OURS


class WrongAccount(UserError):
    """The credentials belong to another account or the region is not the stage's."""

    exit_code = ExitCode.WRONG_ACCOUNT


class SmokeFailed(UserError):
    """The deployed stage does not answer as it should."""

    exit_code = ExitCode.SMOKE_FAILED
