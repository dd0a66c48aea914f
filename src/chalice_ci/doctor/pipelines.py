"""What is wrong with the pipeline of a CI system beside GitHub. Pure.

Of a pipeline that is YAML the steps that deploy are looked at; what ours it takes, the roles and
stored keys are found line by line, in every system.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from chalice_ci import rules
from chalice_ci.context import System
from chalice_ci.doctor.roles import RoleUse
from chalice_ci.doctor.tokens import PROVIDERS
from chalice_ci.findings import Finding, Place
from chalice_ci.positions import ListNode, MapNode, Node, ScalarNode

FILES: Mapping[System, tuple[str, ...]] = {
    System.GITLAB: (".gitlab-ci.yml", ".gitlab/*.yml"),
    System.CIRCLECI: (".circleci/*.yml",),
    System.JENKINS: ("Jenkinsfile", "Jenkinsfile.*"),
    System.BITBUCKET: ("bitbucket-pipelines.yml",),
    System.AZURE: ("azure-pipelines*.yml",),
    System.CODEBUILD: (".codebuild/*.yml", "buildspec.yml"),
    System.BUILDKITE: (".buildkite/*.yml",),
}
"""Where the pipelines of each system are, as patterns from the root."""

_COMMAND = re.compile(r"\bchalice-ci\s+[a-z]")
_IMAGE = re.compile(r"\bchalice-action(?P<version>[:@][^\s'\"]+)?")
_TAKEN: Mapping[System, re.Pattern[str]] = {
    System.GITLAB: re.compile(r"/chalice@(?P<version>[^\s'\"]+)"),
    System.CIRCLECI: re.compile(r"/chalice-ci@(?P<version>[^\s'\"]+)"),
    System.JENKINS: re.compile(r"@Library\(['\"]chalice-ci(?:@(?P<version>[^'\"]+))?['\"]\)"),
    System.BITBUCKET: re.compile(r"/chalice-ci-pipe(?P<version>[:@][^\s'\"]+)?"),
    System.AZURE: re.compile(r"^\s*ref:\s*(?P<version>\S+)"),
    System.BUILDKITE: re.compile(r"/chalice-ci#(?P<version>[^\s:'\"]+)"),
}
_PINNED = re.compile(
    r"(?:refs/tags/|[:@])?v?\d+\.\d+\.\d+(?:@sha256:[0-9a-f]{64})?|@?[0-9a-f]{40}"
    r"|(?:[:@]\S+)?@sha256:[0-9a-f]{64}"
)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_PREVIEWS = re.compile(r"\s*preview-role:")
"""The input of GitLab's component."""
_KEY = re.compile(r"AWS_SECRET_ACCESS_KEY['\"]?\s*[:=]\s*(?P<value>\S.*)")
_EMPTY = re.compile(r"['\"]{2}\s*(?:#.*)?")


def pipeline_findings(
    system: System, texts: Mapping[str, str], trees: Mapping[str, Node | None]
) -> Iterator[Finding]:
    """What is wrong with the pipelines, by the name of their file; trees are of those in YAML."""
    taken = [(name, found) for name, text in texts.items() for found in _taken(system, name, text)]
    runs = any(_COMMAND.search(text) for text in texts.values())
    if not taken and not runs:
        yield rules.finding(
            "workflow-missing",
            what=f"nothing in {', '.join(texts) or FILES[system][0]} checks or deploys.",
            fix=f"chalice-ci init --system {system} writes it.",
        )
    for _, (version, at) in taken:
        if not _PINNED.fullmatch(version):
            shown = version.lstrip(":@") or "no version"
            yield rules.finding(
                "workflow-unpinned-action",
                what=f"the pipeline takes {shown} of chalice-ci, which can become another one.",
                fix="Name a release in full, such as 1.0.0, or a digest.",
                subject=shown,
                at=at,
            )
    # Where jobs have no token, a stored key is all there is.
    if system in PROVIDERS:
        yield from chain.from_iterable(_keys(name, text) for name, text in texts.items())
    for tree in trees.values():
        yield from _concurrency(system, tree)


def pipeline_roles(texts: Mapping[str, str]) -> Iterator[RoleUse]:
    """The roles that pipelines name, each once."""
    seen: set[str] = set()
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for arn in _ROLE.findall(line):
                if arn not in seen:
                    seen.add(arn)
                    yield RoleUse(
                        arn=arn,
                        at=Place(file=name, line=number),
                        previews=_PREVIEWS.match(line) is not None,
                    )


def _taken(system: System, name: str, text: str) -> Iterator[tuple[str, Place]]:
    """What of ours a pipeline takes: the version, as it is written, and where."""
    if system is System.AZURE and "plugins/azure/" not in text:
        return
    form = _TAKEN.get(system, _IMAGE)
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("#", "//")) and "@Library" not in line:
            continue
        for found in form.finditer(line):
            yield found["version"] or "", Place(file=name, line=number)


def _keys(name: str, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), 1):
        found = _KEY.search(line)
        if found and not _EMPTY.fullmatch(found["value"].strip()):
            yield rules.finding(
                "workflow-static-keys",
                what="the pipeline takes a stored key of AWS.",
                fix="Let the job take a role with its own token: `role-to-assume`.",
                at=Place(file=name, line=number),
            )


def _concurrency(system: System, tree: Node | None) -> Iterator[Finding]:
    """Jobs that deploy and may run twice at once, where a pipeline says so itself."""
    match system:
        case System.BUILDKITE:
            wanted, listed = "concurrency_group", _items(tree, "steps")
            deploying = [one for one in listed if _deploys_on_buildkite(one)]
        case System.AZURE:
            wanted, listed = "lockBehavior", _items(tree, "stages")
            # A template's stages are the template's.
            deploying = [one for one in listed if one.entry("stage") and _names(one, "connection")]
        case _:
            return
    for one in deploying:
        if one.entry(wanted) is None:
            yield rules.finding(
                "workflow-without-concurrency",
                what="two builds may deploy at the same time.",
                fix=f"Give it `{wanted}`"
                + (": sequential." if system is System.AZURE else " and `concurrency: 1`."),
                at=one.at,
            )


def _deploys_on_buildkite(step: MapNode) -> bool:
    plugins = step.entry("plugins")
    given = plugins.value if plugins is not None else None
    return _names(given, "role-to-assume") and not _says(given, "verb", "plan")


def _items(tree: Node | None, key: str) -> tuple[MapNode, ...]:
    entry = tree.entry(key) if isinstance(tree, MapNode) else None
    items = entry.value.items if entry is not None and isinstance(entry.value, ListNode) else ()
    return tuple(item for item in items if isinstance(item, MapNode))


def _names(node: Node | None, key: str) -> bool:
    """Whether a key stands anywhere below."""
    return any(True for _ in _values(node, key))


def _says(node: Node | None, key: str, value: str) -> bool:
    found = _values(node, key)
    return any(isinstance(one, ScalarNode) and str(one.value) == value for one in found)


def _values(node: Node | None, key: str) -> Iterator[Node]:
    match node:
        case MapNode():
            for entry in node.entries:
                if entry.key == key:
                    yield entry.value
                yield from _values(entry.value, key)
        case ListNode():
            for item in node.items:
                yield from _values(item, key)
