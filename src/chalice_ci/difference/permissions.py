"""What a policy permits more or less than another one.

A policy is a set of grants: one action pattern on one resource pattern, under one condition. A
grant that no earlier grant covers is a widening. Covering is decided on the patterns alone and errs
on the side of telling: what is called covered is, what is not may be covered by several together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from chalice_ci.difference.changes import Area, Change, Detail, Kind, Risk, Risky
from chalice_ci.difference.details import differing
from chalice_ci.snapshot import Function, Role, Snapshot, Statement

MAX_GRANTS = 2_000
"""Of a policy: IAM's own bound for a role's policies is 10,240 characters."""
_MAX_PATTERN = 2_048


class Grant(NamedTuple):
    """One action on one resource; `negated` for Not* lists, which stand as one text."""

    effect: str
    action: str
    resource: str
    conditions: str
    principals: str
    negated: bool


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What became of a policy; grants in order."""

    widened: tuple[Grant, ...]
    narrowed: tuple[Grant, ...]
    wildcards: tuple[Grant, ...]
    """Those of `widened` with a `*` for the whole of an action's name or for all resources."""
    too_many: bool
    """There were more grants than are compared."""
    before: frozenset[Grant] = frozenset()


def compare_policies(before: Iterable[Statement], after: Iterable[Statement]) -> Compared:
    """What a policy permits that another one did not, and the other way round."""
    old, new = frozenset(before), frozenset(after)
    had, has = _grants(old), _grants(new)
    if max(len(had), len(has)) > MAX_GRANTS:
        return Compared(widened=(), narrowed=(), wildcards=(), too_many=old != new)
    # Less of a Deny is more permitted.
    more = (*_uncovered(has, had, "Allow"), *_uncovered(had, has, "Deny"))
    less = (*_uncovered(had, has, "Allow"), *_uncovered(has, had, "Deny"))
    return Compared(
        widened=tuple(sorted(more)),
        narrowed=tuple(sorted(less)),
        wildcards=tuple(sorted(g for g in more if g.effect == "Allow" and is_wildcard(g))),
        too_many=False,
        before=had,
    )


def is_wildcard(grant: Grant) -> bool:
    """Whether a grant names no single action of a service, or no resource at all."""
    name = grant.action.rpartition(":")[2]
    return grant.negated or name == "*" or grant.action == "*" or grant.resource == "*"


def _grants(statements: Iterable[Statement]) -> frozenset[Grant]:
    found: set[Grant] = set()
    for statement in statements:
        found.update(_of_statement(statement))
        if len(found) > MAX_GRANTS:
            break
    return frozenset(found)


def _of_statement(statement: Statement) -> Iterator[Grant]:
    if statement.other:
        yield Grant("Allow", statement.other, "", "", "", True)
        return
    negated = bool(statement.not_actions or statement.not_resources)
    actions = statement.actions or (f"all but {', '.join(statement.not_actions)}",)
    resources = statement.resources
    if statement.not_resources:
        resources = (f"all but {', '.join(statement.not_resources)}",)
    for action in actions:
        for resource in resources or ("",):
            yield Grant(
                statement.effect,
                action,
                resource,
                statement.conditions,
                statement.principals,
                negated,
            )


def _uncovered(grants: Iterable[Grant], by: frozenset[Grant], effect: str) -> Iterator[Grant]:
    rivals = [grant for grant in by if grant.effect == effect]
    for grant in grants:
        if grant.effect != effect or grant in by:
            continue
        if not any(_covers(rival, grant) for rival in rivals):
            yield grant


def _covers(wide: Grant, narrow: Grant) -> bool:
    return (
        not wide.negated
        and not narrow.negated
        and wide.conditions in ("", narrow.conditions)
        and wide.principals == narrow.principals
        and covers(wide.action.lower(), narrow.action.lower())
        and covers(wide.resource, narrow.resource)
    )


def covers(wide: str, narrow: str) -> bool:
    """Whether everything that the pattern `narrow` matches is matched by `wide` as well.

    IAM's patterns: `*` is any text, `?` any character. A `*` of `narrow` is only covered by a `*`.
    """
    if wide == narrow:
        return True
    if len(wide) > _MAX_PATTERN or len(narrow) > _MAX_PATTERN:
        return False
    at = resume = 0
    star = -1
    here = 0
    while here < len(narrow):
        if at < len(wide) and wide[at] == "*":
            star, resume, at = at, here, at + 1
        elif at < len(wide) and (wide[at] == narrow[here] or _any_one(wide[at], narrow[here])):
            at, here = at + 1, here + 1
        elif star >= 0:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return all(character == "*" for character in wide[at:])


def _any_one(wide: str, narrow: str) -> bool:
    return wide == "?" and narrow != "*"


# -- roles ----------------------------------------------------------------------------------------


def role_added(role: Role, before: Snapshot) -> Change:
    """A new role: what it may do more than the roles that were there before, all together."""
    known = tuple(statement for other in before.roles for statement in other.statements)
    compared = compare_policies(known, role.statements)
    risks = _risks(compared) if before.roles else _risks(compared, Risk.WILDCARD)
    return Change(
        area=Area.ROLE,
        kind=Kind.ADDED,
        subject=role.name,
        details=tuple(_grant_details((), role.statements)),
        risks=risks,
    )


def function_role(
    function: Function, before: Function | None, was: Snapshot, now: Snapshot
) -> tuple[Risky, ...]:
    """What a function may do more than before because it got another role, or is new with one that
    only its ARN tells: nothing here says what such a role permits.
    """
    if before is not None and before.role == function.role:
        return ()
    role = _role(now, function.role)
    if role is None:
        if before is None and any(other.role == function.role for other in was.functions):
            return ()
        had = "" if before is None else f", before as {before.role}"
        why = f"It runs as {function.role}{had}: what that role permits is not known here."
        return (Risky(risk=Risk.WIDENED, why=why),)
    if before is None:
        return ()
    old = _role(was, before.role)
    if old is None:
        why = (
            f"It runs as {function.role}, before as {before.role}: what that role permitted is not "
            "known here."
        )
        return (Risky(risk=Risk.WIDENED, why=why),)
    more = _risks(compare_policies(old.statements, role.statements), Risk.WIDENED)
    return tuple(
        replace(one, why=f"It runs as {function.role}, before as {before.role}. {one.why}")
        for one in more
    )


def _role(snapshot: Snapshot, name: str) -> Role | None:
    return next((role for role in snapshot.roles if role.name == name), None)


def role_removed(role: Role) -> Change:
    """A role that is deleted: nothing else has its ARN."""
    return Change(
        area=Area.ROLE,
        kind=Kind.REMOVED,
        subject=role.name,
        details=tuple(_grant_details(role.statements, ())),
        risks=(
            Risky(
                risk=Risk.DESTRUCTIVE,
                why=f"The role {role.role_name} is deleted; policies that name its ARN lose it.",
            ),
        ),
    )


def role_changed(before: Role, after: Role) -> Change | None:
    """What a role may do now and could not before, and the other way round."""
    compared = compare_policies(before.statements, after.statements)
    risks = list(_risks(compared))
    if before.role_name != after.role_name:
        why = f"The role is made anew as {after.role_name}; its ARN is another one."
        risks.insert(0, Risky(risk=Risk.DESTRUCTIVE, why=why))
    details = (
        *differing(
            (
                ("name", before.role_name, after.role_name),
                ("policy", before.policy, after.policy),
            )
        ),
        *_grant_details(before.statements, after.statements),
    )
    if not details and not risks:
        return None
    return Change(
        area=Area.ROLE,
        kind=Kind.CHANGED,
        subject=after.name,
        details=details,
        risks=tuple(risks),
    )


def policy_details(before: Iterable[Statement], after: Iterable[Statement]) -> tuple[Detail, ...]:
    """A policy's grants that differ, by action: the resources before and after."""
    return tuple(_grant_details(before, after))


def _risks(compared: Compared, *only: Risk) -> tuple[Risky, ...]:
    found = []
    if compared.wildcards:
        why = f"`*` is new: {_named(compared.wildcards, compared.before)}."
        found.append(Risky(risk=Risk.WILDCARD, why=why))
    if compared.too_many:
        why = f"The policy has more than {MAX_GRANTS} grants: compare its text."
        found.append(Risky(risk=Risk.WIDENED, why=why))
    elif compared.widened:
        why = f"More is permitted: {_named(compared.widened, compared.before)}."
        found.append(Risky(risk=Risk.WIDENED, why=why))
    return tuple(risk for risk in found if not only or risk.risk in only)


_NAMED = 5


def _named(grants: tuple[Grant, ...], before: frozenset[Grant]) -> str:
    texts = tuple(
        dict.fromkeys(
            f"{'no longer denied: ' if grant.effect == 'Deny' else ''}{grant.action}"
            + (f" on {grant.resource}" if grant.resource else "")
            + _until_now(grant, before)
            for grant in grants
        )
    )
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more


_BEFORE = 3


def _until_now(grant: Grant, before: frozenset[Grant]) -> str:
    """What was permitted of an action before, where something of it was."""
    if grant.effect == "Deny" or grant.negated:
        return ""
    action = grant.action.lower()
    found = [
        _in_words(one, grant)
        for one in sorted(before)
        if one.effect == "Allow"
        and not one.negated
        and (covers(one.action.lower(), action) or covers(action, one.action.lower()))
    ]
    more = " and more" if len(found) > _BEFORE else ""
    return f" (before: {', '.join(found[:_BEFORE])}{more})" if found else ""


def _in_words(had: Grant, now: Grant) -> str:
    same = had.action == now.action
    text = f"on {had.resource}" if same else f"{had.action} on {had.resource}"
    return f"{text} if {had.conditions}" if had.conditions else text


def _grant_details(before: Iterable[Statement], after: Iterable[Statement]) -> Iterator[Detail]:
    had, has = _by_action(before), _by_action(after)
    for key in sorted({*had, *has}):
        if had.get(key) != has.get(key):
            yield Detail(name=_label(key), before=had.get(key), after=has.get(key))


def _label(key: tuple[str, str, str, str]) -> str:
    effect, action, conditions, principals = key
    parts = ["" if effect == "Allow" else f"{effect.lower()} ", action]
    parts += [f" for {principals}" if principals else "", f" if {conditions}" if conditions else ""]
    return "".join(parts)


def _by_action(statements: Iterable[Statement]) -> Mapping[tuple[str, str, str, str], str]:
    """The resources of each action, as one text."""
    found: dict[tuple[str, str, str, str], set[str]] = {}
    for grant in _grants(statements):
        key = (grant.effect, grant.action, grant.conditions, grant.principals)
        found.setdefault(key, set()).add(grant.resource)
    return {key: ", ".join(sorted(resources)) or "-" for key, resources in found.items()}
