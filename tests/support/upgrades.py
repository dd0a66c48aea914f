"""Facts of apps for the upgrade tests: real files, read as a check reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalice_ci.chalice_config import read_chalice_config
from chalice_ci.config import AppConfig
from chalice_ci.findings import Finding
from chalice_ci.upgrade.facts import AppFacts
from chalice_ci.upgrade.findings import upgrade_findings
from chalice_ci.upgrade.reading import StageAsked, read_facts

CONFIG = {"version": "2.0", "app_name": "orders", "stages": {"dev": {}, "prod": {}}}
APP = AppConfig(name="orders", path=".")


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """A project with these files, `.chalice/config.json` among them."""
    given = {".chalice/config.json": json.dumps(CONFIG), **files}
    for name, text in given.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def facts(folder: Path, files: Mapping[str, str] | None = None, **asked: Any) -> AppFacts:
    """The facts of a project in one stage."""
    if files is not None:
        write(folder, files)
    config, _ = read_chalice_config(folder, repo_root=folder)
    stage = StageAsked(**{"stage": "dev", "chalice": "1.34.0", "python": "3.12", **asked})
    (one,) = read_facts(folder, APP, [stage], config=config, apps=(APP,))
    return one


def found(folder: Path, files: Mapping[str, str], **asked: Any) -> tuple[Finding, ...]:
    """What every check says about a project in one stage."""
    return upgrade_findings((facts(folder, files, **asked),))
