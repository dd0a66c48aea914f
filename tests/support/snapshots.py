"""Snapshots for tests: small ones by hand, arbitrary ones by hypothesis, large ones by number."""

from __future__ import annotations

import functools
import random
from dataclasses import fields, replace
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from chalice_ci.snapshot import (
    Api,
    Archive,
    Authorizer,
    Dependency,
    Domain,
    File,
    Function,
    Role,
    Route,
    Snapshot,
    Statement,
    Trigger,
)

EMPTY = Snapshot(app="orders", stage="dev", app_name="orders", chalice="1.34.0", python="3.12")


def function(name: str = "worker", **changes: Any) -> Function:
    made = Function(
        name=name,
        function_name=f"orders-dev-{name}",
        handler=f"app.{name}",
        runtime="python3.12",
        role="default-role",
        memory=128,
        timeout=60,
    )
    return replace(made, **changes)


def role(*statements: Statement, name: str = "default-role", **changes: Any) -> Role:
    made = Role(name=name, role_name=f"orders-dev-{name}", policy="generated")
    return replace(made, statements=statements, **changes)


def allow(*actions: str, on: str | tuple[str, ...] = "*", **more: Any) -> Statement:
    resources = (on,) if isinstance(on, str) else on
    return Statement(effect="Allow", actions=actions, resources=resources, **more)


# -- arbitrary ------------------------------------------------------------------------------------

# Few names, so that two snapshots share keys; hostile ones among them.
NAMES = ("a", "b", "c", "GET /x", "a|b`<!--\n", "ü\u202e", "*")
TEXTS = ("", "x", "*", "y,z", "arn:aws:s3:::b/*", "s3:Get*", "é\0")
DIGESTS = ("", "0" * 64, "a" * 64)
# What a field can hold besides `TEXTS`.
FIELDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("name", "function", "path", "function_name", "role_name", "app_name"), NAMES),
    **dict.fromkeys(("sha256", "policy_digest", "digest"), DIGESTS),
    "slot": ("app", "layer"),
    "method": ("get", "post", "x-amazon-apigateway-any-method"),
    "auth": ("", "iam", "pool", "iam+pool"),
    "effect": ("Allow", "Deny", ""),
    "endpoint": ("EDGE", "REGIONAL", "PRIVATE"),
    "tls": ("", "TLS_1_0", "TLS_1_2"),
    "stage": ("dev", "prod"),
    "python": ("3.11", "3.12"),
    "variables_key": ("", "0123456789abcdef"),
}
KINDS = {
    Authorizer: ("iam", "cognito", "lambda"),
    Trigger: ("schedule", "s3", "sqs"),
    Api: ("rest", "websocket"),
    Domain: ("rest", "websocket"),
}


def arbitrary(seed: int) -> Snapshot:
    """The snapshot of a number: every field of every part is something, by its declared type."""
    made: Snapshot = _made(Snapshot, random.Random(seed))
    return made


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _made(kind: Any, chance: random.Random) -> Any:
    return kind(
        **{
            field.name: _value(
                _hints(kind)[field.name],
                KINDS[kind]
                if field.name == "kind" and kind in KINDS
                else FIELDS.get(field.name, TEXTS),
                chance,
            )
            for field in fields(kind)
        }
    )


def _value(hint: Any, texts: tuple[str, ...], chance: random.Random) -> Any:
    arguments = get_args(hint)
    if hint is str:
        return chance.choice(texts)
    if hint is bool:
        return chance.random() < 0.5
    if hint is int:
        return chance.randrange(6)
    if type(None) in arguments:
        return None if chance.random() < 0.4 else _value(arguments[0], texts, chance)
    if get_origin(hint) is not tuple:
        return _made(hint, chance)
    if arguments[-1] is not Ellipsis:
        return tuple(_value(argument, texts, chance) for argument in arguments)
    items = (_value(arguments[0], texts, chance) for _ in range(chance.randrange(4)))
    by_key = {_key(item): item for item in items}
    return tuple(by_key.values())


def _key(item: Any) -> Any:
    return getattr(item, "key", getattr(item, "name", item[0] if type(item) is tuple else item))


SNAPSHOTS = st.integers(0, 2**32).map(arbitrary)


# -- large ----------------------------------------------------------------------------------------


def large(*, routes: int = 300, functions: int = 50, files: int = 20_000, of: int = 0) -> Snapshot:
    """A stage of this size; another `of` gives one in which every tenth thing is another."""

    def turn(number: int) -> str:
        return f"{of}" if number % 10 == 0 else "0"

    return replace(
        EMPTY,
        routes=tuple(
            Route(
                path=f"/things/{number}/{{id}}",
                method="get",
                function=f"view{number}",
                auth="" if turn(number) == "1" else "pool",
                content_types=("application/json",),
            )
            for number in range(routes)
        ),
        functions=tuple(
            function(f"f{number}", memory=128 + int(turn(number))) for number in range(functions)
        ),
        roles=tuple(
            role(
                allow(f"s3:Get{turn(number)}", on=f"arn:aws:s3:::bucket{number}/*"),
                name=f"f{number}_role",
            )
            for number in range(functions)
        ),
        dependencies=tuple(
            Dependency(
                name=f"package{number}",
                version=f"1.{turn(number)}",
                direct=number % 3 == 0,
                size=100_000 + number,
                packed=30_000 + number,
                sha256=f"{number:063x}{turn(number)}",
            )
            for number in range(100)
        ),
        archives=(
            Archive(slot="app", sha256=f"{of:064x}", size=9_000_000, unpacked_size=files * 1000),
        ),
        files=tuple(
            File(
                "app",
                f"package{number % 100}/module{number // 100}/part{number}.py",
                1000 + number % 77 + int(turn(number // 100)),
                f"{number:063x}{turn(number // 100)}",
                "" if number < 500 else f"package{number % 100}",
            )
            for number in range(files)
        ),
    )
