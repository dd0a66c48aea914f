"""action.yml, made from the declared inputs and outputs; `make docs` writes it.

A development version builds its image from the Dockerfile beside it. A release names the image
that was tested by its digest: `action_text(image="docker://…@sha256:…")`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from chalice_ci.inputs import Input, inputs_of
from chalice_ci.outputs import OUTPUTS, Output

VERB = "action"
"""What the container is started with; the inputs of the action are those of this verb."""

# What only a workflow can give.
_EXPRESSIONS: Mapping[str, str] = {"github-token": "${{ github.token }}"}


def action_text(*, image: str = "Dockerfile") -> str:
    """The text of action.yml. `image` is a Dockerfile or an image that is pulled."""
    return (
        "\n".join((*_head(), *_inputs(inputs_of(VERB)), *_outputs(OUTPUTS), *_runs(image))) + "\n"
    )


def _head() -> Iterator[str]:
    yield "# Written by `make docs` from src/chalice_ci/{inputs,outputs,action}.py: change those."
    yield "name: chalice-ci"
    yield "description: Check, plan, preview and deploy AWS Chalice apps, and record what is live."
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
