"""The names that Chalice gives to AWS resources, and the limits that they must keep.

As in `chalice/deploy/appgraph.py` (the same from 1.29.0 to 1.34.0): everything begins with
`<app>-<stage>`, where the app's name is config.json's. Chalice checks no length, AWS refuses in
the middle of a deployment. Limits are from AWS's service descriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

WIDEST_PREVIEW = "pr-99999"
"""The widest preview stage that must fit."""

API_HANDLER = "api_handler"

PACKAGES = "chalice-ci/packages/"
"""Where the deployer puts packages in a bucket."""

FUNCTION_LIMIT = 64
ROLE_LIMIT = 64
RULE_LIMIT = 64
LAYER_LIMIT = 140
LOG_GROUP_LIMIT = 512


@dataclass(frozen=True, kw_only=True)
class AWSName:
    """A name that a deployment would use. `subject` is the function it is for, if it is for one."""

    kind: str
    name: str
    limit: int
    subject: str = ""

    @property
    def excess(self) -> int:
        """How many characters it is too long; 0 or less when it fits."""
        return len(self.name) - self.limit


Lookup = Callable[[str, str | None], object]
"""The value of a key that holds in the stage, for a function or in general."""


def aws_names(
    app_name: str,
    stage: str,
    lookup: Lookup,
    *,
    functions: tuple[str, ...],
    rules: tuple[str, ...] = (),
) -> Iterator[AWSName]:
    """The limited names of a stage.

    `functions` are the names of the functions as Chalice's graph has them (`api_handler` for the
    routes), `rules` those of the schedules and event rules (`<function>-event`).
    """
    base = f"{app_name}-{stage}"
    if lookup("automatic_layer", None):
        yield AWSName(kind="Lambda layer", name=f"{base}-managed-layer", limit=LAYER_LIMIT)
    if not functions:
        yield AWSName(kind="Lambda function", name=base, limit=FUNCTION_LIMIT)
    for function in functions:
        yield from _of_function(base, function, lookup, f"{function}-event" in rules)


def _of_function(base: str, function: str, lookup: Lookup, ruled: bool) -> Iterator[AWSName]:
    own = f"{base}-{function}"
    # The function of the routes is called as the stage; its role and log group are not.
    name = base if function == API_HANDLER else own
    yield AWSName(kind="Lambda function", name=name, limit=FUNCTION_LIMIT, subject=function)
    if lookup("manage_iam_role", function):
        role = base if lookup("autogen_policy", function) else own
        yield AWSName(kind="IAM role", name=role, limit=ROLE_LIMIT, subject=function)
    if ruled:
        rule = f"{own}-event"
        yield AWSName(kind="EventBridge rule", name=rule, limit=RULE_LIMIT, subject=function)
    if lookup("log_retention_in_days", function):
        group = f"/aws/lambda/{own}"
        yield AWSName(kind="log group", name=group, limit=LOG_GROUP_LIMIT, subject=function)
