"""What is asked of Chalice's template generators, and what their answer may be. Pure.

The names are those of `chalice package`: `--pkg-format` and `--merge-template`. The template is
made beside the app's code, so it is hostile: it may take the code of functions and layers from the
two packages and nowhere else, except for resources that the merged file itself names, because that
file wins in a merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class PackageFormat(StrEnum):
    """What provisions the resources of a template."""

    CLOUDFORMATION = "cloudformation"
    TERRAFORM = "terraform"

    @property
    def file(self) -> str:
        """What Chalice calls the template."""
        return "chalice.tf.json" if self is PackageFormat.TERRAFORM else "sam.json"


@dataclass(frozen=True, kw_only=True)
class MergeFile:
    """A template to merge into Chalice's: its name, which tells its form, and what it holds.

    `resources` are the names of those that it has something to say of.
    """

    name: str
    text: str
    resources: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class TemplateRequest:
    """The template that is wanted; only CloudFormation's can be merged with a file."""

    form: PackageFormat = PackageFormat.CLOUDFORMATION
    merge: MergeFile | None = None

    @property
    def wire(self) -> Mapping[str, object]:
        """As the loader reads it."""
        merge = None if self.merge is None else {"name": self.merge.name, "text": self.merge.text}
        return {"form": self.form.value, "merge": merge}


class TemplateRefused(ValueError):
    """A template that is none, or that takes code from somewhere else."""


_SAM_CODE = {
    "AWS::Serverless::Function": ("CodeUri", "./deployment.zip"),
    "AWS::Serverless::LayerVersion": ("ContentUri", "./layer-deployment.zip"),
}
_TERRAFORM_CODE = {
    "aws_lambda_function": "${path.module}/deployment.zip",
    "aws_lambda_layer_version": "${path.module}/layer-deployment.zip",
}


def check_template(value: object, request: TemplateRequest) -> None:
    """Raise TemplateRefused for anything but a template that may be handed on."""
    if request.form is PackageFormat.TERRAFORM:
        _check_terraform(value)
    else:
        _check_sam(value, request.merge.resources if request.merge else frozenset())


def _check_sam(value: object, free: frozenset[str]) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("Resources"), dict):
        raise TemplateRefused("has a template without resources")
    for name, resource in value["Resources"].items():
        if name in free:
            continue
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise TemplateRefused("has a template with a resource without type")
        key, uri = _SAM_CODE.get(resource["Type"], ("", ""))
        if key:
            properties = resource.get("Properties")
            if not isinstance(properties, dict) or properties.get(key) != uri:
                raise TemplateRefused("has a template that takes its code from somewhere else")


def _check_terraform(value: object) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("resource"), dict):
        raise TemplateRefused("has a template without resources")
    for kind, place in _TERRAFORM_CODE.items():
        resources = value["resource"].get(kind, {})
        if not isinstance(resources, dict):
            raise TemplateRefused("has a template with resources that are none")
        for resource in resources.values():
            if not isinstance(resource, dict) or resource.get("filename") != place:
                raise TemplateRefused("has a template that takes its code from somewhere else")
