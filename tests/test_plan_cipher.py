"""An encrypted plan: who can open it, and that nothing of it can be changed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalice_ci.errors import PlanRefused
from chalice_ci.plan_cipher import decrypt, encrypt
from chalice_ci.signing import SigningKey

KEY, OTHER = SigningKey(text="k" * 32), SigningKey(text="o" * 32)
CONTENT = b"DB_URL=postgres://secret" + bytes(range(256)) * 6000
"""More than a chunk."""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "clear").write_bytes(CONTENT)
    encrypt(folder / "clear", folder / "plan", KEY)
    return folder / "plan"


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1])
def test_what_was_encrypted_comes_out_again(tmp_path, size):
    (tmp_path / "clear").write_bytes(CONTENT[:size])
    encrypt(tmp_path / "clear", tmp_path / "plan", KEY)
    decrypt(tmp_path / "plan", tmp_path / "again", [OTHER, KEY])
    assert (tmp_path / "again").read_bytes() == CONTENT[:size]


def test_nothing_of_the_content_can_be_read_and_no_two_files_are_the_same(sealed, tmp_path):
    assert b"postgres" not in sealed.read_bytes()
    (tmp_path / "clear").write_bytes(CONTENT)
    encrypt(tmp_path / "clear", tmp_path / "plan", KEY)
    assert (tmp_path / "plan").read_bytes()[8:] != sealed.read_bytes()[8:]


def refused(path, tmp_path, *keys):
    with pytest.raises(PlanRefused) as caught:
        decrypt(path, tmp_path / "clear", keys)
    assert not (tmp_path / "clear").exists()
    assert caught.value.exit_code == 16
    return caught.value


def test_another_key_is_told_from_a_changed_file(sealed, tmp_path):
    error = refused(sealed, tmp_path, OTHER)
    assert "another signing key" in error.what
    assert "previous-signing-key" in error.fix


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d[:20], "cut off"),
        (lambda d: d[:56], "cut off"),
        (lambda d: d[:-1], "tampered"),
        (lambda d: d[: 56 + 1024 * 1024 + 17], "cut off"),
        (lambda d: d + b"x", "tampered"),
        (lambda d: d[:7] + b"\x02" + d[8:], "another format (2)"),
        (lambda d: d[:8] + b"0" * 16 + d[24:], "another signing key"),
        (lambda d: d[:32] + b"0" * 24 + d[56:], "tampered"),
        (lambda d: d[:56] + d[56 + 1024 * 1024 + 17 :], "tampered"),
    ],
)
def test_every_part_counts(sealed, tmp_path, change, words):
    path = tmp_path / "plan"
    path.write_bytes(change(sealed.read_bytes()))
    assert words in refused(path, tmp_path, KEY).what


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_flipped_bit_gets_past(sealed, tmp_path, data):
    content = bytearray(sealed.read_bytes())
    at = data.draw(st.integers(7, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "plan"
    path.write_bytes(content)
    refused(path, tmp_path, KEY)
