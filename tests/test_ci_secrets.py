"""Secrets in a stage's variables: where values may be, and that they are nowhere else."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.ci_secrets import (
    PREFIX,
    Secrets,
    SecretVariable,
    refuse_missing,
    spellings,
    take_secrets,
    variables_of,
)
from chalice_ci.config import SecretRef
from chalice_ci.difference.functions import _variables
from chalice_ci.errors import AWSError, UsageError
from chalice_ci.signing import SigningKey, signing_key
from chalice_ci.snapshot import Function, Variable

VALUE = 'postgres://svc:h0rse-battery"st\\aple@db/orders'


def test_values_leave_the_environment_and_an_empty_one_is_none():
    env = {"PATH": "/bin", f"{PREFIX}DB": VALUE, f"{PREFIX}GONE": ""}
    secrets, rest = take_secrets(env)
    assert rest == {"PATH": "/bin"}
    assert dict(secrets.values) == {"DB": VALUE}
    assert VALUE not in repr(secrets)


def test_a_missing_secret_is_named_with_the_lines_to_write():
    wanted = variables_of([("A", SecretRef(name="ONE")), ("B", SecretRef(name="TWO"))])
    missing = Secrets(values={"ONE": "x"}).missing(wanted)
    assert missing == ("TWO",)
    with pytest.raises(UsageError) as caught:
        refuse_missing(missing, where="chalice-ci.yml:4:3")
    assert "TWO" in caught.value.what
    assert "CHALICE_CI_SECRET_TWO: ${{ secrets.TWO }}" in caught.value.fix


@dataclass(frozen=True)
class _Told:
    app: str
    what: str
    parts: tuple[_Told, ...] = ()


def test_sentences_lose_the_values_and_names_stay():
    secrets = Secrets(values={"NAME": "orders", "DB": VALUE})
    told = _Told("orders", f"refused {VALUE}", (_Told("orders", "the app orders"),))
    assert secrets.without(told) == _Told(
        "orders", "refused ***", (_Told("orders", "the app ***"),)
    )
    error = AWSError(f"invalid: {VALUE}", where="orders/dev", fix=f"not {VALUE}")
    secrets.clean(error)
    assert VALUE not in str(error) + error.fix + repr(error)


@settings(max_examples=150, deadline=None)
@given(
    value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4, max_size=60),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_no_usual_spelling_of_a_value_survives(value, before, after):
    secrets = Secrets(values={"S": value})
    for form in (
        value,
        json.dumps(value)[1:-1],
        json.dumps({"a": value}),
        base64.b64encode(value.encode()).decode(),
    ):
        told = secrets.redact(before + form + after)
        if value not in before + "***" + after:
            assert value not in told or value in "***"


def test_a_value_that_was_broken_into_lines_is_hidden():
    """As Chalice wraps what AWS says; the value must not come out in two halves."""
    secrets = Secrets(values={"S": "first-part second+part"})
    assert secrets.redact("is first-\n   part\n second+pa\n rt !") == "is *** !"


def test_each_line_of_a_key_is_hidden_and_short_lines_are_not_looked_for():
    key = "-----BEGIN KEY-----\nMIIabcdef\nab\n-----END KEY-----\n"
    forms = set(spellings(key))
    assert {key, "MIIabcdef"} <= forms
    assert "ab" not in forms
    assert "MIIabcdef" not in Secrets(values={"K": key}).redact("got MIIabcdef here")


# -- noticing a change --------------------------------------------------------------------------


def _function(*variables):
    return Function(
        name="api", function_name="x-api", handler="a.b", runtime="p", role="", variables=variables
    )


def _changes(before, after):
    return list(_variables(_function(before), _function(after), comparable=True))


def test_a_changed_value_is_told_under_one_key_only():
    key, other = SigningKey(text="k" * 32), SigningKey(text="o" * 32)
    scope = ("orders", "prod", "api", "DB")

    def kept(key, value):
        return Variable(name="DB", secret="DB", digest=key.digest(value, scope=scope))

    assert _changes(kept(key, "a-value"), kept(key, "a-value")) == []
    assert [d.name for d in _changes(kept(key, "a-value"), kept(key, "another"))] == [
        "environment variable DB"
    ]
    # Another key, or none on one side: nobody knows, so nothing is told.
    assert _changes(kept(key, "a-value"), kept(other, "a-value")) == []
    assert _changes(kept(key, "a-value"), Variable(name="DB", secret="DB")) == []
    digest = kept(key, "a-value").digest
    assert "a-value" not in digest
    assert key.digest("a-value", scope=("orders", "dev", "api", "DB")) != digest


def test_a_variable_that_moves_into_a_secret_is_told_with_both_places():
    (change,) = _changes(Variable(name="DB"), Variable(name="DB", secret="DB_URL"))
    assert (change.before, change.after) == ("config.json", "secret DB_URL")


def test_a_signing_key_that_could_be_guessed_is_refused():
    from chalice_ci.inputs import read_inputs

    assert signing_key(read_inputs({}, {})) is None
    with pytest.raises(UsageError, match="24 characters"):
        signing_key(read_inputs({"CHALICE_CI_SIGNING_KEY": "hunter2"}, {}))
    given_key = signing_key(read_inputs({"INPUT_SIGNING-KEY": "k" * 32}, {}))
    assert given_key == SigningKey(text="k" * 32)
    assert "kkk" not in repr(given_key)


def test_a_variable_knows_its_placeholder():
    assert SecretVariable(variable="A", secret="B").placeholder == "chalice-ci:secret:B"
