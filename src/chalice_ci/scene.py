"""What is known of a run before its configuration is read: enough to say how it ended."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.ci_secrets import NO_SECRETS, Secrets
from chalice_ci.context import Context
from chalice_ci.findings import Severity
from chalice_ci.inputs import COMMENT, FAIL_ON, Inputs
from chalice_ci.privilege import acts_for_others
from chalice_ci.report.progress import Progress
from chalice_ci.world import World

if TYPE_CHECKING:
    from chalice_ci.forge.port import Forge


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The surroundings of a run; `out` is the output folder."""

    world: World
    inputs: Inputs
    progress: Progress
    out: Path
    context: Context = field(default_factory=Context)
    forge: Forge | None = None
    secrets: Secrets = NO_SECRETS

    @property
    def root(self) -> Path:
        """The folder whose owner gets the files that are written."""
        return self.world.cwd

    @property
    def comments(self) -> bool:
        """Whether the pull request is told how it goes."""
        return self.inputs.flag(COMMENT)

    @property
    def fail_on(self) -> Severity:
        """The lightest finding that fails the build."""
        return Severity(self.inputs.text(FAIL_ON))

    def hide(self, value: str) -> None:
        """Let the runner hide a secret too: what another step prints, we do not see."""
        if self.world.env.get("GITHUB_ACTIONS") == "true":
            # Late: a verb without secrets needs none of it.
            from chalice_ci.report.annotations import mask

            self.world.stderr.writelines(f"{line}\n" for line in mask(value))
            self.world.stderr.flush()

    def shown(self, path: Path) -> str:
        """A path as a person would type it: relative to the current directory where it can be."""
        with contextlib.suppress(ValueError):
            return path.absolute().relative_to(self.world.cwd).as_posix()
        return str(path)

    def append(self, variable: str, text: str) -> None:
        """Append to one of the runner's files, such as GITHUB_OUTPUT, when there is one."""
        path = self.world.env.get(variable)
        if path:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(text)

    def hand_over(self, path: Path) -> None:
        """Give a file or folder that root wrote to the owner of the workspace, for later steps."""
        owner = self.root.stat()
        if self.world.uid != 0 or owner.st_uid == 0 or not acts_for_others():
            return
        for one in (path, *(path.rglob("*") if path.is_dir() else ())):
            os.chown(one, owner.st_uid, owner.st_gid, follow_symlinks=False)
