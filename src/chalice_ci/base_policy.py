"""What a pull request may do is said by the commit that it would be merged into.

Its own chalice-ci.yml is read and checked like any other, but what may be deployed, which features
are allowed, where the state is and who has to approve comes from the base: a pull request cannot
widen its own rights. Narrower it can be: what both allow is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from chalice_ci.checkout import GitReader, base_commit, file_of
from chalice_ci.config import (
    FILE_NAME,
    AppConfig,
    ConfigError,
    ProjectConfig,
    StageConfig,
    read_committed_config,
)
from chalice_ci.context import PullRequest
from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.findings import Place

_ALLOW = "experimental.allow"


class Files(Protocol):
    """The files of a repository as the forge has them."""

    def file(self, path: str, *, branch: str, commit: str) -> str | None:
        """A file of a branch now, of the commit when the branch is gone; None without such a file.

        Raises ForgeError.
        """


class Branches(Protocol):
    """The branches of a repository as the forge has them."""

    def changed_since(self, branch: str, commit: str) -> tuple[str, ...] | None:
        """The files in which a branch differs from a commit; None when there is no such branch.

        Raises ForgeError.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Governed:
    """The configuration that holds; `notes` say what of the pull request's own does not yet."""

    config: ProjectConfig
    notes: tuple[str, ...] = ()


def read_base(
    own: ProjectConfig, pull: PullRequest, *, files: Files | None, git: GitReader | None
) -> ProjectConfig:
    """The configuration of the base: from the forge, else from the objects that were fetched.

    Raises ForgeError or UsageError when neither has it, ConfigError when it is wrong.
    """
    path = own.file or FILE_NAME
    text = _text(path, pull, files=files, git=git)
    try:
        return read_committed_config(text, f"{pull.base_branch}:{path}")
    except ConfigError as error:
        error.fix = (
            f"Mend it on {pull.base_branch} first: that file decides what this pull request may do."
        )
        raise


def _text(
    path: str, pull: PullRequest, *, files: Files | None, git: GitReader | None
) -> str | None:
    refused: ForgeError | None = None
    if files is not None:
        try:
            return files.file(path, branch=pull.base_branch, commit=pull.base_sha)
        except ForgeError as error:
            refused = error
    if git is not None:
        commit = base_commit(git, head=pull.head_sha, base=pull.base_sha, branch=pull.base_branch)
        if commit is not None:
            return file_of(git, commit, path)
    if refused is not None:
        raise refused
    what = f"commit {pull.base_sha[:12]}" if pull.base_sha else f"branch {pull.base_branch}"
    raise UsageError(
        f"what this pull request may do is decided by {path} of {pull.base_branch}, and that can't "
        f"be read: the {what} was not fetched, and there is no token.",
        where=f"{pull.base_branch}:{path}",
        fix="Give the action its `github-token` (`permissions: contents: read`), or check out with "
        "`fetch-depth: 0`; elsewhere let the job fetch that branch: "
        f"`git fetch origin {pull.base_branch}:refs/remotes/origin/{pull.base_branch}`.",
    )


def governed(
    own: ProjectConfig, base: ProjectConfig, *, branch: str, known: Collection[str]
) -> Governed:
    """The pull request's configuration within the rights that the base gives.

    `known` are the stages of the pull request's config.json files: a stage that it took out of
    chalice-ci.yml alone stays bound by what the base says of it.
    """
    allow, allow_at = _allowed(own, base)
    stages = tuple(_stages(own, base, known))
    places = {
        **{key: at for key, at in own.places.items() if not _decided(key, base)},
        **{key: at for key, at in base.places.items() if _decided(key, base)},
    }
    places.pop(_ALLOW, None)
    if allow_at is not None:
        places[_ALLOW] = allow_at
    config = replace(
        own,
        apps=tuple(_app(app, base) for app in own.apps),
        stages=stages,
        preview=base.preview,
        experimental_allow=allow,
        state=base.state,
        package=base.package,
        places=places,
    )
    changed = tuple(_changed(own, base, config))
    if not changed:
        return Governed(config=config)
    named = ", ".join(f"`{key}`" for key in changed[:8]) + (" and more" if changed[8:] else "")
    note = (
        f"The pull request changes {named} in {own.file or FILE_NAME}. What it may do is decided "
        f"by {branch}, so this holds once it is merged."
    )
    return Governed(config=config, notes=(note,))


def _decided(key: str, base: ProjectConfig) -> bool:
    """Whether a dotted path of the file is one that the base decides."""
    head, _, rest = key.partition(".")
    if head == "stages":
        name = rest.partition(".")[0]
        return any(stage.name == name for stage in base.stages)
    return head in ("preview", "experimental", "state", "package")


def _app(app: AppConfig, base: ProjectConfig) -> AppConfig:
    """The app; its code may reach the network while it is loaded if the base lets it, and what
    deploys it is what deploys it there.
    """
    decided = {known.name: known for known in base.apps}.get(app.name)
    if decided is None:
        return replace(app, network=False, deploy_on=())
    return replace(app, network=app.network and decided.network, deploy_on=decided.deploy_on)


def _stages(
    own: ProjectConfig, base: ProjectConfig, known: Collection[str]
) -> Iterator[StageConfig]:
    decided = {stage.name: stage for stage in base.stages}
    named = {stage.name for stage in own.stages}
    for stage in own.stages:
        # A new stage: nobody allowed it anything of its own yet.
        yield decided.get(stage.name) or _new(stage)
    for stage in base.stages:
        if stage.name not in named and stage.name in known:
            yield stage


def _new(stage: StageConfig) -> StageConfig:
    """A stage that only the pull request knows: it deploys nowhere, and sees no secret."""
    blind = tuple((name, replace(ref, at_load=False)) for name, ref in stage.environment_variables)
    return replace(
        stage,
        deploy_on=None,
        allow_experimental=None,
        allow_destructive=None,
        allow_widened_iam=None,
        environment_variables=blind,
        role=None,
    )


def _allowed(own: ProjectConfig, base: ProjectConfig) -> tuple[tuple[str, ...], Place | None]:
    """What both allow, and where the narrower of them says so; no list leaves it to the opt-in."""
    mine, theirs = _list(own), _list(base)
    if theirs is None:
        return own.experimental_allow, own.places.get(_ALLOW)
    if mine is None:
        return theirs, base.places.get(_ALLOW)
    both = tuple(name for name in theirs if name in mine)
    narrower = own if len(both) < len(theirs) else base
    return both, narrower.places.get(_ALLOW)


def _list(config: ProjectConfig) -> tuple[str, ...] | None:
    stands = _ALLOW in config.places or bool(config.experimental_allow)
    return config.experimental_allow if stands else None


def _changed(own: ProjectConfig, base: ProjectConfig, held: ProjectConfig) -> Iterator[str]:
    """The keys whose own value is another than the one that holds."""
    values: Mapping[str, StageConfig] = {stage.name: stage for stage in held.stages}
    for stage in own.stages:
        if values[stage.name] != stage:
            yield f"stages.{stage.name}"
    named = {stage.name for stage in own.stages}
    for stage in base.stages:
        if stage.name not in named:
            yield f"stages.{stage.name}"
    if own.preview != held.preview:
        yield "preview"
    mine, kept = _list(own), _list(held)
    if kept is not None and (mine is None or set(mine) - set(kept)):
        yield _ALLOW
    if own.state != held.state:
        yield "state"
    if own.package != held.package:
        yield "package"
    for app, bound in zip(own.apps, held.apps, strict=True):
        if app.network != bound.network:
            yield f"apps.{app.name}.load"
        if app.deploy_on != bound.deploy_on:
            yield f"apps.{app.name}.deploy-on"
