"""Keys derived from the signing key: a text that only jobs have which may deploy.

The text is stretched (scrypt), so that a short one is not guessed from what was made with it; each
purpose has a key of its own. Pure.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field

from chalice_ci.ci_secrets import value_digest
from chalice_ci.context import Context
from chalice_ci.errors import UsageError
from chalice_ci.inputs import SIGNING_KEY, Input, Inputs

SHORTEST = 24
"""Characters; `openssl rand -base64 32` gives 44."""

_COST = 2**14
_DIGESTS = b"chalice-ci digests of secrets, 1"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A signing key as it was given."""

    text: str = field(repr=False)

    def derive(self, salt: bytes, size: int) -> bytes:
        """`size` bytes that depend on the key and the salt; takes some 50 ms."""
        return hashlib.scrypt(
            self.text.encode("utf-8", "surrogateescape"), salt=salt, n=_COST, r=8, p=1, dklen=size
        )

    @functools.cached_property
    def _digests(self) -> tuple[bytes, str]:
        made = self.derive(_DIGESTS, 40)
        return made[:32], made[32:].hex()

    def digest(self, value: str, *, scope: tuple[str, ...]) -> str:
        """A digest of a secret's value, `<id of the key>:<hex>`; see `value_digest`."""
        key, name = self._digests
        return f"{name}:{value_digest(key, scope=scope, value=value)}"


def signing_key(inputs: Inputs, item: Input = SIGNING_KEY) -> SigningKey | None:
    """The signing key that was given; raises UsageError for one that could be guessed."""
    value = inputs.value(item)
    if not value.text:
        return None
    if len(value.text) < SHORTEST:
        raise UsageError(
            f"the signing key has fewer than {SHORTEST} characters.",
            where=value.detail,
            fix="Make one that nobody guesses: openssl rand -base64 32",
        )
    return SigningKey(text=value.text)


def refuse_key_in_pull_request(context: Context, *, given: bool) -> None:
    """Raise UsageError when a job of a pull request has the signing key."""
    if not given or context.pull_request is None:
        return
    raise UsageError(
        "this job of a pull request has the signing key. Whoever has it can make plans that a "
        "deploy believes, and here the pull request's own files say what runs.",
        where=f"input {SIGNING_KEY.name}",
        fix="Give the key to the jobs that deploy only: keep it as a secret of their GitHub "
        "environment, and set it in those jobs, not for the whole workflow.",
    )
