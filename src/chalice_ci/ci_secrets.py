"""The CI's secrets that become environment variables of functions.

Their values come from the environment of the job, `CHALICE_CI_SECRET_<NAME>`, and are taken out of
it before anything else is started. They are in this process and in the deployer's, nowhere else:
everything that is written, printed or recorded holds a placeholder, `chalice-ci:secret:<NAME>`.
Pure.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from chalice_ci.config import SecretRef
from chalice_ci.errors import UsageError, UserError

if TYPE_CHECKING:
    from chalice_ci.graph import Graph

PREFIX = "CHALICE_CI_SECRET_"
"""What the name of an environment variable begins with that holds a secret's value."""
HIDDEN = "***"
SHORTEST = 4
"""A value of fewer characters is not looked for in texts: it is no secret, and it is everywhere."""
SHORTEST_AT_LOAD = 8
"""An app that has seen a value may say it anywhere; what is shorter cannot be told from words."""

_PLACEHOLDER = "chalice-ci:secret:"
_LONGEST_WRAPPED = 1024
_SENTENCES = {"fix", "message", "note", "what", "where", "why"}
_Anything = TypeVar("_Anything")


def placeholder(secret: str) -> str:
    """What stands for the value of a secret."""
    return _PLACEHOLDER + secret


@dataclass(frozen=True, kw_only=True, order=True)
class SecretVariable:
    """A variable of functions whose value is a secret's; no functions: all of them."""

    variable: str
    secret: str
    functions: tuple[str, ...] = ()

    @property
    def placeholder(self) -> str:
        """What stands for the value in the application graph."""
        return placeholder(self.secret)


@dataclass(frozen=True, kw_only=True)
class InjectedVariable:
    """A variable that the deployer fills: where `placeholder` stands, `value` goes.

    Without a value (a plan that was made without the secret) nothing is filled. `open` says that
    the value may have been unknown when the plan was made: what would set it counts as to be done,
    and changes only what differs.
    """

    variable: str
    placeholder: str
    value: str | None = field(repr=False)
    open: bool = False


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The values by the names of the secrets."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def missing(self, wanted: Iterable[SecretVariable]) -> tuple[str, ...]:
        """The names of secrets that are not here, sorted."""
        return tuple(sorted({one.secret for one in wanted} - set(self.values)))

    def injected(
        self, wanted: Iterable[SecretVariable], *, unknown: Iterable[str] = ()
    ) -> tuple[InjectedVariable, ...]:
        """The variables with their values; `unknown` secrets were not known to the plan."""
        names = frozenset(unknown)
        return tuple(
            InjectedVariable(
                variable=one.variable,
                placeholder=one.placeholder,
                value=self.values.get(one.secret),
                open=one.secret in names,
            )
            for one in wanted
        )

    @functools.cached_property
    def _hidden(self) -> re.Pattern[str] | None:
        forms = {form for value in self.values.values() for form in spellings(value)}
        if not forms:
            return None
        # The longest first: one secret may be a part of another.
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        return re.compile("|".join(map(_wrapped, longest_first)))

    def redact(self, text: str) -> str:
        """The text without any of the values."""
        return text if self._hidden is None else self._hidden.sub(HIDDEN, text)

    def without(self, found: _Anything) -> _Anything:
        """A result, or anything made of dataclasses and tuples, its sentences without the values.

        Names stay: a secret that happens to be the app's name must not rename it.
        """
        if self._hidden is None:
            return found
        cleaned: _Anything = self._without(found)
        return cleaned

    def _without(self, found: Any) -> Any:
        if isinstance(found, tuple):
            return tuple(self._without(item) for item in found)
        if not is_dataclass(found) or isinstance(found, type):
            return found
        changed = {}
        for one in fields(found):
            old = getattr(found, one.name)
            if isinstance(old, str):
                new = self.redact(old) if one.name in _SENTENCES else old
            else:
                new = self._without(old)
            if new != old:
                changed[one.name] = new
        return replace(found, **changed) if changed else found

    def clean(self, error: UserError) -> None:
        """Take the values out of an error's sentences."""
        error.what, error.where, error.fix = map(self.redact, (error.what, error.where, error.fix))
        error.args = (error.what,)


NO_SECRETS = Secrets()


def take_secrets(env: Mapping[str, str]) -> tuple[Secrets, dict[str, str]]:
    """The secrets of an environment, and the environment without them.

    An empty variable is what GitHub makes of a secret that is not there.
    """
    values, rest = {}, {}
    for name, value in env.items():
        if not name.startswith(PREFIX):
            rest[name] = value
        elif value:
            values[name.removeprefix(PREFIX)] = value
    return Secrets(values=values), rest


def _wrapped(form: str) -> str:
    """A pattern of a text that may have been broken into lines: Chalice wraps what AWS says."""
    if len(form) > _LONGEST_WRAPPED:
        return re.escape(form)
    return r"(?:\s*\n\s*)?".join(r"\s+" if char.isspace() else re.escape(char) for char in form)


def spellings(value: str) -> Iterator[str]:
    """How a value may stand in a text: as it is, line by line, and as usual encodings write it."""
    for plain in dict.fromkeys([value, value.strip(), *value.splitlines()]):
        if len(plain) < SHORTEST:
            continue
        yield plain
        yield json.dumps(plain)[1:-1]
        yield json.dumps(plain, ensure_ascii=False)[1:-1]
        yield repr(plain)[1:-1]
        yield urllib.parse.quote(plain, safe="")
        yield urllib.parse.quote_plus(plain)
        encoded = base64.b64encode(plain.encode("utf-8", "surrogateescape")).decode("ascii")
        yield encoded
        yield encoded.rstrip("=")


def variables_of(refs: Iterable[tuple[str, SecretRef]]) -> tuple[SecretVariable, ...]:
    """The secret variables that a stage's configuration asks for, sorted."""
    return tuple(
        sorted(
            SecretVariable(variable=name, secret=ref.name, functions=ref.functions)
            for name, ref in refs
        )
    )


def refuse_missing(missing: Iterable[str], *, where: str) -> None:
    """Raise UsageError when secrets are not here."""
    names = tuple(missing)
    if not names:
        return
    lines = "".join(f"\n  {PREFIX}{name}: ${{{{ secrets.{name} }}}}" for name in names)
    raise UsageError(
        f"{_count(names)} not here: {', '.join(names)}.",
        where=where,
        fix=f"Give the job or the step that deploys, on GitHub:\n  env:{lines}\n"
        f"Elsewhere set the variable {PREFIX}{names[0]}.",
    )


def _count(names: tuple[str, ...]) -> str:
    return "a secret that the stage needs is" if len(names) == 1 else "secrets of the stage are"


def refuse_elsewhere(
    graph: Graph, wanted: Iterable[SecretVariable], *, functions: Iterable[str], where: str
) -> None:
    """Raise UsageError unless each placeholder of a loaded app stands where it belongs.

    An app that has the value at load may build it into anything; there it would be deployed as a
    placeholder. A function that is named and not there gets nothing.
    """
    allowed = tuple(wanted)
    known = set(functions)
    for one in allowed:
        unknown = [name for name in one.functions if name not in known]
        if unknown:
            raise UsageError(
                f"`{one.variable}` is for the function {', '.join(unknown)}, which the app does "
                "not have.",
                where=where,
                fix=f"Its functions are {', '.join(sorted(known)) or 'none'}.",
            )
    for resource in graph.resources:
        own = resource.name if resource.type == "LambdaFunction" else None
        for path, text in _texts(resource.fields, ()):
            if _PLACEHOLDER not in text:
                continue
            if (
                own is not None
                and len(path) == 2
                and path[0] == "environment_variables"
                and any(
                    (one.variable, one.placeholder) == (path[1], text)
                    and (not one.functions or own in one.functions)
                    for one in allowed
                )
            ):
                continue
            name = text.partition(_PLACEHOLDER)[2][:200]
            raise UsageError(
                f"the secret {re.split(r'[^A-Za-z0-9_]', name)[0]} would become part of "
                f"{resource.name or resource.type} ({'.'.join(path)}), where anybody who may look "
                "at the stage could read it.",
                where=where,
                fix="Let the app read the variable when a request comes, not while it is loaded.",
            )


def _texts(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield path, str(key)
            yield from _texts(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, str(index)))


def value_digest(key: bytes, *, scope: tuple[str, ...], value: str) -> str:
    """A digest of a value under a key: equal values of one scope are equal, and that is all.

    `scope` (app, stage, function, variable) keeps equal values of different places apart.
    """
    message = "\0".join((*scope, value)).encode("utf-8", "surrogateescape")
    return hmac.new(key, message, hashlib.sha256).hexdigest()
