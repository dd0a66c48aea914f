"""action.yml, made from the declared inputs and outputs; `make docs` writes it.

A development version builds its image from the Dockerfile beside it. A release names the image
that was tested by its digest: `action_text(image="docker://…@sha256:…")`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from chalice_ci import __version__
from chalice_ci.inputs import Input, inputs_of
from chalice_ci.outputs import OUTPUTS, Output

IMAGE = "ghcr.io/org/chalice-action"
"""Where releases are published."""
VERB = "action"
"""What the container is started with; the inputs of the action are those of this verb."""

# What only a workflow can give.
_EXPRESSIONS: Mapping[str, str] = {"github-token": "${{ github.token }}"}


def action_text(*, image: str = "Dockerfile") -> str:
    """The text of action.yml. `image` is a Dockerfile or an image that is pulled."""
    what = "Check, plan, preview and deploy AWS Chalice apps, and record what is live."
    return _text_of("chalice-ci", what, image)


def rehearsal_text(*, image: str = f"docker://{IMAGE}:{__version__}-rehearsal") -> str:
    """The text of rehearsal/action.yml: the same with the image that brings the embedded AWS.

    GitHub builds a Dockerfile's last stage only, so this one is always pulled.
    """
    what = "chalice-ci with an AWS inside: rehearses the deployments of pull requests from forks."
    return _text_of("chalice-ci with rehearsals", what, image)


def _text_of(name: str, what: str, image: str) -> str:
    parts = (_head(name, what), _inputs(inputs_of(VERB)), _outputs(OUTPUTS), _runs(image))
    return "".join(f"{line}\n" for part in parts for line in part)


def _head(name: str, what: str) -> Iterator[str]:
    yield "# Written by `make docs` from src/chalice_ci/{inputs,outputs,action}.py: change those."
    yield f"name: {name}"
    yield f"description: {_text(what)}"
    yield "author: chalice-ci maintainers"
    yield "branding:"
    yield "  icon: upload-cloud"
    yield "  color: orange"


def _inputs(inputs: tuple[Input, ...]) -> Iterator[str]:
    yield "inputs:"
    for item in inputs:
        choices = f" One of {', '.join(item.choices)}." if item.choices else ""
        default = f" Default: {item.default}." if item.default else ""
        yield f"  {item.name}:"
        yield f"    description: {_text(item.summary + choices + default)}"
        yield "    required: false"
        # Our own defaults stay out: the runner would hand them over as if the user had chosen
        # them, and they would win over chalice-ci.yml.
        if item.name in _EXPRESSIONS:
            yield f"    default: {_EXPRESSIONS[item.name]}"


def _outputs(outputs: tuple[Output, ...]) -> Iterator[str]:
    yield "outputs:"
    for item in outputs:
        yield f"  {item.name}:"
        yield f"    description: {_text(item.summary)}"


def _runs(image: str) -> Iterator[str]:
    yield "runs:"
    yield "  using: docker"
    yield f"  image: {image}"
    yield f"  args: [{VERB}]"
    # Runs after a kill too, so nothing is left in progress.
    yield "  post-entrypoint: /post-entrypoint.sh"
    yield "  post-if: always()"


def _text(value: str) -> str:
    """A YAML string; each JSON string is one."""
    return json.dumps(value, ensure_ascii=False)
