"""Values of environment variables: in no comment, no summary, no report, no output, no log."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from chalice_ci.forge.local import LocalForge
from chalice_ci.local import EmbeddedAWS
from support.commandline import chalice_ci, commit, git, hello, write
from support.steps import event, pull_request

VALUES = {
    "DB_PASSWORD": "correct-horse-battery-staple",
    "API_TOKEN": "ghp_" + "Zq9" * 12,
    "GREETING": "a-plain-value-of-the-configuration",
    "NESTED": '{"password": "nested-and-quoted"}',
}
SECRETS = (*VALUES.values(), "nested-and-quoted")


def config(values: dict[str, str]) -> str:
    stages: dict[str, Any] = {"dev": {"environment_variables": values}, "prod": {}}
    return json.dumps({"version": "2.0", "app_name": "hello", "stages": stages})


def test_a_preview_tells_no_value_of_a_variable_anywhere(tmp_path: Path) -> None:
    """Created with them, then updated to others."""
    (tmp_path / "forge").mkdir()
    forge = LocalForge(tmp_path / "forge")
    yml = "version: 1\nstages:\n  dev: {deploy-on: {branch: main}}\npreview: {like: dev}\n"
    repository = hello(tmp_path / "r", **{"chalice-ci.yml": yml})
    git(repository, "switch", "--quiet", "--create", "feature")
    told: list[str] = []
    with EmbeddedAWS.start() as aws:
        for run, values in enumerate((VALUES, {**VALUES, "DB_PASSWORD": "another-staple"}), 1):
            write(repository, {".chalice/config.json": config(values)})
            head = commit(repository)
            if run == 1:
                base = git(repository, "rev-parse", "main")
                forge.create_pull_request(head_ref="feature", head_sha=head, base_sha=base)
            env = event(
                repository,
                tmp_path,
                "pull_request",
                action="opened" if run == 1 else "synchronize",
                run=run,
                pull=pull_request(repository),
            )
            env |= {**aws.environ, "CHALICE_CI_GATEWAY_URL": aws.gateway_url}
            ran = chalice_ci("run", "--local-forge", str(forge.name), cwd=repository, **env)
            assert ran.code == 0, ran.out + ran.err
            told += [ran.out, ran.err]
            told += [Path(env[v]).read_text() for v in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")]
            told += [(repository / "chalice-ci-out" / "report.json").read_text()]
            comment = forge.sticky_comment(1)
            assert comment is not None
            told.append(comment.body)
    # They were looked at: the finding names the variable, and the preview has them.
    assert any("DB_PASSWORD" in text for text in told)
    assert "✅ deployed" in told[-1]
    for secret in (*SECRETS, "another-staple"):
        encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
        quoted = json.dumps(secret)[1:-1]
        for text in told:
            assert not {part for part in (secret, encoded, quoted) if part in text}
