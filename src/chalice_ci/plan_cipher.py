r"""A plan file that only the holders of a key can read, make or change.

    8 bytes   CHALICE\x01      the last byte is the format's version
    16 bytes  salt             of this file alone
    8 bytes   check            tells another key from a file that was changed
    24 bytes  header           of libsodium's secretstream
    rest      chunks           XChaCha20-Poly1305, 1 MiB and 17 bytes each; the last one says so

Keys come from the signing key and the salt (scrypt). Chunks can't be changed, left out, put in
another order or cut off; the head is authenticated with the first of them.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from nacl import bindings
from nacl.exceptions import CryptoError

from chalice_ci.errors import PlanRefused
from chalice_ci.plan_file import MAGIC
from chalice_ci.signing import SigningKey

_MAGIC = MAGIC + b"\x01"
_SALT = 16
_CHECK = 8
_HEADER = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_KEY = bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES
_MORE = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_CHUNK = 1024 * 1024


def encrypt(
    source: Path, target: Path, key: SigningKey, *, random: Callable[[int], bytes] = os.urandom
) -> None:
    """Write `source`, encrypted, to `target`; no two results are the same."""
    salt = random(_SALT)
    secret, check = _derived(key, salt)
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    header = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, secret)
    head = _MAGIC + salt + check + header
    with source.open("rb") as clear, target.open("wb") as file:
        file.write(head)
        chunk, bound = clear.read(_CHUNK), head
        while True:
            following = clear.read(_CHUNK)
            tag = _MESSAGE if following else _FINAL
            file.write(
                bindings.crypto_secretstream_xchacha20poly1305_push(state, chunk, bound, tag)
            )
            if not following:
                return
            chunk, bound = following, b""


def decrypt(source: Path, target: Path, keys: Sequence[SigningKey]) -> None:
    """Write what is in `source` to `target`, with the first of the keys that it was made with.

    Raises PlanRefused for a file that no key of these made, or that was changed since; nothing of
    such a file is left in `target`.
    """
    try:
        with source.open("rb") as file, target.open("wb") as clear:
            _decrypt(file, clear, keys, source)
    except PlanRefused:
        target.unlink(missing_ok=True)
        raise


def _decrypt(file: BinaryIO, clear: BinaryIO, keys: Sequence[SigningKey], path: Path) -> None:
    head = file.read(len(_MAGIC) + _SALT + _CHECK + _HEADER)
    if len(head) != len(_MAGIC) + _SALT + _CHECK + _HEADER:
        _refuse("is cut off", path)
    if not head.startswith(_MAGIC):
        _refuse(
            f"is of another format ({head[len(_MAGIC) - 1]}); this version of chalice-ci reads "
            f"{_MAGIC[-1]}",
            path,
        )
    salt = head[len(_MAGIC) : len(_MAGIC) + _SALT]
    wanted = head[len(_MAGIC) + _SALT : -_HEADER]
    for key in keys:
        secret, check = _derived(key, salt)
        if hmac.compare_digest(check, wanted):
            break
    else:
        _refuse(
            "was sealed with another signing key",
            path,
            fix="Give the key that it was made with as `signing-key`, or `previous-signing-key` "
            "after the key was changed; or make the plan again.",
        )
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, head[-_HEADER:], secret)
    bound, tag = head, _MESSAGE
    while chunk := file.read(_CHUNK + _MORE):
        if tag == _FINAL:
            _refuse("is damaged or tampered with: something was appended", path)
        try:
            data, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, chunk, bound)
        except (CryptoError, ValueError, RuntimeError):
            _refuse("is damaged or tampered with", path)
        clear.write(data)
        bound = b""
    if tag != _FINAL:
        _refuse("is cut off", path)


def _derived(key: SigningKey, salt: bytes) -> tuple[bytes, bytes]:
    made = key.derive(b"chalice-ci plan, 1" + salt, _KEY + _CHECK)
    return made[:_KEY], made[_KEY:]


def _refuse(
    what: str, path: Path, *, fix: str = "Make the plan again: chalice-ci plan"
) -> NoReturn:
    raise PlanRefused(f"the plan file {what}.", where=str(path), fix=fix)
