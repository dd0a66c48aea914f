"""What is known of an app when its Chalice version is judged. Pure: texts in, nothing is run."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from chalice_ci.chalice_config import ChaliceConfig
from chalice_ci.findings import Place
from chalice_ci.graph import Loaded
from chalice_ci.source import Source
from chalice_ci.upgrade.python_calls import PythonCalls
from chalice_ci.upgrade.scripts import Script


@dataclass(frozen=True, kw_only=True)
class AppFacts:
    """An app as its repository has it, in one stage.

    `files` are texts below the app's folder by their path there (`.chalice/deployed.json`); a file
    or folder whose text does not matter is there with an empty text. `requirements` are the
    normalised names that requirements.txt asks for, with their places. `python` is the app's
    ("3.12"), `settings_stage` the stage whose settings hold. What is not known is empty or None.
    """

    source: Source
    stage: str = ""
    settings_stage: str = ""
    scripts: tuple[Script, ...] = ()
    config: ChaliceConfig | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    requirements: Mapping[str, Place] = field(default_factory=dict)
    chalice: str = ""
    python: str = ""
    region: str = ""
    loaded: Loaded | None = None

    @functools.cached_property
    def calls(self) -> PythonCalls:
        """The app's source, looked through once."""
        return PythonCalls(self.source)

    def path(self, inside: str) -> Place:
        """The place of a file of the app."""
        return Place(file=self.source.path(inside))

    def setting(self, key: str) -> object:
        """The value of config.json that holds in the stage."""
        return self.config.lookup(self.settings_stage, key) if self.config else None

    def document(self, inside: str) -> Mapping[str, object] | None:
        """The JSON object in a file of the app, None when it is none."""
        try:
            document = json.loads(self.files.get(inside, ""))
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None
