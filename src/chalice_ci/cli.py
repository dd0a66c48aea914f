"""The command line: one command per verb, its options generated from the declared inputs.

Each command is one call into the pipeline; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import click

from chalice_ci import __version__
from chalice_ci.errors import ExitCode
from chalice_ci.inputs import Input, Inputs, Kind, inputs_of, read_inputs

Runner = Callable[[str, Inputs, Mapping[str, str]], ExitCode]
"""Runs a verb: name ("state show"), inputs, own arguments by name; answers the exit code."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command: what it does, an example, and the arguments that only it has."""

    name: str
    summary: str
    example: str
    arguments: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()
    """Flags that only this verb has: name and meaning."""

    @property
    def reads(self) -> tuple[Input, ...]:
        """The declared inputs that the verb reads."""
        return inputs_of(self.name.split()[0])


VERBS: tuple[Verb, ...] = (
    Verb(
        name="run",
        summary="Decide from the CI's event what to do: check, plan, preview or deploy.",
        example="chalice-ci run --local",
    ),
    Verb(
        name="check",
        summary="Is it deployable? Configuration, load per stage, experimental features, limits.",
        example="chalice-ci check --stage prod --format github",
    ),
    Verb(
        name="package",
        summary="Build the deployment package and template of each app and stage.",
        example="chalice-ci package --app orders --stage dev --out build",
    ),
    Verb(
        name="diff",
        summary="What is different from the merge base, another commit, or what is deployed.",
        example="chalice-ci diff --stage prod --against deployed",
    ),
    Verb(
        name="plan",
        summary="Seal a plan: the package, the application graph and the operations to expect.",
        example="chalice-ci plan --stage prod --out plans",
    ),
    Verb(
        name="deploy",
        summary="Apply a sealed plan, or plan and apply in one go, and record the state.",
        example="chalice-ci deploy --plan plans/orders-prod.plan",
    ),
    Verb(
        name="rollback",
        summary="Apply an earlier plan of the stage again: the release before, or the one named.",
        example="chalice-ci rollback --app orders --stage prod",
    ),
    Verb(
        name="delete",
        summary="Remove a stage's resources, from its recorded state alone.",
        example="chalice-ci delete --app orders --stage pr-42",
    ),
    Verb(
        name="preview up",
        summary="Deploy a pull request's preview: the stage pr-<number>.",
        example="chalice-ci preview up --stage pr-42",
    ),
    Verb(
        name="preview down",
        summary="Delete a pull request's preview, from its record alone.",
        example="chalice-ci preview down --stage pr-42",
    ),
    Verb(
        name="preview sweep",
        summary="Delete the previews that nobody wants any more: closed, expired, too many.",
        example="chalice-ci preview sweep",
    ),
    Verb(
        name="matrix",
        summary="Print what the event wants as a CI matrix: one job per affected app and stage.",
        example="chalice-ci matrix --matrix-by app",
    ),
    Verb(
        name="report",
        summary="Fold the reports of a matrix's jobs into one report and one comment.",
        example="chalice-ci report --reports parts",
    ),
    Verb(
        name="policy",
        summary="The least-privilege IAM policy for whatever deploys a stage; compare one with it.",
        example="chalice-ci policy --stage prod --compare deploy-role",
    ),
    Verb(
        name="init",
        summary="Write chalice-ci.yml, workflows and the template of the deploy role.",
        example="chalice-ci init --previews",
        flags=(
            ("previews", "Keep a preview of each pull request, too."),
            ("dry-run", "Show what would be written, and write nothing."),
            ("force", "Replace files that are there and differ."),
        ),
    ),
    Verb(
        name="doctor",
        summary="Audit the set-up: workflows, roles, environments, branches. Changes nothing.",
        example="chalice-ci doctor --fail-on warning",
    ),
    Verb(
        name="url",
        summary="Print the URLs of deployed stages.",
        example="chalice-ci url --stage dev",
    ),
    Verb(
        name="state show",
        summary="Show the recorded state of stages.",
        example="chalice-ci state show --stage dev --verify",
        flags=(
            (
                "verify",
                "Tell which commit, plan, run and approver it came from, and whether it is that.",
            ),
        ),
    ),
    Verb(
        name="state pull",
        summary="Write the recorded state as Chalice's own files, for `chalice logs` and the like.",
        example="chalice-ci state pull --stage dev",
        flags=(
            ("force", "Overwrite a file that names resources which are not recorded."),
            ("sdk", "Download the REST API's JavaScript client too, as chalice generate-sdk does."),
        ),
    ),
    Verb(
        name="state import",
        summary="Record a state file that Chalice wrote elsewhere (v2, or a deployed.json of v1).",
        example="chalice-ci state import .chalice/deployed/dev.json --app orders --stage dev",
        arguments=("file",),
        flags=(("force", "Replace a recorded state that differs."),),
    ),
    Verb(
        name="state recover",
        summary="Record what a stage really is made of, after a deploy that could not record it.",
        example="chalice-ci state recover --app orders --stage dev",
    ),
    Verb(
        name="state unlock",
        summary="Take a stage away from a deploy that ended without giving it back.",
        example="chalice-ci state unlock --app orders --stage dev",
        flags=(("force", "Forget what its deploy left open too."),),
    ),
    Verb(
        name="action",
        summary="What the GitHub Action starts: the verb that its `command` input names.",
        example="chalice-ci action --command check",
    ),
    Verb(
        name="action-post",
        summary="What the GitHub Action starts at the end: bring what a kill left open to its end.",
        example="chalice-ci action-post",
    ),
    Verb(
        name="demo",
        summary="The main job on the embedded AWS with a sample app; needs no account.",
        example="chalice-ci demo",
    ),
)


GROUPS = {
    "preview": "The stages of pull requests.",
    "state": "The recorded state of the stages.",
}


def command_line(run: Runner, env: Mapping[str, str]) -> click.Group:
    """The click group; `run` does the work, `env` is the environment that inputs are read from."""
    root = click.Group(
        name="chalice-ci",
        help="Check, plan, preview and deploy AWS Chalice apps from CI.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    click.version_option(__version__, prog_name="chalice-ci")(root)
    groups: dict[str, click.Group] = {}
    for verb in VERBS:
        head, _, tail = verb.name.partition(" ")
        if tail:
            if head not in groups:
                groups[head] = click.Group(name=head, help=GROUPS[head])
                root.add_command(groups[head])
            groups[head].add_command(_command(verb, tail, run, env))
        else:
            root.add_command(_command(verb, head, run, env))
    return root


def _command(verb: Verb, name: str, run: Runner, env: Mapping[str, str]) -> click.Command:
    def invoke(**given: object) -> None:
        arguments = {key: str(given.pop(key)) for key in verb.arguments}
        for flag, _ in verb.flags:
            arguments[flag] = "true" if given.pop(flag.replace("-", "_")) else ""
        options = {item.name: _texts(given[_identifier(item)]) for item in verb.reads}
        code = run(verb.name, read_inputs(env, options), arguments)
        click.get_current_context().exit(int(code))

    parameters: list[click.Parameter] = [_option(item) for item in verb.reads]
    parameters += [click.Argument([key]) for key in verb.arguments]
    parameters += [
        click.Option([f"--{flag}"], is_flag=True, help=help_text) for flag, help_text in verb.flags
    ]
    return click.Command(
        name=name,
        callback=invoke,
        params=parameters,
        help=verb.summary,
        epilog=f"Example: {verb.example}",
    )


def _option(item: Input) -> click.Option:
    if item.kind is Kind.FLAG:
        # No default: a flag that was not given leaves the environment's value standing.
        return click.Option([f"--{item.name}/--no-{item.name}"], default=None, help=item.summary)
    return click.Option(
        [f"--{item.name}"],
        multiple=item.kind is Kind.LINES,
        metavar="|".join(item.choices) or item.metavar,
        help=item.summary + (f" [default: {item.default}]" if item.default else ""),
    )


def _identifier(item: Input) -> str:
    return item.name.replace("-", "_")


def _texts(given: object) -> Sequence[str]:
    match given:
        case None | () | "":
            return ()
        case bool():
            return ("true" if given else "false",)
        case tuple():
            return tuple(str(text) for text in given)
        case _:
            return (str(given),)
