"""Who may assume a deploy role with a token of a CI system beside GitHub. Pure.

The forms of the subjects and their sources are those of `scaffold/identity.py`. A subject has to
name the project, and of it a branch, a tag, an environment or a step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chalice_ci import rules
from chalice_ci.context import System
from chalice_ci.doctor.trust import ANYBODY, allowed, tested
from chalice_ci.findings import Finding

_ANY = re.compile(r"[*?]")
_ALL_BRANCHES = "branch:ref:*"


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A system's OIDC provider: the name of its issuer, and how it writes a subject.

    Of `subject` the group `who` is the project and `what` the part of it; `example` is a good one.
    """

    issuer: re.Pattern[str]
    subject: re.Pattern[str]
    example: str


PROVIDERS: Mapping[System, Provider] = {
    System.GITLAB: Provider(
        issuer=re.compile(r"[^/]*gitlab[^/]*"),
        subject=re.compile(
            r"project_path:(?P<who>[^:]+)(?::ref_type:(?P<what>(?:branch|tag):ref:[^:]+)|:.*)?"
        ),
        example="project_path:GROUP/PROJECT:ref_type:branch:ref:main",
    ),
    System.CIRCLECI: Provider(
        issuer=re.compile(r"oidc\.circleci\.com/org/.+"),
        # `*` for the user would let the name of a branch go on as the subject should.
        subject=re.compile(
            r"(?P<who>org/[^/]+/project/[^/]+)/user/"
            r"(?:[?0-9a-f-]+/vcs-origin/[^*?]+/vcs-ref/refs/(?P<what>.+)|.*)"
        ),
        example="org/ORG/project/PROJECT/user/????????-????-????-????-????????????/vcs-origin/"
        "github.com/OWNER/NAME/vcs-ref/refs/heads/main",
    ),
    System.BITBUCKET: Provider(
        issuer=re.compile(r"api\.bitbucket\.org/2\.0/workspaces/.+/identity/oidc"),
        subject=re.compile(r"(?P<who>\{[^}]*\}|\*):(?:(?P<what>\{[^}]+\}):.+|.*)"),
        example="{REPOSITORY}:{ENVIRONMENT}:*",
    ),
    System.AZURE: Provider(
        issuer=re.compile(r"vstoken\.dev\.azure\.com/.+"),
        subject=re.compile(r"sc://(?P<who>[^/]+/[^/]+)(?:/(?P<what>.+))?"),
        example="sc://ORGANIZATION/PROJECT/CONNECTION",
    ),
    System.BUILDKITE: Provider(
        issuer=re.compile(r"agent\.buildkite\.com"),
        subject=re.compile(
            r"(?P<who>organization:[^:]+:pipeline:[^:]+)(?::ref:refs/(?P<what>[^:]+)(?::.*)?|:.*)?"
        ),
        example="organization:ORG:pipeline:PIPELINE:ref:refs/heads/main:commit:*:step:deploy",
    ),
}


def token_findings(
    role: str,
    trust: Mapping[str, Any],
    *,
    system: System,
    previews: bool = False,
    server: str = "",
) -> Iterator[Finding]:
    """What is wrong with a role's trust policy for a system of `PROVIDERS`; of others nothing.

    With `previews` it is theirs alone: then all branches of the project may have it. `server` is
    the host of a GitLab of one's own.
    """
    provider = PROVIDERS.get(system)
    seen = False
    for federated, condition in allowed(trust):
        if federated is None:
            yield _open(role, ANYBODY, provider)
        for name in federated or ():
            issuer = name.partition(":oidc-provider/")[2]
            own = system is System.GITLAB and issuer == server != ""
            if provider is not None and (own or provider.issuer.fullmatch(issuer)):
                seen = True
                yield from _of_provider(role, condition, issuer, provider, previews=previews)
    if provider is not None and not seen:
        yield rules.finding(
            "trust-without-oidc",
            what=f"the OIDC provider of the jobs of {system} may not assume {role}.",
            fix="Let its trust policy name it (chalice-ci init writes one).",
            subject=role,
        )


def _of_provider(
    role: str,
    condition: Mapping[str, Any],
    issuer: str,
    provider: Provider,
    *,
    previews: bool,
) -> Iterator[Finding]:
    audiences, _ = tested(condition, f"{issuer}:aud")
    if not audiences or "*" in audiences:
        yield rules.finding(
            "trust-without-audience",
            what=f"the trust policy of {role} does not test the audience of the token.",
            fix=f'Test "{issuer}:aud" with StringEquals.',
            subject=role,
        )
    subjects, vacuous = tested(condition, f"{issuer}:sub")
    if not subjects or vacuous:
        why = "tests no subject" if not subjects else "is met by a token without a subject"
        yield _open(role, f"its trust policy {why}, so every project there may assume it", provider)
    for subject in subjects if not vacuous else ():
        found = provider.subject.fullmatch(subject)
        if found is None or _ANY.search(found["who"]):
            yield _open(role, f"the subject {subject} lets other projects assume it", provider)
        elif _broad(found["what"] or "*") and not (previews and found["what"] == _ALL_BRANCHES):
            yield rules.finding(
                "trust-subject-wildcard",
                what=f"the subject {subject} lets more of this project assume {role} than what "
                "deploys.",
                fix=f"Name what deploys: {provider.example}.",
                subject=role,
            )


def _broad(what: str) -> bool:
    """Whether it is a pattern; one of version tags is by nature, who makes them is another rule."""
    return not what.startswith(("tags/", "tag:ref:")) and _ANY.search(what) is not None


def _open(role: str, why: str, provider: Provider | None) -> Finding:
    example = f": {provider.example}" if provider else ""
    return rules.finding(
        "trust-open",
        what=f"{role}: {why}.",
        fix=f"Name in the trust policy who deploys{example}.",
        subject=role,
    )
