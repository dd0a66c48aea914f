"""The story of every app: deployed, changed and deployed again, deleted; what AWS then holds.

It is told twice, by plain Chalice and by chalice-ci, each in an account of its own that starts
empty, so that the listings after each phase can be compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from chalice_ci.app.pythons import Interpreter
from chalice_ci.local.aws import EmbeddedAWS
from chalice_ci.ownership import DOMAIN_TAG
from support.awsclients import clients_of
from support.awslisting import Listing, list_account
from support.chalicecli import Combination, PlainChalice, Said, kept_folder
from support.shapes import REGION, SHAPES, Shape, apply_change, copy_shape, prepare


class Phase(StrEnum):
    """What happened last."""

    DEPLOY = "deploy"
    UPDATE = "update"
    DELETE = "delete"

    @property
    def verb(self) -> str:
        """The command of both command lines."""
        return "delete" if self is Phase.DELETE else "deploy"


@dataclass(frozen=True, kw_only=True)
class Story:
    """What AWS held after each phase, and what was said where it did not end with 0."""

    before: Listing
    listings: Mapping[Phase, Listing]
    states: Mapping[Phase, Mapping[str, Any]]
    """The recorded state of each app, by its folder."""
    failures: Sequence[str]
    seconds: Mapping[Phase, float]


@dataclass(frozen=True, kw_only=True)
class Stories:
    """The same apps, told by plain Chalice and by chalice-ci."""

    combination: Combination
    plain: Story
    ours: Story


class Teller(Protocol):
    """Takes all shapes below a folder through a phase."""

    def tell(self, phase: Phase, root: Path, shapes: Sequence[Shape]) -> Iterator[tuple[str, Said]]:
        """Run the commands; answers who said what."""

    def state(self, root: Path, app: str) -> Any:
        """The state that is recorded of the app in that folder."""


def shapes_of(combination: Combination) -> tuple[Shape, ...]:
    """The shapes that plain `chalice deploy` of that version accepts, as many as it has to."""
    accepted = tuple(
        shape for shape in SHAPES if shape.deploys and combination.chalice in shape.versions
    )
    return accepted[:: combination.every]


def python_of(combination: Combination, shape: Shape) -> str:
    """The Python on which a shape is deployed: shapes take turns."""
    return combination.pythons[SHAPES.index(shape) % len(combination.pythons)]


def tell(teller: Teller, shapes: Sequence[Shape], aws: EmbeddedAWS, root: Path) -> Story:
    """Take the shapes through all phases in `aws`, which is emptied before."""
    aws.reset()
    clients = clients_of(aws)
    for shape in shapes:
        copy_shape(shape, root / shape.name)
    names = prepare(shapes, root, clients)

    def listing() -> Listing:
        return _without_domain_tags(
            list_account(clients, code=lambda of: _code(aws, of), names=names)
        )

    before = listing()
    listings: dict[Phase, Listing] = {}
    states: dict[Phase, Mapping[str, Any]] = {}
    seconds: dict[Phase, float] = {}
    failures: list[str] = []
    for phase in Phase:
        if phase is Phase.UPDATE:
            for shape in shapes:
                apply_change(shape, root / shape.name)
        started = time.monotonic()
        for who, said in teller.tell(phase, root, shapes):
            if said.code != 0:
                failures.append(f"{phase} {who}: exit code {said.code}\n{said.text}")
        seconds[phase] = time.monotonic() - started
        listings[phase] = listing()
        states[phase] = {
            app: listings[phase].named(teller.state(root, app)) for app in _folders(shapes)
        }
    return Story(
        before=before, listings=listings, states=states, failures=failures, seconds=seconds
    )


def _without_domain_tags(listing: Listing) -> Listing:
    """A listing without the one thing that ours adds: the tag that tells whose a domain is."""

    def without(document: Any) -> Any:
        if not isinstance(document, Mapping):
            return document
        parts = {k: without(part) for k, part in document.items() if k != DOMAIN_TAG}
        return {k: part for k, part in parts.items() if part or k not in ("tags", "Tags")}

    found = listing.resources.items()
    return replace(
        listing,
        resources={
            name: without(one) if name.startswith("domain ") else one for name, one in found
        },
    )


def _folders(shapes: Iterable[Shape]) -> Iterator[str]:
    for shape in shapes:
        yield from (shape.name if app == "." else f"{shape.name}/{app}" for app in shape.apps)


@dataclass(frozen=True, kw_only=True)
class ByPlainChalice:
    """Chalice's own command line, app by app."""

    chalice: Callable[[Shape], PlainChalice]

    def tell(self, phase: Phase, root: Path, shapes: Sequence[Shape]) -> Iterator[tuple[str, Said]]:
        for shape in shapes:
            for folder in _folders([shape]):
                ran = self.chalice(shape).run(root / folder, [phase.verb, "--stage", "dev"])
                yield folder, ran

    def state(self, root: Path, app: str) -> Any:
        return json.loads((root / app / STATE).read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class ByChaliceCi:
    """chalice-ci on one repository that holds all shapes: one command for each phase."""

    combination: Combination
    environ: Mapping[str, str]
    """Its PATH leads to the combination's Pythons."""

    def tell(self, phase: Phase, root: Path, shapes: Sequence[Shape]) -> Iterator[tuple[str, Said]]:
        if phase is Phase.DEPLOY:
            file = root / "chalice-ci.yml"
            file.write_text(configuration(shapes, self.combination), encoding="utf-8")
            git(root, "init", "--quiet", "--initial-branch=main")
        if phase is not Phase.DELETE:
            git(root, "add", "--all")
            git(root, "commit", "--quiet", "--message", phase)
        arguments = [phase.verb, "--quiet", "--stage=dev", f"--out={root}-out"]
        arguments.append(f"--cache-dir={kept_folder()}/cache")
        if phase is Phase.UPDATE:
            # Some changes rename a function or take one away, which plain Chalice does unasked.
            arguments.append("--allow-destructive")
        yield "chalice-ci", chalice_ci(arguments, cwd=root, environ=self.environ)

    def state(self, root: Path, app: str) -> Any:
        return json.loads(git(root, "show", f"chalice-state:{app}/{STATE}"))


STATE = ".chalice/deployed/dev.json"


def app_key(shape: Shape, app: str) -> str:
    """What the repository's chalice-ci.yml calls an app of the shape."""
    return "-".join(part for part in (shape.name, *Path(app).parts)).replace("_", "-")


def configuration(shapes: Iterable[Shape], combination: Combination | None = None) -> str:
    """The chalice-ci.yml of a repository with all these shapes."""
    lines = ["version: 1", "apps:"]
    for shape in shapes:
        versions = ""
        if combination:
            python = python_of(combination, shape)
            versions = f', python: "{python}", chalice: "{combination.chalice}"'
        for app in shape.apps:
            path = shape.name if app == "." else f"{shape.name}/{app}"
            lines.append(f"  {app_key(shape, app)}: {{path: {path}{versions}}}")
    return "\n".join([*lines, ""])


def make_repository(
    root: Path, shapes: Iterable[Shape], combination: Combination | None = None
) -> Path:
    """A repository with a copy of each shape and the configuration, committed."""
    shapes = tuple(shapes)
    for shape in shapes:
        copy_shape(shape, root / shape.name)
    (root / "chalice-ci.yml").write_text(configuration(shapes, combination), encoding="utf-8")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "All shapes")
    return root


def chalice_ci(
    arguments: Sequence[str], *, cwd: Path, environ: Mapping[str, str], seconds: int = 900
) -> Said:
    """Run the command in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "chalice_ci", *arguments],
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    return Said(code=ran.returncode, text=ran.stdout.decode("utf-8", "replace"))


def git(root: Path, *arguments: str) -> str:
    """Run git in `root`, untouched by anybody's settings; its output."""
    return subprocess.run(
        ["git", "-c", "user.name=Test", "-c", "user.email=test@example.invalid", *arguments],
        cwd=root,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        },
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    ).stdout


def tool_environ(
    home: Path, aws: EmbeddedAWS | None = None, *, pythons: Iterable[Interpreter] = ()
) -> dict[str, str]:
    """The environment of both command lines: an empty home, the machine's index, this AWS."""
    home.mkdir(parents=True, exist_ok=True)
    index = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "UV_", "SSL_CERT_")) or name.lower().endswith("_proxy")
    }
    return {
        **index,
        **(aws.environ if aws else {}),
        "HOME": str(home),
        "PATH": os.pathsep.join(
            [
                *(str(python.executable.parent) for python in pythons),
                os.environ.get("PATH", os.defpath),
            ]
        ),
        "LANG": "C.UTF-8",
    }


def _code(aws: EmbeddedAWS, of: str) -> bytes:
    path = f"layers/{of}" if of.startswith("arn:") else f"functions/{REGION}/{of}/code"
    address = f"{aws.endpoint_url}/chalice-ci/{urllib.parse.quote(path)}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=60) as answer:
        content: bytes = answer.read()
    return content
