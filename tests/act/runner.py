"""The real `act`, with the image of this tree as the action and stand-ins for actions of others.

Offline there are no actions to fetch. `actions/checkout` is skipped by `act` itself, which copies
the work tree. The others are stood in for by composite actions with the same inputs that do what
matters here: hand a file from one job to another, and export the variables of an AWS - the embedded
one - without asking anybody whether the role may be taken. So what is shown is that the example's
triggers, conditions, needs, inputs, outputs and files fit together around the real image; not that
the pinned actions work, not OIDC, not the wait for an approval, which `act` does not know. `act`
has one token for all jobs of a run: each job's own permissions are shown where one job runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalice_ci.action import action_text, rehearsal_text
from image.engine import Engine

ROOT = Path(__file__).parents[2]
OURS = "org/chalice-action@v1"
REHEARSAL = "org/chalice-action/rehearsal@v1"
SHARED = "/shared"
TOOK = "stand-in: took the role"
_USES = re.compile(r"uses: (\S+/\S+@\S+)")
_SECONDS = 400

_UPLOAD = f"""\
name: stand-in for actions/upload-artifact
inputs:
  name: {{required: true}}
  path: {{required: true}}
  if-no-files-found: {{}}
  retention-days: {{}}
  overwrite: {{}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {{NAME: "${{{{ inputs.name }}}}", FILE: "${{{{ inputs.path }}}}"}}
      run: |
        mkdir -p "{SHARED}/$NAME"
        cp "$FILE" "{SHARED}/$NAME/"
"""
_DOWNLOAD = f"""\
name: stand-in for actions/download-artifact
inputs: {{name: {{}}, pattern: {{}}, path: {{required: true}}, run-id: {{}}, github-token: {{}}}}
runs:
  using: composite
  steps:
    - shell: bash
      env:
        NAME: "${{{{ inputs.name }}}}"
        PATTERN: "${{{{ inputs.pattern }}}}"
        FOLDER: "${{{{ inputs.path }}}}"
      run: |
        mkdir -p "$FOLDER"
        if [ "$NAME" ]; then cp "{SHARED}/$NAME"/* "$FOLDER/"; exit; fi
        # Several artifacts: each in a folder of its own.
        for each in "{SHARED}"/$PATTERN; do
          if [ -d "$each" ]; then cp -R "$each" "$FOLDER/"; fi
        done
"""
_CREDENTIALS = """\
name: stand-in for aws-actions/configure-aws-credentials
inputs: {role-to-assume: {required: true}, aws-region: {required: true}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {ROLE: "${{ inputs.role-to-assume }}", REGION: "${{ inputs.aws-region }}"}
      run: |
        echo "TOOK $ROLE in $REGION"
        cat SHARED/aws.env >> "$GITHUB_ENV"
        printf 'AWS_REGION=%s\\nAWS_DEFAULT_REGION=%s\\n' "$REGION" "$REGION" >> "$GITHUB_ENV"
""".replace("TOOK", TOOK).replace("SHARED", SHARED)
_CACHE = """\
name: stand-in for actions/cache
inputs: {path: {required: true}, key: {required: true}, restore-keys: {}}
runs:
  using: composite
  steps: [{shell: bash, run: "true"}]
"""
_STAND_INS = {
    "actions/cache": _CACHE,
    "actions/upload-artifact": _UPLOAD,
    "actions/download-artifact": _DOWNLOAD,
    "aws-actions/configure-aws-credentials": _CREDENTIALS,
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run of a workflow ended."""

    code: int
    said: str

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that were taken, in order."""
        return tuple(re.findall(rf"{TOOK} \S+:role/(\S+) in", self.said))

    @property
    def jobs(self) -> dict[str, bool]:
        """The jobs that ran, by name, and whether each succeeded."""
        found = re.findall(r"^\[[^\]]*/([^\]]+?)\s*\].*Job (succeeded|failed)", self.said, re.M)
        # `act` numbers the jobs of a matrix.
        return {re.sub(r"-\d+$", "", name): how == "succeeded" for name, how in found}


@dataclass(frozen=True, kw_only=True)
class Act:
    """Runs workflows. `platform` is the image of the job, `action` and `rehearsal` are ours,
    `folder` is its own place.

    `options` are further ones of the containers.
    """

    engine: Engine
    platform: str
    action: str
    rehearsal: str
    folder: Path
    options: tuple[str, ...] = ()

    def run(
        self,
        workflow: Path,
        event: str,
        payload: Mapping[str, Any],
        *,
        workspace: Path,
        token: str,
        env: Mapping[str, str],
        aws: Mapping[str, str],
        called: tuple[Path, ...] = (),
    ) -> Ended:
        """Run what an event starts, in a copy of the workspace, which is a git repository.

        `called` are the reusable workflows that it calls.
        """
        shared = self.folder / "shared"
        shared.mkdir(parents=True, exist_ok=True)
        for left in () if event == "workflow_run" else tuple(shared.iterdir()):
            # Artifacts are a run's own, but for the run that another one is told of.
            if left.is_dir():
                shutil.rmtree(left)
        (shared / "aws.env").write_text("".join(f"{k}={v}\n" for k, v in aws.items()))
        file = self.folder / "event.json"
        file.write_text(json.dumps(payload))
        command = [
            *(Path(sys.executable).parent / "act", event),
            *("--workflows", workflow, "--eventpath", file, "--directory", workspace),
            *("--platform", f"ubuntu-latest={self.platform}", "--pull=false"),
            *("--container-daemon-socket", "-", "--network", "host", "--rm"),
            *("--container-options", " ".join((f"--volume {shared}:{SHARED}", *self.options))),
            *("--action-cache-path", self.folder / "actions"),
            *("--actor", payload["sender"]["login"]),
            *(part for used in self._repositories(workflow, called) for part in used),
            *(part for name, value in env.items() for part in ("--env", f"{name}={value}")),
            *("--secret", "GITHUB_TOKEN"),
        ]
        home = self.folder / "home"
        (home / ".config/act").mkdir(parents=True, exist_ok=True)
        (home / ".config/act/actrc").touch()
        try:
            done = subprocess.run(
                [str(part) for part in command],
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "HOME": str(home),
                    "DOCKER_HOST": f"unix://{self.engine.socket}",
                    "GITHUB_TOKEN": token,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            # Its containers do not end with it.
            self.engine.kill_all(f"volume={shared}")
            said = (late.stdout or b"").decode("utf-8", "replace")
            raise AssertionError(f"act was not done after {_SECONDS} s: {said}") from None
        return Ended(code=done.returncode, said=done.stdout.decode("utf-8", "replace"))

    def _repositories(self, workflow: Path, called: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
        texts = [workflow.read_text(), *(path.read_text() for path in called)]
        for used in sorted(set(_USES.findall("\n".join(texts)))):
            name = used.partition("@")[0]
            if name == "actions/checkout":
                continue
            owner, repository, *inner = name.split("/")
            place = self.folder / "repositories" / f"{owner}-{repository}"
            folder = place.joinpath(*inner)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "action.yml").write_text(self._action(used, name))
            version = used.partition("@")[2]
            yield "--local-repository", f"{owner}/{repository}@{version}={place}"

    def _action(self, used: str, name: str) -> str:
        if used == OURS:
            return action_text(image=f"docker://{self.action}")
        if used == REHEARSAL:
            return rehearsal_text(image=f"docker://{self.rehearsal}")
        return _STAND_INS[name]
