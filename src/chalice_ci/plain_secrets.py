"""Recognising secrets that stand as plain text in a configuration. Values are never shown."""

from __future__ import annotations

import re

MAX_VALUE = 4096
"""Lambda takes at most 4 KB of variables."""

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|PWD|PASS|SECRETS?|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY"
    r"|AUTH_?KEY|SIGNING_?KEY|ENCRYPTION_?KEY|SECRET_?KEY|CLIENT_?SECRET|CREDENTIALS?)(?:_|[0-9]*$)"
)
_REFERENCE_NAME = re.compile(
    r"_(?:ARN|NAME|ID|PATH|FILE|URL|URI|HOST|PARAM(?:ETER)?|PREFIX|HEADER|TYPE|TABLE|BUCKET|REGION"
    r"|TTL|EXPIR(?:Y|ES|ATION)|TIMEOUT|LENGTH|MINUTES|SECONDS|DAYS|HOURS|ALGORITHM|ISSUER|AUDIENCE"
    r"|ENABLED|REQUIRED|ENDPOINT|VERSION|ALIAS|STORE)$"
)
_PLACEHOLDER = re.compile(
    r"(?:[<{$\[%].{0,200}[>}\])%]?|x{3,}|\*{3,}|\.{3,}|-+"
    r"|(?:change|replace|fill|set)[-_ ]?(?:me|in|this)"
    r"|your[-_ ].{0,80}|todo|tbd|none|null|true|false|yes|no|on|off|test|dummy|fake|placeholder"
    r"|example|secret|password|token|[0-9]{1,5}|arn:aws.{0,300}|/[A-Za-z0-9_./-]{0,200}"
    r"|(?:ssm|secretsmanager|vault|kms|sm|env):.{0,300}|\{\{.{0,200})",
    re.IGNORECASE,
)
_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]{1,20} ){0,3}PRIVATE KEY-----")),
    (
        "a GitHub token",
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,100})"),
    ),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20}")),
    ("a Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,100}")),
    (
        "a Slack webhook",
        re.compile(r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{20,100}"),
    ),
    ("a Stripe key", re.compile(r"\b[rs]k_live_[A-Za-z0-9]{16,100}")),
    ("a Google API key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}")),
    ("a SendGrid key", re.compile(r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}")),
    ("an OpenAI or Anthropic key", re.compile(r"\bsk-(?:[a-z]{2,6}-)?[A-Za-z0-9_-]{32,200}")),
    ("an npm token", re.compile(r"\bnpm_[A-Za-z0-9]{36}")),
    ("a PyPI token", re.compile(r"\bpypi-[A-Za-z0-9_-]{40,250}")),
    ("a Telegram bot token", re.compile(r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b")),
    (
        "a signed token (JWT)",
        re.compile(r"\beyJ[A-Za-z0-9_-]{8,1000}\.eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,1000}"),
    ),
    (
        "an address with a password",
        re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,100}:(?![<{$*])[^\s/:@]{1,200}@"),
    ),
)


def looks_secret(name: str, value: str) -> str | None:
    """What the value of a variable seems to be ("a GitHub token"), None when nothing speaks for it.

    A known shape is enough. A name like DB_PASSWORD is too, unless the name or the value says that
    it only refers to a secret (an ARN, a parameter's path, a placeholder).
    """
    text = value[:MAX_VALUE].strip()
    for kind, shape in _SHAPES:
        if shape.search(text):
            return kind
    word = _snake(name[:200])
    if not text or not _SECRET_NAME.search(word) or _REFERENCE_NAME.search(word):
        return None
    return None if _PLACEHOLDER.fullmatch(text) else "a secret, by its name"


def _snake(name: str) -> str:
    """Both dbPassword and db-password as DB_PASSWORD."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-.]", "_", name).upper()
