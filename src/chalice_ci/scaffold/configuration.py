"""chalice-ci.yml for a repository."""

from __future__ import annotations

import json
from collections.abc import Iterator

from chalice_ci.context import System
from chalice_ci.scaffold.identity import ROLE
from chalice_ci.scaffold.role import role_name
from chalice_ci.scaffold.setting import Setting, environment_of


def configuration(setting: Setting) -> str:
    """The text of chalice-ci.yml: what Chalice's own files do not say."""
    return "\n".join(_lines(setting)) + "\n"


def _lines(setting: Setting) -> Iterator[str]:
    yield "# Where each stage is deployed from. All keys: docs/configuration.md of chalice-ci."
    yield "version: 1"
    if [app.path for app in setting.apps] != ["."]:
        yield "apps:"
        for app in setting.apps:
            yield f"  {app.name}: {{path: {json.dumps(app.path)}}}"
    yield "stages:"
    before = ""
    for stage in setting.stages:
        yield f"  {stage}:"
        if setting.is_gated(stage):
            # A pipeline of CodePipeline follows a branch, and deploys one stage.
            if setting.system is not System.CODEBUILD:
                yield '    deploy-on: {tag: "v*"}'
            yield f"    environment: {environment_of(stage)} # its reviewers approve the plan"
        else:
            yield f"    deploy-on: {{branch: {json.dumps(setting.branch)}}}"
        if before and setting.system is not System.CODEBUILD:
            yield f"    needs: {before} # the same package has to be live there"
        if setting.account:
            yield f'    account: "{setting.account}"'
        if setting.gitlab and setting.account:
            yield f"    role: arn:aws:iam::{setting.account}:role/{role_name(setting, ROLE)}"
        if setting.region:
            yield f"    region: {setting.region}"
        before = stage
    if setting.bucket:
        yield f"state: {{store: s3, bucket: {setting.bucket}}}"
    if setting.previews:
        yield "preview:"
        yield f"  like: {setting.first}"
        yield "  ttl: 7d"
