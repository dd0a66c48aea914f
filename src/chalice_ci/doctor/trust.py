"""Who may assume a deploy role: its trust policy, read for GitHub's OIDC provider. Pure.

The subject of GitHub's tokens is `repo:OWNER/NAME:` with `ref:refs/heads/BRANCH`,
`environment:NAME` or `pull_request` after it (GitHub's "OpenID Connect reference").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chalice_ci import rules
from chalice_ci.findings import Finding

PROVIDER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
ANYBODY = "anybody in AWS may assume it"


def trust_findings(role: str, trust: Mapping[str, Any], *, repository: str) -> Iterator[Finding]:
    """What is wrong with a role's trust policy; `repository` is "owner/name", empty: unknown."""
    seen = False
    for federated, condition in allowed(trust):
        if federated is None:
            yield _open(role, ANYBODY)
        elif any(one.endswith(f"oidc-provider/{PROVIDER}") for one in federated):
            seen = True
            yield from _github(role, condition, repository)
    if not seen:
        yield rules.finding(
            "trust-without-oidc",
            what=f"the workflows' OIDC provider may not assume {role}.",
            fix=f"Let its trust policy name arn:aws:iam::ACCOUNT:oidc-provider/{PROVIDER} "
            "(chalice-ci init writes one).",
            subject=role,
        )


def _github(role: str, condition: Mapping[str, Any], repository: str) -> Iterator[Finding]:
    audiences, _ = tested(condition, f"{PROVIDER}:aud")
    if AUDIENCE not in audiences:
        yield rules.finding(
            "trust-without-audience",
            what=f"the trust policy of {role} does not test the audience of the token.",
            fix=f'Add "StringEquals": {{"{PROVIDER}:aud": "{AUDIENCE}"}}.',
            subject=role,
        )
    subjects, vacuous = tested(condition, f"{PROVIDER}:sub")
    if not subjects or vacuous:
        why = "tests no subject" if not subjects else "is met by a token without a subject"
        yield _open(role, f"its trust policy {why}, so every repository of GitHub may assume it")
        return
    kinds = {_parts(subject)[2] for subject in subjects}
    for subject in subjects:
        yield from _subject(role, subject, repository, alone=len(kinds) == 1)


def _parts(subject: str) -> tuple[str, str, str, str]:
    """Of `repo:OWNER/NAME:KIND:VALUE` each part; what is missing is empty."""
    head, _, rest = subject.partition(":")
    named, _, claim = rest.partition(":")
    kind, _, value = claim.partition(":")
    return head, named, kind, value


def _subject(role: str, subject: str, repository: str, *, alone: bool) -> Iterator[Finding]:
    """`alone` says that the role trusts nothing of another kind."""
    head, named, kind, value = _parts(subject)
    if head != "repo" or "*" in named or "?" in named:
        yield _open(role, f"the subject {subject} lets other repositories assume it")
        return
    if repository and named.lower() != repository.lower():
        yield rules.finding(
            "trust-other-repository",
            what=f"repository {named} may assume {role}, this one is {repository}.",
            fix=f"Let the subject begin with repo:{repository}:, or take the statement away.",
            subject=role,
        )
    if "*" in kind or "?" in kind or not kind:
        yield rules.finding(
            "trust-subject-wildcard",
            what=f"the subject {subject} lets every branch and pull request assume {role}.",
            fix=f"Name what deploys: repo:{named}:ref:refs/heads/main, or with a gate "
            f"repo:{named}:environment:production.",
            subject=role,
        )
    elif kind == "pull_request" and not alone:
        yield rules.finding(
            "trust-pull-request",
            what=f"every pull request's workflow may assume {role}.",
            fix="Give previews a role of their own that can't touch other stages, and take this "
            "subject from the role that deploys them.",
            subject=role,
        )
    elif value.startswith("refs/tags/"):
        # Version tags are a pattern by nature; who may make them is a matter of tag rules.
        return
    elif kind in ("ref", "environment") and ("*" in value or "?" in value):
        yield rules.finding(
            "trust-subject-wildcard",
            what=f"the subject {subject} is a pattern: who may push to one of them deploys.",
            fix=f"Name the {'branch' if kind == 'ref' else 'environment'} itself; for tags use an "
            "environment whose rules name them.",
            subject=role,
        )


def _open(role: str, why: str) -> Finding:
    return rules.finding(
        "trust-open",
        what=f"{role}: {why}.",
        fix='Test the subject with StringEquals: "repo:OWNER/NAME:ref:refs/heads/main".',
        subject=role,
    )


def tested(condition: Mapping[str, Any], key: str) -> tuple[tuple[str, ...], bool]:
    """The values that a key is compared with, and whether a token without the key passes."""
    values: list[str] = []
    vacuous = False
    for operator, tests in condition.items():
        if not isinstance(tests, Mapping):
            continue
        for name, wanted in tests.items():
            if str(name).lower() != key:
                continue
            if "Not" in operator:
                continue
            values += wanted if isinstance(wanted, list) else [str(wanted)]
            vacuous = vacuous or operator.startswith("ForAllValues:")
            vacuous = vacuous or operator.endswith("IfExists")
    return tuple(map(str, values)), vacuous


def allowed(
    trust: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, ...] | None, Mapping[str, Any]]]:
    """Of each statement that lets somebody assume a role the providers of tokens, None for anybody
    in AWS, and its condition.
    """
    statements = trust.get("Statement") or []
    for statement in statements if isinstance(statements, list) else [statements]:
        if not isinstance(statement, Mapping) or statement.get("Effect") != "Allow":
            continue
        principal = statement.get("Principal")
        anybody = principal == "*" or "*" in _of(principal, "AWS")
        yield None if anybody else _of(principal, "Federated"), statement.get("Condition") or {}


def _of(principal: Any, kind: str) -> tuple[str, ...]:
    """The principals of a kind that a statement names."""
    found = principal.get(kind) if isinstance(principal, Mapping) else None
    if found is None:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else (str(found),)
