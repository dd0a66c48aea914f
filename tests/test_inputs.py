"""Inputs are declared once; everything else is derived from the declaration."""

from __future__ import annotations

import pytest
from click import Argument, Option
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci import inputs
from chalice_ci.cli import VERBS, command_line
from chalice_ci.errors import ExitCode, UsageError
from chalice_ci.inputs import INPUTS, Inputs, Kind, SourceKind, inputs_of, read_inputs


def commands():
    root = command_line(lambda *_: ExitCode.OK, {})
    for verb in VERBS:
        command = root
        for word in verb.name.split():
            command = command.commands[word]
        yield verb, command


def test_every_command_offers_exactly_the_inputs_declared_for_it():
    for verb, command in commands():
        options = [p for p in command.params if isinstance(p, Option)]
        names = [option.opts[0].removeprefix("--") for option in options]
        assert names == [item.name for item in verb.reads] + [name for name, _ in verb.flags]


def test_every_command_shows_its_summary_and_an_example():
    for verb, command in commands():
        assert command.help == verb.summary
        assert command.epilog == f"Example: {verb.example}"
        assert verb.example.startswith(f"chalice-ci {verb.name}")


def test_the_examples_in_the_help_parse():
    for verb, _ in commands():
        seen = []

        def note(name, *_, seen=seen):
            seen.append(name)
            return ExitCode.OK

        command_line(note, {}).main(verb.example.split()[1:], standalone_mode=False)
        assert seen == [verb.name]


def test_only_arguments_that_a_verb_declares_are_positional():
    for verb, command in commands():
        assert [p.name for p in command.params if isinstance(p, Argument)] == list(verb.arguments)


def test_verbs_named_by_inputs_exist():
    known = {verb.name.split()[0] for verb in VERBS}
    assert {verb for item in INPUTS for verb in item.verbs} <= known


def test_an_option_wins_over_the_environment_and_that_over_the_default():
    assert read_inputs({}, {}).value(inputs.OUT).source is SourceKind.DEFAULT
    env = {"CHALICE_CI_OUT": "from-env"}
    assert read_inputs(env, {}).text(inputs.OUT) == "from-env"
    chosen = read_inputs(env, {"out": ("from-option",)}).value(inputs.OUT)
    assert (chosen.text, chosen.source) == ("from-option", SourceKind.OPTION)


def test_the_runner_keeps_dashes_in_the_names_of_inputs():
    found = read_inputs({"INPUT_PROJECT-DIR": "services/orders"}, {}).value(inputs.PROJECT_DIR)
    assert found.text == "services/orders"
    assert "INPUT_PROJECT-DIR" in found.detail


def test_an_empty_input_of_the_runner_means_not_given():
    assert read_inputs({"INPUT_OUT": ""}, {}).value(inputs.OUT).source is SourceKind.DEFAULT


def test_the_configuration_stands_between_default_and_environment():
    nothing = read_inputs({}, {})
    chosen = nothing.prefer(inputs.AWS_REGION, "eu-west-1", "chalice-ci.yml:4:5")
    assert (chosen.text, chosen.source) == ("eu-west-1", SourceKind.CONFIGURATION)
    given_ = read_inputs({"INPUT_AWS-REGION": "us-east-1"}, {})
    assert given_.prefer(inputs.AWS_REGION, "eu-west-1", "x").text == "us-east-1"


def test_lines_lose_blanks_and_repetitions():
    read = read_inputs({"INPUT_STAGE": "dev\n\n  prod \ndev\n"}, {})
    assert read.lines(inputs.STAGE) == ("dev", "prod")


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("INPUT_FORMAT", "jsno", "Did you mean 'json'?"),
        ("INPUT_FORMAT", "terraform", "Did you mean the input `pkg-format`?"),
        ("INPUT_QUIET", "yes", "true or false"),
        ("INPUT_STAGE", "a\0b", "NUL"),
    ],
)
def test_a_wrong_value_names_its_source_and_the_fix(variable, text, words):
    with pytest.raises(UsageError) as caught:
        read_inputs({variable: text}, {})
    assert words in str(caught.value)
    assert variable in caught.value.where
    assert caught.value.fix


@given(st.dictionaries(st.sampled_from([v for i in INPUTS for v in i.variables]), st.text()))
def test_any_environment_gives_inputs_or_a_usage_error(env):
    try:
        read = read_inputs(env, {})
    except UsageError:
        return
    assert isinstance(read, Inputs)
    assert set(read.values) == {item.name for item in INPUTS}


def test_flags_and_choices_have_valid_defaults():
    for item in INPUTS:
        if item.kind is Kind.FLAG:
            assert item.default in ("true", "false")
        if item.kind is Kind.CHOICE:
            assert item.default in item.choices


@pytest.mark.parametrize("verb", ["run", "plan", "deploy", "rollback", "delete", "preview"])
def test_what_touches_a_stage_can_be_told_where_and_as_whom(verb):
    names = {item.name for item in inputs_of(verb)}
    assert names >= {"local", "role-to-assume", "allowed-account", "aws-region", "lease-wait"}
    assert names >= {"app", "stage"}
    assert verb in ("delete",) or "signing-key" in names


def test_inputs_of_a_verb_keep_the_order_of_their_declaration():
    order = [item.name for item in INPUTS]
    for verb in VERBS:
        names = [item.name for item in inputs_of(verb.name.split()[0])]
        assert names == sorted(names, key=order.index)
