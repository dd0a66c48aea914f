"""The template that a run asks for, and what is written of it: for `package`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from chalice_ci.errors import PackageError, UsageError
from chalice_ci.graph import Loaded
from chalice_ci.inputs import MERGE_TEMPLATE, PKG_FORMAT
from chalice_ci.report.report import Failure, Result
from chalice_ci.run import Run
from chalice_ci.template import MergeFile, PackageFormat, TemplateRequest

MODELS = "models.json"
_MAX_MERGE = 4 * 1024 * 1024
_FIX = "Give a template of CloudFormation in JSON or YAML: its `Resources` are merged by name."


class MergeUnreadable(ValueError):
    """A file to merge that is no mapping in JSON or YAML; the message says what is wrong."""


def wanted_template(run: Run) -> TemplateRequest:
    """What `pkg-format` and `merge-template` ask for. Raises UsageError for what is no template."""
    form = PackageFormat(run.inputs.text(PKG_FORMAT))
    path = run.inputs.path(MERGE_TEMPLATE)
    if path is None:
        return TemplateRequest(form=form)
    if form is PackageFormat.TERRAFORM:
        raise UsageError(
            "Chalice merges templates of CloudFormation only.",
            where="merge-template",
            fix="Leave it out: Terraform reads every .tf.json file of a folder.",
        )
    file = run.world.cwd / path
    if not file.is_file():
        raise UsageError("there is no such file.", where=str(path), fix=_FIX)
    try:
        raw = file.read_bytes()
        if len(raw) > _MAX_MERGE:
            raise UsageError("the file is larger than 4 MiB.", where=str(path), fix=_FIX)
        merge = merge_file(file.name, raw.decode("utf-8"))
    except OSError as error:
        raise UsageError(
            f"the file can't be read: {error.strerror}.", where=str(path), fix=_FIX
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8.", where=str(path), fix=_FIX) from error
    except MergeUnreadable as error:
        raise UsageError(f"{error}.", where=str(path), fix=_FIX) from error
    return TemplateRequest(merge=merge)


def merge_file(name: str, text: str) -> MergeFile:
    """A file to merge, read as far as its resources' names. Raises MergeUnreadable."""
    found = _read(name, text)
    if not isinstance(found, dict):
        raise MergeUnreadable("it must be a mapping, as a template is")
    resources = found.get("Resources")
    if resources is not None and not isinstance(resources, dict):
        raise MergeUnreadable("its `Resources` must be a mapping")
    return MergeFile(name=name, text=text, resources=frozenset(map(str, resources or {})))


def _read(name: str, text: str) -> Any:
    """As Chalice reads it: the ending tells the form; `!Sub` and the like stand for a value."""
    if PurePath(name).suffix.lower() not in (".yaml", ".yml"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MergeUnreadable(f"it is not valid JSON: {error}") from error

    # Late: few templates are merged, and fewer in YAML.
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads past the tags of CloudFormation."""

    Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)
    try:
        return yaml.load(text, Loader=Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise MergeUnreadable(f"it is not valid YAML: {error}") from error


def write_templates(
    folder: Path, loaded: Loaded, wanted: TemplateRequest, result: Result
) -> Result:
    """Write the template and the description of the REST API; what an earlier run left is removed.

    A template that Chalice can't make is a failure where something special was asked for, else a
    note: an app with a bucket's events is deployed all the same.
    """
    documents = {form.file: None for form in PackageFormat} | {
        wanted.form.file: loaded.template,
        MODELS: loaded.models,
    }
    for name, document in documents.items():
        file = folder / name
        if document is None:
            file.unlink(missing_ok=True)
        else:
            text = json.dumps(document, indent=2, sort_keys=True) + "\n"
            file.write_text(text, encoding="utf-8")
    if loaded.template is not None:
        return result
    problem = loaded.template_error or "no reason is given"
    if wanted == TemplateRequest():
        return replace(result, note=f"no template: {problem}")
    error = PackageError(
        f"Chalice makes no template of this app: {problem}",
        where=wanted.form.file,
        fix="Change what it names, or leave out pkg-format and merge-template: the packages and "
        "`deploy` need no template.",
    )
    return replace(result, failure=Failure.of(error))
